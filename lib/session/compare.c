/*
 * compare.c - one prompt, read once, answered with each of several ways to compress its cache.
 *
 *     prompt -> prefill, observed by every variant's plan -> logits, kept aside (-> a probe of decode)
 *     each variant:   (decode on the full cache) -> copies of its kept rows -> decode there -> answer
 *                     the full cache's lengths go back to those after the prompt
 *
 * The conversation ends as it began.
 */
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "session/session.h"

/* Where a cache stood: what comes later is overwritten. */
typedef struct mark {
    int32_t *length, position;
} mark;

typedef struct comparison {
    vlci_ask ask;
    const vlcache_compress_options *variants;
    size_t n;
    vlcache_variant_fn each;
    void *user;
    vlci_recipe *recipes;
    vlci_compress **plans;
    mark before, after; /* the prompt */
    int32_t open;       /* of the conversation */
    cl_mem logits;      /* after the prompt */
    vlcache_timings shared;
    double read; /* milliseconds that reading took */
} comparison;

static size_t n_lengths(const vlci_kv *kv) {
    return (size_t)kv->layers * (size_t)kv->batch * (size_t)kv->kv_heads;
}

static vlcache_status set_mark(const vlci_kv *kv, mark *out) {
    size_t n = n_lengths(kv);
    out->position = kv->position[0];
    out->length = vlci_alloc(n, sizeof *out->length);
    if (!out->length) return vlci_fail_memory("lengths of the KV cache");
    memcpy(out->length, kv->length, n * sizeof *out->length);
    return VLCACHE_OK;
}

static void go_back(vlci_kv *kv, const mark *to) {
    memcpy(kv->length, to->length, n_lengths(kv) * sizeof *to->length);
    kv->position[0] = to->position;
}

static size_t logit_bytes(const vlcache_session *s) {
    return (size_t)s->model->config.text.vocab * sizeof(float);
}

/* ---- what is shared ------------------------------------------------------------------------------------ */

static vlcache_status read_recipes(comparison *c) {
    c->recipes = vlci_calloc(c->n, sizeof *c->recipes);
    c->plans = vlci_calloc(c->n, sizeof *c->plans);
    if (!c->recipes || !c->plans) return vlci_fail_memory("variants");
    for (size_t i = 0; i < c->n; i++) {
        vlcache_status status = vlci_policy_read(&c->variants[i], &c->recipes[i]);
        if (status) return vlci_fail_context(status, "variant %zu", i);
    }
    return VLCACHE_OK;
}

static vlcache_status read_once(comparison *c) {
    vlcache_session *s = c->ask.session;
    vlcache_status status = vlci_session_read(&c->ask, c->recipes, c->plans, c->n);
    if (status) return status;
    c->shared = s->answer.timings;
    c->read = vlci_clock_ms() - c->ask.start;
    status = set_mark(&s->kv, &c->after);
    if (!status) status = vlci_memory_create(s->model->device, logit_bytes(s), "logits", &c->logits);
    return status ? status : vlci_copy(s->model->device, s->text.logits, 0, c->logits, 0, logit_bytes(s));
}

/* The full cache's answer once more, looked at step by step. */
static vlcache_status probe(comparison *c) {
    vlcache_session *s = c->ask.session;
    const vlcache_generate_options *how = &c->ask.how;
    vlci_sampling sampling = {how->temperature, how->top_k, how->top_p};
    vlci_probe_options options = {s->prompt.n, c->before.length, c->recipes, c->n};
    vlci_decode decode = {0};
    int32_t token = 0;
    vlcache_status status = vlci_probe_create(&s->text, &s->kv, &options, &s->probe);
    if (!status) status = vlci_decode_create(&s->text, &s->kv, &sampling, how->seed, &decode);
    for (int i = 0; i < how->max_tokens && s->kv.position[0] < s->context && !status; i++) {
        status = vlci_decode_choose(&decode, &token);
        if (!status && vlci_session_cancelled(s))
            status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while probing the full cache");
        if (status || vlci_session_ends(s, token)) break;
        status = vlci_probe_step(s->probe, &s->text, &s->kv, token);
    }
    vlci_decode_release(&decode);
    go_back(&s->kv, &c->after);
    return status;
}

/* ---- one variant --------------------------------------------------------------------------------------- */

static vlcache_status begin(comparison *c, size_t variant, vlci_kv *small) {
    vlcache_session *s = c->ask.session;
    vlci_ask *t = &c->ask;
    vlci_session_forget_answer(s);
    s->answer.timings = c->shared;
    s->plan = c->plans[variant];
    s->variant = &c->recipes[variant];
    s->open = -1;
    *t = (vlci_ask){.session = s,
                    .asked = t->asked,
                    .how = t->how,
                    .kv = &s->kv,
                    .small = small,
                    .waiting = s->plan && c->recipes[variant].defer > 0,
                    .start = vlci_clock_ms() - c->read,
                    .build = t->build};
    vlcache_status status = vlci_copy(s->model->device, c->logits, 0, s->text.logits, 0, logit_bytes(s));
    if (!status && s->plan) status = vlci_kv_fork(&s->kv, small);
    return status;
}

static vlcache_status run_variant(comparison *c, size_t variant) {
    vlcache_session *s = c->ask.session;
    vlci_kv small = {0};
    vlcache_status status = begin(c, variant, &small);
    if (!status && s->plan && !c->ask.waiting) status = vlci_session_compress(&c->ask);
    if (!status) status = vlci_session_answer(&c->ask);
    if (!status && vlci_session_cancelled(s))
        status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while answering variant %zu", variant);
    if (!status && c->each && !c->each(c->user, variant, &s->answer))
        status = vlci_fail(VLCACHE_E_CANCELLED, "the listener ended the comparison at variant %zu", variant);
    s->plan = NULL;
    vlci_compress_destroy(&c->plans[variant]);
    vlci_kv_release(&small);
    go_back(&s->kv, &c->after);
    return status;
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static vlcache_status run(comparison *c) {
    vlcache_session *s = c->ask.session;
    vlcache_status status = read_recipes(c);
    if (!status) status = set_mark(&s->kv, &c->before);
    if (!status) status = read_once(c);
    if (!status && c->ask.how.probe) status = probe(c);
    for (size_t i = 0; i < c->n && !status; i++) status = run_variant(c, i);
    return status;
}

/* The conversation as it was; a cache that held nothing holds nothing. */
static void restore(comparison *c) {
    vlcache_session *s = c->ask.session;
    vlci_session_forget(s);
    for (size_t i = 0; c->plans && i < c->n; i++) vlci_compress_destroy(&c->plans[i]);
    if (c->before.length) go_back(&s->kv, &c->before);
    if (s->kv.position[0] == 0) vlci_kv_clear(&s->kv);
    vlci_probe_destroy(&s->probe);
    s->variant = NULL;
    s->open = c->open;
    s->text.watch = NULL;
    vlci_memory_release(s->model->device, &c->logits);
    vlci_free(c->before.length);
    vlci_free(c->after.length);
    vlci_free(c->recipes);
    vlci_free(c->plans);
    atomic_store(&s->cancel, false);
}

vlcache_status vlcache_session_compare(vlcache_session *session, const vlcache_prompt *prompt,
                                       const vlcache_generate_options *generate,
                                       const vlcache_compress_options *variants, size_t n_variants,
                                       vlcache_variant_fn each, void *user) {
    const vlcache_generate_options defaults = VLCACHE_GENERATE_OPTIONS_INIT;
    if (!session || !variants || !n_variants)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "vlcache_session_compare: session or variants is NULL, or there are none");
    comparison c = {.ask = {.session = session, .asked = prompt, .how = generate ? *generate : defaults},
                    .variants = variants,
                    .n = n_variants,
                    .each = each,
                    .user = user,
                    .open = session->open};
    vlcache_status status = vlci_session_check(&c.ask.how);
    if (status) return status;
    vlci_session_forget(session);
    vlci_kv_watch(&session->kv);
    c.ask.kv = c.ask.small = &session->kv;
    c.ask.start = vlci_clock_ms();
    c.ask.build = vlci_kernel_build_seconds(session->model->device) * 1e3;
    status = run(&c);
    restore(&c);
    return status;
}
