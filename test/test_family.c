/*
 * test_family.c - families as objects: what pictures become against transformers (goldens of
 * data/make_image_goldens.py), grids, positions, and prompts whose pictures have text among their tokens.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prompt.h"
#include "models/families.h"
#include "models/llava.h"
#include "models/llava_next.h"
#include "support/picture.h"
#include "support/scratch.h"
#include "support/suite.h"

static int pinpoints[5][2] = {{28, 56}, {56, 28}, {56, 56}, {84, 28}, {28, 84}};

/* The settings of a case; one at a time. */
static vlci_llava eyes;
static vlci_config config;

static void config_make(int family, int side, int patch) {
    config = (vlci_config){.family = family ? &vlci_family_llava_next : &vlci_family_llava, .eyes = &eyes};
    eyes = (vlci_llava){.vision = {.image_size = side, .patch_size = patch}};
    eyes.processor = (vlci_processor){.resize = true, .shortest_edge = side, .resample = 3, .crop = true};
    eyes.processor.crop_width = eyes.processor.crop_height = side;
    eyes.processor.rescale_factor = 1.0f / 255.0f;
    if (family) {
        eyes.pinpoints = pinpoints;
        eyes.n_pinpoints = 5;
    }
}

static vlcache_status layout(int width, int height, vlci_picture_layout *out) {
    return config.family->layout(&config, width, height, out);
}

static vlcache_status prepare(const vlcache_image *image, vlci_pixels *out) {
    return config.family->prepare(&config, image, out);
}

/* One record of prepare.bin: pixels to the bit, token order exactly. */
static void check_record(const uint8_t **p, int side, int patch, int family) {
    config_make(family, side, patch);
    int width = golden_take(p), height = golden_take(p);
    eyes.processor.resample = golden_take(p);
    eyes.processor.shortest_edge = golden_take(p);
    eyes.processor.resize_width = golden_take(p);
    eyes.processor.resize_height = golden_take(p);
    eyes.processor.crop = golden_take(p) != 0;
    eyes.processor.pad_square = golden_take(p) != 0;
    for (int c = 0; c < 3; c++) eyes.processor.background[c] = golden_take(p);
    int tiles = golden_take(p), tokens = golden_take(p);
    vlcache_image *image = golden_picture(width, height);
    vlci_picture_layout plan;
    vlci_pixels pixels;
    ck_assert_msg(layout(width, height, &plan) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_msg(prepare(image, &pixels) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_int_eq(plan.n_tokens, tokens);
    ck_assert_int_eq(plan.tiles, tiles);
    ck_assert_int_eq(pixels.tiles, tiles);
    ck_assert_int_eq(pixels.width, side);
    for (int i = 0; i < tokens; i++) ck_assert_int_eq(plan.source[i], golden_take(p));
    for (int i = 0; i < tiles * 3 * side * side; i++)
        ck_assert_msg(pixels.data[i] == (float)(*p)[i],
                      "%d x %d, family %d, resample %d, value %d: %g, golden %d", width, height, family,
                      eyes.processor.resample, i, pixels.data[i], (*p)[i]);
    *p += tiles * 3 * side * side;
    vlci_pixels_release(&pixels);
    vlci_picture_layout_release(&plan);
    vlcache_image_destroy(&image);
}

START_TEST(prepares_as_transformers) {
    size_t bytes;
    uint8_t *file = golden_read(VLCACHE_TEST_DATA "/image/prepare.bin", &bytes);
    const uint8_t *p = file;
    int side = golden_take(&p), patch = golden_take(&p), records = 0;
    for (int family; (family = golden_take(&p)) >= 0; records++) check_record(&p, side, patch, family);
    ck_assert_int_gt(records, 55);
    free(file);
}
END_TEST

START_TEST(normalises) {
    const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    config_make(0, 28, 7);
    vlcache_image *image = golden_picture(28, 28);
    vlci_pixels pixels;
    eyes.processor.rescale = eyes.processor.normalize = true;
    memcpy(eyes.processor.mean, mean, sizeof mean);
    memcpy(eyes.processor.std, std, sizeof std);
    ck_assert_int_eq(prepare(image, &pixels), VLCACHE_OK);
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
    config_make(family, 28, 7);
    eyes.processor.pad_square = !family;
    vlci_picture_layout plan;
    ck_assert_int_eq(layout(width, height, &plan), VLCACHE_OK);
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
    vlci_picture_layout_release(&plan);
}

START_TEST(cells_cover_the_picture) {
    const int sizes[][2] = {{28, 28}, {56, 28}, {112, 56}, {100, 100}, {333, 500}, {500, 333}, {640, 260}};
    for (int i = 0; i < 7; i++) {
        check_cells(0, sizes[i][0], sizes[i][1]);
        check_cells(1, sizes[i][0], sizes[i][1]);
    }
    config_make(0, 28, 7); // centre crop of a 56 x 28 picture: columns 14..42
    vlci_picture_layout plan;
    eyes.keep_class = true;
    ck_assert_int_eq(layout(56, 28, &plan), VLCACHE_OK);
    ck_assert_int_eq(plan.n_tokens, 17);
    ck_assert_int_eq(plan.source[0], 0);
    ck_assert_float_eq(plan.cell[0][2], 0);
    ck_assert_float_eq(plan.cell[1][0], 14);
    ck_assert_float_eq(plan.cell[1][2], 21);
    ck_assert_float_eq(plan.cell[16][2], 42);
    ck_assert_float_eq(plan.cell[16][3], 28);
    vlci_picture_layout_release(&plan);
}
END_TEST

START_TEST(keeps_the_class_token_once) {
    config_make(1, 28, 7);
    vlci_picture_layout plain, kept;
    ck_assert_int_eq(layout(100, 60, &plain), VLCACHE_OK);
    eyes.keep_class = true;
    ck_assert_int_eq(layout(100, 60, &kept), VLCACHE_OK);
    ck_assert_int_eq(kept.n_tokens, plain.n_tokens + 1);
    ck_assert_int_eq(kept.source[0], 0);
    for (int i = 0; i < plain.n_tokens; i++) {
        int row = plain.source[i], expect = row < 0 ? -1 : row / 16 * 17 + 1 + row % 16;
        ck_assert_int_eq(kept.source[i + 1], expect);
    }
    vlci_picture_layout_release(&kept);
    vlci_picture_layout_release(&plain);
}
END_TEST

START_TEST(refuses_sizes_that_do_not_fit) {
    config_make(0, 28, 7);
    vlci_picture_layout plan;
    ck_assert_int_eq(layout(0, 5, &plan), VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(layout(5, 70000, &plan), VLCACHE_E_ARGUMENT);
    eyes.processor.crop_width = 14;
    ck_assert_int_eq(layout(5, 5, &plan), VLCACHE_E_UNSUPPORTED);
    config_make(0, 28, 7);
    eyes.processor.crop = false; // the short side only: not square
    ck_assert_int_eq(layout(50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    config_make(1, 28, 7);
    eyes.n_pinpoints = 0;
    ck_assert_int_eq(layout(50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    int odd[1][2] = {{30, 60}};
    eyes.pinpoints = odd;
    eyes.n_pinpoints = 1;
    ck_assert_int_eq(layout(50, 60, &plan), VLCACHE_E_UNSUPPORTED);
    config_make(0, 28, 7);
    eyes.processor.resample = 9;
    vlcache_image *image = golden_picture(5, 5);
    vlci_pixels pixels;
    ck_assert_int_eq(prepare(image, &pixels), VLCACHE_E_ARGUMENT);
    ck_assert_ptr_null(pixels.data);
    vlcache_image_destroy(&image);
}
END_TEST

START_TEST(long_thin_pictures_cost_little) {
    const int sizes[][2] = {{1, 60000}, {60000, 1}, {65535, 2}};
    for (int i = 0; i < 3; i++) {
        vlcache_image *image = golden_picture(sizes[i][0], sizes[i][1]);
        for (int mode = 0; mode < 3; mode++) {
            config_make(mode == 2, 28, 7);
            eyes.processor.pad_square = mode == 1;
            vlci_pixels pixels;
            ck_assert_int_eq(prepare(image, &pixels), VLCACHE_OK);
            vlci_pixels_release(&pixels);
        }
        vlcache_image_destroy(&image);
    }
}
END_TEST

/* Tiles need not be square: a picture as it is, cut into 3 x 2 of them, behind one that stays untouched. */
START_TEST(oblong_tiles) {
    const vlci_processor as_it_is = {0};
    vlcache_image *image = golden_picture(36, 10);
    vlci_pixels pixels;
    vlci_view view;
    ck_ok(vlci_view_make(&as_it_is, 36, 10, &view));
    ck_ok(vlci_pixels_create(7, 12, 5, &pixels));
    for (int i = 0; i < 3 * 12 * 5; i++) pixels.data[i] = -1;
    ck_ok(vlci_pixels_fill(&as_it_is, image, &view, 1, &pixels));
    for (int i = 0; i < 3 * 12 * 5; i++) ck_assert_float_eq(pixels.data[i], -1);
    const uint8_t *rgb = vlcache_image_pixels(image);
    for (int y = 0; y < 10; y++)
        for (int x = 0; x < 36; x++)
            for (int c = 0; c < 3; c++) {
                int tile = 1 + y / 5 * 3 + x / 12;
                ck_assert_float_eq(pixels.data[((tile * 3 + c) * 5 + y % 5) * 12 + x % 12],
                                   rgb[(y * 36 + x) * 3 + c]);
            }
    vlci_pixels_release(&pixels);
    vlcache_image_destroy(&image);
}
END_TEST

/* Grids list every token that shows something, once, where its cell lies. */
static void check_grids(int family, bool class_token, int width, int height) {
    config_make(family, 28, 7);
    eyes.keep_class = class_token;
    vlci_picture_layout plan;
    ck_assert_int_eq(layout(width, height, &plan), VLCACHE_OK);
    ck_assert_int_eq(plan.n_grids, 1 + family);
    ck_assert_int_eq(plan.n, plan.n_tokens);
    int *seen = calloc((size_t)plan.n, sizeof *seen);
    for (int i = 0; i < plan.n_grids; i++) {
        const vlci_layout_grid *g = &plan.grids[i];
        for (int y = 0; y < g->rows; y++)
            for (int x = 0; x < g->columns; x++) {
                int entry = g->first + y * g->stride + x;
                const float *cell = plan.cell[-1 - plan.entry[entry]];
                ck_assert_int_eq(seen[entry]++, 0);
                if (x) ck_assert(cell[0] >= plan.cell[-1 - plan.entry[entry - 1]][0]);
                if (y) ck_assert(cell[1] >= plan.cell[-1 - plan.entry[entry - g->stride]][1]);
            }
    }
    for (int i = 0; i < plan.n; i++) {
        bool shows = !(class_token && i == 0) && plan.source[i] >= 0;
        ck_assert_int_eq(plan.entry[i], -1 - i);
        ck_assert_int_eq(seen[i], shows);
    }
    free(seen);
    vlci_picture_layout_release(&plan);
}

START_TEST(grids) {
    for (int i = 0; i < 4; i++) {
        check_grids(i / 2, i % 2, 100, 60);
        check_grids(i / 2, i % 2, 31, 200);
    }
    config_make(1, 28, 7); /* so thin that its tiles show nothing of it */
    vlci_picture_layout plan;
    ck_assert_int_eq(layout(1, 60000, &plan), VLCACHE_OK);
    ck_assert_int_eq(plan.n_grids, 1);
    vlci_picture_layout_release(&plan);
}
END_TEST

/* ---- families ------------------------------------------------------------------------------------------ */

START_TEST(table) {
    ck_assert_ptr_eq(vlci_family_find("llava"), &vlci_family_llava);
    ck_assert_ptr_eq(vlci_family_find("llava_next"), &vlci_family_llava_next);
    ck_assert_ptr_null(vlci_family_find("llava_llama"));
    for (const vlci_family *const *row = vlci_families; *row; row++) {
        const vlci_family *f = *row;
        ck_assert(f->name && f->mark && f->names && f->settings && f->load && f->release && f->describe);
        ck_assert(!f->layout == !f->prepare && !f->layout == !f->look &&
                  f->positions); /* text models alone */
        vlci_config nothing = {.family = f};
        f->release(&nothing);
    }
}
END_TEST

START_TEST(positions_count) {
    int32_t position[5][3], next = 0;
    config_make(0, 28, 7);
    config.family->positions(&config, NULL, 0, 7, 5, position, &next);
    for (int i = 0; i < 5; i++)
        for (int axis = 0; axis < 3; axis++) ck_assert_int_eq(position[i][axis], 7 + i);
    ck_assert_int_eq(next, 12);
}
END_TEST

/* ---- prompts ------------------------------------------------------------------------------------------- */

enum { ENTRIES = 7 };

/* Begins with a word, then two visual tokens, a word, two more, a word: a 2 x 2 grid with row ends. */
static vlcache_status wordy_layout(const vlci_config *of, int width, int height, vlci_picture_layout *out) {
    static const int32_t entries[ENTRIES] = {5, -1, -2, 6, -3, -4, 7};
    (void)of;
    vlcache_status status = vlci_picture_layout_create(ENTRIES, 4, 1, false, out);
    if (status) return status;
    memcpy(out->entry, entries, sizeof entries);
    out->grids[0] = (vlci_layout_grid){.first = 1, .rows = 2, .columns = 2, .stride = 3};
    for (int i = 0; i < 4; i++) {
        float cell[4] = {(float)(i % 2), (float)(i / 2), (float)width, (float)height};
        memcpy(out->cell[i], cell, sizeof cell);
    }
    return VLCACHE_OK;
}

/* "x <image> y <image> z" with and without words in the pictures. */
START_TEST(text_among_visual_tokens) {
    vlcache_model *model = NULL;
    ck_ok(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/llava-llama-mha", NULL, &model));
    vlci_family wordy = *model->family;
    wordy.layout = wordy_layout;
    const vlci_family *own = model->family;
    model->family = &wordy;
    vlcache_image *one = golden_picture(8, 9), *two = golden_picture(10, 11);
    const vlcache_image *images[] = {one, two};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = "x<image>y<image>z";
    asked.images = images;
    asked.n_images = 2;
    asked.raw = true;
    vlci_turn turn = {.chat = model->chat, .open = 3};
    vlci_prompt p;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &p));
    ck_assert_int_eq(p.visual, 8);
    ck_assert_uint_eq(p.n_images, 2);
    ck_assert_int_eq(p.ids[0], 3);
    int at[2] = {p.picture[0].row, p.picture[1].row}, after = 0, seen = 0;
    ck_assert_int_eq(p.ids[at[0]], 5);
    ck_assert_int_eq(p.ids[at[1] + 3], 6);
    for (int i = 0; i < p.n; i++) {
        if (p.ids[i] < 0) {
            ck_assert_int_eq(p.ids[i], -1 - seen);
            ck_assert_int_eq(p.where[seen].position, i);
            ck_assert_int_eq(p.where[seen].image, seen / 4);
            ck_assert_float_eq(p.where[seen].x1, seen < 4 ? 8 : 10);
            ck_assert_float_eq(p.where[seen].y0, (float)(seen % 4 / 2));
            seen++;
        } else if (seen && i - at[0] >= ENTRIES && (i < at[1] || i - at[1] >= ENTRIES)) {
            ck_assert_int_eq(p.after_at[after++], i); /* words between tokens are the picture's own */
        }
    }
    ck_assert_int_eq(p.after, after);
    ck_assert_int_eq(p.n_grids, 2);
    for (int i = 0; i < 2; i++) {
        const vlci_token_grid *g = &p.grids[i];
        ck_assert_int_eq(g->first, at[i] + 1);
        ck_assert(g->rows == 2 && g->columns == 2 && g->stride == 3);
        ck_assert_int_eq(p.ids[g->first + g->stride], -3 - 4 * i);
    }
    vlci_prompt_release(&p);
    model->family = own;
    vlcache_image_destroy(&one);
    vlcache_image_destroy(&two);
    vlcache_model_destroy(&model);
}
END_TEST

/* A picture's visual tokens, looked at alone. */
static float *look_alone(const vlcache_model *model, const vlcache_image *image, size_t *n) {
    vlci_picture_layout alone;
    vlci_pixels pixels;
    cl_mem tokens = NULL;
    int width, height;
    vlcache_image_size(image, &width, &height);
    ck_ok(model->family->layout(&model->config, width, height, &alone));
    ck_ok(model->family->prepare(&model->config, image, &pixels));
    ck_ok(model->family->look(&model->config, &pixels, &alone, &tokens));
    *n = (size_t)alone.n_tokens * (size_t)model->config.text.hidden;
    float *values = malloc(*n * sizeof *values);
    suite_download(tokens, values, *n * sizeof *values);
    suite_release(tokens);
    vlci_pixels_release(&pixels);
    vlci_picture_layout_release(&alone);
    return values;
}

/* `features` are the tokens of pictures looked at alone, one after the other. */
static void check_looked(const vlcache_model *model, const vlcache_image *const *images, int n_images,
                         cl_mem features, int n_tokens) {
    size_t all = (size_t)n_tokens * (size_t)model->config.text.hidden, at = 0;
    float *got = malloc(all * sizeof *got);
    suite_download(features, got, all * sizeof *got);
    for (int i = 0; i < n_images; i++) {
        size_t n;
        float *want = look_alone(model, images[i], &n);
        for (size_t k = 0; k < n; k++) ck_assert_float_eq_tol(got[at + k], want[k], 1e-5f);
        at += n;
        free(want);
    }
    ck_assert_uint_eq(at, all);
    free(got);
}

/* Pictures of two shapes in one prompt: each is what it is alone, looked at one after the other as on
 * processors, or together. */
START_TEST(pictures_side_by_side) {
    vlcache_model *model = NULL;
    ck_ok(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/next-llama-mqa", NULL, &model));
    vlcache_image *one = golden_picture(100, 60), *two = golden_picture(31, 90);
    const vlcache_image *images[] = {one, two};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = "What?";
    asked.images = images;
    asked.n_images = 2;
    vlci_turn turn = {.chat = model->chat, .open = -1};
    vlci_prompt p;
    vlcache_timings timings = {0};
    cl_mem features = NULL;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &p));
    vlcache_device *device = suite_device();
    bool wide = device->caps.wide_vectors;
    device->caps.wide_vectors = _i == 0;
    vlcache_status status = vlci_prompt_look(model, &asked, &p, NULL, NULL, &timings, &features);
    device->caps.wide_vectors = wide;
    ck_ok(status);
    check_looked(model, images, 2, features, p.visual);
    suite_release(features);
    vlci_prompt_release(&p);
    vlcache_image_destroy(&one);
    vlcache_image_destroy(&two);
    vlcache_model_destroy(&model);
}
END_TEST

/* The same two in one run of the tower, as devices that one does not fill look at them. */
START_TEST(pictures_together) {
    static const char *const models[] = {"/models/next-llama-mqa", "/models/smolvlm-tiles"};
    vlcache_model *model = NULL;
    char folder[256];
    snprintf(folder, sizeof folder, "%s%s", VLCACHE_TEST_DATA, models[_i]);
    ck_ok(vlcache_model_load(suite_device(), folder, NULL, &model));
    const vlci_family *family = model->family;
    vlcache_image *images[] = {golden_picture(100, 60), golden_picture(31, 90), golden_picture(64, 64)};
    enum { N = sizeof images / sizeof *images };
    vlci_picture_layout layout[N], joined;
    const vlci_picture_layout *layouts[N];
    vlci_pixels part[N], pixels;
    cl_mem tokens = NULL;
    for (int i = 0; i < N; i++) {
        int width, height;
        vlcache_image_size(images[i], &width, &height);
        ck_ok(family->layout(&model->config, width, height, &layout[i]));
        ck_ok(family->prepare(&model->config, images[i], &part[i]));
        layouts[i] = &layout[i];
    }
    ck_ok(vlci_pixels_join(part, N, &pixels));
    ck_ok(vlci_picture_layout_join(layouts, N, family->together(&model->config), &joined));
    ck_assert_int_eq(joined.tiles, pixels.tiles);
    ck_ok(family->look(&model->config, &pixels, &joined, &tokens));
    check_looked(model, (const vlcache_image *const *)images, N, tokens, joined.n_tokens);
    part[1].width++;
    ck_fails(vlci_pixels_join(part, N, &(vlci_pixels){0}), VLCACHE_E_INTERNAL, "pictures together");
    for (int i = 0; i < N; i++) {
        vlci_picture_layout_release(&layout[i]);
        vlci_pixels_release(&part[i]);
        vlcache_image_destroy(&images[i]);
    }
    suite_release(tokens);
    vlci_pixels_release(&pixels);
    vlci_picture_layout_release(&joined);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

static vlcache_status work(const vlcache_image *image) {
    vlci_picture_layout plan = {0};
    vlci_pixels pixels = {0};
    config_make(1, 28, 7);
    vlcache_status status = prepare(image, &pixels);
    if (!status) status = layout(50, 90, &plan);
    vlci_pixels_release(&pixels);
    config_make(0, 28, 7);
    eyes.processor.resample = 0;
    if (!status) status = prepare(image, &pixels);
    vlci_picture_layout_release(&plan);
    vlci_pixels_release(&pixels);
    return status;
}

START_TEST(memory) {
    vlcache_image *image = golden_picture(50, 90);
    bool failed = true;
    for (long at = 0; failed; at++) {
        failing_start(at);
        vlcache_status status = work(image);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
    vlcache_image_destroy(&image);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("family");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, prepares_as_transformers);
    tcase_add_test(cases, normalises);
    tcase_add_test(cases, cells_cover_the_picture);
    tcase_add_test(cases, keeps_the_class_token_once);
    tcase_add_test(cases, refuses_sizes_that_do_not_fit);
    tcase_add_test(cases, long_thin_pictures_cost_little);
    tcase_add_test(cases, oblong_tiles);
    tcase_add_test(cases, grids);
    tcase_add_test(cases, table);
    tcase_add_test(cases, positions_count);
    tcase_add_test(cases, text_among_visual_tokens);
    tcase_add_loop_test(cases, pictures_side_by_side, 0, 2);
    tcase_add_loop_test(cases, pictures_together, 0, 2);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
