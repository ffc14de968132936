/**
 * alloc.h - the library's host memory; tests replace it through vlcache_set_allocator() to make it fail.
 */
#ifndef VLCI_CORE_ALLOC_H
#define VLCI_CORE_ALLOC_H

#include <stddef.h>

#include "core/status.h"

/** Uninitialised block of `count` elements of `bytes` each, NULL when out of memory or when the product
 * wraps. */
void *vlci_alloc(size_t count, size_t bytes);

/** As vlci_alloc(), zeroed. */
void *vlci_calloc(size_t count, size_t bytes);

/** Grows or shrinks `block` (NULL allocates); NULL leaves `block` as it was. */
void *vlci_realloc(void *block, size_t count, size_t bytes);

/** Copy of a string, NULL when out of memory or `text` is NULL. */
char *vlci_strdup(const char *text);

/** Formatted string in new memory, NULL when out of memory. */
char *vlci_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Frees; NULL is accepted. */
void vlci_free(void *block);

/** The failure to return where one of the above gave NULL. `what` names the thing: "tokenizer vocabulary". */
vlcache_status vlci_fail_memory(const char *what);

#endif
