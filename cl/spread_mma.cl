/*
 * spread_mma.cl - spread.cl on NVIDIA's matrix units, for keys of 16 bits and stretches of VLCI_STRETCH rows at most: same
 * arguments, same seeds but for the rounding of sums.
 *
 * One work-group for each stretch reads its keys once, into local memory. Each of its 8 warps has 48 neighbours and knows
 * which of them is the farthest: the next seed is the farthest of these 8. The two farthest of each warp are its candidates:
 * all rows are multiplied by all of them at once, and only when a seed is a row that was none of the last candidates; what was
 * multiplied by others was in vain.
 *
 *     near   [48 rows][2][8 candidates] of a warp = 6 products of 16 x 8, for each 16 dimensions
 *     apart(e, s) = |key(e)|^2 + |key(s)|^2 - 2 near(e, s)      less than VLCI_SPREAD_LEAST of |key(e)|^2: none
 *
 * The four lanes that share a row know the same of it. Rows of local memory are chunks of 16 bytes, the c-th of row r at
 * c ^ (r & 7): ldmatrix then has no conflicts.
 *
 * to_of not NULL: the centroids' rows follow at once, as kmeans.cl writes them. Sums of members are products, too:
 *
 *     sum(l, d) = hot(l, e) key(e, d)     hot is 1 where e's label is l; 16 dimensions, or 8, of each warp; then of values, which
 *                                         take the keys' place
 *
 * told not NULL: nobody has shared centroids out over the stretches yet. Each work-group tells what stretch.cl sums up of its
 * own, waits for the others of its head, and shares out as that does. They are VLCI_SPREAD_TOGETHER at most and follow one
 * another: all of a head are at work before the last of them waits. told[..] is `turn` once sums[..] are there: each launch has
 * another.
 *
 * ptx: sm_80 -DKV_DTYPE=3 -DHEAD_DIM=128
 * ptx: sm_80 -DKV_DTYPE=2 -DHEAD_DIM=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 64 */
#endif
enum { LANES = VLCI_MEAN_LANES, ROWS = VLCI_STRETCH, GROUP = VLCI_SPREAD_MMA_GROUP, WARPS = GROUP / 32, MINE = ROWS / WARPS };
enum { CHUNKS = HEAD_DIM / 8, ROW_BYTES = HEAD_DIM * 2, STEPS = HEAD_DIM / 16, TILES = MINE / 16, EACH = 2 * TILES };
enum { OWN = HEAD_DIM / WARPS / 8 /* chunks whose sums a warp has: 1 or 2 */, AT_ONCE = 2 /* of 16 labels */ };
enum { AT_STAGE = ROWS * ROW_BYTES, AT_NORMS = AT_STAGE + 2 * WARPS * ROW_BYTES, AT_MORE = AT_NORMS + 4 * ROWS };
enum { AT_WEIGHTS = AT_MORE + 4 * ROWS, AT_COUNTS = AT_WEIGHTS + 4 * ROWS, AT_PLACES = AT_COUNTS + 4 * ROWS };
enum { AT_RANKS = AT_PLACES + 4 * (ROWS + 4), AT_PARTS = AT_RANKS + 16 * WARPS, AT_SHARE = AT_PARTS + 16 * WARPS };
enum { FRESH = 2 /* no candidate */ };
#define NOTHING (-1e30f) /* as in kmeans.cl */

#if KV_DTYPE == VLCI_DTYPE_BF16
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#define ONES                   0x3f803f80u
#define PACK(low, high)        ptx_bf16x2(low, high)
PTX_CALL float value_of(ushort x) { return as_float((uint)x << 16); }
#else
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
#define ONES                   0x3c003c00u
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

/* Of half of a row in local memory the squared norm; `gap`: what it is apart from another. */
WITH_LOCAL float norm_of(__local const uchar *rows, uint row, uint other, uint part, bool gaps, float *gap) {
    float norm = 0.0f, apart = 0.0f;
#pragma unroll
    for (uint c = part * (CHUNKS / 2); c < (part + 1) * (CHUNKS / 2); c++) {
        float value[8], others[8];
        values_of(rows + chunk_at(row, c), value);
#pragma unroll
        for (uint i = 0; i < 8; i++) norm = ptx_fma(value[i], value[i], norm);
        if (!gaps) continue;
        values_of(rows + chunk_at(other, c), others);
#pragma unroll
        for (uint i = 0; i < 8; i++) apart = ptx_fma(value[i] - others[i], value[i] - others[i], apart);
    }
    *gap = apart;
    return norm;
}

/* Starts the copies of the first n rows. */
WITH_LOCAL void bring(__global const kv_t *of, __local const uint *places, uint row_stride, uint n, uint to) {
#pragma unroll 8
    for (uint i = ptx_item(); i < ROWS * CHUNKS; i += GROUP) {
        const uint r = i / CHUNKS, c = i % CHUNKS;
        if (r < n)
            ptx_copy16(to + chunk_at(r, c),
                       (__global const uchar *)((__global const ushort *)of + (size_t)places[r] * row_stride + c * 8), 16);
    }
}

/* Row x of those a lane has, of the stretch. */
PTX_CALL uint nth_row(uint warp, uint lane, uint x) { return warp * MINE + (x >> 1) * 16 + (x & 1) * 8 + (lane >> 2); }

/* All rows of a warp by the candidates, of which two products' dimensions come at a time. */
PTX_CALL void multiply(float near[TILES][2][4], uint keys, uint stage, uint warp, uint lane) {
#pragma unroll
    for (uint i = 0; i < TILES * 8; i++) near[i >> 3][i >> 2 & 1][i & 3] = 0.0f;
#pragma unroll
    for (uint k = 0; k < STEPS; k += 2) {
        uint x[2][4];
#pragma unroll
        for (uint j = 0; j < 2; j++) PTX_LDMATRIX4(x[j], stage + chunk_at(j * WARPS + (lane & 7), 2 * k + (lane >> 3)));
#pragma unroll
        for (uint f = 0; f < TILES; f++)
#pragma unroll
            for (uint i = 0; i < 2; i++) {
                uint a[4];
                PTX_LDMATRIX4(a, keys + chunk_at(warp * MINE + f * 16 + (lane & 15), 2 * (k + i) + (lane >> 4)));
#pragma unroll
                for (uint j = 0; j < 2; j++) MULTIPLY(near[f][j], a, x[j][2 * i], x[j][2 * i + 1]);
            }
    }
}

/* What a stretch has of its head's centroids, and how much a score weighs. */
typedef struct {
    int first, count;
    float scale;
} share_t;

/* As stretch_shares of stretch.cl has it, of sums of stretch `lane`; a warp knows all of them. */
PTX_CALL share_t share_of(float4 sum, int n, int centroids, int stretch, int stretches, int lane) {
    float all = 0.0f, changes = 0.0f, total = 0.0f, before = 0.0f;
    for (int p = 0; p < stretches; p++) all += ptx_from(sum.x, p);
    const float scale = all > 0.0f ? (float)n / all : 0.0f, change = ptx_fma(scale, sum.z, sum.y);
    for (int p = 0; p < stretches; p++) changes += ptx_from(change, p);
    const float much = 0.95f * ptx_min(ptx_max(((float)n / (float)centroids - 1.0f) / 3.0f, 0.0f), 1.0f);
    const float rows = VLCI_STRETCH_AT(n, lane + 1, stretches) - VLCI_STRETCH_AT(n, lane, stretches);
    const float part = changes > 0.0f ? ptx_min((float)n * (change / changes), 4.0f * rows) : rows;
    const float own = ptx_fma(much, part - rows, rows);
    for (int p = 0; p < stretches; p++) {
        before = p == lane ? total : before;
        total += ptx_from(own, p);
    }
    const int more = centroids - stretches;
    const int first = lane < stretches ? lane + min((int)((float)more * (before / total) + 0.01f), more) : centroids;
    share_t share;
    share.first = as_int(ptx_from(as_float(first), stretch));
    share.count = (stretch + 1 < stretches ? as_int(ptx_from(as_float(first), stretch + 1)) : centroids) - share.first;
    share.scale = scale;
    return share;
}

/* Means of what is in local memory, of centroids that stand for rows: the first `seeds`. hots: labels in f16. Rows count in
 * whole steps of 32; those behind the last are like it and have no label. */
WITH_LOCAL void write_means(uint keys, __local const uint *hots, __local const uint *counts, int rows, int seeds,
                            __global kv_t *of, uint row_stride, const kv_view *to, int first) {
    const uint lane = ptx_item() & 31, warp = ptx_item() >> 5, each = 2 / OWN; /* steps whose rows come at a time */
    for (int label = 0; label < seeds; label += 16 * AT_ONCE) {
        float sum[AT_ONCE][OWN][4];
        uint which[AT_ONCE][2];
#pragma unroll
        for (int m = 0; m < AT_ONCE; m++) {
            const float at = (float)(label + 16 * m + (int)(lane >> 2));
            which[m][0] = ptx_f16x2(at, at);
            which[m][1] = ptx_f16x2(at + 8.0f, at + 8.0f);
#pragma unroll
            for (int i = 0; i < OWN * 4; i++) sum[m][i >> 2][i & 3] = 0.0f;
        }
        for (uint k = 0; (int)k * 16 < rows; k += each) {
            uint b[4];
            if (OWN == 2)
                PTX_LDMATRIX4_TRANS(b, keys + chunk_at(k * 16 + (lane & 15), warp * 2 + (lane >> 4)));
            else
                PTX_LDMATRIX4_TRANS(b, keys + chunk_at(k * 16 + lane, warp));
#pragma unroll
            for (uint j = 0; j < each; j++) {
                const uint low = hots[(k + j) * 8 + (lane & 3)], high = hots[(k + j) * 8 + 4 + (lane & 3)];
#pragma unroll
                for (int m = 0; m < AT_ONCE; m++) {
                    const uint a[4] = {ptx_equal_f16x2(low, which[m][0]) & ONES, ptx_equal_f16x2(low, which[m][1]) & ONES,
                                       ptx_equal_f16x2(high, which[m][0]) & ONES, ptx_equal_f16x2(high, which[m][1]) & ONES};
#pragma unroll
                    for (uint t = 0; t < OWN; t++) MULTIPLY(sum[m][t], a, b[2 * (j + t)], b[2 * (j + t) + 1]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE * 2; i++) {
            const int m = i >> 1, h = (i & 1) * 2, l = label + 8 * i + (int)(lane >> 2);
            if (l >= seeds) continue;
            const float scale = 1.0f / (float)counts[l];
            __global uint *at = (__global uint *)((__global ushort *)of + kv_row(to, first + l) * row_stride + warp * OWN * 8);
#pragma unroll
            for (uint t = 0; t < OWN; t++) at[t * 4 + (lane & 3)] = PACK(sum[m][t][h] * scale, sum[m][t][h + 1] * scale);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(VLCI_SPREAD_MMA_GROUP, 1, 1))) void
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
       __global int *labels, __global float *means, uint means_stride, __global const float *scores, uint scores_at,
       __global const int *shares, uint shares_stride, __global float *sums, __global uint *told, uint turn,
       __global const vlci_kv_head *to_of) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float *norms = (__local float *)(smem + AT_NORMS), *more = (__local float *)(smem + AT_MORE);
    __local float *weights = (__local float *)(smem + AT_WEIGHTS);
    __local uint *places = (__local uint *)(smem + AT_PLACES), *counts = (__local uint *)(smem + AT_COUNTS);
    __local uint2 *ranks = (__local uint2 *)(smem + AT_RANKS);
    __local float4 *parts = (__local float4 *)(smem + AT_PARTS);
    __local share_t *found = (__local share_t *)(smem + AT_SHARE);
    const uint item = ptx_item(), warp = item >> 5, lane = item & 31, keys = (uint)smem;
    const int row = ptx_group_down(), stretch = ptx_group();
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return; /* the whole work-group */
    const int e0 = VLCI_STRETCH_AT(n, stretch, stretches), mine = VLCI_STRETCH_AT(n, stretch + 1, stretches) - e0;
    const uint whole = (uint)(mine + 31) / 32 * 32; /* rows that take part: the last again and again */
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens + e0;
    if (scores) scores += scores_at + (size_t)row * tokens;
    means += (size_t)row * means_stride;

    for (int i = item; i <= ROWS; i += GROUP) { /* and the one before them */
        const int j = evicted[list + (i < mine ? i : i < ROWS ? mine - 1 : e0 ? -1 : 0)];
        places[i] = (uint)kv_row(&rows, own.before + j);
        if (i == ROWS) continue;
        weights[i] = i < mine && scores ? scores[j] : 0.0f;
        counts[i] = 0;
    }
    PTX_TOGETHER();
    bring(rows.k, places, row_stride, whole, keys);
    if (told && item < CHUNKS)
        ptx_copy16(keys + chunk_at(ROWS, item),
                   (__global const uchar *)((__global const ushort *)rows.k + (size_t)places[ROWS] * row_stride + item * 8), 16);
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();

    float4 sum = 0.0f;
#pragma unroll
    for (uint u = item; u < 2 * ROWS; u += GROUP) {
        const uint i = u % ROWS, part = u / ROWS;
        float gap;
        (part ? more : norms)[i] = norm_of(smem, i, i ? i - 1 : ROWS, part, told != 0, &gap);
        if ((int)i < mine) sum += (float4)(part ? 0.0f : weights[i], gap, weights[i] * gap, 0.0f);
    }
    if (told) {
        sums += (size_t)row * shares_stride * 4;
        told += (size_t)row * shares_stride;
        for (uint bits = 16; bits; bits >>= 1)
            sum += (float4)(ptx_butterfly(sum.x, bits), ptx_butterfly(sum.y, bits), ptx_butterfly(sum.z, bits), 0.0f);
        if (lane == 0) parts[warp] = sum;
        PTX_TOGETHER();
        if (warp == 0) {
            if (lane == 0) {
                for (uint w = 1; w < WARPS; w++) sum += parts[w];
                ((__global float4 *)sums)[stretch] = sum;
                ptx_store_release(told + stretch, turn);
            }
            if ((int)lane < stretches) {
                while (ptx_load_acquire(told + lane) != turn) {}
                sum = ptx_load_fresh(sums + 4 * lane);
            }
            ptx_warp_sync();
            const share_t share = share_of(sum, n, own.centroids, stretch, stretches, lane);
            if (lane == 0) *found = share;
        }
    } else if (item == 0) {
        shares += (size_t)row * shares_stride;
        found->first = shares[stretch];
        found->count = shares[stretch + 1] - found->first;
        found->scale = as_float(shares[stretches + 1]);
    }
    PTX_TOGETHER();
    const int c0 = found->first, count = found->count;
    const float scale = found->scale;

    float norm[EACH], weight[EACH], far[EACH], near[TILES][2][4];
    int label[EACH];
#pragma unroll
    for (uint x = 0; x < EACH; x++) {
        const uint i = nth_row(warp, lane, x);
        norm[x] = norms[i] + more[i];
        weight[x] = (int)i >= mine ? 0.0f : scale > 0.0f ? ptx_fma(weights[i], scale, 1.0f) : 1.0f;
        far[x] = weight[x]; /* the first seed is the row that weighs most */
        label[x] = 0;
    }
#pragma unroll
    for (uint i = 0; i < TILES * 8; i++) near[i >> 3][i >> 2 & 1][i & 3] = 0.0f;
    uint candidate[2] = {ROWS, ROWS}; /* of this warp, that rows were multiplied by */
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
        if (lane == 0) rank[warp] = (uint2)(most, at << 2 | (at == candidate[0] ? 0 : at == candidate[1] ? 1 : FRESH));
        PTX_TOGETHER();
        const uint2 other = rank[lane & (WARPS - 1)];
        const uint top = ptx_most(other.x), which = ptx_least(other.x == top ? other.y : 4 * ROWS);
        const uint chosen = which >> 2, owner = chosen / MINE, second = which & 1;
        if (s && !top) break; /* all rows are seeds or equal ones: other centroids stand for none */
        if (which & FRESH) { /* the whole work-group */
            uint next = 0, there = at;
#pragma unroll
            for (uint x = 0; x < EACH; x++)
                if (as_uint(far[x]) > next && nth_row(warp, lane, x) != at) {
                    next = as_uint(far[x]);
                    there = nth_row(warp, lane, x);
                }
            candidate[0] = at;
            candidate[1] = ptx_least(next == ptx_most(next) ? there : ROWS);
            if (lane < 2 * CHUNKS) {
                const uint which_one = lane / CHUNKS, c = lane % CHUNKS;
                *(__local uint4 *)(smem + AT_STAGE + chunk_at(which_one * WARPS + warp, c)) =
                    *(__local const uint4 *)(smem + chunk_at(which_one ? candidate[1] : at, c));
            }
            PTX_TOGETHER();
            if (warp * MINE < whole) multiply(near, keys, keys + AT_STAGE, warp, lane);
        }
        const float seed_norm = norms[chosen] + more[chosen];
        const uint from = (lane & 28) | (owner >> 1 & 3);
#pragma unroll
        for (uint x = 0; x < EACH; x++) {
            const uint f = x >> 1, i = (x & 1) * 2;
            const float low = second ? near[f][1][i] : near[f][0][i], high = second ? near[f][1][i + 1] : near[f][0][i + 1];
            const float square = norm[x] + seed_norm - 2.0f * ptx_from(owner & 1 ? high : low, from);
            const float apart = square > VLCI_SPREAD_LEAST * norm[x] ? square * weight[x] : 0.0f;
            if (!s || apart < far[x]) {
                far[x] = apart;
                label[x] = s;
            }
        }
    }
    PTX_TOGETHER(); /* norms have been read */
    __local ushort *hots = (__local ushort *)more;
#pragma unroll
    for (uint x = 0; x < EACH; x++) { /* one of the four lanes that have a row */
        const uint i = nth_row(warp, lane, x);
        if ((lane & 3) != (x & 3)) continue;
        hots[i] = (ushort)ptx_f16x2((int)i < mine ? (float)label[x] : -1.0f, 0.0f);
        if ((int)i >= mine) continue;
        labels[list + i] = c0 + label[x];
        ptx_add_local((uint)(counts + label[x]), 1);
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
    const kv_view to = kv_of(k, v, bias, to_of + row, table, row_stride);
    const int first = own.before + own.kept + c0;
    for (int l = item; l < count; l += GROUP) bias[kv_row(&to, first + l)] = l < s ? log((float)counts[l]) : NOTHING;
    for (int i = s * CHUNKS + (int)item; i < count * CHUNKS; i += GROUP) { /* the key of those that stand for no row */
        const size_t at = kv_row(&to, first + i / CHUNKS) * row_stride;
        const int c = i % CHUNKS;
        ((__global uint4 *)((__global ushort *)to.k + at))[c] = *(__local const uint4 *)(smem + chunk_at(0, c));
        ((__global uint4 *)((__global ushort *)to.v + at))[c] = 0;
    }
    write_means(keys, (__local const uint *)hots, counts, whole, s, to.k, row_stride, &to, first);
    PTX_TOGETHER();
    bring(rows.v, places, row_stride, whole, keys);
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(0);
    PTX_TOGETHER();
    write_means(keys, (__local const uint *)hots, counts, whole, s, to.v, row_stride, &to, first);
}
