/*
 * platform.c - which devices there are, and opening one of them.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/options.h"
#include "device/ladder.h"
#include "device/program.h"
#include "device/tap.h"

enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };
enum { CL_PLATFORM_NOT_FOUND = -1001 }; /* the loader's own */

/* `hint`: why a driver that is there has no device; NULL: not known. */
static vlcache_status fail_none(const char *hint) {
    static const char install[] =
        "install a driver (NVIDIA, AMD or Intel), or PoCL to run on the CPU "
        "(Debian and Ubuntu: apt install pocl-opencl-icd)";
    if (!hint) hint = install;
    return vlci_fail_field(VLCACHE_E_NO_DEVICE, NULL, NULL, NULL, hint, "no OpenCL device found: %s", hint);
}

/* What the loader or a driver said instead of a list. */
static vlcache_status fail_list(const char *what, cl_int code) {
    return vlci_fail(code == CL_OUT_OF_HOST_MEMORY ? VLCACHE_E_NO_MEMORY : VLCACHE_E_NO_DEVICE,
                     "no OpenCL device found: the list of %s: %s", what, vlci_cl_error(code));
}

static bool there_is_none(cl_int code) {
    return code == CL_DEVICE_NOT_FOUND || code == CL_INVALID_DEVICE_TYPE || code == CL_PLATFORM_NOT_FOUND;
}

/* All devices of all platforms: GPUs first, CPUs last, otherwise in the loader's order. A driver that fails
 * is passed over, with a word; host memory that runs out must not make us take another device than asked for.
 */
static vlcache_status enumerate(cl_device_id *devices, size_t *n) {
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0;
    *n = 0;
    cl_int failed = 0, code = clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms);
    if (code) return there_is_none(code) ? fail_none(NULL) : fail_list("platforms", code);
    if (n_platforms > MAX_PLATFORMS) n_platforms = MAX_PLATFORMS;
    static const cl_device_type order[] = {CL_DEVICE_TYPE_GPU, CL_DEVICE_TYPE_ACCELERATOR,
                                           CL_DEVICE_TYPE_CPU};
    for (size_t t = 0; t < sizeof order / sizeof *order; t++) {
        for (cl_uint p = 0; p < n_platforms && *n < MAX_DEVICES; p++) {
            cl_uint found = 0;
            cl_uint room = (cl_uint)(MAX_DEVICES - *n);
            code = clGetDeviceIDs(platforms[p], order[t], room, devices + *n, &found);
            if (code == CL_OUT_OF_HOST_MEMORY) return fail_list("devices", code);
            if (code == CL_SUCCESS) *n += found < room ? found : room;
            if (!code || there_is_none(code)) continue;
            vlci_log(VLCACHE_LOG_WARN, "OpenCL platform %u does not list its devices: %s", p,
                     vlci_cl_error(code));
            failed = code;
        }
    }
    if (*n) return VLCACHE_OK;
    if (failed) return fail_list("devices", failed);
    const char *hint = NULL;
    for (cl_uint p = 0; p < n_platforms && !hint; p++) hint = vlci_platform_hint(platforms[p]);
    return fail_none(hint);
}

/* Whether a device gave no answer: what is known of it is less than what it is. */
static bool is_silent(vlcache_status status) {
    return status == VLCACHE_E_DEVICE || status == VLCACHE_E_DEVICE_MEMORY;
}

vlcache_status vlcache_device_list(vlcache_device_info *infos, size_t capacity, size_t *count) {
    if (!count || (capacity && !infos))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_list: count or infos is NULL");
    cl_device_id devices[MAX_DEVICES];
    vlcache_status status = enumerate(devices, count);
    if (status) return status;
    for (size_t i = 0; i < *count && i < capacity; i++) {
        vlci_caps caps;
        status = vlci_caps_read(devices[i], &caps); /* a device that cannot run kernels is still shown */
        if (status == VLCACHE_E_NO_MEMORY) return status;
        if (is_silent(status)) vlci_log(VLCACHE_LOG_WARN, "%s", vlcache_error_message());
        infos[i] = caps.info;
        infos[i].index = (int)i;
    }
    return VLCACHE_OK;
}

static bool contains_no_case(const char *text, const char *part) {
    size_t length = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, length) == 0) return true;
    return false;
}

static bool is_index(const char *select) {
    for (const char *c = select; *c; c++)
        if (!isdigit((unsigned char)*c)) return false;
    return *select && strlen(select) < 6;
}

/* The position of the device that `select` names, or -1; where one gave no answer, it may have been that one.
 */
static vlcache_status pick(const cl_device_id *devices, size_t n, const char *select, int *index) {
    vlcache_status silent = VLCACHE_OK;
    *index = 0;
    if (!select || !*select) return VLCACHE_OK;
    *index = is_index(select) && (size_t)atoi(select) < n ? atoi(select) : -1;
    for (size_t i = 0; i < n && *index < 0 && !is_index(select); i++) {
        vlci_caps caps;
        vlcache_status status = vlci_caps_read(devices[i], &caps);
        if (status == VLCACHE_E_NO_MEMORY) return status;
        if (is_silent(status)) silent = status;
        if (contains_no_case(caps.info.name, select) || contains_no_case(caps.info.platform, select))
            *index = (int)i;
    }
    return *index < 0 ? silent : VLCACHE_OK;
}

static vlcache_status fail_select(const cl_device_id *devices, size_t n, const char *select) {
    char list[1024] = "";
    for (size_t i = 0; i < n; i++) {
        vlci_caps caps;
        vlci_caps_read(devices[i], &caps);
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%zu: %s (%s)", i ? ", " : "", i, caps.info.name,
                 caps.info.platform);
    }
    return vlci_fail_field(VLCACHE_E_NO_DEVICE, NULL, "device.select", select, list,
                           "no OpenCL device matches \"%s\"; there is %s", select, list);
}

VLCI_OPTIONS_END(vlcache_device_options, progress_user);

static vlcache_status take_options(const vlcache_device_options *from, vlcache_device_options *to) {
    return VLCI_OPTIONS_TAKE("device", vlcache_device_options, cache_dir, VLCACHE_DEVICE_OPTIONS_INIT, from,
                             to);
}

/* Binaries are not to be had for nothing: PoCL builds every kernel once more for them. */
static vlcache_status read_binaries(vlcache_device *device) {
    const char *said = getenv("VLCACHE_KERNEL_BINARIES");
    bool asked = said && *said;
    device->binaries = device->cache_dir && !asked;
    if (!asked || strcmp(said, "none") == 0) return VLCACHE_OK;
    return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_KERNEL_BINARIES", said,
                            "must be none, or not set");
}

static vlcache_status open_device(cl_device_id id, cl_context context, cl_command_queue queue,
                                  const vlcache_device_options *options, int index, vlcache_device **out) {
    vlcache_device *device = vlci_calloc(1, sizeof *device);
    if (!device) return vlci_fail_memory("device");
    device->references = 1;
    device->id = id;
    pthread_mutex_init(&device->lock, NULL);
    vlcache_status status = vlci_caps_read(id, &device->caps);
    if (status) goto done;
    device->caps.info.index = index;
    if (device->caps.short_loops)
        vlci_log(VLCACHE_LOG_WARN,
                 "device \"%s\": its driver leaves a kernel's loops after 65,535 rounds and does not say so: "
                 "answers on large models and long prompts are wrong; for tests only",
                 device->caps.info.name);
    cl_int code = CL_SUCCESS;
    if (context) {
        clRetainContext(context);
        clRetainCommandQueue(queue);
        device->context = context;
        device->queue = queue;
    } else {
        device->context = clCreateContext(NULL, 1, &id, NULL, NULL, &code);
        cl_command_queue_properties properties = options->profile ? CL_QUEUE_PROFILING_ENABLE : 0;
        if (!code) device->queue = clCreateCommandQueue(device->context, id, properties, &code);
    }
    device->profile = options->profile;
    if (code) {
        status = vlci_fail(vlci_cl_status(code), "device \"%s\" cannot be opened: %s", device->caps.info.name,
                           vlci_cl_error(code));
        goto done;
    }
    device->progress = options->progress;
    device->progress_user = options->progress_user;
    status = vlci_cache_folder(options->cache_dir, &device->cache_dir);
    if (!status) status = read_binaries(device);
    if (!status) status = vlci_trial(device);
    if (!status) status = vlci_ladders_check(device);
    if (!status) status = vlci_tap_open(device);
    if (status) goto done;
    *out = device;
    device = NULL;
done:
    vlcache_device_destroy(&device);
    return status;
}

vlcache_status vlcache_device_open(const char *select, const vlcache_device_options *options,
                                   vlcache_device **out) {
    vlcache_device_options taken;
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_open: out is NULL");
    *out = NULL;
    vlcache_status status = take_options(options, &taken);
    if (status) return status;
    if (!select || !*select) select = getenv("VLCACHE_DEVICE");
    cl_device_id devices[MAX_DEVICES];
    size_t n = 0;
    int index = 0;
    status = enumerate(devices, &n);
    if (status) return status;
    status = pick(devices, n, select, &index);
    if (status) return status;
    if (index < 0) return fail_select(devices, n, select);
    return open_device(devices[index], NULL, NULL, &taken, index, out);
}

vlcache_status vlcache_device_wrap(cl_context context, cl_device_id id, cl_command_queue queue,
                                   const vlcache_device_options *options, vlcache_device **out) {
    vlcache_device_options taken;
    if (out) *out = NULL;
    if (!out || !context || !id || !queue)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_wrap: context, device, queue or out is NULL");
    vlcache_status status = take_options(options, &taken);
    if (status) return status;
    cl_command_queue_properties properties = 0;
    cl_int code = clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
    if (code)
        return vlci_fail(vlci_cl_status(code), "vlcache_device_wrap: the queue: %s", vlci_cl_error(code));
    if (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "vlcache_device_wrap: the queue runs out of order: bring an in-order one");
    if (taken.profile && !(properties & CL_QUEUE_PROFILING_ENABLE))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "device.profile", "true",
                           "must be false with a queue that lacks CL_QUEUE_PROFILING_ENABLE");
    return open_device(id, context, queue, &taken, -1, out);
}

void vlcache_device_describe(const vlcache_device *device, vlcache_device_info *info) {
    *info = device->caps.info;
}

vlcache_device *vlci_device_retain(vlcache_device *device) {
    __atomic_add_fetch(&device->references, 1, __ATOMIC_RELAXED);
    return device;
}

void vlcache_device_destroy(vlcache_device **handle) {
    if (!handle || !*handle) return;
    vlcache_device *device = *handle;
    *handle = NULL;
    if (__atomic_sub_fetch(&device->references, 1, __ATOMIC_ACQ_REL)) return;
    if (device->queue) clFinish(device->queue); /* it may still read what was staged */
    vlci_programs_release(device);
    vlci_notes_release(device);
    vlci_tap_close(device);
    if (device->queue) clReleaseCommandQueue(device->queue);
    if (device->context) clReleaseContext(device->context);
    pthread_mutex_destroy(&device->lock);
    vlci_free(device->cache_dir);
    vlci_free(device->staging);
    vlci_free(device->buffers);
    vlci_free(device);
}
