/**
 * worker.h - a process that asks its share of the questions, and what it tells the one that began it.
 */
#ifndef EVAL_WORKER_H
#define EVAL_WORKER_H

#include <stdatomic.h>

#include "eval/options.h"
#include "eval/results.h"

/** What is to be done; all workers see the same `next`. */
typedef struct work {
    const options *options;
    const char *folder; /* of the model */
    const data *data;
    const results *results; /* those that stood there before any worker began */
    atomic_size_t *next;    /* the item that nobody has looked at yet */
} work;

/**
 * Through the pipe go this, `said` bytes for standard error and `record` bytes of JSON. Neither of them is in
 * the first one: the model is loaded. Both ends are the same program, so it goes as it lies in memory;
 * lengths rather than lines, because what is said quotes paths, which need not be UTF-8.
 */
typedef struct message {
    size_t index; /* of the item that the record is of */
    int code;     /* exit code; not EXIT_OK: this worker has ended */
    size_t said, record;
} message;

/** Asks what is left until nothing is, writing nothing but messages. Returns an exit code. */
int worker_run(const work *w, int pipe);

#endif
