/*
 * unsynced.c - a disk that fails when it is asked to keep what was written, for use with LD_PRELOAD: whoever
 * says that something is kept without asking shows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

int fsync(int fd) {
    (void)fd;
    errno = EIO;
    return -1;
}

int fdatasync(int fd) {
    return fsync(fd);
}
