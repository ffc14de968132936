/*
 * staging.c - small writes that do not wait for the device: what is written is copied into a ring first,
 * which nothing touches until the queue has read it.
 */
#include <string.h>

#include "core/alloc.h"
#include "device/device.h"

enum { RING = 1 << 20 };

/* Room in the ring for `bytes`; what was staged before is done when the device has been waited for. */
static vlcache_status make_room(vlcache_device *device, size_t bytes) {
    if (!device->staging) device->staging = vlci_alloc(RING, 1);
    if (!device->staging) return vlci_fail_memory("staging");
    if (device->staged + bytes <= RING) return VLCACHE_OK;
    cl_int code = clFinish(device->queue);
    if (code) return vlci_fail_call(device, "waiting for the device", code);
    device->staged = 0;
    return VLCACHE_OK;
}

static vlcache_status enqueue(vlcache_device *device, cl_mem to, size_t offset, const void *from,
                              size_t bytes) {
    vlcache_status status = make_room(device, bytes);
    if (status) return status;
    unsigned char *at = device->staging + device->staged;
    memcpy(at, from, bytes);
    device->staged += bytes;
    cl_int code = clEnqueueWriteBuffer(device->queue, to, CL_FALSE, offset, bytes, at, 0, NULL, NULL);
    return code ? vlci_fail_call(device, "writing a buffer", code) : VLCACHE_OK;
}

vlcache_status vlci_write_later(vlcache_device *device, cl_mem to, size_t offset, const void *from,
                                size_t bytes) {
    if (!bytes) return VLCACHE_OK;
    if (bytes > RING / 4) return vlci_write(device, to, offset, from, bytes);
    pthread_mutex_lock(&device->lock);
    vlcache_status status = enqueue(device, to, offset, from, bytes);
    pthread_mutex_unlock(&device->lock);
    return status;
}
