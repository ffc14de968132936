/*
 * norm.cl - RMSNorm and LayerNorm, a row by each work-group.
 *
 *     rms_norm:   y[r][i] = x[r][i] / sqrt(mean_i x[r][i]^2 + eps) * weight[i]
 *     head_norm:  rms_norm of each head of q and of k, in place in a fused row [q | k | v] of heads of n elements
 *     rms_add:    x[r][i] += rms_norm of y
 *     layer_norm: y[r][i] = (x[r][i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]
 *
 *     work-group r (head_norm: (r, head)), LANES work-items; item t takes i = t, t + LANES, ...; sums meet in local memory.
 *     HELD: rms_norm and layer_norm of rows of whole vectors of 4, of which a work-item has HELD at most, and reads them once.
 *
 * y is f32 rows, or in another FORM (common.clh).
 *
 * build: -DLANES=1
 * build: -DLANES=64 -DFORM=1 -DW_DTYPE=3
 * build: -DLANES=64
 * build: -DLANES=64 -DHELD=8
 * build: -DLANES=64 -DHELD=8 -DFORM=1 -DW_DTYPE=3
 */
#ifndef LANES
#define LANES VLCI_NORM_LANES /* work-items a row, a power of two; 1 on CPUs, where a barrier costs a loop */
#endif

#ifndef HELD
#define HELD 0
#endif

/* Of all work-items: 16 of them add what theirs is of the others, then each adds those: few barriers. */
WITH_LOCAL float group_sum(float value, __local float *scratch) {
#if LANES == 1
    return value;
#else
    const int t = get_local_id(0), last = min(LANES, 16);
    scratch[t] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (LANES > last) {
        for (int i = t + last; t < last && i < LANES; i += last) value += scratch[i];
        if (t < last) scratch[t] = value;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    float sum = scratch[0];
    for (int i = 1; i < last; i++) sum += scratch[i];
    barrier(CLK_LOCAL_MEM_FENCE); /* scratch is used again */
    return sum;
#endif
}

/* What a work-item has of sum_i (row[i] - mean), or of their squares; where it has all, by vectors, since an addition waits
 * for the one before. */
static inline float own_sum(__global const float *row, float mean, bool squares, int n) {
    float sum = 0.0f;
    int i = get_local_id(0);
#if LANES == 1
    float16 sums = 0.0f;
    for (; i + 16 <= n; i += 16) {
        const float16 v = vload16(0, row + i) - mean;
        sums += squares ? v * v : v;
    }
    sum = sum8(sums.lo + HIGH8(float8, sums));
#endif
    for (; i < n; i += LANES) {
        const float v = row[i] - mean;
        sum += squares ? v * v : v;
    }
    return sum;
}

/* y[r] = (row - mean) scale weight + bias; bias NULL: none. */
static inline void put_row(__global const float *row, float mean, float scale, __global const float *weight,
                           __global const float *bias, __global void *y, int m, int n, int r) {
    int i = get_local_id(0);
#if LANES == 1 && FORM != VLCI_FORM_STRIPES
    for (; i + 16 <= n; i += 16) {
        const float16 v = (vload16(0, row + i) - mean) * scale * vload16(0, weight + i);
        A_PUT16(bias ? v + vload16(0, bias + i) : v, y, n, r, i);
    }
#endif
    for (; i < A_WIDTH(n); i += LANES) {
        const float v = i < n ? (row[i] - mean) * scale * weight[i] : 0.0f;
        A_PUT(bias && i < n ? v + bias[i] : v, y, m, n, r, i);
    }
}

#if HELD
/* The whole of a norm: of what is left of its mean, or with mean 0; bias NULL: none. */
WITH_LOCAL void norm_held(__global const float *row, int centred, __global const float *weight, __global const float *bias,
                          __global void *y, int m, int n, int r, float eps, __local float *scratch) {
    const int first = 4 * (int)get_local_id(0);
    float4 v[HELD], by[HELD], sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        const int i = first + j * 4 * LANES;
        v[j] = by[j] = 0.0f;
        if (i < n) {
            v[j] = *(__global const float4 *)(row + i);
            by[j] = *(__global const float4 *)(weight + i);
        }
        sum += v[j];
    }
    const float mean = centred ? group_sum((sum.x + sum.y) + (sum.z + sum.w), scratch) / (float)n : 0.0f;
#pragma unroll
    for (int j = 0; j < HELD; j++)
        if (first + j * 4 * LANES < n) {
            v[j] -= mean;
            squares += v[j] * v[j];
        }
    const float all = group_sum((squares.x + squares.y) + (squares.z + squares.w), scratch);
    const float scale = 1.0f / sqrt(all / (float)n + eps);
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        const int i = first + j * 4 * LANES;
        float4 put = v[j] * scale * by[j];
        if (bias && i < n) put += *(__global const float4 *)(bias + i);
        if (i < A_WIDTH(n)) A_PUT4(put, y, m, n, r, i);
    }
}
#endif

__kernel void rms_norm(__global const float *x, uint x_offset, __global const float *weight, __global void *y, int n, float eps) {
    __local float scratch[LANES];
    const int r = get_group_id(0), m = get_num_groups(0);
    __global const float *row = x + x_offset + (size_t)r * n;
#if HELD
    norm_held(row, false, weight, 0, y, m, n, r, eps, scratch);
#else
    const float scale = 1.0f / sqrt(group_sum(own_sum(row, 0.0f, true, n), scratch) / (float)n + eps);
    put_row(row, 0.0f, scale, weight, 0, y, m, n, r);
#endif
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
#if HELD
    norm_held(row, true, weight, bias, y, m, n, r, eps, scratch);
#else
    const float mean = group_sum(own_sum(row, 0.0f, false, n), scratch) / (float)n;
    const float scale = 1.0f / sqrt(group_sum(own_sum(row, mean, true, n), scratch) / (float)n + eps);
    put_row(row, mean, scale, weight, bias, y, m, n, r);
#endif
}
