/*
 * crossing.c - layers of cross-attention.
 */
#include "models/crossing.h"

#include "compute/product.h"

/* ---- rows of pictures ---------------------------------------------------------------------------------- */

/* Some rows, all of which have room in the activations. */
static vlcache_status append_part(const vlci_text *t, int layer, const vlci_crossing_rows *r, int from,
                                  int n) {
    const vlci_text_config *c = &t->model->config.text;
    const vlci_text_layer *w = &t->model->text[layer];
    const vlci_product kv = {.w = &w->kv,
                             .x = r->features,
                             .x_offset = ((size_t)r->first + (size_t)from) * (size_t)c->hidden,
                             .brought = t->norm,
                             .y = t->qkv,
                             .m = n};
    vlci_append a = {.rows = n,
                     .kv_heads = c->kv_heads,
                     .head_dim = c->head_dim,
                     .qkv = t->qkv,
                     .row_sequence = r->row_sequence,
                     .seq_start = r->seq_start,
                     .kv = r->kv};
    a.kv.ahead = from - r->until;
    vlcache_status status = vlci_product_run(&t->model->compute, &kv);
    if (!status)
        status = vlci_head_norm_run(&t->model->compute.norm, t->qkv, &w->q_norm, &w->k_norm, n, 0,
                                    c->kv_heads, c->head_dim, c->norm_eps);
    return status ? status : vlci_rope_append(&t->model->compute.rope, &a);
}

vlcache_status vlci_crossing_append(const vlci_text *t, int layer, const vlci_crossing_rows *r) {
    vlcache_status status = VLCACHE_OK;
    for (int from = 0; from < r->n && !status; from += r->at_once)
        status = append_part(t, layer, r, from, r->n - from < r->at_once ? r->n - from : r->at_once);
    return status;
}

/* ---- rows of text -------------------------------------------------------------------------------------- */

/* x += tanh(gate) y, in rows that see as far as `least`. */
static vlcache_status add(const vlci_text *t, const vlci_text_rows *r, cl_mem gate, int least) {
    const vlci_gate_rows to = {.x = r->stream->x,
                               .first = r->first,
                               .rows = r->rows,
                               .n = t->model->config.text.hidden,
                               .gate = gate};
    return vlci_gate_add(&t->model->compute.sums, &to, t->crossed, r->stream->sees, least);
}

static vlcache_status attend(const vlci_text *t, int layer, const vlci_text_rows *r) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_config *c = &t->model->config.text;
    const vlci_text_layer *w = &t->model->text[layer];
    const vlci_product q = {.w = &w->q,
                            .x = r->stream->x,
                            .x_offset = (size_t)r->first * (size_t)c->hidden,
                            .norm = &w->norm1,
                            .eps = c->norm_eps,
                            .brought = t->norm,
                            .y = t->qkv,
                            .m = r->rows},
                       out = {
                           .w = &w->out, .x = t->attended, .brought = t->norm, .y = t->crossed, .m = r->rows};
    const vlci_attention attention = vlci_text_attention(t, layer, r);
    vlcache_status status = vlci_product_run(k, &q);
    if (!status)
        status = vlci_head_norm_run(&k->norm, t->qkv, &w->q_norm, &w->k_norm, r->rows, c->heads, 0,
                                    c->head_dim, c->norm_eps);
    if (!status) status = vlci_attention_run(&k->attention, &attention);
    if (!status) status = vlci_product_run(k, &out);
    return status ? status : add(t, r, w->attend_gate, VLCI_SEES_SOME);
}

static vlcache_status think(const vlci_text *t, const vlci_text_layer *w, const vlci_text_rows *r) {
    const vlci_compute *k = &t->model->compute;
    const vlci_text_config *c = &t->model->config.text;
    vlci_form form = vlci_product_form(k, &w->gate_up, &w->down, r->rows);
    const vlci_product gate_up = {.w = &w->gate_up,
                                  .x = r->stream->x,
                                  .x_offset = (size_t)r->first * (size_t)c->hidden,
                                  .norm = &w->norm2,
                                  .eps = c->norm_eps,
                                  .brought = t->norm,
                                  .gated = true,
                                  .wide = t->gate_up,
                                  .y = t->gated,
                                  .y_form = form,
                                  .m = r->rows},
                       down = {.w = &w->down,
                               .x = t->gated,
                               .x_form = form,
                               .brought = t->gate_up,
                               .y = t->crossed,
                               .m = r->rows};
    vlcache_status status = vlci_product_run(k, &gate_up);
    if (!status) status = vlci_product_run(k, &down);
    return status ? status : add(t, r, w->think_gate, VLCI_SEES_ITS_OWN);
}

vlcache_status vlci_crossing_run(const vlci_text *t, int layer, const vlci_text_rows *r) {
    vlcache_status status = attend(t, layer, r);
    return status ? status : think(t, &t->model->text[layer], r);
}
