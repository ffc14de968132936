/**
 * ref_quants.h - rows in few bits a number brought back as their definition reads, in double, as an oracle.
 */
#ifndef TEST_REF_QUANTS_H
#define TEST_REF_QUANTS_H

#include "kv/quants.h"

/** Quants on the host. */
typedef struct ref_quants {
    const vlci_quants *quants;
    uint32_t *words[2]; /**< keys, values */
    uint16_t *scale[2], *bias;
} ref_quants;

/** A number: value = zero + scale * code. */
typedef struct ref_quant {
    int code;
    double zero, scale;
} ref_quant;

/** Reads quants; earlier turns' are left out. */
ref_quants ref_quants_read(const vlci_quants *quants);

/** Number d of the key (which 0) or value (1) of row `row` of head `head` of all layers. */
ref_quant ref_quants_number(const ref_quants *q, int which, int head, int row, int d);
double ref_quants_value(const ref_quants *q, int which, int head, int row, int d);

/** 0 where rows have none. */
double ref_quants_bias(const ref_quants *q, int head, int row);

void ref_quants_release(ref_quants *q);

#endif
