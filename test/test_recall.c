/*
 * test_recall.c - rows that compression takes are in the host's memory, and later turns see and choose among
 * all of them: against what transformers and a reference in double say of the same conversation at once
 * (test/data/README.md), and against the full cache.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "session/session.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/taps.h"

/* ---- against transformers and the reference in double -------------------------------------------------- */

/* A prompt of the goldens in two turns: up to its first picture, and the rest. What the second turn looks at
 * is then what the prompt at once looks at. */
static const struct split {
    const char *folder, *name, *pictures[2];
    int percents[2];
    bool fixed; /* KV memory */
} splits[] = {
    {"llava-mistral-gqa4", "middle", {"middle.0.png"}, {10, 30}, false},
    {"qwen2_5-vl", "kept", {"kept.0.png", "kept.1.png"}, {15, 40}, true},
};
enum { SPLITS = sizeof splits / sizeof *splits, TOKENS = 400 };

static vlcache_model *open_folder(const char *kind, const char *name) {
    char folder[600];
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(folder, sizeof folder, "%s/%s/%s", VLCACHE_TEST_DATA, kind, name);
    ck_ok(vlcache_model_load(suite_device(), folder, &options, &model));
    return model;
}

static vlcache_model *open_model(const char *name) {
    return open_folder("models", name);
}

/* The golden's ids, each picture's as one mark. Returns how many; `*first`: up to the first mark. */
static int cut_ids(const taps *golden, int image_token, int32_t *ids, int *first) {
    const tap *all = taps_find(golden, "prompt.ids");
    int n = 0;
    *first = 0;
    for (size_t i = 0; i < all->n; i++) {
        bool picture = all->i32[i] == image_token;
        if (picture && i && all->i32[i - 1] == image_token) continue;
        ck_assert_int_lt(n, TOKENS);
        ids[n++] = picture ? VLCACHE_TOKEN_IMAGE : all->i32[i];
        if (picture && !*first) *first = n;
    }
    ck_assert_int_gt(*first, 0);
    return n;
}

static vlcache_sequence *add_as(vlcache_engine *engine, const vlcache_compress_options *compress,
                                vlcache_recall recall) {
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_sequence *s = NULL;
    options.compress = compress;
    options.recall = recall;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    return s;
}

static vlcache_sequence *add(vlcache_engine *engine, const vlcache_compress_options *compress) {
    return add_as(engine, compress, VLCACHE_RECALL_HOST);
}

static const vlcache_answer *say(vlcache_sequence *s, const int32_t *ids, int n, vlcache_image *const *images,
                                 int tokens) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    const vlcache_answer *a = NULL;
    int busy = 1;
    prompt.tokens = ids;
    prompt.n_tokens = (size_t)n;
    prompt.images = (const vlcache_image *const *)images;
    for (int i = 0; i < n; i++) prompt.n_images += ids[i] == VLCACHE_TOKEN_IMAGE;
    generate.max_tokens = tokens;
    generate.min_tokens = (size_t)tokens;
    ck_ok(vlcache_sequence_ask(s, &prompt, &generate));
    while (busy) ck_ok(vlcache_engine_step(s->engine, &busy));
    ck_ok(vlcache_sequence_answer(s, &a));
    return a;
}

static void check_kept(const taps *golden, vlcache_sequence *s, int percent) {
    const vlci_text_config *c = vlci_sequence_text(s);
    const tap *sparsity = taps_find(golden, "vlcache.sparsity");
    for (int layer = 0; layer < c->layers; layer++) {
        const tap *want = taps_findf(golden, "vlcache.%d.kept.%d", percent, layer);
        int budget = taps_findf(golden, "vlcache.%d.budget", percent)->i32[layer];
        vlcache_compress_layer l;
        ck_ok(vlcache_sequence_layer(s, layer, &l));
        ck_assert_double_eq_tol(l.sparsity, (double)sparsity->f32[layer], 1e-5);
        ck_assert_int_eq(l.kept, budget);
        for (int head = 0; head < c->kv_heads; head++) {
            int32_t got[1024];
            size_t n;
            ck_ok(vlcache_sequence_kept(s, layer, head, got, 1024, &n));
            ck_assert_uint_eq(n, (size_t)budget);
            ck_assert_mem_eq(got, want->i32 + (size_t)head * n, n * sizeof *got);
        }
    }
}

static void check_logits(vlcache_sequence *s, const float *want, size_t n) {
    float *got = malloc(n * sizeof *got);
    ck_ok(vlci_read(suite_device(), s->shared->text.logits, 0, got, n * sizeof *got));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= 2e-5 * (1.0 + fabs((double)want[i])),
                      "logit %zu: %.9g, not %.9g", i, (double)got[i], (double)want[i]);
    free(got);
}

/* A split prompt, with its model and an engine. */
typedef struct scene {
    taps golden;
    vlcache_model *model;
    vlcache_engine *engine;
    vlcache_image *images[2];
    int32_t ids[TOKENS];
    int n, first; /* ids; of the first turn */
} scene;

static void open_scene(scene *s, const struct split *split) {
    char path[600], message[700];
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    *s = (scene){.model = open_model(split->folder)};
    snprintf(path, sizeof path, "%s/models/%s/golden/%s.taps", VLCACHE_TEST_DATA, split->folder, split->name);
    ck_assert_msg(taps_load(path, &s->golden, message, sizeof message), "%s", message);
    for (int i = 0; i < 2 && split->pictures[i]; i++) {
        snprintf(path, sizeof path, "%s/models/%s/golden/%s", VLCACHE_TEST_DATA, split->folder,
                 split->pictures[i]);
        ck_ok(vlcache_image_load(path, &s->images[i]));
    }
    s->n = cut_ids(&s->golden, s->model->config.image_token, s->ids, &s->first);
    if (split->fixed) options.kv_bytes = 1 << 20;
    ck_ok(vlcache_engine_create(s->model, &options, &s->engine));
}

static void close_scene(scene *s) {
    vlcache_engine_destroy(&s->engine);
    vlcache_model_destroy(&s->model);
    taps_release(&s->golden);
    for (int i = 0; i < 2; i++) vlcache_image_destroy(&s->images[i]);
}

static const vlcache_answer *say_first(const scene *c, vlcache_sequence *s) {
    return say(s, c->ids, c->first, c->images, 0);
}

static const vlcache_answer *say_rest(const scene *c, vlcache_sequence *s, int tokens) {
    return say(s, c->ids + c->first, c->n - c->first, c->images + 1, tokens);
}

START_TEST(second_turn_is_the_reference) {
    const struct split *split = &splits[_i / 2];
    int percent = split->percents[_i % 2];
    scene c;
    open_scene(&c, split);
    vlcache_compress_options compress = talk_way("vlcache", percent / 100.0);
    vlcache_sequence *s = add(c.engine, &compress);
    const vlcache_answer *a = say_first(&c, s);
    int earlier = a->prompt_tokens;
    ck_assert(a->compressed && a->recall.tokens == 0 && a->recall.upload_bytes == 0);
    a = say_rest(&c, s, 0);
    uint64_t rows = (uint64_t)(earlier + a->prompt_tokens);
    ck_assert_uint_eq(rows, taps_find(&c.golden, "prompt.ids")->n);
    ck_assert(a->compressed && a->recall.tokens == earlier && a->compress.tokens == (int)rows);
    ck_assert_uint_eq(a->recall.host_bytes, a->compress.bytes_full);
    ck_assert_uint_eq(a->recall.upload_bytes * rows, a->compress.bytes_full * (uint64_t)earlier);
    check_kept(&c.golden, s, percent);
    const tap *logits = taps_find(&c.golden, "logits"), *tokens;
    if (logits) check_logits(s, logits->f32, logits->n);
    tokens = taps_findf(&c.golden, "vlcache.%d.tokens", percent);
    if (tokens) { /* and what the compacted cache says */
        vlcache_sequence_clear(s);
        say_first(&c, s);
        a = say_rest(&c, s, (int)tokens->n);
        ck_assert_mem_eq(a->tokens, tokens->i32, tokens->n * sizeof *a->tokens);
    }
    close_scene(&c);
}
END_TEST

/* Coded rows are made of the exact ones, those of earlier turns with their own rotations: the codes of the
 * second turn are those of the prompt at once; in a fixed engine, where layers are coded as they are read,
 * also of one without recall. */
START_TEST(codes_are_made_anew) {
    enum { ANSWER = 6, BITS = 40 };
    scene c;
    int32_t want[ANSWER];
    open_scene(&c, &splits[_i]);
    vlcache_compress_options compress = talk_way("vlcache+", 0.3);
    compress.bits = BITS;
    bool fixed = splits[_i].fixed;
    vlcache_sequence *s = add_as(c.engine, &compress, fixed ? VLCACHE_RECALL_NONE : VLCACHE_RECALL_HOST);
    const vlcache_answer *a = say(s, c.ids, c.n, c.images, ANSWER);
    size_t n = (size_t)vlci_sequence_text(s)->vocab;
    uint64_t bytes = a->compress.bytes_kept, codes = a->compress.bytes_codes;
    float *logits = malloc(n * sizeof *logits);
    memcpy(want, a->tokens, sizeof want);
    ck_ok(vlci_read(suite_device(), s->shared->text.logits, 0, logits, n * sizeof *logits));
    vlcache_sequence_destroy(&s);
    s = add(c.engine, &compress);
    say_first(&c, s);
    a = say_rest(&c, s, ANSWER);
    ck_assert_mem_eq(a->tokens, want, sizeof want);
    ck_assert_uint_eq(a->compress.bytes_kept, bytes);
    ck_assert_uint_gt(codes, 0);
    ck_assert_uint_eq(a->compress.bytes_codes, codes);
    check_logits(s, logits, n);
    free(logits);
    close_scene(&c);
}
END_TEST

/* ---- against the full cache ---------------------------------------------------------------------------- */

static vlcache_session *open_recall(vlcache_model *model, const vlcache_compress_options *compress) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    options.compress = compress;
    options.recall = VLCACHE_RECALL_HOST;
    ck_ok(vlcache_session_create(model, &options, &session));
    return session;
}

/* A conversation: words before any picture, a picture, a question, another picture, two more. */
static const struct line {
    const char *text, *picture;
} lines[] = {{"Hello there.", NULL},        {"What is it?", "captions-0.png"}, {"And why?", NULL},
             {"And this?", "charts-3.png"}, {"Which is more?", NULL},          {"Why so?", NULL}};
enum { LINES = sizeof lines / sizeof *lines };

static vlcache_image *pictures[LINES];

static void open_pictures(void) {
    for (int i = 0; i < LINES; i++)
        if (lines[i].picture && !pictures[i]) pictures[i] = talk_picture(lines[i].picture);
}

static void close_pictures(void) {
    for (int i = 0; i < LINES; i++) vlcache_image_destroy(&pictures[i]);
}

static const struct way {
    const char *policy, *allocation, *selection, *defer, *summary;
} ways[] = {{"vlcache", NULL, NULL, NULL, NULL},
            {"centroids", NULL, NULL, NULL, NULL},
            {"h2o", NULL, NULL, NULL, NULL},
            {"snapkv", NULL, NULL, NULL, NULL},
            {"pyramidkv", NULL, NULL, NULL, NULL},
            {"streamingllm", NULL, NULL, NULL, NULL},
            {"vlcache+", NULL, NULL, NULL, NULL},
            {"vlcache", "mixed:0.5", "adaptive", NULL, NULL},
            {"vlcache", NULL, NULL, "2", "kmeans:0.5"},
            {"vlcache", NULL, NULL, NULL, "kmeans:0.5"},
            {"vlcache", "sparsity", "adaptive", "4", NULL},
            {"vlcache+", NULL, "per-prompt:0.5", NULL, NULL}};
enum { WAYS = sizeof ways / sizeof *ways, TRIED = 4 };
static const int tried[TRIED] = {
    0, 1, 6, 11}; /* of the ways: layers shrink, come back, are held in few bits, come twice */

static vlcache_compress_options way(int i, double budget) {
    vlcache_compress_options o = talk_way(ways[i].policy, budget);
    if (ways[i].allocation) ck_ok(vlcache_compress_set(&o, "allocation", ways[i].allocation));
    if (ways[i].selection) ck_ok(vlcache_compress_set(&o, "selection", ways[i].selection));
    if (ways[i].defer) ck_ok(vlcache_compress_set(&o, "defer", ways[i].defer));
    if (ways[i].summary) ck_ok(vlcache_compress_set(&o, "summary", ways[i].summary));
    return o;
}

/* Where all is kept, all is said: the full cache's tokens, turn by turn. */
START_TEST(tokens_of_the_full_cache) {
    vlcache_session *full = talk_open(talk_tiny(), "full", 1.0);
    open_pictures();
    static int32_t want[LINES][8];
    for (int i = 0; i < LINES; i++) {
        const vlcache_answer *a;
        ck_ok(talk_ask(full, pictures[i], lines[i].text, NULL, 8, &a));
        memset(want[i], 0xff, sizeof want[i]);
        memcpy(want[i], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    }
    for (int w = 0; w < WAYS; w++) {
        vlcache_compress_options compress = way(w, 1.0);
        vlcache_session *session = open_recall(talk_tiny(), &compress);
        for (int i = 0; i < LINES; i++) {
            const vlcache_answer *a;
            ck_ok(talk_ask(session, pictures[i], lines[i].text, NULL, 8, &a));
            ck_assert_msg(!memcmp(want[i], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens),
                          "%s, line %d: other tokens", ways[w].policy, i);
            ck_assert_int_eq(a->compressed, i > 0);
            if (i) ck_assert_int_eq(a->recall.tokens + a->prompt_tokens, a->compress.tokens);
            if (i > 1) ck_assert_uint_gt(a->recall.upload_bytes, 0);
        }
        vlcache_session_destroy(&session);
    }
    vlcache_session_destroy(&full);
}
END_TEST

/* Reads without answering, so that what compression has left says nothing of the conversation: what was
 * answered stands in the next prompt, the same for both. */
static void read_line(vlcache_session *session, int line, const vlcache_answer **a) {
    ck_ok(talk_ask(session, pictures[line], lines[line].text, NULL, 0, a));
}

static float *logits_of(const vlcache_session *session) {
    size_t n = (size_t)vlci_sequence_text(session->sequence)->vocab;
    float *logits = malloc(n * sizeof *logits);
    ck_ok(vlci_read(suite_device(), session->sequence->shared->text.logits, 0, logits, n * sizeof *logits));
    return logits;
}

/* However little the device holds, each turn's logits are those of the full cache, turn after turn: what is
 * compressed again and again is all there. */
START_TEST(logits_of_the_full_cache) {
    static const char *const folders[] = {"llava-llama-mha", "qwen2-vl-hub"};
    vlcache_model *model = open_model(folders[_i]);
    open_pictures();
    static const int used[] = {0, 1, 2, 3, 6, 7, 8, 9, 10, 11}; /* of the ways */
    for (size_t w = 0; w < sizeof used / sizeof *used; w++) {
        vlcache_compress_options compress = way(used[w], 0.1), none = talk_way("full", 1.0);
        vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
        vlcache_session *full = NULL, *session = open_recall(model, &compress);
        options.compress = &none;
        ck_ok(vlcache_session_create(model, &options, &full));
        for (int i = 0; i < LINES; i++) {
            const vlcache_answer *a, *b;
            read_line(full, i, &a);
            read_line(session, i, &b);
            float *want = logits_of(full);
            check_logits(session->sequence, want, (size_t)vlci_sequence_text(full->sequence)->vocab);
            free(want);
            if (!i) continue;
            ck_assert(b->compressed);
            ck_assert_uint_lt(b->kv_bytes * 2, a->kv_bytes);
            ck_assert_uint_eq(b->recall.host_bytes, b->compress.bytes_full);
        }
        vlcache_session_destroy(&session);
        vlcache_session_destroy(&full);
    }
    vlcache_model_destroy(&model);
}
END_TEST

/* The same of models that see no pictures, one of which has the rows of a prompt see each other. */
START_TEST(text_models) {
    enum { PROMPT = 70, TURNS = 3 };
    static const char *const folders[] = {"qwen3", "gemma", "gemma-prefix"};
    vlcache_model *model = open_folder("text", folders[_i]);
    for (int w = 0; w < 4; w += 3) {
        vlcache_compress_options compress = way(w, 0.1), none = talk_way("full", 1.0);
        vlcache_engine *engine = NULL;
        ck_ok(vlcache_engine_create(model, NULL, &engine));
        vlcache_sequence *s = add(engine, &compress), *full = add(engine, &none);
        for (int turn = 0; turn < TURNS; turn++) {
            int32_t ids[PROMPT];
            size_t n = (size_t)model->config.text.vocab;
            float *want = malloc(n * sizeof *want);
            for (int i = 0; i < PROMPT; i++) ids[i] = 3 + (i * 7 + turn * 31 + i * i) % 200;
            say(full, ids, PROMPT, NULL, 0);
            ck_ok(vlci_read(suite_device(), s->shared->text.logits, 0, want, n * sizeof *want));
            const vlcache_answer *a = say(s, ids, PROMPT, NULL, 0);
            check_logits(s, want, n);
            free(want);
            ck_assert(a->compressed && a->recall.tokens == turn * PROMPT);
        }
        vlcache_engine_destroy(&engine);
    }
    vlcache_model_destroy(&model);
}
END_TEST

/* Decoded rows that go to few bits are in the host's memory before: the next turn is read against them as
 * they were, and its logits are close to those behind rows that stayed. */
START_TEST(rows_that_age) {
    enum { ANSWER = 60 };
    static const char *const storages[] = {"bits:8/8:16", "bits:8/8:16:16"};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_logit first[2];
    int32_t told[ANSWER];
    for (int i = 0; i < ANSWER; i++) told[i] = 100 + 37 * i % 500;
    for (int i = 0; i < 2; i++) {
        vlcache_compress_options compress = talk_way("snapkv", 0.5);
        vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
        vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
        const vlcache_answer *a = NULL;
        ck_ok(vlcache_compress_set(&compress, "storage", storages[i]));
        vlcache_session *session = open_recall(talk_demo(), &compress);
        prompt.text = "Read the page.";
        prompt.images = (const vlcache_image *const *)&image;
        prompt.n_images = 1;
        generate.told = told;
        generate.n_told = ANSWER;
        ck_ok(vlcache_session_ask(session, &prompt, &generate, &a));
        ck_assert(!i || session->sequence->kv.quants->before);
        ck_assert_int_eq(vlci_store_rows(session->sequence->kv.store), session->sequence->kv.length);
        ck_ok(talk_ask(session, NULL, "What is the heading?", NULL, 1, &a));
        first[i] = a->first_logits[0];
        vlcache_session_destroy(&session);
    }
    ck_assert_int_eq(first[0].token, first[1].token);
    ck_assert_float_eq_tol(first[0].logit, first[1].logit, 0.05f);
    vlcache_image_destroy(&image);
}
END_TEST

/* Answers' own rows are in the store too, at their places: the next turn chooses among them. */
START_TEST(answers_are_recalled) {
    vlcache_compress_options compress = way(tried[_i], 0.2);
    vlcache_session *session = open_recall(talk_tiny(), &compress);
    int length = 0;
    open_pictures();
    for (int i = 1; i < LINES; i++) {
        const vlcache_answer *a;
        ck_ok(talk_ask(session, pictures[i], lines[i].text, NULL, 7, &a));
        ck_assert_int_eq(a->recall.tokens, length);
        length = session->sequence->kv.length;
        ck_assert_int_eq(vlci_store_rows(session->sequence->kv.store), length);
        ck_assert_int_eq(session->sequence->past.rows, length);
        ck_assert_int_eq(session->sequence->past.position[length - 1][0], session->sequence->kv.position - 1);
    }
    vlcache_session_destroy(&session);
}
END_TEST

/* ---- forks, comparisons, failures ---------------------------------------------------------------------- */

static void queue(vlcache_sequence *s, int line) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = lines[line].text;
    prompt.images = (const vlcache_image *const *)&pictures[line];
    prompt.n_images = pictures[line] != NULL;
    generate.max_tokens = 6;
    generate.min_tokens = 6;
    ck_ok(vlcache_sequence_ask(s, &prompt, &generate));
}

static void ask_sequence(vlcache_sequence *s, int line, const vlcache_answer **a) {
    int busy = 1;
    queue(s, line);
    while (busy) ck_ok(vlcache_engine_step(s->engine, &busy));
    ck_ok(vlcache_sequence_answer(s, a));
}

/* A fork goes on from the same rows, whatever becomes of the other, and says what that would have said. */
START_TEST(forks_share_the_store) {
    vlcache_compress_options compress = way(tried[_i], 0.2);
    vlcache_engine *engine = NULL;
    vlcache_sequence *fork = NULL;
    const vlcache_answer *a;
    int32_t want[6];
    open_pictures();
    ck_ok(vlcache_engine_create(talk_tiny(), NULL, &engine));
    vlcache_sequence *s = add(engine, &compress);
    ask_sequence(s, 1, &a);
    ck_ok(vlcache_sequence_fork(s, &fork));
    ck_assert_ptr_eq(fork->kv.store, s->kv.store);
    ask_sequence(s, 3, &a);
    ask_sequence(s, 2, &a);
    vlcache_sequence_clear(s);
    ck_assert_ptr_null(s->kv.store);
    ask_sequence(s, 1, &a);
    ask_sequence(s, 2, &a);
    int n = a->n_tokens;
    memcpy(want, a->tokens, (size_t)n * sizeof *want);
    vlcache_sequence_destroy(&s);
    ask_sequence(fork, 2, &a);
    ck_assert_int_eq(a->n_tokens, n);
    ck_assert_mem_eq(a->tokens, want, (size_t)n * sizeof *want);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Several conversations, a few rows of a prompt at a time: each says what it says alone. */
START_TEST(many_at_once) {
    enum { MANY = 3 };
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_compress_options compress[] = {way(0, 0.2), way(1, 0.3), way(6, 0.3)};
    static const int talk[MANY][3] = {{1, 2, 3}, {3, 4, 5}, {0, 3, 2}};
    vlcache_engine *engine = NULL;
    vlcache_sequence *s[MANY];
    const vlcache_answer *a, *b;
    open_pictures();
    options.prefill_tokens = 5;
    if (_i) options.kv_bytes = 8 << 20;
    ck_ok(vlcache_engine_create(talk_tiny(), &options, &engine));
    for (int i = 0; i < MANY; i++) s[i] = add(engine, &compress[i]);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < MANY; i++) queue(s[i], talk[i][turn]);
        talk_finish(engine);
    }
    for (int i = 0; i < MANY; i++) {
        vlcache_sequence *alone = add(engine, &compress[i]);
        for (int turn = 0; turn < 3; turn++) ask_sequence(alone, talk[i][turn], &a);
        ck_ok(vlcache_sequence_answer(s[i], &b));
        talk_same(a, b);
        ck_assert_uint_eq(a->recall.host_bytes, b->recall.host_bytes);
        vlcache_sequence_destroy(&alone);
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* n conversations of three lines, line by line, in an engine of so many bytes. False: they are too few. */
static bool talk_in(uint64_t bytes, int n, vlcache_compress_options compress, int32_t said[3][6]) {
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    vlcache_sequence *s[2];
    const vlcache_answer *a;
    bool done = true, dropped = n == 1;
    options.kv_bytes = bytes;
    ck_ok(vlcache_engine_create(talk_tiny(), &options, &engine));
    for (int i = 0; i < n; i++) s[i] = add(engine, &compress);
    for (int k = 0; k < 3 * n && done; k++) {
        vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
        int line = k / n + 1;
        prompt.text = lines[line].text;
        prompt.images = (const vlcache_image *const *)&pictures[line];
        prompt.n_images = pictures[line] != NULL;
        vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
        generate.max_tokens = 6;
        generate.min_tokens = 6;
        done = !vlcache_sequence_ask(s[k % n], &prompt, &generate);
        for (int busy = done; busy;) ck_ok(vlcache_engine_step(engine, &busy));
        if (!done) continue;
        ck_ok(vlcache_sequence_answer(s[k % n], &a));
        if (n == 1) memcpy(said[k], a->tokens, sizeof said[k]);
        ck_assert_mem_eq(a->tokens, said[k / n], sizeof said[k / n]);
        dropped |= n == 2 && k && s[1 - k % n]->kv.held == 0;
    }
    ck_assert(!done || dropped);
    vlcache_engine_destroy(&engine);
    return done;
}

/* In memory for one, two conversations take turns: who does nothing has its rows with the host. */
START_TEST(idle_ones_make_way) {
    uint64_t bytes = 16 << 10;
    int32_t said[3][6];
    open_pictures();
    while (!talk_in(bytes, 1, way(_i, 0.6), said)) bytes += 8 << 10;
    ck_assert(talk_in(bytes, 2, way(_i, 0.6), said));
}
END_TEST

typedef struct heard {
    int n, candidates[4];
    int32_t tokens[4][9];
    uint64_t bytes[4];
} heard;

static bool hear(void *user, size_t variant, const vlcache_answer *a) {
    heard *h = user;
    memcpy(h->tokens[variant], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    h->candidates[variant] = a->compress.tokens;
    h->bytes[variant] = a->compress.bytes_kept;
    h->n++;
    return true;
}

/* A comparison in the middle of a conversation chooses among all of it, which is all there at once, and
 * leaves it as it was: answers long and short are those of layers that come back one by one. */
START_TEST(comparisons) {
    static const int compared[] = {0, 1, 8, 9, 10, 11};
    int tokens = _i % 2 ? 2 : 9;
    vlcache_compress_options compress = way(compared[_i / 2], 0.2);
    vlcache_compress_options variants[] = {talk_way("full", 1.0), compress};
    vlcache_session *session = open_recall(talk_tiny(), &compress);
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    const vlcache_answer *a;
    heard h = {0};
    open_pictures();
    ck_ok(talk_ask(session, pictures[1], lines[1].text, NULL, 6, &a));
    int length = session->sequence->kv.length;
    prompt.text = lines[2].text;
    generate.max_tokens = tokens;
    generate.probe = true;
    ck_ok(vlcache_session_compare(session, &prompt, &generate, variants, 2, hear, &h));
    ck_assert_int_eq(h.n, 2);
    ck_assert_int_eq(session->sequence->kv.length, length);
    ck_assert_int_eq(vlci_store_rows(session->sequence->kv.store), length);
    ck_assert_int_eq(session->sequence->past.rows, length);
    ck_ok(talk_ask(session, NULL, lines[2].text, NULL, tokens, &a));
    ck_assert_mem_eq(a->tokens, h.tokens[1], (size_t)a->n_tokens * sizeof *a->tokens);
    ck_assert_uint_eq(a->compress.bytes_kept, h.bytes[1]);
    ck_assert_int_eq(h.candidates[0], a->compress.tokens);
    ck_assert_int_eq(h.candidates[1], a->compress.tokens);
    vlcache_session_destroy(&session);
}
END_TEST

/* Too little of the host's memory: a turn fails and says so, the conversation has what it had. */
START_TEST(limits) {
    vlcache_compress_options compress = talk_way("vlcache", 0.2);
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    const vlcache_answer *a;
    open_pictures();
    options.compress = &compress;
    options.recall = (vlcache_recall)7;
    ck_fails(vlcache_session_create(talk_tiny(), &options, &session), VLCACHE_E_ARGUMENT, "recall: is 7");
    options.recall = VLCACHE_RECALL_HOST;
    session = open_recall(talk_tiny(), &compress);
    ck_ok(talk_ask(session, pictures[1], lines[1].text, NULL, 0, &a));
    options.recall_bytes = a->recall.host_bytes;
    vlcache_session_destroy(&session);
    ck_ok(vlcache_session_create(talk_tiny(), &options, &session));
    ck_ok(talk_ask(session, pictures[1], lines[1].text, NULL, 0, &a));
    int length = session->sequence->kv.length;
    ck_fails(talk_ask(session, NULL, lines[2].text, NULL, 4, &a), VLCACHE_E_NO_MEMORY, "recall_bytes");
    ck_assert_int_eq(session->sequence->kv.length, length);
    session->sequence->recall_bytes = 0;
    ck_ok(talk_ask(session, NULL, lines[2].text, NULL, 4, &a));
    ck_assert_int_eq(a->recall.tokens, length);
    vlcache_session_destroy(&session);
}
END_TEST

/* Of pages, at most, and what a layer takes in full. */
static uint64_t most_ends(const vlcache_compress_stats *kv, uint64_t *layer) {
    *layer = kv->bytes_full / (uint64_t)kv->layers;
    return (uint64_t)kv->layers * VLCI_KV_PAGE * *layer / (uint64_t)kv->tokens;
}

/* Beside what it keeps, the device holds a layer in full, and one or two of rows on their way: where layers
 * shrink as they are read, and where they come back for that. In an engine of fixed size, and in a session.
 */
START_TEST(peak_of_the_device) {
    static const int held[] = {0, 1, 8, 9, 10, 11}, deferred[] = {0, 4, 2, 0, 4, 4};
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_compress_options compress = way(held[_i / 2], 0.1);
    vlcache_engine *engine = NULL;
    const vlcache_answer *a;
    pictures[0] = talk_picture("pages-2.png");
    options.kv_bytes = _i % 2 ? 0 : 4 << 20;
    ck_ok(vlcache_engine_create(talk_demo(), &options, &engine));
    vlcache_sequence *s = add(engine, &compress);
    for (int turn = 0; turn < 2; turn++) {
        ask_sequence(s, 0, &a);
        ck_assert(a->compressed && a->compress.deferred == deferred[_i / 2]);
        const vlcache_compress_stats *kv = &a->compress;
        uint64_t layer, ends = most_ends(kv, &layer);
        uint64_t again =
            _i % 2 ? kv->bytes_kept + kv->bytes_kept / 8 + 2 * ends : 0; /* a pool that shrinks */
        ck_assert_uint_le(a->kv_bytes_peak - a->recall.staging_bytes,
                          kv->bytes_kept + layer + layer / 10 + 2 * ends + again);
        ck_assert_uint_le(a->recall.staging_bytes, layer * (turn || _i > 1 ? 2 : 1));
        ck_assert_uint_lt(a->kv_bytes_peak * (turn || _i ? 3 : 4) / 2, kv->bytes_full);
        vlcache_image_destroy(&pictures[0]);
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Where rows are coded, too, whether decoded tokens say where bits go or none does: layers that are read are
 * held in fewer bits than a quarter of theirs. In a session, and in an engine of fixed size. */
START_TEST(peak_of_coded_rows) {
    static const struct {
        const char *axis, *text;
        uint64_t kv_bytes;
    } coded[] = {{NULL, NULL, 0}, {"defer", "none", 0}, {"storage", "coded:pre", 0}, {NULL, NULL, 4 << 20}};
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("vlcache+", 0.1);
    vlcache_engine *engine = NULL;
    const vlcache_answer *a;
    options.kv_bytes = coded[_i].kv_bytes;
    if (coded[_i].axis) ck_ok(vlcache_compress_set(&compress, coded[_i].axis, coded[_i].text));
    ck_ok(vlcache_engine_create(talk_demo(), &options, &engine));
    vlcache_sequence *s = add(engine, &compress);
    pictures[0] = talk_picture("pages-2.png");
    for (int turn = 0; turn < 3; turn++) {
        ask_sequence(s, 0, &a);
        const vlcache_compress_stats *kv = &a->compress;
        uint64_t layer, ends = most_ends(kv, &layer);
        uint64_t most = a->kv_bytes_peak - a->recall.staging_bytes;
        ck_assert_uint_le(most, kv->bytes_kept + layer + layer / 10 + kv->bytes_full / 4 + 2 * ends);
        ck_assert_uint_ge(most, kv->bytes_kept + layer + kv->bytes_full / 8);
        ck_assert_uint_le(a->recall.staging_bytes, turn ? 2 * layer : layer);
        ck_assert((kv->deferred > 0) == (_i != 1));
        vlcache_image_destroy(&pictures[0]);
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* With policy "full" nothing is dropped, and nothing is kept elsewhere. */
START_TEST(full_has_no_use_for_it) {
    vlcache_compress_options compress = talk_way("full", 1.0);
    vlcache_session *session = open_recall(talk_tiny(), &compress);
    const vlcache_answer *a;
    open_pictures();
    for (int i = 1; i < 3; i++) {
        ck_ok(talk_ask(session, pictures[i], lines[i].text, NULL, 4, &a));
        ck_assert(!a->compressed && a->recall.host_bytes == 0 && a->recall.tokens == 0);
    }
    vlcache_session_destroy(&session);
}
END_TEST

/* Whatever allocation of the host fails in a turn: it is told, and the same question again gives the same
 * answer. */
START_TEST(host_memory_fails) {
    vlcache_compress_options compress = way(tried[_i], 0.2);
    const vlcache_answer *a;
    int32_t want[6];
    int n = 0, failures = 0;
    bool failed = true;
    open_pictures();
    for (long at = -1; failed; at += at < 0 ? 1 : 6) {
        vlcache_session *session = open_recall(talk_tiny(), &compress);
        ck_ok(talk_ask(session, pictures[1], lines[1].text, NULL, 6, &a));
        int length = session->sequence->kv.length;
        failing_start(at);
        vlcache_status status = talk_ask(session, NULL, lines[2].text, NULL, 6, &a);
        failing_stop(&failed);
        if (at < 0) failed = true; /* the rehearsal */
        if (status) {
            failures++;
            ck_assert_int_eq(status, VLCACHE_E_NO_MEMORY);
            ck_assert_int_eq(session->sequence->kv.length, length);
            ck_assert_int_eq(vlci_store_rows(session->sequence->kv.store), length);
            ck_assert_int_eq(session->sequence->past.rows, length);
            ck_ok(talk_ask(session, NULL, lines[2].text, NULL, 6, &a));
        }
        if (at < 0) n = a->n_tokens;
        if (at < 0) memcpy(want, a->tokens, (size_t)n * sizeof *want);
        ck_assert_int_eq(a->n_tokens, n);
        ck_assert_mem_eq(a->tokens, want, (size_t)n * sizeof *want);
        vlcache_session_destroy(&session);
    }
    ck_assert_int_gt(failures, 5);
}
END_TEST

/* Ctrl-C while earlier rows come back, and the question again. */
START_TEST(cancelled) {
    vlcache_compress_options compress = way(tried[_i], 0.2);
    vlcache_session *session = open_recall(talk_tiny(), &compress), *other;
    talk_listener l = {.cancel_in_prefill = session};
    const vlcache_answer *a, *b;
    open_pictures();
    other = open_recall(talk_tiny(), &compress);
    ck_ok(talk_ask(session, pictures[1], lines[1].text, NULL, 6, &a));
    ck_ok(talk_ask(other, pictures[1], lines[1].text, NULL, 6, &b));
    ck_fails(talk_ask(session, pictures[3], lines[3].text, &l, 6, &a), VLCACHE_E_CANCELLED, "cancelled");
    for (int i = 3; i < 5; i++) {
        ck_ok(talk_ask(session, pictures[i], lines[i].text, NULL, 6, &a));
        ck_ok(talk_ask(other, pictures[i], lines[i].text, NULL, 6, &b));
        talk_same(a, b);
    }
    vlcache_session_destroy(&session);
    vlcache_session_destroy(&other);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recall");
    TCase *all = tcase_create("recall");
    talk_models(all);
    tcase_add_unchecked_fixture(all, NULL, close_pictures);
    tcase_add_loop_test(all, second_turn_is_the_reference, 0, 2 * SPLITS);
    tcase_add_loop_test(all, codes_are_made_anew, 0, SPLITS);
    tcase_add_test(all, tokens_of_the_full_cache);
    tcase_add_loop_test(all, logits_of_the_full_cache, 0, 2);
    tcase_add_loop_test(all, text_models, 0, 3);
    tcase_add_test(all, rows_that_age);
    tcase_add_loop_test(all, answers_are_recalled, 0, TRIED);
    tcase_add_loop_test(all, forks_share_the_store, 0, TRIED);
    tcase_add_loop_test(all, many_at_once, 0, 2);
    tcase_add_loop_test(all, idle_ones_make_way, 0, 2);
    tcase_add_loop_test(all, peak_of_the_device, 0, 12);
    tcase_add_loop_test(all, peak_of_coded_rows, 0, 4);
    tcase_add_loop_test(all, comparisons, 0, 12);
    tcase_add_test(all, limits);
    tcase_add_test(all, full_has_no_use_for_it);
    tcase_add_loop_test(all, host_memory_fails, 0, TRIED);
    tcase_add_loop_test(all, cancelled, 0, TRIED);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
