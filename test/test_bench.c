/*
 * test_bench.c - vlcache-bench: its two tables say what the engine does, and bad flags are refused.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "support/tool.h"

#define BENCH VLCACHE_BINARY_DIR "/vlcache-bench"
#define MEASURE(p, ...)                                                                                      \
    process_run(p, (const char *const[]){BENCH, "-m", TINY, "--image", PICTURE, __VA_ARGS__, NULL}, "", 0)

/* A line per policy and number; a step advances all, and takes at least what the host is at work. */
START_TEST(speed_is_told) {
    process p;
    MEASURE(&p, "-q", "-n", "16", "-r", "3", "-b", "1,3", "--policy", "full,vlcache");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 2 + 4);
    const char *line = strchr(strchr(p.out, '\n') + 1, '\n') + 1;
    double held[4];
    for (int i = 0; i < 4; i++, line = strchr(line, '\n') + 1) {
        char policy[16], fewest[16];
        int n;
        double median, most, times, step, host;
        ck_assert_int_eq(sscanf(line, "| %15s | %d | %lf (%15[0-9]..%lf) | %lf | %lf | %lf | %lf |", policy,
                                &n, &median, fewest, &most, &times, &step, &host, &held[i]),
                         9);
        ck_assert_str_eq(policy, i < 2 ? "full" : "vlcache");
        ck_assert_int_eq(n, i % 2 ? 3 : 1);
        double least = atof(fewest);
        ck_assert(0 < least && least <= median && median <= most);
        ck_assert(host > 0 && host <= step + 0.001);
        ck_assert(fabs(n * 1e3 / step - median) <= 0.02 * median);
    }
    ck_assert(held[1] > 2.9 * held[0] && held[3] > 1.5 * held[2] && held[2] < held[0]);
    process_release(&p);
}
END_TEST

/* A tenth of the cache lets more conversations in, as many more as memory lets one work out. */
START_TEST(fit_is_told) {
    process p;
    int full, small;
    double share;
    MEASURE(&p, "-q", "-n", "4", "--kv-mib", "0.5", "--policy", "full,vlcache");
    ended(&p, 0);
    const char *line = strstr(p.out, "| full |");
    ck_assert(line && sscanf(line, "| full | %d | 1.00 | %lf%% |", &full, &share) == 2);
    ck_assert(full >= 1 && share >= 0 && share < 50);
    line = strstr(p.out, "| vlcache |");
    ck_assert(line && sscanf(line, "| vlcache | %d |", &small) == 1);
    ck_assert_int_gt(small, full);
    process_release(&p);
}
END_TEST

static const struct {
    int code;
    const char *flag, *value, *says;
} endings[] = {
    {0, "--help", NULL, ""},
    {0, "--version", NULL, ""},
    {1, "--no-such-flag", NULL, "no-such-flag"},
    {1, "--policy", "best", "best"},
    {1, "-b", "0", "numbers of sequences from 1 to 1024"},
    {1, "-b", "2,many", "numbers of sequences from 1 to 1024"},
    {1, "-n", "0", "from 1"},
    {1, "--budget", "1.5", "budget"},
    {1, "-c", "few", "few"},
    {1, "-c", "8", "-c N sets the context"},
    {2, "-m", "/no/such/folder", "/no/such/folder"},
    {2, "--image", "/no/such/picture", "/no/such/picture"},
    {3, "--device", "no such device", "no such device"},
};

START_TEST(bench_ends_as_documented) {
    process p;
    MEASURE(&p, "-q", "-r", "1", endings[_i].flag, endings[_i].value);
    ended(&p, endings[_i].code);
    ck_assert_msg(strstr(p.err, endings[_i].says) != NULL, "\"%s\" lacks \"%s\"", p.err, endings[_i].says);
    ck_assert_ptr_null(strstr(p.out, "(null)"));
    process_release(&p);
}
END_TEST

/* What cannot be measured is said, not told as nothing. */
START_TEST(answers_that_never_meet_are_refused) {
    process p;
    MEASURE(&p, "-q", "-r", "1", "-n", "1", "-b", "4", "--policy", "full");
    expect(&p, 2, "ask for more (-n) or of fewer (-b)");
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bench");
    TCase *all = tcase_create("vlcache-bench");
    tool_environment();
    tcase_add_test(all, speed_is_told);
    tcase_add_test(all, fit_is_told);
    tcase_add_loop_test(all, bench_ends_as_documented, 0, sizeof endings / sizeof *endings);
    tcase_add_test(all, answers_that_never_meet_are_refused);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
