/*
 * test_sample.c - argmax and sampling against a sorting oracle: ties, NaN, infinities, all equal, every cut,
 * draws at both ends; a draw must fall into the oracle's interval of its id.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_sample.h"
#include "sample.h"
#include "support/suite.h"

enum { ROWS = 6, MOST = 32000 };
static const int widths[] = {1, 2, 17, 64, 257, 1000, MOST};
static uint64_t seed = 7;
static float logits[ROWS * MOST];

/* Row 0 plain, 1 with ties, 2 all equal, 3 with NaN and infinities below, 4 extreme, 5 near-zero signs. */
static void fill(int n) {
    for (int i = 0; i < n; i++) {
        float x = suite_random(&seed);
        logits[i] = 8 * x;
        logits[n + i] = floorf(3 * x);
        logits[2 * n + i] = -1.5f;
        logits[3 * n + i] = i % 3 == 0 ? NAN : i % 3 == 1 ? 5 * x : -INFINITY;
        logits[4 * n + i] = x > 0.9f ? 3e38f * x : -3e38f * fabsf(x);
        logits[5 * n + i] = i % 2 ? 0.0f : -0.0f;
    }
}

START_TEST(argmax_takes_the_first_of_the_largest) {
    int n = widths[_i], got[ROWS];
    fill(n);
    cl_mem x = suite_upload(logits, sizeof *logits * (size_t)(ROWS * n)), out = suite_poison(sizeof got);
    ck_ok(vlci_argmax(suite_device(), x, ROWS, n, out));
    suite_download(out, got, sizeof got);
    for (int r = 0; r < ROWS; r++) ck_assert_int_eq(got[r], ref_argmax(logits + r * n, n));
    suite_release(x);
    suite_release(out);
}
END_TEST

START_TEST(argmax_of_nothing_but_nan_or_minus_infinity) {
    float x[] = {NAN, NAN, NAN, NAN, -INFINITY, -INFINITY};
    int got[2];
    cl_mem in = suite_upload(x, sizeof x), out = suite_poison(sizeof got);
    ck_ok(vlci_argmax(suite_device(), in, 2, 3, out));
    suite_download(out, got, sizeof got);
    ck_assert_int_eq(got[0], 0);
    ck_assert_int_eq(got[1], 1);
    suite_release(in);
    suite_release(out);
}
END_TEST

/* The id has a probability, and u lies in its interval of the cumulative distribution. */
static void check_draw(const float *x, int n, const vlci_sampling *how, float u, int id, double *prob) {
    double low = 0;
    ck_assert_int_ge(id, 0);
    ck_assert_int_lt(id, n);
    ref_probabilities(x, n, (double)how->temperature, how->top_k, (double)how->top_p, prob);
    ck_assert_msg(prob[id] > 0, "id %d of %d was cut (top_k %d top_p %g)", id, n, how->top_k,
                  (double)how->top_p);
    for (int i = 0; i < id; i++) low += prob[i];
    ck_assert_msg((double)u > low - 2e-4 && (double)u < low + prob[id] + 2e-4,
                  "n %d, T %g, top_k %d, top_p %g: u %g drew %d (%g), whose interval is %g..%g", n,
                  (double)how->temperature, how->top_k, (double)how->top_p, (double)u, id, (double)x[id], low,
                  low + prob[id]);
}

static void draw(int n, vlci_sampling how) {
    float u[ROWS] = {0.0f, 0.99999994f, 0.5f, 0.25f, 0.75f, 0.1f};
    int got[ROWS];
    double *prob = malloc(sizeof *prob * (size_t)n);
    cl_mem x = suite_upload(logits, sizeof *logits * (size_t)(ROWS * n)), out = suite_poison(sizeof got);
    for (int turn = 0; turn < 3; turn++) {
        cl_mem draws = suite_upload(u, sizeof u);
        ck_ok(vlci_sample(suite_device(), x, ROWS, n, &how, draws, out));
        suite_download(out, got, sizeof got);
        for (int r = 0; r < ROWS; r++)
            if (n > 1 || r != 3) check_draw(logits + r * n, n, &how, u[r], got[r], prob);
        for (int r = 0; r < ROWS; r++) u[r] = fminf(0.5f + 0.5f * suite_random(&seed), 0.99999994f);
        suite_release(draws);
    }
    suite_release(x);
    suite_release(out);
    free(prob);
}

START_TEST(draws_follow_the_distribution) {
    static const vlci_sampling ways[] = {{1.0f, 0, 1.0f}, {0.2f, 5, 1.0f},    {1.5f, 0, 0.905f},
                                         {1.0f, 1, 0.5f}, {0.7f, 50, 0.807f}, {1.0f, 0, 1e-6f}};
    int n = widths[_i];
    fill(n);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) draw(n, ways[i]);
}
END_TEST

START_TEST(refuses_impossible_options) {
    static const vlci_sampling ways[] = {{0, 0, 1}, {1, -1, 1}, {1, 0, 0}, {1, 0, 1.5f}, {NAN, 0, 1}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        ck_fails(vlci_sample(suite_device(), NULL, 1, 1, &ways[i], NULL, NULL), VLCACHE_E_ARGUMENT, "top_p");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample");
    TCase *c = tcase_create("sample");
    int n = sizeof widths / sizeof *widths;
    tcase_add_loop_test(c, argmax_takes_the_first_of_the_largest, 0, n);
    tcase_add_test(c, argmax_of_nothing_but_nan_or_minus_infinity);
    tcase_add_loop_test(c, draws_follow_the_distribution, 0, n);
    tcase_add_test(c, refuses_impossible_options);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
