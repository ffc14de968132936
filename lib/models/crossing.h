/**
 * crossing.h (internal) - a layer of cross-attention: rows of text look at rows of pictures, which have keys
 * and values here and are no rows of the text.
 *
 *     K = RMS(k f) each head, V = v f    once for the rows f of a picture            vlci_crossing_append()
 *     x += G1 out(attention(RMS(q RMS(x)), K, V))     in rows that see a picture      vlci_crossing_run()
 *     x += G2 down(act(gate(RMS(x))) * up(RMS(x)))    in rows that are meant to       G = tanh of a gate
 *
 * Nothing is turned by a position. A row in front of all pictures of its conversation gets the first sum only
 * (of all pictures that the prompt brings), as transformers has it; without any picture the layer is left
 * out.
 */
#ifndef VLCI_MODELS_CROSSING_H
#define VLCI_MODELS_CROSSING_H

#include "models/text.h"

/** Rows of pictures that go into a layer's cache. */
typedef struct vlci_crossing_rows {
    cl_mem features;     /**< f32 [..][hidden] */
    int first, n;        /**< rows first .. first + n - 1 of them */
    int until;           /**< rows of the cache from the first of these on: n, and what is behind them */
    int at_once;         /**< rows at a time: at most text->rows */
    cl_mem row_sequence; /**< int [at_once], all 0 */
    cl_mem seq_start;    /**< int, begins with 0 */
    vlci_kv_view kv;     /**< of the layer: it counts the rows already (vlci_kv_refill()) */
} vlci_crossing_rows;

/** Enqueues keys and values of pictures' rows. Errors: the
 * device's. */
vlcache_status vlci_crossing_append(const vlci_text *text, int layer, const vlci_crossing_rows *rows);

/** Enqueues the layer, in place of vlci_text_layers_run(): `rows->kv.ahead` takes the rows themselves off, so
 * that they see what the cache holds. `rows->stream->sees` says which of them get what. */
vlcache_status vlci_crossing_run(const vlci_text *text, int layer, const vlci_text_rows *rows);

#endif
