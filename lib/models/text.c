/*
 * text.c - the text transformer over some rows.
 */
#include "models/text.h"

#include <math.h>

#include "compute/coded.h"
#include "compute/product.h"
#include "compute/quantised.h"
#include "core/alloc.h"

static vlcache_device *device_of(const vlci_text *t) {
    return t->model->device;
}

/* ---- rotations ----------------------------------------------------------------------------------------- */

static vlcache_status write_new(vlci_text *t, const void *values, size_t bytes, const char *what,
                                cl_mem *out) {
    vlcache_status status = vlci_memory_create(device_of(t), bytes, what, out);
    return status ? status : vlci_write(device_of(t), *out, 0, values, bytes);
}

static vlcache_status create_frequencies(vlci_text *t) {
    const vlci_text_config *c = &t->model->config.text;
    size_t n = (size_t)c->head_dim / 2;
    float *values = vlci_alloc(n, sizeof *values);
    int32_t *axis = vlci_alloc(n, sizeof *axis);
    vlcache_status status = values && axis ? VLCACHE_OK : vlci_fail_memory("rotary frequencies");
    if (!status) vlci_rotary_fill(&c->rope, c->head_dim, values, axis);
    if (!status) status = write_new(t, values, n * sizeof *values, "rotary frequencies", &t->inv_freq);
    if (!status) status = write_new(t, axis, n * sizeof *axis, "rotary axes", &t->axis);
    vlci_free(values);
    vlci_free(axis);
    return status;
}

/* ---- creation ------------------------------------------------------------------------------------------ */

vlcache_status vlci_stream_create(const vlcache_model *model, int rows, vlci_stream *out) {
    const vlci_text_config *c = &model->config.text;
    size_t n = (size_t)rows;
    *out = (vlci_stream){.room = rows};
    vlcache_status status = vlci_memory_create(model->device, n * sizeof(cl_int), "token ids", &out->ids);
    if (!status)
        status = vlci_memory_create(model->device, 3 * n * sizeof(cl_int), "positions", &out->position);
    if (!status)
        status = vlci_memory_create(model->device, n * (size_t)c->head_dim * sizeof(float), "rotations",
                                    &out->phase);
    if (!status)
        status = vlci_memory_create(model->device, n * (size_t)c->hidden * sizeof(float), "text activations",
                                    &out->x);
    if (!status && c->crosses)
        status = vlci_memory_create(model->device, n * sizeof(cl_int), "what rows see", &out->sees);
    if (status) vlci_stream_release(model, out);
    return status;
}

void vlci_stream_release(const vlcache_model *model, vlci_stream *s) {
    cl_mem *all[] = {&s->ids, &s->position, &s->phase, &s->x, &s->sees};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(model->device, all[i]);
    *s = (vlci_stream){0};
}

/* What is sized by the number of rows: `width` floats, or an operand of a product. */
typedef struct room {
    cl_mem *memory;
    size_t width;
    bool operand;
} room;

enum { N_ROOMS = 9 };

/* Whether no layer needs room for gate and up beside each other, nor to bring what they make. */
static bool gates_in_one(const vlcache_model *model) {
    for (int i = 0; i < model->config.text.layers; i++)
        if (!vlci_product_gates(&model->compute, &model->text[i].gate_up, &model->text[i].down)) return false;
    return true;
}

/* `t` zero: sizes only. */
static void rooms_of(const vlci_text_config *c, bool in_one, vlci_text *t, room out[N_ROOMS]) {
    size_t q = (size_t)c->heads * (size_t)c->head_dim, kv = (size_t)c->kv_heads * (size_t)c->head_dim;
    size_t wide = in_one ? 0 : 2 * (size_t)c->intermediate;
    const room all[N_ROOMS] = {{&t->norm, q > (size_t)c->hidden ? q : (size_t)c->hidden, true},
                               {&t->qkv, q + 2 * kv, false},
                               {&t->attended, q, true},
                               {&t->gate_up, wide, true},
                               {&t->gated, (size_t)c->intermediate, true},
                               {&t->added, c->post_norms ? (size_t)c->hidden : 0, false},
                               {&t->row_max, (size_t)c->heads, false},
                               {&t->row_lse, (size_t)c->heads, false},
                               {&t->crossed, c->crosses ? (size_t)c->hidden : 0, false}};
    for (int i = 0; i < N_ROOMS; i++) out[i] = all[i];
}

static void rooms(vlci_text *t, room out[N_ROOMS]) {
    rooms_of(&t->model->config.text, gates_in_one(t->model), t, out);
}

static size_t room_bytes(const room *r, int rows) {
    return r->operand ? vlci_operand_bytes(rows, (int)r->width) : (size_t)rows * r->width * sizeof(float);
}

uint64_t vlci_text_work_bytes(const vlci_text_config *c, int rows) {
    vlci_text none = {0};
    room all[N_ROOMS];
    int part = c->prefix_lm || rows < VLCI_PART_ROWS ? rows : VLCI_PART_ROWS;
    size_t row = 4 * sizeof(cl_int) + ((size_t)c->head_dim + (size_t)c->hidden) * sizeof(float);
    uint64_t bytes = (uint64_t)rows * row + (uint64_t)c->vocab * sizeof(float);
    rooms_of(c, false, &none, all);
    for (int i = 0; i < N_ROOMS; i++) bytes += room_bytes(&all[i], part);
    return bytes;
}

vlcache_status vlci_text_room(vlci_text *t, int rows) {
    if (rows <= t->rows) return VLCACHE_OK;
    room all[N_ROOMS];
    rooms(t, all);
    vlcache_status status = VLCACHE_OK;
    t->rows = 0;
    for (int i = 0; i < N_ROOMS && !status; i++) {
        vlci_memory_release(device_of(t), all[i].memory);
        status =
            vlci_memory_create(device_of(t), room_bytes(&all[i], rows), "text activations", all[i].memory);
    }
    if (!status) t->rows = rows;
    return status;
}

vlcache_status vlci_text_create(const vlcache_model *model, int rows, int batch, vlci_text *out) {
    const vlci_text_config *c = &model->config.text;
    *out = (vlci_text){.model = model, .batch = batch};
    size_t n = (size_t)batch;
    vlcache_status status = create_frequencies(out);
    if (!status)
        status =
            vlci_memory_create(model->device, vlci_operand_bytes(batch, c->hidden), "last rows", &out->last);
    if (!status)
        status =
            vlci_memory_create(model->device, n * (size_t)c->vocab * sizeof(float), "logits", &out->logits);
    if (!status) status = vlci_attention_scratch_create(&model->compute.attention, batch, &out->scratch);
    if (!status) status = vlci_text_room(out, rows);
    if (status) vlci_text_release(out);
    return status;
}

void vlci_text_release(vlci_text *t) {
    if (!t->model) return;
    room all[N_ROOMS];
    rooms(t, all);
    for (int i = 0; i < N_ROOMS; i++) vlci_memory_release(device_of(t), all[i].memory);
    cl_mem *others[] = {&t->scratch, &t->last, &t->logits, &t->inv_freq, &t->axis};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) vlci_memory_release(device_of(t), others[i]);
    *t = (vlci_text){0};
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* sqrt(hidden), in the precision of the embedding, as the models were trained. */
static float embed_scale(const vlcache_model *model) {
    float scale = sqrtf((float)model->config.text.hidden);
    uint32_t stored = 0;
    if (!model->config.text.embed_scaled) return 1.0f;
    vlci_narrow(&scale, &stored, model->embedding.dtype, 1);
    vlci_widen(&stored, model->embedding.dtype, &scale, 1);
    return scale;
}

vlcache_status vlci_text_enter(const vlci_text *t, const vlci_stream *s, int rows) {
    const vlcache_model *model = t->model;
    const vlci_compute *k = &model->compute;
    const vlci_text_config *c = &model->config.text;
    vlcache_status status =
        vlci_embed_run(&k->embed, &model->embedding, embed_scale(model), s->features, s->ids, s->x, rows);
    if (!status)
        status = vlci_rope_phase(&k->rope, t->inv_freq, t->axis, s->position, s->phase, rows, c->head_dim,
                                 c->rope.attention_factor);
    return status;
}

vlci_attention vlci_text_attention(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_text_config *c = &t->model->config.text;
    bool crosses = vlci_text_crosses(c, layer);
    size_t q = (size_t)c->heads * (size_t)c->head_dim, kv = (size_t)c->kv_heads * (size_t)c->head_dim;
    return (vlci_attention){.batch = r->batch,
                            .causal = !c->prefix_lm && !crosses, /* in decode a row is all that is new */
                            .window = vlci_text_window(c, layer),
                            .scale = c->query_scale > 0 ? c->query_scale : 1.0f / sqrtf((float)c->head_dim),
                            .kv = r->kv,
                            .q_stride = crosses ? q : q + 2 * kv,
                            .max_rows = r->max_rows,
                            .q = t->qkv,
                            .out = t->attended,
                            .seq_start = r->seq_start,
                            .max_keys = r->max_keys,
                            .mean_keys = r->mean_keys,
                            .scratch = t->scratch,
                            .row_max = t->row_max,
                            .row_lse = t->row_lse};
}

static vlci_append appended(const vlci_text *t, const vlci_text_rows *r) {
    const vlci_text_config *c = &t->model->config.text;
    return (vlci_append){.rows = r->rows,
                         .heads = c->heads,
                         .kv_heads = c->kv_heads,
                         .head_dim = c->head_dim,
                         .qkv = t->qkv,
                         .phase = r->stream->phase,
                         .phase_row = r->first,
                         .row_sequence = r->row_sequence,
                         .seq_start = r->seq_start,
                         .kv = r->kv};
}

/* Each head of q and k for itself, where the model does that. */
static vlcache_status norm_heads(const vlci_text *t, const vlci_text_layer *w, const vlci_text_rows *r) {
    const vlci_text_config *c = &t->model->config.text;
    if (!c->head_norm) return VLCACHE_OK;
    return vlci_head_norm_run(&t->model->compute.norm, t->qkv, &w->q_norm, &w->k_norm, r->rows, c->heads,
                              c->kv_heads, c->head_dim, c->norm_eps);
}

/* q, k and v, rotated, and in the cache: one launch where the product can and no norm stands between. */
static vlcache_status append(const vlci_text *t, const vlci_text_layer *w, const vlci_text_rows *r) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_config *c = &t->model->config.text;
    vlci_append rows = appended(t, r);
    vlci_product qkv = {.w = &w->qkv,
                        .x = r->stream->x,
                        .x_offset = (size_t)r->first * (size_t)c->hidden,
                        .norm = &w->norm1,
                        .eps = c->norm_eps,
                        .brought = t->norm,
                        .append = &rows,
                        .next = &w->out,
                        .y = t->qkv,
                        .m = r->rows};
    bool at_once = !c->head_norm && vlci_linear_takes_append(&k->linear, &qkv);
    if (!at_once) qkv.append = NULL;
    vlcache_status status = vlci_product_run(k, &qkv);
    if (status || at_once) return status;
    status = norm_heads(t, w, r);
    return status ? status : vlci_rope_append(&k->rope, &rows);
}

/* What the rows see of rows in few bits: each sequence has its own, and as many rows as the others, or is
 * alone. */
static vlcache_status attend_codes(const vlci_text_rows *r, const vlci_attention *a, bool pages) {
    if (!r->sequences) return VLCACHE_OK;
    vlcache_status status = vlci_coded_run(r->sequences, r->kv.layer, a, pages);
    int each = r->batch == 1 ? r->rows : 1;
    for (int b = 0; b < r->batch && !status; b++)
        status = vlci_quantised_run(r->sequences[b]->quants, r->kv.layer, a, b * each, each);
    return status;
}

static bool sees_codes(const vlci_text_rows *r) {
    for (int b = 0; r->sequences && b < r->batch; b++)
        if (r->sequences[b]->codes || r->sequences[b]->quants) return true;
    return false;
}

/* What attention leaves, and `out` reads: floats, where coded rows are to be merged with it. */
static void hand_on(const vlci_text *t, const vlci_text_rows *r, vlci_attention *a, vlci_product *out) {
    const vlci_compute *k = &t->model->compute;
    if (sees_codes(r) || vlci_linear_form(&k->linear, out->w->dtype, r->rows) != VLCI_STRIPES ||
        !vlci_attention_leaves_stripes(&k->attention, a, out->w->dtype))
        return;
    a->out_rows = r->rows;
    out->x_form = VLCI_STRIPES;
}

/* What a half of a layer gives goes into x: by the product itself, or through a norm. */
static void put_into(const vlci_text *t, const vlci_text_rows *r, vlci_product *last) {
    bool normed = t->model->config.text.post_norms;
    last->y = normed ? t->added : r->stream->x;
    last->y_offset = normed ? 0 : (size_t)r->first * (size_t)t->model->config.text.hidden;
    last->accumulate = !normed;
}

static vlcache_status add_normed(const vlci_text *t, const vlci_text_rows *r, const vlci_norm *norm) {
    const vlci_text_config *c = &t->model->config.text;
    if (!c->post_norms) return VLCACHE_OK;
    return vlci_norm_add_run(&t->model->compute.norm, t->added, norm, r->stream->x,
                             (size_t)r->first * (size_t)c->hidden, r->rows, c->hidden, c->norm_eps);
}

/* What others want to see of it comes before the rest of the layer: while the device is at that, the host has
 * what it came to. */
static vlcache_status tell_attended(const vlci_text *t, int layer, const vlci_text_rows *r) {
    if (!r->attended) return VLCACHE_OK;
    const vlci_attention attention = vlci_text_attention(t, layer, r);
    return r->attended(r->user, layer, &attention);
}

/* attention(q, k, v), all of whose rows are there; `out`: what reads it. */
static vlcache_status attend(const vlci_text *t, int layer, const vlci_text_rows *r, vlci_product *out) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_layer *w = &t->model->text[layer];
    vlci_attention attention = vlci_text_attention(t, layer, r);
    *out =
        (vlci_product){.w = &w->out, .x = t->attended, .brought = t->norm, .next = &w->gate_up, .m = r->rows};
    hand_on(t, r, &attention, out);
    bool at_once = r->sequences && vlci_coded_sees_pages(r->sequences, &attention);
    vlcache_status status = at_once ? VLCACHE_OK : vlci_attention_run(&k->attention, &attention);
    if (!status) status = attend_codes(r, &attention, at_once);
    return status ? status : tell_attended(t, layer, r);
}

/* x += out(attention) */
static vlcache_status add_attended(const vlci_text *t, int layer, const vlci_text_rows *r,
                                   vlci_product *out) {
    put_into(t, r, out);
    vlcache_status status = vlci_product_run(&t->model->compute, out);
    return status ? status : add_normed(t, r, &t->model->text[layer].post1);
}

static const vlci_matrix *head_of(const vlcache_model *model) {
    return model->config.text.tied ? &model->embedding : &model->head;
}

/* The first matrix of a layer, or what is behind the last. */
static const vlci_matrix *first_of(const vlci_text *t, int layer) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_text_layer *w = &t->model->text[layer];
    if (layer == c->layers) return head_of(t->model);
    return vlci_text_crosses(c, layer) ? &w->q : &w->qkv;
}

/* x += down(act(gate(RMS(x))) * up(RMS(x))) */
static vlcache_status think(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_layer *w = &t->model->text[layer];
    size_t at = (size_t)r->first * (size_t)t->model->config.text.hidden;
    vlci_form form = vlci_product_form(k, &w->gate_up, &w->down, r->rows);
    vlci_product gate_up = {.w = &w->gate_up,
                            .x = r->stream->x,
                            .x_offset = at,
                            .norm = &w->norm2,
                            .eps = t->model->config.text.norm_eps,
                            .brought = t->norm,
                            .gated = true,
                            .wide = t->gate_up,
                            .y = t->gated,
                            .y_form = form,
                            .next = &w->down,
                            .m = r->rows};
    vlci_product down = {.w = &w->down,
                         .x = t->gated,
                         .x_form = form,
                         .brought = t->gate_up,
                         .next = first_of(t, layer + 1),
                         .m = r->rows};
    put_into(t, r, &down);
    vlcache_status status = vlci_product_run(k, &gate_up);
    if (!status) status = vlci_product_run(k, &down);
    return status ? status : add_normed(t, r, &w->post2);
}

/* x += set 1 + layer of the features, in the rows of visual tokens. */
static vlcache_status add_features(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_stream *s = r->stream;
    if (layer + 1 >= s->features.sets || !s->features.data) return VLCACHE_OK;
    return vlci_embed_add(&t->model->compute.embed, s->features, layer + 1, s->ids, s->x, r->first, r->rows,
                          t->model->config.text.hidden);
}

/* ---- from one attention to the next, in one launch ----------------------------------------------------- */

/* What stands between the attention of a layer and that of the next, where there is one. */
static vlci_links links_of(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_text_layer *w = &t->model->text[layer], *next = layer + 1 < c->layers ? w + 1 : NULL;
    return (vlci_links){.out = &w->out,
                        .gate_up = &w->gate_up,
                        .down = &w->down,
                        .qkv = next ? &next->qkv : NULL,
                        .norm = &w->norm2,
                        .next = next ? &next->norm1 : NULL,
                        .eps = c->norm_eps,
                        .rows = r->rows,
                        .x = r->stream->x,
                        .x_offset = (size_t)r->first * (size_t)c->hidden,
                        .gated = t->gated,
                        .y = t->qkv};
}

/* Whether that is one launch; then q, k and v of the next layer are there before it begins. */
static bool is_chained(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_compute *k = &t->model->compute;
    if (layer < 0 || !r->unwatched || c->post_norms || c->crosses || r->stream->features.data) return false;
    vlci_links links = links_of(t, layer, r);
    if (vlci_chain_dot_takes(k->chain_dot, &links)) return true;
    return k->chain && vlci_linear_form(&k->linear, links.out->dtype, r->rows) == vlci_chain_reads(r->rows) &&
           vlci_chain_takes(k->chain, &links);
}

/* `attention`: NULL where that is done; else part of the launch, which then takes n layers. */
static vlcache_status chain(const vlci_text *t, int layer, int n, const vlci_text_rows *r, vlci_product *out,
                            const vlci_attention *attention) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_config *c = &t->model->config.text;
    vlci_links links[VLCI_CHAIN_LAYERS];
    vlci_text_rows next = *r;
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n; i++) links[i] = links_of(t, layer + i, r);
    next.kv.layer++;
    vlci_append rows = appended(t, &next);
    bool dot = vlci_chain_dot_takes(k->chain_dot, links);
    bool appends = links->qkv && !c->head_norm && (dot || vlci_chain_appends(k->chain));
    if (!dot && out->x_form != vlci_chain_reads(r->rows)) {
        status = vlci_linear_bring(&k->linear, out, t->norm);
        out->x = t->norm;
    }
    links->attended = out->x;
    links->append = appends ? &rows : NULL;
    if (!status)
        status = dot ? vlci_chain_dot_run(k->chain_dot, links, attention)
                     : vlci_chain_run(k->chain, links, n, attention);
    if (status || appends || !links->qkv) return status;
    status = norm_heads(t, &t->model->text[layer + 1], &next);
    return status ? status : vlci_rope_append(&k->rope, &rows);
}

/* Whether attention and what is behind it is one launch. */
static bool is_chained_whole(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_compute *k = &t->model->compute;
    if ((!k->chain_dot || r->rows != 1) && !k->chain) return false;
    const vlci_attention attention = vlci_text_attention(t, layer, r);
    vlci_links links = links_of(t, layer, r);
    if (!is_chained(t, layer, r) || sees_codes(r)) return false;
    if (vlci_chain_dot_takes(k->chain_dot, &links))
        return r->rows == 1 && vlci_chain_dot_attends(k->chain_dot, &attention);
    return (!links.qkv || !t->model->config.text.head_norm) &&
           (vlci_chain_reads(r->rows) == VLCI_FLOATS ||
            vlci_attention_leaves_stripes(&k->attention, &attention, links.out->dtype)) &&
           vlci_chain_attends(k->chain, &attention, r->rows);
}

/* How many layers from this one on are. */
static int count_chained(const vlci_text *t, int layer, const vlci_text_rows *r) {
    vlci_links links = links_of(t, layer, r);
    int n = 0, most = vlci_chain_dot_takes(t->model->compute.chain_dot, &links) ? 1 : VLCI_CHAIN_LAYERS;
    while (n < most && layer + n < t->model->config.text.layers && is_chained_whole(t, layer + n, r)) {
        vlci_links next = links_of(t, layer + n, r);
        if (n && !vlci_chain_goes_on(&links, &next)) break;
        n++;
    }
    return n;
}

static vlcache_status chain_whole(const vlci_text *t, int layer, int n, const vlci_text_rows *r) {
    const vlci_attention attention = vlci_text_attention(t, layer, r);
    return chain(t, layer, n, r, &(vlci_product){.x = t->attended, .x_form = vlci_chain_reads(r->rows)},
                 &attention);
}

/* Of which nothing is there yet but, perhaps, what a launch before came to. */
static vlcache_status run_layer(const vlci_text *t, int layer, const vlci_text_rows *r) {
    vlci_product out;
    vlcache_status status = attend(t, layer, r, &out);
    if (status) return status;
    if (is_chained(t, layer, r)) return chain(t, layer, 1, r, &out, NULL);
    status = add_attended(t, layer, r, &out);
    if (!status) status = think(t, layer, r);
    return status ? status : add_features(t, layer, r);
}

vlcache_status vlci_text_layers_run(const vlci_text *t, int layer, const vlci_text_rows *r, int *n) {
    int whole = count_chained(t, layer, r);
    vlcache_status status = is_chained(t, layer - 1, r) ? VLCACHE_OK : append(t, &t->model->text[layer], r);
    *n = whole ? whole : 1;
    if (status) return status;
    return whole ? chain_whole(t, layer, whole, r) : run_layer(t, layer, r);
}

vlcache_status vlci_text_logits(const vlci_text *t, const vlci_stream *s, int first, int n) {
    const vlci_text_config *c = &t->model->config.text;
    vlci_product logits = {.w = head_of(t->model),
                           .x = s->x,
                           .x_offset = (size_t)first * (size_t)c->hidden,
                           .norm = &t->model->final_norm,
                           .eps = c->norm_eps,
                           .brought = t->last,
                           .y = t->logits,
                           .next = first_of(t, 0),
                           .m = n};
    vlcache_status status = vlci_product_run(&t->model->compute, &logits);
    if (status || !(c->logit_cap > 0)) return status;
    return vlci_logits_cap(&t->model->compute.sample, t->logits, (size_t)n * (size_t)c->vocab, c->logit_cap);
}
