/**
 * profile.h - where the device's time went.
 */
#ifndef RUN_PROFILE_H
#define RUN_PROFILE_H

#include "run/turn.h"

/** A table on standard error: kernel, calls, milliseconds, share. Returns an exit code. */
int profile_print(run *r);

#endif
