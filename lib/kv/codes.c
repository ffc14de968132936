/*
 * codes.c - memory of rows in few bits, and who owns it.
 */
#include "kv/codes.h"

#include "core/alloc.h"

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
    return (vlci_codes_bytes){.words = (uint64_t)c->n_words * sizeof(cl_uint),
                              .text = n_matrices(c) * (uint64_t)c->texts * (dim + sizeof(cl_float)),
                              .bases = (uint64_t)c->dims * (dim + sizeof(cl_float)),
                              .means = n_matrices(c) * dim * sizeof(cl_half),
                              .tables = n_matrices(c) * sizeof(vlci_code_matrix) +
                                        (uint64_t)c->runs * dim * sizeof(cl_float) + patterns_bytes(c) +
                                        pattern_bytes(c)};
}

static vlcache_status allocate(vlci_codes *c) {
    size_t dim = (size_t)c->head_dim, dims = (size_t)c->dims, texts = n_matrices(c) * (size_t)c->texts;
    vlcache_device *device = c->device;
    vlcache_status status = vlci_memory_create(device, n_matrices(c) * sizeof(vlci_code_matrix),
                                               "coded rows: matrices", &c->matrix);
    if (!status)
        status =
            vlci_memory_create(device, n_matrices(c) * dim * sizeof(cl_half), "coded rows: means", &c->mean);
    if (!status) status = vlci_memory_create(device, dims * dim, "coded rows: bases", &c->basis);
    if (!status)
        status = vlci_memory_create(device, dims * sizeof(cl_float), "coded rows: steps", &c->factor);
    if (!status) status = vlci_memory_create(device, c->n_words * sizeof(cl_uint), "coded rows", &c->words);
    if (!status) status = vlci_memory_create(device, texts * dim, "coded rows: text", &c->text);
    if (!status)
        status = vlci_memory_create(device, texts * sizeof(cl_float), "coded rows: scales", &c->scale);
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

vlcache_status vlci_codes_create(const vlci_codes *shape, vlci_codes **out) {
    *out = NULL;
    vlci_codes *c = vlci_alloc(1, sizeof *c);
    if (!c) return vlci_fail_memory("coded rows");
    *c = *shape;
    c->references = 1;
    c->before = NULL;
    c->matrix = c->mean = c->basis = c->factor = c->words = c->text = c->scale = c->phase = c->within =
        c->pattern = NULL;
    vlcache_status status = allocate(c);
    if (status)
        vlci_codes_release(&c);
    else
        *out = c;
    return status;
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
        vlci_free(c);
        c = before;
    }
}

uint64_t vlci_codes_all_bytes(const vlci_codes *codes) {
    uint64_t bytes = 0;
    for (; codes; codes = codes->before) {
        vlci_codes_bytes own = vlci_codes_count(codes);
        bytes += vlci_codes_sum(&own);
    }
    return bytes;
}
