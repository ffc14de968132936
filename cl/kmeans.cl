/*
 * kmeans.cl - rows that stand for those not kept: k-means over the rotated keys of the evicted rows of some layers, for each
 * kv head by itself.
 *
 *     evicted   e = 0 .. E - 1: the prompt's positions that are not kept, ascending        E = tokens - kept
 *     seeds     label(e) = floor(e * C / E): C runs of neighbours, or as spread.cl has it  C = centroids, E > C
 *     means     mean(c)  = mean of the keys with label c; one without keys stays as it is
 *     assign    label(e) = the c nearest to key(e): largest key . mean(c) - |mean(c)|^2 / 2; ties: the lower
 *     write     rows: mean key, mean value; bias = log(count): softmax then counts a centroid as often as it stands for
 *
 * Means lie transposed, [C / 16][HEAD_DIM][16], so that one vector operation serves one dimension of 16 centroids. Sums run
 * in the order of positions; there are no atomics and no barriers. keep[keep_at + head] says what a head keeps.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DPART=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef PART
#define PART 8 /* dimensions of a centroid that a work-item adds up: a divisor of HEAD_DIM and a multiple of 8; all of them
                  where a work-item is a whole core */
#endif
#ifndef KEYS
#define KEYS 4 /* rows that share one load of 16 means */
#endif
enum { LANES = VLCI_MEAN_LANES };
#define NOTHING (-1e30f) /* logit bias of a centroid that stands for no row: finite, so that no NaN comes of it */

/* One work-item for each gap between kept positions. */
__kernel void kmeans_evicted(__global const int *positions, __global const vlci_keep *keep, uint keep_at, int tokens,
                             __global int *evicted, __global int *labels) {
    const int gap = get_global_id(0), row = get_global_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int stay = own.kept, n = tokens - stay, c = own.centroids;
    if (gap > stay) return;
    __global const int *position = positions + own.first;
    const int from = gap ? position[gap - 1] + 1 : 0, until = gap < stay ? position[gap] : tokens;
    for (int j = from; j < until; j++) {
        evicted[(size_t)row * tokens + j - gap] = j;
        labels[(size_t)row * tokens + j - gap] = (int)((long)(j - gap) * c / n);
    }
}

/* PART dimensions of a sum of rows. */
typedef union {
    float8 all[PART / 8];
    float d[PART];
} part_t;

/* Adds up the members' rows of K or V (`of`), PART dimensions from d on, in order; returns how many. */
static int member_sum(const kv_view *rows, __global const kv_t *of, int first, int d, __global const int *evicted,
                      __global const int *labels, int n, int centroid, part_t *sum) {
    int count = 0;
    for (int i = 0; i < PART / 8; i++) sum->all[i] = 0.0f;
    for (int e0 = 0; e0 < n; e0 += LANES) {
        if (e0 + LANES <= n && !any(vload16(0, labels + e0) == centroid)) continue;
        for (int e = e0; e < min(e0 + (int)LANES, n); e++) {
            if (labels[e] != centroid) continue;
            const size_t at = kv_at(rows, first + evicted[e]) + d;
            for (int i = 0; i < PART / 8; i++) sum->all[i] += KV_LOAD8(of, at + 8 * i);
            count++;
        }
    }
    return count;
}

#define HEAD_PARAMS                                                                                                  \
    KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,           \
        __global int *labels, __global float *means, uint means_stride

/* One work-item for PART dimensions of a centroid. */
__kernel void kmeans_means(HEAD_PARAMS) {
    const int d = get_global_id(0) * PART, centroid = get_global_id(1), row = get_global_id(2);
    const vlci_keep own = keep[keep_at + row];
    if (d >= HEAD_DIM || centroid >= own.centroids) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens;
    part_t sum;
    const int count = member_sum(&rows, rows.k, own.before, d, evicted + list, labels + list, tokens - own.kept, centroid, &sum);
    if (!count) return;
    __global float *to = means + (size_t)row * means_stride + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
    for (int i = 0; i < PART; i++) to[(d + i) * LANES] = sum.d[i] / (float)count;
}

/* One work-item for KEYS evicted rows. Lanes beyond the last centroid never win. */
__kernel void kmeans_assign(HEAD_PARAMS) {
    const int e0 = get_global_id(0) * KEYS, row = get_global_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, c_n = own.centroids;
    if (e0 >= n || !c_n) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens;
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t key[KEYS];
    float16 best[KEYS];
    int16 label[KEYS];
    for (int i = 0; i < KEYS; i++) {
        key[i] = kv_at(&rows, own.before + evicted[list + min(e0 + i, n - 1)]);
        best[i] = -INFINITY;
        label[i] = 0;
    }
    for (int c0 = 0; c0 < c_n; c0 += LANES) {
        __global const float *mean = means + (size_t)row * means_stride + (size_t)c0 * HEAD_DIM;
        float16 dots[KEYS], norm = 0.0f;
        for (int i = 0; i < KEYS; i++) dots[i] = 0.0f;
        for (int d = 0; d < HEAD_DIM; d++) {
            const float16 m = vload16(d, mean);
            norm = fma(m, m, norm);
            for (int i = 0; i < KEYS; i++) dots[i] = fma((float16)KV_LOAD(rows.k, key[i] + d), m, dots[i]);
        }
        for (int i = 0; i < KEYS; i++) {
            const float16 near = dots[i] - 0.5f * norm;
            const int16 nearer = (near > best[i]) & (c0 + lanes < c_n);
            best[i] = select(best[i], near, nearer);
            label[i] = select(label[i], c0 + lanes, nearer);
        }
    }
    for (int i = 0; i < KEYS && e0 + i < n; i++) {
        float nearness[LANES];
        int which[LANES], winner = 0;
        vstore16(best[i], 0, nearness);
        vstore16(label[i], 0, which);
        for (int lane = 1; lane < min(c_n, (int)LANES); lane++)
            if (nearness[lane] > nearness[winner] || (nearness[lane] == nearness[winner] && which[lane] < which[winner]))
                winner = lane;
        labels[list + e0 + i] = which[winner];
    }
}

/* One work-item for PART dimensions of a centroid: its row behind the kept ones. */
__kernel void kmeans_write(HEAD_PARAMS, __global const vlci_kv_head *to_of) {
    const int d = get_global_id(0) * PART, centroid = get_global_id(1), row = get_global_id(2);
    const vlci_keep own = keep[keep_at + row];
    if (d >= HEAD_DIM || centroid >= own.centroids) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row), to = kv_of(k, v, bias, to_of + row, table, row_stride);
    const size_t list = (size_t)row * tokens;
    part_t sum;
    const int count = member_sum(&rows, rows.v, own.before, d, evicted + list, labels + list, tokens - own.kept, centroid, &sum);
    __global const float *mean =
        means + (size_t)row * means_stride + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
    const int target = own.before + own.kept + centroid;
    const size_t at = kv_at(&to, target) + d;
    for (int i = 0; i < PART; i++) {
        KV_STORE(mean[(d + i) * LANES], to.k, at + i);
        KV_STORE(sum.d[i] / (float)max(count, 1), to.v, at + i);
    }
    if (d == 0) bias[kv_row(&to, target)] = count ? log((float)count) : NOTHING;
}
