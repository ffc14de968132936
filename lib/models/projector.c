/*
 * projector.c - from the tower's rows to rows of the text model: y = W2 act(W1 x + b1) + b2.
 */
#include "models/projector.h"

#include "compute/product.h"

vlcache_status vlci_projector_load(vlci_upload *up, const char *prefix, int from, int to, bool bias,
                                   vlci_activation act, vlci_projector *out) {
    *out = (vlci_projector){.compute = up->compute, .act = act};
    vlcache_status status =
        vlci_upload_matrix(up, prefix, VLCI_PARTS({"linear_1", to}), from, bias, &out->first);
    if (!status)
        status = vlci_upload_matrix(up, prefix, VLCI_PARTS({"linear_2", to}), to, bias, &out->second);
    return status;
}

vlcache_status vlci_projector_run(const vlci_projector *p, cl_mem features, int rows, cl_mem *projected) {
    vlcache_device *device = p->compute->device;
    cl_mem hidden = NULL, brought = NULL;
    size_t bytes = (size_t)rows * (size_t)p->second.n * sizeof(float);
    *projected = NULL;
    vlcache_status status =
        vlci_memory_create(device, vlci_operand_bytes(rows, p->first.n), "projector activations", &hidden);
    if (!status)
        status =
            vlci_memory_create(device,
                               vlci_operand_bytes(rows, p->first.k > p->first.n ? p->first.k : p->first.n),
                               "projector activations", &brought);
    if (!status) status = vlci_memory_create(device, bytes, "visual tokens", projected);
    vlci_form form = vlci_product_form(p->compute, &p->first, &p->second, rows);
    const vlci_product first = {.w = &p->first,
                                .x = features,
                                .brought = brought,
                                .act = p->act,
                                .y = hidden,
                                .y_form = form,
                                .m = rows},
                       second = {.w = &p->second,
                                 .x = hidden,
                                 .x_form = form,
                                 .brought = brought,
                                 .y = *projected,
                                 .m = rows};
    if (!status) status = vlci_product_run(p->compute, &first);
    if (!status) status = vlci_product_run(p->compute, &second);
    vlci_memory_release(device, &hidden);
    vlci_memory_release(device, &brought);
    if (status) vlci_memory_release(device, projected);
    return status;
}

void vlci_projector_release(vlci_projector *p) {
    if (p->compute) {
        vlci_matrix_release(p->compute->device, &p->first);
        vlci_matrix_release(p->compute->device, &p->second);
    }
    *p = (vlci_projector){0};
}
