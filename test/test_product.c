/*
 * test_product.c - products with what stands around them, on every engine: a norm in front, a gate behind,
 * rows in stripes; in one launch or several, the numbers are those of the parts.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/product.h"
#include "ref/ref_linear.h"
#include "ref/ref_norm.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 5;
static vlci_compute compute;
static const float eps = 1e-5f;

static void open_engine(const char *engine, vlcache_dtype dtype, vlci_activation gate) {
    suite_set("VLCACHE_GEMM", engine);
    ck_ok(vlci_compute_open(suite_device(), gate, &compute));
    ck_ok(vlci_compute_open_dtype(&compute, dtype));
    ck_ok(vlci_compute_open_dtype(&compute, dtype)); /* again: nothing */
    suite_set("VLCACHE_GEMM", NULL);
}

/* ---- what goes in, and what must come out -------------------------------------------------------------- */

typedef struct problem {
    int m, n, k;
    vlcache_dtype dtype;
    int norm;                  /* 0 none, 1 RMS, 2 layer */
    bool gated, bias, stripes; /* stripes: y in the form that the next product reads */
    vlci_activation act;
    bool mapped;   /* W in rows, in three parts one below the other */
    size_t offset; /* of x */
} problem;

static float rounded(float v, vlcache_dtype dtype) {
    float stored;
    ref_store(&stored, 0, v, dtype);
    return (float)ref_load(&stored, 0, dtype);
}

/* Rows [first, until) of W as they lie in a mapped file. */
static cl_mem put_part(const vlci_matrix *m, const unsigned char *rows, int first, int until) {
    size_t row = (size_t)m->k * vlci_dtype_bytes(m->dtype);
    return suite_upload(rows + (size_t)first * row, (size_t)(until - first) * row);
}

static void put_weights(double *w, const problem *p, vlci_matrix *m) {
    size_t bytes = vlci_matrix_bytes(m->n, m->k, m->dtype, m->layout);
    void *data = calloc(1, bytes);
    for (int r = 0; r < m->n; r++)
        for (int i = 0; i < m->k; i++) {
            double *at = &w[(size_t)r * (size_t)m->k + (size_t)i];
            ref_store(data, ref_weight_at((int)m->layout, r, i, m->k), (float)*at, m->dtype);
            *at = ref_load(data, ref_weight_at((int)m->layout, r, i, m->k), m->dtype);
        }
    if (p->mapped) {
        m->until[0] = m->n / 3 / VLCI_PART_MULTIPLE * VLCI_PART_MULTIPLE;
        m->until[1] = m->until[0] + VLCI_PART_MULTIPLE;
        m->data = put_part(m, data, 0, m->until[0]);
        m->more[0] = put_part(m, data, m->until[0], m->until[1]);
        m->more[1] = put_part(m, data, m->until[1], m->n);
    } else
        m->data = suite_upload(data, bytes);
    free(data);
}

/* x as the product reads it: normed, and in 16 bits where rows are in stripes. */
static float *inputs(const problem *p, const float *x, const float *weight, const float *bias) {
    size_t k = (size_t)p->k;
    double *row = malloc(k * sizeof *row);
    float *all = malloc((size_t)p->m * k * sizeof *all);
    vlcache_dtype to = vlci_linear_rounds_to(&compute.linear, p->dtype, p->m);
    for (int r = 0; r < p->m; r++) {
        const float *from = x + (size_t)r * k;
        if (p->norm == 1) ref_rms_norm(from, weight, row, p->k, (double)eps);
        if (p->norm == 2) ref_layer_norm(from, weight, bias, row, p->k, (double)eps);
        for (size_t i = 0; i < k; i++) {
            float v = p->norm ? (float)row[i] : from[i];
            all[(size_t)r * k + i] = rounded(v, to);
        }
    }
    free(row);
    return all;
}

/* want and scale, [m][n] or [m][n / 2]. */
static void expect(const problem *p, const double *w, const float *bias, const float *x, double *want,
                   double *scale) {
    size_t n = (size_t)p->n, all = (size_t)p->m * n;
    if (!p->gated) {
        ref_linear(w, bias, x, NULL, want, scale, p->m, p->n, p->k, (int)p->act);
        return;
    }
    double *wide = malloc(all * sizeof *wide), *reach = malloc(all * sizeof *reach);
    ref_linear(w, NULL, x, NULL, wide, reach, p->m, p->n, p->k, 0);
    for (int r = 0; r < p->m; r++)
        for (size_t c = 0; c < n / 2; c++) {
            size_t gate = (size_t)r * n + c, up = gate + n / 2, at = (size_t)r * (n / 2) + c;
            want[at] = ref_activate(wide[gate], (int)p->act) * wide[up];
            scale[at] = reach[gate] * (1 + fabs(wide[up])) + (1 + fabs(wide[gate])) * reach[up];
        }
    free(wide);
    free(reach);
}

static int64_t short_at(vlci_form form, int row, int c, int m, int columns) {
    return form == VLCI_TILES ? ref_tile_at(row, c, columns) : ref_stripe_at(row, c, m);
}

/* y as the device left it, in rows of floats; what pads a stripe or tile must be zero. */
static float *outputs(const problem *p, cl_mem y, int columns, vlci_form form) {
    size_t bytes = vlci_operand_bytes(p->m, columns), count = (size_t)p->m * (size_t)columns;
    float *got = malloc(count * sizeof *got);
    void *data = malloc(bytes);
    suite_download(y, data, bytes);
    for (int r = 0; r < p->m; r++)
        for (int c = 0; c < columns; c++)
            got[(size_t)r * (size_t)columns + (size_t)c] =
                form != VLCI_FLOATS ? (float)ref_load(data, short_at(form, r, c, p->m, columns), p->dtype)
                                    : ((float *)data)[(size_t)r * (size_t)columns + (size_t)c];
    for (int r = 0; form != VLCI_FLOATS && r < p->m; r++)
        for (int c = columns; c % (form == VLCI_TILES ? 32 : 64); c++)
            ck_assert_double_eq(ref_load(data, short_at(form, r, c, p->m, columns), p->dtype), 0.0);
    free(data);
    return got;
}

static void compare(const problem *p, const float *got, const double *want, const double *scale, int columns,
                    vlci_form form) {
    vlcache_dtype to = vlci_linear_rounds_to(&compute.linear, p->dtype, p->m);
    bool short_rows = to != VLCACHE_DTYPE_F32;
    double unit = to == VLCACHE_DTYPE_F16 ? 0x1p-11 : 0x1p-8;
    double step = 2e-7 * (8 + sqrt(p->k)) + (p->norm && short_rows ? 1e-5 + unit * 0.12 : 0);
    for (int i = 0; i < p->m * columns; i++) {
        double most = 2e-6 + step * scale[i] + (form != VLCI_FLOATS ? unit * fabs(want[i]) : 0);
        ck_assert_msg(fabs((double)got[i] - want[i]) <= most,
                      "m %d n %d k %d %s norm %d gated %d act %d: y[%d][%d] = %g, want %g (+- %g)", p->m,
                      p->n, p->k, vlcache_dtype_name(p->dtype), p->norm, p->gated, (int)p->act, i / columns,
                      i % columns, (double)got[i], want[i], most);
    }
}

static void run(const problem *p) {
    size_t n = (size_t)p->n, k = (size_t)p->k, m = (size_t)p->m;
    int columns = p->gated ? p->n / 2 : p->n;
    float *drawn = floats_random(&seed, n * k, 1, 0), *x = floats_random(&seed, p->offset + m * k, 2, 0);
    float *weight = floats_random(&seed, k, 1, 1), *shift = floats_random(&seed, k, 1, 0),
          *bias = floats_random(&seed, n, 1, 0);
    double *w = malloc(n * k * sizeof *w), *want = malloc(m * n * sizeof *want),
           *scale = malloc(m * n * sizeof *scale);
    for (size_t i = 0; i < n * k; i++) w[i] = (double)drawn[i];
    vlci_matrix matrix = {.n = p->n, .k = p->k, .dtype = p->dtype};
    matrix.layout = p->mapped ? VLCI_ROWS : vlci_linear_layout(&compute.linear, p->dtype);
    put_weights(w, p, &matrix);
    if (p->bias) matrix.bias = floats_upload(bias, n);
    float *read = inputs(p, x + p->offset, weight, shift);
    expect(p, w, p->bias ? bias : NULL, read, want, scale);
    vlci_norm norm = {.weight = floats_upload(weight, k),
                      .bias = p->norm == 2 ? floats_upload(shift, k) : NULL};
    cl_mem in = floats_upload(x, p->offset + m * k),
           normed = floats_poisoned(vlci_operand_bytes(p->m, p->k) / 4), wide = floats_poisoned(m * n),
           y = floats_poisoned(vlci_operand_bytes(p->m, p->n) / 4);
    vlci_form form = p->stripes ? vlci_linear_form(&compute.linear, p->dtype, p->m) : VLCI_FLOATS;
    bool fused = p->gated && vlci_product_gates(&compute, &matrix, &matrix);
    vlci_product product = {.w = &matrix,
                            .x = in,
                            .x_offset = p->offset,
                            .norm = p->norm ? &norm : NULL,
                            .eps = eps,
                            .brought = normed,
                            .wide = fused && p->stripes ? NULL : wide,
                            .y = y,
                            .y_form = form,
                            .m = p->m,
                            .act = p->act,
                            .gated = p->gated};
    ck_ok(vlci_product_run(&compute, &product));
    float *got = outputs(p, y, columns, form);
    compare(p, got, want, scale, columns, form);
    cl_mem all[] = {matrix.data,
                    matrix.more[0],
                    matrix.more[1],
                    matrix.bias,
                    norm.weight,
                    norm.bias,
                    in,
                    normed,
                    wide,
                    y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) suite_release(all[i]);
    void *arrays[] = {drawn, x, weight, shift, bias, w, want, scale, read, got};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

/* ---- cases --------------------------------------------------------------------------------------------- */

static const struct {
    const char *engine, *variant;
} engines[] = {{"portable", NULL},     {"wide", NULL},           {"matrix", "gemm:blocks"},
               {"matrix", "gemm:mma"}, {"matrix", "gemm:wgmma"}, {"matrix", "gemm:pairs"},
               {"matrix", "gemm:amx"}, {"wide", "gemm:12x32"},   {"wide", "gemm:dot_plain"}};
enum { ENGINES = sizeof engines / sizeof *engines };

static const int rows[] = {1, 3, 8, 9, 33, 130};

static bool there(int engine) {
    const char *unit = engines[engine].variant;
    if (unit && strcmp(unit, "gemm:mma") == 0) return suite_device()->caps.mma;
    if (unit && strcmp(unit, "gemm:amx") == 0) return suite_device()->caps.amx;
    return !unit || strcmp(unit, "gemm:wgmma") || suite_device()->caps.wgmma;
}

static void with(int engine, vlcache_dtype dtype, vlci_activation gate, const problem *p, int n_rows) {
    suite_force(engines[engine].variant);
    open_engine(engines[engine].engine, dtype, gate);
    for (int i = 0; i < n_rows; i++) {
        problem one = *p;
        one.dtype = dtype;
        one.m = rows[suite_reduced() ? 2 * i % 5 : i];
        run(&one);
    }
    vlci_compute_close(&compute);
    suite_force(NULL);
}

enum { FEW = 3, ALL = sizeof rows / sizeof *rows };

START_TEST(norms_stand_in_front) {
    int many = suite_reduced() ? FEW : ALL;
    if (!there(_i)) return;
    with(_i, VLCACHE_DTYPE_BF16, VLCI_ACT_SILU, &(problem){.n = 72, .k = 136, .norm = 1}, many);
    with(_i, VLCACHE_DTYPE_F16, VLCI_ACT_SILU, &(problem){.n = 65, .k = 67, .norm = 1, .bias = true}, many);
    with(_i, VLCACHE_DTYPE_BF16, VLCI_ACT_SILU,
         &(problem){.n = 130, .k = 64, .norm = 2, .bias = true, .act = VLCI_ACT_QUICK_GELU, .stripes = true},
         many);
}
END_TEST

START_TEST(gates_stand_behind) {
    int many = suite_reduced() ? FEW : ALL;
    if (!there(_i)) return;
    with(_i, VLCACHE_DTYPE_BF16, VLCI_ACT_SILU,
         &(problem){.n = 128, .k = 72, .gated = true, .act = VLCI_ACT_SILU, .stripes = true}, many);
    with(_i, VLCACHE_DTYPE_F16, VLCI_ACT_GELU_TANH,
         &(problem){.n = 384, .k = 130, .norm = 1, .gated = true, .act = VLCI_ACT_GELU_TANH, .stripes = true},
         many);
    with(_i, VLCACHE_DTYPE_BF16, VLCI_ACT_SILU, /* not of whole blocks: two launches */
         &(problem){.n = 72, .k = 64, .norm = 1, .gated = true, .act = VLCI_ACT_SILU, .stripes = true}, many);
    with(_i, VLCACHE_DTYPE_BF16, VLCI_ACT_SILU,
         &(problem){.n = 128, .k = 64, .gated = true, .act = VLCI_ACT_SILU}, many);
}
END_TEST

START_TEST(stripes_come_out) {
    int many = suite_reduced() ? FEW : ALL;
    if (!there(_i)) return;
    for (int act = 0; act <= VLCI_ACT_QUICK_GELU; act += suite_reduced() ? 4 : 1)
        with(_i, act % 2 ? VLCACHE_DTYPE_F16 : VLCACHE_DTYPE_BF16, VLCI_ACT_SILU,
             &(problem){
                 .n = 60 + 70 * act, .k = 80, .bias = act != 1, .act = (vlci_activation)act, .stripes = true},
             many);
}
END_TEST

/* Of few rows, weights in rows and panels, and in rows of files: each height of the kernels, lengths that are
 * no multiple of anything, and more than is normed at a time; what they take is one launch. `most`: rows that
 * are normed by themselves; of more, x would be normed anew for too many work-items. */
static const struct walk {
    const char *engine, *variant;
    bool mapped;
    int most;
} floats[] = {{"portable", "gemv:1", false, 4},
              {"portable", "gemv:64", false, 8},
              {"wide", "gemm:12x32", false, 8},
              {"wide", "gemm:12x32", true, 2}};

static void few_rows(const problem *p, int most) {
    vlci_matrix w = {.n = p->n, .k = p->k, .dtype = p->dtype};
    w.layout = p->mapped ? VLCI_ROWS : vlci_linear_layout(&compute.linear, p->dtype);
    vlci_norm norm = {0};
    for (int m = 1; m <= VLCI_GEMV_ROWS_MAX; m += suite_reduced() ? 3 : 1) {
        problem one = *p;
        one.m = m;
        const vlci_product asked = {.w = &w, .m = m, .norm = &norm};
        ck_assert_int_eq(vlci_linear_takes_norm(&compute.linear, &asked), m <= most);
        ck_assert_int_eq(vlci_linear_takes_gate(&compute.linear, &asked), p->n / 2 % VLCI_BLOCK == 0);
        run(&one);
    }
}

/* Every activation behind every dtype; each meets other lengths and rows of x that begin elsewhere. */
static void each_activation(vlcache_dtype dtype, const struct walk *of) {
    static const int deep[] = {1, 5, 40, 67, 1048, 1101}, begin[] = {0, 8, 24, 0, 3};
    for (int act = 0; act <= VLCI_ACT_QUICK_GELU; act += suite_reduced() ? 2 : 1) {
        problem p = {.n = 65 + 2 * act, .dtype = dtype, .norm = 1, .bias = act % 2, .mapped = of->mapped};
        p.k = deep[(act + 2 * (int)dtype) % (suite_reduced() ? 4 : 6)];
        p.offset = (size_t)begin[act];
        p.act = compute.gate.act = (vlci_activation)act;
        few_rows(&p, of->most);
        p.n = act % 2 || suite_reduced() ? 128 : 384;
        p.gated = true;
        p.bias = false;
        p.norm = act != 2;
        few_rows(&p, of->most);
    }
}

START_TEST(few_rows_are_normed_and_gated) {
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++) {
        suite_force(floats[_i].variant);
        open_engine(floats[_i].engine, (vlcache_dtype)dtype, VLCI_ACT_SILU);
        if (floats[_i].mapped) ck_ok(vlci_linear_open_mapped(&compute.linear, (vlcache_dtype)dtype));
        each_activation((vlcache_dtype)dtype, &floats[_i]);
        vlci_compute_close(&compute);
        suite_force(NULL);
    }
}
END_TEST

/* As pairs of bf16 x is normed once for many rows of W. */
START_TEST(pairs_norm_all_that_they_take) {
    suite_force("gemm:dot_plain");
    open_engine("wide", VLCACHE_DTYPE_BF16, VLCI_ACT_SILU);
    vlci_matrix w = {.n = 128, .k = 64, .dtype = VLCACHE_DTYPE_BF16};
    vlci_norm norm = {0};
    w.layout = vlci_linear_layout(&compute.linear, w.dtype);
    for (int m = 1; m <= VLCI_GEMV_ROWS_MAX; m++)
        ck_assert(vlci_linear_takes_norm(&compute.linear, &(vlci_product){.w = &w, .m = m, .norm = &norm}));
    vlci_compute_close(&compute);
    suite_force(NULL);
}
END_TEST

/* Rows that a tile of wgmma holds exactly, and some fewer, where all are one unit's: each tile is chosen. */
START_TEST(each_tile_stores) {
    static const int rows_of[] = {88, 104, 120, 152, 200};
    unsigned own = suite_device()->caps.info.compute_units;
    if (!suite_device()->caps.wgmma) return; /* no such unit */
    suite_force("gemm:wgmma");
    open_engine("matrix", VLCACHE_DTYPE_BF16, VLCI_ACT_SILU);
    suite_device()->caps.info.compute_units = 1;
    for (int i = 0; i < 10; i++) {
        problem p = {.m = rows_of[i / 2] - i % 2 * 5,
                     .n = 256,
                     .k = 136,
                     .dtype = VLCACHE_DTYPE_BF16,
                     .stripes = true};
        p.gated = i % 4 < 2 && p.m <= 128;
        p.act = p.gated ? VLCI_ACT_SILU : VLCI_ACT_NONE;
        p.bias = !p.gated && i % 3;
        run(&p);
    }
    suite_device()->caps.info.compute_units = own;
    vlci_compute_close(&compute);
    suite_force(NULL);
}
END_TEST

START_TEST(what_a_product_cannot_is_refused) {
    open_engine("portable", VLCACHE_DTYPE_BF16, VLCI_ACT_SILU);
    vlci_matrix w = {.n = 128, .k = 64, .dtype = VLCACHE_DTYPE_BF16, .layout = VLCI_ROWS};
    vlci_matrix odd = {.n = 72, .k = 64, .dtype = VLCACHE_DTYPE_BF16, .layout = VLCI_ROWS};
    vlci_norm norm = {0}, layer = {.bias = floats_poisoned(1)};
    const vlci_product bad[] = {
        {.w = &w, .m = 9, .x_form = VLCI_STRIPES}, {.w = &w, .m = 9, .y_form = VLCI_STRIPES},
        {.w = &w, .m = 9, .norm = &norm},          {.w = &w, .m = 1, .norm = &layer},
        {.w = &w, .m = 9, .gated = true},          {.w = &odd, .m = 1, .gated = true}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_fails(vlci_linear_product(&compute.linear, &bad[i]), VLCACHE_E_ARGUMENT, "none of its own");
    suite_release(layer.bias);
    vlci_compute_close(&compute);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("product");
    TCase *c = tcase_create("product");
    suite_balance(c);
    tcase_add_loop_test(c, norms_stand_in_front, 0, ENGINES);
    tcase_add_loop_test(c, gates_stand_behind, 0, ENGINES);
    tcase_add_loop_test(c, stripes_come_out, 0, ENGINES);
    tcase_add_test(c, each_tile_stores);
    tcase_add_test(c, what_a_product_cannot_is_refused);
    suite_add_tcase(suite, c);
    TCase *few = tcase_create("few");
    suite_balance(few);
    tcase_add_loop_test(few, few_rows_are_normed_and_gated, 0, sizeof floats / sizeof *floats);
    tcase_add_test(few, pairs_norm_all_that_they_take);
    suite_add_tcase(suite, few);
    return suite_run(suite);
}
