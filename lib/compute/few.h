/**
 * few.h (internal) - what attention over coded and over quantised rows has in common (cl/few.clh): the
 * ladder's rungs, and how the work over one sequence's rows is cut.
 *
 *     wide    a work-item for a share of the rows: processors with wide vectors
 *     group   a work-group for a share of the rows: GPUs, and anything else
 */
#ifndef VLCI_COMPUTE_FEW_H
#define VLCI_COMPUTE_FEW_H

#include "compute/attention.h"

enum { VLCI_FEW_MERGE_ITEMS = 64 }; /* work-items of merge, where a kernel takes as many */

extern const char *const vlci_few_rungs[];
bool vlci_few_fits(const vlcache_device *device, const char *rung);
const char *vlci_few_choose(const vlcache_device *device);

/** How a kernel is built: WIDE, and lanes (query rows of heads) that go together. */
typedef struct vlci_few {
    vlcache_device *device;
    vlci_attention_shape shape;
    const char *rung; /**< of its ladder */
    bool wide;
    int lanes;
} vlci_few;

/** The rung of a ladder of these, and lanes. Errors: VLCACHE_E_UNSUPPORTED (head_dim), VLCACHE_E_ARGUMENT
 * (VLCACHE_VARIANT). */
vlcache_status vlci_few_open(vlcache_device *device, const vlci_ladder *ladder,
                             const vlci_attention_shape *shape, vlci_few *out);

/** Whether rows of this shape can be stored so. Errors of the second: VLCACHE_E_UNSUPPORTED. */
bool vlci_few_takes(int head_dim);
vlcache_status vlci_few_check(int head_dim);

/** A launch: rows of a sequence, and how their work is cut. */
typedef struct vlci_few_cut {
    int first, rows;
    size_t pieces;     /**< of lanes, of all kv heads */
    int shares, share; /**< of the units (runs, groups of rows), and units of each */
} vlci_few_cut;

/**
 * Rows `first` and some behind it, of `rows` that are left. As many shares as keep the device busy, and no
 * more than attention itself would have partial results of; `beside`: shares that the kernel has besides.
 */
vlci_few_cut vlci_few_divide(const vlci_few *few, int first, int rows, int units, int beside);

/** Work-items of the kernel over the shares, `beside` among them. */
vlci_grid vlci_few_grid(const vlci_few *few, const vlci_few_cut *cut, int beside);
vlci_grid vlci_few_merge_grid(const vlci_few *few, const vlci_few_cut *cut, const vlci_kernel *merge);

/** Whether `a` has what they need. Errors: VLCACHE_E_INTERNAL, VLCACHE_E_UNSUPPORTED (beyond 32 bits). */
vlcache_status vlci_few_check_run(const char *what, int layer, int layers, const vlci_attention *a);

#endif
