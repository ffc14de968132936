/*
 * gemm_matrix.c - which tile multiplies, and its launch.
 */
#include "compute/gemm_matrix.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

/* ---- rungs --------------------------------------------------------------------------------------------- */

enum { WGMMA, MMA, AMX, PAIRS, BLOCKS };
static const char *const rungs[] = {"wgmma", "mma", "amx", "pairs", "blocks", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, rungs[WGMMA]) == 0) return device->caps.wgmma;
    if (strcmp(rung, rungs[AMX]) == 0) return device->caps.amx;
    return strcmp(rung, rungs[MMA]) != 0 || device->caps.mma;
}

static const char *choose(const vlcache_device *device) {
    if (device->caps.amx) return rungs[AMX];
    return rungs[device->caps.wgmma ? WGMMA : device->caps.mma ? MMA : BLOCKS];
}

const vlci_ladder vlci_gemm_matrix_ladder = {"gemm", "engine matrix", rungs, rung_fits, choose};

static bool in_pairs(int rung) {
    return rung == AMX || rung == PAIRS;
}

static vlcache_status find_rung(const vlcache_device *device, int *rung) {
    const char *name;
    vlcache_status status = vlci_rung(device, &vlci_gemm_matrix_ladder, choose(device), &name);
    for (*rung = 0; !status && strcmp(name, rungs[*rung]);) *rung += 1;
    return status;
}

bool vlci_gemm_matrix_takes(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_BF16 || dtype == VLCACHE_DTYPE_F16;
}

bool vlci_gemm_matrix_fits(const vlcache_device *device, vlcache_dtype dtype) {
    return choose(device) != rungs[BLOCKS] && vlci_gemm_matrix_takes(dtype);
}

/* ---- tiles --------------------------------------------------------------------------------------------- */

/* What a product's y is: OUT of the kernels. */
enum { OUT_FLOATS, OUT_SHORT, OUT_GATED, OUTS, ACTS = VLCI_ACT_QUICK_GELU + 1 };

/* Of wgmma: rows of x, and blocks of W for each of two warpgroups. */
typedef struct tile {
    int rows, blocks;
} tile;
static const tile tiles[] = {{16, 1},  {32, 1},  {64, 1},  {96, 1},  {128, 1}, {152, 1},
                             {160, 1}, {192, 1}, {200, 1}, {256, 1}, {32, 2},  {64, 2},
                             {88, 2},  {96, 2},  {104, 2}, {120, 2}, {128, 2}};
enum {
    TILES = sizeof tiles / sizeof tiles[0],
    STAGES_MOST = 8,
    ITEMS = 384,
    SHARES = 2,
    OWN_ARGS = 9,
    SHARED_ARGS = 2
};

struct vlci_gemm_matrix {
    vlcache_device *device;
    vlcache_dtype dtype;
    int rung;
    const vlci_kernel *kernel[2][OUTS][ACTS][TILES]; /* [shared]; NULL: not asked for yet; of other rungs than
                                                        wgmma, the first tile */
    const vlci_kernel *bring;                        /* floats into the form that it reads */
    pthread_mutex_t
        lock; /* a brought x is one product's from the launch that fills it to the one that reads it */
    cl_mem brought;
    size_t room;  /* bytes of it */
    cl_mem parts; /* of wgmma: counters, and sums of shared tiles */
};

static size_t pass_bytes(const tile *t, int out) {
    size_t wide = out == OUT_GATED ? 1 : (size_t)t->blocks;
    return out == OUT_FLOATS ? 0 : 4 * (32 / wide) * (wide * 128 + 16);
}

static size_t stage_bytes(const tile *t) {
    return 2 * (size_t)t->blocks * 8192 + ((size_t)t->rows * 128 + 1023) / 1024 * 1024;
}

static size_t stages_of(const tile *t, int out) {
    size_t stages = (VLCI_PTX_LOCAL_MOST - pass_bytes(t, out)) / (stage_bytes(t) + 16);
    return stages < STAGES_MOST ? stages : STAGES_MOST;
}

/*
 * Clocks of a product: rounds of tiles times those of a tile. 16 k of 64 rows of W take rows / 2 clocks of
 * the matrix unit, 16 + rows / 4 of local memory, and as long as both operands take from the cache at 64
 * bytes a clock; measured, these add like a 4-norm. What is stored, and each round, costs beside it.
 */
static double cost(const tile *t, double m, double columns, double k, int out, double units) {
    double wide = out == OUT_GATED ? 128 : 128.0 * t->blocks;
    double n = ceil(m / t->rows) * ceil(columns / wide), rounds = ceil(n / units);
    double unit = t->rows / 2.0, local = 16 + t->rows / 4.0;
    double cache = (t->rows + 128.0 * t->blocks) / (4.0 * t->blocks);
    double both = pow(pow(unit, 4) + pow(local, 4) + pow(cache, 4), 0.25) * 2 * t->blocks * k / 16;
    double stored = (out == OUT_FLOATS ? 12.0 : 4.0) * t->rows * (wide / 128);
    return rounds * (both + stored + 1500) + n * 1e-3;
}

/* Few rows are wgmma's in shares: one tile of rows, and several work-groups for the k of each. */
static size_t column_tiles(const vlci_product *p) {
    return vlci_ceil_div((size_t)p->w->n, p->gated ? 256 : 128);
}

static bool in_shares(const vlci_gemm_matrix *g, const vlci_product *p) {
    return g->rung == WGMMA && p->m <= VLCI_GEMM_SHARED_ROWS &&
           2 * column_tiles(p) <= VLCI_GEMM_SHARED_COUNTERS;
}

/*
 * How many share a tile. In tenths of the time in which all units together read a step of 64 k each: one that
 * reads alone needs PULL of them, and parts come together in MERGE.
 */
static size_t split_of(const vlci_gemm_matrix *g, const vlci_product *p) {
    enum { MOST = 8, PULL = 6, MERGE = 60 };
    size_t units = g->device->caps.info.compute_units, n = column_tiles(p), depth = VLCI_BLOCKS(p->w->k);
    size_t all = 10 * n * depth / units,
           merge = p->gated ? MERGE / 2 : MERGE; /* whose steps are twice as long */
    size_t best = 1, least = PULL * depth * vlci_ceil_div(n, units);
    for (size_t split = 2; split <= MOST && split * n <= units; split++) {
        size_t alone = PULL * vlci_ceil_div(depth, split), cost = (alone > all ? alone : all) + merge;
        if (cost >= least) continue;
        least = cost;
        best = split;
    }
    return best;
}

/* A place for each unit: of a tile's sums. */
static vlcache_status create_parts(vlci_gemm_matrix *g) {
    size_t counters = VLCI_GEMM_SHARED_COUNTERS * sizeof(cl_uint);
    size_t sums = (size_t)VLCI_GEMM_SHARED_ROWS * 256 * sizeof(float);
    size_t bytes = counters + g->device->caps.info.compute_units * sums;
    if (g->rung != WGMMA) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(g->device, bytes, "parts of products", &g->parts);
    return status ? status : vlci_fill(g->device, g->parts, 0, counters, 0);
}

/* The least tile that holds all rows. */
static int shared_tile(const vlci_product *p) {
    for (int i = 0; i < TILES; i++)
        if (tiles[i].blocks == 1 + p->gated && tiles[i].rows >= p->m) return i;
    return 0;
}

static int best_tile(const vlci_gemm_matrix *g, const vlci_product *p, int out) {
    if (in_shares(g, p)) return shared_tile(p);
    double columns = p->gated ? p->w->n / 2 : p->w->n, least = INFINITY;
    int best = 0;
    for (int i = 0; i < TILES && g->rung == WGMMA; i++) {
        if (out == OUT_GATED && tiles[i].blocks != 2) continue;
        double c = cost(&tiles[i], p->m, columns, p->w->k, out, g->device->caps.info.compute_units);
        if (c >= least) continue;
        least = c;
        best = i;
    }
    return best;
}

/* Of mma: two rows of `warps` warps, each of 64 x 64; as many warps and stages as there is local memory for.
 */
static void mma_shape(const vlci_gemm_matrix *g, int *warps, size_t *stages) {
    size_t local = g->device->caps.ptx_local;
    *warps = local >= (size_t)3 * 384 * 128 ? 4 : 2;
    *stages = local / ((128 + 64 * (size_t)*warps) * 128);
    if (*stages > 4) *stages = 4;
}

static vlcache_status get_mma(vlci_gemm_matrix *g, int out, int act, const vlci_kernel **kernel) {
    char options[128];
    int warps;
    size_t stages;
    mma_shape(g, &warps, &stages);
    vlci_ptx ptx = {.target = "", .local_bytes = stages * (128 + 64 * (size_t)warps) * 128};
    snprintf(options, sizeof options, "-DW_DTYPE=%d -DWARPS_R=2 -DWARPS_C=%d -DSTAGES=%zu -DOUT=%d -DACT=%d",
             (int)g->dtype, warps, stages, out, act);
    return vlci_kernel_get_ptx(g->device, "gemm_mma.cl", "gemm_mma", options, &ptx, kernel);
}

static vlcache_status get_pairs(const vlci_gemm_matrix *g, int out, int act, const vlci_kernel **kernel) {
    char options[48];
    snprintf(options, sizeof options, " -DAMX=%d -DOUT=%d -DACT=%d", g->rung == AMX, out, act);
    return vlci_matrix_kernel(g->device, g->dtype, "gemm_amx.cl", "gemm_amx", options, kernel);
}

static vlcache_status get_kernel(vlci_gemm_matrix *g, bool shared, int out, int act, int at,
                                 const vlci_kernel **kernel) {
    char options[128];
    const tile *t = &tiles[at];
    size_t stages = stages_of(t, out);
    *kernel = __atomic_load_n(&g->kernel[shared][out][act][at], __ATOMIC_ACQUIRE);
    if (*kernel) return VLCACHE_OK;
    vlcache_status status;
    if (g->rung == BLOCKS) {
        snprintf(options, sizeof options, " -DOUT=%d -DACT=%d", out, act);
        status = vlci_matrix_kernel(g->device, g->dtype, "gemm_blocks.cl", "gemm_blocks", options, kernel);
    } else if (in_pairs(g->rung)) {
        status = get_pairs(g, out, act, kernel);
    } else if (g->rung == MMA) {
        status = get_mma(g, out, act, kernel);
    } else {
        vlci_ptx ptx = {.target = "sm_90a",
                        .local_bytes = stages * (stage_bytes(t) + 16) + pass_bytes(t, out)};
        snprintf(options, sizeof options,
                 "-DW_DTYPE=%d -DTOKENS=%d -DBLOCKS=%d -DSTAGES=%zu -DOUT=%d -DACT=%d -DSHARED=%d",
                 (int)g->dtype, t->rows, t->blocks, stages, out, act, shared);
        status = vlci_kernel_get_ptx(g->device, "gemm_wgmma.cl", "gemm_wgmma", options, &ptx, kernel);
    }
    if (!status) __atomic_store_n(&g->kernel[shared][out][act][at], *kernel, __ATOMIC_RELEASE);
    return status;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

vlcache_status vlci_gemm_matrix_open(vlcache_device *device, vlcache_dtype dtype, vlci_gemm_matrix **out) {
    int rung;
    *out = NULL;
    if (!vlci_gemm_matrix_takes(dtype))
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "matrix units do not take %s", vlcache_dtype_name(dtype));
    vlcache_status status = find_rung(device, &rung);
    if (status) return status;
    vlci_gemm_matrix *g = vlci_calloc(1, sizeof *g);
    if (!g) return vlci_fail_memory("matrix product");
    *g = (vlci_gemm_matrix){.device = device, .dtype = dtype, .rung = rung};
    pthread_mutex_init(&g->lock, NULL);
    if (in_pairs(rung))
        status = vlci_matrix_kernel(device, dtype, "gemm_amx.cl", "to_tiles", " -DOUT=0 -DACT=0", &g->bring);
    else
        status =
            vlci_matrix_kernel(device, dtype, "gemm_blocks.cl", "to_stripes", " -DOUT=0 -DACT=0", &g->bring);
    if (!status) status = create_parts(g);
    if (status)
        vlci_gemm_matrix_close(&g);
    else
        *out = g;
    return status;
}

void vlci_gemm_matrix_close(vlci_gemm_matrix **handle) {
    vlci_gemm_matrix *g = *handle;
    *handle = NULL;
    if (!g) return;
    vlci_memory_release(g->device, &g->parts);
    vlci_memory_release(g->device, &g->brought);
    pthread_mutex_destroy(&g->lock);
    vlci_free(g);
}

/* Measured on an H100, a 7B model: 4 rows by gemv_blocks 9.8 ms a step, 16 rows by wgmma 8.6. */
int vlci_gemm_matrix_least(const vlci_gemm_matrix *g) {
    static const int least[] = {[WGMMA] = 3, [MMA] = 3, [AMX] = 5};
    bool few = g->rung <= AMX && vlci_gemm_matrix_layout(g) != VLCI_PANELS;
    return few ? least[g->rung] : VLCI_GEMV_ROWS_MAX + 1;
}

bool vlci_gemm_matrix_own(const vlci_gemm_matrix *g) {
    return g->rung == AMX;
}

vlci_layout vlci_gemm_matrix_layout(const vlci_gemm_matrix *g) {
    if (!in_pairs(g->rung)) return VLCI_BLOCKS;
    return g->dtype == VLCACHE_DTYPE_F16 ? VLCI_PANELS : VLCI_PAIRS;
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* Of amx: work-items as large as they may be; where there would be few of them for each processor, their
 * longer side is halved. */
static vlci_grid pairs_grid(const vlci_gemm_matrix *g, int out, size_t m, size_t columns) {
    size_t strips = vlci_ceil_div(columns, out == OUT_GATED ? VLCI_TILE / 2 : VLCI_TILE);
    size_t rows = vlci_ceil_div(m, VLCI_TILE), across = VLCI_GEMM_AMX_ACROSS(g->rung == AMX),
           down = VLCI_GEMM_AMX_DOWN(g->rung == AMX);
    size_t enough = SHARES * (size_t)g->device->caps.info.compute_units;
    while (across * down > 1 && vlci_ceil_div(strips, across) * vlci_ceil_div(rows, down) < enough)
        *(across >= down ? &across : &down) /= 2;
    return VLCI_GRID(vlci_ceil_div(rows, down), vlci_ceil_div(strips, across), 1, 1, 1, 1);
}

static vlci_grid grid_of(const vlci_gemm_matrix *g, const vlci_kernel *kernel, int out, int at, size_t m,
                         size_t columns, size_t split) {
    size_t units = g->device->caps.info.compute_units, wide, n, stages;
    int warps;
    switch (g->rung) {
    case AMX:
    case PAIRS:
        return pairs_grid(g, out, m, columns);
    case WGMMA:
        wide = out == OUT_GATED ? 128 : 128 * (size_t)tiles[at].blocks;
        n = vlci_ceil_div(m, (size_t)tiles[at].rows) * vlci_ceil_div(columns, wide) * split;
        return VLCI_GRID(n < units ? n : units, 1, 1, ITEMS, 1, 1);
    case MMA:
        mma_shape(g, &warps, &stages);
        wide = (out == OUT_GATED ? 32 : 64) * (size_t)warps;
        return VLCI_GRID(vlci_ceil_div(m, 128) * vlci_ceil_div(columns, wide), 1, 1, 64 * (size_t)warps, 1,
                         1);
    }
    return vlci_grid_over(kernel, out == OUT_FLOATS ? columns : VLCI_BLOCKS(columns) * VLCI_BLOCK, m, 1);
}

static vlcache_status launch(vlci_gemm_matrix *g, const vlci_product *p, cl_mem x) {
    int out = p->gated ? OUT_GATED : p->y_form != VLCI_FLOATS ? OUT_SHORT : OUT_FLOATS;
    int at = best_tile(g, p, out);
    size_t columns = (size_t)(p->gated ? p->w->n / 2 : p->w->n), m = (size_t)p->m, split = 1;
    bool shared = in_shares(g, p);
    const vlci_kernel *kernel;
    vlcache_status status = get_kernel(g, shared, out, (int)p->act, at, &kernel);
    if (status) return status;
    if (shared) split = split_of(g, p);
    const vlci_arg args[OWN_ARGS + SHARED_ARGS] = {
        VLCI_MEM(p->w->data),    VLCI_MEM(p->w->bias), VLCI_MEM(x),       VLCI_MEM(p->y),
        VLCI_U32(p->y_offset),   VLCI_U32(p->m),       VLCI_U32(p->w->n), VLCI_U32(p->w->k),
        VLCI_U32(p->accumulate), VLCI_MEM(g->parts),   VLCI_U32(split)};
    return vlci_launch(g->device, kernel, grid_of(g, kernel, out, at, m, columns, split), args,
                       OWN_ARGS + (shared ? SHARED_ARGS : 0));
}

vlcache_status vlci_gemm_matrix_bring(const vlci_gemm_matrix *g, const vlci_product *p, cl_mem to) {
    vlci_grid grid;
    if (in_pairs(g->rung))
        grid = VLCI_GRID(vlci_ceil_div((size_t)p->m, VLCI_TILE), 1, 1, 1, 1, 1);
    else
        grid = vlci_grid_over(g->bring, VLCI_BLOCKS(p->w->k) * VLCI_BLOCK / 8, (size_t)p->m, 1);
    return VLCI_LAUNCH(g->device, g->bring, grid, VLCI_MEM(p->x), VLCI_U32(p->x_offset), VLCI_MEM(to),
                       VLCI_U32(p->m), VLCI_U32(p->w->k));
}

/* For who brings nothing: x in 16 bits, in memory of the engine's own. */
static vlcache_status bring_and_launch(vlci_gemm_matrix *g, const vlci_product *p) {
    size_t bytes = vlci_operand_bytes(p->m, p->w->k);
    vlcache_status status = VLCACHE_OK;
    pthread_mutex_lock(&g->lock);
    if (bytes > g->room) {
        g->room = 0;
        vlci_memory_release(g->device, &g->brought);
        status = vlci_memory_create(g->device, bytes, "rows in 16 bits", &g->brought);
        if (!status) g->room = bytes;
    }
    if (!status) status = vlci_gemm_matrix_bring(g, p, g->brought);
    if (!status) status = launch(g, p, g->brought);
    pthread_mutex_unlock(&g->lock);
    return status;
}

vlcache_status vlci_gemm_matrix_run(vlci_gemm_matrix *g, const vlci_product *p) {
    return p->x_form != VLCI_FLOATS ? launch(g, p, p->x) : bring_and_launch(g, p);
}
