/**
 * reply.h (internal) - what a sequence answers: tokens, the text that they are, and where they were told what
 * each costs.
 */
#ifndef VLCI_ENGINE_REPLY_H
#define VLCI_ENGINE_REPLY_H

#include "tokens/decode.h"
#include "tokens/tokenizer.h"
#include "vlcache/engine.h"

typedef struct vlci_reply {
    int32_t *tokens; /**< [n] of at most how->max_tokens */
    int n;
    float *losses; /**< [how->n_told]: vlcache_answer.losses; NULL: nothing is told */
    char *text;    /**< ends with a zero */
    size_t bytes, room;
    vlci_detokenizer *stream; /**< NULL: there is no tokenizer, and no text */
    bool stopped;             /**< how->on_text wants no more */
} vlci_reply;

/** An empty reply: room for all tokens, and for some text. `tokenizer`: NULL, or it outlives the reply.
 * Errors: VLCACHE_E_NO_MEMORY; what there is then is to be released. */
vlcache_status vlci_reply_begin(const vlci_tokenizer *tokenizer, const vlcache_generate_options *how,
                                vlci_reply *out);

/** One more token, of which how->on_text hears. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_reply_add(vlci_reply *reply, const vlcache_generate_options *how, int32_t token);

/** What the tokens leave to be said. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_reply_end(vlci_reply *reply, const vlcache_generate_options *how);

/** Frees and zeroes. */
void vlci_reply_release(vlci_reply *reply);

#endif
