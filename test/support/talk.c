/*
 * talk.c - models that are opened once, sample pictures, sessions, a turn in one call.
 */
#include "support/talk.h"

#include <stdio.h>
#include <string.h>

#include "support/suite.h"

static vlcache_model *demo, *tiny; /* opened by the first test that needs them */

static vlcache_model *open_model(vlcache_model **model, const char *folder, vlcache_dtype dtype) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    if (!*model) ck_ok(vlcache_model_load(suite_device(), folder, &options, model));
    return *model;
}

vlcache_model *talk_demo(void) {
    return open_model(&demo, DEMO "model", VLCACHE_DTYPE_AUTO);
}

vlcache_model *talk_tiny(void) {
    return open_model(&tiny, VLCACHE_TEST_DATA "/models/llava-llama-mha", VLCACHE_DTYPE_F32);
}

vlcache_image *talk_picture(const char *file) {
    char path[600];
    vlcache_image *image = NULL;
    snprintf(path, sizeof path, DEMO "samples/%s", file);
    ck_ok(vlcache_image_load(path, &image));
    return image;
}

vlcache_session *talk_open(vlcache_model *model, const char *policy, double budget) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlcache_session *session = NULL;
    compress.policy = policy;
    compress.budget = budget;
    options.compress = &compress;
    ck_ok(vlcache_session_create(model, &options, &session));
    return session;
}

bool talk_listen(void *user, const char *piece) {
    talk_listener *l = user;
    ck_assert_uint_lt(strlen(l->text) + strlen(piece), sizeof l->text);
    strcat(l->text, piece);
    l->pieces++;
    return !l->stop_after || l->pieces < l->stop_after;
}

bool talk_watch(void *user, const char *stage, uint64_t done, uint64_t total) {
    talk_listener *l = user;
    ck_assert_uint_le(done, total);
    l->stages++;
    if (l->cancel_in_prefill && strcmp(stage, "reading the prompt") == 0)
        vlcache_session_cancel(l->cancel_in_prefill);
    return true;
}

vlcache_status talk_ask(vlcache_session *session, const vlcache_image *image, const char *text,
                        talk_listener *l, int max_tokens, const vlcache_answer **answer) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = text;
    prompt.images = &image;
    prompt.n_images = image != NULL;
    generate.max_tokens = max_tokens;
    if (l) {
        generate.on_text = talk_listen;
        generate.progress = talk_watch;
        generate.user = l;
    }
    return vlcache_session_ask(session, &prompt, &generate, answer);
}

vlcache_compress_options talk_way(const char *policy, double budget) {
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    o.policy = policy;
    o.budget = budget;
    return o;
}

void talk_same(const vlcache_answer *a, const vlcache_answer *b) {
    ck_assert_int_eq(a->n_tokens, b->n_tokens);
    ck_assert_mem_eq(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
}

void talk_finish(vlcache_engine *engine) {
    int busy = 1;
    for (int steps = 0; busy; steps++) {
        ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_lt(steps, 10000);
    }
}

void talk_grid(vlcache_compress_options *o, int rows, int columns) {
    o->pooling = VLCACHE_POOLING_GRID;
    o->pool_rows = rows;
    o->pool_columns = columns;
}

void talk_summary(vlcache_compress_options *o, vlcache_summary summary, double centroids) {
    o->summary = summary;
    o->centroids = centroids;
}

static void close_models(void) {
    vlcache_model_destroy(&demo);
    vlcache_model_destroy(&tiny);
}

void talk_models(TCase *tests) {
    tcase_add_unchecked_fixture(tests, NULL, close_models);
}
