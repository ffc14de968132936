/**
 * profile.h - where the device's time went.
 */
#ifndef COMMON_PROFILE_H
#define COMMON_PROFILE_H

#include "common/console.h"
#include "vlcache/vlcache.h"

/** A table on standard error: kernel, calls, milliseconds, share; of a device that was opened with `profile`.
 * Returns an exit code. */
int profile_print(console *terminal, vlcache_device *device);

#endif
