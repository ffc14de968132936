/*
 * test_policy.c - names, ranges of options, and plans that cannot be made.
 */
#include <math.h>
#include <string.h>

#include "compress/compress.h"
#include "support/suite.h"

START_TEST(test_names) {
    const vlci_policy *policy = NULL;
    ck_ok(vlci_policy_find(NULL, &policy));
    ck_assert_str_eq(policy->name, "vlcache");
    ck_assert_int_eq(policy->when, VLCI_WHEN_PREFILL);
    ck_ok(vlci_policy_find("full", &policy));
    ck_assert_int_eq(policy->when, VLCI_WHEN_NEVER);
    ck_fails(vlci_policy_find("Full", &policy), VLCACHE_E_ARGUMENT, "vlcache, full");
    ck_assert_ptr_null(policy);
    ck_assert_str_eq(vlcache_policy_name(0), "vlcache");
    ck_assert_ptr_null(vlcache_policy_name(2));
}
END_TEST

START_TEST(test_options) {
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
    options.size = 8;
    ck_fails(vlcache_compress_check(&options), VLCACHE_E_ARGUMENT, "size");
    ck_fails(vlcache_compress_check(NULL), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

START_TEST(test_create) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_compress_shape shape = {2, 1, 4, 2, 16, VLCACHE_DTYPE_F32}, bad = shape;
    int tokens = 10, text = 11;
    vlci_compress *plan = NULL;
    uint64_t before = vlci_memory_now(suite_device());
    ck_fails(vlci_compress_create(suite_device(), &options, &shape, &tokens, &text, &plan),
             VLCACHE_E_ARGUMENT, "11 tokens after");
    text = 3;
    bad.kv_heads = 3;
    ck_fails(vlci_compress_create(suite_device(), &options, &bad, &tokens, &text, &plan), VLCACHE_E_ARGUMENT,
             "3 kv heads");
    ck_ok(vlci_compress_create(suite_device(), &options, &shape, &tokens, &text, &plan));
    ck_fails(vlci_compress_plan(plan), VLCACHE_E_INTERNAL, "layer 0 was not observed");
    vlci_compress_destroy(&plan);
    ck_assert_ptr_null(plan);
    vlci_compress_destroy(&plan);
    options.policy = "full";
    ck_ok(vlci_compress_create(suite_device(), &options, &shape, &tokens, &text, &plan));
    ck_assert_ptr_null(plan);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy");
    TCase *all = tcase_create("policy");
    tcase_add_test(all, test_names);
    tcase_add_test(all, test_options);
    tcase_add_test(all, test_create);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
