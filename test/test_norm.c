/*
 * test_norm.c - norms against their definitions in double: 1 and 64 work-items a row, odd sizes, in place,
 * rows that begin further on in their buffer, and the heads of fused rows.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/norm.h"
#include "ref/ref_norm.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 11;

static vlci_norm_kernels kernels;

enum { IN_PLACE = -1 };

/* `rows` rows of n numbers around `offset`, from element x_offset of their buffer on; or in place. */
static void norm_rows(int rows, int n, bool layer, float scale, float offset, float eps, int x_offset) {
    size_t count = (size_t)rows * (size_t)n;
    bool in_place = x_offset == IN_PLACE;
    size_t skip = in_place ? 0 : (size_t)x_offset;
    float *x = floats_random(&seed, count, scale, offset), *weight = floats_random(&seed, (size_t)n, 1, 1);
    float *bias = floats_random(&seed, (size_t)n, 1, 0);
    double *want = malloc(count * sizeof *want);
    for (int r = 0; r < rows; r++)
        if (layer)
            ref_layer_norm(x + r * n, weight, bias, want + r * n, n, (double)eps);
        else
            ref_rms_norm(x + r * n, weight, want + r * n, n, (double)eps);
    vlci_norm norm = {.weight = floats_upload(weight, (size_t)n),
                      .bias = layer ? floats_upload(bias, (size_t)n) : NULL};
    cl_mem in = floats_poisoned(skip + count), out = in_place ? in : floats_poisoned(count);
    ck_ok(vlci_write(suite_device(), in, skip * sizeof *x, x, count * sizeof *x));
    ck_ok(vlci_norm_run(&kernels, in, skip, &norm, out, rows, n, eps));
    float *got = floats_take(out, count);
    /* What an offset loses: its own rounding, relative to the spread. */
    double lost = layer && scale > 0 ? 3e-7 * fabs((double)offset) / (double)scale : 0;
    suite_close(layer ? "layer_norm" : "rms_norm", got, want, count, 3e-6 + 4 * lost, 1e-5);
    if (!in_place) suite_release(in);
    suite_release(norm.weight);
    suite_release(norm.bias);
    free(x);
    free(weight);
    free(bias);
    free(want);
    free(got);
}

static const char *const norm_rungs[] = {"norm:1", "norm:64"};

START_TEST(norms) {
    static const int sizes[] = {1, 3, 63, 64, 65, 200, 257, 1024};
    int n_sizes = suite_reduced() ? 5 : 8;
    suite_force(norm_rungs[_i]);
    ck_ok(vlci_norm_open(suite_device(), &kernels));
    ck_assert_uint_le(kernels.rms_lanes, kernels.rms->max_group);
    ck_assert(kernels.rms_lanes == (_i ? 64 : 1) || 2 * kernels.rms_lanes > kernels.rms->max_group);
    suite_force(NULL); /* what is open stays as it was opened */
    for (int i = 0; i < n_sizes; i++)
        for (int layer = 0; layer < 2; layer++) {
            norm_rows(3, sizes[i], layer, 1, 0, 1e-5f, 0);
            norm_rows(1, sizes[i], layer, 3, 0.5f, 1e-6f, IN_PLACE);
            norm_rows(2, sizes[i], layer, 1, 100, 1e-5f, 1);
            norm_rows(2, sizes[i], layer, 0, 0, 1e-5f, 0); /* all zero: eps saves the division */
            norm_rows(2, sizes[i], layer, 1e-4f, 0, 1e-5f, 3 * sizes[i]);
            norm_rows(2, sizes[i], layer, 1e15f, 0, 1e-5f, IN_PLACE);
        }
    static const int many[] = {4,    200,  516,
                               1024, 1152, 2052}; /* each width of those that stay in registers */
    for (int i = 0; i < (suite_reduced() ? 2 : 6); i++)
        for (int layer = 0; layer < 2; layer++)
            norm_rows(256 + i, many[i], layer, 1, 3, 1e-5f, i % 2 ? IN_PLACE : 4);
}
END_TEST

/* Heads of q and k are normed by weights of their own, those of v stay. */
static void norm_heads(int rows, int heads, int kv_heads, int n) {
    int width = (heads + 2 * kv_heads) * n;
    size_t count = (size_t)(rows * width);
    float *x = floats_random(&seed, count, 2, 0.25f);
    float *weight[] = {floats_random(&seed, (size_t)n, 1, 1), floats_random(&seed, (size_t)n, 1, 1)};
    double *want = malloc(count * sizeof *want);
    for (int i = 0; i < rows * (heads + 2 * kv_heads); i++) {
        int head = i % (heads + 2 * kv_heads);
        for (int d = 0; d < n; d++) want[i * n + d] = (double)x[i * n + d];
        if (head < heads + kv_heads) ref_rms_norm(x + i * n, weight[head >= heads], want + i * n, n, 1e-6);
    }
    vlci_norm q = {.weight = floats_upload(weight[0], (size_t)n)},
              k = {.weight = floats_upload(weight[1], (size_t)n)};
    cl_mem on = floats_upload(x, count);
    ck_ok(vlci_head_norm_run(&kernels, on, &q, &k, rows, heads, kv_heads, n, 1e-6f));
    float *got = floats_take(on, count);
    suite_close("head_norm", got, want, count, 3e-6, 1e-5);
    suite_release(q.weight);
    suite_release(k.weight);
    free(x);
    free(weight[0]);
    free(weight[1]);
    free(want);
    free(got);
}

START_TEST(heads) {
    static const int shapes[][4] = {{1, 2, 1, 64}, {3, 4, 4, 2}, {5, 6, 2, 80}, {2, 1, 1, 256}};
    suite_force(norm_rungs[_i]);
    ck_ok(vlci_norm_open(suite_device(), &kernels));
    suite_force(NULL);
    for (int i = 0; i < 4; i++) norm_heads(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
}
END_TEST

/* What is normed is added to rows that begin further on in their buffer; what lies around them stays. */
static void add_rows(int rows, int n, int x_offset, float scale) {
    size_t count = (size_t)rows * (size_t)n, all = (size_t)x_offset + count + 5;
    float *y = floats_random(&seed, count, scale, 0.25f), *x = floats_random(&seed, all, 2, 0);
    float *weight = floats_random(&seed, (size_t)n, 1, 1);
    double *want = malloc(all * sizeof *want), *normed = malloc((size_t)n * sizeof *normed);
    for (size_t i = 0; i < all; i++) want[i] = (double)x[i];
    for (int r = 0; r < rows; r++) {
        ref_rms_norm(y + r * n, weight, normed, n, 1e-6);
        for (int i = 0; i < n; i++) want[x_offset + r * n + i] += normed[i];
    }
    vlci_norm norm = {.weight = floats_upload(weight, (size_t)n)};
    cl_mem from = floats_upload(y, count), to = floats_upload(x, all);
    ck_ok(vlci_norm_add_run(&kernels, from, &norm, to, (size_t)x_offset, rows, n, 1e-6f));
    float *got = floats_take(to, all);
    suite_close("rms_add", got, want, all, 4e-6, 1e-5);
    suite_release(from);
    suite_release(norm.weight);
    free(y);
    free(x);
    free(weight);
    free(want);
    free(normed);
    free(got);
}

START_TEST(sums) {
    static const int shapes[][3] = {{1, 1, 0}, {3, 64, 7}, {5, 257, 0}, {2, 63, 64}};
    suite_force(norm_rungs[_i]);
    ck_ok(vlci_norm_open(suite_device(), &kernels));
    suite_force(NULL);
    for (int i = 0; i < 4; i++) add_rows(shapes[i][0], shapes[i][1], shapes[i][2], i == 3 ? 0 : 2);
}
END_TEST

START_TEST(offsets_beyond_32_bits_are_refused) {
    vlci_norm norm = {0};
    ck_ok(vlci_norm_open(suite_device(), &kernels));
    ck_fails(vlci_norm_run(&kernels, NULL, (size_t)1 << 32, &norm, NULL, 1, 8, 1e-5f), VLCACHE_E_UNSUPPORTED,
             "4294967296");
    ck_fails(vlci_norm_add_run(&kernels, NULL, &norm, NULL, (size_t)1 << 32, 1, 8, 1e-5f),
             VLCACHE_E_UNSUPPORTED, "4294967296");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("norm");
    TCase *c = tcase_create("norm");
    tcase_add_loop_test(c, norms, 0, sizeof norm_rungs / sizeof *norm_rungs);
    tcase_add_loop_test(c, heads, 0, sizeof norm_rungs / sizeof *norm_rungs);
    tcase_add_loop_test(c, sums, 0, sizeof norm_rungs / sizeof *norm_rungs);
    tcase_add_test(c, offsets_beyond_32_bits_are_refused);
    suite_balance(c);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
