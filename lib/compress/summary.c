/*
 * summary.c - centroids that stand for the rows a head does not keep.
 *
 *     evicted rows -> seeds -> means -> (nearest mean -> means) x iterations -> rows and biases
 *
 * Seeds are runs of neighbours ("kmeans"), or rows far from one another ("spread"). In: the rows of some
 * heads, the kept positions, the scores. Out: the centroids' rows in other pages, behind the kept ones, and
 * their logit biases. The search for seeds has two rungs: "group", a work-group for each kv head, and "wide",
 * one work-item, where that is a vector unit.
 */
#include "compress/summary.h"

#include <stdio.h>
#include <string.h>

enum { LANES = VLCI_MEAN_LANES, KEYS = 4, CHUNK = 8 };
static const size_t scratch_bytes = 64u << 20; /* of all heads that are summed up at once, about */

/* ---- kernels ------------------------------------------------------------------------------------------- */

static const char *const rungs[] = {"group", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= 64;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "wide" : "group";
}

const vlci_ladder vlci_spread_ladder = {"spread", "compression", rungs, rung_fits, choose};

static vlcache_status get(vlcache_device *device, const vlci_compress_shape *s, const char *file,
                          const char *name, const char *option, const vlci_kernel **kernel) {
    char options[96];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d%s", (int)s->kv_dtype, s->head_dim, option);
    return vlci_kernel_get(device, file, name, options, kernel);
}

/* As large a work-group as there is that the kernel built for it takes. */
static vlcache_status open_spread(vlcache_device *device, const vlci_compress_shape *s,
                                  vlci_summary_kernels *k) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_spread_ladder, choose(device), &rung);
    if (status) return status;
    k->group = 1;
    if (strcmp(rung, "wide") == 0) return get(device, s, "spread_wide.cl", "spread", "", &k->spread);
    size_t fits = device->caps.max_group >= 256 ? 256 : 64;
    do {
        char option[40];
        k->group = fits;
        snprintf(option, sizeof option, " -DSPREAD_GROUP=%zu", k->group);
        status = get(device, s, "spread.cl", "spread", option, &k->spread);
        if (!status) fits = vlci_group_width(k->spread, k->group);
    } while (!status && fits < k->group);
    return status;
}

/* Dimensions of a centroid that a work-item adds up: on a processor all, so that labels are read once. */
vlcache_status vlci_summary_open(vlcache_device *device, const vlci_compress_shape *s, const vlci_recipe *r,
                                 vlci_summary_kernels *k) {
    const struct {
        const char *name;
        const vlci_kernel **kernel;
    } wanted[] = {{"kmeans_evicted", &k->evicted},
                  {"kmeans_means", &k->means},
                  {"kmeans_assign", &k->assign},
                  {"kmeans_write", &k->write}};
    char option[48];
    if (r->centroids == 0.0) return VLCACHE_OK;
    if (s->head_dim % CHUNK)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: summary: head_dim %d: takes multiples of %d",
                         s->head_dim, CHUNK);
    k->part = device->caps.wide_vectors ? s->head_dim : CHUNK;
    snprintf(option, sizeof option, " -DKEYS=%d -DPART=%d", KEYS, k->part);
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !status; i++)
        status = get(device, s, "kmeans.cl", wanted[i].name, option, wanted[i].kernel);
    return status || !r->spread ? status : open_spread(device, s, k);
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

static int most_centroids(const vlci_heads *h) {
    int most = 0;
    for (int i = 0; i < vlci_heads_n(h); i++)
        if (h->own[vlci_heads_first(h) + i].centroids > most)
            most = h->own[vlci_heads_first(h) + i].centroids;
    return most;
}

static int most_kept(const vlci_heads *h) {
    int most = 0;
    for (int i = 0; i < vlci_heads_n(h); i++)
        if (h->own[vlci_heads_first(h) + i].kept > most) most = h->own[vlci_heads_first(h) + i].kept;
    return most;
}

/* Means of one head, in floats. */
static size_t means_stride(const vlci_heads *h, size_t centroids) {
    return (centroids + LANES - 1) / LANES * LANES * (size_t)h->shape.head_dim;
}

/* Scratch of one head in which seeds are searched, in floats. */
static size_t distances_stride(const vlci_heads *h, const vlci_summary_kernels *k) {
    if (k->group > 1) return (size_t)h->tokens;
    return ((size_t)h->tokens + LANES - 1) / LANES * LANES * (size_t)(h->shape.head_dim + VLCI_SPREAD_LINES);
}

int vlci_summary_layers(const vlci_heads *h, const vlci_summary_kernels *k) {
    size_t head = (2 * (size_t)h->tokens + distances_stride(h, k)) * sizeof(cl_float);
    size_t layers = scratch_bytes / (head * (size_t)h->shape.kv_heads);
    return layers < 1 ? 1 : layers > (size_t)h->layers ? h->layers : (int)layers;
}

void vlci_summary_release(vlcache_device *device, vlci_summary_room *room) {
    cl_mem *memory[] = {&room->evicted, &room->labels, &room->means, &room->distances};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    *room = (vlci_summary_room){0};
}

static vlcache_status make_room(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r,
                                vlci_summary_room *room) {
    size_t heads = (size_t)vlci_heads_n(h), centroids = (size_t)most_centroids(h);
    size_t list = (heads * (size_t)h->tokens + LANES) * sizeof(cl_int);
    if (heads <= room->heads && centroids <= room->centroids) return VLCACHE_OK;
    vlci_summary_release(h->device, room);
    size_t means = heads * means_stride(h, centroids) * sizeof(cl_float);
    vlcache_status status = vlci_memory_create(h->device, list, "compression: evicted rows", &room->evicted);
    if (!status) status = vlci_memory_create(h->device, list, "compression: labels", &room->labels);
    if (!status) status = vlci_memory_create(h->device, means, "compression: centroids", &room->means);
    if (!status) status = vlci_fill(h->device, room->means, 0, means, 0);
    if (!status && r->spread)
        status = vlci_memory_create(h->device, heads * distances_stride(h, k) * sizeof(cl_float),
                                    "compression: distances", &room->distances);
    if (status) return status;
    room->heads = heads;
    room->centroids = centroids;
    return VLCACHE_OK;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

/* What all steps begin with. */
#define ROWS_OF(h, room)                                                                                     \
    VLCI_POOL_OF(&(h)->kv, (h)->heads_at), VLCI_KEEP_OF(h), VLCI_I32((h)->tokens),                           \
        VLCI_MEM((room)->evicted), VLCI_MEM((room)->labels), VLCI_MEM((room)->means),                        \
        VLCI_U32(means_stride(h, (room)->centroids))

/* A work-item for each part of each centroid. */
static vlci_grid centroid_grid(const vlci_heads *h, const vlci_summary_kernels *k,
                               const vlci_kernel *kernel) {
    size_t parts = (size_t)(h->shape.head_dim / k->part), n = (size_t)most_centroids(h);
    size_t along = parts < 8 ? 1 : vlci_group_width(kernel, 8);
    size_t across = vlci_group_width(kernel, 8 * along) / along;
    return VLCI_GRID((parts + along - 1) / along, (n + across - 1) / across, (size_t)vlci_heads_n(h), along,
                     across, 1);
}

static vlcache_status list_evicted(const vlci_heads *h, const vlci_summary_kernels *k, cl_mem positions,
                                   const vlci_summary_room *room) {
    size_t gaps = (size_t)most_kept(h) + 1;
    return VLCI_LAUNCH(h->device, k->evicted, vlci_grid_over(k->evicted, gaps, (size_t)vlci_heads_n(h), 1),
                       VLCI_MEM(positions), VLCI_KEEP_OF(h), VLCI_I32(h->tokens), VLCI_MEM(room->evicted),
                       VLCI_MEM(room->labels));
}

static vlcache_status spread(const vlci_heads *h, const vlci_summary_kernels *k, cl_mem score, size_t at,
                             const vlci_summary_room *room) {
    return VLCI_LAUNCH(h->device, k->spread, VLCI_GRID((size_t)vlci_heads_n(h), 1, 1, k->group, 1, 1),
                       ROWS_OF(h, room), VLCI_MEM(score), VLCI_U32(at), VLCI_MEM(room->distances),
                       VLCI_U32(distances_stride(h, k)));
}

static vlcache_status find_means(const vlci_heads *h, const vlci_summary_kernels *k,
                                 const vlci_summary_room *room) {
    return VLCI_LAUNCH(h->device, k->means, centroid_grid(h, k, k->means), ROWS_OF(h, room));
}

static vlcache_status assign(const vlci_heads *h, const vlci_summary_kernels *k,
                             const vlci_summary_room *room) {
    size_t items = (size_t)(h->tokens + KEYS - 1) / KEYS;
    return VLCI_LAUNCH(h->device, k->assign, vlci_grid_over(k->assign, items, (size_t)vlci_heads_n(h), 1),
                       ROWS_OF(h, room));
}

vlcache_status vlci_summary(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r,
                            cl_mem positions, cl_mem score, size_t at, cl_mem to, vlci_summary_room *room) {
    if (!most_centroids(h)) return VLCACHE_OK;
    if (!h->kv.bias) return vlci_fail(VLCACHE_E_INTERNAL, "compress: centroids need room for biases");
    vlcache_status status = make_room(h, k, r, room);
    if (!status) status = list_evicted(h, k, positions, room);
    if (!status && r->spread) status = spread(h, k, score, at, room);
    if (!status) status = find_means(h, k, room);
    for (int i = 0; i < r->iterations && !status; i++) {
        status = assign(h, k, room);
        if (!status) status = find_means(h, k, room);
    }
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->write, centroid_grid(h, k, k->write), ROWS_OF(h, room), VLCI_MEM(to));
}
