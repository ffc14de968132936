/*
 * test_eval.c - vlcache-eval as its users run it: its tables, its records, the data that it takes, what it
 * refuses.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/equal.h"
#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/vlcache.h"

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
    check_number(cut_field(line), json_object_get(c, "token_bytes"), NULL);
    check_number(cut_field(line), json_object_get(c, "share"), NULL);
    check_number(cut_field(line), json_object_get(c, "over"), NULL);
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

/* As it was resolved, where rows were coded. */
START_TEST(json_tells_the_storage) {
    process p;
    RUN_EVAL(&p, "--data", questions, "--limit", "1", "-n", "2", "--quiet", "--budget", ".1", "--policy",
             "vlcache,vlcache+", "-o", "json");
    ended(&p, 0);
    json_t *all = json_loads(p.out, 0, NULL), *group = json_array_get(json_object_get(all, "groups"), 0);
    const json_t *cells = json_object_get(group, "cells");
    for (size_t i = 0; i < 2; i++) ck_assert(!json_object_get(json_array_get(cells, i), "storage"));
    ck_assert_str_eq(json_string_value(get(json_array_get(cells, 2), "storage", JSON_STRING)), "coded:pre");
    json_decref(all);
    process_release(&p);
}
END_TEST

/* ---- bytes --------------------------------------------------------------------------------------------- */

/* Shares of bytes: no policy exceeds them, and even budgets use them but for less than a row of each layer.
 * Shares of rows: centroids' biases and rounding exceed them, which tables mark. */
static void check_bytes(const char *policies, const char *budgets, const char *share_of, bool within,
                        double least) {
    process p;
    size_t i, k, over = 0;
    RUN_EVAL(&p, "--data", questions, "--limit", "1", "-n", "5", "--quiet", "--budget", budgets, "--policy",
             policies, "--share-of", share_of, "-o", "json");
    ended(&p, 0);
    json_t *all = json_loads(p.out, 0, NULL), *group, *c;
    json_array_foreach(json_object_get(all, "groups"), i, group)
        json_array_foreach(json_object_get(group, "cells"), k, c) {
        double budget = k ? json_number_value(json_object_get(c, "budget")) : 1.0;
        double share = json_number_value(json_object_get(c, "share"));
        over += (size_t)whole(c, "over");
        ck_assert_msg(share > budget - least && share < budget + (within ? 1e-9 : 0.01),
                      "%s: %s at %g takes %g", share_of, json_string_value(json_object_get(c, "policy")),
                      budget, share);
    }
    ck_assert_msg(within == (over == 0), "%zu over, by %s", over, share_of);
    json_decref(all);
    process_release(&p);
}

START_TEST(policies_have_the_same_bytes) {
    static const char *const even = "centroids,h2o,snapkv,vlcache+";
    double row = 1.0 / 590 + 1e-3;
    check_bytes(even, ".01,.02,.07,.3", "bytes", true, row);
    check_bytes(even, ".07,.3", "rows", false, row);
    check_bytes("vlcache,pyramidkv,streamingllm", ".01,.02,.07,.3", "bytes", true, 2 * row);
    check_bytes("vlcache", ".01", "rows", false, row); /* the published least is on top of them */
}
END_TEST

/* What is asked of the library for a share of bytes: whole rows of a layer, with their biases, fit into it.
 */
START_TEST(rows_fit_into_bytes) {
    static const char *const policies[] = {"h2o", "centroids", "snapkv"};
    for (int p = 0; p < 3; p++)
        for (int tokens = 40; tokens < 3000; tokens += 97)
            for (int percent = 3; percent < 100; percent += 8) {
                vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
                o.policy = policies[p];
                o.budget = percent / 100.0;
                double row = p == 1 ? 260 : 256, share = 256 / row * equal_bytes(&o, tokens, 256);
                double rows = floor(share * tokens + 0.5);
                double bytes = o.budget * tokens * 256;
                ck_assert_msg(rows * row <= bytes * (1 + 1e-12) && (rows + 1) * row > bytes * (1 - 1e-12),
                              "%s, %d tokens, %d%%: %g rows", o.policy, tokens, percent, rows);
            }
}
END_TEST

START_TEST(what_has_no_rows_to_count) {
    static const struct {
        const char *policy;
        double budget;
    } same[] = {{"full", 0.1}, {"vlcache+", 0.1}, {"centroids", 1.0}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
        o.policy = same[i].policy;
        o.budget = same[i].budget;
        ck_assert_double_eq(equal_bytes(&o, 600, 256), same[i].budget);
        ck_assert_double_eq(equal_rows(&o, 256), same[i].budget);
    }
    vlcache_compress_options tiny = VLCACHE_COMPRESS_OPTIONS_INIT;
    tiny.budget = 0.01;
    ck_assert_double_gt(equal_bytes(&tiny, 3, 256), 0.0);
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

/* ---- data ---------------------------------------------------------------------------------------------- */

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
    {"{\"raw\": 1}", "\"raw\": must be true or false"},
    {"{\"form\": 1}", "\"form\": must be a regular expression"},
    {"{\"form\": \"(\"}", "\"form\": is no extended regular expression"},
    {"{\"form\": \"((a{1,99}){9}){9}\"}", "multiply to at most 256"},
    {"{\"form\": \"a{99999999999}\"}", "multiply to at most 256"},
    {"{\"form\": \"(a)\\\\1\"}", "no references back"},
    {"{\"raw\": true, \"question\": \"x\", \"answers\": [\"y\"]}", "\"metric\": must be anls"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"image\": 3}", "\"image\": must be the path of a picture"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"images\": \"a.png\"}",
     "\"images\": must be an array of at least one path"},
    {"{\"question\": \"x\", \"answers\": [\"y\"], \"images\": []}", "must be an array of at least one path"},
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

#define MARK "\xef\xbb\xbf" /* of byte order, as some editors put it before everything */
#define HEADING                                                                                              \
    ASKED("a", "pages-0.png", "What is the heading?", "Mon", "anls")                                         \
    "}\n" ASKED("b", "pages-0.png", "What is the heading?", "Mon", "anls") "}\n"

START_TEST(a_byte_order_mark_is_no_question) {
    char path[512];
    process p;
    scratch_text("marked.jsonl", MARK HEADING);
    RUN_EVAL(&p, "--data", in_scratch("marked.jsonl", path), "-m", TINY, "--policy", "full", "-n", "1");
    expect(&p, 0, "2 questions answered in 1 way\n");
    process_release(&p);
}
END_TEST

/* Questions may come through a pipe; one that nobody writes into ends the run, as do a device and a folder.
 */
START_TEST(data_from_elsewhere) {
    char path[512];
    process p;
    process_run(&p,
                (const char *const[]){EVAL, "--data", "/dev/stdin", "-m", TINY, "--policy", "full", "-n", "1",
                                      NULL},
                HEADING, sizeof HEADING - 1);
    expect(&p, 0, "2 questions answered in 1 way\n");
    process_release(&p);
    ck_assert_int_eq(mkfifo(in_scratch("pipe", path), 0600), 0);
    RUN_EVAL(&p, "--data", path);
    expect(&p, 2, "is a pipe that no program writes into");
    process_release(&p);
    RUN_EVAL(&p, "--data", "/dev/zero");
    expect(&p, 2, "/dev/zero: neither a file nor a pipe");
    process_release(&p);
    RUN_EVAL(&p, "--data", "/");
    expect(&p, 2, "/: neither a file nor a pipe");
    process_release(&p);
    scratch_remove("pipe");
}
END_TEST

/* Neither of them ends, and what a path says does not reach a terminal as it is. */
START_TEST(pictures_that_never_come) {
    char path[512], pipe[512];
    process p;
    ck_assert_int_eq(mkfifo(in_scratch("pipe\033]0;x.png", pipe), 0600), 0);
    scratch_text(
        "never.jsonl",
        "{\"image\": \"/dev/zero\", \"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"exact\"}\n"
        "{\"image\": \"pipe\\u001b]0;x.png\", \"question\": \"x\", \"answers\": [\"y\"], \"metric\": "
        "\"exact\"}\n");
    RUN_EVAL(&p, "--data", in_scratch("never.jsonl", path), "-m", TINY, "--policy", "full", "-n", "1");
    expect(&p, 2, "never.jsonl:1: /dev/zero: neither a file nor a pipe");
    expect(&p, 2, "/pipe\xef\xbf\xbd]0;x.png: is a pipe that no program writes into (skipped)");
    ck_assert_ptr_null(strchr(p.err, '\033'));
    process_release(&p);
    remove(pipe);
}
END_TEST

/* Tables on a terminal, here by way of standard error: what a task is called does not clear the screen. */
START_TEST(tables_do_not_steer_a_terminal) {
    char path[512], command[2048];
    process p;
    scratch_text("steer.jsonl", ASKED("a", "pages-0.png", "What is the heading?", "Mon",
                                      "anls") ", \"task\": \"a\\u001b[2Jb\\u009bHc\"}\n");
    snprintf(command, sizeof command, "exec %s --data %s -m %s --policy full -n 1 --quiet >&2", EVAL,
             in_scratch("steer.jsonl", path), TINY);
    process_start_terminal(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, 100);
    process_finish(&p);
    expect(&p, 0, "## a\xef\xbf\xbd[2Jb\xef\xbf\xbdHc (ANLS)");
    ck_assert_ptr_null(strchr(p.err, '\033'));
    process_release(&p);
    snprintf(command, sizeof command, "exec %s --data %s -m %s --policy full -n 1 --quiet", EVAL, path, TINY);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    ended(&p, 0);
    ck_assert_ptr_nonnull(strstr(p.out, "## a\033[2Jb\xc2\x9bHc (ANLS)")); /* a file gets it as it is */
    process_release(&p);
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

/* ---- exit codes ---------------------------------------------------------------------------------------- */

/* With --data of a good file unless the first word is another --data. */
static const struct {
    const char *arguments[4];
    const char *said;
} bad_usage[] = {
    {{"--policy", "nothing"}, "vlcache, vlcache+, centroids"},
    {{"--policy", ""}, "vlcache, vlcache+, centroids"},
    {{"--policy", "vlcache@size=3"}, "\"size\": no such axis; there are label, allocation, scoring"},
    {{"--policy", "vlcache@recall=disk"}, "recall=disk: must be none or host"},
    {{"--policy", "vlcache@stream=1.5"}, "stream=1.5: must be a whole number"},
    {{"--policy", "vlcache+@stream=8"}, "not with coded rows"},
    {{"--policy", "vlcache@stream=8,recall=host"}, "not with recall=host"},
    {{"--policy", "vlcache@pooling"}, "\"pooling\": must be axis=value"},
    {{"--policy", "vlcache@pooling="}, "must be axis=value"},
    {{"--policy", "vlcache@allocation=some"}, "allocation"},
    {{"--policy", "vlcache@threshold=x"}, "threshold=x: must be a number"},
    {{"--policy", "vlcache@threshold=2"}, "threshold"},
    {{"--policy", "vlcache@sinks=1.5"}, "sinks=1.5: must be a whole number"},
    {{"--policy", "h2o,vlcache,h2o"}, "\"h2o\" stands there twice"},
    {{"--policy", "vlcache@label=\xff"}, "must be UTF-8"},
    {{"--policy", "h2o,vlcache@label=a\xc3"}, "must be UTF-8"},
    {{"--chat-template", "vic"}, "must be one of vicuna, "},
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

/* What a question's visual tokens show, counted, where pictures have at most so many pixels. */
static size_t cells_with(const char *data, const char *most) {
    process p;
    RUN_EVAL(&p, "-m", VLCACHE_TEST_DATA "/models/qwen2_5-vl", "--data", data, "-n", "1", "--policy", "full",
             "--max-pixels", most, "--results", results);
    expect(&p, 0, "1 question answered in 1 way");
    process_release(&p);
    char *text = slurp(results);
    json_t *record = record_of(text, 1);
    size_t n = json_array_size(get(record, "cells", JSON_ARRAY));
    json_decref(record);
    free(text);
    forget_results();
    return n;
}

START_TEST(pictures_of_any_size) {
    char path[512];
    process p;
    scratch_text("any.jsonl", "{" PICTURE_FIELD
                              ", \"question\": \"What?\", \"answers\": [\"x\"], "
                              "\"metric\": \"exact\"}\n");
    in_scratch("any.jsonl", path);
    ck_assert_uint_eq(cells_with(path, "40000"), 25 * 25);
    ck_assert_uint_eq(cells_with(path, "9000"), 11 * 11);
    RUN_EVAL(&p, EVALUATE(), "-m", TINY, "--max-pixels", "5000");
    expect(&p, 2, "model: max_pixels: is 5000, pictures of a llava model have sizes of its own");
    process_release(&p);
}
END_TEST

START_TEST(exit_codes_are_as_documented) {
    char empty[512];
    process p;
    scratch_text("empty.jsonl", "\n \n");
    in_scratch("empty.jsonl", empty);
    RUN_EVAL(&p, "--data", "no-such-file.jsonl");
    expect(&p, 2, "no-such-file.jsonl: cannot be opened: No such file");
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
    expect(&p, 2, "standard output cannot be written: No space left on device");
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
    for (int i = 0; i < 2; i++) {
        process_run(&p,
                    (const char *const[]){"/bin/sh", "-c", "exec \"$0\" \"$1\" >/dev/full", EVAL,
                                          i ? "--help" : "--version", NULL},
                    "", 0);
        expect(&p, 2, "standard output cannot be written: No space left on device");
        process_release(&p);
    }
    RUN_EVAL(&p, "--version");
    ended(&p, 0);
    ck_assert_msg(strncmp(p.out, "vlcache-eval " VLCACHE_VERSION " ", 14 + strlen(VLCACHE_VERSION)) == 0,
                  "%s", p.out);
    process_release(&p);
    RUN_EVAL(&p, "--help");
    expect(&p, 0, "");
    static const char *const names[] = {"--data",   "--policy", "--budget", "--results", "--limit",
                                        "--strict", "anls",     "exact",    "relaxed",   "cider",
                                        "contains", "130",      "--jobs",   "--share-of"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(strstr(p.out, names[i]) != NULL, "--help lacks \"%s\"", names[i]);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("eval");
    TCase *all = tcase_create("vlcache-eval");
    tcase_add_unchecked_fixture(all, run_whole, forget_whole);
    tcase_add_test(all, markdown_has_a_table_for_each_task);
    tcase_add_test(all, csv_says_what_json_says);
    tcase_add_test(all, the_full_cache_retains_itself);
    tcase_add_test(all, json_tells_the_storage);
    tcase_add_test(all, policies_have_the_same_bytes);
    tcase_add_test(all, rows_fit_into_bytes);
    tcase_add_test(all, what_has_no_rows_to_count);
    tcase_add_test(all, records_hold_every_answer);
    tcase_add_test(all, turns_follow_one_another);
    tcase_add_test(all, the_whole_budget_gives_the_full_cache_s_answers);
    tcase_add_test(all, bad_lines_are_named_and_skipped);
    tcase_add_test(all, strict_stops_at_a_bad_line);
    tcase_add_test(all, what_cannot_be_asked_is_skipped);
    tcase_add_test(all, a_byte_order_mark_is_no_question);
    tcase_add_test(all, data_from_elsewhere);
    tcase_add_test(all, pictures_that_never_come);
    tcase_add_test(all, tables_do_not_steer_a_terminal);
    tcase_add_test(all, paths_are_relative_to_the_data);
    tcase_add_loop_test(all, bad_usage_is_refused, 0, sizeof bad_usage / sizeof *bad_usage);
    tcase_add_test(all, questions_ship);
    tcase_add_test(all, pictures_of_any_size);
    tcase_add_test(all, exit_codes_are_as_documented);
    tcase_add_test(all, output_that_fails);
    tcase_add_test(all, help_and_version);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
