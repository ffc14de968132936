/*
 * spread.cl - seeds for kmeans.cl that lie far from one another: of the keys of the evicted rows of some layers, for each kv
 * head by itself, in which rows weigh more the more they are attended to.
 *
 *     stretches  the evicted rows of a head in runs of neighbours, VLCI_STRETCH at most, each with its share of the centroids
 *     weight(e)  = 1 + score(e) / mean score of the evicted rows                  stretch.cl; 1 without scores
 *     seed(0)    = the largest weight                                             ties: the lower e, here and below
 *     seed(s)    = the largest far
 *     far(e)     = weight(e) min over the seeds so far of |key(e) - seed|^2;   label(e) = that seed, the first of equals
 *
 * A farthest-first traversal (Gonzalez 1985) of each stretch. Runs of neighbours, kmeans.cl's own seeds, leave a small thing on
 * a wide ground without a centroid: this finds it among the first. Rotated keys of rows that stand far apart have little in
 * common, whatever they show: a traversal of all rows of a long prompt finds hardly better seeds, for a work that grows
 * with the square of its length, and none of it can stay in local memory.
 *
 * One work-group for each stretch, whose work-items have rows lane, lane + SPREAD_GROUP, ... and walk over them for each seed.
 * room: far and weights of each head's rows, [2][tokens]. The means of seeds that stand for no row become these.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128 -DSPREAD_GROUP=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef SPREAD_GROUP
#define SPREAD_GROUP 256 /* work-items; a power of two, 16 or more */
#endif
enum { LANES = VLCI_MEAN_LANES, FOLDED = 16 };

/* Larger for a larger value that is not negative, then for a lower place. */
static inline ulong rank_of(float value, int place) { return (ulong)as_uint(value) << 32 | (0xffffffffu - (uint)place); }
static inline int place_of(ulong rank) { return (int)(0xffffffffu - (uint)rank); }

/* The largest of all lanes, for each of them. */
WITH_LOCAL ulong best_of_all(__local ulong *ranks, __local ulong *folded, ulong best) {
    const int lane = get_local_id(0);
    ranks[lane] = best;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < FOLDED) {
        for (int i = 0; i < SPREAD_GROUP / FOLDED; i++) best = max(best, ranks[i * FOLDED + lane]);
        folded[lane] = best;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < FOLDED; i++) best = max(best, folded[i]);
    return best;
}

__kernel __attribute__((reqd_work_group_size(SPREAD_GROUP, 1, 1))) void
spread(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
       __global int *labels, __global float *means, uint means_stride, __global const float *scores, uint scores_at,
       __global const int *shares, uint shares_stride, __global float *room, uint room_stride,
       __global const vlci_kv_head *to_of) {
    __local ulong ranks[SPREAD_GROUP], folded[FOLDED];
    __local float seed[HEAD_DIM];
    const int lane = get_local_id(0), stretch = get_group_id(0), row = get_group_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return; /* the whole work-group */
    const int e0 = VLCI_STRETCH_AT(n, stretch, stretches), e1 = VLCI_STRETCH_AT(n, stretch + 1, stretches);
    shares += (size_t)row * shares_stride;
    const int c0 = shares[stretch], c1 = shares[stretch + 1];
    const float scale = as_float(shares[stretches + 1]);
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    __global float *far = room + (size_t)row * room_stride, *weights = far + tokens;
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    labels += (size_t)row * tokens;
    means += (size_t)row * means_stride;

    ulong best = 0;
    for (int e = e0 + lane; e < e1; e += SPREAD_GROUP) {
        weights[e] = scale > 0.0f ? fma(scores[evicted[e]], scale, 1.0f) : 1.0f;
        best = max(best, rank_of(weights[e], e));
    }
    for (int c = c0; c < c1; c++) {
        best = best_of_all(ranks, folded, best);
        const size_t at = kv_at(&rows, own.before + evicted[place_of(best)]);
        for (int d = lane; d < HEAD_DIM; d += SPREAD_GROUP) {
            seed[d] = KV_LOAD(rows.k, at + d);
            if (c > c0 && best >> 32 == 0) means[((size_t)(c / LANES) * HEAD_DIM + d) * LANES + c % LANES] = seed[d];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        best = 0;
        for (int e = e0 + lane; e < e1; e += SPREAD_GROUP) {
            const size_t from = kv_at(&rows, own.before + evicted[e]);
            float8 squares = 0.0f;
            for (int d = 0; d < HEAD_DIM; d += 8) {
                const float8 apart = KV_RUN(rows.k + from + d) - vload8(0, seed + d);
                squares = fma(apart, apart, squares);
            }
            const float4 half_sum = squares.lo + squares.hi;
            const float apart = weights[e] * (half_sum.x + half_sum.y + half_sum.z + half_sum.w);
            if (c == c0 || apart < far[e]) {
                far[e] = apart;
                labels[e] = c;
            }
            best = max(best, rank_of(far[e], e));
        }
    }
}
