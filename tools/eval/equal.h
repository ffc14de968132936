/**
 * equal.h - the same bytes for every policy.
 *
 * The library's budget is a share of rows. A row that is kept as it was takes what a row of the full cache
 * takes; centroids bring a bias of 4 bytes for every row beside them, and each layer rounds to whole rows. So
 * that a policy stays within a share of the full cache's bytes, it is asked for a little fewer rows.
 */
#ifndef EVAL_EQUAL_H
#define EVAL_EQUAL_H

#include <stddef.h>

#include <vlcache/compress.h>

/**
 * The budget to ask the library for, so that what is kept of a prompt of `tokens` takes no more than the
 * share `options->budget` of its bytes in full; `row_bytes`: of one row of a kv head, keys and values. Even
 * budgets then keep the most rows that fit. Least budgets of a layer (one row; 1% by sparsity) may still
 * exceed it: what was really kept says so. Coded rows are budgeted in bytes already, a budget of 1 is the
 * full cache, and where only rows of one kind may go, the budget is one of these.
 */
double equal_budget(const vlcache_compress_options *options, int tokens, size_t row_bytes);

#endif
