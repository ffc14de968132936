/*
 * topk.cl - which tokens a kv head keeps: the recent ones, the sinks and the best-scored others, in ascending order.
 *
 *     older = n - recent,  k = kept - recent
 *     out   = { j < older : key(j) > T }  +  the first ties with key(j) = T, k in all  +  { older .. n - 1 }
 *
 * One work-group for each head; keep[keep_at + head] says how many, and from where on in `out` they stand. Radix select: four histograms
 * of 8 bits, from the top, find T, the k-th largest key; key(j) is the score's bits made to order as unsigned integers do,
 * 0 for NaN and without scores, the largest of all for a sink. Then each work-item owns one stretch of columns, a prefix
 * sum over the stretches' counts says where it writes, and the order of positions is kept:
 *
 *     columns   | stretch 0 | stretch 1 | ... | stretch TOPK_GROUP - 1 | recent |
 *     greater      g0          g1                                         all      -> prefix sums = places in out
 *     ties         t0          t1        only the first k - sum(g) of them
 */
#ifndef TOPK_GROUP
#define TOPK_GROUP 256 /* work-items; a power of two; 1 where a work-item is a whole core */
#endif

static inline uint order_key(__global const float *score, int j, int sinks) {
    if (j < sinks) return 0xffffffffu;
    const float value = score ? score[j] : NAN;
    if (isnan(value)) return 0u;
    const uint bits = as_uint(value == 0.0f ? 0.0f : value); /* minus zero ties with zero */
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* The largest digit at which `remaining` keys have been passed, counting from the top: first the sixteen, by their sums, then
 * the digit among them. Returns what is still to find there. */
static inline uint find_digit(__local const uint *histogram, __local const uint *sixteens, uint remaining, uint *digit) {
    uint s = 15;
    while (s > 0 && sixteens[s] < remaining) remaining -= sixteens[s--];
    uint d = 16 * s + 15;
    while (d > 16 * s && histogram[d] < remaining) remaining -= histogram[d--];
    *digit = d;
    return remaining;
}

__kernel __attribute__((reqd_work_group_size(TOPK_GROUP, 1, 1))) void
topk(__global const float *scores, uint scores_at, int n, __global const vlci_keep *keep, uint keep_at,
     __global int *out) {
    __local uint histogram[256], sixteens[16];
    __local uint greater[TOPK_GROUP], ties[TOPK_GROUP];
    __local uint shared_prefix, shared_remaining;
    const int lane = get_local_id(0), head = get_group_id(0);
    const vlci_keep own = keep[keep_at + head];
    const int last = own.recent, older = n - last, k = own.kept - last, sinks = own.sinks;
    __global const float *score = scores ? scores + scores_at + (size_t)head * n : 0;
    __global int *to = out + own.first;

    uint prefix = 0, mask = 0, remaining = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = lane; i < 256; i += TOPK_GROUP) histogram[i] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = lane; j < older; j += TOPK_GROUP) {
            const uint key = order_key(score, j, sinks);
            if ((key & mask) == prefix) atomic_inc(&histogram[(key >> shift) & 255u]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int s = lane; s < 16; s += TOPK_GROUP) {
            uint sum = 0;
            for (int d = 0; d < 16; d++) sum += histogram[16 * s + d];
            sixteens[s] = sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane == 0) {
            uint digit;
            shared_remaining = find_digit(histogram, sixteens, remaining, &digit);
            shared_prefix = prefix | digit << shift;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        prefix = shared_prefix;
        remaining = shared_remaining;
        mask |= 255u << shift;
    }

    /* prefix is T, and `remaining` of its ties are wanted. */
    const int stretch = (older + TOPK_GROUP - 1) / TOPK_GROUP;
    const int from = min(lane * stretch, older), until = min(from + stretch, older);
    uint my_greater = 0, my_ties = 0;
    for (int j = from; j < until; j++) {
        const uint key = order_key(score, j, sinks);
        my_greater += key > prefix;
        my_ties += key == prefix;
    }
    greater[lane] = my_greater;
    ties[lane] = my_ties;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = 1; step < TOPK_GROUP; step <<= 1) {
        const uint add_greater = lane >= step ? greater[lane - step] : 0u;
        const uint add_ties = lane >= step ? ties[lane - step] : 0u;
        barrier(CLK_LOCAL_MEM_FENCE);
        greater[lane] += add_greater;
        ties[lane] += add_ties;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    uint tie = ties[lane] - my_ties; /* ties before this stretch */
    uint place = greater[lane] - my_greater + min(tie, remaining);
    for (int j = from; j < until && k > 0; j++) {
        const uint key = order_key(score, j, sinks);
        if (key > prefix || (key == prefix && tie < remaining)) to[place++] = j;
        tie += key == prefix;
    }
    for (int i = lane; i < last; i += TOPK_GROUP) to[k + i] = older + i;
}
