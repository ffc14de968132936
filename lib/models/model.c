/*
 * model.c - loads a Hugging Face folder onto a device.
 *
 * folder -> config -> checkpoint (mapped) -> one upload after the other -> model; nothing of the checkpoint
 * stays on the host.
 */
#include "models/model.h"

#include <stdio.h>

#include "core/alloc.h"

/* ---- one function for each shape of thing, so that the lists below read as the model does
 * ------------------- */

static vlcache_status load_norm(vlci_upload *up, const char *name, int n, bool bias, vlci_norm *norm) {
    size_t dim = (size_t)n;
    char *weight_name = vlci_format("%s.weight", name), *bias_name = vlci_format("%s.bias", name);
    vlcache_status status = weight_name && bias_name ? VLCACHE_OK : vlci_fail_memory("tensor name");
    if (!status) status = vlci_upload_vector(up, weight_name, 1, &dim, &norm->weight);
    if (!status && bias) status = vlci_upload_vector(up, bias_name, 1, &dim, &norm->bias);
    vlci_free(weight_name);
    vlci_free(bias_name);
    return status;
}

/* The parts' names are `prefix` and a name each; at most three. */
static vlcache_status load_matrix(vlci_upload *up, const char *prefix, const vlci_part *parts, int n_parts,
                                  int k, bool bias, vlci_matrix *out) {
    char *names[3] = {NULL, NULL, NULL};
    vlci_part full[3];
    vlcache_status status = VLCACHE_OK;
    for (int p = 0; p < n_parts; p++) {
        names[p] = vlci_format("%s%s", prefix, parts[p].name);
        full[p] = (vlci_part){names[p], parts[p].n};
        if (!names[p]) status = vlci_fail_memory("tensor name");
    }
    if (!status) status = vlci_upload_matrix(up, full, n_parts, k, bias, out);
    for (int p = 0; p < n_parts; p++) vlci_free(names[p]);
    return status;
}

#define PARTS(...)                                                                                           \
    (const vlci_part[]){__VA_ARGS__}, sizeof((const vlci_part[]){__VA_ARGS__}) / sizeof(vlci_part)

static vlcache_status load_layer_norm(vlci_upload *up, const char *prefix, const char *name, int n, bool bias,
                                      vlci_norm *norm) {
    char *full = vlci_format("%s%s", prefix, name);
    if (!full) return vlci_fail_memory("tensor name");
    vlcache_status status = load_norm(up, full, n, bias, norm);
    vlci_free(full);
    return status;
}

/* ---- the vision tower
 * --------------------------------------------------------------------------------------- */

static vlcache_status load_vision_layer(vlci_upload *up, const vlci_vision_config *c, const char *prefix,
                                        vlci_vision_layer *layer) {
    int h = c->hidden, inner = c->heads * c->head_dim;
    vlcache_status status = load_layer_norm(up, prefix, "layer_norm1", h, true, &layer->norm1);
    if (!status)
        status = load_matrix(up, prefix,
                             PARTS({"self_attn.q_proj", inner}, {"self_attn.k_proj", inner},
                                   {"self_attn.v_proj", inner}),
                             h, true, &layer->qkv);
    if (!status) status = load_matrix(up, prefix, PARTS({"self_attn.out_proj", h}), inner, true, &layer->out);
    if (!status) status = load_layer_norm(up, prefix, "layer_norm2", h, true, &layer->norm2);
    if (!status) status = load_matrix(up, prefix, PARTS({"mlp.fc1", c->intermediate}), h, true, &layer->fc1);
    if (!status) status = load_matrix(up, prefix, PARTS({"mlp.fc2", h}), c->intermediate, true, &layer->fc2);
    return status;
}

/* The convolution of the patch embedding is a matrix: its kernel [hidden][3][p][p] read as rows of 3 * p * p.
 */
static vlcache_status load_patch(vlci_upload *up, const vlci_vision_config *c, vlci_matrix *out) {
    static const char name[] = "vision_tower.vision_model.embeddings.patch_embedding.weight";
    size_t p = (size_t)c->patch_size, dims[4] = {(size_t)c->hidden, 3, p, p};
    vlci_weight_view view;
    vlcache_status status = vlci_checkpoint_get(up->checkpoint, name, 4, dims, &view);
    if (status) return status;
    return vlci_upload_view(up, &view, c->hidden, 3 * c->patch_size * c->patch_size, out);
}

static vlcache_status load_vision(vlci_upload *up, vlcache_model *model) {
    const vlci_vision_config *c = &model->config.vision;
    size_t side = (size_t)(c->image_size / c->patch_size), hidden = (size_t)c->hidden;
    size_t positions[2] = {1 + side * side, hidden};
    model->vision = vlci_calloc((size_t)c->run_layers + 1, sizeof *model->vision);
    vlcache_status status = model->vision ? VLCACHE_OK : vlci_fail_memory("vision layers");
    if (!status) status = load_patch(up, c, &model->patch);
    if (!status)
        status = vlci_upload_vector(up, "vision_tower.vision_model.embeddings.class_embedding", 1, &hidden,
                                    &model->class_embedding);
    if (!status)
        status = vlci_upload_vector(up, "vision_tower.vision_model.embeddings.position_embedding.weight", 2,
                                    positions, &model->position_embedding);
    if (!status)
        status = load_norm(up, "vision_tower.vision_model.pre_layrnorm", c->hidden, true, &model->pre_norm);
    for (int i = 0; i < c->run_layers && !status; i++) {
        char prefix[80];
        snprintf(prefix, sizeof prefix, "vision_tower.vision_model.encoder.layers.%d.", i);
        status = load_vision_layer(up, c, prefix, &model->vision[i]);
    }
    return status;
}

static vlcache_status load_projector(vlci_upload *up, vlcache_model *model) {
    int text = model->config.text.hidden, vision = model->config.vision.hidden;
    size_t dim = (size_t)text;
    bool bias = model->config.projector_bias;
    vlcache_status status = load_matrix(up, "multi_modal_projector.", PARTS({"linear_1", text}), vision, bias,
                                        &model->projector1);
    if (!status)
        status = load_matrix(up, "multi_modal_projector.", PARTS({"linear_2", text}), text, bias,
                             &model->projector2);
    if (!status && model->config.family == VLCI_LLAVA_NEXT)
        status = vlci_upload_vector(up, "image_newline", 1, &dim, &model->image_newline);
    return status;
}

/* ---- the text model
 * ----------------------------------------------------------------------------------------- */

static vlcache_status load_text_layer(vlci_upload *up, const vlci_text_config *c, const char *prefix,
                                      vlci_text_layer *layer) {
    int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    vlcache_status status = load_layer_norm(up, prefix, "input_layernorm", c->hidden, false, &layer->norm1);
    if (!status)
        status =
            load_matrix(up, prefix,
                        PARTS({"self_attn.q_proj", q}, {"self_attn.k_proj", kv}, {"self_attn.v_proj", kv}),
                        c->hidden, c->qkv_bias, &layer->qkv);
    if (!status)
        status = load_matrix(up, prefix, PARTS({"self_attn.o_proj", c->hidden}), q, c->out_bias, &layer->out);
    if (!status)
        status = load_layer_norm(up, prefix, "post_attention_layernorm", c->hidden, false, &layer->norm2);
    if (!status)
        status = load_matrix(up, prefix,
                             PARTS({"mlp.gate_proj", c->intermediate}, {"mlp.up_proj", c->intermediate}),
                             c->hidden, c->mlp_bias, &layer->gate_up);
    if (!status)
        status = load_matrix(up, prefix, PARTS({"mlp.down_proj", c->hidden}), c->intermediate, c->mlp_bias,
                             &layer->down);
    return status;
}

static vlcache_status load_text(vlci_upload *up, vlcache_model *model) {
    const vlci_text_config *c = &model->config.text;
    model->text = vlci_calloc((size_t)c->layers, sizeof *model->text);
    vlcache_status status = model->text ? VLCACHE_OK : vlci_fail_memory("text layers");
    if (!status)
        status = load_matrix(up, "language_model.model.", PARTS({"embed_tokens", c->vocab}), c->hidden, false,
                             &model->embedding);
    for (int i = 0; i < c->layers && !status; i++) {
        char prefix[80];
        snprintf(prefix, sizeof prefix, "language_model.model.layers.%d.", i);
        status = load_text_layer(up, c, prefix, &model->text[i]);
    }
    if (!status) status = load_norm(up, "language_model.model.norm", c->hidden, false, &model->final_norm);
    if (!status && !c->tied)
        status =
            load_matrix(up, "language_model.", PARTS({"lm_head", c->vocab}), c->hidden, false, &model->head);
    return status;
}

/* ---- the model
 * ---------------------------------------------------------------------------------------------- */

static vlcache_status load_weights(vlcache_model *model, const vlci_checkpoint *checkpoint,
                                   const vlcache_model_options *options) {
    vlci_upload up = {.device = model->device,
                      .checkpoint = checkpoint,
                      .dtype = model->dtype,
                      .layout = model->layout,
                      .progress = options->progress,
                      .progress_user = options->progress_user,
                      .total = vlci_checkpoint_bytes(checkpoint)};
    vlcache_status status = load_vision(&up, model);
    if (!status) status = load_projector(&up, model);
    if (!status) status = load_text(&up, model);
    if (!status) status = vlci_finish(model->device);
    model->weight_bytes = up.device_bytes;
    return status;
}

/* The checkpoint's own dtype: as config.json says, else that of the embedding. */
static vlcache_dtype stored_dtype(const vlci_config *config, const vlci_checkpoint *checkpoint) {
    vlci_weight_view view;
    if (config->dtype != VLCACHE_DTYPE_AUTO) return config->dtype;
    bool found = vlci_checkpoint_find(checkpoint, "language_model.model.embed_tokens.weight", &view);
    return found && view.dtype != VLCACHE_DTYPE_AUTO ? view.dtype : VLCACHE_DTYPE_F32;
}

vlcache_status vlcache_model_load(vlcache_device *device, const char *folder,
                                  const vlcache_model_options *options, vlcache_model **out) {
    vlcache_model_options defaults = VLCACHE_MODEL_OPTIONS_INIT;
    if (!device || !folder || !out)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_model_load: device, folder or out is NULL");
    *out = NULL;
    if (!options) options = &defaults;
    vlci_checkpoint *checkpoint = NULL;
    vlcache_model *model = vlci_calloc(1, sizeof *model);
    if (!model) return vlci_fail_memory("model");
    model->references = 1;
    model->device = vlci_device_retain(device);
    vlcache_status status = vlci_config_load(folder, &model->config);
    if (!status) status = vlci_tokenizer_load(folder, &model->tokenizer);
    if (!status) model->chat = vlci_chat_detect(folder, &model->config);
    if (!status) status = vlci_checkpoint_open(folder, &checkpoint);
    if (!status) {
        model->dtype =
            options->dtype != VLCACHE_DTYPE_AUTO ? options->dtype : stored_dtype(&model->config, checkpoint);
        status = vlci_gemm_plan(device, model->dtype, &model->layout, NULL);
    }
    if (!status) status = load_weights(model, checkpoint, options);
    vlci_checkpoint_close(&checkpoint);
    if (status)
        vlcache_model_destroy(&model);
    else
        *out = model;
    return status;
}

void vlcache_model_describe(const vlcache_model *model, vlcache_model_info *info) {
    const vlci_text_config *text = &model->config.text;
    *info = (vlcache_model_info){
        .family = model->config.family == VLCI_LLAVA ? "llava" : "llava_next",
        .text_type = model->config.text_model_type,
        .dtype = model->dtype,
        .layers = text->layers,
        .heads = text->heads,
        .kv_heads = text->kv_heads,
        .head_dim = text->head_dim,
        .hidden = text->hidden,
        .vocabulary = text->vocab,
        .max_positions = text->max_positions,
        .image_side = model->config.vision.image_size,
        .patch_side = model->config.vision.patch_size,
        .weight_bytes = model->weight_bytes,
    };
}

static void norm_release(vlcache_device *device, vlci_norm *norm) {
    vlci_memory_release(device, &norm->weight);
    vlci_memory_release(device, &norm->bias);
}

static void vision_release(vlcache_device *device, vlcache_model *model) {
    for (int i = 0; model->vision && i < model->config.vision.run_layers; i++) {
        vlci_vision_layer *layer = &model->vision[i];
        norm_release(device, &layer->norm1);
        norm_release(device, &layer->norm2);
        vlci_matrix_release(device, &layer->qkv);
        vlci_matrix_release(device, &layer->out);
        vlci_matrix_release(device, &layer->fc1);
        vlci_matrix_release(device, &layer->fc2);
    }
    vlci_matrix_release(device, &model->patch);
    vlci_memory_release(device, &model->class_embedding);
    vlci_memory_release(device, &model->position_embedding);
    norm_release(device, &model->pre_norm);
    vlci_free(model->vision);
}

static void text_release(vlcache_device *device, vlcache_model *model) {
    for (int i = 0; model->text && i < model->config.text.layers; i++) {
        vlci_text_layer *layer = &model->text[i];
        norm_release(device, &layer->norm1);
        norm_release(device, &layer->norm2);
        vlci_matrix_release(device, &layer->qkv);
        vlci_matrix_release(device, &layer->out);
        vlci_matrix_release(device, &layer->gate_up);
        vlci_matrix_release(device, &layer->down);
    }
    vlci_matrix_release(device, &model->embedding);
    norm_release(device, &model->final_norm);
    vlci_matrix_release(device, &model->head);
    vlci_free(model->text);
}

vlcache_model *vlci_model_retain(vlcache_model *model) {
    __atomic_add_fetch(&model->references, 1, __ATOMIC_RELAXED);
    return model;
}

void vlcache_model_destroy(vlcache_model **handle) {
    if (!handle || !*handle) return;
    vlcache_model *model = *handle;
    *handle = NULL;
    if (__atomic_sub_fetch(&model->references, 1, __ATOMIC_ACQ_REL)) return;
    vision_release(model->device, model);
    vlci_matrix_release(model->device, &model->projector1);
    vlci_matrix_release(model->device, &model->projector2);
    vlci_memory_release(model->device, &model->image_newline);
    text_release(model->device, model);
    vlci_tokenizer_destroy(&model->tokenizer);
    vlci_config_release(&model->config);
    vlcache_device_destroy(&model->device);
    vlci_free(model);
}
