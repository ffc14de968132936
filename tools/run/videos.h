/**
 * videos.h - the videos of the next question, opened.
 */
#ifndef RUN_VIDEOS_H
#define RUN_VIDEOS_H

#include <vlcache/video.h>

#include "common/console.h"

typedef struct videos {
    vlcache_video **items;
    size_t n;
} videos;

/** Opens one more: a file, or with `fps` above 0 a folder of frames, so many a second. Returns an exit code.
 */
int videos_add(videos *v, const char *path, double fps, console *c);

void videos_clear(videos *v);

#endif
