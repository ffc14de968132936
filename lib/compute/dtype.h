/**
 * dtype.h (internal) - elements of weights from one dtype to another, on the host.
 */
#ifndef VLCI_COMPUTE_DTYPE_H
#define VLCI_COMPUTE_DTYPE_H

#include <stddef.h>

#include "vlcache/common.h"

/** Widens `n` stored elements to f32, exactly; `from` may have any alignment. */
void vlci_widen(const void *from, vlcache_dtype dtype, float *to, size_t n);

/** Narrows `n` of them: round to nearest, ties to even; beyond the largest is infinity, NaN stays NaN. */
void vlci_narrow(const float *from, void *to, vlcache_dtype dtype, size_t n);

/** The same from any of F32, F16 and BF16 to any; to the same one a copy of the bytes. No overlap. */
void vlci_convert(const void *from, vlcache_dtype from_dtype, void *to, vlcache_dtype to_dtype, size_t n);

#endif
