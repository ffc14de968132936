/*
 * gram.c - products of the candidates of a round among themselves.
 *
 *     products(a, b) = key(a) . key(b)        distances follow: spread.cl
 *
 * In: lists of evicted rows of some heads. Out: a matrix for each. Two rungs: "mma", on matrix units, where
 * keys have 16 bits and heads a multiple of 64 dimensions, and "tile", work-groups with local memory.
 */
#include "compress/gram.h"

#include <stdio.h>
#include <string.h>

static const char *const rungs[] = {"mma", "tile", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "mma") != 0 || device->caps.mma;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.mma ? "mma" : "tile";
}

const vlci_ladder vlci_gram_ladder = {"gram", "compression", rungs, rung_fits, choose};

/* Where the kernel cannot be had, the next rung has to do. */
static vlcache_status open_mma(vlcache_device *device, const vlci_compress_shape *s, const char *options,
                               vlci_gram_kernels *k) {
    const vlci_ptx ptx = {.target = ""};
    if (s->kv_dtype == VLCACHE_DTYPE_F32 || s->head_dim % 64 || s->head_dim > 128) return VLCACHE_OK;
    vlcache_status status = vlci_kernel_get_ptx(device, "gram_mma.cl", "gram", options, &ptx, &k->gram);
    k->group = VLCI_GRAM_MMA_GROUP;
    if (!status && k->gram->max_group < k->group) k->gram = NULL;
    return status;
}

vlcache_status vlci_gram_open(vlcache_device *device, const vlci_compress_shape *s, vlci_gram_kernels *k) {
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(device, &vlci_gram_ladder, choose(device), &rung);
    if (status) return status;
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    *k = (vlci_gram_kernels){0};
    if (strcmp(rung, "mma") == 0) status = open_mma(device, s, options, k);
    if (status || k->gram) return status;
    k->group = VLCI_GRAM_TILE;
    return vlci_kernel_get(device, "gram.cl", "gram", options, &k->gram);
}

size_t vlci_gram_room(size_t most) {
    return (most + VLCI_GRAM_TILE - 1) / VLCI_GRAM_TILE * VLCI_GRAM_TILE;
}

/* Tiles on the diagonal and below it. */
vlcache_status vlci_gram(const vlci_heads *h, const vlci_gram_kernels *k, const vlci_groups *g, cl_mem list,
                         cl_mem products, size_t most, int round) {
    size_t tiles = most / VLCI_GRAM_TILE;
    return VLCI_LAUNCH(h->device, k->gram,
                       VLCI_GRID(tiles * (tiles + 1) / 2, (size_t)vlci_heads_n(h), 1, k->group, 1, 1),
                       VLCI_EVICTED_OF(h, g), VLCI_MEM(list), VLCI_MEM(products), VLCI_I32(most),
                       VLCI_I32(round));
}
