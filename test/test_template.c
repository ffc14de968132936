/*
 * test_template.c - the interpreter of templates: against jinja2 (goldens), whose each byte is, what is told
 * of errors, and that hostile templates end soon.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "tokens/template.h"

static vlcache_status render(const char *text, const vlci_rendering *with, vlci_rendered *out) {
    vlci_template *tpl = NULL;
    *out = (vlci_rendered){0};
    vlcache_status status = vlci_template_create("t.jinja", text, strlen(text), &tpl);
    if (!status) status = vlci_template_render(tpl, with, out);
    vlci_template_destroy(&tpl);
    return status;
}

/* ---- goldens ------------------------------------------------------------------------------------------- */

START_TEST(goldens) {
    json_t *root = json_load_file(VLCACHE_TEST_DATA "/templates.json", 0, NULL), *one;
    ck_assert_ptr_nonnull(root);
    const vlci_rendering with = {.variables = json_object_get(root, "variables"), .now = 0};
    size_t i, texts = 0, n = json_array_size(json_object_get(root, "cases"));
    json_array_foreach(json_object_get(root, "cases"), i, one) {
        const char *text = json_string_value(json_object_get(one, "template"));
        const json_t *want = json_object_get(one, "text");
        vlci_rendered got;
        vlcache_status status = render(text, &with, &got);
        ck_assert_msg(!status == !!want, "%s: %s", text, status ? vlcache_error_message() : got.text);
        if (want) {
            bool same = got.bytes == json_string_length(want) &&
                        memcmp(got.text, json_string_value(want), got.bytes) == 0;
            ck_assert_msg(same, "%s: \"%s\", jinja2: \"%s\"", text, got.text, json_string_value(want));
            texts++;
        } else {
            ck_assert_ptr_null(got.text);
            ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "t.jinja: "));
        }
        vlci_rendered_release(&got);
    }
    ck_assert_uint_gt(n, 600);
    ck_assert_uint_gt(texts, 500);
    json_decref(root);
}
END_TEST

/* ---- whose --------------------------------------------------------------------------------------------- */

static const vlci_piece pieces[] = {{VLCI_PIECE_TEXT, "ab <s>", 6, false},
                                    {VLCI_PIECE_MARK, "<image>", 7, false},
                                    {VLCI_PIECE_TEXT, " cd ", 4, false}};
static const vlci_piece answer[] = {{VLCI_PIECE_TEXT, "yes", 3, true}};
static const vlci_message messages[] = {{"user", pieces, 3, false}, {"assistant", answer, 1, false}};
static const struct {
    const char *text, *want, *whose; /* t: the template's, u: words, a: the answer */
} origins[] = {
    {"<s>{{ messages[0].content }}</s>", "<s>ab <s><image> cd </s>", "tttuuuuuutttttttuuuutttt"},
    {"{{ messages[0].content|trim }}!", "ab <s><image> cd!", "uuuuuutttttttuuut"},
    {"{{ messages[0].content[1:3] ~ messages[1].content + 'x' }}", "b yesx", "uuaaat"},
    {"{{ messages[0].content.split(' ')|join('-') }}", "ab-<s><image>-cd-",
     "uutuuutttttttt"
     "uut"},
    {"{{ messages[0].content.replace('b', 'BB') }}", "aBB <s><image> cd ", "uttuuuutttttttuuuu"},
    {"{{ messages[0].role|upper }}", "USER", "tttt"},
    {"{{ messages[1].content|upper }}", "YES", "aaa"},
    {"{{ (messages[0].content|upper)[6:] }}", "<IMAGE> CD ", "uuuuuuuuuuu"},
    {"{{ [messages[1].content]|tojson }}", "[\"yes\"]", "aaaaaaa"},
    {"{{ [messages[1].content] }}", "['yes']", "taaaaat"},
    {"{{ '%s.' % messages[1].content }}{{ '{}'.format(messages[1].content) }}", "yes.yes", "aaataaa"},
    {"{% macro f(m) %}<{{ m.content }}>{% endmacro %}{{ f(messages[1]) }}", "<yes>", "taaat"},
    {"{% set x %}({{ messages[1].content }}){% endset %}{{ x }}", "(yes)", "taaat"},
    {"{% for c in messages[1].content %}{{ c }}.{% endfor %}", "y.e.s.", "atatat"},
    {"{{ messages[1].content * 2 }}{{ messages[1].content[::-1] }}", "yesyessey", "aaaaaaaaa"},
    {"{{ messages[1].content|indent(1, true) }}", " yes", "taaa"},
    {"{{ messages[0].content.split('<image>')[-1].strip() }}", "cd", "uu"},
    {"{{ {messages[1].content: 1}|dictsort|first|first }}", "yes", "aaa"},
};

START_TEST(words_stay_words) {
    const vlci_rendering with = {.messages = messages, .n_messages = 2, .now = 0};
    vlci_rendered got;
    ck_ok(render(origins[_i].text, &with, &got));
    ck_assert_str_eq(got.text, origins[_i].want);
    ck_assert_uint_eq(got.bytes, strlen(origins[_i].whose));
    for (size_t i = 0; i < got.bytes; i++)
        ck_assert_msg("tua"[got.whose[i]] == origins[_i].whose[i], "%s: byte %zu of \"%s\" is %c's",
                      origins[_i].text, i, got.text, "tua"[got.whose[i]]);
    vlci_rendered_release(&got);
}
END_TEST

/* Items: texts and marks in a row are one, pictures and videos each one. */
START_TEST(items) {
    const vlci_piece some[] = {{VLCI_PIECE_IMAGE, NULL, 0, false},
                               {VLCI_PIECE_TEXT, "a", 1, false},
                               {VLCI_PIECE_MARK, "[m]", 3, false},
                               {VLCI_PIECE_VIDEO, NULL, 0, false},
                               {VLCI_PIECE_TEXT, "b\xff", 2, false}};
    const vlci_message one = {"user", some, 5, true};
    const vlci_rendering with = {.messages = &one, .n_messages = 1, .prompt = true, .now = 0};
    vlci_rendered got;
    ck_ok(render("{{ messages|tojson }}{{ add_generation_prompt }}{{ tools }}", &with, &got));
    ck_assert_str_eq(got.text,
                     "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": \"text\", "
                     "\"text\": \"a[m]\"}, {\"type\": \"video\"}, {\"type\": \"text\", \"text\": "
                     "\"b\xef\xbf\xbd\"}]}]TrueNone");
    vlci_rendered_release(&got);
}
END_TEST

/* ---- errors -------------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *message;
    vlcache_status status;
} errors[] = {
    {"a\n b {{ x.y }}", "t.jinja: 2:9: x is undefined", VLCACHE_E_FORMAT},
    {"{% if a %}\n{% endfor %}", "t.jinja: 2:4: no tag is called endfor", VLCACHE_E_FORMAT},
    {"{% if a %}\n", "{% elif %} is missing", VLCACHE_E_FORMAT},
    {"{% for a in b %}", "{% endfor %} is missing", VLCACHE_E_FORMAT},
    {"{{ 1 +\n }}", "t.jinja: 2:2: an expression is expected, not }}", VLCACHE_E_FORMAT},
    {"{{ 'a }}", "t.jinja: 1:4: a string has no end", VLCACHE_E_FORMAT},
    {"{{ a|frob }}", "t.jinja: 1:6: no filter is called frob", VLCACHE_E_FORMAT},
    {"{{ a is frob }}", "no test is called frob", VLCACHE_E_FORMAT},
    {"{{ 1 / 0 }}", "a division by zero", VLCACHE_E_FORMAT},
    {"{{ 'a' + 1 }}", "a string + a int", VLCACHE_E_FORMAT},
    {"{{ raise_exception('Only user roles') }}", "the template says: Only user roles", VLCACHE_E_ARGUMENT},
    {"{% set a = [] %}{{ a.append(1) }}", "a template may not change a list", VLCACHE_E_FORMAT},
    {"{{ range(1000000000) }}", "more than 100000 numbers", VLCACHE_E_FORMAT},
    {"{{ 99999999999999999999 }}", "a number is beyond", VLCACHE_E_FORMAT},
};

START_TEST(errors_say_where) {
    const vlci_rendering with = {.now = 0};
    vlci_rendered got;
    ck_fails(render(errors[_i].text, &with, &got), errors[_i].status, errors[_i].message);
}
END_TEST

/* ---- bounds -------------------------------------------------------------------------------------------- */

/* `head`, n times `part`, `tail`: new memory (free). */
static char *long_text(const char *head, const char *part, int n, const char *tail) {
    char *text = malloc(strlen(head) + strlen(part) * (size_t)n + strlen(tail) + 1), *end = text;
    end = stpcpy(end, head);
    while (n--) end = stpcpy(end, part);
    stpcpy(end, tail);
    return text;
}

static const struct {
    const char *head, *part, *tail;
    int n;
} hostile[] = {
    {"{% for a in range(99999) %}{% for b in range(99999) %}", "", "{% endfor %}{% endfor %}", 0},
    {"{{ 'x' * 1000000000000 }}", "", "", 0},
    {"{{ [0] * 1000000000000 }}", "", "", 0},
    {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "", "", 0},
    {"{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('x') }}", "", "", 0},
    {"{{ ", "(", "1", 100000},
    {"{{ ", "[", "", 100000},
    {"{{ ", "not ", "1 }}", 100000},
    {"{{ ", "-", "1 }}", 100000},
    {"{{ 1", " + 1", " }}", 100000},
    {"{{ 1", " and 1", " }}", 100000},
    {"{{ a", ".b", " }}", 100000},
    {"{{ a", "|string", " }}", 100000},
    {"{{ 1", " if 1", " }}", 100000},
    {"", "{% if 1 %}", "", 100000},
    {"", "{% for a in b %}", "", 100000},
    {"{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}", "",
     "", 0},
    {"{% set n = namespace() %}{% set n.x = n %}{{ n }}", "", "", 0},
    {"{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x|tojson "
     "}}",
     "", "", 0},
    {"{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "", "",
     0},
    {"{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor "
     "%}",
     "", "", 0},
    {"{% for a in range(99999)|sort %}{% for b in range(99999)|sort|list %}{% endfor %}{% endfor %}", "", "",
     0},
    {"{{ 'a'.center(10 ** 15) }}", "", "", 0},
    {"{{ 'a'.ljust(10 ** 15, '') }}", "", "", 0},
    {"{{ '%999999999s' % 'a' }}", "", "", 0},
    {"{{ 'a'|indent(10 ** 15, true) }}", "", "", 0},
};

START_TEST(hostile_templates_end) {
    char *text = long_text(hostile[_i].head, hostile[_i].part, hostile[_i].n, hostile[_i].tail);
    const vlci_rendering with = {.now = 0};
    vlci_rendered got;
    double start = vlci_clock_ms();
    ck_assert_int_eq(render(text, &with, &got), VLCACHE_E_FORMAT);
    ck_assert_msg(vlci_clock_ms() - start < 20e3, "%s: took %.0f ms", hostile[_i].head,
                  vlci_clock_ms() - start);
    free(text);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

START_TEST(memory) {
    static const char text[] =
        "{% macro f(x) %}{{ x|upper }}{% endmacro %}{% for m in messages %}{{ f(m.content) }}"
        "{{ m|tojson }}{% endfor %}{{ 'x' * 100000 }}";
    const vlci_rendering with = {.messages = messages, .n_messages = 2, .now = 0};
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_rendered got;
        failing_start(at);
        vlcache_status status = render(text, &with, &got);
        vlci_rendered_release(&got);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("template");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, goldens);
    tcase_add_loop_test(cases, words_stay_words, 0, sizeof origins / sizeof *origins);
    tcase_add_test(cases, items);
    tcase_add_loop_test(cases, errors_say_where, 0, sizeof errors / sizeof *errors);
    tcase_add_loop_test(cases, hostile_templates_end, 0, sizeof hostile / sizeof *hostile);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
