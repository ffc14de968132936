/**
 * act.h (internal) - the gated activation between the two matrices of a text model's MLP.
 */
#ifndef VLCI_COMPUTE_ACT_H
#define VLCI_COMPUTE_ACT_H

#include "compute/form.h"
#include "device/device.h"

/** Of one activation and form of y. */
typedef struct vlci_act_kernels {
    vlcache_device *device;
    vlci_activation act;
    vlci_form form; /**< of y */
    const vlci_kernel *gated;
} vlci_act_kernels;

/** Opens one kind of activation, y in floats. Errors: those of vlci_kernel_get(). */
vlcache_status vlci_act_open(vlcache_device *device, vlci_activation act, vlci_act_kernels *out);

/** The same, y in a form of `dtype`, 16 bits. */
vlcache_status vlci_act_open_form(vlcache_device *device, vlci_activation act, vlci_form form,
                                  vlcache_dtype dtype, vlci_act_kernels *out);

/** Enqueues y[r][i] = act(x[r][i]) * x[r][n + i]; x [rows][2n], y [rows][n]. Errors: the device's. */
vlcache_status vlci_act_run(const vlci_act_kernels *kernels, cl_mem x, cl_mem y, int rows, int n);

#endif
