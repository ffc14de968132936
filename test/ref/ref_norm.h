/**
 * ref_norm.h - norms of a row as their definitions read, in double.
 */
#ifndef REF_NORM_H
#define REF_NORM_H

/** y = x / sqrt(mean(x^2) + eps) * weight, n numbers. */
void ref_rms_norm(const float *x, const float *weight, double *y, int n, double eps);

/** y = (x - mean) / sqrt(variance + eps) * weight + bias, n numbers. */
void ref_layer_norm(const float *x, const float *weight, const float *bias, double *y, int n, double eps);

#endif
