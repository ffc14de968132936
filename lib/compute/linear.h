/**
 * linear.h (internal) - y = act(x W^T + bias) (+ y): x [m][k] f32, W [n][k] stored in 16 or 32 bits, y [m][n]
 * f32.
 *
 * Engines: "portable" (tiles in local memory, row-major W), "wide" (float16 vectors, W in panels of 32 rows:
 * element (n, k) at
 * ((n / 32) * K + k) * 32 + n % 32, zero-padded to whole panels), "clblast" (W widened to f32 first). One
 * engine is chosen for a device and dtype by a short measurement, kept beside the kernel binaries; it fixes
 * the layout weights are uploaded in.
 */
#ifndef VLCI_COMPUTE_LINEAR_H
#define VLCI_COMPUTE_LINEAR_H

#include "device/ladder.h"

extern const vlci_ladder vlci_gemm_ladder, vlci_gemm_wide_ladder, vlci_gemv_ladder;
#include "compute/act.h"

typedef enum vlci_layout { VLCI_ROWS, VLCI_PANELS } vlci_layout;
enum { VLCI_PANEL = 32 };

/** A matrix on the device, [n][k], with its bias (f32 [n]) or NULL. */
typedef struct vlci_matrix {
    cl_mem data, bias;
    int n, k;
    vlcache_dtype dtype;
    vlci_layout layout;
} vlci_matrix;

enum { VLCI_GEMM_ENGINES = 3 };

/**
 * Measures the engines for weights of `dtype` on this device (or reads the cached measurement) and returns
 * the winner's layout; VLCACHE_GEMM=portable|wide|clblast forces one. `engines` (VLCI_GEMM_ENGINES of them,
 * in the order portable, wide, clblast) may be NULL.
 */
vlcache_status vlci_gemm_plan(vlcache_device *device, vlcache_dtype dtype, vlci_layout *layout,
                              vlcache_gemm_engine *engines);

/** Bytes of a matrix [n][k] in a layout. */
size_t vlci_matrix_bytes(int n, int k, vlcache_dtype dtype, vlci_layout layout);

/**
 * Enqueues y = act(x W^T + bias), or y += ... with `accumulate`. x rows start at element x_offset, y
 * likewise. m small (up to 8) takes the matrix-vector kernels, which read W once for all rows.
 */
vlcache_status vlci_gemm(vlcache_device *device, const vlci_matrix *w, cl_mem x, size_t x_offset, cl_mem y,
                         size_t y_offset, int m, vlci_activation act, bool accumulate);

#endif
