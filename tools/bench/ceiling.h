/**
 * ceiling.h - what a device can do at best: rates to hold others against.
 */
#ifndef BENCH_CEILING_H
#define BENCH_CEILING_H

#include "bench/bench.h"

/**
 * Measures a copy between two buffers, and products with square matrices of `dtype` (AUTO: bf16), doubling
 * their side until one takes long enough. Some hundred milliseconds, and the choice of an engine before,
 * where the device has not made it yet. Errors: the device's.
 */
vlcache_status ceiling_measure(vlcache_device *device, vlcache_dtype dtype, ceiling *out);

#endif
