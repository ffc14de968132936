/*
 * test_core.c - status texts, messages, memory and the log.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "support/scratch.h"
#include "support/suite.h"

START_TEST(status) {
    ck_assert_str_eq(vlcache_status_name(VLCACHE_OK), "VLCACHE_OK");
    ck_assert_str_eq(vlcache_status_name(VLCACHE_E_FORMAT), "VLCACHE_E_FORMAT");
    ck_assert_str_eq(vlcache_status_text(VLCACHE_E_FORMAT), "file is malformed");
    ck_assert_str_eq(vlcache_status_name((vlcache_status)-99), "VLCACHE_E_?");
    ck_assert_str_eq(vlcache_status_text((vlcache_status)7), "unknown status");
    ck_assert_str_eq(vlcache_dtype_name(VLCACHE_DTYPE_BF16), "bf16");
    ck_assert_str_eq(vlcache_dtype_name((vlcache_dtype)9), "?");
    ck_assert_str_eq(vlcache_version(), VLCACHE_VERSION);
}
END_TEST

START_TEST(messages) {
    ck_assert_int_eq(vlci_fail(VLCACHE_E_IO, "%s: %d", "file", 7), VLCACHE_E_IO);
    ck_assert_str_eq(vlcache_error_message(), "file: 7");
    ck_assert_int_eq(vlci_fail_context(VLCACHE_E_IO, "model %d", 3), VLCACHE_E_IO);
    ck_assert_str_eq(vlcache_error_message(), "model 3: file: 7");
    /* the old message may be an argument of the new one */
    vlci_fail(VLCACHE_E_IO, "again: %s", vlcache_error_message());
    ck_assert_str_eq(vlcache_error_message(), "again: model 3: file: 7");
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    vlci_fail(VLCACHE_E_IO, "%s", longer);
    ck_assert_uint_eq(strlen(vlcache_error_message()), 2047);
    vlci_fail_context(VLCACHE_E_IO, "%s", longer);
    ck_assert_uint_eq(strlen(vlcache_error_message()), 2047);
    ck_assert_int_eq(vlci_fail_memory("thing"), VLCACHE_E_NO_MEMORY);
    ck_assert_str_eq(vlcache_error_message(), "out of host memory for the thing");
}
END_TEST

START_TEST(memory) {
    static volatile size_t huge = SIZE_MAX / 2;
    ck_assert_ptr_null(vlci_alloc(huge, 3));
    ck_assert_ptr_null(vlci_calloc(huge, 4));
    int *block = vlci_calloc(5, sizeof *block);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(block[i], 0);
    block[4] = 9;
    ck_assert_ptr_null(vlci_realloc(block, huge, 8));
    ck_assert_int_eq(block[4], 9); /* it stays as it was */
    vlci_free(block);
    block = vlci_alloc(0, 8);
    ck_assert_ptr_nonnull(block);
    vlci_free(block);
    vlci_free(NULL);
    ck_assert_ptr_null(vlci_strdup(NULL));
    char *text = vlci_format("%d-%s", 5, "a");
    ck_assert_str_eq(text, "5-a");
    vlcache_free(text);
}
END_TEST

START_TEST(failing) {
    bool failed;
    failing_start(1);
    char *one = vlci_strdup("a"), *two = vlci_strdup("b");
    ck_assert_ptr_nonnull(one);
    ck_assert_ptr_null(two);
    ck_assert_ptr_null(vlci_format("%d", 1));
    vlci_free(one);
    ck_assert_int_eq(failing_stop(&failed), 0);
    ck_assert(failed);
}
END_TEST

static char lines[2][1100];
static int n_lines;

static void take_line(void *user, vlcache_log_level level, const char *line) {
    ck_assert_ptr_eq(user, lines);
    ck_assert_int_eq(level, VLCACHE_LOG_WARN);
    snprintf(lines[n_lines++ & 1], sizeof lines[0], "%s", line);
}

START_TEST(logging) {
    char longer[3000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    vlci_log(VLCACHE_LOG_WARN, "nobody listens");
    vlcache_set_log(take_line, lines);
    vlci_log(VLCACHE_LOG_WARN, "a %d", 1);
    vlci_log(VLCACHE_LOG_WARN, "%s", longer);
    vlcache_set_log(NULL, NULL);
    vlci_log(VLCACHE_LOG_WARN, "nobody listens");
    ck_assert_int_eq(n_lines, 2);
    ck_assert_str_eq(lines[0], "a 1");
    ck_assert_uint_eq(strlen(lines[1]), 1023);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("core");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, status);
    tcase_add_test(cases, messages);
    tcase_add_test(cases, memory);
    tcase_add_test(cases, failing);
    tcase_add_test(cases, logging);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
