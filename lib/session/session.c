/*
 * session.c - a conversation, turn by turn: steps of an engine with a single sequence, until the answer is
 * whole.
 */
#include "session/session.h"

#include "core/alloc.h"

const char *vlcache_chat_template_names(void) {
    return vlci_chat_names();
}

const char *vlcache_session_chat_template(const vlcache_session *session) {
    return vlci_chat_name(session->sequence->chat);
}

/* ---- creation ------------------------------------------------------------------------------------------ */

vlcache_status vlcache_session_create(vlcache_model *model, const vlcache_session_options *options,
                                      vlcache_session **out) {
    vlcache_engine_options one = VLCACHE_ENGINE_OPTIONS_INIT;
    if (!model || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_create: model or out is NULL");
    *out = NULL;
    vlcache_session *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("session");
    one.max_sequences = 1;
    vlcache_status status = vlcache_engine_create(model, &one, &s->engine);
    if (!status) status = vlcache_engine_add(s->engine, options, &s->sequence);
    s->speaker = s->sequence;
    if (status)
        vlcache_session_destroy(&s);
    else
        *out = s;
    return status;
}

void vlcache_session_destroy(vlcache_session **handle) {
    if (!handle || !*handle) return;
    vlcache_session *s = *handle;
    *handle = NULL;
    vlcache_engine_destroy(&s->engine);
    vlci_free(s);
}

/* ---- a turn -------------------------------------------------------------------------------------------- */

vlcache_status vlcache_session_ask(vlcache_session *session, const vlcache_prompt *prompt,
                                   const vlcache_generate_options *generate, const vlcache_answer **answer) {
    if (answer) *answer = NULL;
    if (!session) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_ask: session is NULL");
    int busy = 1;
    vlcache_status status = vlcache_sequence_ask(session->sequence, prompt, generate);
    while (!status && busy) status = vlcache_engine_step(session->engine, &busy);
    return status ? status : vlcache_sequence_answer(session->sequence, answer);
}

vlcache_status vlcache_session_count(vlcache_session *session, const vlcache_prompt *prompt, int *tokens) {
    if (!session || !tokens)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_session_count: session or tokens is NULL");
    return vlci_turn_count(session->sequence, prompt, tokens);
}

void vlcache_session_cancel(vlcache_session *session) {
    if (session) vlcache_sequence_cancel(session->sequence);
}

void vlcache_session_clear(vlcache_session *session) {
    if (session) vlcache_sequence_clear(session->sequence);
}

/* ---- what the last turn kept --------------------------------------------------------------------------- */

vlcache_status vlcache_session_layer(const vlcache_session *session, int layer, vlcache_compress_layer *out) {
    return vlcache_sequence_layer(session ? session->speaker : NULL, layer, out);
}

vlcache_status vlcache_session_bits(const vlcache_session *session, int layer, int kv_head, double *bits) {
    return vlcache_sequence_bits(session ? session->speaker : NULL, layer, kv_head, bits);
}

vlcache_status vlcache_session_kept(vlcache_session *session, int layer, int kv_head, int32_t *positions,
                                    size_t capacity, size_t *n) {
    return vlcache_sequence_kept(session ? session->speaker : NULL, layer, kv_head, positions, capacity, n);
}

vlcache_status vlcache_session_visual(const vlcache_session *session, int index, vlcache_visual_token *out) {
    return vlcache_sequence_visual(session ? session->speaker : NULL, index, out);
}

vlcache_status vlcache_session_frame(const vlcache_session *session, int index, vlcache_seen_frame *out) {
    return vlcache_sequence_frame(session ? session->speaker : NULL, index, out);
}

vlcache_status vlcache_session_probe(vlcache_session *session, int layer, vlcache_probe_layer *out) {
    return vlcache_session_probe_turn(session, layer, 0, out);
}

vlcache_status vlcache_session_probe_turn(vlcache_session *session, int layer, size_t turn,
                                          vlcache_probe_layer *out) {
    vlcache_compress_layer known;
    vlcache_status status = vlcache_session_layer(session, layer, &known);
    if (status) return status;
    if (!session->probe)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.probe", "false",
                           "no probe: ask for one in vlcache_session_compare()");
    return vlci_probe_layer(session->probe, vlci_sequence_plan(session->speaker), session->variant->threshold,
                            layer, turn, out);
}
