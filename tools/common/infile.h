/**
 * infile.h - all of a file or pipe, read without ever waiting for something that cannot come.
 */
#ifndef COMMON_INFILE_H
#define COMMON_INFILE_H

#include <stddef.h>
#include <stdint.h>

#include <vlcache/image.h>

typedef struct infile {
    uint8_t *data; /* a zero byte follows */
    size_t bytes;
    char why[2304]; /* the cause of a failure: "PATH: ..." */
} infile;

/**
 * A regular file, or a pipe that somebody writes into; of anything else (a device, a folder, a pipe without a
 * writer) and of more than `most` bytes `why` says so. Returns an exit code, having told nobody;
 * infile_release() in any case.
 */
int infile_read(const char *path, size_t most, infile *out);

/** The same from a descriptor that is open; it stays so. */
int infile_read_open(int fd, const char *name, size_t most, infile *out);

void infile_release(infile *f);

enum { INFILE_MOST_PICTURE = 256 << 20 };

/** Reads and decodes a picture. The bytes stay in `f`. Returns an exit code, `f->why` the cause. */
int infile_picture(const char *path, infile *f, vlcache_image **out);

#endif
