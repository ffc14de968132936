/*
 * test_session.c - a conversation through the public calls: answers, streams, budgets, turns, cancellation.
 */
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "session/session.h"
#include "support/suite.h"
#include "support/talk.h"

/* ---- answers ------------------------------------------------------------------------------------------- */

/* Pictures of a sample, in new memory. */
static size_t sample_images(const json_t *item, vlcache_image *images[4]) {
    const json_t *one = json_object_get(item, "image"), *many = json_object_get(item, "images");
    size_t n = one ? 1 : json_array_size(many);
    ck_assert_uint_le(n, 4);
    for (size_t i = 0; i < n; i++)
        images[i] = talk_picture(json_string_value(one ? one : json_array_get(many, i)));
    return n;
}

/* One question of a sample: right in full, and the same tokens where everything is kept. */
static void check_turn(const json_t *turn, vlcache_image *const *images, size_t n_images, int most,
                       vlcache_session *full, vlcache_session *small) {
    const char *want = json_string_value(json_array_get(json_object_get(turn, "answers"), 0));
    const vlcache_answer *a = NULL, *b = NULL;
    talk_listener l = {.text = ""};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    generate.max_tokens = most;
    prompt.text = json_string_value(json_object_get(turn, "question"));
    prompt.images = (const vlcache_image *const *)images;
    prompt.n_images = n_images;
    int tokens = 0;
    ck_ok(vlcache_session_ask(small, &prompt, &generate, &b));
    ck_ok(vlcache_session_count(full, &prompt, &tokens));
    generate.on_text = talk_listen;
    generate.user = &l;
    ck_ok(vlcache_session_ask(full, &prompt, &generate, &a));
    ck_assert_str_eq(a->text, want);
    ck_assert_str_eq(a->text, l.text);
    ck_assert_int_eq(a->finish, VLCACHE_FINISH_STOP);
    ck_assert(!a->compressed && a->compress.bytes_kept == a->compress.bytes_full);
    ck_assert_int_eq(a->visual_tokens, 576 * (int)n_images);
    ck_assert_int_eq(a->prompt_tokens, tokens);
    talk_same(a, b);
    ck_assert(b->compressed == (n_images > 0) && b->compress.budget_kept == 1.0);
}

static void check_sample(const json_t *item, vlcache_session *full, vlcache_session *small) {
    const json_t *turns = json_object_get(item, "turns"), *most = json_object_get(item, "max_tokens");
    vlcache_image *images[4];
    size_t n = sample_images(item, images);
    for (size_t i = 0; i < (turns ? json_array_size(turns) : 1); i++)
        check_turn(turns ? json_array_get(turns, i) : item, images, i ? 0 : n,
                   most ? (int)json_integer_value(most) : 256, full, small);
    vlcache_session_clear(full);
    vlcache_session_clear(small);
    for (size_t i = 0; i < n; i++) vlcache_image_destroy(&images[i]);
}

START_TEST(samples) {
    vlcache_session *full = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *small = talk_open(talk_demo(), "vlcache", 1.0);
    json_error_t error;
    FILE *file = fopen(DEMO "samples/samples.jsonl", "r");
    ck_assert_ptr_nonnull(file);
    int n = 0;
    for (json_t *item; (item = json_loadf(file, JSON_DISABLE_EOF_CHECK, &error)); json_decref(item), n++)
        check_sample(item, full, small);
    fclose(file);
    ck_assert_int_ge(n, 8);
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&small);
}
END_TEST

/* Tokens of the prompt as the goldens write them: n visual tokens in a row as -n. */
static json_t *prompt_ids(const vlci_prompt *prompt) {
    json_t *ids = json_array();
    int visual = 0;
    for (int i = 0; i < prompt->n; i++) {
        bool picture = prompt->ids[i] < 0;
        if (picture) ck_assert_int_eq(prompt->where[-1 - prompt->ids[i]].position, i);
        visual = picture ? visual + 1 : 0;
        if (picture && (i + 1 == prompt->n || prompt->ids[i + 1] >= 0))
            json_array_append_new(ids, json_integer(-visual));
        if (!picture) json_array_append_new(ids, json_integer(prompt->ids[i]));
    }
    return ids;
}

/* The post-vision rows: what is no visual token, behind any picture, between two as well. */
static void check_text_rows(const vlci_prompt *prompt, const json_t *ids) {
    size_t k;
    json_t *id;
    int row = 0, n = 0;
    bool seen = false;
    json_array_foreach(ids, k, id) {
        int value = (int)json_integer_value(id);
        seen = seen || value < 0;
        if (seen && value >= 0) {
            ck_assert_int_lt(n, prompt->after);
            ck_assert_int_eq(prompt->after_at[n++], row);
        }
        row += value < 0 ? -value : 1;
    }
    ck_assert_int_eq(n, prompt->after);
}

/* Wherever its marks stand, a question becomes the ids that transformers' processor makes of it. */
START_TEST(prompts) {
    vlcache_image *image = talk_picture("pages-2.png");
    const vlcache_image *images[3] = {image, image, image};
    const vlci_turn turn = {.chat = talk_demo()->chat, .open = -1};
    json_t *all = json_load_file(VLCACHE_TEST_DATA "/prompts.json", 0, NULL), *item;
    size_t k;
    ck_assert_uint_gt(json_array_size(all), 5);
    json_array_foreach(all, k, item) {
        vlcache_prompt asked = VLCACHE_PROMPT_INIT;
        vlci_prompt prompt;
        asked.text = json_string_value(json_object_get(item, "question"));
        asked.images = images;
        asked.n_images = (size_t)json_integer_value(json_object_get(item, "images"));
        ck_ok(vlci_prompt_create(talk_demo(), &asked, &turn, &prompt));
        json_t *ids = prompt_ids(&prompt);
        ck_assert_msg(json_equal(ids, json_object_get(item, "ids")), "\"%s\": other ids", asked.text);
        check_text_rows(&prompt, ids);
        json_decref(ids);
        vlci_prompt_release(&prompt);
    }
    json_decref(all);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- what compression keeps ---------------------------------------------------------------------------- */

static void check_layer(vlcache_session *session, int layer, const vlcache_answer *a, double *rows) {
    vlcache_compress_layer l;
    ck_ok(vlcache_session_layer(session, layer, &l));
    ck_assert(l.sparsity > 0.0 && l.sparsity < 1.0);
    ck_assert_int_eq(l.kept, (int)floor(l.budget * a->prompt_tokens + 0.5));
    *rows += l.kept;
    int32_t at[1024];
    size_t n = 0;
    for (int head = 0; head < a->compress.kv_heads; head++) {
        ck_ok(vlcache_session_kept(session, layer, head, at, 1024, &n));
        ck_assert_uint_eq(n, (size_t)l.kept);
        for (size_t i = 1; i < n; i++) ck_assert_int_lt(at[i - 1], at[i]);
        for (int i = 0; i < l.recent; i++) ck_assert_int_eq(at[n - 1 - (size_t)i], a->prompt_tokens - 1 - i);
    }
}

/* Layers shrink as they are read where all of them, in full, are more than a small part of the memory. */
START_TEST(kept_rows) {
    uint64_t *memory = &talk_demo()->device->caps.info.global_memory, whole = *memory;
    if (_i) *memory = 1;
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *full = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *small = talk_open(talk_demo(), "vlcache", 0.10);
    const vlcache_answer *a = NULL, *b = NULL;
    ck_ok(talk_ask(full, image, "What is the Due date?", NULL, 8, &a));
    ck_ok(talk_ask(small, image, "What is the Due date?", NULL, 8, &b));
    double rows = 0;
    for (int layer = 0; layer < b->compress.layers; layer++) check_layer(small, layer, b, &rows);
    ck_assert_double_eq_tol(b->compress.budget_kept, rows / b->compress.layers / b->prompt_tokens, 1e-9);
    ck_assert_double_eq_tol(b->compress.budget_kept, 0.10, 0.02);
    ck_assert_uint_lt(b->compress.bytes_kept * 8, b->compress.bytes_full);
    ck_assert_uint_lt(b->kv_bytes * 4, a->kv_bytes); /* the full-size buffers are gone */
    ck_assert_uint_ge(a->kv_bytes_peak, a->compress.bytes_full);
    if (_i) ck_assert_uint_lt(b->kv_bytes_peak * 2, b->compress.bytes_full); /* nor were they ever there */
    ck_assert_int_eq(a->first_logits[0].token, a->tokens[0]);
    for (int i = 0; i < VLCACHE_FIRST_LOGITS; i++)
        ck_assert_float_eq(a->first_logits[i].logit, b->first_logits[i].logit);
    *memory = whole;
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&small);
    vlcache_image_destroy(&image);
}
END_TEST

START_TEST(visual_tokens) {
    vlcache_image *image = talk_picture("charts-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.10);
    const vlcache_answer *a = NULL;
    vlcache_visual_token first, last;
    ck_fails(vlcache_session_visual(session, 0, &first), VLCACHE_E_ARGUMENT, "no turn");
    ck_ok(talk_ask(session, image, "Which is the highest?", NULL, 0, &a));
    ck_assert_int_eq(a->n_tokens, 0);
    ck_assert_int_eq(a->n_first_logits, VLCACHE_FIRST_LOGITS);
    ck_ok(vlcache_session_visual(session, 0, &first));
    ck_ok(vlcache_session_visual(session, a->visual_tokens - 1, &last));
    ck_assert(first.x0 == 0 && first.y0 == 0 && first.x1 == 14 && first.y1 == 14);
    ck_assert(last.x1 == 336 && last.y1 == 336);
    ck_assert_int_eq(last.position - first.position, a->visual_tokens - 1);
    ck_assert_int_eq(last.position + a->post_vision_tokens + 1, a->prompt_tokens);
    ck_fails(vlcache_session_visual(session, a->visual_tokens, &last), VLCACHE_E_ARGUMENT, "576");
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Rows of a turn with two pictures, whole or in tiles: text between them and behind them, and the last rows
 * where there is none. vlcache_session_visual() says where the pictures stand. */
static void check_post_vision(vlcache_session *session, const vlcache_image *image, const char *text,
                              bool has_text) {
    const vlcache_image *images[] = {image, image};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_visual_token first;
    const vlcache_answer *a = NULL;
    prompt.text = text;
    prompt.images = images;
    prompt.n_images = 2;
    prompt.raw = true;
    generate.max_tokens = 3;
    vlcache_session_clear(session);
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &a));
    ck_ok(vlcache_session_visual(session, 0, &first));
    ck_assert_int_eq(a->post_vision_tokens, a->prompt_tokens - a->visual_tokens - first.position);
    ck_assert(a->compress.fallback == !has_text);
    ck_assert(has_text == (a->post_vision_tokens > 0));
    ck_assert_int_eq(a->compress.tau, has_text ? a->post_vision_tokens : 32);
    const vlci_rows *rows = &vlci_sequence_plan(session->sequence)->seen->rows;
    ck_assert_int_eq(rows->n, a->compress.tau);
    for (int i = 0; i < rows->n && has_text; i++)
        ck_assert_int_ge(session->sequence->prompt.ids[rows->entry[i] >> VLCI_ROW_SHIFT], 0);
}

START_TEST(post_vision_between_pictures) {
    static const char *const folders[] = {"llava-mistral-gqa4", "next-llama-bias"};
    vlcache_model *model = NULL;
    char folder[300];
    snprintf(folder, sizeof folder, "%s/models/%s", VLCACHE_TEST_DATA, folders[_i]);
    vlcache_image *image = talk_picture("pages-2.png");
    ck_ok(vlcache_model_load(suite_device(), folder, NULL, &model));
    vlcache_session *session = talk_open(model, "vlcache", 0.3);
    check_post_vision(session, image, "<s>Look: <image> and <image> Compare.", true);
    check_post_vision(session, image, "<s>Look: <image><image> Compare.", true);
    check_post_vision(session, image, "<s>Look: <image> and <image>", true);
    check_post_vision(session, image, "<s>Look: <image><image>", false);
    vlcache_session_destroy(&session);
    vlcache_model_destroy(&model);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- turns --------------------------------------------------------------------------------------------- */

/* The same conversation at once, raw, and turn by turn: the same cache, the same tokens. */
START_TEST(turns_equal_one_prompt) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *turns = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *once = talk_open(talk_demo(), "full", 1.0);
    const vlcache_answer *a = NULL, *b = NULL;
    char raw[600];
    ck_ok(talk_ask(turns, image, "What is the Due date?", NULL, 64, &a));
    snprintf(raw, sizeof raw, "<s>USER: <image>\nWhat is the Due date? ASSISTANT: %s%s", a->text,
             "</s>USER: What is the heading? ASSISTANT:");
    int held = a->context_tokens;
    ck_ok(talk_ask(turns, NULL, "What is the heading?", NULL, 64, &a));
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    prompt.text = raw;
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    prompt.raw = true;
    ck_ok(vlcache_session_ask(once, &prompt, NULL, &b));
    ck_assert_int_eq(held + a->prompt_tokens, b->prompt_tokens);
    talk_same(a, b);
    vlcache_session_destroy(&turns);
    vlcache_session_destroy(&once);
    vlcache_image_destroy(&image);
}
END_TEST

/* However many pages stand ready behind a conversation, its next turn is read against the same rows: the
 * logits do not change by a bit. Questions of many lengths, so that answers end before a page does, with it,
 * behind it. */
START_TEST(room_changes_nothing) {
    vlcache_image *image = talk_picture("charts-3.png");
    int whole = 0;
    for (int length = 0; length < 18; length++) {
        vlcache_logit first[VLCACHE_FIRST_LOGITS];
        char question[64] = "What is the value of Aug";
        for (int i = 0; i < length; i++) strcat(question, i % 2 ? "?" : "-");
        for (int ready = 0; ready < 2; ready++) {
            vlcache_session *session = talk_open(talk_demo(), "full", 1.0);
            const vlcache_answer *a = NULL;
            vlci_kv *kv = &session->sequence->kv;
            ck_ok(talk_ask(session, image, "Which is the highest?", NULL, 8, &a));
            if (ready) ck_ok(vlci_kv_reserve(kv, 0, kv->pool->shape.layers, 96));
            ck_ok(talk_ask(session, NULL, question, NULL, 4, &a));
            whole += ready && kv->length % VLCI_KV_PAGE == 0;
            ck_ok(talk_ask(session, NULL, "Which is the lowest?", NULL, 1, &a));
            if (!ready) memcpy(first, a->first_logits, sizeof first);
            ck_assert_msg(memcmp(first, a->first_logits, sizeof first) == 0, "%d more: %g, %g", length,
                          (double)a->first_logits[0].logit, (double)first[0].logit);
            vlcache_session_destroy(&session);
        }
    }
    ck_assert_int_gt(whole, 0);
    vlcache_image_destroy(&image);
}
END_TEST

/* An answer cut off by its length goes on where it was: the token that was open is read first. */
START_TEST(length_then_more) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *whole = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *parts = talk_open(talk_demo(), "full", 1.0);
    const vlcache_answer *a = NULL, *b = NULL;
    ck_ok(talk_ask(whole, image, "What is the Due date?", NULL, 64, &a));
    ck_ok(talk_ask(parts, image, "What is the Due date?", NULL, 3, &b));
    ck_assert_int_eq(b->finish, VLCACHE_FINISH_LENGTH);
    ck_assert_int_eq(b->n_tokens, 3);
    ck_assert_mem_eq(a->tokens, b->tokens, 3 * sizeof *a->tokens);
    vlcache_prompt nothing = VLCACHE_PROMPT_INIT;
    nothing.text = "";
    nothing.raw = true;
    ck_ok(vlcache_session_ask(parts, &nothing, NULL, &b));
    ck_assert_int_eq(b->prompt_tokens, 1);
    ck_assert_int_eq(b->n_tokens, a->n_tokens - 3);
    ck_assert_mem_eq(a->tokens + 3, b->tokens, (size_t)b->n_tokens * sizeof *a->tokens);
    vlcache_session_destroy(&whole);
    vlcache_session_destroy(&parts);
    vlcache_image_destroy(&image);
}
END_TEST

/* After compression: later turns are whole, earlier rows stay. */
START_TEST(turn_after_compression) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.5);
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, 64, &a));
    uint64_t bytes = a->compress.bytes_kept;
    ck_ok(talk_ask(session, NULL, "What is the heading?", NULL, 64, &a));
    ck_assert(!a->compressed);
    ck_assert_int_gt(a->n_tokens, 0);
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, 64,
                   &a)); /* the picture again, in a later turn */
    ck_assert(a->compressed);
    ck_assert_uint_gt(a->kv_bytes, bytes);
    vlcache_session_clear(session);
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, 64, &a));
    ck_assert_uint_eq(a->compress.bytes_kept, bytes);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Turn after turn over a cache with centroids, which a second compression leaves as they are. Where little is
 * dropped, the answers are those of the full cache. */
START_TEST(turns_with_summaries) {
    static const char *const texts[] = {"What is the Due date?", "What is the heading?",
                                        "What is the Due date?"};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *small = NULL, *full = talk_open(talk_demo(), "full", 1.0);
    const vlcache_answer *a = NULL, *b = NULL;
    vlcache_compress_options compress = talk_way("vlcache", 0.9);
    compress.allocation = VLCACHE_ALLOCATION_UNIFORM;
    talk_summary(&compress, VLCACHE_SUMMARY_KMEANS, 0.3);
    compress.iterations = 2;
    compress.defer = 2;
    options.compress = &compress;
    ck_ok(vlcache_session_create(talk_demo(), &options, &small));
    for (int turn = 0; turn < 3; turn++) {
        const vlcache_image *seen = turn == 1 ? NULL : image;
        ck_ok(talk_ask(full, seen, texts[turn], NULL, 100, &a));
        ck_ok(talk_ask(small, seen, texts[turn], NULL, 100, &b));
        ck_assert(b->compressed == (turn != 1));
        if (turn < 2) ck_assert_str_eq(a->text, b->text); /* then the model itself is at a loss */
        ck_assert_int_gt(b->n_tokens, 0);
    }
    vlcache_compress_layer layer;
    ck_ok(vlcache_session_layer(small, 0, &layer));
    ck_assert_int_gt(layer.centroids, 50);
    ck_assert_uint_lt(b->kv_bytes, a->kv_bytes);
    vlcache_session_destroy(&small);
    vlcache_session_destroy(&full);
    vlcache_image_destroy(&image);
}
END_TEST

/* Asks, and holds what the turn says of its time against a clock: what is compressed behind the first token
 * is counted once. */
static const vlcache_answer *ask_timed(vlcache_session *session, const vlcache_image *image, int most) {
    const vlcache_answer *a = NULL;
    double start = vlci_clock_ms();
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, most, &a));
    const vlcache_timings *t = &a->timings;
    double took = vlci_clock_ms() - start, all = t->first_token + t->compress + t->decode;
    ck_assert_double_gt(t->compress, 0.0);
    ck_assert_double_ge(t->decode, 0.0);
    ck_assert_double_le(t->image + t->vision + t->prefill, t->first_token);
    ck_assert_msg(all <= took, "%g + %g + %g ms in %g", t->first_token, t->compress, t->decode, took);
    ck_assert_double_eq_tol(t->per_token * (a->n_tokens - 1), t->decode, 1e-9 * took);
    return a;
}

/* Compression waits for as many tokens as it was told to, and not beyond the answer. */
START_TEST(deferred) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    const vlcache_answer *a = NULL;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    compress.defer = 4;
    options.compress = &compress;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    a = ask_timed(session, image, 64);
    ck_assert_int_eq(a->compress.deferred, 4);
    ck_assert_double_eq_tol(a->compress.budget_kept, 0.10, 0.02);
    ck_assert_uint_lt(a->kv_bytes * 4, a->kv_bytes_peak);
    vlcache_session_clear(session);
    a = ask_timed(session, image, 2);
    ck_assert_int_eq(a->compress.deferred, 1); /* the second has not been through the model */
    ck_assert_uint_lt(a->kv_bytes * 4, a->kv_bytes_peak);
    ck_ok(talk_ask(session, NULL, "What is the heading?", NULL, 64, &a));
    ck_assert(!a->compressed);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- endings ------------------------------------------------------------------------------------------- */

/* The peak of an answer, but for rows on their way to the host and back. */
static uint64_t peak_of(const char *policy, const char *defer, vlcache_recall recall, int tokens) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way(policy, 1.0);
    vlcache_session *session = NULL;
    const vlcache_answer *a = NULL;
    if (defer) ck_ok(vlcache_compress_set(&compress, "defer", defer));
    options.compress = &compress;
    options.recall = recall;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, tokens, &a));
    uint64_t peak = a->kv_bytes_peak - a->recall.staging_bytes;
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
    return peak;
}

/* A budget of the whole cache moves nothing: the peak is that of "full". */
START_TEST(all_stays_where_it_is) {
    static const char *const deferrals[] = {NULL, "4", "none"};
    static const char *const policies[] = {"vlcache", "vlcache+", "centroids", "h2o", "snapkv"};
    uint64_t full[] = {peak_of("full", NULL, VLCACHE_RECALL_NONE, 2),
                       peak_of("full", NULL, VLCACHE_RECALL_NONE, 64)};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
        for (int k = 0; k < 6; k++) {
            vlcache_recall recall = k / 3 ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
            uint64_t peak = peak_of(policies[i], deferrals[k % 3], recall, k % 2 ? 64 : 2);
            ck_assert_msg(peak == full[k % 2], "%s, %d: %llu bytes", policies[i], k,
                          (unsigned long long)peak);
        }
}
END_TEST

START_TEST(cancelled_while_reading) {
    vlcache_image *image = talk_picture("pages-0.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.10);
    talk_listener l = {.cancel_in_prefill = session};
    const vlcache_answer *a = (const vlcache_answer *)&l;
    ck_fails(talk_ask(session, image, "What is the heading?", &l, 64, &a), VLCACHE_E_CANCELLED, "cancelled");
    ck_assert_ptr_null(a);
    ck_ok(talk_ask(session, image, "What is the heading?", NULL, 64, &a)); /* once is once */
    ck_assert_int_eq(a->prompt_tokens + a->n_tokens, a->context_tokens);
    vlcache_session_cancel(session);
    ck_fails(talk_ask(session, NULL, "What is the heading?", NULL, 64, &a), VLCACHE_E_CANCELLED, "cancelled");
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

START_TEST(stopped_by_the_listener) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "full", 1.0);
    talk_listener l = {.stop_after = 2};
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, "What is the Due date?", &l, 64, &a));
    ck_assert_int_eq(a->finish, VLCACHE_FINISH_CANCELLED);
    ck_assert_int_eq(l.pieces, 2);
    ck_assert_str_eq(a->text, l.text);
    ck_assert_int_gt(l.stages, 12);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

static void *cancel_soon(void *session) {
    vlcache_session_cancel(session);
    return NULL;
}

START_TEST(cancelled_from_another_thread) {
    vlcache_session *session = talk_open(talk_tiny(), "full", 1.0);
    pthread_t thread;
    const vlcache_answer *a = NULL;
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, session), 0);
    vlcache_status status = talk_ask(session, NULL, "on and on", NULL, 1 << 20, &a);
    pthread_join(thread, NULL);
    ck_assert(status == VLCACHE_E_CANCELLED || (a && a->finish != VLCACHE_FINISH_LENGTH));
    vlcache_session_destroy(&session);
}
END_TEST

START_TEST(context_is_respected) {
    vlcache_image *image = talk_picture("pages-0.png");
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    const vlcache_answer *a = NULL;
    options.context = 500;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    ck_fails(talk_ask(session, image, "What is the heading?", NULL, 64, &a), VLCACHE_E_CONTEXT_FULL, "576");
    vlcache_session_destroy(&session);
    options.context = 595;
    vlcache_compress_options full = talk_way("full", 1.0);
    options.compress = &full;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    ck_ok(talk_ask(session, image, "Read the page.", NULL, 64, &a));
    ck_assert_int_eq(a->finish, VLCACHE_FINISH_CONTEXT);
    ck_assert_int_le(a->context_tokens, 596);
    ck_fails(talk_ask(session, NULL, "More?", NULL, 64, &a), VLCACHE_E_CONTEXT_FULL, "held already");
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

START_TEST(bad_arguments) {
    vlcache_image *image = talk_picture("pages-0.png");
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    options.chat_template = "esperanto";
    ck_fails(vlcache_session_create(talk_tiny(), &options, &session), VLCACHE_E_ARGUMENT, "vicuna");
    options.chat_template = NULL;
    options.context = -1;
    ck_fails(vlcache_session_create(talk_tiny(), &options, &session), VLCACHE_E_ARGUMENT, "context");
    options.context = 0;
    vlcache_compress_options compress = talk_way("vlcache", (double)NAN);
    options.compress = &compress;
    ck_fails(vlcache_session_create(talk_tiny(), &options, &session), VLCACHE_E_ARGUMENT, "budget");
    ck_assert_ptr_null(session);
    session = talk_open(talk_tiny(), "full", 1.0);
    ck_fails(talk_ask(session, NULL, "x", NULL, -1, NULL), VLCACHE_E_ARGUMENT, "max_tokens");
    ck_fails(talk_ask(session, NULL, NULL, NULL, 1, NULL), VLCACHE_E_ARGUMENT, "NULL");
    vlcache_session_destroy(&session);
    vlcache_session_destroy(NULL);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- sampling, and what is left behind ----------------------------------------------------------------- */

static void sample_answer(vlcache_session *session, uint64_t seed, int top_k, int32_t out[16]) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    const vlcache_answer *a = NULL;
    prompt.text = "some words";
    generate.max_tokens = 16;
    generate.temperature = 2.0f;
    generate.top_k = top_k;
    generate.seed = seed;
    vlcache_session_clear(session);
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &a));
    memset(out, 0xff, 16 * sizeof *out);
    memcpy(out, a->tokens, (size_t)a->n_tokens * sizeof *out);
}

START_TEST(seeds) {
    vlcache_session *session = talk_open(talk_tiny(), "full", 1.0);
    int32_t one[16], again[16], other[16], best[16];
    sample_answer(session, 1, 0, one);
    sample_answer(session, 1, 0, again);
    sample_answer(session, 2, 0, other);
    ck_assert_mem_eq(one, again, sizeof one);
    ck_assert_mem_ne(one, other, sizeof one);
    const vlcache_answer *a = NULL;
    vlcache_session_clear(session);
    ck_ok(talk_ask(session, NULL, "some words", NULL, 16, &a));
    sample_answer(session, 3, 1, best); /* the best one only: greedy */
    vlcache_session_clear(session);
    ck_ok(talk_ask(session, NULL, "some words", NULL, 16, &a));
    ck_assert_mem_eq(a->tokens, best, (size_t)a->n_tokens * sizeof *best);
    vlcache_session_destroy(&session);
}
END_TEST

/* On a device of its own: what a test that failed has left on the suite's is no failure of this one. */
START_TEST(nothing_is_left_behind) {
    vlcache_device *device = suite_open();
    vlcache_model *model = NULL;
    vlcache_image *image = talk_picture("pages-0.png");
    ck_ok(vlcache_model_load(device, DEMO "model", NULL, &model));
    uint64_t before = vlci_memory_now(device);
    vlcache_session *session = talk_open(model, "vlcache", 0.10);
    ck_ok(talk_ask(session, image, "What is the heading?", NULL, 64, NULL));
    ck_assert_uint_gt(vlci_memory_now(device), before);
    vlcache_session_destroy(&session);
    ck_assert_uint_eq(vlci_memory_now(device), before);
    vlcache_image_destroy(&image);
    vlcache_model_destroy(&model);
    ck_assert_uint_eq(vlci_memory_now(device), 0);
    vlcache_device_destroy(&device);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session");
    TCase *all = tcase_create("session");
    talk_models(all);
    tcase_add_test(all, samples);
    tcase_add_test(all, prompts);
    tcase_add_loop_test(all, kept_rows, 0, 2);
    tcase_add_test(all, visual_tokens);
    tcase_add_loop_test(all, post_vision_between_pictures, 0, 2);
    tcase_add_test(all, turns_equal_one_prompt);
    tcase_add_test(all, room_changes_nothing);
    tcase_add_test(all, length_then_more);
    tcase_add_test(all, turn_after_compression);
    tcase_add_test(all, turns_with_summaries);
    tcase_add_test(all, deferred);
    tcase_add_test(all, all_stays_where_it_is);
    tcase_add_test(all, cancelled_while_reading);
    tcase_add_test(all, stopped_by_the_listener);
    tcase_add_test(all, cancelled_from_another_thread);
    tcase_add_test(all, context_is_respected);
    tcase_add_test(all, bad_arguments);
    tcase_add_test(all, seeds);
    tcase_add_test(all, nothing_is_left_behind);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
