/*
 * score.c - how much the rows of a prompt attend to each of its tokens, and the counts behind the sparsity,
 * in one pass.
 *
 *     score(kv, j) = sum over the scored rows t and the heads h of group kv of A(t, h, j)
 *
 * In: rotated queries, keys, row maxima and log-sum-exps of one layer's attention, a list of rows. Out: its
 * scores, which stay on the device, and its counts. O(rows * N) work, O(N) memory. Two rungs: "tile",
 * work-groups with local memory, and "wide", one work-item for 16 columns, where work-items are vector units.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compress/compress.h"
#include "core/alloc.h"
#include "device/ladder.h"

enum { TILE_COLS = 64, WIDE_COLS = 16, ROW_BLOCK = 128 };

/* ---- what is seen -------------------------------------------------------------------------------------- */

static size_t lengths(const vlci_compress_shape *s) {
    return (size_t)s->layers * (size_t)s->batch * (size_t)s->kv_heads;
}

static size_t layer_floats(const vlci_scores *s) {
    return (size_t)s->shape.batch * (size_t)s->shape.kv_heads * (size_t)s->max_tokens;
}

static vlcache_status create_host(vlci_scores *s, const int *tokens, const vlci_rows *rows) {
    int batch = s->shape.batch;
    s->tokens = vlci_calloc((size_t)batch, sizeof *s->tokens);
    s->score = vlci_calloc((size_t)s->shape.layers, sizeof *s->score);
    if (!s->tokens || !s->score) return vlci_fail_memory("compression scores");
    vlcache_status status = vlci_rows_copy(rows, batch, &s->rows);
    for (int b = 0; b < batch && !status; b++) {
        int begin = rows->start[b], end = rows->start[b + 1];
        int reach = end > begin ? (rows->entry[end - 1] >> VLCI_ROW_SHIFT) + 1 : 0;
        s->tokens[b] = tokens[b];
        if (tokens[b] > s->max_tokens) s->max_tokens = tokens[b];
        if (end - begin > s->max_rows) s->max_rows = end - begin;
        if (reach > s->reach) s->reach = reach;
    }
    for (int i = 0; !status && i < rows->start[batch]; i++) {
        s->scores_rows |= (rows->entry[i] & VLCI_ROW_SCORED) != 0;
        s->counts_rows |= (rows->entry[i] & VLCI_ROW_COUNTED) != 0;
    }
    return status;
}

/* Behind the prompt's lists stand those of decode: the only row of each sequence. */
static vlcache_status create_rows(vlci_scores *s) {
    size_t batch = (size_t)s->shape.batch, n = (size_t)s->rows.start[batch];
    cl_int *entry = vlci_alloc(n + batch, sizeof *entry), *start = vlci_alloc(2 * batch + 2, sizeof *start);
    size_t entries = (n + batch) * sizeof *entry, starts = (2 * batch + 2) * sizeof *start;
    vlcache_status status = entry && start ? VLCACHE_OK : vlci_fail_memory("compression rows");
    for (size_t i = 0; i < n + batch && !status; i++)
        entry[i] = i < n ? s->rows.entry[i] : VLCI_ROW(0, s->scores_rows ? VLCI_ROW_SCORED : 0);
    for (size_t b = 0; b <= batch && !status; b++) {
        start[b] = s->rows.start[b];
        start[batch + 1 + b] = (cl_int)(n + b);
    }
    if (!status) status = vlci_memory_create(s->device, entries, "compression: rows looked at", &s->rows_on);
    if (!status) status = vlci_memory_create(s->device, starts, "compression: lists of rows", &s->starts_on);
    if (!status) status = vlci_write(s->device, s->rows_on, 0, entry, entries);
    if (!status) status = vlci_write(s->device, s->starts_on, 0, start, starts);
    vlci_free(entry);
    vlci_free(start);
    return status;
}

static vlcache_status create_device(vlci_scores *s, const int32_t *before) {
    size_t batch = (size_t)s->shape.batch, counts = (size_t)s->shape.layers * batch * (size_t)s->shape.heads;
    struct {
        size_t n, size;
        const char *what;
        cl_mem *memory;
        const void *values; /* NULL: none, or zeros */
    } wanted[] = {
        {batch, sizeof(cl_int), "compression: prompt lengths", &s->tokens_on, s->tokens},
        {lengths(&s->shape), sizeof(cl_int), "compression: earlier rows", &s->before_on, before},
        {s->counts_rows ? counts : 0, sizeof(cl_ulong), "compression: counts", &s->counts, NULL},
    };
    vlcache_status status = create_rows(s);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !status; i++) {
        size_t bytes = wanted[i].n * wanted[i].size;
        if (bytes) status = vlci_memory_create(s->device, bytes, wanted[i].what, wanted[i].memory);
        if (status || !bytes) continue;
        status = wanted[i].values ? vlci_write(s->device, *wanted[i].memory, 0, wanted[i].values, bytes)
                                  : vlci_fill(s->device, *wanted[i].memory, 0, bytes, 0);
    }
    return status;
}

vlcache_status vlci_scores_create(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_compress_prompt *prompt, const vlci_rows *rows, double threshold,
                                  vlci_scores **out) {
    *out = NULL;
    vlci_scores *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("compression scores");
    *s = (vlci_scores){.device = device, .shape = *shape, .references = 1, .threshold = threshold};
    vlcache_status status = create_host(s, prompt->tokens, rows);
    if (!status) status = create_device(s, prompt->past);
    if (status)
        vlci_scores_release(&s);
    else
        *out = s;
    return status;
}

vlcache_status vlci_scores_copy(const vlci_scores *from, vlci_scores **out) {
    const vlci_compress_prompt prompt = {.tokens = from->tokens};
    size_t counts = (size_t)from->shape.layers * (size_t)from->shape.batch * (size_t)from->shape.heads;
    vlcache_status status =
        vlci_scores_create(from->device, &from->shape, &prompt, &from->rows, from->threshold, out);
    if (status) return status;
    vlci_scores *s = *out;
    size_t bytes = layer_floats(s) * sizeof(cl_float);
    s->observed = from->observed;
    status = vlci_copy(s->device, from->before_on, 0, s->before_on, 0, lengths(&s->shape) * sizeof(cl_int));
    if (!status && s->counts)
        status = vlci_copy(s->device, from->counts, 0, s->counts, 0, counts * sizeof(cl_ulong));
    for (int l = 0; l < s->observed && !status; l++) {
        status = vlci_memory_create(s->device, bytes, "compression: scores", &s->score[l]);
        if (!status) status = vlci_copy(s->device, from->score[l], 0, s->score[l], 0, bytes);
    }
    if (status) vlci_scores_release(out);
    return status;
}

void vlci_scores_release(vlci_scores **handle) {
    if (!handle || !*handle) return;
    vlci_scores *s = *handle;
    *handle = NULL;
    if (--s->references > 0) return;
    for (int l = 0; s->score && l < s->shape.layers; l++) vlci_memory_release(s->device, &s->score[l]);
    cl_mem *memory[] = {&s->tokens_on, &s->rows_on, &s->starts_on, &s->before_on,
                        &s->partial,   &s->sums,    &s->counts};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(s->device, memory[i]);
    vlci_rows_release(&s->rows);
    vlci_free(s->tokens);
    vlci_free(s->score);
    vlci_free(s);
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

static bool fits(size_t value) {
    return value <= UINT32_MAX;
}

static vlcache_status check(const vlci_scores *p, int layer, const vlci_attention *a) {
    const vlci_compress_shape *s = &p->shape;
    if (layer < 0 || layer >= s->layers || a->batch != s->batch || a->heads != s->heads ||
        a->kv_heads != s->kv_heads || a->head_dim != s->head_dim || a->kv_dtype != s->kv_dtype)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: attention and plan differ in shape", layer);
    if (!a->row_max || !a->row_lse || !a->seq_start)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: row_max, row_lse and seq_start are needed",
                         layer);
    if (!fits(a->q_offset) || !fits(a->q_stride) || !fits(a->k_offset) || !fits(a->v_offset) ||
        !fits(a->seq_stride) || !fits(a->head_stride) || !fits(a->row_stride))
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: layer %d: an offset or stride exceeds 32 bits",
                         layer);
    return VLCACHE_OK;
}

/* How the work is cut, which depends on the rung. */
typedef struct cut {
    bool decode, wide;
    const vlci_kernel *kernel;
    int tiles, blocks;
    cl_mem sums; /* where the row blocks' sums go */
} cut;

static const char *const rungs[] = {"tile", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= TILE_COLS;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "tile") ? "wide" : "tile";
}

const vlci_ladder vlci_score_ladder = {"score", "compression", rungs, rung_fits, choose};

static vlcache_status get_score(const vlci_scores *s, cut *c) {
    const vlci_compress_shape *shape = &s->shape;
    char options[160];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d -DHEADS=%d -DKV_HEADS=%d -DROW_BLOCK=%d",
             (int)shape->kv_dtype, shape->head_dim, shape->heads, shape->kv_heads, ROW_BLOCK);
    return vlci_kernel_get(s->device, c->wide ? "score_wide.cl" : "score.cl",
                           c->wide ? "score_wide" : "score", options, &c->kernel);
}

/* A kernel may take smaller work-groups than its device: "tile" gives way to "wide" then. */
static vlcache_status cut_work(const vlci_scores *s, bool decode, cut *c) {
    const char *rung;
    vlcache_status status = vlci_rung(s->device, &vlci_score_ladder, choose(s->device), &rung);
    if (status) return status;
    *c = (cut){.decode = decode, .wide = strcmp(rung, "wide") == 0};
    status = get_score(s, c);
    if (!status && !c->wide && c->kernel->max_group < TILE_COLS) {
        c->wide = true;
        status = get_score(s, c);
    }
    if (status) return status;
    int columns = c->wide ? WIDE_COLS : TILE_COLS, rows = decode ? 1 : s->max_rows;
    c->tiles = (s->max_tokens + columns - 1) / columns;
    c->blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    return VLCACHE_OK;
}

/* Grows `memory` to `bytes`; what it holds is lost. */
static vlcache_status make_room(vlci_scores *s, size_t bytes, const char *what, cl_mem *memory) {
    size_t have = 0;
    if (*memory && clGetMemObjectInfo(*memory, CL_MEM_SIZE, sizeof have, &have, NULL) == CL_SUCCESS &&
        have >= bytes)
        return VLCACHE_OK;
    vlci_memory_release(s->device, memory);
    return vlci_memory_create(s->device, bytes, what, memory);
}

static vlcache_status launch_score(vlci_scores *s, int layer, const vlci_attention *a, const cut *c,
                                   bool count) {
    const vlci_compress_shape *shape = &s->shape;
    vlci_grid grid = VLCI_GRID((size_t)c->tiles, (size_t)(shape->kv_heads * c->blocks), (size_t)shape->batch,
                               c->wide ? 1 : TILE_COLS, 1, 1);
    return VLCI_LAUNCH(s->device, c->kernel, grid, VLCI_MEM(a->q), VLCI_U32(a->q_offset),
                       VLCI_U32(a->q_stride), VLCI_MEM(a->k), VLCI_U32(a->k_offset), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride), VLCI_MEM(a->row_max),
                       VLCI_MEM(a->row_lse), VLCI_MEM(a->seq_start), VLCI_MEM(a->past),
                       VLCI_I32(a->past_offset), VLCI_MEM(s->before_on),
                       VLCI_I32(layer * shape->batch * shape->kv_heads), VLCI_MEM(s->tokens_on),
                       VLCI_MEM(s->rows_on), VLCI_MEM(s->starts_on),
                       VLCI_I32(c->decode ? shape->batch + 1 : 0), VLCI_MEM(c->sums), VLCI_U32(s->max_tokens),
                       VLCI_I32(c->blocks), VLCI_MEM(count ? s->partial : NULL), VLCI_F32(a->scale),
                       VLCI_F32((float)log(s->threshold)));
}

static vlcache_status launch_sum(vlci_scores *s, int layer, const cut *c, double weight) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status =
        vlci_kernel_get(s->device, "score.cl", "score_sum", "-DHEADS=1 -DKV_HEADS=1", &kernel);
    if (status) return status;
    size_t n = layer_floats(s);
    return VLCI_LAUNCH(s->device, kernel, vlci_grid_over(kernel, n, 1, 1), VLCI_MEM(c->sums),
                       VLCI_I32(c->blocks), VLCI_U32(n), VLCI_F32((float)weight), VLCI_I32(c->decode),
                       VLCI_MEM(s->score[layer]));
}

/* Scores go where they belong at once when there is nothing to add up. */
static vlcache_status make_all_room(vlci_scores *s, int layer, cut *c, bool direct, bool count) {
    size_t bytes = layer_floats(s) * sizeof(cl_float);
    size_t heads = (size_t)s->shape.batch * (size_t)s->shape.heads;
    vlcache_status status = VLCACHE_OK;
    if (!s->score[layer])
        status = vlci_memory_create(s->device, bytes, "compression: scores", &s->score[layer]);
    if (!status && !direct)
        status = make_room(s, bytes * (size_t)c->blocks, "compression: sums of row blocks", &s->sums);
    if (!status && count)
        status = make_room(s, heads * (size_t)(c->blocks * c->tiles) * sizeof(cl_uint),
                           "compression: partial counts", &s->partial);
    c->sums = direct ? s->score[layer] : s->sums;
    return status;
}

static vlcache_status observe(vlci_scores *s, int layer, const vlci_attention *a, bool decode,
                              double weight) {
    cut c;
    vlcache_status status = check(s, layer, a);
    if (!status) status = cut_work(s, decode, &c);
    if (status) return status;
    bool direct = c.blocks == 1 && !decode, count = s->counts_rows && !decode;
    status = make_all_room(s, layer, &c, direct, count);
    if (!status) status = launch_score(s, layer, a, &c, count);
    if (!status && !direct) status = launch_sum(s, layer, &c, weight);
    if (!status && count) status = vlci_sparsity_sum(s, layer, c.blocks * c.tiles);
    return status;
}

vlcache_status vlci_scores_observe(vlci_scores *s, int layer, const vlci_attention *a) {
    if (a->max_rows < s->reach)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: %d rows attended, %d are observed", layer,
                         a->max_rows, s->reach);
    return observe(s, layer, a, false, 1.0);
}

vlcache_status vlci_scores_observe_decode(vlci_scores *s, int layer, const vlci_attention *a, double weight) {
    return observe(s, layer, a, true, weight);
}

/* ---- as a plan sees it --------------------------------------------------------------------------------- */

vlcache_status vlci_compress_observe(vlci_compress *p, int layer, const vlci_attention *a) {
    vlci_scores *s = p->seen;
    if (!s || layer < s->observed) return VLCACHE_OK;
    vlcache_status status = vlci_scores_observe(s, layer, a);
    if (!status) s->observed = layer + 1;
    return status;
}

/* Scores that others look at too are left to them. */
static vlcache_status own_scores(vlci_compress *p) {
    vlci_scores *copy = NULL;
    if (p->seen->references == 1) return VLCACHE_OK;
    vlcache_status status = vlci_scores_copy(p->seen, &copy);
    if (status) return status;
    vlci_scores_release(&p->seen);
    p->seen = copy;
    return VLCACHE_OK;
}

vlcache_status vlci_compress_observe_decode(vlci_compress *p, int layer, const vlci_attention *a) {
    vlcache_status status = p->seen ? own_scores(p) : VLCACHE_OK;
    if (!status && p->seen) status = vlci_scores_observe_decode(p->seen, layer, a, p->recipe.defer_weight);
    if (!status && layer == p->shape.layers - 1) p->decoded++;
    return status;
}
