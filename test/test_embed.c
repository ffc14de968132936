/*
 * test_embed.c - rows by index against copies: tables of each dtype and layout with visual tokens among them,
 * gathering.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "compute/embed.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 11;

enum { VOCABULARY = 45, FEATURES = 4 }; /* the last panel of the table is not full */

/* `sets` sets of features a visual token: the first takes its place, the last is added afterwards, but for
 * the first row. */
static void embed(vlcache_dtype dtype, vlci_layout layout, int k, float scale, int sets) {
    static const int ids[] = {0, 44, -1, 31, 32, -4, 7, -2, 33};
    enum { IDS = sizeof ids / sizeof *ids };
    float *table = floats_random(&seed, (size_t)(VOCABULARY * k), 3, 0),
          *want = malloc(sizeof *want * (size_t)(IDS * k));
    float *features = floats_random(&seed, (size_t)(FEATURES * sets * k), 1, 0);
    size_t bytes = vlci_matrix_bytes(VOCABULARY, k, dtype, layout);
    void *stored = calloc(1, bytes);
    for (int row = 0; row < VOCABULARY; row++)
        for (int i = 0; i < k; i++) {
            int at = (int)ref_weight_at((int)layout, row, i, k);
            ref_store(stored, at, table[row * k + i], dtype);
            table[row * k + i] = (float)ref_load(stored, at, dtype);
        }
    for (int r = 0; r < IDS; r++)
        for (int i = 0; i < k; i++) {
            const float *of = features + (-1 - ids[r]) * sets * k + i;
            want[r * k + i] = ids[r] < 0 ? *of : table[ids[r] * k + i] * scale;
            if (ids[r] < 0 && sets > 1) want[r * k + i] += of[(sets - 1) * k];
        }
    vlci_matrix matrix = {
        .data = suite_upload(stored, bytes), .n = VOCABULARY, .k = k, .dtype = dtype, .layout = layout};
    cl_mem on_features = floats_upload(features, (size_t)(FEATURES * sets * k)),
           on_ids = suite_upload(ids, sizeof ids);
    cl_mem out = floats_poisoned((size_t)(IDS * k));
    vlci_embed_kernels kernels;
    ck_ok(vlci_embed_open(suite_device(), dtype, layout, &kernels));
    vlci_features seen = {on_features, sets};
    ck_ok(vlci_embed_run(&kernels, &matrix, scale, seen, on_ids, out, IDS));
    if (sets > 1) ck_ok(vlci_embed_add(&kernels, seen, sets - 1, on_ids, out, 1, IDS - 1, k));
    matrix.layout = layout == VLCI_ROWS ? VLCI_PANELS : VLCI_ROWS;
    ck_fails(vlci_embed_run(&kernels, &matrix, scale, seen, on_ids, out, IDS), VLCACHE_E_ARGUMENT, "layout");
    float *got = floats_take(out, (size_t)(IDS * k));
    floats_same("embed", got, want, (size_t)(IDS * k));
    suite_release(matrix.data);
    suite_release(on_features);
    suite_release(on_ids);
    free(table);
    free(features);
    free(want);
    free(stored);
    free(got);
}

START_TEST(embeddings) {
    static const int sizes[] = {1, 7, 64, 80};
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++)
        for (int i = 0; i < (suite_reduced() ? 2 : 4); i++) {
            embed((vlcache_dtype)dtype, VLCI_ROWS, sizes[i], 1, 1);
            embed((vlcache_dtype)dtype, VLCI_PANELS, sizes[i], 0.3f, 3);
            embed((vlcache_dtype)dtype, VLCI_BLOCKS, sizes[i], 8, 2);
            embed((vlcache_dtype)dtype, VLCI_PAIRS, sizes[i], 1, 2);
        }
}
END_TEST

START_TEST(gathered_rows) {
    static const int source[] = {3, -1, 0, 0, 4, -7, 2}, sizes[] = {1, 9, 64, 100};
    enum { ROWS = sizeof source / sizeof *source, FROM = 5 };
    vlci_embed_kernels kernels;
    ck_ok(vlci_embed_open(suite_device(), VLCACHE_DTYPE_F16, VLCI_ROWS, &kernels));
    for (int s = 0; s < 4; s++) {
        int n = sizes[s];
        float *x = floats_random(&seed, (size_t)(FROM * n), 1, 0),
              *other = floats_random(&seed, (size_t)n, 1, 5);
        float *want = malloc(sizeof *want * (size_t)(ROWS * n));
        for (int r = 0; r < ROWS; r++)
            memcpy(want + r * n, source[r] < 0 ? other : x + source[r] * n, sizeof *want * (size_t)n);
        cl_mem in = floats_upload(x, (size_t)(FROM * n)), on_other = floats_upload(other, (size_t)n);
        cl_mem on_source = suite_upload(source, sizeof source), out = floats_poisoned((size_t)(ROWS * n));
        ck_ok(vlci_gather_run(&kernels, in, on_other, on_source, out, ROWS, n));
        float *got = floats_take(out, (size_t)(ROWS * n));
        floats_same("gather", got, want, (size_t)(ROWS * n));
        suite_release(in);
        suite_release(on_other);
        suite_release(on_source);
        free(x);
        free(other);
        free(want);
        free(got);
    }
}
END_TEST

/* What a blend of rows comes to, in double; what a weight of 0 stands before is not read. */
static double blended(const vlci_blend *b, const float *x, const float *other, int n, int i) {
    double sum = 0;
    if (b->from[0] < 0) return other[i];
    for (int k = 0; k < 4; k++)
        if (b->weight[k] != 0) sum += (double)b->weight[k] * x[b->from[k] * n + i];
    return sum;
}

START_TEST(blended_rows) {
    static const vlci_blend source[] = {{{0, 1, 2, 3}, {0.1f, 0.2f, 0.3f, 0.4f}},
                                        {{-1, -1, -1, -1}, {0, 0, 0, 0}},
                                        {{4, 1 << 30, -7, 4}, {1, 0, 0, 0}},
                                        {{2, 2, 2, 2}, {0.25f, 0.25f, 0.25f, 0.25f}},
                                        {{3, 0, 0, 1}, {-2, 0, 0.5f, 3}}};
    static const int sizes[] = {1, 9, 64};
    enum { ROWS = sizeof source / sizeof *source, FROM = 5 };
    vlci_embed_kernels kernels;
    ck_ok(vlci_embed_open(suite_device(), VLCACHE_DTYPE_F32, VLCI_PANELS, &kernels));
    for (int s = 0; s < 3; s++) {
        int n = sizes[s];
        float *x = floats_random(&seed, (size_t)(FROM * n), 1, 0),
              *other = floats_random(&seed, (size_t)n, 1, 5);
        double *want = malloc(sizeof *want * (size_t)(ROWS * n));
        for (int i = 0; i < ROWS * n; i++) want[i] = blended(&source[i / n], x, other, n, i % n);
        cl_mem in = floats_upload(x, (size_t)(FROM * n)), on_other = floats_upload(other, (size_t)n);
        cl_mem on_source = suite_upload(source, sizeof source), out = floats_poisoned((size_t)(ROWS * n));
        ck_ok(vlci_blend_run(&kernels, in, on_other, on_source, out, ROWS, n));
        float *got = floats_take(out, (size_t)(ROWS * n));
        suite_close("blend", got, want, (size_t)(ROWS * n), 1e-6, 1e-6);
        suite_release(in);
        suite_release(on_other);
        suite_release(on_source);
        free(x);
        free(other);
        free(want);
        free(got);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("embed");
    TCase *c = tcase_create("embed");
    suite_balance(c);
    tcase_add_test(c, embeddings);
    tcase_add_test(c, gathered_rows);
    tcase_add_test(c, blended_rows);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
