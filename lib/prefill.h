/**
 * prefill.h (internal) - a prompt through the text transformer, and its KV rows made few before decode
 * begins.
 */
#ifndef VLCI_PREFILL_H
#define VLCI_PREFILL_H

#include "compress/compress.h"
#include "text.h"

/**
 * Runs new rows of a batch (ids, rows, features as vlci_text_begin()), computes the logits of each sequence's
 * last row, then compresses what was appended: text_after[b] of sequence b's rows follow its last visual
 * token. Each layer's full-size buffers are released as soon as its kept rows are copied; `room` rows are
 * left for decode. Positions go on as if nothing had been dropped.
 * `*plan`: what was measured and kept, for vlci_compress_destroy(); NULL when the policy never compresses.
 * Errors: those of vlci_text_run() and of compression.
 */
vlcache_status vlci_prefill(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                            cl_mem features, const vlcache_compress_options *options, const int *text_after,
                            int room, vlci_compress **plan);

#endif
