/*
 * vote.c - votes of rows -> units by falling mean votes -> the first of them, in their order.
 */
#include "compress/vote.h"

#include <math.h>
#include <stdlib.h>

#include "core/alloc.h"

typedef struct ballot {
    double mean;
    int unit;
} ballot;

static int by_votes(const void *one, const void *other) {
    const ballot *a = one, *b = other;
    if (a->mean != b->mean) return a->mean > b->mean ? -1 : 1;
    return a->unit - b->unit;
}

static int least(int a, int b) {
    return a < b ? a : b;
}

static void count(const float *votes, const int *rows, int n, int unit, ballot *out) {
    for (int u = 0; u * unit < n; u++) {
        int from = u * unit, until = least(from + unit, n);
        double sum = 0.0;
        for (int i = from; i < until; i++) sum += (double)votes[rows[i]];
        out[u] = (ballot){sum / (until - from), u};
    }
}

vlcache_status vlci_vote_choose(const float *votes, const int *rows, int n, int unit, double share, int last,
                                int *out, int *n_out) {
    int units = n / unit + (n % unit != 0), chosen = least((int)floor(share * units + 0.5), units);
    ballot *all = vlci_alloc((size_t)units + 1, sizeof *all);
    bool *elected = vlci_calloc((size_t)units + 1, sizeof *elected);
    vlcache_status status = all && elected ? VLCACHE_OK : vlci_fail_memory("votes of rows");
    *n_out = 0;
    if (chosen < 1 && units) chosen = 1;
    if (!status) {
        count(votes, rows, n, unit, all);
        qsort(all, (size_t)units, sizeof *all, by_votes);
        for (int u = 0; u < least(last, chosen); u++) elected[units - 1 - u] = true;
        for (int u = 0, left = chosen - least(last, chosen); left; u++) {
            left -= !elected[all[u].unit];
            elected[all[u].unit] = true;
        }
        for (int i = 0; i < n; i++)
            if (elected[i / unit]) out[(*n_out)++] = i;
    }
    vlci_free(elected);
    vlci_free(all);
    return status;
}
