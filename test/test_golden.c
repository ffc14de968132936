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

#include "image.h"
#include "io/config.h"
#include "io/safetensors.h"
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
            int side = f.config.vision.image_size / f.config.vision.patch_size;
            ck_assert_uint_eq(features->dim[1], (size_t)(side * side + f.config.vision.keep_class));
            ck_assert_uint_eq(features->dim[2], (size_t)f.config.vision.hidden);
        }
        taps_release(&golden);
    }
    close_fixture(&f);
}
END_TEST

/* ---- every weight is found, whatever the folder calls it ---- */

static void assert_weight(const vlci_checkpoint *checkpoint, const char *name, int n_dims, size_t rows,
                          size_t columns) {
    vlci_weight_view view;
    size_t dims[2] = {rows, columns};
    ck_ok(vlci_checkpoint_get(checkpoint, name, n_dims, dims, &view));
    ck_assert_uint_eq(view.bytes,
                      rows * (n_dims == 2 ? columns : 1) * (view.dtype == VLCACHE_DTYPE_F32 ? 4 : 2));
}

static void assert_text_layer(const vlci_checkpoint *checkpoint, const vlci_text_config *t, int layer) {
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
    size_t hidden = (size_t)f.config.text.hidden, width = (size_t)f.config.vision.hidden;
    assert_weight(checkpoint, "language_model.model.embed_tokens.weight", 2, (size_t)f.config.text.vocab,
                  hidden);
    assert_weight(checkpoint, "multi_modal_projector.linear_1.weight", 2, hidden, width);
    assert_weight(checkpoint, "vision_tower.vision_model.pre_layrnorm.weight", 1, width, 0);
    for (int layer = 0; layer < f.config.text.layers; layer++)
        assert_text_layer(checkpoint, &f.config.text, layer);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "language_model.lm_head.weight", &view),
                     !f.config.text.tied);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "image_newline", &view),
                     f.config.family == VLCI_LLAVA_NEXT);
    ck_assert_int_eq(vlci_checkpoint_find(checkpoint, "multi_modal_projector.linear_1.bias", &view),
                     f.config.projector_bias);
    vlci_checkpoint_close(&checkpoint);
    close_fixture(&f);
}
END_TEST

/* ---- pixels, tiles and number of visual tokens of every picture ---- */

static size_t visual_tokens(const fixture *f, const vlcache_image *image) {
    vlci_image_plan plan;
    int width, height;
    vlcache_image_size(image, &width, &height);
    ck_ok(vlci_image_plan_make(&f->config, width, height, &plan));
    size_t n = (size_t)plan.n_tokens;
    vlci_image_plan_release(&plan);
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
            ck_ok(vlci_image_prepare(&f.config, image, &got));
            ck_assert_int_eq(got.tiles, tiles->i32[i]);
            ck_assert_uint_eq((size_t)got.side, want->dim[3]);
            size_t n = (size_t)got.tiles * 3 * (size_t)got.side * (size_t)got.side;
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

int main(void) {
    Suite *suite = suite_create("golden");
    TCase *folders = tcase_create("folders");
    tcase_add_loop_test(folders, config_shapes_taps, 0, N_MODELS);
    tcase_add_loop_test(folders, weights_are_found, 0, N_MODELS);
    tcase_add_loop_test(folders, pixels, 0, N_MODELS);
    suite_add_tcase(suite, folders);
    return suite_run(suite);
}
