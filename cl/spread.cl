/*
 * spread.cl - seeds for kmeans.cl that lie far from one another, in rounds: of the keys of the evicted rows of some layers, for
 * each kv head by itself, in which rows weigh more the more they are attended to.
 *
 *     weight(e)  = 1 + score(e) / mean score of the evicted rows                  as rows are chosen by; 1 without
 *     seed(0)    = the largest weight                                             ties: the lower e, here and below
 *     far(e)     = weight(e) min over the seeds so far of |key(e) - seed|^2       nearest.cl, after each round
 *     a round    takes k = C / 8 seeds of the 4 k rows of largest far (topk.cl), its candidates, one after another: the
 *                candidate of the largest far, where far also knows the round's own seeds
 *
 * A farthest-first traversal (Gonzalez 1985) of all rows would pass over them for each seed: here only the candidates are
 * walked seed by seed, and rows are passed over once a round, as one matrix product. Runs of neighbours, kmeans.cl's own
 * seeds, leave a small thing on a wide ground without a centroid: this finds it among the first.
 *
 * One work-group for each head:
 *
 *     candidates of a lane   i = lane, lane + SPREAD_GROUP, ...     weight and far in registers
 *     keys of all, gathered  [HEAD_DIM / 8][candidates][8]          lanes read neighbours; they stay in a unit's cache
 *     each lane's best       -> 16 of them each -> the next seed    as numbers that order by far, then by lower i
 *
 * The means start as the seeds, for one that comes to stand for no row.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128 -DSPREAD_GROUP=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef SPREAD_GROUP
#define SPREAD_GROUP 256 /* work-items; a power of two, 16 or more */
#endif
enum { LANES = VLCI_MEAN_LANES, MOST = VLCI_SPREAD_CANDIDATES(VLCI_SPREAD_SEEDS), EACH = (MOST + SPREAD_GROUP - 1) / SPREAD_GROUP };
enum { FOLD = 16, WORDS = 2 * sizeof(kv_t) /* of 32 bits, of 8 elements */ };

/* Larger for a larger value that is not negative, then for a lower place. */
static inline ulong rank_of(float value, int place) { return (ulong)as_uint(value) << 32 | (0xffffffffu - (uint)place); }
static inline int place_of(ulong rank) { return (int)(0xffffffffu - (uint)rank); }

/* The largest of all lanes, for each of them. */
WITH_LOCAL ulong best_of_all(__local ulong *ranks, __local ulong *folded, ulong best) {
    const int lane = get_local_id(0);
    ranks[lane] = best;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < SPREAD_GROUP / FOLD) {
        for (int i = 0; i < FOLD; i++) best = max(best, ranks[lane * FOLD + i]);
        folded[lane] = best;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    best = folded[0];
    for (int i = 1; i < SPREAD_GROUP / FOLD; i++) best = max(best, folded[i]);
    return best;
}

WITH_LOCAL float sum_of_all(__local float *sums, float sum) {
    const int lane = get_local_id(0);
    sums[lane] = sum;
    for (int half_group = SPREAD_GROUP / 2; half_group > 0; half_group /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_group) sums[lane] += sums[lane + half_group];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return sums[0];
}

/* Weights and the first seed. What is no evicted row is never a candidate: NaN. */
__kernel __attribute__((reqd_work_group_size(SPREAD_GROUP, 1, 1))) void
spread_begin(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
             __global float *means, uint means_stride, __global const float *scores, uint scores_at, __global float *weights,
             __global float *far) {
    __local ulong ranks[SPREAD_GROUP], folded[SPREAD_GROUP / FOLD];
    __local float sums[SPREAD_GROUP];
    const int lane = get_local_id(0), row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int n = own.centroids ? tokens - own.kept : 0;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    weights += (size_t)row * tokens;
    far += (size_t)row * tokens;
    for (int e = n + lane; e < tokens; e += SPREAD_GROUP) far[e] = NAN;

    float sum = 0.0f;
    for (int e = lane; scores && e < n; e += SPREAD_GROUP) sum += scores[evicted[e]];
    sum = sum_of_all(sums, sum);
    const float scale = sum > 0.0f ? (float)n / sum : 0.0f;
    ulong best = 0;
    for (int e = lane; e < n; e += SPREAD_GROUP) {
        const float weight = scale > 0.0f ? fma(scores[evicted[e]], scale, 1.0f) : 1.0f;
        weights[e] = weight;
        best = max(best, rank_of(weight, e));
    }
    const int first = place_of(best_of_all(ranks, folded, best));
    for (int d = lane; d < HEAD_DIM && n; d += SPREAD_GROUP)
        means[(size_t)row * means_stride + (size_t)d * LANES] = KV_LOAD(rows.k, kv_at(&rows, own.before + evicted[first]) + d);
}

/* The seeds of one round: of head `row` from the candidates list[row * most ..], e ascending. */
__kernel __attribute__((reqd_work_group_size(SPREAD_GROUP, 1, 1))) void
spread_pick(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
            __global float *means, uint means_stride, __global const float *weights, __global const float *far,
            __global const int *list, __global uint *gathered, int most, int round) {
    __local ulong ranks[SPREAD_GROUP], folded[SPREAD_GROUP / FOLD];
    __local float seed[HEAD_DIM] __attribute__((aligned(128)));
    const int lane = get_local_id(0), row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int from = VLCI_SPREAD_UNTIL(own.centroids, round - 1), last = VLCI_SPREAD_UNTIL(own.centroids, round);
    const int n = min(tokens - own.kept, VLCI_SPREAD_CANDIDATES(last - from)), until = n > 0 ? last : from;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    evicted += (size_t)row * tokens;
    weights += (size_t)row * tokens;
    far += (size_t)row * tokens;
    list += (size_t)row * most;
    gathered += (size_t)row * most * (HEAD_DIM / 8 * WORDS);
    means += (size_t)row * means_stride;

    for (int i = lane; i < n * (HEAD_DIM / 8); i += SPREAD_GROUP) {
        const int candidate = i / (HEAD_DIM / 8), d = i % (HEAD_DIM / 8);
        __global const uint *key =
            (__global const uint *)rows.k + kv_at(&rows, own.before + evicted[list[candidate]]) / 8 * WORDS + d * WORDS;
        for (int w = 0; w < WORDS; w++) gathered[((size_t)d * n + candidate) * WORDS + w] = key[w];
    }
    __global const kv_t *keys = (__global const kv_t *)gathered;
    float weight[EACH], reach[EACH];
    for (int x = 0; x < EACH; x++) {
        const int i = lane + x * SPREAD_GROUP;
        weight[x] = i < n ? weights[list[i]] : 0.0f;
        reach[x] = i < n ? far[list[i]] : 0.0f;
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (int c = from; c < until; c++) {
        ulong best = 0;
        for (int x = 0; x < EACH; x++)
            if (lane + x * SPREAD_GROUP < n) best = max(best, rank_of(reach[x], lane + x * SPREAD_GROUP));
        const int chosen = place_of(best_of_all(ranks, folded, best));
        for (int d = lane; d < HEAD_DIM; d += SPREAD_GROUP) {
            seed[d] = KV_LOAD(keys, ((size_t)(d / 8) * n + chosen) * 8 + d % 8);
            means[(size_t)(c / LANES) * HEAD_DIM * LANES + (size_t)d * LANES + c % LANES] = seed[d];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int x = 0; x < EACH && c + 1 < until; x++) {
            const int i = lane + x * SPREAD_GROUP;
            if (i >= n) continue;
            float8 sum = 0.0f;
            for (int d = 0; d < HEAD_DIM / 8; d++) {
                const float8 apart = KV_LOAD8(keys, ((size_t)d * n + i) * 8) - vload8(d, seed);
                sum = fma(apart, apart, sum);
            }
            reach[x] = fmin(reach[x], weight[x] * sum8(sum));
        }
    }
}
