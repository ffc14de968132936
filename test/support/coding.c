/*
 * coding.c - rows in pages, what is seen of the text, and the steps of coding in their order.
 */
#include "support/coding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int n_heads(const coding_case *c) {
    return c->layers * c->kv_heads;
}

/* ---- what it is made of -------------------------------------------------------------------------------- */

static float *numbers(size_t n) {
    float *data = calloc(n + 1, sizeof *data);
    ck_assert_ptr_nonnull(data);
    return data;
}

/* Row j's angle of pair d: positions 0, 1, ... */
static void fill_phases(coding_case *c) {
    int half = c->head_dim / 2;
    c->phase = numbers((size_t)c->tokens * (size_t)c->head_dim);
    for (int j = 0; j < c->tokens; j++)
        for (int d = 0; d < half; d++) {
            double angle = j * pow(100.0, -(double)d / half);
            c->phase[j * c->head_dim + d] = (float)cos(angle);
            c->phase[j * c->head_dim + half + d] = (float)sin(angle);
        }
}

void coding_fill(coding_case *c, uint64_t seed) {
    size_t row = (size_t)c->head_dim, rows = (size_t)(2 * n_heads(c) * c->tokens);
    size_t queries = (size_t)(c->layers * CODING_QUERIES * c->kv_heads * c->group) * row;
    c->rows = numbers(rows * row);
    c->score = numbers((size_t)(n_heads(c) * c->tokens));
    c->query = numbers(queries);
    for (size_t i = 0; i < rows * row; i++)
        c->rows[i] = suite_random(&seed) * expf(-(float)(i % row) / 12.0f) + 0.5f * sinf((float)(i % row));
    for (int i = 0; i < n_heads(c) * c->tokens; i++) c->score[i] = fabsf(suite_random(&seed));
    for (size_t i = 0; i < queries; i++) c->query[i] = suite_random(&seed);
    fill_phases(c);
}

void coding_flatten(coding_case *c, uint64_t seed) {
    size_t n = (size_t)(2 * n_heads(c) * c->tokens * c->head_dim);
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int k = 0; k < 12; k++) sum += suite_random(&seed);
        c->rows[i] = sum / 2.0f;
    }
}

void coding_free(coding_case *c) {
    free(c->rows);
    free(c->phase);
    free(c->score);
    free(c->query);
}

/* ---- the cache ----------------------------------------------------------------------------------------- */

static void make_pages(coding_case *c) {
    int lists = n_heads(c), all = c->before + c->tokens;
    size_t row = (size_t)c->head_dim, list = (size_t)c->tokens * row, place = (size_t)all * row;
    int *rows = calloc((size_t)lists, sizeof *rows);
    float *k = numbers((size_t)lists * place), *v = numbers((size_t)lists * place);
    for (int i = 0; i < lists; i++) {
        rows[i] = all;
        for (size_t e = 0; e < (size_t)c->before * row; e++) /* of an earlier turn */
            k[(size_t)i * place + e] = v[(size_t)i * place + e] = 3.0f;
        memcpy(k + (size_t)i * place + (size_t)c->before * row, c->rows + 2 * (size_t)i * list,
               list * sizeof *k);
        memcpy(v + (size_t)i * place + (size_t)c->before * row, c->rows + (2 * (size_t)i + 1) * list,
               list * sizeof *v);
    }
    const vlci_kv_shape shape = {c->layers, c->kv_heads, c->head_dim, c->dtype};
    c->p = pages_create(&shape, 1, &(pages_rows){.rows = rows, .k = k, .v = v}, 4);
    for (int i = 0; i < lists; i++) { /* as they are stored */
        memcpy(c->rows + 2 * (size_t)i * list, k + (size_t)i * place + (size_t)c->before * row,
               list * sizeof *k);
        memcpy(c->rows + (2 * (size_t)i + 1) * list, v + (size_t)i * place + (size_t)c->before * row,
               list * sizeof *v);
    }
    free(rows);
    free(k);
    free(v);
}

static vlci_compress_shape shape_of(const coding_case *c) {
    return (vlci_compress_shape){c->layers, c->kv_heads * c->group, c->kv_heads, c->head_dim, c->dtype, 0};
}

/* U of each head, and behind all of them U^-T: column by column. */
static cl_mem upload_metric(const coding_case *c) {
    size_t dim = (size_t)c->head_dim, each = dim * dim, all = (size_t)n_heads(c) * each;
    float *both = calloc(2 * all, sizeof *both);
    memcpy(both, c->metric, all * sizeof *both);
    for (size_t i = 0; i < all; i += dim) { /* row k of a head */
        const float *u = c->metric + i / each * each;
        size_t k = i / dim % dim;
        double x[VLCI_CODE_DIM_MAX] = {0};
        for (size_t d = k + 1; d-- > 0;) {
            double left = d == k ? 1.0 : 0.0;
            for (size_t e = d + 1; e <= k; e++) left -= (double)u[d * dim + e] * x[e];
            x[d] = left / (double)u[d * dim + d];
            both[all + i + d] = (float)x[d];
        }
    }
    cl_mem metric = suite_upload(both, 2 * all * sizeof *both);
    free(both);
    return metric;
}

/* The last rows of the prompt are looked at, and queries are those of a walk over these alone. */
static void observe(coding_case *c, const vlci_scores *seen) {
    size_t width = (size_t)(c->kv_heads * c->group * c->head_dim), layer = CODING_QUERIES * width;
    cl_mem phase = suite_upload(c->phase, (size_t)(c->tokens * c->head_dim) * sizeof(float));
    cl_mem q = suite_upload(c->query, (size_t)c->layers * layer * sizeof(float));
    for (int l = 0; l < c->layers; l++) {
        vlci_attention a = {.q = q, .q_stride = width, .q_offset = (size_t)l * layer};
        vlci_look look = {.a = &a, .from = c->tokens - CODING_QUERIES, .n = CODING_QUERIES, .phase = phase};
        ck_ok(vlci_coding_observe(c->coding, l, &look, seen));
    }
    ck_ok(vlci_finish(suite_device()));
    suite_release(phase);
    suite_release(q);
}

/* Each layer, then all, then each layer. */
static void code(coding_case *c, const vlci_scores *seen) {
    size_t n = (size_t)n_heads(c);
    vlci_keep *own = calloc(n, sizeof *own);
    for (size_t i = 0; i < n; i++) own[i].before = c->before;
    cl_mem keep = suite_upload(own, n * sizeof *own);
    vlci_heads h = {.device = suite_device(), .shape = shape_of(c), .layers = 1, .tokens = c->tokens};
    h.own = own;
    h.keep = keep;
    h.kv = vlci_kv_layer(&c->p->kv[0], 0);
    for (h.layer = 0; h.layer < c->layers; h.layer++) {
        h.heads_at = vlci_kv_heads_at(&c->p->kv[0], h.layer);
        ck_ok(c->held ? vlci_coding_hold(c->coding, &h) : vlci_coding_measure(c->coding, &h));
    }
    c->status = vlci_coding_share(c->coding, seen);
    if (c->held) h.layers = c->layers;
    for (h.layer = 0; h.layer < c->layers && !c->status; h.layer += h.layers) {
        h.heads_at = vlci_kv_heads_at(&c->p->kv[0], h.layer);
        ck_ok(vlci_coding_write(c->coding, &h));
    }
    if (!c->status) c->codes = vlci_coding_finish(c->coding, NULL, NULL);
    ck_ok(vlci_finish(suite_device()));
    suite_release(keep);
    free(own);
}

void coding_make(coding_case *c) {
    vlci_compress_shape shape = shape_of(c);
    vlci_recipe recipe = {.coded = true, .bits = c->bits, .budget = c->budget, .run = c->run};
    recipe.voted = c->voted;
    recipe.text_yields = c->yields;
    recipe.candidates = c->candidates;
    for (int h = 0; h < n_heads(c) && c->shares; h++) {
        recipe.allocation = VLCI_ALLOCATE_HEADS;
        recipe.shares[h] = c->shares[h];
    }
    vlci_compress_prompt prompt = {.tokens = c->tokens, .visual = c->visual, .n_visual = c->n_visual};
    int32_t entry[CODING_QUERIES];
    vlci_scores seen = {.rows = {CODING_QUERIES, entry}};
    make_pages(c);
    for (int i = 0; i < CODING_QUERIES; i++)
        entry[i] = VLCI_ROW(c->tokens - CODING_QUERIES + i, VLCI_ROW_SCORED);
    seen.rows_on = suite_upload(entry, sizeof entry);
    seen.score = suite_upload(c->score, (size_t)(n_heads(c) * c->tokens) * sizeof(float));
    ck_ok(vlci_coding_open(suite_device(), &shape, &c->kernels));
    if (c->metric) c->kernels.metric = upload_metric(c);
    if (c->run == 1) ck_ok(vlci_coded_open_rows(&c->kernels.attention));
    if (c->run == 1 && c->held) ck_ok(vlci_coded_open_scores(&c->kernels.attention));
    ck_ok(vlci_coding_create(suite_device(), &c->kernels, &shape, &recipe, &prompt, &c->coding));
    ck_assert_ptr_nonnull(c->coding);
    observe(c, &seen);
    c->status = vlci_coding_choose(c->coding, &seen);
    if (!c->status) code(c, &seen);
    suite_release(seen.rows_on);
    suite_release(seen.score);
}

void coding_release(coding_case *c) {
    vlci_codes_release(&c->codes);
    vlci_coding_destroy(&c->coding);
    if (c->metric) suite_release(c->kernels.metric);
    pages_destroy(c->p);
}
