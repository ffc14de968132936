/*
 * ref_linear.h - y = act(x W^T + bias) (+ y) as written, in double, and the storage of 16-bit floats.
 */
#ifndef REF_LINEAR_H
#define REF_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "vlcache/common.h"

/** act as vlci_activation numbers them: 0 none, 1 silu, 2 gelu, 3 gelu_tanh, 4 quick_gelu. */
double ref_activate(double x, int act);

/**
 * y[m][n]; bias may be NULL; old may be NULL (no accumulation). `scale` receives, for each output, the sum of
 * the magnitudes that went into it: what a rounding error is relative to.
 */
void ref_linear(const double *w, const float *bias, const float *x, const float *old, double *y,
                double *scale, int m, int n, int k, int act);

/** Element i of an array of `dtype`, stored from and read back into a number. Storing rounds to nearest even.
 */
void ref_store(void *data, int64_t i, float value, vlcache_dtype dtype);
double ref_load(const void *data, int64_t i, vlcache_dtype dtype);

/** Where element (row, k) of weights [..][depth] lies: layout 0 rows, 1 panels of 32 rows, 2 blocks of 64 by
 * 64 with their runs of 8 swizzled, 3 pairs: tiles of 16 pairs of k by
 * 16 rows, two beside each other; as lib/compute/matrix.h says,
 * found in another way. */
int64_t ref_weight_at(int layout, int row, int k, int depth);

/** Where number (row, k) of m rows of activations in stripes of 64 lies. */
int64_t ref_stripe_at(int row, int k, int m);

/** Where number (row, k) of rows of `depth` activations in tiles of 32 by 32 lies. */
int64_t ref_tile_at(int row, int k, int depth);

#endif
