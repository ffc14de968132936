/*
 * nearest.c - which of some centroids is nearest to each evicted row.
 *
 *     label(e) = argmin over c of |key(e) - mean(c)|^2
 *
 * In: evicted rows and centroids of some heads. Out: labels, and how far the rows are. Four rungs: "wgmma"
 * and "mma", on matrix units, for seeds, where keys have 16 bits and heads 64 or 128 dimensions (rounds of
 * few seeds are the latter's in any case); "tile", work-groups with local memory; and "wide", one work-item
 * for 32 rows, where work-items are vector units.
 */
#include "compress/nearest.h"

#include <stdio.h>
#include <string.h>

enum { MANY = 8 /* seeds of a round that are worth a block of wgmma's */ };
static const char *const rungs[] = {"wgmma", "mma", "tile", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, "wgmma") == 0)
        return device->caps.mma && device->caps.wgmma &&
               device->caps.ptx_local >= VLCI_NEAREST_WGMMA_LOCAL(128);
    if (strcmp(rung, "mma") == 0) return device->caps.mma;
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_NEAREST_GROUP;
}

static const char *choose(const vlcache_device *device) {
    if (rung_fits(device, "wgmma")) return "wgmma";
    if (rung_fits(device, "mma")) return "mma";
    return device->caps.wide_vectors || !rung_fits(device, "tile") ? "wide" : "tile";
}

const vlci_ladder vlci_nearest_ladder = {"nearest", "compression", rungs, rung_fits, choose};

/* Where a kernel cannot be had, or takes smaller work-groups than it needs, the next rung has to do. */
static vlcache_status open_mma(vlcache_device *device, const vlci_compress_shape *s, const char *options,
                               vlci_nearest_kernels *k) {
    const vlci_ptx ptx = {.target = ""};
    if (s->kv_dtype == VLCACHE_DTYPE_F32 || s->head_dim % 64 || s->head_dim > 128) return VLCACHE_OK;
    vlcache_status status =
        vlci_kernel_get_ptx(device, "nearest_mma.cl", "nearest", options, &ptx, &k->seeds);
    if (!status && k->seeds->max_group < VLCI_NEAREST_MMA_GROUP) k->seeds = NULL;
    return status;
}

static vlcache_status open_wgmma(vlcache_device *device, const vlci_compress_shape *s, const char *options,
                                 vlci_nearest_kernels *k) {
    const vlci_ptx ptx = {.target = "sm_90a", .local_bytes = VLCI_NEAREST_WGMMA_LOCAL(s->head_dim)};
    if (!k->seeds) return VLCACHE_OK;
    vlcache_status status =
        vlci_kernel_get_ptx(device, "nearest_wgmma.cl", "nearest_wgmma", options, &ptx, &k->many);
    if (!status && k->many->max_group < VLCI_NEAREST_WGMMA_GROUP) k->many = NULL;
    return status;
}

vlcache_status vlci_nearest_open(vlcache_device *device, const vlci_compress_shape *s,
                                 vlci_nearest_kernels *k) {
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(device, &vlci_nearest_ladder, choose(device), &rung);
    if (status) return status;
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    *k = (vlci_nearest_kernels){0};
    if (strstr(rung, "mma")) status = open_mma(device, s, options, k);
    if (!status && strcmp(rung, "wgmma") == 0) status = open_wgmma(device, s, options, k);
    if (!status && strcmp(rung, "wide") != 0) {
        status = vlci_kernel_get(device, "nearest.cl", "nearest", options, &k->nearest);
        if (status || k->nearest->max_group >= VLCI_NEAREST_GROUP) return status;
    }
    if (!status) status = vlci_kernel_get(device, "nearest_wide.cl", "nearest", options, &k->nearest);
    return status ? status : vlci_kernel_get(device, "nearest_wide.cl", "nearest_lay", options, &k->lay);
}

size_t vlci_nearest_laid(const vlci_heads *h, const vlci_nearest_kernels *k) {
    size_t rows = ((size_t)h->tokens + VLCI_MEAN_LANES - 1) / VLCI_MEAN_LANES * VLCI_MEAN_LANES;
    return k->lay ? rows * (size_t)h->shape.head_dim : k->many ? rows : 0;
}

vlcache_status vlci_nearest_begin(const vlci_heads *h, const vlci_nearest_kernels *k, const vlci_groups *g) {
    size_t blocks = ((size_t)vlci_groups_evicted(h) + VLCI_MEAN_LANES - 1) / VLCI_MEAN_LANES;
    if (!k->lay) return VLCACHE_OK;
    return VLCI_LAUNCH(h->device, k->lay, vlci_grid_over(k->lay, blocks, (size_t)vlci_heads_n(h), 1),
                       VLCI_EVICTED_OF(h, g), VLCI_MEM(g->laid), VLCI_U32(g->laid_stride));
}

/* Seeds of a round, of the head that has most. */
static int most_seeds(const vlci_heads *h, int round) {
    int most = 0;
    for (int i = 0; i < vlci_heads_n(h); i++) {
        int c = h->own[vlci_heads_first(h) + i].centroids;
        int own = VLCI_SPREAD_UNTIL(c, round) - VLCI_SPREAD_UNTIL(c, round - 1);
        if (own > most) most = own;
    }
    return most;
}

static const vlci_kernel *kernel_of(const vlci_heads *h, const vlci_nearest_kernels *k, int round) {
    if (!k->seeds || round == VLCI_SPREAD_ALL) return k->nearest;
    bool many = k->many && round >= 0 && most_seeds(h, round) >= MANY;
    return many ? k->many : k->seeds;
}

static vlci_grid grid_of(const vlci_heads *h, const vlci_nearest_kernels *k, const vlci_kernel *kernel) {
    size_t rows = (size_t)vlci_groups_evicted(h), heads = (size_t)vlci_heads_n(h);
    size_t group = kernel == k->seeds ? VLCI_NEAREST_MMA_GROUP : VLCI_NEAREST_GROUP;
    if (kernel == k->many)
        return VLCI_GRID((rows + VLCI_NEAREST_WGMMA_ROWS - 1) / VLCI_NEAREST_WGMMA_ROWS, heads, 1,
                         VLCI_NEAREST_WGMMA_GROUP, 1, 1);
    if (k->lay && kernel == k->nearest)
        return vlci_grid_over(kernel, (rows + VLCI_NEAREST_WIDE_ROWS - 1) / VLCI_NEAREST_WIDE_ROWS, heads, 1);
    return VLCI_GRID((rows + VLCI_NEAREST_ROWS - 1) / VLCI_NEAREST_ROWS, heads, 1, group, 1, 1);
}

vlcache_status vlci_nearest(const vlci_heads *h, const vlci_nearest_kernels *k, const vlci_groups *g,
                            int round, bool weighted) {
    const vlci_kernel *kernel = kernel_of(h, k, round);
    return VLCI_LAUNCH(h->device, kernel, grid_of(h, k, kernel), VLCI_EVICTED_OF(h, g), VLCI_MEM(g->labels),
                       VLCI_MEM(g->means), VLCI_U32(g->means_stride), VLCI_MEM(weighted ? g->weights : NULL),
                       VLCI_MEM(g->far), VLCI_MEM(g->laid), VLCI_U32(g->laid_stride), VLCI_MEM(g->seeds),
                       VLCI_U32(g->centroids), VLCI_I32(round));
}
