/*
 * spread.cl - seeds for kmeans.cl that lie far from one another: a farthest-first traversal (Gonzalez 1985) of the keys
 * of the evicted rows of some layers, for each kv head by itself, in which rows weigh more the more they are attended to.
 *
 *     weight(e)   = 1 + score(e) / mean score of the evicted rows                 as rows are chosen by; 1 without
 *     seed(0)     = the largest weight
 *     distance(e) = min over the seeds so far of |key(e) - seed|^2;  label(e) = that seed, the first of equals
 *     seed(c)     = the largest weight(e) distance(e)                             ties: the lower e
 *
 * Runs of neighbours, kmeans.cl's own seeds, leave a small thing on a wide ground without a centroid: this finds it first.
 * Labels come with the distances, so it costs as much as one assignment does. One work-group for each head:
 *
 *     rows of a lane   e = lane, lane + SPREAD_GROUP, ...     each lane's best -> tree in local memory -> the next seed
 *
 * `distance` is scratch of [row][distance_stride]. The means start as the seeds, for one that comes to stand for no row.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128 -DSPREAD_GROUP=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef SPREAD_GROUP
#define SPREAD_GROUP 256 /* work-items; a power of two */
#endif
enum { LANES = VLCI_MEAN_LANES }; /* of a row of means: see kmeans.cl */

/* The better of two candidates is left in `best` and `at`. */
static inline void take_better(float *best, int *at, float other, int other_at) {
    if (other > *best || (other == *best && other_at < *at)) {
        *best = other;
        *at = other_at;
    }
}

/* What is best of all lanes, for each of them. */
WITH_LOCAL int best_of_all(__local float *bests, __local int *places, float best, int at) {
    const int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    bests[lane] = best;
    places[lane] = at;
    for (int half_group = SPREAD_GROUP / 2; half_group > 0; half_group /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_group) {
            take_better(&best, &at, bests[lane + half_group], places[lane + half_group]);
            bests[lane] = best;
            places[lane] = at;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return places[0];
}

/* The sum over all lanes, for each of them. */
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

WITH_LOCAL float squared_distance(__global const kv_t *key, __local const float *seed) {
    float8 sum = 0.0f;
    for (int d = 0; d < HEAD_DIM; d += 8) {
        const float8 apart = KV_LOAD8(key, d) - vload8(0, seed + d);
        sum = fma(apart, apart, sum);
    }
    return sum8(sum);
}

__kernel __attribute__((reqd_work_group_size(SPREAD_GROUP, 1, 1))) void
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global int *evicted, __global int *labels,
       __global float *means, uint means_stride, __global const float *scores, uint scores_at, __global float *distance,
       uint distance_stride) {
    __local float seed[HEAD_DIM] __attribute__((aligned(128)));
    __local float bests[SPREAD_GROUP];
    __local int places[SPREAD_GROUP];
    const int lane = get_local_id(0), row = get_group_id(0);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, c_n = n > 0 ? own.centroids : 0, first = own.before;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    labels += (size_t)row * tokens;
    distance += (size_t)row * distance_stride;
    means += (size_t)row * means_stride;

    float sum = 0.0f, best = -1.0f;
    for (int e = lane; scores && e < n; e += SPREAD_GROUP) sum += scores[evicted[e]];
    sum = sum_of_all(bests, sum);
    const float scale = sum > 0.0f ? (float)n / sum : 0.0f;
    int at = lane;
    for (int e = lane; e < n; e += SPREAD_GROUP) {
        distance[e] = INFINITY;
        labels[e] = 0;
        if (scale > 0.0f) take_better(&best, &at, scores[evicted[e]], e);
    }
    for (int c = 0; c < c_n; c++) {
        at = best_of_all(bests, places, best, at);
        for (int d = lane; d < HEAD_DIM; d += SPREAD_GROUP) {
            seed[d] = KV_LOAD(rows.k, kv_at(&rows, first + evicted[at]) + d);
            means[(size_t)(c / LANES) * HEAD_DIM * LANES + (size_t)d * LANES + c % LANES] = seed[d];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        best = -1.0f;
        at = lane;
        for (int e = lane; e < n; e += SPREAD_GROUP) {
            const float apart = squared_distance(rows.k + kv_at(&rows, first + evicted[e]), seed);
            const float weight = scale > 0.0f ? fma(scores[evicted[e]], scale, 1.0f) : 1.0f;
            float nearest = distance[e];
            if (apart < nearest) {
                distance[e] = nearest = apart;
                labels[e] = c;
            }
            take_better(&best, &at, weight * nearest, e);
        }
    }
}
