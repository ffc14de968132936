/*
 * test_clip.c - videos as families see them, against transformers: which frames, prompt ids, positions,
 * pixels, first logits, greedy tokens (data/families/video.py); looks in parts; what the caller may ask for.
 *
 * Stages behind the pixels get the golden's pixels: its processors resize with torchvision, whose frames
 * differ from Pillow's, and ours, by a grey level here and there.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "picture/area.h"
#include "support/rig.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/taps.h"
#include "vlcache/session.h"

static const char *const folders[] = {"qwen2-vl-hub",  "qwen2_5-vl",   "qwen2_5-vl-hub", "qwen3-vl",
                                      "onevision-hub", "internvl-hub", "smolvlm-tiles"};
enum { N_FOLDERS = sizeof folders / sizeof *folders, MOST_PICTURES = 4 };

/* One case, opened. */
typedef struct film {
    char folder[512];
    vlcache_model *model;
    taps taps;
    vlcache_image *image[MOST_PICTURES];
    vlcache_video *video;
    vlcache_prompt asked;
    vlci_prompt prompt;
} film;

static const char *golden_path(const film *f, const char *file, char path[static 700]) {
    snprintf(path, 700, "%s/golden/%s", f->folder, file);
    return path;
}

static const char *text_of(const json_t *item, const char *key) {
    return json_string_value(json_object_get(item, key));
}

/* The frames stand below each other in one picture. */
static void open_video(film *f, const json_t *item) {
    char path[700];
    int n = (int)json_integer_value(json_object_get(item, "frames")), width, height;
    vlcache_image *strip = NULL, *frame[64];
    ck_assert_int_le(n, 64);
    ck_ok(vlcache_image_load(golden_path(f, text_of(item, "film"), path), &strip));
    vlcache_image_size(strip, &width, &height);
    height /= n;
    for (int i = 0; i < n; i++)
        ck_ok(vlcache_image_from_rgb(vlcache_image_pixels(strip) + (size_t)i * (size_t)(3 * width * height),
                                     width, height, 0, &frame[i]));
    ck_ok(vlcache_video_from_images((const vlcache_image *const *)frame, (size_t)n,
                                    json_number_value(json_object_get(item, "fps")), &f->video));
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frame[i]);
    vlcache_image_destroy(&strip);
}

static void open_film(film *f, const json_t *item) {
    char path[700], message[900];
    const json_t *images = json_object_get(item, "images");
    const vlci_turn turn = {.chat = f->model->chat, .open = -1};
    const vlcache_prompt empty = VLCACHE_PROMPT_INIT;
    open_video(f, item);
    ck_assert_msg(taps_load(golden_path(f, text_of(item, "taps"), path), &f->taps, message, sizeof message),
                  "%s", message);
    f->asked = empty;
    f->asked.text = text_of(item, "prompt");
    f->asked.raw = true;
    f->asked.images = (const vlcache_image *const *)f->image;
    f->asked.n_images = json_array_size(images);
    for (size_t i = 0; i < f->asked.n_images; i++)
        ck_ok(vlcache_image_load(golden_path(f, json_string_value(json_array_get(images, i)), path),
                                 &f->image[i]));
    f->asked.videos = &f->video;
    f->asked.n_videos = 1;
    f->asked.video_fps = json_number_value(json_object_get(item, "sample_fps"));
    f->asked.video_frames = (size_t)json_integer_value(json_object_get(item, "sample_frames"));
    ck_ok(vlci_prompt_create(f->model, &f->asked, &turn, &f->prompt));
}

static void close_film(film *f) {
    vlci_prompt_release(&f->prompt);
    vlcache_video_destroy(&f->video);
    for (size_t i = 0; i < MOST_PICTURES; i++) vlcache_image_destroy(&f->image[i]);
    taps_release(&f->taps);
}

static void each_film(int folder, void (*check)(film *f)) {
    char path[700];
    size_t k;
    json_t *item;
    film f = {0};
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(f.folder, sizeof f.folder, "%s/models/%s", VLCACHE_TEST_DATA, folders[folder]);
    json_t *films = json_load_file(golden_path(&f, "videos.json", path), 0, NULL);
    ck_assert_uint_gt(json_array_size(films), 0);
    ck_ok(vlcache_model_load(suite_device(), f.folder, &options, &f.model));
    json_array_foreach(films, k, item) {
        open_film(&f, item);
        check(&f);
        close_film(&f);
    }
    vlcache_model_destroy(&f.model);
    json_decref(films);
}

/* ---- the prompt ---------------------------------------------------------------------------------------- */

static void check_positions(const film *f, const tap *want) {
    const vlci_config *c = &f->model->config;
    size_t n = (size_t)f->prompt.n, axes = want->n / n;
    int32_t(*position)[3] = malloc(n * sizeof *position), next;
    ck_assert(want->n == axes * n && (axes == 1 || axes == 3));
    c->family->positions(c, f->prompt.picture, f->prompt.n_images + f->prompt.n_videos, 0, f->prompt.n,
                         position, &next);
    for (size_t i = 0; i < n; i++)
        for (size_t axis = 0; axis < 3; axis++)
            ck_assert_msg(position[i][axis] == want->i32[axes == 3 ? axis * n + i : i],
                          "%s: position %zu, axis %zu: %d", f->folder, i, axis, position[i][axis]);
    free(position);
}

/* What scores is the text behind what is seen first, but for what is of a video: no time between its frames.
 */
static void check_after(const vlci_prompt *p) {
    int after = 0, row = p->picture[0].row + p->picture[0].layout->n;
    for (size_t i = 1; i <= p->n_images + p->n_videos; i++) {
        int until = i < p->n_images + p->n_videos ? p->picture[i].row : p->n;
        for (; row < until; row++) ck_assert_int_eq(p->after_at[after++], row);
        if (i < p->n_images + p->n_videos) row += p->picture[i].layout->n;
    }
    ck_assert_int_eq(after, p->after);
}

static void check_prompt(film *f) {
    const tap *ids = taps_find(&f->taps, "prompt.ids"), *positions = taps_find(&f->taps, "positions");
    const tap *chosen = taps_find(&f->taps, "chosen");
    const vlci_config *c = &f->model->config;
    size_t n = (size_t)f->prompt.n;
    int seen = 0;
    ck_assert_uint_eq(n, ids->n);
    ck_assert_uint_eq((size_t)f->prompt.clip[0].n, chosen->n);
    for (size_t i = 0; i < chosen->n; i++) ck_assert_int_eq(f->prompt.clip[0].frame[i], chosen->i32[i]);
    for (size_t i = 0; i < n; i++) {
        bool visual =
            ids->i32[i] == c->image_token || (ids->i32[i] == c->video_token && !c->family->videos->token);
        ck_assert_msg(f->prompt.ids[i] == (visual ? -1 - seen : ids->i32[i]), "%s: row %zu is %d, not %d",
                      f->folder, i, f->prompt.ids[i], ids->i32[i]);
        seen += visual;
    }
    ck_assert_int_eq(seen, f->prompt.visual);
    check_after(&f->prompt);
    if (positions) check_positions(f, positions);
}

START_TEST(prompts) {
    each_film(_i, check_prompt);
}
END_TEST

/* Tokens say which frame they show: those of its grid, and behind the last what shows nothing. */
static void check_places(film *f) {
    const vlci_prompt *p = &f->prompt;
    int step = (p->clip[0].n + p->n_seen - 1) / p->n_seen, images = (int)p->n_images, tokens = 0;
    for (int i = 0; i < p->n_seen; i++) {
        const vlci_token_grid *g = &p->grids[p->n_grids - p->n_seen + i];
        ck_assert_int_eq(p->seen[i].frame, p->clip[0].frame[i * step]);
        ck_assert_double_eq_tol(p->seen[i].seconds, p->seen[i].frame / p->clip[0].fps, 1e-9);
        for (int t = 0; t < p->visual; t++) {
            const vlcache_visual_token *w = &p->where[t];
            int at = w->position - g->first;
            if (w->image != images + i) continue;
            if (w->x1 == 0 && w->y1 == 0) continue;
            ck_assert(at >= 0 && at < g->rows * g->stride);
            ck_assert(w->x0 >= 0 && w->y0 >= 0 && w->x0 < w->x1 && w->y0 < w->y1);
            ck_assert(w->x1 <= (float)p->clip[0].width && w->y1 <= (float)p->clip[0].height);
            tokens++;
        }
        ck_assert_int_eq(tokens, (i + 1) * g->rows * g->columns);
    }
    for (int t = 1; t < p->visual; t++) ck_assert_int_ge(p->where[t].image, p->where[t - 1].image);
    ck_assert_int_eq(p->where[p->visual - 1].image, images + p->n_seen - 1);
}

START_TEST(places_of_tokens) {
    each_film(_i, check_places);
}
END_TEST

/* ---- pixels and looks ---------------------------------------------------------------------------------- */

/* Frames first .. first + n of the clip, prepared. */
static vlci_pixels prepare(const film *f, int first, int n) {
    const vlci_clip *clip = &f->prompt.clip[0];
    vlcache_image *frame[64] = {NULL};
    vlci_pixels pixels;
    for (int i = 0; i < n; i++) ck_ok(vlcache_video_frame(f->video, clip->frame[first + i], &frame[i]));
    ck_ok(f->model->family->videos->prepare(&f->model->config, clip, frame, n, &pixels));
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frame[i]);
    return pixels;
}

static size_t plane(const vlci_pixels *pixels) {
    return 3 * (size_t)pixels->width * (size_t)pixels->height;
}

/* Within a grey level a resize, of which SmolVLM has two; where nothing is resized, the same. */
static void check_pixels(film *f) {
    const tap *want = taps_find(&f->taps, "vision.pixels");
    const vlci_clip *clip = &f->prompt.clip[0];
    vlci_pixels got = prepare(f, 0, clip->n);
    size_t n = (size_t)clip->n * plane(&got);
    bool same = got.width == clip->width && got.height == clip->height;
    bool twice = f->model->family->videos->token != NULL;
    double level = same ? 1e-5 : (twice ? 2.02 / 0.5 : 1.01 / 0.26) / 255 + 1e-5; /* of the least deviation */
    ck_assert_uint_le(n, want->n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got.data[i] - (double)want->f32[i]) <= level, "%s: pixel %zu: %g, not %g",
                      f->folder, i, (double)got.data[i], (double)want->f32[i]);
    vlci_pixels_release(&got);
}

START_TEST(pixels_of_frames) {
    each_film(_i, check_pixels);
}
END_TEST

static size_t token_bytes(const film *f) {
    const vlci_text_config *text = &f->model->config.text;
    return (size_t)text->hidden * (1 + (size_t)text->deepstack) * sizeof(float);
}

/* The film's visual tokens, `part` frames at a time, from the golden's pixels or our own. */
static void look_at_film(const film *f, int part, bool golden, cl_mem all, size_t at) {
    const tap *pixels = taps_find(&f->taps, "vision.pixels");
    const vlci_clip *clip = &f->prompt.clip[0];
    const vlci_picture_layout *layout = &f->prompt.layout[f->prompt.n_images];
    int total = 0;
    for (int first = 0; first < clip->n; first += part) {
        int n = clip->n - first < part ? clip->n - first : part, tokens_n;
        vlci_pixels some = prepare(f, first, n);
        cl_mem tokens = NULL;
        if (golden)
            memcpy(some.data, pixels->f32 + (size_t)first * plane(&some),
                   (size_t)n * plane(&some) * sizeof(float));
        ck_ok(f->model->family->videos->look(&f->model->config, clip, layout, &some, first, &tokens,
                                             &tokens_n));
        size_t bytes = (size_t)tokens_n * token_bytes(f);
        ck_ok(vlci_copy(suite_device(), tokens, 0, all, at, bytes));
        at += bytes;
        total += tokens_n;
        suite_release(tokens);
        vlci_pixels_release(&some);
    }
    ck_assert_int_eq(total, layout->n_tokens);
}

/* Pictures stand in front of the film in these prompts. */
static cl_mem look(const film *f) {
    cl_mem all = suite_poison((size_t)f->prompt.visual * token_bytes(f));
    size_t at = 0;
    for (size_t i = 0; i < f->prompt.n_images; i++) {
        vlci_pixels some;
        cl_mem tokens = NULL;
        ck_ok(f->model->family->prepare(&f->model->config, f->image[i], &some));
        ck_ok(f->model->family->look(&f->model->config, &some, &f->prompt.layout[i], &tokens));
        size_t bytes = (size_t)f->prompt.layout[i].n_tokens * token_bytes(f);
        ck_ok(vlci_copy(suite_device(), tokens, 0, all, at, bytes));
        at += bytes;
        suite_release(tokens);
        vlci_pixels_release(&some);
    }
    look_at_film(f, f->prompt.clip[0].n, true, all, at);
    return all;
}

static void check_stages(film *f) {
    const tap *want = taps_find(&f->taps, "logits"), *greedy = taps_find(&f->taps, "greedy.tokens");
    cl_mem visual = look(f);
    float *got = malloc(want->n * sizeof *got);
    double largest = 0, most = 0;
    rig r;
    rig_create(&r, f->model, NULL);
    rig_begin_prompt(&r, &f->prompt, visual);
    while (rig_layer(&r)) continue;
    suite_download(r.shared.text.logits, got, want->n * sizeof *got);
    for (size_t i = 0; i < want->n; i++) {
        most = fmax(most, fabs((double)got[i] - (double)want->f32[i]));
        largest = fmax(largest, fabs((double)want->f32[i]));
    }
    ck_assert_msg(most <= 2e-5 * largest, "%s: logits differ by %g of %g", f->folder, most, largest);
    for (size_t i = 0; i < greedy->n; i++) {
        int32_t token = rig_best(&r);
        ck_assert_msg(token == greedy->i32[i], "%s: token %zu is %d, not %d", f->folder, i, token,
                      greedy->i32[i]);
        rig_step(&r, token);
    }
    rig_release(&r);
    suite_release(visual);
    free(got);
}

START_TEST(logits_and_greedy_tokens) {
    each_film(_i, check_stages);
}
END_TEST

/* However few frames are looked at together, they give the same tokens. */
static void check_parts(film *f) {
    size_t bytes = (size_t)f->prompt.layout[f->prompt.n_images].n_tokens * token_bytes(f);
    int step = f->model->family->videos->at_once(&f->model->config, &f->prompt.clip[0]);
    cl_mem whole = suite_poison(bytes), parts = suite_poison(bytes);
    float *a = malloc(bytes), *b = malloc(bytes);
    ck_assert_int_ge(step, 2);
    look_at_film(f, 64, false, whole, 0);
    look_at_film(f, 2, false, parts, 0);
    suite_download(whole, a, bytes);
    suite_download(parts, b, bytes);
    for (size_t i = 0; i < bytes / sizeof *a; i++)
        ck_assert_msg(fabs((double)a[i] - (double)b[i]) <= 1e-5 + 1e-5 * fabs((double)a[i]),
                      "%s: %zu: %g, %g", f->folder, i, (double)a[i], (double)b[i]);
    free(a);
    free(b);
    suite_release(whole);
    suite_release(parts);
}

START_TEST(looks_in_parts) {
    each_film(_i, check_parts);
}
END_TEST

/* ---- the choice of frames ------------------------------------------------------------------------------ */

/* By transformers' sample_frames(): of Qwen2-VL (parts), of Qwen3-VL (ends), of
 * SmolVLM's hub folders (both: 1 a second, at most 64). */
enum { PARTS, ENDS, BOTH };

static const struct {
    int by, total;
    double fps, asked_fps;
    int asked_frames, n, first, second, last;
} choices[] = {
    {PARTS, 90, 30, 0, 0, 6, 0, 15, 75},
    {PARTS, 90, 30, 1, 0, 4, 0, 22, 67},
    {PARTS, 90, 30, 1000, 0, 90, 0, 1, 89},
    {PARTS, 91, 30, 1000, 0, 90, 0, 1, 89},
    {PARTS, 3, 30, 0, 0, 2, 0, 1, 1},
    {PARTS, 1, 30, 0, 0, 1, 0, 0, 0},
    {PARTS, 100, 10, 0, 7, 8, 0, 12, 87},
    {PARTS, 100, 10, 0, 5, 4, 0, 25, 75},
    {PARTS, 100000, 30, 0, 0, 768, 0, 130, 99869},
    {PARTS, 3, 1, 0, 64, 3, 0, 1, 2},
    {ENDS, 90, 30, 0, 0, 6, 0, 18, 89},
    {ENDS, 90, 30, 1, 0, 4, 0, 30, 89},
    {ENDS, 91, 30, 1000, 0, 91, 0, 1, 90},
    {ENDS, 3, 30, 0, 0, 3, 0, 1, 2},
    {ENDS, 1, 30, 0, 0, 1, 0, 0, 0},
    {ENDS, 100, 10, 0, 7, 7, 0, 16, 99},
    {ENDS, 100000, 30, 0, 0, 768, 0, 130, 99999},
    {BOTH, 90, 30, 0, 0, 3, 0, 44, 89},
    {BOTH, 1, 30, 0, 0, 1, 0, 0, 0},
    {BOTH, 10, 30, 0, 0, 1, 0, 0, 0},
    {BOTH, 45, 30, 0, 0, 2, 0, 44, 44},
    {BOTH, 75, 30, 0, 0, 2, 0, 74, 74},
    {BOTH, 1980, 30, 0, 0, 64, 0, 31, 1979},
    {BOTH, 1981, 30, 0, 0, 64, 30, 60, 1951},
    {BOTH, 100000, 29.97, 0, 0, 64, 29, 1615, 99970},
    {BOTH, 300, 30, 0.1, 0, 1, 30, 30, 30},
    {BOTH, 40, 0.1, 0, 0, 40, 0, 1, 39},
    {BOTH, 40, 0.1, 0, 4, 4, 0, 13, 39},
    {BOTH, 90, 30, 1000, 0, 64, 0, 1, 89},
    {BOTH, 90, 30, 0, 2, 2, 0, 89, 89},
    {BOTH, 3000, 25, 2, 0, 64, 0, 47, 2999},
    {BOTH, 2000, 25, 0, 200, 80, 0, 25, 1999},
    {BOTH, 3, 1, 0, 0, 3, 0, 1, 2},
};

START_TEST(frames_are_chosen) {
    static const vlci_clip_choice by[] = {
        [PARTS] = {.fps = 2, .least = 4, .most = 768, .step = 2},
        [ENDS] = {.fps = 2, .least = 4, .most = 768, .step = 2, .ends = true},
        [BOTH] = {.fps = 1, .frames = 64, .step = 1, .both = true},
    };
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        vlci_clip clip = {.total = choices[i].total, .fps = choices[i].fps};
        const vlci_clip_asked asked = {choices[i].asked_fps, choices[i].asked_frames};
        ck_ok(vlci_clip_choose(&by[choices[i].by], &asked, &clip));
        ck_assert_msg(clip.n == choices[i].n, "choice %zu: %d frames, not %d", i, clip.n, choices[i].n);
        ck_assert_int_eq(clip.frame[0], choices[i].first);
        ck_assert_int_eq(clip.frame[clip.n > 1], choices[i].second);
        ck_assert_int_eq(clip.frame[clip.n - 1], choices[i].last);
        vlci_clip_release(&clip);
    }
}
END_TEST

/* Of Qwen3-VL's smart_resize(): frames, sides, bounds, what they become. */
static const int sizes[][8] = {
    {2, 640, 480, 131072, 786432, 640, 480, 32},     {3, 640, 480, 131072, 786432, 576, 416, 32},
    {5, 640, 480, 131072, 786432, 448, 320, 32},     {16, 640, 480, 131072, 786432, 256, 192, 32},
    {4, 20, 10, 131072, 786432, 256, 128, 32},       {1, 64, 64, 4096, 25165824, 64, 64, 32},
    {768, 1920, 1080, 4096, 25165824, 224, 128, 32},
};

START_TEST(sizes_of_frames) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int *s = sizes[i];
        const vlci_area area = {s[7], s[3], s[4]};
        int width, height;
        ck_ok(vlci_area_fit_frames(&area, s[0], 2, s[1], s[2], &width, &height));
        ck_assert_msg(width == s[5] && height == s[6], "size %zu: %d x %d", i, width, height);
    }
}
END_TEST

/* ---- through sessions ---------------------------------------------------------------------------------- */

static vlcache_model *open_model(const char *name) {
    char path[512];
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, name);
    ck_ok(vlcache_model_load(suite_device(), path, &options, &model));
    return model;
}

static const vlcache_answer *ask(vlcache_session *session, const vlcache_prompt *prompt, int tokens) {
    const vlcache_answer *answer = NULL;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    generate.max_tokens = tokens;
    generate.min_tokens = (size_t)tokens;
    ck_ok(vlcache_session_ask(session, prompt, &generate, &answer));
    return answer;
}

/* Where frames are not resized, the whole way gives transformers' tokens. */
static void check_session(film *f) {
    const tap *greedy = taps_find(&f->taps, "greedy.tokens");
    const vlci_clip *clip = &f->prompt.clip[0];
    vlci_pixels some = prepare(f, 0, 1);
    bool same = some.width == clip->width && some.height == clip->height;
    vlci_pixels_release(&some);
    if (!same || f->asked.n_images) return;
    vlcache_session *session = talk_open(f->model, "full", 1.0);
    const vlcache_answer *answer = ask(session, &f->asked, (int)greedy->n);
    vlcache_seen_frame seen;
    ck_assert_int_eq(answer->n_tokens, (int)greedy->n);
    ck_assert_mem_eq(answer->tokens, greedy->i32, greedy->n * sizeof *greedy->i32);
    ck_ok(vlcache_session_frame(session, 0, &seen));
    ck_assert_int_eq(seen.frame, clip->frame[0]);
    ck_fails(vlcache_session_frame(session, f->prompt.n_seen, &seen), VLCACHE_E_ARGUMENT, "frames of");
    vlcache_session_destroy(&session);
}

START_TEST(sessions_give_the_tokens) {
    each_film(_i, check_session);
}
END_TEST

static vlcache_video *moving(int n, int width, int height, double fps) {
    vlcache_image *frame[64] = {NULL};
    vlcache_video *video = NULL;
    uint8_t *rgb = malloc((size_t)(width * height * 3));
    uint64_t state = 3;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < width * height * 3; k++) rgb[k] = (uint8_t)(128 + 100 * suite_random(&state));
        ck_ok(vlcache_image_from_rgb(rgb, width, height, 0, &frame[i]));
    }
    ck_ok(vlcache_video_from_images((const vlcache_image *const *)frame, (size_t)n, fps, &video));
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frame[i]);
    free(rgb);
    return video;
}

/* A template that knows videos, one that does not, and marks in the words: the tokens of the raw prompt. */
START_TEST(templates_place_videos) {
    static const char open[] =
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}",
                      known[] =
                          "{% if c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
                          "{% elif c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
                          "{% else %}{{ c['text'] }}{% endif %}",
                      close[] = "{% endfor %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}";
    static const char *const raw[] = {
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>What?<|im_end|>\n<|im_start|>"
        "assistant\n",
        "<|im_start|>user\nSee <|vision_start|><|video_pad|><|vision_end|> here<|im_end|>\n"
        "<|im_start|>assistant\n"};
    static const char *const said[] = {"What?", "See <|video_pad|> here"};
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(4, 32, 16, 2);
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s", open, known, close);
    for (int i = 0; i < 2; i++) {
        vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
        vlcache_session *session = NULL;
        vlcache_logit logits[2];
        int tokens[2];
        options.chat_template = text;
        for (int k = 0; k < 2; k++) {
            vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
            prompt.raw = k == 0;
            prompt.text = k == 0 ? raw[i] : said[i];
            prompt.videos = &video;
            prompt.n_videos = 1;
            ck_ok(vlcache_session_create(model, &options, &session));
            const vlcache_answer *answer = ask(session, &prompt, 1);
            logits[k] = answer->first_logits[0];
            tokens[k] = answer->prompt_tokens;
            vlcache_session_destroy(&session);
        }
        ck_assert_int_eq(tokens[0], tokens[1]);
        ck_assert_int_eq(logits[0].token, logits[1].token);
        ck_assert_float_eq(logits[0].logit, logits[1].logit);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* A video is compressed as pictures are: rows behind it choose, and a budget of 1 changes nothing. */
START_TEST(videos_are_compressed) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(12, 48, 32, 2);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    int32_t full[8];
    prompt.text = "What moves?";
    prompt.videos = &video;
    prompt.n_videos = 1;
    static const struct {
        const char *policy;
        double budget;
    } ways[] = {{"full", 1}, {"vlcache", 1}, {"vlcache", 0.2}, {"centroids", 0.3}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        vlcache_session *session = talk_open(model, ways[i].policy, ways[i].budget);
        const vlcache_answer *answer = ask(session, &prompt, 8);
        ck_assert_int_gt(answer->visual_tokens, 20);
        ck_assert_int_lt(answer->post_vision_tokens, answer->prompt_tokens - answer->visual_tokens);
        if (i == 0) memcpy(full, answer->tokens, sizeof full);
        if (ways[i].budget == 1) ck_assert_mem_eq(answer->tokens, full, sizeof full);
        if (ways[i].budget < 1) ck_assert(answer->compress.budget_kept < ways[i].budget + 0.1);
        ck_assert(answer->compressed == (i > 0));
        vlcache_session_destroy(&session);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

START_TEST(what_cannot_be_asked) {
    vlcache_model *qwen = open_model("qwen2_5-vl"), *llava = open_model("llava-llama-mha");
    vlcache_video *video = moving(2, 32, 16, 2), *none = NULL;
    vlcache_session *session = talk_open(qwen, "full", 1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    const vlcache_answer *answer;
    prompt.text = "What?";
    prompt.n_videos = 1;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "prompt: videos");
    prompt.videos = &none;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "videos[0]");
    prompt.videos = &video;
    prompt.video_fps = -1;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "video_fps");
    prompt.video_fps = 0;
    prompt.video_frames = SIZE_MAX;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "video_frames");
    prompt.video_frames = 0;
    prompt.n_videos = 65;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "at most 64");
    prompt.n_videos = 1;
    prompt.raw = true;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT,
             "0 <|video_pad|> marks for 1 video");
    vlcache_session_destroy(&session);
    session = talk_open(llava, "full", 1);
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_UNSUPPORTED,
             "models of the family llava take no videos");
    vlcache_session_destroy(&session);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&qwen);
    vlcache_model_destroy(&llava);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("clip");
    TCase *tests = tcase_create("clip");
    suite_balance(tests);
    tcase_add_loop_test(tests, prompts, 0, N_FOLDERS);
    tcase_add_loop_test(tests, places_of_tokens, 0, N_FOLDERS);
    tcase_add_loop_test(tests, pixels_of_frames, 0, N_FOLDERS);
    tcase_add_loop_test(tests, logits_and_greedy_tokens, 0, N_FOLDERS);
    tcase_add_loop_test(tests, looks_in_parts, 0, N_FOLDERS);
    tcase_add_test(tests, frames_are_chosen);
    tcase_add_test(tests, sizes_of_frames);
    tcase_add_loop_test(tests, sessions_give_the_tokens, 0, N_FOLDERS);
    tcase_add_test(tests, templates_place_videos);
    tcase_add_test(tests, videos_are_compressed);
    tcase_add_test(tests, what_cannot_be_asked);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
