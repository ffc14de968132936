/*
 * quantised.c - launches attention over quantised rows: a few query rows at a time, their groups of rows
 * divided into shares, and what comes of them added to the attention over the rows in pages.
 */
#include "compute/quantised.h"

#include <stdio.h>
#include <string.h>

/* AT_ONCE: query rows of a launch: half of those that the scratch of attention has room for. */
enum { AT_ONCE = 4, LANES_MAX = 4, SHARES_MAX = 256, MERGE_ITEMS = 64 };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static int group_of(const vlci_quantised_kernels *k) {
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

const vlci_ladder vlci_quantised_ladder = {"attention_quantised", "decode", rungs, rung_fits, choose};

vlcache_status vlci_quantised_check(int head_dim) {
    if (head_dim >= 16 && head_dim <= VLCI_CODE_DIM_MAX && head_dim % 16 == 0) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "compress: storage: head_dim %d: rows in few bits take multiples of 16 up to %d",
                     head_dim, VLCI_CODE_DIM_MAX);
}

static vlcache_status get(const vlci_quantised_kernels *k, const char *name, int key_bits, int value_bits,
                          const vlci_kernel **out) {
    char options[112];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DHEADS=%d -DKEY_BITS=%d -DVALUE_BITS=%d -DWIDE=%d",
             k->shape.head_dim, k->lanes, key_bits, value_bits, k->wide);
    return vlci_kernel_get(k->device, "attention_quantised.cl", name, options, out);
}

/* Place of a number's bits among those there are. */
static int width_of(int bits) {
    return bits < 8 ? bits - 2 : VLCI_QUANT_WIDTHS - 1;
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_quantised_open(vlcache_device *device, const vlci_attention_shape *shape, int key_bits,
                                   int value_bits, vlci_quantised_kernels *k) {
    const vlci_kernel **attend = &k->attend[width_of(key_bits)][width_of(value_bits)];
    const char *rung;
    vlcache_status status = vlci_quantised_check(shape->head_dim);
    if (!status) status = vlci_rung(device, &vlci_quantised_ladder, choose(device), &rung);
    if (status) return status;
    k->device = device;
    k->shape = *shape;
    for (k->lanes = 1; k->lanes < LANES_MAX && k->lanes < group_of(k);) k->lanes *= 2;
    k->wide = strcmp(rung, "wide") == 0;
    if (!k->wide) {
        status = get(k, "attention_quantised", key_bits, value_bits, attend);
        if (!status && (*attend)->max_group < VLCI_CODED_ITEMS) k->wide = true;
    }
    if (!status && k->wide) status = get(k, "attention_quantised_wide", key_bits, value_bits, attend);
    return status ? status : get(k, "attention_quantised_merge", key_bits, value_bits, &k->merge);
}

/* ---- launching ----------------------------------------------------------------------------------------- */

/* A launch: rows of a sequence, and how their work is cut. */
typedef struct piece {
    int first, rows;
    size_t pieces;     /* of lanes, of all kv heads */
    int shares, share; /* of the groups of rows */
} piece;

static int most_groups(const vlci_quants *c, int layer) {
    int most = 1;
    for (int h = 0; h < c->kv_heads; h++) {
        int groups = (int)ceil_div((size_t)c->own[layer * c->kv_heads + h].rows, (size_t)c->group);
        if (groups > most) most = groups;
    }
    return most;
}

/* As many shares as keep the device busy: no more than attention itself would have partial results of. */
static piece divide(const vlci_quants *c, int layer, int first, int rows) {
    const vlci_quantised_kernels *k = c->read;
    piece p = {.first = first, .rows = rows < AT_ONCE ? rows : AT_ONCE};
    size_t wanted = (size_t)k->device->caps.info.compute_units * (k->wide ? 1 : 4);
    size_t groups = (size_t)most_groups(c, layer);
    p.pieces = (size_t)c->kv_heads * ceil_div((size_t)p.rows * (size_t)group_of(k), (size_t)k->lanes);
    size_t shares = ceil_div(wanted, p.pieces);
    if (shares > SHARES_MAX) shares = SHARES_MAX;
    p.share = (int)ceil_div(groups, shares);
    p.shares = (int)ceil_div(groups, (size_t)p.share);
    return p;
}

static vlcache_status attend(const vlci_quants *c, int layer, const vlci_attention *a, const piece *p) {
    const vlci_quantised_kernels *k = c->read;
    vlci_grid grid = VLCI_GRID((size_t)p->shares, p->pieces, 1, k->wide ? 1 : VLCI_CODED_ITEMS, 1, 1);
    const vlci_kernel *kernel = k->attend[width_of(c->key_bits)][width_of(c->value_bits)];
    return VLCI_LAUNCH(k->device, kernel, grid, VLCI_MEM(a->q), VLCI_U32(a->q_offset), VLCI_U32(a->q_stride),
                       VLCI_I32(p->first), VLCI_I32(p->rows), VLCI_I32(k->shape.heads), VLCI_I32(c->kv_heads),
                       VLCI_F32(a->scale), VLCI_MEM(c->head), VLCI_MEM(c->keys), VLCI_MEM(c->values),
                       VLCI_MEM(c->key_scale), VLCI_MEM(c->value_scale), VLCI_MEM(c->bias),
                       VLCI_I32(c->group), VLCI_I32(layer), VLCI_MEM(a->scratch), VLCI_I32(p->share));
}

static vlcache_status merge(const vlci_quants *c, const vlci_attention *a, const piece *p) {
    const vlci_quantised_kernels *k = c->read;
    vlci_grid grid = VLCI_GRID((size_t)k->lanes, p->pieces, 1,
                               k->wide ? 1 : vlci_group_width(k->merge, MERGE_ITEMS), 1, 1);
    return VLCI_LAUNCH(k->device, k->merge, grid, VLCI_MEM(a->scratch), VLCI_I32(p->shares), VLCI_MEM(a->out),
                       VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_I32(p->first), VLCI_I32(p->rows),
                       VLCI_I32(k->shape.heads), VLCI_I32(c->kv_heads));
}

static vlcache_status check(const vlci_quants *c, int layer, const vlci_attention *a) {
    if (layer < 0 || layer >= c->layers || !a->scratch || !a->row_max || !a->row_lse)
        return vlci_fail(VLCACHE_E_INTERNAL,
                         "quantised rows: layer %d: scratch, row_max and row_lse are needed", layer);
    if (a->q_offset > UINT32_MAX || a->q_stride > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "quantised rows: layer %d: an offset or stride exceeds 32 bits", layer);
    return VLCACHE_OK;
}

vlcache_status vlci_quantised_run(const vlci_quants *quants, int layer, const vlci_attention *a, int first,
                                  int rows) {
    vlcache_status status = VLCACHE_OK;
    for (const vlci_quants *c = quants; c && !status; c = c->before) {
        status = check(c, layer, a);
        for (int row = 0; row < rows && !status; row += AT_ONCE) {
            piece p = divide(c, layer, first + row, rows - row);
            status = attend(c, layer, a, &p);
            if (!status) status = merge(c, a, &p);
        }
    }
    return status;
}
