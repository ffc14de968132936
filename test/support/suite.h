/**
 * suite.h - what every suite shares: opening the device under test, and comparing with a reference.
 */
#ifndef TEST_SUPPORT_SUITE_H
#define TEST_SUPPORT_SUITE_H

#include <check.h>

#include "device/device.h"

/** Fails the test with the library's own message unless `call` succeeds. */
#define ck_ok(call)                                                                                          \
    do {                                                                                                     \
        vlcache_status ck_status_ = (call);                                                                  \
        ck_assert_msg(ck_status_ == VLCACHE_OK, "%s: %s: %s", #call, vlcache_status_name(ck_status_),        \
                      vlcache_error_message());                                                              \
    } while (0)

/** Fails unless `call` gives `status` and the message contains `part`. */
#define ck_fails(call, status, part)                                                                         \
    do {                                                                                                     \
        vlcache_status ck_status_ = (call);                                                                  \
        ck_assert_msg(ck_status_ == (status), "%s: %s, expected %s: %s", #call,                              \
                      vlcache_status_name(ck_status_), vlcache_status_name(status),                          \
                      vlcache_error_message());                                                              \
        ck_assert_msg(strstr(vlcache_error_message(), (part)) != NULL, "\"%s\" lacks \"%s\"",                \
                      vlcache_error_message(), (part));                                                      \
    } while (0)

/** The device under test: $VLCACHE_DEVICE or the first; opened once, kernels cached in the build folder. */
vlcache_device *suite_device(void);

/** The same once more, for a test that counts what is held: what others have left does not show. To be
 * destroyed. */
vlcache_device *suite_open(void);

/** Each test of a case leaves as much device memory held as it found. One that fails is one failure: those
 * after it count from what it has left. */
void suite_balance(TCase *tests);

/** Closes it: the next use opens it anew, as the environment says then. */
void suite_close_device(void);

/**
 * Whether VLCACHE_TEST_REDUCED asks for a small selection of sizes that still visits every kernel, rung and
 * branch: simulated devices are some thousand times slower.
 */
bool suite_reduced(void);

/** Sets a variable of the environment, NULL: unsets it. What the device runs ends before: threads of a driver
 * read the environment while they work, which nobody may change then. */
void suite_set(const char *name, const char *value);

/** Forces a rung, VLCACHE_VARIANT=choice; NULL: none any more. */
void suite_force(const char *choice);

/** Uploads host memory to a new buffer; fails the test when it cannot. */
cl_mem suite_upload(const void *data, size_t bytes);

/** A buffer of `bytes` filled with 0xff bytes (NaN as floats), so that unwritten output shows. */
cl_mem suite_poison(size_t bytes);

/** Reads a buffer back. */
void suite_download(cl_mem memory, void *data, size_t bytes);

/** Releases a buffer made here. */
void suite_release(cl_mem memory);

/** Deterministic pseudo-random numbers: uniform in [-1, 1). */
float suite_random(uint64_t *state);

/** |got - want| <= atol + rtol * |want| for each of n values; NaN fails. `what` names the values. */
void suite_close(const char *what, const float *got, const double *want, size_t n, double atol, double rtol);

/** Stores n floats in a dtype (round to nearest even) and widens them back into `data`, as the device will
 * see them. New memory (free) with the stored bytes. */
void *suite_store(float *data, size_t n, vlcache_dtype dtype);

/** Runs one suite, closes the device, returns main's exit code. */
int suite_run(Suite *suite);

#endif
