/*
 * calls.c - the shim of test/preload/count.c, looked up.
 */
#include "support/calls.h"

#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>

/* A function of the shim, NULL without it. */
static void *find(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

bool calls_counted(void) {
    bool there = find("vlci_count_get") != NULL;
    ck_assert_msg(there || !getenv("VLCACHE_TEST_COUNTS"),
                  "VLCACHE_TEST_COUNTS is set, the shim is not there");
    return there;
}

void calls_start(void) {
    void (*start)(void) = (void (*)(void))find("vlci_count_start");
    if (start) start();
}

void calls_stop(void) {
    void (*stop)(void) = (void (*)(void))find("vlci_count_stop");
    if (stop) stop();
}

void calls_fail(long at) {
    void (*fail_at)(long) = (void (*)(long))find("vlci_count_fail");
    if (fail_at) fail_at(at);
}

long calls_failable(void) {
    long (*calls)(void) = (long (*)(void))find("vlci_count_calls");
    return calls ? calls() : 0;
}

long calls_of(const char *name) {
    long (*get)(const char *) = (long (*)(const char *))find("vlci_count_get");
    long n = get ? get(name) : 0;
    ck_assert_msg(n >= 0, "%s is not counted by test/preload/count.c", name);
    return n;
}

void calls_only_run(const char *what) {
    static const char *const names[] = {"clCreateBuffer",
                                        "clCreateKernel",
                                        "clCreateProgramWithSource",
                                        "clCreateProgramWithBinary",
                                        "clBuildProgram",
                                        "clGetKernelInfo",
                                        "clGetKernelWorkGroupInfo",
                                        "clGetMemObjectInfo",
                                        "clGetDeviceInfo",
                                        "clReleaseMemObject",
                                        "getenv",
                                        "malloc",
                                        "calloc",
                                        "realloc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(!calls_of(names[i]), "%s: %ld calls of %s", what, calls_of(names[i]), names[i]);
}
