/*
 * tap.c - a stage's values -> a record of the taps file.
 *
 * Little-endian. Magic "VLTAPS01", then records: u32 name length, name, u32 dtype (1: f32), u32 ndim,
 * u64 dims[ndim], data padded to 8 bytes.
 */
#include "device/tap.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"

static bool wanted(const char *name) {
    const char *patterns = getenv("VLCACHE_DUMP");
    for (const char *at = patterns; at && *at;
         at += at[strcspn(at, ",")] == ',' ? strcspn(at, ",") + 1 : strlen(at)) {
        char pattern[128];
        snprintf(pattern, sizeof pattern, "%.*s", (int)strcspn(at, ","), at);
        if (fnmatch(pattern, name, 0) == 0) return true;
    }
    return false;
}

/* Name, dtype, shape and values; two dimensions. */
static bool write_record(FILE *file, const char *name, int rows, int columns, const float *data) {
    const char zeros[8] = "";
    uint32_t length = (uint32_t)strlen(name), kind[2] = {1, 2};
    uint64_t dims[2] = {(uint64_t)rows, (uint64_t)columns};
    size_t n = (size_t)rows * (size_t)columns, padding = n % 2 * sizeof(float);
    bool fresh = fseek(file, 0, SEEK_END) == 0 && ftell(file) == 0;
    return (!fresh || fwrite("VLTAPS01", 8, 1, file) == 1) && fwrite(&length, sizeof length, 1, file) == 1 &&
           fwrite(name, length, 1, file) == 1 && fwrite(kind, sizeof kind, 1, file) == 1 &&
           fwrite(dims, sizeof dims, 1, file) == 1 && fwrite(data, sizeof *data, n, file) == n &&
           fwrite(zeros, 1, padding, file) == padding;
}

static void dump(vlcache_device *device, cl_mem memory, int rows, int columns, const char *name) {
    const char *path = getenv("VLCACHE_DUMP_FILE");
    size_t n = (size_t)rows * (size_t)columns;
    if (!path || !*path) path = "vlcache.taps";
    float *data = vlci_alloc(n, sizeof *data);
    FILE *file = data && !vlci_read(device, memory, 0, data, n * sizeof *data) ? fopen(path, "ab") : NULL;
    bool written = file && write_record(file, name, rows, columns, data);
    if (file) written &= fclose(file) == 0;
    if (!written) vlci_log(VLCACHE_LOG_WARN, "tap %s: cannot be written to %s", name, path);
    vlci_free(data);
}

void vlci_tap(vlcache_device *device, cl_mem memory, int rows, int columns, const char *format, ...) {
    char name[64];
    va_list list;
    if (!getenv("VLCACHE_DUMP")) return;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    if (wanted(name)) dump(device, memory, rows, columns, name);
}
