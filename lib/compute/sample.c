/*
 * sample.c - launches the choice of the next token: logits [rows][n] in, one id a row out.
 */
#include "compute/sample.h"

#include <math.h>

#include "compute/ops.h"

enum { ENTRIES_MAX = 1 << 23 }; /* of a row: weights of up to 2^40 are summed in 64 bits */

/* 64 work-items on a CPU, though one is as fast there (1 to 2 ms for 32,000 logits with PoCL on two cores):
 * the loops of each stay short, and one software driver ends a work-item's loops, unasked, after 65,535
 * turns. */
static const char *choose(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 64 : 256);
}

const vlci_ladder vlci_sample_ladder = {"sample", "decode", vlci_lane_rungs, vlci_lanes_fit, choose};

/* The kernel, and a grid of one work-group a row. */
static vlcache_status prepare(vlcache_device *device, const char *name, int rows, const vlci_kernel **kernel,
                              vlci_grid *grid) {
    size_t lanes;
    vlcache_status status = vlci_kernel_lanes(device, "sample.cl", name, &vlci_sample_ladder, kernel, &lanes);
    if (!status) *grid = VLCI_GRID((size_t)rows, 1, 1, lanes, 1, 1);
    return status;
}

vlcache_status vlci_argmax(vlcache_device *device, cl_mem logits, int rows, int n, cl_mem out) {
    const vlci_kernel *kernel;
    vlci_grid grid;
    vlcache_status status = prepare(device, "argmax", rows, &kernel, &grid);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(logits), VLCI_I32(n), VLCI_MEM(out));
}

static vlcache_status check_options(int n, const vlci_sampling *how) {
    if (n < 1 || n > ENTRIES_MAX)
        return vlci_fail(VLCACHE_E_ARGUMENT, "sampling: %d logits a row: needs 1 to %d", n, ENTRIES_MAX);
    if (!(how->temperature > 0) || how->top_k < 0 || !(how->top_p > 0 && how->top_p <= 1))
        return vlci_fail(
            VLCACHE_E_ARGUMENT,
            "sampling: temperature %g, top_k %d, top_p %g: needs temperature > 0, top_k >= 0 and "
            "top_p in (0, 1]",
            (double)how->temperature, how->top_k, (double)how->top_p);
    return VLCACHE_OK;
}

vlcache_status vlci_sample(vlcache_device *device, cl_mem logits, int rows, int n, const vlci_sampling *how,
                           cl_mem u, cl_mem out) {
    const vlci_kernel *kernel;
    vlci_grid grid;
    vlcache_status status = check_options(n, how);
    if (!status) status = prepare(device, "sample", rows, &kernel, &grid);
    if (status) return status;
    double log2_e = 1.4426950408889634;
    uint32_t share = how->top_p < 1 ? (uint32_t)fmax(1, (double)how->top_p * 0x1p32) : 0;
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(logits), VLCI_I32(n),
                       VLCI_F32(log2_e / (double)how->temperature), VLCI_I32(how->top_k), VLCI_U32(share),
                       VLCI_MEM(u), VLCI_MEM(out));
}
