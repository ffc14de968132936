/**
 * metric.h - how good an answer is, by the public definitions of the benchmarks.
 *
 *     anls       best over the references of 1 - distance / longer length, 0 where that is below 0.5
 *     exact      1 when the answer is one of the references
 *     relaxed    1 when it is within 5% of a reference number, or is one of the references
 *     contains   1 when it contains one of the references
 *     cider      CIDEr-D, which needs the references of the whole task: cider.h
 *     likelihood exp(mean log p) of the tokens of the first reference, which the model is told as its answer
 */
#ifndef EVAL_METRIC_H
#define EVAL_METRIC_H

#include <stddef.h>

typedef enum metric {
    METRIC_ANLS,
    METRIC_EXACT,
    METRIC_RELAXED,
    METRIC_CIDER,
    METRIC_CONTAINS,
    METRIC_LIKELIHOOD,
    METRICS
} metric;

/** Name of a metric as in the data: "anls" ...; and as people write it: "ANLS" ... (static storage). */
const char *metric_name(metric m);
const char *metric_title(metric m);

/** METRICS when there is none of this name. */
metric metric_find(const char *name);

/**
 * The score in [0, 1] of an answer against its n references, the best of them; NaN when memory runs out.
 * Not for METRIC_CIDER and METRIC_LIKELIHOOD.
 */
double metric_score(metric m, const char *answer, const char *const *references, size_t n);

/** The single metrics, one reference each. */
double metric_anls(const char *answer, const char *reference);
double metric_exact(const char *answer, const char *reference);
double metric_relaxed(const char *answer, const char *reference);
double metric_contains(const char *answer, const char *reference);

#endif
