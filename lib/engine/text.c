/*
 * text.c - the Llama / Mistral text transformer.
 *
 *     x = embedding rows, visual tokens among them
 *     each layer: x += out(attention(rope(qkv(RMS(x)))))      x += down(act(gate(RMS(x))) * up(RMS(x)))
 *     logits = head(RMS(x of the last row))
 */
#include "engine/text.h"

#include <math.h>

#include "compute/ops.h"
#include "core/alloc.h"
#include "device/tap.h"

/* Inverse frequencies theta^(-2d/D), scaled as the config says ("linear", and Llama 3's smooth blend by
 * wavelength). */
static float inverse_frequency(const vlci_text_config *c, int d) {
    double f = pow((double)c->rope_theta, -2.0 * d / c->head_dim), factor = (double)c->rope_factor;
    if (c->rope_kind == VLCI_ROPE_LINEAR) return (float)(f / factor);
    if (c->rope_kind != VLCI_ROPE_LLAMA3) return (float)f;
    double low = (double)c->rope_low_factor, high = (double)c->rope_high_factor;
    double turns = c->rope_original_positions * f / (2.0 * 3.14159265358979323846);
    double smooth = (turns - low) / (high - low);
    if (turns < low) return (float)(f / factor);
    return turns > high ? (float)f : (float)((1.0 - smooth) * f / factor + smooth * f);
}

static vlcache_status create_frequencies(vlci_text *t) {
    const vlci_text_config *c = &t->model->config.text;
    size_t n = (size_t)c->head_dim / 2;
    float *values = vlci_alloc(n, sizeof *values);
    if (!values) return vlci_fail_memory("rotary frequencies");
    for (size_t d = 0; d < n; d++) values[d] = inverse_frequency(c, (int)d);
    vlcache_status status =
        vlci_memory_create(t->device, n * sizeof *values, "rotary frequencies", &t->inv_freq);
    if (!status) status = vlci_write(t->device, t->inv_freq, 0, values, n * sizeof *values);
    vlci_free(values);
    return status;
}

vlcache_status vlci_text_cache(const vlcache_model *model, int batch, vlci_kv *out) {
    const vlci_text_config *c = &model->config.text;
    *out = (vlci_kv){.device = model->device,
                     .layers = c->layers,
                     .batch = batch,
                     .kv_heads = c->kv_heads,
                     .head_dim = c->head_dim,
                     .dtype = model->dtype};
    return vlci_kv_create(out);
}

vlcache_status vlci_text_create(const vlcache_model *model, int batch, vlci_text *out) {
    const vlci_text_config *c = &model->config.text;
    *out = (vlci_text){.model = model, .device = model->device, .batch = batch};
    size_t n = (size_t)batch, hidden = n * (size_t)c->hidden, vocab = n * (size_t)c->vocab;
    out->host_rows = vlci_calloc(n, sizeof *out->host_rows);
    vlcache_status status = out->host_rows ? create_frequencies(out) : vlci_fail_memory("row counts");
    if (!status) status = vlci_memory_create(out->device, hidden * sizeof(float), "last rows", &out->last);
    if (!status) status = vlci_memory_create(out->device, vocab * sizeof(float), "logits", &out->logits);
    if (!status)
        status =
            vlci_memory_create(out->device, (n + 1) * sizeof(int32_t), "sequence starts", &out->seq_start);
    size_t scratch = vlci_attention_scratch_bytes(out->device, batch, c->heads, c->kv_heads, c->head_dim);
    if (!status) status = vlci_memory_create(out->device, scratch, "attention scratch", &out->scratch);
    if (status) vlci_text_release(out);
    return status;
}

/* What is sized by the number of rows. */
typedef struct room {
    cl_mem *memory;
    size_t width; /* 4-byte elements a row */
} room;

enum { N_ROOMS = 12 };

static void rooms(vlci_text *t, room out[N_ROOMS]) {
    const vlci_text_config *c = &t->model->config.text;
    size_t q = (size_t)c->heads * (size_t)c->head_dim, kv = (size_t)c->kv_heads * (size_t)c->head_dim;
    const room all[N_ROOMS] = {{&t->x, (size_t)c->hidden},
                               {&t->norm, (size_t)c->hidden},
                               {&t->qkv, q + 2 * kv},
                               {&t->attended, q},
                               {&t->gate_up, 2 * (size_t)c->intermediate},
                               {&t->gated, (size_t)c->intermediate},
                               {&t->ids, 1},
                               {&t->row_position, 1},
                               {&t->phase, (size_t)c->head_dim},
                               {&t->row_sequence, 1},
                               {&t->row_max, (size_t)c->heads},
                               {&t->row_lse, (size_t)c->heads}};
    for (int i = 0; i < N_ROOMS; i++) out[i] = all[i];
}

static vlcache_status make_room(vlci_text *t, int rows) {
    if (rows <= t->capacity) return VLCACHE_OK;
    room all[N_ROOMS];
    rooms(t, all);
    vlcache_status status = VLCACHE_OK;
    t->capacity = 0;
    for (int i = 0; i < N_ROOMS && !status; i++) {
        vlci_memory_release(t->device, all[i].memory);
        status = vlci_memory_create(t->device, (size_t)rows * all[i].width * sizeof(float),
                                    "text activations", all[i].memory);
    }
    if (!status) t->capacity = rows;
    return status;
}

/* Position and sequence of each row, and where each sequence starts. */
static vlcache_status write_rows(vlci_text *t, const vlci_kv *kv, const int32_t *ids) {
    size_t n = (size_t)t->rows, batch = (size_t)t->batch;
    int32_t *plan = vlci_alloc(2 * n + batch + 1, sizeof *plan);
    if (!plan) return vlci_fail_memory("row plan");
    int32_t *position = plan, *sequence = plan + n, *start = plan + 2 * n;
    int row = 0;
    for (int b = 0; b < t->batch; b++) {
        start[b] = row;
        for (int i = 0; i < t->host_rows[b]; i++, row++) {
            position[row] = kv->position[b] + i;
            sequence[row] = b;
        }
    }
    start[t->batch] = row;
    vlcache_status status = vlci_write(t->device, t->row_position, 0, position, n * sizeof *plan);
    if (!status) status = vlci_write(t->device, t->row_sequence, 0, sequence, n * sizeof *plan);
    if (!status) status = vlci_write(t->device, t->seq_start, 0, start, (batch + 1) * sizeof *plan);
    if (!status) status = vlci_write(t->device, t->ids, 0, ids, n * sizeof *plan);
    vlci_free(plan);
    return status;
}

static vlcache_status check_rows(const vlci_text *t, const vlci_kv *kv, const int32_t *ids, cl_mem features) {
    const vlci_text_config *c = &t->model->config.text;
    for (int b = 0; b < t->batch; b++)
        if (t->host_rows[b] < 1 || kv->position[b] + t->host_rows[b] > c->max_positions)
            return vlci_fail(VLCACHE_E_CONTEXT_FULL,
                             "%d tokens after %d do not fit the model's context of %d", t->host_rows[b],
                             kv->position[b], c->max_positions);
    for (int i = 0; i < t->rows; i++)
        if (ids[i] >= c->vocab || (ids[i] < 0 && !features))
            return vlci_fail(VLCACHE_E_ARGUMENT, "token %d: id %d, the vocabulary has %d", i, ids[i],
                             c->vocab);
    return VLCACHE_OK;
}

/* What every layer needs of the rows: x, and the rotations of their positions. */
static vlcache_status enter_rows(vlci_text *t, cl_mem features) {
    const vlci_text_config *c = &t->model->config.text;
    vlcache_status status = vlci_embed_rows(t->device, &t->model->embedding, features, t->ids, t->x, t->rows);
    if (!status)
        status = vlci_rope_phase(t->device, t->inv_freq, t->row_position, t->phase, t->rows, c->head_dim);
    if (!status) vlci_tap(t->device, t->x, t->rows, c->hidden, "embed");
    return status;
}

vlcache_status vlci_text_begin(vlci_text *t, vlci_kv *kv, const int32_t *ids, const int *rows,
                               cl_mem features) {
    int most = 0;
    t->rows = 0;
    for (int b = 0; b < t->batch; b++) {
        t->host_rows[b] = rows[b];
        t->rows += rows[b];
        if (rows[b] > most) most = rows[b];
    }
    vlcache_status status = check_rows(t, kv, ids, features);
    if (!status) status = make_room(t, t->rows);
    if (!status) status = vlci_kv_reserve(kv, most);
    if (!status) status = write_rows(t, kv, ids);
    if (!status) status = vlci_kv_sync(kv);
    return status ? status : enter_rows(t, features ? features : t->x);
}

static vlcache_status append_rows(vlci_text *t, vlci_kv *kv, int layer) {
    vlci_append a = {.rows = t->rows,
                     .heads = t->model->config.text.heads,
                     .kv_heads = kv->kv_heads,
                     .head_dim = kv->head_dim,
                     .kv_dtype = kv->dtype,
                     .qkv = t->qkv,
                     .phase = t->phase,
                     .row_sequence = t->row_sequence,
                     .seq_start = t->seq_start,
                     .past = kv->past,
                     .past_offset = layer * kv->batch * kv->kv_heads,
                     .k = kv->layer[layer].k,
                     .v = kv->layer[layer].v,
                     .row_stride = (size_t)kv->head_dim};
    a.head_stride = (size_t)kv->layer[layer].capacity * a.row_stride;
    a.seq_stride = (size_t)kv->kv_heads * a.head_stride;
    return vlci_rope_append(t->device, &a);
}

/* Most rows that any head of a layer holds when this walk's are appended. */
static int most_keys(const vlci_text *t, const vlci_kv *kv, int layer) {
    int most = 0, n = kv->batch * kv->kv_heads;
    for (int i = 0; i < n; i++) {
        int keys = kv->length[layer * n + i] + t->host_rows[i / kv->kv_heads];
        if (keys > most) most = keys;
    }
    return most;
}

vlci_attention vlci_text_attention(const vlci_text *t, const vlci_kv *kv, int layer) {
    const vlci_text_config *c = &t->model->config.text;
    vlci_attention a = {.batch = t->batch,
                        .heads = c->heads,
                        .kv_heads = c->kv_heads,
                        .head_dim = c->head_dim,
                        .causal = true,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv_dtype = kv->dtype,
                        .row_stride = (size_t)c->head_dim,
                        .q_stride = ((size_t)c->heads + 2 * (size_t)c->kv_heads) * (size_t)c->head_dim,
                        .q = t->qkv,
                        .k = kv->layer[layer].k,
                        .v = kv->layer[layer].v,
                        .out = t->attended,
                        .seq_start = t->seq_start,
                        .past = kv->past,
                        .past_offset = layer * kv->batch * kv->kv_heads,
                        .bias = kv->layer[layer].bias,
                        .bias_stride = (size_t)kv->layer[layer].capacity,
                        .max_keys = most_keys(t, kv, layer),
                        .scratch = t->scratch,
                        .row_max = t->row_max,
                        .row_lse = t->row_lse};
    a.head_stride = (size_t)kv->layer[layer].capacity * a.row_stride;
    a.seq_stride = (size_t)kv->kv_heads * a.head_stride;
    for (int b = 0; b < t->batch; b++)
        if (t->host_rows[b] > a.max_rows) a.max_rows = t->host_rows[b];
    return a;
}

vlcache_status vlci_text_layer_run(vlci_text *t, vlci_kv *kv, int layer) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_text_layer *w = &t->model->text[layer];
    vlcache_device *d = t->device;
    vlcache_status status = vlci_norm_rows(d, t->x, &w->norm1, t->norm, t->rows, c->hidden, c->norm_eps);
    if (!status) status = vlci_gemm(d, &w->qkv, t->norm, 0, t->qkv, 0, t->rows, VLCI_ACT_NONE, false);
    if (!status) status = append_rows(t, kv, layer);
    vlci_attention attention = vlci_text_attention(t, kv, layer);
    if (!status) status = vlci_attention_run(d, &attention);
    if (!status) status = vlci_gemm(d, &w->out, t->attended, 0, t->x, 0, t->rows, VLCI_ACT_NONE, true);
    if (!status) status = vlci_norm_rows(d, t->x, &w->norm2, t->norm, t->rows, c->hidden, c->norm_eps);
    if (!status) status = vlci_gemm(d, &w->gate_up, t->norm, 0, t->gate_up, 0, t->rows, VLCI_ACT_NONE, false);
    if (!status) status = vlci_gated_act(d, t->gate_up, t->gated, t->rows, c->intermediate, c->act);
    if (!status) status = vlci_gemm(d, &w->down, t->gated, 0, t->x, 0, t->rows, VLCI_ACT_NONE, true);
    if (!status) vlci_tap(d, t->x, t->rows, c->hidden, "layer.%d.hidden", layer);
    return status;
}

vlcache_status vlci_text_end(vlci_text *t, vlci_kv *kv) {
    const vlci_text_config *c = &t->model->config.text;
    size_t bytes = (size_t)c->hidden * sizeof(float), end = 0;
    vlcache_status status = VLCACHE_OK;
    for (int b = 0; b < t->batch && !status; b++) {
        end += (size_t)t->host_rows[b];
        status = vlci_copy(t->device, t->x, (end - 1) * bytes, t->last, (size_t)b * bytes, bytes);
    }
    vlci_kv_advance(kv, t->host_rows);
    if (!status)
        status = vlci_norm_rows(t->device, t->last, &t->model->final_norm, t->last, t->batch, c->hidden,
                                c->norm_eps);
    if (!status) vlci_tap(t->device, t->last, t->batch, c->hidden, "norm");
    const vlci_matrix *head = c->tied ? &t->model->embedding : &t->model->head;
    if (!status)
        status = vlci_gemm(t->device, head, t->last, 0, t->logits, 0, t->batch, VLCI_ACT_NONE, false);
    if (!status) vlci_tap(t->device, t->logits, t->batch, c->vocab, "logits");
    return status;
}

vlcache_status vlci_text_run(vlci_text *t, vlci_kv *kv, const int32_t *ids, const int *rows,
                             cl_mem features) {
    vlcache_status status = vlci_text_begin(t, kv, ids, rows, features);
    for (int i = 0; i < t->model->config.text.layers && !status; i++) status = vlci_text_layer_run(t, kv, i);
    if (!status) status = vlci_text_end(t, kv);
    return status;
}

vlcache_status vlci_text_step(vlci_text *t, vlci_kv *kv, cl_mem tokens) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_kernel *kernel;
    int lengths = kv->layers * kv->batch * kv->kv_heads, n = lengths > t->batch ? lengths : t->batch;
    for (int b = 0; b < t->batch; b++)
        if (kv->position[b] >= c->max_positions)
            return vlci_fail(VLCACHE_E_CONTEXT_FULL, "the model's context of %d tokens is full",
                             c->max_positions);
    vlcache_status status = vlci_kv_reserve(kv, 1);
    if (!status) status = vlci_kernel_get(t->device, "advance.cl", "advance", "", &kernel);
    if (!status)
        status = VLCI_LAUNCH(t->device, kernel, VLCI_GRID((size_t)n, 1, 1, 1, 1, 1), VLCI_MEM(tokens),
                             VLCI_MEM(t->ids), VLCI_MEM(t->row_position), VLCI_I32(t->batch),
                             VLCI_MEM(kv->past), VLCI_I32(lengths));
    if (!status) status = enter_rows(t, t->x);
    for (int i = 0; i < c->layers && !status; i++) status = vlci_text_layer_run(t, kv, i);
    return status ? status : vlci_text_end(t, kv);
}

void vlci_text_release(vlci_text *t) {
    room all[N_ROOMS];
    if (!t->model) return;
    rooms(t, all);
    for (int i = 0; i < N_ROOMS; i++) vlci_memory_release(t->device, all[i].memory);
    vlci_memory_release(t->device, &t->seq_start);
    vlci_memory_release(t->device, &t->last);
    vlci_memory_release(t->device, &t->logits);
    vlci_memory_release(t->device, &t->inv_freq);
    vlci_memory_release(t->device, &t->scratch);
    vlci_free(t->host_rows);
    *t = (vlci_text){0};
}
