/**
 * prefill.h (internal) - a prompt through the text transformer, and its KV rows made few before decode
 * begins.
 */
#ifndef VLCI_PREFILL_H
#define VLCI_PREFILL_H

#include "compress/compress.h"
#include "text.h"

/**
 * The three steps of a prefill. plan: what the policy needs to know of the batch; text_after[b] of sequence
 * b's new rows follow its last visual token. `*plan` stays NULL when the policy never compresses.
 * walk: runs the new rows (ids, rows, features as vlci_text_begin()) through all layers, observing each, and
 * computes the logits of each sequence's last row. text->watch is asked between layers.
 * compress: budgets, then each layer's kept rows move to buffers with `room` rows left for decode and the
 * full-size ones are released, layer by layer. Positions go on as if nothing had been dropped. When it fails
 * the cache is cleared. Errors: those of vlci_text_run() and of compression; VLCACHE_E_CANCELLED (watch).
 */
vlcache_status vlci_prefill_plan(const vlci_text *text, const vlci_kv *kv, const int *rows,
                                 const int *text_after, const vlcache_compress_options *options,
                                 vlci_compress **plan);
vlcache_status vlci_prefill_walk(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                                 cl_mem features, vlci_compress *plan);
vlcache_status vlci_prefill_compress(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan);

/** All three. `*plan`, for vlci_compress_destroy(): what was measured and kept. */
vlcache_status vlci_prefill(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                            cl_mem features, const vlcache_compress_options *options, const int *text_after,
                            int room, vlci_compress **plan);

#endif
