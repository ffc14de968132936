/*
 * test_compact.c - a planned prompt of two ragged sequences becomes small buffers with exactly the rows
 * chosen, those before the prompt and those decoded after it, bit for bit.
 */
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { LAYERS = 2, BATCH = 2, HEADS = 4, KV = 2, DIM = 24, ROOM = 3, LONG = 90, PAST = 7, DECODED = 3 };
enum { ROWS = LONG + PAST + BATCH * KV + DECODED }; /* of the full cache */

static const int tokens[BATCH] = {LONG, 41}, text[BATCH] = {0, 6};

/* A plan whose layer 1 is denser than layer 0, with random scores instead of observed ones. */
static vlci_compress *make_plan(double budget, vlcache_dtype dtype, const int32_t *past, float *scores) {
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.budget = budget;
    vlci_recipe recipe;
    ck_ok(vlci_policy_read(&options, &recipe));
    vlci_compress_shape shape = {LAYERS, BATCH, HEADS, KV, DIM, dtype};
    vlci_compress_prompt prompt = {.tokens = tokens, .text = text, .past = past};
    uint64_t seed = 11, counts[LAYERS * BATCH * HEADS];
    vlci_compress *p = NULL;
    ck_ok(vlci_compress_create(suite_device(), &recipe, &shape, &prompt, NULL, 0, &p));
    for (int i = 0; i < LAYERS * BATCH * KV * LONG; i++) scores[i] = suite_random(&seed) + 1.0f;
    for (int l = 0; l < LAYERS; l++)
        p->seen->score[l] = suite_upload(scores + l * BATCH * KV * LONG, BATCH * KV * LONG * sizeof *scores);
    for (int i = 0; i < LAYERS * BATCH * HEADS; i++)
        counts[i] = i < HEADS ? 2000 : i < BATCH * HEADS ? 200 : 60;
    ck_ok(vlci_write(suite_device(), p->seen->counts, 0, counts, sizeof counts));
    p->seen->observed = LAYERS;
    ck_ok(vlci_compress_plan(p));
    return p;
}

/* Rows as they lie: [BATCH][KV][ROWS][DIM] of a dtype, values one row after the keys. */
typedef struct rows {
    unsigned char *data;
    float *bias; /* [BATCH][KV][ROWS] */
    size_t row;  /* bytes */
} rows;

/* Which old row comes to row r of a head; -1: none. */
static int source_of(const vlci_compress *p, int layer, int g, const int *want, int r) {
    int b = g / KV, first = p->before[layer * BATCH * KV + g], kept = vlci_compress_kept(p, layer, b);
    if (r < first) return r;
    if (r < first + kept) return first + want[r - first];
    return r < first + kept + p->decoded ? first + tokens[b] + r - first - kept : -1;
}

/* The new buffers against the old rows, moved on the host; what lies beyond is untouched. */
static void check_head(vlci_compress *p, int layer, int g, const int *want, const rows *from, bool value,
                       const unsigned char *moved, int capacity) {
    unsigned char untouched[DIM * 4];
    memset(untouched, 0xff, sizeof untouched);
    for (int r = 0; r < capacity; r++) {
        int source = source_of(p, layer, g, want, r);
        const unsigned char *expect =
            source < 0 ? untouched : from->data + (size_t)(g * ROWS + source + value) * from->row;
        ck_assert_mem_eq(moved + ((size_t)(g * capacity) + (size_t)r) * from->row, expect, from->row);
    }
}

static void check_biases(const vlci_compress *p, int layer, const rows *from, cl_mem bias, int capacity) {
    float got[BATCH * KV * (ROWS + ROOM)];
    suite_download(bias, got, (size_t)(BATCH * KV * capacity) * sizeof *got);
    for (int g = 0; g < BATCH * KV; g++)
        for (int r = 0; r < capacity; r++) {
            float want = r < p->before[layer * BATCH * KV + g] ? from->bias[g * ROWS + r] : 0.0f;
            ck_assert_float_eq(got[g * capacity + r], want);
        }
}

static void check_layer(vlci_compress *p, int layer, const float *scores, const rows *from, cl_mem bias,
                        const vlci_attention *a) {
    int capacity = vlci_compress_most_rows(p, layer) + PAST + BATCH * KV + ROOM, want[LONG], got[LONG];
    size_t bytes = (size_t)(BATCH * KV * capacity) * from->row;
    unsigned char *moved = malloc(bytes);
    vlci_compact_to to = {.row_stride = DIM, .head_stride = DIM * (size_t)capacity, .capacity = capacity};
    to.seq_stride = KV * to.head_stride;
    to.k = suite_poison(bytes);
    to.v = suite_poison(bytes);
    to.bias = suite_poison((size_t)(BATCH * KV * capacity) * sizeof(float));
    ck_ok(vlci_compress_layer(p, layer, a, bias, ROWS, &to));
    for (int value = 0; value < 2; value++) {
        suite_download(value ? to.v : to.k, moved, bytes);
        for (int g = 0; g < BATCH * KV; g++) {
            int b = g / KV, kept = vlci_compress_kept(p, layer, b);
            ref_topk(scores + (layer * BATCH * KV + g) * LONG, tokens[b], kept,
                     p->layer[layer * BATCH + b].recent, 0, want);
            ck_ok(vlci_compress_positions(p, layer, b, g % KV, got));
            ck_assert_mem_eq(got, want, (size_t)kept * sizeof *got);
            check_head(p, layer, g, want, from, value, moved, capacity);
        }
    }
    check_biases(p, layer, from, to.bias, capacity);
    suite_release(to.k);
    suite_release(to.v);
    suite_release(to.bias);
    free(moved);
}

static void check_stats(vlci_compress *p, double budget, vlcache_dtype dtype) {
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
}

static void try_plan(double budget, vlcache_dtype dtype, bool second_turn, int decoded) {
    static float scores[LAYERS * BATCH * KV * LONG], biases[BATCH * KV * ROWS];
    int32_t past[LAYERS * BATCH * KV];
    uint64_t seed = 13, before = vlci_memory_now(suite_device());
    rows from = {.bias = biases, .row = DIM * vlci_dtype_bytes(dtype)};
    size_t bytes = (size_t)(BATCH * KV * ROWS + 1) * from.row;
    from.data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) from.data[i] = (unsigned char)(suite_random(&seed) * 127.0f);
    for (int i = 0; i < BATCH * KV * ROWS; i++) biases[i] = suite_random(&seed);
    for (int g = 0; g < LAYERS * BATCH * KV; g++) past[g] = second_turn ? PAST + g % (BATCH * KV) : 0;
    vlci_compress *p = make_plan(budget, dtype, past, scores);
    p->decoded = decoded;
    vlci_attention a = {.batch = BATCH,
                        .heads = HEADS,
                        .kv_heads = KV,
                        .head_dim = DIM,
                        .kv_dtype = dtype,
                        .v_offset = DIM,
                        .row_stride = DIM,
                        .head_stride = (size_t)ROWS * DIM};
    a.seq_stride = KV * a.head_stride;
    a.k = a.v = suite_upload(from.data, bytes);
    cl_mem bias = suite_upload(biases, sizeof biases);
    for (int l = 0; l < LAYERS; l++) check_layer(p, l, scores, &from, bias, &a);
    check_stats(p, budget, dtype);
    vlci_compress_destroy(&p);
    suite_release(a.k);
    suite_release(bias);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    free(from.data);
}

START_TEST(test_rows) {
    try_plan(0.1, VLCACHE_DTYPE_F32, false, 0);
    try_plan(0.3, VLCACHE_DTYPE_F16, true, 0);
    try_plan(0.5, VLCACHE_DTYPE_BF16, false, 3);
    try_plan(1.0, VLCACHE_DTYPE_F32, true, 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compact");
    TCase *all = tcase_create("compact");
    tcase_add_test(all, test_rows);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
