/**
 * ref_attention.h - attention as its definition reads, in double, as an oracle.
 */
#ifndef TEST_REF_ATTENTION_H
#define TEST_REF_ATTENTION_H

#include "compute/attention.h"

/** What the buffers of a vlci_attention hold, on the host and as floats. past and bias may be NULL. */
typedef struct ref_inputs {
    const float *q, *k, *v, *bias;
    const int32_t *seq_start, *past;
} ref_inputs;

/** out: [rows][heads * head_dim]; row_max and row_lse: [rows][heads]. */
void ref_attention(const vlci_attention *a, const ref_inputs *in, double *out, double *row_max,
                   double *row_lse);

#endif
