/**
 * ref_codes.h - rows in few bits brought back as their definition reads, in double, as an oracle.
 */
#ifndef TEST_REF_CODES_H
#define TEST_REF_CODES_H

#include "kv/codes.h"

/** Codes on the host. */
typedef struct ref_codes {
    const vlci_codes *codes;
    vlci_code_matrix *matrix;
    float *mean; /**< [matrices][head_dim] */
    int8_t *basis;
    float *factor, *phase, *within;
    int32_t *pattern;
    uint32_t *words, *text;
    uint16_t *scale;
} ref_codes;

/** Reads codes; earlier turns' are left out. */
ref_codes ref_codes_read(const vlci_codes *codes);

/** Bits of dimension i of a matrix; 0 beyond its last. */
int ref_codes_bits(const ref_codes *c, int matrix, int i);

/** Code of dimension i of a visual row, from 0. */
int ref_codes_code(const ref_codes *c, int matrix, int i, int row);

/** Visual row `row` of matrix 2 h (keys, rotated) or 2 h + 1 (values): double[head_dim]. */
void ref_codes_row(const ref_codes *c, int matrix, int row, double *out);

/** The same of a text row. */
void ref_codes_text(const ref_codes *c, int matrix, int row, double *out);

void ref_codes_release(ref_codes *c);

#endif
