/**
 * linear.h (internal) - y = act(x W^T + bias) (+ y): x [m][k], W [n][k] stored in 16 or 32 bits, y [m][n].
 *
 * Opened for each dtype of weights: one engine is chosen for a device and dtype by a short measurement, kept
 * beside the kernel binaries; it fixes the layout weights are uploaded in, and the form in which it reads x.
 */
#ifndef VLCI_COMPUTE_LINEAR_H
#define VLCI_COMPUTE_LINEAR_H

#include "compute/gemm.h"
#include "compute/gemv.h"
#include "compute/matrix.h"

/** Matrix products of a device; starts all zero, and may be used by several threads once it is open. */
typedef struct vlci_linear {
    struct {
        bool open, mapped; /**< mapped: for weights in mapped files, too */
        vlci_layout layout;
        int few; /**< rows of x up to which gemv takes them */
        vlci_gemm gemm;
        vlci_gemv gemv;
    } of[4]; /**< by vlcache_dtype */
} vlci_linear;

/**
 * Opens products with weights of one more dtype; one that is open stays as it is. Errors: those of
 * vlci_gemm_plan(), vlci_rung(), vlci_kernel_get() and vlci_memory_create().
 */
vlcache_status vlci_linear_open(vlcache_device *device, vlcache_dtype dtype, vlci_linear *linear);

/** Opens, for the dtypes that are open, products whose rows go on into a cache of one dtype. Errors: those of
 * vlci_kernel_get(). */
vlcache_status vlci_linear_open_append(vlci_linear *linear, vlcache_dtype kv_dtype);

/** The layout in which weights of an open dtype must lie. */
vlci_layout vlci_linear_layout(const vlci_linear *linear, vlcache_dtype dtype);

/** Whether weights of an open dtype may also lie in mapped files. */
bool vlci_linear_takes_mapped(const vlci_linear *linear, vlcache_dtype dtype);

/** Opens what reads them there, for an open dtype that takes them; does nothing where it is. Errors: those of
 * vlci_kernel_get(). */
vlcache_status vlci_linear_open_mapped(vlci_linear *linear, vlcache_dtype dtype);

/** The form in which a product of m rows with weights of an open dtype reads x; floats it takes at any time.
 */
vlci_form vlci_linear_form(const vlci_linear *linear, vlcache_dtype dtype, int m);

/** What a product of m rows with weights of an open dtype rounds x to; f32: it does not. */
vlcache_dtype vlci_linear_rounds_to(const vlci_linear *linear, vlcache_dtype dtype, int m);

/** What one launch may do beside the product: a norm of x in front of it, being gated, and appending. */
bool vlci_linear_takes_norm(const vlci_linear *linear, const vlci_product *p);
bool vlci_linear_takes_append(const vlci_linear *linear, const vlci_product *p);
bool vlci_linear_takes_gate(const vlci_linear *linear, const vlci_product *p);

/**
 * Enqueues a product. m small (up to `few`) takes the matrix-vector kernels, which read W once
 * for all rows. Errors: VLCACHE_E_ARGUMENT (shape, dtype, layout; a form, a norm, a gate or an append that
 * this product does not take), VLCACHE_E_UNSUPPORTED (strides of a cache), the device's.
 */
vlcache_status vlci_linear_product(const vlci_linear *linear, const vlci_product *p);

/** Enqueues `to` = the product's x, which is floats, in the form of vlci_linear_form(); p->m rows. Errors:
 * the device's. */
vlcache_status vlci_linear_bring(const vlci_linear *linear, const vlci_product *p, cl_mem to);

/** The same with x and y in floats: y = act(x W^T + bias), or y += ... with `accumulate`; x rows start at
 * element x_offset, y likewise. */
vlcache_status vlci_linear_run(const vlci_linear *linear, const vlci_matrix *w, cl_mem x, size_t x_offset,
                               cl_mem y, size_t y_offset, int m, vlci_activation act, bool accumulate);

/** Releases all dtypes; zeroes it. */
void vlci_linear_close(vlci_linear *linear);

#endif
