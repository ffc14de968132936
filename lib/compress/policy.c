/*
 * policy.c - which policies there are, what options they accept, and the plan of one prefill.
 *
 * A policy is a row: how budgets are shared over layers, what tokens are scored by, how scores are pooled,
 * and when the cache is compressed.
 */
#include <stdio.h>
#include <string.h>

#include "compress/compress.h"
#include "core/alloc.h"

static const vlci_policy policies[] = {
    {"vlcache", VLCI_ALLOCATE_SPARSITY, VLCI_SCORE_POST_VISION, VLCI_POOL_NONE, VLCI_WHEN_PREFILL},
    {"full", VLCI_ALLOCATE_ALL, VLCI_SCORE_NONE, VLCI_POOL_NONE, VLCI_WHEN_NEVER},
};
#define N_POLICIES (sizeof policies / sizeof *policies)

const char *vlcache_policy_name(size_t index) {
    return index < N_POLICIES ? policies[index].name : NULL;
}

vlcache_status vlci_policy_find(const char *name, const vlci_policy **out) {
    *out = NULL;
    if (!name) name = "vlcache";
    char names[256] = "";
    for (size_t i = 0, used = 0; i < N_POLICIES; i++) {
        if (strcmp(policies[i].name, name) == 0) {
            *out = &policies[i];
            return VLCACHE_OK;
        }
        int wrote = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", policies[i].name);
        used += wrote > 0 && (size_t)wrote < sizeof names - used ? (size_t)wrote : 0;
    }
    return vlci_fail(VLCACHE_E_ARGUMENT, "compress: policy: \"%.64s\" is unknown: use one of %s", name,
                     names);
}

/* Negated comparisons, so that NaN is refused too. */
vlcache_status vlcache_compress_check(const vlcache_compress_options *o) {
    if (!o) return vlci_fail(VLCACHE_E_ARGUMENT, "compress: options: is NULL");
    if (o->size != sizeof *o)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "compress: size: is %zu, must be %zu: start from VLCACHE_COMPRESS_OPTIONS_INIT",
                         o->size, sizeof *o);
    const vlci_policy *policy = NULL;
    vlcache_status status = vlci_policy_find(o->policy, &policy);
    if (status || policy->when == VLCI_WHEN_NEVER) return status;
    if (!(o->budget > 0.0 && o->budget <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: budget: is %g, must be above 0 and at most 1",
                         o->budget);
    if (!(o->threshold >= 0.0 && o->threshold <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: threshold: is %g, must be from 0 to 1", o->threshold);
    if (!(o->recent >= 0.0 && o->recent <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: recent: is %g, must be from 0 to 1", o->recent);
    return VLCACHE_OK;
}

static vlcache_status check_shape(const vlci_compress_shape *s, const int *tokens, const int *text) {
    if (s->layers < 1 || s->batch < 1 || s->kv_heads < 1 || s->head_dim < 1 || s->heads < s->kv_heads ||
        s->heads % s->kv_heads != 0)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "compress: shape: %d layers, batch %d, %d heads over %d kv heads of %d", s->layers,
                         s->batch, s->heads, s->kv_heads, s->head_dim);
    for (int b = 0; b < s->batch; b++)
        if (tokens[b] < 1 || text[b] < 0 || text[b] > tokens[b])
            return vlci_fail(VLCACHE_E_ARGUMENT,
                             "compress: sequence %d: %d tokens after the last visual one in a prompt of %d",
                             b, text[b], tokens[b]);
    return VLCACHE_OK;
}

static vlcache_status create_host(vlci_compress *p, const int *tokens, const int *text) {
    size_t batch = (size_t)p->shape.batch, layers = (size_t)p->shape.layers;
    p->tokens = vlci_calloc(batch, sizeof *p->tokens);
    p->tau = vlci_calloc(batch, sizeof *p->tau);
    p->fallback = vlci_calloc(batch, sizeof *p->fallback);
    p->layer = vlci_calloc(batch * layers, sizeof *p->layer);
    p->score = vlci_calloc(layers, sizeof *p->score);
    p->kept = vlci_calloc(layers, sizeof *p->kept);
    if (!p->tokens || !p->tau || !p->fallback || !p->layer || !p->score || !p->kept)
        return vlci_fail_memory("compression plan");
    for (int b = 0; b < p->shape.batch; b++) {
        p->tokens[b] = tokens[b];
        p->tau[b] = vlci_sparsity_rows(tokens[b], text[b], &p->fallback[b]);
        if (tokens[b] > p->max_tokens) p->max_tokens = tokens[b];
        if (p->tau[b] > p->max_tau) p->max_tau = p->tau[b];
    }
    return VLCACHE_OK;
}

static vlcache_status create_device(vlci_compress *p) {
    size_t batch = (size_t)p->shape.batch, rows = batch * (size_t)p->shape.heads,
           layers = (size_t)p->shape.layers;
    size_t tiles = (size_t)vlci_score_tiles(p->max_tokens);
    struct {
        size_t bytes;
        const char *what;
        cl_mem *memory;
    } wanted[] = {
        {batch * sizeof(cl_int), "compression: prompt lengths", &p->tokens_on},
        {batch * sizeof(cl_int), "compression: observed rows", &p->tau_on},
        {layers * batch * sizeof(cl_int), "compression: budgets", &p->kept_on},
        {layers * batch * sizeof(cl_int), "compression: recent rows", &p->recent_on},
        {rows * tiles * sizeof(cl_uint), "compression: partial counts", &p->partial},
        {layers * rows * sizeof(cl_ulong), "compression: counts", &p->counts},
    };
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !status; i++)
        status = vlci_memory_create(p->device, wanted[i].bytes, wanted[i].what, wanted[i].memory);
    if (!status) status = vlci_write(p->device, p->tokens_on, 0, p->tokens, batch * sizeof(cl_int));
    if (!status) status = vlci_write(p->device, p->tau_on, 0, p->tau, batch * sizeof(cl_int));
    return status;
}

vlcache_status vlci_compress_create(vlcache_device *device, const vlcache_compress_options *options,
                                    const vlci_compress_shape *shape, const int *tokens, const int *text,
                                    vlci_compress **out) {
    *out = NULL;
    vlci_compress *p = NULL;
    const vlci_policy *policy = NULL;
    vlcache_status status = vlcache_compress_check(options);
    if (!status) status = vlci_policy_find(options->policy, &policy);
    if (status || policy->when == VLCI_WHEN_NEVER) return status;
    status = check_shape(shape, tokens, text);
    if (status) return status;
    p = vlci_calloc(1, sizeof *p);
    if (!p) return vlci_fail_memory("compression plan");
    p->device = device;
    p->policy = policy;
    p->options = *options;
    p->options.policy = policy->name;
    p->shape = *shape;
    status = create_host(p, tokens, text);
    if (!status) status = create_device(p);
    if (status)
        vlci_compress_destroy(&p);
    else
        *out = p;
    return status;
}

void vlci_compress_stats(const vlci_compress *p, int sequence, vlcache_compress_stats *out) {
    const vlci_compress_shape *s = &p->shape;
    uint64_t rows = 0, n = (uint64_t)p->tokens[sequence];
    uint64_t row_bytes = (uint64_t)s->kv_heads * (uint64_t)s->head_dim * 2 * vlci_dtype_bytes(s->kv_dtype);
    for (int l = 0; l < s->layers; l++) rows += (uint64_t)vlci_compress_kept(p, l, sequence);
    *out = (vlcache_compress_stats){
        .layers = s->layers,
        .kv_heads = s->kv_heads,
        .tokens = p->tokens[sequence],
        .tau = p->tau[sequence],
        .fallback = p->fallback[sequence],
        .budget_asked = p->options.budget,
        .budget_kept = (double)rows / ((double)n * s->layers),
        .bytes_full = n * (uint64_t)s->layers * row_bytes,
        .bytes_kept = rows * row_bytes,
        .bytes_peak = vlci_memory_peak(p->device),
    };
}

void vlci_compress_destroy(vlci_compress **plan) {
    if (!plan || !*plan) return;
    vlci_compress *p = *plan;
    for (int l = 0; l < p->shape.layers; l++) {
        if (p->score) vlci_memory_release(p->device, &p->score[l]);
        if (p->kept) vlci_memory_release(p->device, &p->kept[l]);
    }
    cl_mem *memory[] = {&p->tokens_on, &p->tau_on, &p->kept_on, &p->recent_on, &p->partial, &p->counts};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(p->device, memory[i]);
    vlci_free(p->tokens);
    vlci_free(p->tau);
    vlci_free(p->fallback);
    vlci_free(p->layer);
    vlci_free(p->score);
    vlci_free(p->kept);
    vlci_free(p);
    *plan = NULL;
}
