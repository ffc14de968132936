/*
 * plan.c - the plan of one prefill: made before the walk, asked after it.
 *
 * In: a recipe, a batch of prompts. Out: which rows to look at, and room for budgets and choices.
 */
#include <math.h>
#include <string.h>

#include "compress/compress.h"
#include "core/alloc.h"

static vlcache_status check_shape(const vlci_compress_shape *s, const vlci_compress_prompt *prompt) {
    if (s->layers < 1 || s->batch < 1 || s->kv_heads < 1 || s->head_dim < 1 || s->heads < s->kv_heads ||
        s->heads % s->kv_heads != 0)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "compress: shape: %d layers, batch %d, %d heads over %d kv heads of %d", s->layers,
                         s->batch, s->heads, s->kv_heads, s->head_dim);
    for (int b = 0; b < s->batch; b++)
        if (prompt->tokens[b] < 1 || prompt->text[b] < 0 || prompt->text[b] > prompt->tokens[b])
            return vlci_fail(VLCACHE_E_ARGUMENT,
                             "compress: sequence %d: %d tokens of text behind a picture in a prompt of %d", b,
                             prompt->text[b], prompt->tokens[b]);
    return VLCACHE_OK;
}

/* ---- rows to look at ----------------------------------------------------------------------------------- */

static bool same(const vlci_scores *s, int batch, const vlci_rows *rows, double threshold) {
    return s && vlci_rows_equal(&s->rows, rows, batch) && (!s->counts_rows || s->threshold == threshold);
}

static vlcache_status find_scores(vlci_compress *p, const vlci_compress_prompt *prompt,
                                  vlci_compress *const *others, size_t n_others) {
    int batch = p->shape.batch;
    double threshold = p->recipe.threshold;
    vlci_rows rows;
    vlcache_status status = vlci_rows_create(&p->recipe, prompt, batch, &rows);
    if (status) return status;
    for (size_t i = 0; i < n_others && !p->seen; i++)
        if (others[i] && same(others[i]->seen, batch, &rows, threshold)) p->seen = others[i]->seen;
    if (p->seen)
        p->seen->references++;
    else if (rows.start[batch])
        status = vlci_scores_create(p->device, &p->shape, prompt, &rows, threshold, &p->seen);
    vlci_rows_release(&rows);
    return status;
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static size_t n_lengths(const vlci_compress *p) {
    return (size_t)p->shape.layers * (size_t)p->shape.batch * (size_t)p->shape.kv_heads;
}

static vlcache_status create_host(vlci_compress *p, const vlci_compress_prompt *prompt) {
    size_t batch = (size_t)p->shape.batch, layers = (size_t)p->shape.layers;
    p->tokens = vlci_calloc(batch, sizeof *p->tokens);
    p->tau = vlci_calloc(batch, sizeof *p->tau);
    p->fallback = vlci_calloc(batch, sizeof *p->fallback);
    p->layer = vlci_calloc(batch * layers, sizeof *p->layer);
    p->kept = vlci_calloc(layers, sizeof *p->kept);
    p->before = vlci_calloc(n_lengths(p), sizeof *p->before);
    if (!p->tokens || !p->tau || !p->fallback || !p->layer || !p->kept || !p->before)
        return vlci_fail_memory("compression plan");
    if (prompt->past) memcpy(p->before, prompt->past, n_lengths(p) * sizeof *p->before);
    for (int b = 0; b < p->shape.batch; b++) {
        p->tokens[b] = prompt->tokens[b];
        p->tau[b] = vlci_sparsity_rows(prompt->tokens[b], prompt->text[b], &p->fallback[b]);
        if (p->tokens[b] > p->max_tokens) p->max_tokens = p->tokens[b];
    }
    return VLCACHE_OK;
}

static vlcache_status create_device(vlci_compress *p, const vlci_compress_prompt *prompt) {
    size_t batch = (size_t)p->shape.batch, layers = (size_t)p->shape.layers;
    size_t n_grids = p->recipe.pooling == VLCI_POOL_GRID ? (size_t)prompt->n_grids : 0;
    struct {
        size_t bytes;
        const char *what;
        cl_mem *memory;
        const void *values; /* NULL: written later, or zeros */
    } wanted[] = {
        {batch * sizeof(cl_int), "compression: prompt lengths", &p->tokens_on, p->tokens},
        {n_lengths(p) * sizeof(cl_int), "compression: earlier rows", &p->before_on, p->before},
        {layers * batch * sizeof(cl_int), "compression: budgets", &p->kept_on, NULL},
        {layers * batch * sizeof(cl_int), "compression: recent rows", &p->recent_on, NULL},
        {layers * batch * sizeof(cl_int), "compression: centroids", &p->centroids_on, NULL},
        {n_grids * sizeof *prompt->grids, "compression: token grids", &p->grids_on, prompt->grids},
    };
    vlcache_status status = VLCACHE_OK;
    p->n_grids = (int)n_grids;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !status; i++) {
        status = vlci_memory_create(p->device, wanted[i].bytes, wanted[i].what, wanted[i].memory);
        if (status || !wanted[i].bytes) continue;
        status = wanted[i].values
                     ? vlci_write(p->device, *wanted[i].memory, 0, wanted[i].values, wanted[i].bytes)
                     : vlci_fill(p->device, *wanted[i].memory, 0, wanted[i].bytes, 0);
    }
    return status;
}

vlcache_status vlci_compress_create(vlcache_device *device, const vlci_recipe *recipe,
                                    const vlci_compress_shape *shape, const vlci_compress_prompt *prompt,
                                    vlci_compress *const *others, size_t n_others, vlci_compress **out) {
    *out = NULL;
    if (!recipe->compresses) return VLCACHE_OK;
    vlcache_status status = check_shape(shape, prompt);
    if (status) return status;
    vlci_compress *p = vlci_calloc(1, sizeof *p);
    if (!p) return vlci_fail_memory("compression plan");
    p->device = device;
    p->recipe = *recipe;
    p->shape = *shape;
    status = create_host(p, prompt);
    if (!status) status = create_device(p, prompt);
    if (!status) status = find_scores(p, prompt, others, n_others);
    if (!status) status = vlci_compress_build(p);
    if (status)
        vlci_compress_destroy(&p);
    else
        *out = p;
    return status;
}

/* ---- what it came to ----------------------------------------------------------------------------------- */

static const vlcache_compress_layer *layer_of(const vlci_compress *p, int layer, int sequence) {
    return &p->layer[layer * p->shape.batch + sequence];
}

int vlci_compress_kept(const vlci_compress *p, int layer, int sequence) {
    return layer_of(p, layer, sequence)->kept;
}

int vlci_compress_rows(const vlci_compress *p, int layer, int sequence) {
    const vlcache_compress_layer *l = layer_of(p, layer, sequence);
    return l->kept + l->centroids + p->decoded;
}

static int most(const vlci_compress *p, int layer, int (*of)(const vlci_compress *, int, int)) {
    int n = 0;
    for (int b = 0; b < p->shape.batch; b++) {
        int rows = of(p, layer, b);
        if (rows > n) n = rows;
    }
    return n;
}

int vlci_compress_kept_rows(const vlci_compress *p, int layer) {
    return most(p, layer, vlci_compress_kept);
}

int vlci_compress_most_rows(const vlci_compress *p, int layer) {
    return most(p, layer, vlci_compress_rows);
}

void vlci_compress_stats(const vlci_compress *p, int sequence, vlcache_compress_stats *out) {
    const vlci_compress_shape *s = &p->shape;
    uint64_t rows = 0, biases = 0, n = (uint64_t)p->tokens[sequence], heads = (uint64_t)s->kv_heads;
    uint64_t row_bytes = heads * (uint64_t)s->head_dim * 2 * vlci_dtype_bytes(s->kv_dtype);
    for (int l = 0; l < s->layers; l++) {
        const vlcache_compress_layer *at = layer_of(p, l, sequence);
        rows += (uint64_t)(at->kept + at->centroids);
        if (at->centroids) biases += (uint64_t)(at->kept + at->centroids);
    }
    *out = (vlcache_compress_stats){
        .layers = s->layers,
        .kv_heads = s->kv_heads,
        .tokens = p->tokens[sequence],
        .tau = p->tau[sequence],
        .fallback = p->fallback[sequence],
        .deferred = p->decoded,
        .budget_asked = p->recipe.budget,
        .budget_kept = (double)rows / ((double)n * s->layers),
        .bytes_full = n * (uint64_t)s->layers * row_bytes,
        .bytes_kept = rows * row_bytes + biases * heads * sizeof(cl_float),
        .bytes_peak = vlci_memory_peak(p->device),
    };
}

void vlci_compress_destroy(vlci_compress **plan) {
    if (!plan || !*plan) return;
    vlci_compress *p = *plan;
    for (int l = 0; p->kept && l < p->shape.layers; l++) vlci_memory_release(p->device, &p->kept[l]);
    cl_mem *memory[] = {&p->tokens_on, &p->before_on,    &p->grids_on, &p->kept_on,
                        &p->recent_on, &p->centroids_on, &p->merged,   &p->pooled,
                        &p->evicted,   &p->labels,       &p->means,    &p->distances};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(p->device, memory[i]);
    vlci_scores_release(&p->seen);
    vlci_free(p->tokens);
    vlci_free(p->tau);
    vlci_free(p->fallback);
    vlci_free(p->layer);
    vlci_free(p->before);
    vlci_free(p->kept);
    vlci_free(p);
    *plan = NULL;
}
