/*
 * gate.c - gated sums and columns side by side: a work-item for each element.
 */
#include "compute/gate.h"

vlcache_status vlci_gate_open(vlcache_device *device, vlci_gate_kernels *out) {
    *out = (vlci_gate_kernels){.device = device};
    vlcache_status status = vlci_kernel_get(device, "gate.cl", "gate_add", "", &out->add);
    if (!status) status = vlci_kernel_get(device, "gate.cl", "gate_table", "", &out->table);
    return status ? status : vlci_kernel_get(device, "gate.cl", "gate_put", "", &out->put);
}

vlcache_status vlci_gate_add(const vlci_gate_kernels *k, const vlci_gate_rows *to, cl_mem y, cl_mem sees,
                             int least) {
    return VLCI_LAUNCH(k->device, k->add, vlci_grid_exact(k->add, (size_t)to->n, (size_t)to->rows, 1),
                       VLCI_MEM(to->x), VLCI_I32(to->first), VLCI_MEM(y), VLCI_MEM(to->gate), VLCI_MEM(sees),
                       VLCI_I32(least), VLCI_I32(to->n));
}

vlcache_status vlci_gate_table(const vlci_gate_kernels *k, const vlci_gate_rows *to,
                               const vlci_gate_entries *entries, bool rest) {
    return VLCI_LAUNCH(k->device, k->table, vlci_grid_exact(k->table, (size_t)to->n, (size_t)to->rows, 1),
                       VLCI_MEM(to->x), VLCI_I32(to->first), VLCI_MEM(entries->table),
                       VLCI_I32(entries->from), VLCI_I32(entries->each), VLCI_I32(entries->turn),
                       VLCI_MEM(to->gate), VLCI_I32(rest), VLCI_I32(to->n));
}

vlcache_status vlci_gate_put(const vlci_gate_kernels *k, cl_mem x, int rows, int n, cl_mem y, int width,
                             int first, int step) {
    return VLCI_LAUNCH(k->device, k->put, vlci_grid_exact(k->put, (size_t)n, (size_t)rows, 1), VLCI_MEM(x),
                       VLCI_MEM(y), VLCI_I32(width), VLCI_I32(first), VLCI_I32(step), VLCI_I32(n));
}
