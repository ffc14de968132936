/*
 * compact.cl - gathers the kept rows of K or V of one layer into a smaller buffer. Rows are moved as bits: never rounded,
 * never rotated again.
 *
 *     to(b, h, r) = from(b, h, r)                        r < first: rows of earlier turns stay
 *                   from(b, h, first + kept(b, h, r - first))    the kept ones, ascending
 *
 *     from  | earlier | . x . . x x . . . x |      first = past + rows - tokens
 *     to    | earlier | x x x x |  room  |
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

__kernel void compact(__global const bits_t *from, uint from_offset, uint from_seq, uint from_head, uint from_row,
                      __global const int *seq_start, __global const int *past, int past_offset, __global const int *tokens,
                      __global const int *kept, uint kept_first, __global const int *positions, uint positions_stride,
                      int kv_heads,
                      __global bits_t *to, uint to_offset, uint to_seq, uint to_head, uint to_row, int capacity) {
    const int h = get_group_id(1), b = get_group_id(2);
    const int first = (past ? past[past_offset + b * kv_heads + h] : 0) + seq_start[b + 1] - seq_start[b] - tokens[b];
    const int rows = min(first + kept[kept_first + b], capacity);
    __global const int *position = positions + ((size_t)b * kv_heads + h) * positions_stride;
    from += from_offset + (size_t)b * from_seq + (size_t)h * from_head;
    to += to_offset + (size_t)b * to_seq + (size_t)h * to_head;
    for (int r = get_group_id(0); r < rows; r += get_num_groups(0)) {
        const int source = r < first ? r : first + position[r - first];
        for (int d = get_local_id(0); d < HEAD_DIM; d += get_local_size(0))
            to[(size_t)r * to_row + d] = from[(size_t)source * from_row + d];
    }
}
