/**
 * status.h - how a failure is raised inside the library.
 *
 *     if (bad) return vlci_fail(VLCACHE_E_FORMAT, "%s: field \"%s\" is %d, must be at least 1", file, field,
 * v);
 */
#ifndef VLCI_CORE_STATUS_H
#define VLCI_CORE_STATUS_H

#include "vlcache/status.h"

/** Records the cause for vlcache_error_message() and returns `status`. The text is bounded (2,047 bytes). */
vlcache_status vlci_fail(vlcache_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Puts a context in front of the recorded cause ("model: ..."), keeps the status. */
vlcache_status vlci_fail_context(vlcache_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
