/*
 * test_results.c - results that outlive the program: whatever ends a run, the same command goes on and comes
 * to the same bytes; and no other file, run, model or picture passes for its own.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"

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

/* ---- going on ------------------------------------------------------------------------------------------ */

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
    REFUSED(1, "\"variants\" differs", EVALUATE(), "--policy", "centroids@recent=0.3,sinks=4");
    REFUSED(1, "\"chat_template\" differs", EVALUATE(), "--chat-template", "plain");
    REFUSED(1, "\"dtype\" differs", EVALUATE(), "--dtype", "f32");
    REFUSED(1, "\"model\" differs", EVALUATE(), "--max-pixels", "5000");
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

/* What is no results file is left as it is, also where its first line has no end. */
static const char *const foreign[] = {"notes", "{\"vlcache_eval\": 2}", "{\"vlcache_eval\":1,\"data\"", "\n"};

START_TEST(what_is_not_ours_is_refused) {
    begin_results(foreign[_i], strlen(foreign[_i]));
    REFUSED(1, "is no file of vlcache-eval; name another", EVALUATE());
    forget_results();
}
END_TEST

START_TEST(a_pipe_is_no_results_file) {
    process p;
    ck_assert_int_eq(mkfifo(results, 0600), 0);
    RUN_EVAL(&p, EVALUATE(), "--results", results);
    expect(&p, 2, "is no regular file");
    process_release(&p);
    forget_results();
}
END_TEST

/* ---- one run at a time --------------------------------------------------------------------------------- */

/* The second is told who is first, and changes nothing; what killed the first leaves no lock behind. */
START_TEST(two_runs_do_not_share_results) {
    process one, other;
    char said[128];
    process_start(&one, (const char *const[]){EVAL, EVALUATE(), "--results", results, "--jobs",
                                              _i ? "2" : "1", "-n", "64", NULL});
    await_lines(2);
    process_signal(&one, SIGSTOP); /* a fast device would be done before it is killed */
    RUN_EVAL(&other, EVALUATE(), "--results", results, "-n", "64");
    snprintf(said, sizeof said, "process %ld is at it: wait for its end, or name another file",
             (long)one.pid);
    expect(&other, 2, said);
    ck_assert_str_eq(other.out, "");
    process_release(&other);
    process_signal(&one, SIGKILL);
    process_finish(&one);
    ck_assert_int_eq(one.code, 128 + SIGKILL);
    process_release(&one);
    RUN_EVAL(&other, EVALUATE(), "--results", results, "-n", "64", "--limit", "1");
    ended(&other, 0);
    process_release(&other);
    forget_results();
}
END_TEST

/* ---- kept ---------------------------------------------------------------------------------------------- */

#define UNSYNCED "LD_PRELOAD=" VLCACHE_BINARY_DIR "/libvlcache_unsynced.so "

/* A disk that cannot keep them is told, and nothing is said to be kept. */
START_TEST(results_reach_the_disk) {
    char command[2048];
    process p;
    snprintf(command, sizeof command,
             "ASAN_OPTIONS=verify_asan_link_order=0 " UNSYNCED
             "exec %s --data %s --policy full -n 2 --limit 1 --results %s",
             EVAL, questions, results);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    expect(&p, 2, "Input/output error");
    ck_assert_str_eq(p.out, "");
    process_release(&p);
    forget_results();
}
END_TEST

/* With no standard output, none of the files that are opened takes its place. */
START_TEST(a_closed_output_is_no_file_s_place) {
    char command[2048];
    process p;
    begin_results(whole_results, strlen(whole_results));
    snprintf(command, sizeof command, "exec %s --data %s --policy '%s' --budget %s -n 5 --results %s >&-",
             EVAL, questions, POLICIES, BUDGETS, results);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    expect(&p, 2, "standard output cannot be written: Bad file descriptor");
    char *text = slurp(results);
    ck_assert_str_eq(text, whole_results);
    free(text);
    process_release(&p);
    forget_results();
}
END_TEST

/* ---- the same contents --------------------------------------------------------------------------------- */

/* Copies a file into the scratch folder, with its byte `at` changed unless that is negative. */
static void copy_changed(const char *from, const char *name, long at) {
    static char bytes[4 << 20];
    FILE *file = fopen(from, "rb");
    ck_assert_ptr_nonnull(file);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ck_assert(n < sizeof bytes && at < (long)n);
    if (at >= 0) bytes[at] ^= 1;
    scratch_write(name, bytes, n);
}

/* Sets the file's times back, as who replaces a file in secret would. */
static void hide_change(const char *path) {
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
}

static const char one_question[] =
    "{\"image\": \"shown.png\", \"question\": \"What is this?\", \"answers\": [\"x\"], \"metric\": "
    "\"exact\"}\n";

/* Another checkpoint of the same names, sizes and times is another one. */
START_TEST(a_replaced_checkpoint_is_another) {
    static const char *const files[] = {"chat_template.json",       "config.json",
                                        "generation_config.json",   "model.safetensors",
                                        "preprocessor_config.json", "processor_config.json",
                                        "tokenizer.json",           "tokenizer_config.json"};
    char from[512], weights[512], data[512];
    process p;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(from, sizeof from, "%s/%s", TINY, files[i]);
        copy_changed(from, files[i], -1);
    }
    hide_change(in_scratch("model.safetensors", weights));
    copy_changed(PICTURE, "shown.png", -1);
    scratch_text("one.jsonl", one_question);
    in_scratch("one.jsonl", data);
#define ONE "--data", data, "-m", scratch_folder(), "--policy", "full", "-n", "2"
    RUN_EVAL(&p, ONE, "--results", results);
    ended(&p, 0);
    process_release(&p);
    copy_changed(TINY "/model.safetensors", "model.safetensors", 1276000);
    hide_change(weights);
    REFUSED(1, "\"model\" differs", ONE);
    copy_changed(TINY "/model.safetensors", "model.safetensors", -1);
    RUN_EVAL(&p, ONE, "--results", results);
    ended(&p, 0);
    process_release(&p);
    forget_results();
}
END_TEST

START_TEST(a_replaced_picture_is_another) {
    char data[512], picture[512], text[512];
    process p;
    copy_changed(SAMPLES "pages-0.png", "shown.png", -1);
    in_scratch("shown.png", picture);
    snprintf(text, sizeof text, "%s%s", one_question, one_question);
    scratch_text("two.jsonl", text);
    in_scratch("two.jsonl", data);
#define TWO "--data", data, "-m", TINY, "--policy", "full", "-n", "2"
    RUN_EVAL(&p, TWO, "--results", results);
    ended(&p, 0);
    process_release(&p);
    copy_changed(SAMPLES "pages-1.png", "shown.png", -1);
    REFUSED(1, "the question of line 1 was asked of another picture: ", TWO);
    copy_changed(SAMPLES "pages-0.png", "shown.png", -1);
    RUN_EVAL(&p, TWO, "--results", results);
    expect(&p, 0, "2 questions answered");
    process_release(&p);
    forget_results();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("results");
    TCase *all = tcase_create("results");
    tcase_add_unchecked_fixture(all, run_whole, forget_whole);
    tcase_add_test(all, runs_are_equal_to_the_byte);
    tcase_add_test(all, a_killed_run_goes_on);
    tcase_add_test(all, an_interrupted_run_goes_on);
    tcase_add_test(all, an_interrupted_run_without_results_is_lost);
    tcase_add_loop_test(all, a_torn_line_is_asked_again, 0, 6);
    tcase_add_test(all, more_questions_go_on_with_few);
    tcase_add_test(all, results_of_another_run_are_refused);
    tcase_add_test(all, results_of_another_device_are_refused);
    tcase_add_test(all, a_damaged_line_is_refused);
    tcase_add_loop_test(all, what_is_not_ours_is_refused, 0, sizeof foreign / sizeof *foreign);
    tcase_add_test(all, a_pipe_is_no_results_file);
    tcase_add_loop_test(all, two_runs_do_not_share_results, 0, 2);
    tcase_add_test(all, results_reach_the_disk);
    tcase_add_test(all, a_closed_output_is_no_file_s_place);
    tcase_add_test(all, a_replaced_checkpoint_is_another);
    tcase_add_test(all, a_replaced_picture_is_another);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
