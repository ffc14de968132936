/*
 * test_step.c - a decoded token costs launches and nothing else: no memory, no questions to the driver or the
 * environment, no argument that has not changed.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "support/calls.h"
#include "support/suite.h"
#include "support/talk.h"

enum { WARM = 4, COUNTED = 8, MOST_SET = 60 /* arguments of a layer */ };

static vlcache_sequence *add(vlcache_engine *engine, const char *policy, const vlcache_image *image) {
    vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlcache_generate_options how = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_sequence *s = NULL;
    compress.policy = policy;
    options.compress = &compress;
    how.max_tokens = 64;
    prompt.text = "Describe the image in full.";
    prompt.images = &image;
    prompt.n_images = 1;
    ck_ok(vlcache_engine_add(engine, &options, &s));
    ck_ok(vlcache_sequence_ask(s, &prompt, &how));
    return s;
}

/* Steps until every sequence has a few tokens and none will grow, or be compressed, for a while. */
static void warm_up(vlcache_engine *engine, vlcache_sequence *const *s, int n) {
    int busy, least = 0;
    while (least < WARM + 4) {
        ck_ok(vlcache_engine_step(engine, &busy));
        ck_assert_int_eq(busy, n);
        least = s[0]->reply.n;
        for (int i = 1; i < n; i++)
            if (s[i]->reply.n < least) least = s[i]->reply.n;
    }
    for (int i = 0; i < n; i++) ck_ok(vlci_kv_reserve(&s[i]->kv, 0, engine->shared.pool.shape.layers, 32));
    for (int i = 0; i < WARM; i++) ck_ok(vlcache_engine_step(engine, &busy));
}

/* `a_layer`: launches of a layer and step at most. */
static void count_steps(vlcache_model *model, int n, int a_layer) {
    static const char *const policies[] = {"full", "vlcache", "centroids"};
    vlcache_engine *engine = NULL;
    vlcache_sequence *s[6];
    vlcache_image *image = talk_picture("captions-long-0.png");
    ck_ok(vlcache_engine_create(model, NULL, &engine));
    for (int i = 0; i < n; i++) s[i] = add(engine, policies[i % 3], image);
    warm_up(engine, s, n);
    vlcache_status status = VLCACHE_OK;
    calls_start();
    for (int i = 0; i < COUNTED && !status; i++) status = vlcache_engine_step(engine, NULL);
    calls_stop();
    ck_ok(status);
    for (int i = 0; i < n; i++) ck_assert_int_eq(vlcache_sequence_state_of(s[i]), VLCACHE_SEQUENCE_ANSWERING);
    ck_assert(engine->shared.step.entered); /* the device is at the next step while the host has its token */
    for (int i = 0; i < n; i++) ck_assert(!s[i]->kv.behind);
    if (calls_counted()) {
        long launches = calls_of("clEnqueueNDRangeKernel"), set = calls_of("clSetKernelArg");
        calls_only_run("decode");
        ck_assert_int_eq(calls_of("clEnqueueWriteBuffer"), 0);
        ck_assert_int_eq(calls_of("clEnqueueReadBuffer"), COUNTED);
        ck_assert_int_ge(launches, COUNTED);
        ck_assert_int_le(launches, COUNTED * (model->config.text.layers * a_layer + 6));
        /* Of 10 to 27 that a kernel has, and 90 that a chain has; those that differ from launch to launch. */
        ck_assert_int_lt(set, COUNTED * model->config.text.layers * MOST_SET);
    }
    vlcache_engine_destroy(&engine);
    vlcache_image_destroy(&image);
}

START_TEST(one_sequence) {
    count_steps(talk_demo(), 1, 10);
}
END_TEST

START_TEST(several_sequences) {
    count_steps(talk_demo(), 6, 10);
}
END_TEST

/* Rungs of products, `wide` those for processors (elsewhere attention takes a launch more, in two parts). */
static const struct {
    const char *engine, *variant;
    vlcache_dtype dtype;
    bool wide, mapped;
    int of_three; /* launches of a layer in a step of three sequences, at most; 0: not counted. Where files
                   * are read in floats, norms stand apart from three rows on, which is faster
                   * (vlci_gemv_norms()) */
} products[] = {{"matrix", "gemm:blocks", VLCACHE_DTYPE_BF16, false, false, 0},
                {"matrix", "gemm:pairs", VLCACHE_DTYPE_BF16, true, false, 0},
                {"portable", NULL, VLCACHE_DTYPE_F32, false, false, 0},
                {"portable", NULL, VLCACHE_DTYPE_BF16, false, false, 6},
                {"portable", "gemv:64", VLCACHE_DTYPE_F16, false, false, 0},
                {"wide", "gemm:12x32", VLCACHE_DTYPE_F16, true, false, 0},
                {"wide", "gemm:12x32", VLCACHE_DTYPE_BF16, true, true, 8},
                {"wide", "gemm:dot_plain", VLCACHE_DTYPE_BF16, true, true, 6}};

START_TEST(few_launches) {
    if (products[_i].wide && !suite_device()->caps.wide_vectors) return;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    vlcache_model *model = NULL;
    suite_set("VLCACHE_GEMM", products[_i].engine);
    suite_force(products[_i].variant);
    options.dtype = products[_i].dtype;
    options.no_mmap = !products[_i].mapped;
    ck_ok(vlcache_model_load(suite_device(), DEMO "model", &options, &model));
    ck_assert_int_eq(model->mapped_bytes > 0, products[_i].mapped);
    count_steps(model, 1, 6);
    if (products[_i].of_three) count_steps(model, 3, products[_i].of_three);
    vlcache_model_destroy(&model);
    suite_force(NULL);
    suite_set("VLCACHE_GEMM", "portable");
}
END_TEST

/* A whole turn, pictures and compression included, builds, loads and looks up nothing: that was when it was
 * opened. */
START_TEST(a_turn_opens_nothing) {
    static const char *const policies[] = {"vlcache",   "centroids",    "h2o",     "snapkv",
                                           "pyramidkv", "streamingllm", "vlcache+"};
    static const char *const names[] = {
        "clCreateKernel",  "clCreateProgramWithSource", "clCreateProgramWithBinary",
        "clBuildProgram",  "clGetKernelInfo",           "clGetKernelWorkGroupInfo",
        "clGetDeviceInfo", "clGetMemObjectInfo",        "getenv"};
    vlcache_engine *engine = NULL;
    vlcache_image *image = talk_picture("charts-3.png");
    ck_ok(vlcache_engine_create(talk_demo(), NULL, &engine));
    vlcache_sequence *s = add(engine, policies[_i], image);
    vlcache_status status = VLCACHE_OK;
    int busy = 1;
    calls_start();
    while (busy && !status) status = vlcache_engine_step(engine, &busy);
    calls_stop();
    ck_ok(status);
    ck_ok(vlcache_sequence_answer(s, NULL));
    for (size_t i = 0; i < sizeof names / sizeof *names && calls_counted(); i++)
        ck_assert_msg(!calls_of(names[i]), "%s: %ld calls of %s", policies[_i], calls_of(names[i]), names[i]);
    vlcache_engine_destroy(&engine);
    vlcache_image_destroy(&image);
}
END_TEST

int main(void) {
    setenv("VLCACHE_GEMM", "portable", 0); /* CLBlast makes its kernels at each product */
    Suite *suite = suite_create("step");
    TCase *all = tcase_create("step");
    talk_models(all);
    tcase_add_test(all, one_sequence);
    tcase_add_test(all, several_sequences);
    tcase_add_loop_test(all, few_launches, 0, sizeof products / sizeof *products);
    tcase_add_loop_test(all, a_turn_opens_nothing, 0, 7);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
