/*
 * entries.c - text and visual tokens in turn.
 */
#include "models/entries.h"

#include <string.h>

#include "core/alloc.h"

enum { MOST_ROWS = 1 << 24 }; /* of a picture: beyond what any text model takes */

/* Room for n more. */
static vlcache_status reserve(vlci_entries *e, size_t n) {
    size_t room = (size_t)e->n + n;
    if (room > MOST_ROWS)
        return vlci_fail(VLCACHE_E_CONTEXT_FULL, "a picture gives more than %zu rows", room);
    if ((int)room <= e->room) return VLCACHE_OK;
    room += room / 2;
    int32_t *at = vlci_realloc(e->at, room, sizeof *at);
    if (!at) return vlci_fail_memory("layout of a picture's tokens");
    e->at = at;
    e->room = (int)room;
    return VLCACHE_OK;
}

/* The ids between the two marks. */
static vlcache_status put(vlci_entries *e, const int32_t *ids, size_t n) {
    vlcache_status status = reserve(e, n);
    if (status) return status;
    if (n) memcpy(e->at + e->n, ids, n * sizeof *ids);
    e->n += (int)n;
    return VLCACHE_OK;
}

vlcache_status vlci_entries_text(vlci_entries *e, const char *text) {
    static const int32_t nothing = 0;
    int32_t *ids = NULL;
    size_t n = 0;
    if (!e->tokenizer) return put(e, &nothing, 1);
    char *between = vlci_format("%s%s%s", e->mark, text, e->mark);
    if (!between) return vlci_fail_memory("text between visual tokens");
    vlcache_status status = vlci_tokenizer_encode(e->tokenizer, between, strlen(between), false, &ids, &n);
    if (!status && n < 2) status = vlci_fail(VLCACHE_E_FORMAT, "tokenizer.json: \"%s\" is no token", e->mark);
    if (!status) status = put(e, ids + 1, n - 2);
    vlci_free(ids);
    vlci_free(between);
    return status;
}

vlcache_status vlci_entries_tokens(vlci_entries *e, int64_t n, int *first) {
    vlcache_status status = reserve(e, (size_t)n);
    if (status) return status;
    if (first) *first = e->n;
    for (int64_t i = 0; i < n; i++) e->at[e->n++] = -1 - e->n_tokens++;
    return VLCACHE_OK;
}

vlcache_status vlci_entries_end(const vlci_entries *e, int n_grids, bool sources, vlci_picture_layout *out) {
    vlcache_status status = vlci_picture_layout_create(e->n, e->n_tokens, n_grids, sources, out);
    if (!status) memcpy(out->entry, e->at, (size_t)e->n * sizeof *e->at);
    return status;
}

void vlci_entries_release(vlci_entries *e) {
    vlci_free(e->at);
    *e = (vlci_entries){0};
}
