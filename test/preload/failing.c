/*
 * failing.c - an allocator and a driver that fail once, for use with LD_PRELOAD:
 *
 *     FAILING_ALLOCATION=k   of those that the program and the libraries of its formats make
 *                            (a driver's are its own)
 *     FAILING_CALL=k         of OpenCL, by the program or by CLBlast: it gives $FAILING_CODE,
 *                            CL_OUT_OF_RESOURCES
 *     FAILING_ON=1           and all that come after it
 *     FAILING_SAYS=FILE      gets the numbers of both at the end of the program
 *
 * k counts from 0. What gives back never fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl.h"

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);

enum { MOST_RANGES = 12 };
static struct { uintptr_t begin, end; } ranges[MOST_RANGES];
static int n_ranges;
static bool begun, goes_on;
static long allocation_at = -1, call_at = -1, allocations, calls;
static cl_int code = CL_OUT_OF_RESOURCES;
static char says[4096]; /* the file of $FAILING_SAYS */
#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD int inside; /* of a call of OpenCL, or of what is done here */

/* The program comes first, and has no name. */
static int add_range(struct dl_phdr_info *info, size_t size, void *user) {
    static const char *const libraries[] = {"jansson", "pcre2", "utf8proc", "webp"};
    uintptr_t begin = UINTPTR_MAX, end = 0;
    bool counts = !n_ranges;
    (void)size, (void)user;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        counts = counts || strstr(info->dlpi_name, libraries[i]);
    if (!counts || n_ranges == MOST_RANGES) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        uintptr_t first = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (first < begin) begin = first;
        if (first + info->dlpi_phdr[i].p_memsz > end) end = first + info->dlpi_phdr[i].p_memsz;
    }
    ranges[n_ranges].begin = begin;
    ranges[n_ranges++].end = end;
    return 0;
}

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static void begin(void) {
    begun = true;
    inside++;
    allocation_at = number("FAILING_ALLOCATION", -1);
    call_at = number("FAILING_CALL", -1);
    code = (cl_int)number("FAILING_CODE", CL_OUT_OF_RESOURCES);
    goes_on = number("FAILING_ON", 0) != 0;
    const char *file = getenv("FAILING_SAYS");
    if (file) snprintf(says, sizeof says, "%s", file);
    /* programs that this one begins, such as a driver's linker, are not meant */
    static const char *const ours[] = {"LD_PRELOAD", "FAILING_ALLOCATION", "FAILING_CALL", "FAILING_SAYS"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) unsetenv(ours[i]);
    dl_iterate_phdr(add_range, NULL);
    inside--;
}

static bool is_at(long *count, long at) {
    long now = __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    return now == at || (goes_on && at >= 0 && now > at);
}

static void *next(const char *name) {
    inside++;
    void *found = dlsym(RTLD_NEXT, name);
    inside--;
    if (!found) abort();
    return found;
}

/* ---- the allocator, and what the C library allocates for a caller -------------------------------------- */

static bool refuses(void *caller) {
    bool ours = false;
    if (inside) return false;
    if (!begun) begin();
    for (int i = 0; i < n_ranges; i++)
        ours = ours || ((uintptr_t)caller >= ranges[i].begin && (uintptr_t)caller < ranges[i].end);
    if (!ours || !is_at(&allocations, allocation_at)) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes) {
    return refuses(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    return refuses(__builtin_return_address(0)) ? NULL : __libc_calloc(n, bytes);
}

void *realloc(void *block, size_t bytes) {
    return refuses(__builtin_return_address(0)) ? NULL : __libc_realloc(block, bytes);
}

#define OF_LIBRARY(type, name, takes, given, refusal)                                                        \
    type name takes {                                                                                        \
        static type(*behind) takes;                                                                          \
        if (!behind) behind = (type(*) takes)next(#name);                                                    \
        return refuses(__builtin_return_address(0)) ? refusal : behind given;                                \
    }
OF_LIBRARY(char *, strdup, (const char *a), (a), NULL)
OF_LIBRARY(char *, strndup, (const char *a, size_t b), (a, b), NULL)
OF_LIBRARY(FILE *, fopen, (const char *a, const char *b), (a, b), NULL)
OF_LIBRARY(FILE *, fdopen, (int a, const char *b), (a, b), NULL)
OF_LIBRARY(FILE *, open_memstream, (char **a, size_t *b), (a, b), NULL)
OF_LIBRARY(FILE *, fopencookie, (void *a, const char *b, cookie_io_functions_t c), (a, b, c), NULL)
OF_LIBRARY(ssize_t, getline, (char **a, size_t *b, FILE *c), (a, b, c), -1)
OF_LIBRARY(DIR *, opendir, (const char *a), (a), NULL)
OF_LIBRARY(int, scandir,
           (const char *a, struct dirent ***b, int (*c)(const struct dirent *),
            int (*d)(const struct dirent **, const struct dirent **)),
           (a, b, c, d), -1)

/* ---- the driver ---------------------------------------------------------------------------------------- */

static bool call_fails(void) {
    if (inside) return false;
    if (!begun) begin();
    return is_at(&calls, call_at);
}

#define DEFINE(type, name, takes, given, on_failure)                                                         \
    type name takes {                                                                                        \
        static type(*behind) takes;                                                                          \
        if (!behind) behind = (type(*) takes)next(#name);                                                    \
        on_failure;                                                                                          \
        inside++;                                                                                            \
        type result = behind given;                                                                          \
        inside--;                                                                                            \
        return result;                                                                                       \
    }
/* The code, whatever a call that was made all the same gave. */
static cl_int refused(cl_int given) {
    (void)given;
    return code;
}

/* What waits has waited, whatever it says: memory that goes after it is not in use. */
#define WAITS(name) (strcmp(name, "clFinish") == 0 || strcmp(name, "clWaitForEvents") == 0)
#define DEFINE_CODE(name, takes, given)                                                                      \
    DEFINE(cl_int, name, takes, given, if (call_fails()) return refused(WAITS(#name) ? behind given : 0))
#define DEFINE_RELEASE(name, takes, given) DEFINE(cl_int, name, takes, given, (void)0)
#define DEFINE_HANDLE(type, name, takes, given, error)                                                       \
    DEFINE(                                                                                                  \
        type, name, takes, given, if (call_fails()) {                                                        \
            if (error) *error = code;                                                                        \
            return NULL;                                                                                     \
        })
CODES(DEFINE_CODE)
RELEASES(DEFINE_RELEASE)
HANDLES(DEFINE_HANDLE)

__attribute__((destructor)) static void say(void) {
    inside++;
    FILE *file = *says ? fopen(says, "w") : NULL;
    if (file) fprintf(file, "%ld %ld\n", allocations, calls);
    if (file) fclose(file);
}
