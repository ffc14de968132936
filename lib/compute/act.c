/*
 * act.c - the gated activation: a kernel for each kind of it.
 */
#include "compute/act.h"

#include <stdio.h>

vlcache_status vlci_act_open(vlcache_device *device, vlci_activation act, vlci_act_kernels *out) {
    char options[16];
    *out = (vlci_act_kernels){.device = device, .act = act};
    snprintf(options, sizeof options, "-DACT=%d", (int)act);
    return vlci_kernel_get(device, "act.cl", "gated_act", options, &out->gated);
}

vlcache_status vlci_act_open_form(vlcache_device *device, vlci_activation act, vlci_form form,
                                  vlcache_dtype dtype, vlci_act_kernels *out) {
    char options[48];
    *out = (vlci_act_kernels){.device = device, .act = act, .form = form};
    snprintf(options, sizeof options, "-DACT=%d -DFORM=%d -DW_DTYPE=%d", (int)act, (int)form, (int)dtype);
    return vlci_kernel_get(device, "act.cl", "gated_act", options, &out->gated);
}

vlcache_status vlci_act_run(const vlci_act_kernels *kernels, cl_mem x, cl_mem y, int rows, int n) {
    size_t width = vlci_form_width(kernels->form, n);
    return VLCI_LAUNCH(kernels->device, kernels->gated,
                       vlci_grid_exact(kernels->gated, width, (size_t)rows, 1), VLCI_MEM(x), VLCI_MEM(y),
                       VLCI_I32(n));
}
