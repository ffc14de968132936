/*
 * coded.c - launches attention over coded rows: a few query rows at a time, their runs divided into shares,
 * and what comes of them added to the attention over the rows in pages.
 */
#include "compute/coded.h"

#include <stdio.h>
#include <string.h>

/* AT_ONCE: query rows of a launch: half of those that the scratch of attention has room for, text being a
 * share of its own. */
enum { AT_ONCE = 4, LANES_MAX = 4, SHARES_MAX = 256, MERGE_ITEMS = 64 };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static int group_of(const vlci_coded_kernels *k) {
    return k->shape.heads / k->shape.kv_heads;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static const char *const rungs[] = {"wide", "group", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_CODED_ITEMS;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "wide" : "group";
}

const vlci_ladder vlci_coded_ladder = {"attention_coded", "decode", rungs, rung_fits, choose};

vlcache_status vlci_coded_check(int head_dim) {
    if (head_dim >= 16 && head_dim <= VLCI_CODE_DIM_MAX && head_dim % 16 == 0) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "compress: storage: head_dim %d: coded rows take multiples of 16 up to %d", head_dim,
                     VLCI_CODE_DIM_MAX);
}

static vlcache_status get(const vlci_coded_kernels *k, const char *name, bool rows, const vlci_kernel **out) {
    char options[128], cap[VLCI_ATTENTION_CAP];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DHEADS=%d -DWIDE=%d -DROWS=%d%s", k->shape.head_dim,
             k->lanes, k->wide, rows, vlci_attention_cap(k->shape.cap, cap));
    return vlci_kernel_get(k->device, "attention_coded.cl", name, options, out);
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_coded_open(vlcache_device *device, const vlci_attention_shape *shape,
                               vlci_coded_kernels *out) {
    const char *rung;
    *out =
        (vlci_coded_kernels){.device = device, .shape = *shape, .lanes = 1, .attend_rows = out->attend_rows};
    vlcache_status status = vlci_coded_check(shape->head_dim);
    if (!status) status = vlci_rung(device, &vlci_coded_ladder, choose(device), &rung);
    if (status) return status;
    while (out->lanes < LANES_MAX && out->lanes < group_of(out)) out->lanes *= 2;
    out->wide = strcmp(rung, "wide") == 0;
    if (!out->wide) {
        status = get(out, "attention_coded", false, &out->attend);
        if (!status && out->attend->max_group < VLCI_CODED_ITEMS) out->wide = true;
    }
    if (!status && out->wide) status = get(out, "attention_coded_wide", false, &out->attend);
    if (!status) status = get(out, "attention_coded_score", false, &out->score);
    if (!status && !out->wide && out->score->max_group < VLCI_CODED_ITEMS)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "kernel attention_coded_score takes work-groups of %zu, not %d: "
                         "VLCACHE_VARIANT=attention_coded:wide does without",
                         out->score->max_group, VLCI_CODED_ITEMS);
    return status ? status : get(out, "attention_coded_merge", false, &out->merge);
}

vlcache_status vlci_coded_open_rows(vlci_coded_kernels *k) {
    vlcache_status status =
        get(k, k->wide ? "attention_coded_wide" : "attention_coded", true, &k->attend_rows);
    if (!status && !k->wide && k->attend_rows->max_group < VLCI_CODED_ITEMS)
        status = vlci_fail(VLCACHE_E_UNSUPPORTED,
                           "compress: storage: coded rows that are turned one by one: "
                           "work-groups of %zu are too small; use blk:16, or "
                           "VLCACHE_VARIANT=attention_coded:wide",
                           k->attend_rows->max_group);
    return status;
}

/* ---- launching ----------------------------------------------------------------------------------------- */

/* A launch: rows of a sequence, and how their work is cut. */
typedef struct piece {
    int first, rows;
    size_t groups;     /* of lanes, for each kv head */
    int shares, share; /* of the runs: text is one more */
} piece;

/* As many shares as keep the device busy, one of them text: no more than attention itself would have partial
 * results of. */
static piece divide(const vlci_coded_kernels *k, const vlci_codes *c, int first, int rows) {
    piece p = {.first = first, .rows = rows < AT_ONCE ? rows : AT_ONCE};
    p.groups = ceil_div((size_t)p.rows * (size_t)group_of(k), (size_t)k->lanes);
    size_t pieces = p.groups * (size_t)k->shape.kv_heads, shares = 1;
    size_t wanted = (size_t)k->device->caps.info.compute_units * (k->wide ? 1 : 4);
    shares = ceil_div(wanted, pieces);
    if (shares > SHARES_MAX) shares = SHARES_MAX;
    if (shares > 1 && c->texts) shares--;
    p.share = (int)ceil_div((size_t)c->runs, shares);
    p.shares = (int)ceil_div((size_t)c->runs, (size_t)p.share);
    return p;
}

/* CODED_PARAMS of cl/attention_coded.cl: for query rows `at` .. at + n - 1. */
#define CODED_OF(c, l, a, at, n)                                                                             \
    VLCI_MEM((a)->q), VLCI_U32((a)->q_offset), VLCI_U32((a)->q_stride), VLCI_I32(at), VLCI_I32(n),           \
        VLCI_I32((c)->read->shape.heads), VLCI_I32((c)->kv_heads), VLCI_F32((a)->scale),                     \
        VLCI_MEM((c)->matrix), VLCI_MEM((c)->mean), VLCI_MEM((c)->basis), VLCI_MEM((c)->factor),             \
        VLCI_MEM((c)->words), VLCI_MEM((c)->phase), VLCI_MEM((c)->within), VLCI_MEM((c)->pattern),           \
        VLCI_MEM((c)->text), VLCI_MEM((c)->scale), VLCI_I32(l), VLCI_I32((c)->rows), VLCI_I32((c)->run),     \
        VLCI_I32((c)->texts)

static vlcache_status attend(const vlci_codes *c, int layer, const vlci_attention *a, const piece *p) {
    const vlci_coded_kernels *k = c->read;
    vlci_grid grid = VLCI_GRID((size_t)(p->shares + (c->texts > 0)), (size_t)c->kv_heads * p->groups, 1,
                               k->wide ? 1 : VLCI_CODED_ITEMS, 1, 1);
    const vlci_kernel *kernel = c->patterns ? k->attend_rows : k->attend;
    return VLCI_LAUNCH(k->device, kernel, grid, CODED_OF(c, layer, a, p->first, p->rows),
                       VLCI_MEM(a->scratch), VLCI_I32(p->share), VLCI_I32(p->shares));
}

static vlcache_status merge(const vlci_codes *c, int layer, const vlci_attention *a, const piece *p) {
    const vlci_coded_kernels *k = c->read;
    vlci_grid grid = VLCI_GRID((size_t)k->lanes, (size_t)c->kv_heads * p->groups, 1,
                               k->wide ? 1 : vlci_group_width(k->merge, MERGE_ITEMS), 1, 1);
    return VLCI_LAUNCH(k->device, k->merge, grid, VLCI_MEM(a->scratch), VLCI_I32(p->shares),
                       VLCI_I32(c->texts > 0), VLCI_MEM(a->out), VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse),
                       VLCI_I32(p->first), VLCI_I32(p->rows), VLCI_I32(k->shape.heads), VLCI_I32(c->kv_heads),
                       VLCI_MEM(c->matrix), VLCI_MEM(c->mean), VLCI_MEM(c->basis), VLCI_MEM(c->factor),
                       VLCI_I32(layer));
}

static vlcache_status check(const vlci_codes *c, int layer, const vlci_attention *a) {
    if (layer < 0 || layer >= c->layers || !a->scratch || !a->row_max || !a->row_lse)
        return vlci_fail(VLCACHE_E_INTERNAL, "coded rows: layer %d: scratch, row_max and row_lse are needed",
                         layer);
    if (a->q_offset > UINT32_MAX || a->q_stride > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "coded rows: layer %d: an offset or stride exceeds 32 bits",
                         layer);
    return VLCACHE_OK;
}

vlcache_status vlci_coded_run(const vlci_codes *codes, int layer, const vlci_attention *a, int first,
                              int rows) {
    vlcache_status status = VLCACHE_OK;
    for (const vlci_codes *c = codes; c && !status; c = c->before) {
        status = check(c, layer, a);
        for (int row = 0; row < rows && !status; row += AT_ONCE) {
            piece p = divide(c->read, c, first + row, rows - row);
            status = attend(c, layer, a, &p);
            if (!status) status = merge(c, layer, a, &p);
        }
    }
    return status;
}

vlcache_status vlci_coded_score(const vlci_codes *c, int layer, const vlci_attention *a, int row,
                                double weight, const vlci_coded_sight *sight) {
    const vlci_coded_kernels *k = c->read;
    size_t pieces = (size_t)c->runs + (c->texts > 0), heads = (size_t)c->kv_heads;
    vlcache_status status = check(c, layer, a);
    if (status) return status;
    return VLCI_LAUNCH(k->device, k->score, VLCI_GRID(pieces, heads, 1, k->wide ? 1 : VLCI_CODED_ITEMS, 1, 1),
                       CODED_OF(c, layer, a, row, 1), VLCI_MEM(a->row_lse), VLCI_MEM(sight->positions),
                       VLCI_MEM(sight->text_at), VLCI_F32((float)weight), VLCI_MEM(sight->score),
                       VLCI_U32((size_t)layer * heads * (size_t)sight->tokens), VLCI_I32(sight->tokens));
}
