/*
 * linear.c - matrix products: every engine and rung on the shapes of a 7B model's prompts, and the
 * matrix-vector kernels on the same matrices, plain and with the norm in front and the gate behind that a
 * layer has them take.
 *
 *     error: |got - want| over the sum of the magnitudes that went into it, the worst of some outputs. It is
 *            wrong from 0.02 / sqrt(K) on: x and y rounded to bf16 stay below half of that, and an output of
 *            another row or column, or of none, is some fifty times further off. Of a gated one both sums
 *            count, each as far as it moves the output
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/kernels/trial.h"
#include "common/memory.h"
#include "compute/gemm_plan.h"
#include "compute/gemv.h"
#include "compute/linear.h"
#include "compute/random.h"
#include "models/weight.h"

enum { SAMPLES = 48, FEW_ROWS = 32 };
#define EPSILON  1e-5f
#define TOO_LONG 5.0 /* seconds of a launch that is not worth the wait */

/* One product, its operands, and the same weights in rows, which say what an element is. */
typedef struct product {
    trials *t;
    char shape[64];
    int m, n, k, rows; /* rows: of x that a launch takes, of m */
    bool normed, gated;
    bool asked; /* whether operands are made */
    vlcache_status made;
    vlci_matrix w, plain;
    cl_mem x, y, short_x;   /* x; the same in the form that matrix units read; NULL: not asked for */
    vlci_form form, y_form; /* which of both; and of y */
    vlci_layout packed;     /* in which the device's own engine wants weights */
    vlci_dot dot;           /* whether it multiplies pairs of them */
    vlci_norm norm;
    vlci_gemm gemm;
    vlci_gemv gemv;
} product;

/* Of y. */
static int columns_of(const product *p) {
    return p->gated ? p->n / 2 : p->n;
}

/* ---- operands ------------------------------------------------------------------------------------------ */

static vlcache_status make_matrix(product *p, vlci_layout layout, vlci_matrix *out) {
    vlcache_device *device = p->t->device;
    *out = (vlci_matrix){.n = p->n, .k = p->k, .dtype = p->t->dtype, .layout = layout};
    size_t bytes = vlci_matrix_bytes(p->n, p->k, out->dtype, layout);
    vlcache_status status = vlci_memory_create(device, bytes, "weights of a trial", &out->data);
    return status ? status : vlci_random_matrix(device, out, 5, 1.0f);
}

/* Room for y in either form. */
static size_t y_floats(const product *p) {
    size_t floats = (size_t)p->m * (size_t)p->n, operand = vlci_operand_bytes(p->m, p->n) / sizeof(float);
    return floats > operand ? floats : operand;
}

static vlcache_status make_operands(product *p) {
    vlcache_status status = make_matrix(p, VLCI_ROWS, &p->plain);
    if (!status) status = trial_floats(p->t, (size_t)p->m * (size_t)p->k, 6, &p->x);
    if (!status && p->normed) status = trial_floats(p->t, (size_t)p->k, 8, &p->norm.weight);
    return status ? status : trial_poisoned(p->t, y_floats(p), &p->y);
}

/* They are there, once some line asks for them. */
static vlcache_status need_operands(product *p) {
    if (!p->asked) p->made = make_operands(p);
    p->asked = true;
    return p->made;
}

static void close_product(product *p) {
    TRIAL_RELEASE(p->t, &p->plain.data, &p->x, &p->y, &p->norm.weight);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* Row `row` of x as it lies in `all`. */
static void take_row(const product *p, const void *all, int row, float *x) {
    size_t k = (size_t)p->k;
    if (p->form == VLCI_FLOATS) memcpy(x, (const float *)all + (size_t)row * k, k * sizeof *x);
    for (int i = 0; i < p->k && p->form != VLCI_FLOATS; i++)
        vlci_widen((const uint16_t *)all + vlci_form_at(p->form, row, i, p->m, p->k), p->plain.dtype, x + i,
                   1);
}

/* Row `row` of W, into w. */
static vlcache_status take_weights(const product *p, int row, void *stored, float *w) {
    size_t k = (size_t)p->k, bytes = k * vlci_dtype_bytes(p->plain.dtype);
    vlcache_status status = vlci_read(p->t->device, p->plain.data, (size_t)row * bytes, stored, bytes);
    if (!status) vlci_widen(stored, p->plain.dtype, w, k);
    return status;
}

static vlcache_status take_output(const product *p, int row, int at, float *got) {
    vlcache_dtype dtype = p->y_form == VLCI_FLOATS ? VLCACHE_DTYPE_F32 : p->plain.dtype;
    size_t bytes = vlci_dtype_bytes(dtype);
    float stored = 0;
    vlcache_status status =
        vlci_read(p->t->device, p->y, vlci_form_at(p->y_form, row, at, p->m, columns_of(p)) * bytes, &stored,
                  bytes);
    vlci_widen(&stored, dtype, got, 1);
    return status;
}

/* RMSNorm of a row of x, in place. */
static void norm_row(const product *p, const float *weight, float *x) {
    double squares = 0;
    for (int i = 0; i < p->k; i++) squares += (double)x[i] * (double)x[i];
    double scale = 1 / sqrt(squares / p->k + (double)EPSILON);
    for (int i = 0; i < p->k; i++) x[i] = (float)((double)x[i] * scale * (double)weight[i]);
}

typedef struct sum {
    double is, magnitude;
} sum;

static vlcache_status sum_of(const product *p, int row, const float *x, void *stored, float *w, sum *out) {
    vlcache_status status = take_weights(p, row, stored, w);
    *out = (sum){0, 1e-30};
    for (int i = 0; i < p->k; i++) {
        out->is += (double)x[i] * (double)w[i];
        out->magnitude += fabs((double)x[i] * (double)w[i]);
    }
    return status;
}

/* Output (row, at) against doubles. */
static vlcache_status check_one(const product *p, int row, int at, const float *x, void *stored, float *w,
                                double *error) {
    sum one, up;
    float got = 0;
    vlcache_status status = take_output(p, row, at, &got);
    if (!status) status = sum_of(p, at, x, stored, w, &one);
    if (!status && p->gated) {
        status = sum_of(p, columns_of(p) + at, x, stored, w, &up);
        double act = one.is / (1 + exp(-one.is)); /* whose slope is at most 1.1 */
        one = (sum){act * up.is, 1.1 * one.magnitude * fabs(up.is) + fabs(act) * up.magnitude};
    }
    *error = trial_worse(fabs((double)got - one.is) / one.magnitude, *error);
    return status;
}

static size_t x_bytes(const product *p) {
    return p->form != VLCI_FLOATS ? vlci_operand_bytes(p->m, p->k)
                                  : (size_t)p->m * (size_t)p->k * sizeof(float);
}

static vlcache_status check_some(const product *p, double *error) {
    float *x = memory_take((size_t)p->k, sizeof *x), *w = memory_take((size_t)p->k, sizeof *w);
    float *norm = memory_take((size_t)p->k, sizeof *norm);
    void *stored = memory_take((size_t)p->k, sizeof(float)), *all = memory_take(x_bytes(p), 1);
    vlcache_status status =
        vlci_read(p->t->device, p->form != VLCI_FLOATS ? p->short_x : p->x, 0, all, x_bytes(p));
    if (!status && p->normed)
        status = vlci_read(p->t->device, p->norm.weight, 0, norm, (size_t)p->k * sizeof *norm);
    for (size_t i = 0; i < SAMPLES && !status; i++) {
        int row = (int)trial_sample(i * 7 % SAMPLES, SAMPLES, (size_t)p->m),
            at = (int)trial_sample(i, SAMPLES, (size_t)columns_of(p));
        take_row(p, all, row, x);
        if (p->normed) norm_row(p, norm, x);
        status = check_one(p, row, at, x, stored, w, error);
    }
    free(x);
    free(w);
    free(norm);
    free(stored);
    free(all);
    return status;
}

/* All of y is NaN before; the worst of some outputs. */
static vlcache_status check(product *p, trial_launch *launch, double *error) {
    *error = 0;
    vlcache_status status = vlci_fill(p->t->device, p->y, 0, y_floats(p) * sizeof(float), 0xffffffffu);
    if (!status) status = launch(p);
    return status ? status : check_some(p, error);
}

static vlcache_status tell(product *p, trial *what, trial_launch *launch) {
    what->shape = p->shape;
    what->tolerance = 0.02 / sqrt((double)p->k);
    if (!check(p, launch, &what->error)) return trial_tell(p->t, what, launch, p);
    trial_fail(p->t, what);
    return VLCACHE_OK;
}

/* ---- gemm ---------------------------------------------------------------------------------------------- */

static vlcache_status launch_gemm(void *work) {
    const product *p = work;
    vlci_product asked = {
        .w = &p->w, .x = p->x, .y = p->y, .m = p->rows, .x_form = p->form, .y_form = p->y_form};
    if (p->form != VLCI_FLOATS) asked.x = p->short_x;
    return vlci_gemm_run(&p->gemm, &asked);
}

/* As an engine that is made for another device may take minutes, a few rows tell first how long all will. */
static vlcache_status tell_gemm(product *p, trial *what) {
    double seconds = 0;
    p->rows = p->m < FEW_ROWS ? p->m : FEW_ROWS;
    if (trial_time(p->t, launch_gemm, p, &seconds)) {
        trial_fail(p->t, what);
        return VLCACHE_OK;
    }
    double all = seconds * p->m / p->rows;
    char why[64];
    p->rows = p->m;
    if (all <= TOO_LONG) return tell(p, what, launch_gemm);
    snprintf(why, sizeof why, "left out: about %.0f s a launch", all);
    trial_leave_out(p->t, what, why);
    return VLCACHE_OK;
}

/* Where x lies in 16 bits already, as inside a model, and where y is left in them for the next product. */
enum { X, X_AND_Y, FORMS };

static bool form_wanted(const product *p, const trial *like, int form, char name[96], trial *what) {
    snprintf(name, 96, "%s, 16-bit x%s", like->rung, form == X_AND_Y ? " and y" : "");
    *what = *like;
    what->rung = name;
    return trial_wanted(p->t, what);
}

static vlcache_status make_short(product *p) {
    size_t bytes = vlci_operand_bytes(p->m, p->k);
    vlci_matrix rows = {.n = (int)(bytes / 2 / VLCI_BLOCK), .k = VLCI_BLOCK, .dtype = p->t->dtype};
    vlcache_status status = VLCACHE_OK;
    if (!p->short_x) status = vlci_memory_create(p->t->device, bytes, "rows in 16 bits", &p->short_x);
    rows.data = p->short_x;
    return status ? status : vlci_random_matrix(p->t->device, &rows, 7, 1.0f);
}

static vlcache_status tell_form(product *p, const trial *like, int form) {
    char name[96];
    trial what;
    if (!form_wanted(p, like, form, name, &what)) return VLCACHE_OK;
    if (make_short(p)) {
        trial_fail(p->t, &what);
        return VLCACHE_OK;
    }
    p->form = vlci_layout_form(p->w.layout);
    p->y_form = form == X_AND_Y ? p->form : VLCI_FLOATS;
    p->rows = p->m;
    vlcache_status status = tell(p, &what, launch_gemm);
    p->form = p->y_form = VLCI_FLOATS;
    return status;
}

/* An engine that is not there is told once: in floats, or else in the form that is asked for. */
static void fail_gemm(product *p, const trial *like) {
    char name[96];
    trial what = *like;
    for (int form = 0; form < FORMS && !trial_wanted(p->t, &what); form++)
        form_wanted(p, like, form, name, &what);
    trial_fail(p->t, &what);
}

/* An engine as it stands, perhaps with a rung forced. */
static vlcache_status try_gemm(product *p, vlci_gemm_engine engine, const char *rung, bool chosen) {
    char name[64], form_name[96];
    snprintf(name, sizeof name, "%s%s%s", vlci_gemm_engine_names[engine], rung ? " " : "", rung ? rung : "");
    trial what = {.kernel = "gemm",
                  .rung = name,
                  .shape = p->shape,
                  .chosen = chosen,
                  .amount = 2.0 * p->m * p->n * (double)p->k},
          other;
    int forms = engine == VLCI_GEMM_MATRIX ? FORMS : 0;
    bool floats = trial_wanted(p->t, &what), any = floats;
    for (int form = 0; form < forms; form++) any |= form_wanted(p, &what, form, form_name, &other);
    if (!any) return VLCACHE_OK;
    vlcache_status status = need_operands(p);
    if (!status) status = vlci_gemm_open(p->t->device, engine, p->t->dtype, &p->gemm);
    if (!status) status = make_matrix(p, vlci_gemm_layout(&p->gemm), &p->w);
    if (status)
        fail_gemm(p, &what);
    else if (floats)
        status = tell_gemm(p, &what);
    if (!status && vlci_layout_form(p->w.layout) == VLCI_FLOATS) forms = 0;
    for (int form = 0; form < forms && !status; form++) status = tell_form(p, &what, form);
    vlci_memory_release(p->t->device, &p->short_x);
    vlci_memory_release(p->t->device, &p->w.data);
    vlci_gemm_close(&p->gemm);
    return status == VLCACHE_E_CANCELLED ? status : VLCACHE_OK;
}

/* The ladder of an engine: its work is "engine NAME"; NULL: it has none. */
static const vlci_ladder *ladder_of(vlci_gemm_engine engine) {
    for (const vlci_ladder *const *l = vlci_ladders; *l; l++)
        if (strcmp((*l)->kernel, "gemm") == 0 && strncmp((*l)->work, "engine ", 7) == 0 &&
            strcmp((*l)->work + 7, vlci_gemm_engine_names[engine]) == 0)
            return *l;
    return NULL;
}

typedef struct engine_trial {
    product *p;
    vlci_gemm_engine engine;
    bool chosen;
} engine_trial;

static vlcache_status try_rung(trials *t, const char *rung, bool chosen, void *user) {
    const engine_trial *e = user;
    (void)t;
    return try_gemm(e->p, e->engine, rung, chosen && e->chosen);
}

static vlcache_status try_engines(product *p, vlci_gemm_engine best) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < VLCI_GEMM_ENGINES && !status; i++) {
        engine_trial e = {p, (vlci_gemm_engine)i, (vlci_gemm_engine)i == best};
        const vlci_ladder *ladder = ladder_of(e.engine);
        status = ladder ? trial_rungs(p->t, ladder, try_rung, &e) : try_gemm(p, e.engine, NULL, e.chosen);
    }
    return status;
}

/* ---- gemv ---------------------------------------------------------------------------------------------- */

static vlci_product few_rows(const product *p) {
    return (vlci_product){.w = &p->w,
                          .x = p->x,
                          .y = p->y,
                          .m = p->m,
                          .norm = p->normed ? &p->norm : NULL,
                          .eps = EPSILON,
                          .gated = p->gated,
                          .act = p->gated ? VLCI_ACT_SILU : VLCI_ACT_NONE};
}

static vlcache_status launch_gemv(void *work) {
    const product *p = work;
    vlci_product asked = few_rows(p);
    return vlci_gemv_run(&p->gemv, &asked);
}

static vlcache_status try_gemv(product *p, vlci_layout layout, const char *rung, bool chosen) {
    trial what = {.kernel = "gemv",
                  .rung = rung,
                  .shape = p->shape,
                  .chosen = chosen,
                  .bytes = true,
                  .amount = (double)p->n * p->k * (double)vlci_dtype_bytes(p->t->dtype)};
    if (!trial_wanted(p->t, &what)) return VLCACHE_OK;
    vlcache_status status = need_operands(p);
    if (!status)
        status = strcmp(rung, "dot") == 0 ? vlci_gemv_open_dot(p->t->device, p->dot, layout, &p->gemv)
                                          : vlci_gemv_open(p->t->device, p->t->dtype, layout, &p->gemv);
    if (!status) status = make_matrix(p, layout, &p->w);
    const vlci_product asked = few_rows(p);
    if (status)
        trial_fail(p->t, &what);
    else if (p->normed && !vlci_gemv_norms(&p->gemv, &asked))
        trial_leave_out(p->t, &what, "left out: the norm is a launch by itself");
    else
        status = tell(p, &what, launch_gemv);
    vlci_memory_release(p->t->device, &p->w.data);
    return status == VLCACHE_E_CANCELLED ? status : VLCACHE_OK;
}

static vlcache_status try_lanes(trials *t, const char *rung, bool chosen, void *user) {
    product *p = user;
    (void)t;
    return try_gemv(p, VLCI_ROWS, rung, chosen && p->packed == VLCI_ROWS && !p->dot);
}

/* ---- shapes -------------------------------------------------------------------------------------------- */

/* LLaVA-Mistral-7B: qkv, out, gate and up, down. */
static const int widths[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
static const int square[] = {8192, 8192}; /* of as many rows: what others tell of themselves */
static const int quick_widths[][2] = {{96, 64}, {70, 256}}, quick_gated[] = {128, 80};
static const int heights[] = {594, 2048}, quick_heights[] = {37}, few[] = {1, 8};

enum { PLAIN, NORMED, GATED };

static vlcache_status try_shape(trials *t, int m, const int width[2], int what, vlci_gemm_engine best,
                                const vlci_linear *own) {
    static const char *const more[] = {"", " behind RMSNorm", " behind RMSNorm and gated"};
    product p = {
        .t = t, .m = m, .n = width[0], .k = width[1], .normed = what >= NORMED, .gated = what == GATED};
    p.packed = vlci_linear_layout(own, t->dtype);
    p.dot = own->of[t->dtype].gemv.dot;
    bool few_rows = m <= VLCI_GEMV_ROWS_MAX;
    snprintf(p.shape, sizeof p.shape, "%d x %d x %d %s%s", m, p.n, p.k, vlcache_dtype_name(t->dtype),
             more[what]);
    vlcache_status status =
        few_rows ? trial_rungs(t, &vlci_gemv_ladder, try_lanes, &p) : try_engines(&p, best);
    if (!status && few_rows && (p.dot || p.packed != VLCI_ROWS))
        status = try_gemv(&p, p.packed, p.dot ? "dot" : "packed", true);
    close_product(&p);
    return status;
}

vlcache_status linear_trials(trials *t) {
    bool quick = t->b->options.quick;
    const int(*width)[2] = quick ? quick_widths : widths;
    int n_widths = quick ? 2 : 4, n_heights = quick ? 1 : 2;
    vlci_gemm_engine best = VLCI_GEMM_PORTABLE;
    vlci_linear own = {0};
    vlcache_status status = vlci_gemm_plan(t->device, t->dtype, &best, NULL);
    if (!status) status = vlci_linear_open(t->device, t->dtype, &own);
    for (int h = 0; h < n_heights && !status; h++)
        for (int w = 0; w < n_widths && !status; w++)
            status = try_shape(t, quick ? quick_heights[h] : heights[h], width[w], PLAIN, best, &own);
    if (!status && !quick) status = try_shape(t, square[0], square, PLAIN, best, &own);
    for (int h = 0; h < 2 && !status; h++) {
        for (int w = 0; w < n_widths && !status; w++)
            status = try_shape(t, few[h], width[w], PLAIN, best, &own);
        if (!status) status = try_shape(t, few[h], width[0], NORMED, best, &own);
        if (!status) status = try_shape(t, few[h], quick ? quick_gated : widths[2], GATED, best, &own);
    }
    vlci_linear_close(&own);
    return status;
}
