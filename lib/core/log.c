/*
 * log.c - the log callback, and the small names that belong to no other room.
 */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
    vlcache_log_fn fn;
    void *user;
} sink;

void vlcache_set_log(vlcache_log_fn fn, void *user) {
    sink.fn = fn;
    sink.user = user;
}

void vlci_log(vlcache_log_level level, const char *format, ...) {
    if (!sink.fn) return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sink.fn(sink.user, level, line);
}

const char *vlcache_version(void) {
    return VLCACHE_VERSION;
}

const char *vlcache_dtype_name(vlcache_dtype dtype) {
    switch (dtype) {
    case VLCACHE_DTYPE_AUTO:
        return "auto";
    case VLCACHE_DTYPE_F32:
        return "f32";
    case VLCACHE_DTYPE_F16:
        return "f16";
    case VLCACHE_DTYPE_BF16:
        return "bf16";
    }
    return "?";
}
