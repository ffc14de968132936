/*
 * test_score.c - scores and insignificant entries of the score pass against attention written out in double.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

typedef struct shape {
    int heads, kv_heads, head_dim;
    int tokens[2], text[2],
        past; /* head h of sequence b holds past + b + h rows already, when past is not 0 */
    vlcache_dtype dtype;
    float amplitude;
    bool per_head;
} shape;

typedef struct host {
    float *q, *k, *max, *lse;
    int start[3], *past, capacity, rows;
} host;

static const int batch = 2;
static const double threshold = 0.01;

static void fill(host *d, const shape *s) {
    uint64_t seed = 7;
    d->start[0] = 0;
    d->start[1] = s->tokens[0];
    d->rows = d->start[2] = s->tokens[0] + s->tokens[1];
    d->past = calloc((size_t)(batch * s->kv_heads), sizeof *d->past);
    for (int i = 0; s->past && i < batch * s->kv_heads; i++) d->past[i] = s->past + i;
    d->capacity =
        (s->tokens[0] > s->tokens[1] ? s->tokens[0] : s->tokens[1]) + s->past + batch * s->kv_heads + 1;
    size_t nq = (size_t)d->rows * (size_t)(s->heads * s->head_dim) + 5;
    size_t nk = (size_t)(batch * s->kv_heads * d->capacity * s->head_dim) + 3,
           nr = (size_t)(d->rows * s->heads);
    d->q = malloc(nq * sizeof *d->q);
    d->k = malloc(nk * sizeof *d->k);
    d->max = malloc(nr * sizeof *d->max);
    d->lse = malloc(nr * sizeof *d->lse);
    for (size_t i = 0; i < nq; i++) d->q[i] = s->amplitude * suite_random(&seed);
    for (size_t i = 0; i < nk; i++) d->k[i] = suite_random(&seed);
    for (size_t i = 0; i < nr; i++) d->max[i] = d->lse[i] = NAN; /* rows that nobody may look at */
}

/* The oracle for one sequence: fills max and lse of the observed rows, adds to score, gives counts and how
 * many stand too near the threshold to tell. */
static void reference(host *d, const shape *s, int b, int tau, double *score, uint64_t *counts,
                      uint64_t *near) {
    int n = s->tokens[b], group = s->heads / s->kv_heads;
    double *logit = malloc((size_t)d->capacity * sizeof *logit);
    for (int h = 0; h < s->heads; h++) {
        int kv = h / group, past = d->past[b * s->kv_heads + kv];
        counts[h] = near[h] = 0;
        for (int i = n - tau; i < n; i++) {
            double max, lse;
            const float *q = d->q + 5 + (size_t)(d->start[b] + i) * (size_t)(s->heads * s->head_dim);
            const float *k = d->k + 3 + (size_t)((b * s->kv_heads + kv) * d->capacity) * (size_t)s->head_dim;
            ref_logits(q + h * s->head_dim, k, (size_t)s->head_dim, past + i + 1, s->head_dim,
                       1.0 / sqrt(s->head_dim), logit);
            ref_row(logit, past + i + 1, &max, &lse);
            d->max[(d->start[b] + i) * s->heads + h] = (float)max;
            d->lse[(d->start[b] + i) * s->heads + h] = (float)lse;
            for (int j = 0; j <= i; j++) {
                double margin = logit[past + j] - max - log(threshold);
                counts[h] += margin < 0.0;
                near[h] += fabs(margin) < 1e-4;
                score[kv * n + j] += exp(logit[past + j] - lse);
            }
        }
    }
    free(logit);
}

static void check_sequence(const vlci_compress *p, const shape *s, int b, const double *want,
                           const uint64_t *counts, const uint64_t *near, const float *got,
                           const uint64_t *got_counts) {
    int n = s->tokens[b];
    for (int kv = 0; kv < (s->per_head ? s->kv_heads : 1); kv++) {
        double *row = calloc((size_t)n, sizeof *row);
        for (int j = 0; j < n; j++)
            for (int g = 0; g < (s->per_head ? 1 : s->kv_heads); g++) row[j] += want[(kv + g) * n + j];
        suite_close("score", got + (size_t)(b * s->kv_heads + kv) * (size_t)p->max_tokens, row, (size_t)n,
                    1e-7, 1e-4);
        free(row);
    }
    for (int h = 0; h < s->heads; h++) {
        int64_t off = (int64_t)got_counts[b * s->heads + h] - (int64_t)counts[h];
        ck_assert_msg(llabs(off) <= (int64_t)near[h], "head %d: %lld entries off, %llu near the threshold", h,
                      (long long)off, (unsigned long long)near[h]);
    }
}

static void try_shape(shape s) {
    host d;
    fill(&d, &s);
    size_t nk = (size_t)(batch * s.kv_heads * d.capacity * s.head_dim) + 3;
    void *stored = suite_store(d.k, nk, s.dtype);
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.per_head = s.per_head;
    vlci_compress_shape plan_shape = {1, batch, s.heads, s.kv_heads, s.head_dim, s.dtype};
    vlci_compress *p = NULL;
    ck_ok(vlci_compress_create(suite_device(), &options, &plan_shape, s.tokens, s.text, &p));
    double *want[2];
    uint64_t counts[2][64], near[2][64], got_counts[128];
    for (int b = 0; b < batch; b++) {
        want[b] = calloc((size_t)(s.kv_heads * s.tokens[b]), sizeof **want);
        reference(&d, &s, b, p->tau[b], want[b], counts[b], near[b]);
    }
    vlci_attention a = {.batch = batch,
                        .heads = s.heads,
                        .kv_heads = s.kv_heads,
                        .head_dim = s.head_dim,
                        .causal = true,
                        .scale = (float)(1.0 / sqrt(s.head_dim)),
                        .kv_dtype = s.dtype,
                        .k_offset = 3,
                        .q_offset = 5};
    a.row_stride = (size_t)s.head_dim;
    a.head_stride = a.row_stride * (size_t)d.capacity;
    a.seq_stride = a.head_stride * (size_t)s.kv_heads;
    a.q_stride = (size_t)(s.heads * s.head_dim);
    a.max_rows = s.tokens[0] > s.tokens[1] ? s.tokens[0] : s.tokens[1];
    a.q = suite_upload(d.q, ((size_t)d.rows * a.q_stride + 5) * sizeof *d.q);
    a.k = suite_upload(stored, nk * vlci_dtype_bytes(s.dtype));
    a.seq_start = suite_upload(d.start, sizeof d.start);
    a.past = s.past ? suite_upload(d.past, (size_t)(batch * s.kv_heads) * sizeof *d.past) : NULL;
    a.row_max = suite_upload(d.max, (size_t)(d.rows * s.heads) * sizeof *d.max);
    a.row_lse = suite_upload(d.lse, (size_t)(d.rows * s.heads) * sizeof *d.lse);
    ck_ok(vlci_compress_observe(p, 0, &a));
    size_t ns = (size_t)(batch * s.kv_heads * p->max_tokens);
    float *got = malloc(ns * sizeof *got);
    suite_download(p->score[0], got, ns * sizeof *got);
    suite_download(p->counts, got_counts, (size_t)(batch * s.heads) * sizeof *got_counts);
    for (int b = 0; b < batch; b++) {
        check_sequence(p, &s, b, want[b], counts[b], near[b], got, got_counts);
        free(want[b]);
    }
    ck_ok(vlci_compress_plan(p));
    cl_mem all[] = {a.q, a.k, a.seq_start, a.row_max, a.row_lse, a.past};
    for (size_t i = 0; i < (s.past ? 6u : 5u); i++) suite_release(all[i]);
    vlci_compress_destroy(&p);
    float *floats[] = {got, d.q, d.k, d.max, d.lse};
    for (size_t i = 0; i < 5; i++) free(floats[i]);
    free(d.past);
    free(stored);
}

START_TEST(test_shapes) {
    try_shape((shape){2, 2, 16, {100, 70}, {9, 20}, 0, VLCACHE_DTYPE_F32, 8.0f, true});
    try_shape((shape){8, 2, 64, {150, 33}, {17, 3}, 0, VLCACHE_DTYPE_BF16, 6.0f, true}); /* GQA, ragged */
    try_shape((shape){4, 1, 80, {65, 129}, {5, 1}, 0, VLCACHE_DTYPE_F16, 6.0f, true}); /* MQA, odd head_dim */
    try_shape((shape){4, 2, 24, {64, 50}, {0, 7}, 0, VLCACHE_DTYPE_F32, 6.0f, true});  /* tau = 0: 32 rows */
    try_shape((shape){4, 2, 24, {20, 1}, {0, 0}, 0, VLCACHE_DTYPE_F32, 6.0f, true});   /* shorter than that */
    try_shape((shape){2, 2, 32, {70, 9}, {70, 9}, 0, VLCACHE_DTYPE_F32, 6.0f, true});  /* tau = N */
    try_shape((shape){4, 2, 16, {90, 40}, {8, 6}, 11, VLCACHE_DTYPE_BF16, 6.0f, true}); /* a second turn */
    try_shape((shape){4, 2, 16, {90, 40}, {8, 6}, 0, VLCACHE_DTYPE_F32, 6.0f, false});  /* one set a layer */
    try_shape((shape){2, 1, 16, {90, 40}, {8, 6}, 0, VLCACHE_DTYPE_F32, 0.0f, true});   /* all equal */
    try_shape((shape){2, 1, 16, {90, 40}, {8, 6}, 0, VLCACHE_DTYPE_F32, 200.0f, true}); /* one spike a row */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("score");
    TCase *all = tcase_create("score");
    tcase_add_test(all, test_shapes);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
