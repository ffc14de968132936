/*
 * test_formats.c - pictures that other libraries decode, where this build has them (WebP, HEIC, AVIF), and
 * those that are named and refused. rgb.webp, alpha.webp, turned.webp (EXIF 6) and the first frame of
 * animated.webp hold the procedural picture without loss (cwebp -lossless -exact, webpmux); smooth.heic and
 * smooth.avif a gradient (heif-enc -q 90).
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/picture.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/image.h"

static uint32_t random_state;

static uint32_t random_next(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* Decodes from an exact heap block, so that a read past the end is seen by the sanitizer. */
static vlcache_status decode(const void *data, size_t bytes) {
    uint8_t *exact = malloc(bytes + !bytes);
    vlcache_image *image = NULL;
    memcpy(exact, data, bytes);
    vlcache_status status = vlcache_image_decode(exact, bytes, "a picture", &image);
    ck_assert((image == NULL) == (status != VLCACHE_OK));
    vlcache_image_destroy(&image);
    free(exact);
    return status;
}

static void refused(const void *data, size_t bytes) {
    ck_assert_int_eq(decode(data, bytes), VLCACHE_E_FORMAT);
}

/* Not a crash, and no other failure. */
static void refuse_or_read(const void *data, size_t bytes, const char *name) {
    vlcache_status status = decode(data, bytes);
    ck_assert_msg(status == VLCACHE_OK || status == VLCACHE_E_FORMAT || status == VLCACHE_E_UNSUPPORTED,
                  "%s: %s", name, vlcache_status_name(status));
}

static vlcache_image *load_data(const char *name) {
    char path[512];
    vlcache_image *image = NULL;
    snprintf(path, sizeof path, VLCACHE_TEST_DATA "/image/%s", name);
    ck_ok(vlcache_image_load(path, &image));
    return image;
}

/* Every cut of the file, and some changes, are refused or decoded; nothing else. */
static void survives_cuts(const char *name) {
    char path[512];
    size_t bytes;
    snprintf(path, sizeof path, VLCACHE_TEST_DATA "/image/%s", name);
    uint8_t *file = golden_read(path, &bytes);
    for (size_t cut = 0; cut < bytes; cut += 1 + cut / 64) refuse_or_read(file, cut, name);
    random_state = 7;
    for (int round = 0; round < 60; round++) {
        uint8_t *byte = file + random_next((uint32_t)bytes), was = *byte;
        *byte = (uint8_t)random_next(256);
        refuse_or_read(file, bytes, name);
        *byte = was;
    }
    free(file);
}

static bool has_format(const char *format, const char *name) {
    char path[512];
    vlcache_image *image = NULL;
    if (strstr(vlcache_image_formats(), format)) return true;
    snprintf(path, sizeof path, VLCACHE_TEST_DATA "/image/%s", name);
    ck_fails(vlcache_image_load(path, &image), VLCACHE_E_UNSUPPORTED, format);
    return false;
}

START_TEST(reads_webp) {
    if (!has_format("WebP", "rgb.webp")) return;
    static const char *const names[] = {"rgb.webp", "animated.webp", "alpha.webp", "turned.webp"};
    vlcache_image *picture = golden_picture(40, 24);
    const uint8_t *from = vlcache_image_pixels(picture);
    for (int i = 0; i < 4; i++) {
        vlcache_image *image = load_data(names[i]);
        const uint8_t *rgb = vlcache_image_pixels(image);
        int width, height;
        vlcache_image_size(image, &width, &height);
        ck_assert_int_eq(width, i == 3 ? 24 : 40);
        ck_assert_int_eq(height, i == 3 ? 40 : 24);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < 3; c++) {
                    int at = i == 3 ? (23 - x) * 40 + y : y * 40 + x, a = i == 2 ? x * 255 / 39 : 255;
                    int value = (from[at * 3 + c] * a + 255 * (255 - a) + 127) / 255;
                    ck_assert_msg(rgb[(y * width + x) * 3 + c] == value, "%s at %d, %d", names[i], x, y);
                }
        vlcache_image_destroy(&image);
        survives_cuts(names[i]);
    }
    vlcache_image_destroy(&picture);
    refused("RIFF\x10\0\0\0WEBPVP8 ", 16);
    refused("RIFF\xFF\xFF\xFF\xFFWEBPVP8 \0\0\0\0", 20);
}
END_TEST

/* 96 x 64, red 2x, green 3y, blue 128; compressed a little. */
START_TEST(reads_heic_and_avif) {
    static const char *const names[] = {"smooth.heic", "smooth.avif"};
    for (int i = 0; i < 2; i++) {
        if (!has_format(i ? "AVIF" : "HEIC", names[i])) continue;
        vlcache_image *image = load_data(names[i]);
        const uint8_t *rgb = vlcache_image_pixels(image);
        int width, height;
        vlcache_image_size(image, &width, &height);
        ck_assert(width == 96 && height == 64);
        for (int k = 0; k < 96 * 64; k++, rgb += 3)
            ck_assert_msg(abs(rgb[0] - k % 96 * 2) < 16 && abs(rgb[1] - k / 96 * 3) < 16 &&
                              abs(rgb[2] - 128) < 16,
                          "%s at %d: %d %d %d", names[i], k, rgb[0], rgb[1], rgb[2]);
        vlcache_image_destroy(&image);
        survives_cuts(names[i]);
    }
}
END_TEST

START_TEST(names_foreign_formats) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *name;
    } cases[] = {{"II*\0\x08\0\0\0\0\0\0\0", 12, "TIFF"},
                 {"MM\0*\0\0\0\x08\0\0\0\0", 12, "TIFF"},
                 {"\0\0\0\x0CJXL \r\n\x87\n", 12, "JPEG XL"},
                 {"%PDF-1.7\n%abc", 13, "PDF"},
                 {"8BPS\0\1", 6, "Photoshop"},
                 {"<svg xmlns=", 11, "SVG"}};
    vlcache_image *image = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_fails(vlcache_image_decode(cases[i].bytes, cases[i].n, "a picture", &image), VLCACHE_E_UNSUPPORTED,
                 cases[i].name);
    ck_assert_ptr_nonnull(strstr(vlcache_image_formats(), "JPEG, PNG"));
}
END_TEST

START_TEST(lack_of_memory) {
    bool failed = true;
    if (!strstr(vlcache_image_formats(), "WebP")) return;
    for (long at = 0; failed; at++) {
        vlcache_image *image = NULL;
        failing_start(at);
        vlcache_status status = vlcache_image_load(VLCACHE_TEST_DATA "/image/alpha.webp", &image);
        vlcache_image_destroy(&image);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("formats");
    TCase *cases = tcase_create("formats");
    tcase_add_test(cases, reads_webp);
    tcase_add_test(cases, reads_heic_and_avif);
    tcase_add_test(cases, names_foreign_formats);
    tcase_add_test(cases, lack_of_memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
