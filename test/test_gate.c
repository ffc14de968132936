/*
 * test_gate.c - gated sums, rows of tables and columns side by side, against their definitions in double.
 * What is not to be touched is checked bit by bit, and rows that are not looked at hold NaN.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/gate.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 29;

static const float gates[] = {0.0f, 0.7f, -0.7f, 3.0f, -20.0f, 1e-20f};
enum { GATES = sizeof gates / sizeof *gates };

static vlci_gate_kernels open_gate(void) {
    vlci_gate_kernels kernels;
    ck_ok(vlci_gate_open(suite_device(), &kernels));
    return kernels;
}

/* Rows FIRST .. of x; `sees`: what each row sees, or none. */
static void check_add(int rows, int n, const float *gate, const int *sees, int least) {
    enum { FIRST = 2, BEHIND = 1 };
    size_t all = (size_t)(FIRST + rows + BEHIND) * (size_t)n, some = (size_t)rows * (size_t)n;
    float *x = floats_random(&seed, all, 3, 0), *y = floats_random(&seed, some, 2, 1);
    double *want = malloc(all * sizeof *want), g = gate ? tanh((double)*gate) : 1;
    for (size_t i = 0; i < all; i++) want[i] = (double)x[i];
    for (int r = 0; r < rows; r++) {
        bool added = !sees || sees[FIRST + r] >= least;
        for (int i = 0; i < n; i++) {
            float *from = &y[(size_t)r * (size_t)n + (size_t)i];
            if (added) want[(size_t)(FIRST + r) * (size_t)n + (size_t)i] += g * (double)*from;
            if (!added) *from = NAN;
        }
    }
    const vlci_gate_kernels kernels = open_gate();
    const vlci_gate_rows to = {.x = floats_upload(x, all),
                               .first = FIRST,
                               .rows = rows,
                               .n = n,
                               .gate = gate ? floats_upload(gate, 1) : NULL};
    cl_mem from = floats_upload(y, some),
           seen = sees ? suite_upload(sees, (size_t)(FIRST + rows) * sizeof *sees) : NULL;
    ck_ok(vlci_gate_add(&kernels, &to, from, seen, least));
    float *got = floats_take(to.x, all);
    suite_close("gate_add", got, want, all, 1e-6, 2e-6);
    ck_assert_mem_eq(got, x, FIRST * (size_t)n * sizeof *x);
    ck_assert_mem_eq(got + all - n, x + all - n, (size_t)n * sizeof *x);
    suite_release(from);
    if (to.gate) suite_release(to.gate);
    if (seen) suite_release(seen);
    float *floats[] = {x, y, got};
    for (int i = 0; i < 3; i++) free(floats[i]);
    free(want);
}

START_TEST(sums) {
    static const int sees[] = {2, 2, 0, 1, 2, 0, 2, 1, 1, 0, 2};
    static const int widths[] = {1, 7, 64, 1000};
    for (int i = 0; i < (suite_reduced() ? 2 : 4); i++) {
        check_add(9, widths[i], NULL, NULL, 0);
        for (int g = 0; g < GATES; g++) {
            check_add(9, widths[i], &gates[g], NULL, 0);
            for (int least = 1; least <= 2; least++) check_add(9, widths[i], &gates[g], sees, least);
        }
    }
}
END_TEST

/* Entries from + r / each % turn. */
static void check_table(int rows, int each, int turn, int n, const float *gate, bool rest) {
    enum { FIRST = 1, FROM = 3 };
    size_t all = (size_t)(FIRST + rows) * (size_t)n, entries = (size_t)(FROM + turn) * (size_t)n;
    float *x = floats_random(&seed, all, 3, 0), *table = floats_random(&seed, entries, 2, 0);
    double *want = malloc(all * sizeof *want), g = gate ? tanh((double)*gate) : 1;
    if (rest) g = 1 - g;
    for (size_t i = 0; i < all; i++) {
        int r = (int)(i / (size_t)n) - FIRST;
        size_t entry = (size_t)(FROM + (r < 0 ? 0 : r / each % turn));
        want[i] = (double)x[i] + (r < 0 ? 0 : g * (double)table[entry * (size_t)n + i % (size_t)n]);
    }
    const vlci_gate_kernels kernels = open_gate();
    const vlci_gate_rows to = {.x = floats_upload(x, all),
                               .first = FIRST,
                               .rows = rows,
                               .n = n,
                               .gate = gate ? floats_upload(gate, 1) : NULL};
    const vlci_gate_entries of = {floats_upload(table, entries), FROM, each, turn};
    ck_ok(vlci_gate_table(&kernels, &to, &of, rest));
    float *got = floats_take(to.x, all);
    suite_close("gate_table", got, want, all, 1e-6, 2e-6);
    suite_release(of.table);
    if (to.gate) suite_release(to.gate);
    float *floats[] = {x, table, got};
    for (int i = 0; i < 3; i++) free(floats[i]);
    free(want);
}

START_TEST(tables) {
    for (int g = 0; g < GATES; g++)
        for (int rest = 0; rest < 2; rest++) {
            check_table(20, 1, 5, 48, &gates[g], rest);
            check_table(20, 5, 4, 7, &gates[g], rest);
            check_table(12, 3, 9, 64, &gates[g], rest);
        }
    check_table(20, 5, 4, 7, NULL, false);
}
END_TEST

/* Columns of several sources, with a step and without; the others stay NaN. */
START_TEST(columns) {
    enum { ROWS = 6, N = 5, WIDTH = 17 };
    float *first = floats_random(&seed, ROWS * N, 3, 0), *second = floats_random(&seed, ROWS * N, 3, 0);
    const vlci_gate_kernels kernels = open_gate();
    cl_mem a = floats_upload(first, ROWS * N), b = floats_upload(second, ROWS * N),
           y = floats_poisoned(ROWS * WIDTH);
    ck_ok(vlci_gate_put(&kernels, a, ROWS, N, y, WIDTH, 0, 1));
    ck_ok(vlci_gate_put(&kernels, b, ROWS, N, y, WIDTH, 6, 2));
    float *got = floats_take(y, ROWS * WIDTH);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++) {
            float value = got[r * WIDTH + i];
            if (i < N)
                ck_assert_float_eq(value, first[r * N + i]);
            else if (i >= 6 && i % 2 == 0 && i < 6 + 2 * N)
                ck_assert_float_eq(value, second[r * N + (i - 6) / 2]);
            else
                ck_assert_float_nan(value);
        }
    suite_release(a);
    suite_release(b);
    free(first);
    free(second);
    free(got);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gate");
    TCase *c = tcase_create("gate");
    suite_balance(c);
    tcase_add_test(c, sums);
    tcase_add_test(c, tables);
    tcase_add_test(c, columns);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
