/**
 * matrix.h (internal) - weights on the device, and a product with them as it is asked for.
 */
#ifndef VLCI_COMPUTE_MATRIX_H
#define VLCI_COMPUTE_MATRIX_H

#include "cl/shared.h"
#include "device/device.h"

/** Rows: element (n, k) at n * K + k. Panels: at VLCI_PANEL_AT(n, k, K), zero-padded to whole panels. */
typedef enum vlci_layout { VLCI_ROWS, VLCI_PANELS } vlci_layout;

/** A matrix on the device, [n][k], with its bias (f32 [n]) or NULL. */
typedef struct vlci_matrix {
    cl_mem data, bias;
    int n, k;
    vlcache_dtype dtype;
    vlci_layout layout;
} vlci_matrix;

/** y = act(x W^T + bias), or y += ... with `accumulate`; x [m][k] and y [m][n] from these elements on. */
typedef struct vlci_product {
    const vlci_matrix *w;
    cl_mem x, y;
    uint32_t x_offset, y_offset;
    int m;
    vlci_activation act;
    bool accumulate;
} vlci_product;

/** Bytes of a matrix [n][k] in a layout. */
size_t vlci_matrix_bytes(int n, int k, vlcache_dtype dtype, vlci_layout layout);

/** The kernel `name` of a file built for weights of a dtype; `options`: further ones, each with a blank
 * before it. */
vlcache_status vlci_matrix_kernel(vlcache_device *device, vlcache_dtype dtype, const char *file,
                                  const char *name, const char *options, const vlci_kernel **out);

/** Enqueues a kernel that computes a whole product: all of those take the same arguments. */
vlcache_status vlci_product_launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                                   const vlci_product *p);

static inline size_t vlci_ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

#endif
