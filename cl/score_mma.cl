/*
 * score_mma.cl - score.cl's pass on the matrix units of NVIDIA's GPUs since sm_80, q rounded to 16 bits as attention_wgmma.cl
 * rounds it: the logits are those that row_max and row_lse were taken of.
 *
 *     s(t, h, j)       = scale * q(t, h) . k(h / GROUP, j)      the listed query rows t, the prompt's columns j, causal
 *     sums(x, kv, j)   = weight * sum over the scored t of row block x and over the heads h of group kv of exp(s - lse(t, h))
 *     partial(h, x, y) = number of counted (t, j) in row block x, column tile y with s < max(t, h) + log(p)
 *
 * A work-group of 8 warps takes 128 columns of one kv head, whose keys lie in local memory once, and 128 listed rows of each
 * head of the group after another; a warp has 16 of the rows. A work-item keeps the sums of its 32 columns in registers, in one
 * order: no atomics.
 *
 *     listed t  warp w: rows 16 w ..     S: 16 x 128 of a warp, of a lane rows g = lane / 4 and g + 8,
 *                                        columns 8 i + 2 (lane % 4) and the next
 *
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=32 -DKV_HEADS=8
 * ptx: sm_80 -DHEAD_DIM=64 -DKV_DTYPE=2 -DHEADS=8 -DKV_HEADS=8
 * ptx: sm_89 -DHEAD_DIM=80 -DKV_DTYPE=3 -DHEADS=4 -DKV_HEADS=1
 */
#ifndef HEAD_DIM
#define HEAD_DIM 128 /* a multiple of 16, at most 128 */
#endif
#ifndef HEADS
#define HEADS 8
#endif
#ifndef KV_HEADS
#define KV_HEADS 8
#endif
#if KV_DTYPE == VLCI_DTYPE_F16
#define MMA(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
#define ROUND(a, b)       ptx_f16x2(to_f16_range(a), to_f16_range(b))
#else
#define MMA(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#define ROUND(a, b)       ptx_bf16x2(a, b)
#endif

enum {
    GROUP = HEADS / KV_HEADS,
    COLUMNS = VLCI_SCORE_MMA_COLUMNS,
    PITCH = HEAD_DIM <= 64 ? 128 : 256, /* bytes of a key in local memory, its runs of 8 swizzled */
    RUNS = HEAD_DIM / 8,
    STEPS = HEAD_DIM / 16,
    KEY_BYTES = COLUMNS * PITCH,
    AT_SUMS = KEY_BYTES,                /* f32 [8 warps][COLUMNS] */
    AT_COUNTS = AT_SUMS + 8 * COLUMNS * 4
};

/* What becomes of one logit of a listed row: its count, and its share of the column's sum. */
#define LOOK(value, entry, most, lse, column)                                                                        \
    {                                                                                                                \
        const float s_ = (value) * scale;                                                                            \
        if (((entry) != 0) & ((column) <= sees + ((entry) >> VLCI_ROW_SHIFT)) & ((column) < n)) {                    \
            if ((entry)&VLCI_ROW_COUNTED) count += s_ < (most) + log_p;                                              \
            if ((entry)&VLCI_ROW_SCORED) share += ptx_exp2((s_ - (lse)) * 1.44269504088896341f);                     \
        }                                                                                                            \
    }

__attribute__((reqd_work_group_size(VLCI_SCORE_MMA_ITEMS, 1, 1))) __kernel void
score_mma(__global const float *q, uint q_offset, uint q_stride, int q_row, KV_POOL_PARAMS, __global const float *row_max,
          __global const float *row_lse, __global const vlci_keep *keep, uint keep_at, int n, __global const int *listed,
          int entry_0, int t_n, int sees, __global float *sums, uint sums_at, uint score_stride, int blocks,
          __global uint *partial, float scale, float log_p, float weight, int add) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float *all_sums = (__local float *)(smem + AT_SUMS);
    __local uint *all_counts = (__local uint *)(smem + AT_COUNTS);
    const uint at = (uint)smem, item = ptx_item(), lane = item & 31, warp = item >> 5;
    const int tile = get_group_id(0), kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS;
    const kv_view rows = kv_nth(KV_POOL_PASS, kv);
    listed += entry_0;
    const int first = keep[keep_at + kv].before, column_0 = tile * COLUMNS;
    const int until = min((block + 1) * VLCI_SCORE_ROWS, t_n);
    const int there = column_0 < n ? min(n, sees + (listed[until - 1] >> VLCI_ROW_SHIFT) + 1) : 0; /* columns any sees */

    for (int i = item; i < COLUMNS * RUNS; i += VLCI_SCORE_MMA_ITEMS) {
        const int j = i / RUNS, run = i % RUNS;
        const bool inside = column_0 + j < there;
        __global const kv_t *key = rows.k + (inside ? kv_at(&rows, first + column_0 + j) + run * 8 : 0);
        ptx_copy16(at + j * PITCH + ((run ^ (j & 7)) << 4), (__global const uchar *)key, inside ? 16 : 0);
    }
    __asm__ volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;\n\tbar.sync 0;" ::: "memory");

    const int t0 = block * VLCI_SCORE_ROWS + (int)warp * 16, low = t0 + (int)(lane >> 2), high = low + 8;
    const int entry0 = low < until ? listed[low] : 0, entry1 = high < until ? listed[high] : 0;
    /* a warp none of whose rows is there, or sees the tile, has nothing to do */
    const int last = min(t0 + 16, until) - 1;
    const bool busy = t0 < until && column_0 < there && column_0 <= sees + (listed[max(last, 0)] >> VLCI_ROW_SHIFT);
    float column_sum[COLUMNS / 8][2];
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; i++) column_sum[i][0] = column_sum[i][1] = 0.0f;
    for (int g = 0; g < GROUP; g++) {
        const int h = kv * GROUP + g;
        uint count = 0;
        if (busy) {
            const size_t at0 = (size_t)(q_row + (entry0 >> VLCI_ROW_SHIFT)), at1 = (size_t)(q_row + (entry1 >> VLCI_ROW_SHIFT));
            __global const float *q0 = q + q_offset + at0 * q_stride + h * HEAD_DIM + (lane & 3) * 2;
            __global const float *q1 = q + q_offset + at1 * q_stride + h * HEAD_DIM + (lane & 3) * 2;
            uint a[STEPS][4];
#pragma unroll
            for (int d = 0; d < STEPS; d++) {
                const float2 x0 = entry0 ? vload2(0, q0 + 16 * d) : (float2)(0.0f), x1 = entry1 ? vload2(0, q1 + 16 * d) : (float2)(0.0f);
                const float2 x2 = entry0 ? vload2(0, q0 + 16 * d + 8) : (float2)(0.0f),
                             x3 = entry1 ? vload2(0, q1 + 16 * d + 8) : (float2)(0.0f);
                a[d][0] = ROUND(x0.x, x0.y);
                a[d][1] = ROUND(x1.x, x1.y);
                a[d][2] = ROUND(x2.x, x2.y);
                a[d][3] = ROUND(x3.x, x3.y);
            }
            const float max0 = row_max[at0 * HEADS + h], max1 = row_max[at1 * HEADS + h];
            const float lse0 = row_lse[at0 * HEADS + h], lse1 = row_lse[at1 * HEADS + h];
#pragma unroll
            for (int i = 0; i < COLUMNS / 16; i++) { /* 16 columns at a time */
                float s[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
                /* lanes 0-7 address keys 0-7 of the first run of 8, 8-15 of the second, 16-31 the same of keys 8-15 */
                const uint key = 16 * i + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
                for (int d = 0; d < STEPS; d++) {
                    uint b[4];
                    PTX_LDMATRIX4(b, at + key * PITCH + (((2 * d + (lane >> 3 & 1)) ^ (key & 7)) << 4));
                    MMA(s[0], a[d], b[0], b[1]);
                    MMA(s[1], a[d], b[2], b[3]);
                }
#pragma unroll
                for (int e = 0; e < 2; e++)
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        const int column = column_0 + 16 * i + 8 * e + (int)(lane & 3) * 2 + c;
                        float share = 0.0f;
                        LOOK(s[e][c], entry0, max0, lse0, column)
                        LOOK(s[e][2 + c], entry1, max1, lse1, column)
                        column_sum[2 * i + e][c] += share;
                    }
            }
        }
        if (!partial) continue;
#pragma unroll
        for (int step = 16; step; step /= 2) count += ptx_butterfly_uint(count, step);
        if (lane == 0) all_counts[g * 8 + warp] = count;
    }
    /* lanes with the same columns: 4, 8 and 16 further */
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; i++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            float sum = column_sum[i][c];
            sum += ptx_butterfly(sum, 4);
            sum += ptx_butterfly(sum, 8);
            sum += ptx_butterfly(sum, 16);
            if (lane < 4) all_sums[warp * COLUMNS + 8 * i + lane * 2 + c] = sum;
        }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < COLUMNS && column_0 + (int)item < n) {
        float sum = 0.0f;
        for (int w = 0; w < 8; w++) sum += all_sums[w * COLUMNS + item];
        const size_t to = sums_at + ((size_t)block * KV_HEADS + kv) * score_stride + column_0 + item;
        sums[to] = add ? sums[to] + weight * sum : weight * sum;
    }
    if (partial && item < GROUP) {
        uint count = 0;
        for (int w = 0; w < 8; w++) count += all_counts[item * 8 + w];
        partial[((size_t)(kv * GROUP + item) * blocks + block) * get_num_groups(0) + tile] = count;
    }
}
