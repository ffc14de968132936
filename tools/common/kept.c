/*
 * kept.c - the kept positions of all layers and kv heads in one block.
 */
#include "common/kept.h"

#include <stdlib.h>

#include "common/exit.h"

/* Rows of all layers: the size of the block. */
static vlcache_status count_rows(const vlcache_session *session, const kept *k, size_t *rows) {
    vlcache_status status = VLCACHE_OK;
    *rows = 0;
    for (int l = 0; l < k->layers && !status; l++) {
        vlcache_compress_layer layer;
        status = vlcache_session_layer(session, l, &layer);
        if (!status) *rows += (size_t)layer.kept * (size_t)k->heads;
    }
    return status;
}

static vlcache_status read_all(vlcache_session *session, kept *k, size_t rows) {
    vlcache_status status = VLCACHE_OK;
    size_t used = 0;
    for (int i = 0; i < k->layers * k->heads && !status; i++) {
        k->first[i] = used;
        status = vlcache_session_kept(session, i / k->heads, i % k->heads, k->positions + used, rows - used,
                                      &k->n[i]);
        if (k->n[i] > rows - used) k->n[i] = rows - used;
        used += k->n[i];
    }
    return status;
}

int kept_read(vlcache_session *session, const vlcache_answer *answer, kept *k, console *c) {
    size_t rows = 0, pairs = (size_t)answer->compress.layers * (size_t)answer->compress.kv_heads;
    *k = (kept){.layers = answer->compress.layers, .heads = answer->compress.kv_heads};
    vlcache_status status = count_rows(session, k, &rows);
    if (status) return console_fail_status(c, status);
    k->n = calloc(pairs + 1, sizeof *k->n);
    k->first = calloc(pairs + 1, sizeof *k->first);
    k->positions = calloc(rows + 1, sizeof *k->positions);
    if (!k->n || !k->first || !k->positions)
        return console_fail(c, EXIT_MEMORY, "kept positions: out of host memory");
    status = read_all(session, k, rows);
    return status ? console_fail_status(c, status) : EXIT_OK;
}

void kept_release(kept *k) {
    free(k->n);
    free(k->first);
    free(k->positions);
    *k = (kept){0};
}
