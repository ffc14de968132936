/*
 * test_probe.c - ranks, hit rates and decode sparsity against attention written out in double, from a tiny
 * model's own cache and queries.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prefill.h"
#include "models/model.h"
#include "ref/ref_compress.h"
#include "session/probe.h"
#include "support/suite.h"

enum { N = 90, STEPS = 3, KEPT_MOST = N };

static const double threshold = 0.3; /* a tiny random model attends evenly */

typedef struct seen {
    double *score;        /* [kv heads][N] of one step and layer */
    double insignificant; /* of one layer, over all steps and heads */
    double hit[STEPS];    /* of one layer */
} seen;

static float *download_f32(cl_mem memory, size_t n) {
    float *out = malloc(n * sizeof *out);
    suite_download(memory, out, n * sizeof *out);
    return out;
}

/* One layer of one decoded row, from its query and the cache as it stands. */
static void attend(const vlci_text *text, const vlci_kv *kv, int layer, int visible, seen *out) {
    const vlci_text_config *c = &text->model->config.text;
    int group = c->heads / c->kv_heads, capacity = kv->layer[layer].capacity;
    float *q = download_f32(text->qkv, (size_t)(c->heads * c->head_dim));
    float *k = download_f32(kv->layer[layer].k, (size_t)(c->kv_heads * capacity * c->head_dim));
    double *logit = malloc((size_t)visible * sizeof *logit);
    memset(out->score, 0, (size_t)(c->kv_heads * N) * sizeof *out->score);
    for (int h = 0; h < c->heads; h++) {
        double max, lse;
        const float *keys = k + (size_t)(h / group * capacity * c->head_dim);
        ref_logits(q + h * c->head_dim, keys, (size_t)c->head_dim, visible, c->head_dim,
                   1.0 / sqrt(c->head_dim), logit);
        ref_row(logit, visible, &max, &lse);
        for (int j = 0; j < N; j++) {
            out->insignificant += logit[j] < max + log(threshold);
            out->score[h / group * N + j] += exp(logit[j] - lse);
        }
    }
    free(q);
    free(k);
    free(logit);
}

static double hit_rate(const double *score, const int *kept, int k) {
    float rounded[N];
    int best[N], n = 0;
    for (int j = 0; j < N; j++) rounded[j] = (float)score[j];
    ref_topk(rounded, N, k, 0, 0, best);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) n += kept[i] == best[j];
    return (double)n / k;
}

typedef struct bench {
    vlcache_model *model;
    vlci_text text;
    vlci_kv kv;
    vlci_compress *plan;
    vlci_probe *probe;
    vlci_recipe recipe;
} bench;

static void open_bench(bench *b) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    int32_t ids[N];
    int rows = N, after = 20;
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/llava-mistral-gqa4", &options,
                             &b->model));
    ck_ok(vlci_text_cache(b->model, 1, &b->kv));
    ck_ok(vlci_text_create(b->model, 1, &b->text));
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + 11) % (b->model->config.text.vocab - 1);
    compress.budget = 0.3;
    compress.threshold = threshold;
    ck_ok(vlci_policy_read(&compress, &b->recipe));
    vlci_compress_prompt prompt = {.tokens = &rows, .text = &after};
    ck_ok(vlci_prefill_plan(&b->text, &b->kv, &b->recipe, &prompt, NULL, 0, &b->plan));
    vlci_probe_options watched = {N, b->kv.length, &b->recipe, 1};
    ck_ok(vlci_probe_create(&b->text, &b->kv, &watched, &b->probe));
    ck_ok(vlci_prefill_walk(&b->text, &b->kv, ids, &rows, NULL, &b->plan, 1));
}

static void close_bench(bench *b) {
    vlci_probe_destroy(&b->probe);
    vlci_compress_destroy(&b->plan);
    vlci_text_release(&b->text);
    vlci_kv_release(&b->kv);
    vlcache_model_destroy(&b->model);
}

/* The probe's own steps leave the last layer's query behind; so each layer is checked when it is the last. */
START_TEST(test_last_layer) {
    bench b = {0};
    vlci_kv small;
    int kept[KEPT_MOST];
    vlcache_probe_layer got;
    open_bench(&b);
    const vlci_text_config *c = &b.model->config.text;
    int last = c->layers - 1;
    ck_ok(vlci_kv_fork(&b.kv, &small));
    ck_ok(vlci_prefill_compress(&b.text, &b.kv, 1, b.plan, &small));
    int k = vlci_compress_kept(b.plan, last, 0);
    seen want = {.score = malloc((size_t)(c->kv_heads * N) * sizeof(double))};
    ck_ok(vlci_probe_layer(b.probe, b.plan, threshold, last, &got));
    ck_assert(got.steps == 0 && isnan(got.hit_first) && isnan(got.hit_all) && isnan(got.sparsity));
    for (int s = 0; s < STEPS; s++) {
        ck_ok(vlci_probe_step(b.probe, &b.text, &b.kv, 5 + s));
        attend(&b.text, &b.kv, last, N + s + 1, &want);
        for (int h = 0; h < c->kv_heads; h++) {
            ck_ok(vlci_compress_positions(b.plan, last, 0, h, kept));
            want.hit[s] += hit_rate(want.score + h * N, kept, k) / c->kv_heads;
        }
    }
    ck_ok(vlci_probe_layer(b.probe, b.plan, threshold, last, &got));
    ck_assert_int_eq(got.steps, STEPS);
    ck_assert_double_eq_tol(got.hit_first, want.hit[0], 1e-9);
    ck_assert_double_eq_tol(got.hit_all, (want.hit[0] + want.hit[1] + want.hit[2]) / 3.0, 1e-9);
    ck_assert_double_eq_tol(got.sparsity, want.insignificant / (STEPS * c->heads * N), 1e-3);
    ck_assert(got.sparsity > 0.0 && got.sparsity < 1.0 && got.hit_all > 0.0 && got.hit_all < 1.0);
    ck_ok(vlci_probe_layer(b.probe, NULL, threshold, last, &got));
    ck_assert(got.hit_first == 1.0 && got.hit_all == 1.0);
    free(want.score);
    vlci_kv_release(&small);
    close_bench(&b);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("probe");
    TCase *all = tcase_create("probe");
    tcase_add_test(all, test_last_layer);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
