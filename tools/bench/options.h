/**
 * options.h - the flags of vlcache-bench.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>

#include "common/policy.h"

enum { LIST_MOST = 32, MOST_SEQUENCES = 1024, MOST_RUNS = 64, AS_MANY_AS_FIT = -1 };

typedef enum bench_action {
    ACTION_MEASURE,
    ACTION_PAPER,
    ACTION_KERNELS,
    ACTION_CONFIG,
    ACTION_HELP,
    ACTION_VERSION
} bench_action;

/** Whole numbers that a flag lists; n 0: it was not given. */
typedef struct list {
    int n, at[LIST_MOST];
} list;

typedef struct options {
    const char *model, *geometry, *device, *image, *prompt, *list, *format, *only;
    policy_list policies; /* what `list` names, each at the budget */
    vlcache_dtype dtype;
    double budget, kv_mib;
    list lengths, sequences, depths; /* -p, -b, -d */
    int images, context, tokens, repetitions, action;
    bool quick, quiet, cold, plain, profile, chosen, no_mmap; /* plain: no ceilings are measured */
} options;

/** Reads the command line over the defaults; options_release() in any case. An exit code, told. */
int options_parse(int argc, char **argv, options *out);

void options_release(options *o);

/** Whether prompts are words, and not ids of a number. */
bool options_words(const options *o);

/** --help, on standard output. */
void options_help(void);

/** The next word of a list parted by commas; false at its end. Longer words are cut. */
enum { WORD_BYTES = 48 };
bool options_word(const char **at, char word[WORD_BYTES]);

#endif
