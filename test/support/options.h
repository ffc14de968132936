/**
 * options.h - options of a policy, and whether two are the same.
 */
#ifndef TEST_SUPPORT_OPTIONS_H
#define TEST_SUPPORT_OPTIONS_H

#include "vlcache/compress.h"

/** As the policy has them. */
vlcache_compress_options options_of(const char *policy);

/** Fails the test unless they are, field by field: what lies between them is nobody's. */
void options_same(const vlcache_compress_options *a, const vlcache_compress_options *b);

#endif
