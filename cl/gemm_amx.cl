/*
 * gemm_amx.cl - y = act(x W^T + bias) (+ y) on a processor's matrix unit; W bf16 or f16, x bf16, sums in f32.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *
 * W lies in pairs, x in tiles (shared.h). f16 lies in panels, as gemv_wide reads it, and is multiplied as two of bf16 which
 * together it is to the bit: the upper 8 bits of each number, and the rest (an infinite x, times a rest of 0, is NaN). A tile is
 * 32 x 32 outputs: two by two registers, to which 32 of k are added at a time by four multiplications that read four registers:
 *
 *                 W: 16 pairs of k x 32 columns
 *                 +--------------+--------------+
 *                 | low          | high         |
 *   x: 32 rows    +--------------+--------------+
 *   16 x 32 k --> | 16 x 16 sums | 16 x 16      |
 *   16 x 32 k --> | 16 x 16      | 16 x 16      |
 *                 +--------------+--------------+
 *
 * A work-item has up to DOWN tiles below each other and ACROSS side by side, whose x and W the second cache holds, of longer
 * k DEPTH at a time. Neighbouring work-items have the same panels of W.
 *
 * OUT 0: y is f32 rows. 1: y is tiles. 2: gated, tiles: a tile has 16 columns of gate (low) and those of up that they gate
 * (high); y[r][c] = act(gate[r][c]) * up[r][c], W = [gate | up], n / 2 a multiple of 64.
 * AMX 0: the same without the unit, on any device: what it is held against.
 *
 * to_tiles: f32 rows -> tiles, with zeros behind k.
 *
 * Work: gemm_amx: dimension 0 = tiles of rows, 1 = tiles of columns, each cut into as many equal parts as there are
 * work-items; to_tiles: 32 rows.
 *
 * with: amx.clh
 * x86: tdpbf16ps -DW_DTYPE=3 -DAMX=1 -DOUT=0 -DACT=0
 * x86: tdpbf16ps -DW_DTYPE=3 -DAMX=1 -DOUT=2 -DACT=1
 * x86: tdpbf16ps -DW_DTYPE=2 -DAMX=1 -DOUT=0 -DACT=0
 * build: -DW_DTYPE=3 -DOUT=0 -DACT=0
 * build: -DW_DTYPE=3 -DOUT=1 -DACT=4
 * build: -DW_DTYPE=3 -DOUT=2 -DACT=1
 * build: -DW_DTYPE=2 -DOUT=0 -DACT=1
 */
#ifndef OUT
#define OUT 0
#endif
#ifndef ACT
#define ACT VLCI_ACT_NONE
#endif
#define DOWN   VLCI_GEMM_AMX_DOWN(AMX)
#define ACROSS VLCI_GEMM_AMX_ACROSS(AMX)
#define HALVES (W_DTYPE == VLCI_DTYPE_F16)
enum {
    SIDE = VLCI_TILE,
    DEPTH = !HALVES ? 4096 : AMX ? 512 : SIDE /* whose strips a GPU's private memory holds */,
    COLUMNS = OUT == 2 ? SIDE / 2 : SIDE /* that a tile of outputs has */
};

DEFINE_ACTIVATE(activate16, float16)

/* Sums of a tile: rows of two vectors. */
typedef union {
    float16 run[2 * SIDE];
    float at[SIDE * SIDE];
} tile_t;

#if HALVES
AMX_DEFINE(amx_multiply, __global, __private, AMX_FETCH)

/* DEPTH of k of 32 columns, as the unit reads them: upper bits, and the rest. */
typedef struct {
    uint16 upper[DEPTH / SIDE][2][SIDE / 2], rest[DEPTH / SIDE][2][SIDE / 2];
} strip_t;

/* steps x 32 of k from `first` on of the panel w. */
static void split(__global const w_t *w, int first, int steps, int k, strip_t *to) {
    for (int pair = 0; pair < steps * SIDE / 2; pair++) {
        const int i = first + 2 * pair;
        for (int half_way = 0; half_way < 2; half_way++) {
            const uint at = half_way * (SIDE / 2);
            const float16 a = i < k ? W_LOAD16(w + (size_t)i * SIDE, at) : (float16)(0.0f);
            const float16 b = i + 1 < k ? W_LOAD16(w + (size_t)(i + 1) * SIDE, at) : (float16)(0.0f);
            const uint16 low = as_uint16(a), high = as_uint16(b) & 0xffff0000u;
            const uint16 more = as_uint16(a - as_float16(low & 0xffff0000u)), most = as_uint16(b - as_float16(high));
            to->upper[pair / 16][half_way][pair % 16] = low >> 16 | high;
            to->rest[pair / 16][half_way][pair % 16] = more >> 16 | (most & 0xffff0000u);
        }
    }
}
#else
AMX_DEFINE(amx_multiply, __global, __global, AMX_FETCH)
#endif

/* 16 outputs of row r from column c on, `count` of which there are. */
static inline void store(float16 v, __global uchar *y, uint y_offset, __global const float *bias, int r, int c, int n,
                         int accumulate) {
    const int count = n - c;
    float part[16];
#if OUT < 2
    if (bias && count >= 16) v += vload16(0, bias + c);
    if (bias && count < 16) {
        vstore16(v, 0, part);
        for (int i = 0; i < count; i++) part[i] += bias[c + i];
        v = vload16(0, part);
    }
    v = activate16(v, ACT);
#endif
#if OUT == 0
    __global float *to = (__global float *)y + y_offset + (size_t)r * n + c;
    if (count >= 16) {
        vstore16(accumulate ? v + vload16(0, to) : v, 0, to);
    } else {
        vstore16(v, 0, part);
        for (int i = 0; i < count; i++) to[i] = accumulate ? to[i] + part[i] : part[i];
    }
#else
    if (count < 16) { /* zeros behind the last */
        vstore16(v, 0, part);
        for (int i = max(count, 0); i < 16; i++) part[i] = 0.0f;
        v = vload16(0, part);
    }
    vstore16(f32_to_bf16_16(v), 0, (__global ushort *)y + VLCI_TILE_AT(r, c, n));
#endif
}

/* One of `parts` equal parts of n things: the first of them, and how many there are. */
static inline int part_of(int n, int parts, int i, int *count) {
    const int each = (n + parts - 1) / parts;
    *count = clamp(n - i * each, 0, each);
    return i * each;
}

/* A tile's outputs, from row `top` and column c of y on. */
static inline void finish(const tile_t *tile, __global uchar *y, uint y_offset, __global const float *bias, int top, int c,
                          int m, int n, int accumulate) {
    for (int i = 0; i < min((int)SIDE, m - top); i++) {
#if OUT == 2
        store(activate16(tile->run[2 * i], ACT) * tile->run[2 * i + 1], y, y_offset, bias, top + i, c, n / 2, accumulate);
#else
        store(tile->run[2 * i], y, y_offset, bias, top + i, c, n, accumulate);
        if (OUT || c + SIDE / 2 < n)
            store(tile->run[2 * i + 1], y, y_offset, bias, top + i, c + SIDE / 2, n, accumulate);
#endif
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemm_amx(__global const w_t *restrict w, __global const float *restrict bias, __global const ushort *restrict x,
         __global uchar *restrict y, uint y_offset, int m, int n, int k, int accumulate) {
    tile_t tile[DOWN][ACROSS];
    int across, down;
    const int columns = OUT == 2 ? n / 2 : n, steps = (k + SIDE - 1) / SIDE;
    const int first = part_of((columns + COLUMNS - 1) / COLUMNS, (int)get_num_groups(1), (int)get_group_id(1), &across);
    const int top = part_of((m + SIDE - 1) / SIDE, (int)get_num_groups(0), (int)get_group_id(0), &down);
    if (across == 0 || down == 0) return;
    amx_begin(amx_shapes);
#if HALVES
    strip_t strip;
    for (int step = 0; step < steps; step += DEPTH / SIDE)
        for (int s = 0; s < across; s++) {
            const int c = (first + s) * COLUMNS, more = min(steps - step, DEPTH / SIDE);
            split(w + VLCI_PANEL_AT(c, 0, k), step * SIDE, more, k, &strip);
            for (int t = 0; t < down; t++) {
                const int r = (top + t) * SIDE;
                __global const ushort *from = x + VLCI_TILE_AT(r, step * SIDE, k);
                float *sums = tile[t][s].at;
                amx_multiply(from, strip.upper[0][0], strip.upper[0][1], (ulong)more, step == 0, sums);
                amx_multiply(from, strip.rest[0][0], strip.rest[0][1], (ulong)more, 0, sums);
                if (step + more >= steps) finish(&tile[t][s], y, y_offset, bias, r, c, m, n, accumulate);
            }
        }
#else
    const bool once = steps <= DEPTH / SIDE;
    for (int step = 0; step < steps; step += DEPTH / SIDE)
        for (int t = 0; t < down; t++)
            for (int s = 0; s < across; s++) {
                const int r = (top + t) * SIDE, c = (first + s) * COLUMNS;
                tile_t *sums = once ? &tile[0][0] : &tile[t][s]; /* which the first cache holds */
                amx_multiply(x + VLCI_TILE_AT(r, step * SIDE, k), w + VLCI_PAIR_AT(c, step * SIDE, k),
                             w + VLCI_PAIR_AT(OUT == 2 ? columns + c : c + SIDE / 2, step * SIDE, k),
                             (ulong)min(steps - step, DEPTH / SIDE), step == 0, sums->at);
                if (step + DEPTH / SIDE >= steps) finish(sums, y, y_offset, bias, r, c, m, n, accumulate);
            }
#endif
    amx_end();
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
to_tiles(__global const float *restrict x, uint x_offset, __global ushort *restrict y, uint m, uint k) {
    const uint top = get_group_id(0) * SIDE, rows = min((uint)SIDE, m - top);
    for (uint i = 0; i < k; i += SIDE)
        for (uint r = 0; r < rows; r++) {
            __global const float *from = x + (size_t)x_offset + (size_t)(top + r) * k + i;
            __global ushort *to = y + VLCI_TILE_AT(top + r, i, k);
            if (k - i >= SIDE) {
                vstore16(f32_to_bf16_16(vload16(0, from)), 0, to);
                vstore16(f32_to_bf16_16(vload16(1, from)), 1, to);
            } else {
                for (uint j = 0; j < SIDE; j++) to[j] = i + j < k ? f32_to_bf16(from[j]) : (ushort)0;
            }
        }
}
