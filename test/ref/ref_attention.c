/*
 * ref_attention.c - all logits of a row, their maximum, their sum of exponentials, the weighted mean of V.
 */
#include "ref/ref_attention.h"

#include <math.h>
#include <stdlib.h>

static double capped(double logit, double cap) {
    return cap > 0 ? cap * tanh(logit / cap) : logit;
}

/* One query row against cached rows from .. n - 1; `logit` has room for n. */
static void attend_row(const ref_rows *rows, const float *q, int dim, double scale, double cap, int from,
                       int n, double *logit, double *out, double *max, double *lse) {
    double sum = 0;
    *max = -INFINITY;
    for (int j = from; j < n; j++) {
        const float *k = rows->k + (size_t)j * rows->stride;
        double dot = 0;
        for (int d = 0; d < dim; d++) dot += (double)q[d] * (double)k[d];
        logit[j] = capped(dot * scale, cap) + (rows->bias ? (double)rows->bias[j] : 0);
        if (logit[j] > *max) *max = logit[j];
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = from; j < n; j++) {
        const float *v = rows->v + (size_t)j * rows->stride;
        double p = exp(logit[j] - *max);
        sum += p;
        for (int d = 0; d < dim; d++) out[d] += p * (double)v[d];
    }
    for (int d = 0; d < dim; d++) out[d] /= sum;
    *lse = *max + log(sum);
}

void ref_attention(const vlci_attention_shape *s, const vlci_attention *a, const ref_inputs *in, double *out,
                   double *row_max, double *row_lse) {
    size_t dim = (size_t)s->head_dim;
    for (int b = 0; b < a->batch; b++) {
        int first = in->seq_start[b], rows = in->seq_start[b + 1] - first;
        for (int h = 0; h < s->heads; h++) {
            const ref_rows *held = &in->head[b * s->kv_heads + h / (s->heads / s->kv_heads)];
            double *logit = malloc((size_t)(held->past + rows + 1) * sizeof *logit);
            for (int i = 0; i < rows; i++) {
                size_t row = (size_t)(first + i) * (size_t)s->heads + (size_t)h;
                const float *q = in->q + a->q_offset + (size_t)(first + i) * a->q_stride + (size_t)h * dim;
                int seen = held->past + (a->causal ? i + 1 : rows);
                int from = a->window && seen > a->window ? seen - a->window : 0;
                attend_row(held, q, s->head_dim, (double)a->scale, (double)s->cap, from, seen, logit,
                           out + row * dim, row_max + row, row_lse + row);
            }
            free(logit);
        }
    }
}
