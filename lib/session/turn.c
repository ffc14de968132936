/*
 * turn.c - the parts of a turn: reading the prompt, compressing what it left in the cache, answering.
 *
 *     read:      text, pictures -> ids -> rows in the cache, observed by plans -> logits
 *     compress:  plan -> a smaller cache
 *     answer:    logits -> token -> (compress, once enough are decoded) -> logits -> ...
 */
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "session/session.h"

enum { ROOM = 32 }; /* spare rows of a compacted layer; kv.c grows it when they are used up */

/* ---- the prompt ---------------------------------------------------------------------------------------- */

static bool report(void *user, const char *stage, uint64_t done, uint64_t total) {
    const vlci_ask *t = user;
    if (vlci_session_cancelled(t->session)) return false;
    return !t->how.progress || t->how.progress(t->how.user, stage, done, total);
}

static bool watch_layers(void *user, int done, int layers) {
    return report(user, "reading the prompt", (uint64_t)done, (uint64_t)layers);
}

static vlcache_status check_context(const vlcache_session *s, const vlci_prompt *prompt) {
    int held = s->kv.position[0];
    if (prompt->n <= s->context - held) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_CONTEXT_FULL,
                     "the prompt has %d tokens, %d of them of pictures; with %d held already they exceed the "
                     "context of %d (the model takes %d)",
                     prompt->n, prompt->visual, held, s->context, s->model->config.text.max_positions);
}

/* Rows that decode will need from here, as far as is known. */
static int decode_room(const vlci_ask *t, int position) {
    int left = t->session->context - position;
    return t->how.max_tokens < left ? t->how.max_tokens : left;
}

/* Rows to make room for at full size: until the cache is compressed. */
static int full_room(const vlci_ask *t, const vlci_prompt *prompt, const vlci_recipe *recipes,
                     vlci_compress *const *plans, size_t n) {
    int room = decode_room(t, t->session->kv.position[0] + prompt->n), most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!plans[i]) return room;
        if (recipes[i].defer > most) most = recipes[i].defer;
    }
    return most < room ? most : room;
}

static vlcache_status make_plans(vlci_ask *t, const vlci_prompt *prompt, const vlci_recipe *recipes,
                                 vlci_compress **plans, size_t n) {
    vlcache_session *s = t->session;
    vlci_token_grid *grids = NULL;
    vlci_compress_prompt asked = {
        .tokens = &prompt->n, .text = &prompt->after, .text_rows = prompt->after_at};
    vlcache_status status = vlci_token_grids(&s->model->config, prompt, &grids, &asked.n_grids);
    asked.grids = grids;
    for (size_t i = 0; i < n && !status; i++)
        status = vlci_prefill_plan(&s->text, &s->kv, &recipes[i], &asked, plans, i, &plans[i]);
    vlci_free(grids);
    return status;
}

static vlcache_status prefill(vlci_ask *t, const vlci_prompt *prompt, cl_mem features,
                              const vlci_recipe *recipes, vlci_compress **plans, size_t n) {
    vlcache_session *s = t->session;
    double start = vlci_clock_ms();
    s->text.watch = watch_layers;
    s->text.watch_user = t;
    vlcache_status status = prompt->visual ? make_plans(t, prompt, recipes, plans, n) : VLCACHE_OK;
    int room = full_room(t, prompt, recipes, plans, n);
    if (!status) status = vlci_kv_reserve(&s->kv, prompt->n + room);
    if (!status) status = vlci_prefill_walk(&s->text, &s->kv, prompt->ids, &prompt->n, features, plans, n);
    if (!status) status = vlci_finish(s->model->device);
    s->answer.timings.prefill = vlci_clock_ms() - start;
    return status;
}

vlcache_status vlci_session_read(vlci_ask *t, const vlci_recipe *recipes, vlci_compress **plans, size_t n) {
    vlcache_session *s = t->session;
    vlci_turn place = {.chat = s->chat, .first = s->kv.position[0] == 0, .open = s->open};
    vlci_prompt prompt = {0};
    cl_mem features = NULL;
    for (size_t i = 0; i < n; i++) plans[i] = NULL;
    vlcache_status status = vlci_prompt_create(s->model, t->asked, &place, &prompt);
    if (!status) status = check_context(s, &prompt);
    if (!status)
        status = vlci_prompt_look(s->model, t->asked, &prompt, report, t, &s->answer.timings, &features);
    if (!status) status = prefill(t, &prompt, features, recipes, plans, n);
    vlci_memory_release(s->model->device, &features);
    if (status) {
        for (size_t i = 0; i < n; i++) vlci_compress_destroy(&plans[i]);
        vlci_prompt_release(&prompt);
        if (s->kv.position[0] == 0) s->open = -1;
        return status;
    }
    s->prompt = prompt;
    s->open = -1;
    return VLCACHE_OK;
}

vlcache_status vlci_session_compress(vlci_ask *t) {
    vlcache_session *s = t->session;
    double start = vlci_clock_ms();
    int room = decode_room(t, s->kv.position[0]);
    vlcache_status status =
        vlci_prefill_compress(&s->text, &s->kv, room < ROOM ? room : ROOM, s->plan, t->small);
    if (!status) status = vlci_finish(s->model->device);
    if (!status) t->small->position[0] = s->kv.position[0];
    t->waiting = false;
    t->kv = t->small;
    t->decode.kv = t->small;
    s->answer.timings.compress += vlci_clock_ms() - start;
    return status;
}

/* ---- the answer ---------------------------------------------------------------------------------------- */

bool vlci_session_ends(const vlcache_session *s, int32_t token) {
    for (int i = 0; i < s->model->config.n_eos_tokens; i++)
        if (s->model->config.eos_tokens[i] == token) return true;
    return false;
}

static vlcache_status say(vlci_ask *t, const char *piece) {
    vlcache_session *s = t->session;
    size_t n = strlen(piece);
    if (!n) return VLCACHE_OK;
    char *longer = vlci_realloc(s->said, s->said_bytes + n + 1, 1);
    if (!longer) return vlci_fail_memory("answer");
    memcpy(longer + s->said_bytes, piece, n + 1);
    s->said = longer;
    s->said_bytes += n;
    if (t->how.on_text && !t->how.on_text(t->how.user, piece)) t->stopped = true;
    return VLCACHE_OK;
}

static vlcache_status take(vlci_ask *t, int32_t token) {
    vlcache_session *s = t->session;
    const char *piece = "";
    s->tokens[s->answer.n_tokens++] = token;
    s->open = token;
    vlcache_status status = vlci_detokenizer_push(t->stream, token, &piece);
    return status ? status : say(t, piece);
}

/* Whether the answer ends before another token is chosen, and why. */
static bool finished(vlci_ask *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    if (t->stopped || vlci_session_cancelled(s))
        a->finish = VLCACHE_FINISH_CANCELLED;
    else if (a->n_tokens >= t->how.max_tokens)
        a->finish = VLCACHE_FINISH_LENGTH;
    else if (s->open >= 0 && t->kv->position[0] >= s->context)
        a->finish = VLCACHE_FINISH_CONTEXT;
    else
        return false;
    return true;
}

/* Runs the token chosen last. Where compression waits for decoded tokens it looks on, and comes when there
 * are enough. */
static vlcache_status step(vlci_ask *t) {
    vlcache_session *s = t->session;
    if (!t->waiting) return vlci_decode_step(&t->decode, s->open);
    vlcache_status status = vlci_prefill_step(&s->text, t->kv, &s->open, s->plan);
    if (!status && s->plan->decoded == s->plan->recipe.defer) status = vlci_session_compress(t);
    return status;
}

/* Chooses, and unless it is an end token says it; then the chosen one goes through the model, and so on. */
static vlcache_status generate(vlci_ask *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    int32_t token = 0;
    vlcache_status status = VLCACHE_OK;
    while (!status && !finished(t)) {
        if (s->open >= 0) status = step(t);
        if (!status) status = vlci_decode_choose(&t->decode, &token);
        if (status) break;
        if (!a->timings.first_token) a->timings.first_token = vlci_clock_ms() - t->start;
        s->open = -1;
        if (vlci_session_ends(s, token)) {
            a->finish = VLCACHE_FINISH_STOP;
            break;
        }
        status = take(t, token);
    }
    if (!status && t->waiting) status = vlci_session_compress(t); /* the answer was too short to wait for */
    return status;
}

static vlcache_status say_answer(vlci_ask *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    const char *rest = "";
    vlci_sampling how = {t->how.temperature, t->how.top_k, t->how.top_p};
    s->tokens = vlci_alloc((size_t)t->how.max_tokens + 1, sizeof *s->tokens);
    s->said = vlci_strdup("");
    vlcache_status status = s->tokens && s->said ? VLCACHE_OK : vlci_fail_memory("answer");
    if (!status) status = vlci_decode_create(&s->text, t->kv, &how, t->how.seed, &t->decode);
    if (!status) status = vlci_detokenizer_create(s->model->tokenizer, &t->stream);
    if (!status)
        status = vlci_decode_best(&t->decode, VLCACHE_FIRST_LOGITS, a->first_logits, &a->n_first_logits);
    double begun = vlci_clock_ms();
    if (!status) status = generate(t);
    if (!status) status = vlci_detokenizer_flush(t->stream, &rest);
    if (!status) status = say(t, rest);
    double done = vlci_clock_ms();
    if (!a->timings.first_token) a->timings.first_token = begun - t->start;
    a->timings.decode = done - t->start - a->timings.first_token;
    if (a->n_tokens > 1) a->timings.per_token = a->timings.decode / (a->n_tokens - 1);
    return status;
}

/* ---- what it was --------------------------------------------------------------------------------------- */

static void describe_cache(vlcache_session *s) {
    const vlci_text_config *c = &s->model->config.text;
    vlcache_answer *a = &s->answer;
    a->compressed = s->plan != NULL;
    if (s->plan) {
        vlci_compress_stats(s->plan, 0, &a->compress);
        return;
    }
    uint64_t row = 2 * (uint64_t)c->kv_heads * (uint64_t)c->head_dim * vlci_dtype_bytes(s->kv.dtype);
    a->compress = (vlcache_compress_stats){.layers = c->layers,
                                           .kv_heads = c->kv_heads,
                                           .tokens = s->prompt.n,
                                           .tau = s->prompt.after,
                                           .budget_asked = 1.0,
                                           .budget_kept = 1.0,
                                           .bytes_full = (uint64_t)s->prompt.n * (uint64_t)c->layers * row,
                                           .bytes_peak = vlci_memory_peak(s->model->device)};
    a->compress.bytes_kept = a->compress.bytes_full;
}

static void describe(vlci_ask *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    describe_cache(s);
    a->text = s->said;
    a->tokens = s->tokens;
    a->prompt_tokens = s->prompt.n;
    a->visual_tokens = s->prompt.visual;
    a->post_vision_tokens = s->prompt.after;
    a->context_tokens = t->kv->position[0] + (s->open >= 0);
    a->timings.build = vlci_kernel_build_seconds(s->model->device) * 1e3 - t->build;
    a->kv_bytes = t->kv->bytes;
    a->kv_bytes_peak = t->kv == &s->kv ? s->kv.peak : s->kv.bytes + t->kv->peak;
    s->answered = true;
}

vlcache_status vlci_session_answer(vlci_ask *t) {
    vlcache_status status = say_answer(t);
    vlci_detokenizer_destroy(&t->stream);
    vlci_decode_release(&t->decode);
    if (!status) describe(t);
    return status;
}

vlcache_status vlci_session_check(const vlcache_generate_options *g) {
    if (g->size != sizeof *g)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "generate: size: is %zu, must be %zu: start from VLCACHE_GENERATE_OPTIONS_INIT",
                         g->size, sizeof *g);
    if (g->max_tokens < 0 || g->max_tokens > 1 << 24)
        return vlci_fail(VLCACHE_E_ARGUMENT, "generate: max_tokens: is %d, must be 0 to %d", g->max_tokens,
                         1 << 24);
    if (!(g->temperature >= 0.0f) || isinf(g->temperature))
        return vlci_fail(VLCACHE_E_ARGUMENT, "generate: temperature: is %g, must be 0 or more",
                         (double)g->temperature);
    if (g->top_k < 0)
        return vlci_fail(VLCACHE_E_ARGUMENT, "generate: top_k: is %d, must be 0 or more", g->top_k);
    if (!(g->top_p > 0.0f && g->top_p <= 1.0f))
        return vlci_fail(VLCACHE_E_ARGUMENT, "generate: top_p: is %g, must be above 0 and at most 1",
                         (double)g->top_p);
    return VLCACHE_OK;
}

/* ---- what the turn before left for the caller to read ----------------------------------------------------
 */

void vlci_session_forget_answer(vlcache_session *s) {
    vlci_free(s->said);
    vlci_free(s->tokens);
    s->said = NULL;
    s->said_bytes = 0;
    s->tokens = NULL;
    s->answered = false;
    s->answer = (vlcache_answer){0};
}

void vlci_session_forget(vlcache_session *s) {
    vlci_session_forget_answer(s);
    vlci_prompt_release(&s->prompt);
    vlci_compress_destroy(&s->plan);
}
