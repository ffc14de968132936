/**
 * chat.h - the chat template of a checkpoint or of the caller's choice, and a conversation in its form.
 *
 * A template is run as it stands (template.h): system turns, several pictures, later turns and what stands in
 * front of an answer are its own. What kind of content it takes for each role, a text or a list of items, and
 * whether it writes a picture's mark for an item {"type": "image"}, is tried out when it is opened.
 */
#ifndef VLCI_TOKENS_CHAT_H
#define VLCI_TOKENS_CHAT_H

#include "tokens/chat_names.h"
#include "tokens/conversation.h"
#include "tokens/template.h"
#include "tokens/tokenizer.h"

/** Immutable, counted, shareable between threads. */
typedef struct vlci_chat vlci_chat;

/** What a template is opened for. */
typedef struct vlci_chat_for {
    const vlci_tokenizer *tokenizer; /**< must outlive it; NULL: it is never rendered */
    const char *mark;                /**< the text that stands for a picture: "<image>" */
    const char *video_mark;          /**< that stands for a video: "<video>"; NULL: there are none */
} vlci_chat_for;

/**
 * The template of a folder: the first of chat_template.jinja, chat_template.json, processor_config.json and
 * tokenizer_config.json that has one (in JSON "chat_template": a text, or several by name, of which "default"
 * counts, else the first), with the tokens that tokenizer_config.json and special_tokens_map.json name
 * (bos_token, eos_token, ...). Where there is none: the one called `otherwise`, with a warning. A JSON file
 * that cannot be parsed is passed over, with a warning; a template that cannot be is told when it is used,
 * since another can be chosen. Errors: VLCACHE_E_IO (one is there and cannot be read), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_chat_load(const char *folder, const char *otherwise, const vlci_chat_for *what,
                              vlci_chat **out);

/**
 * A template of the caller's choice: one of vlci_chat_names(), the text of a template (it has "{{" or "{%"),
 * or the path of a file with one; with the tokens that `base` has. Errors: VLCACHE_E_ARGUMENT (field
 * session.chat_template: neither), VLCACHE_E_FORMAT (file, line, column; or it has no expression, so that it
 * writes nothing of a question), VLCACHE_E_IO, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_chat_open(const vlci_chat *base, const char *asked, const vlci_chat_for *what,
                              vlci_chat **out);

/** A template by name without any tokens, for a model that has none. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_chat_named(const char *name, vlci_chat **out);

/** One more owner. */
vlci_chat *vlci_chat_retain(vlci_chat *chat);

/** Gives up ownership and NULLs the handle; NULL and a NULL handle are accepted. */
void vlci_chat_release(vlci_chat **chat);

/** Conversations that show videos are put in the form of `text` from now on, before the chat is shared.
 * Errors: VLCACHE_E_FORMAT, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_chat_show_videos(vlci_chat *chat, const char *text);

/** A name of vlci_chat_names(), or of the file that it stands in, or "text". */
const char *vlci_chat_name(const vlci_chat *chat);

/** The token that the template itself ends an answer with ("<|eot_id|>"), as much as config.json's end
 * tokens do; -1: none that controls. */
int32_t vlci_chat_end(const vlci_chat *chat);

/* ---- chat_turn.c ----------------------------------------------------------------------------------------
 */

/** The conversation in the template's form; `prompt`: with what stands in front of an answer. Errors: those
 * of vlci_template_render(). */
vlcache_status vlci_chat_render(const vlci_chat *chat, const vlci_conversation *conversation, bool prompt,
                                vlci_rendered *out);

/** What a new turn is, beside its ids. */
typedef struct vlci_chat_turn {
    int32_t *ids; /**< [n], new memory (vlci_free) */
    size_t n;
    bool rewritten; /**< the template changes what was said before: what the cache holds stays as it was */
} vlci_chat_turn;

/**
 * The tokens to append to what the conversation holds: of a first turn all of it, else what stands behind the
 * last answer. The conversation ends with the user's new message. Control tokens in what was said are words.
 * BOS, and what else the tokenizer adds, is added to a first turn unless the template begins with it, as
 * transformers' processors do. Errors: those of vlci_template_render(), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_chat_encode(const vlci_chat *chat, const vlci_conversation *conversation,
                                vlci_chat_turn *out);

/* ---- for the two ----------------------------------------------------------------------------------------
 */

/** What content a template takes, by trial. */
typedef struct vlci_chat_form {
    bool items[3]; /**< of each vlci_role: a list of items, not a text */
    struct {
        bool taken;       /**< an item of the kind becomes its mark */
        bool interleaves; /**< and stands among texts as it stood among items */
    } sign[2];            /**< pictures, videos */
} vlci_chat_form;

struct vlci_chat {
    char *name;
    vlci_template *tpl; /* NULL: it could not be parsed */
    char *failure;      /* why */
    json_t *variables;
    const vlci_tokenizer *tokenizer;
    char *mark[2]; /* of pictures, and of videos: NULL where there are none */
    vlci_chat_form form;
    bool mute;            /* it writes nothing of a question */
    vlci_chat *of_videos; /* owned: that of conversations which show some; NULL: this one */
    int32_t end;
    int references;
};

/** Tries the template out: form, whether it is mute, and end. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_chat_try(vlci_chat *chat);

#endif
