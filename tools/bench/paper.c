/*
 * paper.c - the efficiency table of arXiv 2410.23317, measured: the full cache against a tenth of it.
 *
 *     ratio = time with everything / time with a tenth, of prefill, of decode, and of both together
 *     bound = (weights + KV) / (weights + budget * KV), in bytes: what decode could win if it did nothing but
 *             read
 *
 * Prefill has the counting, scoring and compacting of the policy in it, and the vision tower, which is the
 * same on both sides, stands apart. (One picture a prompt, --images 1, makes it short: what is compressed is
 * the whole prompt, pictures or not.) The paper's figures are those of LLaVA-Mistral-7B on its authors'
 * engine.
 */
#include <stdio.h>

#include "bench/inside.h"
#include "bench/result.h"
#include "bench/speed.h"
#include "common/exit.h"

enum { TOKENS = 100, LONG = 1 << 14 /* tokens that are not read only to warm up */ };

typedef struct paper_row {
    int sequences, prompt;
    double prefill, decode, whole; /* of the paper */
} paper_row;

static const paper_row rows[] = {{1, 2048, 0.96, 1.19, 1.16},
                                 {1, 32768, 0.99, 3.32, 1.85},
                                 {1, 131072, 0.99, 7.08, 1.66},
                                 {4, 32768, 0.99, 6.07, 2.06},
                                 {64, 2048, 0.98, 5.23, 2.33}},
                       quick_rows[] = {{1, 256, 0.96, 1.19, 1.16}, {4, 128, 0.99, 6.07, 2.06}};

static const column columns[] = {
    {"sequences", "batch", "%.0f"},
    {"prompt_tokens", "prompt", "%.0f"},
    {"prefill_ratio", "prefill", "%.2f"},
    {"paper_prefill", "paper", "%.2f"},
    {"decode_ratio", "decode", "%.2f"},
    {"paper_decode", "paper", "%.2f"},
    {"bound", "bound", "%.2f"},
    {"whole_ratio", "end to end", "%.2f"},
    {"paper_whole", "paper", "%.2f"},
    {"prefill_ms_full", "prefill ms", "%.0f"},
    {"prefill_ms", NULL, "%.0f"},
    {"token_ms_full", "ms a token", "%.2f"},
    {"token_ms", "at budget", "%.2f"},
    {"kv_mib_full", NULL, "%.0f"},
    {"kv_mib", NULL, "%.0f"},
    {"note", "", NULL},
    {NULL, NULL, NULL},
};

/* Milliseconds of a prompt in the text model, and of the whole answer. */
static double prefill_ms(const result *r) {
    return r->median.prefill + r->median.compress;
}

static double decode_ms(const result *r) {
    return r->median.token * (TOKENS - 1) + r->median.late;
}

static double ratio(double full, double small) {
    return small > 0 ? full / small : 0;
}

static double bound(const bench *b, const paper_row *row) {
    double weights = (result_layer_weights(&b->info) + result_head_weights(&b->info)) *
                     (b->info.dtype == VLCACHE_DTYPE_F32 ? 4 : 2);
    double kv = result_row_bytes(&b->info) * row->sequences * (row->prompt + TOKENS / 2.0);
    return (weights + kv) / (weights + b->options.budget * kv);
}

static void tell_row(const bench *b, table *t, const paper_row *row, const result *full,
                     const result *small) {
    const double mib = 1024.0 * 1024.0;
    table_number(t, row->sequences);
    table_number(t, row->prompt);
    table_number(t, ratio(prefill_ms(full), prefill_ms(small)));
    table_number(t, row->prefill);
    table_number(t, ratio(decode_ms(full), decode_ms(small)));
    table_number(t, row->decode);
    table_number(t, bound(b, row));
    table_number(t, ratio(prefill_ms(full) + decode_ms(full), prefill_ms(small) + decode_ms(small)));
    table_number(t, row->whole);
    table_number(t, prefill_ms(full));
    table_number(t, prefill_ms(small));
    table_number(t, full->median.token);
    table_number(t, small->median.token);
    table_number(t, (double)full->median.kv_bytes / mib);
    table_number(t, (double)small->median.kv_bytes / mib);
    table_text(t, "");
    table_end_row(t);
}

/* A row that cannot be measured has the paper's figures, the bound, and why. */
static void tell_missing(const bench *b, table *t, const paper_row *row, const char *why) {
    const double known[] = {row->sequences,
                            row->prompt,
                            -1,
                            row->prefill,
                            -1,
                            row->decode,
                            bound(b, row),
                            -1,
                            row->whole,
                            -1,
                            -1,
                            -1,
                            -1,
                            -1,
                            -1};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] < 0)
            table_none(t);
        else
            table_number(t, known[i]);
    table_text(t, why);
    table_end_row(t);
}

/* The cache of the full side, beside what is held already. */
static bool may_fit(const bench *b, const paper_row *row) {
    double kv = result_row_bytes(&b->info) * row->sequences * (row->prompt + TOKENS);
    return (double)inside_memory_now(b->device) + kv <= (double)b->device_info.global_memory &&
           kv / 2 <= (double)b->device_info.max_allocation;
}

static int measure(bench *b, table *t, const paper_row *row) {
    policy_spec all = POLICY_INIT;
    setup s = {&all, row->sequences, row->prompt, 0, TOKENS, row->sequences * row->prompt > LONG};
    bool fits = may_fit(b, row);
    all.options.policy = "full";
    result full, small;
    int code = EXIT_OK;
    if (row->prompt + TOKENS > b->info.max_positions) {
        tell_missing(b, t, row, "longer than the model's context");
        return code;
    }
    if (fits) code = result_measure(b, &s, &fits, &full);
    s.policy = b->options.policies.items;
    if (fits && !code) code = result_measure(b, &s, &fits, &small);
    if (code) return code;
    if (fits)
        tell_row(b, t, row, &full, &small);
    else
        tell_missing(b, t, row, "does not fit the device");
    return code;
}

int paper_tell(bench *b) {
    const paper_row *of = b->options.quick ? quick_rows : rows;
    int n = b->options.quick ? (int)(sizeof quick_rows / sizeof *rows) : (int)(sizeof rows / sizeof *rows);
    int code = EXIT_OK;
    table t = table_begin(columns, b->options.format, speed_head(b), &b->console);
    for (int i = 0; i < n && !code; i++) code = measure(b, &t, &of[i]);
    table_end(&t);
    return code;
}
