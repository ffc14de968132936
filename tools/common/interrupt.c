/*
 * interrupt.c - what the handler of SIGINT may look at, and the handler; and what a mapped file that has been
 * cut short says.
 */
#include "common/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"

static volatile sig_atomic_t seen, at_rest;
static _Atomic(vlcache_session *) running; /* lock-free, so a handler may read it */

/* What Ctrl-C says where nothing is running that says so itself: a driver's compiler cannot be stopped half
 * way. */
static char word[160];

static void on_interrupt(int number) {
    (void)number;
    int saved = errno;
    if (seen || at_rest) {
        (void)!write(STDERR_FILENO, "\n", 1);
        _exit(EXIT_INTERRUPT);
    }
    seen = 1;
    vlcache_session *session = atomic_load(&running);
    if (session) vlcache_session_cancel(session);
    if (!session && *word) (void)!write(STDERR_FILENO, word, strlen(word));
    errno = saved;
}

/* Weights that a processor reads where they lie are gone: nothing can be computed any more, but said. Any
 * other SIGBUS ends the program as it would without this. */
static void on_missing_page(int number, siginfo_t *info, void *context) {
    static const char text[] =
        ": a file of the model was cut short while it was in use; load it again when it is "
        "whole, or with --no-mmap, which reads weights into memory\n";
    (void)context;
    if (info->si_code == BUS_ADRERR) {
        const char *name = program_invocation_short_name;
        (void)!write(STDERR_FILENO, name, strlen(name));
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        _exit(EXIT_INPUT);
    }
    signal(number, SIG_DFL);
}

void interrupt_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART; /* drivers need not know of Ctrl-C */
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_missing_page;
    sigaction(SIGBUS, &action, NULL);
}

bool interrupt_seen(void) {
    return seen != 0;
}

void interrupt_forget(void) {
    seen = 0;
}

void interrupt_raise(void) {
    seen = 1;
}

void interrupt_cancels(vlcache_session *session) {
    atomic_store(&running, session);
}

void interrupt_says(bool so) {
    word[0] = 0;
    if (so)
        snprintf(word, sizeof word,
                 "%s%.64s: ends with the step that it is at; Ctrl-C again ends it at once\n",
                 isatty(STDERR_FILENO) ? "\n" : "", program_invocation_short_name);
}

void interrupt_ends(bool at_once) {
    at_rest = at_once;
}
