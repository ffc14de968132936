/*
 * patch.cl - the two ends of the patch embedding's matrix product.
 *
 *     patchify: pixels [tiles][3][S][S] -> rows [tiles * G * G][3 * p * p], columns in the order of a convolution's
 *               weights (channel, row, column); G = S / p. Work-item (column, patch), columns up to whole work-groups.
 *     assemble: [tiles][front + P][hidden]: class embedding (front 1) or patch row, plus position embedding.
 *               Work-item (i, row).
 *
 * Where a tower takes any size, place[row] says which patch stands in a row: its (step in time, row, column).
 *
 *     patchify_at: pixels [frames][3][H][W] -> rows [..][3 * T * p * p], columns (channel, frame of the step, row, column);
 *                  a step is T frames, the last is repeated where they end. Work-item (column, row), columns as before.
 *     add_table:   x[row] += a table of side x side rows, stretched over the grid of rows x columns patches corner to
 *                  corner, bilinear. Work-item (i, row).
 */
__kernel void patchify(__global const float *pixels, __global float *rows, int side, int patch) {
    int column = get_global_id(0), row = get_global_id(1);
    int grid = side / patch, area = patch * patch;
    if (column >= 3 * area) return;
    int tile = row / (grid * grid), at = row % (grid * grid);
    int channel = column / area, y = (at / grid) * patch + column % area / patch;
    int x = (at % grid) * patch + column % patch;
    rows[(size_t)row * 3 * area + column] = pixels[(((size_t)tile * 3 + channel) * side + y) * side + x];
}

__kernel void assemble(__global const float *patches, __global const float *class_embedding,
                       __global const float *position, __global float *y, int front, int per_tile, int hidden) {
    int i = get_global_id(0), row = get_global_id(1);
    int tile = row / (per_tile + front), at = row % (per_tile + front);
    size_t patch = (size_t)tile * per_tile + at - front;
    float value = at >= front ? patches[patch * hidden + i] : class_embedding[i];
    y[(size_t)row * hidden + i] = value + position[(size_t)at * hidden + i];
}

__kernel void patchify_at(__global const float *pixels, __global float *rows, __global const int *place, int first,
                          int frames, int height, int width, int patch, int step) {
    const int column = get_global_id(0), row = get_global_id(1), area = patch * patch;
    if (column >= 3 * step * area) return;
    place += 3 * (size_t)(first + row);
    const int channel = column / (step * area), frame = place[0] * step + column / area % step;
    const int y = place[1] * patch + column % area / patch, x = place[2] * patch + column % patch;
    rows[(size_t)row * 3 * step * area + column] =
        pixels[(((size_t)min(frame, frames - 1) * 3 + channel) * height + y) * width + x];
}

/* Where position `at` of `size` falls on an axis of `side` entries: entry low, and how far towards the next. */
static inline float stretch(int at, int size, int side, int *low) {
    const float source = (float)(at * (side - 1)) / (float)max(size - 1, 1);
    *low = min((int)source, side - 1);
    return source - (float)*low;
}

__kernel void add_table(__global float *x, __global const float *table, __global const int *place, int rows, int columns,
                        int side, int hidden) {
    const int i = get_global_id(0), row = get_global_id(1);
    int top, left;
    const float down = stretch(place[3 * row + 1], rows, side, &top);
    const float across = stretch(place[3 * row + 2], columns, side, &left);
    const int below = min(top + 1, side - 1), right = min(left + 1, side - 1);
#define ENTRY(r, c) table[((size_t)(r) * side + (c)) * hidden + i]
    x[(size_t)row * hidden + i] += ENTRY(top, left) * ((1.0f - down) * (1.0f - across)) +
                                   ENTRY(top, right) * ((1.0f - down) * across) +
                                   ENTRY(below, left) * (down * (1.0f - across)) + ENTRY(below, right) * (down * across);
}
