/*
 * chain.c - how the products of a chain are cut, and its launch.
 */
#include "compute/chain.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

enum { WGMMA, APART };
static const char *const rungs[] = {"wgmma", "apart", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, rungs[WGMMA]) != 0 || device->caps.wgmma;
}

static const char *choose(const vlcache_device *device) {
    return rungs[device->caps.wgmma ? WGMMA : APART];
}

const vlci_ladder vlci_chain_ladder = {"chain", "decode of many", rungs, rung_fits, choose};

static const int heights[] = {16, 32, 64};
enum { HEIGHTS = sizeof heights / sizeof heights[0] };

/* What a kernel can beside products. */
enum { NO_MORE, APPENDS, ATTENDS, WAYS };

struct vlci_chain {
    vlcache_device *device;
    int hidden, deepest;
    vlci_activation act;
    vlci_attention_shape shape;
    cl_mem parts;                             /* counters, sums of shared tiles, squares of rows */
    cl_mem scaled;                            /* stripes: rows times the weight of a norm */
    const vlci_kernel *kernel[WAYS][HEIGHTS]; /* NULL: not asked for yet */
    const vlci_kernel *few[WAYS][VLCI_CHAIN_FEW_ROWS];
};

enum {
    ITEMS = 384,
    FEW_ITEMS = 320,
    FEW_STAGE = VLCI_CHAIN_FEW_BLOCKS * 2048 + 16, /* bytes, with two barriers */
    FEW_STAGES_LEAST = 4,
    WIDE = 128 /* columns of a tile that is shared, k of its steps */,
    OWN_ARGS = 16,
    FEW_ARGS = 14,
    FEW_ATTEND_ARGS = 6,
    LAYER_ARGS = 9,
    ATTEND_ARGS = 5,
    HEAD_DIM = 128,
    LANES = 8,         /* query rows that share a kv head and go together, */
    TEAM = 64,         /* work-items that have them, */
    TEAMS = 4,         /* of a work-group, */
    SMALL_KEYS = 1024, /* of caches of so many rows at most */
    FEW_KEYS = 16384,  /* of longer ones attention has registers of its own, of the fewest rows */
    ATTEND = 0,        /* stages */
    OUT,
    QKV = VLCI_CHAIN_STAGES - 1
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static size_t units_of(const vlci_chain *c) {
    return c->device->caps.info.compute_units;
}

static size_t parts_bytes(const vlci_chain *c) {
    size_t floats = units_of(c) * WIDE * VLCI_CHAIN_ROWS + (size_t)c->hidden / 64 * VLCI_CHAIN_ROWS;
    return VLCI_CHAIN_COUNTERS * sizeof(cl_uint) + floats * sizeof(float);
}

uint64_t vlci_chain_bytes(const vlci_chain *c) {
    return c ? parts_bytes(c) + vlci_operand_bytes(VLCI_CHAIN_ROWS, c->hidden) : 0;
}

/* Between launches counters are zero, and the places of sums, a tile's for each unit, tell that none is
 * there; squares. */
static vlcache_status create_parts(vlci_chain *c) {
    vlcache_status status =
        vlci_memory_create(c->device, parts_bytes(c), "parts of chained products", &c->parts);
    size_t counters = VLCI_CHAIN_COUNTERS * sizeof(cl_uint);
    if (!status) status = vlci_fill(c->device, c->parts, 0, counters, 0);
    return status ? status : vlci_fill(c->device, c->parts, counters, parts_bytes(c) - counters, 0xffffffffu);
}

vlcache_status vlci_chain_open(vlcache_device *device, int hidden, int deepest, vlci_activation act,
                               const vlci_attention_shape *shape, vlci_chain **out) {
    const char *rung;
    *out = NULL;
    vlcache_status status = vlci_rung(device, &vlci_chain_ladder, choose(device), &rung);
    if (status || rung != rungs[WGMMA] || hidden % VLCI_BLOCK) return status;
    vlci_chain *c = vlci_calloc(1, sizeof *c);
    if (!c) return vlci_fail_memory("chained products");
    *c = (vlci_chain){.device = device, .hidden = hidden, .deepest = deepest, .act = act, .shape = *shape};
    status = create_parts(c);
    if (!status)
        status = vlci_memory_create(device, vlci_operand_bytes(VLCI_CHAIN_ROWS, hidden),
                                    "rows of chained products", &c->scaled);
    if (status)
        vlci_chain_close(&c);
    else
        *out = c;
    return status;
}

void vlci_chain_close(vlci_chain **handle) {
    vlci_chain *c = *handle;
    *handle = NULL;
    if (!c) return;
    vlci_memory_release(c->device, &c->parts);
    vlci_memory_release(c->device, &c->scaled);
    vlci_free(c);
}

/* ---- what it takes ------------------------------------------------------------------------------------- */

/* A tile for each work-group, or for several: as many as fill the units and have steps of their own. */
static size_t split_of(const vlci_chain *c, const vlci_matrix *w) {
    size_t tiles = vlci_ceil_div((size_t)w->n, WIDE), depth = (size_t)w->k / WIDE;
    size_t split = units_of(c) / tiles;
    if (split > VLCI_CHAIN_SHARERS) split = VLCI_CHAIN_SHARERS;
    if (split > depth) split = depth;
    return split ? vlci_ceil_div(depth, vlci_ceil_div(depth, split)) : 0;
}

static bool is_whole(const vlci_matrix *w) {
    return w->dtype == VLCACHE_DTYPE_BF16 && w->layout == VLCI_BLOCKS && w->n % VLCI_BLOCK == 0 &&
           w->k % VLCI_BLOCK == 0;
}

static bool is_shared(const vlci_chain *c, const vlci_matrix *w) {
    return is_whole(w) && w->k % WIDE == 0 && split_of(c, w) > 0;
}

static bool is_rms(const vlci_norm *norm) {
    return norm->weight && !norm->bias;
}

vlci_form vlci_chain_reads(int rows) {
    return rows <= VLCI_CHAIN_FEW_ROWS ? VLCI_FLOATS : VLCI_STRIPES;
}

/* ---- the fewest rows ----------------------------------------------------------------------------------- */

/* Floats: rows of the deepest product, or those of hidden and a norm's weight. */
static size_t few_room(const vlci_chain *c, int rows) {
    size_t deep = (size_t)rows * (size_t)c->deepest, normed = ((size_t)rows + 1) * (size_t)c->hidden;
    size_t most = deep > normed ? deep : normed;
    return most > VLCI_CHAIN_FEW_ROOM ? most : VLCI_CHAIN_FEW_ROOM;
}

/* Bytes of local memory beside its stages, of which there are so many. */
static size_t few_rest(const vlci_chain *c, int rows) {
    return few_room(c, rows) * sizeof(float) + (size_t)rows * 544 + 48;
}

static size_t few_stages(const vlci_chain *c, int rows) {
    size_t rest = few_rest(c, rows);
    return rest < VLCI_PTX_LOCAL_MOST ? (VLCI_PTX_LOCAL_MOST - rest) / FEW_STAGE : 0;
}

static bool takes_few(const vlci_chain *c, const vlci_links *l) {
    const vlci_matrix *all[] = {l->out, l->gate_up, l->down, l->qkv};
    for (int i = 0; i < (l->qkv ? 4 : 3); i++)
        if (!is_whole(all[i]) || all[i]->k > c->deepest) return false;
    if (l->x_offset % 4 || few_stages(c, l->rows) < FEW_STAGES_LEAST) return false;
    return l->gate_up->n / 2 % VLCI_BLOCK == 0 && l->out->n == c->hidden && l->down->n == c->hidden &&
           (!l->qkv || is_rms(l->next));
}

bool vlci_chain_takes(const vlci_chain *c, const vlci_links *l) {
    if (!c || l->rows > VLCI_CHAIN_ROWS || l->x_offset > UINT32_MAX || !is_rms(l->norm) || l->gate_up->bias)
        return false;
    if (vlci_chain_reads(l->rows) == VLCI_FLOATS) return takes_few(c, l);
    if (!is_shared(c, l->out) || !is_whole(l->gate_up) || !is_shared(c, l->down)) return false;
    if (l->gate_up->n / 2 % VLCI_BLOCK || l->out->n != c->hidden || l->down->n != c->hidden) return false;
    return !l->qkv || (is_shared(c, l->qkv) && is_rms(l->next));
}

bool vlci_chain_appends(const vlci_chain *c) {
    return c->shape.head_dim == HEAD_DIM;
}

/* Groups of lanes of a sequence and kv head. */
static size_t lane_groups(const vlci_chain *c, const vlci_attention *a) {
    return vlci_ceil_div((size_t)a->max_rows * (size_t)(c->shape.heads / c->shape.kv_heads), LANES);
}

/* Of a sequence and kv head, over all of them. */
static size_t pieces_of(const vlci_chain *c, const vlci_attention *a) {
    return lane_groups(c, a) * (size_t)c->shape.kv_heads * (size_t)a->batch;
}

bool vlci_chain_attends(const vlci_chain *c, const vlci_attention *a, int rows) {
    if (!c || !vlci_chain_appends(c) || !c->device->caps.mma || c->shape.cap > 0 ||
        c->shape.kv_dtype == VLCACHE_DTYPE_F32)
        return false;
    if (a->q_offset || a->q_rows || !a->kv.table) return false;
    if (a->window > 0 && (!a->max_keys || a->max_keys > a->window)) return false;
    if (vlci_chain_reads(rows) == VLCI_FLOATS)
        return a->scratch && pieces_of(c, a) <= units_of(c) && a->max_keys <= FEW_KEYS;
    if (rows <= heights[HEIGHTS - 2] || rows > heights[HEIGHTS - 1]) return false;
    return pieces_of(c, a) > 2 * units_of(c) && a->mean_keys <= SMALL_KEYS;
}

static bool is_alike(const vlci_matrix *a, const vlci_matrix *b) {
    return a->n == b->n && a->k == b->k;
}

bool vlci_chain_goes_on(const vlci_links *l, const vlci_links *next) {
    return l->qkv && is_alike(l->out, next->out) && is_alike(l->gate_up, next->gate_up) &&
           is_alike(l->down, next->down) && (!next->qkv || is_alike(l->qkv, next->qkv));
}

/* ---- running ------------------------------------------------------------------------------------------- */

static vlcache_status get_kernel(vlci_chain *c, int way, int at, const vlci_kernel **kernel) {
    char options[240];
    size_t rows = (size_t)heights[at], stage = 4 * 8192 + 2 * rows * 128,
           rest = rows * (2 * 144 + 4 + 16) + 512 + 32 + 128;
    size_t stages = (VLCI_PTX_LOCAL_MOST - rest) / (stage + 16);
    vlci_ptx ptx = {.target = "sm_90a", .local_bytes = stages * (stage + 16) + rest};
    *kernel = __atomic_load_n(&c->kernel[way][at], __ATOMIC_ACQUIRE);
    if (*kernel) return VLCACHE_OK;
    snprintf(options, sizeof options,
             "-DW_DTYPE=%d -DKV_DTYPE=%d -DTOKENS=%zu -DSTAGES=%zu -DACT=%d -DROPE=%d",
             (int)VLCACHE_DTYPE_BF16, (int)c->shape.kv_dtype, rows, stages, (int)c->act, way >= APPENDS);
    size_t n = strlen(options);
    if (way == ATTENDS)
        snprintf(options + n, sizeof options - n,
                 " -DATTENDS=1 -DMMA=1 -DHEAD_DIM=%d -DHEADS=%d -DLANES=%d -DFORM=%d -DLAYERS=%d", HEAD_DIM,
                 LANES, TEAM, (int)VLCI_STRIPES, VLCI_CHAIN_LAYERS);
    vlcache_status status =
        vlci_kernel_get_ptx(c->device, "chain_wgmma.cl", "chain_wgmma", options, &ptx, kernel);
    if (!status) __atomic_store_n(&c->kernel[way][at], *kernel, __ATOMIC_RELEASE);
    return status;
}

/* Of what is appended, or what it would be behind this attention. */
static vlcache_status rope_args(const vlci_chain *c, const vlci_links *l, const vlci_attention *a,
                                vlci_arg *out) {
    if (l->append) return vlci_rope_args(l->append, out);
    vlci_append none = {
        .heads = c->shape.heads, .kv_heads = c->shape.kv_heads, .seq_start = a->seq_start, .kv = a->kv};
    none.kv.layer++;
    return vlci_rope_args(&none, out);
}

/* Behind the last, and where nothing is, the first's stand in. */
static void layer_args(const vlci_links *l, vlci_arg out[LAYER_ARGS]) {
    const vlci_matrix none = {0}, *qkv = l->qkv ? l->qkv : &none;
    const vlci_arg all[LAYER_ARGS] = {
        VLCI_MEM(l->out->data), VLCI_MEM(l->gate_up->data), VLCI_MEM(l->down->data),
        VLCI_MEM(qkv->data),    VLCI_MEM(l->out->bias),     VLCI_MEM(l->down->bias),
        VLCI_MEM(qkv->bias),    VLCI_MEM(l->norm->weight),  VLCI_MEM((l->qkv ? l->next : l->norm)->weight)};
    memcpy(out, all, sizeof all);
}

static vlcache_status get_few(vlci_chain *c, int way, int rows, const vlci_kernel **kernel) {
    char options[240];
    const vlci_kernel **at = &c->few[way][rows - 1];
    size_t stages = few_stages(c, rows);
    vlci_ptx ptx = {.target = "sm_90a", .local_bytes = stages * FEW_STAGE + few_rest(c, rows)};
    *kernel = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (*kernel) return VLCACHE_OK;
    snprintf(options, sizeof options,
             "-DW_DTYPE=%d -DKV_DTYPE=%d -DROWS=%d -DROOM_X=%zu -DSTAGES=%zu -DACT=%d -DROPE=%d",
             (int)VLCACHE_DTYPE_BF16, (int)c->shape.kv_dtype, rows, few_room(c, rows), stages, (int)c->act,
             way >= APPENDS);
    size_t n = strlen(options);
    if (way == ATTENDS)
        snprintf(options + n, sizeof options - n,
                 " -DATTENDS=1 -DMMA=1 -DHEAD_DIM=%d -DHEADS=%d -DLANES=%d -DLAYERS=%d", HEAD_DIM, LANES,
                 TEAM * TEAMS, VLCI_CHAIN_LAYERS);
    vlcache_status status =
        vlci_kernel_get_ptx(c->device, "chain_blocks.cl", "chain_blocks", options, &ptx, kernel);
    if (!status) __atomic_store_n(at, *kernel, __ATOMIC_RELEASE);
    return status;
}

/* Of a launch: all layers that it has room for, where it attends. */
static int all_layer_args(const vlci_links *l, int n, bool attends, vlci_arg *out) {
    int n_args = 0;
    for (int i = 0; i < (attends ? VLCI_CHAIN_LAYERS : 1); i++, n_args += LAYER_ARGS)
        layer_args(i < n ? &l[i] : l, out + n_args);
    return n_args;
}

static uint32_t last_stage(const vlci_links *l, int n) {
    return (uint32_t)((n - 1) * VLCI_CHAIN_STAGES + (l[n - 1].qkv ? QKV + 1 : QKV));
}

static vlcache_status run_few(vlci_chain *c, const vlci_links *l, int n, const vlci_attention *a) {
    const vlci_kernel *kernel;
    vlci_arg args[VLCI_CHAIN_LAYERS * LAYER_ARGS + FEW_ARGS + VLCI_ROPE_ARGS + FEW_ATTEND_ARGS];
    vlcache_status status = get_few(c, a ? ATTENDS : l->append ? APPENDS : NO_MORE, l->rows, &kernel);
    if (status) return status;
    int n_args = all_layer_args(l, n, a, args);
    size_t q_stride = a ? a->q_stride : l->qkv ? (size_t)l->qkv->n : 0;
    const vlci_arg own[FEW_ARGS] = {VLCI_MEM(l->attended),
                                    VLCI_MEM(l->x),
                                    VLCI_U32(l->x_offset),
                                    VLCI_MEM(l->gated),
                                    VLCI_MEM(l->y),
                                    VLCI_MEM(c->parts),
                                    VLCI_U32(l->rows),
                                    VLCI_U32(c->hidden),
                                    VLCI_U32(l->out->k),
                                    VLCI_U32(l->down->k),
                                    VLCI_U32(q_stride),
                                    VLCI_F32(l->eps),
                                    VLCI_U32(a ? ATTEND : OUT),
                                    VLCI_U32(last_stage(l, n))};
    memcpy(args + n_args, own, sizeof own);
    n_args += FEW_ARGS;
    if (a || l->append) {
        status = rope_args(c, l, a, args + n_args);
        n_args += VLCI_ROPE_ARGS;
    }
    if (a) {
        const vlci_arg more[FEW_ATTEND_ARGS] = {VLCI_F32(a->scale),
                                                VLCI_I32(a->causal),
                                                VLCI_I32(a->batch),
                                                VLCI_I32(lane_groups(c, a)),
                                                VLCI_I32(units_of(c) / pieces_of(c, a)),
                                                VLCI_MEM(a->scratch)};
        memcpy(args + n_args, more, sizeof more);
        n_args += FEW_ATTEND_ARGS;
    }
    return status
               ? status
               : vlci_launch(c->device, kernel, VLCI_GRID(units_of(c), 1, 1, FEW_ITEMS, 1, 1), args, n_args);
}

vlcache_status vlci_chain_run(vlci_chain *c, const vlci_links *l, int n, const vlci_attention *a) {
    if (vlci_chain_reads(l->rows) == VLCI_FLOATS) return run_few(c, l, n, a);
    const vlci_kernel *kernel;
    vlci_arg args[VLCI_CHAIN_LAYERS * LAYER_ARGS + OWN_ARGS + VLCI_ROPE_ARGS + ATTEND_ARGS];
    int at = 0;
    while (heights[at] < l->rows) at++;
    vlcache_status status = get_kernel(c, a ? ATTENDS : l->append ? APPENDS : NO_MORE, at, &kernel);
    if (status) return status;
    int n_args = all_layer_args(l, n, a, args);
    size_t splits = split_of(c, l->out) | 1 << 8 | split_of(c, l->down) << 16;
    if (l->qkv) splits |= split_of(c, l->qkv) << 24;
    const vlci_arg own[OWN_ARGS] = {VLCI_MEM(l->attended),      VLCI_MEM(l->x),
                                    VLCI_U32(l->x_offset),      VLCI_MEM(c->scaled),
                                    VLCI_MEM(l->gated),         VLCI_MEM(l->y),
                                    VLCI_MEM(c->parts),         VLCI_U32(l->rows),
                                    VLCI_U32(c->hidden),        VLCI_U32(l->out->k),
                                    VLCI_U32(l->down->k),       VLCI_U32(l->qkv ? l->qkv->n : 0),
                                    VLCI_U32(splits),           VLCI_F32(l->eps),
                                    VLCI_U32(a ? ATTEND : OUT), VLCI_U32(last_stage(l, n))};
    memcpy(args + n_args, own, sizeof own);
    n_args += OWN_ARGS;
    if (a || l->append) {
        status = rope_args(c, l, a, args + n_args);
        n_args += VLCI_ROPE_ARGS;
    }
    if (a) {
        const vlci_arg more[ATTEND_ARGS] = {VLCI_F32(a->scale), VLCI_U32(a->q_stride), VLCI_I32(a->causal),
                                            VLCI_I32(a->batch), VLCI_I32(lane_groups(c, a))};
        memcpy(args + n_args, more, sizeof more);
        n_args += ATTEND_ARGS;
    }
    return status ? status
                  : vlci_launch(c->device, kernel, VLCI_GRID(units_of(c), 1, 1, ITEMS, 1, 1), args, n_args);
}
