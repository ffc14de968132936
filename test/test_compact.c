/*
 * test_compact.c - rows that stay, moved to other pages and within their own: exactly those, bit for bit,
 * those of earlier turns and the decoded ones with them, each head as many as it likes; once more when some
 * are gone already; and nothing else is touched.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compact.h"
#include "support/pages.h"

enum { LAYERS = 3, KV = 2, HEADS = LAYERS * KV, CENTROIDS = 5, LONG = 5000 };

/* What is compressed, and how. */
typedef struct scenario {
    int dim;
    vlcache_dtype dtype;
    int tokens, past, decoded;
    bool biases, centroids;
} scenario;

/* Two sequences with the same rows; the second is the one that shrinks. order[i]: which rows list i of it has
 * now, as rows of the first; -1: a centroid's place. */
typedef struct world {
    scenario s;
    pages *p;
    int rows[2 * HEADS], before[HEADS];
    float *k, *v, *bias;
    int *order[HEADS], n[HEADS];
    vlci_keep own[HEADS];
    int *positions;
    cl_mem keep_on, positions_on, held_on, held_positions_on;
} world;

static vlci_kv *mine(world *w) {
    return &w->p->kv[1];
}

static void fill_rows(world *w) {
    size_t lists = 2 * HEADS, n = pages_first(w->rows, lists), half = n / 2;
    size_t dim = (size_t)w->s.dim;
    uint64_t seed = 13;
    w->k = malloc(n * dim * sizeof *w->k);
    w->v = malloc(n * dim * sizeof *w->v);
    w->bias = malloc(n * sizeof *w->bias);
    for (size_t i = 0; i < half * dim; i++) {
        w->k[i] = w->k[i + half * dim] = suite_random(&seed);
        w->v[i] = w->v[i + half * dim] = suite_random(&seed);
    }
    for (int i = 0; i < HEADS; i++) /* earlier rows only have biases */
        for (int r = 0; r < w->rows[i]; r++) {
            size_t at = pages_first(w->rows, i) + (size_t)r;
            w->bias[at] = w->bias[at + half] = r < w->before[i] ? suite_random(&seed) : 0.0f;
        }
}

static world make(scenario s) {
    world w = {.s = s};
    vlci_kv_shape shape = {LAYERS, KV, s.dim, s.dtype};
    int most = 0;
    for (int i = 0; i < 2 * HEADS; i++) {
        int before = s.past ? s.past + 7 * (i % HEADS) : 0;
        w.before[i % HEADS] = before;
        w.rows[i] = before + s.tokens + s.decoded;
        if (i < HEADS) most += vlci_kv_pages(w.rows[i]) + 1;
    }
    fill_rows(&w);
    for (int i = 0; i < HEADS; i++) {
        w.n[i] = w.rows[i];
        w.order[i] = malloc((size_t)(w.n[i] + CENTROIDS) * sizeof **w.order);
        for (int r = 0; r < w.n[i]; r++) w.order[i][r] = r;
    }
    w.p = pages_create(
        &shape, 2, &(pages_rows){.rows = w.rows, .k = w.k, .v = w.v, .bias = s.biases ? w.bias : NULL}, most);
    w.positions = calloc((size_t)(HEADS * s.tokens), sizeof *w.positions);
    w.held_on = suite_upload(w.own, sizeof w.own); /* nothing is gone yet */
    return w;
}

static void release(world *w) {
    float *floats[] = {w->k, w->v, w->bias};
    cl_mem memory[] = {w->keep_on, w->positions_on, w->held_on, w->held_positions_on};
    for (size_t i = 0; i < 3; i++) free(floats[i]);
    for (size_t i = 0; i < 4; i++)
        if (memory[i]) suite_release(memory[i]);
    for (int i = 0; i < HEADS; i++) free(w->order[i]);
    free(w->positions);
    pages_destroy(w->p);
}

/* ---- what stays ---------------------------------------------------------------------------------------- */

/* Of the rows of the prompt that a head has: about share of them, never none. */
static int choose(const world *w, int i, double share, uint64_t *seed, int *out) {
    int n = 0;
    for (int r = 0; r < w->n[i]; r++) {
        int position = w->order[i][r] - w->before[i];
        bool last = r + 1 == w->n[i] - w->s.decoded;
        if (w->order[i][r] < w->before[i] || position >= w->s.tokens) continue;
        if (0.5 * ((double)suite_random(seed) + 1.0) < share || (last && !n)) out[n++] = position;
    }
    return n;
}

/* Each head of `layers` layers from the first on another share of its rows: most, one, all, few. What was
 * chosen before is what is held. */
static void choose_all(world *w, int layers, uint64_t *seed) {
    static const double shares[] = {0.7, 0.0, 1.0, 0.1, 0.95};
    int at = 0;
    if (w->keep_on) {
        suite_release(w->held_on);
        if (w->held_positions_on) suite_release(w->held_positions_on);
        w->held_on = w->keep_on;
        w->held_positions_on = w->positions_on;
    }
    for (int i = 0; i < layers * KV; i++) {
        w->own[i] = (vlci_keep){.before = w->before[i], .first = at};
        w->own[i].kept = choose(w, i, shares[(i + (int)(*seed % 5)) % 5], seed, w->positions + at);
        w->own[i].centroids = w->s.centroids ? i % CENTROIDS : 0;
        at += w->own[i].kept;
    }
    w->keep_on = suite_upload(w->own, sizeof w->own);
    w->positions_on = suite_upload(w->positions, (size_t)at * sizeof *w->positions);
}

/* The same on the host. */
static void keep_order(world *w, int i) {
    const vlci_keep *own = &w->own[i];
    int n = 0, *to = malloc((size_t)(w->n[i] + CENTROIDS) * sizeof *to);
    for (int r = 0; r < w->before[i]; r++) to[n++] = r;
    for (int r = 0; r < own->kept; r++) to[n++] = w->before[i] + w->positions[own->first + r];
    for (int r = 0; r < own->centroids; r++) to[n++] = -1;
    for (int r = 0; r < w->s.decoded; r++) to[n++] = w->before[i] + w->s.tokens + r;
    free(w->order[i]);
    w->order[i] = to;
    w->n[i] = n;
}

/* ---- the library --------------------------------------------------------------------------------------- */

static vlci_compress_shape shape_of(const scenario *s) {
    return (vlci_compress_shape){LAYERS, KV, KV, s->dim, s->dtype, 0};
}

static vlci_heads heads_of(world *w, int layer, int layers) {
    return (vlci_heads){.device = suite_device(),
                        .shape = shape_of(&w->s),
                        .layer = layer,
                        .layers = layers,
                        .tokens = w->s.tokens,
                        .own = w->own,
                        .keep = w->keep_on,
                        .kv = vlci_kv_layer(mine(w), layer),
                        .heads_at = vlci_kv_heads_at(mine(w), layer)};
}

static vlci_stay stay_of(const world *w) {
    cl_mem held = w->held_positions_on ? w->held_positions_on : w->positions_on;
    return (vlci_stay){w->positions_on, w->held_on, held, w->s.decoded};
}

static void squeeze(world *w, const vlci_compact_kernels *kernels, int layer, int layers) {
    vlci_heads h = heads_of(w, layer, layers);
    vlci_stay stay = stay_of(w);
    ck_ok(vlci_squeeze(&h, kernels, &stay));
    for (int i = 0; i < layers * KV; i++) {
        keep_order(w, layer * KV + i);
        vlci_kv_cut(mine(w), layer, i, w->n[layer * KV + i]);
    }
}

/* Whole pages of earlier rows stay where they are. */
static void check_stay(world *w, int i, const int32_t *pages_before) {
    const vlci_kv_list *list = &mine(w)->list[i];
    for (int page = 0; page < w->before[i] / VLCI_KV_PAGE; page++)
        ck_assert_int_eq(w->p->pool.table.entry[list->first + page], pages_before[page]);
}

static void move(world *w, const vlci_compact_kernels *kernels, int layer, int layers) {
    int rows[HEADS], keep[HEADS], n = layers * KV, first = layer * KV;
    static int32_t old[HEADS][8];
    cl_mem to = suite_poison(HEADS * sizeof(vlci_kv_head));
    vlci_kv_next next;
    for (int i = 0; i < n; i++) {
        const vlci_kv_list *list = &mine(w)->list[first + i];
        keep_order(w, first + i);
        rows[i] = w->n[first + i];
        keep[i] = w->before[first + i];
        for (int page = 0; page < keep[i] / VLCI_KV_PAGE; page++)
            old[i][page] = w->p->pool.table.entry[list->first + page];
    }
    vlci_stay stay = stay_of(w);
    ck_ok(vlci_kv_replace(mine(w), layer, layers, rows, keep, w->s.centroids, to, &next));
    vlci_heads h = heads_of(w, layer, layers);
    ck_ok(vlci_compact(&h, kernels, &stay, to));
    vlci_kv_replaced(mine(w), &next);
    for (int i = 0; i < n; i++) check_stay(w, first + i, old[i]);
    suite_release(to);
}

/* ---- checks -------------------------------------------------------------------------------------------- */

static void check_row(const world *w, int i, int r, const float *k, const float *v, const float *bias) {
    int from = w->order[i][r];
    size_t row = pages_first(w->rows, i) + (size_t)(from < 0 ? 0 : from), dim = (size_t)w->s.dim;
    if (from < 0) return;
    ck_assert_msg(memcmp(k + (size_t)r * dim, w->k + row * dim, dim * sizeof *k) == 0 &&
                      memcmp(v + (size_t)r * dim, w->v + row * dim, dim * sizeof *v) == 0,
                  "list %d: row %d is not row %d", i, r, from);
    ck_assert_float_eq(bias[r], w->s.biases ? w->bias[row] : 0.0f);
}

/* Both sequences. */
static void check(world *w) {
    for (int i = 0; i < HEADS; i++) {
        size_t most = (size_t)(w->rows[i] + CENTROIDS), at = pages_first(w->rows, i) * (size_t)w->s.dim;
        float *k = malloc(most * (size_t)w->s.dim * sizeof *k),
              *v = malloc(most * (size_t)w->s.dim * sizeof *v);
        float *bias = malloc(most * sizeof *bias);
        ck_assert_int_eq(pages_read(mine(w), i / KV, i % KV, k, v, bias), w->n[i]);
        ck_assert_int_eq(mine(w)->list[i].pages, vlci_kv_pages(w->n[i]));
        for (int r = 0; r < w->n[i]; r++) check_row(w, i, r, k, v, bias);
        ck_assert_int_eq(pages_read(&w->p->kv[0], i / KV, i % KV, k, v, bias), w->rows[i]);
        ck_assert_mem_eq(k, w->k + at, (size_t)(w->rows[i] * w->s.dim) * sizeof *k);
        ck_assert_mem_eq(v, w->v + at, (size_t)(w->rows[i] * w->s.dim) * sizeof *v);
        free(k);
        free(v);
        free(bias);
    }
    pages_check_owners(&w->p->pool);
}

/* Some layers first, one of the others, and then all of them a second and a third time: what is chosen is
 * among what was chosen before. */
static void try(scenario s, bool in_place, bool wide) {
    vlcache_device *device = suite_device();
    bool was = device->caps.wide_vectors;
    vlci_compact_kernels kernels;
    vlci_compress_shape shape = shape_of(&s);
    uint64_t seed = 31 + (uint64_t)s.tokens;
    world w = make(s);
    device->caps.wide_vectors = wide;
    ck_ok(vlci_compact_open(device, &shape, &kernels));
    device->caps.wide_vectors = was;
    void (*shrink)(world *, const vlci_compact_kernels *, int, int) = in_place ? squeeze : move;
    choose_all(&w, LAYERS - 1, &seed);
    shrink(&w, &kernels, 0, 1);
    check(&w);
    shrink(&w, &kernels, 1, LAYERS - 2);
    check(&w);
    for (int times = 0; times < 2 && !s.centroids; times++) { /* where the last layer still has all rows */
        choose_all(&w, LAYERS, &seed);
        shrink(&w, &kernels, 0, LAYERS);
        check(&w);
    }
    release(&w);
}

static const scenario scenarios[] = {
    {24, VLCACHE_DTYPE_F32, 90, 0, 0, false, false},   {64, VLCACHE_DTYPE_F32, 90, 7, 3, true, false},
    {64, VLCACHE_DTYPE_F16, 75, 0, 1, false, false},   {64, VLCACHE_DTYPE_BF16, 33, 16, 0, true, false},
    {80, VLCACHE_DTYPE_F32, 50, 40, 2, false, false},  {80, VLCACHE_DTYPE_F16, 130, 5, 4, true, false},
    {80, VLCACHE_DTYPE_BF16, 16, 0, 17, false, false}, {128, VLCACHE_DTYPE_F32, 64, 1, 0, false, false},
    {128, VLCACHE_DTYPE_F16, 100, 32, 2, true, false}, {128, VLCACHE_DTYPE_BF16, 90, 0, 3, false, false},
    {8, VLCACHE_DTYPE_BF16, 1, 3, 1, true, false},     {512, VLCACHE_DTYPE_F32, 40, 9, 1, false, false},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* A simulator gets some, with a short prompt. */
static bool is_skipped(int i) {
    return suite_reduced() && i % 4 != 1;
}

static scenario scenario_of(int i) {
    scenario s = scenarios[i];
    if (suite_reduced() && s.tokens > 20) s.tokens = 20;
    return s;
}

START_TEST(test_squeeze) {
    if (is_skipped(_i)) return;
    if (!suite_reduced()) try(scenario_of(_i), true, true);
    try(scenario_of(_i), true, false);
}
END_TEST

START_TEST(test_compact) {
    if (is_skipped(_i)) return;
    scenario s = scenario_of(_i);
    try(s, false, false);
    if (!suite_reduced()) try(s, false, true);
    s.centroids = s.biases = true;
    try(s, false, true);
}
END_TEST

/* Rows wider than the squeeze of a work-group can hold are moved by one work-item. */
START_TEST(test_wide_rows) {
    vlci_compact_kernels kernels;
    vlci_compress_shape shape = {1, 1, 1, 1024, VLCACHE_DTYPE_F32, 0};
    ck_ok(vlci_compact_open(suite_device(), &shape, &kernels));
    ck_assert_uint_eq(kernels.group, 1);
    if (!suite_reduced()) try((scenario){1024, VLCACHE_DTYPE_F32, 20, 3, 1, false, false}, true, false);
}
END_TEST

START_TEST(test_long) {
    scenario s = {16, VLCACHE_DTYPE_BF16, suite_reduced() ? 40 : LONG, 19, 5, true, false};
    try(s, true, _i);
    try(s, false, _i);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compact");
    TCase *all = tcase_create("compact");
    tcase_add_loop_test(all, test_squeeze, 0, SCENARIOS);
    tcase_add_loop_test(all, test_compact, 0, SCENARIOS);
    tcase_add_test(all, test_wide_rows);
    tcase_add_loop_test(all, test_long, 0, 2);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
