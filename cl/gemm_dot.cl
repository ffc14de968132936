/*
 * gemm_dot.cl - y = act(x W^T + bias) (+ y) by products of pairs of bf16 (dot.clh), with sums in f32; x is rounded to bf16.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *   GATED: y[r][c] = act(gate[r][c]) * up[r][c]         c < n / 2, W = [gate | up], n / 2 a multiple of 16: 16 rows of a
 *   strip are gate's, 16 those of up that they gate
 *
 * W lies in rows (of up to three parts: w_row_of). A strip of it, 32 rows and DEPTH words of two neighbours, is turned by
 * 16 x 16 words, so that a vector has one word of each of 16 rows, before the tiles run over it; meanwhile what the next
 * strip is made of is asked for. A tile is 12 x 32 outputs, whose sums stay in registers:
 *
 *                  W: DEPTH x 32 words (stays in the first cache while the tiles run over it)
 *                  +----------------+----------------+
 *                  | 16 words       | 16 words       |  <- one word: two of k
 *   x: rows        +----------------+----------------+
 *   x[r][word] --> | acc[r][0]      | acc[r][1]      |  12 x 2 vectors of 512 bits
 *
 * A work-item has DOWN tiles below each other in each of ACROSS strips of W at most. DEPTH words of their x are rounded once
 * for all strips.
 *
 * Work: dimension 0 = strips and dimension 1 = tiles of rows, both cut into as many equal parts as there are work-items
 * along it, none larger than ACROSS or DOWN.
 *
 * with: wide.clh dot.clh
 * x86: vdpbf16ps -DW_DTYPE=3 -DDOT=1
 * build: -DW_DTYPE=3
 * build: -DW_DTYPE=3 -DGATED=1
 */
#ifndef GATED
#define GATED 0
#endif
#define DOWN   VLCI_GEMM_DOT_DOWN(DOT)
#define ACROSS VLCI_GEMM_DOT_ACROSS(DOT)
enum {
    DEPTH = DOT ? 96 : 16,
    ROWS = VLCI_GEMM_DOT_ROWS,
    OWN = GATED ? 16 : 32, /* columns of y of a strip */
    RUN = DEPTH + 16       /* words from row to row of x */
};

/* Sums of a tile, DEPTH words of its x, and of a strip of W. */
typedef struct {
    float16 sum[ROWS][2];
} tile_t;

typedef union {
    uint16 run[ROWS * RUN / 16];
    uint at[ROWS * RUN];
} x_t;

typedef struct {
    uint16 run[DEPTH][2];
} strip_t;

/* Rows of x from `row` on, n of k, rounded, zeros up to a whole vector; rows beyond the last repeat it, and are not stored. */
WITH_DOT void fetch(__global const float *x, int row, int m, int k, int n, x_t *to) {
    for (int r = 0; r < ROWS; r++) {
        __global const float *from = x + (size_t)min(row + r, m - 1) * (size_t)k;
        const int whole = n / 32;
        for (int i = 0; i < whole; i++) {
            const float16 low = vload16(2 * i, from), high = vload16(2 * i + 1, from);
            DOT_PACK(low, high, &to->run[r * (RUN / 16) + i])
        }
        if (whole * 32 < n) {
            float rest[32];
            for (int i = 0; i < 32; i++) rest[i] = whole * 32 + i < n ? from[whole * 32 + i] : 0.0f;
            const float16 low = vload16(0, rest), high = vload16(1, rest);
            DOT_PACK(low, high, &to->run[r * (RUN / 16) + whole])
        }
    }
}

/* Vector v of a strip, n of k, from 16 rows of W that lie k apart; rows beyond `last` repeat it. Zeros behind n, up to a
 * whole word. */
static inline void turn(__global const ushort *w, size_t k, int last, int n, int v, strip_t *strip) {
    __global const ushort *from[16];
    int i = 0;
#pragma unroll
    for (int r = 0; r < 16; r++) from[r] = w + (size_t)min(r, last) * k;
    for (; i + 32 <= n; i += 32) {
        uint16 a[16];
        TURN_WORDS(from, i, a)
#pragma unroll
        for (int r = 0; r < 16; r++) strip->run[i / 2 + r][v] = a[r];
    }
    for (; i < n; i += 2) {
        uint word[16];
        for (int r = 0; r < 16; r++) word[r] = from[r][i] | (i + 1 < n ? (uint)from[r][i + 1] << 16 : 0u);
        strip->run[i / 2][v] = vload16(0, word);
    }
}

/* Of a strip's rows that lie k apart, DEPTH words: the i-th line of the cache, the end of it, since the one before asked for
 * its beginning. */
enum { LINE = 32, LINES = 2 * DEPTH / LINE };
#define FETCH_LINE(w, i, k) FETCH_AHEAD((w) + (size_t)((i) / LINES) * (k) + (i) % LINES * LINE + LINE - 1)

/* n words further; with `ahead`, 16 rows of a strip from `next` on are asked for. */
WITH_DOT void multiply(const x_t *x, const strip_t *strip, int n, __global const ushort *next, size_t k, int ahead,
                       tile_t *tile) {
    float16 acc[ROWS][2];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int v = 0; v < 2; v++) acc[r][v] = tile->sum[r][v];
    for (int i = 0; i < n; i++) {
        const uint16 b0 = strip->run[i][0], b1 = strip->run[i][1];
        if (ahead) FETCH_LINE(next, i, k);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const uint16 a = (uint16)(x->at[r * RUN + i]);
            DOT_ADD(acc[r][0], a, b0);
            DOT_ADD(acc[r][1], a, b1);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int v = 0; v < 2; v++) tile->sum[r][v] = acc[r][v];
}

#define ROW(row) w_row_of(w, w1, w2, n0, n1, min(row, (n - 1) / 16 * 16), k)

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemm_dot(__global const ushort *restrict w, __global const ushort *restrict w1, __global const ushort *restrict w2, int n0,
         int n1, __global const float *restrict bias, __global const float *restrict x, uint x_offset,
         __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    tile_t tile[ACROSS][DOWN];
    x_t rows[DOWN];
    strip_t strip;
    int across, down;
    const int columns = GATED ? n / 2 : n, half_n = GATED ? columns : 16; /* from the first vector's rows to the second's */
    const int first = part_of((columns + OWN - 1) / OWN, (int)get_num_groups(0), (int)get_group_id(0), &across);
    const int top = part_of((m + ROWS - 1) / ROWS, (int)get_num_groups(1), (int)get_group_id(1), &down);
    for (int s = 0; s < across; s++)
        for (int t = 0; t < down; t++)
            for (int r = 0; r < ROWS; r++) tile[s][t].sum[r][0] = tile[s][t].sum[r][1] = 0.0f;
    for (int i = 0; i < k; i += 2 * DEPTH) {
        const int depth = min(2 * DEPTH, k - i), words = (depth + 1) / 2;
        for (int t = 0; t < down; t++) fetch(x + x_offset + i, (top + t) * ROWS, m, k, depth, rows + t);
        for (int s = 0; s < across; s++) {
            const int row = (first + s) * OWN, next = s + 1 < across;
            for (int v = 0; v < 2; v++)
                turn(ROW(row + v * half_n) + i, (size_t)k, max(n - 1 - row - v * half_n, 0), depth, v, &strip);
            for (int t = 0; t < down; t++) {
                const int then = (next ? row + OWN : first * OWN) + (t & 1) * half_n;
                multiply(rows + t, &strip, words, ROW(then) + (next ? i : i + 2 * DEPTH), (size_t)k, t < 2, &tile[s][t]);
            }
        }
    }
#pragma unroll 1 /* one copy of what the activations take */
    for (int i = 0; i < across * down * ROWS * (2 - GATED); i++) {
        const int v = i % (2 - GATED), s = i / (2 - GATED) % across, r = i / (2 - GATED) / across;
        const int row = top * ROWS + r, column = (first + s) * OWN + v * 16;
        if (row >= m || column >= columns) continue;
        const float16 *sum = tile[s][r / ROWS].sum[r % ROWS];
        __global float *to = y + (size_t)y_offset + (size_t)row * (size_t)columns + column;
#if GATED
        vstore16(activate16(sum[0], act) * sum[1], 0, to);
#else
        store16(sum[v], to, bias ? bias + column : bias, n - column, act, accumulate);
#endif
    }
}
