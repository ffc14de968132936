/*
 * test_sparsity.c - the rows looked at, the entries counted, and exact sums of counts.
 */
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "support/suite.h"

START_TEST(test_rows) {
    bool fallback = true;
    ck_assert_int_eq(vlci_sparsity_rows(100, 9, &fallback), 9);
    ck_assert(!fallback);
    ck_assert_int_eq(vlci_sparsity_rows(100, 0, &fallback), 32);
    ck_assert(fallback);
    ck_assert_int_eq(vlci_sparsity_rows(3, 0, &fallback), 3);
    ck_assert_int_eq(vlci_sparsity_rows(3, 3, &fallback), 3);
    ck_assert(!fallback);
}
END_TEST

START_TEST(test_entries) {
    enum { MANY = 131072 };
    vlci_rows rows = {(int[]){0, 2, 5, 5 + MANY}, calloc(5 + MANY, sizeof(int32_t))};
    const int some[] = {0, 7, 3, 4, 9};
    for (int i = 0; i < 5; i++) rows.entry[i] = VLCI_ROW(some[i], VLCI_ROW_COUNTED);
    for (int i = 0; i < MANY; i++) rows.entry[5 + i] = VLCI_ROW(i, VLCI_ROW_SCORED | VLCI_ROW_COUNTED);
    ck_assert_uint_eq(vlci_sparsity_entries(&rows, 0), 1 + 8);
    ck_assert_uint_eq(vlci_sparsity_entries(&rows, 1), 4 + 5 + 10);
    ck_assert_uint_eq(vlci_sparsity_entries(&rows, 2), 8590000128u); /* beyond 32 bits */
    rows.entry[3] = VLCI_ROW(4, VLCI_ROW_SCORED);
    ck_assert_uint_eq(vlci_sparsity_entries(&rows, 1), 4 + 10);
    free(rows.entry);
}
END_TEST

START_TEST(test_mean) {
    uint64_t counts[] = {0, 10, 5, 1};
    ck_assert_double_eq_tol(vlci_sparsity_mean(counts, 4, 10), 0.4, 1e-15);
    ck_assert_double_eq(vlci_sparsity_mean(counts + 1, 1, 10), 1.0);
}
END_TEST

/* Sums beyond 32 bits, of the second of two layers; the first layer's place stays as it was. */
START_TEST(test_sum) {
    enum { ROWS = 6, TILES = 79 };
    vlci_compress_shape shape = {2, 2, 3, 1, 16, VLCACHE_DTYPE_F32};
    int tokens[] = {5000, 64}, start[] = {0, 1, 2};
    int32_t entries[] = {VLCI_ROW(5, VLCI_ROW_COUNTED), VLCI_ROW(5, VLCI_ROW_COUNTED)};
    vlci_compress_prompt prompt = {.tokens = tokens};
    vlci_scores *s = NULL;
    ck_ok(vlci_scores_create(suite_device(), &shape, &prompt, &(vlci_rows){start, entries}, 0.01, &s));
    uint32_t partial[ROWS * TILES];
    uint64_t got[2 * ROWS], want[ROWS] = {0}, seed = 3;
    for (int i = 0; i < ROWS * TILES; i++) {
        partial[i] = (uint32_t)((suite_random(&seed) + 1.0f) * 2e9f);
        want[i / TILES] += partial[i];
    }
    s->partial = suite_upload(partial, sizeof partial);
    ck_ok(vlci_fill(suite_device(), s->counts, 0, sizeof got, 0xffffffffu));
    ck_ok(vlci_sparsity_sum(s, 1, TILES));
    suite_download(s->counts, got, sizeof got);
    for (int row = 0; row < ROWS; row++) {
        ck_assert_uint_eq(got[row], UINT64_MAX);
        ck_assert_uint_eq(got[ROWS + row], want[row]);
    }
    vlci_scores_release(&s);
    ck_assert_ptr_null(s);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sparsity");
    TCase *all = tcase_create("sparsity");
    tcase_add_test(all, test_rows);
    tcase_add_test(all, test_entries);
    tcase_add_test(all, test_mean);
    tcase_add_test(all, test_sum);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
