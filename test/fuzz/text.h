/**
 * text.h - what a tokenizer promises of any text and any ids.
 */
#ifndef TEST_FUZZ_TEXT_H
#define TEST_FUZZ_TEXT_H

#include "tokens/tokenizer.h"

/** Encodes the text, as it stands and as a user's words; decodes the ids at once and as a stream. */
void fuzz_text_there_and_back(const vlci_tokenizer *tokenizer, const char *text, size_t bytes);

#endif
