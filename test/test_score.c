/*
 * test_score.c - scores and insignificant entries of the score pass against attention written out in double:
 * every rung, every choice of rows, a prompt at once and in parts, several layers in one object, a second
 * turn, rows decoded after the prompt.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/score.h"
#include "ref/ref_compress.h"
#include "support/pages.h"

enum { LAYERS = 2, DECODED = 2, LEAD = 3 /* rows of others in front of a part's in its walk */ };
enum { WHOLE = 1 << 30, ALL = -1 };
static const double threshold = 0.01;

static bool prefix;  /* rows of the prompt see all of it */
static int q_at = 5; /* first element of q */

/* Rows that are looked at besides the last ones. */
typedef enum gaps { NO_GAPS, FIRST_ROW, RUNS, ODD_ROWS } gaps;

typedef struct shape {
    int heads, kv_heads, head_dim;
    int tokens, scored, counted; /* the last of the tokens */
    int past; /* head h of layer l holds past + 3 l + h rows before the prompt, when past is not 0 */
    vlcache_dtype dtype;
    float amplitude;
    gaps gaps;
    float cap; /* of logits */
} shape;

static int flags_of(const shape *s, int row) {
    bool scored = row >= s->tokens - s->scored, counted = row >= s->tokens - s->counted;
    switch (s->gaps) {
    case NO_GAPS:
        break;
    case FIRST_ROW:
        scored |= row == 0;
        counted |= row == 0;
        break;
    case RUNS: /* now this, now that, now both */
        scored |= row % 37 < 23;
        counted |= row % 29 < 11;
        break;
    case ODD_ROWS:
        scored |= row % 2 == 1;
        counted |= row % 2 == 1;
        break;
    }
    return (scored ? VLCI_ROW_SCORED : 0) | (counted ? VLCI_ROW_COUNTED : 0);
}

/* ---- a scene: queries and keys of all rows, and what the oracle sees in them --------------------------- */

typedef struct scene {
    const shape *s;
    int before[LAYERS * 8];
    float *q[LAYERS];                 /* [tokens + DECODED][heads][dim] */
    float *k[LAYERS][8];              /* [before + tokens + DECODED][dim], as they are stored */
    float *max[LAYERS], *lse[LAYERS]; /* [tokens + DECODED][heads]; NaN: rows that nobody may look at */
    double *logit;
} scene;

/* `near`: entries too near the threshold to tell. */
typedef struct seen {
    double *score; /* [kv_heads][tokens] */
    uint64_t counts[64], near[64];
} seen;

static float *random_floats(size_t n, float amplitude, uint64_t *seed) {
    float *out = malloc((n + 1) * sizeof *out);
    for (size_t i = 0; i < n; i++) out[i] = amplitude * suite_random(seed);
    return out;
}

static scene make_scene(const shape *s) {
    scene c = {.s = s};
    uint64_t seed = 7;
    size_t rows = (size_t)(s->tokens + DECODED), heads = (size_t)s->heads, dim = (size_t)s->head_dim;
    for (int l = 0; l < LAYERS; l++) {
        for (int kv = 0; kv < s->kv_heads; kv++) {
            int before = s->past ? s->past + 3 * l + kv : 0;
            size_t n = ((size_t)before + rows) * dim;
            c.before[l * s->kv_heads + kv] = before;
            c.k[l][kv] = random_floats(n, 1.0f, &seed);
            free(suite_store(c.k[l][kv], n, s->dtype));
        }
        c.q[l] = random_floats(rows * heads * dim, s->amplitude, &seed);
        free(suite_store(c.q[l], rows * heads * dim,
                         s->dtype)); /* matrix units round queries to the keys' dtype */
        c.max[l] = malloc(rows * heads * sizeof(float));
        c.lse[l] = malloc(rows * heads * sizeof(float));
        for (size_t i = 0; i < rows * heads; i++) c.max[l][i] = c.lse[l][i] = NAN;
    }
    c.logit = malloc((size_t)(s->past + 99 + s->tokens + DECODED) * sizeof *c.logit);
    return c;
}

static void release_scene(scene *c) {
    for (int l = 0; l < LAYERS; l++) {
        for (int kv = 0; kv < c->s->kv_heads; kv++) free(c->k[l][kv]);
        free(c->q[l]);
        free(c->max[l]);
        free(c->lse[l]);
    }
    free(c->logit);
}

/* Row `row` of one head, from the prompt's first on; rows behind the prompt were decoded. */
static void see_row(scene *c, int layer, int h, int row, int flags, double weight, seen *out) {
    const shape *s = c->s;
    int kv = h / (s->heads / s->kv_heads), before = c->before[layer * s->kv_heads + kv];
    int visible = before + (prefix && row < s->tokens ? s->tokens : row + 1), at = row * s->heads + h;
    double max, lse;
    ref_logits(c->q[layer] + (size_t)at * (size_t)s->head_dim, c->k[layer][kv], (size_t)s->head_dim, visible,
               s->head_dim, 1.0 / sqrt(s->head_dim), c->logit);
    for (int j = 0; j < visible && s->cap > 0; j++)
        c->logit[j] = (double)s->cap * tanh(c->logit[j] / (double)s->cap);
    ref_row(c->logit, visible, &max, &lse);
    c->max[layer][at] = (float)max;
    c->lse[layer][at] = (float)lse;
    for (int j = 0; j < s->tokens && before + j < visible; j++) {
        double margin = c->logit[before + j] - max - log(threshold);
        if (flags & VLCI_ROW_COUNTED) out->counts[h] += margin < 0.0;
        if (flags & VLCI_ROW_COUNTED) out->near[h] += fabs(margin) < 1e-4;
        if (flags & VLCI_ROW_SCORED)
            out->score[kv * s->tokens + j] += weight * exp(c->logit[before + j] - lse);
    }
}

static void see(scene *c, int layer, int from, int n, double weight, seen *out) {
    for (int row = from; row < from + n; row++) {
        int flags = row < c->s->tokens ? flags_of(c->s, row) : VLCI_ROW_SCORED;
        for (int h = 0; h < c->s->heads && flags; h++) see_row(c, layer, h, row, flags, weight, out);
    }
}

static seen nothing_seen(const shape *s) {
    return (seen){.score = calloc((size_t)(s->kv_heads * s->tokens), sizeof(double))};
}

/* ---- the library --------------------------------------------------------------------------------------- */

static vlci_score_kernels kernels; /* of the last vlci_scores that was made */

/* `behind`: decoded rows that may be held; below 0: layers are looked at one by one. */
static vlci_scores *make_scores_for(const scene *c, bool first_turn, int behind) {
    const shape *s = c->s;
    vlci_compress_shape attended = {LAYERS, s->heads, s->kv_heads, s->head_dim, s->dtype, s->cap};
    vlci_compress_prompt prompt = {
        .tokens = s->tokens, .past = first_turn ? NULL : c->before, .together = behind >= 0};
    vlci_rows rows = {0, calloc((size_t)s->tokens, sizeof *rows.entry)};
    vlci_scores *scores = NULL;
    for (int row = 0; row < s->tokens; row++)
        if (flags_of(s, row)) rows.entry[rows.n++] = VLCI_ROW(row, flags_of(s, row));
    ck_ok(vlci_score_open(suite_device(), &attended, &kernels));
    ck_ok(vlci_scores_create(suite_device(), &kernels, &attended, &prompt, &rows, VLCI_ROW_SCORED,
                             behind < 0 ? 0 : behind, threshold, &scores));
    vlci_rows_release(&rows);
    return scores;
}

static vlci_scores *make_scores(const scene *c, bool first_turn) {
    return make_scores_for(c, first_turn, -1);
}

/* Numbers of pages behind a list's last one are nobody's: a kernel that follows one is lost. */
static void fill_table(pages *p) {
    for (int i = 0; i < p->n * p->pool.shape.layers * p->pool.shape.kv_heads; i++) {
        const vlci_kv_list *list =
            &p->kv[i / (LAYERS * p->pool.shape.kv_heads)].list[i % (LAYERS * p->pool.shape.kv_heads)];
        for (int at = list->pages; at < (list->size ? 1 << list->size : 0); at++)
            vlci_kv_table_set(&p->pool.table, list->first + at, INT32_MAX / 2);
    }
    ck_ok(vlci_kv_pool_sync(&p->pool));
}

/* The second of two sequences, one layer of which, or each (ALL), holds the rows up to `until`. */
static pages *make_pages(const scene *c, int layer, int until) {
    const shape *s = c->s;
    vlci_kv_shape kv = {LAYERS, s->kv_heads, s->head_dim, s->dtype};
    int rows[2 * LAYERS * 8], lists = 2 * LAYERS * s->kv_heads, mine = LAYERS * s->kv_heads;
    int first = layer == ALL ? 0 : layer * s->kv_heads, end = layer == ALL ? mine : first + s->kv_heads;
    for (int i = 0; i < lists; i++) rows[i] = i % 3;
    for (int h = first; h < end; h++) rows[mine + h] = c->before[h] + until;
    float *k = calloc(pages_first(rows, lists) * (size_t)s->head_dim + 1, sizeof *k);
    for (int h = first; h < end; h++)
        memcpy(k + pages_first(rows, mine + h) * (size_t)s->head_dim, c->k[h / s->kv_heads][h % s->kv_heads],
               (size_t)(rows[mine + h] * s->head_dim) * sizeof *k);
    pages *p = pages_create(&kv, 2, &(pages_rows){.rows = rows, .k = k}, 0);
    fill_table(p);
    free(k);
    return p;
}

/* n rows of `width` floats from row `from` on, behind `lead` floats of others. */
static cl_mem upload_rows(const float *data, int from, int n, int width, int lead) {
    size_t bytes = (size_t)(lead + n * width) * sizeof(float);
    float *all = malloc(bytes);
    for (int i = 0; i < lead; i++) all[i] = NAN;
    memcpy(all + lead, data + (size_t)from * (size_t)width, (size_t)(n * width) * sizeof(float));
    cl_mem out = suite_upload(all, bytes);
    free(all);
    return out;
}

/* Shows rows from .. from + n - 1 of a layer; the oracle has seen them already. */
static void show(const scene *c, vlci_scores *scores, int layer, int from, int n, double weight) {
    const shape *s = c->s;
    int width = s->heads * s->head_dim;
    pages *p = make_pages(c, layer, from + n);
    vlci_attention a = {.batch = 2,
                        .causal = !prefix,
                        .scale = (float)(1.0 / sqrt(s->head_dim)),
                        .kv = pages_view(p, layer),
                        .q_offset = q_at,
                        .q_stride = (size_t)width,
                        .max_rows = n};
    a.q = upload_rows(c->q[layer], from, n, width, q_at + LEAD * width);
    a.row_max = upload_rows(c->max[layer], from, n, s->heads, LEAD * s->heads);
    a.row_lse = upload_rows(c->lse[layer], from, n, s->heads, LEAD * s->heads);
    vlci_look look = {&a, vlci_kv_heads_at(&p->kv[1], layer), LEAD, from, n, NULL};
    if (from >= s->tokens) {
        look.from = 0;
        ck_ok(vlci_scores_observe_decode(scores, layer, &look, weight, true));
    } else
        ck_ok(vlci_scores_observe(scores, layer, &look));
    suite_release(a.q);
    suite_release(a.row_max);
    suite_release(a.row_lse);
    pages_destroy(p);
}

/* The prompt, in parts of so many rows. */
static void show_parts(const scene *c, vlci_scores *scores, int layer, int part) {
    for (int from = 0; from < c->s->tokens; from += part)
        show(c, scores, layer, from, part < c->s->tokens - from ? part : c->s->tokens - from, 1.0);
}

static void compare(const shape *s, const vlci_scores *scores, int layer, const seen *want) {
    size_t n = (size_t)(s->kv_heads * s->tokens);
    float *got = malloc(n * sizeof *got);
    uint64_t counts[64] = {0};
    ck_ok(vlci_read(suite_device(), scores->score, (size_t)layer * n * sizeof *got, got, n * sizeof *got));
    suite_close("score", got, want->score, n, 1e-7, 1e-4);
    if (scores->counts) ck_ok(vlci_scores_counts(scores, layer, 1, counts));
    for (int h = 0; h < s->heads; h++) {
        int64_t off = (int64_t)counts[h] - (int64_t)want->counts[h];
        ck_assert_msg(llabs(off) <= (int64_t)want->near[h],
                      "layer %d head %d: %lld entries off, %llu near the threshold", layer, h, (long long)off,
                      (unsigned long long)want->near[h]);
    }
    free(got);
}

static bool anything_to_see(const shape *s) {
    for (int row = 0; row < s->tokens; row++)
        if (flags_of(s, row)) return true;
    return false;
}

/* Layers from the last to the first, so that each finds its own place; then rows after the prompt, which add
 * to its scores. */
static void try_shape(shape s, int part) {
    seen want[LAYERS];
    scene c = make_scene(&s);
    vlci_scores *scores = make_scores(&c, false);
    ck_assert(anything_to_see(&s));
    for (int l = LAYERS - 1; l >= 0; l--) {
        want[l] = nothing_seen(&s);
        see(&c, l, 0, s.tokens, 1.0, &want[l]);
        show_parts(&c, scores, l, part);
    }
    for (int l = 0; l < LAYERS; l++) compare(&s, scores, l, &want[l]);
    for (int row = s.tokens; row < s.tokens + DECODED && part == WHOLE; row++)
        for (int l = 0; l < LAYERS; l++) {
            see(&c, l, row, 1, 4.0, &want[l]);
            show(&c, scores, l, row, 1, 4.0);
            compare(&s, scores, l, &want[l]);
        }
    for (int l = 0; l < LAYERS; l++) free(want[l].score);
    vlci_scores_release(&scores);
    release_scene(&c);
}

static void settle(const scene *c, vlci_scores *scores) {
    pages *p = make_pages(c, ALL, c->s->tokens);
    const vlci_kv_view kv = pages_view(p, 0);
    ck_ok(vlci_scores_settle(scores, &kv, vlci_kv_heads_at(&p->kv[1], 0)));
    pages_destroy(p);
}

static void compare_bits(const shape *s, const vlci_scores *a, const vlci_scores *b) {
    size_t bytes = (size_t)(LAYERS * s->kv_heads * s->tokens) * sizeof(float);
    float *of[2] = {malloc(bytes), malloc(bytes)};
    ck_ok(vlci_read(suite_device(), a->score, 0, of[0], bytes));
    ck_ok(vlci_read(suite_device(), b->score, 0, of[1], bytes));
    ck_assert_mem_eq(of[0], of[1], bytes);
    free(of[0]);
    free(of[1]);
}

/* All layers at once: the same scores, to the last bit, as layer by layer; then decoded rows, of which
 * `behind` are held with the prompt's, and others come once those have settled. */
static void try_together(shape s, int part, int behind) {
    seen want[LAYERS];
    scene c = make_scene(&s);
    vlci_scores *held = make_scores_for(&c, false, behind), *direct = make_scores(&c, false);
    for (int l = 0; l < LAYERS; l++) {
        want[l] = nothing_seen(&s);
        see(&c, l, 0, s.tokens, 1.0, &want[l]);
        show_parts(&c, held, l, part);
        if (held->looks.room) show_parts(&c, direct, l, part);
    }
    for (int row = s.tokens; row < s.tokens + DECODED && held->looks.room; row++) {
        if (row == s.tokens + behind) {
            settle(&c, held);
            if (!behind && part == WHOLE) compare_bits(&s, held, direct);
        }
        for (int l = 0; l < LAYERS; l++) {
            see(&c, l, row, 1, 4.0, &want[l]);
            show(&c, held, l, row, 1, 4.0);
        }
    }
    if (held->looks.room) settle(&c, held);
    for (int l = 0; l < LAYERS; l++) {
        if (held->looks.room) compare(&s, held, l, &want[l]);
        free(want[l].score);
    }
    vlci_scores_release(&held);
    vlci_scores_release(&direct);
    release_scene(&c);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

#define F32  VLCACHE_DTYPE_F32
#define F16  VLCACHE_DTYPE_F16
#define BF16 VLCACHE_DTYPE_BF16
static const shape shapes[] = {
    {2, 2, 16, 100, 9, 9, 0, F32, 8.0f, NO_GAPS, 0},
    {2, 2, 16, 70, 20, 20, 0, F32, 8.0f, NO_GAPS, 0},
    {8, 2, 64, 150, 17, 17, 0, BF16, 6.0f, NO_GAPS, 0}, /* GQA */
    {8, 2, 64, 33, 3, 3, 0, BF16, 6.0f, NO_GAPS, 0},
    {4, 1, 80, 65, 5, 5, 0, F16, 6.0f, NO_GAPS, 0}, /* MQA, odd head_dim */
    {4, 1, 80, 129, 1, 1, 0, F16, 6.0f, NO_GAPS, 0},
    {2, 2, 32, 70, 70, 70, 0, F32, 6.0f, NO_GAPS, 0}, /* tau = N */
    {2, 2, 32, 9, 9, 9, 0, F32, 6.0f, NO_GAPS, 0},
    {4, 2, 24, 20, 20, 20, 0, F32, 6.0f, NO_GAPS, 0},
    {4, 2, 24, 1, 1, 1, 0, F32, 6.0f, NO_GAPS, 0},    /* N = 1 */
    {4, 2, 16, 90, 8, 8, 11, BF16, 6.0f, NO_GAPS, 0}, /* a second turn */
    {4, 2, 16, 40, 6, 6, 11, BF16, 6.0f, NO_GAPS, 0},
    {4, 2, 16, 300, 300, 7, 0, F32, 6.0f, NO_GAPS, 0}, /* all rows, in blocks */
    {4, 2, 16, 257, 257, 0, 0, F32, 6.0f, NO_GAPS, 0},
    {4, 2, 16, 300, 300, 7, 11, F32, 6.0f, NO_GAPS, 0}, /* the same in a second turn */
    {4, 2, 16, 40, 40, 5, 11, F32, 6.0f, NO_GAPS, 0},
    {2, 1, 32, 200, 8, 30, 0, F32, 6.0f, NO_GAPS, 0}, /* fewer scored than counted */
    {2, 1, 32, 90, 8, 90, 0, F32, 6.0f, NO_GAPS, 0},
    {2, 1, 32, 200, 32, 0, 0, F32, 6.0f, NO_GAPS, 0}, /* nothing counted */
    {2, 1, 32, 90, 1, 0, 0, F32, 6.0f, NO_GAPS, 0},
    {2, 1, 32, 90, 0, 9, 0, F32, 6.0f, NO_GAPS, 0},   /* nothing scored */
    {2, 1, 16, 90, 8, 8, 0, F32, 0.0f, NO_GAPS, 0},   /* all equal */
    {2, 1, 16, 90, 8, 8, 0, F32, 200.0f, NO_GAPS, 0}, /* one spike a row */
    {4, 2, 16, 90, 9, 9, 0, F32, 6.0f, RUNS, 0},
    {4, 2, 16, 70, 4, 4, 0, F32, 6.0f, FIRST_ROW, 0},
    {4, 2, 24, 75, 0, 0, 0, BF16, 6.0f, FIRST_ROW, 0}, /* first row alone */
    {4, 2, 24, 100, 7, 7, 0, BF16, 6.0f, RUNS, 0},
    {8, 2, 32, 130, 3, 0, 11, F16, 6.0f, ODD_ROWS, 0}, /* a second turn */
    {8, 2, 32, 9, 9, 9, 11, F16, 6.0f, NO_GAPS, 0},
    {2, 1, 80, 500, 5, 9, 0, F32, 6.0f, RUNS, 0}, /* in blocks */
    {2, 1, 80, 430, 0, 0, 0, F32, 6.0f, ODD_ROWS, 0},
    {2, 2, 16, 430, 430, 0, 0, F32, 6.0f, RUNS, 0}, /* all rows, and two */
    {2, 2, 16, 300, 1, 1, 0, F32, 6.0f, FIRST_ROW, 0},
    {2, 1, 128, 97, 13, 13, 16, BF16, 6.0f, ODD_ROWS, 0}, /* earlier rows fill a page */
    {4, 2, 24, 20, 7, 9, 5, F32, 30.0f, NO_GAPS, 3.0f},   /* capped */
    {8, 2, 64, 130, 9, 9, 0, BF16, 30.0f, RUNS, 5.0f},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* A simulator gets every kind of shape, but no long one, and each rung by name alone. */
static bool too_long(const shape *s) {
    return suite_reduced() && (s->tokens * s->heads * s->head_dim > 2600 || s->scored > 20);
}

START_TEST(test_shapes) {
    if (!suite_reduced()) try_shape(shapes[_i], WHOLE);
}
END_TEST

static const char *const rungs[] = {"score:tile", "score:wide"};

START_TEST(test_rungs) {
    for (size_t i = 0; i < 2 && !too_long(&shapes[_i]); i++) {
        suite_force(rungs[i]);
        try_shape(shapes[_i], WHOLE);
    }
    suite_force(NULL);
}
END_TEST

/* By the rung of this device, and by the others. */
START_TEST(test_together) {
    prefix = _i % 5 == 4;
    for (int i = -1; i < 2 && !too_long(&shapes[_i]); i++) {
        if (i >= 0) suite_force(rungs[i]);
        try_together(shapes[_i], WHOLE, suite_reduced() ? _i % 3 : 0);
        for (int behind = 1; behind <= DECODED && !suite_reduced(); behind++)
            try_together(shapes[_i], behind == 1 || prefix ? WHOLE : 37, behind);
        suite_force(NULL);
    }
    prefix = false;
}
END_TEST

/* Not where rows are more than a block, or their queries a large share of what they look at. */
START_TEST(test_not_together) {
    static const struct {
        int tokens, scored, behind;
        bool held;
    } tries[] = {{4000, 127, 0, true}, {4000, 124, 3, true}, {4000, 127, 1, false}, {4000, 128, 0, false},
                 {64, 7, 0, true},     {64, 6, 1, true},     {63, 7, 0, false},     {64, 8, 0, false}};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        const shape s = {2, 1, 16, tries[i].tokens, tries[i].scored, 0, 0, F16, 1.0f, NO_GAPS, 0};
        scene c = {.s = &s};
        vlci_scores *scores = make_scores_for(&c, true, tries[i].behind);
        ck_assert_msg((scores->looks.room > 0) == tries[i].held, "case %zu", i);
        ck_assert(vlci_scores_holds(scores, false) == tries[i].held);
        ck_assert(vlci_scores_holds(scores, true) == (tries[i].held && tries[i].behind));
        vlci_scores_release(&scores);
    }
}
END_TEST

/* As PaliGemma's prompts are; by each rung. */
START_TEST(test_prefixes) {
    prefix = true;
    for (size_t i = 0; i < 2 && !too_long(&shapes[_i]) && (_i % 8 == 0 || !suite_reduced()); i++) {
        suite_force(rungs[i]);
        try_shape(shapes[_i], WHOLE);
    }
    suite_force(NULL);
    prefix = false;
}
END_TEST

/* Parts that end inside a tile and a page, at their ends, one by one; some see none of the listed rows. What
 * lies behind the rows that are there is not looked for. */
START_TEST(test_parts) {
    static const int parts[] = {37, 64, 1};
    for (size_t i = 0; i < 2 && !too_long(&shapes[_i]) && (_i % 3 == 2 || !suite_reduced()); i++)
        for (int k = 0; k < (suite_reduced() ? 1 : 3); k++) {
            if (parts[k] == 1 && shapes[_i].tokens > 40) continue;
            suite_force(rungs[i]);
            try_shape(shapes[_i], parts[k]);
        }
    suite_force(NULL);
}
END_TEST

/* Rows of which none is counted, more than a block, in front of some that are; q lies as fast kernels want
 * it. */
static const shape many[] = {
    {8, 2, 64, 700, 700, 7, 0, BF16, 6.0f, NO_GAPS, 0},
    {4, 1, 80, 530, 530, 0, 11, F16, 6.0f, NO_GAPS, 0},
    {8, 2, 128, 300, 300, 5, 16, BF16, 6.0f, NO_GAPS, 0},
    {14, 2, 96, 400, 390, 3, 5, BF16, 6.0f, NO_GAPS, 0},
    {2, 2, 64, 1300, 1100, 0, 0, F16, 6.0f, NO_GAPS, 0},
    {6, 2, 128, 513, 512, 1, 0, BF16, 30.0f, NO_GAPS, 0},
    {4, 2, 48, 300, 300, 5, 0, BF16, 6.0f, NO_GAPS, 0},
    {4, 1, 64, 257, 257, 0, 0, BF16, 0.0f, NO_GAPS, 0},
};
enum { MANY = sizeof many / sizeof *many };

START_TEST(test_many) {
    static const char *const by[] = {NULL, "score:mma"};
    if (suite_reduced()) return;
    q_at = 8;
    for (int i = 0; i < (suite_device()->caps.mma ? 2 : 1); i++) {
        suite_force(by[i]);
        try_shape(many[_i], WHOLE);
        bool own = !i && suite_device()->caps.wgmma && many[_i].head_dim != 48;
        ck_assert_int_eq(kernels.many.kernel != NULL, own); /* of the last one */
        try_shape(many[_i], 290);
        prefix = true;
        try_shape(many[_i], WHOLE);
        prefix = false;
    }
    suite_force(NULL);
    q_at = 5;
}
END_TEST

static shape shape_of_runs(void) {
    shape s = shapes[23];
    if (suite_reduced()) s.tokens = 50;
    return s;
}

/* The same counts, to the last one, whatever the parts are. */
START_TEST(test_counts_of_parts) {
    if (suite_reduced()) return;
    shape s = shape_of_runs();
    seen nothing = nothing_seen(&s);
    scene c = make_scene(&s);
    uint64_t counts[2][LAYERS * 4];
    for (int l = 0; l < LAYERS; l++) see(&c, l, 0, s.tokens, 1.0, &nothing);
    for (int i = 0; i < 2; i++) {
        vlci_scores *scores = make_scores(&c, true);
        for (int l = 0; l < LAYERS; l++) show_parts(&c, scores, l, i ? 17 : WHOLE);
        ck_ok(vlci_scores_counts(scores, 0, LAYERS, counts[i]));
        vlci_scores_release(&scores);
    }
    for (int h = 0; h < LAYERS * s.heads; h++) ck_assert_uint_eq(counts[0][h], counts[1][h]);
    free(nothing.score);
    release_scene(&c);
}
END_TEST

START_TEST(test_refused) {
    shape s = shapes[0];
    scene c = make_scene(&s);
    suite_force("score:ladder");
    vlci_score_kernels none;
    vlci_compress_shape attended = {LAYERS, s.heads, s.kv_heads, s.head_dim, s.dtype, 0};
    ck_fails(vlci_score_open(suite_device(), &attended, &none), VLCACHE_E_ARGUMENT, "ladder");
    suite_force(NULL);
    vlci_scores *scores = make_scores(&c, true);
    pages *p = make_pages(&c, 0, s.tokens);
    vlci_attention a = {.kv = pages_view(p, 0), .q = p->slots};
    vlci_look look = {&a, 0, 0, 0, s.tokens, NULL};
    ck_fails(vlci_scores_observe(scores, 0, &look), VLCACHE_E_INTERNAL, "row_max and row_lse are needed");
    a.row_max = a.row_lse = p->slots;
    ck_fails(vlci_scores_observe(scores, LAYERS, &look), VLCACHE_E_INTERNAL, "differ in shape");
    a.kv.dtype = VLCACHE_DTYPE_BF16;
    ck_fails(vlci_scores_observe(scores, 0, &look), VLCACHE_E_INTERNAL, "differ in shape");
    pages_destroy(p);
    vlci_scores_release(&scores);
    ck_assert_ptr_null(scores);
    release_scene(&c);
}
END_TEST

static seen copy_seen(const shape *s, const seen *from) {
    seen out = *from;
    size_t bytes = (size_t)(s->kv_heads * s->tokens) * sizeof(double);
    out.score = memcpy(malloc(bytes), from->score, bytes);
    return out;
}

/* A copy holds what was seen, half a prompt too, and what it sees later is its own. */
START_TEST(test_copy) {
    shape s = suite_reduced() ? shape_of_runs() : shapes[14];
    int half = s.tokens / 2;
    seen want[LAYERS], more[LAYERS];
    scene c = make_scene(&s);
    vlci_scores *first = make_scores(&c, false), *copy = NULL;
    for (int l = 0; l < LAYERS; l++) {
        want[l] = nothing_seen(&s);
        see(&c, l, 0, half, 1.0, &want[l]);
        if (l == 0) show(&c, first, l, 0, half, 1.0);
    }
    ck_ok(vlci_scores_copy(first, &copy));
    compare(&s, copy, 0, &want[0]);
    for (int l = 0; l < LAYERS; l++) more[l] = copy_seen(&s, &want[l]);
    for (int l = 0; l < LAYERS; l++) {
        see(&c, l, half, s.tokens - half, 1.0, &more[l]);
        if (l) show(&c, copy, l, 0, half, 1.0);
        show(&c, copy, l, half, s.tokens - half, 1.0);
        see(&c, l, s.tokens, 1, 2.0, &more[l]);
        show(&c, copy, l, s.tokens, 1, 2.0);
        compare(&s, copy, l, &more[l]);
    }
    compare(&s, first, 0, &want[0]);
    vlci_scores_release(&first);
    compare(&s, copy, 1, &more[1]);
    for (int l = 0; l < LAYERS; l++) {
        free(want[l].score);
        free(more[l].score);
    }
    vlci_scores_release(&copy);
    release_scene(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("score");
    TCase *all = tcase_create("score");
    tcase_add_loop_test(all, test_shapes, 0, SHAPES);
    tcase_add_loop_test(all, test_rungs, 0, SHAPES);
    tcase_add_loop_test(all, test_together, 0, SHAPES);
    tcase_add_test(all, test_not_together);
    tcase_add_loop_test(all, test_prefixes, 0, SHAPES);
    tcase_add_loop_test(all, test_parts, 0, SHAPES);
    tcase_add_loop_test(all, test_many, 0, MANY);
    tcase_add_test(all, test_counts_of_parts);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_copy);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
