/*
 * rope.c - rotary positions: a work-item for each pair of elements.
 */
#include "compute/rope.h"

#include <stdio.h>
#include <string.h>

vlcache_status vlci_rope_open(vlcache_device *device, vlcache_dtype kv_dtype, vlci_rope_kernels *out) {
    char options[32];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d", (int)kv_dtype);
    *out = (vlci_rope_kernels){.device = device};
    vlcache_status status = vlci_kernel_get(device, "rope.cl", "rope_phase", options, &out->phase);
    if (!status) status = vlci_kernel_get(device, "rope.cl", "rope_turn", options, &out->turn);
    return status ? status : vlci_kernel_get(device, "rope.cl", "rope_append", options, &out->append);
}

vlcache_status vlci_rope_phase(const vlci_rope_kernels *k, cl_mem inv_freq, cl_mem axis, cl_mem row_position,
                               cl_mem phase, int rows, int head_dim, float scale) {
    return VLCI_LAUNCH(k->device, k->phase, vlci_grid_exact(k->phase, (size_t)head_dim / 2, (size_t)rows, 1),
                       VLCI_MEM(inv_freq), VLCI_MEM(axis), VLCI_MEM(row_position), VLCI_MEM(phase),
                       VLCI_F32(scale));
}

vlcache_status vlci_rope_turn(const vlci_rope_kernels *k, cl_mem x, size_t stride, cl_mem phase, int rows,
                              int heads, int head_dim) {
    if (stride > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "rotation: a stride of %zu elements, kernels take less than 2^32", stride);
    return VLCI_LAUNCH(k->device, k->turn,
                       vlci_grid_exact(k->turn, (size_t)head_dim / 2, (size_t)heads, (size_t)rows),
                       VLCI_MEM(x), VLCI_MEM(phase), VLCI_U32(stride));
}

vlcache_status vlci_rope_args(const vlci_append *a, vlci_arg out[VLCI_ROPE_ARGS]) {
    const vlci_arg own[] = {VLCI_MEM(a->phase),     VLCI_U32(a->phase_row), VLCI_MEM(a->row_sequence),
                            VLCI_MEM(a->seq_start), VLCI_I32(a->heads),     VLCI_I32(a->kv_heads)};
    memcpy(out, own, sizeof own);
    return vlci_kv_args(&a->kv, out + sizeof own / sizeof *own);
}

vlcache_status vlci_rope_append(const vlci_rope_kernels *k, const vlci_append *a) {
    size_t heads = (size_t)a->heads + 2 * (size_t)a->kv_heads;
    vlci_arg args[1 + VLCI_ROPE_ARGS] = {VLCI_MEM(a->qkv)};
    vlcache_status status = vlci_rope_args(a, args + 1);
    if (status) return status;
    vlci_grid grid = vlci_grid_exact(k->append, (size_t)a->head_dim / 2, heads, (size_t)a->rows);
    return vlci_launch(k->device, k->append, grid, args, 1 + VLCI_ROPE_ARGS);
}
