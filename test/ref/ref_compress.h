/**
 * ref_compress.h - VL-Cache in double, one loop after the other, as an oracle.
 */
#ifndef TEST_REF_COMPRESS_H
#define TEST_REF_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>

/** Logits of one query over `n` keys: scale * q . k_j; keys `stride` floats apart. */
void ref_logits(const float *q, const float *k, size_t stride, int n, int head_dim, double scale,
                double *out);

/** Largest of n, and log of the sum of exponentials. */
void ref_row(const double *logit, int n, double *max, double *lse);

/** n(l) and recent(l) of each of L layers from their sparsity. */
void ref_budget(const double *sparsity, int layers, double alpha, double recent_share, int tokens, int *kept,
                int *recent);

/** Ascending positions of the `recent` last and the kept - recent best others; NaN is worst, ties: the lower.
 */
void ref_topk(const float *score, int tokens, int kept, int recent, int *out);

#endif
