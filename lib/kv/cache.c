/*
 * cache.c - the lists of pages of one sequence: they grow, are shared, go back, and are replaced by shorter
 * ones.
 */
#include "kv/cache.h"

#include <string.h>

#include "core/alloc.h"

static int n_lists(const vlci_kv *kv) {
    return kv->pool->shape.layers * kv->pool->shape.kv_heads;
}

/* The device is to be told of this cache's heads. */
static void changed(vlci_kv *kv) {
    vlci_kv_pool *p = kv->pool;
    if (kv->slot < 0) return;
    if (p->changed_from == p->changed_until) p->changed_from = p->changed_until = kv->slot;
    if (kv->slot < p->changed_from) p->changed_from = kv->slot;
    if (kv->slot >= p->changed_until) p->changed_until = kv->slot + 1;
}

/* ---- creation ------------------------------------------------------------------------------------------ */

/* Without a slot. */
static vlcache_status create(vlci_kv_pool *pool, vlci_kv *out) {
    *out = (vlci_kv){.pool = pool, .slot = -1};
    out->list = vlci_calloc((size_t)n_lists(out), sizeof *out->list);
    if (!out->list) {
        *out = (vlci_kv){0};
        return vlci_fail_memory("KV cache");
    }
    out->next = pool->first;
    if (pool->first) pool->first->before = out;
    pool->first = out;
    return VLCACHE_OK;
}

vlcache_status vlci_kv_create(vlci_kv_pool *pool, vlci_kv *out) {
    vlcache_status status = create(pool, out);
    if (!status) status = vlci_kv_slot_take(pool, &out->slot);
    if (status)
        vlci_kv_release(out);
    else
        changed(out);
    return status;
}

static void list_release(vlci_kv_pool *p, vlci_kv_list *list) {
    for (int i = 0; i < list->pages; i++) vlci_kv_page_give(p, p->table.entry[list->first + i]);
    if (list->size) vlci_kv_run_give(&p->table, list->size, list->first);
    *list = (vlci_kv_list){0};
}

void vlci_kv_drop(vlci_kv *kv) {
    for (int i = 0; i < n_lists(kv); i++) list_release(kv->pool, &kv->list[i]);
    vlci_codes_release(&kv->codes);
    vlci_quants_release(&kv->quants);
    kv->held = 0;
    kv->behind = false;
    changed(kv);
}

void vlci_kv_clear(vlci_kv *kv) {
    if (!kv->pool) return;
    vlci_kv_drop(kv);
    vlci_store_release(&kv->store);
    kv->position = kv->length = 0;
}

void vlci_kv_release(vlci_kv *kv) {
    if (!kv->pool) return;
    vlci_kv_clear(kv);
    vlci_kv_slot_give(kv->pool, kv->slot);
    if (kv->next) kv->next->before = kv->before;
    if (kv->before)
        kv->before->next = kv->next;
    else
        kv->pool->first = kv->next;
    vlci_free(kv->list);
    *kv = (vlci_kv){0};
}

/* ---- growing ------------------------------------------------------------------------------------------- */

/* Whether list i is of a layer that grows with the text. */
static bool grows(const vlci_kv *kv, int i) {
    return !vlci_kv_is_still(kv->pool, i / kv->pool->shape.kv_heads);
}

/* A page that is written to next and has other owners. */
static bool is_shared(const vlci_kv *kv, const vlci_kv_list *list) {
    if (list->rows % VLCI_KV_PAGE == 0) return false;
    return kv->pool->owners[kv->pool->table.entry[list->first + list->rows / VLCI_KV_PAGE]] > 1;
}

static int list_needs(const vlci_kv *kv, const vlci_kv_list *list, int rows) {
    int more = vlci_kv_pages(list->rows + rows) - list->pages;
    return (more > 0 ? more : 0) + (rows > 0 && is_shared(kv, list));
}

int vlci_kv_reserve_pages(const vlci_kv *kv, int layer, int layers, int rows) {
    int heads = kv->pool->shape.kv_heads, pages = 0;
    for (int i = layer * heads; i < (layer + layers) * heads; i++)
        if (grows(kv, i)) pages += list_needs(kv, &kv->list[i], rows);
    return pages;
}

int vlci_kv_marked_pages(const vlci_kv *kv, int layer, int layers, int rows) {
    int heads = kv->pool->shape.kv_heads, pages = vlci_kv_reserve_pages(kv, layer, layers, rows);
    for (int i = layer * heads; i < (layer + layers) * heads && rows > 0; i++)
        if (grows(kv, i) && !is_shared(kv, &kv->list[i])) pages += kv->list[i].rows % VLCI_KV_PAGE != 0;
    return pages;
}

/* A run of entries for `pages` pages, with those there are: and for another, since to find a longer one for
 * each list of a prompt that fills its own takes longer than a token. */
static vlcache_status make_run(vlci_kv_pool *p, vlci_kv_list *list, int pages) {
    int size = vlci_kv_run_size(pages < 4 ? 4 : pages), first;
    if (list->size && size <= list->size) return VLCACHE_OK;
    size = vlci_kv_run_size(pages < 4 ? 4 : pages + 1);
    vlcache_status status = vlci_kv_run_take(&p->table, size, &first);
    if (status) return status;
    for (int i = 0; i < list->pages; i++)
        vlci_kv_table_set(&p->table, first + i, p->table.entry[list->first + i]);
    if (list->size) vlci_kv_run_give(&p->table, list->size, list->first);
    list->first = first;
    list->size = size;
    return VLCACHE_OK;
}

static vlcache_status own_last(vlci_kv *kv, vlci_kv_list *list) {
    vlci_kv_pool *p = kv->pool;
    int at = list->first + list->rows / VLCI_KV_PAGE;
    int32_t shared = p->table.entry[at], own = vlci_kv_page_take(p);
    vlcache_status status = vlci_kv_page_copy(p, shared, own);
    if (status) {
        vlci_kv_page_give(p, own);
        return status;
    }
    vlci_kv_page_give(p, shared);
    vlci_kv_table_set(&p->table, at, own);
    return VLCACHE_OK;
}

/* There are enough pages without an owner. */
static vlcache_status grow(vlci_kv *kv, vlci_kv_list *list, int rows) {
    vlci_kv_pool *p = kv->pool;
    int pages = vlci_kv_pages(list->rows + rows);
    if (pages <= list->pages && !is_shared(kv, list)) return VLCACHE_OK;
    vlcache_status status = pages > list->pages ? make_run(p, list, pages) : VLCACHE_OK;
    if (!status && is_shared(kv, list)) status = own_last(kv, list);
    for (; !status && list->pages < pages; list->pages++, kv->held++)
        vlci_kv_table_set(&p->table, list->first + list->pages, vlci_kv_page_take(p));
    if (kv->held > kv->most) kv->most = kv->held;
    changed(kv);
    return status;
}

vlcache_status vlci_kv_reserve(vlci_kv *kv, int layer, int layers, int rows) {
    int heads = kv->pool->shape.kv_heads, pages = vlci_kv_reserve_pages(kv, layer, layers, rows);
    vlcache_status status = pages ? vlci_kv_pool_need(kv->pool, pages) : VLCACHE_OK;
    for (int i = layer * heads; pages && !status && i < (layer + layers) * heads; i++)
        if (grows(kv, i)) status = grow(kv, &kv->list[i], rows);
    return status;
}

int vlci_kv_room(const vlci_kv *kv) {
    int least = INT32_MAX;
    for (int i = 0; i < n_lists(kv); i++) {
        if (!grows(kv, i)) continue;
        int room = is_shared(kv, &kv->list[i]) ? 0 : kv->list[i].pages * VLCI_KV_PAGE - kv->list[i].rows;
        if (room < least) least = room;
    }
    return least;
}

void vlci_kv_append(vlci_kv *kv, int layer, int layers, int rows) {
    int heads = kv->pool->shape.kv_heads;
    for (int i = layer * heads; i < (layer + layers) * heads; i++)
        if (grows(kv, i)) kv->list[i].rows += rows;
    changed(kv);
}

bool vlci_kv_is_filled(const vlci_kv *kv) {
    for (int i = 0; i < n_lists(kv); i++)
        if (!grows(kv, i) && kv->list[i].rows) return true;
    return false;
}

int vlci_kv_refill_pages(const vlci_kv *kv, int layers, int rows) {
    return layers * kv->pool->shape.kv_heads * vlci_kv_pages(rows);
}

vlcache_status vlci_kv_refill(vlci_kv *kv, int layer, int rows) {
    vlci_kv_pool *p = kv->pool;
    vlcache_status status = VLCACHE_OK;
    vlci_kv_cut_layer(kv, layer);
    for (int h = 0; h < p->shape.kv_heads; h++) vlci_kv_list_of(kv, layer, h)->biased = false;
    if (rows) status = vlci_kv_pool_need(p, vlci_kv_refill_pages(kv, 1, rows));
    for (int h = 0; h < p->shape.kv_heads && !status; h++) {
        status = grow(kv, vlci_kv_list_of(kv, layer, h), rows);
        if (!status) vlci_kv_list_of(kv, layer, h)->rows = rows;
    }
    changed(kv);
    return status;
}

void vlci_kv_append_behind(vlci_kv *kv) {
    for (int i = 0; i < n_lists(kv); i++) kv->list[i].rows += grows(kv, i);
    if (kv->behind) changed(kv); /* two rows at once: the device is told */
    kv->behind = true;
}

void vlci_kv_catch_up(vlci_kv *kv) {
    if (kv->behind) changed(kv);
}

vlcache_status vlci_kv_advance(vlci_kv *const *kv, int n, cl_mem tokens, cl_mem ids, cl_mem row_position,
                               cl_mem slots) {
    vlci_kv_pool *p = kv[0]->pool;
    size_t heads = (size_t)n_lists(kv[0]);
    vlcache_status status =
        VLCI_LAUNCH(p->device, p->advance, vlci_grid_over(p->advance, heads, (size_t)n, 1), VLCI_MEM(tokens),
                    VLCI_MEM(ids), VLCI_MEM(row_position), VLCI_I32(n), VLCI_MEM(slots), VLCI_MEM(p->heads),
                    VLCI_I32(heads), VLCI_MEM(p->grows));
    for (int b = 0; b < n && !status; b++) kv[b]->behind = false;
    return status;
}

vlci_kv_view vlci_kv_layer(const vlci_kv *kv, int layer) {
    const vlci_kv_pool *p = kv->pool;
    return (vlci_kv_view){.dtype = p->shape.dtype,
                          .k = p->k,
                          .v = p->v,
                          .bias = p->bias,
                          .heads = p->heads,
                          .table = p->table.on,
                          .layer = layer,
                          .layers = p->shape.layers,
                          .row_stride = (size_t)p->shape.head_dim};
}

uint64_t vlci_kv_few_bytes(const vlci_kv *kv) {
    return vlci_codes_all_bytes(kv->codes) + vlci_quants_all_bytes(kv->quants);
}

int vlci_kv_own_pages(const vlci_kv *kv) {
    int pages = 0;
    for (int i = 0; i < n_lists(kv); i++)
        for (int page = 0; page < kv->list[i].pages; page++)
            pages += kv->pool->owners[kv->pool->table.entry[kv->list[i].first + page]] == 1;
    return pages;
}

uint64_t vlci_kv_own_few(const vlci_kv *kv) {
    return vlci_codes_own_bytes(kv->codes) + vlci_quants_own_bytes(kv->quants);
}

uint64_t vlci_kv_end_bytes(const vlci_kv *kv) {
    uint64_t bytes = 0;
    for (int i = 0; i < n_lists(kv); i++) {
        uint64_t rows = (uint64_t)(kv->list[i].pages * VLCI_KV_PAGE - kv->list[i].rows);
        bytes += rows * vlci_kv_page_bytes(&kv->pool->shape, kv->list[i].biased) / VLCI_KV_PAGE;
    }
    return bytes;
}

uint64_t vlci_kv_bytes(const vlci_kv *kv) {
    uint64_t bytes = vlci_kv_few_bytes(kv);
    for (int i = 0; i < n_lists(kv); i++)
        bytes += (uint64_t)kv->list[i].pages * vlci_kv_page_bytes(&kv->pool->shape, kv->list[i].biased);
    return bytes;
}

int vlci_kv_most_rows(const vlci_kv *kv, int layer) {
    int most = 0;
    for (int h = 0; h < kv->pool->shape.kv_heads; h++)
        if (vlci_kv_list_of(kv, layer, h)->rows > most) most = vlci_kv_list_of(kv, layer, h)->rows;
    return most;
}

int64_t vlci_kv_all_rows(const vlci_kv *kv, int layer) {
    int64_t all = 0;
    for (int h = 0; h < kv->pool->shape.kv_heads; h++) all += vlci_kv_list_of(kv, layer, h)->rows;
    return all;
}

/* ---- sharing, going back ------------------------------------------------------------------------------- */

/* The first `pages` pages of a list, and room in the run for more. */
static vlcache_status share(vlci_kv_pool *p, const vlci_kv_list *from, int pages, int room,
                            vlci_kv_list *out) {
    *out = (vlci_kv_list){.rows = from->rows, .biased = from->biased};
    if (!room) return VLCACHE_OK;
    vlcache_status status = make_run(p, out, room);
    for (; !status && out->pages < pages; out->pages++) {
        int32_t page = p->table.entry[from->first + out->pages];
        vlci_kv_page_share(p, page);
        vlci_kv_table_set(&p->table, out->first + out->pages, page);
    }
    return status;
}

static vlcache_status share_all(const vlci_kv *kv, vlci_kv *out) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n_lists(kv) && !status; i++) {
        int pages = vlci_kv_pages(kv->list[i].rows);
        status = share(kv->pool, &kv->list[i], pages, pages, &out->list[i]);
        out->held += pages;
    }
    out->position = kv->position;
    out->length = kv->length;
    out->codes = vlci_codes_retain(kv->codes);
    out->store = vlci_store_retain(kv->store);
    out->quants = vlci_quants_retain(kv->quants);
    if (status)
        vlci_kv_release(out);
    else
        changed(out);
    return status;
}

vlcache_status vlci_kv_fork(const vlci_kv *kv, vlci_kv *out) {
    vlcache_status status = vlci_kv_create(kv->pool, out);
    return status ? status : share_all(kv, out);
}

vlcache_status vlci_kv_mark(const vlci_kv *kv, vlci_kv *out) {
    vlcache_status status = create(kv->pool, out);
    return status ? status : share_all(kv, out);
}

void vlci_kv_go_back(vlci_kv *kv, vlci_kv *mark) {
    vlci_kv_list *list = kv->list;
    vlci_codes *codes = kv->codes;
    vlci_store *store = kv->store;
    vlci_quants *quants = kv->quants;
    int held = kv->held;
    kv->list = mark->list;
    kv->codes = mark->codes;
    mark->codes = codes;
    kv->store = mark->store;
    mark->store = store;
    kv->quants = mark->quants;
    mark->quants = quants;
    kv->held = mark->held;
    kv->position = mark->position;
    kv->length = mark->length;
    kv->behind = kv->counted = false;
    mark->list = list;
    mark->held = held;
    vlci_kv_release(mark);
    changed(kv);
}

/* ---- shrinking in place -------------------------------------------------------------------------------- */

bool vlci_kv_shared(const vlci_kv *kv, int layer, int layers, const vlci_keep *keep) {
    int heads = kv->pool->shape.kv_heads;
    for (int i = layer * heads; i < (layer + layers) * heads; i++)
        for (int page = keep[i].before / VLCI_KV_PAGE; page < kv->list[i].pages; page++)
            if (kv->pool->owners[kv->pool->table.entry[kv->list[i].first + page]] > 1) return true;
    return false;
}

void vlci_kv_cut(vlci_kv *kv, int layer, int head, int rows) {
    vlci_kv_list *list = vlci_kv_list_of(kv, layer, head);
    list->rows = rows;
    for (; list->pages > vlci_kv_pages(rows); kv->held--)
        vlci_kv_page_give(kv->pool, kv->pool->table.entry[list->first + --list->pages]);
    changed(kv);
}

void vlci_kv_cut_layer(vlci_kv *kv, int layer) {
    for (int h = 0; h < kv->pool->shape.kv_heads; h++) vlci_kv_cut(kv, layer, h, 0);
}

/* ---- replacing ----------------------------------------------------------------------------------------- */

int vlci_kv_replace_pages(const vlci_kv *kv, int heads, const int *rows, const int *keep) {
    int pages = 0;
    (void)kv;
    for (int i = 0; i < heads; i++) pages += vlci_kv_pages(rows[i]) - keep[i] / VLCI_KV_PAGE;
    return pages;
}

static vlcache_status make_list(vlci_kv *kv, const vlci_kv_list *old, int rows, int keep, bool biased,
                                vlci_kv_list *out) {
    vlci_kv_pool *p = kv->pool;
    vlcache_status status = share(p, old, keep / VLCI_KV_PAGE, vlci_kv_pages(rows), out);
    for (; !status && out->pages < vlci_kv_pages(rows); out->pages++)
        vlci_kv_table_set(&p->table, out->first + out->pages, vlci_kv_page_take(p));
    out->rows = rows;
    out->biased |= biased;
    return status;
}

static vlcache_status write_next(vlci_kv *kv, const vlci_kv_next *next, cl_mem to) {
    size_t n = (size_t)(next->layers * kv->pool->shape.kv_heads);
    vlci_kv_head *head = vlci_alloc(n, sizeof *head);
    if (!head) return vlci_fail_memory("KV heads");
    for (size_t i = 0; i < n; i++)
        head[i] = (vlci_kv_head){next->list[i].rows, next->list[i].first, next->list[i].biased, 0};
    vlcache_status status = vlci_write_later(kv->pool->device, to, 0, head, n * sizeof *head);
    vlci_free(head);
    return status;
}

vlcache_status vlci_kv_replace(vlci_kv *kv, int layer, int layers, const int *rows, const int *keep,
                               bool biased, cl_mem to, vlci_kv_next *out) {
    int n = layers * kv->pool->shape.kv_heads, more = vlci_kv_replace_pages(kv, n, rows, keep);
    *out = (vlci_kv_next){.layer = layer, .layers = layers};
    out->list = vlci_calloc((size_t)n, sizeof *out->list);
    vlcache_status status = out->list ? VLCACHE_OK : vlci_fail_memory("KV lists");
    if (!status && biased) status = vlci_kv_pool_bias(kv->pool);
    if (!status) status = vlci_kv_pool_need(kv->pool, more);
    if (kv->held + more > kv->most) kv->most = kv->held + more;
    for (int i = 0; i < n && !status; i++)
        status = make_list(kv, vlci_kv_list_of(kv, layer, i), rows[i], keep[i], biased, &out->list[i]);
    if (!status) status = vlci_kv_pool_sync(kv->pool);
    if (!status) status = write_next(kv, out, to);
    if (status) vlci_kv_next_release(kv, out);
    return status;
}

void vlci_kv_next_release(vlci_kv *kv, vlci_kv_next *next) {
    for (int i = 0; next->list && i < next->layers * kv->pool->shape.kv_heads; i++)
        list_release(kv->pool, &next->list[i]);
    vlci_free(next->list);
    *next = (vlci_kv_next){0};
}

void vlci_kv_replaced(vlci_kv *kv, vlci_kv_next *next) {
    for (int i = 0; i < next->layers * kv->pool->shape.kv_heads; i++) {
        vlci_kv_list *mine = vlci_kv_list_of(kv, next->layer, i), old = *mine;
        *mine = next->list[i];
        next->list[i] = old;
        kv->held += mine->pages - old.pages;
    }
    vlci_kv_next_release(kv, next);
    changed(kv);
}
