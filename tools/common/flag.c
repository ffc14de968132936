/*
 * flag.c - getopt_long() over the table, and the table as text.
 */
#include "common/flag.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vlcache/common.h>

#include "common/exit.h"
#include "common/printable.h"

enum { MAX_NAMES = 64, FIRST_FLAG = 256 }; /* getopt's value of --name: FIRST_FLAG + index */
enum { COLUMN = 28, WIDTH = 100 };         /* of --help: where words begin; of lists of names */

/* What getopt_long() needs, made of the table. */
typedef struct grammar {
    char letters[2 * MAX_NAMES + 2];
    struct option names[MAX_NAMES]; /* ends with a row of zeros */
    int n;
} grammar;

int flag_refuse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printable_put(stderr, program_invocation_short_name);
    fputs(": ", stderr);
    printable_vprintf(stderr, format, args);
    fputs("; see --help\n", stderr);
    va_end(args);
    return EXIT_USAGE;
}

/* ---- the grammar -------------------------------------------------------------------------------------- */

static void add_name(grammar *g, const char *name, bool takes, int index) {
    g->names[g->n++] =
        (struct option){name, takes ? required_argument : no_argument, NULL, FIRST_FLAG + index};
}

static void make_grammar(const flag *table, grammar *g) {
    size_t at = 0;
    memset(g, 0, sizeof *g);
    g->letters[at++] = ':'; /* a missing value is told from an unknown flag */
    for (const flag *f = table; f->kind != FLAG_END; f++) {
        if (f->kind == FLAG_GROUP) continue;
        if (f->letter) g->letters[at++] = f->letter;
        if (f->letter && f->argument) g->letters[at++] = ':';
        add_name(g, f->name, f->argument != NULL, (int)(f - table));
        if (f->also) add_name(g, f->also, f->argument != NULL, (int)(f - table));
    }
}

/* The flag of a value of getopt; NULL where it is none. */
static const flag *find_flag(const flag *table, int value) {
    if (value >= FIRST_FLAG) return &table[value - FIRST_FLAG];
    for (const flag *f = table; f->kind != FLAG_END; f++)
        if (f->letter && f->letter == value) return f;
    return NULL;
}

/* ---- values ------------------------------------------------------------------------------------------- */

/* strtol() and its kin skip spaces; a value that begins with one is refused all the same. */
static bool begins_number(const char *text) {
    return *text && strchr("+-.0123456789", *text) != NULL;
}

bool flag_read_number(const char *text, double *out) {
    char *end = NULL;
    errno = 0;
    *out = begins_number(text) ? strtod(text, &end) : 0.0;
    return end && !*end && !errno && isfinite(*out) && !strpbrk(text, "xX");
}

static int read_whole(const flag *f, const char *name, const char *text, int *out) {
    char *end = NULL;
    errno = 0;
    long value = begins_number(text) ? strtol(text, &end, 10) : 0;
    if (!end || *end || errno || (double)value < f->low || (double)value > f->high)
        return flag_refuse("%s \"%s\": must be a whole number from %.0f to %.0f", name, text, f->low,
                           f->high);
    *out = (int)value;
    return EXIT_OK;
}

static int read_real(const flag *f, const char *name, const char *text, double *out) {
    bool above = f->kind == FLAG_ABOVE, good = flag_read_number(text, out);
    if (good && (above ? *out > f->low : *out >= f->low) && *out <= f->high) return EXIT_OK;
    return flag_refuse("%s \"%s\": must be a number %s %g %s %g", name, text, above ? "above" : "from",
                       f->low, above ? "and at most" : "to", f->high);
}

static int read_seed(const char *name, const char *text, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno)
        return flag_refuse("%s \"%s\": must be a whole number from 0 to %llu", name, text,
                           (unsigned long long)UINT64_MAX);
    *out = value;
    return EXIT_OK;
}

static int read_dtype(const char *name, const char *text, vlcache_dtype *out) {
    for (int i = VLCACHE_DTYPE_AUTO; i <= VLCACHE_DTYPE_BF16; i++) {
        *out = (vlcache_dtype)i;
        if (strcmp(text, vlcache_dtype_name(*out)) == 0) return EXIT_OK;
    }
    return flag_refuse("%s \"%s\": must be auto, f32, f16 or bf16", name, text);
}

static int read_choice(const flag *f, const char *name, const char *text, const char **out) {
    size_t length = strlen(text);
    for (const char *at = f->choices; *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == length && strncmp(at, text, length) == 0) {
            *out = text;
            return EXIT_OK;
        }
    return flag_refuse("%s \"%s\": must be one of %s", name, text, f->choices);
}

static bool asks_for_words(const flag *f) {
    return strcmp(f->name, "help") == 0 || strcmp(f->name, "version") == 0;
}

/* The first one counts; two of them that ask for work are one too many. */
static int read_action(const flag *table, const flag *f, int *out) {
    const flag *first = NULL;
    for (const flag *t = table; t->kind != FLAG_END && *out && !first; t++)
        if (t->kind == FLAG_ACTION && t->offset == f->offset && (int)t->low == *out) first = t;
    if (!first) *out = (int)f->low;
    if (!first || first == f || asks_for_words(first) || asks_for_words(f)) return EXIT_OK;
    return flag_refuse("--%s and --%s: one of both", first->name, f->name);
}

static int read_value(const flag *table, const flag *f, const char *name, const char *text, void *options) {
    void *field = (char *)options + f->offset;
    if (f->read) return f->read(f, name, text, options);
    switch (f->kind) {
    case FLAG_TEXT:
        *(const char **)field = text;
        return EXIT_OK;
    case FLAG_WHOLE:
        return read_whole(f, name, text, field);
    case FLAG_REAL:
    case FLAG_ABOVE:
        return read_real(f, name, text, field);
    case FLAG_SEED:
        return read_seed(name, text, field);
    case FLAG_DTYPE:
        return read_dtype(name, text, field);
    case FLAG_CHOICE:
        return read_choice(f, name, text, field);
    case FLAG_SWITCH:
        *(bool *)field = true;
        return EXIT_OK;
    case FLAG_ACTION:
        return read_action(table, f, field);
    case FLAG_GROUP:
    case FLAG_OWN: /* always has a reader */
    case FLAG_END:
        break;
    }
    return EXIT_USAGE;
}

/* ---- the whole line ----------------------------------------------------------------------------------- */

/* What getopt stumbled over: a letter (in optopt), a name, or a value that a flag does not take. */
static int refuse_flag(const flag *table, char **argv) {
    if (optopt >= FIRST_FLAG) return flag_refuse("--%s: takes no value", find_flag(table, optopt)->name);
    if (optopt > 0) return flag_refuse("-%c: no such flag", optopt);
    return flag_refuse("%s: no such flag", argv[optind - 1]);
}

static int refuse_word(const flag *table, const char *word) {
    while (table->kind != FLAG_END) table++;
    return flag_refuse("\"%s\": not a flag%s%s", word, table->help ? "; " : "",
                       table->help ? table->help : "");
}

static int refuse_missing(const flag *table) {
    const flag *f = find_flag(table, optopt);
    if (optopt >= FIRST_FLAG)
        return flag_refuse("--%s: needs a value: --%s %s", f->name, f->name, f->argument);
    return flag_refuse("-%c: needs a value: -%c %s", optopt, optopt, f->argument);
}

int flags_parse(const flag *table, int argc, char **argv, void *options) {
    grammar g;
    int code = EXIT_OK, value, typed = -1;
    make_grammar(table, &g);
    opterr = 0;
    while (!code && (value = getopt_long(argc, argv, g.letters, g.names, &typed)) != -1) {
        if (value == '?') return refuse_flag(table, argv);
        if (value == ':') return refuse_missing(table);
        char name[48];
        if (value >= FIRST_FLAG)
            snprintf(name, sizeof name, "--%s", g.names[typed].name);
        else
            snprintf(name, sizeof name, "-%c", value);
        code = read_value(table, find_flag(table, value), name, optarg, options);
    }
    if (!code && optind < argc) code = refuse_word(table, argv[optind]);
    return code;
}

/* ---- --help ------------------------------------------------------------------------------------------- */

/* "  -n, --predict N" */
static void print_spelling(const flag *f) {
    char text[64];
    int used = f->letter ? snprintf(text, sizeof text, "  -%c, --%s", f->letter, f->name)
                         : snprintf(text, sizeof text, "      --%s", f->name);
    if (f->argument) snprintf(text + used, sizeof text - (size_t)used, " %s", f->argument);
    printf("%-*s", COLUMN, text);
    if ((int)strlen(text) >= COLUMN) printf("\n%*s", COLUMN, "");
}

/* As many names on a line as it has room for. */
static void print_names(const char *names) {
    for (int at = WIDTH; *names; names += strspn(names, " ")) {
        int length = (int)strcspn(names, " ");
        at = at + 1 + length > WIDTH ? printf("\n%*s", COLUMN, "") - 1 : at + printf(" ");
        at += printf("%.*s", length, names);
        names += length;
    }
}

/* The words of a flag, line under line. */
static void print_words(const flag *f) {
    char names[256];
    for (const char *line = f->help; *line;) {
        size_t length = strcspn(line, "\n");
        printf("%.*s", (int)length, line);
        line += length + (line[length] == '\n');
        if (*line) printf("\n%*s", COLUMN, "");
    }
    if (!f->names) return;
    f->names(names, sizeof names);
    print_names(names);
}

static void print_default(const flag *f, const void *options) {
    const void *field = (const char *)options + f->offset;
    if (f->kind == FLAG_WHOLE) printf(" [%d]", *(const int *)field);
    if (f->kind == FLAG_REAL || f->kind == FLAG_ABOVE) printf(" [%g]", *(const double *)field);
    if (f->kind == FLAG_SEED) printf(" [%llu]", (unsigned long long)*(const uint64_t *)field);
    if (f->kind == FLAG_DTYPE) printf(" [%s]", vlcache_dtype_name(*(const vlcache_dtype *)field));
    if ((f->kind == FLAG_CHOICE || f->kind == FLAG_TEXT) && *(const char *const *)field)
        printf(" [%s]", *(const char *const *)field);
}

void flags_print(const flag *table, const void *options) {
    for (const flag *f = table; f->kind != FLAG_END; f++) {
        if (f->kind == FLAG_GROUP) {
            printf("\n%s\n", f->name);
            continue;
        }
        print_spelling(f);
        print_words(f);
        print_default(f, options);
        putchar('\n');
    }
}
