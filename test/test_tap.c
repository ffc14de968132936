/*
 * test_tap.c - what VLCACHE_DUMP writes for one prompt equals the golden taps of the same names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/suite.h"
#include "support/taps.h"
#include "vlcache/vlcache.h"

#define FOLDER VLCACHE_TEST_DATA "/models/llava-llama-mha"
#define DUMP   VLCACHE_BINARY_DIR "/test.taps"

/* The golden case "middle", read only, by a device that is opened for it. */
static void read_prompt(void) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_model *model = NULL;
    vlcache_image *image = NULL;
    vlcache_session *session = NULL;
    options.dtype = VLCACHE_DTYPE_F32;
    generate.max_tokens = 0;
    suite_close_device();
    ck_ok(vlcache_model_load(suite_device(), FOLDER, &options, &model));
    ck_ok(vlcache_image_load(FOLDER "/golden/middle.0.png", &image));
    ck_ok(vlcache_session_create(model, NULL, &session));
    prompt.text = "<s>USER: <image>\nWhat is shown in this picture? ASSISTANT:";
    prompt.raw = true;
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    ck_ok(vlcache_session_ask(session, &prompt, &generate, NULL));
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
    vlcache_model_destroy(&model);
}

static void assert_same(const taps *got, const taps *want, const char *name) {
    const tap *a = taps_find(got, name), *b = taps_find(want, name);
    ck_assert_msg(a && b && a->n == b->n, "%s: not dumped, or of another size", name);
    double *reference = malloc(b->n * sizeof *reference);
    for (size_t i = 0; i < b->n; i++) reference[i] = (double)b->f32[i];
    suite_close(name, a->f32, reference, b->n, 5e-4, 1e-3);
    free(reference);
}

static void load(const char *path, taps *out) {
    char message[200];
    ck_assert_msg(taps_load(path, out, message, sizeof message), "%s: %s", path, message);
}

START_TEST(stages) {
    taps got, want;
    unlink(DUMP);
    suite_set("VLCACHE_DUMP_FILE", DUMP);
    suite_set("VLCACHE_DUMP", "vision.*,projector.features,embed,layer.1.hidden,logits");
    read_prompt();
    load(DUMP, &got);
    load(FOLDER "/golden/middle.taps", &want);
    static const char *const names[] = {"vision.features", "projector.features", "embed", "layer.1.hidden",
                                        "logits"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_same(&got, &want, names[i]);
    ck_assert_uint_eq(got.n, sizeof names / sizeof *names); /* and nothing that was not asked for */
    taps_release(&got);
    taps_release(&want);
    unlink(DUMP);
}
END_TEST

START_TEST(nothing_unasked) {
    unlink(DUMP);
    suite_set("VLCACHE_DUMP", NULL);
    read_prompt();
    ck_assert_int_ne(access(DUMP, F_OK), 0);
    suite_set("VLCACHE_DUMP", "*");
    suite_set("VLCACHE_DUMP_FILE", "/dev/null/x.taps"); /* logged, and the answer is given */
    read_prompt();
    suite_set("VLCACHE_DUMP", NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tap");
    TCase *all = tcase_create("tap");
    tcase_add_test(all, stages);
    tcase_add_test(all, nothing_unasked);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
