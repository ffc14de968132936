/*
 * equal.c - bytes -> rows
 *
 *     rows(l) = round(beta(l) N) <= beta(l) N + 1/2,   sum of beta(l) = budget L
 *     (budget L N + L/2) (row + bias) <= share L N row    where    budget = share row / (row + bias) - 1 / 2N
 */
#include "eval/equal.h"

#include <math.h>
#include <string.h>

/* BIAS_BYTES: of a row whose head has centroids. */
enum { BIAS_BYTES = 4 };
static const double least = 1e-6; /* a row of each layer */

double equal_budget(const vlcache_compress_options *options, int tokens, size_t row_bytes) {
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    bool known = !vlcache_compress_resolve(options, &all) && strcmp(all.policy, "full") != 0;
    bool of_all = all.storage == VLCACHE_STORAGE_EXACT && all.candidates == VLCACHE_CANDIDATES_ALL;
    if (!known || !of_all || all.budget >= 1.0 || tokens < 1) return options->budget;
    double row = (double)row_bytes, bias = all.summary == VLCACHE_SUMMARY_NONE ? 0.0 : BIAS_BYTES;
    return fmax(all.budget * row / (row + bias) - 0.5 / tokens, least);
}
