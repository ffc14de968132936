/*
 * poison.c - fills each new OpenCL buffer with 0xff bytes, for use with LD_PRELOAD: what a kernel reads and
 * nobody wrote is then a NaN, or an index far outside, on any device.
 *
 * Oclgrind 21.10 needs more than that: it follows initialised bytes only in buffers that the host has written
 * from their first to their last byte in one command, and a shorter write or a fill makes it forget the
 * others. So here each write, fill and copy becomes a write of the whole buffer. That is slow, and meant for
 * small tests.
 */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES = 64 };
static struct {
    cl_context context;
    cl_command_queue queue;
} seen[QUEUES];
static int queues;

/* The function of that name behind this library. */
#define NEXT(type, name) ((type)(next(#name)))
static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

typedef cl_command_queue (*create_queue)(cl_context, cl_device_id, cl_command_queue_properties, cl_int *);
typedef cl_int (*release_queue)(cl_command_queue);
typedef cl_mem (*create_buffer)(cl_context, cl_mem_flags, size_t, void *, cl_int *);
typedef cl_int (*write_buffer)(cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint,
                               const cl_event *, cl_event *);

/* Commands go on in the queue that the context got first: buffers made before it are not poisoned. */
cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device,
                                      cl_command_queue_properties properties, cl_int *code) {
    cl_command_queue queue = NEXT(create_queue, clCreateCommandQueue)(context, device, properties, code);
    if (queue && queues < QUEUES) {
        seen[queues].context = context;
        seen[queues++].queue = queue;
    }
    return queue;
}

/* A context may have others for a while. */
cl_int clReleaseCommandQueue(cl_command_queue queue) {
    int kept = 0;
    for (int i = 0; i < queues; i++)
        if (seen[i].queue != queue) seen[kept++] = seen[i];
    queues = kept;
    return NEXT(release_queue, clReleaseCommandQueue)(queue);
}

static cl_command_queue queue_of(cl_context context) {
    for (int i = queues; i-- > 0;) /* the newest: an earlier context of this address is gone */
        if (seen[i].context == context) return seen[i].queue;
    return NULL;
}

static size_t size_of(cl_mem memory) {
    size_t bytes = 0;
    if (clGetMemObjectInfo(memory, CL_MEM_SIZE, sizeof bytes, &bytes, NULL)) abort();
    return bytes;
}

static cl_int write_whole(cl_command_queue queue, cl_mem memory, const void *bytes, size_t n) {
    return NEXT(write_buffer, clEnqueueWriteBuffer)(queue, memory, CL_TRUE, 0, n, bytes, 0, NULL, NULL);
}

/* All bytes of a buffer, the caller's to free. */
static unsigned char *read_whole(cl_command_queue queue, cl_mem memory, size_t n) {
    unsigned char *bytes = malloc(n);
    if (!bytes || clEnqueueReadBuffer(queue, memory, CL_TRUE, 0, n, bytes, 0, NULL, NULL)) abort();
    return bytes;
}

/* Of memory of the host's, which may be read-only, a copy is made: what is written to it then counts. */
cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *code) {
    if (flags & CL_MEM_USE_HOST_PTR)
        flags = (flags & ~(cl_mem_flags)CL_MEM_USE_HOST_PTR) | CL_MEM_COPY_HOST_PTR;
    cl_mem memory = NEXT(create_buffer, clCreateBuffer)(context, flags, size, host, code);
    cl_command_queue queue = queue_of(context);
    if (!memory || !queue) return memory;
    unsigned char *bytes = host ? read_whole(queue, memory, size) : malloc(size);
    if (!bytes) abort();
    if (!host) memset(bytes, 0xff, size);
    if (write_whole(queue, memory, bytes, size)) abort();
    free(bytes);
    return memory;
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset,
                            size_t bytes, const void *from, cl_uint waits, const cl_event *wait,
                            cl_event *event) {
    size_t n = size_of(memory);
    if (!offset && bytes == n)
        return NEXT(write_buffer, clEnqueueWriteBuffer)(queue, memory, blocking, 0, n, from, waits, wait,
                                                        event);
    if (waits || event || bytes > n || offset > n - bytes) abort();
    unsigned char *all = read_whole(queue, memory, n);
    memcpy(all + offset, from, bytes);
    cl_int code = write_whole(queue, memory, all, n);
    free(all);
    return code;
}

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem memory, const void *pattern, size_t pattern_bytes,
                           size_t offset, size_t bytes, cl_uint waits, const cl_event *wait,
                           cl_event *event) {
    (void)wait;
    size_t n = size_of(memory);
    if (waits || event || bytes > n || offset > n - bytes || bytes % pattern_bytes) abort();
    unsigned char *all = read_whole(queue, memory, n);
    for (size_t i = 0; i < bytes; i += pattern_bytes) memcpy(all + offset + i, pattern, pattern_bytes);
    cl_int code = write_whole(queue, memory, all, n);
    free(all);
    return code;
}

cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset,
                           size_t to_offset, size_t bytes, cl_uint waits, const cl_event *wait,
                           cl_event *event) {
    size_t n = size_of(from);
    if (bytes > n || from_offset > n - bytes) abort();
    unsigned char *all = read_whole(queue, from, n);
    cl_int code =
        clEnqueueWriteBuffer(queue, to, CL_TRUE, to_offset, bytes, all + from_offset, waits, wait, event);
    free(all);
    return code;
}
