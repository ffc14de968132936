/*
 * prefill.c - prompt -> layers, observed one by one -> logits -> (some decoded tokens, observed too) ->
 * budgets -> compaction, layer by layer.
 *
 * Each layer is observed right after its attention, while q, the row maxima and the log-sum-exps are still
 * there; budgets need all layers' sparsity, so compaction comes last.
 */
#include "engine/prefill.h"

#include "core/alloc.h"

/* ---- the walk ------------------------------------------------------------------------------------------ */

vlcache_status vlci_prefill_plan(const vlci_text *text, const vlci_kv *kv, const vlci_recipe *recipe,
                                 const vlci_compress_prompt *prompt, vlci_compress *const *others,
                                 size_t n_others, vlci_compress **plan) {
    const vlci_text_config *c = &text->model->config.text;
    vlci_compress_shape shape = {.layers = c->layers,
                                 .batch = text->batch,
                                 .heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .kv_dtype = kv->dtype};
    vlci_compress_prompt behind = *prompt;
    behind.past = kv->length;
    return vlci_compress_create(text->device, recipe, &shape, &behind, others, n_others, plan);
}

/* Lets the device catch up, so that the answer is about what is done, and asks. */
static vlcache_status ask_to_go_on(vlci_text *text, int layer) {
    if (!text->watch) return VLCACHE_OK;
    vlcache_status status = vlci_finish(text->device);
    if (status || text->watch(text->watch_user, layer + 1, text->model->config.text.layers)) return status;
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while reading the prompt");
}

vlcache_status vlci_prefill_walk(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                                 cl_mem features, vlci_compress *const *plans, size_t n_plans) {
    vlcache_status status = vlci_text_begin(text, kv, ids, rows, features);
    for (int i = 0; i < kv->layers && !status; i++) {
        status = vlci_text_layer_run(text, kv, i);
        vlci_attention a = vlci_text_attention(text, kv, i);
        for (size_t p = 0; p < n_plans && !status; p++)
            if (plans[p]) status = vlci_compress_observe(plans[p], i, &a);
        if (!status) status = ask_to_go_on(text, i);
    }
    return status ? status : vlci_text_end(text, kv);
}

vlcache_status vlci_prefill_step(vlci_text *text, vlci_kv *kv, const int32_t *tokens, vlci_compress *plan) {
    int *ones = vlci_alloc((size_t)text->batch, sizeof *ones);
    if (!ones) return vlci_fail_memory("row counts");
    for (int b = 0; b < text->batch; b++) ones[b] = 1;
    vlcache_status status = vlci_text_begin(text, kv, tokens, ones, NULL);
    for (int i = 0; i < kv->layers && !status; i++) {
        status = vlci_text_layer_run(text, kv, i);
        vlci_attention a = vlci_text_attention(text, kv, i);
        if (!status) status = vlci_compress_observe_decode(plan, i, &a);
    }
    vlci_free(ones);
    return status ? status : vlci_text_end(text, kv);
}

/* ---- compaction ---------------------------------------------------------------------------------------- */

/* Most rows that any sequence and head of a layer held before the prompt. */
static int most_before(const vlci_compress *plan, int layer) {
    int most = 0, n = plan->shape.batch * plan->shape.kv_heads;
    for (int i = 0; i < n; i++)
        if (plan->before[layer * n + i] > most) most = plan->before[layer * n + i];
    return most;
}

static bool has_centroids(const vlci_compress *plan, int layer) {
    for (int b = 0; b < plan->shape.batch; b++)
        if (plan->layer[layer * plan->shape.batch + b].centroids) return true;
    return false;
}

/* New, smaller buffers for one layer of `to`; the old ones are released when the copy is enqueued. */
static vlcache_status compact_layer(vlci_text *text, vlci_kv *kv, int index, int room, vlci_compress *plan,
                                    vlci_kv *to) {
    vlci_kv_layer *full = &kv->layer[index], small;
    int capacity = most_before(plan, index) + vlci_compress_most_rows(plan, index) + room;
    vlcache_status status =
        vlci_kv_layer_create(to, capacity, full->bias || has_centroids(plan, index), &small);
    if (status) return status;
    vlci_attention a = vlci_text_attention(text, kv, index);
    vlci_compact_to rows = {
        .k = small.k, .v = small.v, .bias = small.bias, .row_stride = a.row_stride, .capacity = capacity};
    rows.head_stride = (size_t)capacity * rows.row_stride;
    rows.seq_stride = (size_t)kv->kv_heads * rows.head_stride;
    status = vlci_compress_layer(plan, index, &a, full->bias, full->capacity, &rows);
    if (!status) {
        vlci_kv_layer gone = to->layer[index];
        to->layer[index] = small;
        small = gone;
    }
    vlci_kv_layer_release(to, &small);
    return status;
}

static vlcache_status compact(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan, vlci_kv *to) {
    vlcache_status status = VLCACHE_OK;
    int n = kv->batch * kv->kv_heads;
    for (int i = 0; i < kv->layers && !status; i++) {
        status = compact_layer(text, kv, i, room, plan, to);
        for (int j = 0; j < n && !status; j++)
            to->length[i * n + j] = plan->before[i * n + j] + vlci_compress_rows(plan, i, j / kv->kv_heads);
    }
    return status;
}

vlcache_status vlci_prefill_compress(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan,
                                     vlci_kv *to) {
    vlcache_status status = vlci_compress_plan(plan);
    if (!status) status = compact(text, kv, room, plan, to);
    if (status) vlci_kv_clear(to);
    return status;
}
