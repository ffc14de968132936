/**
 * norm.h (internal) - RMSNorm and LayerNorm over rows.
 */
#ifndef VLCI_COMPUTE_NORM_H
#define VLCI_COMPUTE_NORM_H

#include "compute/form.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_norm_ladder;

enum { VLCI_NORM_WIDTHS = 3 }; /* lanes of a row, each twice those before */

/** The weights of a norm. */
typedef struct vlci_norm {
    cl_mem weight, bias; /**< f32; bias NULL for RMSNorm */
} vlci_norm;

/** Of one form of y. */
typedef struct vlci_norm_kernels {
    vlcache_device *device;
    const vlci_kernel *rms, *layer;
    size_t rms_lanes, layer_lanes; /**< work-items a row */
    struct {
        const vlci_kernel *rms, *layer;
        size_t lanes;
    } held[VLCI_NORM_WIDTHS];      /**< for rows that stay in registers, the fewest lanes first; none with one
                                      work-item a row: lanes 0 */
    vlci_form form;                /**< of y */
    const vlci_kernel *head, *add; /**< NULL where y is no floats */
    size_t head_lanes, add_lanes;
} vlci_norm_kernels;

/** y in floats. Errors: those of vlci_rung() and vlci_kernel_get(). */
vlcache_status vlci_norm_open(vlcache_device *device, vlci_norm_kernels *out);

/** y in a form of `dtype`, 16 bits. Errors: the same. */
vlcache_status vlci_norm_open_form(vlcache_device *device, vlci_form form, vlcache_dtype dtype,
                                   vlci_norm_kernels *out);

/** Enqueues y = RMSNorm(x), or LayerNorm(x) where the norm has a bias; [rows][n], x from element x_offset on.
 * y may be x where that is 0 and y is floats. Errors: VLCACHE_E_UNSUPPORTED (an offset beyond 32 bits), the
 * device's. */
vlcache_status vlci_norm_run(const vlci_norm_kernels *kernels, cl_mem x, size_t x_offset,
                             const vlci_norm *norm, cl_mem y, int rows, int n, float eps);

/** Enqueues x += RMSNorm(y); [rows][n], x from element x_offset on. Errors: those of vlci_norm_run(). */
vlcache_status vlci_norm_add_run(const vlci_norm_kernels *kernels, cl_mem y, const vlci_norm *norm, cl_mem x,
                                 size_t x_offset, int rows, int n, float eps);

/** Enqueues RMSNorm of each head of q and of k, in place in qkv [rows][(heads + 2 kv_heads) * head_dim];
 * q_norm and k_norm [head_dim]. Errors: the device's. */
vlcache_status vlci_head_norm_run(const vlci_norm_kernels *kernels, cl_mem qkv, const vlci_norm *q_norm,
                                  const vlci_norm *k_norm, int rows, int heads, int kv_heads, int head_dim,
                                  float eps);

#endif
