/**
 * fit.h - budgets of layers, and of heads, that are learned from questions, to be frozen and tried on others.
 */
#ifndef EVAL_FIT_H
#define EVAL_FIT_H

#include "eval/options.h"
#include "eval/table.h"

/**
 * Half of the budget is shared evenly, half by what each layer gives back when it alone is whole and all
 * others are small: share(l) = 1/2 + max(0, gain(l)) / (2 mean of them). Where no layer gains anything, all
 * are 1. `shares` [n_layers]; `gain` [n_layers], may be NULL: the gains, as shares of the full cache's score.
 * False when memory runs out.
 */
bool fit_shares(const scores *s, const studies *studies, uint64_t seed, double *shares, double *gain);

/**
 * Bits of each kv head of each layer, the mean over questions of what the coded variant of the study of
 * spectra gave it as a share of what it gave all; the mean over heads is 1. `*shares` [*n] is new memory;
 * NULL, with `*n` 0, where no question's record has them. False when memory runs out.
 */
bool fit_heads(const results *r, const studies *studies, double **shares, size_t *n);

/** Writes "layers:S,S,...", "heads:S,S,...", or both, a line each, of the studies that were asked, to the
 * file of --fit, whole or not at all. Returns an exit code. */
int fit_write(const outcome *o, const options *how, console *c);

#endif
