/*
 * test_core.c - status texts, errors, options of other versions, memory, the log, and
 * teams of threads.
 */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/options.h"
#include "core/status.h"
#include "core/team.h"
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

static void check_error(vlcache_status code, const char *file, const char *field, const char *value,
                        const char *hint, const char *message) {
    const vlcache_error *e = vlcache_last_error();
    ck_assert_uint_eq(e->size, sizeof *e);
    ck_assert_int_eq(e->status, code);
    ck_assert_str_eq(e->file, file);
    ck_assert_str_eq(e->field, field);
    ck_assert_str_eq(e->value, value);
    ck_assert_str_eq(e->hint, hint);
    ck_assert_str_eq(e->message, message);
    ck_assert_ptr_eq(e->message, vlcache_error_message());
}

START_TEST(error_fields) {
    vlci_refuse(VLCACHE_E_FORMAT, "m/config.json", "a.b", VLCI_VALUE("%d", 7), "must be %d", 8);
    check_error(VLCACHE_E_FORMAT, "m/config.json", "a.b", "7", "must be 8",
                "m/config.json: a.b: is 7, must be 8");
    vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.budget", "2", "must be at most 1");
    check_error(VLCACHE_E_ARGUMENT, "", "compress.budget", "2", "must be at most 1",
                "compress: budget: is 2, must be at most 1");
    vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.text", NULL, "is NULL: give it");
    check_error(VLCACHE_E_ARGUMENT, "", "prompt.text", "", "is NULL: give it",
                "prompt: text: is NULL: give it");
    vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_GEMM", "best", "must be portable");
    check_error(VLCACHE_E_ARGUMENT, "", "VLCACHE_GEMM", "best", "must be portable",
                "VLCACHE_GEMM: is \"best\", must be portable");
    vlci_fail_file(VLCACHE_E_IO, "a.png", "copy it again", "ends at %d", 3);
    check_error(VLCACHE_E_IO, "a.png", "", "", "copy it again", "a.png: ends at 3: copy it again");
    vlci_fail_file(VLCACHE_E_IO, "a.png", NULL, "ends");
    check_error(VLCACHE_E_IO, "a.png", "", "", "", "a.png: ends");
    vlci_refuse(VLCACHE_E_FORMAT, "f", "k", "1", "must be 2");
    vlci_fail_context(VLCACHE_E_FORMAT, "variant %d", 3); /* the fields stay */
    check_error(VLCACHE_E_FORMAT, "f", "k", "1", "must be 2", "variant 3: f: k: is 1, must be 2");
    /* those of the error before may be arguments */
    const vlcache_error *e = vlcache_last_error();
    vlci_fail_field(VLCACHE_E_IO, e->field, e->file, e->hint, e->value, "%s", e->message);
    check_error(VLCACHE_E_IO, "k", "f", "must be 2", "1", "variant 3: f: k: is 1, must be 2");
    vlci_fail(VLCACHE_E_DEVICE, "else"); /* nothing of them is left */
    check_error(VLCACHE_E_DEVICE, "", "", "", "", "else");
}
END_TEST

static int fail_elsewhere(void *unused) {
    (void)unused;
    ck_assert_str_eq(vlcache_last_error()->field, "");
    ck_assert_int_eq(vlcache_last_error()->status, VLCACHE_OK);
    vlci_refuse(VLCACHE_E_IO, "there", "b", "2", "no");
    return 0;
}

START_TEST(error_of_its_thread) {
    thrd_t thread;
    vlci_refuse(VLCACHE_E_FORMAT, "here", "a", "1", "yes");
    ck_assert_int_eq(thrd_create(&thread, fail_elsewhere, NULL), thrd_success);
    ck_assert_int_eq(thrd_join(thread, NULL), thrd_success);
    check_error(VLCACHE_E_FORMAT, "here", "a", "1", "yes", "here: a: is 1, yes");
}
END_TEST

/* ---- options of other versions ------------------------------------------------------------------------- */

/* As the library has them; the version before had no `late`, the one after has `new`. */
typedef struct wish {
    size_t size;
    const char *name;
    int early, middle;
    double late;
} wish;
typedef struct later_wish {
    wish known;
    double new[3];
} later_wish;
#define WISH_INIT                                                                                            \
    { sizeof(wish), "default", 1, 2, 3.0 }

static vlcache_status take(const void *from, wish *to) {
    memset(to, 0xff, sizeof *to);
    return VLCI_OPTIONS_TAKE("wish", wish, early, WISH_INIT, from, to);
}

static void refused(const void *from, size_t size, const char *part) {
    wish to;
    ck_fails(take(from, &to), VLCACHE_E_ARGUMENT, part);
    ck_assert_str_eq(vlcache_last_error()->field, "wish.size");
    ck_assert_uint_eq(strtoull(vlcache_last_error()->value, NULL, 10), size);
    ck_assert_ptr_nonnull(strstr(vlcache_last_error()->hint, "WISH_INIT"));
}

START_TEST(options_of_other_versions) {
    later_wish from = {{sizeof(wish), "asked", 4, 5, 6.0}, {0}};
    wish to;
    ck_ok(take(NULL, &to));
    ck_assert(to.size == sizeof to && strcmp(to.name, "default") == 0 && to.middle == 2 && to.late == 3.0);
    ck_ok(take(&from, &to));
    ck_assert(to.early == 4 && to.middle == 5 && to.late == 6.0);
    from.known.size = offsetof(wish, late); /* older: a default for what it has not */
    ck_ok(take(&from, &to));
    ck_assert(to.size == sizeof to && to.early == 4 && to.middle == 5 && to.late == 3.0);
    from.known.size = offsetof(wish, early); /* no more than has to be given */
    ck_ok(take(&from, &to));
    ck_assert(strcmp(to.name, "asked") == 0 && to.early == 1 && to.middle == 2 && to.late == 3.0);
    from.known.size = sizeof from; /* newer, and leaves what is new alone */
    ck_ok(take(&from, &to));
    ck_assert(to.size == sizeof to && to.late == 6.0);
    memset((char *)&from + sizeof from - 1, 1, 1); /* the very last byte says something */
    refused(&from, sizeof from, "too old for");
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), VLCI_VALUE("byte %zu", sizeof from - 1)));
    from.new[2] = 0.0;
    from.new[0] = 1.0;
    refused(&from, sizeof from, "too old for");
}
END_TEST

START_TEST(options_of_no_version) {
    static const size_t sizes[] = {0,
                                   1,
                                   8,
                                   offsetof(wish, early) - 1,
                                   offsetof(wish, early) + 1,
                                   sizeof(wish) - 1,
                                   sizeof(wish) + 1,
                                   4097,
                                   1u << 20,
                                   SIZE_MAX / 2,
                                   SIZE_MAX - 7};
    wish from = WISH_INIT;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        from.size = sizes[i];
        refused(&from, sizes[i], "or that of another version: start from");
    }
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

/* ---- teams --------------------------------------------------------------------------------------------- */

enum { ITEMS = 1000 };
typedef struct list {
    int done[ITEMS], members[VLCI_TEAM_MOST];
    size_t bad[2]; /* these fail */
} list;

static vlcache_status do_item(void *user, size_t item, int member) {
    list *l = user;
    __atomic_add_fetch(&l->done[item], 1, __ATOMIC_RELAXED);
    l->members[member]++; /* nobody else's meanwhile */
    for (int i = 0; i < 2; i++)
        if (item == l->bad[i])
            return vlci_refuse(VLCACHE_E_IO, "list", VLCI_VALUE("%zu", item), "1", "must be 2");
    return VLCACHE_OK;
}

/* Each item is one member's, whatever the list's length, one list after another. */
START_TEST(team_lists) {
    static const int sizes[] = {1, 2, 5, VLCI_TEAM_MOST + 3};
    vlci_team *team = NULL;
    ck_ok(vlci_team_create(sizes[_i], &team));
    int most = vlci_team_size(team), wanted = sizes[_i] < VLCI_TEAM_MOST ? sizes[_i] : VLCI_TEAM_MOST;
    ck_assert_int_eq(most, wanted);
    for (size_t n = 0; n <= ITEMS; n = n < 4 ? n + 1 : n * 5 / 2) {
        list l = {.bad = {ITEMS, ITEMS}};
        int sum = 0;
        ck_ok(vlci_team_run(team, n, do_item, &l));
        for (size_t i = 0; i < ITEMS; i++) ck_assert_int_eq(l.done[i], i < n);
        for (int i = 0; i < VLCI_TEAM_MOST; i++) sum += l.members[i];
        for (int i = most; i < VLCI_TEAM_MOST; i++) ck_assert_int_eq(l.members[i], 0);
        ck_assert_uint_eq((size_t)sum, n);
    }
    vlci_team_destroy(&team);
    ck_assert_ptr_null(team);
    vlci_team_destroy(&team);
}
END_TEST

/* The lowest failure is told on the caller's thread; the next list starts anew. */
START_TEST(team_failures) {
    vlci_team *team = NULL;
    ck_ok(vlci_team_create(1 + _i, &team));
    for (size_t at = 0; at < 300; at++) {
        list l = {.bad = {at, at + 1}};
        ck_assert_int_eq(vlci_team_run(team, ITEMS, do_item, &l), VLCACHE_E_IO);
        check_error(VLCACHE_E_IO, "list", VLCI_VALUE("%zu", at), "1", "must be 2",
                    VLCI_VALUE("list: %zu: is 1, must be 2", at));
        for (size_t i = 0; i < ITEMS; i++) ck_assert_int_le(l.done[i], 1);
        ck_assert_int_eq(l.done[at], 1);
        l = (list){.bad = {ITEMS, ITEMS}};
        ck_ok(vlci_team_run(team, 5, do_item, &l));
    }
    vlci_team_destroy(&team);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("core");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, status);
    tcase_add_test(cases, messages);
    tcase_add_test(cases, error_fields);
    tcase_add_test(cases, error_of_its_thread);
    tcase_add_test(cases, options_of_other_versions);
    tcase_add_test(cases, options_of_no_version);
    tcase_add_test(cases, memory);
    tcase_add_test(cases, failing);
    tcase_add_test(cases, logging);
    tcase_add_loop_test(cases, team_lists, 0, 4);
    tcase_add_loop_test(cases, team_failures, 0, 4);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
