/*
 * view.c - where keys and values lie -> arguments of kernels.
 */
#include "kv/view.h"

#include <string.h>

vlcache_status vlci_kv_args(const vlci_kv_view *v, vlci_arg out[VLCI_KV_ARGS]) {
    const size_t numbers[] = {v->k_offset, v->v_offset, v->seq_stride, v->head_stride, v->row_stride};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] > UINT32_MAX)
            return vlci_fail(
                VLCACHE_E_UNSUPPORTED,
                "keys and values: an offset or stride of %zu elements, kernels take less than 2^32",
                numbers[i]);
    const vlci_arg all[VLCI_KV_ARGS] = {
        VLCI_MEM(v->k),           VLCI_MEM(v->v),         VLCI_MEM(v->bias),     VLCI_MEM(v->heads),
        VLCI_MEM(v->slots),       VLCI_MEM(v->table),     VLCI_I32(v->layer),    VLCI_I32(v->layers),
        VLCI_I32(v->ahead),       VLCI_U32(v->k_offset),  VLCI_U32(v->v_offset), VLCI_U32(v->seq_stride),
        VLCI_U32(v->head_stride), VLCI_U32(v->row_stride)};
    memcpy(out, all, sizeof all);
    return VLCACHE_OK;
}
