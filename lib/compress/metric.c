/*
 * metric.c - output products of layers -> their Gram matrices, layer after layer on the device -> Cholesky
 * factors and their inverses, in double on the host, by all its processors -> the metric.
 */
#include "compress/metric.h"

#include <math.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/team.h"

#define LEAST 1e-6 /* of the mean over all directions: what each is heard at least */
enum { SHARE = 128 /* rows of a product that are added up by themselves */, MEMBERS = 16 };

/* What a layer needs on the device. */
typedef struct work {
    vlcache_device *device;
    const vlci_compress_shape *shape;
    cl_mem rows, parts; /* f32 [n][heads * head_dim]; [shares][kv_heads][head_dim][head_dim] */
    size_t rows_bytes;
} work;

static size_t gram_floats(const vlci_compress_shape *s) {
    return (size_t)s->kv_heads * (size_t)s->head_dim * (size_t)s->head_dim;
}

/* ---- the device's part --------------------------------------------------------------------------------- */

static size_t shares_of(const vlci_matrix *out) {
    return vlci_ceil_div((size_t)out->n, SHARE);
}

static vlcache_status make_room(work *w, const vlci_matrix *out) {
    size_t bytes = (size_t)out->n * (size_t)out->k * sizeof(cl_float);
    if (bytes <= w->rows_bytes) return VLCACHE_OK;
    vlci_memory_release(w->device, &w->rows);
    vlci_memory_release(w->device, &w->parts);
    w->rows_bytes = bytes;
    vlcache_status status = vlci_memory_create(w->device, bytes, "metric: weights of a layer", &w->rows);
    return status ? status
                  : vlci_memory_create(w->device, shares_of(out) * gram_floats(w->shape) * sizeof(cl_float),
                                       "metric: parts of a layer", &w->parts);
}

static vlcache_status multiply(work *w, const vlci_matrix *out, cl_mem gram, size_t to) {
    const vlci_compress_shape *s = w->shape;
    size_t dim = (size_t)s->head_dim, kv_heads = (size_t)s->kv_heads, shares = shares_of(out);
    size_t blocks = dim / 8 * (dim / 8 + 1) / 2;
    static const char *const names[] = {"metric_rows", "metric_gram", "metric_sum"};
    const vlci_kernel *k[3] = {NULL};
    char options[64];
    snprintf(options, sizeof options, " -DLAYOUT=%d -DHEAD_DIM=%d", (int)out->layout, s->head_dim);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 3 && !status; i++)
        status = vlci_matrix_kernel(w->device, out->dtype, "metric.cl", names[i], options, &k[i]);
    if (!status) status = make_room(w, out);
    if (!status)
        status = VLCI_LAUNCH(w->device, k[0], vlci_grid_exact(k[0], (size_t)out->k, (size_t)out->n, 1),
                             VLCI_MEM(out->data), VLCI_MEM(w->rows), VLCI_I32(out->k));
    if (!status)
        status = VLCI_LAUNCH(w->device, k[1], vlci_grid_over(k[1], blocks, kv_heads, shares),
                             VLCI_MEM(w->rows), VLCI_I32(out->n), VLCI_I32(s->heads / s->kv_heads),
                             VLCI_I32(SHARE), VLCI_MEM(w->parts));
    return status ? status
                  : VLCI_LAUNCH(w->device, k[2], vlci_grid_over(k[2], dim / 8, dim, kv_heads),
                                VLCI_MEM(w->parts), VLCI_I32(shares), VLCI_MEM(gram), VLCI_U32(to));
}

/* Gram matrices of all layers. */
static vlcache_status find_grams(work *w, const vlci_matrix *const *out, cl_mem gram) {
    const vlci_compress_shape *s = w->shape;
    vlcache_status status = VLCACHE_OK;
    for (int l = 0; l < s->layers && !status; l++) {
        if (out[l]->k != s->heads * s->head_dim)
            return vlci_fail(VLCACHE_E_ARGUMENT,
                             "metric: layer %d: an output product of %d, for %d heads of %d", l, out[l]->k,
                             s->heads, s->head_dim);
        status = multiply(w, out[l], gram, (size_t)l * gram_floats(s));
    }
    return status;
}

/* ---- the host's ---------------------------------------------------------------------------------------- */

/* Adds what each direction is heard at least, so that no rounding error makes m indefinite. Returns that. */
static double mend(double *m, int dim) {
    double trace = 0.0;
    for (int d = 0; d < dim; d++) trace += m[d * dim + d];
    double least = LEAST * trace / dim + 1e-30;
    for (int d = 0; d < dim; d++) m[d * dim + d] += least;
    return least;
}

/* back = U^-T: row k is the x of U x = 1 in place k, and 0 in all others; from the last place on. In m, whose
 * lower triangle is free, as well. */
static void invert(double *m, float *back, int dim) {
    for (int k = 0; k < dim; k++) {
        double *x = m + k * dim, last = 1.0 / x[k];
        for (int d = k - 1; d >= 0; d--) {
            double sum = m[d * dim + k] * last;
            for (int e = d + 1; e < k; e++) sum += m[d * dim + e] * x[e];
            x[d] = -sum / m[d * dim + d];
        }
        for (int d = 0; d < dim; d++) back[k * dim + d] = d < k ? (float)x[d] : d == k ? (float)last : 0.0f;
    }
}

/* gram = U of U^T U = gram, whose upper triangle is there; back = U^-T. False: it is not finite. */
static bool factor(float *gram, float *back, double *m, int dim) {
    for (int i = 0; i < dim * dim; i++) m[i] = i % dim < i / dim ? 0.0 : (double)gram[i];
    double least = mend(m, dim);
    if (!isfinite(least)) return false;
    for (int d = 0; d < dim; d++) {
        double pivot = sqrt(fmax(m[d * dim + d], least / 2));
        for (int e = d; e < dim; e++) m[d * dim + e] /= pivot;
        m[d * dim + d] = pivot;
        for (int r = d + 1; r < dim; r++)
            for (int e = r; e < dim; e++) m[r * dim + e] -= m[d * dim + r] * m[d * dim + e];
    }
    for (int i = 0; i < dim * dim; i++) gram[i] = (float)m[i];
    invert(m, back, dim);
    return true;
}

/* Matrices of all layers, and room for one in double of each member. */
typedef struct factors {
    const vlci_compress_shape *shape;
    float *gram;
    double *m;
} factors;

static vlcache_status factor_head(void *user, size_t item, int member) {
    const factors *f = user;
    size_t dim = (size_t)f->shape->head_dim, each = dim * dim, kv_heads = (size_t)f->shape->kv_heads;
    float *gram = f->gram + item * each, *back = gram + (size_t)f->shape->layers * kv_heads * each;
    if (factor(gram, back, f->m + (size_t)member * each, f->shape->head_dim)) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "compress: storage: layer %zu, kv head %zu: weights of the output product that are not "
                     "finite",
                     item / kv_heads, item % kv_heads);
}

static vlcache_status factor_all(const vlci_compress_shape *s, float *gram) {
    size_t each = (size_t)s->head_dim * (size_t)s->head_dim;
    int processors = vlci_processors();
    vlci_team *team;
    vlcache_status status = vlci_team_create(processors < MEMBERS ? processors : MEMBERS, &team);
    if (status) return status;
    factors f = {s, gram, vlci_alloc((size_t)vlci_team_size(team) * each, sizeof *f.m)};
    status = f.m ? vlci_team_run(team, (size_t)s->layers * (size_t)s->kv_heads, factor_head, &f)
                 : vlci_fail_memory("metric of values");
    vlci_team_destroy(&team);
    vlci_free(f.m);
    return status;
}

vlcache_status vlci_metric_create(vlcache_device *device, const vlci_compress_shape *s,
                                  const vlci_matrix *const *out, cl_mem *metric) {
    size_t half = (size_t)s->layers * gram_floats(s) * sizeof(cl_float), bytes = 2 * half;
    work w = {.device = device, .shape = s};
    float *gram = vlci_alloc(bytes, 1);
    *metric = NULL;
    vlcache_status status = gram ? VLCACHE_OK : vlci_fail_memory("metric of values");
    if (!status) status = vlci_memory_create(device, bytes, "metric of values", metric);
    if (!status) status = find_grams(&w, out, *metric);
    if (!status) status = vlci_read(device, *metric, 0, gram, half);
    if (!status) status = factor_all(s, gram);
    if (!status) status = vlci_write(device, *metric, 0, gram, bytes);
    vlci_memory_release(device, &w.rows);
    vlci_memory_release(device, &w.parts);
    if (status) vlci_memory_release(device, metric);
    vlci_free(gram);
    return status;
}
