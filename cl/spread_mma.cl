/*
 * spread_mma.cl - spread.cl on NVIDIA's matrix units, for keys of 16 bits and stretches of VLCI_STRETCH rows at most: same
 * arguments, same seeds but for the rounding of sums.
 *
 * One work-group for each stretch reads its keys once, into local memory. Each of its 8 warps has 48 neighbours and knows
 * which of them is the farthest: the next seed is the farthest of these 8, its candidates. All rows are multiplied by all of
 * them at once, and only when a seed is a row that was none of the last candidates; what was multiplied by others was in vain.
 *
 *     near   [48 rows][8 candidates] of a warp = 3 products of 16 x 8, for each 16 dimensions
 *     apart(e, s) = |key(e)|^2 + |key(s)|^2 - 2 near(e, s)      less than VLCI_SPREAD_LEAST of |key(e)|^2: none
 *
 * The four lanes that share a row know the same of it. Rows of local memory are chunks of 16 bytes, the c-th of row r at
 * c ^ (r & 7): ldmatrix then has no conflicts.
 *
 * to_of not NULL: the centroids' rows follow at once, as kmeans.cl writes them: rows sorted by their labels, then by position,
 * sums of keys, which are there, then of values, which take their place.
 *
 * ptx: sm_80 -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_80 -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 64 */
#endif
enum { LANES = VLCI_MEAN_LANES, ROWS = VLCI_STRETCH, GROUP = VLCI_SPREAD_MMA_GROUP, WARPS = GROUP / 32, MINE = ROWS / WARPS };
enum { CHUNKS = HEAD_DIM / 8, ROW_BYTES = HEAD_DIM * 2, STEPS = HEAD_DIM / 16, TILES = MINE / 16, EACH = 2 * TILES };
enum { AT_STAGE = ROWS * ROW_BYTES, AT_NORMS = AT_STAGE + WARPS * ROW_BYTES, AT_WEIGHTS = AT_NORMS + 4 * ROWS };
enum { AT_PLACES = AT_WEIGHTS + 4 * ROWS, AT_RANKS = AT_PLACES + 4 * ROWS };
enum { IN_STRETCH = 1 << 10 /* more than ROWS: rows are sorted by label * IN_STRETCH + row */, TEAMS = GROUP / CHUNKS };
#define NOTHING (-1e30f) /* as in kmeans.cl */

#if KV_DTYPE == VLCI_DTYPE_BF16
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#define PACK(low, high)        ptx_bf16x2(low, high)
PTX_CALL float value_of(ushort x) { return as_float((uint)x << 16); }
#else
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
#define PACK(low, high)        ptx_f16x2(low, high)
PTX_CALL float value_of(ushort x) {
    float r;
    __asm__("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
#endif

PTX_CALL uint chunk_at(uint row, uint chunk) { return row * ROW_BYTES + ((chunk ^ (row & 7)) << 4); }

/* The 8 values of a chunk. */
WITH_LOCAL void values_of(__local const uchar *at, float value[8]) {
    const uint4 chunk = *(__local const uint4 *)at;
    const uint words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (uint i = 0; i < 4; i++) {
        value[2 * i] = value_of((ushort)words[i]);
        value[2 * i + 1] = value_of((ushort)(words[i] >> 16));
    }
}

/* The squared norm of a row in local memory, dimension after dimension. */
WITH_LOCAL float norm_of(__local const uchar *rows, uint row) {
    float norm = 0.0f;
    for (uint c = 0; c < CHUNKS; c++) {
        float value[8];
        values_of(rows + chunk_at(row, c), value);
#pragma unroll
        for (uint i = 0; i < 8; i++) norm = ptx_fma(value[i], value[i], norm);
    }
    return norm;
}

/* Starts the copies of all rows. */
WITH_LOCAL void bring(__global const kv_t *of, __local const uint *places, uint row_stride, uint to) {
    for (uint i = ptx_item(); i < ROWS * CHUNKS; i += GROUP) {
        const uint r = i / CHUNKS, c = i % CHUNKS;
        ptx_copy16(to + chunk_at(r, c),
                   (__global const uchar *)((__global const ushort *)of + (size_t)places[r] * row_stride + c * 8), 16);
    }
    PTX_COPIES_COMMIT();
}

/* Row x of those a lane has, of the stretch. */
PTX_CALL uint nth_row(uint warp, uint lane, uint x) { return warp * MINE + (x >> 1) * 16 + (x & 1) * 8 + (lane >> 2); }

/* All rows of a warp by the candidates, of which two products' dimensions come at a time. */
PTX_CALL void multiply(float near[TILES][4], uint keys, uint stage, uint warp, uint lane) {
#pragma unroll
    for (uint i = 0; i < TILES * 4; i++) near[i >> 2][i & 3] = 0.0f;
#pragma unroll
    for (uint k = 0; k < STEPS; k += 2) {
        uint x[4];
        PTX_LDMATRIX4(x, stage + chunk_at(lane & 7, 2 * k + (lane >> 3)));
#pragma unroll
        for (uint f = 0; f < TILES; f++)
#pragma unroll
            for (uint i = 0; i < 2; i++) {
                uint a[4];
                PTX_LDMATRIX4(a, keys + chunk_at(warp * MINE + f * 16 + (lane & 15), 2 * (k + i) + (lane >> 4)));
                MULTIPLY(near[f], a, x[2 * i], x[2 * i + 1]);
            }
    }
}

/* How many of the first n numbers, which ascend, are below x. */
WITH_LOCAL uint below(__local const uint *sorted, uint n, uint x) {
    uint from = 0;
    while (n > from) {
        const uint middle = (from + n) / 2;
        if (sorted[middle] < x)
            from = middle + 1;
        else
            n = middle;
    }
    return from;
}

/* Means of what is in local memory, for each of `count` centroids; one that stands for no row has that of row 0 as its key. */
WITH_LOCAL void write_means(__local const uchar *smem, __local const uint *sorted, uint mine, uint count, const kv_view *to,
                            int first, bool keys, __global float *bias) {
    const uint team = ptx_item() / CHUNKS, c = ptx_item() % CHUNKS;
    for (uint l = team; l < count; l += TEAMS) {
        const uint from = below(sorted, mine, l * IN_STRETCH), until = below(sorted, mine, (l + 1) * IN_STRETCH);
        const uint n = until - from;
        float sum[8], value[8];
#pragma unroll
        for (uint i = 0; i < 8; i++) sum[i] = 0.0f;
        if (!n && keys) values_of(smem + chunk_at(0, c), sum);
        for (uint m = from; m < until; m++) {
            values_of(smem + chunk_at(sorted[m] % IN_STRETCH, c), value);
#pragma unroll
            for (uint i = 0; i < 8; i++) sum[i] += value[i];
        }
#pragma unroll
        for (uint i = 0; i < 8; i++) sum[i] /= (float)(n ? n : 1);
        const size_t target = kv_row(to, first + (int)l);
        const uint4 mean = (uint4)(PACK(sum[0], sum[1]), PACK(sum[2], sum[3]), PACK(sum[4], sum[5]), PACK(sum[6], sum[7]));
        *(__global uint4 *)((__global ushort *)(keys ? to->k : to->v) + target * to->row_stride + c * 8) = mean;
        if (keys && !c) bias[target] = n ? log((float)n) : NOTHING;
    }
}

__kernel __attribute__((reqd_work_group_size(VLCI_SPREAD_MMA_GROUP, 1, 1))) void
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
       __global int *labels, __global float *means, uint means_stride, __global const float *scores, uint scores_at,
       __global const int *shares, uint shares_stride, __global float *room, uint room_stride,
       __global const vlci_kv_head *to_of) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float *norms = (__local float *)(smem + AT_NORMS), *weights = (__local float *)(smem + AT_WEIGHTS);
    __local uint *places = (__local uint *)(smem + AT_PLACES);
    __local uint2 *ranks = (__local uint2 *)(smem + AT_RANKS);
    const uint item = ptx_item(), warp = item >> 5, lane = item & 31, keys = (uint)smem;
    const int row = ptx_group_down(), stretch = ptx_group();
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return; /* the whole work-group */
    const int e0 = VLCI_STRETCH_AT(n, stretch, stretches), mine = VLCI_STRETCH_AT(n, stretch + 1, stretches) - e0;
    shares += (size_t)row * shares_stride;
    const int c0 = shares[stretch], count = shares[stretch + 1] - c0;
    const float scale = as_float(shares[stretches + 1]);
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens + e0;
    if (scores) scores += scores_at + (size_t)row * tokens;
    means += (size_t)row * means_stride;

    for (int i = item; i < ROWS; i += GROUP) {
        const int j = evicted[list + (i < mine ? i : mine - 1)];
        places[i] = (uint)kv_row(&rows, own.before + j);
        weights[i] = i >= mine ? 0.0f : scale > 0.0f ? ptx_fma(scores[j], scale, 1.0f) : 1.0f;
    }
    PTX_TOGETHER();
    bring(rows.k, places, row_stride, keys);
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();
    for (int i = item; i < ROWS; i += GROUP) norms[i] = norm_of(smem, i);
    PTX_TOGETHER();

    float norm[EACH], weight[EACH], far[EACH], near[TILES][4];
    int label[EACH];
#pragma unroll
    for (uint x = 0; x < EACH; x++) {
        const uint i = nth_row(warp, lane, x);
        norm[x] = norms[i];
        weight[x] = weights[i];
        far[x] = weight[x]; /* the first seed is the row that weighs most */
        label[x] = 0;
    }
#pragma unroll
    for (uint i = 0; i < TILES * 4; i++) near[i >> 2][i & 3] = 0.0f;
    uint candidate = ROWS; /* of this warp, that rows were multiplied by */
    int s = 0;
    for (; s < count; s++) {
        __local uint2 *rank = ranks + (s & 1) * WARPS;
        uint best = as_uint(far[0]), at = nth_row(warp, lane, 0);
#pragma unroll
        for (uint x = 1; x < EACH; x++)
            if (as_uint(far[x]) > best) {
                best = as_uint(far[x]);
                at = nth_row(warp, lane, x);
            }
        const uint most = ptx_most(best);
        at = ptx_least(best == most ? at : ROWS);
        if (lane == 0) rank[warp] = (uint2)(most, at << 1 | (at != candidate));
        PTX_TOGETHER();
        const uint2 other = rank[lane & (WARPS - 1)];
        const uint top = ptx_most(other.x), which = ptx_least(other.x == top ? other.y : 2 * ROWS);
        const uint chosen = which >> 1, owner = chosen / MINE;
        if (s && !top) break; /* all rows are seeds or equal ones: other centroids stand for none */
        if (which & 1) { /* the whole work-group */
            candidate = at;
            if (lane < CHUNKS)
                *(__local uint4 *)(smem + AT_STAGE + chunk_at(warp, lane)) = *(__local const uint4 *)(smem + chunk_at(at, lane));
            PTX_TOGETHER();
            multiply(near, keys, keys + AT_STAGE, warp, lane);
        }
        const float seed_norm = norms[chosen];
        const uint from = (lane & 28) | (owner >> 1 & 3);
#pragma unroll
        for (uint x = 0; x < EACH; x++) {
            const uint f = x >> 1, i = (x & 1) * 2;
            const float dot = ptx_from(owner & 1 ? near[f][i + 1] : near[f][i], from);
            const float square = norm[x] + seed_norm - 2.0f * dot;
            const float apart = square > VLCI_SPREAD_LEAST * norm[x] ? square * weight[x] : 0.0f;
            if (!s || apart < far[x]) {
                far[x] = apart;
                label[x] = s;
            }
        }
    }
    __local uint *order = (__local uint *)weights, *sorted = (__local uint *)norms;
    PTX_TOGETHER(); /* norms have been read */
#pragma unroll
    for (uint x = 0; x < EACH; x++) { /* one of the four lanes that have a row */
        const uint i = nth_row(warp, lane, x);
        if ((lane & 3) != (x & 3)) continue;
        order[i] = (int)i < mine ? (uint)label[x] * IN_STRETCH + i : UINT_MAX;
        if ((int)i < mine) labels[list + i] = c0 + label[x];
    }
    if (!to_of) {
        for (int i = s * HEAD_DIM + (int)item; i < count * HEAD_DIM; i += GROUP) {
            const int c = c0 + i / HEAD_DIM, d = i % HEAD_DIM;
            __local const ushort *key = (__local const ushort *)(smem + chunk_at(0, d >> 3));
            means[((size_t)(c / LANES) * HEAD_DIM + d) * LANES + c % LANES] = value_of(key[d & 7]);
        }
        return;
    }
    PTX_TOGETHER();
    for (int i = item; i < mine; i += GROUP) {
        const uint own_key = order[i];
        uint place = 0;
        for (int j = 0; j < ROWS / 4; j++) {
            const uint4 other = ((__local const uint4 *)order)[j];
            place += (other.x < own_key) + (other.y < own_key) + (other.z < own_key) + (other.w < own_key);
        }
        sorted[place] = own_key;
    }
    PTX_TOGETHER();
    const kv_view to = kv_of(k, v, bias, to_of + row, table, row_stride);
    const int first = own.before + own.kept + c0;
    write_means(smem, sorted, mine, count, &to, first, true, bias);
    PTX_TOGETHER();
    bring(rows.v, places, row_stride, keys);
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();
    write_means(smem, sorted, mine, count, &to, first, false, bias);
}
