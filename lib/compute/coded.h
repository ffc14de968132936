/**
 * coded.h (internal) - attention over coded rows, behind that over the rows in pages.
 *
 * VLCACHE_VARIANT=attention_coded:RUNG forces a rung: those of few.h, or
 *
 *     mma     a work-group for a share, on matrix units: NVIDIA since sm_80, head_dim up to 128, where a
 *             unit's local memory has room for a basis; group else
 *     wgmma   the same; four warps multiply with a basis together: sm_90a
 */
#ifndef VLCI_COMPUTE_CODED_H
#define VLCI_COMPUTE_CODED_H

#include "compute/few.h"
#include "kv/codes.h"
#include "kv/list.h"

extern const vlci_ladder vlci_coded_ladder;

typedef struct vlci_coded_kernels {
    vlci_few few;
    bool mma, rows_mma;                          /**< where a run's rows are turned alike; one by one */
    const vlci_kernel *attend, *score, *merge;   /**< merge: NULL where mma does it in the same launch */
    const vlci_kernel *attend_rows, *score_rows; /**< where rows are turned one by one; NULL: not opened;
                                                    score: without matrix units */
    const vlci_kernel *many, *many_rows; /**< the same over codes of several sequences; NULL: there is none */
} vlci_coded_kernels;

/** Chooses the rung and builds its kernels; `*out` is zero, or was opened for the same device and shape.
 * Errors: those of vlci_few_open(), VLCACHE_E_BUILD. */
vlcache_status vlci_coded_open(vlcache_device *device, const vlci_attention_shape *shape,
                               vlci_coded_kernels *out);

/** Adds what reads codes with patterns to kernels that are open. Errors: VLCACHE_E_BUILD. */
vlcache_status vlci_coded_open_rows(vlci_coded_kernels *kernels);

/** Whether vlci_coded_run() can see the rows in pages as well: those of one query row of each sequence, if
 * they are few, and all have codes. */
bool vlci_coded_sees_pages(vlci_kv *const *sequences, const vlci_attention *a);

/**
 * Enqueues, behind vlci_attention_run() of the same `a`, or with `pages` in its place, where
 * vlci_coded_sees_pages(): the rows of sequence b, a->max_rows of it if it is the only one and else one, see
 * the coded rows of sequences[b] too, those of earlier turns among them. a->out, a->row_max and a->row_lse
 * change, and a->scratch is used behind its counters: none may be NULL. Allocates nothing. Errors: the
 * device's, VLCACHE_E_INTERNAL, with `pages` VLCACHE_E_UNSUPPORTED (an offset or stride beyond 32 bits).
 */
vlcache_status vlci_coded_run(vlci_kv *const *sequences, int layer, const vlci_attention *a, bool pages);

/** Adds what vlci_coded_score() needs of codes with patterns, behind vlci_coded_open_rows(). Errors:
 * VLCACHE_E_BUILD, VLCACHE_E_UNSUPPORTED (work-groups that are too small). */
vlcache_status vlci_coded_open_scores(vlci_coded_kernels *kernels);

/** Where coded rows are among the `tokens` rows of their prompt, and what looks at them adds up. */
typedef struct vlci_coded_sight {
    cl_mem positions; /**< int [codes->rows] */
    cl_mem text_at;   /**< int [codes->texts] */
    int tokens;
    cl_mem score; /**< f32 [layers][kv_heads][tokens] */
} vlci_coded_sight;

/**
 * Enqueues, behind the attention of `a` over all there is: adds to the scores of a layer `weight` times the
 * attention that query row `row` pays to the rows of `codes`, those of earlier turns not among them. Errors:
 * as vlci_coded_run().
 */
vlcache_status vlci_coded_score(const vlci_codes *codes, int layer, const vlci_attention *a, int row,
                                double weight, const vlci_coded_sight *sight);

#endif
