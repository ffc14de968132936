/*
 * test_options.c - every call that takes a struct of options takes that of an older and of a newer program,
 * and names what is wrong with one of neither; and calls without what they need leave nothing to destroy.
 */
#include <string.h>

#include <vlcache/vlcache.h>

#include "support/suite.h"

static vlcache_model *model;

static void open_model(void) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/llava-llama-mha", &options, &model));
}

static void close_model(void) {
    vlcache_model_destroy(&model);
}

/* What a program of the next version hands over. */
#define NEWER(type)                                                                                          \
    struct {                                                                                                 \
        type known;                                                                                          \
        double more[2];                                                                                      \
    }

/* A size that is none, and something set where only a newer library would look. */
static void check_refused(vlcache_status status, const char *field) {
    const vlcache_error *e = vlcache_last_error();
    ck_assert_int_eq(status, VLCACHE_E_ARGUMENT);
    ck_assert_int_eq(e->status, status);
    ck_assert_str_eq(e->field, field);
    ck_assert_msg(strstr(e->hint, "start from VLCACHE_"), "%s", e->hint);
}

START_TEST(device) {
    NEWER(vlcache_device_options) newer = {VLCACHE_DEVICE_OPTIONS_INIT, {0}};
    vlcache_device *opened = NULL, *wrapped = NULL;
    newer.known.size = sizeof newer;
    ck_ok(vlcache_device_open(NULL, &newer.known, &opened));
    ck_ok(vlcache_device_wrap(opened->context, opened->id, opened->queue, &newer.known, &wrapped));
    vlcache_device_destroy(&wrapped);
    newer.more[1] = 1.0;
    check_refused(vlcache_device_open(NULL, &newer.known, &wrapped), "device.size");
    check_refused(vlcache_device_wrap(opened->context, opened->id, opened->queue, &newer.known, &wrapped),
                  "device.size");
    vlcache_device_destroy(&opened);
    newer.known.size = 0;
    check_refused(vlcache_device_open(NULL, &newer.known, &wrapped), "device.size");
    newer.known.profile = true; /* an older program's struct ended before that */
    newer.known.size = offsetof(vlcache_device_options, profile);
    ck_ok(vlcache_device_open(NULL, &newer.known, &opened));
    ck_assert(!opened->profile);
    vlcache_device_destroy(&opened);
}
END_TEST

START_TEST(model_load) {
    NEWER(vlcache_model_options) newer = {VLCACHE_MODEL_OPTIONS_INIT, {0}};
    const char *folder = VLCACHE_TEST_DATA "/models/llava-llama-mha";
    vlcache_model *loaded = NULL;
    vlcache_model_info info;
    newer.known.size = sizeof newer;
    newer.known.dtype = VLCACHE_DTYPE_F16;
    ck_ok(vlcache_model_load(suite_device(), folder, &newer.known, &loaded));
    vlcache_model_describe(loaded, &info);
    ck_assert_int_eq(info.dtype, VLCACHE_DTYPE_F16);
    vlcache_model_destroy(&loaded);
    newer.more[0] = 1.0;
    check_refused(vlcache_model_load(suite_device(), folder, &newer.known, &loaded), "model.size");
    newer.known.size = 3;
    check_refused(vlcache_model_load(suite_device(), folder, &newer.known, &loaded), "model.size");
    newer.known.size = offsetof(vlcache_model_options, dtype);
    ck_ok(vlcache_model_load(suite_device(), folder, &newer.known, &loaded));
    vlcache_model_destroy(&loaded);
    newer.known.size = sizeof newer.known;
    newer.known.dtype = (vlcache_dtype)4;
    ck_fails(vlcache_model_load(suite_device(), folder, &newer.known, &loaded), VLCACHE_E_ARGUMENT,
             "model: dtype: is 4");
    ck_assert_ptr_null(loaded);
}
END_TEST

START_TEST(session) {
    NEWER(vlcache_session_options) newer = {VLCACHE_SESSION_OPTIONS_INIT, {0}};
    NEWER(vlcache_compress_options) compress = {VLCACHE_COMPRESS_OPTIONS_INIT, {0}};
    vlcache_session *made = NULL;
    newer.known.size = sizeof newer;
    compress.known.size = sizeof compress;
    newer.known.compress = &compress.known;
    ck_ok(vlcache_session_create(model, &newer.known, &made));
    vlcache_session_destroy(&made);
    compress.more[0] = 1.0;
    check_refused(vlcache_session_create(model, &newer.known, &made), "compress.size");
    newer.known.size = offsetof(vlcache_session_options, compress); /* older: it is not looked at */
    ck_ok(vlcache_session_create(model, &newer.known, &made));
    vlcache_session_destroy(&made);
    newer.known.size = 0;
    check_refused(vlcache_session_create(model, &newer.known, &made), "session.size");
    newer.known.size = sizeof newer;
    newer.more[0] = 1.0;
    check_refused(vlcache_session_create(model, &newer.known, &made), "session.size");
    ck_assert_ptr_null(made);
}
END_TEST

/* A struct that ended with 448 shares has no more of them, and is told so; what lies behind it is not looked
 * at. */
START_TEST(shares) {
    static char text[VLCACHE_AXIS_BYTES];
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT, old = all;
    strcpy(text, "layers:1");
    for (int i = 1; i < VLCACHE_SHARES_FIRST + 2; i++) strcat(text, ",1");
    old.size = offsetof(vlcache_compress_options, more_shares);
    ck_fails(vlcache_compress_set(&old, "allocation", text), VLCACHE_E_ARGUMENT, "to hold allocation");
    ck_ok(vlcache_compress_set(&all, "allocation", text));
    ck_assert(all.n_shares == 450 && all.more_shares[1] == 1.0 && all.more_shares[2] == 0.0);
    all.size = old.size;
    ck_fails(vlcache_compress_check(&all), VLCACHE_E_ARGUMENT, "to hold 450 shares");
    ck_ok(vlcache_compress_set(&old, "allocation", "layers:1,2"));
    old.more_shares[0] = -1.0;
    ck_ok(vlcache_compress_check(&old));
    ck_assert(old.more_shares[0] == -1.0);
}
END_TEST

static vlcache_session *open_session(void) {
    vlcache_session *made = NULL;
    ck_ok(vlcache_session_create(model, NULL, &made));
    return made;
}

START_TEST(ask) {
    NEWER(vlcache_prompt) prompt = {VLCACHE_PROMPT_INIT, {0}};
    NEWER(vlcache_generate_options) generate = {VLCACHE_GENERATE_OPTIONS_INIT, {0}};
    vlcache_session *made = open_session();
    const vlcache_answer *answer = NULL;
    prompt.known.size = sizeof prompt;
    prompt.known.text = "some words";
    generate.known.size = sizeof generate;
    generate.known.max_tokens = 3;
    ck_ok(vlcache_session_ask(made, &prompt.known, &generate.known, &answer));
    ck_assert_int_le(answer->n_tokens, 3);
    int tokens = answer->prompt_tokens;
    generate.more[1] = 1.0;
    check_refused(vlcache_session_ask(made, &prompt.known, &generate.known, &answer), "generate.size");
    ck_assert_ptr_null(answer);
    generate.known.size = 0;
    check_refused(vlcache_session_ask(made, &prompt.known, &generate.known, NULL), "generate.size");
    generate.known.size = sizeof generate.known;
    prompt.more[0] = 1.0;
    check_refused(vlcache_session_ask(made, &prompt.known, &generate.known, NULL), "prompt.size");
    prompt.known.size = offsetof(vlcache_prompt, text); /* the text has to be given */
    check_refused(vlcache_session_ask(made, &prompt.known, &generate.known, NULL), "prompt.size");
    prompt.known.size = offsetof(vlcache_prompt, raw); /* older: no more than that */
    prompt.known.raw = true;
    prompt.known.n_images = 7;
    vlcache_session_clear(made);
    ck_ok(vlcache_session_ask(made, &prompt.known, &generate.known, &answer));
    ck_assert_int_eq(answer->prompt_tokens, tokens);
    ck_fails(vlcache_session_ask(made, NULL, NULL, &answer), VLCACHE_E_ARGUMENT, "prompt: text: is NULL");
    ck_assert_str_eq(vlcache_last_error()->field, "prompt.text");
    vlcache_session_destroy(&made);
}
END_TEST

static bool hear(void *user, size_t variant, const vlcache_answer *answer) {
    double *asked = user;
    asked[variant] = answer->compress.budget_asked;
    return true;
}

/* Variants of a newer program stand further apart. */
START_TEST(compare) {
    NEWER(vlcache_compress_options)
    variants[2] = {{VLCACHE_COMPRESS_OPTIONS_INIT, {0}}, {VLCACHE_COMPRESS_OPTIONS_INIT, {0}}};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_session *made = open_session();
    vlcache_image *image = NULL;
    double asked[2] = {0};
    ck_ok(vlcache_image_load(VLCACHE_SOURCE_DIR "/tools/demo/samples/captions-0.png", &image));
    generate.max_tokens = 1;
    prompt.text = "What?";
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    for (int i = 0; i < 2; i++) {
        variants[i].known.size = sizeof variants[i];
        variants[i].known.budget = 0.25 * (i + 1);
    }
    ck_ok(vlcache_session_compare(made, &prompt, &generate, &variants[0].known, 2, hear, asked));
    ck_assert(asked[0] == 0.25 && asked[1] == 0.5);
    variants[1].known.size = sizeof variants[1].known;
    ck_fails(vlcache_session_compare(made, &prompt, &generate, &variants[0].known, 2, hear, asked),
             VLCACHE_E_ARGUMENT, "as the first variant has it");
    ck_assert_str_eq(vlcache_last_error()->field, "compress.size");
    variants[0].known.size = 0;
    check_refused(vlcache_session_compare(made, &prompt, &generate, &variants[0].known, 2, hear, asked),
                  "compress.size");
    vlcache_image_destroy(&image);
    vlcache_session_destroy(&made);
}
END_TEST

/* What is refused makes nothing: whatever stood where it was to go, a caller may destroy. */
#define MAKES_NOTHING(type, call)                                                                            \
    do {                                                                                                     \
        static char other[8];                                                                                \
        type *made = (type *)(void *)other;                                                                  \
        ck_fails(call, VLCACHE_E_ARGUMENT, "is NULL");                                                       \
        ck_assert_ptr_null(made);                                                                            \
    } while (0)

START_TEST(nothing_is_made_of_null) {
    MAKES_NOTHING(vlcache_model, vlcache_model_load(NULL, "folder", NULL, &made));
    MAKES_NOTHING(vlcache_model, vlcache_model_load(suite_device(), NULL, NULL, &made));
    MAKES_NOTHING(vlcache_model, vlcache_model_create_random(suite_device(), NULL, NULL, &made));
    MAKES_NOTHING(vlcache_outline, vlcache_outline_open(NULL, NULL, &made));
    MAKES_NOTHING(vlcache_device, vlcache_device_wrap(NULL, NULL, NULL, NULL, &made));
    MAKES_NOTHING(vlcache_session, vlcache_session_create(NULL, NULL, &made));
    MAKES_NOTHING(vlcache_engine, vlcache_engine_create(NULL, NULL, &made));
    MAKES_NOTHING(vlcache_sequence, vlcache_engine_add(NULL, NULL, &made));
    MAKES_NOTHING(vlcache_sequence, vlcache_sequence_fork(NULL, &made));
    MAKES_NOTHING(vlcache_image, vlcache_image_load(NULL, &made));
    MAKES_NOTHING(vlcache_image, vlcache_image_decode(NULL, 1, NULL, &made));
    MAKES_NOTHING(vlcache_video, vlcache_video_open(NULL, &made));
    ck_fails(vlcache_model_load(suite_device(), "", NULL, &(vlcache_model *){NULL}), VLCACHE_E_ARGUMENT,
             "folder: is \"\", must name one");
    ck_fails(vlcache_outline_open("", NULL, &(vlcache_outline *){NULL}), VLCACHE_E_ARGUMENT, "must name one");
}
END_TEST

START_TEST(answers_need_a_place) {
    vlcache_session *made = open_session();
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    int32_t positions[4];
    size_t n = 0;
    prompt.text = "some words";
    generate.max_tokens = 2;
    ck_ok(vlcache_session_ask(made, &prompt, &generate, NULL));
    ck_fails(vlcache_session_layer(made, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_bits(made, 0, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_bits(NULL, 0, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_kept(made, 0, 0, positions, 4, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_kept(made, 0, 0, NULL, 4, &n), VLCACHE_E_ARGUMENT, "is NULL");
    ck_ok(vlcache_session_kept(made, 0, 0, NULL, 0, &n));
    ck_assert_uint_gt(n, 4);
    ck_fails(vlcache_session_visual(made, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_frame(made, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_fails(vlcache_session_probe(made, 0, NULL), VLCACHE_E_ARGUMENT, "is NULL");
    ck_assert_str_eq(vlcache_session_chat_template(NULL), "");
    vlcache_session_destroy(&made);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("options");
    TCase *all = tcase_create("options");
    tcase_add_unchecked_fixture(all, open_model, close_model);
    tcase_add_test(all, device);
    tcase_add_test(all, model_load);
    tcase_add_test(all, session);
    tcase_add_test(all, shares);
    tcase_add_test(all, ask);
    tcase_add_test(all, compare);
    tcase_add_test(all, nothing_is_made_of_null);
    tcase_add_test(all, answers_need_a_place);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
