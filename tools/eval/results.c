/*
 * results.c - header, lines, and what to do with a torn last one.
 */
#include "eval/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exit.h"

enum { LINE_FLAGS = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9) };

static int fail_file(const results *r, console *c) {
    return console_fail(c, EXIT_INPUT, "--results %s: %s", r->path, strerror(errno));
}

static int fail_memory(console *c) {
    return console_fail(c, EXIT_MEMORY, "results: out of host memory");
}

/* Writes one line and hands it to the system before returning. */
static int write_line(results *r, const json_t *value, console *c) {
    if (!r->file) return EXIT_OK;
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

/* A header of another run, and which field says so. */
static int check_header(const results *r, const json_t *found, console *c) {
    const char *key;
    json_t *value;
    if (!json_is_object(found) || !json_object_get(found, "vlcache_eval"))
        return console_fail(c, EXIT_USAGE, "--results %s: is no file of vlcache-eval", r->path);
    json_object_foreach(r->header, key, value) {
        if (strcmp(key, "device") == 0 || strcmp(key, "model_name") == 0) continue;
        if (!json_equal(value, json_object_get(found, key)))
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

/* The item that a record is of: its line. */
static bool place_record(results *r, const data *d, json_t *record) {
    json_int_t line = json_integer_value(json_object_get(record, "line"));
    size_t low = 0, high = d->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->items[middle].line < line)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == d->n || d->items[low].line != line || r->records[low]) return false;
    r->records[low] = json_incref(record);
    r->done++;
    return true;
}

/* One line after the header. Lines of questions beyond this run's --limit are left alone. */
static int take_line(results *r, const data *d, const char *text, size_t length, console *c) {
    json_error_t error;
    json_t *record = json_loadb(text, length, 0, &error);
    if (!record)
        return console_fail(c, EXIT_INPUT, "--results %s: a line in its middle is damaged: %s", r->path,
                            error.text);
    place_record(r, d, record);
    json_decref(record);
    return EXIT_OK;
}

/* Reads all whole lines; `*good` is where the last of them ends. */
static int read_lines(results *r, const data *d, json_t **found, long *good, console *c) {
    char *text = NULL;
    size_t room = 0;
    ssize_t length;
    int code = EXIT_OK;
    while (!code && (length = getline(&text, &room, r->file)) > 0 && text[length - 1] == '\n') {
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

bool results_have_studies(const char *path, bool otherwise) {
    FILE *file = path && is_regular(path) ? fopen(path, "r") : NULL;
    char *text = NULL;
    size_t room = 0;
    ssize_t length = file ? getline(&text, &room, file) : 0;
    json_t *found = length > 0 ? json_loadb(text, (size_t)length, 0, NULL) : NULL;
    bool have = found ? json_is_true(json_object_get(found, "studies")) : otherwise;
    json_decref(found);
    free(text);
    if (file) fclose(file);
    return have;
}

int results_open(const char *path, json_t *header, const data *d, console *c, results *out) {
    *out = (results){.path = path, .header = as_written(header), .n = d->n};
    out->records = calloc(d->n + 1, sizeof *out->records);
    if (!out->header || !out->records) return fail_memory(c);
    if (!path) return EXIT_OK;
    if (access(path, F_OK) == 0 && !is_regular(path))
        return console_fail(c, EXIT_INPUT,
                            "--results %s: is no regular file; name one that can be gone on with", path);
    out->file = fopen(path, "a+"); /* made where it is not there, kept where it is */
    if (out->file) fclose(out->file);
    out->file = fopen(path, "r+");
    return out->file ? go_on(out, d, c) : fail_file(out, c);
}

int results_add(results *r, size_t index, json_t *record, console *c) {
    record = as_written(record);
    if (!record) return fail_memory(c);
    r->records[index] = record;
    r->done++;
    int code = r->fresh ? write_line(r, r->header, c) : EXIT_OK;
    r->fresh = false;
    return code ? code : write_line(r, record, c);
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
