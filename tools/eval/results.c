/*
 * results.c - header, lines, what to do with a torn last one, and keeping others out.
 */
#include "eval/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/exit.h"
#include "common/outfile.h"
#include "eval/fingerprint.h"

enum { SYNC_SECONDS = 1 };
enum { LINE_FLAGS = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9) };

static int fail_file(const results *r, console *c) {
    return console_fail(c, exit_code_errno(errno), "--results %s: %s", r->path, strerror(errno));
}

static int fail_memory(console *c) {
    return console_fail(c, EXIT_MEMORY, "results: out of host memory");
}

int results_sync(results *r, console *c) {
    if (!r->file || !r->dirty) return EXIT_OK;
    if (fdatasync(fileno(r->file))) return fail_file(r, c);
    if (r->made) outfile_sync_folder(r->path);
    r->made = r->dirty = false;
    r->synced = clock_seconds();
    return EXIT_OK;
}

/* Writes one line and hands it to the system before returning. */
static int write_line(results *r, const json_t *value, console *c) {
    if (!r->file) return EXIT_OK;
    r->dirty = true;
    if (json_dumpf(value, r->file, LINE_FLAGS) || fputc('\n', r->file) == EOF || fflush(r->file))
        return fail_file(r, c);
    return EXIT_OK;
}

/* As it will be read back: numbers rounded as in the file. So a run that goes on equals one that never
 * stopped. */
static json_t *as_written(json_t *value) {
    char *text = value ? json_dumps(value, LINE_FLAGS) : NULL;
    json_t *again = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    json_decref(value);
    return again;
}

/* ---- reading back ------------------------------------------------------------------------------------- */

static int refuse_foreign(const results *r, console *c) {
    return console_fail(c, EXIT_USAGE, "--results %s: is no file of vlcache-eval; name another", r->path);
}

/* Whether a field that older files do not have says what held then. */
static bool is_younger(const char *key, const json_t *value) {
    const char *text = json_string_value(value);
    return text && ((strcmp(key, "system") == 0 && !*text) ||
                    (strcmp(key, "share_of") == 0 && strcmp(text, "rows") == 0));
}

/* A header of another run, and which field says so. */
static int check_header(const results *r, const json_t *found, console *c) {
    const char *key;
    json_t *value;
    if (!json_is_object(found) || !json_object_get(found, "vlcache_eval")) return refuse_foreign(r, c);
    json_object_foreach(r->header, key, value) {
        if (strcmp(key, "device") == 0 || strcmp(key, "model_name") == 0) continue;
        const json_t *theirs = json_object_get(found, key);
        if (!theirs && is_younger(key, value)) continue;
        if (!json_equal(value, theirs))
            return console_fail(c, EXIT_USAGE,
                                "--results %s: is of another run: \"%s\" differs; name another file, or give "
                                "the same model, data and options",
                                r->path, key);
    }
    return EXIT_OK;
}

static int check_device(const results *r, const json_t *found, console *c) {
    const json_t *ours = json_object_get(r->header, "device"), *theirs = json_object_get(found, "device");
    if (r->done == r->n || json_equal(ours, theirs)) return EXIT_OK;
    return console_fail(c, EXIT_USAGE, "--results %s: was begun on device \"%s\", this is \"%s\"", r->path,
                        json_string_value(theirs), json_string_value(ours));
}

/* The pictures of a record, by their contents, are those that the data names now. */
static int check_pictures(const results *r, const item *it, const json_t *record, console *c) {
    const json_t *seen = json_object_get(record, "pictures"), *hash;
    size_t i;
    json_array_foreach(seen, i, hash) {
        char now[FINGERPRINT_BYTES];
        const char *then = json_string_value(hash);
        if (i < it->n_images && then && fingerprint_file(it->images[i], now) && strcmp(now, then) == 0)
            continue;
        if (i < it->n_images && !then) continue; /* it could not be read then */
        return console_fail(c, EXIT_USAGE,
                            "--results %s: the question of line %d was asked of another picture: %s has "
                            "changed since; name another file, or put the picture back",
                            r->path, it->line, i < it->n_images ? it->images[i] : "one");
    }
    return EXIT_OK;
}

/* The item that a record is of: its line. */
static int place_record(results *r, const data *d, json_t *record, console *c) {
    json_int_t line = json_integer_value(json_object_get(record, "line"));
    size_t low = 0, high = d->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->items[middle].line < line)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == d->n || d->items[low].line != line || r->records[low]) return EXIT_OK;
    r->records[low] = json_incref(record);
    r->done++;
    return check_pictures(r, &d->items[low], record, c);
}

/* One line after the header. Lines of questions beyond this run's --limit are left alone. */
static int take_line(results *r, const data *d, const char *text, size_t length, console *c) {
    json_error_t error;
    json_t *record = json_loadb(text, length, 0, &error);
    if (!record)
        return console_fail(c, EXIT_INPUT, "--results %s: a line in its middle is damaged: %s", r->path,
                            error.text);
    int code = place_record(r, d, record, c);
    json_decref(record);
    return code;
}

/* A header that a run like this one left unfinished is the beginning of ours. */
static int check_torn_header(const results *r, const char *text, size_t bytes, console *c) {
    char *ours = json_dumps(r->header, LINE_FLAGS);
    bool torn = ours && bytes <= strlen(ours) && memcmp(ours, text, bytes) == 0;
    free(ours);
    return torn ? EXIT_OK : refuse_foreign(r, c);
}

/* Reads all whole lines; `*good` is where the last of them ends. */
static int read_lines(results *r, const data *d, json_t **found, long *good, console *c) {
    char *text = NULL;
    size_t room = 0;
    ssize_t length;
    int code = EXIT_OK;
    while (!code && (length = getline(&text, &room, r->file)) > 0) {
        bool torn = text[length - 1] != '\n';
        if (torn && *found) break;
        if (torn) {
            code = check_torn_header(r, text, (size_t)length, c);
            break;
        }
        if (!*found) {
            *found = json_loadb(text, (size_t)length, 0, NULL);
            code = check_header(r, *found, c);
        } else {
            code = take_line(r, d, text, (size_t)length, c);
        }
        if (!code) *good = ftell(r->file);
    }
    if (!code && ferror(r->file)) code = fail_file(r, c);
    free(text);
    return code;
}

/* What is there stays, a torn end is cut off. */
static int go_on(results *r, const data *d, console *c) {
    json_t *found = NULL;
    long good = 0;
    int code = read_lines(r, d, &found, &good, c);
    if (!code && found) code = check_device(r, found, c);
    if (!code && (fflush(r->file) || ftruncate(fileno(r->file), good) || fseek(r->file, good, SEEK_SET)))
        code = fail_file(r, c);
    r->fresh = !found;
    if (!code && found) { /* the tables speak of the run that is in the file */
        json_decref(r->header);
        r->header = json_incref(found);
    }
    json_decref(found);
    return code;
}

/* A file that a run can go on with; a device or a pipe might never end. */
static bool is_regular(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

void results_studies(const char *path, const char *otherwise, char *names, size_t room) {
    FILE *file = path && is_regular(path) ? fopen(path, "r") : NULL;
    char *line = NULL;
    size_t bytes = 0;
    ssize_t length = file ? getline(&line, &bytes, file) : 0;
    json_t *found = length > 0 ? json_loadb(line, (size_t)length, 0, NULL) : NULL;
    const json_t *there = json_object_get(found, "studies");
    const char *text = json_is_true(there) ? STUDIES_OF_OLD : json_string_value(there);
    snprintf(names, room, "%s", found ? (text ? text : "none") : otherwise);
    json_decref(found);
    free(line);
    if (file) fclose(file);
}

/* No other run may be at it. The lock ends with this process, however that ends; jobs have no part in it. */
static int lock(const results *r, console *c) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, held = whole;
    if (fcntl(fileno(r->file), F_SETLK, &whole) == 0) return EXIT_OK;
    if (errno != EACCES && errno != EAGAIN) {
        console_say(c,
                    "vlcache-eval: --results %s: cannot be locked (%s): see that no other run writes to it\n",
                    r->path, strerror(errno));
        return EXIT_OK;
    }
    bool known = fcntl(fileno(r->file), F_GETLK, &held) == 0 && held.l_type != F_UNLCK && held.l_pid > 0;
    if (known)
        return console_fail(c, EXIT_INPUT,
                            "--results %s: process %ld is at it: wait for its end, or name another file",
                            r->path, (long)held.l_pid);
    return console_fail(
        c, EXIT_INPUT, "--results %s: another run is at it: wait for its end, or name another file", r->path);
}

/* Makes the file where it is not there. */
static int open_file(results *r, console *c) {
    int flags = O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd = -1;
    struct stat s;
    bool there = stat(r->path, &s) == 0;
    if (!there && errno != ENOENT) return fail_file(r, c);
    if (!there || S_ISREG(s.st_mode)) {
        fd = open(r->path, flags | (there ? 0 : O_CREAT | O_EXCL), 0666);
        if (fd < 0 && errno != EEXIST) return fail_file(r, c);
        if (fd < 0) fd = open(r->path, flags);
    }
    if (fd < 0 || fstat(fd, &s) || !S_ISREG(s.st_mode)) {
        if (fd >= 0) close(fd);
        return console_fail(c, EXIT_INPUT,
                            "--results %s: is no regular file; name one that can be gone on with", r->path);
    }
    r->made = !there;
    r->file = fdopen(fd, "r+");
    if (r->file) return lock(r, c);
    close(fd);
    return fail_memory(c);
}

int results_open(const char *path, json_t *header, const data *d, console *c, results *out) {
    *out = (results){.path = path, .header = as_written(header), .n = d->n};
    out->records = calloc(d->n + 1, sizeof *out->records);
    if (!out->header || !out->records) return fail_memory(c);
    if (!path) return EXIT_OK;
    int code = open_file(out, c);
    return code ? code : go_on(out, d, c);
}

int results_add(results *r, size_t index, json_t *record, console *c) {
    record = as_written(record);
    if (!record) return fail_memory(c);
    r->records[index] = record;
    r->done++;
    int code = r->fresh ? write_line(r, r->header, c) : EXIT_OK;
    r->fresh = false;
    if (!code) code = write_line(r, record, c);
    if (!code && clock_seconds() - r->synced >= SYNC_SECONDS) code = results_sync(r, c);
    return code;
}

const char *results_error(const results *r, size_t index) {
    return json_string_value(json_object_get(r->records[index], "error"));
}

void results_close(results *r) {
    for (size_t i = 0; i < r->n && r->records; i++) json_decref(r->records[i]);
    if (r->file) fclose(r->file);
    json_decref(r->header);
    free(r->records);
    *r = (results){0};
}
