/*
 * vit.c - the vision transformer: weights, and the run.
 */
#include "models/vit.h"

#include <math.h>
#include <stdio.h>

#include "compute/product.h"
#include "core/alloc.h"
#include "models/gather.h"

enum { PREFIX = 96 };

int vlci_vit_side(const vlci_vit_config *config) {
    return config->image_size / config->patch_size;
}

int vlci_vit_rows(const vlci_vit_config *config) {
    int side = vlci_vit_side(config);
    return side * side + config->class_token;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

/* q, k and v as one matrix, or as three where q and k are normed on their own. */
static vlcache_status load_attention(vlci_upload *up, const vlci_vit_config *c, const char *prefix,
                                     vlci_vit_layer *layer) {
    const vlci_vit_names *names = c->names;
    int h = c->hidden, inner = c->heads * c->head_dim;
    if (!c->qk_norm)
        return vlci_upload_matrix(up, prefix,
                                  VLCI_PARTS({names->q, inner}, {names->k, inner}, {names->v, inner}), h,
                                  c->qkv_bias, &layer->qkv);
    vlcache_status status =
        vlci_upload_matrix(up, prefix, VLCI_PARTS({names->q, inner}), h, c->qkv_bias, &layer->q);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({names->k, inner}), h, c->qkv_bias, &layer->k);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({names->v, inner}), h, c->qkv_bias, &layer->v);
    if (!status) status = vlci_upload_norm(up, prefix, names->q_norm, inner, false, &layer->q_norm);
    return status ? status : vlci_upload_norm(up, prefix, names->k_norm, inner, false, &layer->k_norm);
}

static vlcache_status load_layer(vlci_upload *up, const vlci_vit_config *c, const char *prefix,
                                 vlci_vit_layer *layer) {
    const vlci_vit_names *names = c->names;
    const char *scale1 = c->scaled ? names->scale1 : NULL, *scale2 = c->scaled ? names->scale2 : NULL;
    int h = c->hidden, inner = c->heads * c->head_dim;
    vlcache_status status = vlci_upload_norm(up, prefix, names->norm1, h, !c->rms_norm, &layer->norm1);
    if (!status) status = load_attention(up, c, prefix, layer);
    if (!status)
        status =
            vlci_upload_scaled(up, prefix, VLCI_PARTS({names->out, h}), inner, true, scale1, &layer->out);
    if (!status) status = vlci_upload_norm(up, prefix, names->norm2, h, !c->rms_norm, &layer->norm2);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({names->fc1, c->intermediate}), h, true, &layer->fc1);
    if (!status)
        status = vlci_upload_scaled(up, prefix, VLCI_PARTS({names->fc2, h}), c->intermediate, true, scale2,
                                    &layer->fc2);
    return status;
}

/* The convolution of the patch embedding is a matrix: its kernel [hidden][3][p][p] read as rows of 3 * p * p.
 */
static vlcache_status load_embeddings(vlci_upload *up, const vlci_vit_config *c, vlci_vit *vit) {
    const vlci_vit_names *names = c->names;
    size_t hidden = (size_t)c->hidden, p = (size_t)c->patch_size, rows = (size_t)vlci_vit_rows(c);
    size_t kernel[4] = {hidden, 3, p, p}, lone[3] = {1, 1, hidden}, positions[3] = {1, rows, hidden};
    int batch = names->batch_dims;
    vlcache_status status = vlci_upload_kernel(up, names->prefix, names->patch, 4, kernel, c->hidden,
                                               3 * c->patch_size * c->patch_size, c->patch_bias, &vit->patch);
    if (!status && c->class_token)
        status = vlci_upload_vector(up, names->prefix, names->class_token, 1 + 2 * batch,
                                    lone + 2 - 2 * batch, &vit->class_embedding);
    if (!status)
        status = vlci_upload_vector(up, names->prefix, names->position, 2 + batch, positions + 1 - batch,
                                    &vit->position_embedding);
    if (!status && c->pre_norm)
        status = vlci_upload_norm(up, names->prefix, names->pre_norm, c->hidden, true, &vit->pre_norm);
    if (!status && c->post_norm)
        status = vlci_upload_norm(up, names->prefix, names->post_norm, c->hidden, true, &vit->post_norm);
    return status;
}

/* "...layers.7." */
static const char *layer_prefix(const vlci_vit_config *c, char text[static PREFIX], int layer) {
    snprintf(text, PREFIX, "%s%s%d.", c->names->prefix, c->names->layers, layer);
    return text;
}

static void skip(vlci_upload *up, const vlci_vit_config *c, const char *name) {
    char text[PREFIX];
    snprintf(text, sizeof text, "%s%s", c->names->prefix, name);
    vlci_checkpoint_skip(up->checkpoint, text);
}

/* What the features asked for do not pass through. */
static void skip_rest(vlci_upload *up, const vlci_vit_config *c) {
    char text[PREFIX];
    for (const char *const *name = c->names->unused; *name; name++) skip(up, c, *name);
    snprintf(text, sizeof text, "%s.", c->names->post_norm);
    if (!c->post_norm) skip(up, c, text);
    for (int i = c->run_layers; i < c->layers; i++)
        vlci_checkpoint_skip(up->checkpoint, layer_prefix(c, text, i));
}

void vlci_vit_describe(const vlci_vit_config *config, vlcache_model_info *info) {
    info->image_side = config->image_size;
    info->patch_side = config->patch_size;
    info->tower_layers = config->run_layers;
    info->tower_heads = config->heads;
    info->tower_hidden = config->hidden;
}

vlcache_status vlci_vit_load(vlci_upload *up, const vlci_vit_config *config, vlci_vit *vit) {
    char prefix[PREFIX];
    *vit = (vlci_vit){.config = *config, .compute = up->compute};
    vlci_attention_shape shape = {.heads = config->heads,
                                  .kv_heads = config->heads,
                                  .head_dim = config->head_dim,
                                  .kv_dtype = VLCACHE_DTYPE_F32};
    vit->layer = vlci_calloc((size_t)config->run_layers, sizeof *vit->layer);
    vlcache_status status = vit->layer ? VLCACHE_OK : vlci_fail_memory("vision layers");
    if (!status) status = load_embeddings(up, config, vit);
    for (int i = 0; i < config->run_layers && !status; i++)
        status = load_layer(up, config, layer_prefix(config, prefix, i), &vit->layer[i]);
    if (!status && config->run_layers) { /* no finer than what made them */
        shape.rounded = config->qk_norm ? vit->layer[0].q.dtype : vit->layer[0].qkv.dtype;
        shape.stripes = !config->qk_norm;
    }
    if (!status && up->device) status = vlci_attention_open(up->device, &shape, &vit->attention);
    skip_rest(up, config);
    return status;
}

static void layer_release(vlcache_device *device, vlci_vit_layer *layer) {
    vlci_norm *const norms[] = {&layer->norm1, &layer->norm2, &layer->q_norm, &layer->k_norm};
    vlci_matrix *const matrices[] = {&layer->qkv, &layer->q,   &layer->k,  &layer->v,
                                     &layer->out, &layer->fc1, &layer->fc2};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) vlci_norm_release(device, norms[i]);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) vlci_matrix_release(device, matrices[i]);
}

void vlci_vit_release(vlci_vit *vit) {
    vlcache_device *device = vit->compute ? vit->compute->device : NULL;
    for (int i = 0; vit->layer && i < vit->config.run_layers; i++) layer_release(device, &vit->layer[i]);
    if (device) {
        vlci_matrix_release(device, &vit->patch);
        vlci_memory_release(device, &vit->class_embedding);
        vlci_memory_release(device, &vit->position_embedding);
        vlci_norm_release(device, &vit->pre_norm);
        vlci_norm_release(device, &vit->post_norm);
    }
    vlci_free(vit->layer);
    *vit = (vlci_vit){0};
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Scratch of one run; rows = tiles * per_tile. With qk_norm, qkv holds q, and k and v stand alone. */
typedef struct tower {
    const vlci_vit *vit;
    const vlci_compute *compute;
    vlcache_device *device;
    const vlci_vit_config *config;
    int tiles, per_tile, rows; /* per_tile: the class token among them */
    cl_mem x, norm, qkv, k, v, attended, inner, seq_start;
} tower;

static void tower_release(tower *t) {
    cl_mem *all[] = {&t->x, &t->norm, &t->qkv, &t->k, &t->v, &t->attended, &t->inner, &t->seq_start};
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
    for (int i = 0; i <= t->tiles; i++) starts[i] = i * t->per_tile;
    vlcache_status status = vlci_memory_create(t->device, bytes, "tile starts", &t->seq_start);
    if (!status) status = vlci_write(t->device, t->seq_start, 0, starts, bytes);
    vlci_free(starts);
    return status;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static vlcache_status tower_create(tower *t) {
    const vlci_vit_config *c = t->config;
    int inner = c->heads * c->head_dim;
    int patch = 3 * c->patch_size * c->patch_size;
    vlcache_status status = create_rows(t, c->hidden, &t->x);
    if (!status) status = create_operand(t, larger(larger(c->hidden, inner), c->intermediate), &t->norm);
    if (!status) status = create_operand(t, c->qk_norm ? inner : 3 * inner, &t->qkv);
    if (!status && c->qk_norm) status = create_rows(t, inner, &t->k);
    if (!status && c->qk_norm) status = create_rows(t, inner, &t->v);
    if (!status) status = create_operand(t, larger(inner, patch), &t->attended);
    if (!status) status = create_operand(t, larger(c->intermediate, patch), &t->inner);
    if (!status) status = create_starts(t);
    return status;
}

static vlcache_status embed_patches(tower *t, const vlci_pixels *pixels) {
    const vlci_vit_config *c = t->config;
    size_t bytes = (size_t)t->tiles * 3 * (size_t)c->image_size * (size_t)c->image_size * sizeof(float);
    cl_mem uploaded = NULL;
    int patches = t->per_tile - c->class_token;
    vlcache_status status = vlci_memory_create(t->device, bytes, "pixels", &uploaded);
    if (!status) status = vlci_write(t->device, uploaded, 0, pixels->data, bytes);
    if (!status)
        status =
            vlci_patch_split(&t->compute->patch, uploaded, t->inner, t->tiles, c->image_size, c->patch_size);
    const vlci_product product = {
        .w = &t->vit->patch, .x = t->inner, .brought = t->attended, .y = t->norm, .m = t->tiles * patches};
    if (!status) status = vlci_product_run(t->compute, &product);
    if (!status)
        status = vlci_patch_assemble(&t->compute->patch, t->norm, t->vit->class_embedding,
                                     t->vit->position_embedding, t->x, t->tiles, patches, c->hidden);
    if (!status && c->pre_norm)
        status = vlci_norm_run(&t->compute->norm, t->x, 0, &t->vit->pre_norm, t->x, t->rows, c->hidden,
                               c->norm_eps);
    vlci_memory_release(t->device, &uploaded);
    return status;
}

/* In which form q, k and v go to attention, and what it makes of them to the product behind it. */
static vlci_form form_within(const tower *t, const vlci_vit_layer *layer) {
    const vlci_attention_kernels *attention = &t->vit->attention;
    bool stripes = vlci_attention_takes_stripes(attention) && layer->qkv.dtype == attention->shape.rounded &&
                   vlci_product_form(t->compute, &layer->qkv, &layer->out, t->rows) == VLCI_STRIPES;
    return stripes ? VLCI_STRIPES : VLCI_FLOATS;
}

/* q, k and v of all rows, side by side. */
static vlcache_status project(tower *t, const vlci_vit_layer *layer) {
    const vlci_product qkv = {.w = &layer->qkv,
                              .x = t->x,
                              .norm = &layer->norm1,
                              .eps = t->config->norm_eps,
                              .brought = t->norm,
                              .y = t->qkv,
                              .y_form = form_within(t, layer),
                              .m = t->rows};
    return vlci_product_run(t->compute, &qkv);
}

/* One of q, k and v alone, normed where `norm` is one. */
static vlcache_status project_one(tower *t, const vlci_vit_layer *layer, const vlci_matrix *w,
                                  const vlci_norm *norm, cl_mem y) {
    const vlci_product product = {.w = w,
                                  .x = t->x,
                                  .norm = &layer->norm1,
                                  .eps = t->config->norm_eps,
                                  .brought = t->norm,
                                  .y = y,
                                  .m = t->rows};
    vlcache_status status = vlci_product_run(t->compute, &product);
    if (status || !norm) return status;
    return vlci_norm_run(&t->compute->norm, y, 0, norm, y, t->rows, w->n, 1e-6f);
}

static vlcache_status project_apart(tower *t, const vlci_vit_layer *layer) {
    vlcache_status status = project_one(t, layer, &layer->q, &layer->q_norm, t->qkv);
    if (!status) status = project_one(t, layer, &layer->k, &layer->k_norm, t->k);
    return status ? status : project_one(t, layer, &layer->v, NULL, t->v);
}

static vlcache_status attend(tower *t, vlci_form form) {
    const vlci_vit_config *c = t->config;
    size_t inner = (size_t)c->heads * (size_t)c->head_dim, row = c->qk_norm ? inner : 3 * inner;
    vlci_attention a = {.batch = t->tiles,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv = {.dtype = VLCACHE_DTYPE_F32,
                               .k = c->qk_norm ? t->k : t->qkv,
                               .v = c->qk_norm ? t->v : t->qkv,
                               .k_offset = c->qk_norm ? 0 : inner,
                               .v_offset = c->qk_norm ? 0 : 2 * inner,
                               .seq_stride = (size_t)t->per_tile * row,
                               .head_stride = (size_t)c->head_dim,
                               .row_stride = row},
                        .q_stride = row,
                        .q_rows = form == VLCI_STRIPES ? VLCI_STRIPE_ROWS(t->rows) : 0,
                        .out_rows = form == VLCI_STRIPES ? t->rows : 0,
                        .max_rows = t->per_tile,
                        .q = t->qkv,
                        .out = t->attended,
                        .seq_start = t->seq_start};
    return vlci_attention_run(&t->vit->attention, &a);
}

static vlcache_status run_layer(tower *t, const vlci_vit_layer *layer) {
    const vlci_vit_config *c = t->config;
    vlci_form form = vlci_product_form(t->compute, &layer->fc1, &layer->fc2, t->rows);
    const vlci_form within = form_within(t, layer);
    const vlci_product out = {.w = &layer->out,
                              .x = t->attended,
                              .x_form = within,
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
    vlcache_status status = c->qk_norm ? project_apart(t, layer) : project(t, layer);
    if (!status) status = attend(t, within);
    if (!status) status = vlci_product_run(t->compute, &out);
    if (!status) status = vlci_product_run(t->compute, &fc1);
    return status ? status : vlci_product_run(t->compute, &fc2);
}

vlcache_status vlci_vit_run(const vlci_vit *vit, const vlci_pixels *pixels, cl_mem *features) {
    *features = NULL;
    const vlci_vit_config *c = &vit->config;
    tower t = {.vit = vit,
               .compute = vit->compute,
               .device = vit->compute->device,
               .config = c,
               .tiles = pixels->tiles,
               .per_tile = vlci_vit_rows(c)};
    t.rows = t.tiles * t.per_tile;
    vlcache_status status = tower_create(&t);
    if (!status) status = embed_patches(&t, pixels);
    for (int i = 0; i < c->run_layers && !status; i++) status = run_layer(&t, &vit->layer[i]);
    if (!status && c->post_norm)
        status =
            vlci_norm_run(&t.compute->norm, t.x, 0, &vit->post_norm, t.x, t.rows, c->hidden, c->norm_eps);
    if (!status) {
        *features = t.x;
        t.x = NULL;
    }
    tower_release(&t);
    return status;
}

vlcache_status vlci_vit_select(const vlci_vit *vit, cl_mem features, int tiles, bool keep_class, int *rows,
                               cl_mem *out) {
    int all = vlci_vit_rows(&vit->config), first = keep_class ? 0 : vit->config.class_token, n = 0;
    *rows = tiles * (all - first);
    *out = NULL;
    int32_t *source = vlci_alloc((size_t)*rows, sizeof *source);
    if (!source) return vlci_fail_memory("row index");
    for (int tile = 0; tile < tiles; tile++)
        for (int row = first; row < all; row++) source[n++] = tile * all + row;
    vlcache_status status = vlci_gather(vit->compute, features, NULL, source, *rows, vit->config.hidden, out);
    vlci_free(source);
    return status;
}

vlcache_status vlci_vit_shuffle(const vlci_vit *vit, cl_mem features, int tiles, int factor, cl_mem *out) {
    int side = vlci_vit_side(&vit->config), all = vlci_vit_rows(&vit->config), n = 0;
    int squares = side / factor;
    *out = NULL;
    int32_t *source = vlci_alloc((size_t)tiles * (size_t)side, (size_t)side * sizeof *source);
    if (!source) return vlci_fail_memory("row index");
    for (int i = 0; i < tiles * squares * squares; i++) {
        int tile = i / (squares * squares), y = i / squares % squares * factor, x = i % squares * factor;
        for (int k = 0; k < factor * factor; k++)
            source[n++] = tile * all + vit->config.class_token + (y + k / factor) * side + x + k % factor;
    }
    vlcache_status status = vlci_gather(vit->compute, features, NULL, source, n, vit->config.hidden, out);
    vlci_free(source);
    return status;
}
