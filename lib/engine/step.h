/**
 * step.h (internal) - one more token for each of several sequences: choosing it from logits, and its row
 * through the layers. Weights are read once for all of them.
 */
#ifndef VLCI_ENGINE_STEP_H
#define VLCI_ENGINE_STEP_H

#include "engine/walk.h"
#include "vlcache/engine.h"

enum { VLCI_STEP_MAX = 1024 }; /* sequences of a step */

/** How a sequence's tokens are chosen. */
typedef struct vlci_choice {
    vlci_sampling how;
    uint64_t random; /**< state of the draws */
} vlci_choice;

typedef struct vlci_step {
    vlci_text *text;
    vlci_stream stream;          /**< [batch] */
    int batch;                   /**< most sequences */
    cl_mem iota;                 /**< int [batch + 1]: 0, 1, ... */
    cl_mem slots, chosen, draws; /**< int, int, vlci_draw [batch] */
    vlci_draw *draw;             /**< [batch], on the host */
    int32_t *row;                /**< [5 batch]: ids, positions, slots on their way */
    vlci_kv **before;            /**< [batch]: whose step the last one was, when they are the same again */
    int n_before;
    bool entered;            /**< what was chosen last is in the stream, and rows are counted */
    vlci_kv **kv;            /**< [batch]: of this step */
    vlci_observer *observer; /**< [batch]: for the caller to fill */
} vlci_step;

/** For at most `batch` sequences. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_step_create(vlci_text *text, int batch, vlci_step *out);

/**
 * Runs tokens[i], chosen last, through the layers behind the rows of step->kv[i], i < n; logits of sequence i
 * are row i of text->logits. The observers 0 .. n_observers - 1 look on. Every cache must have room for a
 * row. Errors: the device's, those of the observers; rows that were not counted are as good as not there.
 */
vlcache_status vlci_step_run(vlci_step *step, const int32_t *tokens, int n, int n_observers);

/** Chooses a token from each of the first n rows of text->logits, -1 where they are all NaN: enqueued, and
 * waited for. */
vlcache_status vlci_step_draw(vlci_step *step, vlci_choice *const *choices, int n);
vlcache_status vlci_step_drawn(vlci_step *step, int n, int32_t *tokens);

/** Whether a token was chosen. Errors: VLCACHE_E_UNSUPPORTED: there is no number among the logits. */
vlcache_status vlci_step_check(const vlci_step *step, int32_t token);

/** Something else than a step has happened: the next one begins anew. */
void vlci_step_forget(vlci_step *step);

/** The `n` largest logits of row 0, sorted (ties: the lower id first), NaN left out; returns how many.
 * Blocks. */
vlcache_status vlci_step_best(const vlci_step *step, int n, vlcache_logit *best, int *found);

/** Puts one logit where it belongs among the best so far, `*found` of at most n, behind its equals: tokens
 * that come in the order of their ids tie to the lower id. */
void vlci_step_insert(vlcache_logit *best, int n, int *found, vlcache_logit one);

void vlci_step_release(vlci_step *step);

#endif
