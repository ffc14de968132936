/*
 * test_info.c - what a device says that it chose: ladders of kernel variants and what VLCACHE_VARIANT does to
 * them, matrix product engines measured, remembered and forced, the cache folder; and vlcache-info, which
 * shows all that.
 */
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compute/linear.h"
#include "compute/norm.h"
#include "support/process.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "vlcache/image.h"

enum { MAX_LADDERS = 32, ENGINES = 4 };

/* A device with a cache of its own, in the scratch folder. */
static vlcache_device *open_fresh(void) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    vlcache_device *device = NULL;
    options.cache_dir = scratch_folder();
    ck_ok(vlcache_device_open(NULL, &options, &device));
    return device;
}

/* ---- ladders ------------------------------------------------------------------------------------------- */

static size_t ladders_of(const vlcache_device *device, vlcache_ladder ladders[MAX_LADDERS]) {
    size_t n = 0;
    ck_ok(vlcache_device_ladders(device, ladders, MAX_LADDERS, &n));
    ck_assert_uint_ge(n, 1);
    ck_assert_uint_le(n, MAX_LADDERS);
    return n;
}

START_TEST(ladders_are_described) {
    vlcache_ladder ladders[MAX_LADDERS];
    size_t n = ladders_of(suite_device(), ladders), counted = 0;
    bool gemm = false;
    for (size_t i = 0; i < n; i++) {
        const vlcache_ladder *l = &ladders[i];
        gemm |= strcmp(l->kernel, "gemm") == 0;
        ck_assert_int_ge(l->n_rungs, 2);
        ck_assert_int_le(l->n_rungs, VLCACHE_MAX_RUNGS);
        ck_assert(l->in_use >= 0 && l->in_use < l->n_rungs && l->rungs[l->in_use].available);
        ck_assert_msg(l->rungs[l->n_rungs - 1].available, "the last rung of %s runs everywhere", l->kernel);
        ck_assert(!l->forced && *l->work);
    }
    ck_assert(gemm);
    ck_ok(vlcache_device_ladders(suite_device(), NULL, 0, &counted));
    ck_assert_uint_eq(counted, n);
    ck_fails(vlcache_device_ladders(suite_device(), NULL, 1, &counted), VLCACHE_E_ARGUMENT, "NULL");
    ck_fails(vlcache_device_ladders(NULL, ladders, 1, &counted), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* Forces one rung and opens a device under it. */
static void force_rung(const vlcache_ladder *of, size_t index, int rung) {
    char variant[80];
    vlcache_ladder ladders[MAX_LADDERS];
    snprintf(variant, sizeof variant, "%s:%s", of->kernel, of->rungs[rung].name);
    suite_set("VLCACHE_VARIANT", variant);
    vlcache_device *device = NULL;
    if (of->rungs[rung].available) {
        ck_ok(vlcache_device_open(NULL, NULL, &device));
        ladders_of(device, ladders);
        ck_assert_msg(ladders[index].forced && ladders[index].in_use == rung, "%s is not in use", variant);
        vlcache_device_destroy(&device);
    }
    suite_set("VLCACHE_VARIANT", NULL);
}

START_TEST(every_rung_can_be_forced) {
    vlcache_ladder ladders[MAX_LADDERS];
    size_t n = ladders_of(suite_device(), ladders);
    for (size_t i = 0; i < n; i++)
        for (int rung = 0; rung < ladders[i].n_rungs; rung++) force_rung(&ladders[i], i, rung);
    suite_set("VLCACHE_VARIANT", "gemm:small, gemv:1,");
    const char *rung = NULL;
    vlcache_device *device = NULL;
    ck_ok(vlcache_device_open(NULL, NULL, &device));
    ck_ok(vlci_rung(device, &vlci_gemm_ladder, "tile", &rung));
    ck_assert_str_eq(rung, "small");
    ck_ok(vlci_rung(device, &vlci_gemv_ladder, "64", &rung));
    ck_assert_str_eq(rung, "1");
    suite_set("VLCACHE_VARIANT", NULL);
    ck_ok(vlci_rung(device, &vlci_gemm_ladder, "tile", &rung));
    ck_assert_str_eq(rung, "tile");
    vlcache_device_destroy(&device);
}
END_TEST

START_TEST(unknown_variants_are_refused) {
    static const char *const wrong[][2] = {
        {"gmem:tile", "no kernel \"gmem\""},
        {"gemm:huge", "no rung \"huge\""},
        {"gemm", "no rung \"\""},
        {"gemm:tile,nothing", "\"nothing\""},
        {"gemm:", "large, tile, small, scalar"},
        {"gemm:tiles", "no rung \"tiles\""},
        {":tile", "no kernel \"\""},
    };
    vlcache_device *device = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        suite_set("VLCACHE_VARIANT", wrong[i][0]);
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_ARGUMENT, wrong[i][1]);
        ck_assert_ptr_null(device);
    }
    suite_set("VLCACHE_VARIANT", NULL);
}
END_TEST

/* What a launcher is told when the variable was set after the device was opened. */
START_TEST(late_unknown_variants_are_refused) {
    const char *rung = NULL;
    suite_device();
    suite_set("VLCACHE_VARIANT", "gemm:huge,norm:1");
    ck_fails(vlci_rung(suite_device(), &vlci_gemm_ladder, "tile", &rung), VLCACHE_E_ARGUMENT, "\"huge\"");
    ck_ok(vlci_rung(suite_device(), &vlci_gemv_ladder, "64", &rung));
    ck_assert_str_eq(rung, "64");
    ck_ok(vlci_rung(suite_device(), &vlci_norm_ladder, "64", &rung));
    ck_assert_str_eq(rung, "1");
    suite_set("VLCACHE_VARIANT", NULL);
}
END_TEST

START_TEST(lanes_have_names) {
    ck_assert_str_eq(vlci_lanes_name(256), "256");
    ck_assert_str_eq(vlci_lanes_name(64), "64");
    ck_assert_str_eq(vlci_lanes_name(100), "64");
    ck_assert_str_eq(vlci_lanes_name(1), "1");
    ck_assert_str_eq(vlci_lanes_name(0), "1");
    ck_assert_str_eq(vlci_lanes_name(4096), "256");
}
END_TEST

/* ---- engines ------------------------------------------------------------------------------------------- */

static int chosen_of(const vlcache_gemm_engine engines[ENGINES]) {
    int chosen = -1;
    for (int i = 0; i < ENGINES; i++) {
        ck_assert(chosen < 0 || !engines[i].chosen);
        if (engines[i].chosen) chosen = i;
    }
    return chosen;
}

START_TEST(engines_are_measured_once) {
    vlcache_gemm_engine before[ENGINES], measured[ENGINES], again[ENGINES];
    size_t n = 0;
    vlcache_device *device = open_fresh();
    ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F16, false, before, ENGINES, &n));
    ck_assert_uint_eq(n, ENGINES);
    ck_assert_int_eq(chosen_of(before), -1);
    for (int i = 0; i < ENGINES; i++) ck_assert(before[i].gflops == 0 && !*before[i].error);
    ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F16, true, measured, ENGINES, &n));
    int chosen = chosen_of(measured);
    ck_assert_int_ge(chosen, 0);
    for (int i = 0; i < ENGINES; i++) {
        ck_assert(measured[i].gflops <= measured[chosen].gflops);
        ck_assert_msg((measured[i].gflops > 0) == !*measured[i].error, "%s", measured[i].name);
    }
    vlcache_device_destroy(&device);
    device = open_fresh();
    ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F16, false, again, ENGINES, &n));
    ck_assert_int_eq(chosen_of(again), chosen);
    for (int i = 0; i < ENGINES; i++)
        ck_assert(fabs(again[i].gflops - measured[i].gflops) <= 1e-5 * measured[i].gflops);
    vlcache_device_destroy(&device);
    scratch_clean();
}
END_TEST

/* A vlcache_progress_fn that goes on until products are measured, and then `*user` times more. */
static bool few_products(void *user, const char *stage, uint64_t done, uint64_t total) {
    int *left = user;
    (void)done, (void)total;
    return strcmp(stage, "measuring matrix products") != 0 || (*left)-- > 0;
}

/* Between two products a measurement can be ended; nothing is remembered of it, and no engine has failed. */
START_TEST(measuring_can_be_cancelled) {
    for (int most = 0; most < 4; most++) {
        vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
        vlcache_gemm_engine engines[ENGINES];
        vlcache_device *device = NULL;
        size_t n = 0;
        int left = most;
        options.cache_dir = scratch_folder();
        options.progress = few_products;
        options.progress_user = &left;
        ck_ok(vlcache_device_open(NULL, &options, &device));
        ck_fails(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, true, engines, ENGINES, &n),
                 VLCACHE_E_CANCELLED, "cancelled while measuring matrix products");
        ck_assert_int_eq(left, -1); /* it was not asked again */
        ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, false, engines, ENGINES, &n));
        for (int i = 0; i < ENGINES; i++) ck_assert(engines[i].gflops == 0 && !*engines[i].error);
        vlcache_device_destroy(&device);
    }
    scratch_clean();
}
END_TEST

START_TEST(an_engine_can_be_forced) {
    vlcache_gemm_engine engines[ENGINES];
    size_t n = 0;
    vlcache_device *device = open_fresh();
    suite_set("VLCACHE_GEMM", "clblast");
    ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, false, engines, ENGINES, &n));
    ck_assert_str_eq(engines[chosen_of(engines)].name, "clblast");
    suite_set("VLCACHE_GEMM", "fast");
    ck_fails(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, false, engines, ENGINES, &n), VLCACHE_E_ARGUMENT,
             "portable, wide, clblast or matrix");
    suite_set("VLCACHE_GEMM", NULL);
    ck_fails(vlcache_device_gemm(device, VLCACHE_DTYPE_AUTO, false, engines, ENGINES, &n), VLCACHE_E_ARGUMENT,
             "f32, f16 or bf16");
    ck_fails(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, false, NULL, 1, &n), VLCACHE_E_ARGUMENT, "NULL");
    vlcache_device_destroy(&device);
    scratch_clean();
}
END_TEST

/* ---- kernels and their cache --------------------------------------------------------------------------- */

START_TEST(build_time_is_counted) {
    const vlci_kernel *kernel;
    vlcache_device *device = open_fresh();
    ck_assert(vlci_kernel_build_seconds(device) == 0);
    ck_ok(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel));
    double compiled = vlci_kernel_build_seconds(device);
    ck_assert(compiled > 0 && compiled < 600);
    ck_ok(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel));
    ck_assert(vlci_kernel_build_seconds(device) == compiled);
    vlcache_device_destroy(&device);
    device = open_fresh();
    ck_ok(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel)); /* from the cache: not free either */
    ck_assert(vlci_kernel_build_seconds(device) > 0 && vlci_kernel_builds(device) == 0);
    vlcache_device_destroy(&device);
    scratch_clean();
}
END_TEST

START_TEST(the_cache_is_counted_and_cleared) {
    static const char *const entries[] = {"0123456789abcdef0123456789abcdef.clbin",
                                          "0123456789abcdef0123456789abcdef.txt",
                                          "0123456789abcdef0123456789abcdef.clbin.aB3xY9"};
    static const char *const others[] = {"notes.txt", "0123456789abcdef0123456789abcdef",
                                         "0123456789abcdef0123456789abcdef.txt.bak",
                                         "0123456789abcdef0123456789abcdef0.txt"};
    char *folder = NULL;
    size_t files = 7;
    uint64_t bytes = 7;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) scratch_text(entries[i], "12345");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) scratch_text(others[i], "123");
    ck_ok(vlcache_cache_describe(scratch_folder(), &folder, &files, &bytes));
    ck_assert_str_eq(folder, scratch_folder());
    ck_assert(files == 3 && bytes == 15);
    vlcache_free(folder);
    ck_ok(vlcache_cache_clear(scratch_folder(), &files));
    ck_assert_uint_eq(files, 3);
    ck_ok(vlcache_cache_clear(scratch_folder(), NULL));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", scratch_folder(), others[i]);
        ck_assert_msg(access(path, F_OK) == 0, "%s is not a cache entry", others[i]);
    }
    ck_fails(vlcache_cache_describe("/dev/null", &folder, &files, &bytes), VLCACHE_E_IO, "/dev/null");
    vlcache_free(folder);
    ck_ok(vlcache_cache_describe("", &folder, &files, &bytes));
    ck_assert(!folder && !files && !bytes);
    ck_ok(vlcache_cache_describe("/no/such/folder", &folder, &files, &bytes));
    ck_assert(!files && !bytes);
    vlcache_free(folder);
    scratch_clean();
}
END_TEST

/* ---- vlcache-info -------------------------------------------------------------------------------------- */

static void run_info(process *p, const char *a, const char *b, const char *c, const char *d) {
    const char *const argv[] = {VLCACHE_BINARY_DIR "/vlcache-info", a, b, c, d, NULL};
    process_run(p, argv, NULL, 0);
}

/* The one device of the object that vlcache-info prints for the device under test. */
static json_t *run_json(const char *a, const char *b, const char *c, json_t **device) {
    process p;
    run_info(&p, "--json", a, b, c);
    ck_assert_msg(p.code == 0, "%s", p.err);
    json_error_t error;
    json_t *object = json_loads(p.out, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(object != NULL, "%s in %s", error.text, p.out);
    *device = json_array_get(json_object_get(object, "devices"), 0);
    ck_assert_ptr_nonnull(*device);
    process_release(&p);
    return object;
}

/* Measures into the cache that the tool will look at, so that it need not. */
static void measure_for(const char *cache, vlcache_device_info *info) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    options.cache_dir = cache;
    vlcache_device *device = NULL;
    vlcache_gemm_engine engines[ENGINES];
    size_t n;
    ck_ok(vlcache_device_open(NULL, &options, &device));
    vlcache_device_describe(device, info);
    ck_ok(vlcache_device_gemm(device, VLCACHE_DTYPE_F32, true, engines, ENGINES, &n));
    vlcache_device_destroy(&device);
}

START_TEST(tool_prints_json) {
    vlcache_device_info info;
    json_t *device = NULL;
    char select[16], cache[512];
    snprintf(cache, sizeof cache, "%s/vlcache", scratch_folder());
    measure_for(cache, &info);
    snprintf(select, sizeof select, "--device=%d", info.index);
    setenv("XDG_CACHE_HOME", scratch_folder(), 1);
    json_t *object = run_json(select, "--dtype=f32", NULL, &device);
    ck_assert_str_eq(json_string_value(json_object_get(object, "version")), vlcache_version());
    ck_assert_str_eq(json_string_value(json_object_get(device, "name")), info.name);
    ck_assert_int_eq(json_integer_value(json_object_get(device, "global_memory")),
                     (json_int_t)info.global_memory);
    ck_assert(json_array_size(json_object_get(device, "variants")) > 0);
    json_t *engines = json_object_get(json_object_get(device, "gemm"), "f32"), *engine;
    ck_assert_uint_eq(json_array_size(engines), ENGINES);
    size_t i, chosen = 0;
    json_array_foreach(engines, i, engine) chosen += json_is_true(json_object_get(engine, "chosen"));
    ck_assert_uint_eq(chosen, 1);
    ck_assert_ptr_null(json_object_get(json_object_get(device, "gemm"), "bf16"));
    ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(object, "cache"), "files")), 0);
    json_t *pictures = json_object_get(object, "pictures");
    ck_assert_uint_ge(json_array_size(pictures), 5);
    ck_assert_str_eq(json_string_value(json_array_get(pictures, 0)), "JPEG");
    ck_assert_str_eq(json_string_value(json_array_get(pictures, 4)), "PNM");
    json_decref(object);
    object = run_json(select, "--clear-cache", "--no-measure", &device);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(object, "cache"), "files")), 0);
    engine = json_array_get(json_object_get(json_object_get(device, "gemm"), "bf16"), 0);
    ck_assert(json_is_null(json_object_get(engine, "gflops")));
    json_decref(object);
    unsetenv("XDG_CACHE_HOME");
    ck_assert_int_eq(rmdir(cache), 0);
    scratch_clean();
}
END_TEST

START_TEST(tool_fits_the_page) {
    process p;
    setenv("XDG_CACHE_HOME", scratch_folder(), 1);
    run_info(&p, "--no-measure", NULL, NULL, NULL);
    unsetenv("XDG_CACHE_HOME");
    ck_assert_int_eq(p.code, 0);
    ck_assert_ptr_nonnull(strstr(p.out, vlcache_image_formats()));
    for (const char *line = p.out; *line; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");
        ck_assert_msg(length <= 100, "%zu columns: %.*s", length, (int)length, line);
        ck_assert_msg(!length || line[length - 1] != ' ', "ends in a blank: %.*s", (int)length, line);
    }
    process_release(&p);
    scratch_clean();
}
END_TEST

/* What the library warns of comes on standard error, and the answer is what it is. */
START_TEST(tool_warns) {
    process p;
    char cache[600];
    setenv("XDG_CACHE_HOME", scratch_folder(), 1);
    snprintf(cache, sizeof cache, "%s/vlcache", scratch_folder());
    ck_assert_int_eq(mkdir(cache, 0700), 0);
    ck_assert_int_eq(chmod(cache, 0777), 0);
    run_info(&p, "--no-measure", "--dtype=f32", "--json", NULL);
    unsetenv("XDG_CACHE_HOME");
    ck_assert_int_eq(p.code, 0);
    ck_assert_msg(strncmp(p.err, "vlcache-info: warning: ", 23) == 0 && strstr(p.err, "chmod go-w"), "%s",
                  p.err);
    json_t *object = json_loads(p.out, 0, NULL);
    ck_assert_ptr_nonnull(object);
    json_decref(object);
    process_release(&p);
    ck_assert_int_eq(rmdir(cache), 0);
    scratch_clean();
}
END_TEST

static const struct {
    const char *variable, *value, *flag;
    int code;
    const char *says;
} endings[] = {
    {NULL, NULL, "--version", 0, ""},
    {NULL, NULL, "--help", 0, ""},
    {NULL, NULL, "--list-devices", 0, ""},
    {NULL, NULL, "--no-such-flag", 1, "no-such-flag"},
    {NULL, NULL, "stray", 1, "stray"},
    {NULL, NULL, "--dtype=q4", 1, "f32, f16 or bf16"},
    {NULL, NULL, "--tokens=5", 1, "--tokens: is about a model: name it with -m DIR"},
    {NULL, NULL, "--budget=.5", 1, "--budget: is about a model"},
    {NULL, NULL, "--max-pixels=5", 1, "--max-pixels: is about a model"},
    {NULL, NULL, "--image-size=5x5", 1, "--image-size: is about a model"},
    {NULL, NULL, "--no-mmap", 1, "--no-mmap: is about a model"},
    {NULL, NULL, "--device=no such device", 3, "no such device"},
    {"VLCACHE_DEVICE", "no such device", "--no-measure", 3, "no such device"},
    {"VLCACHE_VARIANT", "gemm:huge", "--no-measure", 1, "large, tile, small, scalar"},
    {"OCL_ICD_VENDORS", "/dev", "--list-devices", 3, "pocl-opencl-icd"},
    {"OCL_ICD_VENDORS", "/dev", "--json", 3, "pocl-opencl-icd"},
};

/* Runs the tool with a variable of its own; what the variable was before it is again. */
static void run_with(process *p, const char *variable, const char *value, const char *flag) {
    const char *was = variable ? getenv(variable) : NULL;
    char *before = was ? strdup(was) : NULL;
    if (variable) setenv(variable, value, 1);
    run_info(p, flag, NULL, NULL, NULL);
    if (before)
        setenv(variable, before, 1);
    else if (variable)
        unsetenv(variable);
    free(before);
}

/* Some loaders read /etc/OpenCL/vendors whatever the environment says. */
static bool loader_obeys(void) {
    process with, without;
    run_with(&without, NULL, NULL, "--list-devices");
    run_with(&with, "OCL_ICD_VENDORS", "/dev", "--list-devices");
    bool obeys = strcmp(with.out, without.out) != 0;
    process_release(&with);
    process_release(&without);
    return obeys;
}

START_TEST(tool_ends_as_documented) {
    process p;
    const char *variable = endings[_i].variable;
    if (variable && strcmp(variable, "OCL_ICD_VENDORS") == 0 && !loader_obeys()) return;
    run_with(&p, variable, endings[_i].value, endings[_i].flag);
    ck_assert_msg(p.code == endings[_i].code, "exit code %d: %s", p.code, p.err);
    ck_assert_msg(strstr(p.err, endings[_i].says) != NULL, "\"%s\" lacks \"%s\"", p.err, endings[_i].says);
    ck_assert_int_eq(p.code == 0, p.out_bytes > 0);
    process_release(&p);
}
END_TEST

/* A list of devices is a text of its own. */
START_TEST(tool_lists_devices_alone) {
    process p;
    run_info(&p, "--list-devices", "-m.", NULL, NULL);
    ck_assert_int_eq(p.code, 1);
    ck_assert_msg(strstr(p.err, "--list-devices: not with -m") && !p.out_bytes, "%s", p.err);
    process_release(&p);
}
END_TEST

/* For programs, too, by the tools that have the flag. */
START_TEST(tools_list_devices_as_json) {
    static const char *const tools[] = {VLCACHE_BINARY_DIR "/vlcache-info",
                                        VLCACHE_BINARY_DIR "/vlcache-run"};
    vlcache_device_info infos[64];
    size_t n = 0, i;
    process p;
    json_t *device;
    ck_ok(vlcache_device_list(infos, 64, &n));
    process_run(&p, (const char *const[]){tools[_i], "--list-devices", "--json", NULL}, NULL, 0);
    ck_assert_int_eq(p.code, 0);
    json_t *object = json_loads(p.out, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(object != NULL, "%s", p.out);
    ck_assert_uint_eq(json_array_size(json_object_get(object, "devices")), n);
    json_array_foreach(json_object_get(object, "devices"), i, device) {
        ck_assert_int_eq(json_integer_value(json_object_get(device, "index")), infos[i].index);
        ck_assert_str_eq(json_string_value(json_object_get(device, "name")), infos[i].name);
        ck_assert_int_eq(json_integer_value(json_object_get(device, "global_memory")),
                         (json_int_t)infos[i].global_memory);
    }
    json_decref(object);
    process_release(&p);
}
END_TEST

/* ---- the environment ----------------------------------------------------------------------------------- */

enum { SOURCES = 4 << 20 };

static void append_file(const char *path, char text[SOURCES]) {
    size_t used = strlen(text);
    FILE *in = fopen(path, "r");
    ck_assert_msg(in != NULL, "%s", path);
    text[used + fread(text + used, 1, SOURCES - used - 1, in)] = 0;
    ck_assert_uint_lt(strlen(text), SOURCES - 1);
    fclose(in);
}

/* The files of a folder of the source tree whose names end in `ends`, and of those in it, as one text. */
static void gather(const char *folder, const char *ends, char text[SOURCES]) {
    char path[1024];
    struct dirent *e;
    DIR *at = opendir(folder);
    ck_assert_msg(at != NULL, "%s", folder);
    while ((e = readdir(at))) {
        size_t n = strlen(e->d_name), tail = strlen(ends);
        struct stat what;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (*e->d_name == '.' || stat(path, &what)) continue;
        if (S_ISDIR(what.st_mode)) gather(path, ends, text);
        if (n > tail && strcmp(e->d_name + n - tail, ends) == 0) append_file(path, text);
    }
    closedir(at);
}

/* Every variable that library and tools read is named by each tool, and VLCACHE's by README.md or a header.
 */
START_TEST(variables_are_told) {
    static const char *const tools[] = {"info", "run", "bench", "eval"};
    static char code[SOURCES], words[SOURCES];
    process help[4];
    size_t n = 0;
    gather(VLCACHE_SOURCE_DIR "/lib", ".c", code);
    gather(VLCACHE_SOURCE_DIR "/tools", ".c", code);
    gather(VLCACHE_SOURCE_DIR "/lib", ".h", words);
    gather(VLCACHE_SOURCE_DIR "/include", ".h", words);
    append_file(VLCACHE_SOURCE_DIR "/tools/common/folder.h", words);
    append_file(VLCACHE_SOURCE_DIR "/README.md", words);
    for (size_t i = 0; i < 4; i++) {
        char tool[512];
        snprintf(tool, sizeof tool, "%s/vlcache-%s", VLCACHE_BINARY_DIR, tools[i]);
        process_run(&help[i], (const char *const[]){tool, "--help", NULL}, NULL, 0);
        ck_assert_int_eq(help[i].code, 0);
    }
    for (const char *at = code; (at = strstr(at, "getenv(")); n++) {
        char name[64];
        at += strlen("getenv(");
        ck_assert_msg(sscanf(at, "\"%63[A-Z_]\"", name) == 1, "no name: %.60s", at);
        for (size_t i = 0; i < 4; i++)
            ck_assert_msg(strstr(help[i].out, name) != NULL, "%s --help lacks %s", tools[i], name);
        ck_assert_msg(strncmp(name, "VLCACHE_", 8) != 0 || strstr(words, name), "nothing tells of %s", name);
    }
    ck_assert_uint_ge(n, 12);
    for (size_t i = 0; i < 4; i++) process_release(&help[i]);
}
END_TEST

/* A driver that is there and has no device is not one to install. */
START_TEST(tool_tells_of_pocl) {
    process p;
    run_with(&p, "POCL_CACHE_DIR", "/proc/nothing", "--list-devices");
    if (p.code) { /* else there is another one */
        ck_assert_int_eq(p.code, 3);
        ck_assert_msg(strstr(p.err, "no OpenCL device found: PoCL is there but has none") &&
                          strstr(p.err, "POCL_CACHE_DIR"),
                      "%s", p.err);
    }
    process_release(&p);
}
END_TEST

/* Whatever it prints, and however much of it. */
static const char *const printed[] = {"--json", "--no-measure", "--list-devices", "--help", "--version"};

START_TEST(tool_checks_what_it_prints) {
    process p;
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c", "exec \"$0\" --no-measure \"$1\" >/dev/full",
                                      VLCACHE_BINARY_DIR "/vlcache-info", printed[_i], NULL},
                "", 0);
    ck_assert_msg(p.code == 2 && strstr(p.err, "standard output cannot be written: No space left on device"),
                  "exit code %d: %s", p.code, p.err);
    process_release(&p);
}
END_TEST

/* A reader that has read enough is no failure. */
START_TEST(tool_outlives_its_reader) {
    process p;
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c",
                                      "{ \"$0\" --no-measure; echo $? >&2; } | head -c 1 >/dev/null",
                                      VLCACHE_BINARY_DIR "/vlcache-info", NULL},
                "", 0);
    ck_assert_msg(strcmp(p.err, "0\n") == 0, "%s", p.err);
    process_release(&p);
}
END_TEST

int main(void) {
    setenv("VLCACHE_MATRIX_UNITS", "none", 1); /* their trials would be among the entries that are counted */
    Suite *suite = suite_create("info");
    TCase *all = tcase_create("info");
    tcase_add_test(all, ladders_are_described);
    tcase_add_test(all, every_rung_can_be_forced);
    tcase_add_test(all, unknown_variants_are_refused);
    tcase_add_test(all, late_unknown_variants_are_refused);
    tcase_add_test(all, lanes_have_names);
    tcase_add_test(all, engines_are_measured_once);
    tcase_add_test(all, measuring_can_be_cancelled);
    tcase_add_test(all, an_engine_can_be_forced);
    tcase_add_test(all, build_time_is_counted);
    tcase_add_test(all, the_cache_is_counted_and_cleared);
    tcase_add_test(all, tool_prints_json);
    tcase_add_test(all, tool_fits_the_page);
    tcase_add_test(all, tool_warns);
    tcase_add_test(all, tool_tells_of_pocl);
    tcase_add_test(all, tool_lists_devices_alone);
    tcase_add_loop_test(all, tools_list_devices_as_json, 0, 2);
    tcase_add_test(all, variables_are_told);
    tcase_add_test(all, tool_outlives_its_reader);
    tcase_add_loop_test(all, tool_ends_as_documented, 0, sizeof endings / sizeof endings[0]);
    tcase_add_loop_test(all, tool_checks_what_it_prints, 0, sizeof printed / sizeof printed[0]);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
