/**
 * ladder.h - ladders: the variants of a kernel, which of them a device can take, and which one its
 * capabilities choose.
 *
 * A launcher with variants defines its ladder beside the code that launches it, declares it in its own
 * header, names it in the list of engine/ladders.c, and asks vlci_rung() when it opens.
 * vlcache_device_ladders(), the check of VLCACHE_VARIANT when a device is opened, and tests that run every
 * rung, all read that list.
 */
#ifndef VLCI_DEVICE_LADDER_H
#define VLCI_DEVICE_LADDER_H

#include "device/device.h"

typedef struct vlci_ladder {
    const char *kernel;       /**< as VLCACHE_VARIANT names it; ladders for different work may share it */
    const char *work;         /**< what the rungs compete for: "prefill", "decode" */
    const char *const *rungs; /**< ended by NULL; at most VLCACHE_MAX_RUNGS; the last runs everywhere */
    bool (*fits)(const vlcache_device *device, const char *rung); /**< NULL: every rung runs everywhere */
    const char *(*choose)(const vlcache_device *device);          /**< by capability, for work of any size
                                                                       that fills the device */
} vlci_ladder;

/** Every ladder there is, ended by NULL: engine/ladders.c. */
extern const vlci_ladder *const vlci_ladders[];

/**
 * The rung to launch: `chosen`, unless VLCACHE_VARIANT="kernel:rung,..." forces another rung of this ladder.
 * `*rung` is one of ladder->rungs, or `chosen` itself. Errors: VLCACHE_E_ARGUMENT (what is forced is a rung
 * of no ladder of this kernel, or does not fit the device; the message lists those that there are).
 */
vlcache_status vlci_rung(const vlcache_device *device, const vlci_ladder *ladder, const char *chosen,
                         const char **rung);

/**
 * From now on the device's ladders read "kernel:rung" (at most 95 bytes) in place of VLCACHE_VARIANT; `rung`
 * NULL: VLCACHE_VARIANT again. For a program that goes through the rungs: a variable of the environment must
 * not be set while work runs, since a driver's threads read the environment.
 */
void vlci_ladders_force(vlcache_device *device, const char *kernel, const char *rung);

/**
 * Whether VLCACHE_VARIANT names kernels and rungs that there are and that the device can take. Errors:
 * VLCACHE_E_ARGUMENT (the message lists the kernels, or the rungs).
 */
vlcache_status vlci_ladders_check(const vlcache_device *device);

/**
 * Rungs of kernels whose variants are numbers of work-items in a work-group: "256", "128" and so on to "1".
 * vlci_lanes_name() gives the rung of a power of two up to 256, atoi() its number back.
 */
extern const char *const vlci_lane_rungs[];
const char *vlci_lanes_name(size_t lanes);

/**
 * The kernel `name` of a file that is built with `options` and -DLANES work-items in a group: the rung of
 * `ladder`, whose rungs are numbers of them, or as many as the kernel can have at most on this device.
 * Errors: those of vlci_rung() and vlci_kernel_get().
 */
vlcache_status vlci_kernel_lanes(vlcache_device *device, const char *file, const char *name,
                                 const char *options, const vlci_ladder *ladder, const vlci_kernel **kernel,
                                 size_t *lanes);

/** Whether the device takes work-groups of that many work-items. */
bool vlci_lanes_fit(const vlcache_device *device, const char *rung);

#endif
