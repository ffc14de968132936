/*
 * patch.cl - the two ends of the patch embedding's matrix product.
 *
 *     patchify: pixels [tiles][3][S][S] -> rows [tiles * G * G][3 * p * p], columns in the order of a convolution's
 *               weights (channel, row, column); G = S / p. Work-item (column, patch).
 *     assemble: [tiles][front + P][hidden]: class embedding (front 1) or patch row, plus position embedding.
 *               Work-item (i, row).
 */
__kernel void patchify(__global const float *pixels, __global float *rows, int side, int patch) {
    int column = get_global_id(0), row = get_global_id(1);
    int grid = side / patch, area = patch * patch;
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
