/**
 * study.h - ways that a report asks for beside those of the command line: the ablation that the paper leaves
 * out, and a walk along its threshold. Both at one budget, that of --budget nearest to 10%, so that they cost
 * little.
 *
 *     ablation     vlcache with allocation {uniform, sparsity} x scoring {post-vision, accumulated}
 *     threshold    vlcache with p = .001, .003, .01, .03, .1
 *     probe        the full cache's answer, looked at step by step
 *     layers       each layer alone at that budget and the others whole, and the other way round, with the
 *                  scores of vlcache
 *     spectrum     coded rows: bits at that budget, and the dimensions that the rows vary in
 *     visual       of the rows that policies keep, and of their bits, the share that is visual; vlcache with
 *                  rows of both kinds, visual ones, and text alone as candidates
 */
#ifndef EVAL_STUDY_H
#define EVAL_STUDY_H

#include <stdbool.h>

#include "eval/variant.h"

enum { STUDY_ALLOCATIONS = 2, STUDY_SCORINGS = 2, STUDY_THRESHOLDS = 5, STUDY_KINDS = 3 };

extern const double study_threshold[STUDY_THRESHOLDS];

enum {
    STUDY_ABLATION = 1,
    STUDY_THRESHOLD = 2,
    STUDY_PROBE = 4,
    STUDY_LAYERS = 8,
    STUDY_SPECTRUM = 16,
    STUDY_VISUAL = 32,
    STUDY_USUAL = STUDY_ABLATION | STUDY_THRESHOLD | STUDY_PROBE /* of a report */
};

/** Room for the names of all studies, comma-separated. */
enum { STUDY_NAMES_BYTES = 96 };

/** Which variants they are, by index. */
typedef struct studies {
    unsigned which; /* STUDY_...: those that are asked */
    size_t budget;  /* the one they are at: index in variants.budgets; also without them the one that a report
                       speaks of where it has room for one */
    size_t ablation[STUDY_ALLOCATIONS][STUDY_SCORINGS];
    size_t threshold[STUDY_THRESHOLDS];
    size_t n_layers;           /* of the model, with STUDY_LAYERS */
    size_t *alone, *all_but;   /* [n_layers]: one layer small, one layer whole */
    size_t even;               /* all layers small */
    size_t kinds[STUDY_KINDS]; /* with STUDY_VISUAL: candidates all, visual, text */
    size_t coded, fine;        /* with STUDY_SPECTRUM: at the budget; with bits enough for whole bases */
    char (*labels)[40];        /* of alone and all_but */
} studies;

/** Chooses the budget. */
void studies_begin(const variants *v, studies *out);

/** Reads "ablation,probe", "all" or "none". Returns an exit code. */
int studies_parse(const char *names, unsigned *which);

/** The names again, in one order. */
void studies_names(unsigned which, char names[STUDY_NAMES_BYTES]);

/** Appends what is not among the variants yet, for a model of so many layers. Returns an exit code;
 * studies_release() in any case. */
int studies_add(unsigned which, size_t layers, variants *v, studies *out);

void studies_release(studies *s);

#endif
