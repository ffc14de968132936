/**
 * score.h - scores of all questions, and what they come to for each group and variant.
 */
#ifndef EVAL_SCORE_H
#define EVAL_SCORE_H

#include "eval/results.h"
#include "eval/variant.h"

/** A mean and its 95% interval. */
typedef struct estimate {
    double mean, low, high;
} estimate;

/** One variant in one group of questions. */
typedef struct cell {
    estimate score;      /* of the metric, as it is defined */
    estimate retention;  /* score / score of "full"; NaN where that is 0 */
    double kept;         /* share of the cache's rows that was kept, mean (coded: of its bytes) */
    double bytes;        /* of the KV cache that was kept, mean */
    double token_bytes;  /* the same for each token of the prompt */
    double share;        /* of the full cache's bytes, mean */
    size_t over;         /* questions in which that was more than the budget */
    double tokens;       /* of the answers, mean */
    const char *storage; /* of coded rows, where all questions had the same; else NULL */
} cell;

/** One group: its answered questions, and a cell for each variant. */
typedef struct sheet {
    const group *group;
    size_t n;       /* questions that were answered */
    size_t *items;  /* which: indices in data.items */
    double *scores; /* [variant][question] */
    cell *cells;    /* [variant] */
} sheet;

typedef struct scores {
    sheet *sheets; /* one for each group of the data */
    size_t n, n_variants;
    size_t answered, skipped; /* questions; skipped ones could not be asked */
} scores;

/** Scores every record. Returns an exit code; scores_release() in any case. */
int scores_make(const data *d, const results *r, const variants *v, uint64_t seed, console *c, scores *out);

void scores_release(scores *s);

#endif
