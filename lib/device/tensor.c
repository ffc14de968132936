/*
 * tensor.c - device memory, counted: "memory before and after" is a number, not a belief.
 */
#include "cl/shared.h"
#include "device/device.h"

_Static_assert(VLCI_DTYPE_F32 == VLCACHE_DTYPE_F32 && VLCI_DTYPE_F16 == VLCACHE_DTYPE_F16 &&
                   VLCI_DTYPE_BF16 == VLCACHE_DTYPE_BF16,
               "cl/shared.h numbers dtypes as vlcache_dtype does");

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
    uint64_t now = __atomic_add_fetch(&device->memory_now, bytes, __ATOMIC_RELAXED);
    uint64_t peak = __atomic_load_n(&device->memory_peak, __ATOMIC_RELAXED);
    while (now > peak && !__atomic_compare_exchange_n(&device->memory_peak, &peak, now, true,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    return VLCACHE_OK;
}

void vlci_memory_release(vlcache_device *device, cl_mem *memory) {
    if (!memory || !*memory) return;
    size_t bytes = 0;
    clGetMemObjectInfo(*memory, CL_MEM_SIZE, sizeof bytes, &bytes, NULL);
    __atomic_add_fetch(&device->memory_epoch, 1, __ATOMIC_SEQ_CST); /* before the handle can be another's */
    clReleaseMemObject(*memory);
    __atomic_sub_fetch(&device->memory_now, bytes, __ATOMIC_RELAXED);
    *memory = NULL;
}

uint64_t vlci_memory_now(const vlcache_device *device) {
    return __atomic_load_n(&device->memory_now, __ATOMIC_RELAXED);
}

uint64_t vlci_memory_peak(const vlcache_device *device) {
    return __atomic_load_n(&device->memory_peak, __ATOMIC_RELAXED);
}

size_t vlci_dtype_bytes(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? 4 : 2;
}
