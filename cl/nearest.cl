/*
 * nearest.cl - which of some centroids is nearest to each evicted row, for the kv heads of some layers: the matrix product of
 * k-means (kmeans.cl).
 *
 *     label(e) = argmin over c of |mean(c)|^2 - 2 key(e) . mean(c)                          the first of equals
 *
 *     rows of a work-group   128, or 16 x 8 of its 16 x 4 work-items     keys   [TILE_D][ROWS]   in local memory, as floats
 *     centroids at a time     32, or  4 x 8                              seeds  [TILE_D][SEEDS]
 *
 * A work-item multiplies 8 rows by 8 centroids: rows 4 i .. 4 i + 3 and 64 + them, centroids 4 s .. 4 s + 3 and 16 + them.
 * One launch covers all rows of all heads; a head without centroids costs nothing.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#ifndef TILE_D
#define TILE_D 16 /* dimensions in local memory at a time: 10 KiB */
#endif
enum { LANES = VLCI_MEAN_LANES, ROWS = VLCI_NEAREST_ROWS, GROUP = VLCI_NEAREST_GROUP, SEEDS = 32, ROW_GROUPS = 16 };
enum { EACH = 8, SEED_GROUPS = GROUP / ROW_GROUPS, STRIDE = ROWS + 4, PIECES = TILE_D / 8 };

/* Row i of 8 that a work-item has, in units of rows of the tile; `half`: 64 rows, 16 centroids. */
#define OF_EIGHT(first, i, half_tile) ((first) * 4 + (i) % 4 + (i) / 4 * (half_tile))

__kernel __attribute__((reqd_work_group_size(VLCI_NEAREST_GROUP, 1, 1))) void
nearest(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, int tokens, __global const int *evicted,
        __global int *labels, __global const float *means, uint means_stride, __global const float *laid, uint laid_stride) {
    __local float keys[TILE_D * STRIDE] __attribute__((aligned(128))), seeds[TILE_D * SEEDS] __attribute__((aligned(128)));
    __local float norms[SEEDS];
    __local uint places[ROWS];
    const int lane = get_local_id(0), row = get_group_id(1), e0 = get_group_id(0) * ROWS;
    const vlci_keep own = keep[keep_at + row];
    const int n = tokens - own.kept;
    const int until = e0 < n ? own.centroids : 0;
    const kv_view rows = kv_nth(KV_POOL_PASS, row);
    const size_t list = (size_t)row * tokens;
    const int ri = lane % ROW_GROUPS, si = lane / ROW_GROUPS;
    means += (size_t)row * means_stride;
    for (int i = lane; i < ROWS && until; i += GROUP)
        places[i] = (uint)kv_row(&rows, own.before + evicted[list + min(e0 + i, n - 1)]);

    float best[EACH];
    int label[EACH];
    for (int i = 0; i < EACH; i++) {
        best[i] = INFINITY;
        label[i] = 0;
    }
    for (int c0 = 0; c0 < until; c0 += SEEDS) {
        float dots[EACH][EACH], norm = 0.0f;
        for (int i = 0; i < EACH; i++)
            for (int j = 0; j < EACH; j++) dots[i][j] = 0.0f;
        for (int d0 = 0; d0 < HEAD_DIM; d0 += TILE_D) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int i = lane; i < ROWS * PIECES; i += GROUP) {
                const int r = i / PIECES, d = i % PIECES * 8;
                float piece[8];
                vstore8(d0 + d < HEAD_DIM ? KV_LOAD8(rows.k, (size_t)places[r] * row_stride + d0 + d) : (float8)0.0f, 0, piece);
                for (int x = 0; x < 8; x++) keys[(d + x) * STRIDE + r] = piece[x];
            }
            for (int i = lane; i < SEEDS * TILE_D; i += GROUP) {
                const int c = c0 + i % SEEDS, d = d0 + i / SEEDS;
                seeds[i] = c < until && d < HEAD_DIM ? means[((size_t)(c / LANES) * HEAD_DIM + d) * LANES + c % LANES] : 0.0f;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int d = 0; d < TILE_D; d++) {
                float x[EACH], s[EACH];
                vstore4(vload4(ri, keys + d * STRIDE), 0, x);
                vstore4(vload4(ri, keys + d * STRIDE + ROWS / 2), 1, x);
                vstore4(vload4(si, seeds + d * SEEDS), 0, s);
                vstore4(vload4(si, seeds + d * SEEDS + SEEDS / 2), 1, s);
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++) dots[i][j] = fma(x[i], s[j], dots[i][j]);
            }
            for (int d = 0; d < TILE_D && lane < SEEDS; d++) norm = fma(seeds[d * SEEDS + lane], seeds[d * SEEDS + lane], norm);
        }
        if (lane < SEEDS) norms[lane] = norm;
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                const int s = OF_EIGHT(si, j, SEEDS / 2);
                const float near = norms[s] - 2.0f * dots[i][j];
                if (c0 + s < until && near < best[i]) {
                    best[i] = near;
                    label[i] = c0 + s;
                }
            }
    }

    /* Each row's best of the SEED_GROUPS work-items that had it. */
    __local float *bests = keys, *labels_of = keys + SEED_GROUPS * ROWS;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < EACH; i++) {
        const int at = si * ROWS + OF_EIGHT(ri, i, ROWS / 2);
        bests[at] = best[i];
        labels_of[at] = as_float(label[i]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < ROWS / GROUP; i++) {
        const int r = lane + i * GROUP;
        if (e0 + r >= n || !until) continue;
        float near = bests[r];
        int which = as_int(labels_of[r]);
        for (int s = 1; s < SEED_GROUPS; s++) {
            const float other = bests[s * ROWS + r];
            const int other_label = as_int(labels_of[s * ROWS + r]);
            if (other < near || (other == near && other_label < which)) {
                near = other;
                which = other_label;
            }
        }
        labels[list + e0 + r] = which;
    }
}
