/**
 * gemv.h (internal) - products with few rows of x, which read W once for all of them.
 */
#ifndef VLCI_COMPUTE_GEMV_H
#define VLCI_COMPUTE_GEMV_H

#include "compute/matrix.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_gemv_ladder;

/** Kernels for 1, 2, 4 .. VLCI_GEMV_ROWS_MAX rows of x. */
enum { VLCI_GEMV_HEIGHTS = 4 };
_Static_assert(VLCI_GEMV_ROWS_MAX == 1 << (VLCI_GEMV_HEIGHTS - 1), "a kernel for each power of two");

/** The kernels for weights of one dtype and layout. */
typedef struct vlci_gemv {
    vlcache_device *device;
    vlci_layout layout;
    vlci_dot dot; /**< in rows or pairs: x is rounded to bf16 */
    struct {
        const vlci_kernel *any,
            *aligned; /**< aligned: k and x_offset are multiples of 8; in rows and blocks */
        const vlci_kernel *gated, *gated_aligned; /**< in blocks; with dot, gated alone; else any is both */
        const vlci_kernel *append;                /**< in rows and blocks, aligned, once it is open */
        const vlci_kernel *mapped; /**< in panels: for rows of a mapped file, once it is open */
        size_t lanes;              /**< of all */
    } height[VLCI_GEMV_HEIGHTS];   /**< by log2 of the rows */
} vlci_gemv;

/** Not in pairs. Errors: those of vlci_rung() and vlci_kernel_get(). */
vlcache_status vlci_gemv_open(vlcache_device *device, vlcache_dtype dtype, vlci_layout layout,
                              vlci_gemv *out);

/** Products of pairs of bf16, for weights of bf16 in rows, mapped or not, or in pairs. Errors: those of
 * vlci_kernel_get(). */
vlcache_status vlci_gemv_open_dot(vlcache_device *device, vlci_dot dot, vlci_layout layout, vlci_gemv *out);

/** Opens products whose rows go on into a cache of one dtype; there are some in rows and blocks, without dot.
 * Errors: those of vlci_kernel_get(). */
vlcache_status vlci_gemv_open_append(vlci_gemv *gemv, vlcache_dtype dtype, vlcache_dtype kv_dtype);

/** Opens what reads rows of mapped files, where the layout is panels. Errors: those of vlci_kernel_get(). */
vlcache_status vlci_gemv_open_mapped(vlci_gemv *gemv, vlcache_dtype dtype);

/** Whether such a product, with `norm`, takes one launch. */
bool vlci_gemv_norms(const vlci_gemv *gemv, const vlci_product *p);

/** Whether such a product, with `append`, is one of these. */
bool vlci_gemv_appends(const vlci_gemv *gemv, const vlci_product *p);

/** Enqueues a product with 1 to VLCI_GEMV_ROWS_MAX rows, in floats; also a gated one where n / 2 is a
 * multiple of VLCI_BLOCK, and with RMSNorm in front where vlci_gemv_norms(); with `append` where
 * vlci_gemv_appends(). Errors: those of vlci_rope_args(), the device's. */
vlcache_status vlci_gemv_run(const vlci_gemv *gemv, const vlci_product *p);

#endif
