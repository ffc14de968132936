/*
 * fetch.c - a small read that nobody waits for until it is wanted.
 *
 *     enqueued: A, read of what A leaves, B     the host has it while B runs
 *
 * Into memory that the driver has pinned: a read into any other may wait for the device at once.
 */
#include "device/fetch.h"

#include <string.h>

static void give_back(vlci_fetch *f) {
    if (f->at) clEnqueueUnmapMemObject(f->device->queue, f->pinned, f->at, 0, NULL, NULL);
    if (f->pinned) clReleaseMemObject(f->pinned);
    f->pinned = NULL;
    f->at = NULL;
    f->room = 0;
}

static vlcache_status make_room(vlci_fetch *f, size_t bytes) {
    cl_int code = CL_SUCCESS;
    if (f->room >= bytes) return VLCACHE_OK;
    give_back(f);
    f->pinned =
        clCreateBuffer(f->device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &code);
    if (!code)
        f->at = clEnqueueMapBuffer(f->device->queue, f->pinned, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, bytes,
                                   0, NULL, NULL, &code);
    if (!code) {
        f->room = bytes;
        return VLCACHE_OK;
    }
    f->at = NULL;
    give_back(f);
    return vlci_fail_call(f->device, "pinning memory of the host", code);
}

static vlcache_status wait(vlci_fetch *f) {
    double since = 0.0;
    return vlci_mark_wait(f->device, &f->done, &since);
}

vlcache_status vlci_fetch_begin(vlci_fetch *f, cl_mem from, size_t offset, size_t bytes) {
    if (!bytes || (f->done && f->from != from)) return VLCACHE_OK;
    vlcache_status status = f->done ? wait(f) : VLCACHE_OK; /* for what nobody has read */
    if (!status) status = make_room(f, bytes);
    if (status) return status;
    cl_int code =
        clEnqueueReadBuffer(f->device->queue, from, CL_FALSE, offset, bytes, f->at, 0, NULL, &f->done);
    if (code) f->done = NULL;
    if (!code) code = clFlush(f->device->queue);
    f->from = from;
    f->offset = offset;
    f->bytes = bytes;
    return code ? vlci_fail_call(f->device, "reading a buffer", code) : VLCACHE_OK;
}

vlcache_status vlci_fetch_read(vlci_fetch *f, cl_mem from, size_t offset, void *to, size_t bytes) {
    if (!f->done || f->from != from || offset != f->offset || bytes != f->bytes)
        return vlci_read(f->device, from, offset, to, bytes);
    vlcache_status status = wait(f);
    if (!status) memcpy(to, f->at, bytes);
    return status;
}

void vlci_fetch_forget(vlci_fetch *f, cl_mem from) {
    if (f->done && f->from == from) wait(f);
}

void vlci_fetch_release(vlci_fetch *f) {
    if (!f->device) return;
    if (f->done) wait(f);
    give_back(f);
    *f = (vlci_fetch){0};
}
