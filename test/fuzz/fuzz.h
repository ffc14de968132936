/**
 * fuzz.h - what the targets of libFuzzer share. A target is a file of this folder: the way in that it is
 * called after, fed with bytes; where a promise can be checked it is, with FUZZ_HOLDS.
 *
 * An input for several files at once is their contents, parted by zero bytes (no text has one).
 */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "common/console.h"

/** What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/** Ends the run as a finding unless the promise holds. */
#define FUZZ_HOLDS(promise)                                                                                  \
    do {                                                                                                     \
        if (!(promise)) __builtin_trap();                                                                    \
    } while (0)

/** Bytes not taken yet. */
typedef struct fuzz_input {
    const uint8_t *data;
    size_t bytes;
} fuzz_input;

/** A new text (free): up to the next zero byte, which is taken too, or to the end. */
char *fuzz_text(fuzz_input *in);

/** The next number below `most`, from two bytes; 0 at the end. */
unsigned fuzz_number(fuzz_input *in, unsigned most);

/** This process's own folder, in memory, and writing a file into it; gone at the end. */
const char *fuzz_folder(void);
void fuzz_write(const char *name, const void *data, size_t bytes);
void fuzz_remove(const char *name);

/** "folder/name" (static storage, of the last call). */
const char *fuzz_path(const char *name);

/** Writes the next text into a file, unless it is empty: then there is no such file. */
void fuzz_write_text(fuzz_input *in, const char *name);

/** Where the tools' words go: nowhere. */
console *fuzz_console(void);

#endif
