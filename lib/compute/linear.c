/*
 * linear.c - y = act(x W^T + bias) (+ y): which kernel computes it, and which engine a device is best at.
 *
 *     m <= 8 ------------------> gemv_rows | gemv_panels   (W is read once for all rows)
 *     W in panels -------------> gemm_wide
 *     W in rows, clblast won --> gemm_widen, CLBlastSgemm, gemm_epilogue: a block of W at a time
 *     W in rows ---------------> gemm_tile, rung "large" | "tile" | "small", else gemm_scalar
 */
#include "compute/linear.h"

#include <clblast_c.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "device/ladder.h"

enum { PORTABLE, WIDE, CLBLAST, ENGINES = VLCI_GEMM_ENGINES };
static const char *const engine_names[ENGINES] = {"portable", "wide", "clblast"};

enum { GEMV_ROWS_MAX = 8, GEMV_LANES = 64, WIDEN_BYTES = 64 << 20 };

/* One product as asked for. */
typedef struct product {
    const vlci_matrix *w;
    cl_mem x, y;
    uint32_t x_offset, y_offset;
    int m;
    int act, accumulate;
} product;

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

size_t vlci_matrix_bytes(int n, int k, vlcache_dtype dtype, vlci_layout layout) {
    size_t rows = layout == VLCI_PANELS ? ceil_div((size_t)n, VLCI_PANEL) * VLCI_PANEL : (size_t)n;
    return rows * (size_t)k * vlci_dtype_bytes(dtype);
}

/* ---- own kernels --------------------------------------------------------------------------------------- */

static vlcache_status get_kernel(vlcache_device *device, vlcache_dtype dtype, const char *file,
                                 const char *name, const char *options, const vlci_kernel **out) {
    char all[128];
    snprintf(all, sizeof all, "-DW_DTYPE=%d%s", (int)dtype, options);
    return vlci_kernel_get(device, file, name, all, out);
}

/* All kernels that compute a whole product take the same arguments. */
static vlcache_status launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                             const product *p) {
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(p->w->data), VLCI_MEM(p->w->bias), VLCI_MEM(p->x),
                       VLCI_U32(p->x_offset), VLCI_MEM(p->y), VLCI_U32(p->y_offset), VLCI_I32(p->m),
                       VLCI_I32(p->w->n), VLCI_I32(p->w->k), VLCI_I32(p->act), VLCI_I32(p->accumulate));
}

static const char *choose_gemv(const vlcache_device *device) {
    return vlci_lanes_name(device->caps.wide_vectors ? 1 : GEMV_LANES);
}

const vlci_ladder vlci_gemv_ladder = {"gemv", "decode", vlci_lane_rungs, vlci_lanes_fit, choose_gemv};

/* Lanes of a gemv_rows work-group: a power of two that the device takes. */
static vlcache_status gemv_lanes(const vlcache_device *device, int rows, int *lanes) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_gemv_ladder, choose_gemv(device), &rung);
    if (status) return status;
    *lanes = atoi(rung);
    while (*lanes > 1 && ((size_t)*lanes > device->caps.max_group ||
                          (size_t)(*lanes * rows * 2) * sizeof(float) > device->caps.local_bytes))
        *lanes /= 2;
    return VLCACHE_OK;
}

static vlcache_status run_gemv(vlcache_device *device, const product *p) {
    int rows = 1;
    while (rows < p->m) rows *= 2;
    char options[96];
    const vlci_kernel *kernel;
    if (p->w->layout == VLCI_PANELS) {
        snprintf(options, sizeof options, " -DROWS=%d", rows);
        vlcache_status status = get_kernel(device, p->w->dtype, "gemv.cl", "gemv_panels", options, &kernel);
        if (status) return status;
        return launch(device, kernel, VLCI_GRID(ceil_div((size_t)p->w->n, VLCI_PANEL), 1, 1, 1, 1, 1), p);
    }
    int lanes, columns = 2;
    vlcache_status status = gemv_lanes(device, rows, &lanes);
    if (status) return status;
    bool aligned = p->w->k % 8 == 0 && p->x_offset % 8 == 0;
    snprintf(options, sizeof options, " -DROWS=%d -DLANES=%d -DCOLUMNS=%d -DALIGNED=%d", rows, lanes, columns,
             aligned);
    status = get_kernel(device, p->w->dtype, "gemv.cl", "gemv_rows", options, &kernel);
    if (status) return status;
    size_t groups = ceil_div((size_t)p->w->n, (size_t)columns);
    return launch(device, kernel, VLCI_GRID(groups, 1, 1, (size_t)lanes, 1, 1), p);
}

/* A rung of gemm_wide: rows x columns of a work-item's outputs, by what the registers hold. */
static const char *const wide_names[] = {"12x32", "6x16", NULL};

static const char *choose_wide(const vlcache_device *device) {
    return wide_names[device->caps.vector_floats < 16];
}

const vlci_ladder vlci_gemm_wide_ladder = {"gemm", "engine wide", wide_names, NULL, choose_wide};

static vlcache_status run_wide(vlcache_device *device, const product *p) {
    const vlci_kernel *kernel;
    const char *rung;
    char options[64];
    vlcache_status status = vlci_rung(device, &vlci_gemm_wide_ladder, choose_wide(device), &rung);
    if (status) return status;
    size_t rows = (size_t)atoi(rung), columns = (size_t)atoi(strchr(rung, 'x') + 1);
    snprintf(options, sizeof options, " -DROWS_A_TILE=%zu -DVECTORS_A_TILE=%zu", rows, columns / 16);
    status = get_kernel(device, p->w->dtype, "gemm_wide.cl", "gemm_wide", options, &kernel);
    if (status) return status;
    size_t panels = ceil_div((size_t)p->w->n, VLCI_PANEL) * (VLCI_PANEL / columns);
    return launch(device, kernel, VLCI_GRID(ceil_div((size_t)p->m, rows), panels, 1, 1, 1, 1), p);
}

/* A rung of gemm_tile: work-groups of group x group items, each with work x work outputs. */
typedef struct rung {
    const char *name;
    int group, work, tile_k;
} rung;
static const rung rungs[] = {{"large", 16, 8, 16}, {"tile", 16, 4, 16}, {"small", 8, 4, 16}};
enum { LARGE, RUNGS = sizeof rungs / sizeof rungs[0] };

static const char *const rung_names[] = {"large", "tile", "small", "scalar", NULL};

static const rung *find_rung(const char *name) {
    for (int i = 0; i < RUNGS; i++)
        if (strcmp(name, rungs[i].name) == 0) return &rungs[i];
    return NULL; /* "scalar" */
}

static bool rung_fits(const vlcache_device *device, const char *name) {
    const rung *r = find_rung(name);
    if (!r) return true;
    size_t local = 2 * sizeof(float) * (size_t)r->tile_k * (size_t)(r->group * r->work + 1);
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

static vlcache_status pick_rung(const vlcache_device *device, const product *p, const rung **out) {
    size_t side = (size_t)(rungs[LARGE].group * rungs[LARGE].work);
    size_t tiles = ceil_div((size_t)p->m, side) * ceil_div((size_t)p->w->n, side);
    const char *name = best_rung(device, tiles >= device->caps.info.compute_units);
    vlcache_status status = vlci_rung(device, &vlci_gemm_ladder, name, &name);
    if (!status) *out = find_rung(name);
    return status;
}

static vlcache_status run_scalar(vlcache_device *device, const product *p) {
    const vlci_kernel *kernel;
    vlcache_status status =
        get_kernel(device, p->w->dtype, "gemm.cl", "gemm_scalar", " -DGROUP=1 -DWORK=1 -DTILE_K=1", &kernel);
    if (status) return status;
    return launch(device, kernel, vlci_grid_over(kernel, (size_t)p->w->n, (size_t)p->m, 1), p);
}

static vlcache_status run_portable(vlcache_device *device, const product *p) {
    const rung *r;
    vlcache_status status = pick_rung(device, p, &r);
    if (status) return status;
    if (!r) return run_scalar(device, p);
    char options[64];
    snprintf(options, sizeof options, " -DGROUP=%d -DWORK=%d -DTILE_K=%d", r->group, r->work, r->tile_k);
    const vlci_kernel *kernel;
    status = get_kernel(device, p->w->dtype, "gemm.cl", "gemm_tile", options, &kernel);
    if (status) return status;
    size_t group = (size_t)r->group, side = group * (size_t)r->work;
    if (group * group > kernel->max_group) return run_scalar(device, p); /* too many registers there */
    vlci_grid grid =
        VLCI_GRID(ceil_div((size_t)p->w->n, side), ceil_div((size_t)p->m, side), 1, group, group, 1);
    return launch(device, kernel, grid, p);
}

/* ---- CLBlast ------------------------------------------------------------------------------------------- */

/* Rows [first, first + rows) of W, widened into `wide`, times x, into those columns of y. */
static vlcache_status multiply_block(vlcache_device *device, const product *p, cl_mem wide, int first,
                                     int rows) {
    const vlci_kernel *widen;
    size_t n = (size_t)p->w->n, k = (size_t)p->w->k;
    vlcache_status status =
        get_kernel(device, p->w->dtype, "gemm.cl", "gemm_widen", " -DGROUP=1 -DWORK=1 -DTILE_K=1", &widen);
    if (!status)
        status = VLCI_LAUNCH(device, widen, vlci_grid_over(widen, k, (size_t)rows, 1), VLCI_MEM(p->w->data),
                             VLCI_MEM(wide), VLCI_I32(first), VLCI_I32(rows), VLCI_I32(p->w->k));
    if (status) return status;
    CLBlastStatusCode code =
        CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, (size_t)p->m,
                     (size_t)rows, k, 1.0f, p->x, p->x_offset, k, wide, 0, k, p->accumulate ? 1.0f : 0.0f,
                     p->y, (size_t)p->y_offset + (size_t)first, n, &device->queue, NULL);
    return code ? vlci_fail(VLCACHE_E_DEVICE,
                            "CLBlastSgemm on \"%s\": status %d (VLCACHE_GEMM=portable does without)",
                            device->caps.info.name, (int)code)
                : VLCACHE_OK;
}

static vlcache_status finish_clblast(vlcache_device *device, const product *p) {
    if (!p->w->bias && !p->act) return VLCACHE_OK;
    const vlci_kernel *kernel;
    vlcache_status status = get_kernel(device, p->w->dtype, "gemm.cl", "gemm_epilogue",
                                       " -DGROUP=1 -DWORK=1 -DTILE_K=1", &kernel);
    if (status) return status;
    return VLCI_LAUNCH(device, kernel, vlci_grid_over(kernel, (size_t)p->w->n, (size_t)p->m, 1),
                       VLCI_MEM(p->y), VLCI_U32(p->y_offset), VLCI_MEM(p->w->bias), VLCI_I32(p->m),
                       VLCI_I32(p->w->n), VLCI_I32(p->act));
}

static vlcache_status run_clblast(vlcache_device *device, const product *p) {
    size_t row = (size_t)p->w->k * sizeof(float);
    size_t fit = WIDEN_BYTES / row ? WIDEN_BYTES / row : 1;
    int rows = fit < (size_t)p->w->n ? (int)fit : p->w->n;
    cl_mem wide = NULL;
    vlcache_status status = vlci_memory_create(device, (size_t)rows * row, "widened weights", &wide);
    for (int first = 0; !status && first < p->w->n; first += rows)
        status = multiply_block(device, p, wide, first, rows < p->w->n - first ? rows : p->w->n - first);
    if (!status) status = finish_clblast(device, p);
    vlci_memory_release(device, &wide); /* the runtime keeps it until the queue is done with it */
    return status;
}

/* ---- dispatch ------------------------------------------------------------------------------------------ */

static int planned_engine(vlcache_device *device, vlcache_dtype dtype) {
    pthread_mutex_lock(&device->lock);
    int engine = device->gemm_engine[dtype] - 1;
    pthread_mutex_unlock(&device->lock);
    return engine;
}

static vlcache_status run_engine(vlcache_device *device, int engine, const product *p) {
    if (p->w->layout == VLCI_PANELS) return run_wide(device, p);
    /* A BLAS adds before the activation, so a residual with one goes to our own kernel. */
    if (engine == CLBLAST && !(p->accumulate && p->act)) return run_clblast(device, p);
    return run_portable(device, p);
}

static bool is_dtype(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 || dtype == VLCACHE_DTYPE_F16 || dtype == VLCACHE_DTYPE_BF16;
}

vlcache_status vlci_gemm(vlcache_device *device, const vlci_matrix *w, cl_mem x, size_t x_offset, cl_mem y,
                         size_t y_offset, int m, vlci_activation act, bool accumulate) {
    if (!is_dtype(w->dtype) || w->n < 1 || w->k < 1 || m < 0 || x_offset > UINT32_MAX ||
        y_offset > UINT32_MAX)
        return vlci_fail(VLCACHE_E_ARGUMENT, "matrix product: [%d][%d] x [%d][%d] of %s: not a valid shape",
                         m, w->k, w->n, w->k, vlcache_dtype_name(w->dtype));
    if (m == 0) return VLCACHE_OK;
    product p = {w, x, y, (uint32_t)x_offset, (uint32_t)y_offset, m, (int)act, accumulate};
    return m <= GEMV_ROWS_MAX ? run_gemv(device, &p)
                              : run_engine(device, planned_engine(device, w->dtype), &p);
}

/* ---- planning ------------------------------------------------------------------------------------------ */

/* The product that is measured: the tokens of a CLIP picture times a square matrix. */
enum { PLAN_M = 576, PLAN_N = 1024, PLAN_K = 1024, PLAN_RUNS = 8, PLAN_ROUNDS = 4, PLAN_TASTE = 64 };
static const double plan_short = 0.02; /* seconds: a run this short is repeated, */
static const double plan_long = 0.2;   /* and one this long is not begun */

static vlcache_status time_runs(vlcache_device *device, int engine, const product *p, int runs,
                                double *seconds) {
    double start = vlci_clock_ms();
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; !status && i < runs; i++) status = run_engine(device, engine, p);
    vlcache_status finished = vlci_finish(device);
    *seconds = (vlci_clock_ms() - start) / 1e3 / runs;
    return status ? status : finished;
}

/* All of x and W are 1, so every output must be K: an engine that says otherwise is none. */
static vlcache_status check_result(vlcache_device *device, const product *p) {
    size_t count = (size_t)p->m * PLAN_N;
    float *host = vlci_alloc(count, sizeof *host);
    if (!host) return vlci_fail_memory("matrix product measurement");
    vlcache_status status = vlci_read(device, p->y, 0, host, count * sizeof *host);
    for (size_t i = 0; !status && i < count; i++)
        if (host[i] != (float)PLAN_K)
            status = vlci_fail(VLCACHE_E_DEVICE, "wrong result: %g at %zu, %d expected", (double)host[i], i,
                               PLAN_K);
    vlci_free(host);
    return status;
}

/* Seconds for p once it is built and known to be right: the best of some rounds, since a machine that is busy
 * with something else only ever makes a round longer. */
static vlcache_status measure_product(vlcache_device *device, int engine, const product *p, double *seconds) {
    size_t y_bytes = (size_t)p->m * PLAN_N * sizeof(float);
    vlcache_status status = vlci_fill(device, p->y, 0, y_bytes, 0x7fc00000u);
    if (!status) status = time_runs(device, engine, p, 1, seconds); /* warm-up, with the builds */
    if (!status) status = check_result(device, p);
    if (!status) status = time_runs(device, engine, p, 1, seconds);
    int runs = *seconds < plan_short ? PLAN_RUNS : 1;
    for (int i = 0; !status && i < PLAN_ROUNDS && *seconds < plan_long; i++) {
        double again = 0;
        status = time_runs(device, engine, p, runs, &again);
        if (!status && again < *seconds) *seconds = again;
    }
    return status;
}

/* A taste of the product first: an engine that is slow at it is not asked for the whole. */
static vlcache_status measure_engine(vlcache_device *device, int engine, const product *whole,
                                     double *gflops) {
    double seconds = 0;
    product p = *whole;
    p.m = PLAN_TASTE;
    vlcache_status status = measure_product(device, engine, &p, &seconds);
    if (!status && seconds * PLAN_M / PLAN_TASTE < plan_long) {
        p.m = PLAN_M;
        status = measure_product(device, engine, &p, &seconds);
    }
    if (!status) *gflops = 2e-9 * p.m * PLAN_N * PLAN_K / seconds;
    return status;
}

/* Bit patterns of 1.0, twice where an element has 16 bits. */
static uint32_t ones(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? 0x3f800000u : dtype == VLCACHE_DTYPE_F16 ? 0x3c003c00u : 0x3f803f80u;
}

/* What an engine failed of, in one line. */
static void keep_error(vlcache_gemm_engine *engine) {
    snprintf(engine->error, sizeof engine->error, "%s", vlcache_error_message());
    for (char *c = engine->error; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
    vlci_log(VLCACHE_LOG_WARN, "gemm engine %s: %s", engine->name, engine->error);
}

/* An engine that fails has an error; the whole fails when the memory is not there or no engine works. */
static vlcache_status measure(vlcache_device *device, vlcache_dtype dtype,
                              vlcache_gemm_engine engines[ENGINES]) {
    vlci_matrix w = {.n = PLAN_N, .k = PLAN_K, .dtype = dtype};
    product p = {.w = &w, .m = PLAN_M};
    size_t w_bytes = vlci_matrix_bytes(PLAN_N, PLAN_K, dtype, VLCI_PANELS);
    size_t x_bytes = (size_t)PLAN_M * PLAN_K * sizeof(float),
           y_bytes = (size_t)PLAN_M * PLAN_N * sizeof(float);
    vlcache_status status = vlci_memory_create(device, w_bytes, "matrix product measurement", &w.data);
    if (!status) status = vlci_memory_create(device, x_bytes, "matrix product measurement", &p.x);
    if (!status) status = vlci_memory_create(device, y_bytes, "matrix product measurement", &p.y);
    if (!status) status = vlci_fill(device, w.data, 0, w_bytes, ones(dtype));
    if (!status) status = vlci_fill(device, p.x, 0, x_bytes, 0x3f800000u);
    bool works = false;
    for (int i = 0; !status && i < ENGINES; i++) {
        w.layout = i == WIDE ? VLCI_PANELS : VLCI_ROWS;
        vlcache_status failed = measure_engine(device, i, &p, &engines[i].gflops);
        if (failed == VLCACHE_E_NO_MEMORY || failed == VLCACHE_E_CANCELLED) status = failed;
        if (failed) keep_error(&engines[i]);
        works |= !failed;
    }
    if (!status && !works) status = vlci_fail_context(VLCACHE_E_DEVICE, "no gemm engine works");
    vlci_memory_release(device, &p.y);
    vlci_memory_release(device, &p.x);
    vlci_memory_release(device, &w.data);
    return status;
}

/* ---- the measurement on disk: a line "name gflops" or "name 0 error" for each engine ------------------- */

enum { SPEEDS_BYTES = ENGINES * 320 };

static void write_speeds(const vlcache_gemm_engine engines[ENGINES], char text[SPEEDS_BYTES]) {
    int used = 0;
    for (int i = 0; i < ENGINES; i++)
        used += snprintf(text + used, (size_t)(SPEEDS_BYTES - used), "%s %.6g%s%s\n", engines[i].name,
                         engines[i].gflops, *engines[i].error ? " " : "", engines[i].error);
}

/* One line; a speed of 0 goes with an error and no other does. The line's end, NULL when it is none. */
static const char *parse_line(const char *line, vlcache_gemm_engine *engine) {
    size_t length = strlen(engine->name);
    if (strncmp(line, engine->name, length) || line[length] != ' ') return NULL;
    char *end = NULL;
    engine->gflops = strtod(line + length, &end);
    if (!isfinite(engine->gflops) || engine->gflops < 0) return NULL;
    if (*end == ' ') {
        snprintf(engine->error, sizeof engine->error, "%.*s", (int)strcspn(end + 1, "\n"), end + 1);
        end += strcspn(end, "\n");
    }
    return *end == '\n' && (engine->gflops > 0) == (*engine->error == 0) ? end + 1 : NULL;
}

static bool parse_speeds(const char *text, vlcache_gemm_engine engines[ENGINES]) {
    bool works = false;
    for (int i = 0; text && i < ENGINES; i++) {
        text = parse_line(text, &engines[i]);
        works |= engines[i].gflops > 0;
    }
    return text && !*text && works;
}

static void clear_speeds(vlcache_gemm_engine engines[ENGINES]) {
    for (int i = 0; i < ENGINES; i++) engines[i] = (vlcache_gemm_engine){.name = engine_names[i]};
}

static void speeds_key(vlcache_dtype dtype, char key[64]) {
    snprintf(key, 64, "gemm engines %s %s", VLCACHE_VERSION, vlcache_dtype_name(dtype));
}

/* Whether the cache has the speeds; all are 0 when not. */
static bool recall_speeds(vlcache_device *device, vlcache_dtype dtype, vlcache_gemm_engine engines[ENGINES]) {
    char key[64], *text = NULL;
    speeds_key(dtype, key);
    clear_speeds(engines);
    bool known = vlci_cache_read(device, key, &text) && parse_speeds(text, engines);
    vlci_free(text);
    if (!known) clear_speeds(engines);
    return known;
}

/* The speeds from the cache, else measured and put there. */
static vlcache_status obtain_speeds(vlcache_device *device, vlcache_dtype dtype,
                                    vlcache_gemm_engine engines[ENGINES]) {
    if (recall_speeds(device, dtype, engines)) return VLCACHE_OK;
    vlcache_status status = measure(device, dtype, engines);
    if (status) return status;
    char key[64], text[SPEEDS_BYTES];
    speeds_key(dtype, key);
    write_speeds(engines, text);
    vlci_cache_write(device, key, text);
    return VLCACHE_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

/* The engine of VLCACHE_GEMM, ENGINES when it is not set. */
static vlcache_status forced_engine(int *engine) {
    const char *name = getenv("VLCACHE_GEMM");
    *engine = ENGINES;
    if (!name || !*name) return VLCACHE_OK;
    for (int i = 0; i < ENGINES; i++)
        if (strcmp(name, engine_names[i]) == 0) *engine = i;
    if (*engine < ENGINES) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_ARGUMENT, "VLCACHE_GEMM: \"%s\": give portable, wide or clblast", name);
}

/* ENGINES when none is measured. */
static int fastest(const vlcache_gemm_engine engines[ENGINES]) {
    int best = ENGINES;
    for (int i = 0; i < ENGINES; i++)
        if (engines[i].gflops > (best < ENGINES ? engines[best].gflops : 0)) best = i;
    return best;
}

static vlcache_status check_dtype(vlcache_dtype dtype) {
    return is_dtype(dtype) ? VLCACHE_OK
                           : vlci_fail(VLCACHE_E_ARGUMENT, "gemm plan: dtype %s: give f32, f16 or bf16",
                                       vlcache_dtype_name(dtype));
}

vlcache_status vlci_gemm_plan(vlcache_device *device, vlcache_dtype dtype, vlci_layout *layout,
                              vlcache_gemm_engine *engines) {
    *layout = VLCI_ROWS;
    int engine = ENGINES;
    vlcache_gemm_engine own[ENGINES];
    vlcache_status status = check_dtype(dtype);
    if (!status) status = forced_engine(&engine);
    if (status) return status;
    if (engine == ENGINES && !engines && planned_engine(device, dtype) >= 0)
        engine = planned_engine(device, dtype);
    if (engine == ENGINES || engines) {
        if (!engines) engines = own;
        status = obtain_speeds(device, dtype, engines);
        if (status) return status;
        if (engine == ENGINES) engine = fastest(engines);
        engines[engine].chosen = true;
    }
    pthread_mutex_lock(&device->lock);
    device->gemm_engine[dtype] = 1 + engine;
    pthread_mutex_unlock(&device->lock);
    *layout = engine == WIDE ? VLCI_PANELS : VLCI_ROWS;
    return VLCACHE_OK;
}

/* What is known without measuring; plans nothing. */
static vlcache_status recall_plan(vlcache_device *device, vlcache_dtype dtype,
                                  vlcache_gemm_engine engines[ENGINES]) {
    int engine = ENGINES;
    vlcache_status status = check_dtype(dtype);
    if (!status) status = forced_engine(&engine);
    if (status) return status;
    recall_speeds(device, dtype, engines);
    if (engine == ENGINES) engine = fastest(engines);
    if (engine < ENGINES) engines[engine].chosen = true;
    return VLCACHE_OK;
}

vlcache_status vlcache_device_gemm(vlcache_device *device, vlcache_dtype dtype, bool measure_missing,
                                   vlcache_gemm_engine *engines, size_t capacity, size_t *count) {
    if (!device || !count || (capacity && !engines))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_gemm: device, engines or count is NULL");
    *count = ENGINES;
    vlci_layout layout;
    vlcache_gemm_engine all[ENGINES];
    vlcache_status status =
        measure_missing ? vlci_gemm_plan(device, dtype, &layout, all) : recall_plan(device, dtype, all);
    for (size_t i = 0; !status && i < ENGINES && i < capacity; i++) engines[i] = all[i];
    return status;
}
