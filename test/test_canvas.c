/*
 * test_canvas.c - what tools make of drawn pixels: PNG that gives the same pixels back, JPEG that gives
 * nearly the same, the shorter of both inside a page; and each of them where memory runs out.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report/jpeg.h"
#include "eval/report/picture.h"
#include "support/suite.h"
#include "vlcache/image.h"

/* ---- memory -------------------------------------------------------------------------------------------- */

static struct {
    long left; /* the allocation that fails, 0 the next one; -1: none */
    bool failed;
} memory = {-1, false};

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

static bool refuses(void) {
    if (memory.left < 0) return false;
    memory.failed = memory.failed || memory.left == 0;
    return memory.left-- == 0;
}

void *__wrap_malloc(size_t bytes) {
    return refuses() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes) {
    return refuses() ? NULL : __real_calloc(n, bytes);
}

/* The library's share of them. */
static void *resize(void *user, void *block, size_t bytes) {
    (void)user;
    return refuses() ? NULL : realloc(block, bytes);
}

static void release(void *user, void *block) {
    (void)user;
    free(block);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

enum { KINDS = 5, SIZES = 8 };
static const int sizes[SIZES][2] = {{1, 1},   {2, 1},  {1, 300},   {16, 16},
                                    {17, 31}, {64, 1}, {336, 336}, {500, 333}};

/* Flat, a gradient, noise, a page of lines, and the hardest for JPEG: a board of black and white. */
static uint8_t *draw(int kind, int width, int height) {
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    uint64_t seed = 7;
    ck_assert_ptr_nonnull(rgb);
    for (int i = 0; i < width * height * 3; i++) {
        int x = i / 3 % width, y = i / 3 / width, k = i % 3;
        const int value[KINDS] = {40 * k, x * 150 / width / (k + 1) + y * 100 / height,
                                  (int)(127.5f + 127.0f * suite_random(&seed)),
                                  y % 12 < 3 && x % 7 ? 20 : 245, (x + y) % 2 ? 255 : 0};
        rgb[i] = (uint8_t)value[kind];
    }
    return rgb;
}

/* The root of the mean squared difference from what the file holds. */
static double difference(const uint8_t *file, size_t bytes, const uint8_t *rgb, int width, int height) {
    vlcache_image *image = NULL;
    int w = 0, h = 0;
    double sum = 0.0;
    ck_assert_ptr_nonnull(file);
    ck_ok(vlcache_image_decode(file, bytes, "encoded", &image));
    vlcache_image_size(image, &w, &h);
    ck_assert(w == width && h == height);
    const uint8_t *got = vlcache_image_pixels(image);
    for (int i = 0; i < width * height * 3; i++) sum += (got[i] - rgb[i]) * (double)(got[i] - rgb[i]);
    vlcache_image_destroy(&image);
    return sqrt(sum / (width * height * 3.0));
}

START_TEST(png_gives_the_same_pixels) {
    int width = sizes[_i / KINDS][0], height = sizes[_i / KINDS][1], kind = _i % KINDS;
    uint8_t *rgb = draw(kind, width, height);
    size_t bytes = 0, raw = (size_t)width * (size_t)height * 3;
    uint8_t *file;
    ck_ok(vlcache_image_encode_png(rgb, width, height, &file, &bytes));
    ck_assert_double_eq(difference(file, bytes, rgb, width, height), 0.0);
    if (raw > 100000 && kind != 2) /* all but noise shrink */
        ck_assert_msg(bytes < raw / (kind == 1 ? 2 : 20), "kind %d: %zu of %zu", kind, bytes, raw);
    vlcache_free(file);
    free(rgb);
}
END_TEST

/* Colours are at half the resolution, so coloured noise is the worst; grey keeps within the steps of its
 * table. */
START_TEST(jpeg_gives_nearly_the_same) {
    static const double most[KINDS] = {2.0, 3.0, 65.0, 12.0, 12.0};
    int width = sizes[_i / KINDS][0], height = sizes[_i / KINDS][1], kind = _i % KINDS;
    uint8_t *rgb = draw(kind, width, height);
    size_t bytes = 0;
    for (int quality = 50; quality <= 100; quality += 25) {
        uint8_t *file = jpeg_encode(rgb, width, height, quality, &bytes);
        double off = difference(file, bytes, rgb, width, height);
        ck_assert_msg(quality < 75 || off <= most[kind] + (width < 8 ? 8.0 : 0.0),
                      "kind %d, quality %d: off by %g", kind, quality, off);
        free(file);
    }
    free(rgb);
}
END_TEST

/* A page is shorter as PNG, coloured noise as JPEG. */
START_TEST(a_page_gets_the_shorter) {
    uint8_t *page = draw(3, 336, 336), *noise = draw(2, 336, 336);
    char *first = picture_uri(page, 336, 336), *second = picture_uri(noise, 336, 336);
    ck_assert(first && strncmp(first, "data:image/png;base64,", 22) == 0);
    ck_assert(second && strncmp(second, "data:image/jpeg;base64,", 23) == 0);
    free(first);
    free(second);
    free(page);
    free(noise);
}
END_TEST

/* Whichever allocation fails, there is no picture, and nothing is lost (under LeakSanitizer). */
START_TEST(memory_runs_out) {
    uint8_t *rgb = draw(1, 40, 30);
    long points = 0;
    vlcache_set_allocator(resize, release, NULL);
    do {
        memory.left = points;
        memory.failed = false;
        char *uri = picture_uri(rgb, 40, 30);
        memory.left = -1;
        ck_assert_msg((uri == NULL) == memory.failed, "allocation %ld", points);
        free(uri);
        points++;
    } while (memory.failed);
    vlcache_set_allocator(NULL, NULL, NULL);
    ck_assert_int_ge(points, 6);
    free(rgb);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("canvas");
    TCase *all = tcase_create("canvas");
    tcase_add_loop_test(all, png_gives_the_same_pixels, 0, SIZES * KINDS);
    tcase_add_loop_test(all, jpeg_gives_nearly_the_same, 0, SIZES * KINDS);
    tcase_add_test(all, a_page_gets_the_shorter);
    tcase_add_test(all, memory_runs_out);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
