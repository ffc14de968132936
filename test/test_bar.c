/*
 * test_bar.c - the line of progress: which of many reports are drawn, however fast they come.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/console.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"

/* What a console with bars draws while `say` reports. Released by the caller. */
static char *drawn(void (*say)(console *c)) {
    char path[512];
    console c = {.bars = true};
    int kept = dup(STDERR_FILENO), file = open(in_scratch("bars", path), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert(kept >= 0 && file >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    say(&c);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    off_t n = lseek(file, 0, SEEK_END);
    char *text = calloc((size_t)n + 1, 1);
    ck_assert_int_eq(pread(file, text, (size_t)n, 0), n);
    close(kept);
    close(file);
    return text;
}

static int draws(const char *text) {
    int n = 0;
    for (const char *at = text; (at = strchr(at, '\r')); at++) n++;
    return n;
}

static void one_stage(console *c) {
    for (int i = 0; i < 1000; i++) ck_assert(console_progress(c, "loading weights", (uint64_t)i, 1000));
}

static void two_stages(console *c) {
    for (int i = 0; i < 1000; i++)
        ck_assert(console_progress(c, i % 2 ? "reading" : "reading the prompt", (uint64_t)i, 1000));
}

static void many_stages(console *c) {
    char name[32];
    for (int i = 0; i < 15; i++) {
        snprintf(name, sizeof name, "stage %d", i);
        ck_assert(console_progress(c, name, 1, 2));
        two_stages(c);
    }
}

/* A thousand reports of a moment are one line; two stages in turn are ten, whatever happens. */
START_TEST(few_draws) {
    char *text = drawn(one_stage);
    ck_assert_int_ge(draws(text), 1);
    ck_assert_int_le(draws(text), 12); /* a second's worth on a machine that is as slow */
    free(text);
    text = drawn(two_stages);
    ck_assert_int_ge(draws(text), 2);
    ck_assert_int_le(draws(text), 22);
    free(text);
}
END_TEST

/* Ten lines of a second may be used up: a stage that nobody has seen shows all the same. */
START_TEST(every_stage_shows) {
    char *text = drawn(many_stages), name[32];
    for (int i = 0; i < 15; i++) {
        snprintf(name, sizeof name, "stage %d ", i);
        ck_assert_msg(strstr(text, name) != NULL, "%s is not among: %s", name, text);
    }
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bar");
    TCase *all = tcase_create("bar");
    tcase_add_test(all, few_draws);
    tcase_add_test(all, every_stage_shows);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
