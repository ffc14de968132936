/*
 * model.c - loads a Hugging Face folder onto a device, or makes a model of a geometry there.
 *
 * folder -> config -> checkpoint (opened) -> one upload after the other -> model; nothing of the checkpoint
 * stays on the host. Without a checkpoint weights are made in the same places.
 */
#include "models/model.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/options.h"
#include "models/clip.h"
#include "models/families.h"

/* ---- the text model ------------------------------------------------------------------------------------ */

static const char embedding_name[] = "language_model.model.embed_tokens.weight",
                  head_name[] = "language_model.lm_head.weight";

/* Whether the checkpoint stores a head that is not the embedding once more. */
static vlcache_status has_own_head(const vlci_checkpoint *checkpoint, bool *own) {
    vlci_weight_view head;
    bool same = false;
    *own = vlci_checkpoint_find(checkpoint, head_name, &head);
    if (!*own) return VLCACHE_OK;
    vlcache_status status = vlci_checkpoint_same(checkpoint, head_name, embedding_name, &same);
    *own = !same;
    return status;
}

/* Tied by the settings, the head is the embedding, unless another one is stored: then that one counts, as in
 * transformers 5. */
static vlcache_status load_head(vlci_upload *up, vlcache_model *model) {
    vlci_text_config *c = &model->config.text;
    bool own = true;
    vlcache_status status = c->tied ? has_own_head(up->checkpoint, &own) : VLCACHE_OK;
    if (status) return status;
    c->tied = !own;
    if (c->tied) vlci_checkpoint_skip(up->checkpoint, head_name);
    return c->tied ? VLCACHE_OK
                   : vlci_upload_matrix(up, "language_model.", VLCI_PARTS({"lm_head", c->vocab}), c->hidden,
                                        false, &model->head);
}

static vlcache_status load_text(vlci_upload *up, vlcache_model *model) {
    const vlci_text_config *c = &model->config.text;
    model->text = vlci_calloc((size_t)c->layers, sizeof *model->text);
    vlcache_status status = model->text ? VLCACHE_OK : vlci_fail_memory("text layers");
    if (!status)
        status =
            vlci_upload_matrix(up, "language_model.model.", VLCI_PARTS({"embed_tokens", vlci_text_ids(c)}),
                               c->hidden, false, &model->embedding);
    for (int i = 0; i < c->layers && !status; i++) {
        char prefix[80];
        snprintf(prefix, sizeof prefix, "language_model.model.layers.%d.", i);
        status = vlci_text_layer_load(up, c, i, prefix, &model->text[i]);
    }
    if (!status)
        status = vlci_text_norm_load(up, c, "language_model.model.", "norm", c->hidden, &model->final_norm);
    return status ? status : load_head(up, model);
}

static void text_release(vlcache_device *device, vlcache_model *model) {
    for (int i = 0; model->text && i < model->config.text.layers; i++)
        vlci_text_layer_release(device, &model->text[i]);
    vlci_matrix_release(device, &model->embedding);
    vlci_norm_release(device, &model->final_norm);
    vlci_matrix_release(device, &model->head);
    vlci_free(model->text);
}

/* ---- the model ----------------------------------------------------------------------------------------- */

void vlci_model_warn_of_rest(const char *folder, const vlci_checkpoint *checkpoint) {
    char names[480];
    size_t n = vlci_checkpoint_unused(checkpoint, names, sizeof names);
    if (n)
        vlci_log(VLCACHE_LOG_WARN, "%.256s: %zu tensor%s of the checkpoint %s not used: %s%s", folder, n,
                 n == 1 ? "" : "s", n == 1 ? "is" : "are", names, n > VLCI_UNUSED_NAMED ? ", ..." : "");
}

vlcache_status vlci_model_load_weights(vlcache_model *model, vlci_upload *up) {
    if (up->checkpoint) vlci_checkpoint_name(up->checkpoint, model->family->names);
    vlcache_status status = model->family->load(up, &model->config);
    return status ? status : load_text(up, model);
}

/* `folder` is for messages; `checkpoint` NULL: weights are made. */
static vlcache_status load_weights(vlcache_model *model, const char *folder, vlci_checkpoint *checkpoint,
                                   const vlcache_model_options *options) {
    vlci_upload up = {.device = model->device,
                      .compute = &model->compute,
                      .checkpoint = checkpoint,
                      .dtype = options->dtype,
                      .no_mmap = options->no_mmap != 0,
                      .progress = options->progress,
                      .progress_user = options->progress_user,
                      .total = checkpoint ? vlci_checkpoint_bytes(checkpoint) : 0};
    vlcache_status status = vlci_upload_end(&up, vlci_model_load_weights(model, &up));
    if (!status) status = vlci_finish(model->device);
    if (!status && checkpoint) vlci_model_warn_of_rest(folder, checkpoint);
    model->weight_bytes = up.device_bytes;
    model->mapped_bytes = up.mapped_bytes;
    return status;
}

vlcache_dtype vlci_model_stored_dtype(const vlcache_model *model) {
    if (model->config.dtype != VLCACHE_DTYPE_AUTO) return model->config.dtype;
    return model->embedding.dtype;
}

VLCI_OPTIONS_END(vlcache_model_options, no_mmap);

static vlcache_status take_options(const vlcache_model_options *from, vlcache_model_options *to) {
    vlcache_status status =
        VLCI_OPTIONS_TAKE("model", vlcache_model_options, dtype, VLCACHE_MODEL_OPTIONS_INIT, from, to);
    if (status || (to->dtype >= VLCACHE_DTYPE_AUTO && to->dtype <= VLCACHE_DTYPE_BF16)) return status;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "model.dtype", VLCI_VALUE("%d", (int)to->dtype),
                       "must be a value of vlcache_dtype");
}

/* Pictures between the caller's bounds. */
static vlcache_status bound_pictures(vlci_config *config, const vlcache_model_options *o) {
    if (!o->min_pixels && !o->max_pixels) return VLCACHE_OK;
    if (config->family->bound) return config->family->bound(config, o->min_pixels, o->max_pixels);
    return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, o->max_pixels ? "model.max_pixels" : "model.min_pixels",
                       VLCI_VALUE("%d", o->max_pixels ? o->max_pixels : o->min_pixels),
                       "pictures of a %s model have sizes of its own: leave it 0", config->family->name);
}

/* What depends on the weights, once they are there. All is open before anything is enqueued but uploads. */
static vlcache_status open_rest(vlcache_model *model) {
    const vlci_text_config *c = &model->config.text;
    vlci_compute *k = &model->compute;
    const vlci_gemv *bf16 = &k->linear.of[VLCACHE_DTYPE_BF16].gemv;
    const vlci_attention_shape shape = {.heads = c->heads,
                                        .kv_heads = c->kv_heads,
                                        .head_dim = c->head_dim,
                                        .kv_dtype = model->dtype,
                                        .out = vlci_layout_form(vlci_linear_layout(&k->linear, model->dtype)),
                                        .windowed = c->window > 0 && c->window < c->max_positions,
                                        .cap = c->attention_cap};
    vlcache_status status =
        vlci_embed_open(model->device, model->embedding.dtype, model->embedding.layout, &k->embed);
    if (!status) status = vlci_rope_open(model->device, model->dtype, &k->rope);
    if (!status) status = vlci_linear_open_append(&k->linear, model->dtype);
    if (!status && c->crosses) status = vlci_gate_open(model->device, &k->sums);
    int attended = c->heads * c->head_dim;
    int deepest = c->intermediate > attended ? c->intermediate : attended;
    if (!status)
        status = vlci_chain_open(model->device, c->hidden, deepest > c->hidden ? deepest : c->hidden, c->act,
                                 &shape, &k->chain);
    if (!status)
        status = vlci_chain_dot_open(model->device, bf16->dot, bf16->layout, c->act, &shape, &k->chain_dot);
    return status ? status : vlci_attention_open(model->device, &shape, &k->attention);
}

vlcache_status vlci_model_begin(vlcache_device *device, const vlcache_model_options *options,
                                vlcache_model_options *taken, vlcache_model **out) {
    *out = NULL;
    vlcache_status status = take_options(options, taken);
    if (status) return status;
    vlcache_model *model = vlci_calloc(1, sizeof *model);
    if (!model) return vlci_fail_memory("model");
    model->references = 1;
    model->device = device ? vlci_device_retain(device) : NULL;
    *out = model;
    return VLCACHE_OK;
}

/* The weights are there, or not: what is left to do, and whose the model is. */
static vlcache_status end(vlcache_model *model, vlcache_dtype dtype, vlcache_status status,
                          vlcache_model **out) {
    if (!status) model->dtype = dtype != VLCACHE_DTYPE_AUTO ? dtype : vlci_model_stored_dtype(model);
    if (!status) status = open_rest(model);
    if (status)
        vlcache_model_destroy(&model);
    else
        *out = model;
    return status;
}

/* Old folders of LLaVA come without a template: theirs is that of the text model. */
static const char *usual_chat(const vlcache_model *model) {
    const char *text = model->config.text_model_type;
    const char *family = model->family->name;
    if (strcmp(family, "llava") && strcmp(family, "llava_next")) return "plain";
    return text && strcmp(text, "mistral") == 0 ? "mistral" : "vicuna";
}

vlcache_status vlci_model_load_config(vlcache_model *model, const char *folder,
                                      const vlcache_model_options *taken) {
    vlcache_status status = vlci_config_load(folder, &model->config);
    model->family = model->config.family;
    return status ? status : bound_pictures(&model->config, taken);
}

vlcache_status vlci_model_load_words(vlcache_model *model, const char *folder) {
    vlcache_status status = vlci_tokenizer_load(folder, &model->tokenizer);
    model->config.tokenizer = model->tokenizer;
    if (!status && model->config.video_token == VLCI_TOKEN_OF_MARK)
        model->config.video_token =
            vlci_tokenizer_id(model->tokenizer, vlci_family_video_token(model->family));
    const vlci_chat_for what = {model->tokenizer, model->family->mark, vlci_family_video_mark(model->family)};
    if (!status) status = vlci_chat_load(folder, usual_chat(model), &what, &model->chat);
    const char *of_videos = model->family->videos ? model->family->videos->chat : NULL;
    return status || !of_videos ? status : vlci_chat_show_videos(model->chat, of_videos);
}

vlcache_status vlcache_model_load(vlcache_device *device, const char *folder,
                                  const vlcache_model_options *options, vlcache_model **out) {
    vlcache_model_options taken;
    vlcache_model *model = NULL;
    vlci_checkpoint *checkpoint = NULL;
    if (out) *out = NULL;
    if (!device || !folder || !out)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_model_load: device, folder or out is NULL");
    vlcache_status status = vlci_model_begin(device, options, &taken, &model);
    if (status) return status;
    status = vlci_model_load_config(model, folder, &taken);
    if (!status) status = vlci_model_load_words(model, folder);
    if (!status) status = vlci_checkpoint_open(folder, &checkpoint);
    if (!status) status = vlci_compute_open(device, model->config.text.act, &model->compute);
    if (!status) status = load_weights(model, folder, checkpoint, &taken);
    vlci_checkpoint_close(&checkpoint);
    return end(model, taken.dtype, status, out);
}

/* As much as the weights of these settings take must be there: some devices give what they have not, and
 * their processes are killed later. */
static vlcache_status check_room(const vlcache_device *device, const char *config,
                                 const vlcache_model_options *options) {
    const double gib = 1024.0 * 1024.0 * 1024.0;
    const vlcache_device_info *info = &device->caps.info;
    vlcache_model_options taken;
    vlcache_model *model = NULL;
    vlcache_status status = vlci_model_begin(NULL, options, &taken, &model);
    if (status) return status;
    vlci_upload up = {.compute = &model->compute, .dtype = taken.dtype};
    status = vlci_config_load_alone(config, &model->config);
    model->family = model->config.family;
    if (!status) status = vlci_model_load_weights(model, &up);
    if (!status && up.device_bytes > info->global_memory)
        status = vlci_fail(VLCACHE_E_DEVICE_MEMORY,
                           "config.json: weights of %.1f GiB, but \"%s\" has %.1f GiB of memory: take a "
                           "smaller geometry, or a device with more",
                           (double)up.device_bytes / gib, info->name, (double)info->global_memory / gib);
    vlcache_model_destroy(&model);
    return status;
}

vlcache_status vlcache_model_create_random(vlcache_device *device, const char *config,
                                           const vlcache_model_options *options, vlcache_model **out) {
    vlcache_model_options taken;
    vlcache_model *model = NULL;
    if (out) *out = NULL;
    if (!device || !config || !out)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_model_create_random: device, config or out is NULL");
    vlcache_status status = vlci_model_begin(device, options, &taken, &model);
    if (status) return status;
    status = vlci_config_load_alone(config, &model->config);
    model->family = model->config.family;
    if (!status) status = bound_pictures(&model->config, &taken);
    model->config.n_eos_tokens = 0; /* random tokens end nothing */
    if (taken.dtype == VLCACHE_DTYPE_AUTO) taken.dtype = model->config.dtype;
    if (taken.dtype == VLCACHE_DTYPE_AUTO) taken.dtype = VLCACHE_DTYPE_BF16;
    if (!status) status = check_room(device, config, &taken);
    if (!status) status = vlci_chat_named("plain", &model->chat);
    if (!status) status = vlci_compute_open(device, model->config.text.act, &model->compute);
    if (!status) status = load_weights(model, NULL, NULL, &taken);
    return end(model, taken.dtype, status, out);
}

void vlcache_model_describe(const vlcache_model *model, vlcache_model_info *info) {
    const vlci_text_config *text = &model->config.text;
    *info = (vlcache_model_info){
        .family = model->family->name,
        .text_type = model->config.text_model_type,
        .dtype = model->dtype,
        .layers = text->layers,
        .cross_layers = text->crosses,
        .heads = text->heads,
        .kv_heads = text->kv_heads,
        .head_dim = text->head_dim,
        .hidden = text->hidden,
        .intermediate = text->intermediate,
        .vocabulary = text->vocab,
        .max_positions = text->max_positions,
        .weight_bytes = model->weight_bytes,
        .mapped_bytes = model->mapped_bytes,
        .attention_cap = text->attention_cap,
        .logit_cap = text->logit_cap,
    };
    for (int i = 0; i < text->layers; i++) info->windowed_layers += vlci_text_window(text, i) > 0;
    info->window = info->windowed_layers ? text->window : 0;
    model->family->describe(&model->config, info);
}

vlcache_status vlcache_model_tokenize(const vlcache_model *model, const char *text, int32_t *ids,
                                      size_t capacity, size_t *n) {
    int32_t *all = NULL;
    size_t found = 0;
    if (!model || !text || !n || (capacity && !ids))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_model_tokenize: model, text, ids or n is NULL");
    *n = 0;
    if (!model->tokenizer)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "text", NULL,
                           "the model has random weights and no tokenizer");
    vlcache_status status = vlci_tokenizer_encode(model->tokenizer, text, strlen(text), false, &all, &found);
    if (status) return status;
    for (size_t i = 0; i < found && i < capacity; i++) ids[i] = all[i];
    *n = found;
    vlci_free(all);
    return VLCACHE_OK;
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
    text_release(model->device, model);
    vlci_chat_release(&model->chat);
    vlci_tokenizer_destroy(&model->tokenizer);
    vlci_config_release(&model->config);
    vlci_compute_close(&model->compute);
    vlcache_device_destroy(&model->device);
    vlci_free(model);
}
