/*
 * video.c - the handle: a source of frames, and what is checked for all of them.
 */
#include <string.h>

#include "core/alloc.h"
#include "video/source.h"

struct vlcache_video {
    vlci_source source;
    char *name;
};

/* Takes the source over, whatever comes of it. */
static vlcache_status wrap(vlci_source *source, const char *name, vlcache_video **out) {
    vlcache_video *video = vlci_calloc(1, sizeof *video);
    if (!video) {
        source->kind->close(source->self);
        return vlci_fail_memory("video");
    }
    source->info.seconds = source->info.frames / source->info.fps;
    video->source = *source;
    video->name = vlci_strdup(name);
    *out = video;
    if (video->name) return VLCACHE_OK;
    vlcache_video_destroy(out);
    return vlci_fail_memory("video");
}

static vlcache_status check_fps(const char *what, double fps) {
    if (fps >= VLCACHE_VIDEO_MIN_FPS && fps <= VLCACHE_VIDEO_MAX_FPS) return VLCACHE_OK;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "video.fps", VLCI_VALUE("%g", fps),
                       "must be from %g to %g frames a second (%s)", VLCACHE_VIDEO_MIN_FPS,
                       VLCACHE_VIDEO_MAX_FPS, what);
}

vlcache_status vlcache_video_open(const char *path, vlcache_video **out) {
    vlci_source source = {0};
    if (out) *out = NULL;
    if (!path || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_video_open: path or out is NULL");
    vlcache_status status = vlci_movie_open(path, &source);
    return status ? vlci_fail_in(status, path) : wrap(&source, path, out);
}

vlcache_status vlcache_video_open_frames(const char *folder, double fps, vlcache_video **out) {
    vlci_source source = {0};
    if (out) *out = NULL;
    if (!folder || !out)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_video_open_frames: folder or out is NULL");
    vlcache_status status = check_fps(folder, fps);
    if (!status) status = vlci_folder_open(folder, fps, &source);
    return status ? status : wrap(&source, folder, out);
}

vlcache_status vlcache_video_from_images(const vlcache_image *const *images, size_t n, double fps,
                                         vlcache_video **out) {
    vlci_source source = {0};
    if (out) *out = NULL;
    if (!images || !out || !n)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_video_from_images: %s",
                         n ? "images or out is NULL" : "no pictures");
    if (n > VLCACHE_VIDEO_MAX_FRAMES)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "video.n", VLCI_VALUE("%zu", n), "must be at most %d",
                           VLCACHE_VIDEO_MAX_FRAMES);
    vlcache_status status = check_fps("pictures", fps);
    if (!status) status = vlci_stack_open(images, n, fps, &source);
    return status ? status : wrap(&source, "video", out);
}

void vlcache_video_describe(const vlcache_video *video, vlcache_video_info *out) {
    *out = video ? video->source.info : (vlcache_video_info){0};
}

const char *vlcache_video_name(const vlcache_video *video) {
    return video ? video->name : "video";
}

vlcache_status vlcache_video_frame(vlcache_video *video, int index, vlcache_image **out) {
    int width, height;
    if (out) *out = NULL;
    if (!video || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_video_frame: video or out is NULL");
    const vlcache_video_info *info = &video->source.info;
    if (index < 0 || index >= info->frames)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "video.frame", VLCI_VALUE("%d", index),
                           "must be from 0 to %d, the frames of %s", info->frames - 1, video->name);
    vlcache_status status = video->source.kind->read(video->source.self, index, out);
    if (status) return vlci_fail_in(status, video->name);
    vlcache_image_size(*out, &width, &height);
    if (width == info->width && height == info->height) return VLCACHE_OK;
    vlcache_image_destroy(out);
    return vlci_fail_file(VLCACHE_E_FORMAT, video->name, "give all frames one size",
                          "frame %d has %d x %d pixels, the first %d x %d", index, width, height, info->width,
                          info->height);
}

void vlcache_video_destroy(vlcache_video **video) {
    if (!video || !*video) return;
    vlcache_video *v = *video;
    *video = NULL;
    if (v->source.kind) v->source.kind->close(v->source.self);
    vlci_free(v->name);
    vlci_free(v);
}
