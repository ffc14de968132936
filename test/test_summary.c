/*
 * test_summary.c - centroids of evicted rows: seeds, labels, means and biases against double, iterations that
 * never make it worse, layers at once and one by one, and attention that cannot tell a summary of equal rows
 * from the rows themselves.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/budget.h"
#include "compress/compact.h"
#include "compress/summary.h"
#include "compute/attention.h"
#include "ref/ref_compress.h"
#include "support/pages.h"

enum { LAYERS = 2, QUERY_HEADS = 4, KV = 2, HEADS = LAYERS * KV, LONG = 170, PAST = 5, MOST_DIM = 128 };
enum { DECODED = 2 };

/* What rows and scores are made of. */
enum kind {
    RANDOM,
    EQUAL,
    FEW,       /* three different rows */
    NO_SCORES, /* sinks and recent tokens only */
    ZEROS,     /* scores */
    NANS,      /* some scores */
    PEAK,      /* one score is all there is, others are least numbers */
    GRID,      /* rows of small whole numbers, no scores: distances are exact, and most of them ties */
    KINDS
};

/* Two sequences with the same rows, the second compressed, and what the device said on the way. */
typedef struct cache {
    vlcache_dtype dtype;
    int dim, tokens, decoded;
    enum kind kind;
    vlci_recipe recipe;
    vlcache_compress_layer layer;
    vlci_keep own[HEADS];
    vlci_summary_kernels kernels;
    pages *p;
    int rows[2 * HEADS];
    float *k, *v;   /* rows of all lists, as they are stored */
    float *scores;  /* [HEADS][tokens]; NULL: none */
    int *positions; /* kept ones: of head g from own[g].first on */
    float *small_k[HEADS], *small_v[HEADS], *bias[HEADS];
    int32_t *evicted, *labels; /* [heads summed up last][tokens] */
} cache;

static bool scored(const cache *c) {
    return c->kind != NO_SCORES && c->kind != GRID;
}

static void make_scores(cache *c) {
    uint64_t seed = 5;
    int n = HEADS * c->tokens;
    if (!scored(c)) return;
    c->scores = malloc((size_t)n * sizeof *c->scores);
    for (int i = 0; i < n; i++) {
        c->scores[i] = fabsf(suite_random(&seed));
        if (c->kind == ZEROS) c->scores[i] = 0.0f;
        if (c->kind == NANS && i % 7 == 3) c->scores[i] = NAN;
        if (c->kind == PEAK) c->scores[i] = i % c->tokens == 11 ? 1e30f : 1e-38f;
    }
}

static void read_recipe(cache *c, const char *summary, double budget) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.allocation = VLCACHE_ALLOCATION_UNIFORM;
    options.scoring = scored(c) ? VLCACHE_SCORING_WINDOW : VLCACHE_SCORING_SINK_RECENT;
    if (scored(c)) options.window = 4;
    ck_ok(vlcache_compress_set(&options, "summary", summary));
    options.budget = budget;
    ck_ok(vlci_policy_read(&options, true, &c->recipe));
}

/* What the heads keep: as the budget says, some of them fewer rows, as when they share by their scores. */
static void choose(cache *c, bool later) {
    int at = 0;
    vlci_budget_share(&c->recipe, c->tokens, 0, 1, 1, &c->layer);
    vlci_budget_even(&c->layer, KV, c->own);
    vlci_budget_even(&c->layer, KV, c->own + KV);
    c->positions = calloc((size_t)(HEADS * c->tokens), sizeof *c->positions);
    for (int g = 0; g < HEADS; g++) {
        vlci_keep *own = &c->own[g];
        own->before = later ? PAST + 6 * g : 0;
        own->first = at;
        for (int less = g % 3; less && own->kept > own->recent + own->sinks; less--) own->kept--;
        ref_topk(c->scores ? c->scores + g * c->tokens : NULL, c->tokens, own->kept, own->recent, own->sinks,
                 c->positions + at);
        at += own->kept;
        c->rows[g] = c->rows[HEADS + g] = own->before + c->tokens + c->decoded;
    }
}

static void make_rows(cache *c) {
    size_t n = pages_first(c->rows, HEADS) * (size_t)c->dim;
    vlci_kv_shape shape = {LAYERS, KV, c->dim, c->dtype};
    uint64_t seed = 9;
    c->k = malloc(2 * n * sizeof *c->k);
    c->v = malloc(2 * n * sizeof *c->v);
    for (size_t i = 0; i < n; i++) {
        size_t same = i % (size_t)c->dim + (c->kind == FEW ? i / (size_t)c->dim % 3 * 7 : 0);
        bool random = c->kind != EQUAL && c->kind != FEW;
        c->k[i] = c->k[n + i] = random ? 2.0f * suite_random(&seed) : sinf((float)same);
        c->v[i] = c->v[n + i] = random ? suite_random(&seed) : cosf((float)same);
        if (c->kind == GRID) c->k[i] = c->k[n + i] = floorf(c->k[i]);
    }
    c->p = pages_create(&shape, 2, &(pages_rows){.rows = c->rows, .k = c->k, .v = c->v},
                        HEADS * vlci_kv_pages(c->rows[HEADS - 1]));
}

/* ---- the library --------------------------------------------------------------------------------------- */

static vlci_compress_shape shape_of(const cache *c) {
    return (vlci_compress_shape){LAYERS, QUERY_HEADS, KV, c->dim, c->dtype, 0};
}

static vlci_heads heads_of(cache *c, int layer, int layers, cl_mem keep) {
    return (vlci_heads){.device = suite_device(),
                        .shape = shape_of(c),
                        .layer = layer,
                        .layers = layers,
                        .tokens = c->tokens,
                        .own = c->own,
                        .keep = keep,
                        .kv = vlci_kv_layer(&c->p->kv[1], layer),
                        .heads_at = vlci_kv_heads_at(&c->p->kv[1], layer)};
}

/* Some layers: rows that stay, then centroids. */
static void compress_layers(cache *c, int layer, int layers, cl_mem score, vlci_summary_room *room) {
    int rows[HEADS], keep[HEADS];
    vlci_keep none[HEADS] = {{0}};
    vlci_compact_kernels compact;
    vlci_compress_shape shape = shape_of(c);
    vlci_kv_next next;
    for (int i = 0; i < layers * KV; i++) {
        const vlci_keep *own = &c->own[layer * KV + i];
        rows[i] = own->before + own->kept + own->centroids + c->decoded;
        keep[i] = own->before;
    }
    cl_mem to = suite_poison(HEADS * sizeof(vlci_kv_head)), on = suite_upload(c->own, sizeof c->own);
    cl_mem held = suite_upload(none, sizeof none);
    cl_mem positions = suite_upload(c->positions, (size_t)(HEADS * c->tokens) * sizeof *c->positions);
    vlci_stay stay = {positions, held, positions, c->decoded};
    ck_ok(vlci_compact_open(suite_device(), &shape, &compact));
    ck_ok(vlci_kv_replace(&c->p->kv[1], layer, layers, rows, keep, true, to, &next));
    vlci_heads h = heads_of(c, layer, layers, on);
    ck_ok(vlci_compact(&h, &compact, &stay, to));
    ck_ok(vlci_summary_begin(&h, &c->kernels, &c->recipe, positions, score, (size_t)(layer * KV * c->tokens),
                             room));
    while (room->step < room->steps) {
        vlci_pace pace = {.left = layers > 1 ? (double)INFINITY : 1e-9};
        int step = room->step;
        ck_ok(vlci_summary_go(&h, &c->kernels, room, &pace));
        ck_assert(pace.begun && room->step == (layers > 1 ? room->steps : step + 1));
    }
    ck_ok(vlci_summary_write(&h, &c->kernels, to, room));
    vlci_kv_replaced(&c->p->kv[1], &next);
    cl_mem all[] = {to, on, held, positions};
    for (size_t i = 0; i < 4; i++) suite_release(all[i]);
}

/* at_once: layers. */
static void compress(cache *c, int at_once) {
    vlci_compress_shape shape = shape_of(c);
    vlci_summary_room room = {0};
    size_t list = (size_t)(at_once * KV * c->tokens) * sizeof(int32_t);
    cl_mem score =
        c->scores ? suite_upload(c->scores, (size_t)(HEADS * c->tokens) * sizeof *c->scores) : NULL;
    ck_ok(vlci_summary_open(suite_device(), &shape, &c->recipe, &c->kernels));
    for (int l = 0; l < LAYERS; l += at_once) compress_layers(c, l, at_once, score, &room);
    for (int g = 0; g < HEADS; g++) {
        size_t n = (size_t)(c->own[g].before + c->own[g].kept + c->own[g].centroids + c->decoded) + 1;
        c->small_k[g] = malloc(n * (size_t)c->dim * sizeof(float));
        c->small_v[g] = malloc(n * (size_t)c->dim * sizeof(float));
        c->bias[g] = malloc(n * sizeof(float));
        pages_read(&c->p->kv[1], g / KV, g % KV, c->small_k[g], c->small_v[g], c->bias[g]);
    }
    if (room.groups.evicted) {
        c->evicted = malloc(list);
        c->labels = malloc(list);
        suite_download(room.groups.evicted, c->evicted, list);
        suite_download(room.groups.labels, c->labels, list);
    }
    vlci_summary_release(suite_device(), &room);
    if (score) suite_release(score);
}

/* Rows and choices; nothing is compressed yet. */
static cache begin_of(int tokens, int dim, vlcache_dtype dtype, const char *summary, double budget,
                      bool later, enum kind kind) {
    cache c = {.dtype = dtype, .dim = dim, .tokens = tokens, .kind = kind};
    c.decoded = later ? DECODED : 0;
    make_scores(&c);
    read_recipe(&c, summary, budget);
    choose(&c, later);
    make_rows(&c);
    return c;
}

static cache begin(int dim, vlcache_dtype dtype, const char *summary, double budget, bool later,
                   enum kind kind) {
    return begin_of(later ? LONG : 60, dim, dtype, summary, budget, later, kind);
}

static cache make(int dim, vlcache_dtype dtype, const char *summary, double budget, bool later,
                  enum kind kind) {
    cache c = begin(dim, dtype, summary, budget, later, kind);
    compress(&c, LAYERS);
    return c;
}

static void release(cache *c) {
    for (int g = 0; g < HEADS; g++) {
        free(c->small_k[g]);
        free(c->small_v[g]);
        free(c->bias[g]);
    }
    free(c->k);
    free(c->v);
    free(c->scores);
    free(c->positions);
    free(c->evicted);
    free(c->labels);
    pages_destroy(c->p);
}

/* ---- one head ------------------------------------------------------------------------------------------ */

typedef struct head {
    const cache *c;
    int g, first, n, kept, centroids, evicted; /* n: tokens */
    const float *k, *v;                        /* row 0: the prompt's first */
    const int32_t *position, *label;
} head;

static head head_of(const cache *c, int g) {
    head h = {.c = c, .g = g, .first = c->own[g].before, .n = c->tokens};
    size_t at = (pages_first(c->rows, g) + (size_t)h.first) * (size_t)c->dim;
    h.kept = c->own[g].kept;
    h.centroids = c->own[g].centroids;
    h.evicted = h.n - h.kept;
    h.k = c->k + at;
    h.v = c->v + at;
    h.position = c->evicted + g * c->tokens;
    h.label = c->labels + g * c->tokens;
    return h;
}

/* Those not kept, in order; and rows that stay, with no bias. */
static void check_evicted(const head *h) {
    const int *kept = h->c->positions + h->c->own[h->g].first;
    int at = 0, e = 0;
    for (int j = 0; j < h->n; j++) {
        if (at < h->kept && kept[at] == j)
            at++;
        else
            ck_assert_int_eq(h->position[e++], j);
    }
    ck_assert_int_eq(e, h->evicted);
    for (int i = 0; i < h->kept; i++) {
        size_t dim = (size_t)h->c->dim, row = (size_t)(h->first + i);
        ck_assert_mem_eq(h->c->small_k[h->g] + row * dim, h->k + (size_t)kept[i] * dim, dim * sizeof *h->k);
        ck_assert_float_eq(h->c->bias[h->g][row], 0.0f);
    }
}

/* Means of the device's own labels, in double: rows, and biases. Returns the sum of squared distances. */
static double check_centroid(const head *h, int centroid, double rtol) {
    const cache *c = h->c;
    double mean[2][MOST_DIM] = {{0}}, squares = 0.0;
    int count = 0, row = h->first + h->kept + centroid;
    for (int e = 0; e < h->evicted; e++) {
        if (h->label[e] != centroid) continue;
        for (int d = 0; d < c->dim; d++) {
            mean[0][d] += (double)h->k[h->position[e] * c->dim + d];
            mean[1][d] += (double)h->v[h->position[e] * c->dim + d];
        }
        count++;
    }
    float bias = c->bias[h->g][row];
    if (!count) {
        ck_assert(bias <= -1e29f && !isinf(bias));
        return 0.0;
    }
    ck_assert_float_eq_tol(bias, logf((float)count), 1e-5f);
    for (int i = 0; i < 2; i++)
        for (int d = 0; d < c->dim; d++) mean[i][d] /= count;
    size_t at = (size_t)row * (size_t)c->dim;
    suite_close("mean key", c->small_k[h->g] + at, mean[0], (size_t)c->dim, 2e-5 + rtol, rtol);
    suite_close("mean value", c->small_v[h->g] + at, mean[1], (size_t)c->dim, 2e-5 + rtol, rtol);
    for (int e = 0; e < h->evicted; e++)
        for (int d = 0; d < c->dim && h->label[e] == centroid; d++)
            squares += pow((double)h->k[h->position[e] * c->dim + d] - mean[0][d], 2.0);
    return squares;
}

static double check_heads(const cache *c, double rtol) {
    double squares = 0.0;
    for (int g = 0; g < HEADS; g++) {
        head h = head_of(c, g);
        ck_assert_int_gt(h.centroids, 0);
        check_evicted(&h);
        for (int i = 0; i < h.centroids; i++) squares += check_centroid(&h, i, rtol);
    }
    return squares;
}

/* All rungs of what seeds are found by; mixed, too. */
static const char *const rungs[] = {"spread:group,nearest:tile", "spread:wide,nearest:wide",
                                    "spread:group,nearest:wide", "spread:wide,nearest:tile"};

/* The device's choice; in a simulator, where work-groups take minutes, only the tests of rungs have them. */
static void force_usual(void) {
    suite_force(suite_reduced() ? rungs[1] : NULL);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

/* Without iterations: runs of neighbours. */
START_TEST(test_seeds) {
    cache c = make(16, VLCACHE_DTYPE_F32, "kmeans:0.5:0", 0.2, false, RANDOM);
    check_heads(&c, 1e-6);
    for (int g = 0; g < HEADS; g++) {
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
    for (int g = 0; g < HEADS; g++) {
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
    for (int i = suite_reduced() ? 1 : 0; i < (suite_reduced() ? 2 : 4); i++) {
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
    for (int g = 0; g < HEADS; g++) {
        head h = head_of(c, g);
        float *rows = calloc((size_t)(h.evicted * c->dim), sizeof *rows);
        float *scores = calloc((size_t)c->tokens, sizeof *scores);
        int *want = calloc((size_t)c->tokens, sizeof *want);
        for (int e = 0; e < h.evicted; e++) {
            memcpy(rows + e * c->dim, h.k + h.position[e] * c->dim, (size_t)c->dim * sizeof *rows);
            if (c->scores) scores[e] = c->scores[g * c->tokens + h.position[e]];
        }
        ref_spread(rows, c->scores ? scores : NULL, h.evicted, c->dim, h.centroids, want);
        for (int e = 0; e < h.evicted; e++)
            ck_assert_msg(h.label[e] == want[e], "head %d, %d centroids, row %d of %d: seed %d, not %d", g,
                          h.centroids, e, h.evicted, h.label[e], want[e]);
        free(rows);
        free(scores);
        free(want);
    }
}

START_TEST(test_spread) {
    suite_force(rungs[_i % 2]);
    for (int kind = 0; kind < KINDS; kind += suite_reduced() ? KINDS - 1 : 1) {
        static const int dims[] = {8, 24, 64};
        for (int i = 0; i < (suite_reduced() ? 1 : 3); i++) {
            cache c = make(dims[i], VLCACHE_DTYPE_F32, "spread:0.5", _i < 2 && !suite_reduced() ? 0.2 : 0.04,
                           i > 0, kind);
            check_heads(&c, 1e-6);
            check_spread(&c);
            release(&c);
        }
    }
    if (suite_reduced() && _i == 0) { /* a minute in a simulator */
        force_usual();
        return;
    }
    cache c = make(suite_reduced() ? 24 : 64, VLCACHE_DTYPE_BF16, "spread:0.7", suite_reduced() ? 0.05 : 0.3,
                   true, RANDOM);
    check_heads(&c, 1.0 / 256);
    check_spread(&c);
    release(&c);
    force_usual();
}
END_TEST

/* Heads with a seed, with few, with none where another head has some, with more seeds than rows. */
START_TEST(test_unlike) {
    static const int centroids[][HEADS] = {
        {1, 2, 3, 8}, {9, 10, 16, 17}, {23, 41, 90, 1}, {0, 160, 7, 0}, {1, 0, 2, 9}};
    static const enum kind kinds[] = {RANDOM, GRID, EQUAL, FEW, PEAK};
    suite_force(rungs[_i]);
    for (int i = suite_reduced() ? 4 : 0; i < (suite_reduced() ? 5 : 4); i++)
        for (int kind = suite_reduced() ? 1 : 0; kind < (suite_reduced() ? 2 : 5); kind++) {
            cache c = begin(suite_reduced() ? 8 : 24, VLCACHE_DTYPE_F32, "spread:0.5", 0.05, !suite_reduced(),
                            kinds[kind]);
            for (int g = 0; g < HEADS; g++) c.own[g].centroids = centroids[i][g];
            if (i == 3) c.own[1].centroids = c.tokens - c.own[1].kept + 9; /* more than rows */
            compress(&c, LAYERS);
            check_spread(&c);
            for (int g = 0; g < HEADS; g++) {
                head h = head_of(&c, g);
                for (int s = 0; s < h.centroids; s++) check_centroid(&h, s, 1e-6);
            }
            release(&c);
        }
    force_usual();
}
END_TEST

/* Several stretches, more centroids than rows in them; of so many, some are so much alike that rounding would
 * decide: whole numbers. Stretches are no more than centroids. */
START_TEST(test_many_seeds) {
    suite_force(rungs[_i]);
    cache c = begin_of(2400, 8, VLCACHE_DTYPE_F16, "spread:0.5", 0.02, true, GRID);
    for (int g = 0; g < HEADS; g++) c.own[g].centroids = (const int[]){2400, 1026, 3, 2}[g];
    compress(&c, LAYERS);
    check_spread(&c);
    release(&c);
    force_usual();
}
END_TEST

/* Heads with few rows, one of them alone, and more centroids than rows. */
START_TEST(test_few_left) {
    static const int rows[HEADS] = {1, 2, 3, 5};
    const int centroids[HEADS] = {suite_reduced() ? 3 : 40, 2, 5, 1};
    suite_force(rungs[_i]);
    cache c = begin(16, VLCACHE_DTYPE_F32, "spread:0.5", 0.2, true, RANDOM);
    for (int g = 0, at = 0; g < HEADS; at += c.own[g++].kept) {
        c.own[g].kept = c.tokens - rows[g];
        c.own[g].centroids = centroids[g];
        c.own[g].first = at;
        ref_topk(c.scores + g * c.tokens, c.tokens, c.own[g].kept, c.own[g].recent, 0, c.positions + at);
    }
    compress(&c, LAYERS);
    check_spread(&c);
    check_heads(&c, 1e-6);
    release(&c);
    force_usual();
}
END_TEST

/* Matrix units, where there are any: keys of 16 bits, one stretch and several; and, of the last kind, one
 * that is too long for them. */
START_TEST(test_matrix_units) {
    static const enum kind kinds[] = {RANDOM, GRID, FEW, EQUAL, PEAK, GRID};
    static const int centroids[][HEADS] = {{70, 333, 600, 5}, {7, 33, 60, 5}, {333, 1, 2, 70}};
    vlcache_dtype dtype = _i % 2 ? VLCACHE_DTYPE_BF16 : VLCACHE_DTYPE_F16;
    bool several = _i / 4;
    if (!suite_device()->caps.mma) return;
    suite_force("spread:mma");
    for (int kind = 0; kind < 6; kind++) {
        cache c = begin_of(several ? 1700 : LONG, _i / 2 % 2 ? 64 : 128, dtype, "spread:0.5", 0.05, true,
                           kinds[kind]);
        for (int g = 0; g < HEADS && several; g++) c.own[g].centroids = centroids[kind < 4 ? 0 : kind - 3][g];
        compress(&c, LAYERS);
        check_heads(&c, 1.0 / 256);
        check_spread(&c);
        release(&c);
    }
    force_usual();
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
    for (int i = 0; i < (suite_reduced() ? 1 : 6); i++) {
        const char *summary = _i ? "spread:0.9" : "kmeans:0.9:2";
        for (int later = 0; later < 2; later++) {
            cache c = make(8, VLCACHE_DTYPE_F32, summary, budgets[i], later, RANDOM);
            const vlcache_compress_layer *l = &c.layer;
            ck_assert_int_le(l->kept + l->centroids, (int)fmax(1.0, budgets[i] * c.tokens + 0.5));
            ck_assert_int_ge(l->kept, l->recent);
            ck_assert(budgets[i] < 1.0 || l->centroids == 0);
            ck_assert(!c.evicted == !l->centroids);
            if (l->centroids) check_heads(&c, 1e-6);
            release(&c);
        }
    }
}
END_TEST

/* Heads of one layer with centroids, with other numbers of them, without, and with no row to stand for. */
START_TEST(test_uneven) {
    static const char *const summaries[] = {"kmeans:0.5:2", "spread:0.5:1"};
    suite_force(rungs[_i % 2]);
    cache c = begin(16, VLCACHE_DTYPE_F32, summaries[_i / 2], 0.2, true, RANDOM);
    c.own[0].centroids = 0;
    c.own[1].centroids = 40;
    c.own[2].centroids = 0;
    c.own[2].kept = c.tokens;
    for (int g = 2, at = c.own[2].first; g < HEADS; at += c.own[g++].kept) {
        c.own[g].first = at;
        ref_topk(c.scores + g * c.tokens, c.tokens, c.own[g].kept, c.own[g].recent, 0, c.positions + at);
    }
    compress(&c, LAYERS);
    for (int g = 0; g < HEADS; g++) {
        head h = head_of(&c, g);
        check_evicted(&h);
        for (int i = 0; i < h.centroids; i++) check_centroid(&h, i, 1e-6);
    }
    release(&c);
    force_usual();
}
END_TEST

/* Layers one after another come to the same as all at once. */
START_TEST(test_layers) {
    static const char *const summaries[] = {"kmeans:0.5:2", "spread:0.5:1"};
    suite_force(rungs[_i % 2]);
    int dim = suite_reduced() ? 8 : 24;
    double budget = suite_reduced() ? 0.1 : 0.15;
    bool later = !suite_reduced();
    cache all = make(dim, VLCACHE_DTYPE_BF16, summaries[_i / 2], budget, later, RANDOM);
    cache each = begin(dim, VLCACHE_DTYPE_BF16, summaries[_i / 2], budget, later, RANDOM);
    compress(&each, 1);
    for (int g = 0; g < HEADS; g++) {
        size_t rows = (size_t)each.p->kv[1].list[g].rows, row = (size_t)dim * sizeof(float);
        ck_assert_int_eq((int)rows, all.p->kv[1].list[g].rows);
        ck_assert_mem_eq(each.small_k[g], all.small_k[g], rows * row);
        ck_assert_mem_eq(each.small_v[g], all.small_v[g], rows * row);
        ck_assert_mem_eq(each.bias[g], all.bias[g], rows * sizeof(float));
    }
    release(&all);
    release(&each);
    force_usual();
}
END_TEST

/* As many layers as there is a moderate amount of scratch for, or a share of the cache: in even turns. */
START_TEST(test_at_once) {
    static const vlci_kernel some;
    vlci_summary_kernels kernels = {.spread = {.spread = &some, .group = 256}};
    vlci_keep own[32 * 8] = {{0}};
    vlci_heads h = {.layers = 32, .tokens = 10000, .own = own};
    h.shape = (vlci_compress_shape){32, 8, 8, 64, VLCACHE_DTYPE_BF16, 0};
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels),
                     32);    /* of 240,000 bytes a head and 2.56 MB of cache */
    own[7].centroids = 2000; /* 752,000 */
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels), 16);
    own[7].centroids = 1000;  /* 498,048 */
    kernels.spread.group = 1; /* 3,218,112 */
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels), 5);
    h.tokens = 1000;
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels), 11); /* 557,056: of 64 MiB */
    h.layers = 5;
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels), 5);
    h.layers = 4;
    h.shape.head_dim = 8;
    h.tokens = 1 << 20;
    ck_assert_int_eq(vlci_summary_layers(&h, &kernels), 1);
}
END_TEST

/* One query a sequence, over all rows it has. */
static void attend(cache *c, int sequence, int layer, const float *query, float *out) {
    int start[] = {0, 1};
    size_t n = (size_t)(QUERY_HEADS * c->dim) * sizeof *query;
    vlci_attention_shape shape = {.heads = QUERY_HEADS,
                                  .kv_heads = KV,
                                  .head_dim = c->dim,
                                  .kv_dtype = c->dtype,
                                  .rounded = VLCACHE_DTYPE_F32};
    vlci_attention_kernels kernels = {0};
    ck_ok(vlci_attention_open(suite_device(), &shape, &kernels));
    ck_ok(vlci_kv_pool_sync(&c->p->pool));
    vlci_attention a = {.batch = 1,
                        .causal = true,
                        .scale = 0.5f,
                        .kv = vlci_kv_layer(&c->p->kv[sequence], layer),
                        .q_stride = (size_t)(QUERY_HEADS * c->dim),
                        .max_rows = 1};
    a.kv.ahead = -1; /* the last row is the query's own */
    a.kv.slots = suite_upload(&c->p->kv[sequence].slot, sizeof c->p->kv[sequence].slot);
    a.q = suite_upload(query, n);
    a.out = suite_poison(n);
    a.seq_start = suite_upload(start, sizeof start);
    ck_ok(vlci_attention_run(&kernels, &a));
    suite_download(a.out, out, n);
    cl_mem all[] = {a.kv.slots, a.q, a.out, a.seq_start};
    for (size_t i = 0; i < 4; i++) suite_release(all[i]);
}

/* Rows that are all equal are represented exactly: one centroid counts for all, the others for nothing. */
START_TEST(test_equal_rows) {
    static const char *const summaries[] = {"kmeans:0.5:3", "spread:0.5", "spread:0.5:3"};
    cache c = make(16, VLCACHE_DTYPE_F32, summaries[_i / 2], 0.2, _i % 2 == 1, EQUAL);
    float query[QUERY_HEADS * 16], full[QUERY_HEADS * 16], small[QUERY_HEADS * 16];
    double want[QUERY_HEADS * 16];
    uint64_t seed = 3;
    for (int i = 0; i < QUERY_HEADS * 16; i++) query[i] = suite_random(&seed);
    for (int g = 0; g < HEADS; g++) {
        head h = head_of(&c, g);
        int used = 0;
        for (int i = 0; i < h.centroids; i++) used += c.bias[g][h.first + h.kept + i] > -1e29f;
        ck_assert_int_eq(used, 1);
    }
    for (int l = 0; l < LAYERS; l++) {
        attend(&c, 0, l, query, full);
        attend(&c, 1, l, query, small);
        for (int i = 0; i < QUERY_HEADS * 16; i++) want[i] = (double)full[i];
        suite_close("attention", small, want, QUERY_HEADS * 16, 1e-5, 1e-5);
    }
    release(&c);
}
END_TEST

/* Without room for biases there can be no centroids. */
START_TEST(test_refused) {
    cache c = begin(16, VLCACHE_DTYPE_F32, "kmeans:0.5:0", 0.2, false, RANDOM);
    vlci_summary_room room = {0};
    vlci_heads h = heads_of(&c, 0, LAYERS, c.p->slots);
    ck_fails(vlci_summary_write(&h, &c.kernels, NULL, &room), VLCACHE_E_INTERNAL, "room for biases");
    vlci_compress_shape shape = {1, 1, 1, 12, VLCACHE_DTYPE_F32, 0};
    ck_fails(vlci_summary_open(suite_device(), &shape, &c.recipe, &c.kernels), VLCACHE_E_UNSUPPORTED,
             "head_dim 12");
    release(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("summary");
    TCase *all = tcase_create("summary"), *units = tcase_create("units");
    if (suite_reduced()) setenv("VLCACHE_VARIANT", rungs[1], 1);
    tcase_add_test(all, test_seeds);
    tcase_add_test(all, test_nearest);
    tcase_add_loop_test(all, test_iterations, 0, suite_reduced() ? 1 : 2);
    tcase_add_loop_test(all, test_spread, 0, suite_reduced() ? 2 : 4);
    tcase_add_loop_test(all, test_unlike, 0, suite_reduced() ? 1 : 4);
    tcase_add_loop_test(all, test_many_seeds, 0, suite_reduced() ? 0 : 4);
    tcase_add_loop_test(units, test_matrix_units, 0, 8);
    tcase_add_loop_test(all, test_few_left, 0, suite_reduced() ? 1 : 4);
    tcase_add_test(all, test_few_rows);
    tcase_add_loop_test(all, test_budgets, 0, 2);
    tcase_add_loop_test(all, test_uneven, suite_reduced() ? 3 : 0, 4);
    tcase_add_loop_test(all, test_layers, 0, suite_reduced() ? 1 : 4);
    tcase_add_test(all, test_at_once);
    tcase_add_loop_test(all, test_equal_rows, 0, suite_reduced() ? 1 : 6);
    tcase_add_test(all, test_refused);
    suite_balance(all);
    suite_balance(units);
    suite_add_tcase(suite, all);
    suite_add_tcase(suite, units);
    return suite_run(suite);
}
