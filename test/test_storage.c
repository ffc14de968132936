/*
 * test_storage.c - conversations whose rows are coded: everything kept is everything, many bits are as good
 * as all, bytes that are told are bytes that are held, later turns, forks, and what the tool says of it.
 */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "session/session.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/tool.h"

#define QUESTION "What is the Due date?"

static vlcache_session *open_with(const char *storage, double budget, int defer) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("vlcache+", budget);
    vlcache_session *session = NULL;
    ck_ok(vlcache_compress_set(&compress, "storage", storage));
    compress.defer = defer;
    options.compress = &compress;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    return session;
}

/* Every row, where nobody would say which. */
static vlcache_session *open_all(double budget, int defer) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("vlcache+", budget);
    vlcache_session *session = NULL;
    ck_ok(vlcache_compress_set(&compress, "selection", "per-head"));
    compress.defer = defer;
    options.compress = &compress;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    return session;
}

/* A budget of everything codes nothing; 8 bits of every number answer as the rows themselves. */
START_TEST(as_the_full_cache) {
    static const struct {
        const char *storage;
        double budget;
        int defer;
    } ways[] = {{"coded", 1.0, 4},
                {"coded:4096", 0.1, 4},
                {"coded:4096:blk:16", 1.0, 0},
                {"coded:600:rotated", 1.0, 1},
                {"coded:600:pre", 1.0, 4}};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *full = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *coded = open_with(ways[_i].storage, ways[_i].budget, ways[_i].defer);
    const vlcache_answer *a = NULL, *b = NULL;
    static const char *const texts[] = {QUESTION, "What is the heading?", QUESTION};
    for (int turn = 0; turn < 3; turn++) { /* the picture, text alone, and the picture again */
        ck_ok(talk_ask(full, turn == 1 ? NULL : image, texts[turn], NULL, 24, &a));
        ck_ok(talk_ask(coded, turn == 1 ? NULL : image, texts[turn], NULL, 24, &b));
        talk_same(a, b);
        ck_assert(b->compressed == (turn != 1));
    }
    ck_assert(_i == 0 ? b->compress.bytes_kept == b->compress.bytes_full && b->compress.bits == 0.0
                      : b->compress.bytes_kept < b->compress.bytes_full && b->compress.bits > 200.0);
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&coded);
    vlcache_image_destroy(&image);
}
END_TEST

/* What is told of bytes is what the sequence holds, and the budget holds. */
START_TEST(bytes_that_are_held) {
    static const double budgets[] = {0.05, 0.1, 0.3};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache+", budgets[_i]);
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, QUESTION, NULL, 12, &a));
    const vlcache_compress_stats *c = &a->compress;
    const vlci_kv *kv = &session->sequence->kv;
    uint64_t codes = vlci_codes_all_bytes(kv->codes);
    ck_assert_uint_eq(c->bytes_kept, codes);
    ck_assert_uint_eq(c->bytes_kept,
                      c->bytes_codes + c->bytes_text + c->bytes_bases + c->bytes_means + c->bytes_tables);
    ck_assert_double_eq_tol(c->budget_kept, (double)c->bytes_kept / (double)c->bytes_full, 1e-12);
    ck_assert_double_le(c->budget_kept, budgets[_i]);
    ck_assert_double_ge(c->budget_kept, 0.97 * budgets[_i]);
    ck_assert_uint_eq(a->kv_bytes, vlci_kv_bytes(kv));
    ck_assert_uint_ge(a->kv_bytes_peak, c->bytes_full + codes); /* coded where everything was there */
    double bits = 0.0, basis = 0.0, one; /* a vector and a step of each dimension, spread over whole blocks */
    for (int i = 0; i < c->layers * c->kv_heads; i++) {
        ck_ok(vlcache_session_bits(session, i / c->kv_heads, i % c->kv_heads, &one));
        bits += one;
    }
    basis = 8.0 * (double)c->bytes_bases / ((kv->codes->rows + 15) / 16 * 16);
    ck_assert_double_eq_tol(bits, c->bits * c->layers * c->kv_heads + basis, 1e-6 * bits);
    ck_fails(vlcache_session_bits(session, 0, c->kv_heads, &one), VLCACHE_E_ARGUMENT, "session: kv_head");
    ck_fails(vlcache_session_bits(session, -1, 0, &one), VLCACHE_E_ARGUMENT, "session: layer");
    for (int layer = 0; layer < c->layers; layer++) {
        vlcache_compress_layer l;
        int32_t at[1024];
        size_t n;
        ck_ok(vlcache_session_layer(session, layer, &l));
        ck_ok(vlcache_session_kept(session, layer, 0, at, 1024, &n));
        ck_assert(l.kept == a->prompt_tokens && l.coded == l.kept && (int)n == l.kept && l.centroids == 0);
        ck_assert_int_eq(at[n - 1], a->prompt_tokens - 1);
    }
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Rows in pages that a turn without others before it has left, its decoded ones excepted, with their biases.
 */
static uint64_t bytes_of_rows(const vlci_kv *kv, int decoded) {
    const vlci_kv_shape *shape = &kv->pool->shape;
    uint64_t bytes = 0, row = 2 * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype);
    for (int i = 0; i < shape->layers * shape->kv_heads; i++) {
        uint64_t rows = (uint64_t)(kv->list[i].rows - decoded);
        bytes += rows * row + (kv->list[i].biased ? rows * sizeof(float) : 0);
    }
    return bytes;
}

/* One accountant: what is told of every policy is what its lists and codes come to, what the pool holds
 * beside is decoded rows and page ends, and the device holds no more than the pool and codes when all is
 * forgotten. */
START_TEST(one_accountant) {
    static const char *const policies[] = {"full", "vlcache", "centroids", "snapkv", "h2o", "vlcache+"};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), policies[_i], _i ? 0.1 : 1.0);
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, QUESTION, NULL, 8, &a));
    const vlcache_compress_stats *c = &a->compress;
    const vlci_kv *kv = &session->sequence->kv;
    const vlci_kv_shape *shape = &kv->pool->shape;
    int decoded = kv->length - a->prompt_tokens, lists = shape->layers * shape->kv_heads;
    uint64_t codes = vlci_codes_all_bytes(kv->codes), page = vlci_kv_page_bytes(shape, true);
    ck_assert_uint_eq(c->bytes_kept, bytes_of_rows(kv, decoded) + codes);
    ck_assert_double_eq_tol(c->budget_kept, (double)c->bytes_kept / (double)c->bytes_full, 1e-12);
    if (_i) ck_assert_double_eq_tol(c->budget_kept, 0.1, 0.01);
    uint64_t told = bytes_of_rows(kv, 0) + codes; /* what decoded rows take beside what is kept */
    ck_assert_uint_ge(told, c->bytes_kept);
    ck_assert_uint_gt(a->page_ends, 0);
    ck_assert_uint_eq(a->kv_bytes, told + a->page_ends);
    ck_assert_uint_le(a->kv_bytes, c->bytes_kept + (uint64_t)(lists * (decoded / VLCI_KV_PAGE + 2)) * page);
    ck_assert_uint_eq(kv->pool->few, codes);
    ck_assert_uint_ge(vlci_kv_pool_bytes(kv->pool) + codes, a->kv_bytes);
    uint64_t before = vlci_memory_now(talk_demo()->device);
    vlcache_session_clear(session);
    ck_assert_uint_eq(kv->pool->few, 0);
    ck_assert_uint_ge(before - vlci_memory_now(talk_demo()->device), codes);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Where the whole prompt is not small, layers are held in more bits until all are known: the peak is one of
 * them in full, what is held, and what is kept; answers and bytes are those of all at once. */
START_TEST(layer_by_layer) {
    static const struct {
        const char *storage;
        double budget;
        int defer;
        double most; /* of the full cache's bytes at the peak */
    } ways[] = {{"coded", 0.05, 4, 0.35},
                {"coded", 0.1, 4, 0.5},
                {"coded", 0.1, 0, 0.5},
                {"coded:pre", 0.05, 4, 0.35},
                {"coded:pre", 0.1, 0, 0.5}};
    uint64_t *memory = &talk_demo()->device->caps.info.global_memory, whole = *memory;
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *all = open_with(ways[_i].storage, ways[_i].budget, ways[_i].defer),
                    *layers = open_with(ways[_i].storage, ways[_i].budget, ways[_i].defer);
    const vlcache_answer *a = NULL, *b = NULL;
    for (int turn = 0; turn < 2; turn++) { /* the second behind codes of the first */
        ck_ok(talk_ask(all, image, QUESTION, NULL, 12, &a));
        *memory = 1;
        ck_ok(talk_ask(layers, image, QUESTION, NULL, 12, &b));
        *memory = whole;
        talk_same(a, b);
        ck_assert_int_eq(b->compress.deferred, ways[_i].defer);
        ck_assert_double_le(b->compress.budget_kept, ways[_i].budget);
        ck_assert_double_ge(b->compress.budget_kept, 0.95 * ways[_i].budget);
        ck_assert_uint_eq(layers->sequence->kv.pool->few, vlci_codes_all_bytes(layers->sequence->kv.codes));
        ck_assert_int_gt(all->sequence->kv.codes->patterns, 0); /* turned row by row, and run by run */
        ck_assert_int_eq(layers->sequence->kv.codes->run, 16);
        ck_assert((layers->sequence->kv.codes->patterns > 0) == (_i > 2)); /* as it was asked for */
        if (turn) break;
        ck_assert_uint_ge(a->kv_bytes_peak, a->compress.bytes_full);
        ck_assert_msg((double)b->kv_bytes_peak < ways[_i].most * (double)b->compress.bytes_full,
                      "%g of the full cache", (double)b->kv_bytes_peak / (double)b->compress.bytes_full);
    }
    vlcache_session_destroy(&all);
    vlcache_session_destroy(&layers);
    vlcache_image_destroy(&image);
}
END_TEST

/* A budget below 5% keeps fewer rows in more bits; not where layers are held: then all are, as is said of
 * them. */
START_TEST(all_rows_layer_by_layer) {
    uint64_t *memory = &talk_demo()->device->caps.info.global_memory, whole = *memory;
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *asked = open_all(0.03, 4), *not_asked = talk_open(talk_demo(), "vlcache+", 0.03);
    const vlcache_answer *a = NULL, *b = NULL;
    vlcache_compress_layer layer;
    *memory = 1;
    ck_ok(talk_ask(asked, image, QUESTION, NULL, 12, &a));
    ck_ok(talk_ask(not_asked, image, QUESTION, NULL, 12, &b));
    *memory = whole;
    talk_same(a, b);
    ck_assert(a->compress.bytes_kept == b->compress.bytes_kept && a->compress.bits == b->compress.bits);
    ck_assert(b->kv_bytes_peak < b->compress.bytes_full);
    ck_ok(vlcache_session_layer(not_asked, 0, &layer));
    ck_assert_int_eq(layer.kept, b->compress.tokens);
    vlcache_session_destroy(&asked);
    vlcache_session_destroy(&not_asked);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- few bits a number --------------------------------------------------------------------------------- */

static vlcache_session *open_bits(const char *policy, const char *storage, double budget) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way(policy, budget);
    vlcache_session *session = NULL;
    ck_ok(vlcache_compress_set(&compress, "storage", storage));
    options.compress = &compress;
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    return session;
}

/* All rows at 8 bits, or half of the bytes, answer as the rows themselves; a budget of everything quantises
 * nothing. A turn of text alone, and another picture, see what is quantised. */
START_TEST(bits_as_the_full_cache) {
    static const struct {
        const char *policy, *storage;
        double budget;
    } ways[] = {{"vlcache", "bits:4/2", 1.0},
                {"vlcache", "bits:8/8", 0.99},
                {"centroids", "bits:8/8:32", 0.9},
                {"streamingllm", "bits:8/4:128", 0.8}};
    static const char *const texts[] = {QUESTION, "What is the heading?", QUESTION};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *full = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *few = open_bits(ways[_i].policy, ways[_i].storage, ways[_i].budget);
    const vlcache_answer *a = NULL, *b = NULL;
    for (int turn = 0; turn < 3; turn++) {
        ck_ok(talk_ask(full, turn == 1 ? NULL : image, texts[turn], NULL, 24, &a));
        ck_ok(talk_ask(few, turn == 1 ? NULL : image, texts[turn], NULL, 24, &b));
        talk_same(a, b);
        ck_assert(b->compressed == (turn != 1));
    }
    ck_assert(_i == 0 ? b->compress.bytes_kept == b->compress.bytes_full && b->compress.bits == 0.0
                      : b->compress.bytes_kept < b->compress.bytes_full && b->compress.bits >= 12.0 * 64.0);
    if (_i) ck_assert(few->sequence->kv.quants->before != NULL);
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&few);
    vlcache_image_destroy(&image);
}
END_TEST

/* What is told of bytes is what the sequence holds, whatever chose the rows; the budget holds, and is used;
 * more rows are kept than exact ones would be. */
START_TEST(bits_within_their_budget) {
    static const char *const policies[] = {"vlcache", "centroids", "streamingllm",
                                           "h2o",     "snapkv",    "pyramidkv"};
    static const double budgets[] = {0.05, 0.2};
    const char *policy = policies[_i];
    double budget = budgets[_i % 2];
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *few = open_bits(policy, _i % 2 ? "bits:4/2" : "bits:3/2:32", budget);
    vlcache_session *exact = talk_open(talk_demo(), policy, budget);
    const vlcache_answer *a = NULL, *b = NULL;
    ck_ok(talk_ask(few, image, QUESTION, NULL, 12, &a));
    ck_ok(talk_ask(exact, image, QUESTION, NULL, 12, &b));
    const vlcache_compress_stats *c = &a->compress;
    const vlci_kv *kv = &few->sequence->kv;
    ck_assert_uint_eq(c->bytes_kept, vlci_kv_few_bytes(kv));
    ck_assert_uint_eq(c->bytes_kept, c->bytes_codes + c->bytes_scales + c->bytes_biases + c->bytes_tables);
    ck_assert_double_le(c->budget_kept, budget);
    ck_assert_double_ge(c->budget_kept, 0.9 * budget);
    ck_assert_uint_eq(a->kv_bytes, vlci_kv_bytes(kv));
    int rows = 0, whole = 0;
    for (int layer = 0; layer < c->layers; layer++) {
        vlcache_compress_layer l, m;
        int32_t at[1024];
        size_t n;
        ck_ok(vlcache_session_layer(few, layer, &l));
        ck_ok(vlcache_session_layer(exact, layer, &m));
        ck_ok(vlcache_session_kept(few, layer, 0, at, 1024, &n));
        ck_assert(l.coded == l.kept && (int)n == l.kept && at[n - 1] == a->prompt_tokens - 1);
        for (size_t i = 1; i < n; i++) ck_assert_int_lt(at[i - 1], at[i]);
        ck_assert_int_le(vlci_kv_most_rows(kv, layer), 12); /* those that were decoded */
        rows += l.kept + l.centroids;
        whole += m.kept + m.centroids;
    }
    ck_assert_int_gt(rows, 3 * whole);
    ck_assert_int_le(rows, c->layers * a->prompt_tokens);
    vlcache_session_destroy(&few);
    vlcache_session_destroy(&exact);
    vlcache_image_destroy(&image);
}
END_TEST

/* Later turns see the picture that is only codes; a cleared session has forgotten them. */
START_TEST(later_turns) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache+", 0.1),
                    *full = talk_open(talk_demo(), "full", 1.0);
    const vlcache_answer *a = NULL, *b = NULL;
    ck_ok(talk_ask(full, image, "What is the heading?", NULL, 16, &b));
    ck_ok(talk_ask(full, NULL, QUESTION, NULL, 16, &b));
    ck_ok(talk_ask(session, image, "What is the heading?", NULL, 16, &a));
    uint64_t bytes = a->compress.bytes_kept;
    ck_ok(talk_ask(session, NULL, QUESTION, NULL, 16, &a));
    ck_assert(!a->compressed);
    talk_same(a, b);
    ck_ok(talk_ask(session, image, QUESTION, NULL, 16, &a));
    ck_assert(a->compressed && session->sequence->kv.codes->before);
    ck_assert_uint_ge(a->kv_bytes, bytes + a->compress.bytes_kept);
    vlcache_session_clear(session);
    ck_assert_ptr_null(session->sequence->kv.codes);
    ck_ok(talk_ask(session, image, "What is the heading?", NULL, 16, &a));
    ck_assert_uint_eq(a->compress.bytes_kept, bytes);
    vlcache_session_destroy(&session);
    vlcache_session_destroy(&full);
    vlcache_image_destroy(&image);
}
END_TEST

/* One set of rows for all heads, and the budget's bytes shared out over it: never more, and more bits a row
 * than all rows would have; the same positions everywhere; later turns, with what was dropped brought back or
 * not. A share of 1 is every row. */
START_TEST(rows_that_all_heads_vote_for) {
    static const struct {
        const char *share, *candidates;
        double budget;
    } ways[] = {{"per-prompt:0.5", "all", 0.02},
                {"per-prompt:0.5", "visual", 0.05},
                {"per-prompt:0.25", "text", 0.1},
                {"per-prompt:1", "all", 0.05},
                {NULL, NULL, 0.02},
                {NULL, NULL, 0.03}}; /* as the policy has it */
    vlcache_image *image = talk_picture("pages-2.png");
    const vlcache_answer *a = NULL, *b = NULL;
    vlcache_session *every = open_all(ways[_i].budget, 4), *some = NULL;
    vlcache_compress_options compress = talk_way("vlcache+", ways[_i].budget);
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    if (ways[_i].share) ck_ok(vlcache_compress_set(&compress, "selection", ways[_i].share));
    if (ways[_i].share) ck_ok(vlcache_compress_set(&compress, "candidates", ways[_i].candidates));
    options.compress = &compress;
    options.recall = _i == 1 ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
    ck_ok(vlcache_session_create(talk_demo(), &options, &some));
    ck_ok(talk_ask(every, image, QUESTION, NULL, 12, &b));
    for (int turn = 0; turn < 3; turn++) { /* the picture, text alone, and the picture again */
        ck_ok(talk_ask(some, turn == 1 ? NULL : image, QUESTION, NULL, 12, &a));
        const vlcache_compress_stats *c = &a->compress;
        const vlci_kv *kv = &some->sequence->kv;
        ck_assert(a->compressed == (turn != 1 || _i == 1));
        if (!a->compressed) continue;
        ck_assert(turn || _i != 3 || c->bits == b->compress.bits);
        ck_assert(turn || _i == 3 || c->bits > b->compress.bits);
        if (!turn && _i == 3) talk_same(a, b);
        if (!turn) ck_assert_uint_eq(c->bytes_kept, vlci_codes_all_bytes(kv->codes));
        ck_assert_uint_eq(c->bytes_kept,
                          c->bytes_codes + c->bytes_text + c->bytes_bases + c->bytes_means + c->bytes_tables);
        ck_assert_double_le(c->budget_kept, ways[_i].budget);
        int32_t first[2048], at[2048];
        size_t n_first = 0, n = 0;
        for (int i = 0; i < c->layers * c->kv_heads; i++) {
            vlcache_compress_layer l;
            ck_ok(vlcache_session_layer(some, i / c->kv_heads, &l));
            ck_ok(vlcache_session_kept(some, i / c->kv_heads, i % c->kv_heads, at, 2048, &n));
            ck_assert(l.kept == (int)n && l.coded == l.kept && (l.kept < c->tokens || _i == 3));
            for (size_t j = 1; j < n; j++) ck_assert_int_lt(at[j - 1], at[j]);
            ck_assert(!i || (n == n_first && memcmp(at, first, n * sizeof *at) == 0));
            memcpy(first, at, n * sizeof *at);
            n_first = n;
        }
    }
    vlcache_session_destroy(&some);
    vlcache_session_destroy(&every);
    vlcache_image_destroy(&image);
}
END_TEST

/* Some six hundred tokens. */
static const char *long_question(void) {
    static char question[2048];
    size_t used = 0;
    while (used < 900) used += (size_t)sprintf(question + used, "This line says nothing of it. ");
    strcpy(question + used, QUESTION);
    return question;
}

/* Text that is three fifths of a prompt, and more than the budget by itself, goes as far as codes need room,
 * where nobody said what is kept, whether all layers are there at once or are held: never more bytes than
 * asked for, all of the picture, and the same answers as long as the bytes do for that. */
START_TEST(text_that_is_too_much) {
    static const struct {
        double budget;
        bool held;
    } ways[] = {{0.02, false}, {0.03, false}, {0.05, false}, {0.09, false}, {0.05, true}, {0.09, true}};
    uint64_t *memory = &talk_demo()->device->caps.info.global_memory, whole = *memory;
    const char *question = long_question();
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *ours = talk_open(talk_demo(), "vlcache+", ways[_i].budget), *every = NULL;
    const vlcache_answer *a = NULL, *b = NULL;
    vlcache_visual_token first, last;
    int32_t at[4096];
    size_t n;
    if (ways[_i].held) *memory = 1;
    for (int turn = 0; turn < 2; turn++) {
        ck_ok(talk_ask(ours, image, question, NULL, 12, &a));
        const vlcache_compress_stats *c = &a->compress;
        int text = c->tokens - a->visual_tokens;
        ck_assert_int_gt(5 * text, 2 * c->tokens);
        ck_assert_msg(c->budget_kept <= ways[_i].budget, "%g of %g", c->budget_kept, ways[_i].budget);
        ck_assert_double_ge(c->budget_kept, 0.95 * ways[_i].budget);
        ck_assert_double_gt(c->bits, 0.0);
        ck_assert_uint_eq(c->bytes_kept,
                          c->bytes_codes + c->bytes_text + c->bytes_bases + c->bytes_means + c->bytes_tables);
        ck_assert_uint_eq(ours->sequence->kv.pool->few, vlci_codes_all_bytes(ours->sequence->kv.codes));
        ck_ok(vlcache_session_kept(ours, 1, 0, at, 4096, &n));
        ck_assert_int_gt((int)n, a->visual_tokens);
        ck_assert_int_lt((int)n, c->tokens);
        ck_ok(vlcache_session_visual(ours, 0, &first));
        ck_ok(vlcache_session_visual(ours, a->visual_tokens - 1, &last));
        int seen = 0;
        for (size_t j = 0; j < n; j++) seen += at[j] >= first.position && at[j] <= last.position;
        ck_assert_int_eq(seen, a->visual_tokens);
    }
    every = open_all(ways[_i].budget, 4); /* who asks for every row has it, and is told what it takes */
    ck_ok(talk_ask(every, image, question, NULL, 4, &b));
    *memory = whole;
    ck_assert_double_gt(b->compress.budget_kept, ways[_i].budget);
    ck_ok(vlcache_session_kept(every, 1, 0, at, 4096, &n));
    ck_assert_int_eq((int)n, b->compress.tokens);
    vlcache_session_destroy(&ours);
    vlcache_session_destroy(&every);
    vlcache_image_destroy(&image);
}
END_TEST

/* What the launches of a token address of codes, from the tables that they are given: of each matrix its
 * codes, vectors with factors, mean, text and place, none of it twice and all within what is allocated; and
 * the phases of runs, which are the same memory for all heads and layers. */
static uint64_t addressed(const vlci_codes *c) {
    size_t n = 2 * (size_t)(c->layers * c->kv_heads), dim = (size_t)c->head_dim, words = 0, dims = 0;
    vlci_code_matrix *m = calloc(n, sizeof *m);
    cl_int *pattern = calloc((size_t)c->runs, sizeof *pattern);
    uint64_t bytes = n * (sizeof *m + dim * sizeof(cl_half)) + (uint64_t)c->runs * dim * sizeof(cl_float);
    ck_ok(vlci_read(c->device, c->matrix, 0, m, n * sizeof *m));
    for (size_t i = 0; i < n; i++) {
        ck_assert(m[i].words == words && m[i].dim == dims);
        words += (size_t)vlci_codes_runs(c->rows, VLCI_CODE_ROWS) * (size_t)VLCI_CODE_WORDS(m[i].widths);
        dims += (size_t)VLCI_CODE_DIMS(m[i].widths);
        bytes +=
            (uint64_t)c->texts * (vlci_codes_text_bytes(c->head_dim) + vlci_codes_scale_bytes(c->head_dim));
    }
    ck_assert(words == c->n_words && dims == (size_t)c->dims);
    bytes += words * sizeof(cl_uint) + dims * (dim + sizeof(cl_float));
    if (c->patterns) {
        ck_ok(vlci_read(c->device, c->pattern, 0, pattern, (size_t)c->runs * sizeof *pattern));
        for (int r = 0; r < c->runs; r++) ck_assert(pattern[r] >= 0 && pattern[r] < c->patterns);
        bytes += (uint64_t)c->patterns * dim * VLCI_CODE_RUN_MIN * sizeof(cl_float) +
                 (uint64_t)c->runs * sizeof *pattern;
    }
    free(pattern);
    free(m);
    return bytes;
}

/* A token reads no more of the prompt than 1.15 times the budget's share of it, whatever of it is text, and
 * beside that the rows that were decoded. */
START_TEST(bytes_that_a_token_reads) {
    static const struct {
        double budget;
        bool held, long_text;
    } ways[] = {{0.02, false, false}, {0.03, false, false}, {0.05, false, false}, {0.1, false, false},
                {0.2, false, false},  {0.05, true, false},  {0.02, false, true},  {0.05, false, true},
                {0.09, false, true},  {0.05, true, true}};
    uint64_t *memory = &talk_demo()->device->caps.info.global_memory, whole = *memory;
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache+", ways[_i].budget);
    const vlcache_answer *a = NULL;
    if (ways[_i].held) *memory = 1;
    vlcache_status status =
        talk_ask(session, image, ways[_i].long_text ? long_question() : QUESTION, NULL, 12, &a);
    *memory = whole;
    ck_ok(status);
    const vlci_kv *kv = &session->sequence->kv;
    double share = ways[_i].budget * (double)a->compress.bytes_full, read = (double)addressed(kv->codes);
    ck_assert_msg(read <= 1.15 * share, "%g of the budget's share", read / share);
    ck_assert_double_ge(read, 0.9 * share);
    uint64_t decoded = (uint64_t)(kv->length - a->prompt_tokens);
    ck_assert_uint_eq(bytes_of_rows(kv, 0), a->compress.bytes_full / (uint64_t)a->prompt_tokens * decoded);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Two forks of a coded cache go their own ways over the same codes. */
START_TEST(forks) {
    vlcache_engine *engine = NULL;
    vlcache_sequence *s = NULL, *fork = NULL;
    vlcache_image *image = talk_picture("pages-2.png");
    const vlcache_image *images[] = {image};
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("vlcache+", 0.1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    const vlcache_answer *a = NULL, *b = NULL;
    options.compress = &compress;
    ck_ok(vlcache_engine_create(talk_demo(), NULL, &engine));
    ck_ok(vlcache_engine_add(engine, &options, &s));
    prompt.text = "What is the heading?";
    prompt.images = images;
    prompt.n_images = 1;
    ck_ok(vlcache_sequence_ask(s, &prompt, NULL));
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(s, &a));
    ck_assert_ptr_nonnull(s->kv.codes);
    ck_ok(vlcache_sequence_fork(s, &fork));
    ck_assert_ptr_eq(fork->kv.codes, s->kv.codes);
    prompt = (vlcache_prompt)VLCACHE_PROMPT_INIT;
    prompt.text = QUESTION;
    ck_ok(vlcache_sequence_ask(s, &prompt, NULL));
    ck_ok(vlcache_sequence_ask(fork, &prompt, NULL));
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(s, &a));
    ck_ok(vlcache_sequence_answer(fork, &b));
    talk_same(a, b);
    vlcache_sequence_destroy(&s);
    ck_assert_int_eq(fork->kv.codes->references, 1);
    vlcache_engine_destroy(&engine);
    vlcache_image_destroy(&image);
}
END_TEST

/* Decoded rows follow, block by block: at 8 bits a long answer is that of the full cache, later turns too,
 * and pages never hold more than two blocks of it; a turn that fails leaves all as it was. */
START_TEST(rows_that_age) {
    enum { AGE = 32 };
    vlcache_image *image = talk_picture("../questions/transcribe-0.png");
    vlcache_session *full = talk_open(talk_demo(), "full", 1.0);
    vlcache_session *aging = open_bits("vlcache", _i ? "bits:8/8:32:32" : "bits:8/8:32", 0.9);
    const vlcache_answer *a = NULL, *b = NULL;
    const vlci_kv *kv = &aging->sequence->kv;
    ck_ok(talk_ask(full, image, "Read the page.", NULL, 120, &a));
    ck_ok(talk_ask(aging, image, "Read the page.", NULL, 120, &b));
    talk_same(a, b);
    ck_assert_int_gt(a->n_tokens, 100);
    for (int layer = 0; layer < b->compress.layers; layer++)
        ck_assert(_i ? vlci_kv_most_rows(kv, layer) < 2 * AGE
                     : vlci_kv_most_rows(kv, layer) >= a->n_tokens - 1);
    ck_assert_uint_eq(b->kv_bytes, vlci_kv_bytes(kv));
    ck_assert(_i ? vlci_kv_few_bytes(kv) > b->compress.bytes_kept
                 : vlci_kv_few_bytes(kv) == b->compress.bytes_kept);
    ck_ok(talk_ask(full, NULL, QUESTION, NULL, 40, &a));
    ck_ok(talk_ask(aging, NULL, QUESTION, NULL, 40, &b));
    talk_same(a, b);
    vlcache_session_destroy(&full);
    vlcache_session_destroy(&aging);
    vlcache_image_destroy(&image);
}
END_TEST

static const char *const ways[] = {"coded:pre", "coded:blk:16", "bits:4/2", "coded:blk:64", "bits:8/8"};
enum { WAYS = sizeof ways / sizeof *ways };

static bool hear_way(void *user, size_t way, const vlcache_answer *answer) {
    vlcache_session *alone = open_bits("h2o", ways[way], 0.3);
    const vlcache_answer *own = NULL;
    ck_ok(talk_ask(alone, user, QUESTION, NULL, 8, &own));
    talk_same(own, answer);
    ck_assert_uint_eq(own->compress.bytes_kept, answer->compress.bytes_kept);
    vlcache_session_destroy(&alone);
    return true;
}

/* Several ways to store one prompt, which share what was built for them: each answers as it does alone. */
START_TEST(ways_side_by_side) {
    vlcache_compress_options options[WAYS];
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "full", 1.0);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    for (int i = 0; i < WAYS; i++) {
        options[i] = talk_way("h2o", 0.3);
        ck_ok(vlcache_compress_set(&options[i], "storage", ways[i]));
    }
    prompt.text = QUESTION;
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    generate.max_tokens = 8;
    ck_ok(vlcache_session_compare(session, &prompt, &generate, options, WAYS, hear_way, image));
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* What does not go together is refused when the session is made. */
START_TEST(what_does_not_go_together) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options compress = talk_way("centroids", 0.1);
    vlcache_session *session = NULL;
    ck_ok(vlcache_compress_set(&compress, "storage", "coded"));
    options.compress = &compress;
    ck_fails(vlcache_session_create(talk_demo(), &options, &session), VLCACHE_E_ARGUMENT, "storage coded");
    ck_assert_ptr_null(session);
}
END_TEST

/* ---- the tool ------------------------------------------------------------------------------------------ */

#define ASK_PAGE "--image", DEMO "questions/pages-2.png", "-p", QUESTION

/* As it is where nothing is said, and as somebody says. */
START_TEST(json_of_the_tool) {
    const char *storage = "coded:blk:32";
    json_t *object =
        _i ? ASK_JSON(ASK_PAGE, "-n", "8", "--policy", "vlcache+", "--storage", storage, "--budget", "0.1")
           : ASK_JSON(ASK_PAGE, "-n", "8");
    const json_t *policy = get(object, "policy", JSON_OBJECT);
    ck_assert_str_eq(json_string_value(get(policy, "name", JSON_STRING)), "vlcache+");
    ck_assert_str_eq(json_string_value(get(policy, "storage", JSON_STRING)), _i ? storage : "coded:pre");
    const json_t *bytes = get(object, "kv_bytes", JSON_OBJECT), *coded = get(bytes, "coded", JSON_OBJECT);
    static const char *const parts[] = {"codes", "text", "bases", "means", "tables"};
    int sum = 0, tokens = whole(get(object, "prompt", JSON_OBJECT), "tokens");
    for (size_t i = 0; i < 5; i++) sum += whole(coded, parts[i]);
    ck_assert_int_eq(sum, whole(bytes, "kept"));
    ck_assert_double_gt(json_real_value(get(coded, "bits", JSON_REAL)), 10.0);
    int rows = whole(bytes, "now") - whole(bytes, "page_ends") - whole(bytes, "kept"), row = 2 * 64 * 2 * 24;
    ck_assert_int_gt(whole(bytes, "page_ends"), 0);
    ck_assert(rows > 0 && rows <= 8 * row && rows % row == 0); /* of tokens that were decoded */
    const json_t *layer = json_array_get(get(object, "layers", JSON_ARRAY), 0);
    ck_assert_int_eq(whole(layer, "coded"), tokens);
    json_decref(object);
}
END_TEST

/* The domain of a turn is the library's to choose; what JSON calls it gives the same turn again. */
START_TEST(storage_of_the_tool) {
    static const char *const recall[] = {"none", "host"}, *const resolved[] = {"coded:pre", "coded:blk:16"};
    json_t *first = ASK_JSON(ASK_PAGE, "-n", "8", "--recall", recall[_i]);
    const char *storage = json_string_value(get(get(first, "policy", JSON_OBJECT), "storage", JSON_STRING));
    ck_assert_str_eq(storage, resolved[_i]);
    json_t *again = ASK_JSON(ASK_PAGE, "-n", "8", "--recall", recall[_i], "--storage", storage);
    const json_t *bytes = get(first, "kv_bytes", JSON_OBJECT), *same = get(again, "kv_bytes", JSON_OBJECT);
    ck_assert_int_eq(whole(same, "kept"), whole(bytes, "kept"));
    ck_assert(json_equal(json_object_get(first, "policy"), json_object_get(again, "policy")));
    ck_assert(json_equal(json_object_get(first, "tokens"), json_object_get(again, "tokens")));
    json_decref(first);
    json_decref(again);
    first = ASK_JSON(ASK_PAGE, "-n", "2", "--policy", "vlcache+", "--budget", "1"); /* codes nothing */
    ck_assert_str_eq(json_string_value(get(get(first, "policy", JSON_OBJECT), "storage", JSON_STRING)),
                     "coded");
    json_decref(first);
}
END_TEST

/* Axes have flags of their own, in any order with the policy; one alone means that the cache is compressed,
 * with a text model too. */
START_TEST(axes_of_the_tool) {
    process p;
    json_t *object =
        ASK_JSON(ASK_PAGE, "-n", "4", "--candidates", "visual", "--budget", "0.1", "--policy", "h2o");
    const json_t *prompt = get(object, "prompt", JSON_OBJECT);
    const json_t *layer = json_array_get(get(object, "layers", JSON_ARRAY), 0);
    int visual = whole(prompt, "visual"), text = whole(prompt, "tokens") - visual;
    ck_assert_int_eq(json_integer_value(json_array_get(get(layer, "kept", JSON_ARRAY), 0)),
                     text + (int)(0.1 * visual + 0.5));
    json_decref(object);
    object = ASK_JSON("-m", VLCACHE_TEST_DATA "/text/qwen2-yarn", "-p", "One two three four five six seven.",
                      "-n", "2", "--storage", "bits:4/2");
    ck_assert_str_eq(json_string_value(get(get(object, "policy", JSON_OBJECT), "name", JSON_STRING)),
                     "centroids");
    json_decref(object);
    object = ASK_JSON(ASK_PAGE, "-n", "4", "--policy", "vlcache+@selection=per-prompt:.5", "--budget", "0.1");
    layer = json_array_get(get(object, "layers", JSON_ARRAY), 0);
    ck_assert_int_lt(json_integer_value(json_array_get(get(layer, "kept", JSON_ARRAY), 0)),
                     (visual + text) / 2 + VLCI_CODE_RUN_MIN);
    json_decref(object);
    process_run(&p, (const char *const[]){TOOL, ASK_PAGE, "--candidates", "both", NULL}, "", 0);
    expect(&p, 1, "--candidates \"both\": must be all, visual or text");
    process_release(&p);
    process_run(&p, (const char *const[]){TOOL, ASK_PAGE, "--candidates", "text", "--storage", "coded", NULL},
                "", 0);
    expect(&p, 1, "must be all where rows are stored in few bits");
    process_release(&p);
    process_run(&p, (const char *const[]){TOOL, ASK_PAGE, "-n", "2", "--candidates", "text", NULL}, "", 0);
    expect(&p, 0, "--policy vlcache+ is centroids here: compress: candidates: is \"text\"");
    process_release(&p);
}
END_TEST

int main(void) {
    tool_environment();
    Suite *suite = suite_create("storage");
    TCase *all = tcase_create("storage");
    talk_models(all);
    tcase_add_loop_test(all, as_the_full_cache, 0, 5);
    tcase_add_loop_test(all, bytes_that_are_held, 0, 3);
    tcase_add_loop_test(all, one_accountant, 0, 6);
    tcase_add_loop_test(all, layer_by_layer, 0, 5);
    tcase_add_test(all, all_rows_layer_by_layer);
    tcase_add_loop_test(all, bits_as_the_full_cache, 0, 4);
    tcase_add_loop_test(all, bits_within_their_budget, 0, 6);
    tcase_add_test(all, later_turns);
    tcase_add_loop_test(all, rows_that_all_heads_vote_for, 0, 6);
    tcase_add_loop_test(all, text_that_is_too_much, 0, 6);
    tcase_add_loop_test(all, bytes_that_a_token_reads, 0, 10);
    tcase_add_test(all, forks);
    tcase_add_loop_test(all, rows_that_age, 0, 2);
    tcase_add_test(all, ways_side_by_side);
    tcase_add_test(all, what_does_not_go_together);
    tcase_add_loop_test(all, json_of_the_tool, 0, 2);
    tcase_add_loop_test(all, storage_of_the_tool, 0, 2);
    tcase_add_test(all, axes_of_the_tool);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
