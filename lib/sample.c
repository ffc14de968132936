/*
 * sample.c - launches the choice of the next token: logits [rows][n] in, one id a row out.
 */
#include "sample.h"

#include <stdio.h>

/* The kernel, and a grid of one work-group a row: the widest power of two up to what the device takes; one
 * work-item on CPUs, where a barrier costs a loop. */
static vlcache_status prepare(vlcache_device *device, const char *name, int rows, const vlci_kernel **kernel,
                              vlci_grid *grid) {
    size_t lanes = device->caps.wide_vectors ? 1 : 256;
    char options[32];
    for (;; lanes /= 2) {
        snprintf(options, sizeof options, "-DLANES=%zu", lanes);
        vlcache_status status = vlci_kernel_get(device, "sample.cl", name, options, kernel);
        if (status) return status;
        if (lanes == 1 || lanes <= (*kernel)->max_group) break;
    }
    *grid = VLCI_GRID((size_t)rows, 1, 1, lanes, 1, 1);
    return VLCACHE_OK;
}

vlcache_status vlci_argmax(vlcache_device *device, cl_mem logits, int rows, int n, cl_mem out) {
    const vlci_kernel *kernel;
    vlci_grid grid;
    vlcache_status status = prepare(device, "argmax", rows, &kernel, &grid);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(logits), VLCI_I32(n), VLCI_MEM(out));
}

vlcache_status vlci_sample(vlcache_device *device, cl_mem logits, int rows, int n, const vlci_sampling *how,
                           cl_mem u, cl_mem out) {
    const vlci_kernel *kernel;
    vlci_grid grid;
    if (!(how->temperature > 0) || how->top_k < 0 || !(how->top_p > 0 && how->top_p <= 1))
        return vlci_fail(
            VLCACHE_E_ARGUMENT,
            "sampling: temperature %g, top_k %d, top_p %g: needs temperature > 0, top_k >= 0 and "
            "top_p in (0, 1]",
            (double)how->temperature, how->top_k, (double)how->top_p);
    vlcache_status status = prepare(device, "sample", rows, &kernel, &grid);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(logits), VLCI_I32(n), VLCI_F32(1 / how->temperature),
                       VLCI_I32(how->top_k), VLCI_F32(how->top_p), VLCI_MEM(u), VLCI_MEM(out));
}
