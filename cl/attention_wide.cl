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
 * Work: one work-item for TILES tiles of 16 lanes, so that a block of K and V is widened once for all of them.
 * Dimension 0 = tiles / TILES (the longest first), 1 = kv heads, 2 = sequences.
 *
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DWINDOWED=1 -DSOFT_CAP=50.0f
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#define TILES VLCI_ATTENTION_WIDE_TILES
#ifndef UNROLL /* sums of 16 floats beside their operands: 4 fit 16 registers of 256 bits, 8 fit 32 of 512 */
#ifdef __AVX512F__
#define UNROLL 8
#else
#define UNROLL 4
#endif
#endif
enum { LANES = 16, BLOCK = 32 /* a multiple of UNROLL */ };

/* HEAD_DIM values of each of 16 lanes, and one value of each. */
typedef union {
    float16 d[HEAD_DIM];
    float lane[HEAD_DIM][LANES];
} lanes_t;

typedef union {
    float16 all;
    float lane[LANES];
} stat_t;

typedef struct {
    lanes_t q, acc;
    stat_t m, l;
    int visible[LANES]; /* keys that a lane sees; ascends */
} tile_t;

/* n rows of K or V from row j on as floats; the last is repeated up to a multiple of UNROLL. */
static inline void widen_rows(const kv_view *h, __global const kv_t *from, int j, int n, float *to) {
    for (int t = 0; t < (n + UNROLL - 1) / UNROLL * UNROLL; t++) {
        __global const kv_t *row = from + kv_at(h, j + min(t, n - 1));
#if HEAD_DIM % 16
        for (int d = 0; d < HEAD_DIM; d += 4) vstore4(KV_LOAD4(row, d), 0, to + t * HEAD_DIM + d);
#else
        for (int d = 0; d < HEAD_DIM; d += 16) vstore16(KV_LOAD16(row, d), 0, to + t * HEAD_DIM + d);
#endif
    }
}

/* Logits of UNROLL keys. */
static inline void dot_keys(const lanes_t *q, const float *k, float16 *s) {
    float16 sum[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) sum[u] = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 qd = q->d[d];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum[u] += k[u * HEAD_DIM + d] * qd;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) s[u] = sum[u];
}

/* UNROLL dimensions of acc, n keys further. */
static inline void add_values(const float16 *p, const float *v, int n, float16 keep, float16 *acc) {
    float16 sum[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) sum[u] = acc[u] * keep;
    for (int t = 0; t < n; t++) {
        const float16 pt = p[t];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) sum[u] += v[t * HEAD_DIM + u] * pt;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) acc[u] = sum[u];
}

/* One tile, keys j .. j+n-1 further. */
static inline void attend(tile_t *tile, const float *k, const float *v, int j, int n, const kv_view *h WINDOW_PARAM) {
    float16 s[BLOCK], top = tile->m.all, sum = 0.0f;
    const int16 visible = vload16(0, tile->visible);
    for (int t = 0; t < n; t += UNROLL) dot_keys(&tile->q, k + t * HEAD_DIM, s + t);
    for (int t = 0; t < n; t++) {
        s[t] = CAPPED(s[t]);
        if (h->bias) s[t] += kv_bias(h, j + t);
        s[t] = select(s[t], (float16)(-INFINITY), visible <= j + t);
#if WINDOWED
        s[t] = select(s[t], (float16)(-INFINITY), visible - window > j + t);
#endif
        top = select(top, s[t], s[t] > top);
    }
#if WINDOWED
    const float16 from = select(top, (float16)(0.0f), top == -INFINITY); /* lanes may see none of the block */
#else
    const float16 from = top;
#endif
    for (int t = 0; t < n; t++) {
        s[t] = exp(s[t] - from);
        sum += s[t];
    }
    const float16 keep = exp(tile->m.all - from);
    tile->m.all = top;
    tile->l.all = tile->l.all * keep + sum;
    for (int d = 0; d < HEAD_DIM; d += UNROLL) add_values(s, v + d, n, keep, tile->acc.d + d);
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
    float keys[BLOCK * HEAD_DIM], values[BLOCK * HEAD_DIM];
    int last = 0; /* keys that the last lane sees: the others see no more */
    const int start = FIRST_SEEN(h.rows + (causal ? lane / group + 1 : rows)) / BLOCK * BLOCK;
    for (int t = 0; t < tiles * LANES; t++) {
        tile_t *to = tile + t / LANES;
        const int at = lane + min(t, count - 1), row = at / group, head = kv * group + at % group;
        __global const float *from = q + q_offset + (size_t)(first + row) * q_stride + (size_t)head * HEAD_DIM;
        for (int d = 0; d < HEAD_DIM; d++) to->q.lane[d][t % LANES] = from[d] * scale;
        for (int d = 0; d < HEAD_DIM; d++) to->acc.lane[d][t % LANES] = 0.0f;
        to->m.lane[t % LANES] = -INFINITY;
        to->l.lane[t % LANES] = 0.0f;
        to->visible[t % LANES] = last = h.rows + (causal ? row + 1 : rows);
    }
    for (int j = start; j < last; j += BLOCK) {
        const int n = min((int)BLOCK, last - j);
        widen_rows(&h, h.k, j, n, keys);
        widen_rows(&h, h.v, j, n, values);
        for (int i = 0; i < tiles; i++)
            if (j < tile[i].visible[LANES - 1]) attend(tile + i, keys, values, j, n, &h WINDOW_PASS);
    }
    for (int t = 0; t < count; t++) {
        const tile_t *from = tile + t / LANES;
        const size_t row = first + (lane + t) / group, head = kv * group + (lane + t) % group, at = row * heads + head;
        const float m = from->m.lane[t % LANES], l = from->l.lane[t % LANES];
        for (int d = 0; d < HEAD_DIM; d++) out[at * HEAD_DIM + d] = from->acc.lane[d][t % LANES] / l;
        if (row_max) row_max[at] = m;
        if (row_lse) row_lse[at] = m + log(l);
    }
}
