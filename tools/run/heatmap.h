/**
 * heatmap.h - the pictures of a turn with what was kept of them drawn over.
 */
#ifndef RUN_HEATMAP_H
#define RUN_HEATMAP_H

#include "run/turn.h"

/** Whether heatmap_write() will be able to: names and folders, of the pictures and videos that are open.
 * Returns an exit code. */
int heatmap_check(run *r, const char *path);

/** Writes one PNG for each picture: PATH, or PATH-1, PATH-2 ... with several. Returns an exit code. */
int heatmap_write(run *r, const vlcache_answer *answer, const char *path);

#endif
