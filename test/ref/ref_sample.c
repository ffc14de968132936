/*
 * ref_sample.c - choosing a token, in double, by sorting.
 */
#include "ref_sample.h"

#include <math.h>
#include <stdlib.h>

int ref_argmax(const float *x, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!isnan(x[i]) && (best < 0 || x[i] > x[best])) best = i;
    return best;
}

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static double weight(float x, float top, double temperature) {
    if (isnan(x)) return 0;
    return x == top ? 1 : exp(((double)x - (double)top) / temperature);
}

void ref_probabilities(const float *x, int n, double temperature, int top_k, double top_p, double *prob) {
    int best = ref_argmax(x, n);
    float *sorted = malloc(sizeof *sorted * (size_t)n), top = best < 0 ? 0 : x[best], least;
    int m = 0, kept;
    for (int i = 0; i < n; i++)
        if (!isnan(x[i])) sorted[m++] = x[i];
    qsort(sorted, (size_t)m, sizeof *sorted, descending);
    kept = top_k > 0 && top_k < m ? top_k : m;
    while (kept && kept < m && sorted[kept] == sorted[kept - 1]) kept++;
    double total = 0, running = 0;
    for (int i = 0; i < kept; i++) total += weight(sorted[i], top, temperature);
    least = kept ? sorted[kept - 1] : 0;
    for (int i = 0; i < kept && top_p < 1; i++) {
        running += weight(sorted[i], top, temperature);
        least = sorted[i];
        if (running >= top_p * total) break;
    }
    total = 0;
    for (int i = 0; i < n; i++) {
        prob[i] = x[i] >= least ? weight(x[i], top, temperature) : 0;
        total += prob[i];
    }
    for (int i = 0; i < n; i++) prob[i] /= total;
    free(sorted);
}
