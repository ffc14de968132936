/*
 * test_probe.c - ranks, hit rates and decode sparsity against attention written out in double, from a tiny
 * model's own cache and queries.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"
#include "ref/ref_compress.h"
#include "session/probe.h"
#include "support/rig.h"
#include "support/suite.h"

enum { N = 90, STEPS = 3, LATER = 2 /* of another turn */, KEPT_MOST = N };

static const double threshold = 0.3; /* a tiny random model attends evenly */

typedef struct seen {
    double *score;             /* [kv heads][N] of one step and layer */
    double insignificant;      /* of one layer, over all steps and heads */
    double hit[STEPS + LATER]; /* of one layer */
} seen;

static float *download_f32(cl_mem memory, size_t n) {
    float *out = malloc(n * sizeof *out);
    suite_download(memory, out, n * sizeof *out);
    return out;
}

/* The keys of a head of the cache, row after row. */
static float *head_keys(const vlci_kv *kv, int layer, int head, int rows) {
    size_t width = (size_t)kv->pool->shape.head_dim;
    const vlci_kv_list *list = vlci_kv_list_of(kv, layer, head);
    float *pool = download_f32(kv->pool->k, (size_t)kv->pool->pages * VLCI_KV_PAGE * width);
    float *keys = malloc((size_t)rows * width * sizeof *keys);
    for (int j = 0; j < rows; j++) {
        size_t page = (size_t)kv->pool->table.entry[list->first + j / VLCI_KV_PAGE];
        memcpy(keys + (size_t)j * width, pool + (page * VLCI_KV_PAGE + (size_t)(j % VLCI_KV_PAGE)) * width,
               width * sizeof *keys);
    }
    free(pool);
    return keys;
}

/* One layer of one decoded row, from its query and the cache as it stands. */
static void attend(const vlci_text *text, const vlci_kv *kv, int layer, int visible, seen *out) {
    const vlci_text_config *c = &text->model->config.text;
    int group = c->heads / c->kv_heads;
    float *q = download_f32(text->qkv, (size_t)(c->heads * c->head_dim));
    double *logit = malloc((size_t)visible * sizeof *logit);
    memset(out->score, 0, (size_t)(c->kv_heads * N) * sizeof *out->score);
    for (int h = 0; h < c->heads; h++) {
        double max, lse;
        float *keys = head_keys(kv, layer, h / group, visible);
        ref_logits(q + h * c->head_dim, keys, (size_t)c->head_dim, visible, c->head_dim,
                   1.0 / sqrt(c->head_dim), logit);
        ref_row(logit, visible, &max, &lse);
        for (int j = 0; j < N; j++) {
            out->insignificant += logit[j] < max + log(threshold);
            out->score[h / group * N + j] += exp(logit[j] - lse);
        }
        free(keys);
    }
    free(q);
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
    rig rig;
    vlci_probe *probe;
    vlci_kv full; /* the cache before it was compressed */
} bench;

static void open_bench(bench *b) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    int32_t ids[N];
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/llava-mistral-gqa4", &options,
                             &b->model));
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + 11) % (b->model->config.text.vocab - 1);
    compress.budget = 0.3;
    compress.threshold = threshold;
    compress.defer = 1; /* the rows stay until vlci_compress_all() */
    rig_create(&b->rig, b->model, &compress);
    vlci_probe_options watched = {.tokens = N, .recipes = &b->rig.recipe, .n = 1, .turns = 2};
    ck_ok(vlci_probe_create(&b->rig.shared.compress, &watched, &b->probe));
    rig_read(&b->rig, ids, N, NULL, 20, NULL);
    ck_ok(vlci_kv_fork(&b->rig.kv, &b->full));
    ck_ok(vlci_compress_all(b->rig.plan, &b->rig.kv));
}

/* A token goes through the model on the full cache, looked at. */
static void probe_step(bench *b, int32_t token) {
    vlci_step *step = &b->rig.shared.step;
    step->kv[0] = &b->full;
    step->observer[0] = vlci_probe_observer(b->probe, &b->full);
    ck_ok(vlci_kv_reserve(&b->full, 0, b->model->config.text.layers, 1));
    ck_ok(vlci_step_run(step, &token, 1, 1));
    vlci_step_forget(step);
}

static void close_bench(bench *b) {
    vlci_probe_destroy(&b->probe);
    vlci_kv_release(&b->full);
    rig_release(&b->rig);
    vlcache_model_destroy(&b->model);
}

/* The probe's own steps leave the last layer's query behind; so each layer is checked when it is the last. */
START_TEST(test_last_layer) {
    bench b = {0};
    int kept[KEPT_MOST], k;
    vlcache_probe_layer got, later;
    open_bench(&b);
    const vlci_text_config *c = &b.model->config.text;
    vlci_compress *plan = b.rig.plan;
    int last = c->layers - 1;
    seen want = {.score = malloc((size_t)(c->kv_heads * N) * sizeof(double))};
    seen beyond = {.score = malloc((size_t)(c->kv_heads * N) * sizeof(double))};
    ck_ok(vlci_probe_layer(b.probe, plan, threshold, last, 0, &got));
    ck_assert(got.steps == 0 && isnan(got.hit_first) && isnan(got.hit_all) && isnan(got.sparsity));
    for (int s = 0; s < STEPS + LATER; s++) {
        if (s == STEPS) vlci_probe_turn(b.probe);
        probe_step(&b, 5 + s);
        attend(&b.rig.shared.text, &b.full, last, N + s + 1, s < STEPS ? &want : &beyond);
        for (int h = 0; h < c->kv_heads; h++) {
            ck_ok(vlci_compress_positions(plan, last, h, kept, &k));
            want.hit[s] += hit_rate((s < STEPS ? want : beyond).score + h * N, kept, k) / c->kv_heads;
        }
    }
    ck_ok(vlci_probe_layer(b.probe, plan, threshold, last, 0, &got));
    ck_assert_int_eq(got.steps, STEPS);
    ck_assert_double_eq_tol(got.hit_first, want.hit[0], 1e-9);
    ck_assert_double_eq_tol(got.hit_all, (want.hit[0] + want.hit[1] + want.hit[2]) / 3.0, 1e-9);
    for (int t = 0; t < VLCACHE_TENTHS; t++) /* three steps: they begin the tenths 0, 3 and 6 */
        if (t % 3 || t == 9)
            ck_assert(isnan(got.hit_tenth[t]));
        else
            ck_assert_double_eq_tol(got.hit_tenth[t], want.hit[t / 3], 1e-9);
    ck_assert_double_eq_tol(got.sparsity, want.insignificant / (STEPS * c->heads * N), 1e-3);
    ck_ok(vlci_probe_layer(b.probe, plan, threshold, last, 1, &later));
    ck_assert(later.steps == LATER && isnan(later.sparsity));
    ck_assert_double_eq_tol(later.hit_first, want.hit[STEPS], 1e-9);
    ck_assert_double_eq_tol(later.hit_all, (want.hit[STEPS] + want.hit[STEPS + 1]) / 2.0, 1e-9);
    ck_assert_double_eq_tol(later.hit_tenth[5], want.hit[STEPS + 1], 1e-9);
    ck_fails(vlci_probe_layer(b.probe, plan, threshold, last, 2, &later), VLCACHE_E_ARGUMENT, "below 2");
    ck_assert(got.sparsity > 0.0 && got.sparsity < 1.0 && got.hit_all > 0.0 && got.hit_all < 1.0);
    ck_ok(vlci_probe_layer(b.probe, NULL, threshold, last, 0, &got));
    ck_assert(got.hit_first == 1.0 && got.hit_all == 1.0 && got.hit_tenth[3] == 1.0);
    free(want.score);
    free(beyond.score);
    close_bench(&b);
}
END_TEST

/* Of equal scores the lower position ranks higher, wherever they lie: as top-k has it. */
START_TEST(test_ties) {
    static const float score[] = {0.5f, 1.0f, 0.5f, 0.0f, 1.0f, 0.5f, 0.0f, 0.0f};
    static const int32_t want[] = {2, 0, 3, 5, 1, 4, 6, 7};
    enum { TIED = 100 };
    vlci_probe_entry scratch[TIED];
    float equal[TIED] = {0};
    int32_t rank[TIED];
    vlci_probe_rank(score, 8, scratch, rank);
    ck_assert_mem_eq(rank, want, sizeof want);
    vlci_probe_rank(equal, TIED, scratch, rank);
    for (int32_t i = 0; i < TIED; i++) ck_assert_int_eq(rank[i], i);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("probe");
    TCase *all = tcase_create("probe");
    suite_balance(all);
    tcase_add_test(all, test_last_layer);
    tcase_add_test(all, test_ties);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
