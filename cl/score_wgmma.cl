/*
 * score_wgmma.cl - score.cl's sums, without its counts, of many rows on Hopper's matrix units; q rounded as attention_wgmma.cl
 * rounds it.
 *
 *     s(j, p)        = k(j) . q(p)                     the columns j of a work-group, pairs p of a listed row and a head
 *     sums(x, kv, j) = weight * sum over the pairs of row block x that are scored and see j of 2^(c s(j, p) - off(p))
 *
 *     c = scale log2 e    off = log-sum-exp log2 e, infinite where a pair is not scored
 *
 * A work-group, 384 work-items, has COLUMNS columns of a kv head, which stay in local memory, and walks over a row block's pairs:
 *
 *     warpgroups 0, 1   half of the columns each, 64 at a time: keys are rows of a product, so that a column's sum stays in one
 *                       work-item. They take turns: one's products are on their way while the other makes powers
 *     warpgroup 2       brings PAIRS pairs at a time, a row's heads side by side, and what is known of them
 *
 * Rows ascend in the list: tiles that see none of the columns come first, and are passed over; those that all see all of a
 * product's columns need no mask. Sums of a column run over pairs in one order, then over 4 lanes.
 *
 * Work: dimension 0 = columns / COLUMNS, 1 = kv heads * row blocks, all of them but the last of as many rows. What scores are
 * for, and what is not said here, is in score.cl. q_offset and q_stride are multiples of 4.
 *
 * with: logits_wgmma.clh
 * ptx: sm_90a -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=32 -DKV_HEADS=8
 * ptx: sm_90a -DHEAD_DIM=64 -DKV_DTYPE=2 -DHEADS=8 -DKV_HEADS=8
 * ptx: sm_90a -DHEAD_DIM=80 -DKV_DTYPE=3 -DHEADS=4 -DKV_HEADS=1
 * ptx: sm_90a -DHEAD_DIM=96 -DKV_DTYPE=3 -DHEADS=14 -DKV_HEADS=2
 */
#ifndef HEAD_DIM
#define HEAD_DIM 128 /* 64, 80, 96 or 128 */
#endif
#ifndef HEADS
#define HEADS 8
#endif
#ifndef KV_HEADS
#define KV_HEADS 8
#endif
#define LOG2E 1.44269504088896340736f

enum {
    GROUP = HEADS / KV_HEADS,
    COLUMNS = VLCI_SCORE_WGMMA_COLUMNS,
    PAIRS = VLCI_SCORE_WGMMA_PAIRS,
    BUFFERS = VLCI_SCORE_WGMMA_BUFFERS,
    BLOCKS = COLUMNS / 128,                   /* of 64 columns, of a warpgroup: an even number */
    RUNS = HEAD_DIM / 8,
    HALVES = (HEAD_DIM + 63) / 64,            /* blocks of 64 dimensions: [HALVES][rows][128 bytes] */
    KEYS_BYTES = 64 * 128 * HALVES,           /* of 64 columns */
    TILE = PAIRS * 128 * HALVES,
    AT_Q = COLUMNS / 64 * KEYS_BYTES,
    AT_OFF = AT_Q + BUFFERS * TILE,           /* f32 [BUFFERS][PAIRS]: -off */
    AT_LAST = AT_OFF + BUFFERS * PAIRS * 4,   /* int, the same: the last column that a pair sees */
    AT_LEAST = AT_LAST + BUFFERS * PAIRS * 4, /* int [BUFFERS][4]: of 32 pairs the least of these */
    AT_PLACES = AT_LEAST + BUFFERS * 16,      /* ulong [2][PAIRS]: where a query stands */
    AT_BARRIERS = AT_PLACES + 2 * PAIRS * 8,  /* full and empty */
    BRINGERS = 128,
    IN_FLIGHT = RUNS < 12 ? RUNS : 12,
    LOADED = 3, BROUGHT = 4                   /* barriers: of all that multiply, of all that bring; 1 and 2 are of turns */
};

/* ---- bringing ---- */

/* Columns column .. column + COLUMNS - 1, by all that multiply; behind the last that is seen, that one again. */
PTX_CALL void bring_keys(uint to, const kv_view *rows, int first, int column, int there, uint item) {
#pragma unroll 4
    for (uint i = item; i < COLUMNS * RUNS; i += 256) {
        const uint key = i / RUNS, run = i % RUNS;
        __global const ushort *at = (__global const ushort *)rows->k + kv_at(rows, first + min(column + (int)key, there - 1));
        ptx_copy16_all(to + key / 64 * KEYS_BYTES + run / 8 * 8192 + SWIZZLED(key % 64, run % 8),
                       (__global const uchar *)(at + run * 8));
    }
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(0);
    PTX_PROXY_FENCE();
    ptx_sync(LOADED, 256);
}

/* A tile's queries, of which `pairs` are there, the others zeros; IN_FLIGHT runs of a bringer are on their way. */
PTX_CALL void bring_queries(uint to, __global const float *q, __local const ulong *places, int pairs, uint e) {
    float4 low[IN_FLIGHT], high[IN_FLIGHT];
#pragma unroll
    for (uint u = 0; u < RUNS + IN_FLIGHT; u++) {
        const uint slot = u % IN_FLIGHT, i = u * BRINGERS + e, pair = i / RUNS;
        if (u >= IN_FLIGHT) {
            const uint was = i - IN_FLIGHT * BRINGERS, row = was / RUNS, run = was % RUNS;
            store_rounded(to + run / 8 * (PAIRS * 128) + SWIZZLED(row, run % 8), low[slot], high[slot]);
        }
        if (u >= RUNS) continue;
        low[slot] = high[slot] = 0.0f;
        if ((int)pair < pairs) {
            __global const float4 *at = (__global const float4 *)(q + places[pair] + i % RUNS * 8);
            low[slot] = at[0];
            high[slot] = at[1];
        }
    }
}

/* ---- multiplying ---- */

/* A work-item has of its warp's 16 columns g = item / 4 % 8 and g + 8, and of pairs 8 i + 2 (item % 4) and the next: s[4 i] and
 * s[4 i + 1] of column g, s[4 i + 2] and s[4 i + 3] of column g + 8. */
PTX_CALL void mask(float s[PAIRS / 2], __local const int2 *last, int column) {
#pragma unroll
    for (int i = 0; i < PAIRS / 8; i++) {
        const int2 until = last[4 * i];
        s[4 * i] = column <= until.x ? s[4 * i] : -INFINITY;
        s[4 * i + 1] = column <= until.y ? s[4 * i + 1] : -INFINITY;
        s[4 * i + 2] = column + 8 <= until.x ? s[4 * i + 2] : -INFINITY;
        s[4 * i + 3] = column + 8 <= until.y ? s[4 * i + 3] : -INFINITY;
    }
}

PTX_CALL void add_powers(const float s[PAIRS / 2], __local const float2 *off, float c, float sum[2]) {
    float a = 0.0f, b = 0.0f, a1 = 0.0f, b1 = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS / 8; i++) {
        const float2 x = off[4 * i];
        a += ptx_exp2(ptx_fma(s[4 * i], c, x.x));
        a1 += ptx_exp2(ptx_fma(s[4 * i + 1], c, x.y));
        b += ptx_exp2(ptx_fma(s[4 * i + 2], c, x.x));
        b1 += ptx_exp2(ptx_fma(s[4 * i + 3], c, x.y));
    }
    sum[0] += a + a1;
    sum[1] += b + b1;
}

__attribute__((reqd_work_group_size(VLCI_SCORE_WGMMA_ITEMS, 1, 1))) __kernel void
score_wgmma(__global const float *q, uint q_offset, uint q_stride, int q_row, KV_POOL_PARAMS, __global const float *row_max,
            __global const float *row_lse, __global const vlci_keep *keep, uint keep_at, int n, __global const int *listed,
            int entry_0, int t_n, int held, int sees, __global float *sums, uint sums_at, uint score_stride, int blocks,
            __global uint *partial, float scale, float log_p, float weight, int add) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    const uint at = (uint)smem, item = ptx_item(), lane = item & 31;
    const uint full = at + AT_BARRIERS, empty = full + 8 * BUFFERS;
    const int kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS;
    const int column_0 = (int)get_group_id(0) * COLUMNS, rows_each = (t_n + blocks - 1) / blocks, t_0 = block * rows_each;
    const int ts = min(rows_each, t_n - t_0), pairs = ts * GROUP;
    const int tiles = (pairs + PAIRS - 1) / PAIRS;
    listed += entry_0 + t_0;
    const int there = min(n, sees + (listed[ts - 1] >> VLCI_ROW_SHIFT) + 1); /* columns any sees */
    int first = column_0 < there ? 0 : tiles;
#pragma unroll 4
    for (int i = 0; i < tiles; i++)
        first += i == first && sees + (listed[(min(pairs, (i + 1) * (int)PAIRS) - 1) / GROUP] >> VLCI_ROW_SHIFT) < column_0;
    if (item == 0) {
        for (uint i = 0; i < BUFFERS; i++) {
            ptx_barrier_init(full + 8 * i, BRINGERS);
            ptx_barrier_init(empty + 8 * i, 8); /* a work-item of each warp that reads */
        }
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    ptx_sync(0, VLCI_SCORE_WGMMA_ITEMS);

    if (item >= 256) { /* ---- brings ---- */
        const uint e = item - 256;
        ring_t ring = {0, 1, BUFFERS};
        int coming = listed[min((first * (int)PAIRS + (int)e) / GROUP, ts - 1)];
#pragma unroll 1
        for (int tile = first; tile < tiles; tile++) {
            const int p = tile * PAIRS + (int)e, entry = coming, row = entry >> VLCI_ROW_SHIFT;
            const size_t from = q_row + row, h = kv * GROUP + p % GROUP;
            __local ulong *places = (__local ulong *)(smem + AT_PLACES) + tile % 2 * PAIRS;
            const int scored = p < pairs && (entry & VLCI_ROW_SCORED);
            const float off = scored ? -LOG2E * row_lse[from * HEADS + h] : -INFINITY;
            const int last = scored ? min(sees + row, n - 1) : INT_MAX, least = (int)ptx_least((uint)last);
            coming = listed[min((p + (int)PAIRS) / GROUP, ts - 1)];
            places[e] = q_offset + from * q_stride + h * HEAD_DIM;
            ptx_barrier_wait(empty + 8 * ring.at, ring.phase);
            ((__local float *)(smem + AT_OFF))[ring.at * PAIRS + e] = off;
            ((__local int *)(smem + AT_LAST))[ring.at * PAIRS + e] = last;
            if (lane == 0) ((__local int *)(smem + AT_LEAST))[ring.at * 4 + e / 32] = least;
            ptx_sync(BROUGHT, BRINGERS);
            bring_queries(at + AT_Q + ring.at * TILE, q, places, pairs - tile * PAIRS, e);
            PTX_PROXY_FENCE();
            ptx_barrier_arrive(full + 8 * ring.at);
            advance(&ring);
        }
        return;
    }

    /* ---- multiplies ---- */
    const int head = (int)get_group_id(2) * KV_HEADS + kv;
    const kv_view rows = kv_nth(KV_POOL_PASS, head);
    const uint wg = item >> 7, keys = at + wg * BLOCKS * KEYS_BYTES;
    const int own = column_0 + (int)(wg * BLOCKS * 64 + (item >> 5 & 3) * 16 + (lane >> 2)); /* this item's first column */
    const float c = scale * LOG2E;
    float sum[BLOCKS][2];
#pragma unroll
    for (int i = 0; i < BLOCKS; i++) sum[i][0] = sum[i][1] = 0.0f;
    ring_t ring = {0, 0, BUFFERS};
    if (wg) ptx_arrive(1, 256);
    if (first < tiles) bring_keys(at, &rows, keep[keep_at + head].before, column_0, there, item);
#pragma unroll 1
    for (int tile = first; tile < tiles; tile++) {
        __local const int *least_of = (__local const int *)(smem + AT_LEAST) + ring.at * 4;
        __local const float2 *off_of = (__local const float2 *)(smem + AT_OFF + ring.at * PAIRS * 4) + (lane & 3);
        __local const int2 *last_of = (__local const int2 *)(smem + AT_LAST + ring.at * PAIRS * 4) + (lane & 3);
        const uint queries = at + AT_Q + ring.at * TILE;
        float s[PAIRS / 2], s1[PAIRS / 2];
        wait_full(full, &ring);
        const int least = min(min(least_of[0], least_of[1]), min(least_of[2], least_of[3]));
        const int unmasked = least - (column_0 + (int)wg * BLOCKS * 64 + 63); /* below 64 i: some do not see all of block i */
#pragma unroll
        for (int i = 0; i < BLOCKS; i += 2) {
            TURN();
            PTX_WGMMA_FENCE();
            QK(s, PTX_TILE_ROWS(keys + i * KEYS_BYTES), PTX_TILE_ROWS(queries));
            PTX_WGMMA_COMMIT();
            QK(s1, PTX_TILE_ROWS(keys + (i + 1) * KEYS_BYTES), PTX_TILE_ROWS(queries));
            PTX_WGMMA_COMMIT();
            PASS();
            PTX_WGMMA_WAIT(1);
            hold(s, PAIRS / 2);
            if (unmasked < 64 * i) mask(s, last_of, own + 64 * i);
            add_powers(s, off_of, c, sum[i]);
            PTX_WGMMA_WAIT(0);
            hold(s1, PAIRS / 2);
            if (unmasked < 64 * (i + 1)) mask(s1, last_of, own + 64 * (i + 1));
            add_powers(s1, off_of, c, sum[i + 1]);
        }
        release(empty, &ring);
    }
#pragma unroll
    for (int i = 0; i < 2 * BLOCKS; i++) {
        float all = sum[i / 2][i % 2];
        all += ptx_butterfly(all, 1);
        all += ptx_butterfly(all, 2);
        const int column = own + i / 2 * 64 + i % 2 * 8;
        if ((lane & 3) == 0 && column < n) {
            const size_t to = sums_at + ((size_t)block * KV_HEADS + head) * score_stride + column;
            sums[to] = add ? sums[to] + weight * all : weight * all;
        }
    }
}
