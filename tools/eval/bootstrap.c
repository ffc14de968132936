/*
 * bootstrap.c - the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)
 *
 *     resample b: n questions drawn with replacement, the same ones for every variant (paired)
 *     score       interval: 2.5% and 97.5% quantiles over b of the mean score
 *     retention   the same of mean score / mean score of "full"; resamples in which that is 0 are left out
 *
 * CIDEr-D keeps the document frequencies of all questions. The generator is SplitMix64, so the intervals are
 * the same on every machine.
 */
#include "eval/bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"

/* Sebastiano Vigna's SplitMix64 (public domain algorithm). */
static uint64_t draw(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile q of n sorted values, linear between neighbours; NaN of none. */
static double quantile(const double *sorted, size_t n, double q) {
    if (!n) return NAN;
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;
    double share = at - (double)low;
    return low + 1 < n ? sorted[low] + share * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static double mean_of(const double *values, const uint32_t *picks, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += values[picks ? picks[i] : i];
    return sum / (double)n;
}

static estimate interval(double mean, double *samples, size_t n) {
    qsort(samples, n, sizeof *samples, compare_numbers);
    return (estimate){mean, quantile(samples, n, 0.025), quantile(samples, n, 0.975)};
}

/* `means` [RESAMPLES] of "full", `samples` room for as many. */
static void estimate_cell(const sheet *s, size_t v, const uint32_t *picks, const double *full,
                          double *samples) {
    const double *values = s->scores + v * s->n;
    double ratios[RESAMPLES], mean = mean_of(values, NULL, s->n), whole = s->cells[0].score.mean;
    size_t n_ratios = 0;
    for (size_t b = 0; b < RESAMPLES; b++) {
        samples[b] = mean_of(values, picks + b * s->n, s->n);
        if (full[b] > 0.0) ratios[n_ratios++] = samples[b] / full[b];
    }
    s->cells[v].score = interval(mean, samples, RESAMPLES);
    if (v == 0) whole = mean;
    s->cells[v].retention =
        whole > 0.0 ? interval(mean / whole, ratios, n_ratios) : (estimate){NAN, NAN, NAN};
}

bool bootstrap(sheet *s, size_t n_variants, uint64_t seed) {
    uint32_t *picks = malloc((s->n * RESAMPLES + 1) * sizeof *picks);
    double *full = malloc(2 * RESAMPLES * sizeof *full);
    uint64_t state = seed;
    bool good = picks && full;
    for (size_t i = 0; i < s->n * RESAMPLES && good; i++) picks[i] = (uint32_t)(draw(&state) % s->n);
    for (size_t b = 0; b < RESAMPLES && good && s->n; b++)
        full[b] = mean_of(s->scores, picks + b * s->n, s->n);
    for (size_t v = 0; v < n_variants && good && s->n; v++)
        estimate_cell(s, v, picks, full, full + RESAMPLES);
    free(picks);
    free(full);
    return good;
}

static const group everything = {.task = (char *)"all tasks"};

static void pool_group(const sheet *from, size_t n_variants, size_t all, size_t *at, sheet *out) {
    double whole = from->cells[0].score.mean;
    if (!from->n || whole <= 0.0) return;
    for (size_t i = 0; i < from->n; i++, ++*at) {
        out->items[*at] = from->items[i];
        for (size_t v = 0; v < n_variants; v++)
            out->scores[v * all + *at] = from->scores[v * from->n + i] / whole;
    }
}

bool bootstrap_pool(const scores *s, uint64_t seed, sheet *out) {
    size_t all = 0, at = 0;
    *out = (sheet){.group = &everything};
    for (size_t g = 0; g < s->n; g++) all += s->sheets[g].cells[0].score.mean > 0.0 ? s->sheets[g].n : 0;
    out->items = calloc(all + 1, sizeof *out->items);
    out->scores = calloc((all + 1) * s->n_variants, sizeof *out->scores);
    out->cells = calloc(s->n_variants, sizeof *out->cells);
    if (!out->items || !out->scores || !out->cells) return false;
    for (size_t g = 0; g < s->n; g++) pool_group(&s->sheets[g], s->n_variants, all, &at, out);
    out->n = all;
    return bootstrap(out, s->n_variants, seed);
}

void sheet_release(sheet *s) {
    free(s->items);
    free(s->scores);
    free(s->cells);
    *s = (sheet){0};
}

estimate bootstrap_contrast(const sheet *s, const size_t *plus, const size_t *minus, size_t n,
                            uint64_t seed) {
    double *difference = memory_take(s->n + RESAMPLES, sizeof *difference), *samples;
    estimate e = {NAN, NAN, NAN};
    if (!s->n) goto done;
    samples = difference + s->n;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < n; k++)
            difference[i] += (s->scores[plus[k] * s->n + i] - s->scores[minus[k] * s->n + i]) / (double)n;
    for (size_t b = 0; b < RESAMPLES; b++)
        for (size_t i = 0; i < s->n; i++) samples[b] += difference[draw(&seed) % s->n] / (double)s->n;
    e = interval(mean_of(difference, NULL, s->n), samples, RESAMPLES);
done:
    free(difference);
    return e;
}

estimate correlation(const double *x, const double *y, size_t n) {
    double mx = 0.0, my = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    const double none = 1e-24 * (double)n; /* of the square of a mean: what rounding leaves of equal values */
    if (n < 4 || xx <= none * mx * mx || yy <= none * my * my) return (estimate){NAN, NAN, NAN};
    double r = xy / sqrt(xx * yy);
    if (fabs(r) >= 1.0) return (estimate){r, r, r};
    double width = 1.959964 / sqrt((double)n - 3.0);
    return (estimate){r, tanh(atanh(r) - width), tanh(atanh(r) + width)};
}
