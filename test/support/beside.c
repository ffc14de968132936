/*
 * beside.c - one sequence, causal, poisoned outputs with a guard behind them.
 */
#include "support/beside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/floats.h"

enum { GUARD = 32, LISTS_MAX = 16 };

static void make_pages(beside *b, uint64_t *seed) {
    int lists = b->layers * b->shape.kv_heads, exact = b->past + b->rows, each[LISTS_MAX];
    size_t n = (size_t)(lists * exact * b->shape.head_dim);
    const vlci_kv_shape shape = {b->layers, b->shape.kv_heads, b->shape.head_dim, b->shape.kv_dtype};
    ck_assert_int_le(lists, LISTS_MAX);
    b->k = floats_random(seed, n, 2.0f, 0.0f);
    b->v = floats_random(seed, n, 1.0f, 0.0f);
    for (int i = 0; i < lists; i++) each[i] = exact;
    b->own = pages_create(&shape, 1, &(pages_rows){.rows = each, .k = b->k, .v = b->v}, 2);
    vlci_kv_append(&b->own->kv[0], 0, b->layers, -b->rows);
    ck_ok(vlci_kv_pool_sync(&b->own->pool));
    b->own_k = b->k + (size_t)b->layer * (n / (size_t)b->layers);
    b->own_v = b->v + (size_t)b->layer * (n / (size_t)b->layers);
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
    const int32_t seq_start[2] = {0, b->rows};
    size_t width = (size_t)(b->shape.heads * b->shape.head_dim);
    b->n = (size_t)b->rows * width;
    b->stats = (size_t)(b->rows * b->shape.heads);
    b->q = floats_random(seed, b->n, q_scale, 0.0f);
    make_pages(b, seed);
    bool rounds = suite_device()->caps.wgmma; /* q to 16 bits: not what this is about */
    if (rounds) suite_force("attention:tile");
    ck_ok(vlci_attention_open(suite_device(), &b->shape, &b->kernels));
    if (rounds) suite_force(NULL);
    b->a = (vlci_attention){.batch = 1,
                            .causal = true,
                            .scale = 0.17f,
                            .kv = pages_view(b->own, b->layer),
                            .q_stride = width,
                            .max_rows = b->rows,
                            .max_keys = b->past + b->rows,
                            .q = suite_upload(b->q, b->n * sizeof *b->q),
                            .out = suite_poison((b->n + GUARD) * sizeof(float)),
                            .row_max = suite_poison((b->stats + GUARD) * sizeof(float)),
                            .row_lse = suite_poison((b->stats + GUARD) * sizeof(float)),
                            .seq_start = suite_upload(seq_start, sizeof seq_start)};
    ck_ok(vlci_attention_scratch_create(&b->kernels, 1, &b->a.scratch));
}

void beside_expect(beside *b, const ref_rows *heads) {
    const int32_t seq_start[2] = {0, b->rows};
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
