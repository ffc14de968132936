/**
 * store.h (internal) - rows that a sequence has in the host's memory, as its cache had them: every row of
 * every head, whatever of it the device still keeps. A list of stretches, the last one first; stretches never
 * change, and are shared by forks and marks.
 */
#ifndef VLCI_KV_STORE_H
#define VLCI_KV_STORE_H

#include "kv/pool.h"

typedef struct vlci_store {
    int references;
    struct vlci_store *before; /**< earlier rows; one reference is this one's */
    int layers, kv_heads;
    size_t row_bytes;
    int rows, all;       /**< of this stretch; with those before */
    unsigned char *data; /**< [layers][keys, values][kv_heads][rows] rows of row_bytes */
} vlci_store;

/** Room for `rows` more rows of every head behind `before` (NULL: none), of which it takes a reference.
 * Errors: VLCACHE_E_NO_MEMORY (how many bytes, and what to do). */
vlcache_status vlci_store_create(const vlci_kv_shape *shape, int rows, vlci_store *before, vlci_store **out);

/** Where a layer's rows stand, and how many bytes they are. */
unsigned char *vlci_store_layer(const vlci_store *store, int layer);
size_t vlci_store_layer_bytes(const vlci_store *store);

/** Bytes of a layer's rows of all stretches. */
size_t vlci_store_gathered_bytes(const vlci_store *store);

/** Copies a layer's rows of all stretches to `to`, [keys, values][kv_heads][store->all] rows: one of these
 * planes, by its number, for any thread. */
size_t vlci_store_planes(const vlci_store *store);
void vlci_store_gather(const vlci_store *store, int layer, size_t plane, unsigned char *to);

/** Rows that there are; of NULL 0. */
static inline int vlci_store_rows(const vlci_store *store) {
    return store ? store->all : 0;
}

/** Bytes of the rows of all stretches; of NULL 0. */
uint64_t vlci_store_bytes(const vlci_store *store);

/** One more owner; NULL accepted, and given back. */
vlci_store *vlci_store_retain(vlci_store *store);

/** Gives up a reference, NULLs; NULL accepted. */
void vlci_store_release(vlci_store **store);

#endif
