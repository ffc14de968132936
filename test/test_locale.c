/*
 * test_locale.c - in a program whose numbers have a comma and whose months are German, kernels, templates and
 * answers are what they are in any other.
 *
 * The locale is one that is installed, or is made by localedef in the scratch folder; where neither is to be
 * had, nothing is tested, which is said.
 */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vlcache/vlcache.h>

#include "compute/attention.h"
#include "core/locale.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "tokens/template.h"

#define CAPPED VLCACHE_TEST_DATA "/text/gemma2"

static char german[600]; /* "" where there is none */

static bool has_comma(const char *name) {
    return setlocale(LC_ALL, name) && strcmp(localeconv()->decimal_point, ",") == 0;
}

static void find_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "de_AT.utf8"};
    char command[1200];
    for (size_t i = 0; i < sizeof names / sizeof *names && !*german; i++)
        if (has_comma(names[i])) snprintf(german, sizeof german, "%s", names[i]);
    if (!*german) {
        snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1",
                 scratch_folder(), scratch_folder());
        setenv("LOCPATH", scratch_folder(), 1);
        if (system(command) == 0 && has_comma("de_DE.UTF-8")) strcpy(german, "de_DE.UTF-8");
    }
    setlocale(LC_ALL, "C");
    if (!*german)
        fputs("locale: no locale with a comma is installed or can be made: nothing is tested\n", stderr);
}

START_TEST(functions) {
    char text[40], *end;
    const struct tm when = {.tm_year = 124, .tm_mon = 9, .tm_mday = 3};
    if (!*german) return;
    ck_assert(has_comma(german));
    ck_assert_double_eq(vlci_strtod("2.5x", &end), 2.5);
    ck_assert_str_eq(end, "x");
    ck_assert_int_eq(vlci_snprintf(text, sizeof text, "%.2f", 0.25), 4);
    ck_assert_str_eq(text, "0.25");
    ck_assert_uint_eq(vlci_strftime(text, sizeof text, "%d %b", &when), 6);
    ck_assert_str_eq(text, "03 Oct");
    snprintf(text, sizeof text, "%.1f", 0.5); /* the program's is what it was */
    ck_assert_str_eq(text, "0,5");
    ck_assert_str_eq(vlci_attention_cap(50.0f, text), " -DSOFT_CAP=5.00000000e+01f");
}
END_TEST

START_TEST(templates) {
    static const char text[] =
        "{{ 0.5 * 3 }} {{ 1e-7 }} {{ '%.2f'|format(2.5) }} {{ '0.25'|float + 1 }} {{ [0.1]|tojson }} "
        "{{ strftime_now('%d %b') }}";
    const vlci_rendering with = {.now = 1727956800}; /* 2024-10-03, noon */
    vlci_template *tpl = NULL;
    vlci_rendered got;
    if (!*german) return;
    ck_assert(has_comma(german));
    ck_ok(vlci_template_create("t.jinja", text, strlen(text), &tpl));
    ck_ok(vlci_template_render(tpl, &with, &got));
    ck_assert_str_eq(got.text, "1.5 1e-07 2.50 1.25 [0.1] 03 Oct");
    vlci_rendered_release(&got);
    vlci_template_destroy(&tpl);
}
END_TEST

/* Capped logits have their bound in a kernel's options. */
static void answer_of(char text[4096]) {
    vlcache_model *model = NULL;
    talk_listener heard = {.stop_after = 0};
    ck_ok(vlcache_model_load(suite_device(), CAPPED, NULL, &model));
    vlcache_session *session = talk_open(model, "full", 1.0);
    ck_ok(talk_ask(session, NULL, "What is it?", &heard, 12, NULL));
    strcpy(text, heard.text);
    vlcache_session_destroy(&session);
    vlcache_model_destroy(&model);
}

START_TEST(answers) {
    char plain[4096], comma[4096];
    if (!*german) return;
    answer_of(plain);
    ck_assert(has_comma(german));
    answer_of(comma);
    ck_assert_str_eq(comma, plain);
}
END_TEST

/* What was measured in one locale is read in another. */
START_TEST(measurements) {
    vlcache_gemm_engine before[8], after[8];
    size_t n = 0, m = 0;
    if (!*german) return;
    ck_ok(vlcache_device_gemm(suite_device(), VLCACHE_DTYPE_F32, true, before, 8, &n));
    suite_close_device();
    ck_assert(has_comma(german));
    ck_ok(vlcache_device_gemm(suite_device(), VLCACHE_DTYPE_F32, false, after, 8, &m));
    ck_assert_uint_eq(m, n);
    for (size_t i = 0; i < n; i++) {
        double apart = fabs(after[i].gflops - before[i].gflops);
        ck_assert_msg(apart <= 1e-5 * before[i].gflops, "%s: %g, not %g", after[i].name, after[i].gflops,
                      before[i].gflops);
    }
}
END_TEST

static void back(void) {
    setlocale(LC_ALL, "C");
}

int main(void) {
    Suite *suite = suite_create("locale");
    TCase *all = tcase_create("locale");
    setenv("TZ", "UTC", 1);
    tcase_add_unchecked_fixture(all, find_locale, scratch_clean);
    tcase_add_checked_fixture(all, NULL, back);
    tcase_add_test(all, functions);
    tcase_add_test(all, templates);
    tcase_add_test(all, answers);
    tcase_add_test(all, measurements);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
