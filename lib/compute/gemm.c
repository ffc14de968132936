/*
 * gemm.c - the engines of matrix products.
 *
 *     wide      gemm_dot, rung "dot" | "dot_plain"; gemm_wide, "12x32" | "6x16"
 *     portable  gemm_large, rung "large"; gemm_tile, "tile" | "small"; else gemm_scalar
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

vlci_layout vlci_gemm_layout(const vlci_gemm *gemm) {
    if (gemm->engine == VLCI_GEMM_MATRIX) return vlci_gemm_matrix_layout(gemm->matrix);
    return gemm->engine == VLCI_GEMM_WIDE && !gemm->dot ? VLCI_PANELS : VLCI_ROWS;
}

bool vlci_gemm_fits(const vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype) {
    return engine != VLCI_GEMM_MATRIX || vlci_gemm_matrix_fits(device, dtype);
}

/* ---- wide ---------------------------------------------------------------------------------------------- */

enum {
    WIDE_ITEMS = 8,  /* work-items for each processor: what the last of them leaves idle is little */
    MAPPED_DOWN = 16 /* tiles below each other where strips are made of rows, which costs more */
};

/* A rung: products of pairs of bf16, of bf16 weights; else rows x columns of a tile, by what registers hold.
 */
enum { DOT, DOT_PLAIN, LARGER, SMALLER };
static const char *const wide_names[] = {"dot", "dot_plain", "12x32", "6x16", NULL};

static bool wide_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, wide_names[DOT]) != 0 || device->caps.dot;
}

static const char *choose_floats(const vlcache_device *device) {
    return wide_names[device->caps.vector_floats < 16 ? SMALLER : LARGER];
}

static const char *choose_wide(const vlcache_device *device) {
    return device->caps.dot ? wide_names[DOT] : choose_floats(device);
}

const vlci_ladder vlci_gemm_wide_ladder = {"gemm", "engine wide", wide_names, wide_fits, choose_wide};

static vlcache_status open_dot(vlci_gemm *g, bool own) {
    const vlci_kernel **all[] = {&g->wide_mapped, &g->wide_gated};
    vlcache_status status = VLCACHE_OK;
    g->dot = own ? VLCI_DOT_OWN : VLCI_DOT_PLAIN;
    g->wide_rows = VLCI_GEMM_DOT_ROWS;
    g->wide_columns = VLCI_PANEL;
    for (int i = 0; i < 2 && !status; i++) {
        char options[32];
        snprintf(options, sizeof options, " -DDOT=%d -DGATED=%d", own, i);
        status =
            vlci_matrix_kernel(g->device, VLCACHE_DTYPE_BF16, "gemm_dot.cl", "gemm_dot", options, all[i]);
    }
    return status;
}

/* The kernel for a layout of W. */
static vlcache_status open_wide_for(const vlci_gemm *g, vlcache_dtype dtype, vlci_layout layout, int down,
                                    const vlci_kernel **out) {
    char options[96];
    snprintf(options, sizeof options, " -DROWS_A_TILE=%zu -DVECTORS_A_TILE=%zu -DLAYOUT=%d -DDOWN=%d",
             g->wide_rows, g->wide_columns / 16, (int)layout, down);
    return vlci_matrix_kernel(g->device, dtype, "gemm_wide.cl", "gemm_wide", options, out);
}

static vlcache_status open_wide(vlci_gemm *g, vlcache_dtype dtype) {
    const char *rung;
    vlcache_status status = vlci_rung(g->device, &vlci_gemm_wide_ladder, choose_wide(g->device), &rung);
    if (status) return status;
    bool dot = strcmp(rung, wide_names[DOT]) == 0;
    if (dtype == VLCACHE_DTYPE_BF16 && (dot || strcmp(rung, wide_names[DOT_PLAIN]) == 0))
        return open_dot(g, dot);
    if (!strchr(rung, 'x')) rung = choose_floats(g->device); /* for other weights */
    g->wide_rows = (size_t)atoi(rung);
    g->wide_columns = (size_t)atoi(strchr(rung, 'x') + 1);
    return open_wide_for(g, dtype, VLCI_PANELS, VLCI_GEMM_WIDE_DOWN, &g->wide);
}

vlcache_status vlci_gemm_open_mapped(vlci_gemm *gemm, vlcache_dtype dtype) {
    return gemm->dot ? VLCACHE_OK : open_wide_for(gemm, dtype, VLCI_ROWS, MAPPED_DOWN, &gemm->wide_mapped);
}

/* Work-items as large as they may be; where there would be few of them for each processor, their longer side
 * is halved. */
static vlcache_status run_wide(const vlci_gemm *g, const vlci_product *p) {
    size_t strips = vlci_ceil_div((size_t)p->w->n, g->wide_columns);
    size_t tiles = vlci_ceil_div((size_t)p->m, g->wide_rows);
    bool mapped = p->w->layout == VLCI_ROWS;
    bool own = g->dot == VLCI_DOT_OWN;
    size_t across = g->dot ? VLCI_GEMM_DOT_ACROSS(own) : VLCI_GEMM_WIDE_ACROSS;
    size_t down = g->dot ? VLCI_GEMM_DOT_DOWN(own) : mapped ? MAPPED_DOWN : VLCI_GEMM_WIDE_DOWN;
    size_t enough = WIDE_ITEMS * (size_t)g->device->caps.info.compute_units;
    while (across * down > 1 && vlci_ceil_div(strips, across) * vlci_ceil_div(tiles, down) < enough)
        *(across >= down ? &across : &down) /= 2;
    vlci_grid grid = VLCI_GRID(vlci_ceil_div(strips, across), vlci_ceil_div(tiles, down), 1, 1, 1, 1);
    if (p->gated) return vlci_product_launch_parts(g->device, g->wide_gated, grid, p);
    return mapped ? vlci_product_launch_parts(g->device, g->wide_mapped, grid, p)
                  : vlci_product_launch(g->device, g->wide, grid, p);
}

/* ---- portable ------------------------------------------------------------------------------------------ */

/* A rung of gemm_tile: work-groups of group x group items, each with work x work outputs; group 0:
 * gemm_large. */
typedef struct rung {
    const char *name;
    int group, work, tile_k;
} rung;
static const rung rungs[] = {{"large", 0, 0, 0}, {"tile", 16, 4, 16}, {"small", 8, 4, 16}};
enum {
    LARGE,
    RUNGS = sizeof rungs / sizeof rungs[0],
    LARGE_LOCAL = 33792 /* bytes: two buffers of two operands */
};

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
    if (r == &rungs[LARGE])
        return device->caps.max_group >= VLCI_GEMM_LARGE && device->caps.local_bytes >= LARGE_LOCAL;
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

static vlcache_status open_large(const vlci_gemm *g, vlcache_dtype dtype, vlci_gemm_tile *out) {
    vlcache_status status = VLCACHE_OK;
    *out = (vlci_gemm_tile){.side = VLCI_GEMM_LARGE};
    for (int i = 0; i < 4 && !status; i++) {
        char options[40];
        snprintf(options, sizeof options, " -DALIGNED=%d -DACTS=%d", i / 2, i % 2);
        status = vlci_matrix_kernel(g->device, dtype, "gemm_large.cl", "gemm_large", options,
                                    &out->kernel[i / 2][i % 2]);
    }
    return status;
}

/* One kernel for all products. */
static vlcache_status open_plain(const vlci_gemm *g, vlcache_dtype dtype, const char *name,
                                 const char *options, vlci_gemm_tile *out) {
    vlcache_status status =
        vlci_matrix_kernel(g->device, dtype, "gemm.cl", name, options, &out->kernel[0][0]);
    for (int i = 1; i < 4; i++) out->kernel[i / 2][i % 2] = out->kernel[0][0];
    return status;
}

static vlcache_status open_tile(const vlci_gemm *g, vlcache_dtype dtype, bool fills, vlci_gemm_tile *out) {
    const char *name;
    vlcache_status status = vlci_rung(g->device, &vlci_gemm_ladder, best_rung(g->device, fills), &name);
    if (status) return status;
    const rung *r = find_rung(name);
    if (r == &rungs[LARGE]) return open_large(g, dtype, out);
    if (r) {
        char options[64];
        snprintf(options, sizeof options, " -DGROUP=%d -DWORK=%d -DTILE_K=%d", r->group, r->work, r->tile_k);
        *out = (vlci_gemm_tile){.group = (size_t)r->group, .side = (size_t)(r->group * r->work)};
        status = open_plain(g, dtype, "gemm_tile", options, out);
        if (status || out->group * out->group <= out->kernel[0][0]->max_group) return status;
    }
    *out = (vlci_gemm_tile){0}; /* "scalar", or too many registers for a group of that size */
    return open_plain(g, dtype, "gemm_scalar", no_tiles, out);
}

static vlcache_status open_portable(vlci_gemm *g, vlcache_dtype dtype) {
    vlcache_status status = open_tile(g, dtype, false, &g->few);
    return status ? status : open_tile(g, dtype, true, &g->many);
}

static vlcache_status run_portable(const vlci_gemm *g, const vlci_product *p) {
    size_t m = (size_t)p->m, n = (size_t)p->w->n;
    size_t large = vlci_ceil_div(m, VLCI_GEMM_LARGE) * vlci_ceil_div(n, VLCI_GEMM_LARGE);
    const vlci_gemm_tile *t = large >= g->device->caps.info.compute_units ? &g->many : &g->few;
    bool aligned = p->w->k % 8 == 0 && p->x_offset % 4 == 0;
    const vlci_kernel *kernel = t->kernel[aligned][p->act != VLCI_ACT_NONE];
    vlci_grid grid = vlci_grid_over(kernel, n, m, 1);
    if (t->group)
        grid = VLCI_GRID(vlci_ceil_div(n, t->side), vlci_ceil_div(m, t->side), 1, t->group, t->group, 1);
    else if (t->side)
        grid = VLCI_GRID(large, 1, 1, VLCI_GEMM_LARGE, 1, 1);
    return vlci_product_launch(g->device, kernel, grid, p);
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
