/*
 * score.c - how much the rows of a prompt attend to each of its tokens, and the counts behind the sparsity,
 * in one pass.
 *
 *     score(kv, j) = sum over the scored rows t and the heads h of group kv of A(t, h, j)
 *
 * In: rotated queries, keys, row maxima and log-sum-exps of one layer's attention, a list of rows. Out: its
 * scores, which stay on the device, and its counts. O(rows * N) work, O(N) memory. Four rungs: "mma", matrix
 * units; "wgmma", the same, and Hopper's for many rows of which none is counted; "tile", work-groups with
 * local memory; and "wide", one work-item for 16 columns, where work-items are vector units.
 */
#include "compress/score.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

/* ---- kernels ------------------------------------------------------------------------------------------- */

enum { WGMMA, MMA, TILE, WIDE };
enum { MMA_GROUPS = 256 /* work-groups that are enough: two for each part of a large device */ };
enum { UNIT_GROUPS = 4 /* of wgmma, for each unit: that many share it, and some have little to do */ };
enum { HELD_SHARE = 4 /* a fourth */ };
enum { MANY = 256 /* rows from which on wgmma is for them: fewer are no whole tiles for as many units */ };
static const char *const rungs[] = {"wgmma", "mma", "tile", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, rungs[WGMMA]) == 0) return device->caps.wgmma && device->caps.mma;
    if (strcmp(rung, rungs[MMA]) == 0) return device->caps.mma;
    return strcmp(rung, rungs[WIDE]) == 0 || device->caps.max_group >= VLCI_SCORE_COLUMNS;
}

static const char *choose(const vlcache_device *device) {
    for (int rung = WGMMA; rung <= MMA; rung++)
        if (rung_fits(device, rungs[rung])) return rungs[rung];
    return rungs[device->caps.wide_vectors || !rung_fits(device, rungs[TILE]) ? WIDE : TILE];
}

const vlci_ladder vlci_score_ladder = {"score", "compression", rungs, rung_fits, choose};

/* The rung's own kernel. */
static vlcache_status get_score(vlcache_device *device, const vlci_compress_shape *shape, int rung,
                                vlci_score_kernel *out) {
    char options[160], cap[VLCI_ATTENTION_CAP];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d -DHEADS=%d -DKV_HEADS=%d%s",
             (int)shape->kv_dtype, shape->head_dim, shape->heads, shape->kv_heads,
             vlci_attention_cap(shape->cap, cap));
    int group = shape->heads / shape->kv_heads;
    const struct {
        const char *file, *name;
        int columns, rows, items;
        vlci_ptx ptx;
    } all[] = {{"score_wgmma.cl",
                "score_wgmma",
                VLCI_SCORE_WGMMA_COLUMNS,
                (VLCI_SCORE_WGMMA_LEAST + group - 1) / group,
                VLCI_SCORE_WGMMA_ITEMS,
                {.target = "sm_90a", .local_bytes = VLCI_SCORE_WGMMA_LOCAL(shape->head_dim), .groups = 1}},
               {"score_mma.cl",
                "score_mma",
                VLCI_SCORE_MMA_COLUMNS,
                VLCI_SCORE_ROWS,
                VLCI_SCORE_MMA_ITEMS,
                {.target = "", .local_bytes = VLCI_SCORE_MMA_LOCAL((size_t)shape->head_dim, (size_t)group)}},
               {"score.cl", "score", VLCI_SCORE_COLUMNS, VLCI_SCORE_ROWS, VLCI_SCORE_COLUMNS, {0}},
               {"score_wide.cl", "score_wide", VLCI_SCORE_WIDE_COLUMNS, VLCI_SCORE_ROWS, 1, {0}}};
    *out = (vlci_score_kernel){
        .columns = all[rung].columns, .rows = all[rung].rows, .items = (size_t)all[rung].items};
    return vlci_kernel_get_ptx(device, all[rung].file, all[rung].name, options, &all[rung].ptx, &out->kernel);
}

/* Keys of 16 bits, whole steps of the matrix unit; logits as they are. */
static bool mma_takes(const vlci_compress_shape *s) {
    return !(s->cap > 0) && s->kv_dtype != VLCACHE_DTYPE_F32 && s->head_dim % 16 == 0 && s->head_dim <= 128 &&
           s->heads / s->kv_heads <= VLCI_SCORE_MMA_ITEMS;
}

static bool wgmma_takes(const vlci_compress_shape *s) {
    return mma_takes(s) &&
           (s->head_dim == 64 || s->head_dim == 80 || s->head_dim == 96 || s->head_dim == 128);
}

/* A kernel may take smaller work-groups than its device: "tile" gives way to "wide" then. */
vlcache_status vlci_score_open(vlcache_device *device, const vlci_compress_shape *shape,
                               vlci_score_kernels *out) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_score_ladder, choose(device), &rung);
    if (status) return status;
    for (out->rung = 0; rungs[out->rung + 1] && strcmp(rung, rungs[out->rung]);) out->rung++;
    out->many = (vlci_score_kernel){0};
    if (out->rung == WGMMA) {
        if (wgmma_takes(shape)) status = get_score(device, shape, WGMMA, &out->many);
        out->rung = MMA;
    }
    if (out->rung == MMA && !mma_takes(shape)) out->rung = TILE;
    if (!status) status = get_score(device, shape, out->rung, &out->any);
    if (!status && out->rung == TILE && out->any.kernel->max_group < VLCI_SCORE_COLUMNS) {
        out->rung = WIDE;
        status = get_score(device, shape, out->rung, &out->any);
    }
    if (!status)
        status = vlci_kernel_get(device, "score.cl", "score_sum", "-DHEADS=1 -DKV_HEADS=1", &out->sum);
    if (!status)
        status = vlci_kernel_get(device, "score.cl", "score_hold", "-DHEADS=1 -DKV_HEADS=1", &out->hold);
    return status ? status : vlci_sparsity_open(device, &out->sparsity);
}

/* ---- what is seen -------------------------------------------------------------------------------------- */

static size_t n_heads(const vlci_scores *s) {
    return (size_t)s->shape.layers * (size_t)s->shape.kv_heads;
}

static size_t layer_floats(const vlci_scores *s) {
    return (size_t)s->shape.kv_heads * (size_t)s->tokens;
}

static size_t counts_bytes(const vlci_scores *s) {
    return (size_t)s->shape.layers * (size_t)s->shape.heads * sizeof(cl_ulong);
}

static vlcache_status create_rows(vlci_scores *s) {
    size_t n = (size_t)s->rows.n, all = n + 1 + (size_t)s->behind, bytes = all * sizeof(cl_int);
    cl_int *entry = vlci_alloc(all, sizeof *entry);
    if (!entry) return vlci_fail_memory("compression rows");
    for (size_t i = 0; i < n; i++) entry[i] = s->rows.entry[i];
    entry[n] = VLCI_ROW(0, s->decoded);
    for (size_t i = n + 1; i < all; i++) entry[i] = VLCI_ROW(s->tokens - 1, s->decoded);
    vlcache_status status = vlci_memory_create(s->device, bytes, "compression: rows looked at", &s->rows_on);
    if (!status) status = vlci_write_later(s->device, s->rows_on, 0, entry, bytes);
    vlci_free(entry);
    return status;
}

static vlcache_status create_before(vlci_scores *s, const int32_t *past) {
    size_t bytes = n_heads(s) * sizeof(vlci_keep);
    vlci_keep *keep = vlci_calloc(n_heads(s), sizeof *keep);
    if (!keep) return vlci_fail_memory("compression: earlier rows");
    for (size_t i = 0; i < n_heads(s); i++) keep[i].before = past ? past[i] : 0;
    vlcache_status status = vlci_memory_create(s->device, bytes, "compression: earlier rows", &s->before);
    if (!status) status = vlci_write_later(s->device, s->before, 0, keep, bytes);
    vlci_free(keep);
    return status;
}

/* Rows of each layer that are held where they may be: no more than a block, and none where their queries took
 * more than a share of the keys and values that they look at. */
static int held_rows(const vlci_scores *s, int behind) {
    const vlci_compress_shape *shape = &s->shape;
    int rows = s->rows.n + 1 + behind;
    size_t keys = 2 * (size_t)s->tokens * (size_t)shape->kv_heads * vlci_dtype_bytes(shape->kv_dtype);
    size_t queries = (size_t)rows * (size_t)shape->heads * sizeof(cl_float);
    return !s->rows.n || rows > VLCI_SCORE_ROWS || queries > keys / HELD_SHARE ? 0 : rows;
}

static void plan_looks(vlci_scores *s, int behind) {
    s->looks.room = held_rows(s, behind);
    s->behind = s->looks.room && s->decoded ? behind : 0;
}

static vlcache_status create(vlci_scores *s, const vlci_rows *rows, const vlci_compress_prompt *prompt,
                             int behind) {
    size_t scores = (size_t)s->shape.layers * layer_floats(s) * sizeof(cl_float);
    s->begun = vlci_calloc((size_t)s->shape.layers, sizeof *s->begun);
    s->tallied = vlci_calloc((size_t)s->shape.layers, sizeof *s->tallied);
    if (!s->begun || !s->tallied) return vlci_fail_memory("compression scores");
    vlcache_status status = vlci_rows_copy(rows, &s->rows);
    for (int i = 0; i < rows->n; i++) s->counted |= (rows->entry[i] & VLCI_ROW_COUNTED) != 0;
    s->counted |= (s->decoded & VLCI_ROW_COUNTED) != 0;
    if (!status && prompt->together) plan_looks(s, behind);
    if (!status) status = create_rows(s);
    if (!status) status = create_before(s, prompt->past);
    if (!status) status = vlci_memory_create(s->device, scores, "compression: scores", &s->score);
    if (!status && s->counted)
        status = vlci_memory_create(s->device, counts_bytes(s), "compression: counts", &s->counts);
    return status;
}

vlcache_status vlci_scores_create(vlcache_device *device, const vlci_score_kernels *kernels,
                                  const vlci_compress_shape *shape, const vlci_compress_prompt *prompt,
                                  const vlci_rows *rows, int decoded, int behind, double threshold,
                                  vlci_scores **out) {
    *out = NULL;
    vlci_scores *s = vlci_calloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("compression scores");
    *s = (vlci_scores){.device = device,
                       .kernels = kernels,
                       .shape = *shape,
                       .references = 1,
                       .tokens = prompt->tokens,
                       .decoded = decoded,
                       .threshold = threshold};
    vlcache_status status = create(s, rows, prompt, behind);
    if (status)
        vlci_scores_release(&s);
    else
        *out = s;
    return status;
}

vlcache_status vlci_scores_copy(const vlci_scores *from, vlci_scores **out) {
    const vlci_compress_prompt prompt = {.tokens = from->tokens};
    vlcache_status status = vlci_scores_create(from->device, from->kernels, &from->shape, &prompt,
                                               &from->rows, from->decoded, 0, from->threshold, out);
    if (status) return status;
    vlci_scores *s = *out;
    size_t layers = (size_t)s->shape.layers;
    memcpy(s->begun, from->begun, layers * sizeof *s->begun);
    memcpy(s->tallied, from->tallied, layers * sizeof *s->tallied);
    s->whole = from->whole;
    status = vlci_copy(s->device, from->before, 0, s->before, 0, n_heads(s) * sizeof(vlci_keep));
    if (!status && s->counts) status = vlci_copy(s->device, from->counts, 0, s->counts, 0, counts_bytes(s));
    if (!status)
        status =
            vlci_copy(s->device, from->score, 0, s->score, 0, layers * layer_floats(s) * sizeof(cl_float));
    if (status) vlci_scores_release(out);
    return status;
}

void vlci_scores_release(vlci_scores **handle) {
    if (!handle || !*handle) return;
    vlci_scores *s = *handle;
    *handle = NULL;
    if (--s->references > 0) return;
    if (s->kernels->fetch) vlci_fetch_forget(s->kernels->fetch, s->counts);
    cl_mem *memory[] = {&s->rows_on, &s->before, &s->partial, &s->sums, &s->counts, &s->score};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(s->device, memory[i]);
    vlci_looks_give_back(s->device, &s->looks, s->kernels->spare);
    vlci_rows_release(&s->rows);
    vlci_free(s->begun);
    vlci_free(s->tallied);
    vlci_free(s);
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

/* Some entries of the list, and how the work with them is cut. */
typedef struct cut {
    int entry, n, sees; /* entries; columns that row 0 sees beyond its own */
    int layer, layers;
    int held; /* rows of each of these that are; 0: rows where attention has them */
    const vlci_score_kernel *by;
    int tiles, blocks;
    bool direct, add;  /* whether scores go where they belong at once, are added */
    bool count, tally; /* whether rows are counted, counts are added */
    double weight;
} cut;

static vlcache_status check(const vlci_scores *s, int layer, const vlci_attention *a) {
    if (layer < 0 || layer >= s->shape.layers || a->kv.dtype != s->shape.kv_dtype)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: attention and plan differ in shape", layer);
    if (!a->row_max || !a->row_lse)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: row_max and row_lse are needed", layer);
    if (a->q_offset > UINT32_MAX || a->q_stride > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: layer %d: an offset or stride exceeds 32 bits",
                         layer);
    return VLCACHE_OK;
}

/* Grows `memory` to `bytes`; what it holds is lost. */
static vlcache_status make_room(vlci_scores *s, size_t bytes, const char *what, cl_mem *memory,
                                size_t *have) {
    if (*have >= bytes) return VLCACHE_OK;
    vlci_memory_release(s->device, memory);
    *have = 0;
    vlcache_status status = vlci_memory_create(s->device, bytes, what, memory);
    if (!status) *have = bytes;
    return status;
}

static vlcache_status launch_score(vlci_scores *s, const vlci_look *look, const cut *c) {
    const vlci_compress_shape *shape = &s->shape;
    const vlci_attention *a = look->a;
    size_t at = c->direct ? (size_t)c->layer * layer_floats(s) : 0;
    cl_mem list = s->rows_on;
    vlci_grid grid = VLCI_GRID((size_t)c->tiles, (size_t)(shape->kv_heads * c->blocks), (size_t)c->layers,
                               c->by->items, 1, 1);
    return VLCI_LAUNCH(s->device, c->by->kernel, grid, VLCI_MEM(a->q), VLCI_U32(a->q_offset),
                       VLCI_U32(a->q_stride), VLCI_I32(look->row - look->from),
                       VLCI_POOL_OF(&a->kv, look->heads_at), VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse),
                       VLCI_MEM(s->before), VLCI_U32(c->layer * shape->kv_heads), VLCI_I32(s->tokens),
                       VLCI_MEM(list), VLCI_I32(c->entry), VLCI_I32(c->n), VLCI_I32(c->held),
                       VLCI_I32(c->sees), VLCI_MEM(c->direct ? s->score : s->sums), VLCI_U32(at),
                       VLCI_U32(s->tokens), VLCI_I32(c->blocks), VLCI_MEM(c->count ? s->partial : NULL),
                       VLCI_F32(a->scale), VLCI_F32((float)log(s->threshold)),
                       VLCI_F32(c->direct ? (float)c->weight : 1.0f), VLCI_I32(c->direct && c->add));
}

static vlcache_status launch_sum(vlci_scores *s, const cut *c) {
    size_t n = layer_floats(s);
    return VLCI_LAUNCH(s->device, s->kernels->sum, vlci_grid_over(s->kernels->sum, n, 1, 1),
                       VLCI_MEM(s->sums), VLCI_I32(c->blocks), VLCI_U32(n), VLCI_F32((float)c->weight),
                       VLCI_I32(c->add), VLCI_MEM(s->score), VLCI_U32((size_t)c->layer * n));
}

static vlcache_status make_all_room(vlci_scores *s, const cut *c) {
    size_t partial = (size_t)(c->layers * s->shape.heads) * (size_t)(c->blocks * c->tiles) * sizeof(cl_uint);
    size_t sums = layer_floats(s) * (size_t)c->blocks * sizeof(cl_float);
    vlcache_status status = VLCACHE_OK;
    if (!c->direct) status = make_room(s, sums, "compression: sums of row blocks", &s->sums, &s->sums_bytes);
    if (!status && c->count)
        status = make_room(s, partial, "compression: partial counts", &s->partial, &s->partial_bytes);
    return status;
}

static int divided(int a, int b) {
    return (a + b - 1) / b;
}

/* Work-groups side by side. Those of matrix units take some tiles each where that leaves enough of them: what
 * all of their columns are multiplied by is fetched once. */
static int tiles_of(const vlci_scores *s, const cut *c) {
    int tiles = divided(s->tokens, c->by->columns);
    int64_t each = (int64_t)tiles * s->shape.kv_heads * c->layers * c->blocks / MMA_GROUPS;
    if (c->by != &s->kernels->any || s->kernels->rung != MMA || each < 2) return tiles;
    if (each > VLCI_SCORE_MMA_TILES) each = VLCI_SCORE_MMA_TILES;
    return (tiles + (int)each - 1) / (int)each;
}

/* Blocks of rows. Those of wgmma are as large as leave each of the device's units some work-groups, since
 * each of these fetches its columns first. */
static int blocks_of(const vlci_scores *s, const cut *c) {
    int group = s->shape.heads / s->shape.kv_heads, rows = c->by->rows;
    int64_t beside = (int64_t)divided(s->tokens, c->by->columns) * s->shape.kv_heads;
    int64_t enough = UNIT_GROUPS * (int64_t)s->device->caps.info.compute_units;
    if (c->by != &s->kernels->many) return divided(c->n, rows);
    while (2 * rows * group <= VLCI_SCORE_WGMMA_MOST && beside * divided(c->n, 2 * rows) >= enough) rows *= 2;
    return divided(c->n, rows);
}

static vlcache_status observe(vlci_scores *s, const vlci_look *look, cut *c) {
    if (!c->by) c->by = &s->kernels->any;
    c->blocks = blocks_of(s, c);
    c->tiles = tiles_of(s, c);
    c->direct = c->blocks == 1;
    vlcache_status status = make_all_room(s, c);
    if (!status) status = launch_score(s, look, c);
    if (!status && !c->direct) status = launch_sum(s, c);
    if (!status && c->count)
        status =
            vlci_sparsity_sum(s->device, &s->kernels->sparsity, s->partial, c->blocks * c->tiles, s->counts,
                              c->layer * s->shape.heads, c->layers * s->shape.heads, c->tally);
    return status;
}

static cut cut_prompt(const vlci_scores *s, int entry, int until) {
    return (cut){.entry = entry,
                 .n = until - entry,
                 .sees = s->whole ? s->tokens : 0,
                 .layers = 1,
                 .count = s->counted,
                 .weight = 1.0};
}

static cut cut_decoded(const vlci_scores *s, int entry, int n, double weight) {
    return (cut){.entry = entry,
                 .n = n,
                 .sees = s->tokens,
                 .layers = 1,
                 .count = (s->decoded & VLCI_ROW_COUNTED) != 0,
                 .weight = weight};
}

static vlcache_status hold(vlci_scores *s, int layer, const vlci_look *look, int entry, int n) {
    return vlci_looks_hold(s->device, &s->shape, s->kernels->hold, layer, look, s->rows_on, entry, n,
                           s->kernels->spare, &s->looks);
}

/* Entries of one layer, on those that were. */
static vlcache_status observe_more(vlci_scores *s, int layer, const vlci_look *look, cut c) {
    c.layer = layer;
    c.add = s->begun[layer];
    c.tally = s->tallied[layer];
    s->begun[layer] = true;
    s->tallied[layer] |= c.count;
    return observe(s, look, &c);
}

/* Where many entries that are not counted stand in front, they go by the kernel for these. */
static vlcache_status observe_some(vlci_scores *s, int layer, const vlci_look *look, int entry, int until) {
    int many = entry;
    bool takes = s->kernels->many.kernel && look->a->q_offset % 4 == 0 && look->a->q_stride % 4 == 0;
    while (takes && many < until && !(s->rows.entry[many] & VLCI_ROW_COUNTED)) many++;
    if (many - entry < MANY) return observe_more(s, layer, look, cut_prompt(s, entry, until));
    cut c = cut_prompt(s, entry, many);
    c.by = &s->kernels->many;
    c.count = false;
    vlcache_status status = observe_more(s, layer, look, c);
    if (status || many == until) return status;
    return observe_more(s, layer, look, cut_prompt(s, many, until));
}

vlcache_status vlci_scores_observe(vlci_scores *s, int layer, const vlci_look *look) {
    int entry = vlci_rows_from(&s->rows, look->from), until = vlci_rows_from(&s->rows, look->from + look->n);
    vlcache_status status = entry < until ? check(s, layer, look->a) : VLCACHE_OK;
    if (status || entry == until) return status;
    s->whole = !look->a->causal;
    if (vlci_scores_holds(s, false)) return hold(s, layer, look, entry, until - entry);
    return observe_some(s, layer, look, entry, until);
}

vlcache_status vlci_scores_observe_decode(vlci_scores *s, int layer, const vlci_look *look, double weight,
                                          bool add) {
    vlcache_status status = s->decoded ? check(s, layer, look->a) : VLCACHE_OK;
    if (status || !s->decoded) return status;
    if (!vlci_scores_holds(s, true)) {
        cut c = cut_decoded(s, s->rows.n, 1, weight);
        c.layer = layer;
        c.add = c.tally = add;
        return observe(s, look, &c);
    }
    vlci_look last = *look; /* their entries say the prompt's last row */
    last.from += s->tokens - 1;
    status = hold(s, layer, &last, s->rows.n + 1 + s->held, 1);
    s->held_weight = weight;
    if (!status && layer == s->shape.layers - 1) s->held++;
    return status;
}

/* ---- together ------------------------------------------------------------------------------------------ */

bool vlci_scores_holds(const vlci_scores *s, bool decoded) {
    return s->looks.room && !s->settled && (!decoded || s->held < s->behind);
}

vlcache_status vlci_scores_settle(vlci_scores *s, const vlci_kv_view *kv, size_t heads_at) {
    const vlci_attention a = {.causal = !s->whole,
                              .scale = s->looks.scale,
                              .kv = *kv,
                              .q_stride = (size_t)s->shape.heads * (size_t)s->shape.head_dim,
                              .q = s->looks.q,
                              .row_max = s->looks.max,
                              .row_lse = s->looks.lse};
    const vlci_look look = {.a = &a, .heads_at = heads_at};
    cut c = cut_prompt(s, 0, s->rows.n);
    c.layers = s->shape.layers;
    c.held = s->looks.room;
    if (!s->looks.lse || s->settled) return VLCACHE_OK;
    s->settled = true;
    vlcache_status status = observe(s, &look, &c);
    if (status || !s->held) return status;
    c = cut_decoded(s, s->rows.n + 1, s->held, s->held_weight);
    c.layers = s->shape.layers;
    c.held = s->looks.room;
    c.add = c.tally = true;
    return observe(s, &look, &c);
}

vlcache_status vlci_scores_ask(const vlci_scores *s, int layer, int layers) {
    size_t heads = (size_t)s->shape.heads * sizeof(cl_ulong);
    if (!s->counted || !s->kernels->fetch) return VLCACHE_OK;
    return vlci_fetch_begin(s->kernels->fetch, s->counts, (size_t)layer * heads, (size_t)layers * heads);
}

vlcache_status vlci_scores_counts(const vlci_scores *s, int layer, int layers, uint64_t *out) {
    size_t heads = (size_t)s->shape.heads * sizeof(cl_ulong), at = (size_t)layer * heads;
    if (s->kernels->fetch)
        return vlci_fetch_read(s->kernels->fetch, s->counts, at, out, (size_t)layers * heads);
    return vlci_read(s->device, s->counts, at, out, (size_t)layers * heads);
}
