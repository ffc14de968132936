/**
 * status.h - how a failure is raised inside the library.
 *
 *     if (bad) return vlci_refuse(VLCACHE_E_FORMAT, file, "hidden_size", VLCI_VALUE("%d", v),
 *                                 "must be from %d to %d", low, high);
 *     if (bad) return vlci_fail(VLCACHE_E_DEVICE, "%s: %s", kernel, vlci_cl_error(code));
 */
#ifndef VLCI_CORE_STATUS_H
#define VLCI_CORE_STATUS_H

#include <errno.h>

#include "vlcache/status.h"

/** Records the cause for vlcache_error_message() and returns `status`. The text is bounded (2,047 bytes). */
vlcache_status vlci_fail(vlcache_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** The same with what vlcache_last_error() has beside the message; NULL: not known. All may lie in the error
 * before. */
vlcache_status vlci_fail_field(vlcache_status status, const char *file, const char *field, const char *value,
                               const char *hint, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/**
 * The usual message of such a failure, "file: field: is value, hint", of which any but the hint may be NULL.
 * In messages an option "compress.budget", which has no file, is "compress: budget". `hint` is a format.
 */
vlcache_status vlci_refuse(vlcache_status status, const char *file, const char *field, const char *value,
                           const char *hint, ...) __attribute__((format(printf, 5, 6)));

/** The same with a value that is a text: quoted in the message, and cut there after 64 bytes. */
vlcache_status vlci_refuse_text(vlcache_status status, const char *file, const char *field, const char *value,
                                const char *hint, ...) __attribute__((format(printf, 5, 6)));

/** A failure of a file as a whole, "file: text: hint"; `hint` NULL: none is known. */
vlcache_status vlci_fail_file(vlcache_status status, const char *file, const char *hint, const char *text,
                              ...) __attribute__((format(printf, 4, 5)));

/** Names the file of a failure of its contents (VLCACHE_E_IO, _FORMAT, _UNSUPPORTED) that has none yet; other
 * failures, success among them, and the message stay as they are. Returns `status`. */
vlcache_status vlci_fail_in(vlcache_status status, const char *file);

/** What the errno of a file's failure means: lack of memory is no fault of the file. */
static inline vlcache_status vlci_errno_status(int number) {
    return number == ENOMEM ? VLCACHE_E_NO_MEMORY : VLCACHE_E_IO;
}

/** A value as text, for those above: VLCI_VALUE("%d", n). It lives as long as the block around it. */
enum { VLCI_VALUE_BYTES = 256 };
#define VLCI_VALUE(...) vlci_value((char[VLCI_VALUE_BYTES]){0}, __VA_ARGS__)
const char *vlci_value(char text[VLCI_VALUE_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Puts a context in front of the recorded cause ("model: ..."), keeps the fields, returns `status`. */
vlcache_status vlci_fail_context(vlcache_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
