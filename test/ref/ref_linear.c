/*
 * ref_linear.c - the matrix product as its definition reads.
 */
#include "ref/ref_linear.h"

#include <math.h>
#include <string.h>

double ref_activate(double x, int act) {
    const double root_2_over_pi = 0.79788456080286535588;
    switch (act) {
    case 1:
        return x / (1 + exp(-x));
    case 2:
        return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case 3:
        return 0.5 * x * (1 + tanh(root_2_over_pi * (x + 0.044715 * x * x * x)));
    case 4:
        return x / (1 + exp(-1.702 * x));
    }
    return x;
}

void ref_linear(const double *w, const float *bias, const float *x, const float *old, double *y,
                double *scale, int m, int n, int k, int act) {
    for (int r = 0; r < m; r++) {
        for (int c = 0; c < n; c++) {
            double sum = bias ? bias[c] : 0, size = fabs(sum);
            for (int i = 0; i < k; i++) {
                double term = (double)x[(int64_t)r * k + i] * w[(int64_t)c * k + i];
                sum += term;
                size += fabs(term);
            }
            int64_t at = (int64_t)r * n + c;
            y[at] = ref_activate(sum, act) + (old ? old[at] : 0);
            scale[at] = size + (old ? fabs(old[at]) : 0);
        }
    }
}

static uint16_t to_bf16(float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* Finite values only. 1024 steps to an octave, none finer than 2^-24. */
static uint16_t to_f16(float value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    int exponent = 0;
    double magnitude = fabs((double)value);
    frexp(magnitude, &exponent);
    if (exponent < -13 || magnitude == 0) exponent = -13;
    double steps = nearbyint(ldexp(magnitude, 11 - exponent));
    /* A carry out of the 11 bits is the next exponent: the sum below does it. */
    long bits = (long)steps + ((long)(exponent + 13) << 10);
    return (uint16_t)(sign | (bits > 0x7bff ? 0x7c00 : bits));
}

void ref_store(void *data, int64_t i, float value, vlcache_dtype dtype) {
    if (dtype == VLCACHE_DTYPE_F32)
        ((float *)data)[i] = value;
    else
        ((uint16_t *)data)[i] = dtype == VLCACHE_DTYPE_F16 ? to_f16(value) : to_bf16(value);
}

double ref_load(const void *data, int64_t i, vlcache_dtype dtype) {
    if (dtype == VLCACHE_DTYPE_F32) return ((const float *)data)[i];
    uint16_t u = ((const uint16_t *)data)[i];
    if (dtype == VLCACHE_DTYPE_BF16) {
        uint32_t wide = (uint32_t)u << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
    int exponent = u >> 10 & 31, fraction = u & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    if (exponent == 31) magnitude = fraction ? NAN : INFINITY;
    return u & 0x8000 ? -magnitude : magnitude;
}

/* A run of 8 of a row of 128 bytes, in its swizzled place. */
static int64_t in_row(int row, int k) {
    int run = k % 64 / 8, place = 0;
    for (int bit = 1; bit < 8; bit *= 2)
        if ((run / bit % 2) != (row / bit % 2)) place += bit;
    return place * 8 + k % 8;
}

int64_t ref_weight_at(int layout, int row, int k, int depth) {
    if (layout == 0) return (int64_t)row * depth + k;
    if (layout == 1) return ((int64_t)(row / 32) * depth + k) * 32 + row % 32;
    if (layout == 3) {
        int64_t steps = depth / 32 + (depth % 32 > 0), tile = row / 32 * steps + k / 32;
        return tile * 1024 + row % 32 / 16 * 512 + k % 32 / 2 * 32 + row % 16 * 2 + k % 2;
    }
    int64_t across = depth / 64 + (depth % 64 > 0), block = row / 64 * across + k / 64;
    return block * 64 * 64 + row % 64 * 64 + in_row(row, k);
}

int64_t ref_tile_at(int row, int k, int depth) {
    int64_t steps = depth / 32 + (depth % 32 > 0);
    return (row / 32 * steps + k / 32) * 1024 + row % 32 * 32 + k % 32;
}

int64_t ref_stripe_at(int row, int k, int m) {
    int64_t rows = (m / 256 + (m % 256 > 0) + 1) * 256;
    return (k / 64 * rows + row) * 64 + in_row(row, k);
}
