/*
 * options.c - from argv to options: getopt_long over the table of flags, every number read to its last
 * character and held against its range.
 */
#include "run/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/exit.h"
#include "run/flag.h"

enum { MAX_NAMES = 64, FIRST_FLAG = 256 }; /* getopt's value of --name is FIRST_FLAG + index of its flag */

/* What getopt_long() needs, made of the table. */
typedef struct grammar {
    char letters[2 * MAX_NAMES + 2];
    struct option names[MAX_NAMES]; /* ends with a row of zeros */
    int n;
} grammar;

void options_default(options *o) {
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    *o = (options){.predict = generate.max_tokens,
                   .temperature = (double)generate.temperature,
                   .top_k = generate.top_k,
                   .top_p = (double)generate.top_p,
                   .seed = generate.seed,
                   .compress = compress};
    o->compress.policy = DEFAULT_POLICY;
    o->compress.budget = DEFAULT_BUDGET;
}

void options_release(options *o) {
    free(o->images);
    o->images = NULL;
}

static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int refuse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("vlcache-run: ", stderr);
    vfprintf(stderr, format, args);
    fputs("; see --help\n", stderr);
    va_end(args);
    return EXIT_USAGE;
}

/* ---- the grammar -------------------------------------------------------------------------------------- */

static void add_name(grammar *g, const flag *f, const char *name) {
    g->names[g->n++] = (struct option){name, f->argument ? required_argument : no_argument, NULL,
                                       FIRST_FLAG + (int)(f - flags)};
}

static void make_grammar(grammar *g) {
    size_t at = 0;
    memset(g, 0, sizeof *g);
    g->letters[at++] = ':'; /* a missing value is told from an unknown flag */
    for (const flag *f = flags; f->kind != FLAG_END; f++) {
        if (f->kind == FLAG_GROUP) continue;
        if (f->letter) g->letters[at++] = f->letter;
        if (f->letter && f->argument) g->letters[at++] = ':';
        add_name(g, f, f->name);
        for (int i = 0; i < 2 && f->also[i]; i++) add_name(g, f, f->also[i]);
    }
}

/* The flag of a value of getopt; NULL where it is none. */
static const flag *find_flag(int value) {
    if (value >= FIRST_FLAG) return &flags[value - FIRST_FLAG];
    for (const flag *f = flags; f->kind != FLAG_END; f++)
        if (f->letter && f->letter == value) return f;
    return NULL;
}

/* ---- values ------------------------------------------------------------------------------------------- */

/* strtol() and its kin skip spaces; a value that begins with one is refused all the same. */
static bool begins_number(const char *text) {
    return *text && strchr("+-.0123456789", *text) != NULL;
}

static int read_whole(const flag *f, const char *name, const char *text, int *out) {
    char *end = NULL;
    errno = 0;
    long value = begins_number(text) ? strtol(text, &end, 10) : 0;
    if (!end || *end || errno || (double)value < f->low || (double)value > f->high)
        return refuse("%s \"%s\": must be a whole number from %.0f to %.0f", name, text, f->low, f->high);
    *out = (int)value;
    return EXIT_OK;
}

static bool read_double(const char *text, double *out) {
    char *end = NULL;
    errno = 0;
    *out = begins_number(text) ? strtod(text, &end) : 0.0;
    return end && !*end && !errno && isfinite(*out);
}

static int read_real(const flag *f, const char *name, const char *text, double *out) {
    bool above = f->kind == FLAG_ABOVE, good = read_double(text, out);
    if (good && (above ? *out > f->low : *out >= f->low) && *out <= f->high) return EXIT_OK;
    return refuse("%s \"%s\": must be a number %s %g %s %g", name, text, above ? "above" : "from", f->low,
                  above ? "and at most" : "to", f->high);
}

static int read_seed(const char *name, const char *text, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno)
        return refuse("%s \"%s\": must be a whole number from 0 to %llu", name, text,
                      (unsigned long long)UINT64_MAX);
    *out = value;
    return EXIT_OK;
}

/* The library knows the ranges: it judges the options with this one value in them. */
static int read_compress(const char *name, const char *text, options *o, double *out) {
    vlcache_compress_options judged;
    if (!read_double(text, out)) *out = NAN;
    judged = o->compress;
    judged.policy = NULL;
    if (!vlcache_compress_check(&judged)) return EXIT_OK;
    const char *range = strstr(vlcache_error_message(), "must be");
    return refuse("%s \"%s\": %s", name, text, range ? range : vlcache_error_message());
}

static int read_policy(const char *name, const char *text, options *o) {
    o->compress.policy = text;
    if (!vlcache_compress_check(&o->compress)) return EXIT_OK;
    const char *cause =
        strstr(vlcache_error_message(), "policy: "); /* the field's own name needs no telling */
    return refuse("%s: %s", name, cause ? cause + 8 : vlcache_error_message());
}

static int read_dtype(const char *name, const char *text, vlcache_dtype *out) {
    for (int i = VLCACHE_DTYPE_AUTO; i <= VLCACHE_DTYPE_BF16; i++) {
        *out = (vlcache_dtype)i;
        if (strcmp(text, vlcache_dtype_name(*out)) == 0) return EXIT_OK;
    }
    return refuse("%s \"%s\": must be auto, f32, f16 or bf16", name, text);
}

/* Checked here as well as by the session, so that a slip is told before the weights are loaded. */
static int read_template(const char *name, const char *text, const char **out) {
    size_t length = strlen(text);
    const char *names = vlcache_chat_template_names();
    for (const char *at = names; (at = strstr(at, text)) && length; at += length) {
        bool starts = at == names || at[-1] == ' ' || at[-1] == ',';
        if (!starts || (at[length] && at[length] != ',')) continue;
        *out = text;
        return EXIT_OK;
    }
    return refuse("%s \"%s\": must be one of %s", name, text, names);
}

static int read_value(const flag *f, const char *name, const char *text, options *o) {
    void *field = (char *)o + f->offset;
    switch (f->kind) {
    case FLAG_TEXT:
        *(const char **)field = text;
        return EXIT_OK;
    case FLAG_IMAGE:
        o->images[o->n_images++] = text;
        return EXIT_OK;
    case FLAG_WHOLE:
        return read_whole(f, name, text, field);
    case FLAG_REAL:
    case FLAG_ABOVE:
        return read_real(f, name, text, field);
    case FLAG_SEED:
        return read_seed(name, text, field);
    case FLAG_COMPRESS:
        return read_compress(name, text, o, field);
    case FLAG_POLICY:
        return read_policy(name, text, o);
    case FLAG_DTYPE:
        return read_dtype(name, text, field);
    case FLAG_TEMPLATE:
        return read_template(name, text, field);
    case FLAG_SWITCH:
        *(bool *)field = true;
        return EXIT_OK;
    case FLAG_ACTION: /* the first one counts */
        if (o->action == ACTION_ASK) o->action = (action)(int)f->low;
        return EXIT_OK;
    case FLAG_GROUP:
    case FLAG_END:
        break;
    }
    return EXIT_USAGE;
}

/* ---- the whole line ----------------------------------------------------------------------------------- */

/* What getopt stumbled over: a letter (in optopt), a name, or a value that a flag does not take. */
static int refuse_flag(char **argv) {
    if (optopt >= FIRST_FLAG) return refuse("--%s: takes no value", find_flag(optopt)->name);
    if (optopt > 0) return refuse("-%c: no such flag", optopt);
    return refuse("%s: no such flag", argv[optind - 1]);
}

static int refuse_missing(void) {
    const flag *f = find_flag(optopt);
    if (optopt >= FIRST_FLAG) return refuse("--%s: needs a value: --%s %s", f->name, f->name, f->argument);
    return refuse("-%c: needs a value: -%c %s", optopt, optopt, f->argument);
}

static int parse_flags(const grammar *g, int argc, char **argv, options *o) {
    int code = EXIT_OK, value, typed = -1;
    opterr = 0;
    while (!code && (value = getopt_long(argc, argv, g->letters, g->names, &typed)) != -1) {
        if (value == '?') return refuse_flag(argv);
        if (value == ':') return refuse_missing();
        char name[48];
        if (value >= FIRST_FLAG)
            snprintf(name, sizeof name, "--%s", g->names[typed].name);
        else
            snprintf(name, sizeof name, "-%c", value);
        code = read_value(find_flag(value), name, optarg, o);
    }
    if (!code && optind < argc)
        code = refuse("\"%s\": not a flag; a question is given with -p", argv[optind]);
    return code;
}

/* Flags that need one another, or exclude one another. */
static int check_together(const options *o) {
    int from_input = 0;
    if (o->action != ACTION_ASK) return EXIT_OK;
    for (int i = 0; i < o->n_images; i++) from_input += strcmp(o->images[i], "-") == 0;
    if (from_input > 1) return refuse("--image -: standard input holds one picture");
    if (from_input && !o->prompt) return refuse("--image -: needs -p, since a chat reads standard input");
    if (o->json && !o->prompt) return refuse("--json: needs -p");
    if (o->dump_kept && !o->json) return refuse("--dump-kept: needs --json");
    if (o->heatmap && !o->prompt) return refuse("--heatmap: needs -p");
    if (o->heatmap && !o->n_images) return refuse("--heatmap: needs a picture, --image FILE");
    return EXIT_OK;
}

int options_parse(int argc, char **argv, options *o) {
    grammar g;
    options_default(o);
    o->images = calloc((size_t)argc + 1, sizeof *o->images);
    if (!o->images) {
        fputs("vlcache-run: out of host memory\n", stderr);
        return EXIT_MEMORY;
    }
    make_grammar(&g);
    int code = parse_flags(&g, argc, argv, o);
    return code ? code : check_together(o);
}
