/**
 * status.h - one truth about success: 0 is good, negative is bad, and the cause in words.
 */
#ifndef VLCACHE_STATUS_H
#define VLCACHE_STATUS_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Every status: X(name, value, text). The enum, vlcache_status_name() and vlcache_status_text() come from
 * this list. */
#define VLCACHE_STATUS_MAP(X)                                                                                \
    X(OK, 0, "success")                                                                                      \
    X(E_ARGUMENT, -1, "invalid argument")                                                                    \
    X(E_IO, -2, "file cannot be read or written")                                                            \
    X(E_FORMAT, -3, "file is malformed")                                                                     \
    X(E_UNSUPPORTED, -4, "valid, but not supported")                                                         \
    X(E_NO_DEVICE, -5, "no matching OpenCL device")                                                          \
    X(E_DEVICE, -6, "OpenCL call failed")                                                                    \
    X(E_BUILD, -7, "OpenCL kernel did not build")                                                            \
    X(E_NO_MEMORY, -8, "out of host memory")                                                                 \
    X(E_DEVICE_MEMORY, -9, "out of device memory")                                                           \
    X(E_CONTEXT_FULL, -10, "prompt does not fit the context")                                                \
    X(E_CANCELLED, -11, "cancelled")                                                                         \
    X(E_INTERNAL, -12, "internal error")

/** Result of every call that can fail. */
typedef enum vlcache_status {
#define VLCACHE_STATUS_ENUM(name, value, text) VLCACHE_##name = value,
    VLCACHE_STATUS_MAP(VLCACHE_STATUS_ENUM)
#undef VLCACHE_STATUS_ENUM
} vlcache_status;

/** "VLCACHE_E_FORMAT" and so on (static storage); "VLCACHE_E_?" for an unknown value. */
VLCACHE_API const char *vlcache_status_name(vlcache_status status);

/** The short text of a status (static storage). */
VLCACHE_API const char *vlcache_status_text(vlcache_status status);

/**
 * The last failure on this thread, taken apart, so that a program need not search prose. No text is ever
 * NULL: "" stands for what is not known or does not apply. Texts are cut at a bound (message 2,047 bytes,
 * file 4,095, field and value 255, hint 1,023).
 *
 *     llava/config.json: text_config.num_hidden_layers: is 0, must be from 1 to 1024
 *     ^ file             ^ field                           ^ value ^ hint
 */
typedef struct vlcache_error {
    size_t size;           /**< how many bytes of this struct the library fills; fields are only ever added */
    vlcache_status status; /**< what the call returned; VLCACHE_OK before any failure */
    const char *message;   /**< all of it in words, as vlcache_error_message() gives it */
    const char *file;      /**< path of the file that is at fault, or the name given to a picture in memory */
    const char *field;     /**< what in that file: a setting ("text_config.hidden_size"), a tensor; without a
                                file an option ("compress.budget", "generate.top_p"), an argument
                                ("session.layer") or a variable of the environment ("VLCACHE_GEMM") */
    const char *value;     /**< what it is, as text: "0", "best" */
    const char *hint;      /**< what it must be, or what to do: "must be from 1 to 1024" */
} vlcache_error;

/** The last failure on this thread: to be asked after a call that failed. Never NULL; it and its texts are
 * owned by the library and valid until the next call on this thread. */
VLCACHE_API const vlcache_error *vlcache_last_error(void);

/**
 * The cause of the last failure on this thread in full: file, field, tensor, kernel, OpenCL error name, and
 * the fix where one is known: vlcache_last_error()->message. Never NULL; "" before any failure. Valid until
 * the next call on this thread.
 */
VLCACHE_API const char *vlcache_error_message(void);

#ifdef __cplusplus
}
#endif
#endif
