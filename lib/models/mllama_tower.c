/*
 * mllama_tower.c - the vision transformer of Llama 3.2 Vision: weights, and the run.
 *
 * Rows of a run: [tiles][class | patches], then the padding behind the patches of each tile,
 * [tiles][padding]. So those that are no padding come first, and a tile's states lie where they are wanted.
 */
#include "models/mllama_tower.h"

#include <math.h>
#include <stdio.h>

#include "compute/product.h"
#include "core/alloc.h"

static const char root[] = "vision_model.";
enum { PREFIX = 96, MULTIPLE = 8 /* of rows of a tile with its padding */ };

int vlci_mllama_side(const vlci_mllama_tower_config *c) {
    return c->image_size / c->patch_size;
}

int vlci_mllama_rows(const vlci_mllama_tower_config *c) {
    return 1 + vlci_mllama_side(c) * vlci_mllama_side(c);
}

int vlci_mllama_width(const vlci_mllama_tower_config *c) {
    return c->hidden * (1 + c->n_taken);
}

/* Rows of padding behind those of a tile. */
static int padding_of(const vlci_mllama_tower_config *c) {
    return (MULTIPLE - vlci_mllama_rows(c) % MULTIPLE) % MULTIPLE;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load_gate(vlci_upload *up, const char *prefix, const char *name, cl_mem *out) {
    const size_t one = 1;
    return vlci_upload_vector(up, prefix, name, 1, &one, out);
}

static vlcache_status load_table(vlci_upload *up, const vlci_mllama_tower_config *c, const char *name,
                                 size_t width, cl_mem *out) {
    const size_t dims[2] = {(size_t)c->shapes + 1, width};
    return vlci_upload_vector(up, root, name, 2, dims, out);
}

static vlcache_status load_layer(vlci_upload *up, const vlci_mllama_tower_config *c, const char *prefix,
                                 bool gated, vlci_mllama_layer *layer) {
    int h = c->hidden, inner = c->heads * c->head_dim;
    vlcache_status status = vlci_upload_norm(up, prefix, "input_layernorm", h, true, &layer->norm1);
    if (!status)
        status = vlci_upload_matrix(up, prefix,
                                    VLCI_PARTS({"self_attn.q_proj", inner}, {"self_attn.k_proj", inner},
                                               {"self_attn.v_proj", inner}),
                                    h, false, &layer->qkv);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"self_attn.o_proj", h}), inner, false, &layer->out);
    if (!status) status = vlci_upload_norm(up, prefix, "post_attention_layernorm", h, true, &layer->norm2);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.fc1", c->intermediate}), h, true, &layer->fc1);
    if (!status)
        status =
            vlci_upload_matrix(up, prefix, VLCI_PARTS({"mlp.fc2", h}), c->intermediate, true, &layer->fc2);
    if (!status && gated) status = load_gate(up, prefix, "gate_attn", &layer->attend_gate);
    return status || !gated ? status : load_gate(up, prefix, "gate_ffn", &layer->think_gate);
}

static vlcache_status load_layers(vlci_upload *up, const vlci_mllama_tower_config *c, vlci_mllama_tower *t) {
    vlcache_status status = VLCACHE_OK;
    t->layer = vlci_calloc((size_t)c->layers + (size_t)c->global_layers, sizeof *t->layer);
    if (!t->layer) return vlci_fail_memory("vision layers");
    for (int i = 0; i < c->layers + c->global_layers && !status; i++) {
        bool global = i >= c->layers;
        char prefix[PREFIX];
        snprintf(prefix, sizeof prefix, "%s%s.layers.%d.", root,
                 global ? "global_transformer" : "transformer", global ? i - c->layers : i);
        status = load_layer(up, c, prefix, global, &t->layer[i]);
    }
    return status;
}

/* The table of positions, scaled once for all. */
static vlcache_status load_position(vlci_upload *up, const vlci_mllama_tower_config *c,
                                    vlci_mllama_tower *t) {
    size_t rows = (size_t)vlci_mllama_rows(c), hidden = (size_t)c->hidden, dims[2] = {rows, hidden};
    cl_mem stored = NULL;
    vlcache_status status = load_gate(up, root, "gated_positional_embedding.gate", &t->position_gate);
    if (!status)
        status = vlci_upload_vector(up, root, "gated_positional_embedding.embedding", 2, dims, &stored);
    if (!status && up->device) {
        size_t bytes = rows * hidden * sizeof(float);
        status = vlci_memory_create(up->device, bytes, "vision positions", &t->position);
        if (!status) status = vlci_fill(up->device, t->position, 0, bytes, 0);
        const vlci_gate_rows all = {
            .x = t->position, .rows = (int)rows, .n = c->hidden, .gate = t->position_gate};
        const vlci_gate_entries each = {.table = stored, .each = 1, .turn = (int)rows};
        if (!status) status = vlci_gate_table(&t->gate, &all, &each, true);
        vlci_memory_release(up->device, &stored);
    }
    return status;
}

static vlcache_status load_embeddings(vlci_upload *up, const vlci_mllama_tower_config *c,
                                      vlci_mllama_tower *t) {
    size_t hidden = (size_t)c->hidden, p = (size_t)c->patch_size, tiles = (size_t)c->tiles * hidden;
    const size_t kernel[4] = {hidden, 3, p, p};
    vlcache_status status = vlci_upload_kernel(up, root, "patch_embedding", 4, kernel, c->hidden,
                                               3 * c->patch_size * c->patch_size, false, &t->patch);
    if (!status) status = vlci_upload_vector(up, root, "class_embedding", 1, &hidden, &t->class_embedding);
    if (!status) status = load_position(up, c, t);
    if (!status)
        status = load_table(up, c, "gated_positional_embedding.tile_embedding.weight",
                            tiles * (size_t)vlci_mllama_rows(c), &t->positions);
    if (!status) status = load_gate(up, root, "pre_tile_positional_embedding.gate", &t->before_gate);
    if (!status)
        status = load_table(up, c, "pre_tile_positional_embedding.embedding.weight", tiles, &t->before);
    if (!status) status = load_gate(up, root, "post_tile_positional_embedding.gate", &t->behind_gate);
    if (!status)
        status = load_table(up, c, "post_tile_positional_embedding.embedding.weight", tiles, &t->behind);
    if (!status) status = vlci_upload_norm(up, root, "layernorm_pre", c->hidden, true, &t->norm_before);
    return status ? status : vlci_upload_norm(up, root, "layernorm_post", c->hidden, true, &t->norm_behind);
}

vlcache_status vlci_mllama_tower_load(vlci_upload *up, const vlci_mllama_tower_config *config,
                                      vlci_mllama_tower *t) {
    *t = (vlci_mllama_tower){.config = *config, .compute = up->compute};
    vlci_attention_shape shape = {.heads = config->heads,
                                  .kv_heads = config->heads,
                                  .head_dim = config->head_dim,
                                  .kv_dtype = VLCACHE_DTYPE_F32};
    vlcache_status status = up->device ? vlci_gate_open(up->device, &t->gate) : VLCACHE_OK;
    if (!status) status = load_embeddings(up, config, t);
    if (!status) status = load_layers(up, config, t);
    if (!status) shape.rounded = t->layer[0].qkv.dtype; /* no finer than what made them */
    if (!status && up->device) status = vlci_attention_open(up->device, &shape, &t->attention);
    return status;
}

static void layer_release(vlcache_device *device, vlci_mllama_layer *layer) {
    vlci_norm_release(device, &layer->norm1);
    vlci_norm_release(device, &layer->norm2);
    vlci_matrix *const matrices[] = {&layer->qkv, &layer->out, &layer->fc1, &layer->fc2};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) vlci_matrix_release(device, matrices[i]);
    vlci_memory_release(device, &layer->attend_gate);
    vlci_memory_release(device, &layer->think_gate);
}

void vlci_mllama_tower_release(vlci_mllama_tower *t) {
    vlcache_device *device = t->compute ? t->compute->device : NULL;
    cl_mem *const tables[] = {&t->class_embedding, &t->position, &t->position_gate, &t->positions,
                              &t->before_gate,     &t->before,   &t->behind_gate,   &t->behind};
    for (int i = 0; device && t->layer && i < t->config.layers + t->config.global_layers; i++)
        layer_release(device, &t->layer[i]);
    for (size_t i = 0; device && i < sizeof tables / sizeof *tables; i++)
        vlci_memory_release(device, tables[i]);
    if (device) {
        vlci_matrix_release(device, &t->patch);
        vlci_norm_release(device, &t->norm_before);
        vlci_norm_release(device, &t->norm_behind);
    }
    vlci_free(t->layer);
    *t = (vlci_mllama_tower){0};
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Scratch of one run. */
typedef struct run {
    const vlci_mllama_tower *tower;
    const vlci_compute *compute;
    vlcache_device *device;
    const vlci_mllama_tower_config *config;
    int seen, shape;   /* tiles of the picture; which shape it is of */
    int per_tile, all; /* rows of a tile; of all tiles, without the padding behind their patches */
    int real, rows;    /* rows that are no padding: the first; with all padding */
    cl_mem x, norm, qkv, attended, inner, summed, states;
    cl_mem starts[2]; /* of rows that are no padding, and of padding: first, end */
} run;

static void run_release(run *r) {
    cl_mem *all[] = {&r->x,      &r->norm,   &r->qkv,       &r->attended, &r->inner,
                     &r->summed, &r->states, &r->starts[0], &r->starts[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(r->device, all[i]);
}

static vlcache_status create_rows(const run *r, int rows, int width, cl_mem *out) {
    size_t bytes = (size_t)rows * (size_t)width * sizeof(float);
    return vlci_memory_create(r->device, bytes, "vision activations", out);
}

static vlcache_status create_operand(const run *r, int width, cl_mem *out) {
    return vlci_memory_create(r->device, vlci_operand_bytes(r->rows, width), "vision activations", out);
}

static vlcache_status create_starts(run *r) {
    const cl_int start[2][2] = {{0, r->real}, {r->real, r->rows}};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = vlci_memory_create(r->device, sizeof start[i], "row starts", &r->starts[i]);
        if (!status) status = vlci_write(r->device, r->starts[i], 0, start[i], sizeof start[i]);
    }
    return status;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static vlcache_status run_create(run *r) {
    const vlci_mllama_tower_config *c = r->config;
    int inner = c->heads * c->head_dim, patch = 3 * c->patch_size * c->patch_size;
    vlcache_status status = create_rows(r, r->rows, c->hidden, &r->x);
    if (!status) status = create_operand(r, larger(larger(c->hidden, inner), c->intermediate), &r->norm);
    if (!status) status = create_rows(r, r->rows, 3 * inner, &r->qkv);
    if (!status) status = create_operand(r, larger(inner, patch), &r->attended);
    if (!status) status = create_operand(r, larger(c->intermediate, patch), &r->inner);
    if (!status) status = create_rows(r, r->rows, c->hidden, &r->summed);
    if (!status) status = create_rows(r, r->all, vlci_mllama_width(c), &r->states);
    return status ? status : create_starts(r);
}

/* The pixels' tiles and, where the picture has fewer, tiles of zeros. */
static vlcache_status upload_pixels(run *r, const vlci_pixels *pixels, cl_mem *out) {
    const vlci_mllama_tower_config *c = r->config;
    size_t tile = 3 * (size_t)c->image_size * (size_t)c->image_size * sizeof(float);
    size_t bytes = (size_t)c->tiles * tile, seen = (size_t)r->seen * tile;
    vlcache_status status = vlci_memory_create(r->device, bytes, "pixels", out);
    if (!status) status = vlci_write(r->device, *out, 0, pixels->data, seen);
    if (!status && seen < bytes) status = vlci_fill(r->device, *out, seen, bytes - seen, 0);
    return status;
}

/* Entries of the picture's shape in a table with one for each tile, of rows of `each` rows a tile. */
static vlci_gate_entries of_tiles(const run *r, cl_mem table, int each) {
    return (vlci_gate_entries){
        .table = table, .from = r->shape * r->config->tiles, .each = each, .turn = r->config->tiles};
}

/* Patches to rows; what tiles have in common is added before the class token is there. */
static vlcache_status embed_patches(run *r, const vlci_pixels *pixels) {
    const vlci_mllama_tower_config *c = r->config;
    int patches = r->per_tile - 1, n = c->tiles * patches;
    cl_mem uploaded = NULL;
    vlcache_status status = upload_pixels(r, pixels, &uploaded);
    if (!status)
        status =
            vlci_patch_split(&r->compute->patch, uploaded, r->inner, c->tiles, c->image_size, c->patch_size);
    const vlci_product product = {
        .w = &r->tower->patch, .x = r->inner, .brought = r->attended, .y = r->summed, .m = n};
    if (!status) status = vlci_product_run(r->compute, &product);
    const vlci_gate_rows rows = {.x = r->summed, .rows = n, .n = c->hidden, .gate = r->tower->before_gate};
    const vlci_gate_entries entries = of_tiles(r, r->tower->before, patches);
    if (!status) status = vlci_gate_table(&r->tower->gate, &rows, &entries, false);
    if (!status)
        status = vlci_patch_assemble(&r->compute->patch, r->summed, r->tower->class_embedding,
                                     r->tower->position, r->x, c->tiles, patches, c->hidden);
    vlci_memory_release(r->device, &uploaded);
    return status;
}

/* The first rows: embedded, positioned, normed, with their padding. */
static vlcache_status begin(run *r, const vlci_pixels *pixels) {
    const vlci_mllama_tower *t = r->tower;
    size_t row = (size_t)r->config->hidden * sizeof(float);
    const vlci_gate_rows rows = {.x = r->x, .rows = r->all, .n = r->config->hidden, .gate = t->position_gate};
    const vlci_gate_entries entries = {
        .table = t->positions, .from = r->shape * r->all, .each = 1, .turn = r->all};
    vlcache_status status = embed_patches(r, pixels);
    if (!status) status = vlci_gate_table(&t->gate, &rows, &entries, false);
    if (!status)
        status = vlci_norm_run(&r->compute->norm, r->x, 0, &t->norm_before, r->x, r->all, r->config->hidden,
                               r->config->norm_eps);
    if (status || r->rows == r->all) return status;
    return vlci_fill(r->device, r->x, (size_t)r->all * row, (size_t)(r->rows - r->all) * row, 0);
}

/* n queries, those of starts[which], see the first `keys` rows. */
static vlcache_status attend_some(run *r, int which, int n, int keys) {
    const vlci_mllama_tower_config *c = r->config;
    size_t inner = (size_t)c->heads * (size_t)c->head_dim;
    vlci_attention a = {.batch = 1,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv = {.dtype = VLCACHE_DTYPE_F32,
                               .k = r->qkv,
                               .v = r->qkv,
                               .ahead = keys - n,
                               .k_offset = inner,
                               .v_offset = 2 * inner,
                               .head_stride = (size_t)c->head_dim,
                               .row_stride = 3 * inner},
                        .q_stride = 3 * inner,
                        .max_rows = n,
                        .q = r->qkv,
                        .out = r->attended,
                        .seq_start = r->starts[which]};
    return n ? vlci_attention_run(&r->tower->attention, &a) : VLCACHE_OK;
}

/* x += G out(attention(qkv(LN(x)))) */
static vlcache_status attend(run *r, const vlci_mllama_layer *layer) {
    const vlci_product qkv = {.w = &layer->qkv,
                              .x = r->x,
                              .norm = &layer->norm1,
                              .eps = r->config->norm_eps,
                              .brought = r->norm,
                              .y = r->qkv,
                              .m = r->rows},
                       out = {.w = &layer->out,
                              .x = r->attended,
                              .brought = r->norm,
                              .y = r->summed,
                              .m = r->rows};
    const vlci_gate_rows sum = {
        .x = r->x, .rows = r->rows, .n = r->config->hidden, .gate = layer->attend_gate};
    vlcache_status status = vlci_product_run(r->compute, &qkv);
    if (!status) status = attend_some(r, 0, r->real, r->rows);
    if (!status) status = attend_some(r, 1, r->rows - r->real, r->real);
    if (!status) status = vlci_product_run(r->compute, &out);
    return status ? status : vlci_gate_add(&r->tower->gate, &sum, r->summed, NULL, 0);
}

/* x += G fc2(act(fc1(LN(x)))) */
static vlcache_status think(run *r, const vlci_mllama_layer *layer) {
    vlci_form form = vlci_product_form(r->compute, &layer->fc1, &layer->fc2, r->rows);
    const vlci_product fc1 = {.w = &layer->fc1,
                              .x = r->x,
                              .norm = &layer->norm2,
                              .eps = r->config->norm_eps,
                              .brought = r->norm,
                              .act = r->config->act,
                              .y = r->inner,
                              .y_form = form,
                              .m = r->rows},
                       fc2 = {.w = &layer->fc2,
                              .x = r->inner,
                              .x_form = form,
                              .brought = r->norm,
                              .y = r->summed,
                              .m = r->rows};
    const vlci_gate_rows sum = {
        .x = r->x, .rows = r->rows, .n = r->config->hidden, .gate = layer->think_gate};
    vlcache_status status = vlci_product_run(r->compute, &fc1);
    if (!status) status = vlci_product_run(r->compute, &fc2);
    return status ? status : vlci_gate_add(&r->tower->gate, &sum, r->summed, NULL, 0);
}

/* The local layers; what is taken of them goes beside x's place in the states. */
static vlcache_status run_local(run *r) {
    const vlci_mllama_tower_config *c = r->config;
    vlcache_status status = VLCACHE_OK;
    for (int i = 0, taken = 0; i < c->layers && !status; i++) {
        status = attend(r, &r->tower->layer[i]);
        if (!status) status = think(r, &r->tower->layer[i]);
        if (status || taken == c->n_taken || c->taken[taken] != i) continue;
        status = vlci_gate_put(&r->tower->gate, r->x, r->all, c->hidden, r->states, vlci_mllama_width(c),
                               c->hidden + taken++, c->n_taken);
    }
    return status;
}

/* LN, and what tells tiles apart from here on; padding behind a tile's patches is the tile's. */
static vlcache_status between(run *r) {
    const vlci_mllama_tower *t = r->tower;
    int hidden = r->config->hidden, padding = padding_of(r->config);
    const vlci_gate_rows rows = {.x = r->x, .rows = r->all, .n = hidden, .gate = t->behind_gate},
                         rest = {.x = r->x,
                                 .first = r->all,
                                 .rows = r->rows - r->all,
                                 .n = hidden,
                                 .gate = t->behind_gate};
    const vlci_gate_entries of_rows = of_tiles(r, t->behind, r->per_tile),
                            of_rest = of_tiles(r, t->behind, padding);
    vlcache_status status = vlci_norm_run(&r->compute->norm, r->x, 0, &t->norm_behind, r->x, r->rows, hidden,
                                          r->config->norm_eps);
    if (!status) status = vlci_gate_table(&t->gate, &rows, &of_rows, false);
    return status || !padding ? status : vlci_gate_table(&t->gate, &rest, &of_rest, false);
}

static vlcache_status run_global(run *r) {
    const vlci_mllama_tower_config *c = r->config;
    vlcache_status status = between(r);
    for (int i = c->layers; i < c->layers + c->global_layers && !status; i++) {
        status = attend(r, &r->tower->layer[i]);
        if (!status) status = think(r, &r->tower->layer[i]);
    }
    return status ? status
                  : vlci_gate_put(&r->tower->gate, r->x, r->all, c->hidden, r->states, vlci_mllama_width(c),
                                  0, 1);
}

vlcache_status vlci_mllama_tower_run(const vlci_mllama_tower *tower, const vlci_pixels *pixels, int shape,
                                     cl_mem *states) {
    const vlci_mllama_tower_config *c = &tower->config;
    run r = {.tower = tower,
             .compute = tower->compute,
             .device = tower->compute->device,
             .config = c,
             .seen = pixels->tiles,
             .shape = shape,
             .per_tile = vlci_mllama_rows(c)};
    r.all = c->tiles * r.per_tile;
    r.real = r.seen * r.per_tile;
    r.rows = r.all + c->tiles * padding_of(c);
    *states = NULL;
    vlcache_status status = run_create(&r);
    if (!status) status = begin(&r, pixels);
    if (!status) status = run_local(&r);
    if (!status) status = run_global(&r);
    if (!status) {
        *states = r.states;
        r.states = NULL;
    }
    run_release(&r);
    return status;
}
