/*
 * cache.c - an entry of the kernel cache, as it stands or (first byte odd) under a good seal; what is read of
 * it as speeds of matrix products; and the table of files that vlcache-eval has hashed.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "device/program.h"
#include "eval/fingerprint.h"
#include "fuzz.h"

/* A device that has a cache and nothing else. */
static vlcache_device *device(void) {
    static vlcache_device d = {.references = 1, .caps.info.name = "fuzz"};
    if (d.cache_dir) return &d;
    static char folder[64];
    d.cache_dir = strcpy(folder, fuzz_folder());
    pthread_mutex_init(&d.lock, NULL);
    setenv("XDG_CACHE_HOME", fuzz_folder(), 1);
    FUZZ_HOLDS(mkdir(fuzz_path("vlcache"), 0700) == 0);
    setenv("VLCACHE_GEMM", "", 1);
    return &d;
}

static void read_entry(const uint8_t *data, size_t bytes) {
    size_t n = 0;
    fuzz_write("e.clbin", data, bytes);
    unsigned char *content = vlci_cache_load(device(), "e.clbin", &n);
    FUZZ_HOLDS(!content || (n <= bytes && content[n] == 0));
    vlci_free(content);
}

static void read_speeds(const uint8_t *data, size_t bytes) {
    vlcache_gemm_engine engines[8];
    size_t n = 0;
    char *text = malloc(bytes + 1);
    if (!text) abort();
    memcpy(text, data, bytes);
    text[bytes] = 0;
    vlci_cache_write(device(), "gemm engines " VLCACHE_VERSION " bf16", text);
    free(text);
    vlci_notes_release(device()); /* from the file, not from memory */
    FUZZ_HOLDS(!vlcache_device_gemm(device(), VLCACHE_DTYPE_BF16, false, engines, 8, &n));
    for (size_t i = 0; i < n; i++)
        FUZZ_HOLDS(engines[i].gflops >= 0 && (!engines[i].chosen || engines[i].gflops > 0));
}

static void read_table(const uint8_t *data, size_t bytes) {
    char text[FINGERPRINT_BYTES];
    fuzz_write("vlcache/fingerprints", data, bytes);
    fuzz_write("file", "", 0);
    FUZZ_HOLDS(fingerprint_file(fuzz_path("file"), text) && strlen(text) == FINGERPRINT_BYTES - 1);
    fingerprint_keep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (!bytes || !device()) return 0;
    if (data[0] % 2)
        read_speeds(data + 1, bytes - 1);
    else
        read_entry(data + 1, bytes - 1);
    read_table(data + 1, bytes - 1);
    return 0;
}
