/*
 * store.c - rows in the host's memory, and who owns them.
 */
#include "kv/store.h"

#include <string.h>

#include "core/alloc.h"

size_t vlci_store_planes(const vlci_store *s) {
    return 2 * (size_t)s->kv_heads;
}

size_t vlci_store_layer_bytes(const vlci_store *s) {
    return vlci_store_planes(s) * (size_t)s->rows * s->row_bytes;
}

size_t vlci_store_gathered_bytes(const vlci_store *s) {
    return vlci_store_planes(s) * (size_t)s->all * s->row_bytes;
}

unsigned char *vlci_store_layer(const vlci_store *s, int layer) {
    return s->data + (size_t)layer * vlci_store_layer_bytes(s);
}

uint64_t vlci_store_bytes(const vlci_store *s) {
    return s ? (uint64_t)s->layers * vlci_store_gathered_bytes(s) : 0;
}

/* ---- owners -------------------------------------------------------------------------------------------- */

static vlcache_status fail(const vlci_store *s) {
    return vlci_fail(
        VLCACHE_E_NO_MEMORY,
        "recall: %llu bytes of the host's memory for %d rows of the conversation, which has %llu "
        "already: clear it, or go on without recall",
        (unsigned long long)s->layers * vlci_store_layer_bytes(s), s->rows,
        (unsigned long long)vlci_store_bytes(s->before));
}

vlcache_status vlci_store_create(const vlci_kv_shape *shape, int rows, vlci_store *before, vlci_store **out) {
    *out = NULL;
    vlci_store *s = vlci_alloc(1, sizeof *s);
    if (!s) return vlci_fail_memory("rows in the host's memory");
    *s = (vlci_store){.references = 1,
                      .before = before,
                      .layers = shape->layers,
                      .kv_heads = shape->kv_heads,
                      .row_bytes = (size_t)shape->head_dim * vlci_dtype_bytes(shape->dtype),
                      .rows = rows,
                      .all = rows + vlci_store_rows(before)};
    s->data = vlci_alloc((size_t)s->layers, vlci_store_layer_bytes(s));
    if (!s->data) {
        vlcache_status status = fail(s);
        vlci_free(s);
        return status;
    }
    vlci_store_retain(before);
    *out = s;
    return VLCACHE_OK;
}

vlci_store *vlci_store_retain(vlci_store *store) {
    if (store) store->references++;
    return store;
}

void vlci_store_release(vlci_store **handle) {
    vlci_store *s = *handle;
    *handle = NULL;
    while (s && --s->references == 0) {
        vlci_store *before = s->before;
        vlci_free(s->data);
        vlci_free(s);
        s = before;
    }
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

void vlci_store_gather(const vlci_store *store, int layer, size_t plane, unsigned char *to) {
    to += plane * (size_t)store->all * store->row_bytes;
    for (const vlci_store *s = store; s; s = s->before) {
        size_t bytes = (size_t)s->rows * s->row_bytes, at = (size_t)(s->all - s->rows) * s->row_bytes;
        memcpy(to + at, vlci_store_layer(s, layer) + plane * bytes, bytes);
    }
}
