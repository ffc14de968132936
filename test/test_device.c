/*
 * test_device.c - opening devices, building and caching kernels, enqueueing, memory counts.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/suite.h"

static char folder[] = "/tmp/vlcache-test-XXXXXX";

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
    scratch_text("kv.clh", "/* nothing */\n");
    scratch_text("probe.cl", "__kernel void probe(__global float *out) { *out = TWICE(FACTOR); }\n");
    setenv("VLCACHE_KERNEL_DIR", scratch_folder(), 1);
    ck_assert_uint_eq(builds_of_probe(), 1);
    ck_assert_uint_eq(builds_of_probe(), 0);
    scratch_text("shared.h", "#define FACTOR 2\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    scratch_text("common.clh", "#define TWICE(x) ((x) + (x))\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    scratch_text("kv.clh", "/* something */\n");
    ck_assert_uint_eq(builds_of_probe(), 1);
    ck_assert_uint_eq(builds_of_probe(), 0);
    scratch_remove("shared.h");
    const vlci_kernel *kernel = NULL;
    vlcache_device *device = open_cached();
    ck_fails(vlci_kernel_get(device, "probe.cl", "probe", "", &kernel), VLCACHE_E_BUILD, "not there");
    vlcache_device_destroy(&device);
    unsetenv("VLCACHE_KERNEL_DIR");
    scratch_clean();
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

int main(void) {
    if (!mkdtemp(folder)) return EXIT_FAILURE;
    Suite *suite = suite_create("device");
    TCase *all = tcase_create("device");
    tcase_add_test(all, test_list_and_open);
    tcase_add_test(all, test_kernel_cache);
    tcase_add_test(all, test_cache_knows_the_whole_text);
    tcase_add_test(all, test_kernel_failures);
    tcase_add_test(all, test_launch);
    tcase_add_test(all, test_memory_counts);
    tcase_add_test(all, test_wrap);
    tcase_add_test(all, test_profile);
    suite_add_tcase(suite, all);
    int code = suite_run(suite);
    rmdir(folder);
    return code;
}
