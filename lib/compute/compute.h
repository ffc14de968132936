/**
 * compute.h (internal) - everything that a model computes with, opened once: rungs chosen, programs built or
 * loaded, kernels looked up. After that, every part only runs.
 */
#ifndef VLCI_COMPUTE_COMPUTE_H
#define VLCI_COMPUTE_COMPUTE_H

#include "compute/act.h"
#include "compute/embed.h"
#include "compute/linear.h"
#include "compute/norm.h"
#include "compute/patch.h"
#include "compute/rope.h"
#include "compute/sample.h"

/** Immutable once open: any number of threads may run it. */
typedef struct vlci_compute {
    vlci_linear linear;
    vlci_norm_kernels norm;
    vlci_act_kernels gate; /**< of the text model's MLP */
    vlci_embed_kernels embed;
    vlci_patch_kernels patch;
    vlci_rope_kernels rope;
    vlci_sample_kernels sample;
} vlci_compute;

/** What a model's computation depends on. */
typedef struct vlci_compute_options {
    vlcache_dtype dtypes[3]; /**< of matrices; VLCACHE_DTYPE_AUTO ends them */
    vlcache_dtype embedding; /**< of the embedding, one of them */
    vlci_activation gate;
} vlci_compute_options;

/**
 * Opens all of it. The device's progress callback sees what is compiled, and may cancel it. Errors: those of
 * vlci_linear_open(), vlci_rung() and vlci_kernel_get(); nothing is left open.
 */
vlcache_status vlci_compute_open(vlcache_device *device, const vlci_compute_options *options,
                                 vlci_compute *out);

/** Zeroes it; all zero: nothing to do. */
void vlci_compute_close(vlci_compute *compute);

#endif
