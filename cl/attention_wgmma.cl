/*
 * attention_wgmma.cl - softmax(scale q k^T) v over cached rows for many query rows, on Hopper's matrix units: q, k, v and the
 * weights in 16 bits, sums and softmax in f32.
 *
 *     Lanes as in attention_tile.cl: lane t is row t / group of head kv * group + t % group, of sequence b.
 *
 *     A work-group, 384 work-items, walks over pieces: 128 lanes of one kv head, the longest first.
 *
 *         warpgroups 0, 1   64 lanes each: S = q k^T (64 x 128), p, and acc (64 x head_dim) in registers
 *         warpgroup 2       brings q (two pieces), k and v (two tiles of 128 keys each) into local memory
 *
 *     time -->   S of tile j          | softmax of tile j    | S of tile j - 1 ...          of one warpgroup;
 *                acc += p v of j + 1 ...................|                                   the other is half a step later
 *
 *     p = e^(s-m')    l = l e^(m-m') + sum p    acc = (acc + p v) e^(m-m')    out = acc / l    m + log l: log-sum-exp
 *
 *     m' is the largest logit of a lane only where one grew beyond m by GROWTH powers of two; else it is m, and nothing is
 *     multiplied anew. The largest ones are kept beside it.
 *
 *     Tiles go from the last key that is seen down; those that all lanes of a warpgroup see whole need no mask. Local memory
 *     holds rows as logits_wgmma.clh says. K and V of 16 bits come by cp.async, zeros for keys that no lane sees; q, and K and V
 *     of 32 bits, are rounded to ROUNDED on their way.
 *     S is a sum over DEPTH dimensions, whole steps of 16: those behind the last are zeros of q and of k.
 *     Heads whose logits have biases take a slower loop: nothing overlaps.
 *
 *     STRIPES: q, k and v are columns of one matrix of q_stride rows in stripes (shared.h), of KV_DTYPE, as a product left it.
 *     Offsets count columns; what a sequence sees is its own rows.
 *
 *     out is f32 rows; with out_rows, so many rows in stripes of ROUNDED, as the next product reads it.
 *
 * Work: dimension 0 = as many work-groups as there are units. Offsets and strides of q, k and v are multiples of 8 elements.
 *
 * ptx: sm_90a -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_90a -DHEAD_DIM=128 -DKV_DTYPE=2
 * ptx: sm_90a -DHEAD_DIM=80 -DKV_DTYPE=3
 * ptx: sm_90a -DHEAD_DIM=64 -DKV_DTYPE=2
 * ptx: sm_90a -DHEAD_DIM=64 -DKV_DTYPE=3 -DSTRIPES=1
 * ptx: sm_90a -DHEAD_DIM=72 -DKV_DTYPE=3 -DSTRIPES=1
 * ptx: sm_90a -DHEAD_DIM=72 -DKV_DTYPE=1 -DROUNDED=2
 * ptx: sm_90a -DHEAD_DIM=88 -DKV_DTYPE=2 -DSTRIPES=1
 * ptx: sm_90a -DHEAD_DIM=96 -DKV_DTYPE=3
 * ptx: sm_90a -DHEAD_DIM=64 -DKV_DTYPE=1 -DROUNDED=2
 * ptx: sm_90a -DHEAD_DIM=80 -DKV_DTYPE=1 -DROUNDED=3
 * ptx: sm_90a -DHEAD_DIM=128 -DKV_DTYPE=1 -DROUNDED=3
 * with: logits_wgmma.clh
 */
#ifndef HEAD_DIM
#define HEAD_DIM 128 /* 64, 72, 80, 88, 96 or 128 */
#endif
#ifndef STRIPES
#define STRIPES 0
#endif
/* Of 384 work-items, 168 registers each: what the bringers give up is all that the others can have, or they wait for ever. */
#if KV_DTYPE == VLCI_DTYPE_F32
#define BRINGER_REGISTERS  "88" /* more loads on their way */
#define CONSUMER_REGISTERS "208"
#else
#define BRINGER_REGISTERS  "56"
#define CONSUMER_REGISTERS "224"
#endif
#define KEYS 128
#define LOG2E 1.44269504088896340736f
#define LN2   0.69314718055994530942f
#define GROWTH 8.0f /* as powers of two: how far p may exceed 1 before all is multiplied anew */

enum {
    GROUPS = 2,                                     /* warpgroups that multiply */
    LANES = VLCI_ATTENTION_WGMMA_LANES,             /* 64 each */
    BUFFERS = VLCI_ATTENTION_WGMMA_BUFFERS,         /* of q, of k and of v */
    PAGES = KEYS / 16,
    DEPTH = (HEAD_DIM + 15) / 16 * 16,
    HALVES = (HEAD_DIM + 63) / 64,                  /* blocks of 64 columns: [HALVES][rows][128 bytes] */
    AT_ONCE = HALVES == 1 ? PAGES : PAGES / 2,      /* loads of 32 bytes on their way */
    Q_GROUP = 64 * 128 * HALVES,
    Q_BYTES = Q_GROUP * GROUPS,
    TILE = KEYS * 128 * HALVES,
    AT_K = BUFFERS * Q_BYTES,
    AT_V = AT_K + BUFFERS * TILE,
    AT_BARRIERS = AT_V + BUFFERS * TILE,            /* full and empty of q, of k, of v */
    SIDE = 8 * BUFFERS                              /* bytes from full to empty */
};

/* Accumulators of one wgmma whose n is a multiple of 8 alone (ptx.clh has the others). */
#define PTX_D72 PTX_D64 ", %32, %33, %34, %35"
#define PTX_D88 PTX_D80 ", %40, %41, %42, %43"
#define IO4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define PTX_IO72(d) PTX_IO64(d), IO4(d, 32)
#define PTX_IO88(d) PTX_IO80(d), IO4(d, 40)

/* ---- acc += p v: a statement, so that nothing comes between its instructions ---- */

#define IN8(p, i, n0, n1, n2, n3, n4, n5, n6, n7)                                                                    \
    [n0] "r"(p[i]), [n1] "r"(p[i + 1]), [n2] "r"(p[i + 2]), [n3] "r"(p[i + 3]), [n4] "r"(p[i + 4]),                  \
        [n5] "r"(p[i + 5]), [n6] "r"(p[i + 6]), [n7] "r"(p[i + 7])

/* 16 keys: four registers of p, two groups of 8 rows of v */
#define PV_STEP(b, p0, p1, p2, p3)                                                                                   \
    "\tadd.s64 b, %[v], " #b ";\n"                                                                                   \
    "\t//~ wgmma.mma_async.sync.aligned.m64n" PTX_TEXT(HEAD_DIM) "k16.f32." TYPE "." TYPE                            \
    " {" PTX_JOIN(PTX_D, HEAD_DIM) "}, {%[" #p0 "], %[" #p1 "], %[" #p2 "], %[" #p3 "]}, b, yes, 1, 1, 1;\n"
/* acc += p v */
#define PV(acc, p, tile_v)                                                                                           \
    __asm__ volatile(                                                                                                \
        "{\n\t.reg .pred yes;\n\t.reg .b64 b;\n\tsetp.eq.b32 yes, %[zero], 0;\n"                                     \
        PV_STEP(0, a0, a1, a2, a3) PV_STEP(128, a4, a5, a6, a7) PV_STEP(256, b0, b1, b2, b3)                         \
        PV_STEP(384, b4, b5, b6, b7) PV_STEP(512, c0, c1, c2, c3) PV_STEP(640, c4, c5, c6, c7)                       \
        PV_STEP(768, d0, d1, d2, d3) PV_STEP(896, d4, d5, d6, d7) "\t}"                                              \
        : PTX_JOIN(PTX_IO, HEAD_DIM)(acc)                                                                            \
        : IN8(p, 0, a0, a1, a2, a3, a4, a5, a6, a7), IN8(p, 8, b0, b1, b2, b3, b4, b5, b6, b7),                      \
          IN8(p, 16, c0, c1, c2, c3, c4, c5, c6, c7), IN8(p, 24, d0, d1, d2, d3, d4, d5, d6, d7),                    \
          [v] "l"(tile_v), [zero] "r"(0))

/* V as b: its rows are k, groups of 8 of them 1024 bytes apart, blocks of 64 columns KEYS * 128 */
#define TILE_COLUMNS(at)                                                                                             \
    (((ulong)1 << 62) | ((ulong)64 << 32) | ((ulong)(KEYS * 8) << 16) | (ulong)(((at) & 0x3ffff) >> 4))

/* ---- pieces ---- */

typedef struct {
    uint turn;        /* of dealing: the next one */
    int b, kv;        /* sequence, kv head */
    int row, rows;    /* first query row of the sequence, its number of them */
    int lane, count;  /* first lane, lanes of the sequence */
} piece_t;

/* The next piece of this work-group, dealt back and forth; false when there is none. */
PTX_CALL int deal(piece_t *p, __global const int *seq_start, int kv_heads, int group, int batch, int blocks) {
    const uint side = (uint)(kv_heads * batch), pieces = side * (uint)blocks, all = ptx_groups(), me = ptx_group();
    for (;;) {
        const uint n = p->turn * all + (p->turn & 1 ? all - 1 - me : me);
        if (n >= pieces) return 0;
        const uint block = n / side, in = n - block * side;
        p->turn++;
        p->b = (int)(in / (uint)kv_heads);
        p->kv = (int)in - p->b * kv_heads;
        p->row = seq_start[p->b];
        p->rows = seq_start[p->b + 1] - p->row;
        p->lane = (blocks - 1 - (int)block) * LANES;
        p->count = p->rows * group;
        if (p->lane < p->count) return 1;
    }
}

/* Keys that lane t sees; no lane sees more than the last. */
PTX_CALL int sees(const piece_t *p, int held, int causal, int group, int t) {
    return held + (causal ? min(t, p->count - 1) / group + 1 : p->rows);
}

/* ---- bringing ---- */

/* What lies behind the last dimension, up to whole steps, of all rows of q and of k: nothing else is ever written there. */
PTX_CALL void clear_rest(uint at) {
#if HEAD_DIM < 128 && HEAD_DIM % 16
    const uint block = HEAD_DIM / 64, run = HEAD_DIM % 64 / 8;
    for (uint i = ptx_item(); i < BUFFERS * (LANES + KEYS); i += VLCI_ATTENTION_WGMMA_ITEMS) {
        const uint b = i / (LANES + KEYS), r = i % (LANES + KEYS), key = r - LANES;
        const uint q = b * Q_BYTES + r / 64 * Q_GROUP + block * 8192 + SWIZZLED(r % 64, run);
        const uint k = AT_K + b * TILE + block * (KEYS * 128) + SWIZZLED(key, run);
        store16(at + (r < LANES ? q : k), 0, 0, 0, 0);
    }
    PTX_PROXY_FENCE();
#endif
}

/* In stripes: 8 neighbours of a row, from a column on that is a multiple of 8. */
PTX_CALL __global uchar *run_in(__global uchar *x, uint rows, uint row, uint column) {
    return x + 2 * VLCI_STRIPE_AT(row, column, (size_t)rows);
}

#if STRIPES
PTX_CALL __global const uchar *run_at(__global const void *x, uint rows, uint row, uint column) {
    return (__global const uchar *)x + 2 * VLCI_STRIPE_AT(row, column, (size_t)rows);
}

/* Lanes 16 n .. 16 n + 31 of a piece's q: item e has run e & 7 of two of them. */
PTX_CALL void bring_q(uint to, __global const void *q, uint q_offset, uint rows, const piece_t *p, int group, uint n, uint e) {
    const uint run = e & 7, r = e >> 3;
#pragma unroll
    for (uint i = 0; i < 2; i++) {
        const int t = min(p->lane + (int)(16 * (n + i) + r), p->count - 1);
        const uint bytes = p->lane + (int)(16 * (n + i) + r) == t ? 16 : 0;
        const uint row = (uint)(p->row + t / group), column = q_offset + (uint)(p->kv * group + t % group) * HEAD_DIM + run * 8;
#pragma unroll
        for (uint h = 0; h < HALVES; h++)
            if (h * 64 + run * 8 < HEAD_DIM)
                ptx_copy16(to + ((n + i) >> 2) * Q_GROUP + h * 8192 + ((n + i) & 3) * 2048 + SWIZZLED(r, run),
                           run_at(q, rows, row, column + h * 64), bytes);
    }
}

/* A tile of K or V: keys n .. n + 127, of which the first `seen - n` are read; arrives at `full`. */
PTX_CALL void bring_columns(uint to, __global const kv_t *from, uint rows, uint column, const piece_t *p, int n, int seen, uint e,
                            uint full) {
    const uint run = e & 7, r = e >> 3;
    to += SWIZZLED(r, run);
#pragma unroll
    for (uint h = 0; h < HALVES; h++)
        if (h * 64 + run * 8 < HEAD_DIM) {
            __global const uchar *at = run_at(from, rows, (uint)(p->row + n) + r, column + h * 64 + run * 8);
#pragma unroll
            for (int i = 0; i < PAGES; i++) /* 16 rows further, the swizzle is the same */
                ptx_copy16(to + h * (KEYS * 128) + i * 2048, at + i * 2048, n + 16 * i + (int)r < seen ? 16 : 0);
        }
    ptx_barrier_arrive_copies(full);
}
#define FIND_ROW(n) 0 /* none is needed */
#define BRING_TILE(to, plane, offset, mine, n, full)                                                                 \
    bring_columns(to, plane, q_stride, (offset) + (uint)(now.kv * HEAD_DIM), &now, n, seen, e, full)
#define BRING_Q(to, n) bring_q(to, q, q_offset, q_stride, &piece, group, n, e)
#define Q_IS_THERE(full) ptx_barrier_arrive_copies(full)
#else
/* Lanes 16 n .. 16 n + 31 of a piece's q: item e has run e & 7 of two of them. */
PTX_CALL void bring_q(uint to, __global const float *q, uint q_stride, const piece_t *p, int group, uint n, uint e) {
    const uint run = e & 7, r = e >> 3;
    float4 low[2][HALVES], high[2][HALVES];
#pragma unroll
    for (uint i = 0; i < 2; i++) {
        const int t = p->lane + (int)(16 * (n + i) + r);
        const int there = t < p->count, row = p->row + t / group, head = p->kv * group + t % group;
        __global const float *from = q + (there ? (size_t)row * q_stride + (size_t)head * HEAD_DIM + run * 8 : 0);
#pragma unroll
        for (uint h = 0; h < HALVES; h++) {
            low[i][h] = high[i][h] = 0.0f;
            if (there && h * 64 + run * 8 < HEAD_DIM) {
                low[i][h] = *(__global const float4 *)(from + h * 64);
                high[i][h] = *(__global const float4 *)(from + h * 64 + 4);
            }
        }
    }
#pragma unroll
    for (uint i = 0; i < 2; i++)
#pragma unroll
        for (uint h = 0; h < HALVES; h++)
            if (h * 64 + run * 8 < HEAD_DIM)
                store_rounded(to + ((n + i) >> 2) * Q_GROUP + h * 8192 + ((n + i) & 3) * 2048 + SWIZZLED(r, run),
                              low[i][h], high[i][h]);
}

/* The row of the cache that keys n + 16 i .. begin at, i the number of this lane among 8; those behind the last repeat it. */
PTX_CALL uint find_row(const kv_view *h, int n, int seen) {
    return (uint)kv_row(h, min(n + 16 * (int)(ptx_lane() & 7), (seen - 1) & ~15));
}

/* A tile of K or V: keys n .. n + 127, of which the first `seen - n` are read; arrives at `full`. */
PTX_CALL void bring_tile(uint to, __global const kv_t *from, uint stride, uint mine, int n, int seen, uint e, uint full) {
    const uint run = e & 7, r = e >> 3;
    uint rows[PAGES];
    to += SWIZZLED(r, run);
    rows[0] = ptx_from_uint(mine, 0);
#if KV_DTYPE != VLCI_DTYPE_F32
    if (n + KEYS <= seen && !ptx_any(mine != rows[0] + 16 * (ptx_lane() & 7))) { /* one behind the other, all there */
        __global const uchar *at = (__global const uchar *)(from + (size_t)(rows[0] + r) * stride + run * 8);
#pragma unroll
        for (int i = 0; i < PAGES; i++, at += 32 * stride)
#pragma unroll
            for (uint h = 0; h < HALVES; h++)
                if (h * 64 + run * 8 < HEAD_DIM) ptx_copy16_all(to + h * (KEYS * 128) + i * 2048, at + h * 128);
        ptx_barrier_arrive_copies(full);
        return;
    }
#endif
#pragma unroll
    for (uint i = 1; i < PAGES; i++) rows[i] = ptx_from_uint(mine, i);
#if KV_DTYPE == VLCI_DTYPE_F32
#pragma unroll
    for (uint h = 0; h < HALVES; h++)
        if (h * 64 + run * 8 < HEAD_DIM)
#pragma unroll
            for (int first = 0; first < PAGES; first += AT_ONCE) {
                float4 low[AT_ONCE], high[AT_ONCE];
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    low[i] = high[i] = 0.0f;
                    if (n + 16 * (first + i) + (int)r < seen) {
                        __global const float4 *at =
                            (__global const float4 *)(from + (size_t)(rows[first + i] + r) * stride + h * 64 + run * 8);
                        low[i] = at[0];
                        high[i] = at[1];
                    }
                }
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++)
                    store_rounded(to + h * (KEYS * 128) + (first + i) * 2048, low[i], high[i]);
            }
    PTX_PROXY_FENCE();
    ptx_barrier_arrive(full);
#else
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        __global const uchar *at = (__global const uchar *)(from + (size_t)(rows[i] + r) * stride + run * 8);
        const uint bytes = n + 16 * i + (int)r < seen ? 16 : 0;
#pragma unroll
        for (uint h = 0; h < HALVES; h++)
            if (h * 64 + run * 8 < HEAD_DIM) ptx_copy16(to + h * (KEYS * 128) + i * 2048, at + h * 128, bytes);
    }
    ptx_barrier_arrive_copies(full);
#endif
}
#define FIND_ROW(n)                                 find_row(&h, n, seen)
#define BRING_TILE(to, plane, offset, mine, n, full) bring_tile(to, h.plane, h.row_stride, mine, n, seen, e, full)
#define BRING_Q(to, n) bring_q(to, q + q_offset, q_stride, &piece, group, n, e)
#define Q_IS_THERE(full)                                                                                             \
    {                                                                                                                \
        PTX_PROXY_FENCE();                                                                                           \
        ptx_barrier_arrive(full);                                                                                    \
    }
#endif

/* ---- multiplying ---- */

/* A work-item has of its warp's 16 lanes g = item / 4 % 8 and g + 8; of S columns 8 i + 2 (item % 4) and the next: s[4 i] and
 * s[4 i + 1] of lane g, s[4 i + 2] and s[4 i + 3] of lane g + 8. acc the same. */
typedef struct {
    float x0, x1;         /* largest logit that this item saw, unscaled */
    float m0, m1, u0, u1; /* what powers are of the distance to: the largest of a lane when it was last looked for; scaled */
    float top0, top1;     /* logits beyond these want it looked for anew */
    float l0, l1;         /* this item's part of the sum */
    float r0, r1;         /* where `grown`, what acc is to be multiplied by */
    int grown;
} soft_t;

/* Keys from `until` on, counted from this item's first of the tile, are not seen. */
PTX_CALL void mask(float s[KEYS / 2], int until0, int until1) {
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++) {
        s[4 * i] = 8 * i >= until0 ? -INFINITY : s[4 * i];
        s[4 * i + 1] = 8 * i + 1 >= until0 ? -INFINITY : s[4 * i + 1];
        s[4 * i + 2] = 8 * i >= until1 ? -INFINITY : s[4 * i + 2];
        s[4 * i + 3] = 8 * i + 1 >= until1 ? -INFINITY : s[4 * i + 3];
    }
}

PTX_CALL void add_biases(float s[KEYS / 2], const kv_view *h, int n, int seen, float inverse_scale) {
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int key = n + 8 * i + j;
            const float bias = key < seen ? kv_bias(h, key) * inverse_scale : 0.0f;
            s[4 * i + j] += bias;
            s[4 * i + 2 + j] += bias;
        }
}

/* The largest logits of a warp's lanes are looked for. Where s c - u would round too much they are taken off s, in each tile. */
PTX_CALL void grow(float s[KEYS / 2], soft_t *f, float c) {
    float x0 = ptx_max(f->x0, ptx_butterfly(f->x0, 1)), x1 = ptx_max(f->x1, ptx_butterfly(f->x1, 1));
    x0 = ptx_max(x0, ptx_butterfly(x0, 2));
    x1 = ptx_max(x1, ptx_butterfly(x1, 2));
    const float y0 = x0 == -INFINITY ? 0.0f : x0, y1 = x1 == -INFINITY ? 0.0f : x1;
    f->r0 = ptx_exp2((f->m0 - y0) * c);
    f->r1 = ptx_exp2((f->m1 - y1) * c);
    f->l0 *= f->r0;
    f->l1 *= f->r1;
    f->m0 = x0;
    f->m1 = x1;
    f->u0 = y0 * c;
    f->u1 = y1 * c;
    const float slack = ptx_min(GROWTH / c, 1e30f);
    f->top0 = x0 + slack;
    f->top1 = x1 + slack;
    if (ptx_any(ptx_max(ptx_max(f->u0, -f->u0), ptx_max(f->u1, -f->u1)) > 4096.0f)) {
        f->top0 = f->top1 = -INFINITY;
        f->u0 = f->u1 = 0.0f;
#pragma unroll
        for (uint i = 0; i < KEYS / 8; i++) {
            s[4 * i] -= y0;
            s[4 * i + 1] -= y0;
            s[4 * i + 2] -= y1;
            s[4 * i + 3] -= y1;
        }
    }
}

/* s becomes p; c: what turns unscaled logits into powers of two */
PTX_CALL void soften(float s[KEYS / 2], soft_t *f, float c) {
#pragma unroll
    for (uint i = 0; i < KEYS / 8; i++) {
        f->x0 = ptx_max(f->x0, ptx_max(s[4 * i], s[4 * i + 1]));
        f->x1 = ptx_max(f->x1, ptx_max(s[4 * i + 2], s[4 * i + 3]));
    }
    f->grown = ptx_any(f->x0 > f->top0 || f->x1 > f->top1);
    if (f->grown) grow(s, f, c);
    float a0 = f->l0, a1 = 0.0f, b0 = f->l1, b1 = 0.0f;
    const float u0 = -f->u0, u1 = -f->u1;
#pragma unroll
    for (uint i = 0; i < KEYS / 8; i++) {
        s[4 * i] = ptx_exp2(ptx_fma(s[4 * i], c, u0));
        s[4 * i + 1] = ptx_exp2(ptx_fma(s[4 * i + 1], c, u0));
        s[4 * i + 2] = ptx_exp2(ptx_fma(s[4 * i + 2], c, u1));
        s[4 * i + 3] = ptx_exp2(ptx_fma(s[4 * i + 3], c, u1));
        a0 += s[4 * i];
        a1 += s[4 * i + 1];
        b0 += s[4 * i + 2];
        b1 += s[4 * i + 3];
    }
    f->l0 = a0 + a1;
    f->l1 = b0 + b1;
}

PTX_CALL void rescale(float acc[HEAD_DIM / 2], float r0, float r1) {
#pragma unroll
    for (uint i = 0; i < HEAD_DIM / 8; i++) {
        acc[4 * i] *= r0;
        acc[4 * i + 1] *= r0;
        acc[4 * i + 2] *= r1;
        acc[4 * i + 3] *= r1;
    }
}

/* p as the product reads it: 16 keys are 4 registers */
PTX_CALL void pack(const float s[KEYS / 2], uint p[KEYS / 4]) {
#pragma unroll
    for (uint i = 0; i < KEYS / 4; i++) p[i] = PAIR(s[2 * i], s[2 * i + 1]);
}

/* S of tile j and acc of tile j + 1 are on their way together. */
#define STEP(masked)                                                                                                 \
    {                                                                                                                \
        wait_full(k_full, &k_ring);                                                                                  \
        TURN();                                                                                                      \
        PTX_WGMMA_FENCE();                                                                                           \
        QK(s, tile_q, PTX_TILE_ROWS(at + AT_K + k_ring.at * TILE));                                                  \
        PTX_WGMMA_COMMIT();                                                                                          \
        wait_full(v_full, &v_ring);                                                                                  \
        PTX_WGMMA_FENCE();                                                                                           \
        PV(acc, p, TILE_COLUMNS(at + AT_V + v_ring.at * TILE));                                                      \
        PTX_WGMMA_COMMIT();                                                                                          \
        PASS();                                                                                                      \
        PTX_WGMMA_WAIT(1);                                                                                           \
        hold(s, KEYS / 2);                                                                                           \
        release(k_empty, &k_ring);                                                                                   \
        if (masked) mask(s, until0 - j * KEYS, until1 - j * KEYS);                                                   \
        soften(s, &f, c);                                                                                            \
        PTX_WGMMA_WAIT(0);                                                                                           \
        hold(acc, HEAD_DIM / 2);                                                                                     \
        hold(s, KEYS / 2);                                                                                           \
        release(v_empty, &v_ring);                                                                                   \
        pack(s, p);                                                                                                  \
        if (f.grown) rescale(acc, f.r0, f.r1);                                                                       \
    }

__attribute__((reqd_work_group_size(VLCI_ATTENTION_WGMMA_ITEMS, 1, 1))) __kernel void attention_wgmma(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride, KV_PARAMS,
    int batch, int blocks, uint out_rows) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    const uint at = (uint)smem, item = ptx_item();
    const uint q_full = at + AT_BARRIERS, k_full = q_full + 2 * SIDE, v_full = k_full + 2 * SIDE;
    const uint q_empty = q_full + SIDE, k_empty = k_full + SIDE, v_empty = v_full + SIDE;
    const int group = heads / kv_heads;
    piece_t piece;
    piece.turn = 0;
    clear_rest(at);
    if (item == 0) {
        for (uint i = 0; i < BUFFERS; i++) {
            ptx_barrier_init(q_full + 8 * i, 128);
            ptx_barrier_init(k_full + 8 * i, 128);
            ptx_barrier_init(v_full + 8 * i, 128);
            ptx_barrier_init(q_empty + 8 * i, GROUPS * 4); /* a work-item of each warp that reads */
            ptx_barrier_init(k_empty + 8 * i, GROUPS * 4);
            ptx_barrier_init(v_empty + 8 * i, GROUPS * 4);
        }
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    ptx_sync(0, VLCI_ATTENTION_WGMMA_ITEMS);

    if (item >= 128 * GROUPS) { /* ---- brings ---- */
        __asm__ volatile("//~ setmaxnreg.dec.sync.aligned.u32 " BRINGER_REGISTERS ";" ::: "memory");
        const uint e = item - 128 * GROUPS;
        ring_t q_ring = {0, 1, BUFFERS}, k_ring = {0, 1, BUFFERS}, v_ring = {0, 1, BUFFERS};
        if (!deal(&piece, seq_start, kv_heads, group, batch, blocks)) return;
        ptx_barrier_wait(q_empty, q_ring.phase);
#pragma unroll 1
        for (uint n = 0; n < LANES / 16; n += 2) BRING_Q(at, n);
        Q_IS_THERE(q_full);
        advance(&q_ring);
        for (int more = 1; more;) {
            const kv_view h = kv_find(KV_PASS, piece.b, piece.kv, kv_heads);
            const int seen = sees(&piece, h.rows, causal, group, piece.lane + LANES - 1), tiles = (seen + KEYS - 1) / KEYS;
            const piece_t now = piece;
            uint of_k, of_v = 0, n = 0; /* n: rows of 16 lanes of the next piece's q that were brought */
            more = deal(&piece, seq_start, kv_heads, group, batch, blocks);
            of_k = FIND_ROW((tiles - 1) * KEYS);
            for (int j = tiles; j >= 0; j--) { /* K of tile j - 1, V of tile j */
                if (j > 0) {
                    ptx_barrier_wait(k_empty + 8 * k_ring.at, k_ring.phase);
                    BRING_TILE(at + AT_K + k_ring.at * TILE, k, k_offset, of_k, (j - 1) * KEYS, k_full + 8 * k_ring.at);
                    advance(&k_ring);
                }
                if (j < tiles) {
                    ptx_barrier_wait(v_empty + 8 * v_ring.at, v_ring.phase);
                    BRING_TILE(at + AT_V + v_ring.at * TILE, v, v_offset, of_v, j * KEYS, v_full + 8 * v_ring.at);
                    advance(&v_ring);
                }
                of_v = of_k;
                if (j > 1) of_k = FIND_ROW((j - 2) * KEYS);
                if (more && j < tiles && n < LANES / 16) { /* what the next piece begins with comes between */
                    if (n == 0) ptx_barrier_wait(q_empty + 8 * q_ring.at, q_ring.phase);
                    BRING_Q(at + q_ring.at * Q_BYTES, n);
                    n += 2;
                }
            }
            if (!more) return;
#pragma unroll 1
            for (; n < LANES / 16; n += 2) BRING_Q(at + q_ring.at * Q_BYTES, n);
            Q_IS_THERE(q_full + 8 * q_ring.at);
            advance(&q_ring);
        }
        return;
    }

    /* ---- multiplies ---- */
    __asm__ volatile("//~ setmaxnreg.inc.sync.aligned.u32 " CONSUMER_REGISTERS ";" ::: "memory");
    const uint wg = item >> 7, lane = ptx_lane();
    const int first_key = 2 * (int)(lane & 3), mine = (int)(wg * 64 + (item >> 5 & 3) * 16 + (lane >> 2));
    const float c = scale * LOG2E;
    ring_t q_ring = {0, 0, BUFFERS}, k_ring = {0, 0, BUFFERS}, v_ring = {0, 0, BUFFERS};
    if (wg == GROUPS - 1) ptx_arrive(1, 256);
    while (deal(&piece, seq_start, kv_heads, group, batch, blocks)) {
        const kv_view h = kv_find(KV_PASS, piece.b, piece.kv, kv_heads);
        const int seen = sees(&piece, h.rows, causal, group, piece.lane + LANES - 1);
        const int whole = sees(&piece, h.rows, causal, group, piece.lane + (int)wg * 64) / KEYS; /* tiles without a mask */
        const int until0 = sees(&piece, h.rows, causal, group, piece.lane + mine) - first_key;
        const int until1 = sees(&piece, h.rows, causal, group, piece.lane + mine + 8) - first_key;
        const ulong tile_q = PTX_TILE_ROWS(at + q_ring.at * Q_BYTES + wg * Q_GROUP);
        float acc[HEAD_DIM / 2], s[KEYS / 2];
        uint p[KEYS / 4];
        soft_t f = {.x0 = -INFINITY, .x1 = -INFINITY, .m0 = -INFINITY, .m1 = -INFINITY, .top0 = -INFINITY, .top1 = -INFINITY};
        int j = (seen + KEYS - 1) / KEYS - 1;
#pragma unroll
        for (uint i = 0; i < HEAD_DIM / 2; i++) acc[i] = 0.0f;
        wait_full(q_full, &q_ring);
        if (h.bias) {
            for (; j >= 0; j--) {
                wait_full(k_full, &k_ring);
                PTX_WGMMA_FENCE();
                QK(s, tile_q, PTX_TILE_ROWS(at + AT_K + k_ring.at * TILE));
                PTX_WGMMA_COMMIT();
                PTX_WGMMA_WAIT(0);
                hold(s, KEYS / 2);
                release(k_empty, &k_ring);
                add_biases(s, &h, j * KEYS + first_key, seen, 1.0f / scale);
                mask(s, until0 - j * KEYS, until1 - j * KEYS);
                soften(s, &f, c);
                if (f.grown) rescale(acc, f.r0, f.r1);
                pack(s, p);
                wait_full(v_full, &v_ring);
                PTX_WGMMA_FENCE();
                PV(acc, p, TILE_COLUMNS(at + AT_V + v_ring.at * TILE));
                PTX_WGMMA_COMMIT();
                PTX_WGMMA_WAIT(0);
                hold(acc, HEAD_DIM / 2);
                release(v_empty, &v_ring);
            }
        } else {
            wait_full(k_full, &k_ring);
            PTX_WGMMA_FENCE();
            QK(s, tile_q, PTX_TILE_ROWS(at + AT_K + k_ring.at * TILE));
            PTX_WGMMA_COMMIT();
            PTX_WGMMA_WAIT(0);
            hold(s, KEYS / 2);
            release(k_empty, &k_ring);
            mask(s, until0 - j * KEYS, until1 - j * KEYS);
            soften(s, &f, c);
            pack(s, p);
            for (j--; j >= whole; j--) STEP(1)
            for (; j >= 0; j--) STEP(0)
            wait_full(v_full, &v_ring);
            PTX_WGMMA_FENCE();
            PV(acc, p, TILE_COLUMNS(at + AT_V + v_ring.at * TILE));
            PTX_WGMMA_COMMIT();
            PTX_WGMMA_WAIT(0);
            hold(acc, HEAD_DIM / 2);
            release(v_empty, &v_ring);
        }
        release(q_empty, &q_ring);
        f.x0 = ptx_max(f.x0, ptx_butterfly(f.x0, 1));
        f.x1 = ptx_max(f.x1, ptx_butterfly(f.x1, 1));
        f.x0 = ptx_max(f.x0, ptx_butterfly(f.x0, 2));
        f.x1 = ptx_max(f.x1, ptx_butterfly(f.x1, 2));
        f.l0 += ptx_butterfly(f.l0, 1);
        f.l1 += ptx_butterfly(f.l1, 1);
        f.l0 += ptx_butterfly(f.l0, 2);
        f.l1 += ptx_butterfly(f.l1, 2);
        rescale(acc, f.l0 > 0.0f ? ptx_inverse(f.l0) : 0.0f, f.l1 > 0.0f ? ptx_inverse(f.l1) : 0.0f);
#pragma unroll
        for (uint e = 0; e < 2; e++) {
            const int t = piece.lane + mine + 8 * (int)e;
            if (t < piece.count) {
                const size_t row = (size_t)(piece.row + t / group) * heads + piece.kv * group + t % group;
                const float m = (e ? f.m1 : f.m0) * scale, l = e ? f.l1 : f.l0;
                if (first_key == 0 && row_max) row_max[row] = (e ? f.x1 : f.x0) * scale;
                if (first_key == 0 && row_lse) row_lse[row] = m + ptx_log2(l) * LN2;
                if (out_rows) {
                    const uint r = (uint)(piece.row + t / group), column = (uint)(piece.kv * group + t % group) * HEAD_DIM;
#pragma unroll
                    for (uint i = 0; i < HEAD_DIM / 8; i++)
                        *(__global uint *)(run_in((__global uchar *)out, out_rows, r, column + 8 * i) + 2 * first_key) =
                            ROUND(acc[4 * i + 2 * e], acc[4 * i + 2 * e + 1]);
                } else {
                    __global float2 *to = (__global float2 *)(out + row * HEAD_DIM + first_key);
#pragma unroll
                    for (uint i = 0; i < HEAD_DIM / 8; i++) to[i * 4] = (float2)(acc[4 * i + 2 * e], acc[4 * i + 2 * e + 1]);
                }
            }
        }
    }
}
