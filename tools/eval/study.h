/**
 * study.h - ways that a report asks for beside those of the command line: the ablation that the paper leaves
 * out, and a walk along its threshold. Both at one budget, that of --budget nearest to 10%, so that they cost
 * little.
 *
 *     ablation     vlcache with allocation {uniform, sparsity} x scoring {post-vision, accumulated}
 *     threshold    vlcache with p = .001, .003, .01, .03, .1
 */
#ifndef EVAL_STUDY_H
#define EVAL_STUDY_H

#include <stdbool.h>

#include "eval/variant.h"

enum { STUDY_ALLOCATIONS = 2, STUDY_SCORINGS = 2, STUDY_THRESHOLDS = 5 };

extern const double study_threshold[STUDY_THRESHOLDS];

/** Which variants they are, by index. */
typedef struct studies {
    bool on;       /* whether they are asked, and decode is probed */
    size_t budget; /* the one they are at: index in variants.budgets; also without them the one that a report
                      speaks of where it has room for one */
    size_t ablation[STUDY_ALLOCATIONS][STUDY_SCORINGS];
    size_t threshold[STUDY_THRESHOLDS];
} studies;

/** Chooses the budget. */
void studies_begin(const variants *v, studies *out);

/** Appends what is not among the variants yet and switches the studies on. Returns an exit code. */
int studies_add(variants *v, studies *out);

#endif
