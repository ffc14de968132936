/**
 * topk.h (internal) - which tokens each kv head keeps (VL-Cache, step 3).
 */
#ifndef VLCI_COMPRESS_TOPK_H
#define VLCI_COMPRESS_TOPK_H

#include "compress/heads.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_topk_ladder;

enum { VLCI_TOPK_FEW = 1 << 13 /* tokens up to which a small work-group is the faster one */ };

typedef struct vlci_topk_of {
    const vlci_kernel *topk;
    size_t group; /**< work-items that it is built for */
} vlci_topk_of;

typedef struct vlci_topk_kernels {
    vlci_topk_of few, many; /**< tokens */
} vlci_topk_kernels;

/** Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_topk_open(vlcache_device *device, vlci_topk_kernels *out);

/**
 * Enqueues, for each head: its `recent` last tokens, its first `sinks` and its best-scored others, `kept` in
 * all, ascending, into out[first ..]; ties: the lower position; NaN scores last. score: f32 [heads][tokens]
 * from `at` on, or NULL: sinks only.
 */
vlcache_status vlci_topk(const vlci_heads *heads, const vlci_topk_kernels *kernels, cl_mem score, size_t at,
                         cl_mem out);

#endif
