/*
 * budget.c - how many tokens each layer keeps.
 *
 *     density(l) = 1 - sparsity(l)
 *     beta(l)    = clip(density(l) / sum density * alpha * L, 0.01, 1)
 *     n(l)       = clamp(round(beta(l) * N), 1, N),   recent(l) = max(1, round(recent * n(l)))
 *
 * In: the sparsity of each layer. Out: its budget. Runs on the host: these are L numbers.
 */
#include <math.h>

#include "compress/compress.h"
#include "core/alloc.h"

static double clip(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

void vlci_budget_share(const vlcache_compress_options *options, int tokens, int layers, int stride,
                       vlcache_compress_layer *layer) {
    double total = 0.0;
    for (int l = 0; l < layers; l++) total += 1.0 - layer[l * stride].sparsity;
    for (int l = 0; l < layers; l++) {
        vlcache_compress_layer *at = &layer[l * stride];
        double share = total > 0.0 ? (1.0 - at->sparsity) / total : 1.0 / layers;
        at->budget = options->budget < 1.0 ? clip(share * options->budget * layers, 0.01, 1.0) : 1.0;
        at->kept = (int)clip(floor(at->budget * tokens + 0.5), 1.0, tokens);
        at->recent = (int)clip(floor(options->recent * at->kept + 0.5), 1.0, at->kept);
    }
}

/* counts: [layers][batch][heads]. */
static void share_sequences(vlci_compress *p, const uint64_t *counts) {
    const vlci_compress_shape *s = &p->shape;
    for (int b = 0; b < s->batch; b++) {
        uint64_t entries = vlci_sparsity_entries(p->tokens[b], p->tau[b]);
        for (int l = 0; l < s->layers; l++) {
            size_t at = (size_t)l * (size_t)s->batch + (size_t)b;
            p->layer[at].sparsity = vlci_sparsity_mean(counts + at * (size_t)s->heads, s->heads, entries);
        }
        vlci_budget_share(&p->options, p->tokens[b], s->layers, s->batch, p->layer + b);
    }
}

/* kept and recent of every layer and sequence, for the kernels; `numbers` is room for them. */
static vlcache_status upload(vlci_compress *p, cl_int *numbers) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.batch;
    for (size_t i = 0; i < n; i++) numbers[i] = p->layer[i].kept;
    vlcache_status status = vlci_write(p->device, p->kept_on, 0, numbers, n * sizeof *numbers);
    if (status) return status;
    for (size_t i = 0; i < n; i++) numbers[i] = p->layer[i].recent;
    return vlci_write(p->device, p->recent_on, 0, numbers, n * sizeof *numbers);
}

vlcache_status vlci_compress_plan(vlci_compress *p) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.batch;
    cl_int *numbers = NULL;
    uint64_t *counts = NULL;
    vlcache_status status = VLCACHE_OK;
    for (int l = 0; l < p->shape.layers; l++)
        if (!p->score[l]) return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d was not observed", l);
    counts = vlci_alloc(n * (size_t)p->shape.heads, sizeof *counts);
    numbers = vlci_alloc(n, sizeof *numbers);
    if (!counts || !numbers) {
        status = vlci_fail_memory("compression counts");
        goto done;
    }
    status = vlci_read(p->device, p->counts, 0, counts, n * (size_t)p->shape.heads * sizeof *counts);
    if (status) goto done;
    share_sequences(p, counts);
    status = upload(p, numbers);
    p->planned = !status;
done:
    vlci_free(counts);
    vlci_free(numbers);
    return status;
}

int vlci_compress_kept(const vlci_compress *p, int layer, int sequence) {
    return p->layer[layer * p->shape.batch + sequence].kept;
}

int vlci_compress_rows(const vlci_compress *p, int layer) {
    int most = 0;
    for (int b = 0; b < p->shape.batch; b++) {
        int kept = vlci_compress_kept(p, layer, b);
        if (kept > most) most = kept;
    }
    return most;
}
