/*
 * advance.cl - from one decode step to the next without the host: the chosen tokens become the input, positions and cache
 * lengths count the row that the step before appended.
 *
 *     ids[b] = tokens[b]    row_position[b] += 1    past[i] += 1        b < batch, i < lengths; one work-item each
 */
__kernel void advance(__global const int *tokens, __global int *ids, __global int *row_position, int batch,
                      __global int *past, int lengths) {
    int i = get_global_id(0);
    if (i < batch) {
        ids[i] = tokens[i];
        row_position[i] += 1;
    }
    if (i < lengths) past[i] += 1;
}
