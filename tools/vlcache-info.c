/*
 * vlcache-info.c - what vlcache finds on this machine: devices, what they can do, the kernel variants and the
 * matrix product engines that it uses on them, the pictures that it reads, and its cache. Or what a model's
 * folder says: info/model.c.
 *
 *     parse -> list -> for each device: open, ask, print -> picture formats -> the cache folder
 *                      a folder: outline -> what it is, pictures, memory -> which device it fits
 */
#include <jansson.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vlcache/vlcache.h>

#include "common/console.h"
#include "common/devices.h"
#include "common/environment.h"
#include "common/exit.h"
#include "common/flag.h"
#include "common/memory.h"
#include "info/model.h"
#include "info/page.h"

enum { MOST_PIXELS = 1 << 28, MAX_DEVICES = 64, MAX_LADDERS = 32, MAX_ENGINES = 8, DTYPES = 3 };

static const vlcache_dtype dtypes[DTYPES] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};

/* The matrix product engines for weights of one dtype. */
typedef struct engines {
    vlcache_gemm_engine engine[MAX_ENGINES];
    size_t n;
    bool asked;
    char error[512]; /* "" where there is none */
} engines;

/* All that is said of one device. */
typedef struct report {
    vlcache_device_info info;
    bool by_default; /* the one that is used where none is named */
    int code;        /* EXIT_OK, or why it could not be opened */
    char error[1024];
    vlcache_ladder ladder[MAX_LADDERS];
    size_t n_ladders;
    engines gemm[DTYPES];
} report;

enum { ACTION_REPORT, ACTION_HELP, ACTION_VERSION };

typedef struct options {
    int action;          /* ACTION_* */
    const char *device;  /* NULL: all */
    vlcache_dtype dtype; /* auto: all */
    bool json, list, no_measure, clear;
    model_question model; /* folder NULL: devices are asked about */
} options;

static console terminal;

/* ---- command line -------------------------------------------------------------------------------------- */

#define FIELD(member) offsetof(options, member)

/* clang-format off */
static const flag flags[] = {
    {FLAG_GROUP, .name = "What is asked"},
    {FLAG_TEXT, .name = "device", .argument = "SEL", .offset = FIELD(device),
     .help = "only this device: its index, or part of its or its platform's name"},
    {FLAG_DTYPE, .name = "dtype", .argument = "T", .offset = FIELD(dtype),
     .help = "matrix products of weights in f32, f16 or bf16 only; auto: in all\nthree; with -m: how weights and KV rows are stored on the device"},
    {FLAG_SWITCH, .name = "no-measure", .offset = FIELD(no_measure),
     .help = "do not measure matrix products: show only what is in the cache"},
    {FLAG_SWITCH, .name = "clear-cache", .offset = FIELD(clear),
     .help = "delete the cached kernels and measurements first"},

    {FLAG_GROUP, .name = "What a model takes"},
    {FLAG_TEXT, 'm', "model", .argument = "DIR", .offset = FIELD(model.folder),
     .help = "this model's folder instead: what it is and whether it fits each\n"
             "device (weights, the whole cache, activations, and 3% + 64 MiB of\n"
             "room); no weights are read, and nothing is run"},
    {FLAG_OWN, .name = "image-size", .argument = "WxH", .offset = FIELD(model), .read = model_read_sizes,
     .help = "pictures whose tokens are told, WxH,WxH,... pixels\n[640x480,1024x768,1920x1080]"},
    {FLAG_WHOLE, .name = "min-pixels", .argument = "N", .offset = FIELD(model.min_pixels), .high = MOST_PIXELS,
     .help = "resize these to at least N pixels, where the model takes any size\n(Qwen-VL); 0: as the checkpoint says"},
    {FLAG_WHOLE, .name = "max-pixels", .argument = "N", .offset = FIELD(model.max_pixels), .high = MOST_PIXELS,
     .help = "the same, at most N; 0: as the checkpoint says"},
    {FLAG_WHOLE, .name = "tokens", .argument = "N", .offset = FIELD(model.tokens), .low = 0, .high = 1 << 24,
     .help = "tokens of a conversation, pictures included; 0: 2048 and\n32768, or what the model takes"},
    {FLAG_ABOVE, .name = "budget", .argument = "X", .offset = FIELD(model.budget), .low = 0, .high = 1,
     .help = "share of the full KV cache's bytes that is kept"},
    {FLAG_SWITCH, .name = "no-mmap", .offset = FIELD(model.no_mmap),
     .help = "as it is when weights are read into memory, also where a processor\ncould read them in their files"},

    {FLAG_GROUP, .name = "What comes out"},
    {FLAG_SWITCH, .name = "json", .offset = FIELD(json),
     .help = "one JSON object on standard output"},
    {FLAG_SWITCH, .name = "list-devices", .offset = FIELD(list),
     .help = "a line for each device, or with --json what it says of itself, and\nnothing else; no device is opened"},
    {FLAG_ACTION, 'h', "help", .offset = FIELD(action), .low = ACTION_HELP, .help = "this text"},
    {FLAG_ACTION, .name = "version", .offset = FIELD(action), .low = ACTION_VERSION, .help = "version of tool and library"},
    {FLAG_END, .name = NULL},
};
/* clang-format on */

static const char usage[] =
    "vlcache-info " VLCACHE_VERSION
    " - OpenCL devices, and the kernels that vlcache runs on them;\n"
    "what a model is, and whether it fits\n"
    "\n"
    "Usage: vlcache-info [options]\n"
    "       vlcache-info -m DIR [--image-size WxH] [--max-pixels N] [--tokens N] [--budget X]\n";

static const char rest[] =
    "\n"
    "The first run on a device builds kernels and measures matrix products, for some seconds; it remembers\n"
    "both in the cache folder. An engine that failed there is remembered too: --clear-cache tries it "
    "again.\n" ENVIRONMENT_HELP
    "\n"
    "Exit codes: 0; 1 usage; 2 a model's folder that would not load, cache folder, or output that\n"
    "cannot be written; 3 no device, or the device or its driver failed; 4 out of memory\n";

static void print_help(void) {
    options defaults = {.action = ACTION_REPORT, .model = MODEL_QUESTION};
    fputs(usage, stdout);
    flags_print(flags, &defaults);
    fputs(rest, stdout);
}

/* ---- asking -------------------------------------------------------------------------------------------- */

/* What fails in one dtype becomes part of the report, unless it is that there is no memory to look. */
static vlcache_status ask_gemm(vlcache_device *device, const options *o, report *r) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < DTYPES && status != VLCACHE_E_NO_MEMORY; i++) {
        engines *e = &r->gemm[i];
        if (o->dtype != VLCACHE_DTYPE_AUTO && o->dtype != dtypes[i]) continue;
        e->asked = true;
        status = vlcache_device_gemm(device, dtypes[i], !o->no_measure, e->engine, MAX_ENGINES, &e->n);
        if (status) {
            snprintf(e->error, sizeof e->error, "%s", vlcache_error_message());
            e->n = 0;
        }
        if (e->n > MAX_ENGINES) e->n = MAX_ENGINES;
    }
    return status == VLCACHE_E_NO_MEMORY ? status : VLCACHE_OK;
}

/* Opens the device and asks it; why it cannot be opened becomes part of the report. */
static void ask_device(const options *o, report *r) {
    char index[16];
    snprintf(index, sizeof index, "%d", r->info.index);
    vlcache_device_options how = VLCACHE_DEVICE_OPTIONS_INIT;
    how.progress = console_progress;
    how.progress_user = &terminal;
    vlcache_device *device = NULL;
    vlcache_status status = vlcache_device_open(index, &how, &device);
    if (!status) vlcache_device_describe(device, &r->info); /* with what opening it has shown */
    if (!status) status = vlcache_device_ladders(device, r->ladder, MAX_LADDERS, &r->n_ladders);
    if (r->n_ladders > MAX_LADDERS) r->n_ladders = MAX_LADDERS;
    if (!status) status = ask_gemm(device, o, r);
    if (status) snprintf(r->error, sizeof r->error, "%s", vlcache_error_message());
    r->code = exit_code(status);
    vlcache_device_destroy(&device);
    console_erase(&terminal);
}

/* ---- for people ---------------------------------------------------------------------------------------- */

static void print_capabilities(const vlcache_device_info *info) {
    char memory[32], allocation[32], local[32];
    console_bytes(info->global_memory, memory);
    console_bytes(info->max_allocation, allocation);
    console_bytes(info->local_memory, local);
    page_field(&terminal, "platform", "%s, %s", info->platform, info->version);
    page_field(&terminal, "type", "%s of %s, %u compute unit%s", device_type_name(info->type), info->vendor,
               info->compute_units, info->compute_units == 1 ? "" : "s");
    page_field(&terminal, "driver", "%s", info->driver);
    page_field(&terminal, "memory", "%s%s, at most %s in one allocation", memory,
               info->unified_memory ? " shared with the host" : "", allocation);
    page_field(&terminal, "work-group", "at most %zu work-items, %s of local memory", info->max_work_group,
               local);
    page_field(&terminal, "16-bit floats", info->fp16 ? "yes" : "in storage only (no cl_khr_fp16)");
    page_field(&terminal, "subgroups", info->subgroups ? "yes" : "no");
    if (*info->matrix_units) page_field(&terminal, "matrix units", "%s", info->matrix_units);
}

/* "large  [tile]  small  scalar": the rung in use in brackets, those the device cannot take struck out by ().
 */
static void print_ladder(const vlcache_ladder *l) {
    char label[64], text[512] = "";
    snprintf(label, sizeof label, "  %-11s", l->kernel);
    for (int i = 0; i < l->n_rungs; i++) {
        const vlcache_rung *rung = &l->rungs[i];
        const char *frame = i == l->in_use ? "[]" : rung->available ? "" : "()";
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%.1s%s%s", i ? "  " : "", frame, rung->name,
                 *frame ? frame + 1 : "");
    }
    page_field(&terminal, label, "%-18s%s%s", l->work, text, l->forced ? "  forced" : "");
}

static void print_ladders(const report *r) {
    console_print(&terminal, "\n");
    page_field(&terminal, "kernel variants", "%-18s%s", "for", "[in use], (not on this device)");
    for (size_t i = 0; i < r->n_ladders; i++) print_ladder(&r->ladder[i]);
}

/* "225.1 *" */
static void speed_text(const vlcache_gemm_engine *e, char text[16]) {
    char speed[12] = "-";
    if (*e->error) snprintf(speed, sizeof speed, e->absent ? "none" : "failed");
    if (e->gflops > 0)
        snprintf(speed, sizeof speed, e->gflops < 1 ? "%.2g" : e->gflops < 1000 ? "%.1f" : "%.0f", e->gflops);
    snprintf(text, 16, "%9s %c", speed, e->chosen ? '*' : ' ');
}

static void print_engine(const report *r, const engines *first, size_t row) {
    char label[64], line[64] = "", speed[16];
    snprintf(label, sizeof label, "  %s", first->engine[row].name);
    for (int i = 0; i < DTYPES; i++) {
        if (!r->gemm[i].asked) continue;
        bool there = row < r->gemm[i].n;
        if (there) speed_text(&r->gemm[i].engine[row], speed);
        snprintf(line + strlen(line), sizeof line - strlen(line), "%-11s", there ? speed : "");
    }
    page_field(&terminal, label, "%s", line);
}

static void print_engines(const report *r) {
    char heads[64] = "";
    const engines *first = NULL;
    for (int i = 0; i < DTYPES; i++) {
        if (!r->gemm[i].asked) continue;
        if (!first || !first->n) first = &r->gemm[i];
        snprintf(heads + strlen(heads), sizeof heads - strlen(heads), "%9s  ", vlcache_dtype_name(dtypes[i]));
    }
    console_print(&terminal, "\n");
    page_field(&terminal, "matrix products", "%s%s", heads, "GFLOP/s, * in use, - not measured");
    for (size_t row = 0; first && row < first->n; row++) print_engine(r, first, row);
    for (int i = 0; i < DTYPES; i++) {
        const engines *e = &r->gemm[i];
        for (size_t row = 0; row < e->n; row++)
            if (*e->engine[row].error && !e->engine[row].absent)
                page_field(&terminal, "", "%s, %s: %s", e->engine[row].name, vlcache_dtype_name(dtypes[i]),
                           e->engine[row].error);
        if (*e->error) page_field(&terminal, "", "%s: %s", vlcache_dtype_name(dtypes[i]), e->error);
    }
}

static void print_report(const report *r) {
    console_print(&terminal, "\n%-*d%s%s\n", PAGE_INDENT, r->info.index, r->info.name,
                  r->by_default ? "  (used where no device is named)" : "");
    print_capabilities(&r->info);
    if (r->code) {
        console_print(&terminal, "\n");
        page_field(&terminal, "cannot be used", "%s", r->error);
        return;
    }
    print_ladders(r);
    print_engines(r);
}

static void print_cache(const char *folder, size_t files, uint64_t bytes) {
    char size[32];
    console_bytes(bytes, size);
    console_print(&terminal, "\ncache%*s", PAGE_INDENT + PAGE_LABEL - 5, "");
    if (folder)
        console_print(&terminal, "%s, %zu file%s, %s\n", folder, files, files == 1 ? "" : "s", size);
    else
        console_print(&terminal, "none: neither XDG_CACHE_HOME nor HOME names a folder\n");
}

static void print_formats(void) {
    console_print(&terminal, "\npictures%*s%s\n", PAGE_INDENT + PAGE_LABEL - 8, "", vlcache_image_formats());
    console_print(&terminal, "videos%*s%s\n", PAGE_INDENT + PAGE_LABEL - 6, "",
                  vlcache_video_reads_files()
                      ? "files that libavformat reads, folders of frames"
                      : "folders of frames; files need libavformat, libavcodec and libswscale");
}

/* ---- for programs -------------------------------------------------------------------------------------- */

static json_t *ladders_json(const report *r) {
    json_t *all = json_array();
    for (size_t i = 0; i < r->n_ladders; i++) {
        const vlcache_ladder *l = &r->ladder[i];
        json_t *rungs = json_array();
        for (int k = 0; k < l->n_rungs; k++)
            json_array_append_new(rungs, json_pack("{s:s, s:b}", "rung", l->rungs[k].name, "available",
                                                   l->rungs[k].available));
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:b, s:o}", "kernel", l->kernel, "work",
                                             l->work, "rung", l->rungs[l->in_use].name, "forced", l->forced,
                                             "rungs", rungs));
    }
    return all;
}

static json_t *engines_json(const engines *e) {
    if (*e->error) return json_pack("{s:o}", "error", page_text(e->error));
    json_t *all = json_array();
    for (size_t i = 0; i < e->n; i++) {
        const vlcache_gemm_engine *engine = &e->engine[i];
        json_t *speed = engine->gflops > 0 ? json_real(engine->gflops) : json_null();
        json_t *one =
            json_pack("{s:s, s:o, s:b}", "engine", engine->name, "gflops", speed, "chosen", engine->chosen);
        if (*engine->error) json_object_set_new(one, "error", page_text(engine->error));
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *report_json(const report *r) {
    json_t *object = device_info_json(&r->info);
    json_object_set_new(object, "default", json_boolean(r->by_default));
    if (r->code) {
        json_object_set_new(object, "error", page_text(r->error));
        return object;
    }
    json_object_set_new(object, "variants", ladders_json(r));
    json_t *gemm = json_object();
    for (int i = 0; i < DTYPES; i++)
        if (r->gemm[i].asked)
            json_object_set_new(gemm, vlcache_dtype_name(dtypes[i]), engines_json(&r->gemm[i]));
    json_object_set_new(object, "gemm", gemm);
    return object;
}

/* ["JPEG", "PNG", ...] */
static json_t *formats_json(void) {
    json_t *all = json_array();
    for (const char *at = vlcache_image_formats(); *at;) {
        size_t n = strcspn(at, ",");
        json_array_append_new(all, json_stringn(at, n));
        at += n + strspn(at + n, ", ");
    }
    return all;
}

static int print_json(json_t *devices, const char *folder, size_t files, uint64_t bytes) {
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:b, s:{s:s?, s:I, s:I}}", "version", vlcache_version(), "devices",
                  devices, "pictures", formats_json(), "video_files", vlcache_video_reads_files(), "cache",
                  "folder", folder, "files", (json_int_t)files, "bytes", (json_int_t)bytes);
    return page_json(&terminal, object);
}

/* ---- main ---------------------------------------------------------------------------------------------- */

/* The index that opening `select` gives, or -1: the library resolves it. */
static vlcache_status resolve(const char *select, int *index) {
    vlcache_device *device = NULL;
    vlcache_device_info info;
    *index = -1;
    vlcache_status status = vlcache_device_open(select, NULL, &device);
    if (status) return status;
    vlcache_device_describe(device, &info);
    *index = info.index;
    vlcache_device_destroy(&device);
    return VLCACHE_OK;
}

/* Good when at least one of the devices asked for can be used. */
static int report_all(const options *o, const vlcache_device_info *infos, size_t n, int only,
                      int by_default) {
    json_t *devices = o->json ? json_array() : NULL;
    static report r;
    int code = EXIT_DEVICE, first = EXIT_OK;
    char why[sizeof r.error] = "no device is the one that was asked for";
    for (size_t i = 0; i < n; i++) {
        if (only >= 0 && infos[i].index != only) continue;
        memset(&r, 0, sizeof r);
        r.info = infos[i];
        r.by_default = infos[i].index == by_default;
        ask_device(o, &r);
        if (!r.code) code = EXIT_OK;
        if (!first && r.code) {
            first = r.code;
            memcpy(why, r.error, sizeof why);
        }
        if (devices) json_array_append_new(devices, report_json(&r));
        if (!devices) print_report(&r);
    }
    if (code) code = console_fail(&terminal, first ? first : code, "%s", why);
    char *folder = NULL;
    size_t files = 0;
    uint64_t bytes = 0;
    vlcache_status status = vlcache_cache_describe(NULL, &folder, &files, &bytes);
    if (status && !code) code = console_fail_status(&terminal, status);
    if (devices && print_json(devices, folder, files, bytes)) code = EXIT_MEMORY;
    if (!devices) print_formats();
    if (!devices) print_cache(folder, files, bytes);
    vlcache_free(folder);
    return code;
}

static void print_head(size_t n) {
    console_print(&terminal, "vlcache %s, %zu OpenCL device%s\n", vlcache_version(), n, n == 1 ? "" : "s");
}

/* A model's folder; without a device it is described all the same, unless one was named. */
static int run_model(const options *o) {
    static vlcache_device_info infos[MAX_DEVICES];
    model_question q = o->model;
    size_t n = 0;
    int only = -1;
    vlcache_status status = vlcache_device_list(infos, MAX_DEVICES, &n);
    if (!status && o->device) status = resolve(o->device, &only);
    if (status && (o->device || status == VLCACHE_E_NO_MEMORY)) return console_fail_status(&terminal, status);
    if (status)
        console_say(&terminal, "vlcache-info: warning: whether it fits a device is not known: %s\n",
                    vlcache_error_message());
    q.dtype = o->dtype;
    q.json = o->json;
    q.device = infos;
    q.n_devices = status ? 0 : n < MAX_DEVICES ? n : MAX_DEVICES;
    for (size_t i = 0; only >= 0 && i < q.n_devices; i++)
        if (infos[i].index == only) q.device = &infos[i], q.n_devices = 1;
    return model_describe(&terminal, &q);
}

/* What would be passed over in silence. */
static int check_together(const options *o) {
    const model_question usual = MODEL_QUESTION, *q = &o->model;
    bool sizes = q->n_sizes != usual.n_sizes || memcmp(q->size, usual.size, sizeof usual.size) != 0;
    const char *asked = sizes                       ? "image-size"
                        : q->min_pixels             ? "min-pixels"
                        : q->max_pixels             ? "max-pixels"
                        : q->tokens                 ? "tokens"
                        : q->budget != usual.budget ? "budget"
                        : q->no_mmap                ? "no-mmap"
                                                    : NULL;
    if (o->list && q->folder) return flag_refuse("--list-devices: not with -m");
    if (asked && !q->folder) return flag_refuse("--%s: is about a model: name it with -m DIR", asked);
    return EXIT_OK;
}

static int run(const options *o) {
    static vlcache_device_info infos[MAX_DEVICES];
    size_t n = 0;
    int only = -1, by_default = -1, code = check_together(o);
    if (code) return code;
    vlcache_status status = o->clear ? vlcache_cache_clear(NULL, NULL) : VLCACHE_OK;
    if (!status && o->list) return devices_print(&terminal, o->json);
    if (!status && o->model.folder) return run_model(o);
    if (!status) status = vlcache_device_list(infos, MAX_DEVICES, &n);
    if (n > MAX_DEVICES) n = MAX_DEVICES;

    if (!status && o->device) status = resolve(o->device, &only);
    if (status) return console_fail_status(&terminal, status);
    status = resolve(NULL, &by_default);
    bool misnamed = status == VLCACHE_E_NO_DEVICE || status == VLCACHE_E_ARGUMENT; /* in the environment */
    if ((misnamed && !o->device) || status == VLCACHE_E_NO_MEMORY)
        return console_fail_status(&terminal, status);
    if (status && !misnamed)
        console_say(&terminal,
                    "vlcache-info: warning: which device is used where none is named is not known: %s\n",
                    vlcache_error_message());
    if (!o->json) print_head(n);
    return report_all(o, infos, n, only, by_default);
}

int main(int argc, char **argv) {
    options o = {.action = ACTION_REPORT, .model = MODEL_QUESTION};
    memory_guard_json();
    console_open(&terminal, false, false);
    signal(SIGPIPE, SIG_IGN); /* a write says that its reader has gone */
    int code = flags_parse(flags, argc, argv, &o);
    if (!code && o.action == ACTION_HELP)
        print_help();
    else if (!code && o.action == ACTION_VERSION)
        console_print(&terminal, "vlcache-info %s (libvlcache %s)\n", VLCACHE_VERSION, vlcache_version());
    else if (!code)
        code = run(&o);
    return console_close(&terminal, code);
}
