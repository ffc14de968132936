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
        unified_memory;     /**< unified: host and device share memory (CPUs, integrated GPUs) */
    char matrix_units[280]; /**< of an opened device: what its kernels may multiply matrices with, and why not
                               with the others; "" before a trial has shown it, and where there are none to
                               try */
} vlcache_device_info;

/** Options of vlcache_device_open() and vlcache_device_wrap(); start from VLCACHE_DEVICE_OPTIONS_INIT. */
typedef struct vlcache_device_options {
    size_t size;           /**< sizeof(vlcache_device_options); see common.h */
    const char *cache_dir; /**< kernel binaries; NULL: $XDG_CACHE_HOME/vlcache or ~/.cache/vlcache; "": no
                                cache; NULL */
    bool profile; /**< count calls and device time of each kernel, for vlcache_device_profile(): every launch
                     is then waited for; false */
    vlcache_progress_fn progress; /**< stages "building kernels" and "measuring matrix products", before each
                                     of them; false cancels; NULL: none; NULL */
    void *progress_user;          /**< handed to it; NULL */
} vlcache_device_options;
#define VLCACHE_DEVICE_OPTIONS_INIT                                                                          \
    { sizeof(vlcache_device_options), NULL, false, NULL, NULL }

/**
 * Describes up to `capacity` devices of all platforms, GPUs first, in a stable order; `*count` is how many
 * there are. Errors: VLCACHE_E_NO_DEVICE (no platform or no device: the message says what to install),
 * VLCACHE_E_ARGUMENT (a NULL), VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_device_list(vlcache_device_info *infos, size_t capacity, size_t *count);

/**
 * Opens a device. `select`: an index of vlcache_device_list(), or part of a platform's or device's name (no
 * case); NULL or "": $VLCACHE_DEVICE, else the first. Kernels build when first needed, or come from the
 * binary cache. Errors: VLCACHE_E_NO_DEVICE (the message lists what there is), VLCACHE_E_DEVICE,
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_ARGUMENT ($VLCACHE_VARIANT names a kernel or a rung that there is not;
 * $VLCACHE_MATRIX_UNITS or $VLCACHE_KERNEL_BINARIES is something but none). The first opening of a device
 * tries its matrix units and keeps what was found.
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

/* ---- what a device chose ------------------------------------------------------------------------------- */

/** One variant of a kernel. */
typedef struct vlcache_rung {
    const char *name; /**< as $VLCACHE_VARIANT names it (static storage) */
    bool available;   /**< this device has what it needs */
} vlcache_rung;

enum { VLCACHE_MAX_RUNGS = 12 };

/**
 * The variants of a kernel on a device, of which the last runs everywhere, and the one in use: the device's
 * capabilities choose it, or VLCACHE_VARIANT=kernel:rung,kernel:rung in the environment forces it. A launch
 * whose shape does not suit the chosen rung takes one below.
 */
typedef struct vlcache_ladder {
    const char *kernel; /**< "gemm" and so on; kernels with rungs for different work come once for each */
    const char *work;   /**< what the rungs are for: "prefill" and so on (static storage) */
    vlcache_rung rungs[VLCACHE_MAX_RUNGS];
    int n_rungs;
    int in_use;  /**< index of the rung in use */
    bool forced; /**< by VLCACHE_VARIANT */
} vlcache_ladder;

/**
 * Describes up to `capacity` ladders of a device; `*count` is how many there are. Builds no kernel, does not
 * block. Errors: VLCACHE_E_ARGUMENT (a NULL, or $VLCACHE_VARIANT names what there is not).
 */
VLCACHE_API vlcache_status vlcache_device_ladders(const vlcache_device *device, vlcache_ladder *ladders,
                                                  size_t capacity, size_t *count);

/** An implementation of matrix products, and how fast it is here. */
typedef struct vlcache_gemm_engine {
    const char *name; /**< "portable", "wide", "clblast", "matrix" (static storage) */
    double gflops;    /**< 1e9 operations a second for x [2048][4096] times W [4096][4096] (processors:
                         [576][1024] times [1024][1024]), an engine that is slow there for fewer rows; 0: not
                         measured, or it failed */
    bool chosen;      /**< in use for weights of this dtype */
    bool absent;      /**< the device has not what it needs for this dtype: not measured */
    char error[240];  /**< why it failed; "" where it did not */
} vlcache_gemm_engine;

/**
 * The GEMM engines of a device for weights of `dtype`, in a fixed order: up to `capacity` of them, `*count`
 * how many there are. The fastest is in use, or the one that VLCACHE_GEMM names in the environment. Speeds
 * come from the cache; without one there, `measure` decides: true measures (blocks a few seconds, with kernel
 * builds) and remembers, false leaves them 0 with none chosen. Errors: VLCACHE_E_ARGUMENT (a NULL, a dtype
 * other than f32, f16 and bf16, VLCACHE_GEMM), VLCACHE_E_DEVICE (no engine works), VLCACHE_E_BUILD,
 * VLCACHE_E_CANCELLED, VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_device_gemm(vlcache_device *device, vlcache_dtype dtype, bool measure,
                                               vlcache_gemm_engine *engines, size_t capacity, size_t *count);

/* ---- the cache of kernel binaries and measurements ----------------------------------------------------- */

/**
 * Where the cache is and what it holds, of all devices. `cache_dir` as in vlcache_device_options. `*folder`
 * is new memory for vlcache_free(), also with VLCACHE_E_IO, NULL where there is no cache; it need not exist
 * yet. Errors: VLCACHE_E_ARGUMENT (a NULL), VLCACHE_E_IO (it cannot be read), VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_cache_describe(const char *cache_dir, char **folder, size_t *files,
                                                  uint64_t *bytes);

/** Deletes what vlcache_cache_describe() counts and nothing else; `*files` (may be NULL) is how many. Safe
 * while the library runs. Errors: as vlcache_cache_describe(), VLCACHE_E_IO with the file. */
VLCACHE_API vlcache_status vlcache_cache_clear(const char *cache_dir, size_t *files);

/** Milliseconds that threads have waited for the device so far: reading back, writing, and waiting for the
 * queue to be done. What is left of a step's time is the host's own. */
VLCACHE_API double vlcache_device_waited(const vlcache_device *device);

#ifdef __cplusplus
}
#endif
#endif
