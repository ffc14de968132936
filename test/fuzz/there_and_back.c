/*
 * there_and_back.c - text -> ids -> text.
 */
#include <string.h>

#include "core/alloc.h"
#include "fuzz.h"
#include "text.h"

/* The pieces of the stream are the text that comes at once. */
static void decode(const vlci_tokenizer *tokenizer, const int32_t *ids, size_t n) {
    vlci_detokenizer *stream = NULL;
    char *whole = NULL;
    const char *piece;
    size_t at = 0;
    if (vlci_tokenizer_decode(tokenizer, ids, n, &whole)) return;
    FUZZ_HOLDS(!vlci_detokenizer_create(tokenizer, &stream));
    for (size_t i = 0; i <= n; i++) {
        FUZZ_HOLDS(!(i < n ? vlci_detokenizer_push(stream, ids[i], &piece)
                           : vlci_detokenizer_flush(stream, &piece)));
        FUZZ_HOLDS(strncmp(whole + at, piece, strlen(piece)) == 0);
        at += strlen(piece);
    }
    FUZZ_HOLDS(whole[at] == 0);
    vlci_detokenizer_destroy(&stream);
    vlci_free(whole);
}

void fuzz_text_there_and_back(const vlci_tokenizer *tokenizer, const char *text, size_t bytes) {
    vlci_text_part parts[] = {{text, bytes / 2, true}, {text + bytes / 2, bytes - bytes / 2, true}};
    size_t size = vlci_tokenizer_size(tokenizer), n = 0;
    int32_t *ids = NULL;
    int32_t any[64];
    for (n = 0; n < 64 && n < bytes / 2; n++)
        any[n] = (int32_t)(((uint8_t)text[2 * n] | (unsigned)(uint8_t)text[2 * n + 1] << 8) % (size + 1));
    decode(tokenizer, any, n);
    for (int plain = 0; plain < 2; plain++) {
        vlcache_status status = plain ? vlci_tokenizer_encode_parts(tokenizer, parts, 2, false, &ids, &n)
                                      : vlci_tokenizer_encode(tokenizer, text, bytes, true, &ids, &n);
        if (status) continue;
        for (size_t i = 0; i < n; i++) FUZZ_HOLDS(ids[i] >= 0 && (size_t)ids[i] < size);
        decode(tokenizer, ids, n);
        vlci_free(ids);
    }
}
