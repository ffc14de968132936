/*
 * gemv_wide.cl - y = act(x W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups: W is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *
 * W lies in panels of 32 of its rows, as for gemm_wide.cl, or in pairs, as for gemm_amx.cl (LAYOUT): one work-item, one
 * panel; two float16 sums for each row of x.
 * Rows of x beyond m repeat the last one and are not stored.
 *
 * build: -DROWS=1 -DLAYOUT=1
 * build: -DROWS=4 -DLAYOUT=3
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif

/* W's 32 elements of one k, times x. */
#define ADD(i, b_low, b_high)                                                                                        \
    {                                                                                                                \
        const float16 b0 = b_low, b1 = b_high;                                                                       \
        _Pragma("unroll") for (int r = 0; r < ROWS; r++) {                                                           \
            lo[r] += xr[r][i] * b0;                                                                                  \
            hi[r] += xr[r][i] * b1;                                                                                  \
        }                                                                                                            \
    }

/* Work: one work-item for each panel. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_wide(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
            uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    const int column = (int)get_group_id(0) * VLCI_PANEL;
    __global const w_t *panel = w + W_AT(column, 0, k);
    __global const float *xr[ROWS];
    float16 lo[ROWS], hi[ROWS];
    for (int r = 0; r < ROWS; r++) {
        xr[r] = x + (size_t)x_offset + (size_t)min(r, m - 1) * (size_t)k;
        lo[r] = 0.0f;
        hi[r] = 0.0f;
    }
#if LAYOUT == VLCI_LAYOUT_PAIRS
    __global const uint *pairs = (__global const uint *)panel;
    for (int i = 0; i < k; pairs += 32 * 16) { /* 16 pairs of the lower 16 rows, then of the upper */
        for (int p = 0; p < 16 && i + 1 < k; p++, i += 2) {
            const uint16 p0 = vload16(p, pairs), p1 = vload16(p + 16, pairs);
            ADD(i, as_float16(p0 << 16), as_float16(p1 << 16))
            ADD(i + 1, as_float16(p0 & 0xffff0000u), as_float16(p1 & 0xffff0000u))
        }
        if (i + 1 == k) { /* what its pair has beside it is padding, and x has nothing there */
            const int p = i % 32 / 2;
            ADD(i, as_float16(vload16(p, pairs) << 16), as_float16(vload16(p + 16, pairs) << 16))
            i++;
        }
    }
#else
    for (int i = 0; i < k; i++, panel += VLCI_PANEL) ADD(i, W_LOAD16(panel, 0), W_LOAD16(panel, 16))
#endif
    y += y_offset;
    for (int r = 0; r < ROWS && r < m; r++) {
        float sums[VLCI_PANEL];
        vstore16(lo[r], 0, sums);
        vstore16(hi[r], 1, sums);
        for (int c = 0; c < VLCI_PANEL && column + c < n; c++)
            put(sums[c], y + (size_t)r * (size_t)n, bias, column + c, act, accumulate);
    }
}
