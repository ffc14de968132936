/*
 * metric.cl - what errors of values come to behind the product that takes them back to the width of the model.
 *
 *     metric_rows:   x(n, k) = W(n, k)                                            widened, whatever it is stored as and lies like
 *     metric_gram:   P(s, kv, d, e) = sum over n of share s, and over the query heads q of kv's group, of x(n, q d) x(n, q e)
 *     metric_sum:    M(kv, d, e) = sum over s of P(s, kv, d, e)
 *
 * Of P and M, which are symmetric, what lies below the diagonal's blocks of 8 is not written. LAYOUT: how W lies (shared.h).
 *
 * build: -DLAYOUT=0 -DHEAD_DIM=64
 * build: -DLAYOUT=1 -DHEAD_DIM=96
 * build: -DLAYOUT=2 -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif

/* Work-item (k, n). x: f32 [n][width]. */
__kernel void metric_rows(__global const w_t *w, __global float *x, int width) {
    const int k = get_global_id(0), n = get_global_id(1);
    if (k < width) x[(size_t)n * width + k] = W_LOAD(w, W_AT(n, k, width));
}

/* Block t of 8 x 8 among those on and right of the diagonal, row by row: its first row, behind the last block HEAD_DIM, and
 * column. */
static inline int2 block_at(int t) {
    int d = 0;
    for (; d < HEAD_DIM / 8 && t >= HEAD_DIM / 8 - d; d++) t -= HEAD_DIM / 8 - d;
    return (int2)(8 * d, 8 * (d + t));
}

/* Work-item (tile, kv, s): a block of P(s, kv), of `share` rows. parts: [shares][kv][HEAD_DIM][HEAD_DIM]. */
__kernel void metric_gram(__global const float *x, int n, int group, int share, __global float *parts) {
    const int tile = get_global_id(0), kv = get_global_id(1), s = get_global_id(2);
    const size_t width = get_global_size(1) * group * HEAD_DIM;
    const int first = s * share, rows = min(share, n - first);
    const int2 at = block_at(tile);
    union {
        float8 all;
        float at[8];
    } left;
    float8 sum[8];
    if (at.x >= HEAD_DIM) return;
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = 0.0f;
    for (int q = kv * group; q < (kv + 1) * group; q++) {
        __global const float *row = x + first * width + (size_t)q * HEAD_DIM;
        for (int i = 0; i < rows; i++, row += width) {
            const float8 right = vload8(0, row + at.y);
            left.all = vload8(0, row + at.x);
#pragma unroll
            for (int t = 0; t < 8; t++) sum[t] += left.at[t] * right;
        }
    }
    parts += ((s * get_global_size(1) + kv) * HEAD_DIM + at.x) * HEAD_DIM + at.y;
#pragma unroll
    for (int i = 0; i < 8; i++) vstore8(sum[i], 0, parts + (size_t)i * HEAD_DIM);
}

/* Work-item (e / 8, d, kv). gram: [kv][HEAD_DIM][HEAD_DIM] from element `to` on. */
__kernel void metric_sum(__global const float *parts, int shares, __global float *gram, uint to) {
    const int e = 8 * get_global_id(0), d = get_global_id(1), kv = get_global_id(2);
    const size_t at = ((size_t)kv * HEAD_DIM + d) * HEAD_DIM + e, all = get_global_size(2) * HEAD_DIM * HEAD_DIM;
    if (e >= HEAD_DIM || e < d / 8 * 8) return;
    float8 sum = vload8(0, parts + at);
    for (int s = 1; s < shares; s++) sum += vload8(0, parts + s * all + at);
    vstore8(sum, 0, gram + to + at);
}
