/**
 * rope.h (internal) - rotary positions: the phases of rows, and rotating new rows into the cache.
 */
#ifndef VLCI_COMPUTE_ROPE_H
#define VLCI_COMPUTE_ROPE_H

#include "device/device.h"

typedef struct vlci_rope_kernels {
    vlcache_device *device;
    const vlci_kernel *phase;
} vlci_rope_kernels;

/** Errors: those of vlci_kernel_get(). */
vlcache_status vlci_rope_open(vlcache_device *device, vlci_rope_kernels *out);

/** Enqueues phase [rows][head_dim]: cosines, then sines of row_position[r] * inv_freq[d], d < head_dim / 2.
 * Errors: the device's. */
vlcache_status vlci_rope_phase(const vlci_rope_kernels *kernels, cl_mem inv_freq, cl_mem row_position,
                               cl_mem phase, int rows, int head_dim);

/** Where new rows go: the KV cache of one layer, and who the rows are. Strides in elements, see attention.h.
 */
typedef struct vlci_append {
    int rows, heads, kv_heads, head_dim;
    vlcache_dtype kv_dtype;
    size_t seq_stride, head_stride, row_stride;
    cl_mem qkv;          /**< f32 [rows][(heads + 2 kv_heads) * head_dim]; its q part is rotated in place */
    cl_mem phase;        /**< f32 [rows][head_dim], of vlci_rope_phase() */
    cl_mem row_sequence; /**< int [rows] */
    cl_mem seq_start;    /**< int [batch + 1] */
    cl_mem past;         /**< int [batch * kv_heads]: rows that are there already */
    int past_offset;     /**< first element of `past` */
    cl_mem k, v;
} vlci_append;

/** Rotates q and k and appends k and v to the cache. */
vlcache_status vlci_rope_append(vlcache_device *device, const vlci_append *a);

#endif
