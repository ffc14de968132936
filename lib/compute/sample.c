/*
 * sample.c - the choice of the next token: logits [rows][n] in, one id a row out; a work-group for each row.
 */
#include "compute/sample.h"

#include <math.h>

/* 64 work-items on a CPU, though one is as fast there (1 to 2 ms for 32,000 logits with PoCL on two cores):
 * the loops of each stay short, and one software driver ends a work-item's loops, unasked, after 65,535
 * turns. */
static const char *choose(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 64 : 256);
}

const vlci_ladder vlci_sample_ladder = {"sample", "decode", vlci_lane_rungs, vlci_lanes_fit, choose};

vlcache_status vlci_sample_open(vlcache_device *device, vlci_sample_kernels *out) {
    *out = (vlci_sample_kernels){.device = device};
    vlcache_status status = vlci_kernel_lanes(device, "sample.cl", "argmax", "", &vlci_sample_ladder,
                                              &out->argmax, &out->argmax_lanes);
    if (!status)
        status = vlci_kernel_lanes(device, "sample.cl", "sample", "", &vlci_sample_ladder, &out->sample,
                                   &out->sample_lanes);
    return status ? status : vlci_kernel_get(device, "sample.cl", "cap_logits", "", &out->cap);
}

vlcache_status vlci_logits_cap(const vlci_sample_kernels *kernels, cl_mem logits, size_t n, float cap) {
    return VLCI_LAUNCH(kernels->device, kernels->cap, vlci_grid_exact(kernels->cap, n, 1, 1),
                       VLCI_MEM(logits), VLCI_F32(cap));
}

vlcache_status vlci_argmax_run(const vlci_sample_kernels *kernels, cl_mem logits, int rows, int n,
                               cl_mem out) {
    return VLCI_LAUNCH(kernels->device, kernels->argmax,
                       VLCI_GRID((size_t)rows, 1, 1, kernels->argmax_lanes, 1, 1), VLCI_MEM(logits),
                       VLCI_I32(n), VLCI_MEM(out));
}

vlcache_status vlci_sample_draw(const vlci_sampling *how, float u, vlci_draw *out) {
    if (!(how->temperature >= 0) || how->top_k < 0 || !(how->top_p > 0 && how->top_p <= 1))
        return vlci_fail(
            VLCACHE_E_ARGUMENT,
            "sampling: temperature %g, top_k %d, top_p %g: needs temperature >= 0, top_k >= 0 and "
            "top_p in (0, 1]",
            (double)how->temperature, how->top_k, (double)how->top_p);
    double log2_e = 1.4426950408889634;
    *out = (vlci_draw){.scale = how->temperature > 0 ? (float)(log2_e / (double)how->temperature) : -1,
                       .top_k = how->top_k,
                       .share = how->top_p < 1 ? (uint32_t)fmax(1, (double)how->top_p * 0x1p32) : 0,
                       .u = u};
    return VLCACHE_OK;
}

vlcache_status vlci_sample_run(const vlci_sample_kernels *kernels, cl_mem logits, int rows, int n,
                               cl_mem draws, cl_mem out) {
    if (n < 1 || n > VLCI_LOGITS_MAX)
        return vlci_fail(VLCACHE_E_ARGUMENT, "sampling: %d logits a row: needs 1 to %d", n, VLCI_LOGITS_MAX);
    return VLCI_LAUNCH(kernels->device, kernels->sample,
                       VLCI_GRID((size_t)rows, 1, 1, kernels->sample_lanes, 1, 1), VLCI_MEM(logits),
                       VLCI_I32(n), VLCI_MEM(draws), VLCI_MEM(out));
}
