/**
 * ref_compress.h - VL-Cache and the policies around it in double, one loop after the other, as an oracle.
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

/** How a layer's budget is made and divided. */
typedef struct ref_shares {
    double alpha, recent;
    bool pyramid;
    double uniform;   /* of a mixed allocation */
    double centroids; /* share */
    int sinks;
    bool sink_recent;
} ref_shares;

typedef struct ref_rows {
    double beta;
    int kept, recent, sinks, centroids;
} ref_rows;

/** Rows of each of L layers from their sparsity. */
void ref_budget(const ref_shares *how, const double *sparsity, int layers, int tokens, ref_rows *out);

/** Ascending positions of the `recent` last, the first `sinks` and the best others, `kept` in all; NaN is
 * worst, ties: the lower. score NULL: nothing but recent and sinks is wanted. */
void ref_topk(const float *score, int tokens, int kept, int recent, int sinks, int *out);

/**
 * Rows that each of some kv heads keeps when they share heads * kept rows by their scores [heads][tokens]:
 * all `recent` last and `sinks` first ones, each head its best others until it has floor * kept (rounded)
 * rows in all, then the best of what is left, whatever its head, one by one; NaN is worst, ties: the lower
 * head, then the lower token.
 */
void ref_adapt(const float *score, int heads, int tokens, const ref_rows *layer, double floor, int *kept);

/** Largest of the window of `width` around each score. */
void ref_pool_line(const float *score, int tokens, int width, float *out);

/** Largest of the height x width window in a grid: token (y, x) at first + y * stride + x. Others stay as
 * `out` has them. */
void ref_pool_grid(const float *score, int first, int rows, int columns, int stride, int height, int width,
                   float *out);

/**
 * Seeds far from one another among n rows of head_dim, in even stretches of at most 384 rows, as many as that
 * takes but no more than seeds. Each has one seed; the others are shared out by rows and by what changes from
 * row to row there, times weight, at most as if it had four times its rows; the more by that the fewer seeds
 * there are to the rows, with four rows a seed by 95%.
 * Of each stretch the first seed is the row of the largest weight, the next are, one by one, the row of which
 * weight times squared distance to the nearest seed is largest; ties: the lower. weight: 1 + score / mean
 * score of all; 1 where score is NULL or its sum is not above 0. label: nearest seed of each row, the first
 * of equals.
 */
void ref_spread(const float *rows, const float *score, int n, int head_dim, int seeds, int *label);

#endif
