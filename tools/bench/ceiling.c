/*
 * ceiling.c - a copy and a matrix product as large as they have to be.
 *
 *     copy:    2 * bytes / time, of a buffer far larger than any cache; the best of some
 *     product: 2 * side^3 / time, sides from 1024 on until one takes 20 ms or is 8192; x in the form that the
 *              engine reads, as it lies inside a model
 */
#include "bench/ceiling.h"

#include "common/clock.h"
#include "compute/linear.h"
#include "compute/random.h"

enum { TRIES = 5, LEAST_SIDE = 1024, MOST_SIDE = 8192 };
#define LONG_ENOUGH 0.02 /* seconds */

/* ---- copy ---------------------------------------------------------------------------------------------- */

/* Seconds of n copies. */
static vlcache_status copy_once(vlcache_device *device, cl_mem from, cl_mem to, size_t bytes, int n,
                                double *seconds) {
    double start = clock_seconds();
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) status = vlci_copy(device, from, 0, to, 0, bytes);
    if (!status) status = vlci_finish(device);
    *seconds = clock_seconds() - start;
    return status;
}

static vlcache_status copy_best(vlcache_device *device, cl_mem from, cl_mem to, size_t bytes, double *rate) {
    double seconds = 0;
    vlcache_status status = copy_once(device, from, to, bytes, 1, &seconds); /* pages are touched */
    if (!status) status = copy_once(device, from, to, bytes, 1, &seconds);
    int n = seconds < LONG_ENOUGH ? (int)(LONG_ENOUGH / (seconds + 1e-6)) + 1 : 1;
    for (int i = 0; i < TRIES && !status; i++) {
        status = copy_once(device, from, to, bytes, n, &seconds);
        double found = 2.0 * (double)bytes * n / seconds;
        if (!status && found > *rate) *rate = found;
    }
    return status;
}

static vlcache_status measure_copy(vlcache_device *device, double *rate) {
    const vlcache_device_info *info = &device->caps.info;
    uint64_t room = info->global_memory / 16, most = info->max_allocation / 2;
    size_t bytes = (size_t)1 << 30;
    while (bytes > room || bytes > most || (device->caps.wide_vectors && bytes > 1 << 28)) bytes /= 2;
    cl_mem from = NULL, to = NULL;
    vlcache_status status = vlci_memory_create(device, bytes, "copy to measure", &from);
    if (!status) status = vlci_memory_create(device, bytes, "copy to measure", &to);
    if (!status) status = vlci_fill(device, from, 0, bytes, 0);
    if (!status) status = copy_best(device, from, to, bytes, rate);
    vlci_memory_release(device, &from);
    vlci_memory_release(device, &to);
    return status;
}

/* ---- product ------------------------------------------------------------------------------------------- */

static vlcache_status multiply(vlcache_device *device, const vlci_linear *linear, const vlci_product *p,
                               double *best) {
    vlcache_status status = VLCACHE_OK;
    *best = 1e9;
    for (int i = -1; i < TRIES && !status; i++) { /* one to warm up */
        double start = clock_seconds();
        status = vlci_linear_product(linear, p);
        if (!status) status = vlci_finish(device);
        double seconds = clock_seconds() - start;
        if (i >= 0 && seconds < *best) *best = seconds;
    }
    return status;
}

/* Random rows in a form. */
static vlcache_status make_x(vlcache_device *device, vlcache_dtype dtype, vlci_form form, int side,
                             cl_mem *out) {
    size_t bytes = vlci_operand_bytes(side, side);
    vlcache_status status = vlci_memory_create(device, bytes, "product to measure", out);
    vlci_matrix rows = {.data = *out, .k = side, .dtype = form != VLCI_FLOATS ? dtype : VLCACHE_DTYPE_F32};
    rows.n = (int)(bytes / vlci_dtype_bytes(rows.dtype) / (size_t)side);
    return status ? status : vlci_random_matrix(device, &rows, 2, 1.0f);
}

static vlcache_status measure_side(vlcache_device *device, vlci_linear *linear, vlcache_dtype dtype, int side,
                                   double *seconds) {
    vlci_matrix w = {.n = side, .k = side, .dtype = dtype};
    vlci_form form = vlci_linear_form(linear, dtype, side);
    cl_mem x = NULL, y = NULL;
    size_t floats = (size_t)side * (size_t)side;
    w.layout = vlci_linear_layout(linear, dtype);
    vlcache_status status = vlci_memory_create(device, vlci_matrix_bytes(side, side, dtype, w.layout),
                                               "product to measure", &w.data);
    if (!status) status = make_x(device, dtype, form, side, &x);
    if (!status) status = vlci_memory_create(device, floats * 4, "product to measure", &y);
    if (!status) status = vlci_random_matrix(device, &w, 1, 0.02f);
    const vlci_product p = {.w = &w, .x = x, .y = y, .m = side, .x_form = form};
    if (!status) status = multiply(device, linear, &p, seconds);
    vlci_memory_release(device, &w.data);
    vlci_memory_release(device, &x);
    vlci_memory_release(device, &y);
    return status;
}

static vlcache_status measure_product(vlcache_device *device, vlcache_dtype dtype, double *rate) {
    vlci_linear linear = {0};
    double seconds = 0;
    vlcache_status status = vlci_linear_open(device, dtype, &linear);
    for (int side = LEAST_SIDE; side <= MOST_SIDE && seconds < LONG_ENOUGH && !status; side *= 2) {
        status = measure_side(device, &linear, dtype, side, &seconds);
        double found = 2.0 * side * side * (double)side / seconds;
        if (!status && found > *rate) *rate = found;
    }
    vlci_linear_close(&linear);
    return status;
}

vlcache_status ceiling_measure(vlcache_device *device, vlcache_dtype dtype, ceiling *out) {
    *out = (ceiling){0};
    vlcache_status status = measure_copy(device, &out->copy);
    if (status) return status;
    return measure_product(device, dtype == VLCACHE_DTYPE_AUTO ? VLCACHE_DTYPE_BF16 : dtype, &out->product);
}
