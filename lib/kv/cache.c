/*
 * cache.c - room for keys and values.
 */
#include "kv/cache.h"

#include <string.h>

#include "core/alloc.h"

enum { SPARE = 64 }; /* rows that a growing layer gets beyond what is asked for */

static size_t n_lengths(const vlci_kv *kv) {
    return (size_t)kv->layers * (size_t)kv->batch * (size_t)kv->kv_heads;
}

static size_t buffer_bytes(const vlci_kv *kv, int capacity) {
    return (size_t)kv->batch * (size_t)kv->kv_heads * (size_t)capacity * (size_t)kv->head_dim *
           vlci_dtype_bytes(kv->dtype);
}

static size_t bias_bytes(const vlci_kv *kv, int capacity) {
    return (size_t)kv->batch * (size_t)kv->kv_heads * (size_t)capacity * sizeof(float);
}

vlcache_status vlci_kv_create(vlci_kv *out) {
    size_t batch = (size_t)out->batch;
    out->layer = vlci_calloc((size_t)out->layers, sizeof *out->layer);
    out->length = vlci_calloc(n_lengths(out), sizeof *out->length);
    out->position = vlci_calloc(batch, sizeof *out->position);
    vlcache_status status =
        out->layer && out->length && out->position ? VLCACHE_OK : vlci_fail_memory("KV cache");
    if (!status)
        status = vlci_memory_create(out->device, n_lengths(out) * sizeof(int32_t), "KV lengths", &out->past);
    if (!status) status = vlci_kv_sync(out);
    if (status) vlci_kv_release(out);
    return status;
}

vlcache_status vlci_kv_fork(const vlci_kv *kv, vlci_kv *out) {
    *out = (vlci_kv){.device = kv->device,
                     .layers = kv->layers,
                     .batch = kv->batch,
                     .kv_heads = kv->kv_heads,
                     .head_dim = kv->head_dim,
                     .dtype = kv->dtype};
    vlcache_status status = vlci_kv_create(out);
    if (!status) memcpy(out->position, kv->position, (size_t)kv->batch * sizeof *kv->position);
    return status;
}

static uint64_t layer_bytes(const vlci_kv *kv, const vlci_kv_layer *layer) {
    return 2 * buffer_bytes(kv, layer->capacity) + (layer->bias ? bias_bytes(kv, layer->capacity) : 0);
}

static void release_buffers(vlci_kv *kv, vlci_kv_layer *layer) {
    vlci_memory_release(kv->device, &layer->k);
    vlci_memory_release(kv->device, &layer->v);
    vlci_memory_release(kv->device, &layer->bias);
    layer->capacity = 0;
}

vlcache_status vlci_kv_layer_create(vlci_kv *kv, int capacity, bool bias, vlci_kv_layer *out) {
    size_t bytes = buffer_bytes(kv, capacity), biases = bias_bytes(kv, capacity);
    *out = (vlci_kv_layer){.capacity = capacity};
    vlcache_status status = vlci_memory_create(kv->device, bytes, "KV cache: keys", &out->k);
    if (!status) status = vlci_memory_create(kv->device, bytes, "KV cache: values", &out->v);
    if (!status && bias) status = vlci_memory_create(kv->device, biases, "KV cache: biases", &out->bias);
    if (!status && bias) status = vlci_fill(kv->device, out->bias, 0, biases, 0);
    if (status) {
        release_buffers(kv, out);
        return status;
    }
    kv->bytes += layer_bytes(kv, out);
    if (kv->bytes > kv->peak) kv->peak = kv->bytes;
    return VLCACHE_OK;
}

void vlci_kv_layer_release(vlci_kv *kv, vlci_kv_layer *layer) {
    if (layer->k) kv->bytes -= layer_bytes(kv, layer);
    release_buffers(kv, layer);
}

void vlci_kv_watch(vlci_kv *kv) {
    kv->peak = kv->bytes;
}

/* The rows of each sequence and head move to the start of their new, longer run. */
static vlcache_status move_rows(vlci_kv *kv, const vlci_kv_layer *from, const vlci_kv_layer *to) {
    size_t row = (size_t)kv->head_dim * vlci_dtype_bytes(kv->dtype), run = (size_t)from->capacity * row;
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < (size_t)kv->batch * (size_t)kv->kv_heads && !status; i++) {
        size_t at = i * (size_t)to->capacity * row, biases = (size_t)from->capacity * sizeof(float);
        status = vlci_copy(kv->device, from->k, i * run, to->k, at, run);
        if (!status) status = vlci_copy(kv->device, from->v, i * run, to->v, at, run);
        if (!status && from->bias)
            status = vlci_copy(kv->device, from->bias, i * biases, to->bias,
                               i * (size_t)to->capacity * sizeof(float), biases);
    }
    return status;
}

static vlcache_status grow(vlci_kv *kv, vlci_kv_layer *layer, int capacity) {
    vlci_kv_layer larger;
    vlcache_status status = vlci_kv_layer_create(kv, capacity, layer->bias != NULL, &larger);
    if (!status && layer->k) status = move_rows(kv, layer, &larger);
    vlci_kv_layer *gone = status ? &larger : layer, kept = status ? *layer : larger;
    vlci_kv_layer_release(kv, gone);
    *layer = kept;
    return status;
}

static int longest(const vlci_kv *kv, int layer) {
    int most = 0, n = kv->batch * kv->kv_heads;
    for (int i = 0; i < n; i++) {
        int length = kv->length[layer * n + i];
        if (length > most) most = length;
    }
    return most;
}

vlcache_status vlci_kv_reserve(vlci_kv *kv, int rows) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < kv->layers && !status; i++) {
        vlci_kv_layer *layer = &kv->layer[i];
        int capacity = longest(kv, i) + rows;
        if (capacity > layer->capacity) status = grow(kv, layer, capacity + (layer->k ? SPARE : 0));
    }
    return status;
}

vlcache_status vlci_kv_sync(vlci_kv *kv) {
    return vlci_write(kv->device, kv->past, 0, kv->length, n_lengths(kv) * sizeof(int32_t));
}

void vlci_kv_advance(vlci_kv *kv, const int *rows) {
    for (size_t i = 0; i < n_lengths(kv); i++)
        kv->length[i] += rows[i / (size_t)kv->kv_heads % (size_t)kv->batch];
    for (int b = 0; b < kv->batch; b++) kv->position[b] += rows[b];
}

void vlci_kv_clear(vlci_kv *kv) {
    for (int i = 0; kv->layer && i < kv->layers; i++) vlci_kv_layer_release(kv, &kv->layer[i]);
    if (kv->length) memset(kv->length, 0, n_lengths(kv) * sizeof *kv->length);
    if (kv->position) memset(kv->position, 0, (size_t)kv->batch * sizeof *kv->position);
}

void vlci_kv_release(vlci_kv *kv) {
    vlci_kv_clear(kv);
    vlci_memory_release(kv->device, &kv->past);
    vlci_free(kv->layer);
    vlci_free(kv->length);
    vlci_free(kv->position);
    *kv = (vlci_kv){0};
}
