/*
 * coded.c - launches attention over coded rows: a few query rows at a time, their runs (on matrix units:
 * blocks of rows) divided into shares, and what comes of them added to the attention over the rows in pages.
 */
#include "compute/coded.h"

#include <stdio.h>
#include <string.h>

/* ---- opening ------------------------------------------------------------------------------------------- */

enum { MMA_DIM_MAX = 128 }; /* registers */

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
    char all[224];
    bool together = makes_together(&k->few, rows);
    snprintf(all, sizeof all, "%s -DPOOL_BYTES=%zu -DSCORES=%d -DWGMMA=%d -DPAGED=%d -DKV_DTYPE=%d", options,
             pool_of(&k->few), strcmp(name, "attention_coded_score") == 0, together, reads_pages(&k->few),
             (int)k->few.shape.kv_dtype);
    const vlci_ptx ptx = {.target = together ? "sm_90a" : "", .local_bytes = pool_of(&k->few)};
    return vlci_kernel_get_ptx(k->few.device, "attention_coded_mma.cl", name, all, &ptx, out);
}

static void write_options(const vlci_coded_kernels *k, bool rows, char options[128]) {
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

/* pages: rows in pages that the launch sees, too. */
static cut_mma divide_mma(const vlci_codes *c, int first, int rows, int pages) {
    int blocks = vlci_codes_runs(c->rows, VLCI_CODE_ROWS), others = c->texts + pages;
    int as_long = vlci_codes_runs(others, c->patterns ? TEXTS_SINGLY : TEXTS_ALIKE), all = blocks + as_long;
    cut_mma cut = {.few = vlci_few_divide(&c->read->few, first, rows, blocks, 0)};
    int fit = (int)(c->read->few.device->caps.info.compute_units / cut.few.pieces);
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

/* pages: rows in pages that no launch has seen yet, 0: one has. */
static vlcache_status run_mma(const vlci_codes *c, int layer, const vlci_attention *a, int first, int rows,
                              int pages, int *n) {
    const vlci_coded_kernels *k = c->read;
    cut_mma cut = divide_mma(c, first, rows, pages);
    const vlci_few_cut *p = &cut.few;
    const vlci_arg own[] = {CODED_OF(c, layer, a, p->first, p->rows),
                            VLCI_MEM(a->scratch),
                            VLCI_I32(p->share),
                            VLCI_I32(p->shares),
                            VLCI_I32(cut.text_share),
                            VLCI_MEM(a->out),
                            VLCI_MEM(a->row_max),
                            VLCI_MEM(a->row_lse),
                            VLCI_I32(pages > 0)};
    enum { OWN = sizeof own / sizeof *own, PAGED = 9 };
    vlci_arg args[OWN + PAGED], kv[VLCI_KV_ARGS];
    vlcache_status status = vlci_kv_args(&a->kv, kv);
    if (status) return status;
    /* of a paged view, whose layer this is: k, v, bias, heads, slots, table, layers, ahead, row_stride */
    const vlci_arg paged[PAGED] = {kv[0], kv[1], kv[2], kv[3], kv[4], kv[5], kv[7], kv[8], kv[13]};
    memcpy(args, own, sizeof own);
    memcpy(args + OWN, paged, sizeof paged);
    *n = p->rows;
    return vlci_launch(k->few.device, c->patterns ? k->attend_rows : k->attend,
                       VLCI_GRID((size_t)(p->shares + cut.text_shares), p->pieces, 1, VLCI_CODED_MMA_ITEMS, 1,
                                 1),
                       args, OWN + (reads_pages(&k->few) ? PAGED : 0));
}

static vlcache_status score_mma(const vlci_codes *c, int layer, const vlci_attention *a, int row,
                                double weight, const vlci_coded_sight *sight) {
    const vlci_coded_kernels *k = c->read;
    cut_mma cut = divide_mma(c, row, 1, 0);
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

bool vlci_coded_sees_pages(const vlci_codes *c, const vlci_attention *a) {
    return c && is_mma(c) && reads_pages(&c->read->few) && a->batch == 1 && a->max_rows == 1 && a->kv.table &&
           a->max_keys > 0 && a->max_keys <= PAGES_MOST && (!a->window || a->max_keys <= a->window);
}

vlcache_status vlci_coded_run(const vlci_codes *codes, int layer, const vlci_attention *a, int first,
                              int rows, bool pages) {
    vlcache_status status = VLCACHE_OK;
    for (const vlci_codes *c = codes; c && !status; c = c->before) {
        int seen = pages && c == codes ? a->max_keys : 0;
        status = vlci_few_check_run("coded", layer, c->layers, a);
        for (int row = 0, n = 0; row < rows && !status; row += n)
            status = is_mma(c) ? run_mma(c, layer, a, first + row, rows - row, seen, &n)
                               : run_plain(c, layer, a, first + row, rows - row, &n);
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
