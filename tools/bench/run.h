/**
 * run.h - one measurement: sequences that all ask the same at once, until each has its answer.
 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench/question.h"

/** What is measured. */
typedef struct setup {
    const policy_spec *policy;
    int sequences;
    int prompt; /* rows of it; 0: as the pictures need, or words */
    int depth;  /* rows that are held before */
    int tokens; /* of an answer */
    bool cold;  /* without a run before the first that counts: it is long, and what it needs is there */
} setup;

/** What came out, in milliseconds: of all sequences together. */
typedef struct timing {
    int prompt, pictures;                           /* rows of a prompt, pictures in it */
    double first;                                   /* from the question to the last sequence's first token */
    double image, vision, prefill, compress, build; /* parts of it, summed up */
    double whole;                                   /* from the question to the last token */
    int steps;           /* in which all answered; where there were none, the next four are 0 */
    double token;        /* the median of these steps */
    double worst;        /* the longest of them */
    double host;         /* mean of a step's time without waiting for the device */
    double rate;         /* tokens a second of all sequences together, in these steps */
    double late;         /* compression that waited for tokens: part of `whole`, not of `first` */
    uint64_t kv_bytes;   /* that all hold at the end */
    uint64_t peak_bytes; /* most device memory meanwhile, weights among it */
} timing;

/** Sequences that stand at their depth, to be asked any number of times. */
typedef struct runner {
    bench *b;
    setup setup;
    question question;
    vlcache_engine *engine;
    vlcache_sequence **base, **asked; /* [sequences]; base: NULL where there is no depth */
    double *step;                     /* [tokens + 1] */
} runner;

/** An exit code, what went wrong told; run_close() in any case. */
int run_open(bench *b, const setup *s, runner *out);

/** Asks once. Errors: those of the turn; EXIT_OK's status alone fills `out`. */
vlcache_status run_once(runner *r, timing *out);

void run_close(runner *r);

#endif
