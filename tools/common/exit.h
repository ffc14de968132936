/**
 * exit.h - how a tool ends. Every function of the tools that can fail has told the user why and returns one
 * of these.
 */
#ifndef COMMON_EXIT_H
#define COMMON_EXIT_H

#include <stdbool.h>

#include <vlcache/status.h>

enum {
    EXIT_OK = 0,
    EXIT_USAGE = 1,       /* a flag, a prompt that does not fit its pictures or the context */
    EXIT_INPUT = 2,       /* a file: model, picture, output */
    EXIT_DEVICE = 3,      /* OpenCL device or driver */
    EXIT_MEMORY = 4,      /* host or device memory */
    EXIT_INTERRUPT = 130, /* Ctrl-C */
};

/** The exit code of a status of the library. */
int exit_code(vlcache_status status);

/** The exit code of what a system call says of a file: EXIT_INPUT, or that memory ran out. */
int exit_code_errno(int number);

/** A driver that calls exit() itself, as LLVM in PoCL does on a full disk, may do so from now on (true) with
 * EXIT_DEVICE and a word; its own code would mean something else here. No longer (false). */
void exit_guard(bool on);

#endif
