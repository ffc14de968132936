/*
 * codes.c - memory of rows in few bits, and who owns it.
 */
#include "kv/codes.h"

#include "core/alloc.h"
#include "kv/pool.h"

static size_t n_matrices(const vlci_codes *c) {
    return (size_t)c->layers * (size_t)c->kv_heads * 2;
}

/* What rows have beyond their run's first, and which of it a run has. */
static uint64_t patterns_bytes(const vlci_codes *c) {
    return (uint64_t)c->patterns * (uint64_t)c->head_dim * VLCI_CODE_RUN_MIN * sizeof(cl_float);
}

static uint64_t pattern_bytes(const vlci_codes *c) {
    return c->patterns ? (uint64_t)c->runs * sizeof(cl_int) : 0;
}

vlci_codes_bytes vlci_codes_count(const vlci_codes *c) {
    uint64_t dim = (uint64_t)c->head_dim;
    return (vlci_codes_bytes){
        .words = (uint64_t)c->n_words * sizeof(cl_uint),
        .text = n_matrices(c) * (uint64_t)c->texts *
                (vlci_codes_text_bytes(c->head_dim) + vlci_codes_scale_bytes(c->head_dim)),
        .bases = (uint64_t)c->dims * (dim + sizeof(cl_float)),
        .means = n_matrices(c) * dim * sizeof(cl_half),
        .tables = n_matrices(c) * sizeof(vlci_code_matrix) + (uint64_t)c->runs * dim * sizeof(cl_float) +
                  patterns_bytes(c) + pattern_bytes(c)};
}

/* What is of their own: bits of each dimension, vectors, codes. */
static vlcache_status allocate(vlci_codes *c) {
    size_t dim = (size_t)c->head_dim, dims = (size_t)c->dims;
    vlcache_device *device = c->device;
    vlcache_status status = vlci_memory_create(device, n_matrices(c) * sizeof(vlci_code_matrix),
                                               "coded rows: matrices", &c->matrix);
    if (!status) status = vlci_memory_create(device, dims * dim, "coded rows: bases", &c->basis);
    if (!status)
        status = vlci_memory_create(device, dims * sizeof(cl_float), "coded rows: steps", &c->factor);
    if (!status) status = vlci_memory_create(device, c->n_words * sizeof(cl_uint), "coded rows", &c->words);
    return status;
}

static vlcache_status allocate_text(vlci_codes *c) {
    size_t texts = n_matrices(c) * (size_t)c->texts;
    vlcache_status status = vlci_memory_create(c->device, texts * vlci_codes_text_bytes(c->head_dim),
                                               "coded rows: text", &c->text);
    return status ? status
                  : vlci_memory_create(c->device, texts * vlci_codes_scale_bytes(c->head_dim),
                                       "coded rows: scales", &c->scale);
}

/* What does not depend on bits. */
static vlcache_status allocate_rest(vlci_codes *c) {
    size_t dim = (size_t)c->head_dim;
    vlcache_device *device = c->device;
    vlcache_status status =
        vlci_memory_create(device, n_matrices(c) * dim * sizeof(cl_half), "coded rows: means", &c->mean);
    if (!status) status = allocate_text(c);
    if (!status)
        status = vlci_memory_create(device, (size_t)c->runs * dim * sizeof(cl_float), "coded rows: phases",
                                    &c->phase);
    if (!status && c->patterns)
        status = vlci_memory_create(device, (size_t)patterns_bytes(c), "coded rows: phases within runs",
                                    &c->within);
    if (!status && c->patterns)
        status =
            vlci_memory_create(device, (size_t)pattern_bytes(c), "coded rows: phases of runs", &c->pattern);
    return status;
}

static void count(vlci_codes *c, uint64_t bytes) {
    if (c->pool) vlci_kv_pool_count(c->pool, (int64_t)bytes - (int64_t)c->counted);
    c->counted = bytes;
}

static vlci_codes *make(const vlci_codes *shape) {
    vlci_codes *c = vlci_alloc(1, sizeof *c);
    if (!c) return NULL;
    *c = *shape;
    c->references = 1;
    c->before = NULL;
    c->counted = 0;
    c->matrix = c->mean = c->basis = c->factor = c->words = c->text = c->scale = c->phase = c->within =
        c->pattern = NULL;
    return c;
}

vlcache_status vlci_codes_create(const vlci_codes *shape, vlci_codes **out) {
    *out = NULL;
    vlci_codes *c = make(shape);
    if (!c) return vlci_fail_memory("coded rows");
    vlci_codes_bytes bytes = vlci_codes_count(c);
    vlcache_status status = allocate(c);
    if (!status) status = allocate_rest(c);
    if (!status) count(c, vlci_codes_sum(&bytes));
    if (status)
        vlci_codes_release(&c);
    else
        *out = c;
    return status;
}

static void move(cl_mem *from, cl_mem *to) {
    *to = *from;
    *from = NULL;
}

vlcache_status vlci_codes_narrow(const vlci_codes *shape, vlci_codes *held, vlci_codes **out) {
    *out = NULL;
    vlci_codes *c = make(shape);
    if (!c) return vlci_fail_memory("coded rows");
    vlci_codes_bytes bytes = vlci_codes_count(c), old = vlci_codes_count(held);
    bool cut = c->texts != held->texts;
    vlcache_status status = allocate(c);
    if (!status && cut) status = allocate_text(c);
    if (status) {
        vlci_codes_release(&c);
        return status;
    }
    move(&held->mean, &c->mean);
    if (!cut) move(&held->text, &c->text);
    if (!cut) move(&held->scale, &c->scale);
    move(&held->phase, &c->phase);
    move(&held->within, &c->within);
    move(&held->pattern, &c->pattern);
    count(held, old.words + old.bases + n_matrices(held) * sizeof(vlci_code_matrix) + (cut ? old.text : 0));
    count(c, vlci_codes_sum(&bytes));
    *out = c;
    return VLCACHE_OK;
}

vlci_codes *vlci_codes_retain(vlci_codes *codes) {
    if (codes) codes->references++;
    return codes;
}

void vlci_codes_release(vlci_codes **handle) {
    vlci_codes *c = *handle;
    *handle = NULL;
    while (c && --c->references == 0) {
        vlci_codes *before = c->before;
        cl_mem *memory[] = {&c->matrix, &c->mean,  &c->basis, &c->factor, &c->words,
                            &c->text,   &c->scale, &c->phase, &c->within, &c->pattern};
        for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(c->device, memory[i]);
        count(c, 0);
        vlci_free(c);
        c = before;
    }
}

uint64_t vlci_codes_own_bytes(const vlci_codes *codes) {
    uint64_t bytes = 0;
    for (; codes && codes->references == 1; codes = codes->before) {
        vlci_codes_bytes own = vlci_codes_count(codes);
        bytes += vlci_codes_sum(&own);
    }
    return bytes;
}

uint64_t vlci_codes_all_bytes(const vlci_codes *codes) {
    uint64_t bytes = 0;
    for (; codes; codes = codes->before) {
        vlci_codes_bytes own = vlci_codes_count(codes);
        bytes += vlci_codes_sum(&own);
    }
    return bytes;
}
