/*
 * test_quantised.c - rows in few bits a number: each code against the group that it is of, attention over
 * them and rows in pages against the double oracle, which is given the rows that they stand for; what is left
 * in pages; rows that are hard; budgets in bytes; and quants that forks and marks share.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/quantise.h"
#include "ref/ref_quants.h"
#include "support/beside.h"
#include "support/floats.h"

enum { LAYERS = 2, LAYER = 1, LISTS_MAX = 16 };

#define F32  VLCACHE_DTYPE_F32
#define BF16 VLCACHE_DTYPE_BF16

typedef struct problem {
    const char *name;
    int kv_heads, group, head_dim, before, kept, centroids, decoded; /* rows of a head */
    int key_bits, value_bits, run;
    vlcache_dtype dtype;
    int rows; /* query rows */
} problem;

static const problem problems[] = {
    /* shapes that differ are kernels to build */
    {"one row", 1, 1, 16, 0, 1, 0, 0, 4, 2, 16, F32, 1},
    {"fewer than a group", 2, 2, 32, 3, 21, 0, 2, 4, 2, 64, F32, 1},
    {"groups of rows", 2, 2, 32, 0, 75, 0, 4, 2, 4, 16, F32, 3},
    {"three bits", 2, 2, 32, 1, 50, 0, 0, 3, 3, 32, F32, 1},
    {"with centroids", 2, 2, 32, 5, 20, 30, 3, 4, 2, 32, F32, 1},
    {"a ragged group of channels", 1, 4, 80, 0, 200, 0, 4, 4, 2, 64, BF16, 1},
    {"many lanes", 1, 8, 64, 2, 131, 20, 1, 8, 8, 64, BF16, 11},
    {"wide groups", 2, 2, 32, 0, 330, 0, 9, 2, 4, 256, F32, 9},
    {"long groups", 1, 8, 64, 0, 100, 10, 0, 8, 8, 1024, BF16, 2},
};
enum { PROBLEMS = sizeof problems / sizeof *problems, SMALL = 5 };

static uint64_t seed;

/* A cache whose rows are to be quantised. */
typedef struct one {
    const problem *p;
    vlci_compress_shape shape;
    vlci_recipe recipe;
    vlci_quantise_kernels kernels;
    vlci_compact_kernels compact;
    pages *pages;
    int each[LISTS_MAX]; /* rows of a list in pages */
    float *k, *v, *bias; /* rounded to dtype */
    vlci_keep own[LISTS_MAX];
    cl_mem keep, to;
    vlci_quantising *quantising;
    vlci_quants *quants;
    vlcache_status status;
} one;

/* Heads differ: every other one keeps a row less, where it has several. */
static void plan_heads(one *o) {
    const problem *p = o->p;
    for (int i = 0; i < LAYERS * p->kv_heads; i++) {
        o->own[i] = (vlci_keep){.kept = p->kept - (p->kept > 1 ? i % 2 : 0), .centroids = p->centroids};
        o->own[i].before = p->before;
        o->each[i] = p->before + o->own[i].kept + p->centroids + p->decoded;
    }
}

static void fill(one *o) {
    const problem *p = o->p;
    size_t rows = pages_first(o->each, LAYERS * p->kv_heads), n = rows * (size_t)p->head_dim;
    o->k = floats_random(&seed, n, 2.0f, 0.0f);
    o->v = floats_random(&seed, n, 1.0f, 0.0f);
    o->bias = p->centroids ? floats_random(&seed, rows, 3.0f, 0.0f) : NULL;
    for (size_t i = 0; i < n; i++) o->k[i] += sinf((float)(i % (size_t)p->head_dim));
}

static void make_cache(one *o, const problem *p) {
    *o = (one){.p = p, .shape = {LAYERS, p->kv_heads * p->group, p->kv_heads, p->head_dim, p->dtype}};
    o->recipe = (vlci_recipe){.quantised = true,
                              .key_bits = p->key_bits,
                              .value_bits = p->value_bits,
                              .run = p->run,
                              .budget = 0.5};
    plan_heads(o);
    fill(o);
}

/* As a plan does it: codes of both layers, then rows leave the pages. */
static void quantise(one *o) {
    const problem *p = o->p;
    int lists = LAYERS * p->kv_heads;
    const vlci_kv_shape shape = {LAYERS, p->kv_heads, p->head_dim, p->dtype};
    o->pages = pages_create(&shape, 1, &(pages_rows){.rows = o->each, .k = o->k, .v = o->v, .bias = o->bias},
                            4 * lists);
    o->keep = suite_upload(o->own, (size_t)lists * sizeof *o->own);
    o->to = suite_poison((size_t)lists * sizeof(vlci_kv_head));
    ck_ok(vlci_quantise_open(suite_device(), &o->shape, &o->recipe, &o->kernels));
    ck_ok(vlci_compact_open(suite_device(), &o->shape, &o->compact));
    ck_ok(vlci_quantising_create(suite_device(), &o->kernels, &o->shape, &o->recipe, o->own, &o->quantising));
    vlci_kv *kv = &o->pages->kv[0];
    vlci_heads h = {.device = suite_device(), .shape = o->shape, .layers = 1, .own = o->own, .keep = o->keep};
    for (h.layer = 0; h.layer < LAYERS; h.layer++) {
        h.kv = vlci_kv_layer(kv, h.layer);
        h.heads_at = vlci_kv_heads_at(kv, h.layer);
        ck_ok(vlci_kv_pool_sync(&o->pages->pool));
        ck_ok(vlci_quantising_write(o->quantising, &h));
        ck_ok(vlci_quantising_drop(o->quantising, &o->compact, &h, p->decoded, o->to, o->to, kv));
    }
    o->status = vlci_quantising_finish(o->quantising, NULL, &o->quants);
    ck_ok(vlci_finish(suite_device()));
}

static void make(one *o, const problem *p) {
    make_cache(o, p);
    quantise(o);
    ck_ok(o->status);
}

static void release(one *o) {
    vlci_quants_release(&o->quants);
    vlci_quantising_destroy(&o->quantising);
    suite_release(o->keep);
    suite_release(o->to);
    pages_destroy(o->pages);
    free(o->k);
    free(o->v);
    free(o->bias);
}

/* ---- codes --------------------------------------------------------------------------------------------- */

/* Number d of row `row` of those that are quantised. */
static double exact_at(const one *o, int which, int list, int row, int d) {
    size_t at = pages_first(o->each, list) + (size_t)(o->p->before + row);
    return (double)(which ? o->v : o->k)[at * (size_t)o->p->head_dim + (size_t)d];
}

/* Least and largest number of the group of this one. */
static void range_at(const one *o, int which, int list, int row, int d, double *low, double *high) {
    int n = o->own[list].kept + o->own[list].centroids, group = o->p->run;
    int first = (which ? d : row) / group * group, all = which ? o->p->head_dim : n;
    *low = INFINITY;
    *high = -INFINITY;
    for (int i = first; i < first + group && i < all; i++) {
        double x = which ? exact_at(o, 1, list, row, i) : exact_at(o, 0, list, i, d);
        *low = fmin(*low, x);
        *high = fmax(*high, x);
    }
}

/* Zero and scale are the least f16 can say of the group; the code is one of the two that are nearest. */
static void check_number(const one *o, const ref_quants *q, int which, int list, int row, int d) {
    ref_quant got = ref_quants_number(q, which, list, row, d);
    double x = exact_at(o, which, list, row, d), low, high, levels;
    levels = (1 << (which ? o->p->value_bits : o->p->key_bits)) - 1;
    range_at(o, which, list, row, d, &low, &high);
    ck_assert_double_le(got.zero, low);
    ck_assert_double_ge(got.zero, low - fabs(low) / 1024.0 - 6e-8);
    ck_assert_double_ge(got.scale * levels, (high - got.zero) * (1.0 - 1e-6));
    ck_assert_double_le(got.scale * levels, (high - got.zero) * (1.0 + 1.0 / 1024.0) + 6e-8 * levels + 1e-7);
    double miss = fabs(got.zero + got.scale * got.code - x), step = got.scale * 0.5;
    ck_assert_msg(miss <= step * (1.0 + 1e-4) + 1e-6 * fabs(x), "%s %d of row %d, list %d: %g, not %g",
                  which ? "value" : "key", d, row, list, x + miss, x);
}

START_TEST(codes_of_the_groups_they_are_of) {
    if (suite_reduced() && _i >= SMALL) return;
    seed = 41;
    one o;
    make(&o, &problems[_i]);
    ref_quants q = ref_quants_read(o.quants);
    for (int list = 0; list < LAYERS * o.p->kv_heads; list++) {
        int n = o.own[list].kept + o.own[list].centroids;
        ck_assert_int_eq(o.quants->own[list].rows, n);
        for (int row = 0; row < n; row++) {
            size_t at = pages_first(o.each, list) + (size_t)(o.p->before + row);
            double bias = o.bias ? (double)o.bias[at] : 0.0;
            ck_assert_double_eq_tol(ref_quants_bias(&q, list, row), bias, fabs(bias) / 2000.0 + 1e-7);
            for (int d = 0; d < 2 * o.p->head_dim; d++) check_number(&o, &q, d % 2, list, row, d / 2);
        }
    }
    ref_quants_release(&q);
    release(&o);
}
END_TEST

/* Earlier and decoded rows are what they were, and nothing else is in pages; biases of those are as before.
 */
START_TEST(what_stays_in_pages) {
    seed = 43;
    one o;
    make(&o, &problems[_i]);
    const problem *p = o.p;
    size_t dim = (size_t)p->head_dim, left = (size_t)(p->before + p->decoded);
    float *k = calloc(left * dim + 1, sizeof *k), *v = calloc(left * dim + 1, sizeof *v),
          *bias = calloc(left + 1, sizeof *bias);
    for (int list = 0; list < LAYERS * p->kv_heads; list++) {
        int n = pages_read(&o.pages->kv[0], list / p->kv_heads, list % p->kv_heads, k, v, bias);
        ck_assert_int_eq(n, (int)left);
        for (size_t r = 0; r < left; r++) {
            size_t gone = (size_t)(o.own[list].kept + p->centroids);
            size_t from = pages_first(o.each, list) + (r < (size_t)p->before ? r : r + gone);
            ck_assert_mem_eq(k + r * dim, o.k + from * dim, dim * sizeof *k);
            ck_assert_mem_eq(v + r * dim, o.v + from * dim, dim * sizeof *v);
            if (o.bias && r < (size_t)p->before) ck_assert_float_eq(bias[r], o.bias[from]);
            if (r >= (size_t)p->before) ck_assert_float_eq(bias[r], 0.0f);
        }
    }
    pages_check_owners(&o.pages->pool);
    free(k);
    free(v);
    free(bias);
    release(&o);
}
END_TEST

/* ---- attention ----------------------------------------------------------------------------------------- */

/* What all heads of the layer see: quants, of both turns where there are two, then rows in pages. */
typedef struct seen {
    ref_rows head[8];
    float *k, *v, *bias;
} seen;

static int count(const vlci_quants *quants, int list) {
    int n = 0;
    for (; quants; quants = quants->before) n += quants->own[list].rows;
    return n;
}

static void bring_back(const ref_quants *q, int list, float *k, float *v, float *bias) {
    int dim = q->quants->head_dim;
    for (int row = 0; row < q->quants->own[list].rows; row++) {
        bias[row] = (float)ref_quants_bias(q, list, row);
        for (int d = 0; d < dim; d++) {
            k[row * dim + d] = (float)ref_quants_value(q, 0, list, row, d);
            v[row * dim + d] = (float)ref_quants_value(q, 1, list, row, d);
        }
    }
}

static seen see(const problem *p, const vlci_quants *quants, const float *k, const float *v, int exact) {
    size_t dim = (size_t)p->head_dim, most = (size_t)(2 * (p->kept + p->centroids) + exact);
    seen s = {.k = calloc((size_t)p->kv_heads * most * dim, sizeof *s.k),
              .v = calloc((size_t)p->kv_heads * most * dim, sizeof *s.v),
              .bias = calloc((size_t)p->kv_heads * most, sizeof *s.bias)};
    for (int h = 0; h < p->kv_heads; h++) {
        size_t at = (size_t)h * most, n = at;
        for (const vlci_quants *c = quants; c; c = c->before) {
            ref_quants q = ref_quants_read(c);
            bring_back(&q, LAYER * p->kv_heads + h, s.k + n * dim, s.v + n * dim, s.bias + n);
            n += (size_t)c->own[LAYER * p->kv_heads + h].rows;
            ref_quants_release(&q);
        }
        memcpy(s.k + n * dim, k + (size_t)(h * exact) * dim, (size_t)exact * dim * sizeof *k);
        memcpy(s.v + n * dim, v + (size_t)(h * exact) * dim, (size_t)exact * dim * sizeof *v);
        s.head[h] = (ref_rows){count(quants, LAYER * p->kv_heads + h) + exact - p->rows, dim, s.k + at * dim,
                               s.v + at * dim, s.bias + at};
    }
    return s;
}

/* Scales of the outlier: what cancels in sums of it is lost. */
static void run_and_compare(const problem *p, const vlci_quants *quants, double top) {
    beside b = {.name = p->name,
                .shape =
                    beside_shape(p->kv_heads, p->group, p->head_dim, p->dtype, quants->read->few.shape.cap),
                .layers = LAYERS,
                .layer = LAYER,
                .rows = p->rows,
                .past = p->before};
    beside_begin(&b, &seed, top > 1.0 ? 2.0f / (float)top : 2.0f);
    seen s = see(p, quants, b.own_k, b.own_v, p->before + p->rows);
    beside_expect(&b, s.head);
    ck_ok(vlci_quantised_run(quants, LAYER, &b.a, 0, p->rows));
    beside_check(&b, top);
    float *host[] = {s.k, s.v, s.bias};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    beside_end(&b);
}

static const char *const variants[] = {"attention_quantised:wide", "attention_quantised:group"};

/* By each rung, with capped logits or without: quants do not depend on what reads them. */
static void run_variants(const problem *p, vlci_quants *quants, float cap) {
    const vlci_quantised_kernels *was = quants->read;
    vlci_attention_shape shape = was->few.shape;
    shape.cap = cap;
    for (int i = 0; i < 2; i++) {
        vlci_quantised_kernels read = {0};
        suite_force(variants[i]);
        ck_ok(vlci_quantised_open(suite_device(), &shape, quants->key_bits, quants->value_bits, &read));
        suite_force(NULL);
        for (vlci_quants *c = quants; c; c = c->before) c->read = &read;
        run_and_compare(p, quants, 1.0);
    }
    for (vlci_quants *c = quants; c; c = c->before) c->read = was;
}

START_TEST(against_the_rows_they_stand_for) {
    const problem *p = &problems[_i];
    if (suite_reduced() && _i >= SMALL) return;
    seed = 47;
    one o;
    make(&o, p);
    run_variants(p, o.quants, 0);
    if (p->centroids && p->head_dim == 32) run_variants(p, o.quants, 1.5f); /* biases are behind the cap */
    release(&o);
}
END_TEST

/* Two turns' quants, one behind the other. */
START_TEST(two_turns) {
    seed = 53;
    one first, second;
    make(&first, &problems[4]);
    make(&second, &problems[4]);
    second.quants->before = vlci_quants_retain(first.quants);
    ck_assert_uint_eq(vlci_quants_all_bytes(second.quants), 2 * vlci_quants_all_bytes(first.quants));
    run_variants(&problems[4], second.quants, 0);
    release(&second);
    ck_assert_int_eq(first.quants->references, 1);
    release(&first);
}
END_TEST

/* ---- rows that are hard -------------------------------------------------------------------------------- */

static void make_hard(one *o, const problem *p, int how) {
    make_cache(o, p);
    size_t dim = (size_t)p->head_dim, n = pages_first(o->each, LAYERS * p->kv_heads) * dim;
    for (size_t i = 0; i < n && how == 0; i++) o->k[i] = o->v[i] = 0.25f; /* all equal */
    for (size_t i = 5; i < n && how == 1; i += 17 * dim) o->k[i] = 1e4f, o->v[i] = -1e4f;
    for (size_t i = 0; i < n && how == 2; i++) o->k[i] *= 1e-9f, o->v[i] *= 1e-9f;
    if (how == 3) o->k[pages_first(o->each, p->kv_heads) * dim + 3] = NAN;
    if (how == 4) o->v[pages_first(o->each, p->kv_heads) * dim + 4] = INFINITY;
    if (how == 5) o->v[pages_first(o->each, p->kv_heads) * dim + 4] = 7e4f;
    quantise(o);
}

START_TEST(rows_that_are_hard) {
    static const problem p = {"hard", 2, 2, 32, 0, 75, 0, 1, 3, 2, 32, F32, 1};
    static const double tops[] = {1.0, 1e4, 1.0};
    seed = 59;
    suite_force(variants[_i % 2]);
    one o;
    make_hard(&o, &p, _i / 2);
    ck_ok(o.status);
    ref_quants q = ref_quants_read(o.quants);
    for (int row = 0; row < 75; row++)
        for (int d = 0; d < 32; d++) {
            check_number(&o, &q, 0, 0, row, d);
            check_number(&o, &q, 1, 0, row, d);
            if (_i / 2 == 0) ck_assert_double_eq(ref_quants_value(&q, 1, 0, row, d), 0.25);
        }
    ref_quants_release(&q);
    run_and_compare(&p, o.quants, tops[_i / 2]);
    suite_force(NULL);
    release(&o);
}
END_TEST

START_TEST(not_finite) {
    static const problem p = {"not finite", 2, 2, 32, 0, 40, 0, 0, 4, 2, 32, F32, 1};
    one o;
    seed = 61;
    make_hard(&o, &p, 3 + _i);
    ck_assert_int_eq(o.status, VLCACHE_E_UNSUPPORTED);
    const char *want = _i ? "layer 1, kv head 0: values that are" : "layer 1, kv head 0: keys that are";
    ck_assert_msg(strstr(vlcache_error_message(), want) != NULL, "%s", vlcache_error_message());
    ck_assert_ptr_null(o.quants);
    release(&o);
}
END_TEST

/* As bits are added, rows come to be what they were: a quarter of the error, two thirds of it squared, a bit.
 */
START_TEST(as_exact_as_its_bits) {
    if (suite_reduced()) return; /* of the kernels, nothing that the others do not run */
    static const int bits[4][2] = {{2, 4}, {3, 3}, {4, 2}, {8, 8}};
    double miss[2][4] = {{0.0}};
    for (int b = 0; b < 4; b++) {
        problem p = {"more bits", 2, 2, 32, 0, 90, 0, 0, bits[b][0], bits[b][1], 32, F32, 1};
        one o;
        seed = 67;
        make(&o, &p);
        ref_quants q = ref_quants_read(o.quants);
        for (int i = 0; i < 89 * 64; i++) {
            double got = ref_quants_value(&q, i % 2, 0, i / 64, i / 2 % 32);
            miss[i % 2][b == 3 ? 3 : bits[b][i % 2] - 2] +=
                pow(got - exact_at(&o, i % 2, 0, i / 64, i / 2 % 32), 2.0);
        }
        ref_quants_release(&q);
        release(&o);
    }
    for (int which = 0; which < 2; which++) { /* (3 / 7)^2, (7 / 15)^2, (15 / 255)^2 */
        const double *m = miss[which];
        ck_assert_msg(m[1] < 0.25 * m[0] && m[2] < 0.28 * m[1] && m[3] < 0.006 * m[2], "%g, %g, %g, %g", m[0],
                      m[1], m[2], m[3]);
    }
}
END_TEST

/* ---- budgets ------------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const vlci_recipe *r, const vlci_compress_shape *s,
                         const vlcache_compress_layer *layer) {
    vlci_quants all = {.layers = s->layers,
                       .kv_heads = s->kv_heads,
                       .head_dim = s->head_dim,
                       .key_bits = r->key_bits,
                       .value_bits = r->value_bits,
                       .group = r->run};
    for (int l = 0; l < s->layers; l++)
        for (int h = 0; h < s->kv_heads; h++) {
            all.biased |= layer[l].centroids > 0;
            (void)vlci_quants_place(&all, layer[l].kept + layer[l].centroids);
        }
    vlci_quants_bytes bytes = vlci_quants_count(&all);
    return vlci_quants_sum(&bytes);
}

/* Within the budget, however layers differ; one row more of each layer is not, if there is one. */
START_TEST(budgets_in_bytes) {
    static const int tokens[] = {5, 40, 700, 2000};
    static const double budgets[] = {0.02, 0.05, 0.1, 0.2, 0.6};
    const vlci_compress_shape s = {4, 4, 2, 64, BF16, 0};
    vlci_recipe r = {.quantised = true, .compresses = true, .recent = 0.1, .scoring = VLCI_SCORE_POST_VISION};
    const int n = tokens[_i / 5], widths[] = {2, 3, 4, 8};
    r.budget = budgets[_i % 5];
    r.run = 64;
    for (int way = 0; way < 4 * 3 * 2; way++) {
        vlcache_compress_layer layer[4] = {
            {.sparsity = 0.99}, {.sparsity = 0.5}, {.sparsity = 0.8}, {.sparsity = 0.0}};
        double room = r.budget * n * 4 * 2 * 2.0 * 64 * 2;
        r.key_bits = widths[way / 6];
        r.value_bits = widths[3 - way / 6];
        r.centroids = way % 2 ? 0.75 : 0.0;
        r.uniform = way / 2 % 3 == 0 ? 1.0 : 0.0;
        r.allocation = way / 2 % 3 == 1 ? VLCI_ALLOCATE_PYRAMID : VLCI_ALLOCATE_MIXED;
        vlci_quantise_budget(&r, &s, n, 4, layer);
        int kept = 0, most = 0;
        for (int l = 0; l < 4; l++) {
            kept += layer[l].kept + layer[l].centroids;
            most = layer[l].kept + layer[l].centroids > most ? layer[l].kept + layer[l].centroids : most;
        }
        ck_assert_msg((double)bytes_of(&r, &s, layer) <= room || kept == 4, "%d rows, way %d", kept, way);
        for (int l = 0; l < 4; l++) layer[l].kept++;
        if (most < n && r.uniform == 1.0) ck_assert_double_gt((double)bytes_of(&r, &s, layer), room);
        vlci_recipe rows = vlci_quantise_rows(&r, 64, BF16);
        ck_assert_double_ge(rows.budget * n * 4 + 4, kept);
    }
}
END_TEST

/* ---- caches -------------------------------------------------------------------------------------------- */

/* Forks and marks hold the same quants; the last that forgets them gives them back. What is told of bytes is
 * what is allocated. */
START_TEST(forks_and_marks_share_them) {
    seed = 71;
    one o;
    make(&o, &problems[4]);
    vlci_kv *kv = &o.pages->kv[0], fork = {0}, mark = {0};
    uint64_t pages_only = vlci_kv_bytes(kv);
    kv->quants = o.quants;
    o.quants = NULL;
    vlci_quantising_destroy(&o.quantising);
    uint64_t held = vlci_memory_now(suite_device()), quants = vlci_quants_all_bytes(kv->quants);
    ck_assert_uint_eq(vlci_kv_bytes(kv), pages_only + quants);
    ck_assert_uint_eq(vlci_kv_few_bytes(kv), quants);
    ck_ok(vlci_kv_fork(kv, &fork));
    ck_ok(vlci_kv_mark(kv, &mark));
    ck_assert_int_eq(kv->quants->references, 3);
    vlci_kv_clear(kv);
    ck_assert_ptr_null(kv->quants);
    vlci_kv_go_back(kv, &mark);
    ck_assert_ptr_eq(fork.quants, kv->quants);
    ck_assert_int_eq(fork.quants->references, 2);
    vlci_kv_release(&fork);
    ck_assert_int_eq(kv->quants->references, 1);
    vlci_kv_clear(kv);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), held - quants);
    release(&o);
}
END_TEST

START_TEST(heads_that_are_none) {
    vlci_compress_shape shape = {LAYERS, 2, 2, 40, F32, 0};
    vlci_recipe recipe = {.key_bits = 4, .value_bits = 2, .run = 64};
    vlci_quantise_kernels kernels;
    ck_fails(vlci_quantise_open(suite_device(), &shape, &recipe, &kernels), VLCACHE_E_UNSUPPORTED,
             "head_dim 40");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("quantised");
    TCase *all = tcase_create("quantised");
    suite_balance(all);
    tcase_add_loop_test(all, codes_of_the_groups_they_are_of, 0, PROBLEMS);
    tcase_add_loop_test(all, what_stays_in_pages, 0, SMALL);
    tcase_add_loop_test(all, against_the_rows_they_stand_for, 0, PROBLEMS);
    tcase_add_test(all, two_turns);
    tcase_add_loop_test(all, rows_that_are_hard, 0, 6);
    tcase_add_loop_test(all, not_finite, 0, 3);
    tcase_add_test(all, as_exact_as_its_bits);
    tcase_add_loop_test(all, budgets_in_bytes, 0, 20);
    tcase_add_test(all, forks_and_marks_share_them);
    tcase_add_test(all, heads_that_are_none);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
