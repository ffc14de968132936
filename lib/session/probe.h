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
    size_t turns; /**< most that are looked at */
} vlci_probe_options;

/** Nothing seen yet. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_probe_create(const vlci_compress_kernels *kernels, const vlci_probe_options *options,
                                 vlci_probe **out);

/** Looks at each step that is run alone on the full cache `kv`, which is borrowed; it blocks in each layer.
 * Errors of its part: VLCACHE_E_NO_MEMORY, the device's. */
vlci_observer vlci_probe_observer(vlci_probe *probe, const vlci_kv *kv);

/** What is seen from here on is the next turn's. */
void vlci_probe_turn(vlci_probe *probe);

/** A layer in a turn, 0 the first, as a variant stands to it: `plan` NULL keeps everything; `threshold` its
 * own. Blocks. Errors: VLCACHE_E_ARGUMENT (no such turn), the device's, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_probe_layer(const vlci_probe *probe, vlci_compress *plan, double threshold, int layer,
                                size_t turn, vlcache_probe_layer *out);

/** One head's tokens by their scores: rank[j] is how many score higher than j, ties: the lower position
 * first. `sorted`: room for n. */
typedef struct vlci_probe_entry {
    float score;
    int32_t position;
} vlci_probe_entry;
void vlci_probe_rank(const float *score, int n, vlci_probe_entry *sorted, int32_t *rank);

void vlci_probe_destroy(vlci_probe **probe);

#endif
