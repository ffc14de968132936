/*
 * linear.c - y = act(x W^T + bias) (+ y): which kernel computes it.
 *
 *     m <= 8 --> gemv     (W is read once for all rows)
 *     else   --> gemm, the engine that was chosen when the dtype was opened
 */
#include "compute/linear.h"

#include "compute/gemm_plan.h"

enum { DTYPES = sizeof((vlci_linear *)0)->of / sizeof((vlci_linear *)0)->of[0] };

static bool is_open(const vlci_linear *linear, vlcache_dtype dtype) {
    return (int)dtype >= 0 && (int)dtype < DTYPES && linear->of[dtype].open;
}

vlcache_status vlci_linear_open(vlcache_device *device, vlcache_dtype dtype, vlci_linear *linear) {
    if (is_open(linear, dtype)) return VLCACHE_OK;
    vlci_gemm_engine engine;
    vlci_gemm gemm = {0};
    vlci_gemv gemv;
    vlcache_status status = vlci_gemm_plan(device, dtype, &engine, NULL);
    if (!status) status = vlci_gemm_open(device, engine, dtype, &gemm);
    if (!status) status = vlci_gemv_open(device, dtype, vlci_gemm_layout(engine), &gemv);
    if (status) {
        vlci_gemm_close(&gemm);
        return status;
    }
    linear->of[dtype].gemm = gemm;
    linear->of[dtype].gemv = gemv;
    linear->of[dtype].layout = vlci_gemm_layout(engine);
    linear->of[dtype].open = true;
    return VLCACHE_OK;
}

vlci_layout vlci_linear_layout(const vlci_linear *linear, vlcache_dtype dtype) {
    return linear->of[dtype].layout;
}

static vlcache_status check(const vlci_linear *linear, const vlci_matrix *w, size_t x_offset, size_t y_offset,
                            int m) {
    if (!is_open(linear, w->dtype))
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: weights of %s, which was not opened",
                         vlcache_dtype_name(w->dtype));
    if (w->n < 1 || w->k < 1 || m < 0 || x_offset > UINT32_MAX || y_offset > UINT32_MAX)
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: [%d][%d] x [%d][%d] of %s: not a valid shape",
                         m, w->k, w->n, w->k, vlcache_dtype_name(w->dtype));
    if (w->layout != linear->of[w->dtype].layout)
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: weights of %s in %s, the engine takes %s",
                         vlcache_dtype_name(w->dtype), w->layout == VLCI_PANELS ? "panels" : "rows",
                         w->layout == VLCI_PANELS ? "rows" : "panels");
    return VLCACHE_OK;
}

vlcache_status vlci_linear_run(const vlci_linear *linear, const vlci_matrix *w, cl_mem x, size_t x_offset,
                               cl_mem y, size_t y_offset, int m, vlci_activation act, bool accumulate) {
    vlcache_status status = check(linear, w, x_offset, y_offset, m);
    if (status || m == 0) return status;
    vlci_product p = {w, x, y, (uint32_t)x_offset, (uint32_t)y_offset, m, act, accumulate};
    return m <= VLCI_GEMV_ROWS_MAX ? vlci_gemv_run(&linear->of[w->dtype].gemv, &p)
                                   : vlci_gemm_run(&linear->of[w->dtype].gemm, &p);
}

void vlci_linear_close(vlci_linear *linear) {
    for (int i = 0; i < DTYPES; i++) vlci_gemm_close(&linear->of[i].gemm);
    *linear = (vlci_linear){0};
}
