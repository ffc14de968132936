/*
 * caps.c - what a device can do, as the rest of the library needs to know it. The one place that knows of
 * vendors.
 *
 * Capabilities are asked for, not inferred from names; a quirk that no query tells is written down here with
 * its reason.
 */
#include <string.h>

#include "device/device.h"

/* Asks a device; `failed`: the first code of a question that got no answer, which says nothing of the device.
 * Not to know the question (CL_INVALID_VALUE) is an answer. */
typedef struct query {
    cl_device_id device;
    cl_int failed;
} query;

static bool answered(query *q, cl_int code) {
    if (code && code != CL_INVALID_VALUE && !q->failed) q->failed = code;
    return code == CL_SUCCESS;
}

static bool ask(query *q, cl_device_info what, size_t bytes, void *value) {
    return answered(q, clGetDeviceInfo(q->device, what, bytes, value, NULL));
}

static void read_text(query *q, cl_device_info what, char *text, size_t capacity) {
    text[0] = 0;
    char buffer[1024] = "";
    if (!ask(q, what, sizeof buffer - 1, buffer)) return;
    size_t length = strnlen(buffer, capacity - 1);
    memcpy(text, buffer, length);
    text[length] = 0;
}

static cl_ulong read_number(query *q, cl_device_info what, size_t bytes) {
    cl_ulong value = 0; /* little-endian hosts: a narrower answer fills the low bytes */
    return ask(q, what, bytes, &value) ? value : 0;
}

static vlcache_device_type type_of(query *q) {
    cl_device_type type = (cl_device_type)read_number(q, CL_DEVICE_TYPE, sizeof type);
    if (type & CL_DEVICE_TYPE_GPU) return VLCACHE_DEVICE_GPU;
    return type & CL_DEVICE_TYPE_CPU ? VLCACHE_DEVICE_CPU : VLCACHE_DEVICE_OTHER;
}

static bool has_extension(const char *extensions, const char *name) {
    size_t length = strlen(name);
    for (const char *at = extensions; (at = strstr(at, name)); at += length) {
        bool starts = at == extensions || at[-1] == ' ';
        if (starts && (at[length] == ' ' || at[length] == 0)) return true;
    }
    return false;
}

static void read_info(query *q, vlcache_device_info *info) {
    info->index = -1;
    info->type = type_of(q);
    read_text(q, CL_DEVICE_NAME, info->name, sizeof info->name);
    read_text(q, CL_DEVICE_VENDOR, info->vendor, sizeof info->vendor);
    read_text(q, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    read_text(q, CL_DEVICE_VERSION, info->version, sizeof info->version);
    cl_platform_id platform = NULL;
    if (ask(q, CL_DEVICE_PLATFORM, sizeof(platform), &platform))
        answered(q,
                 clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof info->platform, info->platform, NULL));
    info->platform[sizeof info->platform - 1] = 0;
    info->compute_units = (unsigned)read_number(q, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(cl_uint));
    info->global_memory = read_number(q, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
    info->max_allocation = read_number(q, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
    info->local_memory = read_number(q, CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong));
    info->max_work_group = (size_t)read_number(q, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    info->unified_memory = read_number(q, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(cl_bool)) != 0;
    char extensions[8192];
    read_text(q, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    info->fp16 = has_extension(extensions, "cl_khr_fp16");
    info->subgroups = has_extension(extensions, "cl_khr_subgroups");
}

vlcache_status vlci_cl_status(cl_int code) {
    if (code == CL_OUT_OF_HOST_MEMORY) return VLCACHE_E_NO_MEMORY;
    bool memory = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES;
    return memory ? VLCACHE_E_DEVICE_MEMORY : VLCACHE_E_DEVICE;
}

/* What kernels cannot do without. A device that gives no answer has not said no. */
static vlcache_status check_needs(cl_device_id device, const char *name) {
    static const struct {
        cl_device_info what;
        const char *asked, *lack;
        vlcache_status status;
    } needs[] = {
        {CL_DEVICE_AVAILABLE, "AVAILABLE", "says that it is not available", VLCACHE_E_NO_DEVICE},
        {CL_DEVICE_COMPILER_AVAILABLE, "COMPILER_AVAILABLE",
         "has no kernel compiler: install the full driver", VLCACHE_E_NO_DEVICE},
        {CL_DEVICE_ENDIAN_LITTLE, "ENDIAN_LITTLE", "is big-endian", VLCACHE_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        cl_bool has = CL_FALSE;
        cl_int code = clGetDeviceInfo(device, needs[i].what, sizeof has, &has, NULL);
        if (code)
            return vlci_fail(vlci_cl_status(code), "device \"%s\" does not answer to CL_DEVICE_%s: %s", name,
                             needs[i].asked, vlci_cl_error(code));
        if (!has) return vlci_fail(needs[i].status, "device \"%s\" %s", name, needs[i].lack);
    }
    return VLCACHE_OK;
}

/* PoCL's device is the CPU, which is always there; it has none where it cannot write its cache, and does not
 * say so. */
const char *vlci_platform_hint(cl_platform_id platform) {
    char name[128] = "";
    if (clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL) ||
        strcmp(name, "Portable Computing Language"))
        return NULL;
    return "PoCL is there but has none, as it does where it cannot write its cache: see that "
           "$POCL_CACHE_DIR, or "
           "$XDG_CACHE_HOME/pocl or ~/.cache/pocl, can be written";
}

vlcache_status vlci_caps_read(cl_device_id device, vlci_caps *out) {
    memset(out, 0, sizeof *out);
    vlcache_device_info *info = &out->info;
    query q = {.device = device};
    read_info(&q, info);
    vlcache_status status = check_needs(device, info->name);
    if (status) return status;
    out->wide_vectors = info->type == VLCACHE_DEVICE_CPU;
    /* Some runtimes keep a few bytes of local memory to themselves (NVIDIA's: 4) without saying so. */
    out->local_bytes = info->local_memory > 256 ? (size_t)info->local_memory - 128 : 0;
    /* Mesa's llvmpipe bounds the loops of a work-item, all together, and leaves them without an error
     * (LP_MAX_TGSI_LOOP_ITERATIONS; seen with Mesa 22.3: 70,000 iterations are 65,535). */
    out->short_loops = !strcmp(info->platform, "rusticl") && !strncmp(info->name, "llvmpipe", 8);
    /* Intel's ask for less by themselves than AMD's: two threads of a Xeon of 2 MiB of second cache read rows
     * of weights in 22 ms so, in 30 where the first lines of pages are asked for, as is best on a Zen 4. */
    out->every_line = out->wide_vectors && !strcmp(info->vendor, "GenuineIntel");
    /* NVIDIA's driver 580 gives a part of a buffer that is not on the device yet memory of its own, beside
     * the buffer's, and copies what is in it to the host when it goes: 650 ms for .9 GB. */
    out->parts_apart = !strcmp(info->platform, "NVIDIA CUDA");
    out->vector_floats = (unsigned)read_number(&q, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof(cl_uint));
    out->max_group = info->max_work_group ? info->max_work_group : 1;
    out->argument_bytes = (size_t)read_number(&q, CL_DEVICE_MAX_PARAMETER_SIZE, sizeof(size_t));
    cl_ulong align_bits = read_number(&q, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(cl_uint));
    out->alignment = align_bits ? (size_t)align_bits / 8 : 128;
    if (!q.failed) return VLCACHE_OK;
    return vlci_fail(vlci_cl_status(q.failed), "device \"%s\" does not answer: %s", info->name,
                     vlci_cl_error(q.failed));
}
