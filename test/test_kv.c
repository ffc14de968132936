/*
 * test_kv.c - the pool of pages, and caches in it: what is shared is copied before it is written to, what is
 * given back serves others, a pool that grows or shrinks keeps what is there, one that is full says so and
 * leaves everything as it was, and little space is lost at the ends of pages. test_kv_model.c does all of it
 * at random.
 */
#include <stdlib.h>
#include <string.h>

#include "support/pages.h"
#include "support/scratch.h"

enum { LAYERS = 2, HEADS = 3, LISTS = LAYERS * HEADS, DIM = 4, PAGE = VLCI_KV_PAGE };
static const vlci_kv_shape shape = {LAYERS, HEADS, DIM, VLCACHE_DTYPE_F32};

static uint64_t page_bytes(bool biases) {
    return 2 * PAGE * DIM * sizeof(float) + (biases ? PAGE * sizeof(float) : 0);
}

static vlci_kv_pool pool;

static void begin(int n_pages, bool elastic) {
    ck_ok(vlci_kv_pool_create(suite_device(), &shape, n_pages, elastic, &pool));
}

/* All caches are released: nothing is held. */
static void end(void) {
    pages_check_owners(&pool);
    ck_assert_int_eq(pool.held, 0);
    ck_assert_int_eq(pool.n_free_slots, pool.slots);
    vlci_kv_pool_release(&pool);
    ck_assert_ptr_null(pool.k);
}

/* ---- rows that can be told apart ----------------------------------------------------------------------- */

/* Value d of row `row` of a list, of keys that `mark` names. */
static float value(float mark, int list, int row, int d) {
    return mark * 100000 + (float)(list * 10000 + row * 10 + d);
}

static void write_rows(const vlci_kv *kv, int from, int until, float mark) {
    ck_ok(vlci_kv_pool_sync(&pool));
    for (int i = 0; i < LISTS; i++)
        for (int row = from; row < until; row++) {
            float k[DIM], v[DIM];
            for (int d = 0; d < DIM; d++) v[d] = -(k[d] = value(mark, i, row, d));
            pages_write_row(kv, i / HEADS, i % HEADS, row, k, v, 0);
        }
}

/* n more rows for all heads, as kernels append them. */
static void append(vlci_kv *kv, int n, float mark) {
    int rows = kv->list[0].rows;
    ck_ok(vlci_kv_reserve(kv, 0, LAYERS, n));
    ck_assert_int_eq(vlci_kv_reserve_pages(kv, 0, LAYERS, n), 0);
    ck_assert_int_ge(vlci_kv_room(kv), n);
    write_rows(kv, rows, rows + n, mark);
    vlci_kv_append(kv, 0, LAYERS, n);
    kv->position += n;
    kv->length += n;
}

/* Rows from .. until - 1 of all lists are those of `mark`. */
static void check_rows(const vlci_kv *kv, int from, int until, float mark) {
    float k[256 * DIM], v[256 * DIM];
    for (int i = 0; i < LISTS; i++) {
        ck_assert_int_ge(pages_read(kv, i / HEADS, i % HEADS, k, v, NULL), until);
        for (int e = from * DIM; e < until * DIM; e++) {
            ck_assert_float_eq(k[e], value(mark, i, e / DIM, e % DIM));
            ck_assert_float_eq(v[e], -k[e]);
        }
    }
}

static int32_t page_of(const vlci_kv *kv, int list, int page) {
    return pool.table.entry[kv->list[list].first + page];
}

/* ---- growing, and what it costs ------------------------------------------------------------------------ */

START_TEST(test_growth) {
    vlci_kv kv;
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    ck_assert_uint_eq(vlci_kv_pool_bytes(&pool), 0);
    ck_assert_int_eq(vlci_kv_reserve_pages(&kv, 0, LAYERS, 5), LISTS);
    ck_assert_int_eq(vlci_kv_reserve_pages(&kv, 1, 1, PAGE + 1), 2 * HEADS);
    append(&kv, 5, 1);
    ck_assert_int_eq(pool.pages, LISTS);
    ck_assert_int_eq(kv.held, LISTS);
    ck_assert_uint_eq(vlci_kv_pool_bytes(&pool), LISTS * page_bytes(false));
    vlci_kv_pool_watch(&pool);
    append(&kv, PAGE, 2);
    ck_assert_int_eq(pool.pages, 2 * LISTS);
    ck_assert_int_eq(pool.most, 2 * LISTS);
    ck_assert_uint_eq(pool.most_bytes, 3 * LISTS * page_bytes(false)); /* both sizes at once */
    ck_assert_int_eq(vlci_kv_room(&kv), 2 * PAGE - 5 - PAGE);
    check_rows(&kv, 0, 5, 1);
    check_rows(&kv, 5, 5 + PAGE, 2);
    ck_assert_uint_eq(vlci_kv_pool_rows(&pool), (5 + PAGE) * LISTS);
    vlci_kv_release(&kv);
    end();
}
END_TEST

/* Biases are all zero when they come, are counted, and grow along, those of every head. */
START_TEST(test_biases) {
    vlci_kv kv;
    float got[PAGE], k[DIM] = {0};
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, PAGE, 1);
    ck_ok(vlci_kv_pool_bias(&pool));
    ck_assert_uint_eq(vlci_kv_pool_bytes(&pool), LISTS * page_bytes(true));
    ck_assert_uint_eq(vlci_memory_now(suite_device()) >= vlci_kv_pool_bytes(&pool), 1);
    for (int i = 0; i < LISTS; i++) {
        kv.list[i].biased = i % 2 == 0;
        for (int row = 0; row < PAGE; row++) {
            ck_ok(
                vlci_read(suite_device(), pool.bias, (size_t)(page_of(&kv, i, 0) * PAGE + row) * 4, got, 4));
            ck_assert_float_eq(got[0], 0.0f);
            pages_write_row(&kv, i / HEADS, i % HEADS, row, k, k, (float)(100 * i + row));
        }
    }
    append(&kv, 3, 2); /* grows, and has the heads told */
    for (int i = 0; i < LISTS; i++) {
        float bias[PAGE + 3];
        ck_assert_int_eq(pages_read(&kv, i / HEADS, i % HEADS, NULL, NULL, bias), PAGE + 3);
        for (int row = 0; row < PAGE + 3; row++)
            ck_assert_float_eq(bias[row], i % 2 == 0 && row < PAGE ? (float)(100 * i + row) : 0.0f);
    }
    vlci_kv_release(&kv);
    end();
}
END_TEST

/* A pool of a fixed size that is full says with which numbers, and nothing has changed. */
START_TEST(test_full) {
    vlci_kv kv, other;
    begin(2 * LISTS + 1, false);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, PAGE + 2, 1);
    ck_fails(vlci_kv_reserve(&kv, 0, LAYERS, PAGE), VLCACHE_E_DEVICE_MEMORY,
             "6 pages are needed, 1 of 13 are free (512 bytes each)");
    ck_assert_int_eq(pool.pages, 2 * LISTS + 1);
    ck_assert_int_eq(kv.held, 2 * LISTS);
    ck_ok(vlci_kv_fork(&kv, &other)); /* takes no page */
    ck_assert_int_eq(pool.held, 2 * LISTS);
    ck_fails(vlci_kv_reserve(&other, 1, 1, 1), VLCACHE_E_DEVICE_MEMORY, "3 pages are needed");
    ck_ok(vlci_kv_pool_shrink(&pool, 0)); /* does nothing to a fixed one */
    ck_assert_int_eq(pool.pages, 2 * LISTS + 1);
    check_rows(&kv, 0, PAGE + 2, 1);
    check_rows(&other, 0, PAGE + 2, 1);
    pages_check_owners(&pool);
    vlci_kv_release(&kv);
    append(&other, 3, 2); /* the last pages are its own now */
    check_rows(&other, 0, PAGE + 2, 1);
    check_rows(&other, PAGE + 2, PAGE + 5, 2);
    vlci_kv_release(&other);
    end();
}
END_TEST

/* The device has no memory for a larger pool: it stays as it was. */
START_TEST(test_device_full) {
    vlci_kv kv;
    vlcache_device_info *info = &suite_device()->caps.info;
    uint64_t limit = info->max_allocation;
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, 5, 1);
    uint64_t now = vlci_memory_now(suite_device());
    info->max_allocation = LISTS * page_bytes(false);
    vlcache_status status = vlci_kv_reserve(&kv, 0, LAYERS, 20 * PAGE);
    info->max_allocation = limit;
    ck_assert_int_eq(status, VLCACHE_E_DEVICE_MEMORY);
    ck_assert_int_eq(pool.pages, LISTS);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), now);
    check_rows(&kv, 0, 5, 1);
    append(&kv, 20 * PAGE - 16 * PAGE, 1);
    check_rows(&kv, 0, 5 + 4 * PAGE, 1);
    vlci_kv_release(&kv);
    end();
}
END_TEST

/* Entries of the runs of a cache's lists. */
static int run_entries(const vlci_kv *kv) {
    int entries = 0;
    for (int i = 0; i < LISTS; i++) entries += kv->list[i].size ? 1 << kv->list[i].size : 0;
    return entries;
}

/* Pages without an owner go, the others move together and are renumbered, in caches, forks and marks alike.
 */
START_TEST(test_shrink) {
    uint64_t seed = 5;
    vlci_kv a, b, c, d, mark;
    begin(40 * LISTS, true);
    pages_scramble(&pool, &seed);
    ck_ok(vlci_kv_pool_bias(&pool));
    ck_ok(vlci_kv_create(&pool, &a));
    ck_ok(vlci_kv_create(&pool, &b));
    append(&a, 3 * PAGE, 1);
    append(&b, 40, 2);
    ck_ok(vlci_kv_fork(&b, &c));
    append(&c, 5, 3);
    ck_ok(vlci_kv_mark(&a, &mark));
    vlci_kv_clear(&a);
    append(&a, 2 + PAGE, 4);
    for (int i = 0; i < LISTS; i++) vlci_kv_cut(&a, i / HEADS, i % HEADS, 2); /* pages are given back */
    ck_ok(vlci_kv_fork(&c, &d));
    ck_ok(vlci_kv_reserve(&d, 0, LAYERS, 1));
    ck_assert_int_eq(pool.pairs, LISTS); /* copies wait for the next kernel */
    int held = pool.held;
    vlci_kv_pool_watch(&pool);
    ck_ok(vlci_kv_pool_shrink(&pool, 3));
    ck_assert_int_eq(pool.pages, held + 3);
    ck_assert_int_eq(pool.held, held);
    ck_assert_uint_eq(pool.most_bytes, (uint64_t)(40 * LISTS + held + 3) * page_bytes(true));
    for (int i = 0; i < LISTS; i++) ck_assert_int_lt(page_of(&a, i, 0), held);
    for (int i = 0; i < LISTS; i++) ck_assert_int_eq(a.list[i].size, 2); /* as short as can be */
    ck_assert_int_eq(pool.table.used, run_entries(&a) + run_entries(&b) + run_entries(&c) + run_entries(&d) +
                                          run_entries(&mark)); /* one after another */
    pages_check_owners(&pool);
    check_rows(&a, 0, 2, 4);
    check_rows(&b, 0, 40, 2);
    check_rows(&c, 0, 40, 2);
    check_rows(&c, 40, 45, 3);
    check_rows(&d, 0, 40, 2);
    check_rows(&d, 40, 45, 3);
    vlci_kv_go_back(&a, &mark);
    check_rows(&a, 0, 3 * PAGE, 1);
    ck_ok(vlci_kv_pool_shrink(&pool, pool.pages)); /* nothing to give */
    ck_assert_int_eq(pool.pages, held + 3);
    vlci_kv_release(&a);
    vlci_kv_release(&b);
    vlci_kv_release(&c);
    vlci_kv_release(&d);
    ck_ok(vlci_kv_pool_shrink(&pool, 0));
    ck_assert_uint_eq(vlci_kv_pool_bytes(&pool), 0);
    end();
}
END_TEST

/* ---- sharing ------------------------------------------------------------------------------------------- */

/* Both write behind what they share: neither sees the other's rows; whole pages stay shared. */
START_TEST(test_fork) {
    vlci_kv kv, other;
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, PAGE + 3, 1);
    ck_ok(vlci_kv_fork(&kv, &other));
    ck_assert_int_eq(other.position, PAGE + 3);
    ck_assert_int_eq(other.length, PAGE + 3);
    ck_assert_int_ne(other.slot, kv.slot);
    ck_assert_int_eq(pool.held, 2 * LISTS);
    ck_assert_int_eq(vlci_kv_room(&kv), 0); /* until the shared pages are copied */
    ck_assert_int_eq(vlci_kv_reserve_pages(&kv, 0, LAYERS, 1), LISTS);
    append(&kv, 2, 2);
    append(&other, 4, 3);
    ck_assert_int_eq(pool.held, 3 * LISTS); /* the second to write owns the page alone */
    check_rows(&kv, 0, PAGE + 3, 1);
    check_rows(&kv, PAGE + 3, PAGE + 5, 2);
    check_rows(&other, 0, PAGE + 3, 1);
    check_rows(&other, PAGE + 3, PAGE + 7, 3);
    for (int i = 0; i < LISTS; i++) {
        ck_assert_int_eq(page_of(&kv, i, 0), page_of(&other, i, 0));
        ck_assert_int_ne(page_of(&kv, i, 1), page_of(&other, i, 1));
    }
    ck_assert_uint_eq(vlci_kv_pool_rows(&pool), (2 * PAGE + 12) * LISTS);
    pages_check_owners(&pool);
    vlci_kv_release(&kv);
    check_rows(&other, PAGE + 3, PAGE + 7, 3);
    vlci_kv_release(&other);
    end();
}
END_TEST

/* Copies that wait for the next kernel, and pages that change hands meanwhile. */
START_TEST(test_copies_in_a_row) {
    vlci_kv a, b, c, d;
    begin(4 * LISTS, false);
    ck_ok(vlci_kv_create(&pool, &a));
    ck_ok(vlci_kv_create(&pool, &c));
    append(&a, 3, 1);
    append(&c, 3, 2);
    ck_ok(vlci_kv_fork(&a, &b));
    ck_ok(vlci_kv_fork(&c, &d));
    ck_ok(vlci_kv_reserve(&b, 0, LAYERS, 1)); /* a's pages are to be copied */
    vlci_kv_release(&a);                      /* and have no owner */
    ck_ok(vlci_kv_reserve(&d, 0, LAYERS, 1)); /* c's are to be copied there */
    pages_check_copies(&pool);
    check_rows(&b, 0, 3, 1);
    check_rows(&d, 0, 3, 2);
    ck_ok(vlci_kv_fork(&b, &a));
    ck_ok(vlci_kv_reserve(&a, 0, LAYERS, 1));
    vlci_kv_release(&a); /* what was to be copied to it is copied to another */
    ck_ok(vlci_kv_fork(&c, &a));
    ck_ok(vlci_kv_reserve(&a, 0, LAYERS, 1));
    pages_check_copies(&pool);
    check_rows(&a, 0, 3, 2);
    check_rows(&b, 0, 3, 1);
    vlci_kv *all[] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++) vlci_kv_release(all[i]);
    end();
}
END_TEST

/* What was appended, cut or replaced since a mark is as it was. */
START_TEST(test_go_back) {
    vlci_kv kv, mark;
    vlci_kv_next next;
    cl_mem to = suite_poison(LISTS * sizeof(vlci_kv_head));
    const int rows[HEADS] = {7, 0, 2 * PAGE}, keep[HEADS] = {0, 0, PAGE};
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, 2 * PAGE + 3, 1);
    for (int what = 0; what < 4; what++) {
        ck_ok(vlci_kv_mark(&kv, &mark));
        ck_assert_int_eq(mark.slot, -1);
        ck_assert_uint_eq(vlci_kv_pool_rows(&pool), (2 * PAGE + 3) * LISTS); /* marks do not count */
        if (what == 0 || what == 3) append(&kv, 20, 2);
        if (what == 1 || what == 3)
            for (int h = 0; h < HEADS; h++) vlci_kv_cut(&kv, 1, h, 5 * h);
        if (what == 1 || what == 3)
            ck_ok(vlci_kv_reserve(&kv, 1, 1, 1)); /* writes where the mark still looks */
        if (what == 2 || what == 3) {
            ck_ok(vlci_kv_replace(&kv, 0, 1, rows, keep, true, to, &next));
            vlci_kv_replaced(&kv, &next);
            ck_assert_int_eq(vlci_kv_most_rows(&kv, 0), 2 * PAGE);
            ck_assert(kv.list[0].biased);
        }
        kv.position += 9;
        vlci_kv_go_back(&kv, &mark);
        ck_assert_int_eq(kv.position, 2 * PAGE + 3);
        ck_assert_int_eq(kv.length, 2 * PAGE + 3);
        ck_assert(!kv.list[0].biased);
        ck_assert_int_eq(pool.held, 3 * LISTS);
        pages_check_owners(&pool);
        check_rows(&kv, 0, 2 * PAGE + 3, 1);
    }
    ck_ok(vlci_kv_mark(&kv, &mark)); /* or a mark is forgotten */
    append(&kv, 1, 2);
    vlci_kv_release(&mark);
    ck_assert_int_eq(pool.held, 3 * LISTS);
    vlci_kv_release(&kv);
    suite_release(to);
    end();
}
END_TEST

static vlci_keep before(int rows) {
    return (vlci_keep){.before = rows};
}

START_TEST(test_shared) {
    vlci_kv kv, other;
    vlci_keep keep[LISTS];
    begin(0, true);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, 2 * PAGE + 1, 1);
    for (int i = 0; i < LISTS; i++) keep[i] = before(2 * PAGE);
    ck_assert(!vlci_kv_shared(&kv, 0, LAYERS, keep));
    ck_ok(vlci_kv_fork(&kv, &other));
    ck_assert(vlci_kv_shared(&kv, 0, LAYERS, keep));
    ck_ok(vlci_kv_reserve(&kv, 1, 1, 1));
    ck_assert(!vlci_kv_shared(&kv, 1, 1, keep));
    ck_assert(vlci_kv_shared(&kv, 0, 1, keep));
    keep[LISTS - 1] = before(2 * PAGE - 1);
    ck_assert(vlci_kv_shared(&kv, 1, 1, keep));
    vlci_kv_release(&other);
    ck_assert(!vlci_kv_shared(&kv, 0, LAYERS, keep));
    vlci_kv_release(&kv);
    end();
}
END_TEST

/* ---- replacing ----------------------------------------------------------------------------------------- */

/* Whole pages of rows that stay are shared, none is copied, and the heads that kernels fill are right. */
START_TEST(test_replace) {
    vlci_kv kv;
    vlci_kv_next next;
    vlci_kv_head heads[HEADS];
    const int rows[HEADS] = {3 * PAGE, PAGE + 2, 0}, keep[HEADS] = {2 * PAGE + 5, PAGE - 1, 0};
    cl_mem to = suite_poison(sizeof heads);
    begin(6 * LISTS, false);
    ck_ok(vlci_kv_create(&pool, &kv));
    append(&kv, 5 * PAGE, 1);
    ck_assert_int_eq(vlci_kv_replace_pages(&kv, HEADS, rows, keep), 1 + 2);
    int32_t first = page_of(&kv, HEADS, 0), second = page_of(&kv, HEADS, 1);
    ck_ok(vlci_kv_replace(&kv, 1, 1, rows, keep, false, to, &next));
    ck_assert_int_eq(pool.pairs, 0);
    ck_assert_int_eq(pool.held, 5 * LISTS + 3);
    ck_assert_int_eq(kv.held, 5 * LISTS);
    ck_assert_int_eq(kv.most, 5 * LISTS + 3);
    suite_download(to, heads, sizeof heads);
    for (int h = 0; h < HEADS; h++) {
        ck_assert_int_eq(heads[h].rows, rows[h]);
        ck_assert_int_eq(heads[h].first, next.list[h].first);
        ck_assert_int_eq(heads[h].biased, 0);
    }
    check_rows(&kv, 0, 5 * PAGE, 1); /* still there, to be gathered from */
    vlci_kv_next_release(&kv, &next);
    ck_assert_int_eq(pool.held, 5 * LISTS);
    ck_ok(vlci_kv_replace(&kv, 1, 1, rows, keep, true, to, &next));
    vlci_kv_replaced(&kv, &next);
    ck_assert_int_eq(page_of(&kv, HEADS, 0), first);
    ck_assert_int_eq(page_of(&kv, HEADS, 1), second);
    ck_assert_int_eq(kv.held, 5 * HEADS + 3 + 2);
    ck_assert_int_eq(pool.held, kv.held);
    ck_assert(!kv.list[0].biased && kv.list[HEADS].biased);
    const int many[HEADS] = {6 * PAGE, 6 * PAGE, 6 * PAGE}, none[HEADS] = {0};
    ck_fails(vlci_kv_replace(&kv, 0, 1, many, none, false, to, &next), VLCACHE_E_DEVICE_MEMORY,
             "18 pages are needed");
    ck_assert_ptr_null(next.list);
    ck_assert_int_eq(pool.held, kv.held);
    pages_check_owners(&pool);
    vlci_kv_release(&kv);
    suite_release(to);
    end();
}
END_TEST

/* A budget of 10% of 2,048 tokens: what stays takes little more than its rows, whether all heads keep 205 or
 * each its own. */
START_TEST(test_page_ends) {
    enum { L = 8, H = 4, TOKENS = 2048 };
    const vlci_kv_shape large = {L, H, DIM, VLCACHE_DTYPE_F32};
    int rows[L * H], keep[L * H] = {0};
    vlci_kv kv;
    vlci_kv_next next;
    cl_mem to = suite_poison(sizeof(vlci_kv_head) * L * H);
    ck_ok(vlci_kv_pool_create(suite_device(), &large, 0, true, &pool));
    ck_ok(vlci_kv_create(&pool, &kv));
    ck_ok(vlci_kv_reserve(&kv, 0, L, TOKENS));
    vlci_kv_append(&kv, 0, L, TOKENS);
    ck_assert_uint_eq(vlci_kv_pool_rows(&pool), (uint64_t)pool.held * PAGE);
    for (int i = 0; i < L * H; i++) rows[i] = _i ? 205 + (i - (L * H - 1) / 2) * 9 : 205;
    for (int layer = 0; layer < L; layer++) {
        ck_ok(vlci_kv_replace(&kv, layer, 1, rows + layer * H, keep, false, to, &next));
        vlci_kv_replaced(&kv, &next);
    }
    ck_ok(vlci_kv_pool_shrink(&pool, 0));
    double space = (double)vlci_kv_pool_bytes(&pool) / (double)vlci_kv_page_bytes(&large, false) * PAGE;
    double used = (double)vlci_kv_pool_rows(&pool);
    ck_assert_double_ge(used, 205.0 * L * H);
    ck_assert_msg((space - used) / space <= 0.05, "%.0f rows in space for %.0f: %.1f%% lost", used, space,
                  100 * (space - used) / space);
    vlci_kv_release(&kv);
    suite_release(to);
    end();
}
END_TEST

/* ---- what the device knows ----------------------------------------------------------------------------- */

static void check_ints(cl_mem memory, const int *want, int n) {
    int got[32];
    suite_download(memory, got, (size_t)n * sizeof *got);
    for (int i = 0; i < n; i++) ck_assert_int_eq(got[i], want[i]);
}

static int device_rows(const vlci_kv *kv, int list) {
    vlci_kv_head head;
    ck_ok(vlci_read(suite_device(), pool.heads, (vlci_kv_heads_at(kv, 0) + (size_t)list) * sizeof head, &head,
                    sizeof head));
    return head.rows;
}

/* The device counts rows itself between steps, of those sequences that go on; of others the host tells it. */
START_TEST(test_advance) {
    vlci_kv kv[6], *on[] = {&kv[2], &kv[0]};
    const int tokens[] = {41, 42}, positions[] = {7, 8, 9, 20, 21, 22}, later[] = {8, 9, 10, 21, 22, 23};
    begin(0, true);
    for (int i = 0; i < 3; i++) {
        ck_ok(vlci_kv_create(&pool, &kv[i]));
        append(&kv[i], 3 + i, 1);
        ck_ok(vlci_kv_reserve(&kv[i], 0, LAYERS, 4));
    }
    ck_ok(vlci_kv_pool_sync(&pool));
    const int slot[] = {kv[2].slot, kv[0].slot};
    cl_mem chosen = suite_upload(tokens, sizeof tokens), ids = suite_poison(sizeof tokens),
           slots = suite_upload(slot, sizeof slot), position = suite_upload(positions, sizeof positions);
    for (int i = 0; i < 3; i++) vlci_kv_append_behind(&kv[i]);
    ck_ok(vlci_kv_pool_sync(&pool)); /* nothing to tell */
    for (int i = 0; i < 3; i++) ck_assert(kv[i].behind && device_rows(&kv[i], 0) == kv[i].list[0].rows - 1);
    if (_i) /* slots grow, before the device has been told of any */
        for (int i = 3; i < 6; i++) ck_ok(vlci_kv_create(&pool, &kv[i]));
    ck_ok(vlci_kv_advance(on, 2, chosen, ids, position, slots));
    ck_assert(!kv[0].behind && kv[1].behind && !kv[2].behind);
    check_ints(ids, tokens, 2);
    check_ints(position, later, 6);
    for (int i = 0; i < LISTS; i++) {
        ck_assert_int_eq(device_rows(&kv[0], i), 4);
        ck_assert_int_eq(device_rows(&kv[1], i), 4); /* of 5 */
        ck_assert_int_eq(device_rows(&kv[2], i), 6);
    }
    vlci_kv_catch_up(&kv[0]); /* nothing */
    vlci_kv_catch_up(&kv[1]);
    vlci_kv_append_behind(&kv[2]);
    vlci_kv_append_behind(&kv[2]); /* two at once */
    ck_ok(vlci_kv_pool_sync(&pool));
    for (int i = 0; i < LISTS; i++) {
        ck_assert_int_eq(device_rows(&kv[0], i), 4);
        ck_assert_int_eq(device_rows(&kv[1], i), 5);
        ck_assert_int_eq(device_rows(&kv[2], i), 8);
    }
    for (int i = 0; i < (_i ? 6 : 3); i++) vlci_kv_release(&kv[i]);
    cl_mem all[] = {chosen, ids, slots, position};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    end();
}
END_TEST

/* Lists of one layer have lengths of their own, and a table that outgrows its first room keeps them all. */
START_TEST(test_ragged) {
    enum { MANY = 40 };
    static vlci_kv kv[MANY];
    begin(0, true);
    for (int i = 0; i < MANY; i++) {
        ck_ok(vlci_kv_create(&pool, &kv[i]));
        append(&kv[i], 70, (float)i);
        for (int list = 0; list < LISTS; list++)
            vlci_kv_cut(&kv[i], list / HEADS, list % HEADS, 70 - 13 * ((list + i) % 5));
    }
    ck_assert_int_gt(pool.table.room, 1024);
    pages_check_owners(&pool);
    for (int i = 0; i < MANY; i++) {
        float k[70 * DIM];
        for (int list = 0; list < LISTS; list++) {
            int rows = pages_read(&kv[i], list / HEADS, list % HEADS, k, NULL, NULL);
            ck_assert_int_eq(rows, 70 - 13 * ((list + i) % 5));
            for (int e = 0; e < rows * DIM; e++)
                ck_assert_float_eq(k[e], value((float)i, list, e / DIM, e % DIM));
        }
    }
    for (int i = 0; i < MANY; i++) vlci_kv_release(&kv[i]);
    end();
}
END_TEST

/* ---- the host's memory --------------------------------------------------------------------------------- */

/* ---- layers that do not grow with the text ------------------------------------------------------------- */

static void check_lists(const vlci_kv *kv, int text, int still) {
    for (int i = 0; i < LISTS; i++) ck_assert_int_eq(kv->list[i].rows, i < HEADS ? text : still);
}

/* Layer 1 holds what it is given, whatever the text does, on the host and on the device; a fork keeps it. */
START_TEST(test_still) {
    static const uint32_t layers[VLCI_KV_STILL] = {1u << 1};
    vlci_kv kv, fork;
    const int32_t zero[4] = {0};
    begin(0, true);
    ck_ok(vlci_kv_pool_still(&pool, layers));
    ck_ok(vlci_kv_create(&pool, &kv));
    ck_assert_int_eq(vlci_kv_reserve_pages(&kv, 0, LAYERS, 5), HEADS);
    ck_ok(vlci_kv_reserve(&kv, 0, LAYERS, 5));
    vlci_kv_append(&kv, 0, LAYERS, 5);
    check_lists(&kv, 5, 0);
    ck_assert(!vlci_kv_is_filled(&kv));
    ck_assert_int_eq(vlci_kv_refill_pages(&kv, 1, 2 * PAGE + 1), 3 * HEADS);
    ck_ok(vlci_kv_refill(&kv, 1, 2 * PAGE + 1));
    ck_assert(vlci_kv_is_filled(&kv));
    check_lists(&kv, 5, 2 * PAGE + 1);
    ck_assert_int_eq(kv.held, 4 * HEADS);
    ck_assert_int_eq(vlci_kv_room(&kv), PAGE - 5);
    ck_ok(vlci_kv_fork(&kv, &fork));
    ck_ok(vlci_kv_refill(&kv, 1, PAGE)); /* in pages of its own: the fork's stay */
    check_lists(&kv, 5, PAGE);
    check_lists(&fork, 5, 2 * PAGE + 1);
    pages_check_owners(&pool);
    vlci_kv *const one[] = {&kv};
    cl_mem tokens = suite_upload(zero, sizeof *zero), ids = suite_poison(sizeof *zero),
           position = suite_upload(zero, 3 * sizeof *zero), slots = suite_upload(&kv.slot, sizeof kv.slot);
    ck_ok(vlci_kv_pool_sync(&pool));
    vlci_kv_append_behind(&kv);
    check_lists(&kv, 6, PAGE);
    ck_ok(vlci_kv_advance(one, 1, tokens, ids, position, slots));
    vlci_kv_head on[LISTS];
    ck_ok(vlci_read(suite_device(), pool.heads, vlci_kv_heads_at(&kv, 0) * sizeof *on, on, sizeof on));
    for (int i = 0; i < LISTS; i++) ck_assert_int_eq(on[i].rows, kv.list[i].rows);
    cl_mem all[] = {tokens, ids, position, slots};
    for (int i = 0; i < 4; i++) suite_release(all[i]);
    ck_ok(vlci_kv_refill(&kv, 1, 0));
    ck_assert(!vlci_kv_is_filled(&kv) && vlci_kv_is_filled(&fork));
    vlci_kv_release(&fork);
    vlci_kv_release(&kv);
    end();
}
END_TEST

/* Allocation `at` and all after it fail: a failure, and nothing is left or lost. */
static bool fails_at(long at, vlci_kv *kv, cl_mem to) {
    vlci_kv other = {0}, mark = {0};
    vlci_kv_next next = {0};
    const int rows[HEADS] = {20, 100, 2 * PAGE}, keep[HEADS] = {0, PAGE, 0};
    bool failed;
    int held = pool.held;
    failing_start(at);
    vlcache_status status = vlci_kv_fork(kv, &other);
    if (!status) status = vlci_kv_mark(kv, &mark);
    if (!status) status = vlci_kv_replace(kv, 0, 1, rows, keep, false, to, &next);
    if (!status) status = vlci_kv_reserve(&other, 0, LAYERS, 20 * PAGE);
    failing_stop(&failed);
    ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    vlci_kv_next_release(kv, &next);
    vlci_kv_release(&mark);
    vlci_kv_release(&other);
    ck_assert_int_eq(pool.held, held);
    pages_check_owners(&pool);
    check_rows(kv, 0, 2 * PAGE + 3, 1);
    return failed;
}

START_TEST(test_no_memory) {
    cl_mem to = suite_poison(sizeof(vlci_kv_head) * HEADS);
    int refused = 0;
    for (long at = 0, failed = 1; failed; at++) { /* in a pool that is new each time */
        vlci_kv kv;
        begin(4 * LISTS, true);
        ck_ok(vlci_kv_create(&pool, &kv));
        append(&kv, 2 * PAGE + 3, 1);
        failed = fails_at(at, &kv, to);
        refused += failed != 0;
        vlci_kv_release(&kv);
        end();
    }
    ck_assert_int_gt(refused, 5);
    suite_release(to);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kv");
    TCase *all = tcase_create("kv");
    suite_balance(all);
    tcase_add_test(all, test_growth);
    tcase_add_test(all, test_biases);
    tcase_add_test(all, test_full);
    tcase_add_test(all, test_device_full);
    tcase_add_test(all, test_shrink);
    tcase_add_test(all, test_fork);
    tcase_add_test(all, test_copies_in_a_row);
    tcase_add_test(all, test_go_back);
    tcase_add_test(all, test_shared);
    tcase_add_test(all, test_replace);
    tcase_add_loop_test(all, test_page_ends, 0, 2);
    tcase_add_loop_test(all, test_advance, 0, 2);
    tcase_add_test(all, test_ragged);
    tcase_add_test(all, test_still);
    tcase_add_test(all, test_no_memory);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
