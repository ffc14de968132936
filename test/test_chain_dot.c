/*
 * test_chain_dot.c - one row from attention to the next in one launch of a processor, against its definition
 * in double, whose numbers are rounded where products of pairs of bf16 round them: weights in rows, in one
 * part and in several, and in pairs, ragged depths, biases, launch after launch; attention in front of it;
 * and rows of q, k and v that go on into the cache, against rope.cl.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/chain_dot.h"
#include "ref/ref_attention.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/pages.h"

static uint64_t seed = 23;
static const double eps = 1e-5;
/* How each test runs, once a kind. */
static const struct {
    vlci_dot dot;
    vlci_layout layout;
} kinds[] = {{VLCI_DOT_PLAIN, VLCI_ROWS},
             {VLCI_DOT_OWN, VLCI_ROWS},
             {VLCI_DOT_PLAIN, VLCI_PAIRS},
             {VLCI_DOT_OWN, VLCI_PAIRS}};
enum { KINDS = sizeof kinds / sizeof *kinds, LAYERS = 2 };

/* ---- the problem --------------------------------------------------------------------------------------- */

typedef struct weights {
    vlci_matrix on;
    double *w;
    float *bias;
} weights;

typedef struct problem {
    int heads, kv_heads, head_dim, hidden, inner, parts; /* parts: of gate_up and qkv */
    bool biased, last;
    vlci_layout layout;
    weights out, gate_up, down, qkv;
    float *norm, *next, *attended, *x;
    double *want_x, *scale_x, *want_y, *scale_y; /* scale: what a rounding error is relative to */
} problem;

static int width_of(const problem *p) {
    return p->heads * p->head_dim;
}

static int n_qkv(const problem *p) {
    return p->last ? 0 : (p->heads + 2 * p->kv_heads) * p->head_dim;
}

/* In up to three parts, cut at multiples of 16. */
static void put_parts(weights *m, const uint16_t *data, int parts) {
    cl_mem *const to[VLCI_MATRIX_PARTS] = {&m->on.data, &m->on.more[0], &m->on.more[1]};
    size_t k = (size_t)m->on.k;
    int at = 0;
    for (int i = 0; i < parts; i++) {
        int end = i + 1 == parts ? m->on.n : m->on.n * (i + 1) / parts / 16 * 16;
        *to[i] = suite_upload(data + (size_t)at * k, (size_t)(end - at) * k * sizeof *data);
        if (i + 1 < parts) m->on.until[i] = end;
        at = end;
    }
}

static void put_pairs(weights *m, const uint16_t *data) {
    size_t bytes = vlci_matrix_bytes(m->on.n, m->on.k, m->on.dtype, VLCI_PAIRS);
    uint16_t *packed = calloc(1, bytes);
    for (int r = 0; r < m->on.n; r++)
        for (int c = 0; c < m->on.k; c++)
            packed[ref_weight_at(VLCI_PAIRS, r, c, m->on.k)] = data[(size_t)r * (size_t)m->on.k + (size_t)c];
    m->on.data = suite_upload(packed, bytes);
    free(packed);
}

static weights make_weights(const problem *p, int n, int k, int parts, bool biased) {
    weights m = {.on = {.n = n, .k = k, .dtype = VLCACHE_DTYPE_BF16, .layout = p->layout}};
    size_t all = (size_t)n * (size_t)k;
    float *numbers = floats_random(&seed, all, 1 / sqrtf((float)k), 0);
    uint16_t *stored = suite_store(numbers, all, m.on.dtype);
    if (p->layout == VLCI_PAIRS)
        put_pairs(&m, stored);
    else
        put_parts(&m, stored, parts);
    m.w = malloc(all * sizeof *m.w);
    for (size_t i = 0; i < all; i++) m.w[i] = (double)numbers[i];
    if (biased) m.on.bias = floats_upload(m.bias = floats_random(&seed, (size_t)n, 1, 0), (size_t)n);
    free(numbers);
    free(stored);
    return m;
}

static void release_weights(weights *m) {
    cl_mem all[] = {m->on.data, m->on.more[0], m->on.more[1], m->on.bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) suite_release(all[i]);
    free(m->w);
    free(m->bias);
}

static problem *create(const problem *like, int kind) {
    problem *p = malloc(sizeof *p);
    *p = *like;
    p->layout = kinds[kind].layout;
    size_t hidden = (size_t)p->hidden, y = (size_t)n_qkv(p) + 1;
    p->out = make_weights(p, p->hidden, width_of(p), 1, p->biased);
    p->gate_up = make_weights(p, 2 * p->inner, p->hidden, p->parts > 1 ? 2 : 1, false);
    p->down = make_weights(p, p->hidden, p->inner, 1, p->biased);
    p->qkv = make_weights(p, p->last ? 32 : n_qkv(p), p->hidden, p->parts, p->biased);
    p->x = floats_random(&seed, hidden, 2, 0);
    p->attended = floats_random(&seed, (size_t)width_of(p), 1, 0);
    p->norm = floats_random(&seed, hidden, 1, 1), p->next = floats_random(&seed, hidden, 1, 1);
    p->want_x = calloc(2 * (hidden + y), sizeof *p->want_x); /* and all that is behind it */
    p->scale_x = p->want_x + hidden, p->want_y = p->scale_x + hidden, p->scale_y = p->want_y + y;
    return p;
}

static void destroy(problem *p) {
    float *drawn[] = {p->x, p->attended, p->norm, p->next};
    release_weights(&p->out), release_weights(&p->gate_up), release_weights(&p->down),
        release_weights(&p->qkv);
    for (int i = 0; i < 4; i++) free(drawn[i]);
    free(p->want_x);
    free(p);
}

/* ---- what is expected ---------------------------------------------------------------------------------- */

/* y += a w^T + bias, of a that is rounded. */
static void add_product(const weights *w, const double *a, double *y, double *scale) {
    size_t n = (size_t)w->on.n;
    float *z = malloc((size_t)w->on.k * sizeof *z);
    double *sum = malloc(2 * n * sizeof *sum);
    uint16_t stored;
    for (int i = 0; i < w->on.k; i++) {
        ref_store(&stored, 0, (float)a[i], VLCACHE_DTYPE_BF16);
        z[i] = (float)ref_load(&stored, 0, VLCACHE_DTYPE_BF16);
    }
    ref_linear(w->w, w->bias, z, NULL, sum, sum + n, 1, w->on.n, w->on.k, 0);
    for (size_t i = 0; i < n; i++) y[i] += sum[i], scale[i] += sum[n + i];
    free(z);
    free(sum);
}

/* The same of RMS(x). */
static void add_normed(const problem *p, const weights *w, const float *weight, double *y, double *scale) {
    double *z = malloc((size_t)p->hidden * sizeof *z), mean = 0;
    for (int i = 0; i < p->hidden; i++) mean += p->want_x[i] * p->want_x[i] / p->hidden;
    for (int i = 0; i < p->hidden; i++) z[i] = p->want_x[i] * (double)weight[i] / sqrt(mean + eps);
    add_product(w, z, y, scale);
    free(z);
}

static void expect(problem *p) {
    int width = width_of(p), inner = p->inner;
    double *row = calloc((size_t)(width + 5 * inner), sizeof *row), *wide = row + width + inner;
    for (int i = 0; i < p->hidden; i++) p->scale_x[i] = fabs(p->want_x[i] = (double)p->x[i]);
    for (int i = 0; i < width; i++) row[i] = (double)p->attended[i];
    add_product(&p->out, row, p->want_x, p->scale_x);
    add_normed(p, &p->gate_up, p->norm, wide, wide + 2 * inner);
    for (int i = 0; i < inner; i++) row[i] = ref_activate(wide[i], VLCI_ACT_SILU) * wide[inner + i];
    add_product(&p->down, row, p->want_x, p->scale_x);
    if (!p->last) add_normed(p, &p->qkv, p->next, p->want_y, p->scale_y);
    free(row);
}

/* Each of some hundred numbers of 16 bits may be off by a step, where the device rounds another way. */
static void compare(const problem *p, const char *what, const float *got, const double *want,
                    const double *scale, int n) {
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-5 + 0x1p-8 * 0.2 * scale[i]))
            ck_abort_msg("hidden %d inner %d: %s[%d] = %g, want %g (scale %g)", p->hidden, p->inner, what, i,
                         (double)got[i], want[i], scale[i]);
}

/* ---- running ------------------------------------------------------------------------------------------- */

static vlci_attention_shape shape_of(const problem *p) {
    return (vlci_attention_shape){
        .heads = p->heads, .kv_heads = p->kv_heads, .head_dim = p->head_dim, .kv_dtype = VLCACHE_DTYPE_BF16};
}

/* NULL where this device has none, or the shape is not in whole panels. */
static vlci_chain_dot *open_chain(const problem *p, int kind) {
    vlci_chain_dot *chain;
    bool fits = vlci_chain_dot_ladder.fits(suite_device(), "dot");
    vlci_attention_shape shape = shape_of(p);
    if (kinds[kind].dot == VLCI_DOT_OWN && !suite_device()->caps.dot) return NULL;
    if (kinds[kind].layout == VLCI_PAIRS && (p->hidden | p->inner | n_qkv(p)) % VLCI_TILE) return NULL;
    suite_force(fits ? "chain:dot" : NULL);
    ck_ok(vlci_chain_dot_open(suite_device(), kinds[kind].dot, kinds[kind].layout, VLCI_ACT_SILU, &shape,
                              &chain));
    suite_force(NULL);
    ck_assert((chain != NULL) == fits);
    return chain;
}

/* Over buffers that are poisoned; `q`: what y begins with; x, and where it is asked for what was attended. */
static void launch(const problem *p, vlci_chain_dot *chain, const vlci_append *append,
                   const vlci_attention *attention, cl_mem y, float *x, float *attended) {
    size_t hidden = (size_t)p->hidden, width = (size_t)width_of(p);
    const vlci_norm of[] = {{.weight = floats_upload(p->norm, hidden)},
                            {.weight = floats_upload(p->next, hidden)}};
    vlci_links links = {.rows = 1, .eps = (float)eps, .append = append, .y = y, .norm = &of[0]};
    links.attended = attention ? floats_poisoned(width) : floats_upload(p->attended, width);
    links.x = floats_upload(p->x, hidden);
    links.gated = floats_poisoned((size_t)p->inner);
    links.out = &p->out.on, links.gate_up = &p->gate_up.on, links.down = &p->down.on;
    if (!p->last) links.qkv = &p->qkv.on, links.next = &of[1];
    ck_assert(vlci_chain_dot_takes(chain, &links));
    ck_ok(vlci_chain_dot_run(chain, &links, attention));
    suite_download(links.x, x, hidden * sizeof *x);
    if (attended) suite_download(links.attended, attended, width * sizeof *attended);
    cl_mem all[] = {of[0].weight, of[1].weight, links.attended, links.x, links.gated};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

static void agree(int kind, const problem *like) {
    vlci_chain_dot *chain = open_chain(like, kind);
    if (!chain) return;
    problem *p = create(like, kind);
    size_t n = (size_t)p->hidden, n_y = (size_t)n_qkv(p);
    float *x = malloc(n * sizeof *x), *again = malloc(n * sizeof *x), *y = malloc((n_y + 1) * sizeof *y);
    cl_mem to = floats_poisoned(n_y + 1);
    launch(p, chain, NULL, NULL, to, x, NULL);
    suite_download(to, y, n_y * sizeof *y);
    expect(p);
    compare(p, "x", x, p->want_x, p->scale_x, p->hidden);
    compare(p, "y", y, p->want_y, p->scale_y, (int)n_y);
    for (int i = 0; i < 20; i++) { /* bit by bit, launch after launch */
        launch(p, chain, NULL, NULL, to, again, NULL);
        ck_assert_mem_eq(x, again, n * sizeof *x);
    }
    suite_release(to);
    free(x);
    free(again);
    free(y);
    destroy(p);
    vlci_chain_dot_close(&chain);
}

static const problem shapes[] = {
    {.heads = 2, .kv_heads = 2, .head_dim = 64, .hidden = 128, .inner = 256, .parts = 1},
    {.heads = 4, .kv_heads = 2, .head_dim = 32, .hidden = 144, .inner = 208, .parts = 3, .biased = true},
    {.heads = 4, .kv_heads = 4, .head_dim = 64, .hidden = 256, .inner = 384, .parts = 2, .last = true},
    {.heads = 3, .kv_heads = 1, .head_dim = 48, .hidden = 48, .inner = 16, .parts = 1},
    {.heads = 16, .kv_heads = 8, .head_dim = 64, .hidden = 1024, .inner = 4096, .parts = 3},
    {.heads = 8, .kv_heads = 4, .head_dim = 128, .hidden = 512, .inner = 16384, .parts = 2, .biased = true},
    {.heads = 3, .kv_heads = 1, .head_dim = 32, .hidden = 96, .inner = 160, .parts = 1, .biased = true}};
enum { SHAPES = sizeof shapes / sizeof shapes[0], SMALL = 4 };

START_TEST(agrees_with_the_oracle) {
    for (int i = 0; i < (suite_reduced() ? SMALL : SHAPES); i++) agree(_i, &shapes[i]);
}
END_TEST

/* Rows of two layers, each head with its own number; the last of each is there and not counted. */
static pages *make_pages(const problem *p, int past, bool biased, int *rows, float **k, float **v,
                         float **bias) {
    const vlci_kv_shape shape = {LAYERS, p->kv_heads, p->head_dim, VLCACHE_DTYPE_BF16};
    size_t all = 0;
    for (int i = 0; i < LAYERS * p->kv_heads; i++) all += (size_t)(rows[i] = past + i % 3 * 5 + 1);
    *k = floats_random(&seed, all * (size_t)p->head_dim, 1, 0);
    *v = floats_random(&seed, all * (size_t)p->head_dim, 1, 0);
    *bias = biased ? floats_random(&seed, all, 1, 1) : NULL;
    pages *made = pages_create(&shape, 1, &(pages_rows){.rows = rows, .k = *k, .v = *v, .bias = *bias}, 3);
    vlci_kv_append(&made->kv[0], 0, LAYERS, -1);
    ck_ok(vlci_kv_pool_sync(&made->pool));
    return made;
}

/* In front of it, held against doubles; then q, k and v, against a launch without it and rope.cl behind. */
static void attend(int kind, const problem *like, int past, bool biased) {
    vlci_chain_dot *chain = open_chain(like, kind);
    const int none[2] = {0, 1};
    vlci_attention_shape shape = shape_of(like);
    vlci_attention a = {.batch = 1, .max_rows = 1, .causal = true, .scale = 1 / sqrtf((float)like->head_dim)};
    if (!chain || !vlci_chain_dot_attends(chain, &a)) {
        vlci_chain_dot_close(&chain);
        return;
    }
    problem *p = create(like, kind);
    int rows[LAYERS * 16], n_y = (p->heads + 2 * p->kv_heads) * p->head_dim, width = width_of(p);
    size_t dim = (size_t)p->head_dim;
    float *k, *v, *bias, *q = floats_random(&seed, (size_t)n_y, 2, 0),
                         *x = malloc((size_t)p->hidden * sizeof *x), *phase = floats_random(&seed, dim, 1, 0),
                         *y[2];
    double *want = malloc((size_t)width * sizeof *want),
           *stats = malloc(2 * (size_t)p->heads * sizeof *stats);
    pages *cache = make_pages(p, past, biased, rows, &k, &v, &bias);
    ref_rows head[16];
    for (int h = 0; h < p->kv_heads; h++) {
        size_t at = pages_first(rows, h);
        head[h] = (ref_rows){rows[h] - 1, dim, k + at * dim, v + at * dim, bias ? bias + at : NULL};
    }
    a.kv = pages_view(cache, 0);
    a.q_stride = (size_t)n_y;
    ref_attention(&shape, &a, &(ref_inputs){q, none, head}, want, stats, stats + p->heads);
    vlci_rope_kernels rope;
    ck_ok(vlci_rope_open(suite_device(), VLCACHE_DTYPE_BF16, &rope));
    cl_mem of_rows = suite_upload(none, sizeof none), turn = floats_upload(phase, dim), to[2];
    vlci_append append = {.rows = 1,
                          .heads = p->heads,
                          .kv_heads = p->kv_heads,
                          .head_dim = p->head_dim,
                          .phase = turn,
                          .row_sequence = of_rows,
                          .seq_start = of_rows,
                          .kv = pages_view(cache, 1)};
    float *kept[2][2];
    size_t most = (size_t)(past + 11) * dim; /* of a head */
    for (int i = 0; i < 2; i++) {            /* all at once; then by itself what is known to be right */
        append.qkv = to[i] = floats_upload(q, (size_t)n_y);
        launch(p, chain, i || p->last ? NULL : &append, i ? NULL : &a, to[i], x, i ? NULL : p->attended);
        if (!i) suite_close("attended", p->attended, want, (size_t)width, 2e-5, 2e-5);
        if (i && !p->last) ck_ok(vlci_rope_append(&rope, &append));
        vlci_kv_append(&cache->kv[0], 0, LAYERS, 1);
        for (int j = 0; j < 2; j++) kept[i][j] = calloc((size_t)p->kv_heads * most, sizeof(float));
        for (int h = 0; h < p->kv_heads; h++)
            pages_read(&cache->kv[0], 1, h, kept[i][0] + (size_t)h * most, kept[i][1] + (size_t)h * most,
                       NULL);
        vlci_kv_append(&cache->kv[0], 0, LAYERS, -1);
        ck_ok(vlci_kv_pool_sync(&cache->pool));
        y[i] = floats_take(to[i], (size_t)n_y);
    }
    expect(p);
    compare(p, "x", x, p->want_x, p->scale_x, p->hidden);
    if (!p->last) floats_same("q", y[0], y[1], (size_t)width);
    for (int j = 0; j < 2; j++) floats_same("the cache", kept[0][j], kept[1][j], (size_t)p->kv_heads * most);
    suite_release(of_rows);
    suite_release(turn);
    pages_destroy(cache);
    void *all[] = {k,     v,    bias, q,          x,          phase,      want,
                   stats, y[0], y[1], kept[0][0], kept[0][1], kept[1][0], kept[1][1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    destroy(p);
    vlci_chain_dot_close(&chain);
}

START_TEST(attention_goes_with_it) {
    attend(_i, &shapes[0], 0, false);
    attend(_i, &shapes[1], 15, true);
    attend(_i, &shapes[2], 16, false);
    if (suite_reduced()) return;
    attend(_i, &shapes[2], 47, true);
    attend(_i, &shapes[4], 600, false);
    attend(_i, &shapes[5], 130, true);
}
END_TEST

START_TEST(what_it_cannot_is_left) {
    vlci_chain_dot *chain = open_chain(&shapes[0], 0);
    float one[16] = {0};
    vlci_norm norm = {.weight = floats_upload(one, 16)}, layer = {.weight = norm.weight, .bias = norm.weight};
    vlci_matrix w = {.n = 64, .k = 64, .dtype = VLCACHE_DTYPE_BF16},
                wide = {.n = 128, .k = 64, .dtype = VLCACHE_DTYPE_BF16}, bad[5] = {w, w, w, w, w};
    vlci_links links = {.out = &w, .gate_up = &wide, .down = &w, .norm = &norm, .rows = 1}, other = links;
    vlci_attention a = {.batch = 1, .max_rows = 1}, many = a, windowed = a;
    ck_assert(!vlci_chain_dot_takes(NULL, &links) && !vlci_chain_dot_attends(NULL, &a));
    ck_assert(vlci_chain_dot_takes(chain, &links) == (chain != NULL));
    bad[0].dtype = VLCACHE_DTYPE_F16;
    bad[1].layout = VLCI_PANELS;
    bad[2].n = 72;
    bad[3].k = VLCI_CHAIN_DOT_DEPTH + 32;
    bad[4].more[0] = norm.weight;
    for (int i = 0; i < 5; i++) {
        other.out = &bad[i];
        ck_assert(!vlci_chain_dot_takes(chain, &other));
    }
    other = links, other.rows = 2;
    ck_assert(!vlci_chain_dot_takes(chain, &other));
    other = links, other.norm = &layer;
    ck_assert(!vlci_chain_dot_takes(chain, &other));
    many.max_rows = 2, windowed.window = 8;
    ck_assert(!vlci_chain_dot_attends(chain, &many) && !vlci_chain_dot_attends(chain, &windowed));
    vlci_chain_dot_close(&chain);
    vlci_chain_dot_close(&chain); /* nothing */
    vlci_matrix narrow = {.n = 64, .k = 48, .dtype = VLCACHE_DTYPE_BF16, .layout = VLCI_PAIRS};
    chain = open_chain(&shapes[0], 2);
    ck_assert(!vlci_chain_dot_takes(chain, &links)); /* in rows */
    w.layout = wide.layout = VLCI_PAIRS;
    ck_assert(vlci_chain_dot_takes(chain, &links) == (chain != NULL));
    wide.n = 96, links.down = &narrow; /* gate ends within a panel */
    ck_assert(!vlci_chain_dot_takes(chain, &links));
    vlci_chain_dot_close(&chain);
    suite_release(norm.weight);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chain_dot");
    TCase *c = tcase_create("chain_dot");
    suite_balance(c);
    tcase_add_loop_test(c, agrees_with_the_oracle, 0, KINDS);
    tcase_add_loop_test(c, attention_goes_with_it, 0, KINDS);
    tcase_add_test(c, what_it_cannot_is_left);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
