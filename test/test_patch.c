/*
 * test_patch.c - patches of pictures, and the rows that enter the tower, against their definitions.
 */
#include <check.h>
#include <stdlib.h>

#include "compute/patch.h"
#include "ref/ref_patch.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 11;

static const vlci_patch_kernels *kernels(void) {
    static vlci_patch_kernels open;
    if (!open.device) ck_ok(vlci_patch_open(suite_device(), &open));
    return &open;
}

START_TEST(patches) {
    static const struct {
        int tiles, side, patch;
    } cases[] = {{1, 1, 1}, {1, 4, 2}, {3, 6, 3}, {2, 15, 4}, {2, 8, 8}, {2, 42, 14}};
    for (int i = 0; i < (suite_reduced() ? 4 : 6); i++) {
        int tiles = cases[i].tiles, side = cases[i].side, patch = cases[i].patch, grid = side / patch;
        size_t n = (size_t)(tiles * 3 * side * side), m = (size_t)(tiles * grid * grid * 3 * patch * patch);
        float *pixels = floats_random(&seed, n, 1, 0), *want = malloc(m * sizeof *want);
        ref_patchify(pixels, want, tiles, side, patch);
        cl_mem in = floats_upload(pixels, n), out = floats_poisoned(m);
        ck_ok(vlci_patch_split(kernels(), in, out, tiles, side, patch));
        float *got = floats_take(out, m);
        floats_same("patchify", got, want, m);
        suite_release(in);
        free(pixels);
        free(want);
        free(got);
    }
}
END_TEST

START_TEST(assembled_rows) {
    static const int cases[][4] = {{1, 1, 1, 1}, {2, 4, 7, 1}, {3, 9, 64, 1}, {1, 1, 1, 0}, {3, 4, 7, 0}};
    for (int i = 0; i < 5; i++) {
        int tiles = cases[i][0], per_tile = cases[i][1], hidden = cases[i][2], front = cases[i][3];
        size_t n = (size_t)(tiles * per_tile * hidden), m = (size_t)(tiles * (per_tile + front) * hidden);
        float *rows_in = floats_random(&seed, n, 1, 0),
              *class_row = floats_random(&seed, (size_t)hidden, 1, 3), *want = malloc(m * 4);
        float *position = floats_random(&seed, (size_t)((per_tile + 1) * hidden), 1, 0), *at = want;
        for (int tile = 0; tile < tiles; tile++)
            for (int row = 0; row < per_tile + front; row++)
                for (int d = 0; d < hidden; d++)
                    *at++ =
                        position[row * hidden + d] +
                        (row >= front ? rows_in[(tile * per_tile + row - front) * hidden + d] : class_row[d]);
        cl_mem in = floats_upload(rows_in, n), on_class = floats_upload(class_row, (size_t)hidden),
               out = floats_poisoned(m);
        cl_mem on_position = floats_upload(position, (size_t)((per_tile + 1) * hidden));
        ck_ok(vlci_patch_assemble(kernels(), in, front ? on_class : NULL, on_position, out, tiles, per_tile,
                                  hidden));
        float *got = floats_take(out, m);
        floats_same("assemble", got, want, m);
        suite_release(in);
        suite_release(on_class);
        suite_release(on_position);
        free(rows_in);
        free(class_row);
        free(position);
        free(want);
        free(got);
    }
}
END_TEST

START_TEST(nothing_leaks) {
    ck_assert_uint_eq(vlci_memory_now(suite_device()), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("patch");
    TCase *c = tcase_create("patch");
    tcase_add_test(c, patches);
    tcase_add_test(c, assembled_rows);
    tcase_add_test(c, nothing_leaks);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
