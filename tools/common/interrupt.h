/**
 * interrupt.h - Ctrl-C: the first asks what is running to end, with a word where that takes as long as a
 * kernel takes to build; the second ends the program; where nothing is running, the first does.
 */
#ifndef COMMON_INTERRUPT_H
#define COMMON_INTERRUPT_H

#include <vlcache/session.h>

/** Catches SIGINT from now on, and ignores SIGPIPE: a write says that its reader has gone. */
void interrupt_install(void);

/** Whether Ctrl-C was pressed since the start or interrupt_forget(). */
bool interrupt_seen(void);
void interrupt_forget(void);

/** The session whose turn Ctrl-C cancels from now on; NULL: none. */
void interrupt_cancels(vlcache_session *session);

/** From now on the program waits for the user (true): Ctrl-C ends it at once; or works (false). */
void interrupt_ends(bool at_once);

#endif
