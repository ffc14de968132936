/*
 * outcome.c - a plan that has been applied -> which rows are kept, and what they and what stands for the
 * others take.
 */
#include "compress/plan.h"

vlcache_status vlci_compress_positions(vlci_compress *p, int layer, int kv_head, int *out, int *n) {
    const vlci_keep *own = &p->now.own[layer * p->kernels->shape.kv_heads + kv_head];
    *n = own->kept;
    if (!p->applied) return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d was not compacted", layer);
    if (p->coding) {
        *n = vlci_coding_kept(p->coding);
        vlci_coding_positions(p->coding, out);
        return VLCACHE_OK;
    }
    for (int i = 0; i < *n && !vlci_compress_shrinks(&p->recipe); i++) out[i] = i;
    if (!vlci_compress_shrinks(&p->recipe)) return VLCACHE_OK;
    return vlci_read(p->kernels->device, p->now.positions, (size_t)own->first * sizeof(cl_int), out,
                     (size_t)own->kept * sizeof(cl_int));
}

/* Quantised rows are all that is kept of a prompt. */
static void add_quants(const vlci_compress *p, vlcache_compress_stats *out) {
    if (p->quantising) {
        const vlci_quants_bytes *bytes = &p->quantising->bytes;
        out->bits =
            (double)(p->quantising->key_bits + p->quantising->value_bits) * p->kernels->shape.head_dim;
        out->bytes_codes = bytes->words;
        out->bytes_scales = bytes->scales;
        out->bytes_biases = bytes->biases;
        out->bytes_tables = bytes->tables;
        out->bytes_kept = vlci_quants_sum(bytes);
    }
}

/* What coded rows take beside the others. */
static void add_codes(const vlci_compress *p, vlcache_compress_stats *out) {
    if (p->coding) {
        const vlci_codes_bytes *bytes = &p->coding->bytes;
        out->bits = vlci_coding_bits(p->coding);
        out->run = out->bits > 0.0 ? p->recipe.run : 0;
        out->bytes_codes = bytes->words;
        out->bytes_text = bytes->text;
        out->bytes_bases = bytes->bases;
        out->bytes_means = bytes->means;
        out->bytes_tables = bytes->tables;
        out->bytes_kept += vlci_codes_sum(bytes);
    }
}

void vlci_compress_stats(const vlci_compress *p, vlcache_compress_stats *out) {
    const vlci_compress_shape *s = &p->kernels->shape;
    uint64_t rows = 0, biases = 0, n = (uint64_t)p->tokens, heads = (uint64_t)s->kv_heads;
    uint64_t row = 2 * (uint64_t)s->head_dim * vlci_dtype_bytes(s->kv_dtype);
    for (int i = 0; i < s->layers * s->kv_heads; i++) {
        const vlci_keep *own = &p->now.own[i];
        rows += (uint64_t)(own->kept + own->centroids);
        if (own->centroids) biases += (uint64_t)(own->kept + own->centroids);
    }
    *out = (vlcache_compress_stats){
        .layers = s->layers,
        .kv_heads = s->kv_heads,
        .tokens = p->tokens,
        .tau = p->tau,
        .fallback = p->fallback,
        .deferred = p->decoded,
        .budget_asked = p->recipe.budget,
        .bytes_full = n * (uint64_t)s->layers * heads * row,
        .bytes_kept = rows * row + biases * sizeof(cl_float),
        .bytes_peak = vlci_memory_peak(p->kernels->device),
    };
    if (p->recipe.coded) add_codes(p, out);
    if (p->recipe.quantised) add_quants(p, out);
    out->budget_kept = (double)out->bytes_kept / (double)out->bytes_full;
}
