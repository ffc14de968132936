/**
 * ref_sample.h - choosing a token, in double, by sorting.
 */
#ifndef REF_SAMPLE_H
#define REF_SAMPLE_H

/** The lowest id of the largest number; -1 when all are NaN. */
int ref_argmax(const float *x, int n);

/** prob[i] = probability of id i after temperature, top-k and top-p; ties at a cut are all kept. */
void ref_probabilities(const float *x, int n, double temperature, int top_k, double top_p, double *prob);

#endif
