/*
 * gemv.c - the matrix-vector kernels: by layout of W, rows of x (rounded up to a power of two), and
 * alignment.
 */
#include "compute/gemv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* AHEAD: bytes of the next product's weights that a launch asks for, where these are LARGE. Measured on an
 * H100, a token of a 7B model: 5.80 ms without, 5.72 with 3 MB, 5.76 with 6, 5.81 with 12; of a 2.2B model,
 * whatever their size: 2.06 without, 2.11 with 6. */
enum { AHEAD = 3 << 20, LARGE = 32 << 20 };

static const char *choose(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 1 : VLCI_GEMV_LANES);
}

const vlci_ladder vlci_gemv_ladder = {"gemv", "decode", vlci_lane_rungs, vlci_lanes_fit, choose};

/* A work-item takes a panel, or two. */
static vlcache_status open_panels(vlci_gemv *gemv, vlcache_dtype dtype, int i) {
    char options[40];
    snprintf(options, sizeof options, " -DROWS=%d", 1 << i);
    gemv->height[i].lanes = 1;
    return vlci_matrix_kernel(gemv->device, dtype, "gemv_wide.cl", "gemv_wide", options,
                              &gemv->height[i].any);
}

vlcache_status vlci_gemv_open_mapped(vlci_gemv *gemv, vlcache_dtype dtype) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < VLCI_GEMV_HEIGHTS && !gemv->dot && !status; i++) {
        char options[40];
        snprintf(options, sizeof options, " -DROWS=%d", 1 << i);
        status = vlci_matrix_kernel(gemv->device, dtype, "gemv_streams.cl", "gemv_streams", options,
                                    &gemv->height[i].mapped);
    }
    return status;
}

static vlcache_status open_block(const vlci_gemv *gemv, vlcache_dtype dtype, int i, const char *more,
                                 const vlci_kernel **out) {
    char options[128];
    snprintf(options, sizeof options, " -DROWS=%d -DLANES=%zu -DPASSING=%d -DASKING=%d%s", 1 << i,
             gemv->height[i].lanes, gemv->device->caps.mma, gemv->device->caps.wgmma, more);
    return vlci_matrix_kernel(gemv->device, dtype, "gemv_blocks.cl", "gemv_blocks", options, out);
}

/* A rung of fewer lanes than a block's 8 rows take is not there. */
static vlcache_status open_blocks(vlci_gemv *gemv, vlcache_dtype dtype, int i, size_t lanes) {
    gemv->height[i].lanes = lanes < 64 ? 64 : lanes;
    vlcache_status status = open_block(gemv, dtype, i, "", &gemv->height[i].any);
    if (!status) status = open_block(gemv, dtype, i, " -DALIGNED=1", &gemv->height[i].aligned);
    if (!status) status = open_block(gemv, dtype, i, " -DGATED=1", &gemv->height[i].gated);
    return status ? status
                  : open_block(gemv, dtype, i, " -DGATED=1 -DALIGNED=1", &gemv->height[i].gated_aligned);
}

static vlcache_status open_lanes(const vlci_gemv *gemv, vlcache_dtype dtype, int i, const char *more,
                                 const vlci_kernel **out) {
    char options[80];
    snprintf(options, sizeof options, " -DROWS=%d -DLANES=%zu%s", 1 << i, gemv->height[i].lanes, more);
    return vlci_matrix_kernel(gemv->device, dtype, "gemv.cl", "gemv_rows", options, out);
}

/* One that takes fewer lanes than the others is not there. */
static vlcache_status open_rows_append(vlci_gemv *gemv, vlcache_dtype dtype, int i, const char *more) {
    const vlci_kernel *kernel;
    vlcache_status status = open_lanes(gemv, dtype, i, more, &kernel);
    if (!status && gemv->height[i].lanes <= kernel->max_group) gemv->height[i].append = kernel;
    return status;
}

vlcache_status vlci_gemv_open_append(vlci_gemv *gemv, vlcache_dtype dtype, vlcache_dtype kv_dtype) {
    char more[56];
    vlcache_status status = VLCACHE_OK;
    snprintf(more, sizeof more, " -DAPPEND=1 -DALIGNED=1 -DKV_DTYPE=%d", (int)kv_dtype);
    for (int i = 0; i < VLCI_GEMV_HEIGHTS && !gemv->dot && !status; i++) {
        if (gemv->layout == VLCI_BLOCKS) status = open_block(gemv, dtype, i, more, &gemv->height[i].append);
        if (gemv->layout == VLCI_ROWS) status = open_rows_append(gemv, dtype, i, more);
    }
    return status;
}

static bool is_aligned(const vlci_product *p) {
    return p->w->k % 8 == 0 && p->x_offset % 8 == 0;
}

static bool is_mapped(const vlci_gemv *gemv, const vlci_product *p) {
    return gemv->layout == VLCI_PANELS && p->w->layout == VLCI_ROWS;
}

/* By log2 of the rows. */
static int height_of(const vlci_product *p) {
    int i = 0;
    while (1 << i < p->m) i++;
    return i;
}

/* NULL: there is none. */
static const vlci_kernel *kernel_of(const vlci_gemv *gemv, const vlci_product *p) {
    int i = height_of(p);
    bool aligned = is_aligned(p);
    if (p->append) return aligned ? gemv->height[i].append : NULL;
    if (is_mapped(gemv, p)) return gemv->height[i].mapped;
    if (p->gated && gemv->height[i].gated)
        return aligned && gemv->height[i].gated_aligned ? gemv->height[i].gated_aligned
                                                        : gemv->height[i].gated;
    return aligned && gemv->height[i].aligned ? gemv->height[i].aligned : gemv->height[i].any;
}

/* In blocks two runs of 8 rows of W are half a head apart, in rows two rows. */
bool vlci_gemv_appends(const vlci_gemv *gemv, const vlci_product *p) {
    const vlci_append *a = p->append;
    int heads_of = gemv->layout == VLCI_BLOCKS ? 16 : VLCI_GEMV_COLUMNS;
    return kernel_of(gemv, p) && !p->gated && !p->accumulate && !p->act && !p->y_offset && p->y == a->qkv &&
           p->m == a->rows && a->head_dim % heads_of == 0 &&
           p->w->n == (a->heads + 2 * a->kv_heads) * a->head_dim;
}

/* Where rows are mapped, x is normed anew for every four rows of W: measured, of 4 rows of x that takes
 * longer than a launch. So it is of 8 where one work-item goes through rows of W. */
bool vlci_gemv_norms(const vlci_gemv *gemv, const vlci_product *p) {
    bool alone = !gemv->dot && gemv->layout == VLCI_ROWS && gemv->height[height_of(p)].lanes == 1;
    int most = is_mapped(gemv, p) ? 2 : alone ? 4 : VLCI_GEMV_ROWS_MAX;
    return !p->norm->bias && p->m <= most;
}

/* What all kernels take, n of them; a few others, then those of appending, stand behind. */
enum { MOST_ARGS = VLCI_PARTS_ARGS + 4 + VLCI_ROPE_ARGS };
static size_t list_args(const vlci_gemv *gemv, const vlci_product *p, vlci_arg args[MOST_ARGS]) {
    bool parts = gemv->dot || is_mapped(gemv, p);
    size_t n = parts ? VLCI_PARTS_ARGS : VLCI_PRODUCT_ARGS;
    if (parts)
        vlci_product_parts(p, args);
    else
        vlci_product_args(p, args);
    args[n++] = VLCI_MEM(p->norm ? p->norm->weight : NULL);
    args[n++] = VLCI_F32(p->eps);
    return n;
}

static vlcache_status launch(const vlci_gemv *gemv, const vlci_product *p, size_t groups,
                             vlci_arg args[MOST_ARGS], size_t n) {
    vlci_grid grid = VLCI_GRID(groups, 1, 1, gemv->height[height_of(p)].lanes, 1, 1);
    vlcache_status status = p->append ? vlci_rope_args(p->append, args + n) : VLCACHE_OK;
    if (status) return status;
    return vlci_launch(gemv->device, kernel_of(gemv, p), grid, args, p->append ? n + VLCI_ROPE_ARGS : n);
}

/* Pieces of the next product's weights that are asked for. */
static uint32_t pieces_ahead(const vlci_gemv *gemv, const vlci_matrix *next) {
    if (!gemv->device->caps.wgmma || !next || next->layout != VLCI_BLOCKS) return 0;
    size_t bytes = vlci_matrix_bytes(next->n, next->k, next->dtype, next->layout);
    return bytes < LARGE ? 0 : AHEAD / VLCI_GEMV_PIECE;
}

static vlcache_status run_blocks(const vlci_gemv *gemv, const vlci_product *p) {
    size_t columns = (size_t)(p->gated ? p->w->n / 2 : p->w->n);
    size_t own = p->gated ? 8 : 16; /* columns of a work-group */
    uint32_t ahead = pieces_ahead(gemv, p->next);
    vlci_arg args[MOST_ARGS];
    size_t n = list_args(gemv, p, args);
    args[n++] = VLCI_MEM(ahead ? p->next->data : NULL);
    args[n++] = VLCI_U32(ahead);
    return launch(gemv, p, vlci_ceil_div(columns, own), args, n);
}

/* Work-items as large as they may be, and enough of them that what the last leave idle is little. */
static vlcache_status run_dot(const vlci_gemv *gemv, const vlci_product *p) {
    enum { SHARES = 8 };
    size_t columns = (size_t)(p->gated ? p->w->n / 2 : p->w->n), each = VLCI_GEMV_DOT_MOST;
    size_t least = gemv->layout == VLCI_PAIRS ? VLCI_TILE : 16;
    size_t enough = SHARES * (size_t)gemv->device->caps.info.compute_units;
    while (each > least && vlci_ceil_div(columns, each) < enough) each /= 2;
    vlci_arg args[MOST_ARGS];
    size_t n = list_args(gemv, p, args);
    args[n++] = VLCI_I32(each);
    return launch(gemv, p, vlci_ceil_div(columns, each), args, n);
}

/* In rows or panels. Columns of W, of which a gated product in panels has twice as many in a work-item. */
static vlcache_status run_floats(const vlci_gemv *gemv, const vlci_product *p) {
    size_t columns = (size_t)p->w->n, own = VLCI_GEMV_COLUMNS;
    if (gemv->layout == VLCI_PANELS) own = p->gated ? 2 * VLCI_PANEL : VLCI_PANEL;
    vlci_arg args[MOST_ARGS];
    size_t n = list_args(gemv, p, args);
    args[n++] = VLCI_I32(p->gated);
    return launch(gemv, p, vlci_ceil_div(columns, own), args, n);
}

/* As many lanes as the rung says, or as the device and the kernels take. */
static vlcache_status open_rows(vlci_gemv *gemv, vlcache_dtype dtype, int i, size_t lanes) {
    const vlci_caps *caps = &gemv->device->caps;
    while (lanes > 1 &&
           (lanes > caps->max_group ||
            (size_t)VLCI_GEMV_LOCAL_FLOATS((size_t)1 << i, lanes) * sizeof(float) > caps->local_bytes))
        lanes /= 2;
    for (;; lanes /= 2) {
        gemv->height[i].lanes = lanes;
        vlcache_status status = open_lanes(gemv, dtype, i, "", &gemv->height[i].any);
        if (!status) status = open_lanes(gemv, dtype, i, " -DALIGNED=1", &gemv->height[i].aligned);
        if (status || lanes == 1) return status;
        if (lanes <= gemv->height[i].any->max_group && lanes <= gemv->height[i].aligned->max_group)
            return status;
    }
}

vlcache_status vlci_gemv_open(vlcache_device *device, vlcache_dtype dtype, vlci_layout layout,
                              vlci_gemv *out) {
    *out = (vlci_gemv){.device = device, .layout = layout};
    const char *rung;
    const char *chosen = layout == VLCI_BLOCKS ? vlci_lanes_name(VLCI_GEMV_BLOCK_LANES) : choose(device);
    vlcache_status status = vlci_rung(device, &vlci_gemv_ladder, chosen, &rung);
    size_t lanes = status ? 0 : (size_t)atoi(rung);
    for (int i = 0; i < VLCI_GEMV_HEIGHTS && !status; i++)
        status = layout == VLCI_PANELS   ? open_panels(out, dtype, i)
                 : layout == VLCI_BLOCKS ? open_blocks(out, dtype, i, lanes)
                                         : open_rows(out, dtype, i, lanes);
    return status;
}

static vlcache_status open_pairs(vlci_gemv *gemv, int i) {
    const vlci_kernel **all[] = {&gemv->height[i].any, &gemv->height[i].gated};
    vlcache_status status = VLCACHE_OK;
    gemv->height[i].lanes = 1;
    for (int j = 0; j < 2 && !status; j++) {
        char options[80];
        snprintf(options, sizeof options, " -DROWS=%d -DGATED=%d -DDOT=%d -DLAYOUT=%d%s", 1 << i, j,
                 gemv->dot == VLCI_DOT_OWN, (int)gemv->layout, vlci_dot_lines(gemv->device));
        status =
            vlci_matrix_kernel(gemv->device, VLCACHE_DTYPE_BF16, "gemv_dot.cl", "gemv_dot", options, all[j]);
    }
    return status;
}

vlcache_status vlci_gemv_open_dot(vlcache_device *device, vlci_dot dot, vlci_layout layout, vlci_gemv *out) {
    *out = (vlci_gemv){.device = device, .layout = layout, .dot = dot};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < VLCI_GEMV_HEIGHTS && !status; i++) status = open_pairs(out, i);
    return status;
}

vlcache_status vlci_gemv_run(const vlci_gemv *gemv, const vlci_product *p) {
    if (gemv->layout == VLCI_BLOCKS) return run_blocks(gemv, p);
    return gemv->dot ? run_dot(gemv, p) : run_floats(gemv, p);
}
