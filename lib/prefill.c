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
    vlci_kv_layer *layer = &kv->layer[index];
    vlci_kv_layer small = {.capacity = past + vlci_compress_rows(plan, index) + room};
    size_t heads = (size_t)kv->batch * (size_t)kv->kv_heads;
    size_t bytes = heads * (size_t)small.capacity * (size_t)kv->head_dim * vlci_dtype_bytes(kv->dtype);
    vlci_attention a = vlci_text_attention(text, kv, index);
    vlci_compact_to to = {.row_stride = a.row_stride, .capacity = small.capacity};
    to.head_stride = (size_t)small.capacity * to.row_stride;
    to.seq_stride = (size_t)kv->kv_heads * to.head_stride;
    vlcache_status status = vlci_memory_create(kv->device, bytes, "compacted keys", &small.k);
    if (!status) status = vlci_memory_create(kv->device, bytes, "compacted values", &small.v);
    to.k = small.k;
    to.v = small.v;
    if (!status) status = vlci_compress_layer(plan, index, &a, &to);
    if (!status) {
        vlci_kv_layer full = *layer;
        *layer = small;
        small = full;
    }
    vlci_memory_release(kv->device, &small.k);
    vlci_memory_release(kv->device, &small.v);
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

static vlcache_status walk(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows, cl_mem features,
                           vlci_compress *plan) {
    vlcache_status status = vlci_text_begin(text, kv, ids, rows, features);
    for (int i = 0; i < kv->layers && !status; i++) {
        status = vlci_text_layer_run(text, kv, i);
        if (status || !plan) continue;
        vlci_attention a = vlci_text_attention(text, kv, i);
        status = vlci_compress_observe(plan, i, &a);
    }
    return status ? status : vlci_text_end(text, kv);
}

vlcache_status vlci_prefill(vlci_text *text, vlci_kv *kv, const int32_t *ids, const int *rows,
                            cl_mem features, const vlcache_compress_options *options, const int *text_after,
                            int room, vlci_compress **plan) {
    const vlci_text_config *c = &text->model->config.text;
    vlci_compress_shape shape = {.layers = c->layers,
                                 .batch = text->batch,
                                 .heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .kv_dtype = kv->dtype};
    *plan = NULL;
    vlcache_status status = vlci_compress_create(text->device, options, &shape, rows, text_after, plan);
    if (!status) status = walk(text, kv, ids, rows, features, *plan);
    if (!status && *plan) status = vlci_compress_plan(*plan);
    if (!status && *plan) status = compact(text, kv, room, *plan);
    if (status) vlci_compress_destroy(plan);
    return status;
}
