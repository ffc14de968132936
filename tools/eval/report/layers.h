/**
 * layers.h - what the records say of each layer, over all questions.
 */
#ifndef REPORT_LAYERS_H
#define REPORT_LAYERS_H

#include "eval/results.h"

/** Mean and quartiles over the questions of which something is known; NaN where that is none. */
typedef struct spread {
    double mean, low, high;
    size_t n;
} spread;

/** Layers of the model; 0 when no question was answered. */
size_t layers_count(const results *r);

/** Sparsity of a layer; `when`: "sparsity" (in prefill) or "decode"; of the questions whose decode was
 * probed. */
spread layers_sparsity(const results *r, const char *when, double threshold, size_t layer);

/** The same, mean over the layers of each question first. */
spread layers_sparsity_of_all(const results *r, const char *when, double threshold);

/** Hit rate of a layer and variant; `which`: "hit" (all steps) or "hit_first". */
spread layers_hit(const results *r, const char *which, size_t variant, size_t layer);

/** The same, mean over the layers of each question first. */
spread layers_hit_of_all(const results *r, const char *which, size_t variant);

/** Sparsity of a layer in prefill, of all questions where it was measured. */
spread layers_sparsity_any(const results *r, double threshold, size_t layer);

/** Of a coded variant's layer; `what`: "dims" or "bits"; kind 0: of keys, 1: of values. */
spread layers_coded(const results *r, const char *what, size_t variant, size_t layer, int kind);

/** Decoded steps that were probed, all questions together. */
size_t layers_steps(const results *r);

#endif
