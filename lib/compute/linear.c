/*
 * linear.c - y = act(x W^T + bias) (+ y): which kernel computes it.
 *
 *     few rows --> gemv     (W is read once for all rows)
 *     else     --> gemm, the engine that was chosen when the dtype was opened
 */
#include "compute/linear.h"

#include "compute/gemm_plan.h"

enum { DTYPES = sizeof((vlci_linear *)0)->of / sizeof((vlci_linear *)0)->of[0] };

static bool is_open(const vlci_linear *linear, vlcache_dtype dtype) {
    return (int)dtype >= 0 && (int)dtype < DTYPES && linear->of[dtype].open;
}

/* What few rows are multiplied by. */
static vlci_dot dot_of(const vlci_gemm *gemm) {
    if (vlci_gemm_layout(gemm) != VLCI_PAIRS) return gemm->dot;
    return gemm->device->caps.dot && vlci_gemm_matrix_own(gemm->matrix) ? VLCI_DOT_OWN : VLCI_DOT_PLAIN;
}

vlcache_status vlci_linear_open(vlcache_device *device, vlcache_dtype dtype, vlci_linear *linear) {
    if (is_open(linear, dtype)) return VLCACHE_OK;
    vlci_gemm_engine engine;
    vlci_gemm gemm = {0};
    vlci_gemv gemv;
    vlcache_status status = vlci_gemm_plan(device, dtype, &engine, NULL);
    if (!status) status = vlci_gemm_open(device, engine, dtype, &gemm);
    if (!status)
        status = dot_of(&gemm) ? vlci_gemv_open_dot(device, dot_of(&gemm), vlci_gemm_layout(&gemm), &gemv)
                               : vlci_gemv_open(device, dtype, vlci_gemm_layout(&gemm), &gemv);
    if (status) {
        vlci_gemm_close(&gemm);
        return status;
    }
    linear->of[dtype].gemm = gemm;
    linear->of[dtype].gemv = gemv;
    linear->of[dtype].layout = vlci_gemm_layout(&gemm);
    linear->of[dtype].few = gemm.matrix ? vlci_gemm_matrix_least(gemm.matrix) - 1 : VLCI_GEMV_ROWS_MAX;
    linear->of[dtype].open = true;
    return VLCACHE_OK;
}

vlcache_status vlci_linear_open_append(vlci_linear *linear, vlcache_dtype kv_dtype) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < DTYPES && !status; i++)
        if (linear->of[i].open)
            status = vlci_gemv_open_append(&linear->of[i].gemv, (vlcache_dtype)i, kv_dtype);
    return status;
}

vlci_layout vlci_linear_layout(const vlci_linear *linear, vlcache_dtype dtype) {
    return linear->of[dtype].layout;
}

bool vlci_linear_takes_mapped(const vlci_linear *linear, vlcache_dtype dtype) {
    const vlci_gemm *gemm = &linear->of[dtype].gemm;
    return (linear->of[dtype].layout == VLCI_PANELS && !gemm->matrix) || gemm->dot;
}

vlcache_dtype vlci_linear_rounds_to(const vlci_linear *linear, vlcache_dtype dtype, int m) {
    bool unit = linear->of[dtype].gemm.matrix && m > linear->of[dtype].few;
    if (!unit && !linear->of[dtype].gemv.dot) return VLCACHE_DTYPE_F32;
    return linear->of[dtype].layout == VLCI_PANELS ? VLCACHE_DTYPE_BF16 : dtype;
}

vlcache_status vlci_linear_open_mapped(vlci_linear *linear, vlcache_dtype dtype) {
    if (linear->of[dtype].mapped) return VLCACHE_OK;
    vlcache_status status = vlci_gemm_open_mapped(&linear->of[dtype].gemm, dtype);
    if (!status) status = vlci_gemv_open_mapped(&linear->of[dtype].gemv, dtype);
    linear->of[dtype].mapped = !status;
    return status;
}

static bool few(const vlci_linear *linear, const vlci_product *p) {
    return p->m <= linear->of[p->w->dtype].few;
}

vlci_form vlci_linear_form(const vlci_linear *linear, vlcache_dtype dtype, int m) {
    return m > linear->of[dtype].few ? vlci_layout_form(linear->of[dtype].layout) : VLCI_FLOATS;
}

bool vlci_linear_takes_norm(const vlci_linear *linear, const vlci_product *p) {
    return few(linear, p) && vlci_gemv_norms(&linear->of[p->w->dtype].gemv, p);
}

bool vlci_linear_takes_append(const vlci_linear *linear, const vlci_product *p) {
    return few(linear, p) && p->x_form == VLCI_FLOATS && vlci_gemv_appends(&linear->of[p->w->dtype].gemv, p);
}

bool vlci_linear_takes_gate(const vlci_linear *linear, const vlci_product *p) {
    vlci_form form = vlci_linear_form(linear, p->w->dtype, p->m);
    bool takes = few(linear, p) || linear->of[p->w->dtype].gemm.dot || form != VLCI_FLOATS;
    return takes && p->y_form == form && p->w->n / 2 % VLCI_BLOCK == 0;
}

static vlcache_status check(const vlci_linear *linear, const vlci_matrix *w, size_t x_offset, size_t y_offset,
                            int m) {
    if (!is_open(linear, w->dtype))
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: weights of %s, which was not opened",
                         vlcache_dtype_name(w->dtype));
    if (w->n < 1 || w->k < 1 || m < 0 || x_offset > UINT32_MAX || y_offset > UINT32_MAX)
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: [%d][%d] x [%d][%d] of %s: not a valid shape",
                         m, w->k, w->n, w->k, vlcache_dtype_name(w->dtype));
    bool mapped = w->layout == VLCI_ROWS && linear->of[w->dtype].mapped;
    if (w->layout != linear->of[w->dtype].layout && !mapped)
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: weights of %s in %s, the engine takes %s",
                         vlcache_dtype_name(w->dtype), vlci_layout_names[w->layout],
                         vlci_layout_names[linear->of[w->dtype].layout]);
    return VLCACHE_OK;
}

/* What a caller has to do by itself where this product does not take it. */
static vlcache_status check_extras(const vlci_linear *linear, const vlci_product *p) {
    vlci_form form = vlci_linear_form(linear, p->w->dtype, p->m);
    bool good =
        (p->x_form == VLCI_FLOATS || p->x_form == form) && (p->y_form == VLCI_FLOATS || p->y_form == form);
    if (p->y_form != VLCI_FLOATS) good &= !p->accumulate;
    if (p->norm) good &= vlci_linear_takes_norm(linear, p);
    if (p->append) good &= vlci_linear_takes_append(linear, p);
    if (p->gated) good &= vlci_linear_takes_gate(linear, p) && !p->accumulate && !p->w->bias;
    return good ? VLCACHE_OK
                : vlci_fail(
                      VLCACHE_E_ARGUMENT,
                      "matrix product: a form of rows, a norm, a gate or an append that is none of its own");
}

vlcache_status vlci_linear_product(const vlci_linear *linear, const vlci_product *p) {
    vlcache_status status = check(linear, p->w, p->x_offset, p->y_offset, p->m);
    if (!status) status = check_extras(linear, p);
    if (status || p->m == 0) return status;
    return few(linear, p) ? vlci_gemv_run(&linear->of[p->w->dtype].gemv, p)
                          : vlci_gemm_run(&linear->of[p->w->dtype].gemm, p);
}

vlcache_status vlci_linear_bring(const vlci_linear *linear, const vlci_product *p, cl_mem to) {
    return vlci_gemm_matrix_bring(linear->of[p->w->dtype].gemm.matrix, p, to);
}

vlcache_status vlci_linear_run(const vlci_linear *linear, const vlci_matrix *w, cl_mem x, size_t x_offset,
                               cl_mem y, size_t y_offset, int m, vlci_activation act, bool accumulate) {
    return vlci_linear_product(linear, &(vlci_product){.w = w,
                                                       .x = x,
                                                       .y = y,
                                                       .x_offset = x_offset,
                                                       .y_offset = y_offset,
                                                       .m = m,
                                                       .act = act,
                                                       .accumulate = accumulate});
}

void vlci_linear_close(vlci_linear *linear) {
    for (int i = 0; i < DTYPES; i++) vlci_gemm_close(&linear->of[i].gemm);
    *linear = (vlci_linear){0};
}
