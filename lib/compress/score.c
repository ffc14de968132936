/*
 * score.c - how much the post-vision rows attend to each token, and the counts behind the sparsity, in one
 * pass.
 *
 *     score(kv, j) = sum over the tau rows t and the heads h of group kv of A(t, h, j)
 *
 * In: rotated queries, keys, row maxima and log-sum-exps of one layer's prefill. Out: its scores, which stay
 * on the device, and its counts. O(tau * N) work, O(N) memory.
 */
#include <math.h>
#include <stdio.h>

#include "compress/compress.h"

enum { TILE_COLS = 64 };

int vlci_score_tiles(int tokens) {
    return (tokens + TILE_COLS - 1) / TILE_COLS;
}

static bool fits(size_t value) {
    return value <= UINT32_MAX;
}

static vlcache_status check(const vlci_compress *p, int layer, const vlci_attention *a) {
    const vlci_compress_shape *s = &p->shape;
    if (layer < 0 || layer >= s->layers || a->batch != s->batch || a->heads != s->heads ||
        a->kv_heads != s->kv_heads || a->head_dim != s->head_dim || a->kv_dtype != s->kv_dtype)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: attention and plan differ in shape", layer);
    if (!a->row_max || !a->row_lse || !a->seq_start)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: row_max, row_lse and seq_start are needed",
                         layer);
    if (a->max_rows < p->max_tau)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d: %d rows attended, %d are observed", layer,
                         a->max_rows, p->max_tau);
    if (!fits(a->q_offset) || !fits(a->q_stride) || !fits(a->k_offset) || !fits(a->v_offset) ||
        !fits(a->seq_stride) || !fits(a->head_stride) || !fits(a->row_stride))
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: layer %d: an offset or stride exceeds 32 bits",
                         layer);
    return VLCACHE_OK;
}

static vlcache_status launch_score(vlci_compress *p, cl_mem score, const vlci_attention *a) {
    const vlci_compress_shape *s = &p->shape;
    const vlci_kernel *kernel = NULL;
    char options[128];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d -DHEADS=%d -DKV_HEADS=%d -DTILE_COLS=%d",
             (int)s->kv_dtype, s->head_dim, s->heads, s->kv_heads, TILE_COLS);
    vlcache_status status = vlci_kernel_get(p->device, "score.cl", "score", options, &kernel);
    if (status) return status;
    vlci_grid grid = VLCI_GRID((size_t)vlci_score_tiles(p->max_tokens), (size_t)s->kv_heads, (size_t)s->batch,
                               TILE_COLS, 1, 1);
    return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(a->q), VLCI_U32(a->q_offset), VLCI_U32(a->q_stride),
                       VLCI_MEM(a->k), VLCI_U32(a->k_offset), VLCI_U32(a->seq_stride),
                       VLCI_U32(a->head_stride), VLCI_U32(a->row_stride), VLCI_MEM(a->row_max),
                       VLCI_MEM(a->row_lse), VLCI_MEM(a->seq_start), VLCI_MEM(a->past),
                       VLCI_I32(a->past_offset), VLCI_MEM(p->tokens_on), VLCI_MEM(p->tau_on), VLCI_MEM(score),
                       VLCI_U32(p->max_tokens), VLCI_MEM(p->partial), VLCI_F32(a->scale),
                       VLCI_F32((float)log(p->options.threshold)));
}

static vlcache_status launch_layer(vlci_compress *p, cl_mem score) {
    const vlci_kernel *kernel = NULL;
    vlcache_status status =
        vlci_kernel_get(p->device, "score.cl", "score_layer", "-DHEADS=1 -DKV_HEADS=1", &kernel);
    if (status) return status;
    vlci_grid grid =
        VLCI_GRID((size_t)vlci_score_tiles(p->max_tokens), (size_t)p->shape.batch, 1, TILE_COLS, 1, 1);
    return VLCI_LAUNCH(p->device, kernel, grid, VLCI_MEM(score), VLCI_U32(p->max_tokens),
                       VLCI_I32(p->shape.kv_heads));
}

vlcache_status vlci_compress_observe(vlci_compress *p, int layer, const vlci_attention *a) {
    vlcache_status status = check(p, layer, a);
    if (status) return status;
    size_t rows = (size_t)p->shape.batch * (size_t)p->shape.kv_heads;
    if (!p->score[layer])
        status = vlci_memory_create(p->device, rows * (size_t)p->max_tokens * sizeof(cl_float),
                                    "compression: scores", &p->score[layer]);
    if (!status) status = launch_score(p, p->score[layer], a);
    if (!status) status = vlci_sparsity_sum(p, layer);
    if (!status && !p->options.per_head) status = launch_layer(p, p->score[layer]);
    return status;
}
