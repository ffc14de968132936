/*
 * product.c - [norm, or another form of rows ->] product [-> gate].
 */
#include "compute/product.h"

#include <limits.h>

/* x, normed where it is to be, in the form that the product reads. */
static vlcache_status bring(const vlci_compute *k, vlci_product *p) {
    vlci_form form = vlci_linear_form(&k->linear, p->w->dtype, p->m);
    const vlci_norm_kernels *norm = form != VLCI_FLOATS ? &k->short_rows[p->w->dtype].norm : &k->norm;
    vlcache_status status =
        p->norm ? vlci_norm_run(norm, p->x, p->x_offset, p->norm, p->brought, p->m, p->w->k, p->eps)
                : vlci_linear_bring(&k->linear, p, p->brought);
    p->x = p->brought;
    p->x_form = form;
    p->x_offset = 0;
    p->norm = NULL;
    return status;
}

static bool is_brought(const vlci_compute *k, const vlci_product *p) {
    if (p->norm) return vlci_linear_takes_norm(&k->linear, p);
    return p->x_form != VLCI_FLOATS || vlci_linear_form(&k->linear, p->w->dtype, p->m) == VLCI_FLOATS;
}

/* The product as it is, wide, then the gate. */
static vlcache_status gate_behind(const vlci_compute *k, vlci_product p) {
    const vlci_act_kernels *gate = p.y_form != VLCI_FLOATS ? &k->short_rows[p.w->dtype].gate : &k->gate;
    cl_mem y = p.y;
    p.gated = false;
    p.act = VLCI_ACT_NONE;
    p.y = p.wide;
    p.y_form = VLCI_FLOATS;
    p.y_offset = 0;
    vlcache_status status = vlci_linear_product(&k->linear, &p);
    return status ? status : vlci_act_run(gate, p.wide, y, p.m, p.w->n / 2);
}

vlcache_status vlci_product_run(const vlci_compute *k, const vlci_product *product) {
    vlci_product p = *product;
    vlcache_status status = VLCACHE_OK;
    if (p.gated) p.act = k->gate.act;
    if (!is_brought(k, &p)) status = bring(k, &p);
    if (status) return status;
    return p.gated && !vlci_linear_takes_gate(&k->linear, &p) ? gate_behind(k, p)
                                                              : vlci_linear_product(&k->linear, &p);
}

vlci_form vlci_product_form(const vlci_compute *k, const vlci_matrix *from, const vlci_matrix *to, int m) {
    return from->dtype == to->dtype ? vlci_linear_form(&k->linear, to->dtype, m) : VLCI_FLOATS;
}

bool vlci_product_gates(const vlci_compute *k, const vlci_matrix *from, const vlci_matrix *to) {
    vlci_product few = {.w = from, .m = 1}, many = {.w = from, .m = INT_MAX};
    many.y_form = vlci_product_form(k, from, to, many.m);
    return from->dtype == to->dtype && vlci_linear_takes_gate(&k->linear, &few) &&
           vlci_linear_takes_gate(&k->linear, &many);
}
