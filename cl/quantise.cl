/*
 * quantise.cl - rows of a layer's kv heads -> few bits a number, as lib/kv/quants.h lays them out.
 *
 *     zero  = min of the group, rounded down to f16        scale = (max - zero) / (2^bits - 1), rounded up to f16
 *     code  = round((x - zero) / scale) from 0 to 2^bits - 1
 *
 * keys: a group is `group` rows of one channel; values: `group` channels of one row. The rows are those from keep[..].before
 * on: kept ones, and centroids behind them. bad[2 head], bad[2 head + 1]: set where keys or values are beyond f16.
 *
 * Heads i of a launch are head[head_at + i], of whose layers all are neighbours.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 16, at most VLCI_CODE_DIM_MAX */
#endif
enum { BLOCK = VLCI_CODE_ROWS };

/* What a number of a group stands for. */
typedef struct {
    float zero, scale;
} range_t;

/* Of numbers from low to high, as they are kept. */
static inline range_t range_of(float low, float high, int bits, __global half *scale, __global half *zero) {
    range_t r;
    vstore_half_rtn(low, 0, zero);
    r.zero = vload_half(0, zero);
    vstore_half_rtp((high - r.zero) / (float)((1 << bits) - 1), 0, scale);
    r.scale = vload_half(0, scale);
    return r;
}

static inline uint code_of(float x, range_t r, int bits) {
    const float code = r.scale > 0.0f ? rint((x - r.zero) / r.scale) : 0.0f;
    return (uint)clamp(code, 0.0f, (float)((1 << bits) - 1));
}

static inline int is_bad(float x) { return !(fabs(x) <= 65504.0f); }

/* Codes of dimension d of a block of rows. */
static inline void put_codes(__global uint *block, int d, int bits, const uint *code) {
    const int low = bits == 3 ? 2 : bits, words = low / 2, each = 32 / low;
    for (int w = 0; w < words; w++) {
        uint word = 0;
        for (int r = 0; r < each; r++) word |= (code[w * each + r] & ((1u << low) - 1u)) << (r * low);
        block[d * words + w] = word;
    }
    if (bits == 3) {
        uint third = 0;
        for (int r = 0; r < BLOCK; r++) third |= code[r] >> 2 << r;
        ((__global ushort *)(block + HEAD_DIM))[d] = (ushort)third;
    }
}

/* Work-item (d, group of rows, head). */
__kernel void quantise_keys(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const vlci_quant_head *head,
                            uint head_at, int group, int bits, __global uint *words, __global half *scale, __global int *bad) {
    const int d = get_global_id(0), g = get_global_id(1), i = get_global_id(2);
    const vlci_quant_head own = head[head_at + i];
    const int from = g * group, until = min(from + group, own.rows), before = keep[keep_at + i].before;
    if (d >= HEAD_DIM || from >= until) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, i);
    float low = INFINITY, high = -INFINITY;
    int wrong = 0;
    for (int j = from; j < until; j++) {
        const float x = KV_LOAD(rows.k, kv_at(&rows, before + j) + d);
        low = fmin(low, x);
        high = fmax(high, x);
        wrong |= is_bad(x);
    }
    if (wrong) atomic_or(bad + 2 * (head_at + i), 1);
    scale += ((size_t)own.group + g) * 2 * HEAD_DIM + d;
    const range_t range = range_of(low, high, bits, scale, scale + HEAD_DIM);
    for (int j0 = from; j0 < until; j0 += BLOCK) {
        uint code[BLOCK];
        for (int r = 0; r < BLOCK; r++)
            code[r] = j0 + r < until ? code_of(KV_LOAD(rows.k, kv_at(&rows, before + j0 + r) + d), range, bits) : 0u;
        put_codes(words + ((size_t)own.block + j0 / BLOCK) * VLCI_QUANT_WORDS(bits, HEAD_DIM), d, bits, code);
    }
}

/* Scale and zero of group g of row r of block b of all heads. */
static inline __global half *value_scale_at(__global half *scale, size_t b, int groups, int g, int r) {
    return scale + ((b * groups + g) * 2) * BLOCK + r;
}

/* Work-item (row, group of channels, head): scales and zeros, and once a row its bias; rows behind the last, up to a whole
 * block, have none. bias NULL: no rows have. */
__kernel void quantise_ranges(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at,
                              __global const vlci_quant_head *head, uint head_at, int group, int bits, __global half *scale,
                              __global half *biases, __global int *bad) {
    const int j = get_global_id(0), g = get_global_id(1), i = get_global_id(2), groups = (HEAD_DIM + group - 1) / group;
    const vlci_quant_head own = head[head_at + i];
    if (g >= groups || j >= (own.rows + BLOCK - 1) / BLOCK * BLOCK) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, i);
    const size_t b = (size_t)own.block + j / BLOCK;
    const int row = keep[keep_at + i].before + j, until = min((g + 1) * group, (int)HEAD_DIM);
    float low = INFINITY, high = -INFINITY;
    int wrong = 0;
    for (int d = g * group; d < until && j < own.rows; d++) {
        const float x = KV_LOAD(rows.v, kv_at(&rows, row) + d);
        low = fmin(low, x);
        high = fmax(high, x);
        wrong |= is_bad(x);
    }
    if (wrong) atomic_or(bad + 2 * (head_at + i) + 1, 1);
    if (j >= own.rows) low = high = 0.0f;
    scale = value_scale_at(scale, b, groups, g, j % BLOCK);
    range_of(low, high, bits, scale, scale + BLOCK);
    if (biases && g == 0) vstore_half_rte(j < own.rows ? kv_bias(&rows, row) : 0.0f, b * BLOCK + j % BLOCK, biases);
}

/* Work-item (d, block, head). */
__kernel void quantise_values(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at,
                              __global const vlci_quant_head *head, uint head_at, int group, int bits, __global uint *words,
                              __global half *scale) {
    const int d = get_global_id(0), b = get_global_id(1), i = get_global_id(2), groups = (HEAD_DIM + group - 1) / group;
    const vlci_quant_head own = head[head_at + i];
    if (d >= HEAD_DIM || b * BLOCK >= own.rows) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, i);
    uint code[BLOCK];
    for (int r = 0; r < BLOCK; r++) {
        __global const half *at = value_scale_at(scale, (size_t)own.block + b, groups, d / group, r);
        const range_t range = {vload_half(BLOCK, at), vload_half(0, at)};
        const int j = b * BLOCK + r;
        code[r] =
            j < own.rows ? code_of(KV_LOAD(rows.v, kv_at(&rows, keep[keep_at + i].before + j) + d), range, bits) : 0u;
    }
    put_codes(words + ((size_t)own.block + b) * VLCI_QUANT_WORDS(bits, HEAD_DIM), d, bits, code);
}
