/*
 * pool.c - the scores that tokens are chosen by, from those that were seen.
 *
 *     seen [heads][N] -> (summed over kv heads) -> (largest of each window) -> (infinite where a token is no
 *             candidate) -> chosen by
 *
 * In: raw scores of some layers, which stay as they are. Out: buffers of their own, good until the next call.
 */
#include "compress/pool.h"

vlcache_status vlci_pool_open(vlcache_device *device, const vlci_recipe *r, vlci_pool_kernels *k) {
    vlcache_status status = VLCACHE_OK;
    if (!r->per_head) status = vlci_kernel_get(device, "pool.cl", "pool_heads", "", &k->heads);
    if (!status && r->pooling == VLCI_POOL_LINE)
        status = vlci_kernel_get(device, "pool.cl", "pool_line", "", &k->line);
    if (!status && r->pooling == VLCI_POOL_GRID)
        status = vlci_kernel_get(device, "pool.cl", "pool_grid", "", &k->grid);
    if (!status && r->candidates != VLCI_CANDIDATES_ALL)
        status = vlci_kernel_get(device, "pool.cl", "pool_spare", "", &k->spare);
    return status;
}

void vlci_pooled_release(vlcache_device *device, vlci_pooled *p) {
    vlci_memory_release(device, &p->merged);
    vlci_memory_release(device, &p->windows);
    vlci_memory_release(device, &p->spared);
    *p = (vlci_pooled){0};
}

static vlcache_status make_room(const vlci_heads *h, const vlci_recipe *r, vlci_pooled *p) {
    size_t bytes = (size_t)vlci_heads_n(h) * (size_t)h->tokens * sizeof(cl_float);
    if (vlci_heads_n(h) <= p->heads) return VLCACHE_OK;
    vlci_pooled_release(h->device, p);
    vlcache_status status = VLCACHE_OK;
    if (!r->per_head) status = vlci_memory_create(h->device, bytes, "compression: merged scores", &p->merged);
    if (!status && r->pooling != VLCI_POOL_NONE)
        status = vlci_memory_create(h->device, bytes, "compression: pooled scores", &p->windows);
    if (!status) p->heads = vlci_heads_n(h);
    return status;
}

static vlcache_status merge(const vlci_heads *h, const vlci_kernel *kernel, cl_mem score, size_t at,
                            cl_mem out) {
    return VLCI_LAUNCH(h->device, kernel, vlci_grid_over(kernel, (size_t)h->tokens, (size_t)h->layers, 1),
                       VLCI_MEM(score), VLCI_U32(at), VLCI_I32(h->tokens), VLCI_I32(h->shape.kv_heads),
                       VLCI_MEM(out));
}

static vlcache_status pool(const vlci_heads *h, const vlci_pool_kernels *k, const vlci_recipe *r,
                           cl_mem grids, int n_grids, cl_mem score, size_t at, cl_mem out) {
    const vlci_kernel *kernel = r->pooling == VLCI_POOL_LINE ? k->line : k->grid;
    vlci_grid grid = vlci_grid_over(kernel, (size_t)h->tokens, (size_t)vlci_heads_n(h), 1);
    if (r->pooling == VLCI_POOL_LINE)
        return VLCI_LAUNCH(h->device, kernel, grid, VLCI_MEM(score), VLCI_U32(at), VLCI_I32(h->tokens),
                           VLCI_I32(r->pool_columns), VLCI_MEM(out));
    return VLCI_LAUNCH(h->device, kernel, grid, VLCI_MEM(score), VLCI_U32(at), VLCI_I32(h->tokens),
                       VLCI_MEM(grids), VLCI_I32(n_grids), VLCI_I32(r->pool_rows), VLCI_I32(r->pool_columns),
                       VLCI_MEM(out));
}

vlcache_status vlci_pool(const vlci_heads *h, const vlci_pool_kernels *k, const vlci_recipe *r, cl_mem grids,
                         int n_grids, vlci_pooled *p, cl_mem *score, size_t *at) {
    if (!*score || (r->per_head && r->pooling == VLCI_POOL_NONE)) return VLCACHE_OK;
    vlcache_status status = make_room(h, r, p);
    if (!status && !r->per_head) {
        status = merge(h, k->heads, *score, *at, p->merged);
        *score = p->merged;
        *at = 0;
    }
    if (!status && r->pooling != VLCI_POOL_NONE) {
        status = pool(h, k, r, grids, n_grids, *score, *at, p->windows);
        *score = p->windows;
        *at = 0;
    }
    return status;
}

vlcache_status vlci_pool_spare(const vlci_heads *h, const vlci_pool_kernels *k, cl_mem spared, vlci_pooled *p,
                               cl_mem *score, size_t *at) {
    size_t n = (size_t)vlci_heads_n(h), tokens = (size_t)h->tokens;
    vlcache_status status = VLCACHE_OK;
    if (!*score || !spared) return VLCACHE_OK;
    if ((int)n > p->spared_heads) {
        vlci_memory_release(h->device, &p->spared);
        status = vlci_memory_create(h->device, n * tokens * sizeof(cl_float), "compression: spared scores",
                                    &p->spared);
        p->spared_heads = status ? 0 : (int)n;
    }
    if (!status)
        status = VLCI_LAUNCH(h->device, k->spare, vlci_grid_over(k->spare, tokens, n, 1), VLCI_MEM(*score),
                             VLCI_U32(*at), VLCI_I32(h->tokens), VLCI_MEM(spared), VLCI_MEM(p->spared));
    *score = p->spared;
    *at = 0;
    return status;
}
