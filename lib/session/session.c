/*
 * session.c - a conversation, turn by turn.
 *
 *     prompt -> look (pictures) -> prefill -> compress -> choose, step, choose, step ... -> answer
 *
 * A turn without a picture is not compressed: VL-Cache chooses among the tokens that the text after a picture
 * looks at. The last token of an answer has not been through the model; the next turn begins with it. turn.c
 * has the parts.
 */
#include "session/session.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"

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
    return vlci_policy_read(&o->compress, &s->recipe);
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
    if (!status) status = vlci_text_cache(model, 1, &s->kv);
    if (!status) status = vlci_text_create(model, 1, &s->text);
    if (status)
        vlcache_session_destroy(&s);
    else
        *out = s;
    return status;
}

/* ---- a turn -------------------------------------------------------------------------------------------- */

/* A failure after the prompt was read leaves rows that nobody accounts for. */
static vlcache_status clear_after(vlci_ask *t, vlcache_status status) {
    if (!status) return VLCACHE_OK;
    status = vlci_fail_context(status, "the conversation was cleared");
    vlcache_session_clear(t->session);
    return status;
}

static vlcache_status run_turn(vlci_ask *t) {
    vlcache_session *s = t->session;
    vlcache_status status = vlci_session_read(t, &s->recipe, &s->plan, 1);
    if (status) return status;
    t->waiting = s->plan && s->recipe.defer > 0;
    if (s->plan && !t->waiting) status = vlci_session_compress(t);
    if (!status) status = vlci_session_answer(t);
    return clear_after(t, status);
}

vlcache_status vlcache_session_ask(vlcache_session *session, const vlcache_prompt *prompt,
                                   const vlcache_generate_options *generate, const vlcache_answer **answer) {
    const vlcache_generate_options defaults = VLCACHE_GENERATE_OPTIONS_INIT;
    if (answer) *answer = NULL;
    if (!session) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_ask: session is NULL");
    vlci_ask t = {.session = session,
                  .asked = prompt,
                  .how = generate ? *generate : defaults,
                  .kv = &session->kv,
                  .small = &session->kv};
    vlcache_status status = vlci_session_check(&t.how);
    if (status) return status;
    vlci_session_forget(session);
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
    vlci_session_forget(session);
    vlci_kv_clear(&session->kv);
    session->open = -1;
}

void vlcache_session_destroy(vlcache_session **handle) {
    if (!handle || !*handle) return;
    vlcache_session *s = *handle;
    *handle = NULL;
    vlci_session_forget(s);
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
                         : (vlcache_compress_layer){.sparsity = (double)NAN,
                                                    .budget = 1.0,
                                                    .kept = session->prompt.n,
                                                    .recent = session->prompt.n};
    return VLCACHE_OK;
}

vlcache_status vlcache_session_probe(vlcache_session *session, int layer, vlcache_probe_layer *out) {
    vlcache_status status = check_layer(session, layer);
    if (status) return status;
    if (!session->probe)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: no probe: ask for one in vlcache_session_compare()");
    return vlci_probe_layer(session->probe, session->plan, session->variant->threshold, layer, out);
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
