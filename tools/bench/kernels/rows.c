/*
 * rows.c - what goes over rows once: the norm, and rotary positions with the cache's new rows.
 *
 *     error: of the norm, |got - want| over the largest output of the row; of rotations, over the root mean
 *            square of what they turn
 */
#include <math.h>
#include <stdlib.h>

#include "bench/kernels/cache.h"
#include "common/memory.h"
#include "compute/norm.h"
#include "compute/rope.h"

enum { SAMPLES = 5 };
#define TOLERANCE 1e-4
#define EPSILON   1e-5f

/* ---- norm ---------------------------------------------------------------------------------------------- */

typedef struct norm_work {
    trials *t;
    int rows, n;
    char name[48];
    cl_mem x, y;
    vlci_norm norm;
    vlci_norm_kernels kernels;
} norm_work;

static vlcache_status launch_norm(void *work) {
    const norm_work *w = work;
    return vlci_norm_run(&w->kernels, w->x, 0, &w->norm, w->y, w->rows, w->n, EPSILON);
}

static vlcache_status check_row(const norm_work *w, int row, float *x, float *y, float *weight,
                                double *error) {
    size_t n = (size_t)w->n, bytes = n * sizeof *x, at = (size_t)row * bytes;
    double squares = 0, most = 1e-30, off = 0;
    vlcache_status status = vlci_read(w->t->device, w->x, at, x, bytes);
    if (!status) status = vlci_read(w->t->device, w->y, at, y, bytes);
    if (!status) status = vlci_read(w->t->device, w->norm.weight, 0, weight, bytes);
    for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    double scale = 1 / sqrt(squares / (double)n + (double)EPSILON);
    for (size_t i = 0; i < n; i++) {
        double want = (double)x[i] * scale * (double)weight[i];
        most = trial_worse(fabs(want), most);
        off = trial_worse(fabs((double)y[i] - want), off);
    }
    *error = trial_worse(off / most, *error);
    return status;
}

static vlcache_status check_norm(void *work, double *error) {
    norm_work *w = work;
    size_t n = (size_t)w->n;
    float *block = memory_take(3 * n, sizeof *block);
    vlcache_status status =
        vlci_fill(w->t->device, w->y, 0, (size_t)w->rows * n * sizeof(float), 0xffffffffu);
    if (!status) status = launch_norm(w);
    for (size_t i = 0; i < SAMPLES && !status; i++)
        status = check_row(w, (int)trial_sample(i, SAMPLES, (size_t)w->rows), block, block + n, block + 2 * n,
                           error);
    free(block);
    return status;
}

static vlcache_status make_norm(void *work) {
    norm_work *w = work;
    size_t floats = (size_t)w->rows * (size_t)w->n;
    vlcache_status status = trial_floats(w->t, floats, 21, &w->x);
    if (!status) status = trial_poisoned(w->t, floats, &w->y);
    return status ? status : trial_floats(w->t, (size_t)w->n, 22, &w->norm.weight);
}

static vlcache_status open_norm(void *work) {
    norm_work *w = work;
    return vlci_norm_open(w->t->device, &w->kernels);
}

static vlcache_status try_norms(trials *t, int rows, int n) {
    norm_work w = {.t = t, .rows = rows, .n = n};
    trial_case c = {.what = {.kernel = "norm",
                             .shape = w.name,
                             .bytes = true,
                             .amount = 8.0 * rows * n,
                             .tolerance = TOLERANCE},
                    .work = &w,
                    .make = make_norm,
                    .open = open_norm,
                    .check = check_norm,
                    .launch = launch_norm};
    snprintf(w.name, sizeof w.name, "%d rows of %d", rows, n);
    vlcache_status status = trial_ladder(t, &vlci_norm_ladder, &c);
    TRIAL_RELEASE(t, &w.x, &w.y, &w.norm.weight);
    return status;
}

/* ---- rope ---------------------------------------------------------------------------------------------- */

typedef struct rope_work {
    trials *t;
    char name[48];
    vlci_rope_kernels kernels;
    trial_cache cache;
    vlci_append a;
    cl_mem qkv, phase, zeros, starts;
} rope_work;

static vlcache_status launch_rope(void *work) {
    const rope_work *w = work;
    return vlci_rope_append(&w->kernels, &w->a);
}

static vlcache_status make_rope(void *work) {
    rope_work *w = work;
    vlcache_device *device = w->t->device;
    size_t rows = (size_t)w->a.rows, wide = (size_t)(w->a.heads + 2 * w->a.kv_heads) * (size_t)w->a.head_dim;
    const cl_int starts[2] = {0, w->a.rows};
    const vlci_kv_shape shape = {1, w->a.kv_heads, w->a.head_dim, w->t->dtype};
    vlcache_status status = trial_cache_make(w->t, &shape, 1, w->a.rows, 0, &w->cache);
    if (!status) status = trial_floats(w->t, rows * wide, 31, &w->qkv);
    if (!status) status = trial_floats(w->t, rows * (size_t)w->a.head_dim, 32, &w->phase);
    if (!status) status = vlci_memory_create(device, rows * sizeof(cl_int), "sequences of rows", &w->zeros);
    if (!status) status = vlci_fill(device, w->zeros, 0, rows * sizeof(cl_int), 0);
    if (!status) status = trial_bytes(w->t, starts, sizeof starts, &w->starts);
    if (status) return status;
    w->a.qkv = w->qkv;
    w->a.phase = w->phase;
    w->a.row_sequence = w->zeros;
    w->a.seq_start = w->starts;
    w->a.kv = vlci_kv_layer(&w->cache.kv[0], 0);
    w->a.kv.slots = w->zeros; /* the first cache of a pool has slot 0 */
    return VLCACHE_OK;
}

static vlcache_status open_rope(void *work) {
    rope_work *w = work;
    return vlci_rope_open(w->t->device, w->t->dtype, &w->kernels);
}

static void close_rope(rope_work *w) {
    TRIAL_RELEASE(w->t, &w->qkv, &w->phase, &w->zeros, &w->starts);
    trial_cache_release(&w->cache);
}

/* The last row's first query head, before and after. */
static vlcache_status check_rope(void *work, double *error) {
    rope_work *w = work;
    size_t dim = (size_t)w->a.head_dim, half = dim / 2, bytes = dim * sizeof(float),
           last = (size_t)w->a.rows - 1;
    size_t wide = (size_t)(w->a.heads + 2 * w->a.kv_heads) * bytes;
    float *block = memory_take(3 * dim, sizeof *block), *x = block, *y = block + dim, *turn = y + dim;
    double squares = 1e-30, off = 0;
    vlcache_status status = vlci_read(w->t->device, w->qkv, last * wide, x, bytes);
    if (!status) status = launch_rope(w);
    if (!status) status = vlci_read(w->t->device, w->qkv, last * wide, y, bytes);
    if (!status) status = vlci_read(w->t->device, w->phase, last * bytes, turn, bytes);
    for (size_t d = 0; d < half; d++) {
        double c = (double)turn[d], s = (double)turn[half + d], low = (double)x[d],
               high = (double)x[half + d];
        off = trial_worse(fabs((double)y[d] - (low * c - high * s)), off);
        off = trial_worse(fabs((double)y[half + d] - (high * c + low * s)), off);
        squares += low * low + high * high;
    }
    *error = off / sqrt(squares / (double)dim);
    free(block);
    return status;
}

static vlcache_status try_rope(trials *t, int rows) {
    bool quick = t->b->options.quick;
    rope_work w = {.t = t};
    w.a = (vlci_append){
        .rows = rows, .heads = quick ? 4 : 32, .kv_heads = quick ? 2 : 8, .head_dim = quick ? 64 : 128};
    double pairs = (double)rows * w.a.head_dim, kv = 2.0 * w.a.kv_heads,
           element = (double)vlci_dtype_bytes(t->dtype);
    trial_case c = {.what = {.kernel = "rope and append",
                             .shape = w.name,
                             .bytes = true,
                             .amount = pairs * (4 + 8.0 * w.a.heads + kv * (4 + element)),
                             .tolerance = TOLERANCE},
                    .work = &w,
                    .make = make_rope,
                    .open = open_rope,
                    .check = check_rope,
                    .launch = launch_rope};
    snprintf(w.name, sizeof w.name, "%d rows in %d/%d heads of %d", rows, w.a.heads, w.a.kv_heads,
             w.a.head_dim);
    vlcache_status status = trial_ladder(t, NULL, &c);
    close_rope(&w);
    return status;
}

vlcache_status row_trials(trials *t) {
    bool quick = t->b->options.quick;
    int many = quick ? 33 : 2048, width = quick ? 96 : 4096;
    vlcache_status status = try_norms(t, 1, width);
    if (!status) status = try_norms(t, many, width);
    if (!status) status = try_rope(t, 1);
    return status ? status : try_rope(t, many);
}
