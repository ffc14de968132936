/*
 * study.c - which ways are added. One that the command line names already, by whatever label, is taken as it
 * is: nothing is asked twice.
 */
#include "eval/study.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/flag.h"

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
    variant made = {label, VARIANT_OF_STUDY, VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_RECALL_NONE, 0};
    made.options.policy = "vlcache";
    made.options.budget = v->budgets[s->budget];
    return made;
}

/* ---- names -------------------------------------------------------------------------------------------- */

static const char *const study_name[] = {"ablation", "threshold", "probe", "layers", "spectrum", "visual"};
enum { STUDIES = sizeof study_name / sizeof *study_name };

int studies_parse(const char *names, unsigned *which) {
    *which = strcmp(names, "all") == 0 ? (1u << STUDIES) - 1 : 0;
    bool more = !*which && strcmp(names, "none") != 0;
    while (more) {
        size_t length = strcspn(names, ","), i = 0;
        while (i < STUDIES && (strlen(study_name[i]) != length || strncmp(study_name[i], names, length) != 0))
            i++;
        if (i == STUDIES)
            return flag_refuse(
                "--study \"%.*s\": must be ablation, threshold, probe, layers, spectrum or visual, "
                "several of them with commas between, all or none",
                (int)length, names);
        *which |= 1u << i;
        more = names[length] == ',';
        names += length + more;
    }
    return EXIT_OK;
}

void studies_names(unsigned which, char names[STUDY_NAMES_BYTES]) {
    *names = 0;
    for (size_t i = 0; i < STUDIES; i++) {
        if (!(which & 1u << i)) continue;
        if (*names) strcat(names, ",");
        strcat(names, study_name[i]);
    }
}

/* ---- adding ------------------------------------------------------------------------------------------- */

static void add_ablation(variants *v, studies *out) {
    for (size_t a = 0; a < STUDY_ALLOCATIONS; a++)
        for (size_t s = 0; s < STUDY_SCORINGS; s++) {
            variant made = made_of(v, out, ablation_label[a][s]);
            made.options.allocation = study_allocation[a];
            made.options.scoring = study_scoring[s];
            out->ablation[a][s] = place(v, made);
        }
}

static void add_threshold(variants *v, studies *out) {
    for (size_t t = 0; t < STUDY_THRESHOLDS; t++) {
        variant made = made_of(v, out, threshold_label[t]);
        made.options.threshold = study_threshold[t];
        out->threshold[t] = place(v, made);
    }
}

/* Layer `one` has the share `own`, the others `other`: the budget is their mean, so that shares are what
 * layers keep. */
static variant one_layer(const variants *v, const studies *s, size_t one, double own, double other) {
    variant made = made_of(v, s, "");
    made.options.allocation = VLCACHE_ALLOCATION_LAYERS;
    made.options.n_shares = (int)s->n_layers;
    for (size_t l = 0; l < s->n_layers; l++) made.options.shares[l] = l == one ? own : other;
    made.options.budget = (own + other * (double)(s->n_layers - 1)) / (double)s->n_layers;
    return made;
}

static void add_layers(variants *v, studies *out) {
    double budget = v->budgets[out->budget];
    variant even = made_of(v, out, ablation_label[0][0]);
    even.options.allocation = VLCACHE_ALLOCATION_UNIFORM;
    out->even = place(v, even);
    for (size_t l = 0; l < out->n_layers; l++) {
        char *alone = out->labels[2 * l], *all_but = out->labels[2 * l + 1];
        variant small = one_layer(v, out, l, budget, 1.0), whole = one_layer(v, out, l, 1.0, budget);
        snprintf(alone, sizeof *out->labels, "layer %zu alone", l);
        snprintf(all_but, sizeof *out->labels, "all but layer %zu", l);
        small.label = alone;
        whole.label = all_but;
        out->alone[l] = place(v, small);
        out->all_but[l] = place(v, whole);
    }
}

/* FINE: bits beyond which the coder looks at all dimensions. */
enum { FINE = 192 };

static void add_spectrum(variants *v, studies *out) {
    variant made = made_of(v, out, "vlcache+");
    made.options.policy = "vlcache+";
    out->coded = place(v, made);
    made.label = "vlcache+@storage=coded:192";
    made.options.storage = VLCACHE_STORAGE_CODED;
    made.options.run = 64;
    made.options.bits = FINE;
    out->fine = place(v, made);
}

static void add_kinds(variants *v, studies *out) {
    static const char *const labels[STUDY_KINDS] = {"vlcache", "vlcache@candidates=visual",
                                                    "vlcache@candidates=text"};
    for (size_t i = 0; i < STUDY_KINDS; i++) {
        variant made = made_of(v, out, labels[i]);
        made.options.candidates = (vlcache_candidates)(VLCACHE_CANDIDATES_ALL + i);
        out->kinds[i] = place(v, made);
    }
}

static bool reserve(variants *v, size_t layers, studies *out) {
    size_t room = v->n + STUDY_ALLOCATIONS * STUDY_SCORINGS + STUDY_THRESHOLDS + STUDY_KINDS + 3 + 2 * layers;
    variant *grown = realloc(v->items, room * sizeof *grown);
    if (grown) v->items = grown;
    out->n_layers = layers;
    out->alone = calloc(layers + 1, sizeof *out->alone);
    out->all_but = calloc(layers + 1, sizeof *out->all_but);
    out->labels = calloc(2 * layers + 1, sizeof *out->labels);
    return grown && out->alone && out->all_but && out->labels;
}

int studies_add(unsigned which, size_t layers, variants *v, studies *out) {
    if (which & STUDY_LAYERS && (layers < 2 || layers > VLCACHE_SHARES_FIRST))
        return flag_refuse("--study layers: the model has %zu layers: 2 to %d can be told apart", layers,
                           VLCACHE_SHARES_FIRST);
    if (!reserve(v, which & STUDY_LAYERS ? layers : 0, out)) {
        fprintf(stderr, "vlcache-eval: out of host memory\n");
        return EXIT_MEMORY;
    }
    out->which = which;
    if (which & STUDY_ABLATION) add_ablation(v, out);
    if (which & STUDY_THRESHOLD) add_threshold(v, out);
    if (which & STUDY_LAYERS) add_layers(v, out);
    if (which & STUDY_SPECTRUM) add_spectrum(v, out);
    if (which & STUDY_VISUAL) add_kinds(v, out);
    return EXIT_OK;
}

void studies_release(studies *s) {
    free(s->alone);
    free(s->all_but);
    free(s->labels);
    *s = (studies){0};
}
