/*
 * looks.c - queries, maxima and log-sum-exps of listed rows, layer by layer -> side by side, of all layers.
 *
 * Attention overwrites its queries in the next layer, its keys stay. A launch that copies some rows is all
 * that a layer costs then.
 */
#include "compress/looks.h"

static size_t width_of(const vlci_compress_shape *s) {
    return (size_t)s->heads * (size_t)s->head_dim;
}

/* What there is between two prompts, or if it will not do new memory. */
static vlcache_status make_room(vlcache_device *device, const vlci_compress_shape *s, vlci_looks *spare,
                                vlci_looks *looks) {
    size_t rows = (size_t)s->layers * (size_t)looks->room, heads = rows * (size_t)s->heads * sizeof(cl_float);
    int room = looks->room;
    if (looks->lse) return VLCACHE_OK;
    if (spare && spare->rows >= rows) {
        *looks = *spare;
        looks->room = room;
        *spare = (vlci_looks){0};
        return VLCACHE_OK;
    }
    if (spare) vlci_looks_release(device, spare);
    looks->rows = rows;
    vlcache_status status = vlci_memory_create(device, rows * width_of(s) * sizeof(cl_float),
                                               "compression: queries of all layers", &looks->q);
    if (!status) status = vlci_memory_create(device, heads, "compression: maxima of all layers", &looks->max);
    if (!status) status = vlci_memory_create(device, heads, "compression: sums of all layers", &looks->lse);
    return status;
}

vlcache_status vlci_looks_hold(vlcache_device *device, const vlci_compress_shape *s,
                               const vlci_kernel *kernel, int layer, const vlci_look *look, cl_mem list,
                               int entry, int n, vlci_looks *spare, vlci_looks *looks) {
    const vlci_attention *a = look->a;
    vlcache_status status = make_room(device, s, spare, looks);
    looks->scale = a->scale;
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, vlci_grid_over(kernel, width_of(s) / 4, (size_t)n, 1), VLCI_MEM(a->q),
                       VLCI_U32(a->q_offset), VLCI_U32(a->q_stride), VLCI_I32(look->row - look->from),
                       VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_MEM(list), VLCI_I32(entry),
                       VLCI_I32(width_of(s)), VLCI_I32(s->heads), VLCI_U32(layer * looks->room),
                       VLCI_MEM(looks->q), VLCI_MEM(looks->max), VLCI_MEM(looks->lse));
}

void vlci_looks_release(vlcache_device *device, vlci_looks *looks) {
    vlci_memory_release(device, &looks->q);
    vlci_memory_release(device, &looks->max);
    vlci_memory_release(device, &looks->lse);
    *looks = (vlci_looks){0};
}

void vlci_looks_give_back(vlcache_device *device, vlci_looks *looks, vlci_looks *spare) {
    if (spare && !spare->lse && looks->lse) {
        *spare = *looks;
        *looks = (vlci_looks){0};
    }
    vlci_looks_release(device, looks);
}
