/*
 * gemm_plan.c - which engine multiplies fastest on a device: measured once for each dtype, kept beside the
 * binaries.
 */
#include "compute/gemm_plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/locale.h"
#include "core/log.h"

enum { ENGINES = VLCI_GEMM_ENGINES };

/* ---- measuring ----------------------------------------------------------------------------------------- */

/* The product that is measured: on processors, the tokens of a CLIP picture times a square matrix; on others
 * one that fills them, some pictures times a matrix of a model of 7B. */
enum { PLAN_RUNS = 8, PLAN_ROUNDS = 4, PLAN_TASTE = 64 };

static int plan_rows(const vlcache_device *device) {
    return device->caps.wide_vectors ? 576 : 2048;
}

static int plan_side(const vlcache_device *device) {
    return device->caps.wide_vectors ? 1024 : 4096;
}

static const double plan_short = 0.02; /* seconds: a run this short is repeated, */
static const double plan_long = 0.2;   /* and one this long is not begun */

static vlcache_status time_runs(const vlci_gemm *gemm, const vlci_product *p, int runs, double *seconds) {
    double start = vlci_clock_ms();
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; !status && i < runs; i++) status = vlci_gemm_run(gemm, p);
    vlcache_status finished = vlci_finish(gemm->device);
    *seconds = (vlci_clock_ms() - start) / 1e3 / runs;
    return status ? status : finished;
}

/* All of x and W are 1, so every output must be K: an engine that says otherwise is none. */
static vlcache_status check_result(vlcache_device *device, const vlci_product *p) {
    size_t count = (size_t)p->m * (size_t)p->w->n;
    float *host = vlci_alloc(count, sizeof *host);
    if (!host) return vlci_fail_memory("matrix product measurement");
    vlcache_status status = vlci_read(device, p->y, 0, host, count * sizeof *host);
    for (size_t i = 0; !status && i < count; i++)
        if (host[i] != (float)p->w->k)
            status = vlci_fail(VLCACHE_E_DEVICE, "wrong result: %g at %zu, %d expected", (double)host[i], i,
                               p->w->k);
    vlci_free(host);
    return status;
}

/* Seconds for p once it is built and known to be right: the best of some rounds, since a machine that is busy
 * with something else only ever makes a round longer. */
static vlcache_status measure_product(const vlci_gemm *gemm, const vlci_product *p, double *seconds) {
    size_t y_bytes = (size_t)p->m * (size_t)p->w->n * sizeof(float);
    vlcache_status status = vlci_progress(gemm->device, "measuring matrix products", 0);
    if (!status) status = vlci_fill(gemm->device, p->y, 0, y_bytes, 0x7fc00000u);
    if (!status) status = time_runs(gemm, p, 1, seconds); /* warm-up */
    if (!status) status = check_result(gemm->device, p);
    if (!status) status = time_runs(gemm, p, 1, seconds);
    int runs = *seconds < plan_short ? PLAN_RUNS : 1;
    for (int i = 0; !status && i < PLAN_ROUNDS && *seconds < plan_long; i++) {
        double again = 0;
        status = time_runs(gemm, p, runs, &again);
        if (!status && again < *seconds) *seconds = again;
    }
    return status;
}

/* A taste of the product first: an engine that is slow at it is not asked for the whole. */
static vlcache_status measure_engine(vlcache_device *device, vlci_gemm_engine engine,
                                     const vlci_product *whole, double *gflops) {
    vlci_gemm gemm;
    double seconds = 0;
    vlci_matrix w = *whole->w;
    vlci_product p = *whole;
    p.m = PLAN_TASTE;
    p.w = &w;
    vlcache_status status = vlci_gemm_open(device, engine, w.dtype, &gemm);
    if (!status) w.layout = vlci_gemm_layout(&gemm);
    if (!status) status = measure_product(&gemm, &p, &seconds);
    if (!status && seconds * whole->m / PLAN_TASTE < plan_long) {
        p.m = whole->m;
        status = measure_product(&gemm, &p, &seconds);
    }
    if (!status) *gflops = 2e-9 * p.m * (double)p.w->n * p.w->k / seconds;
    vlci_gemm_close(&gemm);
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

/* Why an engine is not measured; NULL where it is. One for processors is slow elsewhere, and may want more
 * memory for the registers of all work-items than there is. */
static const char *left_out(const vlcache_device *device, vlci_gemm_engine engine, vlcache_dtype dtype) {
    if (!vlci_gemm_fits(device, engine, dtype)) return "no unit for this dtype";
    return engine == VLCI_GEMM_WIDE && !device->caps.wide_vectors ? "for processors" : NULL;
}

/* An engine that fails has an error; the whole fails when the memory is not there or no engine works. */
static vlcache_status measure(vlcache_device *device, vlcache_dtype dtype,
                              vlcache_gemm_engine engines[ENGINES]) {
    int side = plan_side(device);
    vlci_matrix w = {.n = side, .k = side, .dtype = dtype};
    vlci_product p = {.w = &w, .m = plan_rows(device)};
    size_t w_bytes = vlci_matrix_bytes(side, side, dtype, VLCI_PANELS);
    size_t x_bytes = (size_t)p.m * (size_t)side * sizeof(float), y_bytes = x_bytes;
    vlcache_status status = vlci_memory_create(device, w_bytes, "matrix product measurement", &w.data);
    if (!status) status = vlci_memory_create(device, x_bytes, "matrix product measurement", &p.x);
    if (!status) status = vlci_memory_create(device, y_bytes, "matrix product measurement", &p.y);
    if (!status) status = vlci_fill(device, w.data, 0, w_bytes, ones(dtype));
    if (!status) status = vlci_fill(device, p.x, 0, x_bytes, 0x3f800000u);
    bool works = false;
    for (int i = 0; !status && i < ENGINES; i++) {
        const char *why = left_out(device, (vlci_gemm_engine)i, dtype);
        if (why) {
            snprintf(engines[i].error, sizeof engines[i].error, "%s", why);
            continue;
        }
        vlcache_status failed = measure_engine(device, (vlci_gemm_engine)i, &p, &engines[i].gflops);
        if (failed == VLCACHE_E_NO_MEMORY || failed == VLCACHE_E_CANCELLED)
            status = failed;
        else if (failed)
            keep_error(&engines[i]);
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
        used += vlci_snprintf(text + used, (size_t)(SPEEDS_BYTES - used), "%s %.6g%s%s\n", engines[i].name,
                              engines[i].gflops, *engines[i].error ? " " : "", engines[i].error);
}

/* One line; a speed of 0 goes with an error and no other does. The line's end, NULL when it is none. */
static const char *parse_line(const char *line, vlcache_gemm_engine *engine) {
    size_t length = strlen(engine->name);
    if (strncmp(line, engine->name, length) || line[length] != ' ') return NULL;
    char *end = NULL;
    engine->gflops = vlci_strtod(line + length, &end);
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
    for (int i = 0; i < ENGINES; i++) engines[i] = (vlcache_gemm_engine){.name = vlci_gemm_engine_names[i]};
}

/* What was measured without a unit, since it was not to be used, says nothing of a device that has it. */
static void speeds_key(const vlcache_device *device, vlcache_dtype dtype, char key[64]) {
    bool units = vlci_gemm_matrix_fits(device, dtype), dot = device->caps.dot && dtype == VLCACHE_DTYPE_BF16;
    snprintf(key, 64, "gemm engines %s %s%s", VLCACHE_VERSION, vlcache_dtype_name(dtype),
             units ? " units"
             : dot ? " dot"
                   : "");
}

/* Whether the cache has the speeds; all are 0 when not. */
static bool recall_speeds(vlcache_device *device, vlcache_dtype dtype, vlcache_gemm_engine engines[ENGINES]) {
    char key[64], *text = NULL;
    speeds_key(device, dtype, key);
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
    speeds_key(device, dtype, key);
    write_speeds(engines, text);
    vlci_cache_write(device, key, text);
    return VLCACHE_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

/* The engine of VLCACHE_GEMM, ENGINES when it is not set. */
static vlcache_status forced_engine(vlcache_dtype dtype, int *engine) {
    const char *name = getenv("VLCACHE_GEMM");
    *engine = ENGINES;
    if (!name || !*name) return VLCACHE_OK;
    for (int i = 0; i < ENGINES; i++)
        if (strcmp(name, vlci_gemm_engine_names[i]) == 0) *engine = i;
    /* No matrix unit takes f32: those weights get the best of the others. */
    if (*engine == VLCI_GEMM_MATRIX && !vlci_gemm_matrix_takes(dtype))
        *engine = ENGINES;
    else if (*engine < ENGINES)
        return VLCACHE_OK;
    if (strcmp(name, vlci_gemm_engine_names[VLCI_GEMM_MATRIX]) == 0) return VLCACHE_OK;
    return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_GEMM", name,
                            "must be portable, wide, clblast or matrix");
}

/* ENGINES when none is measured. */
static int fastest(const vlcache_gemm_engine engines[ENGINES]) {
    int best = ENGINES;
    for (int i = 0; i < ENGINES; i++)
        if (engines[i].gflops > (best < ENGINES ? engines[best].gflops : 0)) best = i;
    return best;
}

static void mark_absent(const vlcache_device *device, vlcache_dtype dtype,
                        vlcache_gemm_engine engines[ENGINES]) {
    for (int i = 0; i < ENGINES; i++) engines[i].absent = !vlci_gemm_fits(device, (vlci_gemm_engine)i, dtype);
}

static vlcache_status check_dtype(vlcache_dtype dtype) {
    if (dtype == VLCACHE_DTYPE_F32 || dtype == VLCACHE_DTYPE_F16 || dtype == VLCACHE_DTYPE_BF16)
        return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_ARGUMENT, "gemm plan: dtype %s: give f32, f16 or bf16",
                     vlcache_dtype_name(dtype));
}

vlcache_status vlci_gemm_plan(vlcache_device *device, vlcache_dtype dtype, vlci_gemm_engine *engine,
                              vlcache_gemm_engine *engines) {
    int chosen = ENGINES;
    vlcache_gemm_engine own[ENGINES];
    vlcache_status status = check_dtype(dtype);
    if (!status) status = forced_engine(dtype, &chosen);
    if (!status && (engines || chosen == ENGINES)) {
        if (!engines) engines = own;
        status = obtain_speeds(device, dtype, engines);
        mark_absent(device, dtype, engines);
        if (!status && chosen == ENGINES) chosen = fastest(engines);
        if (!status) engines[chosen].chosen = true;
    }
    if (!status) *engine = (vlci_gemm_engine)chosen;
    return status;
}

/* What is known without measuring. */
static vlcache_status recall_plan(vlcache_device *device, vlcache_dtype dtype,
                                  vlcache_gemm_engine engines[ENGINES]) {
    int engine = ENGINES;
    vlcache_status status = check_dtype(dtype);
    if (!status) status = forced_engine(dtype, &engine);
    if (status) return status;
    recall_speeds(device, dtype, engines);
    mark_absent(device, dtype, engines);
    if (engine == ENGINES) engine = fastest(engines);
    if (engine < ENGINES) engines[engine].chosen = true;
    return VLCACHE_OK;
}

vlcache_status vlcache_device_gemm(vlcache_device *device, vlcache_dtype dtype, bool measure_missing,
                                   vlcache_gemm_engine *engines, size_t capacity, size_t *count) {
    if (!device || !count || (capacity && !engines))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_gemm: device, engines or count is NULL");
    *count = ENGINES;
    vlci_gemm_engine engine;
    vlcache_gemm_engine all[ENGINES];
    vlcache_status status =
        measure_missing ? vlci_gemm_plan(device, dtype, &engine, all) : recall_plan(device, dtype, all);
    for (size_t i = 0; !status && i < ENGINES && i < capacity; i++) engines[i] = all[i];
    return status;
}
