/*
 * test_video.c - frames of videos: files, folders, pictures in memory; what is damaged, cut off, or no video.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/film/film.h"
#include "support/picture.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/video.h"

enum { WIDTH = 36, HEIGHT = 20, FRAMES = 13 };

static char *at(const char *name, char path[512]) {
    snprintf(path, 512, "%s/%s", scratch_folder(), name);
    return path;
}

/* Frame `index` is the drawn one, within `slack` grey levels. */
static void shows(vlcache_video *video, int index, int slack) {
    vlcache_image *image = NULL;
    int width, height, worst = 0;
    ck_ok(vlcache_video_frame(video, index, &image));
    vlcache_image_size(image, &width, &height);
    const uint8_t *rgb = vlcache_image_pixels(image);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t want[3];
            film_pixel(index, x, y, want);
            for (int c = 0; c < 3; c++) {
                int off = abs(rgb[(y * width + x) * 3 + c] - want[c]);
                if (off > worst) worst = off;
            }
        }
    }
    ck_assert_msg(worst <= slack, "frame %d: off by %d", index, worst);
    vlcache_image_destroy(&image);
}

static void has(const vlcache_video *video, int frames, int width, int height, double fps) {
    vlcache_video_info info;
    vlcache_video_describe(video, &info);
    ck_assert_int_eq(info.frames, frames);
    ck_assert_int_eq(info.width, width);
    ck_assert_int_eq(info.height, height);
    ck_assert_double_eq_tol(info.fps, fps, 1e-9);
    ck_assert_double_eq_tol(info.seconds, frames / fps, 1e-9);
}

static vlcache_image *drawn(int frame, int width, int height) {
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    vlcache_image *image = NULL;
    for (int i = 0; i < width * height; i++) film_pixel(frame, i % width, i / width, rgb + 3 * i);
    ck_ok(vlcache_image_from_rgb(rgb, width, height, 0, &image));
    free(rgb);
    return image;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void reads_film(const char *name, const film *f, int slack) {
    char path[512];
    vlcache_video *video = NULL;
    film_write(at(name, path), f);
    ck_ok(vlcache_video_open(path, &video));
    bool lies = f->turns % 2;
    has(video, f->frames, lies ? f->height : f->width, lies ? f->width : f->height, f->fps);
    if (!f->turns) {
        shows(video, 0, slack);
        shows(video, 0, slack);
        for (int i = 3; i < f->frames; i += 3) shows(video, i, slack);
        shows(video, 2, slack); /* back */
        shows(video, f->frames - 1, slack);
    }
    vlcache_video_destroy(&video);
    scratch_remove(name);
}

START_TEST(files_are_read) {
    static const struct {
        const char *name, *codec;
        int slack;
    } films[] = {{"a.mkv", "png", 0},    {"a.mov", "png", 0},    {"a.avi", "png", 0},
                 {"a.mp4", "mpeg4", 12}, {"a.mkv", "mpeg4", 12}, {"a.avi", "mjpeg", 12}};
    if (!film_can()) return;
    for (size_t i = 0; i < sizeof films / sizeof *films; i++) {
        const film f = {films[i].codec, FRAMES, WIDTH, HEIGHT, 10, 0};
        reads_film(films[i].name, &f, films[i].slack);
    }
}
END_TEST

static vlcache_image *frame_of(vlcache_video *video, int index) {
    vlcache_image *image = NULL;
    ck_ok(vlcache_video_frame(video, index, &image));
    return image;
}

/* Frames far apart, reached from key frames, are those that counting gives; back and forth. */
START_TEST(far_frames) {
    static const char *const names[] = {"far.mp4", "far.mkv", "far.avi"};
    static const int order[] = {0, 150, 199, 60, 61, 180, 3, 4, 120, 198};
    char path[512];
    const film f = {"mpeg4", 200, WIDTH, HEIGHT, 25, 0};
    if (!film_can()) return;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        vlcache_video *far = NULL, *near = NULL;
        vlcache_image *all[200];
        film_write(at(names[k], path), &f);
        ck_ok(vlcache_video_open(path, &near));
        ck_ok(vlcache_video_open(path, &far));
        for (int i = 0; i < 200; i++) all[i] = frame_of(near, i);
        for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
            vlcache_image *image = frame_of(far, order[i]);
            ck_assert_mem_eq(vlcache_image_pixels(image), vlcache_image_pixels(all[order[i]]),
                             WIDTH * HEIGHT * 3);
            vlcache_image_destroy(&image);
        }
        for (int i = 0; i < 200; i++) vlcache_image_destroy(&all[i]);
        vlcache_video_destroy(&far);
        vlcache_video_destroy(&near);
        scratch_remove(names[k]);
    }
}
END_TEST

/* Upright pixel (x, y) after one turn clockwise was pixel (y, height - 1 - x). */
START_TEST(files_are_turned) {
    char path[512];
    if (!film_can()) return;
    for (int turns = 1; turns < 4; turns++) {
        const film f = {"png", 2, WIDTH, HEIGHT, 5, turns};
        vlcache_video *video = NULL;
        vlcache_image *image = NULL;
        uint8_t corner[3];
        film_write(at("turned.mov", path), &f);
        ck_ok(vlcache_video_open(path, &video));
        has(video, 2, turns % 2 ? HEIGHT : WIDTH, turns % 2 ? WIDTH : HEIGHT, 5);
        ck_ok(vlcache_video_frame(video, 1, &image));
        film_pixel(1, turns == 1 ? 0 : WIDTH - 1, turns == 3 ? 0 : HEIGHT - 1, corner);
        ck_assert_mem_eq(vlcache_image_pixels(image), corner, 3);
        vlcache_image_destroy(&image);
        vlcache_video_destroy(&video);
    }
}
END_TEST

static void opens_or_is_refused(const char *path) {
    vlcache_video *video = NULL;
    vlcache_image *image = NULL;
    vlcache_status status = vlcache_video_open(path, &video);
    vlcache_video_info info;
    vlcache_video_describe(video, &info);
    if (!status) status = vlcache_video_frame(video, info.frames - 1, &image);
    ck_assert_msg(!status || status == VLCACHE_E_FORMAT || status == VLCACHE_E_UNSUPPORTED ||
                      status == VLCACHE_E_IO,
                  "%s: %s", vlcache_status_name(status), vlcache_error_message());
    if (status) ck_assert_ptr_nonnull(strstr(vlcache_error_message(), path));
    vlcache_image_destroy(&image);
    vlcache_video_destroy(&video);
}

static void survives(const char *name, const char *codec) {
    char path[512], damaged[64];
    const film f = {codec, FRAMES, WIDTH, HEIGHT, 10, 0};
    size_t bytes;
    uint32_t state = 7;
    film_write(at(name, path), &f);
    uint8_t *file = golden_read(path, &bytes);
    snprintf(damaged, sizeof damaged, "damaged-%s", name);
    for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 24) {
        scratch_write(damaged, file, cut);
        opens_or_is_refused(at(damaged, path));
    }
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 4; i++) {
            state = state * 1664525u + 1013904223u;
            file[(uint64_t)state * bytes >> 32] = (uint8_t)(state >> 8);
        }
        scratch_write(damaged, file, bytes);
        opens_or_is_refused(at(damaged, path));
    }
    free(file);
}

START_TEST(damaged_files_are_refused_or_read) {
    if (!film_can()) return;
    survives("whole.mp4", "mpeg4");
    survives("whole.mkv", "mpeg4");
    survives("whole.avi", "mjpeg");
    survives("whole.mov", "png");
}
END_TEST

/* The index of an MP4 stands at its end: without it nothing can be read; an AVI names its frames first. */
START_TEST(truncated_files_are_refused) {
    static const char *const names[] = {"short.mp4", "short.avi"};
    char path[512];
    vlcache_video *video = NULL;
    if (!film_can()) return;
    for (int i = 0; i < 2; i++) {
        const film f = {i ? "png" : "mpeg4", FRAMES, WIDTH, HEIGHT, 10, 0};
        size_t bytes;
        film_write(at(names[i], path), &f);
        uint8_t *file = golden_read(path, &bytes);
        scratch_write(names[i], file, bytes / 2);
        free(file);
        ck_fails(vlcache_video_open(path, &video), VLCACHE_E_FORMAT, names[i]);
        ck_assert_ptr_null(video);
    }
}
END_TEST

/* Writes a film whose `n` bytes at `offset` behind the first `mark` say something else. */
static const char *lying(const char *name, const char *mark, size_t offset, const char *says, size_t n,
                         char path[512]) {
    const film f = {"png", FRAMES, WIDTH, HEIGHT, 10, 0};
    size_t bytes, at_mark = 0;
    film_write(at(name, path), &f);
    uint8_t *file = golden_read(path, &bytes);
    while (at_mark + offset + n < bytes && memcmp(file + at_mark, mark, strlen(mark)) != 0) at_mark++;
    ck_assert_uint_lt(at_mark + offset + n, bytes);
    memcpy(file + at_mark + offset, says, n);
    scratch_write(name, file, bytes);
    free(file);
    return path;
}

/* Before memory is taken for what they claim. */
START_TEST(claims_are_refused) {
    static const struct {
        const char *name, *mark;
        size_t offset;
        const char *says;
        size_t n;
        const char *said;
    } files[] = {
        {"wide.mov", "png ", 28, "\xff\xff\xff\xff", 4, "frames of 65535 x 65535 pixels"},
        {"wide.avi", "strf", 12, "\xff\xff\0\0\xff\xff\0\0", 8, "frames of 65535 x 65535 pixels"},
        {"none.mov", "stsz", 8, "\0\0\0\1\x3b\x9a\xca\0", 8, "truncated"}, /* an index without memory */
        {"long.mov", "stts", 12, "\x3b\x9a\xca\0", 4, "names 1000000000 frames"},
        {"long.avi", "strh", 40, "\0\xca\x9a\x3b", 4, "names 1000000000 frames"},
    };
    char path[512];
    vlcache_video *video = NULL;
    if (!film_can()) return;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_fails(vlcache_video_open(lying(files[i].name, files[i].mark, files[i].offset, files[i].says,
                                          files[i].n, path),
                                    &video),
                 VLCACHE_E_FORMAT, files[i].said);
}
END_TEST

/* What names other files is not followed; what is no file is not waited for. */
START_TEST(no_videos_are_refused) {
    char path[512];
    vlcache_video *video = NULL;
    vlcache_status built = vlcache_video_reads_files() ? VLCACHE_E_FORMAT : VLCACHE_E_UNSUPPORTED;
    ck_fails(vlcache_video_open(at("missing.mp4", path), &video), VLCACHE_E_IO, "missing.mp4");
    ck_fails(vlcache_video_open(scratch_folder(), &video), VLCACHE_E_IO, "--frames");
    ck_assert_int_eq(mkfifo(at("pipe", path), 0600), 0);
    ck_fails(vlcache_video_open(path, &video), VLCACHE_E_IO, "no regular file");
    ck_fails(vlcache_video_open("/dev/zero", &video), VLCACHE_E_IO, "no regular file");
    scratch_text("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n");
    ck_fails(vlcache_video_open(at("list.m3u8", path), &video), built, "list.m3u8");
    scratch_text("list.ffconcat", "ffconcat version 1.0\nfile /etc/passwd\n");
    ck_fails(vlcache_video_open(at("list.ffconcat", path), &video), built, "list.ffconcat");
    scratch_text("words.mp4", "These are words and no video.");
    ck_fails(vlcache_video_open(at("words.mp4", path), &video), built, "words.mp4");
    ck_fails(vlcache_video_open(VLCACHE_TEST_DATA "/image/restart.jpg", &video), built, "restart.jpg");
    if (!vlcache_video_reads_files())
        ck_assert_ptr_nonnull(strstr(vlcache_last_error()->hint, "libavformat-dev"));
    ck_fails(vlcache_video_open(NULL, &video), VLCACHE_E_ARGUMENT, "NULL");
    ck_fails(vlcache_video_frame(NULL, 0, NULL), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* ---- folders and pictures ------------------------------------------------------------------------------ */

static void write_frames(const char *folder, int n, int width, int height) {
    char path[512];
    ck_assert_int_eq(mkdir(at(folder, path), 0700), 0);
    for (int i = 0; i < n; i++) {
        char name[128];
        vlcache_image *image = drawn(i, width, height);
        snprintf(name, sizeof name, "%s/%03d.png", folder, i);
        ck_ok(vlcache_image_write_png(at(name, path), vlcache_image_pixels(image), width, height));
        vlcache_image_destroy(&image);
    }
}

START_TEST(folders_are_read_in_order) {
    char path[512];
    vlcache_video *video = NULL;
    write_frames("frames", FRAMES, WIDTH, HEIGHT);
    scratch_text("frames/.hidden", "no picture");
    ck_ok(vlcache_video_open_frames(at("frames", path), 2.5, &video));
    has(video, FRAMES, WIDTH, HEIGHT, 2.5);
    ck_assert_str_eq(vlcache_video_name(video), path);
    shows(video, 5, 0);
    shows(video, 0, 0);
    shows(video, FRAMES - 1, 0);
    vlcache_image *image = NULL;
    ck_fails(vlcache_video_frame(video, FRAMES, &image), VLCACHE_E_ARGUMENT, "from 0 to 12");
    ck_fails(vlcache_video_frame(video, -1, &image), VLCACHE_E_ARGUMENT, "video: frame");
    vlcache_video_destroy(&video);
}
END_TEST

START_TEST(bad_folders_are_refused) {
    char path[512];
    vlcache_video *video = NULL;
    vlcache_image *image = NULL, *odd = drawn(0, 8, 8);
    ck_fails(vlcache_video_open_frames(at("nowhere", path), 1, &video), VLCACHE_E_IO, "nowhere");
    ck_assert_int_eq(mkdir(at("empty", path), 0700), 0);
    ck_fails(vlcache_video_open_frames(path, 1, &video), VLCACHE_E_FORMAT, "holds no files");
    ck_fails(vlcache_video_open_frames(path, 0, &video), VLCACHE_E_ARGUMENT, "video: fps");
    ck_fails(vlcache_video_open_frames(path, (double)NAN, &video), VLCACHE_E_ARGUMENT, "video: fps");
    write_frames("mixed", 3, WIDTH, HEIGHT);
    ck_ok(vlcache_image_write_png(at("mixed/001.png", path), vlcache_image_pixels(odd), 8, 8));
    scratch_text("mixed/002.png", "no picture");
    ck_ok(vlcache_video_open_frames(at("mixed", path), 1, &video));
    ck_fails(vlcache_video_frame(video, 1, &image), VLCACHE_E_FORMAT, "frame 1 has 8 x 8 pixels");
    ck_fails(vlcache_video_frame(video, 2, &image), VLCACHE_E_FORMAT, "002.png");
    ck_assert_ptr_null(image);
    vlcache_video_destroy(&video);
    vlcache_image_destroy(&odd);
}
END_TEST

START_TEST(pictures_are_a_video) {
    vlcache_image *image[4];
    vlcache_video *video = NULL;
    for (int i = 0; i < 4; i++) image[i] = drawn(i, i == 3 ? WIDTH + 1 : WIDTH, HEIGHT);
    const vlcache_image *const *some = (const vlcache_image *const *)image;
    ck_fails(vlcache_video_from_images(some, 4, 1, &video), VLCACHE_E_ARGUMENT, "images[3]");
    ck_fails(vlcache_video_from_images(some, 0, 1, &video), VLCACHE_E_ARGUMENT, "no pictures");
    ck_ok(vlcache_video_from_images(some, 3, 1, &video));
    for (int i = 0; i < 4; i++) vlcache_image_destroy(&image[i]);
    has(video, 3, WIDTH, HEIGHT, 1);
    shows(video, 2, 0);
    shows(video, 1, 0);
    vlcache_video_destroy(&video);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Opens and reads with every allocation failing in turn; nothing stays. */
static void survives_memory(bool folder, const char *path) {
    bool failed = true;
    for (long n = 0; failed; n++) {
        vlcache_video *video = NULL;
        vlcache_image *image = NULL;
        failing_start(n);
        vlcache_status status =
            folder ? vlcache_video_open_frames(path, 1, &video) : vlcache_video_open(path, &video);
        if (!status) status = vlcache_video_frame(video, 1, &image);
        vlcache_image_destroy(&image);
        vlcache_video_destroy(&video);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}

START_TEST(memory_may_fail) {
    char path[512];
    const film f = {"png", 3, WIDTH, HEIGHT, 10, 1};
    write_frames("few", 2, WIDTH, HEIGHT);
    survives_memory(true, at("few", path));
    if (!film_can()) return;
    film_write(at("few.mov", path), &f);
    survives_memory(false, path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("video");
    TCase *tests = tcase_create("video");
    tcase_add_test(tests, files_are_read);
    tcase_add_test(tests, far_frames);
    tcase_add_test(tests, files_are_turned);
    tcase_add_test(tests, damaged_files_are_refused_or_read);
    tcase_add_test(tests, truncated_files_are_refused);
    tcase_add_test(tests, claims_are_refused);
    tcase_add_test(tests, no_videos_are_refused);
    tcase_add_test(tests, folders_are_read_in_order);
    tcase_add_test(tests, bad_folders_are_refused);
    tcase_add_test(tests, pictures_are_a_video);
    tcase_add_test(tests, memory_may_fail);
    suite_add_tcase(suite, tests);
    int code = suite_run(suite);
    scratch_clean();
    return code;
}
