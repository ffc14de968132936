/*
 * pool.c - pages: who owns them, where they lie, and what the device is to know of them.
 */
#include "kv/pool.h"

#include <string.h>

#include "core/alloc.h"

static size_t plane_bytes(const vlci_kv_shape *s, int pages) {
    return (size_t)pages * VLCI_KV_PAGE * (size_t)s->head_dim * vlci_dtype_bytes(s->dtype);
}

static size_t bias_bytes(int pages) {
    return (size_t)pages * VLCI_KV_PAGE * sizeof(cl_float);
}

uint64_t vlci_kv_page_bytes(const vlci_kv_shape *shape, bool biases) {
    return 2 * (uint64_t)plane_bytes(shape, 1) + (biases ? bias_bytes(1) : 0);
}

uint64_t vlci_kv_pool_bytes(const vlci_kv_pool *p) {
    return (uint64_t)p->pages * vlci_kv_page_bytes(&p->shape, p->bias != NULL);
}

void vlci_kv_pool_watch(vlci_kv_pool *p) {
    p->most = p->held;
    p->most_bytes = vlci_kv_pool_bytes(p) + p->few;
}

/* Pages of so many bytes are there, beside rows in few bits. */
static void note_bytes(vlci_kv_pool *p, uint64_t bytes) {
    if (bytes + p->few > p->most_bytes) p->most_bytes = bytes + p->few;
}

void vlci_kv_pool_count(vlci_kv_pool *p, int64_t bytes) {
    p->few += (uint64_t)bytes;
    note_bytes(p, vlci_kv_pool_bytes(p));
}

uint64_t vlci_kv_pool_rows(const vlci_kv_pool *p) {
    int lists = p->shape.layers * p->shape.kv_heads;
    uint64_t rows = 0;
    for (const vlci_kv *kv = p->first; kv; kv = kv->next)
        for (int i = 0; kv->slot >= 0 && i < lists; i++) rows += (uint64_t)kv->list[i].rows;
    return rows;
}

/* ---- planes: keys, values and biases of all pages ------------------------------------------------------ */

typedef struct planes {
    cl_mem k, v, bias;
} planes;

static void release_planes(vlcache_device *device, planes *p) {
    vlci_memory_release(device, &p->k);
    vlci_memory_release(device, &p->v);
    vlci_memory_release(device, &p->bias);
}

/* Of at least one page, so that there is something to hand to kernels. Biases begin as zeros. */
static vlcache_status create_planes(const vlci_kv_pool *p, int pages, bool biases, planes *out) {
    int n = pages ? pages : 1;
    *out = (planes){0};
    vlcache_status status =
        vlci_memory_create(p->device, plane_bytes(&p->shape, n), "KV cache: keys", &out->k);
    if (!status)
        status = vlci_memory_create(p->device, plane_bytes(&p->shape, n), "KV cache: values", &out->v);
    if (!status && biases)
        status = vlci_memory_create(p->device, bias_bytes(n), "KV cache: biases", &out->bias);
    if (!status && biases) status = vlci_fill(p->device, out->bias, 0, bias_bytes(n), 0);
    if (status) release_planes(p->device, out);
    return status;
}

static void exchange_planes(vlci_kv_pool *p, planes *with) {
    planes old = {p->k, p->v, p->bias};
    p->k = with->k;
    p->v = with->v;
    p->bias = with->bias;
    *with = old;
}

/* Owners and spare pages of a pool of another size; what is there is kept as far as it fits. */
static vlcache_status resize_lists(vlci_kv_pool *p, int pages) {
    size_t n = (size_t)(pages > p->pages ? pages : p->pages) + 1;
    uint32_t *owners = vlci_realloc(p->owners, n, sizeof *owners);
    if (owners) p->owners = owners;
    int32_t *spare = vlci_realloc(p->spare, n, sizeof *spare);
    if (spare) p->spare = spare;
    return owners && spare ? VLCACHE_OK : vlci_fail_memory("KV pages");
}

/* Pages without an owner, so that the lowest is taken next. */
static void list_spare(vlci_kv_pool *p) {
    int n = 0;
    for (int page = p->pages - 1; page >= 0; page--)
        if (!p->owners[page]) p->spare[n++] = page;
}

static vlcache_status grow(vlci_kv_pool *p, int pages) {
    planes larger;
    vlcache_status status = resize_lists(p, pages);
    if (!status) status = create_planes(p, pages, p->bias != NULL, &larger);
    if (status) return status;
    uint64_t both = (uint64_t)(p->pages + pages) * vlci_kv_page_bytes(&p->shape, p->bias != NULL);
    size_t plane = plane_bytes(&p->shape, p->held ? p->pages : 0),
           biases = bias_bytes(p->held ? p->pages : 0);
    status = vlci_copy(p->device, p->k, 0, larger.k, 0, plane);
    if (!status) status = vlci_copy(p->device, p->v, 0, larger.v, 0, plane);
    if (!status && p->bias) status = vlci_copy(p->device, p->bias, 0, larger.bias, 0, biases);
    if (!status) {
        if (!p->held) both = (uint64_t)pages * vlci_kv_page_bytes(&p->shape, p->bias != NULL);
        note_bytes(p, both);
        memset(p->owners + p->pages, 0, (size_t)(pages - p->pages) * sizeof *p->owners);
        p->pages = pages;
        exchange_planes(p, &larger);
        list_spare(p);
    }
    release_planes(p->device, &larger);
    return status;
}

/* Growing and shrinking move everything: sequences that come and go together do not do so page by page. */
static int slack(const vlci_kv_pool *p) {
    return p->slots - p->n_free_slots > 1 ? p->held / 4 : 0;
}

vlcache_status vlci_kv_pool_need(vlci_kv_pool *p, int pages) {
    int short_of = pages - (p->pages - p->held);
    if (short_of <= 0) return VLCACHE_OK;
    if (p->elastic) return grow(p, p->pages + short_of + slack(p) / 2);
    return vlci_fail(VLCACHE_E_DEVICE_MEMORY,
                     "KV cache: %d pages are needed, %d of %d are free (%llu bytes each)", pages,
                     p->pages - p->held, p->pages,
                     (unsigned long long)vlci_kv_page_bytes(&p->shape, p->bias != NULL));
}

vlcache_status vlci_kv_pool_bias(vlci_kv_pool *p) {
    if (p->bias) return VLCACHE_OK;
    size_t bytes = bias_bytes(p->pages ? p->pages : 1);
    vlcache_status status = vlci_memory_create(p->device, bytes, "KV cache: biases", &p->bias);
    if (!status) status = vlci_fill(p->device, p->bias, 0, bytes, 0);
    if (status) vlci_memory_release(p->device, &p->bias);
    note_bytes(p, vlci_kv_pool_bytes(p));
    return status;
}

/* ---- pages --------------------------------------------------------------------------------------------- */

int32_t vlci_kv_page_take(vlci_kv_pool *p) {
    int32_t page = p->spare[p->pages - p->held - 1];
    p->owners[page] = 1;
    if (++p->held > p->most) p->most = p->held;
    return page;
}

void vlci_kv_page_share(vlci_kv_pool *p, int32_t page) {
    p->owners[page]++;
}

void vlci_kv_page_give(vlci_kv_pool *p, int32_t page) {
    if (--p->owners[page]) return;
    p->held--;
    p->given = true;
    p->spare[p->pages - p->held - 1] = page;
}

/* ---- copies of pages ----------------------------------------------------------------------------------- */

/* All at once, and in no order: no page is copied both from and to, or to twice. */
static vlcache_status copy_pages(vlci_kv_pool *p) {
    if (!p->pairs) return VLCACHE_OK;
    size_t bytes = 2 * (size_t)p->pairs * sizeof *p->pair,
           words = plane_bytes(&p->shape, 1) / sizeof(cl_uint);
    vlcache_status status = VLCACHE_OK;
    if (p->pairs_bytes < bytes) {
        vlci_memory_release(p->device, &p->pairs_on);
        p->pairs_bytes = 0;
        status = vlci_memory_create(p->device, bytes, "KV pages to copy", &p->pairs_on);
        if (!status) p->pairs_bytes = bytes;
    }
    if (!status) status = vlci_write_later(p->device, p->pairs_on, 0, p->pair, bytes);
    if (!status)
        status = VLCI_LAUNCH(
            p->device, p->copy,
            vlci_grid_over(p->copy, words < VLCI_KV_PAGE ? VLCI_KV_PAGE : words, (size_t)p->pairs, 1),
            VLCI_MEM(p->k), VLCI_MEM(p->v), VLCI_MEM(p->bias), VLCI_MEM(p->pairs_on), VLCI_U32(words));
    if (!status) p->pairs = 0;
    return status;
}

vlcache_status vlci_kv_page_copy(vlci_kv_pool *p, int32_t from, int32_t to) {
    if (p->given && p->pairs) {
        vlcache_status status = copy_pages(p);
        if (status) return status;
    }
    if (p->pairs == p->pairs_room) {
        int room = p->pairs_room ? 2 * p->pairs_room : 64;
        int32_t *more = vlci_realloc(p->pair, 2 * (size_t)room, sizeof *more);
        if (!more) return vlci_fail_memory("KV pages");
        p->pair = more;
        p->pairs_room = room;
    }
    if (!p->pairs) p->given = false;
    p->pair[2 * p->pairs] = from;
    p->pair[2 * p->pairs++ + 1] = to;
    return VLCACHE_OK;
}

/* ---- fewer pages --------------------------------------------------------------------------------------- */

/* Page i of the smaller pool is page source[i] of this one. */
static vlcache_status move_pages(vlci_kv_pool *p, cl_mem source, int n, const planes *to) {
    size_t runs = plane_bytes(&p->shape, 1) / sizeof(cl_uint) / p->run, bias_runs = VLCI_KV_PAGE / p->run;
    if (!n) return VLCACHE_OK;
    vlci_grid grid = vlci_grid_over(p->move, runs, (size_t)n, 1);
    vlci_grid biases = vlci_grid_over(p->move, bias_runs, (size_t)n, 1);
    vlcache_status status = VLCI_LAUNCH(p->device, p->move, grid, VLCI_MEM(p->k), VLCI_MEM(to->k),
                                        VLCI_MEM(source), VLCI_U32(runs));
    if (!status)
        status = VLCI_LAUNCH(p->device, p->move, grid, VLCI_MEM(p->v), VLCI_MEM(to->v), VLCI_MEM(source),
                             VLCI_U32(runs));
    if (!status && p->bias)
        status = VLCI_LAUNCH(p->device, p->move, biases, VLCI_MEM(p->bias), VLCI_MEM(to->bias),
                             VLCI_MEM(source), VLCI_U32(bias_runs));
    return status;
}

/* A list takes a run of the new table that is as long as it, with the new numbers of its pages. */
static void renumber_list(vlci_kv_pool *p, const int32_t *before, const int32_t *number, vlci_kv_list *list) {
    int old = list->first, size = vlci_kv_run_size(list->pages < 4 ? 4 : list->pages);
    if (!list->size) return;
    if (size < list->size) list->size = size;
    vlci_kv_run_take(&p->table, list->size, &list->first); /* no more than there was: it cannot fail */
    for (int i = 0; i < list->pages; i++)
        vlci_kv_table_set(&p->table, list->first + i, number[before[old + i]]);
}

/* Every list speaks of pages by their new numbers; what the device is told of is as short as the lists are.
 */
static vlcache_status renumber(vlci_kv_pool *p, const int32_t *number) {
    int32_t *before;
    int lists = p->shape.layers * p->shape.kv_heads;
    vlcache_status status = vlci_kv_table_renew(&p->table, &before);
    if (status) return status;
    for (const vlci_kv *kv = p->first; kv; kv = kv->next)
        for (int i = 0; i < lists; i++) renumber_list(p, before, number, &kv->list[i]);
    p->changed_from = 0;
    p->changed_until = p->slots;
    vlci_free(before);
    return VLCACHE_OK;
}

static vlcache_status shrink(vlci_kv_pool *p, int pages, int32_t *source, int32_t *number) {
    planes smaller;
    cl_mem source_on = NULL;
    int n = 0;
    for (int page = 0; page < p->pages; page++) {
        if (!p->owners[page]) continue;
        source[n] = page;
        number[page] = n++;
    }
    size_t bytes = (size_t)n * sizeof *source;
    uint64_t both = (uint64_t)(p->pages + pages) * vlci_kv_page_bytes(&p->shape, p->bias != NULL);
    vlcache_status status = create_planes(p, pages, p->bias != NULL, &smaller);
    if (status) return status;
    status = vlci_memory_create(p->device, bytes, "KV pages that stay", &source_on);
    if (!status) status = vlci_write_later(p->device, source_on, 0, source, bytes);
    if (!status) status = move_pages(p, source_on, n, &smaller);
    if (!status) status = renumber(p, number);
    if (!status) {
        note_bytes(p, both);
        for (int i = 0; i < n; i++) p->owners[i] = p->owners[source[i]];
        for (int i = n; i < pages; i++) p->owners[i] = 0;
        p->pages = pages;
        exchange_planes(p, &smaller);
        list_spare(p);
    }
    vlci_memory_release(p->device, &source_on);
    release_planes(p->device, &smaller);
    return status;
}

vlcache_status vlci_kv_pool_shrink(vlci_kv_pool *p, int spare) {
    int pages = p->held + spare;
    if (!p->elastic || pages + slack(p) >= p->pages) return VLCACHE_OK;
    vlcache_status status = copy_pages(p); /* which speak of pages by their old numbers */
    if (status) return status;
    int32_t *source = vlci_alloc((size_t)p->pages + 1, sizeof *source);
    int32_t *number = vlci_calloc((size_t)p->pages + 1, sizeof *number);
    status = source && number ? shrink(p, pages, source, number) : vlci_fail_memory("KV pages");
    vlci_free(source);
    vlci_free(number);
    return status;
}

/* ---- slots --------------------------------------------------------------------------------------------- */

static size_t slot_heads(const vlci_kv_pool *p) {
    return (size_t)p->shape.layers * (size_t)p->shape.kv_heads;
}

static vlcache_status more_slots(vlci_kv_pool *p) {
    int slots = p->slots ? 2 * p->slots : 4;
    vlci_kv_head *head = vlci_realloc(p->head, (size_t)slots * slot_heads(p), sizeof *head);
    if (head) p->head = head;
    int32_t *free_slot = vlci_realloc(p->free_slot, (size_t)slots, sizeof *free_slot);
    if (free_slot) p->free_slot = free_slot;
    if (!head || !free_slot) return vlci_fail_memory("KV heads");
    memset(head + (size_t)p->slots * slot_heads(p), 0,
           (size_t)(slots - p->slots) * slot_heads(p) * sizeof *head);
    for (int slot = slots - 1; slot >= p->slots; slot--) free_slot[p->n_free_slots++] = slot;
    p->slots = slots; /* the device has room for them when it is told of them */
    return VLCACHE_OK;
}

vlcache_status vlci_kv_slot_take(vlci_kv_pool *p, int *slot) {
    vlcache_status status = p->n_free_slots ? VLCACHE_OK : more_slots(p);
    *slot = status ? -1 : p->free_slot[--p->n_free_slots];
    return status;
}

void vlci_kv_slot_give(vlci_kv_pool *p, int slot) {
    if (slot >= 0) p->free_slot[p->n_free_slots++] = slot;
}

/* ---- what the device knows ----------------------------------------------------------------------------- */

/* A cache whose rows the device counts one behind is told of them all. */
static void write_heads(vlci_kv_pool *p) {
    for (vlci_kv *kv = p->first; kv; kv = kv->next) {
        if (kv->slot < p->changed_from || kv->slot >= p->changed_until) continue;
        vlci_kv_head *to = p->head + (size_t)kv->slot * slot_heads(p);
        for (size_t i = 0; i < slot_heads(p); i++)
            to[i] = (vlci_kv_head){kv->list[i].rows, kv->list[i].first, kv->list[i].biased, 0};
        kv->behind = false;
    }
}

static vlcache_status sync_heads(vlci_kv_pool *p) {
    size_t slot = slot_heads(p) * sizeof *p->head;
    if (p->slots_on < p->slots) {
        cl_mem heads;
        vlcache_status status = vlci_memory_create(p->device, (size_t)p->slots * slot, "KV heads", &heads);
        if (status) return status;
        vlci_memory_release(p->device, &p->heads);
        p->heads = heads;
        p->slots_on = p->slots;
        p->changed_from = 0;
        p->changed_until = p->slots;
    }
    if (p->changed_from == p->changed_until) return VLCACHE_OK;
    write_heads(p);
    size_t from = (size_t)p->changed_from, n = (size_t)(p->changed_until - p->changed_from);
    vlcache_status status =
        vlci_write_later(p->device, p->heads, from * slot, p->head + from * slot_heads(p), n * slot);
    if (!status) p->changed_from = p->changed_until = 0;
    return status;
}

vlcache_status vlci_kv_pool_sync(vlci_kv_pool *p) {
    vlcache_status status = copy_pages(p);
    if (!status) status = vlci_kv_table_sync(&p->table);
    return status ? status : sync_heads(p);
}

/* ---- the pool as a whole ------------------------------------------------------------------------------- */

vlcache_status vlci_kv_pool_create(vlcache_device *device, const vlci_kv_shape *shape, int pages,
                                   bool elastic, vlci_kv_pool *out) {
    planes all;
    size_t words = (size_t)shape->head_dim * vlci_dtype_bytes(shape->dtype) / sizeof(cl_uint);
    const char *run = words % 4 ? "-DROW_RUN=1" : "-DROW_RUN=4";
    *out = (vlci_kv_pool){.device = device, .shape = *shape, .elastic = elastic, .run = words % 4 ? 1 : 4};
    vlcache_status status = vlci_kv_table_create(device, &out->table);
    if (!status) status = vlci_kernel_get(device, "kv.cl", "kv_advance", "", &out->advance);
    if (!status) status = vlci_kernel_get(device, "kv.cl", "kv_copy", "", &out->copy);
    if (!status) status = vlci_kernel_get(device, "kv.cl", "kv_move", run, &out->move);
    if (!status) status = vlci_kernel_get(device, "kv.cl", "kv_fetch", run, &out->fetch);
    if (!status) status = vlci_kernel_get(device, "kv.cl", "kv_place", run, &out->place);
    if (!status) status = resize_lists(out, pages);
    if (!status) status = create_planes(out, pages, false, &all);
    if (!status) {
        exchange_planes(out, &all);
        memset(out->owners, 0, (size_t)pages * sizeof *out->owners);
        out->pages = pages;
        list_spare(out);
        vlci_kv_pool_watch(out);
    }
    if (status) vlci_kv_pool_release(out);
    return status;
}

/* kv_advance is told what to add to each head. */
vlcache_status vlci_kv_pool_still(vlci_kv_pool *p, const uint32_t *layers) {
    int heads = p->shape.kv_heads, n = p->shape.layers * heads;
    memcpy(p->still, layers, sizeof p->still);
    cl_int *grows = vlci_alloc((size_t)n, sizeof *grows);
    if (!grows) return vlci_fail_memory("KV heads");
    for (int i = 0; i < n; i++) grows[i] = !vlci_kv_is_still(p, i / heads);
    vlcache_status status = vlci_memory_create(p->device, (size_t)n * sizeof *grows, "KV heads", &p->grows);
    if (!status) status = vlci_write(p->device, p->grows, 0, grows, (size_t)n * sizeof *grows);
    vlci_free(grows);
    return status;
}

void vlci_kv_pool_release(vlci_kv_pool *p) {
    if (!p->device) return;
    cl_mem *memory[] = {&p->k, &p->v, &p->bias, &p->heads, &p->grows, &p->pairs_on};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(p->device, memory[i]);
    vlci_kv_table_release(&p->table);
    vlci_free(p->owners);
    vlci_free(p->spare);
    vlci_free(p->head);
    vlci_free(p->free_slot);
    vlci_free(p->pair);
    *p = (vlci_kv_pool){0};
}
