/**
 * video.h - videos for a prompt: frames of one size at an even rate, decoded when they are asked for, so that
 * a long one takes no more memory than a short one.
 */
#ifndef VLCACHE_VIDEO_H
#define VLCACHE_VIDEO_H

#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An open video. One thread at a time uses it: reading a frame moves it on. */
typedef struct vlcache_video vlcache_video;

/** Most frames of a video, and bounds of its rate in frames a second; a longer one is refused
 * (VLCACHE_E_FORMAT). */
#define VLCACHE_VIDEO_MAX_FRAMES (1 << 20)
#define VLCACHE_VIDEO_MIN_FPS    0.001
#define VLCACHE_VIDEO_MAX_FPS    1000.0

/** What a video says of itself. */
typedef struct vlcache_video_info {
    int width, height; /**< of every frame, pixels, upright */
    int frames;        /**< 1 or more */
    double fps;        /**< frames a second; of a file with an uneven rate, the mean */
    double seconds;    /**< frames / fps */
} vlcache_video_info;

/** Whether video files are read (vlcache_video_open()): they are where libavformat, libavcodec and libswscale
 * were there when the library was built, and are there now, since they are loaded when they are first needed.
 * Folders of pictures are always read. */
VLCACHE_API bool vlcache_video_reads_files(void);

/**
 * Opens a file that libavformat reads as MP4, MOV, MKV, WebM, AVI, MPEG, Ogg, FLV, ASF or GIF: counts its
 * frames without decoding them, and decodes the first. Its first video track counts; a display matrix
 * (phones) is honoured by quarter turns. A playlist is refused, since it names other files. Blocks: reads the
 * file once. libavutil is told once to keep quiet where the program has not chosen its log level, and to
 * allocate no more than 1 GiB at a time.
 * Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_IO (cannot be read, no regular file), VLCACHE_E_FORMAT (no video,
 * truncated, damaged, more than VLCACHE_VIDEO_MAX_FRAMES frames or VLCACHE_IMAGE_MAX_PIXELS pixels),
 * VLCACHE_E_UNSUPPORTED (no decoder for it, or a build without libavformat), VLCACHE_E_NO_MEMORY. `*out` is
 * NULL on failure; release it with vlcache_video_destroy().
 */
VLCACHE_API vlcache_status vlcache_video_open(const char *path, vlcache_video **out);

/**
 * Opens the pictures of a folder as frames, in the order of their names (bytes, so number them with leading
 * zeros), `fps` of them a second. Files whose names begin with a dot are passed over; every other must be a
 * picture of the size of the first, which is found out when it is read. Errors: VLCACHE_E_ARGUMENT (NULL, or
 * fps out of range), VLCACHE_E_IO, VLCACHE_E_FORMAT (no pictures, too many), those of vlcache_image_load() on
 * the first, VLCACHE_E_NO_MEMORY. `*out` is NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_video_open_frames(const char *folder, double fps, vlcache_video **out);

/**
 * Makes a video of n pictures of one size, `fps` of them a second; pixels are copied. Errors:
 * VLCACHE_E_ARGUMENT (NULL, none, sizes differ, fps out of range), VLCACHE_E_NO_MEMORY. `*out` is NULL on
 * failure.
 */
VLCACHE_API vlcache_status vlcache_video_from_images(const vlcache_image *const *images, size_t n, double fps,
                                                     vlcache_video **out);

/** Fills `*out`; all zero for a NULL video. */
VLCACHE_API void vlcache_video_describe(const vlcache_video *video, vlcache_video_info *out);

/** The file or folder that it was opened from; "video" (static storage) for one of pictures. */
VLCACHE_API const char *vlcache_video_name(const vlcache_video *video);

/**
 * Decodes frame `index`, 0 the first: a new picture, the caller's. Frames in ascending order decode each one
 * once; a step back begins the file anew. Blocks. Errors: VLCACHE_E_ARGUMENT (NULL, no such frame),
 * VLCACHE_E_IO, VLCACHE_E_FORMAT (it cannot be decoded, or has another size), VLCACHE_E_NO_MEMORY. `*out` is
 * NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_video_frame(vlcache_video *video, int index, vlcache_image **out);

/** Releases and NULLs the handle; NULL and a NULL handle are accepted. */
VLCACHE_API void vlcache_video_destroy(vlcache_video **video);

#ifdef __cplusplus
}
#endif
#endif
