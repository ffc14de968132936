/*
 * policy.c - axes as text: what is set, comes back in one spelling that sets the same. The input: a policy,
 * an axis and its text, another and its text; --policy and --budget of vlcache-eval.
 */
#include <stdlib.h>
#include <string.h>

#include "eval/variant.h"
#include "fuzz.h"

static const char *const axes[] = {"allocation", "scoring", "selection", "pooling", "defer", "summary"};
enum { AXES = sizeof axes / sizeof *axes };

static void spell(const vlcache_compress_options *o) {
    char text[VLCACHE_AXIS_BYTES], again[VLCACHE_AXIS_BYTES];
    vlcache_compress_options whole = VLCACHE_COMPRESS_OPTIONS_INIT;
    if (vlcache_compress_check(o)) return;
    FUZZ_HOLDS(!vlcache_compress_resolve(o, &whole) && !vlcache_compress_check(&whole));
    for (int i = 0; i < AXES; i++) {
        vlcache_compress_options set = *o;
        FUZZ_HOLDS(!vlcache_compress_get(o, axes[i], text));
        if (!*text) continue; /* "full" */
        FUZZ_HOLDS(!vlcache_compress_set(&set, axes[i], text) && !vlcache_compress_get(&set, axes[i], again));
        FUZZ_HOLDS(strcmp(text, again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    variants v;
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    char *policy = fuzz_text(&in);
    o.policy = *policy ? policy : NULL;
    for (int i = 0; i < 2; i++) {
        unsigned axis = fuzz_number(&in, AXES);
        char *text = fuzz_text(&in);
        if (!vlcache_compress_set(&o, axes[axis], text)) spell(&o);
        free(text);
    }
    free(policy);
    char *policies = fuzz_text(&in), *budgets = fuzz_text(&in);
    if (!variants_parse(*policies ? policies : NULL, budgets, &v))
        for (size_t i = 0; i < v.n; i++) json_decref(variant_json(&v.items[i]));
    variants_release(&v);
    free(policies);
    free(budgets);
    return 0;
}
