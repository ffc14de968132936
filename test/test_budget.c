/*
 * test_budget.c - layer budgets against the formula, and its edges.
 */
#include <math.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { MOST = 64 };

static void compare(const double *sparsity, int layers, double alpha, double recent, int tokens) {
    vlcache_compress_layer layer[MOST];
    int kept[MOST], last[MOST];
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.budget = alpha;
    options.recent = recent;
    for (int l = 0; l < layers; l++) layer[l] = (vlcache_compress_layer){.sparsity = sparsity[l]};
    vlci_budget_share(&options, tokens, layers, 1, layer);
    ref_budget(sparsity, layers, alpha, recent, tokens, kept, last);
    for (int l = 0; l < layers; l++) {
        ck_assert_int_eq(layer[l].kept, kept[l]);
        ck_assert_int_eq(layer[l].recent, last[l]);
        ck_assert(layer[l].budget >= 0.01 && layer[l].budget <= 1.0);
        ck_assert(layer[l].recent >= 1 && layer[l].recent <= layer[l].kept && layer[l].kept <= tokens);
    }
}

START_TEST(test_random) {
    static const int tokens[] = {1, 2, 9, 100, 605, 131072};
    double sparsity[MOST];
    uint64_t seed = 5;
    for (int round = 0; round < 600; round++) {
        int layers = 1 + round % MOST;
        for (int l = 0; l < layers; l++)
            sparsity[l] = pow(fabs((double)suite_random(&seed)), round % 3 + 0.1);
        compare(sparsity, layers, 0.01 + 0.99 * fabs((double)suite_random(&seed)), round % 7 / 6.0,
                tokens[round % 6]);
    }
}
END_TEST

START_TEST(test_edges) {
    double equal[4] = {0.5, 0.5, 0.5, 0.5}, dense_one[4] = {1, 1, 0, 1}, none[4] = {1, 1, 1, 1};
    compare(equal, 4, 0.1, 0.1, 605);
    compare(equal, 4, 1.0, 0.1, 605);
    compare(dense_one, 4, 0.1, 0.1, 605);
    compare(none, 4, 0.1, 0.1, 605);

    vlcache_compress_layer layer[4] = {{.sparsity = 1}, {.sparsity = 1}, {.sparsity = 0}, {.sparsity = 1}};
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_budget_share(&options, 1000, 4, 1, layer);
    ck_assert_int_eq(layer[0].kept, 10); /* the floor of 1% */
    ck_assert_int_eq(layer[2].kept, 400);
    ck_assert_int_eq(layer[2].recent, 40);
    layer[0].sparsity = 0.0;
    vlci_budget_share(&options, 25, 1, 1, layer); /* 2.5 rounds up */
    ck_assert_int_eq(layer[0].kept, 3);
    ck_assert_int_eq(layer[0].recent, 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("budget");
    TCase *all = tcase_create("budget");
    tcase_add_test(all, test_random);
    tcase_add_test(all, test_edges);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
