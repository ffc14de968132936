/*
 * sequence.c - a conversation of an engine: its options, what can be asked of it, and what its last turn came
 * to.
 */
#include "engine/sequence.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/options.h"

const char *vlcache_finish_name(vlcache_finish finish) {
    static const char *const names[] = {"stop", "length", "context", "cancelled"};
    return (unsigned)finish < sizeof names / sizeof *names ? names[finish] : "?";
}

/* ---- options ------------------------------------------------------------------------------------------- */

VLCI_OPTIONS_END(vlcache_sequence_options, recall_bytes);

static vlcache_status take_chat(const vlcache_model *model, const vlcache_sequence_options *o,
                                vlcache_sequence *out) {
    const vlci_chat_for what = {model->tokenizer, model->family->mark, vlci_family_video_mark(model->family)};
    out->system = vlci_strdup(o->system);
    if (o->system && !out->system) return vlci_fail_memory("system prompt");
    if (o->chat_template) return vlci_chat_open(model->chat, o->chat_template, &what, &out->chat);
    out->chat = vlci_chat_retain(model->chat);
    return VLCACHE_OK;
}

vlcache_status vlci_sequence_take(const vlcache_model *model, const vlcache_sequence_options *options,
                                  vlcache_sequence *out) {
    const vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    const vlci_text_config *c = &model->config.text;
    vlcache_sequence_options o;
    vlcache_status status = VLCI_OPTIONS_TAKE("session", vlcache_sequence_options, context,
                                              VLCACHE_SEQUENCE_OPTIONS_INIT, options, &o);
    if (status) return status;
    if (o.context < 0 || o.context > c->max_positions)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.context", VLCI_VALUE("%d", o.context),
                           "must be from 1 to %d, what the model takes, or 0 for that", c->max_positions);
    status = take_chat(model, &o, out);
    if (status) return status;
    out->context = o.context ? o.context : c->max_positions;
    if (o.recall != VLCACHE_RECALL_NONE && o.recall != VLCACHE_RECALL_HOST)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.recall", VLCI_VALUE("%d", (int)o.recall),
                           "must be VLCACHE_RECALL_NONE or VLCACHE_RECALL_HOST");
    if (o.recall && c->crosses)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "session.recall", "host",
                           "must be none with %s, whose pictures lie in layers of cross-attention",
                           model->family->name);
    status = vlci_policy_read(o.compress ? o.compress : &compress, vlci_stores_few(model), &out->recipe);
    out->recall_bytes = o.recall_bytes;
    out->recalls = o.recall == VLCACHE_RECALL_HOST && out->recipe.compresses;
    if (!status && out->recalls && model->device->caps.info.unified_memory)
        vlci_log(VLCACHE_LOG_INFO,
                 "recall: host and device (\"%s\") have one memory: rows that are kept in the host's take as "
                 "much of it as the full cache, nothing is saved",
                 model->device->caps.info.name);
    return status;
}

const char *vlcache_policy_of(const vlcache_model *model, const vlcache_compress_options *options) {
    const vlcache_compress_options usual = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_recipe recipe;
    bool few = model && vlci_stores_few(model);
    if (!options) options = &usual;
    if (vlci_policy_read(options, few, &recipe)) return NULL;
    if (options->policy && strcmp(options->policy, recipe.policy) != 0) vlci_policy_explain(options, few);
    return recipe.policy;
}

vlcache_status vlci_sequence_create(vlci_shared *shared, vlcache_sequence *out) {
    out->shared = shared;
    out->open = -1;
    atomic_init(&out->cancel, false);
    return vlci_kv_create(&shared->pool, &out->kv);
}

/* ---- what the last turn left --------------------------------------------------------------------------- */

void vlci_sequence_forget(vlcache_sequence *s) {
    vlci_portions_destroy(&s->portions);
    vlci_prompt_release(&s->prompt);
    vlci_compress_destroy(&s->own[0]);
    vlci_free(s->images);
    vlci_free(s->videos);
    vlci_free(s->message);
    vlci_reply_release(&s->reply);
    s->images = NULL;
    s->videos = NULL;
    s->message = NULL;
    s->answer = (vlcache_answer){0};
    s->late = 0.0;
    s->status = VLCACHE_OK;
    s->ended = s->looked = s->waiting = false;
}

bool vlci_sequence_ends(const vlcache_sequence *s, int32_t token) {
    const vlci_config *c = &s->shared->model->config;
    if (token == vlci_chat_end(s->chat)) return true;
    for (int i = 0; i < c->n_eos_tokens; i++)
        if (c->eos_tokens[i] == token) return true;
    return false;
}

void vlci_sequence_take_back(vlcache_sequence *s) {
    vlci_conversation_cut(&s->said, s->said_before);
    s->said.lost = s->lost_before;
}

void vlci_sequence_release(vlcache_sequence *s) {
    vlci_chat_release(&s->chat);
    vlci_conversation_release(&s->said);
    vlci_past_release(&s->past);
    vlci_free(s->system);
    s->system = NULL;
    if (!s->shared) return;
    vlci_kv_release(&s->mark);
    vlci_turn_leave(s);
    vlci_reading_release(&s->reading);
    vlci_recall_release(&s->recall);
    vlci_memory_release(s->shared->model->device, &s->features);
    vlci_sequence_forget(s);
    vlci_kv_release(&s->kv);
    vlci_step_forget(&s->shared->step);
}

/* ---- what it came to ----------------------------------------------------------------------------------- */

static void describe_cache(vlcache_sequence *s) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    vlcache_answer *a = &s->answer;
    a->compressed = vlci_sequence_plan(s) != NULL;
    if (a->compressed) {
        vlci_compress_stats(vlci_sequence_plan(s), &a->compress);
        if (s->portions) vlci_portions_stats(s->portions, vlci_sequence_plan(s), &a->compress);
        return;
    }
    uint64_t row = 2 * (uint64_t)shape->kv_heads * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype);
    int layers = vlci_sequence_layers(s), tokens = vlci_sequence_tokens(s);
    a->compress = (vlcache_compress_stats){.layers = layers,
                                           .kv_heads = shape->kv_heads,
                                           .tokens = tokens,
                                           .tau = s->prompt.after,
                                           .budget_asked = 1.0,
                                           .budget_kept = 1.0,
                                           .bytes_full = (uint64_t)tokens * (uint64_t)layers * row,
                                           .bytes_peak = vlci_memory_peak(s->shared->model->device)};
    a->compress.bytes_kept = a->compress.bytes_full;
}

static void describe_recall(vlcache_sequence *s) {
    if (!s->recalls) return;
    s->answer.recall = (vlcache_recall_stats){.tokens = s->earlier,
                                              .saves = !s->shared->model->device->caps.info.unified_memory,
                                              .host_bytes = vlci_store_bytes(s->kv.store),
                                              .upload_bytes = s->recall.bytes,
                                              .upload_ms = s->recall.ms,
                                              .staging_bytes = s->recall.most};
}

void vlci_sequence_describe(vlcache_sequence *s) {
    const vlci_kv_pool *pool = &s->shared->pool;
    uint64_t page = vlci_kv_page_bytes(&pool->shape, false);
    vlcache_answer *a = &s->answer;
    describe_cache(s);
    describe_recall(s);
    a->text = s->reply.text;
    a->tokens = s->reply.tokens;
    a->n_tokens = s->reply.n;
    a->losses = s->reply.losses;
    a->prompt_tokens = s->prompt.n;
    a->visual_tokens = s->prompt.visual;
    a->post_vision_tokens = s->prompt.after;
    a->context_tokens = s->kv.length + (s->open >= 0);
    a->timings.build = vlci_kernel_build_seconds(s->shared->model->device) * 1e3 - s->built;
    a->kv_bytes = vlci_kv_bytes(&s->kv);
    a->page_ends = vlci_kv_end_bytes(&s->kv);
    const vlci_compress *plan = vlci_sequence_plan(s);
    uint64_t few = vlci_kv_few_bytes(&s->kv) + (plan && plan->coding ? plan->coding->gone : 0),
             most = pool->elastic ? pool->most_bytes : (uint64_t)s->kv.most * page + few;
    if (most < a->kv_bytes) most = a->kv_bytes; /* which has the biases, too */
    a->kv_bytes_peak = most + a->recall.staging_bytes;
}

vlcache_sequence_state vlcache_sequence_state_of(const vlcache_sequence *sequence) {
    return sequence ? sequence->state : VLCACHE_SEQUENCE_IDLE;
}

vlcache_status vlcache_sequence_answer(const vlcache_sequence *sequence, const vlcache_answer **answer) {
    if (answer) *answer = NULL;
    if (!sequence || !sequence->ended)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_sequence_answer: %s",
                         sequence ? "no turn has ended" : "sequence is NULL");
    if (sequence->status) {
        if (sequence->message) vlci_fail(sequence->status, "%s", sequence->message);
        return sequence->status;
    }
    if (answer) *answer = &sequence->answer;
    return VLCACHE_OK;
}

static vlcache_status check_layer(const vlcache_sequence *s, int layer) {
    if (!s || !s->ended || s->status)
        return vlci_fail(VLCACHE_E_ARGUMENT, "session: no turn has been answered");
    int layers = vlci_sequence_layers(s);
    if (layer >= 0 && layer < layers) return VLCACHE_OK;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.layer", VLCI_VALUE("%d", layer),
                       "must be from 0 to %d, there are %d", layers - 1, layers);
}

static vlcache_status fail_out(const char *call) {
    return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_sequence_%s: where to put it is NULL", call);
}

vlcache_status vlcache_sequence_layer(const vlcache_sequence *sequence, int layer,
                                      vlcache_compress_layer *out) {
    vlcache_status status = out ? check_layer(sequence, layer) : fail_out("layer");
    if (status) return status;
    const vlci_compress *plan = vlci_sequence_plan(sequence);
    *out = plan ? plan->layer[layer]
                : (vlcache_compress_layer){.sparsity = (double)NAN,
                                           .budget = 1.0,
                                           .kept = vlci_sequence_tokens(sequence),
                                           .recent = vlci_sequence_tokens(sequence)};
    if (plan && sequence->portions)
        *out = vlci_portions_layer(sequence->portions, &plan->layer[layer], layer);
    return VLCACHE_OK;
}

static vlcache_status check_head(const vlcache_sequence *s, int layer, int kv_head) {
    vlcache_status status = check_layer(s, layer);
    if (status) return status;
    int heads = vlci_sequence_text(s)->kv_heads;
    if (kv_head >= 0 && kv_head < heads) return VLCACHE_OK;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.kv_head", VLCI_VALUE("%d", kv_head),
                       "must be from 0 to %d, the model has %d", heads - 1, heads);
}

vlcache_status vlcache_sequence_bits(const vlcache_sequence *sequence, int layer, int kv_head, double *out) {
    vlcache_status status = out ? check_head(sequence, layer, kv_head) : fail_out("bits");
    if (out) *out = 0.0;
    if (status) return status;
    const vlci_compress *plan = vlci_sequence_plan(sequence);
    int heads = vlci_sequence_text(sequence)->kv_heads;
    if (plan && plan->coding) *out = plan->coding->spent[layer * heads + kv_head];
    return VLCACHE_OK;
}

vlcache_status vlcache_sequence_kept(vlcache_sequence *sequence, int layer, int kv_head, int32_t *positions,
                                     size_t capacity, size_t *n) {
    bool room = n && (positions || !capacity);
    vlcache_status status = room ? check_head(sequence, layer, kv_head) : fail_out("kept");
    if (status) return status;
    int heads = vlci_sequence_text(sequence)->kv_heads, kept = vlci_sequence_tokens(sequence);
    int *all = vlci_alloc((size_t)kept, sizeof *all);
    vlci_portions *portions = sequence->portions;
    if (!all) return vlci_fail_memory("kept positions");
    for (int i = 0; i < kept; i++) all[i] = i;
    vlci_compress *plan = vlci_sequence_plan(sequence);
    if (plan) status = vlci_compress_positions(plan, layer, kv_head, all, &kept);
    if (plan && portions && !status) vlci_portions_positions(portions, layer * heads + kv_head, all, &kept);
    *n = (size_t)kept;
    for (size_t i = 0; i < *n && i < capacity && !status; i++) positions[i] = all[i];
    vlci_free(all);
    return status;
}

vlcache_status vlcache_sequence_visual(const vlcache_sequence *sequence, int index,
                                       vlcache_visual_token *out) {
    vlcache_status status = out ? check_layer(sequence, 0) : fail_out("visual");
    if (status) return status;
    if (index < 0 || index >= sequence->prompt.visual)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.index", VLCI_VALUE("%d", index),
                           "must be below %d, the visual tokens of the prompt", sequence->prompt.visual);
    *out = sequence->prompt.where[index];
    return VLCACHE_OK;
}

vlcache_status vlcache_sequence_frame(const vlcache_sequence *sequence, int index, vlcache_seen_frame *out) {
    vlcache_status status = out ? check_layer(sequence, 0) : fail_out("frame");
    if (status) return status;
    if (index < 0 || index >= sequence->prompt.n_seen)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "session.index", VLCI_VALUE("%d", index),
                           "must be below %d, the frames of the prompt", sequence->prompt.n_seen);
    *out = sequence->prompt.seen[index];
    return VLCACHE_OK;
}

/* ---- calls --------------------------------------------------------------------------------------------- */

void vlcache_sequence_cancel(vlcache_sequence *sequence) {
    if (sequence) atomic_store(&sequence->cancel, true);
}

void vlcache_sequence_clear(vlcache_sequence *sequence) {
    if (!sequence || sequence->state != VLCACHE_SEQUENCE_IDLE) return;
    vlci_sequence_forget(sequence);
    vlci_kv_clear(&sequence->kv);
    vlci_past_cut(&sequence->past, (vlci_past_mark){0});
    vlci_kv_pool_shrink(&sequence->shared->pool, 0);
    vlci_conversation_cut(&sequence->said, 0);
    sequence->said.lost = sequence->lost_before = false;
    sequence->said_before = 0;
    sequence->open = -1;
}
