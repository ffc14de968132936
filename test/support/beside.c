/*
 * beside.c - one sequence or some, causal, poisoned outputs with a guard behind them.
 */
#include "support/beside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/floats.h"

enum { GUARD = 32, LISTS_MAX = 512 };

static int batch_of(const beside *b) {
    return b->batch ? b->batch : 1;
}

/* Rows in pages of a sequence, with the query's own. */
static int rows_of(const beside *b, int sequence) {
    return (b->pasts ? b->pasts[sequence] : b->past) + b->rows;
}

size_t beside_behind(const beside *b, int sequence) {
    size_t rows = 0;
    for (int i = 0; i < sequence; i++) rows += (size_t)rows_of(b, i) * (size_t)b->layers;
    rows += (size_t)b->layer * (size_t)(rows_of(b, sequence) - rows_of(b, 0));
    return rows * (size_t)(b->shape.kv_heads * b->shape.head_dim);
}

static void make_pages(beside *b, uint64_t *seed) {
    int lists = b->layers * b->shape.kv_heads, each[LISTS_MAX];
    size_t rows = 0, row = (size_t)b->shape.head_dim;
    const vlci_kv_shape shape = {b->layers, b->shape.kv_heads, b->shape.head_dim, b->shape.kv_dtype};
    ck_assert_int_le(batch_of(b) * lists, LISTS_MAX);
    for (int i = 0; i < batch_of(b) * lists; i++) rows += (size_t)(each[i] = rows_of(b, i / lists));
    b->k = floats_random(seed, rows * row, 2.0f, 0.0f);
    b->v = floats_random(seed, rows * row, 1.0f, 0.0f);
    b->own = pages_create(&shape, batch_of(b), &(pages_rows){.rows = each, .k = b->k, .v = b->v}, 2);
    for (int i = 0; i < batch_of(b); i++) vlci_kv_append(&b->own->kv[i], 0, b->layers, -b->rows);
    ck_ok(vlci_kv_pool_sync(&b->own->pool));
    b->own_k = b->k + (size_t)(b->layer * b->shape.kv_heads * rows_of(b, 0)) * row;
    b->own_v = b->v + (b->own_k - b->k);
}

/* Where the query rows of each sequence begin. */
static void find_starts(const beside *b, int32_t start[PAGES_SEQUENCES + 1]) {
    for (int i = 0; i <= batch_of(b); i++) start[i] = i * b->rows;
}

static int most_rows(const beside *b) {
    int most = 0;
    for (int i = 0; i < batch_of(b); i++)
        if (rows_of(b, i) > most) most = rows_of(b, i);
    return most;
}

vlci_attention_shape beside_shape(int kv_heads, int group, int head_dim, vlcache_dtype dtype, float cap) {
    return (vlci_attention_shape){.heads = kv_heads * group,
                                  .kv_heads = kv_heads,
                                  .head_dim = head_dim,
                                  .kv_dtype = dtype,
                                  .rounded = dtype,
                                  .cap = cap};
}

void beside_begin(beside *b, uint64_t *seed, float q_scale) {
    int32_t seq_start[PAGES_SEQUENCES + 1];
    size_t width = (size_t)(b->shape.heads * b->shape.head_dim);
    find_starts(b, seq_start);
    b->stats = (size_t)(batch_of(b) * b->rows * b->shape.heads);
    b->n = b->stats * (size_t)b->shape.head_dim;
    b->q = floats_random(seed, b->n, q_scale, 0.0f);
    make_pages(b, seed);
    const vlci_caps *caps = &suite_device()->caps; /* q is rounded to 16 bits: not what this is about */
    const char *exact = caps->wgmma ? "attention:tile" : caps->amx ? "attention:wide" : NULL;
    if (exact) suite_force(exact);
    ck_ok(vlci_attention_open(suite_device(), &b->shape, &b->kernels));
    if (exact) suite_force(NULL);
    b->a = (vlci_attention){.batch = batch_of(b),
                            .causal = true,
                            .scale = 0.17f,
                            .kv = pages_view(b->own, b->layer),
                            .q_stride = width,
                            .max_rows = b->rows,
                            .max_keys = most_rows(b),
                            .q = suite_upload(b->q, b->n * sizeof *b->q),
                            .out = suite_poison((b->n + GUARD) * sizeof(float)),
                            .row_max = suite_poison((b->stats + GUARD) * sizeof(float)),
                            .row_lse = suite_poison((b->stats + GUARD) * sizeof(float)),
                            .seq_start = suite_upload(seq_start, sizeof seq_start)};
    ck_ok(vlci_attention_scratch_create(&b->kernels, batch_of(b), &b->a.scratch));
}

void beside_expect(beside *b, const ref_rows *heads) {
    int32_t seq_start[PAGES_SEQUENCES + 1];
    find_starts(b, seq_start);
    const ref_inputs in = {b->q, seq_start, heads};
    b->out = calloc(b->n, sizeof *b->out);
    b->row_max = calloc(b->stats, sizeof *b->out);
    b->row_lse = calloc(b->stats, sizeof *b->out);
    ref_attention(&b->shape, &b->a, &in, b->out, b->row_max, b->row_lse);
    ck_ok(vlci_attention_run(&b->kernels, &b->a));
}

static void check_out(const char *name, cl_mem memory, const double *want, size_t n, double tolerance) {
    float *got = malloc((n + GUARD) * sizeof *got);
    suite_download(memory, got, (n + GUARD) * sizeof *got);
    suite_close(name, got, want, n, tolerance, tolerance);
    for (size_t i = n; i < n + GUARD; i++) ck_assert(isnan(got[i]));
    free(got);
}

void beside_poison(const beside *b) {
    const cl_mem outputs[] = {b->a.out, b->a.row_max, b->a.row_lse};
    for (size_t i = 0; i < 3; i++)
        ck_ok(vlci_fill(suite_device(), outputs[i], 0, (i ? b->stats : b->n) * sizeof(float), 0xffffffffu));
}

void beside_check(const beside *b, double top) {
    double close = 1e-5;
    uint32_t counters[VLCI_ATTENTION_COUNTERS]; /* are the other attention's, which finds them zero */
    check_out(b->name, b->a.out, b->out, b->n, close * top);
    check_out("row_max", b->a.row_max, b->row_max, b->stats, close);
    check_out("row_lse", b->a.row_lse, b->row_lse, b->stats, close);
    suite_download(b->a.scratch, counters, sizeof counters);
    for (size_t i = 0; i < VLCI_ATTENTION_COUNTERS; i++) ck_assert_uint_eq(counters[i], 0);
}

void beside_end(beside *b) {
    cl_mem memory[] = {b->a.q, b->a.out, b->a.row_max, b->a.row_lse, b->a.seq_start, b->a.scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) suite_release(memory[i]);
    float *host[] = {b->k, b->v, b->q};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    double *wanted[] = {b->out, b->row_max, b->row_lse};
    for (size_t i = 0; i < 3; i++) free(wanted[i]);
    pages_destroy(b->own);
}
