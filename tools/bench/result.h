/**
 * result.h - a setup measured several times: medians, spreads, and rates against what the device can do.
 */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "bench/run.h"

/** Least and most of the runs. */
typedef struct spread {
    double low, high;
} spread;

typedef struct result {
    setup setup;
    int runs;
    timing median; /* of each number by itself */
    spread first, prefill, token, rate;
    /* of the medians; shares are of the ceilings, 0 where those were not measured */
    double read_rate;                    /* tokens a second while prompts are read */
    double prefill_flops, prefill_share; /* operations a second */
    double decode_flops, decode_flops_share;
    double decode_bytes, decode_bytes_share; /* weights and KV rows, a second */
} result;

/** Runs it once to warm up, then as often as asked. An exit code, what went wrong told; where `fits` is not
 * NULL, lack of device memory is none: it becomes false. */
int result_measure(bench *b, const setup *s, bool *fits, result *out);

/** Numbers that the text model's matrices hold: what its rows go through, and the head, which the last goes
 * through. */
double result_layer_weights(const vlcache_model_info *info);
double result_head_weights(const vlcache_model_info *info);

/** Bytes of a token's keys and values. */
double result_row_bytes(const vlcache_model_info *info);

/** Operations of reading `rows` behind `depth` others: products and causal attention. */
double result_prefill_operations(const vlcache_model_info *info, int rows, int depth);

#endif
