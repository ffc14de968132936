/**
 * gemm.h (internal) - products with many rows of x, by one of four engines: "portable" (tiles in local
 * memory, W in rows), "wide" (float16 vectors, W in panels; or products of pairs of bf16, W in rows),
 * "clblast" (W in rows, widened to f32 first), "matrix" (matrix units, W in blocks or pairs).
 */
#ifndef VLCI_COMPUTE_GEMM_H
#define VLCI_COMPUTE_GEMM_H

#include "compute/gemm_matrix.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_gemm_ladder, vlci_gemm_wide_ladder;

typedef enum vlci_gemm_engine {
    VLCI_GEMM_PORTABLE,
    VLCI_GEMM_WIDE,
    VLCI_GEMM_CLBLAST,
    VLCI_GEMM_MATRIX
} vlci_gemm_engine;
enum { VLCI_GEMM_ENGINES = 4 };
extern const char *const vlci_gemm_engine_names[VLCI_GEMM_ENGINES];

/** Whether an engine is worth asking on a device; one that is not may be forced all the same. */
bool vlci_gemm_fits(const vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype);

/** A way to multiply in tiles of side x side outputs: work-groups of group x group items, or of gemm_large
 * where group is 0; side 0: an item an output. */
typedef struct vlci_gemm_tile {
    const vlci_kernel
        *kernel[2][2]; /**< [aligned][with activations]; the same one where it makes no difference */
    size_t group, side;
} vlci_gemm_tile;

/** What an engine needs for weights of one dtype. */
typedef struct vlci_gemm {
    vlcache_device *device;
    vlci_gemm_engine engine;
    vlci_gemm_tile few, many; /**< portable: few tiles, and as many large ones as fill the device */
    const vlci_kernel *wide, *wide_mapped; /**< for panels; for rows of a mapped file, once it is open */
    size_t wide_rows, wide_columns;        /**< outputs of a work-item */
    vlci_dot dot; /**< of wide: then it reads W in rows, mapped or not, by wide_mapped and wide_gated */
    const vlci_kernel *wide_gated;
    const vlci_kernel *widen, *epilogue;
    struct vlci_gemm_scratch *scratch; /**< clblast: widened weights */
    vlci_gemm_matrix *matrix;
} vlci_gemm;

/** Opens an engine. Errors: those of vlci_rung(), vlci_kernel_get() and vlci_memory_create(); nothing is left
 * open. */
vlcache_status vlci_gemm_open(vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype,
                              vlci_gemm *out);

/** Opens what an open engine "wide" reads rows of mapped files with. Errors: those of vlci_kernel_get(). */
vlcache_status vlci_gemm_open_mapped(vlci_gemm *gemm, vlcache_dtype dtype);

/** The layout in which an open engine reads W. */
vlci_layout vlci_gemm_layout(const vlci_gemm *gemm);

/** Enqueues a product; W must lie as the engine reads it; only "matrix" takes x of 16 bits, and, as dot does,
 * gated ones. Errors: the device's.
 */
vlcache_status vlci_gemm_run(const vlci_gemm *gemm, const vlci_product *p);

/** Releases what an engine holds beside kernels; zeroes it. All zero: nothing to do. */
void vlci_gemm_close(vlci_gemm *gemm);

#endif
