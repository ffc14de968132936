/**
 * program.h - what the files of lib/device share among themselves: built programs and their place on
 * disk.
 */
#ifndef VLCI_DEVICE_PROGRAM_H
#define VLCI_DEVICE_PROGRAM_H

#include "device/device.h"

/** Releases every program and kernel of a device. */
void vlci_programs_release(vlcache_device *device);

/** The cache folder in new memory: `asked`, or the default of vlcache_device_options; NULL for none. Not
 * created yet. */
char *vlci_cache_folder(const char *asked);

/** 128-bit fingerprint as 32 hexadecimal digits and a zero. Two independent 64-bit FNV-1a sums. */
void vlci_fingerprint(const char *const *texts, size_t n, char out[33]);

/** Reads `cache_dir`/name whole and checks its seal; NULL when absent or corrupt. New memory. */
unsigned char *vlci_cache_load(const vlcache_device *device, const char *name, size_t *bytes);

/** Writes a sealed file: temporary file, then rename. Failures are logged, never raised: the cache is a
 * convenience. */
void vlci_cache_store(const vlcache_device *device, const char *name, const void *data, size_t bytes);

#endif
