/*
 * projector.c - from the tower's rows to rows of the text model: y = W2 act(W1 LN(x) + b1) + b2, or
 * y = W1 LN(x) + b1.
 */
#include "models/projector.h"

#include "compute/product.h"

vlcache_status vlci_projector_load(vlci_upload *up, const vlci_projector_config *c, vlci_projector *out) {
    vlcache_status status = VLCACHE_OK;
    *out = (vlci_projector){.compute = up->compute, .act = c->act, .norm_eps = c->norm_eps};
    if (c->norm) status = vlci_upload_norm(up, c->prefix, c->norm, c->from, true, &out->norm);
    if (!status)
        status =
            vlci_upload_matrix(up, c->prefix, VLCI_PARTS({c->first, c->to}), c->from, c->bias, &out->first);
    if (!status && c->second)
        status =
            vlci_upload_matrix(up, c->prefix, VLCI_PARTS({c->second, c->to}), c->to, c->bias, &out->second);
    return status;
}

/* The first matrix, to `y` in a form; an activation only where another matrix follows. */
static vlcache_status run_first(const vlci_projector *p, cl_mem x, cl_mem brought, int rows, cl_mem y,
                                vlci_form form) {
    const vlci_product first = {.w = &p->first,
                                .x = x,
                                .norm = p->norm.weight ? &p->norm : NULL,
                                .eps = p->norm_eps,
                                .brought = brought,
                                .act = p->second.data ? p->act : VLCI_ACT_NONE,
                                .y = y,
                                .y_form = form,
                                .m = rows};
    return vlci_product_run(p->compute, &first);
}

static vlcache_status run_second(const vlci_projector *p, cl_mem x, vlci_form form, cl_mem brought, int rows,
                                 cl_mem y) {
    const vlci_product second = {
        .w = &p->second, .x = x, .x_form = form, .brought = brought, .y = y, .m = rows};
    return vlci_product_run(p->compute, &second);
}

vlcache_status vlci_projector_run(const vlci_projector *p, cl_mem features, int rows, cl_mem *projected) {
    vlcache_device *device = p->compute->device;
    cl_mem hidden = NULL, brought = NULL;
    bool two = p->second.data != NULL;
    int wider = p->first.k > p->first.n ? p->first.k : p->first.n;
    size_t bytes = (size_t)rows * (size_t)p->first.n * sizeof(float);
    *projected = NULL;
    vlcache_status status =
        vlci_memory_create(device, vlci_operand_bytes(rows, wider), "projector activations", &brought);
    if (!status && two)
        status = vlci_memory_create(device, vlci_operand_bytes(rows, p->first.n), "projector activations",
                                    &hidden);
    if (!status) status = vlci_memory_create(device, bytes, "visual tokens", projected);
    if (!status && !two) status = run_first(p, features, brought, rows, *projected, VLCI_FLOATS);
    if (!status && two) {
        vlci_form form = vlci_product_form(p->compute, &p->first, &p->second, rows);
        status = run_first(p, features, brought, rows, hidden, form);
        if (!status) status = run_second(p, hidden, form, brought, rows, *projected);
    }
    vlci_memory_release(device, &hidden);
    vlci_memory_release(device, &brought);
    if (status) vlci_memory_release(device, projected);
    return status;
}

void vlci_projector_release(vlci_projector *p) {
    if (p->compute) {
        vlci_norm_release(p->compute->device, &p->norm);
        vlci_matrix_release(p->compute->device, &p->first);
        vlci_matrix_release(p->compute->device, &p->second);
    }
    *p = (vlci_projector){0};
}
