/**
 * scratch.h - a temporary folder with files in it, and an allocator that fails at a chosen call and counts
 * what is still held.
 */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/** Makes the folder (once) and returns its path. */
const char *scratch_folder(void);

/** Writes a file into it. */
void scratch_write(const char *name, const void *data, size_t bytes);
void scratch_text(const char *name, const char *text);

/** Removes one file, or a folder with what is in it; or all with the folder. */
void scratch_remove(const char *name);
void scratch_clean(void);

/** From now on allocation number `at` (0 is the next one) fails, and all after it too; -1: none fails. */
void failing_start(long at);

/** Restores the C library's allocator; returns the blocks still held. `*failed`: whether one was refused. */
long failing_stop(bool *failed);

#endif
