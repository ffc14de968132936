/*
 * conversation.c - messages in a row.
 */
#include "tokens/conversation.h"

#include "core/alloc.h"

vlcache_status vlci_conversation_add(vlci_conversation *to, vlci_role role, const char *text, int n_images) {
    if (to->n == to->room) {
        vlci_said *grown = vlci_realloc(to->at, 2 * to->room + 4, sizeof *grown);
        if (!grown) return vlci_fail_memory("conversation");
        to->at = grown;
        to->room = 2 * to->room + 4;
    }
    char *copy = vlci_strdup(text);
    if (!copy) return vlci_fail_memory("conversation");
    to->at[to->n++] = (vlci_said){role, copy, n_images, 0};
    return VLCACHE_OK;
}

void vlci_conversation_show(vlci_conversation *to, int n_videos) {
    if (to->n) to->at[to->n - 1].n_videos = n_videos;
}

void vlci_conversation_cut(vlci_conversation *conversation, size_t n) {
    while (conversation->n > n) vlci_free(conversation->at[--conversation->n].text);
}

vlcache_status vlci_conversation_copy(const vlci_conversation *from, vlci_conversation *out) {
    vlcache_status status = VLCACHE_OK;
    *out = (vlci_conversation){.lost = from->lost};
    for (size_t i = 0; i < from->n && !status; i++) {
        status = vlci_conversation_add(out, from->at[i].role, from->at[i].text, from->at[i].n_images);
        if (!status) vlci_conversation_show(out, from->at[i].n_videos);
    }
    if (status) vlci_conversation_release(out);
    return status;
}

void vlci_conversation_release(vlci_conversation *conversation) {
    vlci_conversation_cut(conversation, 0);
    vlci_free(conversation->at);
    *conversation = (vlci_conversation){0};
}
