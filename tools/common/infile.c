/*
 * infile.c - open() that does not wait, poll() that looks whether anyone is there, read().
 *
 *     poll times out, read gives 0        a pipe that nobody writes into: refused
 *     poll times out, read gives EAGAIN   a writer that takes its time: waited for
 */
#include "common/infile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/interrupt.h"

enum { PATIENCE_MS = 1000, FIRST_ROOM = 65536 };

/* What is being read. */
typedef struct source {
    int fd;
    const char *name;
    bool pipe;
    size_t room, most;
} source;

static int fail(infile *f, int code, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int fail(infile *f, int code, const char *name, const char *format, ...) {
    va_list args;
    int used = snprintf(f->why, sizeof f->why, "%.2000s: ", name);
    va_start(args, format);
    vsnprintf(f->why + used, sizeof f->why - (size_t)used, format, args);
    va_end(args);
    return code;
}

/* Reading needs a byte more than the file has, to meet its end; the zero byte one more. */
static bool make_room(infile *f, source *s, size_t wanted) {
    if (s->room - f->bytes >= 2) return true;
    uint8_t *grown = realloc(f->data, wanted);
    if (!grown) return false;
    f->data = grown;
    s->room = wanted;
    return true;
}

/* What comes next, `*got` bytes of it; 0: the end. */
static int read_next(infile *f, const source *s, size_t *got) {
    for (;;) {
        struct pollfd end = {s->fd, POLLIN, 0};
        int ready = poll(&end, 1, PATIENCE_MS);
        ssize_t n = ready < 0 ? -1 : read(s->fd, f->data + f->bytes, s->room - 1 - f->bytes);
        if (n < 0 && interrupt_seen()) return fail(f, EXIT_INTERRUPT, s->name, "interrupted");
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return fail(f, EXIT_INPUT, s->name, "cannot be read: %s", strerror(errno));
        if (n == 0 && ready == 0 && s->pipe)
            return fail(f, EXIT_INPUT, s->name, "is a pipe that no program writes into");
        *got = (size_t)n;
        return EXIT_OK;
    }
}

static int read_all(infile *f, source *s) {
    size_t got = 1;
    int code = EXIT_OK;
    while (got && !code) {
        if (!make_room(f, s, s->room ? 2 * s->room : FIRST_ROOM))
            return fail(f, EXIT_MEMORY, s->name, "out of host memory");
        code = read_next(f, s, &got);
        if (!code) f->bytes += got;
        if (f->bytes > s->most) code = fail(f, EXIT_INPUT, s->name, "more than %zu bytes", s->most);
    }
    if (!code) f->data[f->bytes] = 0;
    return code;
}

int infile_read_open(int fd, const char *name, size_t most, infile *out) {
    struct stat facts;
    *out = (infile){0};
    if (fstat(fd, &facts)) return fail(out, EXIT_INPUT, name, "cannot be read: %s", strerror(errno));
    source s = {.fd = fd, .name = name, .most = most, .pipe = S_ISFIFO(facts.st_mode)};
    bool regular = S_ISREG(facts.st_mode) && facts.st_size >= 0;
    if (regular && (uintmax_t)facts.st_size > most)
        return fail(out, EXIT_INPUT, name, "more than %zu bytes", most);
    if (regular && !make_room(out, &s, (size_t)facts.st_size + 2))
        return fail(out, EXIT_MEMORY, name, "out of host memory");
    return read_all(out, &s);
}

static bool can_be_read(const struct stat *s) {
    return S_ISREG(s->st_mode) || S_ISFIFO(s->st_mode);
}

/* Devices are not even opened: some act on that. */
int infile_read(const char *path, size_t most, infile *out) {
    struct stat s;
    *out = (infile){0};
    int fd = -1, code = EXIT_OK;
    bool there = stat(path, &s) == 0;
    if (there && can_be_read(&s)) fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (!there || (can_be_read(&s) && fd < 0))
        code = fail(out, EXIT_INPUT, path, "cannot be opened: %s", strerror(errno));
    else if (fd < 0 || fstat(fd, &s) || !can_be_read(&s))
        code = fail(out, EXIT_INPUT, path, "neither a file nor a pipe: name a file");
    else
        code = infile_read_open(fd, path, most, out);
    if (fd >= 0) close(fd);
    return code;
}

void infile_release(infile *f) {
    free(f->data);
    f->data = NULL;
    f->bytes = 0;
}

int infile_picture(const char *path, infile *f, vlcache_image **out) {
    *out = NULL;
    int code = infile_read(path, INFILE_MOST_PICTURE, f);
    if (code) return code;
    vlcache_status status = vlcache_image_decode(f->data, f->bytes, path, out);
    if (status)
        snprintf(f->why, sizeof f->why, "%s",
                 *vlcache_error_message() ? vlcache_error_message() : vlcache_status_text(status));
    return exit_code(status);
}
