/*
 * image.c - from an encoded file to upright 8-bit RGB.
 *
 *     file -> container (whole? sane size?) -> stb_image or pnm -> alpha on white -> EXIF orientation
 *
 * stb_image is fed only files whose structure has been walked to the end, never its multi-frame GIF entry
 * (where CVE-2023-45661, -45664, -45666 and -45667 live), and allocates through a gate with a ceiling that
 * follows from the header, so that a few bytes of deflate cannot grow to gigabytes.
 */
#include "picture/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "picture/container.h"
#include "picture/png.h"
#include "picture/pnm.h"

/* ---- stb_image ----------------------------------------------------------------------------------------- */

/* A block of the decoder's memory, in the list of those that live. */
typedef struct block {
    struct block *next, **link; /* link: what points to this block */
    _Alignas(16) uint8_t bytes[];
} block;

/* One decode, on this thread: its blocks (some of the decoder's error paths forget theirs), the largest that
 * it may ask for, and why it got none. */
static _Thread_local struct {
    block *blocks;
    size_t ceiling;
    bool refused, exhausted;
} gate;

static void gate_link(block *b) {
    b->next = gate.blocks;
    b->link = &gate.blocks;
    if (b->next) b->next->link = &b->next;
    gate.blocks = b;
}

static void gate_unlink(block *b) {
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
}

static block *block_of(void *bytes) {
    return (block *)((uint8_t *)bytes - offsetof(block, bytes));
}

/* New bytes are zeroed: what a damaged file leaves out must not show old memory. */
static void *gate_resize(void *old, size_t old_bytes, size_t bytes) {
    block *b = old ? block_of(old) : NULL, *grown = NULL;
    if (bytes > gate.ceiling) {
        gate.refused = true;
        return NULL;
    }
    if (b) gate_unlink(b);
    grown = vlci_realloc(b, sizeof *b + bytes, 1);
    if (!grown) gate.exhausted = true;
    if (grown && bytes > old_bytes) memset(grown->bytes + old_bytes, 0, bytes - old_bytes);
    if (grown || b) gate_link(grown ? grown : b);
    return grown ? grown->bytes : NULL;
}

static void gate_free(void *bytes) {
    if (!bytes) return;
    gate_unlink(block_of(bytes));
    vlci_free(block_of(bytes));
}

static void gate_clear(void) {
    while (gate.blocks) gate_free(gate.blocks->bytes);
}

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
#define STB_IMAGE_IMPLEMENTATION
#define STBIDEF static __attribute__((unused)) // local, and part of it only is called
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_GIF
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS                   VLCI_IMAGE_MAX_SIDE
#define STBI_ASSERT(x)                        ((void)0)
#define STBI_MALLOC(bytes)                    gate_resize(NULL, 0, bytes)
#define STBI_REALLOC_SIZED(block, old, bytes) gate_resize(block, old, bytes)
#define STBI_FREE(block)                      gate_free(block)
#define stbi__unpremultiply_on_load_thread    stbi_set_unpremultiply_on_load_thread // 2.27 misnames it
#include <stb/stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

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

/* ---- decoding ------------------------------------------------------------------------------------------ */

/* Composes RGBA on white: out = (c * a + 255 * (255 - a)) / 255, rounded. */
static void compose(const uint8_t *rgba, size_t pixels, uint8_t *rgb) {
    for (size_t i = 0; i < pixels; i++, rgba += 4, rgb += 3) {
        unsigned a = rgba[3];
        for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)((rgba[c] * a + 255u * (255u - a) + 127u) / 255u);
    }
}

/* The largest single block an honest file of this size needs: a progressive JPEG holds 2 bytes a coefficient,
 * a 16-bit RGBA PNG inflates to 8 bytes a pixel in a buffer that doubles, its IDAT chunks are gathered in
 * another. */
static size_t decode_ceiling(const vlci_container *header, size_t bytes) {
    return ((size_t)16 << 20) + (size_t)header->width * header->height * 24 + bytes * 2;
}

static vlcache_status stb_failure(const char *name) {
    if (gate.refused)
        return vlci_fail(VLCACHE_E_FORMAT,
                         "%s: unpacks to far more than its header's size: a damaged or hostile file", name);
    if (gate.exhausted) return vlci_fail_memory("picture's decoding");
    const char *why = stbi_failure_reason();
    return vlci_fail(VLCACHE_E_FORMAT,
                     "%s: cannot be decoded (%s): save the picture again as an ordinary PNG or JPEG file",
                     name, why && *why ? why : "damaged data");
}

static vlcache_status decode_stb(const uint8_t *file, size_t bytes, const char *name,
                                 const vlci_container *header, uint8_t *rgb) {
    int width = 0, height = 0, channels = 0, wanted = header->kind == VLCI_CONTAINER_JPEG ? 3 : 4;
    vlcache_status status = VLCACHE_OK;
    gate.ceiling = decode_ceiling(header, bytes);
    gate.refused = gate.exhausted = false;
    stbi__g_failure_reason = NULL;
    uint8_t *pixels = stbi_load_from_memory(file, (int)bytes, &width, &height, &channels, wanted);
    if (!pixels) {
        status = stb_failure(name);
    } else if ((uint32_t)width != header->width || (uint32_t)height != header->height) {
        status = vlci_fail(VLCACHE_E_FORMAT, "%s: decodes to %d x %d pixels, its header says %u x %u", name,
                           width, height, header->width, header->height);
    } else if (wanted == 4) {
        compose(pixels, (size_t)width * (size_t)height, rgb);
    } else {
        memcpy(rgb, pixels, (size_t)width * (size_t)height * 3);
    }
    gate_clear();
    return status;
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

/* Largest encoded file: far above any honest picture of VLCACHE_IMAGE_MAX_PIXELS, and within an int. */
#define MAX_FILE_BYTES ((size_t)256 << 20)

vlcache_status vlcache_image_decode(const void *data, size_t bytes, const char *name, vlcache_image **out) {
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "image: out is NULL");
    *out = NULL;
    if (!name) name = "picture in memory";
    if (!data && bytes) return vlci_fail(VLCACHE_E_ARGUMENT, "%s: data is NULL", name);
    if (bytes > MAX_FILE_BYTES)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: %zu bytes, at most %zu are read: scale the picture down",
                         name, bytes, MAX_FILE_BYTES);
    vlci_container header;
    vlcache_image *image = NULL;
    vlcache_status status = vlci_container_read(data, bytes, name, &header);
    if (!status) status = image_make((int)header.width, (int)header.height, &image);
    if (!status)
        status = header.kind == VLCI_CONTAINER_PNM ? vlci_pnm_decode(data, bytes, name, &header, image->rgb)
                                                   : decode_stb(data, bytes, name, &header, image->rgb);
    if (!status) status = turn_upright(&image, header.orientation);
    if (status) vlcache_image_destroy(&image);
    *out = image;
    return status;
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
            return vlci_fail(VLCACHE_E_IO, "%s: cannot be read: %s", path, strerror(errno));
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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return vlci_fail(VLCACHE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &facts) != 0) {
        status = vlci_fail(VLCACHE_E_IO, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(facts.st_mode) && !S_ISFIFO(facts.st_mode)) {
        status = vlci_fail(VLCACHE_E_IO, "%s: neither a file nor a pipe: name a picture file", path);
    } else if (facts.st_size > (off_t)MAX_FILE_BYTES) {
        status = vlci_fail(VLCACHE_E_FORMAT, "%s: more than %zu bytes: scale the picture down", path,
                           MAX_FILE_BYTES);
    } else {
        status = read_all(fd, path, S_ISREG(facts.st_mode) ? (size_t)facts.st_size : 65535, data, bytes);
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
    return status;
}

/* Writes all of it to a new file; removes what it began when that fails. */
static vlcache_status write_new(const char *path, const uint8_t *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return vlci_fail(VLCACHE_E_IO, "%s: cannot be created: %s", path, strerror(errno));
    bool good = true;
    for (size_t done = 0; good && done < bytes;) {
        ssize_t put = write(fd, data + done, bytes - done);
        if (put > 0) done += (size_t)put;
        good = put > 0 || (put < 0 && errno == EINTR);
    }
    int cause = errno;
    if (close(fd) != 0 && good) {
        cause = errno;
        good = false;
    }
    if (good) return VLCACHE_OK;
    unlink(path);
    return vlci_fail(VLCACHE_E_IO, "%s: cannot be written: %s", path, strerror(cause));
}

vlcache_status vlcache_image_write_png(const char *path, const uint8_t *rgb, int width, int height) {
    if (!path || !rgb) return vlci_fail(VLCACHE_E_ARGUMENT, "write PNG: path or rgb is NULL");
    if (!size_is_sane(width, height))
        return vlci_fail(VLCACHE_E_ARGUMENT, "%s: %d x %d: sides must be 1..%d, pixels at most %u", path,
                         width, height, VLCI_IMAGE_MAX_SIDE, VLCACHE_IMAGE_MAX_PIXELS);
    size_t bytes = 0;
    vlcache_status status = VLCACHE_OK;
    uint8_t *file = vlci_png_encode(rgb, width, height, &bytes);
    char *temporary = vlci_format("%s.%ld.part", path, (long)getpid());
    if (!file || !temporary) {
        status = vlci_fail_memory("PNG file");
        goto done;
    }
    if ((status = write_new(temporary, file, bytes))) goto done;
    if (rename(temporary, path) != 0) {
        status = vlci_fail(VLCACHE_E_IO, "%s: cannot be put in place: %s", path, strerror(errno));
        unlink(temporary);
    }
done:
    vlci_free(temporary);
    vlci_free(file);
    return status;
}
