/**
 * test_text_models.c - text models without eyes against what transformers computed with them
 * (test/data/text): ids of the prompt, every layer, first logits, greedy tokens, VL-Cache by the last rows;
 * through the public calls, too; pictures are refused.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "support/rig.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/taps.h"

static const char *const MODELS[] = {
    "llama-tied", "llama-old", "mistral-window", "qwen2-yarn", "qwen2-late-window",
    "qwen3",      "gemma",     "gemma-prefix",   "gemma2",     "gemma2-window",
};
enum { N_MODELS = sizeof MODELS / sizeof *MODELS };
static const char PROMPT[] = "USER: What is the total of the invoice? Read the date: 2024-03-17. ASSISTANT:";

/* A model and what transformers says of it. */
typedef struct fixture {
    vlcache_model *model;
    taps golden;
    const tap *prompt, *greedy;
} fixture;

static void open_fixture(fixture *f, const char *name) {
    char path[600], message[900];
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(path, sizeof path, "%s/text/%s", VLCACHE_TEST_DATA, name);
    ck_ok(vlcache_model_load(suite_device(), path, &options, &f->model));
    f->model->config.text.prefix_lm =
        strcmp(name, "gemma-prefix") == 0; /* which a family says, not a folder */
    snprintf(path, sizeof path, "%s/text/%s/golden/text.taps", VLCACHE_TEST_DATA, name);
    ck_assert_msg(taps_load(path, &f->golden, message, sizeof message), "%s", message);
    f->prompt = taps_find(&f->golden, "prompt.ids");
    f->greedy = taps_find(&f->golden, "greedy.tokens");
}

static void close_fixture(fixture *f) {
    taps_release(&f->golden);
    vlcache_model_destroy(&f->model);
}

/* Off by no more than `share` of the largest number. */
static void assert_tap(const char *model, const char *what, cl_mem memory, const tap *want, double share) {
    float *got = malloc(want->n * sizeof *got);
    double most = 0;
    suite_download(memory, got, want->n * sizeof *got);
    for (size_t i = 0; i < want->n; i++) most = fmax(most, fabs((double)want->f32[i]));
    for (size_t i = 0; i < want->n; i++)
        ck_assert_msg(fabs((double)got[i] - (double)want->f32[i]) <= share * most,
                      "%s: %s[%zu]: %.9g, not %.9g", model, what, i, (double)got[i], (double)want->f32[i]);
    free(got);
}

START_TEST(stages_and_greedy_tokens) {
    fixture f;
    rig r;
    open_fixture(&f, MODELS[_i]);
    const vlci_text_config *c = &f.model->config.text;
    rig_create(&r, f.model, NULL);
    rig_begin(&r, f.prompt->i32, (int)f.prompt->n, NULL, 0, NULL);
    assert_tap(MODELS[_i], "embed", r.reading.stream.x, taps_find(&f.golden, "embed"), 1e-6);
    for (int layer = 0; layer < c->layers; layer++) {
        ck_assert(rig_layer(&r) == (layer < c->layers - 1));
        assert_tap(MODELS[_i], "hidden", r.reading.stream.x, taps_findf(&f.golden, "layer.%d.hidden", layer),
                   1e-5);
    }
    assert_tap(MODELS[_i], "logits", r.shared.text.logits, taps_find(&f.golden, "logits"), 2e-5);
    for (size_t i = 0; i < f.greedy->n; i++) {
        int32_t token = rig_best(&r);
        ck_assert_msg(token == f.greedy->i32[i], "%s: token %zu is %d, not %d", MODELS[_i], i, token,
                      f.greedy->i32[i]);
        rig_step(&r, token);
    }
    rig_release(&r);
    close_fixture(&f);
}
END_TEST

/* ---- VL-Cache without pictures: the last 32 rows look -------------------------------------------------- */

static void assert_kept(const fixture *f, vlci_compress *plan, int percent) {
    const tap *budget = taps_findf(&f->golden, "vlcache.%d.budget", percent);
    const tap *sparsity = taps_find(&f->golden, "vlcache.sparsity");
    int *got = malloc((size_t)plan->tokens * sizeof *got), n;
    for (int layer = 0; layer < f->model->config.text.layers; layer++) {
        const tap *want = taps_findf(&f->golden, "vlcache.%d.kept.%d", percent, layer);
        ck_assert_double_eq_tol(plan->layer[layer].sparsity, (double)sparsity->f32[layer], 1e-5);
        ck_assert_int_eq(plan->layer[layer].kept, budget->i32[layer]);
        for (int head = 0; head < f->model->config.text.kv_heads; head++) {
            ck_ok(vlci_compress_positions(plan, layer, head, got, &n));
            ck_assert_int_eq(n, budget->i32[layer]);
            ck_assert_mem_eq(got, want->i32 + head * n, (size_t)n * sizeof *got);
        }
    }
    free(got);
}

static int check_budgets(const fixture *f) {
    int ran = 0;
    for (int percent = 1; percent <= 100; percent++) {
        vlcache_compress_options options = VLCACHE_COMPRESS_OPTIONS_INIT;
        rig r;
        if (!taps_findf(&f->golden, "vlcache.%d.budget", percent)) continue;
        options.budget = percent / 100.0;
        rig_create(&r, f->model, &options);
        rig_read(&r, f->prompt->i32, (int)f->prompt->n, NULL, 0, NULL);
        ck_assert(r.plan->fallback);
        assert_kept(f, r.plan, percent);
        rig_release(&r);
        ran++;
    }
    return ran;
}

START_TEST(kept_sets) {
    int ran = 0;
    for (int i = 0; i < N_MODELS; i++) {
        fixture f;
        open_fixture(&f, MODELS[i]);
        ran += check_budgets(&f);
        close_fixture(&f);
    }
    ck_assert_int_eq(ran, 5);
}
END_TEST

/* ---- through the public calls -------------------------------------------------------------------------- */

static const vlcache_answer *ask(vlcache_session *session, size_t tokens) {
    const vlcache_answer *answer = NULL;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = PROMPT;
    prompt.raw = true;
    generate.max_tokens = (int)tokens;
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &answer));
    return answer;
}

static void check_answer(const fixture *f, const vlcache_answer *a, bool compressed) {
    ck_assert_int_eq(a->prompt_tokens, (int)f->prompt->n);
    ck_assert_int_eq(a->visual_tokens, 0);
    ck_assert(a->compressed == compressed);
    ck_assert_uint_eq((size_t)a->n_tokens, f->greedy->n);
    ck_assert_mem_eq(a->tokens, f->greedy->i32, f->greedy->n * sizeof *a->tokens);
}

/* All rows of a text model's prompt are kept in few bits, its ends in 8, in however few bytes. */
static void check_coded(const fixture *f, double budget) {
    vlcache_compress_options coded = talk_way("vlcache+", budget);
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    vlcache_compress_layer layer;
    if (f->model->config.text.head_dim % 16) return;
    if (budget == 0.5) coded.bits = 64;
    options.compress = &coded;
    ck_ok(vlcache_session_create(f->model, &options, &session));
    const vlcache_answer *a = ask(session, 8);
    ck_ok(vlcache_session_layer(session, 0, &layer));
    ck_assert_int_eq(layer.coded, a->prompt_tokens);
    if (budget == 0.5)
        ck_assert(a->compress.bits > 0.0 && a->compress.bits <= 64.0 && a->compress.bytes_text > 0);
    vlcache_session_destroy(&session);
}

/* With all kept, a policy changes nothing; with less, the cache is as small as is said. Where the prompt does
 * not fit a window, there is no compression. */
START_TEST(answers) {
    fixture f;
    open_fixture(&f, MODELS[_i]);
    const vlci_text_config *c = &f.model->config.text;
    vlcache_session *full = talk_open(f.model, "full", 1.0), *all = talk_open(f.model, "vlcache", 1.0);
    vlcache_session *small = talk_open(f.model, "centroids", 0.5);
    check_answer(&f, ask(full, f.greedy->n), false);
    if (vlci_text_window(c, c->layers - 1) && c->window < (int)f.prompt->n) {
        const vlcache_answer *answer = NULL;
        vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
        prompt.text = PROMPT;
        ck_fails(vlcache_session_ask(all, &prompt, NULL, &answer), VLCACHE_E_UNSUPPORTED, "sliding_window");
    } else {
        check_answer(&f, ask(all, f.greedy->n), true);
        const vlcache_answer *a = ask(small, 8);
        ck_assert(a->compressed && a->compress.tau == 32 && a->compress.fallback);
        ck_assert_double_eq_tol(a->compress.budget_kept, 0.5, 0.02);
        check_coded(&f, 0.5);
        check_coded(&f, 0.04);
    }
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&all);
    vlcache_session_destroy(&small);
    close_fixture(&f);
}
END_TEST

START_TEST(no_pictures) {
    fixture f;
    vlcache_image *image = NULL;
    const vlcache_answer *answer = NULL;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_model_info info;
    const uint8_t pixel[3] = {1, 2, 3};
    const int32_t mark[] = {5, VLCACHE_TOKEN_IMAGE};
    open_fixture(&f, "qwen3");
    vlcache_model_describe(f.model, &info);
    ck_assert_str_eq(info.family, "qwen3");
    ck_assert_str_eq(info.text_type, "qwen3");
    ck_assert_int_eq(info.image_side, 0);
    vlcache_session *session = talk_open(f.model, "vlcache", 0.5);
    ck_ok(vlcache_image_from_rgb(pixel, 1, 1, 0, &image));
    prompt.text = "What is shown? <image>";
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_UNSUPPORTED, "sees no pictures");
    prompt.raw = true;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_UNSUPPORTED, "n_images: is 1");
    prompt = (vlcache_prompt)VLCACHE_PROMPT_INIT;
    prompt.tokens = mark;
    prompt.n_tokens = 2;
    ck_fails(vlcache_session_ask(session, &prompt, NULL, &answer), VLCACHE_E_ARGUMENT, "tokens[1]: is -1");
    vlcache_image_destroy(&image);
    vlcache_session_destroy(&session);
    close_fixture(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("text_models");
    TCase *folders = tcase_create("folders");
    tcase_add_loop_test(folders, stages_and_greedy_tokens, 0, N_MODELS);
    tcase_add_loop_test(folders, answers, 0, N_MODELS);
    tcase_add_test(folders, kept_sets);
    tcase_add_test(folders, no_pictures);
    suite_add_tcase(suite, folders);
    return suite_run(suite);
}
