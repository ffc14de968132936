/**
 * beside.h - attention of some query rows over rows in pages and others beside them, in few bits: made, run
 * and held against the double oracle, which is given the rows that those in few bits stand for.
 *
 *     beside_begin(&b, &seed, q_scale);       pages of b.layers layers, queries, b.a
 *     beside_expect(&b, heads);               the oracle's; the attention over the pages has run
 *     run what is beside the pages over b.a
 *     beside_check(&b, top);
 *     beside_end(&b);
 */
#ifndef TEST_SUPPORT_BESIDE_H
#define TEST_SUPPORT_BESIDE_H

#include "compute/attention.h"
#include "ref/ref_attention.h"
#include "support/pages.h"

typedef struct beside {
    const char *name;
    vlci_attention_shape shape;
    int layers, layer;
    int rows, past;   /* query rows; rows in pages before them */
    int batch;        /* sequences, each of which has `rows`; 0: one */
    const int *pasts; /* [batch]; NULL: all have `past` */

    pages *own;
    float *k, *v, *q;           /* [batch][layers][kv_heads][past + rows][head_dim], rounded;
                                   [batch * rows][heads][head_dim] */
    const float *own_k, *own_v; /* of the layer, of the first sequence */
    vlci_attention_kernels kernels;
    vlci_attention a;
    size_t n, stats; /* numbers of q, and of row_max */
    double *out, *row_max, *row_lse;
} beside;

/** Of query heads in groups over kv heads; queries are rounded as keys are. */
vlci_attention_shape beside_shape(int kv_heads, int group, int head_dim, vlcache_dtype dtype, float cap);

/** Names, shape and rows are the caller's. Queries in [-q_scale, q_scale). */
void beside_begin(beside *b, uint64_t *seed, float q_scale);

/** Where those of another sequence begin, behind own_k and own_v: numbers. */
size_t beside_behind(const beside *b, int sequence);

/** heads: [batch][kv_heads], what each sees before the query rows. */
void beside_expect(beside *b, const ref_rows *heads);

/** All of the outputs is not a number again. */
void beside_poison(const beside *b);

/** Outputs, the guard behind them, counters of the scratch. `top`: of what the outputs are sums of. */
void beside_check(const beside *b, double top);

void beside_end(beside *b);

#endif
