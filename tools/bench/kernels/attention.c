/*
 * attention.c - attention over a paged cache, a prompt's rows and single ones, on the heads of a 7B model.
 *
 *     error: |got - want|, the worst element of some rows and heads, over the root mean square of what is
 *            wanted there
 */
#include <math.h>
#include <stdlib.h>

#include "bench/kernels/trial.h"
#include "common/memory.h"
#include "compute/attention.h"
#include "compute/random.h"
#include "kv/cache.h"
#include "models/weight.h"

enum { SAMPLES = 6, MOST_BATCH = 64 };
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
    vlci_kv_pool pool;
    vlci_kv kv[MOST_BATCH];
    int n_kv;
    cl_mem q, out, seq_start, slots, scratch, row_max, row_lse;
    vlci_attention a;
} scene;

/* ---- building ------------------------------------------------------------------------------------------ */

static vlcache_status make_cache(scene *s) {
    vlci_kv_shape shape_of = {1, s->heads.kv_heads, s->heads.head_dim, s->heads.kv_dtype};
    int keys = s->of.past + s->of.rows, pages = s->of.batch * s->heads.kv_heads * vlci_kv_pages(keys);
    vlcache_status status = vlci_kv_pool_create(s->t->device, &shape_of, pages, false, &s->pool);
    vlci_matrix rows = {.n = pages * VLCI_KV_PAGE, .k = shape_of.head_dim, .dtype = shape_of.dtype};
    rows.data = s->pool.k;
    if (!status) status = vlci_random_matrix(s->t->device, &rows, 11, 1.7f);
    rows.data = s->pool.v;
    if (!status) status = vlci_random_matrix(s->t->device, &rows, 12, 1.0f);
    for (int b = 0; b < s->of.batch && !status; b++) {
        status = vlci_kv_create(&s->pool, &s->kv[b]);
        if (status) break;
        s->n_kv++;
        status = vlci_kv_reserve(&s->kv[b], 0, 1, keys);
        if (!status) vlci_kv_append(&s->kv[b], 0, 1, s->of.past);
    }
    return status ? status : vlci_kv_pool_sync(&s->pool);
}

static vlcache_status make_numbers(scene *s) {
    cl_int starts[MOST_BATCH + 1], slots[MOST_BATCH];
    size_t n = (size_t)s->of.batch;
    for (int b = 0; b <= s->of.batch; b++) starts[b] = b * s->of.rows;
    for (int b = 0; b < s->of.batch; b++) slots[b] = s->kv[b].slot;
    vlcache_device *device = s->t->device;
    vlcache_status status =
        vlci_memory_create(device, (n + 1) * sizeof *starts, "sequence starts", &s->seq_start);
    if (!status) status = vlci_write(device, s->seq_start, 0, starts, (n + 1) * sizeof *starts);
    if (!status) status = vlci_memory_create(device, n * sizeof *slots, "slots", &s->slots);
    return status ? status : vlci_write(device, s->slots, 0, slots, n * sizeof *slots);
}

static vlcache_status make_rows(scene *s) {
    size_t rows = (size_t)(s->of.batch * s->of.rows), heads = (size_t)s->heads.heads,
           wide = heads * (size_t)s->heads.head_dim;
    vlcache_status status = trial_floats(s->t, rows * wide, 13, &s->q);
    if (!status) status = trial_poisoned(s->t, rows * wide, &s->out);
    if (!status) status = trial_poisoned(s->t, rows * heads, &s->row_max);
    return status ? status : trial_poisoned(s->t, rows * heads, &s->row_lse);
}

static vlcache_status open_scene(scene *s) {
    vlcache_status status = make_cache(s);
    if (!status) status = make_numbers(s);
    if (!status) status = make_rows(s);
    if (status) return status;
    s->a = (vlci_attention){.batch = s->of.batch,
                            .causal = true,
                            .scale = 1.0f / sqrtf((float)s->heads.head_dim),
                            .kv = vlci_kv_layer(&s->kv[0], 0),
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
    cl_mem *all[] = {&s->q, &s->out, &s->seq_start, &s->slots, &s->scratch, &s->row_max, &s->row_lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(s->t->device, all[i]);
    for (int b = 0; b < s->n_kv; b++) vlci_kv_release(&s->kv[b]);
    vlci_kv_pool_release(&s->pool);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

/* Rows of a head of a sequence, as floats [keys][head_dim]. */
static vlcache_status read_rows(const scene *s, cl_mem from, int b, int head, float *to) {
    const vlci_kv_list *held = vlci_kv_list_of(&s->kv[b], 0, head);
    size_t dim = (size_t)s->heads.head_dim, page = VLCI_KV_PAGE * dim;
    size_t element = vlci_dtype_bytes(s->heads.kv_dtype);
    int keys = s->of.past + s->of.rows;
    void *stored = memory_take(page, element);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < vlci_kv_pages(keys) && !status; i++) {
        size_t at = (size_t)s->pool.table.entry[held->first + i] * page * element;
        status = vlci_read(s->t->device, from, at, stored, page * element);
        vlci_widen(stored, s->heads.kv_dtype, to + (size_t)i * page, page);
    }
    free(stored);
    return status;
}

/* What one query makes of n keys, in doubles. */
static void attend(const float *q, const float *k, const float *v, int n, int dim, double scale,
                   double *out) {
    double *weight = memory_take((size_t)n, sizeof *weight), most = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        for (int d = 0; d < dim; d++)
            weight[j] += (double)q[d] * (double)k[(size_t)j * (size_t)dim + (size_t)d];
        weight[j] *= scale;
        if (weight[j] > most) most = weight[j];
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = 0; j < n; j++) {
        double w = exp(weight[j] - most);
        sum += w;
        for (int d = 0; d < dim; d++) out[d] += w * (double)v[(size_t)j * (size_t)dim + (size_t)d];
    }
    for (int d = 0; d < dim; d++) out[d] /= sum;
    free(weight);
}

/* Row `row` of sequence b and one head of it. */
static vlcache_status check_one(const scene *s, int b, int row, int head, double *error) {
    size_t dim = (size_t)s->heads.head_dim, heads = (size_t)s->heads.heads;
    size_t at = (((size_t)b * (size_t)s->of.rows + (size_t)row) * heads + (size_t)head) * dim * sizeof(float);
    size_t room = (size_t)vlci_kv_pages(s->of.past + s->of.rows) * VLCI_KV_PAGE * dim;
    int kv_head = head / (s->heads.heads / s->heads.kv_heads), n = s->of.past + row + 1;
    float *k = memory_take(room, sizeof *k), *v = memory_take(room, sizeof *v);
    float *q = memory_take(dim, sizeof *q), *got = memory_take(dim, sizeof *got);
    double *want = memory_take(dim, sizeof *want), squares = 1e-30, off = 0;
    vlcache_status status = read_rows(s, s->pool.k, b, kv_head, k);
    if (!status) status = read_rows(s, s->pool.v, b, kv_head, v);
    if (!status) status = vlci_read(s->t->device, s->q, at, q, dim * sizeof *q);
    if (!status) status = vlci_read(s->t->device, s->out, at, got, dim * sizeof *got);
    if (!status) attend(q, k, v, n, (int)dim, (double)s->a.scale, want);
    for (size_t d = 0; d < dim; d++) {
        squares += want[d] * want[d];
        off = trial_worse(fabs((double)got[d] - want[d]), off);
    }
    *error = trial_worse(off / sqrt(squares / (double)dim), *error);
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

static vlcache_status check(scene *s, double *error) {
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

static vlcache_status try_rung(trials *t, const char *rung, bool chosen, void *user) {
    scene *s = user;
    trial what = {.kernel = kernel_of(s),
                  .rung = rung,
                  .shape = s->name,
                  .chosen = chosen,
                  .bytes = s->of.rows == 1,
                  .amount = amount(s),
                  .tolerance = TOLERANCE};
    if (!trial_wanted(t, &what)) return VLCACHE_OK;
    vlcache_status status = vlci_attention_open(t->device, &s->heads, &s->kernels);
    if (!status) status = vlci_attention_scratch_create(&s->kernels, s->of.batch, &s->scratch);
    s->a.scratch = s->scratch;
    if (!status) status = check(s, &what.error);
    if (status)
        trial_fail(t, &what);
    else
        status = trial_tell(t, &what, launch, s);
    vlci_memory_release(t->device, &s->scratch);
    return status == VLCACHE_E_CANCELLED ? status : VLCACHE_OK;
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
    vlcache_status status = VLCACHE_OK;
    if (open_scene(s))
        trial_fail(t, &(trial){.kernel = kernel_of(s), .rung = "any", .shape = s->name});
    else
        status = trial_rungs(t, of->rows > 1 ? &vlci_attention_prefill_ladder : &vlci_attention_decode_ladder,
                             try_rung, s);
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
