/*
 * gemv_streams.cl - y = act(x W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups, and W lies in rows, as in a mapped file (of up to three parts: w_row_of).
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *
 * A work-item has 32 rows of W, in ABREAST stretches of memory that it reads side by side, each from row to row:
 *
 *   W row c          stream 0 --> k        row c + 8         stream 1 --> k      ...
 *     row c + 1      then this one           row c + 9       then this one
 *
 * A float16 sum for each row of x and stream, of which an output is what its 16 elements come to. Rows of x beyond m repeat the
 * last one and are not stored.
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef ABREAST
#define ABREAST (ROWS < 8 ? 4 : 2) /* at most 16 sums, which registers hold */
#endif
#ifndef AHEAD
#define AHEAD 256 /* elements of a stream: 512 bytes in 16 bits */
#endif
enum { STRETCH = VLCI_PANEL / ABREAST };

/* Work: one work-item for 32 rows of W. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_streams(__global const w_t *restrict w, __global const w_t *restrict w1, __global const w_t *restrict w2, int n0, int n1,
             __global const float *restrict bias, __global const float *restrict x, uint x_offset, __global float *restrict y,
             uint y_offset, int m, int n, int k, int act, int accumulate) {
    const int column = (int)get_group_id(0) * VLCI_PANEL, whole = k / 16 * 16;
    __global const float *xr[ROWS];
    for (int r = 0; r < ROWS; r++) xr[r] = x + (size_t)x_offset + (size_t)min(r, m - 1) * (size_t)k;
    y += y_offset;
    for (int j = 0; j < STRETCH; j++) {
        __global const w_t *from[ABREAST];
        float16 sum[ABREAST][ROWS];
#pragma unroll
        for (int s = 0; s < ABREAST; s++) {
            from[s] = w_row_of(w, w1, w2, n0, n1, min(column + s * STRETCH + j, n - 1), k);
#pragma unroll
            for (int r = 0; r < ROWS; r++) sum[s][r] = 0.0f;
        }
        for (int i = 0; i < whole; i += 16) {
            float16 part[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) part[r] = vload16(0, xr[r] + i);
#pragma unroll
            for (int s = 0; s < ABREAST; s++) {
                FETCH_AHEAD(from[s] + i + AHEAD);
                const float16 b = W_LOAD16(from[s], i);
#pragma unroll
                for (int r = 0; r < ROWS; r++) sum[s][r] += b * part[r];
            }
        }
#pragma unroll
        for (int s = 0; s < ABREAST; s++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const int c = column + s * STRETCH + j;
                float all = sum16(sum[s][r]);
                for (int i = whole; i < k; i++) all += W_LOAD(from[s], i) * xr[r][i];
                if (c < n && r < m) put(all, y + (size_t)r * (size_t)n, bias, c, act, accumulate);
            }
    }
}
