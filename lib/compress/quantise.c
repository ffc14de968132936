/*
 * quantise.c - a budget in bytes -> rows, and rows in pages -> few bits a number: what cl/quantise.cl does,
 * launched.
 *
 *     bytes(head) = blocks (words + scales of values + biases) + groups (scales of keys) + its place
 *     rows        = the largest share of all rows whose bytes, of all heads together, are within the budget
 */
#include "compress/quantise.h"

#include <stdio.h>

#include "compress/budget.h"
#include "core/alloc.h"

static size_t n_heads(const vlci_compress_shape *s) {
    return (size_t)s->layers * (size_t)s->kv_heads;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

vlcache_status vlci_quantise_open(vlcache_device *device, const vlci_compress_shape *s, const vlci_recipe *r,
                                  vlci_quantise_kernels *out) {
    const vlci_attention_shape attention = {.heads = s->heads,
                                            .kv_heads = s->kv_heads,
                                            .head_dim = s->head_dim,
                                            .kv_dtype = s->kv_dtype,
                                            .rounded = s->kv_dtype,
                                            .cap = s->cap};
    const struct {
        const char *name;
        const vlci_kernel **kernel;
    } all[] = {
        {"quantise_keys", &out->keys}, {"quantise_ranges", &out->ranges}, {"quantise_values", &out->values}};
    char options[64];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    vlcache_status status = vlci_few_check(s->head_dim);
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
        status = vlci_kernel_get(device, "quantise.cl", all[i].name, options, all[i].kernel);
    return status ? status
                  : vlci_quantised_open(device, &attention, r->key_bits, r->value_bits, &out->attention);
}

/* ---- budgets ------------------------------------------------------------------------------------------- */

/* Bytes of a row of one head: in pages, and quantised, without what its head costs beside. */
static double page_bytes(int head_dim, vlcache_dtype dtype) {
    return 2.0 * head_dim * (double)vlci_dtype_bytes(dtype);
}

static double row_bytes(const vlci_recipe *r, int head_dim) {
    double keys = 2.0 * head_dim * sizeof(cl_half) / r->run;
    double values = 2.0 * vlci_quants_channels(head_dim, r->run) * sizeof(cl_half);
    return (r->key_bits + r->value_bits) * head_dim / 8.0 + keys + values +
           (r->centroids > 0.0 ? (double)sizeof(cl_half) : 0.0);
}

vlci_recipe vlci_quantise_rows(const vlci_recipe *r, int head_dim, vlcache_dtype dtype) {
    vlci_recipe rows = *r;
    if (!vlci_quantise_wanted(r)) return rows;
    rows.budget = r->budget * page_bytes(head_dim, dtype) / row_bytes(r, head_dim);
    if (rows.budget > 1.0) rows.budget = 1.0;
    return rows;
}

static vlci_quants shape_of(const vlci_recipe *r, const vlci_compress_shape *s) {
    return (vlci_quants){.layers = s->layers,
                         .kv_heads = s->kv_heads,
                         .head_dim = s->head_dim,
                         .key_bits = r->key_bits,
                         .value_bits = r->value_bits,
                         .group = r->run};
}

/* Of what layers keep; heads that share theirs unevenly may fill up a block and a group more each. */
static uint64_t bytes_of(const vlci_recipe *r, const vlci_compress_shape *s,
                         const vlcache_compress_layer *layer) {
    vlci_quants all = shape_of(r, s);
    for (int l = 0; l < s->layers; l++) {
        int rows = layer[l].kept + layer[l].centroids;
        all.biased |= layer[l].centroids > 0;
        for (int h = 0; h < s->kv_heads; h++) {
            (void)vlci_quants_place(&all, rows);
            if (!r->adaptive) continue;
            all.blocks++;
            all.groups++;
        }
    }
    vlci_quants_bytes bytes = vlci_quants_count(&all);
    return vlci_quants_sum(&bytes);
}

void vlci_quantise_budget(const vlci_recipe *r, const vlci_compress_shape *s, int tokens, int layers,
                          vlcache_compress_layer *layer) {
    enum { STEPS = 40 };
    double room = r->budget * tokens * (double)n_heads(s) * page_bytes(s->head_dim, s->kv_dtype);
    vlci_recipe rows = vlci_quantise_rows(r, s->head_dim, s->kv_dtype);
    double low = 0.0, high = rows.budget;
    vlci_budget_share(&rows, tokens, 0, layers, s->layers, layer);
    if (layers < s->layers || (double)bytes_of(r, s, layer) <= room) return;
    for (int i = 0; i < STEPS; i++) {
        rows.budget = (low + high) / 2.0;
        vlci_budget_share(&rows, tokens, 0, layers, s->layers, layer);
        if ((double)bytes_of(r, s, layer) <= room)
            low = rows.budget;
        else
            high = rows.budget;
    }
    rows.budget = low;
    vlci_budget_share(&rows, tokens, 0, layers, s->layers, layer);
}

/* The budget, or one row of each head; a block and a group more of each that has a share of its own. */
uint64_t vlci_quantise_bound(const vlci_recipe *r, const vlci_compress_shape *s, int tokens) {
    double room = r->budget * tokens * (double)n_heads(s) * page_bytes(s->head_dim, s->kv_dtype);
    vlci_quants least = shape_of(r, s);
    least.biased = r->centroids > 0.0;
    for (size_t h = 0; h < n_heads(s); h++) (void)vlci_quants_place(&least, 2);
    vlci_quants_bytes bytes = vlci_quants_count(&least);
    return (uint64_t)room + vlci_quants_sum(&bytes);
}

/* All but the youngest, in the smallest blocks that they can go in. */
uint64_t vlci_quantise_aging_bound(const vlci_recipe *r, const vlci_compress_shape *s, int rows) {
    vlci_quants block = shape_of(r, s);
    for (size_t h = 0; h < n_heads(s); h++) (void)vlci_quants_place(&block, r->age);
    vlci_quants_bytes bytes = vlci_quants_count(&block);
    return (uint64_t)(rows / r->age - 1) * vlci_quants_sum(&bytes);
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status make_quants(vlci_quantising *q, const vlci_recipe *recipe, const vlci_keep *own) {
    vlci_quants shape = shape_of(recipe, &q->shape);
    int *rows = vlci_alloc(n_heads(&q->shape), sizeof *rows);
    if (!rows) return vlci_fail_memory("quantised rows");
    for (size_t i = 0; i < n_heads(&q->shape); i++) {
        rows[i] = own[i].kept + own[i].centroids;
        shape.biased |= own[i].centroids > 0;
    }
    shape.device = q->device;
    shape.read = &q->kernels->attention;
    vlcache_status status = vlci_quants_create(&shape, rows, &q->quants);
    if (!status) q->bytes = vlci_quants_count(q->quants);
    vlci_free(rows);
    return status;
}

static vlcache_status write_tables(vlci_quantising *q, const vlci_keep *own) {
    size_t n = n_heads(&q->shape), bytes = n * sizeof *own;
    int zero = 0;
    q->none = vlci_calloc(n, sizeof *q->none);
    vlci_keep *held = vlci_calloc(n, sizeof *held);
    vlcache_status status = q->none && held ? VLCACHE_OK : vlci_fail_memory("quantised rows");
    for (size_t i = 0; i < n && !status; i++) {
        q->none[i].before = held[i].before = own[i].before;
        held[i].kept = own[i].kept + own[i].centroids;
    }
    if (!status) status = vlci_memory_create(q->device, bytes, "quantising: heads", &q->keep);
    if (!status) status = vlci_write_later(q->device, q->keep, 0, q->none, bytes);
    if (!status) status = vlci_memory_create(q->device, bytes, "quantising: heads", &q->held);
    if (!status) status = vlci_write_later(q->device, q->held, 0, held, bytes);
    if (!status) status = vlci_memory_create(q->device, 2 * n * sizeof zero, "quantising: flags", &q->bad);
    if (!status) status = vlci_fill(q->device, q->bad, 0, 2 * n * sizeof zero, 0);
    vlci_free(held);
    return status;
}

vlcache_status vlci_quantising_create(vlcache_device *device, const vlci_quantise_kernels *kernels,
                                      const vlci_compress_shape *shape, const vlci_recipe *recipe,
                                      const vlci_keep *own, vlci_quantising **out) {
    vlci_quantising *q = vlci_calloc(1, sizeof *q);
    *out = NULL;
    if (!q) return vlci_fail_memory("quantised rows");
    q->device = device;
    q->kernels = kernels;
    q->shape = *shape;
    q->key_bits = recipe->key_bits;
    q->value_bits = recipe->value_bits;
    vlcache_status status = make_quants(q, recipe, own);
    if (!status) status = write_tables(q, own);
    if (status)
        vlci_quantising_destroy(&q);
    else
        *out = q;
    return status;
}

void vlci_quantising_destroy(vlci_quantising **quantising) {
    vlci_quantising *q = *quantising;
    if (!q) return;
    vlci_quants_release(&q->quants);
    vlci_memory_release(q->device, &q->keep);
    vlci_memory_release(q->device, &q->held);
    vlci_memory_release(q->device, &q->bad);
    vlci_free(q->none);
    vlci_free(q);
    *quantising = NULL;
}

/* ---- codes --------------------------------------------------------------------------------------------- */

/* Most rows of a head of these. */
static size_t most_rows(const vlci_quantising *q, const vlci_heads *h) {
    size_t most = 1;
    for (int i = 0; i < vlci_heads_n(h); i++) {
        size_t rows = (size_t)q->quants->own[vlci_heads_first(h) + i].rows;
        if (rows > most) most = rows;
    }
    return most;
}

vlcache_status vlci_quantising_write(vlci_quantising *q, const vlci_heads *h) {
    const vlci_quantise_kernels *k = q->kernels;
    const vlci_quants *to = q->quants;
    size_t dim = (size_t)q->shape.head_dim, n = (size_t)vlci_heads_n(h), rows = most_rows(q, h);
    size_t blocks = (rows + VLCI_CODE_ROWS - 1) / VLCI_CODE_ROWS;
    size_t groups = (rows + (size_t)to->group - 1) / (size_t)to->group;
    size_t channels = (size_t)vlci_quants_channels(to->head_dim, to->group);
    vlcache_status status =
        VLCI_LAUNCH(q->device, k->keys, vlci_grid_over(k->keys, dim, groups, n),
                    VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(to->head),
                    VLCI_U32(vlci_heads_first(h)), VLCI_I32(to->group), VLCI_I32(to->key_bits),
                    VLCI_MEM(to->keys), VLCI_MEM(to->key_scale), VLCI_MEM(q->bad));
    if (!status)
        status =
            VLCI_LAUNCH(q->device, k->ranges, vlci_grid_over(k->ranges, blocks * VLCI_CODE_ROWS, channels, n),
                        VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(to->head),
                        VLCI_U32(vlci_heads_first(h)), VLCI_I32(to->group), VLCI_I32(to->value_bits),
                        VLCI_MEM(to->value_scale), VLCI_MEM(to->bias), VLCI_MEM(q->bad));
    if (status) return status;
    return VLCI_LAUNCH(q->device, k->values, vlci_grid_over(k->values, dim, blocks, n),
                       VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(to->head),
                       VLCI_U32(vlci_heads_first(h)), VLCI_I32(to->group), VLCI_I32(to->value_bits),
                       VLCI_MEM(to->values), VLCI_MEM(to->value_scale));
}

/* ---- what stays in pages ------------------------------------------------------------------------------- */

vlcache_status vlci_quantising_drop(vlci_quantising *q, const vlci_compact_kernels *compact,
                                    const vlci_heads *heads, int decoded, cl_mem positions, cl_mem to,
                                    vlci_kv *kv) {
    vlci_heads h = *heads;
    vlci_stay stay = {positions, q->held, positions, decoded};
    h.own = q->none;
    h.keep = q->keep;
    if (!q->quants->biased && !vlci_kv_shared(kv, h.layer, h.layers, q->none))
        return vlci_compact_within(&h, compact, &stay, kv);
    vlci_kv_next next;
    vlcache_status status = vlci_compact_into(&h, compact, &stay, h.layer, to, kv, &next);
    if (!status) vlci_kv_replaced(kv, &next);
    return status;
}

/* ---- handing over -------------------------------------------------------------------------------------- */

static vlcache_status check_finite(const vlci_quantising *q) {
    size_t n = 2 * n_heads(&q->shape);
    int kv_heads = q->shape.kv_heads;
    int *bad = vlci_alloc(n, sizeof *bad);
    vlcache_status status =
        bad ? vlci_read(q->device, q->bad, 0, bad, n * sizeof *bad) : vlci_fail_memory("quantised rows");
    for (int m = 0; m < (int)n && !status; m++)
        if (bad[m])
            status = vlci_fail(VLCACHE_E_UNSUPPORTED,
                               "compress: storage: layer %d, kv head %d: %s that are not finite, or beyond "
                               "65504, cannot be quantised",
                               m / 2 / kv_heads, m / 2 % kv_heads, m % 2 ? "values" : "keys");
    vlci_free(bad);
    return status;
}

vlcache_status vlci_quantising_finish(vlci_quantising *q, vlci_quants *before, vlci_quants **out) {
    vlcache_status status = check_finite(q);
    if (status) return status;
    *out = q->quants;
    q->quants->before = before;
    q->quants = NULL;
    return VLCACHE_OK;
}

/* ---- rows that age ------------------------------------------------------------------------------------- */

/* Rows of whole blocks that are old enough; 0 where heads hold rows of different numbers, too. */
static int aged_rows(const vlci_compress_shape *s, const vlci_recipe *r, const vlci_kv *kv) {
    int rows = kv->list[0].rows;
    for (size_t i = 1; i < n_heads(s); i++)
        if (kv->list[i].rows != rows) return 0;
    return r->age && rows >= 2 * r->age ? (rows / r->age - 1) * r->age : 0;
}

static vlcache_status store_aged(vlci_quantising *q, const vlci_compact_kernels *compact, vlci_kv *kv,
                                 int rows) {
    vlci_heads h = {.device = q->device,
                    .shape = q->shape,
                    .layers = q->shape.layers,
                    .tokens = rows,
                    .own = q->none,
                    .keep = q->held};
    cl_mem to = NULL;
    int left = kv->list[0].rows - rows;
    vlci_kv_catch_up(kv);
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    h.kv = vlci_kv_layer(kv, 0);
    h.heads_at = vlci_kv_heads_at(kv, 0);
    if (!status)
        status = vlci_memory_create(q->device, n_heads(&q->shape) * sizeof(vlci_kv_head), "quantising: heads",
                                    &to);
    if (!status) status = vlci_quantising_write(q, &h);
    if (!status) status = vlci_quantising_drop(q, compact, &h, left, q->bad, to, kv);
    if (!status) status = vlci_quantising_finish(q, kv->quants, &kv->quants);
    vlci_memory_release(q->device, &to);
    return status;
}

bool vlci_quantise_ages(const vlci_compress_shape *s, const vlci_recipe *r, const vlci_kv *kv) {
    return aged_rows(s, r, kv) > 0;
}

vlcache_status vlci_quantise_aged(const vlci_quantise_kernels *kernels, const vlci_compact_kernels *compact,
                                  const vlci_compress_shape *s, const vlci_recipe *r, vlci_kv *kv) {
    int rows = aged_rows(s, r, kv);
    vlci_quantising *q = NULL;
    if (!rows) return VLCACHE_OK;
    vlci_keep *own = vlci_calloc(n_heads(s), sizeof *own);
    for (size_t i = 0; own && i < n_heads(s); i++) own[i].kept = rows;
    vlcache_status status = own ? vlci_quantising_create(kv->pool->device, kernels, s, r, own, &q)
                                : vlci_fail_memory("aged rows");
    if (!status) vlci_quants_count_in(q->quants, kv->pool);
    if (!status) status = store_aged(q, compact, kv, rows);
    vlci_quantising_destroy(&q);
    vlci_free(own);
    return status;
}
