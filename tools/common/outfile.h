/**
 * outfile.h - a file that a flag names and that is written whole or not at all.
 *
 *     new, or a regular file    written beside its place, under a name that nobody can foresee, and renamed
 *     /dev/stdout, /dev/fd/N    written through to what is open there
 *     a pipe, a terminal, ...   written through
 *     a symbolic link, a folder, a disk    refused: the name does not say what would be lost
 */
#ifndef COMMON_OUTFILE_H
#define COMMON_OUTFILE_H

#include "common/console.h"

typedef struct outfile {
    const char *flag, *path; /* "--report", as in messages */
    FILE *file;
    int fd;
    char *draft; /* what will take the place of `path`; NULL: written through */
    int failure; /* errno of the first write that failed; 0: none */
} outfile;

/** Whether it could be opened, before hours are spent; leaves nothing behind. Returns an exit code. */
int outfile_check(const char *flag, const char *path, console *c);

/** Opens it; both texts must outlive it, and it must stay where it is. Returns an exit code; outfile_close()
 * in any case. */
int outfile_open(outfile *o, const char *flag, const char *path, console *c);

/** Puts it in its place, on disk, where `keep` is set and all of it was written; otherwise what was there
 * stays. Returns an exit code, EXIT_OK where a reader has left. */
int outfile_close(outfile *o, bool keep, console *c);

/** Whether it would take the place of `other`, or is going to be the same file: something that is read. */
bool outfile_replaces(const char *path, const char *other);

/** Whether it would be written through: such a name stands for one file, and for no others beside it. */
bool outfile_is_stream(const char *path);

/** Makes the entry of a file that is new in its folder survive a failing machine, where that can be done. */
void outfile_sync_folder(const char *path);

#endif
