/*
 * stretch.cl - how a head's centroids are shared out over the stretches of its evicted rows that spread.cl looks for seeds in.
 *
 *     scale     = rows / sum of all scores; 0 without scores
 *     gap(e)    = |key(e) - key(e - 1)|^2; 0 of the first row
 *     change(p) = sum of (1 + scale score(e)) gap(e) over stretch p
 *     part(p)   = min(rows change(p) / change of all, 4 rows(p)); rows(p) where nothing changes
 *     share(p)  = (1 - much) rows(p) + much part(p),   much = 0.95 min(1, (rows / centroids - 1) / 3)
 *     first(p)  = p + (centroids - stretches) share(0 .. p - 1) / share(all), rounded down: each stretch has one centroid
 *
 * Where neighbours differ, and where they are looked at, there is more to stand for: the empty half of a page needs few
 * centroids, the full one many. With almost as many centroids as rows each has its own, whatever it shows.
 *
 *     sums     float [3][stride] of each head:   of scores; of gaps; of scores times gaps
 *     shares   int [stride] of each head:        first(0) .. first(stretches) = centroids, then scale's bits
 *
 * build: -DHEAD_DIM=64 -DSTRETCH_GROUP=64
 * build: -DHEAD_DIM=128 -DSTRETCH_GROUP=1
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef STRETCH_GROUP
#define STRETCH_GROUP 64 /* work-items that sum up a stretch; a power of two; 1 where one is a whole core */
#endif

/* Of two rows, the squared distance of their keys. */
static inline float gap_of(const kv_view *rows, int one, int other) {
    const size_t a = kv_at(rows, one), b = kv_at(rows, other);
    float8 squares = 0.0f;
    for (int d = 0; d < HEAD_DIM; d += 8) {
        const float8 apart = KV_RUN(rows->k + a + d) - KV_RUN(rows->k + b + d);
        squares = fma(apart, apart, squares);
    }
    const float4 half_sum = squares.lo + squares.hi;
    return half_sum.x + half_sum.y + half_sum.z + half_sum.w;
}

__kernel __attribute__((reqd_work_group_size(STRETCH_GROUP, 1, 1))) void
stretch_sums(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
             __global const float *scores, uint scores_at, __global float *sums, uint stride) {
    __local float4 parts[STRETCH_GROUP];
    const int lane = get_local_id(0), stretch = get_group_id(0), row = get_group_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return; /* the whole work-group */
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const int until = VLCI_STRETCH_AT(n, stretch + 1, stretches);
    if (scores) scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    sums += (size_t)row * 3 * stride + stretch;
    float4 sum = 0.0f;
    for (int e = VLCI_STRETCH_AT(n, stretch, stretches) + lane; e < until; e += STRETCH_GROUP) {
        const float gap = e > 0 ? gap_of(&rows, own.before + evicted[e], own.before + evicted[e - 1]) : 0.0f;
        const float score = scores ? scores[evicted[e]] : 0.0f;
        sum += (float4)(score, gap, score * gap, 0.0f);
    }
    parts[lane] = sum;
    for (int half_group = STRETCH_GROUP / 2; half_group > 0; half_group /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_group) parts[lane] += parts[lane + half_group];
    }
    if (lane > 0) return;
    sums[0] = parts[0].x;
    sums[stride] = parts[0].y;
    sums[2 * (size_t)stride] = parts[0].z;
}

/* Work-item `row` for a head. */
__kernel void stretch_shares(__global const vlci_keep *keep, uint keep_at, int tokens, int heads, __global const float *sums,
                             __global int *shares, uint stride) {
    const int row = get_global_id(0);
    if (row >= heads) return;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretches <= 0) return;
    sums += (size_t)row * 3 * stride;
    shares += (size_t)row * stride;
    float all = 0.0f, changes = 0.0f, total = 0.0f, before = 0.0f;
    for (int p = 0; p < stretches; p++) all += sums[p];
    const float scale = all > 0.0f ? (float)n / all : 0.0f;
    for (int p = 0; p < stretches; p++) changes += fma(scale, sums[2 * stride + p], sums[stride + p]);
    const float much = 0.95f * clamp(((float)n / (float)own.centroids - 1.0f) / 3.0f, 0.0f, 1.0f);
    const int more = own.centroids - stretches;
    for (int twice = 0; twice < 2; twice++) {
        for (int p = 0; p < stretches; p++) {
            const float own_rows = VLCI_STRETCH_AT(n, p + 1, stretches) - VLCI_STRETCH_AT(n, p, stretches);
            const float change = fma(scale, sums[2 * stride + p], sums[stride + p]);
            const float part = changes > 0.0f ? fmin((float)n * (change / changes), 4.0f * own_rows) : own_rows;
            if (twice) shares[p] = p + min((int)((float)more * (before / total) + 0.01f), more);
            before += fma(much, part - own_rows, own_rows);
        }
        total = before;
        before = 0.0f;
    }
    shares[stretches] = own.centroids;
    shares[stretches + 1] = as_int(scale);
}
