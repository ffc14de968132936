/*
 * result.c - runs a setup and makes one line of it.
 *
 *     bytes a step:      weights of the layers and the head, once; K and V of every sequence
 *     operations a step: 2 * these weights * sequences
 *     operations of a prompt of P rows behind D: 2 * P * layers' weights + 2 * head
 *                        + 4 * heads * head_dim * layers * (P * D + P * (P + 1) / 2)
 */
#include "bench/result.h"

#include <stdlib.h>

#include "common/exit.h"
#include "common/interrupt.h"

double result_layer_weights(const vlcache_model_info *i) {
    double heads = (double)i->heads * i->head_dim, kv = (double)i->kv_heads * i->head_dim;
    return i->layers * ((double)i->hidden * (2 * heads + 2 * kv) + 3.0 * i->hidden * i->intermediate);
}

double result_head_weights(const vlcache_model_info *i) {
    return (double)i->hidden * i->vocabulary;
}

static double element_bytes(const vlcache_model_info *i) {
    return i->dtype == VLCACHE_DTYPE_F32 ? 4 : 2;
}

double result_row_bytes(const vlcache_model_info *i) {
    return 2.0 * i->layers * i->kv_heads * i->head_dim * element_bytes(i);
}

double result_prefill_operations(const vlcache_model_info *i, int rows, int depth) {
    double p = rows, pairs = p * depth + p * (p + 1) / 2;
    return 2 * p * result_layer_weights(i) + 2 * result_head_weights(i) +
           4.0 * i->heads * i->head_dim * i->layers * pairs;
}

/* ---- medians ------------------------------------------------------------------------------------------- */

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Median of the field at `offset` over the runs; its spread, where one is asked for. */
static double middle(const timing *runs, int n, size_t offset, spread *around) {
    double all[MOST_RUNS];
    for (int i = 0; i < n; i++) all[i] = *(const double *)((const char *)&runs[i] + offset);
    qsort(all, (size_t)n, sizeof *all, by_value);
    if (around) *around = (spread){all[0], all[n - 1]};
    return n % 2 ? all[n / 2] : (all[n / 2 - 1] + all[n / 2]) / 2;
}

#define MIDDLE(field, around) out->median.field = middle(runs, n, offsetof(timing, field), around)

static void summarise(const timing *runs, int n, result *out) {
    out->runs = n;
    out->median = runs[n - 1]; /* of counts and bytes: all are the same */
    MIDDLE(first, &out->first);
    MIDDLE(image, NULL);
    MIDDLE(vision, NULL);
    MIDDLE(prefill, &out->prefill);
    MIDDLE(compress, NULL);
    MIDDLE(build, NULL);
    MIDDLE(whole, NULL);
    MIDDLE(token, &out->token);
    MIDDLE(worst, NULL);
    MIDDLE(host, NULL);
    MIDDLE(rate, &out->rate);
    MIDDLE(late, NULL);
}

/* ---- rates --------------------------------------------------------------------------------------------- */

static double share(double rate_found, double most) {
    return most > 0 ? rate_found / most : 0;
}

static void rate(const bench *b, result *out) {
    const vlcache_model_info *i = &b->info;
    const timing *t = &out->median;
    int n = out->setup.sequences;
    double weights = result_layer_weights(i) + result_head_weights(i), step = 1e-3 * t->token;
    if (t->prefill > 0) {
        out->read_rate = 1e3 * n * t->prompt / t->prefill;
        out->prefill_flops = 1e3 * n * result_prefill_operations(i, t->prompt, out->setup.depth) / t->prefill;
    }
    if (step > 0) {
        out->decode_bytes = (weights * element_bytes(i) + (double)t->kv_bytes) / step;
        out->decode_flops = 2 * weights * n / step;
    }
    out->prefill_share = share(out->prefill_flops, b->ceiling.product);
    out->decode_flops_share = share(out->decode_flops, b->ceiling.product);
    out->decode_bytes_share = share(out->decode_bytes, b->ceiling.copy);
}

int result_measure(bench *b, const setup *s, bool *fits, result *out) {
    timing runs[MOST_RUNS] = {{0}};
    runner r;
    int n = b->options.repetitions, code = run_open(b, s, &r);
    vlcache_status status = VLCACHE_OK;
    *out = (result){.setup = *s};
    for (int i = b->options.cold || s->cold ? 0 : -1; i < n && !code && !status; i++) {
        status = run_once(&r, &runs[i < 0 ? 0 : i]);
        if (interrupt_seen()) code = EXIT_INTERRUPT;
    }
    run_close(&r);
    if (fits) *fits = code != EXIT_MEMORY && status != VLCACHE_E_DEVICE_MEMORY;
    if (fits && !*fits) return EXIT_OK;
    if (code) return code;
    if (status) return console_fail_status(&b->console, status);
    summarise(runs, n, out);
    rate(b, out);
    return EXIT_OK;
}
