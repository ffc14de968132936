/*
 * count.c - counts calls that must not happen in a hot path, for use with LD_PRELOAD: OpenCL's, getenv, and
 * allocations; and lets one of OpenCL's fail, as if a driver had.
 *
 * Only calls of the thread that asked are counted, and none that happen inside of a call of OpenCL: what a
 * driver allocates is its own affair. A suite looks the functions up (test/support/calls.h), so that it
 * runs without.
 */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Calls of OpenCL, by what they return. */
/* clang-format off */
#define CODES(X) \
    X(clBuildProgram, (cl_program a, cl_uint b, const cl_device_id *c, const char *d, \
                       void(CL_CALLBACK *e)(cl_program, void *), void *f), (a, b, c, d, e, f)) \
    X(clGetKernelInfo, (cl_kernel a, cl_kernel_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetKernelWorkGroupInfo, (cl_kernel a, cl_device_id b, cl_kernel_work_group_info c, size_t d, void *e, size_t *f), \
      (a, b, c, d, e, f)) \
    X(clGetMemObjectInfo, (cl_mem a, cl_mem_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetDeviceInfo, (cl_device_id a, cl_device_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clSetKernelArg, (cl_kernel a, cl_uint b, size_t c, const void *d), (a, b, c, d)) \
    X(clEnqueueNDRangeKernel, (cl_command_queue a, cl_kernel b, cl_uint c, const size_t *d, const size_t *e, \
                               const size_t *f, cl_uint g, const cl_event *h, cl_event *i), \
      (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueReadBuffer, (cl_command_queue a, cl_mem b, cl_bool c, size_t d, size_t e, void *f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueWriteBuffer, (cl_command_queue a, cl_mem b, cl_bool c, size_t d, size_t e, const void *f, cl_uint g, \
                             const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueCopyBuffer, (cl_command_queue a, cl_mem b, cl_mem c, size_t d, size_t e, size_t f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueFillBuffer, (cl_command_queue a, cl_mem b, const void *c, size_t d, size_t e, size_t f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clFlush, (cl_command_queue a), (a)) \
    X(clFinish, (cl_command_queue a), (a)) \
    X(clWaitForEvents, (cl_uint a, const cl_event *b), (a, b))
/* What gives back never fails. */
#define RELEASES(X) \
    X(clReleaseMemObject, (cl_mem a), (a)) \
    X(clReleaseKernel, (cl_kernel a), (a)) \
    X(clReleaseProgram, (cl_program a), (a)) \
    X(clReleaseEvent, (cl_event a), (a))
#define HANDLES(X) \
    X(cl_mem, clCreateBuffer, (cl_context a, cl_mem_flags b, size_t c, void *d, cl_int *e), (a, b, c, d, e), e) \
    X(cl_kernel, clCreateKernel, (cl_program a, const char *b, cl_int *c), (a, b, c), c) \
    X(cl_program, clCreateProgramWithSource, (cl_context a, cl_uint b, const char **c, const size_t *d, cl_int *e), \
      (a, b, c, d, e), e) \
    X(cl_program, clCreateProgramWithBinary, (cl_context a, cl_uint b, const cl_device_id *c, const size_t *d, \
                                              const unsigned char **e, cl_int *f, cl_int *g), \
      (a, b, c, d, e, f, g), g)
/* clang-format on */

#define NUMBER_CODE(name, ...)         AT_##name,
#define NUMBER_HANDLE(type, name, ...) AT_##name,
enum {
    CODES(NUMBER_CODE) RELEASES(NUMBER_CODE) HANDLES(NUMBER_HANDLE) AT_getenv,
    AT_malloc,
    AT_calloc,
    AT_realloc,
    COUNTERS
};

#define NAME_CODE(name, ...)         #name,
#define NAME_HANDLE(type, name, ...) #name,
static const char *const names[] = {CODES(NAME_CODE) RELEASES(NAME_CODE) HANDLES(NAME_HANDLE) "getenv",
                                    "malloc", "calloc", "realloc"};

/* Storage that needs no allocation of its own: malloc is counted. */
#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD bool counting;
OF_THREAD int inside; /* calls of OpenCL under way */
OF_THREAD long counts[COUNTERS];
OF_THREAD long fail_at, calls; /* the call of OpenCL that fails, 0: none does; how many there were */

static void count(int at) {
    if (counting && !inside) counts[at]++;
}

/* Whether this call of OpenCL, which may, fails. */
static bool fails(void) {
    return counting && !inside && ++calls == fail_at;
}

/* ---- what a suite calls -------------------------------------------------------------------------------- */

__attribute__((visibility("default"))) void vlci_count_start(void);
__attribute__((visibility("default"))) void vlci_count_stop(void);
__attribute__((visibility("default"))) long vlci_count_get(const char *name);

__attribute__((visibility("default"))) void vlci_count_fail(long at);
__attribute__((visibility("default"))) long vlci_count_calls(void);

/* Call `at` of OpenCL after the next start fails, counted from 1; 0: none does. */
void vlci_count_fail(long at) {
    fail_at = at;
}

/* Calls of OpenCL that could have failed since the last start. */
long vlci_count_calls(void) {
    return calls;
}

/* From here on, from zero, for this thread. */
void vlci_count_start(void) {
    memset(counts, 0, sizeof counts);
    calls = 0;
    counting = true;
}

void vlci_count_stop(void) {
    counting = false;
}

/* Calls of that name between start and stop, -1 for a name that is not counted. */
long vlci_count_get(const char *name) {
    for (int i = 0; i < COUNTERS; i++)
        if (strcmp(names[i], name) == 0) return counts[i];
    return -1;
}

/* ---- what is counted ----------------------------------------------------------------------------------- */

static void *next(const char *name) {
    inside++; /* what the loader allocates */
    void *found = dlsym(RTLD_NEXT, name);
    inside--;
    if (!found) abort();
    return found;
}

#define DEFINE(type, name, takes, given, on_failure)                                                         \
    type name takes {                                                                                        \
        static type(*behind) takes;                                                                          \
        if (!behind) behind = (type(*) takes)next(#name);                                                    \
        count(AT_##name);                                                                                    \
        on_failure;                                                                                          \
        inside++;                                                                                            \
        type result = behind given;                                                                          \
        inside--;                                                                                            \
        return result;                                                                                       \
    }
#define DEFINE_CODE(name, takes, given)                                                                      \
    DEFINE(cl_int, name, takes, given, if (fails()) return CL_OUT_OF_RESOURCES)
#define DEFINE_RELEASE(name, takes, given) DEFINE(cl_int, name, takes, given, (void)0)
#define DEFINE_HANDLE(type, name, takes, given, error)                                                       \
    DEFINE(                                                                                                  \
        type, name, takes, given, if (fails()) {                                                             \
            if (error) *error = CL_OUT_OF_RESOURCES;                                                         \
            return NULL;                                                                                     \
        })
CODES(DEFINE_CODE)
RELEASES(DEFINE_RELEASE)
HANDLES(DEFINE_HANDLE)

char *getenv(const char *name) {
    static char *(*behind)(const char *);
    if (!behind) behind = (char *(*)(const char *))next("getenv");
    count(AT_getenv);
    return behind(name);
}

/* glibc's own names: dlsym() itself allocates. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

void *malloc(size_t bytes) {
    count(AT_malloc);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    count(AT_calloc);
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes) {
    count(AT_realloc);
    return __libc_realloc(memory, bytes);
}
