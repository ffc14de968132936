/*
 * attention.c - launches attention over cached rows: which rung, and in which pieces.
 *
 *     processors with wide vectors ---> wide
 *     else ---------------------------> rows
 */
#include "attention.h"

#include <stdio.h>
#include <string.h>

#include "device/ladder.h"

enum { ARGS = 22, OPTIONS = 96 };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* Query heads that share a kv head. */
static int group_of(const vlci_attention *a) {
    return a->heads / a->kv_heads;
}

/* The arguments that all kernels begin with. */
static void list_args(const vlci_attention *a, vlci_arg out[ARGS]) {
    const vlci_arg all[ARGS] = {VLCI_MEM(a->q),           VLCI_MEM(a->k),          VLCI_MEM(a->v),
                                VLCI_MEM(a->out),         VLCI_MEM(a->seq_start),  VLCI_MEM(a->past),
                                VLCI_I32(a->past_offset), VLCI_MEM(a->bias),       VLCI_U32(a->bias_stride),
                                VLCI_MEM(a->row_max),     VLCI_MEM(a->row_lse),    VLCI_I32(a->heads),
                                VLCI_I32(a->kv_heads),    VLCI_I32(a->causal),     VLCI_F32(a->scale),
                                VLCI_U32(a->q_offset),    VLCI_U32(a->q_stride),   VLCI_U32(a->k_offset),
                                VLCI_U32(a->v_offset),    VLCI_U32(a->seq_stride), VLCI_U32(a->head_stride),
                                VLCI_U32(a->row_stride)};
    memcpy(out, all, sizeof all);
}

static vlcache_status get_kernel(vlcache_device *device, const vlci_attention *a, const char *file,
                                 const char *name, const char *more, const vlci_kernel **out) {
    char options[OPTIONS];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DKV_DTYPE=%d -DBIAS=%d%s", a->head_dim,
             (int)a->kv_dtype, a->bias != NULL, more);
    return vlci_kernel_get(device, file, name, options, out);
}

static vlcache_status run_rows(vlcache_device *device, const vlci_attention *a) {
    const vlci_kernel *kernel;
    vlcache_status status = get_kernel(device, a, "attention.cl", "attention_rows", "", &kernel);
    if (status) return status;
    size_t items = device->caps.wide_vectors ? 1 : kernel->max_group < 64 ? kernel->max_group : 64;
    vlci_arg args[ARGS];
    list_args(a, args);
    vlci_grid grid =
        VLCI_GRID(ceil_div((size_t)a->max_rows, items), (size_t)a->heads, (size_t)a->batch, items, 1, 1);
    return vlci_launch(device, kernel, grid, args, ARGS);
}

/* -w: where a compiler must halve vectors of 512 bits, it warns at each of them. */
static vlcache_status run_wide(vlcache_device *device, const vlci_attention *a) {
    enum { TILES = 2, LANES = 16 * TILES };
    const vlci_kernel *kernel;
    char more[32];
    snprintf(more, sizeof more, " -DTILES=%d -w", TILES);
    vlcache_status status = get_kernel(device, a, "attention_wide.cl", "attention_wide", more, &kernel);
    if (status) return status;
    vlci_arg args[ARGS];
    list_args(a, args);
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(a);
    vlci_grid grid = VLCI_GRID(ceil_div(lanes, LANES), (size_t)a->kv_heads, (size_t)a->batch, 1, 1, 1);
    return vlci_launch(device, kernel, grid, args, ARGS);
}

static const char *const rung_names[] = {"wide", "rows", NULL};
static vlcache_status (*const run_rung[])(vlcache_device *device, const vlci_attention *a) = {run_wide,
                                                                                              run_rows};

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors ? "wide" : "rows";
}

const vlci_ladder vlci_attention_ladder = {"attention", "prefill, decode", rung_names, NULL, choose};

/* Kernels take strides and first elements in 32 bits, and compute with them in size_t. */
static vlcache_status check(const vlci_attention *a) {
    const size_t numbers[] = {a->k_offset,   a->v_offset, a->seq_stride, a->head_stride,
                              a->row_stride, a->q_stride, a->q_offset,   a->bias_stride};
    if (a->head_dim < 8 || a->head_dim % 8)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "head_dim %d: attention takes multiples of 8", a->head_dim);
    if (a->kv_heads < 1 || a->heads % a->kv_heads)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "%d query heads cannot share %d kv heads evenly", a->heads,
                         a->kv_heads);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i] > UINT32_MAX)
            return vlci_fail(VLCACHE_E_UNSUPPORTED,
                             "attention: a stride of %zu elements, kernels take less than 2^32", numbers[i]);
    return VLCACHE_OK;
}

vlcache_status vlci_attention_run(vlcache_device *device, const vlci_attention *a) {
    vlcache_status status = check(a);
    if (status) return status;
    const char *rung;
    status = vlci_rung(device, &vlci_attention_ladder, choose(device), &rung);
    if (status) return status;
    int i = 0;
    while (strcmp(rung_names[i], rung)) i++;
    return run_rung[i](device, a);
}
