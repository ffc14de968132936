/*
 * rope.cl - rotary positions, and the new rows of the KV cache, in one pass over the fused product [q | k | v].
 *
 *     (x[d], x[d + D/2]) -> (x[d] cos a - x[d + D/2] sin a, x[d + D/2] cos a + x[d] sin a)
 *     a = position[axis[d]] inv_freq[d]       a row's position is three numbers (M-RoPE); they are equal in plain text
 *
 *     rope_phase: phase[r] = scale [cos a(r, 0) .. cos a(r, D/2 - 1) | sin a(r, 0) .. ], once a walk for all layers and
 *     heads.
 *
 *     rope_turn: a stretch of heads of each row, rotated in place: q and k of a tower, which has no cache. Work-item
 *     (d, head, r).
 *
 *     rope_append: q is rotated in place; k (rotated) and v become row (rows there are) + (r - first row of its sequence) of
 *     the cache, with a bias of 0. Keys keep the phase of their logical position for good. Work-item (d, head, r) takes
 *     elements d and d + D/2, d < D/2; head counts q's heads, then k's, then v's. Rows of phase and of qkv begin at
 *     phase_row and 0: a part of a prompt takes its part of the phases. Without phase nothing is turned.
 */
__kernel void rope_phase(__global const float *inv_freq, __global const int *axis, __global const int *row_position,
                         __global float *phase, float scale) {
    const int d = get_global_id(0), r = get_global_id(1), half_dim = get_global_size(0);
    const float angle = (float)row_position[3 * r + axis[d]] * inv_freq[d];
    phase[(size_t)r * half_dim * 2 + d] = scale * cos(angle);
    phase[(size_t)r * half_dim * 2 + half_dim + d] = scale * sin(angle);
}

__kernel void rope_turn(__global float *x, __global const float *phase, uint stride) {
    const int d = get_global_id(0), head = get_global_id(1), r = get_global_id(2), half_dim = get_global_size(0);
    __global const float *turn = phase + (size_t)r * half_dim * 2 + d;
    __global float *at = x + (size_t)r * stride + (size_t)head * half_dim * 2 + d;
    const float c = turn[0], s = turn[half_dim], low = at[0], high = at[half_dim];
    at[0] = low * c - high * s;
    at[half_dim] = high * c + low * s;
}

__kernel void rope_append(__global float *qkv, __global const float *phase, uint phase_row,
                          __global const int *row_sequence, __global const int *seq_start, int heads, int kv_heads,
                          KV_PARAMS) {
    const int d = get_global_id(0), head = get_global_id(1), r = get_global_id(2), half_dim = get_global_size(0);
    __global float *x = qkv + ((size_t)r * (heads + 2 * kv_heads) + head) * half_dim * 2 + d;
    float low = x[0], high = x[half_dim];
    if (phase && head < heads + kv_heads) {
        __global const float *turn = phase + ((size_t)phase_row + r) * half_dim * 2 + d;
        const float c = turn[0], s = turn[half_dim], was = low;
        low = was * c - high * s;
        high = high * c + was * s;
    }
    if (head < heads) {
        x[0] = low;
        x[half_dim] = high;
        return;
    }
    const int b = row_sequence[r];
    const kv_view h = kv_find(KV_PASS, b, (head - heads) % kv_heads, kv_heads);
    const int row = h.rows + r - seq_start[b];
    const size_t at = kv_at(&h, row) + d;
    if (head < heads + kv_heads) {
        KV_STORE(low, h.k, at);
        KV_STORE(high, h.k, at + half_dim);
        if (bias && d == 0) bias[kv_row(&h, row)] = 0.0f;
    } else {
        KV_STORE(low, h.v, at);
        KV_STORE(high, h.v, at + half_dim);
    }
}
