/*
 * test_kv.c - room for keys, values and biases: what is there stays when it grows, and every byte is counted.
 */
#include <string.h>

#include "kv/cache.h"
#include "support/suite.h"

enum { LAYERS = 2, BATCH = 2, KV = 3, DIM = 8 };

static vlci_kv empty(void) {
    return (vlci_kv){.device = suite_device(),
                     .layers = LAYERS,
                     .batch = BATCH,
                     .kv_heads = KV,
                     .head_dim = DIM,
                     .dtype = VLCACHE_DTYPE_F32};
}

static void write_rows(cl_mem memory, int capacity, int width, float offset) {
    float rows[BATCH * KV * 16 * DIM];
    int n = BATCH * KV * capacity * width;
    for (int i = 0; i < n; i++) rows[i] = offset + (float)i;
    ck_ok(vlci_write(suite_device(), memory, 0, rows, (size_t)n * sizeof *rows));
}

/* Row r of each head, written at one capacity, read at another. */
static void check_rows(cl_mem memory, int was, int capacity, int width, float offset) {
    float rows[BATCH * KV * 256 * DIM];
    suite_download(memory, rows, (size_t)(BATCH * KV * capacity * width) * sizeof *rows);
    for (int g = 0; g < BATCH * KV; g++)
        for (int i = 0; i < was * width; i++)
            ck_assert_float_eq(rows[g * capacity * width + i], offset + (float)(g * was * width + i));
}

START_TEST(test_growth) {
    vlci_kv kv = empty();
    uint64_t before = vlci_memory_now(suite_device());
    const int rows[BATCH] = {5, 5};
    ck_ok(vlci_kv_create(&kv));
    uint64_t row = BATCH * KV * DIM * 2 * sizeof(float);
    ck_ok(vlci_kv_layer_create(&kv, 5, true, &kv.layer[0]));
    ck_ok(vlci_kv_layer_create(&kv, 7, false, &kv.layer[1]));
    ck_assert_uint_eq(kv.bytes, 12 * row + 5 * BATCH * KV * sizeof(float));
    float zeros[BATCH * KV * 5];
    suite_download(kv.layer[0].bias, zeros, sizeof zeros);
    for (int i = 0; i < BATCH * KV * 5; i++) ck_assert_float_eq(zeros[i], 0.0f);
    write_rows(kv.layer[0].k, 5, DIM, 1000.0f);
    write_rows(kv.layer[0].v, 5, DIM, 2000.0f);
    write_rows(kv.layer[0].bias, 5, 1, 3000.0f);
    vlci_kv_advance(&kv, rows);
    ck_ok(vlci_kv_reserve(&kv, 1));
    int capacity = kv.layer[0].capacity;
    ck_assert_int_gt(capacity, 5);
    ck_assert_int_eq(kv.layer[1].capacity, 7); /* had room */
    ck_assert_uint_eq(kv.bytes, (uint64_t)(capacity + 7) * row + (uint64_t)capacity * BATCH * KV * 4);
    ck_assert_uint_gt(kv.peak, kv.bytes); /* both sizes at once */
    check_rows(kv.layer[0].k, 5, capacity, DIM, 1000.0f);
    check_rows(kv.layer[0].v, 5, capacity, DIM, 2000.0f);
    check_rows(kv.layer[0].bias, 5, capacity, 1, 3000.0f);
    float biases[BATCH * KV * 256];
    suite_download(kv.layer[0].bias, biases, (size_t)(BATCH * KV * capacity) * sizeof *biases);
    for (int r = 5; r < capacity; r++) ck_assert_float_eq(biases[r], 0.0f); /* new rows have none */
    vlci_kv_release(&kv);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}
END_TEST

START_TEST(test_fork) {
    vlci_kv kv = empty(), other;
    const int rows[BATCH] = {3, 4};
    ck_ok(vlci_kv_create(&kv));
    ck_ok(vlci_kv_reserve(&kv, 4));
    vlci_kv_advance(&kv, rows);
    ck_ok(vlci_kv_fork(&kv, &other));
    ck_assert_int_eq(other.position[0], 3);
    ck_assert_int_eq(other.position[1], 4);
    ck_assert_int_eq(other.length[0], 0);
    ck_assert_uint_eq(other.bytes, 0);
    ck_assert_ptr_null(other.layer[0].k);
    ck_assert(other.past != kv.past && other.dtype == kv.dtype && other.head_dim == DIM);
    vlci_kv_release(&other);
    vlci_kv_release(&kv);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kv");
    TCase *all = tcase_create("kv");
    tcase_add_test(all, test_growth);
    tcase_add_test(all, test_fork);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
