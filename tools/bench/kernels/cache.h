/**
 * cache.h - a cache of random rows, for kernels that read one.
 */
#ifndef BENCH_KERNELS_CACHE_H
#define BENCH_KERNELS_CACHE_H

#include "bench/kernels/trial.h"
#include "kv/cache.h"

enum { TRIAL_SEQUENCES = 64 };

/** Sequences of the same shape; zero to begin with. */
typedef struct trial_cache {
    vlci_kv_pool pool;
    vlci_kv kv[TRIAL_SEQUENCES];
    int n, rows; /* sequences that there are, rows in the pages of a head */
} trial_cache;

/** `rows` random rows for every head of `batch` sequences, the first `held` of which count as appended. */
vlcache_status trial_cache_make(trials *t, const vlci_kv_shape *shape, int batch, int rows, int held,
                                trial_cache *out);

/** Numbers fall from dimension to dimension, as keys' and values' variances do along their own directions. */
vlcache_status trial_cache_fade(trial_cache *c);

/** Room that the rows of a head need as floats. */
size_t trial_cache_floats(const trial_cache *c);

/** Keys, or values, of a head of a layer of sequence b: floats [rows][head_dim]. */
vlcache_status trial_cache_read(const trial_cache *c, bool values, int b, int layer, int head, float *to);

/** What one query makes of n rows, in doubles: out [dim]. */
void trial_attend(const float *q, const float *k, const float *v, int n, int dim, double scale, double *out);

void trial_cache_release(trial_cache *c);

#endif
