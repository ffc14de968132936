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
    const vlci_kernel *embed, *gather;
} vlci_embed_kernels;

/** Errors: those of vlci_kernel_get(). */
vlcache_status vlci_embed_open(vlcache_device *device, vlcache_dtype dtype, vlci_layout layout,
                               vlci_embed_kernels *out);

/**
 * Enqueues y[r] = the table's row ids[r], or features[-1 - ids[r]] for negative ids; y [rows][table->k].
 * Errors: VLCACHE_E_ARGUMENT (a table of another dtype or layout), the device's.
 */
vlcache_status vlci_embed_run(const vlci_embed_kernels *kernels, const vlci_matrix *table, cl_mem features,
                              cl_mem ids, cl_mem y, int rows);

/** Enqueues y[r] = x[source[r]], or `other` [n] for negative sources. Errors: the device's. */
vlcache_status vlci_gather_run(const vlci_embed_kernels *kernels, cl_mem x, cl_mem other, cl_mem source,
                               cl_mem y, int rows, int n);

#endif
