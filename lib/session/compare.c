/*
 * compare.c - one prompt, read once, answered with each of several ways to compress its cache.
 *
 *     prompt -> prefill, observed by every variant's plan -> logits, kept aside
 *     a probe:        a fork of the full cache -> decode there, looked at (-> later turns there)
 *     each variant:   a fork of the full cache -> (decode there) -> what it keeps -> decode there -> answer
 *
 * The conversation ends as it began.
 */
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "session/session.h"

typedef struct comparison {
    vlcache_session *session;
    vlcache_sequence *read;                   /* the session's, which holds the full cache */
    const vlcache_compress_options *variants; /* of the caller's version: see variant_at() */
    size_t n;
    vlcache_variant_fn each;
    void *user;
    vlci_recipe *recipes;
    vlci_compress **plans;
    cl_mem logits;    /* after the prompt */
    double read_time; /* milliseconds that reading took */
} comparison;

static vlci_shared *shared_of(const comparison *c) {
    return c->read->shared;
}

static size_t logit_bytes(const comparison *c) {
    return (size_t)vlci_sequence_text(c->read)->vocab * sizeof(float);
}

/* ---- what is shared ------------------------------------------------------------------------------------ */

/* Another version's options stand as far apart as they say themselves; one of another size among them is not
 * looked for. */
static const vlcache_compress_options *variant_at(const comparison *c, size_t i) {
    return (const vlcache_compress_options *)((const char *)c->variants + i * c->variants->size);
}

static vlcache_status read_recipe(comparison *c, size_t i) {
    vlcache_status status =
        vlci_policy_read(variant_at(c, i), vlci_stores_few(c->session->engine->shared.model), &c->recipes[i]);
    if (!status && variant_at(c, i)->size != c->variants->size)
        status =
            vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.size", VLCI_VALUE("%zu", variant_at(c, i)->size),
                        "must be %zu, as the first variant has it", c->variants->size);
    if (!status) status = vlci_engine_open(c->session->engine, &c->recipes[i]);
    return status ? vlci_fail_context(status, "variant %zu", i) : VLCACHE_OK;
}

static vlcache_status read_recipes(comparison *c) {
    c->recipes = vlci_calloc(c->n, sizeof *c->recipes);
    c->plans = vlci_calloc(c->n, sizeof *c->plans);
    vlcache_status status = c->recipes && c->plans ? VLCACHE_OK : vlci_fail_memory("variants");
    for (size_t i = 0; i < c->n && !status; i++) status = read_recipe(c, i);
    return status;
}

/* The prompt's rows in the session's own cache, whole, and the logits behind it. */
static vlcache_status read_once(comparison *c) {
    vlcache_sequence *s = c->read;
    int64_t work = INT64_MAX;
    bool done = false;
    s->recipes = c->recipes;
    s->plans = c->plans;
    s->n_plans = c->n;
    vlcache_status status = vlci_turn_begin(s);
    while (!status && !done) status = vlci_turn_read(s, &work, &done);
    c->read_time = vlci_clock_ms() - s->start;
    vlcache_device *device = s->shared->model->device;
    if (!status) status = vlci_memory_create(device, logit_bytes(c), "logits", &c->logits);
    return status ? status : vlci_copy(device, s->shared->text.logits, 0, c->logits, 0, logit_bytes(c));
}

static bool cancelled(const comparison *c) {
    return atomic_load(&c->read->cancel);
}

/* ---- a sequence of its own ----------------------------------------------------------------------------- */

/* It stands behind the prompt, which stays the reader's. */
static vlcache_status begin(const comparison *c, const vlci_recipe *recipe, vlcache_sequence *v) {
    const vlcache_sequence *s = c->read;
    v->engine = s->engine;
    v->shared = s->shared;
    v->chat = vlci_chat_retain(s->chat);
    v->recipe = *recipe;
    v->context = s->context;
    v->earlier = s->earlier;
    v->open = -1;
    v->how = s->how;
    v->choice = s->choice;
    v->prompt = s->prompt;
    v->answer.timings = s->answer.timings;
    v->start = vlci_clock_ms() - c->read_time;
    v->built = s->built;
    atomic_init(&v->cancel, false);
    vlci_kv_pool_watch(&s->shared->pool);
    vlcache_device *device = s->shared->model->device;
    vlcache_status status = vlci_copy(device, c->logits, 0, s->shared->text.logits, 0, logit_bytes(c));
    return status ? status : vlci_kv_fork(&s->kv, &v->kv);
}

static vlcache_status answer(const comparison *c, vlcache_sequence *v) {
    vlci_turn_answer(v);
    while (v->state == VLCACHE_SEQUENCE_ANSWERING) {
        vlcache_sequence *list[] = {v};
        if (cancelled(c)) vlcache_sequence_cancel(v);
        vlci_turn_step(v->shared, list, 1);
    }
    return vlcache_sequence_answer(v, NULL);
}

/* A part of a stream goes before the next is read: there is no prefill that all start from. */
static vlcache_status refuse_stream(void) {
    return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.stream_frames", NULL,
                       "must be 0 in a comparison, whose variants start from one prefill: ask for each");
}

/* ---- the probe ----------------------------------------------------------------------------------------- */

static vlcache_status create_probe(comparison *c) {
    const vlci_kv *mark = &c->read->mark;
    size_t n = (size_t)mark->pool->shape.layers * (size_t)mark->pool->shape.kv_heads;
    int32_t *before = vlci_alloc(n, sizeof *before);
    if (!before) return vlci_fail_memory("lengths of the KV cache");
    for (size_t i = 0; i < n; i++) before[i] = c->read->earlier ? 0 : mark->list[i].rows;
    vlci_probe_options options = {.tokens = c->read->earlier + c->read->prompt.n,
                                  .before = before,
                                  .recipes = c->recipes,
                                  .n = c->n,
                                  .turns = c->read->how.n_later + 1};
    vlcache_status status = vlci_probe_create(&shared_of(c)->compress, &options, &c->session->probe);
    vlci_free(before);
    return status;
}

/* It has the whole cache and what was said, and tells nobody. */
static vlcache_status begin_probe(comparison *c, vlcache_sequence *v) {
    vlcache_status status = begin(c, &(const vlci_recipe){0}, v);
    if (!status) status = vlci_conversation_copy(&c->read->said, &v->said);
    v->said_before = c->read->said_before;
    v->how.on_text = NULL;
    v->how.progress = NULL;
    v->watch = vlci_probe_observer(c->session->probe, &v->kv);
    return status;
}

/* Another question of the same talk; its stride: see variant_at(). */
static vlcache_status go_on(const comparison *c, vlcache_sequence *v, size_t i) {
    const vlcache_prompt *later = c->read->how.later;
    vlcache_generate_options how = v->how;
    int64_t work = INT64_MAX;
    bool done = false;
    how.probe = false;
    how.later = NULL;
    how.n_later = 0;
    vlci_probe_turn(c->session->probe);
    vlcache_status status =
        vlci_turn_ask(v, (const vlcache_prompt *)((const char *)later + i * later->size), &how);
    if (status) return vlci_fail_context(status, "later turn %zu", i);
    status = v->portions ? refuse_stream() : vlci_turn_begin(v);
    while (!status && !done) {
        if (cancelled(c)) vlcache_sequence_cancel(v);
        status = vlci_turn_read(v, &work, &done);
    }
    if (!status) return answer(c, v);
    vlci_turn_end(v, status);
    return status;
}

/* The full cache's answers, looked at step by step. */
static vlcache_status probe(comparison *c) {
    if (vlci_sequence_text(c->read)->crosses)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "generate.probe", "true",
                           "must be false: layers of cross-attention are not probed");
    vlcache_sequence *v = vlci_calloc(1, sizeof *v);
    if (!v) return vlci_fail_memory("probe");
    vlcache_status status = create_probe(c);
    if (!status) status = begin_probe(c, v);
    if (!status) status = answer(c, v);
    v->prompt = (vlci_prompt){0}; /* the reader's; a later one is its own */
    for (size_t i = 0; i < c->read->how.n_later && !status && !cancelled(c); i++) status = go_on(c, v, i);
    if (!status && cancelled(c))
        status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while probing the full cache");
    vlci_sequence_release(v);
    vlci_free(v);
    return status;
}

/* ---- one variant --------------------------------------------------------------------------------------- */

static vlcache_status run_variant(comparison *c, size_t variant) {
    vlcache_sequence *v = vlci_calloc(1, sizeof *v);
    if (!v) return vlci_fail_memory("variant");
    v->own[0] = c->plans[variant];
    c->plans[variant] = NULL;
    vlcache_status status = begin(c, &c->recipes[variant], v);
    if (!status) status = answer(c, v);
    if (!status && cancelled(c))
        status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while answering variant %zu", variant);
    c->session->speaker = v;
    c->session->variant = &c->recipes[variant];
    if (!status && c->each && !c->each(c->user, variant, &v->answer))
        status = vlci_fail(VLCACHE_E_CANCELLED, "the listener ended the comparison at variant %zu", variant);
    c->session->speaker = c->read;
    v->prompt = (vlci_prompt){0};
    vlci_sequence_release(v);
    vlci_free(v);
    return status;
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static vlcache_status run(comparison *c) {
    vlcache_status status = read_once(c);
    if (!status && c->read->how.probe) status = probe(c);
    for (size_t i = 0; i < c->n && !status; i++) status = run_variant(c, i);
    return status;
}

/* The conversation as it was. */
static void restore(comparison *c, vlcache_status status) {
    vlci_turn_end(c->read, status ? status : VLCACHE_E_CANCELLED);
    vlci_sequence_forget(c->read);
    vlci_kv_pool_shrink(&shared_of(c)->pool, 0);
    for (size_t i = 0; i < c->n; i++) vlci_compress_destroy(&c->plans[i]);
    vlci_probe_destroy(&c->session->probe);
    c->session->variant = NULL;
    vlci_memory_release(shared_of(c)->model->device, &c->logits);
}

vlcache_status vlcache_session_compare(vlcache_session *session, const vlcache_prompt *prompt,
                                       const vlcache_generate_options *generate,
                                       const vlcache_compress_options *variants, size_t n_variants,
                                       vlcache_variant_fn each, void *user) {
    if (!session || !variants || !n_variants)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "vlcache_session_compare: session or variants is NULL, or there are none");
    comparison c = {.session = session,
                    .read = session->sequence,
                    .variants = variants,
                    .n = n_variants,
                    .each = each,
                    .user = user};
    vlcache_status status = read_recipes(&c);
    if (!status) status = vlci_turn_ask(c.read, prompt, generate);
    if (!status) {
        status = c.read->portions ? refuse_stream() : run(&c);
        restore(&c, status);
    }
    vlci_free(c.recipes);
    vlci_free(c.plans);
    return status;
}
