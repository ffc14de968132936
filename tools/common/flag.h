/**
 * flag.h - a command line as a table of flags: one table that the parser and --help both read. Every number
 * is read to its last character and held against its range. A tool whose flag is judged by more than its kind
 * gives it a reader of its own.
 */
#ifndef COMMON_FLAG_H
#define COMMON_FLAG_H

#include <stdbool.h>
#include <stddef.h>

typedef struct flag flag;

typedef enum flag_kind {
    FLAG_GROUP,  /* a heading of --help */
    FLAG_TEXT,   /* const char * */
    FLAG_WHOLE,  /* int from low to high */
    FLAG_REAL,   /* double from low to high */
    FLAG_ABOVE,  /* double above low, at most high */
    FLAG_SEED,   /* uint64_t */
    FLAG_DTYPE,  /* vlcache_dtype */
    FLAG_CHOICE, /* const char *, one of the words of `choices` */
    FLAG_SWITCH, /* bool */
    FLAG_ACTION, /* int becomes `low`; of two the first counts, two beside --help and --version are refused */
    FLAG_OWN,    /* what its reader makes of it; --help shows no default */
    FLAG_END,    /* of the table; its help: what a word that is no flag may have been meant for, or NULL */
} flag_kind;

/**
 * Reads `text`, the value that was given under `name` ("--policy"), into `options`. EXIT_OK, or what
 * flag_refuse() returned.
 */
typedef int flag_reader(const flag *f, const char *name, const char *text, void *options);

/** The names that a flag takes, as text: "vlcache, full". */
typedef void flag_names(char *text, size_t capacity);

struct flag {
    flag_kind kind;
    char letter;          /* -m; 0: none */
    const char *name;     /* --model */
    const char *also;     /* a further spelling, NULL: none */
    const char *argument; /* DIR; NULL: takes none */
    size_t offset;        /* of its field in the options */
    double low, high;
    const char *choices; /* parted by | */
    const char *help;    /* lines parted by \n */
    flag_reader *read;   /* instead of its kind's; NULL: that one */
    flag_names *names;   /* a line of --help; NULL: none */
};

/**
 * Reads the command line into `options`, which hold their defaults; texts point into argv. EXIT_OK or
 * EXIT_USAGE, then with a message.
 */
int flags_parse(const flag *table, int argc, char **argv, void *options);

/** The flags as --help shows them, with the defaults that `options` hold in brackets. */
void flags_print(const flag *table, const void *options);

/** "NAME: ...; see --help" on standard error; returns EXIT_USAGE. */
int flag_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A finite number and nothing else, not even a space. */
bool flag_read_number(const char *text, double *out);

#endif
