/*
 * pages.c - paged caches from rows of the host, and back.
 */
#include "support/pages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_linear.h"

int pages_lists(const vlci_kv_shape *shape, int n) {
    return n * shape->layers * shape->kv_heads;
}

size_t pages_first(const int *rows, int i) {
    size_t first = 0;
    for (int j = 0; j < i; j++) first += (size_t)rows[j];
    return first;
}

static size_t row_bytes(const vlci_kv_shape *s) {
    return (size_t)s->head_dim * vlci_dtype_bytes(s->dtype);
}

static uint32_t draw(uint64_t *seed, uint32_t below) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

void pages_scramble(vlci_kv_pool *pool, uint64_t *seed) {
    for (int i = pool->pages - pool->held - 1; i > 0; i--) {
        int with = (int)draw(seed, (uint32_t)i + 1);
        int32_t page = pool->spare[i];
        pool->spare[i] = pool->spare[with];
        pool->spare[with] = page;
    }
}

void pages_poison_spare(vlci_kv_pool *pool) {
    size_t bytes = VLCI_KV_PAGE * row_bytes(&pool->shape), biases = VLCI_KV_PAGE * sizeof(float);
    for (int i = 0; i < pool->pages - pool->held; i++) {
        size_t page = (size_t)pool->spare[i];
        ck_ok(vlci_fill(pool->device, pool->k, page * bytes, bytes, 0xffffffffu));
        ck_ok(vlci_fill(pool->device, pool->v, page * bytes, bytes, 0xffffffffu));
        if (pool->bias) ck_ok(vlci_fill(pool->device, pool->bias, page * biases, biases, 0xffffffffu));
    }
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Row `row` of a list among all rows of the pool. */
static size_t place(const vlci_kv_pool *pool, const vlci_kv_list *list, int row) {
    ck_assert_int_lt(row / VLCI_KV_PAGE, list->pages);
    return (size_t)pool->table.entry[list->first + row / VLCI_KV_PAGE] * VLCI_KV_PAGE +
           (size_t)(row % VLCI_KV_PAGE);
}

/* n rows behind one another. */
static void write_plane(vlci_kv_pool *pool, cl_mem plane, size_t at, const float *rows, int n) {
    const vlci_kv_shape *s = &pool->shape;
    size_t floats = (size_t)n * (size_t)s->head_dim;
    float *copy = malloc(floats * sizeof *copy);
    memcpy(copy, rows, floats * sizeof *copy);
    void *stored = suite_store(copy, floats, s->dtype);
    ck_ok(vlci_write_later(pool->device, plane, at * row_bytes(s), stored, (size_t)n * row_bytes(s)));
    free(stored);
    free(copy);
}

/* n rows of a page. */
static void write_rows(vlci_kv_pool *pool, const vlci_kv_list *list, int row, const float *k, const float *v,
                       const float *bias, int n) {
    size_t at = place(pool, list, row);
    if (k) write_plane(pool, pool->k, at, k, n);
    if (v) write_plane(pool, pool->v, at, v, n);
    if (pool->bias)
        ck_ok(vlci_write_later(pool->device, pool->bias, at * sizeof *bias, bias, (size_t)n * sizeof *bias));
}

void pages_write_list_row(vlci_kv_pool *pool, const vlci_kv_list *list, int row, const float *k,
                          const float *v, float bias) {
    write_rows(pool, list, row, k, v, &bias, 1);
}

void pages_write_row(const vlci_kv *kv, int layer, int head, int row, const float *k, const float *v,
                     float bias) {
    pages_write_list_row(kv->pool, vlci_kv_list_of(kv, layer, head), row, k, v, bias);
}

/* The list as the device knows it; of a mark, as the host does. `page` has room for its pages; new memory. */
static vlci_kv_head find_head(const vlci_kv *kv, int layer, int head, int32_t **page) {
    const vlci_kv_list *list = vlci_kv_list_of(kv, layer, head);
    vlci_kv_pool *pool = kv->pool;
    vlci_kv_head at = {list->rows, list->first, list->biased, 0};
    size_t bytes;
    if (kv->slot >= 0) {
        ck_ok(vlci_kv_pool_sync(pool));
        ck_ok(vlci_read(pool->device, pool->heads, (vlci_kv_heads_at(kv, layer) + (size_t)head) * sizeof at,
                        &at, sizeof at));
        ck_assert_int_eq(at.rows, list->rows - kv->behind);
        ck_assert_int_eq(at.biased, list->biased);
        at.rows = list->rows;
    }
    bytes = (size_t)vlci_kv_pages(at.rows) * sizeof **page;
    *page = calloc(1, bytes + 1);
    if (kv->slot >= 0)
        ck_ok(vlci_read(pool->device, pool->table.on, (size_t)at.first * sizeof **page, *page, bytes));
    else
        memcpy(*page, pool->table.entry + at.first, bytes);
    return at;
}

/* n rows of a page of keys or values, as floats. */
static void read_plane(vlci_kv_pool *pool, cl_mem plane, int32_t page, int n, float *out) {
    const vlci_kv_shape *s = &pool->shape;
    size_t bytes = row_bytes(s);
    unsigned char *stored = malloc(VLCI_KV_PAGE * bytes);
    ck_ok(vlci_read(pool->device, plane, (size_t)page * VLCI_KV_PAGE * bytes, stored, (size_t)n * bytes));
    for (int i = 0; i < n * s->head_dim; i++) out[i] = (float)ref_load(stored, i, s->dtype);
    free(stored);
}

int pages_read(const vlci_kv *kv, int layer, int head, float *k, float *v, float *bias) {
    int32_t *page;
    vlci_kv_pool *pool = kv->pool;
    vlci_kv_head at = find_head(kv, layer, head, &page);
    for (int row = 0; row < at.rows; row += VLCI_KV_PAGE) {
        int n = at.rows - row < VLCI_KV_PAGE ? at.rows - row : VLCI_KV_PAGE;
        size_t first = (size_t)page[row / VLCI_KV_PAGE] * VLCI_KV_PAGE;
        if (k) read_plane(pool, pool->k, page[row / VLCI_KV_PAGE], n, k + row * pool->shape.head_dim);
        if (v) read_plane(pool, pool->v, page[row / VLCI_KV_PAGE], n, v + row * pool->shape.head_dim);
        if (bias) memset(bias + row, 0, (size_t)n * sizeof *bias);
        if (bias && at.biased)
            ck_ok(vlci_read(pool->device, pool->bias, first * sizeof *bias, bias + row,
                            (size_t)n * sizeof *bias));
    }
    free(page);
    return at.rows;
}

/* ---- caches -------------------------------------------------------------------------------------------- */

/* Sequence b has slot 2 (n - b) - 1: in falling order, with others between them. */
static void take_slots(pages *p) {
    vlci_kv other[PAGES_SEQUENCES + 1];
    int n_other = 0;
    for (int slot = 0; slot <= 2 * p->n; slot++)
        ck_ok(vlci_kv_create(&p->pool, slot % 2 ? &p->kv[p->n - (slot + 1) / 2] : &other[n_other++]));
    for (int i = 0; i < n_other; i++) vlci_kv_release(&other[i]);
}

static void write_list(pages *p, int b, int layer, int head, const pages_rows *what) {
    const vlci_kv_shape *s = &p->pool.shape;
    vlci_kv *kv = &p->kv[b];
    int i = (b * s->layers + layer) * s->kv_heads + head;
    vlci_kv_list *list = vlci_kv_list_of(kv, layer, head);
    size_t first = pages_first(what->rows, i);
    list->biased = what->bias && (!what->biased || what->biased[i]);
    for (int row = 0, n; row < what->rows[i]; row += n, first += (size_t)n) {
        static const float none[VLCI_KV_PAGE] = {0};
        size_t at = first * (size_t)s->head_dim;
        n = what->rows[i] - row < VLCI_KV_PAGE ? what->rows[i] - row : VLCI_KV_PAGE;
        write_rows(&p->pool, list, row, what->k ? what->k + at : NULL, what->v ? what->v + at : NULL,
                   what->bias ? what->bias + first : none, n);
    }
}

/* All heads of a layer are given as many rows as the longest has, then cut. */
static void fill_layer(pages *p, int b, int layer, const pages_rows *what) {
    int heads = p->pool.shape.kv_heads, most = 0;
    const int *rows = what->rows + (b * p->pool.shape.layers + layer) * heads;
    for (int head = 0; head < heads; head++)
        if (rows[head] > most) most = rows[head];
    ck_ok(vlci_kv_reserve(&p->kv[b], layer, 1, most));
    vlci_kv_append(&p->kv[b], layer, 1, most);
    for (int head = 0; head < heads; head++) {
        vlci_kv_cut(&p->kv[b], layer, head, rows[head]);
        write_list(p, b, layer, head, what);
    }
    if (most > p->kv[b].length) p->kv[b].position = p->kv[b].length = most;
}

static int count_pages(const vlci_kv_shape *shape, int n, const int *rows) {
    int pages_needed = 0, most = 0;
    for (int i = 0; i < pages_lists(shape, n); i++) {
        pages_needed += vlci_kv_pages(rows[i]);
        if (rows[i] > most) most = rows[i];
    }
    return pages_needed +
           shape->kv_heads * vlci_kv_pages(most); /* while a layer is longer than it should be */
}

/* Values as the device sees them. */
static void round_values(float *x, size_t n, vlcache_dtype dtype) {
    if (x) free(suite_store(x, n, dtype));
}

/* The pages that are too many go, so that exactly `spare` are left. */
static void drop_pages(vlci_kv_pool *pool, int spare) {
    pool->elastic = true;
    ck_ok(vlci_kv_pool_shrink(pool, spare));
    pool->elastic = false;
}

pages *pages_create(const vlci_kv_shape *shape, int n, const pages_rows *what, int spare) {
    uint64_t seed = 3;
    int32_t slot[PAGES_SEQUENCES];
    int lists = pages_lists(shape, n), most = count_pages(shape, n, what->rows) + spare;
    size_t values = pages_first(what->rows, lists) * (size_t)shape->head_dim;
    pages *p = calloc(1, sizeof *p);
    ck_assert(p && n <= PAGES_SEQUENCES);
    p->n = n;
    round_values(what->k, values, shape->dtype);
    round_values(what->v, values, shape->dtype);
    ck_ok(vlci_kv_pool_create(suite_device(), shape, most, false, &p->pool));
    if (what->bias) ck_ok(vlci_kv_pool_bias(&p->pool));
    pages_poison_spare(&p->pool);
    pages_scramble(&p->pool, &seed);
    take_slots(p);
    for (int layer = 0; layer < shape->layers; layer++)
        for (int b = n - 1; b >= 0; b--) fill_layer(p, b, layer, what);
    drop_pages(&p->pool, spare);
    pages_poison_spare(&p->pool);
    pages_scramble(&p->pool, &seed);
    for (int b = 0; b < n; b++) slot[b] = p->kv[b].slot;
    p->slots = suite_upload(slot, sizeof slot);
    ck_ok(vlci_kv_pool_sync(&p->pool));
    return p;
}

vlci_kv_view pages_view(const pages *p, int layer) {
    vlci_kv_view view = vlci_kv_layer(&p->kv[0], layer);
    view.slots = p->slots;
    return view;
}

/* ---- accounts ------------------------------------------------------------------------------------------ */

void pages_check_owners(const vlci_kv_pool *pool) {
    uint32_t *owners = calloc((size_t)pool->pages + 1, sizeof *owners);
    int lists = pool->shape.layers * pool->shape.kv_heads, held = 0;
    for (const vlci_kv *kv = pool->first; kv; kv = kv->next) {
        int own = 0;
        for (int i = 0; i < lists; i++) {
            const vlci_kv_list *list = &kv->list[i];
            ck_assert_int_ge(list->pages, vlci_kv_pages(list->rows));
            for (int at = 0; at < list->pages; at++) owners[pool->table.entry[list->first + at]]++;
            own += list->pages;
        }
        ck_assert_int_eq(kv->held, own);
    }
    for (int page = 0; page < pool->pages; page++) {
        ck_assert_uint_eq(pool->owners[page], owners[page]);
        held += owners[page] != 0;
    }
    ck_assert_int_eq(pool->held, held);
    for (int i = 0; i < pool->pages - held; i++) { /* each spare page once */
        ck_assert_uint_eq(owners[pool->spare[i]], 0);
        owners[pool->spare[i]] = 1;
    }
    free(owners);
}

void pages_check_copies(const vlci_kv_pool *pool) {
    for (int i = 0; i < pool->pairs; i++)
        for (int j = 0; j < pool->pairs; j++) {
            ck_assert_int_ne(pool->pair[2 * i], pool->pair[2 * j + 1]);
            if (i != j) ck_assert_int_ne(pool->pair[2 * i + 1], pool->pair[2 * j + 1]);
        }
}

static void count_run(unsigned char *times, const vlci_kv_table *table, int first, int size) {
    ck_assert_int_le(first + (1 << size), table->used);
    for (int i = 0; i < 1 << size; i++) times[first + i]++;
}

void pages_check_runs(const vlci_kv_pool *pool) {
    const vlci_kv_table *table = &pool->table;
    unsigned char *times = calloc(1, (size_t)table->used + 1);
    int lists = pool->shape.layers * pool->shape.kv_heads;
    for (const vlci_kv *kv = pool->first; kv; kv = kv->next)
        for (int i = 0; i < lists; i++)
            if (kv->list[i].size) count_run(times, table, kv->list[i].first, kv->list[i].size);
    for (int size = 0; size < VLCI_KV_RUN_SIZES; size++)
        for (int first = table->free_run[size]; first >= 0; first = table->entry[first])
            count_run(times, table, first, size);
    for (int i = 0; i < table->used; i++) ck_assert_int_eq(times[i], 1);
    free(times);
}

void pages_destroy(pages *p) {
    for (int b = 0; b < p->n; b++) vlci_kv_release(&p->kv[b]);
    pages_check_owners(&p->pool);
    ck_assert_int_eq(p->pool.held, 0);
    ck_assert_int_eq(p->pool.n_free_slots, p->pool.slots);
    ck_assert_ptr_null(p->pool.first);
    vlci_kv_pool_release(&p->pool);
    suite_release(p->slots);
    free(p);
}
