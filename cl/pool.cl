/*
 * pool.cl - scores of neighbours seen together before tokens are chosen.
 *
 *     merged(j)  = sum over kv heads of score(kv, j)                            one set a layer
 *     line(j)    = max over |i| <= width / 2 of score(j + i)                    neighbours in the prompt
 *     grid(y, x) = max over |u| <= rows / 2, |v| <= columns / 2 of score(y + u, x + v)
 *                                                                               neighbours in the picture
 *
 * A grid is {sequence, first token, rows, columns, stride}: token (y, x) stands at first + y * stride + x; tokens in no
 * grid (text, a class token, the end-of-row token at x = columns) keep their score. Windows end at the borders. One
 * work-item a column; NaN loses against any number.
 */

/* The sum over kv heads, in the order of the heads, stands for each of them. */
__kernel void pool_heads(__global const float *scores, uint stride, int kv_heads, __global float *out) {
    const size_t column = get_global_id(0), b = get_global_id(1);
    if (column >= stride) return;
    const size_t at = b * kv_heads * stride + column;
    float sum = 0.0f;
    for (int kv = 0; kv < kv_heads; kv++) sum += scores[at + (size_t)kv * stride];
    for (int kv = 0; kv < kv_heads; kv++) out[at + (size_t)kv * stride] = sum;
}

__kernel void pool_line(__global const float *scores, uint stride, int kv_heads, __global const int *tokens, int width,
                        __global float *out) {
    const int column = get_global_id(0), row = get_global_id(1), n = tokens[row / kv_heads];
    if (column >= n) return;
    __global const float *score = scores + (size_t)row * stride;
    float best = score[column];
    for (int j = max(0, column - width / 2); j <= min(n - 1, column + width / 2); j++) best = fmax(best, score[j]);
    out[(size_t)row * stride + column] = best;
}

__kernel void pool_grid(__global const float *scores, uint stride, int kv_heads, __global const int *tokens,
                        __global const int *grids, int n_grids, int rows, int columns, __global float *out) {
    const int column = get_global_id(0), row = get_global_id(1), b = row / kv_heads;
    if (column >= tokens[b]) return;
    __global const float *score = scores + (size_t)row * stride;
    float best = score[column];
    for (int g = 0; g < n_grids; g++) {
        const int first = grids[5 * g + 1], height = grids[5 * g + 2], width = grids[5 * g + 3], step = grids[5 * g + 4];
        const int y = (column - first) / step, x = (column - first) % step;
        if (grids[5 * g] != b || column < first || y >= height || x >= width) continue;
        for (int u = max(0, y - rows / 2); u <= min(height - 1, y + rows / 2); u++)
            for (int v = max(0, x - columns / 2); v <= min(width - 1, x + columns / 2); v++)
                best = fmax(best, score[first + u * step + v]);
        break;
    }
    out[(size_t)row * stride + column] = best;
}
