/*
 * quants.c - memory of rows in few bits a number, and who owns it.
 */
#include "kv/quants.h"

#include "core/alloc.h"
#include "kv/pool.h"

static size_t n_heads(const vlci_quants *q) {
    return (size_t)q->layers * (size_t)q->kv_heads;
}

static uint64_t words_bytes(const vlci_quants *q, int bits) {
    return (uint64_t)q->blocks * (uint64_t)VLCI_QUANT_WORDS(bits, q->head_dim) * sizeof(cl_uint);
}

static uint64_t key_scales(const vlci_quants *q) {
    return (uint64_t)q->groups * 2 * (uint64_t)q->head_dim * sizeof(cl_half);
}

static uint64_t value_scales(const vlci_quants *q) {
    uint64_t channels = (uint64_t)vlci_quants_channels(q->head_dim, q->group);
    return (uint64_t)q->blocks * channels * 2 * VLCI_CODE_ROWS * sizeof(cl_half);
}

vlci_quants_bytes vlci_quants_count(const vlci_quants *q) {
    return (vlci_quants_bytes){.words = words_bytes(q, q->key_bits) + words_bytes(q, q->value_bits),
                               .scales = key_scales(q) + value_scales(q),
                               .biases =
                                   q->biased ? (uint64_t)q->blocks * VLCI_CODE_ROWS * sizeof(cl_half) : 0,
                               .tables = n_heads(q) * sizeof(vlci_quant_head)};
}

vlci_quant_head vlci_quants_place(vlci_quants *q, int rows) {
    vlci_quant_head at = {rows, q->blocks, q->groups, 0};
    q->blocks += (rows + VLCI_CODE_ROWS - 1) / VLCI_CODE_ROWS;
    q->groups += (rows + q->group - 1) / q->group;
    return at;
}

static vlcache_status place_all(vlci_quants *q, const int *rows) {
    q->own = vlci_alloc(n_heads(q), sizeof *q->own);
    if (!q->own) return vlci_fail_memory("quantised rows");
    q->blocks = q->groups = 0;
    for (size_t i = 0; i < n_heads(q); i++) {
        if (rows[i] > (INT32_MAX - q->blocks) / 2)
            return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: storage: quantised rows of 2^31 blocks");
        q->own[i] = vlci_quants_place(q, rows[i]);
    }
    return VLCACHE_OK;
}

static vlcache_status allocate(vlci_quants *q) {
    vlci_quants_bytes bytes = vlci_quants_count(q);
    const struct {
        const char *name;
        uint64_t bytes;
        cl_mem *memory;
    } all[] = {{"quantised rows: heads", bytes.tables, &q->head},
               {"quantised rows: keys", words_bytes(q, q->key_bits), &q->keys},
               {"quantised rows: values", words_bytes(q, q->value_bits), &q->values},
               {"quantised rows: scales of keys", key_scales(q), &q->key_scale},
               {"quantised rows: scales of values", value_scales(q), &q->value_scale},
               {"quantised rows: biases", bytes.biases, &q->bias}};
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
        if (all[i].bytes)
            status = vlci_memory_create(q->device, (size_t)all[i].bytes, all[i].name, all[i].memory);
    return status ? status : vlci_write_later(q->device, q->head, 0, q->own, (size_t)bytes.tables);
}

vlcache_status vlci_quants_create(const vlci_quants *shape, const int *rows, vlci_quants **out) {
    *out = NULL;
    vlci_quants *q = vlci_alloc(1, sizeof *q);
    if (!q) return vlci_fail_memory("quantised rows");
    *q = *shape;
    q->references = 1;
    q->pool = NULL;
    q->before = NULL;
    q->own = NULL;
    q->head = q->keys = q->values = q->key_scale = q->value_scale = q->bias = NULL;
    vlcache_status status = place_all(q, rows);
    if (!status) status = allocate(q);
    if (status)
        vlci_quants_release(&q);
    else
        *out = q;
    return status;
}

void vlci_quants_count_in(vlci_quants *q, vlci_kv_pool *pool) {
    vlci_quants_bytes bytes = vlci_quants_count(q);
    if (q->pool) return;
    q->pool = pool;
    vlci_kv_pool_count(pool, (int64_t)vlci_quants_sum(&bytes));
}

vlci_quants *vlci_quants_retain(vlci_quants *quants) {
    if (quants) quants->references++;
    return quants;
}

void vlci_quants_release(vlci_quants **handle) {
    vlci_quants *q = *handle;
    *handle = NULL;
    while (q && --q->references == 0) {
        vlci_quants *before = q->before;
        cl_mem *memory[] = {&q->head, &q->keys, &q->values, &q->key_scale, &q->value_scale, &q->bias};
        vlci_quants_bytes bytes = vlci_quants_count(q);
        for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(q->device, memory[i]);
        if (q->pool) vlci_kv_pool_count(q->pool, -(int64_t)vlci_quants_sum(&bytes));
        vlci_free(q->own);
        vlci_free(q);
        q = before;
    }
}

uint64_t vlci_quants_own_bytes(const vlci_quants *quants) {
    uint64_t bytes = 0;
    for (; quants && quants->references == 1; quants = quants->before) {
        vlci_quants_bytes own = vlci_quants_count(quants);
        bytes += vlci_quants_sum(&own);
    }
    return bytes;
}

uint64_t vlci_quants_all_bytes(const vlci_quants *quants) {
    uint64_t bytes = 0;
    for (; quants; quants = quants->before) {
        vlci_quants_bytes own = vlci_quants_count(quants);
        bytes += vlci_quants_sum(&own);
    }
    return bytes;
}
