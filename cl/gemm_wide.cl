/*
 * gemm_wide.cl - y = act(x W^T + bias) (+ y), for devices where one work-item with wide vectors beats work-groups.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *
 * W lies in panels of 32 of its rows (shared.h), or in rows of a mapped file (LAYOUT), of which a strip is turned by 16 x 16
 * elements before the tiles run over it, while what the next strip is made of is asked for. A tile is ROWS_A_TILE x
 * 16 VECTORS_A_TILE outputs, whose sums stay in registers while DEPTH of k are added; no barrier is needed:
 *
 *                 W: DEPTH x 32, as floats (stays in the first cache while the tiles run over it)
 *                 +----------------+----------------+
 *                 | float16        | float16        |  <- one k
 *   x: rows       +----------------+----------------+
 *   x[r][k] ----> | acc[r][0]      | acc[r][1]      |  12 x 2 vectors of 512 bits, or 6 x 1 of twice 256
 *
 * A work-item has DOWN tiles below each other in each of ACROSS strips of W at most, so that DEPTH of their x, fetched once
 * for all strips, lie side by side: rows of x that lie a power of two apart share few places of the first cache.
 *
 * Work: dimension 0 = strips (16 VECTORS_A_TILE columns) and dimension 1 = tiles of rows, both cut into as many equal parts
 * as there are work-items along it, none larger than ACROSS or DOWN.
 *
 * with: wide.clh
 * build: -DROWS_A_TILE=12 -DVECTORS_A_TILE=2 -DLAYOUT=1
 * build: -DROWS_A_TILE=6 -DVECTORS_A_TILE=1 -DLAYOUT=1
 * build: -DROWS_A_TILE=12 -DVECTORS_A_TILE=2 -DLAYOUT=0
 */
#ifndef ROWS_A_TILE
#define ROWS_A_TILE 12 /* 24 accumulators and 2 vectors of the panel fit 32 registers of 512 bits */
#endif
#ifndef VECTORS_A_TILE
#define VECTORS_A_TILE 2 /* 1: 6 rows make 12 accumulators of 256 bits, which fit 16 registers */
#endif
#ifndef DOWN
#define DOWN VLCI_GEMM_WIDE_DOWN
#endif
#define ACROSS VLCI_GEMM_WIDE_ACROSS
enum { DEPTH = 96, STRIP = 16 * VECTORS_A_TILE, RUN = DEPTH + 16 /* floats from row to row of x */ };

/* Sums of a tile, DEPTH of k of its x, and of a strip of W. */
typedef struct {
    float16 sum[ROWS_A_TILE][VECTORS_A_TILE];
} tile_t;

typedef union {
    float16 run[ROWS_A_TILE * RUN / 16];
    float at[ROWS_A_TILE][RUN];
} x_t;

typedef struct {
    float16 run[DEPTH][VECTORS_A_TILE];
} w_strip_t;

/* Rows of x from `row` on, n of k; rows beyond the last repeat it, and are not stored. */
static inline void fetch(__global const float *x, int row, int m, int k, int n, x_t *to) {
    for (int r = 0; r < ROWS_A_TILE; r++) {
        __global const float *from = x + (size_t)min(row + r, m - 1) * (size_t)k;
        const int whole = n / 16;
        for (int i = 0; i < whole; i++) to->run[r * (RUN / 16) + i] = vload16(i, from);
        for (int i = whole * 16; i < n; i++) to->at[r][i] = from[i];
    }
}

#if LAYOUT == VLCI_LAYOUT_ROWS
/* Vector v of a strip, n of k, from 16 rows of W that lie k apart; rows beyond `last` repeat it. Two neighbours of bf16 are
 * turned as one word. */
static inline void turn(__global const w_t *w, size_t k, int last, int n, int v, w_strip_t *strip) {
    __global const w_t *from[16];
    int i = 0;
#pragma unroll
    for (int r = 0; r < 16; r++) from[r] = w + (size_t)min(r, last) * k;
#if W_DTYPE == VLCI_DTYPE_BF16
    for (; i + 32 <= n; i += 32) {
        uint16 a[16];
        TURN_WORDS(from, i, a)
#pragma unroll
        for (int r = 0; r < 16; r++) {
            strip->run[i + 2 * r][v] = as_float16(a[r] << 16);
            strip->run[i + 2 * r + 1][v] = as_float16(a[r] & 0xffff0000u);
        }
    }
#endif
    for (; i + 16 <= n; i += 16) {
        float16 a[16], b[16];
#pragma unroll
        for (int r = 0; r < 16; r++) a[r] = W_LOAD16(from[r], i);
        TURN(float16, a, b)
#pragma unroll
        for (int r = 0; r < 16; r++) strip->run[i + r][v] = a[r];
    }
    for (; i < n; i++) {
        float column[16];
        for (int r = 0; r < 16; r++) column[r] = W_LOAD(from[r], i);
        strip->run[i][v] = vload16(0, column);
    }
}

/* Of a strip's rows that lie k apart, DEPTH of k: the i-th line of the cache, the end of it, since the one before asked for
 * its beginning. */
enum { LINE = 64 / sizeof(w_t), LINES = DEPTH / LINE };
#define FETCH_LINE(w, i, k) FETCH_AHEAD((w) + (size_t)((i) / LINES) * (k) + (i) % LINES * LINE + LINE - 1)
#endif

/* n of k further. With `fresh`, the strip is empty yet, and is filled from the panel on the way; of rows it is full, and lines
 * of the next strip's are asked for. */
static inline void multiply(const x_t *x, __global const w_t *w, size_t k, int fresh, int n, w_strip_t *strip, tile_t *tile) {
    float16 acc[ROWS_A_TILE][VECTORS_A_TILE];
#pragma unroll
    for (int r = 0; r < ROWS_A_TILE; r++)
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) acc[r][v] = tile->sum[r][v];
    for (int i = 0; i < n; i++) {
        float16 b[VECTORS_A_TILE];
#if LAYOUT == VLCI_LAYOUT_ROWS
        if (fresh) FETCH_LINE(w, i, k);
#endif
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) {
#if LAYOUT != VLCI_LAYOUT_ROWS
            if (fresh) strip->run[i][v] = W_LOAD16(w, i * VLCI_PANEL + v * 16);
#endif
            b[v] = strip->run[i][v];
        }
#pragma unroll
        for (int r = 0; r < ROWS_A_TILE; r++)
#pragma unroll
            for (int v = 0; v < VECTORS_A_TILE; v++) acc[r][v] += x->at[r][i] * b[v];
    }
#pragma unroll
    for (int r = 0; r < ROWS_A_TILE; r++)
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) tile->sum[r][v] = acc[r][v];
}

#if LAYOUT == VLCI_LAYOUT_ROWS
#define PARTS __global const w_t *restrict w1, __global const w_t *restrict w2, int n0, int n1,
#define ROW(row) w_row_of(w, w1, w2, n0, n1, min(row, (n - 1) / 16 * 16), k)
#else
#define PARTS
#endif

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemm_wide(__global const w_t *restrict w, PARTS __global const float *restrict bias, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    tile_t tile[ACROSS][DOWN];
    x_t rows[DOWN];
    w_strip_t strip;
    int across, down;
    const int first = part_of((n + STRIP - 1) / STRIP, (int)get_num_groups(0), (int)get_group_id(0), &across);
    const int top = part_of((m + ROWS_A_TILE - 1) / ROWS_A_TILE, (int)get_num_groups(1), (int)get_group_id(1), &down);
    for (int s = 0; s < across; s++)
        for (int t = 0; t < down; t++)
            for (int r = 0; r < ROWS_A_TILE; r++)
                for (int v = 0; v < VECTORS_A_TILE; v++) tile[s][t].sum[r][v] = 0.0f;
    for (int i = 0; i < k; i += DEPTH) {
        const int depth = min((int)DEPTH, k - i);
        for (int t = 0; t < down; t++) fetch(x + x_offset + i, (top + t) * ROWS_A_TILE, m, k, depth, rows + t);
        for (int s = 0; s < across; s++) {
#if LAYOUT == VLCI_LAYOUT_ROWS
            const int row = (first + s) * STRIP, next = s + 1 < across;
            for (int v = 0; v < VECTORS_A_TILE; v++)
                turn(ROW(row + v * 16) + i, (size_t)k, max(n - 1 - row - v * 16, 0), depth, v, &strip);
            __global const w_t *from = ROW(next ? row + STRIP : first * STRIP) + (next ? i : i + DEPTH);
#else
            __global const w_t *from = w + VLCI_PANEL_AT((first + s) * STRIP, i, k);
#endif
            multiply(rows, from, (size_t)k, 1, depth, &strip, &tile[s][0]);
            for (int t = 1; t < down; t++) multiply(rows + t, from, (size_t)k, 0, depth, &strip, &tile[s][t]);
        }
    }
#pragma unroll 1 /* one copy of what the activations take */
    for (int i = 0; i < across * down * ROWS_A_TILE * VECTORS_A_TILE; i++) {
        const int v = i % VECTORS_A_TILE, s = i / VECTORS_A_TILE % across, r = i / VECTORS_A_TILE / across;
        const int row = top * ROWS_A_TILE + r, column = (first + s) * STRIP + v * 16;
        if (row < m && column < n)
            store16(tile[s][r / ROWS_A_TILE].sum[r % ROWS_A_TILE][v], y + (size_t)y_offset + (size_t)row * (size_t)n + column,
                    bias ? bias + column : bias, n - column, act, accumulate);
    }
}
