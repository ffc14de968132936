/**
 * kernels.h - each rung of each kernel that a device has: how long it takes, how far it is off.
 */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include "bench/bench.h"

/** A line for each rung and shape. An exit code: EXIT_DEVICE where a rung is wrong. */
int kernels_tell(bench *b);

#endif
