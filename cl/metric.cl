/*
 * metric.cl - what errors of values come to behind the product that takes them back to the width of the model.
 *
 *     metric_rows:   x(n, k) = W(n, k)                                            widened, whatever it is stored as and lies like
 *     metric_gram:   M(kv, d, e) = sum over n, and over the query heads q of kv's group, of x(n, q d) x(n, q e)
 *
 * Of M, which is symmetric, what lies below the diagonal's blocks of 8 is not written. LAYOUT: how W lies (shared.h).
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

/* Work-item (e / 8, d / 4, kv): 4 x 8 numbers of M(kv). gram: [kv][HEAD_DIM][HEAD_DIM]. */
__kernel void metric_gram(__global const float *x, int n, int group, __global float *gram) {
    const int e = 8 * get_global_id(0), d = 4 * get_global_id(1), kv = get_global_id(2);
    const size_t width = get_global_size(2) * group * HEAD_DIM;
    float8 sum[4];
    if (e >= HEAD_DIM || d >= HEAD_DIM || e + 7 < d) return;
    for (int t = 0; t < 4; t++) sum[t] = 0.0f;
    for (int q = kv * group; q < (kv + 1) * group; q++) {
        __global const float *row = x + (size_t)q * HEAD_DIM;
        for (int i = 0; i < n; i++, row += width) {
            const float8 right = vload8(0, row + e);
            const float4 left = vload4(0, row + d);
            sum[0] += left.x * right;
            sum[1] += left.y * right;
            sum[2] += left.z * right;
            sum[3] += left.w * right;
        }
    }
    for (int t = 0; t < 4; t++) vstore8(sum[t], 0, gram + ((size_t)kv * HEAD_DIM + d + t) * HEAD_DIM + e);
}
