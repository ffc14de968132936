/**
 * cache.h (internal) - the KV cache of a batch of sequences. How many rows each (layer, sequence, kv head)
 * holds is one thing, the logical position of the next token another: compaction changes the first, never the
 * second.
 */
#ifndef VLCI_KV_CACHE_H
#define VLCI_KV_CACHE_H

#include "device/device.h"

/** One layer: K and V [batch][kv_heads][capacity][head_dim] in the model's dtype. */
typedef struct vlci_kv_layer {
    cl_mem k, v;
    cl_mem bias;  /**< f32 [batch][kv_heads][capacity], added to the logits of each row; NULL: nothing is */
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
    uint64_t bytes, peak; /**< of K, V and biases on the device: now, and most since vlci_kv_watch() */
} vlci_kv;

/** An empty cache of the shape that `out` has: device, layers, batch, kv_heads, head_dim, dtype. Errors:
 * VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_kv_create(vlci_kv *out);

/**
 * Makes room for `rows` more rows in every layer; what is there is kept. A layer that grows anew gets some
 * spare rows, so that decode seldom allocates. On failure every layer is as it was or grown. Errors:
 * VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_kv_reserve(vlci_kv *kv, int rows);

/** Another cache of the same shape and the same next positions, without rows. Errors: VLCACHE_E_NO_MEMORY,
 * the device's. */
vlcache_status vlci_kv_fork(const vlci_kv *kv, vlci_kv *out);

/** Buffers of one layer for `capacity` rows, counted in kv->bytes; with biases, all zero, where asked for.
 * Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_kv_layer_create(vlci_kv *kv, int capacity, bool bias, vlci_kv_layer *out);

/** Releases a layer's buffers and zeroes it. */
void vlci_kv_layer_release(vlci_kv *kv, vlci_kv_layer *layer);

/** Begins a new peak at what is held now. */
void vlci_kv_watch(vlci_kv *kv);

/** Tells the device the lengths as they stand. */
vlcache_status vlci_kv_sync(vlci_kv *kv);

/** Counts rows that were appended to every layer and head: rows[batch]. */
void vlci_kv_advance(vlci_kv *kv, const int *rows);

/** Forgets all rows and releases their memory. */
void vlci_kv_clear(vlci_kv *kv);

void vlci_kv_release(vlci_kv *kv);

#endif
