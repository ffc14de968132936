/*
 * text.c - a text, or ids, and the vocabularies of the tests' data: the first byte says which.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "text.h"

static vlci_tokenizer *tokenizer_of(size_t which) {
    static const char *const folders[] = {"gpt2", "llama2", "llama3", "metaspace_always", "metaspace_first",
                                          "qwen2"};
    enum { FOLDERS = sizeof folders / sizeof *folders };
    static vlci_tokenizer *open[FOLDERS];
    char path[512];
    which %= FOLDERS;
    snprintf(path, sizeof path, "%s/%s",
             getenv("VLCACHE_FUZZ_DATA") ? getenv("VLCACHE_FUZZ_DATA") : VLCACHE_TEST_DATA "/tokenizer",
             folders[which]);
    if (!open[which]) FUZZ_HOLDS(!vlci_tokenizer_load(path, &open[which]));
    return open[which];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes) fuzz_text_there_and_back(tokenizer_of(data[0]), (const char *)data + 1, bytes - 1);
    return 0;
}
