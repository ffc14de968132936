/**
 * gather.h (internal) - rows put in another order, some left out, some repeated.
 */
#ifndef VLCI_MODELS_GATHER_H
#define VLCI_MODELS_GATHER_H

#include "cl/shared.h"
#include "compute/compute.h"

/**
 * out[r] = x[source[r]], or `other` where source[r] is negative: f32 rows of `width`, `source` on the host.
 * `*out` is new memory. Errors: the device's.
 */
vlcache_status vlci_gather(const vlci_compute *compute, cl_mem x, cl_mem other, const int32_t *source,
                           int rows, int width, cl_mem *out);

/** The same of blended rows: out[r] = the blend source[r] of x, or `other`. */
vlcache_status vlci_gather_blends(const vlci_compute *compute, cl_mem x, cl_mem other,
                                  const vlci_blend *source, int rows, int width, cl_mem *out);

#endif
