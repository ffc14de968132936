/**
 * source.h (internal) - where the frames of a video come from: a file, a folder, pictures in memory.
 */
#ifndef VLCI_VIDEO_SOURCE_H
#define VLCI_VIDEO_SOURCE_H

#include "core/status.h"
#include "vlcache/video.h"

/** A source's functions; `self` is what opening it gave. */
typedef struct vlci_source_kind {
    /** Frame `index`, which is below info.frames, in new memory. Errors: those of vlcache_video_frame(). */
    vlcache_status (*read)(void *self, int index, vlcache_image **out);
    void (*close)(void *self); /**< NULL accepted */
} vlci_source_kind;

/** An open source. `info.seconds` is left to vlcache_video. */
typedef struct vlci_source {
    const vlci_source_kind *kind;
    void *self;
    vlcache_video_info info;
} vlci_source;

/** What vlcache_video_open() does. `path` is borrowed for the call. */
vlcache_status vlci_movie_open(const char *path, vlci_source *out);

/** What vlcache_video_open_frames() does; fps is in range. `folder` is borrowed for the call. */
vlcache_status vlci_folder_open(const char *folder, double fps, vlci_source *out);

/** What vlcache_video_from_images() does; there are n >= 1, and fps is in range. */
vlcache_status vlci_stack_open(const vlcache_image *const *images, size_t n, double fps, vlci_source *out);

#endif
