/*
 * test_metrics.c - the metrics of vlcache-eval: against a second implementation
 * (data/make_metric_goldens.py), against values computed by hand, at their edges, and by what must hold for
 * any text.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/align.h"
#include "eval/bootstrap.h"
#include "eval/cider.h"
#include "eval/letters.h"
#include "eval/metric.h"
#include "eval/words.h"
#include "support/suite.h"

enum { MOST = 16 };
static const double close_to = 1e-9;
static json_t *golden;

/* ---- goldens ------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    ck_assert_msg(text != NULL, "no \"%s\"", key);
    return text;
}

/* The texts of an array. */
static size_t texts_of(const json_t *object, const char *key, const char *texts[MOST]) {
    const json_t *array = json_object_get(object, key);
    ck_assert_uint_le(json_array_size(array), MOST);
    for (size_t i = 0; i < json_array_size(array); i++)
        texts[i] = json_string_value(json_array_get(array, i));
    return json_array_size(array);
}

static void check_answer(const json_t *c, metric m) {
    const char *references[MOST], *answer = text_of(c, "answer");
    size_t n = texts_of(c, "references", references);
    double want = json_number_value(json_object_get(c, metric_name(m)));
    double got = metric_score(m, answer, references, n);
    ck_assert_msg(fabs(got - want) <= close_to, "%s of \"%s\" against \"%s\"...: %.12g, expected %.12g",
                  metric_name(m), answer, references[0], got, want);
}

START_TEST(answers_equal_the_goldens) {
    const json_t *cases = json_object_get(golden, "answers"), *c;
    size_t i;
    ck_assert_uint_ge(json_array_size(cases), 60);
    json_array_foreach(cases, i, c) {
        check_answer(c, METRIC_ANLS);
        check_answer(c, METRIC_EXACT);
        check_answer(c, METRIC_RELAXED);
        check_answer(c, METRIC_CONTAINS);
    }
}
END_TEST

START_TEST(words_equal_the_goldens) {
    const json_t *cases = json_object_get(golden, "words"), *c;
    size_t i;
    ck_assert_uint_ge(json_array_size(cases), 30);
    json_array_foreach(cases, i, c) {
        const char *want[MOST], *text = text_of(c, "text");
        size_t n = texts_of(c, "words", want);
        words w;
        ck_assert(words_of(text, &w));
        ck_assert_msg(w.n == n, "\"%s\": %zu words, expected %zu", text, w.n, n);
        for (size_t k = 0; k < n; k++)
            ck_assert_msg(strcmp(w.text + w.start[k], want[k]) == 0, "\"%s\": \"%s\", expected \"%s\"", text,
                          w.text + w.start[k], want[k]);
        words_release(&w);
    }
}
END_TEST

/* The document frequencies of a task: an array of {"references"}. */
static void read_task(const json_t *task, cider *c) {
    const json_t *q;
    size_t i;
    ck_assert(cider_begin(c));
    json_array_foreach(task, i, q) {
        const char *references[MOST];
        size_t n = texts_of(q, "references", references);
        ck_assert(cider_add(c, references, n));
    }
}

static void check_scene(const cider *c, const json_t *q) {
    const char *references[MOST], *answers[MOST];
    size_t n = texts_of(q, "references", references), n_answers = texts_of(q, "answers", answers);
    for (size_t i = 0; i < n_answers; i++) {
        double want = json_number_value(json_array_get(json_object_get(q, "scores"), i));
        double got = cider_score(c, answers[i], references, n);
        ck_assert_msg(fabs(got - want) <= close_to,
                      "CIDEr-D of \"%s\" against \"%s\"...: %.12g, expected %.12g", answers[i], references[0],
                      got, want);
        ck_assert(got >= 0.0 && got <= 10.0 + close_to);
    }
}

START_TEST(cider_equals_the_goldens) {
    const json_t *tasks = json_object_get(golden, "cider"), *task, *q;
    size_t t, i;
    ck_assert_uint_ge(json_array_size(tasks), 4);
    json_array_foreach(tasks, t, task) {
        cider c;
        read_task(task, &c);
        json_array_foreach(task, i, q) check_scene(&c, q);
        cider_release(&c);
    }
}
END_TEST

/* ---- by hand ------------------------------------------------------------------------------------------- */

static const struct {
    metric metric;
    const char *answer, *reference;
    double score;
} known[] = {
    {METRIC_ANLS, "12.50", "12.50", 1.0},
    {METRIC_ANLS, "3 SEP 2038", "3 Sep 2038", 1.0},
    {METRIC_ANLS, "kitten", "sitting", 1.0 - 3.0 / 7.0}, /* the textbook's distance of 3 */
    {METRIC_ANLS, "ab", "ax", 0.5},                      /* 0.5 is not below the threshold */
    {METRIC_ANLS, "abc", "axy", 0.0},                    /* 1/3 is */
    {METRIC_ANLS, "na\u00efve", "naive", 0.8},           /* code points, not bytes: 1 - 1/5 */
    {METRIC_ANLS, "\u00c9COLE", "\u00e9cole", 1.0},
    {METRIC_ANLS, "ab   cd", "abcd", 1.0 - 1.0 / 7.0}, /* one space too many, over the seven given */
    {METRIC_ANLS, "", "a", 0.0},
    {METRIC_ANLS, "a", "", 0.0},
    {METRIC_ANLS, "", "", 1.0},
    {METRIC_EXACT, " Lime\n", "lime", 1.0},
    {METRIC_EXACT, "Lime.", "lime", 0.0},
    {METRIC_EXACT, "", "", 1.0},
    {METRIC_CONTAINS, "the total is 12.50 euros", "12.50", 1.0},
    {METRIC_CONTAINS, "12.50", "the total is 12.50", 0.0},
    {METRIC_CONTAINS, "anything", "", 1.0},
    {METRIC_RELAXED, "42", "40", 1.0}, /* 5% exactly */
    {METRIC_RELAXED, "42.01", "40", 0.0},
    {METRIC_RELAXED, "38", "40", 1.0},
    {METRIC_RELAXED, "40", "42.2", 0.0}, /* 5% of the reference, not of the answer */
    {METRIC_RELAXED, "0.0", "0", 0.0},   /* of 0 there is no 5%: a text */
    {METRIC_RELAXED, "0", "0", 1.0},
    {METRIC_RELAXED, "12%", "0.12", 1.0},
    {METRIC_RELAXED, "12 %", "0.12", 1.0},
    {METRIC_RELAXED, "Lime", "lime", 1.0},
    {METRIC_RELAXED, "1,000", "1000", 0.0},
};

/* Twenty letters, two a tenth. What is missing is missing where it stood, also behind a shift; an end that
 * was never written is missing as a whole. */
static const struct {
    const char *answer;
    double parts[ALIGN_PARTS];
} aligned[] = {{"abcdefghijklmnopqrst", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
               {"ABCDEFGHIJKLMNOPQRST", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
               {"bcdefghijklmnopqrst", {0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
               {"12abcdefgh9jklmnopqrst", {1, 1, 1, 1, 0.5, 1, 1, 1, 1, 1}},
               {"abcdefghij", {1, 1, 1, 1, 1, 0, 0, 0, 0, 0}},
               {"", {0}}};

START_TEST(letters_stand_in_their_place) {
    double parts[ALIGN_PARTS];
    ck_assert(align_parts(aligned[_i].answer, "abcdefghijklmnopqrst", parts));
    for (int p = 0; p < ALIGN_PARTS; p++)
        ck_assert_msg(parts[p] == aligned[_i].parts[p], "%s: %d: %g", aligned[_i].answer, p, parts[p]);
}
END_TEST

START_TEST(short_references_have_few_tenths) {
    double parts[ALIGN_PARTS];
    ck_assert(align_parts("ab", "ab", parts));
    for (int p = 0; p < ALIGN_PARTS; p++) ck_assert(p % 5 ? isnan(parts[p]) : parts[p] == 1.0);
    ck_assert(align_parts("ab", "", parts) && isnan(parts[0]));
}
END_TEST

START_TEST(circles_are_seen) {
    static const struct {
        const char *text;
        bool loops;
    } texts[] = {{"", false},
                 {"aaaaaaaaaaaaaaa", false},
                 {"aaaaaaaaaaaaaaaa", true},
                 {"a red star and a red star and a red star", false},
                 {"on and on and on and on and on and on and on and ", true},
                 {"Price: 1; Tax: 2; Price: 1; Tax: 2; Total: 3", false}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(align_loops(texts[i].text) == texts[i].loops, "%s", texts[i].text);
}
END_TEST

START_TEST(answers_equal_what_hands_compute) {
    double got = metric_score(known[_i].metric, known[_i].answer, &known[_i].reference, 1);
    ck_assert_msg(fabs(got - known[_i].score) <= close_to,
                  "%s of \"%s\" against \"%s\": %.12g, expected %.12g", metric_name(known[_i].metric),
                  known[_i].answer, known[_i].reference, got, known[_i].score);
}
END_TEST

/*
 * Two questions, references "a b" and "c d": every n-gram is in one of two, so its idf is log 2. The answer
 * "a b": words 1, pairs 1, no longer n-grams: 10 * (1 + 1 + 0 + 0) / 4 = 5. "a": cosine 1/sqrt(2) of the
 * words, times exp(-1 / 72). "a a": clipped to one a, so (1 * 1) / (2 * sqrt(2)) and the same length.
 */
START_TEST(cider_equals_what_hands_compute) {
    const char *first = "a b", *second = "c d";
    cider c;
    ck_assert(cider_begin(&c) && cider_add(&c, &first, 1) && cider_add(&c, &second, 1));
    ck_assert_double_eq_tol(cider_score(&c, "a b", &first, 1), 5.0, close_to);
    ck_assert_double_eq_tol(cider_score(&c, "A, B!", &first, 1), 5.0, close_to);
    ck_assert_double_eq_tol(cider_score(&c, "a", &first, 1), 2.5 / sqrt(2.0) * exp(-1.0 / 72.0), close_to);
    ck_assert_double_eq_tol(cider_score(&c, "a a", &first, 1), 2.5 / (2.0 * sqrt(2.0)), close_to);
    ck_assert_double_eq_tol(cider_score(&c, "c d", &first, 1), 0.0, close_to);
    ck_assert_double_eq_tol(cider_score(&c, "", &first, 1), 0.0, close_to);
    ck_assert_double_eq_tol(cider_score(&c, "...", &first, 1), 0.0, close_to);
    cider_release(&c);
}
END_TEST

/* Ten times the cosine with itself in all four orders. */
START_TEST(cider_of_the_only_reference_is_ten) {
    const char *first = "one red circle on the left", *second = "two blue squares to its right";
    cider c;
    ck_assert(cider_begin(&c) && cider_add(&c, &first, 1) && cider_add(&c, &second, 1));
    ck_assert_double_eq_tol(cider_score(&c, first, &first, 1), 10.0, close_to);
    ck_assert_double_eq_tol(cider_score(&c, "One RED circle, on the left.", &first, 1), 10.0, close_to);
    cider_release(&c);
    ck_assert(cider_begin(&c) && cider_add(&c, &first, 1)); /* alone, no n-gram tells anything */
    ck_assert_double_eq_tol(cider_score(&c, first, &first, 1), 0.0, close_to);
    cider_release(&c);
}
END_TEST

START_TEST(the_best_reference_counts) {
    const char *references[] = {"nothing of it", "Lime", "lemon"};
    for (int m = 0; m < METRICS; m++)
        if (m != METRIC_CIDER && m != METRIC_LIKELIHOOD) {
            ck_assert_double_eq_tol(metric_score(m, "lime", references, 3), 1.0, close_to);
            ck_assert_double_eq_tol(metric_score(m, "lime", references, 1), 0.0, close_to);
            ck_assert_double_eq_tol(metric_score(m, "lime", references, 0), 0.0, close_to);
        }
}
END_TEST

START_TEST(metrics_have_names) {
    for (int m = 0; m < METRICS; m++) {
        ck_assert_int_eq(metric_find(metric_name(m)), m);
        ck_assert_uint_gt(strlen(metric_title(m)), 0);
    }
    ck_assert_int_eq(metric_find("ANLS"), METRICS);
    ck_assert_int_eq(metric_find(""), METRICS);
}
END_TEST

/* ---- any text ------------------------------------------------------------------------------------------ */

/* A short text of letters, digits, signs, spaces, letters of several bytes, and bytes that are no UTF-8. */
static void random_text(uint64_t *state, char text[64]) {
    static const char *const pieces[] = {"a",      "b",      "B",          "1",    "2",       ".", "%",
                                         "-",      " ",      "  ",         "\n",   "'",       "(", "\u00e9",
                                         "\u00c9", "\u65e5", "\U0001f600", "\xff", "\xe2\x82"};
    size_t n = (size_t)(8.0f * (1.0f + suite_random(state)) / 2.0f);
    text[0] = 0;
    for (size_t i = 0; i <= n; i++) {
        size_t pick = (size_t)((1.0f + suite_random(state)) / 2.0f * (float)(sizeof pieces / sizeof *pieces));
        strcat(text, pieces[pick]);
    }
}

START_TEST(properties_hold_for_any_text) {
    static double (*const symmetric[])(const char *, const char *) = {metric_anls, metric_exact};
    uint64_t state = 5;
    for (int i = 0; i < 3000; i++) {
        char a[64], b[64];
        const char *one = b;
        random_text(&state, a);
        random_text(&state, b);
        for (size_t s = 0; s < 2; s++) ck_assert_double_eq(symmetric[s](a, b), symmetric[s](b, a));
        for (int m = 0; m < METRICS; m++) {
            const char *same = a;
            if (m == METRIC_CIDER || m == METRIC_LIKELIHOOD) continue;
            double score = metric_score(m, a, &one, 1);
            ck_assert(score >= 0.0 && score <= 1.0);
            ck_assert_double_eq(metric_score(m, a, &same, 1), 1.0);
        }
        ck_assert(metric_exact(a, b) <= metric_anls(a, b)); /* equal texts are the best of each */
        ck_assert(metric_exact(a, b) <= metric_contains(a, b));
    }
}
END_TEST

/* Levenshtein is a metric; a byte that is not UTF-8 is a letter of its own. */
START_TEST(distances_are_distances) {
    uint64_t state = 6;
    for (int i = 0; i < 1000; i++) {
        char text[3][64];
        letters l[3];
        size_t d[3];
        for (int k = 0; k < 3; k++) {
            random_text(&state, text[k]);
            ck_assert(letters_of(text[k], &l[k]));
        }
        for (int k = 0; k < 3; k++) d[k] = letters_distance(&l[k], &l[(k + 1) % 3]);
        for (int k = 0; k < 3; k++) {
            size_t longer = l[k].n > l[(k + 1) % 3].n ? l[k].n : l[(k + 1) % 3].n;
            ck_assert_uint_le(d[k], d[(k + 1) % 3] + d[(k + 2) % 3]);
            ck_assert_uint_le(d[k], longer);
            ck_assert(letters_equal(&l[k], &l[(k + 1) % 3]) == (d[k] == 0));
            ck_assert_uint_eq(letters_distance(&l[(k + 1) % 3], &l[k]), d[k]);
        }
        for (int k = 0; k < 3; k++) letters_release(&l[k]);
    }
}
END_TEST

/* Whatever is asked, CIDEr-D lies from 0 to 10 and is that of the text without its signs. */
START_TEST(cider_is_bounded_for_any_text) {
    const char *references[] = {"a b 1 2 b a", "\u00e9 a b"}, *other = "\u65e5 1";
    uint64_t state = 7;
    cider c;
    ck_assert(cider_begin(&c) && cider_add(&c, references, 2) && cider_add(&c, &other, 1));
    for (int i = 0; i < 1000; i++) {
        char text[64], dressed[72];
        random_text(&state, text);
        double score = cider_score(&c, text, references, 2);
        ck_assert(score >= 0.0 && score <= 10.0 + close_to);
        snprintf(dressed, sizeof dressed, "\" %s !?", text);
        ck_assert_double_eq(cider_score(&c, dressed, references, 2), score);
    }
    cider_release(&c);
}
END_TEST

/* ---- intervals ----------------------------------------------------------------------------------------- */

/* A sheet of `rows` variants over n questions. */
typedef struct table {
    group group;
    sheet sheet;
    size_t rows;
} table;

static void make_table(const json_t *rows, table *t) {
    *t = (table){.rows = json_array_size(rows)};
    sheet *s = &t->sheet;
    s->group = &t->group;
    s->n = json_array_size(json_array_get(rows, 0));
    s->scores = calloc(t->rows * s->n, sizeof *s->scores);
    s->cells = calloc(t->rows, sizeof *s->cells);
    for (size_t v = 0; v < t->rows; v++)
        for (size_t i = 0; i < s->n; i++)
            s->scores[v * s->n + i] = json_number_value(json_array_get(json_array_get(rows, v), i));
}

static void release_table(table *t) {
    free(t->sheet.scores);
    free(t->sheet.cells);
}

static void check_estimate(const char *what, const estimate *got, const json_t *want) {
    const double values[] = {got->mean, got->low, got->high};
    for (size_t i = 0; i < 3; i++) {
        double expected = json_number_value(json_array_get(want, i));
        if (json_is_null(want))
            ck_assert_msg(isnan(values[i]), "%s[%zu]: %g, expected none", what, i, values[i]);
        else
            ck_assert_msg(fabs(values[i] - expected) <= close_to, "%s[%zu]: %.12g, expected %.12g", what, i,
                          values[i], expected);
    }
}

START_TEST(intervals_equal_the_goldens) {
    const json_t *cases = json_object_get(golden, "bootstrap"), *c, *want;
    size_t i, v;
    ck_assert_uint_ge(json_array_size(cases), 5);
    json_array_foreach(cases, i, c) {
        table t;
        make_table(json_object_get(c, "rows"), &t);
        uint64_t seed = strtoull(text_of(c, "seed"), NULL, 10);
        ck_assert(bootstrap(&t.sheet, t.rows, seed));
        json_array_foreach(json_object_get(c, "cells"), v, want) {
            check_estimate("score", &t.sheet.cells[v].score, json_object_get(want, "score"));
            check_estimate("retention", &t.sheet.cells[v].retention, json_object_get(want, "retention"));
        }
        release_table(&t);
    }
}
END_TEST

static json_t *random_rows(uint64_t seed, size_t rows, size_t n) {
    json_t *all = json_array();
    for (size_t v = 0; v < rows; v++) {
        json_t *row = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(row, json_real((1.0 + (double)suite_random(&seed)) / 2.0));
        json_array_append_new(all, row);
    }
    return all;
}

static void check_contains(const estimate *e) {
    ck_assert_msg(e->low <= e->mean && e->mean <= e->high, "%g is not from %g to %g", e->mean, e->low,
                  e->high);
}

START_TEST(intervals_contain_the_mean) {
    for (size_t n = 2; n <= 64; n *= 2) {
        json_t *rows = random_rows(n, 3, n);
        table t;
        make_table(rows, &t);
        ck_assert(bootstrap(&t.sheet, t.rows, 9));
        for (size_t v = 0; v < t.rows; v++) {
            check_contains(&t.sheet.cells[v].score);
            check_contains(&t.sheet.cells[v].retention);
        }
        const estimate *full = &t.sheet.cells[0].retention; /* of itself: draws are paired */
        ck_assert(full->mean == 1.0 && full->low == 1.0 && full->high == 1.0);
        release_table(&t);
        json_decref(rows);
    }
}
END_TEST

START_TEST(intervals_follow_from_the_seed) {
    json_t *rows = random_rows(1, 2, 20);
    table a, b, other;
    make_table(rows, &a);
    make_table(rows, &b);
    make_table(rows, &other);
    ck_assert(bootstrap(&a.sheet, 2, 11) && bootstrap(&b.sheet, 2, 11) && bootstrap(&other.sheet, 2, 12));
    ck_assert(memcmp(a.sheet.cells, b.sheet.cells, 2 * sizeof(cell)) == 0);
    ck_assert(a.sheet.cells[1].score.low != other.sheet.cells[1].score.low);
    ck_assert(a.sheet.cells[1].score.mean == other.sheet.cells[1].score.mean);
    release_table(&a);
    release_table(&b);
    release_table(&other);
    json_decref(rows);
}
END_TEST

/* One question tells nothing of the others: an interval of no width. None at all: nothing to say. */
START_TEST(few_questions_have_intervals) {
    json_t *rows = json_pack("[[f], [f]]", 0.5, 0.25), *none = json_pack("[[], []]");
    table t;
    make_table(rows, &t);
    ck_assert(bootstrap(&t.sheet, 2, 0));
    const cell *c = &t.sheet.cells[1];
    ck_assert(c->score.mean == 0.25 && c->score.low == 0.25 && c->score.high == 0.25);
    ck_assert(c->retention.mean == 0.5 && c->retention.low == 0.5 && c->retention.high == 0.5);
    release_table(&t);
    make_table(none, &t);
    ck_assert(bootstrap(&t.sheet, 2, 0));
    release_table(&t);
    json_decref(rows);
    json_decref(none);
}
END_TEST

/* By hand: deviations (-1.5, -.5, .5, 1.5) and (-1, 1, -1, 1): r = 2 / sqrt(5 * 4). */
START_TEST(correlations_have_intervals) {
    const double x[] = {1, 2, 3, 4}, y[] = {0, 2, 0, 2}, up[] = {2, 4, 6, 8}, down[] = {4, 3, 2, 1};
    const double flat[] = {1, 1, 1, 1};
    estimate e = correlation(x, y, 4);
    ck_assert_double_eq_tol(e.mean, 2.0 / sqrt(20.0), close_to);
    ck_assert_double_eq_tol(e.low, tanh(atanh(e.mean) - 1.959964), close_to);
    ck_assert_double_eq_tol(e.high, tanh(atanh(e.mean) + 1.959964), close_to);
    ck_assert_double_eq_tol(correlation(x, up, 4).low, 1.0, 1e-6);
    ck_assert_double_eq_tol(correlation(x, down, 4).high, -1.0, 1e-6);
    ck_assert(isnan(correlation(x, flat, 4).mean) && isnan(correlation(x, up, 3).mean));
    ck_assert(isnan(correlation(x, up, 0).mean));
    const double near[] = {1, 1 + 2e-16, 1 - 1e-16, 1}; /* equal but for rounding */
    ck_assert(isnan(correlation(x, near, 4).mean) && isnan(correlation(near, x, 4).mean));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("metrics");
    TCase *all = tcase_create("metrics");
    golden = json_load_file(VLCACHE_TEST_DATA "/metrics/golden.json", 0, NULL);
    tcase_add_test(all, answers_equal_the_goldens);
    tcase_add_test(all, words_equal_the_goldens);
    tcase_add_test(all, cider_equals_the_goldens);
    tcase_add_loop_test(all, answers_equal_what_hands_compute, 0, sizeof known / sizeof known[0]);
    tcase_add_loop_test(all, letters_stand_in_their_place, 0, sizeof aligned / sizeof *aligned);
    tcase_add_test(all, short_references_have_few_tenths);
    tcase_add_test(all, circles_are_seen);
    tcase_add_test(all, cider_equals_what_hands_compute);
    tcase_add_test(all, cider_of_the_only_reference_is_ten);
    tcase_add_test(all, the_best_reference_counts);
    tcase_add_test(all, metrics_have_names);
    tcase_add_test(all, properties_hold_for_any_text);
    tcase_add_test(all, distances_are_distances);
    tcase_add_test(all, cider_is_bounded_for_any_text);
    tcase_add_test(all, intervals_equal_the_goldens);
    tcase_add_test(all, intervals_contain_the_mean);
    tcase_add_test(all, intervals_follow_from_the_seed);
    tcase_add_test(all, few_questions_have_intervals);
    tcase_add_test(all, correlations_have_intervals);
    suite_add_tcase(suite, all);
    int code = suite_run(suite);
    json_decref(golden);
    return code;
}
