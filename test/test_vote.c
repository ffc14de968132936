/*
 * test_vote.c - rows that all heads vote for: which they are, on the host and of a cache, what they are coded
 * to, and what that takes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/vote.h"
#include "ref/ref_codes.h"
#include "support/coding.h"

enum { TOKENS = 75, MOST = 200 };

/* ---- as the definition reads --------------------------------------------------------------------------- */

static double mean_of(const double *votes, const int *rows, int from, int until) {
    double sum = 0.0;
    for (int i = from; i < until; i++) sum += votes[rows[i]];
    return sum / (until - from);
}

/* The last ones, then the unit that is left with the largest mean, again and again: the first of equals. */
static int choose(const double *votes, const int *rows, int n, int unit, double share, int last, int *out) {
    int units = (n + unit - 1) / unit, wanted = (int)(share * units + 0.5), count = 0;
    bool taken[MOST] = {false};
    if (wanted < 1 && units) wanted = 1;
    for (int k = 0; k < wanted; k++) {
        int best = k < last ? units - 1 - k : -1;
        double most = -INFINITY;
        for (int u = 0; u < units && k >= last; u++) {
            int until = (u + 1) * unit < n ? (u + 1) * unit : n;
            double mean = mean_of(votes, rows, u * unit, until);
            if (taken[u] || mean <= most) continue;
            best = u;
            most = mean;
        }
        taken[best] = true;
    }
    for (int i = 0; i < n; i++)
        if (taken[i / unit]) out[count++] = i;
    return count;
}

START_TEST(as_one_by_one) {
    static const int units[] = {1, 16, 3};
    static const double shares[] = {1.0, 0.5, 0.001, 0.3, 0.97};
    uint64_t seed = 7;
    for (int round = 0; round < 300; round++) {
        int rows[MOST], out[MOST], want[MOST], n_out = -1, n = round % 11 == 10 ? 0 : 1 + round * 7 % 90;
        float votes[MOST];
        double same[MOST];
        for (int j = 0; j < MOST; j++) { /* many of them equal: ties */
            votes[j] = round % 3 ? (float)(int)(4.0f * suite_random(&seed)) : suite_random(&seed);
            same[j] = (double)votes[j];
        }
        for (int i = 0; i < n; i++) rows[i] = 2 * i + (round & 1);
        int unit = units[round % 3];
        double share = shares[round % 5];
        int last = round % 4 ? round % 13 : 0;
        ck_ok(vlci_vote_choose(votes, rows, n, unit, share, last, out, &n_out));
        ck_assert_int_eq(n_out, choose(same, rows, n, unit, share, last, want));
        ck_assert_msg(memcmp(out, want, (size_t)n_out * sizeof *out) == 0, "round %d", round);
    }
}
END_TEST

/* ---- of a cache ---------------------------------------------------------------------------------------- */

/* A picture of 60 rows behind 4 of text, and text behind it. */
static coding_case case_of(int run, double voted, int visual[TOKENS]) {
    coding_case c = {
        .layers = suite_reduced() ? 1 : 2, .kv_heads = 2, .group = 2, .head_dim = suite_reduced() ? 16 : 64};
    for (int i = 0; i < 60; i++) visual[i] = 4 + i;
    c.tokens = TOKENS;
    c.visual = visual;
    c.n_visual = 60;
    c.run = run;
    c.before = 3;
    c.dtype = VLCACHE_DTYPE_F32;
    c.bits = 4096;
    c.budget = 0.1;
    c.voted = voted;
    coding_fill(&c, 5 + (uint64_t)run);
    return c;
}

typedef struct rows_of {
    int visual[TOKENS], n, text[TOKENS], texts;
} rows_of;

/* What should be there: votes are sums over all heads, in double. */
static rows_of rows_wanted(const coding_case *c) {
    rows_of r = {.n = 0};
    double cut = c->yields ? (double)c->codes->texts / (TOKENS - c->n_visual) : 1.0;
    double votes[TOKENS] = {0};
    int text[TOKENS], texts = 0, at[TOKENS];
    for (int h = 0; h < c->layers * c->kv_heads; h++)
        for (int j = 0; j < TOKENS; j++) votes[j] += (double)c->score[h * TOKENS + j];
    for (int j = 0; j < TOKENS; j++)
        if (j < 4 || j >= 4 + c->n_visual) text[texts++] = j;
    bool of_text = c->candidates != VLCI_CANDIDATES_VISUAL, of_visual = c->candidates != VLCI_CANDIDATES_TEXT;
    r.n = choose(votes, c->visual, c->n_visual, c->run == 1 ? 16 : 1,
                 of_visual && !c->yields ? c->voted : 1.0, 0, at);
    for (int i = 0; i < r.n; i++) r.visual[i] = c->visual[at[i]];
    r.texts = choose(votes, text, texts, 1,
                     c->yields ? cut
                     : of_text ? c->voted
                               : 1.0,
                     8, at); /* none is decoded */
    for (int i = 0; i < r.texts; i++) r.text[i] = text[at[i]];
    return r;
}

static void check_row(const coding_case *c, int m, int row, const double *got, double most) {
    const float *want = c->rows + (size_t)(m * TOKENS + row) * (size_t)c->head_dim;
    for (int d = 0; d < c->head_dim; d++)
        ck_assert_msg(fabs(got[d] - (double)want[d]) <= most, "matrix %d, row %d, %d: %g, not %g", m, row, d,
                      got[d], (double)want[d]);
}

/* No number of text is further than half a unit, a sixteenth of the largest of its 32, from what it was; a
 * unit has 8 bits. */
static void check_text(const coding_case *c, int m, int row, const double *got) {
    const float *want = c->rows + (size_t)(m * TOKENS + row) * (size_t)c->head_dim;
    for (int d = 0; d < c->head_dim; d++) {
        double top = 0.0;
        for (int e = d / 32 * 32; e < c->head_dim && e < d / 32 * 32 + 32; e++)
            top = fmax(top, fabs((double)want[e]));
        ck_assert_msg(fabs(got[d] - (double)want[d]) <= top / 16.0 * (1.0 + 1.0 / 127.0),
                      "matrix %d, text row %d, %d: %g, not %g", m, row, d, got[d], (double)want[d]);
    }
}

/* Positions, and every row that is kept, brought back: turned by its own phase, with bits enough. */
static void check_rows_at(const coding_case *c, double most) {
    rows_of want = rows_wanted(c);
    int at[TOKENS], next = 0;
    double row[64];
    ck_assert_int_eq(c->codes->rows, want.n);
    ck_assert_int_eq(c->codes->texts, want.texts);
    ck_assert_int_eq(vlci_coding_kept(c->coding), want.n + want.texts);
    vlci_coding_positions(c->coding, at);
    for (int j = 0, v = 0, t = 0; j < TOKENS; j++) {
        bool there = (v < want.n && want.visual[v] == j) || (t < want.texts && want.text[t] == j);
        v += v < want.n && want.visual[v] == j;
        t += t < want.texts && want.text[t] == j;
        if (there) ck_assert_int_eq(at[next++], j);
    }
    ck_assert_int_eq(next, want.n + want.texts);
    ref_codes read = ref_codes_read(c->codes);
    for (int m = 0; m < 2 * c->layers * c->kv_heads; m++) {
        for (int i = 0; i < want.n; i++) {
            ref_codes_row(&read, m, i, row);
            check_row(c, m, want.visual[i], row, most);
        }
        for (int i = 0; i < want.texts; i++) {
            ref_codes_text(&read, m, i, row);
            check_text(c, m, want.text[i], row);
        }
    }
    ref_codes_release(&read);
}

static void check_rows(const coding_case *c) {
    check_rows_at(c, 0.05);
}

START_TEST(rows_of_a_cache) {
    static const int runs[] = {1, 16, VLCACHE_RUN_ALL, 32};
    static const vlci_candidates kinds[] = {VLCI_CANDIDATES_ALL, VLCI_CANDIDATES_VISUAL,
                                            VLCI_CANDIDATES_TEXT};
    if (suite_reduced() && _i != 0 && _i != 5) return;
    int visual[TOKENS];
    coding_case c = case_of(runs[_i % 4], _i < 4 ? 0.5 : _i < 8 ? 0.2 : 0.01, visual);
    c.candidates = kinds[_i / 4];
    coding_make(&c);
    ck_ok(c.status);
    check_rows(&c);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* No votes at all, and all alike: the first rows, every time. */
START_TEST(votes_that_say_nothing) {
    int visual[TOKENS];
    if (suite_reduced()) return;
    coding_case c = case_of(_i ? 16 : 1, 0.3, visual);
    for (int i = 0; i < 4 * TOKENS; i++) c.score[i] = _i ? 0.25f : 0.0f;
    coding_make(&c);
    ck_ok(c.status);
    check_rows(&c);
    ck_assert_int_eq(c.coding->listed[0], 4);
    coding_release(&c);
    coding_free(&c);
}
END_TEST

START_TEST(votes_that_are_not_finite) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    int visual[TOKENS];
    if (suite_reduced() && _i) return;
    coding_case c = case_of(1, 0.3, visual);
    c.score[TOKENS + 40] = bad[_i];
    coding_make(&c);
    ck_assert(c.status == VLCACHE_E_UNSUPPORTED && !c.codes &&
              strstr(vlcache_error_message(), "scores are not finite"));
    coding_release(&c);
    coding_free(&c);
}
END_TEST

/* The same bytes, shared out over fewer rows: never more than the budget, and more bits for each. */
START_TEST(bytes_of_fewer_rows) {
    static const double budgets[] = {0.1, 0.15, 0.2};
    int visual[TOKENS];
    double bits = 0.0, full = 4.0 * 2 * TOKENS * 64 * sizeof(float);
    if (suite_reduced()) return;
    for (int share = 4; share > 1; share--) {
        coding_case c = case_of(_i == 1 ? 1 : 16, share == 4 ? 0.0 : share / 4.0, visual);
        c.bits = 0;
        c.budget = budgets[_i];
        coding_make(&c);
        ck_ok(c.status);
        uint64_t bytes = vlci_codes_sum(&c.coding->bytes);
        ck_assert_uint_eq(bytes, vlci_codes_all_bytes(c.codes));
        ck_assert_double_le((double)bytes, budgets[_i] * full);
        ck_assert_double_ge(vlci_coding_bits(c.coding), bits);
        bits = vlci_coding_bits(c.coding);
        coding_release(&c);
        coding_free(&c);
    }
    ck_assert_double_gt(bits, 0.0);
}
END_TEST

/* Text that leaves codes less than a sixteenth of the budget is cut to half of what tables and means leave:
 * the bytes are kept to, and what stays is what is looked at most, word for word as it was held. Half of all
 * rows, where that is too much, is less text, and all of the picture. Where text leaves enough, all of it
 * stays. */
START_TEST(text_yields) {
    static const struct {
        int run;
        bool held;
        double voted, budget;
        bool cut;
    } ways[] = {{1, false, 0.0, 0.13, true}, {16, false, 0.0, 0.13, true}, {16, true, 0.0, 0.13, true},
                {1, false, 0.5, 0.12, true}, {1, false, 0.0, 0.3, false},  {16, true, 0.0, 0.3, false},
                {32, true, 0.0, 0.08, true}, {1, true, 0.0, 0.13, true}};
    int visual[TOKENS];
    coding_case c = case_of(ways[_i].run, ways[_i].voted, visual);
    if (suite_reduced() && _i != 2) goto done;
    c.n_visual = 20;
    c.bits = 0.0;
    c.dtype = VLCACHE_DTYPE_BF16;
    c.budget = ways[_i].budget;
    c.yields = true;
    c.held = ways[_i].held;
    if (suite_reduced()) c.budget = 0.22; /* means of few numbers weigh more */
    coding_make(&c);
    ck_ok(c.status);
    double row = 2.0 * c.head_dim * 2 * c.layers * c.kv_heads, all = c.budget * TOKENS * row;
    const vlci_codes_bytes *b = &c.coding->bytes;
    ck_assert_uint_eq(vlci_codes_sum(b), vlci_codes_all_bytes(c.codes));
    ck_assert_msg((double)vlci_codes_sum(b) <= all, "%g of %g bytes", (double)vlci_codes_sum(b), all);
    ck_assert_double_gt(vlci_coding_bits(c.coding), 0.0);
    ck_assert_int_eq(c.codes->rows, 20);
    ck_assert((c.codes->texts < TOKENS - 20) == ways[_i].cut);
    double left = all - (double)(b->means + b->tables), each = (double)b->text / c.codes->texts;
    if (ways[_i].cut) ck_assert_int_eq(c.codes->texts, (int)(left / 2 / each));
    c.voted = 1.0;
    check_rows_at(&c, INFINITY); /* of the picture there are few bits */
    coding_release(&c);
done:
    coding_free(&c);
}
END_TEST

/* Below 5% of the bytes "vlcache+" votes by itself, in turns of the budget that stand in README; not where
 * somebody says which rows there are to be, or their bits. */
START_TEST(where_nobody_asks) {
    static const struct {
        double budget, voted;
        vlci_candidates candidates;
    } wants[] = {{0.01, 0.5, VLCI_CANDIDATES_ALL},    {0.0249, 0.5, VLCI_CANDIDATES_ALL},
                 {0.025, 0.25, VLCI_CANDIDATES_TEXT}, {0.0499, 0.25, VLCI_CANDIDATES_TEXT},
                 {0.05, 0.0, VLCI_CANDIDATES_ALL},    {0.1, 0.0, VLCI_CANDIDATES_ALL}};
    static const char *const said[][2] = {{"selection", "per-head"},   {"selection", "per-prompt:1"},
                                          {"candidates", "all"},       {"storage", "coded:64"},
                                          {"allocation", "heads:1,2"}, {"storage", "exact"}};
    vlci_recipe r;
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT, all = o;
        o.policy = "vlcache+";
        o.budget = wants[i].budget;
        ck_ok(vlci_policy_read(&o, true, &r));
        ck_assert(r.voted == wants[i].voted && r.candidates == wants[i].candidates);
        ck_assert(r.votes_yield == (r.voted > 0.0) && r.text_yields);
        ck_ok(vlcache_compress_resolve(&o, &all)); /* what it comes to is as if it had been asked for */
        ck_ok(vlci_policy_read(&all, true, &r));
        ck_assert(r.voted == wants[i].voted && r.candidates == wants[i].candidates && !r.votes_yield &&
                  !r.text_yields);
        for (size_t k = 0; k < sizeof said / sizeof *said; k++) {
            vlcache_compress_options other = o;
            ck_ok(vlcache_compress_set(&other, said[k][0], said[k][1]));
            ck_ok(vlci_policy_read(&other, true, &r));
            ck_assert(r.voted == 0.0 && r.candidates == VLCI_CANDIDATES_ALL && !r.votes_yield);
            ck_assert(!r.text_yields);
        }
        o.policy = "centroids";
        ck_ok(vlci_policy_read(&o, true, &r));
        ck_assert(r.voted == 0.0 && r.candidates == VLCI_CANDIDATES_ALL && !r.votes_yield);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vote");
    TCase *all = tcase_create("vote");
    suite_balance(all);
    tcase_add_test(all, as_one_by_one);
    tcase_add_loop_test(all, rows_of_a_cache, 0, 12);
    tcase_add_loop_test(all, votes_that_say_nothing, 0, 2);
    tcase_add_loop_test(all, votes_that_are_not_finite, 0, 3);
    tcase_add_loop_test(all, bytes_of_fewer_rows, 0, 3);
    tcase_add_loop_test(all, text_yields, 0, 8);
    tcase_add_test(all, where_nobody_asks);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
