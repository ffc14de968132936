/**
 * test_families.c - every family's tiny folders against transformers, through what families show to the
 * engine and no more: prompt -> ids and positions, pictures -> pixels -> visual tokens, layers, logits,
 * greedy tokens. data/families makes the folders; data/README.md lists the taps.
 *
 * Stages behind the pixels get the golden's pixels, so that a grey level of a resize does not hide what they
 * do.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "support/rig.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/taps.h"

/** A folder, and by how much its pixels may differ, f32: 0 where the goldens' processor computes as ours. */
static const struct {
    const char *name;
    double pixels;
} FOLDERS[] = {
    {"next-vicuna", 0},    {"smolvlm-tiles", 0}, {"idefics3-hub", 0},    {"onevision-hub", 0},
    {"onevision-v5", 0},   {"internvl-hub", 0},  {"internvl-qknorm", 0}, {"paligemma-hub", 0},
    {"paligemma-v5", 0},   {"paligemma2", 0},    {"qwen2-vl-hub", 0},    {"qwen2_5-vl", 0},
    {"qwen2_5-vl-hub", 0}, {"qwen3-vl", 0},      {"mllama-hub", 0},      {"mllama-v5", 0},
};
enum { N_FOLDERS = sizeof FOLDERS / sizeof *FOLDERS, MOST_PICTURES = 4 };

/** A folder opened for a test: its model and an array of cases. */
typedef struct fixture {
    char folder[512];
    vlcache_model *model;
    json_t *cases;
    double pixels;
} fixture;

/** One case of it. */
typedef struct golden {
    taps taps;
    vlcache_image *image[MOST_PICTURES];
    size_t n_images;
    const char *text;   /**< of the prompt */
    vlci_prompt prompt; /**< laid out by us */
} golden;

static void open_fixture(fixture *f, int folder, vlcache_dtype dtype) {
    char path[600];
    json_error_t error;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    *f = (fixture){.pixels = FOLDERS[folder].pixels};
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", VLCACHE_TEST_DATA, FOLDERS[folder].name);
    snprintf(path, sizeof path, "%s/golden/cases.json", f->folder);
    f->cases = json_load_file(path, 0, &error);
    ck_assert_msg(json_array_size(f->cases) > 0, "%s: %s", path, error.text);
    ck_ok(vlcache_model_load(suite_device(), f->folder, &options, &f->model));
}

static void close_fixture(fixture *f) {
    json_decref(f->cases);
    vlcache_model_destroy(&f->model);
}

static const char *golden_path(const fixture *f, const json_t *file, char path[static 700]) {
    ck_assert(json_is_string(file));
    snprintf(path, 700, "%s/golden/%s", f->folder, json_string_value(file));
    return path;
}

static void open_golden(const fixture *f, const json_t *item, golden *g) {
    char path[700], message[900];
    const json_t *files = json_object_get(item, "images");
    *g = (golden){.n_images = json_array_size(files),
                  .text = json_string_value(json_object_get(item, "prompt"))};
    ck_assert_msg(taps_load(golden_path(f, json_object_get(item, "taps"), path), &g->taps, message,
                            sizeof message),
                  "%s", message);
    ck_assert_uint_le(g->n_images, MOST_PICTURES);
    for (size_t i = 0; i < g->n_images; i++)
        ck_ok(vlcache_image_load(golden_path(f, json_array_get(files, i), path), &g->image[i]));
    const vlci_turn turn = {.chat = f->model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = g->text;
    asked.raw = true;
    asked.images = (const vlcache_image *const *)g->image;
    asked.n_images = g->n_images;
    ck_ok(vlci_prompt_create(f->model, &asked, &turn, &g->prompt));
}

static void close_golden(golden *g) {
    vlci_prompt_release(&g->prompt);
    for (size_t i = 0; i < g->n_images; i++) vlcache_image_destroy(&g->image[i]);
    taps_release(&g->taps);
}

/** Runs a check over all cases of folder `_i`. */
static void each_case(int folder, void (*check)(const fixture *f, golden *g)) {
    fixture f;
    size_t k;
    json_t *item;
    uint64_t before = vlci_memory_now(suite_device());
    open_fixture(&f, folder, VLCACHE_DTYPE_F32);
    json_array_foreach(f.cases, k, item) {
        golden g;
        open_golden(&f, item, &g);
        check(&f, &g);
        close_golden(&g);
    }
    close_fixture(&f);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}

/** |got - want| <= atol + rtol * |want| everywhere; NaN fails. */
static void assert_near(const fixture *f, const char *what, const float *got, const float *want, size_t n,
                        double atol, double rtol) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= atol + rtol * fabs(want[i]),
                      "%s: %s[%zu]: %.9g, not %.9g", f->folder, what, i, got[i], want[i]);
}

/* ---- the prompt: ids, text behind pictures, positions ---- */

static void check_positions(const fixture *f, const golden *g, const tap *want) {
    size_t n = (size_t)g->prompt.n, axes = want->n / n;
    int32_t(*position)[3] = malloc(n * sizeof *position), next;
    ck_assert(want->n == axes * n && (axes == 1 || axes == 3));
    f->model->family->positions(&f->model->config, g->prompt.picture, g->prompt.n_images, 0, g->prompt.n,
                                position, &next);
    for (size_t i = 0; i < n; i++)
        for (size_t axis = 0; axis < 3; axis++)
            ck_assert_msg(position[i][axis] == want->i32[axes == 3 ? axis * n + i : i],
                          "%s: position %zu, axis %zu", f->folder, i, axis);
    free(position);
}

/* Whether pictures are no rows, but what layers of cross-attention look at. */
static bool aside(const golden *g) {
    return g->n_images && g->prompt.layout[0].aside;
}

/* The prompt is the words as they are; text behind the last mark sees its picture. */
static void check_words(const fixture *f, const golden *g) {
    const tap *want = taps_find(&g->taps, "prompt.ids");
    int last = g->prompt.picture[g->n_images - 1].row;
    ck_assert_uint_eq((size_t)g->prompt.n, want->n);
    for (int i = 0; i < g->prompt.n; i++) ck_assert_int_eq(g->prompt.ids[i], want->i32[i]);
    ck_assert_int_eq(g->prompt.ids[last], f->model->config.image_token);
    int from = last + 1 < g->prompt.n ? last + 1 : last; /* the mark stands for text that is not there */
    ck_assert_int_eq(g->prompt.after, g->prompt.n - from);
    for (int i = 0; i < g->prompt.after; i++) ck_assert_int_eq(g->prompt.after_at[i], from + i);
}

/* Whether a row is among those of a picture: its tokens, and marks between and around them. */
static bool among_pictures(const golden *g, int row) {
    bool among = false;
    for (size_t i = 0; i < g->n_images; i++) {
        const vlci_placed_picture *at = &g->prompt.picture[i];
        among |= row >= at->row && row < at->row + at->layout->n;
    }
    return among;
}

static void check_prompt(const fixture *f, golden *g) {
    const tap *want = taps_find(&g->taps, "prompt.ids"), *positions = taps_find(&g->taps, "positions");
    int seen = 0, after = 0;
    if (aside(g)) {
        check_words(f, g);
        return;
    }
    ck_assert_uint_eq((size_t)g->prompt.n, want->n);
    for (int i = 0; i < g->prompt.n; i++) {
        int id = g->prompt.ids[i];
        bool visual = want->i32[i] == f->model->config.image_token;
        ck_assert_msg(id == (visual ? -1 - seen : want->i32[i]), "%s: row %d is %d, not %d", f->folder, i, id,
                      want->i32[i]);
        if (seen && !among_pictures(g, i)) ck_assert_int_eq(g->prompt.after_at[after++], i);
        seen += visual;
    }
    ck_assert_int_eq(seen, g->prompt.visual);
    if (seen) ck_assert_int_eq(after, g->prompt.after);
    if (positions) check_positions(f, g, positions);
}

START_TEST(prompts) {
    each_case(_i, check_prompt);
}
END_TEST

/* ---- layouts: what tokens show ---- */

/* The token of an entry of a grid; -1: it is none. */
static int token_of(const vlci_picture_layout *l, int entry) {
    if (l->aside) return entry;
    return l->entry[entry] < 0 ? -1 - l->entry[entry] : -1;
}

/* Cells lie in their picture; grids list each token that shows something, once, in reading order. */
static void check_layout(const vlci_picture_layout *l, int width, int height) {
    int n = l->aside ? l->n_tokens : l->n;
    int *listed = calloc((size_t)n + 1, sizeof *listed);
    for (int i = 0; i < l->n_grids; i++) {
        const vlci_layout_grid *g = &l->grids[i];
        ck_assert(g->rows > 0 && g->columns > 0);
        for (int at = 0; at < g->rows * g->columns; at++) {
            int y = at / g->columns, x = at % g->columns, entry = g->first + y * g->stride + x;
            ck_assert(entry >= 0 && entry < n && token_of(l, entry) >= 0);
            ck_assert_int_eq(listed[entry]++, 0);
            const float *cell = l->cell[token_of(l, entry)];
            if (x) ck_assert_float_ge(cell[0], l->cell[token_of(l, entry - 1)][0]);
            if (y) ck_assert_float_ge(cell[1], l->cell[token_of(l, entry - g->stride)][1]);
        }
    }
    int token = 0;
    for (int i = 0; i < n; i++) {
        if (token_of(l, i) < 0) continue;
        const float *c = l->cell[token];
        ck_assert_int_eq(token_of(l, i), token++);
        ck_assert(c[0] >= 0 && c[1] >= 0 && c[2] <= (float)width && c[3] <= (float)height);
        ck_assert(c[0] <= c[2] && c[1] <= c[3]);
        ck_assert(listed[i] || (c[2] == 0 && c[3] == 0));
    }
    ck_assert_int_eq(token, l->n_tokens);
    free(listed);
}

static void check_layouts(const fixture *f, golden *g) {
    (void)f;
    for (size_t i = 0; i < g->n_images; i++) {
        int width, height;
        vlcache_image_size(g->image[i], &width, &height);
        check_layout(&g->prompt.layout[i], width, height);
    }
}

START_TEST(layouts) {
    each_case(_i, check_layouts);
}
END_TEST

/* ---- pixels ---- */

static void check_pixels(const fixture *f, golden *g) {
    const tap *want = taps_find(&g->taps, "vision.pixels"), *tiles = taps_find(&g->taps, "vision.tiles");
    size_t at = 0;
    for (size_t i = 0; i < g->n_images; i++) {
        vlci_pixels got;
        ck_ok(
            vlci_family_among(f->model->family, g->n_images)->prepare(&f->model->config, g->image[i], &got));
        ck_assert_int_eq(got.tiles, tiles->i32[i]);
        ck_assert_int_eq(got.tiles, g->prompt.layout[i].tiles);
        size_t n = (size_t)got.tiles * 3 * (size_t)got.height * (size_t)got.width;
        ck_assert_uint_le(at + n, want->n);
        assert_near(f, "pixels", got.data, want->f32 + at, n, f->pixels + 1e-5, 1e-5);
        at += n;
        vlci_pixels_release(&got);
    }
    ck_assert_uint_eq(at, want ? want->n : 0);
}

START_TEST(pixels) {
    each_case(_i, check_pixels);
}
END_TEST

/* ---- the whole way on the device ---- */

/* A buffer on the device against a golden tap; one that the case does not have is not looked at. */
static void assert_tap(const fixture *f, const char *what, cl_mem memory, const tap *want, double atol,
                       double rtol) {
    if (!want) return;
    float *got = malloc(want->n * sizeof *got);
    suite_download(memory, got, want->n * sizeof *got);
    assert_near(f, what, got, want->f32, want->n, atol, rtol);
    free(got);
}

/* All pictures' visual tokens in prompt order, from the golden's pixels, which are as many as ours; NULL
 * without pictures. */
static cl_mem look(const fixture *f, const golden *g) {
    const tap *prepared = taps_find(&g->taps, "vision.pixels"), *tiles = taps_find(&g->taps, "vision.tiles");
    const vlci_text_config *text = &f->model->config.text;
    const vlci_family *family = vlci_family_among(f->model->family, g->n_images);
    size_t row = (size_t)text->hidden * (1 + (size_t)text->deepstack) * sizeof(float), at = 0, from = 0;
    if (!g->n_images) return NULL;
    cl_mem all = suite_poison((size_t)g->prompt.features * row);
    for (size_t i = 0; i < g->n_images; i++) {
        const vlci_picture_layout *layout = &g->prompt.layout[i];
        vlci_pixels seen;
        cl_mem tokens = NULL;
        ck_ok(family->prepare(&f->model->config, g->image[i], &seen));
        size_t n = (size_t)seen.tiles * 3 * (size_t)seen.width * (size_t)seen.height;
        ck_assert_int_eq(seen.tiles, tiles->i32[i]);
        ck_assert_uint_le(from + n, prepared->n);
        memcpy(seen.data, prepared->f32 + from, n * sizeof *seen.data);
        ck_ok(family->look(&f->model->config, &seen, layout, &tokens));
        size_t bytes = (size_t)(layout->n_tokens + layout->n_unseen) * row;
        ck_ok(vlci_copy(suite_device(), tokens, 0, all, at, bytes));
        at += bytes;
        from += n;
        vlci_pixels_release(&seen);
        suite_release(tokens);
    }
    return all;
}

/* Mistakes of structure move logits by more than 1e-3 of the largest, erf for tanh by 4e-5. */
static void assert_logits(const fixture *f, cl_mem memory, const tap *want) {
    float *got = malloc(want->n * sizeof *got);
    double largest = 0, most = 0;
    suite_download(memory, got, want->n * sizeof *got);
    for (size_t i = 0; i < want->n; i++) {
        double error = fabs((double)got[i] - want->f32[i]);
        if (!(error <= most)) most = error;
        if (fabs(want->f32[i]) > largest) largest = fabs(want->f32[i]);
    }
    ck_assert_msg(most <= 2e-5 * largest, "%s: logits differ by %g of %g", f->folder, most, largest);
    free(got);
}

static void check_stages(const fixture *f, golden *g) {
    const tap *greedy = taps_find(&g->taps, "greedy.tokens");
    const vlci_text_config *text = &f->model->config.text;
    cl_mem visual = look(f, g);
    if (aside(g))
        assert_tap(f, "projector.features", visual, taps_find(&g->taps, "projector.features"), 2e-4, 2e-4);
    rig r;
    rig_create(&r, f->model, NULL);
    rig_begin_prompt(&r, &g->prompt, visual);
    assert_tap(f, "embed", r.reading.stream.x, taps_find(&g->taps, "embed"), 2e-4, 2e-4);
    for (int layer = 0; layer < text->layers; layer++) {
        ck_assert(rig_layer(&r) == (layer < text->layers - 1));
        assert_tap(f, "hidden", r.reading.stream.x, taps_findf(&g->taps, "layer.%d.hidden", layer), 2e-4,
                   2e-4);
    }
    assert_logits(f, r.shared.text.logits, taps_find(&g->taps, "logits"));
    for (size_t i = 0; i < greedy->n; i++) {
        int32_t token = rig_best(&r);
        ck_assert_msg(token == greedy->i32[i], "%s: token %zu is %d, not %d", f->folder, i, token,
                      greedy->i32[i]);
        rig_step(&r, token);
    }
    rig_release(&r);
    if (visual) suite_release(visual);
}

START_TEST(stages_and_greedy_tokens) {
    each_case(_i, check_stages);
}
END_TEST

/* ---- towers whose matrices read and leave 16 bits, in stripes, as on matrix units ---- */

/* Visual tokens, the first set of their features, against the rows that transformers has at pictures' ids, by
 * the largest of them. */
static void check_visual(const fixture *f, const golden *g, double share) {
    const tap *ids = taps_find(&g->taps, "prompt.ids"), *embed = taps_find(&g->taps, "embed");
    size_t width = (size_t)f->model->config.text.hidden, sets = 1 + (size_t)f->model->config.text.deepstack;
    size_t n = (size_t)g->prompt.features * sets * width, at = 0;
    float *got = malloc(n * sizeof *got);
    double largest = 0, most = 0;
    cl_mem visual = look(f, g);
    suite_download(visual, got, n * sizeof *got);
    suite_release(visual);
    if (aside(g)) embed = taps_find(&g->taps, "projector.features");
    for (size_t row = 0; row < (aside(g) ? n / width : ids->n); row++) {
        if (!aside(g) && ids->i32[row] != f->model->config.image_token) continue;
        for (size_t i = 0; i < width; i++) {
            double want = embed->f32[row * width + i], error = fabs((double)got[at + i] - want);
            if (!(error <= most)) most = error;
            if (fabs(want) > largest) largest = fabs(want);
        }
        at += sets * width;
    }
    ck_assert_uint_eq(at, n);
    ck_assert_msg(most <= share * largest, "%s: visual tokens differ by %g of %g", f->folder, most, largest);
    free(got);
}

/* Rows of 16 bits: in stripes, and in tiles, which AMX takes of bf16 alone. */
START_TEST(short_rows) {
    bool amx = suite_device()->caps.amx;
    suite_set("VLCACHE_GEMM", "matrix");
    for (int i = amx; i < 3; i++) {
        vlcache_dtype dtype = i ? VLCACHE_DTYPE_BF16 : VLCACHE_DTYPE_F16;
        fixture f;
        golden g;
        suite_force(i == 2 ? "gemm:pairs" : NULL);
        open_fixture(&f, _i, dtype);
        open_golden(&f, json_array_get(f.cases, 0), &g);
        ck_assert_int_eq(f.model->text[0].qkv.layout, i == 2 || amx ? VLCI_PAIRS : VLCI_BLOCKS);
        check_visual(&f, &g, dtype == VLCACHE_DTYPE_F16 ? 0.004 : 0.03);
        close_golden(&g);
        close_fixture(&f);
    }
    suite_force(NULL);
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

/* ---- the engine: own pixels, and a cache that is compressed or not ---- */

/* Answers the case at a budget; the tokens are compared where nothing was dropped. */
static void ask(const fixture *f, const golden *g, const char *text, double budget) {
    const tap *greedy = taps_find(&g->taps, "greedy.tokens");
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    const vlcache_answer *answer = NULL;
    vlcache_session *session =
        talk_open(f->model, f->model->config.text.crosses ? "full" : "vlcache", budget);
    asked.text = text;
    asked.raw = true;
    asked.images = (const vlcache_image *const *)g->image;
    asked.n_images = g->n_images;
    generate.max_tokens = (int)greedy->n;
    generate.min_tokens = greedy->n;
    ck_ok(vlcache_session_ask(session, &asked, &generate, &answer));
    ck_assert_int_eq(answer->prompt_tokens, g->prompt.n);
    ck_assert_int_eq(answer->visual_tokens, g->prompt.visual);
    ck_assert_int_eq(answer->n_tokens, (int)greedy->n);
    for (size_t i = 0; i < greedy->n && (budget == 1 || !g->n_images || aside(g)); i++)
        ck_assert_msg(answer->tokens[i] == greedy->i32[i], "%s: token %zu is %d, not %d", f->folder, i,
                      answer->tokens[i], greedy->i32[i]);
    vlcache_session_destroy(&session);
}

static void check_answers(const fixture *f, golden *g) {
    ask(f, g, g->text, 1);
    ask(f, g, g->text, 0.3);
}

START_TEST(answers) {
    each_case(_i, check_answers);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("families");
    TCase *folders = tcase_create("folders");
    tcase_add_loop_test(folders, prompts, 0, N_FOLDERS);
    tcase_add_loop_test(folders, layouts, 0, N_FOLDERS);
    tcase_add_loop_test(folders, pixels, 0, N_FOLDERS);
    tcase_add_loop_test(folders, stages_and_greedy_tokens, 0, N_FOLDERS);
    tcase_add_loop_test(folders, answers, 0, N_FOLDERS);
    tcase_add_loop_test(folders, short_rows, 0, N_FOLDERS);
    suite_add_tcase(suite, folders);
    return suite_run(suite);
}
