/*
 * floats.c - arrays of floats on the host and on the device.
 */
#include "support/floats.h"

#include <stdlib.h>
#include <string.h>

float *floats_random(uint64_t *seed, size_t n, float scale, float offset) {
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) x[i] = scale * suite_random(seed) + offset;
    return x;
}

cl_mem floats_poisoned(size_t n) {
    return suite_poison(n * sizeof(float));
}

cl_mem floats_upload(const float *x, size_t n) {
    return suite_upload(x, n * sizeof *x);
}

float *floats_take(cl_mem memory, size_t n) {
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    suite_download(memory, x, n * sizeof *x);
    suite_release(memory);
    return x;
}

void floats_same(const char *what, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(memcmp(got + i, want + i, sizeof *got) == 0, "%s[%zu]: %.9g, expected %.9g", what, i,
                      (double)got[i], (double)want[i]);
}
