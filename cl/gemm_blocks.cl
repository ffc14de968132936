/*
 * gemm_blocks.cl - products from weights in blocks and rows in stripes for any device: what matrix units are held against.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c]) (+ y)      r < m, c < n
 *
 * OUT 0: y is f32 rows. 1: y is stripes of 16 bits. 2: gated, stripes: y[r][c] = act(gate[r][c]) * up[r][c], W = [gate | up].
 * to_stripes: f32 rows -> stripes, with zeros up to whole stripes.
 *
 * Work: gemm_blocks: (c, r), c up to whole blocks where y is stripes; to_stripes: (run of 8, r).
 *
 * build: -DOUT=0 -DACT=0
 * build: -DOUT=1 -DACT=4
 * build: -DOUT=2 -DACT=1
 */
#ifndef OUT
#define OUT 0
#endif
#ifndef ACT
#define ACT VLCI_ACT_NONE
#endif

static inline float dot_of(__global const w_t *w, __global const w_t *x, uint c, uint r, uint k, size_t x_rows) {
    float sum = 0.0f;
    for (uint i = 0; i < k; i++)
        sum = fma(W_LOAD(x, VLCI_STRIPE_AT(r, i, x_rows)), W_LOAD(w, VLCI_BLOCK_AT(c, i, k)), sum);
    return sum;
}

__kernel void gemm_blocks(__global const w_t *restrict w, __global const float *restrict bias,
                          __global const w_t *restrict x, __global uchar *restrict y, uint y_offset, uint m, uint n,
                          uint k, uint accumulate) {
    const uint c = get_global_id(0), r = get_global_id(1), columns = OUT == 2 ? n / 2 : n;
    if (r >= m || c >= (OUT ? (columns + 63) / 64 * 64 : columns)) return;
    const size_t rows = VLCI_STRIPE_ROWS(m);
    float v = 0.0f;
    if (c < columns) {
        v = dot_of(w, x, c, r, k, rows);
        if (OUT < 2 && bias) v += bias[c];
        v = activate(v, ACT);
        if (OUT == 2) v *= dot_of(w, x, c + columns, r, k, rows);
    }
#if OUT == 0
    __global float *at = (__global float *)y + y_offset + (size_t)r * n + c;
    *at = accumulate ? *at + v : v;
#else
    W_STORE(v, (__global w_t *)y, VLCI_STRIPE_AT(r, c, rows));
#endif
}

__kernel void to_stripes(__global const float *restrict x, uint x_offset, __global w_t *restrict y, uint m, uint k) {
    const uint i = get_global_id(0) * 8, r = get_global_id(1);
    if (r >= m || i >= (k + 63) / 64 * 64) return;
    __global w_t *at = y + VLCI_STRIPE_AT(r, i, VLCI_STRIPE_ROWS(m));
    x += (size_t)x_offset + (size_t)r * k;
    if (k % 8 == 0 && x_offset % 4 == 0) {
        const float8 v = i < k ? f32_run(x + i) : (float8)(0.0f);
        W_STORE4(v.lo, at);
        W_STORE4(v.hi, at + 4);
        return;
    }
    for (uint j = 0; j < 8; j++) W_STORE(i + j < k ? x[i + j] : 0.0f, at, j);
}
