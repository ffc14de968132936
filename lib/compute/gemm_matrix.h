/**
 * gemm_matrix.h (internal) - the engine of matrix products for matrix units, in 16 bits: W in blocks and x in
 * stripes, or W in pairs or panels and x in tiles.
 *
 * Its rungs, VLCACHE_VARIANT=gemm:RUNG:
 *
 *     wgmma   Hopper's, a warpgroup at a time (caps.wgmma)
 *     mma     of NVIDIA's GPUs since sm_80 (caps.mma)
 *     amx     of x86 processors (caps.amx): bf16 in pairs, f16 in panels, which it multiplies as two of bf16;
 *             x in tiles of bf16
 *     pairs   none: the same work in plain OpenCL C, anywhere; what amx is held against
 *     blocks  none: a work-item an output, anywhere; what wgmma and mma are held against
 */
#ifndef VLCI_COMPUTE_GEMM_MATRIX_H
#define VLCI_COMPUTE_GEMM_MATRIX_H

#include "compute/matrix.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_gemm_matrix_ladder;

typedef struct vlci_gemm_matrix vlci_gemm_matrix;

/** Whether it takes weights of `dtype`. */
bool vlci_gemm_matrix_takes(vlcache_dtype dtype);

/** Whether the device has matrix units for weights of `dtype`. */
bool vlci_gemm_matrix_fits(const vlcache_device *device, vlcache_dtype dtype);

/** Errors: VLCACHE_E_UNSUPPORTED (dtype), VLCACHE_E_NO_MEMORY, those of vlci_rung() and
 * vlci_kernel_get_ptx(). */
vlcache_status vlci_gemm_matrix_open(vlcache_device *device, vlcache_dtype dtype, vlci_gemm_matrix **out);

/**
 * Enqueues a product, gated too where n / 2 is a multiple of VLCI_BLOCK. x in floats is brought into
 * its own form first; y is floats, or of that form for what is not added to and gated. A shape that comes for
 * the first time may build its kernel. Errors: the device's, those of vlci_kernel_get_ptx().
 */
vlcache_status vlci_gemm_matrix_run(vlci_gemm_matrix *g, const vlci_product *p);

/** Enqueues `to` = x of a product, floats, in the form that the engine reads. */
vlcache_status vlci_gemm_matrix_bring(const vlci_gemm_matrix *g, const vlci_product *p, cl_mem to);

/** Rows of x from which on it is worth more than gemv_blocks and gemv_dot. */
int vlci_gemm_matrix_least(const vlci_gemm_matrix *g);

/** Whether W in pairs is read by the processor's own unit. */
bool vlci_gemm_matrix_own(const vlci_gemm_matrix *g);

/** The layout in which W must lie. */
vlci_layout vlci_gemm_matrix_layout(const vlci_gemm_matrix *g);

/** NULL accepted. */
void vlci_gemm_matrix_close(vlci_gemm_matrix **g);

#endif
