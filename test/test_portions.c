/*
 * test_portions.c - videos that are read in parts, the cache compressed between: the same answer where
 * nothing is dropped or there is one part, flat memory however long they are, what was kept, turns that end
 * early.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sequence.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "vlcache/session.h"

static const char *const folders[] = {"qwen2-vl-hub", "qwen2_5-vl", "qwen3-vl", "onevision-hub",
                                      "internvl-hub"};
enum { N_FOLDERS = sizeof folders / sizeof *folders, TOKENS = 8, SIDE = 16 };

static vlcache_model *open_model(const char *name) {
    char path[512];
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, name);
    ck_ok(vlcache_model_load(suite_device(), path, &options, &model));
    return model;
}

static vlcache_image *noise(uint64_t seed) {
    uint8_t rgb[2 * SIDE * SIDE * 3];
    vlcache_image *image = NULL;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(128 + 100 * suite_random(&seed));
    ck_ok(vlcache_image_from_rgb(rgb, 2 * SIDE, SIDE, 0, &image));
    return image;
}

static vlcache_video *moving(int n, uint64_t seed) {
    vlcache_image **frame = calloc((size_t)n, sizeof *frame);
    vlcache_video *video = NULL;
    for (int i = 0; i < n; i++) frame[i] = noise(seed + 17 * (uint64_t)i);
    ck_ok(vlcache_video_from_images((const vlcache_image *const *)frame, (size_t)n, 2, &video));
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frame[i]);
    free(frame);
    return video;
}

/* What an answer came to. */
typedef struct result {
    int32_t tokens[TOKENS];
    float logit;
    uint64_t peak, kept, full;
    int prompt;
} result;

static vlcache_generate_options some_tokens(void) {
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    generate.max_tokens = TOKENS;
    generate.min_tokens = TOKENS;
    return generate;
}

static result ask(vlcache_session *session, const vlcache_prompt *prompt) {
    const vlcache_answer *a = NULL;
    vlcache_generate_options generate = some_tokens();
    result r = {.peak = 0};
    ck_ok(vlcache_session_ask(session, prompt, &generate, &a));
    ck_assert_int_eq(a->n_tokens, TOKENS);
    memcpy(r.tokens, a->tokens, sizeof r.tokens);
    r.logit = a->first_logits[0].logit;
    r.peak = a->kv_bytes_peak;
    r.kept = a->compress.bytes_kept;
    r.full = a->compress.bytes_full;
    r.prompt = a->prompt_tokens;
    ck_assert_int_eq(a->compress.tokens, a->prompt_tokens);
    return r;
}

static result once(vlcache_model *model, const char *policy, double budget, const vlcache_prompt *prompt) {
    vlcache_session *session = talk_open(model, policy, budget);
    result r = ask(session, prompt);
    vlcache_session_destroy(&session);
    return r;
}

static vlcache_prompt about(vlcache_video **videos, size_t n, int frames, size_t stream) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    prompt.text = "What moves?";
    prompt.videos = videos;
    prompt.n_videos = n;
    prompt.video_frames = (size_t)frames;
    prompt.stream_frames = stream;
    return prompt;
}

static void same(const result *a, const result *b) {
    ck_assert_mem_eq(a->tokens, b->tokens, sizeof a->tokens);
    ck_assert_msg(fabs((double)a->logit - (double)b->logit) <= 1e-4 * fabs((double)b->logit), "%g, %g",
                  (double)a->logit, (double)b->logit);
}

/* ---- the same answer ----------------------------------------------------------------------------------- */

START_TEST(one_part_is_no_stream) {
    static const struct {
        const char *policy;
        double budget;
    } ways[] = {{"vlcache", 0.3}, {"centroids", 0.2}, {"snapkv", 0.2}, {"streamingllm", 0.3}};
    vlcache_model *model = open_model(folders[_i]);
    vlcache_video *video = moving(10, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        vlcache_prompt whole = about(&video, 1, 10, 0), part = about(&video, 1, 10, 10);
        result a = once(model, ways[i].policy, ways[i].budget, &whole),
               b = once(model, ways[i].policy, ways[i].budget, &part);
        ck_assert_mem_eq(a.tokens, b.tokens, sizeof a.tokens);
        ck_assert_uint_eq(a.kept, b.kept);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Nothing is dropped: parts of any size, pictures and two videos, give what the whole gives. */
START_TEST(full_parts_give_the_whole) {
    static const size_t parts[] = {1, 2, 3, 4, 6, 1000};
    vlcache_model *model = open_model(folders[_i]);
    vlcache_video *videos[] = {moving(7, 1), moving(4, 5)};
    vlcache_image *image = noise(9);
    vlcache_prompt prompt = about(videos, 2, 0, 0);
    prompt.video_fps = 2;
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    result whole = once(model, "full", 1, &prompt);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        prompt.stream_frames = parts[i];
        result r = once(model, "full", 1, &prompt);
        same(&r, &whole);
        ck_assert_int_eq(r.prompt, whole.prompt);
        ck_assert_uint_eq(r.full, whole.full);
    }
    vlcache_image_destroy(&image);
    for (int i = 0; i < 2; i++) vlcache_video_destroy(&videos[i]);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Sixteen times the frames: at once, the cache grows with them; in parts it stays as it was. */
START_TEST(memory_stays_flat) {
    static const int frames[] = {16, 32, 64, 128, 256};
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(256, 3);
    result first = {.peak = 0}, whole = {.peak = 0};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        vlcache_prompt parts = about(&video, 1, frames[i], 8), all = about(&video, 1, frames[i], 0);
        result r = once(model, _i ? "centroids" : "vlcache", 0.5, &parts);
        if (i == 0) first = r;
        if (i == 0) whole = once(model, _i ? "centroids" : "vlcache", 0.5, &all);
        ck_assert_msg((double)r.peak <= 1.3 * (double)first.peak, "%d frames: %llu bytes, %llu of %d",
                      frames[i], (unsigned long long)r.peak, (unsigned long long)first.peak, frames[0]);
        ck_assert_msg((double)r.kept <= 1.3 * (double)first.kept, "%d frames: %llu bytes kept, %llu of %d",
                      frames[i], (unsigned long long)r.kept, (unsigned long long)first.kept, frames[0]);
        if (i < 4) continue;
        result big = once(model, _i ? "centroids" : "vlcache", 0.5, &all);
        ck_assert_msg(big.peak > 4 * whole.peak && big.peak > 4 * r.peak, "%llu bytes at once",
                      (unsigned long long)big.peak);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* An engine with so little memory that the whole cannot be read, and parts can. */
START_TEST(fixed_memory) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(256, 3);
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_sequence_options own = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("vlcache", 0.5);
    vlcache_generate_options generate = some_tokens();
    vlcache_engine *engine = NULL;
    vlcache_sequence *sequence = NULL;
    vlcache_prompt parts = about(&video, 1, 256, 8), all = about(&video, 1, 256, 0);
    const vlcache_answer *answer = NULL;
    options.kv_bytes = 112 << 10;
    own.compress = &compress;
    ck_ok(vlcache_engine_create(model, &options, &engine));
    ck_ok(vlcache_engine_add(engine, &own, &sequence));
    ck_fails(vlcache_sequence_ask(sequence, &all, &generate), VLCACHE_E_DEVICE_MEMORY, "KV memory");
    ck_ok(vlcache_sequence_ask(sequence, &parts, &generate));
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(sequence, &answer));
    ck_assert_int_eq(answer->n_tokens, TOKENS);
    ck_assert_uint_le(answer->kv_bytes_peak, options.kv_bytes);
    result alone = once(model, "vlcache", 0.5, &parts);
    ck_assert_mem_eq(answer->tokens, alone.tokens, sizeof alone.tokens);
    vlcache_engine_destroy(&engine);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- what was kept ------------------------------------------------------------------------------------- */

static void check_head(vlcache_session *session, const vlcache_answer *a, int layer, int head, int want) {
    int32_t *kept = malloc((size_t)a->prompt_tokens * sizeof *kept);
    size_t n = 0;
    ck_ok(vlcache_session_kept(session, layer, head, kept, (size_t)a->prompt_tokens, &n));
    ck_assert_uint_eq(n, (size_t)want);
    for (size_t i = 0; i < n; i++) {
        ck_assert(kept[i] >= 0 && kept[i] < a->prompt_tokens);
        if (i) ck_assert_int_gt(kept[i], kept[i - 1]);
    }
    /* something of the beginning, the middle and the end */
    ck_assert_int_lt(kept[0], a->prompt_tokens / 4);
    ck_assert_int_gt(kept[n - 1], a->prompt_tokens - 30);
    free(kept);
}

START_TEST(kept_positions) {
    vlcache_model *model = open_model(folders[_i]);
    vlcache_video *video = moving(24, 3);
    vlcache_session *session = talk_open(model, "vlcache", 0.5);
    vlcache_prompt prompt = about(&video, 1, 24, 4);
    vlcache_generate_options generate = some_tokens();
    const vlcache_answer *a = NULL;
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &a));
    ck_assert(a->compressed);
    uint64_t row = a->compress.bytes_full / (uint64_t)(a->prompt_tokens * a->compress.layers), bytes = 0;
    for (int l = 0; l < a->compress.layers; l++) {
        vlcache_compress_layer layer;
        ck_ok(vlcache_session_layer(session, l, &layer));
        ck_assert(layer.sparsity >= 0 && layer.sparsity <= 1 && layer.budget < 1);
        bytes += row * (uint64_t)layer.kept;
        for (int h = 0; h < a->compress.kv_heads; h++) check_head(session, a, l, h, layer.kept);
    }
    ck_assert_uint_eq(bytes, a->compress.bytes_kept);
    ck_assert_double_eq_tol(a->compress.budget_kept,
                            (double)a->compress.bytes_kept / (double)a->compress.bytes_full, 1e-6);
    vlcache_session_destroy(&session);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* How many of the positions that are kept differ between two questions, in parts that stand in front of both.
 */
START_TEST(questions_choose) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(24, 3);
    static const char *const asked[] = {"What moves?", "Which of them is red, and when does it stop?"};
    int32_t kept[2][2048];
    size_t n[2], behind = 0, off = 0;
    for (int i = 0; i < 2; i++) {
        vlcache_session *session = talk_open(model, "vlcache", 0.5);
        vlcache_prompt prompt = about(&video, 1, 24, 4);
        prompt.text = asked[i];
        ask(session, &prompt);
        ck_ok(vlcache_session_kept(session, 1, 0, kept[i], 2048, &n[i]));
        vlcache_session_destroy(&session);
    }
    for (; behind < n[0] && behind < n[1] && kept[0][behind] < 100; behind++)
        off += kept[0][behind] != kept[1][behind];
    ck_assert_msg(off > 0, "the first %zu positions are the same", behind);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Where there is so much text that every part keeps all, hearing the question leaves no trace. */
START_TEST(hearing_leaves_no_trace) {
    static const char *const ways[] = {"full", "vlcache", "snapkv", "h2o"};
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(4, 3);
    vlcache_prompt prompt = about(&video, 1, 4, 2);
    result want = {.peak = 0};
    prompt.raw = true;
    prompt.text =
        "This is a story of a long day on which nothing much was seen, told in as many words as it takes. "
        "<|vision_start|><|video_pad|><|vision_end|> And now that all of it has been seen, tell us in a "
        "few words of your own what moves, and in which direction it does so.";
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        result r = once(model, ways[i], 0.95, &prompt);
        if (i == 0) want = r;
        ck_assert_uint_eq(r.kept, r.full);
        same(&r, &want);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- turns --------------------------------------------------------------------------------------------- */

/* Says no at a frame that a later part has. */
static bool until_frame(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)total;
    return strcmp(stage, "looking at a video") != 0 || done < *(const uint64_t *)user;
}

START_TEST(cancelled_in_a_later_part) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(16, 3);
    vlcache_session *session = talk_open(model, "vlcache", 0.5);
    vlcache_prompt prompt = about(&video, 1, 16, 4);
    vlcache_generate_options generate = some_tokens();
    const vlcache_answer *a = NULL;
    uint64_t frame = 9;
    generate.progress = until_frame;
    generate.user = &frame;
    ck_fails(vlcache_session_ask(session, &prompt, &generate, &a), VLCACHE_E_CANCELLED, "a video");
    result again = ask(session, &prompt), fresh = once(model, "vlcache", 0.5, &prompt);
    same(&again, &fresh);
    vlcache_session_destroy(&session);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* A later turn goes on behind what the parts have left, another stream among them. */
START_TEST(later_turns) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(16, 3);
    result last[2];
    for (int i = 0; i < 2; i++) {
        vlcache_session *session = talk_open(model, "full", 1);
        vlcache_prompt prompt = about(&video, 1, 16, i ? 4 : 0), words = VLCACHE_PROMPT_INIT;
        words.text = "And then?";
        ask(session, &prompt);
        ask(session, &prompt);
        last[i] = ask(session, &words);
        vlcache_session_destroy(&session);
    }
    same(&last[0], &last[1]);
    vlcache_session *session = talk_open(model, "centroids", 0.3);
    vlcache_prompt prompt = about(&video, 1, 16, 4), words = VLCACHE_PROMPT_INIT;
    words.text = "And then?";
    ask(session, &prompt);
    ask(session, &prompt);
    ask(session, &words);
    vlcache_session_destroy(&session);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

static bool never(void *user, size_t variant, const vlcache_answer *answer) {
    (void)user, (void)variant, (void)answer;
    ck_abort_msg("a variant was answered");
    return false;
}

START_TEST(refusals) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(8, 3);
    vlcache_session *session = talk_open(model, "full", 1);
    vlcache_prompt prompt = about(&video, 1, 8, 4);
    vlcache_generate_options generate = some_tokens();
    vlcache_compress_options way = talk_way("vlcache", 0.5);
    ck_fails(vlcache_session_compare(session, &prompt, &generate, &way, 1, never, NULL),
             VLCACHE_E_UNSUPPORTED, "stream_frames");
    ask(session, &prompt);
    prompt.stream_frames = SIZE_MAX;
    ck_fails(vlcache_session_ask(session, &prompt, &generate, NULL), VLCACHE_E_ARGUMENT, "stream_frames");
    vlcache_session_destroy(&session);
    session = talk_open(model, "vlcache+", 0.5);
    prompt.stream_frames = 4;
    ck_fails(vlcache_session_ask(session, &prompt, &generate, NULL), VLCACHE_E_UNSUPPORTED, "coded rows");
    vlcache_session_destroy(&session);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* A turn that there is no memory to ask has not been said. */
START_TEST(memory_of_asking) {
    vlcache_model *model = open_model("qwen2_5-vl");
    vlcache_video *video = moving(8, 4);
    vlcache_engine *engine = NULL;
    vlcache_sequence *sequence = NULL;
    ck_ok(vlcache_engine_create(model, NULL, &engine));
    ck_ok(vlcache_engine_add(engine, NULL, &sequence));
    vlcache_prompt prompt = about(&video, 1, 8, 4);
    bool failed = true;
    for (long at = 0; failed; at++) {
        failing_start(at);
        vlcache_status status = vlcache_sequence_ask(sequence, &prompt, NULL);
        failing_stop(&failed);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
        ck_assert_int_eq(sequence->said.n, failed ? 0 : 1);
    }
    ck_assert_ptr_nonnull(sequence->portions);
    vlcache_engine_destroy(&engine);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("portions");
    TCase *tests = tcase_create("portions");
    suite_balance(tests);
    tcase_add_loop_test(tests, one_part_is_no_stream, 0, N_FOLDERS);
    tcase_add_loop_test(tests, full_parts_give_the_whole, 0, N_FOLDERS);
    tcase_add_loop_test(tests, memory_stays_flat, 0, 2);
    tcase_add_test(tests, fixed_memory);
    tcase_add_loop_test(tests, kept_positions, 0, N_FOLDERS);
    tcase_add_test(tests, questions_choose);
    tcase_add_test(tests, hearing_leaves_no_trace);
    tcase_add_test(tests, cancelled_in_a_later_part);
    tcase_add_test(tests, later_turns);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, memory_of_asking);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
