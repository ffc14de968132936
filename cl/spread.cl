/*
 * spread.cl - seeds for kmeans.cl that lie far from one another, in rounds: of the keys of the evicted rows of some layers, for
 * each kv head by itself, in which rows weigh more the more they are attended to.
 *
 *     weight(e)  = 1 + score(e) / mean score of the evicted rows                  as rows are chosen by; 1 without
 *     seed(0)    = the largest weight                                             ties: the lower e, here and below
 *     far(e)     = weight(e) min over the seeds so far of |key(e) - seed|^2       nearest.cl, after each round
 *     a round    takes k = C / 8 seeds of the 4 k rows of largest far (topk.cl), its candidates, one after another: the
 *                candidate of the largest far, where far also knows the round's own seeds; shared.h bounds both
 *
 * A farthest-first traversal (Gonzalez 1985) of all rows would pass over them for each seed: here only the candidates are
 * walked seed by seed, and rows are passed over once a round, as one matrix product. Runs of neighbours, kmeans.cl's own
 * seeds, leave a small thing on a wide ground without a centroid: this finds it among the first.
 *
 * One work-group for each head. What a step of the walk needs is one row of gram.cl's products; all else is in registers. The
 * wait for that row is most of the step: the row of what is likely to be chosen next, the best of those that are not in
 * the same quarter of FOLDED, is fetched beside it.
 *
 *     candidates of a lane   i = lane, lane + PICK_GROUP, ...       weight, norm and far
 *     products               [most][most] of each head              row `chosen`: lanes read neighbours
 *     each lane's best       -> FOLDED of them -> the next seed     as numbers that order by far, then by lower i
 *
 * The means start as the seeds, for one that comes to stand for no row.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128 -DSPREAD_GROUP=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef SPREAD_GROUP
#define SPREAD_GROUP 256 /* work-items of spread_begin; a power of two, 16 or more */
#endif
enum { LANES = VLCI_MEAN_LANES, PICK_GROUP = SPREAD_GROUP < VLCI_SPREAD_GROUP ? SPREAD_GROUP : VLCI_SPREAD_GROUP };
enum { EACH = (VLCI_SPREAD_MOST + PICK_GROUP - 1) / PICK_GROUP, FOLDED = 16, RUNS = HEAD_DIM / 8 };

/* Larger for a larger value that is not negative, then for a lower place. */
static inline ulong rank_of(float value, int place) { return (ulong)as_uint(value) << 32 | (0xffffffffu - (uint)place); }
static inline int place_of(ulong rank) { return (int)(0xffffffffu - (uint)rank); }

/* The largest of all lanes, for each of them; `*next`: the largest of those in other quarters. In trees: a step of a chain of
 * numbers of 64 bits is slow. */
WITH_LOCAL ulong best_of_all(__local ulong *ranks, __local ulong *folded, ulong best, int group, ulong *next) {
    const int lane = get_local_id(0);
    ranks[lane] = best;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < FOLDED) {
        ulong other = 0;
        for (int i = 0; i < group / FOLDED; i += 2) {
            best = max(best, ranks[i * FOLDED + lane]);
            if (i + 1 < group / FOLDED) other = max(other, ranks[(i + 1) * FOLDED + lane]);
        }
        folded[lane] = max(best, other);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    ulong quarter[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        quarter[i] = max(max(folded[4 * i], folded[4 * i + 1]), max(folded[4 * i + 2], folded[4 * i + 3]));
    const ulong low = max(quarter[0], quarter[1]), high = max(quarter[2], quarter[3]);
    *next = max(min(low, high), max(min(quarter[0], quarter[1]), min(quarter[2], quarter[3])));
    return max(low, high);
}

WITH_LOCAL float sum_of_all(__local float *sums, float sum) {
    const int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
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
             __global float *far, __global vlci_seed *seeds, uint seeds_stride) {
    __local ulong ranks[SPREAD_GROUP], folded[FOLDED];
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
    ulong best = 0, next;
    for (int e = lane; e < n; e += SPREAD_GROUP) {
        const float weight = scale > 0.0f ? fma(scores[evicted[e]], scale, 1.0f) : 1.0f;
        weights[e] = weight;
        best = max(best, rank_of(weight, e));
    }
    const int first = place_of(best_of_all(ranks, folded, best, SPREAD_GROUP, &next));
    float norm = 0.0f;
    for (int d = lane; d < HEAD_DIM && n; d += SPREAD_GROUP) {
        const float value = KV_LOAD(rows.k, kv_at(&rows, own.before + evicted[first]) + d);
        means[(size_t)row * means_stride + (size_t)d * LANES] = value;
        norm = fma(value, value, norm);
    }
    norm = sum_of_all(sums, norm);
    if (n && lane == 0) seeds[(size_t)row * seeds_stride] = (vlci_seed){own.before + evicted[first], norm};
}

/* The seeds of one round: of head `row` from the candidates list[row * most ..], e ascending. */
__kernel __attribute__((reqd_work_group_size(PICK_GROUP, 1, 1))) void
spread_pick(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
            __global float *means, uint means_stride, __global const float *weights, __global const float *far,
            __global const int *list, __global const float *products, int most, int round, __global vlci_seed *seeds,
            uint seeds_stride) {
    __local ulong ranks[PICK_GROUP], folded[FOLDED];
    __local int chosen[VLCI_SPREAD_SEEDS];
    __local float norms[VLCI_SPREAD_MOST];
    const int lane = get_local_id(0), row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int from = VLCI_SPREAD_UNTIL(own.centroids, round - 1), last = VLCI_SPREAD_UNTIL(own.centroids, round);
    const int n = min(tokens - own.kept, VLCI_SPREAD_CANDIDATES(last - from)), count = n > 0 ? last - from : 0;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    evicted += (size_t)row * tokens;
    weights += (size_t)row * tokens;
    far += (size_t)row * tokens;
    list += (size_t)row * most;
    products += (size_t)row * most * most;
    means += (size_t)row * means_stride;
    seeds += (size_t)row * seeds_stride;

    float weight[EACH], norm[EACH], reach[EACH], along[EACH], ahead[EACH];
#pragma unroll
    for (int x = 0; x < EACH; x++) {
        const int i = lane + x * PICK_GROUP;
        weight[x] = i < n ? weights[list[i]] : 0.0f;
        norm[x] = i < n ? products[(size_t)i * most + i] : 0.0f;
        reach[x] = i < n ? far[list[i]] : 0.0f;
        if (i < n) norms[i] = norm[x];
    }
    for (int s = 0, fetched = -1; s < count; s++) {
        ulong best = 0, next;
#pragma unroll
        for (int x = 0; x < EACH; x++)
            if (lane + x * PICK_GROUP < n) best = max(best, rank_of(reach[x], lane + x * PICK_GROUP));
        const int at = place_of(best_of_all(ranks, folded, best, PICK_GROUP, &next));
        const bool there = at == fetched;
        fetched = next ? place_of(next) : at;
        if (!there) /* the whole work-group */
#pragma unroll
            for (int x = 0; x < EACH; x++) ahead[x] = products[(size_t)at * most + min(lane + x * PICK_GROUP, n - 1)];
#pragma unroll
        for (int x = 0; x < EACH; x++) {
            along[x] = ahead[x];
            ahead[x] = products[(size_t)fetched * most + min(lane + x * PICK_GROUP, n - 1)];
        }
        if (lane == 0) chosen[s] = at;
#pragma unroll
        for (int x = 0; x < EACH; x++)
            if (lane + x * PICK_GROUP < n)
                reach[x] = fmin(reach[x], weight[x] * fmax(norm[x] + norms[at] - 2.0f * along[x], 0.0f));
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < count * RUNS; i += PICK_GROUP) {
        const int c = from + i % count, d = i / count * 8, at = chosen[i % count], own_row = own.before + evicted[list[at]];
        float key[8];
        vstore8(KV_RUN(rows.k + kv_at(&rows, own_row) + d), 0, key);
        __global float *mean = means + ((size_t)(c / LANES) * HEAD_DIM + d) * LANES + c % LANES;
        for (int j = 0; j < 8; j++) mean[j * LANES] = key[j];
        if (d == 0) seeds[c] = (vlci_seed){own_row, products[(size_t)at * most + at]};
    }
}
