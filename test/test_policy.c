/*
 * test_policy.c - names, axes, ranges, what does not go together, plans that cannot be made, and plans that
 * look through the same scores.
 */
#include <math.h>
#include <string.h>

#include "compress/compress.h"
#include "support/suite.h"

static vlcache_compress_options options_of(const char *policy) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.policy = policy;
    return options;
}

/* ---- names and axes ------------------------------------------------------------------------------------ */

START_TEST(test_names) {
    vlci_recipe r;
    vlcache_compress_options options = options_of(NULL);
    ck_ok(vlci_policy_read(&options, &r));
    ck_assert_str_eq(r.policy, "vlcache");
    ck_assert_str_eq(vlcache_policy_name(0), "vlcache");
    options = options_of("Full");
    ck_fails(vlci_policy_read(&options, &r), VLCACHE_E_ARGUMENT,
             "vlcache, vlcache+, full, streamingllm, h2o");
    size_t n = 0;
    for (const char *name; (name = vlcache_policy_name(n)); n++) { /* every row reads */
        options = options_of(name);
        ck_ok(vlci_policy_read(&options, &r));
        ck_assert_str_eq(r.policy, name);
        ck_assert(r.compresses == (strcmp(name, "full") != 0));
    }
    ck_assert_uint_ge(n, 6);
}
END_TEST

static vlci_recipe recipe_of(const char *policy) {
    vlci_recipe r;
    vlcache_compress_options options = options_of(policy);
    ck_ok(vlci_policy_read(&options, &r));
    return r;
}

START_TEST(test_rows_of_the_table) {
    vlci_recipe r = recipe_of("vlcache");
    ck_assert(r.allocation == VLCI_ALLOCATE_MIXED && r.uniform == 0.0);
    ck_assert(r.scoring == VLCI_SCORE_POST_VISION && r.per_head && r.pooling == VLCI_POOL_NONE);
    ck_assert(r.sinks == 0 && r.defer == 0 && r.centroids == 0.0 && r.recent == 0.10);
    r = recipe_of("vlcache+");
    ck_assert(r.uniform == 1.0 && r.scoring == VLCI_SCORE_POST_VISION && r.per_head && r.defer == 4);
    ck_assert(r.pooling == VLCI_POOL_GRID && r.pool_rows == 1 && r.pool_columns == 5);
    ck_assert(r.spread && fabs(r.centroids - 0.75) < 1e-9 && r.iterations == 0);
    r = recipe_of("streamingllm");
    ck_assert(r.scoring == VLCI_SCORE_NONE && r.sinks == 4 && r.uniform == 1.0);
    r = recipe_of("h2o");
    ck_assert(r.scoring == VLCI_SCORE_ACCUMULATED && r.uniform == 1.0 && r.recent == 0.10);
    r = recipe_of("snapkv");
    ck_assert(r.scoring == VLCI_SCORE_WINDOW && r.window == 32 && r.uniform == 1.0);
    ck_assert(r.pooling == VLCI_POOL_LINE && r.pool_columns == 7);
    r = recipe_of("pyramidkv");
    ck_assert(r.allocation == VLCI_ALLOCATE_PYRAMID && r.scoring == VLCI_SCORE_WINDOW && r.window == 8);
}
END_TEST

START_TEST(test_axes) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("vlcache"), all;
    o.allocation = "mixed:0.25";
    o.scoring = "window:16";
    o.selection = "per-layer";
    o.pooling = "grid:3x5";
    o.defer = "4:2.5";
    o.summary = "kmeans:0.5:7";
    o.sinks = 3;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.uniform == 0.25 && r.window == 16 && !r.per_head && r.sinks == 3);
    ck_assert(r.pooling == VLCI_POOL_GRID && r.pool_rows == 3 && r.pool_columns == 5);
    ck_assert(r.defer == 4 && r.defer_weight == 2.5 && r.centroids == 0.5 && r.iterations == 7);
    o.allocation = "mixed";
    o.defer = "2";
    o.summary = "kmeans:0.25";
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.uniform == 0.8 && r.defer == 2 && r.defer_weight == 4.0 && r.iterations == 3 && !r.spread);
    o.summary = "spread:0.25";
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.spread && r.centroids == 0.25 && r.iterations == 0);
    o.summary = "spread:0.5:2";
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.spread && r.iterations == 2);
    o = options_of("h2o");
    o.pooling = "1d:3";
    ck_ok(vlcache_compress_resolve(&o, &all));
    ck_assert_str_eq(all.allocation, "uniform");
    ck_assert_str_eq(all.scoring, "accumulated");
    ck_assert_str_eq(all.pooling, "1d:3");
    ck_assert_int_eq(all.sinks, 0);
    o = options_of("full");
    ck_ok(vlcache_compress_resolve(&o, &all));
    ck_assert_ptr_null(all.allocation);
}
END_TEST

static void refused(size_t field, const char *text, const char *why) {
    vlcache_compress_options o = options_of("vlcache");
    memcpy((char *)&o + field, &text, sizeof text);
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, why);
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, text);
}

START_TEST(test_bad_axes) {
    static const char *const allocations[] = {"",           "Uniform",    "mixed:",   "mixed:1.1",
                                              "mixed:0.5x", "mixed:-0.5", "mixed:.5", "uniform "};
    static const char *const scorings[] = {"", "window", "window:0", "window:8x", "window: 8", "h2o"};
    static const char *const poolings[] = {"1d:4",     "1d:",      "grid:3", "grid:2x3",
                                           "grid:3x4", "grid:0x1", "1d:257", "grid:1x5x5"};
    static const char *const defers[] = {"0", "4:", "-1", "4:x", "four", "99999999999999999999"};
    static const char *const summaries[] = {"kmeans",         "kmeans:0",         "kmeans:1", "kmeans:0.5:",
                                            "kmeans:0.5:101", "spread",           "spread:",  "spread:1.5",
                                            "spread:0.5:x",   "spread:kmeans:0.5"};
#define EACH(texts, field, why)                                                                              \
    for (size_t i = 0; i < sizeof(texts) / sizeof *(texts); i++)                                             \
    refused(offsetof(vlcache_compress_options, field), (texts)[i], why)
    EACH(allocations, allocation, "uniform, sparsity, pyramid or mixed");
    EACH(scorings, scoring, "post-vision, accumulated, window");
    EACH(poolings, pooling, "none, 1d:W or grid:HxW");
    EACH(defers, defer, "none or D[:WEIGHT]");
    EACH(summaries, summary, "none, kmeans:SHARE[:ITERATIONS] or spread:SHARE");
    refused(offsetof(vlcache_compress_options, selection), "head", "per-head or per-layer");
}
END_TEST

START_TEST(test_together) {
    vlcache_compress_options o = options_of("streamingllm");
    o.pooling = "1d:3";
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "must be none with scoring sink+recent");
    o = options_of("streamingllm");
    o.defer = "4";
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "defer");
    o.scoring = "post-vision";
    ck_ok(vlcache_compress_check(&o));
    o = options_of("full");
    o.summary = "none";
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "keeps everything");
}
END_TEST

START_TEST(test_ranges) {
    static const double bad_budgets[] = {0.0, -0.1, 1.01, NAN}, bad_shares[] = {-0.01, 1.5, NAN, INFINITY};
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT, fresh = options;
    ck_ok(vlcache_compress_check(&options));
    for (int i = 0; i < 4; i++) {
        options = fresh;
        options.budget = bad_budgets[i];
        ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "budget");
        options = fresh;
        options.threshold = bad_shares[i];
        ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "threshold");
        options = fresh;
        options.recent = bad_shares[i];
        ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "recent");
    }
    options = fresh;
    options.sinks = -2;
    ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "sinks");
    options = fresh;
    options.size = 8;
    ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "size");
    ck_fails(vlcache_compress_check(NULL), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* ---- plans --------------------------------------------------------------------------------------------- */

START_TEST(test_create) {
    vlci_recipe r = recipe_of("vlcache");
    vlci_compress_shape shape = {2, 1, 4, 2, 16, VLCACHE_DTYPE_F32}, bad = shape;
    int tokens = 10, text = 11;
    vlci_compress_prompt prompt = {.tokens = &tokens, .text = &text};
    vlci_compress *plan = NULL;
    uint64_t before = vlci_memory_now(suite_device());
    ck_fails(vlci_compress_create(suite_device(), &r, &shape, &prompt, NULL, 0, &plan), VLCACHE_E_ARGUMENT,
             "11 tokens of text");
    text = 3;
    bad.kv_heads = 3;
    ck_fails(vlci_compress_create(suite_device(), &r, &bad, &prompt, NULL, 0, &plan), VLCACHE_E_ARGUMENT,
             "3 kv heads");
    ck_ok(vlci_compress_create(suite_device(), &r, &shape, &prompt, NULL, 0, &plan));
    ck_fails(vlci_compress_plan(plan), VLCACHE_E_INTERNAL, "layer 0 was not observed");
    vlci_compress_destroy(&plan);
    ck_assert_ptr_null(plan);
    vlci_compress_destroy(&plan);
    r = recipe_of("full");
    ck_ok(vlci_compress_create(suite_device(), &r, &shape, &prompt, NULL, 0, &plan));
    ck_assert_ptr_null(plan);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}
END_TEST

/* Lists are the union of what scores and what is counted; a sequence without text rows has its last ones. */
START_TEST(test_rows) {
    enum { S = VLCI_ROW_SCORED, C = VLCI_ROW_COUNTED };
    static const struct {
        const char *policy;
        int window; /* scores come from this many last rows; 0: as the policy has it */
        int entry[2][12];
        int listed[2];
    } wants[] = {
        {"vlcache",
         0,
         {{VLCI_ROW(3, S | C), VLCI_ROW(4, S | C), VLCI_ROW(8, S | C)},
          {VLCI_ROW(0, S | C), VLCI_ROW(1, S | C), VLCI_ROW(2, S | C)}},
         {3, 3}},
        {"h2o",
         0,
         {{VLCI_ROW(0, S), VLCI_ROW(1, S), VLCI_ROW(2, S), VLCI_ROW(3, S | C), VLCI_ROW(4, S | C),
           VLCI_ROW(5, S), VLCI_ROW(6, S), VLCI_ROW(7, S), VLCI_ROW(8, S | C), VLCI_ROW(9, S)},
          {VLCI_ROW(0, S | C), VLCI_ROW(1, S | C), VLCI_ROW(2, S | C)}},
         {10, 3}},
        {"pyramidkv",
         0,
         {{VLCI_ROW(2, S), VLCI_ROW(3, S), VLCI_ROW(4, S), VLCI_ROW(5, S), VLCI_ROW(6, S), VLCI_ROW(7, S),
           VLCI_ROW(8, S), VLCI_ROW(9, S)},
          {VLCI_ROW(0, S), VLCI_ROW(1, S), VLCI_ROW(2, S)}},
         {8, 3}},
        {"vlcache",
         2,
         {{VLCI_ROW(3, C), VLCI_ROW(4, C), VLCI_ROW(8, S | C), VLCI_ROW(9, S)},
          {VLCI_ROW(0, C), VLCI_ROW(1, S | C), VLCI_ROW(2, S | C)}},
         {4, 3}},
        {"streamingllm", 0, {{0}}, {0, 0}},
    };
    int tokens[] = {10, 3}, text[] = {3, 0}, text_rows[] = {3, 4, 8};
    vlci_compress_prompt prompt = {.tokens = tokens, .text = text, .text_rows = text_rows};
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        vlci_recipe r = recipe_of(wants[i].policy);
        vlci_rows rows, again;
        if (wants[i].window) r.scoring = VLCI_SCORE_WINDOW, r.window = wants[i].window;
        ck_ok(vlci_rows_create(&r, &prompt, 2, &rows));
        for (int b = 0; b < 2; b++) {
            ck_assert_int_eq(rows.start[b + 1] - rows.start[b], wants[i].listed[b]);
            for (int t = 0; t < wants[i].listed[b]; t++)
                ck_assert_int_eq(rows.entry[rows.start[b] + t], wants[i].entry[b][t]);
        }
        ck_ok(vlci_rows_copy(&rows, 2, &again));
        ck_assert(vlci_rows_equal(&rows, &again, 2));
        vlci_rows_release(&rows);
        vlci_rows_release(&again);
    }
}
END_TEST

static int listed(const vlci_compress *plan, int flag) {
    const vlci_rows *rows = &plan->seen->rows;
    int n = 0;
    for (int i = rows->start[0]; i < rows->start[1]; i++) n += (rows->entry[i] & flag) != 0;
    return n;
}

/* Plans that look at the same rows share what they see; sinks and recent tokens need to see nothing. */
START_TEST(test_shared) {
    static const char *const names[] = {"vlcache", "h2o", "vlcache", "streamingllm", "h2o", "snapkv"};
    vlci_compress_shape shape = {2, 1, 4, 2, 16, VLCACHE_DTYPE_F32};
    int tokens = 100, text = 5;
    vlci_compress_prompt prompt = {.tokens = &tokens, .text = &text};
    vlci_compress *plans[6];
    uint64_t before = vlci_memory_now(suite_device());
    for (size_t i = 0; i < 6; i++) {
        vlci_recipe r = recipe_of(names[i]);
        r.budget = 0.05 * (double)(i + 1);
        ck_ok(vlci_compress_create(suite_device(), &r, &shape, &prompt, plans, i, &plans[i]));
    }
    ck_assert_ptr_eq(plans[0]->seen, plans[2]->seen);
    ck_assert_ptr_eq(plans[1]->seen, plans[4]->seen);
    ck_assert_ptr_ne(plans[0]->seen, plans[1]->seen);
    ck_assert_ptr_ne(plans[0]->seen, plans[5]->seen);
    ck_assert_ptr_null(plans[3]->seen);
    ck_assert_int_eq(listed(plans[0], VLCI_ROW_SCORED), 5);
    ck_assert_int_eq(listed(plans[1], VLCI_ROW_SCORED), 100);
    ck_assert_int_eq(listed(plans[1], VLCI_ROW_COUNTED), 5);
    ck_assert_int_eq(listed(plans[5], VLCI_ROW_SCORED), 32);
    ck_assert(!plans[5]->seen->counts_rows);
    for (size_t i = 0; i < 6; i++) vlci_compress_destroy(&plans[i]);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy");
    TCase *all = tcase_create("policy");
    tcase_add_test(all, test_names);
    tcase_add_test(all, test_rows_of_the_table);
    tcase_add_test(all, test_axes);
    tcase_add_test(all, test_bad_axes);
    tcase_add_test(all, test_together);
    tcase_add_test(all, test_ranges);
    tcase_add_test(all, test_create);
    tcase_add_test(all, test_rows);
    tcase_add_test(all, test_shared);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
