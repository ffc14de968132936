/*
 * metric.c - output products of layers -> their Gram matrices, a layer at a time on the device -> Cholesky
 * factors, in double on the host -> the metric.
 */
#include "compress/metric.h"

#include <math.h>
#include <stdio.h>

#include "core/alloc.h"

#define LEAST 1e-6 /* of the mean over all directions: what each is heard at least */

/* What a layer needs. */
typedef struct work {
    vlcache_device *device;
    const vlci_compress_shape *shape;
    cl_mem rows, gram; /* f32 [n][heads * head_dim]; [kv_heads][head_dim][head_dim] */
    size_t rows_bytes;
    float *host; /* of gram */
    double *m;   /* [head_dim][head_dim] */
} work;

static size_t gram_bytes(const vlci_compress_shape *s) {
    return (size_t)s->kv_heads * (size_t)s->head_dim * (size_t)s->head_dim * sizeof(cl_float);
}

static vlcache_status make_room(work *w, const vlci_matrix *out) {
    size_t bytes = (size_t)out->n * (size_t)out->k * sizeof(cl_float);
    if (bytes <= w->rows_bytes) return VLCACHE_OK;
    vlci_memory_release(w->device, &w->rows);
    w->rows_bytes = bytes;
    return vlci_memory_create(w->device, bytes, "metric: weights of a layer", &w->rows);
}

static vlcache_status multiply(work *w, const vlci_matrix *out) {
    const vlci_compress_shape *s = w->shape;
    size_t dim = (size_t)s->head_dim;
    const vlci_kernel *rows = NULL, *gram = NULL;
    char options[64];
    snprintf(options, sizeof options, " -DLAYOUT=%d -DHEAD_DIM=%d", (int)out->layout, s->head_dim);
    vlcache_status status =
        vlci_matrix_kernel(w->device, out->dtype, "metric.cl", "metric_rows", options, &rows);
    if (!status)
        status = vlci_matrix_kernel(w->device, out->dtype, "metric.cl", "metric_gram", options, &gram);
    if (!status) status = make_room(w, out);
    if (!status)
        status = VLCI_LAUNCH(w->device, rows, vlci_grid_exact(rows, (size_t)out->k, (size_t)out->n, 1),
                             VLCI_MEM(out->data), VLCI_MEM(w->rows), VLCI_I32(out->k));
    return status ? status
                  : VLCI_LAUNCH(w->device, gram, vlci_grid_exact(gram, dim / 8, dim / 4, (size_t)s->kv_heads),
                                VLCI_MEM(w->rows), VLCI_I32(out->n), VLCI_I32(s->heads / s->kv_heads),
                                VLCI_MEM(w->gram));
}

/* Adds what each direction is heard at least, so that no rounding error makes m indefinite. Returns that. */
static double mend(double *m, int dim) {
    double trace = 0.0;
    for (int d = 0; d < dim; d++) trace += m[d * dim + d];
    double least = LEAST * trace / dim + 1e-30;
    for (int d = 0; d < dim; d++) m[d * dim + d] += least;
    return least;
}

/* gram = U of U^T U = gram, whose upper triangle is there. False: it is not finite. */
static bool factor(float *gram, double *m, int dim) {
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
    return true;
}

static vlcache_status find_layer(work *w, int layer, const vlci_matrix *out, cl_mem metric) {
    const vlci_compress_shape *s = w->shape;
    size_t bytes = gram_bytes(s), each = (size_t)s->head_dim * (size_t)s->head_dim;
    if (out->k != s->heads * s->head_dim)
        return vlci_fail(VLCACHE_E_ARGUMENT, "metric: layer %d: an output product of %d, for %d heads of %d",
                         layer, out->k, s->heads, s->head_dim);
    vlcache_status status = multiply(w, out);
    if (!status) status = vlci_read(w->device, w->gram, 0, w->host, bytes);
    for (int kv = 0; kv < s->kv_heads && !status; kv++)
        if (!factor(w->host + (size_t)kv * each, w->m, s->head_dim))
            status = vlci_fail(VLCACHE_E_UNSUPPORTED,
                               "compress: storage: layer %d, kv head %d: weights of the output product that "
                               "are not finite",
                               layer, kv);
    return status ? status : vlci_write(w->device, metric, (size_t)layer * bytes, w->host, bytes);
}

vlcache_status vlci_metric_create(vlcache_device *device, const vlci_compress_shape *s,
                                  const vlci_matrix *const *out, cl_mem *metric) {
    size_t bytes = gram_bytes(s), dim = (size_t)s->head_dim;
    work w = {
        .device = device, .shape = s, .host = vlci_alloc(bytes, 1), .m = vlci_alloc(dim * dim, sizeof *w.m)};
    *metric = NULL;
    vlcache_status status = w.host && w.m ? VLCACHE_OK : vlci_fail_memory("metric of values");
    if (!status) status = vlci_memory_create(device, bytes, "metric: a layer", &w.gram);
    if (!status) status = vlci_memory_create(device, (size_t)s->layers * bytes, "metric of values", metric);
    for (int l = 0; l < s->layers && !status; l++) status = find_layer(&w, l, out[l], *metric);
    vlci_memory_release(device, &w.rows);
    vlci_memory_release(device, &w.gram);
    if (status) vlci_memory_release(device, metric);
    vlci_free(w.host);
    vlci_free(w.m);
    return status;
}
