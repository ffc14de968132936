/**
 * embed.h (internal) - rows by index: token embeddings with visual tokens among them, and the order of visual
 * tokens.
 */
#ifndef VLCI_COMPUTE_EMBED_H
#define VLCI_COMPUTE_EMBED_H

#include "compute/matrix.h"

/** Of one dtype and layout of tables. */
typedef struct vlci_embed_kernels {
    vlcache_device *device;
    vlcache_dtype dtype;
    vlci_layout layout;
    const vlci_kernel *embed, *add, *gather, *blend;
} vlci_embed_kernels;

/** Errors: those of vlci_kernel_get(). */
vlcache_status vlci_embed_open(vlcache_device *device, vlcache_dtype dtype, vlci_layout layout,
                               vlci_embed_kernels *out);

/** Rows of visual tokens: f32 [..][sets][k]. */
typedef struct vlci_features {
    cl_mem data; /**< NULL: there are none */
    int sets;    /**< 1, or with further ones that are added behind layers */
} vlci_features;

/**
 * Enqueues y[r] = `scale` times the table's row ids[r], or set 0 of features[-1 - ids[r]] for negative ids; y
 * [rows][table->k]. Errors: VLCACHE_E_ARGUMENT (a table of another dtype or layout), the device's.
 */
vlcache_status vlci_embed_run(const vlci_embed_kernels *kernels, const vlci_matrix *table, float scale,
                              vlci_features features, cl_mem ids, cl_mem y, int rows);

/** Enqueues y[r] += set `set` of features[-1 - ids[r]] for those of rows first .. first + rows - 1 whose id
 * is negative; y [..][k]. Errors: the device's. */
vlcache_status vlci_embed_add(const vlci_embed_kernels *kernels, vlci_features features, int set, cl_mem ids,
                              cl_mem y, int first, int rows, int k);

/** Enqueues y[r] = the blend source[r] of x (cl/shared.h: vlci_blend), or `other` [n]. Errors: the device's.
 */
vlcache_status vlci_blend_run(const vlci_embed_kernels *kernels, cl_mem x, cl_mem other, cl_mem source,
                              cl_mem y, int rows, int n);

/** Enqueues y[r] = x[source[r]], or `other` [n] for negative sources. Errors: the device's. */
vlcache_status vlci_gather_run(const vlci_embed_kernels *kernels, cl_mem x, cl_mem other, cl_mem source,
                               cl_mem y, int rows, int n);

#endif
