/*
 * attention.c - attention over a paged cache, a prompt's rows and single ones, on the heads of a 7B model.
 *
 *     error: |got - want|, the worst element of some rows and heads, over the root mean square of what is
 *            wanted there
 */
#include <math.h>
#include <stdlib.h>

#include "bench/kernels/cache.h"
#include "common/memory.h"
#include "compute/attention.h"

enum { SAMPLES = 6 };
#define TOLERANCE 3e-2 /* weights in 16 bits, over rows that cancel */

typedef struct shape {
    int batch, rows, past; /* of each sequence: query rows, keys before them */
} shape;

/* A batch of sequences of the same shape. */
typedef struct scene {
    trials *t;
    shape of;
    char name[80];
    vlci_attention_shape heads;
    vlci_attention_kernels kernels;
    trial_cache cache;
    cl_mem q, out, seq_start, slots, scratch, row_max, row_lse;
    vlci_attention a;
} scene;

/* ---- building ------------------------------------------------------------------------------------------ */

static vlcache_status make_numbers(scene *s) {
    cl_int starts[TRIAL_SEQUENCES + 1], slots[TRIAL_SEQUENCES];
    size_t n = (size_t)s->of.batch;
    for (int b = 0; b <= s->of.batch; b++) starts[b] = b * s->of.rows;
    for (int b = 0; b < s->of.batch; b++) slots[b] = s->cache.kv[b].slot;
    vlcache_status status = trial_bytes(s->t, starts, (n + 1) * sizeof *starts, &s->seq_start);
    return status ? status : trial_bytes(s->t, slots, n * sizeof *slots, &s->slots);
}

static vlcache_status make_rows(scene *s) {
    size_t rows = (size_t)(s->of.batch * s->of.rows), heads = (size_t)s->heads.heads,
           wide = heads * (size_t)s->heads.head_dim;
    vlcache_status status = trial_floats(s->t, rows * wide, 13, &s->q);
    if (!status) status = trial_poisoned(s->t, rows * wide, &s->out);
    if (!status) status = trial_poisoned(s->t, rows * heads, &s->row_max);
    return status ? status : trial_poisoned(s->t, rows * heads, &s->row_lse);
}

static vlcache_status make_scene(void *work) {
    scene *s = work;
    const vlci_kv_shape shape_of = {1, s->heads.kv_heads, s->heads.head_dim, s->heads.kv_dtype};
    vlcache_status status =
        trial_cache_make(s->t, &shape_of, s->of.batch, s->of.past + s->of.rows, s->of.past, &s->cache);
    if (!status) status = make_numbers(s);
    if (!status) status = make_rows(s);
    if (status) return status;
    s->a = (vlci_attention){.batch = s->of.batch,
                            .causal = true,
                            .scale = 1.0f / sqrtf((float)s->heads.head_dim),
                            .kv = vlci_kv_layer(&s->cache.kv[0], 0),
                            .q_stride = (size_t)s->heads.heads * (size_t)s->heads.head_dim,
                            .max_rows = s->of.rows,
                            .q = s->q,
                            .out = s->out,
                            .seq_start = s->seq_start,
                            .max_keys = s->of.past + s->of.rows,
                            .row_max = s->row_max,
                            .row_lse = s->row_lse};
    s->a.kv.slots = s->slots;
    return VLCACHE_OK;
}

static void close_scene(scene *s) {
    TRIAL_RELEASE(s->t, &s->q, &s->out, &s->seq_start, &s->slots, &s->scratch, &s->row_max, &s->row_lse);
    trial_cache_release(&s->cache);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* Row `row` of sequence b and one head of it. */
static vlcache_status check_one(const scene *s, int b, int row, int head, double *error) {
    size_t dim = (size_t)s->heads.head_dim, heads = (size_t)s->heads.heads;
    size_t at = (((size_t)b * (size_t)s->of.rows + (size_t)row) * heads + (size_t)head) * dim * sizeof(float);
    size_t room = trial_cache_floats(&s->cache);
    int kv_head = head / (s->heads.heads / s->heads.kv_heads), n = s->of.past + row + 1;
    float *k = memory_take(room, sizeof *k), *v = memory_take(room, sizeof *v);
    float *q = memory_take(dim, sizeof *q), *got = memory_take(dim, sizeof *got);
    double *want = memory_take(dim, sizeof *want);
    vlcache_status status = trial_cache_read(&s->cache, false, b, 0, kv_head, k);
    if (!status) status = trial_cache_read(&s->cache, true, b, 0, kv_head, v);
    if (!status) status = vlci_read(s->t->device, s->q, at, q, dim * sizeof *q);
    if (!status) status = vlci_read(s->t->device, s->out, at, got, dim * sizeof *got);
    if (!status) trial_attend(q, k, v, n, (int)dim, (double)s->a.scale, want);
    *error = trial_worse(trial_off(got, want, dim), *error);
    free(k);
    free(v);
    free(q);
    free(got);
    free(want);
    return status;
}

static vlcache_status launch(void *work) {
    const scene *s = work;
    return vlci_attention_run(&s->kernels, &s->a);
}

static vlcache_status check(void *work, double *error) {
    scene *s = work;
    size_t floats = (size_t)(s->of.batch * s->of.rows) * (size_t)s->heads.heads * (size_t)s->heads.head_dim;
    *error = 0;
    vlcache_status status = vlci_fill(s->t->device, s->out, 0, floats * sizeof(float), 0xffffffffu);
    if (!status) status = launch(s);
    for (size_t i = 0; i < SAMPLES && !status; i++)
        status = check_one(s, (int)trial_sample(i, SAMPLES, (size_t)s->of.batch),
                           (int)trial_sample(i, SAMPLES, (size_t)s->of.rows),
                           (int)trial_sample(i * 5 % SAMPLES, SAMPLES, (size_t)s->heads.heads), error);
    return status;
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

static const char *kernel_of(const scene *s) {
    return s->of.rows > 1 ? "attention prefill" : "attention decode";
}

/* Operations of a prompt, bytes of single rows. */
static double amount(const scene *s) {
    double dim = s->heads.head_dim, rows = s->of.rows, past = s->of.past;
    if (s->of.rows > 1) return 4 * s->of.batch * s->heads.heads * dim * (rows * past + rows * (rows + 1) / 2);
    return 2 * s->of.batch * s->heads.kv_heads * dim * (past + 1) *
           (double)vlci_dtype_bytes(s->heads.kv_dtype);
}

static vlcache_status open_kernels(void *work) {
    scene *s = work;
    vlcache_status status = vlci_attention_open(s->t->device, &s->heads, &s->kernels);
    if (!status) status = vlci_attention_scratch_create(&s->kernels, s->of.batch, &s->scratch);
    s->a.scratch = s->scratch;
    return status;
}

static void close_kernels(void *work) {
    scene *s = work;
    vlci_memory_release(s->t->device, &s->scratch);
}

static vlcache_status try_shape(trials *t, const shape *of) {
    bool quick = t->b->options.quick;
    scene *s = memory_take(1, sizeof *s);
    s->t = t;
    s->of = *of;
    s->heads = (vlci_attention_shape){.heads = quick ? 4 : 32,
                                      .kv_heads = quick ? 2 : 8,
                                      .head_dim = quick ? 64 : 128,
                                      .kv_dtype = t->dtype};
    snprintf(s->name, sizeof s->name, "%d x %d rows over %d keys in %d/%d heads of %d", of->batch, of->rows,
             of->past + of->rows, s->heads.heads, s->heads.kv_heads, s->heads.head_dim);
    trial_case c = {.what = {.kernel = kernel_of(s),
                             .shape = s->name,
                             .bytes = of->rows == 1,
                             .amount = amount(s),
                             .tolerance = TOLERANCE},
                    .work = s,
                    .make = make_scene,
                    .open = open_kernels,
                    .check = check,
                    .launch = launch,
                    .close = close_kernels};
    vlcache_status status =
        trial_ladder(t, of->rows > 1 ? &vlci_attention_prefill_ladder : &vlci_attention_decode_ladder, &c);
    close_scene(s);
    free(s);
    return status;
}

vlcache_status attention_trials(trials *t) {
    static const shape shapes[] = {{1, 594, 0},  {1, 2048, 0},  {1, 8192, 0},  {1, 2048, 6144},
                                   {1, 1, 2047}, {1, 1, 32767}, {64, 1, 2047}, {64, 1, 204}},
                       quick[] = {{1, 70, 0}, {2, 40, 33}, {3, 1, 300}};
    size_t n = t->b->options.quick ? sizeof quick / sizeof *quick : sizeof shapes / sizeof *shapes;
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = try_shape(t, t->b->options.quick ? &quick[i] : &shapes[i]);
    return status;
}
