/**
 * compute.h (internal) - everything that a model computes with, opened once: rungs chosen, programs built or
 * loaded, kernels looked up. After that, every part only runs.
 */
#ifndef VLCI_COMPUTE_COMPUTE_H
#define VLCI_COMPUTE_COMPUTE_H

#include "compute/act.h"
#include "compute/attention.h"
#include "compute/chain_dot.h"
#include "compute/embed.h"
#include "compute/gate.h"
#include "compute/linear.h"
#include "compute/norm.h"
#include "compute/patch.h"
#include "compute/rope.h"
#include "compute/sample.h"

/** Immutable once open: any number of threads may run it. */
typedef struct vlci_compute {
    vlcache_device *device; /**< borrowed */
    vlci_norm_kernels norm;
    vlci_act_kernels gate; /**< of the text model's MLP */
    vlci_patch_kernels patch;
    vlci_sample_kernels sample;
    vlci_gate_kernels sums; /**< of cross-attention; opened where a model has it */
    /* what depends on the weights, opened while and after they are loaded */
    vlci_linear linear;
    struct {
        vlci_norm_kernels norm;
        vlci_act_kernels gate;
    } short_rows[4]; /**< of dtypes whose products read 16 bits, by vlcache_dtype */
    vlci_embed_kernels embed;
    vlci_rope_kernels rope;
    vlci_attention_kernels attention; /**< of the text model */
    vlci_chain *chain;                /**< of its layers; NULL: a launch for each product */
    vlci_chain_dot *chain_dot;        /**< of its layers, for one row; NULL: the same */
} vlci_compute;

/**
 * Opens what depends on no weights. The device's progress callback sees what is compiled, and may cancel it.
 * Errors: those of vlci_rung() and vlci_kernel_get(); nothing is left open.
 */
vlcache_status vlci_compute_open(vlcache_device *device, vlci_activation gate, vlci_compute *out);

/** Opens products with weights of one more dtype, and what brings rows into the form that they read. Errors:
 * those of vlci_linear_open(). */
vlcache_status vlci_compute_open_dtype(vlci_compute *compute, vlcache_dtype dtype);

/** Zeroes it; all zero: nothing to do. */
void vlci_compute_close(vlci_compute *compute);

#endif
