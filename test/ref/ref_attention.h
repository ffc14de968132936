/**
 * ref_attention.h - attention as its definition reads, in double, as an oracle.
 */
#ifndef TEST_REF_ATTENTION_H
#define TEST_REF_ATTENTION_H

#include "compute/attention.h"

/** What a kv head of a sequence holds, on the host and as floats: row j's key at k + j * stride. */
typedef struct ref_rows {
    int past; /**< rows before this walk's */
    size_t stride;
    const float *k, *v, *bias; /**< bias: [rows], or NULL */
} ref_rows;

typedef struct ref_inputs {
    const float *q; /**< as the buffer of the vlci_attention has them, from its element 0 on */
    const int32_t *seq_start;
    const ref_rows *head; /**< [batch][kv_heads] */
} ref_inputs;

/** out: [rows][heads * head_dim]; row_max and row_lse: [rows][heads]. */
void ref_attention(const vlci_attention_shape *shape, const vlci_attention *a, const ref_inputs *in,
                   double *out, double *row_max, double *row_lse);

#endif
