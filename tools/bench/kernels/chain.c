/*
 * chain.c - what stands between two layers' attention, of few rows: out, norm, gate and up, down, norm, and
 * the next q, k and v; in one launch, or with one for each product.
 *
 *     error: |got - want|, the worst of the last row's x, over the root mean square of what was added to it,
 *            and of its y, over theirs
 */
#include "compute/chain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/kernels/trial.h"
#include "common/memory.h"
#include "compute/product.h"
#include "models/weight.h"

#define TOLERANCE 3e-2 /* rows in 16 bits in front of each product */
#define EPSILON   1e-5f
enum { OUT, GATE_UP, DOWN, QKV, MATRICES };
enum { STRETCH = 64 }; /* rows of weights that are read at a time */

typedef struct chain_work {
    trials *t;
    const vlci_ladder *ladder;
    int rows, hidden, inner;
    vlci_attention_shape heads;
    char name[96];
    vlci_compute compute;
    vlci_matrix w[MATRICES];
    vlci_norm norm, next;
    cl_mem attended, brought_in, x, x_before, gated, wide, brought, y;
    vlci_form form, gated_form; /* of brought_in; of gated, apart */
    vlci_chain *chain;
    vlci_chain_dot *dot;
    bool apart;
} chain_work;

/* ---- operands ------------------------------------------------------------------------------------------ */

static int width_of(const chain_work *w) {
    return w->heads.heads * w->heads.head_dim;
}

static vlcache_status make_matrix(const chain_work *w, int at, vlci_layout layout, vlci_matrix *out) {
    const int n[MATRICES] = {w->hidden, 2 * w->inner, w->hidden,
                             (w->heads.heads + 2 * w->heads.kv_heads) * w->heads.head_dim},
              k[MATRICES] = {width_of(w), w->hidden, w->inner, w->hidden};
    *out = (vlci_matrix){.n = n[at], .k = k[at], .dtype = w->t->dtype, .layout = layout};
    size_t bytes = vlci_matrix_bytes(out->n, out->k, out->dtype, layout);
    vlcache_status status = vlci_memory_create(w->t->device, bytes, "weights of a trial", &out->data);
    if (status) return status;
    return vlci_random_matrix(w->t->device, out, (uint32_t)(101 + at), 1.7f / sqrtf((float)out->k));
}

/* Room for rows in any form. */
static vlcache_status make_rows(const chain_work *w, int n, cl_mem *out) {
    size_t floats = (size_t)w->rows * (size_t)n, operand = vlci_operand_bytes(w->rows, n) / sizeof(float);
    return trial_poisoned(w->t, floats > operand ? floats : operand, out);
}

static vlcache_status make_memory(chain_work *w) {
    size_t rows = (size_t)w->rows, hidden = (size_t)w->hidden;
    int widest = w->inner > width_of(w) ? w->inner : width_of(w);
    vlcache_status status = trial_floats(w->t, rows * (size_t)width_of(w), 111, &w->attended);
    if (!status) status = trial_floats(w->t, rows * hidden, 112, &w->x_before);
    if (!status) status = trial_floats(w->t, hidden, 113, &w->norm.weight);
    if (!status) status = trial_floats(w->t, hidden, 114, &w->next.weight);
    if (!status) status = make_rows(w, w->hidden, &w->x);
    if (!status) status = make_rows(w, width_of(w), &w->brought_in);
    if (!status) status = make_rows(w, w->inner, &w->gated);
    if (!status) status = make_rows(w, 2 * w->inner, &w->wide);
    if (!status) status = make_rows(w, widest, &w->brought);
    return status ? status : make_rows(w, w->w[QKV].n, &w->y);
}

static vlcache_status make(void *work) {
    chain_work *w = work;
    vlci_compute *k = &w->compute;
    vlcache_dtype dtype = w->t->dtype;
    vlcache_status status = vlci_compute_open(w->t->device, VLCI_ACT_SILU, k);
    if (!status) status = vlci_compute_open_dtype(k, dtype);
    for (int i = 0; i < MATRICES && !status; i++)
        status = make_matrix(w, i, vlci_linear_layout(&k->linear, dtype), &w->w[i]);
    if (!status) status = make_memory(w);
    if (status) return status;
    w->form = vlci_linear_form(&k->linear, dtype, w->rows);
    w->gated_form = vlci_product_form(k, &w->w[GATE_UP], &w->w[DOWN], w->rows);
    const vlci_product out = {.w = &w->w[OUT], .x = w->attended, .m = w->rows};
    return w->form == VLCI_FLOATS ? VLCACHE_OK : vlci_linear_bring(&k->linear, &out, w->brought_in);
}

static void release(chain_work *w) {
    TRIAL_RELEASE(w->t, &w->attended, &w->brought_in, &w->x, &w->x_before, &w->gated, &w->wide, &w->brought,
                  &w->y, &w->norm.weight, &w->next.weight);
    for (int i = 0; i < MATRICES; i++) vlci_memory_release(w->t->device, &w->w[i].data);
    vlci_compute_close(&w->compute);
}

/* ---- launches ------------------------------------------------------------------------------------------ */

/* What attention has left, in the form that products of so many rows read. */
static cl_mem input_of(const chain_work *w) {
    return w->form == VLCI_FLOATS ? w->attended : w->brought_in;
}

static vlci_links links_of(const chain_work *w) {
    return (vlci_links){.out = &w->w[OUT],
                        .gate_up = &w->w[GATE_UP],
                        .down = &w->w[DOWN],
                        .qkv = &w->w[QKV],
                        .norm = &w->norm,
                        .next = &w->next,
                        .eps = EPSILON,
                        .rows = w->rows,
                        .attended = vlci_chain_reads(w->rows) == VLCI_FLOATS ? w->attended : w->brought_in,
                        .x = w->x,
                        .gated = w->gated,
                        .y = w->y};
}

/* The rung that is forced. */
static vlcache_status open_rung(void *work) {
    chain_work *w = work;
    const char *rung;
    const vlci_gemv *bf16 = &w->compute.linear.of[VLCACHE_DTYPE_BF16].gemv;
    const vlci_links links = links_of(w);
    bool one = w->ladder == &vlci_chain_dot_ladder, taken = false;
    vlcache_status status = vlci_rung(w->t->device, w->ladder, "apart", &rung);
    w->apart = !status && strcmp(rung, "apart") == 0;
    if (status || w->apart) return status;
    if (one && w->t->dtype == VLCACHE_DTYPE_BF16)
        status =
            vlci_chain_dot_open(w->t->device, bf16->dot, bf16->layout, VLCI_ACT_SILU, &w->heads, &w->dot);
    if (!one)
        status = vlci_chain_open(w->t->device, w->hidden, w->inner > width_of(w) ? w->inner : width_of(w),
                                 VLCI_ACT_SILU, &w->heads, &w->chain);
    if (one)
        taken = vlci_chain_dot_takes(w->dot, &links);
    else
        taken = vlci_chain_takes(w->chain, &links) && w->form == vlci_chain_reads(w->rows);
    return status || taken
               ? status
               : vlci_fail(VLCACHE_E_UNSUPPORTED, "not chained: %s in %s, %d rows",
                           vlcache_dtype_name(w->t->dtype), vlci_layout_names[w->w[OUT].layout], w->rows);
}

static void close_rung(void *work) {
    chain_work *w = work;
    vlci_chain_close(&w->chain);
    vlci_chain_dot_close(&w->dot);
}

/* As a layer has them where nothing is chained. */
static vlcache_status launch_apart(const chain_work *w) {
    const vlci_compute *k = &w->compute;
    vlci_product out = {.w = &w->w[OUT], .x = input_of(w), .x_form = w->form, .y = w->x, .accumulate = true},
                 gate_up = {.w = &w->w[GATE_UP],
                            .x = w->x,
                            .norm = &w->norm,
                            .gated = true,
                            .y = w->gated,
                            .y_form = w->gated_form},
                 down = {.w = &w->w[DOWN],
                         .x = w->gated,
                         .x_form = w->gated_form,
                         .y = w->x,
                         .accumulate = true},
                 qkv = {.w = &w->w[QKV], .x = w->x, .norm = &w->next, .y = w->y},
                 *all[] = {&out, &gate_up, &down, &qkv};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < MATRICES && !status; i++) {
        all[i]->m = w->rows;
        all[i]->eps = EPSILON;
        all[i]->brought = w->brought;
        all[i]->wide = w->wide;
        all[i]->next = &w->w[(i + 1) % MATRICES];
        status = vlci_product_run(k, all[i]);
    }
    return status;
}

static vlcache_status launch(void *work) {
    const chain_work *w = work;
    const vlci_links links = links_of(w);
    if (w->apart) return launch_apart(w);
    return w->dot ? vlci_chain_dot_run(w->dot, &links, NULL) : vlci_chain_run(w->chain, &links, 1, NULL);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* y += W x */
static vlcache_status multiply(const chain_work *w, int at, const double *x, double *y) {
    vlci_matrix plain = {0};
    vlcache_status status = make_matrix(w, at, VLCI_ROWS, &plain);
    size_t k = (size_t)plain.k, row = k * vlci_dtype_bytes(plain.dtype);
    void *stored = memory_take(STRETCH, row);
    float *weights = memory_take(STRETCH * k, sizeof *weights);
    for (int first = 0; first < plain.n && !status; first += STRETCH) {
        size_t n = (size_t)(plain.n - first < STRETCH ? plain.n - first : STRETCH);
        status = vlci_read(w->t->device, plain.data, (size_t)first * row, stored, n * row);
        vlci_widen(stored, plain.dtype, weights, n * k);
        for (size_t r = 0; r < n; r++)
            for (size_t i = 0; i < k; i++) y[(size_t)first + r] += (double)weights[r * k + i] * x[i];
    }
    vlci_memory_release(w->t->device, &plain.data);
    free(stored);
    free(weights);
    return status;
}

static vlcache_status take(const chain_work *w, cl_mem from, size_t at, size_t n, double *to) {
    float *got = memory_take(n, sizeof *got);
    vlcache_status status = vlci_read(w->t->device, from, at * sizeof *got, got, n * sizeof *got);
    for (size_t i = 0; i < n; i++) to[i] = (double)got[i];
    free(got);
    return status;
}

/* RMS(x), times a norm's weight. */
static vlcache_status normed(const chain_work *w, const double *x, const vlci_norm *norm, double *out) {
    size_t n = (size_t)w->hidden;
    double squares = 0;
    vlcache_status status = take(w, norm->weight, 0, n, out);
    for (size_t i = 0; i < n; i++) squares += x[i] * x[i];
    for (size_t i = 0; i < n; i++) out[i] *= x[i] / sqrt(squares / (double)n + (double)EPSILON);
    return status;
}

/* The last row: x, which is there before, and y. */
static vlcache_status expect(const chain_work *w, double *x, double *y) {
    size_t inner = (size_t)w->inner, last = (size_t)w->rows - 1, width = (size_t)width_of(w);
    double *row = memory_take(width + inner + (size_t)w->hidden, sizeof *row),
           *wide = memory_take(2 * inner, sizeof *wide);
    vlcache_status status = take(w, w->attended, last * width, width, row);
    if (!status) status = multiply(w, OUT, row, x);
    if (!status) status = normed(w, x, &w->norm, row);
    if (!status) status = multiply(w, GATE_UP, row, wide);
    for (size_t i = 0; i < inner; i++) row[i] = wide[i] / (1 + exp(-wide[i])) * wide[inner + i];
    if (!status) status = multiply(w, DOWN, row, x);
    if (!status) status = normed(w, x, &w->next, row);
    if (!status) status = multiply(w, QKV, row, y);
    free(row);
    free(wide);
    return status;
}

/* Of numbers that were at `before` (NULL: 0). */
static double worst(const double *got, const double *want, const double *before, size_t n) {
    double squares = 1e-30, off = 0;
    for (size_t i = 0; i < n; i++) {
        squares += pow(want[i] - (before ? before[i] : 0), 2);
        off = trial_worse(fabs(got[i] - want[i]), off);
    }
    return off / sqrt(squares / (double)n);
}

static vlcache_status check(void *work, double *error) {
    chain_work *w = work;
    size_t hidden = (size_t)w->hidden, n = (size_t)w->w[QKV].n, last = (size_t)w->rows - 1,
           x_bytes = (size_t)w->rows * hidden * sizeof(float);
    double *x = memory_take(3 * hidden, sizeof *x), *got_x = x + hidden, *before = got_x + hidden,
           *y = memory_take(2 * n, sizeof *y), *got_y = y + n;
    vlcache_status status = vlci_copy(w->t->device, w->x_before, 0, w->x, 0, x_bytes);
    if (!status) status = vlci_fill(w->t->device, w->y, 0, (size_t)w->rows * n * sizeof(float), 0xffffffffu);
    if (!status) status = launch(w);
    if (!status) status = take(w, w->x_before, last * hidden, hidden, before);
    if (!status) status = take(w, w->x, last * hidden, hidden, got_x);
    if (!status) status = take(w, w->y, last * n, n, got_y);
    memcpy(x, before, hidden * sizeof *x);
    if (!status) status = expect(w, x, y);
    *error = trial_worse(worst(got_x, x, before, hidden), worst(got_y, y, NULL, n));
    free(x);
    free(y);
    return status;
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

static vlcache_status try_rows(trials *t, const vlci_ladder *ladder, int rows) {
    bool quick = t->b->options.quick;
    chain_work *w = memory_take(1, sizeof *w);
    *w = (chain_work){.t = t,
                      .ladder = ladder,
                      .rows = rows,
                      .hidden = quick ? 128 : 4096,
                      .inner = quick ? 256 : 14336,
                      .heads = {.heads = quick ? 4 : 32,
                                .kv_heads = quick ? 2 : 8,
                                .head_dim = quick ? 64 : 128,
                                .kv_dtype = t->dtype}};
    double qkv = (double)(w->heads.heads + 2 * w->heads.kv_heads) * w->heads.head_dim,
           weights = w->hidden * (width_of(w) + 3.0 * w->inner + qkv);
    trial_case c = {.what = {.kernel = ladder == &vlci_chain_ladder ? "chain decode of many"
                                                                    : "chain decode of one",
                             .shape = w->name,
                             .bytes = true,
                             .amount = weights * (double)vlci_dtype_bytes(t->dtype),
                             .tolerance = TOLERANCE},
                    .work = w,
                    .make = make,
                    .open = open_rung,
                    .check = check,
                    .launch = launch,
                    .close = close_rung};
    snprintf(w->name, sizeof w->name, "%d rows of %d, %d inside, %s", rows, w->hidden, w->inner,
             vlcache_dtype_name(t->dtype));
    vlcache_status status = trial_ladder(t, ladder, &c);
    release(w);
    free(w);
    return status;
}

vlcache_status chain_trials(trials *t) {
    static const int rows[] = {1, 16, 64}, quick[] = {1, 5};
    vlcache_status status = try_rows(t, &vlci_chain_dot_ladder, 1);
    for (int i = 0; i < (t->b->options.quick ? 2 : 3) && !status; i++)
        status = try_rows(t, &vlci_chain_ladder, t->b->options.quick ? quick[i] : rows[i]);
    return status;
}
