/*
 * stretch.cl - how a head's centroids are shared out over the stretches of its evicted rows that spread.cl looks for seeds in.
 *
 *     sum(p)    = sum of score(e) over stretch p
 *     weight(e) = 1 + scale score(e),   scale = rows / sum of all; 0 without scores          of all rows 2 on average
 *     share(p)  = rows(p) + min(scale sum(p), most rows(p)),   most = min(3, rows / centroids - 1)
 *     first(p)  = p + (centroids - stretches) share(0 .. p - 1) / share(all), rounded down: each stretch has one centroid
 *
 * A stretch that is looked at more has more centroids, up to four times as many as one that is not, and no more than rows.
 *
 *     shares   int [stride] of each head:   first(0) .. first(stretches) = centroids, then scale's bits
 *
 * build: -DSTRETCH_GROUP=64
 * build: -DSTRETCH_GROUP=1
 */
#ifndef STRETCH_GROUP
#define STRETCH_GROUP 64 /* work-items that sum up a stretch; a power of two; 1 where one is a whole core */
#endif

__kernel __attribute__((reqd_work_group_size(STRETCH_GROUP, 1, 1))) void
stretch_sums(__global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted, __global const float *scores,
             uint scores_at, __global float *sums, uint stride) {
    __local float parts[STRETCH_GROUP];
    const int lane = get_local_id(0), stretch = get_group_id(0), row = get_group_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretch >= stretches) return; /* the whole work-group */
    const int until = VLCI_STRETCH_AT(n, stretch + 1, stretches);
    scores += scores_at + (size_t)row * tokens;
    evicted += (size_t)row * tokens;
    float sum = 0.0f;
    for (int e = VLCI_STRETCH_AT(n, stretch, stretches) + lane; e < until; e += STRETCH_GROUP) sum += scores[evicted[e]];
    parts[lane] = sum;
    for (int half_group = STRETCH_GROUP / 2; half_group > 0; half_group /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_group) parts[lane] += parts[lane + half_group];
    }
    if (lane == 0) sums[(size_t)row * stride + stretch] = parts[0];
}

/* Work-item `row` for a head. sums NULL: without scores. */
__kernel void stretch_shares(__global const vlci_keep *keep, uint keep_at, int tokens, int heads, __global const float *sums,
                             __global int *shares, uint stride) {
    const int row = get_global_id(0);
    if (row >= heads) return;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept, stretches = VLCI_STRETCHES(n, own.centroids);
    if (stretches <= 0) return;
    if (sums) sums += (size_t)row * stride;
    shares += (size_t)row * stride;
    float all = 0.0f, total = 0.0f, before = 0.0f;
    for (int p = 0; sums && p < stretches; p++) all += sums[p];
    const float scale = all > 0.0f ? (float)n / all : 0.0f;
    const int more = own.centroids - stretches;
    const float most = clamp((float)n / (float)own.centroids - 1.0f, 0.0f, 3.0f);
    for (int twice = 0; twice < 2; twice++) {
        for (int p = 0; p < stretches; p++) {
            const float rows = VLCI_STRETCH_AT(n, p + 1, stretches) - VLCI_STRETCH_AT(n, p, stretches);
            const float share = rows + (scale > 0.0f ? fmin(scale * sums[p], most * rows) : 0.0f);
            if (twice) shares[p] = p + min((int)((float)more * (before / total) + 0.01f), more);
            before += share;
        }
        total = before;
        before = 0.0f;
    }
    shares[stretches] = own.centroids;
    shares[stretches + 1] = as_int(scale);
}
