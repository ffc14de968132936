/*
 * gemv_wide.cl - y = act(x W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups: W is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *
 * W lies in panels of 32 of its rows, as for gemm_wide.cl: one work-item, one panel; two float16 sums for each row of x.
 * Rows of x beyond m repeat the last one and are not stored.
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif

/* Work: one work-item for each panel. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_wide(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
            uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    const int column = (int)get_group_id(0) * VLCI_PANEL;
    __global const w_t *panel = w + VLCI_PANEL_AT(column, 0, k);
    __global const float *xr[ROWS];
    float16 lo[ROWS], hi[ROWS];
    for (int r = 0; r < ROWS; r++) {
        xr[r] = x + (size_t)x_offset + (size_t)min(r, m - 1) * (size_t)k;
        lo[r] = 0.0f;
        hi[r] = 0.0f;
    }
    for (int i = 0; i < k; i++) {
        const float16 b0 = W_LOAD16(panel, 0), b1 = W_LOAD16(panel, 16);
        panel += VLCI_PANEL;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            lo[r] += xr[r][i] * b0;
            hi[r] += xr[r][i] * b1;
        }
    }
    y += y_offset;
    for (int r = 0; r < ROWS && r < m; r++) {
        float sums[VLCI_PANEL];
        vstore16(lo[r], 0, sums);
        vstore16(hi[r], 1, sums);
        for (int c = 0; c < VLCI_PANEL && column + c < n; c++)
            put(sums[c], y + (size_t)r * (size_t)n, bias, column + c, act, accumulate);
    }
}
