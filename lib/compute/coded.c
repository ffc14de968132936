/*
 * coded.c - launches attention over coded rows: a few query rows at a time, their runs divided into shares,
 * and what comes of them added to the attention over the rows in pages.
 */
#include "compute/coded.h"

#include <stdio.h>

/* ---- opening ------------------------------------------------------------------------------------------- */

const vlci_ladder vlci_coded_ladder = {"attention_coded", "decode", vlci_few_rungs, vlci_few_fits,
                                       vlci_few_choose};

static vlcache_status get(const vlci_coded_kernels *k, const char *name, bool rows, const vlci_kernel **out) {
    char options[128], cap[VLCI_ATTENTION_CAP];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DHEADS=%d -DWIDE=%d -DROWS=%d%s", k->few.shape.head_dim,
             k->few.lanes, k->few.wide, rows, vlci_attention_cap(k->few.shape.cap, cap));
    return vlci_kernel_get(k->few.device, "attention_coded.cl", name, options, out);
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_coded_open(vlcache_device *device, const vlci_attention_shape *shape,
                               vlci_coded_kernels *out) {
    vlcache_status status = vlci_few_open(device, &vlci_coded_ladder, shape, &out->few);
    if (status) return status;
    if (!out->few.wide) {
        status = get(out, "attention_coded", false, &out->attend);
        if (!status && out->attend->max_group < VLCI_CODED_ITEMS) out->few.wide = true;
    }
    if (!status && out->few.wide) status = get(out, "attention_coded_wide", false, &out->attend);
    if (!status) status = get(out, "attention_coded_score", false, &out->score);
    if (!status && !out->few.wide && out->score->max_group < VLCI_CODED_ITEMS)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "kernel attention_coded_score takes work-groups of %zu, not %d: "
                         "VLCACHE_VARIANT=attention_coded:wide does without",
                         out->score->max_group, VLCI_CODED_ITEMS);
    return status ? status : get(out, "attention_coded_merge", false, &out->merge);
}

vlcache_status vlci_coded_open_rows(vlci_coded_kernels *k) {
    vlcache_status status =
        get(k, k->few.wide ? "attention_coded_wide" : "attention_coded", true, &k->attend_rows);
    if (!status && !k->few.wide && k->attend_rows->max_group < VLCI_CODED_ITEMS)
        status = vlci_fail(VLCACHE_E_UNSUPPORTED,
                           "compress: storage: coded rows that are turned one by one: "
                           "work-groups of %zu are too small; use blk:16, or "
                           "VLCACHE_VARIANT=attention_coded:wide",
                           k->attend_rows->max_group);
    return status;
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

vlcache_status vlci_coded_run(const vlci_codes *codes, int layer, const vlci_attention *a, int first,
                              int rows) {
    vlcache_status status = VLCACHE_OK;
    for (const vlci_codes *c = codes; c && !status; c = c->before) {
        status = vlci_few_check_run("coded", layer, c->layers, a);
        for (int row = 0, n; row < rows && !status; row += n) {
            vlci_few_cut p = vlci_few_divide(&c->read->few, first + row, rows - row, c->runs, c->texts > 0);
            n = p.rows;
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
    vlcache_status status = vlci_few_check_run("coded", layer, c->layers, a);
    if (status) return status;
    return VLCI_LAUNCH(k->few.device, k->score,
                       VLCI_GRID(pieces, heads, 1, k->few.wide ? 1 : VLCI_CODED_ITEMS, 1, 1),
                       CODED_OF(c, layer, a, row, 1), VLCI_MEM(a->row_lse), VLCI_MEM(sight->positions),
                       VLCI_MEM(sight->text_at), VLCI_F32((float)weight), VLCI_MEM(sight->score),
                       VLCI_U32((size_t)layer * heads * (size_t)sight->tokens), VLCI_I32(sight->tokens));
}
