/**
 * options.h - option structs of callers that were compiled against an older or a newer vlcache.
 *
 * Such a struct begins with its size, and grows at its end only. What keeps that true: a field that is added
 * begins at or behind the old sizeof (none of these structs ends in padding, so that it cannot hide there),
 * and 0 is its default.
 */
#ifndef VLCI_CORE_OPTIONS_H
#define VLCI_CORE_OPTIONS_H

#include "core/status.h"

/** A kind of options, as this library knows it. */
typedef struct vlci_options {
    const char *what;     /**< "session": names the fields in errors */
    const char *start;    /**< "VLCACHE_SESSION_OPTIONS_INIT" */
    size_t size;          /**< of the struct here */
    size_t least;         /**< that a caller's must have */
    const void *defaults; /**< what INIT says */
} vlci_options;

/**
 * Brings a caller's struct to the shape that this library knows: what is not in it has its default, what it
 * has beyond must be zero bytes. NULL `from`: all defaults. `to` has `kind->size` bytes, and that as its
 * size. Errors: VLCACHE_E_ARGUMENT (field "what.size").
 */
vlcache_status vlci_options_take(const vlci_options *kind, const void *from, void *to);

/** Stands once for each kind: `last` is its last field, with no padding behind it. */
#define VLCI_OPTIONS_END(type, last)                                                                         \
    _Static_assert(offsetof(type, last) + sizeof(((type *)0)->last) == sizeof(type),                         \
                   "padding at the end would hide the first field of the next version")

/** vlci_options_take() of a type whose required fields stand before `first`, into `to`, a pointer to it. */
#define VLCI_OPTIONS_TAKE(what, type, first, INIT, from, to)                                                 \
    vlci_options_take(&(const vlci_options){(what), #INIT, sizeof(type), offsetof(type, first),              \
                                            &(const type)INIT},                                              \
                      (from), (to))

#endif
