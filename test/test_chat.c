/*
 * test_chat.c - conversations in the form of a template: the ids of every turn against transformers
 * (goldens), each named form letter by letter, where the pictures stand, and which template a folder means.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "tokens/chat.h"

#define MODELS VLCACHE_TEST_DATA "/models/"

static vlci_tokenizer *tokenizer; /* of "llava-llama-full", which knows <s>, </s> and <|im_end|> */
static vlci_chat *base;           /* its folder's template, with its tokens */
static vlci_chat_for what = {NULL, "<image>", NULL};

static void open_model(void) {
    ck_ok(vlci_tokenizer_load(MODELS "llava-llama-full", &tokenizer));
    what.tokenizer = tokenizer;
    ck_ok(vlci_chat_load(MODELS "llava-llama-full", "plain", &what, &base));
}

static void close_model(void) {
    vlci_chat_release(&base);
    vlci_tokenizer_destroy(&tokenizer);
}

static vlci_chat *opened(const char *asked) {
    vlci_chat *chat = NULL;
    ck_ok(vlci_chat_open(base, asked, &what, &chat));
    return chat;
}

/* ---- against transformers ------------------------------------------------------------------------------ */

static const char *text_in(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* The turn's ids are the last of the golden's. */
static size_t check_tail(const json_t *ids, const vlci_chat_turn *turn, const char *model, size_t k) {
    size_t all = json_array_size(ids);
    ck_assert_uint_le(turn->n, all);
    for (size_t i = 0; i < turn->n; i++)
        ck_assert_msg(turn->ids[i] == json_integer_value(json_array_get(ids, all - turn->n + i)),
                      "%s, turn %zu: id %zu of %zu differs", model, k, i, turn->n);
    return all - turn->n;
}

/* What lies between the last prompt and this turn is the answer. */
static void check_answer(const vlci_tokenizer *t, const json_t *ids, size_t begin, size_t end,
                         const char *answer) {
    int32_t *part = calloc(end - begin + 1, sizeof *part);
    char *text = NULL;
    for (size_t i = begin; i < end; i++)
        part[i - begin] = (int32_t)json_integer_value(json_array_get(ids, i));
    ck_ok(vlci_tokenizer_decode(t, part, end - begin, &text));
    const char *found = text + strspn(text, " ");
    ck_assert_msg(strncmp(found, answer, strlen(answer)) == 0 &&
                      strspn(found + strlen(answer), " ") == strlen(found) - strlen(answer),
                  "\"%s\" is not \"%s\"", text, answer);
    vlci_free(text);
    free(part);
}

static void check_turns(const json_t *one, const vlci_chat *chat, const vlci_tokenizer *t) {
    vlci_conversation c = {0};
    const json_t *turn, *turns = json_object_get(one, "turns");
    const char *model = text_in(one, "model"), *system = text_in(one, "system");
    bool rewrites = json_is_true(json_object_get(one, "rewritten"));
    size_t k, held = 0;
    if (system) ck_ok(vlci_conversation_add(&c, VLCI_SYSTEM, system, 0));
    json_array_foreach(turns, k, turn) {
        const json_t *ids = json_object_get(turn, "ids");
        vlci_chat_turn made;
        ck_ok(vlci_conversation_add(&c, VLCI_USER, text_in(turn, "text"),
                                    (int)json_integer_value(json_object_get(turn, "images"))));
        ck_ok(vlci_chat_encode(chat, &c, &made));
        size_t before = check_tail(ids, &made, model, k);
        ck_assert(made.rewritten == (rewrites && k > 0));
        if (k && !rewrites)
            check_answer(t, ids, held, before, text_in(json_array_get(turns, k - 1), "answer"));
        else if (!k)
            ck_assert_uint_eq(before, 0);
        held = json_array_size(ids);
        ck_ok(vlci_conversation_add(&c, VLCI_ASSISTANT, text_in(turn, "answer"), 0));
        vlci_free(made.ids);
    }
    vlci_conversation_release(&c);
}

START_TEST(goldens) {
    json_t *root = json_load_file(VLCACHE_TEST_DATA "/chats.json", 0, NULL), *one;
    size_t i;
    ck_assert_uint_ge(json_array_size(root), 14);
    json_array_foreach(root, i, one) {
        char folder[512];
        vlci_tokenizer *t = NULL;
        vlci_chat *own = NULL, *chat = NULL;
        snprintf(folder, sizeof folder, MODELS "%s", text_in(one, "model"));
        ck_ok(vlci_tokenizer_load(folder, &t));
        const vlci_chat_for its = {t, "<image>", NULL};
        ck_ok(vlci_chat_load(folder, "plain", &its, &own));
        if (text_in(one, "template"))
            ck_ok(vlci_chat_open(own, text_in(one, "template"), &its, &chat));
        else
            chat = vlci_chat_retain(own);
        check_turns(one, chat, t);
        vlci_chat_release(&chat);
        vlci_chat_release(&own);
        vlci_tokenizer_destroy(&t);
    }
    json_decref(root);
}
END_TEST

/* ---- letter by letter ---------------------------------------------------------------------------------- */

/* A conversation of one question, or of "One", "Two" and that, in parts: "T<s>|Uwords". */
static char *spelled(const vlci_chat *chat, const char *system, bool later, int images, const char *user) {
    static const char kinds[] = "TUA";
    vlci_conversation c = {0};
    vlci_rendered made;
    if (system) ck_ok(vlci_conversation_add(&c, VLCI_SYSTEM, system, 0));
    if (later) ck_ok(vlci_conversation_add(&c, VLCI_USER, "One", 0));
    if (later) ck_ok(vlci_conversation_add(&c, VLCI_ASSISTANT, "Two", 0));
    ck_ok(vlci_conversation_add(&c, VLCI_USER, user, images));
    ck_ok(vlci_chat_render(chat, &c, true, &made));
    char *text = calloc(3 * made.bytes + 1, 1);
    for (size_t i = 0, n = 0; i < made.bytes; i++) {
        if (i == 0 || made.whose[i] != made.whose[i - 1])
            n += (size_t)sprintf(text + n, "%s%c", i ? "|" : "", kinds[made.whose[i]]);
        text[n++] = made.text[i];
    }
    vlci_rendered_release(&made);
    vlci_conversation_release(&c);
    return text;
}

static void check(const char *asked, const char *system, bool later, int images, const char *user,
                  const char *want) {
    vlci_chat *chat = opened(asked);
    char *got = spelled(chat, system, later, images, user);
    ck_assert_str_eq(got, want);
    free(got);
    vlci_chat_release(&chat);
}

START_TEST(names) {
    check("vicuna", NULL, false, 1, "What?", "T<s>USER: <image>\n|UWhat?|T ASSISTANT:");
    check("vicuna", "S", true, 0, "What?",
          "T<s>|US|T USER: |UOne|T ASSISTANT: |ATwo|T<|im_end|>USER: |UWhat?|T ASSISTANT:");
    check("mistral", NULL, false, 1, "What?", "T<s>[INST] <image>\n|UWhat?|T [/INST]");
    check("mistral", "S", true, 0, "What?",
          "T<s>[INST] |US|T\n\n|UOne|T [/INST] |ATwo|T<|im_end|>[INST] |UWhat?|T [/INST]");
    check("chatml", NULL, false, 2, "What?",
          "T<|im_start|>user\n<image>\n<image>\n|UWhat?|T<|im_end|>\n<|im_start|>assistant\n");
    check("llama3", "S", false, 0, "What?",
          "T<s><|start_header_id|>system<|end_header_id|>\n\n|US|T<|eot_id|><|start_header_id|>user"
          "<|end_header_id|>\n\n|UWhat?|T<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    check("plain", NULL, false, 1, "What?", "T<image>\n|UWhat?");
    check("plain", "S", true, 0, "What?", "US|T\n|UOne|ATwo|T\n|UWhat?");
    ck_assert_str_eq(vlci_chat_names(), "vicuna, mistral, chatml, llama3, plain");
    ck_assert_ptr_null(vlci_chat_text("alpaca"));
}
END_TEST

/* Marks in the words are places where they are as many as the pictures, and words otherwise. */
START_TEST(places) {
    check("vicuna", NULL, false, 0, "What is <image>?", "T<s>USER: |UWhat is <image>?|T ASSISTANT:");
    check("vicuna", NULL, false, 2, "What is <image>?",
          "T<s>USER: <image>\n<image>\n|UWhat is <image>?|T ASSISTANT:");
    check("vicuna", NULL, false, 1, "<image><image>", "T<s>USER: <image>\n|U<image><image>|T ASSISTANT:");
    check("vicuna", NULL, false, 1, "A <image> b", "T<s>USER: |UA |T<image>|U b|T ASSISTANT:");
    check("vicuna", NULL, false, 1, "A \\<image> b", "T<s>USER: <image>\n|UA <image> b|T ASSISTANT:");
    check("vicuna", NULL, false, 1, "\\<image> in <image>", "T<s>USER: |U<image> in |T<image> ASSISTANT:");
    check("vicuna", NULL, false, 0, "\\<image>", "T<s>USER: |U<image>|T ASSISTANT:");
    check("plain", NULL, false, 2, "<image><image>", "T<image><image>");
    check("plain", NULL, false, 0, "", "");
}
END_TEST

#define LOOP "{% for m in messages %}"
static const char in_order[] =
    LOOP "{% for c in m.content %}{{ '<image>;' if c.type == 'image' else c.text }}{% endfor %}{% endfor %}";
static const char first[] = LOOP
    "{% for c in m.content if c.type == 'image' %}<image>;{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}{% endfor %}";
static const char blind[] =
    LOOP "{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}{% endfor %}";

/* Items where the template takes them; where it moves them in front, marks in the words still say where. */
START_TEST(items) {
    check(in_order, NULL, false, 1, "A <image> b", "UA |T<image>;|U b");
    check(in_order, NULL, false, 2, "A", "T<image>;<image>;|UA");
    check(first, NULL, false, 1, "A <image> b", "UA |T<image>|U b");
    check(first, NULL, false, 1, "A", "T<image>;|UA");
    check(blind, NULL, false, 1, "A", "T<image>\n|UA");
    vlci_chat *chat = opened(in_order);
    ck_assert(chat->form.sign[0].taken && chat->form.sign[0].interleaves &&
              chat->form.items[VLCI_ASSISTANT] && chat->form.items[VLCI_SYSTEM]);
    vlci_chat_release(&chat);
    chat = opened(first);
    ck_assert(chat->form.sign[0].taken && !chat->form.sign[0].interleaves);
    vlci_chat_release(&chat);
    chat = opened(LOOP "{{ m.content|trim }}{% endfor %}"); /* shows a list as Python does */
    ck_assert(!chat->form.items[VLCI_USER]);
    vlci_chat_release(&chat);
}
END_TEST

/* ---- ends ---------------------------------------------------------------------------------------------- */

static void ends(const char *asked, const char *token) {
    vlci_chat *chat = opened(asked);
    ck_assert_int_eq(vlci_chat_end(chat), token ? vlci_tokenizer_id(tokenizer, token) : -1);
    vlci_chat_release(&chat);
}

START_TEST(ends_of_answers) {
    ck_assert_int_ge(vlci_tokenizer_id(tokenizer, "<|im_end|>"), 0);
    ends("chatml", "<|im_end|>");
    ends("vicuna", "<|im_end|>"); /* eos_token of the folder */
    ends("llama3", NULL);         /* <|eot_id|> is no token of this tokenizer */
    ends("plain", NULL);
    ends(LOOP "{{ m.role ~ m.content ~ ' </s>' }}{% endfor %}", "</s>");
    ends(LOOP "{{ m.role ~ m.content ~ ' end </s>' }}{% endfor %}", NULL);
    ends(LOOP "{{ raise_exception('no') if m.role == 'assistant' }}{{ m.content }}</s>{% endfor %}", NULL);
}
END_TEST

/* ---- turns that have no past --------------------------------------------------------------------------- */

static void encoded(const char *asked, const vlci_conversation *c, bool rewritten, const char *want) {
    vlci_chat *chat = opened(asked);
    vlci_chat_turn made;
    char *text = NULL;
    ck_ok(vlci_chat_encode(chat, c, &made));
    ck_ok(vlci_tokenizer_decode(tokenizer, made.ids, made.n, &text));
    ck_assert_msg(strcmp(text, want) == 0, "\"%s\" is not \"%s\"", text, want);
    ck_assert(made.rewritten == rewritten);
    vlci_free(text);
    vlci_free(made.ids);
    vlci_chat_release(&chat);
}

START_TEST(later_turns) {
    vlci_said said[] = {{VLCI_USER, "One", 0, 0}, {VLCI_ASSISTANT, "Two", 0, 0}, {VLCI_USER, "Three", 0, 0}};
    vlci_conversation all = {.at = said, .n = 3}, alone = {.at = said + 2, .n = 1, .lost = true};
    vlci_said silent[] = {{VLCI_USER, "One", 0, 0}, {VLCI_ASSISTANT, "", 0, 0}, {VLCI_USER, "Three", 0, 0}};
    vlci_conversation nothing = {.at = silent, .n = 3};
    static const char want[] =
        "[INST] Three [/INST]"; /* the end of the answer in front is special: not shown */
    encoded("mistral", &all, false, want);
    encoded("mistral", &alone, false, want);
    encoded("mistral", &nothing, false, "  [INST] Three [/INST]" + 1);
    encoded(LOOP "{% if m.role == 'user' %}({{ m.content }}){% endif %}{% endfor %}", &all, true, "(Three)");
    encoded(LOOP "{{ loop.length ~ m.content ~ '.' }}{% endfor %}", &all, true, ".3Three.");
}
END_TEST

/* ---- which --------------------------------------------------------------------------------------------- */

static char log_line[1024];

static void listen(void *user, vlcache_log_level level, const char *line) {
    (void)user;
    ck_assert_int_eq(level, VLCACHE_LOG_WARN);
    snprintf(log_line, sizeof log_line, "%s", line);
}

static void found(const char *name, const char *want, const char *warning) {
    vlci_chat *chat = NULL;
    log_line[0] = 0;
    ck_ok(vlci_chat_load(scratch_folder(), "mistral", &what, &chat));
    ck_assert_str_eq(vlci_chat_name(chat), name);
    ck_assert_msg(warning ? strstr(log_line, warning) != NULL : !*log_line, "warned: \"%s\"", log_line);
    if (want) {
        char *got = spelled(chat, NULL, false, 0, "Q");
        ck_assert_str_eq(got, want);
        free(got);
    }
    vlci_chat_release(&chat);
}

START_TEST(folders) {
    static const struct {
        const char *file, *text, *want, *warning;
    } cases[] = {
        {"chat_template.jinja", "a{{ messages[0]['content'] }}", "Ta|UQ", NULL},
        {"chat_template.json", "{\"chat_template\": \"b{{ messages[0].content }}\"}", "Tb|UQ", NULL},
        {"processor_config.json", "{\"chat_template\": \"c{{ messages[0].content }}\"}", "Tc|UQ", NULL},
        {"processor_config.json", "{\"chat_template\": {\"x\": \"no\", \"default\": \"d{{ bos_token }}\"}}",
         "Td", "processor_config.json: the chat template writes nothing of a question"},
        {"tokenizer_config.json",
         "{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": "
         "\"e{{ bos_token ~ eos_token ~ pad_token }}\"}], \"bos_token\": \"<b>\", \"eos_token\": "
         "{\"content\": \"<e>\"}, "
         "\"pad_token\": null}",
         "Te<b><e>", "writes nothing of a question"},
        {"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"a\", \"template\": \"f\"}]}", "Tf",
         "writes nothing of a question"},
        {"tokenizer_config.json", "{broken", NULL, "no chat template"},
        {"tokenizer_config.json", "{\"chat_template\": [7, {\"template\": null}]}", NULL, "--chat-template"},
        {"tokenizer_config.json", "{\"x\": 1}", NULL,
         "has no chat template: questions are put in the form \"mistral\""},
    };
    vlcache_set_log(listen, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(cases[i].file, cases[i].text);
        found(cases[i].want ? cases[i].file : "mistral", cases[i].want, cases[i].warning);
        scratch_remove(cases[i].file);
    }
    scratch_text("special_tokens_map.json", "{\"bos_token\": {\"content\": \"<m>\"}}");
    found("mistral", "T<m>[INST] |UQ|T [/INST]", "no chat template");
    char path[512];
    snprintf(path, sizeof path, "%s/chat_template.json", scratch_folder());
    ck_assert_int_eq(mkdir(path, 0700), 0); /* there, and not to be read: no reason to take another */
    vlci_chat *chat = NULL;
    ck_fails(vlci_chat_load(scratch_folder(), "plain", &what, &chat), VLCACHE_E_IO, "chat_template.json");
    ck_assert_ptr_null(chat);
    vlcache_set_log(NULL, NULL);
    scratch_clean();
}
END_TEST

/* One that cannot be used is told when it is used: another can be chosen in its place. */
START_TEST(broken) {
    vlci_said said = {VLCI_USER, "Q", 0, 0};
    const vlci_conversation c = {.at = &said, .n = 1};
    vlci_chat *chat = NULL, *other = NULL;
    vlci_chat_turn made;
    char path[512];
    scratch_text("chat_template.jinja", "a\n{{ 1 + }}");
    vlcache_set_log(listen, NULL);
    found("chat_template.jinja", NULL, "chat_template.jinja: 2:8: an expression is expected");
    ck_ok(vlci_chat_load(scratch_folder(), "plain", &what, &chat));
    vlcache_set_log(NULL, NULL);
    ck_fails(vlci_chat_encode(chat, &c, &made), VLCACHE_E_FORMAT, "chat_template.jinja: 2:8");
    ck_ok(vlci_chat_open(chat, "plain", &what, &other));
    ck_ok(vlci_chat_encode(other, &c, &made));
    vlci_free(made.ids);
    vlci_chat_release(&other);
    snprintf(path, sizeof path, "%s/chat_template.jinja", scratch_folder());
    ck_fails(vlci_chat_open(chat, path, &what, &other), VLCACHE_E_FORMAT, "2:8");
    scratch_text("chat_template.jinja", "{{ raise_exception('System role not supported') }}");
    ck_ok(vlci_chat_open(chat, path, &what, &other));
    ck_assert_str_eq(vlci_chat_name(other), path);
    ck_fails(vlci_chat_encode(other, &c, &made), VLCACHE_E_ARGUMENT, "System role not supported");
    vlci_chat_release(&other);
    ck_fails(vlci_chat_open(chat, "esperanto", &what, &other), VLCACHE_E_ARGUMENT, "must be one of vicuna");
    ck_assert_ptr_null(other);
    vlci_chat_release(&chat);
    scratch_clean();
}
END_TEST

/* What writes nothing of a question is no template, whatever stands in it. */
START_TEST(mute) {
    static const char *const texts[] = {"", "You are helpful.", "{% for m in messages %}a{% endfor %}",
                                        "{\"role\": \"user\"}", "{# a comment #}"};
    vlci_chat *chat = NULL, *other = NULL;
    char path[512];
    snprintf(path, sizeof path, "%s/notes.txt", scratch_folder());
    ck_ok(vlci_chat_named("plain", &chat));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        scratch_text("notes.txt", texts[i]);
        ck_fails(vlci_chat_open(chat, path, &what, &other), VLCACHE_E_FORMAT,
                 "notes.txt: writes nothing of a question");
        ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "or one of vicuna"));
        ck_assert_ptr_null(other);
    }
    scratch_text("notes.txt", "{# {%"); /* what is no template at all is told first */
    ck_fails(vlci_chat_open(chat, path, &what, &other), VLCACHE_E_FORMAT,
             "notes.txt: 1:1: a comment has no end");
    ck_fails(vlci_chat_open(chat, "{% set x = 1 %}", &what, &other), VLCACHE_E_FORMAT,
             "text: writes nothing of a question");
    vlci_chat_release(&chat);
    scratch_clean();
}
END_TEST

START_TEST(memory) {
    vlci_said said[] = {
        {VLCI_USER, "One", 1, 0}, {VLCI_ASSISTANT, "Two", 0, 0}, {VLCI_USER, "A <image> b", 1, 0}};
    const vlci_conversation c = {.at = said, .n = 3};
    scratch_text("tokenizer_config.json",
                 "{\"chat_template\": \"{% for m in messages %}{{ m.content }}</s>{% endfor %}\","
                 " \"bos_token\": \"<s>\", \"x\": NaN}");
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_conversation copy = {0};
        vlci_chat *chat = NULL;
        vlci_chat_turn made = {0};
        failing_start(at);
        vlcache_status status = vlci_chat_load(scratch_folder(), "plain", &what, &chat);
        if (!status) status = vlci_conversation_copy(&c, &copy);
        if (!status) status = vlci_chat_encode(chat, &copy, &made);
        vlci_free(made.ids);
        bool own = chat && strcmp(vlci_chat_name(chat), "tokenizer_config.json") == 0;
        bool there = chat != NULL;
        vlci_chat_release(&chat);
        vlci_conversation_release(&copy);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
        ck_assert(own == there); /* never another one */
    }
    scratch_clean();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chat");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, open_model, close_model);
    tcase_add_test(cases, goldens);
    tcase_add_test(cases, names);
    tcase_add_test(cases, places);
    tcase_add_test(cases, items);
    tcase_add_test(cases, ends_of_answers);
    tcase_add_test(cases, later_turns);
    tcase_add_test(cases, folders);
    tcase_add_test(cases, broken);
    tcase_add_test(cases, mute);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
