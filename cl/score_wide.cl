/*
 * score_wide.cl - score.cl for devices whose work-items are vector units (CPUs): same arguments, same results, no barrier.
 *
 *     One work-item owns WIDE_COLS = 16 columns of one kv head and one row block. Their keys stand transposed in private
 *     memory, so that one fused multiply-add serves one dimension of one query and all 16 columns:
 *
 *         keys[d] = 16 columns            dots[r] += q(t + r, d) * keys[d]        ROWS_WIDE queries share a load of keys[d]
 *
 * Columns of a cut-off tile repeat the last that any listed row sees, and are masked. The order of additions is fixed.
 * build: -DHEAD_DIM=64 -DHEADS=8 -DKV_HEADS=2
 * build: -DHEAD_DIM=128 -DHEADS=32 -DKV_HEADS=32
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef HEADS
#define HEADS 8
#endif
#ifndef KV_HEADS
#define KV_HEADS 8
#endif
#ifndef ROWS_WIDE
#define ROWS_WIDE 8 /* queries at a time: as many accumulators of 16 */
#endif
#ifndef ROW_BLOCK
#define ROW_BLOCK VLCI_SCORE_ROWS
#endif
#define GROUP (HEADS / KV_HEADS)
#define HELD_OR(t, row) (held ? held_0 + (t) : q_row + (row))
enum { WIDE_COLS = VLCI_SCORE_WIDE_COLUMNS };

static void load_keys(const kv_view *rows, int first, int columns, float *keys) {
    for (int c = 0; c < WIDE_COLS; c++) {
        const size_t at = kv_at(rows, first + min(c, columns - 1));
        for (int d = 0; d < HEAD_DIM; d++) keys[d * WIDE_COLS + c] = KV_LOAD(rows->k, at + d);
    }
}

static uint sum_counts(int16 c) { /* each lane holds minus its count */
    const int8 a = c.lo + HIGH8(int8, c);
    const int4 e = a.lo + a.hi;
    return (uint)-(e.x + e.y + e.z + e.w);
}

__kernel void score_wide(__global const float *q, uint q_offset, uint q_stride, int q_row, KV_POOL_PARAMS, __global const float *row_max,
                         __global const float *row_lse, __global const vlci_keep *keep, uint keep_at, int n, __global const int *listed,
                         int entry_0, int t_n, int held, int sees, __global float *sums, uint sums_at, uint score_stride, int blocks,
                         __global uint *partial, float scale, float log_p, float weight, int add) {
    const int tile = get_group_id(0), kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS, layer = get_group_id(2);
    const int head = layer * KV_HEADS + kv, held_0 = layer * held + entry_0;
    const kv_view rows = kv_nth(KV_POOL_PASS, head);
    listed += entry_0;
    const int column = tile * WIDE_COLS, first = keep[keep_at + head].before;
    const int until = column < n ? min((block + 1) * ROW_BLOCK, t_n) : 0;
    const int from = first_from(listed, block * ROW_BLOCK, until, column - sees);
    const int16 columns = column + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    float keys[HEAD_DIM * WIDE_COLS];
    float16 sum = 0.0f;
    if (from < until)
        load_keys(&rows, first + column, min(n, sees + (listed[until - 1] >> VLCI_ROW_SHIFT) + 1) - column, keys);
    for (int g = 0; g < GROUP; g++) {
        const int h = kv * GROUP + g;
        int16 count = 0;
        for (int t0 = from; t0 < until; t0 += ROWS_WIDE) {
            float16 dots[ROWS_WIDE];
            __global const float *query[ROWS_WIDE];
            for (int r = 0; r < ROWS_WIDE; r++) {
                const int t = min(t0 + r, until - 1);
                query[r] = q + q_offset + (size_t)HELD_OR(t, listed[t] >> VLCI_ROW_SHIFT) * q_stride + h * HEAD_DIM;
                dots[r] = 0.0f;
            }
            for (int d = 0; d < HEAD_DIM; d++) {
                const float16 key = vload16(d, keys);
                for (int r = 0; r < ROWS_WIDE; r++) dots[r] = fma((float16)query[r][d], key, dots[r]);
            }
            for (int r = 0; r < min((int)ROWS_WIDE, until - t0); r++) {
                const int entry = listed[t0 + r], row = entry >> VLCI_ROW_SHIFT;
                const size_t at = (size_t)HELD_OR(t0 + r, row) * HEADS + h;
                const int16 seen = (columns <= min(sees + row, n - 1));
                const float16 s = CAPPED(dots[r] * scale);
                if (entry & VLCI_ROW_COUNTED) count += seen & (s < row_max[at] + log_p);
                if (entry & VLCI_ROW_SCORED) sum += select((float16)0.0f, exp(s - row_lse[at]), seen);
            }
        }
        if (partial)
            partial[((size_t)(layer * HEADS + h) * blocks + block) * get_num_groups(0) + tile] = sum_counts(count);
    }
    if (column >= n) return;
    float out[WIDE_COLS];
    vstore16(sum, 0, out);
    __global float *to = sums + sums_at + ((size_t)block * KV_HEADS + head) * score_stride + column;
    for (int c = 0; c < min((int)WIDE_COLS, n - column); c++) to[c] = add ? to[c] + weight * out[c] : weight * out[c];
}
