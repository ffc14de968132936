/*
 * spread_wide.cl - spread.cl for devices whose work-items are vector units (CPUs): same arguments, same seeds, no barrier.
 *
 *     One work-item walks the candidates of one head, 16 at a time. They are laid side by side in scratch first, so
 *     that one fused multiply-add serves one dimension of 16 candidates:
 *
 *         gathered   [candidates / 16][HEAD_DIM][16] floats
 *
 * A cut-off block repeats the last candidate with a weight that never wins.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
enum { LANES = VLCI_MEAN_LANES, MOST = VLCI_SPREAD_MOST /* candidates */ };

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
spread_begin(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
             __global float *means, uint means_stride, __global const float *scores, uint scores_at, __global float *weights,
             __global float *far, __global vlci_seed *seeds, uint seeds_stride) {
    const int row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int n = own.centroids ? tokens - own.kept : 0;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    weights += (size_t)row * tokens;
    far += (size_t)row * tokens;
    for (int e = n; e < tokens; e++) far[e] = NAN;
    if (!n) return;

    float sum = 0.0f;
    for (int e = 0; scores && e < n; e++) sum += scores[evicted[e]];
    const float scale = sum > 0.0f ? (float)n / sum : 0.0f;
    float top = -INFINITY;
    int best = 0;
    for (int e = 0; e < n; e++) {
        const float weight = scale > 0.0f ? fma(scores[evicted[e]], scale, 1.0f) : 1.0f;
        weights[e] = weight;
        if (!(weight > top)) continue;
        top = weight;
        best = e;
    }
    const size_t at = kv_at(&rows, own.before + evicted[best]);
    float norm = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float value = KV_LOAD(rows.k, at + d);
        means[(size_t)row * means_stride + d * LANES] = value;
        norm = fma(value, value, norm);
    }
    seeds[(size_t)row * seeds_stride] = (vlci_seed){own.before + evicted[best], norm};
}

/* The lane with the largest value; ties: the lower place. */
static inline int winner(float16 best, int16 at) {
    float value[LANES];
    int place[LANES], w = 0;
    vstore16(best, 0, value);
    vstore16(at, 0, place);
    for (int i = 1; i < LANES; i++)
        if (value[i] > value[w] || (value[i] == value[w] && place[i] < place[w])) w = i;
    return place[w];
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
spread_pick(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
            __global float *means, uint means_stride, __global const float *weights, __global const float *far,
            __global const int *list, __global float *gathered, int most, int round, __global vlci_seed *seeds,
            uint seeds_stride) {
    const int row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int from = VLCI_SPREAD_UNTIL(own.centroids, round - 1), until = VLCI_SPREAD_UNTIL(own.centroids, round);
    const int n = min(tokens - own.kept, VLCI_SPREAD_CANDIDATES(until - from));
    if (n <= 0) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    evicted += (size_t)row * tokens;
    weights += (size_t)row * tokens;
    far += (size_t)row * tokens;
    list += (size_t)row * most;
    gathered += (size_t)row * ((most + LANES - 1) / LANES * LANES) * HEAD_DIM;
    means += (size_t)row * means_stride;
    seeds += (size_t)row * seeds_stride;

    float weight[MOST + LANES], reach[MOST + LANES];
    for (int i = 0; i < (n + LANES - 1) / LANES * LANES; i++) {
        const int e = list[min(i, n - 1)];
        const size_t at = kv_at(&rows, own.before + evicted[e]);
        __global float *to = gathered + (size_t)(i / LANES) * HEAD_DIM * LANES + i % LANES;
        for (int d = 0; d < HEAD_DIM; d++) to[d * LANES] = KV_LOAD(rows.k, at + d);
        weight[i] = weights[e];
        reach[i] = i < n ? far[e] : -INFINITY;
    }
    for (int c = from; c < until; c++) {
        float16 best = -1.0f;
        int16 place = lanes;
        for (int i = 0; i < n; i += LANES) {
            const float16 own_reach = vload16(i / LANES, reach);
            const int16 better = own_reach > best;
            best = select(best, own_reach, better);
            place = select(place, i + lanes, better);
        }
        const int chosen = winner(best, place);
        __global const float *key = gathered + (size_t)(chosen / LANES) * HEAD_DIM * LANES + chosen % LANES;
        __global float *mean = means + (size_t)(c / LANES) * HEAD_DIM * LANES + c % LANES;
        float norm = 0.0f;
        for (int d = 0; d < HEAD_DIM; d++) {
            mean[d * LANES] = key[d * LANES];
            norm = fma(key[d * LANES], key[d * LANES], norm);
        }
        seeds[c] = (vlci_seed){own.before + evicted[list[chosen]], norm};
        for (int i = 0; i < n && c + 1 < until; i += LANES) {
            __global const float *block = gathered + (size_t)i * HEAD_DIM;
            float16 sum = 0.0f;
            for (int d = 0; d < HEAD_DIM; d++) {
                const float16 apart = vload16(d, block) - key[d * LANES];
                sum = fma(apart, apart, sum);
            }
            vstore16(fmin(vload16(i / LANES, reach), vload16(i / LANES, weight) * sum), i / LANES, reach);
        }
    }
}
