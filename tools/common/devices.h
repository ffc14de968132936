/**
 * devices.h - --list-devices.
 */
#ifndef COMMON_DEVICES_H
#define COMMON_DEVICES_H

#include <jansson.h>
#include <vlcache/device.h>

#include "common/console.h"

/** Prints the devices to standard output: a table, or {"version", "devices": [device_info_json(), ...]}.
 * Returns an exit code. */
int devices_print(console *c, bool json);

/** All that a device says of itself; what is not UTF-8 has question marks. New; NULL: memory ran out. */
json_t *device_info_json(const vlcache_device_info *info);

/** "GPU", "CPU" or "other". */
const char *device_type_name(vlcache_device_type type);

#endif
