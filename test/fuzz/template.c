/*
 * template.c - a chat template, the tokens beside it, a user's words and an answer put into it. The input:
 * chat_template.jinja, chat_template.json, tokenizer_config.json, the words, the answer, the number of
 * pictures; half as many videos are shown with them, whose marks become words.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "fuzz.h"
#include "tokens/chat.h"

/* A character that no template of an input has: whatever it does, its bytes are words. */
static const char sign[] = "\xee\x84\xa3";

static const vlci_tokenizer *tokenizer(void) {
    static vlci_tokenizer *open;
    char path[512];
    snprintf(path, sizeof path, "%s/llama2",
             getenv("VLCACHE_FUZZ_DATA") ? getenv("VLCACHE_FUZZ_DATA") : VLCACHE_TEST_DATA "/tokenizer");
    if (!open) FUZZ_HOLDS(!vlci_tokenizer_load(path, &open));
    return open;
}

static void check_text(const vlci_rendered *text, bool signed_by_user) {
    FUZZ_HOLDS(text->text[text->bytes] == 0);
    for (size_t i = 0; i < text->bytes; i++) {
        FUZZ_HOLDS(text->whose[i] <= VLCI_BYTE_ANSWER);
        bool is = signed_by_user && i + 3 <= text->bytes && memcmp(text->text + i, sign, 3) == 0;
        FUZZ_HOLDS(!is || (text->whose[i] && text->whose[i + 1] && text->whose[i + 2]));
    }
}

static void put(const vlci_chat *chat, const vlci_conversation *c, bool signed_by_user) {
    vlci_rendered text;
    vlci_chat_turn turn;
    if (!vlci_chat_render(chat, c, true, &text)) check_text(&text, signed_by_user);
    vlci_rendered_release(&text);
    if (vlci_chat_encode(chat, c, &turn)) return;
    for (size_t i = 0; i < turn.n; i++)
        FUZZ_HOLDS(turn.ids[i] >= 0 && (size_t)turn.ids[i] < vlci_tokenizer_size(chat->tokenizer));
    vlci_free(turn.ids);
}

/* Whether the input's files cannot write the sign themselves: they have neither it nor an escape. */
static bool has_no_sign(const fuzz_input *in, size_t before) {
    const char *files = (const char *)in->data + in->bytes - before;
    size_t n = before - in->bytes;
    return !memmem(files, n, sign, 3) && !memchr(files, '\\', n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    const vlci_chat_for what = {tokenizer(), "<image>", "<video>"};
    vlci_chat *chat = NULL;
    fuzz_write_text(&in, "chat_template.jinja");
    fuzz_write_text(&in, "chat_template.json");
    fuzz_write_text(&in, "tokenizer_config.json");
    bool clean = has_no_sign(&in, bytes);
    char *words = fuzz_text(&in), *answer = fuzz_text(&in), *both = malloc(strlen(words) + sizeof sign);
    stpcpy(stpcpy(both, sign), words);
    int pictures = (int)fuzz_number(&in, 4);
    vlci_said said[] = {{VLCI_SYSTEM, words, 0, 0},
                        {VLCI_USER, both, pictures, pictures / 2},
                        {VLCI_ASSISTANT, answer, 0, 0},
                        {VLCI_USER, words, 1, 1}};
    char seen[] = "one frame: </s>";
    char *const written[] = {seen};
    const vlci_conversation one = {.at = said + 1, .n = 1, .written = written},
                            all = {.at = said, .n = 4, .written = written};
    if (!vlci_chat_load(fuzz_folder(), "mistral", &what, &chat)) {
        put(chat, &one, clean);
        put(chat, &all, clean);
    }
    vlci_chat_release(&chat);
    free(words);
    free(answer);
    free(both);
    return 0;
}
