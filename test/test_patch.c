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

START_TEST(patches_at_places) {
    static const struct {
        int frames, height, width, patch, step, first;
    } cases[] = {{1, 6, 10, 2, 2, 0}, {3, 4, 4, 4, 2, 1}, {1, 28, 14, 14, 2, 0}, {5, 9, 3, 3, 1, 2}};
    enum { ROWS = 7 };
    for (int i = 0; i < 4; i++) {
        int place[ROWS + 2][3], frames = cases[i].frames, h = cases[i].height, w = cases[i].width;
        int patch = cases[i].patch, step = cases[i].step, first = cases[i].first;
        size_t n = (size_t)(frames * 3 * h * w), m = (size_t)(ROWS * 3 * step * patch * patch);
        for (int r = 0; r < ROWS + 2; r++) {
            place[r][0] = r % ((frames + step - 1) / step);
            place[r][1] = (r * 5 + 1) % (h / patch);
            place[r][2] = (r * 3 + 2) % (w / patch);
        }
        float *pixels = floats_random(&seed, n, 1, 0), *want = malloc(m * sizeof *want);
        ref_patchify_at(pixels, frames, h, w, patch, step, (const int(*)[3])(place + first), ROWS, want);
        cl_mem out = floats_poisoned(m), at = suite_upload(place, sizeof place);
        const vlci_patch_frames in = {floats_upload(pixels, n), frames, h, w, patch, step};
        ck_ok(vlci_patch_at(kernels(), &in, at, first, out, ROWS));
        float *got = floats_take(out, m);
        floats_same("patchify_at", got, want, m);
        suite_release(in.pixels);
        suite_release(at);
        free(pixels);
        free(want);
        free(got);
    }
}
END_TEST

START_TEST(table_of_positions) {
    static const int cases[][4] = {{1, 1, 7, 5}, {4, 6, 3, 8}, {7, 7, 7, 3}, {9, 2, 1, 4}, {2, 31, 5, 2}};
    for (int i = 0; i < 5; i++) { /* rows, columns, side, hidden */
        int rows = cases[i][0], columns = cases[i][1], side = cases[i][2], hidden = cases[i][3];
        size_t n = (size_t)(rows * columns), m = n * (size_t)hidden, entries = (size_t)(side * side * hidden);
        int(*place)[3] = malloc(n * sizeof *place);
        float *table = floats_random(&seed, entries, 1, 0), *x = floats_random(&seed, m, 1, 0);
        double *want = malloc(m * sizeof *want);
        for (size_t r = 0; r < n; r++) {
            int at = (int)((r * 7 + 3) % n); /* in any order */
            place[r][0] = 0, place[r][1] = at / columns, place[r][2] = at % columns;
            for (int k = 0; k < hidden; k++)
                want[r * (size_t)hidden + (size_t)k] =
                    (double)x[r * (size_t)hidden + (size_t)k] +
                    ref_table(table, side, hidden, place[r], rows, columns, k);
        }
        cl_mem to = floats_upload(x, m), from = floats_upload(table, entries),
               at = suite_upload(place, n * sizeof *place);
        ck_ok(vlci_patch_table(kernels(), to, from, side, at, (int)n, rows, columns, hidden));
        float *got = floats_take(to, m);
        suite_close("table", got, want, m, 2e-6, 1e-6);
        suite_release(from);
        suite_release(at);
        free(place);
        free(table);
        free(x);
        free(want);
        free(got);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("patch");
    TCase *c = tcase_create("patch");
    suite_balance(c);
    tcase_add_test(c, patches);
    tcase_add_test(c, assembled_rows);
    tcase_add_test(c, patches_at_places);
    tcase_add_test(c, table_of_positions);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
