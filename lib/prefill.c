/*
 * prefill.c - prompt -> layers, observed one by one -> logits -> budgets -> compaction, layer by layer.
 *
 * Each layer is observed right after its attention, while q, the row maxima and the log-sum-exps are still
 * there; budgets need all layers' sparsity, so compaction comes last.
 */
#include "prefill.h"

/* New, smaller buffers for one layer; the old ones are released when the copy is enqueued. */
static vlcache_status compact_layer(vlci_text *text, vlci_kv *kv, int index, int past, int room,
                                    vlci_compress *plan) {
    vlci_kv_layer *layer = &kv->layer[index], small;
    vlcache_status status = vlci_kv_layer_create(kv, past + vlci_compress_rows(plan, index) + room, &small);
    if (status) return status;
    vlci_attention a = vlci_text_attention(text, kv, index);
    vlci_compact_to to = {.k = small.k, .v = small.v, .row_stride = a.row_stride, .capacity = small.capacity};
    to.head_stride = (size_t)small.capacity * to.row_stride;
    to.seq_stride = (size_t)kv->kv_heads * to.head_stride;
    status = vlci_compress_layer(plan, index, &a, &to);
    if (!status) {
        vlci_kv_layer full = *layer;
        *layer = small;
        small = full;
    }
    vlci_kv_layer_release(kv, &small);
    return status;
}

/* Most rows that any sequence and head of a layer held before this prompt. */
static int most_past(const vlci_text *text, const vlci_kv *kv, int layer) {
    int most = 0, n = kv->batch * kv->kv_heads;
    for (int i = 0; i < n; i++) {
        int past = kv->length[layer * n + i] - text->host_rows[i / kv->kv_heads];
        if (past > most) most = past;
    }
    return most;
}

/* The device's lengths are still those before the prompt; the host's become those after compaction. */
static vlcache_status compact(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan) {
    vlcache_status status = VLCACHE_OK;
    int n = kv->batch * kv->kv_heads;
    for (int i = 0; i < kv->layers && !status; i++) {
        status = compact_layer(text, kv, i, most_past(text, kv, i), room, plan);
        for (int j = 0; j < n && !status; j++) {
            int b = j / kv->kv_heads;
            kv->length[i * n + j] += vlci_compress_kept(plan, i, b) - text->host_rows[b];
        }
    }
    return status;
}

vlcache_status vlci_prefill_plan(const vlci_text *text, const vlci_kv *kv, const int *rows,
                                 const int *text_after, const vlcache_compress_options *options,
                                 vlci_compress **plan) {
    const vlci_text_config *c = &text->model->config.text;
    vlci_compress_shape shape = {.layers = c->layers,
                                 .batch = text->batch,
                                 .heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .kv_dtype = kv->dtype};
    return vlci_compress_create(text->device, options, &shape, rows, text_after, plan);
}

/* Lets the device catch up, so that the answer is about what is done, and asks. */
static vlcache_status ask_to_go_on(vlci_text *text, int layer) {
    if (!text->watch) return VLCACHE_OK;
    vlcache_status status = vlci_finish(text->device);
    if (status || text->watch(text->watch_user, layer + 1, text->model->config.text.layers)) return status;
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while reading the prompt");
}

vlcache_status vlci_prefill_walk(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                                 cl_mem features, vlci_compress *plan) {
    vlcache_status status = vlci_text_begin(text, kv, ids, rows, features);
    for (int i = 0; i < kv->layers && !status; i++) {
        status = vlci_text_layer_run(text, kv, i);
        vlci_attention a = vlci_text_attention(text, kv, i);
        if (!status && plan) status = vlci_compress_observe(plan, i, &a);
        if (!status) status = ask_to_go_on(text, i);
    }
    return status ? status : vlci_text_end(text, kv);
}

vlcache_status vlci_prefill_compress(vlci_text *text, vlci_kv *kv, int room, vlci_compress *plan) {
    vlcache_status status = vlci_compress_plan(plan);
    if (!status) status = compact(text, kv, room, plan);
    if (status) vlci_kv_clear(kv);
    return status;
}

vlcache_status vlci_prefill(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                            cl_mem features, const vlcache_compress_options *options, const int *text_after,
                            int room, vlci_compress **plan) {
    vlcache_status status = vlci_prefill_plan(text, kv, rows, text_after, options, plan);
    if (!status) status = vlci_prefill_walk(text, kv, ids, rows, features, *plan);
    if (!status && *plan) status = vlci_prefill_compress(text, kv, room, *plan);
    if (status) vlci_compress_destroy(plan);
    return status;
}
