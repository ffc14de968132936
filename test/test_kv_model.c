/*
 * test_kv_model.c - random operations on several caches of one pool, against a model that keeps every row's
 * number on the host: after each, pages have the owners they should have, and the device holds what the model
 * says, in caches and in what they would go back to.
 */
#include <stdlib.h>
#include <string.h>

#include "support/pages.h"

enum { LAYERS = 2, HEADS = 3, LISTS = LAYERS * HEADS, CACHES = 7, ROWS = 150, PAGE = VLCI_KV_PAGE };

/* What a cache holds: a number for each row of each list, and its bias. */
typedef struct model {
    int rows[LISTS], number[LISTS][ROWS];
    float bias[LISTS][ROWS];
    bool biased[LISTS];
    int32_t position, length;
} model;

/* A cache, what it could go back to, and the models of both. */
typedef struct pair {
    bool there, marked;
    vlci_kv kv, mark;
    model now, then;
} pair;

static vlci_kv_pool pool;
static pair caches[CACHES];
static uint64_t seed;
static int next_number, refused, advanced;
static cl_mem heads_to, slots, tokens, ids, positions;

static int draw(int below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((uint32_t)(seed >> 33) % (uint32_t)below);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Element d of the keys of a row; whole numbers that each dtype can hold. */
static float key(int number, int d) {
    return (float)((number * 7 + d) % (pool.shape.dtype == VLCACHE_DTYPE_F32 ? 1 << 20 : 251));
}

static void write_row(const vlci_kv_list *list, int row, int number, float bias) {
    float k[16], v[16];
    for (int d = 0; d < pool.shape.head_dim; d++) v[d] = -(k[d] = key(number, d));
    pages_write_list_row(&pool, list, row, k, v, bias);
}

static void check_list(const vlci_kv *kv, const model *m, int i) {
    float k[ROWS * 16], v[ROWS * 16], bias[ROWS];
    int dim = pool.shape.head_dim, rows = pages_read(kv, i / HEADS, i % HEADS, k, v, bias);
    ck_assert_int_eq(rows, m->rows[i]);
    ck_assert_int_eq(kv->list[i].biased, m->biased[i]);
    for (int row = 0; row < rows; row++) {
        ck_assert_float_eq(bias[row], m->biased[i] ? m->bias[i][row] : 0.0f);
        for (int d = 0; d < dim; d++) {
            ck_assert_float_eq(k[row * dim + d], key(m->number[i][row], d));
            ck_assert_float_eq(v[row * dim + d], -k[row * dim + d]);
        }
    }
}

static void check_cache(const vlci_kv *kv, const model *m) {
    ck_assert_int_eq(kv->position, m->position);
    ck_assert_int_eq(kv->length, m->length);
    for (int i = 0; i < LISTS; i++) check_list(kv, m, i);
}

static void check_all(void) {
    for (int c = 0; c < CACHES; c++) {
        if (!caches[c].there) continue;
        check_cache(&caches[c].kv, &caches[c].now);
        if (caches[c].marked) check_cache(&caches[c].mark, &caches[c].then);
    }
}

/* ---- operations ---------------------------------------------------------------------------------------- */

/* Whether it succeeded; a pool of a fixed size may be full, and must be as it was then. */
static bool done(vlcache_status status, int held) {
    if (!status) return true;
    ck_assert_msg(status == VLCACHE_E_DEVICE_MEMORY && !pool.elastic, "%s", vlcache_error_message());
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "pages are needed"));
    ck_assert_int_eq(pool.held, held);
    refused++;
    return false;
}

static void do_create(pair *p) {
    const pair *from = &caches[draw(CACHES)];
    if (from->there && draw(3)) {
        ck_ok(vlci_kv_fork(&from->kv, &p->kv));
        p->now = from->now;
    } else {
        ck_ok(vlci_kv_create(&pool, &p->kv));
        p->now = (model){0};
    }
    p->there = true;
    p->marked = false;
}

static void drop_mark(pair *p) {
    if (p->marked) vlci_kv_release(&p->mark);
    p->marked = false;
}

static void do_release(pair *p) {
    drop_mark(p);
    vlci_kv_release(&p->kv);
    p->there = false;
}

/* Up to `most` rows more for some layers; false: there is no room. */
static bool append(pair *p, int layer, int layers, int n) {
    int held = pool.held;
    for (int i = layer * HEADS; i < (layer + layers) * HEADS; i++)
        if (p->now.rows[i] + n > ROWS) return false;
    int pages_wanted = vlci_kv_reserve_pages(&p->kv, layer, layers, n), free_pages = pool.pages - held;
    vlcache_status status = vlci_kv_reserve(&p->kv, layer, layers, n);
    ck_assert(pool.elastic || (status == VLCACHE_OK) == (pages_wanted <= free_pages));
    if (!done(status, held)) return false;
    ck_ok(vlci_kv_pool_sync(&pool)); /* what is copied is copied before kernels write */
    for (int i = layer * HEADS; i < (layer + layers) * HEADS; i++)
        for (int r = 0; r < n; r++) {
            int at = p->now.rows[i]++;
            p->now.number[i][at] = next_number;
            p->now.bias[i][at] = 0;
            write_row(&p->kv.list[i], at, next_number++, 0);
        }
    return true;
}

static void do_append(pair *p) {
    int layer = draw(LAYERS), layers = draw(3) ? LAYERS - layer : 1, n = draw(40);
    if (append(p, layer, layers, n)) vlci_kv_append(&p->kv, layer, layers, n);
    p->kv.position = p->now.position += n + 2;
    p->kv.length = p->now.length += n;
}

/* One row a head, which the device is to count. */
static void do_step(pair *p) {
    if (append(p, 0, LAYERS, 1)) vlci_kv_append_behind(&p->kv);
}

/* The device counts the rows of those that are behind. */
static void do_advance(void) {
    vlci_kv *on[CACHES];
    int slot[CACHES], n = 0;
    for (int c = 0; c < CACHES; c++)
        if (caches[c].there && caches[c].kv.behind && draw(4)) {
            slot[n] = caches[c].kv.slot;
            on[n++] = &caches[c].kv;
        }
    if (!n) return;
    ck_ok(vlci_write_later(suite_device(), slots, 0, slot, (size_t)n * sizeof *slot));
    ck_ok(vlci_kv_advance(on, n, tokens, ids, positions, slots));
    advanced += n;
}

static void do_cut(pair *p) {
    int i = draw(LISTS), rows = draw(p->now.rows[i] + 1);
    vlci_kv_cut(&p->kv, i / HEADS, i % HEADS, rows);
    p->now.rows[i] = rows;
}

static void do_clear(pair *p) {
    vlci_kv_clear(&p->kv);
    p->now = (model){0};
}

static void do_mark(pair *p) {
    drop_mark(p);
    ck_ok(vlci_kv_mark(&p->kv, &p->mark));
    p->then = p->now;
    p->marked = true;
}

static void do_go_back(pair *p) {
    if (!p->marked) return;
    vlci_kv_go_back(&p->kv, &p->mark);
    p->now = p->then;
    p->marked = false;
}

/* Rows behind whole pages that stay, as kernels would gather them: those kept, then new ones. */
static void fill(pair *p, int i, const vlci_kv_list *list, int keep, bool biased) {
    model *m = &p->now;
    if (!m->biased[i]) memset(m->bias[i], 0, sizeof m->bias[i]);
    for (int row = keep / PAGE * PAGE; row < list->rows; row++) {
        if (row >= keep) {
            m->number[i][row] = next_number++;
            m->bias[i][row] = biased ? (float)draw(100) : 0;
        }
        write_row(list, row, m->number[i][row], m->bias[i][row]);
    }
    m->rows[i] = list->rows;
    m->biased[i] = m->biased[i] || biased;
}

/* Some layers' rows give way to others; or it is given up. */
static void do_replace(pair *p) {
    int layer = draw(LAYERS), layers = draw(LAYERS - layer) + 1, held = pool.held;
    int rows[LISTS], keep[LISTS], first = layer * HEADS;
    bool biased = draw(3) == 0;
    vlci_kv_next next;
    for (int i = 0; i < layers * HEADS; i++) {
        keep[i] = draw(p->now.rows[first + i] + 1);
        rows[i] = keep[i] + draw(30 < ROWS - keep[i] ? 30 : ROWS - keep[i] + 1);
    }
    int more = vlci_kv_replace_pages(&p->kv, layers * HEADS, rows, keep);
    if (!done(vlci_kv_replace(&p->kv, layer, layers, rows, keep, biased, heads_to, &next), held)) return;
    ck_assert_int_eq(pool.held, held + more);
    if (draw(4) == 0) {
        vlci_kv_next_release(&p->kv, &next);
        ck_assert_int_eq(pool.held, held);
        return;
    }
    for (int i = 0; i < layers * HEADS; i++) fill(p, first + i, &next.list[i], keep[i], biased);
    vlci_kv_replaced(&p->kv, &next);
}

static void operate(void) {
    pair *p = &caches[draw(CACHES)];
    if (!p->there) return do_create(p);
    switch (draw(20)) {
    case 0:
        return do_release(p);
    case 1:
        return do_clear(p);
    case 2:
    case 3:
        return do_cut(p);
    case 4:
    case 5:
    case 6:
        return do_replace(p);
    case 7:
    case 8:
        return do_mark(p);
    case 9:
        return do_go_back(p);
    case 10:
        return drop_mark(p);
    case 11:
        ck_ok(vlci_kv_pool_shrink(&pool, draw(30)));
        return;
    case 12:
    case 13:
        return do_advance();
    case 14:
    case 15:
    case 16:
        return do_step(p);
    }
    do_append(p);
}

/* ---- the test ------------------------------------------------------------------------------------------ */

static void begin(int case_of) {
    static const vlci_kv_shape shapes[] = {{LAYERS, HEADS, 4, VLCACHE_DTYPE_F32},
                                           {LAYERS, HEADS, 3, VLCACHE_DTYPE_BF16},
                                           {LAYERS, HEADS, 6, VLCACHE_DTYPE_F16}};
    bool elastic = case_of % 2 == 0;
    seed = 77 + (uint64_t)case_of;
    next_number = refused = advanced = 0;
    memset(caches, 0, sizeof caches); /* a case before may have failed */
    ck_ok(vlci_kv_pool_create(suite_device(), &shapes[case_of % 3], elastic ? 0 : 100, elastic, &pool));
    pages_scramble(&pool, &seed);
    heads_to = suite_poison(LISTS * sizeof(vlci_kv_head));
    tokens = suite_poison(CACHES * sizeof(int));
    ids = suite_poison(CACHES * sizeof(int));
    positions = suite_poison(3 * CACHES * sizeof(int));
    slots = suite_poison(CACHES * sizeof(int));
}

static void end(void) {
    for (int c = 0; c < CACHES; c++)
        if (caches[c].there) do_release(&caches[c]);
    pages_check_owners(&pool);
    pages_check_runs(&pool);
    ck_assert_int_eq(pool.held, 0);
    ck_assert_int_eq(pool.n_free_slots, pool.slots);
    ck_assert_ptr_null(pool.first);
    ck_ok(vlci_kv_pool_shrink(&pool, 0));
    ck_assert(!pool.elastic || vlci_kv_pool_bytes(&pool) == 0);
    ck_assert_int_le(pool.table.used, 2 * CACHES * LISTS * 2 * 32); /* runs served again */
    vlci_kv_pool_release(&pool);
    cl_mem all[] = {heads_to, slots, tokens, ids, positions};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
}

START_TEST(agrees_with_the_model) {
    int steps = suite_reduced() ? 100 : 800;
    begin(_i);
    for (int step = 0; step < steps; step++) {
        operate();
        pages_check_owners(&pool);
        pages_check_runs(&pool);
        pages_check_copies(&pool);
        pair *one = &caches[draw(CACHES)];
        if (one->there && draw(4) == 0) check_cache(&one->kv, &one->now);
        if (step % 50 == 49) check_all();
    }
    ck_assert(suite_reduced() || (refused > 0) == !pool.elastic);
    ck_assert(suite_reduced() || advanced > 10);
    end();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kv_model");
    TCase *all = tcase_create("kv_model");
    suite_balance(all);
    tcase_add_loop_test(all, agrees_with_the_model, 0, 6);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
