/**
 * interrupt.h - Ctrl-C: the first asks what is running to end, the second ends the program; where nothing is
 * running, the first does.
 */
#ifndef COMMON_INTERRUPT_H
#define COMMON_INTERRUPT_H

#include <vlcache/session.h>

/** Catches SIGINT from now on, and ignores SIGPIPE: a write says that its reader has gone. A page that a
 * mapped file no longer has (SIGBUS) ends the program with a word and EXIT_INPUT. */
void interrupt_install(void);

/** Whether Ctrl-C was pressed since the start or interrupt_forget(). */
bool interrupt_seen(void);
void interrupt_forget(void);

/** As if it were pressed: what is running has nobody left to tell. */
void interrupt_raise(void);

/** The session whose turn Ctrl-C cancels from now on; NULL: none. */
void interrupt_cancels(vlcache_session *session);

/** From now on (true) kernels may be built, so that the end can take as long as one takes: Ctrl-C is answered
 * with a word. No longer (false). */
void interrupt_says(bool so);

/** From now on the program waits for the user (true): Ctrl-C ends it at once; or works (false). */
void interrupt_ends(bool at_once);

#endif
