/**
 * ref_ops.h - the small kernels between the matrix products as their definitions read, in double.
 */
#ifndef REF_OPS_H
#define REF_OPS_H

/** y = x / sqrt(mean(x^2) + eps) * weight, n numbers. */
void ref_rms_norm(const float *x, const float *weight, double *y, int n, double eps);

/** y = (x - mean) / sqrt(variance + eps) * weight + bias, n numbers. */
void ref_layer_norm(const float *x, const float *weight, const float *bias, double *y, int n, double eps);

/**
 * One head, rotated to a position. The angle is the product rounded to f32, as in the models' own code; its
 * sine and cosine are exact.
 */
void ref_rotate(const float *x, const float *inv_freq, int position, double *y, int head_dim);

/** pixels [tiles][3][side][side] to rows [tiles * (side / patch)^2][3 * patch^2]. */
void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch);

#endif
