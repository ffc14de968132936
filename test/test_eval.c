/*
 * test_eval.c - vlcache-eval as its users run it: what it refuses, its tables, and results that outlive the
 * program: whatever ends a run, the same command goes on and comes to the same bytes.
 */
#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"
#include "vlcache/vlcache.h"

#define EVAL       VLCACHE_BINARY_DIR "/vlcache-eval"
#define POLICIES   "vlcache+@recent=0.2,sinks=4" /* one; the comma is of its label */
#define BUDGETS    ".3,.1"                       /* tables go from low to high */
#define EVALUATE() "--data", questions, "--policy", POLICIES, "--budget", BUDGETS, "-n", "5"
enum { QUESTIONS = 5, WAYS = 3, TASKS = 4 };

/* Runs the tool with the arguments. */
#define RUN_EVAL(p, ...) process_run(p, (const char *const[]){EVAL, __VA_ARGS__, NULL}, "", 0)

#define ASKED(id, picture, question, answer, metric)                                                         \
    "{\"id\": \"" id "\", \"image\": \"" SAMPLES picture "\", \"question\": \"" question                     \
    "\", \"answers\": "                                                                                      \
    "[\"" answer "\"], \"metric\": \"" metric "\""

/* Every form that a question may have. */
static const char all_forms[] =
    ASKED("first", "pages-0.png", "What is the heading?", "Mon", "anls") ", \"task\": \"pages\"}\n"
    ASKED("2", "charts-3.png", "What is the value of Aug?", "39", "relaxed") ", \"task\": \"charts\"}\n"
    "\n"
    "{\"id\": 7, \"task\": \"scenes\", \"images\": [\"" SAMPLES "captions-0.png\", \"" SAMPLES
    "captions-1.png\"], \"question\": \"<image><image>What is in the center?\", \"answers\": [\"black\", "
    "\"orange\"], \"metric\": \"contains\", \"max_tokens\": 3, \"note\": \"not read\"}\n"
    "{\"task\": \"talk\", \"image\": \"" SAMPLES "captions-1.png\", \"turns\": [{\"question\": \"What is in the "
    "center?\", \"answers\": [\"a black square\"]}, {\"question\": \"Is there a yellow diamond?\", "
    "\"answers\": [\"no\", \"none\"]}], \"metric\": \"cider\"}\n"
    ASKED("b", "captions-2.png", "Describe the image.", "a orange diamond at the bottom left", "cider")
    ", \"task\": \"talk\"}\n";

static char questions[512], results[512];
static process first; /* the run that was never interrupted */
static char *whole_results;

/* ---- files --------------------------------------------------------------------------------------------- */

/* The bytes of a file, and a zero byte; "" when it is not there. New memory. */
static char *slurp(const char *path) {
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 22);
    ck_assert_ptr_nonnull(text);
    if (file) {
        ck_assert_uint_lt(fread(text, 1, 1 << 22, file), 1 << 22);
        fclose(file);
    }
    return text;
}

static int lines_in(const char *path) {
    char *text = slurp(path);
    int n = count_of(text, "\n");
    free(text);
    return n;
}

/* Line `index` of the results, as JSON. */
static json_t *record_of(const char *text, int index) {
    json_error_t error;
    while (index--) text = strchr(text, '\n') + 1;
    json_t *record = json_loadb(text, strcspn(text, "\n"), 0, &error);
    ck_assert_msg(record != NULL, "%s", error.text);
    return record;
}

static const json_t *run_of(const json_t *record, size_t way) {
    const json_t *runs = get(record, "runs", JSON_ARRAY);
    ck_assert_uint_gt(json_array_size(runs), way);
    return json_array_get(runs, way);
}

/* A fresh results file with the given bytes. */
static void begin_results(const char *text, size_t bytes) {
    scratch_write("results", text, bytes);
}

static void forget_results(void) {
    remove(results);
}

/* ---- the whole run ------------------------------------------------------------------------------------- */

static void run_whole(void) {
    tool_environment();
    scratch_text("questions.jsonl", all_forms);
    in_scratch("questions.jsonl", questions);
    in_scratch("results", results);
    RUN_EVAL(&first, EVALUATE(), "--results", results);
    whole_results = slurp(results);
    forget_results();
}

static void forget_whole(void) {
    process_release(&first);
    free(whole_results);
    scratch_clean();
}

/* Goes on with what is in the results, and comes to the same bytes as the whole run. */
static void go_on(void) {
    process p;
    RUN_EVAL(&p, EVALUATE(), "--results", results);
    ended(&p, 0);
    ck_assert_str_eq(p.out, first.out);
    char *text = slurp(results);
    ck_assert_str_eq(text, whole_results);
    free(text);
    process_release(&p);
    forget_results();
}

START_TEST(runs_are_equal_to_the_byte) {
    process p;
    ended(&first, 0);
    ck_assert_int_eq(count_of(whole_results, "\n"), 1 + QUESTIONS);
    RUN_EVAL(&p, EVALUATE());
    expect(&p, 0, "5 questions answered in 3 ways\n");
    ck_assert_str_eq(p.out, first.out);
    process_release(&p);
    go_on(); /* from nothing */
}
END_TEST

/* ---- tables -------------------------------------------------------------------------------------------- */

START_TEST(markdown_has_a_table_for_each_task) {
    static const char *const parts[] = {
        "## pages (ANLS)\n",
        "## charts (relaxed accuracy)\n",
        "## scenes (contains)\n",
        "## talk (CIDEr-D)\n",
        "n = 2 questions. Full cache: ",
        "| policy | 10% | 30% |\n|---|--:|--:|\n| " POLICIES " |",
        "\n5 questions answered, 0 skipped; scores are 100 times the metric.\n",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(first.out, parts[i]) != NULL, "no \"%s\" in %s", parts[i], first.out);
    ck_assert_int_eq(count_of(first.out, "## "), TASKS);
    ck_assert_int_eq(count_of(first.out, "| policy |"), 3 * TASKS);
    for (const char *line = first.out; *line; line += strcspn(line, "\n") + 1) {
        int bars = 0;
        for (const char *at = line; *at != '\n'; at++) bars += *at == '|';
        ck_assert_msg(bars == (*line == '|' ? 4 : 0), "%.*s", (int)strcspn(line, "\n"), line);
    }
}
END_TEST

/* The tables of the finished results in a format; nothing is asked again. */
static void write_tables(process *p, const char *format) {
    begin_results(whole_results, strlen(whole_results));
    RUN_EVAL(p, EVALUATE(), "--results", results, "-o", format);
    ended(p, 0);
    forget_results();
}

/* Cuts the first field off a line of CSV; its text without quotes. */
static char *cut_field(char **line) {
    char *field = *line, *end = field;
    if (*field == '"') {
        end = strchr(++field, '"');
        ck_assert_ptr_nonnull(end);
        *end++ = 0;
    } else {
        end += strcspn(end, ",\n");
    }
    ck_assert(*end == ',' || *end == '\n');
    *line = end + 1;
    *end = 0;
    return field;
}

/* To the last decimal that is printed. */
static void check_number(const char *text, const json_t *want, const char *key) {
    const json_t *value = key ? json_object_get(want, key) : want;
    const char *point = strchr(text, '.');
    if (json_is_null(want))
        ck_assert_str_eq(text, "");
    else
        ck_assert_double_eq_tol(atof(text), json_number_value(value),
                                0.501 * pow(10.0, point ? -(double)strlen(point + 1) : 0.0));
}

/* One line of CSV says what the cell of the JSON says. */
static void check_line(char **line, const json_t *group, const json_t *c) {
    static const char *const of_estimate[] = {"mean", "low", "high"};
    ck_assert_str_eq(cut_field(line), json_string_value(json_object_get(group, "task")));
    ck_assert_str_eq(cut_field(line), json_string_value(json_object_get(group, "metric")));
    ck_assert_str_eq(cut_field(line), json_string_value(json_object_get(c, "policy")));
    check_number(cut_field(line), json_object_get(c, "budget"), NULL);
    check_number(cut_field(line), json_object_get(group, "n"), NULL);
    for (int i = 0; i < 3; i++) check_number(cut_field(line), json_object_get(c, "score"), of_estimate[i]);
    for (int i = 0; i < 3; i++)
        check_number(cut_field(line), json_object_get(c, "retention"), of_estimate[i]);
    check_number(cut_field(line), json_object_get(c, "kept"), NULL);
    check_number(cut_field(line), json_object_get(c, "kv_bytes"), NULL);
    check_number(cut_field(line), json_object_get(c, "answer_tokens"), NULL);
}

START_TEST(csv_says_what_json_says) {
    process csv, json;
    write_tables(&csv, "csv");
    write_tables(&json, "json");
    json_t *all = json_loads(json.out, JSON_REJECT_DUPLICATES, NULL), *group, *c;
    ck_assert_msg(all != NULL, "%s", json.out);
    ck_assert_int_eq(whole(all, "answered"), QUESTIONS);
    ck_assert_int_eq(whole(all, "skipped"), 0);
    ck_assert_int_eq(whole(all, "bad_lines"), 0);
    ck_assert_uint_eq(json_array_size(get(get(all, "run", JSON_OBJECT), "variants", JSON_ARRAY)), WAYS);
    ck_assert_uint_eq(json_array_size(get(all, "groups", JSON_ARRAY)), TASKS);
    ck_assert_int_eq(count_of(csv.out, "\n"), 1 + TASKS * WAYS);
    char *line = strchr(csv.out, '\n') + 1;
    size_t i, k;
    json_array_foreach(json_object_get(all, "groups"), i, group) {
        ck_assert_uint_eq(json_array_size(get(group, "cells", JSON_ARRAY)), WAYS);
        json_array_foreach(json_object_get(group, "cells"), k, c) check_line(&line, group, c);
    }
    ck_assert_str_eq(line, "");
    json_decref(all);
    process_release(&csv);
    process_release(&json);
}
END_TEST

/* Of the whole cache: all of it is kept, and it retains all of its own score where that is not 0. */
START_TEST(the_full_cache_retains_itself) {
    process p;
    write_tables(&p, "json");
    json_t *all = json_loads(p.out, 0, NULL), *group;
    size_t i;
    json_array_foreach(json_object_get(all, "groups"), i, group) {
        const json_t *full = json_array_get(json_object_get(group, "cells"), 0);
        const json_t *retention = json_object_get(full, "retention");
        ck_assert_str_eq(json_string_value(get(full, "policy", JSON_STRING)), "full");
        ck_assert_double_eq(json_number_value(json_object_get(full, "kept")), 1.0);
        if (json_number_value(json_object_get(json_object_get(full, "score"), "mean")) > 0.0)
            ck_assert_double_eq(json_number_value(json_object_get(retention, "mean")), 1.0);
        else
            ck_assert(json_is_null(retention));
    }
    json_decref(all);
    process_release(&p);
}
END_TEST

/* ---- records ------------------------------------------------------------------------------------------- */

/* Every way has an answer for each turn, no longer than asked for, from no more rows than it may keep. */
static void check_record(const json_t *record, size_t turns, int most_tokens) {
    static const double budgets[WAYS] = {1.0, 0.1, 0.3};
    for (size_t way = 0; way < WAYS; way++) {
        const json_t *run = run_of(record, way), *tokens = get(run, "tokens", JSON_ARRAY);
        double kept = json_number_value(json_object_get(run, "kept"));
        ck_assert_uint_eq(json_array_size(get(run, "text", JSON_ARRAY)), turns);
        ck_assert_uint_eq(json_array_size(tokens), turns);
        for (size_t t = 0; t < turns; t++)
            ck_assert_int_le((int)json_integer_value(json_array_get(tokens, t)), most_tokens);
        ck_assert_msg(kept > 0.0 && kept <= budgets[way] + 0.01, "way %zu keeps %g", way, kept);
    }
}

START_TEST(records_hold_every_answer) {
    static const char *const ids[] = {"first", "2", "7", "5", "b"}; /* without one: the line */
    for (int i = 0; i < QUESTIONS; i++) {
        json_t *record = record_of(whole_results, 1 + i);
        ck_assert_str_eq(json_string_value(get(record, "id", JSON_STRING)), ids[i]);
        check_record(record, i == 3 ? 2 : 1, i == 2 ? 3 : 5);
        json_decref(record);
    }
    json_t *one = record_of(whole_results, 1), *two = record_of(whole_results, 3);
    ck_assert_int_eq(whole(get(two, "prompt", JSON_OBJECT), "visual"),
                     2 * whole(get(one, "prompt", JSON_OBJECT), "visual"));
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(run_of(one, 0), "text"), 0)), "Mon");
    json_decref(one);
    json_decref(two);
}
END_TEST

/* The second turn of a conversation on the full cache is what the same two questions give in a chat. */
START_TEST(turns_follow_one_another) {
    process p;
    process_run(&p,
                (const char *const[]){TOOL, "--image", SAMPLES "captions-1.png", "-n", "5", "--policy",
                                      "full", NULL},
                "What is in the center?\nIs there a yellow diamond?\n", 49);
    ended(&p, 0);
    json_t *record = record_of(whole_results, 4), *texts = json_object_get(run_of(record, 0), "text");
    char chat[256];
    snprintf(chat, sizeof chat, "%s\n%s\n", json_string_value(json_array_get(texts, 0)),
             json_string_value(json_array_get(texts, 1)));
    ck_assert_str_eq(p.out, chat);
    json_decref(record);
    process_release(&p);
}
END_TEST

START_TEST(the_whole_budget_gives_the_full_cache_s_answers) {
    process p;
    RUN_EVAL(&p, "--data", questions, "--budget", "1", "-n", "3", "--limit", "1", "--results", results,
             "--quiet");
    ended(&p, 0);
    ck_assert_str_eq(p.err, "");
    char *text = slurp(results);
    ck_assert_int_eq(count_of(text, "\n"), 1 + TASKS);
    for (int i = 0; i < TASKS; i++) {
        json_t *record = record_of(text, 1 + i), *full = json_object_get(run_of(record, 0), "text");
        size_t ways = json_array_size(json_object_get(record, "runs")), policies = 0;
        while (vlcache_policy_name(policies)) policies++;
        ck_assert_uint_eq(ways, policies);
        for (size_t way = 1; way < ways; way++) {
            ck_assert(json_equal(json_object_get(run_of(record, way), "text"), full));
            ck_assert_double_eq(json_number_value(json_object_get(run_of(record, way), "kept")), 1.0);
        }
        json_decref(record);
    }
    free(text);
    process_release(&p);
    forget_results();
}
END_TEST

/* ---- going on ------------------------------------------------------------------------------------------ */

/* Waits until the results have so many lines, or the program is no more. */
static void await_lines(int n) {
    for (int i = 0; i < 60000 && lines_in(results) < n; i++)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Starts the run and ends it by a signal once two questions are answered. */
static void end_halfway(process *p, int number) {
    process_start(p, (const char *const[]){EVAL, EVALUATE(), "--results", results, NULL});
    await_lines(3);
    process_signal(p, number);
    process_finish(p);
    ck_assert_int_lt(lines_in(results), 1 + QUESTIONS);
}

START_TEST(a_killed_run_goes_on) {
    process p;
    end_halfway(&p, SIGKILL);
    ck_assert_int_eq(p.code, 128 + SIGKILL);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
    go_on();
}
END_TEST

START_TEST(an_interrupted_run_goes_on) {
    process p;
    char said[128];
    end_halfway(&p, SIGINT);
    snprintf(said, sizeof said, "interrupted, %d of %d questions answered; the same command goes on",
             lines_in(results) - 1, QUESTIONS);
    expect(&p, 130, said);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
    go_on();
}
END_TEST

START_TEST(an_interrupted_run_without_results_is_lost) {
    process p;
    process_start_terminal(&p, (const char *const[]){EVAL, EVALUATE(), NULL}, 100);
    process_await_error(&p, "asking");
    process_signal(&p, SIGINT);
    process_finish(&p);
    expect(&p, 130, "they are lost without --results");
    process_release(&p);
}
END_TEST

/* Wherever the last line was torn, in the header too. */
START_TEST(a_torn_line_is_asked_again) {
    size_t bytes = strlen(whole_results), header = strcspn(whole_results, "\n") + 1;
    const size_t torn[] = {bytes - 1, bytes - 200, header, header - 1, header / 2, 1};
    begin_results(whole_results, torn[_i]);
    if (_i < 2) { /* the others would ask everything again: that they begin anew shows sooner */
        go_on();
        return;
    }
    process p;
    process_start(&p, (const char *const[]){EVAL, EVALUATE(), "--results", results, NULL});
    await_lines(2);
    process_signal(&p, SIGKILL);
    process_finish(&p);
    char *text = slurp(results);
    size_t record = strcspn(whole_results + header, "\n") + 1;
    ck_assert_msg(strncmp(text, whole_results, header + record) == 0, "begun anew from %zu bytes", torn[_i]);
    free(text);
    process_release(&p);
    forget_results();
}
END_TEST

START_TEST(more_questions_go_on_with_few) {
    process p;
    RUN_EVAL(&p, EVALUATE(), "--results", results, "--limit", "1");
    expect(&p, 0, "4 questions answered in 3 ways | 1 beyond --limit");
    ck_assert_int_eq(lines_in(results), 5);
    process_release(&p);
    RUN_EVAL(&p, EVALUATE(), "--results", results); /* in another order, so not to the byte */
    ended(&p, 0);
    ck_assert_int_eq(lines_in(results), 1 + QUESTIONS);
    ck_assert_str_eq(p.out, first.out);
    process_release(&p);
    RUN_EVAL(&p, EVALUATE(), "--results", results, "--limit",
             "1"); /* and back: nothing is asked, nothing lost */
    expect(&p, 0, "4 questions answered");
    ck_assert_int_eq(lines_in(results), 1 + QUESTIONS);
    process_release(&p);
    forget_results();
}
END_TEST

/* ---- results of another run ---------------------------------------------------------------------------- */

/* A refusal names what differs, and leaves the file as it was. */
static void check_refused(const char *const *arguments, int code, const char *said) {
    const char *argv[32] = {EVAL};
    char *before = slurp(results);
    size_t n = 1;
    process p;
    for (; *arguments; arguments++) argv[n++] = *arguments;
    argv[n++] = "--results";
    argv[n++] = results;
    process_run(&p, argv, "", 0);
    expect(&p, code, said);
    ck_assert_str_eq(p.out, "");
    char *after = slurp(results);
    ck_assert_str_eq(after, before);
    free(before);
    free(after);
    process_release(&p);
}
#define REFUSED(code, said, ...) check_refused((const char *const[]){__VA_ARGS__, NULL}, code, said)

START_TEST(results_of_another_run_are_refused) {
    char other[512];
    scratch_text("other.jsonl", strchr(all_forms, '\n') + 1);
    in_scratch("other.jsonl", other);
    begin_results(whole_results, strlen(whole_results));
    REFUSED(1, "\"data\" differs", "--data", other, "--policy", POLICIES, "--budget", BUDGETS, "-n", "5");
    REFUSED(1, "\"model\" differs", EVALUATE(), "-m", TINY);
    REFUSED(1, "\"max_tokens\" differs", EVALUATE(), "-n", "6");
    REFUSED(1, "\"variants\" differs", EVALUATE(), "--budget", ".1,.2");
    REFUSED(1, "\"variants\" differs", EVALUATE(), "--policy", "vlcache+@recent=0.3,sinks=4");
    REFUSED(1, "\"chat_template\" differs", EVALUATE(), "--chat-template", "plain");
    REFUSED(1, "\"dtype\" differs", EVALUATE(), "--dtype", "f32");
    begin_results(all_forms, strlen(all_forms));
    REFUSED(1, "no file of vlcache-eval", EVALUATE());
    begin_results("no JSON\n", 8);
    REFUSED(1, "no file of vlcache-eval", EVALUATE());
    forget_results();
    process endless;
    RUN_EVAL(&endless, EVALUATE(), "--results", "/dev/zero");
    expect(&endless, 2, "/dev/zero: is no regular file");
    process_release(&endless);
}
END_TEST

/* Answers of two devices are not mixed; tables of answers that are there may be written anywhere. */
START_TEST(results_of_another_device_are_refused) {
    process p;
    char *text = strdup(whole_results), *name = strstr(text, "\"device\":\"") + 10;
    *name ^= 1;
    begin_results(text, strlen(text));
    RUN_EVAL(&p, EVALUATE(), "--results", results);
    ended(&p, 0);
    ck_assert_str_eq(p.out, first.out);
    process_release(&p);
    begin_results(text, strlen(text) - 1);
    REFUSED(1, "was begun on device", EVALUATE());
    free(text);
    forget_results();
}
END_TEST

START_TEST(a_damaged_line_is_refused) {
    char *text = strdup(whole_results);
    *(strchr(strchr(text, '\n') + 1, '\n') - 1) = '!';
    begin_results(text, strlen(text));
    REFUSED(2, "a line in its middle is damaged", EVALUATE());
    free(text);
    forget_results();
}
END_TEST

/* ---- data ---------------------------------------------------------------------------------------------- */

#define PICTURE_FIELD "\"image\": \"" SAMPLES "pages-0.png\""
static const struct {
    const char *line, *why;
} bad_lines[] = {
    {"nothing", "no JSON: "},
    {"{\"id\": \"a\"", "no JSON: "},
    {"{\"id\": 1, \"id\": 2}", "no JSON: duplicate"},
    {"[1]", "must be a JSON object"},
    {"{" PICTURE_FIELD "}", "\"question\": must be a text"},
    {"{\"question\": \"x\"}", "\"answers\": must be an array of at least one text"},
    {"{\"question\": \"x\", \"answers\": []}", "\"answers\": must be an array of at least one text"},
    {"{\"question\": \"x\", \"answers\": \"y\"}", "\"answers\": must be an array of at least one text"},
    {"{\"question\": \"x\", \"answers\": [\"y\", 3]}", "\"answers\": must be an array of texts"},
    {"{\"question\": \"x\", \"turns\": []}", "\"question\" and \"turns\": give one of them"},
    {"{\"turns\": []}", "\"turns\": must be an array of at least one"},
    {"{\"turns\": [{\"question\": \"x\"}]}", "\"answers\": must be an array"},
    {"{\"id\": 1.5, \"question\": \"x\", \"answers\": [\"y\"]}", "\"id\": must be a text or a whole number"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"max_tokens\": 0}",
     "\"max_tokens\": must be a whole number from 1"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"max_tokens\": \"3\"}",
     "\"max_tokens\": must be a whole number"},
    {"{\"question\": \"x\", \"answers\": [\"y\"]}", "\"image\": missing"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"image\": 3}", "\"image\": must be the path of a picture"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"images\": \"a.png\"}",
     "\"images\": must be an array of paths"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"images\": [], \"image\": \"a\"}", "give one of them"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"image\": \"no.png\"}", "no.png: No such file"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], " PICTURE_FIELD "}",
     "\"metric\": must be anls, exact, relaxed"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"bleu\", " PICTURE_FIELD "}",
     "\"metric\": \"bleu\" must be"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"anls\", \"task\": \"\", " PICTURE_FIELD "}",
     "\"task\": must be"},
};
enum { BAD_LINES = sizeof bad_lines / sizeof *bad_lines };

/* A file of all bad lines, line by line, and one good one at the end. */
static void write_bad_lines(char path[512]) {
    static char text[16384];
    text[0] = 0;
    for (size_t i = 0; i < BAD_LINES; i++) {
        strcat(text, bad_lines[i].line);
        strcat(text, "\n");
    }
    strcat(text, ASKED("good", "pages-0.png", "What is the heading?", "Mon", "anls") "}"); /* no line end */
    scratch_text("bad.jsonl", text);
    in_scratch("bad.jsonl", path);
}

START_TEST(bad_lines_are_named_and_skipped) {
    char path[512], said[1024];
    process p;
    write_bad_lines(path);
    RUN_EVAL(&p, "--data", path, "--policy", "full", "-n", "3", "-o", "csv");
    ended(&p, 0);
    for (size_t i = 0; i < BAD_LINES; i++) {
        snprintf(said, sizeof said, "%s:%zu: ", path, i + 1);
        const char *at = strstr(p.err, said);
        ck_assert_msg(at != NULL, "line %zu is not named: %s", i + 1, p.err);
        snprintf(said, sizeof said, "%.*s", (int)strcspn(at, "\n"), at);
        ck_assert_msg(strstr(said, bad_lines[i].why) && strstr(said, " (skipped)"), "%s", said);
    }
    snprintf(said, sizeof said, "1 question answered in 1 way | %d of %d lines skipped", BAD_LINES,
             BAD_LINES + 1);
    expect(&p, 0, said);
    ck_assert_msg(strstr(p.out, "\nbad,anls,full,1,1,1.000000,"), "%s",
                  p.out); /* the task: the file's name */
    process_release(&p);
}
END_TEST

START_TEST(strict_stops_at_a_bad_line) {
    char path[512];
    process p;
    write_bad_lines(path);
    RUN_EVAL(&p, "--data", path, "--strict");
    expect(&p, 2, "bad.jsonl:1: no JSON: ");
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
}
END_TEST

/* A picture that is none, one mark too many and a question longer than the context show when they are asked.
 */
static void write_unaskable(char path[512]) {
    static char text[65536];
    size_t used;
    scratch_text("fake.png", "no picture");
    used = (size_t)sprintf(
        text, "%s",
        "{\"image\": \"fake.png\", \"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"exact\"}\n"
        "{" PICTURE_FIELD
        ", \"question\": \"<image><image>\", \"answers\": [\"y\"], \"metric\": "
        "\"exact\"}\n"
        "{" PICTURE_FIELD ", \"answers\": [\"y\"], \"metric\": \"exact\", \"question\": \"");
    memset(text + used, 'q', 40000);
    strcpy(text + used + 40000, "\"}\n");
    scratch_text("unaskable.jsonl", text);
    in_scratch("unaskable.jsonl", path);
}

START_TEST(what_cannot_be_asked_is_skipped) {
    char path[512];
    process p;
    write_unaskable(path);
    RUN_EVAL(&p, "--data", path, "--policy", "full", "--results", results);
    expect(&p, 2, "unaskable.jsonl: no question could be asked");
    for (int line = 1; line <= 3; line++) {
        char said[128];
        snprintf(said, sizeof said, "unaskable.jsonl:%d: ", line);
        expect(&p, 2, said);
    }
    ck_assert_int_eq(count_of(p.err, " (skipped)\n"), 3);
    ck_assert_int_eq(lines_in(results), 4); /* they are not asked again */
    process_release(&p);
    RUN_EVAL(&p, "--data", path, "--policy", "full", "--results", results);
    expect(&p, 2, "no question could be asked");
    ck_assert_int_eq(count_of(p.err, " (skipped)\n"), 0);
    process_release(&p);
    forget_results();
    RUN_EVAL(&p, "--data", path, "--policy", "full", "--strict", "--results", results);
    expect(&p, 2, "unaskable.jsonl:1: ");
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    process_release(&p);
    forget_results();
}
END_TEST

START_TEST(paths_are_relative_to_the_data) {
    process p;
    RUN_EVAL(&p, "--data", SAMPLES "samples.jsonl", "--limit", "1", "-n", "2", "--policy", "full", "-o",
             "csv");
    expect(&p, 0, "9 questions answered in 1 way | 9 beyond --limit");
    ck_assert_int_eq(count_of(p.out, "\n"), 10);
    process_release(&p);
}
END_TEST

/* ---- several at a time --------------------------------------------------------------------------------- */

static int compare_lines(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the lines of a text, which ends with one. In its place. */
static char *sort_lines(char *text) {
    char *copy = strdup(text), *lines[64], *at = text, *rest = NULL;
    size_t n = 0;
    ck_assert_ptr_nonnull(copy);
    for (char *line = strtok_r(copy, "\n", &rest); line && n < 64; line = strtok_r(NULL, "\n", &rest))
        lines[n++] = line;
    qsort(lines, n, sizeof *lines, compare_lines);
    for (size_t i = 0; i < n; i++) at += sprintf(at, "%s\n", lines[i]);
    free(copy);
    return text;
}

/* The results are those of the whole run, but for the order of their lines. */
static void check_results_of_jobs(void) {
    char *text = sort_lines(slurp(results)), *want = sort_lines(strdup(whole_results));
    ck_assert_str_eq(text, want);
    free(text);
    free(want);
}

/* Goes on with what is in the results, so many at a time, and comes to the same tables. */
static void go_on_with(const char *jobs) {
    process p;
    RUN_EVAL(&p, EVALUATE(), "--results", results, "--jobs", jobs);
    expect(&p, 0, "5 questions answered in 3 ways\n");
    ck_assert_str_eq(p.out, first.out);
    process_release(&p);
    check_results_of_jobs();
}

START_TEST(jobs_come_to_the_same_bytes) {
    static const char *const formats[] = {"csv", "json"};
    go_on_with("2"); /* from nothing */
    char *text = slurp(results);
    for (int i = 0; i < 2; i++) {
        process of_jobs, of_one;
        write_tables(&of_one, formats[i]);
        begin_results(text, strlen(text));
        RUN_EVAL(&of_jobs, EVALUATE(), "--results", results, "-o", formats[i], "--jobs", "2");
        ended(&of_jobs, 0);
        ck_assert_str_eq(of_jobs.out, of_one.out);
        process_release(&of_jobs);
        process_release(&of_one);
    }
    free(text);
    forget_results();
}
END_TEST

/* More of them than questions that are left. */
START_TEST(jobs_go_on_with_what_one_began) {
    const char *end = whole_results;
    for (int i = 0; i < QUESTIONS - 1; i++) end = strchr(end, '\n') + 1;
    begin_results(whole_results, (size_t)(end - whole_results) + 100); /* and a torn line */
    go_on_with("64");
    forget_results();
}
END_TEST

/* What began a process; 0 where it is none, or is gone. */
static pid_t parent_of(const char *pid) {
    char path[300], *text;
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    text = slurp(path);
    const char *name_end = strrchr(text, ')');
    if (name_end && sscanf(name_end, ") %*c %d", &parent) != 1) parent = 0;
    free(text);
    return parent;
}

/* The processes that a process has begun; as many as fit. */
static int children_of(pid_t pid, pid_t *children, int most) {
    DIR *list = opendir("/proc");
    int n = 0;
    ck_assert_ptr_nonnull(list);
    for (struct dirent *entry; n < most && (entry = readdir(list));)
        if (atoi(entry->d_name) > 0 && parent_of(entry->d_name) == pid) children[n++] = atoi(entry->d_name);
    closedir(list);
    return n;
}

/* Starts two jobs and sends a signal once a question is answered: to the program, or to one of the jobs. No
 * job outlives that: the end of standard error, which process_finish() waits for, is the end of them all. */
static void end_jobs_halfway(process *p, int number, bool to_job) {
    pid_t jobs[4];
    process_start(p, (const char *const[]){EVAL, EVALUATE(), "--results", results, "--jobs", "2", NULL});
    await_lines(2);
    ck_assert_int_eq(children_of(p->pid, jobs, 4), 2);
    if (to_job)
        kill(jobs[0], number);
    else
        process_signal(p, number);
    process_finish(p);
    ck_assert_int_ge(lines_in(results), 2);
    ck_assert_int_lt(lines_in(results), 1 + QUESTIONS);
    ck_assert_str_eq(p->out, "");
}

START_TEST(interrupted_jobs_go_on) {
    process p;
    char said[128];
    end_jobs_halfway(&p, SIGINT, false);
    snprintf(said, sizeof said, "interrupted, %d of %d questions answered; the same command goes on",
             lines_in(results) - 1, QUESTIONS);
    expect(&p, 130, said);
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    process_release(&p);
    go_on_with("1");
    forget_results();
}
END_TEST

START_TEST(jobs_end_with_what_began_them) {
    process p;
    end_jobs_halfway(&p, SIGKILL, false);
    ck_assert_int_eq(p.code, 128 + SIGKILL);
    process_release(&p);
    forget_results();
}
END_TEST

START_TEST(a_job_that_is_killed_ends_the_run) {
    process p;
    end_jobs_halfway(&p, SIGKILL, true);
    expect(&p, 3, "a job was ended by signal 9 (Killed)\n");
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    process_release(&p);
    forget_results();
}
END_TEST

/* What goes wrong in every job is said once; what is wrong with a question, for every question. */
START_TEST(failures_of_jobs_are_told_once) {
    char path[512], *config = slurp(TINY "/config.json");
    process p;
    RUN_EVAL(&p, EVALUATE(), "--jobs", "2", "--device", "no such device");
    expect(&p, 3, "no such device");
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    process_release(&p);
    scratch_text("config.json", config); /* and no weights beside it */
    RUN_EVAL(&p, EVALUATE(), "--jobs", "2", "-m", scratch_folder());
    ended(&p, 2);
    ck_assert_msg(count_of(p.err, "\n") == 1, "not one line: %s", p.err);
    process_release(&p);
    write_unaskable(path);
    RUN_EVAL(&p, "--data", path, "--policy", "full", "--jobs", "2");
    expect(&p, 2, "no question could be asked");
    ck_assert_int_eq(count_of(p.err, " (skipped)\n"), 3);
    process_release(&p);
    RUN_EVAL(&p, "--data", path, "--policy", "full", "--jobs", "2", "--strict");
    expect(&p, 2, "unaskable.jsonl:");
    ck_assert_int_eq(count_of(p.err, "\n"), 1);
    process_release(&p);
    free(config);
}
END_TEST

/* ---- exit codes ---------------------------------------------------------------------------------------- */

/* With --data of a good file unless the first word is another --data. */
static const struct {
    const char *arguments[4];
    const char *said;
} bad_usage[] = {
    {{"--policy", "nothing"}, "vlcache, vlcache+"},
    {{"--policy", ""}, "vlcache, vlcache+"},
    {{"--policy", "vlcache@size=3"}, "\"size\": no such axis; there are label, allocation, scoring"},
    {{"--policy", "vlcache@pooling"}, "\"pooling\": must be axis=value"},
    {{"--policy", "vlcache@pooling="}, "must be axis=value"},
    {{"--policy", "vlcache@allocation=some"}, "allocation"},
    {{"--policy", "vlcache@threshold=x"}, "threshold=x: must be a number"},
    {{"--policy", "vlcache@threshold=2"}, "threshold"},
    {{"--policy", "vlcache@sinks=1.5"}, "sinks=1.5: must be a whole number"},
    {{"--policy", "h2o,vlcache,h2o"}, "\"h2o\" stands there twice"},
    {{"--budget", "0"}, "above 0 and at most 1"},
    {{"--budget", "1.01"}, "above 0 and at most 1"},
    {{"--budget", "-.1"}, "above 0 and at most 1"},
    {{"--budget", "nan"}, "above 0 and at most 1"},
    {{"--budget", ".1,"}, "above 0 and at most 1"},
    {{"--budget", ".1 "}, "above 0 and at most 1"},
    {{"--budget", ""}, "above 0 and at most 1"},
    {{"--limit", "-1"}, "must be a whole number from 0 to"},
    {{"-n", "0"}, "must be a whole number from 1 to"},
    {{"--jobs", "0"}, "must be a whole number from 1 to 64"},
    {{"--jobs", "65"}, "must be a whole number from 1 to 64"},
    {{"--jobs", "two"}, "must be a whole number from 1 to 64"},
    {{"--seed", "-1"}, "must be a whole number from 0 to"},
    {{"-o", "xml"}, "must be one of md|csv|json"},
    {{"--dtype", "q4"}, "must be auto, f32, f16 or bf16"},
    {{"--frobnicate"}, "--frobnicate: no such flag"},
    {{"--strict=yes"}, "--strict: takes no value"},
    {{"stray"}, "\"stray\": not a flag"},
    {{"-m"}, "-m: needs a value: -m DIR"},
};

START_TEST(bad_usage_is_refused) {
    const char *argv[8] = {EVAL, "--data", questions};
    process p;
    memcpy(argv + 3, bad_usage[_i].arguments, sizeof bad_usage[_i].arguments);
    process_run(&p, argv, "", 0);
    expect(&p, 1, bad_usage[_i].said);
    ck_assert_msg(count_of(p.err, "\n") == 1 && strstr(p.err, "; see --help\n"), "not one line: %s", p.err);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
}
END_TEST

/* Without --data: a conversation of each task that ships. */
START_TEST(questions_ship) {
    process p;
    RUN_EVAL(&p, "-m", TINY, "--limit", "1", "--predict", "4", "--policy", "full", "-o", "csv");
    expect(&p, 0, "10 questions answered in 1 way | 150 beyond --limit");
    ck_assert_ptr_nonnull(strstr(p.out, "\ninterleaved-3,anls,full,"));
    process_release(&p);
}
END_TEST

START_TEST(exit_codes_are_as_documented) {
    char empty[512];
    process p;
    scratch_text("empty.jsonl", "\n \n");
    in_scratch("empty.jsonl", empty);
    RUN_EVAL(&p, "--data", "no-such-file.jsonl");
    expect(&p, 2, "no-such-file.jsonl: No such file");
    process_release(&p);
    RUN_EVAL(&p, "--data", empty);
    expect(&p, 2, "has no question that can be asked");
    process_release(&p);
    RUN_EVAL(&p, EVALUATE(), "-m", "no-such-model");
    expect(&p, 2, "no-such-model");
    process_release(&p);
    RUN_EVAL(&p, EVALUATE(), "--results", "no-such-folder/results");
    expect(&p, 2, "--results no-such-folder/results: No such file");
    process_release(&p);
    RUN_EVAL(&p, EVALUATE(), "--device", "no such device");
    expect(&p, 3, "no such device");
    process_release(&p);
}
END_TEST

/* A full disk is told; a reader that has left has what it wanted. */
START_TEST(output_that_fails) {
    char command[2048];
    process p;
    begin_results(whole_results, strlen(whole_results));
    snprintf(command, sizeof command, "%s --data %s --policy '%s' --budget %s -n 5 --results %s >/dev/full",
             EVAL, questions, POLICIES, BUDGETS, results);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    expect(&p, 2, "tables cannot be written: No space left on device");
    process_release(&p);
    process_start(&p, (const char *const[]){EVAL, EVALUATE(), "--results", results, NULL});
    process_close_output(&p);
    process_finish(&p);
    ended(&p, 0);
    process_release(&p);
    forget_results();
}
END_TEST

START_TEST(help_and_version) {
    process p;
    RUN_EVAL(&p, "--version");
    ended(&p, 0);
    ck_assert_msg(strncmp(p.out, "vlcache-eval " VLCACHE_VERSION " ", 14 + strlen(VLCACHE_VERSION)) == 0,
                  "%s", p.out);
    process_release(&p);
    RUN_EVAL(&p, "--help");
    expect(&p, 0, "");
    static const char *const names[] = {"--data",   "--policy", "--budget", "--results", "--limit",
                                        "--strict", "anls",     "exact",    "relaxed",   "cider",
                                        "contains", "130",      "--jobs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(strstr(p.out, names[i]) != NULL, "--help lacks \"%s\"", names[i]);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("eval");
    TCase *all = tcase_create("vlcache-eval");
    tcase_add_unchecked_fixture(all, run_whole, forget_whole);
    tcase_add_test(all, runs_are_equal_to_the_byte);
    tcase_add_test(all, markdown_has_a_table_for_each_task);
    tcase_add_test(all, csv_says_what_json_says);
    tcase_add_test(all, the_full_cache_retains_itself);
    tcase_add_test(all, records_hold_every_answer);
    tcase_add_test(all, turns_follow_one_another);
    tcase_add_test(all, the_whole_budget_gives_the_full_cache_s_answers);
    tcase_add_test(all, a_killed_run_goes_on);
    tcase_add_test(all, an_interrupted_run_goes_on);
    tcase_add_test(all, an_interrupted_run_without_results_is_lost);
    tcase_add_loop_test(all, a_torn_line_is_asked_again, 0, 6);
    tcase_add_test(all, more_questions_go_on_with_few);
    tcase_add_test(all, results_of_another_run_are_refused);
    tcase_add_test(all, results_of_another_device_are_refused);
    tcase_add_test(all, a_damaged_line_is_refused);
    tcase_add_test(all, bad_lines_are_named_and_skipped);
    tcase_add_test(all, strict_stops_at_a_bad_line);
    tcase_add_test(all, what_cannot_be_asked_is_skipped);
    tcase_add_test(all, paths_are_relative_to_the_data);
    tcase_add_test(all, jobs_come_to_the_same_bytes);
    tcase_add_test(all, jobs_go_on_with_what_one_began);
    tcase_add_test(all, interrupted_jobs_go_on);
    tcase_add_test(all, jobs_end_with_what_began_them);
    tcase_add_test(all, a_job_that_is_killed_ends_the_run);
    tcase_add_test(all, failures_of_jobs_are_told_once);
    tcase_add_loop_test(all, bad_usage_is_refused, 0, sizeof bad_usage / sizeof *bad_usage);
    tcase_add_test(all, questions_ship);
    tcase_add_test(all, exit_codes_are_as_documented);
    tcase_add_test(all, output_that_fails);
    tcase_add_test(all, help_and_version);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
