/*
 * rope.c - rotary positions: a work-item for each pair of elements.
 */
#include "compute/rope.h"

#include <stdio.h>

vlcache_status vlci_rope_open(vlcache_device *device, vlci_rope_kernels *out) {
    *out = (vlci_rope_kernels){.device = device};
    return vlci_kernel_get(device, "rope.cl", "rope_phase", "", &out->phase);
}

vlcache_status vlci_rope_phase(const vlci_rope_kernels *kernels, cl_mem inv_freq, cl_mem row_position,
                               cl_mem phase, int rows, int head_dim) {
    return VLCI_LAUNCH(kernels->device, kernels->phase,
                       vlci_grid_exact(kernels->phase, (size_t)head_dim / 2, (size_t)rows, 1),
                       VLCI_MEM(inv_freq), VLCI_MEM(row_position), VLCI_MEM(phase));
}

vlcache_status vlci_rope_append(vlcache_device *device, const vlci_append *a) {
    const vlci_kernel *kernel;
    char options[32];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d", (int)a->kv_dtype);
    vlcache_status status = vlci_kernel_get(device, "rope.cl", "rope_append", options, &kernel);
    if (status) return status;
    size_t heads = (size_t)a->heads + 2 * (size_t)a->kv_heads;
    return VLCI_LAUNCH(device, kernel,
                       vlci_grid_exact(kernel, (size_t)a->head_dim / 2, heads, (size_t)a->rows),
                       VLCI_MEM(a->qkv), VLCI_MEM(a->phase), VLCI_MEM(a->row_sequence),
                       VLCI_MEM(a->seq_start), VLCI_MEM(a->past), VLCI_I32(a->past_offset), VLCI_MEM(a->k),
                       VLCI_MEM(a->v), VLCI_I32(a->heads), VLCI_I32(a->kv_heads), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride));
}
