/*
 * process.c - a child, three pipes, one loop over poll().
 */
#include "support/process.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 600000 };

extern char **environ;

static void make_pipe(int fds[2]) {
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
}

/* As a pipe: fds[0] is our end, fds[1] the terminal. */
static void make_terminal(int fds[2], int columns) {
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    fds[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(fds[0], 0);
    ck_assert_int_eq(grantpt(fds[0]), 0);
    ck_assert_int_eq(unlockpt(fds[0]), 0);
    fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(fds[1], 0);
    ck_assert_int_eq(ioctl(fds[0], TIOCSWINSZ, &size), 0);
}

/* Signals as a shell would leave them, whatever the test's own parent did to them. */
static void default_signals(posix_spawnattr_t *attributes) {
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGPIPE);
    posix_spawnattr_init(attributes);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF);
}

static void start(process *p, const char *const *argv, int columns) {
    int in[2], out[2], err[2];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    *p = (process){.code = -1};
    signal(SIGPIPE, SIG_IGN); /* of ours: a child may end before it has read all */
    make_pipe(in);
    make_pipe(out);
    if (columns)
        make_terminal(err, columns);
    else
        make_pipe(err);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    default_signals(&attributes);
    int failed = posix_spawn(&p->pid, argv[0], &actions, &attributes, (char *const *)argv, environ);
    ck_assert_msg(!failed, "%s: %s", argv[0], strerror(failed));
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    p->in_fd = in[1];
    p->out_fd = out[0];
    p->err_fd = err[0];
    p->out = calloc(1, 1);
    p->err = calloc(1, 1);
}

void process_start(process *p, const char *const *argv) {
    start(p, argv, 0);
}

void process_start_terminal(process *p, const char *const *argv, int columns) {
    start(p, argv, columns);
}

static void close_end(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void process_write(process *p, const void *data, size_t bytes) {
    const char *at = data;
    while (bytes) {
        ssize_t put = write(p->in_fd, at, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return; /* it does not read on: its exit code says why */
        at += put;
        bytes -= (size_t)put;
    }
}

void process_end_input(process *p) {
    close_end(&p->in_fd);
}

void process_close_output(process *p) {
    close_end(&p->out_fd);
}

/* Appends what can be read; closes our end at the end of the stream. */
static void drain(int *fd, char **text, size_t *bytes) {
    char piece[4096];
    ssize_t got = read(*fd, piece, sizeof piece);
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) {
        close_end(fd);
        return;
    }
    *text = realloc(*text, *bytes + (size_t)got + 1);
    ck_assert_ptr_nonnull(*text);
    memcpy(*text + *bytes, piece, (size_t)got);
    *bytes += (size_t)got;
    (*text)[*bytes] = 0;
}

/* One step of reading. False when both streams have ended. */
static int step(process *p) {
    struct pollfd fds[2] = {{p->out_fd, POLLIN, 0}, {p->err_fd, POLLIN, 0}}; /* a negative fd is skipped */
    if (p->out_fd < 0 && p->err_fd < 0) return 0;
    ck_assert_msg(poll(fds, 2, PATIENCE_MS) > 0, "nothing for ten minutes; standard error: %s", p->err);
    if (fds[0].revents) drain(&p->out_fd, &p->out, &p->out_bytes);
    if (fds[1].revents) drain(&p->err_fd, &p->err, &p->err_bytes);
    return 1;
}

void process_await_output(process *p, size_t bytes) {
    while (p->out_bytes < bytes && step(p)) continue;
}

void process_await_error(process *p, const char *text) {
    while (!strstr(p->err, text) && step(p)) continue;
}

void process_signal(process *p, int number) {
    ck_assert_int_eq(kill(p->pid, number), 0);
}

void process_finish(process *p) {
    int status = 0;
    process_end_input(p);
    while (step(p)) continue;
    ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
    p->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void process_run(process *p, const char *const *argv, const void *input, size_t bytes) {
    process_start(p, argv);
    process_write(p, input, bytes);
    process_finish(p);
}

void process_release(process *p) {
    close_end(&p->in_fd);
    close_end(&p->out_fd);
    close_end(&p->err_fd);
    free(p->out);
    free(p->err);
    *p = (process){.code = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1};
}
