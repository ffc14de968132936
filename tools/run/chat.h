/**
 * chat.h - a conversation, one question a line.
 */
#ifndef RUN_CHAT_H
#define RUN_CHAT_H

#include "run/turn.h"

/** Reads standard input to its end or to /quit. Returns an exit code. */
int chat(run *r);

#endif
