/**
 * compact.h (internal) - rows that stay move together (VL-Cache, step 4).
 */
#ifndef VLCI_COMPRESS_COMPACT_H
#define VLCI_COMPRESS_COMPACT_H

#include "compress/heads.h"
#include "kv/cache.h"

enum { VLCI_COMPACT_WIDTHS = 3 };

typedef struct vlci_compact_kernels {
    const vlci_kernel *compact;
    const vlci_kernel *squeeze[VLCI_COMPACT_WIDTHS]; /**< each for half as many slices; NULL: no more */
    size_t group;                                    /**< work-items that squeeze is built for */
    int run;                                         /**< words that one of them moves together */
    size_t slices; /**< of columns, each a work-group's: of the first of them */
} vlci_compact_kernels;

/** Errors: VLCACHE_E_BUILD. */
vlcache_status vlci_compact_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 vlci_compact_kernels *out);

/** What stays, and what of the prompt is there. */
typedef struct vlci_stay {
    cl_mem positions; /**< kept ones, ascending: of head i from keep[i].first on */
    cl_mem held; /**< vlci_keep of all heads: where kept is not 0, only these rows of the prompt are there */
    cl_mem held_positions; /**< which those are */
    int decoded;           /**< rows behind the prompt's */
} vlci_stay;

/** Enqueues the copy of earlier rows (those that are not in whole pages), kept and decoded ones into the
 * pages of the heads `to` (vlci_kv_head of these heads, from 0 on); where biases are, those of the prompt's
 * rows become 0. */
vlcache_status vlci_compact(const vlci_heads *heads, const vlci_compact_kernels *kernels,
                            const vlci_stay *stay, cl_mem to);

/** Enqueues the same within the heads' own pages. There are no centroids. */
vlcache_status vlci_squeeze(const vlci_heads *heads, const vlci_compact_kernels *kernels,
                            const vlci_stay *stay);

/** Squeezes the heads of a cache, whose layers are theirs, and gives back the pages behind what stays. */
vlcache_status vlci_compact_within(const vlci_heads *heads, const vlci_compact_kernels *kernels,
                                   const vlci_stay *stay, vlci_kv *kv);

/**
 * Compacts the heads, from `layer` of a cache on, into other pages with room for centroids: they take the old
 * ones' place with vlci_kv_replaced(). `to`: vlci_kv_head of as many heads; heads->kv is as the pool is then.
 * Errors: those of vlci_kv_replace(), the device's; nothing has changed then.
 */
vlcache_status vlci_compact_into(vlci_heads *heads, const vlci_compact_kernels *kernels,
                                 const vlci_stay *stay, int layer, cl_mem to, vlci_kv *kv,
                                 vlci_kv_next *next);

#endif
