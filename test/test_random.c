/*
 * test_random.c - numbers that the device makes: the same whatever the layout, of the spread that they should
 * have; and models made of them, which answer ids with ids and say what they cannot.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/random.h"
#include "models/model.h"
#include "ref/ref_linear.h"
#include "support/floats.h"
#include "support/suite.h"
#include "support/talk.h"

#define CONFIG VLCACHE_TEST_DATA "/models/llava-llama-mha/config.json"
#define NEXT   VLCACHE_TEST_DATA "/models/next-mistral-gqa2/config.json"

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* Element (row, column) of what was filled, as its layout says. */
static double element(const void *stored, const vlci_matrix *m, int row, int column) {
    return ref_load(stored, ref_weight_at((int)m->layout, row, column, m->k), m->dtype);
}

/* A filled matrix as rows of doubles; what its layout has beyond must be zero. New memory (free). */
static double *filled(int n, int k, vlcache_dtype dtype, vlci_layout layout, uint32_t seed) {
    vlci_matrix m = {.n = n, .k = k, .dtype = dtype, .layout = layout};
    size_t bytes = vlci_matrix_bytes(n, k, dtype, layout), whole = bytes / vlci_dtype_bytes(dtype);
    unsigned char *stored = malloc(bytes);
    double *rows = malloc(sizeof *rows * (size_t)(n * k));
    m.data = suite_poison(bytes);
    ck_ok(vlci_random_matrix(suite_device(), &m, seed, 0.5f));
    suite_download(m.data, stored, bytes);
    size_t zeros = 0;
    for (size_t i = 0; i < whole; i++) zeros += ref_load(stored, (int)i, dtype) == 0;
    ck_assert_uint_ge(zeros, whole - (size_t)(n * k));
    for (int row = 0; row < n; row++)
        for (int i = 0; i < k; i++) rows[row * k + i] = element(stored, &m, row, i);
    suite_release(m.data);
    free(stored);
    return rows;
}

START_TEST(matrices) {
    enum { N = 45, K = 80 };
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++) {
        double *rows = filled(N, K, (vlcache_dtype)dtype, VLCI_ROWS, 7), sum = 0, squares = 0;
        double *panels = filled(N, K, (vlcache_dtype)dtype, VLCI_PANELS, 7);
        double *pairs = filled(N, K, (vlcache_dtype)dtype, VLCI_PAIRS, 7);
        double *others = filled(N, K, (vlcache_dtype)dtype, VLCI_ROWS, 8);
        int same = 0;
        for (int i = 0; i < N * K; i++) {
            ck_assert(rows[i] == panels[i] && rows[i] == pairs[i] && fabs(rows[i]) <= 0.5);
            same += rows[i] == others[i];
            sum += rows[i];
            squares += rows[i] * rows[i];
        }
        ck_assert_int_lt(same, N * K / 20);
        ck_assert(fabs(sum / (N * K)) < 0.02);
        ck_assert(fabs(sqrt(squares / (N * K)) - 0.5 / sqrt(3.0)) < 0.01);
        free(rows);
        free(panels);
        free(pairs);
        free(others);
    }
}
END_TEST

START_TEST(vectors) {
    enum { N = 333 };
    cl_mem y = floats_poisoned(N);
    ck_ok(vlci_random_floats(suite_device(), y, N, 3, 2.0f, 0.25f));
    float *got = floats_take(y, N), least = got[0], most = got[0];
    for (int i = 0; i < N; i++) {
        least = fminf(least, got[i]);
        most = fmaxf(most, got[i]);
    }
    ck_assert(least >= 1.75f && least < 1.8f && most <= 2.25f && most > 2.2f);
    free(got);
}
END_TEST

/* ---- models -------------------------------------------------------------------------------------------- */

static vlcache_model *make(const char *config, vlcache_dtype dtype) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_model *model = NULL;
    options.dtype = dtype;
    ck_ok(vlcache_model_create_random(suite_device(), config, &options, &model));
    return model;
}

static vlcache_image *make_image(int width, int height) {
    uint8_t *rgb = malloc((size_t)(3 * width * height));
    vlcache_image *image = NULL;
    uint64_t seed = 5;
    for (int i = 0; i < 3 * width * height; i++) rgb[i] = (uint8_t)(128 + 127 * suite_random(&seed));
    ck_ok(vlcache_image_from_rgb(rgb, width, height, 0, &image));
    free(rgb);
    return image;
}

/* Ids with a picture among them. */
static vlcache_status ask_ids(vlcache_session *session, const vlcache_image *image, const int32_t *ids,
                              size_t n, const vlcache_answer **answer) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.tokens = ids;
    prompt.n_tokens = n;
    prompt.images = &image;
    prompt.n_images = image != NULL;
    how.max_tokens = 12;
    how.min_tokens = 12;
    return vlcache_session_ask(session, &prompt, &how, answer);
}

static const int32_t ids[] = {7, 8, VLCACHE_TOKEN_IMAGE, 9, 10, 11};
enum { IDS = sizeof ids / sizeof *ids };

/* The same each time, of as many tokens as were asked for, with numbers that are numbers. */
static void answers(const char *config, vlcache_dtype dtype, int visual) {
    int32_t before[12];
    vlcache_image *image = make_image(60, 40);
    for (int run = 0; run < 2; run++) {
        vlcache_model *model = make(config, dtype);
        vlcache_session *session = talk_open(model, "vlcache", 0.5);
        const vlcache_answer *a = NULL;
        ck_ok(ask_ids(session, image, ids, IDS, &a));
        ck_assert_int_eq(a->n_tokens, 12);
        ck_assert_int_eq(a->finish, VLCACHE_FINISH_LENGTH);
        ck_assert_str_eq(a->text, "");
        ck_assert_int_eq(a->prompt_tokens, visual + IDS - 1);
        ck_assert_int_eq(a->visual_tokens, visual);
        for (int i = 0; i < a->n_first_logits; i++)
            ck_assert(isfinite(a->first_logits[i].logit) && fabsf(a->first_logits[i].logit) < 100);
        if (run) ck_assert_mem_eq(before, a->tokens, sizeof before);
        memcpy(before, a->tokens, sizeof before);
        vlcache_session_destroy(&session);
        vlcache_model_destroy(&model);
    }
    vlcache_image_destroy(&image);
}

START_TEST(models) {
    answers(CONFIG, VLCACHE_DTYPE_F32, 16);
    answers(CONFIG, VLCACHE_DTYPE_BF16, 16);
    vlcache_model *next = make(NEXT, VLCACHE_DTYPE_AUTO); /* tiles: as many tokens as the picture makes */
    vlcache_model_info info;
    vlcache_model_describe(next, &info);
    ck_assert_str_eq(info.family, "llava_next");
    ck_assert_int_gt(info.intermediate, 0);
    vlcache_model_destroy(&next);
}
END_TEST

/* Its text may stand in for the file, and says what is missing in it. */
START_TEST(configurations) {
    vlcache_model *model = NULL;
    vlcache_device *d = suite_device();
    ck_fails(vlcache_model_create_random(d, "/nowhere/config.json", NULL, &model), VLCACHE_E_IO,
             "/nowhere/config.json");
    ck_assert_ptr_null(model);
    ck_fails(vlcache_model_create_random(d, " { \"model_type\": \"llava\"", NULL, &model), VLCACHE_E_FORMAT,
             "config.json");
    ck_fails(vlcache_model_create_random(d, "{\"model_type\": \"lava\"}", NULL, &model),
             VLCACHE_E_UNSUPPORTED, "lava");
    ck_fails(vlcache_model_create_random(
                 d, "{\"model_type\": \"llava\", \"text_config\": {\"vocab_size\": 32064}}", NULL, &model),
             VLCACHE_E_FORMAT, "vision_config.image_size");
    ck_fails(vlcache_model_create_random(d, VLCACHE_TEST_DATA, NULL, &model), VLCACHE_E_IO, "data");
    ck_fails(vlcache_model_create_random(d, NULL, NULL, &model), VLCACHE_E_ARGUMENT, "config");
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = (vlcache_dtype)9;
    ck_fails(vlcache_model_create_random(d, CONFIG, &options, &model), VLCACHE_E_ARGUMENT, "dtype");
}
END_TEST

/* Weights that no device holds are refused before the first is made. */
START_TEST(larger_than_the_device) {
    vlcache_model *model = NULL;
    static const char config[] =
        "{\"model_type\": \"llava\", \"vision_config\": {\"hidden_size\": 64, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 1, \"intermediate_size\": 64, \"image_size\": 28, \"patch_size\": 14}, "
        "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 1000, \"hidden_size\": 16384, "
        "\"num_attention_heads\": 128, \"num_key_value_heads\": 8, \"intermediate_size\": 65536, "
        "\"vocab_size\": 32064}}";
    uint64_t before = vlci_memory_now(suite_device());
    ck_fails(vlcache_model_create_random(suite_device(), config, NULL, &model), VLCACHE_E_DEVICE_MEMORY,
             "GiB of memory");
    ck_assert_ptr_null(model);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}
END_TEST

/* ---- prompts of ids ------------------------------------------------------------------------------------ */

static vlcache_session *session;

static void check_ids(const int32_t *asked, size_t n, vlcache_status status, const char *field) {
    const vlcache_answer *a = NULL;
    ck_assert_int_eq(ask_ids(session, NULL, asked, n, &a), status);
    ck_assert_str_eq(vlcache_last_error()->field, field);
    ck_assert_ptr_null(a);
}

START_TEST(refused) {
    vlcache_model *model = make(CONFIG, VLCACHE_DTYPE_F32);
    const int32_t high[] = {3, 376}, low[] = {-2};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    session = talk_open(model, "full", 1);
    ck_assert_str_eq(vlcache_session_chat_template(session), "plain");
    ck_fails(talk_ask(session, NULL, "words", NULL, 4, NULL), VLCACHE_E_UNSUPPORTED, "no tokenizer");
    check_ids(high, 2, VLCACHE_E_ARGUMENT, "prompt.tokens[1]");
    check_ids(low, 1, VLCACHE_E_ARGUMENT, "prompt.tokens[0]");
    check_ids(ids, IDS, VLCACHE_E_ARGUMENT, "prompt.n_images"); /* a mark, and no picture */
    check_ids(ids, 0, VLCACHE_E_ARGUMENT, "prompt.text");       /* nothing at all */
    prompt.tokens = ids;
    prompt.text = "and words";
    ck_fails(vlcache_session_ask(session, &prompt, NULL, NULL), VLCACHE_E_ARGUMENT, "one of both");
    vlcache_session_destroy(&session);
    vlcache_model_destroy(&model);
}
END_TEST

/* Ids are what the tokenizer would have made of a raw text, and an end token ends no answer before its time.
 */
START_TEST(ids_and_text) {
    vlcache_model *model = talk_tiny();
    int32_t *same = NULL;
    size_t n = 0;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    const vlcache_answer *a = NULL;
    session = talk_open(model, "full", 1);
    prompt.text = "a picture of words";
    prompt.raw = true;
    how.max_tokens = 20;
    ck_ok(vlcache_session_ask(session, &prompt, &how, &a));
    int first = a->tokens[0];
    ck_ok(vlci_tokenizer_encode(model->tokenizer, prompt.text, strlen(prompt.text), false, &same, &n));
    vlcache_session_clear(session);
    ck_ok(ask_ids(session, NULL, same, n, &a));
    ck_assert_int_eq(a->tokens[0], first);
    ck_assert_int_eq(a->n_tokens, 12);
    vlcache_free(same);
    vlcache_session_destroy(&session);
}
END_TEST

/* The second token of an answer made an end token: there it ends, unless more are asked for. */
START_TEST(least_length) {
    vlcache_model *model = make(CONFIG, VLCACHE_DTYPE_F32);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    const vlcache_answer *a = NULL;
    session = talk_open(model, "full", 1);
    prompt.tokens = ids + 3;
    prompt.n_tokens = 3;
    how.max_tokens = 8;
    ck_ok(vlcache_session_ask(session, &prompt, &how, &a));
    ck_assert_int_eq(a->n_tokens, 8);
    int at = 1;
    while (at < 7 && a->tokens[at] == a->tokens[0]) at++;
    model->config.eos_tokens[0] = a->tokens[at];
    model->config.n_eos_tokens = 1;
    for (int least = 0; least < 8; least += 7) {
        vlcache_session_clear(session);
        how.min_tokens = (size_t)least;
        ck_ok(vlcache_session_ask(session, &prompt, &how, &a));
        ck_assert_int_ge(a->n_tokens, least ? 7 : at);
        ck_assert_int_le(a->n_tokens, least ? 8 : at);
    }
    vlcache_session_destroy(&session);
    vlcache_model_destroy(&model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("random");
    TCase *numbers = tcase_create("numbers"), *made = tcase_create("models");
    tcase_add_test(numbers, matrices);
    tcase_add_test(numbers, vectors);
    suite_balance(numbers);
    suite_add_tcase(suite, numbers);
    if (suite_reduced()) return suite_run(suite); /* models are other suites' business in a simulator */
    talk_models(made);
    tcase_add_test(made, models);
    tcase_add_test(made, configurations);
    tcase_add_test(made, larger_than_the_device);
    tcase_add_test(made, refused);
    tcase_add_test(made, ids_and_text);
    tcase_add_test(made, least_length);
    suite_add_tcase(suite, made);
    return suite_run(suite);
}
