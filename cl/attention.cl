/*
 * attention.cl - softmax(scale q k^T) v over cached rows, blocked, never N x N. The rung that runs anywhere.
 *
 *     Work-item (i, h, b): query row i of sequence b, head h. It walks its visible rows in blocks of 8:
 *
 *         s[8] = scale * q . k[j .. j+7]       m' = max(m, max s)     l = l e^(m-m') + sum e^(s-m')
 *         acc[D] = acc e^(m-m') + sum_j e^(s_j-m') v[j]               out = acc / l
 *
 *     m is the row's largest logit, m + log l its log-sum-exp. No barrier, no local memory. Only acc stays in registers
 *     (D/8 vectors of 8 floats); q is read again for each block. Rows beyond the last repeat it with a logit of minus
 *     infinity. WINDOWED: a query sees the last `window` rows that are visible to it, no others.
 *
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=80
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=256 -DWINDOWED=1 -DSOFT_CAP=50.0f
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 8 */
#endif
#define CHUNKS (HEAD_DIM / 8)
enum { BLOCK = 8 /* divides VLCI_KV_PAGE */ };

/* s[t] = scale * q . k[min(t, n-1)], from element `at` on: a block lies within a page */
static inline void dot_rows(__global const float *q, float scale, const kv_view *h, size_t at, int n, float *s) {
#pragma unroll
    for (int t = 0; t < BLOCK; t++) s[t] = 0.0f;
    for (int c = 0; c < CHUNKS; c++) {
        const float8 part = vload8(c, q) * scale;
#pragma unroll
        for (int t = 0; t < BLOCK; t++)
            s[t] += sum8(part * KV_LOAD8(h->k, at + (size_t)min(t, n - 1) * h->row_stride + 8 * c));
    }
}

__kernel void attention_rows(
    __global const float *q, __global float *out, __global const int *seq_start, __global float *row_max,
    __global float *row_lse, int heads, int kv_heads, int causal, float scale, uint q_offset, uint q_stride, KV_PARAMS WINDOW_PARAM) {
    const int i = (int)get_global_id(0), h = (int)get_global_id(1), b = (int)get_global_id(2);
    const int first = seq_start[b], rows = seq_start[b + 1] - first, kv = h / (heads / kv_heads);
    if (i >= rows) return;
    const kv_view kv_rows = kv_find(KV_PASS, b, kv, kv_heads);
    const int visible = kv_rows.rows + (causal ? i + 1 : rows);
    const int from = FIRST_SEEN(visible);
    const size_t row = (size_t)(first + i) * heads + h;
    q += (size_t)q_offset + (size_t)(first + i) * q_stride + (size_t)h * HEAD_DIM;
    float8 acc[CHUNKS];
    for (int c = 0; c < CHUNKS; c++) acc[c] = 0.0f;
    float m = -INFINITY, l = 0.0f;
    for (int j = from / BLOCK * BLOCK; j < visible; j += BLOCK) {
        const int n = min((int)BLOCK, visible - j);
        const size_t at = kv_at(&kv_rows, j);
        float s[BLOCK], top = m;
        dot_rows(q, scale, &kv_rows, at, n, s);
#pragma unroll
        for (int t = 0; t < BLOCK; t++) {
            s[t] = CAPPED(s[t]);
            if (kv_rows.bias) s[t] += kv_rows.bias[kv_row(&kv_rows, j) + min(t, n - 1)];
            s[t] = (t < n) & (!WINDOWED | (j + t >= from)) ? s[t] : -INFINITY;
            top = fmax(top, s[t]);
        }
        const float keep = exp(m - top);
        m = top;
        l *= keep;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) acc[c] *= keep;
#pragma unroll
        for (int t = 0; t < BLOCK; t++) {
            const float p = exp(s[t] - m);
            const size_t value = at + (size_t)min(t, n - 1) * row_stride;
            l += p;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) acc[c] += p * KV_LOAD8(kv_rows.v, value + 8 * c);
        }
    }
    for (int c = 0; c < CHUNKS; c++) vstore8(acc[c] / l, c, out + row * HEAD_DIM);
    if (row_max) row_max[row] = m;
    if (row_lse) row_lse[row] = m + log(l);
}
