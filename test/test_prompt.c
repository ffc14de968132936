/*
 * test_prompt.c - what a user writes is words: no token of the model, no picture but where it was meant; and
 * what ends an answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "engine/prompt.h"
#include "support/suite.h"
#include "support/talk.h"

enum { MOST = 3 };

static vlcache_image *picture;

/* Lays a first turn out; `images` pictures, all the same. */
static void lay(const char *chat, bool raw, int images, const char *text, vlci_prompt *out) {
    const vlcache_image *all[MOST] = {picture, picture, picture};
    const vlci_chat_for what = {talk_demo()->tokenizer, "<image>", NULL};
    vlci_chat *opened = NULL;
    ck_ok(vlci_chat_open(talk_demo()->chat, chat, &what, &opened));
    const vlci_turn turn = {.chat = opened, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.raw = raw;
    asked.text = text;
    asked.images = all;
    asked.n_images = (size_t)images;
    ck_ok(vlci_prompt_create(talk_demo(), &asked, &turn, out));
    vlci_chat_release(&opened);
}

/* The prompt as one reads it: words decoded, each picture "@". New memory (free). */
static char *spelled(const vlci_prompt *prompt) {
    char *all = calloc(1, 4096);
    for (int i = 0; i < prompt->n;) {
        int n = 0;
        while (i + n < prompt->n && prompt->ids[i + n] >= 0) n++;
        char *text = NULL;
        ck_ok(vlci_tokenizer_decode(talk_demo()->tokenizer, prompt->ids + i, (size_t)n, &text));
        strcat(all, text);
        vlci_free(text);
        if (i + n < prompt->n) strcat(all, "@");
        for (i += n; i < prompt->n && prompt->ids[i] < 0;) i++;
    }
    return all;
}

/* How often a token occurs among the ids. */
static int count(const vlci_prompt *prompt, const char *token) {
    int n = 0, id = vlci_tokenizer_id(talk_demo()->tokenizer, token);
    ck_assert_msg(id >= 0, "%s is no token", token);
    for (int i = 0; i < prompt->n; i++) n += prompt->ids[i] == id;
    return n;
}

static const struct {
    int images;
    const char *text, *want; /* in the template "vicuna" */
} places[] = {
    {0, "What does <image> mean?", "USER: What does <image> mean? ASSISTANT:"},
    {2, "What does <image> mean?", "USER: @\n@\nWhat does <image> mean? ASSISTANT:"},
    {1, "Is <image> in <image>?", "USER: @\nIs <image> in <image>? ASSISTANT:"},
    {1, "What is in <image>?", "USER: What is in @? ASSISTANT:"},
    {2, "<image> or <image>", "USER: @ or @ ASSISTANT:"},
    {1, "What does \\<image> mean?", "USER: @\nWhat does <image> mean? ASSISTANT:"},
    {1, "<image> is no \\<image>", "USER: @ is no <image> ASSISTANT:"},
    {0, "\\<image>", "USER: <image> ASSISTANT:"},
    {0, "</s> <s> <pad>", "USER: </s> <s> <pad> ASSISTANT:"},
};

START_TEST(pictures_have_places) {
    vlci_prompt prompt;
    lay("vicuna", false, places[_i].images, places[_i].text, &prompt);
    ck_assert_uint_eq(prompt.n_images, (size_t)places[_i].images);
    char *got = spelled(&prompt), squeezed[512] = "", want[512] = "";
    for (const char *c = got; *c; c++) /* the decoder's blanks around pictures are no matter here */
        if (*c != ' ') strncat(squeezed, c, 1);
    for (const char *c = places[_i].want; *c; c++)
        if (*c != ' ') strncat(want, c, 1);
    ck_assert_str_eq(squeezed, want);
    free(got);
    vlci_prompt_release(&prompt);
}
END_TEST

/* Control tokens are the template's; in a raw prompt they are the caller's. */
START_TEST(words_control_nothing) {
    static const char *const tokens[] = {"</s>", "<s>", "<pad>"};
    static const char text[] = "A</s> <s>b</s><pad>";
    vlci_prompt none, words, raw;
    lay("vicuna", false, 0, "A b", &none);
    lay("vicuna", false, 0, text, &words);
    lay("plain", true, 0, text, &raw);
    for (int i = 0; i < 3; i++) {
        if (vlci_tokenizer_id(talk_demo()->tokenizer, tokens[i]) < 0) continue;
        ck_assert_int_eq(count(&words, tokens[i]), count(&none, tokens[i]));
        ck_assert_int_eq(count(&raw, tokens[i]), i ? 1 : 2);
    }
    ck_assert_int_ge(vlci_tokenizer_id(talk_demo()->tokenizer, "</s>"), 0);
    vlci_prompt_release(&none);
    vlci_prompt_release(&words);
    vlci_prompt_release(&raw);
}
END_TEST

START_TEST(raw_marks_are_pictures) {
    vlcache_session *session = talk_open(talk_tiny(), "full", 1.0);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    const vlcache_image *one[] = {picture};
    prompt.raw = true;
    prompt.images = one;
    prompt.n_images = 1;
    prompt.text = "<image> and <image>";
    ck_fails(vlcache_session_ask(session, &prompt, NULL, NULL), VLCACHE_E_ARGUMENT, "2 <image> marks");
    prompt.text = "<image>";
    prompt.n_images = 0;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, NULL), VLCACHE_E_ARGUMENT,
             "1 <image> mark for 0 pictures");
    vlcache_session_destroy(&session);
}
END_TEST

/* Where the settings list no end, the template's does; where that has none either, the answer goes on. */
START_TEST(template_ends_answers) {
    vlci_config *config = &talk_demo()->config;
    int ends = config->n_eos_tokens;
    config->n_eos_tokens = 0;
    for (int plain = 0; plain < 2; plain++) {
        vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
        vlcache_session *session = NULL;
        const vlcache_answer *answer = NULL;
        options.chat_template = plain ? "plain" : "vicuna";
        ck_ok(vlcache_session_create(talk_demo(), &options, &session));
        ck_ok(talk_ask(session, picture,
                       plain ? "USER: <image>\nWhat is the heading? ASSISTANT:" : "What is the heading?",
                       NULL, 40, &answer));
        ck_assert_int_eq(answer->finish, plain ? VLCACHE_FINISH_LENGTH : VLCACHE_FINISH_STOP);
        ck_assert_int_ge(answer->n_tokens, 1);
        vlcache_session_destroy(&session);
    }
    config->n_eos_tokens = ends;
}
END_TEST

static void open_picture(void) {
    picture = talk_picture("pages-2.png");
}

static void close_picture(void) {
    vlcache_image_destroy(&picture);
}

int main(void) {
    Suite *suite = suite_create("prompt");
    TCase *all = tcase_create("prompt");
    talk_models(all);
    tcase_add_checked_fixture(all, open_picture, close_picture);
    tcase_add_loop_test(all, pictures_have_places, 0, sizeof places / sizeof *places);
    tcase_add_test(all, words_control_nothing);
    tcase_add_test(all, raw_marks_are_pictures);
    tcase_add_test(all, template_ends_answers);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
