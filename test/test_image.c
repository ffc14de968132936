/*
 * test_image.c - pictures: decoding against Pillow (goldens of data/make_image_goldens.py), hostile files,
 * mutations, and memory that runs out at every single allocation.
 */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "picture/exif.h"
#include "picture/png.h"
#include "support/picture.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/image.h"

/* ---- support ------------------------------------------------------------------------------------------- */

/* Counts live blocks, and fails the allocation number `fail_at` (-1: none). */
static struct { long calls, fail_at, live; } memory = {0, -1, 0};

static void *counted_resize(void *user, void *block, size_t bytes) {
    (void)user;
    if (memory.calls++ == memory.fail_at) return NULL;
    void *grown = realloc(block, bytes);
    if (grown && !block) memory.live++;
    return grown;
}

static void counted_release(void *user, void *block) {
    (void)user;
    memory.live--;
    free(block);
}

static uint32_t random_state;

static uint32_t random_next(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* One picture of files.bin. */
typedef struct sample {
    char name[32];
    int tolerance, width, height, bytes;
    const uint8_t *data, *rgb;
} sample;

static sample samples[64];
static int n_samples;
static uint8_t *samples_file;

static void load_goldens(void) {
    size_t bytes;
    samples_file = golden_read(VLCACHE_TEST_DATA "/image/files.bin", &bytes);
    for (const uint8_t *p = samples_file; p < samples_file + bytes;) {
        sample *s = &samples[n_samples++];
        memcpy(s->name, p, 32);
        p += 32;
        s->tolerance = golden_take(&p);
        s->width = golden_take(&p);
        s->height = golden_take(&p);
        s->bytes = golden_take(&p);
        s->data = p;
        s->rgb = p + s->bytes;
        p = s->rgb + (size_t)s->width * (size_t)s->height * 3;
    }
    ck_assert_int_gt(n_samples, 30);
}

static const sample *sample_named(const char *name) {
    for (int i = 0; i < n_samples; i++)
        if (strcmp(samples[i].name, name) == 0) return &samples[i];
    ck_abort_msg("no sample %s", name);
    return NULL;
}

/* Decodes from an exact heap block, so that a read past the end is seen by the sanitizer. */
static vlcache_status decode(const uint8_t *data, size_t bytes, const char *name) {
    uint8_t *exact = malloc(bytes ? bytes : 1);
    memcpy(exact, data, bytes);
    vlcache_image *image = NULL;
    vlcache_status status = vlcache_image_decode(exact, bytes, name, &image);
    free(exact);
    ck_assert((image != NULL) == (status == VLCACHE_OK));
    if (image) {
        int width, height;
        vlcache_image_size(image, &width, &height);
        ck_assert(width >= 1 && height >= 1 &&
                  (uint64_t)width * (uint64_t)height <= VLCACHE_IMAGE_MAX_PIXELS);
    } else {
        ck_assert_msg(strstr(vlcache_error_message(), name), "message does not name %s: %s", name,
                      vlcache_error_message());
        if (status == VLCACHE_E_FORMAT) ck_assert_str_eq(vlcache_last_error()->file, name);
    }
    vlcache_image_destroy(&image);
    return status;
}

static void refuse(const void *data, size_t bytes, const char *name) {
    vlcache_status status = decode(data, bytes, name);
    ck_assert_msg(status == VLCACHE_E_FORMAT, "%s: %s", name, vlcache_status_name(status));
}

#define REFUSE(text, name) refuse(text, sizeof(text) - 1, name)

/* ---- decoding ------------------------------------------------------------------------------------------ */

START_TEST(decodes_as_pillow) {
    for (int i = 0; i < n_samples; i++) {
        const sample *s = &samples[i];
        vlcache_image *image = NULL;
        vlcache_status status = vlcache_image_decode(s->data, (size_t)s->bytes, s->name, &image);
        ck_assert_msg(status == VLCACHE_OK, "%s", vlcache_error_message());
        int width, height, worst = 0;
        vlcache_image_size(image, &width, &height);
        ck_assert_msg(width == s->width && height == s->height, "%s: %d x %d", s->name, width, height);
        const uint8_t *rgb = vlcache_image_pixels(image);
        for (int k = 0; k < width * height * 3; k++)
            if (abs(rgb[k] - s->rgb[k]) > worst) worst = abs(rgb[k] - s->rgb[k]);
        ck_assert_msg(worst <= s->tolerance, "%s: differs by %d, %d allowed", s->name, worst, s->tolerance);
        vlcache_image_destroy(&image);
        ck_assert_ptr_null(image);
    }
}
END_TEST

START_TEST(loads_files_and_names_them) {
    char path[] = "/tmp/vlcache-image-XXXXXX", expect[64];
    const sample *s = sample_named("alpha.png");
    vlcache_image *image = (void *)path;
    int fd = mkstemp(path); // no extension: the content tells
    ck_assert_int_eq(write(fd, s->data, (size_t)s->bytes), s->bytes);
    close(fd);
    ck_assert_int_eq(vlcache_image_load(path, &image), VLCACHE_OK);
    vlcache_image_destroy(&image);
    ck_assert_int_eq(truncate(path, s->bytes - 5), 0);
    ck_assert_int_eq(vlcache_image_load(path, &image), VLCACHE_E_FORMAT);
    ck_assert_ptr_null(image);
    snprintf(expect, sizeof expect, "%s: ", path);
    ck_assert_msg(strstr(vlcache_error_message(), expect) == vlcache_error_message(), "%s",
                  vlcache_error_message());
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(vlcache_image_load(path, &image), VLCACHE_E_FORMAT);
    ck_assert_int_eq(truncate(path, (off_t)300 << 20), 0); // sparse
    ck_assert_int_eq(vlcache_image_load(path, &image), VLCACHE_E_FORMAT);
    unlink(path);
    ck_assert_int_eq(vlcache_image_load(path, &image), VLCACHE_E_IO);
    ck_assert_int_eq(vlcache_image_load("/tmp", &image), VLCACHE_E_IO);
    ck_assert_int_eq(vlcache_image_load("/dev/zero", &image), VLCACHE_E_IO);
    ck_assert_int_eq(mkfifo(path, 0600), 0); // nobody writes to it
    ck_fails(vlcache_image_load(path, &image), VLCACHE_E_IO, "is no regular file");
    unlink(path);
    ck_assert_int_eq(vlcache_image_load(NULL, &image), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_load(path, NULL), VLCACHE_E_ARGUMENT);
}
END_TEST

START_TEST(takes_raw_pixels) {
    const uint8_t rows[] = {1, 2, 3, 99, 4, 5, 6, 99};
    vlcache_image *image = NULL;
    ck_assert_int_eq(vlcache_image_from_rgb(rows, 1, 2, 4, &image), VLCACHE_OK);
    ck_assert_mem_eq(vlcache_image_pixels(image), "\1\2\3\4\5\6", 6);
    vlcache_image_destroy(&image);
    ck_assert_int_eq(vlcache_image_from_rgb(rows, 2, 1, 5, &image), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_from_rgb(rows, 0, 1, 0, &image), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_from_rgb(rows, 1, -1, 0, &image), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_from_rgb(rows, 60000, 60000, 0, &image), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_from_rgb(NULL, 1, 1, 0, &image), VLCACHE_E_ARGUMENT);
    vlcache_image_destroy(&image);
    vlcache_image_destroy(NULL);
}
END_TEST

START_TEST(writes_png) {
    const int sizes[][2] = {{1, 1}, {17, 31}, {300, 200}, {3000, 2}};
    char path[64];
    snprintf(path, sizeof path, "/tmp/vlcache-image-%ld.png", (long)getpid());
    for (int i = 0; i < 4; i++) {
        int w = sizes[i][0], h = sizes[i][1];
        vlcache_image *image = golden_picture(w, h), *back = NULL;
        ck_assert_int_eq(vlcache_image_write_png(path, vlcache_image_pixels(image), w, h), VLCACHE_OK);
        ck_assert_msg(vlcache_image_load(path, &back) == VLCACHE_OK, "%s", vlcache_error_message());
        ck_assert_mem_eq(vlcache_image_pixels(back), vlcache_image_pixels(image), (size_t)(w * h * 3));
        vlcache_image_destroy(&back);
        vlcache_image_destroy(&image);
    }
    unlink(path);
    uint8_t black[64 * 64 * 3] = {0};
    size_t bytes;
    uint8_t *file = vlci_png_encode(black, 64, 64, &bytes);
    ck_assert_uint_lt(bytes, 400); // long matches are found
    vlcache_free(file);
    ck_assert_int_eq(vlcache_image_write_png("/nowhere/at/all.png", black, 64, 64), VLCACHE_E_IO);
    ck_assert_int_eq(vlcache_image_write_png(path, black, 0, 64), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_write_png(NULL, black, 64, 64), VLCACHE_E_ARGUMENT);
    uint8_t *none = file;
    ck_assert_int_eq(vlcache_image_encode_png(black, 64, -1, &none, &bytes), VLCACHE_E_ARGUMENT);
    ck_assert(!none && !bytes);
    ck_assert_int_eq(vlcache_image_encode_png(NULL, 64, 64, &none, &bytes), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlcache_image_encode_png(black, 64, 64, NULL, &bytes), VLCACHE_E_ARGUMENT);
}
END_TEST

/* What a file is made from bears no name that others could have taken; what is no file stays what it is. */
START_TEST(writes_beside_and_into) {
    static const uint8_t black[8 * 8 * 3];
    char path[600], taken[700];
    struct stat facts;
    uint8_t bytes[4096];
    scratch_text("kept", "");
    snprintf(path, sizeof path, "%s/a.png", scratch_folder());
    snprintf(taken, sizeof taken, "%s.%ld.part", path, (long)getpid());
    ck_assert_int_eq(symlink("/nowhere", taken), 0);
    ck_ok(vlcache_image_write_png(path, black, 8, 8));
    ck_assert(stat(path, &facts) == 0 && S_ISREG(facts.st_mode));
    ck_assert_int_eq(unlink(taken), 0);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_fails(vlcache_image_write_png(path, black, 8, 8), VLCACHE_E_IO, "cannot be opened");
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    ck_ok(vlcache_image_write_png(path, black, 8, 8));
    ssize_t got = read(reader, bytes, sizeof bytes);
    close(reader);
    ck_assert(stat(path, &facts) == 0 && S_ISFIFO(facts.st_mode));
    vlcache_image *back = NULL;
    ck_ok(vlcache_image_decode(bytes, (size_t)got, "what came through", &back));
    vlcache_image_destroy(&back);
    unlink(path);
    ck_fails(vlcache_image_write_png(scratch_folder(), black, 8, 8), VLCACHE_E_IO, "directory");
    ck_assert_str_eq(vlcache_last_error()->file, scratch_folder());
    scratch_remove("kept");
    ck_assert_int_eq(rmdir(scratch_folder()), 0); /* nothing is left there */
    scratch_clean();
}
END_TEST

/* ---- bad files ----------------------------------------------------------------------------------------- */

/* Whether the first `cut` bytes decode to the pixels of the whole file. */
static bool decodes_alike(const uint8_t *data, int bytes, int cut) {
    vlcache_image *whole = NULL, *part = NULL;
    int width, height;
    ck_assert_int_eq(vlcache_image_decode(data, (size_t)bytes, "whole", &whole), VLCACHE_OK);
    ck_ok(vlcache_image_decode(data, (size_t)cut, "part", &part));
    vlcache_image_size(whole, &width, &height);
    bool alike =
        memcmp(vlcache_image_pixels(whole), vlcache_image_pixels(part), (size_t)(width * height * 3)) == 0;
    vlcache_image_destroy(&whole);
    vlcache_image_destroy(&part);
    return alike;
}

/* A JPEG without its end marker is read when its pixels are all there, and only then: the cut may also fall
 * on a restart marker, behind which the decoder asks for nothing. */
START_TEST(reads_jpeg_without_end) {
    for (int i = 0; i < n_samples; i++) {
        const sample *s = &samples[i];
        if (!strstr(s->name, ".jpg")) continue;
        ck_assert_msg(decodes_alike(s->data, s->bytes, s->bytes - 1), "%s", s->name);
        ck_assert_msg(decodes_alike(s->data, s->bytes, s->bytes - 2), "%s", s->name);
    }
    size_t bytes;
    uint8_t *jpeg = golden_read(VLCACHE_TEST_DATA "/image/restart.jpg", &bytes);
    int taken = 0;
    for (size_t cut = 0; cut < bytes; cut++) {
        vlcache_status status = decode(jpeg, cut, "restart.jpg");
        ck_assert(status == VLCACHE_E_FORMAT || status == VLCACHE_OK);
        if (status) continue;
        ck_assert_msg(decodes_alike(jpeg, (int)bytes, (int)cut), "cut at %zu of %zu", cut, bytes);
        taken++;
    }
    ck_assert_int_ge(taken, 2);
    free(jpeg);
}
END_TEST

START_TEST(refuses_truncated_files) {
    for (int i = 0; i < n_samples; i++) {
        const sample *s = &samples[i];
        bool whole_only = strstr(s->name, ".png") || strstr(s->name, ".jpg") || strstr(s->name, ".bmp");
        for (int cut = 0; cut < s->bytes; cut++) {
            vlcache_status status = decode(s->data, (size_t)cut, s->name);
            bool good =
                status == VLCACHE_E_FORMAT || (status == VLCACHE_OK && !whole_only && cut > s->bytes / 3) ||
                (status == VLCACHE_OK && strstr(s->name, ".jpg") && decodes_alike(s->data, s->bytes, cut));
            ck_assert_msg(good, "%s cut at %d: %s", s->name, cut, vlcache_status_name(status));
        }
    }
}
END_TEST

START_TEST(refuses_what_is_no_picture) {
    REFUSE("", "empty.png");
    REFUSE("\0", "zero.png");
    REFUSE("Dear reader, this is a text, not a picture.\n", "text.png");
    REFUSE("version https://git-lfs.github.com/spec/v1\n", "pointer.png");
    REFUSE("\xFF\xD8\xFF", "start.jpg");
    REFUSE("\xFF\xD8\xFF\xD9", "empty.jpg");
    REFUSE("\xFF\xD8\xFF\xE0\0\1", "short.jpg");
    REFUSE("\xFF\xD8\xFF\xE0\xFF\xFF", "long.jpg");
    REFUSE("\xFF\xD8\xFF\xC0\0\x0B\x08\0\0\0\x10\1\1\x11\0\xFF\xD9", "no-height.jpg");
    REFUSE("\xFF\xD8\xFF\xC0\0\x0B\x0C\0\x10\0\x10\1\1\x11\0\xFF\xD9", "12-bit.jpg");
    REFUSE("\xFF\xD8\xFF\xC0\0\x0B\x08\0\x10\0\x10\2\1\x11\0\xFF\xD9", "two-components.jpg");
    REFUSE("\xFF\xD8\xFF\xC9\0\x0B\x08\0\x10\0\x10\1\1\x11\0\xFF\xD9", "arithmetic.jpg");
    REFUSE("\xFF\xD8\xFF\xDA\0\x08\1\1\0\0\x3F\0\xFF\xD9", "no-frame.jpg");
    REFUSE("\xFF\xD8\xFF\xC0\0\x0B\x08\xFF\xFF\xFF\xFF\1\1\x11\0\xFF\xDA\0\x08\1\1\0\0\x3F\0\xFF\xD9",
           "bomb.jpg");
    REFUSE("\xFF\xD8\xFF\xC4\0\x13\0\xFF\xFF\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xFF\xD9", "huffman.jpg");
    REFUSE("GIF89a\1\0\1\0\0\0\0;", "no-frame.gif");
    REFUSE("GIF89a\0\0\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;", "no-size.gif");
    REFUSE("GIF89a\xFF\xFF\xFF\xFF\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;", "bomb.gif");
    REFUSE("GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;", "no-colours.gif");
    REFUSE("GIF89a\1\0\1\0\x80\0\0\0\0\0\1\1\1,\0\0\0\0\2\0\1\0\0\2\0;", "outside.gif");
    REFUSE("GIF89a\1\0\1\0\x80\0\0\0\0\0\1\1\1,\0\0\0\0\1\0\1\0\0\x0D\1\0\0;", "code-size.gif");
    REFUSE("GIF89a\1\0\1\0\0\0\0?", "block.gif");
    REFUSE("BM", "start.bmp");
    REFUSE("P6", "start.ppm");
    REFUSE("P5 -3 4 255\n123456789012", "negative.pgm");
    REFUSE("P5 3 4 0\n123456789012", "maxval-0.pgm");
    REFUSE("P5 3 4 65536\n123456789012123456789012", "maxval-big.pgm");
    REFUSE("P5 0 4 255\n1", "no-width.pgm");
    REFUSE("P5 99999999999999999999 4 255\n1", "endless.pgm");
    REFUSE("P6 60000 60000 255\n1", "bomb.ppm");
    REFUSE("P6 100000 1 255\n1", "long.ppm");
    REFUSE("P6 1 4294967297 255\n1", "wrapped.ppm");
    REFUSE("P3 1 1 255 1 2 256", "sample.ppm");
    REFUSE("P3 1 1 255 1 2 x", "letter.ppm");
    REFUSE("P1 2 2 1 0 1 2", "bit.pbm");
    REFUSE("P7 1 1 255 1", "pam.pam");
}
END_TEST

START_TEST(refuses_cmyk_of_unknown_meaning) {
    const sample *s = sample_named("cmyk.jpg");
    uint8_t *jpeg = malloc((size_t)s->bytes);
    memcpy(jpeg, s->data, (size_t)s->bytes);
    uint8_t *adobe = memmem(jpeg, (size_t)s->bytes, "Adobe", 5);
    ck_assert_ptr_nonnull(adobe);
    adobe[0] = 'a';
    refuse(jpeg, (size_t)s->bytes, "cmyk.jpg");
    ck_assert_msg(strstr(vlcache_error_message(), "Adobe"), "%s", vlcache_error_message());
    free(jpeg);
}
END_TEST

static void store32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Corrects every chunk's CRC, so that a change reaches the decoder. */
static void mend_crc(uint8_t *png, size_t bytes) {
    for (size_t at = 8; bytes - at >= 12;) {
        size_t length =
            (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        if (length > bytes - at - 12) return;
        store32(png + at + 8 + length, vlci_png_crc(png + at + 4, length + 4));
        at += length + 12;
    }
}

START_TEST(refuses_damaged_png) {
    const sample *s = sample_named("rgb.png");
    uint8_t *png = malloc((size_t)s->bytes);
    memcpy(png, s->data, (size_t)s->bytes);
    png[s->bytes / 2] ^= 1;
    refuse(png, (size_t)s->bytes, "crc.png");
    memcpy(png, s->data, (size_t)s->bytes);
    png[41] ^= 0xFF; // the zlib header, behind a CRC made right
    mend_crc(png, (size_t)s->bytes);
    refuse(png, (size_t)s->bytes, "zlib.png");
    const uint32_t sizes[][2] = {
        {0, 17}, {23, 0}, {0x7FFFFFFF, 0x7FFFFFFF}, {0xFFFFFFFF, 1}, {60000, 60000}, {1, 16777216}, {23, 18}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memcpy(png, s->data, (size_t)s->bytes);
        store32(png + 16, sizes[i][0]);
        store32(png + 20, sizes[i][1]);
        mend_crc(png, (size_t)s->bytes);
        refuse(png, (size_t)s->bytes, "size.png");
    }
    free(png);
}
END_TEST

/* 32 MiB of zeros behind a header of one pixel: stopped at the ceiling, not inflated. */
START_TEST(refuses_a_zlib_bomb) {
    enum { WIDTH = 4096, HEIGHT = 4096 };
    uint8_t *black = calloc(WIDTH * HEIGHT, 3);
    size_t bytes;
    uint8_t *png = vlci_png_encode(black, WIDTH, HEIGHT, &bytes);
    store32(png + 16, 1);
    store32(png + 20, 1);
    mend_crc(png, bytes);
    refuse(png, bytes, "bomb.png");
    ck_assert_msg(strstr(vlcache_error_message(), "unpacks"), "%s", vlcache_error_message());
    vlcache_free(png);
    free(black);
}
END_TEST

START_TEST(refuses_bmp_headers) {
    const sample *s = sample_named("24.bmp");
    const struct {
        int at;
        uint32_t value;
    } cases[] = {{18, 0},          {18, 0xFFFFFFFF}, {18, 0x7FFFFFFF},  {22, 0},           {22, 0x80000000},
                 {22, 0x7FFFFFFF}, {14, 39},         {14, 0xFFFFFFFF},  {10, 0xFFFFFFFF},  {10, 3},
                 {30, 1},          {30, 4},          {26, 1 | 3 << 16}, {26, 1 | 99 << 16}};
    uint8_t *bmp = malloc((size_t)s->bytes);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bmp, s->data, (size_t)s->bytes);
        for (int k = 0; k < 4; k++) bmp[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        refuse(bmp, (size_t)s->bytes, "header.bmp");
    }
    free(bmp);
}
END_TEST

START_TEST(damaged_exif_is_upright) {
    const uint8_t good[] = "MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
    uint8_t exif[sizeof good - 1];
    memcpy(exif, good, sizeof exif);
    ck_assert_int_eq(vlci_exif_orientation(exif, sizeof exif), 6);
    for (size_t cut = 0; cut < 22; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, good, cut);
        ck_assert_int_eq(vlci_exif_orientation(exact, cut), 1);
        free(exact);
    }
    const struct {
        int at;
        uint8_t value;
    } cases[] = {{0, 'I'}, {4, 0xFF}, {7, 0},  {7, 0xFF}, {13, 2}, {13, 4},
                 {13, 5},  {17, 2},   {19, 0}, {19, 9},   {18, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(exif, good, sizeof exif);
        exif[cases[i].at] = cases[i].value;
        ck_assert_int_eq(vlci_exif_orientation(exif, sizeof exif), 1);
    }
    /* written as LONG, in either order of bytes */
    const uint8_t big[] = "MM\0*\0\0\0\x08\0\1\x01\x12\0\4\0\0\0\1\0\0\0\6\0\0\0\0";
    const uint8_t little[] = "II*\0\x08\0\0\0\1\0\x12\x01\4\0\1\0\0\0\x08\0\0\0\0\0\0\0";
    ck_assert_int_eq(vlci_exif_orientation(big, sizeof big - 1), 6);
    ck_assert_int_eq(vlci_exif_orientation(little, sizeof little - 1), 8);
    memcpy(exif, good, sizeof exif);
    exif[8] = exif[9] = 0xFF; // 65,535 entries in a block of one
    exif[11] = 0x13;
    ck_assert_int_eq(vlci_exif_orientation(exif, sizeof exif), 1);
}
END_TEST

/* Its data end where the decoder is short of 8 bits: stb_image 2.27 shifts by 32 then, which UBSan sees. */
START_TEST(shifts_within_a_word) {
    size_t bytes;
    uint8_t *jpeg = golden_read(VLCACHE_TEST_DATA "/image/shift.jpg", &bytes);
    vlcache_status status = decode(jpeg, bytes, "shift.jpg");
    ck_assert(status == VLCACHE_OK || status == VLCACHE_E_FORMAT);
    free(jpeg);
}
END_TEST

START_TEST(survives_mutations) {
    random_state = 20241;
    for (int i = 0; i < n_samples; i++) {
        const sample *s = &samples[i];
        uint8_t *file = malloc((size_t)s->bytes);
        for (int round = 0; round < 120; round++) {
            memcpy(file, s->data, (size_t)s->bytes);
            uint32_t reach = round % 2 ? (uint32_t)s->bytes : s->bytes < 200 ? (uint32_t)s->bytes : 200;
            for (uint32_t k = 1 + random_next(4); k > 0; k--) {
                uint8_t *byte = file + random_next(reach);
                *byte = (uint8_t)(random_next(3) ? random_next(256) : random_next(2) * 255);
            }
            if (strstr(s->name, ".png")) mend_crc(file, (size_t)s->bytes);
            vlcache_status status = decode(file, (size_t)s->bytes, s->name);
            ck_assert(status == VLCACHE_OK || status == VLCACHE_E_FORMAT);
        }
        free(file);
    }
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

static vlcache_status work_decode(const void *with) {
    const sample *s = with;
    vlcache_image *image = NULL;
    vlcache_status status = vlcache_image_decode(s->data, (size_t)s->bytes, s->name, &image);
    ck_assert((image == NULL) == (status != VLCACHE_OK));
    vlcache_image_destroy(&image);
    return status;
}

/* From a file, and from a JPEG that lacks its end. */
static vlcache_status work_load(const void *with) {
    vlcache_image *image = NULL;
    vlcache_status status = vlcache_image_load(with, &image);
    vlcache_image_destroy(&image);
    const sample *s = sample_named("420.jpg");
    if (!status) status = vlcache_image_decode(s->data, (size_t)s->bytes - 2, s->name, &image);
    vlcache_image_destroy(&image);
    return status;
}

static vlcache_status work_write(const void *with) {
    const char *path = "/tmp/vlcache-image-memory.png";
    vlcache_status status = vlcache_image_write_png(path, vlcache_image_pixels(with), 50, 90);
    unlink(path);
    return status;
}

/* Fails each allocation in turn: a clean VLCACHE_E_NO_MEMORY every time, nothing left behind. */
static void walk(vlcache_status (*work)(const void *), const void *with) {
    for (long at = 0; at < 1000; at++) {
        memory.calls = memory.live = 0;
        memory.fail_at = at;
        vlcache_status status = work(with);
        ck_assert_int_eq(memory.live, 0);
        if (memory.calls <= at) {
            ck_assert_int_eq(status, VLCACHE_OK);
            memory.fail_at = -1;
            return;
        }
        ck_assert_msg(status == VLCACHE_E_NO_MEMORY, "allocation %ld: %s", at, vlcache_error_message());
    }
    ck_abort_msg("more than 1,000 allocations");
}

START_TEST(survives_lack_of_memory) {
    vlcache_image *image = golden_picture(50, 90);
    vlcache_set_allocator(counted_resize, counted_release, NULL);
    for (int i = 0; i < n_samples; i++) walk(work_decode, &samples[i]);
    walk(work_load, VLCACHE_TEST_DATA "/image/restart.jpg");
    walk(work_write, image);
    vlcache_set_allocator(NULL, NULL, NULL);
    vlcache_image_destroy(&image);
}
END_TEST

static void drop_goldens(void) {
    free(samples_file);
}

int main(void) {
    Suite *suite = suite_create("image");
    TCase *cases = tcase_create("image");
    tcase_add_unchecked_fixture(cases, load_goldens, drop_goldens);
    tcase_add_test(cases, decodes_as_pillow);
    tcase_add_test(cases, loads_files_and_names_them);
    tcase_add_test(cases, takes_raw_pixels);
    tcase_add_test(cases, writes_png);
    tcase_add_test(cases, writes_beside_and_into);
    tcase_add_test(cases, refuses_truncated_files);
    tcase_add_test(cases, reads_jpeg_without_end);
    tcase_add_test(cases, refuses_what_is_no_picture);
    tcase_add_test(cases, refuses_cmyk_of_unknown_meaning);
    tcase_add_test(cases, refuses_damaged_png);
    tcase_add_test(cases, refuses_a_zlib_bomb);
    tcase_add_test(cases, refuses_bmp_headers);
    tcase_add_test(cases, damaged_exif_is_upright);
    tcase_add_test(cases, shifts_within_a_word);
    tcase_add_test(cases, survives_mutations);
    tcase_add_test(cases, survives_lack_of_memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
