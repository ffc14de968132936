/*
 * test_heatmap.c - the pictures that vlcache-run --heatmap draws agree with the positions that it says it
 * kept.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    json_t *object = ASK_JSON("--image", PAGE, "-p", "What is the heading?", "--policy", "centroids",
                              "--dump-kept", "--heatmap", in_scratch("kept.png", path));
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

/* ---- pictures of any size ------------------------------------------------------------------------------ */

#define ANY_SIZE "-m", VLCACHE_TEST_DATA "/models/qwen2_5-vl", "--raw", "-n", "1"
#define WHAT     "-p", "<|vision_start|><|image_pad|><|vision_end|>What?"

/* As many tokens as there are pixels for, each where it looks. */
START_TEST(any_size) {
    char out[512];
    vlcache_image *image = NULL;
    int width, height;
    json_t *o = ASK_JSON(ANY_SIZE, WHAT, "--image", PAGE, "--max-pixels", "40000", "--budget", "0.3",
                         "--heatmap", in_scratch("map.png", out));
    ck_assert_int_eq(whole(get(o, "prompt", JSON_OBJECT), "visual"),
                     25 * 25); /* 672 x 672 becomes 200 x 200 */
    json_decref(o);
    ck_ok(vlcache_image_load(out, &image));
    vlcache_image_size(image, &width, &height);
    ck_assert(width == 672 && height == 672 + 84);
    vlcache_image_destroy(&image);
    o = ASK_JSON(ANY_SIZE, WHAT, "--image", PICTURE, "--max-pixels", "9000", "--min-pixels", "4096");
    ck_assert_int_eq(whole(get(o, "prompt", JSON_OBJECT), "visual"), 8 * 8); /* 28 x 28 becomes 64 x 64 */
    json_decref(o);
}
END_TEST

START_TEST(sizes_are_refused) {
    static uint8_t rgb[201 * 3];
    char path[512];
    process p;
    ck_ok(vlcache_image_write_png(in_scratch("thin.png", path), rgb, 1, 201));
    RUN(&p, ANY_SIZE, WHAT, "--image", path);
    expect(&p, 1, "picture of 1 x 201 pixels: one side is more than 200 times the other");
    process_release(&p);
    RUN(&p, ANY_SIZE, WHAT, "--image", PICTURE, "--min-pixels", "5000");
    expect(&p, 1, "model: min_pixels: is 5000, pictures would have at least 5000 pixels and at most 1920");
    process_release(&p);
    RUN(&p, ASK, "--max-pixels", "5000");
    expect(&p, 2, "model: max_pixels: is 5000, pictures of a llava model have sizes of its own");
    process_release(&p);
    RUN(&p, ASK, "--max-pixels", "268435457");
    expect(&p, 1, "--max-pixels");
    process_release(&p);
}
END_TEST

/* ---- where it goes ------------------------------------------------------------------------------------- */

/* Nothing that a run began is left in the folder. */
static void no_drafts(void) {
    DIR *list = opendir(scratch_folder());
    ck_assert_ptr_nonnull(list);
    for (struct dirent *entry; (entry = readdir(list));)
        ck_assert_msg(strncmp(entry->d_name, ".vlcache-", 9), "%s is left", entry->d_name);
    closedir(list);
}

/* Before the question is asked, where that can be known. */
static void refused(const char *path, const char *said, bool before) {
    process p;
    RUN(&p, ASK, "-n", "1", "--heatmap", path);
    expect(&p, 2, said);
    ck_assert_msg(!before || p.out_bytes == 0, "%s: asked first: %s", path, p.out);
    process_release(&p);
    no_drafts();
}

static bool is_png(const char *bytes) {
    return memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

/* A link is not followed, and not replaced; what it leads to stays. */
START_TEST(heatmap_is_no_link) {
    char target[512], link[512], text[16] = "";
    struct stat s;
    scratch_text("target", "precious");
    ck_assert_int_eq(symlink(in_scratch("target", target), in_scratch("link.png", link)), 0);
    refused(link, "link.png: is a symbolic link to ", true);
    ck_assert(lstat(link, &s) == 0 && S_ISLNK(s.st_mode));
    FILE *file = fopen(target, "r");
    ck_assert(fgets(text, sizeof text, file) && strcmp(text, "precious") == 0);
    fclose(file);
    refused(scratch_folder(), "is a folder: name a file", true);
    refused("/no/such/folder/x.png", "/no/such/folder/x.png: No such file or directory", true);
}
END_TEST

/* A pipe and a device are written to, and stay. */
START_TEST(heatmap_through_a_pipe) {
    char path[512], out[512], command[4096];
    struct stat s;
    process p;
    ck_assert_int_eq(mkfifo(in_scratch("pipe", path), 0600), 0);
    refused(path, "pipe: nobody reads this pipe", false);
    snprintf(command, sizeof command, "cat %s >%s & %s -m %s --image %s -p x -n 1 --heatmap %s; wait", path,
             in_scratch("through.png", out), TOOL, TINY, PICTURE, path);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    expect(&p, 0, "1 token");
    process_release(&p);
    vlcache_image *image = NULL;
    ck_ok(vlcache_image_load(out, &image));
    vlcache_image_destroy(&image);
    ck_assert(lstat(path, &s) == 0 && S_ISFIFO(s.st_mode));
    refused("/dev/full", "--heatmap /dev/full: No space left on device", false);
    ck_assert(lstat("/dev/full", &s) == 0 && S_ISCHR(s.st_mode));
    scratch_remove("pipe");
}
END_TEST

/* Behind the answer, which went there first; the link that /dev/stdout is stays. */
START_TEST(heatmap_on_standard_output) {
    struct stat s;
    process p;
    RUN(&p, ASK, "-n", "1", "--heatmap", "/dev/stdout");
    expect(&p, 0, "1 token");
    const char *line = memchr(p.out, '\n', p.out_bytes);
    ck_assert(line && p.out_bytes - (size_t)(line - p.out) > 1000 && is_png(line + 1));
    process_release(&p);
    ck_assert(lstat("/dev/stdout", &s) == 0 && S_ISLNK(s.st_mode));
    RUN(&p, ASK, "--image", PICTURE, "-n", "1", "--heatmap", "/dev/fd/1");
    expect(&p, 1, "--heatmap /dev/fd/1: takes one picture, and there are 2");
    process_release(&p);
}
END_TEST

START_TEST(heatmap_is_not_its_picture) {
    static char bytes[1 << 20];
    char path[512], other[512];
    struct stat s;
    process p;
    FILE *file = fopen(PICTURE, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    scratch_write("own.png", bytes, n);
    scratch_write("own-1.png", bytes, n);
    in_scratch("own.png", path);
    in_scratch("./own-1.png", other);
    RUN(&p, "-m", TINY, "--image", path, "-p", "x", "-n", "1", "--heatmap", path);
    expect(&p, 1, "own.png: is the picture itself: name another file");
    process_release(&p);
    RUN(&p, "-m", TINY, "--image", path, "--image", other, "-p", "x", "-n", "1", "--heatmap", path);
    expect(&p, 1, "own-1.png: is the picture itself: name another file");
    process_release(&p);
    ck_assert(stat(path, &s) == 0 && s.st_size == (off_t)n);
    ck_assert(stat(other, &s) == 0 && s.st_size == (off_t)n);
}
END_TEST

/* What was there keeps who may read it, and stays where the disk is full. */
START_TEST(heatmap_takes_its_place) {
    char path[512];
    struct stat s;
    process p;
    scratch_text("place.png", "old");
    ck_assert_int_eq(chmod(in_scratch("place.png", path), 0640), 0);
    RUN(&p, ASK, "-n", "1", "--heatmap", path);
    expect(&p, 0, "1 token");
    process_release(&p);
    ck_assert(stat(path, &s) == 0 && (s.st_mode & 0777) == 0640 && s.st_size > 1000);
    scratch_text("place.png", "old");
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c", "ulimit -f 8; trap '' XFSZ; exec \"$0\" \"$@\"", TOOL,
                                      ASK, "-n", "1", "--heatmap", path, NULL},
                "", 0);
    expect(&p, 2, "place.png: File too large");
    process_release(&p);
    ck_assert(stat(path, &s) == 0 && s.st_size == 3);
    no_drafts();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("heatmap");
    TCase *tcase = tcase_create("heatmap");
    tcase_add_unchecked_fixture(tcase, tool_warm_up, scratch_clean);
    tcase_add_test(tcase, heatmap_tells);
    tcase_add_test(tcase, heatmap_files);
    tcase_add_loop_test(tcase, heatmap_sizes, 0, 4);
    tcase_add_test(tcase, any_size);
    tcase_add_test(tcase, sizes_are_refused);
    tcase_add_test(tcase, heatmap_is_no_link);
    tcase_add_test(tcase, heatmap_through_a_pipe);
    tcase_add_test(tcase, heatmap_on_standard_output);
    tcase_add_test(tcase, heatmap_is_not_its_picture);
    tcase_add_test(tcase, heatmap_takes_its_place);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
