/**
 * prefill.h (internal) - a prompt through the text transformer, and its KV rows made few before decode
 * begins.
 */
#ifndef VLCI_ENGINE_PREFILL_H
#define VLCI_ENGINE_PREFILL_H

#include "compress/compress.h"
#include "engine/text.h"

/**
 * The steps of a prefill. plan: what the recipe needs to know of the batch; what the cache holds before the
 * prompt is read from it. `*plan` stays NULL when the policy never compresses. `others`: plans for the same
 * prompt.
 * walk: runs the new rows (ids, rows, features as vlci_text_begin()) through all layers, observed by every
 * plan (NULL ones are skipped), and computes the logits of each sequence's last row. text->watch is asked
 * between layers.
 * step: one more token for each sequence, observed by the plan, which counts it as decoded.
 * compress: budgets, then each layer's kept rows move to buffers with `room` rows left for decode. Where `to`
 * is `kv`, the full-size ones are released, layer by layer, and when it fails the cache is cleared; another
 * `to` (of vlci_kv_fork(), without rows) gets copies, and `kv` stays. Positions go on as if nothing had been
 * dropped. Errors: those of vlci_text_run() and of compression; VLCACHE_E_CANCELLED (watch).
 */
vlcache_status vlci_prefill_plan(const vlci_text *text, const vlci_kv *kv, const vlci_recipe *recipe,
                                 const vlci_compress_prompt *prompt, vlci_compress *const *others,
                                 size_t n_others, vlci_compress **plan);
vlcache_status vlci_prefill_walk(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                                 cl_mem features, vlci_compress *const *plans, size_t n_plans);
vlcache_status vlci_prefill_step(vlci_text *text, vlci_kv *kv, const int32_t *tokens, vlci_compress *plan);
vlcache_status vlci_prefill_compress(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan,
                                     vlci_kv *to);

#endif
