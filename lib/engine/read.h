/**
 * read.h (internal) - reading a prompt: its rows through the layers and into the cache, observed by plans, in
 * as many steps as one likes; then the logits of the first token.
 */
#ifndef VLCI_ENGINE_READ_H
#define VLCI_ENGINE_READ_H

#include "compress/plan.h"
#include "device/tap.h"
#include "engine/past.h"
#include "engine/walk.h"
#include "kv/recall.h"

/** Told after each layer; false ends the reading. */
typedef bool (*vlci_reading_fn)(void *user, int done, int layers);

typedef struct vlci_reading {
    vlci_text *text;
    vlci_kv *kv;
    const vlci_prompt *prompt; /**< all borrowed */
    vlci_compress *const *plans;
    size_t n_plans;          /**< that look on; entries may be NULL */
    vlci_compress *by_layer; /**< of these, the one that shrinks layers as they are read; NULL: none does */
    bool singly; /**< no more than one layer is there in full: by_layer, or with recall each is dropped once
                    it is read, and comes back later (vlci_turn_again()) */
    vlci_recall *recall;   /**< brings earlier rows back, and takes to the host what will be dropped; NULL:
                                earlier rows stay as they are */
    const vlci_past *past; /**< with recall: of the conversation, this prompt included */
    vlci_reading_fn watch;
    void *watch_user;
    bool wait; /**< for the device, before `watch` is told */
    vlci_stream stream;
    int32_t next_position;        /**< behind the prompt */
    const int32_t (*position)[3]; /**< of its rows, borrowed, with next_position; NULL: the family's */
    int at_once;                  /**< rows of pictures at a time, for layers of cross-attention */
    bool kept;                    /**< there were pictures before the prompt's */
    int shown;                    /**< sight whose pictures the layer holds; -1: what it held before */
    cl_mem row_sequence, seq_start, slot;
    cl_mem phase; /**< f32 [past->rows][head_dim]: rotations of all rows, where plans need them; else NULL */
    vlci_observer observer[1];
    vlci_walk walk;
} vlci_reading;

/** What a reading is about; the rest of `out` is zero. Takes pages for all layers, or none where singly.
 * `out` stays where it is. Errors: the device's, VLCACHE_E_ARGUMENT (an id beyond the vocabulary),
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_reading_begin(vlci_reading *reading, cl_mem features);

/** Goes on: `work` as of vlci_walk_go(). Once it is done, the logits of the last row are in text->logits, and
 * the cache's position is that behind the prompt. Errors: also VLCACHE_E_CANCELLED (watch). */
vlcache_status vlci_reading_go(vlci_reading *reading, int64_t *work, bool *done);

/** Rows of pictures that a layer of cross-attention comes to hold at most while a prompt is read. `kept`:
 * there were pictures before the prompt's. */
int vlci_reading_most_seen(const vlci_prompt *prompt, bool kept);

/** Rows of a part of a prompt of n. */
int vlci_reading_part(int n);

void vlci_reading_release(vlci_reading *reading);

#endif
