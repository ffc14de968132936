/*
 * test_device.c - opening devices, building and caching kernels, whom the cache trusts, enqueueing, memory
 * counts.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "device/program.h"
#include "support/scratch.h"
#include "support/suite.h"

static char folder[] = "/tmp/vlcache-test-XXXXXX";

/* In front of the loader's own: one query fails with a code of our choice. */
static struct {
    cl_device_info what;
    cl_int code;
} deaf;

CL_API_ENTRY cl_int CL_API_CALL clGetDeviceInfo(cl_device_id id, cl_device_info what, size_t bytes,
                                                void *value, size_t *needs) {
    static cl_int (*next)(cl_device_id, cl_device_info, size_t, void *, size_t *);
    if (deaf.code && what == deaf.what) return deaf.code;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clGetDeviceInfo");
    return next(id, what, bytes, value, needs);
}

static void empty_folder(void) {
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    char path[512];
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    closedir(dir);
}

static vlcache_device *open_cached(void) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    options.cache_dir = folder;
    vlcache_device *opened = NULL;
    ck_ok(vlcache_device_open(NULL, &options, &opened));
    return opened;
}

/* The same for the lists of platforms and devices. */
static cl_int list_code[2];

CL_API_ENTRY cl_int CL_API_CALL clGetPlatformIDs(cl_uint room, cl_platform_id *ids, cl_uint *n) {
    static cl_int (*next)(cl_uint, cl_platform_id *, cl_uint *);
    if (list_code[0]) return list_code[0];
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clGetPlatformIDs");
    return next(room, ids, n);
}

CL_API_ENTRY cl_int CL_API_CALL clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint room,
                                               cl_device_id *ids, cl_uint *n) {
    static cl_int (*next)(cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *);
    if (list_code[1]) return list_code[1];
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clGetDeviceIDs");
    return next(platform, type, room, ids, n);
}

/* And for what needs memory of the host: it is short. */
static bool starved;

CL_API_ENTRY cl_mem CL_API_CALL clCreateBuffer(cl_context context, cl_mem_flags flags, size_t bytes,
                                               void *from, cl_int *code) {
    static cl_mem (*next)(cl_context, cl_mem_flags, size_t, void *, cl_int *);
    if (starved) return *code = CL_OUT_OF_HOST_MEMORY, NULL;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clCreateBuffer");
    return next(context, flags, bytes, from, code);
}

CL_API_ENTRY cl_int CL_API_CALL clSetKernelArg(cl_kernel kernel, cl_uint index, size_t bytes,
                                               const void *value) {
    static cl_int (*next)(cl_kernel, cl_uint, size_t, const void *);
    if (starved) return CL_OUT_OF_HOST_MEMORY;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clSetKernelArg");
    return next(kernel, index, bytes, value);
}

CL_API_ENTRY cl_program CL_API_CALL clCreateProgramWithSource(cl_context context, cl_uint n,
                                                              const char **texts, const size_t *bytes,
                                                              cl_int *code) {
    static cl_program (*next)(cl_context, cl_uint, const char **, const size_t *, cl_int *);
    if (starved) return *code = CL_OUT_OF_HOST_MEMORY, NULL;
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clCreateProgramWithSource");
    return next(context, n, texts, bytes, code);
}

/* Overwrites bytes of every cached file with `write_at`, to see that it is not believed. */
static int damage(long at, const char *with) {
    DIR *dir = opendir(folder);
    int n = 0;
    char path[512];
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "r+b");
        ck_assert_ptr_nonnull(file);
        fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
        fputs(with, file);
        fclose(file);
        n++;
    }
    closedir(dir);
    return n;
}

START_TEST(test_list_and_open) {
    vlcache_device_info infos[16];
    size_t n = 0;
    ck_ok(vlcache_device_list(infos, 16, &n));
    ck_assert_uint_ge(n, 1);
    for (size_t i = 0; i < n && i < 16; i++) {
        ck_assert_int_eq(infos[i].index, (int)i);
        ck_assert_uint_gt(strlen(infos[i].name), 0);
        ck_assert_uint_gt(infos[i].global_memory, 0);
        char part[8] = "";
        memcpy(part, infos[i].name, 4);
        vlcache_device *opened = NULL;
        ck_ok(vlcache_device_open(part, NULL, &opened));
        vlcache_device_destroy(&opened);
        ck_assert_ptr_null(opened);
    }
    vlcache_device *opened = (vlcache_device *)&n;
    ck_fails(vlcache_device_open("no such device", NULL, &opened), VLCACHE_E_NO_DEVICE, infos[0].name);
    ck_assert_ptr_null(opened);
    ck_fails(vlcache_device_open("99999", NULL, &opened), VLCACHE_E_NO_DEVICE, "99999");
}
END_TEST

START_TEST(test_kernel_cache) {
    empty_folder();
    const vlci_kernel *kernel = NULL, *again = NULL;
    vlcache_device *first = open_cached();
    ck_ok(vlci_kernel_get(first, "probe.cl", "probe", "", &kernel));
    ck_assert_uint_eq(vlci_kernel_builds(first), 1);
    ck_ok(vlci_kernel_get(first, "probe.cl", "probe", "", &again));
    ck_assert_ptr_eq(kernel, again);
    vlcache_device_destroy(&first);
    vlcache_device *second = open_cached();
    ck_ok(vlci_kernel_get(second, "probe.cl", "probe", "", &kernel));
    ck_assert_uint_eq(vlci_kernel_builds(second), 0);
    vlcache_device_destroy(&second);
    static const struct {
        long at;
        const char *with;
    } wounds[] = {{0, "XX"}, {9, "zzzz"}, {30, "torn"}, {-1, "more"}};
    for (size_t i = 0; i < sizeof wounds / sizeof *wounds; i++) {
        ck_assert_int_eq(damage(wounds[i].at, wounds[i].with), 1);
        vlcache_device *third = open_cached();
        ck_ok(vlci_kernel_get(third, "probe.cl", "probe", "", &kernel));
        ck_assert_uint_eq(vlci_kernel_builds(third), 1);
        vlcache_device_destroy(&third);
    }
    empty_folder();
}
END_TEST

/* Programs compiled for the probe by a fresh device, with the kernels of the scratch folder. */
static unsigned builds_of_probe(void) {
    const vlci_kernel *kernel = NULL;
    vlcache_device *device = open_cached();
    ck_ok(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel));
    unsigned builds = vlci_kernel_builds(device);
    vlcache_device_destroy(&device);
    return builds;
}

/* Whatever stands in front of a kernel file is part of its program: when it changes, so does the binary. */
START_TEST(test_cache_knows_the_whole_text) {
    empty_folder();
    scratch_text("shared.h", "#define FACTOR 1\n");
    scratch_text("common.clh", "#define TWICE(x) (2 * (x))\n");
    scratch_text("kv.clh", "");
    scratch_text("probe.cl", "__kernel void probe(__global float *out) { *out = TWICE(FACTOR); }\n");
    suite_set("VLCACHE_KERNEL_DIR", scratch_folder());
    ck_assert_uint_eq(builds_of_probe(), 1);
    ck_assert_uint_eq(builds_of_probe(), 0);
    scratch_text("shared.h", "#define FACTOR 2\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    scratch_text("common.clh", "#define TWICE(x) ((x) + (x))\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    scratch_text("kv.clh", "#define ROW(x) (x)\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    ck_assert_uint_eq(builds_of_probe(), 0);
    scratch_remove("shared.h");
    const vlci_kernel *kernel = NULL;
    vlcache_device *device = open_cached();
    ck_fails(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel), VLCACHE_E_BUILD, "not there");
    vlcache_device_destroy(&device);
    suite_set("VLCACHE_KERNEL_DIR", NULL);
    scratch_clean();
    empty_folder();
}
END_TEST

/* The one entry of the cache that holds a binary. */
static void entry_path(char path[512]) {
    DIR *dir = opendir(folder);
    path[0] = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".clbin")) snprintf(path, 512, "%s/%s", folder, entry->d_name);
    closedir(dir);
    ck_assert_msg(path[0], "nothing was cached");
}

/* Gets the kernel with a new device, which must compile `builds` times. */
static void get_probe(unsigned builds) {
    ck_assert_uint_eq(builds_of_probe(), builds);
}

static char last_log[1024];

static void keep_log(void *user, vlcache_log_level level, const char *line) {
    (void)user;
    if (level == VLCACHE_LOG_WARN) snprintf(last_log, sizeof last_log, "%s", line);
}

/* An entry that others could have put there is not run, but built again; a folder, not used at all. */
START_TEST(test_cache_trust) {
    char entry[512], kept[512];
    empty_folder();
    vlcache_set_log(keep_log, NULL);
    get_probe(1);
    get_probe(0);
    entry_path(entry);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    ck_assert_int_eq(chmod(entry, 0620), 0);
    get_probe(1);
    ck_assert_ptr_nonnull(strstr(last_log, "written by others"));
    get_probe(0); /* what replaced it is ours alone */
    ck_assert_int_eq(chmod(entry, 0602), 0);
    get_probe(1);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(entry, 1234, 0), 0);
        get_probe(1);
        ck_assert_ptr_nonnull(strstr(last_log, "another user"));
    }
    ck_assert_int_eq(rename(entry, kept), 0);
    ck_assert_int_eq(symlink(kept, entry), 0);
    get_probe(1);
    unlink(entry);
    ck_assert_int_eq(mkfifo(entry, 0600), 0);
    get_probe(1); /* and does not wait for a writer */
    get_probe(0);
    ck_assert_int_eq(chmod(folder, 0770), 0);
    get_probe(1);
    ck_assert_ptr_nonnull(strstr(last_log, "is not used"));
    get_probe(1); /* nothing was stored there either */
    ck_assert_int_eq(chmod(folder, 0700), 0);
    get_probe(0);
    vlcache_set_log(NULL, NULL);
    empty_folder();
}
END_TEST

static void count_log(void *user, vlcache_log_level level, const char *line) {
    *(int *)user += level == VLCACHE_LOG_WARN && strstr(line, "cannot be written: ") != NULL;
}

/* A disk that is full is told of once, not for each of the kernels, and nothing torn is left. */
START_TEST(test_cache_full) {
    struct rlimit before, little;
    char name[32];
    int told = 0, entries = 0;
    empty_folder();
    vlcache_device *device = open_cached();
    vlcache_set_log(count_log, &told);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = (struct rlimit){16, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%d.clbin", i);
        vlci_cache_store(device, name, "a program", 9);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    vlcache_set_log(NULL, NULL);
    vlcache_device_destroy(&device);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir));) entries += strstr(entry->d_name, ".clbin") != NULL;
    closedir(dir);
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(entries, 0);
    empty_folder();
}
END_TEST

/* A seal says that a file is whole, not that the driver takes it, nor that it holds our kernels. */
START_TEST(test_cache_unusable) {
    char probe[512], act[512];
    const vlci_kernel *kernel = NULL;
    empty_folder();
    get_probe(1);
    entry_path(probe);
    vlcache_device *device = open_cached();
    vlci_cache_store(device, strrchr(probe, '/') + 1, "no program", 10);
    vlcache_device_destroy(&device);
    get_probe(1);
    get_probe(0);
    unlink(probe);
    device = open_cached();
    ck_ok(vlci_kernel_get(device, "act.cl", "gated_act", "", &kernel));
    vlcache_device_destroy(&device);
    entry_path(act);
    ck_assert_int_eq(rename(act, probe), 0);
    get_probe(1);
    get_probe(0);
    empty_folder();
}
END_TEST

/* Binaries that are not to be kept are not looked for either. */
START_TEST(test_no_binaries) {
    vlcache_device *device = NULL;
    empty_folder();
    suite_set("VLCACHE_KERNEL_BINARIES", "none");
    get_probe(1);
    get_probe(1);
    suite_set("VLCACHE_KERNEL_BINARIES", NULL);
    get_probe(1);
    get_probe(0);
    suite_set("VLCACHE_KERNEL_BINARIES", "none");
    get_probe(1);
    suite_set("VLCACHE_KERNEL_BINARIES", "some");
    ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_ARGUMENT, "VLCACHE_KERNEL_BINARIES");
    suite_set("VLCACHE_KERNEL_BINARIES", NULL);
    empty_folder();
}
END_TEST

/* What was built by one driver for one device is not taken for another. */
START_TEST(test_cache_key) {
    empty_folder();
    get_probe(1);
    for (int i = 0; i < 4; i++) {
        const vlci_kernel *kernel = NULL;
        char *text = NULL;
        vlcache_device *device = open_cached();
        vlcache_device_info *info = &device->caps.info;
        char *fields[] = {info->platform, info->name, info->driver, info->version};
        vlci_cache_write(device, "key", "measured");
        strcat(fields[i], "+1");
        ck_assert(!vlci_cache_read(device, "key", &text));
        ck_ok(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel));
        ck_assert_msg(vlci_kernel_builds(device) == 1, "field %d is not in the key", i);
        vlcache_device_destroy(&device);
    }
    empty_folder();
}
END_TEST

/* A device that does not answer is not therefore big-endian, or gone. */
START_TEST(test_deaf_device) {
    static const cl_device_info asked[] = {CL_DEVICE_AVAILABLE, CL_DEVICE_COMPILER_AVAILABLE,
                                           CL_DEVICE_ENDIAN_LITTLE};
    vlcache_device *device = NULL;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        deaf.what = asked[i];
        deaf.code = CL_INVALID_DEVICE;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_DEVICE, "CL_INVALID_DEVICE");
        deaf.code = CL_OUT_OF_HOST_MEMORY;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
        deaf.code = CL_OUT_OF_RESOURCES;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_DEVICE_MEMORY, "does not answer");
        ck_assert_ptr_null(device);
    }
    /* lack of memory is not the lack of a device, nor another name of it */
    static const cl_device_info names[] = {CL_DEVICE_NAME, CL_DRIVER_VERSION, CL_DEVICE_EXTENSIONS,
                                           CL_DEVICE_PLATFORM, CL_DEVICE_GLOBAL_MEM_SIZE};
    vlcache_device_info info;
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        deaf.what = names[i];
        deaf.code = CL_OUT_OF_HOST_MEMORY;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
        ck_fails(vlcache_device_open("a name", NULL, &device), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
        ck_fails(vlcache_device_list(&info, 1, &n), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
    }
    /* nor is a device that says nothing one of 0 bytes; it may be the one that was asked for, and is listed
     * with a word */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        deaf.what = names[i];
        deaf.code = CL_INVALID_DEVICE;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_DEVICE,
                 "does not answer: CL_INVALID_DEVICE");
        ck_fails(vlcache_device_open("a name", NULL, &device), VLCACHE_E_DEVICE, "does not answer");
        vlcache_set_log(keep_log, NULL);
        ck_ok(vlcache_device_list(&info, 1, &n));
        ck_assert_ptr_nonnull(strstr(last_log, "does not answer: CL_INVALID_DEVICE"));
        vlcache_set_log(NULL, NULL);
        deaf.code = CL_INVALID_VALUE; /* a question that it does not know */
        ck_ok(vlcache_device_open(NULL, NULL, &device));
        vlcache_device_destroy(&device);
    }
    deaf.code = 0;
    for (int i = 0; i < 2; i++) {
        list_code[i] = CL_OUT_OF_RESOURCES;
        ck_fails(vlcache_device_list(&info, 1, &n), VLCACHE_E_NO_DEVICE, "the list of");
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_NO_DEVICE, "CL_OUT_OF_RESOURCES");
        list_code[i] = CL_OUT_OF_HOST_MEMORY;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
        ck_fails(vlcache_device_list(&info, 1, &n), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
        list_code[i] = i ? CL_DEVICE_NOT_FOUND : -1001;
        ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_NO_DEVICE, "no OpenCL device");
        list_code[i] = 0;
    }
    for (cl_int code = -1; code >= -19; code--)
        ck_assert_msg(!strstr(vlci_cl_error(code), "unknown"), "%d has no name", code);
    for (cl_int code = -30; code >= -68; code--)
        ck_assert_msg(!strstr(vlci_cl_error(code), "unknown"), "%d has no name", code);
}
END_TEST

/* Whichever allocation fails, the device is opened and the kernel got, or memory is said to be short. */
START_TEST(test_open_memory) {
    bool failed = true;
    empty_folder();
    get_probe(1);
    for (long at = 0; failed; at++) {
        vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
        vlcache_device *device = NULL;
        const vlci_kernel *kernel = NULL;
        options.cache_dir = folder;
        failing_start(at);
        vlcache_status status = vlcache_device_open(NULL, &options, &device);
        if (!status) status = vlci_kernel_get(device, "probe.cl", "probe", "", &kernel);
        vlcache_device_destroy(&device);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_msg(!status || (failed && status == VLCACHE_E_NO_MEMORY), "allocation %ld: %s: %s", at,
                      vlcache_status_name(status), vlcache_error_message());
    }
    empty_folder();
}
END_TEST

START_TEST(test_kernel_failures) {
    const vlci_kernel *kernel = NULL;
    ck_fails(vlci_kernel_get(suite_device(), "absent.cl", "x", "", &kernel), VLCACHE_E_BUILD, "absent.cl");
    ck_fails(vlci_kernel_get(suite_device(), "probe.cl", "probe", "-Dscale=)", &kernel), VLCACHE_E_BUILD,
             "probe.cl");
    ck_fails(vlci_kernel_get(suite_device(), "probe.cl", "absent", "", &kernel), VLCACHE_E_BUILD, "absent");
    ck_assert_ptr_null(kernel);
}
END_TEST

START_TEST(test_launch) {
    enum { N = 1000 };
    const vlci_kernel *kernel = NULL;
    ck_ok(vlci_kernel_get(suite_device(), "probe.cl", "probe", "", &kernel));
    cl_mem out = suite_poison(N * sizeof(float));
    ck_ok(VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(N, 1, 1, 1, 1, 1), VLCI_MEM(out), VLCI_F32(0.5f)));
    float got[N];
    suite_download(out, got, sizeof got);
    for (int i = 0; i < N; i++) ck_assert_float_eq(got[i], 0.5f * (float)i);
    ck_fails(VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), VLCI_MEM(out)),
             VLCACHE_E_INTERNAL, "takes 2 arguments");
    ck_fails(VLCI_LAUNCH(suite_device(), kernel, VLCI_GRID(1, 1, 1, 1 << 20, 1, 1), VLCI_MEM(out),
                         VLCI_F32(1)),
             VLCACHE_E_INTERNAL, "work-group");
    suite_release(out);
}
END_TEST

/* The host's memory is not the device's, nor are kernels bad that there was no room for. */
START_TEST(test_starved_host) {
    const vlci_kernel *kernel = NULL, *other = NULL;
    vlcache_device *dev = suite_device();
    cl_mem memory = NULL, out = suite_poison(64);
    ck_fails(vlci_fail_call(dev, "x", CL_OUT_OF_HOST_MEMORY), VLCACHE_E_NO_MEMORY, "CL_OUT_OF_HOST_MEMORY");
    ck_fails(vlci_fail_call(dev, "x", CL_OUT_OF_RESOURCES), VLCACHE_E_DEVICE_MEMORY, "x on");
    ck_fails(vlci_fail_call(dev, "x", CL_INVALID_VALUE), VLCACHE_E_DEVICE, "x on");
    ck_ok(vlci_kernel_get(dev, "probe.cl", "probe", "", &kernel));
    starved = true;
    vlcache_status created = vlci_memory_create(dev, 64, "starved", &memory);
    vlcache_status built = vlci_kernel_get(dev, "probe.cl", "probe", "-DSTARVED", &other);
    vlcache_status run =
        VLCI_LAUNCH(dev, kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), VLCI_MEM(out), VLCI_F32(0.25f));
    starved = false;
    ck_assert_int_eq(created, VLCACHE_E_NO_MEMORY);
    ck_assert_int_eq(built, VLCACHE_E_NO_MEMORY);
    ck_assert_int_eq(run, VLCACHE_E_NO_MEMORY);
    ck_assert(!memory && !other);
    ck_ok(VLCI_LAUNCH(dev, kernel, VLCI_GRID(1, 1, 1, 1, 1, 1), VLCI_MEM(out), VLCI_F32(0.25f)));
    suite_release(out);
}
END_TEST

START_TEST(test_memory_counts) {
    vlcache_device *dev = suite_device();
    uint64_t before = vlci_memory_now(dev);
    cl_mem memory = NULL;
    ck_ok(vlci_memory_create(dev, 12345, "count", &memory));
    ck_assert_uint_eq(vlci_memory_now(dev), before + 12345);
    vlci_memory_release(dev, &memory);
    ck_assert_ptr_null(memory);
    ck_assert_uint_eq(vlci_memory_now(dev), before);
    ck_assert_uint_ge(vlci_memory_peak(dev), before + 12345);
    ck_fails(vlci_memory_create(dev, SIZE_MAX / 2, "the moon", &memory), VLCACHE_E_DEVICE_MEMORY, "the moon");
    ck_assert_ptr_null(memory);
}
END_TEST

START_TEST(test_wrap) {
    vlcache_device *own = suite_device(), *wrapped = NULL;
    ck_ok(vlcache_device_wrap(own->context, own->id, own->queue, NULL, &wrapped));
    vlcache_device_info info;
    vlcache_device_describe(wrapped, &info);
    ck_assert_int_eq(info.index, -1);
    vlcache_device_destroy(&wrapped);
    ck_fails(vlcache_device_wrap(own->context, own->id, NULL, NULL, &wrapped), VLCACHE_E_ARGUMENT, "NULL");
}
END_TEST

/* One kernel, launched three times, is in the account by name. */
START_TEST(test_profile) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    vlcache_device *device = NULL;
    vlcache_kernel_profile profile[4];
    const vlci_kernel *kernel;
    cl_mem memory = NULL;
    size_t count = 9;
    options.profile = true;
    ck_ok(vlcache_device_open(NULL, &options, &device));
    ck_ok(vlcache_device_profile(device, profile, 4, &count));
    ck_assert_uint_eq(count, 0);
    ck_ok(vlci_kernel_get(device, "act.cl", "gated_act", "", &kernel));
    ck_ok(vlci_memory_create(device, 4096 * 3 * sizeof(float), "profile", &memory));
    ck_ok(vlci_fill(device, memory, 0, 4096 * 3 * sizeof(float), 0));
    for (int i = 0; i < 3; i++)
        ck_ok(VLCI_LAUNCH(device, kernel, VLCI_GRID(1024, 1, 1, 1, 1, 1), VLCI_MEM(memory), VLCI_MEM(memory),
                          VLCI_I32(1024)));
    ck_ok(vlcache_device_profile(device, profile, 4, &count));
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(profile[0].name, "gated_act");
    ck_assert_uint_eq(profile[0].calls, 3);
    ck_assert(profile[0].ms > 0.0 && profile[0].ms < 10000.0);
    vlci_memory_release(device, &memory);
    vlcache_device_destroy(&device);
    ck_fails(vlcache_device_open("nothing like that", NULL, &device), VLCACHE_E_NO_DEVICE,
             "no OpenCL device matches");
    ck_assert_str_eq(vlcache_last_error()->value, "nothing like that");
    options.size = 1;
    ck_fails(vlcache_device_open(NULL, &options, &device), VLCACHE_E_ARGUMENT, "VLCACHE_DEVICE_OPTIONS_INIT");
}
END_TEST

/* ---- PTX ----------------------------------------------------------------------------------------------- */

static const char ptx_text[] =
    "//\n.version 8.8\n.target sm_90, texmode_independent\n.entry k(\n)\n.reqntid 384, 1, 1\n{\n"
    ".shared .align 1024 .b8 k_$_smem[1024];\n//~ wgmma.fence;\n\t//~ wgmma.wait;\n// kept\n}\n";

START_TEST(test_ptx_edit) {
    const vlci_ptx whole = {.target = "sm_90a", .local_bytes = 200000, .groups = 1};
    char *edited = NULL;
    ck_ok(vlci_ptx_edit(ptx_text, &whole, &edited));
    ck_assert_str_eq(edited,
                     "//\n.version 8.8\n.target sm_90a, texmode_independent\n.entry k(\n)\n.minnctapersm 1\n"
                     ".reqntid 384, 1, 1\n{\n.shared .align 1024 .b8 k_$_smem[200000];\n    wgmma.fence;\n"
                     "\t    wgmma.wait;\n// kept\n}\n");
    vlci_free(edited);
    ck_ok(
        vlci_ptx_edit(ptx_text, &(vlci_ptx){.target = ""}, &edited)); /* the driver's own target, as large */
    ck_assert_ptr_nonnull(strstr(edited, ".target sm_90, tex"));
    ck_assert_ptr_nonnull(strstr(edited, "smem[1024]"));
    ck_assert_ptr_null(strstr(edited, ".minnctapersm"));
    vlci_free(edited);
    ck_fails(vlci_ptx_edit("\177ELF", &whole, &edited), VLCACHE_E_BUILD, "no PTX");
    ck_fails(vlci_ptx_edit(".version 8.0\n.target sm_90\n", &whole, &edited), VLCACHE_E_BUILD,
             "no array smem");
    ck_assert_ptr_null(edited);
}
END_TEST

/* Which drivers' binaries are x86 code: only those are shown its assembly. */
START_TEST(test_x86_code) {
    const vlci_kernel *kernel;
    cl_program program = NULL;
    size_t bytes = 0;
    ck_ok(vlci_kernel_get(suite_device(), "probe.cl", "probe", "", &kernel));
    ck_assert_int_eq(clGetKernelInfo(kernel->handle, CL_KERNEL_PROGRAM, sizeof program, &program, NULL), 0);
    char *binary = vlci_program_binary(program, &bytes);
    bool x86 = binary && vlci_x86_is(binary, bytes);
    vlci_free(binary);
#ifdef __x86_64__
    ck_assert_int_eq(x86, !strcmp(suite_device()->caps.info.platform, "Portable Computing Language"));
#else
    ck_assert(!x86);
#endif
    static const char elf[] = "....\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\76\0";
    ck_assert(vlci_x86_is(elf, sizeof elf - 1));
    ck_assert(!vlci_x86_is(elf, sizeof elf - 2) && !vlci_x86_is(elf, 8) && !vlci_x86_is(elf, 0));
    ck_assert(!vlci_x86_is(elf + 5, sizeof elf - 6));
}
END_TEST

/* A device whose binaries are something else has no such kernels, and says so; one that has matrix units has
 * shown it. */
START_TEST(test_matrix_units) {
    vlcache_device *device = NULL;
    suite_set("VLCACHE_MATRIX_UNITS", "some");
    ck_fails(vlcache_device_open(NULL, NULL, &device), VLCACHE_E_ARGUMENT, "VLCACHE_MATRIX_UNITS");
    suite_set("VLCACHE_MATRIX_UNITS", NULL);
    device = open_cached();
    const vlci_kernel *kernel;
    vlcache_device_info info;
    vlcache_device_describe(device, &info);
    if (!device->caps.mma)
        ck_fails(vlci_kernel_get_ptx(device, "probe.cl", "probe", "", &(vlci_ptx){.target = ""}, &kernel),
                 VLCACHE_E_BUILD, "");
    else
        ck_assert_ptr_nonnull(strstr(info.matrix_units, "mma"));
    ck_assert(!device->caps.wgmma || device->caps.mma);
    bool processor = device->caps.wide_vectors;
    const char *amx = processor ? strstr(info.matrix_units, "amx") : NULL,
               *dot = processor ? strstr(info.matrix_units, "avx512_bf16") : NULL;
    ck_assert(!processor == !amx && !processor == !dot);
    ck_assert_int_eq(device->caps.amx, amx && strncmp(amx, "amx: ", 5) != 0);
    ck_assert_int_eq(device->caps.dot, dot && strncmp(dot, "avx512_bf16: ", 13) != 0);
    ck_assert(!vlci_amx_refused() || !device->caps.amx);
    ck_assert(!vlci_dot_refused() || !device->caps.dot);
    printf("matrix units: %s\n", info.matrix_units);
    vlcache_device_destroy(&device);
    suite_set("VLCACHE_MATRIX_UNITS", "none");
    empty_folder();
}
END_TEST

int main(void) {
    if (!mkdtemp(folder)) return EXIT_FAILURE;
    setenv("VLCACHE_MATRIX_UNITS", "none", 1); /* their trials would be among the builds that are counted */
    Suite *suite = suite_create("device");
    TCase *all = tcase_create("device");
    tcase_add_test(all, test_list_and_open);
    tcase_add_test(all, test_ptx_edit);
    tcase_add_test(all, test_x86_code);
    tcase_add_test(all, test_matrix_units);
    tcase_add_test(all, test_kernel_cache);
    tcase_add_test(all, test_cache_knows_the_whole_text);
    tcase_add_test(all, test_cache_trust);
    tcase_add_test(all, test_cache_unusable);
    tcase_add_test(all, test_cache_full);
    tcase_add_test(all, test_cache_key);
    tcase_add_test(all, test_no_binaries);
    tcase_add_test(all, test_deaf_device);
    tcase_add_test(all, test_open_memory);
    tcase_add_test(all, test_kernel_failures);
    tcase_add_test(all, test_launch);
    tcase_add_test(all, test_starved_host);
    tcase_add_test(all, test_memory_counts);
    tcase_add_test(all, test_wrap);
    tcase_add_test(all, test_profile);
    suite_add_tcase(suite, all);
    int code = suite_run(suite);
    rmdir(folder);
    return code;
}
