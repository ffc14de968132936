/*
 * nearest_wide.cl - nearest.cl for devices whose work-items are vector units (CPUs): same arguments, same results, no barrier.
 *
 *     nearest_lay   16 evicted rows side by side, once for all iterations  laid   [E / 16][HEAD_DIM][16] floats of each head
 *     nearest       one work-item owns two such blocks, and multiplies them by 4 centroids at a time:
 *
 *         dots[c][block] += block[d] * mean(c, d)                        one fused multiply-add serves 16 rows
 *
 * A cut-off block repeats the last row. Norms of 16 centroids at a time stand in one vector, as the means do.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
enum { LANES = VLCI_MEAN_LANES, BLOCKS = VLCI_NEAREST_WIDE_ROWS / LANES, AT_ONCE = 4 };

__kernel void nearest_lay(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
                          __global float *laid, uint laid_stride) {
    const int e0 = get_global_id(0) * LANES, row = get_global_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept;
    if (e0 >= n || !own.centroids) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    __global float *block = laid + (size_t)row * laid_stride + (size_t)e0 * HEAD_DIM;
    for (int i = 0; i < LANES; i++) {
        const size_t at = kv_at(&rows, own.before + evicted[(size_t)row * tokens + min(e0 + i, n - 1)]);
        for (int d = 0; d < HEAD_DIM; d++) block[d * LANES + i] = KV_LOAD(rows.k, at + d);
    }
}

/* What a block of rows has found. */
typedef struct {
    float16 near;
    int16 label;
} best_t;

/* Centroids c .. c + 3, of which those below `until` count, among two blocks. */
static inline void meet(__global const float *const *block, __global const float *means, const float *norms, int c, int until,
                        best_t *best) {
    __global const float *mean[AT_ONCE];
    float16 dots[AT_ONCE][BLOCKS];
    for (int j = 0; j < AT_ONCE; j++) {
        const int own = min(c + j, until - 1);
        mean[j] = means + (size_t)(own / LANES) * HEAD_DIM * LANES + own % LANES;
        for (int b = 0; b < BLOCKS; b++) dots[j][b] = 0.0f;
    }
    for (int d = 0; d < HEAD_DIM; d++) {
        const float16 first = vload16(d, block[0]), second = vload16(d, block[1]);
        for (int j = 0; j < AT_ONCE; j++) {
            const float16 m = mean[j][d * LANES];
            dots[j][0] = fma(first, m, dots[j][0]);
            dots[j][1] = fma(second, m, dots[j][1]);
        }
    }
    for (int j = 0; j < AT_ONCE && c + j < until; j++)
        for (int b = 0; b < BLOCKS; b++) {
            const float16 near = norms[(c + j) % LANES] - 2.0f * dots[j][b];
            const int16 nearer = near < best[b].near;
            best[b].near = select(best[b].near, near, nearer);
            best[b].label = select(best[b].label, (int16)(c + j), nearer);
        }
}

KEEP_WIDE __kernel void
nearest(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
        __global int *labels, __global const float *means, uint means_stride, __global const float *laid, uint laid_stride) {
    const int e0 = get_global_id(0) * VLCI_NEAREST_WIDE_ROWS, row = get_global_id(1);
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept;
    const int until = own.centroids;
    if (e0 >= n || !until) return;
    const int blocks = e0 + LANES < n ? BLOCKS : 1;
    laid += (size_t)row * laid_stride + (size_t)e0 * HEAD_DIM;
    means += (size_t)row * means_stride;
    __global const float *block[BLOCKS] = {laid, laid + (blocks - 1) * LANES * HEAD_DIM};
    best_t best[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
        best[b].near = INFINITY;
        best[b].label = 0;
    }
    for (int c0 = 0; c0 < until; c0 += LANES) {
        __global const float *mean = means + (size_t)c0 * HEAD_DIM;
        float16 norm = 0.0f;
        float norms[LANES];
        for (int d = 0; d < HEAD_DIM; d++) norm = fma(vload16(d, mean), vload16(d, mean), norm);
        vstore16(norm, 0, norms);
        for (int c = c0; c < min(c0 + (int)LANES, until); c += AT_ONCE)
            meet(block, means, norms, c, min(c0 + (int)LANES, until), best);
    }
    for (int b = 0; b < blocks; b++) {
        int which[LANES];
        vstore16(best[b].label, 0, which);
        for (int i = 0; i < min((int)LANES, n - e0 - b * (int)LANES); i++)
            labels[(size_t)row * tokens + e0 + b * LANES + i] = which[i];
    }
}
