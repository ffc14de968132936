/**
 * kv.h (internal) - the KV cache of a batch of sequences. How many rows each (layer, sequence, kv head) holds
 * is one thing, the logical position of the next token another: compaction changes the first, never the
 * second.
 */
#ifndef VLCI_KV_H
#define VLCI_KV_H

#include "model.h"

/** One layer: K and V [batch][kv_heads][capacity][head_dim] in the model's dtype. */
typedef struct vlci_kv_layer {
    cl_mem k, v;
    int capacity; /**< rows */
} vlci_kv_layer;

typedef struct vlci_kv {
    vlcache_device *device;
    int layers, batch, kv_heads, head_dim;
    vlcache_dtype dtype;
    vlci_kv_layer *layer; /**< [layers], owned */
    int32_t *length;      /**< physical rows [layers][batch][kv_heads], owned */
    cl_mem past;          /**< the same on the device, one buffer */
    int32_t *position;    /**< next logical position of each sequence [batch], owned */
} vlci_kv;

/** An empty cache. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_kv_create(const vlcache_model *model, int batch, vlci_kv *out);

/** Makes room for `rows` more rows in every layer; what is there is kept. Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_kv_reserve(vlci_kv *kv, int rows);

/** Tells the device the lengths as they stand. */
vlcache_status vlci_kv_sync(vlci_kv *kv);

/** Counts rows that were appended to every layer and head: rows[batch]. */
void vlci_kv_advance(vlci_kv *kv, const int *rows);

/** Forgets all rows and releases their memory. */
void vlci_kv_clear(vlci_kv *kv);

/** Bytes of K and V on the device. */
uint64_t vlci_kv_bytes(const vlci_kv *kv);

void vlci_kv_release(vlci_kv *kv);

#endif
