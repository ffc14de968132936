/*
 * gram_mma.cl - gram.cl on NVIDIA's matrix units, for keys of 16 bits: same arguments, same results but for the rounding of
 * sums. A product does not depend on where in a tile it stands: equal keys are exactly 0 apart here, too.
 *
 *     tile of a work-group   64 x 64, those below the diagonal mirrored; 32 x 32 of each of its 4 warps
 *     keys                   2 x 64 rows of all HEAD_DIM dimensions in local memory, as nearest_mma.cl has them
 *
 * ptx: sm_80 -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_80 -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 64 */
#endif
enum { TILE = VLCI_GRAM_TILE, GROUP = VLCI_GRAM_MMA_GROUP, CHUNKS = HEAD_DIM / 8, ROW_BYTES = HEAD_DIM * 2 };
enum { STEPS = HEAD_DIM / 16, FRAGMENTS = 2, BLOCKS = 4 };

#if KV_DTYPE == VLCI_DTYPE_BF16
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#else
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
#endif

PTX_CALL uint chunk_at(uint row, uint chunk) { return row * ROW_BYTES + ((chunk ^ (row & 7)) << 4); }

__kernel __attribute__((reqd_work_group_size(VLCI_GRAM_MMA_GROUP, 1, 1))) void
gram(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
     __global const int *list, __global float *products, int most, int round) {
    __local uchar keys[2 * TILE * ROW_BYTES] __attribute__((aligned(128)));
    __local uint places[2 * TILE];
    const int lane = ptx_item(), row = ptx_group_down();
    const uint in_warp = lane & 31, warp = lane >> 5;
    const vlci_keep own = keep[keep_at + row];
    const int wanted = VLCI_SPREAD_CANDIDATES(VLCI_SPREAD_UNTIL(own.centroids, round) -
                                              VLCI_SPREAD_UNTIL(own.centroids, round - 1));
    const int n = tokens - own.kept < wanted ? tokens - own.kept : wanted;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    int a0 = 0, b0 = ptx_group(); /* row by row of the tiles below the diagonal */
    while (b0 > a0) b0 -= ++a0;
    a0 *= TILE;
    b0 *= TILE;
    evicted += (size_t)row * tokens;
    list += (size_t)row * most;
    products += (size_t)row * most * most;
    if (a0 >= n) return; /* the whole work-group */
    const int mine = lane < TILE ? a0 + lane : b0 + lane - TILE;
    places[lane] = (uint)kv_row(&rows, own.before + evicted[list[mine < n ? mine : n - 1]]);
    PTX_TOGETHER();
    for (int i = lane; i < 2 * TILE * CHUNKS; i += GROUP) {
        const int r = i / CHUNKS, c = i % CHUNKS;
        ptx_copy16((uint)keys + chunk_at(r, c),
                   (__global const uchar *)((__global const ushort *)rows.k + (size_t)places[r] * row_stride + c * 8), 16);
    }
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();

    const uint down = (warp & 1) * 32, across = (warp >> 1) * 32;
    float dots[FRAGMENTS][BLOCKS][4];
#pragma unroll
    for (uint f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++)
#pragma unroll
            for (uint i = 0; i < 4; i++) dots[f][b][i] = 0.0f;
#pragma unroll
    for (uint k = 0; k < STEPS; k++) {
        uint a[FRAGMENTS][4];
#pragma unroll
        for (uint f = 0; f < FRAGMENTS; f++)
            PTX_LDMATRIX4(a[f], (uint)keys + chunk_at(down + f * 16 + (in_warp & 15), 2 * k + (in_warp >> 4)));
#pragma unroll
        for (uint b = 0; b < BLOCKS; b += 2) {
            uint x[4];
            PTX_LDMATRIX4(x, (uint)keys + chunk_at(TILE + across + b * 8 + (in_warp & 7) + (in_warp >> 4 << 3),
                                                   2 * k + (in_warp >> 3 & 1)));
#pragma unroll
            for (uint f = 0; f < FRAGMENTS; f++) {
                MULTIPLY(dots[f][b], a[f], x[0], x[1]);
                MULTIPLY(dots[f][b + 1], a[f], x[2], x[3]);
            }
        }
    }
    /* rows and columns behind the candidates are there: `most` is a multiple of TILE */
#pragma unroll
    for (uint f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++)
#pragma unroll
            for (uint i = 0; i < 4; i++) {
                const uint r = a0 + down + f * 16 + (i >> 1) * 8 + (in_warp >> 2);
                const uint c = b0 + across + b * 8 + (in_warp & 3) * 2 + (i & 1);
                products[(size_t)r * most + c] = dots[f][b][i];
                if (a0 != b0) products[(size_t)c * most + r] = dots[f][b][i];
            }
}
