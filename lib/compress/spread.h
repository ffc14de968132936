/**
 * spread.h (internal) - seeds of centroids that lie far from one another.
 */
#ifndef VLCI_COMPRESS_SPREAD_H
#define VLCI_COMPRESS_SPREAD_H

#include "compress/groups.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_spread_ladder;

typedef struct vlci_spread_kernels {
    const vlci_kernel *spread;
    const vlci_kernel *sums, *shares;
    const vlci_kernel *units; /**< the mma rung's, where stretches are short; NULL: another rung */
    size_t group;             /**< work-items that `spread` is built for; 1: the wide rung */
} vlci_spread_kernels;

/** Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_spread_open(vlcache_device *device, const vlci_compress_shape *shape,
                                vlci_spread_kernels *kernels);

/** Scratch of its own. */
typedef struct vlci_spread_room {
    cl_mem rows; /**< f32 [heads][stride]: what is known of rows, in the wide rung their keys side by side */
    cl_mem sums; /**< f32 [heads][3][shares_stride]: what stretches are shared out by, cl/stretch.cl; or
                    [heads][shares_stride][4], cl/spread_mma.cl */
    cl_mem shares; /**< int [heads][shares_stride]: centroids of stretches, cl/stretch.cl */
    cl_mem told;   /**< uint [heads][shares_stride]: the last turn whose sums are there, cl/spread_mma.cl */
    size_t heads, stride, shares_stride;
    cl_uint turn;  /**< how many have begun */
    bool together; /**< of this one, stretches share out by themselves */
} vlci_spread_room;

/** Bytes of it that a head needs. */
size_t vlci_spread_bytes(const vlci_heads *heads, const vlci_spread_kernels *kernels);

/** Whether the centroids' rows can come with the labels: matrix units have them all in local memory. */
bool vlci_spread_whole(const vlci_heads *heads, const vlci_spread_kernels *kernels);

/** Enqueues what comes first: how centroids are shared out over stretches. score: f32 [heads][tokens] from
 * `at` on, or NULL. whole: centroids' rows are to come with the labels. Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_spread_begin(const vlci_heads *heads, const vlci_spread_kernels *kernels, cl_mem score,
                                 size_t at, const vlci_groups *groups, bool whole, vlci_spread_room *room);

/**
 * Enqueues the labels of all evicted rows: the nearest seed's number. Means of seeds that stand for no row
 * become these. score, at: as at the beginning. to: vlci_kv_head of these heads, where
 * vlci_spread_whole(): the centroids' rows and biases go behind the kept rows there, and means stay; NULL:
 * they do not. Errors: VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_spread(const vlci_heads *heads, const vlci_spread_kernels *kernels, cl_mem score,
                           size_t at, const vlci_groups *groups, cl_mem to, const vlci_spread_room *room);

void vlci_spread_release(vlcache_device *device, vlci_spread_room *room);

#endif
