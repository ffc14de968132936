/*
 * attention.cl - softmax(scale q k^T) v over cached rows, blocked, never N x N. The rung that runs anywhere.
 *
 *     Work-item (i, h, b): query row i of sequence b, head h. It walks its visible rows in blocks of 16:
 *
 *         s[16] = scale * q . k[j .. j+15]     m' = max(m, max s)     l = l e^(m-m') + sum e^(s-m')
 *         acc[D] = acc e^(m-m') + sum_j e^(s_j-m') v[j]               out = acc / l
 *
 *     m is the row's largest logit, m + log l its log-sum-exp. No barrier, no local memory; D/8 accumulators of 8 floats.
 *
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 * build: -DHEAD_DIM=128
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#define CHUNKS (HEAD_DIM / 8)
enum { BLOCK = 16 };

static float sum8(float8 x) {
    float4 y = x.lo + x.hi;
    return (y.x + y.y) + (y.z + y.w);
}

static float8 kv_load8(__global const kv_t *p, size_t i) { return (float8)(KV_LOAD4(p, i), KV_LOAD4(p, i + 4)); }

static float dot_row(const float8 *q, __global const kv_t *k, size_t at) {
    float8 sum = 0.0f;
    for (int c = 0; c < CHUNKS; c++) sum = fma(q[c], kv_load8(k, at + 8 * c), sum);
    return sum8(sum);
}

__kernel void attention_rows(__global const float *q, __global const kv_t *k, __global const kv_t *v, __global float *out,
                             __global const int *seq_start, __global const int *past, int past_offset, __global float *row_max,
                             __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset,
                             uint q_stride, uint k_offset, uint v_offset, uint seq_stride, uint head_stride,
                             uint row_stride) {
    int i = get_global_id(0), h = get_global_id(1), b = get_global_id(2);
    int first = seq_start[b], rows = seq_start[b + 1] - first;
    if (i >= rows) return;
    int kv = h / (heads / kv_heads);
    int visible = (past ? past[past_offset + b * kv_heads + kv] : 0) + (causal ? i + 1 : rows);
    size_t base = (size_t)b * seq_stride + (size_t)kv * head_stride;
    float8 query[CHUNKS], acc[CHUNKS];
    __global const float *q_row = q + q_offset + (size_t)(first + i) * q_stride + (size_t)h * HEAD_DIM;
    for (int c = 0; c < CHUNKS; c++) {
        query[c] = vload8(c, q_row) * scale;
        acc[c] = 0.0f;
    }
    float m = -INFINITY, l = 0.0f;
    for (int j = 0; j < visible; j += BLOCK) {
        int n = min((int)BLOCK, visible - j);
        float s[BLOCK], block_max = m;
        for (int t = 0; t < n; t++) {
            s[t] = dot_row(query, k, k_offset + base + (size_t)(j + t) * row_stride);
            block_max = fmax(block_max, s[t]);
        }
        float keep = exp(m - block_max);
        m = block_max;
        l *= keep;
        for (int c = 0; c < CHUNKS; c++) acc[c] *= keep;
        for (int t = 0; t < n; t++) {
            float p = exp(s[t] - m);
            l += p;
            for (int c = 0; c < CHUNKS; c++)
                acc[c] = fma((float8)p, kv_load8(v, v_offset + base + (size_t)(j + t) * row_stride + 8 * c), acc[c]);
        }
    }
    size_t row = (size_t)(first + i) * heads + h;
    for (int c = 0; c < CHUNKS; c++) vstore8(acc[c] / l, c, out + row * HEAD_DIM);
    if (row_max) row_max[row] = m;
    if (row_lse) row_lse[row] = m + log(l);
}
