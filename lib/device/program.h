/**
 * program.h - what the files of lib/device share among themselves: built programs and their place on
 * disk.
 */
#ifndef VLCI_DEVICE_PROGRAM_H
#define VLCI_DEVICE_PROGRAM_H

#include "device/device.h"

/** Releases what a device keeps of vlci_cache_write(). */
void vlci_notes_release(vlcache_device *device);

/** Releases every program and kernel of a device. */
void vlci_programs_release(vlcache_device *device);

/** The cache folder in new memory: `asked`, or the default of vlcache_device_options; NULL for none. Not
 * created yet. Errors: VLCACHE_E_NO_MEMORY, `*folder` is NULL then too. */
vlcache_status vlci_cache_folder(const char *asked, char **folder);

/** Whether a program's binary is PTX text. */
bool vlci_ptx_is(const char *text);

/** The PTX, changed as `how` says, in new memory. Errors: VLCACHE_E_BUILD (no PTX, no array to enlarge),
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_ptx_edit(const char *text, const vlci_ptx *how, char **out);

bool vlci_ptx_same(const vlci_ptx *a, const vlci_ptx *b);

/** What tells such a program from others, for keys and messages; "" where `how` changes nothing. */
enum { VLCI_PTX_NAME = 64 };
void vlci_ptx_name(const vlci_ptx *how, char name[VLCI_PTX_NAME]);

/** The text of a program's binary, with a zero behind it, in new memory; NULL where there is none. */
char *vlci_program_binary(cl_program program, size_t *bytes);

/** Whether a program's binary has an ELF file of x86-64 code in it. */
bool vlci_x86_is(const char *binary, size_t bytes);

/** Why this process may not use the matrix unit of the processor that it runs on, or its products of pairs of
 * bf16; NULL: it may, from now on, in all of its threads (x86.c). */
const char *vlci_amx_refused(void);
const char *vlci_dot_refused(void);

/** Learns the device's matrix units into its caps, by trial or from the cache. Errors: VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_CANCELLED. */
vlcache_status vlci_trial(vlcache_device *device);

/** 128-bit fingerprint as 32 hexadecimal digits and a zero. Two independent 64-bit FNV-1a sums. */
void vlci_fingerprint(const char *const *texts, size_t n, char out[33]);

/** Reads `cache_dir`/name whole and checks its seal; NULL when absent or corrupt. New memory. */
unsigned char *vlci_cache_load(const vlcache_device *device, const char *name, size_t *bytes);

/** Writes a sealed file: temporary file, then rename. Failures are logged, never raised: the cache is a
 * convenience. */
void vlci_cache_store(const vlcache_device *device, const char *name, const void *data, size_t bytes);

#endif
