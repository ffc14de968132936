/*
 * suite.c - the device under test and comparisons.
 */
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static vlcache_device *device;

bool suite_reduced(void) {
    const char *asked = getenv("VLCACHE_TEST_REDUCED");
    return asked && *asked && strcmp(asked, "0") != 0;
}

vlcache_device *suite_open(void) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    vlcache_device *opened = NULL;
    /* A simulator's build options are its own: the cache's key does not know them. */
    options.cache_dir = suite_reduced() ? "" : VLCACHE_BINARY_DIR "/kernel-cache";
    ck_ok(vlcache_device_open(NULL, &options, &opened));
    return opened;
}

vlcache_device *suite_device(void) {
    if (!device) device = suite_open();
    return device;
}

void suite_close_device(void) {
    vlcache_device_destroy(&device);
}

static uint64_t held;

static void count_before(void) {
    held = vlci_memory_now(suite_device());
}

static void count_after(void) {
    uint64_t now = vlci_memory_now(suite_device());
    ck_assert_msg(now == held, "%llu bytes of device memory before, %llu after", (unsigned long long)held,
                  (unsigned long long)now);
}

void suite_balance(TCase *tests) {
    tcase_add_checked_fixture(tests, count_before, count_after);
}

void suite_set(const char *name, const char *value) {
    if (device) ck_ok(vlci_finish(device));
    ck_assert_int_eq(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

void suite_force(const char *choice) {
    suite_set("VLCACHE_VARIANT", choice);
}

cl_mem suite_upload(const void *data, size_t bytes) {
    cl_mem memory = NULL;
    ck_ok(vlci_memory_create(suite_device(), bytes, "test input", &memory));
    ck_ok(vlci_write(suite_device(), memory, 0, data, bytes));
    return memory;
}

cl_mem suite_poison(size_t bytes) {
    cl_mem memory = NULL;
    size_t padded = (bytes + 3) / 4 * 4;
    ck_ok(vlci_memory_create(suite_device(), padded, "test output", &memory));
    ck_ok(vlci_fill(suite_device(), memory, 0, padded, 0xffffffffu));
    return memory;
}

void suite_download(cl_mem memory, void *data, size_t bytes) {
    ck_ok(vlci_read(suite_device(), memory, 0, data, bytes));
}

void suite_release(cl_mem memory) {
    vlci_memory_release(suite_device(), &memory);
}

float suite_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

void suite_close(const char *what, const float *got, const double *want, size_t n, double atol, double rtol) {
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        ck_assert_msg(error <= atol + rtol * fabs(want[i]), "%s[%zu]: %.9g, expected %.9g", what, i,
                      (double)got[i], want[i]);
    }
}

static uint16_t to_bf16(float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    if (isnan(value)) return 0x7fc0;
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static float from_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
}

static float from_f16(uint16_t h) {
    int exponent = (h >> 10) & 31, mantissa = h & 1023;
    float value = exponent ? ldexpf((float)(mantissa + 1024), exponent - 25) : ldexpf((float)mantissa, -24);
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    return h & 0x8000 ? -value : value;
}

/* Values of tests stay within f16's range, or are NaN: no infinities are made here. */
static uint16_t to_f16(float value) {
    int exponent;
    if (isnan(value)) return 0x7e00;
    float magnitude = fabsf(value);
    if (magnitude == 0) return signbit(value) ? 0x8000 : 0;
    frexpf(magnitude, &exponent);
    int shift = exponent < -13 || magnitude == 0.0f ? -24 : exponent - 11; /* of the last mantissa bit */
    uint32_t units = (uint32_t)rintf(ldexpf(magnitude, -shift));
    uint32_t bits = shift == -24 ? units : units + ((uint32_t)(shift + 24) << 10);
    return (uint16_t)(bits | (signbit(value) ? 0x8000u : 0));
}

void *suite_store(float *data, size_t n, vlcache_dtype dtype) {
    uint16_t *halves = malloc(n * 4 + 4);
    ck_assert_ptr_nonnull(halves);
    if (dtype == VLCACHE_DTYPE_F32) return memcpy(halves, data, n * 4);
    for (size_t i = 0; i < n; i++) {
        halves[i] = dtype == VLCACHE_DTYPE_F16 ? to_f16(data[i]) : to_bf16(data[i]);
        data[i] = dtype == VLCACHE_DTYPE_F16 ? from_f16(halves[i]) : from_bf16(halves[i]);
    }
    return halves;
}

int suite_run(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    suite_close_device();
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
