/*
 * test_pool.c - merged and pooled scores against loops over every pair: windows beyond the prompt, grids with
 * end-of-row tokens, text left alone, not-a-number, some layers of more.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/pool.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { LAYERS = 3, KV = 2, LONG = 150, SHORT = 70, HEADS = LAYERS * KV };

/* A prompt, and the grids in it. */
typedef struct prompt {
    int tokens, n_grids;
    vlci_token_grid grids[3];
} prompt;

static const prompt prompts[] = {
    {LONG,
     3,
     {{5, 4, 6, 6},             /* a whole picture */
      {29, 3, 10, 11},          /* its tiles, rows ended by a token */
      {70, 1, 1, 1}}},          /* one patch */
    {SHORT, 1, {{0, 7, 9, 9}}}, /* begins with one */
    {SHORT, 0, {{0, 0, 0, 0}}}, /* no picture */
    {1, 1, {{0, 1, 1, 2}}},
};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

static vlci_recipe recipe_of(const char *pooling, const char *selection) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_recipe recipe;
    ck_ok(vlcache_compress_set(&options, "pooling", pooling));
    ck_ok(vlcache_compress_set(&options, "selection", selection));
    ck_ok(vlci_policy_read(&options, true, &recipe));
    return recipe;
}

static vlci_heads heads_of(const prompt *p, int layer, int layers) {
    return (vlci_heads){.device = suite_device(),
                        .shape = {.layers = LAYERS, .kv_heads = KV},
                        .layer = layer,
                        .layers = layers,
                        .tokens = p->tokens};
}

static void reference(const vlci_recipe *r, const prompt *p, float *row, float *to) {
    memcpy(to, row, (size_t)p->tokens * sizeof *to);
    if (r->pooling == VLCI_POOL_LINE) ref_pool_line(row, p->tokens, r->pool_columns, to);
    for (int g = 0; g < p->n_grids && r->pooling == VLCI_POOL_GRID; g++)
        ref_pool_grid(row, p->grids[g].first, p->grids[g].rows, p->grids[g].columns, p->grids[g].stride,
                      r->pool_rows, r->pool_columns, to);
}

/* [HEADS][tokens] */
static void merge(float *score, int tokens) {
    for (int l = 0; l < LAYERS; l++)
        for (int j = 0; j < tokens; j++) {
            float sum = 0.0f;
            for (int kv = 0; kv < KV; kv++) sum += score[(l * KV + kv) * tokens + j];
            for (int kv = 0; kv < KV; kv++) score[(l * KV + kv) * tokens + j] = sum;
        }
}

/* Pools layers from `layer` on; the buffers of `pooled` may be larger, and serve again. */
static void try_layers(const vlci_recipe *r, const prompt *p, vlci_pooled *pooled, int layer, int layers) {
    static float score[HEADS * LONG], want[LONG], got[HEADS * LONG];
    int n = p->tokens;
    size_t at = (size_t)(layer * KV * n), first = at;
    uint64_t seed = 21 + (uint64_t)layer;
    vlci_pool_kernels kernels = {0};
    vlci_heads heads = heads_of(p, layer, layers);
    for (int i = 0; i < HEADS * n; i++) score[i] = suite_random(&seed) + 1.0f;
    cl_mem on = suite_upload(score, (size_t)(HEADS * n) * sizeof *score), out = on;
    cl_mem grids = suite_upload(p->grids, sizeof p->grids);
    ck_ok(vlci_pool_open(suite_device(), r, &kernels));
    ck_ok(vlci_pool(&heads, &kernels, r, grids, p->n_grids, pooled, &out, &at));
    ck_ok(vlci_read(suite_device(), out, at * sizeof *got, got, (size_t)(layers * KV * n) * sizeof *got));
    if (!r->per_head) merge(score, n);
    for (int h = 0; h < layers * KV; h++) {
        reference(r, p, score + (layer * KV + h) * n, want);
        for (int j = 0; j < n; j++)
            ck_assert_msg(got[h * n + j] == want[j], "%d layers from %d: head %d token %d: %g, expected %g",
                          layers, layer, h, j, (double)got[h * n + j], (double)want[j]);
    }
    ck_assert_int_eq(out == on && at == first, r->per_head && r->pooling == VLCI_POOL_NONE);
    suite_release(on);
    suite_release(grids);
}

static void try_pooling(const char *pooling, const char *selection, const prompt *p) {
    vlci_recipe recipe = recipe_of(pooling, selection);
    vlci_pooled pooled = {0};
    try_layers(&recipe, p, &pooled, 1, 1);
    try_layers(&recipe, p, &pooled, 0, LAYERS);
    try_layers(&recipe, p, &pooled, 1, 2);
    vlci_pooled_release(suite_device(), &pooled);
}

START_TEST(test_windows) {
    static const char *const poolings[] = {"none",     "1d:1",     "1d:3",     "1d:7",     "1d:255",
                                           "grid:1x1", "grid:1x5", "grid:3x3", "grid:5x1", "grid:7x255"};
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings; i += suite_reduced() ? 3 : 1)
        for (int p = 0; p < PROMPTS; p++) {
            try_pooling(poolings[i], "per-head", &prompts[p]);
            try_pooling(poolings[i], "per-layer", &prompts[p]);
            try_pooling(poolings[i], "adaptive", &prompts[p]);
        }
}
END_TEST

/* Not-a-number loses against any number, and stays where there is none. */
START_TEST(test_nan) {
    float score[HEADS * LONG], got[KV * LONG];
    vlci_recipe recipe = recipe_of("1d:3", "per-head");
    vlci_pool_kernels kernels = {0};
    vlci_pooled pooled = {0};
    size_t at = 2 * KV * LONG;
    for (int i = 0; i < HEADS * LONG; i++) score[i] = NAN;
    score[at + 10] = 1.0f;
    vlci_heads heads = heads_of(&prompts[0], 2, 1);
    cl_mem on = suite_upload(score, sizeof score), out = on;
    ck_ok(vlci_pool_open(suite_device(), &recipe, &kernels));
    ck_ok(vlci_pool(&heads, &kernels, &recipe, NULL, 0, &pooled, &out, &at));
    suite_download(out, got, sizeof got);
    for (int j = 0; j < LONG; j++)
        if (abs(j - 10) <= 1)
            ck_assert_float_eq(got[j], 1.0f);
        else
            ck_assert_float_nan(got[j]);
    suite_release(on);
    vlci_pooled_release(suite_device(), &pooled);
}
END_TEST

/* Tokens that are no candidates score more than any number, of some layers of more too; the others keep
 * theirs. */
START_TEST(test_spared) {
    static float score[HEADS * SHORT], got[HEADS * SHORT];
    uint8_t spared[SHORT];
    vlci_recipe recipe = recipe_of("none", "per-head");
    vlci_pool_kernels kernels = {0};
    vlci_pooled pooled = {0};
    uint64_t seed = 5;
    for (int i = 0; i < HEADS * SHORT; i++) score[i] = i % 11 ? suite_random(&seed) : i % 2 ? INFINITY : NAN;
    for (int j = 0; j < SHORT; j++) spared[j] = j % 3 == 0;
    cl_mem on = suite_upload(score, sizeof score), which = suite_upload(spared, sizeof spared);
    recipe.candidates = VLCI_CANDIDATES_TEXT;
    ck_ok(vlci_pool_open(suite_device(), &recipe, &kernels));
    for (int layer = 1; layer >= 0; layer--) {
        int layers = LAYERS - layer;
        vlci_heads heads = heads_of(&prompts[1], layer, layers);
        size_t at = (size_t)(layer * KV * SHORT), n = (size_t)(layers * KV * SHORT);
        const float *own = score + at;
        cl_mem out = on;
        ck_ok(vlci_pool_spare(&heads, &kernels, which, &pooled, &out, &at));
        ck_ok(vlci_read(suite_device(), out, at * sizeof *got, got, n * sizeof *got));
        for (size_t i = 0; i < n; i++)
            if (spared[i % SHORT])
                ck_assert_float_infinite(got[i]);
            else
                ck_assert(got[i] == own[i] || (isnan(got[i]) && isnan(own[i])));
    }
    suite_release(on);
    suite_release(which);
    vlci_pooled_release(suite_device(), &pooled);
}
END_TEST

/* Where there are no scores, there is nothing to pool. */
START_TEST(test_no_scores) {
    vlci_recipe recipe = recipe_of("1d:3", "per-layer");
    vlci_pool_kernels kernels = {0};
    vlci_pooled pooled = {0};
    vlci_heads heads = heads_of(&prompts[0], 0, LAYERS);
    cl_mem none = NULL;
    size_t at = 7;
    ck_ok(vlci_pool(&heads, &kernels, &recipe, NULL, 0, &pooled, &none, &at));
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(at, 7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *all = tcase_create("pool");
    tcase_add_test(all, test_windows);
    tcase_add_test(all, test_nan);
    tcase_add_test(all, test_spared);
    tcase_add_test(all, test_no_scores);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
