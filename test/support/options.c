/*
 * options.c - options of a policy, and whether two are the same.
 */
#include "support/options.h"

#include <string.h>

#include "support/suite.h"

vlcache_compress_options options_of(const char *policy) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.policy = policy;
    return options;
}

void options_same(const vlcache_compress_options *a, const vlcache_compress_options *b) {
    ck_assert_str_eq(a->policy, b->policy);
    ck_assert(a->size == b->size && a->budget == b->budget && a->threshold == b->threshold);
    ck_assert(a->recent == b->recent && a->sinks == b->sinks && a->strict == b->strict);
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
