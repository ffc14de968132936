/**
 * groups.h (internal) - the rows of some heads that are not kept, sorted into groups: what the steps of a
 * summary hand one another.
 *
 *     evicted rows e = 0, 1, ...
 *         -> label(e): the centroid that stands for it
 *         -> members of each, and their mean
 */
#ifndef VLCI_COMPRESS_GROUPS_H
#define VLCI_COMPRESS_GROUPS_H

#include "compress/heads.h"

/** Scratch on the device; of as many heads as are summed up at once. */
typedef struct vlci_groups {
    cl_mem evicted; /**< int [heads][tokens]: positions, ascending */
    cl_mem labels;  /**< int [heads][tokens] */
    cl_mem order;   /**< int [heads][2][tokens]: positions by label */
    cl_mem starts;  /**< int [heads][centroids + 1]: each centroid's first in it */
    cl_mem means;   /**< f32 [heads][means_stride], transposed: cl/kmeans.cl */
    cl_mem laid;    /**< f32 [heads][laid_stride]: rows side by side, as nearest wants it; or NULL */
    size_t heads, tokens, centroids; /**< that there is room for; centroids of a head */
    size_t means_stride, laid_stride;
} vlci_groups;

/** Most centroids, and most rows that are not kept, of one of the heads. */
int vlci_groups_centroids(const vlci_heads *heads);
int vlci_groups_evicted(const vlci_heads *heads);

/** Most stretches of one of them that seeds are looked for in, and whether all of those are short. */
int vlci_groups_stretches(const vlci_heads *heads);
bool vlci_groups_stretches_short(const vlci_heads *heads);

/** What kernels of evicted rows begin with: heads' rows, what they keep, and which are evicted. */
#define VLCI_EVICTED_OF(h, groups)                                                                           \
    VLCI_POOL_OF(&(h)->kv, (h)->heads_at), VLCI_KEEP_OF(h), VLCI_I32((h)->tokens), VLCI_MEM((groups)->evicted)

#endif
