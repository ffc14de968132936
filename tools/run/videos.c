/*
 * videos.c - videos from files and from folders of frames.
 */
#include "run/videos.h"

#include <stdlib.h>

#include "common/exit.h"
#include "common/interrupt.h"

int videos_add(videos *v, const char *path, double fps, console *c) {
    vlcache_video **grown = realloc(v->items, (v->n + 1) * sizeof *grown);
    if (!grown) return console_fail(c, EXIT_MEMORY, "%s: out of host memory", path);
    v->items = grown;
    interrupt_ends(true); /* a large file is read to its end */
    vlcache_status status =
        fps > 0 ? vlcache_video_open_frames(path, fps, &grown[v->n]) : vlcache_video_open(path, &grown[v->n]);
    interrupt_ends(false);
    if (status) return console_fail_status(c, status);
    v->n++;
    return EXIT_OK;
}

void videos_clear(videos *v) {
    for (size_t i = 0; i < v->n; i++) vlcache_video_destroy(&v->items[i]);
    free(v->items);
    *v = (videos){NULL, 0};
}
