/*
 * exit.c - the exit code of each status.
 */
#include "common/exit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int exit_code(vlcache_status status) {
    switch (status) {
    case VLCACHE_OK:
        return EXIT_OK;
    case VLCACHE_E_ARGUMENT:
    case VLCACHE_E_CONTEXT_FULL:
        return EXIT_USAGE;
    case VLCACHE_E_IO:
    case VLCACHE_E_FORMAT:
    case VLCACHE_E_UNSUPPORTED:
        return EXIT_INPUT;
    case VLCACHE_E_NO_MEMORY:
    case VLCACHE_E_DEVICE_MEMORY:
        return EXIT_MEMORY;
    case VLCACHE_E_CANCELLED:
        return EXIT_INTERRUPT;
    case VLCACHE_E_NO_DEVICE:
    case VLCACHE_E_DEVICE:
    case VLCACHE_E_BUILD:
    case VLCACHE_E_INTERNAL:
        break;
    }
    return EXIT_DEVICE;
}

int exit_code_errno(int number) {
    return number == ENOMEM ? EXIT_MEMORY : EXIT_INPUT;
}

static bool guarded;

/* Not what a program ends with by itself: its streams are what they are. */
static void ended_by_driver(void) {
    if (!guarded) return;
    fflush(stdout);
    fprintf(stderr,
            "%s: the OpenCL driver has ended the program, see above; where it had no room for its files: "
            "PoCL's are in "
            "$POCL_CACHE_DIR, or in $XDG_CACHE_HOME/pocl or ~/.cache/pocl\n",
            program_invocation_short_name);
    _exit(EXIT_DEVICE);
}

void exit_guard(bool on) {
    static bool registered;
    guarded = on;
    if (on && !registered) registered = atexit(ended_by_driver) == 0;
}
