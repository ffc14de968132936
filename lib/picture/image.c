/*
 * image.c - from an encoded file to upright 8-bit RGB.
 *
 *     file -> container (whole? sane size?) -> a decoder -> alpha on white -> EXIF orientation
 */
#include "vlcache/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "picture/container.h"
#include "picture/heif.h"
#include "picture/png.h"
#include "picture/pnm.h"
#include "picture/stb.h"
#include "picture/webp.h"

/* ---- the handle ---------------------------------------------------------------------------------------- */

struct vlcache_image {
    int width, height;
    uint8_t *rgb;
};

/* An image of undefined pixels. */
static vlcache_status image_make(int width, int height, vlcache_image **out) {
    vlcache_image *image = vlci_calloc(1, sizeof *image);
    if (!image) return vlci_fail_memory("picture");
    image->width = width;
    image->height = height;
    image->rgb = vlci_alloc((size_t)width * (size_t)height, 3);
    if (!image->rgb) {
        vlcache_image_destroy(&image);
        return vlci_fail_memory("picture's pixels");
    }
    *out = image;
    return VLCACHE_OK;
}

void vlcache_image_destroy(vlcache_image **image) {
    if (!image || !*image) return;
    vlci_free((*image)->rgb);
    vlci_free(*image);
    *image = NULL;
}

void vlcache_image_size(const vlcache_image *image, int *width, int *height) {
    if (width) *width = image ? image->width : 0;
    if (height) *height = image ? image->height : 0;
}

const uint8_t *vlcache_image_pixels(const vlcache_image *image) {
    return image ? image->rgb : NULL;
}

static bool size_is_sane(int width, int height) {
    return width >= 1 && height >= 1 && width <= VLCI_IMAGE_MAX_SIDE && height <= VLCI_IMAGE_MAX_SIDE &&
           (uint64_t)width * (uint64_t)height <= VLCACHE_IMAGE_MAX_PIXELS;
}

vlcache_status vlcache_image_from_rgb(const uint8_t *rgb, int width, int height, size_t stride,
                                      vlcache_image **out) {
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "image from pixels: out is NULL");
    *out = NULL;
    if (!rgb) return vlci_fail(VLCACHE_E_ARGUMENT, "image from pixels: rgb is NULL");
    if (!size_is_sane(width, height))
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "image from pixels: %d x %d: sides must be 1..%d, pixels at most %u", width, height,
                         VLCI_IMAGE_MAX_SIDE, VLCACHE_IMAGE_MAX_PIXELS);
    size_t row = (size_t)width * 3;
    if (stride == 0) stride = row;
    if (stride < row)
        return vlci_fail(VLCACHE_E_ARGUMENT, "image from pixels: stride %zu is below 3 * width = %zu", stride,
                         row);
    vlcache_status status = image_make(width, height, out);
    if (status) return status;
    for (int y = 0; y < height; y++) memcpy((*out)->rgb + (size_t)y * row, rgb + (size_t)y * stride, row);
    return VLCACHE_OK;
}

/* ---- orientation --------------------------------------------------------------------------------------- */

/* Where pixel (x, y) of the upright picture lies in the stored one, EXIF 2.32 orientation 1..8. */
static void stored_position(int orientation, int width, int height, int x, int y, int *sx, int *sy) {
    bool swap = orientation >= 5;
    int across = swap ? y : x, down = swap ? x : y; // along the stored rows, along its columns
    bool flip_across = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool flip_down = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    *sx = flip_across ? width - 1 - across : across;
    *sy = flip_down ? height - 1 - down : down;
}

/* Replaces the image by its upright self. */
static vlcache_status turn_upright(vlcache_image **image, int orientation) {
    vlcache_image *from = *image, *to = NULL;
    if (orientation == 1) return VLCACHE_OK;
    bool swap = orientation >= 5;
    vlcache_status status =
        image_make(swap ? from->height : from->width, swap ? from->width : from->height, &to);
    if (status) return status;
    uint8_t *p = to->rgb;
    for (int y = 0; y < to->height; y++) {
        for (int x = 0; x < to->width; x++, p += 3) {
            int sx, sy;
            stored_position(orientation, from->width, from->height, x, y, &sx, &sy);
            memcpy(p, from->rgb + ((size_t)sy * (size_t)from->width + (size_t)sx) * 3, 3);
        }
    }
    vlcache_image_destroy(image);
    *image = to;
    return VLCACHE_OK;
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

const char *vlcache_image_formats(void) {
    return "JPEG, PNG, BMP, GIF, PNM"
#ifdef VLCI_WITH_WEBP
           ", WebP"
#endif
#ifdef VLCI_WITH_HEIF
           ", HEIC, AVIF"
#endif
        ;
}

static vlcache_status decode_pixels(const uint8_t *file, size_t bytes, const char *name,
                                    const vlci_container *header, uint8_t *rgb) {
    switch (header->kind) {
    case VLCI_CONTAINER_PNM:
        return vlci_pnm_decode(file, bytes, name, header, rgb);
    case VLCI_CONTAINER_WEBP:
        return vlci_webp_decode(file, bytes, name, header, rgb);
    case VLCI_CONTAINER_HEIF:
        return vlci_heif_decode(file, bytes, name, header, rgb);
    case VLCI_CONTAINER_JPEG:
    case VLCI_CONTAINER_PNG:
    case VLCI_CONTAINER_GIF:
    case VLCI_CONTAINER_BMP:
        break;
    }
    return vlci_stb_decode(file, bytes, name, header, rgb);
}

/* Largest encoded file: far above any honest picture of VLCACHE_IMAGE_MAX_PIXELS, and within an int. */
#define MAX_FILE_BYTES ((size_t)256 << 20)

vlcache_status vlcache_image_decode(const void *data, size_t bytes, const char *name, vlcache_image **out) {
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "image: out is NULL");
    *out = NULL;
    if (!name) name = "picture in memory";
    if (!data && bytes) return vlci_fail(VLCACHE_E_ARGUMENT, "%s: data is NULL", name);
    if (bytes > MAX_FILE_BYTES)
        return vlci_fail_file(VLCACHE_E_FORMAT, name, "scale the picture down",
                              "%zu bytes, at most %zu are read", bytes, MAX_FILE_BYTES);
    vlci_container header;
    vlcache_image *image = NULL;
    vlcache_status status = vlci_container_read(data, bytes, name, &header);
    if (!status) status = image_make((int)header.width, (int)header.height, &image);
    if (!status) status = decode_pixels(data, bytes, name, &header, image->rgb);
    if (!status) status = turn_upright(&image, header.orientation);
    if (status) vlcache_image_destroy(&image);
    *out = image;
    return vlci_fail_in(status, name);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* Reads to the end; a file that grows past the limit while being read is refused too. */
static vlcache_status read_all(int fd, const char *path, size_t expected, uint8_t **data, size_t *bytes) {
    size_t room = expected + 1, used = 0; // one more, to meet the end without growing
    uint8_t *content = NULL;
    for (;;) {
        uint8_t *grown = vlci_realloc(content, room, 1);
        if (!grown) {
            vlci_free(content);
            return vlci_fail_memory("picture file");
        }
        content = grown;
        ssize_t got;
        do {
            got = read(fd, content + used, room - used);
        } while (got < 0 && errno == EINTR);
        if (got < 0) {
            vlci_free(content);
            return vlci_fail(vlci_errno_status(errno), "%s: cannot be read: %s", path, strerror(errno));
        }
        if (got == 0) break;
        used += (size_t)got;
        if (used > MAX_FILE_BYTES) {
            vlci_free(content);
            return vlci_fail(VLCACHE_E_FORMAT, "%s: more than %zu bytes: scale the picture down", path,
                             MAX_FILE_BYTES);
        }
        if (used == room) room *= 2;
    }
    *data = content;
    *bytes = used;
    return VLCACHE_OK;
}

static vlcache_status read_file(const char *path, uint8_t **data, size_t *bytes) {
    vlcache_status status;
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not make us wait for a writer
    if (fd < 0) return vlci_fail(vlci_errno_status(errno), "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &facts) != 0) {
        status = vlci_fail(vlci_errno_status(errno), "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(facts.st_mode)) {
        status = vlci_fail(VLCACHE_E_IO, "%s: is no regular file: name a picture file", path);
    } else if (facts.st_size > (off_t)MAX_FILE_BYTES) {
        status = vlci_fail(VLCACHE_E_FORMAT, "%s: more than %zu bytes: scale the picture down", path,
                           MAX_FILE_BYTES);
    } else {
        status = read_all(fd, path, (size_t)facts.st_size, data, bytes);
    }
    close(fd);
    return status;
}

vlcache_status vlcache_image_load(const char *path, vlcache_image **out) {
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "image: out is NULL");
    *out = NULL;
    if (!path) return vlci_fail(VLCACHE_E_ARGUMENT, "image: path is NULL");
    uint8_t *data = NULL;
    size_t bytes = 0;
    vlcache_status status = read_file(path, &data, &bytes);
    if (!status) status = vlcache_image_decode(data, bytes, path, out);
    vlci_free(data);
    return vlci_fail_in(status, path);
}

static vlcache_status fail_write(const char *path, const char *what, int cause) {
    return vlci_fail_file(vlci_errno_status(cause), path, NULL, "%s: %s", what, strerror(cause));
}

/* Writes all of it and closes; errno of the failure, or 0. */
static int write_all(int fd, const uint8_t *data, size_t bytes) {
    int cause = 0;
    for (size_t done = 0; !cause && done < bytes;) {
        ssize_t put = write(fd, data + done, bytes - done);
        if (put > 0) done += (size_t)put;
        if (put <= 0 && errno != EINTR) cause = errno;
    }
    return close(fd) != 0 && !cause ? errno : cause;
}

/* A new file in the folder of `path`, under a name that nobody can have foreseen; -1 where there can be none.
 */
static int create_beside(const char *path, char **temporary) {
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    for (int attempt = 0; attempt < 16; attempt++) {
        uint32_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) return -1;
        *temporary = vlci_format("%.*s.vlcache-%08x.part", folder, path, random);
        if (!*temporary) return errno = ENOMEM, -1;
        int fd = open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
        vlci_free(*temporary);
        *temporary = NULL;
    }
    return -1;
}

static vlcache_status replace(const char *path, const uint8_t *data, size_t bytes) {
    char *temporary = NULL;
    vlcache_status status = VLCACHE_OK;
    int cause, fd = create_beside(path, &temporary);
    if (fd < 0) {
        status = temporary ? fail_write(path, "cannot be created", errno) : vlci_fail_memory("PNG file");
    } else if ((cause = write_all(fd, data, bytes))) {
        status = fail_write(path, "cannot be written", cause);
    } else if (rename(temporary, path) != 0) {
        status = fail_write(path, "cannot be put in place", errno);
    }
    if (status && fd >= 0) unlink(temporary);
    vlci_free(temporary);
    return status;
}

/* What is no regular file (a pipe, /dev/stdout) is written to, never replaced; nothing is waited for. */
static vlcache_status write_into(const char *path, const uint8_t *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return fail_write(path, "cannot be opened", errno);
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    int cause = write_all(fd, data, bytes);
    return cause ? fail_write(path, "cannot be written", cause) : VLCACHE_OK;
}

static vlcache_status encode(const char *name, const uint8_t *rgb, int width, int height, uint8_t **out,
                             size_t *bytes) {
    if (!size_is_sane(width, height))
        return vlci_fail(VLCACHE_E_ARGUMENT, "%s: %d x %d: sides must be 1..%d, pixels at most %u", name,
                         width, height, VLCI_IMAGE_MAX_SIDE, VLCACHE_IMAGE_MAX_PIXELS);
    *out = vlci_png_encode(rgb, width, height, bytes);
    return *out ? VLCACHE_OK : vlci_fail_memory("PNG file");
}

vlcache_status vlcache_image_encode_png(const uint8_t *rgb, int width, int height, uint8_t **out,
                                        size_t *bytes) {
    if (out) *out = NULL;
    if (bytes) *bytes = 0;
    if (!rgb || !out || !bytes)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_image_encode_png: rgb, out or bytes is NULL");
    return encode("encode PNG", rgb, width, height, out, bytes);
}

vlcache_status vlcache_image_write_png(const char *path, const uint8_t *rgb, int width, int height) {
    if (!path || !rgb) return vlci_fail(VLCACHE_E_ARGUMENT, "write PNG: path or rgb is NULL");
    size_t bytes = 0;
    struct stat facts;
    uint8_t *file = NULL;
    vlcache_status invalid = encode(path, rgb, width, height, &file, &bytes);
    if (invalid) return invalid;
    bool special = stat(path, &facts) == 0 && !S_ISREG(facts.st_mode);
    vlcache_status status = special ? write_into(path, file, bytes) : replace(path, file, bytes);
    vlci_free(file);
    return status;
}
