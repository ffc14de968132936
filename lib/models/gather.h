/**
 * gather.h (internal) - rows put in another order, some left out, some repeated.
 */
#ifndef VLCI_MODELS_GATHER_H
#define VLCI_MODELS_GATHER_H

#include "compute/compute.h"

/**
 * out[r] = x[source[r]], or `other` where source[r] is negative: f32 rows of `width`, `source` on the host.
 * `*out` is new memory. Errors: the device's.
 */
vlcache_status vlci_gather(const vlci_compute *compute, cl_mem x, cl_mem other, const int32_t *source,
                           int rows, int width, cl_mem *out);

#endif
