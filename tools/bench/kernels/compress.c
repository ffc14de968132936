/*
 * compress.c - what a prompt is compressed by: the score of its tokens, and which of them heads keep.
 *
 *     error: of scores, |got - want| over the largest that is wanted, of the first and the last head; of
 *            top-k, the share of places that a sort fills otherwise
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/kernels/cache.h"
#include "common/memory.h"
#include "compress/score.h"
#include "compress/topk.h"

#define TOLERANCE 2e-2 /* queries in 16 bits, where matrix units read them */
#define THRESHOLD 0.01
enum { SAMPLES = 5 };

/* ---- scores -------------------------------------------------------------------------------------------- */

/* The last rows of a prompt look at all of it, in all layers at once; or all of its rows, in one. */
typedef struct score_work {
    trials *t;
    int tokens, rows;
    bool all;
    char name[64];
    vlci_compress_shape shape;
    trial_cache cache;
    cl_mem q, out, starts, slots, row_max, row_lse;
    vlci_attention a;
    vlci_attention_kernels attention;
    vlci_score_kernels kernels;
    vlci_scores *scores;
} score_work;

static size_t q_floats(const score_work *w) {
    return (size_t)w->rows * (size_t)w->shape.heads * (size_t)w->shape.head_dim;
}

static vlcache_status make_score(void *work) {
    score_work *w = work;
    const vlci_compress_shape *s = &w->shape;
    const vlci_kv_shape shape = {s->layers, s->kv_heads, s->head_dim, s->kv_dtype};
    const cl_int starts[] = {0, w->rows}, slot = 0;
    size_t stats = (size_t)(w->rows * s->heads);
    vlcache_status status = trial_cache_make(w->t, &shape, 1, w->tokens, w->tokens - w->rows, &w->cache);
    if (!status) status = trial_floats(w->t, (size_t)s->layers * q_floats(w), 41, &w->q);
    if (!status) status = trial_poisoned(w->t, q_floats(w), &w->out);
    if (!status) status = trial_poisoned(w->t, stats, &w->row_max);
    if (!status) status = trial_poisoned(w->t, stats, &w->row_lse);
    if (!status) status = trial_bytes(w->t, starts, sizeof starts, &w->starts);
    if (!status) status = trial_bytes(w->t, &slot, sizeof slot, &w->slots);
    const vlci_attention_shape heads = {
        .heads = s->heads, .kv_heads = s->kv_heads, .head_dim = s->head_dim, .kv_dtype = s->kv_dtype};
    if (!status) status = vlci_attention_open(w->t->device, &heads, &w->attention);
    w->a = (vlci_attention){.batch = 1,
                            .causal = true,
                            .scale = 1.0f / sqrtf((float)s->head_dim),
                            .q_stride = (size_t)(s->heads * s->head_dim),
                            .max_rows = w->rows,
                            .q = w->q,
                            .out = w->out,
                            .seq_start = w->starts,
                            .row_max = w->row_max,
                            .row_lse = w->row_lse};
    return status;
}

static vlcache_status observe(score_work *w, int layer) {
    const vlci_look look = {.a = &w->a,
                            .heads_at = vlci_kv_heads_at(&w->cache.kv[0], layer),
                            .from = w->tokens - w->rows,
                            .n = w->rows};
    return vlci_scores_observe(w->scores, layer, &look);
}

/* What attention of a layer leaves is held, or scored. */
static vlcache_status observe_layer(score_work *w, int layer) {
    w->a.kv = vlci_kv_layer(&w->cache.kv[0], layer);
    w->a.kv.slots = w->slots;
    w->a.q_offset = (size_t)layer * q_floats(w);
    vlcache_status status = vlci_attention_run(&w->attention, &w->a);
    return status ? status : observe(w, layer);
}

static vlcache_status open_score(void *work) {
    score_work *w = work;
    const vlci_compress_prompt prompt = {.tokens = w->tokens, .together = !w->all};
    int32_t *entry = memory_take((size_t)w->rows, sizeof *entry);
    for (int i = 0; i < w->rows; i++)
        entry[i] = VLCI_ROW(w->tokens - w->rows + i, VLCI_ROW_SCORED | (w->all ? 0 : VLCI_ROW_COUNTED));
    const vlci_rows rows = {w->rows, entry};
    vlcache_status status = vlci_score_open(w->t->device, &w->shape, &w->kernels);
    if (!status)
        status = vlci_scores_create(w->t->device, &w->kernels, &w->shape, &prompt, &rows, 0, 0, THRESHOLD,
                                    &w->scores);
    free(entry);
    for (int l = 0; l < w->shape.layers && !status; l++) status = observe_layer(w, l);
    return status;
}

static void close_score(void *work) {
    score_work *w = work;
    vlci_scores_release(&w->scores);
}

static vlcache_status launch_score(void *work) {
    score_work *w = work;
    vlci_kv_view kv = vlci_kv_layer(&w->cache.kv[0], 0);
    w->scores->settled = w->scores->begun[0] = false; /* once more */
    if (w->all) return observe(w, 0);
    return vlci_scores_settle(w->scores, &kv, vlci_kv_heads_at(&w->cache.kv[0], 0));
}

/* What a query head sees in the keys of its kv head, and how many entries are below the threshold. */
typedef struct sight {
    double *score;
    int64_t counted, near;
} sight;

static void look(const score_work *w, const float *q, const float *k, int seen, double max, double lse,
                 sight *out) {
    int dim = w->shape.head_dim;
    for (int j = 0; j < seen; j++) {
        double logit = 0;
        for (int d = 0; d < dim; d++) logit += (double)q[d] * (double)k[(size_t)j * (size_t)dim + (size_t)d];
        logit *= (double)w->a.scale;
        double margin = logit - max - log(THRESHOLD);
        out->score[j] += exp(logit - lse);
        out->counted += margin < 0;
        out->near += fabs(margin) < TOLERANCE;
    }
}

static vlcache_status check_query(const score_work *w, int layer, int head, const float *k, sight *out) {
    size_t dim = (size_t)w->shape.head_dim, room = (size_t)w->scores->looks.room,
           heads = (size_t)w->shape.heads;
    const vlci_looks *l = &w->scores->looks;
    float *q = memory_take(dim, sizeof *q), max = 0, lse = 0;
    uint64_t counts[256];
    vlcache_status status = VLCACHE_OK;
    int64_t before = out->counted, near = out->near;
    for (int i = 0; i < w->rows && !status; i++) {
        size_t at = ((size_t)layer * room + (size_t)i) * heads + (size_t)head;
        status = vlci_read(w->t->device, l->q, at * dim * sizeof *q, q, dim * sizeof *q);
        if (!status) status = vlci_read(w->t->device, l->max, at * sizeof max, &max, sizeof max);
        if (!status) status = vlci_read(w->t->device, l->lse, at * sizeof lse, &lse, sizeof lse);
        look(w, q, k, w->tokens - w->rows + i + 1, (double)max, (double)lse, out);
    }
    free(q);
    if (!status) status = vlci_scores_counts(w->scores, layer, 1, counts);
    if (!status && llabs((int64_t)counts[head] - (out->counted - before)) > out->near - near)
        out->score[0] = NAN; /* a count is wrong */
    return status;
}

static vlcache_status check_head(const score_work *w, int layer, int kv_head, double *error) {
    size_t n = (size_t)w->tokens, at = ((size_t)(layer * w->shape.kv_heads + kv_head)) * n;
    float *k = memory_take(trial_cache_floats(&w->cache), sizeof *k), *got = memory_take(n, sizeof *got);
    sight seen = {.score = memory_take(n, sizeof(double))};
    int group = w->shape.heads / w->shape.kv_heads;
    double off = 0, most = 1e-30;
    vlcache_status status = trial_cache_read(&w->cache, false, 0, layer, kv_head, k);
    if (!status) status = vlci_read(w->t->device, w->scores->score, at * sizeof *got, got, n * sizeof *got);
    for (int h = 0; h < group && !status; h++) status = check_query(w, layer, kv_head * group + h, k, &seen);
    for (size_t j = 0; j < n; j++) {
        off = trial_worse(fabs((double)got[j] - seen.score[j]), off);
        most = fmax(seen.score[j], most);
    }
    *error = trial_worse(off / most, *error);
    free(k);
    free(got);
    free(seen.score);
    return status;
}

/* What a kv head's queries, from row j on, see in key j. */
static double seen_in(const score_work *w, const float *q, const float *lse, const float *k, int kv_head,
                      int j) {
    int dim = w->shape.head_dim, group = w->shape.heads / w->shape.kv_heads;
    double sum = 0;
    for (int row = j; row < w->rows; row++)
        for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
            size_t at = (size_t)row * (size_t)w->shape.heads + (size_t)h;
            double logit = 0;
            for (int d = 0; d < dim; d++)
                logit += (double)q[at * (size_t)dim + (size_t)d] * (double)k[(size_t)(j * dim + d)];
            sum += exp(logit * (double)w->a.scale - (double)lse[at]);
        }
    return sum;
}

/* Some columns of the first and of the last head, of one layer that all rows look at. */
static vlcache_status check_all(const score_work *w, double *error) {
    size_t n = (size_t)w->tokens, stats = n * (size_t)w->shape.heads;
    float *q = memory_take(q_floats(w), sizeof *q), *lse = memory_take(stats, sizeof *lse);
    float *k = memory_take(trial_cache_floats(&w->cache), sizeof *k), *got = memory_take(n, sizeof *got);
    vlcache_status status = vlci_read(w->t->device, w->q, 0, q, q_floats(w) * sizeof *q);
    if (!status) status = vlci_read(w->t->device, w->row_lse, 0, lse, stats * sizeof *lse);
    for (int last = 0; last < 2 && !status; last++) {
        int head = last ? w->shape.kv_heads - 1 : 0;
        status = trial_cache_read(&w->cache, false, 0, 0, head, k);
        if (!status)
            status = vlci_read(w->t->device, w->scores->score, (size_t)head * n * sizeof *got, got,
                               n * sizeof *got);
        for (int i = 0; i < SAMPLES && !status; i++) {
            int j = (int)((n - 1) * (size_t)i / (SAMPLES - 1));
            double want = seen_in(w, q, lse, k, head, j);
            *error = trial_worse(fabs((double)got[j] - want) / want, *error);
        }
    }
    free(q);
    free(lse);
    free(k);
    free(got);
    return status;
}

static vlcache_status check_score(void *work, double *error) {
    score_work *w = work;
    const vlci_compress_shape *s = &w->shape;
    size_t bytes = (size_t)(s->layers * s->kv_heads) * (size_t)w->tokens * sizeof(float);
    if (!w->all && !vlci_scores_holds(w->scores, false))
        return vlci_fail(VLCACHE_E_INTERNAL, "%d rows are not scored together", w->rows);
    vlcache_status status = vlci_fill(w->t->device, w->scores->score, 0, bytes, 0xffffffffu);
    if (!status) status = launch_score(w);
    if (w->all) return status ? status : check_all(w, error);
    if (!status) status = check_head(w, 0, 0, error);
    return status ? status : check_head(w, s->layers - 1, s->kv_heads - 1, error);
}

static vlci_compress_shape shape_of(const trials *t) {
    bool quick = t->b->options.quick;
    return (vlci_compress_shape){.layers = quick ? 2 : 32,
                                 .heads = quick ? 4 : 32,
                                 .kv_heads = quick ? 2 : 8,
                                 .head_dim = quick ? 64 : 128,
                                 .kv_dtype = t->dtype};
}

static vlcache_status try_score(trials *t, int tokens, int rows) {
    score_work *w = memory_take(1, sizeof *w);
    *w = (score_work){.t = t, .tokens = tokens, .rows = rows, .all = rows == tokens, .shape = shape_of(t)};
    if (w->all) w->shape.layers = 1;
    const vlci_compress_shape *s = &w->shape;
    double seen = (double)rows * (tokens - rows) + 0.5 * rows * (rows + 1);
    trial_case c = {.what = {.kernel = "score",
                             .shape = w->name,
                             .amount = 2.0 * s->layers * s->heads * s->head_dim * seen,
                             .tolerance = TOLERANCE},
                    .work = w,
                    .make = make_score,
                    .open = open_score,
                    .check = check_score,
                    .launch = launch_score,
                    .close = close_score};
    snprintf(w->name, sizeof w->name, "%d rows over %d in %d x %d/%d heads of %d", rows, tokens, s->layers,
             s->heads, s->kv_heads, s->head_dim);
    vlcache_status status = trial_ladder(t, &vlci_score_ladder, &c);
    TRIAL_RELEASE(t, &w->q, &w->out, &w->starts, &w->slots, &w->row_max, &w->row_lse);
    trial_cache_release(&w->cache);
    free(w);
    return status;
}

/* ---- top-k --------------------------------------------------------------------------------------------- */

typedef struct topk_work {
    trials *t;
    vlci_heads heads;
    char name[64];
    vlci_keep *own;
    cl_mem keep, score, out;
    vlci_topk_kernels kernels;
} topk_work;

static vlcache_status make_topk(void *work) {
    topk_work *w = work;
    size_t heads = (size_t)vlci_heads_n(&w->heads), n = (size_t)w->heads.tokens;
    for (size_t h = 0; h < heads; h++) w->own[h].first = (vlci_i32)h * w->own[0].kept;
    vlcache_status status = trial_bytes(w->t, w->own, heads * sizeof *w->own, &w->keep);
    if (!status) status = trial_floats(w->t, heads * n, 51, &w->score);
    if (!status) status = trial_poisoned(w->t, heads * (size_t)w->own[0].kept, &w->out);
    w->heads.keep = w->keep;
    return status;
}

static vlcache_status open_topk(void *work) {
    topk_work *w = work;
    return vlci_topk_open(w->t->device, &w->kernels);
}

static vlcache_status launch_topk(void *work) {
    const topk_work *w = work;
    return vlci_topk(&w->heads, &w->kernels, w->score, 0, w->out);
}

typedef struct place {
    float score;
    int at;
} place;

static int by_score(const void *left, const void *right) {
    const place *a = left, *b = right;
    return a->score != b->score ? (a->score < b->score) - (a->score > b->score) : a->at - b->at;
}

static int by_place(const void *left, const void *right) {
    return ((const place *)left)->at - ((const place *)right)->at;
}

/* Places of a head that are wrong. */
static vlcache_status check_choice(const topk_work *w, size_t head, double *wrong) {
    size_t n = (size_t)w->heads.tokens, kept = (size_t)w->own[0].kept, recent = (size_t)w->own[0].recent;
    float *score = memory_take(n, sizeof *score);
    int *got = memory_take(kept, sizeof *got);
    place *all = memory_take(n, sizeof *all);
    vlcache_status status =
        vlci_read(w->t->device, w->score, head * n * sizeof *score, score, n * sizeof *score);
    if (!status) status = vlci_read(w->t->device, w->out, head * kept * sizeof *got, got, kept * sizeof *got);
    for (size_t j = 0; j < n; j++) all[j] = (place){score[j], (int)j};
    qsort(all, n - recent, sizeof *all, by_score);
    for (size_t i = 0; i < recent; i++) all[kept - recent + i] = (place){0, (int)(n - recent + i)};
    qsort(all, kept, sizeof *all, by_place);
    for (size_t i = 0; i < kept; i++) *wrong += got[i] != all[i].at;
    free(score);
    free(got);
    free(all);
    return status;
}

static vlcache_status check_topk(void *work, double *error) {
    topk_work *w = work;
    size_t heads = (size_t)vlci_heads_n(&w->heads), kept = (size_t)w->own[0].kept;
    vlcache_status status = vlci_fill(w->t->device, w->out, 0, heads * kept * sizeof(cl_int), 0xffffffffu);
    if (!status) status = launch_topk(w);
    for (size_t i = 0; i < SAMPLES && !status; i++)
        status = check_choice(w, trial_sample(i, SAMPLES, heads), error);
    *error /= (double)SAMPLES * (double)kept;
    return status;
}

static vlcache_status try_topk(trials *t, int tokens) {
    topk_work w = {.t = t, .heads = {.device = t->device, .shape = shape_of(t), .tokens = tokens}};
    w.heads.layers = w.heads.shape.layers;
    size_t heads = (size_t)vlci_heads_n(&w.heads);
    int kept = tokens / 10;
    w.heads.own = w.own = memory_take(heads, sizeof *w.own);
    for (size_t h = 0; h < heads; h++) w.own[h] = (vlci_keep){.kept = kept, .recent = kept / 10};
    snprintf(w.name, sizeof w.name, "%d of %d in %zu heads", kept, tokens, heads);
    trial_case c = {.what = {.kernel = "topk",
                             .shape = w.name,
                             .bytes = true,
                             .amount = 4.0 * (double)heads * (tokens + kept),
                             .tolerance = 0},
                    .work = &w,
                    .make = make_topk,
                    .open = open_topk,
                    .check = check_topk,
                    .launch = launch_topk};
    vlcache_status status = trial_ladder(t, &vlci_topk_ladder, &c);
    TRIAL_RELEASE(t, &w.keep, &w.score, &w.out);
    free(w.own);
    return status;
}

vlcache_status compress_trials(trials *t) {
    if (t->b->options.quick) {
        vlcache_status status = try_score(t, 300, 20);
        if (!status) status = try_score(t, 300, 300);
        return status ? status : try_topk(t, 300);
    }
    static const int tokens[] = {2048, 8192};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) status = try_score(t, tokens[i], 32);
    for (int i = 0; i < 2 && !status; i++) status = try_score(t, tokens[i], tokens[i]);
    for (int i = 0; i < 2 && !status; i++) status = try_topk(t, tokens[i]);
    return status;
}
