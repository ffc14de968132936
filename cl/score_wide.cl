/*
 * score_wide.cl - score.cl for devices whose work-items are vector units (CPUs): same arguments, same results, no barrier.
 *
 *     One work-item owns WIDE_COLS = 16 columns of one kv head and one row block. Their keys stand transposed in private
 *     memory, so that one fused multiply-add serves one dimension of one query and all 16 columns:
 *
 *         keys[d] = 16 columns            dots[r] += q(t + r, d) * keys[d]        ROWS_WIDE queries share a load of keys[d]
 *
 * Columns of a cut-off tile repeat the prompt's last one and are masked. The order of additions is fixed.
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
#define ROW_BLOCK 128
#endif
#define GROUP (HEADS / KV_HEADS)
enum { WIDE_COLS = 16 };

static void load_keys(__global const kv_t *k, size_t at, uint row_stride, int columns, float *keys) {
    for (int c = 0; c < WIDE_COLS; c++) {
        const size_t row = at + (size_t)min(c, columns - 1) * row_stride;
        for (int d = 0; d < HEAD_DIM; d++) keys[d * WIDE_COLS + c] = KV_LOAD(k, row + d);
    }
}

static uint sum_counts(int16 c) { /* each lane holds minus its count */
    const int8 a = c.lo + HIGH8(int8, c);
    const int4 e = a.lo + a.hi;
    return (uint)-(e.x + e.y + e.z + e.w);
}

__kernel void score_wide(__global const float *q, uint q_offset, uint q_stride, __global const kv_t *k, uint k_offset,
                         uint seq_stride, uint head_stride, uint row_stride, __global const float *row_max,
                         __global const float *row_lse, __global const int *seq_start, __global const int *past,
                         int past_offset, __global const int *before, int before_offset, __global const int *tokens,
                         __global const int *listed, __global const int *starts, int starts_offset, __global float *sums,
                         uint score_stride, int blocks, __global uint *partial, float scale, float log_p) {
    const int tile = get_group_id(0), b = get_group_id(2);
    const int kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS;
    const int listed_from = starts[starts_offset + b], t_n = starts[starts_offset + b + 1] - listed_from;
    __global const int *list = listed + listed_from;
    const int n = tokens[b], column = tile * WIDE_COLS, first = before[before_offset + b * KV_HEADS + kv];
    const int sees = (past ? past[past_offset + b * KV_HEADS + kv] : 0) - first;
    const size_t row0 = (size_t)seq_start[b];
    const int until = column < n ? min((block + 1) * ROW_BLOCK, t_n) : 0;
    const int from = first_from(list, block * ROW_BLOCK, until, column - sees);
    const int16 columns = column + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    float keys[HEAD_DIM * WIDE_COLS];
    float16 sum = 0.0f;
    if (from < until)
        load_keys(k, k_offset + (size_t)b * seq_stride + (size_t)kv * head_stride + (size_t)(first + column) * row_stride,
                  row_stride, n - column, keys);
    for (int g = 0; g < GROUP; g++) {
        const int h = kv * GROUP + g;
        int16 count = 0;
        for (int t0 = from; t0 < until; t0 += ROWS_WIDE) {
            float16 dots[ROWS_WIDE];
            __global const float *query[ROWS_WIDE];
            for (int r = 0; r < ROWS_WIDE; r++) {
                query[r] = q + q_offset + (row0 + list[min(t0 + r, until - 1)] / 4) * q_stride + h * HEAD_DIM;
                dots[r] = 0.0f;
            }
            for (int d = 0; d < HEAD_DIM; d++) {
                const float16 key = vload16(d, keys);
                for (int r = 0; r < ROWS_WIDE; r++) dots[r] = fma((float16)query[r][d], key, dots[r]);
            }
            for (int r = 0; r < min((int)ROWS_WIDE, until - t0); r++) {
                const int entry = list[t0 + r], row = entry / 4;
                const size_t at = (row0 + row) * HEADS + h;
                const int16 seen = (columns <= min(sees + row, n - 1));
                const float16 s = dots[r] * scale;
                if (entry & 2) count += seen & (s < row_max[at] + log_p);
                if (entry & 1) sum += select((float16)0.0f, exp(s - row_lse[at]), seen);
            }
        }
        if (partial)
            partial[(((size_t)b * HEADS + h) * blocks + block) * get_num_groups(0) + tile] = sum_counts(count);
    }
    if (column >= n) return;
    float out[WIDE_COLS];
    vstore16(sum, 0, out);
    __global float *to = sums + (((size_t)block * get_num_groups(2) + b) * KV_HEADS + kv) * score_stride + column;
    for (int c = 0; c < min((int)WIDE_COLS, n - column); c++) to[c] = out[c];
}
