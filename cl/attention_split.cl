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
 * any order, so no keys are transposed. The work-group that is done last merges the shares, so that no other launch has to:
 * work-groups count themselves in the scratch's first VLCI_ATTENTION_COUNTERS numbers, 0 before and behind.
 *
 * WINDOWED: keys in front of the first that any lane of a piece sees are not divided.
 *
 * Partial results: [piece][HEADS][RECORD] floats: acc, m, l. Pieces are counted as work-groups, shares fastest.
 *
 * Work: dimension 0 = shares, 1 = kv heads * lane groups, 2 = sequences.
 *
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3 -DHEADS=8 -DMMA=1
 * ptx: sm_80 -DHEAD_DIM=64 -DKV_DTYPE=2 -DHEADS=8 -DMMA=1
 * build: -DHEAD_DIM=64 -DHEADS=2
 * build: -DHEAD_DIM=80 -DHEADS=1
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
#define CHUNKS (HEAD_DIM / 8)
#define SLOTS  (LANES / CHUNKS)
#define KEYS   ((SPAN + SLOTS - 1) / SLOTS) /* of a SPAN, of a work-item */
#define RECORD VLCI_ATTENTION_RECORD(HEAD_DIM)
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

/* The queries of a piece of work, and the keys of its share. */
typedef struct {
    int kv, group, first, count; /* kv head, query heads that share it, first row of the sequence, lanes */
    int lane, visible, from, to; /* first lane, keys that its row sees, keys of this share */
    int causal;
    kv_view rows;
} piece_t;

static inline piece_t find_piece(__global const int *seq_start, int heads, int kv_heads, int causal, int share,
                                 KV_PARAMS WINDOW_PARAM) {
    const int b = (int)get_group_id(2), lane_groups = (int)get_num_groups(1) / kv_heads, s = (int)get_group_id(0);
    piece_t p = {(int)get_group_id(1) / lane_groups, heads / kv_heads, seq_start[b], 0, 0, 0, s * share, 0, causal};
    p.rows = kv_find(KV_PASS, b, p.kv, kv_heads);
    const int rows = seq_start[b + 1] - p.first;
    p.lane = (int)get_group_id(1) % lane_groups * HEADS;
    p.count = min(rows * p.group - p.lane, (int)HEADS);
    p.visible = p.rows.rows + (causal ? p.lane / p.group + 1 : rows);
    const int last = p.rows.rows + (causal ? (p.lane + p.count - 1) / p.group + 1 : rows);
    p.from += FIRST_SEEN(p.visible) / VLCI_KV_PAGE * VLCI_KV_PAGE; /* shares begin in a page, the first in that one */
    if (p.count > 0) p.to = s + 1 == (int)get_num_groups(0) ? last : min(last, p.from + share);
    return p;
}

/* Lanes beyond the last repeat it. */
static inline int row_of(const piece_t *p, int t) { return (p->lane + min(t, p->count - 1)) / p->group; }
static inline int head_of(const piece_t *p, int t) {
    return p->kv * p->group + (p->lane + min(t, p->count - 1)) % p->group;
}
static inline int sees(const piece_t *p, int t) {
    return p->visible + (p->causal ? row_of(p, t) - p->lane / p->group : 0);
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
/* What attention_merge does, by the work-group that is last. `room`: 2 * HEADS floats for each share, and HEADS. */
WITH_LOCAL void merge(const piece_t *p, __global const float *parts, __local float *room, __global float *out,
                      __global float *row_max, __global float *row_lse, int heads) {
    const int item = (int)get_local_id(0), n = (int)get_num_groups(0) * HEADS, mine = item % HEADS;
    __local float *sums = room + n, *whole = sums + n;
    parts += (size_t)(get_group_id(2) * get_num_groups(1) + get_group_id(1)) * n * RECORD;
    for (int i = item; i < n; i += LANES) {
        const float4 stats = ptx_load_fresh(parts + (size_t)i * RECORD + HEAD_DIM);
        room[i] = stats.x;
        sums[i] = stats.y;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float m = -INFINITY, l = 0.0f; /* of the item's lane: LANES is a multiple of HEADS */
    for (int i = mine; i < n; i += HEADS) m = fmax(m, room[i]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item; i < n; i += LANES) room[i] = weight(room[i], m);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < p->count) {
        for (int i = mine; i < n; i += HEADS) l += room[i] * sums[i];
        const size_t row = (size_t)(p->first + row_of(p, mine)) * heads + head_of(p, mine);
        if (row_max) row_max[row] = m;
        if (row_lse) row_lse[row] = m + log(l);
        whole[mine] = l;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item * 4; i < p->count * HEAD_DIM; i += LANES * 4) {
        const int t = i / HEAD_DIM, d = i % HEAD_DIM;
        const size_t row = (size_t)(p->first + row_of(p, t)) * heads + head_of(p, t);
        float4 sum = 0.0f;
#pragma unroll 16
        for (int u = t; u < n; u += HEADS) sum += room[u] * ptx_load_fresh(parts + (size_t)u * RECORD + d);
        *(__global float4 *)(out + row * HEAD_DIM + d) = sum / whole[t];
    }
}

enum { WARPS = LANES / 32, PAGE = VLCI_KV_PAGE, QUADS = HEAD_DIM / 32, HALVES = HEAD_DIM / 64 };

/* Two numbers as 16 bits each, and what that leaves. */
PTX_CALL void split2(float low, float high, uint *first, uint *rest) {
    *first = halves(low, high);
    const float2 there = wide2(*first);
    *rest = halves(low - there.x, high - there.y);
}

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
attention_mma(__global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
              __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
              KV_PARAMS, __global float *scratch, int share) {
    __local float room[WARPS * HEADS * HEAD_DIM > (2 * 256 + 1) * HEADS ? WARPS * HEADS * HEAD_DIM : (2 * 256 + 1) * HEADS];
    __local float tops[WARPS * HEADS], sums[WARPS * HEADS];
    __local int last;
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS;
    const int item = (int)get_local_id(0), warp = item / 32, g = item % 32 / 4, c = item % 4;
    const piece_t p = find_piece(seq_start, heads, kv_heads, causal, share, KV_PASS);
    uint first[QUADS * 4], rest[QUADS * 4]; /* of q's row g: 8 dimensions of every 32 */
    float acc[HALVES][8][4], m = -INFINITY, l = 0.0f;
    int visible = 0;
    if (g < p.count) visible = sees(&p, g);
#pragma unroll
    for (int u = 0; u < QUADS; u++) {
        float8 x = 0.0f;
        if (g < p.count)
            x = scale * f32_run(q + q_offset + (size_t)(p.first + row_of(&p, g)) * q_stride +
                                (size_t)head_of(&p, g) * HEAD_DIM + (u * 4 + c) * 8);
        split2(x.s0, x.s1, &first[u * 4], &rest[u * 4]);
        split2(x.s2, x.s3, &first[u * 4 + 1], &rest[u * 4 + 1]);
        split2(x.s4, x.s5, &first[u * 4 + 2], &rest[u * 4 + 2]);
        split2(x.s6, x.s7, &first[u * 4 + 3], &rest[u * 4 + 3]);
    }
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int i = 0; i < 8; i++) acc[h][i][0] = acc[h][i][1] = acc[h][i][2] = acc[h][i][3] = 0.0f;
    for (int j = p.from + warp * PAGE; j < p.to; j += WARPS * PAGE) {
        const int n = min((int)PAGE, p.to - j); /* j begins a page: shares are whole pages */
        const size_t at = kv_at(&p.rows, j);
        uint4 k0[QUADS], k1[QUADS], v4[HALVES][4];
        const int low = min(g, n - 1), high = min(g + 8, n - 1);
#pragma unroll
        for (int u = 0; u < QUADS; u++) {
            k0[u] = *(__global const uint4 *)(p.rows.k + at + (size_t)low * row_stride + (u * 4 + c) * 8);
            k1[u] = *(__global const uint4 *)(p.rows.k + at + (size_t)high * row_stride + (u * 4 + c) * 8);
        }
#pragma unroll
        for (int h = 0; h < HALVES; h++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = 2 * c + i % 2 + i / 2 * 8;
                v4[h][i] = *(__global const uint4 *)(p.rows.v + at + (size_t)min(key, n - 1) * row_stride + h * 64 + g * 8);
                if (key >= n) v4[h][i] = (uint4)(0u); /* 0 times what lies there may be no number */
            }
        float s0[4] = {0.0f, 0.0f, 0.0f, 0.0f}, s1[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int u = 0; u < QUADS; u++) {
            const uint a[4] = {first[u * 4], rest[u * 4], first[u * 4 + 1], rest[u * 4 + 1]};
            const uint b[4] = {first[u * 4 + 2], rest[u * 4 + 2], first[u * 4 + 3], rest[u * 4 + 3]};
            MULTIPLY(s0, a, k0[u].x, k0[u].y);
            MULTIPLY(s0, b, k0[u].z, k0[u].w);
            MULTIPLY(s1, a, k1[u].x, k1[u].y);
            MULTIPLY(s1, b, k1[u].z, k1[u].w);
        }
        float s[4] = {s0[0] + s0[2], s0[1] + s0[3], s1[0] + s1[2], s1[1] + s1[3]}, top = m;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = 2 * c + i % 2 + i / 2 * 8;
            if (p.rows.bias && key < n) s[i] += kv_bias(&p.rows, j + key);
            if (key >= n || j + key >= visible) s[i] = -INFINITY;
            top = fmax(top, s[i]);
        }
        top = fmax(top, ptx_butterfly(top, 1));
        top = fmax(top, ptx_butterfly(top, 2));
        const float factor = weight(m, top);
        m = top;
        l *= factor;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[i] = weight(s[i], top);
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
        for (int h = 0; h < HALVES; h++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const uint which = i % 2 ? 0x7632 : 0x5410;
                const uint b0 = ptx_pick(WORD(v4[h][0], i / 2), WORD(v4[h][1], i / 2), which);
                const uint b1 = ptx_pick(WORD(v4[h][2], i / 2), WORD(v4[h][3], i / 2), which);
                MULTIPLY(acc[h][i], a, b0, b1);
            }
    }
    l += ptx_butterfly(l, 1);
    l += ptx_butterfly(l, 2);
    if (c == 0) {
        tops[warp * HEADS + g] = m;
        sums[warp * HEADS + g] = l;
    }
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            __local float *to = room + (warp * HEADS + g) * HEAD_DIM + h * 64 + i;
            to[2 * c * 8] = acc[h][i][0] + acc[h][i][2];
            to[(2 * c + 1) * 8] = acc[h][i][1] + acc[h][i][3];
        }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item; i < p.count * HEAD_DIM; i += LANES) {
        const int t = i / HEAD_DIM, d = i % HEAD_DIM;
        const size_t row = (size_t)(p.first + row_of(&p, t)) * heads + head_of(&p, t);
        const place_t to = place(out, row_max, row_lse, parts, row, t);
        float most = -INFINITY, all = 0.0f, sum = 0.0f;
        for (int w = 0; w < WARPS; w++) most = fmax(most, tops[w * HEADS + t]);
        for (int w = 0; w < WARPS; w++) {
            const float part = weight(tops[w * HEADS + t], most);
            all += part * sums[w * HEADS + t];
            sum += part * room[(w * HEADS + t) * HEAD_DIM + d];
        }
        to.to[d] = to.partial ? sum : sum / all;
        if (d == 0) put_stats(to, most, all);
    }
    if (get_num_groups(0) == 1) return;
    const size_t piece = get_group_id(2) * get_num_groups(1) + get_group_id(1);
    if (!ptx_is_last((__global uint *)scratch, piece, get_num_groups(0), &last)) return;
    merge(&p, parts, room, out, row_max, row_lse, heads);
}
#endif
