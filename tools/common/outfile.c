/*
 * outfile.c - looks at what stands at a path without following it, and opens accordingly. What is written
 * through is opened without waiting for anyone.
 */
#include "common/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exit.h"

typedef enum kind { KIND_FILE, KIND_DESCRIPTOR, KIND_STREAM, KIND_LINK, KIND_OTHER, KIND_ERROR } kind;

static int fail(const outfile *o, console *c) {
    return console_fail(c, exit_code_errno(errno), "%s %s: %s", o->flag, o->path, strerror(errno));
}

/* The descriptor of this program that a name stands for, whatever is open there; -1: none. */
static int descriptor_of(const char *path) {
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    if (strcmp(path, "/dev/stdout") == 0) return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0) return STDERR_FILENO;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        size_t length = strlen(folders[i]);
        const char *digits = path + length;
        if (strncmp(path, folders[i], length) || !*digits || strlen(digits) > 6) continue;
        if (strspn(digits, "0123456789") == strlen(digits)) return atoi(digits);
    }
    return -1;
}

static kind kind_of(const char *path, struct stat *s) {
    memset(s, 0, sizeof *s);
    if (descriptor_of(path) >= 0) return KIND_DESCRIPTOR;
    if (lstat(path, s)) return errno == ENOENT ? KIND_FILE : KIND_ERROR;
    if (S_ISREG(s->st_mode)) return access(path, W_OK) ? KIND_ERROR : KIND_FILE;
    if (S_ISFIFO(s->st_mode) || S_ISCHR(s->st_mode)) return KIND_STREAM;
    return S_ISLNK(s->st_mode) ? KIND_LINK : KIND_OTHER;
}

bool outfile_is_stream(const char *path) {
    struct stat s;
    kind k = kind_of(path, &s);
    return k == KIND_DESCRIPTOR || k == KIND_STREAM;
}

/* Of files that are there, whatever they are called; of others, by name. */
bool outfile_replaces(const char *path, const char *other) {
    struct stat ours, theirs;
    bool there = lstat(path, &ours) == 0;
    if (!there || stat(other, &theirs)) return !there && strcmp(path, other) == 0;
    return S_ISREG(ours.st_mode) && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static int refuse(const outfile *o, kind k, const struct stat *s, console *c) {
    char target[512];
    if (k == KIND_ERROR) return fail(o, c);
    if (k == KIND_LINK) {
        ssize_t n = readlink(o->path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        return console_fail(c, EXIT_INPUT, "%s %s: is a symbolic link to %s: name the file itself", o->flag,
                            o->path, target);
    }
    return console_fail(c, EXIT_INPUT, "%s %s: is %s: name a file", o->flag, o->path,
                        S_ISDIR(s->st_mode)   ? "a folder"
                        : S_ISBLK(s->st_mode) ? "a disk"
                                              : "no file");
}

/* ---- opening ------------------------------------------------------------------------------------------ */

/* Another one for what is open already, so that closing it leaves that open. */
static int open_descriptor(const outfile *o) {
    fflush(stdout);
    return fcntl(descriptor_of(o->path), F_DUPFD_CLOEXEC, 3);
}

/* Nobody may have put something else there in the meantime. */
static int open_stream(const outfile *o) {
    struct stat s;
    int fd = open(o->path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, &s) || !(S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode)) ||
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0) {
        close(fd);
        errno = EAGAIN;
        return -1;
    }
    return fd;
}

/* What a new file may be read by; asked so that nothing made meanwhile is open to more than its owner. */
static mode_t usual_mode(void) {
    mode_t mask = umask(077);
    umask(mask);
    return 0666 & ~mask;
}

static int open_draft(outfile *o, const struct stat *there) {
    static const char name[] = ".vlcache-XXXXXX";
    const char *slash = strrchr(o->path, '/');
    size_t folder = slash ? (size_t)(slash - o->path) + 1 : 0;
    o->draft = malloc(folder + sizeof name);
    if (!o->draft) return errno = ENOMEM, -1;
    memcpy(o->draft, o->path, folder);
    memcpy(o->draft + folder, name, sizeof name);
    int fd = mkostemp(o->draft, O_CLOEXEC);
    if (fd < 0) {
        free(o->draft);
        o->draft = NULL;
        return -1;
    }
    if (fchmod(fd, there->st_mode ? there->st_mode & 0777 : usual_mode())) return fd; /* it stays private */
    return fd;
}

/* The stream's way to the file: a full disk shows here, whatever asked for the write. */
static ssize_t write_through(void *user, const char *bytes, size_t n) {
    outfile *o = user;
    size_t done = 0;
    while (done < n && !o->failure) {
        ssize_t put = write(o->fd, bytes + done, n - done);
        if (put > 0) done += (size_t)put;
        if (put < 0 && errno != EINTR) o->failure = errno;
    }
    return (ssize_t)done; /* less: the stream has failed */
}

int outfile_open(outfile *o, const char *flag, const char *path, console *c) {
    struct stat s;
    *o = (outfile){.flag = flag, .path = path, .fd = -1};
    kind k = kind_of(path, &s);
    if (k >= KIND_LINK) return refuse(o, k, &s, c);
    o->fd = k == KIND_FILE ? open_draft(o, &s) : k == KIND_STREAM ? open_stream(o) : open_descriptor(o);
    if (o->fd < 0 && errno == ENXIO)
        return console_fail(c, EXIT_INPUT, "%s %s: nobody reads this pipe", flag, path);
    if (o->fd < 0) return fail(o, c);
    o->file = fopencookie(o, "w", (cookie_io_functions_t){.write = write_through});
    return o->file ? EXIT_OK : console_fail(c, EXIT_MEMORY, "%s: out of host memory", flag);
}

int outfile_check(const char *flag, const char *path, console *c) {
    struct stat s;
    outfile o = {.flag = flag, .path = path, .fd = -1};
    kind k = kind_of(path, &s);
    if (k >= KIND_LINK) return refuse(&o, k, &s, c);
    if (k != KIND_FILE) return EXIT_OK; /* to open and close it would be the end of input to its reader */
    int code = outfile_open(&o, flag, path, c);
    outfile_close(&o, false, c);
    return code;
}

/* ---- closing ------------------------------------------------------------------------------------------ */

void outfile_sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

/* Everything written: to the file, to the disk, to its place. */
static bool finish(outfile *o, bool keep) {
    if (fclose(o->file) && !o->failure) o->failure = errno;
    if (!o->failure && keep && o->draft && fsync(o->fd)) o->failure = errno;
    if (close(o->fd) && !o->failure) o->failure = errno;
    o->fd = -1;
    if (!o->failure && keep && o->draft && rename(o->draft, o->path)) o->failure = errno;
    return !o->failure;
}

int outfile_close(outfile *o, bool keep, console *c) {
    bool done = o->file && finish(o, keep) && keep, left = !o->draft && o->failure == EPIPE;
    int code = EXIT_OK;
    if (o->file && !done && keep && !left) {
        errno = o->failure;
        code = fail(o, c);
    }
    if (o->draft && !done) unlink(o->draft);
    if (o->draft && done) outfile_sync_folder(o->path);
    if (!o->file && o->fd >= 0) close(o->fd);
    free(o->draft);
    *o = (outfile){.fd = -1};
    return code;
}
