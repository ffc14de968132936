/*
 * random.cl - weights for measurements, made where they are needed: no checkpoint, no upload.
 *
 *     w[n][k] = scale * u(seed, n * K + k)        in the matrix's own layout and dtype
 *     y[i]    = mean + scale * u(seed, i)         f32
 *
 *     u: uniform in [-1, 1), a hash of a counter: element by element, in any order, the same on any device and in
 *     any layout. A work-item makes one element (k, n); padding is not touched.
 *
 * build: -DLAYOUT=0
 * build: -DLAYOUT=2
 */

/* 32 bits in, 32 bits out, each of which depends on all: xor-shifts and odd multipliers in turn. */
static inline uint scatter(uint x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

static inline float uniform_at(uint seed, size_t i) {
    return (float)(int)scatter((uint)i ^ scatter(seed + (uint)(i >> 32))) * 0x1p-31f;
}

/* Rows from `first` on. */
__kernel void random_matrix(__global w_t *w, int first, int depth, uint seed, float scale) {
    const int k = get_global_id(0), n = first + (int)get_global_id(1);
    const size_t i = (size_t)n * depth + k;
    W_STORE(scale * uniform_at(seed, i), w, W_AT(n, k, depth));
}

__kernel void random_vector(__global float *y, uint seed, float mean, float scale) {
    const size_t i = get_global_id(0);
    y[i] = mean + scale * uniform_at(seed, i);
}
