/**
 * report.h - what a run has shown, as one HTML file that needs nothing else: no network, no script.
 *
 *     header            what was run, and how
 *     scores            score against budget
 *     retention         share of the full cache's score, with intervals
 *     ablation          allocation x scoring                             of the studies (study.h)
 *     sparsity          of each layer, in prefill and in decode          of the studies
 *     hits              of what decode attends to, what was kept         of the studies
 *     threshold         sensitivity to p                                 of the studies
 *     gallery           pictures, kept tokens, answers
 *
 * Everything comes from the results: the same results give the same bytes.
 */
#ifndef EVAL_REPORT_H
#define EVAL_REPORT_H

#include "eval/options.h"
#include "eval/table.h"

typedef struct report {
    const outcome *outcome;
    const options *options;
    int argc; /* the command line */
    char **argv;
} report;

/** Whether the file can be written, before hours are spent. Returns an exit code. */
int report_check(const char *path, console *c);

/** Writes it, whole or not at all. Returns an exit code. */
int report_write(const report *r, console *c);

#endif
