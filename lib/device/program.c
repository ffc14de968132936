/*
 * program.c - kernels by file, name and options: from memory, from the binary cache, or compiled now.
 *
 * The key of a cached binary: source text, options, how its PTX is changed, platform, device, driver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "device/program.h"

enum { MAX_KERNELS = 16 };

/* A built program; a device keeps a list of them. */
typedef struct vlci_program {
    struct vlci_program *next;
    char *file, *options;
    vlci_ptx ptx; /* how the driver's text is changed; all zero: not at all */
    cl_program handle;
    bool cached; /* handle comes from the binary cache */
    vlci_kernel kernels[MAX_KERNELS];
    char *names[MAX_KERNELS];
    vlcache_kernel_profile usage[MAX_KERNELS];
    int n_kernels;
} vlci_program;

static void program_release(vlci_program *program) {
    for (int i = 0; i < program->n_kernels; i++) {
        clReleaseKernel(program->kernels[i].handle);
        vlci_free(program->kernels[i].set);
        vlci_free(program->names[i]);
    }
    if (program->handle) clReleaseProgram(program->handle);
    vlci_free(program->file);
    vlci_free(program->options);
    vlci_free(program);
}

void vlci_programs_release(vlcache_device *device) {
    while (device->programs) {
        vlci_program *next = device->programs->next;
        program_release(device->programs);
        device->programs = next;
    }
}

unsigned vlci_kernel_builds(const vlcache_device *device) {
    return device->builds;
}

double vlci_kernel_build_seconds(vlcache_device *device) {
    pthread_mutex_lock(&device->lock);
    double seconds = device->build_seconds;
    pthread_mutex_unlock(&device->lock);
    return seconds;
}

/* The text of a kernel file: embedded, or from VLCACHE_KERNEL_DIR while one works on it. New memory. */
static char *source_text(const char *file) {
    const char *folder = getenv("VLCACHE_KERNEL_DIR");
    if (folder && *folder) {
        char *path = vlci_format("%s/%s", folder, file);
        FILE *stream = path ? fopen(path, "rb") : NULL;
        vlci_free(path);
        char *text = stream ? vlci_calloc(1 << 20, 1) : NULL;
        if (text && fread(text, 1, (1 << 20) - 1, stream) == 0) text[0] = 0;
        if (stream) fclose(stream);
        return text;
    }
    for (const vlci_kernel_source *s = vlci_kernel_sources; s->name; s++)
        if (strcmp(s->name, file) == 0) return vlci_strdup(s->text);
    return NULL;
}

/* `more` of a file behind `text`, both of which are freed; #line keeps the compiler's messages true. NULL
 * when out of memory. */
static char *append(char *text, const char *file, char *more) {
    char *longer = text && more ? vlci_format("%s#line 1 \"%s\"\n%s\n", text, file, more) : NULL;
    vlci_free(more);
    vlci_free(text);
    return longer;
}

/* What stands in front of programs, in this order: the first of them always, others where the file's head
 * says "with: NAME NAME" or the program has inline assembly. */
static const char *const front[] = {"shared.h",       "common.clh",     "kv.clh",          "ptx.clh",
                                    "few.clh",        "code.clh",       "coded.clh",       "coded_mma.clh",
                                    "coded_runs.clh", "coded_rows.clh", "amx.clh",         "dot.clh",
                                    "rope.clh",       "wide.clh",       "panel.clh",       "dot_rows.clh",
                                    "attend.clh",     "chain.clh",      "logits_wgmma.clh"};
enum { ALWAYS = 3, PTX = 3 };

/* That and the file, in one text. */
static char *program_text(const vlci_program *program) {
    char *own = source_text(program->file), *text = own ? vlci_strdup("") : NULL;
    const char *asked = own ? strstr(own, "\n * with: ") : NULL;
    size_t line = asked ? strcspn(asked + 1, "\n") : 0;
    for (size_t i = 0; i < sizeof front / sizeof *front; i++) {
        const char *at = asked && i >= ALWAYS ? strstr(asked, front[i]) : NULL;
        bool wanted = i < ALWAYS || (at && at < asked + line) || (program->ptx.target && i == PTX);
        if (wanted) text = append(text, front[i], source_text(front[i]));
    }
    return append(text, program->file, own);
}

/* Kernels that cannot be had are no good ones, unless it was memory that they lacked. */
static vlcache_status build_status(cl_int code) {
    return code == CL_OUT_OF_HOST_MEMORY ? VLCACHE_E_NO_MEMORY : VLCACHE_E_BUILD;
}

vlcache_status vlci_progress(const vlcache_device *device, const char *stage, uint64_t done) {
    if (!device->progress || device->progress(device->progress_user, stage, done, 0)) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while %s", stage);
}

/* Compilers of drivers give up at Ctrl-C, too (LLVM's takes its temporary files away): then it is no fault of
 * the kernel's. */
static vlcache_status fail_build(vlcache_device *device, cl_program program, const char *file,
                                 const char *options, cl_int code) {
    size_t bytes = 0;
    vlcache_status stopped = vlci_progress(device, "building kernels", device->builds);
    if (stopped) return stopped;
    clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
    char *log = bytes ? vlci_calloc(bytes + 1, 1) : NULL;
    if (log) clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    vlcache_status status =
        vlci_fail(build_status(code), "kernel file %s (%s) does not build on \"%s\": %s: %s", file, options,
                  device->caps.info.name, vlci_cl_error(code), log ? log : "no log");
    vlci_free(log);
    return status;
}

/* A program of a binary, built; NULL and the driver's code where it is refused. */
static cl_program build_binary(const vlcache_device *device, const void *data, size_t bytes,
                               const char *options, cl_int *code) {
    const unsigned char *binary = data;
    cl_int loaded = CL_SUCCESS;
    cl_program program =
        clCreateProgramWithBinary(device->context, 1, &device->id, &bytes, &binary, &loaded, code);
    if (!*code) *code = loaded ? loaded : clBuildProgram(program, 1, &device->id, options, NULL, NULL);
    if (*code && program) clReleaseProgram(program);
    return *code ? NULL : program;
}

static cl_program load_binary(vlcache_device *device, const char *name, const char *options) {
    size_t bytes = 0;
    cl_int code = CL_SUCCESS;
    unsigned char *data = vlci_cache_load(device, name, &bytes);
    if (!data) return NULL;
    cl_program program = build_binary(device, data, bytes, options, &code);
    vlci_free(data);
    if (!program) vlci_log(VLCACHE_LOG_WARN, "cached binary %s is refused by the driver, built again", name);
    return program;
}

char *vlci_program_binary(cl_program program, size_t *bytes) {
    *bytes = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof *bytes, bytes, NULL) || !*bytes)
        return NULL;
    unsigned char *data = vlci_calloc(*bytes + 1, 1);
    if (data && !clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, NULL))
        return (char *)data;
    vlci_free(data);
    return NULL;
}

static void store_binary(vlcache_device *device, cl_program program, const char *name) {
    size_t bytes = 0;
    char *data = vlci_program_binary(program, &bytes);
    if (data) vlci_cache_store(device, name, data, bytes);
    vlci_free(data);
}

/* The program that the driver makes of the changed text of `*program`, which is released. */
static vlcache_status reload(vlcache_device *device, const char *file, const char *options,
                             const vlci_ptx *ptx, cl_program *program) {
    size_t bytes = 0;
    char *text = vlci_program_binary(*program, &bytes), *edited = NULL;
    cl_int code = CL_SUCCESS;
    clReleaseProgram(*program);
    *program = NULL;
    vlcache_status status = text ? vlci_ptx_edit(text, ptx, &edited) : vlci_fail_memory("PTX of a kernel");
    if (!status) *program = build_binary(device, edited, strlen(edited), options, &code);
    if (code)
        status = vlci_fail(build_status(code), "kernel file %s (%s) as %s does not load on \"%s\": %s", file,
                           options, ptx->target, device->caps.info.name, vlci_cl_error(code));
    vlci_free(edited);
    vlci_free(text);
    return status;
}

static vlcache_status compile(vlcache_device *device, const char *file, const char *options, const char *text,
                              cl_program *out) {
    vlcache_status go_on = vlci_progress(device, "building kernels", device->builds);
    if (go_on) return go_on;
    cl_int code = CL_SUCCESS;
    cl_program program = clCreateProgramWithSource(device->context, 1, &text, NULL, &code);
    if (code) return vlci_fail(vlci_cl_status(code), "kernel file %s: %s", file, vlci_cl_error(code));
    device->builds++;
    code = clBuildProgram(program, 1, &device->id, options, NULL, NULL);
    if (code) {
        vlcache_status status = fail_build(device, program, file, options, code);
        clReleaseProgram(program);
        return status;
    }
    *out = program;
    return VLCACHE_OK;
}

static vlcache_status fail_source(const char *file) {
    const char *folder = getenv("VLCACHE_KERNEL_DIR");
    for (const vlci_kernel_source *s = vlci_kernel_sources; s->name && !(folder && *folder); s++)
        if (strcmp(s->name, file) == 0) return vlci_fail_memory("kernel source");
    return vlci_fail(VLCACHE_E_BUILD,
                     "kernel file %s, or one that stands before it in every program, is not there", file);
}

/* From the cache where `program->cached` allows it; tells there whether it came from there. */
static vlcache_status obtain(vlcache_device *device, vlci_program *program, const char *options) {
    const char *file = program->file;
    cl_program *out = &program->handle;
    bool *cached = &program->cached;
    char *text = program_text(program);
    if (!text) return fail_source(file);
    const vlcache_device_info *info = &device->caps.info;
    char name[40], change[VLCI_PTX_NAME];
    vlci_ptx_name(&program->ptx, change);
    const char *key[] = {text, options, change, info->platform, info->name, info->driver, info->version};
    vlci_fingerprint(key, sizeof key / sizeof *key, name);
    strcat(name, ".clbin");
    vlcache_status status = VLCACHE_OK;
    double start = vlci_clock_ms();
    *out = *cached && device->binaries ? load_binary(device, name, options) : NULL;
    *cached = *out != NULL;
    if (!*out) {
        status = compile(device, file, options, text, out);
        if (!status && program->ptx.target) status = reload(device, file, options, &program->ptx, out);
        if (!status && device->binaries) store_binary(device, *out, name);
    }
    device->build_seconds += (vlci_clock_ms() - start) / 1e3;
    vlci_free(text);
    return status;
}

/* The program's handle, built with its options and those of all programs. */
static vlcache_status obtain_with(vlcache_device *device, vlci_program *program) {
    char *all = vlci_format("-cl-std=CL1.2 -w %s", program->options);
    if (!all) return vlci_fail_memory("kernel options");
    vlcache_status status = obtain(device, program, all);
    vlci_free(all);
    return status;
}

static vlcache_status find_program(vlcache_device *device, const char *file, const char *options,
                                   const vlci_ptx *ptx, vlci_program **out) {
    for (vlci_program *p = device->programs; p; p = p->next) {
        if (strcmp(p->file, file) || strcmp(p->options, options) || !vlci_ptx_same(&p->ptx, ptx)) continue;
        *out = p;
        return VLCACHE_OK;
    }
    vlci_program *program = vlci_calloc(1, sizeof *program);
    if (!program) return vlci_fail_memory("kernel program");
    program->file = vlci_strdup(file);
    program->options = vlci_strdup(options);
    vlcache_status status =
        program->file && program->options ? VLCACHE_OK : vlci_fail_memory("kernel program");
    program->cached = true;
    program->ptx = *ptx;
    if (!status) status = obtain_with(device, program);
    if (status) {
        program_release(program);
        return status;
    }
    program->next = device->programs;
    device->programs = program;
    *out = program;
    return VLCACHE_OK;
}

/* The program's handle of a kernel. A sealed binary that lacks it is none of ours: built again. */
static vlcache_status create_handle(vlcache_device *device, vlci_program *program, const char *name,
                                    cl_kernel *out) {
    cl_int code = CL_INVALID_PROGRAM;
    if (program->handle) *out = clCreateKernel(program->handle, name, &code);
    if (code && (program->cached || !program->handle)) {
        vlci_log(VLCACHE_LOG_WARN, "the cached binary of %s lacks kernel %s: built again", program->file,
                 name);
        if (program->handle) clReleaseProgram(program->handle); /* kernels made from it hold it */
        program->handle = NULL;
        program->cached = false;
        vlcache_status status = obtain_with(device, program);
        if (status) return status;
        *out = clCreateKernel(program->handle, name, &code);
    }
    if (!code) return VLCACHE_OK;
    *out = NULL;
    return vlci_fail(build_status(code), "kernel %s of %s: %s", name, program->file, vlci_cl_error(code));
}

/* What the driver knows of a kernel is asked for here, and never again. */
static vlcache_status describe_kernel(vlcache_device *device, const vlci_program *program, const char *name,
                                      vlci_kernel *kernel) {
    cl_uint n_args = 0;
    cl_ulong private_bytes = 0;
    cl_int code = clGetKernelInfo(kernel->handle, CL_KERNEL_NUM_ARGS, sizeof n_args, &n_args, NULL);
    if (code)
        return vlci_fail(build_status(code), "kernel %s of %s: %s", name, program->file, vlci_cl_error(code));
    if (clGetKernelWorkGroupInfo(kernel->handle, device->id, CL_KERNEL_WORK_GROUP_SIZE,
                                 sizeof kernel->max_group, &kernel->max_group, NULL))
        kernel->max_group = device->caps.max_group;
    /* A size that the source demands is not limited by what the driver would choose. */
    size_t own[3] = {0};
    if (!clGetKernelWorkGroupInfo(kernel->handle, device->id, CL_KERNEL_COMPILE_WORK_GROUP_SIZE, sizeof own,
                                  own, NULL) &&
        own[0] * own[1] * own[2] > kernel->max_group)
        kernel->max_group = own[0] * own[1] * own[2];
    if (clGetKernelWorkGroupInfo(kernel->handle, device->id, CL_KERNEL_PRIVATE_MEM_SIZE, sizeof private_bytes,
                                 &private_bytes, NULL))
        private_bytes = 0;
    kernel->private_bytes = (size_t)private_bytes;
    kernel->n_args = n_args;
    kernel->set = vlci_calloc(1, sizeof *kernel->set + n_args * sizeof kernel->set->last[0]);
    return kernel->set ? VLCACHE_OK : vlci_fail_memory("kernel");
}

/* Makes the program's next kernel. */
static vlcache_status make_kernel(vlcache_device *device, vlci_program *program, const char *name) {
    vlci_kernel kernel = {0};
    int at = program->n_kernels;
    char *copy = vlci_strdup(name);
    vlcache_status status = copy ? VLCACHE_OK : vlci_fail_memory("kernel name");
    if (!status) status = create_handle(device, program, name, &kernel.handle);
    if (!status) status = describe_kernel(device, program, name, &kernel);
    if (status) {
        if (kernel.handle) clReleaseKernel(kernel.handle);
        vlci_free(kernel.set);
        vlci_free(copy);
        return status;
    }
    kernel.name = copy;
    kernel.usage = &program->usage[at];
    kernel.usage->name = copy;
    program->names[at] = copy;
    program->kernels[at] = kernel;
    program->n_kernels++;
    return VLCACHE_OK;
}

static vlcache_status find_kernel(vlcache_device *device, vlci_program *program, const char *name,
                                  const vlci_kernel **out) {
    for (int i = 0; i < program->n_kernels; i++) {
        if (strcmp(program->names[i], name)) continue;
        *out = &program->kernels[i];
        return VLCACHE_OK;
    }
    if (program->n_kernels == MAX_KERNELS)
        return vlci_fail(VLCACHE_E_INTERNAL, "kernel file %s has more than %d kernels", program->file,
                         MAX_KERNELS);
    vlcache_status status = make_kernel(device, program, name);
    if (!status) *out = &program->kernels[program->n_kernels - 1];
    return status;
}

vlcache_status vlci_kernel_get(vlcache_device *device, const char *file, const char *name,
                               const char *options, const vlci_kernel **out) {
    return vlci_kernel_get_ptx(device, file, name, options, &(vlci_ptx){0}, out);
}

vlcache_status vlci_kernel_get_ptx(vlcache_device *device, const char *file, const char *name,
                                   const char *options, const vlci_ptx *ptx, const vlci_kernel **out) {
    *out = NULL;
    pthread_mutex_lock(&device->lock);
    vlci_program *program = NULL;
    vlcache_status status = find_program(device, file, options ? options : "", ptx, &program);
    if (!status) status = find_kernel(device, program, name, out);
    pthread_mutex_unlock(&device->lock);
    return status;
}

/* ---- profile ------------------------------------------------------------------------------------------- */

/* Adds a kernel's account to that of its name; the same kernel is built with several options. */
static void add_usage(vlcache_kernel_profile *all, size_t *n, const vlcache_kernel_profile *one) {
    size_t i = 0;
    while (i < *n && strcmp(all[i].name, one->name)) i++;
    if (i == *n) all[(*n)++] = (vlcache_kernel_profile){.name = one->name};
    all[i].calls += one->calls;
    all[i].ms += one->ms;
}

static int costlier(const void *a, const void *b) {
    double x = ((const vlcache_kernel_profile *)a)->ms, y = ((const vlcache_kernel_profile *)b)->ms;
    return (x < y) - (x > y);
}

vlcache_status vlcache_device_profile(vlcache_device *device, vlcache_kernel_profile *kernels,
                                      size_t capacity, size_t *count) {
    if (!device || !count || (capacity && !kernels))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_profile: device, kernels or count is NULL");
    size_t most = 1;
    *count = 0;
    pthread_mutex_lock(&device->lock);
    for (const vlci_program *p = device->programs; p; p = p->next) most += (size_t)p->n_kernels;
    vlcache_kernel_profile *all = vlci_alloc(most, sizeof *all);
    for (const vlci_program *p = device->programs; all && p; p = p->next)
        for (int i = 0; i < p->n_kernels; i++)
            if (p->usage[i].calls) add_usage(all, count, &p->usage[i]);
    pthread_mutex_unlock(&device->lock);
    if (!all) return vlci_fail_memory("kernel profile");
    qsort(all, *count, sizeof *all, costlier);
    if (capacity) memcpy(kernels, all, (*count < capacity ? *count : capacity) * sizeof *all);
    vlci_free(all);
    return VLCACHE_OK;
}
