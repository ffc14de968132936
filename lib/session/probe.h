/**
 * probe.h (internal) - what the full cache attends to in decode, to hold kept sets against.
 */
#ifndef VLCI_SESSION_PROBE_H
#define VLCI_SESSION_PROBE_H

#include "engine/sequence.h"
#include "vlcache/session.h"

typedef struct vlci_probe vlci_probe;

/** What to watch: one prompt of `tokens` rows, the cache's rows before it, and each variant's threshold. */
typedef struct vlci_probe_options {
    int tokens;
    const int32_t *before; /**< [layers][kv_heads] */
    const vlci_recipe *recipes;
    size_t n;
} vlci_probe_options;

/** Nothing seen yet. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_probe_create(const vlci_compress_kernels *kernels, const vlci_probe_options *options,
                                 vlci_probe **out);

/** Runs a token through the model on the full cache `kv`, looking on. Blocks. Errors: those of
 * vlci_step_run(). */
vlcache_status vlci_probe_step(vlci_probe *probe, vlci_step *step, vlci_kv *kv, int32_t token);

/** A layer as a variant stands to it: `plan` NULL keeps everything; `threshold` its own. Blocks. */
vlcache_status vlci_probe_layer(const vlci_probe *probe, vlci_compress *plan, double threshold, int layer,
                                vlcache_probe_layer *out);

/** One head's tokens by their scores: rank[j] is how many score higher than j, ties: the lower position
 * first. `sorted`: room for n. */
typedef struct vlci_probe_entry {
    float score;
    int32_t position;
} vlci_probe_entry;
void vlci_probe_rank(const float *score, int n, vlci_probe_entry *sorted, int32_t *rank);

void vlci_probe_destroy(vlci_probe **probe);

#endif
