/**
 * ref_rope.h - the rotation of a head as its definition reads, in double.
 */
#ifndef REF_ROPE_H
#define REF_ROPE_H

/**
 * One head, rotated to a position: three numbers, of which frequency d takes number axis[d]. The angle is the
 * product rounded to f32, as in the models' own code; its sine and cosine are exact.
 */
void ref_rotate(const float *x, const float *inv_freq, const int *axis, const int position[3], double *y,
                int head_dim);

#endif
