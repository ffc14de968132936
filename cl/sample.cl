/*
 * sample.cl - the next token of each row of logits [rows][n]: the largest, or one drawn at random.
 *
 *     key(x) = the float's bits, made to order as unsigned integers do; NaN is 0, below minus infinity; -0 equals 0
 *     W(x)   = 2^40 2^(-(max - x) scale), an integer        scale = log2(e) / temperature; 2^40 for the largest
 *     top-k:   T = the k-th largest key                     keeps key >= T: ties at the cut stay
 *     top-p:   T = the largest key with sum_{key >= T} W >= p sum W, over what top-k kept
 *     draw:    the first id, ascending, at which the running sum of kept W exceeds u sum W
 *
 * Counts and weights are integers, so a sum is the same in every order: any number of work-items draws the same token.
 * Both cuts are radix selects as in topk.cl: four histograms of 8 bits; top-k's bins count, those of top-p add W.
 *
 *     work-group r takes row r; LANES work-items. For the draw, item t sums the t-th of LANES stretches of ids; the
 *     stretch that holds the drawn id is divided once more, and walked.
 *
 * build: -DLANES=1
 * build: -DLANES=64
 */
#ifndef LANES
#define LANES 64 /* work-items a row, a power of two */
#endif
#define BINS 256
enum { AT_ONCE = 16 };

static inline uint key_of(float x) {
    if (isnan(x)) return 0;
    const uint u = x == 0.0f ? 0u : as_uint(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* W(x), at most 2^40. 2^-r is a polynomial of degree 6 in r, within 3e-9; from t on, all arithmetic is integer. */
static inline ulong weight(float x, float top, float scale) {
    if (x == top) return 1ul << 40; /* both may be infinite */
    const float t = (top - x) * scale;
    if (!(t < 41.0f)) return 0; /* NaN goes here, too */
    const uint fixed = (uint)(t * 16777216.0f), r = fixed << 8;
    uint p = 0x000039a35u; /* coefficients in units of 2^-31, r in units of 2^-32 */
    p = 0x0029dc36u - mul_hi(p, r);
    p = 0x0139fd6du - mul_hi(p, r);
    p = 0x071a5f20u - mul_hi(p, r);
    p = 0x1ebfaeeeu - mul_hi(p, r);
    p = 0x58b90b38u - mul_hi(p, r);
    p = 0x80000000u - mul_hi(p, r);
    return ((ulong)p << 9) >> (fixed >> 24);
}

/* total * share / 2^32, rounded down. */
static inline ulong share_of(ulong total, uint share) {
    return (total >> 32) * share + ((total & 0xffffffffu) * share >> 32);
}

/* The lowest id of the largest key, -1 where none is a number; every work-item gets it. */
WITH_LOCAL int largest(__global const float *x, int n, __local uint *keys, __local int *ids) {
    const int t = get_local_id(0);
    int id = 0;
    uint best = 0;
    for (int i = t; i < n; i += AT_ONCE * LANES) { /* their loads are on their way together */
        float some[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) some[u] = x[min(i + u * LANES, n - 1)];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const uint key = key_of(some[u]);
            if (key <= best) continue;
            best = key;
            id = min(i + u * LANES, n - 1);
        }
    }
    keys[t] = best;
    ids[t] = id;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int width = LANES / 2; width > 0; width /= 2) {
        if (t < width) {
            const uint other = keys[t + width];
            if (other > keys[t] || (other == keys[t] && ids[t + width] < ids[t])) {
                keys[t] = other;
                ids[t] = ids[t + width];
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return keys[0] ? ids[0] : -1;
}

__kernel void argmax(__global const float *logits, int n, __global int *out) {
    __local uint keys[LANES];
    __local int ids[LANES];
    const size_t r = get_group_id(0);
    const int id = largest(logits + r * n, n, keys, ids);
    if (get_local_id(0) == 0) out[r] = id;
}

/* A bin's 64 bits lie in two words, for OpenCL C 1.2 has 32-bit atomics only: the low word says when it overflows. */
WITH_LOCAL void add_to(__local uint *low, __local uint *high, ulong value) {
    const uint old = atomic_add(low, (uint)value), carry = old > ~(uint)value;
    const uint rest = (uint)(value >> 32) + carry;
    if (rest) atomic_add(high, rest);
}

/* The largest digit at which the sum from the top reaches `left`; `left` becomes what is still to find there. */
WITH_LOCAL uint find_digit(__local const uint *low, __local const uint *high, ulong *left) {
    uint digit = BINS - 1;
    for (; digit > 0; digit--) {
        const ulong bin = (ulong)high[digit] << 32 | low[digit];
        if (bin >= *left) break;
        *left -= bin;
    }
    return digit;
}

/* What top-k (share 0) and top-p are to find: k entries if there are as many; the share of the weight, rounded up. */
WITH_LOCAL ulong goal_of(__local const uint *low, __local const uint *high, int top_k, uint share) {
    ulong total = 0;
    for (int d = 0; d < BINS; d++) total += (ulong)high[d] << 32 | low[d];
    return share ? total - share_of(total, 0u - share) : min((ulong)top_k, total);
}

/* The first stretch at which the running sum exceeds `left`; `left` becomes what it has to exceed within that one. */
WITH_LOCAL int find_stretch(__local const ulong *sums, ulong *left) {
    int s = 0;
    while (s < LANES - 1 && *left >= sums[s]) *left -= sums[s++];
    return s;
}

/* Each row as its draw says. n at most VLCI_LOGITS_MAX, so that sums of W stay below 2^64. */
__kernel void sample(__global const float *logits, int n, __global const vlci_draw *draws, __global int *out) {
    __local uint low[BINS], high[BINS], keys[LANES];
    __local int ids[LANES];
    __local ulong sums[LANES], shared_left;
    __local uint shared_prefix;
    __local int shared_owner;
    const int t = get_local_id(0);
    const size_t r = get_group_id(0);
    __global const float *x = logits + r * n;
    const float scale = draws[r].scale;
    const int top_k = draws[r].top_k, best = largest(x, n, keys, ids);
    const uint share = draws[r].share;
    const bool drawn = scale >= 0.0f; /* else nothing is left to do below */
    const float top = best < 0 ? 0.0f : x[best];

    /* Passes 0 to 3 find top-k's cut, 4 to 7 that of top-p, 8 bits each. */
    uint least = 1, prefix = 0; /* 1: all but NaN */
    ulong left = 0;
    const int passes = !drawn ? 0 : share ? 8 : 4;
    for (int pass = 0 < top_k && top_k < n ? 0 : 4; pass < passes; pass++) {
        const int shift = 24 - pass % 4 * 8;
        const uint mask = shift == 24 ? 0u : ~0u << (shift + 8);
        for (int d = t; d < BINS; d += LANES) low[d] = high[d] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = t; i < n; i += LANES) {
            const uint key = key_of(x[i]), digit = key >> shift & (BINS - 1);
            if (key >= least && ((key ^ prefix) & mask) == 0)
                add_to(&low[digit], &high[digit], pass < 4 ? 1ul : weight(x[i], top, scale));
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t == 0) {
            if (shift == 24) left = goal_of(low, high, top_k, pass < 4 ? 0u : share);
            const uint digit = find_digit(low, high, &left);
            shared_prefix = (prefix & mask) | digit << shift;
            shared_left = left;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        prefix = shared_prefix;
        left = shared_left;
        if (shift == 0) least = max(prefix, 1u);
    }

    const uint draw = convert_uint_sat(draws[r].u * 4294967296.0f);
    const int levels = !drawn ? 0 : LANES > 1 ? 2 : 1;
    int from = 0, until = drawn ? n : 0;
    for (int level = 0; level < levels; level++) {
        const int stretch = (max(until - from, 0) + LANES - 1) / LANES;
        const int begin = from + t * stretch, end = min(begin + stretch, until);
        ulong sum = 0;
        for (int i = begin; i < end; i++)
            if (key_of(x[i]) >= least) sum += weight(x[i], top, scale);
        sums[t] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t == 0) {
            if (level == 0) { /* below the total: an id is found */
                for (int s = 1; s < LANES; s++) sum += sums[s];
                left = share_of(sum, draw);
            }
            shared_owner = find_stretch(sums, &left);
            shared_left = left;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        left = shared_left;
        from += shared_owner * stretch;
        until = min(from + stretch, until);
    }
    if (t == 0) {
        int id = best; /* not drawn, or none is a number */
        for (int i = from; i < until; i++) {
            const ulong w = key_of(x[i]) >= least ? weight(x[i], top, scale) : 0;
            if (left < w) {
                id = i;
                break;
            }
            left -= w;
        }
        out[r] = id;
    }
}

/* x = cap tanh(x / cap), a work-item each. */
__kernel void cap_logits(__global float *x, float cap) {
    const size_t i = get_global_id(0);
    x[i] = cap * tanh(x[i] / cap);
}
