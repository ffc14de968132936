/*
 * gemv_wide.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode), where one work-item with wide vectors beats
 * work-groups: W is read once, for all rows. Gated too: panel.clh.
 *
 * W lies in panels of 32 of its rows, as for gemm_wide.cl: one work-item, one panel, or two, one behind the other, of which
 * STREAMS parts of k go side by side: a core that reads one place after another waits for memory most of the time. Two float16
 * sums for each row of x and part.
 *
 *          k: 0 ........ run ........ 2 run ...... 3 run ...... 4 run, the rest
 *   panel     | part 0 --> | part 1 --> | part 2 --> | part 3 --> |
 *
 * With a norm, CHUNK of each part of x at a time is normed, and lies near then.
 *
 * with: wide.clh panel.clh
 * build: -DROWS=1
 * build: -DROWS=4
 */
#ifndef STREAMS
#if defined(__x86_64__) || defined(__aarch64__)
#define STREAMS (ROWS < 4 ? 4 : 8 / ROWS) /* at most 16 sums, which registers hold */
#else
#define STREAMS 1 /* who is no processor never runs this, and llvmpipe takes minutes to unroll it */
#endif
#endif
#ifndef AHEAD
#define AHEAD 16 /* of k: 1 KiB of a part in 16 bits */
#endif
enum { CHUNK = 256 };

/* W's 32 elements of one k, times x of row r, to the sums of part `s`. */
#define ADD(s, i, x)                                                                                                  \
    {                                                                                                                 \
        __global const w_t *from = panel + (size_t)(i) * VLCI_PANEL;                                                  \
        FETCH_AHEAD(from + AHEAD * VLCI_PANEL);                                                                       \
        const float16 b0 = W_LOAD16(from, 0), b1 = W_LOAD16(from, 16);                                                \
        _Pragma("unroll") for (int r = 0; r < ROWS; r++) {                                                            \
            lo[s][r] += (x) * b0;                                                                                     \
            hi[s][r] += (x) * b1;                                                                                     \
        }                                                                                                             \
    }

/* n of x, normed. */
static inline void fetch_normed(__global const float *x, __global const float *norm, float scale, int n, float *to) {
    const int whole = n / 16 * 16;
    for (int i = 0; i < whole; i += 16) vstore16(vload16(0, x + i) * (vload16(0, norm + i) * scale), 0, to + i);
    for (int i = whole; i < n; i++) to[i] = x[i] * (norm[i] * scale);
}

/* The sums of a panel. */
static inline void multiply(__global const w_t *panel, __global const float *x, int m, int k, __global const float *norm,
                            const float *scale, float (*out)[VLCI_PANEL]) {
    __global const float *xr[ROWS];
    float16 lo[STREAMS][ROWS], hi[STREAMS][ROWS];
    float part[STREAMS][ROWS][CHUNK];
    const int run = k / STREAMS;
    for (int r = 0; r < ROWS; r++) {
        xr[r] = x + (size_t)min(r, m - 1) * (size_t)k;
        for (int s = 0; s < STREAMS; s++) lo[s][r] = hi[s][r] = 0.0f;
    }
    for (int i = 0; !norm && i < run; i++)
#pragma unroll
        for (int s = 0; s < STREAMS; s++) ADD(s, s * run + i, xr[r][s * run + i])
    for (int begin = 0; norm && begin < run; begin += CHUNK) {
        const int depth = min((int)CHUNK, run - begin);
        for (int s = 0; s < STREAMS; s++)
            for (int r = 0; r < ROWS; r++)
                fetch_normed(xr[r] + s * run + begin, norm + s * run + begin, scale[r], depth, part[s][r]);
        for (int i = 0; i < depth; i++)
#pragma unroll
            for (int s = 0; s < STREAMS; s++) ADD(s, s * run + begin + i, part[s][r][i])
    }
    for (int i = STREAMS * run; i < k; i++) ADD(0, i, norm ? xr[r][i] * (norm[i] * scale[r]) : xr[r][i])
    for (int r = 0; r < ROWS; r++) {
        for (int s = 1; s < STREAMS; s++) {
            lo[0][r] += lo[s][r];
            hi[0][r] += hi[s][r];
        }
        vstore16(lo[0][r], 0, out[r]);
        vstore16(hi[0][r], 1, out[r]);
    }
}

/* Work: one work-item for each panel, or two. */
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemv_wide(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate,
          __global const float *restrict norm, float eps, int gated) {
    const int column = (int)get_group_id(0) * VLCI_PANEL;
    float sums[2][ROWS][VLCI_PANEL], scale[ROWS];
    x += x_offset;
    scales_of(x, m, k, norm, eps, scale);
#pragma unroll 1
    for (int i = 0; i <= gated; i++)
        multiply(w + VLCI_PANEL_AT(column + i * (n / 2), 0, k), x, m, k, norm, scale, sums[i]);
    put_panels(sums, column, y + y_offset, bias, m, n, act, accumulate, gated);
}
