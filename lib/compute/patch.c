/*
 * patch.c - pixels to rows of patches, and rows of patches to the tower's first rows: a work-item for each
 * element.
 */
#include "compute/patch.h"

vlcache_status vlci_patch_open(vlcache_device *device, vlci_patch_kernels *out) {
    *out = (vlci_patch_kernels){.device = device};
    vlcache_status status = vlci_kernel_get(device, "patch.cl", "patchify", "", &out->patchify);
    return status ? status : vlci_kernel_get(device, "patch.cl", "assemble", "", &out->assemble);
}

vlcache_status vlci_patch_split(const vlci_patch_kernels *kernels, cl_mem pixels, cl_mem rows, int tiles,
                                int side, int patch) {
    size_t grid = (size_t)(side / patch), columns = 3 * (size_t)patch * (size_t)patch;
    return VLCI_LAUNCH(kernels->device, kernels->patchify,
                       vlci_grid_exact(kernels->patchify, columns, (size_t)tiles * grid * grid, 1),
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
