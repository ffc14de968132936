/*
 * embed.c - rows by index: a work-item for each element.
 */
#include "compute/embed.h"

#include <stdio.h>

vlcache_status vlci_embed_open(vlcache_device *device, vlcache_dtype dtype, vlci_layout layout,
                               vlci_embed_kernels *out) {
    char options[24];
    *out = (vlci_embed_kernels){.device = device, .dtype = dtype, .layout = layout};
    snprintf(options, sizeof options, " -DLAYOUT=%d", (int)layout);
    vlcache_status status = vlci_matrix_kernel(device, dtype, "embed.cl", "embed", options, &out->embed);
    if (!status) status = vlci_matrix_kernel(device, dtype, "embed.cl", "embed_add", options, &out->add);
    if (!status) status = vlci_matrix_kernel(device, dtype, "embed.cl", "gather", options, &out->gather);
    return status ? status : vlci_matrix_kernel(device, dtype, "embed.cl", "blend", options, &out->blend);
}

vlcache_status vlci_embed_run(const vlci_embed_kernels *kernels, const vlci_matrix *table, float scale,
                              vlci_features features, cl_mem ids, cl_mem y, int rows) {
    if (table->dtype != kernels->dtype || table->layout != kernels->layout)
        return vlci_fail(VLCACHE_E_ARGUMENT, "embedding: a table of %s, or its layout, which was not opened",
                         vlcache_dtype_name(table->dtype));
    return VLCI_LAUNCH(kernels->device, kernels->embed,
                       vlci_grid_exact(kernels->embed, (size_t)table->k, (size_t)rows, 1),
                       VLCI_MEM(table->data), VLCI_MEM(features.data ? features.data : y), VLCI_MEM(ids),
                       VLCI_MEM(y), VLCI_I32(table->k), VLCI_I32(features.sets), VLCI_F32(scale));
}

vlcache_status vlci_embed_add(const vlci_embed_kernels *kernels, vlci_features features, int set, cl_mem ids,
                              cl_mem y, int first, int rows, int k) {
    return VLCI_LAUNCH(kernels->device, kernels->add,
                       vlci_grid_exact(kernels->add, (size_t)k, (size_t)rows, 1), VLCI_MEM(features.data),
                       VLCI_MEM(ids), VLCI_I32(first), VLCI_MEM(y), VLCI_I32(k), VLCI_I32(features.sets),
                       VLCI_I32(set));
}

vlcache_status vlci_gather_run(const vlci_embed_kernels *kernels, cl_mem x, cl_mem other, cl_mem source,
                               cl_mem y, int rows, int n) {
    return VLCI_LAUNCH(kernels->device, kernels->gather,
                       vlci_grid_exact(kernels->gather, (size_t)n, (size_t)rows, 1), VLCI_MEM(x),
                       VLCI_MEM(other), VLCI_MEM(source), VLCI_MEM(y), VLCI_I32(n));
}

vlcache_status vlci_blend_run(const vlci_embed_kernels *kernels, cl_mem x, cl_mem other, cl_mem source,
                              cl_mem y, int rows, int n) {
    return VLCI_LAUNCH(kernels->device, kernels->blend,
                       vlci_grid_exact(kernels->blend, (size_t)n, (size_t)rows, 1), VLCI_MEM(x),
                       VLCI_MEM(other), VLCI_MEM(source), VLCI_MEM(y), VLCI_I32(n));
}
