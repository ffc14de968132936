/*
 * nearest_mma.cl - nearest.cl on NVIDIA's matrix units, for keys of 16 bits: same arguments, same results but for the rounding
 * of sums. Seeds are rows, so that 16 bits hold them exactly; means are not, and are left to nearest.cl.
 *
 *     rows of a work-group   128: a warp has 32 of them, all HEAD_DIM dimensions as fragments in registers
 *     seeds at a time         32: local memory, converted from the means
 *
 *     dots   [32 rows][32 seeds] of a warp = 2 x 4 products of 16 x 8, for each 16 dimensions
 *
 * Rows of local memory are chunks of 16 bytes, the c-th of row r at c ^ (r & 7): ldmatrix then has no conflicts.
 * far: a row's distance to itself need not be 0 here, but is as small as the rounding of its norm.
 *
 * ptx: sm_80 -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_80 -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 64 */
#endif
enum { LANES = VLCI_MEAN_LANES, ROWS = VLCI_NEAREST_ROWS, GROUP = VLCI_NEAREST_MMA_GROUP, SEEDS = 32, STEPS = HEAD_DIM / 16 };
enum { CHUNKS = HEAD_DIM / 8, ROW_BYTES = HEAD_DIM * 2, FRAGMENTS = 2, BLOCKS = SEEDS / 8, MINE = 2 * FRAGMENTS };

#if KV_DTYPE == VLCI_DTYPE_BF16
#define PAIR(low, high)        ptx_bf16x2(low, high)
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
PTX_CALL float value_of(ushort x) { return bf16_to_f32(x); }
#else
#define PAIR(low, high)        ptx_f16x2(low, high)
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
PTX_CALL float value_of(ushort x) {
    float r;
    __asm__("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
#endif
#define TOGETHER() __asm__ volatile("bar.sync 0;" ::: "memory")

PTX_CALL uint head_of_group(void) {
    uint r;
    __asm__ volatile("mov.u32 %0, %%ctaid.y;" : "=r"(r));
    return r;
}

PTX_CALL uint chunk_at(uint row, uint chunk) { return row * ROW_BYTES + ((chunk ^ (row & 7)) << 4); }

/* The squared norm of a row in local memory, dimension after dimension. */
WITH_LOCAL float norm_of(__local const uchar *rows, uint row) {
    float norm = 0.0f;
    for (uint c = 0; c < CHUNKS; c++) {
        __local const ushort *chunk = (__local const ushort *)(rows + chunk_at(row, c));
        for (uint i = 0; i < 8; i++) norm += value_of(chunk[i]) * value_of(chunk[i]);
    }
    return norm;
}

__kernel __attribute__((reqd_work_group_size(VLCI_NEAREST_MMA_GROUP, 1, 1))) void
nearest(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
        __global int *labels, __global const float *means, uint means_stride, __global const float *weights, __global float *far,
        __global const float *laid, uint laid_stride, int round) {
    __local uchar keys[ROWS * ROW_BYTES] __attribute__((aligned(128)));
    __local uchar seeds[SEEDS * ROW_BYTES] __attribute__((aligned(128)));
    __local float norms[SEEDS];
    const int lane = ptx_item(), row = head_of_group(), e0 = ptx_group() * ROWS;
    const uint in_warp = lane & 31, warp = lane >> 5;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept;
    const int from = round > VLCI_SPREAD_FIRST ? VLCI_SPREAD_UNTIL(own.centroids, round - 1) : 0;
    const int until = VLCI_SPREAD_UNTIL(own.centroids, round);
    if (e0 >= n || from >= until) return; /* the whole work-group */
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens;
    means += (size_t)row * means_stride;

    for (int i = lane; i < ROWS * CHUNKS; i += GROUP) {
        const int r = i / CHUNKS, c = i % CHUNKS;
        const size_t at = kv_at(&rows, own.before + evicted[list + (e0 + r < n ? e0 + r : n - 1)]) + c * 8;
        ptx_copy16((uint)keys + chunk_at(r, c), (__global const uchar *)((__global const ushort *)rows.k + at), 16);
    }
    __asm__ volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;" ::: "memory");
    TOGETHER();
    const float row_norm = norm_of(keys, lane);
    uint a[STEPS][FRAGMENTS][4];
#pragma unroll
    for (uint k = 0; k < STEPS; k++)
#pragma unroll
        for (uint f = 0; f < FRAGMENTS; f++)
            PTX_LDMATRIX4(a[k][f], (uint)keys + chunk_at(warp * 32 + f * 16 + (in_warp & 15), 2 * k + (in_warp >> 4)));

    float best[MINE];
    int label[MINE];
    for (int i = 0; i < MINE; i++) {
        best[i] = INFINITY;
        label[i] = from;
    }
    for (int c0 = from; c0 < until; c0 += SEEDS) {
        float dots[FRAGMENTS][BLOCKS][4];
#pragma unroll
        for (uint f = 0; f < FRAGMENTS; f++)
#pragma unroll
            for (uint b = 0; b < BLOCKS; b++)
#pragma unroll
                for (uint i = 0; i < 4; i++) dots[f][b][i] = 0.0f;
        TOGETHER();
        for (int i = lane; i < SEEDS * HEAD_DIM / 2; i += GROUP) {
            const int s = i % SEEDS, d = i / SEEDS * 2, c = c0 + s < until ? c0 + s : until - 1;
            __global const float *mean = means + ((size_t)(c / LANES) * HEAD_DIM + d) * LANES + c % LANES;
            *(__local uint *)(seeds + chunk_at(s, d / 8) + d % 8 * 2) = PAIR(mean[0], mean[LANES]);
        }
        TOGETHER();
        if (lane < SEEDS) norms[lane] = norm_of(seeds, lane);
#pragma unroll
        for (uint k = 0; k < STEPS; k++)
#pragma unroll
            for (uint b = 0; b < BLOCKS; b += 2) {
                uint x[4];
                PTX_LDMATRIX4(x, (uint)seeds + chunk_at(b * 8 + (in_warp & 7) + (in_warp >> 4 << 3), 2 * k + (in_warp >> 3 & 1)));
#pragma unroll
                for (uint f = 0; f < FRAGMENTS; f++) {
                    MULTIPLY(dots[f][b], a[k][f], x[0], x[1]);
                    MULTIPLY(dots[f][b + 1], a[k][f], x[2], x[3]);
                }
            }
        TOGETHER();
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++)
#pragma unroll
            for (uint i = 0; i < 2; i++) {
                const int s = b * 8 + (in_warp & 3) * 2 + i;
                const float norm = c0 + s < until ? norms[s] : INFINITY;
#pragma unroll
                for (uint r = 0; r < MINE; r++) { /* row (r & 1) * 8 of fragment r / 2 */
                    const float near = norm - 2.0f * dots[r >> 1][b][(r & 1) * 2 + i];
                    if (near < best[r]) {
                        best[r] = near;
                        label[r] = c0 + s;
                    }
                }
            }
    }

    /* Each row's best of the four lanes that had it. */
    __local float *bests = (__local float *)keys;
    __local int *labels_of = (__local int *)(keys + 4 * ROWS * sizeof(float));
    TOGETHER();
    for (uint r = 0; r < MINE; r++) {
        const uint at = (in_warp & 3) * ROWS + warp * 32 + (r >> 1) * 16 + (r & 1) * 8 + (in_warp >> 2);
        bests[at] = best[r];
        labels_of[at] = label[r];
    }
    TOGETHER();
    float near = bests[lane];
    int which = labels_of[lane];
    for (int s = 1; s < 4; s++) {
        const float other = bests[s * ROWS + lane];
        const int other_label = labels_of[s * ROWS + lane];
        if (other < near || (other == near && other_label < which)) {
            near = other;
            which = other_label;
        }
    }
    const size_t at = list + e0 + lane;
    if (e0 + lane >= n) return;
    const float square = row_norm + near, apart = square > 0.0f ? square * (weights ? weights[at] : 1.0f) : 0.0f;
    if (round < 0 || apart < far[at]) {
        far[at] = apart;
        labels[at] = which;
    }
}
