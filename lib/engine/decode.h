/**
 * decode.h (internal) - the next token and the step after it, for one sequence.
 */
#ifndef VLCI_ENGINE_DECODE_H
#define VLCI_ENGINE_DECODE_H

#include "compute/sample.h"
#include "engine/text.h"
#include "vlcache/engine.h"

typedef struct vlci_decode {
    vlci_text *text;
    vlci_kv *kv;         /**< both borrowed */
    vlci_sampling how;   /**< temperature 0: the largest logit */
    uint64_t random;     /**< state of the draws */
    cl_mem chosen, draw; /**< int[1], f32[1] */
    bool rolling;        /**< the step before was one of this decode's */
} vlci_decode;

/** Errors: the device's. */
vlcache_status vlci_decode_create(vlci_text *text, vlci_kv *kv, const vlci_sampling *how, uint64_t seed,
                                  vlci_decode *out);

/** Chooses a token from text->logits; blocks until it is here. */
vlcache_status vlci_decode_choose(vlci_decode *decode, int32_t *token);

/** Enqueues the walk of the token chosen last. */
vlcache_status vlci_decode_step(vlci_decode *decode, int32_t token);

/** The `n` largest logits of the last row, sorted (ties: the lower id first), NaN left out; returns how
 * many. */
vlcache_status vlci_decode_best(const vlci_decode *decode, int n, vlcache_logit *best, int *found);

void vlci_decode_release(vlci_decode *decode);

#endif
