/*
 * told.c - conversations held against transformers'.
 */
#include "support/told.h"

#include <stdio.h>

#include "models/model.h"
#include "support/suite.h"
#include "support/talk.h"

static const char *path_of(char path[static 600], const char *folder, const char *file) {
    snprintf(path, 600, "%s/models/%s/%s", VLCACHE_TEST_DATA, folder, file);
    return path;
}

void told_open(told *t, const char *folder, const char *name, int n_images) {
    char path[600], file[128], message[700];
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    *t = (told){.n_images = n_images};
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), path_of(path, folder, ""), &options, &t->model));
    ck_assert_ptr_nonnull(t->more = json_load_file(path_of(path, folder, "golden/more.json"), 0, NULL));
    snprintf(file, sizeof file, "golden/%s.taps", name);
    ck_assert_msg(taps_load(path_of(path, folder, file), &t->taps, message, sizeof message), "%s", message);
    for (int i = 0; i < n_images; i++) {
        snprintf(file, sizeof file, "golden/%s.%d.png", name, i);
        ck_ok(vlcache_image_load(path_of(path, folder, file), &t->image[i]));
    }
}

void told_close(told *t) {
    for (int i = 0; i < t->n_images; i++) vlcache_image_destroy(&t->image[i]);
    taps_release(&t->taps);
    json_decref(t->more);
    vlcache_model_destroy(&t->model);
}

/* ---- engines ------------------------------------------------------------------------------------------- */

vlcache_engine *told_engine(const told *t, uint64_t bytes) {
    vlcache_engine *engine = NULL;
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    options.kv_bytes = bytes;
    ck_ok(vlcache_engine_create(t->model, &options, &engine));
    return engine;
}

vlcache_sequence *told_add(vlcache_engine *engine, const char *policy, double budget) {
    vlcache_sequence *s = NULL;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    compress.policy = policy;
    compress.budget = budget;
    options.compress = &compress;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    return s;
}

int told_queue(const told *t, vlcache_sequence *s, const json_t *entry, int first, int n_tokens) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = json_string_value(json_object_get(entry, "prompt"));
    prompt.raw = true;
    prompt.images = (const vlcache_image *const *)t->image + first;
    prompt.n_images = (size_t)json_integer_value(json_object_get(entry, "images"));
    generate.max_tokens = n_tokens;
    generate.min_tokens = (size_t)n_tokens;
    ck_ok(vlcache_sequence_ask(s, &prompt, &generate));
    return first + (int)prompt.n_images;
}

const vlcache_answer *told_tokens(const char *what, vlcache_sequence *s, const tap *want) {
    const vlcache_answer *a = NULL;
    ck_ok(vlcache_sequence_answer(s, &a));
    ck_assert_uint_eq((size_t)a->n_tokens, want->n);
    for (int i = 0; i < a->n_tokens; i++)
        ck_assert_msg(a->tokens[i] == want->i32[i], "%s: token %d is %d, not %d", what, i, (int)a->tokens[i],
                      (int)want->i32[i]);
    return a;
}

void told_cancel(const told *t, vlcache_engine *engine, vlcache_sequence *s, const json_t *turn, int first) {
    const vlcache_answer *a = NULL;
    told_queue(t, s, turn, first, 12);
    vlcache_sequence_cancel(s);
    talk_finish(engine);
    ck_fails(vlcache_sequence_answer(s, &a), VLCACHE_E_CANCELLED, "cancelled");
}

/* ---- VL-Cache ------------------------------------------------------------------------------------------ */

static void assert_head(const told *t, vlcache_sequence *s, int layer, int head, int percent, size_t n) {
    const tap *want = taps_findf(&t->taps, "vlcache.%d.kept.%d", percent, layer);
    int32_t got[256];
    size_t kept;
    ck_ok(vlcache_sequence_kept(s, layer, head, got, 256, &kept));
    ck_assert_uint_eq(kept, n);
    for (size_t i = 0; i < n; i++) ck_assert_int_eq(got[i], want->i32[(size_t)head * n + i]);
}

static void assert_layers(const told *t, vlcache_sequence *s, int layers, int percent) {
    const tap *budget = taps_findf(&t->taps, "vlcache.%d.budget", percent);
    const tap *sparsity = taps_find(&t->taps, "vlcache.sparsity");
    vlcache_compress_layer l;
    for (int layer = 0; layer < layers; layer++) {
        ck_ok(vlcache_sequence_layer(s, layer, &l));
        ck_assert_double_eq_tol(l.sparsity, (double)sparsity->f32[layer], 1e-5);
        ck_assert_int_eq(l.kept, budget->i32[layer]);
        if (t->model->config.text.crosses) ck_assert_int_eq(l.recent, 0);
        for (int head = 0; head < t->model->config.text.kv_heads; head++)
            assert_head(t, s, layer, head, percent, (size_t)budget->i32[layer]);
    }
    ck_fails(vlcache_sequence_layer(s, layers, &l), VLCACHE_E_ARGUMENT, "there are");
}

void told_kept_sets(const told *t, int layers) {
    size_t k;
    json_t *percent;
    vlcache_engine *engine = told_engine(t, 0);
    const json_t *entry = json_object_get(t->more, "kept");
    json_array_foreach(json_object_get(entry, "budgets"), k, percent) {
        int share = (int)json_integer_value(percent);
        const tap *tokens = taps_findf(&t->taps, "vlcache.%d.tokens", share);
        vlcache_sequence *s = told_add(engine, "vlcache", share / 100.0);
        told_queue(t, s, entry, 0, (int)tokens->n);
        talk_finish(engine);
        told_tokens("compacted", s, tokens);
        assert_layers(t, s, layers, share);
        vlcache_sequence_destroy(&s);
    }
    ck_assert_uint_eq(k, 2);
    vlcache_engine_destroy(&engine);
}
