/*
 * status.c - the thread's last failure in words, and the names of the status codes.
 */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };
static _Thread_local char message[MESSAGE_BYTES];

vlcache_status vlci_fail(vlcache_status status, const char *format, ...) {
    char text[MESSAGE_BYTES]; /* the arguments may point into `message` */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return status;
}

vlcache_status vlci_fail_context(vlcache_status status, const char *format, ...) {
    char context[MESSAGE_BYTES], cause[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(cause, message, sizeof cause);
    return vlci_fail(status, "%s: %s", context, cause);
}

const char *vlcache_error_message(void) {
    return message;
}

const char *vlcache_status_name(vlcache_status status) {
    switch (status) {
#define STATUS_NAME(name, value, text)                                                                       \
    case VLCACHE_##name:                                                                                     \
        return "VLCACHE_" #name;
        VLCACHE_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "VLCACHE_E_?";
}

const char *vlcache_status_text(vlcache_status status) {
    switch (status) {
#define STATUS_TEXT(name, value, text)                                                                       \
    case VLCACHE_##name:                                                                                     \
        return text;
        VLCACHE_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}
