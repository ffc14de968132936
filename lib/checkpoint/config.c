/*
 * config.c - config.json and generation_config.json: the transformers' class defaults, overwritten by what
 * the files say in their old (4.x) or new (5.x) words, checked. (config_image.c reads how pictures are
 * prepared.)
 */
#include "checkpoint/config.h"

#include <limits.h>
#include <string.h>

#include "checkpoint/config_image.h"
#include "checkpoint/json.h"
#include "core/alloc.h"

enum { FILE_LIMIT = 16 << 20, MAX_WIDTH = 1 << 20, MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_IDS = 1 << 28 };

static vlcache_status read_activation(const vlci_scope *scope, const char *key, vlci_activation *act) {
    static const struct {
        const char *name;
        vlci_activation act;
    } names[] = {
        {"silu", VLCI_ACT_SILU},
        {"swish", VLCI_ACT_SILU},
        {"gelu", VLCI_ACT_GELU},
        {"gelu_python", VLCI_ACT_GELU},
        {"quick_gelu", VLCI_ACT_QUICK_GELU},
        {"gelu_new", VLCI_ACT_GELU_TANH},
        {"gelu_fast", VLCI_ACT_GELU_TANH},
        {"gelu_accurate", VLCI_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", VLCI_ACT_GELU_TANH},
        {"gelu_python_tanh", VLCI_ACT_GELU_TANH},
    };
    const char *name = NULL;
    vlcache_status status = vlci_json_string(scope, key, &name);
    if (status || !name) return status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *act = names[i].act;
            return VLCACHE_OK;
        }
    return vlci_json_unsupported(scope, key,
                                 "activation \"%.64s\"; silu, gelu, gelu_pytorch_tanh and quick_gelu are "
                                 "supported",
                                 name);
}

/* A side that old files give as a number, new ones also as [side, side]. */
static vlcache_status read_side(const vlci_scope *scope, const char *key, int high, int *side) {
    const json_t *value = vlci_json_value(scope, key);
    if (!json_is_array(value)) return vlci_json_int(scope, key, 1, high, side);
    const json_t *first = json_array_get(value, 0);
    if (json_array_size(value) != 2 || !json_equal(first, json_array_get(value, 1)))
        return vlci_json_unsupported(scope, key, "only squares are supported");
    json_int_t number = json_integer_value(first);
    if (number < 1 || number > high) return vlci_json_bad(scope, key, "must be from 1 to %d", high);
    *side = (int)number;
    return VLCACHE_OK;
}

static vlcache_status check_heads(const vlci_scope *scope, int hidden, int heads) {
    if (hidden % heads == 0) return VLCACHE_OK;
    return vlci_json_bad(scope, "num_attention_heads", "is %d, which does not divide hidden_size %d", heads,
                         hidden);
}

static vlcache_status read_vision(const vlci_scope *root, vlci_vision_config *vision) {
    vlci_scope scope;
    const char *type = "clip_vision_model";
    int channels = 3;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    if (status) return status;
    /* CLIPVisionConfig's defaults, or LlavaConfig's where there is no vision_config at all */
    *vision = (vlci_vision_config){.hidden = 768,
                                   .layers = 12,
                                   .heads = 12,
                                   .intermediate = 3072,
                                   .image_size = 224,
                                   .patch_size = 32,
                                   .norm_eps = 1e-5f,
                                   .act = VLCI_ACT_QUICK_GELU};
    if (!scope.object) {
        vision->hidden = 1024, vision->layers = 24, vision->heads = 16, vision->intermediate = 4096;
        vision->image_size = 336, vision->patch_size = 14;
    }
    status = vlci_json_string(&scope, "model_type", &type);
    if (!status && strcmp(type, "clip_vision_model") != 0)
        status = vlci_json_unsupported(&scope, "model_type",
                                       "vision model \"%.64s\"; clip_vision_model is supported", type);
    if (!status) status = vlci_json_int(&scope, "hidden_size", 1, MAX_WIDTH, &vision->hidden);
    if (!status) status = vlci_json_int(&scope, "intermediate_size", 1, MAX_WIDTH, &vision->intermediate);
    if (!status) status = vlci_json_int(&scope, "num_hidden_layers", 1, MAX_LAYERS, &vision->layers);
    if (!status) status = vlci_json_int(&scope, "num_attention_heads", 1, MAX_HEADS, &vision->heads);
    if (!status) status = read_side(&scope, "image_size", 4096, &vision->image_size);
    if (!status) status = read_side(&scope, "patch_size", 1024, &vision->patch_size);
    if (!status) status = vlci_json_int(&scope, "num_channels", 1, INT_MAX, &channels);
    if (!status && channels != 3)
        status = vlci_json_unsupported(&scope, "num_channels", "is %d; 3 (RGB) is supported", channels);
    if (!status) status = vlci_json_float(&scope, "layer_norm_eps", 0, 1, &vision->norm_eps);
    if (!status) status = read_activation(&scope, "hidden_act", &vision->act);
    if (!status) status = check_heads(&scope, vision->hidden, vision->heads);
    if (!status && vision->patch_size > vision->image_size)
        status = vlci_json_bad(&scope, "patch_size", "is %d, larger than image_size %d", vision->patch_size,
                               vision->image_size);
    if (!status) vision->head_dim = vision->hidden / vision->heads;
    return status;
}

/* vision_feature_layer counts hidden states: 0 is the embedding, k comes after layer k, -1 is the last. */
static vlcache_status read_feature(const vlci_scope *root, vlci_vision_config *vision) {
    const char *strategy = "default";
    const json_t *value = vlci_json_value(root, "vision_feature_layer");
    int layer = -2, states = vision->layers + 1;
    if (json_is_array(value)) {
        if (json_array_size(value) != 1)
            return vlci_json_unsupported(root, "vision_feature_layer",
                                         "a list of %zu layers; one is supported", json_array_size(value));
        value = json_array_get(value, 0);
    }
    if (value && !json_is_integer(value))
        return vlci_json_bad(root, "vision_feature_layer", "must be an integer");
    if (value) {
        json_int_t number = json_integer_value(value);
        if (number < -states || number >= states)
            return vlci_json_bad(root, "vision_feature_layer",
                                 "is %" JSON_INTEGER_FORMAT ", must be from %d to %d", number, -states,
                                 states - 1);
        layer = (int)number;
    }
    vision->run_layers = layer < 0 ? states + layer : layer;
    vlcache_status status = vlci_json_string(root, "vision_feature_select_strategy", &strategy);
    if (status) return status;
    vision->keep_class = strcmp(strategy, "full") == 0;
    if (!vision->keep_class && strcmp(strategy, "default") != 0)
        return vlci_json_bad(root, "vision_feature_select_strategy", "is \"%.64s\", must be default or full",
                             strategy);
    return VLCACHE_OK;
}

/* The factors of a scaled RoPE; all of them are required. */
static vlcache_status read_rope_scaling(const vlci_scope *rope, const char *type, vlci_text_config *text) {
    vlcache_status status = vlci_json_float(rope, "factor", 1e-3, 1e6, &text->rope_factor);
    if (!status && text->rope_factor == 0) status = vlci_json_bad(rope, "factor", "is missing");
    if (status || strcmp(type, "linear") == 0) return status;
    text->rope_original_positions = text->max_positions;
    status = vlci_json_float(rope, "low_freq_factor", 1e-3, 1e6, &text->rope_low_factor);
    if (!status) status = vlci_json_float(rope, "high_freq_factor", 1e-3, 1e6, &text->rope_high_factor);
    if (!status)
        status = vlci_json_int(rope, "original_max_position_embeddings", 1, MAX_IDS,
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
    status = vlci_json_int(scope, "sliding_window", 1, MAX_IDS, &window);
    if (!status && window < text->max_positions) text->max_positions = window;
    return status;
}

static vlcache_status read_text_heads(const vlci_scope *scope, bool mistral, vlci_text_config *text) {
    const json_t *said = scope->object ? json_object_get(scope->object, "num_key_value_heads") : NULL;
    text->kv_heads = mistral && !said ? 8 : text->heads; /* a null means: as many as heads */
    vlcache_status status = vlci_json_int(scope, "num_key_value_heads", 1, MAX_HEADS, &text->kv_heads);
    if (!status && text->heads % text->kv_heads != 0)
        status = vlci_json_bad(scope, "num_key_value_heads", "is %d, which does not divide %d heads",
                               text->kv_heads, text->heads);
    if (!status) status = vlci_json_int(scope, "head_dim", 2, 1024, &text->head_dim);
    if (status) return status;
    if (!text->head_dim) {
        status = check_heads(scope, text->hidden, text->heads);
        text->head_dim = text->hidden / text->heads;
    }
    if (!status && (text->head_dim < 2 || text->head_dim % 2 != 0))
        status = vlci_json_bad(scope, "head_dim", "is %d, RoPE needs an even number", text->head_dim);
    return status;
}

static vlcache_status read_text(const vlci_scope *root, vlci_config *config) {
    vlci_scope scope;
    vlci_text_config *text = &config->text;
    const char *type = "llama";
    vlcache_status status = vlci_json_object(root, "text_config", &scope);
    if (!status) status = vlci_json_string(&scope, "model_type", &type);
    if (status) return status;
    bool mistral = strcmp(type, "mistral") == 0;
    if (!mistral && strcmp(type, "llama") != 0)
        return vlci_json_unsupported(&scope, "model_type",
                                     "text model \"%.64s\"; llama and mistral are supported", type);
    config->text_model_type = vlci_strdup(type);
    if (!config->text_model_type) return vlci_fail_memory("name of the text model");
    /* LlamaConfig's and MistralConfig's defaults */
    *text = (vlci_text_config){.hidden = 4096,
                               .layers = 32,
                               .heads = 32,
                               .vocab = 32000,
                               .norm_eps = 1e-6f,
                               .intermediate = mistral ? 14336 : 11008,
                               .rope_theta = 10000,
                               .max_positions = mistral ? 131072 : 2048,
                               .act = VLCI_ACT_SILU};
    status = vlci_json_int(&scope, "hidden_size", 1, MAX_WIDTH, &text->hidden);
    if (!status) status = vlci_json_int(&scope, "intermediate_size", 1, MAX_WIDTH, &text->intermediate);
    if (!status) status = vlci_json_int(&scope, "num_hidden_layers", 1, MAX_LAYERS, &text->layers);
    if (!status) status = vlci_json_int(&scope, "num_attention_heads", 1, MAX_HEADS, &text->heads);
    if (!status) status = vlci_json_int(&scope, "vocab_size", 1, MAX_IDS, &text->vocab);
    if (!status) status = vlci_json_int(&scope, "max_position_embeddings", 1, MAX_IDS, &text->max_positions);
    if (!status) status = vlci_json_float(&scope, "rms_norm_eps", 0, 1, &text->norm_eps);
    if (!status) status = read_activation(&scope, "hidden_act", &text->act);
    if (!status) status = read_text_heads(&scope, mistral, text);
    if (!status) status = read_rope(&scope, text);
    if (!status) status = read_text_kind(&scope, mistral, text);
    if (!status) status = vlci_json_bool(&scope, "tie_word_embeddings", &text->tied);
    if (!status && vlci_json_value(&scope, "quantization_config"))
        status = vlci_json_unsupported(&scope, "quantization_config", "quantised weights are not supported");
    return status;
}

static vlcache_status read_dtype(const vlci_scope *root, vlcache_dtype *dtype) {
    vlci_scope text;
    const char *name = NULL;
    vlcache_status status = vlci_json_object(root, "text_config", &text);
    if (!status) status = vlci_json_string(&text, "torch_dtype", &name);
    if (!status) status = vlci_json_string(&text, "dtype", &name);
    if (!status) status = vlci_json_string(root, "torch_dtype", &name);
    if (!status) status = vlci_json_string(root, "dtype", &name);
    if (status || !name || strcmp(name, "auto") == 0) return status;
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    if (strcmp(name, "float32") == 0)
        *dtype = VLCACHE_DTYPE_F32;
    else if (strcmp(name, "float16") == 0)
        *dtype = VLCACHE_DTYPE_F16;
    else if (strcmp(name, "bfloat16") == 0)
        *dtype = VLCACHE_DTYPE_BF16;
    else
        return vlci_json_unsupported(root, "dtype", "\"%.64s\"; float32, float16 and bfloat16 are supported",
                                     name);
    return VLCACHE_OK;
}

/* One id or a list of ids, each below `vocab`. */
static vlcache_status read_eos(const vlci_scope *scope, int vocab, vlci_config *config) {
    const json_t *value = vlci_json_value(scope, "eos_token_id");
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n == 0 || n > 1024) return vlci_json_bad(scope, "eos_token_id", "must hold from 1 to 1024 ids");
    int *ids = vlci_alloc(n, sizeof *ids);
    if (!ids) return vlci_fail_memory("end tokens");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab) {
            vlci_free(ids);
            return vlci_json_bad(scope, "eos_token_id", "must hold ids from 0 to %d", vocab - 1);
        }
        ids[i] = (int)json_integer_value(id);
    }
    config->eos_tokens = ids;
    config->n_eos_tokens = (int)n;
    return VLCACHE_OK;
}

/* From generation_config.json, else config.json, else its text_config, else the classes' 1 and 2. */
static vlcache_status read_ends(const vlci_scope *generation, const vlci_scope *root, vlci_config *config) {
    vlci_scope text;
    int vocab = config->text.vocab;
    vlcache_status status = vlci_json_object(root, "text_config", &text);
    const vlci_scope *places[] = {generation, root, &text};
    if (status) return status;
    bool bos = false;
    for (int i = 0; i < 3 && !status; i++) {
        if (!config->eos_tokens && vlci_json_value(places[i], "eos_token_id"))
            status = read_eos(places[i], vocab, config);
        if (!status && !bos && vlci_json_value(places[i], "bos_token_id")) {
            status = vlci_json_int(places[i], "bos_token_id", 0, vocab - 1, &config->bos_token);
            bos = true;
        }
    }
    /* left out everywhere: the classes' defaults; null: none */
    if (!status && !bos && vocab > 1 && !(text.object && json_object_get(text.object, "bos_token_id")))
        config->bos_token = 1;
    if (!status && !config->eos_tokens && vocab > 2 &&
        !(text.object && json_object_get(text.object, "eos_token_id"))) {
        config->eos_tokens = vlci_alloc(1, sizeof *config->eos_tokens);
        if (!config->eos_tokens) return vlci_fail_memory("end tokens");
        config->eos_tokens[0] = 2;
        config->n_eos_tokens = 1;
    }
    return status;
}

static vlcache_status read_family(const vlci_scope *root, vlci_config *config) {
    const char *type = NULL;
    vlcache_status status = vlci_json_string(root, "model_type", &type);
    if (status) return status;
    if (!type) return vlci_json_bad(root, "model_type", "is missing; llava and llava_next are supported");
    if (strcmp(type, "llava") == 0)
        config->family = VLCI_LLAVA;
    else if (strcmp(type, "llava_next") == 0)
        config->family = VLCI_LLAVA_NEXT;
    else
        return vlci_json_unsupported(
            root, "model_type", "\"%.64s\"; llava and llava_next (Hugging Face conversions) are supported",
            type);
    if (vlci_json_value(root, "quantization_config"))
        return vlci_json_unsupported(root, "quantization_config", "quantised weights are not supported");
    return VLCACHE_OK;
}

static vlcache_status read_root(const vlci_scope *root, vlci_config *config) {
    bool tied = false;
    vlcache_status status = read_family(root, config);
    if (!status) status = read_vision(root, &config->vision);
    if (!status) status = read_feature(root, &config->vision);
    if (!status) status = read_text(root, config);
    if (!status) status = vlci_json_bool(root, "tie_word_embeddings", &tied);
    config->text.tied |= tied;
    config->projector_act = VLCI_ACT_GELU;
    config->projector_bias = true;
    if (!status) status = read_activation(root, "projector_hidden_act", &config->projector_act);
    if (!status) status = vlci_json_bool(root, "multimodal_projector_bias", &config->projector_bias);
    config->image_token = 32000;
    int high = config->text.vocab - 1;
    if (!status) status = vlci_json_int(root, "image_token_id", 0, high, &config->image_token);
    if (!status) status = vlci_json_int(root, "image_token_index", 0, high, &config->image_token);
    if (!status && config->image_token > high)
        status = vlci_json_bad(root, "image_token_index",
                               "is missing, and the default 32000 is not below "
                               "text_config.vocab_size %d",
                               high + 1);
    if (!status) status = read_dtype(root, &config->dtype);
    return status;
}

vlcache_status vlci_config_load(const char *folder, vlci_config *out) {
    char *path = NULL, *generation_path = NULL;
    json_t *root = NULL, *generation = NULL;
    memset(out, 0, sizeof *out);
    out->bos_token = -1;
    vlcache_status status = vlci_path_join(folder, "config.json", &path);
    if (!status) status = vlci_path_join(folder, "generation_config.json", &generation_path);
    if (!status) status = vlci_json_load(path, FILE_LIMIT, &root);
    if (!status && vlci_path_exists(generation_path))
        status = vlci_json_load(generation_path, FILE_LIMIT, &generation);
    if (status) goto done;
    vlci_scope scope = vlci_scope_of(path, root), ends = vlci_scope_of(generation_path, generation);
    status = read_root(&scope, out);
    if (!status) status = read_ends(&ends, &scope, out);
    if (!status) status = vlci_config_read_image(folder, &scope, out);
done:
    json_decref(root);
    json_decref(generation);
    vlci_free(path);
    vlci_free(generation_path);
    if (status) vlci_config_release(out);
    return status;
}

void vlci_config_release(vlci_config *config) {
    vlci_free(config->image.pinpoints);
    vlci_free(config->eos_tokens);
    vlci_free(config->text_model_type);
    memset(config, 0, sizeof *config);
}
