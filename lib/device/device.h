/**
 * device.h (internal) - the opened device: what it can do, its kernels, its one way to enqueue, its
 * memory.
 *
 *     const vlci_kernel *k;
 *     status = vlci_kernel_get(device, "norm.cl", "rms_norm", "-DROWS=1", &k);
 *     status = VLCI_LAUNCH(device, k, VLCI_GRID1(rows * 64, 64),
 *                          VLCI_MEM(x), VLCI_MEM(w), VLCI_I32(n), VLCI_F32(eps));
 */
#ifndef VLCI_DEVICE_DEVICE_H
#define VLCI_DEVICE_DEVICE_H

#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <pthread.h>

#include "core/mapping.h"
#include "core/status.h"
#include "vlcache/device.h"

/* ---- capabilities (caps.c: every vendor's quirk lives there)
 * ------------------------------------------------ */

typedef struct vlci_caps {
    vlcache_device_info info;
    bool wide_vectors; /**< a CPU: one work-item per tile with float16 vectors beats work-groups with barriers
                        */
    unsigned vector_floats; /**< floats of a native vector: 16 where registers have 512 bits */
    size_t local_bytes;     /**< usable local memory of one work-group */
    size_t max_group;       /**< largest work-group */
    size_t alignment;       /**< of sub-buffers, bytes */
    size_t argument_bytes;  /**< of all arguments of a kernel, at most */
    bool mma, wgmma;        /**< matrix units that kernels may use through inline PTX: see trial.c */
    bool amx;               /**< the processor's matrix unit, through inline assembly: the same */
    bool dot;               /**< the processor's products of pairs of bf16 (AVX512_BF16): the same */
    bool every_line;        /**< a processor that reads faster where each line of memory is asked for */
    bool short_loops;       /**< loops of a work-item end after 65,535 iterations in all, whatever they say */
    bool parts_apart;       /**< parts of a buffer are memory of their own until the whole was used */
    size_t ptx_local;       /**< local memory of a work-group of such a kernel: more than what queries tell */
} vlci_caps;

vlcache_status vlci_caps_read(cl_device_id device, vlci_caps *out);

/** Why a platform may have no device, where something is known of it (static storage); NULL: nothing is. */
const char *vlci_platform_hint(cl_platform_id platform);

/** The status that a failing OpenCL call means: host memory, device memory, or the device itself. */
vlcache_status vlci_cl_status(cl_int code);

/* ---- kernels (program.c, cache.c)
 * --------------------------------------------------------------------------- */

typedef struct vlci_kernel_source {
    const char *name; /**< "gemm.cl" */
    const char *text;
    size_t bytes;
} vlci_kernel_source;

/** All of cl/, embedded, ended by a NULL name. VLCACHE_KERNEL_DIR in the environment reads them from disk
 * instead. */
extern const vlci_kernel_source vlci_kernel_sources[];

/** A kernel, and what there is to know of it: asked for when it is made, not when it is launched. */
typedef struct vlci_kernel {
    cl_kernel handle;
    const char *name;              /**< for messages and profiles */
    size_t max_group;              /**< CL_KERNEL_WORK_GROUP_SIZE */
    size_t private_bytes;          /**< CL_KERNEL_PRIVATE_MEM_SIZE: of a work-item, beside its registers */
    size_t n_args;                 /**< CL_KERNEL_NUM_ARGS */
    struct vlci_arguments *set;    /**< as the last launch left them */
    vlcache_kernel_profile *usage; /**< counted when the device profiles */
} vlci_kernel;

/**
 * The kernel `name` of cl/`file` built with `options` (e.g. "-DW_DTYPE=3 -DHEAD_DIM=64"), from memory, from
 * the binary cache, or built and cached. shared.h, common.clh and kv.clh are in front of every program,
 * few.clh or dot.clh of those whose head says "with: few.clh". Owned by the device, valid as long as it.
 * Errors: VLCACHE_E_BUILD (message: file, options, build log), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_kernel_get(vlcache_device *device, const char *file, const char *name,
                               const char *options, const vlci_kernel **out);

/** Most local memory of a work-group of such a program: 227 KiB, less what aligning it costs; the trial of
 * wgmma shows it. */
enum { VLCI_PTX_LOCAL_MOST = 231424 };

/**
 * How a program is changed where the driver's binary is PTX text: what OpenCL C cannot say (ptx.c). All zero:
 * not at all.
 */
typedef struct vlci_ptx {
    const char *target; /**< "sm_90a", or "" for the driver's own; static storage. ptx.clh is in front of the
                             program, and what stands behind "//~ " in inline assembly is opened */
    size_t
        local_bytes; /**< of the kernel's one array `__local uchar smem[VLCI_PTX_LOCAL]`; 0: as it stands */
    int groups;      /**< work-groups that a unit has room for, which bounds registers; setmaxnreg needs the
                          promise of 1; 0: as the compiler has it */
} vlci_ptx;

/** As vlci_kernel_get(), of a program that is changed so. Errors: those, and VLCACHE_E_BUILD where the
 * driver's binary is no PTX. */
vlcache_status vlci_kernel_get_ptx(vlcache_device *device, const char *file, const char *name,
                                   const char *options, const vlci_ptx *ptx, const vlci_kernel **out);

/** Number of programs compiled from source since the device was opened (0 on a warm cache). */
unsigned vlci_kernel_builds(const vlcache_device *device);

/** Seconds since the device was opened that went into programs: loading binaries, compiling, storing them. */
double vlci_kernel_build_seconds(vlcache_device *device);

/** Small text blobs beside the binaries (GEMM measurements), which the device keeps, too, until it is closed:
 * false when absent or corrupt. `text` is new memory. */
bool vlci_cache_read(vlcache_device *device, const char *key, char **text);
void vlci_cache_write(vlcache_device *device, const char *key, const char *text);

/* ---- enqueueing (queue.c)
 * ----------------------------------------------------------------------------------- */

typedef struct vlci_arg {
    enum {
        VLCI_ARG_UNSET,
        VLCI_ARG_MEM,
        VLCI_ARG_I32,
        VLCI_ARG_U32,
        VLCI_ARG_F32,
        VLCI_ARG_LOCAL,
        VLCI_ARG_U32X16
    } kind;
    union {
        cl_mem mem; /**< may be NULL: a NULL __global pointer */
        int32_t i32;
        uint32_t u32;
        float f32;
        size_t local; /**< bytes */
        uint32_t u32x16[16];
    } as;
} vlci_arg;

#define VLCI_MEM(m)   ((vlci_arg){.kind = VLCI_ARG_MEM, .as.mem = (m)})
#define VLCI_I32(v)   ((vlci_arg){.kind = VLCI_ARG_I32, .as.i32 = (int32_t)(v)})
#define VLCI_U32(v)   ((vlci_arg){.kind = VLCI_ARG_U32, .as.u32 = (uint32_t)(v)})
#define VLCI_F32(v)   ((vlci_arg){.kind = VLCI_ARG_F32, .as.f32 = (v)})
#define VLCI_LOCAL(b) ((vlci_arg){.kind = VLCI_ARG_LOCAL, .as.local = (b)})

/**
 * The arguments that an OpenCL kernel has: a launch sets only those that differ. A buffer is set again when
 * any was released since (`epoch` is the device's of then): a new one may have the handle of an old one.
 */
typedef struct vlci_arguments {
    uint64_t epoch;
    vlci_arg last[]; /**< of VLCI_ARG_UNSET: not known */
} vlci_arguments;

/** Work: `groups` work-groups of `group` work-items in each dimension (unused ones 1). */
typedef struct vlci_grid {
    size_t groups[3], group[3];
} vlci_grid;

#define VLCI_GRID(gx, gy, gz, lx, ly, lz) ((vlci_grid){{(gx), (gy), (gz)}, {(lx), (ly), (lz)}})

/** Work-items along x of a work-group: the largest power of two up to `want` that the kernel takes there. A
 * kernel may take fewer than its device. */
size_t vlci_group_width(const vlci_kernel *kernel, size_t want);

/** One work-item for each of [nz][ny][nx], in work-groups along x; beyond nx the kernel does nothing. */
vlci_grid vlci_grid_over(const vlci_kernel *kernel, size_t nx, size_t ny, size_t nz);

/** The same with no work-item beyond nx: the work-groups' width divides it. */
vlci_grid vlci_grid_exact(const vlci_kernel *kernel, size_t nx, size_t ny, size_t nz);

/**
 * Enqueues one kernel on the device's in-order queue; does not block, allocates nothing, and tells the driver
 * only what changed since the kernel's last launch. A grid with no groups is no work. Limits and the number
 * of arguments are checked. Errors: VLCACHE_E_DEVICE, VLCACHE_E_DEVICE_MEMORY (kernel and OpenCL error
 * named).
 */
vlcache_status vlci_launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                           const vlci_arg *args, size_t n_args);

#define VLCI_LAUNCH(device, kernel, grid, ...)                                                               \
    vlci_launch((device), (kernel), (grid), (const vlci_arg[]){__VA_ARGS__},                                 \
                sizeof((const vlci_arg[]){__VA_ARGS__}) / sizeof(vlci_arg))

/** Waits until all enqueued work is done. */
vlcache_status vlci_finish(vlcache_device *device);

/** A mark behind what is enqueued so far; the driver starts on it. Waiting for it releases and NULLs it, NULL
 * is accepted, and `*since`, vlci_clock_ms(), is moved on to the time when it was over, but not back; a read
 * of the device that came first has waited for it, and knows. Where it was over before anybody waited,
 * `*since` stays as it is. */
vlcache_status vlci_mark(vlcache_device *device, cl_event *mark);
vlcache_status vlci_mark_wait(vlcache_device *device, cl_event *mark, double *since);

/** Blocking and non-blocking copies; offsets and sizes in bytes. */
vlcache_status vlci_read(vlcache_device *device, cl_mem from, size_t offset, void *to, size_t bytes);
vlcache_status vlci_write(vlcache_device *device, cl_mem to, size_t offset, const void *from, size_t bytes);
vlcache_status vlci_copy(vlcache_device *device, cl_mem from, size_t from_offset, cl_mem to, size_t to_offset,
                         size_t bytes);
vlcache_status vlci_fill(vlcache_device *device, cl_mem to, size_t offset, size_t bytes, uint32_t pattern);

/**
 * A write that does not wait (staging.c): `from` is copied aside at once and may change after the call. Waits
 * only when more than a megabyte has been set aside since the device was last waited for. Errors: as
 * vlci_write(), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_write_later(vlcache_device *device, cl_mem to, size_t offset, const void *from,
                                size_t bytes);

/** Adds what has passed since `start`, of vlci_clock_ms(), to the time that was waited for the queue. */
void vlci_waited(vlcache_device *device, double start);

/** The failure to return where an OpenCL call gave `code`; `what` was tried. */
vlcache_status vlci_fail_call(const vlcache_device *device, const char *what, cl_int code);

/** Name of an OpenCL error code, "CL_OUT_OF_RESOURCES" (static storage). */
const char *vlci_cl_error(cl_int code);

/* ---- memory (tensor.c)
 * -------------------------------------------------------------------------------------- */

/**
 * Allocates device memory (at least 1 byte). `what` names it in the message. Errors: VLCACHE_E_DEVICE_MEMORY
 * (with the size, the limit and the device's memory). Counted: see vlci_memory_now().
 */
vlcache_status vlci_memory_create(vlcache_device *device, size_t bytes, const char *what, cl_mem *out);

/**
 * Memory that is part of a file's mapping, for a device whose memory is the host's (caps.wide_vectors), read
 * and never written by it; nothing is allocated. It is one more owner of the mapping, as long as it lives.
 * Errors: VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_NO_MEMORY. Counted by itself: see vlci_memory_mapped().
 */
vlcache_status vlci_memory_map(vlcache_device *device, vlci_mapping *mapping, size_t at, size_t bytes,
                               const char *what, cl_mem *out);

/** As vlci_memory_create(), to be divided; what is in it is not known. */
vlcache_status vlci_memory_divided(vlcache_device *device, size_t bytes, const char *what, cl_mem *out);

/** `bytes` of such memory from `at` on, a multiple of caps.alignment, as a buffer of their own, which keeps
 * all of it: nothing is counted. Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_memory_part(vlcache_device *device, cl_mem whole, size_t at, size_t bytes,
                                const char *what, cl_mem *out);

/** Releases and NULLs; NULL accepted. */
void vlci_memory_release(vlcache_device *device, cl_mem *memory);

/** Bytes allocated now and at most so far through vlci_memory_create(). */
uint64_t vlci_memory_now(const vlcache_device *device);
uint64_t vlci_memory_peak(const vlcache_device *device);

/** Bytes of files that vlci_memory_map() has made memory of, and that are not in the above. */
uint64_t vlci_memory_mapped(const vlcache_device *device);

/** The peak counts from what is allocated now on: for measurements one after another. */
void vlci_memory_restart(vlcache_device *device);

size_t vlci_dtype_bytes(vlcache_dtype dtype);

/* ---- the device
 * --------------------------------------------------------------------------------------------- */

struct vlcache_device {
    cl_context context;
    cl_device_id id;
    cl_command_queue queue;
    vlci_caps caps;
    char *cache_dir; /**< NULL: no cache on disk */
    bool binaries;   /**< those of programs are kept there */
    vlcache_progress_fn progress;
    void *progress_user;
    bool profile;
    pthread_mutex_t lock; /**< guards kernels while their arguments are set, the program list, the counters */
    struct vlci_program *programs;
    unsigned builds;
    double build_seconds;
    double waited_ms; /**< for the queue, by all threads */
    cl_event mark; /**< the newest that nobody has waited for, borrowed: a read waits for it first; or NULL */
    double mark_over; /**< when `passed` was over, vlci_clock_ms() */
    cl_event passed;  /**< the mark that a read waited for last */
    uint64_t memory_now, memory_peak, memory_mapped;
    struct vlci_buffer *buffers; /**< that are held: tensor.c */
    size_t n_buffers, buffers_room;
    unsigned char *staging;        /**< of vlci_write_later(): a ring that the queue reads from */
    size_t staged;                 /**< bytes of it in use */
    uint64_t memory_epoch;         /**< counts released buffers */
    struct vlci_note *notes;       /**< what vlci_cache_write() was given */
    char *tap_patterns, *tap_file; /**< NULL: no taps */
    char forced[96];               /**< in place of VLCACHE_VARIANT, where not empty: ladder.c */
    int references;
};

/** Tells the device's progress callback, if there is one, how much is done of a stage of unknown length.
 * Errors: VLCACHE_E_CANCELLED, as it asks for. */
vlcache_status vlci_progress(const vlcache_device *device, const char *stage, uint64_t done);

/** One more owner; vlcache_device_destroy() gives it up. */
vlcache_device *vlci_device_retain(vlcache_device *device);

#endif
