/**
 * ask.h - one question, answered in every way, as a record of the results.
 *
 *     {"line", "id", "pictures": [hash of each file, null where it could not be read],
 *      "prompt": {"tokens", "visual", "post_vision"}, "bytes": KV bytes of the full cache,
 *      "sparsity": {threshold: [of each layer in prefill]}, "cells": [[picture, x0, y0, x1, y1], ...],
 *      "steps": decoded steps that were probed, "decode": {threshold: [sparsity of each layer in decode]},
 *      "runs": [of each variant
 *          {"text": [of each turn], "tokens": [of each turn], "kept": share, "bytes",
 *           "layers": [rows a kv head keeps in each layer], "seen": "how often ...",
 *           "hit", "hit_first": [hit rate of each layer, of all steps and of the first],
 *           "hit_tenth": [of each tenth of the steps, mean over layers],
 *           "hit_turn": [of each turn of a talk, mean over layers],
 *           "visual", "visual_bits": [share of the kept rows of each layer, and of their bits: of text rows
 *                                     with scales; bases, means and tables are neither kind's],
 *           "dims", "bits": [[of keys, of values] of each coded layer],
 *           "loss": [of each turn that was told]}]}
 *
 * post_vision: text tokens behind any picture. sparsity is there where a variant measured it, of each
 * threshold; steps, decode and hits only where decode was probed: with the studies, for questions of one
 * turn, not of a variant that reads a video in parts. hit_turn is of what the full cache's turns look at
 * among the first prompt's rows; variants with recall, which choose rows anew, have none. cells and seen are
 * only for the gallery: of each visual token where it lies in its picture, and how many (layer, kv head)
 * pairs keep it, as a digit of SEEN_DIGITS (0: none, the last: all).
 */
#ifndef EVAL_ASK_H
#define EVAL_ASK_H

#include "eval/data.h"
#include "eval/options.h"

#define SEEN_DIGITS "0123456789abcdefghijklmnopqrstuvwxyz"

/** Everything that asking needs, open. */
typedef struct asker {
    const options *options;
    console *console;
    vlcache_device *device;
    vlcache_model *model;
    vlcache_session *session;
    size_t row_bytes;              /* of a row of a kv head, keys and values */
    size_t answers, answers_total; /* of this run, every variant one: for the bar */
    double start;
} asker;

/** Opens device and model. Returns an exit code; asker_close() in any case. */
int asker_open(asker *a, const options *o, const char *folder, console *c);

/** Name of the device that --device names, with nothing left open; "" when there is none. Returns an exit
 * code: a device that is there and fails is another matter. */
int asker_device_name(const options *o, console *c, char *name, size_t room);

/**
 * Asks item `index`. `*record` is new; a question that cannot be asked (picture, context) gets a
 * record that says why, and is told on standard error. Returns an exit code; with --strict EXIT_INPUT for
 * such a question.
 */
int asker_ask(asker *a, const data *d, size_t index, json_t **record);

/** The bar: answers of this run, and the time that the others will take at this rate. */
void asker_progress(console *c, size_t answers, size_t total, double start);

void asker_close(asker *a);

#endif
