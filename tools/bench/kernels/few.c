/*
 * few.c - attention over rows in few bits, as a step of decode has it: with that over rows in pages, in one
 * launch or behind it.
 *
 *     error: as of attention, over the rows that the bits stand for, brought back on the host
 */
#include <math.h>
#include <stdlib.h>

#include "bench/kernels/coding.h"
#include "common/memory.h"
#include "compress/quantise.h"
#include "models/weight.h"

#define TOLERANCE 3e-2 /* as of attention */
enum { KEY_BITS = 4, VALUE_BITS = 2, GROUP = 64 };

/* ---- a step -------------------------------------------------------------------------------------------- */

typedef struct shape {
    int batch, rows, past; /* of each sequence: rows in few bits, rows in pages */
} shape;

/* A row of each of some sequences, and what it sees in pages. */
typedef struct step {
    trials *t;
    shape of;
    char name[96];
    vlci_compress_shape heads;
    vlci_attention_shape attended;
    trial_cache pages;
    cl_mem q, out, starts, slots, scratch, row_max, row_lse;
    vlci_attention_kernels kernels;
    vlci_attention a;
} step;

static size_t q_floats(const step *s) {
    return (size_t)s->of.batch * (size_t)s->heads.heads * (size_t)s->heads.head_dim;
}

static vlcache_status make_memory(step *s) {
    cl_int starts[TRIAL_SEQUENCES + 1], slots[TRIAL_SEQUENCES];
    size_t n = (size_t)s->of.batch, stats = n * (size_t)s->heads.heads;
    for (int b = 0; b <= s->of.batch; b++) starts[b] = b;
    for (int b = 0; b < s->of.batch; b++) slots[b] = s->pages.kv[b].slot;
    vlcache_status status = trial_bytes(s->t, starts, (n + 1) * sizeof *starts, &s->starts);
    if (!status) status = trial_bytes(s->t, slots, n * sizeof *slots, &s->slots);
    if (!status) status = trial_floats(s->t, q_floats(s), 71, &s->q);
    if (!status) status = trial_poisoned(s->t, q_floats(s), &s->out);
    if (!status) status = trial_poisoned(s->t, stats, &s->row_max);
    if (!status) status = trial_poisoned(s->t, stats, &s->row_lse);
    return status ? status : vlci_attention_scratch_create(&s->kernels, s->of.batch, &s->scratch);
}

static vlcache_status make_step(step *s) {
    const vlci_compress_shape *h = &s->heads;
    const vlci_kv_shape pages = {h->layers, h->kv_heads, h->head_dim, h->kv_dtype};
    vlcache_status status =
        trial_cache_make(s->t, &pages, s->of.batch, s->of.past + 1, s->of.past, &s->pages);
    if (!status) status = vlci_attention_open(s->t->device, &s->attended, &s->kernels);
    if (!status) status = make_memory(s);
    if (status) return status;
    s->a = (vlci_attention){.batch = s->of.batch,
                            .causal = true,
                            .scale = 1.0f / sqrtf((float)h->head_dim),
                            .kv = vlci_kv_layer(&s->pages.kv[0], 0),
                            .q_stride = (size_t)(h->heads * h->head_dim),
                            .max_rows = 1,
                            .max_keys = s->of.past + 1,
                            .q = s->q,
                            .out = s->out,
                            .seq_start = s->starts,
                            .scratch = s->scratch,
                            .row_max = s->row_max,
                            .row_lse = s->row_lse};
    s->a.kv.slots = s->slots;
    return VLCACHE_OK;
}

static void release_step(step *s) {
    TRIAL_RELEASE(s->t, &s->q, &s->out, &s->starts, &s->slots, &s->scratch, &s->row_max, &s->row_lse);
    trial_cache_release(&s->pages);
}

/* Rows that a kv head of sequence b has in few bits: keys or values, floats. */
typedef vlcache_status few_rows(void *work, bool values, int b, int kv_head, float *to);

static vlcache_status check_head(const step *s, few_rows *rows, void *work, int b, int head, double *error) {
    size_t dim = (size_t)s->heads.head_dim, few = (size_t)s->of.rows * dim;
    size_t room = few + trial_cache_floats(&s->pages),
           at = ((size_t)b * (size_t)s->heads.heads + (size_t)head) * dim * sizeof(float);
    int kv_head = head / (s->heads.heads / s->heads.kv_heads);
    float *kv[2] = {memory_take(room, sizeof(float)), memory_take(room, sizeof(float))};
    float *q = memory_take(2 * dim, sizeof *q), *got = q + dim;
    double *want = memory_take(dim, sizeof *want);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = rows(work, i, b, kv_head, kv[i]);
        if (!status) status = trial_cache_read(&s->pages, i, b, 0, kv_head, kv[i] + few);
    }
    if (!status) status = vlci_read(s->t->device, s->q, at, q, dim * sizeof *q);
    if (!status) status = vlci_read(s->t->device, s->out, at, got, dim * sizeof *got);
    if (!status)
        trial_attend(q, kv[0], kv[1], s->of.rows + s->of.past + 1, (int)dim, (double)s->a.scale, want);
    *error = trial_worse(trial_off(got, want, dim), *error);
    free(kv[0]);
    free(kv[1]);
    free(q);
    free(want);
    return status;
}

/* The first head of the first sequence, and the last of the last. */
static vlcache_status check_step(const step *s, trial_launch *launch, few_rows *rows, void *work,
                                 double *error) {
    vlcache_status status = vlci_fill(s->t->device, s->out, 0, q_floats(s) * sizeof(float), 0xffffffffu);
    if (!status) status = launch(work);
    if (!status) status = check_head(s, rows, work, 0, 0, error);
    return status ? status : check_head(s, rows, work, s->of.batch - 1, s->heads.heads - 1, error);
}

static double pages_bytes(const step *s) {
    return 2.0 * s->of.batch * (s->of.past + 1) * s->heads.kv_heads * s->heads.head_dim *
           (double)vlci_dtype_bytes(s->heads.kv_dtype);
}

static step step_of(trials *t, const shape *of) {
    bool quick = t->b->options.quick;
    step s = {.t = t, .of = *of};
    s.heads = (vlci_compress_shape){.layers = 1,
                                    .heads = quick ? 4 : 32,
                                    .kv_heads = quick ? 2 : 8,
                                    .head_dim = quick ? 64 : 128,
                                    .kv_dtype = t->dtype};
    s.attended = (vlci_attention_shape){.heads = s.heads.heads,
                                        .kv_heads = s.heads.kv_heads,
                                        .head_dim = s.heads.head_dim,
                                        .kv_dtype = t->dtype,
                                        .rounded = t->dtype};
    snprintf(s.name, sizeof s.name, "%d x 1 rows over %d and %d keys in %d/%d heads of %d", of->batch,
             of->rows, of->past + 1, s.heads.heads, s.heads.kv_heads, s.heads.head_dim);
    return s;
}

/* ---- coded rows ---------------------------------------------------------------------------------------- */

typedef struct coded_work {
    step s;
    trial_coding coding;
    trial_case *c;
    vlci_codes *codes[TRIAL_SEQUENCES];
    vlci_kv kv[TRIAL_SEQUENCES], *sequences[TRIAL_SEQUENCES];
    vlci_coded_kernels read;
} coded_work;

/* Each sequence has codes of its own, of the same rows. */
static vlcache_status make_coded(void *work) {
    coded_work *w = work;
    vlcache_status status = make_step(&w->s);
    if (!status) status = trial_coding_make(&w->coding);
    for (int b = 0; b < w->s.of.batch && !status; b++) {
        status = trial_coding_open(&w->coding);
        if (!status) w->codes[b] = vlci_coding_finish(w->coding.coding, NULL, NULL);
        if (!status) w->c->what.amount += (double)vlci_codes_all_bytes(w->codes[b]);
        w->kv[b].codes = w->codes[b];
        w->sequences[b] = &w->kv[b];
        trial_coding_close(&w->coding);
    }
    w->c->what.amount += pages_bytes(&w->s);
    return status;
}

static vlcache_status open_coded(void *work) {
    coded_work *w = work;
    w->read = (vlci_coded_kernels){0};
    vlcache_status status = vlci_coded_open(w->s.t->device, &w->s.attended, &w->read);
    if (!status) status = vlci_coded_open_rows(&w->read);
    for (int b = 0; b < w->s.of.batch; b++) w->codes[b]->read = &w->read;
    return status;
}

static vlcache_status launch_coded(void *work) {
    const coded_work *w = work;
    bool pages = vlci_coded_sees_pages(w->sequences, &w->s.a);
    vlcache_status status = pages ? VLCACHE_OK : vlci_attention_run(&w->s.kernels, &w->s.a);
    return status ? status : vlci_coded_run(w->sequences, 0, &w->s.a, pages);
}

static vlcache_status coded_rows(void *work, bool values, int b, int kv_head, float *to) {
    const coded_work *w = work;
    return trial_coding_rows(w->codes[b], 2 * (size_t)kv_head + values, to);
}

static vlcache_status check_coded(void *work, double *error) {
    coded_work *w = work;
    return check_step(&w->s, launch_coded, coded_rows, w, error);
}

static vlcache_status try_coded(trials *t, const shape *of) {
    coded_work *w = memory_take(1, sizeof *w);
    w->s = step_of(t, of);
    w->coding = (trial_coding){
        .t = t, .shape = w->s.heads, .tokens = of->rows, .texts = t->b->options.quick ? 20 : 48};
    trial_case c = {
        .what = {.kernel = "attention_coded", .shape = w->s.name, .bytes = true, .tolerance = TOLERANCE},
        .work = w,
        .make = make_coded,
        .open = open_coded,
        .check = check_coded,
        .launch = launch_coded};
    w->c = &c;
    vlcache_status status = trial_ladder(t, &vlci_coded_ladder, &c);
    for (int b = 0; b < of->batch; b++) vlci_codes_release(&w->codes[b]);
    trial_coding_release(&w->coding);
    release_step(&w->s);
    free(w);
    return status;
}

/* ---- quantised rows ------------------------------------------------------------------------------------ */

typedef struct quantised_work {
    step s;
    trial_cache exact;
    trial_case *c;
    vlci_quantise_kernels kernels;
    vlci_quants *quants[TRIAL_SEQUENCES];
    vlci_quantised_kernels read;
} quantised_work;

static vlcache_status quantise(quantised_work *w, const vlci_recipe *recipe, const vlci_heads *h,
                               vlci_quants **out) {
    vlci_quantising *q = NULL;
    vlcache_status status =
        vlci_quantising_create(w->s.t->device, &w->kernels, &w->s.heads, recipe, h->own, &q);
    if (!status) status = vlci_quantising_write(q, h);
    if (!status) status = vlci_quantising_finish(q, NULL, out);
    vlci_quantising_destroy(&q);
    return status;
}

static vlcache_status quantise_all(quantised_work *w, const vlci_keep *own, cl_mem keep) {
    const vlci_recipe recipe = {
        .quantised = true, .key_bits = KEY_BITS, .value_bits = VALUE_BITS, .run = GROUP, .budget = 0.5};
    const vlci_heads h = {.device = w->s.t->device,
                          .shape = w->s.heads,
                          .layers = 1,
                          .tokens = w->s.of.rows,
                          .own = own,
                          .keep = keep,
                          .kv = vlci_kv_layer(&w->exact.kv[0], 0)};
    vlcache_status status = vlci_quantise_open(w->s.t->device, &w->s.heads, &recipe, &w->kernels);
    for (int b = 0; b < w->s.of.batch && !status; b++) {
        status = quantise(w, &recipe, &h, &w->quants[b]);
        if (!status) w->c->what.amount += (double)vlci_quants_all_bytes(w->quants[b]);
    }
    return status;
}

static vlcache_status make_quantised(void *work) {
    quantised_work *w = work;
    const vlci_compress_shape *h = &w->s.heads;
    const vlci_kv_shape exact = {h->layers, h->kv_heads, h->head_dim, h->kv_dtype};
    size_t heads = (size_t)h->kv_heads;
    vlci_keep *own = memory_take(heads, sizeof *own);
    cl_mem keep = NULL;
    for (size_t i = 0; i < heads; i++) own[i].kept = w->s.of.rows;
    vlcache_status status = make_step(&w->s);
    if (!status) status = trial_cache_make(w->s.t, &exact, 1, w->s.of.rows, w->s.of.rows, &w->exact);
    if (!status) status = trial_bytes(w->s.t, own, heads * sizeof *own, &keep);
    if (!status) status = quantise_all(w, own, keep);
    w->c->what.amount += pages_bytes(&w->s);
    vlci_memory_release(w->s.t->device, &keep);
    free(own);
    return status;
}

static vlcache_status open_quantised(void *work) {
    quantised_work *w = work;
    w->read = (vlci_quantised_kernels){0};
    for (int b = 0; b < w->s.of.batch; b++) w->quants[b]->read = &w->read;
    return vlci_quantised_open(w->s.t->device, &w->s.attended, KEY_BITS, VALUE_BITS, &w->read);
}

static vlcache_status launch_quantised(void *work) {
    const quantised_work *w = work;
    vlcache_status status = vlci_attention_run(&w->s.kernels, &w->s.a);
    for (int b = 0; b < w->s.of.batch && !status; b++)
        status = vlci_quantised_run(w->quants[b], 0, &w->s.a, b, 1);
    return status;
}

/* Code of row r, of 16, and dimension d in a block, where 2 or 4 bits are. */
static float code_at(const uint32_t *block, int bits, size_t d, size_t r) {
    size_t bit = 16 * (size_t)bits * d + (size_t)bits * r;
    return (float)(block[bit / 32] >> bit % 32 & ((1u << bits) - 1));
}

static vlcache_status quantised_rows(void *work, bool values, int b, int kv_head, float *to) {
    const quantised_work *w = work;
    const vlci_quants *k = w->quants[b];
    size_t dim = (size_t)k->head_dim, n = (size_t)w->s.of.rows,
           channels = (size_t)vlci_quants_channels(k->head_dim, k->group);
    int bits = values ? VALUE_BITS : KEY_BITS;
    size_t words = (size_t)VLCI_QUANT_WORDS(bits, dim), all = (size_t)k->blocks * words,
           scales = values ? (size_t)k->blocks * channels * 32 : (size_t)k->groups * 2 * dim;
    uint32_t *stored = memory_take(all, sizeof *stored);
    uint16_t *halves = memory_take(scales, sizeof *halves);
    float *scale = memory_take(scales, sizeof *scale);
    vlcache_status status =
        vlci_read(k->device, values ? k->values : k->keys, 0, stored, all * sizeof *stored);
    if (!status)
        status =
            vlci_read(k->device, values ? k->value_scale : k->key_scale, 0, halves, scales * sizeof *halves);
    vlci_widen(halves, VLCACHE_DTYPE_F16, scale, scales);
    for (size_t i = 0; i < n * dim; i++) {
        size_t j = i / dim, d = i % dim, block = (size_t)k->own[kv_head].block + j / 16,
               at = values ? (block * channels + d / (size_t)k->group) * 32 + j % 16
                           : ((size_t)k->own[kv_head].group + j / (size_t)k->group) * 2 * dim + d;
        to[i] =
            scale[at + (values ? 16 : dim)] + scale[at] * code_at(stored + block * words, bits, d, j % 16);
    }
    free(stored);
    free(halves);
    free(scale);
    return status;
}

static vlcache_status check_quantised(void *work, double *error) {
    quantised_work *w = work;
    return check_step(&w->s, launch_quantised, quantised_rows, w, error);
}

static vlcache_status try_quantised(trials *t, const shape *of) {
    quantised_work *w = memory_take(1, sizeof *w);
    w->s = step_of(t, of);
    trial_case c = {
        .what = {.kernel = "attention_quantised", .shape = w->s.name, .bytes = true, .tolerance = TOLERANCE},
        .work = w,
        .make = make_quantised,
        .open = open_quantised,
        .check = check_quantised,
        .launch = launch_quantised};
    w->c = &c;
    vlcache_status status = trial_ladder(t, &vlci_quantised_ladder, &c);
    for (int b = 0; b < of->batch; b++) vlci_quants_release(&w->quants[b]);
    trial_cache_release(&w->exact);
    release_step(&w->s);
    free(w);
    return status;
}

vlcache_status few_trials(trials *t) {
    static const shape shapes[] = {{1, 2048, 64}, {1, 8192, 64}, {16, 2048, 64}},
                       quick[] = {{1, 150, 20}, {3, 90, 20}};
    const shape *all = t->b->options.quick ? quick : shapes;
    int n = t->b->options.quick ? 2 : 3;
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) status = try_coded(t, &all[i]);
    for (int i = 0; i < n && !status; i++) status = try_quantised(t, &all[i]);
    return status;
}
