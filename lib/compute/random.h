/**
 * random.h (internal) - numbers made on the device by a kernel: weights of models that exist nowhere, input
 * of measurements.
 */
#ifndef VLCI_COMPUTE_RANDOM_H
#define VLCI_COMPUTE_RANDOM_H

#include "compute/matrix.h"

/**
 * Enqueues: every element (n, k) of the matrix becomes uniform in [-scale, scale), and padding of its layout
 * zero. An element depends on the seed, on n and on n's K, not on the layout. Errors: those of
 * vlci_kernel_get() and vlci_launch().
 */
vlcache_status vlci_random_matrix(vlcache_device *device, const vlci_matrix *matrix, uint32_t seed,
                                  float scale);

/** The same for n floats around `mean`. */
vlcache_status vlci_random_floats(vlcache_device *device, cl_mem y, size_t n, uint32_t seed, float mean,
                                  float scale);

#endif
