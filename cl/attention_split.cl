/*
 * attention_split.cl - softmax(scale q k^T) v for few query rows and many cached ones (decode): the keys are divided.
 *
 *     Lanes: the rows of all query heads that share kv head kv of sequence b. Lane t is row t / group of head
 *     kv * group + t % group; HEADS lanes go together, so that K and V are read once for all of them.
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
 * attention_mma: a share is a work-group's, each of its warps takes a page of 16 keys at a time by itself, on matrix units of
 * NVIDIA's GPUs since sm_80. Up to 8 lanes are rows of q; q and the weights are two numbers of 16 bits each, so that nothing
 * is lost. A lane of a warp holds 8 neighbouring dimensions of keys, and of values of 4 keys: sums over dimensions may go in
 * any order, so no keys are transposed. As soon as a page's keys are multiplied, those of the next are on their way into the
 * same registers, as are values; past the nearest cache, since nobody reads them again. The work-group that is done last
 * merges the shares, so that no other launch has to: work-groups count themselves in the scratch's first
 * VLCI_ATTENTION_COUNTERS numbers, 0 before and behind. A launch is short, and comes with a cold cache of instructions: there
 * are few of them. Its outputs are in a FORM (common.clh), m in all: `rows`.
 *
 * WINDOWED: keys in front of the first that any lane of a piece sees are not divided.
 *
 * Partial results: [piece][HEADS][RECORD] floats: acc, m, l. Pieces are counted as work-groups, shares fastest.
 *
 * Work: dimension 0 = shares, 1 = kv heads * lane groups, 2 = sequences.
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
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef HEADS
#define HEADS 2 /* lanes that go together: 1, 2 or 4; 8 with MMA */
#endif
#ifndef LANES
#define LANES VLCI_ATTENTION_LANES /* work-items of a work-group: at least HEAD_DIM / 8, a multiple of HEADS */
#endif
#ifndef MMA
#define MMA 0 /* 1: attention_mma alone, with ptx.clh */
#endif
#ifndef WIDE
#define WIDE 1 /* 0: without attention_split_wide, which takes compilers of GPUs as long as all the rest */
#endif
#define CHUNKS (HEAD_DIM / 8)
#define SLOTS  (LANES / CHUNKS)
#define KEYS   ((SPAN + SLOTS - 1) / SLOTS) /* of a SPAN, of a work-item */
#define RECORD VLCI_ATTENTION_RECORD(HEAD_DIM)
#define OWN    ((SPAN * HEADS + LANES - 1) / LANES)             /* keys of a SPAN that an item weighs, for one lane */
#define TOPS   (LANES / HEADS < SPAN ? LANES / HEADS : SPAN)    /* items that have any */
enum { SPAN = VLCI_ATTENTION_SPAN, BLOCK = VLCI_KV_PAGE };

/* a / b, both less than 2^20 and not negative: a division of integers is long, and matrix units wait for it. */
#if MMA
static inline int quotient(int a, int b) { return (int)(((float)a + 0.5f) * ptx_inverse((float)b)); }
#else
static inline int quotient(int a, int b) { return a / b; }
#endif

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

/* The queries of a piece of work, and the keys of its share. */
typedef struct {
    int kv, group, first, count; /* kv head, query heads that share it, first row of the sequence, lanes */
    int lane, visible, from, to; /* first lane, keys that its row sees, keys of this share */
    int causal;
    kv_view rows;
} piece_t;

static inline piece_t find_piece(__global const int *seq_start, int heads, int kv_heads, int causal, int share,
                                 KV_PARAMS WINDOW_PARAM) {
    const int b = (int)get_group_id(2), s = (int)get_group_id(0), y = (int)get_group_id(1);
    const int lane_groups = quotient((int)get_num_groups(1), kv_heads);
    const int first = seq_start[b], behind = seq_start[b + 1];
    piece_t p = {quotient(y, lane_groups), quotient(heads, kv_heads), first, 0, 0, 0, s * share, 0, causal};
    p.rows = kv_find(KV_PASS, b, p.kv, kv_heads);
    const int rows = behind - first;
    p.lane = (y - p.kv * lane_groups) * HEADS;
    p.count = min(rows * p.group - p.lane, (int)HEADS);
    p.visible = p.rows.rows + (causal ? quotient(p.lane, p.group) + 1 : rows);
    const int last = p.rows.rows + (causal ? quotient(p.lane + p.count - 1, p.group) + 1 : rows);
    p.from += FIRST_SEEN(p.visible) / VLCI_KV_PAGE * VLCI_KV_PAGE; /* shares begin in a page, the first in that one */
    if (p.count > 0) p.to = s + 1 == (int)get_num_groups(0) ? last : min(last, p.from + share);
    return p;
}

/* Lanes beyond the last repeat it. */
static inline int row_of(const piece_t *p, int t) { return quotient(p->lane + min(t, p->count - 1), p->group); }
static inline int head_of(const piece_t *p, int t) {
    return p->kv * p->group + p->lane + min(t, p->count - 1) - row_of(p, t) * p->group;
}
static inline int sees(const piece_t *p, int t) {
    return p->visible + (p->causal ? row_of(p, t) - quotient(p->lane, p->group) : 0);
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
    const piece_t p = find_piece(seq_start, heads, kv_heads, causal, share, KV_PASS WINDOW_PASS);
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
    const piece_t p = find_piece(seq_start, heads, kv_heads, causal, share, KV_PASS WINDOW_PASS);
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

#if KV_DTYPE == VLCI_DTYPE_F16
#define MULTIPLY(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
PTX_CALL uint halves(float low, float high) { return ptx_f16x2(to_f16_range(low), to_f16_range(high)); }
PTX_CALL float2 wide2(uint u) { return vload_half2(0, (const half *)&u); }
#else
#define MULTIPLY(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#define halves(low, high)      ptx_bf16x2(low, high)
PTX_CALL float2 wide2(uint u) { return (float2)(as_float(u << 16), as_float(u & 0xffff0000u)); }
#endif
#define WORD(u, i) ((i) == 0 ? (u).x : (i) == 1 ? (u).y : (i) == 2 ? (u).z : (u).w)

#define LOG2_E     1.44269504088896341f
enum {
    WARPS = LANES / 32,
    PAGE = VLCI_KV_PAGE,
    QUADS = HEAD_DIM / 32,
    HALVES = HEAD_DIM / 64,
    RUNS = HEAD_DIM / 16,     /* of 8 elements: what a lane holds of a page's keys, and as many of its values */
    EACH = (HEADS * CHUNKS + LANES - 1) / LANES, /* runs of queries that an item brings */
    QUERY = HEAD_DIM / 4 + 1, /* vectors of a row of queries: for 8 dimensions 4 words, and what these leave; banks part rows */
    OUTPUT = HEAD_DIM + 8,    /* floats of a row of a warp's output */
    AT_ONCE = 17              /* parts whose loads are on their way together */
};

/* e^(x - base); base: the largest, 0 where there is none. */
PTX_CALL float weight_of(float x, float base) { return ptx_exp2((x - base) * LOG2_E); }
PTX_CALL float base_of(float top) { return top == -INFINITY ? 0.0f : top; }

/* Two numbers as 16 bits each, and what that leaves. */
PTX_CALL void split2(float low, float high, uint *first, uint *rest) {
    *first = halves(low, high);
    const float2 there = wide2(*first);
    *rest = halves(low - there.x, high - there.y);
}

/* Of a share, or of all: m, l and 4 dimensions. */
typedef struct {
    float m, l;
    float4 acc;
} share_t;

/* 4 and 2 floats of a part, as they are in memory, where `there` is not 0: without a branch, so that many are on their way. */
PTX_CALL void load_acc(int there, __global const float *p, float4 *to) {
    float4 r = *to;
    __asm__ volatile("{\n\t.reg .pred p;\n\tsetp.ne.s32 p, %5, 0;\n\t@p ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];\n\t}"
                     : "+f"(r.x), "+f"(r.y), "+f"(r.z), "+f"(r.w)
                     : "l"(p), "r"(there)
                     : "memory");
    *to = r;
}
PTX_CALL void load_stats(int there, __global const float *p, float2 *to) {
    float2 r = *to;
    __asm__ volatile("{\n\t.reg .pred p;\n\tsetp.ne.s32 p, %3, 0;\n\t@p ld.global.cg.v2.f32 {%0, %1}, [%2];\n\t}"
                     : "+f"(r.x), "+f"(r.y)
                     : "l"(p), "r"(there)
                     : "memory");
    *to = r;
}

/* What attention_merge does: all parts of a lane, AT_ONCE of them on their way together. */
PTX_CALL share_t merge(__global const float *parts, int d, int shares) {
    share_t all = {-INFINITY, 0.0f, 0.0f};
#pragma unroll 1
    for (int s = 0; s < shares; s += AT_ONCE) {
        float2 stats[AT_ONCE];
        float4 acc[AT_ONCE];
        float top = all.m;
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++, parts += HEADS * RECORD) {
            stats[u] = (float2)(-INFINITY, 0.0f);
            acc[u] = 0.0f;
            load_stats(s + u < shares, parts + HEAD_DIM, &stats[u]);
            load_acc(s + u < shares, parts + d, &acc[u]);
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) top = fmax(top, stats[u].x);
        const float base = base_of(top), keep = weight_of(all.m, base);
        all.m = top;
        all.l *= keep;
        all.acc *= keep;
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const float w = weight_of(stats[u].x, base);
            all.l += w * stats[u].y;
            all.acc += w * acc[u];
        }
    }
    return all;
}

/* 4 dimensions of lane t to the outputs. */
PTX_CALL void leave(const piece_t *p, int t, int d, const share_t *all, __global float *out, __global float *row_max,
                    __global float *row_lse, int heads, int rows) {
    const int r = p->first + row_of(p, t), head = head_of(p, t);
    A_PUT4(all->acc * ptx_inverse(all->l), out, rows, heads * HEAD_DIM, r, head * HEAD_DIM + d);
    if (d) return;
    if (row_max) row_max[(size_t)r * heads + head] = all->m;
    if (row_lse) row_lse[(size_t)r * heads + head] = all->m + ptx_log2(all->l) * (1.0f / LOG2_E);
}

/* 8 elements, zeros where `there` is 0. */
PTX_CALL uint4 run_of(int there, __global const uchar *p) {
    uint4 r = (uint4)(0u);
    __asm__ volatile("{\n\t.reg .pred p;\n\tsetp.ne.s32 p, %5, 0;\n\t"
                     "@p ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n\t}"
                     : "+r"(r.x), "+r"(r.y), "+r"(r.z), "+r"(r.w)
                     : "l"(p), "r"(there));
    return r;
}

/* What a lane holds of a page's keys, and of its values: of n rows, zeros behind them. `from`: its first run; row: bytes. */
PTX_CALL void load_keys(uint4 *to, __global const uchar *from, uint row, int n, int g) {
#pragma unroll
    for (int i = 0; i < 2; i++, from += row * 8)
#pragma unroll
        for (int u = 0; u < QUADS; u++) to[u * 2 + i] = run_of(g + 8 * i < n, from + u * 64);
}
PTX_CALL void load_values(uint4 *to, __global const uchar *from, uint row, int n, int c) {
#pragma unroll
    for (int i = 0; i < 4; i++, from += i == 2 ? row * 7 : row)
#pragma unroll
        for (int h = 0; h < HALVES; h++) to[h * 4 + i] = run_of(2 * c + i % 2 + i / 2 * 8 < n, from + h * 128);
}

/* The number of row j's page, which the row begins. */
PTX_CALL uint page_of(const kv_view *rows, int j) { return (uint)(kv_row(rows, j) / PAGE); }

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
attention_mma(__global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
              __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
              KV_PARAMS, __global float *scratch, int share, int rows) {
    __local float4 room[WARPS * HEADS * OUTPUT / 4], queries[HEADS * QUERY];
    __local float2 stats[WARPS * HEADS];
    __local int last;
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS;
    const int item = (int)get_local_id(0), warp = item / 32, g = item % 32 / 4, c = item % 4;
    const size_t piece = get_group_id(2) * get_num_groups(1) + get_group_id(1);
    const piece_t p = find_piece(seq_start, heads, kv_heads, causal, share, KV_PASS);
    if (p.count <= 0) return; /* so do all of this piece */
    const uint row = row_stride * 2, whole = row * PAGE; /* bytes */
    __global const uchar *k_lane = (__global const uchar *)p.rows.k + g * row + c * 16;
    __global const uchar *v_lane = (__global const uchar *)p.rows.v + 2 * c * row + g * 16;
    int j = p.from + warp * PAGE; /* shares are whole pages */
    uint page = j < p.to ? page_of(&p.rows, j) : 0, following = page;
    uint4 k4[RUNS], v4[RUNS];
    float8 x[EACH]; /* an item brings 8 dimensions of some rows of q to all */
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int t = (item + e * LANES) / CHUNKS, run = (item + e * LANES) % CHUNKS;
        x[e] = 0.0f;
        if (t < p.count)
            x[e] = scale * f32_run(q + q_offset + (size_t)(p.first + row_of(&p, t)) * q_stride +
                                   (size_t)head_of(&p, t) * HEAD_DIM + run * 8);
    }
    load_keys(k4, k_lane + (ulong)page * whole, row, p.to - j, g);
    load_values(v4, v_lane + (ulong)page * whole, row, p.to - j, c);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int t = (item + e * LANES) / CHUNKS, run = (item + e * LANES) % CHUNKS;
        uint first[4], rest[4];
        if (t >= HEADS) break;
        split2(x[e].s0, x[e].s1, &first[0], &rest[0]);
        split2(x[e].s2, x[e].s3, &first[1], &rest[1]);
        split2(x[e].s4, x[e].s5, &first[2], &rest[2]);
        split2(x[e].s6, x[e].s7, &first[3], &rest[3]);
        queries[t * QUERY + run * 2] = as_float4((uint4)(first[0], first[1], first[2], first[3]));
        queries[t * QUERY + run * 2 + 1] = as_float4((uint4)(rest[0], rest[1], rest[2], rest[3]));
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float acc[HALVES][8][4], m = -INFINITY, l = 0.0f;
    const int visible = g < p.count ? sees(&p, g) : 0;
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int i = 0; i < 8; i++) acc[h][i][0] = acc[h][i][1] = acc[h][i][2] = acc[h][i][3] = 0.0f;
#pragma unroll 1
    while (j < p.to) {
        const int n = min((int)PAGE, p.to - j), next = j + WARPS * PAGE;
        float s[4], s0[4] = {0.0f, 0.0f, 0.0f, 0.0f}, s1[4] = {0.0f, 0.0f, 0.0f, 0.0f}, top = m;
        float bias[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (next < p.to) following = page_of(&p.rows, next);
        if (p.rows.bias)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = 2 * c + i % 2 + i / 2 * 8;
                if (key < n) bias[i] = p.rows.bias[(size_t)page * PAGE + key];
            }
#pragma unroll
        for (int u = 0; u < QUADS; u++) {
            const uint4 k0 = k4[u * 2], k1 = k4[u * 2 + 1];
            const uint4 first = as_uint4(queries[g * QUERY + (u * 4 + c) * 2]);
            const uint4 rest = as_uint4(queries[g * QUERY + (u * 4 + c) * 2 + 1]);
            const uint a[4] = {first.x, rest.x, first.y, rest.y}, b[4] = {first.z, rest.z, first.w, rest.w};
            MULTIPLY(s0, a, k0.x, k0.y);
            MULTIPLY(s1, a, k1.x, k1.y);
            MULTIPLY(s0, b, k0.z, k0.w);
            MULTIPLY(s1, b, k1.z, k1.w);
        }
        page = following;
        if (next < p.to) load_keys(k4, k_lane + (ulong)page * whole, row, p.to - next, g);
        s[0] = s0[0] + s0[2];
        s[1] = s0[1] + s0[3];
        s[2] = s1[0] + s1[2];
        s[3] = s1[1] + s1[3];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = 2 * c + i % 2 + i / 2 * 8;
            s[i] = key < n && j + key < visible ? s[i] + bias[i] : -INFINITY;
            top = fmax(top, s[i]);
        }
        top = fmax(top, ptx_butterfly(top, 1));
        top = fmax(top, ptx_butterfly(top, 2));
        const float base = base_of(top), factor = weight_of(m, base);
        m = top;
        l *= factor;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[i] = weight_of(s[i], base);
            l += s[i];
        }
#pragma unroll
        for (int h = 0; h < HALVES; h++)
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) acc[h][i][e] *= factor;
        uint a[4]; /* rows of what is left are the tile's other 8 */
        split2(s[0], s[1], &a[0], &a[1]);
        split2(s[2], s[3], &a[2], &a[3]);
#pragma unroll
        for (int h = 0; h < HALVES; h++) {
            const uint4 *v = v4 + h * 4;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const uint which = i % 2 ? 0x7632 : 0x5410;
                const uint b0 = ptx_pick(WORD(v[0], i / 2), WORD(v[1], i / 2), which);
                const uint b1 = ptx_pick(WORD(v[2], i / 2), WORD(v[3], i / 2), which);
                MULTIPLY(acc[h][i], a, b0, b1);
            }
        }
        if (next < p.to) load_values(v4, v_lane + (ulong)page * whole, row, p.to - next, c);
        j = next;
    }
    l += ptx_butterfly(l, 1);
    l += ptx_butterfly(l, 2);
    if (c == 0) stats[warp * HEADS + g] = (float2)(m, l);
    if (g < p.count) {
#pragma unroll
        for (int h = 0; h < HALVES; h++) {
            __local float4 *to = room + (warp * HEADS + g) * (OUTPUT / 4) + h * 16 + c * 4;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                to[2 * e] = (float4)(acc[h][0][e] + acc[h][0][e + 2], acc[h][1][e] + acc[h][1][e + 2],
                                     acc[h][2][e] + acc[h][2][e + 2], acc[h][3][e] + acc[h][3][e + 2]);
                to[2 * e + 1] = (float4)(acc[h][4][e] + acc[h][4][e + 2], acc[h][5][e] + acc[h][5][e + 2],
                                         acc[h][6][e] + acc[h][6][e + 2], acc[h][7][e] + acc[h][7][e + 2]);
            }
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const int values = p.count * (HEAD_DIM / 4), shares = (int)get_num_groups(0);
#pragma unroll 1
    for (int i = item; i < values; i += LANES) {
        const int t = i / (HEAD_DIM / 4), d = i % (HEAD_DIM / 4) * 4;
        share_t all = {-INFINITY, 0.0f, 0.0f};
#pragma unroll
        for (int w = 0; w < WARPS; w++) all.m = fmax(all.m, stats[w * HEADS + t].x);
        const float base = base_of(all.m);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float2 of = stats[w * HEADS + t];
            const float part = weight_of(of.x, base);
            all.l += part * of.y;
            all.acc += part * room[(w * HEADS + t) * (OUTPUT / 4) + d / 4];
        }
        if (shares == 1) {
            leave(&p, t, d, &all, out, row_max, row_lse, heads, rows);
            continue;
        }
        __global float *part = parts + ((piece * shares + get_group_id(0)) * HEADS + t) * RECORD;
        *(__global float4 *)(part + d) = all.acc;
        if (d == 0) *(__global float2 *)(part + HEAD_DIM) = (float2)(all.m, all.l);
    }
    if (shares == 1) return;
    PTX_TOGETHER();
    if (item == 0) {
        __global uint *counter = (__global uint *)scratch + piece;
        last = ptx_count(counter) == (uint)shares - 1;
        if (last) *counter = 0;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!last) return;
#pragma unroll 1
    for (int i = item; i < values; i += LANES) {
        const int t = i / (HEAD_DIM / 4), d = i % (HEAD_DIM / 4) * 4;
        const share_t all = merge(parts + (piece * shares * HEADS + t) * RECORD, d, shares);
        leave(&p, t, d, &all, out, row_max, row_lse, heads, rows);
    }
}
#endif
