/*
 * tokenizer.c - tokenizer.json, tokenizer_config.json and added_tokens.json, and a text that they encode.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    vlci_tokenizer *tokenizer = NULL;
    fuzz_write_text(&in, "tokenizer.json");
    fuzz_write_text(&in, "tokenizer_config.json");
    fuzz_write_text(&in, "added_tokens.json");
    if (!vlci_tokenizer_load(fuzz_folder(), &tokenizer))
        fuzz_text_there_and_back(tokenizer, (const char *)in.data, in.bytes);
    vlci_tokenizer_destroy(&tokenizer);
    return 0;
}
