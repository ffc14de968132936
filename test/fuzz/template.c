/*
 * template.c - the files in which a chat template may stand, and a user's words put into it. The input:
 * chat_template.jinja, chat_template.json, tokenizer_config.json, the words, the number of pictures.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tokens/chat.h"

static const char mark[] = "<image>";

/* Every letter of the user's comes once, but those of marks that place a picture and backslashes that spare
 * one. */
static void put(const vlci_chat_template *chat, bool first, int pictures, const char *words) {
    vlci_chat_parts parts;
    size_t users = 0;
    int marks = 0;
    if (vlci_chat_parts_make(chat, first, pictures, words, mark, &parts)) return;
    for (size_t i = 0; i < parts.n; i++) {
        FUZZ_HOLDS(parts.at[i].bytes >= 1);
        if (parts.at[i].kind == VLCI_CHAT_USER) users += parts.at[i].bytes;
        if (parts.at[i].kind == VLCI_CHAT_PICTURE) marks++;
    }
    FUZZ_HOLDS(marks == pictures && users <= strlen(words));
    FUZZ_HOLDS(strstr(words, mark) || users == strlen(words));
    vlci_chat_parts_release(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    const vlci_chat_template *chat = NULL;
    fuzz_write_text(&in, "chat_template.jinja");
    fuzz_write_text(&in, "chat_template.json");
    fuzz_write_text(&in, "tokenizer_config.json");
    char *words = fuzz_text(&in);
    int pictures = (int)fuzz_number(&in, 4);
    if (!vlci_chat_detect(fuzz_folder(), "mistral", &chat)) {
        put(chat, true, pictures, words);
        put(chat, false, pictures, words);
    }
    free(words);
    return 0;
}
