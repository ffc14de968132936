/*
 * nearest.c - which of some centroids is nearest to each evicted row.
 *
 *     label(e) = argmin over c of |key(e) - mean(c)|^2
 *
 * In: evicted rows and centroids of some heads. Out: labels. Two rungs: "tile", work-groups with local
 * memory, and "wide", one work-item for 32 rows, where work-items are vector units.
 */
#include "compress/nearest.h"

#include <stdio.h>
#include <string.h>

static const char *const rungs[] = {"tile", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_NEAREST_GROUP;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "tile") ? "wide" : "tile";
}

const vlci_ladder vlci_nearest_ladder = {"nearest", "compression", rungs, rung_fits, choose};

vlcache_status vlci_nearest_open(vlcache_device *device, const vlci_compress_shape *s,
                                 vlci_nearest_kernels *k) {
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(device, &vlci_nearest_ladder, choose(device), &rung);
    if (status) return status;
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    *k = (vlci_nearest_kernels){0};
    if (strcmp(rung, "wide") != 0) {
        status = vlci_kernel_get(device, "nearest.cl", "nearest", options, &k->nearest);
        if (status || k->nearest->max_group >= VLCI_NEAREST_GROUP) return status;
    }
    status = vlci_kernel_get(device, "nearest_wide.cl", "nearest", options, &k->nearest);
    return status ? status : vlci_kernel_get(device, "nearest_wide.cl", "nearest_lay", options, &k->lay);
}

size_t vlci_nearest_laid(const vlci_heads *h, const vlci_nearest_kernels *k) {
    size_t rows = ((size_t)h->tokens + VLCI_MEAN_LANES - 1) / VLCI_MEAN_LANES * VLCI_MEAN_LANES;
    return k->lay ? rows * (size_t)h->shape.head_dim : 0;
}

vlcache_status vlci_nearest_begin(const vlci_heads *h, const vlci_nearest_kernels *k, const vlci_groups *g) {
    size_t blocks = ((size_t)vlci_groups_evicted(h) + VLCI_MEAN_LANES - 1) / VLCI_MEAN_LANES;
    if (!k->lay) return VLCACHE_OK;
    return VLCI_LAUNCH(h->device, k->lay, vlci_grid_over(k->lay, blocks, (size_t)vlci_heads_n(h), 1),
                       VLCI_EVICTED_OF(h, g), VLCI_MEM(g->laid), VLCI_U32(g->laid_stride));
}

vlcache_status vlci_nearest(const vlci_heads *h, const vlci_nearest_kernels *k, const vlci_groups *g) {
    size_t rows = (size_t)vlci_groups_evicted(h), heads = (size_t)vlci_heads_n(h);
    vlci_grid grid =
        k->lay ? vlci_grid_over(k->nearest, (rows + VLCI_NEAREST_WIDE_ROWS - 1) / VLCI_NEAREST_WIDE_ROWS,
                                heads, 1)
               : VLCI_GRID((rows + VLCI_NEAREST_ROWS - 1) / VLCI_NEAREST_ROWS, heads, 1, VLCI_NEAREST_GROUP,
                           1, 1);
    return VLCI_LAUNCH(h->device, k->nearest, grid, VLCI_EVICTED_OF(h, g), VLCI_MEM(g->labels),
                       VLCI_MEM(g->means), VLCI_U32(g->means_stride), VLCI_MEM(g->laid),
                       VLCI_U32(g->laid_stride));
}
