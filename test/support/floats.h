/**
 * floats.h - arrays of floats for suites of kernels: drawn, uploaded, taken back, compared.
 */
#ifndef TEST_SUPPORT_FLOATS_H
#define TEST_SUPPORT_FLOATS_H

#include "support/suite.h"

/** n numbers in [offset - scale, offset + scale); new memory (free). */
float *floats_random(uint64_t *seed, size_t n, float scale, float offset);

/** n numbers on the device, NaN at first. */
cl_mem floats_poisoned(size_t n);

cl_mem floats_upload(const float *x, size_t n);

/** What lies in `memory`, which is released; new memory (free). */
float *floats_take(cl_mem memory, size_t n);

/** Fails unless both have the same bits. */
void floats_same(const char *what, const float *got, const float *want, size_t n);

#endif
