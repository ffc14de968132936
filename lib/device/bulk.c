/*
 * bulk.c - large writes, made in place: the host puts the bytes where the device takes them from.
 *
 *     one memory:   begin = map the part of the buffer, end = unmap it; nothing is copied
 *     two memories: begin = one of two pinned stretches, once the device has read it; end = send it, without
 *                   waiting, so that the next is filled meanwhile
 */
#include "device/bulk.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"

/* ---- one memory ---------------------------------------------------------------------------------------- */

/* Of the pages that have some of it. */
static void advise(void *at, size_t bytes, int advice) {
    size_t before = (uintptr_t)at % (size_t)sysconf(_SC_PAGESIZE);
    madvise((char *)at - before, before + bytes, advice);
}

/* Pages are to be large, where the system has such: a processor that reads weights then looks up fewer. */
static vlcache_status map(vlci_bulk *bulk, void **at) {
    vlcache_device *device = bulk->device;
    cl_int code = CL_SUCCESS;
    double start = vlci_clock_ms();
    bulk->mapped = clEnqueueMapBuffer(device->queue, bulk->to, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION,
                                      bulk->offset, bulk->bytes, 0, NULL, NULL, &code);
    vlci_waited(device, start);
    if (code) {
        bulk->mapped = NULL;
        return vlci_fail_call(device, "mapping a buffer", code);
    }
#ifdef MADV_HUGEPAGE
    advise(bulk->mapped, bulk->bytes, MADV_HUGEPAGE);
#endif
    *at = bulk->mapped;
    return VLCACHE_OK;
}

static vlcache_status unmap(vlci_bulk *bulk) {
    cl_int code = clEnqueueUnmapMemObject(bulk->device->queue, bulk->to, bulk->mapped, 0, NULL, NULL);
    bulk->mapped = NULL;
    return code ? vlci_fail_call(bulk->device, "unmapping a buffer", code) : VLCACHE_OK;
}

void vlci_bulk_populate(const vlci_bulk *bulk, void *at, size_t bytes) {
#ifdef MADV_POPULATE_WRITE
    if (bulk->mapped && bytes) advise(at, bytes, MADV_POPULATE_WRITE);
#else
    (void)bulk, (void)at, (void)bytes;
#endif
}

/* ---- two memories -------------------------------------------------------------------------------------- */

/* Waits until the device has read a stretch. */
static vlcache_status settle(vlci_bulk *bulk, vlci_stretch *stretch) {
    if (!stretch->sent) return VLCACHE_OK;
    double start = vlci_clock_ms();
    cl_int code = clWaitForEvents(1, &stretch->sent);
    vlci_waited(bulk->device, start);
    clReleaseEvent(stretch->sent);
    stretch->sent = NULL;
    return code ? vlci_fail_call(bulk->device, "writing a buffer", code) : VLCACHE_OK;
}

static void give_back(vlci_bulk *bulk, vlci_stretch *stretch) {
    settle(bulk, stretch);
    if (stretch->at)
        clEnqueueUnmapMemObject(bulk->device->queue, stretch->memory, stretch->at, 0, NULL, NULL);
    if (stretch->memory) clReleaseMemObject(stretch->memory);
    *stretch = (vlci_stretch){0};
}

/* Memory that the device can read while the host goes on: a driver pins what it allocates for the host. */
static vlcache_status pin(vlci_bulk *bulk, vlci_stretch *stretch) {
    vlcache_device *device = bulk->device;
    cl_int code = CL_SUCCESS;
    give_back(bulk, stretch);
    stretch->memory =
        clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bulk->bytes, NULL, &code);
    if (!code)
        stretch->at = clEnqueueMapBuffer(device->queue, stretch->memory, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE,
                                         0, bulk->bytes, 0, NULL, NULL, &code);
    if (!code) {
        stretch->bytes = bulk->bytes;
        return VLCACHE_OK;
    }
    stretch->at = NULL;
    give_back(bulk, stretch);
    return vlci_fail_call(device, "pinning memory of the host", code);
}

static vlcache_status take(vlci_bulk *bulk, void **at) {
    bulk->turn ^= 1;
    vlci_stretch *stretch = &bulk->stretches[bulk->turn];
    vlcache_status status = settle(bulk, stretch);
    if (!status && stretch->bytes < bulk->bytes) status = pin(bulk, stretch);
    *at = stretch->at;
    return status;
}

static vlcache_status send(vlci_bulk *bulk) {
    vlci_stretch *stretch = &bulk->stretches[bulk->turn];
    cl_command_queue queue = bulk->device->queue;
    cl_int code = clEnqueueWriteBuffer(queue, bulk->to, CL_FALSE, bulk->offset, bulk->bytes, stretch->at, 0,
                                       NULL, &stretch->sent);
    if (code) stretch->sent = NULL;
    if (!code) code = clFlush(queue);
    return code ? vlci_fail_call(bulk->device, "writing a buffer", code) : VLCACHE_OK;
}

/* ---- either -------------------------------------------------------------------------------------------- */

vlcache_status vlci_bulk_begin(vlci_bulk *bulk, cl_mem to, size_t offset, size_t bytes, void **at) {
    *at = NULL;
    bulk->to = to;
    bulk->offset = offset;
    bulk->bytes = bytes;
    return bulk->device->caps.info.unified_memory ? map(bulk, at) : take(bulk, at);
}

vlcache_status vlci_bulk_end(vlci_bulk *bulk) {
    return bulk->mapped ? unmap(bulk) : send(bulk);
}

void vlci_bulk_abandon(vlci_bulk *bulk) {
    if (bulk->mapped) clEnqueueUnmapMemObject(bulk->device->queue, bulk->to, bulk->mapped, 0, NULL, NULL);
    bulk->mapped = NULL;
}

vlcache_status vlci_bulk_settle(vlci_bulk *bulk) {
    vlcache_status status = settle(bulk, &bulk->stretches[0]);
    return status ? status : settle(bulk, &bulk->stretches[1]);
}

void vlci_bulk_release(vlci_bulk *bulk) {
    if (!bulk->device) return;
    for (int i = 0; i < 2; i++) give_back(bulk, &bulk->stretches[i]);
    *bulk = (vlci_bulk){0};
}
