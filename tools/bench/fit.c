/*
 * fit.c - conversations are added and answered, one after another, until the memory is full.
 */
#include <math.h>
#include <stdio.h>

#include "bench/question.h"
#include "bench/speed.h"
#include "common/exit.h"
#include "common/flag.h"
#include "common/interrupt.h"

static const column columns[] = {
    {"policy", "policy", NULL}, {"conversations", "conversations", "%.0f"},
    {"times", "times", "%.2f"}, {"page_ends", "page ends", "%.3f"},
    {NULL, NULL, NULL},
};

static vlcache_status answer(const bench *b, vlcache_engine *engine, const policy_spec *policy,
                             const question *q) {
    vlcache_sequence_options o = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_sequence *s = NULL;
    int busy = 1;
    o.compress = &policy->options;
    o.recall = policy->recall;
    o.context = b->options.context;
    how.max_tokens = b->options.tokens;
    how.min_tokens = (size_t)b->options.tokens;
    vlcache_status status = vlcache_engine_add(engine, &o, &s);
    if (!status) status = vlcache_sequence_ask(s, &q->prompt, &how);
    while (!status && busy) status = vlcache_engine_step(engine, &busy);
    return status ? status : vlcache_sequence_answer(s, NULL);
}

/* Conversations that have been answered stay; the first that finds no memory any more ends it, or one more
 * than are counted here. */
static vlcache_status fill(const bench *b, const policy_spec *policy, const question *q, int *n,
                           vlcache_engine_memory *memory) {
    vlcache_engine_options o = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    *n = 0;
    o.kv_bytes = (uint64_t)ceil(b->options.kv_mib * 1024 * 1024); /* 0 would be as many as there are */
    o.max_sequences = 1;
    vlcache_status status = vlcache_engine_create(b->model, &o, &engine);
    while (!status && *n <= MOST_SEQUENCES && !interrupt_seen()) {
        status = answer(b, engine, policy, q);
        if (status) break;
        vlcache_engine_memory_of(engine, memory);
        ++*n;
    }
    vlcache_engine_destroy(&engine);
    return status == VLCACHE_E_DEVICE_MEMORY && *n ? VLCACHE_OK : status;
}

static int tell(bench *b, table *t, const policy_spec *policy, const question *q, int *one) {
    vlcache_engine_memory memory = {0};
    int n;
    vlcache_status status = fill(b, policy, q, &n, &memory);
    if (interrupt_seen()) return EXIT_INTERRUPT;
    if (status) return console_fail_status(&b->console, status);
    if (n > MOST_SEQUENCES)
        return flag_refuse("--kv-mib %g: with policy %s more than %d conversations fit; give less",
                           b->options.kv_mib, policy->label, MOST_SEQUENCES);
    if (*one == 0) *one = n;
    table_text(t, policy->label);
    table_number(t, n);
    table_number(t, *one ? (double)n / *one : 0.0);
    uint64_t all = memory.held + memory.few;
    table_number(t, all ? (double)(memory.held - memory.rows) / (double)all : 0.0);
    table_end_row(t);
    return EXIT_OK;
}

int fit_tell(bench *b) {
    const options *o = &b->options;
    int one = 0, code = EXIT_OK;
    question q;
    if (options_words(o))
        question_words(b, &q);
    else
        code = question_make(b, o->lengths.n ? o->lengths.at[0] : 0, o->images, &q);
    if (!code) {
        table t = table_begin(columns, o->format, speed_head(b), &b->console);
        for (size_t i = 0; i < o->policies.n && !code; i++)
            code = tell(b, &t, &o->policies.items[i], &q, &one);
        table_end(&t);
    }
    question_release(&q);
    return code;
}
