/**
 * calls.h - counts calls between two points of a suite that runs with test/preload/count.c in LD_PRELOAD, as
 * ctest does.
 */
#ifndef TEST_SUPPORT_CALLS_H
#define TEST_SUPPORT_CALLS_H

#include <stdbool.h>

/** Whether the shim is there; where $VLCACHE_TEST_COUNTS says that it is, its absence fails the test. */
bool calls_counted(void);

/** Counts this thread's calls, from zero on; stops. */
void calls_start(void);
void calls_stop(void);

/** Call `at` of OpenCL between the next start and stop fails, counted from 1; 0: none does. */
void calls_fail(long at);

/** Calls of OpenCL that could have failed between start and stop. */
long calls_failable(void);

/** Calls of a function ("clSetKernelArg", "malloc") between start and stop. */
long calls_of(const char *name);

/** Fails for each call that belongs into opening: programs, kernels, buffers, questions to the driver,
 * getenv, memory of the host. `what` names the stretch that was counted. */
void calls_only_run(const char *what);

#endif
