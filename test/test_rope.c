/*
 * test_rope.c - rotation into the caches of ragged sequences against its definition in double.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/rope.h"
#include "ref/ref_linear.h"
#include "ref/ref_rope.h"
#include "support/floats.h"
#include "support/suite.h"

static uint64_t seed = 11;

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
    t.qkv = floats_random(&seed, t.n_qkv, 2, 0);
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
    float *qkv = floats_take(t->a.qkv, t->n_qkv);
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
    t.a.qkv = floats_upload(t.qkv, t.n_qkv);
    cl_mem inv_freq = floats_upload(t.inv_freq, (size_t)head_dim / 2);
    cl_mem position = suite_upload(row_position, sizeof row_position);
    vlci_rope_kernels kernels;
    ck_ok(vlci_rope_open(suite_device(), &kernels));
    t.a.phase = suite_poison(sizeof(float) * NEW_ROWS * (size_t)head_dim);
    ck_ok(vlci_rope_phase(&kernels, inv_freq, position, t.a.phase, NEW_ROWS, head_dim));
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
    Suite *suite = suite_create("rope");
    TCase *c = tcase_create("rope");
    tcase_add_test(c, rotation_appends_to_ragged_caches);
    tcase_add_test(c, nothing_leaks);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
