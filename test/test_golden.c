/**
 * test_golden.c - the tiny checkpoints of test/data/models against what transformers computed with them:
 * folder -> configuration, weights under every naming scheme, prepared pixels, number of visual tokens.
 * test/data/README.md lists the cases and the taps.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "models/gather.h"
#include "models/llava.h"
#include "models/llava_next.h"
#include "models/model.h"
#include "support/rig.h"
#include "support/suite.h"
#include "support/taps.h"

static const char *const MODELS[] = {
    "llava-llama-mha",  "llava-mistral-gqa4", "next-mistral-gqa2", "next-llama-bias",
    "llava-llama-full", "next-llama-mqa",     "next-vicuna",
};
enum { N_MODELS = sizeof MODELS / sizeof *MODELS };

/** A model folder opened for a test; its cases are an array of objects. */
typedef struct fixture {
    char folder[512];
    vlci_config config;
    json_t *cases;
} fixture;

static void open_fixture(fixture *f, int model) {
    char path[600];
    json_error_t error;
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", VLCACHE_TEST_DATA, MODELS[model]);
    ck_ok(vlci_config_load(f->folder, &f->config));
    snprintf(path, sizeof path, "%s/golden/cases.json", f->folder);
    f->cases = json_load_file(path, 0, &error);
    ck_assert_msg(json_is_array(f->cases), "%s: %s", path, error.text);
}

static void close_fixture(fixture *f) {
    vlci_config_release(&f->config);
    json_decref(f->cases);
}

static void golden_path(const fixture *f, const json_t *file, char *path, size_t size) {
    ck_assert(json_is_string(file));
    snprintf(path, size, "%s/golden/%s", f->folder, json_string_value(file));
}

static void open_taps(const fixture *f, const json_t *item, taps *out) {
    char path[700], message[900];
    golden_path(f, json_object_get(item, "taps"), path, sizeof path);
    ck_assert_msg(taps_load(path, out, message, sizeof message), "%s", message);
}

static vlcache_image *open_picture(const fixture *f, const json_t *file) {
    char path[700];
    vlcache_image *image = NULL;
    golden_path(f, file, path, sizeof path);
    ck_ok(vlcache_image_load(path, &image));
    return image;
}

static const vlci_llava *eyes_of(const vlci_config *config) {
    return config->eyes;
}

/** |got - want| <= atol + rtol * |want| everywhere; NaN fails. */
static void assert_near(const char *what, const float *got, const float *want, size_t n, double atol,
                        double rtol) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= atol + rtol * fabs(want[i]),
                      "%s[%zu]: %.9g, not %.9g", what, i, got[i], want[i]);
}

/* ---- the configuration says what the weights and the taps are shaped like ---- */

START_TEST(config_shapes_taps) {
    fixture f;
    open_fixture(&f, _i);
    size_t k;
    json_t *item;
    json_array_foreach(f.cases, k, item) {
        taps golden;
        open_taps(&f, item, &golden);
        ck_assert_uint_eq(taps_find(&golden, "embed")->dim[1], (size_t)f.config.text.hidden);
        ck_assert_uint_eq(taps_find(&golden, "logits")->n, (size_t)f.config.text.vocab);
        ck_assert_ptr_nonnull(taps_findf(&golden, "layer.%d.hidden", f.config.text.layers - 1));
        ck_assert_ptr_null(taps_findf(&golden, "layer.%d.hidden", f.config.text.layers));
        const tap *features = taps_find(&golden, "vision.features");
        if (features) {
            const vlci_llava *eyes = eyes_of(&f.config);
            int side = eyes->vision.image_size / eyes->vision.patch_size;
            ck_assert_uint_eq(features->dim[1], (size_t)(side * side + eyes->keep_class));
            ck_assert_uint_eq(features->dim[2], (size_t)eyes->vision.hidden);
        }
        taps_release(&golden);
    }
    close_fixture(&f);
}
END_TEST

/* ---- every weight is found, whatever the folder calls it ---- */

static void assert_weight(vlci_checkpoint *checkpoint, const char *name, int n_dims, size_t rows,
                          size_t columns) {
    vlci_weight_view view;
    size_t dims[2] = {rows, columns};
    ck_ok(vlci_checkpoint_get(checkpoint, name, n_dims, dims, &view));
    ck_assert_uint_eq(view.bytes,
                      rows * (n_dims == 2 ? columns : 1) * (view.dtype == VLCACHE_DTYPE_F32 ? 4 : 2));
}

static void assert_text_layer(vlci_checkpoint *checkpoint, const vlci_text_config *t, int layer) {
    static const char *const PART[] = {"q_proj", "k_proj", "v_proj"};
    char name[160];
    size_t hidden = (size_t)t->hidden, head_dim = (size_t)t->head_dim;
    for (int i = 0; i < 3; i++) {
        size_t rows = head_dim * (size_t)(i == 0 ? t->heads : t->kv_heads);
        snprintf(name, sizeof name, "language_model.model.layers.%d.self_attn.%s.weight", layer, PART[i]);
        assert_weight(checkpoint, name, 2, rows, hidden);
        snprintf(name, sizeof name, "language_model.model.layers.%d.self_attn.%s.bias", layer, PART[i]);
        if (t->qkv_bias) assert_weight(checkpoint, name, 1, rows, 0);
    }
    snprintf(name, sizeof name, "language_model.model.layers.%d.mlp.down_proj.weight", layer);
    assert_weight(checkpoint, name, 2, hidden, (size_t)t->intermediate);
}

START_TEST(weights_are_found) {
    fixture f;
    vlci_checkpoint *checkpoint = NULL;
    vlci_weight_view view;
    open_fixture(&f, _i);
    ck_ok(vlci_checkpoint_open(f.folder, &checkpoint));
    vlci_checkpoint_name(checkpoint, f.config.family->names);
    size_t hidden = (size_t)f.config.text.hidden, width = (size_t)eyes_of(&f.config)->vision.hidden;
    assert_weight(checkpoint, "language_model.model.embed_tokens.weight", 2, (size_t)f.config.text.vocab,
                  hidden);
    assert_weight(checkpoint, "multi_modal_projector.linear_1.weight", 2, hidden, width);
    assert_weight(checkpoint, "vision_tower.vision_model.pre_layrnorm.weight", 1, width, 0);
    for (int layer = 0; layer < f.config.text.layers; layer++)
        assert_text_layer(checkpoint, &f.config.text, layer);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "language_model.lm_head.weight", &view),
                     !f.config.text.tied);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "image_newline", &view),
                     f.config.family == &vlci_family_llava_next);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "multi_modal_projector.linear_1.bias", &view),
                     eyes_of(&f.config)->projector_bias);
    vlci_checkpoint_close(&checkpoint);
    close_fixture(&f);
}
END_TEST

/* ---- pixels, tiles and number of visual tokens of every picture ---- */

static size_t visual_tokens(const fixture *f, const vlcache_image *image) {
    vlci_picture_layout plan;
    int width, height;
    vlcache_image_size(image, &width, &height);
    ck_ok(f->config.family->layout(&f->config, width, height, &plan));
    size_t n = (size_t)plan.n_tokens;
    vlci_picture_layout_release(&plan);
    return n;
}

static size_t count_id(const tap *ids, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += ids->i32[i] == id;
    return n;
}

START_TEST(pixels) {
    fixture f;
    open_fixture(&f, _i);
    size_t k;
    json_t *item;
    json_array_foreach(f.cases, k, item) {
        taps golden;
        open_taps(&f, item, &golden);
        json_t *files = json_object_get(item, "images");
        const tap *want = taps_find(&golden, "vision.pixels"), *tiles = taps_find(&golden, "vision.tiles");
        size_t at = 0, visual = 0;
        for (size_t i = 0; i < json_array_size(files); i++) {
            vlcache_image *image = open_picture(&f, json_array_get(files, i));
            vlci_pixels got;
            ck_ok(f.config.family->prepare(&f.config, image, &got));
            ck_assert_int_eq(got.tiles, tiles->i32[i]);
            ck_assert_uint_eq((size_t)got.width, want->dim[3]);
            size_t n = (size_t)got.tiles * 3 * (size_t)got.height * (size_t)got.width;
            assert_near("pixels", got.data, want->f32 + at, n, 1e-5, 1e-5);
            at += n;
            visual += visual_tokens(&f, image);
            vlci_pixels_release(&got);
            vlcache_image_destroy(&image);
        }
        ck_assert_uint_eq(at, want ? want->n : 0);
        ck_assert_uint_eq(visual, count_id(taps_find(&golden, "prompt.ids"), f.config.image_token));
        taps_release(&golden);
    }
    close_fixture(&f);
}
END_TEST

/* ---- the whole way on the device: pixels -> features -> visual tokens -> layers -> logits -> greedy tokens
 * ---- */

/* A buffer on the device against a golden tap. */
static void assert_tap(const char *what, cl_mem memory, const tap *want, double atol, double rtol) {
    float *got = malloc(want->n * sizeof *got);
    suite_download(memory, got, want->n * sizeof *got);
    assert_near(what, got, want->f32, want->n, atol, rtol);
    free(got);
}

/* All pictures' visual tokens in prompt order, f32 [tokens][hidden]; NULL without pictures. `exact`: what
 * leads to them is compared. */
static cl_mem run_pictures(const fixture *f, const vlcache_model *model, const json_t *item,
                           const taps *golden, bool exact) {
    const tap *prepared = taps_find(golden, "vision.pixels"), *tiles = taps_find(golden, "vision.tiles");
    if (!prepared) return NULL;
    cl_mem features = NULL, selected = NULL, projected = NULL;
    int all = 0;
    for (size_t i = 0; i < tiles->n; i++) all += tiles->i32[i];
    const vlci_llava *eyes = eyes_of(&model->config);
    vlci_pixels seen = {all, eyes->vision.image_size, eyes->vision.image_size, (float *)prepared->f32};
    int rows = 0;
    ck_ok(vlci_vit_run(&eyes->tower, &seen, &features));
    ck_ok(vlci_vit_select(&eyes->tower, features, all, eyes->keep_class, &rows, &selected));
    ck_ok(vlci_projector_run(&eyes->projector, selected, rows, &projected));
    if (exact) {
        assert_tap("vision.features", selected, taps_find(golden, "vision.features"), 2e-4, 1e-3);
        assert_tap("projector.features", projected, taps_find(golden, "projector.features"), 2e-4, 1e-3);
    }
    size_t row = (size_t)f->config.text.hidden * sizeof(float), at = 0, from = 0,
           tile_rows = taps_find(golden, "vision.features")->dim[1];
    size_t total = count_id(taps_find(golden, "prompt.ids"), f->config.image_token);
    cl_mem tokens = suite_poison(total * row);
    for (size_t i = 0; i < tiles->n; i++) {
        vlcache_image *image = open_picture(f, json_array_get(json_object_get(item, "images"), i));
        int width, height;
        vlcache_image_size(image, &width, &height);
        vlci_picture_layout plan;
        ck_ok(f->config.family->layout(&f->config, width, height, &plan));
        for (int t = 0; t < plan.n_tokens; t++)
            if (plan.source[t] >= 0) plan.source[t] += (int32_t)from;
        cl_mem arranged = NULL;
        ck_ok(vlci_gather(&model->compute, projected, eyes->newline, plan.source, plan.n_tokens,
                          f->config.text.hidden, &arranged));
        ck_ok(vlci_copy(suite_device(), arranged, 0, tokens, at * row, (size_t)plan.n_tokens * row));
        at += (size_t)plan.n_tokens;
        from += (size_t)tiles->i32[i] * tile_rows;
        suite_release(arranged);
        vlci_picture_layout_release(&plan);
        vlcache_image_destroy(&image);
    }
    suite_release(features);
    suite_release(selected);
    suite_release(projected);
    return tokens;
}

/* The prompt's, where visual tokens are numbered -1, -2 ...; new memory. */
static int32_t *ids_of(const fixture *f, const tap *prompt) {
    int32_t *ids = malloc(prompt->n * sizeof *ids), seen = 0;
    for (size_t i = 0; i < prompt->n; i++)
        ids[i] = prompt->i32[i] == f->config.image_token ? -1 - seen++ : prompt->i32[i];
    return ids;
}

static void run_case(const fixture *f, vlcache_model *model, const json_t *item) {
    taps golden;
    open_taps(f, item, &golden);
    const tap *prompt = taps_find(&golden, "prompt.ids"), *greedy = taps_find(&golden, "greedy.tokens");
    cl_mem visual = run_pictures(f, model, item, &golden, true);
    rig r;
    rig_create(&r, model, NULL);
    int32_t *ids = ids_of(f, prompt);
    rig_begin(&r, ids, (int)prompt->n, NULL, (int)prompt->n, visual);
    assert_tap("embed", r.reading.stream.x, taps_find(&golden, "embed"), 2e-4, 1e-3);
    for (int layer = 0; layer < f->config.text.layers; layer++) {
        ck_assert(rig_layer(&r) == (layer < f->config.text.layers - 1));
        assert_tap("hidden", r.reading.stream.x, taps_findf(&golden, "layer.%d.hidden", layer), 5e-4, 1e-3);
    }
    assert_tap("logits", r.shared.text.logits, taps_find(&golden, "logits"), 5e-4, 1e-3);
    for (size_t i = 0; i < greedy->n; i++) {
        int32_t token = rig_best(&r);
        ck_assert_msg(token == greedy->i32[i], "%s: token %zu is %d, not %d", f->folder, i, token,
                      greedy->i32[i]);
        rig_step(&r, token);
    }
    ck_assert_int_eq(r.kv.position, (int)(prompt->n + greedy->n));
    free(ids);
    rig_release(&r);
    if (visual) suite_release(visual);
    taps_release(&golden);
}

START_TEST(stages_and_greedy_tokens) {
    fixture f;
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    open_fixture(&f, _i);
    options.dtype = VLCACHE_DTYPE_F32;
    uint64_t before = vlci_memory_now(suite_device());
    ck_ok(vlcache_model_load(suite_device(), f.folder, &options, &model));
    size_t k;
    json_t *item;
    json_array_foreach(f.cases, k, item) run_case(&f, model, item);
    vlcache_model_destroy(&model);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    close_fixture(&f);
}
END_TEST

/* In 16 bits: |logits - golden| / |golden| of the prompt, and how many of the golden's tokens, each told
 * whatever came before, are the best. */
static void tell_case(const fixture *f, vlcache_model *model, const json_t *item, int *told, int *same) {
    taps golden;
    open_taps(f, item, &golden);
    const tap *prompt = taps_find(&golden, "prompt.ids"), *greedy = taps_find(&golden, "greedy.tokens");
    const tap *logits = taps_find(&golden, "logits");
    cl_mem visual = run_pictures(f, model, item, &golden, false);
    rig r;
    rig_create(&r, model, NULL);
    int32_t *ids = ids_of(f, prompt);
    float *got = malloc(logits->n * sizeof *got);
    double off = 0, all = 0;
    rig_read(&r, ids, (int)prompt->n, NULL, (int)prompt->n, visual);
    suite_download(r.shared.text.logits, got, logits->n * sizeof *got);
    for (size_t i = 0; i < logits->n; i++) {
        off += pow((double)got[i] - logits->f32[i], 2);
        all += pow(logits->f32[i], 2);
    }
    ck_assert_msg(sqrt(off / all) <= 2e-2, "%s: logits in bf16 are off by %g", f->folder, sqrt(off / all));
    for (size_t i = 0; i < greedy->n; i++) {
        *told += 1;
        *same += rig_best(&r) == greedy->i32[i];
        rig_step(&r, greedy->i32[i]);
    }
    free(got);
    free(ids);
    rig_release(&r);
    if (visual) suite_release(visual);
    taps_release(&golden);
}

START_TEST(sixteen_bits) {
    int told = 0, same = 0;
    for (int i = 0; i < N_MODELS; i++) {
        fixture f;
        vlcache_model *model = NULL;
        vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
        open_fixture(&f, i);
        options.dtype = VLCACHE_DTYPE_BF16;
        ck_ok(vlcache_model_load(suite_device(), f.folder, &options, &model));
        size_t k;
        json_t *item;
        json_array_foreach(f.cases, k, item) tell_case(&f, model, item, &told, &same);
        vlcache_model_destroy(&model);
        close_fixture(&f);
    }
    ck_assert_int_gt(told, 500);
    ck_assert_msg(same >= 0.98 * told, "%d of %d tokens are the golden's in bf16", same, told);
}
END_TEST

/* ---- VL-Cache: what is measured, what is kept, and decode on the small cache ---- */

static void assert_kept(const fixture *f, vlci_compress *plan, const taps *golden, int percent) {
    const tap *budgets = taps_findf(golden, "vlcache.%d.budget", percent);
    const tap *sparsity = taps_find(golden, "vlcache.sparsity");
    for (int layer = 0; layer < f->config.text.layers; layer++) {
        ck_assert_double_eq_tol(plan->layer[layer].sparsity, (double)sparsity->f32[layer], 1e-5);
        ck_assert_int_eq(plan->layer[layer].kept, budgets->i32[layer]);
        const tap *want = taps_findf(golden, "vlcache.%d.kept.%d", percent, layer);
        size_t n = (size_t)budgets->i32[layer];
        ck_assert_uint_eq(want->n, n * (size_t)f->config.text.kv_heads);
        int *got = malloc((size_t)plan->tokens * sizeof *got), kept;
        for (int head = 0; head < f->config.text.kv_heads; head++) {
            ck_ok(vlci_compress_positions(plan, layer, head, got, &kept));
            ck_assert_uint_eq((size_t)kept, n);
            for (size_t i = 0; i < n; i++) ck_assert_int_eq(got[i], want->i32[(size_t)head * n + i]);
        }
        free(got);
    }
}

/* The golden's runs of rows are the text rows, unless there are none. */
static void assert_text_rows(const taps *golden, const int *text_rows, int n) {
    const tap *runs = taps_find(golden, "vlcache.rows");
    int next = 0;
    for (size_t i = 0; n && i < runs->n; i += 2)
        for (int row = runs->i32[i]; row < runs->i32[i + 1]; row++, next++)
            ck_assert_int_eq(text_rows[next], row);
    ck_assert_int_eq(next, n);
}

/* Greedy tokens after prefill at a budget; the first comes from the prefill's own logits. */
static void run_budget(const fixture *f, vlcache_model *model, const taps *golden, cl_mem visual,
                       double budget, const tap *tokens, int percent) {
    const tap *prompt = taps_find(golden, "prompt.ids");
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    rig r;
    options.budget = budget;
    rig_create(&r, model, &options);
    int32_t *ids = malloc(prompt->n * sizeof *ids), seen = 0;
    int *text_rows = malloc(prompt->n * sizeof *text_rows), after = 0;
    for (size_t i = 0; i < prompt->n; i++) {
        bool picture = prompt->i32[i] == f->config.image_token;
        ids[i] = picture ? -1 - seen++ : prompt->i32[i];
        if (!picture && seen) text_rows[after++] = (int)i;
    }
    assert_text_rows(golden, text_rows, after);
    rig_read(&r, ids, (int)prompt->n, text_rows, after, visual);
    if (percent) assert_kept(f, r.plan, golden, percent);
    vlcache_compress_stats stats;
    vlci_compress_stats(r.plan, &stats);
    const vlci_kv_shape *shape = &r.shared.pool.shape;
    uint64_t row = 2 * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype);
    ck_assert_uint_eq(vlci_kv_pool_rows(&r.shared.pool) * row, stats.bytes_kept);
    for (size_t i = 0; i < tokens->n && i < 24; i++) {
        int32_t token = rig_best(&r);
        ck_assert_msg(token == tokens->i32[i], "%s at %g: token %zu is %d, not %d", f->folder, budget, i,
                      token, tokens->i32[i]);
        rig_step(&r, token);
    }
    free(text_rows);
    free(ids);
    rig_release(&r);
}

START_TEST(compressed_decode) {
    fixture f;
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    open_fixture(&f, _i);
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), f.folder, &options, &model));
    size_t k, ran = 0;
    json_t *item;
    json_array_foreach(f.cases, k, item) {
        taps golden;
        open_taps(&f, item, &golden);
        cl_mem visual = run_pictures(&f, model, item, &golden, true);
        if (visual) {
            for (int percent = 1; percent <= 100; percent++) {
                const tap *tokens = taps_findf(&golden, "vlcache.%d.tokens", percent);
                if (!tokens) continue;
                run_budget(&f, model, &golden, visual, percent / 100.0, tokens, percent);
                ran++;
            }
            run_budget(&f, model, &golden, visual, 1.0, taps_find(&golden, "greedy.tokens"), 0);
            suite_release(visual);
        }
        taps_release(&golden);
    }
    ck_assert_uint_ge(ran, 1);
    vlcache_model_destroy(&model);
    close_fixture(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("golden");
    TCase *folders = tcase_create("folders");
    tcase_add_loop_test(folders, config_shapes_taps, 0, N_MODELS);
    tcase_add_loop_test(folders, weights_are_found, 0, N_MODELS);
    tcase_add_loop_test(folders, pixels, 0, N_MODELS);
    tcase_add_loop_test(folders, stages_and_greedy_tokens, 0, N_MODELS);
    tcase_add_test(folders, sixteen_bits);
    tcase_add_loop_test(folders, compressed_decode, 0, N_MODELS);
    suite_add_tcase(suite, folders);
    return suite_run(suite);
}
