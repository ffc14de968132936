/*
 * test_jobs.c - vlcache-eval --jobs: several questions at a time come to the same bytes as one after another,
 * and no process is left behind.
 */
#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"

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

/* All jobs open the same model: what there is to be warned of is said by one. */
START_TEST(jobs_warn_once) {
    process p;
    const char *was = getenv("XDG_CACHE_HOME");
    char *before = was ? strdup(was) : NULL, folder[600], cache[640];
    snprintf(folder, sizeof folder, "%s/open", scratch_folder());
    snprintf(cache, sizeof cache, "%s/vlcache", folder);
    ck_assert(mkdir(folder, 0700) == 0 && mkdir(cache, 0700) == 0 && chmod(cache, 0777) == 0);
    setenv("XDG_CACHE_HOME", folder, 1);
    RUN_EVAL(&p, EVALUATE(), "--results", results, "--jobs", "2");
    if (before)
        setenv("XDG_CACHE_HOME", before, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    free(before);
    expect(&p, 0, "vlcache-eval: warning: ");
    ck_assert_ptr_null(strstr(strstr(p.err, "warning: ") + 1, "warning: "));
    ck_assert_str_eq(p.out, first.out);
    process_release(&p);
    scratch_remove("open");
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

int main(void) {
    Suite *suite = suite_create("jobs");
    TCase *all = tcase_create("jobs");
    tcase_add_unchecked_fixture(all, run_whole, forget_whole);
    tcase_add_test(all, jobs_come_to_the_same_bytes);
    tcase_add_test(all, jobs_warn_once);
    tcase_add_test(all, jobs_go_on_with_what_one_began);
    tcase_add_test(all, interrupted_jobs_go_on);
    tcase_add_test(all, jobs_end_with_what_began_them);
    tcase_add_test(all, a_job_that_is_killed_ends_the_run);
    tcase_add_test(all, failures_of_jobs_are_told_once);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
