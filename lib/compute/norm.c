/*
 * norm.c - norms: a work-group for each row.
 */
#include "compute/norm.h"

#include <stdio.h>

#include "cl/shared.h"

/* One on CPUs, where the barriers of a group cost more than they save. */
static const char *choose(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 1 : VLCI_NORM_LANES);
}

const vlci_ladder vlci_norm_ladder = {"norm", "prefill, decode", vlci_lane_rungs, vlci_lanes_fit, choose};

/* One of the widths, of `lanes`. A device that takes fewer has no such kernel. */
static vlcache_status open_held(vlcache_device *device, const char *options, size_t lanes, int width,
                                vlci_norm_kernels *out) {
    char all[96];
    const vlci_kernel *rms, *layer = NULL;
    snprintf(all, sizeof all, "-DLANES=%zu -DHELD=%d%s%s", lanes, VLCI_NORM_HELD, *options ? " " : "",
             options);
    vlcache_status status = vlci_kernel_get(device, "norm.cl", "rms_norm", all, &rms);
    if (!status) status = vlci_kernel_get(device, "norm.cl", "layer_norm", all, &layer);
    if (status || rms->max_group < lanes || layer->max_group < lanes) return status;
    out->held[width].rms = rms;
    out->held[width].layer = layer;
    out->held[width].lanes = lanes;
    return VLCACHE_OK;
}

static vlcache_status open_widths(vlcache_device *device, const char *options, vlci_norm_kernels *out) {
    vlcache_status status = VLCACHE_OK;
    size_t lanes = out->rms_lanes < out->layer_lanes ? out->rms_lanes : out->layer_lanes;
    for (int i = VLCI_NORM_WIDTHS - 1; i >= 0 && lanes > 1 && !status; i--, lanes /= 2)
        status = open_held(device, options, lanes, i, out);
    return status;
}

static vlcache_status open_norms(vlcache_device *device, vlci_form form, const char *options,
                                 vlci_norm_kernels *out) {
    *out = (vlci_norm_kernels){.device = device, .form = form};
    vlcache_status status = vlci_kernel_lanes(device, "norm.cl", "rms_norm", options, &vlci_norm_ladder,
                                              &out->rms, &out->rms_lanes);
    if (!status)
        status = vlci_kernel_lanes(device, "norm.cl", "layer_norm", options, &vlci_norm_ladder, &out->layer,
                                   &out->layer_lanes);
    return status ? status : open_widths(device, options, out);
}

vlcache_status vlci_norm_open(vlcache_device *device, vlci_norm_kernels *out) {
    vlcache_status status = open_norms(device, VLCI_FLOATS, "", out);
    if (!status)
        status = vlci_kernel_lanes(device, "norm.cl", "head_norm", "", &vlci_norm_ladder, &out->head,
                                   &out->head_lanes);
    return status ? status
                  : vlci_kernel_lanes(device, "norm.cl", "rms_add", "", &vlci_norm_ladder, &out->add,
                                      &out->add_lanes);
}

vlcache_status vlci_norm_open_form(vlcache_device *device, vlci_form form, vlcache_dtype dtype,
                                   vlci_norm_kernels *out) {
    char options[40];
    snprintf(options, sizeof options, "-DFORM=%d -DW_DTYPE=%d", (int)form, (int)dtype);
    return open_norms(device, form, options, out);
}

static vlcache_status check_offset(size_t offset) {
    if (offset <= UINT32_MAX) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED, "norm: an offset of %zu elements, kernels take less than 2^32",
                     offset);
}

/*
 * Which of the widths: the least in whose registers a row stays, up to where it is written, read 4 by 4; the
 * most where rows are too few to fill a device. -1: none.
 */
static int width_of(const vlci_norm_kernels *k, size_t x_offset, int rows, int n) {
    enum { MANY = 256 };
    size_t width = vlci_form_width(k->form, n);
    int found = -1;
    for (int i = VLCI_NORM_WIDTHS - 1; i >= 0 && n % 4 == 0 && x_offset % 4 == 0; i--) {
        bool fits = k->held[i].lanes && width <= 4 * VLCI_NORM_HELD * k->held[i].lanes;
        if (fits && (found < 0 || rows >= MANY)) found = i;
    }
    return found;
}

vlcache_status vlci_norm_run(const vlci_norm_kernels *kernels, cl_mem x, size_t x_offset,
                             const vlci_norm *norm, cl_mem y, int rows, int n, float eps) {
    vlcache_status status = check_offset(x_offset);
    if (status) return status;
    bool layer = norm->bias != NULL;
    size_t lanes = layer ? kernels->layer_lanes : kernels->rms_lanes;
    const vlci_kernel *kernel = layer ? kernels->layer : kernels->rms;
    int held = width_of(kernels, x_offset, rows, n);
    if (held >= 0) {
        kernel = layer ? kernels->held[held].layer : kernels->held[held].rms;
        lanes = kernels->held[held].lanes;
    }
    vlci_grid grid = VLCI_GRID((size_t)rows, 1, 1, lanes, 1, 1);
    if (!layer)
        return VLCI_LAUNCH(kernels->device, kernel, grid, VLCI_MEM(x), VLCI_U32(x_offset),
                           VLCI_MEM(norm->weight), VLCI_MEM(y), VLCI_I32(n), VLCI_F32(eps));
    return VLCI_LAUNCH(kernels->device, kernel, grid, VLCI_MEM(x), VLCI_U32(x_offset), VLCI_MEM(norm->weight),
                       VLCI_MEM(norm->bias), VLCI_MEM(y), VLCI_I32(n), VLCI_F32(eps));
}

vlcache_status vlci_norm_add_run(const vlci_norm_kernels *k, cl_mem y, const vlci_norm *norm, cl_mem x,
                                 size_t x_offset, int rows, int n, float eps) {
    vlcache_status status = check_offset(x_offset);
    if (status) return status;
    return VLCI_LAUNCH(k->device, k->add, VLCI_GRID((size_t)rows, 1, 1, k->add_lanes, 1, 1), VLCI_MEM(y),
                       VLCI_MEM(norm->weight), VLCI_MEM(x), VLCI_U32(x_offset), VLCI_I32(n), VLCI_F32(eps));
}

vlcache_status vlci_head_norm_run(const vlci_norm_kernels *k, cl_mem qkv, const vlci_norm *q_norm,
                                  const vlci_norm *k_norm, int rows, int heads, int kv_heads, int head_dim,
                                  float eps) {
    return VLCI_LAUNCH(k->device, k->head,
                       VLCI_GRID((size_t)heads + (size_t)kv_heads, (size_t)rows, 1, k->head_lanes, 1, 1),
                       VLCI_MEM(qkv), VLCI_MEM(q_norm->weight), VLCI_MEM(k_norm->weight), VLCI_I32(heads),
                       VLCI_I32(kv_heads), VLCI_I32(head_dim), VLCI_F32(eps));
}
