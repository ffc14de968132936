/*
 * ref_ops.c - norms, rotation and patches as their definitions read.
 */
#include "ref/ref_ops.h"

#include <math.h>

void ref_rms_norm(const float *x, const float *weight, double *y, int n, double eps) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    for (int i = 0; i < n; i++) y[i] = (double)x[i] / sqrt(squares / n + eps) * (double)weight[i];
}

void ref_layer_norm(const float *x, const float *weight, const float *bias, double *y, int n, double eps) {
    double mean = 0, variance = 0;
    for (int i = 0; i < n; i++) mean += (double)x[i] / n;
    for (int i = 0; i < n; i++) variance += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    for (int i = 0; i < n; i++)
        y[i] = ((double)x[i] - mean) / sqrt(variance + eps) * (double)weight[i] + (double)bias[i];
}

void ref_rotate(const float *x, const float *inv_freq, int position, double *y, int head_dim) {
    int half = head_dim / 2;
    for (int d = 0; d < half; d++) {
        volatile float product = (float)position * inv_freq[d];
        double c = cos((double)product), s = sin((double)product);
        y[d] = (double)x[d] * c - (double)x[d + half] * s;
        y[d + half] = (double)x[d + half] * c + (double)x[d] * s;
    }
}

void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch) {
    for (int tile = 0; tile < tiles; tile++)
        for (int top = 0; top + patch <= side; top += patch)
            for (int left = 0; left + patch <= side; left += patch)
                for (int channel = 0; channel < 3; channel++)
                    for (int y = top; y < top + patch; y++)
                        for (int x = left; x < left + patch; x++)
                            *rows++ = pixels[((tile * 3 + channel) * side + y) * side + x];
}
