/**
 * rope.h (internal) - rotary positions: the phases of rows, and rotating new rows into the cache or, of a
 * tower that has none, in place.
 */
#ifndef VLCI_COMPUTE_ROPE_H
#define VLCI_COMPUTE_ROPE_H

#include "kv/view.h"

typedef struct vlci_rope_kernels {
    vlcache_device *device;
    const vlci_kernel *phase, *append, *turn;
    const vlci_kernel *append4, *turn4; /**< by 4 neighbours; NULL on processors, whose items are vectors */
} vlci_rope_kernels;

/** For a cache of one dtype. Errors: those of vlci_kernel_get(). */
vlcache_status vlci_rope_open(vlcache_device *device, vlcache_dtype kv_dtype, vlci_rope_kernels *out);

/** Enqueues phase [rows][head_dim]: cosines, then sines of row_position[r][axis[d]] * inv_freq[d], d <
 * head_dim / 2, all times `scale`; row_position: int[rows][3]. Errors: the device's. */
vlcache_status vlci_rope_phase(const vlci_rope_kernels *kernels, cl_mem inv_freq, cl_mem axis,
                               cl_mem row_position, cl_mem phase, int rows, int head_dim, float scale);

/** Enqueues: rotates, in each of `rows` rows that are `stride` elements apart, the first `heads` heads of x
 * (f32) by the row's phase. Errors: VLCACHE_E_UNSUPPORTED (stride), the device's. */
vlcache_status vlci_rope_turn(const vlci_rope_kernels *kernels, cl_mem x, size_t stride, cl_mem phase,
                              int rows, int heads, int head_dim);

/** Where new rows go, and who the rows are. */
typedef struct vlci_append {
    int rows, heads, kv_heads, head_dim;
    cl_mem qkv;          /**< f32 [rows][(heads + 2 kv_heads) * head_dim]; its q part is rotated in place */
    cl_mem phase;        /**< f32 [..][head_dim], of vlci_rope_phase(); NULL: nothing is turned */
    int phase_row;       /**< of phase that belongs to row 0 */
    cl_mem row_sequence; /**< int [rows] */
    cl_mem seq_start;    /**< int [batch + 1] */
    vlci_kv_view kv;     /**< of the layer */
} vlci_append;

enum { VLCI_ROPE_ARGS = 6 + VLCI_KV_ARGS };

/** The arguments, in the order of ROPE_PARAMS of cl/rope.clh. Errors: those of vlci_kv_args(). */
vlcache_status vlci_rope_args(const vlci_append *a, vlci_arg out[VLCI_ROPE_ARGS]);

/** Enqueues: rotates q and k, and appends k and v to the cache. Errors: VLCACHE_E_UNSUPPORTED (strides), the
 * device's. */
vlcache_status vlci_rope_append(const vlci_rope_kernels *kernels, const vlci_append *a);

#endif
