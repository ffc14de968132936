/*
 * test_model.c - the tiny checkpoints on the device: every kind of weight in its place, in each dtype and
 * layout.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"
#include "support/suite.h"

static const char *const folders[] = {"llava-llama-full", "llava-llama-mha", "llava-mistral-gqa4",
                                      "next-llama-bias",  "next-llama-mqa",  "next-mistral-gqa2",
                                      "next-vicuna"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };

static const char *folder_path(int i) {
    static char path[512];
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, folders[i]);
    return path;
}

static vlcache_model *load(int folder, vlcache_dtype dtype) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    vlcache_model *model = NULL;
    ck_ok(vlcache_model_load(suite_device(), folder_path(folder), &options, &model));
    return model;
}

/* Relative error of rounding to a dtype; f16's subnormals have an absolute one. */
static double rounding(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? 0.0 : dtype == VLCACHE_DTYPE_F16 ? 0x1p-11 : 0x1p-8;
}

/* One stored element, widened by arithmetic of its own. */
static double element(const unsigned char *stored, vlcache_dtype dtype, size_t i) {
    if (dtype == VLCACHE_DTYPE_F32) {
        float value;
        memcpy(&value, stored + 4 * i, 4);
        return (double)value;
    }
    unsigned h = stored[2 * i] | (unsigned)stored[2 * i + 1] << 8;
    int bits = dtype == VLCACHE_DTYPE_F16 ? 10 : 7, bias = dtype == VLCACHE_DTYPE_F16 ? 15 : 127;
    int exponent = (int)(h >> bits & ((1u << (15 - bits)) - 1)), mantissa = (int)(h & ((1u << bits) - 1));
    double value = exponent ? ldexp((double)(mantissa + (1 << bits)), exponent - bias - bits)
                            : ldexp((double)mantissa, 1 - bias - bits);
    return h & 0x8000u ? -value : value;
}

/* Rows first..first+n of a matrix on the device against a tensor of the checkpoint. */
static void compare(const vlci_checkpoint *checkpoint, const vlci_matrix *matrix, const char *name, int first,
                    int n) {
    vlci_weight_view view;
    ck_assert_msg(vlci_checkpoint_find(checkpoint, name, &view), "%s is not there", name);
    size_t bytes = vlci_matrix_bytes(matrix->n, matrix->k, matrix->dtype, matrix->layout),
           k = (size_t)matrix->k;
    unsigned char *stored = malloc(bytes);
    suite_download(matrix->data, stored, bytes);
    ck_assert_uint_eq(view.bytes, (size_t)n * k * vlci_dtype_bytes(view.dtype));
    for (size_t i = 0; i < (size_t)n * k; i++) {
        size_t row = (size_t)first + i / k, column = i % k;
        size_t at = matrix->layout == VLCI_ROWS ? row * k + column : (row / 32 * k + column) * 32 + row % 32;
        double want = element(view.data, view.dtype, i), got = element(stored, matrix->dtype, at);
        ck_assert_msg(fabs(got - want) <= rounding(matrix->dtype) * fabs(want) + 0x1p-25,
                      "%s[%zu]: %g, expected %g", name, i, got, want);
    }
    free(stored);
}

static void check_model(const vlcache_model *model, const vlci_checkpoint *checkpoint) {
    const vlci_text_config *text = &model->config.text;
    const vlci_text_layer *last = &model->text[text->layers - 1];
    int q = text->heads * text->head_dim, kv = text->kv_heads * text->head_dim;
    char name[128];
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj"};
    const int first[] = {0, q, q + kv}, rows[] = {q, kv, kv};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "language_model.model.layers.%d.self_attn.%s.weight", text->layers - 1,
                 attention[i]);
        compare(checkpoint, &last->qkv, name, first[i], rows[i]);
    }
    snprintf(name, sizeof name, "language_model.model.layers.%d.mlp.up_proj.weight", text->layers - 1);
    compare(checkpoint, &last->gate_up, name, text->intermediate, text->intermediate);
    compare(checkpoint, &model->embedding, "language_model.model.embed_tokens.weight", 0, text->vocab);
    compare(checkpoint, &model->patch, "vision_tower.vision_model.embeddings.patch_embedding.weight", 0,
            model->config.vision.hidden);
    compare(checkpoint, &model->projector2, "multi_modal_projector.linear_2.weight", 0, text->hidden);
    ck_assert_int_eq(model->head.data == NULL, text->tied);
    ck_assert_int_eq(last->qkv.bias != NULL, text->qkv_bias);
    ck_assert_int_eq(model->image_newline != NULL, model->config.family == VLCI_LLAVA_NEXT);
}

/* A bias of three parts, and a norm, as f32. */
static void check_vectors(const vlcache_model *model, const vlci_checkpoint *checkpoint) {
    if (!model->config.vision.run_layers) return;
    const vlci_vision_layer *layer = &model->vision[0];
    int inner = model->config.vision.heads * model->config.vision.head_dim;
    float *bias = malloc((size_t)inner * 3 * sizeof *bias);
    suite_download(layer->qkv.bias, bias, (size_t)inner * 3 * sizeof *bias);
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj"};
    for (int p = 0; p < 3; p++) {
        char name[128];
        vlci_weight_view view;
        snprintf(name, sizeof name, "vision_tower.vision_model.encoder.layers.0.self_attn.%s.bias", parts[p]);
        ck_assert(vlci_checkpoint_find(checkpoint, name, &view));
        for (int i = 0; i < inner; i++)
            ck_assert_double_eq((double)bias[p * inner + i], element(view.data, view.dtype, (size_t)i));
    }
    free(bias);
}

static const vlcache_dtype dtypes[] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};

START_TEST(test_weights) {
    int folder = _i / 6, dtype = _i / 2 % 3;
    setenv("VLCACHE_GEMM", _i % 2 ? "wide" : "portable", 1);
    uint64_t before = vlci_memory_now(suite_device());
    vlcache_model *model = load(folder, dtypes[dtype]);
    ck_assert_int_eq(model->layout, _i % 2 ? VLCI_PANELS : VLCI_ROWS);
    vlci_checkpoint *checkpoint = NULL;
    ck_ok(vlci_checkpoint_open(folder_path(folder), &checkpoint));
    check_model(model, checkpoint);
    check_vectors(model, checkpoint);
    vlci_checkpoint_close(&checkpoint);
    vlcache_model_info info;
    vlcache_model_describe(model, &info);
    ck_assert_int_eq(info.dtype, dtypes[dtype]);
    ck_assert_uint_eq(info.weight_bytes, vlci_memory_now(suite_device()) - before);
    vlcache_model_destroy(&model);
    ck_assert_ptr_null(model);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    unsetenv("VLCACHE_GEMM");
}
END_TEST

static bool count_down(void *user, const char *stage, uint64_t done, uint64_t total) {
    ck_assert_str_eq(stage, "loading weights");
    ck_assert_uint_le(done, total);
    return --*(int *)user > 0;
}

START_TEST(test_cancel) {
    uint64_t before = vlci_memory_now(suite_device());
    for (int calls = 1; calls < 12; calls++) {
        int left = calls;
        vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
        options.progress = count_down;
        options.progress_user = &left;
        vlcache_model *model = NULL;
        ck_fails(vlcache_model_load(suite_device(), folder_path(0), &options, &model), VLCACHE_E_CANCELLED,
                 "weights");
        ck_assert_ptr_null(model);
        ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    }
}
END_TEST

START_TEST(test_missing_folder) {
    vlcache_model *model = NULL;
    ck_fails(vlcache_model_load(suite_device(), "/no/such/folder", NULL, &model), VLCACHE_E_IO,
             "config.json");
    ck_fails(vlcache_model_load(NULL, "x", NULL, &model), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* Every f16 bit pattern survives the way to f32 and back. */
START_TEST(test_half_round_trip) {
    for (unsigned h = 0; h < 0x10000u; h++) {
        uint16_t in = (uint16_t)h, out = 0;
        float wide;
        vlci_widen(&in, VLCACHE_DTYPE_F16, &wide, 1);
        vlci_narrow(&wide, &out, VLCACHE_DTYPE_F16, 1);
        bool nan = (h & 0x7fffu) > 0x7c00u;
        ck_assert_int_eq(nan, isnan(wide) != 0);
        if (!nan) ck_assert_uint_eq(out, in);
        if (!nan && (h & 0x7fffu) < 0x7c00u)
            ck_assert_double_eq((double)wide, element((unsigned char *)&in, VLCACHE_DTYPE_F16, 0));
    }
}
END_TEST

/* Halfway cases go to the even neighbour, overflow to infinity. */
START_TEST(test_rounding) {
    static const struct {
        float in;
        uint16_t f16, bf16;
    } cases[] = {{1.0f, 0x3c00, 0x3f80},
                 {1.0f + 0x1p-11f, 0x3c00, 0x3f80},
                 {1.0f + 0x3p-11f, 0x3c02, 0x3f80},
                 {1.0f + 0x1p-8f, 0x3c04, 0x3f80},
                 {1.0f + 0x3p-8f, 0x3c0c, 0x3f82},
                 {65504.0f, 0x7bff, 0x4780},
                 {65520.0f, 0x7c00, 0x4780},
                 {-65519.0f, 0xfbff, 0xc780},
                 {0x1p-25f, 0x0000, 0x3300},
                 {0x3p-25f, 0x0002, 0x33c0},
                 {-0.0f, 0x8000, 0x8000},
                 {INFINITY, 0x7c00, 0x7f80}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t half = 0, brain = 0;
        vlci_narrow(&cases[i].in, &half, VLCACHE_DTYPE_F16, 1);
        vlci_narrow(&cases[i].in, &brain, VLCACHE_DTYPE_BF16, 1);
        ck_assert_msg(half == cases[i].f16, "f16(%a) is %04x, expected %04x", (double)cases[i].in, half,
                      cases[i].f16);
        ck_assert_msg(brain == cases[i].bf16, "bf16(%a) is %04x, expected %04x", (double)cases[i].in, brain,
                      cases[i].bf16);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model");
    TCase *all = tcase_create("model");
    tcase_add_loop_test(all, test_weights, 0, N_FOLDERS * 6);
    tcase_add_test(all, test_cancel);
    tcase_add_test(all, test_missing_folder);
    tcase_add_test(all, test_half_round_trip);
    tcase_add_test(all, test_rounding);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
