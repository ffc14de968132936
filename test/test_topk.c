/*
 * test_topk.c - the choice of tokens against a full sort: random, tied, not-a-number, every size from 1 to
 * 128K.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { BATCH = 2, HEADS = 3 };

/* scores: [BATCH][HEADS][stride]. Sequence 1 is half as long. */
static void compare(const float *scores, int stride, const int *tokens, const int *kept, const int *recent,
                    int sinks) {
    int rows = kept[0] > kept[1] ? kept[0] : kept[1];
    size_t n_out = (size_t)BATCH * HEADS * (size_t)rows;
    int *got = malloc(n_out * sizeof *got), *want = malloc((size_t)rows * sizeof *want);
    int shifted_kept[] = {-1, kept[0], kept[1]}, shifted_recent[] = {-1, recent[0], recent[1]};
    cl_mem score =
        scores ? suite_upload(scores, (size_t)BATCH * HEADS * (size_t)stride * sizeof *scores) : NULL;
    cl_mem on_tokens = suite_upload(tokens, BATCH * sizeof *tokens);
    cl_mem on_kept = suite_upload(shifted_kept, sizeof shifted_kept);
    cl_mem on_recent = suite_upload(shifted_recent, sizeof shifted_recent);
    cl_mem out = suite_poison(n_out * sizeof *got);
    ck_ok(vlci_topk(suite_device(), score, BATCH, HEADS, stride, on_tokens, on_kept, on_recent, 1, sinks, out,
                    rows));
    suite_download(out, got, n_out * sizeof *got);
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++) {
            size_t row = (size_t)b * HEADS + (size_t)h;
            ref_topk(scores ? scores + row * (size_t)stride : NULL, tokens[b], kept[b], recent[b], sinks,
                     want);
            for (int i = 0; i < rows; i++)
                ck_assert_msg(got[row * (size_t)rows + (size_t)i] == (i < kept[b] ? want[i] : -1),
                              "sequence %d head %d place %d of %d: %d, expected %d", b, h, i, kept[b],
                              got[row * (size_t)rows + (size_t)i], i < kept[b] ? want[i] : -1);
        }
    cl_mem all[] = {score, on_tokens, on_kept, on_recent, out};
    for (size_t i = scores ? 0 : 1; i < 5; i++) suite_release(all[i]);
    free(got);
    free(want);
}

enum kind { RANDOM, EQUAL, SPIKE, FEW_VALUES, ODD_FLOATS, KINDS };

static float value(enum kind kind, uint64_t *seed, int j, int n) {
    static const float odd[] = {NAN, -0.0f, 0.0f, INFINITY, -INFINITY, 1e-45f, 3.0f, -3.0f};
    float r = suite_random(seed);
    switch (kind) {
    case RANDOM:
        return r * r * r;
    case EQUAL:
        return 0.25f;
    case SPIKE:
        return j == n / 3 ? 1.0f : 0.0f;
    case FEW_VALUES:
        return floorf(r * 3.0f);
    default:
        return odd[(int)((r + 1.0f) * 4.0f) & 7];
    }
}

static void try_size(int n, double share, enum kind kind) {
    int tokens[] = {n, (n + 1) / 2}, kept[BATCH], recent[BATCH];
    float *scores = malloc((size_t)BATCH * HEADS * (size_t)n * sizeof *scores);
    uint64_t seed = (uint64_t)n * 31 + (uint64_t)kind;
    for (int row = 0; row < BATCH * HEADS; row++)
        for (int j = 0; j < n; j++) scores[(size_t)row * (size_t)n + (size_t)j] = value(kind, &seed, j, n);
    for (int b = 0; b < BATCH; b++) {
        kept[b] = (int)fmax(1.0, round(share * tokens[b]));
        recent[b] = (int)fmax(1.0, round(0.1 * kept[b]));
    }
    compare(scores, n, tokens, kept, recent, kind == FEW_VALUES || kind == ODD_FLOATS ? 4 : 0);
    free(scores);
}

START_TEST(test_sizes) {
    static const int sizes[] = {1, 2, 3, 31, 64, 255, 256, 257, 600, 2880};
    static const double shares[] = {0.01, 0.1, 0.5, 1.0};
    for (int i = 0; i < (suite_reduced() ? 4 : 10); i++)
        for (int s = 0; s < 4; s++)
            for (int kind = 0; kind < KINDS; kind++) try_size(sizes[i], shares[s], (enum kind)kind);
}
END_TEST

/* Without scores: sinks and the last tokens. */
START_TEST(test_sinks_only) {
    static const int sizes[] = {1, 3, 5, 64, 600};
    for (int i = 0; i < (suite_reduced() ? 3 : 5); i++)
        for (int kept = 1; kept <= sizes[i]; kept += 1 + sizes[i] / 7) {
            int n = sizes[i], half = (n + 1) / 2, tokens[] = {n, half}, rows[] = {kept, kept};
            if (rows[1] > half) rows[1] = half;
            int recent[] = {rows[0] > 4 ? rows[0] - 4 : 1, rows[1] > 4 ? rows[1] - 4 : 1};
            compare(NULL, n, tokens, rows, recent, 4);
        }
}
END_TEST

START_TEST(test_long) {
    int n = suite_reduced() ? 1500 : 131072;
    try_size(n, 0.1, RANDOM);
    try_size(n, 0.1, FEW_VALUES);
}
END_TEST

START_TEST(test_rungs) {
    static const char *const rungs[] = {"topk:group", "topk:single"};
    for (size_t i = 0; i < 2; i++) {
        setenv("VLCACHE_VARIANT", rungs[i], 1);
        for (int kind = 0; kind < KINDS; kind++) try_size(suite_reduced() ? 131 : 601, 0.1, (enum kind)kind);
        try_size(1, 1.0, RANDOM);
    }
    unsetenv("VLCACHE_VARIANT");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("topk");
    TCase *all = tcase_create("topk");
    tcase_add_test(all, test_sizes);
    tcase_add_test(all, test_sinks_only);
    tcase_add_test(all, test_long);
    tcase_add_test(all, test_rungs);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
