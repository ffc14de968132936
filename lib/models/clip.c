/*
 * clip.c - the CLIP vision transformer: settings, weights, and the run.
 *
 *     x = LN([class | patches W] + position)
 *     each layer: x += out(attention(qkv(LN(x))))      x += fc2(act(fc1(LN(x))))
 */
#include "models/clip.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compute/product.h"
#include "core/alloc.h"
#include "models/gather.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

vlcache_status vlci_clip_config_read(const vlci_scope *scope, vlci_clip_config *vision) {
    const char *type = "clip_vision_model";
    int channels = 3;
    vlcache_status status = vlci_json_string(scope, "model_type", &type);
    if (!status && strcmp(type, "clip_vision_model") != 0)
        status = vlci_json_unsupported(scope, "model_type",
                                       "vision model \"%.64s\"; clip_vision_model is supported", type);
    if (!status) status = vlci_json_int(scope, "hidden_size", 1, VLCI_MAX_WIDTH, &vision->hidden);
    if (!status) status = vlci_json_int(scope, "intermediate_size", 1, VLCI_MAX_WIDTH, &vision->intermediate);
    if (!status) status = vlci_json_int(scope, "num_hidden_layers", 1, VLCI_MAX_LAYERS, &vision->layers);
    if (!status) status = vlci_json_int(scope, "num_attention_heads", 1, VLCI_MAX_HEADS, &vision->heads);
    if (!status) status = vlci_hub_side(scope, "image_size", 4096, &vision->image_size);
    if (!status) status = vlci_hub_side(scope, "patch_size", 1024, &vision->patch_size);
    if (!status) status = vlci_json_int(scope, "num_channels", 1, INT_MAX, &channels);
    if (!status && channels != 3)
        status = vlci_json_unsupported(scope, "num_channels", "is %d; 3 (RGB) is supported", channels);
    if (!status) status = vlci_json_float(scope, "layer_norm_eps", 0, 1, &vision->norm_eps);
    if (!status) status = vlci_hub_activation(scope, "hidden_act", &vision->act);
    if (!status) status = vlci_hub_heads(scope, vision->hidden, vision->heads);
    if (!status && vision->patch_size > vision->image_size)
        status = vlci_json_bad(scope, "patch_size", "is %d, larger than image_size %d", vision->patch_size,
                               vision->image_size);
    vision->run_layers = vision->layers;
    if (!status) vision->head_dim = vision->hidden / vision->heads;
    return status;
}

int vlci_clip_side(const vlci_clip_config *config) {
    return config->image_size / config->patch_size;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load_layer(vlci_upload *up, const vlci_clip_config *c, const char *prefix,
                                 vlci_clip_layer *layer) {
    int h = c->hidden, inner = c->heads * c->head_dim;
    vlcache_status status = vlci_upload_norm(up, prefix, "layer_norm1", h, true, &layer->norm1);
    if (!status)
        status = vlci_upload_matrix(up, prefix,
                                    VLCI_PARTS({"self_attn.q_proj", inner}, {"self_attn.k_proj", inner},
                                               {"self_attn.v_proj", inner}),
                                    h, true, &layer->qkv);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"self_attn.out_proj", h}), inner, true, &layer->out);
    if (!status) status = vlci_upload_norm(up, prefix, "layer_norm2", h, true, &layer->norm2);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.fc1", c->intermediate}), h, true, &layer->fc1);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.fc2", h}), c->intermediate, true, &layer->fc2);
    return status;
}

/* The convolution of the patch embedding is a matrix: its kernel [hidden][3][p][p] read as rows of 3 * p * p.
 */
static vlcache_status load_embeddings(vlci_upload *up, const vlci_clip_config *c, vlci_clip *clip) {
    size_t side = (size_t)vlci_clip_side(c), hidden = (size_t)c->hidden, p = (size_t)c->patch_size;
    size_t kernel[4] = {hidden, 3, p, p}, positions[2] = {1 + side * side, hidden};
    vlcache_status status =
        vlci_upload_kernel(up, VLCI_CLIP_PREFIX "embeddings.patch_embedding.weight", 4, kernel, c->hidden,
                           3 * c->patch_size * c->patch_size, &clip->patch);
    if (!status)
        status = vlci_upload_vector(up, VLCI_CLIP_PREFIX, "embeddings.class_embedding", 1, &hidden,
                                    &clip->class_embedding);
    if (!status)
        status = vlci_upload_vector(up, VLCI_CLIP_PREFIX, "embeddings.position_embedding.weight", 2,
                                    positions, &clip->position_embedding);
    if (!status)
        status = vlci_upload_norm(up, VLCI_CLIP_PREFIX, "pre_layrnorm", c->hidden, true, &clip->pre_norm);
    return status;
}

/* "...layers.7." */
static const char *layer_prefix(char text[static 80], int layer) {
    snprintf(text, 80, VLCI_CLIP_PREFIX "encoder.layers.%d.", layer);
    return text;
}

/* What the features asked for do not pass through. */
static void skip_rest(vlci_upload *up, const vlci_clip_config *c) {
    char prefix[80];
    vlci_checkpoint_skip(up->checkpoint, VLCI_CLIP_PREFIX "embeddings.position_ids");
    vlci_checkpoint_skip(up->checkpoint, VLCI_CLIP_PREFIX "post_layernorm.");
    for (int i = c->run_layers; i < c->layers; i++)
        vlci_checkpoint_skip(up->checkpoint, layer_prefix(prefix, i));
}

vlcache_status vlci_clip_load(vlci_upload *up, const vlci_clip_config *config, vlci_clip *clip) {
    char prefix[80];
    *clip = (vlci_clip){.config = *config, .compute = up->compute};
    vlci_attention_shape shape = {.heads = config->heads,
                                  .kv_heads = config->heads,
                                  .head_dim = config->head_dim,
                                  .kv_dtype = VLCACHE_DTYPE_F32};
    clip->layer = vlci_calloc((size_t)config->run_layers, sizeof *clip->layer);
    vlcache_status status = clip->layer ? VLCACHE_OK : vlci_fail_memory("vision layers");
    if (!status) status = load_embeddings(up, config, clip);
    for (int i = 0; i < config->run_layers && !status; i++)
        status = load_layer(up, config, layer_prefix(prefix, i), &clip->layer[i]);
    if (!status && config->run_layers)
        shape.rounded = clip->layer[0].qkv.dtype; /* no finer than what made them */
    if (!status) status = vlci_attention_open(up->device, &shape, &clip->attention);
    skip_rest(up, config);
    return status;
}

void vlci_clip_release(vlci_clip *clip) {
    vlcache_device *device = clip->compute ? clip->compute->device : NULL;
    for (int i = 0; clip->layer && i < clip->config.run_layers; i++) {
        vlci_clip_layer *layer = &clip->layer[i];
        vlci_norm_release(device, &layer->norm1);
        vlci_norm_release(device, &layer->norm2);
        vlci_matrix_release(device, &layer->qkv);
        vlci_matrix_release(device, &layer->out);
        vlci_matrix_release(device, &layer->fc1);
        vlci_matrix_release(device, &layer->fc2);
    }
    if (device) {
        vlci_matrix_release(device, &clip->patch);
        vlci_memory_release(device, &clip->class_embedding);
        vlci_memory_release(device, &clip->position_embedding);
        vlci_norm_release(device, &clip->pre_norm);
    }
    vlci_free(clip->layer);
    *clip = (vlci_clip){0};
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Scratch of one run; rows = tiles * (1 + patches). */
typedef struct tower {
    const vlci_clip *clip;
    const vlci_compute *compute;
    vlcache_device *device;
    const vlci_clip_config *config;
    int tiles, per_tile, rows;
    cl_mem x, norm, qkv, attended, inner, seq_start;
} tower;

static void tower_release(tower *t) {
    cl_mem *all[] = {&t->x, &t->norm, &t->qkv, &t->attended, &t->inner, &t->seq_start};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(t->device, all[i]);
}

static vlcache_status create_rows(const tower *t, int width, cl_mem *out) {
    size_t bytes = (size_t)t->rows * (size_t)width * sizeof(float);
    return vlci_memory_create(t->device, bytes, "vision activations", out);
}

static vlcache_status create_operand(const tower *t, int width, cl_mem *out) {
    return vlci_memory_create(t->device, vlci_operand_bytes(t->rows, width), "vision activations", out);
}

/* Each tile is a sequence of its own. */
static vlcache_status create_starts(tower *t) {
    size_t bytes = ((size_t)t->tiles + 1) * sizeof(int32_t);
    int32_t *starts = vlci_alloc(1, bytes);
    if (!starts) return vlci_fail_memory("tile starts");
    for (int i = 0; i <= t->tiles; i++) starts[i] = i * (t->per_tile + 1);
    vlcache_status status = vlci_memory_create(t->device, bytes, "tile starts", &t->seq_start);
    if (!status) status = vlci_write(t->device, t->seq_start, 0, starts, bytes);
    vlci_free(starts);
    return status;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static vlcache_status tower_create(tower *t) {
    const vlci_clip_config *c = t->config;
    int inner = c->heads * c->head_dim;
    int patch = 3 * c->patch_size * c->patch_size;
    vlcache_status status = create_rows(t, c->hidden, &t->x);
    if (!status) status = create_operand(t, larger(larger(c->hidden, inner), c->intermediate), &t->norm);
    if (!status) status = create_rows(t, 3 * inner, &t->qkv);
    if (!status) status = create_operand(t, larger(inner, patch), &t->attended);
    if (!status) status = create_operand(t, larger(c->intermediate, patch), &t->inner);
    if (!status) status = create_starts(t);
    return status;
}

static vlcache_status embed_patches(tower *t, const vlci_pixels *pixels) {
    const vlci_clip_config *c = t->config;
    size_t bytes = (size_t)t->tiles * 3 * (size_t)c->image_size * (size_t)c->image_size * sizeof(float);
    cl_mem uploaded = NULL;
    int patches = t->tiles * t->per_tile;
    vlcache_status status = vlci_memory_create(t->device, bytes, "pixels", &uploaded);
    if (!status) status = vlci_write(t->device, uploaded, 0, pixels->data, bytes);
    if (!status)
        status =
            vlci_patch_split(&t->compute->patch, uploaded, t->inner, t->tiles, c->image_size, c->patch_size);
    const vlci_product product = {
        .w = &t->clip->patch, .x = t->inner, .brought = t->attended, .y = t->norm, .m = patches};
    if (!status) status = vlci_product_run(t->compute, &product);
    if (!status)
        status = vlci_patch_assemble(&t->compute->patch, t->norm, t->clip->class_embedding,
                                     t->clip->position_embedding, t->x, t->tiles, t->per_tile, c->hidden);
    if (!status)
        status = vlci_norm_run(&t->compute->norm, t->x, 0, &t->clip->pre_norm, t->x, t->rows, c->hidden,
                               c->norm_eps);
    vlci_memory_release(t->device, &uploaded);
    return status;
}

static vlcache_status attend(tower *t) {
    const vlci_clip_config *c = t->config;
    size_t inner = (size_t)c->heads * (size_t)c->head_dim;
    vlci_attention a = {.batch = t->tiles,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv = {.dtype = VLCACHE_DTYPE_F32,
                               .k = t->qkv,
                               .v = t->qkv,
                               .k_offset = inner,
                               .v_offset = 2 * inner,
                               .seq_stride = (size_t)(t->per_tile + 1) * 3 * inner,
                               .head_stride = (size_t)c->head_dim,
                               .row_stride = 3 * inner},
                        .q_stride = 3 * inner,
                        .max_rows = t->per_tile + 1,
                        .q = t->qkv,
                        .out = t->attended,
                        .seq_start = t->seq_start};
    return vlci_attention_run(&t->clip->attention, &a);
}

static vlcache_status run_layer(tower *t, const vlci_clip_layer *layer) {
    const vlci_clip_config *c = t->config;
    vlci_form form = vlci_product_form(t->compute, &layer->fc1, &layer->fc2, t->rows);
    const vlci_product qkv = {.w = &layer->qkv,
                              .x = t->x,
                              .norm = &layer->norm1,
                              .eps = c->norm_eps,
                              .brought = t->norm,
                              .y = t->qkv,
                              .m = t->rows},
                       out = {.w = &layer->out,
                              .x = t->attended,
                              .brought = t->norm,
                              .y = t->x,
                              .m = t->rows,
                              .accumulate = true},
                       fc1 = {.w = &layer->fc1,
                              .x = t->x,
                              .norm = &layer->norm2,
                              .eps = c->norm_eps,
                              .brought = t->norm,
                              .act = c->act,
                              .y = t->inner,
                              .y_form = form,
                              .m = t->rows},
                       fc2 = {.w = &layer->fc2,
                              .x = t->inner,
                              .x_form = form,
                              .brought = t->norm,
                              .y = t->x,
                              .m = t->rows,
                              .accumulate = true};
    vlcache_status status = vlci_product_run(t->compute, &qkv);
    if (!status) status = attend(t);
    if (!status) status = vlci_product_run(t->compute, &out);
    if (!status) status = vlci_product_run(t->compute, &fc1);
    return status ? status : vlci_product_run(t->compute, &fc2);
}

vlcache_status vlci_clip_run(const vlci_clip *clip, const vlci_pixels *pixels, cl_mem *features) {
    *features = NULL;
    const vlci_clip_config *c = &clip->config;
    int side = vlci_clip_side(c);
    tower t = {.clip = clip,
               .compute = clip->compute,
               .device = clip->compute->device,
               .config = c,
               .tiles = pixels->tiles,
               .per_tile = side * side};
    t.rows = t.tiles * (t.per_tile + 1);
    vlcache_status status = tower_create(&t);
    if (!status) status = embed_patches(&t, pixels);
    for (int i = 0; i < c->run_layers && !status; i++) status = run_layer(&t, &clip->layer[i]);
    if (!status) {
        *features = t.x;
        t.x = NULL;
    }
    tower_release(&t);
    return status;
}

vlcache_status vlci_clip_select(const vlci_clip *clip, cl_mem features, int tiles, bool keep_class, int *rows,
                                cl_mem *out) {
    int side = vlci_clip_side(&clip->config), all = side * side + 1, first = keep_class ? 0 : 1, n = 0;
    *rows = tiles * (all - first);
    *out = NULL;
    int32_t *source = vlci_alloc((size_t)*rows, sizeof *source);
    if (!source) return vlci_fail_memory("row index");
    for (int tile = 0; tile < tiles; tile++)
        for (int row = first; row < all; row++) source[n++] = tile * all + row;
    vlcache_status status =
        vlci_gather(clip->compute, features, NULL, source, *rows, clip->config.hidden, out);
    vlci_free(source);
    return status;
}
