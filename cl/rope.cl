/*
 * rope.cl - rotary positions, and the new rows of the KV cache, in one pass over the fused product [q | k | v].
 *
 *     (x[d], x[d + D/2]) -> (x[d] cos a - x[d + D/2] sin a, x[d + D/2] cos a + x[d] sin a),   a = position * inv_freq[d]
 *
 *     q is rotated in place; k (rotated) and v go to cache row past + (r - first row of its sequence). Work-item (head, r), head
 *     counting q's heads, then k's, then v's. Keys keep the phase of their logical position for good.
 */
static void rotate(__global const float *x, float position, __global const float *inv_freq, int d, int half_dim,
                   float *low, float *high) {
    float angle = position * inv_freq[d], c = cos(angle), s = sin(angle);
    float a = x[d], b = x[d + half_dim];
    *low = a * c - b * s;
    *high = b * c + a * s;
}

__kernel void rope_append(__global float *qkv, __global const float *inv_freq, __global const int *row_position,
                          __global const int *row_sequence, __global const int *seq_start, __global const int *past, int past_offset,
                          __global kv_t *k, __global kv_t *v, int heads, int kv_heads, int head_dim, uint seq_stride,
                          uint head_stride, uint row_stride) {
    int head = get_global_id(0), r = get_global_id(1), half_dim = head_dim / 2;
    __global float *x = qkv + ((size_t)r * (heads + 2 * kv_heads) + head) * head_dim;
    float position = (float)row_position[r], low, high;
    if (head < heads) {
        for (int d = 0; d < half_dim; d++) {
            rotate(x, position, inv_freq, d, half_dim, &low, &high);
            x[d] = low;
            x[d + half_dim] = high;
        }
        return;
    }
    int b = row_sequence[r], kv = (head - heads) % kv_heads;
    size_t row = (size_t)past[past_offset + b * kv_heads + kv] + r - seq_start[b];
    size_t at = (size_t)b * seq_stride + (size_t)kv * head_stride + row * row_stride;
    if (head < heads + kv_heads) {
        for (int d = 0; d < half_dim; d++) {
            rotate(x, position, inv_freq, d, half_dim, &low, &high);
            KV_STORE(low, k, at + d);
            KV_STORE(high, k, at + d + half_dim);
        }
    } else {
        for (int d = 0; d < head_dim; d++) KV_STORE(x[d], v, at + d);
    }
}
