/*
 * attention_wide.cl - softmax(scale q k^T) v over cached rows, for processors: wide vectors, no use for work-groups.
 *
 *     Lanes: the rows of all query heads that share kv head kv of sequence b. Lane t is row t / group of head
 *     kv * group + t % group. A vector holds one value of each of 16 lanes, so K and V are read as they lie, an element
 *     at a time, and no sum runs across a vector:
 *
 *           16 lanes                  BLOCK keys          s[j]   = k[j][d] q[d] + ...          (16 logits)
 *         d [q q q ... q]          j [k k k ... k] d      m'     = max(m, s)    p[j] = e^(s[j]-m')
 *           [acc . . acc]            [v v v ... v]        acc[d] = acc[d] e^(m-m') + v[j][d] p[j] + ...
 *
 *     out = acc / l with l = sum p; m is a lane's largest logit, m + log l its log-sum-exp. Lanes beyond the last
 *     repeat it and are not stored; a key that a lane must not see gets a logit of minus infinity.
 *
 * Where 16 sums of 16 floats fit the registers, two tiles go together, so that an element of K or V is read for two products.
 * Work: one work-item for TILES tiles of 16 lanes, so that a block of K and V is widened once for all of them.
 * Dimension 0 = tiles / TILES (the longest first), 1 = kv heads, 2 = sequences.
 *
 * with: wide.clh
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DWINDOWED=1 -DSOFT_CAP=50.0f
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#define TILES VLCI_ATTENTION_WIDE_TILES
#ifndef UNROLL /* sums of 16 floats of a tile beside their operands: 4 fit 16 registers of 256 bits, 8 of two tiles 32 of 512 */
#ifdef __AVX512F__
#define UNROLL 8
#else
#define UNROLL 4
#endif
#endif
enum { LANES = 16, BLOCK = 32 /* a multiple of UNROLL */, TOGETHER = UNROLL == 8 ? 2 : 1, PARTS = 4 };

/* HEAD_DIM values of each of 16 lanes, and one value of each; a block of K or V. */
typedef union {
    float16 d[HEAD_DIM];
    float lane[HEAD_DIM][LANES];
} lanes_t;

typedef union {
    float16 all;
    float lane[LANES];
} stat_t;

typedef union {
    float16 run[BLOCK * HEAD_DIM / 16];
    float at[BLOCK * HEAD_DIM];
} block_t;

typedef struct {
    lanes_t q, acc;
    stat_t m, l;
    int visible[LANES]; /* keys that a lane sees; ascends */
} tile_t;

/* n rows of K or V from row j on as floats; the last is repeated up to a whole block. */
static inline void widen_rows(const kv_view *h, __global const kv_t *from, int j, int n, block_t *to) {
    for (int t = 0; t < BLOCK; t++) {
        __global const kv_t *row = from + kv_at(h, j + min(t, n - 1));
#if HEAD_DIM % 16
        for (int d = 0; d < HEAD_DIM; d += 4) vstore4(KV_LOAD4(row, d), 0, to->at + t * HEAD_DIM + d);
#else
        for (int d = 0; d < HEAD_DIM; d += 16) to->run[(t * HEAD_DIM + d) / 16] = KV_LOAD16(row, d);
#endif
    }
}

static inline float16 larger(float16 a, float16 b) { return select(a, b, b > a); }

/* Logits of UNROLL keys; returns the largest of them and top. */
static inline float16 dot_keys(const lanes_t *q, const float *k, float16 top, float16 *s) {
    float16 sum[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) sum[u] = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 qd = q->d[d];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum[u] += k[u * HEAD_DIM + d] * qd;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        s[u] = sum[u];
        top = larger(top, sum[u]);
    }
    return top;
}

/* The same of two tiles. */
static inline void dot_keys_twice(const tile_t *tile, const float *k, float16 *top, float16 *s, float16 *s1) {
    float16 sum[UNROLL], sum1[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) sum[u] = sum1[u] = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 qd = tile[0].q.d[d], qd1 = tile[1].q.d[d];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            const float kd = k[u * HEAD_DIM + d];
            sum[u] += kd * qd;
            sum1[u] += kd * qd1;
        }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        s[u] = sum[u];
        s1[u] = sum1[u];
        top[0] = larger(top[0], sum[u]);
        top[1] = larger(top[1], sum1[u]);
    }
}

/* UNROLL dimensions of acc, a block further. */
static inline void add_values(const float16 *p, const float *v, float16 keep, float16 *acc) {
    float16 sum[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) sum[u] = acc[u] * keep;
    for (int t = 0; t < BLOCK; t++) {
        const float16 pt = p[t];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum[u] += v[t * HEAD_DIM + u] * pt;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) acc[u] = sum[u];
}

/* The same of two tiles. */
static inline void add_values_twice(const float16 *p, const float16 *p1, const float *v, float16 keep, float16 keep1,
                                    float16 *acc, float16 *acc1) {
    float16 sum[UNROLL], sum1[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        sum[u] = acc[u] * keep;
        sum1[u] = acc1[u] * keep1;
    }
    for (int t = 0; t < BLOCK; t++) {
        const float16 pt = p[t], pt1 = p1[t];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            const float vd = v[t * HEAD_DIM + u];
            sum[u] += vd * pt;
            sum1[u] += vd * pt1;
        }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        acc[u] = sum[u];
        acc1[u] = sum1[u];
    }
}

/* Logits as the softmax takes them, of keys j .. j+n-1 and of those behind them, which no lane sees; returns their largest
 * and m. */
static inline float16 mask(const tile_t *tile, float16 *s, int j, int n, const kv_view *h WINDOW_PARAM) {
    float16 top = tile->m.all;
    const int16 visible = vload16(0, tile->visible);
#pragma unroll 1 /* seldom run: one copy will do, and of 32 clang 15 finds no registers for gfx1030 */
    for (int t = 0; t < BLOCK; t++) {
        s[t] = CAPPED(s[t]);
        if (h->bias) s[t] += kv_bias(h, j + min(t, n - 1));
        s[t] = select(s[t], (float16)(-INFINITY), visible <= j + t);
#if WINDOWED
        s[t] = select(s[t], (float16)(-INFINITY), visible - window > j + t);
#endif
        top = larger(top, s[t]);
    }
    return top;
}

/* Makes weights of a block's logits, whose largest is top unless some are masked; returns what is kept of acc. */
static inline float16 weigh(tile_t *tile, float16 *s, float16 top, int j, int n, const kv_view *h WINDOW_PARAM) {
    float16 sum[PARTS];
#if !WINDOWED && !defined(SOFT_CAP)
    if (!h->bias && j + BLOCK <= tile->visible[0])
        top = larger(tile->m.all, top);
    else
#endif
        top = mask(tile, s, j, n, h WINDOW_PASS);
#if WINDOWED
    const float16 from = select(top, (float16)(0.0f), top == -INFINITY); /* lanes may see none of the block */
#else
    const float16 from = top;
#endif
#pragma unroll
    for (int u = 0; u < PARTS; u++) sum[u] = 0.0f;
    for (int t = 0; t < BLOCK; t += PARTS)
#pragma unroll
        for (int u = 0; u < PARTS; u++) {
            const float16 p = exp_below(s[t + u] - from);
            s[t + u] = p;
            sum[u] += p;
        }
    const float16 keep = exp_below(tile->m.all - from);
    tile->m.all = top;
    tile->l.all = tile->l.all * keep + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    return keep;
}

/* One tile, keys j .. j+n-1 further. */
static inline void attend(tile_t *tile, const float *k, const float *v, int j, int n, const kv_view *h WINDOW_PARAM) {
    float16 s[BLOCK], top = -INFINITY;
    for (int t = 0; t < BLOCK; t += UNROLL) top = dot_keys(&tile->q, k + t * HEAD_DIM, top, s + t);
    const float16 keep = weigh(tile, s, top, j, n, h WINDOW_PASS);
    for (int d = 0; d < HEAD_DIM; d += UNROLL) add_values(s, v + d, keep, tile->acc.d + d);
}

/* Two tiles. */
static inline void attend_twice(tile_t *tile, const float *k, const float *v, int j, int n, const kv_view *h WINDOW_PARAM) {
    float16 s[BLOCK], s1[BLOCK], top[2] = {-INFINITY, -INFINITY};
    for (int t = 0; t < BLOCK; t += UNROLL) dot_keys_twice(tile, k + t * HEAD_DIM, top, s + t, s1 + t);
    const float16 keep = weigh(tile, s, top[0], j, n, h WINDOW_PASS), keep1 = weigh(tile + 1, s1, top[1], j, n, h WINDOW_PASS);
    for (int d = 0; d < HEAD_DIM; d += UNROLL)
        add_values_twice(s, s1, v + d, keep, keep1, tile[0].acc.d + d, tile[1].acc.d + d);
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
attention_wide(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride, KV_PARAMS WINDOW_PARAM) {
    const int kv = (int)get_group_id(1), b = (int)get_group_id(2), group = heads / kv_heads;
    const int first = seq_start[b], rows = seq_start[b + 1] - first;
    const int lane = (int)(get_num_groups(0) - 1 - get_group_id(0)) * LANES * TILES;
    const int count = min(rows * group - lane, (int)LANES * TILES), tiles = (count + LANES - 1) / LANES;
    const kv_view h = kv_find(KV_PASS, b, kv, kv_heads);
    tile_t tile[TILES];
    block_t keys, values;
    int last = 0; /* keys that the last lane sees: the others see no more */
    const int start = FIRST_SEEN(h.rows + (causal ? lane / group + 1 : rows)) / BLOCK * BLOCK;
    for (int t = 0; t < tiles * LANES; t++) {
        tile_t *to = tile + t / LANES;
        const int at = lane + min(t, count - 1), row = at / group, head = kv * group + at % group;
        __global const float *from = q + q_offset + (size_t)(first + row) * q_stride + (size_t)head * HEAD_DIM;
        for (int d = 0; d < HEAD_DIM; d++) to->q.lane[d][t % LANES] = from[d] * scale;
        to->visible[t % LANES] = last = h.rows + (causal ? row + 1 : rows);
    }
    for (int i = 0; i < tiles; i++) {
        for (int d = 0; d < HEAD_DIM; d++) tile[i].acc.d[d] = 0.0f;
        tile[i].m.all = -INFINITY;
        tile[i].l.all = 0.0f;
    }
    for (int j = start; j < last; j += BLOCK) {
        const int n = min((int)BLOCK, last - j);
        widen_rows(&h, h.k, j, n, &keys);
        widen_rows(&h, h.v, j, n, &values);
        for (int i = 0; i < tiles; i += TOGETHER)
            if (TOGETHER == 2 && i + 1 < tiles) {
                if (j < tile[i + 1].visible[LANES - 1]) attend_twice(tile + i, keys.at, values.at, j, n, &h WINDOW_PASS);
            } else if (j < tile[i].visible[LANES - 1])
                attend(tile + i, keys.at, values.at, j, n, &h WINDOW_PASS);
    }
    for (int i = 0; i < tiles; i++) {
        const float16 share = 1.0f / tile[i].l.all;
        for (int d = 0; d < HEAD_DIM; d++) tile[i].acc.d[d] *= share;
    }
    for (int t = 0; t < count; t++) {
        const tile_t *from = tile + t / LANES;
        const size_t row = first + (lane + t) / group, head = kv * group + (lane + t) % group, at = row * heads + head;
        const float m = from->m.lane[t % LANES], l = from->l.lane[t % LANES];
        for (int d = 0; d < HEAD_DIM; d++) out[at * HEAD_DIM + d] = from->acc.lane[d][t % LANES];
        if (row_max) row_max[at] = m;
        if (row_lse) row_lse[at] = m + log(l);
    }
}
