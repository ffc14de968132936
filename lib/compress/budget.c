/*
 * budget.c - how many rows each layer keeps.
 *
 *     density(l) = 1 - sparsity(l)
 *     sparse(l)  = clip(density(l) / sum density * alpha * L, 0.01, 1)
 *     beta(l)    = uniform * alpha + (1 - uniform) * sparse(l)             mixed: uniform 1, sparsity 0
 *                = alpha * (top + (bottom - top) * l / (L - 1))            pyramid: bottom 1/20, top 2 - 1/20
 *     n(l)       = clamp(round(beta(l) * N), 1, N) = kept(l) + centroids(l)
 *     recent(l)  = max(1, round(recent * n(l)))
 *
 * In: the sparsity of each layer. Out: its budget. Runs on the host: these are L numbers.
 */
#include <math.h>

#include "compress/compress.h"
#include "core/alloc.h"

#define PYRAMID_BETA 20.0 /* the last layer keeps 1/20 of the mean */

static double clip(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

static int share(double part, int whole, int low, int high) {
    return (int)clip(floor(part * whole + 0.5), low, high);
}

static double mixed(const vlci_recipe *r, double sparsity, double density_sum, int layers) {
    if (r->uniform >= 1.0) return r->budget;
    double part = density_sum > 0.0 ? (1.0 - sparsity) / density_sum : 1.0 / layers;
    return r->uniform * r->budget + (1.0 - r->uniform) * clip(part * r->budget * layers, 0.01, 1.0);
}

/* No layer keeps more than there is: what the first cannot take goes to the last. */
static double pyramid(const vlci_recipe *r, int layer, int layers) {
    double top = fmin(2.0 - 1.0 / PYRAMID_BETA, 1.0 / r->budget), bottom = 2.0 - top;
    return layers < 2 ? r->budget : r->budget * (top + (bottom - top) * layer / (layers - 1));
}

static void divide(const vlci_recipe *r, int tokens, vlcache_compress_layer *at) {
    int n = share(at->budget, tokens, 1, tokens);
    at->recent = share(r->recent, n, 1, n);
    at->centroids = n < tokens ? share(r->centroids, n, 0, n - at->recent) : 0;
    at->kept = n - at->centroids;
    if (r->scoring == VLCI_SCORE_NONE) at->recent = r->sinks < at->kept ? at->kept - r->sinks : 1;
    at->sinks = r->sinks < at->kept - at->recent ? r->sinks : at->kept - at->recent;
}

void vlci_budget_share(const vlci_recipe *recipe, int tokens, int layers, int stride,
                       vlcache_compress_layer *layer) {
    double density_sum = 0.0;
    for (int l = 0; l < layers; l++) density_sum += 1.0 - layer[l * stride].sparsity;
    for (int l = 0; l < layers; l++) {
        vlcache_compress_layer *at = &layer[l * stride];
        at->budget = recipe->budget >= 1.0 ? 1.0
                     : recipe->allocation == VLCI_ALLOCATE_PYRAMID
                         ? pyramid(recipe, l, layers)
                         : mixed(recipe, at->sparsity, density_sum, layers);
        divide(recipe, tokens, at);
    }
}

/* counts: [layers][batch][heads], or NULL: not measured. */
static void share_sequences(vlci_compress *p, const uint64_t *counts) {
    const vlci_compress_shape *s = &p->shape;
    for (int b = 0; b < s->batch; b++) {
        uint64_t entries = counts ? vlci_sparsity_entries(&p->seen->rows, b) : 0;
        for (int l = 0; l < s->layers; l++) {
            size_t at = (size_t)l * (size_t)s->batch + (size_t)b;
            p->layer[at].sparsity =
                counts ? vlci_sparsity_mean(counts + at * (size_t)s->heads, s->heads, entries) : (double)NAN;
        }
        vlci_budget_share(&p->recipe, p->tokens[b], s->layers, s->batch, p->layer + b);
    }
}

/* One number of every layer and sequence, for the kernels. */
static vlcache_status upload(vlci_compress *p, size_t member, cl_mem to) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.batch;
    cl_int *numbers = vlci_alloc(n, sizeof *numbers);
    if (!numbers) return vlci_fail_memory("compression budgets");
    for (size_t i = 0; i < n; i++) numbers[i] = *(const int *)((const char *)&p->layer[i] + member);
    vlcache_status status = vlci_write(p->device, to, 0, numbers, n * sizeof *numbers);
    vlci_free(numbers);
    return status;
}

vlcache_status vlci_compress_plan(vlci_compress *p) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.batch * (size_t)p->shape.heads;
    uint64_t *counts = NULL;
    vlcache_status status = VLCACHE_OK;
    if (p->seen && p->seen->observed < p->shape.layers)
        return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d was not observed", p->seen->observed);
    if (p->seen && p->seen->counts_rows) {
        counts = vlci_alloc(n, sizeof *counts);
        status = counts ? vlci_read(p->device, p->seen->counts, 0, counts, n * sizeof *counts)
                        : vlci_fail_memory("compression counts");
    }
    if (!status) share_sequences(p, counts);
    if (!status) status = upload(p, offsetof(vlcache_compress_layer, kept), p->kept_on);
    if (!status) status = upload(p, offsetof(vlcache_compress_layer, recent), p->recent_on);
    if (!status) status = upload(p, offsetof(vlcache_compress_layer, centroids), p->centroids_on);
    p->planned = !status;
    vlci_free(counts);
    return status;
}
