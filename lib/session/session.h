/**
 * session.h (internal) - what a session is made of, and the parts of a turn that asking and comparing share.
 */
#ifndef VLCI_SESSION_SESSION_H
#define VLCI_SESSION_SESSION_H

#include <stdatomic.h>

#include "engine/decode.h"
#include "engine/prefill.h"
#include "session/probe.h"
#include "session/prompt.h"
#include "vlcache/session.h"

struct vlcache_session {
    vlcache_model *model;
    const vlci_chat_template *chat;
    vlci_recipe recipe;
    int context;
    vlci_text text;
    vlci_kv kv;
    atomic_bool cancel;
    int32_t open; /* last token of the answer before, not yet in the cache; -1: none */

    vlci_prompt prompt;         /* of the last turn */
    vlci_compress *plan;        /* of the last turn; NULL when it was not compressed */
    vlci_probe *probe;          /* of the comparison that is running, which owns it; NULL: none */
    const vlci_recipe *variant; /* that the comparison speaks of */
    bool answered;
    vlcache_answer answer;
    char *said; /* answer.text */
    size_t said_bytes;
    int32_t *tokens; /* answer.tokens */
};

/** One turn while it runs. */
typedef struct vlci_ask {
    vlcache_session *session;
    const vlcache_prompt *asked;
    vlcache_generate_options how;
    vlci_decode decode;
    vlci_detokenizer *stream;
    bool waiting;   /* compression waits for decoded tokens */
    vlci_kv *kv;    /* decoded on: the session's, or `small` once that holds what is kept */
    vlci_kv *small; /* where compressed rows go; the session's own cache, or another that leaves it whole */
    bool stopped;   /* on_text wants no more */
    double start, build;
} vlci_ask;

/** Ranges of the options. */
vlcache_status vlci_session_check(const vlcache_generate_options *generate);

/**
 * From the asked text and pictures to the logits of the first token, observed by a plan for each of the n
 * recipes (NULL where the policy keeps everything, and in a prompt without pictures). Only success touches
 * the conversation: its cache holds the prompt's rows, session->prompt is set.
 */
vlcache_status vlci_session_read(vlci_ask *ask, const vlci_recipe *recipes, vlci_compress **plans, size_t n);

/** token_grid.c: the grids of a prompt's pictures, in new memory. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_token_grids(const vlci_config *config, const vlci_prompt *prompt, vlci_token_grid **out,
                                int *n);

/** Compresses into ask->small with session->plan, and decodes there from now on. */
vlcache_status vlci_session_compress(vlci_ask *ask);

/** Generates from text->logits, compressing on the way where that waits, and describes the answer. */
vlcache_status vlci_session_answer(vlci_ask *ask);

/** Whether a token ends an answer. */
bool vlci_session_ends(const vlcache_session *session, int32_t token);

/** Drops the answer that the caller may have read, and with it the prompt. */
void vlci_session_forget_answer(vlcache_session *session);
void vlci_session_forget(vlcache_session *session);

static inline bool vlci_session_cancelled(vlcache_session *session) {
    return atomic_load(&session->cancel);
}

#endif
