/**
 * spread.h (internal) - seeds of centroids that lie far from one another.
 */
#ifndef VLCI_COMPRESS_SPREAD_H
#define VLCI_COMPRESS_SPREAD_H

#include "compress/gram.h"
#include "compress/nearest.h"
#include "compress/topk.h"

extern const vlci_ladder vlci_spread_ladder;

typedef struct vlci_spread_kernels {
    const vlci_kernel *begin, *pick;
    size_t group;           /**< work-items that they are built for, or fewer; 1: the wide rung */
    vlci_gram_kernels gram; /**< of other rungs */
    vlci_topk_kernels topk;
} vlci_spread_kernels;

/** Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_spread_open(vlcache_device *device, const vlci_compress_shape *shape,
                                vlci_spread_kernels *kernels);

/** Scratch of its own. */
typedef struct vlci_spread_room {
    cl_mem rounds; /**< vlci_keep [rounds][heads]: how many candidates there are */
    cl_mem list;   /**< int [heads][most]: candidates */
    cl_mem walk;   /**< f32 [heads][most][most]: their products; the wide rung's: their keys */
    size_t heads, rounds_n, most;
} vlci_spread_room;

/** Bytes of it that a head with so many centroids needs. */
size_t vlci_spread_bytes(const vlci_heads *heads, const vlci_spread_kernels *kernels, int centroids);

/** Rounds that some heads take: those of the one with most centroids. */
int vlci_spread_rounds(const vlci_heads *heads);

/** Enqueues weights and the first seed. score: f32 [heads][tokens] from `at` on, or NULL. Errors:
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_spread_begin(const vlci_heads *heads, const vlci_spread_kernels *kernels,
                                 const vlci_nearest_kernels *nearest, cl_mem score, size_t at,
                                 const vlci_groups *groups, vlci_spread_room *room);

/** Enqueues the seeds of a round, behind those before it: means become them, labels and `far` what they are
 * after the last of them. */
vlcache_status vlci_spread_round(const vlci_heads *heads, const vlci_spread_kernels *kernels,
                                 const vlci_nearest_kernels *nearest, int round, const vlci_groups *groups,
                                 const vlci_spread_room *room);

void vlci_spread_release(vlcache_device *device, vlci_spread_room *room);

#endif
