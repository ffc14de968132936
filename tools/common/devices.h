/**
 * devices.h - --list-devices.
 */
#ifndef COMMON_DEVICES_H
#define COMMON_DEVICES_H

#include <vlcache/device.h>

#include "common/console.h"

/** Prints a table of the devices to standard output. Returns an exit code. */
int devices_print(console *c);

/** "GPU", "CPU" or "other". */
const char *device_type_name(vlcache_device_type type);

#endif
