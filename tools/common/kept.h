/**
 * kept.h - every position that the last turn kept, fetched once.
 */
#ifndef COMMON_KEPT_H
#define COMMON_KEPT_H

#include "common/console.h"

/** Positions of layer l and kv head h: n[i] of them, ascending, at positions + first[i], i = l * heads + h.
 */
typedef struct kept {
    int layers, heads;
    size_t *n, *first;
    int32_t *positions;
} kept;

/** Reads them from the session. Returns an exit code; kept_release() in any case. */
int kept_read(vlcache_session *session, const vlcache_answer *answer, kept *k, console *c);

void kept_release(kept *k);

#endif
