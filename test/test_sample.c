/*
 * test_sample.c - argmax and sampling with 1, 16, 64 and 256 work-items a row against a sorting oracle: ties,
 * NaN, infinities, all equal, one spike, every cut, draws at both ends. A draw must fall into the oracle's
 * interval of its id, and be the same for every number of work-items.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute/sample.h"
#include "engine/step.h"
#include "ref/ref_sample.h"
#include "support/suite.h"

enum { ROWS = 9, MOST = 32000, TURNS = 3 };
static const int widths[] = {1, 17, 65, 2, 64, 257, 1000, MOST}; /* three when reduced */
static const int lanes[] = {1, 16, 64, 256};
enum { WIDTHS = sizeof widths / sizeof *widths, RUNGS = sizeof lanes / sizeof *lanes };
static uint64_t seed = 7;
static float logits[ROWS * MOST];

static int widths_tested(void) {
    return suite_reduced() ? 3 : WIDTHS;
}

static vlci_sample_kernels kernels; /* as force_lanes() opened them last */

/* A work-item gets few entries, as in use: a software driver ends its loops after 65,535 turns in all. */
static bool force_lanes(int rung, int n) {
    char choice[32];
    snprintf(choice, sizeof choice, "sample:%d", lanes[rung]);
    suite_force(choice);
    ck_ok(vlci_sample_open(suite_device(), &kernels));
    suite_force(NULL); /* what is open stays as it was opened */
    return n <= lanes[rung] * 2000 && (lanes[rung] <= 64 || !suite_reduced());
}

/* 0 plain, 1 ties, 2 all equal, 3 NaN and infinities below, 4 extreme, 5 zeros of both signs, 6 one spike,
 * 7 one value above many equal ones, 8 infinities above. */
static void fill(int n) {
    for (int i = 0; i < n; i++) {
        float x = suite_random(&seed);
        logits[i] = 8 * x;
        logits[n + i] = floorf(3 * x);
        logits[2 * n + i] = -1.5f;
        logits[3 * n + i] = i % 3 == 0 ? NAN : i % 3 == 1 ? 5 * x : -INFINITY;
        logits[4 * n + i] = x > 0.9f ? 3e38f * x : -3e38f * fabsf(x);
        logits[5 * n + i] = i % 2 ? 0.0f : -0.0f;
        logits[6 * n + i] = i == n / 3 ? 90 : x;
        logits[7 * n + i] = i == n - 1 ? 1 : -2;
        logits[8 * n + i] = i % 5 == 3 ? INFINITY : x;
    }
}

/* The same way for each row, with draws of its own. */
static cl_mem upload_draws(const vlci_sampling *how, const float *u, size_t rows) {
    vlci_draw *draws = malloc(rows * sizeof *draws);
    ck_assert_ptr_nonnull(draws);
    for (size_t r = 0; r < rows; r++) ck_ok(vlci_sample_draw(how, u[r], &draws[r]));
    cl_mem memory = suite_upload(draws, rows * sizeof *draws);
    free(draws);
    return memory;
}

START_TEST(argmax_takes_the_first_of_the_largest) {
    int n = widths[_i], got[ROWS];
    fill(n);
    cl_mem x = suite_upload(logits, sizeof *logits * (size_t)(ROWS * n));
    for (int rung = 0; rung < RUNGS; rung++) {
        if (!force_lanes(rung, n)) continue;
        cl_mem out = suite_poison(sizeof got);
        ck_ok(vlci_argmax_run(&kernels, x, ROWS, n, out));
        suite_download(out, got, sizeof got);
        for (int r = 0; r < ROWS; r++)
            ck_assert_msg(got[r] == ref_argmax(logits + r * n, n), "n %d, %d lanes, row %d: %d, expected %d",
                          n, lanes[rung], r, got[r], ref_argmax(logits + r * n, n));
        suite_release(out);
    }
    suite_release(x);
}
END_TEST

START_TEST(nothing_but_nan_or_minus_infinity) {
    float x[] = {NAN, NAN, NAN, NAN, -INFINITY, -INFINITY}, u[] = {0.9f, 0.9f};
    vlci_sampling ways[] = {{1, 0, 1}, {1, 2, 1}, {1, 0, 0.5f}, {1, 1, 0.5f}};
    int got[2];
    cl_mem in = suite_upload(x, sizeof x);
    for (int rung = 0; rung < RUNGS; rung++) {
        force_lanes(rung, 3);
        cl_mem out = suite_poison(sizeof got);
        ck_ok(vlci_argmax_run(&kernels, in, 2, 3, out));
        suite_download(out, got, sizeof got);
        ck_assert_int_eq(got[0], -1);
        ck_assert_int_eq(got[1], 1);
        for (int i = 0; i < 4; i++) {
            cl_mem draws = upload_draws(&ways[i], u, 2);
            ck_ok(vlci_sample_run(&kernels, in, 2, 3, draws, out));
            suite_release(draws);
            suite_download(out, got, sizeof got);
            ck_assert_int_eq(got[0], -1);
            ck_assert_int_eq(got[1], 2); /* the second of two that are as likely */
        }
        suite_release(out);
    }
    suite_release(in);
}
END_TEST

/* Weights are rounded: an id whose running sum is that close to the share may be on either side of the cut.
 */
static const double slack = 1e-5;

static bool plausible(const float *x, int n, const vlci_sampling *how, double top_p, float u, int id,
                      double *prob) {
    double low = 0;
    ref_probabilities(x, n, (double)how->temperature, how->top_k, top_p, prob);
    for (int i = 0; i < id; i++) low += prob[i];
    return prob[id] > 0 && (double)u > low - slack && (double)u < low + prob[id] + slack;
}

static void check_draw(const float *x, int n, const vlci_sampling *how, float u, int id, double *prob) {
    double p = (double)how->top_p;
    ck_assert_int_ge(id, 0);
    ck_assert_int_lt(id, n);
    bool good = plausible(x, n, how, p, u, id, prob) ||
                (p < 1 && (plausible(x, n, how, fmax(p - slack, 1e-12), u, id, prob) ||
                           plausible(x, n, how, fmin(p + slack, 1), u, id, prob)));
    ck_assert_msg(good, "n %d, T %g, top_k %d, top_p %g: u %g drew %d (%g)", n, (double)how->temperature,
                  how->top_k, p, (double)u, id, (double)x[id]);
}

static void sample_rows(cl_mem x, int n, const vlci_sampling *how, const float *u, int *got) {
    cl_mem draws = upload_draws(how, u, ROWS), out = suite_poison(ROWS * sizeof *got);
    ck_ok(vlci_sample_run(&kernels, x, ROWS, n, draws, out));
    suite_download(out, got, ROWS * sizeof *got);
    suite_release(draws);
    suite_release(out);
}

static void draw(cl_mem x, int n, vlci_sampling how) {
    static const float ends[] = {0.0f, 0.99999994f, 0.5f, 0.25f, 0.75f, 1e-30f};
    float u[ROWS];
    int got[ROWS], first[ROWS];
    double *prob = malloc(sizeof *prob * (size_t)n);
    for (int turn = 0; turn < (suite_reduced() ? 1 : TURNS); turn++) {
        for (int r = 0; r < ROWS; r++)
            u[r] = turn < 2 ? ends[(r + 3 * turn) % 6] : fabsf(suite_random(&seed)) * 0.99999994f;
        bool any = false;
        for (int rung = 0; rung < RUNGS; rung++) {
            if (!force_lanes(rung, n)) continue;
            sample_rows(x, n, &how, u, got);
            if (!any) memcpy(first, got, sizeof got);
            any = true;
            for (int r = 0; r < ROWS; r++)
                ck_assert_msg(got[r] == first[r],
                              "n %d, row %d, T %g, top_k %d, top_p %g: %d with %d lanes, %d", n, r,
                              (double)how.temperature, how.top_k, (double)how.top_p, got[r], lanes[rung],
                              first[r]);
        }
        for (int r = 0; r < ROWS; r++)
            if (n > 1 || r != 3) check_draw(logits + r * n, n, &how, u[r], first[r], prob);
    }
    free(prob);
}

START_TEST(draws_follow_the_distribution) {
    static const vlci_sampling ways[] = {{1.5f, 50, 0.905f},  {0.2f, 5, 1.0f},        {1.0f, 0, 1.0f},
                                         {1.5f, 0, 0.905f},   {1.0f, 1, 0.5f},        {0.7f, 50, 0.807f},
                                         {1.0f, 0, 1e-6f},    {1.0f, 0, 0.99999994f}, {1.0f, MOST + 1, 0.5f},
                                         {1e-3f, 0, 0.9999f}, {1e3f, 0, 0.3f},        {1e-38f, 3, 0.5f},
                                         {1e30f, 0, 1.0f},    {1e-40f, 0, 0.25f}};
    int n = widths[_i], used = suite_reduced() ? 4 : sizeof ways / sizeof *ways;
    fill(n);
    cl_mem x = suite_upload(logits, sizeof *logits * (size_t)(ROWS * n));
    for (int i = 0; i < used; i++) draw(x, n, ways[i]);
    vlci_sampling all = {1.0f, n, 1.0f}; /* top_k at n and beside it */
    if (!suite_reduced()) draw(x, n, all);
    if (n > 1) all.top_k = n - 1, draw(x, n, all);
    suite_release(x);
}
END_TEST

/* 100,000 draws from four ids: the shares come out. */
START_TEST(shares_come_out) {
    enum { DRAWS = 100000 };
    if (suite_reduced()) return;
    float x[] = {logf(0.5f), logf(0.125f), logf(0.25f), logf(0.125f)};
    float *rows = malloc(DRAWS * sizeof x), *u = malloc(DRAWS * sizeof *u);
    int *got = malloc(DRAWS * sizeof *got), count[4] = {0};
    for (int i = 0; i < DRAWS; i++) {
        memcpy(rows + 4 * i, x, sizeof x);
        u[i] = ((float)i + 0.5f) / DRAWS;
    }
    force_lanes(1, 4);
    cl_mem in = suite_upload(rows, DRAWS * sizeof x),
           draws = upload_draws(&(vlci_sampling){1, 0, 1}, u, DRAWS);
    cl_mem out = suite_poison(DRAWS * sizeof *got);
    ck_ok(vlci_sample_run(&kernels, in, DRAWS, 4, draws, out));
    suite_download(out, got, DRAWS * sizeof *got);
    for (int i = 0; i < DRAWS; i++) count[got[i]]++;
    for (int i = 0; i < 4; i++) ck_assert_int_le(abs(count[i] - (int)lround(DRAWS * exp((double)x[i]))), 2);
    suite_release(in);
    suite_release(draws);
    suite_release(out);
    free(rows);
    free(u);
    free(got);
}
END_TEST

/* Rows of one launch, each with options of its own, are drawn as if they were alone; temperature 0 takes the
 * largest. */
START_TEST(rows_have_options_of_their_own) {
    static const vlci_sampling ways[ROWS] = {{1, 0, 1},    {0, 0, 1},     {0.5f, 3, 1},
                                             {0, 5, 0.5f}, {1, 0, 0.5f},  {1.5f, 7, 0.9f},
                                             {0, 0, 1},    {1e30f, 0, 1}, {0.7f, 1, 1}};
    int n = 257, alone[ROWS], got[ROWS];
    vlci_draw draws[ROWS];
    fill(n);
    cl_mem x = suite_upload(logits, sizeof *logits * (size_t)(ROWS * n));
    for (int rung = 0; rung < RUNGS; rung++) {
        if (!force_lanes(rung, n)) continue;
        for (int r = 0; r < ROWS; r++) ck_ok(vlci_sample_draw(&ways[r], (float)r / ROWS, &draws[r]));
        cl_mem on_device = suite_upload(draws, sizeof draws), out = suite_poison(sizeof got);
        ck_ok(vlci_sample_run(&kernels, x, ROWS, n, on_device, out));
        suite_download(out, got, sizeof got);
        for (int r = 0; r < ROWS; r++) {
            float u[ROWS];
            for (int i = 0; i < ROWS; i++) u[i] = (float)r / ROWS;
            sample_rows(x, n, &ways[r], u, alone);
            ck_assert_int_eq(got[r], alone[r]);
            if (!(ways[r].temperature > 0)) ck_assert_int_eq(got[r], ref_argmax(logits + r * n, n));
        }
        suite_release(on_device);
        suite_release(out);
    }
    suite_release(x);
}
END_TEST

/* Capped logits stay below the cap, in their order; infinities come to it. */
START_TEST(caps_bend_logits) {
    static const float caps[] = {30.0f, 2.5f};
    for (int n = 1; n <= 257; n += 64)
        for (int c = 0; c < 2; c++) {
            double want[257];
            float got[258];
            force_lanes(0, n);
            fill(n);
            for (int i = 0; i < n; i++)
                want[i] = (double)caps[c] * tanh((double)logits[(c ? 8 : 0) * n + i] / (double)caps[c]);
            cl_mem memory = suite_poison(258 * sizeof(float));
            ck_ok(vlci_write(suite_device(), memory, 0, logits + (c ? 8 : 0) * n, (size_t)n * sizeof *got));
            ck_ok(vlci_logits_cap(&kernels, memory, (size_t)n, caps[c]));
            suite_download(memory, got, (size_t)(n + 1) * sizeof *got);
            suite_close("capped", got, want, (size_t)n, 1e-6, 2e-6);
            ck_assert(isnan(got[n])); /* nothing behind them is touched */
            suite_release(memory);
        }
}
END_TEST

START_TEST(refuses_impossible_options) {
    static const vlci_sampling ways[] = {{-1, 0, 1},   {1, -1, 1},  {1, 0, 0},
                                         {1, 0, 1.5f}, {NAN, 0, 1}, {1, 0, NAN}};
    vlci_draw draw;
    ck_ok(vlci_sample_open(suite_device(), &kernels));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        ck_fails(vlci_sample_draw(&ways[i], 0, &draw), VLCACHE_E_ARGUMENT, "top_p");
    ck_fails(vlci_sample_run(&kernels, NULL, 1, 0, NULL, NULL), VLCACHE_E_ARGUMENT, "logits");
    ck_fails(vlci_sample_run(&kernels, NULL, 1, 1 << 24, NULL, NULL), VLCACHE_E_ARGUMENT, "logits");
}
END_TEST

/* The best of a row: largest first, of equal ones the lower id, which came first; what comes after that, and
 * is no better than the last, is left out. */
START_TEST(the_best_are_sorted) {
    static const float row[] = {1, 3, 1, 3, 2, 1, 3, 2, 0, 3};
    static const int32_t want[] = {1, 3, 6, 9, 4};
    enum { SORTED = 5 };
    vlcache_logit best[SORTED + 1];
    for (int n = 1; n <= SORTED; n++) {
        int found = 0;
        memset(best, 0xff, sizeof best);
        for (int i = 0; i < 10; i++) vlci_step_insert(best, n, &found, (vlcache_logit){i, row[i]});
        ck_assert_int_eq(found, n);
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(best[i].token, want[i]);
            ck_assert(best[i].logit == row[want[i]]);
        }
        ck_assert_int_eq(best[n].token, -1); /* nothing behind them is touched */
    }
    int found = 0;
    for (int i = 0; i < 3; i++) vlci_step_insert(best, SORTED, &found, (vlcache_logit){i, 7});
    ck_assert(found == 3 && best[0].token == 0 && best[1].token == 1 && best[2].token == 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample");
    TCase *c = tcase_create("sample");
    tcase_add_loop_test(c, argmax_takes_the_first_of_the_largest, 0, widths_tested());
    tcase_add_test(c, nothing_but_nan_or_minus_infinity);
    tcase_add_loop_test(c, draws_follow_the_distribution, 0, widths_tested());
    tcase_add_test(c, shares_come_out);
    tcase_add_test(c, rows_have_options_of_their_own);
    tcase_add_test(c, caps_bend_logits);
    tcase_add_test(c, refuses_impossible_options);
    tcase_add_test(c, the_best_are_sorted);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
