/*
 * summary.c - centroids of the rows that heads do not keep: seeds far from one another, and which of their
 * means is nearest to each row.
 *
 *     error: of nearest, how much further the mean is than the nearest one, over that distance; of spread,
 *            the share of the rows that belong to another seed. The first and the last head, some rows of it
 */
#include "compress/summary.h"

#include <math.h>
#include <stdlib.h>

#include "bench/kernels/cache.h"
#include "common/memory.h"
#include "compute/random.h"

#define TOLERANCE_NEAREST 1e-3
#define TOLERANCE_SPREAD  1e-2
enum { SAMPLES = 100, SHARE = 20 /* of the rows, one is kept, and one a centroid */ };

typedef struct summary_work {
    trials *t;
    vlci_compress_shape shape;
    char name[96];
    vlci_keep *own;
    trial_cache cache;
    cl_mem keep, positions, score;
    vlci_heads heads;
    vlci_summary_kernels kernels;
    vlci_summary_room room;
    int32_t *evicted; /* of a head that is looked at, */
    float *k;         /* and its keys */
} summary_work;

static size_t n_heads(const summary_work *w) {
    return (size_t)(w->shape.layers * w->shape.kv_heads);
}

static int n_evicted(const summary_work *w) {
    return w->heads.tokens - w->own[0].kept;
}

static vlcache_status make(void *work) {
    summary_work *w = work;
    const vlci_compress_shape *s = &w->shape;
    const vlci_kv_shape shape = {s->layers, s->kv_heads, s->head_dim, s->kv_dtype};
    size_t heads = n_heads(w), kept = (size_t)w->own[0].kept, tokens = (size_t)w->heads.tokens;
    int32_t *position = memory_take(heads * kept, sizeof *position);
    for (size_t i = 0; i < heads * kept; i++) position[i] = (int32_t)(i % kept * tokens / kept);
    vlcache_status status = trial_cache_make(w->t, &shape, 1, (int)tokens, (int)tokens, &w->cache);
    if (!status) status = trial_bytes(w->t, w->own, heads * sizeof *w->own, &w->keep);
    if (!status) status = trial_bytes(w->t, position, heads * kept * sizeof *position, &w->positions);
    if (!status) status = trial_poisoned(w->t, heads * tokens, &w->score);
    if (!status) status = vlci_random_floats(w->t->device, w->score, heads * tokens, 91, 1.0f, 1.0f);
    free(position);
    w->evicted = memory_take(tokens, sizeof *w->evicted);
    if (status) return status;
    w->k = memory_take(trial_cache_floats(&w->cache), sizeof *w->k);
    w->heads.keep = w->keep;
    w->heads.kv = vlci_kv_layer(&w->cache.kv[0], 0);
    return VLCACHE_OK;
}

/* Up to the means of the seeds' members. */
static vlcache_status open_kernels(void *work) {
    summary_work *w = work;
    const vlci_recipe recipe = {.centroids = 1.0 / SHARE, .spread = true, .iterations = 1};
    vlci_pace pace = {.left = 0}; /* the first step */
    vlcache_status status = vlci_summary_open(w->t->device, &w->shape, &recipe, &w->kernels);
    if (!status)
        status = vlci_summary_begin(&w->heads, &w->kernels, &recipe, w->positions, w->score, 0, &w->room);
    return status ? status : vlci_summary_go(&w->heads, &w->kernels, &w->room, &pace);
}

static void close_kernels(void *work) {
    summary_work *w = work;
    vlci_summary_release(w->t->device, &w->room);
    w->kernels = (vlci_summary_kernels){0};
}

static vlcache_status launch_nearest(void *work) {
    const summary_work *w = work;
    return vlci_nearest(&w->heads, &w->kernels.nearest, &w->room.groups);
}

static vlcache_status launch_spread(void *work) {
    const summary_work *w = work;
    return vlci_spread(&w->heads, &w->kernels.spread, w->score, 0, &w->room.groups, NULL, &w->room.spread);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* Evicted rows and labels of a head, which are wrong beyond those that there are. */
static vlcache_status take_head(summary_work *w, size_t head, int32_t *label) {
    const vlci_groups *g = &w->room.groups;
    size_t n = (size_t)w->heads.tokens, bytes = n * sizeof *label;
    int kv_heads = w->shape.kv_heads;
    vlcache_status status = vlci_read(w->t->device, g->evicted, head * bytes, w->evicted, bytes);
    if (!status) status = vlci_read(w->t->device, g->labels, head * bytes, label, bytes);
    return status ? status
                  : trial_cache_read(&w->cache, false, 0, (int)head / kv_heads, (int)head % kv_heads, w->k);
}

static const float *key_of(const summary_work *w, int e) {
    return w->k + (size_t)w->evicted[e] * (size_t)w->shape.head_dim;
}

/* Squared distance of a key and numbers `step` apart. */
static double apart(const summary_work *w, const float *key, const float *other, size_t step) {
    double sum = 0;
    for (size_t d = 0; d < (size_t)w->shape.head_dim; d++)
        sum += pow((double)key[d] - (double)other[d * step], 2);
    return sum;
}

static vlcache_status check_nearest_head(summary_work *w, size_t head, double *error) {
    const vlci_groups *g = &w->room.groups;
    int centroids = w->own[0].centroids;
    size_t dim = (size_t)w->shape.head_dim;
    int32_t *label = memory_take((size_t)w->heads.tokens, sizeof *label);
    float *mean = memory_take(g->means_stride, sizeof *mean);
    vlcache_status status = take_head(w, head, label);
    if (!status)
        status = vlci_read(w->t->device, g->means, head * g->means_stride * sizeof *mean, mean,
                           g->means_stride * sizeof *mean);
    for (size_t i = 0; i < SAMPLES && !status; i++) {
        int e = (int)trial_sample(i, SAMPLES, (size_t)n_evicted(w));
        double least = INFINITY, own = NAN;
        for (int c = 0; c < centroids; c++) {
            const float *at =
                mean + (size_t)(c / VLCI_MEAN_LANES) * dim * VLCI_MEAN_LANES + c % VLCI_MEAN_LANES;
            double far = apart(w, key_of(w, e), at, VLCI_MEAN_LANES);
            least = fmin(far, least);
            if (c == label[e]) own = far;
        }
        *error = trial_worse((sqrt(own) - sqrt(least)) / sqrt(least), *error);
    }
    free(label);
    free(mean);
    return status;
}

/* One stretch, seed after seed: the row whose weight times squared distance to the nearest is largest. */
static int count_other(const summary_work *w, const double *weight, const int32_t *label, int from, int until,
                       const int seeds[2]) {
    int n = until - from, wrong = 0, next = from;
    double *near = memory_take((size_t)n, sizeof *near);
    int *own = memory_take((size_t)n, sizeof *own);
    for (int e = from; e < until; e++) {
        near[e - from] = INFINITY;
        if (weight[e] > weight[next]) next = e;
    }
    for (int seed = seeds[0]; seed < seeds[1]; seed++) {
        double most = -1;
        int best = from;
        for (int e = from; e < until; e++) {
            double far = apart(w, key_of(w, e), key_of(w, next), 1);
            if (far < near[e - from]) {
                near[e - from] = far;
                own[e - from] = seed;
            }
            if (weight[e] * near[e - from] > most) {
                most = weight[e] * near[e - from];
                best = e;
            }
        }
        next = best;
    }
    for (int e = from; e < until; e++) wrong += label[e] != own[e - from];
    free(near);
    free(own);
    return wrong;
}

/* 1 + score over the mean score of the evicted rows. */
static vlcache_status take_weights(const summary_work *w, size_t head, double *weight) {
    size_t n = (size_t)w->heads.tokens, bytes = n * sizeof(float);
    float *score = memory_take(n, sizeof *score);
    double sum = 0;
    vlcache_status status = vlci_read(w->t->device, w->score, head * bytes, score, bytes);
    for (int e = 0; e < n_evicted(w); e++) sum += (double)score[w->evicted[e]];
    for (int e = 0; e < n_evicted(w); e++) weight[e] = 1 + (double)score[w->evicted[e]] * n_evicted(w) / sum;
    free(score);
    return status;
}

/* The first and the last stretch. */
static vlcache_status check_spread_head(summary_work *w, size_t head, double *error) {
    const vlci_spread_room *room = &w->room.spread;
    int n = n_evicted(w), stretches = vlci_groups_stretches(&w->heads), wrong = 0, rows = 0;
    int32_t *label = memory_take((size_t)w->heads.tokens, sizeof *label),
            *seed = memory_take(room->shares_stride, sizeof *seed);
    double *weight = memory_take((size_t)w->heads.tokens, sizeof *weight);
    vlcache_status status = take_head(w, head, label);
    if (!status) status = take_weights(w, head, weight);
    if (!status)
        status = vlci_read(w->t->device, room->shares, head * room->shares_stride * sizeof *seed, seed,
                           room->shares_stride * sizeof *seed);
    for (int p = 0; p < stretches && !status; p += stretches > 1 ? stretches - 1 : 1) {
        int from = VLCI_STRETCH_AT(n, p, stretches), until = VLCI_STRETCH_AT(n, p + 1, stretches);
        wrong += count_other(w, weight, label, from, until, &seed[p]);
        rows += until - from;
    }
    *error = trial_worse((double)wrong / rows, *error);
    free(label);
    free(seed);
    free(weight);
    return status;
}

static vlcache_status check(summary_work *w, trial_launch *launch, double *error) {
    const vlci_groups *g = &w->room.groups;
    size_t labels = n_heads(w) * (size_t)w->heads.tokens * sizeof(cl_int);
    vlcache_status status = vlci_fill(w->t->device, g->labels, 0, labels, 0xffffffffu);
    if (!status) status = launch(w);
    for (size_t i = 0; i < 2 && !status; i++) {
        size_t head = i * (n_heads(w) - 1);
        status =
            launch == launch_spread ? check_spread_head(w, head, error) : check_nearest_head(w, head, error);
    }
    return status;
}

static vlcache_status check_nearest(void *work, double *error) {
    return check(work, launch_nearest, error);
}

static vlcache_status check_spread(void *work, double *error) {
    return check(work, launch_spread, error);
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

static void release(summary_work *w) {
    TRIAL_RELEASE(w->t, &w->keep, &w->positions, &w->score);
    trial_cache_release(&w->cache);
    free(w->own);
    free(w->evicted);
    free(w->k);
}

static vlcache_status try_ladder(trials *t, int tokens, bool spread) {
    bool quick = t->b->options.quick;
    summary_work w = {.t = t};
    int few = tokens / SHARE;
    w.shape = (vlci_compress_shape){.layers = quick ? 2 : 32,
                                    .heads = quick ? 4 : 32,
                                    .kv_heads = quick ? 2 : 8,
                                    .head_dim = quick ? 64 : 128,
                                    .kv_dtype = t->dtype};
    w.own = memory_take(n_heads(&w), sizeof *w.own);
    for (size_t h = 0; h < n_heads(&w); h++)
        w.own[h] = (vlci_keep){.kept = few, .centroids = few, .first = (vlci_i32)h * few};
    w.heads = (vlci_heads){
        .device = t->device, .shape = w.shape, .layers = w.shape.layers, .tokens = tokens, .own = w.own};
    double products = 2.0 * (double)n_heads(&w) * (tokens - few) * few * w.shape.head_dim;
    trial_case c = {.what = {.kernel = spread ? "spread" : "nearest",
                             .shape = w.name,
                             .amount = spread ? products / vlci_groups_stretches(&w.heads) : products,
                             .tolerance = spread ? TOLERANCE_SPREAD : TOLERANCE_NEAREST},
                    .work = &w,
                    .make = make,
                    .open = open_kernels,
                    .check = spread ? check_spread : check_nearest,
                    .launch = spread ? launch_spread : launch_nearest,
                    .close = close_kernels};
    snprintf(w.name, sizeof w.name, "%d centroids of %d rows in %zu heads of %d", few, tokens - few,
             n_heads(&w), w.shape.head_dim);
    vlcache_status status = trial_ladder(t, spread ? &vlci_spread_ladder : &vlci_nearest_ladder, &c);
    release(&w);
    return status;
}

vlcache_status summary_trials(trials *t) {
    static const int tokens[] = {2048, 8192};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < (t->b->options.quick ? 1 : 2) && !status; i++) {
        int n = t->b->options.quick ? 700 : tokens[i];
        status = try_ladder(t, n, false);
        if (!status) status = try_ladder(t, n, true);
    }
    return status;
}
