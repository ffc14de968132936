/**
 * walk.h (internal) - the one way through the layers, for the parts of a prompt and for a token of many
 * sequences, with observers that look on.
 *
 *     for each layer:   enter    (rows -> layer -> part)  for each part of the rows    leave
 *
 * A long prompt goes part by part within a layer, so that a layer is whole before the next begins: what was
 * seen of it can be counted, and it can shrink, while later layers do not exist yet. A walk can stop between
 * two parts and go on later.
 */
#ifndef VLCI_ENGINE_WALK_H
#define VLCI_ENGINE_WALK_H

#include "kv/cache.h"
#include "models/text.h"

/** What is done beside the layers themselves. Functions may be NULL. */
typedef struct vlci_observer {
    void *user;
    /** Before a layer's first part. */
    vlcache_status (*enter)(void *user, int layer);
    /** Before a part of a layer of cross-attention, whose rows begin at `from`: what they see has to be
     * there. */
    vlcache_status (*before)(void *user, int layer, int from);
    /** After a part's attention, before the rest of the layer, while q and the row statistics are there; rows
     * from .. from + rows - 1. */
    vlcache_status (*part)(void *user, int layer, const vlci_attention *a, int from, int rows);
    /** After a layer's last part. */
    vlcache_status (*leave)(void *user, int layer);
} vlci_observer;

typedef struct vlci_walk {
    vlci_text *text;
    const vlci_stream *stream;
    vlci_kv *const *kv; /**< [batch]: whose rows they are */
    int batch;
    int rows, at_once;                     /**< of the stream; of a part */
    cl_mem row_sequence, seq_start, slots; /**< int [at_once], [batch + 1], [batch] */
    const vlci_observer *observer;         /**< [n_observers], in the order in which they are asked */
    int n_observers;
    const int *ends; /**< rows at which parts of layers of cross-attention end, ascending; NULL: anywhere */
    int told;        /**< rows that seq_start speaks of */
    int layer, row;  /**< where it stands: the next part */
    int part;        /**< rows of the part that is being enqueued */
} vlci_walk;

/** Goes on while there is `*work` left, of which a row takes 1 in each layer; the last part may take more
 * than is left. All have been through all: layer == layers. Errors: those of the layers and the observers. */
vlcache_status vlci_walk_go(vlci_walk *walk, int64_t *work);

/** Whether it is done. */
static inline bool vlci_walk_done(const vlci_walk *walk) {
    return walk->layer == walk->text->model->config.text.layers;
}

#endif
