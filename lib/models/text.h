/**
 * text.h (internal) - running the text model's blocks over some rows: one layer, the ends before and behind
 * them.
 *
 *     x = embedding rows, visual tokens among them                                vlci_text_enter()
 *     each layer: x += out(attention(rope(qkv(RMS(x)))))      x += down(act(gate(RMS(x))) * up(RMS(x)))
 *                 x += features of set 1 + layer, in rows of visual tokens, where there are such sets
 *     logits = head(RMS(x of the last rows))                                      vlci_text_logits()
 *
 * Scratch is sized once; a run allocates nothing.
 */
#ifndef VLCI_MODELS_TEXT_H
#define VLCI_MODELS_TEXT_H

#include "kv/list.h"
#include "models/model.h"

/** How far a row sees pictures through cross-attention: not at all; the pictures of a prompt that it stands
 * in front of; those that stand in front of it. */
enum { VLCI_SEES_NONE, VLCI_SEES_SOME, VLCI_SEES_ITS_OWN };

/** Rows on their way through the layers. */
typedef struct vlci_stream {
    int room;               /**< rows */
    cl_mem ids;             /**< int [room]: a token, or -1 - row of the features */
    cl_mem position;        /**< int [room][3] */
    cl_mem phase;           /**< f32 [room][head_dim]: rotations of the positions */
    cl_mem x;               /**< f32 [room][hidden] */
    cl_mem sees;            /**< int [room]: VLCI_SEES_..; NULL without layers of cross-attention */
    vlci_features features; /**< of the visual tokens, 1 + config.text.deepstack sets of [hidden]; borrowed
                               until all layers have run; zero where no id is negative */
} vlci_stream;

/** What layers need beside the rows: for at most `rows` rows of `batch` sequences at a time. */
typedef struct vlci_text {
    const vlcache_model *model; /**< borrowed */
    int rows, batch;
    cl_mem crossed; /**< f32 [rows][hidden]: a sum of a layer of cross-attention, before it is gated */
    cl_mem norm, qkv, attended, gate_up, gated; /**< [rows][..]: f32, norm, attended and gated in any form */
    cl_mem added;                               /**< f32 [rows][hidden]: what is normed before x has it */
    cl_mem row_max, row_lse;                    /**< f32 [rows][heads]: of the layer that ran last */
    cl_mem scratch;                             /**< of attention in decode */
    cl_mem last, logits;                        /**< f32 [batch][hidden], [batch][vocab] */
    cl_mem inv_freq, axis; /**< f32, int [head_dim / 2]: frequencies, and which of the three
                                numbers of a position each turns by */
} vlci_text;

/** Which rows a layer runs over: rows first .. first + rows - 1 of a stream, of `batch` sequences. */
typedef struct vlci_text_rows {
    const vlci_stream *stream;
    int first, rows, batch;
    cl_mem row_sequence; /**< int [rows] */
    cl_mem seq_start;    /**< int [batch + 1] */
    int max_rows;        /**< most rows of a sequence */
    int max_keys;        /**< most rows of the cache that any of them sees */
    int mean_keys;       /**< rows that a kv head of a sequence has, on the average; 0: not known */
    vlci_kv_view kv;
    vlci_kv *const *sequences; /**< [batch]: whose coded rows they see, too; NULL: there are none */
    /** Told of a layer's attention, but not of cross-attention, as soon as it is enqueued; NULL: nobody is */
    vlcache_status (*attended)(void *user, int layer, const vlci_attention *attention);
    void *user;
    bool unwatched; /**< the same rows go through all layers, and nobody looks at a layer's attention */
} vlci_text_rows;

/** Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_stream_create(const vlcache_model *model, int rows, vlci_stream *out);
void vlci_stream_release(const vlcache_model *model, vlci_stream *stream);

/** Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_text_create(const vlcache_model *model, int rows, int batch, vlci_text *out);

/** Most rows of a prompt that go through a layer at once: what activations take is bounded by it. */
enum { VLCI_PART_ROWS = 2048 };

/** Bytes of the device's memory that reading a prompt of `rows` rows takes beside weights and KV rows:
 * stream, room for its parts, logits. The largest that any device needs; attention's scratch is not in it. */
uint64_t vlci_text_work_bytes(const vlci_text_config *config, int rows);

/** Makes room for `rows` rows at a time. Errors: the device's; there is room for none then. */
vlcache_status vlci_text_room(vlci_text *text, int rows);

/** Enqueues x and phase of rows 0 .. rows - 1 of a stream from its ids, features and positions. */
vlcache_status vlci_text_enter(const vlci_text *text, const vlci_stream *stream, int rows);

/** The attention of some rows in a layer: what vlci_text_layer() runs, and what is looked at afterwards,
 * before the next layer. */
vlci_attention vlci_text_attention(const vlci_text *text, int layer, const vlci_text_rows *rows);

/** Enqueues a layer, or as many as go together where nobody looks on: *n tells how many. They append keys and
 * values behind the rows that `rows->kv` says there are, and change x; one of cross-attention is
 * models/crossing.h's.
 * Where a prompt's rows see each other (config.text.prefix_lm), these are all rows of the prompt. */
vlcache_status vlci_text_layers_run(const vlci_text *text, int layer, const vlci_text_rows *rows, int *n);

/** Enqueues the logits of n rows of a stream, from row `first` on. */
vlcache_status vlci_text_logits(const vlci_text *text, const vlci_stream *stream, int first, int n);

void vlci_text_release(vlci_text *text);

#endif
