/*
 * test_candidates.c - rows of one kind may go, the others stay: all of those are kept, as many of the
 * candidates as the budget says, and the same ones that would be chosen among all.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "support/talk.h"
#include "vlcache/session.h"

#define BUDGET 0.3

static const struct {
    const char *policy, *axis, *text;
} ways[] = {{"vlcache", NULL, NULL},
            {"h2o", NULL, NULL},
            {"snapkv", NULL, NULL},
            {"pyramidkv", NULL, NULL},
            {"vlcache", "selection", "per-layer"},
            {"h2o", "selection", "adaptive"},
            {"vlcache", "pooling", "grid:3x3"},
            {"vlcache", "defer", "3"},
            {"centroids", NULL, NULL}};
enum { WAYS = sizeof ways / sizeof *ways };

/* What a turn kept: of each head one bit a row. */
typedef struct kept_rows {
    int layers, kv_heads, tokens;
    bool *visual;                  /* [tokens] */
    bool *kept;                    /* [layers][kv_heads][tokens] */
    vlcache_compress_layer *layer; /* [layers] */
    vlcache_compress_stats stats;
} kept_rows;

static bool *kept_of(const kept_rows *k, int layer, int head) {
    return k->kept + ((size_t)layer * (size_t)k->kv_heads + (size_t)head) * (size_t)k->tokens;
}

static void read_head(vlcache_session *session, const kept_rows *k, int layer, int head) {
    int32_t *positions = malloc((size_t)k->tokens * sizeof *positions);
    size_t n = 0;
    ck_ok(vlcache_session_kept(session, layer, head, positions, (size_t)k->tokens, &n));
    ck_assert_uint_le(n, (size_t)k->tokens);
    for (size_t i = 0; i < n; i++) {
        ck_assert(!i || positions[i] > positions[i - 1]);
        kept_of(k, layer, head)[positions[i]] = true;
    }
    free(positions);
}

static kept_rows read_kept(vlcache_session *session, const vlcache_answer *a) {
    kept_rows k = {a->compress.layers, a->compress.kv_heads, a->compress.tokens, .stats = a->compress};
    size_t layers = (size_t)k.layers, tokens = (size_t)k.tokens;
    k.visual = calloc(tokens, sizeof *k.visual);
    k.kept = calloc(layers * (size_t)k.kv_heads * tokens, sizeof *k.kept);
    k.layer = calloc(layers, sizeof *k.layer);
    for (int i = 0; i < a->visual_tokens; i++) {
        vlcache_visual_token t;
        ck_ok(vlcache_session_visual(session, i, &t));
        k.visual[t.position] = true;
    }
    for (int l = 0; l < k.layers; l++) {
        ck_ok(vlcache_session_layer(session, l, &k.layer[l]));
        for (int h = 0; h < k.kv_heads; h++) read_head(session, &k, l, h);
    }
    return k;
}

static void release_kept(kept_rows *k) {
    free(k->visual);
    free(k->kept);
    free(k->layer);
}

/* A way of the table, with these candidates, no more recent row than the least. */
static vlcache_compress_options way(int index, double budget, const char *candidates) {
    vlcache_compress_options o = talk_way(ways[index].policy, budget);
    if (ways[index].axis) ck_ok(vlcache_compress_set(&o, ways[index].axis, ways[index].text));
    ck_ok(vlcache_compress_set(&o, "candidates", candidates));
    o.recent = 0.0;
    return o;
}

static vlcache_session *open_way(const vlcache_compress_options *o) {
    vlcache_session *session = NULL;
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    options.compress = o;
    ck_ok(vlcache_session_create(talk_tiny(), &options, &session));
    return session;
}

static kept_rows kept_by(const vlcache_compress_options *o) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = open_way(o);
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, "What is the third word of the heading on this page?", NULL, 6, &a));
    ck_assert(a->compressed && a->visual_tokens >= 16 && a->prompt_tokens - a->visual_tokens >= 16);
    kept_rows k = read_kept(session, a);
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
    return k;
}

/* ---- what stays ---------------------------------------------------------------------------------------- */

static int count(const bool *kept, const bool *visual, bool of_visual, int n) {
    int found = 0;
    for (int j = 0; j < n; j++) found += kept[j] && visual[j] == of_visual;
    return found;
}

/* All rows of the other kind; of this one as many as the layer's budget says. */
static void check_counts(const kept_rows *k, bool visual, bool adaptive) {
    int candidates = 0;
    for (int j = 0; j < k->tokens; j++) candidates += k->visual[j] == visual;
    uint64_t rows = 0;
    for (int l = 0; l < k->layers; l++) {
        const vlcache_compress_layer *at = &k->layer[l];
        int n = (int)fmax(1.0, floor(at->budget * candidates + 0.5)) - at->centroids, sum = 0;
        ck_assert_int_eq(at->kept, n + k->tokens - candidates);
        for (int h = 0; h < k->kv_heads; h++) {
            const bool *kept = kept_of(k, l, h);
            int own = count(kept, k->visual, visual, k->tokens);
            ck_assert_int_eq(count(kept, k->visual, !visual, k->tokens), k->tokens - candidates);
            ck_assert_msg(adaptive || own == n, "layer %d, head %d: %d candidates, want %d", l, h, own, n);
            sum += own;
            rows += (uint64_t)(own + k->tokens - candidates + at->centroids);
        }
        ck_assert_int_eq(sum, n * k->kv_heads);
    }
    uint64_t row = k->stats.bytes_full / ((uint64_t)k->layers * (uint64_t)k->kv_heads * (uint64_t)k->tokens);
    ck_assert_uint_ge(k->stats.bytes_kept, rows * row); /* biases beside centroids */
    ck_assert(k->layer[0].centroids || k->stats.bytes_kept == rows * row);
}

/* Of one order of the candidates both took the first: the fewer are among the more. */
static void check_nested(const kept_rows *a, const kept_rows *b, bool visual) {
    int fewer = 0;
    ck_assert_int_eq(a->tokens, b->tokens);
    for (int l = 0; l < a->layers; l++)
        for (int h = 0; h < a->kv_heads; h++) {
            const bool *one = kept_of(a, l, h), *two = kept_of(b, l, h);
            int only_one = 0, only_two = 0;
            for (int j = 0; j < a->tokens; j++) {
                if (a->visual[j] != visual) continue;
                only_one += one[j] && !two[j];
                only_two += two[j] && !one[j];
            }
            ck_assert_msg(!only_one || !only_two, "layer %d, head %d: %d and %d rows of their own", l, h,
                          only_one, only_two);
            fewer += only_one + only_two > 0;
        }
    ck_assert(fewer); /* else both budgets were the same, and nothing was seen */
}

START_TEST(others_stay) {
    vlcache_compress_options all = way(_i, BUDGET, "all");
    kept_rows among_all = kept_by(&all);
    for (int visual = 0; visual < 2; visual++) {
        vlcache_compress_options o = way(_i, visual ? 0.2 : 0.5, visual ? "visual" : "text");
        kept_rows k = kept_by(&o);
        check_counts(&k, visual, o.selection == VLCACHE_SELECTION_ADAPTIVE);
        check_nested(&k, &among_all, visual);
        release_kept(&k);
    }
    release_kept(&among_all);
}
END_TEST

/* Recent rows that are no candidates, and sinks, take no candidate's place. */
START_TEST(recent_rows_are_among_them) {
    vlcache_compress_options o = way(0, 0.2, "visual");
    o.recent = 1.0;
    o.sinks = 3;
    kept_rows k = kept_by(&o);
    check_counts(&k, true, false);
    release_kept(&k);
    o = way(0, 0.2, "text");
    o.recent = 0.5;
    k = kept_by(&o);
    check_counts(&k, false, false);
    release_kept(&k);
}
END_TEST

/* A budget of 1 is the full cache, whoever may go. */
START_TEST(all_is_all) {
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *full = talk_open(talk_tiny(), "full", 1.0);
    const vlcache_answer *a = NULL, *b = NULL;
    ck_ok(talk_ask(full, image, "What?", NULL, 12, &a));
    for (int visual = 0; visual < 2; visual++) {
        vlcache_compress_options o = way(0, 1.0, visual ? "visual" : "text");
        vlcache_session *session = open_way(&o);
        ck_ok(talk_ask(session, image, "What?", NULL, 12, &b));
        ck_assert_int_eq(a->n_tokens, b->n_tokens);
        ck_assert(!memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens));
        ck_assert(b->compress.bytes_kept == b->compress.bytes_full);
        vlcache_session_destroy(&session);
    }
    vlcache_session_destroy(&full);
    vlcache_image_destroy(&image);
}
END_TEST

/* Of a later turn, with recall, all of the conversation's text stays; without, what earlier turns left. */
START_TEST(later_turns) {
    vlcache_image *image = talk_picture("pages-2.png");
    for (int recall = 0; recall < 2; recall++) {
        vlcache_compress_options o = way(0, 0.2, "visual");
        vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
        vlcache_session *session = NULL;
        const vlcache_answer *a = NULL;
        options.compress = &o;
        options.recall = recall ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
        ck_ok(vlcache_session_create(talk_tiny(), &options, &session));
        ck_ok(talk_ask(session, image, "What?", NULL, 5, &a));
        int visual = a->visual_tokens, spared = a->prompt_tokens - visual + a->n_tokens;
        ck_ok(talk_ask(session, NULL, "And the second word?", NULL, 5, &a));
        ck_assert(!a->visual_tokens && a->compressed == (recall == 1));
        if (recall) {
            vlcache_compress_layer layer;
            ck_ok(vlcache_session_layer(session, 0, &layer));
            ck_assert_int_ge(layer.kept, spared + a->prompt_tokens + (int)(layer.budget * visual));
            ck_assert_int_lt(layer.kept, a->compress.tokens);
        }
        vlcache_session_destroy(&session);
    }
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------ */

START_TEST(refusals) {
    static const struct {
        const char *policy, *axis, *text, *said;
    } bad[] = {{"streamingllm", NULL, NULL, "candidates: is \"text\", must be all with scoring sink+recent"},
               {"vlcache+", "storage", "coded",
                "candidates: is \"text\", must be all where rows are stored in few bits"},
               {"snapkv", "storage", "bits:4/2", "must be all where rows are stored in few bits"},
               {"full", NULL, NULL, "keeps everything"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vlcache_compress_options o = talk_way(bad[i].policy, 0.2);
        if (bad[i].axis) ck_ok(vlcache_compress_set(&o, bad[i].axis, bad[i].text));
        ck_ok(vlcache_compress_set(&o, "candidates", "text"));
        ck_fails(vlcache_compress_check(&o), VLCACHE_E_ARGUMENT, bad[i].said);
    }
}
END_TEST

START_TEST(refused_by_models) {
    static const char *const folders[] = {"/text/qwen3", "/models/mllama-v5"};
    char path[512];
    vlcache_model *model = NULL;
    vlcache_session *session = NULL;
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_compress_options o = way(0, 0.2, "visual");
    options.compress = &o;
    snprintf(path, sizeof path, "%s%s", VLCACHE_TEST_DATA, folders[_i]);
    ck_ok(vlcache_model_load(suite_device(), path, NULL, &model));
    ck_fails(vlcache_session_create(model, &options, &session), VLCACHE_E_UNSUPPORTED,
             "candidates: must be all with");
    ck_assert_ptr_null(session);
    vlcache_model_destroy(&model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("candidates");
    TCase *all = tcase_create("candidates");
    talk_models(all);
    tcase_add_loop_test(all, others_stay, 0, WAYS);
    tcase_add_test(all, recent_rows_are_among_them);
    tcase_add_test(all, all_is_all);
    tcase_add_test(all, later_turns);
    tcase_add_test(all, refusals);
    tcase_add_loop_test(all, refused_by_models, 0, 2);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
