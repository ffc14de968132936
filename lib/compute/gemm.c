/*
 * gemm.c - the engines of matrix products.
 *
 *     wide      gemm_wide, rung "12x32" | "6x16"
 *     portable  gemm_tile, rung "large" | "tile" | "small", else gemm_scalar
 *     clblast   gemm_widen, CLBlastSgemm, gemm_epilogue: a block of W at a time
 *     matrix    gemm_matrix.c
 */
#include "compute/gemm.h"

#include <clblast_c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

const char *const vlci_gemm_engine_names[VLCI_GEMM_ENGINES] = {"portable", "wide", "clblast", "matrix"};

vlci_layout vlci_gemm_layout(vlci_gemm_engine engine) {
    if (engine == VLCI_GEMM_MATRIX) return VLCI_BLOCKS;
    return engine == VLCI_GEMM_WIDE ? VLCI_PANELS : VLCI_ROWS;
}

bool vlci_gemm_fits(const vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype) {
    return engine != VLCI_GEMM_MATRIX || vlci_gemm_matrix_fits(device, dtype);
}

/* ---- wide ---------------------------------------------------------------------------------------------- */

/* A rung: rows x columns of a work-item's outputs, by what the registers hold. */
static const char *const wide_names[] = {"12x32", "6x16", NULL};

static const char *choose_wide(const vlcache_device *device) {
    return wide_names[device->caps.vector_floats < 16];
}

const vlci_ladder vlci_gemm_wide_ladder = {"gemm", "engine wide", wide_names, NULL, choose_wide};

static vlcache_status open_wide(vlci_gemm *g, vlcache_dtype dtype) {
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(g->device, &vlci_gemm_wide_ladder, choose_wide(g->device), &rung);
    if (status) return status;
    g->wide_rows = (size_t)atoi(rung);
    g->wide_columns = (size_t)atoi(strchr(rung, 'x') + 1);
    snprintf(options, sizeof options, " -DROWS_A_TILE=%zu -DVECTORS_A_TILE=%zu", g->wide_rows,
             g->wide_columns / 16);
    return vlci_matrix_kernel(g->device, dtype, "gemm_wide.cl", "gemm_wide", options, &g->wide);
}

static vlcache_status run_wide(const vlci_gemm *g, const vlci_product *p) {
    size_t panels = vlci_ceil_div((size_t)p->w->n, VLCI_PANEL) * (VLCI_PANEL / g->wide_columns);
    vlci_grid grid = VLCI_GRID(vlci_ceil_div((size_t)p->m, g->wide_rows), panels, 1, 1, 1, 1);
    return vlci_product_launch(g->device, g->wide, grid, p);
}

/* ---- portable ------------------------------------------------------------------------------------------ */

/* A rung of gemm_tile: work-groups of group x group items, each with work x work outputs. */
typedef struct rung {
    const char *name;
    int group, work, tile_k;
} rung;
static const rung rungs[] = {{"large", 16, 8, 16}, {"tile", 16, 4, 16}, {"small", 8, 4, 16}};
enum { LARGE, RUNGS = sizeof rungs / sizeof rungs[0] };

static const char *const rung_names[] = {"large", "tile", "small", "scalar", NULL};

/* Options of the kernels of gemm.cl that have no tiles. */
static const char no_tiles[] = " -DGROUP=1 -DWORK=1 -DTILE_K=1";

static const rung *find_rung(const char *name) {
    for (int i = 0; i < RUNGS; i++)
        if (strcmp(name, rungs[i].name) == 0) return &rungs[i];
    return NULL; /* "scalar" */
}

static bool rung_fits(const vlcache_device *device, const char *name) {
    const rung *r = find_rung(name);
    if (!r) return true;
    size_t local = sizeof(float) * (size_t)VLCI_GEMM_LOCAL_FLOATS(r->tile_k, r->group * r->work);
    return (size_t)(r->group * r->group) <= device->caps.max_group && local <= device->caps.local_bytes;
}

/* "large" pays where its tiles fill the device; then the largest that fits. */
static const char *best_rung(const vlcache_device *device, bool fills) {
    int first = fills && !device->caps.wide_vectors ? LARGE : LARGE + 1;
    while (!rung_fits(device, rung_names[first])) first++;
    return rung_names[first];
}

static const char *choose_rung(const vlcache_device *device) {
    return best_rung(device, true);
}

const vlci_ladder vlci_gemm_ladder = {"gemm", "engine portable", rung_names, rung_fits, choose_rung};

static vlcache_status open_tile(const vlci_gemm *g, vlcache_dtype dtype, bool fills, vlci_gemm_tile *out) {
    const char *name;
    vlcache_status status = vlci_rung(g->device, &vlci_gemm_ladder, best_rung(g->device, fills), &name);
    if (status) return status;
    const rung *r = find_rung(name);
    if (r) {
        char options[64];
        snprintf(options, sizeof options, " -DGROUP=%d -DWORK=%d -DTILE_K=%d", r->group, r->work, r->tile_k);
        *out = (vlci_gemm_tile){.group = (size_t)r->group, .side = (size_t)(r->group * r->work)};
        status = vlci_matrix_kernel(g->device, dtype, "gemm.cl", "gemm_tile", options, &out->kernel);
        if (status || out->group * out->group <= out->kernel->max_group) return status;
    }
    *out = (vlci_gemm_tile){0}; /* "scalar", or too many registers for a group of that size */
    return vlci_matrix_kernel(g->device, dtype, "gemm.cl", "gemm_scalar", no_tiles, &out->kernel);
}

static vlcache_status open_portable(vlci_gemm *g, vlcache_dtype dtype) {
    vlcache_status status = open_tile(g, dtype, false, &g->few);
    return status ? status : open_tile(g, dtype, true, &g->many);
}

static vlcache_status run_portable(const vlci_gemm *g, const vlci_product *p) {
    size_t large = (size_t)(rungs[LARGE].group * rungs[LARGE].work), m = (size_t)p->m, n = (size_t)p->w->n;
    bool fills = vlci_ceil_div(m, large) * vlci_ceil_div(n, large) >= g->device->caps.info.compute_units;
    const vlci_gemm_tile *t = fills ? &g->many : &g->few;
    vlci_grid grid =
        t->side ? VLCI_GRID(vlci_ceil_div(n, t->side), vlci_ceil_div(m, t->side), 1, t->group, t->group, 1)
                : vlci_grid_over(t->kernel, n, m, 1);
    return vlci_product_launch(g->device, t->kernel, grid, p);
}

/* ---- CLBlast ------------------------------------------------------------------------------------------- */

enum { WIDEN_BYTES = 64 << 20 };

/* A block of W in f32. It is one product's from the block's widening to its use: others wait. */
typedef struct vlci_gemm_scratch {
    pthread_mutex_t lock;
    cl_mem wide;
} vlci_gemm_scratch;

static vlcache_status open_clblast(vlci_gemm *g, vlcache_dtype dtype) {
    g->scratch = vlci_calloc(1, sizeof *g->scratch);
    if (!g->scratch) return vlci_fail_memory("matrix product");
    pthread_mutex_init(&g->scratch->lock, NULL);
    vlcache_status status = vlci_memory_create(g->device, WIDEN_BYTES, "widened weights", &g->scratch->wide);
    if (!status) status = vlci_matrix_kernel(g->device, dtype, "gemm.cl", "gemm_widen", no_tiles, &g->widen);
    if (!status)
        status = vlci_matrix_kernel(g->device, dtype, "gemm.cl", "gemm_epilogue", no_tiles, &g->epilogue);
    return status ? status : open_portable(g, dtype);
}

/* Rows [first, first + rows) of W, widened, times x, into those columns of y. */
static vlcache_status multiply_block(const vlci_gemm *g, const vlci_product *p, int first, int rows) {
    size_t n = (size_t)p->w->n, k = (size_t)p->w->k;
    cl_command_queue queue = g->device->queue;
    cl_mem wide = g->scratch->wide;
    vlcache_status status =
        VLCI_LAUNCH(g->device, g->widen, vlci_grid_over(g->widen, k, (size_t)rows, 1), VLCI_MEM(p->w->data),
                    VLCI_MEM(wide), VLCI_I32(first), VLCI_I32(rows), VLCI_I32(p->w->k));
    if (status) return status;
    CLBlastStatusCode code =
        CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, (size_t)p->m,
                     (size_t)rows, k, 1.0f, p->x, p->x_offset, k, wide, 0, k, p->accumulate ? 1.0f : 0.0f,
                     p->y, (size_t)p->y_offset + (size_t)first, n, &queue, NULL);
    return code ? vlci_fail(VLCACHE_E_DEVICE,
                            "CLBlastSgemm on \"%s\": status %d (VLCACHE_GEMM=portable does without)",
                            g->device->caps.info.name, (int)code)
                : VLCACHE_OK;
}

static vlcache_status finish_clblast(const vlci_gemm *g, const vlci_product *p) {
    if (!p->w->bias && !p->act) return VLCACHE_OK;
    return VLCI_LAUNCH(g->device, g->epilogue, vlci_grid_over(g->epilogue, (size_t)p->w->n, (size_t)p->m, 1),
                       VLCI_MEM(p->y), VLCI_U32(p->y_offset), VLCI_MEM(p->w->bias), VLCI_I32(p->m),
                       VLCI_I32(p->w->n), VLCI_I32(p->act));
}

/* A BLAS adds before the activation, so a residual with one goes to our own kernel, as do rows that do not
 * fit. */
static vlcache_status run_clblast(const vlci_gemm *g, const vlci_product *p) {
    size_t fit = WIDEN_BYTES / ((size_t)p->w->k * sizeof(float));
    if (!fit || (p->accumulate && p->act)) return run_portable(g, p);
    int n = p->w->n, rows = fit < (size_t)n ? (int)fit : n;
    vlcache_status status = VLCACHE_OK;
    pthread_mutex_lock(&g->scratch->lock);
    for (int first = 0; !status && first < n; first += rows)
        status = multiply_block(g, p, first, rows < n - first ? rows : n - first);
    pthread_mutex_unlock(&g->scratch->lock);
    return status ? status : finish_clblast(g, p);
}

/* ---- matrix -------------------------------------------------------------------------------------------- */

static vlcache_status open_matrix(vlci_gemm *g, vlcache_dtype dtype) {
    return vlci_gemm_matrix_open(g->device, dtype, &g->matrix);
}

static vlcache_status run_matrix(const vlci_gemm *g, const vlci_product *p) {
    return vlci_gemm_matrix_run(g->matrix, p);
}

/* ---- an engine ----------------------------------------------------------------------------------------- */

vlcache_status vlci_gemm_open(vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype,
                              vlci_gemm *out) {
    static vlcache_status (*const open[VLCI_GEMM_ENGINES])(vlci_gemm *, vlcache_dtype) = {
        open_portable, open_wide, open_clblast, open_matrix};
    *out = (vlci_gemm){.device = device, .engine = engine};
    vlcache_status status = open[engine](out, dtype);
    if (status) vlci_gemm_close(out);
    return status;
}

vlcache_status vlci_gemm_run(const vlci_gemm *gemm, const vlci_product *p) {
    static vlcache_status (*const run[VLCI_GEMM_ENGINES])(const vlci_gemm *, const vlci_product *) = {
        run_portable, run_wide, run_clblast, run_matrix};
    return run[gemm->engine](gemm, p);
}

void vlci_gemm_close(vlci_gemm *gemm) {
    if (gemm->scratch) {
        vlci_memory_release(gemm->device, &gemm->scratch->wide);
        pthread_mutex_destroy(&gemm->scratch->lock);
        vlci_free(gemm->scratch);
    }
    vlci_gemm_matrix_close(&gemm->matrix);
    *gemm = (vlci_gemm){0};
}
