/**
 * tap.h (internal) - named taps: what stands between two stages, written to a file, so that a wrong number is
 * found by bisection against the goldens (test/data/README.md), which have the same names and format.
 *
 *     VLCACHE_DUMP=layer.0.*,logits  VLCACHE_DUMP_FILE=run.taps  vlcache-run ...
 *
 * VLCACHE_DUMP: patterns as of a shell, separated by commas. VLCACHE_DUMP_FILE: "vlcache.taps" by default,
 * appended to; a reader takes the last record of a name.
 */
#ifndef VLCI_DEVICE_TAP_H
#define VLCI_DEVICE_TAP_H

#include "device/device.h"

/**
 * Writes f32 [rows][columns] under a name made as printf() does, when it is asked for; waits for the device
 * then. What goes wrong is logged, never returned: a dump does not end a run.
 */
void vlci_tap(vlcache_device *device, cl_mem memory, int rows, int columns, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
