/**
 * tokenizer.h - tokenizer.json (BPE) as it stands on the hub: text to ids and back. Ids are identical to
 * those of the `tokenizers` package.
 */
#ifndef VLCI_TOKENS_TOKENIZER_H
#define VLCI_TOKENS_TOKENIZER_H

#include "tokens/decode.h"

/** Immutable after loading, shareable between threads. */
typedef struct vlci_tokenizer vlci_tokenizer;

/** Loads `folder`/tokenizer.json, and the added tokens that it lacks from the files beside it. Errors:
 * VLCACHE_E_IO, VLCACHE_E_FORMAT (field named), VLCACHE_E_UNSUPPORTED (component named), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_tokenizer_load(const char *folder, vlci_tokenizer **out);

/**
 * Encodes UTF-8 text (invalid bytes become U+FFFD). Added and special tokens in the text are parsed. With
 * `add_special` the post-processor's template (BOS and the like) is applied, as `tokenizers` does with
 * add_special_tokens=True.
 * `*ids` is new memory (vlci_free) with `*n` entries.
 */
vlcache_status vlci_tokenizer_encode(const vlci_tokenizer *tokenizer, const char *text, size_t bytes,
                                     bool add_special, int32_t **ids, size_t *n);

/** A stretch of a text. */
typedef struct vlci_text_part {
    const char *text;
    size_t bytes;
    bool plain; /**< a user's words: control tokens in them ("</s>", "<image>") are text like any other */
} vlci_text_part;

/**
 * As vlci_tokenizer_encode() for all parts in a row: without control tokens in plain parts the ids are those
 * of the joined text. Added tokens that control nothing are parsed everywhere. A control token is one marked
 * special, or one written as such: <name>.
 */
vlcache_status vlci_tokenizer_encode_parts(const vlci_tokenizer *tokenizer, const vlci_text_part *parts,
                                           size_t n_parts, bool add_special, int32_t **ids, size_t *n);

/** Id of a token by its exact content, -1 when absent. */
int32_t vlci_tokenizer_id(const vlci_tokenizer *tokenizer, const char *content);

/** Number of ids (largest id + 1). */
size_t vlci_tokenizer_size(const vlci_tokenizer *tokenizer);

/** Whether an id is a special token (not shown to a reader). */
bool vlci_tokenizer_is_special(const vlci_tokenizer *tokenizer, int32_t id);

/** Decodes ids at once, special tokens skipped; equals `tokenizers`' decode(skip_special_tokens=True), but a
 * zero byte comes as U+FFFD. New memory. */
vlcache_status vlci_tokenizer_decode(const vlci_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                     char **text);

/** A stream of vlci_detokenizer_push() (decode.h) whose pieces make up vlci_tokenizer_decode(). The tokenizer
 * must outlive it. */
vlcache_status vlci_detokenizer_create(const vlci_tokenizer *tokenizer, vlci_detokenizer **out);

void vlci_tokenizer_destroy(vlci_tokenizer **tokenizer);

#endif
