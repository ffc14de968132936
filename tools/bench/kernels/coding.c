/*
 * coding.c - rows in few bits: what is measured of them, and their codes.
 *
 *     error: of what is measured, |got - want| of the variance along a basis vector over that of all
 *            dimensions, or of the vectors' products with one another; of codes, how far numbers are from
 *            what their codes say, in steps: half a step is right. Keys and values of the first and last head
 */
#include "bench/kernels/coding.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "models/weight.h"

enum { QUERIES = 16, SAMPLES = 40, BUDGET = 10, QUICK_BUDGET = 40 /* percent of the rows' bytes */ };
#define TOLERANCE_MEASURE 1e-2
#define TOLERANCE_WRITE   0.6

/* ---- a prompt ------------------------------------------------------------------------------------------ */

static size_t dim_of(const trial_coding *c) {
    return (size_t)c->shape.head_dim;
}

/* Cosines, then sines, of positions 0, 1, .. */
static void fill_turns(trial_coding *c) {
    size_t dim = dim_of(c), half = dim / 2;
    c->turns = memory_take((size_t)c->tokens * dim, sizeof *c->turns);
    for (size_t j = 0; j < (size_t)c->tokens; j++)
        for (size_t d = 0; d < half; d++) {
            double angle = (double)j * pow(1e4, -(double)d / (double)half);
            c->turns[j * dim + d] = (float)cos(angle);
            c->turns[j * dim + half + d] = (float)sin(angle);
        }
}

vlcache_status trial_coding_make(trial_coding *c) {
    trials *t = c->t;
    const vlci_kv_shape shape = {c->shape.layers, c->shape.kv_heads, c->shape.head_dim, c->shape.kv_dtype};
    size_t heads = (size_t)c->shape.kv_heads, row = (size_t)c->shape.heads * dim_of(c);
    c->own = memory_take(heads, sizeof *c->own);
    c->list = memory_take(QUERIES, sizeof *c->list);
    for (int i = 0; i < QUERIES; i++) c->list[i] = VLCI_ROW(c->tokens - QUERIES + i, VLCI_ROW_SCORED);
    fill_turns(c);
    vlcache_status status = trial_cache_make(t, &shape, 1, c->tokens, c->tokens, &c->cache);
    if (!status) status = trial_cache_fade(&c->cache);
    if (!status) status = trial_bytes(t, c->own, heads * sizeof *c->own, &c->keep);
    if (!status)
        status = trial_bytes(t, c->turns, (size_t)c->tokens * dim_of(c) * sizeof *c->turns, &c->phase);
    if (!status) status = trial_floats(t, QUERIES * row, 61, &c->q);
    if (!status) status = trial_bytes(t, c->list, QUERIES * sizeof *c->list, &c->entries);
    if (!status) status = trial_floats(t, heads * (size_t)c->tokens, 62, &c->score);
    if (status) return status;
    c->seen = (vlci_scores){.rows = {QUERIES, c->list}, .rows_on = c->entries, .score = c->score};
    c->heads = (vlci_heads){.device = t->device,
                            .shape = c->shape,
                            .layers = 1,
                            .tokens = c->tokens,
                            .own = c->own,
                            .keep = c->keep,
                            .kv = vlci_kv_layer(&c->cache.kv[0], 0)};
    return VLCACHE_OK;
}

static vlcache_status create(trial_coding *c) {
    const vlci_recipe recipe = {.coded = true,
                                .budget = (c->t->b->options.quick ? QUICK_BUDGET : BUDGET) / 100.0,
                                .run = VLCACHE_RUN_ROW};
    int n = c->tokens - c->texts, *visual = memory_take((size_t)n, sizeof *visual);
    const vlci_compress_prompt prompt = {
        .tokens = c->tokens, .text = c->texts, .visual = visual, .n_visual = n};
    for (int i = 0; i < n; i++) visual[i] = i;
    vlcache_status status =
        vlci_coding_create(c->t->device, &c->kernels, &c->shape, &recipe, &prompt, &c->coding);
    free(visual);
    return status;
}

static vlcache_status observe(trial_coding *c) {
    const vlci_attention a = {.q = c->q, .q_stride = (size_t)c->shape.heads * dim_of(c)};
    const vlci_look look = {.a = &a, .from = c->tokens - QUERIES, .n = QUERIES, .phase = c->phase};
    return vlci_coding_observe(c->coding, 0, &look, &c->seen);
}

vlcache_status trial_coding_open(trial_coding *c) {
    vlcache_status status = vlci_coding_open(c->t->device, &c->shape, &c->kernels);
    if (!status) status = create(c);
    if (!status) status = observe(c);
    if (!status) status = vlci_coding_measure(c->coding, &c->heads);
    if (!status) status = vlci_coding_share(c->coding, &c->seen);
    return status ? status : vlci_coding_write(c->coding, &c->heads);
}

void trial_coding_close(trial_coding *c) {
    vlci_coding_destroy(&c->coding);
    c->kernels = (vlci_coding_kernels){0};
}

void trial_coding_release(trial_coding *c) {
    TRIAL_RELEASE(c->t, &c->keep, &c->phase, &c->q, &c->entries, &c->score);
    trial_cache_release(&c->cache);
    free(c->own);
    free(c->list);
    free(c->turns);
}

/* Code of dimension i of row j, in [-2^(bits - 1), 2^(bits - 1)), and its bits. */
static int code_at(const vlci_code_matrix *m, const uint32_t *words, size_t i, size_t j, int *bits) {
    size_t eights = (size_t)VLCI_CODE_EIGHTS(m->widths), fours = (size_t)VLCI_CODE_FOURS(m->widths);
    size_t before = 4 * (i < eights ? i : eights);
    if (i > eights) before += 2 * (i - eights < fours ? i - eights : fours);
    if (i > eights + fours) before += i - eights - fours;
    *bits = i < eights ? 8 : i < eights + fours ? 4 : 2;
    size_t block = m->words + j / 16 * (size_t)VLCI_CODE_WORDS(m->widths) + before,
           bit = j % 16 * (size_t)*bits;
    return (int)(words[block + bit / 32] >> bit % 32 & ((1u << *bits) - 1)) - (1 << (*bits - 1));
}

/* ---- rows that come back ------------------------------------------------------------------------------- */

/* Parts of codes on the host, of one matrix where they have such. */
typedef struct parts {
    vlci_code_matrix of;
    uint32_t *words, *text;
    uint16_t *unit, *halves;
    int8_t *basis;
    float *factor, *mean, *phase, *within;
    int32_t *pattern;
} parts;

/* A stretch of memory, in `*to`; what was not there before it stays so. */
static void *take(vlcache_status *status, const vlci_codes *k, cl_mem from, size_t at, size_t bytes) {
    void *to = memory_take(bytes + 1, 1);
    if (!*status && bytes) *status = vlci_read(k->device, from, at, to, bytes);
    return to;
}

static vlcache_status take_parts(const vlci_codes *k, size_t m, parts *p) {
    size_t dim = (size_t)k->head_dim, texts = (size_t)k->texts, text = texts * dim / 2,
           unit = texts * VLCI_TEXT_UNITS(dim) * sizeof *p->unit, runs = (size_t)k->runs;
    vlcache_status status = vlci_read(k->device, k->matrix, m * sizeof p->of, &p->of, sizeof p->of);
    size_t dims = (size_t)VLCI_CODE_DIMS(p->of.widths), first = p->of.dim;
    p->words = take(&status, k, k->words, 0, k->n_words * sizeof *p->words);
    p->text = take(&status, k, k->text, m * text, text);
    p->unit = take(&status, k, k->scale, m * unit, unit);
    p->basis = take(&status, k, k->basis, first * dim, dims * dim);
    p->factor = take(&status, k, k->factor, first * sizeof(float), dims * sizeof(float));
    p->halves = take(&status, k, k->mean, m * dim * 2, dim * 2);
    p->phase = take(&status, k, k->phase, 0, runs * dim * sizeof(float));
    p->within = take(&status, k, k->within, 0, (size_t)k->patterns * dim * VLCI_CODE_RUN_MIN * sizeof(float));
    p->pattern = take(&status, k, k->pattern, 0, k->patterns ? runs * sizeof *p->pattern : 0);
    p->mean = memory_take(dim, sizeof *p->mean);
    vlci_widen(p->halves, VLCACHE_DTYPE_F16, p->mean, dim);
    return status;
}

static void release_parts(parts *p) {
    void *all[] = {p->words,  p->text, p->unit,  p->halves, p->basis,
                   p->factor, p->mean, p->phase, p->within, p->pattern};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Turns a row; cosines, then sines, are `step` floats apart. */
static void turn(float *row, size_t dim, const float *by, size_t step) {
    for (size_t d = 0; d < dim / 2; d++) {
        float low = row[d], high = row[dim / 2 + d], cosine = by[d * step], sine = by[(dim / 2 + d) * step];
        row[d] = low * cosine - high * sine;
        row[dim / 2 + d] = high * cosine + low * sine;
    }
}

static void bring_back(const vlci_codes *k, const parts *p, bool key, size_t j, float *row) {
    size_t dim = (size_t)k->head_dim, run = j / (size_t)k->run;
    for (size_t d = 0; d < dim; d++) row[d] = p->mean[d];
    for (size_t i = 0; i < (size_t)VLCI_CODE_DIMS(p->of.widths); i++) {
        int bits, code = code_at(&p->of, p->words, i, j, &bits);
        for (size_t d = 0; d < dim; d++)
            row[d] += ((float)code + 0.5f) * p->factor[i] * (float)p->basis[i * dim + d];
    }
    if (key && k->patterns)
        turn(row, dim, p->within + (size_t)p->pattern[run] * dim * VLCI_CODE_RUN_MIN + j % VLCI_CODE_RUN_MIN,
             VLCI_CODE_RUN_MIN);
    if (key) turn(row, dim, p->phase + run * dim, 1);
}

static void bring_text_back(const vlci_codes *k, const parts *p, size_t j, float *row) {
    size_t dim = (size_t)k->head_dim;
    for (size_t d = 0; d < dim; d++) {
        float unit;
        vlci_widen(&p->unit[j * VLCI_TEXT_UNITS(dim) + d / VLCI_TEXT_GROUP], VLCACHE_DTYPE_BF16, &unit, 1);
        row[d] = unit * ((float)(p->text[(j * dim + d) / 8] >> d % 8 * 4 & 15) - 7.5f);
    }
}

vlcache_status trial_coding_rows(const vlci_codes *k, size_t matrix, float *to) {
    size_t dim = (size_t)k->head_dim, n = (size_t)k->rows;
    parts p = {0};
    vlcache_status status = take_parts(k, matrix, &p);
    for (size_t j = 0; j < n && !status; j++) bring_back(k, &p, matrix % 2 == 0, j, to + j * dim);
    for (size_t j = 0; j < (size_t)k->texts && !status; j++) bring_text_back(k, &p, j, to + (n + j) * dim);
    release_parts(&p);
    return status;
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* A matrix: the keys, turned back, or values of a head; and its basis. */
typedef struct matrix {
    float *rows;          /* [tokens][head_dim] */
    float *basis, *mean;  /* [columns][head_dim], [head_dim] */
    float *energy, total; /* [columns] */
} matrix;

static void turn_back(const trial_coding *c, float *rows) {
    size_t dim = dim_of(c), half = dim / 2;
    for (size_t j = 0; j < (size_t)c->tokens; j++)
        for (size_t d = 0; d < half; d++) {
            float low = rows[j * dim + d], high = rows[j * dim + half + d];
            float cosine = c->turns[j * dim + d], sine = c->turns[j * dim + half + d];
            rows[j * dim + d] = low * cosine + high * sine;
            rows[j * dim + half + d] = high * cosine - low * sine;
        }
}

static vlcache_status take_matrix(const trial_coding *c, size_t m, matrix *out) {
    const vlci_code_measured *measured = &c->coding->measured;
    vlcache_device *device = c->t->device;
    size_t dim = dim_of(c), columns = (size_t)measured->columns;
    uint16_t *halves = memory_take(dim, sizeof *halves);
    out->rows = memory_take(trial_cache_floats(&c->cache), sizeof *out->rows);
    out->basis = memory_take(columns * dim, sizeof *out->basis);
    out->mean = memory_take(dim, sizeof *out->mean);
    out->energy = memory_take(columns, sizeof *out->energy);
    vlcache_status status = trial_cache_read(&c->cache, m % 2, 0, 0, (int)m / 2, out->rows);
    if (m % 2 == 0) turn_back(c, out->rows);
    if (!status) status = vlci_read(device, measured->mean, m * dim * 2, halves, dim * 2);
    vlci_widen(halves, VLCACHE_DTYPE_F16, out->mean, dim);
    free(halves);
    if (!status)
        status = vlci_read(device, measured->basis, m * columns * dim * sizeof(float), out->basis,
                           columns * dim * sizeof(float));
    if (!status)
        status = vlci_read(device, measured->energy, m * columns * sizeof(float), out->energy,
                           columns * sizeof(float));
    return status ? status
                  : vlci_read(device, measured->total, m * sizeof(float), &out->total, sizeof(float));
}

static void release_matrix(matrix *m) {
    free(m->rows);
    free(m->basis);
    free(m->mean);
    free(m->energy);
}

/* Row j less the mean, along a vector. */
static double along(const matrix *m, size_t dim, size_t j, const float *vector) {
    double sum = 0;
    for (size_t d = 0; d < dim; d++)
        sum += ((double)m->rows[j * dim + d] - (double)m->mean[d]) * (double)vector[d];
    return sum;
}

/* Row i of those that are looked at: all, or a sample, which is that of code.clh. */
static size_t sampled(size_t i, size_t stride, size_t n) {
    size_t j = i * stride + (((uint32_t)i * 2654435761u) >> 16) % stride;
    return stride == 1 ? i : j < n ? j : n - 1;
}

static double check_measured(const trial_coding *c, const matrix *m) {
    size_t dim = dim_of(c), n = (size_t)(c->tokens - c->texts), columns = (size_t)c->coding->measured.columns;
    size_t stride = (n + VLCI_CODE_SAMPLE - 1) / VLCI_CODE_SAMPLE, rows = (n + stride - 1) / stride;
    double worst = 0;
    for (size_t s = 0; s < 4; s++) {
        size_t i = trial_sample(s, 4, columns);
        const float *vector = m->basis + i * dim;
        double squares = 0;
        for (size_t r = 0; r < rows; r++) squares += pow(along(m, dim, sampled(r, stride, n), vector), 2);
        worst = trial_worse(fabs((double)m->energy[i] - squares / (double)rows) / (double)m->total, worst);
        for (size_t k = 0; k < columns; k++) {
            double product = 0;
            for (size_t d = 0; d < dim; d++) product += (double)vector[d] * (double)m->basis[k * dim + d];
            worst = trial_worse(fabs(product - (k == i)), worst);
        }
    }
    return worst;
}

static vlcache_status check_measure(void *work, double *error) {
    trial_coding *c = work;
    const vlci_code_measured *measured = &c->coding->measured;
    size_t matrices = 2 * (size_t)c->shape.kv_heads, n = matrices * (size_t)measured->columns;
    vlcache_status status = vlci_fill(c->t->device, measured->energy, 0, n * sizeof(float), 0xffffffffu);
    if (!status) status = vlci_coding_measure(c->coding, &c->heads);
    for (size_t i = 0; i < 4 && !status; i++) {
        matrix m = {0};
        status = take_matrix(c, i < 2 ? i : matrices - i + 1, &m);
        if (!status) *error = trial_worse(check_measured(c, &m), *error);
        release_matrix(&m);
    }
    return status;
}

/* Some numbers of a matrix. A code at an end of its range stands for all beyond it, too. */
static vlcache_status check_codes(const trial_coding *c, const vlci_code_matrix *of, const uint32_t *words,
                                  const matrix *m, double *error) {
    const vlci_codes *codes = c->coding->codes;
    size_t dim = dim_of(c), dims = (size_t)VLCI_CODE_DIMS(of->widths);
    vlcache_status status = VLCACHE_OK;
    if (!dims) *error = NAN; /* nothing is coded */
    for (size_t s = 0; s < SAMPLES && dims && !status; s++) {
        size_t i = trial_sample(s, SAMPLES, dims),
               j = trial_sample(s * 7 % SAMPLES, SAMPLES, (size_t)(c->tokens - c->texts)), at = of->dim + i;
        int8_t kept[VLCI_CODE_DIM_MAX];
        float factor = 0;
        double dot = 0, squares = 1e-30;
        status = vlci_read(c->t->device, codes->basis, at * dim, kept, dim);
        if (!status)
            status = vlci_read(c->t->device, codes->factor, at * sizeof factor, &factor, sizeof factor);
        for (size_t d = 0; d < dim; d++) {
            dot += (double)m->basis[i * dim + d] * kept[d];
            squares += (double)kept[d] * kept[d];
        }
        int bits, code = code_at(of, words, i, j, &bits), most = 1 << (bits - 1);
        double step = (double)factor * squares / dot; /* the vector is `kept` times dot / squares */
        double level = along(m, dim, j, m->basis + i * dim) / step, off = fabs(level - code - 0.5);
        if ((code == -most && level < code) || (code == most - 1 && level > code)) off = 0;
        *error = trial_worse(off, *error);
    }
    return status;
}

/* Bases as they are kept, then codes: a second time alone would multiply factors by steps once more. */
static vlcache_status launch_write(void *work) {
    const trial_coding *c = work;
    vlcache_status status =
        vlci_code_round(&c->kernels.code, &c->heads, &c->coding->measured, c->coding->codes);
    return status ? status : vlci_coding_write(c->coding, &c->heads);
}

static vlcache_status check_write(void *work, double *error) {
    trial_coding *c = work;
    const vlci_codes *codes = c->coding->codes;
    size_t matrices = 2 * (size_t)c->shape.kv_heads, n = codes->n_words;
    vlci_code_matrix *of = memory_take(matrices, sizeof *of);
    uint32_t *words = memory_take(n + 1, sizeof *words);
    vlcache_status status = vlci_fill(c->t->device, codes->words, 0, n * sizeof *words, 0x5a5a5a5au);
    if (!status) status = launch_write(c);
    if (!status) status = vlci_read(c->t->device, codes->words, 0, words, n * sizeof *words);
    if (!status) status = vlci_read(c->t->device, codes->matrix, 0, of, matrices * sizeof *of);
    for (size_t i = 0; i < 4 && !status; i++) {
        size_t at = i < 2 ? i : matrices - i + 1;
        matrix m = {0};
        status = take_matrix(c, at, &m);
        if (!status) status = check_codes(c, &of[at], words, &m, error);
        release_matrix(&m);
    }
    free(of);
    free(words);
    return status;
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

static vlcache_status make(void *work) {
    return trial_coding_make(work);
}

static vlcache_status open_both(void *work) {
    return trial_coding_open(work);
}

static void close_both(void *work) {
    trial_coding_close(work);
}

static vlcache_status launch_measure(void *work) {
    const trial_coding *c = work;
    return vlci_coding_measure(c->coding, &c->heads);
}

static vlcache_status try_prompt(trials *t, int tokens) {
    bool quick = t->b->options.quick;
    trial_coding c = {.t = t, .tokens = tokens, .texts = quick ? 20 : 48};
    c.shape = (vlci_compress_shape){.layers = 1,
                                    .heads = quick ? 4 : 32,
                                    .kv_heads = quick ? 2 : 8,
                                    .head_dim = quick ? 64 : 128,
                                    .kv_dtype = t->dtype};
    char name[2][64];
    double bytes = 2.0 * c.shape.kv_heads * c.shape.head_dim * tokens * (double)vlci_dtype_bytes(t->dtype);
    trial_case cases[] = {
        {.what = {.tolerance = TOLERANCE_MEASURE}, .check = check_measure, .launch = launch_measure},
        {.what = {.tolerance = TOLERANCE_WRITE}, .check = check_write, .launch = launch_write}};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        snprintf(name[i], sizeof name[i], "%s %d rows in %d heads of %d", i ? "codes of" : "bases of", tokens,
                 c.shape.kv_heads, c.shape.head_dim);
        cases[i].what.kernel = "code";
        cases[i].what.shape = name[i];
        cases[i].what.bytes = true;
        cases[i].what.amount = bytes;
        cases[i].work = &c;
        cases[i].make = make;
        cases[i].open = open_both;
        cases[i].close = close_both;
        status = trial_ladder(t, &vlci_code_ladder, &cases[i]);
        trial_coding_release(&c);
    }
    return status;
}

vlcache_status coding_trials(trials *t) {
    if (t->b->options.quick) return try_prompt(t, 150);
    vlcache_status status = try_prompt(t, 2048);
    return status ? status : try_prompt(t, 8192);
}
