/*
 * status.c - the thread's last failure, in words and taken apart, and the names of the status codes.
 */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048, FILE_BYTES = 4096, FIELD_BYTES = 256, HINT_BYTES = 1024 };

typedef struct texts {
    char message[MESSAGE_BYTES], file[FILE_BYTES], field[FIELD_BYTES], value[VLCI_VALUE_BYTES],
        hint[HINT_BYTES];
} texts;

static _Thread_local texts last;
static _Thread_local vlcache_error error;

const vlcache_error *vlcache_last_error(void) {
    error.size = sizeof error;
    error.message = last.message;
    error.file = last.file;
    error.field = last.field;
    error.value = last.value;
    error.hint = last.hint;
    return &error;
}

const char *vlcache_error_message(void) {
    return last.message;
}

static void put(char *to, size_t room, const char *text) {
    snprintf(to, room, "%s", text ? text : "");
}

/* Whatever is given may point into `last`: it is written beside it first. */
static vlcache_status record(vlcache_status status, const char *file, const char *field, const char *value,
                             const char *hint, const char *format, va_list args) {
    texts next;
    vsnprintf(next.message, sizeof next.message, format, args);
    put(next.file, sizeof next.file, file);
    put(next.field, sizeof next.field, field);
    put(next.value, sizeof next.value, value);
    put(next.hint, sizeof next.hint, hint);
    memcpy(&last, &next, sizeof last);
    error.status = status;
    return status;
}

vlcache_status vlci_fail(vlcache_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    record(status, NULL, NULL, NULL, NULL, format, args);
    va_end(args);
    return status;
}

vlcache_status vlci_fail_field(vlcache_status status, const char *file, const char *field, const char *value,
                               const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    record(status, file, field, value, hint, format, args);
    va_end(args);
    return status;
}

const char *vlci_value(char text[VLCI_VALUE_BYTES], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, VLCI_VALUE_BYTES, format, args);
    va_end(args);
    return text;
}

/* "compress.budget" -> "compress: budget", which is how people are told of an option. */
static void spell(const char *file, const char *field, char text[FIELD_BYTES + 1]) {
    const char *dot = !file && field ? strchr(field, '.') : NULL;
    int before = dot ? (int)(dot - field) : 0;
    if (dot)
        snprintf(text, FIELD_BYTES + 1, "%.*s: %s", before, field, dot + 1);
    else
        snprintf(text, FIELD_BYTES + 1, "%s", field ? field : "");
}

/* `said`: the value as the message has it. */
static vlcache_status refuse(vlcache_status status, const char *file, const char *field, const char *value,
                             const char *said, const char *hint, va_list args) {
    char advice[HINT_BYTES], name[FIELD_BYTES + 1];
    vsnprintf(advice, sizeof advice, hint, args);
    spell(file, field, name);
    return vlci_fail_field(status, file, field, value, advice, "%s%s%s%s%s%s%s%s", file ? file : "",
                           file ? ": " : "", name, *name ? ": " : "", value ? "is " : "", value ? said : "",
                           value ? ", " : "", advice);
}

vlcache_status vlci_refuse(vlcache_status status, const char *file, const char *field, const char *value,
                           const char *hint, ...) {
    va_list args;
    va_start(args, hint);
    refuse(status, file, field, value, value, hint, args);
    va_end(args);
    return status;
}

vlcache_status vlci_refuse_text(vlcache_status status, const char *file, const char *field, const char *value,
                                const char *hint, ...) {
    va_list args;
    va_start(args, hint);
    refuse(status, file, field, value, VLCI_VALUE("\"%.64s\"", value ? value : ""), hint, args);
    va_end(args);
    return status;
}

vlcache_status vlci_fail_file(vlcache_status status, const char *file, const char *hint, const char *format,
                              ...) {
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return vlci_fail_field(status, file, NULL, NULL, hint, "%s: %s%s%s", file, text, hint ? ": " : "",
                           hint ? hint : "");
}

vlcache_status vlci_fail_in(vlcache_status status, const char *file) {
    bool contents = status == VLCACHE_E_IO || status == VLCACHE_E_FORMAT || status == VLCACHE_E_UNSUPPORTED;
    if (contents && !*last.file) put(last.file, sizeof last.file, file);
    return status;
}

vlcache_status vlci_fail_context(vlcache_status status, const char *format, ...) {
    char context[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    return vlci_fail_field(status, last.file, last.field, last.value, last.hint, "%s: %s", context,
                           last.message);
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
