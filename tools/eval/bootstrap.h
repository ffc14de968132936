/**
 * bootstrap.h - means and their 95% intervals by resampling the questions of a group.
 */
#ifndef EVAL_BOOTSTRAP_H
#define EVAL_BOOTSTRAP_H

#include "eval/score.h"

enum { RESAMPLES = 2000 };

/** Fills score and retention of every cell from the scores of the sheet. False when memory runs out. */
bool bootstrap(sheet *s, size_t n_variants, uint64_t seed);

/**
 * The mean over the questions of the score of n variants less that of n others, and its interval by the same
 * resamples. NaN without questions.
 */
estimate bootstrap_contrast(const sheet *s, const size_t *plus, const size_t *minus, size_t n, uint64_t seed);

/**
 * All groups together: every question of each counts once, its score as a share of the mean of the full cache
 * in its group, so that tasks whose metrics differ may be put together (groups where that is 0 are left out).
 * False when memory runs out; sheet_release() in any case.
 */
bool bootstrap_pool(const scores *s, uint64_t seed, sheet *out);
void sheet_release(sheet *s);

/** Pearson's r of n pairs with its 95% interval (Fisher's z); NaN with fewer than 4 pairs or no spread. */
estimate correlation(const double *x, const double *y, size_t n);

#endif
