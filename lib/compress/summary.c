/*
 * summary.c - centroids that stand for the rows a layer does not keep.
 *
 *     evicted rows -> seeds -> means -> (nearest mean -> means) x iterations -> rows and biases
 *
 * Seeds are runs of neighbours ("kmeans"), or rows far from one another ("spread"). In: full-size K and V,
 * the kept positions, the scores. Out: the centroids' rows in the new buffers, behind the kept ones, and
 * their logit biases. Scratch lives in the plan and serves one layer after the other. The search for seeds
 * has two rungs: "group", a work-group for each kv head, and "wide", one work-item, where that is a vector
 * unit.
 */
#include <stdio.h>
#include <string.h>

#include "compress/compress.h"
#include "device/ladder.h"

enum { LANES = 16, KEYS = 4, CHUNK = 8 };

/* Dimensions of a centroid that a work-item adds up: on a processor all, so that labels are read once. */
static int part_of(const vlci_compress *p) {
    return p->device->caps.wide_vectors ? p->shape.head_dim : CHUNK;
}

static int most_centroids(const vlci_compress *p, int layer) {
    int most = 0;
    for (int b = 0; b < p->shape.batch; b++) {
        int n = p->layer[layer * p->shape.batch + b].centroids;
        if (n > most) most = n;
    }
    return most;
}

/* Means of one (sequence, kv head), in floats. */
static size_t means_stride(const vlci_compress *p, int centroids) {
    return (size_t)(centroids + LANES - 1) / LANES * LANES * (size_t)p->shape.head_dim;
}

static vlcache_status make_room(vlci_compress *p) {
    int most = 0;
    size_t rows = (size_t)p->shape.batch * (size_t)p->shape.kv_heads;
    size_t list = (rows * (size_t)p->max_tokens + LANES) * sizeof(cl_int);
    if (p->means) return VLCACHE_OK;
    for (int l = 0; l < p->shape.layers; l++)
        if (most_centroids(p, l) > most) most = most_centroids(p, l);
    size_t means = rows * means_stride(p, most) * sizeof(cl_float);
    vlcache_status status = vlci_memory_create(p->device, list, "compression: evicted rows", &p->evicted);
    if (!status) status = vlci_memory_create(p->device, list, "compression: labels", &p->labels);
    if (!status) status = vlci_memory_create(p->device, means, "compression: centroids", &p->means);
    if (!status) status = vlci_fill(p->device, p->means, 0, means, 0);
    return status;
}

static vlcache_status get(vlci_compress *p, const char *file, const char *name, const char *option,
                          const vlci_kernel **kernel) {
    char options[96];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d%s", (int)p->shape.kv_dtype,
             p->shape.head_dim, option);
    return vlci_kernel_get(p->device, file, name, options, kernel);
}

static vlcache_status get_kmeans(vlci_compress *p, const char *name, const vlci_kernel **kernel) {
    char option[48];
    snprintf(option, sizeof option, " -DKEYS=%d -DPART=%d", KEYS, part_of(p));
    return get(p, "kmeans.cl", name, option, kernel);
}

/* Where a layer's rows and lists are: the arguments that all steps begin with. */
#define ROWS_OF(p, layer, a, buffer, offset)                                                                 \
    VLCI_MEM(buffer), VLCI_U32(offset), VLCI_U32((a)->seq_stride), VLCI_U32((a)->head_stride),               \
        VLCI_U32((a)->row_stride), VLCI_MEM((p)->before_on),                                                 \
        VLCI_I32((layer) * (p)->shape.batch * (p)->shape.kv_heads), VLCI_MEM((p)->tokens_on),                \
        VLCI_MEM((p)->kept_on), VLCI_MEM((p)->centroids_on), VLCI_U32((layer) * (p)->shape.batch),           \
        VLCI_I32((p)->shape.kv_heads), VLCI_MEM((p)->evicted), VLCI_MEM((p)->labels),                        \
        VLCI_U32((p)->max_tokens), VLCI_MEM((p)->means), VLCI_U32(means_stride(p, most_centroids(p, layer)))

static size_t heads(const vlci_compress *p) {
    return (size_t)p->shape.batch * (size_t)p->shape.kv_heads;
}

/* A work-item for each part of each centroid. */
static vlci_grid centroid_grid(const vlci_kernel *kernel, const vlci_compress *p, int layer) {
    size_t parts = (size_t)(p->shape.head_dim / part_of(p)), n = (size_t)most_centroids(p, layer);
    size_t along = parts < 8 ? 1 : vlci_group_width(kernel, 8),
           across = vlci_group_width(kernel, 8 * along) / along;
    return VLCI_GRID((parts + along - 1) / along, (n + across - 1) / across, heads(p), along, across, 1);
}

static vlcache_status list_evicted(vlci_compress *p, int layer) {
    const vlci_kernel *kernel = NULL;
    size_t gaps = (size_t)vlci_compress_kept_rows(p, layer) + 1;
    vlcache_status status = get_kmeans(p, "kmeans_evicted", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(p->device, kernel, vlci_grid_over(kernel, gaps, heads(p), 1), VLCI_MEM(p->kept[layer]),
                       VLCI_U32(vlci_compress_kept_rows(p, layer)), VLCI_MEM(p->tokens_on),
                       VLCI_MEM(p->kept_on), VLCI_MEM(p->centroids_on), VLCI_U32(layer * p->shape.batch),
                       VLCI_I32(p->shape.kv_heads), VLCI_MEM(p->evicted), VLCI_MEM(p->labels),
                       VLCI_U32(p->max_tokens));
}

/* ---- seeds far from one another ------------------------------------------------------------------------ */

static const char *const rungs[] = {"group", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= 64;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "wide" : "group";
}

const vlci_ladder vlci_spread_ladder = {"spread", "compression", rungs, rung_fits, choose};

typedef struct seeker {
    const vlci_kernel *kernel;
    size_t group, scratch; /* work-items; floats of one (sequence, kv head) */
} seeker;

static vlcache_status get_wide(vlci_compress *p, seeker *s) {
    s->group = 1;
    s->scratch = (size_t)(p->max_tokens + LANES - 1) / LANES * LANES * (size_t)(p->shape.head_dim + 3);
    return get(p, "spread_wide.cl", "spread", "", &s->kernel);
}

/* As large a work-group as there is that the kernel built for it takes. */
static vlcache_status get_seeker(vlci_compress *p, seeker *s) {
    const char *rung;
    vlcache_status status = vlci_rung(p->device, &vlci_spread_ladder, choose(p->device), &rung);
    if (status || strcmp(rung, "wide") == 0) return status ? status : get_wide(p, s);
    size_t fits = p->device->caps.max_group >= 256 ? 256 : 64;
    s->scratch = (size_t)p->max_tokens;
    do {
        char option[40];
        s->group = fits;
        snprintf(option, sizeof option, " -DSPREAD_GROUP=%zu", s->group);
        status = get(p, "spread.cl", "spread", option, &s->kernel);
        if (!status) fits = vlci_group_width(s->kernel, s->group);
    } while (!status && fits < s->group);
    return status;
}

static vlcache_status spread(vlci_compress *p, int layer, cl_mem score, const vlci_attention *a) {
    seeker s = {0};
    vlcache_status status = get_seeker(p, &s);
    if (!status && !p->distances)
        status = vlci_memory_create(p->device, heads(p) * s.scratch * sizeof(cl_float),
                                    "compression: distances", &p->distances);
    if (status) return status;
    return VLCI_LAUNCH(p->device, s.kernel, VLCI_GRID(heads(p), 1, 1, s.group, 1, 1),
                       ROWS_OF(p, layer, a, a->k, a->k_offset), VLCI_MEM(score), VLCI_U32(p->max_tokens),
                       VLCI_MEM(p->distances), VLCI_U32(s.scratch));
}

/* ---- k-means ------------------------------------------------------------------------------------------- */

static vlcache_status find_means(vlci_compress *p, int layer, const vlci_attention *a) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status = get_kmeans(p, "kmeans_means", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(p->device, kernel, centroid_grid(kernel, p, layer),
                       ROWS_OF(p, layer, a, a->k, a->k_offset));
}

static vlcache_status assign(vlci_compress *p, int layer, const vlci_attention *a) {
    const vlci_kernel *kernel = NULL;
    size_t items = (size_t)(p->max_tokens + KEYS - 1) / KEYS;
    vlcache_status status = get_kmeans(p, "kmeans_assign", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(p->device, kernel, vlci_grid_over(kernel, items, heads(p), 1),
                       ROWS_OF(p, layer, a, a->k, a->k_offset));
}

static vlcache_status write_rows(vlci_compress *p, int layer, const vlci_attention *a,
                                 const vlci_compact_to *to) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status = get_kmeans(p, "kmeans_write", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(p->device, kernel, centroid_grid(kernel, p, layer),
                       ROWS_OF(p, layer, a, a->v, a->v_offset), VLCI_MEM(to->k), VLCI_U32(to->k_offset),
                       VLCI_MEM(to->v), VLCI_U32(to->v_offset), VLCI_U32(to->seq_stride),
                       VLCI_U32(to->head_stride), VLCI_U32(to->row_stride), VLCI_MEM(to->bias),
                       VLCI_I32(to->capacity));
}

vlcache_status vlci_summary_build(vlci_compress *p) {
    const vlci_kernel *kernel = NULL;
    seeker s;
    if (p->recipe.centroids == 0.0 || p->shape.head_dim % CHUNK) return VLCACHE_OK;
    vlcache_status status = get_kmeans(p, "kmeans_means", &kernel);
    return status || !p->recipe.spread ? status : get_seeker(p, &s);
}

vlcache_status vlci_summary(vlci_compress *p, int layer, cl_mem score, const vlci_attention *a,
                            const vlci_compact_to *to) {
    if (!most_centroids(p, layer)) return VLCACHE_OK;
    if (!to->bias)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: centroids need room for biases", layer);
    if (p->shape.head_dim % CHUNK)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: summary: head_dim %d: takes multiples of %d",
                         p->shape.head_dim, CHUNK);
    vlcache_status status = make_room(p);
    if (!status) status = list_evicted(p, layer);
    if (!status && p->recipe.spread) status = spread(p, layer, score, a);
    if (!status) status = find_means(p, layer, a);
    for (int i = 0; i < p->recipe.iterations && !status; i++) {
        status = assign(p, layer, a);
        if (!status) status = find_means(p, layer, a);
    }
    return status ? status : write_rows(p, layer, a, to);
}
