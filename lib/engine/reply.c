/*
 * reply.c - a reply grows:
 *
 *     token -> pieces of text, whole characters each -> the text so far, and who streams it
 */
#include "engine/reply.h"

#include <string.h>

#include "core/alloc.h"

enum { TEXT_ROOM = 1024 /* bytes of text to begin with */ };

/* Room for n more bytes and a zero: twice as much as before, so that few tokens allocate. */
static vlcache_status make_room(vlci_reply *r, size_t n) {
    size_t room = r->room ? r->room : TEXT_ROOM;
    if (r->text && r->bytes + n < r->room) return VLCACHE_OK;
    while (room <= r->bytes + n) room *= 2;
    char *longer = vlci_realloc(r->text, room, 1);
    if (!longer) return vlci_fail_memory("answer");
    r->text = longer;
    r->room = room;
    return VLCACHE_OK;
}

static vlcache_status say(vlci_reply *r, const vlcache_generate_options *how, const char *piece) {
    size_t n = strlen(piece);
    vlcache_status status = make_room(r, n);
    if (status || !n) return status;
    memcpy(r->text + r->bytes, piece, n + 1);
    r->bytes += n;
    if (how->on_text && !how->on_text(how->user, piece)) r->stopped = true;
    return VLCACHE_OK;
}

vlcache_status vlci_reply_begin(const vlci_tokenizer *tokenizer, const vlcache_generate_options *how,
                                vlci_reply *out) {
    *out = (vlci_reply){.tokens = vlci_alloc((size_t)how->max_tokens + 1, sizeof *out->tokens)};
    if (how->told) out->losses = vlci_alloc(how->n_told, sizeof *out->losses);
    if (!out->tokens || (how->told && !out->losses)) return vlci_fail_memory("answer");
    vlcache_status status = make_room(out, 0);
    if (!status) out->text[0] = 0;
    return status || !tokenizer ? status : vlci_detokenizer_create(tokenizer, &out->stream);
}

vlcache_status vlci_reply_add(vlci_reply *r, const vlcache_generate_options *how, int32_t token) {
    const char *piece = "";
    r->tokens[r->n++] = token;
    vlcache_status status = r->stream ? vlci_detokenizer_push(r->stream, token, &piece) : VLCACHE_OK;
    return status ? status : say(r, how, piece);
}

vlcache_status vlci_reply_end(vlci_reply *r, const vlcache_generate_options *how) {
    const char *rest = "";
    vlcache_status status = r->stream ? vlci_detokenizer_flush(r->stream, &rest) : VLCACHE_OK;
    return status ? status : say(r, how, rest);
}

void vlci_reply_release(vlci_reply *r) {
    vlci_free(r->tokens);
    vlci_free(r->losses);
    vlci_free(r->text);
    vlci_detokenizer_destroy(&r->stream);
    *r = (vlci_reply){0};
}
