/**
 * options.h - what the command line of vlcache-eval asks for.
 */
#ifndef EVAL_OPTIONS_H
#define EVAL_OPTIONS_H

#include <vlcache/vlcache.h>

#include "eval/study.h"
#include "eval/variant.h"

typedef enum action { ACTION_EVALUATE, ACTION_HELP, ACTION_VERSION } action;

enum { JOBS_MAX = 64 };

/** Texts point into argv. */
typedef struct options {
    int action;
    const char *model; /* NULL: the model that ships */
    const char *data;  /* NULL: the questions that ship */
    const char *policies, *budgets, *format, *results, *report, *device, *chat_template, *system;
    const char *study, *fit; /* NULL: a report's, or none; nowhere */
    const char *share_of;    /* what budgets are shares of: "bytes" or "rows" */
    int limit, predict, jobs;
    int min_pixels, max_pixels; /* of pictures; 0: as the checkpoint says */
    uint64_t seed;
    vlcache_dtype dtype;
    bool strict, quiet, no_mmap;
    variants variants;
    studies studies;
} options;

/** Reads the command line. Returns an exit code; options_release() in any case. */
int options_parse(int argc, char **argv, options *o);

void options_release(options *o);

/** --help, on standard output. */
void help_print(void);

#endif
