/*
 * ref_norm.c - norms as their definitions read.
 */
#include "ref/ref_norm.h"

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
