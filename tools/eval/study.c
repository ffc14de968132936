/*
 * study.c - which ways are added. One that the command line names already, by whatever label, is taken as it
 * is: nothing is asked twice.
 */
#include "eval/study.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/exit.h"

static const vlcache_allocation study_allocation[] = {VLCACHE_ALLOCATION_UNIFORM,
                                                      VLCACHE_ALLOCATION_SPARSITY};
static const vlcache_scoring study_scoring[] = {VLCACHE_SCORING_POST_VISION, VLCACHE_SCORING_ACCUMULATED};
const double study_threshold[] = {0.001, 0.003, 0.01, 0.03, 0.1};

static const char *const ablation_label[STUDY_ALLOCATIONS][STUDY_SCORINGS] = {
    {"vlcache@allocation=uniform", "vlcache@allocation=uniform,scoring=accumulated"},
    {"vlcache", "vlcache@scoring=accumulated"}};
static const char *const threshold_label[STUDY_THRESHOLDS] = {"vlcache@threshold=0.001",
                                                              "vlcache@threshold=0.003", "vlcache",
                                                              "vlcache@threshold=0.03",
                                                              "vlcache@threshold=0.1"};

void studies_begin(const variants *v, studies *out) {
    *out = (studies){0};
    for (size_t b = 1; b < v->n_budgets; b++)
        if (fabs(log(v->budgets[b] / 0.1)) < fabs(log(v->budgets[out->budget] / 0.1))) out->budget = b;
}

/* Whether two variants are the same way, whatever they are called: a policy is no more than its axes. */
static bool same(const variant *a, const variant *b) {
    json_t *left = variant_json(a), *right = variant_json(b);
    static const char *const names[] = {"label", "policy"};
    for (size_t i = 0; i < 2; i++) {
        json_object_del(left, names[i]);
        json_object_del(right, names[i]);
    }
    bool equal = left && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return equal;
}

/* Index of this way, which becomes the last of the variants where it is none of them. */
static size_t place(variants *v, variant made) {
    for (size_t i = 0; i < v->n; i++)
        if (same(&v->items[i], &made)) return i;
    v->items[v->n] = made;
    return v->n++;
}

static variant made_of(const variants *v, const studies *s, const char *label) {
    variant made = {label, VARIANT_OF_STUDY, VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_RECALL_NONE};
    made.options.policy = "vlcache";
    made.options.budget = v->budgets[s->budget];
    return made;
}

int studies_add(variants *v, studies *out) {
    size_t room = v->n + STUDY_ALLOCATIONS * STUDY_SCORINGS + STUDY_THRESHOLDS;
    variant *grown = realloc(v->items, room * sizeof *grown);
    if (!grown) {
        fprintf(stderr, "vlcache-eval: out of host memory\n");
        return EXIT_MEMORY;
    }
    v->items = grown;
    for (size_t a = 0; a < STUDY_ALLOCATIONS; a++)
        for (size_t s = 0; s < STUDY_SCORINGS; s++) {
            variant made = made_of(v, out, ablation_label[a][s]);
            made.options.allocation = study_allocation[a];
            made.options.scoring = study_scoring[s];
            out->ablation[a][s] = place(v, made);
        }
    for (size_t t = 0; t < STUDY_THRESHOLDS; t++) {
        variant made = made_of(v, out, threshold_label[t]);
        made.options.threshold = study_threshold[t];
        out->threshold[t] = place(v, made);
    }
    out->on = true;
    return EXIT_OK;
}
