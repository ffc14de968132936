/*
 * test_smolvlm.c - SmolVLM's videos: which frames, the words around them, what hub folders say, turns of a
 * chat. test_clip.c has films end to end.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "models/idefics3.h"
#include "models/smolvlm.h"
#include "support/rig.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "vlcache/session.h"

#define TINY VLCACHE_TEST_DATA "/models/smolvlm-tiles"

/* ---- frames and words ---------------------------------------------------------------------------------- */

/* Where a processor names neither, all are seen. */
START_TEST(all_frames) {
    vlci_clip clip = {.total = 500, .fps = 0.1};
    const vlci_clip_choice by = {.both = true, .step = 1};
    ck_ok(vlci_clip_choose(&by, &(const vlci_clip_asked){0}, &clip));
    ck_assert_int_eq(clip.n, 500);
    for (int i = 0; i < clip.n; i++) ck_assert_int_eq(clip.frame[i], i);
    vlci_clip_release(&clip);
}
END_TEST

/* By num2words and datetime. */
static const struct {
    int n, total;
    double fps;
    int first;
    const char *count, *length, *time;
} words[] = {
    {1, 1, 30, 0, "one", "0:00:00", "00:00"},
    {12, 360, 30, 59, "twelve", "0:00:12", "00:01"},
    {20, 100, 1, 61, "twenty", "0:01:40", "01:01"},
    {64, 4000, 1, 3600, "sixty-four", "1:06:40", "60:00"},
    {100, 90000, 1, 0, "one hundred", "1 day, 1:00:00", "00:00"},
    {301, 4000, 0.01, 3999, "three hundred and one", "4 days, 15:06:40", "6665:00"},
    {1000, 1000, 29.97, 999, "one thousand", "0:00:33", "00:33"},
    {1001, 1001, 1, 0, "one thousand and one", "0:16:41", "00:00"},
    {12345, 12345, 1, 0, "twelve thousand, three hundred and forty-five", "3:25:45", "00:00"},
    {1 << 20, 1 << 20, 1000, 0, "one million, forty-eight thousand, five hundred and seventy-six", "0:17:28",
     "00:00"},
};

START_TEST(words_around_videos) {
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *got = NULL, want[512];
        int frame[] = {words[i].first};
        const vlci_clip clip = {
            .total = words[i].total, .fps = words[i].fps, .frame = frame, .n = words[i].n};
        snprintf(
            want, sizeof want,
            "You are provided the following series of %s frames from a %s [H:MM:SS] video.\n\nFrame from "
            "%s:<fake_token_around_image>\n\n",
            words[i].count, words[i].length, words[i].time);
        ck_ok(vlci_family_smolvlm.videos->write(&clip, &got));
        ck_assert_str_eq(got, want);
        free(got);
    }
}
END_TEST

/* ---- settings ------------------------------------------------------------------------------------------ */

static void take_config(void) {
    json_t *config = json_load_file(TINY "/config.json", 0, NULL);
    char *text = json_dumps(config, 0);
    scratch_text("config.json", text);
    free(text);
    json_decref(config);
}

/* The image processor's file, with more behind it. */
static vlcache_status load_with(const char *more, vlci_config *config) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"image_processor_type\": \"SmolVLMImageProcessor\", \"max_image_size\": "
             "{\"longest_edge\": 28}, \"resample\": 1, \"image_mean\": [0.5, 0.5, 0.5], \"image_std\": "
             "[0.5, 0.5, 0.5]%s}",
             more);
    scratch_text("preprocessor_config.json", text);
    return vlci_config_load(scratch_folder(), config);
}

/* "size" goes before "video_size"; the rest of "video_sampling" before what stands beside it. */
START_TEST(hub_folders) {
    static const struct {
        const char *more;
        int edge, frames;
        double fps;
    } files[] = {
        {"", 4 * 364, 0, 0},
        {", \"size\": {\"longest_edge\": 84}, \"video_sampling\": {\"fps\": 0.1, \"max_frames\": 64, "
         "\"video_size\": {\"longest_edge\": 28}}",
         84, 64, 0.1},
        {", \"num_frames\": 3, \"fps\": 2, \"video_sampling\": {\"fps\": 1, \"max_frames\": 8, "
         "\"video_size\": "
         "{\"longest_edge\": 30}}",
         30, 8, 1},
        {", \"num_frames\": 3, \"fps\": 2", 4 * 364, 3, 2},
    };
    take_config();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        vlci_config config;
        ck_ok(load_with(files[i].more, &config));
        const vlci_idefics3 *eyes = config.eyes;
        ck_assert_int_eq(config.video_token, VLCI_TOKEN_OF_MARK);
        ck_assert_int_eq(eyes->frame_edge, files[i].edge);
        ck_assert_int_eq(eyes->choice.frames, files[i].frames);
        ck_assert_double_eq(eyes->choice.fps, files[i].fps);
        vlci_config_release(&config);
    }
}
END_TEST

START_TEST(bad_settings) {
    static const struct {
        const char *more, *said;
    } files[] = {
        {", \"video_sampling\": 3", "video_sampling"},
        {", \"video_sampling\": {\"fps\": \"1\"}", "video_sampling.fps"},
        {", \"video_sampling\": {\"fps\": 0}", "video_sampling.fps"},
        {", \"video_sampling\": {\"max_frames\": 1e9}", "video_sampling.max_frames"},
        {", \"video_sampling\": {\"video_size\": {\"longest_edge\": 0}}", "longest_edge"},
        {", \"num_frames\": -1", "num_frames"},
    };
    vlci_config config;
    take_config();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_fails(load_with(files[i].more, &config), VLCACHE_E_FORMAT, files[i].said);
    scratch_text("video_preprocessor_config.json", "{\"max_image_size\": {\"longest_edge\": 56}}");
    ck_ok(load_with("", &config));
    ck_assert_int_eq(config.video_token, -1);
    ck_assert_ptr_nonnull(strstr(config.no_videos, "does not take"));
    vlci_config_release(&config);
    scratch_remove("video_preprocessor_config.json");
}
END_TEST

/* ---- prompts ------------------------------------------------------------------------------------------- */

static vlcache_model *open_model(const char *folder) {
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    ck_ok(vlcache_model_load(suite_device(), folder, &options, &model));
    return model;
}

static vlcache_video *moving(int n, double fps) {
    vlcache_image *frame[64] = {NULL};
    vlcache_video *video = NULL;
    uint8_t rgb[30 * 20 * 3];
    uint64_t state = 3;
    for (int i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof rgb; k++) rgb[k] = (uint8_t)(128 + 100 * suite_random(&state));
        ck_ok(vlcache_image_from_rgb(rgb, 30, 20, 0, &frame[i]));
    }
    ck_ok(vlcache_video_from_images((const vlcache_image *const *)frame, (size_t)n, fps, &video));
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frame[i]);
    return video;
}

static vlci_prompt lay_out(const vlcache_model *model, vlcache_video *const *video, const char *text,
                           bool raw, const vlci_conversation *said) {
    const vlci_turn turn = {.chat = model->chat, .said = said, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    vlci_prompt prompt;
    asked.text = text;
    asked.raw = raw;
    asked.videos = video;
    asked.n_videos = video != NULL;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &prompt));
    return prompt;
}

static void same_rows(const vlci_prompt *a, const vlci_prompt *b) {
    ck_assert_int_eq(a->n, b->n);
    ck_assert_int_eq(a->visual, b->visual);
    ck_assert_mem_eq(a->ids, b->ids, (size_t)a->n * sizeof *a->ids);
}

/* A chat gives the rows of the raw prompt: marks in front of the words, among them, and marks that are words.
 */
START_TEST(chats_show_videos) {
    static const char *const turns[][2] = {
        {"What moves?", "<|im_start|>User: <video>What moves?<end_of_utterance>\nAssistant:"},
        {"See <video> here", "<|im_start|>User: See <video> here<end_of_utterance>\nAssistant:"},
    };
    vlcache_model *model = open_model(TINY);
    vlcache_video *video = moving(9, 2);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        vlci_prompt chat = lay_out(model, &video, turns[i][0], false, NULL),
                    raw = lay_out(model, &video, turns[i][1], true, NULL);
        ck_assert_int_eq(chat.clip[0].n, 4);
        same_rows(&chat, &raw);
        vlci_prompt_release(&chat);
        vlci_prompt_release(&raw);
    }
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Behind an answer, and where the checkpoint's own template knows no videos; that of the session counts. */
START_TEST(later_turns) {
    static const char own[] = "{% for m in messages %}[{{ m.role }}] {{ m.content[0].text }}\n{% endfor %}";
    vlcache_model *model = open_model(TINY);
    vlcache_video *video = moving(3, 1);
    vlci_chat *plain = NULL;
    vlci_said said[] = {{VLCI_USER, "One", 0, 0}, {VLCI_ASSISTANT, "Two", 0, 0}, {VLCI_USER, "Three", 0, 1}};
    const vlci_conversation c = {.at = said, .n = 3};
    vlci_prompt chat = lay_out(model, &video, "Three", false, &c),
                raw = lay_out(model, &video,
                              "<end_of_utterance>\nUser: <video>Three<end_of_utterance>\nAssistant:", true,
                              NULL);
    same_rows(&chat, &raw);
    ck_assert(!chat.rewritten);
    vlci_prompt_release(&chat);
    const vlci_chat_for what = {model->tokenizer, "<image>", "<video>"};
    ck_ok(vlci_chat_open(model->chat, own, &what, &plain));
    ck_ok(vlci_chat_show_videos(plain, model->family->videos->chat));
    vlci_chat *first = model->chat;
    model->chat = plain;
    chat = lay_out(model, &video, "Three", false, &c);
    same_rows(&chat, &raw);
    vlci_prompt_release(&chat);
    chat = lay_out(model, NULL, "One", false, &(const vlci_conversation){.at = said, .n = 1});
    ck_assert_int_lt(chat.n, 16); /* in its own form */
    model->chat = first;
    vlci_chat_release(&plain);
    vlci_prompt_release(&chat);
    vlci_prompt_release(&raw);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Ids have no words beside them: those around a video stand for themselves. */
START_TEST(ids_show_videos) {
    vlcache_model *model = open_model(TINY);
    vlcache_video *video[] = {moving(2, 1), moving(3, 1)};
    const vlci_turn turn = {.chat = model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    const int32_t ids[] = {1, VLCACHE_TOKEN_VIDEO, VLCACHE_TOKEN_VIDEO, 2};
    vlci_prompt prompt, raw = lay_out(model, video, "<video>", true, NULL);
    asked.tokens = ids;
    asked.n_tokens = 4;
    asked.videos = video;
    asked.n_videos = 2;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &prompt));
    ck_assert_int_eq(prompt.visual, 5 * 4);
    ck_assert_int_eq(prompt.ids[0], 1);
    ck_assert_int_eq(prompt.ids[prompt.n - 1], 2);
    ck_assert_mem_eq(prompt.ids + 1, raw.ids, (size_t)raw.n * sizeof *raw.ids);
    vlci_prompt_release(&prompt);
    vlci_prompt_release(&raw);
    for (int i = 0; i < 2; i++) vlcache_video_destroy(&video[i]);
    vlcache_model_destroy(&model);
}
END_TEST

static void refuses(vlcache_model *model, const vlcache_prompt *prompt, vlcache_status status,
                    const char *said) {
    const vlcache_answer *answer;
    vlcache_session *session = talk_open(model, "full", 1);
    ck_fails(vlcache_session_ask(session, prompt, NULL, &answer), status, said);
    vlcache_session_destroy(&session);
}

/* One every ten seconds, rate and number asked for; more than the text model takes is refused by name. */
START_TEST(hundreds_of_frames) {
    enum { MANY = 500 };
    vlcache_model *model = open_model(TINY);
    vlcache_image *image = NULL;
    const vlcache_image *frames[MANY];
    vlcache_video *video = NULL;
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    vlci_prompt prompt;
    char *text = NULL;
    uint8_t grey[40 * 8 * 3] = {0};
    const vlci_turn turn = {.chat = model->chat, .open = -1};
    ck_ok(vlcache_image_from_rgb(grey, 40, 8, 0, &image));
    for (int i = 0; i < MANY; i++) frames[i] = image;
    ck_ok(vlcache_video_from_images(frames, MANY, 0.1, &video));
    asked.text = "What?";
    asked.videos = &video;
    asked.n_videos = 1;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &prompt));
    ck_assert_int_eq(prompt.clip[0].n, 6); /* as the checkpoint says */
    vlci_prompt_release(&prompt);
    asked.video_fps = 0.1;
    asked.video_frames = MANY;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &prompt));
    ck_assert_int_eq(prompt.n_seen, MANY);
    ck_assert_int_eq(prompt.visual, MANY * 4);
    ck_assert_double_eq_tol(prompt.seen[MANY - 1].seconds, 4990, 1e-9);
    ck_ok(model->family->videos->write(&prompt.clip[0], &text));
    ck_assert_ptr_nonnull(strstr(text, "series of five hundred frames from a 1:23:20 [H:MM:SS] video."));
    free(text);
    vlci_prompt_release(&prompt);
    refuses(model, &asked, VLCACHE_E_CONTEXT_FULL, "2048");
    vlcache_video_destroy(&video);
    vlcache_image_destroy(&image);
    vlcache_model_destroy(&model);
}
END_TEST

START_TEST(what_cannot_be_asked) {
    vlcache_model *smolvlm = open_model(TINY),
                  *idefics3 = open_model(VLCACHE_TEST_DATA "/models/idefics3-hub");
    vlcache_video *video = moving(2, 1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    prompt.text = "What?";
    prompt.videos = &video;
    prompt.n_videos = 1;
    refuses(idefics3, &prompt, VLCACHE_E_UNSUPPORTED,
            "the family idefics3 take no videos; give it some frames as pictures");
    prompt.raw = true;
    refuses(smolvlm, &prompt, VLCACHE_E_ARGUMENT, "0 <video> marks for 1 video");
    prompt.text = "<video><video>";
    refuses(smolvlm, &prompt, VLCACHE_E_ARGUMENT, "2 <video> marks for 1 video");
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&smolvlm);
    vlcache_model_destroy(&idefics3);
}
END_TEST

/* With every allocation failing in turn nothing stays, of a chat, a raw prompt and ids. */
static void survives_memory(const vlcache_model *model, const vlcache_prompt *asked) {
    const vlci_turn turn = {.chat = model->chat, .open = -1};
    bool failed = true;
    for (long n = 0; failed; n++) {
        vlci_prompt prompt;
        failing_start(n);
        vlcache_status status = vlci_prompt_create(model, asked, &turn, &prompt);
        if (!status) vlci_prompt_release(&prompt);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}

START_TEST(memory_may_fail) {
    static const int32_t ids[] = {1, VLCACHE_TOKEN_VIDEO, 2};
    vlcache_model *model = open_model(TINY);
    vlcache_video *video = moving(2, 1);
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.videos = &video;
    asked.n_videos = 1;
    asked.text = "What?";
    survives_memory(model, &asked);
    asked.text = "<video>What?";
    asked.raw = true;
    survives_memory(model, &asked);
    asked.text = NULL;
    asked.tokens = ids;
    asked.n_tokens = 3;
    survives_memory(model, &asked);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Pictures and a video of one prompt are seen each in its way; pictures stand in front. */
START_TEST(pictures_beside_videos) {
    vlcache_model *model = open_model(TINY);
    vlcache_video *video = moving(2, 1);
    vlcache_image *image = NULL;
    const vlci_turn turn = {.chat = model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    vlci_prompt prompt;
    uint8_t grey[28 * 28 * 3] = {0};
    ck_ok(vlcache_image_from_rgb(grey, 28, 28, 0, &image));
    const vlcache_image *const images[] = {image};
    asked.text = "Compare.";
    asked.images = images;
    asked.n_images = 1;
    asked.videos = &video;
    asked.n_videos = 1;
    ck_ok(vlci_prompt_create(model, &asked, &turn, &prompt));
    int of_picture = prompt.layout[0].n_tokens;
    ck_assert_int_eq(prompt.visual, of_picture + 2 * 4);
    for (int i = 0; i < prompt.visual; i++)
        ck_assert_int_eq(prompt.where[i].image, i < of_picture ? 0 : 1 + (i - of_picture) / 4);
    vlci_prompt_release(&prompt);
    vlcache_image_destroy(&image);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

/* Read in parts nothing changes with the whole cache, and less stands in it at a time with a budget. */
START_TEST(streams) {
    vlcache_model *model = open_model(TINY);
    vlcache_video *video = moving(24, 1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    int32_t whole[12];
    size_t peak[2] = {0};
    generate.max_tokens = 12;
    generate.min_tokens = 12;
    prompt.text = "What moves?";
    prompt.videos = &video;
    prompt.n_videos = 1;
    prompt.video_frames = 24; /* which hub folders bound */
    for (int i = 0; i < 4; i++) {
        vlcache_session *session = talk_open(model, i < 2 ? "full" : "vlcache", i < 2 ? 1 : 0.3);
        const vlcache_answer *answer;
        prompt.stream_frames = i % 2 ? 3 : 0;
        ck_ok(vlcache_session_ask(session, &prompt, &generate, &answer));
        ck_assert_int_eq(answer->visual_tokens, 24 * 4);
        if (i == 0) memcpy(whole, answer->tokens, sizeof whole);
        if (i == 1) ck_assert_mem_eq(answer->tokens, whole, sizeof whole);
        if (i >= 2) peak[i - 2] = answer->kv_bytes_peak;
        vlcache_session_destroy(&session);
    }
    ck_assert_uint_lt(peak[1], peak[0]);
    vlcache_video_destroy(&video);
    vlcache_model_destroy(&model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("smolvlm");
    TCase *tests = tcase_create("smolvlm");
    suite_balance(tests);
    tcase_add_test(tests, all_frames);
    tcase_add_test(tests, words_around_videos);
    tcase_add_test(tests, hub_folders);
    tcase_add_test(tests, bad_settings);
    tcase_add_test(tests, chats_show_videos);
    tcase_add_test(tests, later_turns);
    tcase_add_test(tests, ids_show_videos);
    tcase_add_test(tests, hundreds_of_frames);
    tcase_add_test(tests, what_cannot_be_asked);
    tcase_add_test(tests, memory_may_fail);
    tcase_add_test(tests, pictures_beside_videos);
    tcase_add_test(tests, streams);
    suite_add_tcase(suite, tests);
    int code = suite_run(suite);
    scratch_clean();
    return code;
}
