/*
 * pool.cl - scores of neighbours seen together before tokens are chosen.
 *
 *     merged(j)  = sum over kv heads of score(kv, j)                            one set a layer
 *     line(j)    = max over |i| <= width / 2 of score(j + i)                    neighbours in the prompt
 *     grid(y, x) = max over |u| <= rows / 2, |v| <= columns / 2 of score(y + u, x + v)
 *                                                                               neighbours in the picture
 *     spare(j)   = infinity where token j is no candidate, score(j) elsewhere   what must stay is best
 *
 * A grid is a vlci_token_grid: token (y, x) stands at first + y * stride + x; tokens in no
 * grid (text, a class token, the end-of-row token at x = columns) keep their score. Windows end at the borders. One
 * work-item a column; NaN loses against any number.
 */

/* The sum over kv heads, in the order of the heads, stands for each of them. n: columns. */
__kernel void pool_heads(__global const float *scores, uint scores_at, int n, int kv_heads, __global float *out) {
    const size_t column = get_global_id(0), layer = get_global_id(1);
    if (column >= n) return;
    const size_t at = layer * kv_heads * n + column;
    float sum = 0.0f;
    for (int kv = 0; kv < kv_heads; kv++) sum += scores[scores_at + at + (size_t)kv * n];
    for (int kv = 0; kv < kv_heads; kv++) out[at + (size_t)kv * n] = sum;
}

__kernel void pool_line(__global const float *scores, uint scores_at, int n, int width, __global float *out) {
    const int column = get_global_id(0);
    const size_t row = (size_t)get_global_id(1) * n;
    if (column >= n) return;
    __global const float *score = scores + scores_at + row;
    float best = score[column];
    for (int j = max(0, column - width / 2); j <= min(n - 1, column + width / 2); j++) best = fmax(best, score[j]);
    out[row + column] = best;
}

__kernel void pool_grid(__global const float *scores, uint scores_at, int n, __global const vlci_token_grid *grids,
                        int n_grids, int rows, int columns, __global float *out) {
    const int column = get_global_id(0);
    const size_t row = (size_t)get_global_id(1) * n;
    if (column >= n) return;
    __global const float *score = scores + scores_at + row;
    float best = score[column];
    for (int g = 0; g < n_grids; g++) {
        const vlci_token_grid grid = grids[g];
        const int at = column - grid.first;
        if (at < 0 || at >= grid.rows * grid.stride) continue; /* of many grids, most: no division for them */
        const int y = at / grid.stride, x = at % grid.stride;
        if (x >= grid.columns) continue;
        for (int u = max(0, y - rows / 2); u <= min(grid.rows - 1, y + rows / 2); u++)
            for (int v = max(0, x - columns / 2); v <= min(grid.columns - 1, x + columns / 2); v++)
                best = fmax(best, score[grid.first + u * grid.stride + v]);
        break;
    }
    out[row + column] = best;
}

/* spared: of each column, not 0 where it is no candidate. */
__kernel void pool_spare(__global const float *scores, uint scores_at, int n, __global const uchar *spared,
                         __global float *out) {
    const size_t column = get_global_id(0), at = get_global_id(1) * (size_t)n + column;
    if (column >= n) return;
    out[at] = spared[column] ? INFINITY : scores[scores_at + at];
}
