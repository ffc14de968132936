/**
 * vote.h (internal) - which rows of a prompt are coded where not all are: one set for all heads of all
 * layers, which vote.
 *
 *     votes(j) = sum over the heads of all layers of score(h, j)
 *
 * Neighbours may stand or fall together, in units: rows whose keys are turned one by one have tables of their
 * own for every way in which a run's rows lie apart, and there are few such ways only where runs are whole.
 */
#ifndef VLCI_COMPRESS_VOTE_H
#define VLCI_COMPRESS_VOTE_H

#include "core/status.h"

/**
 * Of `n` rows at `rows`, ascending, in units of `unit` (the last may be shorter), the share with the largest
 * mean votes, at least one unit, all with a share of 1; of these the last `last` units stand whatever votes
 * they have. votes: finite, by row. out [n]: their indices, ascending; how many, in `*n_out`. Ties: the
 * lower. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_vote_choose(const float *votes, const int *rows, int n, int unit, double share, int last,
                                int *out, int *n_out);

#endif
