/*
 * attention.c - launches attention over cached rows: which rung, and in which pieces.
 *
 *     few query rows ----> split, or split_wide on processors; attention_merge when the keys are divided
 *     many query rows ---> amx or wgmma where the device and the shape allow it, wide on processors,
 *                          tile where a work-group can have one, else rows
 */
#include "compute/attention.h"

#include <stdio.h>
#include <string.h>

#include "core/locale.h"

/* FEW_ROWS: of a sequence, up to which it is decode. HEADS_MAX: lanes (query rows of heads that share a kv
 * head) that go together in the kernels of decode. */
enum {
    OWN_ARGS = 11,
    MORE_ARGS = 4, /* a window, and three of a rung's own */
    OPTIONS = 160,
    FEW_ROWS = 8,
    HEADS_MAX = 4,
    MMA_HEADS = 8,
    FEW_LANES = 64,    /* of mma where there are many short pieces: two warps, */
    SMALL_KEYS = 1024, /* so that more of them run at a time; long ones read faster with four */
    SHARES_MAX = 256,
    TILE_KEYS = 128,
    TILE_SMALL_KEYS = 64,
    AMX_DIM = 256, /* most that amx has room for */
    AMX_ITEMS = 4, /* least work-items of amx for each processor */
    SPILL_MAX = 64 /* bytes of a work-item that a tile may keep outside registers */
};

enum { AMX, PAIRS, WIDE, WGMMA, TILE, MMA, SPLIT, SPLIT_WIDE, ROWS };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* Query heads that share a kv head. */
static int group_of(const vlci_attention_kernels *k) {
    return k->shape.heads / k->shape.kv_heads;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

const char *vlci_attention_cap(float cap, char option[VLCI_ATTENTION_CAP]) {
    option[0] = 0;
    if (cap > 0) vlci_snprintf(option, VLCI_ATTENTION_CAP, " -DSOFT_CAP=%.8ef", (double)cap);
    return option;
}

static vlcache_status get_kernel(const vlci_attention_kernels *k, bool windowed, const char *file,
                                 const char *name, const char *more, const vlci_kernel **out) {
    char options[OPTIONS], cap[VLCI_ATTENTION_CAP];
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DKV_DTYPE=%d%s%s%s", k->shape.head_dim,
             (int)k->shape.kv_dtype, more, windowed ? " -DWINDOWED=1" : "",
             vlci_attention_cap(k->shape.cap, cap));
    return vlci_kernel_get(k->device, file, name, options, out);
}

/* Work-items of a work-group of split: a power of two that the device takes. */
static int split_lanes(const vlcache_device *device) {
    int lanes = VLCI_ATTENTION_LANES;
    while (lanes > 1 && (size_t)lanes > device->caps.max_group) lanes /= 2;
    return lanes;
}

/* Each of these keeps out->windowed. */
static void begin_rung(int rung, vlci_attention_rung *out) {
    *out = (vlci_attention_rung){.rung = rung, .windowed = out->windowed};
}

static vlcache_status open_rows(const vlci_attention_kernels *k, vlci_attention_rung *out) {
    begin_rung(ROWS, out);
    return get_kernel(k, out->windowed, "attention.cl", "attention_rows", "", &out->kernel[0]);
}

static vlcache_status open_wide(const vlci_attention_kernels *k, vlci_attention_rung *out) {
    begin_rung(WIDE, out);
    return get_kernel(k, out->windowed, "attention_wide.cl", "attention_wide", "", &out->kernel[0]);
}

/* What matrix units read. */
static vlcache_dtype read_as(const vlci_attention_shape *s) {
    return s->kv_dtype == VLCACHE_DTYPE_F32 ? s->rounded : s->kv_dtype;
}

static vlcache_status open_amx(const vlci_attention_kernels *k, int rung, vlci_attention_rung *out) {
    char more[24];
    bool unit = rung == AMX;
    if (read_as(&k->shape) != VLCACHE_DTYPE_BF16 || k->shape.head_dim > AMX_DIM) return open_wide(k, out);
    begin_rung(rung, out);
    snprintf(more, sizeof more, " -DAMX=%d -DDOT=%d", unit, unit && k->device->caps.dot);
    return get_kernel(k, out->windowed, "attention_amx.cl", "attention_amx", more, &out->kernel[0]);
}

static bool tile_takes(const vlcache_device *device, int keys, int head_dim) {
    return VLCI_ATTENTION_TILE_LOCAL_FLOATS(keys, head_dim) * sizeof(float) <= device->caps.local_bytes &&
           VLCI_ATTENTION_TILE_ITEMS <= device->caps.max_group;
}

/* Smaller tiles where larger ones do not stay in registers; rows where a work-group cannot have any. */
static vlcache_status open_tile(const vlci_attention_kernels *k, int keys, vlci_attention_rung *out) {
    begin_rung(TILE, out);
    for (; keys >= TILE_SMALL_KEYS; keys /= 2) {
        char more[24];
        if (!tile_takes(k->device, keys, k->shape.head_dim)) continue;
        snprintf(more, sizeof more, " -DKEYS=%d", keys);
        vlcache_status status =
            get_kernel(k, out->windowed, "attention_tile.cl", "attention_tile", more, &out->kernel[0]);
        if (status) return status;
        bool stays = out->kernel[0]->private_bytes <= SPILL_MAX || keys == TILE_SMALL_KEYS;
        if (stays && out->kernel[0]->max_group >= VLCI_ATTENTION_TILE_ITEMS) return VLCACHE_OK;
    }
    return open_rows(k, out);
}

/* Whether all heads of a row come to whole stripes. */
static bool fills_stripes(const vlci_attention_shape *s) {
    return s->heads * s->head_dim % VLCI_BLOCK == 0;
}

static bool wgmma_takes(const vlci_attention_shape *s) {
    static const int dims[] = {64, 72, 80, 88, 96, 128};
    bool taken = false;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) taken |= s->head_dim == dims[i];
    return taken && (read_as(s) == VLCACHE_DTYPE_F16 || read_as(s) == VLCACHE_DTYPE_BF16);
}

static vlcache_status get_wgmma(const vlci_attention_kernels *k, bool stripes, vlci_attention_rung *out) {
    const vlci_attention_shape *s = &k->shape;
    const vlci_ptx ptx = {
        .target = "sm_90a", .local_bytes = VLCI_ATTENTION_WGMMA_LOCAL(s->head_dim), .groups = 1};
    char options[OPTIONS];
    begin_rung(WGMMA, out);
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DKV_DTYPE=%d -DROUNDED=%d -DSTRIPES=%d", s->head_dim,
             (int)(stripes ? s->rounded : s->kv_dtype), (int)read_as(s), stripes);
    return vlci_kernel_get_ptx(k->device, "attention_wgmma.cl", "attention_wgmma", options, &ptx,
                               &out->kernel[0]);
}

static vlcache_status open_wgmma(const vlci_attention_kernels *k, vlci_attention_rung *out) {
    if (!wgmma_takes(&k->shape) || out->windowed || k->shape.cap > 0) return open_tile(k, TILE_KEYS, out);
    return get_wgmma(k, false, out);
}

/* Stripes are for what many rows came to; they must be whole behind the last head, too. */
static vlcache_status open_stripes(vlci_attention_kernels *k) {
    const vlci_attention_shape *s = &k->shape;
    if (k->many.rung != WGMMA || s->kv_dtype != VLCACHE_DTYPE_F32 || !fills_stripes(s)) return VLCACHE_OK;
    return get_wgmma(k, true, &k->stripes);
}

bool vlci_attention_takes_stripes(const vlci_attention_kernels *k) {
    return k->stripes.kernel[0] != NULL;
}

/* Whether a work-group of split can do the shape at all. */
static bool split_takes(const vlci_attention_kernels *k) {
    size_t local = VLCI_ATTENTION_LOCAL_FLOATS(k->lanes, HEADS_MAX, k->shape.head_dim) * sizeof(float);
    return k->lanes >= k->shape.head_dim / 8 && local <= k->device->caps.local_bytes;
}

static vlcache_status open_split(const vlci_attention_kernels *k, int rung, vlci_attention_rung *out) {
    const char *name = rung == SPLIT ? "attention_split" : "attention_split_wide";
    bool wide = rung == SPLIT_WIDE || k->device->caps.wide_vectors; /* both, where one program has them */
    begin_rung(rung, out);
    if (rung == SPLIT && !split_takes(k)) return open_rows(k, out);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 3 && !status; i++) {
        char more[48];
        snprintf(more, sizeof more, " -DHEADS=%d -DLANES=%d%s", 1 << i, k->lanes, wide ? "" : " -DWIDE=0");
        status = get_kernel(k, out->windowed, "attention_split.cl", name, more, &out->kernel[i]);
        if (!status)
            status =
                get_kernel(k, out->windowed, "attention_split.cl", "attention_merge", more, &out->merge[i]);
        if (!status && rung == SPLIT && (size_t)k->lanes > out->kernel[i]->max_group)
            return open_rows(k, out); /* too many registers there */
    }
    return status;
}

static bool mma_takes(const vlci_attention_kernels *k) {
    return k->device->caps.mma && k->shape.kv_dtype != VLCACHE_DTYPE_F32 &&
           k->lanes == VLCI_ATTENTION_LANES && (k->shape.head_dim == 64 || k->shape.head_dim == 128);
}

static vlcache_status open_mma(const vlci_attention_kernels *k, vlci_attention_rung *out) {
    char options[OPTIONS];
    if (!mma_takes(k) || out->windowed || k->shape.cap > 0) return open_split(k, SPLIT, out);
    begin_rung(MMA, out);
    snprintf(options, sizeof options, "-DHEAD_DIM=%d -DKV_DTYPE=%d -DHEADS=%d -DMMA=1", k->shape.head_dim,
             (int)k->shape.kv_dtype, MMA_HEADS);
    const vlci_ptx ptx = {.target = ""};
    vlcache_status status =
        vlci_kernel_get_ptx(k->device, "attention_split.cl", "attention_mma", options, &ptx, &out->kernel[0]);
    if (status || k->shape.out != VLCI_STRIPES || !fills_stripes(&k->shape)) return status;
    size_t n = strlen(options);
    snprintf(options + n, sizeof options - n, " -DFORM=%d -DW_DTYPE=%d", (int)VLCI_STRIPES,
             (int)read_as(&k->shape));
    status =
        vlci_kernel_get_ptx(k->device, "attention_split.cl", "attention_mma", options, &ptx, &out->kernel[1]);
    n = strlen(options);
    snprintf(options + n, sizeof options - n, " -DLANES=%d", FEW_LANES);
    return status ? status
                  : vlci_kernel_get_ptx(k->device, "attention_split.cl", "attention_mma", options, &ptx,
                                        &out->kernel[2]);
}

static vlcache_status open_rung(const vlci_attention_kernels *k, const char *name, vlci_attention_rung *out) {
    if (strcmp(name, "amx") == 0) return open_amx(k, AMX, out);
    if (strcmp(name, "pairs") == 0) return open_amx(k, PAIRS, out);
    if (strcmp(name, "wide") == 0) return open_wide(k, out);
    if (strcmp(name, "wgmma") == 0) return open_wgmma(k, out);
    if (strcmp(name, "tile") == 0) return open_tile(k, TILE_KEYS, out);
    if (strcmp(name, "tile_small") == 0) return open_tile(k, TILE_SMALL_KEYS, out);
    if (strcmp(name, "mma") == 0) return open_mma(k, out);
    if (strcmp(name, "split") == 0) return open_split(k, SPLIT, out);
    if (strcmp(name, "split_wide") == 0) return open_split(k, SPLIT_WIDE, out);
    return open_rows(k, out);
}

/* ---- the ladders --------------------------------------------------------------------------------------- */

static const char *const prefill_rungs[] = {"amx",  "pairs",      "wide", "wgmma",
                                            "tile", "tile_small", "rows", NULL};
static const char *const decode_rungs[] = {"mma", "split", "split_wide", "wide", "rows", NULL};

/* Work-groups of less than 16 items are not worth their barriers. */
static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, "amx") == 0) return device->caps.amx;
    if (strcmp(rung, "pairs") == 0) return device->caps.wide_vectors;
    if (strcmp(rung, "wgmma") == 0) return device->caps.wgmma;
    if (strcmp(rung, "mma") == 0) return device->caps.mma;
    if (strncmp(rung, "tile", 4) == 0) return tile_takes(device, TILE_SMALL_KEYS, 8);
    return strcmp(rung, "split") != 0 || split_lanes(device) >= 16;
}

static const char *choose_prefill(const vlcache_device *device) {
    if (rung_fits(device, "amx")) return "amx";
    if (device->caps.wide_vectors) return "wide";
    if (rung_fits(device, "wgmma")) return "wgmma";
    return rung_fits(device, "tile") ? "tile" : "rows";
}

static const char *choose_decode(const vlcache_device *device) {
    if (device->caps.wide_vectors) return "split_wide";
    if (rung_fits(device, "mma")) return "mma";
    return rung_fits(device, "split") ? "split" : "rows";
}

const vlci_ladder vlci_attention_prefill_ladder = {"attention", "prefill", prefill_rungs, rung_fits,
                                                   choose_prefill};
const vlci_ladder vlci_attention_decode_ladder = {"attention", "decode", decode_rungs, rung_fits,
                                                  choose_decode};

static vlcache_status check_shape(const vlci_attention_shape *s) {
    if (s->head_dim < 8 || s->head_dim % 8)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "head_dim %d: attention takes multiples of 8", s->head_dim);
    if (s->kv_heads < 1 || s->heads % s->kv_heads)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "%d query heads cannot share %d kv heads evenly", s->heads,
                         s->kv_heads);
    return VLCACHE_OK;
}

vlcache_status vlci_attention_open(vlcache_device *device, const vlci_attention_shape *shape,
                                   vlci_attention_kernels *out) {
    const char *many, *few, *full;
    *out = (vlci_attention_kernels){.device = device, .shape = *shape, .lanes = split_lanes(device)};
    vlcache_status status = check_shape(shape);
    if (!status) status = vlci_rung(device, &vlci_attention_prefill_ladder, choose_prefill(device), &many);
    if (!status) status = vlci_rung(device, &vlci_attention_decode_ladder, choose_decode(device), &few);
    if (!status)
        status = vlci_rung(device, &vlci_attention_decode_ladder,
                           device->caps.wide_vectors ? "wide" : choose_decode(device), &full);
    if (!status) status = open_rung(out, many, &out->many);
    if (!status) status = open_rung(out, few, &out->few);
    if (!status) status = open_rung(out, full, &out->few_full);
    if (!status && shape->stripes) status = open_stripes(out);
    if (status || !shape->windowed) return status;
    out->many_windowed.windowed = out->few_windowed.windowed = out->full_windowed.windowed = true;
    status = open_rung(out, many, &out->many_windowed);
    if (!status) status = open_rung(out, few, &out->few_windowed);
    return status ? status : open_rung(out, full, &out->full_windowed);
}

/* ---- launching ----------------------------------------------------------------------------------------- */

typedef struct arguments {
    vlci_arg at[OWN_ARGS + VLCI_KV_ARGS + MORE_ARGS];
    int n;
} arguments;

/* The arguments that all kernels begin with; those that know windows take one more. */
static vlcache_status list_args(const vlci_attention_kernels *k, const vlci_attention *a, bool windowed,
                                arguments *out) {
    const vlci_arg own[OWN_ARGS] = {VLCI_MEM(a->q),
                                    VLCI_MEM(a->out),
                                    VLCI_MEM(a->seq_start),
                                    VLCI_MEM(a->row_max),
                                    VLCI_MEM(a->row_lse),
                                    VLCI_I32(k->shape.heads),
                                    VLCI_I32(k->shape.kv_heads),
                                    VLCI_I32(a->causal),
                                    VLCI_F32(a->scale),
                                    VLCI_U32(a->q_offset),
                                    VLCI_U32(a->q_rows ? a->q_rows : a->q_stride)};
    if (a->q_stride > UINT32_MAX || a->q_offset > UINT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "attention: an offset or stride of %zu elements, kernels take less than 2^32",
                         a->q_stride > UINT32_MAX ? a->q_stride : a->q_offset);
    memcpy(out->at, own, sizeof own);
    out->n = OWN_ARGS + VLCI_KV_ARGS;
    if (windowed) out->at[out->n++] = VLCI_I32(a->window);
    return vlci_kv_args(&a->kv, out->at + OWN_ARGS);
}

static vlcache_status run_rows(const vlci_attention_kernels *k, const vlci_kernel *kernel,
                               const vlci_attention *a, const arguments *args) {
    size_t items = k->device->caps.wide_vectors ? 1 : vlci_group_width(kernel, 64);
    vlci_grid grid = VLCI_GRID(ceil_div((size_t)a->max_rows, items), (size_t)k->shape.heads, (size_t)a->batch,
                               items, 1, 1);
    return vlci_launch(k->device, kernel, grid, args->at, args->n);
}

static vlcache_status run_wide(const vlci_attention_kernels *k, const vlci_kernel *kernel,
                               const vlci_attention *a, const arguments *args) {
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(k);
    vlci_grid grid = VLCI_GRID(ceil_div(lanes, VLCI_ATTENTION_WIDE_LANES), (size_t)k->shape.kv_heads,
                               (size_t)a->batch, 1, 1, 1);
    return vlci_launch(k->device, kernel, grid, args->at, args->n);
}

/* As large work-items as there may be, but enough of them for each processor. */
static vlcache_status run_amx(const vlci_attention_kernels *k, const vlci_attention_rung *r,
                              const vlci_attention *a, const arguments *args) {
    size_t tiles = ceil_div((size_t)a->max_rows * (size_t)group_of(k), VLCI_TILE);
    size_t most = (size_t)VLCI_ATTENTION_AMX_TILES(r->rung == AMX, k->shape.head_dim);
    size_t beside = (size_t)k->shape.kv_heads * (size_t)a->batch, parts = ceil_div(tiles, most);
    size_t enough = ceil_div(AMX_ITEMS * (size_t)k->device->caps.info.compute_units, beside);
    if (parts < enough) parts = enough < tiles ? enough : tiles;
    vlci_grid grid = VLCI_GRID(parts, (size_t)k->shape.kv_heads, (size_t)a->batch, 1, 1, 1);
    return vlci_launch(k->device, r->kernel[0], grid, args->at, args->n);
}

/* What reads 8 elements at a time. */
static vlcache_status check_aligned(const vlci_attention *a) {
    size_t all = a->kv.k_offset | a->kv.v_offset | a->kv.seq_stride | a->kv.head_stride | a->kv.row_stride |
                 a->q_stride | a->q_offset;
    if (all % 8 == 0) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "attention: an offset or stride that is no multiple of 8 elements");
}

/* Dimension 2 goes slowest: the longest tiles of all heads and sequences come first. */
static vlcache_status run_tile(const vlci_attention_kernels *k, const vlci_kernel *kernel,
                               const vlci_attention *a, const arguments *args) {
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(k);
    vlci_grid grid = VLCI_GRID((size_t)k->shape.kv_heads, (size_t)a->batch,
                               ceil_div(lanes, VLCI_ATTENTION_TILE_LANES), VLCI_ATTENTION_TILE_ITEMS, 1, 1);
    vlcache_status status = check_aligned(a);
    return status ? status : vlci_launch(k->device, kernel, grid, args->at, args->n);
}

/* A work-group for each unit, but none without work. */
static vlcache_status run_wgmma(const vlci_attention_kernels *k, const vlci_kernel *kernel,
                                const vlci_attention *a, arguments *args) {
    size_t blocks = ceil_div((size_t)a->max_rows * (size_t)group_of(k), VLCI_ATTENTION_WGMMA_LANES);
    size_t pieces = blocks * (size_t)k->shape.kv_heads * (size_t)a->batch;
    size_t units = (size_t)k->device->caps.info.compute_units;
    args->at[args->n++] = VLCI_I32(a->batch);
    args->at[args->n++] = VLCI_I32(blocks);
    args->at[args->n++] = VLCI_U32(a->out_rows ? VLCI_STRIPE_ROWS(a->out_rows) : 0);
    vlci_grid grid = VLCI_GRID(pieces < units ? pieces : units, 1, 1, VLCI_ATTENTION_WGMMA_ITEMS, 1, 1);
    vlcache_status status = check_aligned(a);
    return status ? status : vlci_launch(k->device, kernel, grid, args->at, args->n);
}

/* ---- decode: keys divided into shares ------------------------------------------------------------------ */

/* How decode is divided. */
typedef struct division {
    int which;     /* kernel for 2^which lanes that go together */
    size_t groups; /* of lanes, for each sequence and kv head */
    int shares, share;
    bool crowded; /* more pieces than work-groups of mma run at a time, and short ones */
} division;

/* Pieces of work that keep a device busy: a work-item for each processor, as many work-groups as run at a
 * time where that is known, or some to choose from. */
static size_t pieces_wanted(const vlcache_device *device, int rung) {
    return (size_t)device->caps.info.compute_units * (rung == SPLIT_WIDE ? 1 : rung == MMA ? 2 : 4);
}

/* Most keys that are divided: with a window from the page on in which the first that any row sees is. */
static size_t keys_seen(const vlci_attention *a, bool windowed) {
    int64_t keys = a->max_keys, most = (int64_t)a->window + a->max_rows + VLCI_KV_PAGE;
    return (size_t)(windowed && most < keys ? most : keys);
}

/* Work-groups of mma all run at a time: one more would wait for the others. */
static size_t shares_for(size_t wanted, size_t pieces, int rung) {
    size_t shares = rung == MMA ? wanted / pieces : ceil_div(wanted, pieces);
    return shares ? shares : 1;
}

/* As many shares as keep the device busy, none shorter than a span. */
static division divide(const vlci_attention_kernels *k, const vlci_attention_rung *r, const vlci_attention *a,
                       size_t keys) {
    size_t lanes = (size_t)a->max_rows * (size_t)group_of(k), shares = 1;
    division d = {.which = r->rung == MMA || lanes < 2 ? 0 : lanes > 2 ? 2 : 1, .shares = 1};
    d.groups = ceil_div(lanes, r->rung == MMA ? MMA_HEADS : (size_t)1 << d.which);
    size_t pieces = d.groups * (size_t)k->shape.kv_heads * (size_t)a->batch;
    if (a->scratch && keys && pieces && pieces <= VLCI_ATTENTION_COUNTERS && a->max_rows <= FEW_ROWS)
        shares = shares_for(pieces_wanted(k->device, r->rung), pieces, r->rung);
    d.crowded = r->rung == MMA && pieces > pieces_wanted(k->device, MMA) && a->mean_keys <= SMALL_KEYS;
    if (shares > SHARES_MAX) shares = SHARES_MAX;
    size_t span = r->rung == SPLIT_WIDE ? VLCI_ATTENTION_WIDE_SPAN : VLCI_ATTENTION_SPAN;
    size_t share = ceil_div(ceil_div(keys, shares), span) * span;
    if (shares > 1) d.shares = (int)ceil_div(keys, share);
    d.share = (int)share;
    return d;
}

vlcache_status vlci_attention_scratch_create(const vlci_attention_kernels *k, int batch, cl_mem *out) {
    size_t groups = ceil_div((size_t)FEW_ROWS * (size_t)group_of(k), HEADS_MAX);
    size_t pieces = groups * (size_t)k->shape.kv_heads * (size_t)batch;
    size_t records = (pieces_wanted(k->device, SPLIT) + pieces) * MMA_HEADS; /* enough for any rung */
    size_t floats = VLCI_ATTENTION_COUNTERS + records * VLCI_ATTENTION_RECORD((size_t)k->shape.head_dim);
    vlcache_status status = vlci_memory_create(k->device, floats * sizeof(float), "attention scratch", out);
    if (!status) status = vlci_fill(k->device, *out, 0, VLCI_ATTENTION_COUNTERS * sizeof(cl_uint), 0);
    if (status) vlci_memory_release(k->device, out);
    return status;
}

static vlcache_status merge(const vlci_attention_kernels *k, const vlci_kernel *kernel,
                            const vlci_attention *a, const division *d) {
    size_t items = vlci_group_width(kernel, 64), n = ((size_t)1 << d->which) * (size_t)k->shape.head_dim;
    vlci_grid grid =
        VLCI_GRID(ceil_div(n, items), (size_t)k->shape.kv_heads * d->groups, (size_t)a->batch, items, 1, 1);
    return VLCI_LAUNCH(k->device, kernel, grid, VLCI_MEM(a->scratch), VLCI_I32(d->shares), VLCI_MEM(a->out),
                       VLCI_MEM(a->seq_start), VLCI_MEM(a->row_max), VLCI_MEM(a->row_lse),
                       VLCI_I32(k->shape.heads), VLCI_I32(k->shape.kv_heads));
}

static vlcache_status run_split(const vlci_attention_kernels *k, const vlci_attention_rung *r,
                                const vlci_attention *a, arguments *args) {
    division d = divide(k, r, a, keys_seen(a, r->windowed));
    bool small = d.crowded && a->out_rows; /* smaller work-groups: more of them at a time */
    size_t items = r->rung == SPLIT_WIDE ? 1 : small ? FEW_LANES : (size_t)k->lanes;
    args->at[args->n++] = VLCI_MEM(a->scratch);
    args->at[args->n++] = VLCI_I32(d.share);
    if (r->rung == MMA) args->at[args->n++] = VLCI_I32(a->out_rows);
    vlci_grid grid =
        VLCI_GRID((size_t)d.shares, (size_t)k->shape.kv_heads * d.groups, (size_t)a->batch, items, 1, 1);
    vlcache_status status = items > 1 ? check_aligned(a) : VLCACHE_OK;
    const vlci_kernel *kernel = r->kernel[small ? 2 : a->out_rows ? 1 : d.which];
    if (!status) status = vlci_launch(k->device, kernel, grid, args->at, args->n);
    return status || d.shares == 1 || r->rung == MMA ? status : merge(k, r->merge[d.which], a, &d);
}

/* Whether there are keys outside of a window. */
static bool beyond_window(const vlci_attention *a) {
    return a->window && (!a->max_keys || a->max_keys > a->window);
}

/* On processors, a vector of lanes pays from 9 lanes on. */
static const vlci_attention_rung *pick(const vlci_attention_kernels *k, const vlci_attention *a) {
    bool windowed = beyond_window(a);
    if (a->q_rows) return &k->stripes;
    if (a->max_rows > FEW_ROWS) return windowed ? &k->many_windowed : &k->many;
    if (a->max_rows * group_of(k) > 8) return windowed ? &k->full_windowed : &k->few_full;
    return windowed ? &k->few_windowed : &k->few;
}

bool vlci_attention_leaves_stripes(const vlci_attention_kernels *k, const vlci_attention *a,
                                   vlcache_dtype dtype) {
    const vlci_attention_rung *r = pick(k, a);
    return read_as(&k->shape) == dtype && fills_stripes(&k->shape) &&
           (r->rung == WGMMA || (r->rung == MMA && r->kernel[1]));
}

vlcache_status vlci_attention_run(const vlci_attention_kernels *k, const vlci_attention *a) {
    const vlci_attention_rung *r = pick(k, a);
    arguments args;
    if (r->windowed != beyond_window(a) || (r->windowed && !a->causal))
        return vlci_fail(VLCACHE_E_INTERNAL, "attention: a window that was not opened, or is not causal");
    if (a->q_rows ? !vlci_attention_takes_stripes(k)
                  : a->out_rows && !vlci_attention_leaves_stripes(k, a, read_as(&k->shape)))
        return vlci_fail(VLCACHE_E_INTERNAL, "attention: stripes, which no rung here knows");
    vlcache_status status = list_args(k, a, r->windowed, &args);
    if (status) return status;
    switch (r->rung) {
    case AMX:
    case PAIRS:
        return run_amx(k, r, a, &args);
    case WIDE:
        return run_wide(k, r->kernel[0], a, &args);
    case WGMMA:
        return run_wgmma(k, r->kernel[0], a, &args);
    case TILE:
        return run_tile(k, r->kernel[0], a, &args);
    case ROWS:
        return run_rows(k, r->kernel[0], a, &args);
    }
    return run_split(k, r, a, &args);
}
