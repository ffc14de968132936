/**
 * equal.h - the same bytes for every policy.
 *
 * The library's budget is a share of bytes: where there are centroids, each row beside them brings a bias of
 * 4 bytes, and fewer rows fit. But each layer rounds to whole rows, so that a policy which must stay within a
 * share is asked for half a row less; and the papers' shares are of rows, whatever a bias takes.
 */
#ifndef EVAL_EQUAL_H
#define EVAL_EQUAL_H

#include <stddef.h>

#include <vlcache/compress.h>

/** The budget to ask the library for, so that what is kept is the share `options->budget` of a prompt's rows,
 * rounded as it rounds; at most all. `row_bytes`: of one row of a kv head, keys and values. */
double equal_rows(const vlcache_compress_options *options, size_t row_bytes);

/**
 * The budget to ask the library for, so that what is kept of a prompt of `tokens` takes no more than the
 * share `options->budget` of its bytes in full; Even
 * budgets then keep the most rows that fit; budgets by sparsity are within it if they are asked for as
 * `strict`. A row of each layer, the least there is, may still exceed it: what was really kept says so. Coded
 * rows are budgeted in bytes already, a budget of 1 is the full cache, and where only rows of one kind may
 * go, the budget is one of these.
 */
double equal_bytes(const vlcache_compress_options *options, int tokens, size_t row_bytes);

#endif
