/*
 * run.c - asks all sequences and looks at the clock: when the last has its first token, and at each step from
 * then on until the first has its last.
 */
#include "bench/run.h"

#include <stdlib.h>

#include "bench/inside.h"
#include "common/clock.h"
#include "common/exit.h"
#include "common/interrupt.h"
#include "common/memory.h"

/* ---- opening ------------------------------------------------------------------------------------------- */

static vlcache_status add(const runner *r, vlcache_sequence **out) {
    vlcache_sequence_options o = VLCACHE_SEQUENCE_OPTIONS_INIT;
    o.compress = &r->setup.policy->options;
    o.recall = r->setup.policy->recall;
    o.context = r->b->options.context;
    return vlcache_engine_add(r->engine, &o, out);
}

static vlcache_status go_on(runner *r, int *busy) {
    vlcache_status status = vlcache_engine_step(r->engine, busy);
    if (interrupt_seen())
        for (int i = 0; i < r->setup.sequences; i++) {
            vlcache_sequence_cancel(r->asked[i]);
            if (r->base[i]) vlcache_sequence_cancel(r->base[i]);
        }
    return status;
}

/* A turn that fills the cache and answers nothing. */
static vlcache_status fill(runner *r, const question *q, vlcache_sequence **out) {
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    int busy = 1;
    how.max_tokens = 0;
    vlcache_status status = add(r, out);
    if (!status) status = vlcache_sequence_ask(*out, &q->prompt, &how);
    while (!status && busy) status = go_on(r, &busy);
    return status ? status : vlcache_sequence_answer(*out, NULL);
}

static int fill_all(runner *r) {
    question q;
    if (!r->setup.depth) return EXIT_OK;
    int few = r->b->options.images == 0 ? 0 : AS_MANY_AS_FIT;
    int code = question_make(r->b, r->setup.depth, few, &q);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < r->setup.sequences && !code && !status; i++) status = fill(r, &q, &r->base[i]);
    question_release(&q);
    return status ? console_fail_status(&r->b->console, status) : code;
}

static vlcache_status open_engine(runner *r) {
    vlcache_engine_options o = VLCACHE_ENGINE_OPTIONS_INIT;
    o.max_sequences = r->setup.sequences;
    o.prefill_tokens = 1 << 24; /* all prompts in one step: no token comes between them */
    return vlcache_engine_create(r->b->model, &o, &r->engine);
}

int run_open(bench *b, const setup *s, runner *r) {
    int code = EXIT_OK;
    *r = (runner){.b = b, .setup = *s};
    r->base = memory_take((size_t)s->sequences, sizeof *r->base);
    r->asked = memory_take((size_t)s->sequences, sizeof *r->asked);
    r->step = memory_take((size_t)s->tokens + 2, sizeof *r->step);
    if (options_words(&b->options))
        question_words(b, &r->question);
    else
        code = question_make(b, s->prompt, b->options.images, &r->question);
    vlcache_status status = code ? VLCACHE_OK : open_engine(r);
    if (status) return console_fail_status(&b->console, status);
    return code ? code : fill_all(r);
}

void run_close(runner *r) {
    vlcache_engine_destroy(&r->engine); /* and all sequences */
    question_release(&r->question);
    free(r->base);
    free(r->asked);
    free(r->step);
    *r = (runner){0};
}

/* ---- a run --------------------------------------------------------------------------------------------- */

/* One token more where there are several sequences: the first has one before the others have read. */
static vlcache_status ask(const runner *r, vlcache_sequence *s) {
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    how.max_tokens = r->setup.tokens + (r->setup.sequences > 1 && r->setup.tokens > 0);
    how.min_tokens = (size_t)how.max_tokens;
    return vlcache_sequence_ask(s, &r->question.prompt, &how);
}

static vlcache_status ask_all(runner *r) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < r->setup.sequences && !status; i++) {
        status = r->base[i] ? vlcache_sequence_fork(r->base[i], &r->asked[i]) : add(r, &r->asked[i]);
        if (!status) status = ask(r, r->asked[i]);
    }
    return status;
}

static int count(const runner *r, vlcache_sequence_state state) {
    int n = 0;
    for (int i = 0; i < r->setup.sequences; i++) n += vlcache_sequence_state_of(r->asked[i]) == state;
    return n;
}

/* Whether a sequence has still to read. */
static bool reading(const runner *r) {
    return count(r, VLCACHE_SEQUENCE_WAITING) + count(r, VLCACHE_SEQUENCE_READING) > 0;
}

static int by_time(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The steps in which all answer. */
static vlcache_status step_on(runner *r, int *busy, timing *t) {
    const vlcache_device *device = r->b->device;
    double start = clock_seconds(), last = start, waited = vlcache_device_waited(device);
    vlcache_status status = VLCACHE_OK;
    /* not one more: that would only say that the answers are whole */
    while (!status && t->steps < r->setup.tokens - 1 &&
           count(r, VLCACHE_SEQUENCE_ANSWERING) == r->setup.sequences) {
        status = go_on(r, busy);
        double now = clock_seconds();
        r->step[t->steps++] = 1e3 * (now - last);
        last = now;
    }
    if (!t->steps) return status;
    double ms = 1e3 * (last - start);
    qsort(r->step, (size_t)t->steps, sizeof *r->step, by_time);
    t->token = r->step[t->steps / 2];
    t->worst = r->step[t->steps - 1];
    t->host = (ms - (vlcache_device_waited(device) - waited)) / t->steps;
    t->rate = 1e3 * r->setup.sequences * t->steps / ms;
    return status;
}

/* What the answers say of themselves. */
static vlcache_status add_up(const runner *r, timing *t) {
    for (int i = 0; i < r->setup.sequences; i++) {
        const vlcache_answer *a = NULL;
        vlcache_status status = vlcache_sequence_answer(r->asked[i], &a);
        if (status) return status;
        t->prompt = a->prompt_tokens;
        t->image += a->timings.image;
        t->vision += a->timings.vision;
        t->prefill += a->timings.prefill;
        if (a->compress.deferred > 0)
            t->late += a->timings.compress;
        else
            t->compress += a->timings.compress;
        t->build += a->timings.build;
        t->kv_bytes += a->kv_bytes;
    }
    return VLCACHE_OK;
}

vlcache_status run_once(runner *r, timing *t) {
    int busy = 1;
    *t = (timing){.pictures = r->question.pictures};
    inside_peak_restart(r->b->device);
    double start = clock_seconds();
    vlcache_status status = ask_all(r);
    while (!status && busy && reading(r)) status = go_on(r, &busy);
    t->first = 1e3 * (clock_seconds() - start);
    if (!status) status = step_on(r, &busy, t);
    while (!status && busy) status = go_on(r, &busy);
    t->whole = 1e3 * (clock_seconds() - start);
    t->peak_bytes = inside_memory_peak(r->b->device);
    if (!status) status = add_up(r, t);
    for (int i = 0; i < r->setup.sequences; i++) vlcache_sequence_destroy(&r->asked[i]);
    return status;
}
