/**
 * common.h - what every header of vlcache shares: linkage, version, dtypes, progress and logging.
 */
#ifndef VLCACHE_COMMON_H
#define VLCACHE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define VLCACHE_API
#else
#define VLCACHE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define VLCACHE_VERSION_MAJOR 0
#define VLCACHE_VERSION_MINOR 1
#define VLCACHE_VERSION_PATCH 0
#define VLCACHE_VERSION       "0.1.0"

/** Version of the library that is linked, e.g. "0.1.0" (static storage). */
VLCACHE_API const char *vlcache_version(void);

/*
 * Options. A struct of options begins with its size, and has an _INIT with that and every default: start from
 * it. Structs grow at their ends from version to version, and the size tells which one a program was compiled
 * with: what an older one does not have takes its default; what a newer one has beyond the library's must be
 * zero, which is what leaves a new option alone. A size at which no field ends, 0 above all,
 * is VLCACHE_E_ARGUMENT. Where a struct has to be given at least up to some field, its `size` says so.
 */

/** How weights and KV rows are stored on the device. Arithmetic always accumulates in 32-bit floats. */
typedef enum vlcache_dtype {
    VLCACHE_DTYPE_AUTO = 0, /**< the checkpoint's own type */
    VLCACHE_DTYPE_F32 = 1,  /**< IEEE 754 binary32, 4 bytes */
    VLCACHE_DTYPE_F16 = 2,  /**< IEEE 754 binary16, 2 bytes */
    VLCACHE_DTYPE_BF16 = 3, /**< upper half of a binary32, 2 bytes */
} vlcache_dtype;

/** Name of a dtype: "auto", "f32", "f16", "bf16" (static storage); "?" for any other value. */
VLCACHE_API const char *vlcache_dtype_name(vlcache_dtype dtype);

/**
 * Progress of a long operation. `stage` is a short English noun phrase ("loading weights", "building
 * kernels"); `done` of `total` in the unit of the stage (bytes for weights, kernels for builds). Called on
 * the calling thread; the strings live for the call only. Return false to cancel: the operation then ends
 * with VLCACHE_E_CANCELLED.
 */
typedef bool (*vlcache_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/** Severity of a log line. */
typedef enum vlcache_log_level {
    VLCACHE_LOG_ERROR = 0,
    VLCACHE_LOG_WARN = 1,
    VLCACHE_LOG_INFO = 2,
    VLCACHE_LOG_DEBUG = 3,
} vlcache_log_level;

/** Receives one log line without a newline. May be called from any thread that uses the library. */
typedef void (*vlcache_log_fn)(void *user, vlcache_log_level level, const char *line);

/** Sets the process-wide log callback; NULL (the default) is silent. Set it before using other threads. */
VLCACHE_API void vlcache_set_log(vlcache_log_fn fn, void *user);

/**
 * Replaces malloc/realloc/free for the library's own host memory; all three NULL restores the C library's.
 * Set it before anything else is called. `resize` has realloc's contract (NULL block allocates).
 */
VLCACHE_API void vlcache_set_allocator(void *(*resize)(void *user, void *block, size_t bytes),
                                       void (*release)(void *user, void *block), void *user);

/** Frees memory that the library handed out (strings, arrays); NULL is accepted. */
VLCACHE_API void vlcache_free(void *block);

#ifdef __cplusplus
}
#endif
#endif
