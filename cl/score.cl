/*
 * score.cl - one pass over a layer's keys that yields both the scores of its tokens and the raw material of its sparsity.
 *
 *     s(t, h, j)        = scale * q(t, h) . k(h / GROUP, j)         the listed query rows t, the prompt's columns j, causal
 *     sums(x, kv, j)    = sum over the scored t of row block x and over the heads h of group kv of exp(s - lse(t, h))
 *     partial(h, x, y)  = number of counted (t, j) in row block x, column tile y with s < max(t, h) + log(p)
 *
 * Both need the same dot products, so they share one pass; score_sum adds row blocks up, sparsity.cl the counts. One block is
 * no block: its sums, times `weight`, are (`add`: added to) the scores themselves. A is never
 * stored: one work-item owns one column and keeps its sum in a register, so the order of additions is fixed and there are
 * no atomics.
 *
 *                 columns j ->  tile y = TILE_COLS work-items
 *     listed t   +---------+---------+---
 *     block x    | ROWS x  |         |       for each head of the group, ROWS rows at a time:
 *         |      | TILE_D  |         |       q and k pass through local memory in slices of TILE_D dimensions
 *         v      +---------+---------+---
 *
 * The prompt's columns are the n cache rows from keep[..].before on. The rows looked at are listed, ascending and with gaps,
 * as VLCI_ROW(row, what); row `row` of the prompt is query row q_row + row of the walk, and sees columns up to sees + row: in
 * a prefill itself, in decode all of them. Columns that no listed row sees may not be in the cache yet: a prompt is read
 * in parts. Or all layers are looked at together, get_group_id(2) of them: `held` rows of each, which score_hold has brought
 * there, are the query rows, the listed one at i that in place i.
 * build: -DHEAD_DIM=64 -DHEADS=8 -DKV_HEADS=2 -DSOFT_CAP=50.0f
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
#define TILE_COLS VLCI_SCORE_COLUMNS /* columns, and work-items, of a work-group */
#endif
#ifndef TILE_D
#define TILE_D 32 /* dimensions in local memory at a time: 8.5 KiB of keys */
#endif
#ifndef ROWS
#define ROWS 8 /* queries that share one load of the keys */
#endif
#ifndef ROW_BLOCK
#define ROW_BLOCK VLCI_SCORE_ROWS /* rows of one work-group */
#endif
#define GROUP (HEADS / KV_HEADS)
#define HELD_OR(t, row) (held ? held_0 + (t) : q_row + (row)) /* where listed row t of these, which is `row`, has its query */

__kernel __attribute__((reqd_work_group_size(TILE_COLS, 1, 1))) void
score(__global const float *q, uint q_offset, uint q_stride, int q_row, KV_POOL_PARAMS, __global const float *row_max,
      __global const float *row_lse, __global const vlci_keep *keep, uint keep_at, int n, __global const int *listed,
      int entry_0, int t_n, int held, int sees, __global float *sums, uint sums_at, uint score_stride, int blocks,
      __global uint *partial, float scale, float log_p, float weight, int add) {
    __local float keys[TILE_D][TILE_COLS + 1];
    __local float queries[ROWS][TILE_D];
    __local uint counts[TILE_COLS];
    const int lane = get_local_id(0), tile = get_group_id(0);
    const int kv = get_group_id(1) % KV_HEADS, block = get_group_id(1) / KV_HEADS, layer = get_group_id(2);
    const int head = layer * KV_HEADS + kv, held_0 = layer * held + entry_0; /* among those of all layers */
    const kv_view rows = kv_nth(KV_POOL_PASS, head);
    listed += entry_0;
    const int first = keep[keep_at + head].before, column = tile * TILE_COLS + lane;
    const int until = tile * TILE_COLS < n ? min((block + 1) * ROW_BLOCK, t_n) : 0; /* no rows in a tile past the prompt */
    const int from = first_from(listed, block * ROW_BLOCK, until, tile * TILE_COLS - sees);
    const int there = from < until ? min(n, sees + (listed[until - 1] >> VLCI_ROW_SHIFT) + 1) : 0; /* columns any sees */
    float sum = 0.0f;
    for (int g = 0; g < GROUP; g++) {
        const int h = kv * GROUP + g;
        uint count = 0;
        for (int t0 = from; t0 < until; t0 += ROWS) {
            float dot_qk[ROWS];
            for (int r = 0; r < ROWS; r++) dot_qk[r] = 0.0f;
            for (int d0 = 0; d0 < HEAD_DIM; d0 += TILE_D) {
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint e = lane; e < TILE_COLS * TILE_D; e += TILE_COLS) {
                    const int j = tile * TILE_COLS + e / TILE_D, d = d0 + e % TILE_D;
                    const bool inside = (j < there) & (d < HEAD_DIM);
                    keys[e % TILE_D][e / TILE_D] =
                        inside ? KV_LOAD(rows.k, kv_at(&rows, first + j) + d) : 0.0f;
                }
                for (uint e = lane; e < ROWS * TILE_D; e += TILE_COLS) {
                    const int t = t0 + e / TILE_D, d = d0 + e % TILE_D;
                    const bool inside = (t < until) & (d < HEAD_DIM);
                    const int from_row = inside ? HELD_OR(t, listed[t] >> VLCI_ROW_SHIFT) : 0;
                    queries[e / TILE_D][e % TILE_D] =
                        inside ? q[q_offset + (size_t)from_row * q_stride + h * HEAD_DIM + d] : 0.0f;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                for (int d = 0; d < TILE_D; d++)
                    for (int r = 0; r < ROWS; r++) dot_qk[r] += queries[r][d] * keys[d][lane];
            }
            for (int r = 0; r < ROWS; r++) {
                const int entry = t0 + r < until ? listed[t0 + r] : 0, row = entry >> VLCI_ROW_SHIFT;
                if ((entry != 0) & (column <= sees + row) & (column < n)) {
                    const float s = CAPPED(dot_qk[r] * scale);
                    const size_t at = (size_t)HELD_OR(t0 + r, row) * HEADS + h;
                    if (entry & VLCI_ROW_COUNTED) count += s < row_max[at] + log_p;
                    if (entry & VLCI_ROW_SCORED) sum += exp(s - row_lse[at]);
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
        if (lane == 0 && partial)
            partial[((size_t)(layer * HEADS + h) * blocks + block) * get_num_groups(0) + tile] = counts[0];
    }
    const size_t at = sums_at + ((size_t)block * KV_HEADS + head) * score_stride + column;
    if (column < n) sums[at] = add ? sums[at] + weight * sum : weight * sum;
}

/* Work-item (d / 4, i): listed row entry_0 + i of one layer, `width` numbers of all its heads, to its place among those that
 * are held, from row `to` on. */
__kernel void score_hold(__global const float *q, uint q_offset, uint q_stride, int q_row, __global const float *row_max,
                         __global const float *row_lse, __global const int *listed, int entry_0, int width, int heads, uint to,
                         __global float *held_q, __global float *held_max, __global float *held_lse) {
    const int d = get_global_id(0), i = entry_0 + get_global_id(1);
    const size_t from = q_row + (listed[i] >> VLCI_ROW_SHIFT), at = to + i;
    if (4 * d < width) vstore4(vload4(d, q + q_offset + from * q_stride), d, held_q + at * width);
    if (d >= heads) return;
    held_max[at * heads + d] = row_max[from * heads + d];
    held_lse[at * heads + d] = row_lse[from * heads + d];
}

/* scores = (scores +) weight * the row blocks' sums, in the order of the blocks. One work-item a column. */
__kernel void score_sum(__global const float *sums, int blocks, uint block_stride, float weight, int add,
                        __global float *scores, uint scores_at) {
    const size_t at = get_global_id(0);
    if (at >= block_stride) return;
    float sum = 0.0f;
    for (int x = 0; x < blocks; x++) sum += sums[x * (size_t)block_stride + at];
    scores[scores_at + at] = add ? scores[scores_at + at] + weight * sum : weight * sum;
}
