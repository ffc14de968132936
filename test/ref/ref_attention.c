/*
 * ref_attention.c - all logits of a row, their maximum, their sum of exponentials, the weighted mean of V.
 */
#include "ref/ref_attention.h"

#include <math.h>
#include <stdlib.h>

/* One query row of sequence b and head h against `n` cached rows; `logit` has room for them. */
static void attend_row(const vlci_attention *a, const ref_inputs *in, int b, int h, const float *q, int n,
                       double *logit, double *out, double *max, double *lse) {
    int kv = h / (a->heads / a->kv_heads);
    size_t base = (size_t)b * a->seq_stride + (size_t)kv * a->head_stride;
    double sum = 0;
    *max = -INFINITY;
    for (int j = 0; j < n; j++) {
        const float *k = in->k + a->k_offset + base + (size_t)j * a->row_stride;
        double dot = 0;
        for (int d = 0; d < a->head_dim; d++) dot += (double)q[d] * (double)k[d];
        logit[j] = dot * (double)a->scale;
        if (in->bias)
            logit[j] += (double)in->bias[(size_t)(b * a->kv_heads + kv) * a->bias_stride + (size_t)j];
        if (logit[j] > *max) *max = logit[j];
    }
    for (int d = 0; d < a->head_dim; d++) out[d] = 0;
    for (int j = 0; j < n; j++) {
        const float *v = in->v + a->v_offset + base + (size_t)j * a->row_stride;
        double p = exp(logit[j] - *max);
        sum += p;
        for (int d = 0; d < a->head_dim; d++) out[d] += p * (double)v[d];
    }
    for (int d = 0; d < a->head_dim; d++) out[d] /= sum;
    *lse = *max + log(sum);
}

void ref_attention(const vlci_attention *a, const ref_inputs *in, double *out, double *row_max,
                   double *row_lse) {
    for (int b = 0; b < a->batch; b++) {
        int first = in->seq_start[b], rows = in->seq_start[b + 1] - first;
        for (int h = 0; h < a->heads; h++) {
            int at = a->past_offset + b * a->kv_heads + h / (a->heads / a->kv_heads);
            int past = in->past ? in->past[at] : 0;
            double *logit = malloc((size_t)(past + rows) * sizeof *logit);
            for (int i = 0; i < rows; i++) {
                size_t row = (size_t)(first + i) * (size_t)a->heads + (size_t)h;
                const float *q =
                    in->q + a->q_offset + (size_t)(first + i) * a->q_stride + (size_t)h * (size_t)a->head_dim;
                attend_row(a, in, b, h, q, past + (a->causal ? i + 1 : rows), logit,
                           out + row * (size_t)a->head_dim, row_max + row, row_lse + row);
            }
            free(logit);
        }
    }
}
