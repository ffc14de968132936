/*
 * queue.c - the one way to enqueue: kernels with typed arguments, copies, and waiting.
 */
#include "core/clock.h"
#include "device/device.h"

#include <string.h>

/* ---- arguments ----------------------------------------------------------------------------------------- */

static cl_int set_argument(cl_kernel kernel, cl_uint index, const vlci_arg *arg) {
    switch (arg->kind) {
    case VLCI_ARG_UNSET:
        break;
    case VLCI_ARG_MEM:
        return clSetKernelArg(kernel, index, sizeof(cl_mem), arg->as.mem ? &arg->as.mem : NULL);
    case VLCI_ARG_I32:
        return clSetKernelArg(kernel, index, sizeof(cl_int), &arg->as.i32);
    case VLCI_ARG_U32:
        return clSetKernelArg(kernel, index, sizeof(cl_uint), &arg->as.u32);
    case VLCI_ARG_F32:
        return clSetKernelArg(kernel, index, sizeof(cl_float), &arg->as.f32);
    case VLCI_ARG_LOCAL:
        return clSetKernelArg(kernel, index, arg->as.local, NULL);
    case VLCI_ARG_U32X16:
        return clSetKernelArg(kernel, index, sizeof arg->as.u32x16, arg->as.u32x16);
    }
    return CL_INVALID_ARG_VALUE;
}

/* Bit by bit: NaN is itself, and 0 is not -0. */
static bool same(const vlci_arg *a, const vlci_arg *b) {
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case VLCI_ARG_UNSET:
        return false;
    case VLCI_ARG_MEM:
        return a->as.mem == b->as.mem;
    case VLCI_ARG_LOCAL:
        return a->as.local == b->as.local;
    case VLCI_ARG_U32X16:
        return memcmp(a->as.u32x16, b->as.u32x16, sizeof a->as.u32x16) == 0;
    default:
        return memcmp(&a->as, &b->as, sizeof(uint32_t)) == 0;
    }
}

static void forget(const vlci_kernel *kernel) {
    for (size_t i = 0; i < kernel->n_args; i++) kernel->set->last[i].kind = VLCI_ARG_UNSET;
}

/* Buffers, when one was released since they were set. */
static void forget_stale(const vlcache_device *device, const vlci_kernel *kernel) {
    uint64_t epoch = __atomic_load_n(&device->memory_epoch, __ATOMIC_SEQ_CST);
    if (kernel->set->epoch == epoch) return;
    kernel->set->epoch = epoch;
    for (size_t i = 0; i < kernel->n_args; i++)
        if (kernel->set->last[i].kind == VLCI_ARG_MEM && kernel->set->last[i].as.mem)
            kernel->set->last[i].kind = VLCI_ARG_UNSET;
}

static vlcache_status set_arguments(const vlcache_device *device, const vlci_kernel *kernel,
                                    const vlci_arg *args) {
    vlci_arg *last = kernel->set->last;
    forget_stale(device, kernel);
    for (size_t i = 0; i < kernel->n_args; i++) {
        if (same(&last[i], &args[i])) continue;
        cl_int code = set_argument(kernel->handle, (cl_uint)i, &args[i]);
        if (code) {
            forget(kernel);
            return vlci_fail(code == CL_OUT_OF_HOST_MEMORY ? VLCACHE_E_NO_MEMORY : VLCACHE_E_INTERNAL,
                             "kernel %s, argument %zu: %s", kernel->name, i, vlci_cl_error(code));
        }
        last[i] = args[i];
    }
    return VLCACHE_OK;
}

/* ---- launches ------------------------------------------------------------------------------------------ */

vlcache_status vlci_fail_call(const vlcache_device *device, const char *what, cl_int code) {
    return vlci_fail(vlci_cl_status(code), "%s on \"%s\": %s", what, device->caps.info.name,
                     vlci_cl_error(code));
}

/* Waits for a launch and adds its time on the device to the kernel's account. */
static void account(const vlci_kernel *kernel, cl_event event) {
    cl_ulong start = 0, end = 0;
    if (!clWaitForEvents(1, &event) &&
        !clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL) &&
        !clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL))
        kernel->usage->ms += 1e-6 * (double)(end - start);
    kernel->usage->calls++;
    clReleaseEvent(event);
}

static vlcache_status enqueue(vlcache_device *device, const vlci_kernel *kernel, const size_t *global,
                              const size_t *local, const vlci_arg *args) {
    vlcache_status status = set_arguments(device, kernel, args);
    if (status) return status;
    cl_event event = NULL;
    cl_int code = clEnqueueNDRangeKernel(device->queue, kernel->handle, 3, NULL, global, local, 0, NULL,
                                         device->profile ? &event : NULL);
    if (event) account(kernel, event);
    if (code) forget(kernel);
    return code ? vlci_fail_call(device, kernel->name, code) : VLCACHE_OK;
}

size_t vlci_group_width(const vlci_kernel *kernel, size_t want) {
    while (want > 1 && want > kernel->max_group) want /= 2;
    return want;
}

vlci_grid vlci_grid_over(const vlci_kernel *kernel, size_t nx, size_t ny, size_t nz) {
    size_t width = vlci_group_width(kernel, 64);
    return VLCI_GRID((nx + width - 1) / width, ny, nz, width, 1, 1);
}

vlci_grid vlci_grid_exact(const vlci_kernel *kernel, size_t nx, size_t ny, size_t nz) {
    size_t width = vlci_group_width(kernel, 64);
    while (nx % width) width /= 2;
    return VLCI_GRID(nx / width, ny, nz, width, 1, 1);
}

vlcache_status vlci_launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                           const vlci_arg *args, size_t n_args) {
    size_t global[3], items = 1, groups = 1;
    for (int d = 0; d < 3; d++) {
        global[d] = grid.groups[d] * grid.group[d];
        items *= grid.group[d];
        groups *= grid.groups[d];
    }
    if (!groups) return VLCACHE_OK;
    if (!items || items > kernel->max_group)
        return vlci_fail(VLCACHE_E_INTERNAL, "kernel %s: a work-group of %zu, the device takes %zu",
                         kernel->name, items, kernel->max_group);
    if (kernel->n_args != n_args)
        return vlci_fail(VLCACHE_E_INTERNAL, "kernel %s takes %zu arguments, not %zu", kernel->name,
                         kernel->n_args, n_args);
    pthread_mutex_lock(&device->lock);
    vlcache_status status = enqueue(device, kernel, global, grid.group, args);
    pthread_mutex_unlock(&device->lock);
    return status;
}

/* ---- waiting and copying ------------------------------------------------------------------------------- */

void vlci_waited(vlcache_device *device, double start) {
    pthread_mutex_lock(&device->lock);
    device->waited_ms += vlci_clock_ms() - start;
    pthread_mutex_unlock(&device->lock);
}

double vlcache_device_waited(const vlcache_device *device) {
    return device ? device->waited_ms : 0.0;
}

vlcache_status vlci_finish(vlcache_device *device) {
    double start = vlci_clock_ms();
    cl_int code = clFinish(device->queue);
    vlci_waited(device, start);
    return code ? vlci_fail_call(device, "waiting for the device", code) : VLCACHE_OK;
}

vlcache_status vlci_mark(vlcache_device *device, cl_event *mark) {
    *mark = NULL;
    cl_int code = clEnqueueMarkerWithWaitList(device->queue, 0, NULL, mark);
    if (code) *mark = NULL;
    if (!code) code = clFlush(device->queue);
    pthread_mutex_lock(&device->lock);
    device->mark = *mark;
    pthread_mutex_unlock(&device->lock);
    return code ? vlci_fail_call(device, "marking what was enqueued", code) : VLCACHE_OK;
}

/* Whether the mark was not over yet, and is now. */
static cl_int wait_mark(vlcache_device *device, cl_event mark, bool *waited) {
    cl_int state = CL_COMPLETE;
    double start = vlci_clock_ms();
    cl_int code = clGetEventInfo(mark, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    *waited = !code && state != CL_COMPLETE;
    if (!*waited) return code;
    code = clWaitForEvents(1, &mark);
    vlci_waited(device, start);
    return code;
}

vlcache_status vlci_mark_wait(vlcache_device *device, cl_event *mark, double *since) {
    bool waited;
    if (!*mark) return VLCACHE_OK;
    cl_int code = wait_mark(device, *mark, &waited);
    pthread_mutex_lock(&device->lock);
    if (waited)
        *since = vlci_clock_ms();
    else if (device->passed == *mark && device->mark_over > *since)
        *since = device->mark_over;
    if (device->mark == *mark) device->mark = NULL;
    if (device->passed == *mark) device->passed = NULL;
    pthread_mutex_unlock(&device->lock);
    clReleaseEvent(*mark);
    *mark = NULL;
    return code ? vlci_fail_call(device, "waiting for the device", code) : VLCACHE_OK;
}

/* A read waits for all that was enqueued: for a mark first, so that it is known when that was over. */
static void pass_mark(vlcache_device *device) {
    bool waited = false;
    pthread_mutex_lock(&device->lock);
    cl_event mark = device->mark;
    if (mark && clRetainEvent(mark)) mark = NULL;
    device->mark = NULL;
    pthread_mutex_unlock(&device->lock);
    if (!mark) return;
    if (!wait_mark(device, mark, &waited) && waited) {
        pthread_mutex_lock(&device->lock);
        device->passed = mark;
        device->mark_over = vlci_clock_ms();
        pthread_mutex_unlock(&device->lock);
    }
    clReleaseEvent(mark);
}

vlcache_status vlci_read(vlcache_device *device, cl_mem from, size_t offset, void *to, size_t bytes) {
    if (!bytes) return VLCACHE_OK;
    pass_mark(device);
    double start = vlci_clock_ms();
    cl_int code = clEnqueueReadBuffer(device->queue, from, CL_TRUE, offset, bytes, to, 0, NULL, NULL);
    vlci_waited(device, start);
    return code ? vlci_fail_call(device, "reading a buffer", code) : VLCACHE_OK;
}

vlcache_status vlci_write(vlcache_device *device, cl_mem to, size_t offset, const void *from, size_t bytes) {
    if (!bytes) return VLCACHE_OK;
    double start = vlci_clock_ms();
    cl_int code = clEnqueueWriteBuffer(device->queue, to, CL_TRUE, offset, bytes, from, 0, NULL, NULL);
    vlci_waited(device, start);
    return code ? vlci_fail_call(device, "writing a buffer", code) : VLCACHE_OK;
}

vlcache_status vlci_copy(vlcache_device *device, cl_mem from, size_t from_offset, cl_mem to, size_t to_offset,
                         size_t bytes) {
    if (!bytes) return VLCACHE_OK;
    cl_int code = clEnqueueCopyBuffer(device->queue, from, to, from_offset, to_offset, bytes, 0, NULL, NULL);
    return code ? vlci_fail_call(device, "copying a buffer", code) : VLCACHE_OK;
}

vlcache_status vlci_fill(vlcache_device *device, cl_mem to, size_t offset, size_t bytes, uint32_t pattern) {
    if (!bytes) return VLCACHE_OK;
    cl_int code =
        clEnqueueFillBuffer(device->queue, to, &pattern, sizeof pattern, offset, bytes, 0, NULL, NULL);
    return code ? vlci_fail_call(device, "filling a buffer", code) : VLCACHE_OK;
}

/* ---- errors -------------------------------------------------------------------------------------------- */

/* Every error of OpenCL 1.2 and the loader's own. */
/* clang-format off */
#define CL_ERRORS(X) \
    X(CL_DEVICE_NOT_FOUND) X(CL_DEVICE_NOT_AVAILABLE) X(CL_COMPILER_NOT_AVAILABLE) \
    X(CL_MEM_OBJECT_ALLOCATION_FAILURE) X(CL_OUT_OF_RESOURCES) X(CL_OUT_OF_HOST_MEMORY) \
    X(CL_PROFILING_INFO_NOT_AVAILABLE) X(CL_IMAGE_FORMAT_MISMATCH) X(CL_IMAGE_FORMAT_NOT_SUPPORTED) \
    X(CL_DEVICE_PARTITION_FAILED) X(CL_KERNEL_ARG_INFO_NOT_AVAILABLE) \
    X(CL_MEM_COPY_OVERLAP) X(CL_BUILD_PROGRAM_FAILURE) X(CL_MAP_FAILURE) \
    X(CL_MISALIGNED_SUB_BUFFER_OFFSET) X(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) \
    X(CL_COMPILE_PROGRAM_FAILURE) X(CL_LINKER_NOT_AVAILABLE) X(CL_LINK_PROGRAM_FAILURE) \
    X(CL_INVALID_VALUE) X(CL_INVALID_DEVICE_TYPE) X(CL_INVALID_PLATFORM) X(CL_INVALID_DEVICE) \
    X(CL_INVALID_CONTEXT) X(CL_INVALID_QUEUE_PROPERTIES) X(CL_INVALID_COMMAND_QUEUE) \
    X(CL_INVALID_HOST_PTR) X(CL_INVALID_MEM_OBJECT) X(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR) \
    X(CL_INVALID_IMAGE_SIZE) X(CL_INVALID_SAMPLER) X(CL_INVALID_BINARY) X(CL_INVALID_BUILD_OPTIONS) \
    X(CL_INVALID_GL_OBJECT) X(CL_INVALID_MIP_LEVEL) X(CL_INVALID_IMAGE_DESCRIPTOR) \
    X(CL_INVALID_COMPILER_OPTIONS) X(CL_INVALID_LINKER_OPTIONS) X(CL_INVALID_DEVICE_PARTITION_COUNT) \
    X(CL_INVALID_PROGRAM) \
    X(CL_INVALID_PROGRAM_EXECUTABLE) X(CL_INVALID_KERNEL_NAME) X(CL_INVALID_KERNEL_DEFINITION) \
    X(CL_INVALID_KERNEL) X(CL_INVALID_ARG_INDEX) X(CL_INVALID_ARG_VALUE) X(CL_INVALID_ARG_SIZE) \
    X(CL_INVALID_KERNEL_ARGS) X(CL_INVALID_WORK_DIMENSION) X(CL_INVALID_WORK_GROUP_SIZE) \
    X(CL_INVALID_WORK_ITEM_SIZE) X(CL_INVALID_GLOBAL_OFFSET) X(CL_INVALID_EVENT_WAIT_LIST) \
    X(CL_INVALID_EVENT) X(CL_INVALID_OPERATION) X(CL_INVALID_BUFFER_SIZE) X(CL_INVALID_GLOBAL_WORK_SIZE) \
    X(CL_INVALID_PROPERTY)
/* clang-format on */

const char *vlci_cl_error(cl_int code) {
    switch (code) {
#define CL_ERROR_NAME(name)                                                                                  \
    case name:                                                                                               \
        return #name;
        CL_ERRORS(CL_ERROR_NAME)
#undef CL_ERROR_NAME
    case -1001:
        return "CL_PLATFORM_NOT_FOUND_KHR";
    case -9999:
        return "illegal memory access (driver code -9999)";
    }
    return "unknown OpenCL error";
}
