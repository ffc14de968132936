/**
 * probe.h (internal) - what the full cache attends to in decode, to hold kept sets against.
 */
#ifndef VLCI_SESSION_PROBE_H
#define VLCI_SESSION_PROBE_H

#include "compress/compress.h"
#include "engine/decode.h"
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
vlcache_status vlci_probe_create(vlci_text *text, const vlci_kv *kv, const vlci_probe_options *options,
                                 vlci_probe **out);

/** Runs a token through the model on the full cache, looking on. Blocks. Errors: those of a walk. */
vlcache_status vlci_probe_step(vlci_probe *probe, vlci_text *text, vlci_kv *kv, int32_t token);

/** A layer as a variant stands to it: `plan` NULL keeps everything; `recipe` its own. Blocks. */
vlcache_status vlci_probe_layer(const vlci_probe *probe, vlci_compress *plan, double threshold, int layer,
                                vlcache_probe_layer *out);

void vlci_probe_destroy(vlci_probe **probe);

#endif
