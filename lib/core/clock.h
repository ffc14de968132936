/**
 * clock.h - wall-clock time for what is measured.
 */
#ifndef VLCI_CORE_CLOCK_H
#define VLCI_CORE_CLOCK_H

#include <time.h>

/** Milliseconds of a clock that never jumps. */
static inline double vlci_clock_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

#endif
