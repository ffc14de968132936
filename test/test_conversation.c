/*
 * test_conversation.c - what the cache holds of a conversation is what its template makes of the whole: turn
 * behind turn, with the system's words, in a fork, after a failure, behind a raw prompt; and the same through
 * vlcache-run.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "session/session.h"
#include "support/folder.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/tool.h"

#define LOOP "{% for m in messages %}"
/* Every message in brackets of its own; a second question is refused, a third comes to nothing. */
static const char brackets[] =
    LOOP "{{ m.role[0] ~ '[' ~ m.content ~ ']' }}{% endfor %}{{ 'a[' if add_generation_prompt }}";
static const char once[] = LOOP
    "{{ m.content }}{% if loop.index0 == 2 %}{{ raise_exception('one question, please') }}"
    "{% endif %}{% endfor %}";
static const char forgetful[] =
    LOOP "{{ '<' ~ (m.content if m.role == 'user' or loop.last) ~ '>' }}{% endfor %}";

static vlcache_session *session;

static void begin(const char *chat_template, const char *system) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    options.chat_template = chat_template;
    options.system = system;
    ck_ok(vlcache_session_create(talk_tiny(), &options, &session));
}

static void end(void) {
    vlcache_session_destroy(&session);
}

static const vlcache_answer *ask(const char *text) {
    const vlcache_answer *answer = NULL;
    ck_ok(talk_ask(session, NULL, text, NULL, 6, &answer));
    return answer;
}

/* The words of the last prompt, special tokens left out. New memory (vlci_free). */
static char *prompt_text(const vlcache_sequence *s) {
    char *text = NULL;
    ck_ok(vlci_tokenizer_decode(talk_tiny()->tokenizer, s->prompt.ids, (size_t)s->prompt.n, &text));
    return text;
}

static void check_prompt(const vlcache_sequence *s, const char *head, const char *want) {
    char *text = prompt_text(s), whole[512];
    snprintf(whole, sizeof whole, "%s%s", head, want);
    ck_assert_str_eq(text, whole);
    vlci_free(text);
}

/* The token that the answer before left out of the cache, as text. */
static char *open_text(const vlcache_sequence *s) {
    char *text = NULL;
    ck_ok(vlci_tokenizer_decode(talk_tiny()->tokenizer, &s->open, s->open >= 0, &text));
    return text;
}

START_TEST(turns_append) {
    begin(brackets, "S");
    const vlcache_sequence *s = session->sequence;
    ask("One");
    check_prompt(s, "", "s[S]u[One]a[");
    ck_assert_uint_eq(s->said.n, 3);
    ck_assert_str_eq(s->said.at[2].text, s->answer.text);
    for (int k = 0; k < 2; k++) {
        char *open = open_text(s);
        int held = s->answer.context_tokens;
        ask("Two");
        check_prompt(s, open, "]u[Two]a[");
        ck_assert_int_eq(s->answer.context_tokens, held - (*open != 0) + s->prompt.n + s->answer.n_tokens);
        ck_assert_uint_eq(s->said.n, 5 + 2 * (size_t)k);
        vlci_free(open);
    }
    vlcache_session_clear(session);
    ck_assert_uint_eq(s->said.n, 0);
    ask("Three");
    check_prompt(s, "", "s[S]u[Three]a[");
    end();
}
END_TEST

/* A turn that fails, is refused or cancelled was never said. */
START_TEST(failures_are_not_said) {
    const vlcache_answer *answer = NULL;
    begin(once, NULL);
    const vlcache_sequence *s = session->sequence;
    ask("One");
    ck_fails(talk_ask(session, NULL, "Two", NULL, 6, &answer), VLCACHE_E_ARGUMENT, "one question, please");
    ck_assert_uint_eq(s->said.n, 2);
    vlcache_session_cancel(session);
    vlcache_session_clear(session);
    ck_fails(talk_ask(session, NULL, "Two", NULL, 6, &answer), VLCACHE_E_CANCELLED, "cancelled");
    ck_assert_uint_eq(s->said.n, 0);
    ask("Two");
    ck_assert_uint_eq(s->said.n, 2);
    end();
    begin(brackets, "S");
    char *longer = calloc(20001, 1);
    memset(longer, 'x', 20000);
    ck_fails(talk_ask(session, NULL, longer, NULL, 6, &answer), VLCACHE_E_CONTEXT_FULL, "context");
    ck_assert_uint_eq(session->sequence->said.n, 0);
    free(longer);
    end();
}
END_TEST

/* Behind a raw prompt, whose form nobody knows, a question stands as behind any answer. */
START_TEST(behind_a_raw_prompt) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    begin(brackets, "S");
    const vlcache_sequence *s = session->sequence;
    prompt.raw = true;
    prompt.text = "What is it?";
    ck_ok(vlcache_session_ask(session, &prompt, NULL, NULL));
    ck_assert(s->said.lost);
    char *open = open_text(s);
    ask("One");
    check_prompt(s, open, "]u[One]a[");
    vlci_free(open);
    vlcache_session_clear(session);
    ck_assert(!s->said.lost);
    ask("Two");
    check_prompt(s, "", "s[S]u[Two]a[");
    end();
}
END_TEST

START_TEST(forks_remember) {
    vlcache_sequence *fork = NULL;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    int busy = 1;
    begin(brackets, "S");
    ask("One");
    char *open = open_text(session->sequence);
    ck_ok(vlcache_sequence_fork(session->sequence, &fork));
    prompt.text = "Two";
    ck_ok(vlcache_sequence_ask(fork, &prompt, NULL));
    while (busy) ck_ok(vlcache_engine_step(session->engine, &busy));
    check_prompt(fork, open, "]u[Two]a[");
    ck_assert_uint_eq(fork->said.n, 5);
    ck_assert_uint_eq(session->sequence->said.n, 3);
    vlcache_sequence_destroy(&fork);
    vlci_free(open);
    end();
}
END_TEST

static int warnings;

static void listen(void *user, vlcache_log_level level, const char *line) {
    (void)user;
    warnings += level == VLCACHE_LOG_WARN && strstr(line, "changes what was said") != NULL;
}

START_TEST(rewriting_is_told_once) {
    begin(forgetful, NULL);
    vlcache_set_log(listen, NULL);
    warnings = 0;
    for (int k = 0; k < 3; k++) ask("One");
    vlcache_set_log(NULL, NULL);
    ck_assert_int_eq(warnings, 1);
    end();
}
END_TEST

/* ---- the tool ------------------------------------------------------------------------------------------ */

static int prompt_tokens(json_t *object) {
    int n = whole(get(object, "prompt", JSON_OBJECT), "tokens");
    json_decref(object);
    return n;
}

START_TEST(flags) {
    char path[512], missing[512];
    process p;
    scratch_text("own.jinja",
                 "x{{ raise_exception('no system here') if messages[0].role == 'system' }}"
                 "{{ messages[0].content }}");
    scratch_text("broken.jinja", "x\n{% endfor %}");
    in_scratch("own.jinja", path);
    in_scratch("none.jinja", missing);
    int plain = prompt_tokens(ASK_JSON("-m", TINY, "-p", "What?", "-n", "2"));
    int told = prompt_tokens(
        ASK_JSON("-m", TINY, "-p", "What?", "-n", "2", "--system", "Be brief.", "--chat-template", "vicuna"));
    int own = prompt_tokens(ASK_JSON("-m", TINY, "-p", "What?", "-n", "2", "--chat-template", path));
    ck_assert_int_lt(own, plain);
    ck_assert_int_gt(told, plain);
    RUN(&p, "-m", TINY, "-p", "What?", "--chat-template", path, "--system", "S");
    expect(&p, 1, "own.jinja: 1:20: the template says: no system here");
    process_release(&p);
    in_scratch("broken.jinja", path);
    RUN(&p, "-m", TINY, "-p", "What?", "--chat-template", path);
    expect(&p, 2, "broken.jinja: 2:4: no tag is called endfor");
    process_release(&p);
    RUN(&p, "-m", TINY, "-p", "What?", "--chat-template", missing);
    expect(&p, 1, "or a file with a template");
    process_release(&p);
    RUN(&p, "-m", VLCACHE_TEST_DATA "/models/next-llama-bias", "-p", "What?", "-n", "1");
    expect(&p, 0, "has no chat template: questions are put in the form \"vicuna\"");
    process_release(&p);
    scratch_clean();
}
END_TEST

/* What the host keeps is told, of a question in JSON and of a chat's in the summary. */
START_TEST(recall) {
    static const char chat[] = "/image " PICTURE "\nWhat is it?\nAnd why?\n";
    json_t *object = ASK_JSON(ASK, "-n", "3", "--recall", "host", "--policy", "vlcache");
    json_t *told = get(object, "recall", JSON_OBJECT);
    ck_assert_int_eq(whole(told, "tokens"), 0);
    ck_assert_int_eq(whole(told, "upload_bytes"), 0);
    ck_assert_int_gt(whole(told, "host_bytes"), whole(get(object, "kv_bytes", JSON_OBJECT), "full"));
    json_decref(object);
    object = ASK_JSON(ASK, "-n", "3", "--policy", "vlcache@recall=host,recent=0.4"); /* as the other tools */
    ck_assert_int_gt(whole(get(object, "recall", JSON_OBJECT), "host_bytes"), 0);
    ck_assert_double_eq_tol(json_real_value(json_object_get(get(object, "policy", JSON_OBJECT), "recent")),
                            0.4, 1e-8);
    json_decref(object);
    object = ASK_JSON(ASK, "-n", "3", "--policy", "vlcache");
    ck_assert_ptr_null(json_object_get(object, "recall"));
    json_decref(object);
    object = ASK_JSON(ASK, "-n", "3", "--recall", "host", "--policy", "vlcache@recall=none"); /* the last */
    ck_assert_ptr_null(json_object_get(object, "recall"));
    json_decref(object);
    process p;
    process_run(&p, (const char *const[]){TOOL, "-m", TINY, "-n", "3", "--recall", "host", NULL}, chat,
                strlen(chat));
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.err, " | recall: "), 2);
    ck_assert_int_eq(count_of(p.err, " brought back in "), 1);
    process_release(&p);
    RUN(&p, "-m", TINY, "-p", "What?", "--policy", "vlcache@size=3");
    expect(&p, 1, "\"size\": no such axis; there are label, allocation");
    process_release(&p);
    RUN(&p, "-m", TINY, "-p", "What?", "--recall", "disk");
    expect(&p, 1, "--recall");
    process_release(&p);
}
END_TEST

/* What cannot be read to its end is no chat that has ended. */
START_TEST(broken_input) {
    static const char *const commands[] = {TOOL " -m " TINY " </", TOOL " -m " TINY " <&-"};
    for (int i = 0; i < 2; i++) {
        process p;
        process_run(&p, (const char *const[]){"/bin/sh", "-c", commands[i], NULL}, "", 0);
        expect(&p, 2, "vlcache-run: standard input cannot be read: ");
        process_release(&p);
    }
}
END_TEST

/* What of a model's weights stays in its file, of none with --no-mmap. */
static int mapped_bytes(const char *folder, const char *flag) {
    json_t *object = ASK_JSON("-m", folder, "-p", "one", "-n", "1", flag);
    const json_t *weights = get(object, "weights", JSON_OBJECT);
    int mapped = whole(weights, "mapped");
    ck_assert_int_gt(whole(weights, "bytes"), mapped);
    json_decref(object);
    return mapped;
}

/* A file that loses its end between two questions: the program says so and ends by itself. */
START_TEST(cut_short) {
    test_folder f;
    process p;
    char path[512];
    folder_open(&f, VLCACHE_TEST_DATA "/text/llama-tied");
    folder_write(&f, false, NULL);
    folder_close(&f);
    ck_assert_int_eq(mapped_bytes(scratch_folder(), "--no-mmap"), 0);
    const vlci_caps *caps = &suite_device()->caps;
    bool mapped = mapped_bytes(scratch_folder(), "--quiet") > 0;
    ck_assert_msg(mapped || !caps->wide_vectors || caps->amx, "nothing is mapped");
    for (int i = 0; i < 2 && mapped; i++) { /* mapped; read */
        folder_open(&f, VLCACHE_TEST_DATA "/text/llama-tied");
        folder_write(&f, false, NULL);
        folder_close(&f);
        process_start(&p, (const char *const[]){TOOL, "-m", scratch_folder(), "-n", "1",
                                                i ? "--no-mmap" : NULL, NULL});
        process_write(&p, "one\n", 4);
        process_await_error(&p, "1 token");
        ck_assert_int_eq(truncate(in_scratch("model.safetensors", path), 4096), 0);
        process_write(&p, "two\n", 4);
        process_end_input(&p);
        process_finish(&p);
        if (i)
            ended(&p, 0);
        else
            expect(&p, 2, "vlcache-run: a file of the model was cut short while it was in use");
        process_release(&p);
    }
    scratch_clean();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("conversation");
    TCase *all = tcase_create("session"), *tool = tcase_create("tool");
    tool_environment();
    talk_models(all);
    tcase_add_test(all, turns_append);
    tcase_add_test(all, failures_are_not_said);
    tcase_add_test(all, behind_a_raw_prompt);
    tcase_add_test(all, forks_remember);
    tcase_add_test(all, rewriting_is_told_once);
    tcase_add_test(tool, flags);
    tcase_add_test(tool, recall);
    tcase_add_test(tool, broken_input);
    tcase_add_test(tool, cut_short);
    suite_add_tcase(suite, all);
    suite_add_tcase(suite, tool);
    return suite_run(suite);
}
