/*
 * test_metric.c - what errors of values count for: as in Python, from weights as they may lie; of many rows,
 * and the inverse; of weights that hear nothing.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/metric.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/suite.h"
#include "support/taps.h"

/* Layer `layer` of weights [..][n][k] in a layout. */
static vlci_matrix matrix_of(const float *weights, int layer, int n, int k, vlcache_dtype dtype,
                             vlci_layout layout) {
    size_t bytes = vlci_matrix_bytes(n, k, dtype, layout);
    void *data = calloc(1, bytes);
    for (int i = 0; i < n * k; i++)
        ref_store(data, ref_weight_at((int)layout, i / k, i % k, k), weights[layer * n * k + i], dtype);
    vlci_matrix m = {.n = n, .k = k, .dtype = dtype, .layout = layout};
    m.data = suite_upload(data, bytes);
    free(data);
    return m;
}

static const struct {
    vlcache_dtype dtype;
    vlci_layout layout;
    float near; /* of the largest number of a head */
} lying[] = {{VLCACHE_DTYPE_F32, VLCI_ROWS, 2e-5f},
             {VLCACHE_DTYPE_F32, VLCI_PANELS, 2e-5f},
             {VLCACHE_DTYPE_F16, VLCI_PANELS, 2e-3f},
             {VLCACHE_DTYPE_BF16, VLCI_BLOCKS, 1e-2f}};

START_TEST(metric_as_in_python) {
    char message[256];
    taps t;
    ck_assert_msg(taps_load(VLCACHE_TEST_DATA "/code/heard.taps", &t, message, sizeof message), "%s",
                  message);
    const int32_t *s = taps_find(&t, "shape")->i32;
    const float *want = taps_find(&t, "metric")->f32, *weights = taps_find(&t, "weights")->f32;
    int layers = s[0], heads = s[1] * s[2], dim = s[3], k = heads * dim, all = layers * s[1] * dim * dim;
    int n = (int)taps_find(&t, "weights")->n / (layers * k);
    vlci_compress_shape shape = {layers, heads, s[1], dim, VLCACHE_DTYPE_F32, 0};
    vlci_matrix out[2];
    ck_assert_int_eq(layers, 2);
    for (int l = 0; l < layers; l++) out[l] = matrix_of(weights, l, n, k, lying[_i].dtype, lying[_i].layout);
    const vlci_matrix *each[] = {&out[0], &out[1]};
    float *got = calloc((size_t)all, sizeof *got);
    cl_mem metric;
    ck_ok(vlci_metric_create(suite_device(), &shape, each, &metric));
    suite_download(metric, got, (size_t)all * sizeof *got);
    for (int i = 0; i < all; i++) {
        float most = want[i / (dim * dim) * dim * dim];
        for (int e = 0; e < dim * dim; e++) most = fmaxf(most, fabsf(want[i / (dim * dim) * dim * dim + e]));
        ck_assert_msg(fabsf(got[i] - want[i]) <= lying[_i].near * most, "%d: %g, not %g", i, (double)got[i],
                      (double)want[i]);
    }
    for (int l = 0; l < layers; l++) suite_release(out[l].data);
    suite_release(metric);
    free(got);
    taps_release(&t);
}
END_TEST

/* U^T U is the matrix of sums, of more rows than are added up at a time, the last of them fewer. */
START_TEST(metric_of_many_rows) {
    enum { LAYERS = 2, KV = 2, GROUP = 2, DIM = 24, N = 300, WIDE = KV * GROUP * DIM, EACH = DIM * DIM };
    enum { ALL = LAYERS * KV * EACH };
    uint64_t seed = 7;
    float *weights = floats_random(&seed, (size_t)LAYERS * N * WIDE, 0.5f, 0.1f), got[2 * ALL];
    vlci_compress_shape shape = {LAYERS, KV * GROUP, KV, DIM, VLCACHE_DTYPE_F32, 0};
    vlci_matrix out[LAYERS];
    for (int l = 0; l < LAYERS; l++) out[l] = matrix_of(weights, l, N, WIDE, VLCACHE_DTYPE_F32, VLCI_PANELS);
    const vlci_matrix *each[] = {&out[0], &out[1]};
    cl_mem metric;
    ck_ok(vlci_metric_create(suite_device(), &shape, each, &metric));
    suite_download(metric, got, sizeof got);
    for (int i = 0; i < ALL; i++) {
        const float *u = got + i / EACH * EACH, *w = weights + (size_t)(i / EACH / KV) * N * WIDE;
        int kv = i / EACH % KV, d = i % EACH / DIM, e = i % DIM;
        double product = 0.0, want = 0.0, one = d == e ? -1.0 : 0.0; /* U U^-1 less what it is */
        for (int r = 0; r < DIM; r++) {
            product += (double)u[r * DIM + d] * (double)u[r * DIM + e];
            one += (double)u[d * DIM + r] * (double)u[ALL + e * DIM + r];
        }
        for (int n = 0; n < N * GROUP; n++) {
            const float *row = w + (size_t)(n / GROUP) * WIDE + (kv * GROUP + n % GROUP) * DIM;
            want += (double)row[d] * (double)row[e];
        }
        ck_assert_msg(fabs(product - want) <= 1e-3 && fabs(one) <= 1e-4 &&
                          (e >= d || (u[d * DIM + e] == 0.0f && u[ALL + e * DIM + d] == 0.0f)),
                      "head %d, %d, %d: %g, not %g", i / EACH, d, e, product, want);
    }
    for (int l = 0; l < LAYERS; l++) suite_release(out[l].data);
    suite_release(metric);
    free(weights);
}
END_TEST

/* Weights of zeros hear nothing, and all alike; a direction that is not heard does not make rounding errors
 * of the others a square root of less than nothing. */
START_TEST(metric_of_odd_weights) {
    enum { N = 4, DIM = 16 };
    float weights[N * DIM] = {0}, got[DIM * DIM];
    vlci_compress_shape shape = {1, 1, 1, DIM, VLCACHE_DTYPE_F32, 0};
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < N * DIM && kind == 1; i++)
            weights[i] = i / DIM == 1 ? 1.0f + (float)(i % DIM) : 0.0f;
        if (kind == 2) weights[5] = NAN;
        vlci_matrix out = matrix_of(weights, 0, N, DIM, VLCACHE_DTYPE_F32, VLCI_ROWS);
        const vlci_matrix *each[] = {&out};
        cl_mem metric;
        if (kind == 3) out.k = DIM / 2;
        vlcache_status status = vlci_metric_create(suite_device(), &shape, each, &metric);
        ck_assert_int_eq(status, kind == 3   ? VLCACHE_E_ARGUMENT
                                 : kind == 2 ? VLCACHE_E_UNSUPPORTED
                                             : VLCACHE_OK);
        ck_assert((metric == NULL) == (kind > 1));
        if (kind < 2) suite_download(metric, got, sizeof got);
        for (int d = 0; d < DIM && kind < 2; d++) ck_assert(isfinite(got[d]) && got[d * DIM + d] > 0.0f);
        if (kind == 1)
            for (int d = 1; d < DIM; d++) ck_assert_float_eq_tol(got[d] / got[0], 1.0f + (float)d, 1e-2f);
        suite_release(out.data);
        if (metric) suite_release(metric);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("metric");
    TCase *all = tcase_create("metric");
    suite_balance(all);
    tcase_add_loop_test(all, metric_as_in_python, 0, 4);
    tcase_add_test(all, metric_of_many_rows);
    tcase_add_test(all, metric_of_odd_weights);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
