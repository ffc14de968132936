/**
 * engine.h (internal) - an engine: what its sequences share, who they are, and who waits.
 */
#ifndef VLCI_ENGINE_ENGINE_H
#define VLCI_ENGINE_ENGINE_H

#include "engine/sequence.h"

struct vlcache_engine {
    vlci_shared shared;
    int max_sequences, prefill_tokens;
    vlcache_sequence *first; /* all of them, in the order in which they came */
    uint64_t tickets;        /* turns that were asked so far */
    vlcache_sequence **list; /* [max_sequences]: of a step */
};

/** Builds or loads what a recipe launches. Errors: those of vlci_compress_open(). */
vlcache_status vlci_engine_open(vlcache_engine *engine, const vlci_recipe *recipe);

#endif
