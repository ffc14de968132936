/*
 * test_pool.c - merged and pooled scores against loops over every pair: windows beyond the prompt, grids with
 * end-of-row tokens, text left alone, not-a-number.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { BATCH = 2, KV = 2, LONG = 150 };

static const int tokens[BATCH] = {LONG, 70}, text[BATCH] = {9, 4};
static const vlci_token_grid grids[] = {
    {0, 5, 4, 6, 6},    /* a whole picture */
    {0, 29, 3, 10, 11}, /* its tiles, rows ended by a token */
    {0, 70, 1, 1, 1},   /* one patch */
    {1, 0, 7, 9, 9},    /* the other sequence begins with one */
};

static vlci_compress *make_plan(const char *pooling, const char *selection) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_compress_shape shape = {1, BATCH, 2 * KV, KV, 16, VLCACHE_DTYPE_F32};
    vlci_compress_prompt prompt = {.tokens = tokens, .text = text, .grids = grids, .n_grids = 4};
    vlci_recipe recipe;
    vlci_compress *p = NULL;
    ck_ok(vlcache_compress_set(&options, "pooling", pooling));
    ck_ok(vlcache_compress_set(&options, "selection", selection));
    ck_ok(vlci_policy_read(&options, &recipe));
    ck_ok(vlci_compress_create(suite_device(), &recipe, &shape, &prompt, NULL, 0, &p));
    return p;
}

static void reference(const vlci_recipe *r, float *score, float *out) {
    for (int b = 0; b < BATCH; b++)
        for (int kv = 0; kv < KV; kv++) {
            float *row = score + (b * KV + kv) * LONG, *to = out + (b * KV + kv) * LONG;
            memcpy(to, row, LONG * sizeof *to);
            if (r->pooling == VLCI_POOL_LINE) ref_pool_line(row, tokens[b], r->pool_columns, to);
            for (size_t g = 0; g < 4 && r->pooling == VLCI_POOL_GRID; g++)
                if (grids[g].sequence == b)
                    ref_pool_grid(row, grids[g].first, grids[g].rows, grids[g].columns, grids[g].stride,
                                  r->pool_rows, r->pool_columns, to);
        }
}

static void merge(float *score) {
    for (int b = 0; b < BATCH; b++)
        for (int j = 0; j < LONG; j++) {
            float sum = 0.0f;
            for (int kv = 0; kv < KV; kv++) sum += score[(b * KV + kv) * LONG + j];
            for (int kv = 0; kv < KV; kv++) score[(b * KV + kv) * LONG + j] = sum;
        }
}

static void try_pooling(const char *pooling, const char *selection) {
    float score[BATCH * KV * LONG], want[BATCH * KV * LONG], got[BATCH * KV * LONG];
    uint64_t seed = 21;
    for (int i = 0; i < BATCH * KV * LONG; i++) score[i] = suite_random(&seed) + 1.0f;
    vlci_compress *p = make_plan(pooling, selection);
    cl_mem on = suite_upload(score, sizeof score), out = NULL;
    ck_ok(vlci_pool(p, on, &out));
    suite_download(out, got, sizeof got);
    if (!p->recipe.per_head) merge(score);
    reference(&p->recipe, score, want);
    for (int b = 0; b < BATCH; b++)
        for (int kv = 0; kv < KV; kv++)
            for (int j = 0; j < tokens[b]; j++) {
                int at = (b * KV + kv) * LONG + j;
                ck_assert_msg(got[at] == want[at], "%s %s: sequence %d head %d token %d: %g, expected %g",
                              pooling, selection, b, kv, j, (double)got[at], (double)want[at]);
            }
    if (p->recipe.per_head && p->recipe.pooling == VLCI_POOL_NONE) ck_assert_ptr_eq(on, out);
    suite_release(on);
    vlci_compress_destroy(&p);
}

START_TEST(test_windows) {
    static const char *const poolings[] = {"none",     "1d:1",     "1d:3",     "1d:7",     "1d:255",
                                           "grid:1x1", "grid:1x5", "grid:3x3", "grid:5x1", "grid:7x255"};
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings; i++) {
        try_pooling(poolings[i], "per-head");
        try_pooling(poolings[i], "per-layer");
    }
}
END_TEST

/* Not-a-number loses against any number, and stays where there is none. */
START_TEST(test_nan) {
    float score[BATCH * KV * LONG], got[BATCH * KV * LONG];
    for (int i = 0; i < BATCH * KV * LONG; i++) score[i] = NAN;
    score[10] = 1.0f;
    vlci_compress *p = make_plan("1d:3", "per-head");
    cl_mem on = suite_upload(score, sizeof score), out = NULL;
    ck_ok(vlci_pool(p, on, &out));
    suite_download(out, got, sizeof got);
    for (int j = 0; j < LONG; j++)
        if (abs(j - 10) <= 1)
            ck_assert_float_eq(got[j], 1.0f);
        else
            ck_assert_float_nan(got[j]);
    suite_release(on);
    vlci_compress_destroy(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *all = tcase_create("pool");
    tcase_add_test(all, test_windows);
    tcase_add_test(all, test_nan);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
