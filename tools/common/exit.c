/*
 * exit.c - the exit code of each status.
 */
#include "common/exit.h"

#include <errno.h>

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
