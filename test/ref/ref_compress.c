/*
 * ref_compress.c - the oracle: everything written out, nothing clever.
 */
#include "ref/ref_compress.h"

#include <math.h>
#include <stdlib.h>

void ref_logits(const float *q, const float *k, size_t stride, int n, int head_dim, double scale,
                double *out) {
    for (int j = 0; j < n; j++) {
        double sum = 0.0;
        for (int d = 0; d < head_dim; d++) sum += (double)q[d] * (double)k[(size_t)j * stride + (size_t)d];
        out[j] = sum * scale;
    }
}

void ref_row(const double *logit, int n, double *max, double *lse) {
    double sum = 0.0;
    *max = -INFINITY;
    for (int j = 0; j < n; j++) *max = fmax(*max, logit[j]);
    for (int j = 0; j < n; j++) sum += exp(logit[j] - *max);
    *lse = *max + log(sum);
}

void ref_budget(const double *sparsity, int layers, double alpha, double recent_share, int tokens, int *kept,
                int *recent) {
    double total = 0.0;
    for (int l = 0; l < layers; l++) total += 1.0 - sparsity[l];
    for (int l = 0; l < layers; l++) {
        double beta = (total > 0.0 ? (1.0 - sparsity[l]) / total : 1.0 / layers) * alpha * layers;
        beta = fmin(fmax(beta, 0.01), 1.0);
        kept[l] = (int)fmin(fmax(round(beta * tokens), 1.0), tokens);
        recent[l] = (int)fmin(fmax(round(recent_share * kept[l]), 1.0), kept[l]);
    }
}

typedef struct entry {
    float score;
    int position;
} entry;

static int better_first(const void *left, const void *right) {
    const entry *a = left, *b = right;
    bool nan_a = isnan(a->score), nan_b = isnan(b->score);
    if (nan_a != nan_b) return nan_a ? 1 : -1;
    if (!nan_a && a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->position - b->position;
}

static int ascending(const void *left, const void *right) {
    return *(const int *)left - *(const int *)right;
}

void ref_topk(const float *score, int tokens, int kept, int recent, int *out) {
    int older = tokens - recent;
    entry *entries = malloc(((size_t)older + 1) * sizeof *entries);
    if (!entries) abort();
    for (int j = 0; j < older; j++) entries[j] = (entry){score[j], j};
    qsort(entries, (size_t)older, sizeof *entries, better_first);
    for (int i = 0; i < kept - recent; i++) out[i] = entries[i].position;
    qsort(out, (size_t)(kept - recent), sizeof *out, ascending);
    for (int i = 0; i < recent; i++) out[kept - recent + i] = older + i;
    free(entries);
}
