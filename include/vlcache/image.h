/**
 * image.h - pictures for a prompt.
 */
#ifndef VLCACHE_IMAGE_H
#define VLCACHE_IMAGE_H

#include "common.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A decoded picture: 8-bit RGB, upright, alpha already composed on white. Immutable, shareable between
 * threads. */
typedef struct vlcache_image vlcache_image;

/** Largest picture that is decoded, in pixels, with no side above 65,535; a larger one is refused from its
 * header (VLCACHE_E_FORMAT). */
#define VLCACHE_IMAGE_MAX_PIXELS (64u << 20)

/** The formats that this build reads, for messages and help: "JPEG, PNG, BMP, GIF, PNM, WebP" (static
 * storage). WebP, HEIC and AVIF are among them where libwebp and libheif were there when it was built. */
VLCACHE_API const char *vlcache_image_formats(void);

/**
 * Loads a file of one of these formats, of which the first frame where it has several. The header is checked
 * before anything is decoded, EXIF orientation is honoured, alpha is composed on white, 16-bit channels are
 * reduced to 8. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_IO (cannot be read), VLCACHE_E_FORMAT (not a picture,
 * truncated, absurd size), VLCACHE_E_UNSUPPORTED (a format that is known by name, and not read),
 * VLCACHE_E_NO_MEMORY. `*out` is NULL on failure; release it with vlcache_image_destroy().
 */
VLCACHE_API vlcache_status vlcache_image_load(const char *path, vlcache_image **out);

/** As vlcache_image_load(), from `bytes` bytes of an encoded file in memory (not kept). `name` is for
 * messages. */
VLCACHE_API vlcache_status vlcache_image_decode(const void *data, size_t bytes, const char *name,
                                                vlcache_image **out);

/** From raw pixels, copied: `height` rows of `width` RGB triples, `stride` bytes apart (0: 3 * width).
 * Errors: VLCACHE_E_ARGUMENT (NULL, sides, pixels, stride), VLCACHE_E_NO_MEMORY. `*out` is NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_image_from_rgb(const uint8_t *rgb, int width, int height, size_t stride,
                                                  vlcache_image **out);

/** Width and height in pixels, after orientation. */
VLCACHE_API void vlcache_image_size(const vlcache_image *image, int *width, int *height);

/** Pixels as tightly packed RGB rows; owned by the image. */
VLCACHE_API const uint8_t *vlcache_image_pixels(const vlcache_image *image);

/**
 * Writes a PNG of tightly packed RGB rows: a file whole or not at all (a temporary file beside it, then
 * rename), what is there and is no regular file (a pipe, /dev/stdout) as it comes. Errors:
 * VLCACHE_E_ARGUMENT, VLCACHE_E_IO, VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_image_write_png(const char *path, const uint8_t *rgb, int width,
                                                   int height);

/**
 * A PNG of tightly packed RGB rows, in new memory for vlcache_free(): `*bytes` of it; NULL and 0 on an error.
 * Errors: VLCACHE_E_ARGUMENT (NULL, sides, pixels), VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_image_encode_png(const uint8_t *rgb, int width, int height, uint8_t **out,
                                                    size_t *bytes);

/** Releases and NULLs the handle; NULL and a NULL handle are accepted. */
VLCACHE_API void vlcache_image_destroy(vlcache_image **image);

#ifdef __cplusplus
}
#endif
#endif
