/*
 * test_attention.c - every rung of attention against the double oracle: ragged batches, rows cached before in
 * pages in any order, heads of one layer with different lengths, earlier rows that are not counted yet, GQA,
 * head_dim 8 to 256, windows, each KV dtype, dense layouts, a bias on the logits of some heads, hostile
 * logits. What no query sees is NaN, biases of heads that have none among it, and nothing beyond the outputs
 * may be written.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_attention.h"
#include "ref/ref_linear.h"
#include "support/pages.h"

/* ---- problems ------------------------------------------------------------------------------------------ */

enum { SEQUENCES = 3, KV_HEADS = 8, GUARD = 64, LAYERS = 2, LAYER = 1, BESIDE = 5, FEW_ROWS = 8 };

/* DENSE: not in pages, with gaps. PACKED: dense, q, k and v side by side, as in the vision tower; BEHIND: and
 * sequences one behind the other. NO_STATS: row_max and row_lse are NULL. ROUND: matrix units may. CAPPED:
 * logits are. STRIPES: q, k, v and out are, where a rung takes them, or out alone. */
enum {
    DENSE = 1,
    PACKED = 2,
    BIASED = 4,
    NO_STATS = 8,
    ROUND_F16 = 16,
    ROUND_BF16 = 32,
    BEHIND = 64,
    CAPPED = 128,
    STRIPES = 256
};
#define CAP 2.5f

typedef enum { RANDOM, EQUAL_KEYS, ONE_HUGE, VERY_NEGATIVE, DEEP, RISING } kind;

typedef struct problem {
    const char *name;
    int batch, heads, kv_heads, head_dim;
    bool causal;
    vlcache_dtype dtype;
    int rows[SEQUENCES], past[SEQUENCES]; /* kv head h has past[b] + 5 h rows before, if any at all */
    unsigned flags;
    kind values;
    int ahead;  /* of the rows before */
    int window; /* 0: none */
} problem;

#define F32  VLCACHE_DTYPE_F32
#define F16  VLCACHE_DTYPE_F16
#define BF16 VLCACHE_DTYPE_BF16

/* The first SMALL ones are enough for a simulator. */
static const problem problems[] = {
    {"ragged", 3, 4, 2, 8, true, F32, {5, 1, 18}, {3, 0, 0}, BIASED, RANDOM, 0, 0},
    {"decode", 2, 4, 1, 16, true, BF16, {1, 1}, {69, 0}, BIASED, RANDOM, 0, 0},
    {"vision", 2, 2, 2, 24, false, F32, {37, 37}, {0}, PACKED | ROUND_BF16, RANDOM, 0, 0},
    {"later part", 1, 4, 2, 8, true, F16, {5}, {40}, BIASED | CAPPED, RANDOM, 36, 0},
    {"small window", 1, 4, 2, 8, true, F32, {20}, {5}, BIASED | CAPPED, RANDOM, 0, 7},
    {"small windows", 3, 1, 1, 24, false, F32, {4, 9, 1}, {0}, PACKED | BEHIND | NO_STATS, RANDOM, 0, 0},
    {"one row", 1, 8, 1, 80, true, F16, {1}, {0}, 0, RANDOM, 0, 0},
    {"prefill", 3, 4, 2, 64, true, BF16, {70, 1, 33}, {0}, 0, RANDOM, 0, 0},
    {"dense prefill", 3, 4, 2, 64, true, BF16, {70, 1, 33}, {0}, DENSE, RANDOM, 0, 0},
    {"dense row", 2, 4, 2, 64, true, F16, {1, 1}, {0}, DENSE, RANDOM, 0, 0},
    {"dense halves", 2, 6, 3, 40, false, F16, {11, 7}, {0}, DENSE, RANDOM, 0, 0},
    {"clip", 2, 2, 2, 64, false, F32, {67, 67}, {0}, PACKED | NO_STATS | ROUND_BF16, RANDOM, 0, 0},
    {"siglip", 2, 2, 2, 72, false, F32, {67, 67}, {0}, PACKED | NO_STATS | ROUND_BF16, RANDOM, 0, 0},
    {"second turn", 2, 8, 2, 128, true, F16, {3, 19}, {100, 45}, BIASED, RANDOM, 0, 0},
    {"long decode", 3, 4, 2, 128, true, BF16, {1, 1, 1}, {900, 12, 257}, 0, RANDOM, 0, 0},
    {"biased decode", 1, 8, 8, 96, true, BF16, {1}, {613}, BIASED, RANDOM, 0, 0},
    {"whole pages", 2, 4, 2, 64, true, F32, {16, 32}, {64, 16}, BIASED, RANDOM, 0, 0},
    {"third part", 2, 4, 2, 64, true, BF16, {40, 40}, {80, 97}, BIASED, RANDOM, 80, 0},
    {"late decode", 2, 8, 4, 64, true, F32, {1, 1}, {300, 17}, BIASED, RANDOM, 17, 0},
    {"no sequence", 3, 8, 1, 80, true, F16, {9, 0, 130}, {0, 7, 0}, 0, RANDOM, 0, 0},
    {"seen whole", 2, 4, 4, 96, false, BF16, {21, 5}, {64, 31}, 0, RANDOM, 0, 0},
    {"few rows", 2, 6, 2, 64, true, BF16, {4, 2}, {257, 300}, NO_STATS, RANDOM, 0, 0},
    {"equal keys", 1, 4, 2, 64, true, F32, {40}, {30}, 0, EQUAL_KEYS, 0, 0},
    {"one huge", 1, 4, 2, 64, true, F32, {40}, {30}, 0, ONE_HUGE, 0, 0},
    {"very negative", 1, 4, 2, 64, true, F32, {40}, {30}, 0, VERY_NEGATIVE, 0, 0},
    {"long turn", 2, 8, 2, 128, true, BF16, {300, 9}, {300, 129}, 0, RANDOM, 0, 0},
    {"biased turn", 3, 8, 1, 128, true, BF16, {150, 9, 64}, {300, 0, 17}, BIASED, RANDOM, 0, 0},
    {"many heads", 2, 8, 8, 64, true, BF16, {130, 12}, {0, 128}, BIASED, RANDOM, 0, 0},
    {"halves", 2, 8, 2, 128, true, F16, {40, 260}, {116, 0}, BIASED, RANDOM, 116, 0},
    {"whole halves", 1, 4, 4, 80, false, F16, {129}, {127}, 0, RANDOM, 0, 0},
    {"tower", 3, 2, 2, 80, false, F32, {70, 70, 70}, {0}, PACKED | ROUND_F16, RANDOM, 0, 0},
    {"windows", 3, 2, 2, 64, false, F32, {64, 13, 100}, {0}, PACKED | BEHIND, RANDOM, 0, 0},
    {"tower's windows",
     3,
     2,
     2,
     80,
     false,
     F32,
     {64, 130, 32},
     {0},
     PACKED | BEHIND | ROUND_BF16,
     RANDOM,
     0,
     0},
    {"so400m", 3, 8, 8, 72, false, F32, {129, 129, 129}, {0}, PACKED | ROUND_BF16 | STRIPES, RANDOM, 0, 0},
    {"so400m halves", 1, 8, 8, 72, false, F32, {300}, {0}, PACKED | ROUND_F16 | STRIPES, RANDOM, 0, 0},
    {"so400m causal", 2, 8, 8, 72, true, F32, {130, 61}, {0}, PACKED | BEHIND | ROUND_F16, RANDOM, 0, 0},
    {"clip stripes", 2, 3, 3, 64, false, F32, {257, 257}, {0}, PACKED | ROUND_BF16 | STRIPES, RANDOM, 0, 0},
    {"windows in stripes",
     3,
     4,
     4,
     80,
     false,
     F32,
     {64, 131, 32},
     {0},
     PACKED | BEHIND | NO_STATS | ROUND_BF16 | STRIPES,
     RANDOM,
     0,
     0},
    {"causal stripes",
     2,
     1,
     1,
     128,
     true,
     F32,
     {130, 70},
     {0},
     PACKED | BEHIND | ROUND_F16 | STRIPES,
     RANDOM,
     0,
     0},
    {"giant stripes", 1, 8, 8, 88, false, F32, {140}, {0}, PACKED | ROUND_F16 | STRIPES, RANDOM, 0, 0},
    {"giant", 2, 8, 8, 88, false, F32, {140, 140}, {0}, PACKED | ROUND_BF16, ONE_HUGE, 0, 0},
    {"three halves", 3, 8, 2, 96, true, BF16, {150, 9, 64}, {300, 0, 17}, BIASED, RANDOM, 0, 0},
    {"so400m cached", 2, 6, 2, 72, true, F16, {40, 260}, {116, 0}, BIASED, RANDOM, 116, 0},
    {"so400m deep", 1, 8, 8, 72, false, F32, {300}, {0}, PACKED | ROUND_BF16 | STRIPES, DEEP, 0, 0},
    {"equal halves", 1, 4, 2, 64, true, BF16, {40}, {30}, 0, EQUAL_KEYS, 0, 0},
    {"one huge half", 1, 4, 2, 64, true, BF16, {40}, {30}, BIASED, ONE_HUGE, 0, 0},
    {"very negative half", 1, 4, 2, 64, true, BF16, {40}, {30}, 0, VERY_NEGATIVE, 0, 0},
    {"deep", 1, 4, 2, 64, true, BF16, {140}, {130}, 0, DEEP, 0, 0},
    {"rising", 2, 8, 2, 128, true, BF16, {40, 300}, {700, 0}, 0, RISING, 0, 0},
    {"rising halves", 1, 8, 2, 128, true, F16, {150}, {900}, BIASED, RISING, 0, 0},
    {"seven heads", 2, 14, 2, 128, true, BF16, {1, 3}, {700, 90}, BIASED, RANDOM, 0, 0},
    {"sixteen heads", 1, 16, 1, 64, true, F16, {2}, {333}, 0, RANDOM, 0, 0},
    {"heads of their own", 2, 8, 8, 128, true, BF16, {1, 2}, {300, 40}, BIASED, RANDOM, 0, 0},
    {"three for a product", 3, 8, 2, 128, true, BF16, {1, 1, 1}, {300, 17, 900}, STRIPES, RANDOM, 0, 0},
    {"few for a product", 2, 14, 2, 64, true, F16, {3, 1}, {40, 257}, BIASED | STRIPES, RANDOM, 0, 0},
    {"equal keys, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, EQUAL_KEYS, 0, 0},
    {"one huge, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, ONE_HUGE, 0, 0},
    {"very negative, decode", 1, 4, 2, 64, true, F16, {1}, {300}, 0, VERY_NEGATIVE, 0, 0},
    {"large heads", 2, 8, 1, 256, true, BF16, {70, 9}, {0, 40}, BIASED, RANDOM, 0, 0},
    {"large heads, decode", 2, 8, 1, 256, true, BF16, {1, 1}, {300, 17}, 0, RANDOM, 0, 0},
    {"large prefix", 1, 8, 1, 256, false, BF16, {40}, {0}, 0, RANDOM, 0, 0},
    {"window", 3, 4, 2, 64, true, BF16, {70, 1, 33}, {0, 90, 3}, BIASED, RANDOM, 0, 24},
    {"window, decode", 2, 4, 1, 128, true, BF16, {1, 1}, {300, 17}, BIASED, RANDOM, 0, 129},
    {"window, decode in halves", 2, 8, 2, 128, true, BF16, {2, 1}, {300, 17}, BIASED, RANDOM, 0, 129},
    {"window of one", 1, 4, 4, 40, true, F16, {40}, {100}, 0, RANDOM, 60, 1},
    {"wide window", 1, 8, 2, 64, true, F32, {40}, {30}, 0, RANDOM, 0, 70},
    {"capped", 2, 4, 2, 64, true, BF16, {70, 9}, {0, 40}, BIASED | CAPPED, RANDOM, 0, 0},
    {"capped, decode", 3, 8, 2, 64, true, BF16, {1, 2, 1}, {300, 17, 64}, BIASED | CAPPED, RANDOM, 0, 0},
    {"capped windows", 2, 4, 2, 64, true, BF16, {70, 9}, {10, 40}, CAPPED, RANDOM, 0, 24},
    {"capped window, decode", 2, 4, 2, 64, true, BF16, {1, 1}, {300, 17}, CAPPED, RANDOM, 0, 129},
    {"capped, one huge", 1, 4, 2, 64, true, BF16, {40}, {30}, CAPPED, ONE_HUGE, 0, 0},
    {"capped, very negative", 1, 4, 2, 64, true, BF16, {1}, {300}, CAPPED, VERY_NEGATIVE, 0, 0},
    /* queries that have no rows of their own: past + rows is what there is */
    {"aside", 2, 8, 2, 64, false, BF16, {30, 30}, {-13, 200}, 0, RANDOM, -30, 0},
    {"aside, decode", 3, 4, 2, 128, false, F32, {1, 1, 1}, {300, 17, 40}, BIASED, RANDOM, -1, 0},
    {"aside, halves", 1, 8, 2, 128, false, F16, {150}, {-80}, 0, RANDOM, -150, 0},
};
enum { PROBLEMS = sizeof problems / sizeof problems[0], SMALL = 6 };

static int n_problems(void) {
    return suite_reduced() ? SMALL : PROBLEMS;
}

/* ---- one problem, on both sides --------------------------------------------------------------------- */

typedef struct arrays {
    vlci_attention_kernels kernels;
    vlci_attention a;
    int rows, keys; /* query rows in all, most cached rows of any head */
    float *q, *k, *v, *bias;
    int32_t seq_start[SEQUENCES + 1];
    ref_rows head[SEQUENCES * KV_HEADS];
    pages *pages;
    cl_mem memory[8];
    int n_memory;
} arrays;

static uint64_t seed;

/* d-th value of cached row j: random ones among them, or such as make all logits equal, one huge, all
 * low, or most so low that their differences are lost, or later keys lower. */
static float key_value(kind values, int j, int d) {
    float random = suite_random(&seed);
    switch (values) {
    case EQUAL_KEYS:
        return (float)(d % 5) - 2.0f;
    case ONE_HUGE:
        return j == 17 ? 4096.0f : random;
    case VERY_NEGATIVE:
        return -2048.0f;
    case DEEP:
        return j % 7 == 3 ? random : -1e15f;
    case RISING:
        return random - (float)j / 1024.0f;
    case RANDOM:
        break;
    }
    return 2.0f * random;
}

static float query_value(kind values) {
    float random = suite_random(&seed);
    if (values == RISING) return 2.0f + random;
    return values == RANDOM || values == EQUAL_KEYS ? 2.0f * random : 2.0f;
}

static float *all_nan(size_t n) {
    float *data = malloc((n + 1) * sizeof *data);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < n; i++) data[i] = NAN;
    return data;
}

static int past_of(const problem *p, int b, int h) {
    return p->past[b] ? p->past[b] + 5 * h : 0;
}

static bool is_paged(const problem *p) {
    return !(p->flags & (DENSE | PACKED));
}

static cl_mem keep(arrays *s, cl_mem memory) {
    return s->memory[s->n_memory++] = memory;
}

static void count_rows(const problem *p, arrays *s) {
    for (int b = 0; b < p->batch; b++) {
        s->seq_start[b + 1] = s->seq_start[b] + p->rows[b];
        if (p->rows[b] > s->a.max_rows) s->a.max_rows = p->rows[b];
        for (int h = 0; h < p->kv_heads; h++)
            if (past_of(p, b, h) + p->rows[b] > s->keys) s->keys = past_of(p, b, h) + p->rows[b];
    }
    s->rows = s->seq_start[p->batch];
}

static void fill_row(const problem *p, int j, float *k, float *v) {
    for (int d = 0; d < p->head_dim; d++) {
        k[d] = key_value(p->values, j, d);
        v[d] = suite_random(&seed);
    }
}

/* ---- in pages ------------------------------------------------------------------------------------------ */

/* Where biases are, every third head has none: its place in the pool is NaN. */
static bool is_biased(const problem *p, int i) {
    return (p->flags & BIASED) && i % 3 != 1;
}

/* Lists as the host has them; those of other layers have some rows, too. */
static void fill_lists(const problem *p, arrays *s, int *rows, bool *biased) {
    int lists = SEQUENCES * LAYERS * KV_HEADS;
    size_t most = (size_t)lists * (size_t)(s->keys + BESIDE), at = 0;
    s->k = all_nan(most * (size_t)p->head_dim);
    s->v = all_nan(most * (size_t)p->head_dim);
    s->bias = all_nan(most);
    for (int i = 0; i < p->batch * LAYERS * p->kv_heads; i++) {
        int h = i % p->kv_heads, layer = i / p->kv_heads % LAYERS, b = i / p->kv_heads / LAYERS;
        size_t from = at * (size_t)p->head_dim;
        rows[i] = layer == LAYER ? past_of(p, b, h) + p->rows[b] : p->ahead + p->rows[b] + BESIDE;
        biased[i] = is_biased(p, i);
        if (layer == LAYER)
            s->head[b * p->kv_heads + h] = (ref_rows){past_of(p, b, h), (size_t)p->head_dim, s->k + from,
                                                      s->v + from, biased[i] ? s->bias + at : NULL};
        for (int j = 0; j < rows[i]; j++, at++) {
            fill_row(p, j, s->k + at * (size_t)p->head_dim, s->v + at * (size_t)p->head_dim);
            if (biased[i]) s->bias[at] = 1.0f + suite_random(&seed);
        }
    }
}

/* The new rows are in the cache, but not counted: nor are those `ahead`. */
static void put_in_pages(const problem *p, arrays *s) {
    int rows[SEQUENCES * LAYERS * KV_HEADS];
    bool biased[SEQUENCES * LAYERS * KV_HEADS];
    const vlci_kv_shape shape = {LAYERS, p->kv_heads, p->head_dim, p->dtype};
    fill_lists(p, s, rows, biased);
    s->pages = pages_create(&shape, p->batch,
                            &(pages_rows){rows, s->k, s->v, p->flags & BIASED ? s->bias : NULL, biased}, 3);
    for (int b = 0; b < p->batch; b++) vlci_kv_append(&s->pages->kv[b], 0, LAYERS, -(p->rows[b] + p->ahead));
    ck_ok(vlci_kv_pool_sync(&s->pages->pool));
    s->a.kv = pages_view(s->pages, LAYER);
    s->a.kv.ahead = p->ahead;
}

/* ---- dense --------------------------------------------------------------------------------------------- */

/* Strides of both layouts, with something before the first element and between rows. */
static void lay_out(const problem *p, arrays *s) {
    vlci_kv_view *kv = &s->a.kv;
    size_t inner = (size_t)p->heads * (size_t)p->head_dim, d = (size_t)p->head_dim;
    bool packed = p->flags & PACKED;
    *kv = (vlci_kv_view){.dtype = p->dtype, .layers = 1};
    kv->k_offset = packed ? inner : 24;
    kv->v_offset = packed ? 2 * inner : 8;
    kv->row_stride = packed ? 3 * inner : d + 8;
    kv->head_stride = packed ? d : kv->row_stride * (size_t)(s->keys + 2);
    kv->seq_stride = packed ? (size_t)s->a.max_rows * 3 * inner : kv->head_stride * (size_t)p->kv_heads + 16;
}

static cl_mem upload_stored(arrays *s, float *data, size_t n, vlcache_dtype dtype) {
    void *stored = suite_store(data, n, dtype);
    cl_mem memory = keep(s, suite_upload(stored, n * vlci_dtype_bytes(dtype)));
    free(stored);
    return memory;
}

/* How many elements; PACKED: q's memory is that of the others, too. */
static size_t put_dense(const problem *p, arrays *s) {
    vlci_kv_view *kv = &s->a.kv;
    lay_out(p, s);
    bool behind = p->flags & BEHIND;
    size_t n = 24 + (behind ? (size_t)s->rows * kv->row_stride : (size_t)p->batch * kv->seq_stride);
    s->k = all_nan(n);
    s->v = p->flags & PACKED ? s->k : all_nan(n);
    for (int i = 0; i < p->batch * p->kv_heads; i++) {
        int b = i / p->kv_heads;
        size_t at = behind ? (size_t)s->seq_start[b] * kv->row_stride : (size_t)b * kv->seq_stride;
        at += (size_t)(i % p->kv_heads) * kv->head_stride;
        float *k = s->k + kv->k_offset + at, *v = s->v + kv->v_offset + at;
        s->head[i] = (ref_rows){0, kv->row_stride, k, v, NULL};
        for (int j = 0; j < p->rows[b]; j++)
            fill_row(p, j, k + (size_t)j * kv->row_stride, v + (size_t)j * kv->row_stride);
    }
    if (p->flags & PACKED) return n;
    kv->k = upload_stored(s, s->k, n, p->dtype);
    kv->v = upload_stored(s, s->v, n, p->dtype);
    return n;
}

/* ---- the rest of it ------------------------------------------------------------------------------------ */

/* As what matrix units read q, and k and v of 32 bits (which lie in q's memory then); F32: nothing is
 * rounded.
 */
static vlcache_dtype read_as(const problem *p, const arrays *s) {
    const char *many = s->kernels.many.kernel[0]->name;
    bool amx = strcmp(many, "attention_amx") == 0, wgmma = strcmp(many, "attention_wgmma") == 0;
    bool windowed = p->window && s->keys > p->window; /* which wgmma does not know, nor caps */
    bool bent = windowed || p->flags & CAPPED;
    if (!(amx || (wgmma && !bent)) || s->a.max_rows <= FEW_ROWS) return F32;
    return p->dtype == F32 ? s->kernels.shape.rounded : p->dtype;
}

/* Of out; 0: it is floats. */
static size_t stripe_rows(const arrays *s) {
    return s->a.out_rows ? VLCI_STRIPE_ROWS(s->a.out_rows) : 0;
}

/* What is in stripes, if anything is. */
static vlcache_dtype narrow(const problem *p) {
    return p->dtype != F32 ? p->dtype : p->flags & ROUND_F16 ? F16 : p->flags & ROUND_BF16 ? BF16 : F32;
}

/* out goes into stripes wherever it can, but for every third problem that does not ask for them. */
static bool leaves_stripes(const problem *p, const arrays *s) {
    bool asked = p->flags & STRIPES || (p - problems) % 3;
    return s->a.q_rows ||
           (narrow(p) != F32 && asked && vlci_attention_leaves_stripes(&s->kernels, &s->a, narrow(p)));
}

static bool in_stripes(const problem *p, const arrays *s) {
    return p->flags & STRIPES && vlci_attention_takes_stripes(&s->kernels);
}

/* All rows of q, k and v as stripes; what lies behind the last row is NaN. */
static void put_stripes(const problem *p, arrays *s) {
    vlci_attention *a = &s->a;
    size_t rows = VLCI_STRIPE_ROWS(s->rows), inner = (size_t)p->heads * (size_t)p->head_dim;
    size_t bytes = rows * VLCI_BLOCKS(3 * inner) * VLCI_BLOCK * sizeof(uint16_t);
    void *stripes = malloc(bytes);
    memset(stripes, 0xff, bytes);
    for (size_t r = 0; r < (size_t)s->rows; r++)
        for (size_t i = 0; i < 3 * inner; i++)
            ref_store(stripes, (int64_t)VLCI_STRIPE_AT(r, i, rows), s->q[r * 3 * inner + i],
                      s->kernels.shape.rounded);
    a->q = a->kv.k = a->kv.v = keep(s, suite_upload(stripes, bytes));
    a->q_rows = rows;
    free(stripes);
}

static void put_queries(const problem *p, arrays *s, size_t packed) {
    vlci_attention *a = &s->a;
    size_t inner = (size_t)p->heads * (size_t)p->head_dim, n = packed;
    a->q_offset = packed ? 0 : 8;
    a->q_stride = packed ? 3 * inner : inner + 8;
    if (!packed) n = a->q_offset + (size_t)s->rows * a->q_stride;
    s->q = packed ? s->k : all_nan(n);
    for (size_t i = 0; i < (size_t)s->rows; i++)
        for (size_t d = 0; d < inner; d++) s->q[a->q_offset + i * a->q_stride + d] = query_value(p->values);
    a->q = keep(s, suite_upload(s->q, n * sizeof *s->q));
    if (packed) a->kv.k = a->kv.v = a->q;
    free(suite_store(s->q, n, read_as(p, s))); /* the oracle multiplies what the device does */
    if (in_stripes(p, s)) put_stripes(p, s);
}

static void put_outputs(const problem *p, arrays *s) {
    size_t outputs = (size_t)s->rows * (size_t)p->heads;
    s->a.seq_start = keep(s, suite_upload(s->seq_start, sizeof s->seq_start));
    if (p->flags & BEHIND) s->a.kv.slots = s->a.seq_start;
    if (leaves_stripes(p, s)) s->a.out_rows = s->rows;
    size_t stripes = stripe_rows(s) * (size_t)p->heads * (size_t)p->head_dim * sizeof(uint16_t);
    size_t floats = outputs * (size_t)p->head_dim * sizeof(float);
    s->a.out = keep(s, suite_poison((stripes ? stripes : floats) + GUARD * sizeof(float)));
    s->a.max_keys = s->keys;
    ck_ok(vlci_attention_scratch_create(&s->kernels, p->batch, &s->a.scratch));
    keep(s, s->a.scratch);
    if (p->flags & NO_STATS) return;
    s->a.row_max = keep(s, suite_poison((outputs + GUARD) * sizeof(float)));
    s->a.row_lse = keep(s, suite_poison((outputs + GUARD) * sizeof(float)));
}

static void force(const char *rung) {
    char variant[48];
    snprintf(variant, sizeof variant, "attention:%s", rung);
    suite_force(rung[0] ? variant : NULL);
}

/* Opened with a rung forced. */
static arrays *arrays_create(const problem *p, const char *rung) {
    arrays *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    seed = 7;
    s->a = (vlci_attention){.batch = p->batch,
                            .causal = p->causal,
                            .window = p->window,
                            .scale = 1.0f / sqrtf((float)p->head_dim)};
    vlcache_dtype rounded = p->flags & ROUND_F16 ? F16 : p->flags & ROUND_BF16 ? BF16 : F32;
    const vlci_attention_shape shape = {.heads = p->heads,
                                        .kv_heads = p->kv_heads,
                                        .head_dim = p->head_dim,
                                        .kv_dtype = p->dtype,
                                        .rounded = rounded,
                                        .windowed = p->window > 0,
                                        .stripes = p->flags & STRIPES,
                                        .out = p->flags & STRIPES ? VLCI_STRIPES : VLCI_FLOATS,
                                        .cap = p->flags & CAPPED ? CAP : 0.0f};
    force(rung);
    ck_ok(vlci_attention_open(suite_device(), &shape, &s->kernels));
    force(""); /* what is open stays as it was opened */
    count_rows(p, s);
    size_t n = 0;
    if (is_paged(p))
        put_in_pages(p, s);
    else
        n = put_dense(p, s);
    put_queries(p, s, p->flags & PACKED ? n : 0);
    put_outputs(p, s);
    return s;
}

static void arrays_release(arrays *s) {
    for (int i = 0; i < s->n_memory; i++) suite_release(s->memory[i]);
    if (s->pages) pages_destroy(s->pages);
    if (s->v != s->k) free(s->v);
    if (s->q != s->k) free(s->q);
    free(s->k);
    free(s->bias);
    free(s);
}

/* ---- comparison ---------------------------------------------------------------------------------------- */

static void compare(const char *what, cl_mem memory, const double *want, size_t n, double atol) {
    float *got = malloc((n + GUARD) * sizeof *got);
    uint32_t bits;
    if (!memory) return free(got);
    suite_download(memory, got, (n + GUARD) * sizeof *got);
    suite_close(what, got, want, n, atol, 2e-5);
    for (size_t i = n; i < n + GUARD; i++) {
        memcpy(&bits, &got[i], sizeof bits);
        ck_assert_msg(bits == 0xffffffffu, "%s: wrote beyond its %zu elements, at %zu", what, n, i);
    }
    free(got);
}

/* In stripes: nothing is written behind the last row, nor behind the last head. */
static void compare_stripes(const char *what, const problem *p, const arrays *s, const double *want,
                            double atol) {
    size_t rows = stripe_rows(s), inner = (size_t)p->heads * (size_t)p->head_dim, n = rows * inner;
    vlcache_dtype dtype = narrow(p);
    uint16_t *got = malloc((n + GUARD) * sizeof *got);
    float *values = malloc(n * sizeof *values);
    suite_download(s->a.out, got, (n + GUARD) * sizeof *got);
    for (size_t r = 0; r < (size_t)s->rows; r++)
        for (size_t i = 0; i < inner; i++) {
            size_t at = VLCI_STRIPE_AT(r, i, rows);
            values[r * inner + i] = (float)ref_load(got, (int64_t)at, dtype);
            got[at] = 0xffff;
        }
    suite_close(what, values, want, (size_t)s->rows * inner, atol, dtype == F16 ? 0x1p-11 : 0x1p-8);
    for (size_t i = 0; i < n + GUARD; i++)
        ck_assert_msg(got[i] == 0xffff, "%s: wrote beyond its %d rows, at %zu", what, s->rows, i);
    free(got);
    free(values);
}

/* What rungs of one problem that read the same numbers are held against. */
typedef struct oracle {
    vlcache_dtype read;
    double *out, *max, *lse; /* out NULL: not yet */
} oracle;

static void ask_oracle(const arrays *s, vlcache_dtype read, oracle *o) {
    size_t outputs = (size_t)s->rows * (size_t)s->kernels.shape.heads;
    size_t values = outputs * (size_t)s->kernels.shape.head_dim;
    if (o->out && o->read == read) return;
    free(o->out);
    o->read = read;
    o->out = calloc(values + 2 * outputs, sizeof *o->out);
    ck_assert_ptr_nonnull(o->out);
    o->max = o->out + values;
    o->lse = o->max + outputs;
    ref_attention(&s->kernels.shape, &s->a, &(ref_inputs){s->q, s->seq_start, s->head}, o->out, o->max,
                  o->lse);
}

/* v is below 1: weights that are rounded to 16 bits change a mean by half a unit of their last place. */
static void check_outputs(const problem *p, const arrays *s, const char *rung, oracle *o) {
    char what[96];
    vlcache_dtype read = read_as(p, s);
    size_t outputs = (size_t)s->rows * (size_t)p->heads;
    ask_oracle(s, read, o);
    snprintf(what, sizeof what, "%s, %s: out", rung, p->name);
    double atol = read == F32 ? 4e-6 : read == F16 ? 4e-4 : 2.5e-3;
    if (s->a.out_rows)
        compare_stripes(what, p, s, o->out, atol);
    else
        compare(what, s->a.out, o->out, outputs * (size_t)p->head_dim, atol);
    snprintf(what, sizeof what, "%s, %s: row_max", rung, p->name);
    compare(what, s->a.row_max, o->max, outputs, 4e-6);
    snprintf(what, sizeof what, "%s, %s: row_lse", rung, p->name);
    compare(what, s->a.row_lse, o->lse, outputs, 4e-6);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

/* The empty one is what the device's capabilities choose. */
static const char *const rungs[] = {"",      "rows", "wgmma", "tile",  "tile_small", "amx",
                                    "pairs", "wide", "mma",   "split", "split_wide"};
enum { RUNGS = sizeof rungs / sizeof rungs[0] };

/* Processors never choose tiles, nor split, and neither they nor GPUs choose rows; they take long to build
 * them: some shapes must do there. What is wide takes a GPU longest, and most of its memory. */
static bool is_sample(const char *rung, const problem *p) {
    bool small = strcmp(rung, "tile_small") == 0, rows = strcmp(rung, "rows") == 0;
    if (strstr(rung, "wide")) return p->head_dim == 8;
    if (p->head_dim == 64) return p->dtype == BF16 || (p->dtype == F32 && !small);
    if (p->head_dim == 40) return rows;
    return p->head_dim == 8 || (p->head_dim == (small ? 80 : 128) && p->dtype == F16);
}

static bool has(const vlci_ladder *ladder, const char *rung) {
    for (int i = 0; ladder->rungs[i]; i++)
        if (strcmp(ladder->rungs[i], rung) == 0) return ladder->fits(suite_device(), rung);
    return false;
}

/* Whether the device has the rung, and the problem comes to it: each ladder has many rows or few. Those that
 * no ladder has are what the device chooses; a simulator gets each by its name alone, and the tiles divide
 * the problems: nothing is different in them but a number. */
static bool takes_part(const char *rung, const problem *p) {
    int most = 0, nth = (int)(p - problems);
    bool tiles = strncmp(rung, "tile", 4) == 0, small = strcmp(rung, "tile_small") == 0;
    for (int b = 0; b < p->batch; b++)
        if (p->rows[b] > most) most = p->rows[b];
    bool of_gpus = tiles || strcmp(rung, "wgmma") == 0 || strcmp(rung, "split") == 0;
    bool wide = suite_device()->caps.wide_vectors, rows = strcmp(rung, "rows") == 0;
    bool of_others = wide ? of_gpus : strstr(rung, "wide") != NULL;
    bool seldom = of_others ? wide || !suite_reduced() : rows && !suite_reduced();
    if (seldom && !is_sample(rung, p)) return false;
    if (suite_reduced() && (!*rung || (tiles && small != (nth == 0 || nth == SMALL - 1)))) return false;
    return !*rung ||
           has(most > FEW_ROWS ? &vlci_attention_prefill_ladder : &vlci_attention_decode_ladder, rung);
}

START_TEST(agrees_with_the_oracle) {
    const problem *p = &problems[_i];
    oracle o = {.out = NULL};
    for (int i = 0; i < RUNGS; i++) {
        if (!takes_part(rungs[i], p)) continue;
        arrays *s = arrays_create(p, rungs[i]);
        ck_ok(vlci_attention_run(&s->kernels, &s->a));
        check_outputs(p, s, rungs[i], &o);
        arrays_release(s);
    }
    free(o.out);
}
END_TEST

/* Twice the same bits: shares are merged in order. */
static void check_twice(const problem *p, const char *rung, oracle *o) {
    arrays *s = arrays_create(p, rung);
    size_t bytes = (size_t)(s->kernels.shape.heads * s->kernels.shape.head_dim);
    bytes *= s->a.out_rows ? stripe_rows(s) * sizeof(uint16_t) : (size_t)s->rows * sizeof(float);
    void *once = calloc(2, bytes), *again = (char *)once + bytes;
    ck_ok(vlci_attention_run(&s->kernels, &s->a));
    check_outputs(p, s, rung, o);
    suite_download(s->a.out, once, bytes);
    ck_ok(vlci_attention_run(&s->kernels, &s->a));
    suite_download(s->a.out, again, bytes);
    ck_assert_mem_eq(once, again, bytes);
    free(once);
    arrays_release(s);
}

/* A device of 64 compute units divides keys into many shares; one of none has more pieces than run at a time,
 * for which mma has smaller work-groups where it leaves stripes. */
START_TEST(divides_keys) {
    unsigned units = suite_device()->caps.info.compute_units;
    oracle o = {.out = NULL};
    suite_device()->caps.info.compute_units = 0;
    bool mma = vlci_attention_decode_ladder.fits(suite_device(), "mma") && problems[_i].flags & STRIPES;
    if (mma && takes_part("mma", &problems[_i])) check_twice(&problems[_i], "mma", &o);
    suite_device()->caps.info.compute_units = 64;
    for (int i = 0; i < 3; i++) { /* mma, split, split_wide */
        const char *rung = vlci_attention_decode_ladder.rungs[i];
        bool fits = vlci_attention_decode_ladder.fits(suite_device(), rung);
        if (fits && takes_part(rung, &problems[_i])) check_twice(&problems[_i], rung, &o);
    }
    suite_device()->caps.info.compute_units = units;
    free(o.out);
}
END_TEST

START_TEST(refuses_what_it_cannot_do) {
    vlci_attention_kernels kernels;
    vlci_attention_shape good = {.heads = 4, .kv_heads = 2, .head_dim = 64, .kv_dtype = F32}, shape = good;
    vlci_attention a = {.batch = 1, .max_rows = 1, .kv = {.dtype = F32}};
    shape.head_dim = 12;
    ck_fails(vlci_attention_open(suite_device(), &shape, &kernels), VLCACHE_E_UNSUPPORTED, "head_dim 12");
    shape = good;
    shape.kv_heads = 3;
    ck_fails(vlci_attention_open(suite_device(), &shape, &kernels), VLCACHE_E_UNSUPPORTED, "4 query heads");
    suite_force("attention:fast");
    ck_fails(vlci_attention_open(suite_device(), &good, &kernels), VLCACHE_E_ARGUMENT, "split_wide");
    suite_force(NULL);
    ck_ok(vlci_attention_open(suite_device(), &good, &kernels));
    a.causal = true;
    a.window = 3;
    ck_fails(vlci_attention_run(&kernels, &a), VLCACHE_E_INTERNAL, "window");
    a.window = 0;
    size_t *const numbers[] = {&a.kv.seq_stride, &a.kv.head_stride, &a.kv.row_stride, &a.kv.k_offset,
                               &a.kv.v_offset,   &a.q_stride,       &a.q_offset};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char number[24];
        *numbers[i] = ((size_t)1 << 32) + i;
        snprintf(number, sizeof number, "%zu", *numbers[i]);
        ck_fails(vlci_attention_run(&kernels, &a), VLCACHE_E_UNSUPPORTED, number);
        *numbers[i] = 0;
    }
}
END_TEST

/* Problems that share programs, most of the suite's time, are a case: CK_RUN_CASE=NAME runs one alone, and
 * cases may run side by side. With a cap, or else a window, they have programs of their own. */
enum { ANY = -1, PLAIN, WINDOW, CAP_OR_BOTH };
static const struct {
    const char *name;
    int least, most; /* dimensions of a head */
    unsigned dtypes; /* 1 << dtype */
    int bent;
} cases[] = {
    {"heads-8", 8, 8, ~0u, ANY},
    {"heads-16", 16, 24, ~0u, ANY},
    {"heads-40", 40, 40, ~0u, ANY},
    {"heads-64-f32", 64, 64, 1u << F32, ANY},
    {"heads-64-f16", 64, 64, 1u << F16, ANY},
    {"heads-64-bf16", 64, 64, 1u << BF16, PLAIN},
    {"heads-64-window", 64, 64, 1u << BF16, WINDOW},
    {"heads-64-cap", 64, 64, 1u << BF16, CAP_OR_BOTH},
    {"heads-72", 72, 72, ~0u, ANY},
    {"heads-80", 80, 80, ~0u, ANY},
    {"heads-88", 88, 88, ~0u, ANY},
    {"heads-96", 96, 96, ~0u, ANY},
    {"heads-128", 128, 128, ~(1u << BF16), ANY},
    {"heads-128-bf16", 128, 128, 1u << BF16, ANY},
    {"heads-256", 256, 256, ~0u, ANY},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static bool is_in(int which, const problem *p) {
    int bent = p->flags & CAPPED ? CAP_OR_BOTH : p->window ? WINDOW : PLAIN;
    return p->head_dim >= cases[which].least && p->head_dim <= cases[which].most &&
           cases[which].dtypes >> p->dtype & 1 && (cases[which].bent == ANY || cases[which].bent == bent);
}

static void add_case(Suite *suite, int which) {
    TCase *all = tcase_create(cases[which].name);
    suite_balance(all);
    for (int i = 0; i < n_problems(); i++) {
        if (!is_in(which, &problems[i])) continue;
        tcase_add_loop_test(all, agrees_with_the_oracle, i, i + 1);
        tcase_add_loop_test(all, divides_keys, i, i + 1);
    }
    suite_add_tcase(suite, all);
}

START_TEST(each_problem_is_in_one_case) {
    for (int i = 0; i < PROBLEMS; i++) {
        int n = 0;
        for (int which = 0; which < CASES; which++) n += is_in(which, &problems[i]);
        ck_assert_msg(n == 1, "%s is in %d cases", problems[i].name, n);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention");
    TCase *rest = tcase_create("attention");
    suite_balance(rest);
    for (int i = 0; i < CASES; i++) add_case(suite, i);
    tcase_add_test(rest, each_problem_is_in_one_case);
    tcase_add_test(rest, refuses_what_it_cannot_do);
    suite_add_tcase(suite, rest);
    return suite_run(suite);
}
