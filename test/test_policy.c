/*
 * test_policy.c - names, axes, ranges, what does not go together, and the rows that a policy looks at.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/rows.h"
#include "support/options.h"
#include "support/suite.h"

/* ---- names and axes ------------------------------------------------------------------------------------ */

START_TEST(test_names) {
    vlci_recipe r;
    vlcache_compress_options options = options_of(NULL);
    ck_ok(vlci_policy_read(&options, true, &r));
    ck_assert_str_eq(r.policy, "vlcache");
    ck_assert_str_eq(vlcache_policy_name(0), "vlcache");
    options = options_of("Full");
    ck_fails(vlci_policy_read(&options, true, &r), VLCACHE_E_ARGUMENT,
             "vlcache, vlcache+, centroids, full, streamingllm, h2o");
    ck_assert_str_eq(vlcache_last_error()->field, "compress.policy");
    ck_assert_str_eq(vlcache_last_error()->value, "Full");
    ck_assert(strncmp(vlcache_last_error()->hint, "use one of vlcache, ", 20) == 0);
    size_t n = 0;
    for (const char *name; (name = vlcache_policy_name(n)); n++) { /* every row reads */
        options = options_of(name);
        ck_ok(vlci_policy_read(&options, true, &r));
        ck_assert_str_eq(r.policy, name);
        ck_assert(r.compresses == (strcmp(name, "full") != 0));
    }
    ck_assert_uint_ge(n, 6);
}
END_TEST

static vlci_recipe recipe_of(const char *policy) {
    vlci_recipe r;
    vlcache_compress_options options = options_of(policy);
    ck_ok(vlci_policy_read(&options, true, &r));
    return r;
}

START_TEST(test_rows_of_the_table) {
    vlci_recipe r = recipe_of("vlcache");
    ck_assert(r.allocation == VLCI_ALLOCATE_MIXED && r.uniform == 0.0);
    ck_assert(r.scoring == VLCI_SCORE_POST_VISION && r.per_head && r.pooling == VLCI_POOL_NONE);
    ck_assert(r.sinks == 0 && r.defer == 0 && r.centroids == 0.0 && r.recent == 0.10);
    r = recipe_of("centroids");
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
    r = recipe_of("vlcache+");
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
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.uniform == 0.25 && r.window == 16 && !r.per_head && !r.adaptive && r.sinks == 3);
    ck_assert(r.pooling == VLCI_POOL_GRID && r.pool_rows == 3 && r.pool_columns == 5);
    ck_assert(r.defer == 4 && r.defer_weight == 2.5 && r.centroids == 0.5 && r.iterations == 7 && !r.spread);
    o.uniform = o.defer_weight = o.iterations = VLCACHE_AS_POLICY;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.uniform == 0.8 && r.defer_weight == 4.0 && r.iterations == 3);
    o.summary = VLCACHE_SUMMARY_SPREAD;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.spread && r.centroids == 0.5 && r.iterations == 0);
    o = options_of("centroids");
    o.centroids = 0.5;
    o.pool_columns = 9;
    o.defer = 2;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.spread && r.centroids == 0.5 && r.pool_rows == 1 && r.pool_columns == 9);
    ck_assert(r.defer == 2 && r.defer_weight == 4.0 && r.iterations == 0);
    o = options_of("pyramidkv");
    o.window = 16;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.window == 16 && r.pooling == VLCI_POOL_LINE && r.pool_columns == 7);
}
END_TEST

/* "vlcache+" codes rows; where the model's cannot be, or what is given does not go with that, it is
 * "centroids". What asks for codes has them, or is refused. */
START_TEST(test_where_rows_cannot_be_coded) {
    static const struct {
        const char *axis, *text, *comes_to;
    } given[] = {{"storage", NULL, "vlcache+"},
                 {"storage", "coded:pre", "vlcache+"},
                 {"scoring", "window:16", "vlcache+"},
                 {"selection", "per-head", "vlcache+"},
                 {"selection", "per-prompt:0.5", "vlcache+"},
                 {"allocation", "heads:1,2", "vlcache+"},
                 {"defer", "none", "vlcache+"},
                 {"storage", "exact", "centroids"},
                 {"storage", "bits:4/2", "centroids"},
                 {"allocation", "sparsity", "centroids"},
                 {"allocation", "layers:1,2", "centroids"},
                 {"selection", "per-layer", "centroids"},
                 {"pooling", "grid:1x5", "centroids"},
                 {"summary", "spread:0.5", "centroids"},
                 {"candidates", "text", "centroids"}};
    vlci_recipe r;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        vlcache_compress_options o = options_of("vlcache+");
        ck_ok(vlcache_compress_set(&o, given[i].axis, given[i].text));
        ck_ok(vlci_policy_read(&o, true, &r));
        ck_assert_str_eq(r.policy, given[i].comes_to);
        ck_assert(r.coded == (strcmp(r.policy, "vlcache+") == 0) && (r.centroids > 0.0) == !r.coded);
    }
    vlcache_compress_options o = options_of("vlcache+");
    o.centroids = 0.5; /* a number of an axis that codes have not */
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(!r.coded && r.centroids == 0.5);
    o = options_of("vlcache+");
    o.budget = 0.3;
    ck_ok(vlci_policy_read(&o, false, &r));
    ck_assert_str_eq(r.policy, "centroids");
    ck_assert(!r.coded && !r.text_yields && r.spread && r.pool_columns == 5 && r.budget == 0.3);
    o.bits = 80.0; /* the model's to refuse */
    ck_ok(vlci_policy_read(&o, false, &r));
    ck_assert(r.coded && r.bits == 80.0);
    o = options_of("vlcache+");
    o.budget = 0.03; /* of which text alone goes, whoever says so */
    ck_ok(vlcache_compress_set(&o, "candidates", "text"));
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.voted == 0.25 && r.votes_yield && r.text_yields);
    ck_ok(vlcache_compress_set(&o, "candidates", "visual"));
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert_str_eq(r.policy, "centroids");
}
END_TEST

/* Why it is, as who asks for codes would hear it. */
START_TEST(test_why_rows_are_not_coded) {
    static const struct {
        const char *axis, *text, *hint;
    } given[] = {{"candidates", "text", "take selection per-prompt:SHARE"},
                 {"storage", "bits:4/2", "must be coded with policy \"vlcache+\""},
                 {"allocation", "sparsity", "must be uniform or heads with storage coded"},
                 {"selection", "per-layer", "must be per-head, all rows, or per-prompt:SHARE"},
                 {"pooling", "grid:1x5", "must be none with storage coded"},
                 {"summary", "spread:0.5", "must be none with storage coded"}};
    char field[64];
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        vlcache_compress_options o = options_of("vlcache+");
        ck_ok(vlcache_compress_set(&o, given[i].axis, given[i].text));
        vlci_policy_explain(&o, true);
        snprintf(field, sizeof field, "compress.%s", given[i].axis);
        ck_assert_str_eq(vlcache_last_error()->field, field);
        ck_assert_str_eq(vlcache_last_error()->value, given[i].text);
        ck_assert_ptr_nonnull(strstr(vlcache_last_error()->hint, given[i].hint));
    }
    vlcache_compress_options o = options_of("vlcache+");
    vlci_policy_explain(&o, false);
    ck_assert_str_eq(vlcache_last_error()->message,
                     "compress: storage: is \"coded\", must be another with this model, whose rows cannot be "
                     "coded");
}
END_TEST

START_TEST(test_adaptive) {
    vlci_recipe r = recipe_of("vlcache");
    vlcache_compress_options o = options_of("vlcache");
    ck_assert(r.per_head && !r.adaptive);
    o.selection = VLCACHE_SELECTION_ADAPTIVE;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.per_head && r.adaptive && r.floor == 0.2);
    o.floor = 0.0;
    ck_ok(vlci_policy_read(&o, true, &r));
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
    options_same(&again, &all);
    o = options_of("full");
    ck_ok(vlcache_compress_resolve(&o, &all));
    ck_assert(all.allocation == VLCACHE_ALLOCATION_AS_POLICY && all.defer == VLCACHE_AS_POLICY);
    ck_ok(vlcache_compress_resolve(&all, &again));
    again.size = 0;
    ck_fails(vlcache_compress_resolve(&o, &again), VLCACHE_E_ARGUMENT, "size");
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
    vlcache_compress_options o = options_of("vlcache+");
    o.bits = 80.0;
    o.run = 128;
    o.defer = 0;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.bits == 80.0 && r.run == 128 && r.defer == 0);
    o.run = VLCACHE_RUN_ROW;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.run == 1 && r.run_by_layer == 0);
    o = options_of("h2o");
    o.storage = VLCACHE_STORAGE_CODED;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.bits == 0.0 && r.run == 1 && r.run_by_layer == 16 &&
              r.scoring == VLCI_SCORE_ACCUMULATED);
    o = options_of("vlcache+");
    o.storage = VLCACHE_STORAGE_EXACT;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(!r.coded && r.bits == 0.0);
    REFUSED("vlcache", "allocation: is \"sparsity\", must be uniform or heads with storage coded",
            bad_.storage = VLCACHE_STORAGE_CODED);
    REFUSED("centroids", "pooling: is \"grid:1x5\", must be none with storage coded",
            bad_.storage = VLCACHE_STORAGE_CODED);
    REFUSED("streamingllm", "scoring: is \"sink+recent\", must be post-vision",
            bad_.storage = VLCACHE_STORAGE_CODED);
#define IN_CODES bad_.storage = VLCACHE_STORAGE_CODED
    REFUSED("vlcache+", "selection: is \"per-layer\", must be per-head, all rows, or per-prompt:SHARE,",
            IN_CODES, bad_.selection = VLCACHE_SELECTION_PER_LAYER);
    REFUSED("vlcache+", "summary: is \"spread:0.5\", must be none", IN_CODES,
            bad_.summary = VLCACHE_SUMMARY_SPREAD, bad_.centroids = 0.5);
    REFUSED("vlcache+", "storage: is 4", bad_.storage = (vlcache_storage)4);
    REFUSED("vlcache+", "run: is 24, must be a power of two, from 16", bad_.run = 24);
    REFUSED("vlcache+", "run: is 8", bad_.run = 8);
    REFUSED("vlcache+", "bits: is 0.5", bad_.bits = 0.5);
    REFUSED("vlcache+", "bits: is nan", bad_.bits = (double)NAN);
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
    vlcache_compress_options o = options_of("vlcache+");
    ck_ok(vlcache_compress_set(&o, "allocation", "heads:1,2,3"));
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.allocation == VLCI_ALLOCATE_HEADS && r.n_shares == 3 && r.shares[2] == 3.0);
    ck_assert(!vlci_policy_measures(&r));
#define HEADS bad_.allocation = VLCACHE_ALLOCATION_HEADS, bad_.n_shares = 2, bad_.shares[1] = 0.5
    REFUSED("vlcache", "allocation: is \"heads:0,0.5\", must be another but with storage coded", HEADS);
    REFUSED("h2o", "must be another but with storage coded", HEADS, bad_.storage = VLCACHE_STORAGE_BITS);
    REFUSED("vlcache+", "n_shares: is 0, must be 1 to 2048", HEADS, bad_.n_shares = 0);
    REFUSED("vlcache+", "must have a share above 0", HEADS, bad_.shares[1] = 0.0);
    REFUSED("full", "allocation: is \"heads:0,0.5\"", HEADS);
#undef HEADS
}
END_TEST

/* One set for all heads: of coded rows alone, which then may be of one kind; a share that is one. */
START_TEST(test_voted) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("vlcache+");
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.voted == 0.0);
    o.budget = 0.03; /* by itself: text alone, where decoded tokens say which */
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.voted == 0.25 && r.candidates == VLCI_CANDIDATES_TEXT);
    o.defer = 0;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.voted == 0.0);
    o.budget = 0.02;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.voted == 0.5 && r.candidates == VLCI_CANDIDATES_ALL);
    o = options_of("vlcache+");
    ck_ok(vlcache_compress_set(&o, "selection", "per-prompt:0.25"));
    ck_ok(vlcache_compress_set(&o, "candidates", "visual"));
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.coded && r.voted == 0.25 && r.candidates == VLCI_CANDIDATES_VISUAL && r.run_by_layer == 16);
    o.share = 1.0; /* every row */
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.voted == 0.0);
#define PER_PROMPT bad_.selection = VLCACHE_SELECTION_PER_PROMPT
    REFUSED("vlcache+", "share: is -1, must be above 0 and at most 1", PER_PROMPT);
    REFUSED("vlcache+", "share: is 1.5, must be above 0", PER_PROMPT, bad_.share = 1.5);
    REFUSED("vlcache+", "share: is nan", PER_PROMPT, bad_.share = (double)NAN);
    REFUSED("vlcache+", "share: is 0.5, must not be given: selection", bad_.share = 0.5);
    REFUSED("centroids", "selection: is \"per-prompt:0.5\", must be per-head, per-layer or adaptive but with",
            PER_PROMPT, bad_.share = 0.5);
    REFUSED("vlcache", "selection: is \"per-prompt:0.5\", must be per-head", PER_PROMPT, bad_.share = 0.5,
            bad_.storage = VLCACHE_STORAGE_BITS);
    REFUSED("vlcache+", "must be all where rows are stored in few bits: take selection per-prompt:SHARE",
            IN_CODES, bad_.candidates = VLCACHE_CANDIDATES_TEXT);
    REFUSED("h2o", "must be all where rows are stored in few bits: take storage exact",
            bad_.storage = VLCACHE_STORAGE_BITS, bad_.candidates = VLCACHE_CANDIDATES_TEXT);
    REFUSED("vlcache+", "pooling: is \"1d:3\", must be none with storage coded", PER_PROMPT, bad_.share = 0.5,
            bad_.pooling = VLCACHE_POOLING_LINE, bad_.pool_columns = 3);
    REFUSED("full", "share: is 0.5", bad_.share = 0.5);
    REFUSED("full", "selection: is \"per-prompt:0.5\"", PER_PROMPT, bad_.share = 0.5);
#undef PER_PROMPT
}
END_TEST

START_TEST(test_bits) {
    vlci_recipe r;
    vlcache_compress_options o = options_of("centroids");
    o.storage = VLCACHE_STORAGE_BITS;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.quantised && r.key_bits == 4 && r.value_bits == 2 && r.run == 64 && r.centroids == 0.75);
    o.key_bits = 3;
    o.value_bits = 8;
    o.run = 128;
    o.age = 64;
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.age == 64 && r.key_bits == 3 && r.value_bits == 8 && r.run == 128 && !r.coded &&
              r.bits == 0.0);
    static const char *const goes[] = {"vlcache", "streamingllm", "h2o", "snapkv", "pyramidkv"};
    for (size_t i = 0; i < sizeof goes / sizeof *goes; i++) {
        o = options_of(goes[i]);
        o.storage = VLCACHE_STORAGE_BITS;
        ck_ok(vlci_policy_read(&o, true, &r));
        ck_assert(r.quantised);
    }
    ck_assert(!recipe_of("centroids").quantised && recipe_of("centroids").age == 0);
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
    REFUSED("vlcache+", "key_bits: is 4, must not be given", bad_.key_bits = 4);
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
    REFUSED("centroids", "defer_weight: is -2", bad_.defer_weight = -2.0);
    REFUSED("centroids", "centroids: is 1, must be above 0 and below 1", bad_.centroids = 1.0);
    REFUSED("vlcache", "centroids: is -1", bad_.summary = VLCACHE_SUMMARY_KMEANS);
    REFUSED("centroids", "iterations: is 101, must be from 0 to 100", bad_.iterations = 101);
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
    vlcache_compress_options o = options_of("centroids");
    vlci_recipe r;
    newer.known.size = sizeof newer;
    newer.known.policy = "h2o";
    ck_ok(vlci_policy_read(&newer.known, true, &r));
    ck_assert_str_eq(r.policy, "h2o");
    ck_ok(vlcache_compress_set(&newer.known, "pooling", "1d:3"));
    ck_assert(newer.known.size == sizeof newer && newer.known.pool_columns == 3);
    newer.more[1] = 1.0;
    ck_fails(vlci_policy_read(&newer.known, true, &r), VLCACHE_E_ARGUMENT, "too old for");
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
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert(r.uniform == 1.0 && r.budget == 0.5 && r.spread);
    ck_fails(vlcache_compress_set(&o, "pooling", "1d:3"), VLCACHE_E_ARGUMENT, "or more to hold pooling");
    o.size = offsetof(vlcache_compress_options, defer_weight);
    ck_ok(vlcache_compress_set(&o, "pooling", "1d:3"));
    ck_assert(o.pool_columns == 3);
    o.size = offsetof(vlcache_compress_options, policy);
    ck_ok(vlci_policy_read(&o, true, &r));
    ck_assert_str_eq(r.policy, "vlcache");
    o.size = 0;
    ck_fails(vlci_policy_read(&o, true, &r), VLCACHE_E_ARGUMENT, "start from VLCACHE_COMPRESS_OPTIONS_INIT");
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
    options.sinks = 0;
    options.strict = 2;
    ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "strict");
    options.strict = 1;
    vlci_recipe r;
    ck_ok(vlci_policy_read(&options, true, &r));
    ck_assert(r.strict);
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
    tcase_add_test(all, test_where_rows_cannot_be_coded);
    tcase_add_test(all, test_why_rows_are_not_coded);
    tcase_add_test(all, test_adaptive);
    tcase_add_test(all, test_resolve);
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
