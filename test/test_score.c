/*
 * test_score.c - scores and insignificant entries of the score pass against attention written out in double:
 * every rung, every choice of rows, a second turn, rows decoded after the prompt.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { BATCH = 2 };
static const double threshold = 0.01;

/* Rows that are looked at besides the last ones. */
typedef enum gaps { NO_GAPS, FIRST_ROW, RUNS, ODD_ROWS } gaps;

typedef struct shape {
    int heads, kv_heads, head_dim;
    int tokens[BATCH], scored[BATCH], counted[BATCH]; /* the last of the tokens */
    int past; /* head h of sequence b holds past + b + h rows before the prompt, when past is not 0 */
    vlcache_dtype dtype;
    float amplitude;
    gaps gaps[BATCH];
} shape;

static int flags_of(const shape *s, int b, int row) {
    bool scored = row >= s->tokens[b] - s->scored[b], counted = row >= s->tokens[b] - s->counted[b];
    switch (s->gaps[b]) {
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

static vlci_rows list_rows(const shape *s) {
    size_t most = (size_t)(s->tokens[0] + s->tokens[1]);
    vlci_rows rows = {calloc(BATCH + 1, sizeof *rows.start), calloc(most, sizeof *rows.entry)};
    for (int b = 0, n = 0; b < BATCH; b++) {
        for (int row = 0; row < s->tokens[b]; row++)
            if (flags_of(s, b, row)) rows.entry[n++] = VLCI_ROW(row, flags_of(s, b, row));
        rows.start[b + 1] = n;
    }
    return rows;
}

static vlci_scores *make_scores(const shape *s, const int32_t *before) {
    vlci_compress_shape attended = {1, BATCH, s->heads, s->kv_heads, s->head_dim, s->dtype};
    vlci_compress_prompt prompt = {.tokens = s->tokens, .past = before};
    vlci_rows rows = list_rows(s);
    vlci_scores *scores = NULL;
    ck_ok(vlci_scores_create(suite_device(), &attended, &prompt, &rows, threshold, &scores));
    free(rows.start);
    free(rows.entry);
    return scores;
}

/* Rows of a walk over a cache: the prompt, or one decoded token after `decoded` others. */
typedef struct walk {
    const shape *s;
    float *q, *k, *max, *lse; /* q: [rows][heads * dim] from element 5; k from element 3 */
    int start[BATCH + 1], before[BATCH * 8], past[BATCH * 8], capacity, rows;
    bool decode;
} walk;

static int longest(const shape *s) {
    return s->tokens[0] > s->tokens[1] ? s->tokens[0] : s->tokens[1];
}

static void fill(walk *w, const shape *s, int decoded, uint64_t seed) {
    *w = (walk){.s = s, .decode = decoded > 0};
    for (int b = 0; b < BATCH; b++) w->start[b + 1] = w->start[b] + (decoded ? 1 : s->tokens[b]);
    w->rows = w->start[BATCH];
    for (int i = 0; i < BATCH * s->kv_heads; i++) {
        w->before[i] = s->past ? s->past + i : 0;
        w->past[i] = w->before[i] + (decoded ? s->tokens[i / s->kv_heads] + decoded - 1 : 0);
    }
    w->capacity = longest(s) + s->past + BATCH * s->kv_heads + 4;
    size_t nq = (size_t)w->rows * (size_t)(s->heads * s->head_dim) + 5;
    size_t nk = (size_t)(BATCH * s->kv_heads * w->capacity * s->head_dim) + 3;
    size_t nr = (size_t)(w->rows * s->heads);
    w->q = malloc(nq * sizeof *w->q);
    w->k = malloc(nk * sizeof *w->k);
    w->max = malloc(nr * sizeof *w->max);
    w->lse = malloc(nr * sizeof *w->lse);
    for (size_t i = 0; i < nk; i++) w->k[i] = suite_random(&seed);
    seed += (uint64_t)decoded;
    for (size_t i = 0; i < nq; i++) w->q[i] = s->amplitude * suite_random(&seed);
    for (size_t i = 0; i < nr; i++) w->max[i] = w->lse[i] = NAN; /* rows that nobody may look at */
}

static void release(walk *w) {
    float *all[] = {w->q, w->k, w->max, w->lse};
    for (size_t i = 0; i < 4; i++) free(all[i]);
}

/* What the oracle has seen of one sequence. `near`: entries too near the threshold to tell. */
typedef struct seen {
    double *score;
    uint64_t counts[64], near[64];
} seen;

static void see_row(walk *w, int b, int h, int row, bool scored, bool counted, double weight, double *logit,
                    seen *out) {
    const shape *s = w->s;
    int kv = h / (s->heads / s->kv_heads), g = b * s->kv_heads + kv, n = s->tokens[b];
    int visible = w->past[g] + row + 1;
    double max, lse;
    const float *q = w->q + 5 + (size_t)(w->start[b] + row) * (size_t)(s->heads * s->head_dim);
    const float *k = w->k + 3 + (size_t)(g * w->capacity) * (size_t)s->head_dim;
    ref_logits(q + h * s->head_dim, k, (size_t)s->head_dim, visible, s->head_dim, 1.0 / sqrt(s->head_dim),
               logit);
    ref_row(logit, visible, &max, &lse);
    w->max[(w->start[b] + row) * s->heads + h] = (float)max;
    w->lse[(w->start[b] + row) * s->heads + h] = (float)lse;
    for (int j = 0; j < n && w->before[g] + j < visible; j++) {
        double margin = logit[w->before[g] + j] - max - log(threshold);
        if (counted) out->counts[h] += margin < 0.0;
        if (counted) out->near[h] += fabs(margin) < 1e-4;
        if (scored) out->score[kv * n + j] += weight * exp(logit[w->before[g] + j] - lse);
    }
}

static void reference(walk *w, int b, double weight, seen *out) {
    const shape *s = w->s;
    double *logit = malloc((size_t)w->capacity * sizeof *logit);
    for (int h = 0; h < s->heads; h++)
        for (int i = 0; i < w->start[b + 1] - w->start[b]; i++) {
            int flags = w->decode ? VLCI_ROW_SCORED : flags_of(s, b, i);
            if (flags)
                see_row(w, b, h, i, flags & VLCI_ROW_SCORED, flags & VLCI_ROW_COUNTED, weight, logit, out);
        }
    free(logit);
}

static vlci_attention upload(const walk *w) {
    const shape *s = w->s;
    size_t nk = (size_t)(BATCH * s->kv_heads * w->capacity * s->head_dim) + 3;
    void *stored = suite_store(w->k, nk, s->dtype);
    vlci_attention a = {.batch = BATCH,
                        .heads = s->heads,
                        .kv_heads = s->kv_heads,
                        .head_dim = s->head_dim,
                        .causal = true,
                        .scale = (float)(1.0 / sqrt(s->head_dim)),
                        .kv_dtype = s->dtype,
                        .k_offset = 3,
                        .q_offset = 5,
                        .max_rows = w->decode ? 1 : longest(s)};
    a.row_stride = (size_t)s->head_dim;
    a.head_stride = a.row_stride * (size_t)w->capacity;
    a.seq_stride = a.head_stride * (size_t)s->kv_heads;
    a.q_stride = (size_t)(s->heads * s->head_dim);
    a.q = suite_upload(w->q, ((size_t)w->rows * a.q_stride + 5) * sizeof *w->q);
    a.k = suite_upload(stored, nk * vlci_dtype_bytes(s->dtype));
    a.seq_start = suite_upload(w->start, sizeof w->start);
    a.past = suite_upload(w->past, (size_t)(BATCH * s->kv_heads) * sizeof *w->past);
    free(stored);
    return a;
}

/* The row statistics come from the reference, which sees the keys as they are stored. */
static void observe(walk *w, vlci_scores *scores, double weight, seen *want) {
    size_t nr = (size_t)(w->rows * w->s->heads) * sizeof *w->max;
    vlci_attention a = upload(w);
    for (int b = 0; b < BATCH; b++) reference(w, b, weight, &want[b]);
    a.row_max = suite_upload(w->max, nr);
    a.row_lse = suite_upload(w->lse, nr);
    ck_ok(w->decode ? vlci_scores_observe_decode(scores, 0, &a, weight) : vlci_scores_observe(scores, 0, &a));
    cl_mem all[] = {a.q, a.k, a.seq_start, a.past, a.row_max, a.row_lse};
    for (size_t i = 0; i < 6; i++) suite_release(all[i]);
}

static void compare(const shape *s, vlci_scores *scores, const seen *want) {
    size_t ns = (size_t)(BATCH * s->kv_heads * scores->max_tokens);
    float *got = malloc(ns * sizeof *got);
    uint64_t counts[128] = {0};
    suite_download(scores->score[0], got, ns * sizeof *got);
    if (scores->counts) suite_download(scores->counts, counts, (size_t)(BATCH * s->heads) * sizeof *counts);
    for (int b = 0; b < BATCH; b++) {
        size_t n = (size_t)s->tokens[b];
        for (int kv = 0; kv < s->kv_heads; kv++)
            suite_close("score", got + (size_t)(b * s->kv_heads + kv) * (size_t)scores->max_tokens,
                        want[b].score + (size_t)kv * n, n, 1e-7, 1e-4);
        for (int h = 0; h < s->heads; h++) {
            int64_t off = (int64_t)counts[b * s->heads + h] - (int64_t)want[b].counts[h];
            ck_assert_msg(llabs(off) <= (int64_t)want[b].near[h],
                          "head %d: %lld entries off, %llu near the threshold", h, (long long)off,
                          (unsigned long long)want[b].near[h]);
        }
    }
    free(got);
}

static void try_shape(shape s) {
    seen want[BATCH] = {{0}};
    walk w;
    fill(&w, &s, 0, 7);
    vlci_scores *scores = make_scores(&s, w.before);
    for (int b = 0; b < BATCH; b++)
        want[b].score = calloc((size_t)(s.kv_heads * s.tokens[b]), sizeof(double));
    observe(&w, scores, 1.0, want);
    compare(&s, scores, want);
    release(&w);
    for (int decoded = 1; decoded < 3; decoded++) { /* rows after the prompt add to its scores */
        fill(&w, &s, decoded, 7);
        observe(&w, scores, 4.0, want);
        compare(&s, scores, want);
        release(&w);
    }
    for (int b = 0; b < BATCH; b++) free(want[b].score);
    vlci_scores_release(&scores);
}

static const shape shapes[] = {
    {2, 2, 16, {100, 70}, {9, 20}, {9, 20}, 0, VLCACHE_DTYPE_F32, 8.0f, {0}},
    {8, 2, 64, {150, 33}, {17, 3}, {17, 3}, 0, VLCACHE_DTYPE_BF16, 6.0f, {0}},   /* GQA, ragged */
    {4, 1, 80, {65, 129}, {5, 1}, {5, 1}, 0, VLCACHE_DTYPE_F16, 6.0f, {0}},      /* MQA, odd head_dim */
    {2, 2, 32, {70, 9}, {70, 9}, {70, 9}, 0, VLCACHE_DTYPE_F32, 6.0f, {0}},      /* tau = N */
    {4, 2, 24, {20, 1}, {20, 1}, {20, 1}, 0, VLCACHE_DTYPE_F32, 6.0f, {0}},      /* N = 1 */
    {4, 2, 16, {90, 40}, {8, 6}, {8, 6}, 11, VLCACHE_DTYPE_BF16, 6.0f, {0}},     /* a second turn */
    {4, 2, 16, {300, 257}, {300, 257}, {7, 0}, 0, VLCACHE_DTYPE_F32, 6.0f, {0}}, /* all rows, in blocks */
    {4, 2, 16, {300, 40}, {300, 40}, {7, 5}, 11, VLCACHE_DTYPE_F32, 6.0f, {0}},  /* the same in a second turn
                                                                                  */
    {2, 1, 32, {200, 90}, {8, 8}, {30, 90}, 0, VLCACHE_DTYPE_F32, 6.0f, {0}}, /* fewer scored than counted */
    {2, 1, 32, {200, 90}, {32, 1}, {0, 0}, 0, VLCACHE_DTYPE_F32, 6.0f, {0}},  /* nothing counted */
    {2, 1, 16, {90, 40}, {8, 6}, {8, 6}, 0, VLCACHE_DTYPE_F32, 0.0f, {0}},    /* all equal */
    {2, 1, 16, {90, 40}, {8, 6}, {8, 6}, 0, VLCACHE_DTYPE_F32, 200.0f, {0}},  /* one spike a row */
    {4, 2, 16, {90, 70}, {9, 4}, {9, 4}, 0, VLCACHE_DTYPE_F32, 6.0f, {RUNS, FIRST_ROW}},
    {4, 2, 24, {75, 100}, {0, 7}, {0, 7}, 0, VLCACHE_DTYPE_BF16, 6.0f, {FIRST_ROW, RUNS}},  /* first row alone
                                                                                             */
    {8, 2, 32, {130, 9}, {3, 9}, {0, 9}, 11, VLCACHE_DTYPE_F16, 6.0f, {ODD_ROWS, NO_GAPS}}, /* a second turn
                                                                                             */
    {2, 1, 80, {500, 430}, {5, 0}, {9, 0}, 0, VLCACHE_DTYPE_F32, 6.0f, {RUNS, ODD_ROWS}},   /* in blocks */
    {2, 2, 16, {430, 300}, {430, 1}, {0, 1}, 0, VLCACHE_DTYPE_F32, 6.0f, {RUNS, FIRST_ROW}}, /* all rows, and
                                                                                                two */
};

/* A simulator gets every kind of shape, but no long one, and each rung by name alone. */
static bool too_long(const shape *s) {
    return suite_reduced() && (longest(s) * s->heads > 600 || s->scored[0] > 20);
}

START_TEST(test_shapes) {
    if (!suite_reduced()) try_shape(shapes[_i]);
}
END_TEST

START_TEST(test_rungs) {
    static const char *const rungs[] = {"score:tile", "score:wide"};
    for (size_t i = 0; i < 2 && !too_long(&shapes[_i]); i++) {
        setenv("VLCACHE_VARIANT", rungs[i], 1);
        try_shape(shapes[_i]);
    }
    unsetenv("VLCACHE_VARIANT");
}
END_TEST

START_TEST(test_refused) {
    shape s = shapes[0];
    walk w;
    fill(&w, &s, 0, 7);
    vlci_scores *scores = make_scores(&s, NULL);
    vlci_attention a = upload(&w);
    a.row_max = a.row_lse = a.q;
    setenv("VLCACHE_VARIANT", "score:ladder", 1);
    ck_fails(vlci_scores_observe(scores, 0, &a), VLCACHE_E_ARGUMENT, "ladder");
    unsetenv("VLCACHE_VARIANT");
    a.max_rows--;
    ck_fails(vlci_scores_observe(scores, 0, &a), VLCACHE_E_INTERNAL, "99 rows attended, 100 are observed");
    cl_mem all[] = {a.q, a.k, a.seq_start, a.past};
    for (size_t i = 0; i < 4; i++) suite_release(all[i]);
    vlci_scores_release(&scores);
    release(&w);
}
END_TEST

/* A copy holds what was seen, and what it sees later is its own. */
START_TEST(test_copy) {
    shape s = shapes[suite_reduced() ? 5 : 7];
    seen want[BATCH] = {{0}}, more[BATCH];
    walk w;
    fill(&w, &s, 0, 7);
    vlci_scores *first = make_scores(&s, w.before), *copy = NULL;
    for (int b = 0; b < BATCH; b++)
        want[b].score = calloc((size_t)(s.kv_heads * s.tokens[b]), sizeof(double));
    observe(&w, first, 1.0, want);
    first->observed = 1;
    ck_ok(vlci_scores_copy(first, &copy));
    compare(&s, copy, want);
    release(&w);
    for (int b = 0; b < BATCH; b++) {
        size_t n = (size_t)(s.kv_heads * s.tokens[b]);
        more[b] = want[b];
        more[b].score = memcpy(malloc(n * sizeof(double)), want[b].score, n * sizeof(double));
    }
    fill(&w, &s, 1, 7);
    observe(&w, copy, 2.0, more);
    compare(&s, copy, more);
    compare(&s, first, want);
    release(&w);
    for (int b = 0; b < BATCH; b++) {
        free(want[b].score);
        free(more[b].score);
    }
    vlci_scores_release(&first);
    vlci_scores_release(&copy);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("score");
    TCase *all = tcase_create("score");
    tcase_add_loop_test(all, test_shapes, 0, (int)(sizeof shapes / sizeof *shapes));
    tcase_add_loop_test(all, test_rungs, 0, (int)(sizeof shapes / sizeof *shapes));
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_copy);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
