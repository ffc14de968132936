/*
 * test_axis.c - axes of a policy as text: what the table's rows say, what is set and comes back, what is
 * refused.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/options.h"
#include "support/suite.h"

static const char *const axis_names[] = {"allocation", "scoring", "selection", "pooling",
                                         "defer",      "summary", "storage",   "candidates"};
enum { AXES = sizeof axis_names / sizeof *axis_names };

/* The table's rows as results files have had them from the first. */
START_TEST(test_texts_of_the_table) {
    static const struct {
        const char *policy, *text[AXES];
    } rows[] = {
        {"vlcache", {"sparsity", "post-vision", "per-head", "none", "none", "none", "exact", "all"}},
        {"vlcache+", {"uniform", "post-vision", "per-head", "none", "4:4", "none", "coded", "all"}},
        {"centroids",
         {"uniform", "post-vision", "per-head", "grid:1x5", "4:4", "spread:0.75", "exact", "all"}},
        {"full", {"", "", "", "", "", "", "", ""}},
        {"streamingllm", {"uniform", "sink+recent", "per-head", "none", "none", "none", "exact", "all"}},
        {"h2o", {"uniform", "accumulated", "per-head", "none", "none", "none", "exact", "all"}},
        {"snapkv", {"uniform", "window:32", "per-head", "1d:7", "none", "none", "exact", "all"}},
        {"pyramidkv", {"pyramid", "window:8", "per-head", "1d:7", "none", "none", "exact", "all"}},
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
        vlcache_compress_options o = options_of(voted   ? "vlcache+"
                                                : coded ? "h2o"
                                                        : "vlcache"),
                                 fresh = o, again = o;
        ck_ok(vlcache_compress_set(&o, texts[i].axis, texts[i].given));
        ck_ok(vlcache_compress_get(&o, texts[i].axis, text));
        ck_assert_str_eq(text, texts[i].back);
        ck_ok(vlcache_compress_set(&again, texts[i].axis, text));
        options_same(&o, &again);
        ck_ok(vlcache_compress_set(&o, texts[i].axis, NULL)); /* and is gone again */
        options_same(&o, &fresh);
    }
}
END_TEST

/* What options come to is accepted by itself, and is what they come to then, with every policy and budget;
 * all of it together is the whole. */
START_TEST(test_what_it_comes_to_reads_back) {
    static const double budgets[] = {0.01, 0.02, 0.03, 0.049, 0.05, 0.1, 1.0};
    char text[VLCACHE_AXIS_BYTES], again[VLCACHE_AXIS_BYTES];
    for (size_t i = 0; vlcache_policy_name(i); i++) {
        vlcache_compress_options o = options_of(vlcache_policy_name(i)), together, want = o, got = o;
        o.budget = budgets[_i / 2];
        if (_i % 2 && strcmp(o.policy, "vlcache+") == 0) ck_ok(vlcache_compress_set(&o, "storage", "coded"));
        together = o;
        for (size_t axis = 0; axis < AXES; axis++) {
            vlcache_compress_options alone = o;
            ck_ok(vlcache_compress_get(&o, axis_names[axis], text));
            const char *value = *text ? text : NULL;
            ck_ok(vlcache_compress_set(&alone, axis_names[axis], value));
            ck_ok(vlcache_compress_set(&together, axis_names[axis], value));
            ck_ok(vlcache_compress_get(&alone, axis_names[axis], again));
            ck_assert_str_eq(again, text);
            ck_ok(vlcache_compress_resolve(&alone, &got));
            ck_assert_str_eq(got.policy, o.policy);
        }
        ck_ok(vlcache_compress_resolve(&o, &want));
        ck_ok(vlcache_compress_resolve(&together, &got));
        options_same(&got, &want);
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
    options_same(&o, &again);
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
    static const char *const others[] = {"h2o", "full", "vlcache+", "vlcache"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        vlcache_compress_options o = options_of(others[i]);
        o.n_shares = 1;
        o.shares[0] = 1.0;
        ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, "compress: n_shares");
    }
    vlcache_compress_options o = options_of("vlcache+");
    ck_ok(vlcache_compress_set(&o, "storage", "coded"));
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
    options_same(&o, &before);
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

int main(void) {
    Suite *suite = suite_create("axis");
    TCase *all = tcase_create("axis");
    tcase_add_test(all, test_texts_of_the_table);
    tcase_add_test(all, test_texts);
    tcase_add_loop_test(all, test_what_it_comes_to_reads_back, 0, 14);
    tcase_add_test(all, test_many_shares);
    tcase_add_test(all, test_bad_shares);
    tcase_add_test(all, test_shares_are_exact);
    tcase_add_test(all, test_long_shares_come_back);
    tcase_add_test(all, test_bad_texts);
    tcase_add_test(all, test_no_such_axis);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
