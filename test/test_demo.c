/*
 * test_demo.c - the shipped model answers its sample questions, from the picture file to the text: with the
 * full cache.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/chat.h"
#include "io/tokenizer.h"
#include "prefill.h"
#include "sample.h"
#include "support/suite.h"
#include "vision.h"

#define DEMO VLCACHE_SOURCE_DIR "/tools/demo/"

typedef struct demo {
    vlcache_model *model;
    vlci_tokenizer *tokenizer;
} demo;

/* A picture's visual tokens, f32 [n][hidden]; `*n` how many. */
static cl_mem look(const demo *d, const char *file, int *n) {
    char path[600];
    vlcache_image *image = NULL;
    vlci_pixels pixels;
    vlci_image_plan plan;
    cl_mem features = NULL, projected = NULL, tokens = NULL;
    int width, height;
    snprintf(path, sizeof path, DEMO "samples/%s", file);
    ck_ok(vlcache_image_load(path, &image));
    vlcache_image_size(image, &width, &height);
    ck_ok(vlci_image_prepare(&d->model->config, image, &pixels));
    ck_ok(vlci_image_plan_make(&d->model->config, width, height, &plan));
    ck_ok(vlci_vision_run(d->model, pixels.data, pixels.tiles, &features));
    ck_ok(vlci_projector_run(d->model, features, pixels.tiles, NULL, &projected));
    ck_ok(vlci_projector_arrange(d->model, projected, &plan, &tokens));
    *n = plan.n_tokens;
    suite_release(features);
    suite_release(projected);
    vlci_image_plan_release(&plan);
    vlci_pixels_release(&pixels);
    vlcache_image_destroy(&image);
    return tokens;
}

/* The prompt's ids, <image> replaced by n visual tokens; new memory. */
static int32_t *prompt_ids(const demo *d, const char *question, int n, int *rows) {
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    ck_ok(vlci_chat_turn(vlci_chat_find("vicuna"), true, false, 1, question, &text));
    ck_ok(vlci_tokenizer_encode(d->tokenizer, text, strlen(text), false, &ids, &n_ids));
    int32_t *all = malloc((n_ids + (size_t)n) * sizeof *all);
    *rows = 0;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] != d->model->config.image_token) all[(*rows)++] = ids[i];
        for (int t = 0; ids[i] == d->model->config.image_token && t < n; t++) all[(*rows)++] = -1 - t;
    }
    vlcache_free(text);
    vlcache_free(ids);
    return all;
}

static bool ends(const demo *d, int32_t token) {
    for (int i = 0; i < d->model->config.n_eos_tokens; i++)
        if (d->model->config.eos_tokens[i] == token) return true;
    return false;
}

/* Greedy answer; new memory. */
static char *answer(const demo *d, const char *file, const char *question) {
    enum { MOST = 64 };
    vlci_kv kv;
    vlci_text text;
    vlci_compress *plan = NULL;
    vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
    options.policy = "full";
    int visual = 0, rows = 0, after = 0;
    cl_mem tokens = look(d, file, &visual), chosen = suite_poison(sizeof(int32_t));
    int32_t *ids = prompt_ids(d, question, visual, &rows), out[MOST];
    size_t n = 0;
    ck_ok(vlci_kv_create(d->model, 1, &kv));
    ck_ok(vlci_text_create(d->model, 1, &text));
    ck_ok(vlci_prefill(&text, &kv, ids, &rows, tokens, &options, &after, MOST, &plan));
    for (rows = 1; n < MOST; n++) {
        ck_ok(vlci_argmax(suite_device(), text.logits, 1, d->model->config.text.vocab, chosen));
        suite_download(chosen, &out[n], sizeof *out);
        if (ends(d, out[n])) break;
        ck_ok(vlci_text_run(&text, &kv, &out[n], &rows, NULL));
    }
    char *said = NULL;
    ck_ok(vlci_tokenizer_decode(d->tokenizer, out, n, &said));
    free(ids);
    suite_release(tokens);
    suite_release(chosen);
    vlci_text_release(&text);
    vlci_kv_release(&kv);
    return said;
}

START_TEST(samples) {
    demo d = {NULL, NULL};
    char line[4096];
    int right = 0, all = 0;
    ck_ok(vlcache_model_load(suite_device(), DEMO "model", NULL, &d.model));
    ck_ok(vlci_tokenizer_load(DEMO "model", &d.tokenizer));
    FILE *file = fopen(DEMO "samples/samples.jsonl", "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file)) {
        json_t *item = json_loads(line, 0, NULL);
        const char *want = json_string_value(json_array_get(json_object_get(item, "answers"), 0));
        ck_assert_ptr_nonnull(want);
        char *said = answer(&d, json_string_value(json_object_get(item, "image")),
                            json_string_value(json_object_get(item, "question")));
        const char *trimmed = said + strspn(said, " ");
        if (strcmp(trimmed, want)) printf("\"%s\", expected \"%s\"\n", trimmed, want);
        right += strcmp(trimmed, want) == 0;
        all++;
        vlcache_free(said);
        json_decref(item);
    }
    fclose(file);
    ck_assert_int_ge(all, 8);
    ck_assert_int_eq(right, all);
    vlci_tokenizer_destroy(&d.tokenizer);
    vlcache_model_destroy(&d.model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("demo");
    TCase *all = tcase_create("demo");
    tcase_add_test(all, samples);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
