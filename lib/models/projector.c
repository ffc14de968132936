/*
 * projector.c - from the tower's rows to visual tokens: select, two matrices with an activation between, put
 * in order.
 */
#include "compute/ops.h"
#include "core/alloc.h"
#include "device/tap.h"
#include "models/vision.h"

/* Gathers rows by a host-side index into new memory. */
static vlcache_status gather(const vlcache_model *model, cl_mem x, cl_mem other, const int32_t *source,
                             int rows, int width, cl_mem *out) {
    vlcache_device *device = model->device;
    cl_mem index = NULL;
    size_t bytes = (size_t)rows * sizeof(int32_t);
    vlcache_status status = vlci_memory_create(device, bytes, "row index", &index);
    if (!status) status = vlci_write(device, index, 0, source, bytes);
    if (!status)
        status =
            vlci_memory_create(device, (size_t)rows * (size_t)width * sizeof(float), "visual tokens", out);
    if (!status) status = vlci_gather_rows(device, x, other, index, *out, rows, width);
    vlci_memory_release(device, &index);
    if (status) vlci_memory_release(device, out);
    return status;
}

/* Drops each tile's class token unless the config keeps it. */
static vlcache_status select_rows(const vlcache_model *model, cl_mem features, int tiles, int *rows,
                                  cl_mem *out) {
    const vlci_vision_config *c = &model->config.vision;
    int side = c->image_size / c->patch_size, all = side * side + 1, first = c->keep_class ? 0 : 1;
    *rows = tiles * (all - first);
    int32_t *source = vlci_alloc((size_t)*rows, sizeof *source);
    if (!source) return vlci_fail_memory("row index");
    int n = 0;
    for (int tile = 0; tile < tiles; tile++)
        for (int row = first; row < all; row++) source[n++] = tile * all + row;
    vlcache_status status = gather(model, features, NULL, source, *rows, c->hidden, out);
    vlci_free(source);
    return status;
}

vlcache_status vlci_projector_run(const vlcache_model *model, cl_mem features, int tiles, cl_mem *selected,
                                  cl_mem *projected) {
    vlcache_device *device = model->device;
    cl_mem rows_in = NULL, hidden = NULL;
    int rows = 0;
    *projected = NULL;
    vlcache_status status = select_rows(model, features, tiles, &rows, &rows_in);
    size_t bytes = (size_t)rows * (size_t)model->config.text.hidden * sizeof(float);
    if (!status) status = vlci_memory_create(device, bytes, "projector activations", &hidden);
    if (!status) status = vlci_memory_create(device, bytes, "visual tokens", projected);
    if (!status)
        status = vlci_gemm(device, &model->projector1, rows_in, 0, hidden, 0, rows,
                           model->config.projector_act, false);
    if (!status)
        status = vlci_gemm(device, &model->projector2, hidden, 0, *projected, 0, rows, VLCI_ACT_NONE, false);
    if (!status) vlci_tap(device, rows_in, rows, model->config.vision.hidden, "vision.features");
    if (!status) vlci_tap(device, *projected, rows, model->config.text.hidden, "projector.features");
    vlci_memory_release(device, &hidden);
    if (status) vlci_memory_release(device, projected);
    if (selected && !status)
        *selected = rows_in;
    else
        vlci_memory_release(device, &rows_in);
    return status;
}

vlcache_status vlci_projector_arrange(const vlcache_model *model, cl_mem projected,
                                      const vlci_image_plan *plan, cl_mem *out) {
    *out = NULL;
    return gather(model, projected, model->image_newline, plan->source, plan->n_tokens,
                  model->config.text.hidden, out);
}
