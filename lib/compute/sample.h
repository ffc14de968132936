/**
 * sample.h (internal) - the next token from logits, on the device.
 */
#ifndef VLCI_COMPUTE_SAMPLE_H
#define VLCI_COMPUTE_SAMPLE_H

#include "device/ladder.h"

extern const vlci_ladder vlci_sample_ladder;

/** out[r] = the id of the largest of logits[r][n]: ties go to the lowest id, NaN never wins. `out`:
 * int[rows]. */
vlcache_status vlci_argmax(vlcache_device *device, cl_mem logits, int rows, int n, cl_mem out);

/** How to draw. */
typedef struct vlci_sampling {
    float temperature; /**< above 0 */
    int top_k;         /**< the k largest only; 0: all */
    float top_p;       /**< the fewest largest whose probability reaches p; 1: all */
} vlci_sampling;

/**
 * out[r] = one id drawn from softmax(logits[r] / temperature), cut by top_k, then by top_p of what is left
 * (as transformers), with ties at a cut all kept. u[r] in [0, 1) is the draw, f32 on the device; the ids that
 * are kept are walked in ascending order. NaN never wins.
 */
vlcache_status vlci_sample(vlcache_device *device, cl_mem logits, int rows, int n, const vlci_sampling *how,
                           cl_mem u, cl_mem out);

#endif
