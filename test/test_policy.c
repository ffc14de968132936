/*
 * test_policy.c - names, axes, ranges, what does not go together, and the rows that a policy looks at.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/rows.h"
#include "support/suite.h"

static vlcache_compress_options options_of(const char *policy) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.policy = policy;
    return options;
}

/* Field by field: what lies between them is nobody's. */
static void check_same(const vlcache_compress_options *a, const vlcache_compress_options *b) {
    ck_assert_str_eq(a->policy, b->policy);
    ck_assert(a->size == b->size && a->budget == b->budget && a->threshold == b->threshold);
    ck_assert(a->recent == b->recent && a->sinks == b->sinks);
    ck_assert(a->allocation == b->allocation && a->uniform == b->uniform);
    ck_assert(a->scoring == b->scoring && a->window == b->window && a->candidates == b->candidates);
    ck_assert(a->selection == b->selection && a->floor == b->floor && a->n_shares == b->n_shares);
    ck_assert(a->pooling == b->pooling && a->pool_rows == b->pool_rows && a->pool_columns == b->pool_columns);
    ck_assert(a->defer == b->defer && a->defer_weight == b->defer_weight);
    ck_assert(a->summary == b->summary && a->iterations == b->iterations && a->centroids == b->centroids);
    ck_assert(a->storage == b->storage && a->run == b->run && a->bits == b->bits);
    ck_assert(a->key_bits == b->key_bits && a->value_bits == b->value_bits && a->age == b->age);
    ck_assert(!memcmp(a->shares, b->shares, sizeof a->shares) &&
              !memcmp(a->more_shares, b->more_shares, sizeof a->more_shares));
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
    ck_assert_str_eq(vlcache_last_error()->field, "compress.policy");
    ck_assert_str_eq(vlcache_last_error()->value, "Full");
    ck_assert(strncmp(vlcache_last_error()->hint, "use one of vlcache, ", 20) == 0);
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
    ck_assert(!r.coded);
    r = recipe_of("coded");
    ck_assert(r.uniform == 1.0 && r.scoring == VLCI_SCORE_POST_VISION && r.per_head && r.defer == 4);
    ck_assert(r.coded && r.run == 1 && r.run_by_layer == 16 && r.bits == 0.0 && r.centroids == 0.0 &&
              r.pooling == VLCI_POOL_NONE);
}
END_TEST

/* What is given replaces the policy's; a number that is not is the policy's where the axis is, else the
 * usual. */
START_TEST(test_axes) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("vlcache");
    o.allocation = VLCACHE_ALLOCATION_MIXED;
    o.uniform = 0.25;
    o.scoring = VLCACHE_SCORING_WINDOW;
    o.window = 16;
    o.selection = VLCACHE_SELECTION_PER_LAYER;
    o.pooling = VLCACHE_POOLING_GRID;
    o.pool_rows = 3;
    o.pool_columns = 5;
    o.defer = 4;
    o.defer_weight = 2.5;
    o.summary = VLCACHE_SUMMARY_KMEANS;
    o.centroids = 0.5;
    o.iterations = 7;
    o.sinks = 3;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.uniform == 0.25 && r.window == 16 && !r.per_head && !r.adaptive && r.sinks == 3);
    ck_assert(r.pooling == VLCI_POOL_GRID && r.pool_rows == 3 && r.pool_columns == 5);
    ck_assert(r.defer == 4 && r.defer_weight == 2.5 && r.centroids == 0.5 && r.iterations == 7 && !r.spread);
    o.uniform = o.defer_weight = o.iterations = VLCACHE_AS_POLICY;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.uniform == 0.8 && r.defer_weight == 4.0 && r.iterations == 3);
    o.summary = VLCACHE_SUMMARY_SPREAD;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.spread && r.centroids == 0.5 && r.iterations == 0);
    o = options_of("vlcache+");
    o.centroids = 0.5;
    o.pool_columns = 9;
    o.defer = 2;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.spread && r.centroids == 0.5 && r.pool_rows == 1 && r.pool_columns == 9);
    ck_assert(r.defer == 2 && r.defer_weight == 4.0 && r.iterations == 0);
    o = options_of("pyramidkv");
    o.window = 16;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.window == 16 && r.pooling == VLCI_POOL_LINE && r.pool_columns == 7);
}
END_TEST

START_TEST(test_adaptive) {
    vlci_recipe r = recipe_of("vlcache");
    vlcache_compress_options o = options_of("vlcache");
    ck_assert(r.per_head && !r.adaptive);
    o.selection = VLCACHE_SELECTION_ADAPTIVE;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.per_head && r.adaptive && r.floor == 0.2);
    o.floor = 0.0;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.adaptive && r.floor == 0.0);
    o = options_of("streamingllm");
    o.selection = VLCACHE_SELECTION_ADAPTIVE;
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT,
             "must be per-head or per-layer with scoring sink+rec");
}
END_TEST

START_TEST(test_resolve) {
    vlcache_compress_options o = options_of("h2o"), all = VLCACHE_COMPRESS_OPTIONS_INIT, again = all;
    o.pooling = VLCACHE_POOLING_LINE;
    o.pool_columns = 3;
    ck_ok(vlcache_compress_resolve(&o, &all));
    ck_assert(all.allocation == VLCACHE_ALLOCATION_UNIFORM && all.scoring == VLCACHE_SCORING_ACCUMULATED);
    ck_assert(all.pooling == VLCACHE_POOLING_LINE && all.pool_columns == 3 && all.sinks == 0);
    ck_assert(all.uniform == VLCACHE_AS_POLICY && all.pool_rows == VLCACHE_AS_POLICY && all.defer == 0);
    ck_ok(vlcache_compress_resolve(&all, &again)); /* it may go in again */
    check_same(&again, &all);
    o = options_of("full");
    ck_ok(vlcache_compress_resolve(&o, &all));
    ck_assert(all.allocation == VLCACHE_ALLOCATION_AS_POLICY && all.defer == VLCACHE_AS_POLICY);
    ck_ok(vlcache_compress_resolve(&all, &again));
    again.size = 0;
    ck_fails(vlcache_compress_resolve(&o, &again), VLCACHE_E_ARGUMENT, "size");
}
END_TEST

/* ---- axes as text -------------------------------------------------------------------------------------- */

static const char *const axis_names[] = {"allocation", "scoring", "selection", "pooling",
                                         "defer",      "summary", "storage",   "candidates"};
enum { AXES = sizeof axis_names / sizeof *axis_names };

/* The table's rows as results files have had them from the first. */
START_TEST(test_texts_of_the_table) {
    static const struct {
        const char *policy, *text[AXES];
    } rows[] = {
        {"vlcache", {"sparsity", "post-vision", "per-head", "none", "none", "none", "exact", "all"}},
        {"vlcache+",
         {"uniform", "post-vision", "per-head", "grid:1x5", "4:4", "spread:0.75", "exact", "all"}},
        {"full", {"", "", "", "", "", "", "", ""}},
        {"streamingllm", {"uniform", "sink+recent", "per-head", "none", "none", "none", "exact", "all"}},
        {"h2o", {"uniform", "accumulated", "per-head", "none", "none", "none", "exact", "all"}},
        {"snapkv", {"uniform", "window:32", "per-head", "1d:7", "none", "none", "exact", "all"}},
        {"pyramidkv", {"pyramid", "window:8", "per-head", "1d:7", "none", "none", "exact", "all"}},
        {"coded", {"uniform", "post-vision", "per-head", "none", "4:4", "none", "coded", "all"}},
    };
    char text[VLCACHE_AXIS_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlcache_compress_options o = options_of(rows[i].policy);
        ck_assert_str_eq(vlcache_policy_name(i), rows[i].policy);
        for (size_t axis = 0; axis < AXES; axis++) {
            ck_ok(vlcache_compress_get(&o, axis_names[axis], text));
            ck_assert_str_eq(text, rows[i].text[axis]);
        }
    }
}
END_TEST

/* What is set comes back, in one spelling, and that reads as the same. */
START_TEST(test_texts) {
    static const struct {
        const char *axis, *given, *back;
    } texts[] = {
        {"allocation", "uniform", "uniform"},
        {"allocation", "mixed", "mixed:0.8"},
        {"allocation", "mixed:0.50", "mixed:0.5"},
        {"allocation", "mixed:1", "mixed:1"},
        {"allocation", "mixed:0", "mixed:0"},
        {"allocation", "pyramid", "pyramid"},
        {"allocation", "mixed:0.1", "mixed:0.1"},
        {"allocation", "mixed:0.123456789012", "mixed:0.123456789012"},
        {"allocation", "layers:1", "layers:1"},
        {"allocation", "layers:.5,0,1.250,1000", "layers:0.5,0,1.25,1000"},
        {"allocation", "layers:0.1234567891,3", "layers:0.123457,3"},
        {"scoring", "accumulated", "accumulated"},
        {"scoring", "window:1", "window:1"},
        {"scoring", "window:1048576", "window:1048576"},
        {"selection", "per-layer", "per-layer"},
        {"selection", "adaptive", "adaptive:0.2"},
        {"selection", "adaptive:0.35", "adaptive:0.35"},
        {"selection", "per-prompt:0.25", "per-prompt:0.25"},
        {"selection", "per-prompt:.5", "per-prompt:0.5"},
        {"selection", "adaptive:.2", "adaptive:0.2"},
        {"selection", "per-prompt:1.0", "per-prompt:1"},
        {"pooling", "none", "none"},
        {"pooling", "1d:255", "1d:255"},
        {"pooling", "grid:3x1", "grid:3x1"},
        {"defer", "none", "none"},
        {"defer", "4", "4:4"},
        {"defer", "65536:1000000", "65536:1000000"},
        {"defer", "3:2.5", "3:2.5"},
        {"defer", "3:0", "3:0"},
        {"summary", "none", "none"},
        {"summary", "kmeans:0.25", "kmeans:0.25"},
        {"summary", "kmeans:0.25:3", "kmeans:0.25"},
        {"summary", "kmeans:0.25:0", "kmeans:0.25:0"},
        {"summary", "spread:0.7:0", "spread:0.7"},
        {"summary", "spread:0.05:100", "spread:0.05:100"},
        {"allocation", "heads:1,0.25,2.0", "heads:1,0.25,2"},
        {"storage", "exact", "exact"},
        {"storage", "coded", "coded"},
        {"storage", "coded:blk:64", "coded:blk:64"},
        {"storage", "coded:80", "coded:80"},
        {"storage", "coded:62.5:blk:16", "coded:62.5:blk:16"},
        {"storage", "coded:blk:1048576", "coded:rotated"},
        {"storage", "coded:4096:rotated", "coded:4096:rotated"},
        {"storage", "coded:pre", "coded:pre"},
        {"storage", "coded:48:pre", "coded:48:pre"},
        {"storage", "bits:4/2", "bits:4/2"},
        {"storage", "bits:4/2:64", "bits:4/2"},
        {"storage", "bits:8/3:1024", "bits:8/3:1024"},
        {"storage", "bits:2/2:16", "bits:2/2:16"},
        {"storage", "bits:4/2:64:128", "bits:4/2:64:128"},
        {"candidates", "all", "all"},
        {"candidates", "visual", "visual"},
        {"candidates", "text", "text"},
    };
    char text[VLCACHE_AXIS_BYTES];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bool coded = strncmp(texts[i].given, "coded", 5) == 0; /* budgets by sparsity do not go with it */
        bool voted =
            strncmp(texts[i].given, "per-prompt", 10) == 0 || strncmp(texts[i].given, "heads", 5) == 0;
        vlcache_compress_options o = options_of(voted   ? "coded"
                                                : coded ? "h2o"
                                                        : "vlcache"),
                                 fresh = o, again = o;
        ck_ok(vlcache_compress_set(&o, texts[i].axis, texts[i].given));
        ck_ok(vlcache_compress_get(&o, texts[i].axis, text));
        ck_assert_str_eq(text, texts[i].back);
        ck_ok(vlcache_compress_set(&again, texts[i].axis, text));
        check_same(&o, &again);
        ck_ok(vlcache_compress_set(&o, texts[i].axis, NULL)); /* and is gone again */
        check_same(&o, &fresh);
    }
}
END_TEST

/* As many layers as there may be, each with the longest share, fit into the text; one more is refused. */
START_TEST(test_many_shares) {
    static char text[2 * VLCACHE_AXIS_BYTES], back[VLCACHE_AXIS_BYTES];
    vlcache_compress_options o = options_of("vlcache"), again = o;
    strcpy(text, "layers:");
    for (int l = 0; l < VLCACHE_SHARES_MOST; l++)
        sprintf(text + strlen(text), "%s%d.%06d", l ? "," : "", 999 - l % 900, 123451 + 10 * l + l % 9);
    ck_ok(vlcache_compress_set(&o, "allocation", text));
    ck_ok(vlcache_compress_get(&o, "allocation", back));
    ck_assert_str_eq(back, text);
    ck_ok(vlcache_compress_set(&again, "allocation", back));
    check_same(&o, &again);
    o.more_shares[3] = -1.0;
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "more_shares[3]: is -1, must be 0 to 1000");
    strcat(text, ",1");
    ck_fails(vlcache_compress_set(&o, "allocation", text), VLCACHE_E_ARGUMENT, "at most 2048");
}
END_TEST

/* Set one by one they are held to the same; and they go with no other allocation. */
START_TEST(test_bad_shares) {
    static const struct {
        int n;
        double share;
        const char *field;
    } bad[] = {{0, 1, "compress.n_shares"},           {-1, 1, "compress.n_shares"},
               {2049, 1, "compress.n_shares"},        {2, 0, "compress.n_shares"},
               {2, -1, "compress.shares[0]"},         {2, 1001, "compress.shares[0]"},
               {2, (double)NAN, "compress.shares[0]"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vlcache_compress_options o = options_of("h2o");
        o.allocation = VLCACHE_ALLOCATION_LAYERS;
        o.n_shares = bad[i].n;
        o.shares[0] = bad[i].share;
        ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "must");
        ck_assert_str_eq(vlcache_last_error()->field, bad[i].field);
    }
    static const char *const others[] = {"h2o", "full", "coded", "vlcache"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        vlcache_compress_options o = options_of(others[i]);
        o.n_shares = 1;
        o.shares[0] = 1.0;
        ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "compress: n_shares");
    }
    vlcache_compress_options o = options_of("coded");
    ck_ok(vlcache_compress_set(&o, "allocation", "layers:1,2"));
    ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "must be uniform or heads with storage");
}
END_TEST

/* A share is the very number that C reads in its place, in every locale. */
START_TEST(test_shares_are_exact) {
    vlcache_compress_options o = options_of("vlcache");
    char given[32], text[VLCACHE_AXIS_BYTES];
    for (int i = 1; i < 1000; i++) {
        snprintf(given, sizeof given, "spread:0.%03d", i);
        ck_ok(vlcache_compress_set(&o, "summary", given));
        ck_assert(o.centroids == strtod(given + 7, NULL));
        ck_ok(vlcache_compress_get(&o, "summary", text));
        ck_assert(strtod(text + 7, NULL) == o.centroids && strlen(text) <= strlen(given));
    }
}
END_TEST

/* Whatever number a text means, what comes back of it means the same: also where it has more digits than a
 * double. */
START_TEST(test_long_shares_come_back) {
    vlcache_compress_options o = options_of("vlcache"), again = o;
    char given[40], text[VLCACHE_AXIS_BYTES];
    uint64_t state = 5;
    for (int i = 0; i < 100000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        snprintf(given, sizeof given, "spread:0.%0*llu", i % 18 + 1,
                 1 + (unsigned long long)((state >> 4) % (i % 18 ? 99999999999999999u : 8)));
        if (vlcache_compress_set(&o, "summary", given)) continue; /* 1.0 or more */
        ck_ok(vlcache_compress_get(&o, "summary", text));
        ck_ok(vlcache_compress_set(&again, "summary", text));
        ck_assert_msg(again.centroids == o.centroids, "%s -> %s", given, text);
    }
}
END_TEST

static void refused(const char *axis, const char *text, const char *why) {
    vlcache_compress_options o = options_of("vlcache"), before = o;
    char field[64];
    snprintf(field, sizeof field, "compress.%s", axis);
    ck_fails(vlcache_compress_set(&o, axis, text), VLCACHE_E_ARGUMENT, why);
    ck_fails(vlcache_compress_set(&o, axis, text), VLCACHE_E_ARGUMENT, text);
    ck_assert_str_eq(vlcache_last_error()->field, field);
    ck_assert_str_eq(vlcache_last_error()->value, text);
    ck_assert_ptr_nonnull(strstr(vlcache_last_error()->hint, why));
    check_same(&o, &before);
}

START_TEST(test_bad_texts) {
    static const char *const allocations[] = {
        "",           "Uniform",  "mixed:",     "mixed:1.1",   "mixed:0.5x",
        "mixed:-0.5", "mixed:.",  "uniform ",   "mixed:1e-1",  "mixed:99999999999999999999999",
        "layers",     "layers:",  "layers:1,",  "layers:,1",   "layers:0,0",
        "layers:-1",  "layers:.", "layers:1,x", "layers:1001", "layers:1:2",
        "layers:1;2", "heads",    "heads:",     "heads:0,0",   "heads:1,2,x"};
    static const char *const scorings[] = {"",          "window", "window:0", "window:8x",
                                           "window: 8", "h2o",    "window:"};
    static const char *const selections[] = {
        "",           "head",        "adaptive:",    "adaptive:1.5",   "adaptive:x",      "adaptivex",
        "per-prompt", "per-prompt:", "per-prompt:0", "per-prompt:1.1", "per-prompt:0.5:1"};
    static const char *const poolings[] = {"1d:4",     "1d:",      "grid:3", "grid:2x3",
                                           "grid:3x4", "grid:0x1", "1d:257", "grid:1x5x5"};
    static const char *const defers[] = {"0", "4:", "-1", "4:x", "four", "99999999999999999999", "4:1000001"};
    static const char *const summaries[] = {"kmeans",         "kmeans:0",         "kmeans:1", "kmeans:0.5:",
                                            "kmeans:0.5:101", "spread",           "spread:",  "spread:1.5",
                                            "spread:0.5:x",   "spread:kmeans:0.5"};
    static const char *const storages[] = {"",
                                           "bits",
                                           "coded:",
                                           "coded:0",
                                           "coded:4097",
                                           "coded80",
                                           "coded:80:",
                                           "coded:80:pre:1",
                                           "coded:80:prev",
                                           "coded:blk:24",
                                           "coded:blk:8",
                                           "exact:80",
                                           "coded:80:blk:",
                                           "coded:blk:32:80",
                                           "coded:rotated:80",
                                           "bits:4",
                                           "bits:4/",
                                           "bits:4/5",
                                           "bits:1/2",
                                           "bits:4/2:",
                                           "bits:4/2:8",
                                           "bits:4/2:48",
                                           "bits:4/2:2048",
                                           "bits:6/2",
                                           "bits:4/2:64:1",
                                           "bits:4/2:64:",
                                           "bits:4/2:64:64:64",
                                           "bits:4/2:64:70000"};
#define EACH(texts, axis, why)                                                                               \
    for (size_t i = 0; i < sizeof(texts) / sizeof *(texts); i++) refused(axis, (texts)[i], why)
    EACH(allocations, "allocation", "uniform, sparsity, pyramid, mixed[:UNIFORM]");
    EACH(scorings, "scoring", "post-vision, accumulated, window");
    EACH(selections, "selection",
         "per-head, per-layer, adaptive[:FLOOR], FLOOR from 0 to 1, or per-prompt:SHARE");
    EACH(poolings, "pooling", "none, 1d:W or grid:HxW");
    EACH(defers, "defer", "none or D[:WEIGHT]");
    EACH(summaries, "summary", "none, kmeans:SHARE[:ITERATIONS] or spread:SHARE");
    EACH(storages, "storage", "coded[:BITS][:pre, :blk:RUN or :rotated]");
    refused("candidates", "both", "all, visual or text");
#undef EACH
}
END_TEST

START_TEST(test_no_such_axis) {
    vlcache_compress_options o = options_of("vlcache");
    char text[VLCACHE_AXIS_BYTES] = "left";
    ck_fails(vlcache_compress_set(&o, "pool", "none"), VLCACHE_E_ARGUMENT,
             "must be one of allocation, scoring, selection, pooling, defer, summary, storage, "
             "candidates");
    ck_fails(vlcache_compress_get(&o, "pool", text), VLCACHE_E_ARGUMENT, "\"pool\"");
    ck_assert_str_eq(text, "");
    ck_fails(vlcache_compress_set(&o, NULL, "none"), VLCACHE_E_ARGUMENT, "NULL");
    ck_fails(vlcache_compress_set(NULL, "pooling", "none"), VLCACHE_E_ARGUMENT, "NULL");
    ck_fails(vlcache_compress_get(&o, "pooling", NULL), VLCACHE_E_ARGUMENT, "NULL");
    o.budget = 2.0;
    ck_fails(vlcache_compress_get(&o, "pooling", text), VLCACHE_E_ARGUMENT, "budget");
}
END_TEST

/* ---- what is refused ----------------------------------------------------------------------------------- */

/* A field of an otherwise good set of options. */
#define REFUSED(policy_name, part, ...)                                                                      \
    do {                                                                                                     \
        vlcache_compress_options bad_ = options_of(policy_name);                                             \
        __VA_ARGS__;                                                                                         \
        ck_fails(vlcache_compress_check(&bad_), VLCACHE_E_ARGUMENT, part);                                   \
    } while (0)

START_TEST(test_coded) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("coded");
    o.bits = 80.0;
    o.run = 128;
    o.defer = 0;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.coded && r.bits == 80.0 && r.run == 128 && r.defer == 0);
    o.run = VLCACHE_RUN_ROW;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.coded && r.run == 1 && r.run_by_layer == 0);
    o = options_of("h2o");
    o.storage = VLCACHE_STORAGE_CODED;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.coded && r.bits == 0.0 && r.run == 1 && r.run_by_layer == 16 &&
              r.scoring == VLCI_SCORE_ACCUMULATED);
    o = options_of("coded");
    o.storage = VLCACHE_STORAGE_EXACT;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(!r.coded && r.bits == 0.0);
    REFUSED("vlcache", "allocation: is \"sparsity\", must be uniform or heads with storage coded",
            bad_.storage = VLCACHE_STORAGE_CODED);
    REFUSED("vlcache+", "pooling: is \"grid:1x5\", must be none with storage coded",
            bad_.storage = VLCACHE_STORAGE_CODED);
    REFUSED("streamingllm", "scoring: is \"sink+recent\", must be post-vision",
            bad_.storage = VLCACHE_STORAGE_CODED);
    REFUSED("coded", "selection: is \"per-layer\", must be per-head, all rows, or per-prompt:SHARE,",
            bad_.selection = VLCACHE_SELECTION_PER_LAYER);
    REFUSED("coded", "summary: is \"spread:0.5\", must be none", bad_.summary = VLCACHE_SUMMARY_SPREAD,
            bad_.centroids = 0.5);
    REFUSED("coded", "storage: is 4", bad_.storage = (vlcache_storage)4);
    REFUSED("coded", "run: is 24, must be a power of two, from 16", bad_.run = 24);
    REFUSED("coded", "run: is 8", bad_.run = 8);
    REFUSED("coded", "bits: is 0.5", bad_.bits = 0.5);
    REFUSED("coded", "bits: is nan", bad_.bits = (double)NAN);
    REFUSED("h2o", "bits: is 80, must not be given", bad_.bits = 80.0);
    REFUSED("h2o", "run: is 32, must not be given", bad_.run = 32);
    REFUSED("full", "bits: is 80", bad_.bits = 80.0);
    REFUSED("full", "run: is 16", bad_.run = 16);
    REFUSED("full", "storage: is \"exact\"", bad_.storage = VLCACHE_STORAGE_EXACT);
}
END_TEST

/* Bits of heads: of coded rows alone. */
START_TEST(test_heads) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("coded");
    ck_ok(vlcache_compress_set(&o, "allocation", "heads:1,2,3"));
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.coded && r.allocation == VLCI_ALLOCATE_HEADS && r.n_shares == 3 && r.shares[2] == 3.0);
    ck_assert(!vlci_policy_measures(&r));
#define HEADS bad_.allocation = VLCACHE_ALLOCATION_HEADS, bad_.n_shares = 2, bad_.shares[1] = 0.5
    REFUSED("vlcache", "allocation: is \"heads:0,0.5\", must be another but with storage coded", HEADS);
    REFUSED("h2o", "must be another but with storage coded", HEADS, bad_.storage = VLCACHE_STORAGE_BITS);
    REFUSED("coded", "n_shares: is 0, must be 1 to 2048", HEADS, bad_.n_shares = 0);
    REFUSED("coded", "must have a share above 0", HEADS, bad_.shares[1] = 0.0);
    REFUSED("full", "allocation: is \"heads:0,0.5\"", HEADS);
#undef HEADS
}
END_TEST

/* One set for all heads: of coded rows alone, which then may be of one kind; a share that is one. */
START_TEST(test_voted) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("coded");
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.voted == 0.0);
    ck_ok(vlcache_compress_set(&o, "selection", "per-prompt:0.25"));
    ck_ok(vlcache_compress_set(&o, "candidates", "visual"));
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.coded && r.voted == 0.25 && r.candidates == VLCI_CANDIDATES_VISUAL && r.run_by_layer == 16);
    o.share = 1.0; /* every row */
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.voted == 0.0);
#define PER_PROMPT bad_.selection = VLCACHE_SELECTION_PER_PROMPT
    REFUSED("coded", "share: is -1, must be above 0 and at most 1", PER_PROMPT);
    REFUSED("coded", "share: is 1.5, must be above 0", PER_PROMPT, bad_.share = 1.5);
    REFUSED("coded", "share: is nan", PER_PROMPT, bad_.share = (double)NAN);
    REFUSED("coded", "share: is 0.5, must not be given: selection", bad_.share = 0.5);
    REFUSED("vlcache+", "selection: is \"per-prompt:0.5\", must be per-head, per-layer or adaptive but with",
            PER_PROMPT, bad_.share = 0.5);
    REFUSED("vlcache", "selection: is \"per-prompt:0.5\", must be per-head", PER_PROMPT, bad_.share = 0.5,
            bad_.storage = VLCACHE_STORAGE_BITS);
    REFUSED("coded", "candidates: is \"text\", must be all where rows are stored in few bits",
            bad_.candidates = VLCACHE_CANDIDATES_TEXT);
    REFUSED("coded", "pooling: is \"1d:3\", must be none with storage coded", PER_PROMPT, bad_.share = 0.5,
            bad_.pooling = VLCACHE_POOLING_LINE, bad_.pool_columns = 3);
    REFUSED("full", "share: is 0.5", bad_.share = 0.5);
    REFUSED("full", "selection: is \"per-prompt:0.5\"", PER_PROMPT, bad_.share = 0.5);
#undef PER_PROMPT
}
END_TEST

START_TEST(test_bits) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("vlcache+");
    o.storage = VLCACHE_STORAGE_BITS;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.quantised && r.key_bits == 4 && r.value_bits == 2 && r.run == 64 && r.centroids == 0.75);
    o.key_bits = 3;
    o.value_bits = 8;
    o.run = 128;
    o.age = 64;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.age == 64 && r.key_bits == 3 && r.value_bits == 8 && r.run == 128 && !r.coded &&
              r.bits == 0.0);
    static const char *const goes[] = {"vlcache", "streamingllm", "h2o", "snapkv", "pyramidkv"};
    for (size_t i = 0; i < sizeof goes / sizeof *goes; i++) {
        o = options_of(goes[i]);
        o.storage = VLCACHE_STORAGE_BITS;
        ck_ok(vlci_policy_read(&o, &r));
        ck_assert(r.quantised);
    }
    ck_assert(!recipe_of("vlcache+").quantised && recipe_of("vlcache+").age == 0);
    REFUSED("vlcache", "key_bits: is 5, must be 2, 3, 4 or 8", bad_.storage = VLCACHE_STORAGE_BITS,
            bad_.key_bits = 5);
    REFUSED("vlcache", "value_bits: is 1, must be 2, 3, 4 or 8", bad_.storage = VLCACHE_STORAGE_BITS,
            bad_.value_bits = 1);
    REFUSED("vlcache", "key_bits: is 16", bad_.storage = VLCACHE_STORAGE_BITS, bad_.key_bits = 16);
    REFUSED("vlcache", "run: is 48, must be a power of two, from 16", bad_.storage = VLCACHE_STORAGE_BITS,
            bad_.run = 48);
    REFUSED("vlcache", "run: is 1, must be a power of two, from 16", bad_.storage = VLCACHE_STORAGE_BITS,
            bad_.run = VLCACHE_RUN_ROW);
    REFUSED("vlcache", "run: is 2048", bad_.storage = VLCACHE_STORAGE_BITS, bad_.run = 2048);
    REFUSED("vlcache", "bits: is 80, must not be given", bad_.storage = VLCACHE_STORAGE_BITS,
            bad_.bits = 80.0);
    REFUSED("vlcache", "age: is 8, must be from 16", bad_.storage = VLCACHE_STORAGE_BITS, bad_.age = 8);
    REFUSED("vlcache", "age: is 64, must not be given", bad_.age = 64);
    REFUSED("full", "age: is 64", bad_.age = 64);
    REFUSED("coded", "key_bits: is 4, must not be given", bad_.key_bits = 4);
    REFUSED("h2o", "value_bits: is 2, must not be given", bad_.value_bits = 2);
    REFUSED("full", "key_bits: is 4", bad_.key_bits = 4);
}
END_TEST

START_TEST(test_bad_values) {
    REFUSED("vlcache", "allocation: is 9", bad_.allocation = (vlcache_allocation)9);
    REFUSED("vlcache", "scoring: is 5", bad_.scoring = (vlcache_scoring)5);
    REFUSED("vlcache", "selection: is 5", bad_.selection = (vlcache_selection)5);
    REFUSED("vlcache", "pooling: is 4", bad_.pooling = (vlcache_pooling)4);
    REFUSED("vlcache", "summary: is -1", bad_.summary = (vlcache_summary)-1);
    REFUSED("vlcache", "vlcache_summary", bad_.summary = (vlcache_summary)4);
    REFUSED("vlcache", "uniform: is 1.5, must be from 0 to 1", bad_.allocation = VLCACHE_ALLOCATION_MIXED,
            bad_.uniform = 1.5);
    REFUSED("snapkv", "window: is 0, must be from 1 to 1048576", bad_.window = 0);
    REFUSED("vlcache", "window: is -1, must be from 1", bad_.scoring = VLCACHE_SCORING_WINDOW);
    REFUSED("vlcache", "floor: is nan", bad_.selection = VLCACHE_SELECTION_ADAPTIVE,
            bad_.floor = (double)NAN);
    REFUSED("snapkv", "pool_columns: is 4, must be odd, from 1 to 255", bad_.pool_columns = 4);
    REFUSED("snapkv", "pool_rows: is -1", bad_.pooling = VLCACHE_POOLING_GRID, bad_.pool_columns = 3);
    REFUSED("vlcache", "defer: is 65537", bad_.defer = 65537);
    REFUSED("vlcache", "defer: is -2", bad_.defer = -2);
    REFUSED("vlcache+", "defer_weight: is -2", bad_.defer_weight = -2.0);
    REFUSED("vlcache+", "centroids: is 1, must be above 0 and below 1", bad_.centroids = 1.0);
    REFUSED("vlcache", "centroids: is -1", bad_.summary = VLCACHE_SUMMARY_KMEANS);
    REFUSED("vlcache+", "iterations: is 101, must be from 0 to 100", bad_.iterations = 101);
}
END_TEST

/* A number that nothing asks for is a slip. */
START_TEST(test_numbers_without_use) {
    REFUSED("vlcache", "must not be given: allocation", bad_.uniform = 0.5);
    REFUSED("vlcache", "must not be given: scoring", bad_.window = 8);
    REFUSED("vlcache", "must not be given: selection", bad_.floor = 0.2);
    REFUSED("snapkv", "must not be given: pooling", bad_.pool_rows = 1);
    REFUSED("vlcache", "must not be given: pooling", bad_.pool_columns = 1);
    REFUSED("vlcache", "must not be given: defer", bad_.defer_weight = 1.0);
    REFUSED("vlcache", "must not be given: summary", bad_.iterations = 1);
    REFUSED("vlcache", "must not be given: summary", bad_.centroids = 0.5);
}
END_TEST

START_TEST(test_together) {
    REFUSED("streamingllm", "\"1d:3\", must be none with scoring sink+recent",
            bad_.pooling = VLCACHE_POOLING_LINE, bad_.pool_columns = 3);
    REFUSED("streamingllm", "defer: is \"4:4\", must be none", bad_.defer = 4);
    REFUSED("full", "summary: is \"none\", must not be given: policy \"full\" keeps everything",
            bad_.summary = VLCACHE_SUMMARY_NONE);
    REFUSED("full", "keeps everything", bad_.defer = 0);
    REFUSED("full", "window: is 8, must not be given", bad_.window = 8);
    vlcache_compress_options o = options_of("streamingllm");
    o.defer = 4;
    o.scoring = VLCACHE_SCORING_POST_VISION;
    ck_ok(vlcache_compress_check(&o));
}
END_TEST

/* Options of another version of the library: see test_core.c. */
START_TEST(test_sizes) {
    struct {
        vlcache_compress_options known;
        double more[2];
    } newer = {VLCACHE_COMPRESS_OPTIONS_INIT, {0.0, 0.0}};
    vlcache_compress_options o = options_of("vlcache+");
    vlci_recipe r;
    newer.known.size = sizeof newer;
    newer.known.policy = "h2o";
    ck_ok(vlci_policy_read(&newer.known, &r));
    ck_assert_str_eq(r.policy, "h2o");
    ck_ok(vlcache_compress_set(&newer.known, "pooling", "1d:3"));
    ck_assert(newer.known.size == sizeof newer && newer.known.pool_columns == 3);
    newer.more[1] = 1.0;
    ck_fails(vlci_policy_read(&newer.known, &r), VLCACHE_E_ARGUMENT, "too old for");
    newer.known.size = sizeof newer.known;
    ck_ok(vlcache_compress_resolve(&o, &newer.known)); /* no further than its size */
    ck_assert(newer.more[1] == 1.0 && newer.known.centroids == 0.75);
    newer.more[1] = 0.0;
    newer.known.size = sizeof newer;
    ck_ok(vlcache_compress_resolve(&o, &newer.known));
    ck_assert_uint_eq(newer.known.size, sizeof newer);
    o.size = offsetof(vlcache_compress_options, sinks); /* axes were not there yet */
    o.budget = 0.5;
    o.allocation = (vlcache_allocation)99;
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert(r.uniform == 1.0 && r.budget == 0.5 && r.spread);
    ck_fails(vlcache_compress_set(&o, "pooling", "1d:3"), VLCACHE_E_ARGUMENT, "or more to hold pooling");
    o.size = offsetof(vlcache_compress_options, defer_weight);
    ck_ok(vlcache_compress_set(&o, "pooling", "1d:3"));
    ck_assert(o.pool_columns == 3);
    o.size = offsetof(vlcache_compress_options, policy);
    ck_ok(vlci_policy_read(&o, &r));
    ck_assert_str_eq(r.policy, "vlcache");
    o.size = 0;
    ck_fails(vlci_policy_read(&o, &r), VLCACHE_E_ARGUMENT, "start from VLCACHE_COMPRESS_OPTIONS_INIT");
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
    ck_assert_str_eq(vlcache_last_error()->field, "compress.sinks");
    ck_assert_str_eq(vlcache_last_error()->value, "-2");
    ck_assert_str_eq(vlcache_last_error()->hint, "must be from 0 to 1048576");
    ck_fails(vlcache_compress_check(NULL), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Lists are the union of what scores and what is counted; a prompt without text rows has its last ones. */
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
    static const int text_rows[] = {3, 4, 8};
    const vlci_compress_prompt prompts[] = {{.tokens = 10, .text = 3, .text_rows = text_rows},
                                            {.tokens = 3, .text = 0}};
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++)
        for (int b = 0; b < 2; b++) {
            vlci_recipe r = recipe_of(wants[i].policy);
            vlci_rows rows, again;
            if (wants[i].window) r.scoring = VLCI_SCORE_WINDOW, r.window = wants[i].window;
            ck_ok(vlci_rows_create(&r, &prompts[b], &rows));
            ck_assert_int_eq(rows.n, wants[i].listed[b]);
            for (int t = 0; t < wants[i].listed[b]; t++)
                ck_assert_int_eq(rows.entry[t], wants[i].entry[b][t]);
            ck_ok(vlci_rows_copy(&rows, &again));
            ck_assert(vlci_rows_equal(&rows, &again));
            vlci_rows_release(&rows);
            vlci_rows_release(&again);
        }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy");
    TCase *all = tcase_create("policy");
    tcase_add_test(all, test_names);
    tcase_add_test(all, test_rows_of_the_table);
    tcase_add_test(all, test_axes);
    tcase_add_test(all, test_adaptive);
    tcase_add_test(all, test_resolve);
    tcase_add_test(all, test_texts_of_the_table);
    tcase_add_test(all, test_texts);
    tcase_add_test(all, test_many_shares);
    tcase_add_test(all, test_bad_shares);
    tcase_add_test(all, test_shares_are_exact);
    tcase_add_test(all, test_long_shares_come_back);
    tcase_add_test(all, test_bad_texts);
    tcase_add_test(all, test_no_such_axis);
    tcase_add_test(all, test_coded);
    tcase_add_test(all, test_voted);
    tcase_add_test(all, test_heads);
    tcase_add_test(all, test_bits);
    tcase_add_test(all, test_bad_values);
    tcase_add_test(all, test_numbers_without_use);
    tcase_add_test(all, test_together);
    tcase_add_test(all, test_sizes);
    tcase_add_test(all, test_ranges);
    tcase_add_test(all, test_rows);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
