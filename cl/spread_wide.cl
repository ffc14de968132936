/*
 * spread_wide.cl - spread.cl for devices whose work-items are vector units (CPUs): same arguments, same seeds, no barrier.
 *
 *     One work-item walks all evicted rows of one head, 16 at a time. They are laid side by side in scratch
 *     first, so that one fused multiply-add serves one dimension of 16 rows:
 *
 *         block   | dimension 0 of 16 rows | ... | HEAD_DIM - 1 | weight | distance | label |       each line 16 floats
 *
 * A cut-off block repeats the last row with a weight that never wins. A label is exact as a float below 2^24.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
enum { LANES = VLCI_MEAN_LANES, WEIGHT = HEAD_DIM, DISTANCE, LABEL, LINES = HEAD_DIM + VLCI_SPREAD_LINES };

/* Rows e0 .. e0 + 15 of n side by side. scale: 1 / mean score; 0: none. */
static void lay_block(const kv_view *rows, int first, __global const int *evicted, __global const float *score,
                      float scale, int e0, int n, __global float *block) {
    for (int i = 0; i < LANES; i++) {
        const int j = evicted[min(e0 + i, n - 1)];
        const size_t at = kv_at(rows, first + j);
        for (int d = 0; d < HEAD_DIM; d++) block[d * LANES + i] = KV_LOAD(rows->k, at + d);
        block[WEIGHT * LANES + i] = e0 + i >= n ? -INFINITY : scale > 0.0f ? fma(score[j], scale, 1.0f) : 1.0f;
    }
    vstore16((float16)INFINITY, DISTANCE, block);
    vstore16((float16)0.0f, LABEL, block);
}

/* Seed `c` among the 16 rows; what they weigh times how far they are from all seeds so far. */
static inline float16 meet_seed(const float *seed, int c, __global float *block) {
    float16 sum = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 apart = vload16(d, block) - seed[d];
        sum = fma(apart, apart, sum);
    }
    const float16 before = vload16(DISTANCE, block);
    const int16 nearer = sum < before;
    const float16 distance = select(before, sum, nearer);
    vstore16(distance, DISTANCE, block);
    vstore16(select(vload16(LABEL, block), (float16)c, nearer), LABEL, block);
    return vload16(WEIGHT, block) * distance;
}

/* The row with the largest value of all lanes; ties: the lower. */
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
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global int *evicted, __global int *labels,
       __global float *means, uint means_stride, __global const float *scores, uint scores_at, __global float *scratch,
       uint scratch_stride) {
    const int row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, c_n = n > 0 ? own.centroids : 0;
    if (!c_n) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    evicted += (size_t)row * tokens;
    labels += (size_t)row * tokens;
    means += (size_t)row * means_stride;
    scratch += (size_t)row * scratch_stride;
    if (scores) scores += scores_at + (size_t)row * tokens;

    float sum = 0.0f, top = -INFINITY;
    int at = 0;
    for (int e = 0; scores && e < n; e++) sum += scores[evicted[e]];
    const float scale = sum > 0.0f ? (float)n / sum : 0.0f;
    for (int e = 0; scale > 0.0f && e < n; e++) {
        if (!(scores[evicted[e]] > top)) continue;
        top = scores[evicted[e]];
        at = e;
    }
    for (int e = 0; e < n; e += LANES) lay_block(&rows, own.before, evicted, scores, scale, e, n, scratch + (size_t)e * LINES);
    for (int c = 0; c < c_n; c++) {
        __global const float *chosen = scratch + (size_t)(at / LANES) * LANES * LINES + at % LANES;
        __global float *mean = means + (size_t)(c / LANES) * HEAD_DIM * LANES + c % LANES;
        float seed[HEAD_DIM];
        float16 best = -1.0f;
        int16 place = lanes;
        for (int d = 0; d < HEAD_DIM; d++) mean[d * LANES] = seed[d] = chosen[d * LANES];
        for (int e = 0; e < n; e += LANES) {
            const float16 far = meet_seed(seed, c, scratch + (size_t)e * LINES);
            const int16 better = far > best;
            best = select(best, far, better);
            place = select(place, e + lanes, better);
        }
        at = winner(best, place);
    }
    for (int e = 0; e < n; e++)
        labels[e] = (int)scratch[(size_t)(e / LANES) * LANES * LINES + LABEL * LANES + e % LANES];
}
