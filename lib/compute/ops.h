/**
 * ops.h (internal) - the small kernels between the matrix products. All enqueue and return; activations are
 * f32, rows of all sequences stand one after another. Errors: those of vlci_kernel_get() and vlci_launch().
 */
#ifndef VLCI_COMPUTE_OPS_H
#define VLCI_COMPUTE_OPS_H

#include "compute/linear.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_norm_ladder;

typedef struct vlci_norm {
    cl_mem weight, bias; /**< f32; bias NULL for RMSNorm */
} vlci_norm;

/**
 * The kernel `name` of a file that is built with LANES work-items a row: the rung of `ladder`, whose rungs
 * are numbers of them (vlci_lane_rungs), or as many as the kernel can have at most on this device.
 */
vlcache_status vlci_kernel_lanes(vlcache_device *device, const char *file, const char *name,
                                 const vlci_ladder *ladder, const vlci_kernel **kernel, size_t *lanes);

/** y = RMSNorm(x), or LayerNorm(x) where the norm has a bias; [rows][n]. y may be x. */
vlcache_status vlci_norm_rows(vlcache_device *device, cl_mem x, const vlci_norm *norm, cl_mem y, int rows,
                              int n, float eps);

/** y[r][i] = act(x[r][i]) * x[r][n + i]; x [rows][2n], y [rows][n]. */
vlcache_status vlci_gated_act(vlcache_device *device, cl_mem x, cl_mem y, int rows, int n,
                              vlci_activation act);

/** y[r] = the table's row ids[r], or features[-1 - ids[r]] for negative ids; y [rows][table->k]. */
vlcache_status vlci_embed_rows(vlcache_device *device, const vlci_matrix *table, cl_mem features, cl_mem ids,
                               cl_mem y, int rows);

/** y[r] = x[source[r]], or `other` [n] for negative sources. */
vlcache_status vlci_gather_rows(vlcache_device *device, cl_mem x, cl_mem other, cl_mem source, cl_mem y,
                                int rows, int n);

/** pixels [tiles][3][side][side] to rows [tiles * (side / patch)^2][3 * patch^2]. */
vlcache_status vlci_patchify(vlcache_device *device, cl_mem pixels, cl_mem rows, int tiles, int side,
                             int patch);

/** y [tiles][1 + per_tile][hidden]: class embedding and patch rows, plus position embedding. */
vlcache_status vlci_assemble(vlcache_device *device, cl_mem patches, cl_mem class_embedding, cl_mem position,
                             cl_mem y, int tiles, int per_tile, int hidden);

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

/** phase [rows][head_dim]: cosines, then sines of row_position[r] * inv_freq[d], d < head_dim / 2. */
vlcache_status vlci_rope_phase(vlcache_device *device, cl_mem inv_freq, cl_mem row_position, cl_mem phase,
                               int rows, int head_dim);

/** Rotates q and k and appends k and v to the cache. */
vlcache_status vlci_rope_append(vlcache_device *device, const vlci_append *a);

#endif
