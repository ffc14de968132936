/*
 * chain_dot.cl - from the queries of one layer to those of the next, for one row (decode), in one launch on a processor:
 * products of pairs of bf16 (dot.clh), with sums in f32.
 *
 *   ATTEND    attended = softmax(scale q k^T) v        q of y; a piece of work for each kv head
 *   OUT       x += out(attended)                       a piece for COLUMNS columns
 *   GATE_UP   gated = act(gate(RMS(x))) * up(RMS(x))
 *   DOWN      x += down(gated)
 *   QKV       y = qkv(RMS(x))                          of the next layer
 *   APPEND    q is rotated, k and v go into its cache  a piece for each head
 *
 * A launch does those from `stage` up to `stages`; `layer` is the next one's.
 *
 * A work-item for each processor, and no order in which they must run: each has a stretch of a stage's pieces, one behind the
 * other in memory, and takes of the others' when its own are done. A piece is claimed by counting in `counters`; who has
 * claimed one waits until all of the stage before are done, and asks for its own weights meanwhile. Since all that is claimed
 * is claimed by work-items that run, and these wait for earlier stages alone, any number of them comes to an end, one by one
 * too. The one that is done last leaves the counters at zero.
 *
 * W lies in rows, gate_up of up to two parts, qkv of up to three (w_row_of), or in pairs (LAYOUT). hidden, inner and n_qkv are
 * multiples of COLUMNS, no k is more than DEPTH.
 *
 * with: rope.clh wide.clh dot.clh dot_rows.clh
 * x86: vdpbf16ps -DW_DTYPE=3 -DKV_DTYPE=3 -DDEPTH=16384 -DHEAD_DIM=64 -DGROUP_HEADS=2 -DDOT=1
 * build: -DW_DTYPE=3 -DKV_DTYPE=3 -DHEAD_DIM=64 -DGROUP_HEADS=2
 * build: -DW_DTYPE=3 -DKV_DTYPE=2 -DLAYOUT=3
 */
#ifndef HEAD_DIM
#define HEAD_DIM 0 /* a multiple of 32, of a cache in bf16; 0: without ATTEND */
#endif
#ifndef GROUP_HEADS
#define GROUP_HEADS 1 /* query heads that share a kv head */
#endif
enum {
    LINE = VLCI_CHAIN_DOT_LINE,
    MOST_AHEAD = 65536, /* elements */
    PATIENCE = 400      /* rounds: some 10 us */
};
enum { ATTEND, OUT, GATE_UP, DOWN, QKV, APPEND, STAGES };

/* What one work-item writes, others read behind this. */
#if DOT
#define FENCE() __asm__ volatile("mfence" ::: "memory")
#define PAUSE() __asm__ volatile("pause" ::: "memory")
#else
#define FENCE() mem_fence(CLK_GLOBAL_MEM_FENCE)
#define PAUSE()
#endif

/* Gives the processor to others, which may be what is waited for: where a machine has other work, a work-item that has claimed a
 * piece does not always run. Linux's nanosleep() of 1 us, which takes some 50. */
static inline void nap(void) {
#if DOT && defined(__linux__)
    const long time[2] = {0, 1000};
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(35L), "D"((size_t)time), "S"(0L) : "rcx", "r11", "memory");
#endif
}

typedef struct {
    __global volatile uint *counters; /* LINE apart: for each stage those of each work-item, then of what is done; at last one */
    int me, items;
} work_t;

static inline __global volatile uint *counter(const work_t *w, int stage, int item) {
    return w->counters + (stage * (w->items + 1) + item) * LINE;
}

/* Another piece of a stage, or -1: of the stretch of item `turn` further, or those behind it. */
static inline int claim(const work_t *w, int stage, int pieces, int *turn) {
    for (; *turn < w->items; ++*turn) {
        const int owner = (w->me + *turn) % w->items;
        const int first = (int)((long)owner * pieces / w->items), behind = (int)((long)(owner + 1) * pieces / w->items);
        const int i = first + (int)atomic_inc(counter(w, stage, owner));
        if (i < behind) return i;
    }
    return -1;
}

/* Until all pieces of a stage are done; asks for n elements from w on meanwhile. */
static inline void await(const work_t *w, int stage, int pieces, __global const ushort *from, int n) {
    __global volatile uint *done = counter(w, stage, w->items);
    for (int i = 0, rounds = 0; *done < (uint)pieces;) {
        if (i < n) {
            for (int j = 0; j < 256; j += 32) FETCH_SECOND(from + i + j);
            i += 256;
        } else if (rounds++ < PATIENCE)
            PAUSE();
        else
            nap();
    }
    FENCE();
}

#if HEAD_DIM
/* ---- attention ------------------------------------------------------------------------------------------- */

enum { PAGE = VLCI_KV_PAGE, WORDS = HEAD_DIM / 32, VECTORS = HEAD_DIM / 16 };

/* A query as the sum of two of bf16. */
typedef union {
    ushort at[2][HEAD_DIM];
    uint16 run[2][WORDS];
} query_t;

typedef union {
    float16 all[VECTORS];
    float at[HEAD_DIM];
} values_t;

typedef union {
    float16 all;
    float key[PAGE];
} keys_t;

static inline void query_load(__global const float *q, float scale, query_t *to) {
    for (int d = 0; d < HEAD_DIM; d += 16) {
        const float16 v = vload16(0, q + d) * scale;
        const ushort16 high = f32_to_bf16_16(v);
        vstore16(high, 0, to->at[0] + d);
        vstore16(f32_to_bf16_16(v - as_float16(convert_uint16(high) << 16)), 0, to->at[1] + d);
    }
}

/* Logits of the keys of a page; the n-th is repeated. Those of the next are asked for meanwhile. */
WITH_DOT float16 page_logits(const query_t *q, __global const ushort *k, __global const ushort *next, size_t stride, int n) {
    float16 sum[PAGE];
#pragma unroll
    for (int i = 0; i < PAGE; i++) {
        __global const ushort *row = k + (size_t)min(i, n - 1) * stride;
        sum[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < WORDS; c++) {
            const uint16 a = words_at(row + 32 * c);
            FETCH_AHEAD(next + (size_t)i * stride + 32 * c);
            DOT_ADD(sum[i], a, q->run[0][c]);
            DOT_ADD(sum[i], a, q->run[1][c]);
        }
    }
    FOLD(sum)
    return sum[0];
}

/* acc = acc keep + sum p v, n keys further. */
static inline void add_page(const keys_t *p, const float *keep, __global const ushort *v, __global const ushort *next,
                            size_t stride, int n, values_t *acc) {
    for (int c = 0; c < VECTORS; c++) {
        float16 sum[GROUP_HEADS];
#pragma unroll
        for (int t = 0; t < GROUP_HEADS; t++) sum[t] = acc[t].all[c] * keep[t];
        for (int i = 0; i < n; i++) {
            if (c % 2 == 0) FETCH_AHEAD(next + (size_t)i * stride + 16 * c);
            const float16 row = as_float16(convert_uint16(vload16(0, v + (size_t)i * stride + 16 * c)) << 16);
#pragma unroll
            for (int t = 0; t < GROUP_HEADS; t++) sum[t] += p[t].key[i] * row;
        }
#pragma unroll
        for (int t = 0; t < GROUP_HEADS; t++) acc[t].all[c] = sum[t];
    }
}

/* Queries q of one kv head over `visible` rows. */
static inline void attend(const kv_view *h, int visible, __global const float *q, float scale, __global float *to) {
    const int16 nth = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    query_t query[GROUP_HEADS];
    values_t acc[GROUP_HEADS];
    keys_t p[GROUP_HEADS];
    float16 l[GROUP_HEADS];
    float m[GROUP_HEADS], keep[GROUP_HEADS];
    for (int t = 0; t < GROUP_HEADS; t++) {
        query_load(q + t * HEAD_DIM, scale, &query[t]);
        for (int c = 0; c < VECTORS; c++) acc[t].all[c] = 0.0f;
        l[t] = 0.0f;
        m[t] = -INFINITY;
    }
    for (int j = 0; j < visible; j += PAGE) {
        const int n = min((int)PAGE, visible - j);
        const size_t at = kv_at(h, j), next = kv_at(h, min(j + PAGE, visible - 1) / PAGE * PAGE);
        for (int t = 0; t < GROUP_HEADS; t++) {
            float16 s = page_logits(&query[t], h->k + at, h->k + next, h->row_stride, n);
            if (h->bias)
                for (int i = 0; i < n; i++) p[t].key[i] = kv_bias(h, j + i);
            if (h->bias) s += p[t].all;
            s = select(s, (float16)(-INFINITY), nth >= n);
            const float8 half_top = fmax(s.lo, HIGH8(float8, s));
            const float4 few = fmax(half_top.lo, half_top.hi);
            const float top = fmax(m[t], fmax(fmax(few.x, few.y), fmax(few.z, few.w)));
            const float16 kept = exp_below((float16)(m[t] - top));
            p[t].all = exp_below(s - top);
            l[t] = l[t] * kept + p[t].all;
            keep[t] = kept.s0;
            m[t] = top;
        }
        add_page(p, keep, h->v + at, h->v + next, h->row_stride, n, acc);
    }
    for (int t = 0; t < GROUP_HEADS; t++) {
        const float share = 1.0f / sum8(l[t].lo + HIGH8(float8, l[t]));
        for (int c = 0; c < VECTORS; c++) vstore16(acc[t].all[c] * share, 0, to + t * HEAD_DIM + 16 * c);
    }
}
#endif

/* ---- all of it --------------------------------------------------------------------------------------------- */

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
chain_dot(__global float *attended, __global const ushort *restrict out, __global const float *restrict out_bias, int width,
          __global const float *restrict norm, __global const ushort *restrict gate, __global const ushort *restrict up,
          int until, __global float *gated, __global const ushort *restrict down, __global const float *restrict down_bias,
          int inner, __global const float *restrict next, __global const ushort *restrict w0,
          __global const ushort *restrict w1, __global const ushort *restrict w2, int n0, int n1,
          __global const float *restrict qkv_bias, int n_qkv, __global float *x, uint x_offset, __global float *y, int hidden,
          float eps, int act, float scale, __global uint *counters, int stage, int stages,
          ROPE_PARAMS) {
    const work_t work = {counters, (int)get_group_id(0), (int)get_num_groups(0)};
    x_t chunk;
    int before = 0; /* pieces of the stage before */
    x += x_offset;
#pragma unroll 1
    for (int s = stage; s < stages; s++) {
        const int depth = s == OUT ? width : s == DOWN ? inner : hidden;
        int pieces = (s == GATE_UP ? inner : s == QKV ? n_qkv : hidden) / COLUMNS, turn = 0, own = 0;
        if (s == ATTEND) pieces = kv_heads;
        if (s == APPEND) pieces = heads + 2 * kv_heads;
        for (int i; (i = claim(&work, s, pieces, &turn)) >= 0; own++) {
            const int c = i * COLUMNS, alone = s == ATTEND || s == APPEND; /* no weights */
            __global const ushort *from = s == OUT ? out + W_AT(c, 0, depth)
                                          : s == GATE_UP ? W_FROM(gate, up, up, until, 2 * inner, c, depth)
                                          : s == DOWN    ? down + W_AT(c, 0, depth)
                                                         : W_FROM(w0, w1, w2, n0, n1, s == QKV ? c : 0, depth);
            float16 sum[1][SUMS], above[1][SUMS];
            if (!own) {
                if (s > stage) await(&work, s - 1, before, from, alone ? 0 : min((int)MOST_AHEAD, COLUMNS * depth));
                if (!alone) {
                    __global const float *row = s == OUT ? attended : s == DOWN ? gated : x;
                    __global const float *weight = s == GATE_UP ? norm : s == QKV ? next : 0;
                    fetch(row, weight, weight ? scale_of(row, depth, eps) : 1.0f, depth, chunk.run[0]);
                }
            }
            if (!alone) products(&chunk, from, 0, depth, COLUMNS - 1, depth, sum);
            if (s == GATE_UP) {
                from = W_FROM(gate, up, up, until, 2 * inner, inner + c, depth);
                products(&chunk, from, 0, depth, COLUMNS - 1, depth, above);
                for (int j = 0; j < SUMS; j++) vstore16(activate16(sum[0][j], act) * above[0][j], j, gated + c);
            }
#if HEAD_DIM
            else if (s == ATTEND) {
                const kv_view h = kv_find(k, v, bias, heads_of, slots, table, layer - 1, layers, ahead, k_offset, v_offset,
                                          seq_stride, head_stride, row_stride, 0, i, kv_heads);
                const size_t first = (size_t)i * GROUP_HEADS * HEAD_DIM;
                attend(&h, h.rows + 1, y + first, scale, attended + first);
            }
#endif
            else if (s == APPEND) {
                const int half_dim = n_qkv / pieces / 2;
                __global const float *at = y + (size_t)i * half_dim * 2;
                for (int d = 0; d < half_dim; d++) rope_put(at[d], at[d + half_dim], y, d, i, 0, half_dim, ROPE_PASS);
            } else {
                __global const float *added = s == OUT ? out_bias : s == DOWN ? down_bias : qkv_bias;
                for (int j = c; j < c + COLUMNS; j += 16)
                    store16(sum[0][(j - c) / 16], (s == QKV ? y : x) + j, added ? added + j : added, 16, VLCI_ACT_NONE, s != QKV);
            }
        }
        FENCE();
        if (own) atomic_add(counter(&work, s, work.items), (uint)own);
        before = pieces;
    }
    FENCE();
    if (atomic_inc(counter(&work, STAGES, 0)) + 1 < (uint)work.items) return;
    for (int s = 0; s < STAGES; s++)
        for (int i = 0; i <= work.items; i++) *counter(&work, s, i) = 0;
    *counter(&work, STAGES, 0) = 0;
}
