/*
 * gemv.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode): W is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n;  W row-major [n][k]
 *   gated: y[r][c] = act(gate[r][c]) * up[r][c]         c < n / 2, W = [gate | up]
 *   with `norm`, x is RMSNorm(x): sum_k x[k] norm[k] W[c][k] / sqrt(mean_k x[k]^2 + eps), all in the one pass
 *   APPEND: y is [q | k | v] and goes on into the cache (rope.clh): q alone comes to lie in y, rotated
 *
 * A work-group of LANES work-items computes COLUMNS outputs of each row: neighbours, or half of them and what these gate, or
 * are rotated with, half a head further. Lane l takes the runs of 8 elements at l * 8, (l + LANES) * 8, ... of the COLUMNS rows
 * of W, then the lanes' partial sums meet in local memory:
 *
 *   W row c    |lane 0: 8|lane 1: 8| ... |lane 63: 8|lane 0: 8| ...
 *   W row c+1  |         |
 *
 * Rows of x beyond m repeat the last one and are not stored.
 *
 * with: rope.clh
 * build: -DROWS=1
 * build: -DROWS=2 -DALIGNED=1 -DAPPEND=1
 * build: -DROWS=8 -DALIGNED=1
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef LANES
#define LANES VLCI_GEMV_LANES /* work-items of a work-group; a power of two */
#endif
#define COLUMNS VLCI_GEMV_COLUMNS /* outputs of a work-group for each row: x is read once for all of them */
enum { HALF = COLUMNS / 2 };
#ifndef APPEND
#define APPEND 0 /* 1: heads of whole runs of COLUMNS */
#endif
#if APPEND
#define APPEND_PARAMS , ROPE_PARAMS
#else
#define APPEND_PARAMS
#endif
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

#if LANES == 1 /* a processor: it folds vectors at the end; elsewhere a number takes fewer registers */
#define SQUARES           float8
#define ADD_SQUARES(s, v) ((s) += (v) * (v))
#define ALL_SQUARES(s)    sum8(s)
#else
#define SQUARES           float
#define ADD_SQUARES(s, v) ((s) += sum8((v) * (v)))
#define ALL_SQUARES(s)    (s)
#endif

/* partial[lane] -> partial[0], for each of `sums` that lie LANES apart. */
static inline void reduce(__local float *partial, int sums, int lane) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_way = LANES / 2; half_way > 0; half_way /= 2) {
        if (lane < half_way)
            for (int s = 0; s < sums; s++) partial[s * LANES + lane] += partial[s * LANES + lane + half_way];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
gemv_rows(__global const w_t *restrict w, __global const float *restrict add, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int length, int act, int accumulate,
          __global const float *restrict norm, float eps, int gated APPEND_PARAMS) {
    __local float partial[VLCI_GEMV_LOCAL_FLOATS(ROWS, LANES)]; /* sums, [column][row of x]; behind them, the rows' squares */
    const int lane = (int)get_local_id(0), group = (int)get_group_id(0), runs = length / 8, columns = gated ? n / 2 : n;
#if APPEND
    const int half_dim = n / (heads + 2 * kv_heads) / 2, head = group * HALF / half_dim, first = group * HALF % half_dim;
    const int column = head * half_dim * 2 + first, apart = half_dim;
#else
    const int column = group * (gated ? HALF : COLUMNS), apart = gated ? columns : HALF;
#endif
    __global const w_t *row[COLUMNS];
    float8 acc[COLUMNS][ROWS];
    SQUARES squares[ROWS];
    for (int c = 0; c < COLUMNS; c++) row[c] = w + (size_t)min(column + c % HALF + c / HALF * apart, n - 1) * (size_t)length;
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLUMNS; c++) acc[c][r] = 0.0f;
        squares[r] = 0.0f;
    }
    x += x_offset;
    for (int run = lane; run < runs; run += LANES) {
        float8 wide[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) wide[c] = w_load8(row[c], (size_t)run * 8);
        const float8 by = norm ? x_load8(norm, (size_t)run * 8) : (float8)(1.0f);
        for (int r = 0; r < ROWS; r++) {
            float8 xr = x_load8(x, (size_t)min(r, m - 1) * (size_t)length + (size_t)run * 8);
            if (norm) {
                ADD_SQUARES(squares[r], xr);
                xr *= by;
            }
            for (int c = 0; c < COLUMNS; c++) acc[c][r] += wide[c] * xr;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        float sum[COLUMNS], square = ALL_SQUARES(squares[r]);
        for (int c = 0; c < COLUMNS; c++) sum[c] = sum8(acc[c][r]);
        for (int d = runs * 8 + lane; d < length; d += LANES) {
            const float v = x[(size_t)min(r, m - 1) * (size_t)length + (size_t)d], normed = norm ? v * norm[d] : v;
            square += v * v;
            for (int c = 0; c < COLUMNS; c++) sum[c] += W_LOAD(row[c], d) * normed;
        }
        for (int c = 0; c < COLUMNS; c++) partial[(c * ROWS + r) * LANES + lane] = sum[c];
        partial[(COLUMNS * ROWS + r) * LANES + lane] = square;
    }
    reduce(partial, norm ? (COLUMNS + 1) * ROWS : COLUMNS * ROWS, lane);
    for (int s = lane; s < (APPEND || gated ? HALF : COLUMNS) * ROWS; s += LANES) {
        const int c = column + s / ROWS, r = s % ROWS;
        if (c >= columns || r >= m) continue;
        const float scale = norm ? 1.0f / sqrt(partial[(COLUMNS * ROWS + r) * LANES] / (float)length + eps) : 1.0f;
        const float sum = partial[s * LANES] * scale;
        __global float *at = y + (size_t)y_offset + (size_t)r * (size_t)columns;
#if APPEND
        const float more = partial[(HALF * ROWS + s) * LANES] * scale;
        rope_put(add ? sum + add[c] : sum, add ? more + add[c + half_dim] : more, at, first + s / ROWS, head, r, half_dim,
                 ROPE_PASS);
#else
        if (gated)
            at[c] = activate(sum, act) * (partial[(HALF * ROWS + s) * LANES] * scale);
        else
            put(sum, at, add, c, act, accumulate);
#endif
    }
}
