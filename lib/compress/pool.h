/**
 * pool.h (internal) - the scores that tokens are chosen by, from those that were seen.
 */
#ifndef VLCI_COMPRESS_POOL_H
#define VLCI_COMPRESS_POOL_H

#include "compress/heads.h"
#include "compress/policy.h"

typedef struct vlci_pool_kernels {
    const vlci_kernel *heads, *line, *grid, *spare;
} vlci_pool_kernels;

/** Builds what a recipe needs. Errors: VLCACHE_E_BUILD. */
vlcache_status vlci_pool_open(vlcache_device *device, const vlci_recipe *recipe, vlci_pool_kernels *kernels);

/** Buffers of pooled scores, made when they are first needed; of as many heads as are pooled at once. */
typedef struct vlci_pooled {
    cl_mem merged, windows, spared;
    int heads, spared_heads; /**< that there is room for; of `spared` */
} vlci_pooled;

/**
 * Enqueues the pooling of some heads' scores, f32 [..][tokens] from `*at` on. `*score`, `*at`: in, all scores
 * and the first of these heads'; out, where pooled ones are, the same where nothing is pooled (or score is
 * NULL). Errors: VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_pool(const vlci_heads *heads, const vlci_pool_kernels *kernels, const vlci_recipe *recipe,
                         cl_mem grids, int n_grids, vlci_pooled *pooled, cl_mem *score, size_t *at);

/** Enqueues scores of which those of tokens that are no candidates, `spared` (uchar [tokens]), are infinite;
 * `*score`, `*at` as in vlci_pool(). Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_pool_spare(const vlci_heads *heads, const vlci_pool_kernels *kernels, cl_mem spared,
                               vlci_pooled *pooled, cl_mem *score, size_t *at);

void vlci_pooled_release(vlcache_device *device, vlci_pooled *pooled);

#endif
