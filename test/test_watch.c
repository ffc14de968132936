/*
 * test_watch.c - vlcache-run with videos: files and folders of frames, which frames are seen, heat maps of
 * them, chats, progress, and what is refused.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "support/film/film.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"
#include "vlcache/image.h"

#define QWEN VLCACHE_TEST_DATA "/models/qwen2_5-vl"

enum { WIDTH = 48, HEIGHT = 32, FRAMES = 12 };

/* A folder of frames that look as film.c draws them; its path. */
static const char *frames(void) {
    static char folder[512];
    char name[64], path[512];
    uint8_t rgb[WIDTH * HEIGHT * 3];
    in_scratch("frames", folder);
    if (mkdir(folder, 0700)) return folder; /* it is there */
    for (int i = 0; i < FRAMES; i++) {
        for (int k = 0; k < WIDTH * HEIGHT; k++) film_pixel(i, k % WIDTH, k / WIDTH, rgb + 3 * k);
        snprintf(name, sizeof name, "frames/%02d.png", i);
        ck_ok(vlcache_image_write_png(in_scratch(name, path), rgb, WIDTH, HEIGHT));
    }
    return folder;
}

static bool there(const char *name) {
    char path[512];
    struct stat about;
    return stat(in_scratch(name, path), &about) == 0;
}

/* The frames that were seen, "0 2 4 ". */
static void seen(const json_t *answer, const char *want) {
    char got[256] = "";
    size_t i;
    const json_t *frame;
    json_array_foreach(get(answer, "frames", JSON_ARRAY), i, frame)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%d ", whole(frame, "frame"));
    ck_assert_str_eq(got, want);
}

/* Steps of two frames, the first of which is told. */
START_TEST(folders) {
    json_t *a = ask_json((const char *const[]){TOOL, "-m", QWEN, "--frames", frames(), "--fps", "4", "-p",
                                               "What moves?", "-n", "3", "--json", NULL});
    seen(a, "0 4 8 ");
    ck_assert_int_eq(whole(get(a, "prompt", JSON_OBJECT), "visual") % 3, 0);
    json_decref(a);
    a = ASK_JSON("-m", QWEN, "--frames", frames(), "--sample-frames", "4", "-p", "What?", "-n", "1");
    seen(a, "0 6 ");
    json_decref(a);
    a = ASK_JSON("-m", QWEN, "--frames", frames(), "-p", "What?", "-n", "1"); /* 2 a second are all */
    seen(a, "0 2 4 6 8 10 ");
    json_decref(a);
    a = ASK_JSON("-m", QWEN, "--frames", frames(), "--stream", "2", "-p", "What?", "-n", "1");
    ck_assert_str_eq(json_string_value(get(get(a, "policy", JSON_OBJECT), "name", JSON_STRING)), "centroids");
    json_decref(a); /* in parts no rows are coded */
}
END_TEST

/* A file without loss gives what its frames give. */
START_TEST(files) {
    char path[512];
    const film f = {"png", FRAMES, WIDTH, HEIGHT, 4, 0};
    if (!film_can()) return;
    film_write(in_scratch("film.mkv", path), &f);
    json_t *a = ASK_JSON("-m", QWEN, "--video", path, "-p", "What moves?", "-n", "6"),
           *b = ASK_JSON("-m", QWEN, "--frames", frames(), "--fps", "4", "-p", "What moves?", "-n", "6");
    seen(a, "0 4 8 ");
    ck_assert(json_equal(get(a, "tokens", JSON_ARRAY), get(b, "tokens", JSON_ARRAY)));
    ck_assert(json_equal(get(a, "first_logits", JSON_ARRAY), get(b, "first_logits", JSON_ARRAY)));
    json_decref(a);
    json_decref(b);
}
END_TEST

START_TEST(heat_maps) {
    process p;
    char path[512];
    RUN(&p, "-m", QWEN, "--image", PICTURE, "--frames", frames(), "--sample-frames", "4", "-p", "What?", "-n",
        "2", "--heatmap", in_scratch("map.png", path));
    ended(&p, 0);
    process_release(&p);
    ck_assert(there("map-1.png") && there("map-2.png") && there("map-3.png") && !there("map-4.png"));
}
END_TEST

START_TEST(chats) {
    process p;
    char said[1200];
    snprintf(said, sizeof said, "/frames %s\nWhat moves?\nAnd now?\n/video\n", frames());
    process_run(&p, (const char *const[]){TOOL, "-m", QWEN, "-n", "2", NULL}, said, strlen(said));
    expect(&p, 1, "/video: needs a file");
    ck_assert_ptr_nonnull(strstr(p.err, "48 x 32 pixels, 12 frames, 6.0 seconds"));
    process_release(&p);
}
END_TEST

START_TEST(progress) {
    process p;
    const char *const argv[] = {TOOL, "-m", QWEN, "--frames", frames(), "-p", "What?", "-n", "1", NULL};
    process_start_terminal(&p, argv, 100);
    process_finish(&p);
    ended(&p, 0);
    ck_assert_ptr_nonnull(strstr(p.err, "looking at a video"));
    process_release(&p);
}
END_TEST

static void refuses(int code, const char *said, const char *const *argv) {
    process p;
    process_run(&p, argv, "", 0);
    expect(&p, code, said);
    process_release(&p);
}
#define REFUSES(code, said, ...) refuses(code, said, (const char *const[]){TOOL, __VA_ARGS__, NULL})

START_TEST(refusals) {
    char path[512];
    scratch_text("words.mp4", "no video");
    REFUSES(2, "words.mp4", "-m", QWEN, "--video", in_scratch("words.mp4", path), "-p", "a");
    REFUSES(2, "nowhere", "-m", QWEN, "--frames", "nowhere", "-p", "a");
    REFUSES(2, "take no videos", "-m", TINY, "--frames", frames(), "-p", "a");
    REFUSES(1, "--fps: is about --frames", "-m", QWEN, "--fps", "3", "-p", "a");
    REFUSES(1, "give one of both", "-m", QWEN, "--frames", frames(), "--sample-fps", "1", "--sample-frames",
            "2", "-p", "a");
    REFUSES(1, "--sample-fps: needs a video", "-m", QWEN, "--sample-fps", "1", "-p", "a");
    REFUSES(1, "--stream: needs a video", "-m", QWEN, "--stream", "1", "-p", "a");
    REFUSES(1, "stream: not with recall=host", "-m", QWEN, "--frames", frames(), "--stream", "1", "--recall",
            "host", "-p", "a");
    REFUSES(1, "stream: not with coded rows", "-m", QWEN, "--frames", frames(), "--policy",
            "vlcache@stream=1,storage=bits:4/2", "-p", "a");
    REFUSES(1, "--fps", "-m", QWEN, "--frames", frames(), "--fps", "-1", "-p", "a");
    REFUSES(1, "from 0.001", "-m", QWEN, "--frames", frames(), "--fps", "1e-9", "-p", "a");
}
END_TEST

/* full, vlcache@stream=4, vlcache, full@stream=2: with the whole cache parts change nothing, and what is read
 * in parts is not probed. */
static void check_runs(const json_t *record) {
    const json_t *runs = get(record, "runs", JSON_ARRAY), *run[4];
    ck_assert_uint_eq(json_array_size(runs), 4);
    for (size_t i = 0; i < 4; i++) run[i] = json_array_get(runs, i);
    ck_assert(json_equal(get(run[0], "text", JSON_ARRAY), get(run[3], "text", JSON_ARRAY)));
    ck_assert(json_equal(get(run[0], "layers", JSON_ARRAY), get(run[3], "layers", JSON_ARRAY)));
    ck_assert(!json_equal(get(run[0], "layers", JSON_ARRAY), get(run[1], "layers", JSON_ARRAY)));
    for (size_t i = 0; i < 4; i++) ck_assert(!json_object_get(run[i], "hit") == (i % 2 == 1));
}

static void check_variants(const json_t *header) {
    static const int stream[] = {0, 4, 0, 2};
    for (size_t i = 0; i < 4; i++) {
        const json_t *variant = json_array_get(get(header, "variants", JSON_ARRAY), i);
        ck_assert_int_eq((int)json_integer_value(json_object_get(variant, "stream")), stream[i]);
    }
}

/* A question of vlcache-eval about frames, with and without a number of them, and about a file. */
START_TEST(questions) {
    static const char head[] = "\"question\": \"What?\", \"answers\": [\"a\"], \"metric\": \"exact\"}\n";
    char data[512], path[512], lines[8192] = "{\"video\": [";
    const film f = {"png", FRAMES, WIDTH, HEIGHT, 4, 0};
    process p;
    frames();
    for (int i = 0; i < FRAMES; i++)
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\"frames/%02d.png\"", i ? ", " : "",
                 i);
    char *end = lines + strlen(lines);
    snprintf(end, sizeof lines - (size_t)(end - lines),
             "], \"fps\": 4, %s{\"video\": [\"frames/00.png\", "
             "\"frames/01.png\"], \"frames\": 2, %s",
             head, head);
    int asked = 2;
    if (film_can()) {
        film_write(in_scratch("asked.mkv", path), &f);
        asked = 3;
        end = lines + strlen(lines);
        snprintf(end, sizeof lines - (size_t)(end - lines), "{\"video\": \"asked.mkv\", %s", head);
    }
    scratch_text("films.jsonl", lines);
    process_run(&p,
                (const char *const[]){VLCACHE_BINARY_DIR "/vlcache-eval", "-m", QWEN, "--data",
                                      in_scratch("films.jsonl", data), "--policy",
                                      "vlcache@stream=4,vlcache,full@stream=2", "--budget", "0.3", "--study",
                                      "probe", "-n", "2", "--results", in_scratch("films.results", path),
                                      "-o", "json", "--strict", NULL},
                "", 0);
    ended(&p, 0);
    process_release(&p);
    json_t *results = NULL;
    FILE *file = fopen(in_scratch("films.results", path), "r");
    int records = 0;
    ck_assert_ptr_nonnull(file);
    while ((results = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL))) {
        const json_t *pictures = json_object_get(results, "pictures");
        if (pictures)
            ck_assert_uint_eq(json_array_size(pictures), records == 0 ? FRAMES : records == 1 ? 2 : 1);
        if (pictures) check_runs(results);
        if (pictures) records++;
        if (!pictures) check_variants(results);
        json_decref(results);
    }
    fclose(file);
    ck_assert_int_eq(records, asked);
}
END_TEST

START_TEST(bad_questions) {
    static const struct {
        const char *fields, *said;
    } lines[] = {
        {"\"video\": []", "an array of frames"},
        {"\"video\": 3", "an array of frames"},
        {"\"video\": \"no.mp4\"", "no.mp4"},
        {"\"video\": [\"frames/00.png\"], \"fps\": -1", "\"fps\""},
        {"\"video\": [\"frames/00.png\"], \"frames\": 0", "\"frames\""},
        {"\"video\": [\"frames/00.png\"], \"image\": \"frames/00.png\"", "beside pictures"},
    };
    char line[512], data[512];
    frames();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        process p;
        snprintf(line, sizeof line,
                 "{%s, \"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"exact\"}\n", lines[i].fields);
        scratch_text("bad.jsonl", line);
        process_run(&p,
                    (const char *const[]){VLCACHE_BINARY_DIR "/vlcache-eval", "-m", QWEN, "--data",
                                          in_scratch("bad.jsonl", data), "--strict", NULL},
                    "", 0);
        expect(&p, 2, lines[i].said);
        process_release(&p);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("watch");
    TCase *tests = tcase_create("watch");
    tool_environment();
    tcase_add_test(tests, folders);
    tcase_add_test(tests, files);
    tcase_add_test(tests, heat_maps);
    tcase_add_test(tests, chats);
    tcase_add_test(tests, progress);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, questions);
    tcase_add_test(tests, bad_questions);
    suite_add_tcase(suite, tests);
    int code = suite_run(suite);
    scratch_clean();
    return code;
}
