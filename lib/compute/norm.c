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

static vlcache_status open_held(vlcache_device *device, const char *options, vlci_norm_kernels *out) {
    char all[64];
    snprintf(all, sizeof all, "-DHELD=%d%s%s", VLCI_NORM_HELD, *options ? " " : "", options);
    vlcache_status status = vlci_kernel_lanes(device, "norm.cl", "rms_norm", all, &vlci_norm_ladder,
                                              &out->rms_held, &out->rms_held_lanes);
    return status ? status
                  : vlci_kernel_lanes(device, "norm.cl", "layer_norm", all, &vlci_norm_ladder,
                                      &out->layer_held, &out->layer_held_lanes);
}

static vlcache_status open_norms(vlcache_device *device, vlci_form form, const char *options,
                                 vlci_norm_kernels *out) {
    *out = (vlci_norm_kernels){.device = device, .form = form};
    vlcache_status status = vlci_kernel_lanes(device, "norm.cl", "rms_norm", options, &vlci_norm_ladder,
                                              &out->rms, &out->rms_lanes);
    if (!status)
        status = vlci_kernel_lanes(device, "norm.cl", "layer_norm", options, &vlci_norm_ladder, &out->layer,
                                   &out->layer_lanes);
    return status || out->rms_lanes == 1 ? status : open_held(device, options, out);
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

/* Whether a row, up to where it is written, stays in registers of `lanes` work-items, which read 4 by 4. */
static bool is_held(const vlci_norm_kernels *k, size_t lanes, size_t x_offset, int n) {
    size_t width = vlci_form_width(k->form, n);
    return lanes > 1 && n % 4 == 0 && x_offset % 4 == 0 && width <= 4 * VLCI_NORM_HELD * lanes;
}

vlcache_status vlci_norm_run(const vlci_norm_kernels *kernels, cl_mem x, size_t x_offset,
                             const vlci_norm *norm, cl_mem y, int rows, int n, float eps) {
    vlcache_status status = check_offset(x_offset);
    if (status) return status;
    bool layer = norm->bias != NULL;
    size_t held = layer ? kernels->layer_held_lanes : kernels->rms_held_lanes;
    size_t lanes = layer ? kernels->layer_lanes : kernels->rms_lanes;
    const vlci_kernel *kernel = layer ? kernels->layer : kernels->rms;
    if (is_held(kernels, held, x_offset, n)) {
        kernel = layer ? kernels->layer_held : kernels->rms_held;
        lanes = held;
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
