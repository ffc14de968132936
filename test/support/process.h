/**
 * process.h - a program run as its users run it: arguments, standard input, signals; what it wrote and how it
 * ended.
 */
#ifndef TEST_PROCESS_H
#define TEST_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

typedef struct process {
    int code; /* exit code; 128 + n when signal n killed it */
    char *out, *err;
    size_t out_bytes, err_bytes; /* a zero byte follows both */
    pid_t pid;
    int in_fd, out_fd, err_fd; /* our ends; -1: closed */
} process;

/** Starts argv[0] (a NULL ends argv) with three pipes. Fails the test when it cannot. */
void process_start(process *p, const char *const *argv);

/** The same, with a terminal of so many columns as its standard error. */
void process_start_terminal(process *p, const char *const *argv, int columns);

/** Writes to its standard input; process_end_input() closes it. */
void process_write(process *p, const void *data, size_t bytes);
void process_end_input(process *p);

/** Reads until standard output holds `bytes` bytes, or standard error `text`, or both have ended; what came
 * before is kept. Fails the test after ten minutes of silence. */
void process_await_output(process *p, size_t bytes);
void process_await_error(process *p, const char *text);

/** Sends a signal. */
void process_signal(process *p, int number);

/** Closes our end of its standard output. */
void process_close_output(process *p);

/** Closes its standard input, reads to the end, waits. */
void process_finish(process *p);

/** All at once. */
void process_run(process *p, const char *const *argv, const void *input, size_t bytes);

void process_release(process *p);

#endif
