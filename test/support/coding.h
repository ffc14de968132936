/**
 * coding.h - a cache of one sequence whose rows of a prompt are coded, without a model around it.
 *
 *     coding_case c = {.layers = 2, ..., .rows = rows};   coding_make(&c);   c.codes ... coding_release(&c);
 */
#ifndef TEST_SUPPORT_CODING_H
#define TEST_SUPPORT_CODING_H

#include "compress/coding.h"
#include "support/pages.h"

enum { CODING_QUERIES = 5 };

typedef struct coding_case {
    /* what it is made of */
    int layers, kv_heads, group, head_dim, tokens, n_visual, run, before;
    vlcache_dtype dtype;
    double bits, budget;
    bool yields;  /**< text goes as far as it leaves codes too little */
    bool held;    /**< layers are held before bits are shared out */
    double voted; /**< share of the candidates that is kept; 0: all rows are */
    vlci_candidates candidates;
    const double *shares; /**< of bits [layers * kv_heads]; NULL: they are measured */
    const int *visual;    /**< [n_visual] */
    float *rows;          /**< [layers * kv_heads][keys, values][tokens][head_dim], rounded to dtype */
    float *phase;         /**< [tokens][head_dim] */
    float *score;         /**< [layers * kv_heads][tokens] */
    float *query;         /**< [layers][CODING_QUERIES][kv_heads * group * head_dim] */
    const float *metric;  /**< of values, [layers * kv_heads][head_dim][head_dim]; NULL: none */
    /* what comes of it */
    pages *p; /**< rows in pages: `before` others in front of the prompt's */
    vlci_coding_kernels kernels;
    vlci_coding *coding;
    vlci_codes *codes;
    vlcache_status status; /**< of choosing rows and sharing bits out; no codes when it failed */
} coding_case;

/** Random rows whose dimensions fall, phases, scores and queries: new memory, for coding_free(). */
void coding_fill(coding_case *c, uint64_t seed);
void coding_free(coding_case *c);

/** Then makes rows Gaussian, of a variance of 1, all dimensions alike. */
void coding_flatten(coding_case *c, uint64_t seed);

/** Makes the cache and its codes. */
void coding_make(coding_case *c);
void coding_release(coding_case *c);

#endif
