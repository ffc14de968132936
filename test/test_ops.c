/*
 * test_ops.c - the small kernels against their definitions in double: norms with 1 and 64 work-items a row,
 * rotation into the caches of ragged sequences, the gated activation, embedding, gathering, patches; odd
 * sizes throughout.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/ops.h"
#include "ref/ref_gemm.h"
#include "ref/ref_ops.h"
#include "support/suite.h"

static uint64_t seed = 11;

static float *numbers(size_t n, float scale, float offset) {
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) x[i] = scale * suite_random(&seed) + offset;
    return x;
}

/* n numbers on the device, NaN at first. */
static cl_mem poisoned(size_t n) {
    return suite_poison(n * sizeof(float));
}

static cl_mem upload(const float *x, size_t n) {
    return suite_upload(x, n * sizeof *x);
}

/* What lies in `memory`, which is released; free() the answer. */
static float *take(cl_mem memory, size_t n) {
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    suite_download(memory, x, n * sizeof *x);
    suite_release(memory);
    return x;
}

static void check_bits(const char *what, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(memcmp(got + i, want + i, sizeof *got) == 0, "%s[%zu]: %.9g, expected %.9g", what, i,
                      (double)got[i], (double)want[i]);
}

/* ---- norms --------------------------------------------------------------------------------------------- */

/* `rows` rows of n numbers around `offset`; in place or not. */
static void norm_rows(int rows, int n, bool layer, float scale, float offset, float eps, bool in_place) {
    size_t count = (size_t)rows * (size_t)n;
    float *x = numbers(count, scale, offset), *weight = numbers((size_t)n, 1, 1);
    float *bias = numbers((size_t)n, 1, 0);
    double *want = malloc(count * sizeof *want);
    for (int r = 0; r < rows; r++)
        if (layer)
            ref_layer_norm(x + r * n, weight, bias, want + r * n, n, (double)eps);
        else
            ref_rms_norm(x + r * n, weight, want + r * n, n, (double)eps);
    vlci_norm norm = {.weight = upload(weight, (size_t)n), .bias = layer ? upload(bias, (size_t)n) : NULL};
    cl_mem in = upload(x, count), out = in_place ? in : poisoned(count);
    ck_ok(vlci_norm_rows(suite_device(), in, &norm, out, rows, n, eps));
    float *got = take(out, count);
    /* What an offset loses: its own rounding, relative to the spread. */
    double lost = layer && scale > 0 ? 3e-7 * fabs((double)offset) / (double)scale : 0;
    suite_close(layer ? "layer_norm" : "rms_norm", got, want, count, 3e-6 + 4 * lost, 1e-5);
    if (!in_place) suite_release(in);
    suite_release(norm.weight);
    suite_release(norm.bias);
    free(x);
    free(weight);
    free(bias);
    free(want);
    free(got);
}

static const char *const norm_rungs[] = {"norm:1", "norm:64"};

START_TEST(norms) {
    static const int sizes[] = {1, 3, 63, 64, 65, 200, 257, 1024};
    int n_sizes = suite_reduced() ? 5 : 8;
    suite_force(norm_rungs[_i]);
    for (int i = 0; i < n_sizes; i++)
        for (int layer = 0; layer < 2; layer++) {
            norm_rows(3, sizes[i], layer, 1, 0, 1e-5f, false);
            norm_rows(1, sizes[i], layer, 3, 0.5f, 1e-6f, true);
            norm_rows(2, sizes[i], layer, 1, 100, 1e-5f, false);
            norm_rows(2, sizes[i], layer, 0, 0, 1e-5f, false); /* all zero: eps saves the division */
            norm_rows(2, sizes[i], layer, 1e-4f, 0, 1e-5f, false);
            norm_rows(2, sizes[i], layer, 1e15f, 0, 1e-5f, true);
        }
    suite_force(NULL);
}
END_TEST

/* ---- activation ---------------------------------------------------------------------------------------- */

static void gated(int rows, int n, int act) {
    size_t count = (size_t)rows * (size_t)n;
    float *x = numbers(2 * count, 12, 0);
    static const float hard[] = {0.0f, -0.0f, 100.0f, -100.0f, 1e-20f, -1e-20f, 88.8f, -88.8f};
    for (size_t i = 0; i < 8 && i < (size_t)n; i++) x[i] = hard[i]; /* gates of row 0 */
    double *want = malloc(count * sizeof *want);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++)
            want[r * n + i] = ref_activate((double)x[2 * r * n + i], act) * (double)x[(2 * r + 1) * n + i];
    cl_mem in = upload(x, 2 * count), out = poisoned(count);
    ck_ok(vlci_gated_act(suite_device(), in, out, rows, n, (vlci_activation)act));
    float *got = take(out, count);
    suite_close("gated_act", got, want, count, 3e-5, 3e-6);
    suite_release(in);
    free(x);
    free(want);
    free(got);
}

START_TEST(gated_activations) {
    static const int sizes[] = {1, 5, 64, 96, 1000};
    for (int i = 0; i < (suite_reduced() ? 3 : 5); i++)
        for (int act = 0; act < 5; act++) gated(i % 2 ? 3 : 1, sizes[i], act);
}
END_TEST

/* ---- rows by index ------------------------------------------------------------------------------------- */

enum { VOCABULARY = 45, FEATURES = 4 }; /* the last panel of the table is not full */

static void embed(vlcache_dtype dtype, vlci_layout layout, int k) {
    static const int ids[] = {0, 44, -1, 31, 32, -4, 7, -2, 33};
    enum { IDS = sizeof ids / sizeof *ids };
    float *table = numbers((size_t)(VOCABULARY * k), 3, 0), *want = malloc(sizeof *want * (size_t)(IDS * k));
    float *features = numbers((size_t)(FEATURES * k), 1, 0);
    size_t bytes = vlci_matrix_bytes(VOCABULARY, k, dtype, layout);
    void *stored = calloc(1, bytes);
    for (int row = 0; row < VOCABULARY; row++)
        for (int i = 0; i < k; i++) {
            int at = layout == VLCI_PANELS ? (row / 32 * k + i) * 32 + row % 32 : row * k + i;
            ref_store(stored, at, table[row * k + i], dtype);
            table[row * k + i] = (float)ref_load(stored, at, dtype);
        }
    for (int r = 0; r < IDS; r++)
        memcpy(want + r * k, ids[r] < 0 ? features + (-1 - ids[r]) * k : table + ids[r] * k,
               sizeof *want * (size_t)k);
    vlci_matrix matrix = {
        .data = suite_upload(stored, bytes), .n = VOCABULARY, .k = k, .dtype = dtype, .layout = layout};
    cl_mem on_features = upload(features, (size_t)(FEATURES * k)), on_ids = suite_upload(ids, sizeof ids);
    cl_mem out = poisoned((size_t)(IDS * k));
    ck_ok(vlci_embed_rows(suite_device(), &matrix, on_features, on_ids, out, IDS));
    float *got = take(out, (size_t)(IDS * k));
    check_bits("embed", got, want, (size_t)(IDS * k));
    suite_release(matrix.data);
    suite_release(on_features);
    suite_release(on_ids);
    free(table);
    free(features);
    free(want);
    free(stored);
    free(got);
}

START_TEST(embeddings) {
    static const int sizes[] = {1, 7, 64, 80};
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++)
        for (int i = 0; i < (suite_reduced() ? 2 : 4); i++) {
            embed((vlcache_dtype)dtype, VLCI_ROWS, sizes[i]);
            embed((vlcache_dtype)dtype, VLCI_PANELS, sizes[i]);
        }
}
END_TEST

START_TEST(gathered_rows) {
    static const int source[] = {3, -1, 0, 0, 4, -7, 2}, sizes[] = {1, 9, 64, 100};
    enum { ROWS = sizeof source / sizeof *source, FROM = 5 };
    for (int s = 0; s < 4; s++) {
        int n = sizes[s];
        float *x = numbers((size_t)(FROM * n), 1, 0), *other = numbers((size_t)n, 1, 5);
        float *want = malloc(sizeof *want * (size_t)(ROWS * n));
        for (int r = 0; r < ROWS; r++)
            memcpy(want + r * n, source[r] < 0 ? other : x + source[r] * n, sizeof *want * (size_t)n);
        cl_mem in = upload(x, (size_t)(FROM * n)), on_other = upload(other, (size_t)n);
        cl_mem on_source = suite_upload(source, sizeof source), out = poisoned((size_t)(ROWS * n));
        ck_ok(vlci_gather_rows(suite_device(), in, on_other, on_source, out, ROWS, n));
        float *got = take(out, (size_t)(ROWS * n));
        check_bits("gather", got, want, (size_t)(ROWS * n));
        suite_release(in);
        suite_release(on_other);
        suite_release(on_source);
        free(x);
        free(other);
        free(want);
        free(got);
    }
}
END_TEST

/* ---- patches ------------------------------------------------------------------------------------------- */

START_TEST(patches) {
    static const struct {
        int tiles, side, patch;
    } cases[] = {{1, 1, 1}, {1, 4, 2}, {3, 6, 3}, {2, 15, 4}, {2, 8, 8}, {2, 42, 14}};
    for (int i = 0; i < (suite_reduced() ? 4 : 6); i++) {
        int tiles = cases[i].tiles, side = cases[i].side, patch = cases[i].patch, grid = side / patch;
        size_t n = (size_t)(tiles * 3 * side * side), m = (size_t)(tiles * grid * grid * 3 * patch * patch);
        float *pixels = numbers(n, 1, 0), *want = malloc(m * sizeof *want);
        ref_patchify(pixels, want, tiles, side, patch);
        cl_mem in = upload(pixels, n), out = poisoned(m);
        ck_ok(vlci_patchify(suite_device(), in, out, tiles, side, patch));
        float *got = take(out, m);
        check_bits("patchify", got, want, m);
        suite_release(in);
        free(pixels);
        free(want);
        free(got);
    }
}
END_TEST

START_TEST(assembled_rows) {
    static const int cases[][3] = {{1, 1, 1}, {2, 4, 7}, {3, 9, 64}};
    for (int i = 0; i < 3; i++) {
        int tiles = cases[i][0], per_tile = cases[i][1], hidden = cases[i][2];
        size_t n = (size_t)(tiles * per_tile * hidden), m = (size_t)(tiles * (per_tile + 1) * hidden);
        float *rows_in = numbers(n, 1, 0), *class_row = numbers((size_t)hidden, 1, 3), *want = malloc(m * 4);
        float *position = numbers((size_t)((per_tile + 1) * hidden), 1, 0), *at = want;
        for (int tile = 0; tile < tiles; tile++)
            for (int row = 0; row <= per_tile; row++)
                for (int d = 0; d < hidden; d++)
                    *at++ = position[row * hidden + d] +
                            (row ? rows_in[(tile * per_tile + row - 1) * hidden + d] : class_row[d]);
        cl_mem in = upload(rows_in, n), on_class = upload(class_row, (size_t)hidden), out = poisoned(m);
        cl_mem on_position = upload(position, (size_t)((per_tile + 1) * hidden));
        ck_ok(vlci_assemble(suite_device(), in, on_class, on_position, out, tiles, per_tile, hidden));
        float *got = take(out, m);
        check_bits("assemble", got, want, m);
        suite_release(in);
        suite_release(on_class);
        suite_release(on_position);
        free(rows_in);
        free(class_row);
        free(position);
        free(want);
        free(got);
    }
}
END_TEST

/* ---- rotation and the cache ---------------------------------------------------------------------------- */

enum { BATCH = 3, PAST_OFFSET = 5, MOST_PAST = 4 };
static const int seq_start[BATCH + 1] = {0, 1, 6, 8}; /* 1, 5 and 2 new rows */
enum { NEW_ROWS = 8 };
static const int row_sequence[NEW_ROWS] = {0, 1, 1, 1, 1, 1, 2, 2};
static const int row_position[NEW_ROWS] = {2047, 0, 1, 2, 3, 4, 131070, 131071};

/* One problem: its shape as the library takes it, and the host's side of each buffer. */
typedef struct rotation {
    vlci_append a;
    int past[PAST_OFFSET + BATCH * 8];
    float *qkv, *inv_freq, *want_v;
    double *want_q, *want_k; /* NaN where a cache must stay as it was */
    size_t n_qkv, n_cache;
} rotation;

static rotation rotation_create(int heads, int kv_heads, int head_dim, vlcache_dtype dtype) {
    rotation t = {.a = {.rows = NEW_ROWS, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim}};
    t.a.kv_dtype = dtype;
    t.a.past_offset = PAST_OFFSET;
    t.a.row_stride = (size_t)head_dim + 3; /* gaps everywhere */
    t.a.head_stride = t.a.row_stride * (MOST_PAST + 5) + 2;
    t.a.seq_stride = t.a.head_stride * (size_t)kv_heads + 1;
    for (int i = 0; i < PAST_OFFSET + BATCH * 8; i++)
        t.past[i] = i < PAST_OFFSET ? 1 << 20 : i * 7 % (MOST_PAST + 1);
    t.n_qkv = (size_t)(NEW_ROWS * (heads + 2 * kv_heads) * head_dim);
    t.n_cache = t.a.seq_stride * BATCH;
    t.qkv = numbers(t.n_qkv, 2, 0);
    t.inv_freq = malloc(sizeof *t.inv_freq * (size_t)head_dim);
    for (int d = 0; d < head_dim / 2; d++) t.inv_freq[d] = powf(10000, -2.0f * (float)d / (float)head_dim);
    t.want_q = malloc(t.n_qkv * sizeof *t.want_q);
    t.want_k = malloc(t.n_cache * sizeof *t.want_k);
    t.want_v = malloc(t.n_cache * sizeof *t.want_v);
    for (size_t i = 0; i < t.n_cache; i++) t.want_k[i] = (double)(t.want_v[i] = NAN);
    return t;
}

/* The expected queries and cache rows. */
static void rotation_expect(rotation *t) {
    const vlci_append *a = &t->a;
    int all = a->heads + 2 * a->kv_heads, dim = a->head_dim;
    for (int r = 0; r < NEW_ROWS; r++)
        for (int head = 0; head < all; head++) {
            size_t from = (size_t)((r * all + head) * dim);
            const float *x = t->qkv + from;
            int b = row_sequence[r], kv = (head - a->heads) % a->kv_heads;
            for (int d = 0; d < dim; d++) t->want_q[from + (size_t)d] = (double)x[d]; /* k and v stay */
            if (head < a->heads) {
                ref_rotate(x, t->inv_freq, row_position[r], t->want_q + from, dim);
                continue;
            }
            int row = t->past[PAST_OFFSET + b * a->kv_heads + kv] + r - seq_start[b];
            size_t at = (size_t)b * a->seq_stride + (size_t)kv * a->head_stride + (size_t)row * a->row_stride;
            if (head < a->heads + a->kv_heads)
                ref_rotate(x, t->inv_freq, row_position[r], t->want_k + at, dim);
            else
                memcpy(t->want_v + at, x, sizeof *x * (size_t)dim);
        }
}

/* A cache against what is expected: exact within `rtol`; what is not expected must still be poison. */
static void check_cache(const char *what, const rotation *t, cl_mem memory, const double *want, double rtol) {
    size_t size = vlci_dtype_bytes(t->a.kv_dtype), bytes = t->n_cache * size;
    unsigned char *got = malloc(bytes);
    suite_download(memory, got, bytes);
    for (size_t i = 0; i < t->n_cache; i++) {
        if (isnan(want[i])) {
            for (size_t j = 0; j < size; j++)
                ck_assert_msg(got[i * size + j] == 0xff, "%s[%zu] was overwritten", what, i);
            continue;
        }
        double value = ref_load(got, (int64_t)i, t->a.kv_dtype);
        ck_assert_msg(fabs(value - want[i]) <= 1e-6 + rtol * fabs(want[i]), "%s[%zu]: %.9g, expected %.9g",
                      what, i, value, want[i]);
    }
    free(got);
}

static void rotation_check(rotation *t) {
    static const double half_step[] = {0, 0, 0x1p-11, 0x1p-8}; /* by dtype */
    float *qkv = take(t->a.qkv, t->n_qkv);
    suite_close("q", qkv, t->want_q, t->n_qkv, 2e-6, 1e-6);
    check_cache("k", t, t->a.k, t->want_k, half_step[t->a.kv_dtype] * 1.01 + 1e-6);
    double *want = malloc(t->n_cache * sizeof *want); /* v: stored exactly as rounding to nearest even says */
    for (size_t i = 0; i < t->n_cache; i++) {
        float stored;
        want[i] = (double)t->want_v[i];
        if (isnan(want[i])) continue;
        ref_store(&stored, 0, t->want_v[i], t->a.kv_dtype);
        want[i] = ref_load(&stored, 0, t->a.kv_dtype);
    }
    check_cache("v", t, t->a.v, want, 0);
    free(want);
    free(qkv);
}

static void rotate_and_append(int heads, int kv_heads, int head_dim, vlcache_dtype dtype) {
    rotation t = rotation_create(heads, kv_heads, head_dim, dtype);
    size_t bytes = t.n_cache * vlci_dtype_bytes(dtype);
    rotation_expect(&t);
    t.a.qkv = upload(t.qkv, t.n_qkv);
    cl_mem inv_freq = upload(t.inv_freq, (size_t)head_dim / 2);
    cl_mem position = suite_upload(row_position, sizeof row_position);
    t.a.phase = suite_poison(sizeof(float) * NEW_ROWS * (size_t)head_dim);
    ck_ok(vlci_rope_phase(suite_device(), inv_freq, position, t.a.phase, NEW_ROWS, head_dim));
    t.a.row_sequence = suite_upload(row_sequence, sizeof row_sequence);
    t.a.seq_start = suite_upload(seq_start, sizeof seq_start);
    t.a.past = suite_upload(t.past, sizeof t.past);
    t.a.k = suite_poison(bytes);
    t.a.v = suite_poison(bytes);
    ck_ok(vlci_rope_append(suite_device(), &t.a));
    rotation_check(&t);
    cl_mem all[] = {inv_freq, position, t.a.phase, t.a.row_sequence, t.a.seq_start, t.a.past, t.a.k, t.a.v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    free(t.qkv);
    free(t.inv_freq);
    free(t.want_q);
    free(t.want_k);
    free(t.want_v);
}

START_TEST(rotation_appends_to_ragged_caches) {
    static const int shapes[][3] = {{4, 2, 6}, {3, 3, 2}, {6, 1, 40}, {4, 4, 64}, {8, 2, 80}, {4, 1, 128}};
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++)
        for (int i = 0; i < (suite_reduced() ? 3 : 6); i++)
            rotate_and_append(shapes[i][0], shapes[i][1], shapes[i][2], (vlcache_dtype)dtype);
}
END_TEST

START_TEST(nothing_leaks) {
    ck_assert_uint_eq(vlci_memory_now(suite_device()), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ops");
    TCase *c = tcase_create("ops");
    tcase_add_loop_test(c, norms, 0, sizeof norm_rungs / sizeof *norm_rungs);
    tcase_add_test(c, gated_activations);
    tcase_add_test(c, embeddings);
    tcase_add_test(c, gathered_rows);
    tcase_add_test(c, patches);
    tcase_add_test(c, assembled_rows);
    tcase_add_test(c, rotation_appends_to_ragged_caches);
    tcase_add_test(c, nothing_leaks);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
