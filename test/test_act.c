/*
 * test_act.c - the gated activation, every kind of it, against its definition in double.
 */
#include <check.h>
#include <stdlib.h>

#include "compute/act.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 11;

static void gated(int rows, int n, int act) {
    size_t count = (size_t)rows * (size_t)n;
    float *x = floats_random(&seed, 2 * count, 12, 0);
    static const float hard[] = {0.0f, -0.0f, 100.0f, -100.0f, 1e-20f, -1e-20f, 88.8f, -88.8f};
    for (size_t i = 0; i < 8 && i < (size_t)n; i++) x[i] = hard[i]; /* gates of row 0 */
    double *want = malloc(count * sizeof *want);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++)
            want[r * n + i] = ref_activate((double)x[2 * r * n + i], act) * (double)x[(2 * r + 1) * n + i];
    cl_mem in = floats_upload(x, 2 * count), out = floats_poisoned(count);
    vlci_act_kernels kernels;
    ck_ok(vlci_act_open(suite_device(), (vlci_activation)act, &kernels));
    ck_ok(vlci_act_run(&kernels, in, out, rows, n));
    float *got = floats_take(out, count);
    suite_close("gated_act", got, want, count, 3e-5, 3e-6);
    suite_release(in);
    free(x);
    free(want);
    free(got);
}

START_TEST(gated_activations) {
    static const int sizes[] = {1, 5, 64, 96, 1000};
    for (int i = 0; i < (suite_reduced() ? 3 : 5); i++)
        for (int act = 0; act < 5; act++) gated(i % 2 ? 3 : 1, sizes[i], act);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("act");
    TCase *c = tcase_create("act");
    suite_balance(c);
    tcase_add_test(c, gated_activations);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
