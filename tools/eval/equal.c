/*
 * equal.c - shares of bytes, and of rows
 *
 *     rows(l) = round(beta(l) N row / (row + bias)) <= beta(l) N row / (row + bias) + 1/2      sum of beta(l)
 * = budget L of bytes    (row + bias) sum of rows(l) <= share L N row        where budget = share - (row +
 * bias) / row / 2N of rows     budget = share (row + bias) / row
 */
#include "eval/equal.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* BIAS_BYTES: of a row whose head has centroids. */
enum { BIAS_BYTES = 4 };
static const double least = 1e-6; /* a row of each layer */

/* How much larger a row is with its bias; 0: budgets are not of rows that stay as they were, or of all. */
static double growth(const vlcache_compress_options *options, size_t row_bytes) {
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    bool known = !vlcache_compress_resolve(options, &all) && strcmp(all.policy, "full") != 0;
    bool of_all = all.storage == VLCACHE_STORAGE_EXACT && all.candidates == VLCACHE_CANDIDATES_ALL;
    if (!known || !of_all || all.budget >= 1.0) return 0.0;
    return all.summary == VLCACHE_SUMMARY_NONE ? 1.0 : ((double)row_bytes + BIAS_BYTES) / (double)row_bytes;
}

double equal_rows(const vlcache_compress_options *options, size_t row_bytes) {
    double grown = growth(options, row_bytes);
    return grown > 0.0 ? fmin(options->budget * grown, 1.0) : options->budget;
}

double equal_bytes(const vlcache_compress_options *options, int tokens, size_t row_bytes) {
    double grown = growth(options, row_bytes);
    if (grown == 0.0 || tokens < 1) return options->budget;
    return fmax(options->budget - 0.5 * grown / tokens, least);
}
