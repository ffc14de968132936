/*
 * ref_rope.c - rotation as its definition reads.
 */
#include "ref/ref_rope.h"

#include <math.h>

void ref_rotate(const float *x, const float *inv_freq, const int *axis, const int position[3], double *y,
                int head_dim) {
    int half = head_dim / 2;
    for (int d = 0; d < half; d++) {
        volatile float product = (float)position[axis[d]] * inv_freq[d];
        double c = cos((double)product), s = sin((double)product);
        y[d] = (double)x[d] * c - (double)x[d + half] * s;
        y[d + half] = (double)x[d + half] * c + (double)x[d] * s;
    }
}
