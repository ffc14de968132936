/*
 * qwen_tower.c - Qwen's vision transformers: weights, and the run.
 *
 *     x = patches W (+ b) (+ table)
 *     each layer: x += out(attention(turn(qkv(norm(x)))))     x += second(act(first(norm(x)))), or gated
 *     tokens = second(gelu(first(norm(x))))                    over the merge^2 rows of a token
 *
 * Products go over a part of the rows at a time, so that what they need beside x, q, k and v is bounded
 * however large a picture is.
 */
#include "models/qwen_tower.h"

#include <math.h>
#include <stdio.h>

#include "compute/product.h"
#include "core/alloc.h"

enum { PART_TOKENS = 2048 };

static const float eps = 1e-6f; /* of all norms; no file says it */

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load_merger(vlci_upload *up, const vlci_qwen_tower_config *c, const char *prefix,
                                  const char *const names[3], int norm_width, bool rms,
                                  vlci_qwen_merger *out) {
    int wide = c->merge * c->merge * c->hidden;
    vlcache_status status = vlci_upload_norm(up, prefix, names[0], norm_width, !rms, &out->norm);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({names[1], wide}), wide, true, &out->first);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({names[2], c->out}), wide, true, &out->second);
    return status;
}

static vlcache_status load_mergers(vlci_upload *up, vlci_qwen_tower *t) {
    const vlci_qwen_tower_config *c = &t->config;
    vlcache_status status =
        load_merger(up, c, "visual.merger.", c->form->merger, c->hidden, c->form->rms, &t->merger);
    for (int i = 0; i < c->n_deep && !status; i++) {
        char prefix[80];
        snprintf(prefix, sizeof prefix, "%s%d.", c->form->deep[0], i);
        status = load_merger(up, c, prefix, c->form->deep + 1, c->merge * c->merge * c->hidden, false,
                             &t->deep[i]);
    }
    return status;
}

static vlcache_status load_mlp(vlci_upload *up, const vlci_qwen_tower_config *c, const char *prefix,
                               vlci_qwen_layer *layer) {
    const char *const *names = c->form->mlp;
    int n = c->intermediate;
    vlcache_status status =
        names[2] ? vlci_upload_matrix(up, prefix, VLCI_PARTS({names[0], n}, {names[2], n}), c->hidden, true,
                                      &layer->first)
                 : vlci_upload_matrix(up, prefix, VLCI_PARTS({names[0], n}), c->hidden, true, &layer->first);
    return status
               ? status
               : vlci_upload_matrix(up, prefix, VLCI_PARTS({names[1], c->hidden}), n, true, &layer->second);
}

static vlcache_status load_layer(vlci_upload *up, const vlci_qwen_tower_config *c, int i,
                                 vlci_qwen_layer *layer) {
    char prefix[80];
    snprintf(prefix, sizeof prefix, "visual.blocks.%d.", i);
    int h = c->hidden;
    vlcache_status status = vlci_upload_norm(up, prefix, "norm1", h, !c->form->rms, &layer->norm1);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"attn.qkv", 3 * h}), h, true, &layer->qkv);
    if (!status) status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"attn.proj", h}), h, true, &layer->out);
    if (!status) status = vlci_upload_norm(up, prefix, "norm2", h, !c->form->rms, &layer->norm2);
    return status ? status : load_mlp(up, c, prefix, layer);
}

/* The convolution is a matrix: its kernel [hidden][3][step][p][p] read as rows. */
static vlcache_status load_embedding(vlci_upload *up, vlci_qwen_tower *t) {
    const vlci_qwen_tower_config *c = &t->config;
    size_t p = (size_t)c->patch, hidden = (size_t)c->hidden, side = (size_t)c->side;
    size_t kernel[5] = {hidden, 3, (size_t)c->step, p, p}, table[2] = {side * side, hidden};
    vlcache_status status =
        vlci_upload_kernel(up, "visual.", "patch_embed.proj", 5, kernel, c->hidden,
                           3 * c->step * c->patch * c->patch, c->form->patch_bias, &t->patch);
    if (!status && c->side)
        status = vlci_upload_vector(up, "visual.", "pos_embed.weight", 2, table, &t->table);
    return status;
}

/* A quarter of a head turns by the row, a quarter by the column, both with the same frequencies; the other
 * half are their partners. */
static vlcache_status create_frequencies(vlci_upload *up, vlci_qwen_tower *t) {
    size_t half = (size_t)t->config.head_dim / 2, quarter = half / 2;
    float *values = vlci_alloc(half, sizeof *values);
    int32_t *axes = vlci_alloc(half, sizeof *axes);
    vlcache_status status = values && axes ? VLCACHE_OK : vlci_fail_memory("rotary frequencies");
    for (size_t d = 0; d < half && !status; d++) {
        values[d] = (float)pow((double)t->config.theta, -(double)(d % quarter) / (double)quarter);
        axes[d] = d < quarter ? 1 : 2; /* of a place: step, row, column */
    }
    if (!status)
        status = vlci_memory_create(up->device, half * sizeof *values, "rotary frequencies", &t->inv_freq);
    if (!status) status = vlci_write(up->device, t->inv_freq, 0, values, half * sizeof *values);
    if (!status) status = vlci_memory_create(up->device, half * sizeof *axes, "rotary axes", &t->axis);
    if (!status) status = vlci_write(up->device, t->axis, 0, axes, half * sizeof *axes);
    vlci_free(values);
    vlci_free(axes);
    return status;
}

/* What gates leave, as the matrices behind them read it. */
static vlcache_status open_gates(vlci_upload *up, vlci_qwen_tower *t) {
    vlcache_status status = vlci_act_open(up->device, t->config.act, &t->gate);
    for (int i = 0; i < t->config.layers && !status; i++) {
        vlcache_dtype dtype = t->layer[i].second.dtype;
        vlci_form form = vlci_layout_form(vlci_linear_layout(&up->compute->linear, dtype));
        if (form != VLCI_FLOATS && !t->gate_short[dtype].gated)
            status = vlci_act_open_form(up->device, t->config.act, form, dtype, &t->gate_short[dtype]);
    }
    return status;
}

static vlcache_status open_kernels(vlci_upload *up, vlci_qwen_tower *t) {
    const vlci_qwen_tower_config *c = &t->config;
    const vlci_attention_shape shape = {.heads = c->heads,
                                        .kv_heads = c->heads,
                                        .head_dim = c->head_dim,
                                        .kv_dtype = VLCACHE_DTYPE_F32,
                                        .rounded = t->layer[0].qkv.dtype}; /* no finer than what made them */
    vlcache_status status = vlci_attention_open(up->device, &shape, &t->attention);
    if (!status) status = vlci_rope_open(up->device, VLCACHE_DTYPE_F32, &t->rope);
    return status || !c->form->mlp[2] ? status : open_gates(up, t);
}

vlcache_status vlci_qwen_tower_load(vlci_upload *up, const vlci_qwen_tower_config *config,
                                    vlci_qwen_tower *t) {
    *t = (vlci_qwen_tower){.config = *config, .compute = up->compute};
    t->part = PART_TOKENS * config->merge * config->merge;
    t->layer = vlci_calloc((size_t)config->layers, sizeof *t->layer);
    vlcache_status status = t->layer ? VLCACHE_OK : vlci_fail_memory("vision layers");
    if (!status) status = load_embedding(up, t);
    for (int i = 0; i < config->layers && !status; i++) status = load_layer(up, config, i, &t->layer[i]);
    if (!status) status = load_mergers(up, t);
    if (status || !up->device) return status;
    status = create_frequencies(up, t);
    return status ? status : open_kernels(up, t);
}

static void merger_release(vlcache_device *device, vlci_qwen_merger *merger) {
    vlci_norm_release(device, &merger->norm);
    vlci_matrix_release(device, &merger->first);
    vlci_matrix_release(device, &merger->second);
}

static void layer_release(vlcache_device *device, vlci_qwen_layer *layer) {
    vlci_norm_release(device, &layer->norm1);
    vlci_norm_release(device, &layer->norm2);
    vlci_matrix_release(device, &layer->qkv);
    vlci_matrix_release(device, &layer->out);
    vlci_matrix_release(device, &layer->first);
    vlci_matrix_release(device, &layer->second);
}

void vlci_qwen_tower_release(vlci_qwen_tower *t) {
    if (!t->compute) return;
    vlcache_device *device = t->compute->device;
    for (int i = 0; t->layer && i < t->config.layers; i++) layer_release(device, &t->layer[i]);
    for (int i = 0; i < t->config.n_deep; i++) merger_release(device, &t->deep[i]);
    merger_release(device, &t->merger);
    vlci_matrix_release(device, &t->patch);
    cl_mem *others[] = {&t->table, &t->inv_freq, &t->axis};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) vlci_memory_release(device, others[i]);
    vlci_free(t->layer);
    *t = (vlci_qwen_tower){0};
}

/* ---- the run: memory ----------------------------------------------------------------------------------- */

/* Scratch of one run. Of all rows: x, qkv, attended, phase, place; of a part: brought, inner, wide. */
typedef struct run {
    const vlci_qwen_tower *tower;
    const vlci_qwen_tower_config *c;
    const vlci_compute *compute;
    vlcache_device *device;
    const vlci_qwen_order *order;
    int rows, part, block; /* block: rows of a token */
    cl_mem x, qkv, attended, phase, place, step, window, tokens;
    cl_mem brought, inner, wide;
} run;

static void run_release(run *r) {
    cl_mem *all[] = {&r->x,      &r->qkv,    &r->attended, &r->phase, &r->place, &r->step,
                     &r->window, &r->tokens, &r->brought,  &r->inner, &r->wide};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(r->device, all[i]);
}

static vlcache_status create(const run *r, size_t bytes, cl_mem *out) {
    return vlci_memory_create(r->device, bytes, "vision activations", out);
}

static vlcache_status create_rows(const run *r, int rows, int width, cl_mem *out) {
    return create(r, (size_t)rows * (size_t)width * sizeof(float), out);
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* Room for a part's rows of `width`, or for its tokens' rows that are merged. */
static vlcache_status create_operand(const run *r, int width, cl_mem *out) {
    size_t rows = vlci_operand_bytes(r->part, width);
    size_t tokens = vlci_operand_bytes(r->part / r->block, r->block * r->c->hidden);
    return create(r, rows > tokens ? rows : tokens, out);
}

static vlcache_status upload(const run *r, const void *from, size_t bytes, cl_mem *out) {
    vlcache_status status = create(r, bytes, out);
    return status ? status : vlci_write(r->device, *out, 0, from, bytes);
}

static vlcache_status run_create(run *r) {
    const vlci_qwen_tower_config *c = r->c;
    const vlci_qwen_order *o = r->order;
    int columns = 3 * c->step * c->patch * c->patch, widest = larger(c->intermediate, columns);
    vlcache_status status = create_rows(r, r->rows, c->hidden, &r->x);
    if (!status) status = create_rows(r, r->rows, 3 * c->hidden, &r->qkv);
    if (!status) status = create_rows(r, r->rows, c->hidden, &r->attended);
    if (!status) status = create_rows(r, r->rows, c->head_dim, &r->phase);
    if (!status) status = create_rows(r, (1 + c->n_deep) * o->tokens, c->out, &r->tokens);
    if (!status) status = create_operand(r, larger(widest, c->hidden), &r->brought);
    if (!status) status = create_operand(r, widest, &r->inner);
    if (!status && c->form->mlp[2]) status = create_rows(r, r->part, 2 * c->intermediate, &r->wide);
    if (!status) status = upload(r, o->place, (size_t)o->n * sizeof *o->place, &r->place);
    if (!status) status = upload(r, o->step, ((size_t)o->steps + 1) * sizeof *o->step, &r->step);
    if (!status && o->window)
        status = upload(r, o->window, ((size_t)o->windows + 1) * sizeof *o->window, &r->window);
    return status;
}

/* ---- the run: steps ------------------------------------------------------------------------------------ */

static int rows_of_part(const run *r, int from) {
    return r->rows - from < r->part ? r->rows - from : r->part;
}

static size_t at_row(int row, int width) {
    return (size_t)row * (size_t)width;
}

/* The patches are brought part by part; their places begin where the part does. */
static vlcache_status embed_part(run *r, const vlci_patch_frames *frames, int from) {
    const vlci_qwen_tower_config *c = r->c;
    int m = rows_of_part(r, from);
    vlcache_status status = vlci_patch_at(&r->compute->patch, frames, r->place, from, r->inner, m);
    const vlci_product product = {.w = &r->tower->patch,
                                  .x = r->inner,
                                  .brought = r->brought,
                                  .y = r->x,
                                  .y_offset = at_row(from, c->hidden),
                                  .m = m};
    return status ? status : vlci_product_run(r->compute, &product);
}

static vlcache_status embed(run *r, const vlci_pixels *pixels, const vlci_qwen_grid *grid) {
    const vlci_qwen_tower_config *c = r->c;
    vlci_patch_frames frames = {NULL, pixels->tiles, pixels->height, pixels->width, c->patch, c->step};
    size_t bytes = at_row(pixels->tiles * 3, pixels->height) * (size_t)pixels->width * sizeof(float);
    vlcache_status status = upload(r, pixels->data, bytes, &frames.pixels);
    for (int from = 0; from < r->rows && !status; from += r->part) status = embed_part(r, &frames, from);
    if (!status && r->tower->table)
        status = vlci_patch_table(&r->compute->patch, r->x, r->tower->table, c->side, r->place, r->rows,
                                  grid->rows, grid->columns, c->hidden);
    if (!status)
        status = vlci_rope_phase(&r->tower->rope, r->tower->inv_freq, r->tower->axis, r->place, r->phase,
                                 r->rows, c->head_dim, 1.0f);
    vlci_memory_release(r->device, &frames.pixels);
    return status;
}

static vlcache_status attend(run *r, bool whole) {
    const vlci_qwen_tower_config *c = r->c;
    const vlci_qwen_order *o = r->order;
    size_t hidden = (size_t)c->hidden;
    bool windows = o->window && !whole;
    cl_mem starts = windows ? r->window : r->step;
    vlci_attention a = {.batch = windows ? o->windows : o->steps,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .kv = {.dtype = VLCACHE_DTYPE_F32,
                               .k = r->qkv,
                               .v = r->qkv,
                               .slots = starts,
                               .k_offset = hidden,
                               .v_offset = 2 * hidden,
                               .head_stride = (size_t)c->head_dim,
                               .row_stride = 3 * hidden},
                        .q_stride = 3 * hidden,
                        .max_rows = windows ? o->longest : r->rows / o->steps,
                        .q = r->qkv,
                        .out = r->attended,
                        .seq_start = starts};
    vlcache_status status =
        vlci_rope_turn(&r->tower->rope, r->qkv, 3 * hidden, r->phase, r->rows, 2 * c->heads, c->head_dim);
    return status ? status : vlci_attention_run(&r->tower->attention, &a);
}

static vlcache_status look_part(run *r, const vlci_qwen_layer *w, int from) {
    const vlci_product qkv = {.w = &w->qkv,
                              .x = r->x,
                              .x_offset = at_row(from, r->c->hidden),
                              .norm = &w->norm1,
                              .eps = eps,
                              .brought = r->brought,
                              .y = r->qkv,
                              .y_offset = at_row(from, 3 * r->c->hidden),
                              .m = rows_of_part(r, from)};
    return vlci_product_run(r->compute, &qkv);
}

/* What the MLP's first matrix makes of a part, in the form that the second reads. */
static vlcache_status open_up(run *r, const vlci_qwen_layer *w, int from, vlci_form *form) {
    const vlci_linear *linear = &r->compute->linear;
    bool gated = r->wide != NULL;
    int m = rows_of_part(r, from);
    *form = gated ? vlci_linear_form(linear, w->second.dtype, m)
                  : vlci_product_form(r->compute, &w->first, &w->second, m);
    const vlci_product first = {.w = &w->first,
                                .x = r->x,
                                .x_offset = at_row(from, r->c->hidden),
                                .norm = &w->norm2,
                                .eps = eps,
                                .brought = r->brought,
                                .act = gated ? VLCI_ACT_NONE : r->c->act,
                                .y = gated ? r->wide : r->inner,
                                .y_form = gated ? VLCI_FLOATS : *form,
                                .m = m};
    vlcache_status status = vlci_product_run(r->compute, &first);
    if (status || !gated) return status;
    const vlci_act_kernels *gate =
        *form != VLCI_FLOATS ? &r->tower->gate_short[w->second.dtype] : &r->tower->gate;
    return vlci_act_run(gate, r->wide, r->inner, m, r->c->intermediate);
}

static vlcache_status think_part(run *r, const vlci_qwen_layer *w, int from) {
    vlci_form form;
    size_t at = at_row(from, r->c->hidden);
    int m = rows_of_part(r, from);
    const vlci_product out = {.w = &w->out,
                              .x = r->attended,
                              .x_offset = at,
                              .brought = r->brought,
                              .y = r->x,
                              .y_offset = at,
                              .m = m,
                              .accumulate = true};
    vlcache_status status = vlci_product_run(r->compute, &out);
    if (!status) status = open_up(r, w, from, &form);
    if (status) return status;
    const vlci_product second = {.w = &w->second,
                                 .x = r->inner,
                                 .x_form = form,
                                 .brought = r->brought,
                                 .y = r->x,
                                 .y_offset = at,
                                 .m = m,
                                 .accumulate = true};
    return vlci_product_run(r->compute, &second);
}

static vlcache_status run_layer(run *r, int i) {
    const vlci_qwen_layer *w = &r->tower->layer[i];
    vlcache_status status = VLCACHE_OK;
    for (int from = 0; from < r->rows && !status; from += r->part) status = look_part(r, w, from);
    if (!status) status = attend(r, r->c->whole[i]);
    for (int from = 0; from < r->rows && !status; from += r->part) status = think_part(r, w, from);
    return status;
}

/* ---- the run: mergers ---------------------------------------------------------------------------------- */

/* Into set `set` of the tokens. Set 0 is of the main merger, whose norm is of a patch's row; that of the
 * others is of all rows of a token beside each other. */
static vlcache_status merge_part(run *r, int set, int from) {
    const vlci_qwen_merger *w = set ? &r->tower->deep[set - 1] : &r->tower->merger;
    int m = rows_of_part(r, from), tokens = m / r->block;
    size_t at = at_row(from, r->c->hidden);
    vlci_form form = vlci_product_form(r->compute, &w->first, &w->second, tokens);
    vlcache_status status =
        set ? VLCACHE_OK
            : vlci_norm_run(&r->compute->norm, r->x, at, &w->norm, r->attended, m, r->c->hidden, eps);
    const vlci_product first = {.w = &w->first,
                                .x = set ? r->x : r->attended,
                                .x_offset = set ? at : 0,
                                .norm = set ? &w->norm : NULL,
                                .eps = eps,
                                .brought = r->brought,
                                .act = VLCI_ACT_GELU,
                                .y = r->inner,
                                .y_form = form,
                                .m = tokens},
                       second = {.w = &w->second,
                                 .x = r->inner,
                                 .x_form = form,
                                 .brought = r->brought,
                                 .y = r->tokens,
                                 .y_offset = at_row(set * r->order->tokens + from / r->block, r->c->out),
                                 .m = tokens};
    if (!status) status = vlci_product_run(r->compute, &first);
    return status ? status : vlci_product_run(r->compute, &second);
}

static vlcache_status merge(run *r, int set) {
    vlcache_status status = VLCACHE_OK;
    for (int from = 0; from < r->rows && !status; from += r->part) status = merge_part(r, set, from);
    return status;
}

static vlcache_status run_layers(run *r) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0, deep = 0; i < r->c->layers && !status; i++) {
        status = run_layer(r, i);
        if (!status && deep < r->c->n_deep && r->c->deep[deep] == i) status = merge(r, 1 + deep++);
    }
    return status ? status : merge(r, 0);
}

vlci_qwen_grid vlci_qwen_tower_grid(const vlci_qwen_tower_config *c, int frames, int width, int height) {
    return (vlci_qwen_grid){.steps = (frames + c->step - 1) / c->step,
                            .rows = height / c->patch,
                            .columns = width / c->patch,
                            .merge = c->merge,
                            .window = c->window};
}

vlcache_status vlci_qwen_tower_run(const vlci_qwen_tower *tower, const vlci_pixels *pixels,
                                   const vlci_qwen_grid *grid, const vlci_qwen_order *order,
                                   cl_mem *features) {
    const vlci_qwen_tower_config *c = &tower->config;
    run r = {.tower = tower,
             .c = c,
             .compute = tower->compute,
             .device = tower->compute->device,
             .order = order,
             .rows = order->n,
             .block = c->merge * c->merge};
    r.part = tower->part < r.rows ? tower->part : r.rows;
    vlcache_status status = run_create(&r);
    if (!status) status = embed(&r, pixels, grid);
    if (!status) status = run_layers(&r);
    *features = status ? NULL : r.tokens;
    if (!status) r.tokens = NULL;
    run_release(&r);
    return status;
}
