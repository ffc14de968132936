/*
 * test_rope.c - rotation into the pages of ragged sequences against its definition in double: positions of
 * three numbers, part of a prompt's phases, rows ahead of those that are counted, biases of new rows; by
 * itself and behind a product, in its launch. Nothing else in the pool may change.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/gemv.h"
#include "compute/rope.h"
#include "ref/ref_linear.h"
#include "ref/ref_rope.h"
#include "support/floats.h"
#include "support/pages.h"

/* Of cosines and sines, as yarn has one. */
static const double PHASE_SCALE = 1.25;

static uint64_t seed = 11;

enum { BATCH = 3, LAYERS = 2, LAYER = 1, KV_HEADS = 4, NEW_ROWS = 22, PHASES_BEFORE = 3 };
static const int seq_start[BATCH + 1] = {0, 1, 20, 22}; /* 1, 19 and 2 new rows */

/* One problem: its shape as the library takes it, and the host's side of each buffer. */
typedef struct rotation {
    vlci_append a;
    pages *pages;
    int past[BATCH * LAYERS * KV_HEADS], row_sequence[NEW_ROWS];
    int row_position[PHASES_BEFORE + NEW_ROWS][3];
    float *qkv, *inv_freq;
    int *axis;
    double *want_q, *want_k, *want_v, *want_bias; /* of the whole pool: NaN where it must stay as it was */
    size_t n_qkv, n_rows, n_pool;                 /* rows and elements of the pool */
} rotation;

/* ---- the problem --------------------------------------------------------------------------------------- */

/* Heads with room for the new rows behind `ahead` and what they hold; the whole pool is NaN. */
static void make_pages(rotation *t, vlcache_dtype dtype, bool biased) {
    const vlci_kv_shape shape = {LAYERS, t->a.kv_heads, t->a.head_dim, dtype};
    int lists = pages_lists(&shape, BATCH);
    for (int i = 0; i < lists; i++) t->past[i] = i * 7 % 23;
    size_t n = pages_first(t->past, lists);
    float *bias = malloc((n + 1) * sizeof *bias);
    for (size_t i = 0; i < n; i++) bias[i] = NAN;
    t->pages = pages_create(&shape, BATCH, &(pages_rows){.rows = t->past, .bias = biased ? bias : NULL},
                            BATCH * KV_HEADS * 5);
    free(bias);
    for (int b = 0; b < BATCH; b++)
        ck_ok(vlci_kv_reserve(&t->pages->kv[b], LAYER, 1, t->a.kv.ahead + seq_start[b + 1] - seq_start[b]));
    ck_ok(vlci_kv_pool_sync(&t->pages->pool));
    int ahead = t->a.kv.ahead;
    t->a.kv = pages_view(t->pages, LAYER);
    t->a.kv.ahead = ahead;
    t->n_rows = (size_t)t->pages->pool.pages * VLCI_KV_PAGE;
    t->n_pool = t->n_rows * (size_t)t->a.head_dim;
}

/* Rows of one sequence after another, at positions that grow or stand still, large ones among them. */
static void place_rows(rotation *t) {
    static const int first[BATCH] = {2047, 0, 131069};
    for (int r = 0; r < PHASES_BEFORE + NEW_ROWS; r++) {
        int b = 0, row = r - PHASES_BEFORE;
        while (row >= seq_start[b + 1]) b++;
        if (row >= 0) t->row_sequence[row] = b;
        for (int axis = 0; axis < 3; axis++)
            t->row_position[r][axis] = row < 0 ? 5 : first[b] + (row - seq_start[b]) / (axis + 1) + axis;
    }
}

static double *nothing(size_t n) {
    double *all = malloc((n + 1) * sizeof *all);
    for (size_t i = 0; i < n; i++) all[i] = NAN;
    return all;
}

static rotation *rotation_create(int heads, int kv_heads, int head_dim, vlcache_dtype dtype, bool biased) {
    rotation *t = calloc(1, sizeof *t);
    size_t half = (size_t)head_dim / 2;
    t->a = (vlci_append){.rows = NEW_ROWS, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    t->a.kv.ahead = biased ? 2 : 0;
    t->a.phase_row = PHASES_BEFORE;
    make_pages(t, dtype, biased);
    place_rows(t);
    t->n_qkv = (size_t)(NEW_ROWS * (heads + 2 * kv_heads) * head_dim);
    t->qkv = floats_random(&seed, t->n_qkv, 2, 0);
    t->inv_freq = malloc(sizeof *t->inv_freq * half);
    t->axis = malloc(sizeof *t->axis * half);
    for (size_t d = 0; d < half; d++) {
        t->inv_freq[d] = powf(10000, -2.0f * (float)d / (float)head_dim);
        t->axis[d] = (int)(d * 3 / half + d % 2) % 3;
    }
    t->want_q = nothing(t->n_qkv);
    t->want_k = nothing(t->n_pool);
    t->want_v = nothing(t->n_pool);
    t->want_bias = nothing(t->n_rows);
    return t;
}

static void rotation_release(rotation *t) {
    pages_destroy(t->pages);
    free(t->qkv);
    free(t->inv_freq);
    free(t->axis);
    free(t->want_q);
    free(t->want_k);
    free(t->want_v);
    free(t->want_bias);
    free(t);
}

/* ---- what is expected ---------------------------------------------------------------------------------- */

/* Where a new row goes, among all rows of the pool. */
static size_t place_of(const rotation *t, int r, int kv) {
    int b = t->row_sequence[r];
    const vlci_kv_list *list = vlci_kv_list_of(&t->pages->kv[b], LAYER, kv);
    int row = t->past[(b * LAYERS + LAYER) * t->a.kv_heads + kv] + t->a.kv.ahead + r - seq_start[b];
    return (size_t)t->pages->pool.table.entry[list->first + row / VLCI_KV_PAGE] * VLCI_KV_PAGE +
           (size_t)(row % VLCI_KV_PAGE);
}

/* Queries are rotated in place; the fused product's keys and values stay; the cache has both. */
static void expect_head(rotation *t, int r, int head) {
    const vlci_append *a = &t->a;
    int dim = a->head_dim;
    size_t from = (size_t)((r * (a->heads + 2 * a->kv_heads) + head) * dim);
    const float *x = t->qkv + from;
    const int *position = t->row_position[PHASES_BEFORE + r];
    for (int d = 0; d < dim; d++) t->want_q[from + (size_t)d] = (double)x[d];
    if (head < a->heads) {
        ref_rotate(x, t->inv_freq, t->axis, position, t->want_q + from, dim);
        for (int d = 0; d < dim; d++) t->want_q[from + (size_t)d] *= PHASE_SCALE;
        return;
    }
    size_t row = place_of(t, r, (head - a->heads) % a->kv_heads), at = row * (size_t)dim;
    t->want_bias[row] = 0;
    if (head < a->heads + a->kv_heads) ref_rotate(x, t->inv_freq, t->axis, position, t->want_k + at, dim);
    for (int d = 0; d < dim && head < a->heads + a->kv_heads; d++) t->want_k[at + (size_t)d] *= PHASE_SCALE;
    for (int d = 0; d < dim && head >= a->heads + a->kv_heads; d++) { /* rounded to nearest even */
        float stored;
        ref_store(&stored, 0, x[d], a->kv.dtype);
        t->want_v[at + (size_t)d] = ref_load(&stored, 0, a->kv.dtype);
    }
}

/* A plane of the pool: exact within `rtol`; what is not expected must still be poison. */
static void check_plane(const char *what, cl_mem plane, const double *want, size_t n, vlcache_dtype dtype,
                        double rtol) {
    size_t size = vlci_dtype_bytes(dtype);
    unsigned char *got = malloc(n * size);
    suite_download(plane, got, n * size);
    for (size_t i = 0; i < n; i++) {
        double value = ref_load(got, (int64_t)i, dtype);
        if (isnan(want[i]))
            ck_assert_msg(isnan(value), "%s[%zu] was overwritten: %.9g", what, i, value);
        else
            ck_assert_msg(fabs(value - want[i]) <= rtol * (1 + fabs(want[i])), "%s[%zu]: %.9g, expected %.9g",
                          what, i, value, want[i]);
    }
    free(got);
}

/* `qkv`: what the device made of t->qkv. */
static void rotation_check(rotation *t, const float *qkv) {
    static const double half_step[] = {0, 0, 0x1p-11, 0x1p-8}; /* by dtype */
    const vlci_kv_view *kv = &t->a.kv;
    for (int r = 0; r < NEW_ROWS; r++)
        for (int head = 0; head < t->a.heads + 2 * t->a.kv_heads; head++) expect_head(t, r, head);
    suite_close("q", qkv, t->want_q, t->n_qkv, 2e-6, 1e-6);
    check_plane("k", kv->k, t->want_k, t->n_pool, kv->dtype, half_step[kv->dtype] * 1.01 + 1e-6);
    check_plane("v", kv->v, t->want_v, t->n_pool, kv->dtype, 0);
    if (kv->bias) check_plane("bias", kv->bias, t->want_bias, t->n_rows, VLCACHE_DTYPE_F32, 0);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

/* Makes the rows' phases; `kernels` are opened. */
static void make_phases(rotation *t, vlci_rope_kernels *kernels) {
    int rows = PHASES_BEFORE + NEW_ROWS, head_dim = t->a.head_dim;
    ck_ok(vlci_rope_open(suite_device(), t->a.kv.dtype, kernels));
    cl_mem inv_freq = floats_upload(t->inv_freq, (size_t)head_dim / 2);
    cl_mem axis = suite_upload(t->axis, sizeof *t->axis * (size_t)head_dim / 2);
    cl_mem position = suite_upload(t->row_position, sizeof t->row_position);
    t->a.phase = floats_poisoned((size_t)(rows * head_dim));
    ck_ok(vlci_rope_phase(kernels, inv_freq, axis, position, t->a.phase, rows, head_dim, (float)PHASE_SCALE));
    cl_mem all[] = {inv_freq, axis, position};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
}

static void rotate_and_append(int heads, int kv_heads, int head_dim, vlcache_dtype dtype, bool biased) {
    rotation *t = rotation_create(heads, kv_heads, head_dim, dtype, biased);
    vlci_rope_kernels kernels;
    make_phases(t, &kernels);
    t->a.qkv = floats_upload(t->qkv, t->n_qkv);
    t->a.row_sequence = suite_upload(t->row_sequence, sizeof t->row_sequence);
    t->a.seq_start = suite_upload(seq_start, sizeof seq_start);
    ck_ok(vlci_rope_append(&kernels, &t->a));
    float *qkv = floats_take(t->a.qkv, t->n_qkv);
    rotation_check(t, qkv);
    cl_mem all[] = {t->a.phase, t->a.row_sequence, t->a.seq_start};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    free(qkv);
    rotation_release(t);
}

/* ---- behind a product ---------------------------------------------------------------------------------- */

/* APART: columns of W from one that a row of x picks to the next, so that they lie in several blocks. */
enum { APART = 12, DEPTH = APART * NEW_ROWS };

/* W and a bias whose products with rows that pick a column each are qkv, which is rounded to be that. */
static vlci_matrix weights_of(rotation *t, vlcache_dtype dtype, vlci_layout layout) {
    int n = (t->a.heads + 2 * t->a.kv_heads) * t->a.head_dim;
    size_t bytes = vlci_matrix_bytes(n, DEPTH, dtype, layout);
    float *bias = floats_random(&seed, (size_t)n, 1, 0);
    void *data = calloc(1, bytes);
    for (int c = 0; c < n; c++)
        for (int r = 0; r < NEW_ROWS; r++) {
            float *to = &t->qkv[r * n + c];
            int64_t at = ref_weight_at((int)layout, c, r * APART, DEPTH);
            ref_store(data, at, *to, dtype);
            *to = (float)ref_load(data, at, dtype) + bias[c];
        }
    vlci_matrix w = {.n = n, .k = DEPTH, .dtype = dtype, .layout = layout};
    w.data = suite_upload(data, bytes);
    w.bias = floats_upload(bias, (size_t)n);
    free(data);
    free(bias);
    return w;
}

/* Rows from `first` on by one product; q into `got`. */
static void append_by_product(const rotation *t, const vlci_gemv *gemv, const vlci_matrix *w, int first,
                              int rows, float *got) {
    int n = w->n, start[BATCH + 1];
    float *x = calloc((size_t)(rows * DEPTH), sizeof *x);
    for (int r = 0; r < rows; r++) x[r * DEPTH + (first + r) * APART] = 1;
    for (int b = 0; b <= BATCH; b++) start[b] = seq_start[b] - first;
    vlci_append a = t->a;
    a.rows = rows;
    a.phase_row += first;
    a.qkv = floats_poisoned((size_t)(rows * n));
    a.row_sequence = suite_upload(t->row_sequence + first, sizeof(int) * (size_t)rows);
    a.seq_start = suite_upload(start, sizeof start);
    vlci_product p = {
        .w = w, .x = floats_upload(x, (size_t)(rows * DEPTH)), .y = a.qkv, .m = rows, .append = &a};
    ck_assert(vlci_gemv_appends(gemv, &p));
    ck_ok(vlci_gemv_run(gemv, &p));
    float *y = floats_take(a.qkv, (size_t)(rows * n));
    for (int r = 0; r < rows; r++)
        memcpy(got + (first + r) * n, y + r * n, sizeof *y * (size_t)(a.heads * a.head_dim));
    cl_mem all[] = {a.row_sequence, a.seq_start, p.x};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    free(x);
    free(y);
}

static void multiply_and_append(const int shape[3], vlcache_dtype dtype, vlci_layout layout,
                                vlcache_dtype kv_dtype, bool biased) {
    rotation *t = rotation_create(shape[0], shape[1], shape[2], kv_dtype, biased);
    vlci_matrix w = weights_of(t, dtype, layout);
    float *got = malloc(t->n_qkv * sizeof *got);
    vlci_rope_kernels kernels;
    vlci_gemv gemv;
    make_phases(t, &kernels);
    ck_ok(vlci_gemv_open(suite_device(), dtype, layout, &gemv));
    ck_ok(vlci_gemv_open_append(&gemv, dtype, kv_dtype));
    memcpy(got, t->qkv, t->n_qkv * sizeof *got); /* k and v need not come to lie beside q */
    for (int first = 0, rows = 1; first < NEW_ROWS; first += rows, rows = (rows + 2) % 8 + 1) {
        if (rows > NEW_ROWS - first) rows = NEW_ROWS - first;
        append_by_product(t, &gemv, &w, first, rows, got);
    }
    rotation_check(t, got);
    cl_mem all[] = {t->a.phase, w.data, w.bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    free(got);
    rotation_release(t);
}

START_TEST(products_append_what_they_make) {
    static const int shapes[][3] = {{4, 2, 16}, {2, 1, 64}, {3, 3, 32}, {4, 1, 128}, {8, 2, 80}};
    static const vlcache_dtype kv[] = {VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_F32};
    for (int i = 0; i < (suite_reduced() ? 2 : 5); i++)
        multiply_and_append(shapes[i], i % 2 ? VLCACHE_DTYPE_F16 : VLCACHE_DTYPE_BF16, VLCI_BLOCKS, kv[i % 3],
                            i % 2 == 1);
}
END_TEST

/* Of weights in rows heads may have any number of pairs, and with 1 lane or many. */
START_TEST(products_of_rows_append) {
    static const int shapes[][3] = {{4, 2, 6}, {3, 1, 2}, {2, 1, 64}, {1, 1, 40}, {8, 2, 80}};
    static const vlcache_dtype of[] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};
    suite_force(_i ? "gemv:32" : "gemv:1");
    for (int i = 0; i < (suite_reduced() ? 2 : 5); i++)
        for (int kv = 0; kv < 3; kv++)
            multiply_and_append(shapes[i], of[(kv + _i) % 3], VLCI_ROWS, of[kv], i % 2 == 1);
    suite_force(NULL);
}
END_TEST

/* A product that is something else beside, or not of these rows. */
START_TEST(products_that_do_not_append) {
    vlci_gemv gemv;
    vlci_append a = {.rows = 2, .heads = 2, .kv_heads = 1, .head_dim = 16};
    const vlci_matrix w = {.n = 64, .k = 64}, odd = {.n = 64, .k = 60}, narrow = {.n = 48, .k = 64};
    const vlci_product good = {.w = &w, .m = 2, .append = &a};
    vlci_product bad[] = {good, good, good, good, good, good, good};
    bad[0].w = &odd, bad[1].w = &narrow, bad[2].gated = true, bad[3].accumulate = true;
    bad[4].act = VLCI_ACT_SILU, bad[5].m = 1, bad[6].y_offset = 8;
    ck_ok(vlci_gemv_open(suite_device(), VLCACHE_DTYPE_BF16, VLCI_BLOCKS, &gemv));
    ck_assert(!vlci_gemv_appends(&gemv, &good)); /* not opened */
    ck_ok(vlci_gemv_open_append(&gemv, VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16));
    ck_assert(vlci_gemv_appends(&gemv, &good));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert(!vlci_gemv_appends(&gemv, &bad[i]));
    ck_ok(vlci_gemv_open(suite_device(), VLCACHE_DTYPE_BF16, VLCI_PANELS, &gemv));
    ck_ok(vlci_gemv_open_append(&gemv, VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16));
    ck_assert(!vlci_gemv_appends(&gemv, &good));
    ck_ok(vlci_gemv_open(suite_device(), VLCACHE_DTYPE_BF16, VLCI_ROWS, &gemv));
    ck_assert(!vlci_gemv_appends(&gemv, &good));
    ck_ok(vlci_gemv_open_append(&gemv, VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16));
    ck_assert(vlci_gemv_appends(&gemv, &good));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert(!vlci_gemv_appends(&gemv, &bad[i]));
}
END_TEST

/* Work-items of processors take a pair each, others four: here either, wherever it runs. */
static bool be_processor(bool is) {
    bool was = suite_device()->caps.wide_vectors;
    suite_device()->caps.wide_vectors = is;
    return was;
}

START_TEST(rotation_appends_to_ragged_caches) {
    bool was = be_processor(_i);
    static const int shapes[][3] = {{4, 2, 6}, {3, 3, 2}, {6, 1, 40}, {4, 4, 64}, {8, 2, 80}, {4, 1, 128}};
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++)
        for (int i = 0; i < (suite_reduced() ? 3 : 6); i++)
            rotate_and_append(shapes[i][0], shapes[i][1], shapes[i][2], (vlcache_dtype)dtype, i % 2 == 1);
    be_processor(was);
}
END_TEST

/* What stands behind the heads that turn must stay as it is. */
START_TEST(rotation_in_place) {
    bool was = be_processor(_i);
    static const int shapes[][3] = {{4, 6, 16}, {2, 3, 2}, {5, 5, 72}}; /* heads that turn, all, head_dim */
    enum { ROWS = 9 };
    for (int i = 0; i < 3; i++) {
        int heads = shapes[i][0], all = shapes[i][1], dim = shapes[i][2], place[ROWS][3], axis[64];
        size_t n = (size_t)(ROWS * all * dim);
        float *x = floats_random(&seed, n, 2, 0), inv_freq[64];
        double *want = malloc(n * sizeof *want);
        for (int d = 0; d < dim / 2; d++) inv_freq[d] = 1.0f / (float)(d + 1), axis[d] = 1 + d % 2;
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < 3; k++) place[r][k] = r * 7 % (k + 4);
        for (size_t k = 0; k < n; k++) want[k] = (double)x[k];
        for (int r = 0; r < ROWS; r++)
            for (int h = 0; h < heads; h++) {
                size_t at = (size_t)((r * all + h) * dim);
                ref_rotate(x + at, inv_freq, axis, place[r], want + at, dim);
            }
        vlci_rope_kernels kernels;
        ck_ok(vlci_rope_open(suite_device(), VLCACHE_DTYPE_F32, &kernels));
        cl_mem memory = floats_upload(x, n), phase = floats_poisoned((size_t)(ROWS * dim));
        cl_mem on_freq = floats_upload(inv_freq, (size_t)dim / 2),
               on_axis = suite_upload(axis, sizeof *axis * (size_t)dim / 2),
               on_place = suite_upload(place, sizeof place);
        ck_ok(vlci_rope_phase(&kernels, on_freq, on_axis, on_place, phase, ROWS, dim, 1.0f));
        ck_ok(vlci_rope_turn(&kernels, memory, (size_t)(all * dim), phase, ROWS, heads, dim));
        float *got = floats_take(memory, n);
        suite_close("turned", got, want, n, 2e-6, 1e-6);
        cl_mem others[] = {phase, on_freq, on_axis, on_place};
        for (int k = 0; k < 4; k++) suite_release(others[k]);
        free(x);
        free(want);
        free(got);
    }
    be_processor(was);
}
END_TEST

START_TEST(strides_beyond_32_bits_are_refused) {
    vlci_rope_kernels kernels;
    vlci_append a = {.rows = 1, .heads = 1, .kv_heads = 1, .head_dim = 8, .kv = {.layers = 1}};
    a.kv.row_stride = (size_t)1 << 32;
    ck_ok(vlci_rope_open(suite_device(), VLCACHE_DTYPE_F32, &kernels));
    ck_fails(vlci_rope_append(&kernels, &a), VLCACHE_E_UNSUPPORTED, "4294967296");
    ck_fails(vlci_rope_turn(&kernels, NULL, (size_t)1 << 32, NULL, 1, 1, 8), VLCACHE_E_UNSUPPORTED,
             "4294967296");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rope");
    TCase *c = tcase_create("rope");
    suite_balance(c);
    tcase_add_loop_test(c, rotation_appends_to_ragged_caches, 0, 2);
    tcase_add_test(c, products_append_what_they_make);
    tcase_add_loop_test(c, products_of_rows_append, 0, 2);
    tcase_add_test(c, products_that_do_not_append);
    tcase_add_loop_test(c, rotation_in_place, 0, 2);
    tcase_add_test(c, strides_beyond_32_bits_are_refused);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
