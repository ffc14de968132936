/*
 * video.c - a file of a video, opened and seen here and there: first, last, back, far. Its container and its
 * frames are libav's to read; what is made of them is ours: numbers, sizes, times, quarter turns.
 */
#include "vlcache/video.h"
#include "fuzz.h"

/* A frame has the size that the video names, or is refused. */
static void see(vlcache_video *video, const vlcache_video_info *info, int index) {
    vlcache_image *image = NULL;
    int width, height;
    vlcache_status status = vlcache_video_frame(video, index, &image);
    FUZZ_HOLDS(!image == !!status);
    if (status) return;
    vlcache_image_size(image, &width, &height);
    FUZZ_HOLDS(width == info->width && height == info->height);
    volatile uint8_t last = vlcache_image_pixels(image)[3 * (size_t)width * (size_t)height - 1];
    (void)last;
    vlcache_image_destroy(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    vlcache_video *video = NULL;
    vlcache_video_info info;
    fuzz_write("film", data, bytes);
    vlcache_status status = vlcache_video_open(fuzz_path("film"), &video);
    FUZZ_HOLDS(!video == !!status);
    vlcache_video_describe(video, &info);
    if (video) {
        FUZZ_HOLDS(info.frames >= 1 && info.frames <= VLCACHE_VIDEO_MAX_FRAMES);
        FUZZ_HOLDS(info.fps >= VLCACHE_VIDEO_MIN_FPS && info.fps <= VLCACHE_VIDEO_MAX_FPS);
        FUZZ_HOLDS(info.width >= 1 && info.height >= 1);
    }
    const int seen[] = {0, info.frames - 1, info.frames / 2, 0};
    bool small = (uint64_t)info.width * (uint64_t)info.height <= 1 << 20 && info.frames <= 1000; /* or slow */
    for (size_t i = 0; video && small && i < sizeof seen / sizeof *seen; i++) see(video, &info, seen[i]);
    vlcache_video_destroy(&video);
    return 0;
}
