/*
 * test_attention.c - every rung of attention against the double oracle: ragged batches, rows cached before,
 * GQA, head_dim 8 to 128, each KV dtype, packed and cached layouts, a bias on the logits, hostile logits.
 * Cached rows that no query sees are NaN, and nothing beyond the outputs may be written.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_attention.h"
#include "support/suite.h"

/* ---- problems ------------------------------------------------------------------------------------------ */

enum { SEQUENCES = 3, KV_HEADS = 8, GUARD = 64 };

/* PACKED: q, k and v side by side, as in the vision tower. NO_STATS: row_max and row_lse are NULL. */
enum { PACKED = 1, BIASED = 2, NO_STATS = 4 };

typedef enum { RANDOM, EQUAL_KEYS, ONE_HUGE, VERY_NEGATIVE } kind;

typedef struct problem {
    const char *name;
    int batch, heads, kv_heads, head_dim;
    bool causal;
    vlcache_dtype dtype;
    int rows[SEQUENCES], past[SEQUENCES]; /* kv head h has past[b] + h rows before, if any at all */
    unsigned flags;
    kind values;
} problem;

#define F32  VLCACHE_DTYPE_F32
#define F16  VLCACHE_DTYPE_F16
#define BF16 VLCACHE_DTYPE_BF16

/* The first SMALL ones are enough for a simulator. */
static const problem problems[] = {
    {"ragged", 3, 4, 2, 8, true, F32, {5, 1, 18}, {3, 0, 0}, BIASED, RANDOM},
    {"decode", 2, 4, 1, 16, true, BF16, {1, 1}, {69, 0}, BIASED, RANDOM},
    {"vision", 2, 2, 2, 24, false, F32, {37, 37}, {0}, PACKED, RANDOM},
    {"one row", 1, 8, 1, 80, true, BF16, {1}, {0}, 0, RANDOM},
    {"prefill", 3, 4, 2, 64, true, BF16, {70, 1, 33}, {0}, 0, RANDOM},
    {"clip", 2, 2, 2, 64, false, F32, {67, 67}, {0}, PACKED | NO_STATS, RANDOM},
    {"second turn", 2, 8, 2, 128, true, F16, {3, 19}, {100, 45}, BIASED, RANDOM},
    {"long decode", 3, 4, 2, 128, true, BF16, {1, 1, 1}, {900, 12, 257}, 0, RANDOM},
    {"biased decode", 1, 8, 8, 96, true, F32, {1}, {613}, BIASED, RANDOM},
    {"no sequence", 3, 8, 1, 80, true, F16, {9, 0, 130}, {0, 7, 0}, 0, RANDOM},
    {"seen whole", 2, 4, 4, 96, false, BF16, {21, 5}, {64, 31}, 0, RANDOM},
    {"few rows", 2, 6, 2, 64, true, BF16, {4, 2}, {257, 300}, NO_STATS, RANDOM},
    {"equal keys", 1, 4, 2, 64, true, F32, {40}, {30}, 0, EQUAL_KEYS},
    {"one huge", 1, 4, 2, 64, true, F32, {40}, {30}, 0, ONE_HUGE},
    {"very negative", 1, 4, 2, 64, true, F32, {40}, {30}, 0, VERY_NEGATIVE},
    {"equal keys, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, EQUAL_KEYS},
    {"one huge, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, ONE_HUGE},
    {"very negative, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, VERY_NEGATIVE},
};
enum { PROBLEMS = sizeof problems / sizeof problems[0], SMALL = 3 };

static int n_problems(void) {
    const char *reduced = getenv("VLCACHE_TEST_REDUCED");
    return reduced && strcmp(reduced, "1") == 0 ? SMALL : PROBLEMS;
}

/* ---- one problem, on both sides --------------------------------------------------------------------- */

typedef struct arrays {
    vlci_attention a;
    int rows, keys; /* query rows in all, most cached rows of any head */
    float *q, *k, *v, *bias;
    int32_t seq_start[SEQUENCES + 1], past[1 + SEQUENCES * KV_HEADS];
    cl_mem memory[11];
    int n_memory;
} arrays;

static uint64_t seed;

/* d-th value of cached row j: random ones among them, or such as make all logits equal, one huge, or all
 * deep. */
static float key_value(kind values, int j, int d) {
    float random = suite_random(&seed);
    switch (values) {
    case EQUAL_KEYS:
        return (float)(d % 5) - 2.0f;
    case ONE_HUGE:
        return j == 17 ? 4096.0f : random;
    case VERY_NEGATIVE:
        return -2048.0f;
    case RANDOM:
        break;
    }
    return 2.0f * random;
}

static float query_value(kind values) {
    float random = suite_random(&seed);
    return values == ONE_HUGE || values == VERY_NEGATIVE ? 2.0f : 2.0f * random;
}

static float *all_nan(size_t n) {
    float *data = malloc(n * sizeof *data);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < n; i++) data[i] = NAN;
    return data;
}

static int past_of(const problem *p, int b, int h) {
    return p->past[b] ? p->past[b] + h : 0;
}

static bool any_past(const problem *p) {
    return p->past[0] || p->past[1] || p->past[2];
}

static void count_rows(const problem *p, arrays *s) {
    s->past[0] = 1 << 30; /* before past_offset */
    for (int b = 0; b < p->batch; b++) {
        s->seq_start[b + 1] = s->seq_start[b] + p->rows[b];
        if (p->rows[b] > s->a.max_rows) s->a.max_rows = p->rows[b];
        for (int h = 0; h < p->kv_heads; h++) {
            int past = s->past[1 + b * p->kv_heads + h] = past_of(p, b, h);
            if (past + p->rows[b] > s->keys) s->keys = past + p->rows[b];
        }
    }
    s->rows = s->seq_start[p->batch];
}

/* Strides of both layouts, with something before the first element and between rows. */
static void lay_out(const problem *p, arrays *s) {
    vlci_attention *a = &s->a;
    size_t inner = (size_t)p->heads * (size_t)p->head_dim, d = (size_t)p->head_dim;
    a->q_offset = (p->flags & PACKED) ? 0 : 8;
    a->q_stride = (p->flags & PACKED) ? 3 * inner : inner + 8;
    a->k_offset = (p->flags & PACKED) ? inner : 24;
    a->v_offset = (p->flags & PACKED) ? 2 * inner : 8;
    a->row_stride = (p->flags & PACKED) ? 3 * inner : d;
    a->head_stride = (p->flags & PACKED) ? d : d * (size_t)(s->keys + 2);
    a->seq_stride =
        (p->flags & PACKED) ? (size_t)a->max_rows * 3 * inner : a->head_stride * (size_t)p->kv_heads;
    a->bias_stride = (size_t)s->keys + 3;
}

static void fill_keys(const problem *p, arrays *s, float *k, float *v) {
    const vlci_attention *a = &s->a;
    for (int b = 0; b < p->batch; b++)
        for (int h = 0; h < p->kv_heads; h++)
            for (int j = 0; j < past_of(p, b, h) + p->rows[b]; j++) {
                size_t at =
                    (size_t)b * a->seq_stride + (size_t)h * a->head_stride + (size_t)j * a->row_stride;
                for (int d = 0; d < p->head_dim; d++) {
                    k[a->k_offset + at + (size_t)d] = key_value(p->values, j, d);
                    v[a->v_offset + at + (size_t)d] = suite_random(&seed);
                }
            }
}

static void fill_queries(const problem *p, arrays *s) {
    size_t inner = (size_t)p->heads * (size_t)p->head_dim;
    for (size_t i = 0; i < (size_t)s->rows; i++)
        for (size_t d = 0; d < inner; d++)
            s->q[s->a.q_offset + i * s->a.q_stride + d] = query_value(p->values);
}

static void fill_bias(const problem *p, arrays *s) {
    for (int b = 0; b < p->batch; b++)
        for (int h = 0; h < p->kv_heads; h++)
            for (int j = 0; j < past_of(p, b, h) + p->rows[b]; j++)
                s->bias[(size_t)(b * p->kv_heads + h) * s->a.bias_stride + (size_t)j] =
                    1.0f + suite_random(&seed);
}

static cl_mem keep(arrays *s, cl_mem memory) {
    return s->memory[s->n_memory++] = memory;
}

static cl_mem upload_stored(arrays *s, float *data, size_t n, vlcache_dtype dtype) {
    void *stored = suite_store(data, n, dtype);
    cl_mem memory = keep(s, suite_upload(stored, n * vlci_dtype_bytes(dtype)));
    free(stored);
    return memory;
}

static void fill_host(const problem *p, arrays *s) {
    size_t n_kv = 24 + (size_t)p->batch * s->a.seq_stride;
    size_t n_q = s->a.q_offset + (size_t)s->rows * s->a.q_stride;
    size_t n_bias = (size_t)(p->batch * p->kv_heads) * s->a.bias_stride;
    s->q = all_nan((p->flags & PACKED) ? n_kv : n_q);
    s->k = (p->flags & PACKED) ? s->q : all_nan(n_kv);
    s->v = (p->flags & PACKED) ? s->q : all_nan(n_kv);
    s->bias = all_nan(n_bias);
    fill_queries(p, s);
    fill_keys(p, s, s->k, s->v);
    fill_bias(p, s);
    s->a.q = keep(s, suite_upload(s->q, ((p->flags & PACKED) ? n_kv : n_q) * sizeof(float)));
    s->a.k = (p->flags & PACKED) ? s->a.q : upload_stored(s, s->k, n_kv, p->dtype);
    s->a.v = (p->flags & PACKED) ? s->a.q : upload_stored(s, s->v, n_kv, p->dtype);
    if (p->flags & BIASED) s->a.bias = keep(s, suite_upload(s->bias, n_bias * sizeof(float)));
}

static arrays *arrays_create(const problem *p) {
    arrays *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    seed = 7;
    s->a = (vlci_attention){.batch = p->batch,
                            .heads = p->heads,
                            .kv_heads = p->kv_heads,
                            .head_dim = p->head_dim,
                            .causal = p->causal,
                            .scale = 1.0f / sqrtf((float)p->head_dim),
                            .kv_dtype = p->dtype};
    count_rows(p, s);
    lay_out(p, s);
    fill_host(p, s);
    size_t outputs = (size_t)s->rows * (size_t)p->heads;
    s->a.seq_start = keep(s, suite_upload(s->seq_start, sizeof s->seq_start));
    s->a.past_offset = 1;
    if (any_past(p)) s->a.past = keep(s, suite_upload(s->past, sizeof s->past));
    s->a.out = keep(s, suite_poison((outputs * (size_t)p->head_dim + GUARD) * sizeof(float)));
    s->a.max_keys = s->keys;
    s->a.scratch = keep(s, suite_poison(vlci_attention_scratch_bytes(suite_device(), p->batch, p->heads,
                                                                     p->kv_heads, p->head_dim)));
    if (p->flags & NO_STATS) return s;
    s->a.row_max = keep(s, suite_poison((outputs + GUARD) * sizeof(float)));
    s->a.row_lse = keep(s, suite_poison((outputs + GUARD) * sizeof(float)));
    return s;
}

static void arrays_release(arrays *s) {
    for (int i = 0; i < s->n_memory; i++) suite_release(s->memory[i]);
    if (s->k != s->q) free(s->k);
    if (s->v != s->q) free(s->v);
    free(s->q);
    free(s->bias);
    free(s);
}

/* ---- comparison ---------------------------------------------------------------------------------------- */

static void compare(const char *what, cl_mem memory, const double *want, size_t n) {
    float *got = malloc((n + GUARD) * sizeof *got);
    uint32_t bits;
    if (!memory) return free(got);
    suite_download(memory, got, (n + GUARD) * sizeof *got);
    suite_close(what, got, want, n, 4e-6, 2e-5);
    for (size_t i = n; i < n + GUARD; i++) {
        memcpy(&bits, &got[i], sizeof bits);
        ck_assert_msg(bits == 0xffffffffu, "%s: wrote beyond its %zu elements, at %zu", what, n, i);
    }
    free(got);
}

static void check_outputs(const problem *p, const arrays *s, const char *rung) {
    char what[96];
    size_t outputs = (size_t)s->rows * (size_t)p->heads, values = outputs * (size_t)p->head_dim;
    double *out = calloc(values + 2 * outputs, sizeof *out), *max = out + values, *lse = max + outputs;
    ref_inputs in = {
        s->q, s->k, s->v, p->flags & BIASED ? s->bias : NULL, s->seq_start, s->a.past ? s->past : NULL};
    ref_attention(&s->a, &in, out, max, lse);
    snprintf(what, sizeof what, "%s, %s: out", rung, p->name);
    compare(what, s->a.out, out, values);
    snprintf(what, sizeof what, "%s, %s: row_max", rung, p->name);
    compare(what, s->a.row_max, max, outputs);
    snprintf(what, sizeof what, "%s, %s: row_lse", rung, p->name);
    compare(what, s->a.row_lse, lse, outputs);
    free(out);
}

static void force(const char *rung) {
    char variant[48];
    snprintf(variant, sizeof variant, "attention:%s", rung);
    if (rung[0])
        setenv("VLCACHE_VARIANT", variant, 1);
    else
        unsetenv("VLCACHE_VARIANT");
}

/* ---- tests --------------------------------------------------------------------------------------------- */

/* The empty one is what the device's capabilities choose. */
static const char *const rungs[] = {"", "rows", "wide", "split", "split_wide"};
enum { RUNGS = sizeof rungs / sizeof rungs[0] };

START_TEST(agrees_with_the_oracle) {
    const char *rung = rungs[_i];
    for (int i = 0; i < n_problems(); i++) {
        arrays *s = arrays_create(&problems[i]);
        force(rung);
        ck_ok(vlci_attention_run(suite_device(), &s->a));
        check_outputs(&problems[i], s, rung);
        arrays_release(s);
    }
    force("");
}
END_TEST

/* A device of 64 compute units divides keys into many shares. Twice the same bits: shares are merged in
 * order. */
START_TEST(divides_keys) {
    unsigned units = suite_device()->caps.info.compute_units;
    suite_device()->caps.info.compute_units = 64;
    for (int i = 0; i < n_problems(); i++) {
        arrays *s = arrays_create(&problems[i]);
        size_t bytes = (size_t)s->rows * (size_t)(s->a.heads * s->a.head_dim) * sizeof(float);
        void *once = calloc(2, bytes), *again = (char *)once + bytes;
        force(_i ? "split_wide" : "split");
        ck_ok(vlci_attention_run(suite_device(), &s->a));
        check_outputs(&problems[i], s, _i ? "split_wide" : "split");
        suite_download(s->a.out, once, bytes);
        ck_ok(vlci_attention_run(suite_device(), &s->a));
        suite_download(s->a.out, again, bytes);
        ck_assert_mem_eq(once, again, bytes);
        free(once);
        arrays_release(s);
    }
    force("");
    suite_device()->caps.info.compute_units = units;
}
END_TEST

START_TEST(refuses_what_it_cannot_do) {
    vlci_attention good = {.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 64, .kv_dtype = F32}, a = good;
    a.head_dim = 12;
    ck_fails(vlci_attention_run(suite_device(), &a), VLCACHE_E_UNSUPPORTED, "head_dim 12");
    a = good;
    a.kv_heads = 3;
    ck_fails(vlci_attention_run(suite_device(), &a), VLCACHE_E_UNSUPPORTED, "4 query heads");
    a = good;
    a.seq_stride = (size_t)1 << 32;
    ck_fails(vlci_attention_run(suite_device(), &a), VLCACHE_E_UNSUPPORTED, "4294967296");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention");
    TCase *all = tcase_create("attention");
    tcase_add_loop_test(all, agrees_with_the_oracle, 0, RUNGS);
    tcase_add_loop_test(all, divides_keys, 0, 2);
    tcase_add_test(all, refuses_what_it_cannot_do);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
