/*
 * test_compact.c - a planned prompt of two ragged sequences becomes small buffers with exactly the rows
 * chosen, bit for bit.
 */
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { LAYERS = 2, BATCH = 2, HEADS = 4, KV = 2, DIM = 24, ROOM = 3, LONG = 90, PAST = 7 };

static const int tokens[BATCH] = {LONG, 41}, text[BATCH] = {0, 6};

/* A plan whose layer 1 is denser than layer 0, with random scores instead of observed ones. */
static vlci_compress *make_plan(double budget, vlcache_dtype dtype, float *scores) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.budget = budget;
    vlci_compress_shape shape = {LAYERS, BATCH, HEADS, KV, DIM, dtype};
    uint64_t seed = 11, counts[LAYERS * BATCH * HEADS];
    vlci_compress *p = NULL;
    ck_ok(vlci_compress_create(suite_device(), &options, &shape, tokens, text, &p));
    for (int i = 0; i < LAYERS * BATCH * KV * LONG; i++) scores[i] = suite_random(&seed) + 1.0f;
    for (int l = 0; l < LAYERS; l++)
        p->score[l] = suite_upload(scores + l * BATCH * KV * LONG, BATCH * KV * LONG * sizeof *scores);
    for (int i = 0; i < LAYERS * BATCH * HEADS; i++)
        counts[i] = i < HEADS ? 2000 : i < BATCH * HEADS ? 200 : 60;
    ck_ok(vlci_write(suite_device(), p->counts, 0, counts, sizeof counts));
    ck_ok(vlci_compress_plan(p));
    return p;
}

/* One layer: the new buffers against the old rows, moved on the host; what lies beyond the kept rows is
 * untouched. */
static void check_layer(vlci_compress *p, int layer, const float *scores, const unsigned char *rows,
                        const int *past, vlci_attention *a) {
    size_t row = DIM * vlci_dtype_bytes(a->kv_dtype);
    int capacity = vlci_compress_rows(p, layer) + PAST + BATCH * KV + ROOM, want[LONG], got[LONG];
    size_t bytes = (size_t)(BATCH * KV * capacity) * row;
    unsigned char *moved = malloc(bytes), untouched[DIM * 4];
    memset(untouched, 0xff, sizeof untouched);
    vlci_compact_to to = {.row_stride = DIM, .head_stride = DIM * (size_t)capacity, .capacity = capacity};
    to.seq_stride = KV * to.head_stride;
    to.k = suite_poison(bytes);
    to.v = suite_poison(bytes);
    ck_ok(vlci_compress_layer(p, layer, a, &to));
    ck_assert_ptr_null(p->score[layer]);
    for (int value = 0; value < 2; value++) {
        suite_download(value ? to.v : to.k, moved, bytes);
        for (int g = 0; g < BATCH * KV; g++) {
            int b = g / KV, kept = vlci_compress_kept(p, layer, b), first = past ? past[g] : 0;
            ref_topk(scores + (layer * BATCH * KV + g) * LONG, tokens[b], kept,
                     p->layer[layer * BATCH + b].recent, want);
            ck_ok(vlci_compress_positions(p, layer, b, g % KV, got));
            ck_assert_mem_eq(got, want, (size_t)kept * sizeof *got);
            const unsigned char *from =
                rows + ((size_t)g * a->head_stride + (value ? a->v_offset : a->k_offset)) / DIM * row;
            for (int r = 0; r < capacity; r++) {
                const unsigned char *expect = r >= first + kept ? untouched
                                              : r < first       ? from + (size_t)r * row
                                                          : from + (size_t)(first + want[r - first]) * row;
                ck_assert_mem_eq(moved + ((size_t)(g * capacity) + (size_t)r) * row, expect, row);
            }
        }
    }
    suite_release(to.k);
    suite_release(to.v);
    free(moved);
}

static void try_plan(double budget, vlcache_dtype dtype, bool second_turn) {
    static float scores[LAYERS * BATCH * KV * LONG];
    const int rows = LONG + PAST + BATCH * KV, start[] = {0, tokens[0], tokens[0] + tokens[1]};
    int past[BATCH * KV];
    uint64_t seed = 13, before = vlci_memory_now(suite_device());
    size_t bytes = (size_t)((BATCH * KV * rows + 1) * DIM) * vlci_dtype_bytes(dtype);
    unsigned char *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)(suite_random(&seed) * 127.0f);
    for (int g = 0; g < BATCH * KV; g++) past[g] = PAST + g;
    vlci_compress *p = make_plan(budget, dtype, scores);
    vlci_attention a = {.batch = BATCH,
                        .heads = HEADS,
                        .kv_heads = KV,
                        .head_dim = DIM,
                        .kv_dtype = dtype,
                        .v_offset = DIM,
                        .row_stride = DIM,
                        .head_stride = (size_t)rows * DIM};
    a.seq_stride = KV * a.head_stride;
    a.k = a.v = suite_upload(data, bytes); /* values stand one row after the keys */
    a.seq_start = suite_upload(start, sizeof start);
    a.past = second_turn ? suite_upload(past, sizeof past) : NULL;
    for (int l = 0; l < LAYERS; l++) check_layer(p, l, scores, data, second_turn ? past : NULL, &a);
    vlcache_compress_stats stats;
    vlci_compress_stats(p, 0, &stats);
    ck_assert(stats.fallback && stats.tau == 32 && stats.tokens == LONG);
    ck_assert_uint_eq(stats.bytes_full, (uint64_t)LAYERS * LONG * KV * DIM * 2 * vlci_dtype_bytes(dtype));
    int kept0 = vlci_compress_kept(p, 0, 0), kept1 = vlci_compress_kept(p, 1, 0);
    if (budget == 1.0)
        ck_assert(kept0 == LONG && kept1 == LONG);
    else
        ck_assert_int_lt(kept0, kept1);
    vlci_compress_stats(p, 1, &stats);
    ck_assert(!stats.fallback && stats.tau == 6);
    vlci_compress_destroy(&p);
    suite_release(a.k);
    suite_release(a.seq_start);
    if (second_turn) suite_release(a.past);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    free(data);
}

START_TEST(test_rows) {
    try_plan(0.1, VLCACHE_DTYPE_F32, false);
    try_plan(0.3, VLCACHE_DTYPE_F16, true);
    try_plan(0.5, VLCACHE_DTYPE_BF16, false);
    try_plan(1.0, VLCACHE_DTYPE_F32, true);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compact");
    TCase *all = tcase_create("compact");
    tcase_add_test(all, test_rows);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
