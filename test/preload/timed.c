/*
 * timed.c - tells the host's part of a decoded token from the driver's, for use with LD_PRELOAD.
 *
 * A token ends where the blocking read of it does. Of the last TOKENS of a process, the median of: all of the
 * time; what is not waiting for the device; what is not spent in calls that launch, copy or set either (the
 * library's own); launches and the time in them; arguments set; questions to kernels.
 */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LAUNCH, ARGUMENT, WRITE, COPY, FLUSH, INFO, WAITS, FINISH = WAITS, READ, EVENT, CALLS };
enum { TOKENS = 40, FIGURES = 7 };

/* Since the start, at the end of a token. */
typedef struct mark {
    double now, ms[CALLS];
    long n[CALLS];
} mark;

static mark total, ring[TOKENS + 1];
static long marks;
static __thread int inside; /* a driver may call itself */

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void count(int call, double begun) {
    total.now = now_ms();
    total.ms[call] += total.now - begun;
    total.n[call]++;
    if (call == READ) ring[marks++ % (TOKENS + 1)] = total;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

__attribute__((destructor)) static void tell(void) {
    double figure[FIGURES][TOKENS];
    if (marks <= TOKENS) return;
    for (int k = 0; k < TOKENS; k++) {
        const mark *a = &ring[(marks + k) % (TOKENS + 1)], *b = &ring[(marks + k + 1) % (TOKENS + 1)];
        double all = b->now - a->now, waits = 0, driver = 0;
        for (int i = 0; i < CALLS; i++) *(i < WAITS ? &driver : &waits) += b->ms[i] - a->ms[i];
        const double of[FIGURES] = {all,
                                    all - waits,
                                    all - waits - driver,
                                    (double)(b->n[LAUNCH] - a->n[LAUNCH]),
                                    b->ms[LAUNCH] - a->ms[LAUNCH],
                                    (double)(b->n[ARGUMENT] - a->n[ARGUMENT]),
                                    (double)(b->n[INFO] - a->n[INFO])};
        for (int i = 0; i < FIGURES; i++) figure[i][k] = of[i];
    }
    for (int i = 0; i < FIGURES; i++) qsort(figure[i], TOKENS, sizeof(double), ascending);
#define MEDIAN(i) figure[i][TOKENS / 2]
    fprintf(stderr,
            "timed: a token %.3f ms, host %.3f, library %.3f, %.0f launches %.3f, %.0f arguments, %.0f "
            "questions\n",
            MEDIAN(0), MEDIAN(1), MEDIAN(2), MEDIAN(3), MEDIAN(4), MEDIAN(5), MEDIAN(6));
}

#define TIMED(call, name, takes, gives)                                                                      \
    cl_int name takes {                                                                                      \
        static cl_int(*real) takes;                                                                          \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                                \
        double begun = now_ms();                                                                             \
        inside++;                                                                                            \
        cl_int status = real gives;                                                                          \
        if (--inside == 0) count(call, begun);                                                               \
        return status;                                                                                       \
    }

TIMED(LAUNCH, clEnqueueNDRangeKernel,
      (cl_command_queue q, cl_kernel k, cl_uint d, const size_t *o, const size_t *g, const size_t *l,
       cl_uint n, const cl_event *w, cl_event *e),
      (q, k, d, o, g, l, n, w, e))
TIMED(ARGUMENT, clSetKernelArg, (cl_kernel k, cl_uint i, size_t s, const void *v), (k, i, s, v))
TIMED(WRITE, clEnqueueWriteBuffer,
      (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t s, const void *p, cl_uint n,
       const cl_event *w, cl_event *e),
      (q, m, b, o, s, p, n, w, e))
TIMED(COPY, clEnqueueCopyBuffer,
      (cl_command_queue q, cl_mem a, cl_mem b, size_t o, size_t t, size_t s, cl_uint n, const cl_event *w,
       cl_event *e),
      (q, a, b, o, t, s, n, w, e))
TIMED(FLUSH, clFlush, (cl_command_queue q), (q))
TIMED(INFO, clGetKernelInfo, (cl_kernel k, cl_kernel_info i, size_t s, void *p, size_t *n), (k, i, s, p, n))
TIMED(FINISH, clFinish, (cl_command_queue q), (q))
TIMED(READ, clEnqueueReadBuffer,
      (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t s, void *p, cl_uint n, const cl_event *w,
       cl_event *e),
      (q, m, b, o, s, p, n, w, e))
TIMED(EVENT, clWaitForEvents, (cl_uint n, const cl_event *w), (n, w))
