/**
 * summary.h (internal) - centroids that stand for the rows a head does not keep.
 */
#ifndef VLCI_COMPRESS_SUMMARY_H
#define VLCI_COMPRESS_SUMMARY_H

#include "compress/heads.h"
#include "compress/policy.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_spread_ladder;

typedef struct vlci_summary_kernels {
    const vlci_kernel *evicted, *means, *assign, *write, *spread;
    size_t group; /**< work-items that spread is built for; 1: the wide rung */
    int part;     /**< dimensions of a centroid that a work-item adds up */
} vlci_summary_kernels;

/** Builds what a recipe needs. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_UNSUPPORTED
 * (head_dim), VLCACHE_E_BUILD. */
vlcache_status vlci_summary_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 const vlci_recipe *recipe, vlci_summary_kernels *kernels);

/** Scratch, made when it is first needed; of as many heads as are summed up at once. */
typedef struct vlci_summary_room {
    cl_mem evicted, labels, means, distances;
    size_t heads, centroids; /**< that there is room for; centroids of a head */
} vlci_summary_room;

/** Layers that can be summed up at once with a moderate amount of scratch; at least 1. */
int vlci_summary_layers(const vlci_heads *heads, const vlci_summary_kernels *kernels);

/**
 * Enqueues the centroids of some heads and their biases, behind the kept rows of the heads `to`. positions:
 * what they keep; score: what those were chosen by, f32 [heads][tokens] from `at` on, or NULL. Does nothing
 * where no head has centroids. Errors: VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_summary(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                            const vlci_recipe *recipe, cl_mem positions, cl_mem score, size_t at, cl_mem to,
                            vlci_summary_room *room);

void vlci_summary_release(vlcache_device *device, vlci_summary_room *room);

#endif
