/*
 * few.c - rungs, and shares of the rows of a sequence.
 */
#include "compute/few.h"

#include <string.h>

/* AT_ONCE: query rows of a launch: half of those that the scratch of attention has room for, so that there is
 * some for a share beside. */
enum { AT_ONCE = 4, LANES_MAX = 4, SHARES_MAX = 256 };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static int group_of(const vlci_few *few) {
    return few->shape.heads / few->shape.kv_heads;
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

const char *const vlci_few_rungs[] = {"wide", "group", NULL};

bool vlci_few_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_CODED_ITEMS;
}

const char *vlci_few_choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !vlci_few_fits(device, "group") ? "wide" : "group";
}

bool vlci_few_takes(int head_dim) {
    return head_dim >= 16 && head_dim <= VLCI_CODE_DIM_MAX && head_dim % 16 == 0;
}

vlcache_status vlci_few_check(int head_dim) {
    if (vlci_few_takes(head_dim)) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "compress: storage: head_dim %d: rows in few bits take multiples of 16 up to %d",
                     head_dim, VLCI_CODE_DIM_MAX);
}

vlcache_status vlci_few_open(vlcache_device *device, const vlci_ladder *ladder,
                             const vlci_attention_shape *shape, vlci_few *out) {
    const char *rung;
    vlcache_status status = vlci_few_check(shape->head_dim);
    if (!status) status = vlci_rung(device, ladder, ladder->choose(device), &rung);
    if (status) return status;
    *out = (vlci_few){.device = device, .shape = *shape, .rung = rung, .lanes = 1};
    out->wide = strcmp(rung, "wide") == 0;
    while (out->lanes < LANES_MAX && out->lanes < group_of(out)) out->lanes *= 2;
    return VLCACHE_OK;
}

/* ---- shares -------------------------------------------------------------------------------------------- */

vlci_few_cut vlci_few_divide(const vlci_few *few, int first, int rows, int units, int beside) {
    vlci_few_cut cut = {.first = first, .rows = rows < AT_ONCE ? rows : AT_ONCE};
    size_t wanted = (size_t)few->device->caps.info.compute_units * (few->wide ? 1 : 4);
    cut.pieces =
        (size_t)few->shape.kv_heads * ceil_div((size_t)cut.rows * (size_t)group_of(few), (size_t)few->lanes);
    size_t shares = ceil_div(wanted, cut.pieces);
    if (shares > SHARES_MAX) shares = SHARES_MAX;
    if (shares > (size_t)beside + 1) shares -= (size_t)beside;
    cut.share = (int)ceil_div((size_t)units, shares);
    cut.shares = (int)ceil_div((size_t)units, (size_t)cut.share);
    return cut;
}

vlci_grid vlci_few_grid(const vlci_few *few, const vlci_few_cut *cut, int beside) {
    return VLCI_GRID((size_t)(cut->shares + beside), cut->pieces, 1, few->wide ? 1 : VLCI_CODED_ITEMS, 1, 1);
}

vlci_grid vlci_few_merge_grid(const vlci_few *few, const vlci_few_cut *cut, const vlci_kernel *merge) {
    return VLCI_GRID((size_t)few->lanes, cut->pieces, 1,
                     few->wide ? 1 : vlci_group_width(merge, VLCI_FEW_MERGE_ITEMS), 1, 1);
}

vlcache_status vlci_few_check_run(const char *what, int layer, int layers, const vlci_attention *a) {
    if (layer < 0 || layer >= layers || !a->scratch || !a->row_max || !a->row_lse)
        return vlci_fail(VLCACHE_E_INTERNAL, "%s rows: layer %d: scratch, row_max and row_lse are needed",
                         what, layer);
    if (a->q_offset > UINT32_MAX || a->q_stride > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "%s rows: layer %d: an offset or stride exceeds 32 bits",
                         what, layer);
    return VLCACHE_OK;
}
