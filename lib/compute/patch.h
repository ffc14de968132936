/**
 * patch.h (internal) - the two ends of a patch embedding's matrix product.
 */
#ifndef VLCI_COMPUTE_PATCH_H
#define VLCI_COMPUTE_PATCH_H

#include "device/device.h"

typedef struct vlci_patch_kernels {
    vlcache_device *device;
    const vlci_kernel *patchify, *assemble;
} vlci_patch_kernels;

/** Errors: those of vlci_kernel_get(). */
vlcache_status vlci_patch_open(vlcache_device *device, vlci_patch_kernels *out);

/** Enqueues pixels [tiles][3][side][side] to rows [tiles * (side / patch)^2][3 * patch^2]. Errors: the
 * device's. */
vlcache_status vlci_patch_split(const vlci_patch_kernels *kernels, cl_mem pixels, cl_mem rows, int tiles,
                                int side, int patch);

/** Enqueues y [tiles][1 + per_tile][hidden]: class embedding and patch rows, plus position embedding; without
 * the row in front where class_embedding is NULL. Errors: the device's. */
vlcache_status vlci_patch_assemble(const vlci_patch_kernels *kernels, cl_mem patches, cl_mem class_embedding,
                                   cl_mem position, cl_mem y, int tiles, int per_tile, int hidden);

#endif
