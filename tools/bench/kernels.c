/*
 * kernels.c - checks and times each rung of each kernel, as the tests check them, with a clock.
 */
#include "bench/kernels.h"

#include <stdio.h>

#include "bench/ceiling.h"
#include "bench/kernels/trial.h"
#include "bench/speed.h"
#include "common/exit.h"
#include "common/interrupt.h"

static const column columns[] = {
    {"kernel", "kernel", NULL}, {"rung", "rung", NULL},        {"chosen", "", NULL},
    {"shape", "shape", NULL},   {"ms", "ms", "%.4f"},          {"ms_min", NULL, "%.4f"},
    {"ms_max", NULL, "%.4f"},   {"tflops", "TFLOP/s", "%.2f"}, {"gb_per_s", "GB/s", "%.1f"},
    {"share", "share", "%.2f"}, {"error", "error", "%.1e"},    {"note", "note", NULL},
    {NULL, NULL, NULL},
};

static vlcache_status all_trials(trials *t) {
    vlcache_status status = linear_trials(t);
    if (!status) status = chain_trials(t);
    if (!status) status = attention_trials(t);
    if (!status) status = few_trials(t);
    if (!status) status = row_trials(t);
    if (!status) status = sample_trials(t);
    if (!status) status = compress_trials(t);
    if (!status) status = summary_trials(t);
    return status ? status : coding_trials(t);
}

int kernels_tell(bench *b) {
    vlcache_dtype dtype = b->options.dtype == VLCACHE_DTYPE_AUTO ? VLCACHE_DTYPE_BF16 : b->options.dtype;
    trials t = {.b = b, .device = b->device, .dtype = dtype};
    const char *at = b->options.only;
    char word[WORD_BYTES];
    vlcache_status status = b->options.plain ? VLCACHE_OK : ceiling_measure(b->device, dtype, &b->ceiling);
    console_erase(&b->console);
    if (status) return console_fail_status(&b->console, status);
    t.table = table_begin(columns, b->options.format, speed_head(b), &b->console);
    status = all_trials(&t);
    table_end(&t.table);
    if (interrupt_seen()) return EXIT_INTERRUPT;
    if (status) return console_fail_status(&b->console, status);
    for (uint64_t bit = 1; at && options_word(&at, word) && bit; bit <<= 1)
        if (!(t.found & bit))
            return console_fail(&b->console, EXIT_USAGE, "--only \"%s\": is in no line of --kernels%s", word,
                                b->options.chosen ? " --chosen" : "");
    if (!t.wrong) return EXIT_OK;
    return console_fail(&b->console, EXIT_DEVICE,
                        "%d lines are WRONG: further from doubles than rounding explains", t.wrong);
}
