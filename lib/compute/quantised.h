/**
 * quantised.h (internal) - attention over quantised rows, behind that over the rows in pages.
 *
 * VLCACHE_VARIANT=attention_quantised:RUNG forces a rung of few.h.
 */
#ifndef VLCI_COMPUTE_QUANTISED_H
#define VLCI_COMPUTE_QUANTISED_H

#include "compute/few.h"
#include "kv/quants.h"

extern const vlci_ladder vlci_quantised_ladder;

enum { VLCI_QUANT_WIDTHS = 4 }; /* 2, 3, 4 and 8 bits */

typedef struct vlci_quantised_kernels {
    vlci_few few;
    const vlci_kernel *attend[VLCI_QUANT_WIDTHS][VLCI_QUANT_WIDTHS], *merge; /**< by the bits of keys, values;
        NULL: not opened */
} vlci_quantised_kernels;

/** Chooses the rung and builds its kernels for numbers of these bits, in any groups; those that were opened
 * for others, of the same device and shape, stay. Errors: those of vlci_few_open(),
 * VLCACHE_E_BUILD. */
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
