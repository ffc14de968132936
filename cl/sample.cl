/*
 * sample.cl - the next token of each row of logits [rows][n]: the largest, or one drawn at random.
 *
 *     key(x): the float's bits, so that unsigned order is numeric order; NaN is 0, below minus infinity; -0 equals 0
 *     w(x) = e^((x - max) / T)
 *     top-k: the largest key t with #{key >= t} >= k; top-p: the largest t with sum_{key >= t} w >= p sum w; both found
 *     bit by bit, high to low, so nothing is sorted
 *     draw: the first id, ascending, at which the running sum of kept w exceeds u sum w
 *
 *     work-group r takes row r; LANES work-items. Item t of the draw owns ids [t * chunk, (t + 1) * chunk).
 *
 * build: -DLANES=1
 * build: -DLANES=64
 */
#ifndef LANES
#define LANES 64 /* work-items a row, a power of two */
#endif

static uint key_of(float x) {
    if (isnan(x)) return 0;
    uint u = x == 0.0f ? 0u : as_uint(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The work-group's sum. Float sums have a fixed order, so dropping terms never makes them larger. */
static float sum_of(float value, __local float *scratch) {
    int t = get_local_id(0);
    scratch[t] = value;
    for (int width = LANES / 2; width; width /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < width) scratch[t] += scratch[t + width];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE); /* scratch is used again */
    return sum;
}

/* The lowest id of the largest key; every work-item gets it. */
static int largest(__global const float *x, int n, __local uint *keys, __local int *ids) {
    int t = get_local_id(0), id = 0;
    uint best = 0;
    for (int i = t; i < n; i += LANES) {
        uint key = key_of(x[i]);
        if (key > best) {
            best = key;
            id = i;
        }
    }
    keys[t] = best;
    ids[t] = id;
    for (int width = LANES / 2; width; width /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < width) {
            uint other = keys[t + width];
            if (other > keys[t] || (other == keys[t] && ids[t + width] < ids[t])) {
                keys[t] = other;
                ids[t] = ids[t + width];
            }
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    id = ids[0];
    barrier(CLK_LOCAL_MEM_FENCE); /* ids is used again */
    return id;
}

__kernel void argmax(__global const float *logits, int n, __global int *out) {
    __local uint keys[LANES];
    __local int ids[LANES];
    size_t r = get_group_id(0);
    int id = largest(logits + r * n, n, keys, ids);
    if (get_local_id(0) == 0) out[r] = id;
}

/* w(x); the largest weighs 1 even when it is infinite. */
static float weight(float x, float top, float inv_temperature) {
    if (isnan(x)) return 0.0f;
    return x == top ? 1.0f : exp((x - top) * inv_temperature);
}

/* The work-group's sum over key >= least of 1 (count) or of w. Counts below 2^24 are exact in a float. */
static float mass(__global const float *x, int n, uint least, bool count, float top, float inv_temperature,
                  __local float *scratch) {
    float sum = 0.0f;
    for (int i = get_local_id(0); i < n; i += LANES)
        if (key_of(x[i]) >= least) sum += count ? 1.0f : weight(x[i], top, inv_temperature);
    return sum_of(sum, scratch);
}

/* The largest key at or above `least` whose mass reaches `goal`. */
static uint threshold(__global const float *x, int n, uint least, float goal, bool count, float top,
                      float inv_temperature, __local float *scratch) {
    uint found = 0;
    for (uint bit = 0x80000000u; bit; bit >>= 1) {
        uint candidate = max(found | bit, least);
        if (mass(x, n, candidate, count, top, inv_temperature, scratch) >= goal) found |= bit;
    }
    return max(found, least);
}

/* The id at which the running sum of kept weights exceeds u times their total; scratch holds each chunk's sum. */
static int draw(__global const float *x, int n, int chunk, uint least, float top, float inv_temperature, float u,
                int best, __local const float *scratch) {
    float total = 0.0f;
    for (int c = 0; c < LANES; c++) total += scratch[c];
    float left = u * total;
    int owner = 0;
    for (int c = 0; c < LANES; c++) { /* the last chunk with any weight takes what rounding leaves over */
        if (!(scratch[c] > 0.0f)) continue;
        if (c > owner && scratch[owner] > 0.0f) left -= scratch[owner];
        owner = c;
        if (left < scratch[c]) break;
    }
    int id = best; /* all are NaN */
    int end = min(n, (owner + 1) * chunk);
    for (int i = owner * chunk; i < end && left >= 0.0f; i++) {
        float w = key_of(x[i]) >= least ? weight(x[i], top, inv_temperature) : 0.0f;
        if (w > 0.0f) id = i;
        left -= w;
    }
    return id;
}

__kernel void sample(__global const float *logits, int n, float inv_temperature, int top_k, float top_p,
                     __global const float *u, __global int *out) {
    __local float scratch[LANES];
    __local uint keys[LANES];
    __local int ids[LANES];
    int t = get_local_id(0), chunk = (n + LANES - 1) / LANES;
    size_t r = get_group_id(0);
    __global const float *x = logits + r * n;
    int best = largest(x, n, keys, ids);
    float top = x[best];
    /* Barriers stand outside every branch: a cut that is not asked for is computed and not taken. */
    uint least = 1; /* not NaN */
    uint cut = threshold(x, n, least, (float)max(top_k, 1), true, top, inv_temperature, scratch);
    if (top_k > 0 && top_k < n) least = cut;
    float goal = top_p * mass(x, n, least, false, top, inv_temperature, scratch);
    cut = threshold(x, n, least, goal, false, top, inv_temperature, scratch);
    if (top_p < 1.0f) least = min(cut, key_of(top));
    float sum = 0.0f;
    int end = min(n, (t + 1) * chunk);
    for (int i = t * chunk; i < end; i++)
        if (key_of(x[i]) >= least) sum += weight(x[i], top, inv_temperature);
    scratch[t] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (t == 0) out[r] = draw(x, n, chunk, least, top, inv_temperature, u[r], best, scratch);
}
