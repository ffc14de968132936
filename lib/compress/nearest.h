/**
 * nearest.h (internal) - which of some centroids is nearest to each evicted row.
 */
#ifndef VLCI_COMPRESS_NEAREST_H
#define VLCI_COMPRESS_NEAREST_H

#include "compress/groups.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_nearest_ladder;

typedef struct vlci_nearest_kernels {
    const vlci_kernel *nearest;
    const vlci_kernel *lay; /**< the wide rung's: rows side by side, once; NULL: another rung */
} vlci_nearest_kernels;

/** Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_nearest_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 vlci_nearest_kernels *kernels);

/** Floats of groups->laid that a head needs. */
size_t vlci_nearest_laid(const vlci_heads *heads, const vlci_nearest_kernels *kernels);

/** Enqueues what has to come once before the rest, when the evicted rows are known. */
vlcache_status vlci_nearest_begin(const vlci_heads *heads, const vlci_nearest_kernels *kernels,
                                  const vlci_groups *groups);

/** Enqueues the labels of all rows. */
vlcache_status vlci_nearest(const vlci_heads *heads, const vlci_nearest_kernels *kernels,
                            const vlci_groups *groups);

#endif
