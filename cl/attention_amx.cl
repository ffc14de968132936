/*
 * attention_amx.cl - softmax(scale q k^T) v over cached rows on a processor's matrix unit; q, k, v and weights bf16, sums and
 * softmax f32.
 *
 *     Lanes: the rows of all query heads that share kv head kv of sequence b. Lane t is row t / group of head
 *     kv * group + t % group. Products are of 32 by 32, and stand so that lanes lie side by side in both of their sums: a
 *     softmax in vectors of 16 lanes never sums across one, and K is multiplied as it lies.
 *
 *               32 lanes                                          32 lanes
 *            +-----------+                                      +-----------+
 *            |  q pairs  | 32 of d                              |  p pairs  | 32 keys
 *       32 d +-----------+                             32 keys  +-----------+
 *     +------+-----------+   p = 2^((s - m) unit)    +----------+-----------+   acc = acc 2^((m' - m) unit) + v p
 *     |  k   |  s        |   of BLOCK keys at a      |  v       |  acc      |
 *     +------+-----------+   time, m their largest   +----------+-----------+ 32 of d
 *     32 keys                and those before        32 of d
 *
 *     A pair of p is keys i and i + 16 of 32: words that two vectors of s make without a shuffle, and rows of v two rows.
 *
 * unit: what logits are of, scale where s is a product as it is. out = acc / l with l = sum p; m unit is a lane's largest
 * logit, m unit + log l its log-sum-exp. Lanes beyond the last repeat it and are not stored; a key that a lane must not see
 * gets a logit of minus infinity.
 *
 * AMX 0: the same without the unit, on any device: what it is held against.
 *
 * Work: one work-item for up to TILES tiles of 32 lanes: the sequence's tiles in as many equal parts as dimension 0 has
 * work-items (the longest first). k and v are brought into their tiles once for all of them. Dimension 1 = kv heads, 2 =
 * sequences.
 *
 * with: amx.clh dot.clh wide.clh
 * x86: tdpbf16ps -DHEAD_DIM=64 -DKV_DTYPE=3 -DAMX=1
 * x86: tdpbf16ps -DHEAD_DIM=72 -DKV_DTYPE=1 -DAMX=1 -DDOT=1
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=72 -DWINDOWED=1 -DSOFT_CAP=50.0f
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
enum {
    SIDE = VLCI_TILE,
    HALF = SIDE / 2, /* lanes of a vector */
    STEPS = (HEAD_DIM + SIDE - 1) / SIDE,
    TILES = VLCI_ATTENTION_AMX_TILES(AMX, HEAD_DIM),
    BLOCK = 128 /* keys */,
    PIECES = BLOCK / SIDE
};

AMX_DEFINE(amx_multiply, __private, __private, AMX_HELD, AMX_ALONE)

/* 32 x 32 of bf16: rows of 32, or [half of the columns][16 pairs of rows][16 columns]. */
typedef struct {
    uint16 run[SIDE];
} narrow_t;

/* 32 rows of two vectors. */
typedef union {
    float16 run[SIDE][2];
    float at[SIDE * SIDE];
} sums_t;

/* What a logit is in, as s and m have it: biased and capped ones are whole. */
#ifdef SOFT_CAP
#define UNIT(h, scale) 1.0f
#else
#define UNIT(h, scale) ((h)->bias ? 1.0f : (scale))
#endif

typedef union {
    float16 run[2];
    float lane[SIDE];
} stat_t;

typedef union {
    int16 run[2];
    int lane[SIDE];
} seen_t;

/* A tile of lanes. */
typedef struct {
    narrow_t q[STEPS];
    sums_t acc[STEPS];
    stat_t m, l;
    seen_t visible; /* keys that a lane sees; ascends */
} tile_t;

/* ---- into tiles ---------------------------------------------------------------------------------------- */

/* 16 elements of a row from d on, zeros behind its end. */
#define DEFINE_LOAD(NAME, type, LOAD16, LOAD8)                                                                         \
    static inline float16 NAME(__global const type *row, int d) {                                                      \
        if (d + HALF <= HEAD_DIM) return LOAD16(row, d);                                                               \
        return d < HEAD_DIM ? (float16)(LOAD8(row, d), (float8)(0.0f)) : (float16)(0.0f);                              \
    }
#define FLOAT_LOAD16(row, d) vload16(0, (row) + (d))
#define FLOAT_LOAD8(row, d)  vload8(0, (row) + (d))
DEFINE_LOAD(load_q, float, FLOAT_LOAD16, FLOAT_LOAD8)
DEFINE_LOAD(load_kv, kv_t, KV_LOAD16, KV_LOAD8)

/* Of 16 lanes, the rows q: words of two neighbours along d, one of each lane in a vector. */
WITH_DOT void bring_q(__global const float *const *from, tile_t *to, int side) {
    uint16 a[HALF], b[HALF];
    for (int step = 0; step < STEPS; step++) {
#pragma unroll
        for (int r = 0; r < HALF; r++) {
            const float16 low = load_q(from[r], step * SIDE), high = load_q(from[r], step * SIDE + HALF);
            DOT_PACK(low, high, &a[r]);
        }
        TURN(uint16, a, b)
        for (int r = 0; r < HALF; r++) to->q[step].run[side * HALF + r] = a[r];
    }
}

/* n keys from row j on; the last is repeated up to a whole tile. */
WITH_DOT void bring_k(const kv_view *h, int j, int n, narrow_t (*to)[STEPS]) {
    for (int t = 0; t < (n + SIDE - 1) / SIDE * SIDE; t++) {
        __global const kv_t *row = h->k + kv_at(h, j + min(t, n - 1));
        for (int step = 0; step < STEPS; step++) {
            const float16 low = load_kv(row, step * SIDE), high = load_kv(row, step * SIDE + HALF);
            DOT_PACK(low, high, &to[t / SIDE][step].run[t % SIDE]);
        }
    }
}

/* To nearest even, in the upper halves of words. */
static inline uint16 rounded(float16 v) {
    const uint16 u = as_uint16(v);
    return KV_DTYPE == VLCI_DTYPE_BF16 ? u : u + 0x7fffu + (u >> 16 & 1u);
}

/* The same of v: rows i and i + 16 of 32 make words, a row of which is turned to stand in a column. */
static void bring_v(const kv_view *h, int j, int n, narrow_t (*to)[PIECES]) {
    uint16 a[HALF], b[HALF];
    for (int piece = 0; piece < (n + SIDE - 1) / SIDE; piece++) {
        __global const kv_t *row[SIDE];
        for (int r = 0; r < SIDE; r++) row[r] = h->v + kv_at(h, j + min(piece * SIDE + r, n - 1));
        for (int d = 0; d < HEAD_DIM; d += HALF) {
#pragma unroll
            for (int r = 0; r < HALF; r++)
                a[r] = rounded(load_kv(row[r], d)) >> 16 | (rounded(load_kv(row[r + HALF], d)) & 0xffff0000u);
            TURN(uint16, a, b)
            for (int r = 0; r < HALF; r++) to[d / SIDE][piece].run[d % SIDE + r] = a[r];
        }
    }
}

/* ---- a tile of lanes ----------------------------------------------------------------------------------- */

static inline float16 larger(float16 a, float16 b) { return select(a, b, b > a); }

/* Logits as the softmax takes them, of n keys from row j on and those behind them, which no lane sees; top is at least
 * these. */
static void mask(const tile_t *tile, sums_t *s, int j, int n, int pieces, float scale, const kv_view *h,
                 float16 *top WINDOW_PARAM) {
    for (int t = 0; t < pieces * SIDE; t++) {
        const float bias = kv_bias(h, j + min(t, n - 1));
        for (int i = 0; i < 2; i++) {
            const int16 visible = tile->visible.run[i];
            float16 x = s[t / SIDE].run[t % SIDE][i];
#ifdef SOFT_CAP
            x = CAPPED(x * scale) + bias;
#else
            if (h->bias) x = x * scale + bias;
#endif
            x = select(x, (float16)(-INFINITY), visible <= j + t);
#if WINDOWED
            x = select(x, (float16)(-INFINITY), visible - window > j + t);
#endif
            s[t / SIDE].run[t % SIDE][i] = x;
            top[i] = larger(top[i], x);
        }
    }
}

/* Makes weights p of a block's logits; acc and l, to which they will be added, become what they are beside these. */
static inline void weigh(tile_t *tile, sums_t *s, narrow_t *p, int j, int n, int pieces, float scale,
                         const kv_view *h WINDOW_PARAM) {
    float16 top[2] = {tile->m.run[0], tile->m.run[1]}, from[2], sum[2] = {0.0f, 0.0f};
#if !WINDOWED && !defined(SOFT_CAP)
    if (!h->bias && j + pieces * SIDE <= tile->visible.lane[0])
        for (int t = 0; t < pieces * SIDE; t++)
            for (int i = 0; i < 2; i++) top[i] = larger(top[i], s[t / SIDE].run[t % SIDE][i]);
    else
#endif
        mask(tile, s, j, n, pieces, scale, h, top WINDOW_PASS);
    const float unit = UNIT(h, scale) * 1.44269504f;
    for (int i = 0; i < 2; i++) from[i] = top[i];
#if WINDOWED
    for (int i = 0; i < 2; i++) from[i] = select(top[i], (float16)(0.0f), top[i] == -INFINITY); /* it sees none of them */
#endif
    for (int piece = 0; piece < pieces; piece++)
        for (int r = 0; r < HALF; r++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float16 p0 = exp2_below((s[piece].run[r][i] - from[i]) * unit);
                const float16 p1 = exp2_below((s[piece].run[r + HALF][i] - from[i]) * unit);
                sum[i] += p0 + p1;
                p[piece].run[i * HALF + r] = (as_uint16(p0) + 0x8000u) >> 16 | ((as_uint16(p1) + 0x8000u) & 0xffff0000u);
            }
    for (int i = 0; i < 2; i++) {
        from[i] = exp2_below((tile->m.run[i] - from[i]) * unit);
        tile->l.run[i] = tile->l.run[i] * from[i] + sum[i];
        tile->m.run[i] = top[i];
    }
    for (int d = 0; d < HEAD_DIM; d++)
        for (int i = 0; i < 2; i++) tile->acc[d / SIDE].run[d % SIDE][i] *= from[i];
}

/* Keys j .. j+n-1 further. */
static inline void attend(tile_t *tile, narrow_t (*k)[STEPS], narrow_t (*v)[PIECES], int j, int n, float scale,
                          const kv_view *h WINDOW_PARAM) {
    sums_t s[PIECES];
    narrow_t p[PIECES];
    const int pieces = (min(n, tile->visible.lane[SIDE - 1] - j) + SIDE - 1) / SIDE;
    for (int piece = 0; piece < pieces; piece++)
        amx_multiply(k[piece], tile->q, &tile->q[0].run[HALF], STEPS, 1, s[piece].at, 0);
    weigh(tile, s, p, j, n, pieces, scale, h WINDOW_PASS);
    for (int step = 0; step < STEPS; step++)
        amx_multiply(v[step], p, &p[0].run[HALF], (ulong)pieces, 0, tile->acc[step].at, 0);
}

/* ---- all of them --------------------------------------------------------------------------------------- */

/* The outputs of 16 lanes, `count` of which there are. */
static void finish(const tile_t *tile, int side, int count, __global float *const *to) {
    const float16 share = 1.0f / tile->l.run[side];
    for (int d = 0; d < HEAD_DIM; d += HALF) {
        float16 a[HALF], b[HALF];
#pragma unroll
        for (int r = 0; r < HALF; r++) a[r] = tile->acc[d / SIDE].run[d % SIDE + r][side] * share;
        TURN(float16, a, b)
#pragma unroll
        for (int r = 0; r < HALF; r++)
            if (r < count && d + HALF <= HEAD_DIM)
                vstore16(a[r], 0, to[r] + d);
            else if (r < count)
                vstore8(a[r].lo, 0, to[r] + d);
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
attention_amx(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride,
    KV_PARAMS WINDOW_PARAM) {
    const int kv = (int)get_group_id(1), b = (int)get_group_id(2), group = heads / kv_heads;
    const int first = seq_start[b], rows = seq_start[b + 1] - first;
    const kv_view h = kv_find(KV_PASS, b, kv, kv_heads);
    int tiles;
    const int lane = SIDE * part_of((rows * group + SIDE - 1) / SIDE, (int)get_num_groups(0),
                                    (int)(get_num_groups(0) - 1 - get_group_id(0)), &tiles);
    const int count = min(rows * group - lane, tiles * SIDE);
    tile_t tile[TILES];
    narrow_t keys[PIECES][STEPS], values[STEPS][PIECES];
    int last = 0; /* keys that the last lane sees: the others see no more */
    const int start = FIRST_SEEN(h.rows + (causal ? lane / group + 1 : rows)) / SIDE * SIDE;
    for (int t = 0; t < tiles * SIDE; t += HALF) {
        __global const float *from[HALF];
        for (int r = 0; r < HALF; r++) {
            const int at = lane + min(t + r, count - 1), row = at / group, head = kv * group + at % group;
            from[r] = q + q_offset + (size_t)(first + row) * q_stride + (size_t)head * HEAD_DIM;
            tile[t / SIDE].visible.lane[t % SIDE + r] = last = h.rows + (causal ? row + 1 : rows);
        }
        bring_q(from, tile + t / SIDE, t % SIDE / HALF);
    }
    for (int i = 0; i < tiles; i++) {
        for (int step = 0; step < STEPS; step++)
            for (int d = 0; d < SIDE * 2; d++) tile[i].acc[step].run[d / 2][d % 2] = 0.0f;
        for (int side = 0; side < 2; side++) {
            tile[i].m.run[side] = -INFINITY;
            tile[i].l.run[side] = 0.0f;
        }
    }
    for (int step = HEAD_DIM / SIDE; step < STEPS; step++) /* what no d has */
        for (int piece = 0; piece < PIECES; piece++)
            for (int r = 0; r < SIDE; r++) values[step][piece].run[r] = 0u;
    amx_begin(amx_shapes);
    for (int j = start; j < last; j += BLOCK) {
        const int n = min((int)BLOCK, last - j);
        bring_k(&h, j, n, keys);
        bring_v(&h, j, n, values);
        for (int i = 0; i < tiles; i++)
            if (j < tile[i].visible.lane[SIDE - 1] && j + n > FIRST_SEEN(tile[i].visible.lane[0]))
                attend(tile + i, keys, values, j, n, scale, &h WINDOW_PASS);
    }
    amx_end();
    const float unit = UNIT(&h, scale);
    for (int t = 0; t < count; t += HALF) {
        const int side = t % SIDE / HALF;
        tile_t *of = tile + t / SIDE;
        __global float *to[HALF];
        stat_t lse;
        of->m.run[side] *= unit;
        lse.run[side] = of->m.run[side] + log(of->l.run[side]);
        for (int r = 0; r < min(count - t, (int)HALF); r++) {
            const size_t row = first + (lane + t + r) / group, at = row * heads + kv * group + (lane + t + r) % group;
            to[r] = out + at * HEAD_DIM;
            if (row_max) row_max[at] = of->m.lane[t % SIDE + r];
            if (row_lse) row_lse[at] = lse.lane[t % SIDE + r];
        }
        finish(of, side, count - t, to);
    }
}
