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
enum { OWN_ARGS = 15, AHEAD = 3 << 20, LARGE = 32 << 20 };

static const char *choose(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 1 : VLCI_GEMV_LANES);
}

const vlci_ladder vlci_gemv_ladder = {"gemv", "decode", vlci_lane_rungs, vlci_lanes_fit, choose};

/* A work-item takes a panel. */
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

/* A rung of fewer lanes than a block's 8 rows take is not there. */
static vlcache_status open_blocks(vlci_gemv *gemv, vlcache_dtype dtype, int i, size_t lanes) {
    const vlci_kernel **all[] = {&gemv->height[i].any, &gemv->height[i].aligned, &gemv->height[i].gated,
                                 &gemv->height[i].gated_aligned};
    vlcache_status status = VLCACHE_OK;
    gemv->height[i].lanes = lanes < 64 ? 64 : lanes;
    for (int j = 0; j < 4 && !status; j++) {
        char options[112];
        snprintf(options, sizeof options,
                 " -DROWS=%d -DALIGNED=%d -DGATED=%d -DLANES=%zu -DPASSING=%d -DASKING=%d", 1 << i, j % 2,
                 j / 2, gemv->height[i].lanes, gemv->device->caps.mma, gemv->device->caps.wgmma);
        status = vlci_matrix_kernel(gemv->device, dtype, "gemv_blocks.cl", "gemv_blocks", options, all[j]);
    }
    return status;
}

vlcache_status vlci_gemv_open_append(vlci_gemv *gemv, vlcache_dtype dtype, vlcache_dtype kv_dtype) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; gemv->layout == VLCI_BLOCKS && i < VLCI_GEMV_HEIGHTS && !status; i++) {
        char options[128];
        snprintf(options, sizeof options,
                 " -DKV_DTYPE=%d -DROWS=%d -DALIGNED=1 -DAPPEND=1 -DLANES=%zu -DPASSING=%d -DASKING=%d",
                 (int)kv_dtype, 1 << i, gemv->height[i].lanes, gemv->device->caps.mma,
                 gemv->device->caps.wgmma);
        status = vlci_matrix_kernel(gemv->device, dtype, "gemv_blocks.cl", "gemv_blocks", options,
                                    &gemv->height[i].append);
    }
    return status;
}

static bool is_aligned(const vlci_product *p) {
    return p->w->k % 8 == 0 && p->x_offset % 8 == 0;
}

/* Two runs of 8 rows of W are half a head apart. */
bool vlci_gemv_appends(const vlci_gemv *gemv, const vlci_product *p) {
    const vlci_append *a = p->append;
    return gemv->height[0].append && is_aligned(p) && !p->gated && !p->accumulate && !p->act &&
           !p->y_offset && p->y == a->qkv && p->m == a->rows && a->head_dim % 16 == 0 &&
           p->w->n == (a->heads + 2 * a->kv_heads) * a->head_dim;
}

/* Pieces of the next product's weights that are asked for. */
static uint32_t pieces_ahead(const vlci_gemv *gemv, const vlci_matrix *next) {
    if (!gemv->device->caps.wgmma || !next || next->layout != VLCI_BLOCKS) return 0;
    size_t bytes = vlci_matrix_bytes(next->n, next->k, next->dtype, next->layout);
    return bytes < LARGE ? 0 : AHEAD / VLCI_GEMV_PIECE;
}

static vlcache_status run_blocks(const vlci_gemv *gemv, const vlci_product *p, int i, bool aligned) {
    const vlci_kernel *plain = aligned ? gemv->height[i].aligned : gemv->height[i].any;
    const vlci_kernel *gated = aligned ? gemv->height[i].gated_aligned : gemv->height[i].gated;
    const vlci_kernel *kernel = p->append ? gemv->height[i].append : p->gated ? gated : plain;
    size_t columns = (size_t)(p->gated ? p->w->n / 2 : p->w->n);
    size_t own = p->gated ? 8 : 16; /* columns of a work-group */
    uint32_t ahead = pieces_ahead(gemv, p->next);
    vlci_grid grid = VLCI_GRID(vlci_ceil_div(columns, own), 1, 1, gemv->height[i].lanes, 1, 1);
    const vlci_arg all[OWN_ARGS] = {VLCI_MEM(p->w->data),    VLCI_MEM(p->w->bias),
                                    VLCI_MEM(p->x),          VLCI_U32(p->x_offset),
                                    VLCI_MEM(p->y),          VLCI_U32(p->y_offset),
                                    VLCI_U32(p->m),          VLCI_U32(p->w->n),
                                    VLCI_U32(p->w->k),       VLCI_I32(p->act),
                                    VLCI_I32(p->accumulate), VLCI_MEM(p->norm ? p->norm->weight : NULL),
                                    VLCI_F32(p->eps),        VLCI_MEM(ahead ? p->next->data : NULL),
                                    VLCI_U32(ahead)};
    vlci_arg args[OWN_ARGS + VLCI_ROPE_ARGS];
    memcpy(args, all, sizeof all);
    vlcache_status status = p->append ? vlci_rope_args(p->append, args + OWN_ARGS) : VLCACHE_OK;
    if (status) return status;
    return vlci_launch(gemv->device, kernel, grid, args, OWN_ARGS + (p->append ? VLCI_ROPE_ARGS : 0));
}

/* Work-items as large as they may be, and enough of them that what the last leave idle is little. */
static vlcache_status run_dot(const vlci_gemv *gemv, const vlci_product *p, int i) {
    enum { SHARES = 8 };
    size_t columns = (size_t)(p->gated ? p->w->n / 2 : p->w->n), each = VLCI_GEMV_DOT_MOST;
    size_t least = gemv->layout == VLCI_PAIRS ? VLCI_TILE : 16;
    size_t enough = SHARES * (size_t)gemv->device->caps.info.compute_units;
    while (each > least && vlci_ceil_div(columns, each) < enough) each /= 2;
    vlci_arg args[VLCI_PARTS_ARGS + 3];
    const vlci_arg own[3] = {VLCI_MEM(p->norm ? p->norm->weight : NULL), VLCI_F32(p->eps), VLCI_I32(each)};
    vlci_product_parts(p, args);
    memcpy(args + VLCI_PARTS_ARGS, own, sizeof own);
    return vlci_launch(gemv->device, p->gated ? gemv->height[i].gated : gemv->height[i].mapped,
                       VLCI_GRID(vlci_ceil_div(columns, each), 1, 1, 1, 1, 1), args, VLCI_PARTS_ARGS + 3);
}

static vlcache_status open_lanes(vlci_gemv *gemv, vlcache_dtype dtype, int i, bool aligned,
                                 const vlci_kernel **out) {
    char options[64];
    snprintf(options, sizeof options, " -DROWS=%d -DLANES=%zu -DALIGNED=%d", 1 << i, gemv->height[i].lanes,
             aligned);
    return vlci_matrix_kernel(gemv->device, dtype, "gemv.cl", "gemv_rows", options, out);
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
        vlcache_status status = open_lanes(gemv, dtype, i, false, &gemv->height[i].any);
        if (!status) status = open_lanes(gemv, dtype, i, true, &gemv->height[i].aligned);
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
    const vlci_kernel **all[] = {&gemv->height[i].mapped, &gemv->height[i].gated};
    vlcache_status status = VLCACHE_OK;
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
    int i = 0;
    while (1 << i < p->m) i++;
    bool aligned = gemv->height[i].aligned && is_aligned(p);
    if (gemv->layout == VLCI_BLOCKS) return run_blocks(gemv, p, i, aligned);
    if (gemv->dot) return run_dot(gemv, p, i);
    size_t columns = gemv->layout == VLCI_ROWS ? VLCI_GEMV_COLUMNS : VLCI_PANEL;
    vlci_grid grid = VLCI_GRID(vlci_ceil_div((size_t)p->w->n, columns), 1, 1, gemv->height[i].lanes, 1, 1);
    if (gemv->layout == VLCI_PANELS && p->w->layout == VLCI_ROWS)
        return vlci_product_launch_parts(gemv->device, gemv->height[i].mapped, grid, p);
    return vlci_product_launch(gemv->device, aligned ? gemv->height[i].aligned : gemv->height[i].any, grid,
                               p);
}
