/**
 * chat.h - chat templates by name: vicuna, mistral, chatml, llama3, plain. A table row each, no Jinja.
 */
#ifndef VLCI_TOKENS_CHAT_H
#define VLCI_TOKENS_CHAT_H

#include "core/status.h"

typedef struct vlci_chat_template vlci_chat_template;

/** Template by name; NULL when unknown. */
const vlci_chat_template *vlci_chat_find(const char *name);

/** Name of a template (static storage). */
const char *vlci_chat_name(const vlci_chat_template *chat);

/**
 * The BOS text that a first turn opens with ("<s>", "<|begin_of_text|>"), "" for none (static storage). A
 * tokenizer that lacks it as a token would spell it out: look it up with vlci_tokenizer_id() and skip the
 * turn's first part where that gives -1.
 */
const char *vlci_chat_bos(const vlci_chat_template *chat);

/**
 * The template's own end of a turn ("<|eot_id|>"), which ends an answer as much as config.json's end tokens
 * do; "" for none (static storage). Look it up with vlci_tokenizer_id().
 */
const char *vlci_chat_end(const vlci_chat_template *chat);

/** All names, comma-separated, for messages and help (static storage). */
const char *vlci_chat_names(void);

/**
 * The template that fits a checkpoint: from the chat_template text in chat_template.jinja /
 * chat_template.json / tokenizer_config.json / processor_config.json if one is there (recognised by its
 * marks: "USER:", "[INST]",
 * "<|im_start|>", "<|start_header_id|>"), else from the text model type (NULL: unknown; llama -> vicuna,
 * mistral -> mistral). A file of these that is no JSON is passed over, with a warning. Errors: VLCACHE_E_IO
 * (one is there and cannot be read), VLCACHE_E_NO_MEMORY; `*out` is NULL then.
 */
vlcache_status vlci_chat_detect(const char *folder, const char *text_type, const vlci_chat_template **out);

/** Whose text a part is: only the template's and a picture's mark may hold control tokens. */
typedef enum vlci_chat_kind { VLCI_CHAT_TEMPLATE, VLCI_CHAT_USER, VLCI_CHAT_PICTURE } vlci_chat_kind;

/** A stretch of a turn; `text` is the template's (static storage) or the user's (borrowed). */
typedef struct vlci_chat_part {
    vlci_chat_kind kind;
    const char *text;
    size_t bytes; /**< at least 1 */
} vlci_chat_part;

typedef struct vlci_chat_parts {
    vlci_chat_part *at;
    size_t n, room;
} vlci_chat_parts;

/**
 * One turn in parts, in the order of their text, to be tokenised in a row with nothing added and appended to
 * what the conversation holds. The first turn opens with BOS, where the template has one, as a part by
 * itself; a later one first closes the answer before it. Each of `n_images` pictures is a part `mark`: where
 * the user's words hold as many marks, those say where the pictures go; otherwise they stand in front of the
 * words, a line each, as the model families expect ("USER: <image>\nWhat ...? ASSISTANT:"), and marks are
 * words. A backslash in front of a mark makes it words in any case, and is taken out. Release on success.
 * Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_chat_parts_make(const vlci_chat_template *chat, bool first, int n_images,
                                    const char *user, const char *mark, vlci_chat_parts *out);

void vlci_chat_parts_release(vlci_chat_parts *parts);

#endif
