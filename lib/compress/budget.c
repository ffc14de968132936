/*
 * budget.c - how many rows each layer keeps, and each kv head of it.
 *
 *     density(l) = 1 - sparsity(l)
 *     sparse(l)  = clip(density(l) / sum density * alpha * L, 0.01, 1)
 *                = clip(c density(l), min(0.01, alpha), 1)       strict, where those come to more than alpha
 *                                                                in the mean: c such that it is alpha
 *     beta(l)    = uniform * alpha + (1 - uniform) * sparse(l)             mixed: uniform 1, sparsity 0
 *                = alpha * (top + (bottom - top) * l / (L - 1))            pyramid: bottom 1/20, top 2 - 1/20
 *                = min(1, c s(l)),  c such that the mean is alpha          layers: s as given
 *     n(l)       = clamp(round(beta(l) * N), 1, N) = kept(l) + centroids(l)
 *     recent(l)  = max(1, round(recent * n(l)))                            0 where recent < 0: no row is
 *
 * N of the candidates: tokens that are none are kept beside n(l).
 *
 * In: the sparsity of each layer. Out: its budget. Runs on the host: these are L numbers.
 */
#include "compress/budget.h"

#include <math.h>
#include <stdlib.h>

#include "core/alloc.h"

#define PYRAMID_BETA 20.0 /* the last layer keeps 1/20 of the mean */

static double clip(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

static int share(double part, int whole, int low, int high) {
    return (int)clip(floor(part * whole + 0.5), low, high);
}

vlci_recipe vlci_budget_rows(const vlci_recipe *r, size_t row_bytes) {
    vlci_recipe rows = *r;
    if (r->centroids > 0.0 && r->budget < 1.0)
        rows.budget *= (double)row_bytes / (double)(row_bytes + sizeof(float));
    return rows;
}

double vlci_budget_least(const vlci_recipe *r) {
    return r->least > 0.0 ? r->least : 0.01;
}

/* What layers are dense together, and what their shares are scaled by. */
typedef struct density {
    double sum, scale;
    int layers;
} density;

static double sparse(const vlci_recipe *r, double sparsity, const density *all) {
    double part = all->sum > 0.0 ? (1.0 - sparsity) / all->sum : 1.0 / all->layers;
    double least = vlci_budget_least(r);
    if (r->strict) least = fmin(least, r->budget);
    return clip(all->scale * part * r->budget * all->layers, least, 1.0);
}

static double mixed(const vlci_recipe *r, double sparsity, const density *all) {
    if (r->uniform >= 1.0) return r->budget;
    return r->uniform * r->budget + (1.0 - r->uniform) * sparse(r, sparsity, all);
}

static bool fits(const vlci_recipe *r, const vlcache_compress_layer *layer, const density *all) {
    double sum = 0.0;
    for (int l = 0; l < all->layers; l++) sum += sparse(r, layer[l].sparsity, all);
    return sum <= r->budget * all->layers * (1.0 + 1e-12);
}

/* What sparse layers keep by their least, others keep less. */
static void fit(const vlci_recipe *r, const vlcache_compress_layer *layer, density *all) {
    enum { STEPS = 50 };
    double low = 0.0, high = 1.0;
    if (!r->strict || fits(r, layer, all)) return;
    for (int i = 0; i < STEPS; i++) {
        all->scale = (low + high) / 2.0;
        *(fits(r, layer, all) ? &low : &high) = all->scale;
    }
    all->scale = low;
}

/* No layer keeps more than there is: what the first cannot take goes to the last. */
static double pyramid(const vlci_recipe *r, int layer, int layers) {
    double top = fmin(2.0 - 1.0 / PYRAMID_BETA, 1.0 / r->budget), bottom = 2.0 - top;
    return layers < 2 ? r->budget : r->budget * (top + (bottom - top) * layer / (layers - 1));
}

/* c of the shares: what layers that are full cannot take goes to the others. */
static double scale_of(const vlci_recipe *r, int layers) {
    double c = 0.0, before;
    do {
        double left = r->budget * layers, rest = 0.0;
        before = c;
        for (int l = 0; l < layers; l++) {
            bool full = c * r->shares[l] >= 1.0;
            left -= full ? 1.0 : 0.0;
            rest += full ? 0.0 : r->shares[l];
        }
        if (rest > 0.0 && left > 0.0) c = fmax(c, left / rest);
    } while (c > before);
    return c;
}

static void divide(const vlci_recipe *r, int tokens, int spared, vlcache_compress_layer *at) {
    int candidates = tokens - spared, n = candidates ? share(at->budget, candidates, 1, candidates) : 0;
    at->recent = r->recent < 0 || !n ? 0 : share(r->recent, n, 1, n);
    at->centroids = n < candidates ? share(r->centroids, n, 0, n - at->recent) : 0;
    int kept = n - at->centroids;
    if (r->scoring == VLCI_SCORE_NONE) at->recent = r->sinks < kept ? kept - r->sinks : 1;
    at->sinks = r->sinks < kept - at->recent ? r->sinks : kept - at->recent;
    at->kept = kept + spared;
}

void vlci_budget_share(const vlci_recipe *recipe, int tokens, int spared, int layers, int all,
                       vlcache_compress_layer *layer) {
    density dense = {.scale = 1.0, .layers = all};
    double scale = recipe->allocation == VLCI_ALLOCATE_LAYERS ? scale_of(recipe, all) : 0.0;
    for (int l = 0; l < layers; l++) dense.sum += 1.0 - layer[l].sparsity;
    if (layers == all && vlci_policy_measures(recipe)) fit(recipe, layer, &dense);
    for (int l = 0; l < layers; l++) {
        vlcache_compress_layer *at = &layer[l];
        at->budget = recipe->budget >= 1.0                         ? 1.0
                     : recipe->allocation == VLCI_ALLOCATE_LAYERS  ? fmin(1.0, scale * recipe->shares[l])
                     : recipe->allocation == VLCI_ALLOCATE_PYRAMID ? pyramid(recipe, l, all)
                                                                   : mixed(recipe, at->sparsity, &dense);
        divide(recipe, tokens, spared, at);
    }
}

/* ---- heads --------------------------------------------------------------------------------------------- */

void vlci_budget_even(const vlcache_compress_layer *layer, int kv_heads, vlci_keep *out) {
    for (int h = 0; h < kv_heads; h++) {
        out[h].kept = layer->kept;
        out[h].recent = layer->recent;
        out[h].sinks = layer->sinks;
        out[h].centroids = layer->centroids;
    }
}

/* A row that may be kept beyond what its head is sure of. */
typedef struct candidate {
    float score;
    int head, position;
} candidate;

static int better_first(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    bool no_a = isnan(a->score), no_b = isnan(b->score);
    if (no_a != no_b) return no_a - no_b;
    if (!no_a && a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->head != b->head ? a->head - b->head : a->position - b->position;
}

/* The rows of a head that are neither sinks nor recent, best first. */
static void list_head(const vlcache_compress_layer *layer, int tokens, const float *score, int head,
                      candidate *out) {
    int n = 0;
    for (int j = layer->sinks; j < tokens - layer->recent; j++)
        out[n++] = (candidate){score[(size_t)head * (size_t)tokens + (size_t)j], head, j};
    qsort(out, (size_t)n, sizeof *out, better_first);
}

vlcache_status vlci_budget_adapt(const vlcache_compress_layer *layer, double floor_share, int tokens,
                                 const float *score, int kv_heads, vlci_keep *out) {
    int open = tokens - layer->sinks - layer->recent, fixed = layer->sinks + layer->recent;
    int sure = share(floor_share, layer->kept, fixed, layer->kept) - fixed, n = 0;
    size_t all = (size_t)kv_heads * (size_t)(open > 0 ? open : 0) + 1;
    candidate *list = vlci_alloc(all, sizeof *list);
    if (!list) return vlci_fail_memory("budgets of heads");
    vlci_budget_even(layer, kv_heads, out);
    for (int h = 0; h < kv_heads; h++) {
        list_head(layer, tokens, score, h, list + n);
        for (int i = sure; i < open; i++) list[n + i - sure] = list[n + i];
        n += open - sure;
        out[h].kept = fixed + sure;
    }
    qsort(list, (size_t)n, sizeof *list, better_first);
    int left = kv_heads * (layer->kept - fixed - sure);
    for (int i = 0; i < left && i < n; i++) out[list[i].head].kept++;
    for (int h = 0; h < kv_heads; h++)
        if (tokens - out[h].kept <= out[h].centroids) out[h].centroids = 0; /* too few rows to stand for */
    vlci_free(list);
    return VLCACHE_OK;
}
