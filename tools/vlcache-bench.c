/*
 * vlcache-bench.c - how fast many sequences go together, how much of a step the host is at work, how many
 * fit.
 *
 * Speed: for each policy and number of sequences all ask the same, and what is timed is the steps in which
 * all answer. Fit (--kv-mib): conversations are added and answered, one after another, until the memory is
 * full.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/console.h"
#include "common/exit.h"
#include "common/flag.h"
#include "common/folder.h"
#include "common/interrupt.h"
#include "vlcache/vlcache.h"

enum { MOST_SEQUENCES = 1024, MOST_RUNS = 64, LIST = 32 };

typedef struct options {
    const char *model, *device, *image, *prompt, *policies, *sequences;
    vlcache_dtype dtype;
    double budget, kv_mib;
    int context, tokens, repetitions, action;
    bool quiet;
} options;

enum { ACTION_MEASURE, ACTION_HELP, ACTION_VERSION };

#define AT(field) offsetof(options, field)
static const flag table[] = {
    {.kind = FLAG_GROUP, .name = "What is asked"},
    {FLAG_TEXT, 'm', "model", NULL, "DIR", AT(model), .help = "Hugging Face folder; the model that ships"},
    {FLAG_TEXT, 0, "image", NULL, "FILE", AT(image), .help = "picture of every question; none"},
    {FLAG_TEXT, 'p', "prompt", NULL, "TEXT", AT(prompt), .help = "the question"},
    {FLAG_WHOLE, 'c', "context", NULL, "N", AT(context), 0, 1 << 30,
     .help = "tokens of a conversation at most; 0: the model's"},
    {FLAG_WHOLE, 'n', "tokens", NULL, "N", AT(tokens), 1, 1 << 20, .help = "tokens of an answer at most"},
    {.kind = FLAG_GROUP, .name = "What is compared"},
    {FLAG_TEXT, 0, "policy", NULL, "LIST", AT(policies), .help = "policies, parted by commas"},
    {FLAG_ABOVE, 0, "budget", NULL, "X", AT(budget), 0, 1, .help = "share of the cache that they keep"},
    {FLAG_TEXT, 'b', "sequences", NULL, "LIST", AT(sequences),
     .help = "numbers of sequences, parted by commas"},
    {FLAG_ABOVE, 0, "kv-mib", NULL, "X", AT(kv_mib), 0, 1 << 30,
     .help = "KV memory in MiB: tells how many conversations fit into it,\ninstead of how fast they are"},
    {FLAG_WHOLE, 'r', "repetitions", NULL, "N", AT(repetitions), 1, MOST_RUNS,
     .help = "runs; the median is told"},
    {.kind = FLAG_GROUP, .name = "How"},
    {FLAG_TEXT, 0, "device", NULL, "NAME", AT(device), .help = "index or part of a name; the first"},
    {FLAG_DTYPE, 0, "dtype", NULL, "TYPE", AT(dtype), .help = "auto, f32, f16 or bf16"},
    {FLAG_SWITCH, 'q', "quiet", NULL, NULL, AT(quiet), .help = "no bars"},
    {FLAG_ACTION, 'h', "help", NULL, NULL, AT(action), ACTION_HELP, .help = "this text"},
    {FLAG_ACTION, 0, "version", NULL, NULL, AT(action), ACTION_VERSION, .help = "the version"},
    {.kind = FLAG_END},
};

typedef struct bench {
    options options;
    console console;
    vlcache_device *device;
    vlcache_model *model;
    vlcache_image *image;
} bench;

/* ---- opening ------------------------------------------------------------------------------------------- */

static int open_all(bench *b) {
    char shipped[FOLDER_BYTES];
    const char *folder = b->options.model;
    if (!folder && folder_of_model(shipped)) folder = shipped;
    if (!folder) return console_fail(&b->console, EXIT_INPUT, "no model: name one with -m DIR");
    vlcache_device_options d = VLCACHE_DEVICE_OPTIONS_INIT;
    vlcache_model_options m = VLCACHE_MODEL_OPTIONS_INIT;
    d.progress = m.progress = console_progress;
    d.progress_user = m.progress_user = &b->console;
    m.dtype = b->options.dtype;
    vlcache_status status = vlcache_device_open(b->options.device, &d, &b->device);
    if (!status) status = vlcache_model_load(b->device, folder, &m, &b->model);
    if (!status && b->options.image) status = vlcache_image_load(b->options.image, &b->image);
    console_erase(&b->console);
    return status ? console_fail_status(&b->console, status) : EXIT_OK;
}

static vlcache_status add(bench *b, vlcache_engine *engine, const char *policy, vlcache_sequence **out) {
    vlcache_sequence_options o = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    compress.policy = policy;
    compress.budget = b->options.budget;
    o.compress = &compress;
    o.context = b->options.context;
    return vlcache_engine_add(engine, &o, out);
}

static vlcache_status ask(bench *b, vlcache_sequence *s) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = b->options.prompt;
    prompt.images = (const vlcache_image *const *)&b->image;
    prompt.n_images = b->image != NULL;
    how.max_tokens = b->options.tokens;
    return vlcache_sequence_ask(s, &prompt, &how);
}

/* ---- speed --------------------------------------------------------------------------------------------- */

/* One run: while all answer. */
typedef struct speed {
    double tokens_a_second, step_ms, host_ms;
    uint64_t kv_bytes; /* held by all, at the end of these steps */
} speed;

static int answering(vlcache_sequence *const *s, int n) {
    int found = 0;
    for (int i = 0; i < n; i++) found += vlcache_sequence_state_of(s[i]) == VLCACHE_SEQUENCE_ANSWERING;
    return found;
}

static vlcache_status measure(bench *b, vlcache_engine *engine, vlcache_sequence *const *s, int n,
                              speed *out) {
    vlcache_status status = VLCACHE_OK;
    int busy = n, steps = 0;
    for (int i = 0; i < n && !status; i++) status = ask(b, s[i]);
    while (!status && busy && answering(s, n) < n) status = vlcache_engine_step(engine, &busy);
    double start = clock_seconds(), waited = vlcache_device_waited(b->device);
    while (!status && answering(s, n) == n) {
        status = vlcache_engine_step(engine, &busy);
        steps += !status;
    }
    double seconds = clock_seconds() - start;
    waited = vlcache_device_waited(b->device) - waited;
    vlcache_engine_memory memory;
    vlcache_engine_memory_of(engine, &memory);
    if (steps)
        *out = (speed){n * steps / seconds, 1e3 * seconds / steps, (1e3 * seconds - waited) / steps,
                       memory.held};
    while (!status && busy) status = vlcache_engine_step(engine, &busy);
    for (int i = 0; i < n && !status; i++) status = vlcache_sequence_answer(s[i], NULL);
    return status;
}

static vlcache_status run_once(bench *b, const char *policy, int n, speed *out) {
    vlcache_engine_options o = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    vlcache_sequence *s[MOST_SEQUENCES];
    o.max_sequences = n;
    o.prefill_tokens = 1 << 24;
    vlcache_status status = vlcache_engine_create(b->model, &o, &engine);
    for (int i = 0; i < n && !status; i++) status = add(b, engine, policy, &s[i]);
    if (!status) status = measure(b, engine, s, n, out);
    vlcache_engine_destroy(&engine);
    return status;
}

static int faster(const void *left, const void *right) {
    double a = ((const speed *)left)->tokens_a_second, b = ((const speed *)right)->tokens_a_second;
    return (a > b) - (a < b);
}

static int tell_speed(bench *b, const char *policy, int n, double *one) {
    speed runs[MOST_RUNS] = {{0}};
    int r = b->options.repetitions;
    for (int i = -1; i < r; i++) { /* one to warm up */
        vlcache_status status = run_once(b, policy, n, &runs[i < 0 ? 0 : i]);
        if (status) return console_fail_status(&b->console, status);
        if (interrupt_seen()) return EXIT_INTERRUPT;
        if (runs[i < 0 ? 0 : i].step_ms == 0)
            return console_fail(&b->console, EXIT_INPUT,
                                "%d sequences: the first has ended before the last answers: ask for more "
                                "(-n) or of fewer (-b)",
                                n);
    }
    qsort(runs, (size_t)r, sizeof *runs, faster);
    const speed *m = &runs[r / 2];
    if (*one == 0) *one = m->tokens_a_second;
    printf("| %s | %d | %.0f (%.0f..%.0f) | %.2f | %.3f | %.3f | %.2f |\n", policy, n, m->tokens_a_second,
           runs[0].tokens_a_second, runs[r - 1].tokens_a_second, m->tokens_a_second / *one, m->step_ms,
           m->host_ms, (double)m->kv_bytes / (1024 * 1024));
    fflush(stdout);
    return EXIT_OK;
}

/* ---- fit ----------------------------------------------------------------------------------------------- */

/* Conversations that have been answered stay; the first that finds no memory any more ends it. */
static int tell_fit(bench *b, const char *policy, int *one) {
    vlcache_engine_options o = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    vlcache_engine_memory memory = {0};
    int n = 0, busy = 1;
    o.kv_bytes = (uint64_t)(b->options.kv_mib * 1024 * 1024);
    o.max_sequences = 1;
    vlcache_status status = vlcache_engine_create(b->model, &o, &engine);
    while (!status && n < MOST_SEQUENCES && !interrupt_seen()) {
        vlcache_sequence *s;
        status = add(b, engine, policy, &s);
        if (!status) status = ask(b, s);
        for (busy = 1; !status && busy;) status = vlcache_engine_step(engine, &busy);
        if (!status) status = vlcache_sequence_answer(s, NULL);
        n += !status;
    }
    vlcache_engine_memory_of(engine, &memory);
    vlcache_engine_destroy(&engine);
    if (status && (status != VLCACHE_E_DEVICE_MEMORY || !n)) return console_fail_status(&b->console, status);
    if (*one == 0) *one = n;
    printf("| %s | %d%s | %.2f | %.1f%% |\n", policy, n, n == MOST_SEQUENCES ? " or more" : "",
           (double)n / *one,
           memory.held ? 100.0 * (double)(memory.held - memory.rows) / (double)memory.held : 0.0);
    return EXIT_OK;
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

/* The next word of a list parted by commas; false at its end. */
static bool next_word(const char **at, char word[LIST]) {
    size_t n = strcspn(*at, ",");
    if (!n) return false;
    snprintf(word, LIST, "%.*s", (int)n, *at);
    *at += n + ((*at)[n] == ',');
    return true;
}

static int speeds_of(bench *b, const char *policy) {
    char word[LIST];
    double one = 0;
    int code = EXIT_OK;
    for (const char *at = b->options.sequences; !code && next_word(&at, word);) {
        int n = atoi(word);
        if (n < 1 || n > MOST_SEQUENCES)
            return flag_refuse("-b: \"%s\": numbers of sequences from 1 to %d", word, MOST_SEQUENCES);
        code = tell_speed(b, policy, n, &one);
    }
    return code;
}

static int run(bench *b) {
    char policy[LIST];
    int one = 0, code = open_all(b);
    if (code) return code;
    if (b->options.kv_mib > 0)
        printf("| policy | conversations in %.4g MiB | times | page ends |\n|---|--:|--:|--:|\n",
               b->options.kv_mib);
    else
        puts(
            "| policy | sequences | tokens/s (least..most) | times | ms a step | host ms | KV MiB |\n"
            "|---|--:|--:|--:|--:|--:|--:|");
    for (const char *at = b->options.policies; !code && next_word(&at, policy);)
        code = b->options.kv_mib > 0 ? tell_fit(b, policy, &one) : speeds_of(b, policy);
    return code ? code : console_check_output(&b->console);
}

static void help(const options *o) {
    puts(
        "vlcache-bench - tokens a second of several sequences at once, or how many fit into memory\n\n"
        "    vlcache-bench --image page.png -b 1,4,16,64\n"
        "    vlcache-bench --image page.png -n 8 --policy full,vlcache --kv-mib 32\n\n"
        "\"host ms\" is what a step takes without waiting for the device: the library's own work and the "
        "driver's\n"
        "for its launches. \"page ends\" are rows of memory that are held and hold nothing.\n");
    flags_print(table, o);
}

int main(int argc, char **argv) {
    bench b = {.options = {.prompt = "Describe the image in full.",
                           .policies = "full,vlcache,vlcache+",
                           .sequences = "1,4,16,64",
                           .budget = 0.1,
                           .tokens = 64,
                           .repetitions = 3}};
    options defaults = b.options;
    int code = flags_parse(table, argc, argv, &b.options);
    console_open(&b.console, b.options.quiet, false);
    interrupt_install();
    if (!code && b.options.action == ACTION_HELP) {
        help(&defaults);
        code = console_check_output(&b.console);
    } else if (!code && b.options.action == ACTION_VERSION) {
        printf("vlcache-bench %s (libvlcache %s)\n", VLCACHE_VERSION, vlcache_version());
        code = console_check_output(&b.console);
    } else if (!code) {
        code = run(&b);
    }
    vlcache_image_destroy(&b.image);
    vlcache_model_destroy(&b.model);
    vlcache_device_destroy(&b.device);
    return code;
}
