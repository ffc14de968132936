/*
 * test_code.c - rows in few bits: bits, means, bases, steps and codes against a Python implementation of the
 * method, hostile rows, bytes against what is allocated, and errors that fall as bits are added.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/bits.h"
#include "compress/spectrum.h"
#include "ref/ref_codes.h"
#include "support/coding.h"
#include "support/floats.h"
#include "support/taps.h"

/* ---- bits ---------------------------------------------------------------------------------------------- */

START_TEST(bits_go_where_they_help) {
    const double energy[2][3] = {{100.0, 1.0, 0.01}, {40.0, 40.0, 0.0}};
    uint8_t bits[6];
    vlci_bits b = {.matrices = 2, .dims = 3, .energy = energy[0], .most = 6};
    ck_ok(vlci_bits_share(&b, bits));
    ck_assert(bits[0] == 2 && bits[3] == 2 && bits[4] == 2 && bits[1] == 0 && bits[2] == 0 && bits[5] == 0);
    b.most = 8;
    ck_ok(vlci_bits_share(&b, bits));
    ck_assert(bits[0] == 4 && bits[3] == 2 && bits[4] == 2 && bits[1] == 0);
    b.most = 1000;
    ck_ok(vlci_bits_share(&b, bits));
    ck_assert(bits[0] == 8 && bits[1] == 8 && bits[2] == 8 && bits[3] == 8 && bits[4] == 8 && bits[5] == 0);
    b.most = 0;
    ck_ok(vlci_bits_share(&b, bits));
    for (int i = 0; i < 6; i++) ck_assert_int_eq(bits[i], 0);
}
END_TEST

/* A new dimension costs its vector, too: then the old ones get more first. */
START_TEST(bits_pay_for_their_basis) {
    const double energy[1][4] = {{100.0, 10.0, 10.0, 10.0}};
    uint8_t bits[4];
    vlci_bits b = {.matrices = 1, .dims = 4, .energy = energy[0], .most = 30};
    ck_ok(vlci_bits_share(&b, bits));
    ck_assert(bits[0] == 8 && bits[1] == 8 && bits[2] == 8 && bits[3] == 4);
    b.basis = 10;
    ck_ok(vlci_bits_share(&b, bits));
    ck_assert(bits[0] == 4 && bits[1] == 4 && bits[2] == 0 && bits[3] == 0);
}
END_TEST

/* The heap takes them in the order that sorting would. */
START_TEST(bits_of_many) {
    enum { N = 40, DIMS = 24 };
    static double energy[N * DIMS];
    static uint8_t bits[N * DIMS];
    static const double left[] = {1.0, 0.1175, 0.009497, 0.00008};
    static const int of[] = {0, 2, 4, 8};
    uint64_t seed = 3;
    for (int i = 0; i < N * DIMS; i++)
        energy[i] = (i % DIMS ? energy[i - 1] : 10.0) * (0.6 + 0.2 * suite_random(&seed));
    vlci_bits b = {.matrices = N, .dims = DIMS, .energy = energy, .most = 900};
    ck_ok(vlci_bits_share(&b, bits));
    double least = INFINITY, best = 0.0;
    int used = 0;
    for (int i = 0; i < N * DIMS; i++)
        for (int l = 0; l < 3; l++) {
            double use = energy[i] * (left[l] - left[l + 1]) / (of[l + 1] - of[l]);
            if (bits[i] > of[l])
                least = fmin(least, use);
            else if (of[l + 1] - of[l] <= 2)
                best = fmax(best, use);
            if (bits[i] > of[l]) used += of[l + 1] - of[l];
        }
    ck_assert_int_le(used, 900);
    ck_assert_int_ge(used, 897);
    ck_assert_double_ge(least,
                        best * 0.25); /* a step of 4 that did not fit any more leaves room for two of 2 */
    for (int i = 0; i < N * DIMS; i++) ck_assert(i % DIMS == 0 || bits[i] <= bits[i - 1]);
}
END_TEST

/* The step that is worth most of all that fit, again and again: ties go to the first. */
static void share_one_by_one(const vlci_bits *b, uint8_t *bits) {
    static const double left[] = {1.0, 0.1175, 0.009497, 0.00008};
    static const int of[] = {0, 2, 4, 8};
    int n = b->matrices * b->dims, *width = calloc((size_t)n, sizeof *width);
    bool *dropped = calloc((size_t)n, sizeof *dropped);
    double used = 0.0;
    for (;;) {
        int best = -1;
        double most = 0.0, price = 0.0;
        for (int i = 0; i < n; i++) {
            if (width[i] == 3 || dropped[i]) continue;
            double cost = of[width[i] + 1] - of[width[i]] + (width[i] ? 0.0 : b->basis);
            double use = b->energy[i] * ((left[width[i]] - left[width[i] + 1]) / cost);
            if (use <= most) continue;
            best = i;
            most = use;
            price = cost;
        }
        if (best < 0) break;
        if (used + price > b->most) {
            dropped[best] = true;
            continue;
        }
        used += price;
        width[best]++;
    }
    for (int i = 0; i < n; i++) bits[i] = (uint8_t)of[width[i]];
    free(width);
    free(dropped);
}

START_TEST(bits_as_one_by_one) {
    enum { N = 6, DIMS = 12 };
    static const double basis[] = {0.0, 0.7, 5.0, 40.0}; /* with the last a vector costs more than its bits */
    uint64_t seed = 9;
    for (int round = 0; round < 200; round++) {
        double energy[N * DIMS];
        uint8_t bits[N * DIMS], want[N * DIMS];
        for (int i = 0; i < N * DIMS; i++) {
            double fall = 0.5 + 0.5 * suite_random(&seed);
            energy[i] = (i % DIMS ? energy[i - 1] : 10.0) * (round % 5 == 4 && i % 3 ? 1.0 : fall);
            if (round % 7 == 6 && i % DIMS > 7) energy[i] = 0.0;
        }
        vlci_bits b = {.matrices = N, .dims = DIMS, .energy = energy, .basis = basis[round % 4]};
        b.most = round % 11 * 60.0 * (1.0 + b.basis / 10.0);
        ck_ok(vlci_bits_share(&b, bits));
        share_one_by_one(&b, want);
        ck_assert_msg(memcmp(bits, want, sizeof bits) == 0, "round %d", round);
    }
}
END_TEST

/* ---- against Python ------------------------------------------------------------------------------------ */

static const float *f32(const taps *t, const char *name) {
    const tap *one = taps_find(t, name);
    ck_assert_msg(one && one->f32, "no floats \"%s\"", name);
    return one->f32;
}

static const int32_t *i32(const taps *t, const char *name) {
    const tap *one = taps_find(t, name);
    ck_assert_msg(one && one->i32, "no numbers \"%s\"", name);
    return one->i32;
}

static coding_case case_of(const taps *t) {
    const int32_t *s = i32(t, "shape");
    return (coding_case){.layers = s[0],
                         .kv_heads = s[1],
                         .group = s[2],
                         .head_dim = s[3],
                         .tokens = s[4],
                         .run = s[5],
                         .before = 3,
                         .dtype = VLCACHE_DTYPE_F32,
                         .bits = (double)f32(t, "bits")[0],
                         .budget = (double)f32(t, "budget")[0],
                         .n_visual = (int)taps_find(t, "visual")->n,
                         .visual = i32(t, "visual"),
                         .rows = taps_find(t, "rows")->data,
                         .phase = taps_find(t, "phase")->data,
                         .score = taps_find(t, "score")->data,
                         .query = taps_find(t, "query")->data,
                         .metric = taps_find(t, "metric") ? f32(t, "metric") : NULL};
}

/* How many numbers of a basis vector are others than in Python: of 127, one more or less, where two roundings
 * fall apart. */
static int others(const taps *t, const ref_codes *c, int m, int i) {
    int dim = c->codes->head_dim, n = 0, columns = i32(t, "shape")[6];
    const int8_t *got = c->basis + (c->matrix[m].dim + (size_t)i) * (size_t)dim;
    const int32_t *want = i32(t, "rounded") + (size_t)(m * columns + i) * (size_t)dim;
    for (int d = 0; d < dim; d++) {
        ck_assert_int_le(abs(got[d] - want[d]), 1);
        n += got[d] != want[d];
    }
    return n;
}

/* Each such number moves what rows have along the vector, and with it the factor, by up to 1/127 of itself,
 * and their codes by a step. Codes that stand within rounding, of 2^-11 on matrix units, of the next one may
 * be that; there factors were seen to differ by 3.03e-3. */
static void check_dimension(const taps *t, const ref_codes *c, int m, int i, int columns, bool units) {
    int n = c->codes->rows, other = others(t, c, m, i), most = other > 1 ? other : 1;
    size_t at = (size_t)(m * columns + i), own = c->matrix[m].dim + (size_t)i;
    float factor = f32(t, "factor")[at], within = (units ? 4e-3f : 2e-5f) + (float)other / 127.0f;
    ck_assert_msg(fabsf(c->factor[own] - factor) <= within * factor,
                  "matrix %d, dimension %d, %d numbers others: factor %g, %g", m, i, other,
                  (double)c->factor[own], (double)factor);
    for (int j = 0; j < n; j++) {
        int got = ref_codes_code(c, m, i, j), want = i32(t, "code")[at * (size_t)n + (size_t)j];
        bool tie = other || f32(t, "edge")[at * (size_t)n + (size_t)j] < (units ? 0.1f : 2e-3f);
        ck_assert_msg(got == want || (tie && abs(got - want) <= most),
                      "matrix %d, dimension %d, row %d: %d, not %d", m, i, j, got, want);
    }
}

static void check_row(const char *what, int m, int j, const double *got, const float *want, int dim,
                      double most) {
    for (int d = 0; d < dim; d++)
        ck_assert_msg(fabs(got[d] - (double)want[d]) <= most, "%s %d of matrix %d, %d: %g, not %g", what, j,
                      m, d, got[d], (double)want[d]);
}

/* What moves a number of row j by at most: basis vectors that are others than in Python, with their factors;
 * and codes that are. Vectors have numbers up to 127; a key's is turned with another. */
typedef struct moved {
    double basis, codes;
} moved;

static moved moves(const taps *t, const ref_codes *c, int m, int j) {
    int n = c->codes->rows, columns = i32(t, "shape")[6], bits;
    moved sum = {0.0, 0.0};
    for (int i = 0; i < columns && (bits = ref_codes_bits(c, m, i)); i++) {
        size_t at = (size_t)(m * columns + i);
        int want = i32(t, "code")[at * (size_t)n + (size_t)j];
        double own = (double)c->factor[c->matrix[m].dim + (size_t)i], factor = (double)f32(t, "factor")[at];
        double level = fabs(want + 0.5 - (1 << (bits - 1)));
        sum.basis += level * (127.0 * fabs(own - factor) + (others(t, c, m, i) ? factor : 0.0));
        sum.codes += abs(ref_codes_code(c, m, i, j) - want) * 127.0 * own;
    }
    double turned = m % 2 ? 1.0 : sqrt(2.0);
    return (moved){turned * sum.basis, turned * sum.codes};
}

/* Rows whose codes are as in Python come back as there; one code more or less is a step. */
static void check_rows(const taps *t, const ref_codes *c, int m, bool units) {
    int n = c->codes->rows, dim = c->codes->head_dim, texts = c->codes->texts, same = 0;
    double row[VLCI_CODE_DIM_MAX];
    for (int j = 0; j < n; j++) {
        const float *want = f32(t, "back") + (size_t)(m * n + j) * (size_t)dim;
        moved by = moves(t, c, m, j);
        bool alike = true;
        ref_codes_row(c, m, j, row);
        for (int d = 0; d < dim; d++)
            alike &= fabs(row[d] - (double)want[d]) <= by.basis + (units ? 0.02 : 1e-5);
        same += alike;
        check_row("row", m, j, row, want, dim, by.basis + by.codes + (units ? 0.2 : 0.02));
    }
    ck_assert_msg(same >= n * 9 / 10, "matrix %d: %d of %d rows are the same", m, same, n);
    for (int j = 0; j < texts; j++) {
        ref_codes_text(c, m, j, row);
        check_row("text", m, j, row, f32(t, "text_back") + (size_t)(m * texts + j) * (size_t)dim, dim, 0.04);
    }
}

static taps load(const char *name) {
    char path[512], message[256];
    taps t;
    snprintf(path, sizeof path, "%s/code/%s.taps", VLCACHE_TEST_DATA, name);
    ck_assert_msg(taps_load(path, &t, message, sizeof message), "%s: %s", path, message);
    return t;
}

/* In a reduced size "heard" alone goes by group: it runs the kernels that the others run, and more. */
static const struct golden {
    const char *name, *rung;
    bool large;
} goldens[] = {{"bits", "code:wide", false},    {"budget", "code:wide", false},
               {"heard", "code:wide", false},   {"pre", "code:wide", false},
               {"rotated", "code:wide", false}, {"heard", "code:group", false},
               {"bits", "code:group", true},    {"pre", "code:group", true},
               {"rotated", "code:group", true}, {"bits", "code:mma", false},
               {"heard", "code:mma", false},    {"pre", "code:mma", false},
               {"rotated", "code:mma", false}};
enum { GOLDENS = sizeof goldens / sizeof *goldens, WITHOUT_UNITS = GOLDENS - 4 };

START_TEST(as_in_python) {
    if (_i >= WITHOUT_UNITS && !suite_device()->caps.mma) return;
    if (suite_reduced() && goldens[_i].large) return;
    taps t = load(goldens[_i].name);
    bool units = _i >= WITHOUT_UNITS;
    suite_force(goldens[_i].rung);
    coding_case c = case_of(&t);
    coding_make(&c);
    ck_ok(c.status);
    ref_codes read = ref_codes_read(c.codes);
    int columns = i32(&t, "shape")[6], matrices = 2 * c.layers * c.kv_heads;
    for (int m = 0; m < matrices; m++) {
        for (int i = 0; i < columns; i++)
            ck_assert_int_eq(ref_codes_bits(&read, m, i), i32(&t, "widths")[m * columns + i]);
        for (int d = 0; d < c.head_dim; d++)
            ck_assert_float_eq_tol(read.mean[m * c.head_dim + d], f32(&t, "mean")[m * c.head_dim + d], 1e-3f);
        for (int i = 0; i < columns && ref_codes_bits(&read, m, i); i++)
            check_dimension(&t, &read, m, i, columns, units);
        check_rows(&t, &read, m, units);
    }
    ref_codes_release(&read);
    coding_release(&c);
    taps_release(&t);
    suite_force(NULL);
}
END_TEST

/* ---- values as they are heard -------------------------------------------------------------------------- */

/* ---- properties ---------------------------------------------------------------------------------------- */

enum { TOKENS = 70, VISUAL = 60 };
static int visual[VISUAL];

static coding_case random_case(int head_dim, double bits) {
    for (int i = 0; i < VISUAL; i++) visual[i] = 4 + i;
    coding_case c = {.layers = 1,
                     .kv_heads = 2,
                     .group = 2,
                     .head_dim = head_dim,
                     .tokens = TOKENS,
                     .n_visual = VISUAL,
                     .run = 32,
                     .dtype = VLCACHE_DTYPE_F32,
                     .bits = bits,
                     .budget = 1.0,
                     .visual = visual};
    coding_fill(&c, 11);
    return c;
}

/* Mean squared error of what is brought back, over the rows' variance. */
static double error_of(const coding_case *c) {
    ref_codes read = ref_codes_read(c->codes);
    double row[VLCI_CODE_DIM_MAX], miss = 0.0, all = 0.0;
    for (int m = 0; m < 2 * c->layers * c->kv_heads; m++)
        for (int j = 0; j < c->n_visual; j++) {
            ref_codes_row(&read, m, j, row);
            for (int d = 0; d < c->head_dim; d++) {
                double want =
                    (double)c->rows[(size_t)(m * c->tokens + c->visual[j]) * (size_t)c->head_dim + (size_t)d];
                double mean = (double)read.mean[m * c->head_dim + d];
                miss += (row[d] - want) * (row[d] - want);
                all += m % 2 ? (want - mean) * (want - mean) : 0.0;
            }
        }
    ref_codes_release(&read);
    return miss / (2.0 * all);
}

static double error_at(int head_dim, double bits, bool flat) {
    coding_case c = random_case(head_dim, bits);
    if (flat) coding_flatten(&c, 5);
    coding_make(&c);
    ck_ok(c.status);
    double error = error_of(&c);
    coding_release(&c);
    coding_free(&c);
    return error;
}

/* What values are projected on and what they are made of again are each other's inverses: of all dimensions
 * in 8 bits they come back, whatever hears them. */
START_TEST(heard_values_come_back) {
    static const int dims[] = {80, 128, 144, 256};
    for (int i = 0; i < 4 && !suite_reduced(); i++) {
        int dim = dims[i];
        coding_case c = random_case(dim, 16.0 * dim);
        uint64_t seed = 3;
        float *metric = floats_random(&seed, (size_t)(2 * dim * dim), 0.2f, 0.0f);
        for (int e = 0; e < 2 * dim * dim; e++)
            if (e % dim <= e / dim % dim) metric[e] = e % dim == e / dim % dim ? 1.0f + (float)(e % 3) : 0.0f;
        c.metric = metric;
        suite_force(!_i ? "code:wide" : suite_device()->caps.mma ? "code:mma" : "code:group");
        coding_make(&c);
        suite_force(NULL);
        ck_ok(c.status);
        double error = error_of(&c);
        ck_assert_msg(error < 1e-3, "%d: %g is left over", dim, error);
        coding_release(&c);
        coding_free(&c);
        free(metric);
    }
}
END_TEST

/* 6 dB a bit: what is left of each dimension falls as of a uniform quantiser. */
START_TEST(error_falls_with_bits) {
    if (suite_reduced()) return;
    double two = error_at(32, 2 * 2 * 32, true), four = error_at(32, 4 * 2 * 32, true);
    double eight = error_at(32, 8 * 2 * 32, true);
    ck_assert_msg(two > 0.07 && two < 0.16, "2 bits: %g", two);
    ck_assert_msg(two / four > 8.0 && two / four < 20.0, "4 bits: %g, %g with 2", four, two);
    ck_assert_msg(four / eight > 60.0 && eight < 3e-4, "8 bits: %g, %g with 4", eight, four);
}
END_TEST

/* Bits go first where rows differ most: so few are worth more than as many for each dimension. */
START_TEST(falling_spectra_need_fewer) {
    if (suite_reduced()) return;
    double few = error_at(64, 60, false), more = error_at(64, 120, false),
           most = error_at(64, 8 * 2 * 64, false);
    ck_assert_msg(few < 0.3 && more < few / 2.5 && most < 3e-4, "%g %g %g", few, more, most);
}
END_TEST

/* Rows enough to be shared out, tiles that are not whole: each rung finds the same. */
START_TEST(rungs_agree) {
    enum { ROWS = 301, MOST = 128, REST = 9 };
    static int at[ROWS];
    static double row[2][2 * ROWS][MOST];
    double apart = 0.0, all = 0.0;
    int dim = _i ? MOST : 80;
    if (suite_reduced()) return;
    for (int i = 0; i < ROWS; i++) at[i] = i;
    for (int rung = 0; rung < 2; rung++) {
        coding_case c = random_case(dim, 250.0);
        coding_free(&c);
        c.dtype = _i ? VLCACHE_DTYPE_BF16 : VLCACHE_DTYPE_F32;
        c.kv_heads = 1;
        c.tokens = ROWS + REST;
        c.visual = at;
        c.n_visual = ROWS;
        coding_fill(&c, 13);
        suite_force(!rung ? "code:wide" : suite_device()->caps.mma ? "code:mma" : "code:group");
        coding_make(&c);
        suite_force(NULL);
        ck_ok(c.status);
        double error = error_of(&c);
        ck_assert_msg(error < 0.1, "%g is left over", error);
        ref_codes read = ref_codes_read(c.codes);
        for (int i = 0; i < 2 * ROWS; i++) ref_codes_row(&read, i / ROWS, i % ROWS, row[rung][i]);
        ref_codes_release(&read);
        coding_release(&c);
        coding_free(&c);
    }
    for (int i = 0; i < 2 * ROWS; i++)
        for (int d = 0; d < dim; d++) {
            double miss = row[0][i][d] - row[1][i][d];
            apart += miss * miss;
            all += row[0][i][d] * row[0][i][d];
        }
    ck_assert_msg(apart < (suite_device()->caps.mma ? 3e-4 : 1e-4) * all, "%g of %g apart", apart, all);
}
END_TEST

/* Means, covariances and steps are of a sample where rows are many, but every row is coded. */
static const struct sampled {
    const char *rung;
    int dim;
    float apart; /* what is sampled, from all else: a direction more, which few dimensions have no room for */
} sampled[] = {
    {"code:wide", 16, 2.0f}, {"code:group", 16, 2.0f}, {"code:mma", 48, 2.0f}, {"code:mma", 128, 0.0f}};

START_TEST(many_rows_are_sampled) {
    enum { ROWS = 2 * VLCI_CODE_SAMPLE + 37, MOST = 128, STRIDE = 3 };
    static int at[ROWS];
    int dim = sampled[_i].dim, taken = 0, last = -1;
    if (suite_reduced() || (_i > 1 && !suite_device()->caps.mma)) return;
    for (int i = 0; i < ROWS; i++) at[i] = i;
    coding_case c = random_case(dim, 1e9);
    coding_free(&c);
    c.layers = c.kv_heads = 1;
    c.tokens = ROWS + 3;
    c.visual = at;
    c.n_visual = ROWS;
    coding_fill(&c, 29);
    double mean[MOST] = {0}, all[MOST] = {0};
    for (uint32_t j = 0; j < (ROWS + STRIDE - 1) / STRIDE; j++, taken++) {
        int row = (int)(j * STRIDE + (j * 2654435761u >> 16) % STRIDE);
        if (row > ROWS - 1) row = ROWS - 1;
        ck_assert_int_gt(row, last);
        last = row;
        float *value = c.rows + (size_t)((c.tokens + row) * dim);
        for (int d = 0; d < dim; d++) mean[d] += value[d] += sampled[_i].apart;
    }
    for (int i = 0; i < ROWS; i++)
        for (int d = 0; d < dim; d++) all[d] += c.rows[(size_t)((c.tokens + i) * dim + d)];
    suite_force(sampled[_i].rung);
    coding_make(&c);
    suite_force(NULL);
    ck_ok(c.status);
    ref_codes read = ref_codes_read(c.codes);
    for (int d = 0; d < dim; d++) {
        ck_assert_double_eq_tol(read.mean[dim + d], mean[d] / taken, 2e-3);
        if (sampled[_i].apart > 0) ck_assert_double_ge(fabs(read.mean[dim + d] - all[d] / ROWS), 0.5);
    }
    ref_codes_release(&read);
    double error = error_of(&c);
    ck_assert_msg(error < (dim > 48 ? 2e-3 : 1e-3), "%g is left over",
                  error); /* 1.497e-3 by each rung at 128 */
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* What is counted is what is allocated, and no more than was asked for. */
START_TEST(bytes_are_what_is_held) {
    static const double budgets[] = {0.06, 0.1, 0.15, 0.2};
    if (suite_reduced() && _i < 3) return;
    int dim = suite_reduced() ? 16 : 64;
    coding_case c = random_case(dim, 0.0);
    c.budget = budgets[_i];
    coding_make(&c);
    ck_ok(c.status);
    const vlci_codes_bytes *b = &c.coding->bytes;
    cl_mem parts[] = {c.codes->matrix, c.codes->mean, c.codes->basis, c.codes->factor,
                      c.codes->words,  c.codes->text, c.codes->scale, c.codes->phase};
    uint64_t held = 0, full = 2ull * 2 * TOKENS * (size_t)dim * sizeof(float);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t bytes = 0;
        ck_assert_int_eq(clGetMemObjectInfo(parts[i], CL_MEM_SIZE, sizeof bytes, &bytes, NULL), CL_SUCCESS);
        held += bytes;
    }
    uint64_t before = vlci_memory_now(suite_device()),
             ends = VLCI_CODES_PARTS * suite_device()->caps.alignment;
    ck_assert_uint_eq(held, vlci_codes_sum(b));
    ck_assert_uint_eq(held, vlci_codes_all_bytes(c.codes));
    ck_assert_double_le((double)held, budgets[_i] * (double)full);
    if (budgets[_i] >= 0.1) ck_assert_double_ge((double)held, 0.97 * budgets[_i] * (double)full);
    vlci_codes_release(&c.codes);
    ck_assert_uint_ge(before - vlci_memory_now(suite_device()), held);
    ck_assert_uint_lt(before - vlci_memory_now(suite_device()), held + ends);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* Shares that are given: each head spends its own, and what those before it left; all together no more than
 * there is, in bits or in bytes. */
START_TEST(heads_have_their_shares) {
    static const double shares[][2] = {{1, 1}, {3, 1}, {1, 0}, {0, 5}, {1, 4}};
    bool bytes = _i >= 5;
    const double *own = shares[_i % 5];
    if (suite_reduced()) return;
    coding_case c = random_case(64, bytes ? 0.0 : 96.0);
    c.budget = 0.15;
    c.shares = own;
    coding_make(&c);
    ck_ok(c.status);
    const double *spent = c.coding->spent;
    double part = own[0] / (own[0] + own[1]), all = spent[0] + spent[1];
    ck_assert_double_le(spent[0], part * all * 1.05 + 0.1);
    ck_assert_double_ge(spent[0], part * all * 0.95 - (bytes ? 16.0 : 6.0));
    if (bytes) {
        double full = 2.0 * 2 * TOKENS * 64 * sizeof(float);
        ck_assert_double_le((double)vlci_codes_sum(&c.coding->bytes), 0.15 * full);
        ck_assert_double_ge((double)vlci_codes_sum(&c.coding->bytes), 0.14 * full);
    } else {
        ck_assert_double_eq(all, 2 * vlci_coding_bits(c.coding));
        ck_assert(all <= 192.0 && all >= 184.0);
    }
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* ---- hostile rows -------------------------------------------------------------------------------------- */

enum hostile { EQUAL, OUTLIER, RANK_ONE, ONE_ROW, FEW_ROWS, ALL_VISUAL, NO_SCORES, HOSTILE };

static void make_hostile(coding_case *c, enum hostile kind) {
    for (size_t i = 0; i < (size_t)(4 * TOKENS * c->head_dim); i++) {
        int j = (int)(i / (size_t)c->head_dim) % TOKENS, d = (int)(i % (size_t)c->head_dim);
        if (kind == EQUAL) c->rows[i] = (float)d - 3.5f;
        if (kind == RANK_ONE) c->rows[i] = (float)(j % 9 - 4) * sinf((float)d);
        if (kind == OUTLIER && j == 20 && d == 5) c->rows[i] = 1e4f;
    }
    if (kind == EQUAL || kind == RANK_ONE)
        for (int i = 0; i < TOKENS * c->head_dim; i++)
            c->phase[i] = i % c->head_dim < c->head_dim / 2 ? 1.0f : 0.0f;
    if (kind == ONE_ROW) c->n_visual = 1;
    if (kind == FEW_ROWS) c->n_visual = 7;
    for (int i = 0; kind == NO_SCORES && i < 2 * TOKENS; i++) c->score[i] = 0.0f;
}

START_TEST(hostile_rows) {
    static int all[TOKENS];
    if (suite_reduced() && _i != RANK_ONE && _i != ONE_ROW) return;
    int dim = suite_reduced() ? 16 : 64;
    coding_case c = random_case(dim, 200.0);
    make_hostile(&c, (enum hostile)_i);
    for (int i = 0; i < TOKENS; i++) all[i] = i;
    if (_i == ALL_VISUAL) {
        c.visual = all;
        c.n_visual = TOKENS;
    }
    coding_make(&c);
    ck_ok(c.status);
    ref_codes read = ref_codes_read(c.codes);
    double row[64], most = _i == OUTLIER ? 5e3 : _i == EQUAL || _i == ONE_ROW ? 0.02 : 0.5;
    for (int m = 0; m < 4; m++)
        for (int j = 0; j < c.n_visual; j++) {
            ref_codes_row(&read, m, j, row);
            for (int d = 0; d < dim; d++) {
                double want = (double)c.rows[(m * TOKENS + c.visual[j]) * dim + d];
                ck_assert_msg(fabs(row[d] - want) <= most, "matrix %d, row %d, %d: %g, not %g", m, j, d,
                              row[d], want);
            }
        }
    if (_i == EQUAL) ck_assert_int_eq(c.codes->dims, 0); /* the mean is all there is */
    if (_i == RANK_ONE) ck_assert_int_eq(c.codes->dims, 4);
    ref_codes_release(&read);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

START_TEST(rows_that_are_not_finite) {
    static const float bad[] = {NAN, INFINITY};
    if (suite_reduced() && _i) return;
    int dim = suite_reduced() ? 16 : 64, keys = _i / 2;
    coding_case c = random_case(dim, 100.0);
    c.rows[((3 - keys) * TOKENS + 30) * dim + 7] = bad[_i % 2];
    coding_make(&c);
    ck_assert_int_eq(c.status, VLCACHE_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), keys ? "1: keys that are" : "1: values that are"));
    ck_assert_ptr_null(c.codes);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* Of text no number is further than half a unit from what it was, and units are an eighth of their
 * group's largest, up to the next of 16 bits. dim 48 has half a group. */
START_TEST(text_in_four_bits) {
    int dim = _i ? 48 : 64;
    if (suite_reduced()) dim = 48 - 16 * !_i;
    coding_case c = random_case(dim, 60.0);
    for (int d = 0; d < dim; d++) c.rows[d] = 0.0f; /* of position 0, which is text */
    c.rows[dim + 1] = 3e38f;
    c.rows[2 * dim + 1] = -1e-30f;
    coding_make(&c);
    ck_ok(c.status);
    int texts = c.codes->texts, at[TOKENS];
    suite_download(c.coding->rows.text_at, at, (size_t)texts * sizeof *at);
    ck_assert_int_ge(texts, 3);
    ck_assert(at[0] == 0 && at[1] == 1 && at[2] == 2);
    ref_codes read = ref_codes_read(c.codes);
    for (int m = 0; m < 4; m++)
        for (int t = 0; t < texts; t++) {
            const float *was = c.rows + (size_t)(m * TOKENS + at[t]) * (size_t)dim;
            double row[64];
            ref_codes_text(&read, m, t, row);
            for (int d = 0; d < dim; d++) {
                double top = 8e-9;
                for (int e = d / 32 * 32; e < dim && e < d / 32 * 32 + 32; e++)
                    top = fmax(top, fabs((double)was[e]));
                ck_assert_double_le(fabs(row[d] - (double)was[d]), top / 16.0 * (1.0 + 1.0 / 127.0));
            }
        }
    ref_codes_release(&read);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* Of a prompt without a picture the first and the last rows are text, as many as take half of the budget; of
 * one with a picture only what is not its. */
START_TEST(ends_of_a_text) {
    static const struct {
        double bits, budget;
        int first, last;
    } cases[] = {{48.0, 1.0, 4, 16}, {0.0, 0.2, 4, 16}, {0.0, 0.045, 2, 8}, {0.0, 0.004, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int at[TOKENS], texts = cases[i].first + cases[i].last;
        coding_case c = random_case(16, cases[i].bits);
        c.budget = cases[i].budget;
        c.visual = NULL;
        c.n_visual = 0;
        coding_make(&c);
        ck_ok(c.status);
        ck_assert_int_eq(c.codes->texts, texts);
        ck_assert_int_eq(c.codes->rows, TOKENS - texts);
        if (texts) suite_download(c.coding->rows.text_at, at, (size_t)texts * sizeof *at);
        for (int t = 0; t < texts; t++) ck_assert_int_eq(at[t], t < cases[i].first ? t : TOKENS - texts + t);
        coding_release(&c);
        coding_free(&c);
    }
}
END_TEST

START_TEST(widths_of_heads_that_are_refused) {
    ck_fails(vlci_few_check(24), VLCACHE_E_UNSUPPORTED, "multiples of 16");
    ck_fails(vlci_few_check(272), VLCACHE_E_UNSUPPORTED, "up to 256");
    ck_fails(vlci_few_check(0), VLCACHE_E_UNSUPPORTED, "head_dim 0");
    ck_ok(vlci_few_check(80));
}
END_TEST

/* ---- what a layer's rows vary in ----------------------------------------------------------------------- */

/* Two kv heads of a layer beside another layer: dimensions up to 90% of the variance, all where the basis
 * does not hold that, none where nothing varies; bits of a row. */
START_TEST(spectrum_by_hand) {
    static const float energy[8][4] = {{9, 9, 9, 9}, {9, 9, 9, 9}, {9, 9, 9, 9},    {9, 9, 9, 9},
                                       {8, 1, 1, 0}, {4, 3, 2, 1}, {5, 0.5f, 0, 0}, {0, 0, 0, 0}};
    static const float total[8] = {36, 36, 36, 36, 10, 10, 10, 0};
    static const uint8_t bits[8][4] = {{0},          {0},          {0},          {0},
                                       {8, 4, 2, 0}, {2, 2, 0, 0}, {4, 0, 0, 0}, {0, 0, 0, 0}};
    vlcache_compress_layer layer = {.kept = 7};
    vlci_spectrum_layer(&(vlci_spectrum){2, 4, energy[0], total, bits[0]}, 1, &layer);
    ck_assert_double_eq(layer.dims[0], (2 + 4) / 2.0); /* keys: 8 + 1; 5.5 of 10 */
    ck_assert_double_eq(layer.dims[1], (3 + 0) / 2.0); /* values: 4 + 3 + 2; nothing */
    ck_assert_double_eq(layer.bits[0], (14 + 4) / 2.0);
    ck_assert_double_eq(layer.bits[1], (4 + 0) / 2.0);
    ck_assert_int_eq(layer.kept, 7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("code");
    TCase *all = tcase_create("code");
    suite_balance(all);
    tcase_add_test(all, spectrum_by_hand);
    tcase_add_test(all, bits_go_where_they_help);
    tcase_add_test(all, bits_pay_for_their_basis);
    tcase_add_test(all, bits_of_many);
    tcase_add_test(all, bits_as_one_by_one);
    tcase_add_loop_test(all, as_in_python, 0, GOLDENS);
    tcase_add_loop_test(all, heard_values_come_back, 0, 2);
    tcase_add_test(all, error_falls_with_bits);
    tcase_add_test(all, falling_spectra_need_fewer);
    tcase_add_loop_test(all, rungs_agree, 0, 2);
    tcase_add_loop_test(all, many_rows_are_sampled, 0, 4);
    tcase_add_loop_test(all, bytes_are_what_is_held, 0, 4);
    tcase_add_loop_test(all, heads_have_their_shares, 0, 10);
    tcase_add_loop_test(all, hostile_rows, 0, HOSTILE);
    tcase_add_loop_test(all, rows_that_are_not_finite, 0, 4);
    tcase_add_loop_test(all, text_in_four_bits, 0, 2);
    tcase_add_test(all, ends_of_a_text);
    tcase_add_test(all, widths_of_heads_that_are_refused);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
