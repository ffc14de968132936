/**
 * quantised.h (internal) - attention over quantised rows, behind that over the rows in pages.
 *
 * The ladder; VLCACHE_VARIANT=attention_quantised:RUNG forces a rung:
 *
 *     wide    a work-item for a share of the rows: processors with wide vectors
 *     group   a work-group for a share of the rows: GPUs, and anything else
 */
#ifndef VLCI_COMPUTE_QUANTISED_H
#define VLCI_COMPUTE_QUANTISED_H

#include "compute/attention.h"
#include "kv/quants.h"

extern const vlci_ladder vlci_quantised_ladder;

enum { VLCI_QUANT_WIDTHS = 4 }; /* 2, 3, 4 and 8 bits */

typedef struct vlci_quantised_kernels {
    vlcache_device *device;
    vlci_attention_shape shape;
    bool wide;
    int lanes; /**< query rows of heads that go together */
    const vlci_kernel *attend[VLCI_QUANT_WIDTHS][VLCI_QUANT_WIDTHS], *merge; /**< by the bits of keys, values;
        NULL: not opened */
} vlci_quantised_kernels;

/** Whether rows of this shape can be quantised. Errors: VLCACHE_E_UNSUPPORTED (head_dim). */
vlcache_status vlci_quantised_check(int head_dim);

/** Chooses the rung and builds its kernels for numbers of these bits, in any groups; those that were opened
 * for others, of the same device and shape, stay. Errors: those of vlci_quantised_check(),
 * VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_quantised_open(vlcache_device *device, const vlci_attention_shape *shape, int key_bits,
                                   int value_bits, vlci_quantised_kernels *out);

/**
 * Enqueues, behind vlci_attention_run() of the same `a`: its rows first .. first + rows - 1, all of one
 * sequence, see `quants` too, those of earlier turns among them. a->out, a->row_max and a->row_lse change,
 * and a->scratch is used behind its counters: none may be NULL. Allocates nothing. Errors: the device's,
 * VLCACHE_E_INTERNAL, VLCACHE_E_UNSUPPORTED (an offset beyond 32 bits).
 */
vlcache_status vlci_quantised_run(const vlci_quants *quants, int layer, const vlci_attention *a, int first,
                                  int rows);

#endif
