/*
 * test_chat.c - the prompt of each template, letter by letter, and which template a folder means.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "support/scratch.h"
#include "support/suite.h"
#include "tokens/chat.h"

/* The parts of a turn, joined; with `kinds` as "T<s>|U words|P<image>". */
static void check(const char *name, bool first, int images, const char *user, const char *mark, bool kinds,
                  const char *want) {
    vlci_chat_parts made;
    char got[512] = "";
    ck_ok(vlci_chat_parts_make(vlci_chat_find(name), first, images, user, mark, &made));
    for (size_t i = 0; i < made.n; i++) {
        ck_assert_uint_ge(made.at[i].bytes, 1);
        if (kinds) sprintf(got + strlen(got), "%s%c", i ? "|" : "", "TUP"[made.at[i].kind]);
        sprintf(got + strlen(got), "%.*s", (int)made.at[i].bytes, made.at[i].text);
    }
    ck_assert_str_eq(got, want);
    vlci_chat_parts_release(&made);
    ck_assert_uint_eq(made.n, 0);
}

static void turn(const char *name, bool first, int images, const char *want) {
    check(name, first, images, "What?", "<image>", false, want);
}

START_TEST(turns) {
    turn("vicuna", true, 1, "<s>USER: <image>\nWhat? ASSISTANT:");
    turn("vicuna", false, 0, "</s>USER: What? ASSISTANT:");
    turn("mistral", true, 1, "<s>[INST] <image>\nWhat? [/INST]");
    turn("mistral", false, 0, "</s>[INST] What? [/INST]");
    turn("chatml", true, 2, "<|im_start|>user\n<image>\n<image>\nWhat?<|im_end|><|im_start|>assistant\n");
    turn("chatml", false, 0, "<|im_end|><|im_start|>user\nWhat?<|im_end|><|im_start|>assistant\n");
    turn("llama3", true, 1,
         "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n");
    turn("plain", true, 1, "<image>\nWhat?");
    turn("plain", false, 0, "\nWhat?");
}
END_TEST

static void parts(const char *name, bool first, int images, const char *user, const char *mark,
                  const char *want) {
    check(name, first, images, user, mark, true, want);
}

/* Marks in the words are places where they are as many as the pictures, and words otherwise. */
START_TEST(turns_in_parts) {
    parts("vicuna", true, 0, "What is <image>?", "<image>", "T<s>|TUSER: |UWhat is <image>?|T ASSISTANT:");
    parts("vicuna", true, 2, "What is <image>?", "<image>",
          "T<s>|TUSER: |P<image>|T\n|P<image>|T\n|UWhat is <image>?|T ASSISTANT:");
    parts("vicuna", true, 1, "<image><image>", "<image>",
          "T<s>|TUSER: |P<image>|T\n|U<image><image>|T ASSISTANT:");
    parts("vicuna", true, 1, "A <image> b", "<image>", "T<s>|TUSER: |UA |P<image>|U b|T ASSISTANT:");
    parts("vicuna", true, 1, "A \\<image> b", "<image>",
          "T<s>|TUSER: |P<image>|T\n|UA |U<image> b|T ASSISTANT:");
    parts("vicuna", true, 1, "\\<image> in <image>", "<image>",
          "T<s>|TUSER: |U<image> in |P<image>|T ASSISTANT:");
    parts("vicuna", true, 0, "\\<image>", "<image>", "T<s>|TUSER: |U<image>|T ASSISTANT:");
    parts("plain", true, 2, "<image><image>", "<image>", "P<image>|P<image>");
    parts("plain", true, 2, "<image>[x]", "[x]", "P[x]|T\n|P[x]|T\n|U<image>[x]");
    parts("plain", true, 0, "", "<image>", "");
    parts("llama3", false, 0, "<|eot_id|>", "[x]",
          "T<|eot_id|>|T<|start_header_id|>user<|end_header_id|>\n\n|U<|eot_id|>|"
          "T<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}
END_TEST

START_TEST(names) {
    static const char *const all[] = {"vicuna", "mistral", "chatml", "llama3", "plain"};
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(vlci_chat_name(vlci_chat_find(all[i])), all[i]);
        ck_assert_ptr_nonnull(strstr(vlci_chat_names(), all[i]));
    }
    ck_assert_ptr_null(vlci_chat_find("alpaca"));
    ck_assert_str_eq(vlci_chat_bos(vlci_chat_find("llama3")), "<|begin_of_text|>");
    ck_assert_str_eq(vlci_chat_bos(vlci_chat_find("plain")), "");
    static const char *const ends[] = {"</s>", "</s>", "<|im_end|>", "<|eot_id|>", ""};
    for (int i = 0; i < 5; i++) ck_assert_str_eq(vlci_chat_end(vlci_chat_find(all[i])), ends[i]);
}
END_TEST

static void detected(const char *text_type, const char *want) {
    const vlci_chat_template *chat = NULL;
    ck_ok(vlci_chat_detect(scratch_folder(), text_type, &chat));
    ck_assert_str_eq(vlci_chat_name(chat), want);
}

START_TEST(detection) {
    static const struct {
        const char *file, *text, *want;
    } cases[] = {
        {"chat_template.jinja", "{{ message['role'].upper() + ': ' }}", "vicuna"},
        {"chat_template.jinja", "{{ '[INST] ' + m + ' [/INST]' }}", "mistral"},
        {"chat_template.json", "{\"chat_template\": \"{{ '<|im_start|>' + role }}\"}", "chatml"},
        {"tokenizer_config.json",
         "{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"},"
         " {\"name\": \"default\", \"template\": \"<|start_header_id|>\"}]}",
         "llama3"},
        {"processor_config.json", "{\"chat_template\": \"USER: x ASSISTANT:\"}", "vicuna"},
        {"tokenizer_config.json", "{\"chat_template\": \"unheard of\"}", "mistral"},
        {"tokenizer_config.json", "{broken", "mistral"},
        {"tokenizer_config.json", "{\"chat_template\": [7, {\"template\": null}]}", "mistral"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(cases[i].file, cases[i].text);
        detected("mistral", cases[i].want);
        scratch_remove(cases[i].file);
    }
    detected("llama", "vicuna");
    detected(NULL, "vicuna");
    char path[512];
    snprintf(path, sizeof path, "%s/chat_template.json", scratch_folder());
    ck_assert_int_eq(mkdir(path, 0700), 0); /* there, and not to be read: no reason to take another */
    const vlci_chat_template *chat = NULL;
    ck_fails(vlci_chat_detect(scratch_folder(), "llama", &chat), VLCACHE_E_IO, "chat_template.json");
    ck_assert_ptr_null(chat);
    scratch_clean();
}
END_TEST

START_TEST(memory) {
    scratch_text("tokenizer_config.json", "{\"chat_template\": \"<|im_start|> NaN\", \"x\": NaN}");
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_chat_parts made = {0};
        const vlci_chat_template *chat = NULL;
        failing_start(at);
        vlcache_status status = vlci_chat_detect(scratch_folder(), "mistral", &chat);
        if (!status) status = vlci_chat_parts_make(vlci_chat_find("vicuna"), true, 5, "x", "<image>", &made);
        vlci_chat_parts_release(&made);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
        if (chat) ck_assert_str_eq(vlci_chat_name(chat), "chatml"); /* never another one */
    }
    scratch_clean();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chat");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, turns);
    tcase_add_test(cases, turns_in_parts);
    tcase_add_test(cases, names);
    tcase_add_test(cases, detection);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
