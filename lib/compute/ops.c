/*
 * ops.c - launches of the small kernels.
 */
#include "compute/ops.h"

#include <stdio.h>
#include <stdlib.h>

vlcache_status vlci_kernel_lanes(vlcache_device *device, const char *file, const char *name,
                                 const vlci_ladder *ladder, const vlci_kernel **kernel, size_t *lanes) {
    const char *rung;
    char options[32];
    vlcache_status status = vlci_rung(device, ladder, ladder->choose(device), &rung);
    if (status) return status;
    for (*lanes = (size_t)atoi(rung);; *lanes /= 2) {
        snprintf(options, sizeof options, "-DLANES=%zu", *lanes);
        status = vlci_kernel_get(device, file, name, options, kernel);
        if (status || *lanes == 1 || *lanes <= (*kernel)->max_group) return status;
    }
}

/* A grid of nx x ny x nz single elements: work-groups along x, as wide a power of two up to 64 as divides nx.
 */
static vlci_grid element_grid(const vlci_kernel *kernel, int nx, int ny, int nz) {
    size_t group = 64;
    while (group > 1 && ((size_t)nx % group || group > kernel->max_group)) group /= 2;
    return VLCI_GRID((size_t)nx / group, (size_t)ny, (size_t)nz, group, 1, 1);
}

/* One on CPUs, where the barriers of a group cost more than they save. */
static const char *choose_norm(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 1 : 64);
}

const vlci_ladder vlci_norm_ladder = {"norm", "prefill, decode", vlci_lane_rungs, vlci_lanes_fit,
                                      choose_norm};

vlcache_status vlci_norm_rows(vlcache_device *device, cl_mem x, const vlci_norm *norm, cl_mem y, int rows,
                              int n, float eps) {
    const vlci_kernel *kernel;
    size_t lanes;
    const char *name = norm->bias ? "layer_norm" : "rms_norm";
    vlcache_status status = vlci_kernel_lanes(device, "norm.cl", name, &vlci_norm_ladder, &kernel, &lanes);
    if (status) return status;
    vlci_grid grid = VLCI_GRID((size_t)rows, 1, 1, lanes, 1, 1);
    if (!norm->bias)
        return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(x), VLCI_MEM(norm->weight), VLCI_MEM(y),
                           VLCI_I32(n), VLCI_F32(eps));
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(x), VLCI_MEM(norm->weight), VLCI_MEM(norm->bias),
                       VLCI_MEM(y), VLCI_I32(n), VLCI_F32(eps));
}

vlcache_status vlci_gated_act(vlcache_device *device, cl_mem x, cl_mem y, int rows, int n,
                              vlci_activation act) {
    const vlci_kernel *kernel;
    char options[16];
    snprintf(options, sizeof options, "-DACT=%d", (int)act);
    vlcache_status status = vlci_kernel_get(device, "act.cl", "gated_act", options, &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, n, rows, 1), VLCI_MEM(x), VLCI_MEM(y),
                       VLCI_I32(n));
}

vlcache_status vlci_embed_rows(vlcache_device *device, const vlci_matrix *table, cl_mem features, cl_mem ids,
                               cl_mem y, int rows) {
    const vlci_kernel *kernel;
    char options[48];
    snprintf(options, sizeof options, "-DW_DTYPE=%d -DPANELS=%d", (int)table->dtype,
             table->layout == VLCI_PANELS);
    vlcache_status status = vlci_kernel_get(device, "embed.cl", "embed", options, &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, table->k, rows, 1), VLCI_MEM(table->data),
                       VLCI_MEM(features), VLCI_MEM(ids), VLCI_MEM(y), VLCI_I32(table->k));
}

vlcache_status vlci_gather_rows(vlcache_device *device, cl_mem x, cl_mem other, cl_mem source, cl_mem y,
                                int rows, int n) {
    const vlci_kernel *kernel;
    vlcache_status status = vlci_kernel_get(device, "embed.cl", "gather", "", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, n, rows, 1), VLCI_MEM(x), VLCI_MEM(other),
                       VLCI_MEM(source), VLCI_MEM(y), VLCI_I32(n));
}

vlcache_status vlci_patchify(vlcache_device *device, cl_mem pixels, cl_mem rows, int tiles, int side,
                             int patch) {
    const vlci_kernel *kernel;
    vlcache_status status = vlci_kernel_get(device, "patch.cl", "patchify", "", &kernel);
    if (status) return status;
    int grid = side / patch;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, 3 * patch * patch, tiles * grid * grid, 1),
                       VLCI_MEM(pixels), VLCI_MEM(rows), VLCI_I32(side), VLCI_I32(patch));
}

vlcache_status vlci_assemble(vlcache_device *device, cl_mem patches, cl_mem class_embedding, cl_mem position,
                             cl_mem y, int tiles, int per_tile, int hidden) {
    const vlci_kernel *kernel;
    vlcache_status status = vlci_kernel_get(device, "patch.cl", "assemble", "", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, hidden, tiles * (per_tile + 1), 1),
                       VLCI_MEM(patches), VLCI_MEM(class_embedding), VLCI_MEM(position), VLCI_MEM(y),
                       VLCI_I32(per_tile), VLCI_I32(hidden));
}

vlcache_status vlci_rope_phase(vlcache_device *device, cl_mem inv_freq, cl_mem row_position, cl_mem phase,
                               int rows, int head_dim) {
    const vlci_kernel *kernel;
    vlcache_status status = vlci_kernel_get(device, "rope.cl", "rope_phase", "", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, element_grid(kernel, head_dim / 2, rows, 1), VLCI_MEM(inv_freq),
                       VLCI_MEM(row_position), VLCI_MEM(phase));
}

vlcache_status vlci_rope_append(vlcache_device *device, const vlci_append *a) {
    const vlci_kernel *kernel;
    char options[32];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d", (int)a->kv_dtype);
    vlcache_status status = vlci_kernel_get(device, "rope.cl", "rope_append", options, &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel,
                       element_grid(kernel, a->head_dim / 2, a->heads + 2 * a->kv_heads, a->rows),
                       VLCI_MEM(a->qkv), VLCI_MEM(a->phase), VLCI_MEM(a->row_sequence),
                       VLCI_MEM(a->seq_start), VLCI_MEM(a->past), VLCI_I32(a->past_offset), VLCI_MEM(a->k),
                       VLCI_MEM(a->v), VLCI_I32(a->heads), VLCI_I32(a->kv_heads), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride));
}
