/*
 * matrix.c - what the kernels of matrix products have in common.
 */
#include "compute/matrix.h"

#include <stdio.h>
#include <string.h>

const char *const vlci_layout_names[4] = {"rows", "panels", "blocks", "pairs"};

vlci_form vlci_layout_form(vlci_layout layout) {
    return layout == VLCI_BLOCKS ? VLCI_STRIPES : layout == VLCI_PAIRS ? VLCI_TILES : VLCI_FLOATS;
}

size_t vlci_operand_bytes(int rows, int k) {
    size_t floats = (size_t)rows * (size_t)k * sizeof(float);
    size_t stripes = VLCI_STRIPE_ROWS(rows) * VLCI_BLOCKS(k) * VLCI_BLOCK * sizeof(uint16_t);
    return floats > stripes ? floats : stripes; /* tiles take no more than stripes */
}

size_t vlci_matrix_bytes(int n, int k, vlcache_dtype dtype, vlci_layout layout) {
    if (layout == VLCI_BLOCKS)
        return VLCI_BLOCKS(n) * VLCI_BLOCKS(k) * VLCI_BLOCK * VLCI_BLOCK * vlci_dtype_bytes(dtype);
    if (layout == VLCI_PAIRS)
        return VLCI_TILES(n) * VLCI_TILES(k) * VLCI_TILE * VLCI_TILE * vlci_dtype_bytes(dtype);
    size_t rows = layout == VLCI_PANELS ? vlci_ceil_div((size_t)n, VLCI_PANEL) * VLCI_PANEL : (size_t)n;
    return rows * (size_t)k * vlci_dtype_bytes(dtype);
}

vlcache_status vlci_matrix_kernel(vlcache_device *device, vlcache_dtype dtype, const char *file,
                                  const char *name, const char *options, const vlci_kernel **out) {
    char all[128];
    snprintf(all, sizeof all, "-DW_DTYPE=%d%s", (int)dtype, options);
    return vlci_kernel_get(device, file, name, all, out);
}

const char *vlci_dot_lines(const vlcache_device *device) {
    return device->caps.every_line ? " -DLINES=0" : "";
}

void vlci_product_args(const vlci_product *p, vlci_arg out[VLCI_PRODUCT_ARGS]) {
    const vlci_arg all[VLCI_PRODUCT_ARGS] = {
        VLCI_MEM(p->w->data), VLCI_MEM(p->w->bias),  VLCI_MEM(p->x),         VLCI_U32(p->x_offset),
        VLCI_MEM(p->y),       VLCI_U32(p->y_offset), VLCI_I32(p->m),         VLCI_I32(p->w->n),
        VLCI_I32(p->w->k),    VLCI_I32(p->act),      VLCI_I32(p->accumulate)};
    memcpy(out, all, sizeof all);
}

vlcache_status vlci_product_launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                                   const vlci_product *p) {
    vlci_arg args[VLCI_PRODUCT_ARGS];
    vlci_product_args(p, args);
    return vlci_launch(device, kernel, grid, args, VLCI_PRODUCT_ARGS);
}

void vlci_product_parts(const vlci_product *p, vlci_arg out[VLCI_PARTS_ARGS]) {
    const vlci_matrix *w = p->w;
    int first = w->more[0] ? w->until[0] : w->n, second = w->more[1] ? w->until[1] : w->n;
    const vlci_arg all[VLCI_PARTS_ARGS] = {
        VLCI_MEM(w->data), VLCI_MEM(w->more[0]),  VLCI_MEM(w->more[1]),   VLCI_I32(first),
        VLCI_I32(second),  VLCI_MEM(w->bias),     VLCI_MEM(p->x),         VLCI_U32(p->x_offset),
        VLCI_MEM(p->y),    VLCI_U32(p->y_offset), VLCI_I32(p->m),         VLCI_I32(w->n),
        VLCI_I32(w->k),    VLCI_I32(p->act),      VLCI_I32(p->accumulate)};
    memcpy(out, all, sizeof all);
}

vlcache_status vlci_product_launch_parts(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                                         const vlci_product *p) {
    vlci_arg args[VLCI_PARTS_ARGS];
    vlci_product_parts(p, args);
    return vlci_launch(device, kernel, grid, args, VLCI_PARTS_ARGS);
}
