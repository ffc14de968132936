/*
 * topk.cl - which tokens a kv head keeps: the recent ones, the sinks and the best-scored others, in ascending order.
 *
 *     older = n - recent,  k = kept - recent
 *     out   = { j < older : key(j) > T }  +  the first ties with key(j) = T, k in all  +  { older .. n - 1 }
 *
 * One work-group for each head; keep[keep_at + head] says how many, and from where on in `out` they stand. Radix select: four
 * histograms of 8 bits, from the top, find T, the k-th largest key; key(j) is the score's bits made to order as unsigned
 * integers do, 0 for NaN and without scores, the largest of all for a sink. Scores are much alike in their top bits: a
 * histogram has COPIES of each count, so that few work-items wait for the same one.
 *
 * Then 32 columns of each work-item at a time become bits of local memory, one word for greater keys, one for ties. A prefix
 * sum over the words' counts says where the work-item that owns a word writes, and the order of positions is kept:
 *
 *     columns   | word 0: 0 .. 31 | word 1: 32 .. 63 | ... | word TOPK_GROUP - 1 |   the next 32 TOPK_GROUP | ... | recent |
 *     greater      g0                g1                                              all -> prefix sums = places in out
 *     ties         t0                t1     only the first k - sum(g) of them
 *
 * build: -DTOPK_GROUP=256
 * build: -DTOPK_GROUP=1024
 * build: -DTOPK_GROUP=1
 */
#ifndef TOPK_GROUP
#define TOPK_GROUP 256 /* work-items; a power of two up to 1024; 1 where a work-item is a whole core */
#endif
enum { COPIES = TOPK_GROUP == 1 ? 1 : TOPK_GROUP <= 256 ? 8 : 16, AHEAD = TOPK_GROUP == 1 ? 1 : 4 /* scores that are read together */, WORD = 32 };

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

/* Sums of words up to this work-item's own: greater ones in the lower half, ties in the upper one. */
WITH_LOCAL uint sum_up_to(__local uint *sums, uint sum) {
    const int lane = get_local_id(0);
    sums[lane] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = 1; step < TOPK_GROUP; step <<= 1) {
        const uint add = lane >= step ? sums[lane - step] : 0u;
        barrier(CLK_LOCAL_MEM_FENCE);
        sums[lane] += add;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return sums[lane];
}

__kernel __attribute__((reqd_work_group_size(TOPK_GROUP, 1, 1))) void
topk(__global const float *scores, uint scores_at, int n, __global const vlci_keep *keep, uint keep_at,
     __global int *out) {
    __local uint copies[256 * COPIES], histogram[256], sixteens[16];
    __local uint shared_prefix, shared_remaining;
    const int lane = get_local_id(0), head = get_group_id(0);
    const vlci_keep own = keep[keep_at + head];
    const int last = own.recent, older = n - last, k = own.kept - last, sinks = own.sinks;
    __global const float *score = scores ? scores + scores_at + (size_t)head * n : 0;
    __global int *to = out + own.first;

    uint prefix = 0, mask = 0, remaining = k;
    for (int shift = 24; shift >= 0 && k > 0; shift -= 8) {
        for (int i = lane; i < 256 * COPIES; i += TOPK_GROUP) copies[i] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j0 = lane; j0 < older; j0 += AHEAD * TOPK_GROUP) {
            uint key[AHEAD];
#pragma unroll
            for (int x = 0; x < AHEAD; x++) key[x] = j0 + x * TOPK_GROUP < older ? order_key(score, j0 + x * TOPK_GROUP, sinks) : 0u;
#pragma unroll
            for (int x = 0; x < AHEAD; x++)
                if ((key[x] & mask) == prefix && j0 + x * TOPK_GROUP < older)
                    atomic_inc(&copies[((key[x] >> shift) & 255u) * COPIES + lane % COPIES]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int d = lane; d < 256; d += TOPK_GROUP) {
            uint sum = 0;
            for (int i = 0; i < COPIES; i++) sum += copies[d * COPIES + (i + d) % COPIES];
            histogram[d] = sum;
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
    __local uint *greater = copies, *ties = copies + TOPK_GROUP, *sums = copies + 2 * TOPK_GROUP;
    uint place = 0, tie = 0; /* before these columns */
    for (int from = 0; from < older && k > 0; from += WORD * TOPK_GROUP) {
        greater[lane] = ties[lane] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i0 = 0; i0 < WORD; i0 += AHEAD) {
            uint key[AHEAD];
#pragma unroll
            for (int x = 0; x < AHEAD; x++) {
                const int j = from + (i0 + x) * TOPK_GROUP + lane;
                key[x] = j < older ? order_key(score, j, sinks) : 0u;
            }
#pragma unroll
            for (int x = 0; x < AHEAD; x++) {
                const int at = (i0 + x) * TOPK_GROUP + lane;
                if (key[x] > prefix) atomic_or(&greater[at / WORD], 1u << at % WORD);
                if (key[x] == prefix && from + at < older) atomic_or(&ties[at / WORD], 1u << at % WORD);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint word_greater = greater[lane], word_ties = ties[lane];
        const uint own_sum = popcount(word_greater) | popcount(word_ties) << 16;
        const uint sum = sum_up_to(sums, own_sum), before = sum - own_sum, all = sums[TOPK_GROUP - 1];
        uint tie_at = tie + (before >> 16);
        uint at = place + (before & 0xffffu) + min(tie_at, remaining);
        for (uint left = word_greater | word_ties; left; left &= left - 1) {
            const uint bit = left & (0u - left), j = from + lane * WORD + popcount(bit - 1);
            const bool is_tie = word_ties & bit;
            if (!is_tie || tie_at < remaining) to[at++] = j;
            tie_at += is_tie;
        }
        place += all & 0xffffu;
        tie += all >> 16;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (int i = lane; i < last; i += TOPK_GROUP) to[k + i] = older + i;
}
