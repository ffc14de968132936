/*
 * kmeans.cl - rows that stand for those not kept: k-means over the rotated keys of the evicted rows of some layers, for each
 * kv head by itself.
 *
 *     evicted   e = 0 .. E - 1: the prompt's positions that are not kept, ascending        E = tokens - kept
 *     seeds     label(e) = floor(e * C / E): C runs of neighbours, or as spread.cl has it  C = centroids, E > C
 *     members   the evicted rows sorted by label, then by position: members of c are order[starts[c]] .. order[starts[c + 1]] - 1
 *     means     mean(c)  = mean of its members' keys; one without members stays as it is
 *     assign    label(e) = the c nearest to key(e): nearest.cl
 *     write     rows: mean key, mean value; bias = log(count): softmax then counts a centroid as often as it stands for
 *
 * Means lie transposed, [C / 16][HEAD_DIM][16], so that one vector operation serves one dimension of 16 centroids. Sums run
 * in the order of positions, those of SLOTS one after another, and no atomics are used: they are the same each time.
 * keep[keep_at + head] says what a head keeps.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DPART=64
 * build: -DHEAD_DIM=64 -DSLOTS=4
 * build: -DHEAD_DIM=64 -DMEMBERS_GROUP=1 -DRUN=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef PART
#define PART 8 /* dimensions of a centroid that a work-item adds up: a divisor of HEAD_DIM and a multiple of 8; all of them
                  where a work-item is a whole core */
#endif
#ifndef SLOTS
#define SLOTS 1 /* members of a centroid that are read side by side by work-items of a group; 1 where one is a whole core */
#endif
#ifndef MEMBERS_GROUP
#define MEMBERS_GROUP 256 /* work-items that sort the rows of a head; a power of two; 1 where one is a whole core */
#endif
#ifndef RUN
#define RUN 1 /* evicted rows that a work-item lists: more where one is a whole core */
#endif
enum { LANES = VLCI_MEAN_LANES, DIGIT_BITS = 4, DIGITS = 1 << DIGIT_BITS, BATCH = 4, AHEAD = SLOTS > 1 ? 4 : 8 };
#define NOTHING (-1e30f) /* logit bias of a centroid that stands for no row: finite, so that no NaN comes of it */

/* One work-item for RUN evicted rows: the first e of them stands behind those kept positions of which the i-th (they ascend)
 * has no more than e evicted rows before it, position(i) - i; then it goes on from gap to gap. */
__kernel void kmeans_evicted(__global const int *positions, __global const vlci_keep *keep, uint keep_at, int tokens,
                             __global int *evicted, __global int *labels) {
    const int e0 = get_global_id(0) * RUN, row = get_global_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int stay = own.kept, n = tokens - stay, c = own.centroids;
    if (e0 >= n) return;
    __global const int *position = positions + own.first;
    int before = 0;
    for (int until = stay; before < until;) {
        const int middle = (before + until) / 2;
        if (position[middle] - middle <= e0)
            before = middle + 1;
        else
            until = middle;
    }
    for (int e = e0; e < min(e0 + RUN, n); e++) {
        while (before < stay && position[before] <= e + before) before++;
        evicted[(size_t)row * tokens + e] = e + before;
        labels[(size_t)row * tokens + e] = (int)((long)e * c / n);
    }
}

/* The next BATCH rows of a stretch, as `from` lists them (NULL: as they are), and their digits: read together, for each is a
 * wait. Behind the last they are that one. */
static void read_digits(__global const int *from, __global const int *labels, int c0, int i, int last, int shift, int *e,
                        int *digit) {
#pragma unroll
    for (int x = 0; x < BATCH; x++) e[x] = from ? from[min(i + x, last - 1)] : min(i + x, last - 1);
#pragma unroll
    for (int x = 0; x < BATCH; x++) digit[x] = labels[e[x]] - c0 >> shift & (DIGITS - 1);
}

/*
 * One work-group for each head, or for each stretch of one whose labels are still those of spread.cl (`shares`, else NULL), sorts
 * its rows by their labels, 4 bits after 4 bits from the lowest; rows of equal digits keep their order. Each work-item owns one
 * run of the rows; a prefix sum over all its counts says where they go:
 *
 *     count   | digit 0: work-item 0, 1, ... | digit 1: 0, 1, ... | ... | digit 15 |
 *
 * order: two lists of `tokens` for each head, of which the first is the result; starts: [row][starts_stride].
 */
__kernel __attribute__((reqd_work_group_size(MEMBERS_GROUP, 1, 1))) void
kmeans_members(__global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted, __global const int *labels,
               __global int *order, __global int *starts, uint starts_stride, __global const int *shares, uint shares_stride) {
    __local uint count[DIGITS * MEMBERS_GROUP], sums[MEMBERS_GROUP];
    const int lane = get_local_id(0), part = get_group_id(0), row = get_group_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int all = tokens - own.kept, parts = shares && all > 0 ? VLCI_STRETCHES(all, own.centroids) : 1;
    if (part >= parts || !own.centroids) return; /* the whole work-group */
    const int e0 = VLCI_STRETCH_AT(all, part, parts), n = VLCI_STRETCH_AT(all, part + 1, parts) - e0;
    if (shares) shares += (size_t)row * shares_stride;
    const int c0 = shares && all > 0 ? shares[part] : 0, c_n = (shares && all > 0 ? shares[part + 1] : own.centroids) - c0;
    const int run = (n + MEMBERS_GROUP - 1) / MEMBERS_GROUP, first = min(lane * run, n), last = min(first + run, n);
    evicted += (size_t)row * tokens + e0;
    labels += (size_t)row * tokens + e0;
    order += (size_t)row * 2 * tokens + e0;
    starts += (size_t)row * starts_stride + c0;
    int passes = 1;
    while (passes * DIGIT_BITS < 31 && c_n > 1 << passes * DIGIT_BITS) passes++;
    for (int p = 0; p < passes; p++) {
        __global int *from = order + (passes - p) % 2 * tokens, *to = order + (passes - p - 1) % 2 * tokens;
        const int shift = p * DIGIT_BITS;
        for (int digit = 0; digit < DIGITS; digit++) count[digit * MEMBERS_GROUP + lane] = 0;
        for (int i = first; i < last; i += BATCH) {
            int e[BATCH], digit[BATCH];
            read_digits(p ? from : 0, labels, c0, i, last, shift, e, digit);
            for (int x = 0; x < BATCH && i + x < last; x++) count[digit[x] * MEMBERS_GROUP + lane]++;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint sum = 0;
        for (int i = 0; i < DIGITS; i++) sum += count[lane * DIGITS + i];
        sums[lane] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int step = 1; step < MEMBERS_GROUP; step <<= 1) {
            const uint add = lane >= step ? sums[lane - step] : 0u;
            barrier(CLK_LOCAL_MEM_FENCE);
            sums[lane] += add;
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        uint before = sums[lane] - sum;
        for (int i = 0; i < DIGITS; i++) {
            const uint here = count[lane * DIGITS + i];
            count[lane * DIGITS + i] = before;
            before += here;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = first; i < last; i += BATCH) {
            int e[BATCH], digit[BATCH];
            read_digits(p ? from : 0, labels, c0, i, last, shift, e, digit);
            for (int x = 0; x < BATCH && i + x < last; x++) to[count[digit[x] * MEMBERS_GROUP + lane]++] = e[x];
        }
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    }
    for (int i = lane; i <= n; i += MEMBERS_GROUP) {
        const int label = i < n ? labels[order[i]] - c0 : c_n;
        for (int c = i ? labels[order[i - 1]] - c0 + 1 : 0; c <= label; c++) starts[c] = e0 + i;
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (int i = lane; i < n; i += MEMBERS_GROUP) order[i] = evicted[order[i]];
}

/* PART dimensions of a sum of rows. */
typedef union {
    float8 all[PART / 8];
    float d[PART];
} part_t;

/* Adds up the members' rows of K or V (`of`), PART dimensions from d on, of each SLOTS the slot-th, in order; returns how many
 * members there are. Short parts are read AHEAD rows at a time: a centroid may stand for thousands, and each of them is a wait
 * for the list, its page and its row. */
static int member_sum(const kv_view *rows, __global const kv_t *of, int first, int d, __global const int *order,
                      __global const int *starts, int centroid, int slot, part_t *sum) {
    const int from = starts[centroid], until = starts[centroid + 1];
    int m = from + slot;
    for (int i = 0; i < PART / 8; i++) sum->all[i] = 0.0f;
#if PART == 8 && SLOTS == 1
    for (; m + AHEAD <= until; m += AHEAD) {
        float8 part[AHEAD];
#pragma unroll
        for (int x = 0; x < AHEAD; x++) part[x] = KV_RUN(of + kv_at(rows, first + order[m + x]) + d);
#pragma unroll
        for (int x = 0; x < AHEAD; x++) sum->all[0] += part[x];
    }
#elif PART == 8
    for (; m < until; m += AHEAD * SLOTS) {
        float8 part[AHEAD];
#pragma unroll
        for (int x = 0; x < AHEAD; x++) /* the last one again, where there is none */
            part[x] = KV_RUN(of + kv_at(rows, first + order[min(m + x * SLOTS, until - 1)]) + d);
#pragma unroll
        for (int x = 0; x < AHEAD; x++) sum->all[0] += m + x * SLOTS < until ? part[x] : 0.0f;
    }
#endif
    for (; m < until; m += SLOTS) {
        const size_t at = kv_at(rows, first + order[m]) + d;
        for (int i = 0; i < PART / 8; i++) sum->all[i] += KV_LOAD8(of, at + 8 * i);
    }
    return until - from;
}

/* Work-items of a group: the parts of a centroid, of SLOTS one by another, whose sums the first has in the end: only that one
 * is whole. Groups take one centroid after another. */
#if SLOTS > 1
WITH_LOCAL void add_slots(__local float8 *sums, part_t *sum) {
    const int part = get_local_id(0), slot = get_local_id(1), parts = HEAD_DIM / PART;
    barrier(CLK_LOCAL_MEM_FENCE);
    sums[slot * parts + part] = sum->all[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = 1; s < SLOTS && slot == 0; s++) sum->all[0] += sums[s * parts + part];
}
#define SLOT           get_local_id(1)
#define CENTROID       get_group_id(1)
#define AT_ONCE        get_num_groups(1)
#define SUMS           __local float8 sums[SLOTS * HEAD_DIM / PART]
#define ADD_SLOTS(sum) add_slots(sums, sum)
#else
#define SLOT           0
#define CENTROID       get_global_id(1)
#define AT_ONCE        get_global_size(1)
#define SUMS
#define ADD_SLOTS(sum)
#endif

#define CENTROID_PARAMS                                                                                              \
    KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *order,             \
        __global const int *starts, uint starts_stride, __global float *means, uint means_stride

/* One work-item, or SLOTS of them, for PART dimensions of a centroid. */
__kernel void kmeans_means(CENTROID_PARAMS) {
    SUMS;
    const int d = get_global_id(0) * PART, row = get_global_id(2);
    const vlci_keep own = keep[keep_at + row];
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    order += (size_t)row * 2 * tokens;
    starts += (size_t)row * starts_stride;
    for (int centroid = CENTROID; centroid < own.centroids && d < HEAD_DIM; centroid += AT_ONCE) {
        part_t sum;
        const int count = member_sum(&rows, rows.k, own.before, d, order, starts, centroid, SLOT, &sum);
        ADD_SLOTS(&sum);
        if (!count || SLOT) continue;
        __global float *to =
            means + (size_t)row * means_stride + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
        for (int i = 0; i < PART; i++) to[(d + i) * LANES] = sum.d[i] / (float)count;
    }
}

/* The same: its row behind the kept ones. */
__kernel void kmeans_write(CENTROID_PARAMS, __global const vlci_kv_head *to_of) {
    SUMS;
    const int d = get_global_id(0) * PART, row = get_global_id(2);
    const vlci_keep own = keep[keep_at + row];
    const kv_view rows = kv_nth(KV_POOL_PASS, row), to = kv_of(k, v, bias, to_of + row, table, row_stride);
    order += (size_t)row * 2 * tokens;
    starts += (size_t)row * starts_stride;
    means += (size_t)row * means_stride;
    for (int centroid = CENTROID; centroid < own.centroids && d < HEAD_DIM; centroid += AT_ONCE) {
        part_t sum;
        const int count = member_sum(&rows, rows.v, own.before, d, order, starts, centroid, SLOT, &sum);
        ADD_SLOTS(&sum);
        if (SLOT) continue;
        __global const float *mean = means + (size_t)(centroid / LANES) * HEAD_DIM * LANES + centroid % LANES;
        const int target = own.before + own.kept + centroid;
        const size_t at = kv_at(&to, target) + d;
        for (int i = 0; i < PART; i++) {
            KV_STORE(mean[(d + i) * LANES], to.k, at + i);
            KV_STORE(sum.d[i] / (float)max(count, 1), to.v, at + i);
        }
        if (d == 0) bias[kv_row(&to, target)] = count ? log((float)count) : NOTHING;
    }
}
