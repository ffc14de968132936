/*
 * quantised.c - launches attention over quantised rows: a few query rows at a time, their groups of rows
 * divided into shares, and what comes of them added to the attention over the rows in pages.
 */
#include "compute/quantised.h"

#include <stdio.h>

/* ---- opening ------------------------------------------------------------------------------------------- */

const vlci_ladder vlci_quantised_ladder = {"attention_quantised", "decode", vlci_few_rungs, vlci_few_fits,
                                           vlci_few_choose};

static vlcache_status get(const vlci_quantised_kernels *k, const char *name, int key_bits, int value_bits,
                          const vlci_kernel **out) {
    char options[144], cap[VLCI_ATTENTION_CAP];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DHEADS=%d -DKEY_BITS=%d -DVALUE_BITS=%d -DWIDE=%d%s",
             k->few.shape.head_dim, k->few.lanes, key_bits, value_bits, k->few.wide,
             vlci_attention_cap(k->few.shape.cap, cap));
    return vlci_kernel_get(k->few.device, "attention_quantised.cl", name, options, out);
}

/* Place of a number's bits among those there are. */
static int width_of(int bits) {
    return bits < 8 ? bits - 2 : VLCI_QUANT_WIDTHS - 1;
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_quantised_open(vlcache_device *device, const vlci_attention_shape *shape, int key_bits,
                                   int value_bits, vlci_quantised_kernels *k) {
    const vlci_kernel **attend = &k->attend[width_of(key_bits)][width_of(value_bits)];
    vlcache_status status = vlci_few_open(device, &vlci_quantised_ladder, shape, &k->few);
    if (status) return status;
    if (!k->few.wide) {
        status = get(k, "attention_quantised", key_bits, value_bits, attend);
        if (!status && (*attend)->max_group < VLCI_CODED_ITEMS) k->few.wide = true;
    }
    if (!status && k->few.wide) status = get(k, "attention_quantised_wide", key_bits, value_bits, attend);
    return status ? status : get(k, "attention_quantised_merge", key_bits, value_bits, &k->merge);
}

/* ---- launching ----------------------------------------------------------------------------------------- */

static int most_groups(const vlci_quants *c, int layer) {
    int most = 1;
    for (int h = 0; h < c->kv_heads; h++) {
        int groups = (c->own[layer * c->kv_heads + h].rows + c->group - 1) / c->group;
        if (groups > most) most = groups;
    }
    return most;
}

static vlcache_status attend(const vlci_quants *c, int layer, const vlci_attention *a,
                             const vlci_few_cut *p) {
    const vlci_quantised_kernels *k = c->read;
    const vlci_kernel *kernel = k->attend[width_of(c->key_bits)][width_of(c->value_bits)];
    return VLCI_LAUNCH(k->few.device, kernel, vlci_few_grid(&k->few, p, 0), VLCI_MEM(a->q),
                       VLCI_U32(a->q_offset), VLCI_U32(a->q_stride), VLCI_I32(p->first), VLCI_I32(p->rows),
                       VLCI_I32(k->few.shape.heads), VLCI_I32(c->kv_heads), VLCI_F32(a->scale),
                       VLCI_MEM(c->head), VLCI_MEM(c->keys), VLCI_MEM(c->values), VLCI_MEM(c->key_scale),
                       VLCI_MEM(c->value_scale), VLCI_MEM(c->bias), VLCI_I32(c->group), VLCI_I32(layer),
                       VLCI_MEM(a->scratch), VLCI_I32(p->share));
}

static vlcache_status merge(const vlci_quants *c, const vlci_attention *a, const vlci_few_cut *p) {
    const vlci_quantised_kernels *k = c->read;
    return VLCI_LAUNCH(k->few.device, k->merge, vlci_few_merge_grid(&k->few, p, k->merge),
                       VLCI_MEM(a->scratch), VLCI_I32(p->shares), VLCI_MEM(a->out), VLCI_MEM(a->row_max),
                       VLCI_MEM(a->row_lse), VLCI_I32(p->first), VLCI_I32(p->rows),
                       VLCI_I32(k->few.shape.heads), VLCI_I32(c->kv_heads));
}

vlcache_status vlci_quantised_run(const vlci_quants *quants, int layer, const vlci_attention *a, int first,
                                  int rows) {
    vlcache_status status = VLCACHE_OK;
    for (const vlci_quants *c = quants; c && !status; c = c->before) {
        status = vlci_few_check_run("quantised", layer, c->layers, a);
        for (int row = 0, n; row < rows && !status; row += n) {
            vlci_few_cut p =
                vlci_few_divide(&c->read->few, first + row, rows - row, most_groups(c, layer), 0);
            n = p.rows;
            status = attend(c, layer, a, &p);
            if (!status) status = merge(c, a, &p);
        }
    }
    return status;
}
