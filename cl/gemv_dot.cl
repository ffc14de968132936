/*
 * gemv_dot.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode) by products of pairs of bf16 (dot.clh), with sums
 * in f32; x is rounded to bf16. W lies in rows, of up to three parts (w_row_of).
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *   GATED: y[r][c] = act(gate[r][c]) * up[r][c]         c < n / 2, W = [gate | up], n / 2 a multiple of 16
 *   with `norm`, x is RMSNorm(x): x[k] norm[k] / sqrt(mean_k x[k]^2 + eps)
 *
 * A work-item has `each` columns of y. It reads 16 rows of W in ABREAST stretches of memory side by side; what comes next in
 * them is asked for into the second cache. A row of each stretch meets GROUP rows of x at a time: a vector of 16 parts of a
 * sum for each of both; of more rows of x, other passes over the same rows of W take the others. Then the vectors of the 16
 * rows are folded to one. Of longer rows than CHUNK, whose x the first cache holds, it reads a piece of each row, then
 * the next.
 *
 *   W row c          stretch 0 --> k        row c + EACH       stretch 1 --> k      ...
 *     row c + 1      then this one          row c + EACH + 1   then this one
 *
 * Rows of x beyond m repeat the last one and are not stored.
 *
 * with: wide.clh dot.clh
 * x86: vdpbf16ps -DW_DTYPE=3 -DROWS=8 -DDOT=1
 * build: -DW_DTYPE=3 -DROWS=1 -DGATED=1
 * build: -DW_DTYPE=3 -DROWS=8
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef GATED
#define GATED 0
#endif
#define MOST VLCI_GEMV_DOT_MOST
#ifndef AHEAD
#define AHEAD 512 /* elements of a stretch: 1 KiB */
#endif
enum {
    CHUNK = 8192 / ROWS,
    HALVES = GATED + 1, /* of W: gate and up */
    ABREAST = ROWS < 4 ? 8 : 4, /* stretches */
    EACH = 16 / ABREAST,        /* rows of one of them at a time */
    GROUP = ROWS < 4 ? ROWS : 4, /* rows of x at a time: at most 16 sums, which registers hold */
    PASSES = ROWS / GROUP
};

/* CHUNK of k of all rows of x, rounded, in words of two. */
typedef union {
    uint16 run[ROWS][CHUNK / 32];
} x_t;

/* n of k, from `from` on, times scale and, where there is one, norm; zeros up to a whole run. */
WITH_DOT void fetch(__global const float *from, __global const float *norm, float scale, int n, uint16 *to) {
    for (int i = 0; i < n; i += 32) {
        float16 low, high;
        if (i + 32 <= n) {
            low = vload16(0, from + i), high = vload16(1, from + i);
            if (norm) low *= vload16(0, norm + i) * scale, high *= vload16(1, norm + i) * scale;
        } else {
            float rest[32];
            for (int j = 0; j < 32; j++) rest[j] = i + j < n ? norm ? from[i + j] * (norm[i + j] * scale) : from[i + j] : 0.0f;
            low = vload16(0, rest), high = vload16(1, rest);
        }
        DOT_PACK(low, high, to + i / 32)
    }
}

/* 1 / sqrt(mean x^2 + eps). */
static inline float scale_of(__global const float *x, int k, float eps) {
    float16 squares = 0.0f;
    float lanes[16], all = 0.0f;
    const int whole = k / 16 * 16;
    for (int i = 0; i < whole; i += 16) {
        const float16 v = vload16(0, x + i);
        squares += v * v;
    }
    vstore16(squares, 0, lanes);
    for (int i = 0; i < 16; i++) all += lanes[i];
    for (int i = whole; i < k; i++) all += x[i] * x[i];
    return 1.0f / sqrt(all / (float)k + eps);
}

/* Lane i of the result is all that comes to vector i of 16. */
#define FOLD(v)                                                                                                            \
    _Pragma("unroll") for (int half_n = 8; half_n; half_n /= 2) _Pragma("unroll") for (int q = 0; q < half_n; q++)         \
        v[q] = INTERLEAVE_LOW(float16, v[q], v[q + half_n]) + INTERLEAVE_HIGH(float16, v[q], v[q + half_n]);

/* 16 words, aligned as their halves are. One by one where they are not the processor's own: Oclgrind 21.10 dies of the other. */
static inline uint16 words_at(__global const ushort *p) {
#if DOT
    return (uint16)(as_uint8(vload16(0, p)), as_uint8(vload16(1, p)));
#else
    uint word[16];
    for (int i = 0; i < 16; i++) word[i] = p[2 * i] | (uint)p[2 * i + 1] << 16;
    return vload16(0, word);
#endif
}

/* sum[r][c] = what n of k add up to, for rows c of 16 of W, which are k apart; rows beyond `last` repeat it. */
WITH_DOT void multiply(const x_t *x, __global const ushort *from, size_t k, int last, int n, float16 (*sum)[16]) {
    const int whole = n / 32;
    for (int j = 0; j < EACH; j++) {
        __global const ushort *row[ABREAST];
        const size_t next = j + 1 < EACH ? k : (16 - EACH + 1) * k; /* the row that this stretch has then, or the next 16 */
#pragma unroll
        for (int s = 0; s < ABREAST; s++) row[s] = from + (size_t)min(s * EACH + j, last) * k;
#pragma unroll 1
        for (int g = 0; g < ROWS; g += GROUP) {
            float16 acc[ABREAST][GROUP];
#pragma unroll
            for (int s = 0; s < ABREAST; s++)
#pragma unroll
                for (int r = 0; r < GROUP; r++) acc[s][r] = 0.0f;
            for (int i = 0; i < whole; i++) {
                const size_t ahead = PASSES > 1              ? next + (g / GROUP * whole + i) / PASSES * 32
                                     : (i * 32 + AHEAD < n) ? (size_t)(i * 32 + AHEAD)
                                                            : next + (i * 32 + AHEAD - n);
                uint16 part[GROUP];
#pragma unroll
                for (int r = 0; r < GROUP; r++) part[r] = x->run[g + r][i];
#pragma unroll
                for (int s = 0; s < ABREAST; s++) {
                    FETCH_SECOND(row[s] + ahead);
                    const uint16 a = words_at(row[s] + 32 * i);
#pragma unroll
                    for (int r = 0; r < GROUP; r++) DOT_ADD(acc[s][r], a, part[r]);
                }
            }
            if (whole * 32 < n)
                for (int s = 0; s < ABREAST; s++) {
                    uint word[16]; /* the last, with zeros behind them */
                    for (int i = 0; i < 16; i++) {
                        const int at = whole * 32 + 2 * i;
                        word[i] = (at < n ? (uint)row[s][at] : 0u) | (at + 1 < n ? (uint)row[s][at + 1] << 16 : 0u);
                    }
                    const uint16 a = vload16(0, word);
                    for (int r = 0; r < GROUP; r++) DOT_ADD(acc[s][r], a, x->run[g + r][whole]);
                }
#pragma unroll
            for (int s = 0; s < ABREAST; s++)
#pragma unroll
                for (int r = 0; r < GROUP; r++) sum[g + r][s * EACH + j] = acc[s][r];
        }
    }
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_dot(__global const ushort *restrict w, __global const ushort *restrict w1, __global const ushort *restrict w2, int n0,
         int n1, __global const float *restrict bias, __global const float *restrict x, uint x_offset,
         __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate,
         __global const float *restrict norm, float eps, int each) {
    const int columns = GATED ? n / 2 : n, first = (int)get_group_id(0) * each, own = min(each, columns - first);
    x_t chunk;
    float out[ROWS][HALVES][MOST], scale[ROWS];
    x += x_offset;
    y += y_offset;
    for (int r = 0; r < ROWS; r++) {
        scale[r] = norm ? scale_of(x + (size_t)min(r, m - 1) * (size_t)k, k, eps) : 1.0f;
        for (int c = 0; c < HALVES * MOST; c += 16) vstore16((float16)(0.0f), 0, &out[r][0][c]);
    }
    for (int i = 0; i < k; i += CHUNK) {
        const int depth = min((int)CHUNK, k - i);
        for (int r = 0; r < ROWS; r++)
            fetch(x + (size_t)min(r, m - 1) * (size_t)k + i, norm ? norm + i : norm, scale[r], depth, chunk.run[r]);
        for (int h = 0; h < HALVES; h++)
            for (int c = 0; c < own; c += 16) {
                float16 sum[ROWS][16];
                multiply(&chunk, w_row_of(w, w1, w2, n0, n1, h * columns + first + c, k) + i, (size_t)k, columns - 1 - first - c,
                         depth, sum);
                for (int r = 0; r < ROWS; r++) {
                    FOLD(sum[r])
                    vstore16(vload16(0, &out[r][h][c]) + sum[r][0], 0, &out[r][h][c]);
                }
            }
    }
#pragma unroll 1 /* one copy of what the activations take */
    for (int i = 0; i < min((int)ROWS, m) * MOST / 16; i++) {
        const int r = i / (MOST / 16), c = i % (MOST / 16) * 16;
        if (c >= own) continue;
        __global float *to = y + (size_t)r * (size_t)columns + first + c;
#if GATED
        vstore16(activate16(vload16(0, &out[r][0][c]), act) * vload16(0, &out[r][HALVES - 1][c]), 0, to);
#else
        store16(vload16(0, &out[r][0][c]), to, bias ? bias + first + c : bias, own - c, act, accumulate);
#endif
    }
}
