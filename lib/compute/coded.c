/*
 * coded.c - launches attention over coded rows: a few query rows at a time, their runs (on matrix units:
 * blocks of rows) divided into shares, and what comes of them added to the attention over the rows in pages.
 */
#include "compute/coded.h"

#include <stdio.h>
#include <string.h>

/* ---- opening ------------------------------------------------------------------------------------------- */

enum { MMA_DIM_MAX = 128 }; /* registers */

/* Arguments of a launch over codes of several sequences: of each, numbers behind its buffers; PAGED of rows
 * in pages, and OWN beside those. Bytes of all. */
enum {
    ONE = VLCI_CODES_MEMORIES + 1,
    OWN = 12,
    PAGED = 9,
    ARGS_MOST = OWN + PAGED + VLCI_CODED_MANY * ONE,
    ARGS_BYTES = (OWN + PAGED + VLCI_CODED_MANY * VLCI_CODES_MEMORIES) * sizeof(cl_mem) +
                 (VLCI_CODED_MANY + 1) * sizeof(cl_uint16)
};

static const char *const rungs[] = {"wgmma", "mma", "wide", "group", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, "wgmma") == 0) return device->caps.wgmma;
    return strcmp(rung, "mma") == 0 ? device->caps.mma : vlci_few_fits(device, rung);
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wgmma ? "wgmma" : device->caps.mma ? "mma" : vlci_few_choose(device);
}

const vlci_ladder vlci_coded_ladder = {"attention_coded", "decode", rungs, rung_fits, choose};

/* What is left of a unit's local memory for bases, codes and what comes of them, on matrix units. */
static size_t pool_of(const vlci_few *few) {
    size_t most = few->device->caps.ptx_local;
    return most > VLCI_CODED_BESIDE ? (most - VLCI_CODED_BESIDE) / 16 * 16 : 0;
}

/* Whether four warps make keys together. */
static bool makes_together(const vlci_few *few, bool rows) {
    size_t dim = (size_t)few->shape.head_dim;
    return strcmp(few->rung, "wgmma") == 0 &&
           pool_of(few) >= (rows ? VLCI_ROWS_TOGETHER_POOL(dim) : VLCI_RUNS_TOGETHER_POOL(dim));
}

/* Whether rows in pages, too, are seen in a launch on matrix units. */
static bool reads_pages(const vlci_few *few) {
    return few->shape.kv_dtype != VLCACHE_DTYPE_F32 &&
           pool_of(few) >= VLCI_CODED_PAGES_POOL((size_t)few->shape.head_dim);
}

static vlcache_status get_mma(const vlci_coded_kernels *k, const char *name, const char *options, bool rows,
                              const vlci_kernel **out) {
    char all[240];
    bool together = makes_together(&k->few, rows);
    snprintf(all, sizeof all, "%s -DPOOL_BYTES=%zu -DSCORES=%d -DWGMMA=%d -DPAGED=%d -DKV_DTYPE=%d", options,
             pool_of(&k->few), strcmp(name, "attention_coded_score") == 0, together, reads_pages(&k->few),
             (int)k->few.shape.kv_dtype);
    const vlci_ptx ptx = {.target = together ? "sm_90a" : "", .local_bytes = pool_of(&k->few)};
    return vlci_kernel_get_ptx(k->few.device, "attention_coded_mma.cl", name, all, &ptx, out);
}

static void write_options(const vlci_coded_kernels *k, bool rows, char *options) {
    char cap[VLCI_ATTENTION_CAP];
    snprintf(options, 128, "-DHEAD_DIM=%d -DHEADS=%d -DROWS=%d%s", k->few.shape.head_dim, k->few.lanes, rows,
             vlci_attention_cap(k->few.shape.cap, cap));
}

static vlcache_status get_plain(const vlci_coded_kernels *k, const char *name, bool rows,
                                const vlci_kernel **out) {
    char options[128];
    write_options(k, rows, options);
    size_t n = strlen(options);
    snprintf(options + n, sizeof options - n, " -DWIDE=%d -DSCORES=%d", k->few.wide,
             !rows || strcmp(name, "attention_coded_score") == 0);
    return vlci_kernel_get(k->few.device, "attention_coded.cl", name, options, out);
}

static vlcache_status get(const vlci_coded_kernels *k, const char *name, bool rows, const vlci_kernel **out) {
    char options[128];
    write_options(k, rows, options);
    return (rows ? k->rows_mma : k->mma) ? get_mma(k, name, options, rows, out)
                                         : get_plain(k, name, rows, out);
}

/* Where a kernel takes as many arguments, and each piece has a counter. */
static vlcache_status get_many(const vlci_coded_kernels *k, bool rows, const vlci_kernel **out) {
    char options[144];
    int kv_heads = k->few.shape.kv_heads, group = k->few.shape.heads / kv_heads;
    int pieces = kv_heads * vlci_codes_runs(group, k->few.lanes);
    if (!(rows ? k->rows_mma : k->mma) || k->few.device->caps.argument_bytes < ARGS_BYTES ||
        pieces * VLCI_CODED_MANY > VLCI_ATTENTION_COUNTERS)
        return VLCACHE_OK;
    write_options(k, rows, options);
    size_t n = strlen(options);
    snprintf(options + n, sizeof options - n, " -DMANY=%d", VLCI_CODED_MANY);
    return get_mma(k, "attention_coded_mma", options, rows, out);
}

static const char *attend_name(const vlci_coded_kernels *k, bool rows) {
    if (rows ? k->rows_mma : k->mma) return "attention_coded_mma";
    return k->few.wide ? "attention_coded_wide" : "attention_coded";
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_coded_open(vlcache_device *device, const vlci_attention_shape *shape,
                               vlci_coded_kernels *out) {
    vlcache_status status = vlci_few_open(device, &vlci_coded_ladder, shape, &out->few);
    if (status) return status;
    size_t dim = (size_t)shape->head_dim;
    size_t pool = pool_of(&out->few);
    bool mma = strstr(out->few.rung, "mma") && dim <= MMA_DIM_MAX && pool >= VLCI_CODED_TEXT_POOL;
    out->mma = mma && pool >= VLCI_RUNS_POOL(dim);
    out->rows_mma = mma && pool >= VLCI_ROWS_POOL(dim);
    status = get(out, attend_name(out, false), false, &out->attend);
    if (!status) status = get_many(out, false, &out->many);
    if (!status && !out->mma && !out->few.wide && out->attend->max_group < VLCI_CODED_ITEMS) {
        out->few.wide = true;
        status = get(out, attend_name(out, false), false, &out->attend);
    }
    if (!status) status = get(out, "attention_coded_score", false, &out->score);
    if (status || out->mma) return status;
    if (!out->few.wide && out->score->max_group < VLCI_CODED_ITEMS)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "kernel attention_coded_score takes work-groups of %zu, not %d: "
                         "VLCACHE_VARIANT=attention_coded:wide does without",
                         out->score->max_group, VLCI_CODED_ITEMS);
    return get(out, "attention_coded_merge", false, &out->merge);
}

vlcache_status vlci_coded_open_rows(vlci_coded_kernels *k) {
    vlcache_status status = get(k, attend_name(k, true), true, &k->attend_rows);
    if (!status) status = get_many(k, true, &k->many_rows);
    if (status || k->rows_mma) return status;
    if (!k->few.wide && k->attend_rows->max_group < VLCI_CODED_ITEMS)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "compress: storage: coded rows that are turned one by one: "
                         "work-groups of %zu are too small; use blk:16, or "
                         "VLCACHE_VARIANT=attention_coded:wide",
                         k->attend_rows->max_group);
    return k->merge ? VLCACHE_OK : get(k, "attention_coded_merge", true, &k->merge);
}

vlcache_status vlci_coded_open_scores(vlci_coded_kernels *k) {
    vlcache_status status = get_plain(k, "attention_coded_score", true, &k->score_rows);
    if (status || k->few.wide || k->score_rows->max_group >= VLCI_CODED_ITEMS) return status;
    return vlci_fail(
        VLCACHE_E_UNSUPPORTED,
        "compress: storage: coded rows that are turned one by one: work-groups of %zu are too small "
        "for layers that are coded as they are read; use blk:16",
        k->score_rows->max_group);
}

/* ---- launching ----------------------------------------------------------------------------------------- */

/* CODED_PARAMS of cl/attention_coded.cl: for query rows `at` .. at + n - 1. */
#define CODED_OF(c, l, a, at, n)                                                                             \
    VLCI_MEM((a)->q), VLCI_U32((a)->q_offset), VLCI_U32((a)->q_stride), VLCI_I32(at), VLCI_I32(n),           \
        VLCI_I32((c)->read->few.shape.heads), VLCI_I32((c)->kv_heads), VLCI_F32((a)->scale),                 \
        VLCI_MEM((c)->matrix), VLCI_MEM((c)->mean), VLCI_MEM((c)->basis), VLCI_MEM((c)->factor),             \
        VLCI_MEM((c)->words), VLCI_MEM((c)->phase), VLCI_MEM((c)->within), VLCI_MEM((c)->pattern),           \
        VLCI_MEM((c)->text), VLCI_MEM((c)->scale), VLCI_I32(l), VLCI_I32((c)->rows), VLCI_I32((c)->run),     \
        VLCI_I32((c)->texts)

static vlcache_status attend(const vlci_codes *c, int layer, const vlci_attention *a, const vlci_few_cut *p) {
    const vlci_coded_kernels *k = c->read;
    const vlci_kernel *kernel = c->patterns ? k->attend_rows : k->attend;
    return VLCI_LAUNCH(k->few.device, kernel, vlci_few_grid(&k->few, p, c->texts > 0),
                       CODED_OF(c, layer, a, p->first, p->rows), VLCI_MEM(a->scratch), VLCI_I32(p->share),
                       VLCI_I32(p->shares));
}

static vlcache_status merge(const vlci_codes *c, int layer, const vlci_attention *a, const vlci_few_cut *p) {
    const vlci_coded_kernels *k = c->read;
    return VLCI_LAUNCH(k->few.device, k->merge, vlci_few_merge_grid(&k->few, p, k->merge),
                       VLCI_MEM(a->scratch), VLCI_I32(p->shares), VLCI_I32(c->texts > 0), VLCI_MEM(a->out),
                       VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_I32(p->first), VLCI_I32(p->rows),
                       VLCI_I32(k->few.shape.heads), VLCI_I32(c->kv_heads), VLCI_MEM(c->matrix),
                       VLCI_MEM(c->mean), VLCI_MEM(c->basis), VLCI_MEM(c->factor), VLCI_I32(layer));
}

/* As many of the rows as go at once: *n. */
static vlcache_status run_plain(const vlci_codes *c, int layer, const vlci_attention *a, int first, int rows,
                                int *n) {
    vlci_few_cut p = vlci_few_divide(&c->read->few, first, rows, c->runs, c->texts > 0);
    vlcache_status status = attend(c, layer, a, &p);
    *n = p.rows;
    return status ? status : merge(c, layer, a, &p);
}

/* ---- on matrix units ----------------------------------------------------------------------------------- */

/* A share has LEAST blocks, if there are as many. As many rows of text take as long as a block whose rows are
 * turned alike, or one by one. A compute unit has room for one work-group: all of them should be there at
 * once. */
enum { LEAST = 4, TEXTS_ALIKE = 4, TEXTS_SINGLY = 16, SHARES = VLCI_CODED_SHARES / 2 };

typedef struct cut_mma {
    vlci_few_cut few; /* few.share: blocks */
    int text_share, text_shares;
} cut_mma;

/* Text and rows in pages go by TILE rows at a time: whole ones of them to each of `groups` work-groups, pages
 * to the last, or to one of their own. */
static void divide_text(int texts, int pages, int groups, cut_mma *cut) {
    enum { TILE = VLCI_CODED_MMA_ITEMS / 2 };
    int tiles = vlci_codes_runs(texts, TILE), behind = vlci_codes_runs(pages, TILE);
    int each = vlci_codes_runs(tiles + behind, groups), taken = each ? vlci_codes_runs(tiles, each) : 0;
    bool apart = behind > taken * each - tiles;
    cut->text_share = apart && taken ? vlci_codes_runs(texts, taken) : each * TILE;
    cut->text_shares = taken + apart;
}

/* How long it takes, as blocks. pages: rows in pages that the launch sees, too. */
static int length_of(const vlci_codes *c, int pages, int *beside) {
    *beside = vlci_codes_runs(c->texts + pages, c->patterns ? TEXTS_SINGLY : TEXTS_ALIKE);
    return vlci_codes_runs(c->rows, VLCI_CODE_ROWS) + *beside;
}

/* units: of the device, for all pieces. */
static cut_mma divide_mma(const vlci_codes *c, int first, int rows, int pages, size_t units) {
    int as_long, all = length_of(c, pages, &as_long), blocks = all - as_long;
    cut_mma cut = {.few = vlci_few_divide(&c->read->few, first, rows, blocks, 0)};
    int fit = (int)(units / cut.few.pieces);
    int beside = (int)(((int64_t)fit * as_long + all - 1) / all);
    if (beside > SHARES) beside = SHARES;
    int shares = fit - beside;
    if (shares < 1) shares = 1;
    if (shares > SHARES) shares = SHARES;
    cut.few.share = vlci_codes_runs(blocks, shares);
    if (cut.few.share < LEAST) cut.few.share = LEAST;
    cut.few.shares = vlci_codes_runs(blocks, cut.few.share);
    divide_text(c->texts, pages, beside > 1 ? beside : 1, &cut);
    return cut;
}

static size_t units_of(const vlci_codes *c) {
    return c->read->few.device->caps.info.compute_units;
}

typedef struct launch_args {
    vlci_arg at[ARGS_MOST];
    size_t n;
} launch_args;

static void add_args(launch_args *args, const vlci_arg *more, size_t n) {
    memcpy(args->at + args->n, more, n * sizeof *more);
    args->n += n;
}

#define ADD_ARGS(args, ...)                                                                                  \
    add_args((args), (const vlci_arg[]){__VA_ARGS__},                                                        \
             sizeof((const vlci_arg[]){__VA_ARGS__}) / sizeof(vlci_arg))

/* PAGES_PARAMS of cl/attention_coded_mma.cl: of a paged view, whose layer the kernel knows. */
static vlcache_status add_pages(launch_args *args, const vlci_few *few, const vlci_attention *a) {
    vlci_arg kv[VLCI_KV_ARGS];
    vlcache_status status = reads_pages(few) ? vlci_kv_args(&a->kv, kv) : VLCACHE_OK;
    if (!status && reads_pages(few)) /* k, v, bias, heads, slots, table, layers, ahead, row_stride */
        ADD_ARGS(args, kv[0], kv[1], kv[2], kv[3], kv[4], kv[5], kv[7], kv[8], kv[13]);
    return status;
}

/* pages: rows in pages that no launch has seen yet, 0: one has. */
static vlcache_status run_mma(const vlci_codes *c, int layer, const vlci_attention *a, int first, int rows,
                              int pages, int *n) {
    const vlci_coded_kernels *k = c->read;
    cut_mma cut = divide_mma(c, first, rows, pages, units_of(c));
    const vlci_few_cut *p = &cut.few;
    launch_args args = {.n = 0};
    *n = p->rows;
    ADD_ARGS(&args, CODED_OF(c, layer, a, p->first, p->rows), VLCI_MEM(a->scratch), VLCI_I32(p->share),
             VLCI_I32(p->shares), VLCI_I32(cut.text_share), VLCI_MEM(a->out), VLCI_MEM(a->row_max),
             VLCI_MEM(a->row_lse), VLCI_I32(pages > 0));
    vlcache_status status = add_pages(&args, &k->few, a);
    if (status) return status;
    return vlci_launch(k->few.device, c->patterns ? k->attend_rows : k->attend,
                       VLCI_GRID((size_t)(p->shares + cut.text_shares), p->pieces, 1, VLCI_CODED_MMA_ITEMS, 1,
                                 1),
                       args.at, args.n);
}

/* Codes of several sequences, each of which has a query row, in one launch: those of the same kernel. */
typedef struct crowd {
    const vlci_codes *codes[VLCI_CODED_MANY];
    int row[VLCI_CODED_MANY], n;
} crowd;

/* ONE_OF of cl/attention_coded_mma.cl. */
static vlci_arg numbers_of(const vlci_codes *c, const cut_mma *cut, int begin) {
    return (vlci_arg){.kind = VLCI_ARG_U32X16,
                      .as.u32x16 = {c->at[VLCI_CODES_BASIS], c->at[VLCI_CODES_FACTOR],
                                    c->at[VLCI_CODES_WORDS], c->at[VLCI_CODES_SCALE], c->at[VLCI_CODES_PHASE],
                                    c->at[VLCI_CODES_WITHIN], c->at[VLCI_CODES_PATTERN], (uint32_t)c->rows,
                                    (uint32_t)c->run, (uint32_t)c->texts, (uint32_t)cut->few.first,
                                    (uint32_t)cut->few.share, (uint32_t)cut->few.shares,
                                    (uint32_t)cut->text_share, (uint32_t)begin,
                                    (uint32_t)(cut->few.shares + cut->text_shares)}};
}

/* Returns the work-groups of all, pieces of each. No work-group is found by what is behind the last. */
static vlci_grid add_crowd(launch_args *args, const crowd *who, int pages) {
    int groups = 0, beside;
    size_t pieces = 0;
    int64_t all = 0;
    for (int i = 0; i < who->n; i++) all += length_of(who->codes[i], pages, &beside);
    for (int i = 0; i < VLCI_CODED_MANY; i++)
        for (int m = 0; m < VLCI_CODES_MEMORIES; m++)
            ADD_ARGS(args, VLCI_MEM(i < who->n ? who->codes[i]->memory[m] : NULL));
    for (int i = 0; i < who->n; i++) {
        const vlci_codes *c = who->codes[i];
        size_t units = units_of(c) * (size_t)length_of(c, pages, &beside) / (size_t)all;
        cut_mma cut = divide_mma(c, who->row[i], 1, pages, units);
        ADD_ARGS(args, numbers_of(c, &cut, groups));
        groups += cut.few.shares + cut.text_shares;
        pieces = cut.few.pieces;
    }
    for (int i = who->n; i < VLCI_CODED_MANY; i++)
        ADD_ARGS(args, (vlci_arg){.kind = VLCI_ARG_U32X16, .as.u32x16 = {[14] = UINT32_MAX}});
    return VLCI_GRID((size_t)groups, pieces, 1, VLCI_CODED_MMA_ITEMS, 1, 1);
}

static vlcache_status run_crowd(const vlci_kernel *kernel, const crowd *who, int layer,
                                const vlci_attention *a, int pages) {
    const vlci_codes *c = who->codes[0];
    const vlci_few *few = &c->read->few;
    launch_args args = {.n = 0};
    ADD_ARGS(&args, VLCI_MEM(a->q), VLCI_U32(a->q_offset), VLCI_U32(a->q_stride), VLCI_I32(few->shape.heads),
             VLCI_I32(c->kv_heads), VLCI_F32(a->scale), VLCI_I32(layer), VLCI_MEM(a->scratch),
             VLCI_MEM(a->out), VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_I32(pages > 0));
    vlcache_status status = add_pages(&args, few, a);
    vlci_grid grid = add_crowd(&args, who, pages);
    return status ? status : vlci_launch(few->device, kernel, grid, args.at, args.n);
}

static vlcache_status score_mma(const vlci_codes *c, int layer, const vlci_attention *a, int row,
                                double weight, const vlci_coded_sight *sight) {
    const vlci_coded_kernels *k = c->read;
    cut_mma cut = divide_mma(c, row, 1, 0, units_of(c));
    const vlci_few_cut *p = &cut.few;
    int texts = vlci_codes_runs(c->texts, VLCI_CODED_MMA_ITEMS);
    return VLCI_LAUNCH(
        k->few.device, k->score,
        VLCI_GRID((size_t)(p->shares + texts), (size_t)c->kv_heads, 1, VLCI_CODED_MMA_ITEMS, 1, 1),
        CODED_OF(c, layer, a, row, 1), VLCI_I32(p->share), VLCI_I32(p->shares), VLCI_MEM(a->row_lse),
        VLCI_MEM(sight->positions), VLCI_MEM(sight->text_at), VLCI_F32((float)weight), VLCI_MEM(sight->score),
        VLCI_U32((size_t)layer * (size_t)c->kv_heads * (size_t)sight->tokens), VLCI_I32(sight->tokens));
}

/* ---- all codes of a sequence --------------------------------------------------------------------------- */

static bool is_mma(const vlci_codes *c) {
    return c->patterns ? c->read->rows_mma : c->read->mma;
}

/* Few enough that the work-group which has them, behind text, is not the last. */
enum { PAGES_MOST = 512 };

static const vlci_kernel *many_of(const vlci_codes *c) {
    return c->patterns ? c->read->many_rows : c->read->many;
}

bool vlci_coded_sees_pages(vlci_kv *const *sequences, const vlci_attention *a) {
    for (int b = 0; b < a->batch; b++) {
        const vlci_codes *c = sequences[b]->codes;
        if (!c || !is_mma(c) || !reads_pages(&c->read->few) || (a->batch > 1 && !many_of(c))) return false;
    }
    return a->max_rows == 1 && a->kv.table && a->max_keys > 0 && a->max_keys <= PAGES_MOST &&
           (!a->window || a->max_keys <= a->window);
}

/* pages: as run_mma() has it. */
static vlcache_status run_one(const vlci_codes *c, int layer, const vlci_attention *a, int first, int rows,
                              int pages) {
    vlcache_status status = VLCACHE_OK;
    for (int row = 0, n = 0; row < rows && !status; row += n)
        status = is_mma(c) ? run_mma(c, layer, a, first + row, rows - row, pages, &n)
                           : run_plain(c, layer, a, first + row, rows - row, &n);
    return status;
}

/* A step's launches over the codes of one turn of each sequence: those of the turn that is `back` before its
 * last, if they are turned as `patterns` says. Others are not there. */
typedef struct turn {
    vlci_kv *const *sequences;
    const vlci_attention *a;
    int layer, back, pages;
    bool patterns;
} turn;

static const vlci_codes *codes_of(const turn *t, int b) {
    const vlci_codes *c = t->sequences[b]->codes;
    for (int i = 0; c && i < t->back; i++) c = c->before;
    return c && (c->patterns > 0) == t->patterns ? c : NULL;
}

/* `n` sequences' codes, by one launch for as many as it takes: all have about as many. */
static vlcache_status run_many(const turn *t, int n) {
    vlcache_status status = VLCACHE_OK;
    crowd who = {.n = 0};
    for (int b = 0; n && !status; b++) {
        const vlci_codes *c = codes_of(t, b);
        if (!c) continue;
        who.codes[who.n] = c;
        who.row[who.n++] = b;
        if (who.n < vlci_codes_runs(n, vlci_codes_runs(n, VLCI_CODED_MANY))) continue;
        status = run_crowd(many_of(c), &who, t->layer, t->a, t->pages);
        n -= who.n;
        who.n = 0;
    }
    return status;
}

/* *n: sequences that have such codes. */
static vlcache_status run_turn(const turn *t, int *n) {
    int batch = t->a->batch, rows = batch == 1 ? t->a->max_rows : 1;
    const vlci_codes *any = NULL;
    vlcache_status status = VLCACHE_OK;
    *n = 0;
    for (int b = 0; b < batch && !status; b++) {
        const vlci_codes *c = codes_of(t, b);
        if (!c) continue;
        any = c;
        ++*n;
        status = vlci_few_check_run("coded", t->layer, c->layers, t->a);
        if (!status && (batch == 1 || !many_of(c))) status = run_one(c, t->layer, t->a, b, rows, t->pages);
    }
    return status || batch == 1 || !any || !many_of(any) ? status : run_many(t, *n);
}

vlcache_status vlci_coded_run(vlci_kv *const *sequences, int layer, const vlci_attention *a, bool pages) {
    vlcache_status status = VLCACHE_OK;
    for (int back = 0, alike = 1, singly = 1; alike + singly && !status; back++) {
        turn t = {sequences, a, layer, back, pages && !back ? a->max_keys : 0, false};
        status = run_turn(&t, &alike);
        t.patterns = true;
        if (!status) status = run_turn(&t, &singly);
    }
    return status;
}

vlcache_status vlci_coded_score(const vlci_codes *c, int layer, const vlci_attention *a, int row,
                                double weight, const vlci_coded_sight *sight) {
    const vlci_coded_kernels *k = c->read;
    size_t pieces = (size_t)c->runs + (c->texts > 0), heads = (size_t)c->kv_heads;
    vlcache_status status = vlci_few_check_run("coded", layer, c->layers, a);
    if (status) return status;
    if (k->mma && !c->patterns) return score_mma(c, layer, a, row, weight, sight);
    return VLCI_LAUNCH(k->few.device, c->patterns ? k->score_rows : k->score,
                       VLCI_GRID(pieces, heads, 1, k->few.wide ? 1 : VLCI_CODED_ITEMS, 1, 1),
                       CODED_OF(c, layer, a, row, 1), VLCI_MEM(a->row_lse), VLCI_MEM(sight->positions),
                       VLCI_MEM(sight->text_at), VLCI_F32((float)weight), VLCI_MEM(sight->score),
                       VLCI_U32((size_t)layer * heads * (size_t)sight->tokens), VLCI_I32(sight->tokens));
}
