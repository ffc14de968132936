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
/* 4 neighbours, aligned as what they are together. */
#if KV_DTYPE == VLCI_DTYPE_F32
#define KV_STORE4(v, p) (*(__global float4 *)(p) = (v))
#elif KV_DTYPE == VLCI_DTYPE_F16
#define KV_STORE4(v, p) vstorea_half4_rte((v), 0, (p))
#else
#define KV_STORE4(v, p) (*(__global ushort4 *)(p) = f32_to_bf16_4(v))
#endif

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

/* As rope_put(), of 4 neighbours of each half. */
static inline void put4(float4 low, float4 high, __global float *y, int d, int head, int r, int half_dim, ROPE_PARAMS) {
    if (phase && head < heads + kv_heads) {
        __global const float *turn = phase + ((size_t)phase_row + r) * half_dim * 2 + d;
        const float4 c = *(__global const float4 *)turn, s = *(__global const float4 *)(turn + half_dim), was = low;
        low = was * c - high * s;
        high = high * c + was * s;
    }
    if (head < heads) {
        y += (size_t)head * half_dim * 2 + d;
        *(__global float4 *)y = low;
        *(__global float4 *)(y + half_dim) = high;
        return;
    }
    const int b = row_sequence[r];
    const kv_view h = kv_find(KV_PASS, b, (head - heads) % kv_heads, kv_heads);
    const int row = h.rows + r - seq_start[b];
    __global kv_t *to = (head < heads + kv_heads ? h.k : h.v) + kv_at(&h, row) + d;
    KV_STORE4(low, to);
    KV_STORE4(high, to + half_dim);
    if (bias && d == 0 && head < heads + kv_heads) bias[kv_row(&h, row)] = 0.0f;
}

__kernel void rope_append4(__global float *qkv, ROPE_PARAMS, int half_dim) {
    const int i = get_global_id(0), head = i / (half_dim / 4), d = i % (half_dim / 4) * 4, r = get_global_id(1);
    if (head >= heads + 2 * kv_heads) return;
    __global float *y = qkv + (size_t)r * (heads + 2 * kv_heads) * half_dim * 2;
    __global const float *x = y + (size_t)head * half_dim * 2 + d;
    put4(*(__global const float4 *)x, *(__global const float4 *)(x + half_dim), y, d, head, r, half_dim, ROPE_PASS);
}
