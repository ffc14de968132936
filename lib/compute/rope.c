/*
 * rope.c - rotary positions: a work-item for each pair of elements, or for 4 of them side by side.
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
    if (!status) status = vlci_kernel_get(device, "rope.cl", "rope_append", options, &out->append);
    if (status || device->caps.wide_vectors) return status;
    status = vlci_kernel_get(device, "rope.cl", "rope_turn4", options, &out->turn4);
    return status ? status : vlci_kernel_get(device, "rope.cl", "rope_append4", options, &out->append4);
}

/* `heads` heads of each row, 4 pairs an item. */
static vlci_grid grid4(const vlci_kernel *kernel, size_t heads, int head_dim, int rows) {
    size_t n = heads * ((size_t)head_dim / 8), width = vlci_group_width(kernel, 128);
    return VLCI_GRID((n + width - 1) / width, (size_t)rows, 1, width, 1, 1);
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
    if (k->turn4 && head_dim % 8 == 0 && stride % 4 == 0)
        return VLCI_LAUNCH(k->device, k->turn4, grid4(k->turn4, (size_t)heads, head_dim, rows), VLCI_MEM(x),
                           VLCI_MEM(phase), VLCI_U32(stride), VLCI_I32(heads), VLCI_I32(head_dim / 2));
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

/* Whether what lies 4 by 4 in heads does so in memory. */
static bool takes4(const vlci_rope_kernels *k, const vlci_append *a) {
    size_t all = a->kv.k_offset | a->kv.v_offset | a->kv.seq_stride | a->kv.head_stride | a->kv.row_stride;
    return k->append4 && a->head_dim % 8 == 0 && all % 4 == 0;
}

vlcache_status vlci_rope_append(const vlci_rope_kernels *k, const vlci_append *a) {
    size_t heads = (size_t)a->heads + 2 * (size_t)a->kv_heads;
    vlci_arg args[2 + VLCI_ROPE_ARGS] = {VLCI_MEM(a->qkv)};
    vlcache_status status = vlci_rope_args(a, args + 1);
    if (status) return status;
    if (takes4(k, a)) {
        args[1 + VLCI_ROPE_ARGS] = VLCI_I32(a->head_dim / 2);
        return vlci_launch(k->device, k->append4, grid4(k->append4, heads, a->head_dim, a->rows), args,
                           2 + VLCI_ROPE_ARGS);
    }
    vlci_grid grid = vlci_grid_exact(k->append, (size_t)a->head_dim / 2, heads, (size_t)a->rows);
    return vlci_launch(k->device, k->append, grid, args, 1 + VLCI_ROPE_ARGS);
}
