/**
 * device.h - an OpenCL device to run on: any vendor's GPU, or a CPU.
 */
#ifndef VLCACHE_DEVICE_H
#define VLCACHE_DEVICE_H

#include "common.h"
#include "status.h"

struct _cl_context;       /* cl_context */
struct _cl_device_id;     /* cl_device_id */
struct _cl_command_queue; /* cl_command_queue */

#ifdef __cplusplus
extern "C" {
#endif

/** An opened device with its context, queue and built kernels. Shareable between threads; reference-counted
 * by models. */
typedef struct vlcache_device vlcache_device;

typedef enum vlcache_device_type {
    VLCACHE_DEVICE_CPU,
    VLCACHE_DEVICE_GPU,
    VLCACHE_DEVICE_OTHER
} vlcache_device_type;

/** What a device says of itself. Sizes in bytes. */
typedef struct vlcache_device_info {
    int index; /**< position in vlcache_device_list() */
    vlcache_device_type type;
    char name[128], platform[128], vendor[128], driver[64], version[64];
    unsigned compute_units;
    uint64_t global_memory, max_allocation, local_memory;
    size_t max_work_group;
    bool fp16, subgroups,
        unified_memory; /**< unified: host and device share memory (CPUs, integrated GPUs) */
} vlcache_device_info;

/** Options of vlcache_device_open() and vlcache_device_wrap(); start from VLCACHE_DEVICE_OPTIONS_INIT. */
typedef struct vlcache_device_options {
    size_t size; /**< sizeof(vlcache_device_options) */
    const char
        *cache_dir; /**< kernel binaries; NULL: $XDG_CACHE_HOME/vlcache or ~/.cache/vlcache; "": no cache */
    vlcache_progress_fn progress; /**< stage "building kernels"; NULL: none */
    void *progress_user;
    bool profile; /**< count calls and device time of each kernel, for vlcache_device_profile(): every launch
                     is then waited for */
} vlcache_device_options;
#define VLCACHE_DEVICE_OPTIONS_INIT                                                                          \
    { sizeof(vlcache_device_options), NULL, NULL, NULL, false }

/**
 * Describes up to `capacity` devices of all platforms, GPUs first, in a stable order; `*count` is how many
 * there are. Errors: VLCACHE_E_NO_DEVICE (no platform or no device: the message says what to install).
 */
VLCACHE_API vlcache_status vlcache_device_list(vlcache_device_info *infos, size_t capacity, size_t *count);

/**
 * Opens a device. `select`: an index of vlcache_device_list(), or part of a platform's or device's name (no
 * case); NULL or "": $VLCACHE_DEVICE, else the first. Kernels build when first needed, or come from the
 * binary cache. Errors: VLCACHE_E_NO_DEVICE (the message lists what there is), VLCACHE_E_DEVICE,
 * VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_device_open(const char *select, const vlcache_device_options *options,
                                               vlcache_device **out);

/**
 * Uses the caller's context, device and in-order queue, each retained. Errors as vlcache_device_open(), and
 * VLCACHE_E_ARGUMENT for an out-of-order queue, or with `profile` for one that does not profile.
 */
VLCACHE_API vlcache_status vlcache_device_wrap(struct _cl_context *context, struct _cl_device_id *device,
                                               struct _cl_command_queue *queue,
                                               const vlcache_device_options *options, vlcache_device **out);

/** Describes an opened device; `info->index` is -1 for a wrapped one. */
VLCACHE_API void vlcache_device_describe(const vlcache_device *device, vlcache_device_info *info);

/** What one kernel has cost so far. */
typedef struct vlcache_kernel_profile {
    const char *name; /**< owned by the device */
    uint64_t calls;
    double ms; /**< on the device */
} vlcache_kernel_profile;

/**
 * Up to `capacity` kernels that ran since the device was opened with `profile`, the costliest first, `*count`
 * how many there are. Kernels that CLBlast launches are not among them. Errors: VLCACHE_E_ARGUMENT,
 * VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_device_profile(vlcache_device *device, vlcache_kernel_profile *kernels,
                                                  size_t capacity, size_t *count);

/** Gives up the caller's reference and NULLs the handle; models keep theirs. */
VLCACHE_API void vlcache_device_destroy(vlcache_device **device);

#ifdef __cplusplus
}
#endif
#endif
