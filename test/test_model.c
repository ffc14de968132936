/*
 * test_model.c - the tiny checkpoints on the device: every kind of weight in its place, in each dtype and
 * layout.
 */
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/prompt.h"
#include "models/llava.h"
#include "models/llava_next.h"
#include "models/model.h"
#include "ref/ref_linear.h"
#include "support/folder.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/vlcache.h"

static const char *const folders[] = {"llava-llama-full", "llava-llama-mha", "llava-mistral-gqa4",
                                      "next-llama-bias",  "next-llama-mqa",  "next-mistral-gqa2",
                                      "next-vicuna"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };

static const char *folder_path(int i) {
    static char path[512];
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, folders[i]);
    return path;
}

static vlcache_model *load(int folder, vlcache_dtype dtype, bool no_mmap) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    options.no_mmap = no_mmap;
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

/* A tensor of the checkpoint with its data. */
static vlci_weight_view stored_tensor(vlci_checkpoint *checkpoint, const char *name) {
    vlci_weight_view found, view;
    ck_assert_msg(vlci_checkpoint_find(checkpoint, name, &found), "%s is not there", name);
    ck_ok(vlci_checkpoint_get(checkpoint, name, found.n_dims, found.dim, &view));
    return view;
}

/* Rows first..first+n of a matrix on the device against a tensor of the checkpoint. */
static void compare(vlci_checkpoint *checkpoint, const vlci_matrix *matrix, const char *name, int first,
                    int n) {
    vlci_weight_view view = stored_tensor(checkpoint, name);
    size_t bytes = vlci_matrix_bytes(matrix->n, matrix->k, matrix->dtype, matrix->layout),
           k = (size_t)matrix->k;
    unsigned char *stored = malloc(bytes);
    suite_download(matrix->data, stored, bytes);
    ck_assert_uint_eq(view.bytes, (size_t)n * k * vlci_dtype_bytes(view.dtype));
    for (size_t i = 0; i < (size_t)n * k; i++) {
        size_t row = (size_t)first + i / k, column = i % k;
        size_t at = (size_t)ref_weight_at((int)matrix->layout, (int)row, (int)column, (int)k);
        double want = element(view.data, view.dtype, i), got = element(stored, matrix->dtype, at);
        ck_assert_msg(fabs(got - want) <= rounding(matrix->dtype) * fabs(want) + 0x1p-25,
                      "%s[%zu]: %g, expected %g", name, i, got, want);
    }
    free(stored);
}

static const vlci_llava *eyes_of(const vlcache_model *model) {
    return model->config.eyes;
}

static vlci_checkpoint *open_checkpoint(const char *folder) {
    vlci_checkpoint *checkpoint = NULL;
    ck_ok(vlci_checkpoint_open(folder, &checkpoint));
    vlci_checkpoint_name(checkpoint, vlci_llava_names);
    return checkpoint;
}

static void check_model(const vlcache_model *model, vlci_checkpoint *checkpoint) {
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
    compare(checkpoint, &eyes_of(model)->tower.patch,
            "vision_tower.vision_model.embeddings.patch_embedding.weight", 0, eyes_of(model)->vision.hidden);
    compare(checkpoint, &eyes_of(model)->projector.second, "multi_modal_projector.linear_2.weight", 0,
            text->hidden);
    ck_assert_int_eq(model->head.data == NULL, text->tied);
    ck_assert_int_eq(last->qkv.bias != NULL, text->qkv_bias);
    ck_assert_int_eq(eyes_of(model)->newline != NULL, model->family == &vlci_family_llava_next);
}

/* A bias of three parts, and a norm, as f32. */
static void check_vectors(const vlcache_model *model, vlci_checkpoint *checkpoint) {
    const vlci_vit_config *vision = &eyes_of(model)->vision;
    if (!vision->run_layers) return;
    const vlci_vit_layer *layer = &eyes_of(model)->tower.layer[0];
    int inner = vision->heads * vision->head_dim;
    float *bias = malloc((size_t)inner * 3 * sizeof *bias);
    suite_download(layer->qkv.bias, bias, (size_t)inner * 3 * sizeof *bias);
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj"};
    for (int p = 0; p < 3; p++) {
        char name[128];
        snprintf(name, sizeof name, "vision_tower.vision_model.encoder.layers.0.self_attn.%s.bias", parts[p]);
        vlci_weight_view view = stored_tensor(checkpoint, name);
        for (int i = 0; i < inner; i++)
            ck_assert_double_eq((double)bias[p * inner + i], element(view.data, view.dtype, (size_t)i));
    }
    free(bias);
}

static const vlcache_dtype dtypes[] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};

START_TEST(test_weights) {
    static const char *const engines[] = {"portable", "wide", "matrix", "matrix"};
    int folder = _i / 12, dtype = _i / 4 % 3, engine = _i % 4;               /* the layout */
    if (engine >= VLCI_BLOCKS && dtypes[dtype] == VLCACHE_DTYPE_F32) return; /* no matrix unit takes it */
    if (engine == VLCI_PAIRS && dtypes[dtype] == VLCACHE_DTYPE_F16) return;
    static const char *const variants[] = {"", "gemm:12x32", "gemm:blocks", "gemm:pairs"};
    suite_set("VLCACHE_VARIANT", variants[engine]);
    suite_set("VLCACHE_GEMM", engines[engine]);
    uint64_t before = vlci_memory_now(suite_device());
    vlcache_model *model = load(folder, dtypes[dtype], true); /* in the layout of the engine */
    ck_assert_int_eq((int)model->embedding.layout, engine);
    vlci_checkpoint *checkpoint = open_checkpoint(folder_path(folder));
    check_model(model, checkpoint);
    check_vectors(model, checkpoint);
    vlci_checkpoint_close(&checkpoint);
    vlcache_model_info info;
    vlcache_model_describe(model, &info);
    ck_assert_int_eq(info.dtype, dtypes[dtype]);
    ck_assert_uint_eq(info.weight_bytes + vlci_chain_bytes(model->compute.chain) +
                          vlci_chain_dot_bytes(model->compute.chain_dot),
                      vlci_memory_now(suite_device()) - before);
    vlcache_model_destroy(&model);
    ck_assert_ptr_null(model);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    suite_set("VLCACHE_GEMM", NULL);
    suite_set("VLCACHE_VARIANT", NULL);
}
END_TEST

/* ---- checkpoints that are not of one piece ------------------------------------------------------------- */

#define LAYER "language_model.model.layers.0."
#define TOWER "vision_tower.vision_model."

static int warnings;
static char warning[1200];

/* Of tensors: that a folder has no chat template is test_chat.c's. */
static void keep_warning(void *user, vlcache_log_level level, const char *line) {
    (void)user;
    if (level != VLCACHE_LOG_WARN || strstr(line, "has no chat template")) return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", line);
}

/* Loads the scratch folder; warnings are kept. */
static vlcache_model *load_scratch(vlcache_dtype dtype) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_model *model = NULL;
    options.dtype = dtype;
    warnings = 0;
    vlcache_set_log(keep_warning, NULL);
    vlcache_status status = vlcache_model_load(suite_device(), scratch_folder(), &options, &model);
    vlcache_set_log(NULL, NULL);
    ck_ok(status);
    return model;
}

/* Rows of a matrix must be the stored values to the bit, in their own dtype. */
static void compare_exactly(vlci_checkpoint *checkpoint, const vlci_matrix *matrix, vlcache_dtype dtype,
                            const char *name, int first, int n) {
    vlci_weight_view view = stored_tensor(checkpoint, name);
    ck_assert_msg(matrix->dtype == dtype, "%s is %s", name, vlcache_dtype_name(matrix->dtype));
    size_t bytes = vlci_matrix_bytes(matrix->n, matrix->k, matrix->dtype, matrix->layout),
           k = (size_t)matrix->k;
    unsigned char *stored = malloc(bytes);
    suite_download(matrix->data, stored, bytes);
    for (size_t i = 0; i < (size_t)n * k; i++) {
        size_t row = (size_t)first + i / k,
               at = (size_t)ref_weight_at((int)matrix->layout, (int)row, (int)(i % k), (int)k);
        ck_assert_double_eq(element(view.data, view.dtype, i), element(stored, dtype, at));
    }
    free(stored);
}

static void make_mixed(test_folder *f, const char *said) {
    folder_open(f, folder_path(1));
    folder_narrow(f, LAYER "self_attn.k_proj", VLCACHE_DTYPE_F16); /* beside q and v in f32 */
    folder_narrow(f, LAYER "mlp.gate_proj", VLCACHE_DTYPE_F16);    /* beside up in bf16 */
    folder_narrow(f, LAYER "mlp", VLCACHE_DTYPE_BF16);
    folder_narrow(f, "language_model.lm_head", VLCACHE_DTYPE_F16);
    folder_narrow(f, "language_model.model.embed_tokens", VLCACHE_DTYPE_BF16);
    folder_narrow(f, TOWER "encoder.layers.0.mlp", VLCACHE_DTYPE_F16);
    folder_narrow(f, "multi_modal_projector.linear_1", VLCACHE_DTYPE_BF16);
    folder_set("torch_dtype", said);
    folder_write(f, true, NULL);
    folder_close(f);
}

/* Each matrix keeps the dtype that it is stored in, f32 where its parts differ; KV rows take config.json's.
 */
START_TEST(test_mixed_dtypes) {
    test_folder f;
    suite_set("VLCACHE_GEMM", _i ? "wide" : "portable");
    make_mixed(&f, "\"bfloat16\"");
    vlcache_model *model = load_scratch(VLCACHE_DTYPE_AUTO);
    vlci_checkpoint *c = open_checkpoint(scratch_folder());
    const vlci_text_config *text = &model->config.text;
    const vlci_text_layer *layer = &model->text[0];
    const vlci_llava *eyes = eyes_of(model);
    int q = text->heads * text->head_dim, kv = text->kv_heads * text->head_dim;
    compare_exactly(c, &layer->qkv, VLCACHE_DTYPE_F32, LAYER "self_attn.q_proj.weight", 0, q);
    compare_exactly(c, &layer->qkv, VLCACHE_DTYPE_F32, LAYER "self_attn.k_proj.weight", q, kv);
    compare_exactly(c, &layer->out, VLCACHE_DTYPE_F32, LAYER "self_attn.o_proj.weight", 0, text->hidden);
    compare_exactly(c, &layer->gate_up, VLCACHE_DTYPE_F32, LAYER "mlp.gate_proj.weight", 0,
                    text->intermediate);
    compare_exactly(c, &layer->gate_up, VLCACHE_DTYPE_F32, LAYER "mlp.up_proj.weight", text->intermediate,
                    text->intermediate);
    compare_exactly(c, &layer->down, VLCACHE_DTYPE_BF16, LAYER "mlp.down_proj.weight", 0, text->hidden);
    compare_exactly(c, &model->head, VLCACHE_DTYPE_F16, "language_model.lm_head.weight", 0, text->vocab);
    compare_exactly(c, &model->embedding, VLCACHE_DTYPE_BF16, "language_model.model.embed_tokens.weight", 0,
                    text->vocab);
    compare_exactly(c, &eyes->tower.layer[0].fc1, VLCACHE_DTYPE_F16, TOWER "encoder.layers.0.mlp.fc1.weight",
                    0, eyes->vision.intermediate);
    compare_exactly(c, &eyes->projector.first, VLCACHE_DTYPE_BF16, "multi_modal_projector.linear_1.weight", 0,
                    text->hidden);
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= VLCACHE_DTYPE_BF16; dtype++)
        ck_assert(model->compute.linear.of[dtype].open);
    ck_assert_int_eq(model->dtype, VLCACHE_DTYPE_BF16);
    ck_assert_int_eq(warnings, 0);
    vlci_checkpoint_close(&c);
    vlcache_model_destroy(&model);
    scratch_clean();
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

/* A dtype that is asked for holds for every matrix. */
START_TEST(test_mixed_to_one) {
    test_folder f;
    make_mixed(&f, "\"bfloat16\"");
    vlcache_model *model = load_scratch(VLCACHE_DTYPE_F16);
    vlci_checkpoint *checkpoint = open_checkpoint(scratch_folder());
    check_model(model, checkpoint);
    ck_assert(model->compute.linear.of[VLCACHE_DTYPE_F16].open &&
              !model->compute.linear.of[VLCACHE_DTYPE_F32].open);
    ck_assert_int_eq(model->text[0].qkv.dtype, VLCACHE_DTYPE_F16);
    ck_assert_int_eq(model->dtype, VLCACHE_DTYPE_F16);
    vlci_checkpoint_close(&checkpoint);
    vlcache_model_destroy(&model);
    scratch_clean();
}
END_TEST

/* The logits of the first token of an answer about a picture. */
static void first_logits(vlcache_dtype dtype, vlcache_logit *best, int *n) {
    static const uint8_t rgb[40 * 30 * 3] = {200, 30, 90};
    vlcache_model *model = load_scratch(dtype);
    vlcache_session *session = NULL;
    vlcache_image *image = NULL;
    const vlcache_answer *answer = NULL;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    ck_ok(vlcache_image_from_rgb(rgb, 40, 30, 0, &image));
    ck_ok(vlcache_session_create(model, NULL, &session));
    prompt.text = "What is it?";
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    ck_ok(vlcache_session_ask(session, &prompt, NULL, &answer));
    *n = answer->n_first_logits;
    memcpy(best, answer->first_logits, (size_t)*n * sizeof *best);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
    vlcache_model_destroy(&model);
}

/* Mixed matrices answer as the same numbers do in f32. */
START_TEST(test_mixed_answers) {
    test_folder f;
    vlcache_logit mixed[VLCACHE_FIRST_LOGITS], wide[VLCACHE_FIRST_LOGITS];
    int n = 0, n_wide = 0;
    const vlci_caps *caps = &suite_device()->caps;
    bool rounds = _i || caps->mma || caps->amx || caps->dot; /* these read rows of 16 bits */
    if (_i) suite_set("VLCACHE_GEMM", "matrix");
    make_mixed(&f, "\"float32\"");
    first_logits(VLCACHE_DTYPE_AUTO, mixed, &n);
    first_logits(VLCACHE_DTYPE_F32, wide, &n_wide);
    suite_set("VLCACHE_GEMM", NULL);
    ck_assert(n > 1 && n == n_wide);
    for (int i = 0; i < (rounds ? 1 : n); i++) ck_assert_int_eq(mixed[i].token, wide[i].token);
    for (int i = 0; i < n; i++)
        ck_assert_float_eq_tol(mixed[i].logit, wide[i].logit, rounds ? 0.05f * fabsf(wide[0].logit) : 1e-4f);
    scratch_clean();
}
END_TEST

/* "tie_word_embeddings": a head that is stored and differs counts; one that is the embedding is it. */
START_TEST(test_stored_head) {
    static const char *const fields[] = {"tie_word_embeddings", "text_config.tie_word_embeddings"};
    test_folder f;
    for (int differs = 0; differs < 2; differs++) {
        folder_open(&f, folder_path(1));
        folder_tensor *head = folder_find(&f, "language_model.lm_head.weight");
        const folder_tensor *embedding = folder_find(&f, "language_model.model.embed_tokens.weight");
        memcpy(head->data, embedding->data, head->bytes);
        head->data[head->bytes - 2] ^= (unsigned char)differs; /* in the last number */
        folder_set(fields[_i], "true");
        folder_write(&f, false, NULL);
        folder_close(&f);
        vlcache_model *model = load_scratch(VLCACHE_DTYPE_AUTO);
        ck_assert_int_eq(model->config.text.tied, !differs);
        ck_assert_int_eq(model->head.data != NULL, differs);
        ck_assert_int_eq(warnings, 0);
        vlci_checkpoint *checkpoint = open_checkpoint(scratch_folder());
        if (differs)
            compare_exactly(checkpoint, &model->head, VLCACHE_DTYPE_F32, "language_model.lm_head.weight", 0,
                            model->config.text.vocab);
        vlci_checkpoint_close(&checkpoint);
        vlcache_model_destroy(&model);
        scratch_clean();
    }
}
END_TEST

/* What is stored and not used is named, once; what every checkpoint of a family has in excess is not. */
START_TEST(test_unused_tensors) {
    test_folder f;
    folder_open(&f, folder_path(1));
    folder_copy(&f, LAYER "self_attn.q_proj.weight", LAYER "self_attn.q_norm.weight");
    folder_copy(&f, LAYER "self_attn.q_proj.weight", "aside"); /* which the index leaves out */
    folder_write(&f, true, "aside");
    vlcache_model *model = load_scratch(VLCACHE_DTYPE_AUTO);
    ck_assert_int_eq(warnings, 1);
    ck_assert_msg(strstr(warning, "2 tensors") && strstr(warning, LAYER "self_attn.q_norm.weight") &&
                      strstr(warning, "aside") && !strstr(warning, "..."),
                  "%s", warning);
    vlcache_model_destroy(&model);
    for (int i = 0; i < 9; i++) {
        char name[64];
        snprintf(name, sizeof name, "vision_tower.extra.%d.weight", i);
        folder_copy(&f, LAYER "self_attn.q_proj.weight", name);
    }
    folder_write(&f, true, NULL);
    model = load_scratch(VLCACHE_DTYPE_AUTO);
    ck_assert_int_eq(warnings, 1);
    ck_assert_msg(strstr(warning, "11 tensors") && strstr(warning, ", ..."), "%s", warning);
    folder_close(&f);
    vlcache_model_destroy(&model);
    scratch_clean();
}
END_TEST

START_TEST(test_nothing_unused) {
    vlcache_set_log(keep_warning, NULL);
    warnings = 0;
    vlcache_model *model = load(_i, VLCACHE_DTYPE_AUTO, false);
    vlcache_set_log(NULL, NULL);
    ck_assert_msg(warnings == 0, "%s", warning);
    vlcache_model_destroy(&model);
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

/* A token beside tokenizer.json whose id has no row in the embedding: refused, not read from beyond it. */
START_TEST(test_id_without_row) {
    static const char *const files[] = {"config.json", "generation_config.json", "preprocessor_config.json",
                                        "model.safetensors", "tokenizer.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[600], to[600];
        snprintf(from, sizeof from, "%s/%s", folder_path(1), files[i]);
        snprintf(to, sizeof to, "%s/%s", scratch_folder(), files[i]);
        ck_assert_int_eq(symlink(from, to), 0);
    }
    scratch_text("added_tokens.json", "{\"<far>\": 9999999}");
    vlcache_model *model = NULL;
    vlci_prompt laid;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlci_turn turn = {.open = -1};
    ck_ok(vlcache_model_load(suite_device(), scratch_folder(), NULL, &model));
    prompt.raw = true;
    prompt.text = "a <far>";
    ck_fails(vlci_prompt_create(model, &prompt, &turn, &laid), VLCACHE_E_FORMAT, "id 9999999");
    prompt.text = "a far";
    ck_ok(vlci_prompt_create(model, &prompt, &turn, &laid));
    vlci_prompt_release(&laid);
    vlcache_model_destroy(&model);
    scratch_clean();
}
END_TEST

/* Of each family: a folder whose words are not there, or cannot be read, is refused by the file's name. */
START_TEST(test_no_words) {
    static const char *const texts[] = {NULL, "", "{\"a\":"};
    glob_t found;
    ck_assert_int_eq(glob(VLCACHE_TEST_DATA "/models/*", 0, NULL, &found), 0);
    ck_assert_uint_gt(found.gl_pathc, 20);
    for (size_t i = 0; i < found.gl_pathc * 3; i++) {
        char command[2000];
        vlcache_model *model = NULL;
        snprintf(command, sizeof command, "ln -s '%s'/* '%s'", found.gl_pathv[i / 3], scratch_folder());
        ck_assert_int_eq(system(command), 0);
        scratch_remove("tokenizer.json"); /* of some there is none */
        if (texts[i % 3]) scratch_text("tokenizer.json", texts[i % 3]);
        ck_fails(vlcache_model_load(suite_device(), scratch_folder(), NULL, &model),
                 texts[i % 3] ? VLCACHE_E_FORMAT : VLCACHE_E_IO, "tokenizer.json");
        ck_assert_ptr_null(model);
        scratch_clean();
    }
    globfree(&found);
}
END_TEST

/* Whichever allocation fails, and all behind it: memory is said to be short, and nothing stays behind. */
START_TEST(test_load_memory) {
    bool failed = true;
    vlcache_model_destroy(&(vlcache_model *){load(1, VLCACHE_DTYPE_AUTO, false)}); /* kernels are built */
    for (long at = 0, step = 1; failed; at += step, step = 1 + at / (suite_reduced() ? 8 : 256)) {
        vlcache_model *model = NULL;
        failing_start(at);
        vlcache_status status = vlcache_model_load(suite_device(), folder_path(1), NULL, &model);
        vlcache_model_destroy(&model);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_msg(status == (failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK), "allocation %ld: %s: %s", at,
                      vlcache_status_name(status), vlcache_error_message());
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
    tcase_add_loop_test(all, test_weights, 0, N_FOLDERS * 12);
    tcase_add_loop_test(all, test_mixed_dtypes, 0, 2);
    tcase_add_test(all, test_mixed_to_one);
    tcase_add_loop_test(all, test_mixed_answers, 0, 2);
    tcase_add_loop_test(all, test_stored_head, 0, 2);
    tcase_add_test(all, test_unused_tensors);
    tcase_add_loop_test(all, test_nothing_unused, 0, N_FOLDERS);
    tcase_add_test(all, test_cancel);
    tcase_add_test(all, test_id_without_row);
    tcase_add_test(all, test_load_memory);
    tcase_add_test(all, test_missing_folder);
    tcase_add_test(all, test_no_words);
    tcase_add_test(all, test_half_round_trip);
    tcase_add_test(all, test_rounding);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
