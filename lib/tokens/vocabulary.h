/**
 * vocabulary.h - the content of every id, and the added tokens: those that are cut out of a text whole,
 * before it is encoded.
 */
#ifndef VLCI_TOKENS_VOCABULARY_H
#define VLCI_TOKENS_VOCABULARY_H

#include "tokens/bpe.h"
#include "tokens/normalize.h"

typedef struct vlci_added_token {
    char *content; /**< as written */
    char *match;   /**< as it stands in normalized text, where it is matched there */
    size_t n;      /**< bytes of match */
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
    bool control; /**< special, or written as such: <name>. It has no business in what a user says */
    bool beside;  /**< not of tokenizer.json, but of a file beside it */
} vlci_added_token;

typedef struct vlci_vocabulary {
    vlci_added_token *added; /**< those matched in raw text, then those in normalized text; each by match */
    size_t n_added, room;
    size_t first[2][257]; /**< [normalized][byte]: where the matches that begin with a byte begin */
    size_t size;          /**< largest id + 1 */
    const char **content; /**< of each id, NULL for holes; borrowed */
    bool *special;        /**< of each id */
} vlci_vocabulary;

/**
 * Reads added_tokens of `root`, a tokenizer.json, and what it lacks of them but tokenizer_config.json
 * (added_tokens_decoder) or, where that has none, added_tokens.json in `folder` holds. The BPE must outlive
 * the vocabulary. Errors: VLCACHE_E_FORMAT (two tokens with one id), VLCACHE_E_IO, VLCACHE_E_NO_MEMORY;
 * release in any case.
 */
vlcache_status vlci_vocabulary_read(const char *folder, const vlci_scope *root, const vlci_bpe *bpe,
                                    const vlci_normalizer *normalizer, vlci_vocabulary *out);

/**
 * The longest added token that the n > 0 bytes of text begin with, of those matched in raw or in normalized
 * text; NULL: none. A control token counts only where it is at most `control` bytes long.
 * O(length of the longest match * log(tokens)).
 */
const vlci_added_token *vlci_vocabulary_match(const vlci_vocabulary *vocabulary, bool normalized,
                                              const char *text, size_t n, size_t control);

void vlci_vocabulary_release(vlci_vocabulary *vocabulary);

#endif
