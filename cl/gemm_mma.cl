/*
 * gemm_mma.cl - y = act(x W^T + bias) (+ y) on the matrix units of NVIDIA's GPUs since sm_80; W and x of 16 bits, sums in f32.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *
 * W lies in blocks, x in stripes (shared.h): both are swizzled already, so a stage is copied as it is and ldmatrix meets no
 * bank twice. A work-group of WARPS_R x WARPS_C warps computes 64 WARPS_R rows by 64 WARPS_C columns, each warp 64 x 64:
 *
 *            columns: 64 WARPS_C                    x (a)   4 fragments of 16 rows      STAGES stages of 64 k on their way
 *          +---------+---------+                    W (b)   8 fragments of 8 columns    or in use
 *    rows  | warp    |         |  64
 *          +---------+---------+
 *
 * OUT 0: y is f32 rows. 1: y is stripes. 2: gated, stripes: a warp has 32 columns of gate and the same 32 of up;
 * y[r][c] = act(gate[r][c]) * up[r][c], W = [gate | up], n / 2 a multiple of 64.
 * Tiles go in bands of BAND tiles of rows down all of W, so that what runs at once shares both in the cache.
 *
 * ptx: sm_80 -DW_DTYPE=3 -DWARPS_R=2 -DWARPS_C=4 -DSTAGES=4 -DOUT=0 -DACT=0
 * ptx: sm_80 -DW_DTYPE=2 -DWARPS_R=2 -DWARPS_C=2 -DSTAGES=3 -DOUT=1 -DACT=4
 * ptx: sm_89 -DW_DTYPE=3 -DWARPS_R=2 -DWARPS_C=4 -DSTAGES=2 -DOUT=2 -DACT=1
 */
#ifndef WARPS_R
#define WARPS_R 2
#endif
#ifndef WARPS_C
#define WARPS_C 4 /* even */
#endif
#ifndef STAGES
#define STAGES 4
#endif
#ifndef OUT
#define OUT 0
#endif
#ifndef ACT
#define ACT VLCI_ACT_NONE
#endif
#if W_DTYPE == VLCI_DTYPE_F16
#define MMA(d, a, b0, b1) PTX_MMA_F16(d, a, b0, b1)
#define PAIR(a, b)        ptx_f16x2(to_f16_range(a), to_f16_range(b))
#else
#define MMA(d, a, b0, b1) PTX_MMA_BF16(d, a, b0, b1)
#define PAIR(a, b)        ptx_bf16x2(a, b)
#endif

enum { BAND = 8, ROWS = 64 * WARPS_R, COLUMNS = 64 * WARPS_C, ITEMS = 32 * WARPS_R * WARPS_C, STAGE = (ROWS + COLUMNS) * 128 };

/* Stage d of the operands into its place, 16 bytes a work-item at a time. `block` is where each block of W begins. */
#define BRING(d, place)                                                                                              \
    {                                                                                                                \
        const uint to = at + (place)*STAGE + item * 16;                                                              \
        _Pragma("unroll") for (uint i = 0; i < ROWS * 8 / ITEMS; i++)                                                \
            ptx_copy16(to + i * ITEMS * 16, x_from + (size_t)(d)*x_rows * 128 + i * ITEMS * 16, 16);                 \
        _Pragma("unroll") for (uint i = 0; i < COLUMNS * 8 / ITEMS; i++) {                                           \
            const uint run = i * ITEMS + item, b = run / 512;                                                        \
            const bool there = BLOCK_THERE(b);                                                                       \
            ptx_copy16(to + ROWS * 128 + i * ITEMS * 16,                                                             \
                       w + ((size_t)(there ? BLOCK_OF(b) : 0) * depth + (d)) * 8192 + run % 512 * 16, there ? 16 : 0); \
        }                                                                                                            \
    }
#define COMMIT() __asm__ volatile("cp.async.commit_group;" ::: "memory")
#define LANDED() __asm__ volatile("cp.async.wait_group %0;\n\tbar.sync 0;" ::"n"(STAGES - 2) : "memory")
/* The fragments of 16 k, j of them further on, of the stage at `from`. */
#define FETCH(to, j, from)                                                                                           \
    {                                                                                                                \
        _Pragma("unroll") for (uint i = 0; i < 4; i++)                                                               \
            PTX_LDMATRIX4(a[to][i], (from) + (a_row + 16 * i) * 128 + (((2 * (j) + a_run) ^ (a_row & 7)) << 4));     \
        _Pragma("unroll") for (uint i = 0; i < 4; i++)                                                               \
            PTX_LDMATRIX4(b[to][i], (from) + (ROWS + B_ROW(i)) * 128 + (((2 * (j) + b_run) ^ (b_row & 7)) << 4));    \
    }

__attribute__((reqd_work_group_size(32 * WARPS_R * WARPS_C, 1, 1))) __kernel void
gemm_mma(__global const uchar *restrict w, __global const float *restrict bias, __global const uchar *restrict x,
         __global uchar *restrict y, uint y_offset, uint m, uint n, uint k, uint accumulate) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    const uint at = (uint)smem, item = ptx_item(), lane = item & 31, warp = item >> 5, wr = warp / WARPS_C, wc = warp % WARPS_C;
    const uint columns = OUT == 2 ? n / 2 : n, width = OUT == 2 ? COLUMNS / 2 : COLUMNS;
    const uint row_tiles = (m + ROWS - 1) / ROWS, column_tiles = (columns + width - 1) / width;
    const uint depth = (k + 63) / 64, blocks = (columns + 63) / 64, x_rows = (uint)VLCI_STRIPE_ROWS(m);
    const uint per = BAND * column_tiles, band = ptx_group() / per, in = ptx_group() - band * per;
    const uint in_band = min((uint)BAND, row_tiles - band * BAND), column_tile = in / in_band;
    const uint row = (band * BAND + in - column_tile * in_band) * ROWS, column = column_tile * width;
#if OUT == 2 /* gate's blocks, then up's */
#define BLOCK_OF(b)    (column / 64 + (b) % (WARPS_C / 2) + ((b) < WARPS_C / 2 ? 0 : blocks))
#define BLOCK_THERE(b) (column / 64 + (b) % (WARPS_C / 2) < blocks)
#define B_ROW(i)       (b_row + ((i) < 2 ? wc * 32 + 16 * (i) : COLUMNS / 2 + wc * 32 + 16 * ((i)-2)))
#else
#define BLOCK_OF(b)    (column / 64 + (b))
#define BLOCK_THERE(b) (BLOCK_OF(b) < blocks)
#define B_ROW(i)       (b_row + wc * 64 + 16 * (i))
#endif
    __global const uchar *x_from = x + (size_t)row * 128 + item * 16;
    /* ldmatrix: lanes 0-15 address rows 0-15 of the first run of 8 k, 16-31 those of the second; of W, lanes 0-7 columns 0-7 of
     * the first run, 8-15 of the second, 16-31 the same of columns 8-15 */
    const uint a_row = wr * 64 + (lane & 15), a_run = lane >> 4, b_row = (lane & 7) + (lane >> 4) * 8, b_run = lane >> 3 & 1;
    float sum[4][8][4];
#pragma unroll
    for (uint i = 0; i < 4; i++)
#pragma unroll
        for (uint j = 0; j < 8; j++)
#pragma unroll
            for (uint e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
#pragma unroll
    for (uint s = 0; s < STAGES - 1; s++) {
        if (s < depth) BRING(s, s);
        COMMIT();
    }
    uint a[2][4][4], b[2][4][4], place = 0, fill = STAGES - 1;
    LANDED();
    FETCH(0, 0, at);
    for (uint d = 0; d < depth; d++) {
        const uint from = at + place * STAGE;
        if (++place == STAGES) place = 0;
#pragma unroll
        for (uint j = 0; j < 4; j++) {
            if (j < 3) {
                FETCH((j + 1) & 1, j + 1, from)
            } else { /* of the next stage; behind the last, what lies there is fetched and not used */
                LANDED();
                FETCH(0, 0, at + place * STAGE)
            }
            if (j == 0) { /* the place that was read one stage ago is free since the last barrier */
                if (d + STAGES - 1 < depth) BRING(d + STAGES - 1, fill);
                COMMIT();
                if (++fill == STAGES) fill = 0;
            }
#pragma unroll
            for (uint i = 0; i < 4; i++)
#pragma unroll
                for (uint c = 0; c < 8; c++) MMA(sum[i][c], a[j & 1][i], b[j & 1][c >> 1][(c & 1) * 2], b[j & 1][c >> 1][(c & 1) * 2 + 1]);
        }
    }
    /* a lane holds of 16 x 8: row lane / 4 and + 8, columns 2 (lane % 4) and + 1 */
#if OUT == 2
    const uint first = column + wc * 32 + (lane & 3) * 2;
#else
    const uint first = column + wc * 64 + (lane & 3) * 2;
#endif
#pragma unroll
    for (uint c = 0; c < (OUT == 2 ? 4 : 8); c++) {
        const uint at_c = first + 8 * c;
#if OUT < 2
        const float bias0 = bias && at_c < n ? bias[at_c] : 0.0f, bias1 = bias && at_c + 1 < n ? bias[at_c + 1] : 0.0f;
#endif
#pragma unroll
        for (uint i = 0; i < 4; i++)
#pragma unroll
            for (uint h = 0; h < 2; h++) {
                const uint r = row + wr * 64 + 16 * i + 8 * h + (lane >> 2);
                if (r >= m) continue;
#if OUT == 0
                const float v0 = activate(sum[i][c][2 * h] + bias0, ACT), v1 = activate(sum[i][c][2 * h + 1] + bias1, ACT);
                __global float *to = (__global float *)y + y_offset + (size_t)r * n + at_c;
                if (at_c < n) to[0] = accumulate ? to[0] + v0 : v0;
                if (at_c + 1 < n) to[1] = accumulate ? to[1] + v1 : v1;
#else
#if OUT == 1
                const float v0 = activate(sum[i][c][2 * h] + bias0, ACT), v1 = activate(sum[i][c][2 * h + 1] + bias1, ACT);
#else
                const float v0 = activate(sum[i][c][2 * h], ACT) * sum[i][c + 4][2 * h],
                            v1 = activate(sum[i][c][2 * h + 1], ACT) * sum[i][c + 4][2 * h + 1];
#endif
                if (at_c < blocks * 64) *(__global uint *)(y + 2 * VLCI_STRIPE_AT(r, at_c, x_rows)) = PAIR(v0, v1);
#endif
            }
    }
}
