/*
 * norm.cl - RMSNorm and LayerNorm, a row by each work-group.
 *
 *     rms_norm:   y[r][i] = x[r][i] / sqrt(mean_i x[r][i]^2 + eps) * weight[i]
 *     head_norm:  rms_norm of each head of q and of k, in place in a fused row [q | k | v] of heads of n elements
 *     rms_add:    x[r][i] += rms_norm of y
 *     layer_norm: y[r][i] = (x[r][i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]
 *
 *     work-group r (head_norm: (r, head)), LANES work-items; item t takes i = t, t + LANES, ...; sums meet in local memory.
 *
 * y is f32 rows, or in another FORM (common.clh).
 *
 * build: -DLANES=1
 * build: -DLANES=64 -DFORM=1 -DW_DTYPE=3
 * build: -DLANES=64
 */
#ifndef LANES
#define LANES VLCI_NORM_LANES /* work-items a row, a power of two; 1 on CPUs, where a barrier costs a loop */
#endif

WITH_LOCAL float group_sum(float value, __local float *scratch) {
#if LANES == 1
    return value;
#else
    int t = get_local_id(0);
    scratch[t] = value;
    for (int half_width = LANES / 2; half_width; half_width /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < half_width) scratch[t] += scratch[t + half_width];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE); /* scratch is used again */
    return sum;
#endif
}

__kernel void rms_norm(__global const float *x, uint x_offset, __global const float *weight, __global void *y, int n, float eps) {
    __local float scratch[LANES];
    const int r = get_group_id(0), m = get_num_groups(0);
    __global const float *row = x + x_offset + (size_t)r * n;
    float squares = 0.0f;
    for (int i = get_local_id(0); i < n; i += LANES) squares += row[i] * row[i];
    float scale = 1.0f / sqrt(group_sum(squares, scratch) / (float)n + eps);
    for (int i = get_local_id(0); i < A_WIDTH(n); i += LANES)
        A_PUT(i < n ? row[i] * scale * weight[i] : 0.0f, y, m, n, r, i);
}

__kernel void head_norm(__global float *qkv, __global const float *q_weight, __global const float *k_weight, int heads,
                        int kv_heads, int n, float eps) {
    __local float scratch[LANES];
    const int r = get_group_id(1), head = get_group_id(0);
    __global float *x = qkv + ((size_t)r * (heads + 2 * kv_heads) + head) * n;
    __global const float *weight = head < heads ? q_weight : k_weight;
    float squares = 0.0f;
    for (int i = get_local_id(0); i < n; i += LANES) squares += x[i] * x[i];
    const float scale = 1.0f / sqrt(group_sum(squares, scratch) / (float)n + eps);
    for (int i = get_local_id(0); i < n; i += LANES) x[i] *= scale * weight[i];
}

__kernel void rms_add(__global const float *y, __global const float *weight, __global float *x, uint x_offset, int n, float eps) {
    __local float scratch[LANES];
    const int r = get_group_id(0);
    __global const float *row = y + (size_t)r * n;
    __global float *to = x + x_offset + (size_t)r * n;
    float squares = 0.0f;
    for (int i = get_local_id(0); i < n; i += LANES) squares += row[i] * row[i];
    const float scale = 1.0f / sqrt(group_sum(squares, scratch) / (float)n + eps);
    for (int i = get_local_id(0); i < n; i += LANES) to[i] += row[i] * scale * weight[i];
}

__kernel void layer_norm(__global const float *x, uint x_offset, __global const float *weight, __global const float *bias,
                         __global void *y, int n, float eps) {
    __local float scratch[LANES];
    const int r = get_group_id(0), m = get_num_groups(0);
    __global const float *row = x + x_offset + (size_t)r * n;
    float sum = 0.0f, squares = 0.0f;
    for (int i = get_local_id(0); i < n; i += LANES) sum += row[i];
    float mean = group_sum(sum, scratch) / (float)n;
    for (int i = get_local_id(0); i < n; i += LANES) squares += (row[i] - mean) * (row[i] - mean);
    float scale = 1.0f / sqrt(group_sum(squares, scratch) / (float)n + eps);
    for (int i = get_local_id(0); i < A_WIDTH(n); i += LANES)
        A_PUT(i < n ? (row[i] - mean) * scale * weight[i] + bias[i] : 0.0f, y, m, n, r, i);
}
