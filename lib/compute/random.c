/*
 * random.c - a work-item for each element.
 */
#include "compute/random.h"

#include <stdio.h>

enum { ROWS = 1 << 15 }; /* of a launch: GPUs have no more than 65,535 groups along y */

/* What panels, pairs and blocks have beyond the matrix. */
static vlcache_status clear_padding(vlcache_device *device, const vlci_matrix *m) {
    size_t whole = vlci_matrix_bytes(m->n, m->k, m->dtype, m->layout);
    size_t used = (size_t)m->n * (size_t)m->k * vlci_dtype_bytes(m->dtype);
    return whole == used ? VLCACHE_OK : vlci_fill(device, m->data, 0, whole, 0);
}

vlcache_status vlci_random_matrix(vlcache_device *device, const vlci_matrix *m, uint32_t seed, float scale) {
    const vlci_kernel *kernel = NULL;
    char options[24];
    snprintf(options, sizeof options, " -DLAYOUT=%d", (int)m->layout);
    vlcache_status status =
        vlci_matrix_kernel(device, m->dtype, "random.cl", "random_matrix", options, &kernel);
    if (!status) status = clear_padding(device, m);
    for (int first = 0; first < m->n && !status; first += ROWS) {
        int rows = m->n - first < ROWS ? m->n - first : ROWS;
        status =
            VLCI_LAUNCH(device, kernel, vlci_grid_exact(kernel, (size_t)m->k, (size_t)rows, 1),
                        VLCI_MEM(m->data), VLCI_I32(first), VLCI_I32(m->k), VLCI_U32(seed), VLCI_F32(scale));
    }
    return status;
}

vlcache_status vlci_random_floats(vlcache_device *device, cl_mem y, size_t n, uint32_t seed, float mean,
                                  float scale) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status = vlci_kernel_get(device, "random.cl", "random_vector", "", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, vlci_grid_exact(kernel, n, 1, 1), VLCI_MEM(y), VLCI_U32(seed),
                       VLCI_F32(mean), VLCI_F32(scale));
}
