/*
 * score_mma.cl - score.cl's pass on the matrix units of NVIDIA's GPUs since sm_80, q rounded to 16 bits as attention_wgmma.cl
 * rounds it: the logits are those that row_max and row_lse were taken of.
 *
 *     s(t, h, j)       = scale * q(t, h) . k(h / GROUP, j)      the listed query rows t, the prompt's columns j, causal
 *     sums(x, kv, j)   = weight * sum over the scored t of row block x and over the heads h of group kv of exp(s - lse(t, h))
 *     partial(h, x, y) = number of counted (t, j) in row block x, columns of work-group y, with s < max(t, h) + log(p)
 *
 * A work-group takes some tiles of 128 columns of one kv head, 16 of each by each of its 8 warps, and all pairs (t, h) of a row
 * block: one decoded row is a pair for each head of the group, and all of them one product of 16 rows. Pairs stand in local
 * memory, 128 at a time; a warp's keys come straight from the pool into its registers, as the product wants them:
 *
 *     32 dimensions of a key   lane % 4 = x reads elements 8 x .. 8 x + 7, 16 bytes, of column lane / 4 of each 8:
 *                              elements 8 x + 2 m and the next are b of step m / 2, half m % 2
 *     the same of a pair       pairs of elements 4 x + m stand in place 4 m + x; of 16 dimensions at the end, 2 x + m in 4 m + x
 *
 * Sums of a column run over pairs in one order, then over lanes, then over the 128 pairs at a time: no atomics but of counts,
 * which are whole numbers.
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
    ITEMS = VLCI_SCORE_MMA_ITEMS,
    PAIRS = VLCI_SCORE_MMA_PAIRS,       /* at a time */
    PITCH = HEAD_DIM <= 64 ? 128 : 256, /* bytes of a pair in local memory, its runs of 8 swizzled */
    QUARTERS = HEAD_DIM / 4,
    STEPS = HEAD_DIM / 16,
    BLOCKS = COLUMNS / 64,                         /* of 8 columns, of a warp */
    AT_LOOKS = PAIRS * PITCH,           /* look_t [PAIRS] */
    AT_PLACES = AT_LOOKS + PAIRS * 16,  /* ulong [PAIRS]: where its query stands */
    AT_SUMS = AT_PLACES + PAIRS * 8,    /* f32 [VLCI_SCORE_MMA_TILES][COLUMNS] */
    AT_COUNTS = AT_SUMS + VLCI_SCORE_MMA_TILES * COLUMNS * 4 /* uint [GROUP] */
};

/* What a pair is looked at for: the last column that it scores and that it counts, -1: none. */
typedef struct __attribute__((aligned(16))) {
    int scored, counted;
    float lse, least; /* what is less than the latter is insignificant */
} look_t;

/* Where elements 2 `word` and the next of a pair stand, in words. */
PTX_CALL uint word_at(uint pair, uint word) {
    const uint in = word % 16, to = word / 16 * 16 + (word / 16 < HEAD_DIM / 32 ? (in & 3) * 4 + (in >> 2) : (in & 1) * 4 + (in >> 1));
    return pair * (PITCH / 4) + (((to >> 2) ^ (pair & 7)) << 2) + (to & 3);
}

/* 8 keys, of which this lane reads its share of one. */
PTX_CALL void read_keys(const kv_view *rows, int row, uint lane, uint b[STEPS][2]) {
    __global const ushort *key = (__global const ushort *)rows->k + kv_at(rows, row);
#pragma unroll
    for (int r = 0; r < HEAD_DIM / 32; r++) {
        const uint4 x = *(__global const uint4 *)(key + 32 * r + 8 * (lane & 3));
        b[2 * r][0] = x.x;
        b[2 * r][1] = x.y;
        b[2 * r + 1][0] = x.z;
        b[2 * r + 1][1] = x.w;
    }
#if HEAD_DIM % 32
    const uint2 x = *(__global const uint2 *)(key + HEAD_DIM / 32 * 32 + 4 * (lane & 3));
    b[STEPS - 1][0] = x.x;
    b[STEPS - 1][1] = x.y;
#endif
}

__attribute__((reqd_work_group_size(VLCI_SCORE_MMA_ITEMS, 1, 1))) __kernel void
score_mma(__global const float *q, uint q_offset, uint q_stride, int q_row, KV_POOL_PARAMS, __global const float *row_max,
          __global const float *row_lse, __global const vlci_keep *keep, uint keep_at, int n, __global const int *listed,
          int entry_0, int t_n, int held, int sees, __global float *sums, uint sums_at, uint score_stride, int blocks,
          __global uint *partial, float scale, float log_p, float weight, int add) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local uint *words = (__local uint *)smem;
    __local look_t *looks = (__local look_t *)(smem + AT_LOOKS);
    __local ulong *places = (__local ulong *)(smem + AT_PLACES);
    __local float *all_sums = (__local float *)(smem + AT_SUMS);
    __local uint *all_counts = (__local uint *)(smem + AT_COUNTS);
    const uint at = (uint)smem, item = ptx_item(), lane = item & 31, warp = item >> 5;
    const int kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS, groups = get_num_groups(0);
    const int layer = get_group_id(2), head = layer * KV_HEADS + kv, held_0 = layer * held + entry_0;
    const int tiles = ((n + COLUMNS - 1) / COLUMNS + groups - 1) / groups; /* VLCI_SCORE_MMA_TILES at most */
    const int column_0 = (int)get_group_id(0) * tiles * COLUMNS;
    const kv_view rows = kv_nth(KV_POOL_PASS, head);
    const int first = keep[keep_at + head].before, t_0 = block * VLCI_SCORE_ROWS, ts = min(VLCI_SCORE_ROWS, t_n - t_0), all = ts * GROUP;
    listed += entry_0 + t_0;
    const int there = min(n, sees + (listed[ts - 1] >> VLCI_ROW_SHIFT) + 1); /* columns any sees */

    for (int i = item; i < tiles * COLUMNS; i += ITEMS) all_sums[i] = 0.0f;
    for (int i = item; i < GROUP; i += ITEMS) all_counts[i] = 0;
    for (int pair_0 = 0; pair_0 < all && column_0 < there; pair_0 += PAIRS) {
        const int pairs = min((int)PAIRS, all - pair_0);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int p = item; p < PAIRS; p += ITEMS) {
            look_t look = {-1, -1, 0.0f, 0.0f};
            if (p < pairs) {
                const int t = (pair_0 + p) % ts, entry = listed[t], row = entry >> VLCI_ROW_SHIFT, h = kv * GROUP + (pair_0 + p) / ts;
                const size_t from = held ? held_0 + t_0 + t : q_row + row, of = from * HEADS + h;
                if (entry & VLCI_ROW_SCORED) look.scored = min(sees + row, n - 1);
                if (entry & VLCI_ROW_COUNTED) look.counted = min(sees + row, n - 1);
                look.lse = row_lse[of];
                look.least = row_max[of] + log_p;
                places[p] = q_offset + (ulong)from * q_stride + (ulong)h * HEAD_DIM;
            }
            looks[p] = look;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 4
        for (int i = item; i < PAIRS * QUARTERS; i += ITEMS) {
            const int p = i / QUARTERS, d = i % QUARTERS * 4;
            if (p >= pairs) continue;
            const float2 low = vload2(0, q + places[p] + d), high = vload2(1, q + places[p] + d);
            words[word_at(p, d / 2)] = ROUND(low.x, low.y);
            words[word_at(p, d / 2 + 1)] = ROUND(high.x, high.y);
        }
        barrier(CLK_LOCAL_MEM_FENCE);

        for (int tile = 0; tile < tiles; tile++) {
            const int own = tile * COLUMNS + (int)warp * 8 * BLOCKS, column = column_0 + own;
            if (column >= there) break;
            uint b[BLOCKS][STEPS][2];
            float column_sum[BLOCKS][2];
#pragma unroll
            for (int i = 0; i < BLOCKS; i++) {
                read_keys(&rows, first + min(column + 8 * i + (int)(lane >> 2), there - 1), lane, b[i]);
                column_sum[i][0] = column_sum[i][1] = 0.0f;
            }
            for (int p = 0; p < pairs; p += 16) {
                float s[BLOCKS][4];
#pragma unroll
                for (int i = 0; i < BLOCKS; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.0f;
                const uint pair = p + (lane & 15);
#pragma unroll
                for (uint d = 0; d < STEPS; d++) {
                    uint a[4];
                    PTX_LDMATRIX4(a, at + pair * PITCH + (((2 * d + (lane >> 4)) ^ (pair & 7)) << 4));
#pragma unroll
                    for (int i = 0; i < BLOCKS; i++) MMA(s[i], a, b[i][d][0], b[i][d][1]);
                }
                uint count[2] = {0, 0};
#pragma unroll
                for (int half_of = 0; half_of < 2; half_of++) { /* pairs lane / 4 and + 8 of the 16 */
                    const look_t look = looks[p + 8 * half_of + (lane >> 2)];
#pragma unroll
                    for (int i = 0; i < BLOCKS; i++)
#pragma unroll
                        for (int c = 0; c < 2; c++) {
                            const float value = s[i][2 * half_of + c] * scale;
                            const int j = column + 8 * i + (int)(lane & 3) * 2 + c;
                            count[half_of] += j <= look.counted & value < look.least;
                            column_sum[i][c] += j <= look.scored ? ptx_exp2((value - look.lse) * 1.44269504088896341f) : 0.0f;
                        }
                }
                if (!partial) continue;
#pragma unroll
                for (int half_of = 0; half_of < 2; half_of++) {
                    count[half_of] += ptx_butterfly_uint(count[half_of], 1);
                    count[half_of] += ptx_butterfly_uint(count[half_of], 2);
                    const int one = p + 8 * half_of + (int)(lane >> 2);
                    if ((lane & 3) == 0 && one < pairs) ptx_add_local((uint)(all_counts + (pair_0 + one) / ts), count[half_of]);
                }
            }
            /* lanes with the same columns: 4, 8 and 16 further */
#pragma unroll
            for (int i = 0; i < BLOCKS; i++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float sum = column_sum[i][c];
                    sum += ptx_butterfly(sum, 4);
                    sum += ptx_butterfly(sum, 8);
                    sum += ptx_butterfly(sum, 16);
                    if (lane < 4) all_sums[own + 8 * i + lane * 2 + c] += sum;
                }
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item; i < tiles * COLUMNS && column_0 + i < n; i += ITEMS) {
        const size_t to = sums_at + ((size_t)block * KV_HEADS + head) * score_stride + column_0 + i;
        sums[to] = add ? sums[to] + weight * all_sums[i] : weight * all_sums[i];
    }
    for (int i = item; partial && i < GROUP; i += ITEMS)
        partial[((size_t)(head * GROUP + i) * blocks + block) * groups + get_group_id(0)] = all_counts[i];
}
