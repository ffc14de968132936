/*
 * spread.c - seeds of centroids that lie far from one another.
 *
 *     stretches of evicted rows -> seeds of each, far from one another -> labels
 *
 * In: evicted rows of some heads, the scores that rows were chosen by. Out: labels. One launch: cl/spread.cl.
 * Three rungs: "mma", on matrix units, where keys have 16 bits and heads 64 or 128 dimensions, and a stretch
 * fits into local memory; "group", a work-group for each stretch; and "wide", one work-item, where that is a
 * vector unit.
 */
#include "compress/spread.h"

#include <stdio.h>
#include <string.h>

enum { LANES = VLCI_MEAN_LANES, SUMS = 4, SUMS_GROUP = 64 };
enum { UNITS_SHARE = 4 /* as many work-groups may wait for one another: others are there, too */ };

/* ---- kernels ------------------------------------------------------------------------------------------- */

static const char *const rungs[] = {"mma", "group", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, "mma") == 0)
        return device->caps.mma && device->caps.ptx_local >= VLCI_SPREAD_MMA_LOCAL(128);
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= 64;
}

static const char *choose(const vlcache_device *device) {
    if (rung_fits(device, "mma")) return "mma";
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "wide" : "group";
}

const vlci_ladder vlci_spread_ladder = {"spread", "compression", rungs, rung_fits, choose};

/* Where it cannot be had, or takes smaller work-groups than it needs, the next rung has to do. */
static vlcache_status open_units(vlcache_device *device, const vlci_compress_shape *s, const char *options,
                                 vlci_spread_kernels *k) {
    const vlci_ptx ptx = {.target = "", .local_bytes = VLCI_SPREAD_MMA_LOCAL((size_t)s->head_dim)};
    if (s->kv_dtype == VLCACHE_DTYPE_F32 || s->head_dim % 64 || s->head_dim > 128) return VLCACHE_OK;
    vlcache_status status = vlci_kernel_get_ptx(device, "spread_mma.cl", "spread", options, &ptx, &k->units);
    if (!status && k->units->max_group < VLCI_SPREAD_MMA_GROUP) k->units = NULL;
    return status;
}

/* For k->group work-items; `*fits`: as many as it takes. */
static vlcache_status get(vlcache_device *device, const char *options, vlci_spread_kernels *k, size_t *fits) {
    char all[96];
    const char *file = k->group > 1 ? "spread.cl" : "spread_wide.cl";
    snprintf(all, sizeof all, k->group > 1 ? "%s -DSPREAD_GROUP=%zu" : "%s", options, k->group);
    vlcache_status status = vlci_kernel_get(device, file, "spread", all, &k->spread);
    if (!status) *fits = vlci_group_width(k->spread, k->group);
    return status;
}

/* What shares centroids out over stretches. */
static vlcache_status get_shares(vlcache_device *device, const char *options, vlci_spread_kernels *k) {
    char all[96];
    snprintf(all, sizeof all, "%s -DSTRETCH_GROUP=%d", options, k->group < SUMS_GROUP ? 1 : SUMS_GROUP);
    vlcache_status status = vlci_kernel_get(device, "stretch.cl", "stretch_sums", all, &k->sums);
    return status ? status : vlci_kernel_get(device, "stretch.cl", "stretch_shares", all, &k->shares);
}

/* As large a work-group as there is that the kernel built for it takes; of fewer than 16, the wide rung. */
vlcache_status vlci_spread_open(vlcache_device *device, const vlci_compress_shape *s,
                                vlci_spread_kernels *k) {
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(device, &vlci_spread_ladder, choose(device), &rung);
    size_t fits = status || strcmp(rung, "wide") == 0 ? 1 : device->caps.max_group >= 256 ? 256 : 64;
    if (status) return status;
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    *k = (vlci_spread_kernels){0};
    if (strcmp(rung, "mma") == 0) status = open_units(device, s, options, k);
    if (status) return status;
    do {
        k->group = fits < 16 ? 1 : fits;
        status = get(device, options, k, &fits);
    } while (!status && fits < k->group);
    return status ? status : get_shares(device, options, k);
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

bool vlci_spread_whole(const vlci_heads *h, const vlci_spread_kernels *k) {
    return k->units && vlci_groups_stretches_short(h);
}

/* Floats of a head: distances and weights; or blocks of rows, one more than are full for each stretch. */
static size_t stride_of(const vlci_heads *h, const vlci_spread_kernels *k) {
    size_t tokens = (size_t)h->tokens, stretches = (tokens + VLCI_STRETCH - 1) / VLCI_STRETCH;
    if (vlci_spread_whole(h, k)) return 0;
    if (k->group > 1) return 2 * tokens;
    return (tokens / LANES + stretches + 1) * ((size_t)h->shape.head_dim + VLCI_SPREAD_WIDE_MORE) * LANES;
}

size_t vlci_spread_bytes(const vlci_heads *h, const vlci_spread_kernels *k) {
    return k->spread ? stride_of(h, k) * sizeof(cl_float) : 0;
}

void vlci_spread_release(vlcache_device *device, vlci_spread_room *room) {
    cl_mem *memory[] = {&room->rows, &room->sums, &room->shares, &room->told};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    *room = (vlci_spread_room){0};
}

/* Numbers of a head's stretches: one more than they, and another. */
static size_t shares_of(const vlci_heads *h) {
    return ((size_t)h->tokens + VLCI_STRETCH - 1) / VLCI_STRETCH + 2;
}

static vlcache_status make_room(const vlci_heads *h, const vlci_spread_kernels *k, vlci_spread_room *room) {
    size_t heads = (size_t)vlci_heads_n(h), stride = stride_of(h, k), shares = shares_of(h);
    size_t bytes = heads * shares * sizeof(cl_int);
    if (heads <= room->heads && stride <= room->stride && shares <= room->shares_stride) return VLCACHE_OK;
    vlci_spread_release(h->device, room);
    vlcache_status status =
        vlci_memory_create(h->device, SUMS * bytes, "compression: stretches", &room->sums);
    if (!status) status = vlci_memory_create(h->device, bytes, "compression: shares", &room->shares);
    if (!status && k->units)
        status = vlci_memory_create(h->device, bytes, "compression: stretches told", &room->told);
    if (!status && k->units) status = vlci_fill(h->device, room->told, 0, bytes, 0);
    if (!status && stride)
        status = vlci_memory_create(h->device, heads * stride * sizeof(cl_float), "compression: distances",
                                    &room->rows);
    if (status) return status;
    room->heads = heads;
    room->stride = stride;
    room->shares_stride = shares;
    return VLCACHE_OK;
}

/* ---- the launch ---------------------------------------------------------------------------------------- */

/* Whether stretches of a head share out by themselves what they sum up: all of one head can be at work at
 * once, whatever else the device does. */
static bool together(const vlci_heads *h, const vlci_spread_kernels *k, int stretches) {
    return vlci_spread_whole(h, k) && stretches <= VLCI_SPREAD_TOGETHER &&
           (uint64_t)stretches * UNITS_SHARE <= h->device->caps.info.compute_units;
}

vlcache_status vlci_spread_begin(const vlci_heads *h, const vlci_spread_kernels *k, cl_mem score, size_t at,
                                 const vlci_groups *g, bool whole, vlci_spread_room *room) {
    size_t stretches = (size_t)vlci_groups_stretches(h), heads = (size_t)vlci_heads_n(h);
    size_t group = k->group < SUMS_GROUP ? 1 : SUMS_GROUP;
    vlcache_status status = make_room(h, k, room);
    if (status || !stretches) return status;
    room->turn++;
    room->together = whole && together(h, k, (int)stretches);
    if (room->together) return VLCACHE_OK;
    status =
        VLCI_LAUNCH(h->device, k->sums, VLCI_GRID(stretches, heads, 1, group, 1, 1), VLCI_EVICTED_OF(h, g),
                    VLCI_MEM(score), VLCI_U32(at), VLCI_MEM(room->sums), VLCI_U32(room->shares_stride));
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->shares, vlci_grid_over(k->shares, heads, 1, 1), VLCI_KEEP_OF(h),
                       VLCI_I32(h->tokens), VLCI_I32(heads), VLCI_MEM(room->sums), VLCI_MEM(room->shares),
                       VLCI_U32(room->shares_stride));
}

/* What all rungs begin with. */
#define SPREAD_OF(h, g, score, at, room)                                                                     \
    VLCI_EVICTED_OF(h, g), VLCI_MEM((g)->labels), VLCI_MEM((g)->means), VLCI_U32((g)->means_stride),         \
        VLCI_MEM(score), VLCI_U32(at), VLCI_MEM((room)->shares), VLCI_U32((room)->shares_stride)

vlcache_status vlci_spread(const vlci_heads *h, const vlci_spread_kernels *k, cl_mem score, size_t at,
                           const vlci_groups *g, cl_mem to, const vlci_spread_room *room) {
    size_t stretches = (size_t)vlci_groups_stretches(h), heads = (size_t)vlci_heads_n(h);
    if (!stretches) return VLCACHE_OK;
    if (vlci_spread_whole(h, k))
        return VLCI_LAUNCH(h->device, k->units, VLCI_GRID(stretches, heads, 1, VLCI_SPREAD_MMA_GROUP, 1, 1),
                           SPREAD_OF(h, g, score, at, room), VLCI_MEM(room->sums),
                           VLCI_MEM(room->together ? room->told : NULL), VLCI_U32(room->turn), VLCI_MEM(to));
    return VLCI_LAUNCH(h->device, k->spread, VLCI_GRID(stretches, heads, 1, k->group, 1, 1),
                       SPREAD_OF(h, g, score, at, room), VLCI_MEM(room->rows), VLCI_U32(room->stride),
                       VLCI_MEM(to));
}
