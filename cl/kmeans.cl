/*
 * kmeans.cl - rows that stand for those not kept: k-means over the rotated keys of the evicted rows of one layer, for each
 * kv head by itself.
 *
 *     evicted   e = 0 .. E - 1: the prompt's positions that are not kept, ascending        E = tokens - kept
 *     seeds     label(e) = floor(e * C / E): C runs of neighbours, or as spread.cl has it  C = centroids, E > C
 *     means     mean(c)  = mean of the keys with label c; one without keys stays as it is
 *     assign    label(e) = the c nearest to key(e): largest key . mean(c) - |mean(c)|^2 / 2; ties: the lower
 *     write     rows: mean key, mean value; bias = log(count): softmax then counts a centroid as often as it stands for
 *
 * Means lie transposed, [C / 16][HEAD_DIM][16], so that one vector operation serves one dimension of 16 centroids. Sums run
 * in the order of positions; there are no atomics and no barriers. `layer` + b is a sequence's place in kept and centroids.
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
enum { LANES = 16 };
#define NOTHING (-1e30f) /* logit bias of a centroid that stands for no row: finite, so that no NaN comes of it */

/* One work-item for each gap between kept positions. `stride` of evicted and labels: of one (sequence, kv head). */
__kernel void kmeans_evicted(__global const int *positions, uint positions_stride, __global const int *tokens,
                             __global const int *kept, __global const int *centroids, uint layer, int kv_heads,
                             __global int *evicted, __global int *labels, uint stride) {
    const int gap = get_global_id(0), row = get_global_id(1), b = row / kv_heads;
    const int stay = kept[layer + b], n = tokens[b] - stay, c = centroids[layer + b];
    if (gap > stay) return;
    __global const int *position = positions + (size_t)row * positions_stride;
    const int from = gap ? position[gap - 1] + 1 : 0, until = gap < stay ? position[gap] : tokens[b];
    for (int j = from; j < until; j++) {
        evicted[(size_t)row * stride + j - gap] = j;
        labels[(size_t)row * stride + j - gap] = (int)((long)(j - gap) * c / n);
    }
}

/* PART dimensions of a sum of rows. */
typedef union {
    float8 all[PART / 8];
    float d[PART];
} part_t;

/* Adds up the members' rows, in order; returns how many. */
static int member_sum(__global const kv_t *rows, size_t at, uint row_stride, __global const int *evicted,
                      __global const int *labels, int n, int centroid, part_t *sum) {
    int count = 0;
    for (int i = 0; i < PART / 8; i++) sum->all[i] = 0.0f;
    for (int e0 = 0; e0 < n; e0 += LANES) {
        if (e0 + LANES <= n && !any(vload16(0, labels + e0) == centroid)) continue;
        for (int e = e0; e < min(e0 + (int)LANES, n); e++) {
            if (labels[e] != centroid) continue;
            const size_t row = at + (size_t)evicted[e] * row_stride;
            for (int i = 0; i < PART / 8; i++) sum->all[i] += KV_LOAD8(rows, row + 8 * i);
            count++;
        }
    }
    return count;
}

/* One work-item for PART dimensions of a centroid. */
__kernel void kmeans_means(__global const kv_t *k, uint k_offset, uint seq_stride, uint head_stride, uint row_stride,
                           __global const int *before, int before_offset, __global const int *tokens,
                           __global const int *kept, __global const int *centroids, uint layer, int kv_heads,
                           __global const int *evicted, __global const int *labels, uint stride, __global float *means,
                           uint means_stride) {
    const int d = get_global_id(0) * PART, centroid = get_global_id(1), row = get_global_id(2), b = row / kv_heads;
    if (d >= HEAD_DIM || centroid >= centroids[layer + b]) return;
    const size_t first = before[before_offset + row], list = (size_t)row * stride;
    const size_t at = k_offset + (size_t)b * seq_stride + (size_t)(row % kv_heads) * head_stride + first * row_stride + d;
    part_t sum;
    const int count = member_sum(k, at, row_stride, evicted + list, labels + list, tokens[b] - kept[layer + b], centroid, &sum);
    if (!count) return;
    __global float *to = means + (size_t)row * means_stride + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
    for (int i = 0; i < PART; i++) to[(d + i) * LANES] = sum.d[i] / (float)count;
}

/* One work-item for KEYS evicted rows. Lanes beyond the last centroid never win. */
__kernel void kmeans_assign(__global const kv_t *k, uint k_offset, uint seq_stride, uint head_stride, uint row_stride,
                            __global const int *before, int before_offset, __global const int *tokens,
                            __global const int *kept, __global const int *centroids, uint layer, int kv_heads,
                            __global const int *evicted, __global int *labels, uint stride, __global const float *means,
                            uint means_stride) {
    const int e0 = get_global_id(0) * KEYS, row = get_global_id(1), b = row / kv_heads;
    const int n = tokens[b] - kept[layer + b], c_n = centroids[layer + b];
    if (e0 >= n || !c_n) return;
    const size_t first = before[before_offset + row], list = (size_t)row * stride;
    const size_t head = k_offset + (size_t)b * seq_stride + (size_t)(row % kv_heads) * head_stride + first * row_stride;
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t key[KEYS];
    float16 best[KEYS];
    int16 label[KEYS];
    for (int i = 0; i < KEYS; i++) {
        key[i] = head + (size_t)evicted[list + min(e0 + i, n - 1)] * row_stride;
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
            for (int i = 0; i < KEYS; i++) dots[i] = fma((float16)KV_LOAD(k, key[i] + d), m, dots[i]);
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

/* One work-item for PART dimensions of a centroid: its row behind the kept ones. bias: [row][capacity]. */
__kernel void kmeans_write(__global const kv_t *v, uint v_offset, uint seq_stride, uint head_stride, uint row_stride,
                           __global const int *before, int before_offset, __global const int *tokens,
                           __global const int *kept, __global const int *centroids, uint layer, int kv_heads,
                           __global const int *evicted, __global const int *labels, uint stride,
                           __global const float *means, uint means_stride, __global kv_t *to_k, uint to_k_offset,
                           __global kv_t *to_v, uint to_v_offset, uint to_seq, uint to_head, uint to_row,
                           __global float *bias, int capacity) {
    const int d = get_global_id(0) * PART, centroid = get_global_id(1), row = get_global_id(2), b = row / kv_heads;
    if (d >= HEAD_DIM || centroid >= centroids[layer + b]) return;
    const int first = before[before_offset + row], stay = kept[layer + b], h = row % kv_heads;
    const size_t list = (size_t)row * stride, target = first + stay + centroid;
    const size_t at = v_offset + (size_t)b * seq_stride + (size_t)h * head_stride + (size_t)first * row_stride + d;
    part_t sum;
    const int count = member_sum(v, at, row_stride, evicted + list, labels + list, tokens[b] - stay, centroid, &sum);
    __global const float *mean =
        means + (size_t)row * means_stride + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
    const size_t to = (size_t)b * to_seq + (size_t)h * to_head + target * to_row + d;
    for (int i = 0; i < PART; i++) {
        KV_STORE(mean[(d + i) * LANES], to_k, to_k_offset + to + i);
        KV_STORE(sum.d[i] / (float)max(count, 1), to_v, to_v_offset + to + i);
    }
    if (d == 0) bias[(size_t)row * capacity + target] = count ? log((float)count) : NOTHING;
}
