/*
 * test_store.c - rows of a cache in the host's memory: they go there from any pages, and come back into any
 * others, bit by bit.
 */
#include "kv/recall.h"
#include "support/pages.h"

enum { LAYERS = 3, HEADS = 2, LISTS = LAYERS * HEADS };

/* 16 bits of row `row` of a list. */
static uint16_t mark(int list, int row, int d) {
    return (uint16_t)(list * 7919 + row * 131 + d * 3 + 1);
}

static void fill(vlci_kv *kv, int plane, int list, int from, int until) {
    vlci_kv_pool *p = kv->pool;
    int dim = p->shape.head_dim;
    uint16_t row[64];
    for (int r = from; r < until; r++) {
        for (int d = 0; d < dim; d++) row[d] = mark(plane * LISTS + list, r, d);
        size_t at = (size_t)p->table.entry[kv->list[list].first + r / VLCI_KV_PAGE] * VLCI_KV_PAGE +
                    (size_t)(r % VLCI_KV_PAGE);
        ck_ok(vlci_write(p->device, plane ? p->v : p->k, at * (size_t)dim * 2, row, (size_t)dim * 2));
    }
}

static void append(vlci_kv *kv, int n) {
    int from = kv->list[0].rows;
    ck_ok(vlci_kv_reserve(kv, 0, LAYERS, n));
    for (int i = 0; i < 2 * LISTS; i++) fill(kv, i / LISTS, i % LISTS, from, from + n);
    vlci_kv_append(kv, 0, LAYERS, n);
    kv->length += n;
}

static void check_rows(const vlci_kv *kv, int n) {
    const vlci_kv_pool *p = kv->pool;
    int dim = p->shape.head_dim;
    uint16_t row[64];
    for (int i = 0; i < 2 * LISTS; i++)
        for (int r = 0; r < n; r++) {
            const vlci_kv_list *list = &kv->list[i % LISTS];
            ck_assert_int_eq(list->rows, n);
            size_t at = (size_t)p->table.entry[list->first + r / VLCI_KV_PAGE] * VLCI_KV_PAGE +
                        (size_t)(r % VLCI_KV_PAGE);
            ck_ok(vlci_read(p->device, i / LISTS ? p->v : p->k, at * (size_t)dim * 2, row, (size_t)dim * 2));
            for (int d = 0; d < dim; d++) ck_assert_uint_eq(row[d], mark(i, r, d));
        }
}

/* Everything goes, and comes back into whatever pages there are. */
static void bring_all(vlci_kv *kv, uint64_t *seed) {
    vlci_recall r = {0};
    vlci_kv_drop(kv);
    pages_scramble(kv->pool, seed);
    pages_poison_spare(kv->pool);
    ck_ok(vlci_recall_begin(&r, kv, 0));
    for (int l = 0; l < LAYERS; l++) {
        ck_ok(vlci_kv_reserve(kv, l, 1, kv->store->all));
        ck_ok(vlci_recall_bring(&r, l));
        ck_ok(vlci_recall_send(&r, l + 1));
    }
    ck_ok(vlci_recall_end(&r));
    ck_assert_uint_eq(r.bytes, vlci_store_bytes(kv->store));
    vlci_recall_release(&r);
}

/* Stretches of any length, forks that go their own ways, and what one memory and two memories do. */
START_TEST(rows_go_and_come) {
    const vlci_kv_shape shape = {LAYERS, HEADS, _i % 2 ? 6 : 32, VLCACHE_DTYPE_F16};
    vlcache_device *device = suite_device();
    bool *unified = &device->caps.info.unified_memory, is = *unified;
    uint64_t seed = 5;
    vlci_kv_pool pool;
    vlci_kv kv, fork;
    vlci_recall r = {0};
    if (_i / 2) *unified = false;
    ck_ok(vlci_kv_pool_create(device, &shape, 200, false, &pool));
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, 37);
    ck_ok(vlci_recall_keep_all(&r, &kv, 37));
    append(&kv, 1);
    ck_ok(vlci_recall_keep_all(&r, &kv, 1));
    ck_assert_int_eq(kv.store->all, 38);
    bring_all(&kv, &seed);
    check_rows(&kv, 38);
    ck_ok(vlci_kv_fork(&kv, &fork));
    ck_assert_ptr_eq(fork.store, kv.store);
    ck_assert_int_eq(kv.store->references, 2);
    append(&kv, 20);
    ck_ok(vlci_recall_keep_all(&r, &kv, 20));
    ck_assert_int_eq(fork.store->references, 2); /* the fork's, and the longer one's */
    vlci_kv_clear(&kv);
    bring_all(&fork, &seed);
    check_rows(&fork, 38);
    append(&fork, 16);
    r.limit = vlci_store_bytes(fork.store);
    ck_fails(vlci_recall_keep_all(&r, &fork, 16), VLCACHE_E_NO_MEMORY, "recall_bytes");
    vlci_recall_release(&r);
    ck_ok(vlci_recall_keep_all(&r, &fork, 16));
    bring_all(&fork, &seed);
    check_rows(&fork, 54);
    vlci_recall_release(&r);
    vlci_kv_release(&fork);
    vlci_kv_release(&kv);
    vlci_kv_pool_release(&pool);
    *unified = is;
}
END_TEST

/* Rows of a layer that several threads copy, of more than one stretch. */
START_TEST(many_rows) {
    enum { FIRST = 401, MORE = 211 };
    const vlci_kv_shape shape = {LAYERS, HEADS, 64, VLCACHE_DTYPE_F16};
    bool *unified = &suite_device()->caps.info.unified_memory, is = *unified;
    uint64_t seed = 6;
    vlci_kv_pool pool;
    vlci_kv kv;
    vlci_recall r = {0};
    if (suite_reduced()) return; /* a simulator keeps a record of each of so many small transfers */
    if (_i) *unified = false;
    ck_ok(vlci_kv_pool_create(suite_device(), &shape, 500, false, &pool));
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, FIRST);
    ck_ok(vlci_recall_keep_all(&r, &kv, FIRST));
    append(&kv, MORE);
    ck_ok(vlci_recall_keep_all(&r, &kv, MORE));
    ck_ok(vlci_recall_begin(&r, &kv, 0));
    ck_assert_int_eq(r.team != NULL, vlci_processors() > 1);
    vlci_recall_release(&r); /* half way */
    ck_assert_ptr_null(r.team);
    bring_all(&kv, &seed);
    check_rows(&kv, FIRST + MORE);
    vlci_kv_release(&kv);
    vlci_kv_pool_release(&pool);
    *unified = is;
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store");
    TCase *all = tcase_create("store");
    suite_balance(all);
    tcase_add_loop_test(all, rows_go_and_come, 0, 4);
    tcase_add_loop_test(all, many_rows, 0, 2);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
