/*
 * test_outline.c - a model's folder looked at without its weights: what it says against what loading says,
 * tokens of pictures against the goldens' prompts, folders that would not load; and vlcache-info -m.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "models/families.h"
#include "models/model.h"
#include "support/folder.h"
#include "support/picture.h"
#include "support/process.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/taps.h"
#include "vlcache/outline.h"

#define MODELS VLCACHE_TEST_DATA "/models/"
#define TEXT   VLCACHE_TEST_DATA "/text/"

static vlcache_outline *look(const char *folder, vlcache_outline_info *info) {
    vlcache_outline *outline = NULL;
    ck_ok(vlcache_outline_open(folder, NULL, &outline));
    vlcache_outline_describe(outline, info);
    return outline;
}

/* ---- against loading ----------------------------------------------------------------------------------- */

static void check_same(const char *folder, const vlcache_outline_info *info, const vlcache_model *model) {
    vlcache_model_info loaded, said = info->model;
    vlcache_model_describe(model, &loaded);
    ck_assert_str_eq(said.family, loaded.family);
    ck_assert_str_eq(said.text_type, loaded.text_type);
    const int a[] = {(int)said.dtype,    said.layers,      said.heads,        said.kv_heads,
                     said.head_dim,      said.hidden,      said.intermediate, said.vocabulary,
                     said.max_positions, said.image_side,  said.patch_side,   said.tower_layers,
                     said.tower_heads,   said.tower_hidden};
    const int b[] = {(int)loaded.dtype,    loaded.layers,      loaded.heads,        loaded.kv_heads,
                     loaded.head_dim,      loaded.hidden,      loaded.intermediate, loaded.vocabulary,
                     loaded.max_positions, loaded.image_side,  loaded.patch_side,   loaded.tower_layers,
                     loaded.tower_heads,   loaded.tower_hidden};
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        ck_assert_msg(a[i] == b[i], "%s: number %zu is %d, loaded %d", folder, i, a[i], b[i]);
    ck_assert_msg(said.weight_bytes == loaded.weight_bytes, "%s: %llu bytes, loaded %llu", folder,
                  (unsigned long long)said.weight_bytes, (unsigned long long)loaded.weight_bytes);
}

static const struct {
    const char *folder;
    vlcache_dtype dtype;
} loads[] = {
    {DEMO "model", VLCACHE_DTYPE_AUTO},       {MODELS "idefics3-hub", VLCACHE_DTYPE_F32},
    {MODELS "qwen3-vl", VLCACHE_DTYPE_AUTO},  {MODELS "mllama-hub", VLCACHE_DTYPE_AUTO},
    {MODELS "mllama-v5", VLCACHE_DTYPE_BF16}, {TEXT "llama-tied", VLCACHE_DTYPE_AUTO},
};

/* Rows are what this engine wants: no device pads them. */
START_TEST(says_what_loading_says) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_outline_info info;
    vlcache_outline *outline = NULL;
    vlcache_model *model = NULL;
    suite_set("VLCACHE_GEMM", "portable");
    options.dtype = loads[_i].dtype;
    ck_ok(vlcache_outline_open(loads[_i].folder, &options, &outline));
    vlcache_outline_describe(outline, &info);
    ck_assert_msg(!info.problem && !*info.why && !info.missing, "%s: %s", loads[_i].folder, info.why);
    ck_ok(vlcache_model_load(suite_device(), loads[_i].folder, &options, &model));
    check_same(loads[_i].folder, &info, model);
    vlcache_model_destroy(&model);
    vlcache_outline_destroy(&outline);
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

/* What a processor would leave in its files is what it leaves there; of what is read into memory, or is
 * wanted in another dtype, nothing. */
START_TEST(foretells_mappings) {
    const vlcache_device_info *device = &suite_device()->caps.info;
    if (device->type != VLCACHE_DEVICE_CPU || !device->unified_memory) return;
    suite_set("VLCACHE_GEMM", "wide");
    for (int no_mmap = 0; no_mmap < 2; no_mmap++) {
        vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
        vlcache_outline_memory m;
        vlcache_model_info loaded;
        vlcache_outline *outline = NULL;
        vlcache_model *model = NULL;
        options.dtype = loads[_i].dtype;
        options.no_mmap = (uint64_t)no_mmap;
        ck_ok(vlcache_outline_open(loads[_i].folder, &options, &outline));
        ck_ok(vlcache_outline_memory_of(outline, 1, 1, &m));
        ck_ok(vlcache_model_load(suite_device(), loads[_i].folder, &options, &model));
        vlcache_model_describe(model, &loaded);
        ck_assert_msg(m.mapped == loaded.mapped_bytes, "%s: %llu bytes, loaded %llu", loads[_i].folder,
                      (unsigned long long)m.mapped, (unsigned long long)loaded.mapped_bytes);
        ck_assert(m.largest_mapped <= m.largest &&
                  (!no_mmap || (!m.mapped && m.largest_mapped == m.largest)));
        vlcache_model_destroy(&model);
        vlcache_outline_destroy(&outline);
    }
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

/* ---- pictures ------------------------------------------------------------------------------------------ */

static const char *const folders[] = {
    "idefics3-hub",       "internvl-hub",    "internvl-qknorm", "llava-llama-full",  "llava-llama-mha",
    "llava-mistral-gqa4", "next-llama-bias", "next-llama-mqa",  "next-mistral-gqa2", "next-vicuna",
    "onevision-hub",      "onevision-v5",    "paligemma-hub",   "paligemma-v5",      "paligemma2",
    "qwen2-vl-hub",       "qwen2_5-vl",      "qwen2_5-vl-hub",  "qwen3-vl",          "smolvlm-tiles",
    "mllama-hub",         "mllama-v5",
};

/* Tokens of the text around the pictures, whose mark is one token each. */
static size_t words_of(const char *folder, const char *prompt, size_t pictures) {
    vlci_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    ck_ok(vlci_tokenizer_load(folder, &tokenizer));
    ck_ok(vlci_tokenizer_encode(tokenizer, prompt, strlen(prompt), false, &ids, &n));
    vlci_free(ids);
    vlci_tokenizer_destroy(&tokenizer);
    return n - pictures;
}

static size_t tokens_of(const vlcache_outline *outline, const char *path, size_t pictures) {
    vlcache_image *image = NULL;
    int width, height, tokens = 0;
    ck_ok(vlcache_image_load(path, &image));
    vlcache_image_size(image, &width, &height);
    ck_ok(vlcache_outline_picture(outline, width, height, (int)pictures, &tokens));
    vlcache_image_destroy(&image);
    return (size_t)tokens;
}

/* As many tokens as the prompt had that transformers made. */
static void check_case(const char *folder, const vlcache_outline *outline, const json_t *item) {
    char path[800], message[900];
    const json_t *files = json_object_get(item, "images"), *file;
    size_t i, pictures = json_array_size(files);
    size_t n = words_of(folder, json_string_value(json_object_get(item, "prompt")), pictures);
    taps set;
    json_array_foreach(files, i, file) {
        snprintf(path, sizeof path, "%s/golden/%s", folder, json_string_value(file));
        n += tokens_of(outline, path, pictures);
    }
    snprintf(path, sizeof path, "%s/golden/%s", folder, json_string_value(json_object_get(item, "taps")));
    ck_assert_msg(taps_load(path, &set, message, sizeof message), "%s", message);
    const tap *want = taps_find(&set, "prompt.ids");
    if (!want) want = taps_find(&set, "input_ids");
    ck_assert_msg(want && want->n == n, "%s: %zu tokens, not %zu", path, n, want ? want->n : 0);
    taps_release(&set);
}

START_TEST(counts_pictures) {
    char folder[512], path[600];
    size_t i;
    json_t *item;
    vlcache_outline_info info;
    snprintf(folder, sizeof folder, MODELS "%s", folders[_i]);
    snprintf(path, sizeof path, "%s/golden/cases.json", folder);
    vlcache_outline *outline = look(folder, &info);
    ck_assert_msg(!info.problem, "%s: %s", folder, info.why);
    json_t *cases = json_load_file(path, 0, NULL);
    ck_assert_uint_ge(json_array_size(cases), 1);
    json_array_foreach(cases, i, item) check_case(folder, outline, item);
    json_decref(cases);
    vlcache_outline_destroy(&outline);
}
END_TEST

/* What lies beside the prompt: 17 rows a tile in 2 of 4 layers, 2 kv heads of 16, bf16; text in the others.
 */
START_TEST(counts_pictures_aside) {
    vlcache_outline_info info;
    vlcache_outline_aside aside;
    vlcache_outline_memory m;
    vlcache_outline *outline = look(MODELS "mllama-hub", &info);
    const uint64_t row = 2 * 2 * 16 * 2 * 2;
    ck_assert_int_eq(info.model.cross_layers, 2);
    ck_ok(vlcache_outline_aside_of(outline, 47, 211, 0.25, &aside));
    ck_assert_int_eq(aside.rows, 4 * 17);
    ck_assert_uint_eq(aside.kv_full, 80 * row); /* in pages of 16 */
    ck_assert_uint_eq(aside.kv_kept, 32 * row);
    ck_ok(vlcache_outline_memory_of(outline, 64, 0.25, &m));
    ck_assert(m.kv_full == 64 * row && m.kv_kept == 64 * row);
    ck_fails(vlcache_outline_aside_of(outline, 0, 1, 1, &aside), VLCACHE_E_ARGUMENT, "sides");
    ck_assert_int_eq(aside.rows, 0);
    ck_fails(vlcache_outline_aside_of(outline, 1, 1, 0, &aside), VLCACHE_E_ARGUMENT, "above 0");
    ck_fails(vlcache_outline_aside_of(NULL, 1, 1, 1, &aside), VLCACHE_E_ARGUMENT, "NULL");
    vlcache_outline_destroy(&outline);
    outline = look(MODELS "internvl-hub", &info);
    ck_ok(vlcache_outline_aside_of(outline, 47, 211, 0.25, &aside));
    ck_assert(!info.model.cross_layers && !aside.rows && !aside.kv_full);
    vlcache_outline_destroy(&outline);
}
END_TEST

START_TEST(refuses_pictures) {
    vlcache_outline_info info;
    int tokens = 7;
    vlcache_outline *outline = look(DEMO "model", &info);
    ck_fails(vlcache_outline_picture(outline, 0, 5, 1, &tokens), VLCACHE_E_ARGUMENT, "sides");
    ck_assert_int_eq(tokens, 0);
    ck_fails(vlcache_outline_picture(outline, 5, 65536, 1, &tokens), VLCACHE_E_ARGUMENT, "65535");
    ck_fails(vlcache_outline_picture(outline, 5, 5, 0, &tokens), VLCACHE_E_ARGUMENT, "one of 0");
    ck_fails(vlcache_outline_picture(NULL, 5, 5, 1, &tokens), VLCACHE_E_ARGUMENT, "NULL");
    ck_ok(vlcache_outline_picture(outline, 65535, 1, 1, &tokens));
    vlcache_outline_destroy(&outline);
    outline = look(TEXT "gemma", &info);
    ck_assert_ptr_null(info.mark);
    ck_fails(vlcache_outline_picture(outline, 5, 5, 1, &tokens), VLCACHE_E_UNSUPPORTED,
             "gemma is a text model");
    vlcache_outline_destroy(&outline);
    vlcache_outline_destroy(&outline);
    vlcache_outline_destroy(NULL);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

START_TEST(counts_memory) {
    vlcache_outline_info info;
    vlcache_outline_memory m, longer;
    vlcache_outline *outline = look(DEMO "model", &info); /* 12 layers, 2 kv heads of 64, bf16 */
    ck_ok(vlcache_outline_memory_of(outline, 2048, 0.1, &m));
    const uint64_t row = 12 * 2 * 64 * 2 * 2;
    ck_assert_uint_eq(m.kv_full, 2048 * row);
    ck_assert_uint_eq(m.kv_kept, 208 * row); /* 205 rows, in pages of 16 */
    ck_assert_uint_eq(m.weights, info.model.weight_bytes);
    ck_assert_uint_eq(m.largest, 1024 * row); /* all keys */
    ck_ok(vlcache_outline_memory_of(outline, 1, 1e-9, &longer));
    ck_assert_uint_eq(longer.kv_kept, 16 * row);
    ck_assert_uint_eq(longer.largest, 640 * 256 * 2 > 2 * 768 * 256 * 2 ? 640 * 256 * 2 : 2 * 768 * 256 * 2);
    ck_assert_uint_eq(longer.largest_mapped, 1024 * 256 * 2); /* the tower's; gate and up are two */
    ck_assert(longer.work < m.work);
    ck_ok(vlcache_outline_memory_of(outline, 4096, 1, &longer));
    ck_assert(longer.kv_full == longer.kv_kept && longer.work > m.work && longer.work < 2 * m.work);
    ck_fails(vlcache_outline_memory_of(outline, 0, 0.1, &m), VLCACHE_E_ARGUMENT, "0 tokens");
    ck_assert_uint_eq(m.weights, 0);
    ck_fails(vlcache_outline_memory_of(outline, 1, 0, &m), VLCACHE_E_ARGUMENT, "above 0");
    ck_fails(vlcache_outline_memory_of(outline, 1, 1.01, &m), VLCACHE_E_ARGUMENT, "at most 1");
    ck_fails(vlcache_outline_memory_of(NULL, 1, 1, &m), VLCACHE_E_ARGUMENT, "NULL");
    vlcache_outline_destroy(&outline);
}
END_TEST

/* What a question takes on the device, weights apart, is what was foretold, to a few MiB: attention's scratch
 * and the vision tower are not in it. */
START_TEST(foretells_work) {
    vlcache_outline_info info;
    vlcache_outline_memory m;
    const vlcache_answer *answer = NULL;
    vlcache_outline *outline = look(DEMO "model", &info);
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_device *device = talk_demo()->device;
    uint64_t before = vlci_memory_now(device);
    vlci_memory_restart(device);
    vlcache_session *session = talk_open(talk_demo(), "full", 1);
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, 1, &answer));
    uint64_t took = vlci_memory_peak(device) - before;
    ck_ok(vlcache_outline_memory_of(outline, 594, 1, &m));
    uint64_t foretold = m.kv_full + m.work;
    ck_assert_msg(took <= foretold + (8 << 20) && 2 * took >= foretold, "%llu bytes, foretold %llu",
                  (unsigned long long)took, (unsigned long long)foretold);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
    vlcache_outline_destroy(&outline);
}
END_TEST

/* ---- folders that would not load ----------------------------------------------------------------------- */

/* The problem is what loading says, to the letter. */
static void check_problem(vlcache_status status, const char *part, vlcache_outline_info *info,
                          vlcache_outline **outline) {
    vlcache_model *model = NULL;
    *outline = look(scratch_folder(), info);
    ck_assert_msg(info->problem == status && strstr(info->why, part), "%s: \"%s\" lacks \"%s\"",
                  vlcache_status_name(info->problem), info->why, part);
    ck_fails(vlcache_model_load(suite_device(), scratch_folder(), NULL, &model), status, info->why);
}

static void cut_weights(long by) {
    char path[600];
    struct stat s;
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_folder());
    ck_assert_int_eq(stat(path, &s), 0);
    ck_assert_int_eq(truncate(path, by < 0 ? s.st_size + by : by), 0);
}

/* Bytes of the header of the weights in the scratch folder, with its length. */
static long header_bytes(void) {
    char path[600];
    size_t bytes;
    uint64_t length;
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_folder());
    uint8_t *data = golden_read(path, &bytes);
    memcpy(&length, data, sizeof length);
    free(data);
    return (long)length + 8;
}

/* A folder whose weights are not all there says what the whole one does. */
START_TEST(describes_without_weights) {
    static test_folder f;
    vlcache_outline_info whole, info;
    vlcache_outline *first = look(MODELS "llava-llama-mha", &whole), *outline = NULL;
    uint64_t stored = whole.stored[0] + whole.stored[1] + whole.stored[2] + whole.stored[3];
    folder_open(&f, MODELS "llava-llama-mha");
    folder_write(&f, false, NULL);
    cut_weights(-10);
    check_problem(VLCACHE_E_FORMAT, "truncated", &info, &outline);
    ck_assert(info.missing == 10 && info.model.weight_bytes == whole.model.weight_bytes);
    vlcache_outline_destroy(&outline);
    cut_weights(header_bytes());
    check_problem(VLCACHE_E_FORMAT, "truncated", &info, &outline);
    ck_assert_uint_eq(info.missing, stored);
    ck_assert_uint_eq(info.model.weight_bytes, whole.model.weight_bytes);
    vlcache_outline_destroy(&outline);
    cut_weights(100); /* the header is not whole */
    check_problem(VLCACHE_E_FORMAT, "truncated", &info, &outline);
    ck_assert(!info.missing && !info.stored[0] && !info.stored[1] && !info.stored[2] && !info.stored[3]);
    ck_assert_uint_eq(info.model.weight_bytes, whole.model.weight_bytes);
    vlcache_outline_destroy(&outline);
    scratch_remove("model.safetensors");
    check_problem(VLCACHE_E_IO, "holds neither", &info, &outline);
    ck_assert_uint_eq(info.model.weight_bytes, whole.model.weight_bytes);
    ck_assert_int_eq(info.model.dtype, whole.model.dtype);
    vlcache_outline_destroy(&outline);
    vlcache_outline_destroy(&first);
    folder_close(&f);
    scratch_clean();
}
END_TEST

/* A tensor that is missing, of another shape, of a type that is none. */
START_TEST(judges_tensors) {
    static const char *const changes[][2] = {
        {"name", "is missing"}, {"shape", "shape is"}, {"dtype", "F8_E4M3"}};
    static test_folder f;
    vlcache_outline_info info;
    vlcache_outline *outline = NULL;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        folder_open(&f, MODELS "llava-llama-mha");
        folder_tensor *t = &f.tensor[f.n / 2];
        if (i == 0) snprintf(t->name, sizeof t->name, "other.weight");
        if (i == 1)
            snprintf(t->shape, sizeof t->shape, "[%zu, 1, 1]",
                     t->bytes / (t->dtype[0] == 'F' && t->dtype[1] == '3' ? 4 : 2));
        if (i == 2)
            snprintf(t->dtype, sizeof t->dtype, "F8_E4M3"),
                snprintf(t->shape, sizeof t->shape, "[%zu]", t->bytes);
        folder_write(&f, false, NULL);
        check_problem(i == 2 ? VLCACHE_E_UNSUPPORTED : VLCACHE_E_FORMAT, changes[i][1], &info, &outline);
        ck_assert_uint_gt(info.model.weight_bytes, 0);
        vlcache_outline_destroy(&outline);
        folder_close(&f);
        scratch_clean();
    }
}
END_TEST

START_TEST(misses_the_tokenizer) {
    static test_folder f;
    vlcache_outline_info info;
    vlcache_outline *outline = NULL;
    int tokens;
    folder_open(&f, MODELS "llava-llama-mha");
    folder_write(&f, false, NULL);
    scratch_remove("tokenizer.json");
    check_problem(VLCACHE_E_IO, "tokenizer.json", &info, &outline);
    ck_assert_ptr_null(info.chat_template);
    ck_fails(vlcache_outline_picture(outline, 9, 9, 1, &tokens), VLCACHE_E_IO, info.why);
    vlcache_outline_destroy(&outline);
    folder_close(&f);
    scratch_clean();
}
END_TEST

/* What the settings rule out has nothing to describe. */
static const struct {
    const char *file, *text, *says;
    vlcache_status status;
} refused[] = {
    {"config.json", "{\"model_type\": \"mllama\", \"text_config\": {\"cross_attention_layers\": []}}",
     "names none of 40 layers", VLCACHE_E_FORMAT},
    {"config.json", "{\"model_type\": \"internvl_chat\"}", "ends in -hf", VLCACHE_E_UNSUPPORTED},
    {"config.json", "{\"model_type\": \"qwen3_vl_moe\"}", "dense", VLCACHE_E_UNSUPPORTED},
    {"config.json", "{\"model_type\": \"llava\", \"mm_vision_tower\": \"openai/clip\"}",
     "llava-hf/llava-1.5-7b-hf for liuhaotian", VLCACHE_E_UNSUPPORTED},
    {"config.json", "{\"model_type\": \"blip\"}", "llava", VLCACHE_E_UNSUPPORTED},
    {"config.json", "{\"model_type\": \"llava\", \"quantization_config\": {}}", "quantised",
     VLCACHE_E_UNSUPPORTED},
    {"config.json", "{", "config.json", VLCACHE_E_FORMAT},
    {"llava-q4.gguf", "GGUF", "GGUF files are not read", VLCACHE_E_IO},
    {"consolidated.00.pth", "PK", "take its Hugging Face folder", VLCACHE_E_IO},
    {"notes.txt", "", "config.json", VLCACHE_E_IO},
};

START_TEST(refuses_by_name) {
    vlcache_outline *outline = (vlcache_outline *)&outline;
    vlcache_model *model = NULL;
    scratch_text(refused[_i].file, refused[_i].text);
    ck_fails(vlcache_outline_open(scratch_folder(), NULL, &outline), refused[_i].status, refused[_i].says);
    ck_assert_ptr_null(outline);
    ck_fails(vlcache_model_load(suite_device(), scratch_folder(), NULL, &model), refused[_i].status,
             refused[_i].says);
    scratch_clean();
}
END_TEST

START_TEST(checks_arguments) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_outline *outline = NULL;
    ck_fails(vlcache_outline_open(NULL, NULL, &outline), VLCACHE_E_ARGUMENT, "NULL");
    ck_fails(vlcache_outline_open("x", NULL, NULL), VLCACHE_E_ARGUMENT, "NULL");
    options.dtype = 9;
    ck_fails(vlcache_outline_open(DEMO "model", &options, &outline), VLCACHE_E_ARGUMENT, "model: dtype");
    options.dtype = VLCACHE_DTYPE_AUTO;
    options.max_pixels = 1000;
    ck_fails(vlcache_outline_open(DEMO "model", &options, &outline), VLCACHE_E_UNSUPPORTED, "max_pixels");
    ck_assert_ptr_null(outline);
}
END_TEST

/* Whichever allocation fails, and all behind it: memory is said to be short, and nothing stays behind. */
START_TEST(runs_out_of_memory) {
    bool failed = true;
    for (long at = 0; failed; at += 1 + at / 64) {
        vlcache_outline *outline = NULL;
        failing_start(at);
        vlcache_status status = vlcache_outline_open(MODELS "idefics3-hub", NULL, &outline);
        vlcache_outline_destroy(&outline);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_msg(status == (failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK), "allocation %ld: %s", at,
                      vlcache_error_message());
    }
}
END_TEST

/* ---- vlcache-info -m ----------------------------------------------------------------------------------- */

#define RUN(p, ...)                                                                                          \
    process_run(p, (const char *const[]){VLCACHE_BINARY_DIR "/vlcache-info", __VA_ARGS__, NULL}, NULL, 0)

static json_int_t number(const json_t *object, const char *name) {
    ck_assert_msg(json_is_integer(json_object_get(object, name)), "%s is no number", name);
    return json_integer_value(json_object_get(object, name));
}

START_TEST(tool_prints_json) {
    process p;
    vlcache_outline_info info;
    RUN(&p, "-m", DEMO "model", "--json", "--image-size", "336x336,10x20", "--tokens=100", "--budget=.5");
    ck_assert_msg(p.code == 0 && !*p.err, "exit code %d: %s", p.code, p.err);
    json_t *object = json_loads(p.out, JSON_REJECT_DUPLICATES, NULL),
           *model = json_object_get(object, "model");
    vlcache_outline *outline = look(DEMO "model", &info);
    ck_assert_str_eq(json_string_value(json_object_get(model, "family")), "llava");
    ck_assert_str_eq(json_string_value(json_object_get(model, "text_type")), info.model.text_type);
    ck_assert_int_eq(number(model, "layers"), info.model.layers);
    ck_assert_int_eq(number(json_object_get(model, "tower"), "layers"), info.model.tower_layers);
    ck_assert_int_eq(number(model, "weight_bytes"), (json_int_t)info.model.weight_bytes);
    ck_assert_int_eq(number(json_object_get(model, "stored"), "bf16"), (json_int_t)info.stored[3]);
    json_t *pictures = json_object_get(object, "pictures");
    ck_assert_uint_eq(json_array_size(pictures), 2);
    ck_assert_int_eq(number(json_array_get(pictures, 1), "height"), 20);
    ck_assert_int_eq(number(json_array_get(pictures, 1), "tokens"), 576);
    json_t *memory = json_array_get(json_object_get(object, "memory"), 0);
    vlcache_outline_memory m;
    ck_ok(vlcache_outline_memory_of(outline, 100, 0.5, &m));
    ck_assert_int_eq(number(memory, "kv_full"), (json_int_t)m.kv_full);
    ck_assert_int_eq(number(memory, "kv_kept"), (json_int_t)m.kv_kept);
    json_t *device = json_array_get(json_object_get(memory, "devices"), 0);
    ck_assert(json_is_true(json_object_get(device, "fits")) && number(device, "left") > 0);
    vlcache_outline_destroy(&outline);
    json_decref(object);
    process_release(&p);
}
END_TEST

/* Of the first device, with a conversation that takes less than any matrix. */
static json_int_t told_of_device(const char *flag, const char *name) {
    process p;
    RUN(&p, "-m", DEMO "model", "--json", "--tokens=1", flag);
    ck_assert_msg(p.code == 0, "exit code %d: %s", p.code, p.err);
    json_t *object = json_loads(p.out, JSON_REJECT_DUPLICATES, NULL);
    json_t *memory = json_array_get(json_object_get(object, "memory"), 0);
    json_int_t value = number(json_array_get(json_object_get(memory, "devices"), 0), name);
    json_decref(object);
    process_release(&p);
    return value;
}

/* The largest piece is that of what loading would do: a tensor that stays in its file, or a matrix. */
START_TEST(tool_knows_mappings) {
    static const struct {
        const char *gemm, *flag;
        bool maps;
    } ways[] = {{"wide", "--dtype=auto", true},
                {"wide", "--no-mmap", false},
                {"wide", "--dtype=f16", false}, /* it is stored as bf16 */
                {"portable", "--dtype=auto", false}};
    const vlcache_device_info *device = &suite_device()->caps.info;
    bool processor = device->type == VLCACHE_DEVICE_CPU && device->unified_memory;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool maps = ways[i].maps && processor;
        suite_set("VLCACHE_GEMM", ways[i].gemm);
        ck_assert_int_eq(told_of_device(ways[i].flag, "largest"), (maps ? 1024 : 2 * 768) * 256 * 2);
        ck_assert_int_eq(told_of_device(ways[i].flag, "mapped") > 0, maps);
    }
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

static const struct {
    const char *folder, *says; /* in what it prints */
} pages[] = {
    {DEMO "model", "picture 640x480   576 tokens\n"},
    {MODELS "smolvlm-tiles", "smolvlm, text model"},
    {MODELS "qwen3-vl", "pictures keep their shape in patches of 4"},
    {TEXT "qwen3", "none: a text model, which sees no pictures"},
    {TEXT "gemma2", "1 of the layers see the last 400 tokens only"},
    {TEXT "gemma2-window", "1.5 of attention's logits, 0 of tokens' (0: none)"},
};

START_TEST(tool_fits_the_page) {
    process p;
    RUN(&p, "-m", pages[_i].folder);
    ck_assert_msg(p.code == 0, "exit code %d: %s", p.code, p.err);
    ck_assert_msg(strstr(p.out, pages[_i].says) && strstr(p.out, "fits: "), "%s", p.out);
    for (const char *line = strchr(p.out, '\n') + 1; *line; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");
        ck_assert_msg(length <= 100, "%zu columns: %.*s", length, (int)length, line);
        ck_assert_msg(!length || line[length - 1] != ' ', "ends in a blank: %.*s", (int)length, line);
    }
    process_release(&p);
}
END_TEST

/* A picture's tokens are those of the size that it is brought to. */
START_TEST(tool_bounds_pictures) {
    static const struct {
        const char *least, *most, *says;
    } bounds[] = {{"--min-pixels=0", "--max-pixels=40000", "picture 672x672   625 tokens\n"},
                  {"--min-pixels=4096", "--max-pixels=9000", "picture 672x672   121 tokens"},
                  {"--min-pixels=5000", "--max-pixels=0", "min_pixels: is 5000"}};
    process p;
    for (int i = 0; i < 3; i++) {
        RUN(&p, "-m", MODELS "qwen2_5-vl", "--image-size=672x672", bounds[i].least, bounds[i].most);
        ck_assert_msg(strstr(i < 2 ? p.out : p.err, bounds[i].says) != NULL, "%d: %s%s", p.code, p.out,
                      p.err);
        ck_assert_int_eq(p.code, i < 2 ? 0 : 1);
        process_release(&p);
    }
    RUN(&p, "-m", MODELS "llava-llama-mha", "--max-pixels", "5000");
    ck_assert_msg(p.code == 2 && strstr(p.err, "pictures of a llava model have sizes of its own"), "%s",
                  p.err);
    process_release(&p);
}
END_TEST

/* Described, and then the failure that loading would end with. */
START_TEST(tool_tells_of_problems) {
    static test_folder f;
    process p;
    folder_open(&f, MODELS "llava-llama-mha");
    folder_write(&f, false, NULL);
    cut_weights(header_bytes());
    RUN(&p, "-m", scratch_folder(), "--tokens", "16777216");
    ck_assert_int_eq(p.code, 2);
    ck_assert_msg(strstr(p.out, "too short: ") && strstr(p.err, "truncated"), "%s%s", p.out, p.err);
    ck_assert_ptr_nonnull(strstr(p.out, "(more than its context)"));
    process_release(&p);
    RUN(&p, "-m", scratch_folder(), "--json");
    json_t *object = json_loads(p.out, 0, NULL), *error = json_object_get(object, "error");
    ck_assert(p.code == 2 && strstr(json_string_value(json_object_get(error, "message")), "truncated"));
    ck_assert_str_eq(json_string_value(json_object_get(error, "status")), "VLCACHE_E_FORMAT");
    ck_assert_int_gt(number(json_object_get(object, "model"), "missing"), 0);
    json_decref(object);
    process_release(&p);
    folder_close(&f);
    scratch_clean();
}
END_TEST

/* Without a tokenizer no picture is refused: it is not known. One that the model refuses is not taken. */
START_TEST(tool_knows_what_it_knows) {
    static test_folder f;
    process p;
    folder_open(&f, MODELS "llava-llama-mha");
    folder_write(&f, false, NULL);
    scratch_remove("tokenizer.json");
    RUN(&p, "-m", scratch_folder());
    ck_assert_msg(p.code == 2 && strstr(p.out, "not known: ") && !strstr(p.out, "not taken"), "%s", p.out);
    process_release(&p);
    RUN(&p, "-m", scratch_folder(), "--json");
    json_t *object = json_loads(p.out, 0, NULL),
           *one = json_array_get(json_object_get(object, "pictures"), 0);
    ck_assert(json_is_null(json_object_get(one, "tokens")) && !json_object_get(one, "error"));
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(one, "unknown")), "tokenizer.json"));
    json_decref(object);
    process_release(&p);
    folder_close(&f);
    scratch_clean();
    RUN(&p, "-m", MODELS "qwen2-vl-hub", "--image-size", "3000x10");
    ck_assert_msg(strstr(p.out, "not taken: ") && !strstr(p.out, "not known: "), "%s", p.out);
    process_release(&p);
}
END_TEST

static const struct {
    const char *flag;
    int code;
    const char *says;
} endings[] = {
    {"--image-size=640", 1, "640"},
    {"--image-size=640x", 1, "WxH"},
    {"--image-size=0x5", 1, "from 1 to 65535"},
    {"--image-size=5x65536", 1, "65535"},
    {"--image-size=5x5,", 1, "commas"},
    {"--image-size= 5x5", 1, "WxH"},
    {"--image-size=1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1,1x1", 1, "up to 16"},
    {"--tokens=-1", 1, "16777216"},
    {"--budget=0", 1, "above 0"},
    {"--model=/no/such/folder", 2, "/no/such/folder/config.json"},
    {"--device=no such device", 3, "no such device"},
    {"--dtype=f16", 0, ""},
};

START_TEST(tool_ends_as_documented) {
    process p;
    RUN(&p, "-m", DEMO "model", endings[_i].flag);
    ck_assert_msg(p.code == endings[_i].code, "%s: exit code %d: %s", endings[_i].flag, p.code, p.err);
    ck_assert_msg(strstr(p.err, endings[_i].says) != NULL, "\"%s\" lacks \"%s\"", p.err, endings[_i].says);
    ck_assert_int_eq(p.code == 0, p.out_bytes > 0);
    process_release(&p);
}
END_TEST

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

int main(void) {
    Suite *suite = suite_create("outline");
    TCase *all = tcase_create("all");
    tcase_add_loop_test(all, says_what_loading_says, 0, COUNT(loads));
    tcase_add_loop_test(all, foretells_mappings, 0, COUNT(loads));
    tcase_add_loop_test(all, counts_pictures, 0, COUNT(folders));
    tcase_add_test(all, counts_pictures_aside);
    tcase_add_test(all, refuses_pictures);
    tcase_add_test(all, counts_memory);
    tcase_add_test(all, foretells_work);
    tcase_add_test(all, describes_without_weights);
    tcase_add_test(all, judges_tensors);
    tcase_add_test(all, misses_the_tokenizer);
    tcase_add_loop_test(all, refuses_by_name, 0, COUNT(refused));
    tcase_add_test(all, checks_arguments);
    tcase_add_test(all, runs_out_of_memory);
    tcase_add_test(all, tool_prints_json);
    tcase_add_test(all, tool_knows_mappings);
    tcase_add_loop_test(all, tool_fits_the_page, 0, COUNT(pages));
    tcase_add_test(all, tool_bounds_pictures);
    tcase_add_test(all, tool_tells_of_problems);
    tcase_add_test(all, tool_knows_what_it_knows);
    tcase_add_loop_test(all, tool_ends_as_documented, 0, COUNT(endings));
    talk_models(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
