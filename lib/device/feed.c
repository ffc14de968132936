/*
 * feed.c - a write beside the device's queue.
 *
 *     queue of its own    | write l + 1 .......... |           | write l + 2 ...
 *     device's queue      | use l | compute l ............ | use l + 1 | compute l + 1 ...
 *                                  ^ used: the buffer is free        ^ await: it is written
 *
 * Where host and device have one memory, begin maps the buffer and send unmaps it: nothing is copied.
 */
#include "device/feed.h"

#include "core/clock.h"

static bool is_shared(const vlci_feed *u) {
    return u->device->caps.info.unified_memory;
}

static vlcache_status fail(const vlci_feed *u, cl_int code) {
    return vlci_fail_call(u->device, "writing a buffer beside the queue", code);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

/* Memory that the device can read while the host goes on: a driver pins what it allocates for the host. */
static cl_int pin(vlci_feed *u) {
    cl_int code = CL_SUCCESS;
    cl_mem_flags flags = CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR;
    u->pinned = clCreateBuffer(u->device->context, flags, u->bytes, NULL, &code);
    if (code) {
        u->pinned = NULL;
        return code;
    }
    u->at = clEnqueueMapBuffer(u->queue, u->pinned, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, u->bytes, 0, NULL,
                               NULL, &code);
    if (code) u->at = NULL;
    return code;
}

vlcache_status vlci_feed_open(vlcache_device *device, size_t bytes, const char *what, vlci_feed *out) {
    *out = (vlci_feed){.device = device, .bytes = bytes};
    vlcache_status status = vlci_memory_create(device, bytes, what, &out->to);
    cl_int code = CL_SUCCESS;
    if (!status)
        out->queue = clCreateCommandQueue(device->context, device->id, CL_QUEUE_PROFILING_ENABLE, &code);
    if (code) out->queue = NULL;
    if (!status && !code && !is_shared(out)) code = pin(out);
    if (code) status = vlci_fail_call(device, "a queue for writes, with pinned memory of the host", code);
    if (status) vlci_feed_release(out);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Waits for an event, and gives it up. */
static cl_int settle(vlci_feed *u, cl_event *event) {
    if (!*event) return CL_SUCCESS;
    double start = vlci_clock_ms();
    cl_int code = clWaitForEvents(1, event);
    vlci_waited(u->device, start);
    clReleaseEvent(*event);
    *event = NULL;
    return code;
}

/* What the device took for a write that is done. */
static void count(vlci_feed *u) {
    cl_ulong start = 0, end = 0;
    if (!u->sent || is_shared(u)) return;
    if (clGetEventProfilingInfo(u->sent, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL)) return;
    if (clGetEventProfilingInfo(u->sent, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL)) return;
    if (end > start) u->sent_ms += (double)(end - start) * 1e-6;
}

/* Waits for the last write. */
static cl_int settle_sent(vlci_feed *u) {
    cl_int code = u->sent ? clWaitForEvents(1, &u->sent) : CL_SUCCESS;
    if (!code) count(u);
    if (u->sent) clReleaseEvent(u->sent);
    u->sent = NULL;
    return code;
}

vlcache_status vlci_feed_begin(vlci_feed *u, size_t bytes, void **at) {
    cl_int code = settle(u, &u->used);
    *at = NULL;
    if (!code) code = settle_sent(u);
    u->sending = bytes;
    if (!code && is_shared(u)) {
        u->at = clEnqueueMapBuffer(u->queue, u->to, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, bytes, 0,
                                   NULL, NULL, &code);
        if (code) u->at = NULL;
    }
    *at = code ? NULL : u->at;
    return code ? fail(u, code) : VLCACHE_OK;
}

vlcache_status vlci_feed_send(vlci_feed *u) {
    cl_int code;
    if (is_shared(u)) {
        code = clEnqueueUnmapMemObject(u->queue, u->to, u->at, 0, NULL, &u->sent);
        u->at = NULL;
    } else
        code = clEnqueueWriteBuffer(u->queue, u->to, CL_FALSE, 0, u->sending, u->at, 0, NULL, &u->sent);
    if (code) u->sent = NULL;
    if (!code) code = clFlush(u->queue);
    if (!code) u->bytes_sent += u->sending;
    return code ? fail(u, code) : VLCACHE_OK;
}

/* ---- beside the device's queue ------------------------------------------------------------------------- */

vlcache_status vlci_feed_await(vlci_feed *u) {
    cl_int code = u->sent ? clEnqueueBarrierWithWaitList(u->device->queue, 1, &u->sent, NULL) : CL_SUCCESS;
    return code ? fail(u, code) : VLCACHE_OK;
}

vlcache_status vlci_feed_used(vlci_feed *u) {
    if (u->used) clReleaseEvent(u->used);
    u->used = NULL;
    cl_int code = clEnqueueMarkerWithWaitList(u->device->queue, 0, NULL, &u->used);
    if (code) u->used = NULL;
    if (!code) code = clFlush(u->device->queue);
    return code ? fail(u, code) : VLCACHE_OK;
}

vlcache_status vlci_feed_settle(vlci_feed *u) {
    cl_int code = settle_sent(u);
    return code ? fail(u, code) : VLCACHE_OK;
}

void vlci_feed_release(vlci_feed *u) {
    if (!u->device) return;
    settle(u, &u->used);
    settle_sent(u);
    if (u->at) clEnqueueUnmapMemObject(u->queue, u->pinned ? u->pinned : u->to, u->at, 0, NULL, NULL);
    if (u->queue) clFinish(u->queue);
    if (u->pinned) clReleaseMemObject(u->pinned);
    vlci_memory_release(u->device, &u->to);
    if (u->queue) clReleaseCommandQueue(u->queue);
    *u = (vlci_feed){0};
}
