/*
 * metric.c - the metrics that look at one answer at a time.
 */
#include "eval/metric.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "eval/letters.h"

/* The answer and a reference, normalised. */
typedef struct pair {
    letters answer, reference;
} pair;

static bool pair_of(const char *answer, const char *reference, pair *p) {
    *p = (pair){{NULL, 0, 0}, {NULL, 0, 0}};
    return letters_of(answer, &p->answer) && letters_of(reference, &p->reference);
}

static void pair_release(pair *p) {
    letters_release(&p->answer);
    letters_release(&p->reference);
}

/*
 * Average Normalized Levenshtein Similarity of one answer: Biten et al., Scene Text Visual Question Answering
 * (ICCV 2019), as the evaluation script of the DocVQA challenge (rrc.cvc.uab.es, task 17) computes it: texts
 * stripped, lower-cased, white space collapsed; distance over the longer length, of the texts as they were
 * given; below 0.5 it is 0.
 */
double metric_anls(const char *answer, const char *reference) {
    pair p;
    double score = NAN;
    if (pair_of(answer, reference, &p)) {
        size_t longer = p.answer.given > p.reference.given ? p.answer.given : p.reference.given;
        size_t distance = letters_distance(&p.answer, &p.reference);
        if (distance != SIZE_MAX) score = longer ? 1.0 - (double)distance / (double)longer : 1.0;
        if (score < 0.5) score = 0.0;
    }
    pair_release(&p);
    return score;
}

/* Equal once both are stripped, lower-cased and their white space is collapsed. Punctuation counts. */
double metric_exact(const char *answer, const char *reference) {
    pair p;
    double score = pair_of(answer, reference, &p) ? letters_equal(&p.answer, &p.reference) : NAN;
    pair_release(&p);
    return score;
}

/* OCRBench's rule (Liu et al., arXiv 2305.07895): the lower-cased reference occurs in the lower-cased answer.
 */
double metric_contains(const char *answer, const char *reference) {
    pair p;
    double score = pair_of(answer, reference, &p) ? letters_contain(&p.answer, &p.reference) : NAN;
    pair_release(&p);
    return score;
}

/* What Python's float() reads, without inf, nan and "_"; a % at the end divides by 100. */
static bool read_number(const letters *l, double *out) {
    char text[64], *end = NULL;
    size_t n = l->n;
    bool percent = n && l->at[n - 1] == '%';
    while (n && l->at[n - 1] == '%') n--;
    if (percent && n && l->at[n - 1] == ' ') n--; /* "12 %" */
    if (!n || n >= sizeof text) return false;
    for (size_t i = 0; i < n; i++) {
        if (l->at[i] <= 0 || l->at[i] > 126 || !strchr("0123456789+-.e", (int)l->at[i])) return false;
        text[i] = (char)l->at[i];
    }
    text[n] = 0;
    *out = strtod(text, &end);
    if (*end || !isfinite(*out)) return false;
    if (percent) *out /= 100.0;
    return true;
}

/*
 * Relaxed accuracy: Masry et al., ChartQA (ACL Findings 2022), after Methani et al., PlotQA: a number may be
 * off by 5% of the reference; anything else, and a reference of 0, must be equal. As in the pix2struct and
 * lmms-eval code: "12%" is 0.12, thousands separators make a text of a number.
 */
double metric_relaxed(const char *answer, const char *reference) {
    pair p;
    double got, want, score = NAN;
    if (pair_of(answer, reference, &p)) {
        if (read_number(&p.answer, &got) && read_number(&p.reference, &want) && want != 0.0)
            score = fabs(got - want) / fabs(want) <= 0.05;
        else
            score = letters_equal(&p.answer, &p.reference);
    }
    pair_release(&p);
    return score;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

static const struct row {
    const char *name, *title;
    double (*score)(const char *answer, const char *reference);
} rows[METRICS] = {
    [METRIC_ANLS] = {"anls", "ANLS", metric_anls},
    [METRIC_EXACT] = {"exact", "exact match", metric_exact},
    [METRIC_RELAXED] = {"relaxed", "relaxed accuracy", metric_relaxed},
    [METRIC_CIDER] = {"cider", "CIDEr-D", NULL},
    [METRIC_CONTAINS] = {"contains", "contains", metric_contains},
    [METRIC_LIKELIHOOD] = {"likelihood", "likelihood", NULL},
};

const char *metric_name(metric m) {
    return rows[m].name;
}

const char *metric_title(metric m) {
    return rows[m].title;
}

metric metric_find(const char *name) {
    int m = 0;
    while (m < METRICS && strcmp(rows[m].name, name) != 0) m++;
    return (metric)m;
}

double metric_score(metric m, const char *answer, const char *const *references, size_t n) {
    double best = 0.0;
    for (size_t i = 0; i < n; i++) {
        double score = rows[m].score(answer, references[i]);
        if (isnan(score)) return NAN;
        if (score > best) best = score;
    }
    return best;
}
