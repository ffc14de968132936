/*
 * tensor.c - device memory, counted: "memory before and after" is a number, not a belief.
 */
#include "cl/shared.h"
#include "core/alloc.h"
#include "device/device.h"

_Static_assert(VLCI_DTYPE_F32 == VLCACHE_DTYPE_F32 && VLCI_DTYPE_F16 == VLCACHE_DTYPE_F16 &&
                   VLCI_DTYPE_BF16 == VLCACHE_DTYPE_BF16,
               "cl/shared.h numbers dtypes as vlcache_dtype does");

/* A buffer and its size, so that no driver has to be asked when it goes. */
struct vlci_buffer {
    cl_mem memory;
    size_t bytes;
    bool mapped;
};

/* Counts a buffer in. */
static vlcache_status note(vlcache_device *device, struct vlci_buffer buffer) {
    if (device->n_buffers == device->buffers_room) {
        size_t room = device->buffers_room ? 2 * device->buffers_room : 256;
        struct vlci_buffer *more = vlci_realloc(device->buffers, room, sizeof *more);
        if (!more) return vlci_fail_memory("list of buffers");
        device->buffers = more;
        device->buffers_room = room;
    }
    device->buffers[device->n_buffers++] = buffer;
    *(buffer.mapped ? &device->memory_mapped : &device->memory_now) += buffer.bytes;
    if (device->memory_now > device->memory_peak) device->memory_peak = device->memory_now;
    return VLCACHE_OK;
}

/* Counts it out: the latest are looked through first. */
static void strike(vlcache_device *device, cl_mem memory) {
    size_t at = device->n_buffers;
    while (at > 0 && device->buffers[at - 1].memory != memory) at--;
    if (!at) return;
    const struct vlci_buffer *gone = &device->buffers[at - 1];
    *(gone->mapped ? &device->memory_mapped : &device->memory_now) -= gone->bytes;
    device->buffers[at - 1] = device->buffers[--device->n_buffers];
}

/* Counts new memory in, or lets go of it. */
static vlcache_status keep(vlcache_device *device, struct vlci_buffer buffer, cl_mem *out) {
    pthread_mutex_lock(&device->lock);
    vlcache_status status = note(device, buffer);
    pthread_mutex_unlock(&device->lock);
    *out = status ? NULL : buffer.memory;
    if (status) clReleaseMemObject(buffer.memory);
    return status;
}

vlcache_status vlci_memory_create(vlcache_device *device, size_t bytes, const char *what, cl_mem *out) {
    *out = NULL;
    if (!bytes) bytes = 1;
    const vlcache_device_info *info = &device->caps.info;
    if (bytes > info->max_allocation)
        return vlci_fail(VLCACHE_E_DEVICE_MEMORY, "%s: %zu bytes, but \"%s\" allocates at most %llu at once",
                         what, bytes, info->name, (unsigned long long)info->max_allocation);
    cl_int code = CL_SUCCESS;
    *out = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code)
        return vlci_fail(code == CL_OUT_OF_HOST_MEMORY ? VLCACHE_E_NO_MEMORY : VLCACHE_E_DEVICE_MEMORY,
                         "%s: %zu bytes more than the %llu in use of %llu on \"%s\": %s", what, bytes,
                         (unsigned long long)vlci_memory_now(device), (unsigned long long)info->global_memory,
                         info->name, vlci_cl_error(code));
    return keep(device, (struct vlci_buffer){*out, bytes, false}, out);
}

/* Its first bytes are written: see vlci_caps.parts_apart. */
vlcache_status vlci_memory_divided(vlcache_device *device, size_t bytes, const char *what, cl_mem *out) {
    const size_t word = sizeof(cl_uint);
    vlcache_status status = vlci_memory_create(device, bytes > word ? bytes : word, what, out);
    if (!status && device->caps.parts_apart) status = vlci_fill(device, *out, 0, word, 0);
    return status;
}

vlcache_status vlci_memory_part(vlcache_device *device, cl_mem whole, size_t at, size_t bytes,
                                const char *what, cl_mem *out) {
    const cl_buffer_region part = {at, bytes};
    cl_int code = CL_SUCCESS;
    *out = clCreateSubBuffer(whole, 0, CL_BUFFER_CREATE_TYPE_REGION, &part, &code);
    if (!code) return VLCACHE_OK;
    *out = NULL;
    return vlci_fail(VLCACHE_E_DEVICE_MEMORY, "%s: %zu bytes of a buffer on \"%s\": %s", what, bytes,
                     device->caps.info.name, vlci_cl_error(code));
}

/* The driver has done with a file's part: the last of them unmaps it. */
static void CL_CALLBACK let_go(cl_mem memory, void *mapping) {
    (void)memory;
    vlci_mapping_release(&(vlci_mapping *){mapping});
}

vlcache_status vlci_memory_map(vlcache_device *device, vlci_mapping *mapping, size_t at, size_t bytes,
                               const char *what, cl_mem *out) {
    cl_int code = CL_SUCCESS;
    void *host = (void *)(uintptr_t)vlci_mapping_at(mapping, at); /* which nobody writes to */
    *out = NULL;
    cl_mem memory =
        clCreateBuffer(device->context, CL_MEM_READ_ONLY | CL_MEM_USE_HOST_PTR, bytes, host, &code);
    if (!code) code = clSetMemObjectDestructorCallback(memory, let_go, mapping);
    if (code) {
        if (memory) clReleaseMemObject(memory);
        return vlci_fail(VLCACHE_E_DEVICE_MEMORY, "%s: %zu mapped bytes on \"%s\": %s", what, bytes,
                         device->caps.info.name, vlci_cl_error(code));
    }
    vlci_mapping_retain(mapping);
    return keep(device, (struct vlci_buffer){memory, bytes, true}, out);
}

void vlci_memory_release(vlcache_device *device, cl_mem *memory) {
    if (!memory || !*memory) return;
    pthread_mutex_lock(&device->lock);
    strike(device, *memory);
    pthread_mutex_unlock(&device->lock);
    __atomic_add_fetch(&device->memory_epoch, 1, __ATOMIC_SEQ_CST); /* before the handle can be another's */
    clReleaseMemObject(*memory);
    *memory = NULL;
}

uint64_t vlci_memory_now(const vlcache_device *device) {
    return __atomic_load_n(&device->memory_now, __ATOMIC_RELAXED);
}

uint64_t vlci_memory_mapped(const vlcache_device *device) {
    return __atomic_load_n(&device->memory_mapped, __ATOMIC_RELAXED);
}

uint64_t vlci_memory_peak(const vlcache_device *device) {
    return __atomic_load_n(&device->memory_peak, __ATOMIC_RELAXED);
}

void vlci_memory_restart(vlcache_device *device) {
    pthread_mutex_lock(&device->lock);
    device->memory_peak = device->memory_now;
    pthread_mutex_unlock(&device->lock);
}

size_t vlci_dtype_bytes(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? 4 : 2;
}
