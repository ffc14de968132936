/*
 * test_chain.c - from one attention to the next in one launch against its definition in double, whose rows
 * are rounded where the device leaves them in 16 bits, which it does of three and more: ragged tiles, few
 * rows and many, biases, launch after launch; rows of q, k and v that go on into the cache against rope.cl;
 * and attention in front of it.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/chain.h"
#include "ref/ref_attention.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/pages.h"
#include "support/suite.h"

static uint64_t seed = 17;
static const double eps = 1e-5;

/* ---- the problem --------------------------------------------------------------------------------------- */

/* A matrix of a chain: on the device, and its numbers. */
typedef struct weights {
    vlci_matrix on;
    double *w;
    float *bias;
} weights;

typedef struct problem {
    int rows, hidden, width, inner, n_qkv; /* width: of what attention leaves */
    bool biased, last;                     /* last: nothing behind down */
    weights out, gate_up, down, qkv;
    float *norm, *next, *attended, *x;
    double *want_x, *scale_x, *want_y, *scale_y; /* scale: what a rounding error is relative to */
} problem;

static weights make_weights(int n, int k, bool biased) {
    weights m = {.on = {.n = n, .k = k, .dtype = VLCACHE_DTYPE_BF16, .layout = VLCI_BLOCKS}};
    size_t all = (size_t)n * (size_t)k, bytes = vlci_matrix_bytes(n, k, m.on.dtype, m.on.layout);
    float *drawn = floats_random(&seed, all, 1 / sqrtf((float)k), 0);
    void *data = calloc(1, bytes);
    m.w = malloc(all * sizeof *m.w);
    for (int r = 0; r < n; r++)
        for (int i = 0; i < k; i++) {
            size_t at = (size_t)r * (size_t)k + (size_t)i;
            ref_store(data, ref_weight_at(VLCI_LAYOUT_BLOCKS, r, i, k), drawn[at], m.on.dtype);
            m.w[at] = ref_load(data, ref_weight_at(VLCI_LAYOUT_BLOCKS, r, i, k), m.on.dtype);
        }
    m.on.data = suite_upload(data, bytes);
    if (biased) {
        m.bias = floats_random(&seed, (size_t)n, 1, 0);
        m.on.bias = floats_upload(m.bias, (size_t)n);
    }
    free(data);
    free(drawn);
    return m;
}

static void release_weights(weights *m) {
    suite_release(m->on.data);
    if (m->on.bias) suite_release(m->on.bias);
    free(m->w);
    free(m->bias);
}

static float rounded(double v) {
    float stored;
    ref_store(&stored, 0, (float)v, VLCACHE_DTYPE_BF16);
    return (float)ref_load(&stored, 0, VLCACHE_DTYPE_BF16);
}

/* As rows are left between products. */
static bool is_short(const problem *p) {
    return vlci_chain_reads(p->rows) == VLCI_STRIPES;
}

static float left(const problem *p, double v) {
    return is_short(p) ? rounded(v) : (float)v;
}

static float *random_left(const problem *p, size_t n) {
    float *all = floats_random(&seed, n, 1, 0);
    for (size_t i = 0; i < n; i++) all[i] = left(p, (double)all[i]);
    return all;
}

/* ---- what is expected ---------------------------------------------------------------------------------- */

/* x += a w^T + bias. */
static void add_product(const problem *p, const weights *w, const float *a) {
    size_t n = (size_t)p->rows * (size_t)p->hidden;
    double *y = malloc(n * sizeof *y), *scale = malloc(n * sizeof *scale);
    ref_linear(w->w, w->bias, a, NULL, y, scale, p->rows, p->hidden, w->on.k, 0);
    for (size_t i = 0; i < n; i++) {
        p->want_x[i] += y[i];
        p->scale_x[i] += scale[i];
    }
    free(y);
    free(scale);
}

/* y = RMS(x) w^T + bias, where x times the norm's weight is rounded before it is scaled. */
static void normed_product(const problem *p, const weights *w, const float *weight, double *y,
                           double *scale) {
    size_t hidden = (size_t)p->hidden, n = (size_t)w->on.n;
    float *z = malloc((size_t)p->rows * hidden * sizeof *z);
    for (size_t i = 0; i < (size_t)p->rows * hidden; i++)
        z[i] = left(p, p->want_x[i] * (double)weight[i % hidden]);
    ref_linear(w->w, NULL, z, NULL, y, scale, p->rows, w->on.n, p->hidden, 0);
    for (size_t r = 0; r < (size_t)p->rows; r++) {
        double sum = 0;
        for (size_t i = 0; i < hidden; i++) sum += p->want_x[r * hidden + i] * p->want_x[r * hidden + i];
        double s = 1 / sqrt(sum / (double)hidden + eps);
        for (size_t c = 0; c < n; c++) {
            y[r * n + c] = y[r * n + c] * s + (w->bias ? (double)w->bias[c] : 0);
            scale[r * n + c] *= s;
        }
    }
    free(z);
}

static void expect(problem *p) {
    size_t rows = (size_t)p->rows, inner = (size_t)p->inner, all = rows * (size_t)p->hidden;
    double *wide = malloc(2 * rows * inner * sizeof *wide), *reach = malloc(2 * rows * inner * sizeof *reach);
    float *gated = malloc(rows * inner * sizeof *gated);
    for (size_t i = 0; i < all; i++) p->scale_x[i] = fabs(p->want_x[i] = (double)p->x[i]);
    add_product(p, &p->out, p->attended);
    normed_product(p, &p->gate_up, p->norm, wide, reach);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < inner; c++)
            gated[r * inner + c] = left(p, ref_activate(wide[2 * r * inner + c], VLCI_ACT_SILU) *
                                               wide[2 * r * inner + inner + c]);
    add_product(p, &p->down, gated);
    if (!p->last) normed_product(p, &p->qkv, p->next, p->want_y, p->scale_y);
    free(wide);
    free(reach);
    free(gated);
}

/* Each of some hundred numbers of 16 bits may be off by a step, where the device rounds another way. */
static void compare(const problem *p, const char *what, const float *got, const double *want,
                    const double *scale, size_t n) {
    const double step = is_short(p) ? 0x1p-8 * 0.2 : 4e-6;
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= 1e-5 + step * scale[i],
                      "rows %d hidden %d inner %d: %s[%zu] = %g, want %g (scale %g)", p->rows, p->hidden,
                      p->inner, what, i, (double)got[i], want[i], scale[i]);
}

/* ---- running ------------------------------------------------------------------------------------------- */

static cl_mem put_attended(const problem *p) {
    const float *x = p->attended;
    int rows = p->rows, k = p->width;
    if (!is_short(p)) return floats_upload(x, (size_t)rows * (size_t)k);
    size_t bytes = vlci_operand_bytes(rows, k);
    void *data = malloc(bytes);
    memset(data, 0xff, bytes);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i++)
            ref_store(data, ref_stripe_at(r, i, rows), x[(size_t)r * (size_t)k + (size_t)i],
                      VLCACHE_DTYPE_BF16);
    cl_mem memory = suite_upload(data, bytes);
    free(data);
    return memory;
}

static problem *create(int rows, int hidden, int width, int inner, int n_qkv, bool biased, bool last) {
    problem *p = malloc(sizeof *p);
    size_t x = (size_t)rows * (size_t)hidden, y = (size_t)rows * (size_t)n_qkv;
    *p = (problem){.rows = rows,
                   .hidden = hidden,
                   .width = width,
                   .inner = inner,
                   .n_qkv = n_qkv,
                   .biased = biased,
                   .last = last};
    p->out = make_weights(hidden, width, biased);
    p->gate_up = make_weights(2 * inner, hidden, false);
    p->down = make_weights(hidden, inner, biased);
    p->qkv = make_weights(n_qkv, hidden, biased);
    p->norm = floats_random(&seed, (size_t)hidden, 1, 1);
    p->next = floats_random(&seed, (size_t)hidden, 1, 1);
    p->attended = random_left(p, (size_t)rows * (size_t)width);
    p->x = floats_random(&seed, x, 2, 0);
    p->want_x = malloc(x * sizeof *p->want_x);
    p->scale_x = malloc(x * sizeof *p->scale_x);
    p->want_y = malloc(y * sizeof *p->want_y);
    p->scale_y = malloc(y * sizeof *p->scale_y);
    return p;
}

static void destroy(problem *p) {
    weights *all[] = {&p->out, &p->gate_up, &p->down, &p->qkv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) release_weights(all[i]);
    void *arrays[] = {p->norm, p->next, p->attended, p->x, p->want_x, p->scale_x, p->want_y, p->scale_y, p};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

/* What attention left, as floats. */
static void take_attended(const problem *p, cl_mem from, float *to) {
    if (!is_short(p)) {
        suite_download(from, to, (size_t)(p->rows * p->width) * sizeof *to);
        return;
    }
    size_t bytes = vlci_operand_bytes(p->rows, p->width);
    void *data = malloc(bytes);
    suite_download(from, data, bytes);
    for (int r = 0; r < p->rows; r++)
        for (int i = 0; i < p->width; i++)
            to[(size_t)r * (size_t)p->width + (size_t)i] =
                (float)ref_load(data, ref_stripe_at(r, i, p->rows), VLCACHE_DTYPE_BF16);
    free(data);
}

/* What of a launch is a layer's own; norms go with it. */
static vlci_links links_of(const problem *p) {
    vlci_norm *norm = calloc(2, sizeof *norm);
    norm[0].weight = floats_upload(p->norm, (size_t)p->hidden);
    norm[1].weight = floats_upload(p->next, (size_t)p->hidden);
    return (vlci_links){.out = &p->out.on,
                        .gate_up = &p->gate_up.on,
                        .down = &p->down.on,
                        .qkv = p->last ? NULL : &p->qkv.on,
                        .norm = norm,
                        .next = norm + 1,
                        .eps = (float)eps,
                        .rows = p->rows};
}

static void release_links(vlci_links *l) {
    suite_release(l->norm->weight);
    suite_release(l->next->weight);
    free((void *)(uintptr_t)l->norm);
}

/* Launches it over buffers that are poisoned; y and x as they are left. x NULL: it must come to an error.
 * `attention`: begins with it, and p->attended is what that left. */
static void launch(const problem *p, vlci_chain *chain, const vlci_append *append,
                   const vlci_attention *attention, cl_mem y, float *x) {
    size_t n_x = (size_t)p->rows * (size_t)p->hidden;
    vlci_links links = links_of(p);
    links.attended = attention ? suite_poison(vlci_operand_bytes(p->rows, p->width)) : put_attended(p);
    links.x = floats_upload(p->x, n_x);
    links.gated = suite_poison(vlci_operand_bytes(p->rows, p->inner));
    links.y = y;
    links.append = append;
    ck_assert(vlci_chain_takes(chain, &links));
    ck_ok(vlci_chain_run(chain, &links, 1, attention));
    if (x)
        suite_download(links.x, x, n_x * sizeof *x);
    else
        ck_fails(vlci_finish(suite_device()), VLCACHE_E_DEVICE, "waiting for the device");
    if (attention) take_attended(p, links.attended, p->attended);
    cl_mem all[] = {links.attended, links.x, links.gated};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    release_links(&links);
}

static vlci_attention_shape shape_of(int heads, int kv_heads) {
    return (vlci_attention_shape){.heads = heads,
                                  .kv_heads = kv_heads,
                                  .head_dim = 128,
                                  .kv_dtype = VLCACHE_DTYPE_BF16,
                                  .out = VLCI_STRIPES};
}

static vlci_chain *open_attending(int hidden, int heads, int kv_heads) {
    const vlci_attention_shape shape = shape_of(heads, kv_heads);
    vlci_chain *chain;
    ck_ok(vlci_chain_open(suite_device(), hidden, 16384, VLCI_ACT_SILU, &shape, &chain));
    ck_assert((chain != NULL) == suite_device()->caps.wgmma);
    return chain;
}

static vlci_chain *open_chain(int hidden) {
    return open_attending(hidden, 4, 2);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

static void agree(int rows, int hidden, int width, int inner, int n_qkv, bool biased, bool last) {
    vlci_chain *chain = open_chain(hidden);
    if (!chain) return;
    problem *p = create(rows, hidden, width, inner, n_qkv, biased, last);
    size_t n_x = (size_t)rows * (size_t)hidden, n_y = (size_t)rows * (size_t)n_qkv;
    float *x = malloc(n_x * sizeof *x), *y = malloc(n_y * sizeof *y), *again = malloc(n_x * sizeof *x);
    cl_mem to = floats_poisoned(n_y);
    launch(p, chain, NULL, NULL, to, x);
    suite_download(to, y, n_y * sizeof *y);
    expect(p);
    compare(p, "x", x, p->want_x, p->scale_x, n_x);
    if (!last) compare(p, "y", y, p->want_y, p->scale_y, n_y);
    for (int i = 0; i < 5; i++) { /* bit by bit, launch after launch */
        launch(p, chain, NULL, NULL, to, again);
        ck_assert_mem_eq(x, again, n_x * sizeof *x);
    }
    suite_release(to);
    free(x);
    free(y);
    free(again);
    destroy(p);
    vlci_chain_close(&chain);
}

START_TEST(agrees_with_the_oracle) {
    agree(64, 256, 256, 384, 512, false, false);
    agree(33, 384, 256, 640, 448, true, false);
    agree(17, 1024, 1024, 2816, 1536, true, false);
    agree(3, 128, 128, 128, 64, false, false);
    agree(64, 4096, 512, 256, 6144, false, false);
    agree(50, 512, 4096, 1408, 64, true, true);
}
END_TEST

/* Element by element: the same numbers take the same way. */
static void check_same(const char *what, cl_mem a, cl_mem b, size_t bytes) {
    uint16_t *of_a = malloc(bytes), *of_b = malloc(bytes);
    suite_download(a, of_a, bytes);
    suite_download(b, of_b, bytes);
    for (size_t i = 0; i < bytes / 2; i++)
        ck_assert_msg(of_a[i] - of_b[i] <= 1 && of_b[i] - of_a[i] <= 1, "%s: %zu: %04x and %04x", what, i,
                      of_a[i], of_b[i]);
    free(of_a);
    free(of_b);
}

static void append_rows(int rows, int heads, int kv_heads) {
    int hidden = 512, n = (heads + 2 * kv_heads) * 128;
    vlci_chain *chain = open_chain(hidden);
    if (!chain) return;
    vlci_rope_kernels rope;
    problem *p = create(rows, hidden, 128, 128, n, true, false);
    size_t n_y = (size_t)rows * (size_t)n, cache = (size_t)(rows * kv_heads) * 128 * 2;
    float *x = malloc((size_t)(rows * hidden) * sizeof *x), *y = malloc(n_y * sizeof *y),
          *want = malloc(n_y * sizeof *want), *phase = floats_random(&seed, (size_t)rows * 128, 1, 0);
    int each[VLCI_CHAIN_ROWS + 1];
    for (int i = 0; i <= rows; i++) each[i] = i;
    cl_mem k[2], v[2], to[2] = {floats_poisoned(n_y), floats_poisoned(n_y)},
                       sequence = suite_upload(each, sizeof each);
    vlci_append a = {.rows = rows,
                     .heads = heads,
                     .kv_heads = kv_heads,
                     .head_dim = 128,
                     .phase = floats_upload(phase, (size_t)rows * 128),
                     .row_sequence = sequence,
                     .seq_start = sequence,
                     .kv = {.dtype = VLCACHE_DTYPE_BF16,
                            .seq_stride = (size_t)kv_heads * 128,
                            .head_stride = 128,
                            .row_stride = 128}};
    ck_ok(vlci_rope_open(suite_device(), VLCACHE_DTYPE_BF16, &rope));
    for (int i = 0; i < 2; i++) {
        a.kv.k = k[i] = suite_poison(cache);
        a.kv.v = v[i] = suite_poison(cache);
        a.qkv = to[i];
        launch(p, chain, i ? &a : NULL, NULL, to[i], x);
        if (!i) ck_ok(vlci_rope_append(&rope, &a));
    }
    check_same("k", k[0], k[1], cache);
    check_same("v", v[0], v[1], cache);
    suite_download(to[0], want, n_y * sizeof *y);
    suite_download(to[1], y, n_y * sizeof *y);
    for (size_t i = 0; i < n_y; i++)
        if (i % (size_t)n < (size_t)heads * 128)
            ck_assert_msg(fabsf(y[i] - want[i]) <= 1e-5f * (1 + fabsf(want[i])), "q[%zu]: %g, want %g", i,
                          (double)y[i], (double)want[i]);
    cl_mem all[] = {k[0], k[1], v[0], v[1], to[0], to[1], sequence, a.phase};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    void *arrays[] = {x, y, want, phase};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    destroy(p);
    vlci_chain_close(&chain);
}

START_TEST(rows_go_into_the_cache) {
    append_rows(64, 4, 2);
    append_rows(5, 3, 1);
    append_rows(30, 32, 8);
}
END_TEST

/* ---- attention in front of it -------------------------------------------------------------------------- */

enum { LAYERS = 3, LAYER = 1, MOST_HEADS = 36 };

/* Sequences whose rows share kv heads. */
typedef struct talks {
    int batch, max_rows, each[PAGES_SEQUENCES]; /* rows: 0 means max_rows */
    int heads, kv_heads, past;
    bool biased, last;
} talks;

static int rows_of(const talks *t, int b) {
    return t->each[b] ? t->each[b] : t->max_rows;
}

/* Rows of some layers, each head with its own number; the newest are there and not counted. */
static pages *make_pages(const talks *t, int *rows, float **k, float **v, float **bias) {
    const vlci_kv_shape shape = {LAYERS, t->kv_heads, 128, VLCACHE_DTYPE_BF16};
    int lists = pages_lists(&shape, t->batch);
    size_t all = 0;
    for (int i = 0; i < lists; i++)
        all += (size_t)(rows[i] = t->past + i * 7 % 41 + rows_of(t, i / (LAYERS * t->kv_heads)));
    *k = floats_random(&seed, all * 128, 1, 0);
    *v = floats_random(&seed, all * 128, 1, 0);
    *bias = t->biased ? floats_random(&seed, all, 1, 1) : NULL;
    pages *made =
        pages_create(&shape, t->batch, &(pages_rows){.rows = rows, .k = *k, .v = *v, .bias = *bias}, 3);
    for (int b = 0; b < t->batch; b++) vlci_kv_append(&made->kv[b], 0, LAYERS, -rows_of(t, b));
    ck_ok(vlci_kv_pool_sync(&made->pool));
    return made;
}

/* For the shares of a piece, whatever their number. */
static cl_mem make_scratch(void) {
    size_t records = suite_device()->caps.info.compute_units * 8 * VLCI_ATTENTION_RECORD(128);
    float *zeros = calloc(VLCI_ATTENTION_COUNTERS + records, sizeof *zeros);
    cl_mem scratch = floats_upload(zeros, VLCI_ATTENTION_COUNTERS + records);
    free(zeros);
    return scratch;
}

/* Held against doubles; what is behind it, against those of what it left. Launch after launch, bit by bit. */
static void attend(const talks *t) {
    int hidden = 512, n = (t->heads + 2 * t->kv_heads) * 128, width = t->heads * 128;
    int start[PAGES_SEQUENCES + 1] = {0}, sequence[VLCI_CHAIN_ROWS];
    for (int b = 0; b < t->batch; b++) {
        start[b + 1] = start[b] + rows_of(t, b);
        for (int r = start[b]; r < start[b + 1]; r++) sequence[r] = b;
    }
    const int total = start[t->batch];
    vlci_chain *chain = open_attending(hidden, t->heads, t->kv_heads);
    vlci_attention_shape shape = shape_of(t->heads, t->kv_heads);
    vlci_attention a = {.batch = t->batch,
                        .max_rows = t->max_rows,
                        .causal = true,
                        .scale = 0.088f,
                        .q_stride = (size_t)n,
                        .scratch = make_scratch(),
                        .seq_start = suite_upload(start, sizeof start)};
    a.kv.table = a.seq_start; /* until there is one */
    ck_assert(!chain || total > VLCI_CHAIN_FEW_ROWS || vlci_chain_attends(chain, &a, total));
    a.max_keys = 32768; /* what is long is left */
    ck_assert(total > VLCI_CHAIN_FEW_ROWS || !vlci_chain_attends(chain, &a, total));
    a.max_keys = 0;
    if (!chain || !vlci_chain_attends(chain, &a, total)) {
        suite_release(a.seq_start);
        suite_release(a.scratch);
        vlci_chain_close(&chain);
        return;
    }
    int *rows = malloc((size_t)(t->batch * LAYERS * t->kv_heads) * sizeof *rows);
    float *k, *v, *bias;
    pages *cache = make_pages(t, rows, &k, &v, &bias);
    ref_rows *head = malloc((size_t)(t->batch * t->kv_heads) * sizeof *head);
    for (int i = 0; i < t->batch * t->kv_heads; i++) {
        int b = i / t->kv_heads, list = (b * LAYERS + LAYER) * t->kv_heads + i % t->kv_heads;
        size_t at = pages_first(rows, list);
        head[i] =
            (ref_rows){rows[list] - rows_of(t, b), 128, k + at * 128, v + at * 128, bias ? bias + at : NULL};
    }
    problem *p = create(total, hidden, width, 128, n, true, t->last);
    size_t n_x = (size_t)(total * hidden), n_y = (size_t)total * (size_t)n, n_a = (size_t)(total * width);
    float *q = floats_random(&seed, n_y, 2, 0), *x = malloc(n_x * sizeof *x),
          *again = malloc(n_x * sizeof *x), *phase = floats_random(&seed, (size_t)total * 128, 1, 0);
    double *want = malloc((n_a + 2 * (size_t)(total * t->heads)) * sizeof *want);
    a.kv = pages_view(cache, LAYER);
    ref_attention(&shape, &a, &(ref_inputs){q, start, head}, want, want + n_a,
                  want + n_a + (size_t)(total * t->heads));
    cl_mem starts = a.seq_start, sequences = suite_upload(sequence, sizeof sequence);
    vlci_append append = {.rows = total,
                          .heads = t->heads,
                          .kv_heads = t->kv_heads,
                          .head_dim = 128,
                          .phase = floats_upload(phase, (size_t)total * 128),
                          .row_sequence = sequences,
                          .seq_start = starts,
                          .kv = pages_view(cache, LAYER + 1)};
    for (int i = 0; i < 4; i++) {
        append.qkv = floats_upload(q, n_y);
        launch(p, chain, t->last ? NULL : &append, &a, append.qkv, i ? again : x);
        suite_close("attended", p->attended, want, n_a, is_short(p) ? 2e-3 : 1e-5,
                    is_short(p) ? 0x1p-8 : 1e-5);
        if (i) ck_assert_mem_eq(x, again, n_x * sizeof *x);
        suite_release(append.qkv);
    }
    expect(p);
    compare(p, "x", x, p->want_x, p->scale_x, n_x);
    cl_mem all[] = {starts, sequences, append.phase, a.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    pages_destroy(cache);
    void *arrays[] = {rows, k, v, bias, head, q, x, again, phase, want};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    destroy(p);
    vlci_chain_close(&chain);
}

/* Layers in one launch, and each in its own: bit by bit the same x, rows of the cache too. */
static void go_together(const talks *t) {
    int hidden = 512, n = (t->heads + 2 * t->kv_heads) * 128, width = t->heads * 128;
    int start[PAGES_SEQUENCES + 1];
    for (int b = 0; b <= t->batch; b++) start[b] = b;
    vlci_chain *chain = open_attending(hidden, t->heads, t->kv_heads);
    vlci_attention a = {.batch = t->batch,
                        .max_rows = 1,
                        .causal = true,
                        .scale = 0.088f,
                        .q_stride = (size_t)n,
                        .scratch = make_scratch(),
                        .seq_start = suite_upload(start, sizeof start)};
    a.kv.table = a.seq_start; /* until there is one */
    if (!chain || !vlci_chain_attends(chain, &a, t->batch)) {
        suite_release(a.seq_start);
        suite_release(a.scratch);
        vlci_chain_close(&chain);
        return;
    }
    int lists = t->batch * LAYERS * t->kv_heads, *rows = malloc((size_t)lists * sizeof *rows);
    float *k, *v, *bias;
    pages *cache = make_pages(t, rows, &k, &v, &bias);
    size_t n_x = (size_t)(t->batch * hidden), n_y = (size_t)t->batch * (size_t)n,
           most = (size_t)(t->past + 42) * 128;
    float *q = floats_random(&seed, n_y, 2, 0), *phase = floats_random(&seed, (size_t)t->batch * 128, 1, 0),
          *x[2], *kept[2], *first = NULL;
    problem *p[LAYERS];
    vlci_links links[LAYERS];
    cl_mem starts = a.seq_start;
    vlci_append append = {.rows = t->batch,
                          .heads = t->heads,
                          .kv_heads = t->kv_heads,
                          .head_dim = 128,
                          .phase = floats_upload(phase, (size_t)t->batch * 128),
                          .row_sequence = starts,
                          .seq_start = starts};
    for (int i = 0; i < LAYERS; i++) {
        p[i] = create(t->batch, hidden, width, 128, n, true, t->last && i + 1 == LAYERS);
        links[i] = links_of(p[i]);
        ck_assert(!i || vlci_chain_goes_on(&links[i - 1], &links[i]));
    }
    int joined = t->last ? LAYERS : LAYERS - 1; /* behind the last layer of the cache nothing is appended */
    first = floats_random(&seed, n_x, 2, 0);
    for (int apart = 0; apart < 2; apart++) {
        cl_mem to_x = floats_upload(first, n_x), y = floats_upload(q, n_y),
               attended = suite_poison(vlci_operand_bytes(t->batch, width)),
               gated = suite_poison(vlci_operand_bytes(t->batch, 128));
        for (int i = 0; i < joined; i++) {
            links[i].x = to_x;
            links[i].y = append.qkv = y;
            links[i].attended = attended;
            links[i].gated = gated;
            links[i].append = links[i].qkv ? &append : NULL;
        }
        for (int i = 0; i < (apart ? joined : 1); i++) {
            a.kv = pages_view(cache, i);
            append.kv = pages_view(cache, i + 1 < LAYERS ? i + 1 : i);
            ck_ok(vlci_chain_run(chain, &links[i], apart ? 1 : joined, &a));
        }
        x[apart] = floats_take(to_x, n_x);
        for (int b = 0; b < t->batch; b++) vlci_kv_append(&cache->kv[b], 0, LAYERS, 1);
        kept[apart] = calloc((size_t)lists * most * 2, sizeof(float));
        for (int i = 0; i < lists; i++)
            pages_read(&cache->kv[i / (LAYERS * t->kv_heads)], i / t->kv_heads % LAYERS, i % t->kv_heads,
                       kept[apart] + (size_t)i * most * 2, kept[apart] + ((size_t)i * 2 + 1) * most, NULL);
        for (int b = 0; b < t->batch; b++) vlci_kv_append(&cache->kv[b], 0, LAYERS, -1);
        ck_ok(vlci_kv_pool_sync(&cache->pool));
        cl_mem all[] = {y, attended, gated};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    }
    ck_assert_mem_eq(x[0], x[1], n_x * sizeof *x[0]);
    ck_assert_mem_eq(kept[0], kept[1], (size_t)lists * most * 2 * sizeof *kept[0]);
    suite_release(starts);
    suite_release(append.phase);
    suite_release(a.scratch);
    pages_destroy(cache);
    for (int i = 0; i < LAYERS; i++) {
        release_links(&links[i]);
        destroy(p[i]);
    }
    void *arrays[] = {rows, k, v, bias, q, phase, x[0], x[1], kept[0], kept[1], first};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    vlci_chain_close(&chain);
}

START_TEST(layers_go_together) {
    go_together(&(talks){.batch = 64, .max_rows = 1, .heads = 8, .kv_heads = 8, .past = 100, .last = true});
    go_together(&(talks){.batch = 40, .max_rows = 1, .heads = 28, .kv_heads = 14, .past = 3, .biased = true});
}
END_TEST

START_TEST(attention_goes_with_it) {
    attend(&(talks){.batch = 64, .max_rows = 1, .heads = 8, .kv_heads = 8, .past = 0});
    attend(&(talks){.batch = 40, .max_rows = 1, .heads = 28, .kv_heads = 14, .past = 190, .biased = true});
    attend(&(talks){.batch = 8,
                    .max_rows = 8,
                    .each = {8, 3, 8, 1, 8, 7, 8, 5},
                    .heads = MOST_HEADS,
                    .kv_heads = 9,
                    .past = 70,
                    .last = true});
}
END_TEST

START_TEST(few_rows_agree) {
    agree(1, 64, 64, 64, 64, false, false);
    agree(1, 1024, 4096, 14336, 1536, false, false);
    agree(1, 640, 1152, 2752, 448, true, true);
    agree(2, 1024, 512, 2816, 1536, true, false);
    agree(2, 128, 16384, 64, 64, true, false);
}
END_TEST

START_TEST(few_rows_go_into_the_cache) {
    append_rows(1, 32, 8);
    append_rows(2, 5, 1);
}
END_TEST

START_TEST(few_rows_attend) {
    attend(&(talks){.batch = 1, .max_rows = 1, .heads = 32, .kv_heads = 8, .past = 2100});
    attend(&(talks){.batch = 2, .max_rows = 1, .heads = 28, .kv_heads = 14, .past = 190, .biased = true});
    attend(&(talks){.batch = 1, .max_rows = 2, .heads = 4, .kv_heads = 1, .past = 0, .last = true});
    attend(&(talks){.batch = 1, .max_rows = 1, .heads = 8, .kv_heads = 8, .past = 17, .biased = true});
    go_together(&(talks){.batch = 1, .max_rows = 1, .heads = 32, .kv_heads = 8, .past = 2100, .last = true});
    go_together(&(talks){.batch = 2, .max_rows = 1, .heads = 6, .kv_heads = 3, .past = 40, .biased = true});
}
END_TEST

/* More work-groups than run at once, each of which waits for all: an error, soon, and no standstill. The
 * driver opens no device in this process any more: the last test. */
START_TEST(a_standstill_is_an_error) {
    suite_close_device();
    suite_device()->caps.info.compute_units *= 4;
    vlci_chain *chain = open_chain(4096);
    if (chain) {
        problem *p = create(64, 4096, 128, 1024, 64, false, true); /* down has 256 pieces */
        cl_mem y = floats_poisoned(64 * 64);
        launch(p, chain, NULL, NULL, y, NULL);
        suite_release(y);
        destroy(p);
    }
    vlci_chain_close(&chain);
    suite_close_device();
}
END_TEST

START_TEST(what_it_cannot_is_left) {
    vlci_chain *chain = open_chain(128);
    vlci_norm norm = {0};
    vlci_matrix w = {.n = 128, .k = 128, .dtype = VLCACHE_DTYPE_F16, .layout = VLCI_BLOCKS};
    vlci_links links = {.out = &w, .gate_up = &w, .down = &w, .norm = &norm, .rows = 64};
    ck_assert(!vlci_chain_takes(NULL, &links));
    ck_assert(!vlci_chain_takes(chain, &links)); /* no weights of a norm, and no bf16 */
    vlci_chain_close(&chain);
    vlci_chain_close(&chain); /* nothing */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chain");
    TCase *c = tcase_create("chain");
    suite_balance(c);
    tcase_add_test(c, agrees_with_the_oracle);
    tcase_add_test(c, rows_go_into_the_cache);
    tcase_add_test(c, attention_goes_with_it);
    tcase_add_test(c, layers_go_together);
    tcase_add_test(c, what_it_cannot_is_left);
    suite_add_tcase(suite, c);
    c = tcase_create("few");
    suite_balance(c);
    tcase_add_test(c, few_rows_agree);
    tcase_add_test(c, few_rows_go_into_the_cache);
    tcase_add_test(c, few_rows_attend);
    suite_add_tcase(suite, c);
    c = tcase_create("standstill"); /* counts no memory: its device is lost */
    tcase_add_test(c, a_standstill_is_an_error);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
