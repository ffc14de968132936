/*
 * gemv_dot.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode) by products of pairs of bf16 (dot.clh), with sums
 * in f32; x is rounded to bf16. W lies in rows, of up to three parts (w_row_of), or in pairs, as for gemm_amx.cl (LAYOUT).
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m <= ROWS, c < n
 *   GATED: y[r][c] = act(gate[r][c]) * up[r][c]         c < n / 2, W = [gate | up], n / 2 a multiple of COLUMNS
 *   with `norm`, x is RMSNorm(x): x[k] norm[k] / sqrt(mean_k x[k]^2 + eps)
 *
 * A work-item has `each` columns of y. Of rows it reads 16 of W in ABREAST stretches of memory side by side; what comes next in
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
 * with: wide.clh dot.clh dot_rows.clh
 * x86: vdpbf16ps -DW_DTYPE=3 -DROWS=8 -DDOT=1
 * build: -DW_DTYPE=3 -DROWS=1 -DGATED=1 -DLINES=0
 * build: -DW_DTYPE=3 -DROWS=8
 * build: -DW_DTYPE=3 -DROWS=4 -DLAYOUT=3
 */
#ifndef GATED
#define GATED 0
#endif
#define MOST VLCI_GEMV_DOT_MOST
enum { HALVES = GATED + 1 /* of W: gate and up */ };

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
            for (int c = 0; c < own; c += COLUMNS) {
                float16 sum[ROWS][SUMS];
                products(&chunk, W_FROM(w, w1, w2, n0, n1, h * columns + first + c, k), i, k, columns - 1 - first - c, depth,
                         sum);
                for (int r = 0; r < ROWS; r++)
                    for (int s = 0; s < SUMS; s++)
                        vstore16(vload16(s, &out[r][h][c]) + sum[r][s], s, &out[r][h][c]);
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
