/**
 * sample.h (internal) - the next token from logits, on the device.
 */
#ifndef VLCI_COMPUTE_SAMPLE_H
#define VLCI_COMPUTE_SAMPLE_H

#include "cl/shared.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_sample_ladder;

/** How to draw. */
typedef struct vlci_sampling {
    float temperature; /**< 0: the largest is taken */
    int top_k;         /**< the k largest only; 0: all */
    float top_p;       /**< the fewest largest whose probability reaches p; 1: all */
} vlci_sampling;

typedef struct vlci_sample_kernels {
    vlcache_device *device;
    const vlci_kernel *argmax, *sample, *cap;
    size_t argmax_lanes, sample_lanes; /**< work-items a row */
} vlci_sample_kernels;

/** Errors: those of vlci_rung() and vlci_kernel_get(). */
vlcache_status vlci_sample_open(vlcache_device *device, vlci_sample_kernels *out);

/** Enqueues x = cap tanh(x / cap), in place, for n logits. Errors: the device's. */
vlcache_status vlci_logits_cap(const vlci_sample_kernels *kernels, cl_mem logits, size_t n, float cap);

/** Enqueues out[r] = the id of the largest of logits[r][n]: ties go to the lowest id, NaN never wins; -1
 * where all are NaN. `out`: int[rows]. Errors: the device's. */
vlcache_status vlci_argmax_run(const vlci_sample_kernels *kernels, cl_mem logits, int rows, int n,
                               cl_mem out);

/** What the kernel needs to know for a row that is chosen so; u in [0, 1) is the draw. Errors:
 * VLCACHE_E_ARGUMENT (temperature below 0, top_k below 0, top_p not in (0, 1]). */
vlcache_status vlci_sample_draw(const vlci_sampling *how, float u, vlci_draw *out);

/**
 * Enqueues out[r] = one id drawn from softmax(logits[r] / temperature), cut by top_k, then by top_p of what
 * is left (as transformers), with ties at a cut all kept; each row as draws[r] says (vlci_draw[rows] on the
 * device). The ids that are kept are walked in ascending order. NaN never wins; -1 where all are NaN. Errors:
 * VLCACHE_E_ARGUMENT (n), the device's.
 */
vlcache_status vlci_sample_run(const vlci_sample_kernels *kernels, cl_mem logits, int rows, int n,
                               cl_mem draws, cl_mem out);

#endif
