/*
 * attention.c - launches attention over cached rows.
 */
#include "attention.h"

#include <stdio.h>

vlcache_status vlci_attention_run(vlcache_device *device, const vlci_attention *a) {
    const vlci_kernel *kernel;
    char options[48];
    if (a->head_dim % 8)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "head_dim %d: attention takes multiples of 8", a->head_dim);
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DKV_DTYPE=%d", a->head_dim, (int)a->kv_dtype);
    vlcache_status status = vlci_kernel_get(device, "attention.cl", "attention_rows", options, &kernel);
    if (status) return status;
    vlci_grid grid = VLCI_GRID((size_t)a->max_rows, (size_t)a->heads, (size_t)a->batch, 1, 1, 1);
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(a->q), VLCI_MEM(a->k), VLCI_MEM(a->v), VLCI_MEM(a->out),
                       VLCI_MEM(a->seq_start), VLCI_MEM(a->past), VLCI_I32(a->past_offset),
                       VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_I32(a->heads), VLCI_I32(a->kv_heads),
                       VLCI_I32(a->causal), VLCI_F32(a->scale), VLCI_U32(a->q_offset), VLCI_U32(a->q_stride),
                       VLCI_U32(a->k_offset), VLCI_U32(a->v_offset), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride));
}
