/*
 * gemv_streams.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups, and W lies in rows, as in a mapped file (of up to three parts: w_row_of). Gated too: panel.clh.
 *
 * A work-item has 32 rows of W, or twice 32, in 4 stretches of memory that it reads side by side, each from row to row:
 *
 *   W row c          stream 0 --> k        row c + 8         stream 1 --> k      ...
 *     row c + 1      then this one           row c + 9       then this one
 *
 * Four rows of W meet GROUP rows of x at a time: a float16 sum for each of both, of which an output is what its 16 elements
 * come to. Of more rows of x, other passes over the same rows of W, which the second cache has then, take the others; each
 * of them asks for its part of the next rows.
 *
 * with: wide.clh panel.clh
 * build: -DROWS=1
 * build: -DROWS=8
 */
#ifndef AHEAD
#define AHEAD 256 /* elements of a stream: 512 bytes in 16 bits */
#endif
enum {
    ABREAST = 4,
    GROUP = ROWS < 4 ? ROWS : 4, /* at most 16 sums, which registers hold */
    SUMS = ABREAST * GROUP,
    PASSES = ROWS / GROUP,
    STRETCH = VLCI_PANEL / ABREAST
};

/* Of 16 lanes, all that come to sum q: n vectors are halved to one, whose lane i has a part of vector i % n. */
static inline float16 fold(float16 *sum) {
#pragma unroll
    for (int half_n = SUMS / 2; half_n; half_n /= 2)
#pragma unroll
        for (int q = 0; q < half_n; q++)
            sum[q] = INTERLEAVE_LOW(float16, sum[q], sum[q + half_n]) + INTERLEAVE_HIGH(float16, sum[q], sum[q + half_n]);
    return sum[0];
}

/* The sums of rows [first, first + 32) of W. */
static inline void multiply(__global const w_t *w, __global const w_t *w1, __global const w_t *w2, int n0, int n1, int first,
                            __global const float *x, int m, int n, int k, __global const float *norm, const float *scale,
                            float (*out)[VLCI_PANEL]) {
    const int whole = k / 16 * 16;
    for (int j = 0; j < STRETCH; j++) {
        __global const w_t *from[ABREAST];
#pragma unroll
        for (int s = 0; s < ABREAST; s++) from[s] = w_row_of(w, w1, w2, n0, n1, min(first + s * STRETCH + j, n - 1), k);
#pragma unroll 1
        for (int g = 0; g < ROWS; g += GROUP) {
            const int ahead = PASSES == 1 ? AHEAD : k + g / GROUP * (k / PASSES);
            __global const float *xr[GROUP];
            float16 sum[SUMS];
            float lanes[16];
#pragma unroll
            for (int r = 0; r < GROUP; r++) xr[r] = x + (size_t)min(g + r, m - 1) * (size_t)k;
#pragma unroll
            for (int q = 0; q < SUMS; q++) sum[q] = 0.0f;
            for (int i = 0; i < whole; i += 16) {
                float16 part[GROUP];
#pragma unroll
                for (int r = 0; r < GROUP; r++) part[r] = vload16(0, xr[r] + i);
                if (norm) {
                    const float16 by = vload16(0, norm + i);
#pragma unroll
                    for (int r = 0; r < GROUP; r++) part[r] *= by;
                }
#pragma unroll
                for (int s = 0; s < ABREAST; s++) {
                    FETCH_AHEAD(from[s] + ahead + i / PASSES);
                    const float16 b = W_LOAD16(from[s], i);
#pragma unroll
                    for (int r = 0; r < GROUP; r++) sum[s * GROUP + r] += b * part[r];
                }
            }
            vstore16(fold(sum), 0, lanes);
#pragma unroll
            for (int q = 0; q < SUMS; q++) {
                const int r = q % GROUP;
                float all = 0.0f;
#pragma unroll
                for (int i = q; i < 16; i += SUMS) all += lanes[i];
                for (int i = whole; i < k; i++) all += W_LOAD(from[q / GROUP], i) * (norm ? xr[r][i] * norm[i] : xr[r][i]);
                out[g + r][q / GROUP * STRETCH + j] = norm ? all * scale[g + r] : all;
            }
        }
    }
}

/* Work: one work-item for 32 rows of W, or twice 32. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_streams(__global const w_t *restrict w, __global const w_t *restrict w1, __global const w_t *restrict w2, int n0, int n1,
             __global const float *restrict bias, __global const float *restrict x, uint x_offset, __global float *restrict y,
             uint y_offset, int m, int n, int k, int act, int accumulate, __global const float *restrict norm, float eps,
             int gated) {
    const int column = (int)get_group_id(0) * VLCI_PANEL;
    float sums[2][ROWS][VLCI_PANEL], scale[ROWS];
    x += x_offset;
    scales_of(x, m, k, norm, eps, scale);
#pragma unroll 1
    for (int i = 0; i <= gated; i++)
        multiply(w, w1, w2, n0, n1, column + i * (n / 2), x, m, n, k, norm, scale, sums[i]);
    put_panels(sums, column, y + y_offset, bias, m, n, act, accumulate, gated);
}
