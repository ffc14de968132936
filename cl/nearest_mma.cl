/*
 * nearest_mma.cl - nearest.cl on NVIDIA's matrix units, for keys of 16 bits: same arguments, same results but for the rounding
 * of sums. Seeds are rows, whose keys are read where they stand; means are not, and are left to nearest.cl.
 *
 *     rows of a work-group   128: a warp has 32 of them, all HEAD_DIM dimensions as fragments in registers
 *     seeds                  all of a round: places and norms in local memory, keys 32 at a time, STAGES of them on their way
 *                            or in use, where the rows' keys stood before
 *
 *     near   [32 rows][32 seeds] of a warp = 2 x 4 products of 16 x 8, for each 16 dimensions
 *     near(e, s) = key(e) . key(s) - |key(s)|^2 / 2, the largest of which is the nearest: sums begin with the norm
 *
 * Rows of local memory are chunks of 16 bytes, the c-th of row r at c ^ (r & 7): ldmatrix then has no conflicts.
 * far: a row's distance to itself need not come to 0, since sums of matrix units are rounded: less than VLCI_NEAREST_LEAST of its
 * norm is none.
 * laid: not NULL: the rows' squared norms go there with the first seed, for nearest_wgmma.cl.
 *
 * ptx: sm_80 -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_80 -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 64 */
#endif
enum { ROWS = VLCI_NEAREST_ROWS, GROUP = VLCI_NEAREST_MMA_GROUP, SEEDS = 32, STEPS = HEAD_DIM / 16, STAGES = ROWS / SEEDS };
enum { CHUNKS = HEAD_DIM / 8, ROW_BYTES = HEAD_DIM * 2, STAGE_BYTES = SEEDS * ROW_BYTES };
enum { FRAGMENTS = 2, BLOCKS = SEEDS / 8, MINE = 2 * FRAGMENTS };

#if KV_DTYPE == VLCI_DTYPE_BF16
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
PTX_CALL float low_of(uint x) { return as_float(x << 16); }
PTX_CALL float high_of(uint x) { return as_float(x & 0xffff0000u); }
#else
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
PTX_CALL float value_of(ushort x) {
    float r;
    __asm__("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
PTX_CALL float low_of(uint x) { return value_of((ushort)x); }
PTX_CALL float high_of(uint x) { return value_of((ushort)(x >> 16)); }
#endif

PTX_CALL uint chunk_at(uint row, uint chunk) { return row * ROW_BYTES + ((chunk ^ (row & 7)) << 4); }

/* The squared norm of a row in local memory, dimension after dimension. */
WITH_LOCAL float norm_of(__local const uchar *rows, uint row) {
    float norm = 0.0f;
    for (uint c = 0; c < CHUNKS; c++) {
        const uint4 chunk = *(__local const uint4 *)(rows + chunk_at(row, c));
        const uint words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
        for (uint i = 0; i < 4; i++) {
            norm = ptx_fma(low_of(words[i]), low_of(words[i]), norm);
            norm = ptx_fma(high_of(words[i]), high_of(words[i]), norm);
        }
    }
    return norm;
}

/* Starts the copies of n rows of the pool, n a multiple of GROUP / CHUNKS. */
WITH_LOCAL void bring(const kv_view *rows, __local const uint *places, uint n, uint to) {
    for (uint i = ptx_item(); i < n * CHUNKS; i += GROUP) {
        const uint r = i / CHUNKS, c = i % CHUNKS;
        ptx_copy16(to + chunk_at(r, c),
                   (__global const uchar *)((__global const ushort *)rows->k + (size_t)places[r] * rows->row_stride + c * 8), 16);
    }
}

__kernel __attribute__((reqd_work_group_size(VLCI_NEAREST_MMA_GROUP, 1, 1))) void
nearest(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
        __global int *labels, __global const float *means, uint means_stride, __global const float *weights, __global float *far,
        __global float *laid, uint laid_stride, __global const vlci_seed *picked, uint picked_stride, int round) {
    __local uchar keys[ROWS * ROW_BYTES] __attribute__((aligned(128)));
    __local uint places[VLCI_SPREAD_SEEDS] __attribute__((aligned(128)));
    __local float norms[VLCI_SPREAD_SEEDS] __attribute__((aligned(128)));
    const int lane = ptx_item(), row = ptx_group_down(), e0 = ptx_group() * ROWS;
    const uint in_warp = lane & 31, warp = lane >> 5;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept;
    const int from = round > VLCI_SPREAD_FIRST ? VLCI_SPREAD_UNTIL(own.centroids, round - 1) : 0;
    const int count = VLCI_SPREAD_UNTIL(own.centroids, round) - from, stages = (count + SEEDS - 1) / SEEDS;
    if (e0 >= n || count <= 0) return; /* the whole work-group */
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens, at = list + (e0 + lane < n ? e0 + lane : n - 1);
    picked += (size_t)row * picked_stride + from;

    places[lane] = (uint)kv_row(&rows, own.before + evicted[at]);
    const float weight = weights ? weights[at] : 1.0f, before = round < 0 ? INFINITY : far[at];
    PTX_TOGETHER();
    bring(&rows, places, ROWS, (uint)keys);
    PTX_COPIES_COMMIT();
    PTX_TOGETHER();
    for (int s = lane; s < stages * SEEDS; s += GROUP) {
        const vlci_seed seed = picked[s < count ? s : count - 1];
        places[s] = (uint)kv_row(&rows, seed.row);
        norms[s] = s < count ? -0.5f * seed.norm : -INFINITY;
    }
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();
    const float row_norm = norm_of(keys, lane);
    uint a[STEPS][FRAGMENTS][4];
#pragma unroll
    for (uint k = 0; k < STEPS; k++)
#pragma unroll
        for (uint f = 0; f < FRAGMENTS; f++)
            PTX_LDMATRIX4(a[k][f], (uint)keys + chunk_at(warp * 32 + f * 16 + (in_warp & 15), 2 * k + (in_warp >> 4)));
    PTX_TOGETHER();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < stages) bring(&rows, places + s * SEEDS, SEEDS, (uint)keys + s * STAGE_BYTES);
        PTX_COPIES_COMMIT();
    }

    float best[MINE];
    int label[MINE];
#pragma unroll
    for (uint i = 0; i < MINE; i++) {
        best[i] = -INFINITY;
        label[i] = 0;
    }
    for (int s = 0; s < stages; s++) {
        PTX_COPIES_WAIT(2);
        PTX_TOGETHER(); /* stage s has come, and s - 1 is read by all */
        const int next = s + STAGES - 1;
        if (next < stages) bring(&rows, places + next * SEEDS, SEEDS, (uint)keys + next % STAGES * STAGE_BYTES);
        PTX_COPIES_COMMIT();
        const uint seeds = (uint)keys + s % STAGES * STAGE_BYTES;
        float near[FRAGMENTS][BLOCKS][4];
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++) {
            const float2 norm = *(__local const float2 *)(norms + s * SEEDS + b * 8 + (in_warp & 3) * 2);
#pragma unroll
            for (uint f = 0; f < FRAGMENTS; f++) {
                near[f][b][0] = near[f][b][2] = norm.x;
                near[f][b][1] = near[f][b][3] = norm.y;
            }
        }
#pragma unroll
        for (uint k = 0; k < STEPS; k++)
#pragma unroll
            for (uint b = 0; b < BLOCKS; b += 2) {
                uint x[4];
                PTX_LDMATRIX4(x, seeds + chunk_at(b * 8 + (in_warp & 7) + (in_warp >> 4 << 3), 2 * k + (in_warp >> 3 & 1)));
#pragma unroll
                for (uint f = 0; f < FRAGMENTS; f++) {
                    MULTIPLY(near[f][b], a[k][f], x[0], x[1]);
                    MULTIPLY(near[f][b + 1], a[k][f], x[2], x[3]);
                }
            }
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++)
#pragma unroll
            for (uint i = 0; i < 2; i++)
#pragma unroll
                for (uint r = 0; r < MINE; r++) /* row (r & 1) * 8 of fragment r / 2 */
                    if (near[r >> 1][b][(r & 1) * 2 + i] > best[r]) {
                        best[r] = near[r >> 1][b][(r & 1) * 2 + i];
                        label[r] = s * SEEDS + b * 8 + i;
                    }
    }

    /* Each row's best of the four lanes that had it. */
    __local float *bests = (__local float *)keys;
    __local int *labels_of = (__local int *)(keys + 4 * ROWS * sizeof(float));
    PTX_TOGETHER();
#pragma unroll
    for (uint r = 0; r < MINE; r++) {
        const uint to = (in_warp & 3) * ROWS + warp * 32 + (r >> 1) * 16 + (r & 1) * 8 + (in_warp >> 2);
        bests[to] = best[r];
        labels_of[to] = label[r] + (int)(in_warp & 3) * 2;
    }
    PTX_TOGETHER();
    float near = bests[lane];
    int which = labels_of[lane];
    for (int s = 1; s < 4; s++) {
        const float other = bests[s * ROWS + lane];
        const int other_label = labels_of[s * ROWS + lane];
        if (other > near || (other == near && other_label < which)) {
            near = other;
            which = other_label;
        }
    }
    if (e0 + lane >= n) return;
    if (laid && round < 0) laid[(size_t)row * laid_stride + e0 + lane] = row_norm;
    const float square = row_norm - 2.0f * near, apart = square > VLCI_NEAREST_LEAST * row_norm ? square * weight : 0.0f;
    if (round < 0 || apart < before) {
        far[at] = apart;
        labels[at] = from + which;
    }
}
