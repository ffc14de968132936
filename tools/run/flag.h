/**
 * flag.h - the flags of vlcache-run: one table that the parser and --help both read.
 */
#ifndef RUN_FLAG_H
#define RUN_FLAG_H

#include <stddef.h>

#include "run/options.h"

typedef enum flag_kind {
    FLAG_GROUP,    /* a heading of --help */
    FLAG_TEXT,     /* const char * */
    FLAG_IMAGE,    /* one more of options.images */
    FLAG_WHOLE,    /* int from low to high */
    FLAG_REAL,     /* double from low to high */
    FLAG_ABOVE,    /* double above low, at most high */
    FLAG_SEED,     /* uint64_t */
    FLAG_COMPRESS, /* double of vlcache_compress_options, which vlcache_compress_check() judges */
    FLAG_POLICY,   /* const char *, judged likewise */
    FLAG_DTYPE,    /* vlcache_dtype */
    FLAG_TEMPLATE, /* const char *, one of vlcache_chat_template_names() */
    FLAG_SWITCH,   /* bool */
    FLAG_ACTION,   /* options.action becomes `low` */
    FLAG_END,
} flag_kind;

typedef struct flag {
    flag_kind kind;
    char letter;          /* -m; 0: none */
    const char *name;     /* --model */
    const char *also[2];  /* further spellings, as llama.cpp has them */
    const char *argument; /* DIR; NULL: takes none */
    size_t offset;        /* of its field in options */
    double low, high;
    const char *help; /* lines parted by \n */
} flag;

/** The table, ended by FLAG_END. */
extern const flag flags[];

/** The names that a flag takes, where the library lists them: "vlcache, full"; else "". */
void flag_names(const flag *f, char *text, size_t capacity);

/** The default of a flag as text, from options_default(); "" where it has none to show. */
void flag_default(const flag *f, char *text, size_t capacity);

#endif
