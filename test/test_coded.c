/*
 * test_coded.c - attention over coded rows and rows in pages against the double oracle, which is given the
 * rows that the codes stand for: every rung, heads that share, few and many query rows, runs of any length,
 * two turns; and codes that forks and marks share.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "ref/ref_codes.h"
#include "support/beside.h"
#include "support/coding.h"
#include "support/floats.h"

enum { LAYERS = 2, LAYER = 1, MOST_ROWS = 11 };

typedef struct problem {
    const char *name;
    int kv_heads, group, head_dim, tokens, visual, run;
    double bits;
    vlcache_dtype dtype;
    int rows, past; /* query rows; rows in pages before them */
} problem;

#define F32  VLCACHE_DTYPE_F32
#define BF16 VLCACHE_DTYPE_BF16
#define F16  VLCACHE_DTYPE_F16

static const problem problems[] = {
    {"few rows", 1, 1, 16, 9, 3, 16, 60.0, F32, 1, 0},
    {"decode", 2, 2, 32, 90, 75, 32, 60.0, F32, 1, 4},
    {"all text but one", 2, 2, 16, 20, 1, 32, 60.0, F32, 1, 2},
    {"no text", 2, 3, 16, 37, 37, 16, 80.0, F32, 3, 1},
    {"no bits", 1, 4, 16, 40, 33, 32, 1.0, F32, 1, 5},
    {"whole blocks", 2, 2, 32, 64, 48, 16, 300.0, F32, 2, 16},
    {"one run", 1, 4, 64, 200, 170, 1 << 20, 120.0, BF16, 1, 20},
    {"long runs", 2, 4, 64, 330, 300, 128, 90.0, BF16, 9, 33},
    {"many lanes", 1, 8, 64, 150, 131, 32, 400.0, BF16, 11, 0},
    {"eight bits", 1, 3, 64, 100, 90, 64, 1024.0, BF16, 1, 1},
    {"many shares", 1, 1, 16, 8500, 8300, 16, 60.0, F32, 1, 2},
    {"row by row", 2, 2, 32, 90, 75, 1, 60.0, F32, 1, 4},
    {"row by row, many lanes", 1, 8, 64, 150, 131, 1, 200.0, BF16, 11, 3},
    {"pages in the same launch", 2, 4, 64, 330, 300, 16, 90.0, BF16, 1, 300},
    {"no text, pages in the same launch", 2, 3, 64, 90, 90, 16, 90.0, F16, 1, 0},
    {"row by row, pages in the same launch", 2, 4, 64, 330, 300, 1, 90.0, BF16, 1, 200},
};
enum { PROBLEMS = sizeof problems / sizeof *problems, SMALL = 5 };

static int visual[8300];
static uint64_t seed;

static void begin(const problem *p, coding_case *c) {
    for (int i = 0; i < p->visual; i++) visual[i] = (p->tokens - p->visual) / 2 + i;
    *c = (coding_case){.layers = LAYERS,
                       .kv_heads = p->kv_heads,
                       .group = p->group,
                       .head_dim = p->head_dim,
                       .tokens = p->tokens,
                       .n_visual = p->visual,
                       .run = p->run,
                       .dtype = p->dtype,
                       .bits = p->bits,
                       .budget = 1.0,
                       .visual = visual};
    coding_fill(c, 17);
}

static void make(const problem *p, coding_case *c) {
    begin(p, c);
    coding_make(c);
    ck_ok(c->status);
}

/* ---- the oracle's rows --------------------------------------------------------------------------------- */

/* Coded rows of a head as floats, visual ones first; returns how many. */
static int bring_back(const ref_codes *c, int head, float *k, float *v) {
    double row[VLCI_CODE_DIM_MAX];
    int dim = c->codes->head_dim, n = c->codes->rows, all = n + c->codes->texts;
    for (int i = 0; i < 2 * all; i++) {
        float *to = (i % 2 ? v : k) + (size_t)(i / 2 * dim);
        if (i / 2 < n)
            ref_codes_row(c, 2 * head + i % 2, i / 2, row);
        else
            ref_codes_text(c, 2 * head + i % 2, i / 2 - n, row);
        for (int d = 0; d < dim; d++) to[d] = (float)row[d];
    }
    return all;
}

/* What all heads of the layer see: codes of both turns where there are two, then rows in pages. */
typedef struct seen {
    ref_rows head[8];
    float *k, *v;
} seen;

static seen see(const coding_case *c, const vlci_codes *codes, const float *k, const float *v, int exact,
                int past) {
    size_t dim = (size_t)c->head_dim, most = (size_t)exact * dim;
    for (const vlci_codes *one = codes; one; one = one->before)
        most += (size_t)(one->rows + one->texts) * dim;
    seen s = {.k = calloc((size_t)c->kv_heads * most, sizeof *s.k),
              .v = calloc((size_t)c->kv_heads * most, sizeof *s.v)};
    for (int h = 0; h < c->kv_heads; h++) {
        float *to_k = s.k + (size_t)h * most, *to_v = s.v + (size_t)h * most;
        int n = 0;
        for (const vlci_codes *one = codes; one; one = one->before) {
            ref_codes read = ref_codes_read(one);
            n += bring_back(&read, LAYER * c->kv_heads + h, to_k + (size_t)n * dim, to_v + (size_t)n * dim);
            ref_codes_release(&read);
        }
        memcpy(to_k + (size_t)n * dim, k + (size_t)(h * exact) * dim, (size_t)exact * dim * sizeof *k);
        memcpy(to_v + (size_t)n * dim, v + (size_t)(h * exact) * dim, (size_t)exact * dim * sizeof *v);
        s.head[h] = (ref_rows){n + past, dim, to_k, to_v, NULL};
    }
    return s;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* What a row's heads attend to among the coded rows of one prompt, at their places in it. */
static void check_scores(const problem *p, const coding_case *c, const vlci_codes *codes, const beside *b,
                         const seen *s) {
    enum { WEIGHT = 4 };
    size_t n = (size_t)(p->kv_heads * p->tokens), layer = (size_t)LAYER * n, dim = (size_t)p->head_dim;
    int row = p->rows - 1, heads = p->kv_heads * p->group, text = 0;
    float *begun = floats_random(&seed, (LAYER + 1) * n, 0.1f, 0.0f);
    double *want = calloc(n, sizeof *want), cap = (double)codes->read->few.shape.cap;
    vlci_coded_sight sight = {
        .positions = c->coding->rows.positions, .text_at = c->coding->rows.text_at, .tokens = p->tokens};
    sight.score = suite_upload(begun, (layer + n) * sizeof *begun);
    for (int j = 0, first = visual[0]; j < p->tokens; j++) {
        bool coded = j >= first && j < first + p->visual;
        int held = coded ? j - first : p->visual + text++;
        for (int h = 0; h < heads; h++) {
            double logit = 0.0;
            for (size_t d = 0; d < dim; d++)
                logit += (double)b->q[(size_t)(row * heads + h) * dim + d] *
                         (double)s->head[h / p->group].k[(size_t)held * dim + d];
            logit *= (double)b->a.scale;
            if (cap > 0.0) logit = cap * tanh(logit / cap);
            want[h / p->group * p->tokens + j] += WEIGHT * exp(logit - b->row_lse[row * heads + h]);
        }
    }
    for (size_t i = 0; i < n; i++) want[i] += (double)begun[layer + i];
    ck_ok(vlci_coded_score(codes, LAYER, &b->a, row, WEIGHT, &sight));
    float *got = malloc((layer + n) * sizeof *got);
    suite_download(sight.score, got, (layer + n) * sizeof *got);
    suite_close("score", got + layer, want, n, 1e-4, 1e-4);
    ck_assert(memcmp(got, begun, layer * sizeof *got) == 0); /* those of other layers stay */
    suite_release(sight.score);
    free(begun);
    free(want);
    free(got);
}

static void run_and_compare(const problem *p, const coding_case *c, vlci_codes *codes) {
    vlci_kv kv = {.codes = codes}, *const sequence = &kv;
    beside b = {.name = p->name,
                .shape =
                    beside_shape(p->kv_heads, p->group, p->head_dim, p->dtype, codes->read->few.shape.cap),
                .layers = LAYERS,
                .layer = LAYER,
                .rows = p->rows,
                .past = p->past};
    beside_begin(&b, &seed, 2.0f);
    seen s = see(c, codes, b.own_k, b.own_v, p->past + p->rows, p->past);
    beside_expect(&b, s.head);
    ck_ok(vlci_coded_run(&sequence, LAYER, &b.a, false));
    beside_check(&b, 1.0);
    if (vlci_coded_sees_pages(&sequence, &b.a)) { /* in one launch */
        beside_poison(&b);
        ck_ok(vlci_coded_run(&sequence, LAYER, &b.a, true));
        beside_check(&b, 1.0);
    }
    check_scores(p, c, codes, &b, &s);
    free(s.k);
    free(s.v);
    beside_end(&b);
}

static const char *const variants[] = {"attention_coded:wide", "attention_coded:group", "attention_coded:mma",
                                       "attention_coded:wgmma"};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* Those of the device: all read the same codes. */
static int variants_here(void) {
    return VARIANTS - !suite_device()->caps.mma - !suite_device()->caps.wgmma;
}

/* By a rung, with capped logits or without. */
static void run_variant(const char *variant, const problem *p, const coding_case *c, vlci_codes *codes,
                        float cap) {
    const vlci_coded_kernels *was = codes->read;
    vlci_attention_shape shape = was->few.shape;
    vlci_coded_kernels read = {0};
    shape.cap = cap;
    suite_force(variant);
    ck_ok(vlci_coded_open(suite_device(), &shape, &read));
    if (p->run == 1) ck_ok(vlci_coded_open_rows(&read));
    if (p->run == 1) ck_ok(vlci_coded_open_scores(&read));
    suite_force(NULL);
    for (vlci_codes *one = codes; one; one = one->before) one->read = &read;
    run_and_compare(p, c, codes);
    for (vlci_codes *one = codes; one; one = one->before) one->read = was;
}

static void run_variants(const problem *p, const coding_case *c, vlci_codes *codes, float cap) {
    for (int v = 0; v < variants_here(); v++) run_variant(variants[v], p, c, codes, cap);
}

/* ---- many sequences ------------------------------------------------------------------------------------ */

/* Of codes that a step sees together: turned by runs or row by row, of one turn or two, long or short. */
static const problem together[] = {
    {"together, short", 2, 4, 64, 60, 40, 16, 90.0, BF16, 1, 3},
    {"together, long", 2, 4, 64, 400, 370, 64, 120.0, BF16, 1, 20},
    {"together, row by row", 2, 4, 64, 200, 150, 1, 150.0, BF16, 1, 7},
    {"together, one block", 2, 4, 64, 14, 5, 16, 400.0, BF16, 1, 40},
};
enum { TOGETHER = sizeof together / sizeof *together, SEQUENCES = 43, TURNS_OF = TOGETHER, NOTHING };

static problem one_of_them(int i) {
    problem p = together[i % TOGETHER];
    if (!suite_reduced()) return p;
    p.kv_heads = 1;
    p.group = 2;
    p.head_dim = 16;
    p.tokens = p.tokens / 8 + 10;
    p.visual = p.visual / 8 + 2;
    if (p.run == 1) p.run = 32; /* a simulator takes long */
    return p;
}

/* Sequences' codes, and what is in pages. */
typedef struct crowd {
    vlci_attention_shape shape;
    coding_case made[TOGETHER + 1]; /* the last: a second turn, behind the first */
    vlci_kv kv[SEQUENCES], *sequences[SEQUENCES];
    int n, kind[SEQUENCES], pasts[SEQUENCES];
    seen seen[SEQUENCES];
    ref_rows heads[SEQUENCES * 2];
} crowd;

static void gather(crowd *c, bool all_have_codes) {
    for (int i = 0; i < c->n; i++) {
        c->kind[i] = i * 5 % (all_have_codes ? NOTHING : NOTHING + 1);
        c->pasts[i] = i * 7 % 45;
        c->kv[i] = (vlci_kv){.codes = c->kind[i] == NOTHING ? NULL : c->made[c->kind[i]].codes};
        c->sequences[i] = &c->kv[i];
    }
}

static void see_crowd(crowd *c, const beside *b) {
    for (int i = 0; i < c->n; i++) {
        size_t at = beside_behind(b, i);
        c->seen[i] = see(&c->made[TURNS_OF], c->kv[i].codes, b->own_k + at, b->own_v + at, c->pasts[i] + 1,
                         c->pasts[i]);
        memcpy(c->heads + i * c->shape.kv_heads, c->seen[i].head,
               (size_t)c->shape.kv_heads * sizeof *c->heads);
    }
}

static void run_crowd(crowd *c, bool all_have_codes) {
    beside b = {.name = "together",
                .shape = c->shape,
                .layers = LAYERS,
                .layer = LAYER,
                .rows = 1,
                .batch = c->n,
                .pasts = c->pasts};
    gather(c, all_have_codes);
    beside_begin(&b, &seed, 2.0f);
    see_crowd(c, &b);
    beside_expect(&b, c->heads);
    ck_ok(vlci_coded_run(c->sequences, LAYER, &b.a, false));
    beside_check(&b, 1.0);
    bool at_once = vlci_coded_sees_pages(c->sequences, &b.a);
    ck_assert(!at_once || all_have_codes);
    if (at_once) {
        beside_poison(&b);
        ck_ok(vlci_coded_run(c->sequences, LAYER, &b.a, true));
        beside_check(&b, 1.0);
    }
    for (int i = 0; i < c->n; i++) {
        free(c->seen[i].k);
        free(c->seen[i].v);
    }
    beside_end(&b);
}

static void read_by(crowd *c, const vlci_coded_kernels *read) {
    for (int i = 0; i <= TOGETHER; i++) c->made[i].codes->read = read;
}

/* By a rung that all codes are read by. */
static void run_crowd_by(crowd *c, const char *variant) {
    vlci_coded_kernels read = {0};
    suite_force(variant);
    ck_ok(vlci_coded_open(suite_device(), &c->shape, &read));
    ck_ok(vlci_coded_open_rows(&read));
    suite_force(NULL);
    read_by(c, &read);
    run_crowd(c, false);
    run_crowd(c, true);
}

/* One step of many sequences: each sees its own codes, whatever the others have. */
START_TEST(many_sequences) {
    crowd *c = calloc(1, sizeof *c);
    c->n = suite_reduced() ? NOTHING + 2 : SEQUENCES;
    seed = 31;
    for (int i = 0; i <= TOGETHER; i++) {
        problem p = one_of_them(i);
        make(&p, &c->made[i]);
        c->shape = beside_shape(p.kv_heads, p.group, p.head_dim, p.dtype, 0);
    }
    c->made[TURNS_OF].codes->before = vlci_codes_retain(c->made[2].codes);
    const vlci_coded_kernels *was[TOGETHER + 1];
    for (int i = 0; i <= TOGETHER; i++) was[i] = c->made[i].codes->read;
    for (int v = 0; v < variants_here(); v++) run_crowd_by(c, variants[v]);
    for (int i = TOGETHER; i >= 0; i--) {
        c->made[i].codes->read = was[i];
        coding_release(&c->made[i]);
        coding_free(&c->made[i]);
    }
    free(c);
}
END_TEST

/* ---- one sequence -------------------------------------------------------------------------------------- */

START_TEST(against_the_rows_they_stand_for) {
    const problem *p = &problems[_i];
    coding_case c;
    if (suite_reduced() && _i >= SMALL) return;
    seed = 23;
    make(p, &c);
    run_variants(p, &c, c.codes, 0);
    if (suite_reduced() ? _i == 3 : _i == 1 || _i == 4) run_variants(p, &c, c.codes, 1.5f);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* Two turns' codes, one behind the other. */
START_TEST(two_turns) {
    const problem *p = &problems[suite_reduced() ? SMALL - 1 : 1];
    coding_case first, second;
    seed = 29;
    make(p, &first);
    make(p, &second);
    second.codes->before = vlci_codes_retain(first.codes);
    ck_assert_uint_eq(vlci_codes_all_bytes(second.codes), 2 * vlci_codes_all_bytes(first.codes));
    run_variants(p, &second, second.codes, 0);
    coding_release(&second);
    ck_assert_int_eq(first.codes->references, 1);
    coding_release(&first);
    coding_free(&first);
    coding_free(&second);
}
END_TEST

/* As bits are added, attention comes to be that over the rows themselves. */
START_TEST(as_exact_as_its_bits) {
    static const double bits[] = {40.0, 80.0, 160.0, 512.0};
    double miss[4] = {0.0};
    if (suite_reduced()) return;
    for (int b = 0; b < 4; b++) {
        problem p = {"more bits", 1, 2, 32, 90, 75, _i ? 1 : 32, bits[b], F32, 1, 3};
        coding_case c;
        make(&p, &c);
        ref_codes read = ref_codes_read(c.codes);
        double row[32];
        for (int m = 0; m < 2 * LAYERS; m++)
            for (int j = 0; j < p.visual; j++) {
                ref_codes_row(&read, m, j, row);
                for (int d = 0; d < 32; d++) {
                    double want = (double)c.rows[(size_t)(m * p.tokens + visual[j]) * 32 + (size_t)d];
                    miss[b] += (row[d] - want) * (row[d] - want);
                }
            }
        ref_codes_release(&read);
        coding_release(&c);
        coding_free(&c);
    }
    for (int b = 1; b < 4; b++)
        ck_assert_msg(miss[b] < miss[b - 1] / 2.0, "%g, then %g", miss[b - 1], miss[b]);
    ck_assert_double_lt(miss[3], miss[0] / 500.0);
}
END_TEST

/* Squared error of attention over the codes of all rows, against the oracle over the rows as they were. */
static double attention_error(const problem *p, const coding_case *c) {
    vlci_kv kv = {.codes = c->codes}, *const sequence = &kv;
    beside b = {.name = p->name,
                .shape = beside_shape(p->kv_heads, p->group, p->head_dim, p->dtype, 0),
                .layers = LAYERS,
                .layer = LAYER,
                .rows = p->rows};
    ref_rows heads[2];
    seed = 41;
    beside_begin(&b, &seed, 1.0f);
    size_t dim = (size_t)p->head_dim, turn = (size_t)p->tokens * dim, own = (size_t)p->rows * dim;
    float *k = calloc(2 * (size_t)p->kv_heads * (turn + own), sizeof *k), *to = k;
    for (int h = 0; h < p->kv_heads; h++) {
        const float *was = c->rows + 2 * (size_t)(LAYER * p->kv_heads + h) * turn;
        heads[h] = (ref_rows){p->tokens, dim, to, to + turn + own, NULL};
        for (int i = 0; i < 2; i++, to += turn + own) {
            memcpy(to, was + (size_t)i * turn, turn * sizeof *to);
            memcpy(to + turn, (i ? b.own_v : b.own_k) + (size_t)h * own, own * sizeof *to);
        }
    }
    beside_expect(&b, heads);
    ck_ok(vlci_coded_run(&sequence, LAYER, &b.a, false));
    float *got = malloc(b.n * sizeof *got);
    double miss = 0.0;
    suite_download(b.a.out, got, b.n * sizeof *got);
    for (size_t i = 0; i < b.n; i++) miss += ((double)got[i] - b.out[i]) * ((double)got[i] - b.out[i]);
    free(got);
    free(k);
    beside_end(&b);
    return miss;
}

/* dB that attention's error falls by from codes of `few` bits to those of `more`, in every dimension of rows
 * that differ in all alike. */
static double fall(const char *variant, int run, int few, int more) {
    double miss[2];
    for (int i = 0; i < 2; i++) {
        problem p = {"all bits", 2, 2, 32, 320, 320, run, 2.0 * 32 * (i ? more : few), F32, 5, 0};
        coding_case c;
        vlci_coded_kernels read = {0};
        begin(&p, &c);
        coding_flatten(&c, 43);
        coding_make(&c);
        ck_ok(c.status);
        ck_assert_int_eq(c.codes->dims, 2 * LAYERS * p.kv_heads * p.head_dim);
        suite_force(variant);
        ck_ok(vlci_coded_open(suite_device(), &c.codes->read->few.shape, &read));
        if (run == 1) ck_ok(vlci_coded_open_rows(&read));
        suite_force(NULL);
        const vlci_coded_kernels *was = c.codes->read;
        c.codes->read = &read;
        miss[i] = attention_error(&p, &c);
        c.codes->read = was;
        coding_release(&c);
        coding_free(&c);
    }
    return 10.0 * log10(miss[0] / miss[1]);
}

/* 6 dB a bit, less what a wider range costs: a uniform quantiser of Gaussian numbers leaves .1175, .0095 and
 * .00008 of their variance, so 10.9 dB from 2 bits to 4 and 20.7 from 4 to 8. Within 2 dB for two bits:
 * ranges are those of least fourth powers, not squares, the basis is of 8 bits, and of 2 bits logits are so
 * far off that weights do not follow them evenly. */
START_TEST(attention_gains_with_bits) {
    if (suite_reduced()) return;
    for (int v = 0; v < variants_here(); v++) {
        double four = fall(variants[v], _i ? 1 : 32, 2, 4), eight = fall(variants[v], _i ? 1 : 32, 4, 8);
        ck_assert_msg(fabs(four - 10.9) < 2.0, "%s: 2 to 4 bits %g dB", variants[v], four);
        ck_assert_msg(fabs(eight - 20.7) < 4.0, "%s: 4 to 8 bits %g dB", variants[v], eight);
    }
}
END_TEST

/* ---- phases -------------------------------------------------------------------------------------------- */

enum { PHASES = 90, WIDE = 20 };

/* Angle of pair d of row j: positions one after another; the same with a gap of text; or those of a grid, y
 * for some pairs, x for the others. */
static double angle(int way, int j, int d) {
    double frequency = pow(100.0, -d / 8.0);
    int position = way == 1 && j >= 40 ? j + 7 : way < 2 ? j : d % 2 ? j / WIDE : j % WIDE;
    return (1000 + position) * frequency;
}

/* Each row's phase comes back from its run's and what it has beyond; as few tables as positions need. */
START_TEST(phases_of_runs) {
    static const int patterns[] = {1, 2, 4}; /* runs begin at x = 0, 16, 12, 8 and, like the first, 4 */
    float phase[PHASES * 16];
    for (int j = 0; j < PHASES; j++)
        for (int d = 0; d < 8; d++) {
            phase[16 * j + d] = (float)cos(angle(_i, j, d));
            phase[16 * j + 8 + d] = (float)sin(angle(_i, j, d));
        }
    cl_mem memory = suite_upload(phase, sizeof phase);
    const vlci_compress_shape shape = {
        .layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 16, .kv_dtype = F32};
    vlci_code_kernels kernels;
    vlci_phases p;
    float firsts[6 * 16];
    ck_ok(vlci_code_open(suite_device(), &shape, &kernels));
    ck_ok(vlci_phases_find(suite_device(), &kernels, memory, PHASES, 16, &p));
    suite_download(p.first, firsts, sizeof firsts);
    ck_assert_int_eq(p.runs, 6);
    ck_assert_int_eq(p.n, patterns[_i]);
    for (int j = 0; j < PHASES; j++)
        for (int d = 0; d < 8; d++) {
            const float *first = firsts + 16 * (j / 16),
                        *within = p.within + 256 * p.pattern[j / 16] + j % 16;
            double c = (double)within[16 * d], s = (double)within[16 * (8 + d)];
            double cosine = first[d] * c - first[8 + d] * s, sine = first[8 + d] * c + first[d] * s;
            ck_assert_double_eq_tol(cosine, cos(angle(_i, j, d)), 2e-3);
            ck_assert_double_eq_tol(sine, sin(angle(_i, j, d)), 2e-3);
        }
    vlci_phases_release(suite_device(), &p);
    suite_release(memory);
}
END_TEST

/* ---- caches -------------------------------------------------------------------------------------------- */

/* Bytes of the buffers that codes lie in: a part of one begins where a buffer may. */
static uint64_t memory_of(const vlci_codes *codes) {
    uint64_t all = 0;
    if (!codes->memory[0]) return vlci_codes_all_bytes(codes);
    for (int i = 0; i < VLCI_CODES_MEMORIES; i++) {
        size_t bytes = 0;
        ck_assert_int_eq(clGetMemObjectInfo(codes->memory[i], CL_MEM_SIZE, sizeof bytes, &bytes, NULL), 0);
        all += bytes;
    }
    uint64_t most = vlci_codes_all_bytes(codes) + VLCI_CODES_PARTS * suite_device()->caps.alignment;
    ck_assert_uint_ge(all, vlci_codes_all_bytes(codes));
    ck_assert_uint_lt(all, most);
    return all;
}

/* Forks and marks hold the same codes; the last that forgets them gives them back. */
START_TEST(forks_and_marks_share_them) {
    coding_case c;
    make(&problems[2], &c);
    vlci_kv *kv = &c.p->kv[0], fork = {0}, mark = {0};
    uint64_t pages_only = vlci_kv_bytes(kv);
    kv->codes = c.codes;
    c.codes = NULL;
    uint64_t held = vlci_memory_now(suite_device()), codes = vlci_codes_all_bytes(kv->codes);
    uint64_t memory = memory_of(kv->codes);
    ck_assert_uint_eq(vlci_kv_bytes(kv), pages_only + codes);
    ck_ok(vlci_kv_fork(kv, &fork));
    ck_ok(vlci_kv_mark(kv, &mark));
    ck_assert_int_eq(kv->codes->references, 3);
    ck_assert_ptr_eq(fork.codes, kv->codes);
    vlci_kv_clear(kv);
    ck_assert_ptr_null(kv->codes);
    ck_assert_int_eq(fork.codes->references, 2);
    vlci_kv_go_back(kv, &mark);
    ck_assert_ptr_eq(fork.codes, kv->codes);
    ck_assert_int_eq(fork.codes->references, 2);
    vlci_kv_release(&fork);
    ck_assert_int_eq(kv->codes->references, 1);
    vlci_kv_clear(kv);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), held - memory);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* Time of the fastest of three. */
static double fastest(double *of) {
    return fmin(fmin(of[0], of[1]), of[2]);
}

/* A driver that moves what nobody needs any more takes as long as reading it does. (A simulator goes through
 * what it knows of each byte.) */
START_TEST(gone_at_once) {
    if (suite_reduced()) return;
    const vlci_codes shape = {.device = suite_device(),
                              .layers = LAYERS,
                              .kv_heads = 4,
                              .head_dim = 64,
                              .rows = 1 << 16,
                              .dims = 2 * LAYERS * 4 * 64,
                              .n_words = 1 << 24,
                              .run = 16,
                              .runs = 1 << 12};
    size_t bytes = shape.n_words * sizeof(cl_uint);
    double reads[3], goes[3];
    for (int i = 0; i < 3; i++) {
        vlci_codes *codes;
        ck_ok(vlci_codes_create(&shape, &codes));
        ck_ok(vlci_fill(suite_device(), codes->words, 0, bytes, 7));
        ck_ok(vlci_finish(suite_device()));
        void *host = malloc(bytes);
        reads[i] = -vlci_clock_ms();
        suite_download(codes->words, host, bytes);
        reads[i] += vlci_clock_ms();
        free(host);
        goes[i] = -vlci_clock_ms();
        vlci_codes_release(&codes);
        goes[i] += vlci_clock_ms();
    }
    ck_assert_msg(fastest(goes) < fastest(reads) / 2, "64 MiB of codes go in %.1f ms, are read in %.1f",
                  fastest(goes), fastest(reads));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coded");
    TCase *all = tcase_create("coded");
    suite_balance(all);
    tcase_add_loop_test(all, against_the_rows_they_stand_for, 0, PROBLEMS);
    tcase_add_test(all, two_turns);
    tcase_add_loop_test(all, as_exact_as_its_bits, 0, 2);
    tcase_add_loop_test(all, attention_gains_with_bits, 0, 2);
    tcase_add_loop_test(all, phases_of_runs, 0, 3);
    tcase_add_test(all, forks_and_marks_share_them);
    tcase_add_test(all, gone_at_once);
    suite_add_tcase(suite, all);
    TCase *many = tcase_create("many");
    suite_balance(many);
    tcase_add_test(many, many_sequences);
    suite_add_tcase(suite, many);
    return suite_run(suite);
}
