/**
 * console.h - the two streams: the answer on standard output; bars, errors and the summary on standard error.
 */
#ifndef COMMON_CONSOLE_H
#define COMMON_CONSOLE_H

#include <stdio.h>
#include <vlcache/session.h>

typedef struct console {
    FILE *words;   /* where errors go; NULL: standard error */
    bool quiet;    /* no bars, no summary */
    bool bars;     /* standard error is a terminal that can redraw a line */
    bool stream;   /* pieces of the answer go to standard output as they come */
    bool sanitise; /* standard output is a terminal */
    bool drawn;    /* a bar stands on the line */
    bool chat;     /* a conversation goes on: /clear is there */
    char stage[48];
    char shown[240];     /* stages that had a bar, a line each */
    char note[48];       /* said behind the count of a bar: the time that is left */
    double last, second; /* of bars: last drawn at; the second in which `draws` are counted began at */
    int draws;
    bool open_line; /* the answer's last line is not ended */
    int failure;    /* errno of standard output; 0: it works */
} console;

/** Before any file is opened: a stream that was closed is given a place, lest a file take it. From now on the
 * library's warnings go where errors go, as long as the console lasts; and exit() is not called but by a
 * driver (exit_guard()) until console_close(). */
void console_open(console *c, bool quiet, bool stream);

/** A vlcache_progress_fn; `user` is the console. False once Ctrl-C was pressed. */
bool console_progress(void *user, const char *stage, uint64_t done, uint64_t total);

/** What was printed goes out now. False once standard output fails. */
bool console_flush(console *c);

/** A vlcache_text_fn; `user` is the console. False once standard output fails. */
bool console_text(void *user, const char *piece);

/** Ends the answer's line, if one is open. */
void console_end_line(console *c);

/** Takes a bar off the line, if one is there. */
void console_erase(console *c);

/** "vlcache-run: ..." (the name of the program) on standard error; returns `code`. */
int console_fail(console *c, int code, const char *format, ...)
    __attribute__((nonnull(3), format(printf, 3, 4)));

/** The library's own message for a status, with the flag that helps where one does; returns the exit code. */
int console_fail_status(console *c, vlcache_status status);

/** What a program prints besides an answer, on standard output; made fit for a terminal where that is one. */
void console_print(console *c, const char *format, ...) __attribute__((nonnull(2), format(printf, 2, 3)));

/** What a program says besides errors, on standard error. */
void console_say(console *c, const char *format, ...) __attribute__((nonnull(2), format(printf, 2, 3)));

/** EXIT_OK, or what a failed standard output means: nothing to say when its reader has left. */
int console_check_output(console *c);

/** The end of a program: `code`, or where that is EXIT_OK, what became of all that it printed. */
int console_close(console *c, int code);

/** One line: tokens, time to the first, tokens a second, bytes kept of the full cache's. */
void console_summary(console *c, const vlcache_answer *answer, uint64_t kept, uint64_t full);

/** "1.25 MiB"; the numeral has three digits. */
void console_bytes(uint64_t bytes, char text[32]);

#endif
