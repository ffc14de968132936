/*
 * rope.cl - rotary positions, and the new rows of the KV cache, in one pass over the fused product [q | k | v].
 *
 *     (x[d], x[d + D/2]) -> (x[d] cos a - x[d + D/2] sin a, x[d + D/2] cos a + x[d] sin a), a = position inv_freq[d]
 *
 *     rope_phase: phase[r] = [cos a(r, 0) .. cos a(r, D/2 - 1) | sin a(r, 0) .. ], once a walk for all layers and heads.
 *
 *     q is rotated in place; k (rotated) and v go to cache row past + (r - first row of its sequence). Keys keep the
 *     phase of their logical position for good. Work-item (d, head, r) takes elements d and d + D/2, d < D/2; head
 *     counts q's heads, then k's, then v's.
 */
__kernel void rope_phase(__global const float *inv_freq, __global const int *row_position, __global float *phase) {
    const int d = get_global_id(0), r = get_global_id(1), half_dim = get_global_size(0);
    const float angle = (float)row_position[r] * inv_freq[d];
    phase[(size_t)r * half_dim * 2 + d] = cos(angle);
    phase[(size_t)r * half_dim * 2 + half_dim + d] = sin(angle);
}

__kernel void rope_append(__global float *qkv, __global const float *phase, __global const int *row_sequence,
                          __global const int *seq_start, __global const int *past, int past_offset, __global kv_t *k,
                          __global kv_t *v, int heads, int kv_heads, uint seq_stride, uint head_stride,
                          uint row_stride) {
    const int d = get_global_id(0), head = get_global_id(1), r = get_global_id(2), half_dim = get_global_size(0);
    __global float *x = qkv + ((size_t)r * (heads + 2 * kv_heads) + head) * half_dim * 2 + d;
    float low = x[0], high = x[half_dim];
    if (head < heads + kv_heads) {
        __global const float *turn = phase + (size_t)r * half_dim * 2 + d;
        const float c = turn[0], s = turn[half_dim], was = low;
        low = was * c - high * s;
        high = high * c + was * s;
    }
    if (head < heads) {
        x[0] = low;
        x[half_dim] = high;
        return;
    }
    const int b = row_sequence[r], kv = (head - heads) % kv_heads;
    const size_t row = (size_t)past[past_offset + b * kv_heads + kv] + r - seq_start[b];
    const size_t at = (size_t)b * seq_stride + (size_t)kv * head_stride + row * row_stride + d;
    if (head < heads + kv_heads) {
        KV_STORE(low, k, at);
        KV_STORE(high, k, at + half_dim);
    } else {
        KV_STORE(low, v, at);
        KV_STORE(high, v, at + half_dim);
    }
}
