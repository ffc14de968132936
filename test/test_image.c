/*
 * test_image.c - pictures: decoding against Pillow, preparing and token order against transformers (goldens
 * of data/make_image_goldens.py), hostile files, mutations, and memory that runs out at every single
 * allocation.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "picture/exif.h"
#include "picture/image.h"
#include "picture/png.h"
#include "support/suite.h"

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

static uint8_t *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: missing", path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1);
    ck_assert_uint_eq(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

static int32_t take(const uint8_t **p) {
    int32_t value;
    memcpy(&value, *p, 4);
    *p += 4;
    return value;
}

/* The procedural picture of make_image_goldens.py. */
static vlcache_image *picture(int width, int height) {
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3), *p = rgb;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < 3; c++) {
                uint32_t h = (uint32_t)x * 73856093u ^ (uint32_t)y * 19349663u ^ (uint32_t)c * 83492791u;
                h = (h ^ h >> 13) * 1274126177u;
                *p++ = (uint8_t)((x / 8 + y / 8) & 1 ? h >> 16 : (uint32_t)(x * 5 + y * 3 + c * 40));
            }
        }
    }
    vlcache_image *image = NULL;
    ck_assert_int_eq(vlcache_image_from_rgb(rgb, width, height, 0, &image), VLCACHE_OK);
    free(rgb);
    return image;
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
static uint8_t *samples_file, *prepare_file;

static void load_goldens(void) {
    size_t bytes;
    prepare_file = read_file(VLCACHE_TEST_DATA "/image/prepare.bin", &bytes);
    samples_file = read_file(VLCACHE_TEST_DATA "/image/files.bin", &bytes);
    for (const uint8_t *p = samples_file; p < samples_file + bytes;) {
        sample *s = &samples[n_samples++];
        memcpy(s->name, p, 32);
        p += 32;
        s->tolerance = take(&p);
        s->width = take(&p);
        s->height = take(&p);
        s->bytes = take(&p);
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
    }
    vlcache_image_destroy(&image);
    return status;
}

static void refuse(const void *data, size_t bytes, const char *name) {
    vlcache_status status = decode(data, bytes, name);
    ck_assert_msg(status == VLCACHE_E_FORMAT, "%s: %s", name, vlcache_status_name(status));
}

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
        vlcache_image *image = picture(w, h), *back = NULL;
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
}
END_TEST

/* ---- preparing ----------------------------------------------------------------------------------------- */

static int pinpoints[5][2] = {{28, 56}, {56, 28}, {56, 56}, {84, 28}, {28, 84}};

static vlci_config config_make(int family, int side, int patch) {
    vlci_config config = {.family = family ? VLCI_LLAVA_NEXT : VLCI_LLAVA};
    config.vision.image_size = side;
    config.vision.patch_size = patch;
    config.image = (vlci_image_config){.resize = true, .shortest_edge = side, .resample = 3, .crop = true};
    config.image.crop_width = config.image.crop_height = side;
    config.image.rescale_factor = 1.0f / 255.0f;
    if (family) {
        config.image.pinpoints = pinpoints;
        config.image.n_pinpoints = 5;
    }
    return config;
}

/* One record of prepare.bin: pixels to the bit, token order exactly. */
static void check_record(const uint8_t **p, int side, int patch, int family) {
    vlci_config config = config_make(family, side, patch);
    int width = take(p), height = take(p);
    config.image.resample = take(p);
    config.image.shortest_edge = take(p);
    config.image.resize_width = take(p);
    config.image.resize_height = take(p);
    config.image.crop = take(p) != 0;
    config.image.pad_square = take(p) != 0;
    for (int c = 0; c < 3; c++) config.image.background[c] = take(p);
    int tiles = take(p), tokens = take(p);
    vlcache_image *image = picture(width, height);
    vlci_image_plan plan;
    vlci_pixels pixels;
    ck_assert_msg(vlci_image_plan_make(&config, width, height, &plan) == VLCACHE_OK, "%s",
                  vlcache_error_message());
    ck_assert_msg(vlci_image_prepare(&config, image, &pixels) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_int_eq(plan.n_tokens, tokens);
    ck_assert_int_eq(plan.tiles, tiles);
    ck_assert_int_eq(pixels.tiles, tiles);
    ck_assert_int_eq(pixels.side, side);
    for (int i = 0; i < tokens; i++) ck_assert_int_eq(plan.source[i], take(p));
    for (int i = 0; i < tiles * 3 * side * side; i++)
        ck_assert_msg(pixels.data[i] == (float)(*p)[i],
                      "%d x %d, family %d, resample %d, value %d: %g, golden %d", width, height, family,
                      config.image.resample, i, pixels.data[i], (*p)[i]);
    *p += tiles * 3 * side * side;
    vlci_pixels_release(&pixels);
    vlci_image_plan_release(&plan);
    vlcache_image_destroy(&image);
}

START_TEST(prepares_as_transformers) {
    const uint8_t *p = prepare_file;
    int side = take(&p), patch = take(&p), records = 0;
    for (int family; (family = take(&p)) >= 0; records++) check_record(&p, side, patch, family);
    ck_assert_int_gt(records, 55);
}
END_TEST

START_TEST(normalises) {
    const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    vlci_config config = config_make(0, 28, 7);
    vlcache_image *image = picture(28, 28);
    vlci_pixels pixels;
    config.image.rescale = config.image.normalize = true;
    memcpy(config.image.mean, mean, sizeof mean);
    memcpy(config.image.std, std, sizeof std);
    ck_assert_int_eq(vlci_image_prepare(&config, image, &pixels), VLCACHE_OK);
    const uint8_t *rgb = vlcache_image_pixels(image);
    for (int i = 0; i < 28 * 28; i++) {
        for (int c = 0; c < 3; c++) {
            double expect = (rgb[i * 3 + c] / 255.0 - mean[c]) / std[c];
            ck_assert_float_eq_tol(pixels.data[c * 28 * 28 + i], (float)expect, 1e-5f);
        }
    }
    vlci_pixels_release(&pixels);
    vlcache_image_destroy(&image);
}
END_TEST

/* Cells lie in the picture; the ones of the whole picture and of the grid each tile it without gap or
 * overlap. */
static void check_cells(int family, int width, int height) {
    vlci_config config = config_make(family, 28, 7);
    config.image.pad_square = !family;
    vlci_image_plan plan;
    ck_assert_int_eq(vlci_image_plan_make(&config, width, height, &plan), VLCACHE_OK);
    double area[2] = {0, 0};
    for (int i = 0; i < plan.n_tokens; i++) {
        const float *c = plan.cell[i];
        ck_assert(c[0] >= 0 && c[1] >= 0 && c[2] <= (float)width && c[3] <= (float)height && c[0] <= c[2] &&
                  c[1] <= c[3]);
        if (plan.source[i] < 0) ck_assert(c[2] == 0 && c[3] == 0);
        area[i >= 16] += (double)(c[2] - c[0]) * (double)(c[3] - c[1]);
    }
    double all = (double)width * height;
    ck_assert_msg(fabs(area[0] - all) < 1e-3 * all, "%d x %d: %g of %g", width, height, area[0], all);
    // unpad_image may drop a patch row that shows a sliver of the picture
    if (family)
        ck_assert_msg(area[1] > 0.7 * all && area[1] < 1.001 * all, "%d x %d: %g", width, height,
                      area[1] / all);
    vlci_image_plan_release(&plan);
}

START_TEST(cells_cover_the_picture) {
    const int sizes[][2] = {{28, 28}, {56, 28}, {112, 56}, {100, 100}, {333, 500}, {500, 333}, {640, 260}};
    for (int i = 0; i < 7; i++) {
        check_cells(0, sizes[i][0], sizes[i][1]);
        check_cells(1, sizes[i][0], sizes[i][1]);
    }
    vlci_config config = config_make(0, 28, 7); // centre crop of a 56 x 28 picture: columns 14..42
    vlci_image_plan plan;
    config.vision.keep_class = true;
    ck_assert_int_eq(vlci_image_plan_make(&config, 56, 28, &plan), VLCACHE_OK);
    ck_assert_int_eq(plan.n_tokens, 17);
    ck_assert_int_eq(plan.source[0], 0);
    ck_assert_float_eq(plan.cell[0][2], 0);
    ck_assert_float_eq(plan.cell[1][0], 14);
    ck_assert_float_eq(plan.cell[1][2], 21);
    ck_assert_float_eq(plan.cell[16][2], 42);
    ck_assert_float_eq(plan.cell[16][3], 28);
    vlci_image_plan_release(&plan);
}
END_TEST

START_TEST(keeps_the_class_token_once) {
    vlci_config config = config_make(1, 28, 7);
    vlci_image_plan plain, kept;
    ck_assert_int_eq(vlci_image_plan_make(&config, 100, 60, &plain), VLCACHE_OK);
    config.vision.keep_class = true;
    ck_assert_int_eq(vlci_image_plan_make(&config, 100, 60, &kept), VLCACHE_OK);
    ck_assert_int_eq(kept.n_tokens, plain.n_tokens + 1);
    ck_assert_int_eq(kept.source[0], 0);
    for (int i = 0; i < plain.n_tokens; i++) {
        int row = plain.source[i], expect = row < 0 ? -1 : row / 16 * 17 + 1 + row % 16;
        ck_assert_int_eq(kept.source[i + 1], expect);
    }
    vlci_image_plan_release(&kept);
    vlci_image_plan_release(&plain);
}
END_TEST

START_TEST(refuses_sizes_that_do_not_fit) {
    vlci_config config = config_make(0, 28, 7);
    vlci_image_plan plan;
    ck_assert_int_eq(vlci_image_plan_make(&config, 0, 5, &plan), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(vlci_image_plan_make(&config, 5, 70000, &plan), VLCACHE_E_ARGUMENT);
    config.image.crop_width = 14;
    ck_assert_int_eq(vlci_image_plan_make(&config, 5, 5, &plan), VLCACHE_E_UNSUPPORTED);
    config = config_make(0, 28, 7);
    config.image.crop = false; // the short side only: not square
    ck_assert_int_eq(vlci_image_plan_make(&config, 50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    config = config_make(1, 28, 7);
    config.image.n_pinpoints = 0;
    ck_assert_int_eq(vlci_image_plan_make(&config, 50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    int odd[1][2] = {{30, 60}};
    config.image.pinpoints = odd;
    config.image.n_pinpoints = 1;
    ck_assert_int_eq(vlci_image_plan_make(&config, 50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    config = config_make(0, 28, 7);
    config.image.resample = 9;
    vlcache_image *image = picture(5, 5);
    vlci_pixels pixels;
    ck_assert_int_eq(vlci_image_prepare(&config, image, &pixels), VLCACHE_E_ARGUMENT);
    ck_assert_ptr_null(pixels.data);
    vlcache_image_destroy(&image);
}
END_TEST

START_TEST(long_thin_pictures_cost_little) {
    const int sizes[][2] = {{1, 60000}, {60000, 1}, {65535, 2}};
    for (int i = 0; i < 3; i++) {
        vlcache_image *image = picture(sizes[i][0], sizes[i][1]);
        for (int mode = 0; mode < 3; mode++) {
            vlci_config config = config_make(mode == 2, 28, 7);
            config.image.pad_square = mode == 1;
            vlci_pixels pixels;
            ck_assert_int_eq(vlci_image_prepare(&config, image, &pixels), VLCACHE_OK);
            vlci_pixels_release(&pixels);
        }
        vlcache_image_destroy(&image);
    }
}
END_TEST

/* ---- bad files ----------------------------------------------------------------------------------------- */

START_TEST(refuses_truncated_files) {
    for (int i = 0; i < n_samples; i++) {
        const sample *s = &samples[i];
        bool whole_only = strstr(s->name, ".png") || strstr(s->name, ".jpg") || strstr(s->name, ".bmp");
        for (int cut = 0; cut < s->bytes; cut++) {
            vlcache_status status = decode(s->data, (size_t)cut, s->name);
            bool good =
                status == VLCACHE_E_FORMAT || (status == VLCACHE_OK && !whole_only && cut > s->bytes / 3);
            ck_assert_msg(good, "%s cut at %d: %s", s->name, cut, vlcache_status_name(status));
        }
    }
}
END_TEST

#define REFUSE(text, name) refuse(text, sizeof(text) - 1, name)

START_TEST(refuses_what_is_no_picture) {
    REFUSE("", "empty.png");
    REFUSE("\0", "zero.png");
    REFUSE("Dear reader, this is a text, not a picture.\n", "text.png");
    REFUSE("%PDF-1.7\n", "paper.jpg");
    REFUSE("RIFF\x10\0\0\0WEBPVP8 ", "photo.webp");
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
    } cases[] = {{0, 'I'}, {4, 0xFF}, {7, 0}, {7, 0xFF}, {13, 4}, {17, 2}, {19, 0}, {19, 9}, {18, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(exif, good, sizeof exif);
        exif[cases[i].at] = cases[i].value;
        ck_assert_int_eq(vlci_exif_orientation(exif, sizeof exif), 1);
    }
    memcpy(exif, good, sizeof exif);
    exif[8] = exif[9] = 0xFF; // 65,535 entries in a block of one
    exif[11] = 0x13;
    ck_assert_int_eq(vlci_exif_orientation(exif, sizeof exif), 1);
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

static vlcache_status work_prepare(const void *with) {
    vlci_config config = config_make(1, 28, 7);
    vlci_image_plan plan = {0};
    vlci_pixels pixels = {0};
    vlcache_status status = vlci_image_prepare(&config, with, &pixels);
    if (!status) status = vlci_image_plan_make(&config, 50, 90, &plan);
    config = config_make(0, 28, 7);
    config.image.resample = 0;
    vlci_pixels_release(&pixels);
    if (!status) status = vlci_image_prepare(&config, with, &pixels);
    vlci_image_plan_release(&plan);
    vlci_pixels_release(&pixels);
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
    vlcache_image *image = picture(50, 90);
    vlcache_set_allocator(counted_resize, counted_release, NULL);
    for (int i = 0; i < n_samples; i++) walk(work_decode, &samples[i]);
    walk(work_prepare, image);
    walk(work_write, image);
    vlcache_set_allocator(NULL, NULL, NULL);
    vlcache_image_destroy(&image);
}
END_TEST

static void drop_goldens(void) {
    free(samples_file);
    free(prepare_file);
}

int main(void) {
    Suite *suite = suite_create("image");
    TCase *cases = tcase_create("image");
    tcase_add_unchecked_fixture(cases, load_goldens, drop_goldens);
    tcase_add_test(cases, decodes_as_pillow);
    tcase_add_test(cases, loads_files_and_names_them);
    tcase_add_test(cases, takes_raw_pixels);
    tcase_add_test(cases, writes_png);
    tcase_add_test(cases, prepares_as_transformers);
    tcase_add_test(cases, normalises);
    tcase_add_test(cases, cells_cover_the_picture);
    tcase_add_test(cases, keeps_the_class_token_once);
    tcase_add_test(cases, refuses_sizes_that_do_not_fit);
    tcase_add_test(cases, long_thin_pictures_cost_little);
    tcase_add_test(cases, refuses_truncated_files);
    tcase_add_test(cases, refuses_what_is_no_picture);
    tcase_add_test(cases, refuses_cmyk_of_unknown_meaning);
    tcase_add_test(cases, refuses_damaged_png);
    tcase_add_test(cases, refuses_a_zlib_bomb);
    tcase_add_test(cases, refuses_bmp_headers);
    tcase_add_test(cases, damaged_exif_is_upright);
    tcase_add_test(cases, survives_mutations);
    tcase_add_test(cases, survives_lack_of_memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
