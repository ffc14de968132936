/**
 * summary.h (internal) - centroids that stand for the rows a head does not keep.
 */
#ifndef VLCI_COMPRESS_SUMMARY_H
#define VLCI_COMPRESS_SUMMARY_H

#include "compress/policy.h"
#include "compress/spread.h"

typedef struct vlci_summary_kernels {
    const vlci_kernel *evicted, *members, *means, *write;
    vlci_nearest_kernels nearest;
    vlci_spread_kernels spread;
    size_t group; /**< work-items that members is built for */
    int part;     /**< dimensions of a centroid that a work-item adds up */
    int run;      /**< evicted rows that one lists */
} vlci_summary_kernels;

/** Builds what a recipe needs. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_UNSUPPORTED
 * (head_dim), VLCACHE_E_BUILD. */
vlcache_status vlci_summary_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 const vlci_recipe *recipe, vlci_summary_kernels *kernels);

/** Scratch, made when it is first needed; of as many heads as are summed up at once. */
typedef struct vlci_summary_room {
    vlci_groups groups;
    vlci_spread_room spread;
} vlci_summary_room;

/** Layers that can be summed up at once with a moderate amount of scratch: all, or the same number in each of
 * a few turns; at least 1. */
int vlci_summary_layers(const vlci_heads *heads, const vlci_summary_kernels *kernels);

/**
 * Enqueues the centroids of some heads and their biases, behind the kept rows of the heads `to`. positions:
 * what they keep; score: what those were chosen by, f32 [heads][tokens] from `at` on, or NULL. Does nothing
 * where no head has centroids. Errors: VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_summary(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                            const vlci_recipe *recipe, cl_mem positions, cl_mem score, size_t at, cl_mem to,
                            vlci_summary_room *room);

void vlci_summary_release(vlcache_device *device, vlci_summary_room *room);

#endif
