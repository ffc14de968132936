/*
 * count.c - counts calls that must not happen in a hot path, for use with LD_PRELOAD: OpenCL's, getenv, and
 * allocations; and lets one of OpenCL's fail, as if a driver had.
 *
 * Only calls of the thread that asked are counted, and none that happen inside of a call of OpenCL: what a
 * driver allocates is its own affair. A suite looks the functions up (test/support/calls.h), so that it
 * runs without.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "opencl.h"

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
