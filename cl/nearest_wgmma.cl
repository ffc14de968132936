/*
 * nearest_wgmma.cl - nearest_mma.cl for rounds of many seeds, on Hopper's matrix units: same arguments, same results but for
 * the order of sums. laid: the rows' squared norms, which nearest_mma.cl leaves there with the first seed.
 *
 *     rows of a work-group   2048, in tiles of 64 that its 4 warpgroups take in turn; a tile's keys come while the one before
 *                            is multiplied
 *     seeds                  all of a round, up to 256, stay in local memory: blocks of 128
 *
 *     near   [64 rows][128 seeds] of a warpgroup, sums that begin with the seed's norm: nearest_mma.cl
 *
 * Local memory holds rows of 64 elements, 128 bytes, swizzled: run c of 8 elements of row r in place c ^ (r & 7).
 *
 * ptx: sm_90a -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_90a -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 128 /* 64 or 128 */
#endif
#define SEEDS 128 /* of a block */
#if KV_DTYPE == VLCI_DTYPE_F16
#define TYPE "f16"
#else
#define TYPE "bf16"
#endif
enum { GROUP = VLCI_NEAREST_WGMMA_GROUP, WARPGROUPS = GROUP / 128, ROWS = VLCI_NEAREST_WGMMA_ROWS, TILE = 64 };
enum { RUNS = HEAD_DIM / 8, HALVES = HEAD_DIM / 64, BLOCKS = VLCI_SPREAD_SEEDS / SEEDS, MINE = 2 };
enum {
    BLOCK_BYTES = SEEDS * HEAD_DIM * 2,            /* of seeds: [HALVES][SEEDS][128 bytes] */
    TILE_BYTES = TILE * HEAD_DIM * 2,              /* of keys: [HALVES][TILE][128 bytes] */
    AT_KEYS = BLOCKS * BLOCK_BYTES,                /* [WARPGROUPS][2] tiles */
    AT_PLACES = AT_KEYS + WARPGROUPS * 2 * TILE_BYTES,
    AT_SEEDS = AT_PLACES + ROWS * 4,               /* places of the seeds */
    AT_NORMS = AT_SEEDS + VLCI_SPREAD_SEEDS * 4    /* VLCI_NEAREST_WGMMA_LOCAL in all */
};

/* Starts the copies of n rows of the pool by `items` work-items, of which this is the item-th; both are known when it is built,
 * and all places are read before any of them is waited for. */
WITH_LOCAL void bring(const kv_view *rows, __local const uint *places, uint n, uint to, uint item, uint items) {
#pragma unroll
    for (uint x = 0; x < n * RUNS / items; x++) {
        const uint r = (item + x * items) / RUNS, c = (item + x * items) % RUNS;
        ptx_copy16(to + (c >> 3) * (n * 128) + r * 128 + (((c & 7) ^ (r & 7)) << 4),
                   (__global const uchar *)((__global const ushort *)rows->k + (size_t)places[r] * rows->row_stride + c * 8), 16);
    }
}

__kernel __attribute__((reqd_work_group_size(VLCI_NEAREST_WGMMA_GROUP, 1, 1))) void
nearest_wgmma(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
              __global int *labels, __global const float *means, uint means_stride, __global const float *weights,
              __global float *far, __global const float *laid, uint laid_stride, __global const vlci_seed *picked,
              uint picked_stride, int round) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local uint *places = (__local uint *)(smem + AT_PLACES), *seeds = (__local uint *)(smem + AT_SEEDS);
    __local float *norms = (__local float *)(smem + AT_NORMS);
    const uint item = ptx_item(), warpgroup = item >> 7, lane = item & 31, warp = item >> 5 & 3, at = (uint)smem;
    const int row = ptx_group_down(), e0 = ptx_group() * ROWS;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, from = VLCI_SPREAD_UNTIL(own.centroids, round - 1);
    const int count = VLCI_SPREAD_UNTIL(own.centroids, round) - from;
    if (e0 >= n || count <= 0) return; /* the whole work-group */
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens;
    const int mine = n - e0 < ROWS ? n - e0 : ROWS, tiles = (mine + TILE - 1) / TILE, blocks = (count + SEEDS - 1) / SEEDS;
    picked += (size_t)row * picked_stride + from;

    for (int s = item; s < blocks * SEEDS; s += GROUP) {
        const vlci_seed seed = picked[s < count ? s : count - 1];
        seeds[s] = (uint)kv_row(&rows, seed.row);
        norms[s] = s < count ? -0.5f * seed.norm : -INFINITY;
    }
    for (int i = item; i < tiles * TILE; i += GROUP)
        places[i] = (uint)kv_row(&rows, own.before + evicted[list + e0 + (i < mine ? i : mine - 1)]);
    PTX_TOGETHER();
    for (int b = 0; b < blocks; b++) bring(&rows, seeds + b * SEEDS, SEEDS, at + b * BLOCK_BYTES, item, GROUP);
    int tile = warpgroup;
    uint buffer = at + AT_KEYS + warpgroup * (2 * TILE_BYTES), other = buffer + TILE_BYTES;
    if (tile < tiles) bring(&rows, places + tile * TILE, TILE, buffer, item & 127, 128);
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(0);
    PTX_PROXY_FENCE();
    PTX_TOGETHER();

    for (; tile < tiles; tile += WARPGROUPS) {
        float near[SEEDS / 2], best[MINE];
        int label[MINE];
        if (tile + WARPGROUPS < tiles) bring(&rows, places + (tile + WARPGROUPS) * TILE, TILE, other, item & 127, 128);
        PTX_COPIES_COMMIT();
        /* the first lane of four has one of the rows, the second the other: what the end wants of it comes meanwhile */
        const int e = tile * TILE + warp * 16 + (lane & 3) * 8 + (lane >> 2);
        const bool ends = (lane & 3) < MINE && e < mine;
        const size_t to = list + e0 + e;
        const float norm = ends ? laid[(size_t)row * laid_stride + e0 + e] : 0.0f, before = ends ? far[to] : 0.0f;
        const float weight = ends && weights ? weights[to] : 1.0f;
        best[0] = best[1] = -INFINITY;
        label[0] = label[1] = 0;
        for (int b = 0; b < blocks; b++) {
            const ulong a = PTX_TILE_ROWS(buffer), s = PTX_TILE_ROWS(at + b * BLOCK_BYTES);
#pragma unroll
            for (uint j = 0; j < SEEDS / 8; j++) {
                const float2 norm = *(__local const float2 *)(norms + b * SEEDS + j * 8 + (lane & 3) * 2);
                near[4 * j] = near[4 * j + 2] = norm.x;
                near[4 * j + 1] = near[4 * j + 3] = norm.y;
            }
            PTX_WGMMA_FENCE();
#pragma unroll
            for (uint k = 0; k < HEAD_DIM / 16; k++) /* 16 dimensions are 32 bytes further, 64 a block of rows */
                PTX_WGMMA(TYPE, SEEDS, near, a + (k >> 2) * (TILE * 8) + (k & 3) * 2, s + (k >> 2) * (SEEDS * 8) + (k & 3) * 2);
            PTX_WGMMA_COMMIT();
            PTX_WGMMA_WAIT(0);
#pragma unroll
            for (uint j = 0; j < SEEDS / 2; j++) PTX_KEEP(near[j]);
#pragma unroll
            for (uint j = 0; j < SEEDS / 8; j++)
#pragma unroll
                for (uint i = 0; i < 2; i++)
#pragma unroll
                    for (uint r = 0; r < MINE; r++) /* rows lane / 4 and + 8 of the warp's 16 */
                        if (near[4 * j + 2 * r + i] > best[r]) {
                            best[r] = near[4 * j + 2 * r + i];
                            label[r] = b * SEEDS + j * 8 + i;
                        }
        }
        /* each row's best of the four lanes that had it */
#pragma unroll
        for (uint r = 0; r < MINE; r++) {
            label[r] += (int)(lane & 3) * 2;
#pragma unroll
            for (uint bit = 1; bit < 4; bit <<= 1) {
                const float other_best = ptx_butterfly(best[r], bit);
                const int other_label = (int)ptx_butterfly_uint((uint)label[r], bit);
                if (other_best > best[r] || (other_best == best[r] && other_label < label[r])) {
                    best[r] = other_best;
                    label[r] = other_label;
                }
            }
        }
        const float square = norm - 2.0f * (lane & 1 ? best[1] : best[0]);
        const float apart = square > VLCI_NEAREST_LEAST * norm ? square * weight : 0.0f;
        if (ends && apart < before) {
            far[to] = apart;
            labels[to] = from + (lane & 1 ? label[1] : label[0]);
        }
        PTX_COPIES_WAIT(0);
        PTX_PROXY_FENCE();
        ptx_sync(1 + warpgroup, 128); /* the next tile has come, and this one is read by all */
        const uint next = other;
        other = buffer;
        buffer = next;
    }
}
