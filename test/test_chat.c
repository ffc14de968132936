/*
 * test_chat.c - the prompt of each template, letter by letter, and which template a folder means.
 */
#include <check.h>
#include <string.h>

#include "core/alloc.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "tokens/chat.h"

static void turn(const char *name, bool first, bool closed, int images, const char *want) {
    char *text;
    ck_assert_int_eq(vlci_chat_turn(vlci_chat_find(name), first, closed, images, "What?", &text), VLCACHE_OK);
    ck_assert_str_eq(text, want);
    vlci_free(text);
}

START_TEST(turns) {
    turn("vicuna", true, false, 1, "<s>USER: <image>\nWhat? ASSISTANT:");
    turn("vicuna", false, false, 0, "</s>USER: What? ASSISTANT:");
    turn("vicuna", false, true, 0, "USER: What? ASSISTANT:");
    turn("mistral", true, false, 1, "<s>[INST] <image>\nWhat? [/INST]");
    turn("mistral", false, false, 0, "</s>[INST] What? [/INST]");
    turn("chatml", true, false, 2,
         "<|im_start|>user\n<image>\n<image>\nWhat?<|im_end|><|im_start|>assistant\n");
    turn("chatml", false, false, 0, "<|im_end|><|im_start|>user\nWhat?<|im_end|><|im_start|>assistant\n");
    turn("llama3", true, false, 1,
         "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n");
    turn("plain", true, false, 1, "<image>\nWhat?");
    turn("plain", false, false, 0, "\nWhat?");
    char *text = (char *)1;
    ck_assert_int_eq(vlci_chat_turn(vlci_chat_find("plain"), true, false, -1, "x", &text),
                     VLCACHE_E_ARGUMENT);
    ck_assert_ptr_null(text);
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
}
END_TEST

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
    vlci_config config = {.text_model_type = (char *)"mistral"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(cases[i].file, cases[i].text);
        ck_assert_str_eq(vlci_chat_name(vlci_chat_detect(scratch_folder(), &config)), cases[i].want);
        scratch_remove(cases[i].file);
    }
    config.text_model_type = (char *)"llama";
    ck_assert_str_eq(vlci_chat_name(vlci_chat_detect(scratch_folder(), &config)), "vicuna");
    scratch_clean();
}
END_TEST

START_TEST(memory) {
    bool failed = true;
    for (long at = 0; failed; at++) {
        char *text;
        failing_start(at);
        vlcache_status status = vlci_chat_turn(vlci_chat_find("vicuna"), true, false, 3, "x", &text);
        vlci_free(text);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chat");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, turns);
    tcase_add_test(cases, names);
    tcase_add_test(cases, detection);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
