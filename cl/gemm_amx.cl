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
 * A work-item has up to DOWN tiles below each other and ACROSS side by side, DEPTH of k at a time: so much of 32 rows of W
 * stays in the first cache while x goes past it, all of that x in the second, where the next of W comes meanwhile.
 *
 * OUT 0: y is f32 rows. 1: y is tiles. 2: gated, tiles: W = [gate | up], y[r][c] = act(gate[r][c]) * up[r][c], n / 2 a multiple
 * of 64; a tile of gate and one of up make one of y.
 * AMX 0: the same without the unit, on any device: what it is held against.
 *
 * to_tiles: f32 rows -> tiles, with zeros behind k.
 *
 * Work: gemm_amx: dimension 0 = tiles of rows, 1 = tiles of columns, each cut into as many equal parts as there are
 * work-items; to_tiles: 32 rows.
 *
 * with: amx.clh wide.clh
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
#define HALVES (W_DTYPE == VLCI_DTYPE_F16)
enum {
    SIDE = VLCI_TILE,
    DEPTH = !HALVES ? 512 : AMX ? 512 : SIDE /* whose strips a GPU's private memory holds */,
    DOWN = VLCI_GEMM_AMX_DOWN(AMX),
    ACROSS = VLCI_GEMM_AMX_ACROSS(AMX),
    WAYS = OUT == 2 ? 2 : 1 /* tiles of W that make one of outputs */
};

/* 1 / (1 + e^-z) */
static inline float16 logistic(float16 z) {
    const float16 e = exp_below(-fabs(z));
    return select(e, (float16)(1.0f), z > 0.0f) / (1.0f + e);
}

/* activate16, but for the library's exp, which would take longer than the product. */
static inline float16 acted(float16 x) {
    switch (ACT) {
    case VLCI_ACT_SILU: return x * logistic(x);
    case VLCI_ACT_GELU_TANH: return x * logistic(1.5957691216057308f * (x + 0.044715f * x * x * x));
    case VLCI_ACT_QUICK_GELU: return x * logistic(1.702f * x);
    default: return activate16(x, ACT);
    }
}

/* Sums of a tile: rows of two vectors. */
typedef union {
    float16 run[2 * SIDE];
    float at[SIDE * SIDE];
} tile_t;

#if HALVES
AMX_DEFINE(amx_multiply, __global, __private, AMX_PAST, AMX_ALONE)

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
AMX_DEFINE(amx_multiply, __global, __global, AMX_PAST, AMX_NEXT)
#endif

/* 32 of 16 bits, which lie on a boundary of 64 bytes. */
static inline void store32(float16 a, float16 b, __global ushort *to) {
    *(__global uint16 *)to = (uint16)(as_uint8(f32_to_bf16_16(a)), as_uint8(f32_to_bf16_16(b)));
}

/* The first `count` of v as 16 are. */
static inline float16 first_of(float16 v, int count) {
    const int16 at = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return select((float16)(0.0f), v, at < count);
}

static inline float16 bias_at(__global const float *bias, int c, int n) {
    float part[16];
    if (!bias || c >= n) return 0.0f;
    if (c + 16 <= n) return vload16(0, bias + c);
    for (int i = 0; i < 16; i++) part[i] = c + i < n ? bias[c + i] : 0.0f;
    return vload16(0, part);
}

/* Up to 16 outputs, which may be added to what is there. */
static inline void put16(float16 v, __global float *to, int count, int accumulate) {
    float part[16];
    if (count >= 16) {
        vstore16(accumulate ? v + vload16(0, to) : v, 0, to);
    } else {
        vstore16(v, 0, part);
        for (int i = 0; i < count; i++) to[i] = accumulate ? to[i] + part[i] : part[i];
    }
}

/* Outputs of a tile, from row `top` and column c of y on. */
static inline void finish(const tile_t *tile, __global uchar *y, uint y_offset, __global const float *bias, int top, int c,
                          int m, int n, int accumulate) {
    const float16 bias0 = bias_at(bias, c, n), bias1 = bias_at(bias, c + SIDE / 2, n);
    const int rows = min((int)SIDE, m - top);
    for (int i = 0; i < rows; i++) {
        float16 v0 = acted(tile->run[2 * i] + bias0), v1 = acted(tile->run[2 * i + 1] + bias1);
#if OUT == 2
        v0 *= tile[1].run[2 * i];
        v1 *= tile[1].run[2 * i + 1];
#endif
#if OUT == 0
        __global float *to = (__global float *)y + y_offset + (size_t)(top + i) * n + c;
        put16(v0, to, n - c, accumulate);
        put16(v1, to + 16, n - c - 16, accumulate);
#else
        if (c + SIDE > n) { /* zeros behind the last */
            v0 = first_of(v0, n - c);
            v1 = first_of(v1, n - c - 16);
        }
        store32(v0, v1, (__global ushort *)y + VLCI_TILE_AT(top, c, n) + i * SIDE);
#endif
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemm_amx(__global const w_t *restrict w, __global const float *restrict bias, __global const ushort *restrict x,
         __global uchar *restrict y, uint y_offset, int m, int n, int k, int accumulate) {
    tile_t tile[DOWN][ACROSS];
    int across, down;
    const int columns = n / WAYS, steps = (k + SIDE - 1) / SIDE;
    const int first = part_of((columns + SIDE - 1) / SIDE, (int)get_num_groups(1), (int)get_group_id(1), &across);
    const int top = part_of((m + SIDE - 1) / SIDE, (int)get_num_groups(0), (int)get_group_id(0), &down);
    if (across == 0 || down == 0) return;
    amx_begin(amx_shapes);
#if HALVES
    strip_t strip;
#endif
    for (int step = 0; step < steps; step += DEPTH / SIDE)
        for (int s = 0; s < across * WAYS; s++) {
            const int c = (first + s / WAYS) * SIDE, more = min(steps - step, DEPTH / SIDE);
            const int from = s % WAYS * columns + c; /* row of W */
#if HALVES
            split(w + VLCI_PANEL_AT(from, 0, k), step * SIDE, more, k, &strip);
#else
            __global const w_t *panel = w + VLCI_PAIR_AT(from, step * SIDE, k);
            const int s1 = (s + 1) % (across * WAYS), step1 = s1 ? step : min(step + DEPTH / SIDE, steps - 1);
            __global const w_t *next = w + VLCI_PAIR_AT(s1 % WAYS * columns + (first + s1 / WAYS) * SIDE, step1 * SIDE, k);
#endif
            for (int t = 0; t < down; t++) {
                const int r = (top + t) * SIDE;
                __global const ushort *rows = x + VLCI_TILE_AT(r, step * SIDE, k);
                float *sums = tile[t][s].at;
#if HALVES
                amx_multiply(rows, strip.upper[0][0], strip.upper[0][1], (ulong)more, step == 0, sums, 0);
                amx_multiply(rows, strip.rest[0][0], strip.rest[0][1], (ulong)more, 0, sums, 0);
#else
                amx_multiply(rows, panel, panel + SIDE * SIDE / 2, (ulong)more, step == 0, sums, next);
                next += 128 * more;
#endif
                if (step + more >= steps && s % WAYS == WAYS - 1)
                    finish(&tile[t][s + 1 - WAYS], y, y_offset, bias, r, c, m, columns, accumulate);
            }
        }
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
                store32(vload16(0, from), vload16(1, from), to);
            } else {
                for (uint j = 0; j < SIDE; j++) to[j] = i + j < k ? f32_to_bf16(from[j]) : (ushort)0;
            }
        }
}
