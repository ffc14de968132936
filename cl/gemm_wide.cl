/*
 * gemm_wide.cl - y = act(x W^T + bias) (+ y), for devices where one work-item with wide vectors beats work-groups.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *
 * W lies in panels of 32 of its rows (shared.h). One work-item computes ROWS_A_TILE x 16 VECTORS_A_TILE outputs, all of them in registers, and needs no barrier:
 *
 *                 panel of W: K x 32 (stays in cache while the row tiles run over it)
 *                 +----------------+----------------+
 *                 | float16        | float16        |  <- one k
 *   x: rows       +----------------+----------------+
 *   x[r][k] ----> | acc[r][0]      | acc[r][1]      |  12 x 2 vectors of 512 bits, or 6 x 1 of twice 256
 *
 * Work: dimension 0 = row tiles, dimension 1 = panels, or halves of panels.
 *
 * build: -DROWS_A_TILE=12 -DVECTORS_A_TILE=2
 * build: -DROWS_A_TILE=6 -DVECTORS_A_TILE=1
 */
#ifndef ROWS_A_TILE
#define ROWS_A_TILE 12 /* 24 accumulators and 2 vectors of the panel fit 32 registers of 512 bits */
#endif
#ifndef VECTORS_A_TILE
#define VECTORS_A_TILE 2 /* 1: 6 rows make 12 accumulators of 256 bits, which fit 16 registers */
#endif

DEFINE_ACTIVATE(activate16, float16)

static inline void store16(float16 v, __global float *y, __global const float *bias, int count, int act,
                           int accumulate) {
    float part[16];
    if (count >= 16) {
        if (bias) v += vload16(0, bias);
        v = activate16(v, act);
        if (accumulate) v += vload16(0, y);
        vstore16(v, 0, y);
        return;
    }
    vstore16(v, 0, part);
    for (int i = 0; bias && i < count; i++) part[i] += bias[i];
    vstore16(activate16(vload16(0, part), act), 0, part);
    for (int i = 0; i < count; i++) y[i] = accumulate ? y[i] + part[i] : part[i];
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
gemm_wide(__global const w_t *restrict w, __global const float *restrict bias, __global const float *restrict x,
          uint x_offset, __global float *restrict y, uint y_offset, int m, int n, int k, int act, int accumulate) {
    const int row = (int)get_group_id(0) * ROWS_A_TILE, column = (int)get_group_id(1) * 16 * VECTORS_A_TILE;
    if (column >= n) return; /* the second half of the last panel */
    __global const w_t *panel = w + VLCI_PANEL_AT(column, 0, k);
    __global const float *xr[ROWS_A_TILE]; /* rows beyond the last repeat it, and are not stored */
    float16 acc[ROWS_A_TILE][VECTORS_A_TILE];
#pragma unroll
    for (int r = 0; r < ROWS_A_TILE; r++) {
        xr[r] = x + (size_t)x_offset + (size_t)min(row + r, m - 1) * (size_t)k;
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) acc[r][v] = 0.0f;
    }
    for (int i = 0; i < k; i++) {
        float16 b[VECTORS_A_TILE];
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) b[v] = W_LOAD16(panel, v * 16);
        panel += VLCI_PANEL;
#pragma unroll
        for (int r = 0; r < ROWS_A_TILE; r++)
#pragma unroll
            for (int v = 0; v < VECTORS_A_TILE; v++) acc[r][v] += xr[r][i] * b[v];
    }
    y += (size_t)y_offset + (size_t)row * (size_t)n + (size_t)column;
    if (bias) bias += column;
    float16 sums[ROWS_A_TILE * VECTORS_A_TILE];
#pragma unroll
    for (int r = 0; r < ROWS_A_TILE; r++)
#pragma unroll
        for (int v = 0; v < VECTORS_A_TILE; v++) sums[r * VECTORS_A_TILE + v] = acc[r][v];
    const int last = min(m - row, ROWS_A_TILE) * VECTORS_A_TILE;
#pragma unroll 1 /* one copy of what the activations take */
    for (int i = 0; i < last; i++) {
        const int at = i % VECTORS_A_TILE * 16;
        if (column + at < n)
            store16(sums[i], y + (size_t)(i / VECTORS_A_TILE) * (size_t)n + at, bias ? bias + at : bias, n - column - at, act,
                    accumulate);
    }
}
