/**
 * told.h - what transformers answered of a tiny model, in turns and compressed (more.json and taps of its
 * folder), and engines that are to answer the same.
 */
#ifndef TEST_SUPPORT_TOLD_H
#define TEST_SUPPORT_TOLD_H

#include <jansson.h>

#include "support/taps.h"
#include "vlcache/engine.h"

enum { TOLD_PICTURES = 4 };

/** A folder's model in f32, its more.json, and the taps and pictures of one of its entries. */
typedef struct told {
    vlcache_model *model;
    json_t *more;
    taps taps;
    vlcache_image *image[TOLD_PICTURES];
    int n_images;
} told;

/** `folder` of test/data/models; entry `name`, which has `n_images` pictures. */
void told_open(told *t, const char *folder, const char *name, int n_images);
void told_close(told *t);

/** An engine of `bytes` of KV memory (0: as much as is needed), and a sequence of it; fail the test when
 * there is none. */
vlcache_engine *told_engine(const told *t, uint64_t bytes);
vlcache_sequence *told_add(vlcache_engine *engine, const char *policy, double budget);

/** Queues an entry's raw question, whose pictures are those from `first` on, for `n_tokens` tokens; returns
 * the picture behind them. */
int told_queue(const told *t, vlcache_sequence *s, const json_t *entry, int first, int n_tokens);

/** The answer, whose tokens are these; `what` names it. */
const vlcache_answer *told_tokens(const char *what, vlcache_sequence *s, const tap *want);

/** A turn that is cancelled while it is read. */
void told_cancel(const told *t, vlcache_engine *engine, vlcache_sequence *s, const json_t *turn, int first);

/** At each of the two budgets of entry "kept": tokens, and sparsity, budget and kept sets of all `layers`
 * layers; of cross-attention no row is recent. */
void told_kept_sets(const told *t, int layers);

#endif
