/*
 * test_rollback.c - whatever call of OpenCL fails in a turn: the answer is right all the same, or the
 * conversation is as it was before, and asking again gives the right answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "session/session.h"
#include "support/calls.h"
#include "support/suite.h"
#include "support/talk.h"

enum { TOKENS = 6, STRIDE = 7 };

/* A short conversation: a picture and a question, another question, a second picture. */
typedef struct line {
    const char *text, *picture;
} line;
static const line lines[] = {
    {"What is it?", "captions-0.png"}, {"And why?", NULL}, {"And this?", "charts-3.png"}};
enum { LINES = sizeof lines / sizeof *lines };

static vlcache_image *pictures[LINES];
static int32_t want[LINES][TOKENS];
static int n_want[LINES];

static vlcache_status ask(vlcache_session *s, int i, const vlcache_answer **a) {
    return talk_ask(s, pictures[i], lines[i].text, NULL, TOKENS, a);
}

static void check(vlcache_session *s, int i, const char *when, long k) {
    const vlcache_answer *a = NULL;
    vlcache_status status = ask(s, i, &a);
    ck_assert_msg(!status, "%s %ld, line %d: %s", when, k, i, vlcache_error_message());
    ck_assert_msg(a->n_tokens == n_want[i] && !memcmp(a->tokens, want[i], (size_t)n_want[i] * sizeof **want),
                  "%s %ld, line %d: another answer", when, k, i);
}

static vlcache_recall recall; /* of the conversations that begin from here on */

static vlcache_session *begin(const char *policy) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way(policy, 0.4);
    vlcache_session *s = NULL;
    options.compress = &compress;
    options.recall = recall;
    ck_ok(vlcache_session_create(talk_tiny(), &options, &s));
    return s;
}

/* What is said without failures. */
static void rehearse(const char *policy) {
    vlcache_session *s = begin(policy);
    for (int i = 0; i < LINES; i++) {
        const vlcache_answer *a = NULL;
        if (lines[i].picture && !pictures[i]) pictures[i] = talk_picture(lines[i].picture);
        ck_ok(ask(s, i, &a));
        n_want[i] = a->n_tokens;
        memcpy(want[i], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    }
    vlcache_session_destroy(&s);
}

/* Call k of line `failing` fails. False: there are not so many. */
static bool fail_once(const char *policy, int failing, long k) {
    uint64_t before = vlci_memory_now(suite_device());
    vlcache_session *s = begin(policy);
    for (int i = 0; i < failing; i++) check(s, i, "before call", k);
    vlci_kv *kv = &s->sequence->kv;
    int position = kv->position, length = kv->length;
    int32_t open = s->sequence->open;
    const vlcache_answer *a = NULL;
    calls_fail(k);
    calls_start();
    vlcache_status status = ask(s, failing, &a);
    calls_stop();
    long calls = calls_failable();
    calls_fail(0);
    if (!status) { /* what failed was a question of no consequence */
        ck_assert_int_eq(a->n_tokens, n_want[failing]);
        ck_assert_mem_eq(a->tokens, want[failing], (size_t)n_want[failing] * sizeof **want);
    } else {
        ck_assert_int_eq(kv->position, position);
        ck_assert_int_eq(kv->length, length);
        ck_assert_int_eq(vlci_store_rows(kv->store), recall ? length : 0);
        ck_assert_int_eq(s->sequence->open, open);
        for (int i = failing; i < LINES; i++) check(s, i, "after call", k);
    }
    vlcache_session_destroy(&s);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    return calls >= k;
}

static void fail_everywhere(const char *policy, long stride) {
    rehearse(policy);
    for (int failing = 0; failing < LINES; failing++)
        for (long k = 1; fail_once(policy, failing, k); k += stride) continue;
}

static long stride_of(void) {
    const char *all = getenv("VLCACHE_TEST_EVERY_CALL");
    return all && *all ? 1 : STRIDE;
}

START_TEST(by_layer) {
    fail_everywhere("vlcache", stride_of());
}
END_TEST

START_TEST(after_some_tokens) {
    fail_everywhere("centroids", stride_of());
}
END_TEST

/* Codes of the turn before stay, those of a turn that fails go. */
START_TEST(in_few_bits) {
    fail_everywhere("vlcache+", 2 * stride_of());
}
END_TEST

/* Rows of earlier turns come from the host, and go there: what it has is whole after any failure. */
START_TEST(recalled) {
    recall = VLCACHE_RECALL_HOST;
    fail_everywhere(_i ? "centroids" : "vlcache", (_i + 2) * stride_of());
    recall = VLCACHE_RECALL_NONE;
}
END_TEST

START_TEST(uncompressed) {
    fail_everywhere("full", stride_of());
}
END_TEST

/* A failure takes the turns of all who were in the same batch back, and nobody else's. */
START_TEST(batch) {
    vlcache_engine *engine = NULL;
    vlcache_sequence *s[3];
    const vlcache_answer *a;
    int busy = 1;
    rehearse("vlcache");
    ck_ok(vlcache_engine_create(talk_tiny(), NULL, &engine));
    for (int i = 0; i < 3; i++) {
        vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
        vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
        how.max_tokens = TOKENS;
        prompt.text = lines[0].text;
        prompt.images = (const vlcache_image *const *)&pictures[0];
        prompt.n_images = 1;
        vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
        vlcache_compress_options compress = talk_way("vlcache", 0.4);
        options.compress = &compress;
        ck_ok(vlcache_engine_add(engine, &options, &s[i]));
        ck_ok(vlcache_sequence_ask(s[i], &prompt, &how));
        if (i == 1) ck_ok(vlcache_engine_step(engine, &busy)); /* the third begins later */
    }
    while (vlcache_sequence_state_of(s[1]) != VLCACHE_SEQUENCE_ANSWERING)
        ck_ok(vlcache_engine_step(engine, &busy));
    calls_fail(20);
    calls_start();
    vlci_turn_step(&engine->shared, (vlcache_sequence *[]){s[0], s[1]}, 2);
    calls_stop();
    calls_fail(0);
    while (busy) ck_ok(vlcache_engine_step(engine, &busy));
    for (int i = 0; i < 3 && calls_counted(); i++) {
        vlcache_status status = vlcache_sequence_answer(s[i], &a);
        ck_assert_int_eq(status == VLCACHE_OK, i == 2);
        ck_assert_int_eq(s[i]->kv.length > 0, i == 2);
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

static vlcache_sequence *ask_first(vlcache_engine *engine, uint64_t recall_bytes) {
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("centroids", 0.4);
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_sequence *s = NULL;
    options.compress = &compress;
    options.recall = VLCACHE_RECALL_HOST;
    options.recall_bytes = recall_bytes;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    how.max_tokens = TOKENS;
    how.min_tokens = TOKENS;
    prompt.text = lines[0].text;
    prompt.images = (const vlcache_image *const *)&pictures[0];
    prompt.n_images = 1;
    ck_ok(vlcache_sequence_ask(s, &prompt, &how));
    return s;
}

/* Of two that wait for tokens in one batch, the one whose rows find no more room with the host fails alone.
 */
START_TEST(refused_alone) {
    vlcache_engine *engine = NULL;
    const vlcache_answer *a, *b;
    rehearse("full");
    ck_ok(vlcache_engine_create(talk_tiny(), NULL, &engine));
    vlcache_sequence *alone = ask_first(engine, 0);
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(alone, &a));
    uint64_t row = a->recall.host_bytes / (uint64_t)alone->kv.length;
    vlcache_sequence *refused = ask_first(engine, row * (uint64_t)(a->prompt_tokens + 2)),
                     *other = ask_first(engine, 0);
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(other, &b));
    talk_same(a, b);
    ck_fails(vlcache_sequence_answer(refused, &b), VLCACHE_E_NO_MEMORY, "recall_bytes");
    ck_assert(refused->kv.length == 0 && refused->kv.held == 0 && !refused->kv.store);
    vlcache_engine_destroy(&engine);
}
END_TEST

static void close_pictures(void) {
    for (int i = 0; i < LINES; i++) vlcache_image_destroy(&pictures[i]);
}

int main(void) {
    Suite *suite = suite_create("rollback");
    TCase *all = tcase_create("rollback");
    talk_models(all);
    tcase_add_unchecked_fixture(all, NULL, close_pictures);
    tcase_add_test(all, by_layer);
    tcase_add_test(all, after_some_tokens);
    tcase_add_test(all, in_few_bits);
    tcase_add_loop_test(all, recalled, 0, 2);
    tcase_add_test(all, uncompressed);
    tcase_add_test(all, batch);
    tcase_add_test(all, refused_alone);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
