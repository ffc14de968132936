/*
 * test_sparsity.c - the rows looked at, the entries counted, and exact sums of counts.
 */
#include <stdlib.h>
#include <string.h>

#include "compress/sparsity.h"
#include "support/suite.h"

START_TEST(test_tau) {
    bool fallback = true;
    ck_assert_int_eq(vlci_rows_tau(100, 9, &fallback), 9);
    ck_assert(!fallback);
    ck_assert_int_eq(vlci_rows_tau(100, 0, &fallback), 32);
    ck_assert(fallback);
    ck_assert_int_eq(vlci_rows_tau(3, 0, &fallback), 3);
    ck_assert_int_eq(vlci_rows_tau(3, 3, &fallback), 3);
    ck_assert(!fallback);
}
END_TEST

/* The entries from a row on, in a list with gaps: what a part of a prompt looks for. */
START_TEST(test_rows_from) {
    int32_t entry[] = {VLCI_ROW(3, VLCI_ROW_SCORED), VLCI_ROW(4, VLCI_ROW_COUNTED),
                       VLCI_ROW(9, VLCI_ROW_SCORED | VLCI_ROW_COUNTED)};
    vlci_rows rows = {3, entry}, none = {0, NULL}, copy = {0};
    static const int from[] = {0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3};
    for (int row = 0; row < 12; row++) {
        ck_assert_int_eq(vlci_rows_from(&rows, row), from[row]);
        ck_assert_int_eq(vlci_rows_from(&none, row), 0);
    }
    ck_ok(vlci_rows_copy(&rows, &copy));
    ck_assert(vlci_rows_equal(&rows, &copy) && !vlci_rows_equal(&rows, &none));
    copy.entry[1] = VLCI_ROW(4, VLCI_ROW_SCORED);
    ck_assert(!vlci_rows_equal(&rows, &copy));
    vlci_rows_release(&copy);
    ck_ok(vlci_rows_copy(&none, &copy));
    ck_assert(vlci_rows_equal(&copy, &none));
    vlci_rows_release(&copy);
}
END_TEST

START_TEST(test_entries) {
    enum { MANY = 131072 };
    int32_t some[] = {VLCI_ROW(0, VLCI_ROW_COUNTED), VLCI_ROW(7, VLCI_ROW_COUNTED)};
    int32_t others[] = {VLCI_ROW(3, VLCI_ROW_COUNTED), VLCI_ROW(4, VLCI_ROW_COUNTED),
                        VLCI_ROW(9, VLCI_ROW_COUNTED)};
    vlci_rows rows = {MANY, calloc(MANY, sizeof(int32_t))};
    for (int i = 0; i < MANY; i++) rows.entry[i] = VLCI_ROW(i, VLCI_ROW_SCORED | VLCI_ROW_COUNTED);
    ck_assert_uint_eq(vlci_sparsity_entries(&(vlci_rows){2, some}, 0), 1 + 8);
    ck_assert_uint_eq(vlci_sparsity_entries(&(vlci_rows){2, some}, 20), 20 + 20);
    ck_assert_uint_eq(vlci_sparsity_entries(&(vlci_rows){3, others}, 0), 4 + 5 + 10);
    ck_assert_uint_eq(vlci_sparsity_entries(&rows, 0), 8590000128u); /* beyond 32 bits */
    others[1] = VLCI_ROW(4, VLCI_ROW_SCORED);
    ck_assert_uint_eq(vlci_sparsity_entries(&(vlci_rows){3, others}, 0), 4 + 10);
    free(rows.entry);
}
END_TEST

START_TEST(test_mean) {
    uint64_t counts[] = {0, 10, 5, 1};
    ck_assert_double_eq_tol(vlci_sparsity_mean(counts, 4, 10), 0.4, 1e-15);
    ck_assert_double_eq(vlci_sparsity_mean(counts + 1, 1, 10), 1.0);
}
END_TEST

/* Sums beyond 32 bits, of the second of two layers; the first layer's place stays as it was. Once more, they
 * are added. */
static void try_sum(int tiles) {
    enum { ROWS = 6, MOST = 200 };
    vlci_sparsity_kernels kernels;
    uint32_t partial[ROWS * MOST];
    uint64_t got[2 * ROWS], want[ROWS] = {0}, seed = 3;
    ck_ok(vlci_sparsity_open(suite_device(), &kernels));
    for (int i = 0; i < ROWS * tiles; i++) {
        partial[i] = (uint32_t)((suite_random(&seed) + 1.0f) * 2e9f);
        want[i / tiles] += partial[i];
    }
    cl_mem from = suite_upload(partial, (size_t)(ROWS * tiles) * sizeof *partial);
    cl_mem counts = suite_poison(sizeof got);
    for (int times = 1; times < 4; times++) {
        ck_ok(vlci_sparsity_sum(suite_device(), &kernels, from, tiles, counts, ROWS, ROWS, times > 1));
        suite_download(counts, got, sizeof got);
        for (int row = 0; row < ROWS; row++) {
            ck_assert_uint_eq(got[row], UINT64_MAX);
            ck_assert_uint_eq(got[ROWS + row], (uint64_t)times * want[row]);
        }
    }
    suite_release(from);
    suite_release(counts);
}

START_TEST(test_sum) {
    static const int tiles[] = {1, 79, 64, 200};
    for (int i = 0; i < 4; i++) try_sum(tiles[i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sparsity");
    TCase *all = tcase_create("sparsity");
    tcase_add_test(all, test_tau);
    tcase_add_test(all, test_rows_from);
    tcase_add_test(all, test_entries);
    tcase_add_test(all, test_mean);
    tcase_add_test(all, test_sum);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
