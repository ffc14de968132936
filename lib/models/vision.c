/*
 * vision.c - the CLIP vision transformer.
 *
 *     x = LN([class | patches W] + position)
 *     each layer: x += out(attention(qkv(LN(x))))      x += fc2(act(fc1(LN(x))))
 */
#include "models/vision.h"

#include <math.h>

#include "compute/attention.h"
#include "compute/ops.h"
#include "core/alloc.h"

/* Scratch of one run; rows = tiles * (1 + patches). */
typedef struct tower {
    const vlcache_model *model;
    vlcache_device *device;
    const vlci_vision_config *config;
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

static vlcache_status tower_create(tower *t) {
    const vlci_vision_config *c = t->config;
    int inner = c->heads * c->head_dim;
    int wide = c->intermediate > 3 * c->patch_size * c->patch_size ? c->intermediate
                                                                   : 3 * c->patch_size * c->patch_size;
    vlcache_status status = create_rows(t, c->hidden, &t->x);
    if (!status) status = create_rows(t, c->hidden, &t->norm);
    if (!status) status = create_rows(t, 3 * inner, &t->qkv);
    if (!status) status = create_rows(t, inner, &t->attended);
    if (!status) status = create_rows(t, wide, &t->inner);
    if (!status) status = create_starts(t);
    return status;
}

static vlcache_status embed_patches(tower *t, const float *pixels) {
    const vlci_vision_config *c = t->config;
    size_t bytes = (size_t)t->tiles * 3 * (size_t)c->image_size * (size_t)c->image_size * sizeof(float);
    cl_mem uploaded = NULL;
    int patches = t->tiles * t->per_tile;
    vlcache_status status = vlci_memory_create(t->device, bytes, "pixels", &uploaded);
    if (!status) status = vlci_write(t->device, uploaded, 0, pixels, bytes);
    if (!status)
        status = vlci_patchify(t->device, uploaded, t->inner, t->tiles, c->image_size, c->patch_size);
    if (!status)
        status =
            vlci_gemm(t->device, &t->model->patch, t->inner, 0, t->norm, 0, patches, VLCI_ACT_NONE, false);
    if (!status)
        status = vlci_assemble(t->device, t->norm, t->model->class_embedding, t->model->position_embedding,
                               t->x, t->tiles, t->per_tile, c->hidden);
    if (!status)
        status = vlci_norm_rows(t->device, t->x, &t->model->pre_norm, t->x, t->rows, c->hidden, c->norm_eps);
    vlci_memory_release(t->device, &uploaded);
    return status;
}

static vlcache_status attend(tower *t) {
    const vlci_vision_config *c = t->config;
    size_t inner = (size_t)c->heads * (size_t)c->head_dim;
    vlci_attention a = {.batch = t->tiles,
                        .heads = c->heads,
                        .kv_heads = c->heads,
                        .head_dim = c->head_dim,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv_dtype = VLCACHE_DTYPE_F32,
                        .k_offset = inner,
                        .v_offset = 2 * inner,
                        .seq_stride = (size_t)(t->per_tile + 1) * 3 * inner,
                        .head_stride = (size_t)c->head_dim,
                        .row_stride = 3 * inner,
                        .q_stride = 3 * inner,
                        .max_rows = t->per_tile + 1,
                        .q = t->qkv,
                        .k = t->qkv,
                        .v = t->qkv,
                        .out = t->attended,
                        .seq_start = t->seq_start};
    return vlci_attention_run(t->device, &a);
}

static vlcache_status run_layer(tower *t, const vlci_vision_layer *layer) {
    const vlci_vision_config *c = t->config;
    vlcache_device *d = t->device;
    vlcache_status status = vlci_norm_rows(d, t->x, &layer->norm1, t->norm, t->rows, c->hidden, c->norm_eps);
    if (!status) status = vlci_gemm(d, &layer->qkv, t->norm, 0, t->qkv, 0, t->rows, VLCI_ACT_NONE, false);
    if (!status) status = attend(t);
    if (!status) status = vlci_gemm(d, &layer->out, t->attended, 0, t->x, 0, t->rows, VLCI_ACT_NONE, true);
    if (!status) status = vlci_norm_rows(d, t->x, &layer->norm2, t->norm, t->rows, c->hidden, c->norm_eps);
    if (!status) status = vlci_gemm(d, &layer->fc1, t->norm, 0, t->inner, 0, t->rows, c->act, false);
    if (!status) status = vlci_gemm(d, &layer->fc2, t->inner, 0, t->x, 0, t->rows, VLCI_ACT_NONE, true);
    return status;
}

vlcache_status vlci_vision_run(const vlcache_model *model, const float *pixels, int tiles, cl_mem *features) {
    *features = NULL;
    const vlci_vision_config *c = &model->config.vision;
    int side = c->image_size / c->patch_size;
    tower t = {.model = model, .device = model->device, .config = c, .tiles = tiles, .per_tile = side * side};
    t.rows = tiles * (t.per_tile + 1);
    vlcache_status status = tower_create(&t);
    if (!status) status = embed_patches(&t, pixels);
    for (int i = 0; i < c->run_layers && !status; i++) status = run_layer(&t, &model->vision[i]);
    if (!status) {
        *features = t.x;
        t.x = NULL;
    }
    tower_release(&t);
    return status;
}
