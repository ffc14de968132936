/*
 * gram.cl - products of the candidates of a round (spread.cl) among themselves, for the kv heads of some layers.
 *
 *     products[a][b] = key(list[a]) . key(list[b])          a, b < candidates of the head
 *
 * Distances follow: |a - b|^2 = products[a][a] + products[b][b] - 2 products[a][b]. Sums run in the order of d wherever a
 * product stands, so that equal keys are exactly 0 apart.
 *
 *     tile of a work-group   64 x 64 of 64 work-items, those below the diagonal mirrored    keys   2 x [TILE_D][64] floats
 *
 * A work-item multiplies 8 by 8 candidates: 4 i .. 4 i + 3 and 32 + them.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef TILE_D
#define TILE_D 32 /* dimensions in local memory at a time: 17 KiB */
#endif
enum { TILE = VLCI_GRAM_TILE, EACH = 8, SIDE = TILE / EACH, STRIDE = TILE + 4, PIECES = TILE_D / 8 };

/* 8 dimensions from d0 on of 64 rows, as columns of local memory. */
WITH_LOCAL void bring(const kv_view *rows, __local const uint *places, int d0, __local float *to) {
    for (int i = get_local_id(0); i < TILE * PIECES; i += TILE) {
        const int r = i / PIECES, d = i % PIECES * 8;
        float piece[8];
        vstore8(d0 + d < HEAD_DIM ? KV_RUN(rows->k + (size_t)places[r] * rows->row_stride + d0 + d) : (float8)0.0f, 0, piece);
        for (int x = 0; x < 8; x++) to[(d + x) * STRIDE + r] = piece[x];
    }
}

__kernel __attribute__((reqd_work_group_size(VLCI_GRAM_TILE, 1, 1))) void
gram(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
     __global const int *list, __global float *products, int most, int round) {
    __local float keys[2][TILE_D * STRIDE] __attribute__((aligned(128)));
    __local uint places[2][TILE];
    const int lane = get_local_id(0), row = get_group_id(1), ri = lane % SIDE, si = lane / SIDE;
    const vlci_keep own = keep[keep_at + row];
    const int n = min(tokens - own.kept, VLCI_SPREAD_CANDIDATES(VLCI_SPREAD_UNTIL(own.centroids, round) -
                                                                VLCI_SPREAD_UNTIL(own.centroids, round - 1)));
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    int a0 = 0, b0 = get_group_id(0); /* row by row of the tiles below the diagonal */
    while (b0 > a0) b0 -= ++a0;
    a0 *= TILE;
    b0 *= TILE;
    evicted += (size_t)row * tokens;
    list += (size_t)row * most;
    products += (size_t)row * most * most;
    if (a0 >= n) return; /* the whole work-group */
    places[0][lane] = (uint)kv_row(&rows, own.before + evicted[list[min(a0 + lane, n - 1)]]);
    places[1][lane] = (uint)kv_row(&rows, own.before + evicted[list[min(b0 + lane, n - 1)]]);

    float dots[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) dots[i][j] = 0.0f;
    for (int d0 = 0; d0 < HEAD_DIM; d0 += TILE_D) {
        barrier(CLK_LOCAL_MEM_FENCE);
        bring(&rows, places[0], d0, keys[0]);
        bring(&rows, places[1], d0, keys[1]);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int d = 0; d < TILE_D; d++) {
            float x[EACH], y[EACH];
            for (int half_tile = 0; half_tile < 2; half_tile++) {
                vstore4(vload4(ri, keys[0] + d * STRIDE + half_tile * (TILE / 2)), half_tile, x);
                vstore4(vload4(si, keys[1] + d * STRIDE + half_tile * (TILE / 2)), half_tile, y);
            }
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) dots[i][j] = fma(x[i], y[j], dots[i][j]);
        }
    }
    /* rows and columns behind the candidates are there: `most` is a multiple of TILE */
    for (int i = 0; i < EACH; i++) {
        const int of = i % 4 + i / 4 * (TILE / 2);
        for (int half_tile = 0; half_tile < 2; half_tile++) {
            const int j = half_tile * 4, across = half_tile * (TILE / 2);
            const float4 along = (float4)(dots[i][j], dots[i][j + 1], dots[i][j + 2], dots[i][j + 3]);
            const float4 down = (float4)(dots[j][i], dots[j + 1][i], dots[j + 2][i], dots[j + 3][i]);
            vstore4(along, 0, products + (size_t)(a0 + 4 * ri + of) * most + b0 + 4 * si + across);
            if (a0 != b0) vstore4(down, 0, products + (size_t)(b0 + 4 * si + of) * most + a0 + 4 * ri + across);
        }
    }
}
