/*
 * patch.c - pixels to rows of patches, and rows of patches to the tower's first rows: a work-item for each
 * element.
 */
#include "compute/patch.h"

vlcache_status vlci_patch_open(vlcache_device *device, vlci_patch_kernels *out) {
    *out = (vlci_patch_kernels){.device = device};
    vlcache_status status = vlci_kernel_get(device, "patch.cl", "patchify", "", &out->patchify);
    if (!status) status = vlci_kernel_get(device, "patch.cl", "assemble", "", &out->assemble);
    if (!status) status = vlci_kernel_get(device, "patch.cl", "patchify_at", "", &out->patchify_at);
    return status ? status : vlci_kernel_get(device, "patch.cl", "add_table", "", &out->add_table);
}

vlcache_status vlci_patch_split(const vlci_patch_kernels *kernels, cl_mem pixels, cl_mem rows, int tiles,
                                int side, int patch) {
    size_t grid = (size_t)(side / patch), columns = 3 * (size_t)patch * (size_t)patch;
    return VLCI_LAUNCH(kernels->device, kernels->patchify,
                       vlci_grid_over(kernels->patchify, columns, (size_t)tiles * grid * grid, 1),
                       VLCI_MEM(pixels), VLCI_MEM(rows), VLCI_I32(side), VLCI_I32(patch));
}

vlcache_status vlci_patch_assemble(const vlci_patch_kernels *kernels, cl_mem patches, cl_mem class_embedding,
                                   cl_mem position, cl_mem y, int tiles, int per_tile, int hidden) {
    int front = class_embedding ? 1 : 0;
    size_t rows = (size_t)tiles * ((size_t)per_tile + (size_t)front);
    return VLCI_LAUNCH(kernels->device, kernels->assemble,
                       vlci_grid_exact(kernels->assemble, (size_t)hidden, rows, 1), VLCI_MEM(patches),
                       VLCI_MEM(front ? class_embedding : position), VLCI_MEM(position), VLCI_MEM(y),
                       VLCI_I32(front), VLCI_I32(per_tile), VLCI_I32(hidden));
}

vlcache_status vlci_patch_at(const vlci_patch_kernels *kernels, const vlci_patch_frames *f, cl_mem place,
                             int first, cl_mem rows, int n) {
    size_t columns = 3 * (size_t)f->step * (size_t)f->patch * (size_t)f->patch;
    return VLCI_LAUNCH(kernels->device, kernels->patchify_at,
                       vlci_grid_over(kernels->patchify_at, columns, (size_t)n, 1), VLCI_MEM(f->pixels),
                       VLCI_MEM(rows), VLCI_MEM(place), VLCI_I32(first), VLCI_I32(f->frames),
                       VLCI_I32(f->height), VLCI_I32(f->width), VLCI_I32(f->patch), VLCI_I32(f->step));
}

vlcache_status vlci_patch_table(const vlci_patch_kernels *kernels, cl_mem x, cl_mem table, int side,
                                cl_mem place, int n, int rows, int columns, int hidden) {
    return VLCI_LAUNCH(kernels->device, kernels->add_table,
                       vlci_grid_exact(kernels->add_table, (size_t)hidden, (size_t)n, 1), VLCI_MEM(x),
                       VLCI_MEM(table), VLCI_MEM(place), VLCI_I32(rows), VLCI_I32(columns), VLCI_I32(side),
                       VLCI_I32(hidden));
}
