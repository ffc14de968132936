/*
 * compact.c - a cache shrinks to the rows that are kept.
 *
 * In: the rows of some heads, the positions that they keep. Out: rows of earlier turns, the kept rows,
 * ascending, room for centroids of the others, and the rows decoded since; in other pages, or in the same.
 */
#include "compress/compact.h"

#include <stdio.h>

#include "core/alloc.h"

enum { MAX_GROUPS = 256, SQUEEZE_WORDS_MAX = 512, SLICE = 4 /* runs of 16 bytes */ };

/* 32-bit words of a row. */
static size_t words(const vlci_compress_shape *s) {
    return (size_t)s->head_dim * vlci_dtype_bytes(s->kv_dtype) / sizeof(cl_uint);
}

static vlcache_status get_kernel(vlcache_device *device, const vlci_compact_kernels *k, const char *name,
                                 int slice, const vlci_kernel **out) {
    char options[96];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DSQUEEZE_GROUP=%zu -DSQUEEZE_RUN=%d -DSQUEEZE_SLICE=%d",
             VLCI_DTYPE_F32, k->group, k->run, k->slices > 1 ? slice : 0);
    return vlci_kernel_get(device, "compact.cl", name, options, out);
}

static size_t widest(const vlcache_device *device) {
    return device->caps.max_group >= 256 ? 256 : 64;
}

/* Wider slices, of whole parts of a row. */
static vlcache_status get_wider(vlcache_device *device, vlci_compact_kernels *k) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 1; i < VLCI_COMPACT_WIDTHS && !status; i++) {
        k->squeeze[i] = NULL;
        if (k->group == 1 || !k->squeeze[i - 1] || k->slices % ((size_t)1 << i)) continue;
        status = get_kernel(device, k, "squeeze", SLICE << i, &k->squeeze[i]);
        if (!status && k->squeeze[i]->max_group < k->group) k->squeeze[i] = NULL;
    }
    return status;
}

vlcache_status vlci_compact_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 vlci_compact_kernels *out) {
    size_t fits = device->caps.wide_vectors || words(shape) > SQUEEZE_WORDS_MAX ? 1 : widest(device);
    vlcache_status status;
    out->run = words(shape) % 4 ? 1 : 4;
    out->slices = fits > 1 && words(shape) % (4 * SLICE) == 0 ? words(shape) / (4 * SLICE) : 1;
    do { /* the more rows a work-group holds at a time, the fewer times it waits for memory */
        out->group = fits < 64 ? 1 : fits;
        status = get_kernel(device, out, "squeeze", SLICE, &out->squeeze[0]);
        if (!status) fits = vlci_group_width(out->squeeze[0], out->group);
    } while (!status && fits < out->group);
    if (!status) status = get_wider(device, out);
    return status ? status : get_kernel(device, out, "compact", SLICE, &out->compact);
}

/* Rows are moved as words. */
static vlci_kv_view in_words(const vlci_heads *h) {
    vlci_kv_view view = h->kv;
    view.row_stride = words(&h->shape);
    return view;
}

vlcache_status vlci_compact(const vlci_heads *h, const vlci_compact_kernels *k, const vlci_stay *stay,
                            cl_mem to) {
    vlci_kv_view view = in_words(h);
    size_t most = 1, group = vlci_group_width(k->compact, 256);
    for (int i = 0; i < vlci_heads_n(h); i++) {
        const vlci_keep *own = &h->own[vlci_heads_first(h) + i];
        size_t rows = (size_t)(own->before % VLCI_KV_PAGE + own->kept + stay->decoded);
        if (rows > most) most = rows;
    }
    size_t groups = (most * 2 * view.row_stride / (size_t)k->run + group - 1) / group;
    vlci_grid grid =
        VLCI_GRID(groups < MAX_GROUPS ? groups : MAX_GROUPS, (size_t)vlci_heads_n(h), 1, group, 1, 1);
    return VLCI_LAUNCH(h->device, k->compact, grid, VLCI_POOL_OF(&view, h->heads_at), VLCI_MEM(to),
                       VLCI_MEM(h->keep), VLCI_MEM(stay->held), VLCI_U32(vlci_heads_first(h)),
                       VLCI_I32(h->tokens), VLCI_I32(stay->decoded), VLCI_MEM(stay->positions),
                       VLCI_MEM(stay->held_positions));
}

vlcache_status vlci_squeeze(const vlci_heads *h, const vlci_compact_kernels *k, const vlci_stay *stay) {
    vlci_kv_view view = in_words(h);
    size_t heads = (size_t)vlci_heads_n(h), width = 0; /* the wider, the better memory is used */
    while (width + 1 < VLCI_COMPACT_WIDTHS && k->squeeze[width + 1] &&
           heads * 2 * (k->slices >> (width + 1)) >= h->device->caps.info.compute_units)
        width++;
    vlci_grid grid = VLCI_GRID(heads, 2, k->slices >> width, k->group, 1, 1);
    return VLCI_LAUNCH(h->device, k->squeeze[width], grid, VLCI_POOL_OF(&view, h->heads_at),
                       VLCI_MEM(h->keep), VLCI_MEM(stay->held), VLCI_U32(vlci_heads_first(h)),
                       VLCI_I32(h->tokens), VLCI_I32(stay->decoded), VLCI_MEM(stay->positions),
                       VLCI_MEM(stay->held_positions));
}

/* Rows of head i of these, once it is compacted. */
static int rows_of(const vlci_heads *h, const vlci_stay *stay, int i) {
    const vlci_keep *own = &h->own[vlci_heads_first(h) + i];
    return own->before + own->kept + own->centroids + stay->decoded;
}

vlcache_status vlci_compact_within(const vlci_heads *h, const vlci_compact_kernels *k, const vlci_stay *stay,
                                   vlci_kv *kv) {
    vlcache_status status = vlci_squeeze(h, k, stay);
    for (int i = 0; i < vlci_heads_n(h) && !status; i++) vlci_kv_cut(kv, h->layer, i, rows_of(h, stay, i));
    return status;
}

vlcache_status vlci_compact_into(vlci_heads *h, const vlci_compact_kernels *k, const vlci_stay *stay,
                                 int layer, cl_mem to, vlci_kv *kv, vlci_kv_next *next) {
    int n = vlci_heads_n(h);
    bool biased = false;
    int *rows = vlci_alloc(2 * (size_t)n, sizeof *rows);
    *next = (vlci_kv_next){0};
    if (!rows) return vlci_fail_memory("compacted rows");
    for (int i = 0; i < n; i++) {
        rows[i] = rows_of(h, stay, i);
        rows[n + i] = h->own[vlci_heads_first(h) + i].before;
        biased |= h->own[vlci_heads_first(h) + i].centroids > 0;
    }
    vlcache_status status = vlci_kv_replace(kv, layer, h->layers, rows, rows + n, biased, to, next);
    if (!status) {
        h->kv = vlci_kv_layer(kv, layer); /* the pool may have grown */
        status = vlci_compact(h, k, stay, to);
    }
    if (status) vlci_kv_next_release(kv, next);
    vlci_free(rows);
    return status;
}
