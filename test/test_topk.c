/*
 * test_topk.c - the choice of tokens against a full sort: random, tied, not-a-number, every size from 1 to
 * 128K.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/topk.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { LAYERS = 3, KV = 3, HEADS = LAYERS * KV, GAP = 2 };

/* Head h of a layer keeps what `keep` says; scores: [layers][KV][tokens]. Layers from `layer` on: scores and
 * places of the others are not touched, and places between two heads' either. */
static void compare(const float *scores, int tokens, const vlci_keep *own, int layer, int layers) {
    size_t n_out = 0;
    vlci_topk_kernels kernels;
    vlci_keep keep[HEADS];
    for (int h = 0; h < HEADS; h++) {
        keep[h] = own[h];
        keep[h].first = (vlci_i32)n_out;
        n_out += (size_t)own[h].kept + GAP;
    }
    int *got = malloc(n_out * sizeof *got), *want = malloc((size_t)tokens * sizeof *want);
    cl_mem score = scores ? suite_upload(scores, (size_t)HEADS * (size_t)tokens * sizeof *scores) : NULL;
    cl_mem out = suite_poison(n_out * sizeof *got), on = suite_upload(keep, sizeof keep);
    vlci_heads heads = {.device = suite_device(),
                        .shape = {.layers = LAYERS, .kv_heads = KV},
                        .layer = layer,
                        .layers = layers,
                        .tokens = tokens,
                        .own = keep,
                        .keep = on};
    ck_ok(vlci_topk_open(suite_device(), &kernels));
    ck_ok(vlci_topk(&heads, &kernels, score, (size_t)(layer * KV * tokens), out));
    suite_download(out, got, n_out * sizeof *got);
    for (int h = 0; h < HEADS; h++) {
        const vlci_keep *k = &keep[h];
        bool meant = h >= layer * KV && h < (layer + layers) * KV;
        ref_topk(scores ? scores + (size_t)h * (size_t)tokens : NULL, tokens, k->kept, k->recent, k->sinks,
                 want);
        for (int i = 0; i < k->kept + GAP; i++)
            ck_assert_msg(got[k->first + i] == (meant && i < k->kept ? want[i] : -1),
                          "head %d place %d of %d: %d, expected %d", h, i, k->kept, got[k->first + i],
                          meant && i < k->kept ? want[i] : -1);
    }
    cl_mem all[] = {out, on, score};
    for (size_t i = 0; i < (scores ? 3 : 2); i++) suite_release(all[i]);
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

/* Every head of another budget: the first the whole share, others less of it, one row, none beyond the
 * recent, all. */
static void spread_budgets(int n, double share, int sinks, vlci_keep *own) {
    for (int h = 0; h < HEADS; h++) {
        int whole = (int)fmax(1.0, round(share * n));
        int kept = h % 4 == 0 ? whole : h % 4 == 1 ? (whole + 1) / 2 : h % 4 == 2 ? 1 : n;
        int recent = (int)fmax(1.0, round(0.1 * kept));
        if (h == 6) recent = kept;
        own[h] = (vlci_keep){.kept = kept, .recent = recent};
        own[h].sinks = sinks < kept - recent ? sinks : kept - recent;
    }
}

static void try_size(int n, double share, enum kind kind) {
    float *scores = malloc((size_t)HEADS * (size_t)n * sizeof *scores);
    uint64_t seed = (uint64_t)n * 31 + (uint64_t)kind;
    vlci_keep own[HEADS];
    for (int h = 0; h < HEADS; h++)
        for (int j = 0; j < n; j++) scores[(size_t)h * (size_t)n + (size_t)j] = value(kind, &seed, j, n);
    spread_budgets(n, share, kind == FEW_VALUES || kind == ODD_FLOATS ? 4 : 0, own);
    if (!suite_reduced()) compare(scores, n, own, 0, LAYERS);
    compare(scores, n, own, 1, 1);
    free(scores);
}

START_TEST(test_sizes) {
    static const int sizes[] = {1, 2, 3, 31, 64, 255, 256, 257, 600, 2880};
    static const double shares[] = {0.01, 0.1, 0.5, 1.0};
    for (int i = 0; i < (suite_reduced() ? 4 : 10); i += suite_reduced() && i == 1 ? 2 : 1) /* 1, 2, 31 */
        for (int s = 0; s < 4; s += suite_reduced() ? 2 : 1)
            for (int kind = 0; kind < KINDS; kind++) try_size(sizes[i], shares[s], (enum kind)kind);
}
END_TEST

/* Without scores: sinks and the last tokens. */
START_TEST(test_sinks_only) {
    static const int sizes[] = {1, 3, 5, 64, 600};
    for (int i = 0; i < (suite_reduced() ? 3 : 5); i++)
        for (int kept = 1; kept <= sizes[i]; kept += 1 + sizes[i] / 7) {
            vlci_keep own[HEADS];
            for (int h = 0; h < HEADS; h++) {
                int rows = kept > h ? kept - h : 1, recent = rows > 4 ? rows - 4 : 1;
                own[h] = (vlci_keep){.kept = rows, .recent = recent};
                own[h].sinks = rows - recent < 4 ? rows - recent : 4;
            }
            compare(NULL, sizes[i], own, i % 2, LAYERS - i % 2);
        }
}
END_TEST

START_TEST(test_long) {
    int n = suite_reduced() ? 600 : 131072;
    try_size(n, 0.1, RANDOM);
    try_size(n, 0.1, FEW_VALUES);
}
END_TEST

START_TEST(test_rungs) {
    static const char *const rungs[] = {"topk:group", "topk:single"};
    for (size_t i = 0; i < 2; i++) {
        suite_set("VLCACHE_VARIANT", rungs[i]);
        for (int kind = 0; kind < KINDS; kind++) try_size(suite_reduced() ? 67 : 601, 0.1, (enum kind)kind);
        try_size(1, 1.0, RANDOM);
    }
    suite_set("VLCACHE_VARIANT", NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("topk");
    TCase *all = tcase_create("topk");
    tcase_add_test(all, test_sizes);
    tcase_add_test(all, test_sinks_only);
    tcase_add_test(all, test_long);
    tcase_add_test(all, test_rungs);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
