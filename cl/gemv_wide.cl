/*
 * gemv_wide.cl - y = act(x W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups: W is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *
 * W lies in panels of 32 of its rows, as for gemm_wide.cl: one work-item, one panel, of which STREAMS parts of k go side by
 * side: a core that reads one place after another waits for memory most of the time. Two float16 sums for each row of x and
 * part. Rows of x beyond m repeat the last one and are not stored.
 *
 *          k: 0 ........ run ........ 2 run ...... 3 run ...... 4 run, the rest
 *   panel     | part 0 --> | part 1 --> | part 2 --> | part 3 --> |
 *
 * build: -DROWS=1
 * build: -DROWS=4
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef STREAMS
#if defined(__x86_64__) || defined(__aarch64__)
#define STREAMS (ROWS < 4 ? 4 : 8 / ROWS) /* at most 16 sums, which registers hold */
#else
#define STREAMS 1 /* who is no processor never runs this, and llvmpipe takes minutes to unroll it */
#endif
#endif
#ifndef AHEAD
#define AHEAD 16 /* of k: 1 KiB of a part in 16 bits */
#endif

/* W's 32 elements of one k, times x, to the sums of part `s`. */
#define ADD_ONE(s, i, low, high)                                                                                     \
    {                                                                                                                 \
        const float16 b0 = low, b1 = high;                                                                            \
        _Pragma("unroll") for (int r = 0; r < ROWS; r++) {                                                            \
            lo[s][r] += xr[r][i] * b0;                                                                                \
            hi[s][r] += xr[r][i] * b1;                                                                                \
        }                                                                                                             \
    }

#define ADD(s, i)                                                                                                     \
    {                                                                                                                 \
        __global const w_t *from = panel + (size_t)(i) * VLCI_PANEL;                                                  \
        FETCH_AHEAD(from + AHEAD * VLCI_PANEL);                                                                       \
        ADD_ONE(s, i, W_LOAD16(from, 0), W_LOAD16(from, 16))                                                          \
    }

/* Work: one work-item for each panel. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_wide(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
            uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    const int column = (int)get_group_id(0) * VLCI_PANEL;
    __global const w_t *panel = w + VLCI_PANEL_AT(column, 0, k);
    __global const float *xr[ROWS];
    float16 lo[STREAMS][ROWS], hi[STREAMS][ROWS];
    const int run = k / STREAMS;
    for (int r = 0; r < ROWS; r++) {
        xr[r] = x + (size_t)x_offset + (size_t)min(r, m - 1) * (size_t)k;
        for (int s = 0; s < STREAMS; s++) lo[s][r] = hi[s][r] = 0.0f;
    }
    for (int i = 0; i < run; i++)
#pragma unroll
        for (int s = 0; s < STREAMS; s++) ADD(s, s * run + i)
    for (int i = STREAMS * run; i < k; i++) ADD(0, i)
    for (int s = 1; s < STREAMS; s++)
        for (int r = 0; r < ROWS; r++) {
            lo[0][r] += lo[s][r];
            hi[0][r] += hi[s][r];
        }
    y += y_offset;
    for (int r = 0; r < ROWS && r < m; r++) {
        float sums[VLCI_PANEL];
        vstore16(lo[0][r], 0, sums);
        vstore16(hi[0][r], 1, sums);
        for (int c = 0; c < VLCI_PANEL && column + c < n; c++)
            put(sums[c], y + (size_t)r * (size_t)n, bias, column + c, act, accumulate);
    }
}
