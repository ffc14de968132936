/**
 * text.h (internal) - the text transformer over new rows of a batch: prefill of whole prompts and decode of
 * single tokens are the same walk through the layers.
 */
#ifndef VLCI_ENGINE_TEXT_H
#define VLCI_ENGINE_TEXT_H

#include "compute/attention.h"
#include "kv/cache.h"
#include "models/model.h"

/** Scratch of the text transformer, grown to the largest number of rows seen; decode allocates nothing. */
typedef struct vlci_text {
    const vlcache_model *model;
    vlcache_device *device;
    int batch, rows, capacity; /**< rows of this walk, rows there is room for */
    cl_mem x;                  /**< f32 [rows][hidden]: input, then output of the layers */
    cl_mem norm, qkv, attended, gate_up, gated;
    cl_mem ids, row_position, row_sequence, seq_start;
    cl_mem phase;            /**< f32 [rows][head_dim]: rotations of the rows' positions */
    cl_mem scratch;          /**< of attention in decode */
    cl_mem row_max, row_lse; /**< f32 [rows][heads]: of the layer that ran last */
    cl_mem last, logits;     /**< f32 [batch][hidden], [batch][vocab] */
    cl_mem inv_freq;         /**< f32 [head_dim / 2] */
    int *host_rows;          /**< [batch] */
    bool (*watch)(void *user, int done, int layers); /**< asked between the layers of a prefill, when the
                                                          device has caught up: false ends it; NULL: none */
    void *watch_user;
} vlci_text;

/** The cache of a batch of sequences of a model, empty. Errors: those of vlci_kv_create(). */
vlcache_status vlci_text_cache(const vlcache_model *model, int batch, vlci_kv *out);

/** Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_text_create(const vlcache_model *model, int batch, vlci_text *out);

/**
 * Begins a walk: sequence b adds rows[b] rows at its next positions. ids (host): the rows' tokens, sequences
 * one after another; ids[i] < 0 takes row -1 - ids[i] of `features` (f32 [..][hidden], may be NULL when there
 * is none). Fills x; reserves KV rows. Errors: VLCACHE_E_CONTEXT_FULL, VLCACHE_E_ARGUMENT (an id beyond the
 * vocabulary), the device's.
 */
vlcache_status vlci_text_begin(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                               cl_mem features);

/** Runs one layer over x, appending to the layer's KV rows. */
vlcache_status vlci_text_layer_run(vlci_text *text, vlci_kv *kv, int layer);

/** The attention of a layer over this walk's rows: what ran, and what compression looks at before the next
 * layer runs. */
vlci_attention vlci_text_attention(const vlci_text *text, const vlci_kv *kv, int layer);

/** Ends a walk: counts the rows in, and computes the logits of each sequence's last row: text->logits. */
vlcache_status vlci_text_end(vlci_text *text, vlci_kv *kv);

/** begin, all layers, end. */
vlcache_status vlci_text_run(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                             cl_mem features);

/**
 * One more token for each sequence, chosen on the device: tokens int[batch]. Positions and lengths move on
 * there too, so nothing is written from the host. The walk before must have been one of single rows over the
 * same cache. Errors: VLCACHE_E_CONTEXT_FULL, the device's.
 */
vlcache_status vlci_text_step(vlci_text *text, vlci_kv *kv, cl_mem tokens);

void vlci_text_release(vlci_text *text);

#endif
