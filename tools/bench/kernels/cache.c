/*
 * cache.c - pages full of random numbers, and one head of them as floats.
 */
#include "bench/kernels/cache.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "compute/random.h"
#include "models/weight.h"

static vlcache_status fill(trials *t, trial_cache *c, int pages) {
    vlci_matrix rows = {.n = pages * VLCI_KV_PAGE, .k = c->pool.shape.head_dim, .dtype = c->pool.shape.dtype};
    rows.data = c->pool.k;
    vlcache_status status = vlci_random_matrix(t->device, &rows, 11, 1.7f);
    rows.data = c->pool.v;
    return status ? status : vlci_random_matrix(t->device, &rows, 12, 1.0f);
}

vlcache_status trial_cache_make(trials *t, const vlci_kv_shape *shape, int batch, int rows, int held,
                                trial_cache *c) {
    int pages = batch * shape->layers * shape->kv_heads * vlci_kv_pages(rows);
    vlcache_status status = vlci_kv_pool_create(t->device, shape, pages, false, &c->pool);
    if (!status) status = fill(t, c, pages);
    c->rows = rows;
    for (int b = 0; b < batch && !status; b++) {
        status = vlci_kv_create(&c->pool, &c->kv[b]);
        if (status) break;
        c->n++;
        status = vlci_kv_reserve(&c->kv[b], 0, shape->layers, rows);
        if (!status) vlci_kv_append(&c->kv[b], 0, shape->layers, held);
    }
    return status ? status : vlci_kv_pool_sync(&c->pool);
}

/* One of both: all pages. */
static vlcache_status fade(trial_cache *c, cl_mem pages, const float *factor) {
    size_t dim = (size_t)c->pool.shape.head_dim, n = (size_t)c->pool.pages * VLCI_KV_PAGE * dim;
    size_t bytes = n * vlci_dtype_bytes(c->pool.shape.dtype);
    void *stored = memory_take(bytes, 1);
    float *all = memory_take(n, sizeof *all);
    vlcache_status status = vlci_read(c->pool.device, pages, 0, stored, bytes);
    vlci_widen(stored, c->pool.shape.dtype, all, n);
    for (size_t i = 0; i < n; i++) all[i] *= factor[i % dim];
    vlci_narrow(all, stored, c->pool.shape.dtype, n);
    if (!status) status = vlci_write(c->pool.device, pages, 0, stored, bytes);
    free(stored);
    free(all);
    return status;
}

vlcache_status trial_cache_fade(trial_cache *c) {
    size_t dim = (size_t)c->pool.shape.head_dim;
    float *factor = memory_take(dim, sizeof *factor);
    for (size_t d = 0; d < dim; d++) factor[d] = 2.0f * expf(-8.0f * (float)(d % (dim / 2)) / (float)dim);
    vlcache_status status = fade(c, c->pool.k, factor);
    if (!status) status = fade(c, c->pool.v, factor);
    free(factor);
    return status;
}

size_t trial_cache_floats(const trial_cache *c) {
    return (size_t)vlci_kv_pages(c->rows) * VLCI_KV_PAGE * (size_t)c->pool.shape.head_dim;
}

vlcache_status trial_cache_read(const trial_cache *c, bool values, int b, int layer, int head, float *to) {
    const vlci_kv_list *held = vlci_kv_list_of(&c->kv[b], layer, head);
    size_t page = VLCI_KV_PAGE * (size_t)c->pool.shape.head_dim;
    size_t element = vlci_dtype_bytes(c->pool.shape.dtype);
    void *stored = memory_take(page, element);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < vlci_kv_pages(c->rows) && !status; i++) {
        size_t at = (size_t)c->pool.table.entry[held->first + i] * page * element;
        status = vlci_read(c->pool.device, values ? c->pool.v : c->pool.k, at, stored, page * element);
        vlci_widen(stored, c->pool.shape.dtype, to + (size_t)i * page, page);
    }
    free(stored);
    return status;
}

void trial_attend(const float *q, const float *k, const float *v, int n, int dim, double scale, double *out) {
    double *weight = memory_take((size_t)n, sizeof *weight), most = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        for (int d = 0; d < dim; d++)
            weight[j] += (double)q[d] * (double)k[(size_t)j * (size_t)dim + (size_t)d];
        weight[j] *= scale;
        if (weight[j] > most) most = weight[j];
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = 0; j < n; j++) {
        double w = exp(weight[j] - most);
        sum += w;
        for (int d = 0; d < dim; d++) out[d] += w * (double)v[(size_t)j * (size_t)dim + (size_t)d];
    }
    for (int d = 0; d < dim; d++) out[d] /= sum;
    free(weight);
}

void trial_cache_release(trial_cache *c) {
    for (int b = 0; b < c->n; b++) vlci_kv_release(&c->kv[b]);
    vlci_kv_pool_release(&c->pool);
}
