/**
 * tokenizer.h - tokenizer.json (BPE) as it stands on the hub: text to ids and back. Ids are identical to
 * those of the `tokenizers` package.
 */
#ifndef VLCI_TOKENS_TOKENIZER_H
#define VLCI_TOKENS_TOKENIZER_H

#include "core/status.h"

/** Immutable after loading, shareable between threads. */
typedef struct vlci_tokenizer vlci_tokenizer;

/** Loads `folder`/tokenizer.json. Errors: VLCACHE_E_IO, VLCACHE_E_FORMAT (field named), VLCACHE_E_UNSUPPORTED
 * (component named), VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_tokenizer_load(const char *folder, vlci_tokenizer **out);

/**
 * Encodes UTF-8 text (invalid bytes become U+FFFD). Added and special tokens in the text are parsed. With
 * `add_special` the post-processor's template (BOS and the like) is applied, as `tokenizers` does with
 * add_special_tokens=True.
 * `*ids` is new memory (vlci_free) with `*n` entries.
 */
vlcache_status vlci_tokenizer_encode(const vlci_tokenizer *tokenizer, const char *text, size_t bytes,
                                     bool add_special, int32_t **ids, size_t *n);

/** Id of a token by its exact content, -1 when absent. */
int32_t vlci_tokenizer_id(const vlci_tokenizer *tokenizer, const char *content);

/** Number of ids (largest id + 1). */
size_t vlci_tokenizer_size(const vlci_tokenizer *tokenizer);

/** Whether an id is a special token (not shown to a reader). */
bool vlci_tokenizer_is_special(const vlci_tokenizer *tokenizer, int32_t id);

/** Decodes ids at once, special tokens skipped; equals `tokenizers`' decode(skip_special_tokens=True). New
 * memory. */
vlcache_status vlci_tokenizer_decode(const vlci_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                     char **text);

/** Streaming decoder: gives text as soon as it is whole UTF-8; concatenated pieces equal
 * vlci_tokenizer_decode(). */
typedef struct vlci_detokenizer vlci_detokenizer;
vlcache_status vlci_detokenizer_create(const vlci_tokenizer *tokenizer, vlci_detokenizer **out);

/** Takes one id; `*piece` (owned by the decoder, valid until the next call, may be "") is the text that
 * became certain. */
vlcache_status vlci_detokenizer_push(vlci_detokenizer *stream, int32_t id, const char **piece);

/** Ends the stream: what was held back, broken UTF-8 as U+FFFD. */
vlcache_status vlci_detokenizer_flush(vlci_detokenizer *stream, const char **piece);

void vlci_detokenizer_destroy(vlci_detokenizer **stream);
void vlci_tokenizer_destroy(vlci_tokenizer **tokenizer);

#endif
