/*
 * spread_wide.cl - spread.cl for devices whose work-items are vector units (CPUs): same arguments, same seeds, no barrier.
 *
 *     One work-item walks over the rows of one stretch, 16 at a time. They are laid side by side in scratch first, so
 *     that one fused multiply-add serves one dimension of 16 rows:
 *
 *         room   [blocks][HEAD_DIM keys, weight, far, label][16] floats of each head; stretch p begins with block e0 / 16 + p
 *
 * A cut-off block repeats the last row with a weight that never wins.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
enum { LANES = VLCI_MEAN_LANES, WEIGHT = HEAD_DIM, FAR, LABEL, LINES = HEAD_DIM + VLCI_SPREAD_WIDE_MORE };

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

/* Keys of a block's rows and their weights; `far`: these, so that the first seed is the row that weighs most. */
static inline void lay(const kv_view *rows, int before, __global const int *evicted, int n, __global const float *scores,
                       float scale, __global float *block) {
    for (int i = 0; i < LANES; i++) {
        const int j = evicted[min(i, n - 1)];
        const size_t at = kv_at(rows, before + j);
        for (int d = 0; d < HEAD_DIM; d++) block[d * LANES + i] = KV_LOAD(rows->k, at + d);
        block[WEIGHT * LANES + i] = i >= n ? -1.0f : scale > 0.0f ? fma(scores[j], scale, 1.0f) : 1.0f;
        block[FAR * LANES + i] = block[WEIGHT * LANES + i];
        block[LABEL * LANES + i] = 0.0f;
    }
}

/* A seed, and 16 rows: how far they are from it. `first`: whatever was known before. */
static inline void meet(__global float *block, const float *seed, bool first, int c) {
    const float16 weight = vload16(WEIGHT, block), before = vload16(FAR, block);
    float16 sum = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 apart = vload16(d, block) - seed[d];
        sum = fma(apart, apart, sum);
    }
    const int16 nearer = first ? (int16)(-1) : (sum * weight < before);
    vstore16(select(before, select(sum * weight, (float16)(-1.0f), weight < 0.0f), nearer), FAR, block);
    vstore16(select(vload16(LABEL, block), as_float16((int16)c), nearer), LABEL, block);
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
       __global int *labels, __global float *means, uint means_stride, __global const float *scores, uint scores_at,
       __global const int *shares, uint shares_stride, __global float *room, uint room_stride,
       __global const vlci_kv_head *to_of) {
    const int stretch = get_group_id(0), row = get_group_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return;
    const int e0 = VLCI_STRETCH_AT(n, stretch, stretches), mine = VLCI_STRETCH_AT(n, stretch + 1, stretches) - e0;
    shares += (size_t)row * shares_stride;
    const int c0 = shares[stretch], c1 = shares[stretch + 1], blocks = (mine + LANES - 1) / LANES;
    const float scale = as_float(shares[stretches + 1]);
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens + e0;
    labels += (size_t)row * tokens + e0;
    means += (size_t)row * means_stride;
    room += (size_t)row * room_stride + (size_t)(e0 / LANES + stretch) * LINES * LANES;

    for (int b = 0; b < blocks; b++)
        lay(&rows, own.before, evicted + b * LANES, mine - b * LANES, scores, scale, room + (size_t)b * LINES * LANES);
    for (int c = c0; c < c1; c++) {
        float16 best = -1.0f;
        int16 place = lanes;
        for (int b = 0; b < blocks; b++) {
            const float16 far = vload16(FAR, room + (size_t)b * LINES * LANES);
            const int16 better = far > best;
            best = select(best, far, better);
            place = select(place, b * LANES + lanes, better);
        }
        const int chosen = winner(best, place);
        __global const float *key = room + (size_t)(chosen / LANES) * LINES * LANES + chosen % LANES;
        __global float *mean = means + (size_t)(c / LANES) * HEAD_DIM * LANES + c % LANES;
        const bool none = c > c0 && key[FAR * LANES] == 0.0f;
        float seed[HEAD_DIM];
        for (int d = 0; d < HEAD_DIM; d++) {
            seed[d] = key[d * LANES];
            if (none) mean[d * LANES] = seed[d];
        }
        for (int b = 0; b < blocks; b++) meet(room + (size_t)b * LINES * LANES, seed, c == c0, c);
    }
    for (int i = 0; i < mine; i++) labels[i] = as_int(room[((size_t)(i / LANES) * LINES + LABEL) * LANES + i % LANES]);
}
