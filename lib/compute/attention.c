/*
 * attention.c - launches attention over cached rows: which rung, and in which pieces.
 *
 *     few query rows ----> split, or split_wide on processors; attention_merge when the keys are divided
 *     many query rows ---> wide on processors, else rows
 */
#include "compute/attention.h"

#include <stdio.h>
#include <string.h>

#include "device/ladder.h"

/* FEW_ROWS: of a sequence, up to which it is decode. HEADS_MAX: lanes (query rows of heads that share a kv
 * head) that go together in the kernels of decode. */
enum { ARGS = 22, OPTIONS = 96, FEW_ROWS = 8, HEADS_MAX = 4, SHARES_MAX = 256 };

/* attention_split.cl's */
enum { SPLIT_LANES = 128, SPLIT_SPAN = 64, WIDE_SPAN = 256 };

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

static vlcache_status run_wide(vlcache_device *device, const vlci_attention *a) {
    enum { TILES = 2, LANES = 16 * TILES };
    const vlci_kernel *kernel;
    char more[32];
    snprintf(more, sizeof more, " -DTILES=%d", TILES);
    vlcache_status status = get_kernel(device, a, "attention_wide.cl", "attention_wide", more, &kernel);
    if (status) return status;
    vlci_arg args[ARGS];
    list_args(a, args);
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(a);
    vlci_grid grid = VLCI_GRID(ceil_div(lanes, LANES), (size_t)a->kv_heads, (size_t)a->batch, 1, 1, 1);
    return vlci_launch(device, kernel, grid, args, ARGS);
}

/* ---- decode: keys divided into shares ------------------------------------------------------------------ */

/* Work-items of a work-group: a power of two that the device takes. */
static int split_lanes(const vlcache_device *device) {
    int lanes = SPLIT_LANES;
    while (lanes > 1 && (size_t)lanes > device->caps.max_group) lanes /= 2;
    return lanes;
}

/* Bytes of local memory, as attention_split.cl declares it. */
static size_t split_local(int lanes, int heads, int head_dim) {
    size_t dots = (size_t)SPLIT_SPAN * ((size_t)head_dim / 8 + 1), sums = (size_t)lanes * 8;
    size_t floats = (size_t)heads * ((dots > sums ? dots : sums) + SPLIT_SPAN + 1) + (size_t)lanes;
    return floats * sizeof(float);
}

/* How decode is divided. */
typedef struct division {
    int heads;     /* lanes that go together */
    size_t groups; /* of lanes, for each sequence and kv head */
    int shares, share;
} division;

/* Pieces of work that keep a device busy: a work-item for each processor, or some work-groups to choose from.
 */
static size_t pieces_wanted(const vlcache_device *device, bool wide) {
    return (size_t)device->caps.info.compute_units * (wide ? 1 : 4);
}

/* As many shares as keep the device busy, none shorter than a span. */
static division divide(const vlcache_device *device, const vlci_attention *a, bool wide) {
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(a), shares = 1;
    division d = {.heads = lanes > 2 ? HEADS_MAX : lanes > 1 ? 2 : 1, .shares = 1};
    d.groups = ceil_div(lanes, (size_t)d.heads);
    size_t pieces = d.groups * (size_t)a->kv_heads * (size_t)a->batch, keys = (size_t)a->max_keys;
    if (a->scratch && keys && pieces && a->max_rows <= FEW_ROWS)
        shares = ceil_div(pieces_wanted(device, wide), pieces);
    if (shares > SHARES_MAX) shares = SHARES_MAX;
    size_t span = wide ? WIDE_SPAN : SPLIT_SPAN, share = ceil_div(ceil_div(keys, shares), span) * span;
    if (shares > 1) d.shares = (int)ceil_div(keys, share);
    d.share = (int)share;
    return d;
}

/* Of attention_split.cl: acc, m and l of each lane of a piece. */
static size_t piece_bytes(int heads, int head_dim) {
    return (size_t)heads * ((size_t)head_dim + 2) * sizeof(float);
}

size_t vlci_attention_scratch_bytes(const vlcache_device *device, int batch, int heads, int kv_heads,
                                    int head_dim) {
    size_t groups = ceil_div((size_t)FEW_ROWS * (size_t)(heads / kv_heads), HEADS_MAX);
    size_t pieces = groups * (size_t)kv_heads * (size_t)batch;
    return (pieces_wanted(device, false) + pieces) * piece_bytes(HEADS_MAX, head_dim);
}

static vlcache_status merge(vlcache_device *device, const vlci_attention *a, const division *d,
                            const char *more) {
    const vlci_kernel *kernel;
    vlcache_status status = get_kernel(device, a, "attention_split.cl", "attention_merge", more, &kernel);
    if (status) return status;
    size_t items = kernel->max_group < 64 ? kernel->max_group : 64, n = (size_t)(d->heads * a->head_dim);
    vlci_grid grid =
        VLCI_GRID(ceil_div(n, items), (size_t)a->kv_heads * d->groups, (size_t)a->batch, items, 1, 1);
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(a->scratch), VLCI_I32(d->shares), VLCI_MEM(a->out),
                       VLCI_MEM(a->seq_start), VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse), VLCI_I32(a->heads),
                       VLCI_I32(a->kv_heads));
}

static vlcache_status launch_shares(vlcache_device *device, const vlci_attention *a, const char *name,
                                    size_t items) {
    division d = divide(device, a, items == 1);
    char more[48];
    snprintf(more, sizeof more, " -DHEADS=%d -DLANES=%d", d.heads, split_lanes(device));
    const vlci_kernel *kernel;
    vlcache_status status = get_kernel(device, a, "attention_split.cl", name, more, &kernel);
    if (status) return status;
    if (items > kernel->max_group) return run_rows(device, a); /* too many registers there */
    vlci_arg args[ARGS + 2];
    list_args(a, args);
    args[ARGS] = VLCI_MEM(a->scratch);
    args[ARGS + 1] = VLCI_I32(d.share);
    vlci_grid grid =
        VLCI_GRID((size_t)d.shares, (size_t)a->kv_heads * d.groups, (size_t)a->batch, items, 1, 1);
    status = vlci_launch(device, kernel, grid, args, ARGS + 2);
    return status || d.shares == 1 ? status : merge(device, a, &d, more);
}

static vlcache_status run_split(vlcache_device *device, const vlci_attention *a) {
    int lanes = split_lanes(device);
    if (lanes < a->head_dim / 8 || split_local(lanes, HEADS_MAX, a->head_dim) > device->caps.local_bytes)
        return run_rows(device, a);
    return launch_shares(device, a, "attention_split", (size_t)lanes);
}

static vlcache_status run_split_wide(vlcache_device *device, const vlci_attention *a) {
    return launch_shares(device, a, "attention_split_wide", 1);
}

/* ---- the ladders --------------------------------------------------------------------------------------- */

static const char *const prefill_rungs[] = {"wide", "rows", NULL};
static const char *const decode_rungs[] = {"split", "split_wide", "wide", "rows", NULL};

static const char *choose_prefill(const vlcache_device *device) {
    return device->caps.wide_vectors ? "wide" : "rows";
}

/* Work-groups of less than 16 items are not worth their barriers. */
static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "split") != 0 || split_lanes(device) >= 16;
}

static const char *choose_decode(const vlcache_device *device) {
    if (device->caps.wide_vectors) return "split_wide";
    return rung_fits(device, "split") ? "split" : "rows";
}

const vlci_ladder vlci_attention_prefill_ladder = {"attention", "prefill", prefill_rungs, rung_fits,
                                                   choose_prefill};
const vlci_ladder vlci_attention_decode_ladder = {"attention", "decode", decode_rungs, rung_fits,
                                                  choose_decode};

/* On processors, a vector of lanes pays from 9 lanes on. */
static vlcache_status pick(const vlcache_device *device, const vlci_attention *a, const char **rung) {
    if (a->max_rows > FEW_ROWS)
        return vlci_rung(device, &vlci_attention_prefill_ladder, choose_prefill(device), rung);
    bool full = device->caps.wide_vectors && a->max_rows * group_of(a) > 8;
    return vlci_rung(device, &vlci_attention_decode_ladder, full ? "wide" : choose_decode(device), rung);
}

static const struct {
    const char *name;
    vlcache_status (*run)(vlcache_device *device, const vlci_attention *a);
} launchers[] = {
    {"wide", run_wide}, {"split", run_split}, {"split_wide", run_split_wide}, {"rows", run_rows}};

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
    status = pick(device, a, &rung);
    if (status) return status;
    size_t i = 0;
    while (strcmp(launchers[i].name, rung) != 0) i++;
    return launchers[i].run(device, a);
}
