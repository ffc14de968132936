/*
 * table.c - lists of pages in runs of one array.
 */
#include "kv/table.h"

#include <stdlib.h>

#include "core/alloc.h"

enum { FIRST_ROOM = 1024 };

static void forget_runs(vlci_kv_table *t) {
    t->used = t->changed_from = t->changed_until = t->n_scattered = 0;
    for (int i = 0; i < VLCI_KV_RUN_SIZES; i++) t->free_run[i] = -1;
}

vlcache_status vlci_kv_table_create(vlcache_device *device, vlci_kv_table *out) {
    *out = (vlci_kv_table){.device = device};
    forget_runs(out);
    out->scattered = vlci_alloc(VLCI_KV_SCATTERED, sizeof *out->scattered);
    out->pair = vlci_alloc(2 * VLCI_KV_SCATTERED, sizeof *out->pair);
    if (!out->scattered || !out->pair) return vlci_fail_memory("table of KV pages");
    vlcache_status status = vlci_memory_create(device, 2 * VLCI_KV_SCATTERED * sizeof *out->pair,
                                               "KV pages of a table", &out->pairs_on);
    return status ? status : vlci_kernel_get(device, "kv.cl", "kv_put", "", &out->put);
}

int vlci_kv_run_size(int entries) {
    int size = 0;
    while (size < VLCI_KV_RUN_SIZES - 1 && 1 << size < entries) size++;
    return size;
}

static vlcache_status grow(vlci_kv_table *t, int entries) {
    int room = t->room ? t->room : FIRST_ROOM;
    while (room < entries) room = room > INT32_MAX / 2 ? INT32_MAX : 2 * room;
    int32_t *more = vlci_realloc(t->entry, (size_t)room, sizeof *more);
    if (!more) return vlci_fail_memory("table of KV pages");
    for (int i = t->room; i < room; i++) more[i] = 0;
    t->entry = more;
    t->room = room;
    return VLCACHE_OK;
}

vlcache_status vlci_kv_run_take(vlci_kv_table *t, int size, int *first) {
    *first = t->free_run[size];
    if (*first >= 0) {
        t->free_run[size] = t->entry[*first];
        return VLCACHE_OK;
    }
    int entries = 1 << size;
    if (t->used > INT32_MAX - entries)
        return vlci_fail(VLCACHE_E_NO_MEMORY, "table of KV pages: more than 2^31 entries");
    if (t->used + entries > t->room) {
        vlcache_status status = grow(t, t->used + entries);
        if (status) return status;
    }
    *first = t->used;
    t->used += entries;
    return VLCACHE_OK;
}

void vlci_kv_run_give(vlci_kv_table *t, int size, int first) {
    t->entry[first] = t->free_run[size];
    t->free_run[size] = first;
}

vlcache_status vlci_kv_table_renew(vlci_kv_table *t, int32_t **before) {
    int32_t *entry = vlci_calloc((size_t)t->room + 1, sizeof *entry);
    *before = NULL;
    if (!entry) return vlci_fail_memory("table of KV pages");
    *before = t->entry;
    t->entry = entry;
    forget_runs(t);
    return VLCACHE_OK;
}

void vlci_kv_table_set(vlci_kv_table *t, int at, int32_t page) {
    t->entry[at] = page;
    if (t->changed_from == t->changed_until) t->changed_from = t->changed_until = at;
    if (at < t->changed_from) t->changed_from = at;
    if (at >= t->changed_until) t->changed_until = at + 1;
    if (t->n_scattered < VLCI_KV_SCATTERED) t->scattered[t->n_scattered] = at;
    if (t->n_scattered <= VLCI_KV_SCATTERED) t->n_scattered++;
}

/* A table that has grown is made anew on the device. */
static vlcache_status make_room(vlci_kv_table *t) {
    if (t->on && t->room_on == t->room) return VLCACHE_OK;
    vlci_memory_release(t->device, &t->on);
    t->changed_from = 0;
    t->changed_until = t->used;
    t->n_scattered = VLCI_KV_SCATTERED + 1;
    t->room_on = t->room;
    return vlci_memory_create(t->device, (size_t)t->room * sizeof *t->entry, "table of KV pages", &t->on);
}

/* All entries between the first that has changed and the last. */
static vlcache_status write_range(vlci_kv_table *t) {
    size_t from = (size_t)t->changed_from, n = (size_t)(t->changed_until - t->changed_from);
    return vlci_write_later(t->device, t->on, from * sizeof *t->entry, t->entry + from, n * sizeof *t->entry);
}

static int ascending(const void *left, const void *right) {
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

/* Those that have changed, one by one, each once. */
static vlcache_status put_scattered(vlci_kv_table *t) {
    size_t n = 0;
    qsort(t->scattered, (size_t)t->n_scattered, sizeof *t->scattered, ascending);
    for (int i = 0; i < t->n_scattered; i++) {
        if (i && t->scattered[i] == t->scattered[i - 1]) continue;
        t->pair[2 * n] = t->scattered[i];
        t->pair[2 * n++ + 1] = t->entry[t->scattered[i]];
    }
    vlcache_status status = vlci_write_later(t->device, t->pairs_on, 0, t->pair, 2 * n * sizeof *t->pair);
    if (status) return status;
    return VLCI_LAUNCH(t->device, t->put, vlci_grid_over(t->put, n, 1, 1), VLCI_MEM(t->on),
                       VLCI_MEM(t->pairs_on), VLCI_I32(n));
}

vlcache_status vlci_kv_table_sync(vlci_kv_table *t) {
    if (t->changed_from == t->changed_until) return VLCACHE_OK;
    vlcache_status status = make_room(t);
    bool few =
        t->n_scattered <= VLCI_KV_SCATTERED && t->n_scattered < (t->changed_until - t->changed_from) / 8;
    if (!status) status = few ? put_scattered(t) : write_range(t);
    if (!status) t->changed_from = t->changed_until = t->n_scattered = 0;
    return status;
}

void vlci_kv_table_release(vlci_kv_table *t) {
    vlci_memory_release(t->device, &t->on);
    vlci_memory_release(t->device, &t->pairs_on);
    vlci_free(t->entry);
    vlci_free(t->scattered);
    vlci_free(t->pair);
    *t = (vlci_kv_table){.device = t->device};
    forget_runs(t);
}
