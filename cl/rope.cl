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
 *     rope_append: q is rotated in place, k and v go into the cache (rope.clh). Work-item (d, head, r) takes elements d and
 *     d + D/2, d < D/2; head counts q's heads, then k's, then v's.
 *
 *     rope_turn4, rope_append4: the same of 4 neighbours of each half at a time. Work-item (i, r): i counts them in a row, head
 *     by head. D / 2 is a multiple of 4, as are strides and offsets.
 *
 * with: rope.clh
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

__kernel void rope_append(__global float *qkv, ROPE_PARAMS) {
    const int d = get_global_id(0), head = get_global_id(1), r = get_global_id(2), half_dim = get_global_size(0);
    __global float *y = qkv + (size_t)r * (heads + 2 * kv_heads) * half_dim * 2;
    __global const float *x = y + (size_t)head * half_dim * 2 + d;
    rope_put(x[0], x[half_dim], y, d, head, r, half_dim, ROPE_PASS);
}

__kernel void rope_turn4(__global float *x, __global const float *phase, uint stride, int heads, int half_dim) {
    const int i = get_global_id(0), head = i / (half_dim / 4), d = i % (half_dim / 4) * 4, r = get_global_id(1);
    if (head >= heads) return;
    __global const float *turn = phase + (size_t)r * half_dim * 2 + d;
    __global float *at = x + (size_t)r * stride + (size_t)head * half_dim * 2 + d;
    const float4 c = *(__global const float4 *)turn, s = *(__global const float4 *)(turn + half_dim);
    const float4 low = *(__global const float4 *)at, high = *(__global const float4 *)(at + half_dim);
    *(__global float4 *)at = low * c - high * s;
    *(__global float4 *)(at + half_dim) = high * c + low * s;
}

__kernel void rope_append4(__global float *qkv, ROPE_PARAMS, int half_dim) {
    const int i = get_global_id(0), head = i / (half_dim / 4), d = i % (half_dim / 4) * 4, r = get_global_id(1);
    if (head >= heads + 2 * kv_heads) return;
    __global float *y = qkv + (size_t)r * (heads + 2 * kv_heads) * half_dim * 2;
    __global const float *x = y + (size_t)head * half_dim * 2 + d;
    rope_put4(*(__global const float4 *)x, *(__global const float4 *)(x + half_dim), y, d, head, r, half_dim, ROPE_PASS);
}
