/*
 * attention_split.cl - softmax(scale q k^T) v for few query rows and many cached ones (decode): the keys are divided.
 *
 *     Lanes, and which of them go together: attend.clh.
 *
 *     keys  | share 0 | share 1 | ...    one piece of work each: m = max s   l = sum e^(s-m)   acc = sum e^(s-m) v
 *
 *     attention_merge, over the shares in their order:  M = max m    out = sum e^(m-M) acc / sum e^(m-M) l
 *
 *     A share of keys that a lane does not see has m = -infinity, l = 0 and acc = 0. One share alone needs no merging.
 *
 * attention_split: a share is a work-group's. LANES work-items = SLOTS keys at a time x CHUNKS chunks of 8 dimensions,
 * so that neighbours read neighbouring elements; for each SPAN of keys:
 *
 *     partial dots | sums over chunks, maximum of a few | p = e^(s-m) | acc += p v, 8 dimensions an item
 *
 * attention_split_wide: a share is a work-item's, for processors with wide vectors.
 *
 * attention_mma: a share is a work-group's, whose warps attend as attend.clh says. The work-group that is done last merges the
 * shares, so that no other launch has to: work-groups count themselves in the scratch's first VLCI_ATTENTION_COUNTERS numbers, 0
 * before and behind. A launch is short, and comes with a cold cache of instructions: there are few of them. Its outputs are in a
 * FORM (common.clh), m in all: `rows`.
 *
 * WINDOWED: keys in front of the first that any lane of a piece sees are not divided.
 *
 * Partial results: [piece][HEADS][RECORD] floats: acc, m, l. Pieces are counted as work-groups, shares fastest.
 *
 * Work: dimension 0 = shares, 1 = kv heads * lane groups, 2 = sequences.
 *
 * with: attend.clh
 *
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=8 -DMMA=1
 * ptx: sm_80 -DHEAD_DIM=64 -DKV_DTYPE=2 -DHEADS=8 -DMMA=1
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=8 -DMMA=1 -DFORM=1 -DW_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=8 -DMMA=1 -DFORM=1 -DW_DTYPE=3 -DLANES=64
 * build: -DHEAD_DIM=64 -DHEADS=2
 * build: -DHEAD_DIM=80 -DHEADS=1 -DWIDE=0
 * build: -DHEAD_DIM=128 -DHEADS=4
 * build: -DHEAD_DIM=256 -DHEADS=2 -DWINDOWED=1 -DSOFT_CAP=50.0f
 */
#ifndef WIDE
#define WIDE 1 /* 0: without attention_split_wide, which takes compilers of GPUs as long as all the rest */
#endif
#define SLOTS  (LANES / CHUNKS)
#define KEYS   ((SPAN + SLOTS - 1) / SLOTS) /* of a SPAN, of a work-item */
#define WHICH  (int)get_group_id(2), (int)get_group_id(1), (int)get_num_groups(1), (int)get_group_id(0), (int)get_num_groups(0)
#define OWN    ((SPAN * HEADS + LANES - 1) / LANES)             /* keys of a SPAN that an item weighs, for one lane */
#define TOPS   (LANES / HEADS < SPAN ? LANES / HEADS : SPAN)    /* items that have any */
enum { SPAN = VLCI_ATTENTION_SPAN, BLOCK = VLCI_KV_PAGE };

/* e^(x - top), 0 for what is not seen, also where nothing is. */
static inline float weight(float x, float top) { return x == -INFINITY ? 0.0f : exp(x - top); }

/* Where lane t of a piece goes: one share alone to the outputs, else to the partial results. */
typedef struct {
    __global float *to, *row_max, *row_lse;
    int partial;
} place_t;

static inline place_t place(__global float *out, __global float *row_max, __global float *row_lse,
                            __global float *parts, size_t row, int t) {
    place_t p = {out + row * HEAD_DIM, row_max ? row_max + row : row_max, row_lse ? row_lse + row : row_lse, 0};
    if (get_num_groups(0) == 1) return p;
    const size_t piece = (get_group_id(2) * get_num_groups(1) + get_group_id(1)) * get_num_groups(0) + get_group_id(0);
    p.to = parts + (piece * HEADS + t) * RECORD;
    p.partial = 1;
    return p;
}

static inline void put_stats(place_t p, float m, float l) {
    if (p.partial) {
        p.to[HEAD_DIM] = m;
        p.to[HEAD_DIM + 1] = l;
        return;
    }
    if (p.row_max) *p.row_max = m;
    if (p.row_lse) *p.row_lse = m + log(l);
}

#if !MMA
/* Row j's share of a work-item: as it lies where that is 16 bytes, so that it takes few registers on its way. */
#if KV_DTYPE == VLCI_DTYPE_BF16
typedef uint4 part_t;
#define PART_LOAD(p) (*(__global const uint4 *)(p))
#define PART(x)      bf16_run(x)
#else
typedef float8 part_t;
#define PART_LOAD(p) KV_RUN(p)
#define PART(x)      (x)
#endif

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
attention_split(__global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
                __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
                KV_PARAMS WINDOW_PARAM, __global float *scratch, int share) {
    __local float dots[VLCI_ATTENTION_DOTS(LANES, HEADS, HEAD_DIM)];
    __local float weights[SPAN * HEADS], tops[LANES], keep[HEADS];
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS;
    const int item = (int)get_local_id(0), chunk = item % CHUNKS, slot = item / CHUNKS;
    const int mine = item % HEADS, nth = item / HEADS; /* in the softmax an item has some keys of one lane */
    const attend_t p = find_piece(seq_start, heads, kv_heads, causal, share, WHICH, KV_PASS WINDOW_PASS);
    float8 query[HEADS], acc[HEADS];
    float m = -INFINITY, l = 0.0f, s[OWN];
    int visible = 0;
    if (p.count > 0) visible = sees(&p, mine);
#pragma unroll
    for (int t = 0; t < HEADS; t++) {
        query[t] = acc[t] = 0.0f;
        if (p.count > 0)
            query[t] = scale * f32_run(q + q_offset + (size_t)(p.first + row_of(&p, t)) * q_stride +
                                       (size_t)head_of(&p, t) * HEAD_DIM + chunk * 8);
    }
    for (int j = p.from; j < p.to; j += SPAN) {
        const int n = min((int)SPAN, p.to - j);
        size_t at[KEYS];
        part_t row[KEYS];
#pragma unroll
        for (int r = 0; r < KEYS; r++) at[r] = kv_at(&p.rows, j + min(slot + r * SLOTS, n - 1)) + chunk * 8;
#pragma unroll
        for (int r = 0; r < KEYS; r++) row[r] = PART_LOAD(p.rows.k + at[r]);
#pragma unroll
        for (int r = 0; r < KEYS; r++) {
            const int i = slot + r * SLOTS;
            const float8 wide = PART(row[r]);
#pragma unroll
            for (int t = 0; t < HEADS; t++)
                if (i < n && slot < SLOTS) dots[(i * HEADS + t) * (CHUNKS + 1) + chunk] = sum8(query[t] * wide);
        }
#pragma unroll
        for (int r = 0; r < KEYS; r++) row[r] = PART_LOAD(p.rows.v + at[r]); /* on its way during the softmax */
        barrier(CLK_LOCAL_MEM_FENCE);
        float top = m;
#pragma unroll
        for (int r = 0; r < OWN; r++) {
            const int i = nth + r * (LANES / HEADS);
            s[r] = -INFINITY;
            if (i < n && j + i < visible && j + i >= FIRST_SEEN(visible)) {
                s[r] = 0.0f;
                for (int c = 0; c < CHUNKS; c++) s[r] += dots[(i * HEADS + mine) * (CHUNKS + 1) + c];
                s[r] = CAPPED(s[r]);
                if (p.rows.bias) s[r] += kv_bias(&p.rows, j + i);
            }
            top = fmax(top, s[r]);
        }
        if (nth < TOPS) tops[mine * TOPS + nth] = top;
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 8
        for (int i = 0; i < TOPS; i++) top = fmax(top, tops[mine * TOPS + i]);
        const float factor = weight(m, top);
        if (nth == 0) keep[mine] = factor;
        m = top;
        l *= factor;
#pragma unroll
        for (int r = 0; r < OWN; r++) {
            const int i = nth + r * (LANES / HEADS);
            const float w = weight(s[r], top);
            l += w;
            if (i < SPAN) weights[i * HEADS + mine] = w;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int t = 0; t < HEADS; t++) acc[t] *= keep[t];
#pragma unroll
        for (int r = 0; r < KEYS; r++) {
            const int i = slot + r * SLOTS;
            if (i >= n || slot >= SLOTS) continue;
            const float8 wide = PART(row[r]);
#pragma unroll
            for (int t = 0; t < HEADS; t++) acc[t] += weights[i * HEADS + t] * wide;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (slot < SLOTS)
        for (int t = 0; t < HEADS; t++) vstore8(acc[t], 0, dots + (slot * HEADS + t) * HEAD_DIM + chunk * 8);
    tops[mine * (LANES / HEADS) + nth] = l;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (nth == 0 && mine < p.count) {
        float sum = 0.0f;
        for (int i = 0; i < LANES / HEADS; i++) sum += tops[mine * (LANES / HEADS) + i];
        const size_t row = (size_t)(p.first + row_of(&p, mine)) * heads + head_of(&p, mine);
        put_stats(place(out, row_max, row_lse, parts, row, mine), m, sum);
        keep[mine] = get_num_groups(0) == 1 ? 1.0f / sum : 1.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item; i < p.count * HEAD_DIM; i += LANES) {
        const int t = i / HEAD_DIM, d = i % HEAD_DIM;
        const size_t row = (size_t)(p.first + row_of(&p, t)) * heads + head_of(&p, t);
        float sum = 0.0f;
        for (int u = 0; u < SLOTS; u++) sum += dots[(u * HEADS + t) * HEAD_DIM + d];
        place(out, row_max, row_lse, parts, row, t).to[d] = sum * keep[t];
    }
}

/* ---- the same on a processor ----------------------------------------------------------------------------- */

#if WIDE
#if HEAD_DIM % 16
typedef float8 wide_t;
enum { WIDTH = 8 };
#define KV_LOAD_WIDE(p, c) KV_LOAD8(p, (c) * 8)
#define SUM_WIDE(x)        sum8(x)
#else
typedef float16 wide_t;
enum { WIDTH = 16 };
#define KV_LOAD_WIDE(p, c) KV_LOAD16(p, (c) * 16)
#define SUM_WIDE(x)        sum8((x).lo + HIGH8(float8, x))
#endif
enum { VECTORS = HEAD_DIM / WIDTH };

typedef union {
    wide_t all[VECTORS];
    float d[HEAD_DIM];
} row_t;

static inline void q_load(__global const float *q, float scale, row_t *to) {
    for (int d = 0; d < HEAD_DIM; d++) to->d[d] = q[d] * scale;
}

/* BLOCK values: of the keys of a block. */
typedef union {
    float16 all;
    float key[BLOCK];
} keys_t;

static inline float max8(float8 x) {
    const float4 y = fmax(x.lo, x.hi);
    return fmax(fmax(y.x, y.y), fmax(y.z, y.w));
}

/* Logits of n keys for each lane. */
static inline void dot_block(const row_t *query, __global const kv_t *k, size_t stride, int n, keys_t *s) {
    for (int i = 0; i < n; i++, k += stride) {
        wide_t sum[HEADS];
#pragma unroll
        for (int t = 0; t < HEADS; t++) sum[t] = 0.0f;
        for (int c = 0; c < VECTORS; c++) {
            const wide_t row = KV_LOAD_WIDE(k, c);
#pragma unroll
            for (int t = 0; t < HEADS; t++) sum[t] += query[t].all[c] * row;
        }
#pragma unroll
        for (int t = 0; t < HEADS; t++) s[t].key[i] = CAPPED(SUM_WIDE(sum[t]));
    }
}

/* acc = acc keep + sum p v, n keys further. */
static inline void add_block(const keys_t *p, const float *keep, __global const kv_t *v, size_t stride, int n,
                             row_t *acc) {
    for (int c = 0; c < VECTORS; c++) {
        wide_t sum[HEADS];
#pragma unroll
        for (int t = 0; t < HEADS; t++) sum[t] = acc[t].all[c] * keep[t];
        for (int i = 0; i < n; i++) {
            const wide_t row = KV_LOAD_WIDE(v + (size_t)i * stride, c);
#pragma unroll
            for (int t = 0; t < HEADS; t++) sum[t] += p[t].key[i] * row;
        }
#pragma unroll
        for (int t = 0; t < HEADS; t++) acc[t].all[c] = sum[t];
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
attention_split_wide(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
    KV_PARAMS WINDOW_PARAM, __global float *scratch, int share) {
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS;
    const attend_t p = find_piece(seq_start, heads, kv_heads, causal, share, WHICH, KV_PASS WINDOW_PASS);
    if (p.count <= 0) return;
    const int16 nth = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    row_t query[HEADS], acc[HEADS];
    keys_t s[HEADS];
    float m[HEADS], l[HEADS], keep[HEADS];
    for (int t = 0; t < HEADS; t++) {
        q_load(q + q_offset + (size_t)(p.first + row_of(&p, t)) * q_stride + (size_t)head_of(&p, t) * HEAD_DIM, scale,
               &query[t]);
        for (int c = 0; c < VECTORS; c++) acc[t].all[c] = 0.0f;
        m[t] = -INFINITY;
        l[t] = 0.0f;
        s[t].all = 0.0f;
    }
    for (int j = p.from; j < p.to; j += BLOCK) {
        const int n = min((int)BLOCK, p.to - j);
        const size_t at = kv_at(&p.rows, j); /* a block is a page */
        dot_block(query, p.rows.k + at, row_stride, n, s);
        for (int t = 0; t < HEADS; t++) {
            for (int i = 0; p.rows.bias && i < n; i++) s[t].key[i] += kv_bias(&p.rows, j + i);
            s[t].all = select(s[t].all, (float16)(-INFINITY), nth >= min(n, sees(&p, t) - j));
#if WINDOWED
            s[t].all = select(s[t].all, (float16)(-INFINITY), nth < FIRST_SEEN(sees(&p, t)) - j);
#endif
            const float top = fmax(m[t], max8(fmax(s[t].all.lo, HIGH8(float8, s[t].all))));
            keep[t] = weight(m[t], top);
            s[t].all = exp(s[t].all - (top == -INFINITY ? 0.0f : top));
            l[t] = l[t] * keep[t] + sum8(s[t].all.lo + HIGH8(float8, s[t].all));
            m[t] = top;
        }
        add_block(s, keep, p.rows.v + at, row_stride, n, acc);
    }
    for (int t = 0; t < p.count; t++) {
        const size_t row = (size_t)(p.first + row_of(&p, t)) * heads + head_of(&p, t);
        const place_t to = place(out, row_max, row_lse, parts, row, t);
        const float factor = to.partial ? 1.0f : 1.0f / l[t];
        for (int d = 0; d < HEAD_DIM; d++) to.to[d] = acc[t].d[d] * factor;
        put_stats(to, m[t], l[t]);
    }
}
#endif

/* ---- the shares of a lane together ------------------------------------------------------------------------- */

/* Work: dimension 0 = HEADS * HEAD_DIM values, 1 = kv heads * lane groups, 2 = sequences. */
__kernel void attention_merge(__global const float *scratch, int shares, __global float *out,
                              __global const int *seq_start, __global float *row_max, __global float *row_lse,
                              int heads, int kv_heads) {
    const int i = (int)get_global_id(0), t = i / HEAD_DIM, d = i % HEAD_DIM, b = (int)get_group_id(2);
    const int lane_groups = (int)get_num_groups(1) / kv_heads, kv = (int)get_group_id(1) / lane_groups;
    const int lane = (int)get_group_id(1) % lane_groups * HEADS + t, group = heads / kv_heads;
    if (t >= HEADS || lane >= (seq_start[b + 1] - seq_start[b]) * group) return;
    const size_t row = (size_t)(seq_start[b] + lane / group) * heads + kv * group + lane % group;
    float m = -INFINITY, l = 0.0f, sum = 0.0f;
    __global const float *parts = scratch + VLCI_ATTENTION_COUNTERS +
                                  ((size_t)(b * get_num_groups(1) + get_group_id(1)) * shares * HEADS + t) * RECORD;
#pragma unroll 8
    for (int s = 0; s < shares; s++) m = fmax(m, parts[(size_t)s * HEADS * RECORD + HEAD_DIM]);
#pragma unroll 8
    for (int s = 0; s < shares; s++) {
        __global const float *part = parts + (size_t)s * HEADS * RECORD;
        const float w = weight(part[HEAD_DIM], m);
        sum += w * part[d];
        l += w * part[HEAD_DIM + 1];
    }
    out[row * HEAD_DIM + d] = sum / l;
    if (d) return;
    if (row_max) row_max[row] = m;
    if (row_lse) row_lse[row] = m + log(l);
}
#else

/* ---- the same on matrix units ------------------------------------------------------------------------------ */

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
attention_mma(__global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
              __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
              KV_PARAMS, __global float *scratch, int share, int rows) {
    __local float4 room[ROOM], queries[HEADS * QUERY];
    __local float2 stats[WARPS * HEADS];
    __local int last;
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS;
    const int item = (int)get_local_id(0);
    const size_t piece = get_group_id(2) * get_num_groups(1) + get_group_id(1);
    const attend_t p = find_piece(seq_start, heads, kv_heads, causal, share, WHICH, KV_PASS);
    if (p.count <= 0) return; /* so do all of this piece */
    attend(&p, q, scale, q_offset, q_stride, row_stride, item, 0, room, queries, stats);
    end_share(&p, (int)get_group_id(0), (int)get_num_groups(0), (__global uint *)scratch + piece,
              parts + piece * get_num_groups(0) * (HEADS * RECORD), item, 0, room, stats, &last, out, row_max, row_lse, heads,
              rows);
}
#endif
