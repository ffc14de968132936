/**
 * patch.h (internal) - the two ends of a patch embedding's matrix product.
 *
 * Two ways: square tiles with a class token (split, assemble), and frames of any size whose patches go in an
 * order of the tower's own (split_at, table).
 */
#ifndef VLCI_COMPUTE_PATCH_H
#define VLCI_COMPUTE_PATCH_H

#include "device/device.h"

typedef struct vlci_patch_kernels {
    vlcache_device *device;
    const vlci_kernel *patchify, *assemble, *patchify_at, *add_table;
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

/** Frames as vlci_patch_at() takes them. */
typedef struct vlci_patch_frames {
    cl_mem pixels;             /**< f32 [frames][3][height][width] */
    int frames, height, width; /**< sides are multiples of `patch` */
    int patch, step;           /**< pixels a side; frames that go together */
} vlci_patch_frames;

/** Enqueues rows [n][3 * step * patch^2] of the patches at place [first ..][3]: step in time, row, column.
 * The last frame stands for those that a step lacks. Errors: the device's. */
vlcache_status vlci_patch_at(const vlci_patch_kernels *kernels, const vlci_patch_frames *frames, cl_mem place,
                             int first, cl_mem rows, int n);

/** Enqueues x [n][hidden] += table [side^2][hidden], stretched bilinearly over rows x columns patches so that
 * corners meet corners. Errors: the device's. */
vlcache_status vlci_patch_table(const vlci_patch_kernels *kernels, cl_mem x, cl_mem table, int side,
                                cl_mem place, int n, int rows, int columns, int hidden);

#endif
