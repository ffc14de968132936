/**
 * heads.h (internal) - what every step of compressing knows: the shape of a model's cache, and the kv heads
 * of some layers of one sequence, whose rows of a prompt it chooses among.
 */
#ifndef VLCI_COMPRESS_HEADS_H
#define VLCI_COMPRESS_HEADS_H

#include "cl/shared.h"
#include "kv/view.h"

typedef struct vlci_compress_shape {
    int layers, heads, kv_heads, head_dim;
    vlcache_dtype kv_dtype;
    float cap; /**< of logits, as in vlci_attention_shape */
} vlci_compress_shape;

/** Heads layer * kv_heads .. (layer + layers) * kv_heads - 1 of a sequence. */
typedef struct vlci_heads {
    vlcache_device *device;
    vlci_compress_shape shape;
    int layer, layers;
    int tokens;           /**< N: rows of the prompt */
    const vlci_keep *own; /**< [shape.layers * kv_heads]: what each head keeps, on the host */
    cl_mem keep;          /**< the same on the device */
    vlci_kv_view kv;      /**< where their rows are */
    size_t heads_at;      /**< first entry of kv.heads of `layer` */
} vlci_heads;

static inline int vlci_heads_n(const vlci_heads *h) {
    return h->layers * h->shape.kv_heads;
}

/** Place of the first head among all heads of the sequence. */
static inline int vlci_heads_first(const vlci_heads *h) {
    return h->layer * h->shape.kv_heads;
}

/** The arguments that KV_POOL_PARAMS of cl/kv.clh declares, and those that name what the heads keep. */
#define VLCI_POOL_OF(kv, heads_at)                                                                           \
    VLCI_MEM((kv)->k), VLCI_MEM((kv)->v), VLCI_MEM((kv)->bias), VLCI_MEM((kv)->heads), VLCI_U32(heads_at),   \
        VLCI_MEM((kv)->table), VLCI_U32((kv)->row_stride)
#define VLCI_KEEP_OF(h) VLCI_MEM((h)->keep), VLCI_U32(vlci_heads_first(h))

#endif
