/*
 * gemv.cl - y = act(x W^T + bias) (+ y) for few rows of x (decode): W is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n;  W row-major [n][k]
 *
 * A work-group of LANES work-items computes COLUMNS neighbouring outputs of each row. Lane l takes the runs of 8 elements
 * at l * 8, (l + LANES) * 8, ... of the COLUMNS rows of W, then the lanes' partial sums meet in local memory:
 *
 *   W row c    |lane 0: 8|lane 1: 8| ... |lane 63: 8|lane 0: 8| ...
 *   W row c+1  |         |
 *
 * Rows of x beyond m repeat the last one and are not stored.
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef LANES
#define LANES VLCI_GEMV_LANES /* work-items of a work-group; a power of two */
#endif
#define COLUMNS VLCI_GEMV_COLUMNS /* outputs of a work-group for each row: x is read once for all of them */
#ifndef ALIGNED
#define ALIGNED 0 /* 1: k and x_offset are multiples of 8, so that runs of 8 elements may be read 16 bytes at a time */
#endif

/* 8 elements of W and of x from element i on. */
#if !ALIGNED
static inline float8 w_load8(__global const w_t *p, size_t i) { return W_LOAD8(p, i); }
static inline float8 x_load8(__global const float *p, size_t i) { return vload8(0, p + i); }
#else
static inline float8 w_load8(__global const w_t *p, size_t i) { return W_RUN(p + i); }
static inline float8 x_load8(__global const float *p, size_t i) { return f32_run(p + i); }
#endif

/* partial[lane] -> partial[0], for each of the COLUMNS * ROWS sums that lie LANES apart. */
static inline void reduce(__local float *partial, int lane) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_way = LANES / 2; half_way > 0; half_way /= 2) {
        if (lane < half_way)
            for (int s = 0; s < COLUMNS * ROWS; s++) partial[s * LANES + lane] += partial[s * LANES + lane + half_way];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
gemv_rows(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    __local float partial[VLCI_GEMV_LOCAL_FLOATS(ROWS, LANES)];
    const int lane = (int)get_local_id(0), column = (int)get_group_id(0) * COLUMNS, runs = k / 8;
    float8 acc[COLUMNS][ROWS];
    for (int c = 0; c < COLUMNS; c++)
        for (int r = 0; r < ROWS; r++) acc[c][r] = 0.0f;
    x += x_offset;
    for (int run = lane; run < runs; run += LANES) {
        float8 wide[COLUMNS];
        for (int c = 0; c < COLUMNS; c++)
            wide[c] = w_load8(w, (size_t)min(column + c, n - 1) * (size_t)k + (size_t)run * 8);
        for (int r = 0; r < ROWS; r++) {
            const float8 xr = x_load8(x, (size_t)min(r, m - 1) * (size_t)k + (size_t)run * 8);
            for (int c = 0; c < COLUMNS; c++) acc[c][r] += wide[c] * xr;
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        __global const w_t *wc = w + (size_t)min(column + c, n - 1) * (size_t)k;
        for (int r = 0; r < ROWS; r++) {
            float sum = sum8(acc[c][r]);
            for (int d = runs * 8 + lane; d < k; d += LANES)
                sum += W_LOAD(wc, d) * x[(size_t)min(r, m - 1) * (size_t)k + (size_t)d];
            partial[(c * ROWS + r) * LANES + lane] = sum;
        }
    }
    reduce(partial, lane);
    for (int s = lane; s < COLUMNS * ROWS; s += LANES) {
        const int c = column + s / ROWS, r = s % ROWS;
        if (c < n && r < m) put(partial[s * LANES], y + (size_t)y_offset + (size_t)r * (size_t)n, bias, c, act, accumulate);
    }
}
