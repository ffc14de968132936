/*
 * attention_tile.cl - softmax(scale q k^T) v over cached rows for many query rows: tiles in local memory and registers.
 *
 *     Lanes: the rows of all query heads that share kv head kv of sequence b. Lane t is row t / group of head
 *     kv * group + t % group, so that a tile of K and V serves all heads of the group.
 *
 *     A work-group owns 64 lanes and walks the keys that they see, KEYS at a time; of a tile an item has 8 lanes:
 *
 *                 16 items across                     16 items across
 *              K [ tx*4 .. +3 | 64 + tx*4 .. ]     V [ tx*4 .. +3 | 64 + .. | rest ]     columns of head_dim
 *        8   q  +------------------------------+  p  +--------------------------+
 *     items  .. | s[8][KEYS / 16] of an item   |  .. | acc[8][head_dim / 16]    |  lanes ty*4 .. +3, 32 + ty*4 ..
 *      down     +------------------------------+     +--------------------------+
 *
 *     s = scale q . k     m' = max(m, max s)     p = e^(s-m')     l = l e^(m-m') + sum p     acc = acc e^(m-m') + p v
 *
 *     Q and K pass through local memory 16 dimensions at a time, transposed; V 16 keys (a page) at a time; what comes next
 *     is fetched into registers meanwhile. p goes through local memory, 64 keys at a time, so do the maxima of a lane's 16
 *     items; l stays in 16 parts until the end. out = acc / l; m is a lane's largest logit, m + log l its log-sum-exp.
 *
 *     A key that a lane must not see gets a logit of minus infinity; keys that none sees, lanes beyond the last, and
 *     dimensions beyond head_dim are zeros that nobody reads from memory.
 *
 * Work: dimension 0 = kv heads (128 items each), 1 = sequences, 2 = tiles of lanes, the longest first. Offsets and strides
 * of q, k and v are multiples of 8 elements.
 *
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DKEYS=64
 * build: -DHEAD_DIM=128 -DWINDOWED=1 -DSOFT_CAP=50.0f
 * build: -DHEAD_DIM=128 -DKEYS=64
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef KEYS
#define KEYS 128 /* of a tile: 128, or 64 where registers are fewer */
#endif
#define ITEMS    VLCI_ATTENTION_TILE_ITEMS
#define LANES    VLCI_ATTENTION_TILE_LANES
#define PADDED   ((HEAD_DIM + 15) / 16 * 16)
#define FOURS    (HEAD_DIM / 64)                 /* columns of V that an item has: so many times 4 neighbours */
#define ONES     ((PADDED - FOURS * 64) / 16)    /* and so many single ones */
#define OWN      (KEYS / 16)                     /* keys of a tile that an item has */
#define K_CHUNKS (KEYS * 2 / ITEMS)              /* loads of 8 elements of K for each 16 dimensions */
#define V_CHUNKS ((PADDED * 2 + ITEMS - 1) / ITEMS) /* of V for each 16 keys */
#define SOME(n)  ((n) ? (n) : 1)
#define LOG2E    1.44269504088896340736f
enum { Q_LINE = LANES + 4, K_LINE = KEYS + 4, TOPS = 20 /* floats from line to line in local memory */ };

/* 8 neighbours as they are stored, aligned, and stored as floats, `line` apart. */
#if KV_DTYPE == VLCI_DTYPE_BF16
typedef uint4 raw8;
#define RAW_LOAD(p)  (*(__global const uint4 *)(p))
#define RAW_ZERO     ((uint4)(0u))
#define RAW_LOW(r)   as_float4((uint4)((r).x << 16, (r).x & 0xffff0000u, (r).y << 16, (r).y & 0xffff0000u))
#define RAW_HIGH(r)  as_float4((uint4)((r).z << 16, (r).z & 0xffff0000u, (r).w << 16, (r).w & 0xffff0000u))
#else
typedef struct {
    float4 low, high;
} raw8;
#define RAW_ZERO     raw_of((float8)(0.0f))
#define RAW_LOW(r)   ((r).low)
#define RAW_HIGH(r)  ((r).high)
static inline raw8 raw_of(float8 x) {
    const raw8 r = {x.lo, (float4)(x.s4, x.s5, x.s6, x.s7)};
    return r;
}
#if KV_DTYPE == VLCI_DTYPE_F16
#define RAW_LOAD(p)  raw_of(vloada_half8(0, (p)))
#else
#define RAW_LOAD(p)  raw_pair((__global const float4 *)(p))
static inline raw8 raw_pair(__global const float4 *p) {
    const raw8 r = {p[0], p[1]};
    return r;
}
#endif
#endif

/* In front of a function whose arrays stay in registers: it must become part of the kernel. */
#define IN_PLACE static inline __attribute__((always_inline))

IN_PLACE void unpack(__local const float *from, float to[4]) {
    const float4 x = *(__local const float4 *)from;
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}

IN_PLACE void put8(__local float *to, int line, float4 low, float4 high) {
    to[0] = low.x;
    to[line] = low.y;
    to[2 * line] = low.z;
    to[3 * line] = low.w;
    to[4 * line] = high.x;
    to[5 * line] = high.y;
    to[6 * line] = high.z;
    to[7 * line] = high.w;
}

/* Lane i of 8 that an item has, among the 64. */
#define LANE(i) (ty * 4 + ((i) & 3) + ((i) >> 2) * 32)
/* Key j of those that it has, among the tile's; they come in fours. */
#define KEY(j)  (tx * 4 + ((j) & 3) + ((j) >> 2) * 64)

/* What an item fetches of Q and K for 16 dimensions. */
typedef struct {
    __global const float *q; /* NULL: a lane beyond the last */
    __global const kv_t *k;
    size_t at[K_CHUNKS]; /* elements of k */
    bool there[K_CHUNKS];
    float4 q_low, q_high;
    raw8 part[K_CHUNKS];
} fetch_t;

IN_PLACE void fetch_qk(fetch_t *f, int d, int t) {
    const int qd = d + t / LANES * 8;
    f->q_low = f->q_high = 0.0f;
    if (f->q && qd < HEAD_DIM) {
        f->q_low = *(__global const float4 *)(f->q + qd);
        f->q_high = *(__global const float4 *)(f->q + qd + 4);
    }
#pragma unroll
    for (int i = 0; i < K_CHUNKS; i++) {
        const int kd = d + (t + i * ITEMS) / KEYS * 8;
        f->part[i] = RAW_ZERO;
        if (f->there[i] && kd < HEAD_DIM) f->part[i] = RAW_LOAD(f->k + f->at[i] + kd);
    }
}

/* s += q . k over 16 dimensions in local memory */
IN_PLACE void dot16(__local const float *q, __local const float *k, int tx, int ty, float s[8][OWN]) {
#pragma unroll
    for (int d = 0; d < 16; d++) {
        float a[8], b[OWN];
#pragma unroll
        for (int i = 0; i < 2; i++) unpack(q + d * Q_LINE + i * 32 + ty * 4, a + 4 * i);
#pragma unroll
        for (int j = 0; j < OWN / 4; j++) unpack(k + d * K_LINE + j * 64 + tx * 4, b + 4 * j);
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < OWN; j++) s[i][j] = mad(a[i], b[j], s[i][j]);
    }
}

/* s = scale q . k of a tile, capped, from key `from` on */
IN_PLACE void dot_tile(fetch_t *f, const kv_view *h, int from, int last, float scale, __local float *shared, int t,
                         int tx, int ty, float s[8][OWN]) {
    __local float *q = shared, *k = shared + 16 * Q_LINE;
#pragma unroll
    for (int i = 0; i < K_CHUNKS; i++) {
        const int key = from + (t + i * ITEMS) % KEYS;
        f->there[i] = key < last;
        f->at[i] = kv_at(h, min(key, last - 1));
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < OWN; j++) s[i][j] = 0.0f;
    fetch_qk(f, 0, t);
#pragma unroll 1
    for (int d = 0; d < PADDED; d += 16) {
        barrier(CLK_LOCAL_MEM_FENCE);
        put8(q + t / LANES * 8 * Q_LINE + t % LANES, Q_LINE, f->q_low * scale, f->q_high * scale);
#pragma unroll
        for (int i = 0; i < K_CHUNKS; i++)
            put8(k + (t + i * ITEMS) / KEYS * 8 * K_LINE + (t + i * ITEMS) % KEYS, K_LINE, RAW_LOW(f->part[i]),
                 RAW_HIGH(f->part[i]));
        barrier(CLK_LOCAL_MEM_FENCE);
        if (d + 16 < PADDED) fetch_qk(f, d + 16, t);
        dot16(q, k, tx, ty, s);
    }
#ifdef SOFT_CAP
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < OWN; j++) s[i][j] = CAPPED(s[i][j]);
#endif
}

IN_PLACE void add_biases(const kv_view *h, int from, int last, int tx, float s[8][OWN]) {
#pragma unroll
    for (int j = 0; j < OWN; j++) {
        const float bias = from + KEY(j) < last ? kv_bias(h, from + KEY(j)) : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) s[i][j] += bias;
    }
}

/* What a work-group's lanes see: lane t the first `seen` keys and, when causal, t / group more. */
typedef struct {
    int first, group, seen, causal;
} sight_t;

static inline int sees(const sight_t *w, int lane) { return w->seen + (w->causal ? (w->first + lane) / w->group : 0); }

IN_PLACE void mask(const sight_t *w, int from, int tx, int ty, float s[8][OWN] WINDOW_PARAM) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int until = sees(w, LANE(i)) - from;
#pragma unroll
        for (int j = 0; j < OWN; j++) s[i][j] = KEY(j) < until ? s[i][j] : -INFINITY;
#if WINDOWED
#pragma unroll
        for (int j = 0; j < OWN; j++) s[i][j] = KEY(j) >= until - window ? s[i][j] : -INFINITY;
#endif
    }
}

/* 16 parts of each lane's number; what they are together, by fmax or by +. */
IN_PLACE void put_parts(__local float *parts, int tx, int ty, const float x[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) parts[LANE(i) * TOPS + tx] = x[i];
}

IN_PLACE float max_parts(__local const float *parts) {
    __local const float4 *p = (__local const float4 *)parts;
    const float4 x = fmax(fmax(p[0], p[1]), fmax(p[2], p[3]));
    return fmax(fmax(x.x, x.y), fmax(x.z, x.w));
}

IN_PLACE float sum_parts(__local const float *parts) {
    __local const float4 *p = (__local const float4 *)parts;
    const float4 x = (p[0] + p[1]) + (p[2] + p[3]);
    return (x.x + x.y) + (x.z + x.w);
}

/* Accumulators of an item: 8 lanes by its columns; its part of each lane's sum, each lane's maximum. */
typedef struct {
    float4 four[8][SOME(FOURS)];
    float one[8][SOME(ONES)];
    float m[8], l[8];
} acc_t;

/* s becomes p; sums and accumulators follow the new maxima. */
IN_PLACE void soften(__local float *shared, int tx, int ty, float s[8][OWN], acc_t *a) {
    float top[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        top[i] = s[i][0];
#pragma unroll
        for (int j = 1; j < OWN; j++) top[i] = fmax(top[i], s[i][j]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    put_parts(shared, tx, ty, top);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float m = fmax(a->m[i], max_parts(shared + LANE(i) * TOPS)), to = m == -INFINITY ? 0.0f : m;
        const float keep = exp2((a->m[i] - to) * LOG2E);
        a->m[i] = m;
        a->l[i] *= keep;
#pragma unroll
        for (int c = 0; c < FOURS; c++) a->four[i][c] *= keep;
#pragma unroll
        for (int c = 0; c < ONES; c++) a->one[i][c] *= keep;
#pragma unroll
        for (int j = 0; j < OWN; j++) {
            s[i][j] = exp2((s[i][j] - to) * LOG2E);
            a->l[i] += s[i][j];
        }
    }
}

/* 8 elements of V at a time, of the 16 keys from `from` on: a page. */
IN_PLACE void fetch_v(const kv_view *h, int from, int last, int t, raw8 part[V_CHUNKS]) {
    const size_t at = from < last ? kv_at(h, from) : 0;
#pragma unroll
    for (int i = 0; i < V_CHUNKS; i++) {
        const int n = t + i * ITEMS, key = n / (PADDED / 8), d = n % (PADDED / 8) * 8;
        part[i] = RAW_ZERO;
        if (key < 16 && from + key < last && d < HEAD_DIM)
            part[i] = RAW_LOAD(h->v + at + (size_t)key * h->row_stride + d);
    }
}

/* acc += p v, 16 keys in local memory */
IN_PLACE void add16(__local const float *p, __local const float *v, int tx, int ty, acc_t *a) {
#pragma unroll
    for (int key = 0; key < 16; key++) {
        float w[8];
#pragma unroll
        for (int i = 0; i < 2; i++) unpack(p + key * Q_LINE + i * 32 + ty * 4, w + 4 * i);
#pragma unroll
        for (int c = 0; c < FOURS; c++) {
            const float4 x = *(__local const float4 *)(v + key * PADDED + c * 64 + tx * 4);
#pragma unroll
            for (int i = 0; i < 8; i++) a->four[i][c] = mad((float4)(w[i]), x, a->four[i][c]);
        }
#pragma unroll
        for (int c = 0; c < ONES; c++) {
            const float x = v[key * PADDED + FOURS * 64 + c * 16 + tx];
#pragma unroll
            for (int i = 0; i < 8; i++) a->one[i][c] = mad(w[i], x, a->one[i][c]);
        }
    }
}

/* acc += p v, 64 keys from `from` on: those that stand in s from `own` on */
IN_PLACE void add_tile(const kv_view *h, int from, int last, __local float *weights, __local float *shared, int t,
                         int tx, int ty, float s[8][OWN], int own, acc_t *a) {
    raw8 part[V_CHUNKS];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        __local float *to = weights + (tx * 4 + j) * Q_LINE + ty * 4;
        *(__local float4 *)to = (float4)(s[0][own + j], s[1][own + j], s[2][own + j], s[3][own + j]);
        *(__local float4 *)(to + 32) = (float4)(s[4][own + j], s[5][own + j], s[6][own + j], s[7][own + j]);
    }
    fetch_v(h, from, last, t, part);
#pragma unroll 1
    for (int key = 0; key < 64; key += 16) {
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int i = 0; i < V_CHUNKS; i++)
            if (t + i * ITEMS < PADDED * 2) {
                __local float4 *to = (__local float4 *)(shared + (t + i * ITEMS) * 8);
                to[0] = RAW_LOW(part[i]);
                to[1] = RAW_HIGH(part[i]);
            }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (key + 16 < 64) fetch_v(h, from + key + 16, last, t, part);
        add16(weights + key * Q_LINE, shared, tx, ty, a);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

__attribute__((reqd_work_group_size(ITEMS, 1, 1))) __kernel void attention_tile(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride, KV_PARAMS WINDOW_PARAM) {
    __local float weights[64 * Q_LINE] __attribute__((aligned(16)));
    __local float shared[VLCI_ATTENTION_TILE_SHARED(KEYS, HEAD_DIM)] __attribute__((aligned(16)));
    const int t = (int)get_local_id(0), kv = (int)get_group_id(0), b = (int)get_group_id(1), group = heads / kv_heads;
    /* 32 neighbours are 8 columns by 4 rows of items, so that what they read together is short */
    const int tx = (t & 7) + (t >> 5 & 1) * 8, ty = (t >> 3 & 3) + (t >> 6) * 4;
    const int first_row = seq_start[b], rows = seq_start[b + 1] - first_row, count = rows * group;
    const int lane = (int)(get_num_groups(2) - 1 - get_group_id(2)) * LANES, mine = lane + t % LANES;
    if (lane >= count) return;
    const kv_view h = kv_find(KV_PASS, b, kv, kv_heads);
    const sight_t sight = {lane, group, h.rows + (causal ? 1 : rows), causal};
    const int last = sees(&sight, min((int)LANES, count - lane) - 1), all = sees(&sight, 0);
    fetch_t f;
    f.k = h.k;
    f.q = 0;
    if (mine < count)
        f.q = q + q_offset + (size_t)(first_row + mine / group) * q_stride + (size_t)(kv * group + mine % group) * HEAD_DIM;
    acc_t acc;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        acc.m[i] = -INFINITY;
        acc.l[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < SOME(FOURS); c++) acc.four[i][c] = 0.0f;
#pragma unroll
        for (int c = 0; c < SOME(ONES); c++) acc.one[i][c] = 0.0f;
    }
    for (int from = FIRST_SEEN(all) / KEYS * KEYS; from < last; from += KEYS) {
        float s[8][OWN];
        dot_tile(&f, &h, from, last, scale, shared, t, tx, ty, s);
        if (h.bias) add_biases(&h, from, last, tx, s);
        if (from + KEYS > all || from < FIRST_SEEN(last)) mask(&sight, from, tx, ty, s WINDOW_PASS);
        soften(shared, tx, ty, s, &acc);
#pragma unroll
        for (int part = 0; part < KEYS / 64; part++)
            if (from + part * 64 < last)
                add_tile(&h, from + part * 64, last, weights, shared, t, tx, ty, s, part * 4, &acc);
    }
    put_parts(shared, tx, ty, acc.l);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int to = lane + LANE(i);
        const float sum = sum_parts(shared + LANE(i) * TOPS), inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
        const size_t row = (size_t)(first_row + to / group) * heads + kv * group + to % group;
        __global float *line = out + row * HEAD_DIM;
        if (to >= count) continue;
        if (tx == 0 && row_max) row_max[row] = acc.m[i];
        if (tx == 0 && row_lse) row_lse[row] = acc.m[i] + log(sum);
#pragma unroll
        for (int c = 0; c < FOURS; c++) *(__global float4 *)(line + c * 64 + tx * 4) = acc.four[i][c] * inverse;
#pragma unroll
        for (int c = 0; c < ONES; c++)
            if (FOURS * 64 + c * 16 + tx < HEAD_DIM) line[FOURS * 64 + c * 16 + tx] = acc.one[i][c] * inverse;
    }
    barrier(CLK_LOCAL_MEM_FENCE); /* PoCL 3.1 takes a branch that leads to a kernel's end for all items' own */
}
