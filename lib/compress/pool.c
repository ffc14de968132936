/*
 * pool.c - the scores that tokens are chosen by, from those that were seen.
 *
 *     seen [kv heads][N] -> (summed over kv heads) -> (largest of each window) -> chosen by
 *
 * In: a layer's raw scores, which stay as they are. Out: the plan's own buffer, good until the next layer.
 */
#include "compress/compress.h"

static vlcache_status room(vlci_compress *p, cl_mem *out) {
    const vlci_compress_shape *s = &p->shape;
    if (*out) return VLCACHE_OK;
    size_t n = (size_t)s->batch * (size_t)s->kv_heads * (size_t)p->max_tokens;
    return vlci_memory_create(p->device, n * sizeof(cl_float), "compression: pooled scores", out);
}

static vlcache_status get(const vlci_compress *p, const char *name, const vlci_kernel **kernel) {
    return vlci_kernel_get(p->device, "pool.cl", name, "", kernel);
}

vlcache_status vlci_pool_build(const vlci_compress *p) {
    const vlci_kernel *kernel = NULL;
    bool used = !p->recipe.per_head || p->recipe.pooling != VLCI_POOL_NONE;
    return used ? get(p, "pool_heads", &kernel) : VLCACHE_OK;
}

static vlcache_status merge(vlci_compress *p, cl_mem score) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status = room(p, &p->merged);
    if (!status) status = get(p, "pool_heads", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(p->device, kernel,
                       vlci_grid_over(kernel, (size_t)p->max_tokens, (size_t)p->shape.batch, 1),
                       VLCI_MEM(score), VLCI_U32(p->max_tokens), VLCI_I32(p->shape.kv_heads),
                       VLCI_MEM(p->merged));
}

static vlcache_status pool(vlci_compress *p, cl_mem score) {
    const vlci_recipe *r = &p->recipe;
    const vlci_kernel *kernel = NULL;
    bool line = r->pooling == VLCI_POOL_LINE;
    vlcache_status status = room(p, &p->pooled);
    if (!status) status = get(p, line ? "pool_line" : "pool_grid", &kernel);
    if (status) return status;
    vlci_grid grid =
        vlci_grid_over(kernel, (size_t)p->max_tokens, (size_t)p->shape.batch * (size_t)p->shape.kv_heads, 1);
    if (line)
        return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(score), VLCI_U32(p->max_tokens),
                           VLCI_I32(p->shape.kv_heads), VLCI_MEM(p->tokens_on), VLCI_I32(r->pool_columns),
                           VLCI_MEM(p->pooled));
    return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(score), VLCI_U32(p->max_tokens),
                       VLCI_I32(p->shape.kv_heads), VLCI_MEM(p->tokens_on), VLCI_MEM(p->grids_on),
                       VLCI_I32(p->n_grids), VLCI_I32(r->pool_rows), VLCI_I32(r->pool_columns),
                       VLCI_MEM(p->pooled));
}

vlcache_status vlci_pool(vlci_compress *p, cl_mem score, cl_mem *out) {
    vlcache_status status = VLCACHE_OK;
    *out = score;
    if (!score) return VLCACHE_OK;
    if (!p->recipe.per_head) {
        status = merge(p, score);
        *out = p->merged;
    }
    if (!status && p->recipe.pooling != VLCI_POOL_NONE) {
        status = pool(p, *out);
        *out = p->pooled;
    }
    return status;
}
