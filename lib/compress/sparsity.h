/**
 * sparsity.h (internal) - how sparse the attention of the post-vision rows is (VL-Cache, step 1).
 */
#ifndef VLCI_COMPRESS_SPARSITY_H
#define VLCI_COMPRESS_SPARSITY_H

#include "compress/rows.h"
#include "device/device.h"

typedef struct vlci_sparsity_kernels {
    const vlci_kernel *sum;
    size_t group; /**< work-items that the kernel is built for */
} vlci_sparsity_kernels;

/** Errors: VLCACHE_E_BUILD. */
vlcache_status vlci_sparsity_open(vlcache_device *device, vlci_sparsity_kernels *out);

/** Entries of the counted rows: those of rows that see up to themselves, or each of them `whole` ones where
 * that is not 0. */
uint64_t vlci_sparsity_entries(const vlci_rows *rows, int whole);

/** Mean over heads of count / entries. */
double vlci_sparsity_mean(const uint64_t *counts, int heads, uint64_t entries);

/** Enqueues counts[first + head] (+)= the sum of `tiles` partial counts of each of `heads` heads; ulong. */
vlcache_status vlci_sparsity_sum(vlcache_device *device, const vlci_sparsity_kernels *kernels, cl_mem partial,
                                 int tiles, cl_mem counts, int first, int heads, bool add);

#endif
