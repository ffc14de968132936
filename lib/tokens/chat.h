/**
 * chat.h - chat templates by name: vicuna, mistral, chatml, llama3, plain. A table row each, no Jinja.
 */
#ifndef VLCI_TOKENS_CHAT_H
#define VLCI_TOKENS_CHAT_H

#include "checkpoint/config.h"
#include "core/status.h"

typedef struct vlci_chat_template vlci_chat_template;

/** Template by name; NULL when unknown. */
const vlci_chat_template *vlci_chat_find(const char *name);

/** Name of a template (static storage). */
const char *vlci_chat_name(const vlci_chat_template *chat);

/**
 * The BOS text that a first turn opens with ("<s>", "<|begin_of_text|>"), "" for none (static storage). A
 * tokenizer that lacks it as a token would spell it out: look it up with vlci_tokenizer_id() and skip
 * strlen(bos) bytes of the turn where that gives -1.
 */
const char *vlci_chat_bos(const vlci_chat_template *chat);

/** All names, comma-separated, for messages and help (static storage). */
const char *vlci_chat_names(void);

/**
 * The template that fits a checkpoint: from the chat_template text in chat_template.jinja /
 * chat_template.json / tokenizer_config.json / processor_config.json if one is there (recognised by its
 * marks: "USER:", "[INST]",
 * "<|im_start|>", "<|start_header_id|>"), else from the text model type (llama -> vicuna, mistral ->
 * mistral).
 */
const vlci_chat_template *vlci_chat_detect(const char *folder, const vlci_config *config);

/**
 * One turn as text, special tokens spelled out, to be tokenised with special tokens parsed and nothing added,
 * and appended to what the session holds. The first turn opens with BOS where the template has one; a later
 * one first closes the assistant's answer before it (`answer_closed`: the model's own end token is already in
 * the cache). `n_images` "<image>" marks stand in front of `user` as the model family expects ("USER:
 * <image>\nWhat ...? ASSISTANT:").
 * `*text` is new memory.
 */
vlcache_status vlci_chat_turn(const vlci_chat_template *chat, bool first, bool answer_closed, int n_images,
                              const char *user, char **text);

#endif
