/*
 * test_summary.c - centroids of evicted rows: seeds, labels, means and biases against double, iterations that
 * never make it worse, and attention that cannot tell a summary of equal rows from the rows themselves.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { BATCH = 2, HEADS = 4, KV = 2, ROOM = 3, LONG = 170, PAST = 5, MOST_DIM = 64, DECODED = 2 };
enum { ROWS = LONG + PAST + BATCH * KV + DECODED };

static const int tokens[BATCH] = {LONG, 60}, text[BATCH] = {8, 5};

/* What rows and scores are made of. */
enum kind {
    RANDOM,
    EQUAL,
    FEW,       /* three different rows */
    NO_SCORES, /* sinks and recent tokens only */
    ZEROS,     /* scores */
    NANS,      /* some scores */
    PEAK,      /* one score is all there is, others are least numbers */
    KINDS
};

/* A full cache, what it is compressed to, and what the device said on the way. */
typedef struct cache {
    vlcache_dtype dtype;
    int dim;
    float *k, *v; /* [BATCH][KV][ROWS][dim], as stored */
    vlci_compress *plan;
    vlci_attention full;
    vlci_compact_to small;
    float *scores;                   /* [BATCH][KV][LONG]; NULL: none */
    float *small_k, *small_v, *bias; /* [BATCH][KV][capacity][dim], [BATCH][KV][capacity] */
    int32_t *evicted, *labels;       /* [BATCH][KV][LONG] */
} cache;

static float widen(const void *data, size_t i, vlcache_dtype dtype) {
    float value;
    if (dtype == VLCACHE_DTYPE_F32) {
        memcpy(&value, (const float *)data + i, sizeof value);
        return value;
    }
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16; /* BF16: the tests use no other */
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float *download_rows(cl_mem memory, size_t n, vlcache_dtype dtype) {
    size_t bytes = n * vlci_dtype_bytes(dtype);
    unsigned char *raw = malloc(bytes);
    float *out = malloc(n * sizeof *out);
    suite_download(memory, raw, bytes);
    for (size_t i = 0; i < n; i++) out[i] = widen(raw, i, dtype);
    free(raw);
    return out;
}

static void make_scores(cache *c, enum kind kind) {
    uint64_t seed = 5;
    int n = BATCH * KV * LONG;
    c->scores = malloc((size_t)n * sizeof *c->scores);
    for (int i = 0; i < n; i++) {
        c->scores[i] = fabsf(suite_random(&seed));
        if (kind == ZEROS) c->scores[i] = 0.0f;
        if (kind == NANS && i % 7 == 3) c->scores[i] = NAN;
        if (kind == PEAK) c->scores[i] = i % LONG == 11 ? 1e30f : 1e-38f;
    }
}

/* One layer; budget and summary as asked. */
static void make_plan(cache *c, const char *summary, double budget, bool later, enum kind kind) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_compress_shape shape = {1, BATCH, HEADS, KV, c->dim, c->dtype};
    int32_t past[BATCH * KV];
    vlci_recipe recipe;
    options.allocation = VLCACHE_ALLOCATION_UNIFORM;
    options.scoring = kind == NO_SCORES ? VLCACHE_SCORING_SINK_RECENT : VLCACHE_SCORING_WINDOW;
    if (kind != NO_SCORES) options.window = 4;
    ck_ok(vlcache_compress_set(&options, "summary", summary));
    options.budget = budget;
    ck_ok(vlci_policy_read(&options, &recipe));
    for (int g = 0; g < BATCH * KV; g++) past[g] = later ? PAST + g : 0;
    vlci_compress_prompt prompt = {.tokens = tokens, .text = text, .past = past};
    ck_ok(vlci_compress_create(suite_device(), &recipe, &shape, &prompt, NULL, 0, &c->plan));
    if (kind != NO_SCORES) {
        make_scores(c, kind);
        c->plan->seen->score[0] = suite_upload(c->scores, BATCH * KV * LONG * sizeof *c->scores);
        c->plan->seen->observed = 1;
    }
    c->plan->decoded = later ? DECODED : 0;
    ck_ok(vlci_compress_plan(c->plan));
}

static void make_rows(cache *c, enum kind kind) {
    size_t n = (size_t)(BATCH * KV * ROWS * c->dim);
    uint64_t seed = 9;
    c->k = malloc(n * sizeof *c->k);
    c->v = malloc(n * sizeof *c->v);
    for (size_t i = 0; i < n; i++) {
        size_t same = i % (size_t)c->dim + (kind == FEW ? i / (size_t)c->dim % 3 * 7 : 0);
        bool random = kind != EQUAL && kind != FEW;
        c->k[i] = random ? 2.0f * suite_random(&seed) : sinf((float)same);
        c->v[i] = random ? suite_random(&seed) : cosf((float)same);
    }
    void *k = suite_store(c->k, n, c->dtype), *v = suite_store(c->v, n, c->dtype);
    c->full = (vlci_attention){.batch = BATCH,
                               .heads = HEADS,
                               .kv_heads = KV,
                               .head_dim = c->dim,
                               .kv_dtype = c->dtype,
                               .row_stride = (size_t)c->dim,
                               .head_stride = (size_t)(ROWS * c->dim),
                               .seq_stride = (size_t)(KV * ROWS * c->dim)};
    c->full.k = suite_upload(k, n * vlci_dtype_bytes(c->dtype));
    c->full.v = suite_upload(v, n * vlci_dtype_bytes(c->dtype));
    free(k);
    free(v);
}

static void compress(cache *c) {
    int capacity = vlci_compress_most_rows(c->plan, 0) + PAST + BATCH * KV + ROOM;
    size_t n = (size_t)(BATCH * KV * capacity);
    c->small = (vlci_compact_to){.row_stride = (size_t)c->dim,
                                 .head_stride = (size_t)(capacity * c->dim),
                                 .seq_stride = (size_t)(KV * capacity * c->dim),
                                 .capacity = capacity};
    c->small.k = suite_poison(n * (size_t)c->dim * vlci_dtype_bytes(c->dtype));
    c->small.v = suite_poison(n * (size_t)c->dim * vlci_dtype_bytes(c->dtype));
    c->small.bias = suite_poison(n * sizeof(float));
    ck_ok(vlci_compress_layer(c->plan, 0, &c->full, NULL, 0, &c->small));
    c->small_k = download_rows(c->small.k, n * (size_t)c->dim, c->dtype);
    c->small_v = download_rows(c->small.v, n * (size_t)c->dim, c->dtype);
    c->bias = malloc(n * sizeof *c->bias);
    suite_download(c->small.bias, c->bias, n * sizeof *c->bias);
    if (!c->plan->evicted) return;
    c->evicted = malloc(BATCH * KV * LONG * sizeof *c->evicted);
    c->labels = malloc(BATCH * KV * LONG * sizeof *c->labels);
    suite_download(c->plan->evicted, c->evicted, BATCH * KV * LONG * sizeof *c->evicted);
    suite_download(c->plan->labels, c->labels, BATCH * KV * LONG * sizeof *c->labels);
}

static cache make(int dim, vlcache_dtype dtype, const char *summary, double budget, bool later,
                  enum kind kind) {
    cache c = {.dtype = dtype, .dim = dim};
    make_plan(&c, summary, budget, later, kind);
    make_rows(&c, kind);
    compress(&c);
    return c;
}

static void release(cache *c) {
    cl_mem memory[] = {c->full.k, c->full.v, c->small.k, c->small.v, c->small.bias};
    float *floats[] = {c->k, c->v, c->small_k, c->small_v, c->bias, c->scores};
    for (size_t i = 0; i < 5; i++) suite_release(memory[i]);
    for (size_t i = 0; i < 6; i++) free(floats[i]);
    free(c->evicted);
    free(c->labels);
    vlci_compress_destroy(&c->plan);
}

/* ---- one head ------------------------------------------------------------------------------------------ */

typedef struct head {
    const cache *c;
    int g, first, n, kept, centroids, evicted; /* n: tokens */
    const float *k, *v;                        /* row 0: the prompt's first */
    const int32_t *position, *label;
} head;

static head head_of(const cache *c, int g) {
    head h = {.c = c, .g = g, .first = c->plan->before[g], .n = tokens[g / KV]};
    h.kept = c->plan->layer[g / KV].kept;
    h.centroids = c->plan->layer[g / KV].centroids;
    h.evicted = h.n - h.kept;
    h.k = c->k + (size_t)(g * ROWS + h.first) * (size_t)c->dim;
    h.v = c->v + (size_t)(g * ROWS + h.first) * (size_t)c->dim;
    h.position = c->evicted + g * LONG;
    h.label = c->labels + g * LONG;
    return h;
}

static void check_evicted(const head *h) {
    int kept[LONG], at = 0, e = 0;
    ck_ok(vlci_compress_positions(h->c->plan, 0, h->g / KV, h->g % KV, kept));
    for (int j = 0; j < h->n; j++) {
        if (at < h->kept && kept[at] == j)
            at++;
        else
            ck_assert_int_eq(h->position[e++], j);
    }
    ck_assert_int_eq(e, h->evicted);
}

/* Means of the device's own labels, in double: rows, and biases. Returns the sum of squared distances. */
static double check_centroid(const head *h, int centroid, double rtol) {
    const cache *c = h->c;
    double mean[2][MOST_DIM] = {{0}}, squares = 0.0;
    int count = 0, capacity = c->small.capacity, row = h->first + h->kept + centroid;
    for (int e = 0; e < h->evicted; e++) {
        if (h->label[e] != centroid) continue;
        for (int d = 0; d < c->dim; d++) {
            mean[0][d] += (double)h->k[h->position[e] * c->dim + d];
            mean[1][d] += (double)h->v[h->position[e] * c->dim + d];
        }
        count++;
    }
    float bias = c->bias[h->g * capacity + row];
    if (!count) {
        ck_assert(bias <= -1e29f && !isinf(bias));
        return 0.0;
    }
    ck_assert_float_eq_tol(bias, logf((float)count), 1e-5f);
    for (int i = 0; i < 2; i++)
        for (int d = 0; d < c->dim; d++) mean[i][d] /= count;
    size_t at = (size_t)(h->g * capacity + row) * (size_t)c->dim;
    suite_close("mean key", c->small_k + at, mean[0], (size_t)c->dim, 2e-5 + rtol, rtol);
    suite_close("mean value", c->small_v + at, mean[1], (size_t)c->dim, 2e-5 + rtol, rtol);
    for (int e = 0; e < h->evicted; e++)
        for (int d = 0; d < c->dim && h->label[e] == centroid; d++)
            squares += pow((double)h->k[h->position[e] * c->dim + d] - mean[0][d], 2.0);
    return squares;
}

static double check_heads(const cache *c, double rtol) {
    double squares = 0.0;
    for (int g = 0; g < BATCH * KV; g++) {
        head h = head_of(c, g);
        ck_assert_int_gt(h.centroids, 0);
        check_evicted(&h);
        for (int i = 0; i < h.centroids; i++) squares += check_centroid(&h, i, rtol);
    }
    return squares;
}

/* ---- tests --------------------------------------------------------------------------------------------- */

/* Without iterations: runs of neighbours. */
START_TEST(test_seeds) {
    cache c = make(16, VLCACHE_DTYPE_F32, "kmeans:0.5:0", 0.2, false, RANDOM);
    check_heads(&c, 1e-6);
    for (int g = 0; g < BATCH * KV; g++) {
        head h = head_of(&c, g);
        for (int e = 0; e < h.evicted; e++) ck_assert_int_eq(h.label[e], e * h.centroids / h.evicted);
    }
    release(&c);
}
END_TEST

/* One iteration: the nearest of the seeds' means, but for rows that two are as near to. */
START_TEST(test_nearest) {
    cache c = make(24, VLCACHE_DTYPE_F32, "kmeans:0.7:1", 0.3, true, RANDOM);
    int compared = 0;
    check_heads(&c, 1e-6);
    for (int g = 0; g < BATCH * KV; g++) {
        head h = head_of(&c, g);
        double *mean = calloc((size_t)(h.centroids * c.dim), sizeof *mean);
        int *count = calloc((size_t)h.centroids, sizeof *count);
        for (int e = 0; e < h.evicted; e++) {
            int seed = e * h.centroids / h.evicted;
            count[seed]++;
            for (int d = 0; d < c.dim; d++) mean[seed * c.dim + d] += (double)h.k[h.position[e] * c.dim + d];
        }
        for (int e = 0; e < h.evicted; e++) {
            int best = 0;
            double margin = INFINITY, near = INFINITY;
            for (int i = 0; i < h.centroids; i++) {
                double far = 0.0;
                for (int d = 0; d < c.dim; d++)
                    far += pow((double)h.k[h.position[e] * c.dim + d] - mean[i * c.dim + d] / count[i], 2.0);
                margin = far < near ? near - far : fmin(margin, far - near);
                if (far < near) best = i, near = far;
            }
            if (margin < 1e-3) continue;
            ck_assert_int_eq(h.label[e], best);
            compared++;
        }
        free(mean);
        free(count);
    }
    ck_assert_int_gt(compared, 300);
    release(&c);
}
END_TEST

START_TEST(test_iterations) {
    static const char *const summaries[2][4] = {
        {"kmeans:0.5:0", "kmeans:0.5:1", "kmeans:0.5:3", "kmeans:0.5:30"},
        {"spread:0.5:0", "spread:0.5:1", "spread:0.5:3", "spread:0.5:30"}};
    double before = INFINITY;
    int dim = suite_reduced() ? 16 : 64;
    for (int i = 0; i < (suite_reduced() ? 2 : 4); i++) {
        cache c = make(dim, VLCACHE_DTYPE_F32, summaries[_i][i], suite_reduced() ? 0.08 : 0.25, true, RANDOM);
        double squares = check_heads(&c, 1e-6);
        ck_assert_double_le(squares, before);
        before = squares;
        release(&c);
    }
    cache c = make(dim, VLCACHE_DTYPE_BF16, suite_reduced() ? "kmeans:0.5:1" : "kmeans:0.5:3", 0.25, true,
                   RANDOM); /* rounded once, when stored */
    check_heads(&c, 1.0 / 256);
    release(&c);
}
END_TEST

/* Seeds far from one another, against a traversal in double. */
static void check_spread(const cache *c) {
    for (int g = 0; g < BATCH * KV; g++) {
        head h = head_of(c, g);
        float *rows = calloc((size_t)(h.evicted * c->dim), sizeof *rows), scores[LONG];
        int want[LONG];
        for (int e = 0; e < h.evicted; e++) {
            memcpy(rows + e * c->dim, h.k + h.position[e] * c->dim, (size_t)c->dim * sizeof *rows);
            if (c->scores) scores[e] = c->scores[g * LONG + h.position[e]];
        }
        ref_spread(rows, c->scores ? scores : NULL, h.evicted, c->dim, h.centroids, want);
        for (int e = 0; e < h.evicted; e++) ck_assert_int_eq(h.label[e], want[e]);
        free(rows);
    }
}

START_TEST(test_spread) {
    static const char *const rungs[] = {"spread:group", "spread:wide"};
    setenv("VLCACHE_VARIANT", rungs[_i % 2], 1);
    for (int kind = 0; kind < KINDS; kind++) {
        static const int dims[] = {8, 24, 64};
        for (int i = 0; i < (suite_reduced() ? 1 : 3); i++) {
            cache c = make(dims[i], VLCACHE_DTYPE_F32, "spread:0.5", _i < 2 && !suite_reduced() ? 0.2 : 0.04,
                           i > 0, kind);
            check_heads(&c, 1e-6);
            check_spread(&c);
            release(&c);
        }
    }
    cache c = make(suite_reduced() ? 24 : 64, VLCACHE_DTYPE_BF16, "spread:0.7", suite_reduced() ? 0.05 : 0.3,
                   true, RANDOM);
    check_heads(&c, 1.0 / 256);
    check_spread(&c);
    release(&c);
    unsetenv("VLCACHE_VARIANT");
}
END_TEST

/* Few rows that differ are found whatever their scores are: what they stand for is exact. */
START_TEST(test_few_rows) {
    cache c = make(16, VLCACHE_DTYPE_F32, "spread:0.5:2", 0.2, true, FEW);
    ck_assert_double_le(check_heads(&c, 1e-6), 1e-9);
    release(&c);
}
END_TEST

/* Kept and centroids stay within the budget; a budget of 1 has no centroids; tiny budgets keep the recent. */
START_TEST(test_budgets) {
    static const double budgets[] = {0.02, 0.1, 1.0, 0.01, 0.5, 0.97};
    for (int i = 0; i < (suite_reduced() ? 3 : 6); i++) {
        const char *summary = _i ? "spread:0.9" : "kmeans:0.9:2";
        cache c = make(8, VLCACHE_DTYPE_F32, summary, budgets[i], false, RANDOM);
        for (int b = 0; b < BATCH; b++) {
            const vlcache_compress_layer *l = &c.plan->layer[b];
            ck_assert_int_le(l->kept + l->centroids, (int)fmax(1.0, budgets[i] * tokens[b] + 0.5));
            ck_assert_int_ge(l->kept, l->recent);
            ck_assert(budgets[i] < 1.0 || l->centroids == 0);
        }
        release(&c);
    }
}
END_TEST

static void attend(const cache *c, bool small, const float *query, float *out) {
    int start[BATCH + 1] = {0, 1, 2}, past[BATCH * KV];
    for (int g = 0; g < BATCH * KV; g++) {
        int rows = small ? vlci_compress_rows(c->plan, 0, g / KV) : tokens[g / KV] + c->plan->decoded;
        past[g] = c->plan->before[g] + rows - 1;
    }
    vlci_attention a = c->full;
    size_t n = (size_t)(BATCH * HEADS * c->dim) * sizeof *query;
    if (small) {
        a.k = c->small.k;
        a.v = c->small.v;
        a.bias = c->small.bias;
        a.bias_stride = (size_t)c->small.capacity;
        a.head_stride = c->small.head_stride;
        a.seq_stride = c->small.seq_stride;
    }
    a.causal = true;
    a.scale = 0.5f;
    a.max_rows = 1;
    a.q_stride = (size_t)(HEADS * c->dim);
    a.q = suite_upload(query, n);
    a.out = suite_poison(n);
    a.seq_start = suite_upload(start, sizeof start);
    a.past = suite_upload(past, sizeof past);
    ck_ok(vlci_attention_run(suite_device(), &a));
    suite_download(a.out, out, n);
    cl_mem all[] = {a.q, a.out, a.seq_start, a.past};
    for (size_t i = 0; i < 4; i++) suite_release(all[i]);
}

/* Rows that are all equal are represented exactly: one centroid counts for all, the others for nothing. */
START_TEST(test_equal_rows) {
    static const char *const summaries[] = {"kmeans:0.5:3", "spread:0.5", "spread:0.5:3"};
    cache c = make(16, VLCACHE_DTYPE_F32, summaries[_i / 2], 0.2, _i % 2 == 1, EQUAL);
    float query[BATCH * HEADS * 16], full[BATCH * HEADS * 16], small[BATCH * HEADS * 16];
    double want[BATCH * HEADS * 16];
    uint64_t seed = 3;
    for (int i = 0; i < BATCH * HEADS * 16; i++) query[i] = suite_random(&seed);
    for (int g = 0; g < BATCH * KV; g++) {
        head h = head_of(&c, g);
        int used = 0;
        for (int i = 0; i < h.centroids; i++)
            used += c.bias[g * c.small.capacity + h.first + h.kept + i] > -1e29f;
        ck_assert_int_eq(used, 1);
    }
    attend(&c, false, query, full);
    attend(&c, true, query, small);
    for (int i = 0; i < BATCH * HEADS * 16; i++) want[i] = (double)full[i];
    suite_close("attention", small, want, BATCH * HEADS * 16, 1e-5, 1e-5);
    release(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("summary");
    TCase *all = tcase_create("summary");
    tcase_add_test(all, test_seeds);
    tcase_add_test(all, test_nearest);
    tcase_add_loop_test(all, test_iterations, 0, 2);
    tcase_add_loop_test(all, test_spread, 0, suite_reduced() ? 2 : 4);
    tcase_add_test(all, test_few_rows);
    tcase_add_loop_test(all, test_budgets, 0, 2);
    tcase_add_loop_test(all, test_equal_rows, 0, 6);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
