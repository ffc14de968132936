/*
 * gemm_large.cl - y = act(x W^T + bias) (+ y) by large tiles in registers, for GPUs of any vendor.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n;  W row-major [n][k]
 *
 * A work-group of 128 computes 128 x 128 outputs, a work-item 8 rows x 16 columns of them as vectors of 4 columns. 16 k of both
 * operands at a time lie in local memory, k-major, in one of two buffers, while the next 16 are on their way in registers:
 *
 *       W: 128 columns                neighbours load what lies side by side: 4 the 16 k of a row of x, 2 of W;
 *     +-----------------+             each owns rows 4 ty .. + 3 and 64 + 4 ty .. + 3, columns 4 tx .. + 3, and + 32, 64, 96.
 *   x | 8 x 16          |             tx, ty: 32 neighbours are 8 x 4, so that they read few different vectors
 *     +-----------------+
 *
 * Tiles go in bands of BAND tiles of rows down all of W, so that what runs at once shares both in the cache.
 * ACTS 0 leaves out the activations, which few products have.
 *
 * build: -DACTS=0 -DALIGNED=1
 * build: -DACTS=1 -DALIGNED=0
 */
#ifndef ACTS
#define ACTS 1
#endif
#ifndef ALIGNED
#define ALIGNED 0 /* 1: k is a multiple of 8, x_offset of 4 */
#endif
enum { BAND = 8, SIDE = VLCI_GEMM_LARGE, DEPTH = 16, PITCH = SIDE + 4 };

/* 8 numbers of a row of W as they lie: what is on its way is not touched before it is needed. */
#if ALIGNED && W_DTYPE != VLCI_DTYPE_F32
typedef uint4 w_run_t;
static inline float8 w_wide(w_run_t u) {
#if W_DTYPE == VLCI_DTYPE_F16
    return vload_half8(0, (const half *)&u);
#else
    return bf16_run(u);
#endif
}
#else
typedef float8 w_run_t;
static inline float8 w_wide(w_run_t v) { return v; }
#endif

/* 4 numbers of a row of x, 8 of W, from k number i on; zeros where the row, or its k, is not there. */
static inline float4 x_run(__global const float *row, int i, int k, bool there) {
#if ALIGNED
    if (!there || i >= k) return (float4)(0.0f);
    return *(__global const float4 *)(row + i);
#else
    float v[4];
    for (int j = 0; j < 4; j++) v[j] = there && i + j < k ? row[i + j] : 0.0f;
    return vload4(0, v);
#endif
}
static inline w_run_t w_run(__global const w_t *row, int i, int k, bool there) {
#if ALIGNED && W_DTYPE != VLCI_DTYPE_F32
    if (!there || i >= k) return (uint4)(0);
    return *(__global const uint4 *)(row + i);
#elif ALIGNED
    if (!there || i >= k) return (float8)(0.0f);
    return W_RUN(row + i);
#else
    float v[8];
    for (int j = 0; j < 8; j++) v[j] = there && i + j < k ? W_LOAD(row, i + j) : 0.0f;
    return vload8(0, v);
#endif
}

/* 4 or 8 numbers down a column of a buffer. */
WITH_LOCAL void spread4(__local float *at, float4 v) {
    at[0] = v.x;
    at[PITCH] = v.y;
    at[2 * PITCH] = v.z;
    at[3 * PITCH] = v.w;
}
WITH_LOCAL void spread8(__local float *at, float8 v) {
    at[0] = v.s0;
    at[PITCH] = v.s1;
    at[2 * PITCH] = v.s2;
    at[3 * PITCH] = v.s3;
    at[4 * PITCH] = v.s4;
    at[5 * PITCH] = v.s5;
    at[6 * PITCH] = v.s6;
    at[7 * PITCH] = v.s7;
}

__attribute__((reqd_work_group_size(VLCI_GEMM_LARGE, 1, 1))) __kernel void
gemm_large(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
           uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    __local float xs[2][DEPTH * PITCH] __attribute__((aligned(16))), ws[2][DEPTH * PITCH] __attribute__((aligned(16)));
    const int t = get_local_id(0), tx = t & 7, ty = t >> 3;
    const int row_tiles = (m + SIDE - 1) / SIDE, column_tiles = (n + SIDE - 1) / SIDE, id = get_group_id(0);
    const int per = BAND * column_tiles, band = id / per, in = id - band * per, in_band = min((int)BAND, row_tiles - band * BAND);
    const int row = (band * BAND + in % in_band) * SIDE, column = in / in_band * SIDE;
    /* what it loads: 4 k of rows xr + 32 i of x, 8 k of rows wr + 64 i of W */
    const int xr = t >> 2, xk = (t & 3) * 4, wr = t >> 1, wk = (t & 1) * 8;
    __global const float *x_row[4];
    __global const w_t *w_row[2];
#pragma unroll
    for (int i = 0; i < 4; i++) x_row[i] = x + x_offset + (size_t)min(row + xr + 32 * i, m - 1) * (size_t)k + xk;
#pragma unroll
    for (int i = 0; i < 2; i++) w_row[i] = w + (size_t)min(column + wr + 64 * i, n - 1) * (size_t)k + wk;
    float4 xv[4];
    w_run_t wv[2];
#define FETCH(base)                                                                                                  \
    {                                                                                                                \
        _Pragma("unroll") for (int i = 0; i < 4; i++) xv[i] =                                                        \
            x_run(x_row[i] + (base), 0, k - xk - (base), row + xr + 32 * i < m);                                     \
        _Pragma("unroll") for (int i = 0; i < 2; i++) wv[i] =                                                        \
            w_run(w_row[i] + (base), 0, k - wk - (base), column + wr + 64 * i < n);                                  \
    }
    float4 sum[8][4];
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = (float4)(0.0f);
    FETCH(0)
    int now = 0;
    for (int base = 0; base < k; base += DEPTH) {
#pragma unroll
        for (int i = 0; i < 4; i++) spread4(xs[now] + xk * PITCH + xr + 32 * i, xv[i]);
#pragma unroll
        for (int i = 0; i < 2; i++) spread8(ws[now] + wk * PITCH + wr + 64 * i, w_wide(wv[i]));
        barrier(CLK_LOCAL_MEM_FENCE);
        if (base + DEPTH < k) FETCH(base + DEPTH)
        __local const float *xp = xs[now] + 4 * ty, *wp = ws[now] + 4 * tx;
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const float4 a0 = *(__local const float4 *)(xp + d * PITCH), a1 = *(__local const float4 *)(xp + d * PITCH + 64);
            const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float4 b = *(__local const float4 *)(wp + d * PITCH + 32 * j);
#pragma unroll
                for (int i = 0; i < 8; i++) sum[i][j] = mad((float4)(a[i]), b, sum[i][j]);
            }
        }
        now ^= 1; /* the other buffer was read before the barrier that lies behind */
    }
    y += y_offset;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int r = row + 4 * ty + (i & 3) + (i >> 2) * 64;
        if (r >= m) continue;
        __global float *to = y + (size_t)r * (size_t)n;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int c = column + 4 * tx + 32 * j;
            const float v[4] = {sum[i][j].x, sum[i][j].y, sum[i][j].z, sum[i][j].w};
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (c + e < n) put(v[e], to, bias, c + e, ACTS ? act : VLCI_ACT_NONE, accumulate);
        }
    }
}
