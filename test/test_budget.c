/*
 * test_budget.c - layer budgets of every allocation against the formula, and its edges.
 */
#include <math.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { MOST = 64 };

static void compare(vlci_recipe recipe, const double *sparsity, int layers, int tokens) {
    vlcache_compress_layer layer[MOST];
    ref_rows want[MOST];
    ref_shares how = {.alpha = recipe.budget,
                      .recent = recipe.recent,
                      .pyramid = recipe.allocation == VLCI_ALLOCATE_PYRAMID,
                      .uniform = recipe.uniform,
                      .centroids = recipe.centroids,
                      .sinks = recipe.sinks,
                      .sink_recent = recipe.scoring == VLCI_SCORE_NONE};
    for (int l = 0; l < layers; l++) layer[l] = (vlcache_compress_layer){.sparsity = sparsity[l]};
    vlci_budget_share(&recipe, tokens, layers, 1, layer);
    ref_budget(&how, sparsity, layers, tokens, want);
    for (int l = 0; l < layers; l++) {
        ck_assert_double_eq_tol(layer[l].budget, want[l].beta, 1e-12);
        ck_assert_int_eq(layer[l].kept, want[l].kept);
        ck_assert_int_eq(layer[l].recent, want[l].recent);
        ck_assert_int_eq(layer[l].sinks, want[l].sinks);
        ck_assert_int_eq(layer[l].centroids, want[l].centroids);
        ck_assert(layer[l].recent >= 1 && layer[l].recent + layer[l].sinks <= layer[l].kept);
        ck_assert(layer[l].kept >= 1 && layer[l].kept + layer[l].centroids <= tokens);
    }
}

static vlci_recipe recipe_of(double budget, double recent) {
    return (vlci_recipe){.compresses = true,
                         .budget = budget,
                         .recent = recent,
                         .scoring = VLCI_SCORE_POST_VISION,
                         .allocation = VLCI_ALLOCATE_MIXED};
}

START_TEST(test_random) {
    static const int tokens[] = {1, 2, 9, 100, 605, 131072};
    double sparsity[MOST];
    uint64_t seed = 5;
    for (int round = 0; round < 2000; round++) {
        int layers = 1 + round % MOST;
        for (int l = 0; l < layers; l++)
            sparsity[l] = pow(fabs((double)suite_random(&seed)), round % 3 + 0.1);
        vlci_recipe r = recipe_of(0.001 + 0.999 * fabs((double)suite_random(&seed)), round % 7 / 6.0);
        r.allocation = round % 4 ? VLCI_ALLOCATE_MIXED : VLCI_ALLOCATE_PYRAMID;
        r.uniform = round % 4 == 1 ? 1.0 : round % 4 == 2 ? 0.0 : 0.8;
        r.sinks = round % 5 ? 0 : 4;
        r.centroids = round % 3 ? 0.0 : fabs((double)suite_random(&seed));
        if (round % 11 == 0) r.scoring = VLCI_SCORE_NONE;
        compare(r, sparsity, layers, tokens[round % 6]);
    }
}
END_TEST

START_TEST(test_edges) {
    double equal[4] = {0.5, 0.5, 0.5, 0.5}, dense_one[4] = {1, 1, 0, 1}, none[4] = {1, 1, 1, 1};
    compare(recipe_of(0.1, 0.1), equal, 4, 605);
    compare(recipe_of(1.0, 0.1), equal, 4, 605);
    compare(recipe_of(0.1, 0.1), dense_one, 4, 605);
    compare(recipe_of(0.1, 0.1), none, 4, 605);

    vlcache_compress_layer layer[4] = {{.sparsity = 1}, {.sparsity = 1}, {.sparsity = 0}, {.sparsity = 1}};
    vlci_recipe r = recipe_of(0.1, 0.1);
    vlci_budget_share(&r, 1000, 4, 1, layer);
    ck_assert_int_eq(layer[0].kept, 10); /* the floor of 1% */
    ck_assert_int_eq(layer[2].kept, 400);
    ck_assert_int_eq(layer[2].recent, 40);
    layer[0].sparsity = 0.0;
    vlci_budget_share(&r, 25, 1, 1, layer); /* 2.5 rounds up */
    ck_assert_int_eq(layer[0].kept, 3);
    ck_assert_int_eq(layer[0].recent, 1);
}
END_TEST

/* Hand-computed: 20 layers of 1000 tokens at 10% fall from 195 to 5; the mean stays 100. */
START_TEST(test_pyramid) {
    vlcache_compress_layer layer[20] = {{0}};
    vlci_recipe r = recipe_of(0.1, 0.1);
    int all = 0;
    r.allocation = VLCI_ALLOCATE_PYRAMID;
    vlci_budget_share(&r, 1000, 20, 1, layer);
    for (int l = 0; l < 20; l++) all += layer[l].kept;
    ck_assert_int_eq(layer[0].kept, 195);
    ck_assert_int_eq(layer[19].kept, 5);
    ck_assert_int_eq(layer[10].kept, 95);
    ck_assert_int_eq(all, 2000);
    r.budget = 0.8; /* no layer above all of it */
    vlci_budget_share(&r, 1000, 20, 1, layer);
    ck_assert_int_eq(layer[0].kept, 1000);
    ck_assert_int_eq(layer[19].kept, 600);
}
END_TEST

/* More budget never takes a row from any layer. */
START_TEST(test_grows) {
    double sparsity[12];
    uint64_t seed = 9;
    for (int l = 0; l < 12; l++) sparsity[l] = fabs((double)suite_random(&seed));
    for (int kind = 0; kind < 4; kind++) {
        int before[12] = {0};
        for (int percent = 1; percent <= 100; percent++) {
            vlcache_compress_layer layer[12];
            vlci_recipe r = recipe_of(percent / 100.0, 0.1);
            r.allocation = kind == 3 ? VLCI_ALLOCATE_PYRAMID : VLCI_ALLOCATE_MIXED;
            r.uniform = kind == 0 ? 1.0 : kind == 1 ? 0.0 : 0.8;
            for (int l = 0; l < 12; l++) layer[l] = (vlcache_compress_layer){.sparsity = sparsity[l]};
            vlci_budget_share(&r, 605, 12, 1, layer);
            for (int l = 0; l < 12; l++) {
                ck_assert_int_ge(layer[l].kept, before[l]);
                if (percent == 100) ck_assert_int_eq(layer[l].kept, 605);
                before[l] = layer[l].kept;
            }
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("budget");
    TCase *all = tcase_create("budget");
    tcase_add_test(all, test_random);
    tcase_add_test(all, test_edges);
    tcase_add_test(all, test_pyramid);
    tcase_add_test(all, test_grows);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
