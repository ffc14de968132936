/*
 * compact.cl - gathers the rows of K or V of one layer that stay into a smaller buffer. Rows are moved as bits: never
 * rounded, never rotated again.
 *
 *     from  | earlier | . x . . x x . . . x | decoded |          the prompt's tokens[b] rows begin at before[b, h]
 *     to    | earlier | x x x x | centroids | decoded | room |   kmeans.cl writes the centroids
 *
 * A work-group copies rows group, group + groups, ... of one (kv head, sequence), its work-items along the dimensions.
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#if KV_DTYPE == 1
typedef uint bits_t;
#else
typedef ushort bits_t;
#endif

/* Row of the old buffer that comes to row r of the new one; -1: none does. */
static int source_row(int r, int first, int tokens, int kept, int centroids, int decoded, __global const int *position) {
    if (r < first) return r;
    if (r < first + kept) return first + position[r - first];
    const int i = r - first - kept - centroids;
    return i >= 0 && i < decoded ? first + tokens + i : -1;
}

__kernel void compact(__global const bits_t *from, uint from_offset, uint from_seq, uint from_head, uint from_row,
                      __global const int *before, int before_offset, __global const int *tokens,
                      __global const int *kept, __global const int *centroids, uint layer, int decoded,
                      __global const int *positions, uint positions_stride, int kv_heads, __global bits_t *to,
                      uint to_offset, uint to_seq, uint to_head, uint to_row, int capacity) {
    const int h = get_group_id(1), b = get_group_id(2);
    const int first = before[before_offset + b * kv_heads + h], stay = kept[layer + b], means = centroids[layer + b];
    const int rows = min(first + stay + means + decoded, capacity);
    __global const int *position = positions + ((size_t)b * kv_heads + h) * positions_stride;
    from += from_offset + (size_t)b * from_seq + (size_t)h * from_head;
    to += to_offset + (size_t)b * to_seq + (size_t)h * to_head;
    for (int r = get_group_id(0); r < rows; r += get_num_groups(0)) {
        const int source = source_row(r, first, tokens[b], stay, means, decoded, position);
        for (int d = get_local_id(0); source >= 0 && d < HEAD_DIM; d += get_local_size(0))
            to[(size_t)r * to_row + d] = from[(size_t)source * from_row + d];
    }
}

/* Logit biases [batch][kv_heads][capacity] of the new buffer: those of earlier rows stay, all others are zero. One
 * work-item a row. */
__kernel void compact_bias(__global const float *from, int from_capacity, __global const int *before, int before_offset,
                           int kv_heads, __global float *to, int capacity) {
    const int r = get_global_id(0), row = get_global_id(1);
    if (r >= capacity) return;
    const int first = before[before_offset + row];
    to[(size_t)row * capacity + r] = from && r < first ? from[(size_t)row * from_capacity + r] : 0.0f;
}
