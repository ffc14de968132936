/*
 * gemm.cl - y = act(x W^T + bias) (+ y), for any device; and the widening and epilogue around a BLAS product.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n;  W row-major [n][k]
 *
 * gemm_tile: a work-group of GROUP x GROUP computes TILE x TILE outputs. TILE_K columns of both operands at a time go
 * through local memory, k-major and padded by one, so that neither the stores nor the loads of a row of work-items meet
 * in a bank:
 *
 *            W: TILE rows (c)                 work-item (i, j) owns the outputs
 *          +------------------+                 rows    i + GROUP * 0..WORK-1
 *   TILE_K |  ws[k][c]        |                 columns j + GROUP * 0..WORK-1
 *          +------------------+               strided, so that neighbours store to neighbouring columns
 *   x: xs[k][r]  ->  acc[WORK][WORK] in registers
 *
 * gemm_scalar: one work-item, one output: the rung for devices whose work-groups are too small.
 */
#ifndef GROUP
#define GROUP 16 /* work-items along each side of a work-group */
#endif
#ifndef WORK
#define WORK 4 /* outputs along each side of a work-item's share */
#endif
#ifndef TILE_K
#define TILE_K 16 /* depth of a step; local memory: VLCI_GEMM_LOCAL_FLOATS(TILE_K, TILE) */
#endif
#define TILE (GROUP * WORK)
#define SLOTS ((TILE * TILE_K) / (GROUP * GROUP)) /* elements of each operand that one work-item brings */

__attribute__((reqd_work_group_size(GROUP, GROUP, 1))) __kernel void
gemm_tile(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    __local float xs[TILE_K][VLCI_GEMM_TILE_ROW(TILE)], ws[TILE_K][VLCI_GEMM_TILE_ROW(TILE)];
    const int j = (int)get_local_id(0), i = (int)get_local_id(1), item = i * GROUP + j;
    const int row = (int)get_group_id(1) * TILE, column = (int)get_group_id(0) * TILE;
    float acc[WORK][WORK];
    for (int a = 0; a < WORK; a++)
        for (int b = 0; b < WORK; b++) acc[a][b] = 0.0f;
    x += x_offset;
    for (int base = 0; base < k; base += TILE_K) {
        for (int s = 0; s < SLOTS; s++) {
            const int slot = s * GROUP * GROUP + item, d = slot % TILE_K, t = slot / TILE_K, at = base + d;
            const bool deep = at < k;
            xs[d][t] = deep && row + t < m ? x[(size_t)(row + t) * (size_t)k + (size_t)at] : 0.0f;
            ws[d][t] = deep && column + t < n ? W_LOAD(w, (size_t)(column + t) * (size_t)k + (size_t)at) : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int d = 0; d < TILE_K; d++) {
            float xr[WORK], wr[WORK];
            for (int a = 0; a < WORK; a++) xr[a] = xs[d][a * GROUP + i];
            for (int b = 0; b < WORK; b++) wr[b] = ws[d][b * GROUP + j];
            for (int a = 0; a < WORK; a++)
                for (int b = 0; b < WORK; b++) acc[a][b] = fma(xr[a], wr[b], acc[a][b]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    y += y_offset;
    for (int a = 0; a < WORK; a++) {
        const int r = row + a * GROUP + i;
        for (int b = 0; b < WORK; b++) {
            const int c = column + b * GROUP + j;
            if (r < m && c < n) put(acc[a][b], y + (size_t)r * (size_t)n, bias, c, act, accumulate);
        }
    }
}

/* Work: dimension 0 = columns, 1 = rows; work-groups of any size. */
__kernel void gemm_scalar(__global const w_t *restrict w, __global const float *restrict bias,
                          __global const float *restrict x, uint x_offset, __global float *restrict y, uint y_offset,
                          int m, int n, int k, int act, int accumulate) {
    const int c = (int)get_global_id(0), r = (int)get_global_id(1);
    if (r >= m || c >= n) return;
    x += (size_t)x_offset + (size_t)r * (size_t)k;
    w += (size_t)c * (size_t)k;
    float sum = 0.0f;
    for (int d = 0; d < k; d++) sum = fma(x[d], W_LOAD(w, d), sum);
    put(sum, y + (size_t)y_offset + (size_t)r * (size_t)n, bias, c, act, accumulate);
}

/* wide[r][d] = W[first + r][d] in f32, for a BLAS that knows no 16-bit weights. Work: dimension 0 = d, 1 = r. */
__kernel void gemm_widen(__global const w_t *restrict w, __global float *restrict wide, int first, int rows, int k) {
    const int d = (int)get_global_id(0), r = (int)get_global_id(1);
    if (d < k && r < rows) wide[(size_t)r * (size_t)k + (size_t)d] = W_LOAD(w, (size_t)(first + r) * (size_t)k + (size_t)d);
}

/* y = act(y + bias) over [m][n]: the rest of a product that a BLAS left in y. Work: dimension 0 = columns, 1 = rows. */
__kernel void gemm_epilogue(__global float *restrict y, uint y_offset, __global const float *restrict bias, int m, int n,
                            int act) {
    const int c = (int)get_global_id(0), r = (int)get_global_id(1);
    if (c < n && r < m) {
        y += (size_t)y_offset + (size_t)r * (size_t)n;
        put(y[c], y, bias, c, act, 0);
    }
}
