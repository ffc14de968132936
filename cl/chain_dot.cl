/*
 * chain_dot.cl - what stands between the attention of one layer and that of the next, for one row (decode), in one launch on a
 * processor: products of pairs of bf16 (dot.clh), with sums in f32.
 *
 *   stage 0   x += out(attended)                       columns of 16: a piece of work each
 *         1   gated = act(gate(RMS(x))) * up(RMS(x))
 *         2   x += down(gated)
 *         3   y = qkv(RMS(x))                          of the next layer
 *         4   q is rotated, k and v go into its cache  a piece a head; with ROPE
 *
 * A work-item for each processor, and no order in which they must run: each has a stretch of a stage's pieces, one behind the
 * other in memory, and takes of the others' when its own are done. A piece is claimed by counting in `counters`; who has
 * claimed one waits until all of the stage before are done, and asks for its own weights meanwhile. Since all that is claimed
 * is claimed by work-items that run, and these wait for earlier stages alone, any number of them comes to an end, one by one
 * too. The one that is done last leaves the counters at zero.
 *
 * W lies in rows; gate_up of up to two parts, qkv of up to three (w_row_of). hidden, inner and n_qkv are multiples of 16, no k is
 * more than DEPTH.
 *
 * with: rope.clh wide.clh dot.clh dot_rows.clh
 * x86: vdpbf16ps -DW_DTYPE=3 -DKV_DTYPE=3 -DDEPTH=16384 -DROPE=1 -DDOT=1
 * build: -DW_DTYPE=3 -DKV_DTYPE=3 -DROPE=1
 * build: -DW_DTYPE=3
 */
#ifndef ROPE
#define ROPE 0
#endif
enum { OUT, GATE_UP, DOWN, QKV, APPEND, STAGES, LINE = VLCI_CHAIN_DOT_LINE, MOST_AHEAD = 65536 /* elements */ };

/* What one work-item writes, others read behind this. */
#if DOT
#define FENCE() __asm__ volatile("mfence" ::: "memory")
#define PAUSE() __asm__ volatile("pause" ::: "memory")
#else
#define FENCE() mem_fence(CLK_GLOBAL_MEM_FENCE)
#define PAUSE()
#endif

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
    for (int i = 0; *done < (uint)pieces;) {
        if (i < n) {
            for (int j = 0; j < 256; j += 32) FETCH_SECOND(from + i + j);
            i += 256;
        } else
            PAUSE();
    }
    FENCE();
}

/* 16 columns of a product, of rows of W from `from` on. */
static inline float16 columns(const x_t *x, __global const ushort *from, int k) {
    float16 sum[1][16];
    multiply(x, from, (size_t)k, 15, k, sum);
    FOLD(sum[0])
    return sum[0][0];
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
chain_dot(__global const ushort *restrict out, __global const ushort *restrict gate, __global const ushort *restrict up,
          int until, __global const ushort *restrict down, __global const ushort *restrict w0,
          __global const ushort *restrict w1, __global const ushort *restrict w2, int n0, int n1,
          __global const float *restrict out_bias, __global const float *restrict down_bias,
          __global const float *restrict qkv_bias, __global const float *restrict norm, __global const float *restrict next,
          __global const float *attended, __global float *x, uint x_offset, __global float *gated, __global float *y,
          __global uint *counters, int hidden, int width, int inner, int n_qkv, float eps, int act, int stages
#if ROPE
          , ROPE_PARAMS
#endif
) {
    const work_t work = {counters, (int)get_group_id(0), (int)get_num_groups(0)};
    x_t chunk;
    int before = 0; /* pieces of the stage before */
    x += x_offset;
#pragma unroll 1
    for (int s = 0; s < stages; s++) {
        const int depth = s == OUT ? width : s == DOWN ? inner : hidden;
        int pieces = (s == GATE_UP ? inner : s == QKV ? n_qkv : hidden) / 16, turn = 0, own = 0;
#if ROPE
        if (s == APPEND) pieces = heads + 2 * kv_heads;
#endif
        for (int i; (i = claim(&work, s, pieces, &turn)) >= 0; own++) {
            const int c = i * 16;
            __global const ushort *from = s == OUT ? out + (size_t)c * depth
                                          : s == GATE_UP ? w_row_of(gate, up, up, until, 2 * inner, c, depth)
                                          : s == DOWN    ? down + (size_t)c * depth
                                                         : w_row_of(w0, w1, w2, n0, n1, s == QKV ? c : 0, depth);
            if (!own) {
                if (s) await(&work, s - 1, before, from, s == APPEND ? 0 : min((int)MOST_AHEAD, 16 * depth));
                if (s != APPEND) {
                    __global const float *row = s == OUT ? attended : s == DOWN ? gated : x;
                    __global const float *weight = s == GATE_UP ? norm : s == QKV ? next : 0;
                    fetch(row, weight, weight ? scale_of(row, depth, eps) : 1.0f, depth, chunk.run[0]);
                }
            }
            if (s == GATE_UP) {
                const float16 a = columns(&chunk, from, depth);
                const float16 b = columns(&chunk, w_row_of(gate, up, up, until, 2 * inner, inner + c, depth), depth);
                vstore16(activate16(a, act) * b, 0, gated + c);
            }
#if ROPE
            else if (s == APPEND) {
                const int half_dim = n_qkv / pieces / 2;
                __global const float *at = y + (size_t)i * half_dim * 2;
                for (int d = 0; d < half_dim; d++) rope_put(at[d], at[d + half_dim], y, d, i, 0, half_dim, ROPE_PASS);
            }
#endif
            else {
                __global const float *added = s == OUT ? out_bias : s == DOWN ? down_bias : qkv_bias;
                store16(columns(&chunk, from, depth), (s == QKV ? y : x) + c, added ? added + c : added, 16, VLCI_ACT_NONE,
                        s != QKV);
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
