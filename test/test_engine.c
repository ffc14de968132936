/*
 * test_engine.c - many sequences at once: each one's tokens are those it gets alone, memory is shared,
 * promised and given back, and nobody waits for ever.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "support/suite.h"
#include "support/talk.h"

/* ---- questions, and what they come to alone ------------------------------------------------------------ */

typedef struct question {
    const char *text, *picture; /* picture NULL: none */
    const char *policy;         /* or a storage of "vlcache+" */
    double budget;
    int tokens;
    float temperature;
} question;

static const question questions[] = {
    {"What is in the picture?", "pages-2.png", "vlcache", 0.3, 9, 0},
    {"Describe the image in full.", "charts-3.png", "centroids", 0.4, 12, 0},
    {"Say something long.", NULL, "full", 1.0, 14, 0},
    {"Who?", "captions-0.png", "h2o", 0.5, 7, 0},
    {"Where is it, and why?", "pages-2.png", "full", 1.0, 11, 0},
    {"What is the value?", "charts-3.png", "snapkv", 0.25, 10, 0},
    {"Read the page.", "pages-0.png", "pyramidkv", 0.5, 3, 0},
    {"One, two, three", "captions-0.png", "centroids", 0.2, 2, 0}, /* ends before it is compressed */
    {"What is in the picture?", "pages-2.png", "coded:blk:16", 0.1, 13, 0},
    {"Read the page.", "charts-3.png", "coded:blk:16", 0.06, 9, 0},
    {"Where is it, and why?", "pages-0.png", "coded:pre", 0.15, 8, 0},
    {"Once upon a time", NULL, "vlcache", 0.1, 6, 0.9f},
    {"What is in the picture?", "charts-3.png", "streamingllm", 0.3, 8, 0.7f},
};
enum { QUESTIONS = sizeof questions / sizeof *questions, TOKENS_MOST = 32 };

static vlcache_image *pictures[QUESTIONS];
static int32_t alone[2][QUESTIONS][TOKENS_MOST]; /* in memory of a fixed size; in memory that grows */
static int n_alone[2][QUESTIONS];

static bool is_coded(const question *q) {
    return strncmp(q->policy, "coded", 5) == 0;
}

/* What is coded is "vlcache+", in a domain that is said: the usual one hangs on memory. */
static vlcache_compress_options policy_of(const question *q) {
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    compress.policy = is_coded(q) ? "vlcache+" : q->policy;
    if (is_coded(q)) ck_ok(vlcache_compress_set(&compress, "storage", q->policy));
    compress.budget = q->budget;
    return compress;
}

static vlcache_generate_options way_of(const question *q) {
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    how.max_tokens = q->tokens;
    how.temperature = q->temperature;
    how.seed = 7;
    return how;
}

static vlcache_status ask_for(vlcache_sequence *s, int i, int tokens) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = way_of(&questions[i]);
    how.max_tokens = tokens;
    prompt.text = questions[i].text;
    prompt.images = (const vlcache_image *const *)&pictures[i];
    prompt.n_images = pictures[i] ? 1 : 0;
    return vlcache_sequence_ask(s, &prompt, &how);
}

static vlcache_status ask(vlcache_sequence *s, int i) {
    return ask_for(s, i, questions[i].tokens);
}

static vlcache_sequence *add(vlcache_engine *engine, int i) {
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = policy_of(&questions[i]);
    vlcache_sequence *s = NULL;
    options.compress = &compress;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    return s;
}

static vlcache_engine *open_engine(vlcache_model *model, uint64_t bytes, int sequences, int prefill) {
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    options.kv_bytes = bytes;
    options.max_sequences = sequences;
    options.prefill_tokens = prefill;
    ck_ok(vlcache_engine_create(model, &options, &engine));
    return engine;
}

/* Pages that a turn which has been asked may come to need, with those that rows in few bits count as. */
static int64_t pages_of(const vlcache_sequence *s) {
    return vlci_turn_pages(s) + vlci_kv_pages_of(&s->shared->pool, vlci_turn_few(s));
}

/* More than any question needs, and fixed: of coded rows it hangs on that. */
enum { PLENTY = 1 << 24 };

/* Bytes that the largest of the questions may need, times n. */
static uint64_t room_for(double n) {
    vlcache_engine *engine = open_engine(talk_tiny(), PLENTY, 1, 64);
    int64_t most = 0;
    for (int i = 0; i < QUESTIONS; i++) {
        vlcache_sequence *s = add(engine, i);
        ck_ok(ask(s, i));
        if (pages_of(s) > most) most = pages_of(s);
        vlcache_sequence_destroy(&s);
    }
    uint64_t page = vlci_kv_page_bytes(&engine->shared.pool.shape, false);
    vlcache_engine_destroy(&engine);
    return (uint64_t)(n * (double)most) * page;
}

/* In memory that grows, or of a fixed size with room for one. */
static void ask_alone_in(bool grows) {
    for (int i = 0; i < QUESTIONS; i++) {
        const vlcache_answer *a;
        vlcache_engine *engine = open_engine(talk_tiny(), grows ? 0 : room_for(1.0), 1, 1);
        vlcache_sequence *s = add(engine, i);
        ck_ok(ask(s, i));
        talk_finish(engine);
        ck_ok(vlcache_sequence_answer(s, &a));
        n_alone[grows][i] = a->n_tokens;
        ck_assert_int_gt(a->n_tokens, 0);
        memcpy(alone[grows][i], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
        vlcache_engine_destroy(&engine);
    }
}

/* Only coded rows hang on the memory: where it is fixed, the tokens up to compression see codes already. */
static void ask_alone(void) {
    for (int i = 0; i < QUESTIONS; i++)
        if (questions[i].picture) pictures[i] = talk_picture(questions[i].picture);
    ask_alone_in(false);
    ask_alone_in(true);
    for (int i = 0; i < QUESTIONS; i++) {
        int n = is_coded(&questions[i]) ? 1 : n_alone[true][i];
        ck_assert_int_eq(n_alone[false][i], n_alone[true][i]);
        for (int t = 0; t < n; t++) ck_assert_int_eq(alone[false][i][t], alone[true][i][t]);
    }
}

static void forget_alone(void) {
    for (int i = 0; i < QUESTIONS; i++) vlcache_image_destroy(&pictures[i]);
}

static void check_answer(const vlcache_sequence *s, int i) {
    const vlcache_answer *a;
    bool grows = s->shared->pool.elastic;
    ck_ok(vlcache_sequence_answer(s, &a));
    ck_assert_int_eq(a->n_tokens, n_alone[grows][i]);
    for (int t = 0; t < a->n_tokens; t++)
        ck_assert_msg(a->tokens[t] == alone[grows][i][t], "question %d: token %d is %d, alone %d", i, t,
                      a->tokens[t], alone[grows][i][t]);
}

/* Nothing is held, and every page is free. */
static void check_empty(const vlcache_engine *engine) {
    const vlci_kv_pool *pool = &engine->shared.pool;
    vlcache_engine_memory memory;
    vlcache_engine_memory_of(engine, &memory);
    ck_assert_uint_eq(memory.held, 0);
    ck_assert_uint_eq(memory.rows, 0);
    ck_assert_uint_eq(memory.few, 0);
    ck_assert_int_eq(pool->held, 0);
    for (int p = 0; p < pool->pages; p++) ck_assert_uint_eq(pool->owners[p], 0);
}

/* ---- together ------------------------------------------------------------------------------------------ */

START_TEST(together_as_alone) {
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 64, 24);
    vlcache_sequence *s[2 * QUESTIONS];
    for (int i = 0; i < 2 * QUESTIONS; i++) s[i] = add(engine, i % QUESTIONS);
    for (int i = 0; i < 2 * QUESTIONS; i++) ck_ok(ask(s[i], i % QUESTIONS));
    talk_finish(engine);
    for (int i = 0; i < 2 * QUESTIONS; i++) check_answer(s[i], i % QUESTIONS);
    for (int i = 0; i < 2 * QUESTIONS; i++) vlcache_sequence_destroy(&s[i]);
    check_empty(engine);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* A later question, on what the first one left, in a batch with others. */
START_TEST(later_turns) {
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 8, 64), *single = open_engine(talk_tiny(), 0, 1, 64);
    vlcache_sequence *s[3], *one;
    const vlcache_answer *a, *b;
    for (int i = 0; i < 3; i++) s[i] = add(engine, i);
    for (int i = 0; i < 3; i++) ck_ok(ask(s[i], i));
    talk_finish(engine);
    for (int i = 0; i < 3; i++) ck_ok(ask(s[i], (i + 1) % 3));
    talk_finish(engine);
    for (int i = 0; i < 3; i++) {
        one = add(single, i);
        ck_ok(ask(one, i));
        talk_finish(single);
        ck_ok(ask(one, (i + 1) % 3));
        talk_finish(single);
        ck_ok(vlcache_sequence_answer(one, &a));
        ck_ok(vlcache_sequence_answer(s[i], &b));
        talk_same(a, b);
        ck_assert_int_eq(a->context_tokens, b->context_tokens);
        vlcache_sequence_destroy(&one);
    }
    vlcache_engine_destroy(&engine);
    vlcache_engine_destroy(&single);
}
END_TEST

/* ---- a random schedule --------------------------------------------------------------------------------- */

enum { LIVE = 9, EVENTS = 260 };

typedef struct live {
    vlcache_sequence *sequence;
    int question; /* of its first turn */
    bool spoiled; /* cancelled, or not the first turn: its tokens are not checked */
} live;

static int pick(uint64_t *random, int n) {
    int at = (int)((suite_random(random) + 1.0f) * 0.5f * (float)n);
    return at < n ? at : n - 1;
}

static void end_turn(live *l) {
    const vlcache_answer *a;
    if (vlcache_sequence_state_of(l->sequence) != VLCACHE_SEQUENCE_IDLE) return;
    vlcache_status status = vlcache_sequence_answer(l->sequence, &a);
    ck_assert(status == VLCACHE_OK || (status == VLCACHE_E_CANCELLED && l->spoiled));
    if (!l->spoiled) check_answer(l->sequence, l->question);
}

static void begin(vlcache_engine *engine, live *l, uint64_t *random) {
    *l = (live){.question = pick(random, QUESTIONS)};
    l->sequence = add(engine, l->question);
    ck_ok(ask(l->sequence, l->question));
}

/* What happens to a sequence between two steps. */
static void happen(vlcache_engine *engine, live *l, live *free_place, uint64_t *random) {
    bool idle = vlcache_sequence_state_of(l->sequence) == VLCACHE_SEQUENCE_IDLE;
    switch (pick(random, 6)) {
    case 0:
        l->spoiled |= !idle;
        if (!idle) vlcache_sequence_cancel(l->sequence);
        break;
    case 1:
        vlcache_sequence_destroy(&l->sequence);
        break;
    case 2:
        if (!idle || !free_place) break;
        *free_place = (live){.question = 2, .spoiled = true};
        ck_ok(vlcache_sequence_fork(l->sequence, &free_place->sequence));
        if (ask(free_place->sequence, 2))
            vlcache_sequence_destroy(&free_place->sequence); /* its context is full */
        break;
    case 3:
        if (!idle) break;
        l->spoiled = true;
        if (ask(l->sequence, 2)) vlcache_sequence_clear(l->sequence);
        break;
    case 4:
        vlcache_sequence_clear(l->sequence); /* while it runs: nothing */
        if (idle) vlcache_sequence_destroy(&l->sequence);
        break;
    }
    (void)engine;
}

/* Pages, and rows in few bits beside them, come to no more than the engine has. */
static void check_bound(const vlcache_engine *engine) {
    vlcache_engine_memory memory;
    vlcache_engine_memory_of(engine, &memory);
    if (engine->shared.pool.elastic) return;
    ck_assert_msg(memory.held + memory.few <= memory.total,
                  "%llu bytes in pages and %llu beside them of %llu", (unsigned long long)memory.held,
                  (unsigned long long)memory.few, (unsigned long long)memory.total);
}

static void random_schedule(uint64_t bytes, int sequences, int prefill, uint64_t seed) {
    vlcache_engine *engine = open_engine(talk_tiny(), bytes, sequences, prefill);
    live all[LIVE] = {{0}};
    uint64_t random = seed;
    int checked = 0;
    for (int event = 0; event < EVENTS; event++) {
        int i = pick(&random, LIVE), other = pick(&random, LIVE), busy;
        if (!all[i].sequence)
            begin(engine, &all[i], &random);
        else if (pick(&random, 3) == 0)
            happen(engine, &all[i], all[other].sequence ? NULL : &all[other], &random);
        ck_ok(vlcache_engine_step(engine, &busy));
        check_bound(engine);
        for (int l = 0; l < LIVE; l++) {
            if (!all[l].sequence || vlcache_sequence_state_of(all[l].sequence)) continue;
            end_turn(&all[l]);
            checked += !all[l].spoiled;
            if (!all[l].spoiled && pick(&random, 2)) vlcache_sequence_destroy(&all[l].sequence);
        }
    }
    for (int l = 0; l < LIVE; l++) vlcache_sequence_destroy(&all[l].sequence);
    ck_assert_int_gt(checked, 10);
    check_empty(engine);
    vlcache_engine_destroy(&engine);
}

START_TEST(random_in_plenty) {
    random_schedule(0, 16, 40, 11 + (uint64_t)_i);
}
END_TEST

/* Turns wait for memory, and conversations that do nothing hold some. */
START_TEST(random_in_short_memory) {
    random_schedule(room_for(LIVE * 0.75), 4, 17, 101 + (uint64_t)_i);
}
END_TEST

/* ---- memory
 * ------------------------------------------------------------------------------------------------ */

START_TEST(what_never_fits_is_refused) {
    vlcache_engine *engine = open_engine(talk_tiny(), room_for(0.5), 4, 64);
    vlcache_sequence *s = add(engine, 4), *small = add(engine, 2);
    ck_fails(ask(s, 4), VLCACHE_E_DEVICE_MEMORY, "kv_bytes");
    ck_assert_int_eq(vlcache_sequence_state_of(s), VLCACHE_SEQUENCE_IDLE);
    ck_ok(ask(small, 2));
    talk_finish(engine);
    check_answer(small, 2);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Ways to keep rows in few bits, and whether the turn is read again from the host's memory. */
static const struct {
    const char *policy, *storage, *selection, *candidates;
    double budget;
    vlcache_recall recall;
} few_ways[] = {{"vlcache+", "coded", NULL, NULL, 0.3,
                 VLCACHE_RECALL_NONE}, /* layer by layer: held, then narrowed */
                {"vlcache+", "coded:pre", NULL, NULL, 0.3, VLCACHE_RECALL_NONE},
                {"vlcache+", "coded:48:blk:16", NULL, NULL, 0.3, VLCACHE_RECALL_NONE},
                {"vlcache+", "coded:rotated", "per-prompt:0.5", "text", 0.2, VLCACHE_RECALL_NONE},
                {"vlcache+", "coded", NULL, NULL, 0.01, VLCACHE_RECALL_NONE}, /* less than tables are */
                {"vlcache+", "coded", NULL, NULL, 0.3, VLCACHE_RECALL_HOST},
                {"vlcache", "bits:4/2:32", NULL, NULL, 0.3, VLCACHE_RECALL_NONE},
                {"h2o", "bits:8/8:16", NULL, NULL, 0.9, VLCACHE_RECALL_NONE},
                {"centroids", "bits:3/2", NULL, NULL, 0.1, VLCACHE_RECALL_HOST}};

static vlcache_sequence *add_few(vlcache_engine *engine, int way) {
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way(few_ways[way].policy, few_ways[way].budget);
    vlcache_sequence *s = NULL;
    ck_ok(vlcache_compress_set(&compress, "storage", few_ways[way].storage));
    if (few_ways[way].selection) ck_ok(vlcache_compress_set(&compress, "selection", few_ways[way].selection));
    if (few_ways[way].candidates)
        ck_ok(vlcache_compress_set(&compress, "candidates", few_ways[way].candidates));
    options.compress = &compress;
    options.recall = few_ways[way].recall;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    return s;
}

static void finish_within(vlcache_engine *engine) {
    for (int busy = 1; busy; check_bound(engine)) ck_ok(vlcache_engine_step(engine, &busy));
}

/* Rows in few bits count: what a turn may come to need is never less than what it took, in the midst of it
 * too; an engine that has just that answers, one that has a page less refuses; beside a conversation that
 * holds what it was left another waits, and is told when nobody runs. */
START_TEST(few_bits_count) {
    vlcache_engine *engine = open_engine(talk_tiny(), PLENTY, 1, 64);
    vlcache_sequence *first = add_few(engine, _i), *second;
    vlcache_engine_memory left;
    uint64_t page = vlci_kv_page_bytes(&engine->shared.pool.shape, false);
    ck_ok(ask(first, 4));
    uint64_t few = vlci_turn_few(first), pages = (uint64_t)pages_of(first);
    ck_assert_uint_gt(few, 0);
    finish_within(engine);
    ck_ok(vlcache_sequence_answer(first, NULL));
    uint64_t took = engine->shared.pool.most_bytes - vlci_kv_pool_bytes(&engine->shared.pool);
    ck_assert_msg(took > 0 && took <= few, "%llu bytes of %llu", (unsigned long long)took,
                  (unsigned long long)few);
    vlcache_engine_memory_of(engine, &left);
    ck_assert_uint_gt(left.few, 0);
    vlcache_engine_destroy(&engine);
    engine = open_engine(talk_tiny(), (pages - 1) * page, 1, 64);
    first = add_few(engine, _i);
    ck_fails(ask(first, 4), VLCACHE_E_DEVICE_MEMORY, "kv_bytes");
    vlcache_engine_destroy(&engine);
    uint64_t stays = (left.held + left.few + page - 1) / page;
    engine = open_engine(talk_tiny(), (pages + stays - 1) * page, 2, 64);
    first = add_few(engine, _i);
    second = add_few(engine, _i);
    int busy;
    ck_ok(ask(first, 4));
    ck_ok(ask(second, 4));
    ck_ok(vlcache_engine_step(engine, &busy));
    ck_assert_int_eq(vlcache_sequence_state_of(second), VLCACHE_SEQUENCE_WAITING);
    finish_within(engine);
    ck_ok(vlcache_sequence_answer(first, NULL));
    if (few_ways[_i].recall) { /* its pages came back */
        ck_ok(vlcache_sequence_answer(second, NULL));
    } else {
        ck_fails(vlcache_sequence_answer(second, NULL), VLCACHE_E_DEVICE_MEMORY, "do nothing");
        vlcache_sequence_clear(first);
        ck_ok(ask(second, 4));
        finish_within(engine);
        ck_ok(vlcache_sequence_answer(second, NULL));
    }
    vlcache_sequence_destroy(&first);
    vlcache_sequence_destroy(&second);
    check_empty(engine);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Turn after turn, beside a fork that has what the first one left: none takes more, in pages and in few bits,
 * than it was said that it may. */
START_TEST(no_more_than_promised) {
    static const struct {
        const char *policy, *storage;
        int age, tokens;
        double budget;
        vlcache_recall recall;
    } ways[] = {{"full", "exact", 0, 34, 1.0, VLCACHE_RECALL_NONE},
                {"full", "exact", 0, 5, 1.0, VLCACHE_RECALL_HOST},
                {"h2o", "exact", 0, 9, 0.9, VLCACHE_RECALL_HOST},
                {"centroids", "exact", 0, 2, 0.9, VLCACHE_RECALL_NONE}, /* with biases */
                {"vlcache+", "coded", 0, 66, 0.3, VLCACHE_RECALL_NONE},
                {"vlcache+", "coded", 0, 9, 0.3, VLCACHE_RECALL_HOST},
                {"h2o", "bits:8/8:16", 16, 80, 0.3, VLCACHE_RECALL_NONE},
                {"h2o", "bits:8/8:16", 16, 3, 0.3, VLCACHE_RECALL_NONE}};
    static const int asked[] = {2, 0, 2, 4, 2}; /* with a picture and without */
    vlcache_engine *engine = open_engine(talk_tiny(), PLENTY, 1, 64);
    vlci_kv_pool *pool = &engine->shared.pool;
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way(ways[_i].policy, ways[_i].budget);
    vlcache_sequence *s = NULL, *fork = NULL;
    const vlcache_answer *a;
    if (strcmp(ways[_i].storage, "exact") != 0)
        ck_ok(vlcache_compress_set(&compress, "storage", ways[_i].storage));
    compress.age = ways[_i].age;
    options.compress = &compress;
    options.recall = ways[_i].recall;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    for (size_t turn = 0; turn < sizeof asked / sizeof *asked; turn++) {
        ck_ok(ask_for(s, asked[turn], ways[_i].tokens));
        uint64_t few = pool->few + vlci_turn_few(s) - (s->kv.store ? vlci_kv_own_few(&s->kv) : 0);
        int64_t pages = pool->held + vlci_turn_pages(s);
        if (few < pool->few) few = pool->few;
        vlci_kv_pool_watch(pool);
        talk_finish(engine);
        ck_ok(vlcache_sequence_answer(s, &a));
        ck_assert_uint_le(a->kv_bytes, a->kv_bytes_peak);
        uint64_t took = pool->most_bytes - vlci_kv_pool_bytes(pool);
        ck_assert_msg(pool->most <= pages, "turn %zu: %d pages of %lld", turn, pool->most, (long long)pages);
        ck_assert_msg(took <= few, "turn %zu: %llu bytes of %llu", turn, (unsigned long long)took,
                      (unsigned long long)few);
        if (turn == 1) ck_ok(vlcache_sequence_fork(s, &fork));
    }
    vlcache_sequence_destroy(&fork);
    vlcache_sequence_destroy(&s);
    check_empty(engine);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Strictly one after the other, in the order in which they were asked: the second is small and would fit. */
START_TEST(nobody_overtakes) {
    vlcache_engine *engine = open_engine(talk_tiny(), room_for(1.0), 8, 64);
    vlcache_sequence *first = add(engine, 4), *large = add(engine, 4), *small = add(engine, 2);
    ck_ok(ask(first, 4));
    ck_ok(ask(large, 4));
    ck_ok(ask(small, 2));
    int busy;
    ck_ok(vlcache_engine_step(engine, &busy));
    ck_assert_int_ne(vlcache_sequence_state_of(first), VLCACHE_SEQUENCE_WAITING);
    ck_assert_int_eq(vlcache_sequence_state_of(large), VLCACHE_SEQUENCE_WAITING);
    ck_assert_int_eq(vlcache_sequence_state_of(small), VLCACHE_SEQUENCE_WAITING);
    while (vlcache_sequence_state_of(first)) ck_ok(vlcache_engine_step(engine, &busy));
    vlcache_sequence_clear(first);
    talk_finish(engine);
    check_answer(large, 4);
    check_answer(small, 2);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Memory that idle conversations hold does not come back by itself: who waits for it is told. */
START_TEST(idle_conversations_hold_memory) {
    vlcache_engine *roomy = open_engine(talk_tiny(), 0, 1, 64);
    vlcache_sequence *one = add(roomy, 4), *first, *second;
    vlcache_engine_memory held;
    ck_ok(ask(one, 4));
    int64_t need = vlci_turn_pages(one);
    talk_finish(roomy);
    vlcache_engine_memory_of(roomy, &held);
    uint64_t page = vlci_kv_page_bytes(&roomy->shared.pool.shape, false);
    vlcache_engine_destroy(&roomy);
    vlcache_engine *engine = open_engine(talk_tiny(), ((uint64_t)need - 1) * page + held.held, 8, 64);
    first = add(engine, 4);
    second = add(engine, 4);
    ck_ok(ask(first, 4));
    talk_finish(engine);
    ck_ok(ask(second, 4));
    talk_finish(engine);
    ck_fails(vlcache_sequence_answer(second, NULL), VLCACHE_E_DEVICE_MEMORY, "do nothing");
    vlcache_sequence_clear(first);
    ck_ok(ask(second, 4));
    talk_finish(engine);
    check_answer(second, 4);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* Forks hold the same pages until they differ. */
START_TEST(forks_share) {
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 8, 64);
    vlcache_sequence *s = add(engine, 4), *fork[4];
    vlcache_engine_memory one, all;
    const vlcache_answer *a, *b;
    ck_ok(ask(s, 4));
    talk_finish(engine);
    vlcache_engine_memory_of(engine, &one);
    for (int i = 0; i < 4; i++) ck_ok(vlcache_sequence_fork(s, &fork[i]));
    vlcache_engine_memory_of(engine, &all);
    ck_assert_uint_eq(all.held, one.held);
    for (int i = 0; i < 4; i++) ck_ok(ask(fork[i], i < 3 ? 2 : 8));
    ck_ok(ask(s, 2));
    talk_finish(engine);
    vlcache_engine_memory_of(engine, &all);
    ck_ok(vlcache_sequence_answer(s, &a));
    for (int i = 0; i < 3; i++) {
        ck_ok(vlcache_sequence_answer(fork[i], &b));
        talk_same(a, b);
    }
    for (int i = 0; i < 4; i++) vlcache_sequence_destroy(&fork[i]);
    vlcache_engine_memory_of(engine, &one);
    ck_assert_uint_lt(all.held, 5 * one.held); /* less than five conversations of their own */
    vlcache_sequence_destroy(&s);
    check_empty(engine);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* ---- a long prompt does not stall the others
 * ---------------------------------------------------------------- */

static bool count_piece(void *user, const char *piece) {
    *(int *)user += piece[0] != 0;
    return true;
}

START_TEST(reading_does_not_stall) {
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 8, 8);
    vlcache_sequence *talker = add(engine, 2), *reader = add(engine, 4);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    int busy, pieces = 0, steps = 0, layers = talk_tiny()->config.text.layers;
    how.max_tokens = 40;
    how.on_text = count_piece;
    how.user = &pieces;
    prompt.text = questions[2].text;
    ck_ok(vlcache_sequence_ask(talker, &prompt, &how));
    while (vlcache_sequence_state_of(talker) != VLCACHE_SEQUENCE_ANSWERING)
        ck_ok(vlcache_engine_step(engine, &busy));
    ck_ok(ask(reader, 4));
    while (vlcache_sequence_state_of(reader) != VLCACHE_SEQUENCE_ANSWERING) {
        int before = talker->reply.n;
        ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_eq(talker->reply.n, before + 1); /* one token with each step, however long the prompt */
        steps++;
    }
    ck_assert_int_ge(steps, layers); /* a layer a step: the prompt is longer than 8 tokens */
    talk_finish(engine);
    check_answer(reader, 4);
    vlcache_engine_destroy(&engine);
}
END_TEST

/* A long prompt is compressed over some tokens, of which each is decoded on what there is: a layer a step, or
 * the rest of them where the answer ends. Heads hold in the end what they hold of the same question at once.
 */
START_TEST(compresses_between_tokens) {
    static const int most[] = {20, 5}; /* enough for all layers behind four deferred tokens; not */
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 2, 64);
    vlcache_sequence *s[2] = {add(engine, 1), add(engine, 1)};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    int busy = 1, under_way = 0, layers = talk_tiny()->config.text.layers,
        lists = layers * engine->shared.pool.shape.kv_heads;
    ck_assert_int_gt(layers, 1);
    how.max_tokens = most[_i];
    how.min_tokens = 20;
    prompt.text = questions[1].text;
    prompt.images = (const vlcache_image *const *)&pictures[1];
    prompt.n_images = 1;
    for (int i = 0; i < 2; i++) ck_ok(vlcache_sequence_ask(s[i], &prompt, &how));
    for (bool slow = false; busy;) {
        ck_ok(vlcache_engine_step(engine, &busy));
        vlci_compress *plan = vlci_sequence_plan(s[0]);
        if (vlcache_sequence_state_of(s[0]) != VLCACHE_SEQUENCE_ANSWERING) continue;
        if (!slow) ck_assert_double_gt(plan->at_once, 1e9);
        slow = true;
        plan->at_once = 1.0;
        int decoded = s[0]->reply.n - 1;
        ck_assert_int_eq(plan->read, plan->applied ? layers : 0);
        ck_assert(!plan->applied || decoded > 4);
        if (!plan->applied) ck_assert_int_eq(plan->room.step, decoded < 4 ? 0 : decoded - 4);
        under_way += plan->summing > 0;
        ck_assert_int_le(s[0]->kv.held, s[0]->pages);
    }
    ck_assert_int_ge(under_way, most[_i] > 5 ? layers : 1);
    for (int i = 0; i < lists; i++) ck_assert_int_eq(s[0]->kv.list[i].rows, s[1]->kv.list[i].rows);
    for (int i = 0; i < 2; i++) {
        const vlcache_answer *a;
        ck_ok(vlcache_sequence_answer(s[i], &a));
        ck_assert(vlci_sequence_plan(s[i])->applied);
        ck_assert_int_eq(a->n_tokens, most[_i]);
        ck_assert_int_eq(a->compress.deferred, 4);
        ck_assert_mem_eq(a->tokens, alone[true][1], 5 * sizeof *a->tokens); /* nothing has shrunk yet */
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* What a prompt was read with goes while the second token is waited for, the pages that compressing has made
 * free with the third, nothing before the first; or where the answer ends; or where another prompt is read
 * first. */
START_TEST(room_goes_with_the_next_tokens) {
    vlcache_device *device = talk_tiny()->device;
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 2, 1 << 20);
    vlcache_sequence *s = add(engine, 0), *other = add(engine, 0);
    const vlci_kv_pool *pool = &engine->shared.pool;
    int busy = 1;
    ck_ok(ask(s, 0));
    while (busy && vlcache_sequence_state_of(s) != VLCACHE_SEQUENCE_ANSWERING)
        ck_ok(vlcache_engine_step(engine, &busy));
    int held = pool->held, pages = pool->pages;
    uint64_t memory = vlci_memory_now(device);
    ck_assert_int_eq(s->reply.n, 1);
    ck_assert(vlci_sequence_plan(s)->applied);
    ck_assert_int_lt(held, pages);
    ck_assert(engine->shared.untidy == s && engine->shared.frees);
    if (_i == 1) {
        ck_ok(ask(other, 0));
        while (busy && s->reply.n < 2) ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert(engine->shared.untidy != s);
    } else if (_i == 2) {
        vlcache_sequence_cancel(s);
        while (busy) ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_eq(pool->pages, pool->held);
    } else {
        ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_eq(s->reply.n, 2);
        ck_assert(!engine->shared.untidy && engine->shared.frees && pool->pages == pages);
        ck_assert_uint_lt(vlci_memory_now(device), memory);
        memory = vlci_memory_now(device);
        ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_eq(s->reply.n, 3);
        ck_assert_int_eq(pool->pages, held);
        ck_assert_uint_eq(vlci_memory_now(device),
                          memory - (uint64_t)(pages - held) * vlci_kv_page_bytes(&pool->shape, false));
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* What a search for centroids needs stays for the next one, and pages that rows move to are there from the
 * beginning: growing would copy all of the cache. */
START_TEST(searches_make_nothing_anew) {
    vlcache_engine *engine = open_engine(talk_tiny(), 0, 1, 64);
    vlcache_sequence *s = add(engine, 1);
    const vlci_groups *spare = &engine->shared.spare.groups;
    cl_mem evicted = NULL;
    ck_assert(engine->shared.pool.elastic);
    for (int turn = 0; turn < 3; turn++) { /* the last one at its own pace */
        int busy = 1, pages = 0, under_way = 0;
        vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
        vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
        how.max_tokens = how.min_tokens = 20;
        prompt.text = questions[1].text;
        prompt.images = (const vlcache_image *const *)&pictures[1];
        prompt.n_images = 1;
        ck_ok(vlcache_sequence_ask(s, &prompt, &how));
        while (busy) {
            ck_ok(vlcache_engine_step(engine, &busy));
            vlci_compress *plan = vlci_sequence_plan(s);
            if (vlcache_sequence_state_of(s) != VLCACHE_SEQUENCE_ANSWERING) continue;
            if (turn < 2) plan->at_once = 1.0;
            if (!pages) pages = engine->shared.pool.pages;
            if (turn == 2) ck_assert_int_le(engine->shared.pool.pages, pages);
            if (!plan->summing) continue;
            ck_assert(!spare->heads && (!evicted || plan->room.groups.evicted == evicted));
            under_way++;
        }
        if (turn < 2) ck_assert_int_ge(under_way, talk_tiny()->config.text.layers);
        ck_assert(spare->heads && (!evicted || spare->evicted == evicted));
        evicted = spare->evicted;
        vlcache_sequence_destroy(&s);
        s = add(engine, 1);
    }
    vlcache_engine_destroy(&engine);
}
END_TEST

/* ---- two engines, two threads
 * -------------------------------------------------------------------------------- */

static void *run_engine(void *user) {
    vlcache_engine *engine = user;
    int busy = 1;
    while (busy && !vlcache_engine_step(engine, &busy)) continue;
    return NULL;
}

START_TEST(two_engines_two_threads) {
    vlcache_engine *engine[2];
    vlcache_sequence *s[2][QUESTIONS];
    pthread_t thread[2];
    for (int e = 0; e < 2; e++) {
        engine[e] = open_engine(talk_tiny(), 0, 8, 30);
        for (int i = 0; i < QUESTIONS; i++) s[e][i] = add(engine[e], i);
        for (int i = 0; i < QUESTIONS; i++) ck_ok(ask(s[e][i], i));
    }
    for (int e = 0; e < 2; e++) ck_assert_int_eq(pthread_create(&thread[e], NULL, run_engine, engine[e]), 0);
    for (int e = 0; e < 2; e++) pthread_join(thread[e], NULL);
    for (int e = 0; e < 2; e++) {
        for (int i = 0; i < QUESTIONS; i++) check_answer(s[e][i], i);
        vlcache_engine_destroy(&engine[e]);
    }
}
END_TEST

/* ---- options and calls
 * ---------------------------------------------------------------------------------------- */

START_TEST(bad_calls) {
    vlcache_engine_options options = VLCACHE_ENGINE_OPTIONS_INIT;
    vlcache_engine *engine = NULL;
    vlcache_sequence *s = NULL, *fork = NULL;
    const vlcache_answer *a;
    options.max_sequences = 0;
    ck_fails(vlcache_engine_create(talk_tiny(), &options, &engine), VLCACHE_E_ARGUMENT, "max_sequences");
    options.max_sequences = 1;
    options.prefill_tokens = 0;
    ck_fails(vlcache_engine_create(talk_tiny(), &options, &engine), VLCACHE_E_ARGUMENT, "prefill_tokens");
    options.prefill_tokens = 1;
    options.kv_bytes = 1;
    ck_fails(vlcache_engine_create(talk_tiny(), &options, &engine), VLCACHE_E_ARGUMENT, "kv_bytes");
    ck_assert_ptr_null(engine);
    engine = open_engine(talk_tiny(), 0, 2, 64);
    s = add(engine, 2);
    ck_fails(vlcache_sequence_answer(s, &a), VLCACHE_E_ARGUMENT, "no turn");
    ck_ok(ask(s, 2));
    ck_fails(ask(s, 2), VLCACHE_E_ARGUMENT, "a turn runs");
    ck_fails(vlcache_sequence_fork(s, &fork), VLCACHE_E_ARGUMENT, "a turn runs");
    vlcache_sequence_cancel(s);
    talk_finish(engine);
    ck_fails(vlcache_sequence_answer(s, &a), VLCACHE_E_CANCELLED, "waiting");
    ck_ok(ask(s, 2));
    talk_finish(engine);
    check_answer(s, 2);
    ck_fails(vlcache_engine_step(NULL, NULL), VLCACHE_E_ARGUMENT, "NULL");
    vlcache_engine_destroy(&engine);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("engine");
    TCase *all = tcase_create("engine");
    talk_models(all);
    tcase_add_unchecked_fixture(all, ask_alone, forget_alone);
    tcase_add_test(all, together_as_alone);
    tcase_add_test(all, later_turns);
    tcase_add_loop_test(all, random_in_plenty, 0, 2);
    tcase_add_loop_test(all, random_in_short_memory, 0, 2);
    tcase_add_test(all, what_never_fits_is_refused);
    tcase_add_loop_test(all, few_bits_count, 0, 9);
    tcase_add_loop_test(all, no_more_than_promised, 0, 8);
    tcase_add_test(all, nobody_overtakes);
    tcase_add_test(all, idle_conversations_hold_memory);
    tcase_add_test(all, forks_share);
    tcase_add_test(all, reading_does_not_stall);
    tcase_add_loop_test(all, compresses_between_tokens, 0, 2);
    tcase_add_test(all, searches_make_nothing_anew);
    tcase_add_loop_test(all, room_goes_with_the_next_tokens, 0, 3);
    tcase_add_test(all, two_engines_two_threads);
    tcase_add_test(all, bad_calls);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
