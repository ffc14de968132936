/*
 * test_heatmap.c - the pictures that vlcache-run --heatmap draws agree with the positions that it says it
 * kept.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"
#include "vlcache/image.h"

/* How many (layer, kv head) pairs keep a position. */
static int pairs(const json_t *kept, int position) {
    int n = 0;
    for (size_t l = 0; l < json_array_size(kept); l++)
        for (size_t h = 0; h < json_array_size(json_array_get(kept, l)); h++) {
            const json_t *positions = json_array_get(json_array_get(kept, l), h);
            for (size_t i = 0; i < json_array_size(positions); i++)
                n += (int)json_integer_value(json_array_get(positions, i)) == position;
        }
    return n;
}

/* The brightest pixel of a cell of 28 x 28 in rows of 672, and whether all are alike. */
static const uint8_t *brightest(const uint8_t *rgb, int row, int column, bool *alike) {
    const uint8_t *best = NULL;
    *alike = true;
    for (int y = row * 28; y < row * 28 + 28; y++)
        for (int x = column * 28; x < column * 28 + 28; x++) {
            const uint8_t *at = rgb + (size_t)(y * 672 + x) * 3;
            if (best && memcmp(at, best, 3)) *alike = false;
            if (!best || at[0] + at[1] + at[2] > best[0] + best[1] + best[2]) best = at;
        }
    return best;
}

/* A page is black on white: colour means kept, grey means dropped; on bare paper, more is brighter. */
START_TEST(heatmap_tells) {
    char path[512];
    vlcache_image *image = NULL;
    int width = 0, height = 0, light[25] = {0};
    json_t *object = ASK_JSON("--image", PAGE, "-p", "What is the heading?", "--dump-kept", "--heatmap",
                              in_scratch("kept.png", path));
    ck_assert_str_eq(json_string_value(get(object, "text", JSON_STRING)), "Mon");
    ck_ok(vlcache_image_load(path, &image));
    vlcache_image_size(image, &width, &height);
    ck_assert_int_eq(width, 672);
    ck_assert_int_eq(height, 672 + 84);
    const json_t *prompt = get(object, "prompt", JSON_OBJECT);
    int first = whole(prompt, "tokens") - whole(prompt, "post_vision") - 576;
    for (int i = 0; i < 576; i++) {
        bool alike;
        const uint8_t *p = brightest(vlcache_image_pixels(image), i / 24, i % 24, &alike);
        int n = pairs(get(object, "kept", JSON_ARRAY), first + i),
            spread = abs(p[0] - p[1]) + abs(p[1] - p[2]);
        ck_assert_msg(n ? spread > 40 : spread < 8 && p[0] < 70, "token %d, kept %d times: %d %d %d", i, n,
                      p[0], p[1], p[2]);
        if (alike && light[n]) ck_assert_int_eq(light[n], p[0] + p[1]);
        if (alike) light[n] = p[0] + p[1];
    }
    for (int n = 1, last = light[0]; n < 25; n++) {
        if (light[n]) ck_assert_msg(light[n] > last, "kept %d times: no brighter than less", n);
        if (light[n]) last = light[n];
    }
    ck_assert(light[0] && light[1] && light[2]);
    vlcache_image_destroy(&image);
    json_decref(object);
}
END_TEST

START_TEST(heatmap_files) {
    char path[512], one[512], two[512];
    vlcache_image *image = NULL;
    process p;
    int width, height;
    RUN(&p, ASK, "--image", PAGE, "-n", "1", "--heatmap", in_scratch("both.png", path));
    expect(&p, 0, "1 token");
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_ok(vlcache_image_load(in_scratch("both-1.png", one), &image));
    vlcache_image_size(image, &width, &height);
    ck_assert_int_eq(width, 672);
    vlcache_image_destroy(&image);
    ck_ok(vlcache_image_load(in_scratch("both-2.png", two), &image));
    vlcache_image_size(image, &width, &height);
    ck_assert_int_eq(height, 672 + 84);
    vlcache_image_destroy(&image);
    process_release(&p);
}
END_TEST

/* A wide strip is drawn at most 2048 long, a narrow one in the middle of a sheet that holds the legend. */
START_TEST(heatmap_sizes) {
    static uint8_t rgb[3 * 5000 * 30];
    static const int sizes[][4] = {
        {5000, 30, 2048, 12}, {30, 5000, 672, 2048}, {1, 1, 672, 672}, {700, 9, 700, 9}};
    char path[512], out[512];
    vlcache_image *image = NULL;
    process p;
    int width, height;
    memset(rgb, 200, sizeof rgb);
    ck_ok(vlcache_image_write_png(in_scratch("strip.png", path), rgb, sizes[_i][0], sizes[_i][1]));
    RUN(&p, "-m", TINY, "--image", path, "-p", "x", "-n", "1", "--heatmap", in_scratch("map.png", out));
    expect(&p, 0, "1 token");
    ck_ok(vlcache_image_load(out, &image));
    vlcache_image_size(image, &width, &height);
    ck_assert_int_eq(width, sizes[_i][2]);
    ck_assert_int_eq(height, sizes[_i][3] + 84);
    vlcache_image_destroy(&image);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("heatmap");
    TCase *tcase = tcase_create("heatmap");
    tcase_add_unchecked_fixture(tcase, tool_warm_up, scratch_clean);
    tcase_add_test(tcase, heatmap_tells);
    tcase_add_test(tcase, heatmap_files);
    tcase_add_loop_test(tcase, heatmap_sizes, 0, 4);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
