/**
 * coding.h - a prompt's rows in few bits, as "vlcache+" codes them: for the kernels that code, and for
 * attention over codes.
 */
#ifndef BENCH_KERNELS_CODING_H
#define BENCH_KERNELS_CODING_H

#include "bench/kernels/cache.h"
#include "compress/coding.h"

/** One layer of a prompt, most rows of which are of pictures; zero to begin with. */
typedef struct trial_coding {
    trials *t;
    vlci_compress_shape shape;
    int tokens, texts; /* rows; of these text, at the end */
    trial_cache cache;
    cl_mem keep, phase, q, entries, score;
    vlci_keep *own;
    float *turns;  /* f32 [tokens][head_dim], as `phase` has them */
    int32_t *list; /* rows that look: entries */
    vlci_scores seen;
    vlci_heads heads;
    vlci_coding_kernels kernels;
    vlci_coding *coding;
} trial_coding;

/** Its rows, and what looks at them. */
vlcache_status trial_coding_make(trial_coding *c);

/** Opens kernels and codes the rows: c->coding->codes. */
vlcache_status trial_coding_open(trial_coding *c);
void trial_coding_close(trial_coding *c);

/** What codes stand for, keys (matrix 2 h) or values (2 h + 1): floats [rows + texts][head_dim]. */
vlcache_status trial_coding_rows(const vlci_codes *codes, size_t matrix, float *to);

void trial_coding_release(trial_coding *c);

#endif
