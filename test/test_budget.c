/*
 * test_budget.c - layer budgets of every allocation against the formula, its edges, and what is known of them
 * while layers are still to be read; how the kv heads of a layer share its rows.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/plan.h"
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
    vlci_budget_share(&recipe, tokens, 0, layers, layers, layer);
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
    vlci_budget_share(&r, 1000, 0, 4, 4, layer);
    ck_assert_int_eq(layer[0].kept, 10); /* the floor of 1% */
    ck_assert_int_eq(layer[2].kept, 400);
    ck_assert_int_eq(layer[2].recent, 40);
    layer[0].sparsity = 0.0;
    vlci_budget_share(&r, 25, 0, 1, 1, layer); /* 2.5 rounds up */
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
    vlci_budget_share(&r, 1000, 0, 20, 20, layer);
    for (int l = 0; l < 20; l++) all += layer[l].kept;
    ck_assert_int_eq(layer[0].kept, 195);
    ck_assert_int_eq(layer[19].kept, 5);
    ck_assert_int_eq(layer[10].kept, 95);
    ck_assert_int_eq(all, 2000);
    r.budget = 0.8; /* no layer above all of it */
    vlci_budget_share(&r, 1000, 0, 20, 20, layer);
    ck_assert_int_eq(layer[0].kept, 1000);
    ck_assert_int_eq(layer[19].kept, 600);
}
END_TEST

/* Hand-computed: shares count by their proportions; what a full layer cannot take goes to the others. */
START_TEST(test_layers) {
    static const struct {
        double budget;
        int kept[4];
    } want[] = {{0.1, {40, 80, 0, 280}}, {0.5, {333, 667, 0, 1000}}, {0.75, {1000, 1000, 0, 1000}}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        vlcache_compress_layer layer[4] = {{0}};
        vlci_recipe r = recipe_of(want[i].budget, 0.1);
        r.allocation = VLCI_ALLOCATE_LAYERS;
        r.n_shares = 4;
        r.shares[0] = 0.5;
        r.shares[1] = 1.0;
        r.shares[3] = 3.5;
        vlci_budget_share(&r, 1000, 0, 4, 4, layer);
        for (int l = 0; l < 4; l++) ck_assert_int_eq(layer[l].kept, want[i].kept[l] ? want[i].kept[l] : 1);
    }
}
END_TEST

/* More budget never takes a row from any layer. */
START_TEST(test_grows) {
    double sparsity[12];
    uint64_t seed = 9;
    for (int l = 0; l < 12; l++) sparsity[l] = fabs((double)suite_random(&seed));
    for (int kind = 0; kind < 6; kind++) {
        int before[12] = {0};
        for (int percent = 1; percent <= 100; percent++) {
            vlcache_compress_layer layer[12];
            vlci_recipe r = recipe_of(percent / 100.0, 0.1);
            r.allocation = kind == 3 ? VLCI_ALLOCATE_PYRAMID : VLCI_ALLOCATE_MIXED;
            r.uniform = kind == 0 ? 1.0 : kind == 1 || kind == 4 ? 0.0 : 0.8;
            r.strict = kind > 3;
            for (int l = 0; l < 12; l++) layer[l] = (vlcache_compress_layer){.sparsity = sparsity[l]};
            vlci_budget_share(&r, 605, 0, 12, 12, layer);
            for (int l = 0; l < 12; l++) {
                ck_assert_int_ge(layer[l].kept, before[l]);
                if (percent == 100) ck_assert_int_eq(layer[l].kept, 605);
                before[l] = layer[l].kept;
            }
        }
    }
}
END_TEST

/* Of the first layers of more, no less than they keep when all are known, and together no more than that is
 * to be in all, but for the clip and rounding. */
START_TEST(test_first_layers) {
    enum { ALL = 24, TOKENS = 700 };
    uint64_t seed = 17;
    for (int round = 0; round < 300; round++) {
        vlcache_compress_layer known[ALL], part[ALL];
        vlci_recipe r = recipe_of(0.01 + 0.99 * fabs((double)suite_random(&seed)), round % 7 / 6.0);
        r.allocation = round % 4 ? VLCI_ALLOCATE_MIXED : VLCI_ALLOCATE_PYRAMID;
        r.uniform = round % 4 == 1 ? 1.0 : round % 4 == 2 ? 0.0 : 0.8;
        r.sinks = round % 5 ? 0 : 4;
        r.strict = round % 3 == 2;
        if (round % 50 == 49) r.budget = 1.0;
        for (int l = 0; l < ALL; l++)
            known[l] = (vlcache_compress_layer){.sparsity = pow(fabs((double)suite_random(&seed)), 0.2)};
        vlci_budget_share(&r, TOKENS, 0, ALL, ALL, known);
        for (int n = 1; n <= ALL; n++) {
            double all = 0.0;
            for (int l = 0; l < n; l++) part[l] = (vlcache_compress_layer){.sparsity = known[l].sparsity};
            vlci_budget_share(&r, TOKENS, 0, n, ALL, part);
            for (int l = 0; l < n; l++) {
                ck_assert_int_ge(part[l].kept, known[l].kept);
                ck_assert_int_ge(part[l].recent, known[l].recent);
                ck_assert_int_ge(part[l].sinks, known[l].sinks);
                ck_assert_int_ge(part[l].kept - part[l].recent, known[l].kept - known[l].recent);
                all += part[l].kept;
            }
            ck_assert_double_le(all, ALL * (r.budget * TOKENS + 1.0) + n * 0.01 * TOKENS);
        }
        for (int l = 0; l < ALL; l++) ck_assert_int_eq(part[l].kept, known[l].kept);
    }
}
END_TEST

/* Strict budgets are kept to and used up, the denser layer never has less, and where the published ones are
 * within them they are those. */
START_TEST(test_strict) {
    uint64_t seed = 23;
    int scaled = 0;
    for (int round = 0; round < 300; round++) {
        vlcache_compress_layer layer[MOST], published[MOST];
        int layers = 1 + round % MOST;
        vlci_recipe r = recipe_of(pow(fabs((double)suite_random(&seed)), 3) + 1e-4, 0.1);
        r.uniform = round % 3 / 4.0;
        double least = r.uniform * r.budget + (1.0 - r.uniform) * fmin(r.budget, 0.01), sum = 0.0, was = 0.0;
        if (r.budget >= 1.0) continue;
        for (int l = 0; l < layers; l++)
            layer[l] = (vlcache_compress_layer){.sparsity = 1.0 - pow(fabs((double)suite_random(&seed)), 4)};
        memcpy(published, layer, sizeof layer);
        vlci_budget_share(&r, 605, 0, layers, layers, published);
        r.strict = true;
        vlci_budget_share(&r, 605, 0, layers, layers, layer);
        for (int l = 0; l < layers; l++) {
            sum += layer[l].budget;
            was += published[l].budget;
            ck_assert_double_ge(layer[l].budget, least * (1 - 1e-12));
            ck_assert_double_le(layer[l].budget, published[l].budget * (1 + 1e-12));
            for (int k = 0; k < l; k++)
                ck_assert(layer[k].sparsity > layer[l].sparsity || layer[k].budget >= layer[l].budget);
        }
        double all = r.budget * layers;
        ck_assert_msg(sum <= all * (1 + 1e-9), "%g of %g", sum, all);
        ck_assert_double_ge(sum, fmin(was, all) * (1 - 1e-9));
        scaled += was > all * (1 + 1e-9);
        if (was <= all) ck_assert(!memcmp(published, layer, (size_t)layers * sizeof *layer));
    }
    ck_assert_int_gt(scaled, 50);
}
END_TEST

/* ---- heads --------------------------------------------------------------------------------------------- */

enum { HEADS = 5, TOKENS = 60 };
enum kind { RANDOM, EQUAL, FEW_VALUES, ODD_FLOATS, ALL_NAN, ONE_HEAD, KINDS };

static float score_of(enum kind kind, uint64_t *seed, int head) {
    static const float odd[] = {NAN, -0.0f, 0.0f, INFINITY, -INFINITY, 1e-45f, 3.0f, -3.0f};
    float r = suite_random(seed);
    switch (kind) {
    case RANDOM:
        return r * r * r * (float)(1 + head);
    case EQUAL:
        return 0.25f;
    case FEW_VALUES:
        return floorf(r * 3.0f);
    case ODD_FLOATS:
        return odd[(int)((r + 1.0f) * 4.0f) & 7];
    case ALL_NAN:
        return NAN;
    default:
        return head == 3 ? 1.0f + r : -1.0f - r;
    }
}

static void try_heads(enum kind kind, double budget, double floor, int sinks, double centroids) {
    float score[HEADS * TOKENS];
    int kept[HEADS], all = 0;
    uint64_t seed = 23 + (uint64_t)kind;
    vlcache_compress_layer layer = {0};
    vlci_keep got[HEADS];
    vlci_recipe r = recipe_of(budget, 0.1);
    r.uniform = 1.0;
    r.sinks = sinks;
    r.centroids = centroids;
    vlci_budget_share(&r, TOKENS, 0, 1, 1, &layer);
    for (int i = 0; i < HEADS * TOKENS; i++) score[i] = score_of(kind, &seed, i / TOKENS);
    for (int i = 0; i < HEADS; i++) got[i] = (vlci_keep){.before = 100 + i, .first = 200 + i};
    ck_ok(vlci_budget_adapt(&layer, floor, TOKENS, score, HEADS, got));
    ref_adapt(score, HEADS, TOKENS, &(ref_rows){0, layer.kept, layer.recent, layer.sinks, 0}, floor, kept);
    for (int h = 0; h < HEADS; h++) {
        int evicted = TOKENS - kept[h];
        ck_assert_msg(got[h].kept == kept[h], "kind %d, floor %g: head %d keeps %d, expected %d", (int)kind,
                      floor, h, got[h].kept, kept[h]);
        ck_assert(got[h].recent == layer.recent && got[h].sinks == layer.sinks);
        ck_assert_int_eq(got[h].centroids, evicted > layer.centroids ? layer.centroids : 0);
        ck_assert(got[h].before == 100 + h && got[h].first == 200 + h);
        if (floor == 1.0) ck_assert_int_eq(kept[h], layer.kept);
        all += kept[h];
    }
    ck_assert_int_eq(all, HEADS * layer.kept);
}

START_TEST(test_adaptive) {
    static const double budgets[] = {0.01, 0.1, 0.3, 0.9, 1.0}, floors[] = {0.0, 0.2, 0.5, 0.99, 1.0};
    for (int b = 0; b < 5; b++)
        for (int f = 0; f < 5; f++)
            for (int sinks = 0; sinks <= 4; sinks += 4) {
                try_heads((enum kind)_i, budgets[b], floors[f], sinks, 0.0);
                try_heads((enum kind)_i, budgets[b], floors[f], sinks, 0.4);
            }
}
END_TEST

/* Hand-computed: 2 heads of 10 tokens keep 4 each, the last of which is recent. */
START_TEST(test_adaptive_by_hand) {
    const float score[20] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 5, 0, 5, 0, 0, 0, 0, 0, 0, 99};
    const struct {
        double floor;
        int kept[2];
    } cases[] = {{0.0, {6, 2}},  /* recent; 9 8 7 6 and the tied 5 of head 0, one of head 1 */
                 {0.25, {6, 2}}, /* the same: recent is the floor */
                 {0.75, {5, 3}}, /* 2 others each; 7 6 */
                 {1.0, {4, 4}}};
    vlcache_compress_layer layer = {.kept = 4, .recent = 1};
    for (int i = 0; i < 4; i++) {
        vlci_keep got[2] = {{0}};
        ck_ok(vlci_budget_adapt(&layer, cases[i].floor, 10, score, 2, got));
        ck_assert_int_eq(got[0].kept, cases[i].kept[0]);
        ck_assert_int_eq(got[1].kept, cases[i].kept[1]);
    }
}
END_TEST

/* As many rows in each head, whatever they had before. */
START_TEST(test_even) {
    vlcache_compress_layer layer = {.kept = 7, .recent = 2, .sinks = 1, .centroids = 3};
    vlci_keep got[3] = {{.kept = 9, .before = 4, .first = 5}, {0}, {.centroids = 1}};
    vlci_budget_even(&layer, 3, got);
    for (int h = 0; h < 3; h++)
        ck_assert(got[h].kept == 7 && got[h].recent == 2 && got[h].sinks == 1 && got[h].centroids == 3);
    ck_assert(got[0].before == 4 && got[0].first == 5);
}
END_TEST

/* ---- between tokens ------------------------------------------------------------------------------------ */

/* Steps of decode that compressing a 7B model's prompt is spread over, at most. */
START_TEST(calls_of_long_prompts) {
    static const struct {
        int tokens, calls;
    } prompts[] = {{1, 1}, {2048, 1}, {8192, 1}, {16384, 4}, {32768, 6}, {65536, 12}, {1 << 17, 23}};
    const vlci_compress_shape shape = {32, 32, 8, 128, VLCACHE_DTYPE_BF16, 0};
    const vlci_recipe exact = {.compresses = true, .budget = 0.1},
                      centroids = {.compresses = true, .budget = 0.1, .centroids = 0.75, .spread = true},
                      coded = {.compresses = true, .coded = true},
                      quantised = {.compresses = true, .quantised = true};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        ck_assert_int_eq(vlci_compress_calls(&shape, &centroids, prompts[i].tokens), prompts[i].calls);
        ck_assert_int_eq(vlci_compress_calls(&shape, &exact, prompts[i].tokens), 1);
        ck_assert_int_eq(vlci_compress_calls(&shape, &coded, prompts[i].tokens), 2);
        ck_assert_int_eq(vlci_compress_calls(&shape, &quantised, prompts[i].tokens), 1);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("budget");
    TCase *all = tcase_create("budget");
    tcase_add_test(all, test_random);
    tcase_add_test(all, test_edges);
    tcase_add_test(all, test_pyramid);
    tcase_add_test(all, test_layers);
    tcase_add_test(all, test_grows);
    tcase_add_test(all, test_first_layers);
    tcase_add_test(all, test_strict);
    tcase_add_loop_test(all, test_adaptive, 0, KINDS);
    tcase_add_test(all, test_adaptive_by_hand);
    tcase_add_test(all, test_even);
    tcase_add_test(all, calls_of_long_prompts);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
