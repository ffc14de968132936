/*
 * engine.c - many sequences: who begins, who reads, who gets a token.
 *
 *     step:   begin those that wait, in their order, as memory allows
 *             ->  a piece of the oldest prompt  ->  a token each
 *
 * A turn begins when the pages that it may ever come to need are free and not promised to turns that run
 * already: so none has to be stopped on its way for lack of memory, and nobody overtakes who waits. Rows in
 * few bits lie beside the pages, and count as so many: both together are never more than the engine has.
 */
#include "engine/engine.h"

#include <string.h>

#include "compress/metric.h"
#include "core/alloc.h"
#include "core/options.h"

/* ---- creation ------------------------------------------------------------------------------------------ */

VLCI_OPTIONS_END(vlcache_engine_options, prefill_tokens);

static vlcache_status take_options(const vlcache_engine_options *options, vlcache_engine_options *o) {
    vlcache_status status = VLCI_OPTIONS_TAKE("engine", vlcache_engine_options, kv_bytes,
                                              VLCACHE_ENGINE_OPTIONS_INIT, options, o);
    if (status) return status;
    if (o->max_sequences < 1 || o->max_sequences > VLCI_STEP_MAX)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "engine.max_sequences",
                           VLCI_VALUE("%d", o->max_sequences), "must be from 1 to %d", VLCI_STEP_MAX);
    if (o->prefill_tokens < 1)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "engine.prefill_tokens",
                           VLCI_VALUE("%d", o->prefill_tokens), "must be 1 or more");
    return VLCACHE_OK;
}

static vlcache_status create_pool(vlcache_model *model, uint64_t bytes, vlci_kv_pool *out) {
    const vlci_text_config *c = &model->config.text;
    const vlci_kv_shape shape = {c->layers, c->kv_heads, c->head_dim, model->dtype};
    uint64_t pages = bytes / vlci_kv_page_bytes(&shape, false);
    if (bytes && (!pages || pages > INT32_MAX / VLCI_KV_PAGE))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "engine.kv_bytes",
                           VLCI_VALUE("%llu", (unsigned long long)bytes),
                           "must hold from 1 to %d pages of %llu bytes", INT32_MAX / VLCI_KV_PAGE,
                           (unsigned long long)vlci_kv_page_bytes(&shape, false));
    vlcache_status status = vlci_kv_pool_create(model->device, &shape, (int)pages, bytes == 0, out);
    return status || !c->crosses ? status : vlci_kv_pool_still(out, c->crossing);
}

/* Once, where rows are coded. */
static vlcache_status take_metric(vlci_shared *shared, const vlci_compress_shape *shape) {
    const vlci_matrix *out[VLCI_MAX_LAYERS];
    if (shared->metric) return VLCACHE_OK;
    for (int l = 0; l < shape->layers; l++) out[l] = &shared->model->text[l].out;
    vlcache_status status = vlci_metric_create(shared->model->device, shape, out, &shared->metric);
    shared->compress.coding.metric = shared->metric;
    return status;
}

vlcache_status vlci_engine_open(vlcache_engine *e, const vlci_recipe *recipe) {
    const vlcache_model *model = e->shared.model;
    const vlci_text_config *c = &model->config.text;
    const vlci_compress_shape shape = {c->crosses ? c->crosses : c->layers,
                                       c->heads,
                                       c->kv_heads,
                                       c->head_dim,
                                       model->dtype,
                                       c->attention_cap};
    bool few = recipe->coded || recipe->quantised;
    if (c->crosses && recipe->compresses && (few || recipe->scoring == VLCI_SCORE_NONE))
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, few ? "compress.storage" : "compress.scoring",
                           VLCI_VALUE("%s", few ? recipe->coded ? "coded" : "bits" : "sink+recent"),
                           "is not supported with %s, whose pictures lie in layers of cross-attention: %s",
                           model->family->name,
                           few ? "take storage exact" : "no row of a picture is more recent than another");
    if ((c->crosses || !model->config.eyes) && recipe->candidates != VLCI_CANDIDATES_ALL &&
        !recipe->votes_yield)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "compress.candidates", NULL,
                           "must be all with %s: no prompt has visual tokens and text side by side",
                           model->family->name);
    vlcache_status status = vlci_compress_open(model->device, &shape, recipe, &e->shared.compress);
    e->shared.compress.spare = &e->shared.spare;
    e->shared.compress.coding.spare = &e->shared.code_spare;
    e->shared.fetch.device = model->device;
    e->shared.compress.score.fetch = &e->shared.fetch;
    e->shared.compress.score.spare = &e->shared.looks;
    return status || !vlci_coding_wanted(recipe) ? status : take_metric(&e->shared, &shape);
}

static vlcache_status create(vlcache_engine *e, const vlcache_engine_options *o) {
    vlci_shared *shared = &e->shared;
    e->max_sequences = o->max_sequences;
    e->prefill_tokens = o->prefill_tokens;
    e->list = vlci_calloc((size_t)o->max_sequences, sizeof *e->list);
    vlcache_status status = e->list ? VLCACHE_OK : vlci_fail_memory("engine");
    if (!status) status = create_pool(shared->model, o->kv_bytes, &shared->pool);
    if (!status) status = vlci_text_create(shared->model, o->max_sequences, o->max_sequences, &shared->text);
    if (!status) status = vlci_step_create(&shared->text, o->max_sequences, &shared->step);
    return status ? status : vlci_engine_open(e, &(const vlci_recipe){0}); /* probes look at attention too */
}

vlcache_status vlcache_engine_create(vlcache_model *model, const vlcache_engine_options *options,
                                     vlcache_engine **out) {
    vlcache_engine_options o;
    if (out) *out = NULL;
    if (!model || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_engine_create: model or out is NULL");
    vlcache_status status = take_options(options, &o);
    if (status) return status;
    vlcache_engine *e = vlci_calloc(1, sizeof *e);
    if (!e) return vlci_fail_memory("engine");
    e->shared.model = vlci_model_retain(model);
    status = create(e, &o);
    if (status)
        vlcache_engine_destroy(&e);
    else
        *out = e;
    return status;
}

void vlcache_engine_destroy(vlcache_engine **handle) {
    if (!handle || !*handle) return;
    vlcache_engine *e = *handle;
    *handle = NULL;
    while (e->first) {
        vlcache_sequence *s = e->first;
        vlcache_sequence_destroy(&s);
    }
    vlci_step_release(&e->shared.step);
    vlci_text_release(&e->shared.text);
    vlci_kv_pool_release(&e->shared.pool);
    vlci_summary_release(e->shared.model->device, &e->shared.spare);
    vlci_code_spare_release(e->shared.model->device, &e->shared.code_spare);
    vlci_looks_release(e->shared.model->device, &e->shared.looks);
    vlci_fetch_release(&e->shared.fetch);
    vlci_memory_release(e->shared.model->device, &e->shared.metric);
    vlcache_model_destroy(&e->shared.model);
    vlci_free(e->list);
    vlci_free(e);
}

/* ---- sequences ----------------------------------------------------------------------------------------- */

static void append(vlcache_engine *e, vlcache_sequence *s) {
    vlcache_sequence **end = &e->first;
    while (*end) end = &(*end)->next;
    *end = s;
    s->engine = e;
}

vlcache_status vlcache_engine_add(vlcache_engine *engine, const vlcache_sequence_options *options,
                                  vlcache_sequence **out) {
    if (out) *out = NULL;
    if (!engine || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_engine_add: engine or out is NULL");
    vlcache_sequence *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("sequence");
    vlcache_status status = vlci_sequence_take(engine->shared.model, options, s);
    if (!status) status = vlci_engine_open(engine, &s->recipe);
    if (!status) status = vlci_sequence_create(&engine->shared, s);
    if (status) {
        vlci_sequence_release(s);
        vlci_free(s);
        return status;
    }
    append(engine, s);
    *out = s;
    return VLCACHE_OK;
}

void vlcache_sequence_destroy(vlcache_sequence **handle) {
    if (!handle || !*handle) return;
    vlcache_sequence *s = *handle, **at = &s->engine->first;
    *handle = NULL;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    vlci_sequence_release(s);
    vlci_free(s);
}

vlcache_status vlcache_sequence_fork(const vlcache_sequence *from, vlcache_sequence **out) {
    if (out) *out = NULL;
    if (!from || !out || from->state != VLCACHE_SEQUENCE_IDLE)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_sequence_fork: %s",
                         from && out ? "a turn runs: wait for its end" : "sequence or out is NULL");
    vlcache_sequence *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("sequence");
    s->shared = from->shared;
    s->chat = vlci_chat_retain(from->chat);
    s->recipe = from->recipe;
    s->context = from->context;
    s->recalls = from->recalls;
    s->recall_bytes = from->recall_bytes;
    s->open = from->open;
    s->warned = from->warned;
    atomic_init(&s->cancel, false);
    s->system = vlci_strdup(from->system);
    vlcache_status status = from->system && !s->system ? vlci_fail_memory("system prompt")
                                                       : vlci_conversation_copy(&from->said, &s->said);
    if (!status) status = vlci_past_copy(&from->past, &s->past);
    if (!status) status = vlci_kv_fork(&from->kv, &s->kv);
    if (status) {
        s->shared = NULL;
        vlci_sequence_release(s);
        vlci_free(s);
        return status;
    }
    append(from->engine, s);
    *out = s;
    return VLCACHE_OK;
}

/* ---- the queue ----------------------------------------------------------------------------------------- */

/* Rows in few bits that go as soon as the turn begins, since all rows come back: those that no fork has. */
static uint64_t dropped(const vlcache_sequence *s) {
    return s->kv.store ? vlci_kv_own_few(&s->kv) : 0;
}

/* Pages that a turn may need beyond those that its sequence has, rows in few bits counted as such. */
static int64_t needed(const vlcache_sequence *s) {
    const vlci_kv_pool *pool = &s->shared->pool;
    return vlci_turn_pages(s) + vlci_kv_pages_of(pool, vlci_turn_few(s)) -
           (int64_t)(dropped(s) / vlci_kv_page_bytes(&pool->shape, false));
}

/* Those that it has, or that all have. */
static int64_t own_pages(const vlcache_sequence *s) {
    return s->kv.held + vlci_kv_pages_of(&s->shared->pool, vlci_kv_few_bytes(&s->kv));
}

static int64_t held_pages(const vlci_kv_pool *pool) {
    return pool->held + vlci_kv_pages_of(pool, pool->few);
}

static vlcache_status check_fits(const vlcache_sequence *s) {
    const vlci_kv_pool *pool = &s->shared->pool;
    int64_t own = own_pages(s), pages = needed(s) + own;
    uint64_t page = vlci_kv_page_bytes(&pool->shape, false);
    if (pool->elastic || pages <= pool->pages) return VLCACHE_OK;
    return vlci_fail(
        VLCACHE_E_DEVICE_MEMORY,
        "the turn may need %llu bytes of KV memory (%lld pages of 16 rows; %lld of them held already), the "
        "engine has %llu: give it more (kv_bytes), ask for fewer tokens or a smaller budget",
        (unsigned long long)pages * page, (long long)pages, (long long)own,
        (unsigned long long)pool->pages * page);
}

vlcache_status vlcache_sequence_ask(vlcache_sequence *sequence, const vlcache_prompt *prompt,
                                    const vlcache_generate_options *generate) {
    if (!sequence) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_sequence_ask: sequence is NULL");
    if (sequence->state != VLCACHE_SEQUENCE_IDLE)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_sequence_ask: a turn runs: wait for its end");
    vlcache_status status = vlci_turn_ask(sequence, prompt, generate);
    if (!status) {
        status = check_fits(sequence);
        if (status) vlci_sequence_take_back(sequence);
    }
    if (status) {
        sequence->state = VLCACHE_SEQUENCE_IDLE;
        return status;
    }
    sequence->ticket = ++sequence->engine->tickets;
    return VLCACHE_OK;
}

/* The one that has waited, or read, for longest; NULL: none does. */
static vlcache_sequence *oldest(const vlcache_engine *e, vlcache_sequence_state state) {
    vlcache_sequence *found = NULL;
    for (vlcache_sequence *s = e->first; s; s = s->next)
        if (s->state == state && (!found || s->ticket < found->ticket)) found = s;
    return found;
}

static int count(const vlcache_engine *e, vlcache_sequence_state state) {
    int n = 0;
    for (const vlcache_sequence *s = e->first; s; s = s->next) n += s->state == state;
    return n;
}

/* Pages that are neither held nor promised. */
static int64_t unpromised(const vlcache_engine *e) {
    const vlci_kv_pool *pool = &e->shared.pool;
    int64_t pages = pool->pages - pool->held;
    uint64_t few = pool->few;
    for (const vlcache_sequence *s = e->first; s; s = s->next) {
        bool runs = s->state == VLCACHE_SEQUENCE_READING || s->state == VLCACHE_SEQUENCE_ANSWERING;
        if (runs && s->pages > s->kv.held) pages -= s->pages - s->kv.held;
        if (runs) few += vlci_turn_few_left(s);
    }
    return pages - vlci_kv_pages_of(pool, few);
}

static vlcache_status fail_for_memory(const vlcache_engine *e, const vlcache_sequence *s) {
    const vlci_kv_pool *pool = &e->shared.pool;
    return vlci_fail(
        VLCACHE_E_DEVICE_MEMORY,
        "the turn may need %lld more pages of KV memory, and of %d no more than %lld are free: %lld are "
        "held by conversations that do nothing (vlcache_sequence_clear gives them back)",
        (long long)needed(s), pool->pages, (long long)unpromised(e), (long long)held_pages(pool));
}

/* Whether there are pages for a turn, where need be once conversations that do nothing have given theirs:
 * those that have all rows in the host's memory too. */
static bool make_way(const vlcache_engine *e, const vlcache_sequence *s) {
    for (vlcache_sequence *other = e->first; other; other = other->next) {
        if (needed(s) <= unpromised(e)) return true;
        if (other != s && other->state == VLCACHE_SEQUENCE_IDLE && other->kv.store) vlci_kv_drop(&other->kv);
    }
    return needed(s) <= unpromised(e);
}

/* Turns begin in their order. One that cannot while nobody runs never will: what is held then stays held. */
static void admit(vlcache_engine *e) {
    for (vlcache_sequence *s; (s = oldest(e, VLCACHE_SEQUENCE_WAITING));) {
        int running = count(e, VLCACHE_SEQUENCE_READING) + count(e, VLCACHE_SEQUENCE_ANSWERING);
        bool fits = e->shared.pool.elastic || make_way(e, s);
        vlcache_status status = VLCACHE_OK;
        if (atomic_load(&s->cancel))
            status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while waiting");
        else if (running == e->max_sequences || (running && !fits))
            return;
        else
            status = fits ? vlci_turn_begin(s) : fail_for_memory(e, s);
        if (status) vlci_turn_end(s, status);
    }
}

/* ---- steps --------------------------------------------------------------------------------------------- */

/* The oldest prompt, and those behind it, as far as a step goes; all of the oldest where nobody waits for a
 * token. */
static void read_on(vlcache_engine *e, bool alone) {
    int64_t work = alone ? INT64_MAX : (int64_t)e->prefill_tokens * e->shared.pool.shape.layers;
    bool done = false;
    for (vlcache_sequence *s; work > 0 && (s = oldest(e, VLCACHE_SEQUENCE_READING)) && !(alone && done);) {
        vlcache_status status = vlci_turn_read(s, &work, &done);
        if (status)
            vlci_turn_end(s, status);
        else if (done)
            vlci_turn_answer(s);
    }
}

vlcache_status vlcache_engine_step(vlcache_engine *engine, int *busy) {
    if (busy) *busy = 0;
    if (!engine) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_engine_step: engine is NULL");
    int n = 0, left = 0;
    admit(engine);
    for (vlcache_sequence *s = engine->first; s; s = s->next)
        if (s->state == VLCACHE_SEQUENCE_ANSWERING) engine->list[n++] = s;
    read_on(engine, n == 0);
    if (n) vlci_turn_step(&engine->shared, engine->list, n);
    for (vlcache_sequence *s = engine->first; s; s = s->next) left += s->state != VLCACHE_SEQUENCE_IDLE;
    if (busy) *busy = left;
    return VLCACHE_OK;
}

void vlcache_engine_memory_of(const vlcache_engine *engine, vlcache_engine_memory *out) {
    *out = (vlcache_engine_memory){0};
    if (!engine) return;
    const vlci_kv_pool *pool = &engine->shared.pool;
    uint64_t page = vlci_kv_page_bytes(&pool->shape, pool->bias != NULL);
    *out = (vlcache_engine_memory){.total = vlci_kv_pool_bytes(pool),
                                   .held = (uint64_t)pool->held * page,
                                   .rows = vlci_kv_pool_rows(pool) * page / VLCI_KV_PAGE,
                                   .peak = (uint64_t)pool->most * page,
                                   .few = pool->few};
}
