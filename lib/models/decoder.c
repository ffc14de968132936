/*
 * decoder.c - the weights of one layer of a text transformer.
 */
#include "models/decoder.h"

#include <stdio.h>

static void skip(vlci_upload *up, const char *prefix, const char *name) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    vlci_checkpoint_skip(up->checkpoint, full);
}

vlcache_status vlci_text_norm_load(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                   const char *name, int n, vlci_norm *norm) {
    return vlci_upload_rms_norm(up, prefix, name, n, c->norm_plus_one ? 1.0f : 0.0f, norm);
}

static vlcache_status load_attention(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                     vlci_text_layer *layer) {
    int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    vlcache_status status = vlci_text_norm_load(up, c, prefix, "input_layernorm", c->hidden, &layer->norm1);
    if (!status)
        status = vlci_upload_matrix(up, prefix,
                                    VLCI_PARTS({"self_attn.q_proj", q}, {"self_attn.k_proj", kv},
                                               {"self_attn.v_proj", kv}),
                                    c->hidden, c->qkv_bias, &layer->qkv);
    if (!status && c->head_norm)
        status = vlci_text_norm_load(up, c, prefix, "self_attn.q_norm", c->head_dim, &layer->q_norm);
    if (!status && c->head_norm)
        status = vlci_text_norm_load(up, c, prefix, "self_attn.k_norm", c->head_dim, &layer->k_norm);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"self_attn.o_proj", c->hidden}), q, c->out_bias,
                                    &layer->out);
    skip(up, prefix, "self_attn.rotary_emb."); /* a buffer that old files store */
    return status;
}

/* Queries of the text's rows, keys and values of a picture's. */
static vlcache_status load_crossing(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                    vlci_text_layer *layer) {
    int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const size_t one = 1;
    vlcache_status status = vlci_text_norm_load(up, c, prefix, "input_layernorm", c->hidden, &layer->norm1);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"cross_attn.q_proj", q}), c->hidden, false, &layer->q);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"cross_attn.k_proj", kv}, {"cross_attn.v_proj", kv}),
                               c->hidden, false, &layer->kv);
    if (!status)
        status = vlci_text_norm_load(up, c, prefix, "cross_attn.q_norm", c->head_dim, &layer->q_norm);
    if (!status)
        status = vlci_text_norm_load(up, c, prefix, "cross_attn.k_norm", c->head_dim, &layer->k_norm);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"cross_attn.o_proj", c->hidden}), q, false,
                                    &layer->out);
    if (!status)
        status = vlci_upload_vector(up, prefix, "cross_attn_attn_gate", 1, &one, &layer->attend_gate);
    return status ? status
                  : vlci_upload_vector(up, prefix, "cross_attn_mlp_gate", 1, &one, &layer->think_gate);
}

/* With norms behind both halves, the one in front of the second has a name of its own. */
static vlcache_status load_norms(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                 vlci_text_layer *layer) {
    if (!c->post_norms)
        return vlci_text_norm_load(up, c, prefix, "post_attention_layernorm", c->hidden, &layer->norm2);
    vlcache_status status =
        vlci_text_norm_load(up, c, prefix, "post_attention_layernorm", c->hidden, &layer->post1);
    if (!status)
        status = vlci_text_norm_load(up, c, prefix, "pre_feedforward_layernorm", c->hidden, &layer->norm2);
    return status
               ? status
               : vlci_text_norm_load(up, c, prefix, "post_feedforward_layernorm", c->hidden, &layer->post2);
}

vlcache_status vlci_text_layer_load(vlci_upload *up, const vlci_text_config *c, int number,
                                    const char *prefix, vlci_text_layer *layer) {
    vlcache_status status = vlci_text_crosses(c, number) ? load_crossing(up, c, prefix, layer)
                                                         : load_attention(up, c, prefix, layer);
    if (!status) status = load_norms(up, c, prefix, layer);
    if (!status)
        status = vlci_upload_matrix(
            up, prefix, VLCI_PARTS({"mlp.gate_proj", c->intermediate}, {"mlp.up_proj", c->intermediate}),
            c->hidden, c->mlp_bias, &layer->gate_up);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.down_proj", c->hidden}), c->intermediate,
                                    c->mlp_bias, &layer->down);
    return status;
}

void vlci_text_layer_release(vlcache_device *device, vlci_text_layer *layer) {
    vlci_norm_release(device, &layer->norm1);
    vlci_norm_release(device, &layer->norm2);
    vlci_norm_release(device, &layer->post1);
    vlci_norm_release(device, &layer->post2);
    vlci_norm_release(device, &layer->q_norm);
    vlci_norm_release(device, &layer->k_norm);
    vlci_matrix_release(device, &layer->qkv);
    vlci_matrix_release(device, &layer->out);
    vlci_matrix_release(device, &layer->gate_up);
    vlci_matrix_release(device, &layer->down);
    vlci_matrix_release(device, &layer->q);
    vlci_matrix_release(device, &layer->kv);
    vlci_memory_release(device, &layer->attend_gate);
    vlci_memory_release(device, &layer->think_gate);
}
