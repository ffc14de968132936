/*
 * profile.c - device time by kernel, the costliest first, with its share of the sum.
 */
#include "common/profile.h"

#include <stdio.h>

enum { MOST_KERNELS = 128 };

int profile_print(console *terminal, vlcache_device *device) {
    vlcache_kernel_profile kernels[MOST_KERNELS];
    size_t n = 0;
    double sum = 0;
    vlcache_status status = vlcache_device_profile(device, kernels, MOST_KERNELS, &n);
    if (status) return console_fail_status(terminal, status);
    if (n > MOST_KERNELS) n = MOST_KERNELS;
    for (size_t i = 0; i < n; i++) sum += kernels[i].ms;
    fprintf(stderr, "%-20s %8s %12s %8s\n", "kernel", "calls", "ms", "share");
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%-20s %8llu %12.3f %7.1f%%\n", kernels[i].name, (unsigned long long)kernels[i].calls,
                kernels[i].ms, sum > 0 ? 100.0 * kernels[i].ms / sum : 0.0);
    fprintf(stderr, "%-20s %8s %12.3f\n", "all", "", sum);
    return 0;
}
