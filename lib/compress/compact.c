/*
 * compact.c - one layer's cache shrinks to the rows that are kept.
 *
 * In: full-size K and V, the layer's scores and budget. Out: rows of earlier turns, the kept rows, ascending,
 * centroids of the others, and the rows decoded since, in the caller's new buffers, after which the full ones
 * can go.
 */
#include <stdio.h>

#include "compress/compress.h"

enum { MAX_GROUPS = 256 };

static vlcache_status get(const vlci_compress *p, const char *name, const vlci_kernel **kernel) {
    char options[64];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)p->shape.kv_dtype,
             p->shape.head_dim);
    return vlci_kernel_get(p->device, "compact.cl", name, options, kernel);
}

vlcache_status vlci_compress_build(vlci_compress *p) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status = get(p, "compact", &kernel);
    if (!status) status = vlci_pool_build(p);
    if (!status) status = vlci_topk_build(p->device);
    return status ? status : vlci_summary_build(p);
}

static vlcache_status gather(vlci_compress *p, int layer, const vlci_attention *a, const vlci_compact_to *to,
                             bool value) {
    const vlci_compress_shape *s = &p->shape;
    const vlci_kernel *kernel = NULL;
    vlcache_status status = get(p, "compact", &kernel);
    if (status) return status;
    size_t groups = to->capacity < MAX_GROUPS ? (size_t)to->capacity : MAX_GROUPS;
    vlci_grid grid =
        VLCI_GRID(groups, (size_t)s->kv_heads, (size_t)s->batch, vlci_group_width(kernel, 64), 1, 1);
    return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(value ? a->v : a->k),
                       VLCI_U32(value ? a->v_offset : a->k_offset), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride), VLCI_MEM(p->before_on),
                       VLCI_I32(layer * s->batch * s->kv_heads), VLCI_MEM(p->tokens_on), VLCI_MEM(p->kept_on),
                       VLCI_MEM(p->centroids_on), VLCI_U32(layer * s->batch), VLCI_I32(p->decoded),
                       VLCI_MEM(p->kept[layer]), VLCI_U32(vlci_compress_kept_rows(p, layer)),
                       VLCI_I32(s->kv_heads), VLCI_MEM(value ? to->v : to->k),
                       VLCI_U32(value ? to->v_offset : to->k_offset), VLCI_U32(to->seq_stride),
                       VLCI_U32(to->head_stride), VLCI_U32(to->row_stride), VLCI_I32(to->capacity));
}

static vlcache_status move_biases(vlci_compress *p, int layer, cl_mem bias, int bias_capacity,
                                  const vlci_compact_to *to) {
    const vlci_compress_shape *s = &p->shape;
    const vlci_kernel *kernel = NULL;
    if (!to->bias) return VLCACHE_OK;
    vlcache_status status = get(p, "compact_bias", &kernel);
    if (status) return status;
    vlci_grid grid = vlci_grid_over(kernel, (size_t)to->capacity, (size_t)s->batch * (size_t)s->kv_heads, 1);
    return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(bias), VLCI_I32(bias_capacity),
                       VLCI_MEM(p->before_on), VLCI_I32(layer * s->batch * s->kv_heads),
                       VLCI_I32(s->kv_heads), VLCI_MEM(to->bias), VLCI_I32(to->capacity));
}

/* `*score`: what tokens are chosen by, good until the next layer. */
static vlcache_status choose(vlci_compress *p, int layer, cl_mem *score) {
    const vlci_compress_shape *s = &p->shape;
    size_t rows = (size_t)vlci_compress_kept_rows(p, layer);
    vlcache_status status = VLCACHE_OK;
    if (!p->kept[layer])
        status = vlci_memory_create(p->device, (size_t)s->batch * (size_t)s->kv_heads * rows * sizeof(cl_int),
                                    "compression: kept positions", &p->kept[layer]);
    if (!status) status = vlci_pool(p, p->seen ? p->seen->score[layer] : NULL, score);
    if (!status)
        status = vlci_topk(p->device, *score, s->batch, s->kv_heads, p->max_tokens, p->tokens_on, p->kept_on,
                           p->recent_on, layer * s->batch, p->recipe.sinks, p->kept[layer], (int)rows);
    return status;
}

static bool fits(size_t value) {
    return value <= UINT32_MAX;
}

static vlcache_status check(const vlci_compress *p, int layer, const vlci_attention *a,
                            const vlci_compact_to *to) {
    if (!p->planned || layer < 0 || layer >= p->shape.layers)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: not planned", layer);
    if (to->capacity < vlci_compress_most_rows(p, layer))
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: capacity %d, %d rows are kept", layer,
                         to->capacity, vlci_compress_most_rows(p, layer));
    if (!fits(a->k_offset) || !fits(a->v_offset) || !fits(a->seq_stride) || !fits(a->head_stride) ||
        !fits(a->row_stride) || !fits(to->k_offset) || !fits(to->v_offset) || !fits(to->seq_stride) ||
        !fits(to->head_stride) || !fits(to->row_stride))
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: layer %d: an offset or stride exceeds 32 bits",
                         layer);
    return VLCACHE_OK;
}

vlcache_status vlci_compress_layer(vlci_compress *p, int layer, const vlci_attention *a, cl_mem bias,
                                   int bias_capacity, const vlci_compact_to *to) {
    cl_mem score = NULL;
    vlcache_status status = check(p, layer, a, to);
    if (!status) status = choose(p, layer, &score);
    if (!status) status = gather(p, layer, a, to, false);
    if (!status) status = gather(p, layer, a, to, true);
    if (!status) status = move_biases(p, layer, bias, bias_capacity, to);
    if (!status) status = vlci_summary(p, layer, score, a, to);
    return status;
}
