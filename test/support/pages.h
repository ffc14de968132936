/**
 * pages.h - small paged caches for suites of kernels, as awkward as the pool allows: pages in scrambled
 * order, sequences in scattered slots, every (sequence, layer, kv head) with rows of its own number, and NaN
 * wherever no row is.
 *
 *     pages *p = pages_create(&shape, 3, &(pages_rows){.rows = rows, .k = k, .v = v}, 20);
 *     vlci_kv_view view = pages_view(p, layer);   kernels run
 *     pages_read(&p->kv[b], layer, head, k, v, bias);   pages_destroy(p);
 */
#ifndef TEST_SUPPORT_PAGES_H
#define TEST_SUPPORT_PAGES_H

#include "kv/cache.h"
#include "support/suite.h"

enum { PAGES_SEQUENCES = 64 };

typedef struct pages {
    vlci_kv_pool pool; /**< of a fixed size */
    vlci_kv kv[PAGES_SEQUENCES];
    int n;
    cl_mem slots; /**< int[n]: those of kv[0 .. n-1] */
} pages;

/**
 * What the caches hold. List i = (sequence * layers + layer) * kv_heads + head has rows[i] rows; lists stand
 * one after another in k and v, [rows of all lists][head_dim], and in bias, [rows of all lists].
 */
typedef struct pages_rows {
    const int *rows;
    float *k, *v;       /**< rounded to the cache's dtype, as the device sees them; NULL: stays NaN there */
    const float *bias;  /**< NULL: the pool has none */
    const bool *biased; /**< of each list, NULL: all are, where there are biases. What is not has its biases
                           in the pool all the same, where nobody should look at them */
} pages_rows;

/** Lists of n sequences. */
int pages_lists(const vlci_kv_shape *shape, int n);

/** Rows of lists 0 .. i-1: the first row of list i. */
size_t pages_first(const int *rows, int i);

/** n sequences, and `spare` pages without an owner beside theirs. Position and length of each are the most
 * rows of its heads. The device knows them. */
pages *pages_create(const vlci_kv_shape *shape, int n, const pages_rows *what, int spare);

/** A layer, as kernels are told of it; `ahead` is 0. */
vlci_kv_view pages_view(const pages *p, int layer);

/** Pages that have no owner are taken in random order from now on. */
void pages_scramble(vlci_kv_pool *pool, uint64_t *seed);

/** Keys and values of all pages without an owner, and their biases, become NaN. */
void pages_poison_spare(vlci_kv_pool *pool);

/** Row `row` of a list, straight from the host; k and v: float[head_dim]. `bias` counts where the pool has
 * any. */
void pages_write_row(const vlci_kv *kv, int layer, int head, int row, const float *k, const float *v,
                     float bias);

/** The same of a list that is no cache's yet. */
void pages_write_list_row(vlci_kv_pool *pool, const vlci_kv_list *list, int row, const float *k,
                          const float *v, float bias);

/**
 * Rows of a list, as floats: k, v [rows][head_dim], bias [rows] (0 where it has none); each may be NULL.
 * Tells the device what has changed first, and reads through the heads and the table that it has then; of a
 * mark, through the host's. Returns the rows.
 */
int pages_read(const vlci_kv *kv, int layer, int head, float *k, float *v, float *bias);

/** Fails unless every page has as many owners as lists hold it, and the counts of pages are right. */
void pages_check_owners(const vlci_kv_pool *pool);

/** Fails unless the copies of pages that wait for the next kernel can run in any order. */
void pages_check_copies(const vlci_kv_pool *pool);

/** Fails unless each entry of the table belongs to one list, or to one free run. */
void pages_check_runs(const vlci_kv_pool *pool);

/** Releases the caches, fails if they leave a page or a slot held, and releases the pool. */
void pages_destroy(pages *p);

#endif
