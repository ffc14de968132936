/*
 * test_study.c - the studies of vlcache-eval: what they ask, what their sections say, budgets that are fitted
 * and read again, likelihoods of told answers, and names that are none.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"

enum { LAYERS = 12 };
static char data[512], html_path[512], fit_path[512], kept_path[512];
static process run;
static char *html, *fitted;

#define TOLD                                                                                                 \
    "\", \"answers\": [\" Mon\"], \"metric\": \"likelihood\", \"image\": \"" SAMPLES "pages-0.png\"}\n"
#define TURN(question, answer) "{\"question\": \"" question "\", \"answers\": [\"" answer "\"]}"

/* A rare question beside a common one, four turns, and an answer that is told. */
static const char asked[] =
    ASKED("r", "pages-0.png", "What is the heading?", "Mon", "anls") ", \"task\": \"rare-words\", \"form\": "
    "\"^[A-Z][a-z]+$\"}\n"
    ASKED("c", "pages-2.png", "What is the Due date?", "3 Sep 2038", "anls") ", \"task\": \"common-words\"}\n"
    "{\"task\": \"told\", \"question\": \"What is the heading?" TOLD
    "{\"task\": \"talk\", \"image\": \"" SAMPLES "captions-1.png\", \"metric\": \"anls\", \"turns\": ["
    TURN("What is in the center?", "a black square") ", " TURN("Is there a yellow diamond?", "no") ", "
    TURN("What is in the center?", "a black square") ", " TURN("Is there a yellow diamond?", "no") "]}\n";

static void ask_all(void) {
    tool_warm_up();
    scratch_text("study.jsonl", asked);
    in_scratch("study.jsonl", data);
    in_scratch("study.html", html_path);
    in_scratch("study.shares", fit_path);
    in_scratch("study.results", kept_path);
    RUN_EVAL(&run, "--data", data, "--policy", "h2o,vlcache+", "--budget", ".1", "-n", "8", "--study",
             "layers,spectrum,visual,probe", "--fit", fit_path, "--report", html_path, "--results", kept_path,
             "-o", "json");
    ended(&run, 0);
    html = slurp(html_path);
    fitted = slurp(fit_path);
}

static void forget_all(void) {
    process_release(&run);
    free(html);
    free(fitted);
    scratch_clean();
}

/* ---- what is asked ------------------------------------------------------------------------------------- */

/* full, h2o, coded; all layers small, each alone, all but each; coded in fine bits; vlcache with candidates
 * of both kinds, visual, text. */
START_TEST(ways_are_as_documented) {
    json_t *all = json_loads(run.out, 0, NULL), *way;
    const json_t *header = get(all, "run", JSON_OBJECT), *ways = get(header, "variants", JSON_ARRAY);
    size_t i, alone = 0, but = 0;
    ck_assert_str_eq(json_string_value(get(header, "studies", JSON_STRING)), "probe,layers,spectrum,visual");
    ck_assert_uint_eq(json_array_size(ways), 3 + 1 + 2 * LAYERS + 1 + 3);
    json_array_foreach(ways, i, way) {
        const char *label = json_string_value(get(way, "label", JSON_STRING));
        double budget = json_number_value(json_object_get(way, "budget"));
        if (strstr(label, " alone")) {
            alone++;
            ck_assert_double_eq_tol(budget, (LAYERS - 1 + 0.1) / LAYERS, 1e-9);
        }
        if (strstr(label, "all but")) {
            but++;
            ck_assert_double_eq_tol(budget, (1 + 0.1 * (LAYERS - 1)) / LAYERS, 1e-9);
        }
    }
    ck_assert(alone == LAYERS && but == LAYERS);
    json_decref(all);
}
END_TEST

/* Rows of the record: a layer alone is small, the others whole; and the other way round. */
START_TEST(layers_are_what_they_are_called) {
    char *text = slurp(kept_path);
    json_t *record = record_of(text, 1);
    int tokens = whole(get(record, "prompt", JSON_OBJECT), "tokens");
    for (size_t l = 0; l < LAYERS; l++)
        for (int kind = 0; kind < 2; kind++) {
            const json_t *rows = json_object_get(run_of(record, 4 + 2 * l + (size_t)kind), "layers");
            for (size_t k = 0; k < LAYERS; k++) {
                bool small = (k == l) == (kind == 0);
                json_int_t want = small ? (json_int_t)floor(0.1 * tokens + 0.5) : tokens;
                ck_assert_int_eq(json_integer_value(json_array_get(rows, k)), want);
            }
        }
    json_decref(record);
    free(text);
}
END_TEST

/* Rows of the record: all of one kind beside a tenth of the other. */
START_TEST(rows_of_one_kind_may_go) {
    char *text = slurp(kept_path);
    json_t *record = record_of(text, 1);
    const json_t *prompt = get(record, "prompt", JSON_OBJECT);
    double tokens = whole(prompt, "tokens"), visual = whole(prompt, "visual");
    const double want[] = {tokens / 10, tokens - visual + visual / 10, visual + (tokens - visual) / 10};
    for (size_t i = 0; i < 3; i++) {
        const json_t *rows = json_object_get(run_of(record, 4 + 2 * LAYERS + 1 + i), "layers");
        double sum = 0.0; /* budgets follow sparsity, which no layer has in common with another */
        for (size_t l = 0; l < LAYERS; l++) sum += json_number_value(json_array_get(rows, l));
        ck_assert_msg(fabs(sum / LAYERS - want[i]) <= 1.0, "%zu: %g rows a layer, want %g", i, sum / LAYERS,
                      want[i]);
    }
    json_decref(record);
    free(text);
}
END_TEST

/* ---- what is told -------------------------------------------------------------------------------------- */

START_TEST(sections_stand_there) {
    static const char *const parts[] = {"<section id=\"positions\"", "<section id=\"coherence\"",
                                        "<section id=\"layers\"",    "<section id=\"spectrum\"",
                                        "<section id=\"visual\"",    "<section id=\"rare\"",
                                        "id=\"chart-layers\"",       "id=\"chart-spectrum-bits\"",
                                        "id=\"chart-visual\"",       "id=\"chart-positions-3\"",
                                        "id=\"layers-table\"",       "id=\"rare-table\"",
                                        "id=\"chart-rare\"",         "1 of 1, 1 of 1",
                                        "id=\"kinds-table\"",        "id=\"chart-visual-bits\""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(html, parts[i]) != NULL, "no %s", parts[i]);
    static const char *const absent[] = {"id=\"ablation\"", "id=\"threshold\"", "\"nan", ">nan", ">inf"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        ck_assert_msg(strstr(html, absent[i]) == NULL, "has %s", absent[i]);
}
END_TEST

static double of_layer(const json_t *way, const char *what, size_t layer) {
    return json_number_value(json_array_get(get(way, what, JSON_ARRAY), layer));
}

/* Of rows as they were bits are as rows are; a coded cache has all rows, and of its bits text, 288 a row of
 * 64 numbers and its two scales, has more than its share. */
static void check_visual_bits(const json_t *record, const json_t *h2o, const json_t *coded) {
    const json_t *prompt = get(record, "prompt", JSON_OBJECT);
    double visual = whole(prompt, "visual"), text = whole(prompt, "tokens") - visual;
    for (size_t l = 0; l < LAYERS; l++) {
        const json_t *pair = json_array_get(get(coded, "bits", JSON_ARRAY), l);
        double bits = json_number_value(json_array_get(pair, 0)) + json_number_value(json_array_get(pair, 1));
        double want = visual * bits / (visual * bits + text * 2 * 288);
        ck_assert_double_eq_tol(of_layer(h2o, "visual_bits", l), of_layer(h2o, "visual", l), 1e-9);
        ck_assert_double_eq_tol(of_layer(coded, "visual", l), visual / (visual + text), 1e-5);
        ck_assert_double_eq_tol(of_layer(coded, "visual_bits", l), want, 1e-5);
        ck_assert_double_lt(of_layer(coded, "visual_bits", l), of_layer(coded, "visual", l));
    }
}

/* Dimensions are from 1 to those of a head, bits those of the widths; what is kept has a visual share. */
START_TEST(records_hold_what_was_measured) {
    char *text = slurp(kept_path);
    json_t *record = record_of(text, 1);
    const json_t *fine = run_of(record, 4 + 2 * LAYERS), *coded = run_of(record, 2), *h2o = run_of(record, 1);
    for (size_t l = 0; l < LAYERS; l++)
        for (size_t kind = 0; kind < 2; kind++) {
            const json_t *dims = json_array_get(json_array_get(json_object_get(fine, "dims"), l), kind);
            const json_t *bits = json_array_get(json_array_get(json_object_get(coded, "bits"), l), kind);
            ck_assert(json_number_value(dims) >= 1.0 && json_number_value(dims) <= 64.0);
            ck_assert(json_number_value(bits) >= 0.0 && json_number_value(bits) <= 8.0 * 64.0);
        }
    ck_assert_ptr_null(json_object_get(h2o, "dims"));
    check_visual_bits(record, h2o, coded);
    const json_t *visual = get(h2o, "visual", JSON_ARRAY), *tenths = get(h2o, "hit_tenth", JSON_ARRAY);
    ck_assert_uint_eq(json_array_size(visual), LAYERS);
    ck_assert_uint_eq(json_array_size(tenths), 10);
    for (size_t l = 0; l < LAYERS; l++) {
        double share = json_number_value(json_array_get(visual, l));
        ck_assert(share > 0.0 && share < 1.0);
    }
    json_decref(record);
    free(text);
}
END_TEST

/* Of each turn of the talk: all rows are hit where all are kept, some where a tenth is. */
START_TEST(talks_have_hit_rates) {
    char *text = slurp(kept_path);
    json_t *record = record_of(text, 4);
    for (size_t way = 0; way < 3; way++) {
        const json_t *hits = get(run_of(record, way), "hit_turn", JSON_ARRAY), *hit;
        size_t turn;
        ck_assert_uint_eq(json_array_size(hits), 4);
        json_array_foreach(hits, turn, hit) {
            double share = json_number_value(hit);
            ck_assert_msg(way == 1 ? share > 0.0 && share < 0.7 : share == 1.0, "%zu: %g", way, share);
        }
    }
    ck_assert_ptr_null(json_object_get(run_of(record, 0), "hit"));
    ck_assert_ptr_nonnull(strstr(html, "id=\"chart-positions-hits-3\""));
    json_decref(record);
    free(text);
}
END_TEST

/* The full cache finds the right answer likely, and told answers have losses of their own. */
START_TEST(told_answers_are_likely) {
    char *text = slurp(kept_path);
    json_t *record = record_of(text, 3);
    double full = json_number_value(json_array_get(json_object_get(run_of(record, 0), "loss"), 0));
    double small = json_number_value(json_array_get(json_object_get(run_of(record, 1), "loss"), 0));
    ck_assert_msg(full >= 0.0 && full < 0.1 && small != full, "%g, %g", full, small);
    ck_assert_ptr_null(json_object_get(run_of(record, 0), "hit"));
    json_t *all = json_loads(run.out, 0, NULL);
    const json_t *group = json_array_get(json_object_get(all, "groups"), 2);
    const json_t *score = json_object_get(json_array_get(json_object_get(group, "cells"), 0), "score");
    ck_assert_double_eq_tol(json_number_value(json_object_get(score, "mean")), exp(-full), 1e-6);
    json_decref(all);
    json_decref(record);
    free(text);
}
END_TEST

/* ---- budgets that are fitted --------------------------------------------------------------------------- */

/* A share for each layer, at least half an even one, their mean 1; and it can be asked for. */
START_TEST(fitted_budgets_load) {
    char policy[1024];
    double sum = 0.0, least = 9.0;
    int n = 0;
    ck_assert_msg(strncmp(fitted, "layers:", 7) == 0, "%s", fitted);
    for (char *at = fitted + 6; *at == ':' || *at == ','; n++) {
        double share = strtod(at + 1, &at);
        sum += share;
        least = fmin(least, share);
    }
    ck_assert_int_eq(n, LAYERS);
    ck_assert_double_eq_tol(sum / LAYERS, 1.0, 1e-3);
    ck_assert_double_ge(least, 0.4999);
    process p;
    snprintf(policy, sizeof policy, "vlcache@allocation=layers:%s", fit_path);
    RUN_EVAL(&p, "--data", data, "--limit", "1", "-n", "2", "--policy", policy, "--budget", ".1", "-o",
             "json");
    ended(&p, 0);
    json_t *all = json_loads(p.out, 0, NULL);
    const json_t *header = json_object_get(all, "run");
    const json_t *way = json_array_get(json_object_get(header, "variants"), 1);
    ck_assert_msg(strncmp(json_string_value(get(way, "allocation", JSON_STRING)), "layers:", 7) == 0, "%s",
                  p.out);
    json_decref(all);
    process_release(&p);
}
END_TEST

/* Shares of each kv head, their mean 1, of a study that is asked for alone; and they can be asked for, by
 * those who ask for heads alone. */
START_TEST(fitted_bits_load) {
    char policy[1024];
    double sum = 0.0;
    int n = 0;
    char *heads = strstr(fitted, "\nheads:");
    ck_assert_msg(heads != NULL, "%s", fitted);
    for (char *at = heads + 6; *at == ':' || *at == ','; n++) sum += strtod(at + 1, &at);
    ck_assert_int_eq(n, 2 * LAYERS);
    ck_assert_double_eq_tol(sum / n, 1.0, 1e-3);
    process p;
    snprintf(policy, sizeof policy, "vlcache+@allocation=heads:%s", fit_path);
    RUN_EVAL(&p, "--data", data, "--limit", "1", "-n", "2", "--policy", policy, "--budget", ".1", "-o",
             "json");
    ended(&p, 0);
    char *told = strstr(p.out, "\"allocation\": \"heads:");
    ck_assert_msg(told != NULL, "%s", p.out);
    ck_assert(strtod(told + 21, NULL) > 0.0 &&
              fabs(strtod(told + 21, NULL) - strtod(heads + 7, NULL)) < 1e-9);
    process_release(&p);
    char alone[512];
    in_scratch("heads.shares", alone);
    RUN_EVAL(&p, "--data", data, "--limit", "1", "-n", "2", "--policy", "h2o", "--budget", ".1", "--study",
             "spectrum", "--fit", alone);
    ended(&p, 0);
    char *only = slurp(alone);
    ck_assert_msg(strncmp(only, "heads:", 6) == 0 && !strstr(only, "layers"), "%s", only);
    free(only);
    process_release(&p);
}
END_TEST

/* The same results give the same bytes, and a study that they do not hold is refused. */
START_TEST(results_remember) {
    process p;
    RUN_EVAL(&p, "--data", data, "--policy", "h2o,vlcache+", "--budget", ".1", "-n", "8", "--results",
             kept_path, "--report", html_path, "-o", "json");
    ended(&p, 0);
    ck_assert_str_eq(p.out, run.out);
    process_release(&p);
    RUN_EVAL(&p, "--data", data, "--policy", "h2o,vlcache+", "--budget", ".1", "-n", "8", "--results",
             kept_path, "--study", "threshold");
    expect(&p, 1, "were begun with \"probe,layers,spectrum,visual\"");
    process_release(&p);
}
END_TEST

/* What is not all shares is refused, not read as far as it goes. */
START_TEST(spoiled_budgets_are_refused) {
    static const char *const behind[] = {"e-1", "x", ",", "\n1,1", " 1"};
    char path[512], text[256], policy[1024];
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++) {
        process p;
        snprintf(text, sizeof text, "%.*s%s\n", (int)strcspn(fitted, "\n"), fitted, behind[i]);
        scratch_text("spoiled", text);
        snprintf(policy, sizeof policy, "vlcache@allocation=layers:%s", in_scratch("spoiled", path));
        RUN_EVAL(&p, "--data", data, "--limit", "1", "-n", "1", "--policy", policy, "--budget", ".1");
        expect(&p, 1, "spoiled: compress: allocation: is ");
        process_release(&p);
    }
}
END_TEST

/* ---- usage --------------------------------------------------------------------------------------------- */

static const struct {
    const char *flag, *value, *why;
} refused[] = {
    {"--study", "layer", "must be ablation, threshold, probe, layers"},
    {"--study", "layers,", "must be ablation"},
    {"--share-of", "tokens", "bytes|rows"},
    {"--policy", "h2o@allocation=layers:1,2", "must be 12, a share for each layer"},
    {"--policy", "h2o@allocation=layers:no-such-file", "no-such-file"},
    {"--policy", "vlcache+@allocation=heads:no-such-file", "no-such-file"},
    {"--policy", "vlcache+@allocation=heads:1,2", "must be 24, a share for each kv head of each layer"},
    {"--policy", "h2o@allocation=heads:1,2", "must be another but with storage coded"},
    {"--policy", "h2o@allocation=layers:0,0", "must be uniform, sparsity, pyramid"},
    {"--fit", "/", "--fit /"},
};

START_TEST(wrong_words_are_refused) {
    process p;
    RUN_EVAL(&p, "--data", data, "--limit", "1", "-n", "1", "--budget", ".1", "--strict", refused[_i].flag,
             refused[_i].value);
    ck_assert_int_ne(p.code, 0);
    ck_assert_msg(strstr(p.err, refused[_i].why) != NULL, "%s %s: %s", refused[_i].flag, refused[_i].value,
                  p.err);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("study");
    TCase *all = tcase_create("studies");
    tcase_add_unchecked_fixture(all, ask_all, forget_all);
    tcase_add_test(all, ways_are_as_documented);
    tcase_add_test(all, layers_are_what_they_are_called);
    tcase_add_test(all, rows_of_one_kind_may_go);
    tcase_add_test(all, sections_stand_there);
    tcase_add_test(all, records_hold_what_was_measured);
    tcase_add_test(all, talks_have_hit_rates);
    tcase_add_test(all, told_answers_are_likely);
    tcase_add_test(all, fitted_budgets_load);
    tcase_add_test(all, fitted_bits_load);
    tcase_add_test(all, results_remember);
    tcase_add_test(all, spoiled_budgets_are_refused);
    tcase_add_loop_test(all, wrong_words_are_refused, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
