/*
 * score.cl - one pass over a layer's keys that yields both the scores of its tokens and the raw material of its sparsity.
 *
 *     s(t, h, j)     = scale * q(t, h) . k(h / GROUP, j)            the tau last prompt rows t, causal columns j
 *     score(kv, j)   = sum over t and over the heads h of group kv of exp(s - lse(t, h))
 *     partial(h, x)  = number of (t, j) in column tile x with s < max(t, h) + log(p)
 *
 * Both need the same dot products, so they share one pass; sparsity.cl adds the partial counts up. A is never stored: one
 * work-item owns one column and keeps its sum in a register, so the order of additions is fixed and there are no atomics.
 *
 *                 columns j ->  tile x = TILE_COLS work-items
 *     (t) rows   +---------+---------+---
 *         |      | ROWS x  |         |       for each head of the group, ROWS rows at a time:
 *         v      | TILE_D  |         |       q and k pass through local memory in slices of TILE_D dimensions
 *
 * Candidates are the last tokens[b] of the rows that the last query sees; a column before them is not visited.
 * build: -DHEAD_DIM=64 -DHEADS=8 -DKV_HEADS=2
 * build: -DHEAD_DIM=128 -DHEADS=32 -DKV_HEADS=32
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef HEADS
#define HEADS 8
#endif
#ifndef KV_HEADS
#define KV_HEADS 8
#endif
#ifndef TILE_COLS
#define TILE_COLS 64 /* columns, and work-items, of a work-group */
#endif
#ifndef TILE_D
#define TILE_D 32 /* dimensions in local memory at a time: 8.5 KiB of keys */
#endif
#ifndef ROWS
#define ROWS 8 /* queries that share one load of the keys */
#endif
#define GROUP (HEADS / KV_HEADS)

__kernel __attribute__((reqd_work_group_size(TILE_COLS, 1, 1))) void
score(__global const float *q, uint q_offset, uint q_stride, __global const kv_t *k, uint k_offset, uint seq_stride,
      uint head_stride, uint row_stride, __global const float *row_max, __global const float *row_lse,
      __global const int *seq_start, __global const int *past, int past_offset, __global const int *tokens, __global const int *tau,
      __global float *scores, uint score_stride, __global uint *partial, float scale, float log_p) {
    __local float keys[TILE_D][TILE_COLS + 1];
    __local float queries[ROWS][TILE_D];
    __local uint counts[TILE_COLS];
    const int lane = get_local_id(0), tile = get_group_id(0), kv = get_group_id(1), b = get_group_id(2);
    const int n = tokens[b], t_n = tau[b], rows = seq_start[b + 1] - seq_start[b];
    const int first = (past ? past[past_offset + b * KV_HEADS + kv] : 0) + rows - n; /* cache row of candidate 0 */
    const int column = tile * TILE_COLS + lane;
    const size_t key = k_offset + (size_t)b * seq_stride + (size_t)kv * head_stride;
    const size_t last = (size_t)seq_start[b + 1] - t_n; /* query row of t = 0 */
    const int visited = tile * TILE_COLS < n ? t_n : 0; /* rows, none in a tile past the prompt */
    float sum = 0.0f;
    for (int g = 0; g < GROUP; g++) {
        const int h = kv * GROUP + g;
        uint count = 0;
        for (int t0 = 0; t0 < visited; t0 += ROWS) {
            float dot_qk[ROWS];
            for (int r = 0; r < ROWS; r++) dot_qk[r] = 0.0f;
            for (int d0 = 0; d0 < HEAD_DIM; d0 += TILE_D) {
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint e = lane; e < TILE_COLS * TILE_D; e += TILE_COLS) {
                    const int j = tile * TILE_COLS + e / TILE_D, d = d0 + e % TILE_D;
                    const bool inside = (j < n) & (d < HEAD_DIM);
                    keys[e % TILE_D][e / TILE_D] =
                        inside ? KV_LOAD(k, key + (size_t)(first + j) * row_stride + d) : 0.0f;
                }
                for (uint e = lane; e < ROWS * TILE_D; e += TILE_COLS) {
                    const int t = t0 + e / TILE_D, d = d0 + e % TILE_D;
                    const bool inside = (t < t_n) & (d < HEAD_DIM);
                    queries[e / TILE_D][e % TILE_D] =
                        inside ? q[q_offset + (last + t) * q_stride + h * HEAD_DIM + d] : 0.0f;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                for (int d = 0; d < TILE_D; d++)
                    for (int r = 0; r < ROWS; r++) dot_qk[r] += queries[r][d] * keys[d][lane];
            }
            for (int r = 0; r < ROWS; r++) {
                const int t = t0 + r;
                if ((t < t_n) & (column <= n - t_n + t)) { /* causal, hence below n */
                    const float s = dot_qk[r] * scale;
                    const size_t at = (last + t) * HEADS + h;
                    count += s < row_max[at] + log_p;
                    sum += exp(s - row_lse[at]);
                }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        counts[lane] = count;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int half_group = TILE_COLS / 2; half_group > 0; half_group /= 2) {
            if (lane < half_group) counts[lane] += counts[lane + half_group];
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        if (lane == 0) partial[((size_t)b * HEADS + h) * get_num_groups(0) + tile] = counts[0];
    }
    if (column < n) scores[((size_t)b * KV_HEADS + kv) * score_stride + column] = sum;
}

/* One set a layer: the sum over kv heads, in the order of the heads, replaces head 0's scores. One work-item a column. */
__kernel void score_layer(__global float *scores, uint score_stride, int kv_heads) {
    const size_t column = get_global_id(0), b = get_global_id(1);
    if (column >= score_stride) return;
    __global float *at = scores + b * kv_heads * score_stride + column;
    float sum = 0.0f;
    for (int kv = 0; kv < kv_heads; kv++) sum += at[(size_t)kv * score_stride];
    at[0] = sum;
}
