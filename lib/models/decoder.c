/*
 * decoder.c - the settings of Llama and Mistral text transformers, and the weights of one of their layers.
 */
#include "models/decoder.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

/* The factors of a scaled RoPE; all of them are required. */
static vlcache_status read_rope_scaling(const vlci_scope *rope, const char *type, vlci_text_config *text) {
    vlcache_status status = vlci_json_float(rope, "factor", 1e-3, 1e6, &text->rope_factor);
    if (!status && text->rope_factor == 0) status = vlci_json_bad(rope, "factor", "is missing");
    if (status || strcmp(type, "linear") == 0) return status;
    text->rope_original_positions = text->max_positions;
    status = vlci_json_float(rope, "low_freq_factor", 1e-3, 1e6, &text->rope_low_factor);
    if (!status) status = vlci_json_float(rope, "high_freq_factor", 1e-3, 1e6, &text->rope_high_factor);
    if (!status)
        status = vlci_json_int(rope, "original_max_position_embeddings", 1, VLCI_MAX_IDS,
                               &text->rope_original_positions);
    if (status) return status;
    if (text->rope_low_factor == 0) return vlci_json_bad(rope, "low_freq_factor", "is missing");
    if (text->rope_high_factor <= text->rope_low_factor)
        return vlci_json_bad(rope, "high_freq_factor", "is %g, must be larger than low_freq_factor %g",
                             (double)text->rope_high_factor, (double)text->rope_low_factor);
    return VLCACHE_OK;
}

/* rope_theta + rope_scaling {"type" or "rope_type"} (4.x), or rope_parameters (5.x). */
static vlcache_status read_rope(const vlci_scope *scope, vlci_text_config *text) {
    vlci_scope rope;
    const char *type = "default";
    float partial = 1;
    vlcache_status status = vlci_json_object(scope, "rope_scaling", &rope);
    if (!status && json_object_size(rope.object) == 0)
        status = vlci_json_object(scope, "rope_parameters", &rope);
    if (!status) status = vlci_json_float(scope, "rope_theta", 1e-3, 1e12, &text->rope_theta);
    if (!status) status = vlci_json_float(&rope, "rope_theta", 1e-3, 1e12, &text->rope_theta);
    if (!status) status = vlci_json_float(scope, "partial_rotary_factor", 0, 1e6, &partial);
    if (!status) status = vlci_json_float(&rope, "partial_rotary_factor", 0, 1e6, &partial);
    if (!status && partial != 1)
        status = vlci_json_unsupported(scope, "partial_rotary_factor", "only 1 is supported");
    if (!status) status = vlci_json_string(&rope, "type", &type);
    if (!status) status = vlci_json_string(&rope, "rope_type", &type);
    if (status || strcmp(type, "default") == 0) return status;
    if (strcmp(type, "linear") == 0)
        text->rope_kind = VLCI_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        text->rope_kind = VLCI_ROPE_LLAMA3;
    else
        return vlci_json_unsupported(&rope, "rope_type",
                                     "\"%.64s\"; default, linear and llama3 are supported", type);
    return read_rope_scaling(&rope, type, text);
}

/* What the two text model types do not share. */
static vlcache_status read_text_kind(const vlci_scope *scope, bool mistral, vlci_text_config *text) {
    bool bias = false;
    int window = 4096;
    vlcache_status status = vlci_json_bool(scope, "attention_bias", &bias);
    if (!status) status = vlci_json_bool(scope, "mlp_bias", &text->mlp_bias);
    if (status) return status;
    if (mistral && (bias || text->mlp_bias))
        return vlci_json_unsupported(scope, bias ? "attention_bias" : "mlp_bias",
                                     "true; a mistral model has no such bias");
    text->qkv_bias = text->out_bias = bias;
    if (!mistral) return VLCACHE_OK;
    if (json_is_null(json_object_get(scope->object, "sliding_window"))) return VLCACHE_OK;
    status = vlci_json_int(scope, "sliding_window", 1, VLCI_MAX_IDS, &window);
    if (!status && window < text->max_positions) text->max_positions = window;
    return status;
}

static vlcache_status read_text_heads(const vlci_scope *scope, bool mistral, vlci_text_config *text) {
    const json_t *said = scope->object ? json_object_get(scope->object, "num_key_value_heads") : NULL;
    text->kv_heads = mistral && !said ? 8 : text->heads; /* a null means: as many as heads */
    vlcache_status status = vlci_json_int(scope, "num_key_value_heads", 1, VLCI_MAX_HEADS, &text->kv_heads);
    if (!status && text->heads % text->kv_heads != 0)
        status = vlci_json_bad(scope, "num_key_value_heads", "is %d, which does not divide %d heads",
                               text->kv_heads, text->heads);
    if (!status) status = vlci_json_int(scope, "head_dim", 2, 1024, &text->head_dim);
    if (status) return status;
    if (!text->head_dim) {
        status = vlci_hub_heads(scope, text->hidden, text->heads);
        text->head_dim = text->hidden / text->heads;
    }
    if (!status && (text->head_dim < 2 || text->head_dim % 2 != 0))
        status = vlci_json_bad(scope, "head_dim", "is %d, RoPE needs an even number", text->head_dim);
    return status;
}

/* LlamaConfig's and MistralConfig's defaults. */
static vlci_text_config defaults(bool mistral) {
    return (vlci_text_config){.hidden = 4096,
                              .layers = 32,
                              .heads = 32,
                              .vocab = 32000,
                              .norm_eps = 1e-6f,
                              .intermediate = mistral ? 14336 : 11008,
                              .rope_theta = 10000,
                              .max_positions = mistral ? 131072 : 2048,
                              .act = VLCI_ACT_SILU};
}

static vlcache_status read_sizes(const vlci_scope *scope, vlci_text_config *text) {
    vlcache_status status = vlci_json_int(scope, "hidden_size", 1, VLCI_MAX_WIDTH, &text->hidden);
    if (!status) status = vlci_json_int(scope, "intermediate_size", 1, VLCI_MAX_WIDTH, &text->intermediate);
    if (!status) status = vlci_json_int(scope, "num_hidden_layers", 1, VLCI_MAX_LAYERS, &text->layers);
    if (!status) status = vlci_json_int(scope, "num_attention_heads", 1, VLCI_MAX_HEADS, &text->heads);
    if (!status) status = vlci_json_int(scope, "vocab_size", 1, VLCI_MAX_IDS, &text->vocab);
    if (!status)
        status = vlci_json_int(scope, "max_position_embeddings", 1, VLCI_MAX_IDS, &text->max_positions);
    if (!status) status = vlci_json_float(scope, "rms_norm_eps", 0, 1, &text->norm_eps);
    if (!status) status = vlci_hub_activation(scope, "hidden_act", &text->act);
    return status;
}

vlcache_status vlci_text_config_read(const vlci_scope *root, vlci_text_config *text, char **model_type) {
    vlci_scope scope;
    bool tied = false;
    const char *type = "llama";
    *model_type = NULL;
    vlcache_status status = vlci_json_object(root, "text_config", &scope);
    if (!status) status = vlci_json_string(&scope, "model_type", &type);
    if (status) return status;
    bool mistral = strcmp(type, "mistral") == 0;
    if (!mistral && strcmp(type, "llama") != 0)
        return vlci_json_unsupported(&scope, "model_type",
                                     "text model \"%.64s\"; llama and mistral are supported", type);
    *model_type = vlci_strdup(type);
    if (!*model_type) return vlci_fail_memory("name of the text model");
    *text = defaults(mistral);
    status = read_sizes(&scope, text);
    if (!status) status = read_text_heads(&scope, mistral, text);
    if (!status) status = read_rope(&scope, text);
    if (!status) status = read_text_kind(&scope, mistral, text);
    if (!status) status = vlci_json_bool(&scope, "tie_word_embeddings", &text->tied);
    if (!status) status = vlci_json_bool(root, "tie_word_embeddings", &tied);
    text->tied |= tied;
    return status ? status : vlci_hub_unquantised(&scope);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static void skip(vlci_upload *up, const char *prefix, const char *name) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    vlci_checkpoint_skip(up->checkpoint, full);
}

vlcache_status vlci_text_layer_load(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                    vlci_text_layer *layer) {
    int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    vlcache_status status = vlci_upload_norm(up, prefix, "input_layernorm", c->hidden, false, &layer->norm1);
    if (!status)
        status = vlci_upload_matrix(up, prefix,
                                    VLCI_PARTS({"self_attn.q_proj", q}, {"self_attn.k_proj", kv},
                                               {"self_attn.v_proj", kv}),
                                    c->hidden, c->qkv_bias, &layer->qkv);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"self_attn.o_proj", c->hidden}), q, c->out_bias,
                                    &layer->out);
    if (!status)
        status = vlci_upload_norm(up, prefix, "post_attention_layernorm", c->hidden, false, &layer->norm2);
    if (!status)
        status = vlci_upload_matrix(
            up, prefix, VLCI_PARTS({"mlp.gate_proj", c->intermediate}, {"mlp.up_proj", c->intermediate}),
            c->hidden, c->mlp_bias, &layer->gate_up);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.down_proj", c->hidden}), c->intermediate,
                                    c->mlp_bias, &layer->down);
    skip(up, prefix, "self_attn.rotary_emb."); /* a buffer that old files store */
    return status;
}

void vlci_text_layer_release(vlcache_device *device, vlci_text_layer *layer) {
    vlci_norm_release(device, &layer->norm1);
    vlci_norm_release(device, &layer->norm2);
    vlci_matrix_release(device, &layer->qkv);
    vlci_matrix_release(device, &layer->out);
    vlci_matrix_release(device, &layer->gate_up);
    vlci_matrix_release(device, &layer->down);
}
