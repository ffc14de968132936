/*
 * vit_kind.c - the kinds of vision transformers: what their classes have by default, how their tensors are
 * called, and their settings.
 */
#include <limits.h>
#include <string.h>

#include "models/vit.h"

/* ---- kinds --------------------------------------------------------------------------------------------- */

/* What CLIP began and SigLIP and Idefics keep. */
#define CLIP_LAYERS                                                                                          \
    .patch = "embeddings.patch_embedding", .position = "embeddings.position_embedding.weight",               \
    .layers = "encoder.layers.", .norm1 = "layer_norm1", .q = "self_attn.q_proj", .k = "self_attn.k_proj",   \
    .v = "self_attn.v_proj", .out = "self_attn.out_proj", .norm2 = "layer_norm2", .fc1 = "mlp.fc1",          \
    .fc2 = "mlp.fc2", .post_norm = "post_layernorm"

static const vlci_vit_names clip_names = {.prefix = "vision_tower.vision_model.",
                                          CLIP_LAYERS,
                                          .class_token = "embeddings.class_embedding",
                                          .pre_norm = "pre_layrnorm",
                                          .unused = {"embeddings.position_ids"}};
static const vlci_vit_names siglip_names = {
    .prefix = "vision_tower.vision_model.", CLIP_LAYERS, .unused = {"embeddings.position_ids", "head."}};

static const vlci_vit_names intern_names = {
    .prefix = "vision_tower.",
    .patch = "embeddings.patch_embeddings.projection",
    .class_token = "embeddings.cls_token",
    .position = "embeddings.position_embeddings",
    .layers = "encoder.layer.",
    .norm1 = "layernorm_before",
    .q = "attention.q_proj",
    .k = "attention.k_proj",
    .v = "attention.v_proj",
    .q_norm = "attention.q_norm",
    .k_norm = "attention.k_norm",
    .out = "attention.projection_layer",
    .scale1 = "lambda_1",
    .norm2 = "layernorm_after",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2",
    .scale2 = "lambda_2",
    .post_norm = "layernorm",
    .batch_dims = 1,
    .unused = {"embeddings.mask_token"},
};

/* What decides how InternViT computes. */
static vlcache_status read_intern(const vlci_scope *scope, vlci_vit_config *config) {
    const char *norm = "layer_norm";
    bool positions = true, mean = true;
    vlcache_status status = vlci_json_bool(scope, "attention_bias", &config->qkv_bias);
    if (!status) status = vlci_json_bool(scope, "use_qk_norm", &config->qk_norm);
    if (!status) status = vlci_json_string(scope, "norm_type", &norm);
    if (!status) status = vlci_json_bool(scope, "use_absolute_position_embeddings", &positions);
    if (!status) status = vlci_json_bool(scope, "use_mean_pooling", &mean);
    if (status) return status;
    config->rms_norm = strcmp(norm, "rms_norm") == 0;
    config->post_norm = !mean;
    if (!config->rms_norm && strcmp(norm, "layer_norm") != 0)
        return vlci_json_unsupported(scope, "norm_type", "\"%.64s\"; layer_norm and rms_norm are supported",
                                     norm);
    if (!positions)
        return vlci_json_unsupported(scope, "use_absolute_position_embeddings",
                                     "false; a table of positions is needed");
    return VLCACHE_OK;
}

const vlci_vit_kind vlci_vit_clip = {.model_types = {"clip_vision_model"},
                                     .defaults = {.hidden = 768,
                                                  .layers = 12,
                                                  .heads = 12,
                                                  .intermediate = 3072,
                                                  .image_size = 224,
                                                  .patch_size = 32,
                                                  .norm_eps = 1e-5f,
                                                  .act = VLCI_ACT_QUICK_GELU,
                                                  .class_token = true,
                                                  .pre_norm = true,
                                                  .qkv_bias = true,
                                                  .names = &clip_names}};
const vlci_vit_kind vlci_vit_siglip = {.model_types = {"siglip_vision_model"},
                                       .defaults = {.hidden = 768,
                                                    .layers = 12,
                                                    .heads = 12,
                                                    .intermediate = 3072,
                                                    .image_size = 224,
                                                    .patch_size = 16,
                                                    .norm_eps = 1e-6f,
                                                    .act = VLCI_ACT_GELU_TANH,
                                                    .patch_bias = true,
                                                    .qkv_bias = true,
                                                    .names = &siglip_names}};
const vlci_vit_kind vlci_vit_idefics = {.model_types = {"idefics3_vision", "smolvlm_vision", "idefics3",
                                                        "smolvlm"},
                                        .defaults = {.hidden = 1152,
                                                     .layers = 12,
                                                     .heads = 16,
                                                     .intermediate = 3072,
                                                     .image_size = 224,
                                                     .patch_size = 32,
                                                     .norm_eps = 1e-6f,
                                                     .act = VLCI_ACT_GELU_TANH,
                                                     .patch_bias = true,
                                                     .qkv_bias = true,
                                                     .post_norm = true,
                                                     .names = &siglip_names}};
const vlci_vit_kind vlci_vit_intern = {.model_types = {"internvl_vision"},
                                       .defaults = {.hidden = 1024,
                                                    .layers = 24,
                                                    .heads = 16,
                                                    .intermediate = 4096,
                                                    .image_size = 448,
                                                    .patch_size = 14,
                                                    .norm_eps = 1e-6f,
                                                    .act = VLCI_ACT_GELU,
                                                    .class_token = true,
                                                    .patch_bias = true,
                                                    .scaled = true,
                                                    .names = &intern_names},
                                       .more = read_intern};

/* ---- settings ------------------------------------------------------------------------------------------ */

static vlcache_status read_type(const vlci_scope *scope, const vlci_vit_kind *kind) {
    const char *type = kind->model_types[0];
    vlcache_status status = vlci_json_string(scope, "model_type", &type);
    if (status) return status;
    for (const char *const *one = kind->model_types; *one; one++)
        if (strcmp(type, *one) == 0) return VLCACHE_OK;
    return vlci_json_unsupported(scope, "model_type", "vision model \"%.64s\"; %s is supported", type,
                                 kind->model_types[0]);
}

static vlcache_status read_sizes(const vlci_scope *scope, vlci_vit_config *vision) {
    int channels = 3;
    vlcache_status status = vlci_json_int(scope, "hidden_size", 1, VLCI_MAX_WIDTH, &vision->hidden);
    if (!status) status = vlci_json_int(scope, "intermediate_size", 1, VLCI_MAX_WIDTH, &vision->intermediate);
    if (!status) status = vlci_json_int(scope, "num_hidden_layers", 1, VLCI_MAX_LAYERS, &vision->layers);
    if (!status) status = vlci_json_int(scope, "num_attention_heads", 1, VLCI_MAX_HEADS, &vision->heads);
    if (!status) status = vlci_hub_side(scope, "image_size", 4096, &vision->image_size);
    if (!status) status = vlci_hub_side(scope, "patch_size", 1024, &vision->patch_size);
    if (!status) status = vlci_json_int(scope, "num_channels", 1, INT_MAX, &channels);
    if (!status && channels != 3)
        status = vlci_json_unsupported(scope, "num_channels", "is %d; 3 (RGB) is supported", channels);
    return status;
}

vlcache_status vlci_vit_config_read(const vlci_scope *scope, const vlci_vit_kind *kind,
                                    vlci_vit_config *vision) {
    vlcache_status status = read_type(scope, kind);
    if (!status) status = read_sizes(scope, vision);
    if (!status) status = vlci_json_float(scope, "layer_norm_eps", 0, 1, &vision->norm_eps);
    if (!status) status = vlci_hub_activation(scope, "hidden_act", &vision->act);
    if (!status) status = vlci_hub_heads(scope, vision->hidden, vision->heads);
    if (!status && vision->patch_size > vision->image_size)
        status = vlci_json_bad(scope, "patch_size", "is %d, larger than image_size %d", vision->patch_size,
                               vision->image_size);
    if (!status && kind->more) status = kind->more(scope, vision);
    vision->run_layers = vision->layers;
    if (!status) vision->head_dim = vision->hidden / vision->heads;
    return status;
}

vlcache_status vlci_vit_feature_read(const vlci_scope *root, int usual, vlci_vit_config *vision) {
    const json_t *value = vlci_json_value(root, "vision_feature_layer");
    int layer = usual, states = vision->layers + 1;
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
    return VLCACHE_OK;
}
