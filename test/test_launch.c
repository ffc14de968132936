/*
 * test_launch.c - launches are resolved once: what is opened only runs, without a question to the driver, an
 * allocation or a look at the environment, and a launch sets the arguments that changed, no more and no less:
 * buffers again when one was released since, all of them after a failure, and each thread's own. Writes that
 * do not wait are what they were when they were asked for, however late the device comes to them, and reads
 * that were asked for early, however late the host does.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compute/compute.h"
#include "device/fetch.h"
#include "support/calls.h"
#include "support/pages.h"

enum { N = 48, K = 64, ROWS = 20, BYTES = 64 * 1024, ARGS = 11 /* of a product */ };
static const char *const engines[] = {"portable", "wide"};

/* Products of f32 by an engine, and a matrix as it wants it. */
static vlci_linear linear;
static vlci_matrix w, other;
static cl_mem x, y, bias;
static uint64_t before; /* memory in use */

static cl_mem zeros(size_t bytes) {
    cl_mem memory = NULL;
    ck_ok(vlci_memory_create(suite_device(), bytes, "test", &memory));
    ck_ok(vlci_fill(suite_device(), memory, 0, bytes, 0));
    return memory;
}

static void begin(const char *engine) {
    vlci_linear_close(&linear);
    before = vlci_memory_now(suite_device());
    suite_set("VLCACHE_GEMM", engine);
    ck_ok(vlci_linear_open(suite_device(), VLCACHE_DTYPE_F32, &linear));
    suite_set("VLCACHE_GEMM", NULL);
    w = (vlci_matrix){.n = N, .k = K, .dtype = VLCACHE_DTYPE_F32};
    w.layout = vlci_linear_layout(&linear, w.dtype);
    other = w;
    w.data = zeros(BYTES), other.data = zeros(BYTES), bias = zeros(BYTES);
    x = zeros(BYTES), y = zeros(BYTES);
}

static void end(void) {
    cl_mem all[] = {w.data, other.data, bias, x, y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) suite_release(all[i]);
    vlci_linear_close(&linear);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
}

/* Without a check, which allocates. */
static vlcache_status multiply(const vlci_matrix *matrix, int m) {
    return vlci_linear_run(&linear, matrix, x, 0, y, 0, m, VLCI_ACT_NONE, false);
}

/* A product, counted: that many arguments are set, and nothing happens beside the launch. */
static void expect(const vlci_matrix *matrix, int m, long sets, const char *what) {
    calls_start();
    vlcache_status status = multiply(matrix, m);
    calls_stop();
    ck_ok(status);
    if (!calls_counted()) return;
    ck_assert_msg(calls_of("clSetKernelArg") == sets, "%s, %d rows: %ld arguments set, not %ld", what, m,
                  calls_of("clSetKernelArg"), sets);
    ck_assert_int_eq(calls_of("clEnqueueNDRangeKernel"), 1);
    ck_assert_int_eq(calls_of("clFlush") + calls_of("clFinish"), 0);
    calls_only_run(what);
}

/* ---- arguments ----------------------------------------------------------------------------------------- */

START_TEST(only_what_changed_is_set) {
    static const int rows[] = {1, 2, 8, ROWS};
    begin(engines[_i]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int m = rows[i];
        vlci_matrix biased = other;
        biased.bias = bias;
        ck_ok(multiply(&w, m));
        expect(&w, m, 0, "the same again");
        expect(&other, m, 1, "other weights");
        expect(&biased, m, 1, "a bias");
        expect(&w, m, 2, "other weights without it");
    }
    ck_ok(multiply(&w, 5));
    expect(&w, 6, 1, "another number of rows for one kernel");
    end();
}
END_TEST

START_TEST(stale_buffers_are_set_again) {
    begin(engines[_i]);
    ck_ok(multiply(&w, 1));
    suite_release(zeros(BYTES));
    expect(&w, 1, 3, "after a release"); /* w, x, y: all buffers, and only they */
    expect(&w, 1, 0, "the same again");
    cl_mem first = zeros(BYTES);
    expect(&w, 1, 0, "after a new buffer");
    suite_release(first);
    end();
}
END_TEST

/* A new buffer in the place of an old one, whatever its handle, is what the kernel writes. */
START_TEST(new_buffers_are_written) {
    const vlci_kernel *kernel;
    ck_ok(vlci_kernel_get(suite_device(), "probe.cl", "probe", "", &kernel));
    for (int i = 1; i < 20; i++) {
        float got[2] = {0};
        cl_mem out = suite_poison(sizeof got);
        ck_ok(VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(2, 1, 1, 1, 1, 1), VLCI_MEM(out), VLCI_F32(3)));
        suite_download(out, got, sizeof got);
        ck_assert_float_eq(got[1], 3);
        suite_release(out);
    }
}
END_TEST

static long sets_of(const vlci_kernel *kernel, cl_mem out, float scale) {
    vlcache_device *device = suite_device();
    calls_start();
    vlcache_status status =
        VLCI_LAUNCH(device, kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), VLCI_MEM(out), VLCI_F32(scale));
    calls_stop();
    ck_ok(status);
    return calls_of("clSetKernelArg");
}

/* Arguments are compared by their bits. */
START_TEST(bits_decide) {
    const vlci_kernel *kernel;
    ck_ok(vlci_kernel_get(suite_device(), "probe.cl", "probe", "", &kernel));
    cl_mem out = suite_poison(64);
    long seen[6];
    float nan = 0.0f / 0.0f * 1.0f;
    seen[0] = sets_of(kernel, out, 0.0f);
    seen[1] = sets_of(kernel, out, -0.0f);
    seen[2] = sets_of(kernel, out, -0.0f);
    seen[3] = sets_of(kernel, out, nan);
    seen[4] = sets_of(kernel, out, nan);
    seen[5] = sets_of(kernel, out, 1.0f);
    suite_release(out);
    if (!calls_counted()) return;
    ck_assert_int_ge(seen[0], 1);
    static const long want[] = {1, 0, 1, 0, 1};
    for (int i = 0; i < 5; i++) ck_assert_int_eq(seen[1 + i], want[i]);
}
END_TEST

START_TEST(failures_are_not_remembered) {
    begin("portable");
    const vlci_kernel *kernel = linear.of[VLCACHE_DTYPE_F32].gemm.few.kernel[0][0];
    ck_ok(multiply(&w, ROWS));
    vlci_product p = {.w = &w, .x = x, .y = y, .m = ROWS};
    if (kernel->max_group > 1 &&
        linear.of[VLCACHE_DTYPE_F32].gemm.few.group > 1) { /* of a size that it must have */
        ck_fails(vlci_product_launch(suite_device(), kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), &p),
                 VLCACHE_E_DEVICE, "gemm");
        expect(&w, ROWS, ARGS, "after a launch that failed");
    }
    ck_fails(VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), VLCI_MEM(w.data),
                         VLCI_MEM(NULL), VLCI_MEM(x), VLCI_U32(0), VLCI_MEM(y), VLCI_LOCAL(3), VLCI_I32(1),
                         VLCI_I32(1), VLCI_I32(1), VLCI_I32(0), VLCI_I32(0)),
             VLCACHE_E_INTERNAL, "argument 5");
    expect(&w, ROWS, ARGS, "after an argument that failed");
    expect(&w, ROWS, 0, "the same again");
    end();
}
END_TEST

/* ---- two threads share a kernel ------------------------------------------------------------------------ */

typedef struct caller {
    float scale;
    int wrong;
} caller;

static void *launch_often(void *user) {
    caller *own = user;
    const vlci_kernel *kernel;
    float got[8];
    cl_mem out = NULL;
    if (vlci_memory_create(suite_device(), sizeof got, "thread", &out) ||
        vlci_kernel_get(suite_device(), "probe.cl", "probe", "", &kernel))
        own->wrong++;
    for (int i = 0; i < 300 && !own->wrong; i++) {
        if (VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(8, 1, 1, 1, 1, 1), VLCI_MEM(out),
                        VLCI_F32(own->scale)) ||
            vlci_read(suite_device(), out, 0, got, sizeof got))
            own->wrong++;
        for (int k = 0; k < 8; k++) own->wrong += got[k] != own->scale * (float)k;
        own->scale += 2;
    }
    vlci_memory_release(suite_device(), &out);
    return NULL;
}

START_TEST(threads_have_their_own_arguments) {
    caller callers[2] = {{.scale = 1}, {.scale = 2}};
    pthread_t threads[2];
    suite_device();
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, launch_often, &callers[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    ck_assert_int_eq(callers[0].wrong + callers[1].wrong, 0);
}
END_TEST

/* ---- writes that do not wait --------------------------------------------------------------------------- */

enum { WRITES = 4096, WORDS = 100, LARGE = 200000 };

/* Lets the queue go on, some time after it was held. */
static void *let_go(void *user) {
    usleep(50000);
    clSetUserEventStatus(user, CL_COMPLETE);
    return NULL;
}

/* More than fits beside the queue while it is held, from memory that changes at once, and one large piece. */
START_TEST(late_writes_are_whole) {
    vlcache_device *device = suite_device();
    uint32_t piece[WORDS], *all = calloc(WRITES * WORDS + LARGE, sizeof *all);
    cl_mem memory = suite_poison((WRITES * WORDS + LARGE) * sizeof *all);
    cl_int code;
    cl_event event = clCreateUserEvent(device->context, &code);
    pthread_t thread;
    ck_assert_int_eq(code, CL_SUCCESS);
    ck_ok(vlci_finish(device));
    ck_assert_int_eq(clEnqueueMarkerWithWaitList(device->queue, 1, &event, NULL), CL_SUCCESS);
    ck_assert_int_eq(pthread_create(&thread, NULL, let_go, event), 0);
    for (uint32_t i = 0; i < WRITES; i++) {
        for (uint32_t j = 0; j < WORDS; j++) piece[j] = i * WORDS + j;
        ck_ok(vlci_write_later(device, memory, i * sizeof piece, piece, sizeof piece));
    }
    for (uint32_t j = 0; j < LARGE; j++) all[j] = ~j;
    ck_ok(vlci_write_later(device, memory, WRITES * sizeof piece, all, LARGE * sizeof *all));
    memset(all, 0, LARGE * sizeof *all);
    pthread_join(thread, NULL);
    clReleaseEvent(event);
    suite_download(memory, all, (WRITES * WORDS + LARGE) * sizeof *all);
    for (uint32_t j = 0; j < WRITES * WORDS; j++) ck_assert_uint_eq(all[j], j);
    for (uint32_t j = 0; j < LARGE; j++) ck_assert_uint_eq(all[WRITES * WORDS + j], ~j);
    ck_ok(vlci_write_later(device, memory, 0, NULL, 0)); /* nothing */
    suite_release(memory);
    free(all);
}
END_TEST

/* What was asked for early is as it was then, though the buffer has changed since, and is there while what
 * was enqueued behind it still waits. Anything else is read when it is wanted, and waits. */
START_TEST(early_reads_wait_for_nothing_else) {
    enum { MANY = 64, SOME = 16 };
    vlcache_device *device = suite_device();
    vlci_fetch fetch = {.device = device};
    uint32_t first[MANY], second[MANY], got[MANY];
    for (uint32_t i = 0; i < MANY; i++) first[i] = i + 1, second[i] = ~i;
    cl_mem memory = suite_upload(first, sizeof first), others = suite_upload(second, sizeof second);
    for (int round = 0; round < 3; round++) {
        cl_int code;
        cl_event event = clCreateUserEvent(device->context, &code);
        ck_ok(vlci_write(device, memory, 0, first, sizeof first));
        if (round == 1) ck_ok(vlci_fetch_begin(&fetch, memory, 0, 4)); /* which nobody reads */
        ck_ok(vlci_fetch_begin(&fetch, memory, SOME * 4, sizeof first / 2));
        ck_ok(vlci_fetch_begin(&fetch, others, 0, sizeof second)); /* one at a time */
        ck_assert_int_eq(clEnqueueMarkerWithWaitList(device->queue, 1, &event, NULL), CL_SUCCESS);
        ck_ok(vlci_write_later(device, memory, 0, second, sizeof second));
        ck_ok(vlci_fetch_read(&fetch, memory, SOME * 4, got, sizeof first / 2));
        ck_assert_mem_eq(got, first + SOME, sizeof first / 2);
        clSetUserEventStatus(event, CL_COMPLETE);
        clReleaseEvent(event);
        ck_ok(vlci_fetch_read(&fetch, memory, SOME * 4, got, sizeof first / 2));
        ck_assert_mem_eq(got, second + SOME, sizeof first / 2);
    }
    ck_ok(vlci_fetch_begin(&fetch, memory, 0, 4));
    ck_ok(vlci_fetch_read(&fetch, memory, 0, got, sizeof second)); /* more than was asked for */
    ck_assert_mem_eq(got, second, sizeof second);
    vlci_fetch_forget(&fetch, others);
    ck_assert(fetch.done != NULL);
    vlci_fetch_forget(&fetch, memory);
    ck_assert(fetch.done == NULL);
    ck_ok(vlci_fetch_begin(&fetch, others, 0, sizeof second)); /* what is on its way is waited for */
    vlci_fetch_release(&fetch);
    ck_assert(!fetch.device && !fetch.pinned);
    vlci_fetch_release(&fetch);
    suite_release(memory);
    suite_release(others);
}
END_TEST

/* ---- everything that a model computes with ------------------------------------------------------------- */

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, SEQUENCES = 2, CACHED = 5 };

/* Caches of two sequences, with room in their last pages. */
static pages *cached;

/* Attention and the cache: part of a prompt, a few rows, one; no row of these is any sequence's. */
static vlcache_status run_cached(const vlci_compute *c) {
    static const int rows[] = {1, 2, 5, 40};
    const vlci_append append = {1, HEADS, KV_HEADS, HEAD_DIM, x, y, 0, bias, bias, pages_view(cached, 0)};
    vlcache_status status = vlci_rope_append(&c->rope, &append);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !status; i++) {
        const vlci_attention a = {.batch = SEQUENCES,
                                  .causal = true,
                                  .scale = 1,
                                  .kv = pages_view(cached, 0),
                                  .q_stride = HEADS * HEAD_DIM,
                                  .max_rows = rows[i],
                                  .q = x,
                                  .out = y,
                                  .seq_start = bias,
                                  .max_keys = CACHED + 1};
        status = vlci_attention_run(&c->attention, &a);
    }
    return status;
}

/* Rows are counted and the device follows, as between two steps of a decode. */
static vlcache_status step(void) {
    vlci_kv *all[SEQUENCES];
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < SEQUENCES && !status; i++) {
        all[i] = &cached->kv[i];
        status = vlci_kv_reserve(all[i], 0, 1, 1);
        vlci_kv_append_behind(all[i]);
    }
    if (!status) status = vlci_kv_advance(all, SEQUENCES, x, y, other.data, cached->slots);
    return status ? status : vlci_kv_pool_sync(&cached->pool);
}

/* One run of each part, over zeros. */
static vlcache_status run_all(const vlci_compute *c) {
    const vlci_norm rms = {w.data, NULL}, layer = {w.data, bias};
    vlcache_status status = VLCACHE_OK;
    for (int m = 1; m <= 9; m++)
        for (int k = K - 1; k <= K && !status; k++) {
            vlci_matrix ragged = w;
            ragged.k = k;
            status = vlci_linear_run(&c->linear, &ragged, x, 1, y, 0, m, VLCI_ACT_GELU, false);
        }
    if (!status) status = vlci_linear_run(&c->linear, &w, x, 0, y, 0, 4 * ROWS, VLCI_ACT_NONE, true);
    if (!status) status = vlci_norm_run(&c->norm, x, 3, &rms, y, 2, N, 1e-5f);
    if (!status) status = vlci_norm_run(&c->norm, x, 0, &layer, y, 2, N, 1e-5f);
    if (!status) status = vlci_act_run(&c->gate, x, y, 2, N);
    if (!status) status = vlci_embed_run(&c->embed, &w, 1.0f, (vlci_features){x, 2}, bias, y, 2);
    if (!status) status = vlci_embed_add(&c->embed, (vlci_features){x, 2}, 1, bias, y, 0, 2, N);
    if (!status) status = vlci_head_norm_run(&c->norm, x, &rms, &rms, 1, HEADS, KV_HEADS, HEAD_DIM, 1e-6f);
    if (!status) status = vlci_gather_run(&c->embed, x, x, bias, y, 2, N);
    if (!status) status = vlci_blend_run(&c->embed, x, x, bias, y, 2, N);
    if (!status) status = vlci_patch_split(&c->patch, x, y, 1, 8, 4);
    if (!status) status = vlci_patch_assemble(&c->patch, x, bias, w.data, y, 1, 4, N);
    if (!status) status = vlci_rope_phase(&c->rope, x, bias, bias, y, 2, N, 1.0f);
    if (!status) status = run_cached(c);
    if (!status) status = step();
    if (!status) status = vlci_argmax_run(&c->sample, x, 2, N, y);
    if (!status) status = vlci_sample_run(&c->sample, x, 2, N, bias, y);
    return status;
}

/* As a model opens them. */
static void open_all(const char *engine, vlci_compute *c) {
    const vlci_attention_shape shape = {.heads = HEADS,
                                        .kv_heads = KV_HEADS,
                                        .head_dim = HEAD_DIM,
                                        .kv_dtype = VLCACHE_DTYPE_F32,
                                        .rounded = VLCACHE_DTYPE_F32};
    const vlci_kv_shape kv = {1, KV_HEADS, HEAD_DIM, VLCACHE_DTYPE_F32};
    const int rows[] = {CACHED, CACHED, CACHED, CACHED};
    ck_ok(vlci_compute_open(suite_device(), VLCI_ACT_SILU, c));
    suite_set("VLCACHE_GEMM", engine);
    ck_ok(vlci_linear_open(suite_device(), VLCACHE_DTYPE_F32, &c->linear));
    suite_set("VLCACHE_GEMM", NULL);
    ck_ok(vlci_embed_open(suite_device(), w.dtype, w.layout, &c->embed));
    ck_ok(vlci_rope_open(suite_device(), kv.dtype, &c->rope));
    ck_ok(vlci_attention_open(suite_device(), &shape, &c->attention));
    cached = pages_create(&kv, SEQUENCES, &(pages_rows){.rows = rows}, 0);
}

/* Runs find all that they need, from the very first on. */
START_TEST(what_is_open_only_runs) {
    vlci_compute compute;
    begin(engines[_i]);
    open_all(engines[_i], &compute);
    for (int again = 0; again < 2; again++) {
        calls_start();
        vlcache_status status = run_all(&compute);
        calls_stop();
        ck_ok(status);
        if (calls_counted()) calls_only_run(again ? "again" : "at first");
    }
    ck_ok(vlci_finish(suite_device()));
    pages_destroy(cached);
    vlci_compute_close(&compute);
    end();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("launch");
    TCase *c = tcase_create("launch");
    tcase_add_loop_test(c, only_what_changed_is_set, 0, 2);
    tcase_add_loop_test(c, stale_buffers_are_set_again, 0, 2);
    tcase_add_test(c, new_buffers_are_written);
    tcase_add_test(c, bits_decide);
    tcase_add_test(c, failures_are_not_remembered);
    tcase_add_test(c, threads_have_their_own_arguments);
    tcase_add_test(c, late_writes_are_whole);
    tcase_add_test(c, early_reads_wait_for_nothing_else);
    tcase_add_loop_test(c, what_is_open_only_runs, 0, 2);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
