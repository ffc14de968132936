/**
 * variant.h - the ways to keep the cache that are compared: each policy at each budget.
 *
 *     --policy vlcache,h2o@recent=0.2,vlcache@label=mine,threshold=0.1
 *
 * A policy is spelled as common/policy.h says. "full", the whole cache, is always the first variant:
 * everything is measured against it.
 */
#ifndef EVAL_VARIANT_H
#define EVAL_VARIANT_H

#include <stddef.h>

#include "common/policy.h"

/** The policy of a variant that no --policy asked for: study.h. */
enum { VARIANT_OF_STUDY = -1 };

/** One way. */
typedef struct variant {
    const char *label; /* of its policy: "h2o@recent=0.2", or what label= says */
    int policy;        /* which of --policy it is, "full" being 0; VARIANT_OF_STUDY */
    vlcache_compress_options options;
    vlcache_recall recall;
    int stream; /* frames of a video that are read at a time; 0: all */
} variant;

typedef struct variants {
    variant *items; /* policy by policy, budgets ascending; behind them those of the studies */
    size_t n;
    const char **labels; /* of each policy */
    size_t n_policies;
    double *budgets; /* ascending */
    size_t n_budgets;
    policy_list given; /* what all strings point into */
} variants;

/** Reads both lists; NULL policies: every policy of the library. Returns an exit code;
 * variants_release() in any case. */
int variants_parse(const char *policies, const char *budgets, variants *out);

/** Index of the variant of a policy at a budget, both by their index; of "full" for any budget. */
size_t variants_at(const variants *v, size_t policy, size_t budget);

/** How many of the variants the command line asked for: they stand first. */
size_t variants_compared(const variants *v);

/** {"label": ..., "policy": ..., "budget": ..., and every axis}: what a results file says of it. New, NULL
 * when memory runs out. */
json_t *variant_json(const variant *v);

void variants_release(variants *v);

#endif
