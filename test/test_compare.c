/*
 * test_compare.c - one prompt, read once, answered with each of several ways to compress its cache: what
 * asking gives, no trace in the conversation, and probes of decode.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "session/session.h"
#include "support/suite.h"
#include "support/talk.h"

enum { MOST_VARIANTS = 16 };

/* What a comparison said of each variant, to hold against asking. */
typedef struct variants {
    vlcache_session *session;
    const vlcache_compress_options *options;
    int heard, stop_after;
    int n_tokens[MOST_VARIANTS];
    int32_t tokens[MOST_VARIANTS][64], kept[MOST_VARIANTS][1024];
    size_t n_kept[MOST_VARIANTS];
    uint64_t bytes_kept[MOST_VARIANTS], kv_bytes[MOST_VARIANTS];
    double budget_kept[MOST_VARIANTS], sparsity[MOST_VARIANTS];
} variants;

static bool hear(void *user, size_t variant, const vlcache_answer *a) {
    variants *v = user;
    vlcache_compress_layer layer;
    ck_assert_uint_eq(variant, (size_t)v->heard);
    v->n_tokens[variant] = a->n_tokens;
    memcpy(v->tokens[variant], a->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    v->bytes_kept[variant] = a->compress.bytes_kept;
    v->budget_kept[variant] = a->compress.budget_kept;
    v->kv_bytes[variant] = a->kv_bytes;
    ck_ok(vlcache_session_layer(v->session, 3, &layer));
    v->sparsity[variant] = layer.sparsity;
    ck_ok(vlcache_session_kept(v->session, 3, 1, v->kept[variant], 1024, &v->n_kept[variant]));
    ck_assert_int_eq(layer.kept, (int)v->n_kept[variant]);
    return ++v->heard != v->stop_after;
}

static vlcache_status compare(variants *v, size_t n, const vlcache_image *image, const char *text) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = text;
    prompt.images = &image;
    prompt.n_images = image != NULL;
    generate.max_tokens = 64;
    v->heard = 0;
    return vlcache_session_compare(v->session, &prompt, &generate, v->options, n, hear, v);
}

/* The same turn asked of a session of its own. */
static void check_variant(const variants *v, size_t i, const vlcache_image *image, const char *text) {
    vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
    vlcache_session *session = NULL;
    const vlcache_answer *a = NULL;
    int32_t kept[1024];
    size_t n = 0;
    options.compress = &v->options[i];
    ck_ok(vlcache_session_create(talk_demo(), &options, &session));
    ck_ok(talk_ask(session, image, text, NULL, 64, &a));
    ck_assert_int_eq(a->n_tokens, v->n_tokens[i]);
    ck_assert_mem_eq(a->tokens, v->tokens[i], (size_t)a->n_tokens * sizeof *a->tokens);
    ck_assert_uint_eq(a->compress.bytes_kept, v->bytes_kept[i]);
    if (a->compressed) ck_assert_uint_eq(a->kv_bytes, v->kv_bytes[i]);
    ck_ok(vlcache_session_kept(session, 3, 1, kept, 1024, &n));
    ck_assert_uint_eq(n, v->n_kept[i]);
    ck_assert_mem_eq(kept, v->kept[i], n * sizeof *kept);
    vlcache_session_destroy(&session);
}

START_TEST(comparing_is_asking) {
    static const char *const images[] = {"pages-2.png", "captions-0.png"};
    static const char *const texts[] = {"What is the Due date?", "Describe the image."};
    vlcache_compress_options o[MOST_VARIANTS];
    size_t n = 0;
    for (const char *name; (name = vlcache_policy_name(n)) && n < MOST_VARIANTS - 6; n++)
        o[n] = talk_way(name, 0.10);
    o[n] = talk_way("vlcache", 0.05);
    o[n].selection = VLCACHE_SELECTION_PER_LAYER;
    talk_grid(&o[n++], 1, 5);
    o[n] = talk_way("h2o", 0.2);
    o[n].allocation = VLCACHE_ALLOCATION_MIXED;
    o[n++].uniform = 0.5;
    o[n] = talk_way("vlcache", 0.05);
    talk_grid(&o[n], 1, 5);
    o[n].defer = 4;
    talk_summary(&o[n++], VLCACHE_SUMMARY_KMEANS, 0.25);
    o[n] = talk_way("h2o", 0.1);
    o[n].defer_weight = 1.0;
    o[n++].defer = 60; /* longer than the answer: compressed at its end */
    o[n] = talk_way("streamingllm", 0.1);
    o[n].iterations = 1;
    talk_summary(&o[n++], VLCACHE_SUMMARY_SPREAD, 0.5);
    o[n++] = talk_way("full", 1.0);
    vlcache_image *image = talk_picture(images[_i]);
    variants v = {.session = talk_open(talk_demo(), "vlcache", 0.10), .options = o};
    uint64_t before = vlci_memory_now(suite_device());
    ck_ok(compare(&v, n, image, texts[_i]));
    ck_assert_int_eq(v.heard, (int)n);
    ck_assert_uint_le(vlci_memory_now(suite_device()), before + (64u << 20));
    for (size_t i = 0; i < n; i++) check_variant(&v, i, image, texts[_i]);
    vlcache_session_destroy(&v.session);
    vlcache_image_destroy(&image);
}
END_TEST

/* Every policy at budget 1 gives the full cache's tokens. */
START_TEST(all_is_full) {
    vlcache_compress_options o[MOST_VARIANTS];
    size_t n = 0;
    for (const char *name; (name = vlcache_policy_name(n)); n++) o[n] = talk_way(name, 1.0);
    o[n] = talk_way("vlcache", 1.0);
    o[n].defer = 3;
    talk_grid(&o[n], 3, 3);
    talk_summary(&o[n++], VLCACHE_SUMMARY_KMEANS, 0.5);
    vlcache_image *image = talk_picture("captions-0.png");
    variants v = {.session = talk_open(talk_demo(), "vlcache", 0.10), .options = o};
    ck_ok(compare(&v, n, image, "Describe the image."));
    for (size_t i = 1; i < n; i++) {
        ck_assert_int_eq(v.n_tokens[i], v.n_tokens[0]);
        ck_assert_mem_eq(v.tokens[i], v.tokens[0], (size_t)v.n_tokens[0] * sizeof v.tokens[0][0]);
        ck_assert(v.budget_kept[i] == 1.0);
    }
    vlcache_session_destroy(&v.session);
    vlcache_image_destroy(&image);
}
END_TEST

/* A comparison in the middle of a conversation leaves it as it was, in cache and answers. */
START_TEST(comparing_leaves_no_trace) {
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("vlcache", 0.3), talk_way("h2o", 0.1)};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *plain = talk_open(talk_demo(), "vlcache", 0.5);
    variants v = {.session = talk_open(talk_demo(), "vlcache", 0.5), .options = o};
    const vlcache_answer *a = NULL, *b = NULL;
    vlcache_compress_layer layer;
    ck_ok(talk_ask(plain, image, "What is the Due date?", NULL, 64, &a));
    ck_ok(talk_ask(v.session, image, "What is the Due date?", NULL, 64, &b));
    ck_ok(compare(&v, 3, image, "What is the heading?"));
    ck_fails(vlcache_session_layer(v.session, 0, &layer), VLCACHE_E_ARGUMENT, "no turn");
    v.stop_after = 2;
    ck_fails(compare(&v, 3, image, "What is the heading?"), VLCACHE_E_CANCELLED, "variant 1");
    ck_assert_int_eq(v.heard, 2);
    ck_fails(compare(&v, 3, image, NULL), VLCACHE_E_ARGUMENT, "text: is NULL");
    o[1].pooling = (vlcache_pooling)99;
    ck_fails(compare(&v, 3, image, "What is the heading?"), VLCACHE_E_ARGUMENT, "variant 1");
    ck_assert_str_eq(vlcache_last_error()->field, "compress.pooling");
    ck_ok(talk_ask(plain, NULL, "What is the heading?", NULL, 64, &a));
    ck_ok(talk_ask(v.session, NULL, "What is the heading?", NULL, 64, &b));
    ck_assert_int_eq(a->context_tokens, b->context_tokens);
    talk_same(a, b);
    vlcache_session_destroy(&plain);
    vlcache_session_destroy(&v.session);
    vlcache_image_destroy(&image);
}
END_TEST

/* ---- answers that are told ---------------------------------------------------------------------------- */

typedef struct heard {
    int32_t tokens[64];
    float losses[64];
    int n;
} heard;

static bool hear_tokens(void *user, size_t variant, const vlcache_answer *a) {
    heard *h = (heard *)user + variant;
    ck_assert_int_le(a->n_tokens, 64);
    h->n = a->n_tokens;
    memcpy(h->tokens, a->tokens, (size_t)a->n_tokens * sizeof *h->tokens);
    if (a->losses) memcpy(h->losses, a->losses, (size_t)a->n_tokens * sizeof *h->losses);
    ck_assert(!a->losses == (h[0].losses[0] < 0.0f));
    return true;
}

/* The full cache's own answer, told again, is its likeliest in every way to keep all of it; another answer is
 * not, and one that a small cache is told is less likely to it. Wrong ones are refused by field. */
START_TEST(told_answers_are_measured) {
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("h2o", 1.0), talk_way("h2o", 0.02)};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    heard free_ones[3] = {{.losses = {-1}}, {.losses = {-1}}, {.losses = {-1}}}, told[3] = {{{0}, {0}, 0}};
    prompt.text = "What is the Due date?";
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    generate.max_tokens = 64;
    ck_ok(vlcache_session_compare(session, &prompt, &generate, o, 3, hear_tokens, free_ones));
    generate.told = free_ones[0].tokens;
    generate.n_told = (size_t)free_ones[0].n;
    ck_ok(vlcache_session_compare(session, &prompt, &generate, o, 3, hear_tokens, told));
    double sum[3] = {0};
    for (int v = 0; v < 3; v++) {
        ck_assert_int_eq(told[v].n, free_ones[0].n);
        ck_assert_mem_eq(told[v].tokens, free_ones[0].tokens, (size_t)told[v].n * sizeof(int32_t));
        for (int i = 0; i < told[v].n; i++) sum[v] += (double)told[v].losses[i];
        for (int i = 0; i < told[v].n && v < 2; i++) /* the largest of all has at least its share */
            ck_assert(told[v].losses[i] >= 0.0f && told[v].losses[i] < 0.7f);
    }
    ck_assert_double_eq_tol(sum[0], sum[1], 1e-4);
    ck_assert_double_gt(sum[2], sum[0] + 0.1);
    generate.n_told = 0;
    ck_fails(vlcache_session_compare(session, &prompt, &generate, o, 1, NULL, NULL), VLCACHE_E_ARGUMENT,
             "generate: n_told");
    const int32_t beyond[] = {1 << 30};
    generate.told = beyond;
    generate.n_told = 1;
    ck_fails(vlcache_session_compare(session, &prompt, &generate, o, 1, NULL, NULL), VLCACHE_E_ARGUMENT,
             "generate: told[0]");
    generate.probe = true;
    ck_fails(vlcache_session_compare(session, &prompt, &generate, o, 1, NULL, NULL), VLCACHE_E_ARGUMENT,
             "generate: probe");
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

/* A layer too many or too few among shares is told before anything runs. */
START_TEST(shares_fit_the_model) {
    vlcache_compress_options o = talk_way("h2o", 0.1);
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    prompt.text = "x";
    ck_ok(vlcache_compress_set(&o, "allocation", "layers:1,1,1"));
    ck_fails(vlcache_session_compare(session, &prompt, NULL, &o, 1, NULL, NULL), VLCACHE_E_ARGUMENT,
             "must be 12, a share for each layer");
    vlcache_session_destroy(&session);
}
END_TEST

/* ---- probes -------------------------------------------------------------------------------------------- */

static bool hear_probe(void *user, size_t variant, const vlcache_answer *a) {
    vlcache_session *session = user;
    vlcache_probe_layer first, p;
    double hits[2] = {0, 0};
    ck_ok(vlcache_session_probe(session, 0, &first));
    for (int layer = 0; layer < a->compress.layers; layer++) {
        ck_ok(vlcache_session_probe(session, layer, &p));
        ck_assert_int_eq(p.steps, first.steps);
        ck_assert(p.sparsity > 0.0 && p.sparsity < 1.0);
        ck_assert(p.hit_first >= 0.0 && p.hit_first <= 1.0 + 1e-9);
        ck_assert(p.hit_all >= 0.0 && p.hit_all <= 1.0 + 1e-9);
        hits[0] += p.hit_first / a->compress.layers;
        hits[1] += p.hit_all / a->compress.layers;
    }
    ck_fails(vlcache_session_probe(session, a->compress.layers, &p), VLCACHE_E_ARGUMENT, "layer");
    if (variant < 2) /* both keep everything */
        ck_assert(fabs(hits[0] - 1.0) < 1e-9 && fabs(hits[1] - 1.0) < 1e-9);
    else
        ck_assert(hits[0] > 0.2 && hits[0] < 1.0 && hits[1] > 0.2 && hits[1] < 1.0);
    if (variant == 0) ck_assert_int_eq(p.steps, a->n_tokens); /* the end token is not run */
    return true;
}

/* A higher threshold calls more insignificant; everything kept is everything hit; answers do not change. */
START_TEST(probes) {
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("h2o", 1.0), talk_way("vlcache", 0.1),
                                    talk_way("snapkv", 0.1)};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_session *session = talk_open(talk_demo(), "vlcache", 0.1);
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    uint64_t before = vlci_memory_now(suite_device());
    vlcache_probe_layer p;
    prompt.text = "What is the Due date?";
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    generate.max_tokens = 64;
    generate.probe = true;
    ck_ok(vlcache_session_compare(session, &prompt, &generate, o, 4, hear_probe, session));
    ck_fails(vlcache_session_probe(session, 0, &p), VLCACHE_E_ARGUMENT, "no turn");
    vlcache_session_destroy(&session);
    session = talk_open(talk_demo(), "vlcache", 0.1);
    ck_assert_uint_le(vlci_memory_now(suite_device()), before);
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(session, image, "What is the Due date?", NULL, 4, &a));
    ck_fails(vlcache_session_probe(session, 0, &p), VLCACHE_E_ARGUMENT, "no probe");
    vlcache_session_destroy(&session);
    vlcache_image_destroy(&image);
}
END_TEST

typedef struct later_turns {
    vlcache_session *session;
    int steps[3]; /* of the full cache's answers */
} later_turns;

static bool hear_later(void *user, size_t variant, const vlcache_answer *a) {
    const later_turns *t = user;
    vlcache_probe_layer first, p;
    double hits = 0.0;
    ck_ok(vlcache_session_probe(t->session, 3, &first));
    ck_ok(vlcache_session_probe_turn(t->session, 3, 0, &p));
    ck_assert(p.steps == first.steps && p.hit_all == first.hit_all && p.sparsity == first.sparsity);
    for (size_t turn = 0; turn < 3; turn++) {
        for (int layer = 0; layer < a->compress.layers; layer++) {
            ck_ok(vlcache_session_probe_turn(t->session, layer, turn, &p));
            ck_assert_int_eq(p.steps, t->steps[turn]);
            ck_assert(isnan(p.sparsity) == (turn > 0));
            if (turn) hits += p.hit_all / a->compress.layers / 2;
        }
    }
    if (variant == 0)
        ck_assert_double_eq_tol(hits, 1.0, 1e-9);
    else
        ck_assert(hits > 0.1 && hits < 0.9);
    ck_fails(vlcache_session_probe_turn(t->session, 0, 3, &p), VLCACHE_E_ARGUMENT, "must be below 3");
    return true;
}

/* Turns that follow are those of a talk with the full cache, and leave no trace. */
START_TEST(probes_of_later_turns) {
    static const char *const questions[] = {"What is the Due date?", "What is the heading?",
                                            "What is the Total?"};
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("vlcache", 0.1)};
    vlcache_image *image = talk_picture("pages-2.png");
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT, next[2] = {VLCACHE_PROMPT_INIT, VLCACHE_PROMPT_INIT};
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    later_turns t = {.session = talk_open(talk_demo(), "full", 1.0)};
    const vlcache_answer *a = NULL;
    for (int i = 0; i < 3; i++) {
        ck_ok(talk_ask(t.session, i ? NULL : image, questions[i], NULL, 64, &a));
        t.steps[i] = a->n_tokens;
    }
    vlcache_session_clear(t.session);
    prompt.text = questions[0];
    prompt.images = (const vlcache_image *const *)&image;
    prompt.n_images = 1;
    for (int i = 0; i < 2; i++) next[i].text = questions[1 + i];
    generate.max_tokens = 64;
    generate.later = next;
    generate.n_later = 2;
    ck_fails(vlcache_session_compare(t.session, &prompt, &generate, o, 2, hear_later, &t), VLCACHE_E_ARGUMENT,
             "generate: n_later");
    generate.probe = true;
    ck_ok(vlcache_session_compare(t.session, &prompt, &generate, o, 2, hear_later, &t));
    uint64_t before = vlci_memory_now(suite_device());
    ck_ok(vlcache_session_compare(t.session, &prompt, &generate, o, 2, hear_later, &t));
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
    next[1].n_images = 1;
    ck_fails(vlcache_session_compare(t.session, &prompt, &generate, o, 2, hear_later, &t), VLCACHE_E_ARGUMENT,
             "later turn 1");
    ck_ok(talk_ask(t.session, image, questions[0], NULL, 64, &a));
    ck_assert_int_eq(a->n_tokens, t.steps[0]);
    vlcache_session_destroy(&t.session);
    vlcache_image_destroy(&image);
}
END_TEST

/* A second turn with a picture is compared as it would be asked. */
START_TEST(comparing_a_later_turn) {
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("vlcache", 0.5)};
    vlcache_image *image = talk_picture("pages-2.png"), *other = talk_picture("pages-0.png");
    variants v = {.session = talk_open(talk_demo(), "vlcache", 0.5), .options = o};
    const vlcache_answer *a = NULL;
    ck_ok(talk_ask(v.session, image, "What is the Due date?", NULL, 64, &a));
    ck_ok(compare(&v, 2, other, "What is the heading?"));
    ck_ok(talk_ask(v.session, other, "What is the heading?", NULL, 64, &a));
    ck_assert_int_eq(a->n_tokens, v.n_tokens[1]);
    ck_assert_mem_eq(a->tokens, v.tokens[1], (size_t)a->n_tokens * sizeof *a->tokens);
    ck_assert_uint_eq(a->kv_bytes, v.kv_bytes[1]);
    ck_fails(compare(&v, 0, image, "x"), VLCACHE_E_ARGUMENT, "none");
    vlcache_session_destroy(&v.session);
    vlcache_image_destroy(&image);
    vlcache_image_destroy(&other);
}
END_TEST

/* Logits that are no numbers end a turn by name, asked and compared; the session goes on when they are again.
 */
START_TEST(answers_of_no_numbers) {
    vlcache_compress_options o[] = {talk_way("full", 1.0), talk_way("vlcache", 0.5)};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_session *session = talk_open(talk_demo(), "full", 1.0);
    variants v = {.session = session, .options = o};
    const vlcache_answer *a = NULL;
    cl_mem norm = talk_demo()->final_norm.weight;
    size_t n = (size_t)talk_demo()->config.text.hidden;
    float *kept = malloc(n * sizeof *kept);
    generate.probe = true;
    prompt.text = "What?";
    suite_download(norm, kept, n * sizeof *kept);
    ck_ok(vlci_fill(suite_device(), norm, 0, n * sizeof *kept, 0xffffffffu));
    ck_fails(talk_ask(session, NULL, "What?", NULL, 8, &a), VLCACHE_E_UNSUPPORTED, "logits are not numbers");
    ck_fails(vlcache_session_compare(session, &prompt, &generate, o, 2, hear, &v), VLCACHE_E_UNSUPPORTED,
             "dtype f32 has room");
    ck_ok(vlci_write(suite_device(), norm, 0, kept, n * sizeof *kept));
    ck_ok(talk_ask(session, NULL, "What?", NULL, 8, &a));
    vlcache_session_destroy(&session);
    free(kept);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compare");
    TCase *all = tcase_create("compare");
    talk_models(all);
    tcase_add_loop_test(all, comparing_is_asking, 0, 2);
    tcase_add_test(all, all_is_full);
    tcase_add_test(all, comparing_leaves_no_trace);
    tcase_add_test(all, comparing_a_later_turn);
    tcase_add_test(all, told_answers_are_measured);
    tcase_add_test(all, shares_fit_the_model);
    tcase_add_test(all, probes);
    tcase_add_test(all, probes_of_later_turns);
    tcase_add_test(all, answers_of_no_numbers);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
