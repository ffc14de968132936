/*
 * session.c - a conversation, turn by turn.
 *
 *     prompt -> look (pictures) -> prefill -> compress -> choose, step, choose, step ... -> answer
 *
 * A turn without a picture is not compressed: VL-Cache chooses among the tokens that the text after a picture
 * looks at. The last token of an answer has not been through the model; the next turn begins with it.
 */
#include "vlcache/session.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "decode.h"
#include "prefill.h"
#include "prompt.h"

enum { ROOM = 32 }; /* spare rows of a compacted layer; kv.c grows it when they are used up */

struct vlcache_session {
    vlcache_model *model;
    const vlci_chat_template *chat;
    vlcache_compress_options compress;
    int context;
    vlci_text text;
    vlci_kv kv;
    atomic_bool cancel;
    int32_t open; /* last token of the answer before, not yet in the cache; -1: none */

    vlci_prompt prompt;  /* of the last turn */
    vlci_compress *plan; /* of the last turn; NULL when it was not compressed */
    bool answered;
    vlcache_answer answer;
    char *said; /* answer.text */
    size_t said_bytes;
    int32_t *tokens; /* answer.tokens */
};

/* One turn while it runs. */
typedef struct turn {
    vlcache_session *session;
    const vlcache_prompt *asked;
    vlcache_generate_options how;
    vlci_decode decode;
    vlci_detokenizer *stream;
    bool stopped; /* on_text wants no more */
    double start, build;
} turn;

const char *vlcache_finish_name(vlcache_finish finish) {
    static const char *const names[] = {"stop", "length", "context", "cancelled"};
    return (unsigned)finish < sizeof names / sizeof *names ? names[finish] : "?";
}

const char *vlcache_chat_template_names(void) {
    return vlci_chat_names();
}

const char *vlcache_session_chat_template(const vlcache_session *session) {
    return vlci_chat_name(session->chat);
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status take_options(vlcache_session *s, const vlcache_session_options *o) {
    const vlci_text_config *c = &s->model->config.text;
    if (o->size != sizeof *o)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "session: size: is %zu, must be %zu: start from VLCACHE_SESSION_OPTIONS_INIT",
                         o->size, sizeof *o);
    if (o->context < 0 || o->context > c->max_positions)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: context: is %d, the model takes 1 to %d (0: that)",
                         o->context, c->max_positions);
    s->chat = o->chat_template ? vlci_chat_find(o->chat_template) : s->model->chat;
    if (!s->chat)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: chat_template: \"%.64s\" is unknown: use one of %s",
                         o->chat_template, vlci_chat_names());
    s->context = o->context ? o->context : c->max_positions;
    s->compress = o->compress;
    vlcache_status status = vlcache_compress_check(&o->compress);
    const vlci_policy *policy = NULL;
    if (!status) status = vlci_policy_find(o->compress.policy, &policy);
    if (!status) s->compress.policy = policy->name; /* outlives the caller's string */
    return status;
}

vlcache_status vlcache_session_create(vlcache_model *model, const vlcache_session_options *options,
                                      vlcache_session **out) {
    const vlcache_session_options defaults = VLCACHE_SESSION_OPTIONS_INIT;
    if (!model || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_create: model or out is NULL");
    *out = NULL;
    vlcache_session *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("session");
    s->model = vlci_model_retain(model);
    s->open = -1;
    vlcache_status status = take_options(s, options ? options : &defaults);
    if (!status) status = vlci_kv_create(model, 1, &s->kv);
    if (!status) status = vlci_text_create(model, 1, &s->text);
    if (status)
        vlcache_session_destroy(&s);
    else
        *out = s;
    return status;
}

/* ---- the prompt ---------------------------------------------------------------------------------------- */

static bool cancelled(vlcache_session *s) {
    return atomic_load(&s->cancel);
}

static bool report(void *user, const char *stage, uint64_t done, uint64_t total) {
    const turn *t = user;
    if (cancelled(t->session)) return false;
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

/* Rows that decode will need, as far as is known. */
static int decode_room(const turn *t, const vlci_prompt *prompt) {
    int left = t->session->context - t->session->kv.position[0] - prompt->n;
    return t->how.max_tokens < left ? t->how.max_tokens : left;
}

static vlcache_status prefill(turn *t, vlci_prompt *prompt, cl_mem features, vlci_compress **plan) {
    vlcache_session *s = t->session;
    double start = vlci_clock_ms(), read;
    int room = decode_room(t, prompt);
    s->text.watch = watch_layers;
    s->text.watch_user = t;
    vlcache_status status = VLCACHE_OK;
    if (prompt->visual)
        status = vlci_prefill_plan(&s->text, &s->kv, &prompt->n, &prompt->after, &s->compress, plan);
    if (!status && !*plan) status = vlci_kv_reserve(&s->kv, prompt->n + room);
    if (!status) status = vlci_prefill_walk(&s->text, &s->kv, prompt->ids, &prompt->n, features, *plan);
    if (!status) status = vlci_finish(s->model->device);
    read = vlci_clock_ms();
    s->answer.timings.prefill = read - start;
    if (!status && *plan) {
        status = vlci_prefill_compress(&s->text, &s->kv, room < ROOM ? room : ROOM, *plan);
        if (!status) status = vlci_finish(s->model->device);
        s->answer.timings.compress = vlci_clock_ms() - read;
        if (status) status = vlci_fail_context(status, "the conversation was cleared");
    }
    return status;
}

static void describe_prompt(vlcache_session *s) {
    const vlci_text_config *c = &s->model->config.text;
    vlcache_answer *a = &s->answer;
    a->prompt_tokens = s->prompt.n;
    a->visual_tokens = s->prompt.visual;
    a->post_vision_tokens = s->prompt.after;
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

/* From the asked text and pictures to the logits of the first token. Only success touches the conversation.
 */
static vlcache_status read_prompt(turn *t) {
    vlcache_session *s = t->session;
    vlci_turn place = {.chat = s->chat, .first = s->kv.position[0] == 0, .open = s->open};
    vlci_prompt prompt = {0};
    vlci_compress *plan = NULL;
    cl_mem features = NULL;
    vlcache_status status = vlci_prompt_create(s->model, t->asked, &place, &prompt);
    if (!status) status = check_context(s, &prompt);
    if (!status)
        status = vlci_prompt_look(s->model, t->asked, &prompt, report, t, &s->answer.timings, &features);
    if (!status) status = prefill(t, &prompt, features, &plan);
    vlci_memory_release(s->model->device, &features);
    if (status) {
        vlci_compress_destroy(&plan);
        vlci_prompt_release(&prompt);
        if (s->kv.position[0] == 0) s->open = -1;
        return status;
    }
    s->prompt = prompt;
    s->plan = plan;
    s->open = -1;
    describe_prompt(s);
    return VLCACHE_OK;
}

/* ---- the answer ---------------------------------------------------------------------------------------- */

static bool ends(const vlcache_model *model, int32_t token) {
    for (int i = 0; i < model->config.n_eos_tokens; i++)
        if (model->config.eos_tokens[i] == token) return true;
    return false;
}

static vlcache_status say(turn *t, const char *piece) {
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

static vlcache_status take(turn *t, int32_t token) {
    vlcache_session *s = t->session;
    const char *piece = "";
    s->tokens[s->answer.n_tokens++] = token;
    s->open = token;
    vlcache_status status = vlci_detokenizer_push(t->stream, token, &piece);
    return status ? status : say(t, piece);
}

/* Whether the answer ends before another token is chosen, and why. */
static bool finished(turn *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    if (t->stopped || cancelled(s))
        a->finish = VLCACHE_FINISH_CANCELLED;
    else if (a->n_tokens >= t->how.max_tokens)
        a->finish = VLCACHE_FINISH_LENGTH;
    else if (s->open >= 0 && s->kv.position[0] >= s->context)
        a->finish = VLCACHE_FINISH_CONTEXT;
    else
        return false;
    return true;
}

/* Chooses, and unless it is an end token says it; then the chosen one goes through the model, and so on. */
static vlcache_status generate(turn *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    int32_t token = 0;
    vlcache_status status = VLCACHE_OK;
    while (!status && !finished(t)) {
        if (s->open >= 0) status = vlci_decode_step(&t->decode, s->open);
        if (!status) status = vlci_decode_choose(&t->decode, &token);
        if (status) break;
        if (!a->timings.first_token) a->timings.first_token = vlci_clock_ms() - t->start;
        s->open = -1;
        if (ends(s->model, token)) {
            a->finish = VLCACHE_FINISH_STOP;
            break;
        }
        status = take(t, token);
    }
    return status;
}

static vlcache_status answer_prompt(turn *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    const char *rest = "";
    vlci_sampling how = {t->how.temperature, t->how.top_k, t->how.top_p};
    s->tokens = vlci_alloc((size_t)t->how.max_tokens + 1, sizeof *s->tokens);
    s->said = vlci_strdup("");
    vlcache_status status = s->tokens && s->said ? VLCACHE_OK : vlci_fail_memory("answer");
    if (!status) status = vlci_decode_create(&s->text, &s->kv, &how, t->how.seed, &t->decode);
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

static void describe_answer(turn *t) {
    vlcache_session *s = t->session;
    vlcache_answer *a = &s->answer;
    a->text = s->said;
    a->tokens = s->tokens;
    a->context_tokens = s->kv.position[0] + (s->open >= 0);
    a->timings.build = vlci_kernel_build_seconds(s->model->device) * 1e3 - t->build;
    a->kv_bytes = s->kv.bytes;
    a->kv_bytes_peak = s->kv.peak;
    s->answered = true;
}

/* ---- a turn -------------------------------------------------------------------------------------------- */

static vlcache_status check_generate(const vlcache_generate_options *g) {
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

/* What the turn before left for the caller to read. */
static void forget_turn(vlcache_session *s) {
    vlci_prompt_release(&s->prompt);
    vlci_compress_destroy(&s->plan);
    vlci_free(s->said);
    vlci_free(s->tokens);
    s->said = NULL;
    s->said_bytes = 0;
    s->tokens = NULL;
    s->answered = false;
    s->answer = (vlcache_answer){0};
}

static vlcache_status run_turn(turn *t) {
    vlcache_session *s = t->session;
    vlcache_status status = read_prompt(t);
    if (status) return status;
    status = answer_prompt(t);
    vlci_detokenizer_destroy(&t->stream);
    vlci_decode_release(&t->decode);
    if (status) {
        status = vlci_fail_context(status, "the conversation was cleared");
        vlcache_session_clear(s);
        return status;
    }
    describe_answer(t);
    return VLCACHE_OK;
}

vlcache_status vlcache_session_ask(vlcache_session *session, const vlcache_prompt *prompt,
                                   const vlcache_generate_options *generate, const vlcache_answer **answer) {
    const vlcache_generate_options defaults = VLCACHE_GENERATE_OPTIONS_INIT;
    if (answer) *answer = NULL;
    if (!session) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_ask: session is NULL");
    turn t = {.session = session, .asked = prompt, .how = generate ? *generate : defaults};
    vlcache_status status = check_generate(&t.how);
    if (status) return status;
    forget_turn(session);
    vlci_kv_watch(&session->kv);
    t.start = vlci_clock_ms();
    t.build = vlci_kernel_build_seconds(session->model->device) * 1e3;
    status = run_turn(&t);
    session->text.watch = NULL;
    atomic_store(&session->cancel, false);
    if (!status && answer) *answer = &session->answer;
    return status;
}

void vlcache_session_cancel(vlcache_session *session) {
    if (session) atomic_store(&session->cancel, true);
}

void vlcache_session_clear(vlcache_session *session) {
    if (!session) return;
    forget_turn(session);
    vlci_kv_clear(&session->kv);
    session->open = -1;
}

void vlcache_session_destroy(vlcache_session **handle) {
    if (!handle || !*handle) return;
    vlcache_session *s = *handle;
    *handle = NULL;
    forget_turn(s);
    vlci_text_release(&s->text);
    vlci_kv_release(&s->kv);
    vlcache_model_destroy(&s->model);
    vlci_free(s);
}

/* ---- what the last turn kept -----------------------------------------------------------------------------
 */

static vlcache_status check_layer(const vlcache_session *s, int layer) {
    if (!s || !s->answered) return vlci_fail(VLCACHE_E_ARGUMENT, "session: no turn has been answered");
    int layers = s->model->config.text.layers;
    if (layer >= 0 && layer < layers) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_ARGUMENT, "session: layer %d, the model has %d", layer, layers);
}

vlcache_status vlcache_session_layer(const vlcache_session *session, int layer, vlcache_compress_layer *out) {
    vlcache_status status = check_layer(session, layer);
    if (status) return status;
    *out = session->plan ? session->plan->layer[layer]
                         : (vlcache_compress_layer){(double)NAN, 1.0, session->prompt.n, session->prompt.n};
    return VLCACHE_OK;
}

vlcache_status vlcache_session_kept(vlcache_session *session, int layer, int kv_head, int32_t *positions,
                                    size_t capacity, size_t *n) {
    vlcache_status status = check_layer(session, layer);
    if (status) return status;
    if (kv_head < 0 || kv_head >= session->kv.kv_heads)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: kv head %d, the model has %d", kv_head,
                         session->kv.kv_heads);
    *n = (size_t)(session->plan ? vlci_compress_kept(session->plan, layer, 0) : session->prompt.n);
    int *all = vlci_alloc(*n, sizeof *all);
    if (!all) return vlci_fail_memory("kept positions");
    for (size_t i = 0; i < *n; i++) all[i] = (int)i;
    if (session->plan) status = vlci_compress_positions(session->plan, layer, 0, kv_head, all);
    for (size_t i = 0; i < *n && i < capacity && !status; i++) positions[i] = all[i];
    vlci_free(all);
    return status;
}

vlcache_status vlcache_session_visual(const vlcache_session *session, int index, vlcache_visual_token *out) {
    vlcache_status status = check_layer(session, 0);
    if (status) return status;
    if (index < 0 || index >= session->prompt.visual)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: visual token %d, the prompt has %d", index,
                         session->prompt.visual);
    *out = session->prompt.where[index];
    return VLCACHE_OK;
}
