/**
 * conversation.h - what was said so far: the messages that a chat template puts in its form.
 */
#ifndef VLCI_TOKENS_CONVERSATION_H
#define VLCI_TOKENS_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef enum vlci_role { VLCI_SYSTEM, VLCI_USER, VLCI_ASSISTANT } vlci_role;

typedef struct vlci_said {
    vlci_role role;
    char *text;   /**< UTF-8, as it was given; owned */
    int n_images; /**< pictures shown with it */
    int n_videos; /**< videos shown with it, behind the pictures */
} vlci_said;

/** Zeroed is empty. */
typedef struct vlci_conversation {
    vlci_said *at;
    size_t n, room;
    bool lost;            /**< more was read than stands here: a raw prompt, or token ids */
    char *const *written; /**< [n_videos of the last message], borrowed: what the marks of its videos become
                               before there are tokens; NULL: they stay. Not copied */
} vlci_conversation;

/** Appends a message; the text is copied. Errors: VLCACHE_E_NO_MEMORY, nothing has changed then. */
vlcache_status vlci_conversation_add(vlci_conversation *to, vlci_role role, const char *text, int n_images);

/** Videos are shown with the last message. */
void vlci_conversation_show(vlci_conversation *to, int n_videos);

/** Takes back all but the first n messages. */
void vlci_conversation_cut(vlci_conversation *conversation, size_t n);

/** A copy in new memory. Errors: VLCACHE_E_NO_MEMORY, `*out` is then empty. */
vlcache_status vlci_conversation_copy(const vlci_conversation *from, vlci_conversation *out);

void vlci_conversation_release(vlci_conversation *conversation);

#endif
